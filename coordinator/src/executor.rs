//! Executors: where a task is carried out. One carries one attempt and brings back its answer; it neither retries nor
//! decides what is next, which is [`dispatch`](crate::dispatch)'s.

mod lambda;
mod local;

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use pipeline::Result;
use pipeline::store::Requests;
use pipeline::task::{Answer, Attempt};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use lambda::{FUNCTION_VARIABLE, Function, Lambda};
pub use local::Local;

/// Carries out tasks.
#[async_trait]
pub trait Executor: Send + Sync + 'static {
    /// Carries out one attempt of one task, and tells `began` when a worker has taken it up. Where attempts are paid
    /// for, `used` is told what this one took, also when it failed and as soon as that is known.
    ///
    /// # Errors
    /// What the worker failed with. Unavailable also when no answer came and nobody knows whether one was on its way;
    /// [throttled](pipeline::Error::throttled) when it was too much at once; Invalid, with a hint at the setting, when a
    /// worker ran out of memory, which trying again would not change.
    async fn run(&self, attempt: &Attempt, began: &Began, used: &Used) -> Result<Answer>;

    /// What may be asked of it.
    fn terms(&self) -> Terms;
}

/// What may be asked of an executor.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Terms {
    /// Attempts that are worth having under way at once.
    pub in_flight: usize,
    /// Units under way that keep it busy, where those of all attempts share its threads.
    pub units: Option<usize>,
    /// Whether a second attempt of a task may be quicker than the first: not where it would run on the same threads.
    pub backups: bool,
    /// How fast attempts may become many; none where all of them may begin at once.
    pub ramp: Option<Ramp>,
    /// How long an attempt may take, where workers can outlive their coordinator or hang: it gets a deadline and a
    /// `not_after`, and is given up when that has passed.
    pub attempt_limit: Option<Duration>,
}

impl Terms {
    /// Segments of so many units that are worth having under way at once: where threads are shared, those that have units for
    /// all of them, and one that fills in while another ends. More would only spread what is read at the same time.
    pub fn segments(&self, length: u64) -> usize {
        let needed = self.units.map(|units| units.div_ceil(length.max(1) as usize) + 1);
        needed.unwrap_or(usize::MAX).min(self.in_flight).max(1)
    }
}

/// How fast attempts may become many.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ramp {
    /// So many may be under way from the start.
    pub at_once: usize,
    /// And so many more after each second.
    pub per_second: f64,
}

impl Ramp {
    /// Attempts that may be under way when this time has passed.
    pub fn after(&self, time: Duration) -> usize {
        self.at_once + (self.per_second * time.as_secs_f64()) as usize
    }
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

/// What an attempt took, as whoever is paid for it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Usage {
    /// Milliseconds that are paid for; those of a start are among them where they are.
    pub billed_ms: u64,
    /// Milliseconds of the start; 0 where the worker was there.
    pub init_ms: u64,
    /// Memory that is paid for, in MiB.
    pub memory_mib: u64,
    /// Most memory that was in use, in MiB.
    pub peak_mib: u64,
    /// Requests the worker made to the store; none where it could not say, as when it died.
    pub requests: Option<Requests>,
    /// Whether the worker was started for this attempt.
    pub cold: bool,
}

/// Where an executor puts what an attempt took. One that nobody told anything took nobody knows how much.
#[derive(Clone, Debug, Default)]
pub struct Used(Arc<OnceLock<Usage>>);

impl Used {
    /// It took this; only the first call counts.
    pub fn set(&self, usage: Usage) {
        self.0.get_or_init(|| usage);
    }

    /// What it took, where that is known.
    pub fn get(&self) -> Option<Usage> {
        self.0.get().copied()
    }
}
