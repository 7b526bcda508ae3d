//! Executors: where a task is carried out. One carries one attempt and brings back its answer; it neither retries nor
//! decides what is next, which is [`dispatch`](crate::dispatch)'s.

mod local;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use pipeline::Result;
use pipeline::task::{Answer, Attempt};
use tokio::time::Instant;

pub use local::Local;

/// Carries out tasks.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Carries out one attempt of one task, and tells `began` when a worker has taken it up.
    ///
    /// # Errors
    /// What the worker failed with. Unavailable also when no answer came and nobody knows whether one was on its way;
    /// [throttled](pipeline::Error::throttled) when it was too much at once; Invalid, with a hint at the setting, when a
    /// worker ran out of memory, which trying again would not change.
    async fn run(&self, attempt: &Attempt, began: &Began) -> Result<Answer>;

    /// What may be asked of it.
    fn terms(&self) -> Terms;
}

/// What may be asked of an executor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Attempts that are worth having under way at once.
    pub in_flight: usize,
    /// Whether a second attempt of a task may be quicker than the first: not where it would run on the same threads.
    pub backups: bool,
    /// How long an attempt may take, where workers can outlive their coordinator or hang: it gets a deadline and a
    /// `not_after`, and is given up when that has passed.
    pub attempt_limit: Option<Duration>,
}

/// The moment a worker took up an attempt: before it, the attempt waits for its turn, and can't be slow.
#[derive(Clone, Debug, Default)]
pub struct Began(Arc<OnceLock<Instant>>);

impl Began {
    /// It has begun; only the first call counts.
    pub fn now(&self) {
        self.0.get_or_init(Instant::now);
    }

    /// How long ago that was; none when it has not begun.
    pub fn elapsed(&self) -> Option<Duration> {
        self.0.get().map(Instant::elapsed)
    }
}
