//! How many attempts are under way at once: one more for each round that goes well, half as many when the store or the
//! function says that it is too much.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::executor::Ramp;

/// Lets attempts through, a changing number at a time.
#[derive(Debug)]
pub(super) struct Window {
    inner: Mutex<Inner>,
    /// There may be room for one more.
    freed: Notify,
    ramp: Option<Ramp>,
    began: Instant,
}

/// How often a window is looked at that widens with time.
const LOOK_EVERY: Duration = Duration::from_millis(250);

#[derive(Debug)]
struct Inner {
    /// At least 1, at most `most`; a part of an attempt is a part of the way to one more.
    limit: f64,
    most: f64,
    under_way: usize,
    /// How often the limit was halved. What was sent before the last time says nothing about the limit since.
    halved: u64,
}

impl Window {
    /// Lets up to `most` through, until that is found to be too many, and no more than `ramp` allows yet.
    pub(super) fn new(most: usize, ramp: Option<Ramp>) -> Self {
        let most = most.max(1) as f64;
        Self {
            inner: Mutex::new(Inner { limit: most, most, under_way: 0, halved: 0 }),
            freed: Notify::new(),
            ramp,
            began: Instant::now(),
        }
    }

    /// Waits for room.
    pub(super) async fn enter(&self) -> Permit<'_> {
        loop {
            let freed = self.freed.notified();
            if let Some(halved) = self.try_enter() {
                // There may be room for another still, and nobody else would say so.
                self.freed.notify_one();
                return Permit { window: self, halved };
            }
            match self.ramp {
                Some(_) => drop(tokio::time::timeout(LOOK_EVERY, freed).await),
                None => freed.await,
            }
        }
    }

    fn try_enter(&self) -> Option<u64> {
        let mut inner = self.lock();
        let yet = self.ramp.map_or(usize::MAX, |ramp| ramp.after(self.began.elapsed()));
        let has_room = inner.under_way < yet.min(inner.limit as usize);
        inner.under_way += usize::from(has_room);
        has_room.then_some(inner.halved)
    }

    /// Attempts that may be under way.
    #[cfg(test)]
    pub(super) fn limit(&self) -> usize {
        self.lock().limit as usize
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics, and numbers are whole whatever happened.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while an attempt is under way.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    window: &'a Window,
    halved: u64,
}

impl Permit<'_> {
    /// The attempt ended well: a whole round of such makes room for one more.
    pub(super) fn went_well(&self) {
        let mut inner = self.window.lock();
        inner.limit = (inner.limit + 1.0 / inner.limit).min(inner.most);
    }

    /// The attempt was too much.
    pub(super) fn was_throttled(&self) {
        let mut inner = self.window.lock();
        if inner.halved == self.halved {
            inner.limit = (inner.limit / 2.0).max(1.0);
            inner.halved += 1;
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        self.window.lock().under_way -= 1;
        self.window.freed.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn widens_with_time() {
        let window = Window::new(25, Some(Ramp { at_once: 10, per_second: 2.0 }));
        let mut inside = Vec::new();
        for (seconds, room) in [(0, 10), (1, 12), (5, 20), (60, 25)] {
            tokio::time::advance(Duration::from_secs(seconds) - window.began.elapsed()).await;
            while window.lock().under_way < room {
                inside.push(window.enter().await);
            }
            assert!(window.try_enter().is_none(), "after {seconds} s");
        }
    }

    #[tokio::test]
    async fn halves_once_a_round_and_regrows() {
        let window = Window::new(16, None);
        let mut round = Vec::new();
        for _ in 0..16 {
            round.push(window.enter().await);
        }
        assert!(window.try_enter().is_none());
        round.iter().for_each(Permit::was_throttled);
        assert_eq!(window.limit(), 8, "one round of refusals counts once");
        drop(round);
        for expected in [4, 2, 1, 1] {
            window.enter().await.was_throttled();
            assert_eq!(window.limit(), expected);
        }
        for _ in 0..16 * 16 {
            window.enter().await.went_well();
        }
        assert_eq!(window.limit(), 16);
    }
}
