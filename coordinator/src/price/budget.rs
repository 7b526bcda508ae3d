//! What a run has spent, and whether it may go on.
//!
//! Every attempt asks before it is sent. What has ended counts as it was, what is under way as if it took all the time and
//! made all the requests that it could: so a run stops before its limit, never after it. Where there is no room for one
//! more beside those under way, it waits until one of them has ended, which mostly was worth far less; where there is none
//! even alone, no more is sent.

use std::sync::{Mutex, MutexGuard, PoisonError};

use pipeline::Error;
use pipeline::plan::Plan;
use pipeline::plan::memory::Projection;
use pipeline::plan::requests::{Asked, Objects, PlanRequests, Terms};
use pipeline::store::{Requests, Store};
use pipeline::task::{Task, TaskName};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use super::estimate::{is_charged, usd};
use super::{Fleet, Prices, Pricing};
use crate::executor::{Usage, Used};

/// Requests that an attempt makes in a second, at most: so many are under way at once, and none takes less time.
const REQUESTS_PER_SECOND: u64 = 2000;

/// What a run has spent so far.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Spent {
    /// Attempts that were paid for.
    pub invocations: u64,
    /// Of those, attempts of which nobody said what they took: they are counted at their worst.
    pub unknown: u64,
    /// Of those, attempts that started an instance.
    pub cold_starts: u64,
    /// Milliseconds paid for.
    pub billed_ms: u64,
    /// Memory times time.
    pub gb_seconds: f64,
    /// Most memory that an attempt had in use, in MiB.
    pub peak_mib: u64,
    /// Requests of workers elsewhere, and of this process where they are paid for.
    pub requests: Requests,
    /// In USD, logs left out.
    pub usd: f64,
    /// Attempt by attempt.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub attempts: Vec<Took>,
}

impl Spent {
    /// Adds what was paid for; of what has a name, more than the sums is kept.
    fn add(&mut self, name: Option<String>, usage: Usage) {
        self.invocations += 1;
        self.cold_starts += u64::from(usage.cold);
        self.billed_ms += usage.billed_ms;
        self.gb_seconds += usage.billed_ms as f64 / 1000.0 * usage.memory_mib as f64 / 1024.0;
        self.peak_mib = self.peak_mib.max(usage.peak_mib);
        self.requests = self.requests.plus(usage.requests.unwrap_or_default());
        self.attempts.extend(name.map(|task| Took { task, usage }));
    }
}

/// What an attempt took.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Took {
    /// The task, as `voxmill replay` calls it; `check` for the call that tried whether the function could.
    pub task: String,
    /// What it took.
    #[serde(flatten)]
    pub usage: Usage,
}

/// The account of a run.
#[derive(Debug)]
pub struct Budget {
    limit: Option<f64>,
    prices: Prices,
    fleet: Option<Fleet>,
    /// Stores whose requests this process pays for.
    counted: Vec<Store>,
    /// What a unit of each stage asks for at its worst, and its decision, in USD.
    worst: Vec<(f64, f64)>,
    /// What remains to be done when all tasks have ended, in USD.
    end: f64,
    inner: Mutex<Inner>,
    /// There may be room for one more.
    freed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    /// What attempts that have ended came to, but for requests that are counted in `counted`.
    ended: f64,
    under_way: usize,
    /// What they would come to at their worst.
    at_worst: f64,
    spent: Spent,
    refusal: Option<Error>,
}

impl Budget {
    /// One that lets everything pass, for runs that nobody is paid for.
    pub fn unlimited() -> Self {
        Self {
            limit: None,
            prices: Prices::default(),
            fleet: None,
            counted: Vec::new(),
            worst: Vec::new(),
            end: 0.0,
            inner: Mutex::default(),
            freed: Notify::new(),
        }
    }

