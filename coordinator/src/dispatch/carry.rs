//! One task, carried to its answer: attempts one after the other, a second one beside an attempt that takes too long,
//! and before any is repeated, a look at whether the work is done and only the answer was lost.

use std::future::Future;
use std::pin::pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::{Either, select};
use pipeline::fence::Moment;
use pipeline::state::State;
use pipeline::task::{Answer, Attempt, Receipt, Task, TaskName};
use pipeline::{Error, Kind, Result, Throttled};
use tokio::sync::Semaphore;

use super::Dispatch;
use super::pace::Pace;
use super::retry::{self, Jitter, Tries, may_pass};
use super::window::Window;
use crate::executor::{Began, Terms, Used};
use crate::runtime;

/// What all tasks of a run share on their way.
pub(super) struct Carrier<'a> {
    with: &'a Dispatch<'a>,
    pub(super) terms: Terms,
    pub(super) window: Window,
    /// Backups have room of their own: where every attempt of a wave hangs, they are all that moves.
    backups: Semaphore,
    jitter: Jitter,
}

/// Attempts at something.
#[derive(Debug, Default)]
pub(super) struct Count {
    /// All of them.
    pub(super) attempts: AtomicU64,
    /// Those that were sent beside another.
    pub(super) backups: AtomicU64,
}

/// How often an attempt is looked at that may be slow: what is slow is known better with every segment that ends.
const LOOK_EVERY: Duration = Duration::from_secs(1);

impl<'a> Carrier<'a> {
    pub(super) fn new(with: &'a Dispatch<'a>) -> Self {
        let terms = with.executor.terms();
        Self {
            with,
            terms,
            window: Window::new(terms.in_flight, terms.ramp),
            backups: Semaphore::new((terms.in_flight / 4).max(1)),
            jitter: Jitter::new(with.seed),
        }
    }

    /// Carries a task to its answer.
    ///
    /// # Errors
    /// What it failed with the last time, when trying again is not worth it.
    pub(super) async fn carry(&self, task: Task, pace: &Pace, count: &Count) -> Result<Answer> {
        let mut tries = Tries::default();
        loop {
            let error = match self.once(task, pace, count).await {
                Ok(answer) => return Ok(answer),
                Err(error) => error,
            };
            // The worker may have finished and its answer been lost.
            if error.kind == Kind::Unavailable
                && let Some(answer) = self.ask(|| self.answer_in_store(task)).await?
            {
                return Ok(answer);
            }
            let Some(pause) = tries.again(&error, &self.jitter) else { return Err(error) };
            tracing::warn!(task = %TaskName::from(task), error = error.message, "trying again");
            runtime::sleep(pause).await;
        }
    }

    /// Asks the store something on the coordinator's own behalf, again where that may help.
    pub(super) async fn ask<T, F: Future<Output = Result<T>>>(&self, question: impl Fn() -> F) -> Result<T> {
        retry::patiently(&self.jitter, question).await
    }

    /// The answer of a task that is done, from what it left.
    async fn answer_in_store(&self, task: Task) -> Result<Option<Answer>> {
        let Dispatch { store, plan, .. } = self.with;
        Ok(match task {
            Task::Segment { stage, first, .. } => {
                Receipt::read(store, plan, stage, first).await?.map(|receipt| Answer::Done { end: receipt.end })
            }
            Task::Advance { stage, .. } => {
                State::read(store, plan, stage).await?.map(|state| Answer::Advanced(Box::new(state)))
            }
        })
    }

    /// One attempt, and a backup of it when it takes too long. The first answer wins; the other attempt is left alone,
    /// since it writes the same bytes.
    async fn once(&self, task: Task, pace: &Pace, count: &Count) -> Result<Answer> {
        let (units, began) = (units_of(task), Began::default());
        let mut first = pin!(self.send_in_turn(task, &began, count));
        if !self.terms.backups {
            return first.await;
        }
        let answer = tokio::select! {
            answer = &mut first => Some(answer),
            () = straggles(&began, units, pace) => None,
        };
        if let Some(answer) = answer {
            if let (Ok(_), Some(took)) = (&answer, began.elapsed()) {
                pace.ended(units, took);
            }
            return answer;
        }
        tracing::info!(task = %TaskName::from(task), "slow, so it is sent once more");
        let second = pin!(self.send_backup(task, count));
        match select(first, second).await {
            // One that failed says nothing of the other, unless it would fail whoever did it.
            Either::Left((Err(error), other)) if may_pass(&error) => other.await,
            Either::Right((Err(error), other)) if may_pass(&error) => other.await,
            Either::Left((answer, _)) | Either::Right((answer, _)) => answer,
        }
    }

