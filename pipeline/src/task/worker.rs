//! The worker: what a process needs to carry out the tasks of one plan, opened once.

use std::collections::HashMap;
use std::convert::Infallible;
use std::future::pending;
use std::sync::Arc;

use futures::future::BoxFuture;
use futures::stream::FuturesUnordered;
use futures::{FutureExt, StreamExt};
use tokio::sync::{Mutex, Semaphore, SemaphorePermit, mpsc};
use tokio::task::JoinSet;
use voxel::pyramid::Halving;
use voxel::{Dtype, Extent};

use super::crew::Crew;
use super::turns::Turns;
use super::{Answer, Attempt, Receipt, Task, Written, advance};
use crate::array::{Array, ArraySpec, ChunkCache};
use crate::count::Partial;
use crate::fence::{Clock, Fence, Guard, Moment};
use crate::map::{self, Done, labels};
use crate::op::{Label, Op};
use crate::plan::memory::{self, Limits, Projection, Resources};
use crate::plan::{Leaf, Plan, Rows, StageKind, TableId};
use crate::pyramid::Shrink;
use crate::reduce::rank::{self, Keep};
use crate::reduce::{contacts, down, seam, table, up};
use crate::scratch::{Tag, Writer};
use crate::sources::Sources;
use crate::state::State;
use crate::store::{Requests, Store, Stores};
use crate::{Error, Result, layout, process, publish};

/// Carries out the tasks of one plan. Clones share everything but the store they write to.
#[derive(Clone)]
pub struct Worker {
    pub(crate) store: Store,
    pub(crate) plan: Arc<Plan>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) cache: ChunkCache,
    limits: Arc<[Limits]>,
    gates: Arc<[Gate]>,
    stored: Arc<Mutex<HashMap<usize, Array>>>,
    states: Arc<Mutex<HashMap<usize, Arc<State>>>>,
    clock: Clock,
    threads: usize,
}

/// How many units of a stage are worked on at once, and by whom.
pub(crate) struct Gate {
    units: Units,
    compute: Semaphore,
    keeps_shared: bool,
}

/// Who works on the units that are in memory.
enum Units {
    /// A task of the runtime for each: those being computed, and those being read or written meanwhile.
    Tasks(Turns),
    /// Threads, each of which also reads and writes what it computes.
    Threads(Crew),
}

impl Gate {
    /// `threads` where units are carried out by threads.
    fn new(limits: &Limits, threads: Option<usize>) -> Self {
        let units = match threads {
            Some(threads) => Units::Threads(Crew::new(limits.at_once.min(threads))),
            None => Units::Tasks(Turns::new(limits.at_once + limits.beside)),
        };
        Self { units, compute: Semaphore::new(limits.at_once), keeps_shared: limits.keeps_shared }
    }

    /// How many threads carry out units, one each, outside the runtime; `None` where tasks of the runtime do.
    pub(crate) fn threads(&self) -> Option<usize> {
        match &self.units {
            Units::Threads(crew) => Some(crew.most()),
            Units::Tasks(_) => None,
        }
    }

    /// Whether decoded chunks are kept for all who read them.
    pub(crate) fn keeps_shared(&self) -> bool {
        self.keeps_shared
    }

    /// Waits until there is a core to compute on.
    pub(crate) async fn compute(&self) -> Result<SemaphorePermit<'_>> {
        self.compute.acquire().await.map_err(closed)
    }
}

/// Joins the histograms of a unit with those of the units before it.
fn join(counts: &mut Vec<Partial>, more: Vec<Partial>) {
    if counts.is_empty() {
        *counts = more;
    } else {
        counts.iter_mut().zip(more).for_each(|(mine, other)| mine.merge(other));
    }
}

/// What the task of a unit gave.
async fn ended(mut task: JoinSet<Result<Done>>) -> Result<Done> {
    let ended = task.join_next().await.ok_or_else(|| Error::internal("a unit was never begun"))?;
    ended.unwrap_or_else(|e| Err(Error::internal(format!("a unit did not end well: {e}"))))
}

