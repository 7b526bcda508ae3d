//! A run from start to end: the job meets its input and becomes a plan, the output is taken, the plan is new or an old
//! one goes on, tasks are dispatched, the run's own state is folded away.

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pipeline::array::{Array, Geometry, Pick};
use pipeline::fence::{Clock, Moment};
use pipeline::job::Job;
use pipeline::plan::build::{self, InputImage, Wishes};
use pipeline::plan::memory::{self, Projection, Resources};
use pipeline::plan::{Input, MergeSettings, Plan};
use pipeline::publish::into_input::IntoInput;
use pipeline::publish::{self, Manifest, Outputs};
use pipeline::store::Store;
use pipeline::task::Worker;
use pipeline::{Error, Kind, Result, layout};

use crate::cli::How;
use crate::dispatch::{self, Dispatch};
use crate::executor::{Executor, Local};
use crate::exit::Stop;
use crate::lock::Lock;
use crate::machine;
use crate::progress::Progress;
use crate::report::{self, Summary};
use pipeline::step::PerAxis;

/// How to run, parsed.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Memory and threads.
    pub resources: Resources,
    /// Blocks and segments that were asked for; `block` is resolved when the image is known.
    pub block: Option<PerAxis<usize>>,
    /// Units of a segment.
    pub segment: Option<u64>,
    /// Shape of the label merge.
    pub merge: MergeSettings,
    /// Replace another job's answers.
    pub overwrite: bool,
    /// Keep the run's own state.
    pub keep: bool,
    /// Put the labels into the input, too.
    pub into_input: bool,
    /// Tasks of a stage that may fail before the run stops.
    pub failures_most: usize,
    /// Say nothing.
    pub quiet: bool,
}

/// Cores of this machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// The lease of a coordinator where a lock guards the output.
const FIRST_LEASE: u64 = 1;

/// The clock of this machine.
fn wall_clock() -> Clock {
    Clock::new(|| {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Moment(since.as_millis() as u64)
    })
}

impl Settings {
    /// What the flags mean.
    pub(crate) fn of(how: &How) -> Result<Self> {
        let threads = how.workers.unwrap_or_else(cores);
        if threads == 0 || how.segment == Some(0) || how.range_rows == 0 || how.merge_fanout < 2 {
            return Err(Error::invalid(
                "--workers, --segment and --range-rows are at least 1, --merge-fanout at least 2",
            ));
        }
        let block: Option<PerAxis<usize>> =
            how.block.as_deref().map(|b| b.parse().map_err(|e: Error| e.at("--block"))).transpose()?;
        if block.as_ref().is_some_and(|b| b.values().contains(&0)) {
            return Err(Error::invalid("--block: a block has at least one voxel along each axis"));
        }
        let merge_bytes = how.merge_memory.map(|bytes| bytes.0);
        let merge = MergeSettings { fanout: how.merge_fanout, range_rows: how.range_rows, ..MergeSettings::default() };
        Ok(Self {
            resources: Resources { memory_bytes: how.memory.0, threads, merge_bytes },
            block,
            segment: how.segment,
            merge,
            overwrite: how.overwrite,
            keep: how.keep,
            into_input: how.into_input,
            failures_most: how.max_failures,
            quiet: how.quiet,
        })
    }

    /// Threads that compute.
    pub fn threads(&self) -> usize {
        self.resources.threads
    }
}

/// A job that has met its input.
pub struct Planned {
    /// What will run.
    pub plan: Plan,
    /// What it will hold.
    pub projection: Projection,
    /// Where the answers go.
    pub output: PathBuf,
    /// Memory and threads it was planned for.
    pub resources: Resources,
}

