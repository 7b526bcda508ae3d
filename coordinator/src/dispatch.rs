//! Dispatch: the one loop that sends tasks to an executor, stage by stage, and the one place that tries again.
//!
//! A stage is segments, found by arithmetic: the next one starts where the receipt before it ends. A segment whose
//! receipt is there is not sent; so a resumed run is the same loop, and a [`Checkpoint`] only spares it questions. What a
//! stage decided is the answer of its advance.
//!
//! `carry` brings one task to its answer, with `retry` (which errors, how often, after which pause), `window` (how many
//! at once) and `pace` (what is slow); `failed` is what is kept of those that have none.

mod carry;
mod failed;
mod pace;
mod retry;
#[cfg(test)]
mod tests;
mod window;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pipeline::checkpoint::{Checkpoint, Ranges};
use pipeline::fence::Clock;
use pipeline::plan::{Plan, SEGMENT_SECONDS};
use pipeline::state::State;
use pipeline::store::Store;
use pipeline::task::{Answer, Receipt, Task};
use pipeline::{Error, Result};
use serde::Serialize;
use tokio::time::MissedTickBehavior;

use crate::executor::Executor;
use crate::hold::Hold;
use crate::price::Budget;
use crate::progress::Progress;
use crate::runtime;
use carry::{Carrier, Count};
use pace::Pace;

pub use failed::FailedTask;
pub(crate) use failed::told;

/// Between two checkpoints of a stage.
const CHECKPOINT_EVERY: Duration = Duration::from_secs(5);

/// What a run is dispatched with.
pub struct Dispatch<'a> {
    /// What is to be run.
    pub plan: &'a Plan,
    /// The output, as the coordinator itself reads and writes it.
    pub store: &'a Store,
    /// Where tasks are carried out.
    pub executor: &'a Arc<dyn Executor>,
    /// Who hears how far it is.
    pub progress: &'a Progress,
    /// The wall clock, by which workers tell when their time is over.
    pub clock: &'a Clock,
    /// What the coordinator holds the output by.
    pub hold: &'a Hold,
    /// What may be spent.
    pub budget: &'a Budget,
    /// Tasks of a stage that may fail before the others are stopped, too.
    pub failures_most: usize,
    /// Of the spread of pauses.
    pub seed: u64,
}

/// How a run ended.
#[derive(Debug)]
pub struct Ended {
    /// The last state; what stopped the run, where something did.
    pub state: Result<State>,
    /// What each stage took that was reached.
    pub stages: Vec<StageTiming>,
    /// The tasks that failed for good.
    pub failed: Vec<FailedTask>,
}

/// What a stage took.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct StageTiming {
    /// The stage's name.
    pub stage: String,
    /// Its units.
    pub units: u64,
    /// Units that an earlier run had done already.
    pub resumed: u64,
    /// Units that are done, by whichever run.
    pub done: u64,
    /// Tasks sent, retries and backups included.
    pub attempts: u64,
    /// Tasks sent beside an attempt that took too long.
    pub backups: u64,
    /// From the first task to the end of its advance.
    pub seconds: f64,
}

/// Asks something before the first task is sent, again where that may help. `seed` is that of the spread of pauses.
///
/// # Errors
/// What the last try failed with.
pub async fn patiently<T, F: Future<Output = Result<T>>>(seed: u64, question: impl Fn() -> F) -> Result<T> {
    retry::patiently(&retry::Jitter::new(seed), question).await
}

/// Runs all stages of a plan that have not ended yet.
pub async fn run(with: &Dispatch<'_>) -> Ended {
    let mut run = Run { with, carrier: Carrier::new(with), stages: Vec::new(), failed: Vec::new() };
    let state = run.finish().await;
    run.failed.sort_by_key(|task| (task.stage, task.first, task.end));
    Ended { state, stages: run.stages, failed: run.failed }
}

/// A run under way.
struct Run<'a> {
    with: &'a Dispatch<'a>,
    carrier: Carrier<'a>,
    stages: Vec<StageTiming>,
    failed: Vec<FailedTask>,
}