fn closed(_: tokio::sync::AcquireError) -> Error {
    Error::internal("a stage was closed while it ran")
}

impl Worker {
    /// Opens what the plan reads, with `stores`. `store` is the output.
    pub async fn open(
        stores: &Stores,
        store: Store,
        plan: Arc<Plan>,
        resources: &Resources,
        clock: Clock,
    ) -> Result<Self> {
        let Projection { stages, .. } = memory::project(&plan, resources)?;
        let sources = Arc::new(Sources::open(stores, &plan).await?);
        let limits: Vec<Limits> = stages.iter().map(|stage| stage.limits).collect();
        let on_disks = store.all_on_disk() && sources.all_on_disk();
        let gates = limits.iter().map(|limits| Gate::new(limits, on_disks.then_some(resources.threads))).collect();
        Ok(Self {
            store,
            plan,
            sources,
            cache: ChunkCache::new(0),
            gates,
            limits: limits.into(),
            stored: Arc::default(),
            states: Arc::default(),
            clock,
            threads: resources.threads,
        })
    }

    /// What the plan reads.
    pub fn sources(&self) -> &Sources {
        &self.sources
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.threads
    }

    /// What has been asked of the output and of what is read since they were opened.
    pub fn requests(&self) -> Requests {
        self.store.requests().plus(self.sources.requests())
    }

    /// Carries out an attempt at a task. `unit_done` hears of every unit that is done, with its number of voxels where it
    /// has any.
    ///
    /// # Errors
    /// Internal when the attempt is of another plan; Unavailable when its time is over; else what a unit failed with.
    pub async fn run(&self, attempt: &Attempt, unit_done: impl Fn(u64) + Send) -> Result<Answer> {
        if attempt.plan != self.plan.id {
            let (theirs, ours) = (&attempt.plan, &self.plan.id);
            return Err(Error::internal(format!("a task of the plan {theirs} came to a worker of {ours}")));
        }
        let mut worker = self.clone();
        if let Some(not_after) = attempt.not_after {
            worker.store = self.store.fenced(Fence { clock: self.clock.clone(), not_after });
        }
        // Whoever stops waiting for this attempt may go on with the output, while a thread still computes for it.
        let (here, heard) =
            (Arc::new(()), Error::unavailable("nobody waits for this attempt, so it writes nothing more"));
        let attended = Arc::downgrade(&here);
        worker.store = worker.store.guarded(Guard::new(move || match attended.strong_count() {
            0 => Err(heard.clone()),
            _ => Ok(()),
        }));
        let worker = Arc::new(worker);
        match attempt.task {
            Task::Segment { stage, first, end } => worker.segment(stage, first, end, attempt.deadline, unit_done).await,
            Task::Advance { stage, units } => advance::advance(&worker, stage, units).await,
        }
    }

    async fn segment(
        self: &Arc<Self>,
        stage: usize,
        first: u64,
        end: u64,
        deadline: Option<Moment>,
        unit_done: impl Fn(u64),
    ) -> Result<Answer> {
        if let Some(receipt) = Receipt::read(&self.store, &self.plan, stage, first).await? {
            return Ok(Answer::Done { end: receipt.end });
        }
        // What an earlier stage could afford to keep may be more than there is room for beside this one.
        self.cache.keep(self.limits[stage].cache_bytes as usize);
        process::allow(self.limits[stage].buffer_bytes);
        // Held by every unit, so that it is known when none goes on.
        let (busy, mut idle) = mpsc::channel(1);
        let mut running = FuturesUnordered::new();
        let (mut next, mut end, mut done, mut counts) = (first, end, Vec::new(), Vec::new());
        loop {
            // What has begun is finished, so that the receipt speaks of all units up to one. The first always begins: a
            // segment that never does anything would be sent for ever.
            if next > first && deadline.is_some_and(|deadline| self.clock.now() >= deadline) {
                end = next;
            }
            // Asked after the deadline, which may leave nothing to begin when nothing runs.
            if next >= end && running.is_empty() {
                break;
            }
            tokio::select! {
                unit = self.begin(stage, next, running.len(), &busy), if next < end => {
                    running.push(unit);
                    next += 1;
                }
                Some((unit, result)) = running.next() => {
                    let mut result = match result {
                        Ok(result) => result,
                        Err(error) => {
                            // Nothing of this attempt goes on once it has been answered.
                            drop((running, busy));
                            idle.recv().await;
                            return Err(error);
                        }
                    };
                    unit_done(unit);
                    // Joined at once: a histogram for each unit of a long segment would fill the memory.
                    join(&mut counts, std::mem::take(&mut result.partials));
                    done.push((unit, result));
                }
            }
        }
        done.sort_by_key(|(unit, _)| *unit);
        let done = done.into_iter().map(|(_, done)| done).collect();
        let end = self.write_receipt(stage, first, end, done, counts).await?;
        Ok(Answer::Done { end })
    }

