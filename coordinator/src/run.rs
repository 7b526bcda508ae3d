//! A run from start to end: the job meets its input and becomes a plan, the output is taken, the plan is new or an old
//! one goes on, tasks are dispatched, the run's own state is folded away.

mod settings;

use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Instant;

use pipeline::array::{Array, Geometry, Pick};
use pipeline::fence::{Clock, Moment};
use pipeline::job::Job;
use pipeline::plan::build::{self, InputImage, Wishes};
use pipeline::plan::memory::{self, Projection, Resources};
use pipeline::plan::{Input, Intensity, Plan};
use pipeline::publish::into_input::IntoInput;
use pipeline::publish::{self, Manifest};
use pipeline::sources::{Sources, name_of};
use pipeline::state::State;
use pipeline::store::{self, Store, Stores};
use pipeline::task::Worker;
use pipeline::{Error, Kind, Result, layout};
use tokio::sync::OnceCell;

use crate::dispatch::{self, Dispatch};
use crate::executor::{Executor, Lambda, Local, Used};
use crate::exit::Stop;
use crate::hold::Hold;
use crate::machine;
use crate::output::{Taken, Taking};
use crate::price::{Budget, Estimate, calibrate, is_charged};
use crate::progress::Progress;
use crate::report::{self, Summary};
use crate::runtime;

pub use settings::{Place, Settings};

/// Cores of this machine.
pub fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, usize::from)
}

/// Of the spread of pauses: another for each process and moment.
fn seed() -> u64 {
    wall_clock().now().0 ^ u64::from(std::process::id()) << 32
}

/// The clock of this machine.
pub(crate) fn wall_clock() -> Clock {
    Clock::new(|| {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default();
        Moment(since.as_millis() as u64)
    })
}

/// Whether all that a job names is on disks.
pub(crate) fn is_on_disks(job: &Job) -> bool {
    let named = [Some(&job.input), job.mask.as_ref(), job.intensity.as_ref(), job.output.as_ref()];
    named.into_iter().flatten().all(|url| store::names_a_disk(url))
}

/// A job that has met its input.
pub struct Planned {
    /// What will run.
    pub plan: Plan,
    /// What it will hold.
    pub projection: Projection,
    /// Where the answers go.
    pub output: Store,
    /// Memory and threads it was planned for.
    pub resources: Resources,
    image: InputImage,
    wishes: Wishes,
}

impl Planned {
    /// The same job planned so that it can go on from an earlier run: with its blocks, if none were asked for and they
    /// fit, and from what it left, where its last `state` is given.
    pub(crate) fn replan(&self, settings: &Settings, earlier: &Plan, state: Option<&State>) -> Result<Plan> {
        let wishes = Wishes { earlier: state.map(|state| (earlier.clone(), state.clone())), ..self.wishes.clone() };
        let plan =
            |block| build::plan(&self.plan.job, &self.image, &Wishes { block, ..wishes.clone() }, &self.resources);
        let mut plan = match (settings.block.is_some(), plan(Some(earlier.grid.block))) {
            (false, Ok(plan)) => plan,
            _ => plan(self.wishes.block)?,
        };
        plan.contents = self.plan.contents.clone();
        Ok(plan)
    }
}

