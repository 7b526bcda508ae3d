//! What a function does with a call. What it opens for a run it keeps as long as the same coordinator calls for that run.

use std::time::{Instant, SystemTime};

use pipeline::fence::{Clock, Moment};
use pipeline::plan::memory::Resources;
use pipeline::plan::{Intensity, Plan};
use pipeline::store::{Requests, Store, Stores};
use pipeline::task::{Answer, Attempt, TaskName, Worker};
use pipeline::wire::{Call, Reply, Request, Said};
use pipeline::{Error, Result};
use tokio::sync::Mutex;

use crate::allowed::Allowed;
use crate::environment::Environment;

/// Answers calls, one at a time.
pub(crate) struct Handler {
    stores: Stores,
    allowed: Allowed,
    resources: Resources,
    clock: Clock,
    open: Mutex<Option<Open>>,
}

/// The run that the last call was for.
struct Open {
    output: String,
    run: String,
    plan: String,
    worker: Worker,
    /// Requests that replies have told of.
    told: Requests,
}

impl Handler {
    pub(crate) fn new(environment: Environment) -> Self {
        let Environment { stores, allowed, resources } = environment;
        let clock = Clock::new(|| {
            let since = SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
            Moment(since.as_millis() as u64)
        });
        Self { stores, allowed, resources, clock, open: Mutex::new(None) }
    }

    /// Threads it computes with.
    pub(crate) fn threads(&self) -> usize {
        self.resources.threads
    }

    /// Answers a call, by `deadline` in milliseconds since 1970.
    ///
    /// # Errors
    /// Invalid for a call of another version or for a place it may not touch; else what the work failed with.
    pub(crate) async fn answer(&self, request: &Request, id: &str, deadline: u64) -> Result<Reply> {
        let (Request { run, output, .. }, started) = (request, Instant::now());
        request.check_version()?;
        self.allowed.check_write(output)?;
        let answered = match &request.call {
            Call::Check { reads } => self.check(output, reads, id).await,
            Call::Attempt(attempt) => self.attempt(request, attempt, Moment(deadline)).await,
        };
        let ms = started.elapsed().as_millis() as u64;
        let task = match &request.call {
            Call::Attempt(attempt) => TaskName::from(attempt.task).to_string(),
            Call::Check { .. } => "check".to_owned(),
        };
        match &answered {
            Ok(Reply { said, requests: Requests { gets, puts, bytes_in, bytes_out, .. } }) => {
                let end = if let Said::Answer(Answer::Done { end }) = said { Some(*end) } else { None };
                tracing::info!(request_id = id, run, output, task, end, ms, gets, puts, bytes_in, bytes_out, "done");
            }
            Err(Error { kind, message, .. }) => {
                tracing::error!(request_id = id, run, output, task, ms, ?kind, message, "failed");
            }
        }
        answered
    }

    /// Tries what a run needs: to be told of an object that is not there, and to write below the output.
    async fn check(&self, output: &str, reads: &[String], id: &str) -> Result<Reply> {
        let output = self.stores.open(output).await?;
        let mut requests = Requests::default();
        for url in reads {
            self.allowed.check_read(url)?;
            let store = self.stores.open(url).await?;
            store.check_missing_is_told().await?;
            requests = requests.plus(store.requests());
        }
        output.check_missing_is_told().await?;
        output.try_writing(id).await?;
        let said = Said::Ready { threads: self.resources.threads };
        Ok(Reply { said, requests: requests.plus(output.requests()) })
    }

    async fn attempt(&self, request: &Request, attempt: &Attempt, deadline: Moment) -> Result<Reply> {
        let worker = self.worker(request, attempt).await?;
        let attempt = within(attempt, self.clock.now(), deadline);
        let answer = worker.run(&attempt, |_| {}).await?;
        Ok(Reply { said: Said::Answer(answer), requests: self.since_told(worker.requests()).await })
    }

    /// What was asked of the stores since the last reply, of `all` there was.
    async fn since_told(&self, all: Requests) -> Requests {
        match self.open.lock().await.as_mut() {
            Some(open) => all.minus(std::mem::replace(&mut open.told, all)),
            None => all,
        }
    }

    /// The worker of the run, opened if it is not.
    async fn worker(&self, request: &Request, attempt: &Attempt) -> Result<Worker> {
        let mut open = self.open.lock().await;
        if let Some(known) = open.as_ref()
            && (&known.output, &known.run, &known.plan) == (&request.output, &request.run, &attempt.plan)
        {
            return Ok(known.worker.clone());
        }
        // Two runs' caches would not find room beside each other.
        *open = None;
        let store = self.stores.open(&request.output).await?;
        let plan = self.plan(&store).await?;
        let worker = Worker::open(&self.stores, store, plan.into(), &self.resources, self.clock.clone()).await?;
        *open = Some(Open {
            output: request.output.clone(),
            run: request.run.clone(),
            plan: attempt.plan.clone(),
            worker: worker.clone(),
            told: Requests::default(),
        });
        Ok(worker)
    }

    /// The plan of a run, if it reads nothing that may not be read.
    async fn plan(&self, store: &Store) -> Result<Plan> {
        let plan = Plan::read(store).await?;
        let plan = plan.ok_or_else(|| Error::unavailable(format!("there is no run in {} any more", store.url())))?;
        self.allowed.check_read(&plan.input.url)?;
        if let Some(mask) = &plan.mask {
            self.allowed.check_read(&mask.url)?;
        }
        if let Intensity::Other(intensity) = &plan.intensity {
            self.allowed.check_read(&intensity.url)?;
        }
        Ok(plan)
    }
}

/// An attempt that keeps to what is left of an invocation, too.
fn within(attempt: &Attempt, now: Moment, deadline: Moment) -> Attempt {
    // Emulators that know no deadline say that it has passed; nothing would ever be done.
    if deadline <= now {
        return attempt.clone();
    }
    // What has begun by then has a quarter of the time to end, so that its receipt is still written.
    let stop = now.plus_ms(deadline.ms_since(now) / 4 * 3);
    Attempt {
        deadline: Some(attempt.deadline.map_or(stop, |given| given.min(stop))),
        not_after: Some(attempt.not_after.map_or(deadline, |given| given.min(deadline))),
        ..attempt.clone()
    }
}

#[cfg(test)]
mod tests {
    use pipeline::task::Task;

    use super::*;

    #[test]
    fn an_attempt_keeps_to_the_shorter_time() {
        let attempt = |deadline: Option<u64>, not_after: Option<u64>| Attempt {
            plan: "p".into(),
            task: Task::Advance { stage: 0, units: 1 },
            deadline: deadline.map(Moment),
            not_after: not_after.map(Moment),
        };
        let now = Moment(1000);
        assert_eq!(within(&attempt(None, None), now, Moment(1400)), attempt(Some(1300), Some(1400)));
        assert_eq!(within(&attempt(Some(1200), Some(1500)), now, Moment(1400)), attempt(Some(1200), Some(1400)));
        assert_eq!(within(&attempt(Some(1390), Some(1399)), now, Moment(1400)), attempt(Some(1300), Some(1399)));
        // 600000 is what some say whatever the time is.
        assert_eq!(within(&attempt(Some(1200), Some(1500)), now, Moment(600)), attempt(Some(1200), Some(1500)));
    }
}