/// Plans a job without touching its output.
///
/// # Errors
/// Whatever makes the job impossible: see [`build::plan`].
pub async fn planned(job: &Job, settings: &Settings) -> Result<Planned> {
    job.validate()?;
    let pick = Pick { level: Some(job.level), channel: job.channel, time: job.time, series: job.series };
    let array = Array::open(&job.input, &pick).await?;
    let named = job.steps.iter().filter_map(|entry| entry.save.as_deref()).chain(["input"]);
    let intensity = job.intensity.as_deref().filter(|url| !named.clone().any(|name| name == *url));
    let mask = beside("mask", job.mask.as_deref(), job).await?;
    let intensity = beside("intensity", intensity, job).await?;
    let mut arrays = vec![&array];
    arrays.extend(mask.iter().chain(&intensity));
    let output = output_folder(job, &arrays)?;
    let image = InputImage {
        input: input_of(&array, &pick),
        extent: array.extent(),
        geometry: Geometry::of(&array),
        mask: mask.as_ref().map(|array| (input_of(array, &Pick::default()), array.extent())),
        intensity: intensity.as_ref().map(|array| (input_of(array, &Pick::default()), array.extent())),
    };
    let block = settings.block.as_ref().map(|b| b.resolve(image.extent.planar, 1)).transpose();
    let wishes =
        Wishes { block: block.map_err(|e| e.at("--block"))?, segment: settings.segment, merge: settings.merge };
    let plan = build::plan(job, &image, &wishes, &settings.resources)?;
    let projection = memory::project(&plan, &settings.resources)?;
    Ok(Planned { plan, projection, output, resources: settings.resources })
}

/// Opens an array that is read beside the input: of an image group the job's level, and where there is no such level, or
/// the URL names one array, what the URL names.
async fn beside(key: &str, url: Option<&str>, job: &Job) -> Result<Option<Array>> {
    let Some(url) = url else { return Ok(None) };
    let pick = Pick { level: Some(job.level), ..Pick::default() };
    let opened = match Array::open(url, &pick).await {
        // An array made of a coarser level has that level's shape, and no levels before it.
        Err(e) if e.kind == Kind::Invalid && job.level > 0 => Array::open(url, &Pick::default()).await.map_err(|_| e),
        opened => opened,
    };
    opened.map(Some).map_err(|e| e.at(format!("`{key}`")))
}

fn input_of(array: &Array, pick: &Pick) -> Input {
    Input {
        url: array.url().to_owned(),
        // The array itself was found; what remains to be picked are axes of it.
        pick: Pick { level: None, series: None, ..pick.clone() },
        fingerprint: array.fingerprint().to_owned(),
        dtype: array.dtype(),
        chunk: array.chunk(),
        chunk_bytes: array.chunk_bytes(),
        offset: [0; 3],
    }
}

/// The folder of the answers: not one of the arrays read, not inside one, and none of them among what a run writes
/// there.
fn output_folder(job: &Job, arrays: &[&Array]) -> Result<PathBuf> {
    let output = match &job.output {
        Some(output) => output.clone(),
        None => {
            let name = Path::new(job.input.trim_end_matches('/')).file_stem().map(|s| s.to_string_lossy().into_owned());
            format!("{}-voxmill", name.unwrap_or_else(|| "output".into()))
        }
    };
    let output = Store::open(&output)?;
    output.check_writable()?;
    let output = absolute(output.url());
    let mut inputs = vec![absolute(Store::open(&job.input)?.url())];
    inputs.extend(arrays.iter().map(|array| absolute(array.url())));
    if let Some(input) = inputs.iter().find(|input| output.starts_with(input)) {
        return Err(Error::invalid(format!(
            "the output {} lies inside the input {}",
            output.display(),
            input.display()
        ))
        .hint("choose another folder with -o or `output`"));
    }
    let saved = job.steps.iter().filter_map(|entry| entry.save.as_deref()).map(layout::saved_group);
    let written = [layout::LABELS, layout::IMAGE, layout::RUN].map(str::to_owned).into_iter().chain(saved);
    for written in written.map(|key| output.join(key)) {
        if let Some(input) = inputs.iter().find(|input| input.starts_with(&written)) {
            return Err(Error::invalid(format!(
                "the input {} lies in {}, which this run would write",
                input.display(),
                written.display()
            ))
            .hint("choose another folder with -o or `output`"));
        }
    }
    Ok(output)
}

/// A path with links resolved, as far as it exists.
fn absolute(path: &str) -> PathBuf {
    let path = PathBuf::from(path);
    let (mut existing, mut rest) = (path.as_path(), Vec::new());
    loop {
        if let Ok(real) = existing.canonicalize() {
            return rest.iter().rev().fold(real, |path, part| path.join(part));
        }
        match (existing.parent(), existing.file_name()) {
            (Some(parent), Some(name)) => {
                rest.push(name.to_owned());
                existing = parent;
            }
            _ => return path,
        }
    }
}

