//! Threads that carry units out from start to end, where everything lies on disks.
//!
//! The system has a file in memory, or takes it there, in less time than another thread takes to wake, and each time one
//! waits for another a core may stand still. So a unit is not cut into tasks here: one thread reads, computes and
//! writes, and then goes on with the lowest unit that waits, whichever segment it is of. There are as many threads as
//! are to compute, or fewer where fewer units fit into memory. Who waits for a bucket is better off as a task of the
//! runtime (`turns`).

use std::collections::BTreeMap;
use std::future::{Future, poll_fn};
use std::panic::AssertUnwindSafe;
use std::pin::pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Wake, Waker};
use std::thread::{self, Thread};

use tokio::sync::oneshot;

use crate::{Error, Result};

/// The threads of one stage. Each ends when nothing waits.
#[derive(Clone)]
pub(super) struct Crew(Arc<Mutex<Queue>>);

struct Queue {
    /// Threads that may be there, and those that are.
    most: usize,
    there: usize,
    /// By unit, and by who came first where two attempts ask for the same.
    waiting: BTreeMap<Ticket, Job>,
    tickets: u64,
}

type Ticket = (u64, u64);
type Job = Box<dyn FnOnce() + Send>;

impl Crew {
    /// At most `most` threads; none is there before it is needed.
    pub(super) fn new(most: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue { most, there: 0, waiting: BTreeMap::new(), tickets: 0 })))
    }

    /// How many threads there may be.
    pub(super) fn most(&self) -> usize {
        self.lock().most
    }

    /// Units that a segment should have handed in, so that no thread waits for more: each has one, and one to go on with.
    pub(super) fn wanted(&self) -> usize {
        2 * self.most()
    }

    /// Carries out `work` on a thread of the crew. There is no runtime's context: what asks a disk does so on that thread.
    /// When this is dropped, `work` is not begun, or goes no further than to where it next waits.
    ///
    /// # Errors
    /// What `work` fails with; Internal when it panics; Unavailable when no thread can be started.
    pub(super) async fn carry<T: Send + 'static>(
        &self,
        unit: u64,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let (give, given) = oneshot::channel();
        let left = Arc::new(AtomicBool::new(false));
        let job = {
            let left = Arc::clone(&left);
            move || {
                let mut work = pin!(work);
                let done = wait_for(poll_fn(|context| match left.load(Ordering::Relaxed) {
                    true => Poll::Ready(None),
                    false => work.as_mut().poll(context).map(Some),
                }));
                if let Some(done) = done {
                    let _ = give.send(done);
                }
            }
        };
        let ticket = self.hand_in(unit, Box::new(job))?;
        let _place = Place { crew: self, ticket, left };
        given.await.unwrap_or_else(|_| Err(Error::internal("a unit did not end well: it panicked")))
    }

    fn hand_in(&self, unit: u64, job: Job) -> Result<Ticket> {
        let (ticket, starts) = {
            let mut queue = self.lock();
            queue.tickets += 1;
            let (ticket, starts) = ((unit, queue.tickets), queue.there < queue.most);
            queue.waiting.insert(ticket, job);
            queue.there += usize::from(starts);
            (ticket, starts)
        };
        if starts {
            let crew = self.clone();
            if let Err(e) = thread::Builder::new().name("unit".into()).spawn(move || crew.go_on()) {
                let mut queue = self.lock();
                queue.there -= 1;
                // Unless another thread has come by for it meanwhile.
                if queue.waiting.remove(&ticket).is_some() {
                    return Err(Error::unavailable(format!("threads can't be started: {e}")));
                }
            }
        }
        Ok(ticket)
    }

    /// What a thread does: the lowest unit that waits, until none does.
    fn go_on(&self) {
        loop {
            let job = {
                let mut queue = self.lock();
                match queue.waiting.pop_first() {
                    Some((_, job)) => job,
                    None => {
                        queue.there -= 1;
                        return;
                    }
                }
            };
            // Who handed it in hears of a panic, since no answer comes; the units of others are not to suffer from it.
            let _ = std::panic::catch_unwind(AssertUnwindSafe(job));
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What was handed in, until it is done or no longer wanted.
struct Place<'a> {
    crew: &'a Crew,
    ticket: Ticket,
    left: Arc<AtomicBool>,
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        self.left.store(true, Ordering::Relaxed);
        let job = self.crew.lock().waiting.remove(&self.ticket);
        // What it holds may ask for the queue, which is free again.
        drop(job);
    }
}

