//! What people and programs are told: the plan before a run, the status during it, the summary and provenance after.

use std::fmt::{self, Write as _};

use pipeline::checkpoint::{Checkpoint, Ranges};
use pipeline::op::{Choice, Cut, Op};
use pipeline::plan::memory::Projection;
use pipeline::plan::requests::{Objects, PlanRequests, Terms};
use pipeline::plan::{Plan, Rows};
use pipeline::publish::{Manifest, Outputs};
use pipeline::state::State;
use pipeline::store::{Requests, Store, Stores};
use pipeline::task::Receipt;
use pipeline::{Error, Result, layout};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::dispatch::{FailedTask, StageTiming, told};
use crate::price::{self, Estimate, Spent};
use crate::run::Planned;
use crate::units::{self, Bytes};

/// The end of a run in a few lines.
#[derive(Clone, Debug, Serialize)]
pub struct Summary {
    /// Folder of the answers.
    pub output: String,
    /// Voxels the job saw.
    pub voxels: u64,
    /// Thresholds that were chosen, by step (from 1).
    pub thresholds: Vec<Chosen>,
    /// Objects, where the job made some.
    pub objects: Option<u64>,
    /// Median number of voxels of an object.
    pub median_voxels: Option<f64>,
    /// Pairs of objects that touch, where that was asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contacts: Option<u64>,
    /// Input chunks that were not there and read as fill value.
    pub missing_chunks: u64,
    /// Seconds this run took; none when it was finished before.
    pub seconds: Option<f64>,
    /// Voxels a second.
    pub voxels_per_second: Option<f64>,
    /// What can be opened, relative to the folder.
    pub outputs: Vec<String>,
}

/// A threshold that was chosen from the image.
#[derive(Clone, Debug, Serialize)]
pub struct Chosen {
    /// Which step, from 1.
    pub step: usize,
    /// `otsu` or `percentile 99`.
    pub by: String,
    /// The threshold.
    pub value: f64,
}

impl Summary {
    /// The summary of a finished run.
    pub fn of(plan: &Plan, state: &State, output: &str, seconds: Option<f64>) -> Self {
        let voxels = plan.extent.region().voxels() as u64;
        let by = |op: usize| match &plan.ops[op] {
            Op::Threshold(Cut::Chosen { by: Choice::Percentile(p), .. }) => format!("percentile {p}"),
            _ => "otsu".to_owned(),
        };
        let thresholds =
            state.thresholds.iter().map(|(op, value)| Chosen { step: op + 1, by: by(*op), value: *value }).collect();
        let Outputs { groups, files } = Outputs::of(plan);
        let outputs = groups.into_iter().chain(files).collect();
        let table = plan.tables.iter().rfind(|table| table.id.of == Rows::Objects).map(|table| table.id);
        let contacts = plan.tables.iter().rfind(|table| table.id.of == Rows::Contacts).map(|table| table.id);
        Self {
            output: output.to_owned(),
            voxels,
            thresholds,
            objects: table.and_then(|table| state.rows(table)),
            median_voxels: table.and_then(|table| state.ranked(table)?.median_voxels),
            contacts: contacts.and_then(|table| state.rows(table)),
            missing_chunks: state.missing_chunks,
            seconds,
            voxels_per_second: seconds.map(|s| voxels as f64 / s),
            outputs,
        }
    }
}

impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for chosen in &self.thresholds {
            writeln!(f, "threshold  {} (step {}, {})", chosen.value, chosen.step, chosen.by)?;
        }
        if let Some(objects) = self.objects {
            let median = self.median_voxels.map_or(String::new(), |m| format!(", median size {m} voxels"));
            writeln!(f, "objects    {}{median}", units::count(objects))?;
        }
        if let Some(contacts) = self.contacts {
            writeln!(f, "contacts   {}", units::count(contacts))?;
        }
        if self.missing_chunks > 0 {
            writeln!(f, "missing    {} input chunks read as fill value", units::count(self.missing_chunks))?;
        }
        let voxels = units::count(self.voxels);
        match self.seconds {
            Some(seconds) => {
                let (time, rate) = (units::duration(seconds), units::rate(self.voxels, seconds));
                writeln!(f, "voxels     {voxels} in {time} ({rate})")?;
            }
            None => writeln!(f, "voxels     {voxels}")?,
        }
        writeln!(f, "answers    {}: {}", self.output, self.outputs.join(", "))?;
        // What the job ends with says more than what it saved on the way.
        let ends = self.outputs.iter().find(|o| [layout::LABELS, layout::IMAGE].contains(&o.as_str()));
        match ends.or_else(|| self.outputs.iter().find(|o| o.ends_with(".zarr"))) {
            Some(image) => write!(f, "look at    napari --plugin napari-ome-zarr {}/{image}", self.output),
            None => write!(f, "look at    {}/{}", self.output, self.outputs[0]),
        }
    }
}

