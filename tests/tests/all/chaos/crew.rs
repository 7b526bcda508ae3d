//! Workers that die, hang, lose their replies, are sent the same task twice, or wake up when their time is over; and the
//! executor that sends tasks to them.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use coordinator::executor::{Began, Executor, Terms, Used};
use pipeline::fence::{Clock, Moment};
use pipeline::task::{Answer, Attempt, Worker};
use pipeline::{Error, Result};
use tokio::runtime::Runtime;
use tokio::time::sleep;

use super::faulty::Tally;
use super::seed::Dice;

/// Real workers, each with its own view of the same store, and what befalls them.
#[derive(Clone)]
pub(super) struct Crew {
    /// Where workers compute, in real time; the dispatcher's time passes only while none does.
    pub(super) floor: Arc<Runtime>,
    pub(super) workers: [Arc<Worker>; 2],
    /// Writes all but its receipt.
    pub(super) doomed: Arc<Worker>,
    /// Is paused now and then before it writes, for longer than its time.
    pub(super) sleepy: Arc<Worker>,
    /// Wakes up when its time is over.
    pub(super) late: Arc<Worker>,
    pub(super) dice: Arc<Dice>,
    pub(super) tally: Tally,
    pub(super) clock: Clock,
    /// Of a thousand attempts, so many meet a fault.
    pub(super) per_mille: u64,
}

pub(super) const TWICE: &str = "task delivered twice";
pub(super) const TO_TWO: &str = "task at two workers at once";
pub(super) const HURRIED: &str = "stopped at its deadline";
pub(super) const LOST: &str = "answer lost";
pub(super) const SILENT: &str = "answer never came";
pub(super) const DIED: &str = "died before its receipt";
pub(super) const HUNG: &str = "hung past not_after";
pub(super) const LATE: &str = "woke up after not_after";
pub(super) const PAUSED: &str = "paused in the middle";

/// All that may befall an attempt.
pub(super) const ALL: [&str; 9] = [TWICE, TO_TWO, HURRIED, LOST, SILENT, DIED, HUNG, LATE, PAUSED];

/// What an attempt may take.
const LIMIT: Duration = Duration::from_secs(60);

impl Crew {
    /// Carries out an attempt at a worker, on its own threads. As long as it does, nobody's time passes.
    async fn at(&self, worker: &Arc<Worker>, attempt: &Attempt) -> Result<Answer> {
        let (floor, worker, attempt) = (Arc::clone(&self.floor), Arc::clone(worker), attempt.clone());
        let work = move || floor.block_on(worker.run(&attempt, |_| ()));
        tokio::task::spawn_blocking(work).await.unwrap()
    }

    fn fault(&self, attempt: &Attempt) -> Option<&'static str> {
        let drawn = self.dice.draw(&format!("{:?}", attempt.task));
        if drawn % 1000 >= self.per_mille {
            return None;
        }
        let fault = ALL[(drawn / 1000) as usize % ALL.len()];
        self.tally.count(fault);
        Some(fault)
    }
}

#[async_trait]
impl Executor for Crew {
    async fn run(&self, attempt: &Attempt, began: &Began, _used: &Used) -> Result<Answer> {
        began.now();
        let [one, other] = &self.workers;
        let Some(fault) = self.fault(attempt) else { return self.at(one, attempt).await };
        // Leaves a receipt for what it had begun.
        let hurried = Attempt { deadline: Some(self.clock.now()), ..attempt.clone() };
        match fault {
            HURRIED => self.at(one, &hurried).await,
            TWICE => {
                let _ = self.at(one, attempt).await;
                self.at(one, attempt).await
            }
            TO_TWO => {
                let (first, second) = tokio::join!(self.at(one, attempt), self.at(other, &hurried));
                second.or(first)
            }
            LOST => {
                let _ = self.at(one, attempt).await;
                Err(Error::unavailable("the answer was lost"))
            }
            SILENT => {
                let _ = self.at(one, attempt).await;
                std::future::pending().await
            }
            DIED => {
                let _ = self.at(&self.doomed, attempt).await;
                Err(Error::unavailable("the worker died"))
            }
            HUNG => std::future::pending().await,
            LATE => {
                let (crew, attempt) = (self.clone(), attempt.clone());
                // Nobody waits for it any more when it wakes up.
                tokio::spawn(async move {
                    sleep(LIMIT + Duration::from_secs(1)).await;
                    assert!(attempt.not_after.is_some_and(|end| crew.clock.now() > end));
                    let _ = crew.at(&crew.late, &attempt).await;
                });
                std::future::pending().await
            }
            _ => self.at(&self.sleepy, attempt).await,
        }
    }

    fn terms(&self) -> Terms {
        Terms { in_flight: 4, units: None, backups: true, attempt_limit: Some(LIMIT), ramp: None }
    }
}

/// A clock by which whoever looks at it has slept too long one time in some.
pub(super) fn sleepy(clock: &Clock, seed: u64) -> Clock {
    let (clock, dice) = (clock.clone(), Dice::new(seed));
    Clock::new(move || {
        let now = clock.now();
        if dice.draw("look").is_multiple_of(20) { now.plus_ms(LIMIT.as_millis() as u64 + 1) } else { now }
    })
}

/// The time of the dispatcher's runtime, in which this must be called.
pub(super) fn clock() -> Clock {
    let (runtime, start) = (tokio::runtime::Handle::current(), tokio::time::Instant::now());
    Clock::new(move || {
        let _within = runtime.enter();
        Moment(1_000_000_000 + start.elapsed().as_millis() as u64)
    })
}
