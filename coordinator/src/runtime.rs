//! Where a command's work is polled, and how it finds the clock and the signals from there.
//!
//! Buckets, clocks and signals belong to an async runtime. A disk does not: its answers come in less time than another thread
//! takes to wake, and within the runtime each of them would take two such wakes. So what only asks disks is polled outside of the
//! runtime, on the calling thread, where the store does its file work at once; what it wants of the runtime it asks for here.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::sync::OnceLock;
use std::time::Duration;

use pipeline::Error;
use pipeline::task::wait_for;
use tokio::runtime::{Builder, EnterGuard, Handle, Runtime};
use tokio::time::Interval;

use crate::exit::Stop;

/// The runtime of this process, for work that it does not poll itself.
static RUNTIME: OnceLock<Handle> = OnceLock::new();

/// Carries `work` to its end on `threads` threads, which may also block on arithmetic. When it fails, blocks that are
/// still being computed are not waited for.
///
/// # Errors
/// What `work` failed with; Unavailable when no thread can be started.
pub(crate) fn complete<T, E: Into<Stop>>(threads: usize, work: impl Future<Output = Result<T, E>>) -> Result<T, Stop> {
    let runtime = of(threads)?;
    let done = runtime.block_on(work);
    runtime.shutdown_background();
    done.map_err(Into::into)
}

/// The same for a run, which brings threads of its own where nothing but disks is asked.
///
/// # Errors
/// As of [`complete`].
pub(crate) fn complete_on_disks<T, E: Into<Stop>>(work: impl Future<Output = Result<T, E>>) -> Result<T, Stop> {
    let runtime = of(1)?;
    RUNTIME.get_or_init(|| runtime.handle().clone());
    let done = wait_for(work);
    runtime.shutdown_background();
    done.map_err(Into::into)
}

fn of(threads: usize) -> Result<Runtime, Error> {
    let built = Builder::new_multi_thread().worker_threads(threads.max(1)).enable_all().build();
    built.map_err(|e| Error::unavailable(format!("threads can't be started: {e}")))
}

/// Makes the runtime that of this thread, unless it is already within one.
fn enter() -> Option<EnterGuard<'static>> {
    match Handle::try_current() {
        Ok(_) => None,
        Err(_) => RUNTIME.get().map(Handle::enter),
    }
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    let slept = {
        let _entered = enter();
        tokio::time::sleep(time)
    };
    slept.await;
}

/// Ticks at once, and then every `period`.
pub(crate) fn interval(period: Duration) -> Interval {
    let _entered = enter();
    tokio::time::interval(period)
}

/// Waits until the user presses Ctrl-C.
pub(crate) async fn ctrl_c() {
    let mut pressed = pin!(tokio::signal::ctrl_c());
    let pressed = poll_fn(|context| {
        let _entered = enter();
        pressed.as_mut().poll(context)
    });
    let _ = pressed.await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_disks_only_is_polled_outside_and_has_a_clock() {
        let done: Result<bool, Stop> = complete_on_disks(async {
            sleep(Duration::from_millis(1)).await;
            interval(Duration::from_secs(3600)).tick().await;
            let pressed = tokio::select! {
                () = ctrl_c() => true,
                () = sleep(Duration::from_millis(1)) => false,
            };
            Ok::<_, Error>(!pressed && Handle::try_current().is_err())
        });
        assert!(matches!(done, Ok(true)));
    }
}
