//! How a command ends when it does not end well: exit codes, and the two lines people get.

use std::process::ExitCode;

use pipeline::{Error, Kind};

use crate::dispatch::{self, FailedTask};

/// Why a command stopped.
#[derive(Debug)]
pub enum Stop {
    /// Something failed.
    Failed(Error),
    /// Tasks failed, and the others of their stage went on.
    Tasks {
        /// Where to.
        output: String,
        /// One or more.
        failed: Vec<FailedTask>,
    },
    /// Going on could cost more than it may.
    Spent {
        /// How much was spent, and of how much.
        error: Error,
        /// What is left to be done.
        left: String,
    },
    /// The user asked to stop; how to go on.
    Interrupted(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl Stop {
    /// 1 internal error, 2 invalid request, 3 tasks that failed for reasons of several kinds, or `--max-usd` reached, 4 store or function
    /// unavailable or disk full, 5 bad data, 130 interrupted.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.number())
    }

    pub(crate) fn number(&self) -> u8 {
        match self {
            Stop::Interrupted(_) => 130,
            Stop::Spent { .. } => MIXED,
            Stop::Failed(error) => of_kind(error.kind),
            Stop::Tasks { failed, .. } => {
                let mut codes = failed.iter().map(|task| of_kind(task.kind));
                let first = codes.next().unwrap_or(MIXED);
                if codes.all(|code| code == first) { first } else { MIXED }
            }
        }
    }
}

const MIXED: u8 = 3;

fn of_kind(kind: Kind) -> u8 {
    match kind {
        Kind::Internal => 1,
        Kind::Invalid => 2,
        Kind::Unavailable => 4,
        Kind::Data => 5,
    }
}

const REPORT: &str = "hint: this is a defect of voxmill; please report it with the command you ran";

/// Says on stderr what happened and what would help.
pub(crate) fn explain(stop: &Stop) {
    match stop {
        Stop::Tasks { output, failed } => {
            let tasks = if failed.len() == 1 { "1 task".into() } else { format!("{} tasks", failed.len()) };
            let name = failed.first().map_or("", |task| &task.name);
            eprintln!("error: {tasks} failed, so the run stopped at the stage {name}");
            eprint!("{}", dispatch::told(failed));
            if failed.iter().any(|task| task.kind == Kind::Internal) {
                eprintln!("{REPORT}");
            }
            let mut hints: Vec<&str> = Vec::new();
            for hint in failed.iter().filter_map(|task| task.hint.as_deref()) {
                if !hints.contains(&hint) && hints.len() < 3 {
                    hints.push(hint);
                }
            }
            hints.iter().for_each(|hint| eprintln!("hint: {hint}"));
            eprintln!("hint: `voxmill status {output}` lists them all; the same command tries them again");
        }
        Stop::Spent { error, left } => {
            eprintln!("error: {}; {left}", error.message);
            if let Some(hint) = &error.hint {
                eprintln!("hint: {hint}");
            }
        }
        Stop::Failed(error) => {
            eprintln!("error: {}", error.message);
            if error.kind == Kind::Internal {
                eprintln!("{REPORT}");
            }
            if let Some(hint) = &error.hint {
                eprintln!("hint: {hint}");
            }
        }
        Stop::Interrupted(how) => eprintln!("interrupted: {how}"),
    }
}

/// Lets `voxmill ... | head` end quietly, as other programs do.
pub(crate) fn hush_broken_pipes() {
    #[cfg(unix)]
    // SAFETY: called before any other thread exists; restoring the default action of SIGPIPE has no precondition.
    unsafe {
        libc::signal(libc::SIGPIPE, libc::SIG_DFL);
    }
}
