//! An executor that does what its script says, on a store in memory, in time that passes only while all wait.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Mutex;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use async_trait::async_trait;
use object_store::memory::InMemory;
use pipeline::array::{Geometry, Pick};
use pipeline::fence::Moment;
use pipeline::job::Job;
use pipeline::plan::Input;
use pipeline::plan::build::{self, InputImage, Wishes};
use pipeline::plan::memory::Resources;
use pipeline::task::Attempt;
use serde_json::json;
use tokio::time::{Instant, sleep};
use voxel::{Dtype, Extent};

use super::super::*;
use crate::executor::{Began, Terms, Usage, Used};
use crate::price::Budget;

/// What becomes of an attempt.
#[derive(Clone, Debug)]
pub(super) enum Act {
    /// Done after so many seconds; one where nothing else is said.
    Takes(u64),
    /// Waits so long for a worker, and is then done in a second.
    Queues(u64),
    /// Only the units before this one.
    Part(u64),
    Fails(Error),
    /// Begins, and nothing is heard of it.
    Hangs,
    /// Done, but the answer is an error.
    LosesReply,
    /// Done, but nothing is heard of it.
    FallsSilent,
}

/// A plan of one counting stage and the publishing, its store, and what workers will do.
pub(super) struct Bench {
    pub(super) plan: Plan,
    pub(super) store: Store,
    pub(super) executor: Arc<Scripted>,
    clock: Clock,
    pub(super) failures_most: usize,
    pub(super) lease: u64,
    pub(super) budget: Budget,
    /// Attempts of the last run of which something may still be on its way.
    pub(super) unsettled: AtomicU64,
}

pub(super) struct Scripted {
    plan: Plan,
    store: Store,
    terms: Terms,
    /// By the first unit of the task, in the first stage; the decision that ends it is under `END`.
    script: Mutex<BTreeMap<u64, VecDeque<Act>>>,
    sent: Mutex<Vec<(Task, Duration)>>,
    started: Instant,
    under_way: Mutex<(usize, usize)>,
    /// What each attempt says that it took, if anything.
    pub(super) usage: Mutex<Option<Usage>>,
}

/// Stands for the decision that ends the first stage.
pub(super) const END: u64 = u64::MAX;

impl Bench {
    /// A stage of so many units, ten to a segment.
    pub(super) fn new(units: usize, terms: Terms) -> Self {
        let input = Input {
            url: "memory/in.zarr".into(),
            pick: Pick::default(),
            fingerprint: "f".into(),
            dtype: Dtype::U8,
            chunk: [4; 3],
            shard: None,
            chunk_bytes: 64,
            codec: None,
            offset: [0; 3],
        };
        let extent = Extent { shape: [4 * units, 4, 4], planar: false };
        let image = InputImage { input, extent, geometry: Geometry::unknown(false), mask: None, intensity: None };
        let wishes = Wishes { block: Some([4; 3]), segment: Some(10), ..Wishes::default() };
        let resources = Resources { memory_bytes: 1 << 30, threads: 1, merge_bytes: None };
        let plan = build::plan(&Job::new("in.zarr"), &image, &wishes, &resources).unwrap();
        assert_eq!((plan.grid.units(), plan.stages.len()), (units as u64, 2));
        let store = Store::over(Arc::new(InMemory::new()), "memory");
        let started = Instant::now();
        let executor = Arc::new(Scripted {
            plan: plan.clone(),
            store: store.clone(),
            terms,
            script: Mutex::default(),
            sent: Mutex::default(),
            started,
            under_way: Mutex::default(),
            usage: Mutex::default(),
        });
        let clock = Clock::new(move || Moment(1_000_000 + started.elapsed().as_millis() as u64));
        Self {
            plan,
            store,
            executor,
            clock,
            failures_most: 0,
            lease: 1,
            budget: Budget::unlimited(),
            unsettled: AtomicU64::new(0),
        }
    }

    /// What becomes of the attempts at the task that begins with this unit.
    pub(super) fn when(self, first: u64, acts: impl IntoIterator<Item = Act>) -> Self {
        self.executor.script.lock().unwrap().insert(first, acts.into_iter().collect());
        self
    }

    pub(super) async fn run(&self) -> Ended {
        self.run_on(&(self.executor.clone() as Arc<dyn Executor>)).await
    }