impl Run<'_> {
    async fn finish(&mut self) -> Result<State> {
        let Dispatch { plan, store, .. } = *self.with;
        let mut state = plan.first_state();
        let mut done = Ranges::default();
        if let Some((before, checkpoint)) = self.checkpoint().await? {
            let ended = checkpoint.units[..checkpoint.stage].iter().zip(&plan.stages);
            self.stages = ended.map(|(units, stage)| skipped(plan.stage_name(stage), *units)).collect();
            state = before.unwrap_or(state);
            done = checkpoint.done;
        }
        for index in self.stages.len()..plan.stages.len() {
            let units = state.units;
            self.stages.push(skipped(plan.stage_name(&plan.stages[index]), units));
            if let Some(ended) = self.carrier.ask(|| State::read(store, plan, index)).await? {
                (state, done) = (ended, Ranges::default());
                continue;
            }
            let started = Instant::now();
            let ended = self.stage(index, units, std::mem::take(&mut done)).await;
            self.stages[index].seconds = started.elapsed().as_secs_f64();
            state = ended?;
            if index + 1 < plan.stages.len() {
                save(self.with, &self.stages, Some(state.units), &Ranges::default()).await;
            }
        }
        Ok(state)
    }

    /// The checkpoint to go on from, if there is one, with what was decided before its stage.
    async fn checkpoint(&self) -> Result<Option<(Option<State>, Checkpoint)>> {
        let Dispatch { plan, store, hold, .. } = *self.with;
        let Some(checkpoint) = self.carrier.ask(|| Checkpoint::latest(store, plan, hold.number())).await? else {
            return Ok(None);
        };
        let Some(before) = checkpoint.stage.checked_sub(1) else { return Ok(Some((None, checkpoint))) };
        let state = self.carrier.ask(|| State::read(store, plan, before)).await?;
        // A state that is gone was taken back, and what came after it with it.
        Ok(state.filter(|state| checkpoint.units.last() == Some(&state.units)).map(|state| (Some(state), checkpoint)))
    }

    /// Runs one stage and its decision.
    async fn stage(&mut self, index: usize, units: u64, mut done: Ranges) -> Result<State> {
        let Dispatch { plan, progress, .. } = *self.with;
        progress.stage(&self.stages[index].stage, units, plan.stage_voxels(index));
        self.stages[index].resumed = 0;
        let count = Count::default();
        let segments = self.segments(index, units, &mut done, &count).await;
        self.stages[index].done = done.len();
        let ended = match segments {
            Ok(()) => self.advance(index, units, &count).await,
            Err(error) => Err(error),
        };
        self.stages[index].attempts = count.attempts.into_inner();
        self.stages[index].backups = count.backups.into_inner();
        match &ended {
            Ok(_) => progress.stage_done(),
            Err(_) => save(self.with, &self.stages, None, &done).await,
        }
        ended
    }

    /// Sends every segment of a stage that has no receipt yet.
    ///
    /// # Errors
    /// What the first of the tasks failed with that did; the others went on as long as not too many failed.
    async fn segments(&mut self, stage: usize, units: u64, done: &mut Ranges, count: &Count) -> Result<()> {
        let Self { with, carrier, stages, failed } = self;
        let Dispatch { plan, store, progress, budget, failures_most, .. } = **with;
        let length = plan.stages[stage].segment;
        let pace = &Pace::new(SEGMENT_SECONDS / length as f64);
        let mut ticks = runtime::interval(CHECKPOINT_EVERY);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ticks.reset();
        let mut stopped = None;
        let mut running = FuturesUnordered::new();
        let (mut next, mut failures, mut spent) = (0, 0, false);
        loop {
            while next < units && !spent && running.len() < carrier.terms.segments(length) {
                if let Some(end) = done.end_of(next) {
                    stages[stage].resumed += end - next;
                    progress.resumed(end - next);
                    next = end;
                    continue;
                }
                if let Some(receipt) = carrier.ask(|| Receipt::read(store, plan, stage, next)).await? {
                    done.insert(next, receipt.end);
                    stages[stage].resumed += receipt.end - next;
                    progress.resumed(receipt.end - next);
                    next = receipt.end;
                    continue;
                }
                // Segments end at multiples of their length, wherever a run goes on: another attempt at the rest of one
                // then never reaches into the next.
                let (first, end) = (next, units.min((next / length + 1) * length));
                next = end;
                running.push(carrier.segment(stage, first, end, pace, count));
            }
            tokio::select! {
                Some(sent) = running.next() => {
                    done.insert(sent.first, sent.done);
                    if let Some(error) = sent.failed {
                        if budget.refusal().as_ref() == Some(&error) {
                            // What is under way still ends, and nothing more is sent.
                            (spent, stopped) = (true, Some(error));
                            continue;
                        }
                        let task = Task::Segment { stage, first: sent.done, end: sent.end };
                        failed.push(FailedTask::new(plan, task, &error, sent.attempts));
                        stopped.get_or_insert(error);
                        failures += 1;
                        if failures > failures_most {
                            break;
                        }
                    }
                }
                _ = ticks.tick(), if !running.is_empty() => save(with, stages, None, done).await,
                else => break,
            }
        }
        stopped.map_or(Ok(()), Err)
    }

    async fn advance(&mut self, stage: usize, units: u64, count: &Count) -> Result<State> {
        let task = Task::Advance { stage, units };
        let before = count.attempts.load(Ordering::Relaxed);
        let error = match self.carrier.carry(task, &Pace::new(SEGMENT_SECONDS), count).await {
            Ok(Answer::Advanced(state)) => return Ok(*state),
            Ok(Answer::Done { .. }) => Error::internal("a decision came back as a segment"),
            Err(error) => error,
        };
        let attempts = count.attempts.load(Ordering::Relaxed) - before;
        if self.with.budget.refusal().as_ref() == Some(&error) {
            return Err(error);
        }
        self.failed.push(FailedTask::new(self.with.plan, task, &error, attempts));
        Err(error)
    }
}