/// Runs a job to its end.
///
/// # Errors
/// See [`planned`]; further, whatever a task failed with, or that the user interrupted.
pub async fn run(job: &Job, settings: &Settings) -> Result<Summary, Stop> {
    until_interrupted(run_to_end(job, settings), "what is done is kept; the same command goes on from there").await
}

/// Runs `work` until it is done or the user presses Ctrl-C.
pub(crate) async fn until_interrupted<T, E: Into<Stop>>(
    work: impl Future<Output = Result<T, E>>,
    then: &str,
) -> Result<T, Stop> {
    tokio::select! {
        done = work => done.map_err(Into::into),
        _ = tokio::signal::ctrl_c() => Err(Stop::Interrupted(then.to_owned())),
    }
}

async fn run_to_end(job: &Job, settings: &Settings) -> Result<Summary, Stop> {
    let started = Instant::now();
    let progress = Arc::new(Progress::new(settings.quiet));
    let planned = planned(job, settings).await?;
    machine::check_room(&planned.projection)?;
    let beside = match settings.into_input {
        true => {
            let folder = planned.output.file_name().map(|name| name.to_string_lossy().into_owned());
            Some(IntoInput::find(job, &folder.unwrap_or_else(|| "labels".into()), settings.overwrite).await?)
        }
        false => None,
    };
    let lock = Lock::take(&planned.output)?;
    let store = Store::open(&planned.output.to_string_lossy())?;
    let plan = match take_output(&store, planned.plan, settings).await? {
        Taken::Run(plan) => {
            beside.as_ref().map_or(Ok(()), IntoInput::check_free)?;
            Arc::new(*plan)
        }
        Taken::Finished(manifest) => {
            let summary = Summary::of(&manifest.plan, &manifest.state, &planned.output, None);
            progress.say(&format!("already done: {} holds the answers of this very job", planned.output.display()));
            put_beside(beside.as_ref(), &store, &manifest, &progress).await?;
            progress.say(&summary.to_string());
            return Ok(summary);
        }
    };
    let projection = memory::project(&plan, &settings.resources)?;
    let worker = Worker::open(store.clone(), Arc::clone(&plan), &settings.resources, wall_clock()).await?;
    let input = worker.input().clone();
    let executor: Arc<dyn Executor> = Arc::new(Local::new(worker, Arc::clone(&progress)));
    let clock = wall_clock();
    let ended = dispatch::run(&Dispatch {
        plan: &plan,
        store: &store,
        executor: &executor,
        progress: &progress,
        clock: &clock,
        lease: FIRST_LEASE,
        failures_most: settings.failures_most,
        seed: clock.now().0 ^ u64::from(std::process::id()) << 32,
    })
    .await;
    let requests = || (store.requests(), input.store().requests());
    let state = match ended.state {
        Ok(state) => state,
        Err(error) => {
            let report = report::unfinished(&plan, &ended.stages, &projection, requests(), &ended.failed);
            // Why it failed is known, and may be why this can't be written either.
            if let Err(error) = publish::write_report(&store, &report).await {
                tracing::info!(error = error.message, "no report was written");
            }
            // The coordinator itself may have lost the store after some tasks had failed; that comes first then.
            let by_tasks = ended.failed.iter().any(|task| task.message == error.message);
            return Err(match settings.failures_most > 0 && by_tasks {
                true => Stop::Tasks { output: store.url().to_owned(), failed: ended.failed },
                false => error.into(),
            });
        }
    };
    let timings = ended.stages;
    if state.all_missing(&plan) {
        progress.say(&format!("warning: not one chunk of {} is there; every voxel is its fill value", plan.input.url));
    }
    let units: Vec<u64> = timings.iter().map(|t| t.units).collect();
    let seconds = started.elapsed().as_secs_f64();
    let summary = Summary::of(&plan, &state, &planned.output, Some(seconds));
    publish::write_report(&store, &report::provenance(&plan, &summary, &timings, &projection, requests())).await?;
    let manifest = publish::fold(&store, &plan, &units, settings.keep).await?;
    put_beside(beside.as_ref(), &store, &manifest, &progress).await?;
    drop(lock);
    progress.say(&summary.to_string());
    Ok(summary)
}