    /// The account of a run of this plan. `stores` are those that this process asks, workers within it included.
    pub fn new(pricing: &Pricing, plan: &Plan, projection: &Projection, stores: &[Store]) -> Self {
        let Pricing { prices, fleet, max_usd, .. } = pricing.clone();
        let terms = Terms { processes: fleet.map_or(1, |f| f.instances), objects: Objects::Any };
        let asked = PlanRequests::of(plan, projection, terms);
        let cost = |asked: &Asked| {
            let most = asked.gets.high.saturating_add(asked.puts.high).saturating_add(asked.lists.high);
            // In its time an attempt can make so many and no more.
            let may = fleet.map_or(u64::MAX, |f| f.timeout.as_secs().saturating_mul(REQUESTS_PER_SECOND));
            let share = (may as f64 / most.max(1) as f64).min(1.0);
            let (gets, others) = (asked.gets.high as f64, asked.puts.high.saturating_add(asked.lists.high) as f64);
            share * (gets * prices.get + others * prices.put)
        };
        let reads = fleet.is_some() || is_charged(&plan.input.url);
        let writes = fleet.is_some() || stores.iter().any(|store| is_charged(store.url()));
        let of = |asked: Asked, charged: bool| if charged { asked } else { Asked::default() };
        let worst = asked.stages.iter().map(|stage| {
            let all = of(stage.input, reads) + of(stage.output, writes);
            let units = stage.units.high.max(1) as f64;
            // Beside its units, a task has a receipt, a state and a histogram.
            let (put, get) = if writes { (prices.put, prices.get) } else { (0.0, 0.0) };
            let each = 8.0 * put;
            let receipts = stage.segments.high as f64 * 4.0 * get;
            (cost(&all) / units + each, receipts + each)
        });
        let worst = worst.collect();
        let end = cost(&of(asked.end, writes));
        let counted = stores.iter().filter(|store| is_charged(store.url())).cloned().collect();
        Self { limit: max_usd, prices, fleet, counted, worst, end, inner: Mutex::default(), freed: Notify::new() }
    }

