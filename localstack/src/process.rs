//! A function's process: started with nothing of this process's environment, watched, frozen and ended.
//!
//! It leads a process group of its own, so that what it starts ends with it, and the kernel kills it should this process
//! end first, however that ends.

use std::io;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::net::unix::pipe;
use tokio::process::Command;

/// A process that runs, or has ended.
#[derive(Debug)]
pub(crate) struct Process {
    pid: i32,
    gone: AtomicBool,
}

impl Process {
    /// Starts a program; what it prints, on either stream, comes out of the pipe, and how it ends goes to `ended`.
    pub(crate) fn start(
        program: &Path,
        folder: &Path,
        environment: &[(String, String)],
        ended: impl FnOnce(ExitStatus) + Send + 'static,
    ) -> io::Result<(Arc<Self>, pipe::Receiver)> {
        let (reader, writer) = io::pipe()?;
        let mut command = Command::new(program);
        command
            .current_dir(folder)
            .env_clear()
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(writer.try_clone()?)
            .stderr(writer)
            .process_group(0);
        let parent = std::process::id();
        // SAFETY: only calls that are allowed between fork and exec; nothing is allocated, no lock is taken.
        unsafe {
            command.pre_exec(move || {
                if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
                    return Err(io::Error::last_os_error());
                }
                // The parent may have ended before the kernel was asked to tell.
                if libc::getppid() as u32 != parent {
                    return Err(io::ErrorKind::BrokenPipe.into());
                }
                Ok(())
            });
        }
        let mut child = command.spawn()?;
        // The ends of the pipe that the command holds must go, or its end would never be seen.
        drop(command);
        let pid = child.id().ok_or_else(|| io::Error::other("the process has no id"))? as i32;
        let process = Arc::new(Self { pid, gone: AtomicBool::new(false) });
        let watched = process.clone();
        tokio::spawn(async move {
            let status = child.wait().await;
            watched.gone.store(true, Ordering::SeqCst);
            ended(status.unwrap_or_else(|_| ExitStatus::from_raw(libc::SIGKILL)));
        });
        Ok((process, pipe::Receiver::from_owned_fd(reader.into())?))
    }

    /// Its number.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Whether it has ended.
    pub(crate) fn gone(&self) -> bool {
        self.gone.load(Ordering::SeqCst)
    }

    fn signal(&self, signal: i32) {
        if !self.gone() {
            // SAFETY: a signal to a group that this process made; it has not been waited for, so the number is its own.
            unsafe { libc::kill(-self.pid, signal) };
        }
    }

    /// Ends it at once.
    pub(crate) fn kill(&self) {
        self.signal(libc::SIGKILL);
    }

    /// Stops it where it is: between invocations nothing runs.
    pub(crate) fn freeze(&self) {
        self.signal(libc::SIGSTOP);
    }

    /// Lets it go on.
    pub(crate) fn thaw(&self) {
        self.signal(libc::SIGCONT);
    }

    /// The most memory it has had resident so far, in bytes; none if it can't be told any more.
    pub(crate) fn peak_bytes(&self) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid)).ok()?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?;
        Some(line.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? * 1024)
    }
}

/// How a process ended, in the words Lambda has for it.
pub(crate) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(0), _) => "Runtime exited without providing a reason".to_owned(),
        (Some(code), _) => format!("Runtime exited with error: exit status {code}"),
        (None, signal) => {
            let signal = signal.unwrap_or_default();
            let name = match signal {
                libc::SIGKILL => "killed".to_owned(),
                libc::SIGSEGV => "segmentation fault".to_owned(),
                libc::SIGABRT => "aborted".to_owned(),
                libc::SIGBUS => "bus error".to_owned(),
                libc::SIGTERM => "terminated".to_owned(),
                libc::SIGILL => "illegal instruction".to_owned(),
                other => format!("signal {other}"),
            };
            format!("Runtime exited with error: signal: {name}")
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn ends_have_lambdas_words() {
        assert_eq!(describe(ExitStatus::from_raw(9)), "Runtime exited with error: signal: killed");
        assert_eq!(describe(ExitStatus::from_raw(3 << 8)), "Runtime exited with error: exit status 3");
        assert_eq!(describe(ExitStatus::from_raw(0)), "Runtime exited without providing a reason");
    }

    #[tokio::test]
    async fn a_process_has_only_the_environment_it_is_given_and_dies_with_its_children() {
        let (sent, received) = tokio::sync::oneshot::channel();
        let script = "env; sleep 600 & echo started; wait";
        let folder = std::env::temp_dir();
        let program = folder.join(format!("prints-{}", std::process::id()));
        std::fs::write(&program, format!("#!/bin/sh\n{script}\n")).unwrap();
        std::fs::set_permissions(&program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
        let given = [("ONLY".to_owned(), "this".to_owned()), ("PATH".to_owned(), "/usr/bin:/bin".to_owned())];
        let (process, mut pipe) = Process::start(&program, &folder, &given, |status| {
            let _ = sent.send(status);
        })
        .unwrap();
        let mut text = Vec::new();
        while !String::from_utf8_lossy(&text).contains("started") {
            assert_ne!(tokio::io::AsyncReadExt::read_buf(&mut pipe, &mut text).await.unwrap(), 0);
        }
        let text = String::from_utf8(text).unwrap();
        assert!(text.contains("ONLY=this"), "{text}");
        assert!(!text.contains("HOME="), "{text}");
        assert!(process.peak_bytes().unwrap() > 100_000);
        process.kill();
        assert_eq!(describe(received.await.unwrap()), "Runtime exited with error: signal: killed");
        assert!(process.gone());
        // The pipe closes only when the child in the background is gone, too.
        let mut rest = Vec::new();
        tokio::io::AsyncReadExt::read_to_end(&mut pipe, &mut rest).await.unwrap();
        std::fs::remove_file(&program).unwrap();
    }
}
