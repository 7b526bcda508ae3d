//! Where a command's work is polled, and how it finds the clock and the signals from there.
//!
//! Buckets, clocks and signals belong to an async runtime. A disk does not: its answers come in less time than another thread
//! takes to wake, and within the runtime each of them would take two such wakes. So what only asks disks is polled outside of the
//! runtime, on the calling thread, where the store does its file work at once; what it wants of the runtime it asks for here.

use std::cell::RefCell;
use std::future::{Future, poll_fn};
use std::pin::pin;
use std::time::Duration;

use pipeline::Error;
use pipeline::task::wait_for;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::time::Interval;

use crate::exit::Stop;

thread_local! {
    /// The runtime of the work that this thread polls outside of it.
    static BESIDE: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

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
    BESIDE.set(Some(runtime.handle().clone()));
    let done = wait_for(work);
    BESIDE.take();
    runtime.shutdown_background();
    done.map_err(Into::into)
}

fn of(threads: usize) -> Result<Runtime, Error> {
    let built = Builder::new_multi_thread().worker_threads(threads.max(1)).enable_all().build();
    built.map_err(|e| Error::unavailable(format!("threads can't be started: {e}")))
}

/// Does something within the runtime.
fn within<T>(something: impl FnOnce() -> T) -> T {
    let beside = BESIDE.with_borrow(Clone::clone);
    let _entered = beside.as_ref().map(Handle::enter);
    something()
}

/// Waits.
pub(crate) async fn sleep(time: Duration) {
    within(|| tokio::time::sleep(time)).await;
}

/// Ticks at once, and then every `period`.
pub(crate) fn interval(period: Duration) -> Interval {
    within(|| tokio::time::interval(period))
}

/// Waits until the user presses Ctrl-C.
pub(crate) async fn ctrl_c() {
    let mut pressed = pin!(tokio::signal::ctrl_c());
    let _ = poll_fn(|context| within(|| pressed.as_mut().poll(context))).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_asks_disks_only_is_polled_outside_and_has_a_clock() {
        let once = || {
            complete_on_disks(async {
                sleep(Duration::from_millis(1)).await;
                interval(Duration::from_secs(3600)).tick().await;
                let pressed = tokio::select! {
                    () = ctrl_c() => true,
                    () = sleep(Duration::from_millis(1)) => false,
                };
                Ok::<_, Error>(!pressed && Handle::try_current().is_err())
            })
        };
        // Each in a runtime of its own.
        assert!(matches!((once(), once()), (Ok(true), Ok(true))));
    }
}