/// What stands in run.json.
pub fn provenance(
    plan: &Plan,
    summary: &Summary,
    timings: &[StageTiming],
    projection: &Projection,
    requests: (Requests, Requests),
    price: (Estimate, Spent),
) -> Value {
    let mut report = common(plan, timings, projection, requests, price);
    report["finished"] = true.into();
    report["summary"] = json!(summary);
    report
}

/// What stands in run.json of a run that tasks have stopped.
pub fn unfinished(
    plan: &Plan,
    timings: &[StageTiming],
    projection: &Projection,
    requests: (Requests, Requests),
    price: (Estimate, Spent),
    failed: &[FailedTask],
) -> Value {
    let mut report = common(plan, timings, projection, requests, price);
    report["finished"] = false.into();
    report["failed"] = json!(failed);
    report
}

fn common(
    plan: &Plan,
    timings: &[StageTiming],
    projection: &Projection,
    (output, input): (Requests, Requests),
    (estimate, spent): (Estimate, Spent),
) -> Value {
    json!({
        "voxmill": plan.voxmill,
        "job": plan.job,
        "input": plan.input,
        "mask": plan.mask,
        "intensity": plan.intensity,
        "identity": plan.identity,
        "plan": plan.id,
        "executor": if estimate.gb_seconds.is_some() { "lambda" } else { "local" },
        "block": plan.grid.block,
        "stages": timings,
        "attempts": timings.iter().map(|t| t.attempts).sum::<u64>(),
        "memory_projected_bytes": projection.bytes,
        "buffers": pipeline::process::made(),
        "simd": voxel::simd::level().name(),
        "requests": { "input": input, "output": output },
        "estimate": estimate,
        "cost_usd": spent.usd,
        "actual": spent,
    })
}

/// What is left of a run that was stopped, in a few words.
pub(crate) fn left(plan: &Plan, timings: &[StageTiming]) -> String {
    let Some((at, timing)) = timings.iter().enumerate().next_back() else { return "nothing is done yet".to_owned() };
    let (stages, more) = (plan.stages.len(), plan.stages.len() - at - 1);
    let StageTiming { stage, units, done, .. } = timing;
    let then = match more {
        0 => String::new(),
        1 => ", then 1 stage more".to_owned(),
        more => format!(", then {more} stages more"),
    };
    let (left, units) = (units::count(units - done), units::count(*units));
    format!("left to do: {left} of {units} units of the stage {stage} ({} of {stages}){then}", at + 1)
}

/// The plan as text.
pub fn plan_text(planned: &Planned, estimate: &Estimate) -> String {
    let (plan, projection) = (&planned.plan, &planned.projection);
    let axes = |values: [usize; 3]| plan.extent.axes().map(|a| values[a]).collect::<Vec<_>>();
    let mut out = String::new();
    let voxels = plan.extent.region().voxels() as u64;
    let mut line = |name: &str, text: String| {
        // Writing to a string does not fail.
        let _ = writeln!(out, "{name:<10} {text}");
    };
    line("input", format!("{} ({} {})", plan.input.url, units::shape(&axes(plan.extent.shape)), plan.input.dtype));
    line("output", planned.output.url().to_owned());
    let bytes = Bytes(voxels * plan.input.dtype.size() as u64);
    line("voxels", format!("{} ({bytes} decoded)", units::count(voxels)));
    let halo = plan.halo();
    line(
        "blocks",
        format!(
            "{} of {} voxels, halo {}",
            units::count(plan.grid.units()),
            units::shape(&axes(plan.grid.largest())),
            units::shape(&axes(halo))
        ),
    );
    for stored in plan.images.iter().filter(|stored| !stored.groups.is_empty()) {
        let shards = stored.spec.shards.map_or("none".into(), |s| units::shape(&axes(s)));
        let (chunks, codec) = (units::shape(&axes(stored.spec.chunks)), stored.spec.codec);
        let groups = stored.groups.join(", ");
        let levels = match stored.levels.len() {
            1 => "one level".to_owned(),
            n => format!("{n} levels"),
        };
        line(
            "writes",
            format!("{groups} as {}, chunks {chunks}, shards {shards}, {codec}, {levels}", stored.spec.dtype),
        );
    }
    let memory = planned.resources.memory_bytes;
    line("memory", format!("at most {} of {}", Bytes(projection.bytes), Bytes(memory)));
    if estimate.is_charged() {
        let asked = &estimate.requests;
        line("tasks", price::span(estimate.invocations));
        line("requests", price::requests_text(asked));
    }
    let _ = writeln!(out, "{estimate}");
    let mut line = |name: &str, text: String| {
        let _ = writeln!(out, "{name:<10} {text}");
    };
    line("stages", String::new());
    for (i, (stage, memory)) in plan.stages.iter().zip(&projection.stages).enumerate() {
        let units = plan.stage_units(i).map_or("counted later".into(), |n| format!("{} units", units::count(n)));
        let name = plan.stage_name(stage);
        let (at_once, segment) = (memory.limits.at_once, stage.segment);
        let _ = writeln!(
            out,
            "  {:>2} {name:<28} {units:>16}, {segment} to a task, {at_once} at once, {}",
            i + 1,
            Bytes(memory.bytes)
        );
        if plan.kept_for_later(i) {
            let _ = writeln!(out, "     keeps its result for the next stages");
        }
    }
    out
}

