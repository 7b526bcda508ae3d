//! Whose task may begin a unit, where units are tasks of the runtime (threads are `crew`'s): as many at once as there is
//! memory for, and of all who wait the lowest number, whichever segment it is of. So blocks that share chunks are
//! computed soon after each other, and of two segments under way the second begins where the first has nothing left to
//! begin.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::oneshot;

/// The turns of one stage.
#[derive(Clone)]
pub(super) struct Turns(Arc<Mutex<Queue>>);

struct Queue {
    free: usize,
    /// By unit, and by who came first where two attempts ask for the same.
    waiting: BTreeMap<(u64, u64), oneshot::Sender<Turn>>,
    tickets: u64,
}

/// A unit that may be in memory, until this is dropped.
pub(super) struct Turn(Turns);

impl Turns {
    /// For `at_once` units.
    pub(super) fn new(at_once: usize) -> Self {
        Self(Arc::new(Mutex::new(Queue { free: at_once, waiting: BTreeMap::new(), tickets: 0 })))
    }

    /// Waits for the turn of `unit`. Who stops waiting loses nothing but the place in the queue.
    pub(super) async fn of(&self, unit: u64) -> Turn {
        loop {
            let given = {
                let mut queue = self.lock();
                if let Some(left) = queue.free.checked_sub(1) {
                    queue.free = left;
                    return Turn(self.clone());
                }
                queue.tickets += 1;
                let (give, given) = oneshot::channel();
                let ticket = (unit, queue.tickets);
                queue.waiting.insert(ticket, give);
                given
            };
            if let Ok(turn) = given.await {
                return turn;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let next = {
            let mut queue = self.0.lock();
            let next = queue.waiting.pop_first();
            queue.free += usize::from(next.is_none());
            next
        };
        // One that nobody waits for any more is dropped here, and goes to the next by that.
        if let Some((_, give)) = next {
            let _ = give.send(Turn(self.0.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::FutureExt;

    use super::*;

    #[tokio::test]
    async fn the_lowest_unit_goes_first_and_who_left_is_passed_over() {
        let turns = Turns::new(2);
        let (first, second) = (turns.of(7).await, turns.of(8).await);
        let (mut nine, mut three, mut five) = (Box::pin(turns.of(9)), Box::pin(turns.of(3)), Box::pin(turns.of(5)));
        for waiting in [&mut nine, &mut three, &mut five] {
            assert!(waiting.now_or_never().is_none());
        }
        drop(three);
        drop(first);
        assert!((&mut nine).now_or_never().is_none());
        let fifth = (&mut five).now_or_never().expect("five is the lowest");
        drop(fifth);
        let ninth = (&mut nine).now_or_never().expect("nine is the only one");
        drop((second, ninth));
        assert_eq!(turns.lock().free, 2);
    }
}