    /// Sends an attempt when there is room for it.
    async fn send_in_turn(&self, task: Task, began: &Began, count: &Count) -> Result<Answer> {
        let permit = self.window.enter().await;
        let answer = self.send(task, began, count).await;
        match &answer {
            Ok(_) => permit.went_well(),
            Err(error) if error.throttled == Some(Throttled::AtOnce) => permit.was_throttled(),
            Err(_) => {}
        }
        answer
    }

    /// Sends a second attempt when there is room for one.
    async fn send_backup(&self, task: Task, count: &Count) -> Result<Answer> {
        let _permit = self.backups.acquire().await.map_err(|_| Error::internal("a run was closed while it ran"))?;
        count.backups.fetch_add(1, Ordering::Relaxed);
        self.send(task, &Began::default(), count).await
    }

    /// Sends an attempt, and gives it up when its time has passed.
    async fn send(&self, task: Task, began: &Began, count: &Count) -> Result<Answer> {
        let Dispatch { plan, executor, clock, hold, budget, .. } = self.with;
        let entered = budget.enter(task).await?;
        count.attempts.fetch_add(1, Ordering::Relaxed);
        let now = clock.now();
        let after = |time: Duration| now.plus_ms(time.as_millis() as u64);
        // What has begun by the deadline has a quarter of the time to end, so that its receipt is still written.
        let deadline = self.terms.attempt_limit.map(|limit| after(limit * 3 / 4));
        let not_after = self.terms.attempt_limit.map(after);
        let promised = match not_after {
            Some(not_after) => match hold.promise(not_after).await {
                Ok(promised) => Some(promised),
                Err(error) => {
                    entered.never_sent();
                    return Err(error);
                }
            },
            None => None,
        };
        let attempt = Attempt { plan: plan.id.clone(), task, deadline, not_after };
        let used = Used::default();
        let answer = executor.run(&attempt, began, &used);
        let answer = match not_after {
            None => answer.await,
            Some(not_after) => tokio::select! {
                answer = answer => answer,
                () = self.until(not_after) => {
                    Err(Error::unavailable(format!("no answer about the task {} in its time", TaskName::from(task))))
                }
            },
        };
        // Refused before it began. A worker that met a busy store was told of, and had begun.
        let refused = answer.as_ref().is_err_and(|error| error.throttled.is_some()) && used.get().is_none();
        // Of a worker that failed or died, requests may still be on their way that it gave up.
        if let Some(promised) = promised
            && (answer.is_ok() || refused)
        {
            promised.settled();
        }
        match refused {
            true => entered.never_sent(),
            false => entered.ended(task, &used),
        }
        answer
    }

    /// Waits until a moment has passed. The clock may be set while we wait, or stand still while the machine sleeps.
    async fn until(&self, moment: Moment) {
        loop {
            let now = self.with.clock.now();
            if now > moment {
                return;
            }
            let left = Duration::from_millis(moment.0 - now.0 + 1);
            runtime::sleep(left.min(Duration::from_secs(30))).await;
        }
    }
}

/// Units that a task takes its time for.
fn units_of(task: Task) -> u64 {
    match task {
        Task::Segment { first, end, .. } => end - first,
        Task::Advance { .. } => 1,
    }
}

/// Waits until an attempt has taken longer than others do. One that no worker has begun waits for its turn.
async fn straggles(began: &Began, units: u64, pace: &Pace) {
    loop {
        let left = match began.elapsed() {
            Some(elapsed) => pace.patience(units).saturating_sub(elapsed),
            None => LOOK_EVERY,
        };
        if left.is_zero() {
            return;
        }
        runtime::sleep(left.min(LOOK_EVERY)).await;
    }
}