/// The plan for programs.
pub fn plan_json(planned: &Planned, estimate: &Estimate) -> Value {
    let plan = &planned.plan;
    // Bounds, where the price goes by what is to be expected.
    let bounds = Terms { processes: 1, objects: Objects::Any };
    let requests = PlanRequests::of(plan, &planned.projection, bounds);
    let stages: Vec<Value> = plan
        .stages
        .iter()
        .zip(&planned.projection.stages)
        .enumerate()
        .map(|(i, (stage, memory))| {
            json!({
                "name": plan.stage_name(stage),
                "units": plan.stage_units(i),
                "segment": stage.segment,
                "at_once": memory.limits.at_once,
                "memory_bytes": memory.bytes,
                "fingerprint": stage.fingerprint,
                "requests": requests.stages[i],
            })
        })
        .collect();
    json!({
        "identity": plan.identity,
        "input": plan.input,
        "output": planned.output.url(),
        "shape": plan.extent.shape,
        "block": plan.grid.largest(),
        "blocks": plan.grid.units(),
        "halo": plan.halo(),
        "memory_bytes": planned.projection.bytes,
        "memory_limit_bytes": planned.resources.memory_bytes,
        "stages": stages,
        "job": plan.job,
        "tasks": requests.tasks(),
        "requests": { "workers": requests.workers(), "coordinator": requests.coordinator(), "total": requests.total() },
        "price": estimate,
        "cost_usd": estimate.usd,
    })
}

/// How far a run is.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// Folder of the answers.
    pub output: String,
    /// True when the answers are there.
    pub finished: bool,
    /// Stages that have started, and how much of them is done.
    pub stages: Vec<StageStatus>,
    /// Tasks that failed for good when the run was last stopped by some.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failed: Vec<FailedTask>,
    /// What it was to cost and what it has, when it last ended or was stopped; none where nothing is paid for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub price: Option<Price>,
    /// The summary of a finished run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub summary: Option<Summary>,
}

/// Estimate beside actual.
#[derive(Clone, Debug, Serialize)]
pub struct Price {
    /// What the plan said.
    pub estimate: Estimate,
    /// What the last start has spent.
    pub actual: Spent,
}

/// How far a stage is.
#[derive(Clone, Debug, Serialize)]
pub struct StageStatus {
    /// Its name.
    pub name: String,
    /// Its units; none when not known yet.
    pub units: Option<u64>,
    /// Units with a receipt.
    pub done: u64,
}

