//! `voxmill replay`: one task of a run once more, on this machine and beside the run: what it writes goes to a folder of its
//! own and is compared with what the run has. For looking at a task that failed, or was slow.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use pipeline::plan::Plan;
use pipeline::plan::memory::Resources;
use pipeline::publish::Manifest;
use pipeline::state::State;
use pipeline::store::{Store, Stores};
use pipeline::task::{Answer, Attempt, Receipt, Task, TaskName, Worker, Written};
use pipeline::{Error, Result, layout};
use serde::Serialize;

use crate::run::wall_clock;
use crate::units;

/// What a replayed task did.
#[derive(Debug, Serialize)]
pub(crate) struct Replayed {
    /// The task.
    task: String,
    /// Its stage.
    stage: String,
    seconds: f64,
    /// Objects of the answers and of the scratch that are as the run has them.
    same: u64,
    /// Objects that the run does not have, or not any more.
    unknown: u64,
    /// Objects that differ.
    differ: Vec<String>,
    /// Where they were written, if they were to be kept.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<PathBuf>,
}

impl Replayed {
    /// Ends well when nothing differs.
    ///
    /// # Errors
    /// Data, naming what does.
    pub(crate) fn verdict(&self) -> Result<()> {
        let Some(first) = self.differ.first() else { return Ok(()) };
        Err(Error::data(format!(
            "{} of the objects of task {} are not what the run has: {first} is the first",
            self.differ.len(),
            self.task
        ))
        .hint("`voxmill verify` looks at all answers of a run"))
    }
}

impl fmt::Display for Replayed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (time, objects) = (units::duration(self.seconds), self.same + self.unknown + self.differ.len() as u64);
        writeln!(f, "task       {} ({})", self.task, self.stage)?;
        write!(f, "objects    {objects} in {time}: {} as the run has them", self.same)?;
        if self.unknown > 0 {
            write!(f, ", {} that it does not have", self.unknown)?;
        }
        match &self.to {
            Some(to) => write!(f, "\nwritten to {}", to.display()),
            None => Ok(()),
        }
    }
}

/// Runs a task of the run in `output` again and compares what it writes.
///
/// # Errors
/// Invalid when there is no such run or task, or when what the task needs is gone; else what the task failed with.
pub(crate) async fn replay(
    stores: &Stores,
    output: &str,
    name: TaskName,
    to: Option<PathBuf>,
    resources: &Resources,
) -> Result<Replayed> {
    let store = stores.open(output).await?;
    let manifest = Manifest::read(&store).await?;
    let stored = Plan::read(&store).await?;
    let (plan, kept) = match (stored, &manifest) {
        (Some(plan), _) => (plan, true),
        (None, Some(manifest)) => (manifest.plan.clone(), false),
        (None, None) => {
            return Err(Error::invalid(format!("there is no run in {}", store.url()))
                .hint("name the folder that was given to `voxmill run` with -o"));
        }
    };
    let task = task_of(&store, &plan, name, kept).await?;
    let folder = match &to {
        Some(folder) => Folder::Named(folder.clone()),
        None => {
            Folder::Passing(tempfile::tempdir().map_err(|e| Error::unavailable(format!("no folder to work in: {e}")))?)
        }
    };
    let beside = Store::open(&folder.path().to_string_lossy())?;
    if !beside.list("").await?.is_empty() {
        return Err(
            Error::invalid(format!("{} is not empty", beside.url())).hint("name an empty or a new folder with --to")
        );
    }
    // What the task itself has left would keep it from being done again.
    let fingerprint = &plan.stages[name.stage].fingerprint;
    let (own, expected) = match task {
        Task::Segment { first, .. } => {
            let receipt = if kept { Receipt::read(&store, &plan, name.stage, first).await? } else { None };
            (layout::receipt(fingerprint, first), receipt.map(|receipt| receipt.written))
        }
        Task::Advance { .. } => (plan.state_key(name.stage), None),
    };
    let expected =
        expected.or(manifest.map(|manifest| [manifest.written, manifest.documents].concat())).unwrap_or_default();
    let worker_store = store.beneath(beside.clone(), own.clone());
    let plan = Arc::new(plan);
    let worker = Worker::open(stores, worker_store, Arc::clone(&plan), resources, wall_clock()).await?;
    let started = Instant::now();
    let attempt = Attempt { plan: plan.id.clone(), task, deadline: None, not_after: None };
    match worker.run(&attempt, |_| {}).await? {
        Answer::Done { .. } | Answer::Advanced(_) => {}
    }
    let mut replayed = Replayed {
        task: name.to_string(),
        stage: plan.stage_name(&plan.stages[name.stage]),
        seconds: started.elapsed().as_secs_f64(),
        same: 0,
        unknown: 0,
        differ: Vec::new(),
        to,
    };
    for entry in beside.list("").await? {
        match compare(&store, &beside, &entry.key, &expected, entry.key == own).await? {
            Some(true) => replayed.same += 1,
            Some(false) => replayed.differ.push(entry.key),
            None => replayed.unknown += 1,
        }
    }
    Ok(replayed)
}

/// Whether an object is as the run has it; none when the run has none.
async fn compare(
    store: &Store,
    beside: &Store,
    key: &str,
    expected: &[Written],
    is_record: bool,
) -> Result<Option<bool>> {
    let Some(ours) = beside.get(key).await? else { return Ok(None) };
    if let Some(written) = expected.iter().find(|written| written.key == key) {
        return Ok(Some(written.is_of(&ours.bytes)));
    }
    let Some(theirs) = store.get(key).await? else { return Ok(None) };
    // A record may speak of another part of its stage.
    Ok((theirs.bytes == ours.bytes || !is_record).then_some(theirs.bytes == ours.bytes))
}

/// The task of that name, if there is one and it can be run.
async fn task_of(store: &Store, plan: &Plan, name: TaskName, kept: bool) -> Result<Task> {
    let no_such = |why: String| {
        Error::invalid(format!("there is no task {name}: {why}"))
            .hint("`voxmill status` and run.json name the tasks that failed")
    };
    if name.stage >= plan.stages.len() {
        return Err(no_such(format!("the run has {} stages", plan.stages.len())));
    }
    if !kept && name.stage > 0 {
        return Err(Error::invalid(format!(
            "the scratch of the finished run in {} is gone: of its tasks, those of stage 1 can be run again",
            store.url()
        ))
        .hint("a run with --keep leaves it in place"));
    }
    let before = match name.stage {
        0 => Some(plan.first_state()),
        stage => State::read(store, plan, stage - 1).await?,
    };
    let before = before.ok_or_else(|| no_such(format!("the run has not reached stage {}", name.stage + 1)))?;
    match name.units {
        Some((_, end)) if end > before.units => {
            Err(no_such(format!("stage {} has {} units", name.stage + 1, before.units)))
        }
        Some((first, end)) => Ok(Task::Segment { stage: name.stage, first, end }),
        None if !kept => Err(no_such("the receipts of the run are gone".into())),
        None => Ok(Task::Advance { stage: name.stage, units: before.units }),
    }
}

/// Where a task writes.
enum Folder {
    Named(PathBuf),
    /// Gone when nobody looks at it any more.
    Passing(tempfile::TempDir),
}

impl Folder {
    fn path(&self) -> &std::path::Path {
        match self {
            Folder::Named(path) => path,
            Folder::Passing(folder) => folder.path(),
        }
    }
}