    /// The same plan on another executor.
    pub(super) async fn run_on(&self, executor: &Arc<dyn Executor>) -> Ended {
        let hold = Hold::alone(self.lease);
        let ended = run(&Dispatch {
            plan: &self.plan,
            store: &self.store,
            executor,
            progress: &Progress::new(true),
            clock: &self.clock,
            hold: &hold,
            budget: &self.budget,
            failures_most: self.failures_most,
            seed: SEED,
        })
        .await;
        self.unsettled.store(hold.unsettled(), Ordering::Relaxed);
        ended
    }

    /// Seconds after the start at which the task that begins with this unit was sent.
    pub(super) fn sent(&self, first: u64) -> Vec<u64> {
        let of = |task: &Task| match task {
            Task::Segment { stage: 0, first, .. } => *first,
            Task::Advance { stage: 0, .. } => END,
            _ => END - 1,
        };
        let sent = self.executor.sent.lock().unwrap();
        sent.iter().filter(|(task, _)| of(task) == first).map(|(_, at)| at.as_secs()).collect()
    }

    /// Attempts that were under way at once, at most.
    pub(super) fn most_at_once(&self) -> usize {
        self.executor.under_way.lock().unwrap().1
    }

    pub(super) fn seconds(&self) -> u64 {
        self.executor.started.elapsed().as_secs()
    }
}

/// Of the pauses in these tables.
pub(super) const SEED: u64 = 7;

impl Scripted {
    async fn leave(&self, task: Task) -> Answer {
        match task {
            Task::Segment { stage, first, end } => {
                let stage = &self.plan.stages[stage].fingerprint;
                let receipt = json!({ "plan": self.plan.id, "stage": stage, "first": first, "end": end });
                serde_json::from_value::<Receipt>(receipt).unwrap().write(&self.store).await.unwrap();
                Answer::Done { end }
            }
            Task::Advance { stage, .. } => {
                let state = State { units: 1 - stage as u64, ..State::default() };
                state.create(&self.store, &self.plan, stage).await.unwrap();
                Answer::Advanced(Box::new(state))
            }
        }
    }

    async fn act(&self, task: Task, began: &Began) -> Result<Answer> {
        let key = match task {
            Task::Segment { stage: 0, first, .. } => first,
            Task::Advance { stage: 0, .. } => END,
            _ => END - 1,
        };
        let act = self.script.lock().unwrap().get_mut(&key).and_then(VecDeque::pop_front).unwrap_or(Act::Takes(1));
        if let Act::Queues(seconds) = act {
            sleep(Duration::from_secs(seconds)).await;
        }
        began.now();
        match act {
            Act::Takes(seconds) => sleep(Duration::from_secs(seconds)).await,
            _ => sleep(Duration::from_secs(1)).await,
        }
        match (act, task) {
            (Act::Fails(error), _) => Err(error),
            (Act::Hangs, _) => std::future::pending().await,
            (Act::LosesReply, _) => {
                self.leave(task).await;
                Err(Error::unavailable("the line broke"))
            }
            (Act::FallsSilent, _) => {
                self.leave(task).await;
                std::future::pending().await
            }
            (Act::Part(end), Task::Segment { stage, first, .. }) => {
                Ok(self.leave(Task::Segment { stage, first, end }).await)
            }
            _ => Ok(self.leave(task).await),
        }
    }
}

/// Counts an attempt as long as it lives.
struct UnderWay<'a>(&'a Mutex<(usize, usize)>);

impl<'a> UnderWay<'a> {
    fn new(counts: &'a Mutex<(usize, usize)>) -> Self {
        let mut now = counts.lock().unwrap();
        now.0 += 1;
        now.1 = now.1.max(now.0);
        Self(counts)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.lock().unwrap().0 -= 1;
    }
}

#[async_trait]
impl Executor for Scripted {
    async fn run(&self, attempt: &Attempt, began: &Began, used: &Used) -> Result<Answer> {
        let _under_way = UnderWay::new(&self.under_way);
        assert_eq!(attempt.plan, self.plan.id);
        assert_eq!(attempt.not_after.is_some(), self.terms.attempt_limit.is_some());
        assert!(attempt.deadline <= attempt.not_after);
        self.sent.lock().unwrap().push((attempt.task, self.started.elapsed()));
        let answer = self.act(attempt.task, began).await;
        // What was refused was not begun.
        let refused = answer.as_ref().is_err_and(|error| error.throttled.is_some());
        if let Some(usage) = self.usage.lock().unwrap().filter(|_| !refused) {
            used.set(usage);
        }
        answer
    }

    fn terms(&self) -> Terms {
        self.terms
    }
}
