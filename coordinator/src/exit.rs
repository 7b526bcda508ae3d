//! How a command ends when it does not end well: exit codes, and the two lines people get.

use std::process::ExitCode;

use pipeline::{Error, Kind};

/// Why a command stopped.
#[derive(Debug)]
pub enum Stop {
    /// Something failed.
    Failed(Error),
    /// The user asked to stop; how to go on.
    Interrupted(String),
}

impl From<Error> for Stop {
    fn from(error: Error) -> Self {
        Stop::Failed(error)
    }
}

impl Stop {
    /// 1 internal error, 2 invalid request, 4 store or function unavailable or disk full, 5 bad data, 130 interrupted.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(match self {
            Stop::Interrupted(_) => 130,
            Stop::Failed(error) => match error.kind {
                Kind::Internal => 1,
                Kind::Invalid => 2,
                Kind::Unavailable => 4,
                Kind::Data => 5,
            },
        })
    }
}

/// Says on stderr what happened and what would help.
pub(crate) fn explain(stop: &Stop) {
    match stop {
        Stop::Failed(error) => {
            eprintln!("error: {}", error.message);
            if error.kind == Kind::Internal {
                eprintln!("hint: this is a defect of voxmill; please report it with the command you ran");
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