    /// Lets an attempt pass when there is room for it.
    ///
    /// # Errors
    /// That there is none, and none will be: [`Budget::refusal`].
    pub(crate) async fn enter(&self, task: Task) -> Result<Entered<'_>, Error> {
        let worst = self.worst_of(task);
        loop {
            let freed = self.freed.notified();
            match self.try_enter(worst) {
                Some(Ok(())) => {
                    // There may be room for another still, and nobody else would say so.
                    self.freed.notify_one();
                    return Ok(Entered { budget: self, worst, settled: false });
                }
                Some(Err(refusal)) => {
                    self.freed.notify_one();
                    return Err(refusal);
                }
                None => freed.await,
            }
        }
    }

    /// Counts a call that was made before the first attempt.
    pub(crate) fn also(&self, name: &str, usage: Usage) {
        let cost = self.cost_of(0.0, &usage);
        let mut inner = self.lock();
        inner.ended += cost;
        inner.spent.add(Some(name.to_owned()), usage);
    }

    fn try_enter(&self, worst: f64) -> Option<Result<(), Error>> {
        let made = self.made();
        let mut inner = self.lock();
        if let Some(limit) = self.limit {
            if let Some(refusal) = &inner.refusal {
                return Some(Err(refusal.clone()));
            }
            let spent = inner.ended + self.prices.requests(&made);
            if spent + inner.at_worst + worst + self.end > limit {
                if inner.under_way > 0 {
                    return None;
                }
                let refusal = Error::invalid(format!(
                    "{} of --max-usd {} are spent, and the next task may cost {}",
                    usd(spent),
                    usd(limit),
                    usd(worst + self.end)
                ))
                .hint("the same command with a higher --max-usd goes on from here");
                inner.refusal = Some(refusal.clone());
                return Some(Err(refusal));
            }
        }
        inner.under_way += 1;
        inner.at_worst += worst;
        Some(Ok(()))
    }

    /// Why no more is sent, where that is so.
    pub fn refusal(&self) -> Option<Error> {
        self.lock().refusal.clone()
    }

    /// What has been spent so far; what is under way is left out.
    pub fn spent(&self) -> Spent {
        let made = self.made();
        let inner = self.lock();
        let mut spent = inner.spent.clone();
        spent.requests = spent.requests.plus(made);
        spent.usd = inner.ended + self.prices.requests(&made);
        spent
    }

    /// Requests of this process that are paid for.
    fn made(&self) -> Requests {
        self.counted.iter().map(Store::requests).fold(Requests::default(), Requests::plus)
    }

    fn worst_of(&self, task: Task) -> f64 {
        let time = self.fleet.map_or(0.0, |fleet| {
            let ms = fleet.timeout.as_millis() as u64;
            fleet.gb_seconds(ms) * self.prices.gb_second + self.prices.invocation
        });
        let of = |stage: usize| self.worst.get(stage).copied().unwrap_or_default();
        time + match task {
            Task::Segment { stage, first, end } => of(stage).0 * (end - first) as f64,
            Task::Advance { stage, .. } => of(stage).0 + of(stage).1,
        }
    }

    /// What an attempt came to, from what it is known to have taken.
    fn cost_of(&self, worst: f64, usage: &Usage) -> f64 {
        let Some(fleet) = self.fleet else { return 0.0 };
        let memory_mib = if usage.memory_mib > 0 { usage.memory_mib } else { fleet.memory_mib };
        let fleet = Fleet { memory_mib, ..fleet };
        let time = fleet.gb_seconds(usage.billed_ms) * self.prices.gb_second + self.prices.invocation;
        match &usage.requests {
            Some(requests) => time + self.prices.requests(requests),
            None => time.max(worst - fleet.gb_seconds(fleet.timeout.as_millis() as u64) * self.prices.gb_second),
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Nothing in here panics, and numbers are whole whatever happened.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Held while an attempt is under way. Dropped before it has ended, it counts at its worst: nobody will hear what it took.
#[derive(Debug)]
pub(crate) struct Entered<'a> {
    budget: &'a Budget,
    worst: f64,
    settled: bool,
}

impl Entered<'_> {
    /// The attempt has ended.
    pub(crate) fn ended(mut self, task: Task, used: &Used) {
        // One that ended without a word of its time is not known either.
        let usage = used.get().filter(|usage| usage.billed_ms > 0);
        self.settle(Some(task), usage);
    }

    /// It was not sent, or refused before it began: that costs nothing.
    pub(crate) fn never_sent(mut self) {
        self.leave();
    }

    fn settle(&mut self, task: Option<Task>, usage: Option<Usage>) {
        let Self { budget, worst, .. } = *self;
        let cost = match (&usage, budget.fleet) {
            (Some(usage), _) => budget.cost_of(worst, usage),
            (None, Some(_)) => worst,
            // What a worker of this process asks for is counted by its store.
            (None, None) => 0.0,
        };
        let mut inner = budget.lock();
        inner.ended += cost;
        let spent = &mut inner.spent;
        if let Some(usage) = usage {
            spent.add(task.map(|task| TaskName::from(task).to_string()), usage);
        } else if budget.fleet.is_some() {
            spent.invocations += 1;
            spent.unknown += 1;
        }
        drop(inner);
        self.leave();
    }

    /// Makes room for others.
    fn leave(&mut self) {
        let Self { budget, worst, .. } = *self;
        self.settled = true;
        let mut inner = budget.lock();
        inner.under_way -= 1;
        // Rounding must not leave a little of what is gone.
        inner.at_worst = if inner.under_way == 0 { 0.0 } else { inner.at_worst - worst };
        drop(inner);
        budget.freed.notify_one();
    }
}

impl Drop for Entered<'_> {
    fn drop(&mut self) {
        if !self.settled {
            self.settle(None, None);
        }
    }
}

#[cfg(test)]
mod tests;
