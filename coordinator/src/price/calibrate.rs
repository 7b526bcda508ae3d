//! A short sample: a few blocks from the middle of the image go through all stages, in this process and in a folder that
//! is thrown away, and what their cores were busy with is compared with what the plan's rates say.

use std::fmt;
use std::sync::Arc;

use pipeline::job::Job;
use pipeline::plan::{Plan, Rows, TableId};
use pipeline::store::Stores;
use pipeline::task::Worker;
use pipeline::{Error, Result};
use serde::{Deserialize, Serialize};

use crate::dispatch::{self, Dispatch};
use crate::executor::{Executor, Local};
use crate::hold::Hold;
use crate::price::Budget;
use crate::price::estimate::goes_over_voxels;
use crate::progress::Progress;
use crate::run::{self, Planned, Settings, wall_clock};
use crate::units;

/// What a sample found.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// Voxels that were computed.
    pub voxels: u64,
    /// Blocks they are.
    pub blocks: u64,
    /// Seconds that cores were busy.
    pub cpu_seconds: f64,
    /// Of so many that the rates said.
    pub expected_seconds: f64,
    /// How many times as long it took.
    pub factor: f64,
    /// Voxels to an object, where objects were looked for and found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub voxels_per_object: Option<u64>,
}

impl fmt::Display for Sample {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { blocks, voxels, cpu_seconds, factor, voxels_per_object, .. } = self;
        let voxels = units::count(*voxels);
        write!(f, "measured here: {blocks} blocks of {voxels} voxels took {cpu_seconds:.2} s of a core, ")?;
        write!(f, "{factor:.2} times what rates say")?;
        match voxels_per_object {
            Some(each) => write!(f, "; an object in {} voxels", units::count(*each)),
            None => Ok(()),
        }
    }
}

/// Voxels that are enough to tell: more would take more than some seconds.
const VOXELS_MOST: usize = 1 << 25;

/// Runs a sample of a job that has been planned.
///
/// # Errors
/// What the sample failed with: the run itself would most likely fail likewise.
pub(crate) async fn calibrate(stores: &Stores, planned: &Planned, settings: &Settings) -> Result<Sample> {
    let plan = &planned.plan;
    let region = middle(plan);
    let folder = tempfile::tempdir().map_err(|e| Error::unavailable(format!("no folder to work in: {e}")))?;
    let sides: Vec<String> = plan.extent.axes().map(|a| format!("{}:{}", region[a].0, region[a].1)).collect();
    let job = Job {
        region: Some(sides.join(",").parse()?),
        output: Some(folder.path().join("sample").to_string_lossy().into_owned()),
        ..plan.job.clone()
    };
    let block = plan.grid.largest().map(|side| side.to_string());
    let block = block[usize::from(plan.extent.planar)..].join(",").parse()?;
    let settings = Settings { block: Some(block), segment: None, quiet: true, ..settings.clone() };
    let sample = run::planned(stores, &job, &settings).await?;
    let (plan, store) = (Arc::new(sample.plan), sample.output);
    plan.create(&store).await?;
    let worker = Worker::open(stores, store.clone(), Arc::clone(&plan), &settings.resources, wall_clock()).await?;
    let progress = Arc::new(Progress::new(true));
    let executor: Arc<dyn Executor> = Arc::new(Local::new(worker, Arc::clone(&progress)));
    let clock = wall_clock();
    let (hold, budget) = (Hold::alone(1), Budget::unlimited());
    let dispatch = Dispatch {
        plan: &plan,
        store: &store,
        executor: &executor,
        progress: &progress,
        clock: &clock,
        hold: &hold,
        budget: &budget,
        failures_most: 0,
        seed: 1,
    };
    let before = cpu_seconds();
    let ended = dispatch::run(&dispatch).await;
    let took = cpu_seconds() - before;
    let state = ended.state?;
    // Of a few blocks, the rows of all objects are ranked and written in no time.
    let stages = ended.stages.iter().enumerate().filter(|(stage, _)| goes_over_voxels(&plan, *stage));
    let expected: f64 = stages.map(|(stage, timing)| plan.cpu_seconds(stage, timing.units)).sum();
    let voxels = plan.extent.region().voxels() as u64;
    let found = |step: usize| state.rows(TableId { step, of: Rows::Objects });
    let objects = (0..plan.ops.len()).filter_map(found).max().filter(|objects| *objects > 0);
    Ok(Sample {
        voxels,
        blocks: plan.grid.units(),
        cpu_seconds: took,
        expected_seconds: expected,
        factor: (took / expected.max(1e-9)).clamp(0.01, 100.0),
        voxels_per_object: objects.map(|objects| (voxels / objects).max(2)),
    })
}

/// Start and end of the sample along each axis, in the coordinates of the input: up to two blocks along each from the
/// middle on, as long as that is not too much.
fn middle(plan: &Plan) -> [(usize, usize); 3] {
    let (counts, block) = (plan.grid.counts(), plan.grid.largest());
    let mut blocks = [1; 3];
    for axis in [2, 1, 0] {
        let voxels = (0..3).map(|a| blocks[a] * block[a]).product::<usize>();
        if counts[axis] > 1 && 2 * voxels <= VOXELS_MOST {
            blocks[axis] = 2;
        }
    }
    std::array::from_fn(|a| {
        let first = (counts[a] - blocks[a]) / 2;
        let (start, end) = (first * plan.grid.block[a], (first + blocks[a]) * plan.grid.block[a]);
        let offset = plan.input.offset[a];
        (offset + start, offset + end.min(plan.extent.shape[a]))
    })
}

/// Seconds that the cores have worked for this process.
fn cpu_seconds() -> f64 {
    // SAFETY: `getrusage` fills the structure it is given, and all zeros is a value of it.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_SELF, &mut usage);
        usage
    };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 * 1e-6;
    seconds(usage.ru_utime) + seconds(usage.ru_stime)
}