/// Runs `work` to its end on this thread, in or out of a runtime and within another call.
pub fn wait_for<F: Future>(work: F) -> F::Output {
    /// Its flag says whose wake it was: an inner call takes what the thread remembers of those of an outer one.
    struct Call {
        thread: Thread,
        woken: AtomicBool,
    }
    impl Wake for Call {
        fn wake(self: Arc<Self>) {
            self.woken.store(true, Ordering::Release);
            self.thread.unpark();
        }
    }
    let call = Arc::new(Call { thread: thread::current(), woken: AtomicBool::new(false) });
    let waker = Waker::from(Arc::clone(&call));
    let mut work = pin!(work);
    loop {
        if let Poll::Ready(done) = work.as_mut().poll(&mut Context::from_waker(&waker)) {
            return done;
        }
        while !call.woken.swap(false, Ordering::Acquire) {
            thread::park();
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc;
    use std::time::Duration;

    use futures::future::join_all;

    use super::*;

    #[tokio::test]
    async fn no_more_threads_than_are_allowed_and_none_that_has_a_runtime() {
        let (crew, now, most) = (Crew::new(3), Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
        let unit = |n: u64| {
            let (now, most) = (Arc::clone(&now), Arc::clone(&most));
            crew.carry(n, async move {
                most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
                thread::sleep(Duration::from_millis(2));
                now.fetch_sub(1, Ordering::SeqCst);
                assert!(tokio::runtime::Handle::try_current().is_err());
                Ok(n)
            })
        };
        let done = join_all((0..40).map(unit)).await;
        assert!(done.into_iter().enumerate().all(|(n, done)| done.unwrap() == n as u64));
        assert!((1..=3).contains(&most.load(Ordering::SeqCst)));
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn the_lowest_unit_goes_first_and_who_left_is_passed_over() {
        let crew = Crew::new(1);
        let (open, gate) = mpsc::channel::<()>();
        let (tell, told) = mpsc::channel();
        let first = crew.carry(7, async move {
            gate.recv().unwrap();
            Ok(())
        });
        let of = |unit: u64| {
            let (crew, tell) = (crew.clone(), tell.clone());
            async move { crew.carry(unit, async move { tell.send(unit).map_err(|_| Error::internal("gone")) }).await }
        };
        let (mut nine, mut three, mut five) = (Box::pin(of(9)), Box::pin(of(3)), Box::pin(of(5)));
        let mut first = Box::pin(first);
        assert!(futures::poll!(&mut first).is_pending());
        for waiting in [&mut nine, &mut three, &mut five] {
            assert!(futures::poll!(waiting).is_pending());
        }
        drop(three);
        open.send(()).unwrap();
        let done: Vec<Result<()>> = vec![first.await, nine.await, five.await];
        assert!(done.iter().all(Result::is_ok));
        assert_eq!(told.try_iter().collect::<Vec<_>>(), [5, 9]);
    }

    #[tokio::test]
    async fn a_panic_is_an_error_of_its_unit_alone() {
        let crew = Crew::new(1);
        let bad = crew.carry::<()>(0, async { panic!("as it is meant to") });
        let good = crew.carry(1, async { Ok(5) });
        let (bad, good) = futures::join!(bad, good);
        assert!(bad.unwrap_err().to_string().contains("panicked"));
        assert_eq!(good.unwrap(), 5);
    }

    #[test]
    fn calls_within_calls_lose_no_wake() {
        for _ in 0..200 {
            let (outer, outer_done) = oneshot::channel();
            let (inner, inner_done) = oneshot::channel();
            let waker = thread::spawn(move || {
                outer.send(1).unwrap();
                inner.send(2).unwrap();
            });
            let sum = wait_for(async {
                let two = wait_for(inner_done).unwrap();
                two + outer_done.await.unwrap()
            });
            assert_eq!(sum, 3);
            waker.join().unwrap();
        }
    }
}