/// Reads how far the run in `output` is.
///
/// # Errors
/// Invalid when there is no run.
pub async fn status(stores: &Stores, output: &str) -> Result<Status> {
    let store = stores.open(output).await?;
    if let Some(manifest) = Manifest::read(&store).await? {
        let summary = Summary::of(&manifest.plan, &manifest.state, store.url(), None);
        return Ok(Status {
            output: store.url().to_owned(),
            finished: true,
            stages: Vec::new(),
            failed: Vec::new(),
            price: last_report(&store, &manifest.plan).await?.price(),
            summary: Some(summary),
        });
    }
    let plan = Plan::read(&store).await?.ok_or_else(|| {
        Error::invalid(format!("there is no run in {}", store.url()))
            .hint("name the folder that was given to `voxmill run` with -o")
    })?;
    let known = Checkpoint::latest(&store, &plan, u64::MAX).await?;
    let mut stages = Vec::new();
    let mut units = Some(plan.first_state().units);
    for (i, stage) in plan.stages.iter().enumerate() {
        let name = plan.stage_name(stage);
        if let Some(known) = known.as_ref().filter(|known| i < known.stage) {
            stages.push(StageStatus { name, units: Some(known.units[i]), done: known.units[i] });
            units = Some(known.units[i + 1]);
            continue;
        }
        let sure = known.as_ref().filter(|known| known.stage == i).map(|known| &known.done);
        let done = match units {
            Some(units) => done_of(&store, &plan, i, units, sure).await?,
            None => 0,
        };
        stages.push(StageStatus { name, units, done });
        units = State::read(&store, &plan, i).await?.map(|s| s.units);
    }
    let report = last_report(&store, &plan).await?;
    let price = report.price();
    let failed = report.failed;
    Ok(Status { output: store.url().to_owned(), finished: false, stages, failed, price, summary: None })
}

/// Units of a stage with a receipt, of which some are known.
async fn done_of(store: &Store, plan: &Plan, stage: usize, units: u64, known: Option<&Ranges>) -> Result<u64> {
    let (length, mut next, mut done) = (plan.stages[stage].segment, 0, 0);
    while next < units {
        let end = match known.and_then(|known| known.end_of(next)) {
            Some(end) => Some(end),
            None => Receipt::read(store, plan, stage, next).await?.map(|receipt| receipt.end),
        };
        match end {
            Some(end) => {
                done += end - next;
                next = end;
            }
            // Segments that are still running leave gaps: what comes after one begins at a multiple of their length.
            None => next = (next / length + 1) * length,
        }
    }
    Ok(done)
}

/// What a report says that status repeats.
#[derive(Default, Deserialize)]
struct Report {
    plan: String,
    #[serde(default)]
    failed: Vec<FailedTask>,
    estimate: Option<Estimate>,
    actual: Option<Spent>,
}

impl Report {
    fn price(&self) -> Option<Price> {
        let (estimate, actual) = (self.estimate.clone()?, self.actual.clone()?);
        // Attempt by attempt is for those who look into the report itself.
        estimate.is_charged().then(|| Price { estimate, actual: Spent { attempts: Vec::new(), ..actual } })
    }
}

/// The report of this very plan. One that can't be read says nothing.
async fn last_report(store: &Store, plan: &Plan) -> Result<Report> {
    let Some(object) = store.get(layout::RUN_REPORT).await? else { return Ok(Report::default()) };
    let report: Report = serde_json::from_slice(&object.bytes).unwrap_or_default();
    Ok(if report.plan == plan.id { report } else { Report::default() })
}

impl fmt::Display for Price {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { estimate, actual } = self;
        let asked = |made: u64, planned| format!("{} of {}", units::count(made), price::span(planned));
        let requests = &actual.requests;
        let (low, high) = (price::usd(estimate.usd.low), price::usd(estimate.usd.high));
        writeln!(f, "price      {} of {low} to {high} that were estimated", price::usd(actual.usd))?;
        if let Some(planned) = estimate.gb_seconds {
            let (gb_seconds, starts) = (actual.gb_seconds, actual.cold_starts);
            writeln!(f, "  invocations {}, {starts} of them cold", asked(actual.invocations, estimate.invocations))?;
            writeln!(f, "  GB-seconds  {gb_seconds:.1} of {:.1} to {:.1}", planned.low, planned.high)?;
        }
        writeln!(f, "  GET         {}", asked(requests.gets, estimate.requests.gets))?;
        let writes = estimate.requests.puts + estimate.requests.lists;
        write!(f, "  PUT, LIST   {}", asked(requests.puts + requests.lists, writes))
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(summary) = &self.summary {
            write!(f, "finished\n{summary}")?;
            return self.price.as_ref().map_or(Ok(()), |price| write!(f, "\n{price}"));
        }
        writeln!(f, "{}: unfinished; the command that started it goes on with it", self.output)?;
        for stage in &self.stages {
            match stage.units {
                Some(units) => writeln!(f, "  {:<28} {} of {}", stage.name, stage.done, units)?,
                None => writeln!(f, "  {:<28} not reached", stage.name)?,
            }
        }
        if !self.failed.is_empty() {
            writeln!(f, "failed when it was last stopped:")?;
            write!(f, "{}", told(&self.failed))?;
        }
        self.price.as_ref().map_or(Ok(()), |price| writeln!(f, "{price}"))
    }
}