    /// Waits until a unit may begin, where a segment has `running` others under way; gives what carries it out.
    async fn begin(
        self: &Arc<Self>,
        stage: usize,
        unit: u64,
        running: usize,
        busy: &mpsc::Sender<Infallible>,
    ) -> BoxFuture<'static, (u64, Result<Done>)> {
        let (this, busy) = (Arc::clone(self), busy.clone());
        match &self.gates[stage].units {
            Units::Tasks(turns) => {
                let turn = turns.of(unit).await;
                // A set of one, since a set that is dropped stops what it has begun.
                let mut task = JoinSet::new();
                task.spawn(async move {
                    let done = this.unit(stage, unit).await;
                    drop((turn, busy));
                    done
                });
                async move { (unit, ended(task).await) }.boxed()
            }
            Units::Threads(crew) if running < crew.wanted() => {
                let crew = crew.clone();
                let work = async move {
                    let done = this.unit(stage, unit).await;
                    drop(busy);
                    done
                };
                async move { (unit, crew.carry(unit, work).await) }.boxed()
            }
            Units::Threads(_) => pending().await,
        }
    }

    /// Writes what the segment counted, then its receipt; gives the end of the receipt that stands.
    async fn write_receipt(
        &self,
        stage: usize,
        first: u64,
        end: u64,
        done: Vec<Done>,
        counts: Vec<Partial>,
    ) -> Result<u64> {
        let fingerprint = &self.plan.stages[stage].fingerprint;
        let mut receipt = Receipt {
            plan: self.plan.id.clone(),
            stage: fingerprint.clone(),
            first,
            end,
            written: Vec::new(),
            read: Default::default(),
            missing_chunks: 0,
            contributions: Vec::new(),
            rows: Vec::new(),
        };
        for unit in done {
            receipt.written.extend(unit.written);
            receipt.read.extend(unit.read);
            receipt.missing_chunks += unit.missing_chunks;
            receipt.contributions.extend(unit.contributions.into_iter().filter(|c| c.rows > 0));
            receipt.rows.extend(unit.rows);
        }
        if !counts.is_empty() {
            let mut out = Writer::create(&self.store, &layout::tally(fingerprint, first, end)).await?;
            for (i, partial) in counts.iter().enumerate() {
                out.section(Tag::Tally, i as u64, &partial.encode()).await?;
            }
            out.finish().await?;
        }
        receipt.write(&self.store).await
    }

    /// One unit of a stage.
    async fn unit(&self, stage: usize, unit: u64) -> Result<Done> {
        let (plan, gate, this) = (&self.plan, &self.gates[stage], &self.plan.stages[stage]);
        let merge_bytes = self.limits[stage].merge_bytes;
        match &this.kind {
            StageKind::Map(pass) => map::block(self, gate, stage, pass, unit).await,
            StageKind::Relabel { step } => labels::relabel(self, gate, stage, *step, unit).await,
            StageKind::Seam { step } => {
                let connectivity = match plan.ops.get(*step) {
                    Some(Op::Label(label)) => label.connectivity,
                    Some(Op::FillHoles { connectivity }) => *connectivity,
                    _ => return Err(Error::internal("a step that merges no labels has seams")),
                };
                let _permit = gate.compute().await?;
                let seams = seam::Seams {
                    store: &self.store,
                    grid: plan.grid,
                    fanout: plan.merge.fanout,
                    connectivity,
                    blocks: &plan.up_stage(*step, 0),
                    stage: &this.fingerprint,
                };
                seam::join(&seams, unit).await?;
                Ok(Done::default())
            }
            StageKind::Up { step, level } => {
                let _permit = gate.compute().await?;
                let group = up::Group {
                    store: &self.store,
                    tree: plan.tree(),
                    level: *level,
                    unit,
                    step: *step,
                    below: &plan.up_stage(*step, level - 1),
                    seam: plan.seam_stage(*step),
                    stage: &this.fingerprint,
                    kind: plan.rows_kind(*step),
                    limit_bytes: merge_bytes,
                };
                Ok(Done { contributions: vec![up::join(&group).await?], ..Done::default() })
            }
            StageKind::Rank(table) => {
                let _permit = gate.compute().await?;
                let state = self.state_before(stage).await?;
                Ok(Done { rows: Some(self.rank(stage, *table, &state, unit).await?), ..Done::default() })
            }
            StageKind::Down { step, level } => {
                let _permit = gate.compute().await?;
                let state = self.state_before(stage).await?;
                let above = plan.down_stage(*step, level + 1);
                let group = down::Group {
                    store: &self.store,
                    tree: plan.tree(),
                    level: *level,
                    unit,
                    up: &plan.up_stage(*step, *level),
                    above: (!above.is_empty()).then_some(above),
                    stage: &this.fingerprint,
                    labels: rank::Labels::of(&self.store, plan, &state, TableId { step: *step, of: Rows::Objects })?,
                    kind: plan.rows_kind(*step),
                    limit_bytes: merge_bytes,
                };
                down::hand_down(&group).await?;
                Ok(Done::default())
            }
            StageKind::Table(table) => {
                let _permit = gate.compute().await?;
                let state = self.state_before(stage).await?;
                table::encode(&self.store, plan, &state, *table, unit).await?;
                Ok(Done::default())
            }
            StageKind::Level { image, level } => {
                let state = self.state_before(stage).await?;
                let _permit = gate.compute().await?;
                Ok(Done { written: self.level_object(&state, *image, *level, unit).await?, ..Done::default() })
            }
            StageKind::Publish => {
                let _permit = gate.compute().await?;
                let state = self.state_before(stage).await?;
                Ok(Done { written: publish::publish(&self.store, plan, &state).await?, ..Done::default() })
            }
        }
    }

    /// Merges one range of a table's rows; gives the number of rows kept.
    async fn rank(&self, stage: usize, table: TableId, state: &State, range: u64) -> Result<u64> {
        let (plan, Limits { ahead_bytes, .. }) = (&self.plan, self.limits[stage]);
        let stage = plan.stages[stage].fingerprint.as_str();
        let Some(ranked) = state.ranked(table) else {
            return Err(Error::internal("ranges are merged that nobody cut"));
        };
        let ranges = rank::Ranges { store: &self.store, plan, table, cuts: &ranked.cuts, stage, ahead_bytes };
        if table.of == Rows::Contacts {
            return contacts::merge(&ranges, range).await;
        }
        let all = Keep { min_voxels: 1, max_voxels: u64::MAX, clear_border: false };
        let (keep, joins_keys) = match plan.ops.get(table.step) {
            Some(Op::Label(Label { min_voxels, max_voxels, clear_border, .. })) => {
                (Keep { min_voxels: *min_voxels, max_voxels: *max_voxels, clear_border: *clear_border }, false)
            }
            // Background that reaches the border is no hole.
            Some(Op::FillHoles { .. }) => (Keep { clear_border: true, ..all }, false),
            _ => (all, true),
        };
        let (columns, kind) = (plan.columns(table.step), plan.rows_kind(table.step));
        rank::merge(&ranges, &rank::Finish { columns, kind, keep, joins_keys }, range).await
    }

    /// What was decided before a stage starts.
    pub(crate) async fn state_before(&self, stage: usize) -> Result<Arc<State>> {
        let Some(before) = stage.checked_sub(1) else { return Ok(Arc::new(self.plan.first_state())) };
        let mut states = self.states.lock().await;
        if let Some(state) = states.get(&before) {
            return Ok(Arc::clone(state));
        }
        let state = State::read(&self.store, &self.plan, before).await?;
        let state =
            Arc::new(state.ok_or_else(|| Error::internal("a stage starts before the one before it has ended"))?);
        states.insert(before, Arc::clone(&state));
        Ok(state)
    }

    /// Makes an object of a level of an image of the level before, and writes it under each of the image's names.
    async fn level_object(&self, state: &State, image: usize, level: usize, unit: u64) -> Result<Vec<Written>> {
        let plan = &self.plan;
        let stored = plan.stored(image).ok_or_else(|| Error::internal("levels are made of an image nobody kept"))?;
        let dtype = state.dtype(plan, image);
        let at = |level: usize| ArraySpec { dtype, ..stored.level_spec(level) };
        let finer = plan.arrays_of(stored, level - 1).into_iter().next();
        let finer = self.store.child(&finer.ok_or_else(|| Error::internal("an image is kept nowhere"))?)?;
        let shrink = Shrink {
            finer: Array::unpublished(&finer, &at(level - 1))?,
            halving: Halving { factors: stored.levels[level].step, by: stored.by },
            spec: at(level),
        };
        let index = Extent { shape: shrink.spec.grid(), planar: false }.at(unit);
        let bytes = shrink.object(&self.cache, index).await?;
        let (len, crc32c, mut written) = (bytes.len() as u64, crc32c::crc32c(&bytes), Vec::new());
        for array in plan.arrays_of(stored, level) {
            let key = format!("{array}/{}", shrink.spec.key(index));
            self.store.put(&key, bytes.clone()).await?;
            written.push(Written { key, bytes: len, crc32c });
        }
        Ok(written)
    }

    /// The array of an image that an earlier stage has put somewhere.
    pub(crate) async fn stored(&self, image: usize) -> Result<Array> {
        let mut open = self.stored.lock().await;
        if let Some(array) = open.get(&image) {
            return Ok(array.clone());
        }
        let stored =
            self.plan.stored(image).ok_or_else(|| Error::internal("a pass reads an image that nobody kept"))?;
        let Some(key) = self.plan.arrays_of(stored, 0).into_iter().next() else {
            return Err(Error::internal("an image is kept nowhere"));
        };
        let dtype = self.dtype_of_stored(image).await?;
        let spec = ArraySpec { dtype, ..stored.spec.clone() };
        let array = Array::unpublished(&self.store.child(&key)?, &spec)?;
        open.insert(image, array.clone());
        Ok(array)
    }

    /// The element type an image was written in, from the state that the stage which wrote it began with.
    async fn dtype_of_stored(&self, image: usize) -> Result<Dtype> {
        if self.plan.given.images.contains(&image) {
            return Ok(self.plan.given.state.dtype(&self.plan, image));
        }
        let writes = |kind: &StageKind| match kind {
            StageKind::Map(pass) => pass.leaves.contains(&Leaf::Image(image)),
            StageKind::Relabel { step } => step + 1 == image,
            _ => false,
        };
        let stage = self.plan.stages.iter().position(|stage| writes(&stage.kind));
        let stage = stage.ok_or_else(|| Error::internal("an image is read that no stage writes"))?;
        Ok(self.state_before(stage).await?.dtype(&self.plan, image))
    }
}