/// Plans a job without touching its output.
///
/// # Errors
/// Whatever makes the job impossible: see [`build::plan`].
pub async fn planned(stores: &Stores, job: &Job, settings: &Settings) -> Result<Planned> {
    job.validate()?;
    let pick = Pick { level: Some(job.level), channel: job.channel, time: job.time, series: job.series };
    let array = Array::open(stores, &job.input, &pick).await?;
    let named = job.steps.iter().filter_map(|entry| entry.save.as_deref()).chain(["input"]);
    let intensity = job.intensity.as_deref().filter(|url| !named.clone().any(|name| name == *url));
    let mask = beside(stores, "mask", job.mask.as_deref(), job).await?;
    let intensity = beside(stores, "intensity", intensity, job).await?;
    let mut arrays = vec![&array];
    arrays.extend(mask.iter().chain(&intensity));
    let output = output_of(stores, job, &arrays).await?;
    let image = InputImage {
        input: input_of(&array, &pick),
        extent: array.extent(),
        geometry: Geometry::of(&array),
        mask: mask.as_ref().map(|array| (input_of(array, &Pick::default()), array.extent())),
        intensity: intensity.as_ref().map(|array| (input_of(array, &Pick::default()), array.extent())),
    };
    let block = settings.block.as_ref().map(|b| b.resolve(image.extent.planar, 1)).transpose();
    let wishes = Wishes {
        block: block.map_err(|e| e.at("--block"))?,
        segment: settings.segment,
        merge: settings.merge,
        charged: settings.pricing().fleet.is_some()
            || [image.input.url.as_str(), output.url()].iter().any(|url| is_charged(url)),
        workers: Some(settings.workers()),
        code: settings.function().ok().flatten().map(|function| function.code_sha256.clone()),
        earlier: None,
    };
    let plan = build::plan(job, &image, &wishes, &settings.resources)?;
    let projection = memory::project(&plan, &settings.resources)?;
    Ok(Planned { plan, projection, output, resources: settings.resources, image, wishes })
}

/// Plans a job and says what it will cost; `sample` tries a part of it first.
///
/// # Errors
/// See [`planned`], and what the sample failed with.
pub async fn priced(stores: &Stores, job: &Job, settings: &Settings, sample: bool) -> Result<(Planned, Estimate)> {
    let planned = planned(stores, job, settings).await?;
    let sample = match sample {
        true => Some(calibrate(stores, &planned, settings).await?),
        false => None,
    };
    let Planned { plan, projection, output, .. } = &planned;
    let estimate = Estimate::of(plan, projection, output.url(), &settings.pricing(), sample.as_ref());
    Ok((planned, estimate))
}

/// Opens an array that is read beside the input: of an image group the job's level, and where there is no such level, or
/// the URL names one array, what the URL names.
async fn beside(stores: &Stores, key: &str, url: Option<&str>, job: &Job) -> Result<Option<Array>> {
    let Some(url) = url else { return Ok(None) };
    let pick = Pick { level: Some(job.level), ..Pick::default() };
    let opened = match Array::open(stores, url, &pick).await {
        // An array made of a coarser level has that level's shape, and no levels before it.
        Err(e) if e.kind == Kind::Invalid && job.level > 0 => {
            Array::open(stores, url, &Pick::default()).await.map_err(|_| e)
        }
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
        shard: array.shard(),
        chunk_bytes: array.chunk_bytes(),
        codec: array.codec(),
        offset: [0; 3],
    }
}

/// The place of the answers: not one of the arrays read, not inside one, and none of them among what a run writes
/// there.
async fn output_of(stores: &Stores, job: &Job, arrays: &[&Array]) -> Result<Store> {
    let output = match &job.output {
        Some(output) => output.clone(),
        None => {
            let name = Path::new(job.input.trim_end_matches('/')).file_stem().map(|s| s.to_string_lossy().into_owned());
            format!("{}-voxmill", name.unwrap_or_else(|| "output".into()))
        }
    };
    let mut store = stores.open(&output).await?;
    store.check_writable()?;
    let output = absolute(&store);
    if store.on_disk() {
        store = Store::open(&output.to_string_lossy())?;
    }
    let mut inputs = vec![absolute(&stores.open(&job.input).await?)];
    inputs.extend(arrays.iter().map(|array| absolute(array.store())));
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
    Ok(store)
}