/// Copies the labels of a finished run into its input, where that was asked for.
async fn put_beside(
    beside: Option<&IntoInput>,
    output: &Store,
    manifest: &Manifest,
    progress: &Progress,
) -> Result<()> {
    if let Some(beside) = beside {
        let url = beside.write(output, manifest).await?;
        progress.say(&format!("labels     {url}, listed in the input"));
    }
    Ok(())
}

/// What was found at an output.
enum Taken {
    /// This plan is to be run, from its start or from where it was left.
    Run(Box<Plan>),
    /// The same job is finished already.
    Finished(Box<Manifest>),
}

/// Makes the output this plan's, or finds out that it is finished, or somebody else's.
async fn take_output(store: &Store, plan: Plan, settings: &Settings) -> Result<Taken> {
    publish::sweep(store).await?;
    if settings.overwrite {
        publish::erase(store, &plan).await?;
    }
    let another = || {
        Error::invalid(format!("{} holds the answers of another job", store.url()))
            .hint("choose another output with -o, or replace them with --overwrite")
    };
    if let Some(manifest) = Manifest::read(store).await? {
        if manifest.plan.identity == plan.identity {
            if !manifest.kept {
                // An earlier run may have been stopped just before its last act.
                publish::clean(store).await?;
            }
            return Ok(Taken::Finished(Box::new(manifest)));
        }
        return Err(another());
    }
    if let Some(stored) = Plan::read(store).await? {
        if stored.identity != plan.identity {
            return Err(another());
        }
        // Its blocks are kept, so that what is done counts, unless they don't fit into this memory.
        if memory::project(&stored, &settings.resources).is_ok() {
            return Ok(Taken::Run(Box::new(stored)));
        }
        publish::clean(store).await?;
    } else if let Some(found) = found_something(store, &plan).await? {
        return Err(Error::invalid(format!(
            "{} is there already, and no run of voxmill says whose it is",
            store.display(&found)
        ))
        .hint("choose another output with -o, or replace it with --overwrite"));
    }
    if !plan.create(store).await? {
        return Err(Error::unavailable(format!("another voxmill has just started in {}", store.url())));
    }
    Ok(Taken::Run(Box::new(plan)))
}

/// An output that lies there without a plan or manifest.
async fn found_something(store: &Store, plan: &Plan) -> Result<Option<String>> {
    let children = store.children("").await?;
    let mut outputs = Outputs::usual();
    let own = Outputs::of(plan);
    outputs.groups.extend(own.groups);
    outputs.files.extend(own.files);
    // A report alone says nothing that could be lost.
    let taken =
        |key: &String| key != layout::RUN_REPORT && children.folders.iter().chain(&children.objects).any(|c| c == key);
    Ok(outputs.groups.into_iter().chain(outputs.files).find(taken))
}

/// Removes a run's own state, and what an unfinished one has written. Says what was done.
///
/// # Errors
/// Invalid when there is no run, or it is still running.
pub async fn clean(output: &str) -> Result<String> {
    let store = Store::open(output)?;
    let (manifest, plan) = (Manifest::read(&store).await?, Plan::read(&store).await?);
    if manifest.is_none() && plan.is_none() {
        return Err(Error::invalid(format!("there is no run in {}", store.url()))
            .hint("name the folder that was given to `voxmill run` with -o"));
    }
    let _lock = Lock::take(Path::new(store.url()))?;
    publish::sweep(&store).await?;
    let unfinished = plan.filter(|_| manifest.is_none());
    if let Some(plan) = &unfinished {
        publish::withdraw(&store, plan).await?;
    }
    publish::clean(&store).await?;
    store.delete(layout::MANIFEST).await?;
    Ok(match unfinished {
        Some(_) => format!("{}: the unfinished run and what it had written are removed", store.url()),
        None => format!("{}: the run's own state is removed; its answers stay", store.url()),
    })
}
