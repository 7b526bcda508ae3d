//! Dispatch: the one loop that sends tasks to an executor, stage by stage, and the one place that tries again.
//!
//! A stage is segments, found by arithmetic: the next one starts where the receipt before it ends. A segment whose
//! receipt is there is not sent; so a resumed run is the same loop. What a stage decided is the answer of its advance.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use pipeline::plan::Plan;
use pipeline::state::State;
use pipeline::store::Store;
use pipeline::task::{Answer, Attempt, Receipt, Task};
use pipeline::{Error, Kind, Result};
use serde::Serialize;

use crate::executor::Executor;
use crate::progress::Progress;

/// What a stage took.
#[derive(Clone, Debug, Serialize)]
pub struct StageTiming {
    /// The stage's name.
    pub stage: String,
    /// Its units.
    pub units: u64,
    /// Units that an earlier run had done already.
    pub resumed: u64,
    /// Tasks sent, retries included.
    pub attempts: u64,
    /// From the first task to the end of its advance.
    pub seconds: f64,
}

/// Runs all stages of a plan; gives the last state, and what each stage took.
pub async fn run(
    plan: &Plan,
    store: &Store,
    executor: &Arc<dyn Executor>,
    progress: &Progress,
) -> Result<(State, Vec<StageTiming>)> {
    let mut state = plan.first_state();
    let mut timings = Vec::with_capacity(plan.stages.len());
    for index in 0..plan.stages.len() {
        let (started, units) = (Instant::now(), state.units);
        let name = plan.stage_name(&plan.stages[index]);
        let mut timing = StageTiming { stage: name.clone(), units, resumed: 0, attempts: 0, seconds: 0.0 };
        match State::read(store, plan, index).await? {
            Some(done) => {
                timing.resumed = units;
                state = done;
            }
            None => {
                progress.stage(&name, units, plan.stage_voxels(index));
                segments(plan, store, executor, progress, index, &mut timing).await?;
                let advance = Task::Advance { stage: index, units };
                state = match attempt(&plan.id, executor, advance, &mut timing.attempts).await? {
                    Answer::Advanced(state) => *state,
                    Answer::Done { .. } => return Err(Error::internal("a decision came back as a segment")),
                };
                progress.stage_done();
            }
        }
        timing.seconds = started.elapsed().as_secs_f64();
        timings.push(timing);
    }
    Ok((state, timings))
}

/// Sends every segment of a stage that has no receipt yet.
async fn segments(
    plan: &Plan,
    store: &Store,
    executor: &Arc<dyn Executor>,
    progress: &Progress,
    stage: usize,
    timing: &mut StageTiming,
) -> Result<()> {
    let (units, length) = (timing.units, plan.stages[stage].segment);
    let mut running = FuturesUnordered::new();
    let mut next = 0;
    loop {
        while next < units && running.len() < executor.in_flight() {
            if let Some(receipt) = Receipt::read(store, plan, stage, next).await? {
                timing.resumed += receipt.end - next;
                progress.resumed(receipt.end - next);
                next = receipt.end;
                continue;
            }
            let (first, end) = (next, units.min(next + length));
            next = end;
            let executor = Arc::clone(executor);
            running.push(async move {
                let (mut first, mut attempts) = (first, 0);
                // A receipt may speak of a part only; the rest is sent again.
                while first < end {
                    match attempt(&plan.id, &executor, Task::Segment { stage, first, end }, &mut attempts).await? {
                        Answer::Done { end: done } if done > first => first = done,
                        _ => return Err(Error::internal("a segment came back without having done anything")),
                    }
                }
                Ok(attempts)
            });
        }
        match running.next().await {
            Some(attempts) => timing.attempts += attempts?,
            None => return Ok(()),
        }
    }
}

/// Sends one task, and again where that may help: what is unavailable a few times with growing pauses, an internal
/// error once, a bad request or bad data never.
async fn attempt(plan: &str, executor: &Arc<dyn Executor>, task: Task, attempts: &mut u64) -> Result<Answer> {
    let attempt = Attempt { plan: plan.to_owned(), task, deadline: None, not_after: None };
    const PAUSE: Duration = Duration::from_millis(200);
    let mut tries = 0u32;
    loop {
        *attempts += 1;
        tries += 1;
        let error = match executor.run(&attempt).await {
            Ok(answer) => return Ok(answer),
            Err(error) => error,
        };
        let tries_max = match error.kind {
            Kind::Unavailable => 3,
            Kind::Internal => 2,
            Kind::Invalid | Kind::Data => 1,
        };
        if tries >= tries_max {
            return Err(error);
        }
        tracing::warn!(?task, tries, error = error.message, "trying again");
        tokio::time::sleep(PAUSE * 4u32.pow(tries - 1)).await;
    }
}

#[cfg(test)]
mod tests;