/// Where a store's root is: a path with links resolved, as far as it exists, or a URL.
fn absolute(store: &Store) -> PathBuf {
    let path = PathBuf::from(store.url());
    if !store.on_disk() {
        return path;
    }
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
pub async fn run(stores: &Stores, job: &Job, settings: &Settings) -> Result<Summary, Stop> {
    let hold = OnceCell::new();
    let work = run_to_end(stores, job, settings, &hold);
    let ended = until_interrupted(work, "what is done is kept; the same command goes on from there").await;
    if let Some(hold) = hold.into_inner() {
        hold.release(ended.is_ok()).await;
    }
    ended
}

/// Runs `work` until it is done or the user presses Ctrl-C.
pub(crate) async fn until_interrupted<T, E: Into<Stop>>(
    work: impl Future<Output = Result<T, E>>,
    then: &str,
) -> Result<T, Stop> {
    tokio::select! {
        done = work => done.map_err(Into::into),
        () = runtime::ctrl_c() => Err(Stop::Interrupted(then.to_owned())),
    }
}

/// The output's hold is put into `held`, so that it is given back however this ends.
async fn run_to_end(stores: &Stores, job: &Job, settings: &Settings, held: &OnceCell<Hold>) -> Result<Summary, Stop> {
    let started = Instant::now();
    let progress = Arc::new(Progress::new(settings.quiet));
    let function = settings.function()?;
    let mut planned = planned(stores, job, settings).await?;
    if function.is_none() {
        machine::check_room(&planned.projection)?;
    }
    let beside = match settings.into_input {
        true => {
            let folder = planned.output.parent().map_or_else(|| "labels".into(), |(_, name)| name);
            Some(IntoInput::find(stores, job, &folder, settings.overwrite).await?)
        }
        false => None,
    };
    let store = planned.output.clone();
    let tell = |line: &str| progress.say(line);
    let hold = held.get_or_try_init(|| Hold::take(&store, wall_clock(), &tell)).await?;
    let store = hold.guard(&store);
    store.probe().await?;
    let clock = wall_clock();
    let lambda = function.map(|function| {
        let run = format!("{:x}-{:x}", clock.now().0, std::process::id());
        Lambda::new(Arc::clone(function), store.url(), run, settings.workers(), Arc::clone(&progress))
    });
    let checked = Used::default();
    if let (Some(lambda), Some(function)) = (&lambda, function) {
        let reads = reads(&planned.plan);
        dispatch::patiently(seed(), || lambda.check(reads.clone(), &checked)).await?;
        if function.is_latest() {
            progress.say(&format!(
                "warning: {function} is no published version: deploying another changes it under the run"
            ));
        }
    }
    // Before anything is read: what changes from here on is noticed.
    let now = Sources::open(stores, &planned.plan).await?.versions().await?;
    planned.plan.contents = now.as_ref().map(name_of);
    drop(now);
    let taking = Taking { stores, store: &store, planned: &planned, settings, hold, progress: &progress };
    let plan = match taking.take().await? {
        Taken::Run(plan) => {
            beside.as_ref().map_or(Ok(()), IntoInput::check_free)?;
            Arc::new(*plan)
        }
        Taken::Finished(manifest) => {
            let summary = Summary::of(&manifest.plan, &manifest.state, store.url(), None);
            progress.say(&format!("already done: {} holds the answers of this very job", store.url()));
            put_beside(beside.as_ref(), &store, &manifest, &progress).await?;
            progress.say(&summary.to_string());
            return Ok(summary);
        }
    };
    let projection = memory::project(&plan, &settings.resources)?;
    let (executor, sources): (Arc<dyn Executor>, Sources) = match lambda {
        Some(lambda) => (Arc::new(lambda), Sources::open(stores, &plan).await?),
        None => {
            let worker =
                Worker::open(stores, store.clone(), Arc::clone(&plan), &settings.resources, clock.clone()).await?;
            let sources = worker.sources().clone();
            (Arc::new(Local::new(worker, Arc::clone(&progress))), sources)
        }
    };
    let pricing = settings.pricing();
    let estimate = Estimate::of(&plan, &projection, store.url(), &pricing, None);
    let budget = Budget::new(&pricing, &plan, &projection, &[store.clone(), sources.input.store().clone()]);
    if let Some(usage) = checked.get() {
        budget.also("check", usage);
    }
    if estimate.is_charged() {
        progress.say(&estimate.in_a_line(pricing.max_usd));
    }
    let dispatch = Dispatch {
        plan: &plan,
        store: &store,
        executor: &executor,
        progress: &progress,
        clock: &clock,
        hold,
        budget: &budget,
        failures_most: settings.failures_most,
        seed: seed(),
    };
    let ended = hold.while_held(async { Ok(dispatch::run(&dispatch).await) }).await?;
    let requests = || (store.requests(), sources.input.store().requests());
    let price = || (estimate.clone(), budget.spent());
    let state = match ended.state {
        Ok(state) => state,
        Err(error) => {
            let report = report::unfinished(&plan, &ended.stages, &projection, requests(), price(), &ended.failed);
            // Why it failed is known, and may be why this can't be written either.
            if let Err(error) = publish::write_report(&store, &report).await {
                tracing::info!(error = error.message, "no report was written");
            }
            if budget.refusal().as_ref() == Some(&error) {
                return Err(Stop::Spent { error, left: report::left(&plan, &ended.stages) });
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
    let summary = Summary::of(&plan, &state, store.url(), Some(seconds));
    publish::write_report(&store, &report::provenance(&plan, &summary, &timings, &projection, requests(), price()))
        .await?;
    let manifest = publish::fold(&store, &plan, &units, &sources, settings.keep).await?;
    if manifest.contents.is_none() && sources.input.store().can_list() {
        progress
            .say("warning: the input has changed since it was read; the same command brings the answers up to date");
    }
    put_beside(beside.as_ref(), &store, &manifest, &progress).await?;
    progress.say(&summary.to_string());
    Ok(summary)
}

/// The arrays that workers read.
fn reads(plan: &Plan) -> Vec<String> {
    let intensity = match &plan.intensity {
        Intensity::Other(other) => Some(&other.url),
        Intensity::Image(_) => None,
    };
    let mask = plan.mask.as_ref().map(|mask| &mask.url);
    std::iter::once(&plan.input.url).chain(mask).chain(intensity).cloned().collect()
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

/// Removes a run's own state, and what an unfinished one has written. Says what was done.
///
/// # Errors
/// Invalid when there is no run, or it is still running.
pub async fn clean(stores: &Stores, output: &str) -> Result<String> {
    let store = stores.open(output).await?;
    let (manifest, plan) = (Manifest::read(&store).await?, Plan::read(&store).await?);
    if manifest.is_none() && plan.is_none() {
        return Err(Error::invalid(format!("there is no run in {}", store.url()))
            .hint("name the folder that was given to `voxmill run` with -o"));
    }
    let tell = |line: &str| eprintln!("{line}");
    let hold = Hold::take(&store, wall_clock(), &tell).await?;
    let store = hold.guard(&store);
    // A plan beside the manifest of another was about to replace it, and both may have left something.
    let finished = manifest.as_ref().is_some_and(|m| plan.as_ref().is_none_or(|plan| plan.id == m.plan.id));
    let unfinished: Vec<Plan> = match finished {
        true => Vec::new(),
        false => plan.into_iter().chain(manifest.map(|manifest| manifest.plan)).collect(),
    };
    let removed = hold.deleting(&tell, clean_held(&store, &unfinished)).await;
    hold.release(removed.is_ok()).await;
    removed?;
    Ok(match finished {
        false => format!("{}: the unfinished run and what it had written are removed", store.url()),
        true => format!("{}: the run's own state is removed; its answers stay", store.url()),
    })
}

async fn clean_held(store: &Store, unfinished: &[Plan]) -> Result<()> {
    publish::sweep(store).await?;
    if !unfinished.is_empty() {
        publish::disavow(store).await?;
    }
    for plan in unfinished {
        publish::withdraw(store, plan).await?;
    }
    publish::clean(store).await?;
    store.delete(layout::MANIFEST).await
}