/// Writes down how far the run is: in the last of these stages, or at the start of one more with so many units. Receipts
/// hold the truth, so nothing is lost when that fails.
async fn save(with: &Dispatch<'_>, stages: &[StageTiming], next: Option<u64>, done: &Ranges) {
    let units: Vec<u64> = stages.iter().map(|timing| timing.units).chain(next).collect();
    let plan = with.plan.id.clone();
    let checkpoint = Checkpoint { plan, lease: with.hold.number(), stage: units.len() - 1, units, done: done.clone() };
    if let Err(error) = checkpoint.write(with.store).await {
        tracing::info!(error = error.message, "no checkpoint was written");
    }
}

/// A stage of which everything was there.
fn skipped(stage: String, units: u64) -> StageTiming {
    StageTiming { stage, units, resumed: units, done: units, attempts: 0, backups: 0, seconds: 0.0 }
}

/// What became of a segment.
struct Sent {
    first: u64,
    /// Units before it are done.
    done: u64,
    end: u64,
    failed: Option<Error>,
    attempts: u64,
}

impl Carrier<'_> {
    /// Carries a segment to its end. A receipt may speak of a part only; the rest is sent again.
    async fn segment(&self, stage: usize, first: u64, end: u64, pace: &Pace, count: &Count) -> Sent {
        let own = Count::default();
        let mut sent = Sent { first, done: first, end, failed: None, attempts: 0 };
        while sent.done < end {
            match self.carry(Task::Segment { stage, first: sent.done, end }, pace, &own).await {
                Ok(Answer::Done { end: done }) if done > sent.done && done <= end => sent.done = done,
                Ok(_) => {
                    sent.failed = Some(Error::internal("a segment came back without having done what was asked"));
                    break;
                }
                Err(error) => {
                    sent.failed = Some(error);
                    break;
                }
            }
        }
        sent.attempts = own.attempts.into_inner();
        count.attempts.fetch_add(sent.attempts, Ordering::Relaxed);
        count.backups.fetch_add(own.backups.into_inner(), Ordering::Relaxed);
        sent
    }
}
