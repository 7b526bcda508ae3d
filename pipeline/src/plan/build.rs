//! From job to plan: fusing steps, placing barriers, choosing blocks.

use serde::{Deserialize, Serialize};
use voxel::{Dtype, Extent};

use super::memory::{self, Resources};
use super::{
    Count, Counted, Ending, FORMAT, Input, Leaves, MergeSettings, Output, Pass, Plan, Round, Source, Stage, StageKind,
    hash,
};
use crate::array::{ArraySpec, BloscCompressor, Codec};
use crate::grid::Grid;
use crate::job::Job;
use crate::op::{Choice, Op};
use crate::step::{self, Step};
use crate::{Error, Result, layout, op};

/// What the planner must know of the input, which somebody else has opened.
#[derive(Clone, Debug)]
pub struct InputImage {
    /// As in the plan; `offset` is still zero.
    pub input: Input,
    /// Its shape.
    pub extent: Extent,
    /// Names of its axes.
    pub axes: Vec<String>,
}

/// What the user may say about how, not what, to compute.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Wishes {
    /// Voxels of a block, rounded up to whole output objects.
    pub block: Option<[usize; 3]>,
    /// Units of a segment.
    pub segment: Option<u64>,
    /// Shape of the label merge.
    pub merge: MergeSettings,
}

/// The default codec of images: filtered bytes compress slowly at higher levels and hardly better.
const IMAGE_CODEC: Codec = Codec::Zstd { level: 1 };
/// The default codec of labels, whose high bytes are nearly constant.
const LABEL_CODEC: Codec = Codec::Blosc { compressor: BloscCompressor::Zstd, level: 1 };
/// The codec of arrays between stages.
pub(super) const SCRATCH_CODEC: Codec = Codec::Blosc { compressor: BloscCompressor::Lz4, level: 1 };

/// A threshold before which everything must have been seen.
struct Barrier {
    op: usize,
    by: Choice,
}

/// Makes the plan of a job, or says why it can't be run with these resources.
///
/// # Errors
/// Invalid when a step can't take what it is given, when nothing fits into memory, or for a job of no voxels.
pub fn plan(job: &Job, image: &InputImage, wishes: &Wishes, resources: &Resources) -> Result<Plan> {
    job.validate()?;
    let region = match &job.region {
        Some(crop) => crop.resolve(&image.extent)?,
        None => image.extent.region(),
    };
    if region.is_empty() {
        return Err(Error::invalid(format!("the image to work on has no voxels: its shape is {:?}", region.shape())));
    }
    let extent = Extent { shape: region.shape(), planar: image.extent.planar };
    let mut input = image.input.clone();
    input.offset = region.start;

    step::output_dtypes(&job.steps, input.dtype)?;
    let codec = job.write.codec.as_deref().map(|text| text.parse().map_err(|e: Error| e.at("`codec`"))).transpose()?;
    let (ops, ending) = split(job, extent)?;
    let output = output(job, image, extent, &ops, ending, codec)?;
    // Where things lie is not part of the question, but for what the input's fingerprint says of it.
    let asked = Job { input: String::new(), output: None, ..job.clone() };
    let identity =
        hash(&(&asked.canonical_json(), &input.fingerprint, input.offset, extent, env!("CARGO_PKG_VERSION")));

    let mut plan = Plan {
        format: FORMAT,
        voxmill: env!("CARGO_PKG_VERSION").to_owned(),
        identity,
        id: String::new(),
        job: job.clone(),
        input,
        extent,
        grid: Grid { extent, block: extent.shape },
        ops,
        ending,
        output,
        merge: wishes.merge,
        stages: Vec::new(),
    };
    let unit = object_shape(&plan);
    plan.grid.block = match wishes.block {
        Some(block) => std::array::from_fn(|a| block[a].max(1).next_multiple_of(unit[a]).min(roof(extent, unit)[a])),
        None => choose_block(&plan, unit, resources)?,
    };
    let voxels = plan.grid.largest().iter().product::<usize>();
    if matches!(ending, Ending::Label { .. } | Ending::Objects) && voxels > voxel::runs::VOXELS_MAX {
        return Err(Error::invalid(format!("a block of {voxels} voxels is too large to label"))
            .hint(format!("give --block a shape of at most {} voxels", voxel::runs::VOXELS_MAX)));
    }
    lay_stages(&mut plan, wishes, resources);
    memory::project(&plan, resources)?;
    Ok(plan)
}

/// The ops of a job, and what it ends with.
fn split(job: &Job, extent: Extent) -> Result<(Vec<Op>, Ending)> {
    let mut ops = Vec::new();
    let mut ending = if job.steps.is_empty() { Ending::Measure } else { Ending::Image };
    for (i, step) in job.steps.iter().enumerate() {
        if let Some(op) =
            Op::compile(step, extent.planar).map_err(|e| e.at(format!("step {} ({})", i + 1, step.op())))?
        {
            ops.push(op);
            continue;
        }
        if i + 1 != job.steps.len() {
            let after = job.steps[i + 1].op();
            return Err(Error::invalid(format!("step {} ({after}) comes after {}", i + 2, step.op()))
                .hint(format!("this version runs {} as the last step only", step.op())));
        }
        ending = match step {
            Step::Label(label) => Ending::Label {
                connectivity: label
                    .connectivity
                    .neighbours(extent.planar)?
                    .try_into()
                    .map_err(|e| Error::internal(format!("the job's connectivity is none of the kernel's: {e}")))?,
                min_voxels: label.min_voxels,
                clear_border: label.clear_border,
            },
            _ => Ending::Objects,
        };
    }
    Ok((ops, ending))
}

/// The image that a job writes.
fn output(
    job: &Job,
    image: &InputImage,
    extent: Extent,
    ops: &[Op],
    ending: Ending,
    codec: Option<Codec>,
) -> Result<Option<Output>> {
    let (group, dtype) = match ending {
        Ending::Measure | Ending::Objects => return Ok(None),
        Ending::Image => (layout::IMAGE, op::dtypes(ops, image.input.dtype)[ops.len()]),
        Ending::Label { .. } => (layout::LABELS, Dtype::U32),
    };
    let (chunks, shards) = job.write.shapes(&extent)?;
    let codec = codec.unwrap_or(if matches!(ending, Ending::Label { .. }) { LABEL_CODEC } else { IMAGE_CODEC });
    let spec =
        ArraySpec { extent, dtype, chunks, shards, codec, dimension_names: image.axes.clone(), ome: job.write.ome };
    spec.check()?;
    Ok(Some(Output { group: group.to_owned(), spec }))
}

/// The voxels of one output object (or, for a job that writes none, one input chunk): what blocks are multiples of.
fn object_shape(plan: &Plan) -> [usize; 3] {
    match &plan.output {
        Some(output) => output.spec.unit_shape(),
        None => std::array::from_fn(|a| plan.input.chunk[a].clamp(1, plan.extent.shape[a])),
    }
}

/// The smallest multiple of the unit that covers the volume.
fn roof(extent: Extent, unit: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|a| extent.shape[a].next_multiple_of(unit[a]))
}

/// The largest blocks that fit into memory, keep every thread busy, and are no larger than they need be.
fn choose_block(plan: &Plan, unit: [usize; 3], resources: &Resources) -> Result<[usize; 3]> {
    /// Beyond this a larger block saves little halo and costs memory.
    const VOXELS_ENOUGH: usize = 1 << 24;
    let fits = |block: [usize; 3]| {
        let mut candidate = Plan { grid: Grid { extent: plan.extent, block }, ..plan.clone() };
        lay_stages(&mut candidate, &Wishes::default(), resources);
        memory::project(&candidate, resources)
    };
    let roof = roof(plan.extent, unit);
    let mut block: [usize; 3] = std::array::from_fn(|a| unit[a].min(roof[a]));
    fits(block).map_err(|e| {
        let (object, parts) = match &plan.output {
            Some(output) if output.spec.shards.is_some() => ("shard", "smaller shards: --shards none, or --chunks 64"),
            Some(_) => ("output chunk", "smaller chunks, as with --chunks 32"),
            None => ("input chunk", "an input of smaller chunks"),
        };
        let memory = e.hint.clone().unwrap_or_default();
        e.hint(format!("{memory}, or {parts}; a block is at least one {object}, here {unit:?} voxels"))
    })?;
    loop {
        // The shortest side grows first, so that blocks stay near cubes and their halos small.
        let mut axes: Vec<usize> = plan.extent.axes().filter(|a| block[*a] < roof[*a]).collect();
        axes.sort_by_key(|a| block[*a]);
        let grown = axes.into_iter().find_map(|a| {
            let mut larger = block;
            larger[a] = (block[a] + unit[a]).min(roof[a]);
            let units = Grid { extent: plan.extent, block: larger }.units();
            let enough = units >= 4 * resources.threads as u64 && larger.iter().product::<usize>() <= VOXELS_ENOUGH;
            (enough && fits(larger).is_ok_and(|p| p.keeps_threads_busy())).then_some(larger)
        });
        match grown {
            Some(larger) => block = larger,
            None => return Ok(block),
        }
    }
}

/// The chunks of an array between stages: parts of blocks, so that no two blocks write one object, and small enough
/// that a neighbour's halo reads little more than it needs.
pub(super) fn spilled_chunks(grid: Grid) -> [usize; 3] {
    const SIDE: usize = 64;
    let block = grid.largest();
    std::array::from_fn(|a| (1..=block[a].min(SIDE)).rev().find(|c| grid.block[a].is_multiple_of(*c)).unwrap_or(1))
}

/// Passes, barriers and reduces, in order.
fn lay_stages(plan: &mut Plan, wishes: &Wishes, resources: &Resources) {
    let mut kinds: Vec<StageKind> = Vec::new();
    let (mut source, mut from, mut tallied) = (Source::Input, 0, false);
    for barrier in barriers(plan) {
        let of = if barrier.op == 0 { Counted::Input } else { Counted::Before(barrier.op) };
        let mut rounds = rounds(barrier.by, plan.dtype_of(of)).into_iter();
        let mut counts = Vec::new();
        if !tallied {
            counts.push(Count { of: Counted::Input, round: Round::Tally });
            tallied = true;
        }
        if let Some(round) = rounds.next() {
            let first = Count { of, round };
            counts.extend((!counts.contains(&first)).then_some(first));
        }
        let later = rounds.len() + 1;
        let spills = barrier.op > from && spilling_is_cheaper(&plan.ops[from..barrier.op], plan.dtype_of(of), later);
        let leaves = if spills { Leaves::Array } else { Leaves::Nothing };
        if !counts.is_empty() || spills {
            kinds.push(StageKind::Map(Pass { source, ops: (from, barrier.op), counts, leaves }));
        }
        if spills {
            (source, from) = (Source::Stage(kinds.len() - 1), barrier.op);
        }
        for round in rounds {
            let counts = vec![Count { of, round }];
            kinds.push(StageKind::Map(Pass { source, ops: (from, barrier.op), counts, leaves: Leaves::Nothing }));
        }
    }
    let leaves = match plan.ending {
        Ending::Measure => Leaves::Nothing,
        Ending::Image => Leaves::Image,
        Ending::Label { .. } => Leaves::Labels,
        Ending::Objects => Leaves::Rows,
    };
    let first = Count { of: Counted::Input, round: Round::Tally };
    let counts = if tallied { Vec::new() } else { vec![first] };
    kinds.push(StageKind::Map(Pass { source, ops: (from, plan.ops.len()), counts, leaves }));
    if plan.ending == Ending::Measure {
        for counts in measure_rounds(plan.input.dtype) {
            kinds.push(StageKind::Map(Pass { source, ops: (0, 0), counts, leaves: Leaves::Nothing }));
        }
    }
    if let Ending::Label { .. } = plan.ending {
        let levels = plan.tree().levels();
        kinds.extend((levels > 0).then_some(StageKind::Seam));
        kinds.extend((1..=levels).map(|level| StageKind::Up { level }));
        kinds.push(StageKind::Rank);
        kinds.extend((1..=levels).rev().map(|level| StageKind::Down { level }));
        kinds.extend([StageKind::Relabel, StageKind::Table]);
    }
    if plan.ending == Ending::Objects {
        kinds.extend([StageKind::Rank, StageKind::Table]);
    }
    kinds.push(StageKind::Publish);

    plan.id = hash(&(&plan.identity, plan.grid, plan.merge, FORMAT));
    plan.stages = Vec::with_capacity(kinds.len());
    for (i, kind) in kinds.into_iter().enumerate() {
        let fingerprint = hash(&(&plan.id, i, &kind));
        let segment = wishes.segment.unwrap_or_else(|| segment(plan, &kind, resources)).max(1);
        plan.stages.push(Stage { kind, segment, fingerprint });
    }
}

/// The thresholds that are chosen from the image, in order.
fn barriers(plan: &Plan) -> Vec<Barrier> {
    (0..plan.ops.len()).filter_map(|op| plan.choice(op).map(|by| Barrier { op, by })).collect()
}

/// The passes of counting that a chosen threshold needs.
fn rounds(by: Choice, dtype: Dtype) -> Vec<Round> {
    let bits = dtype.size() * 8;
    match by {
        _ if bits <= 16 => vec![Round::Tally],
        Choice::Otsu => vec![Round::Tally, Round::Bins(OTSU_BINS)],
        Choice::Percentile(_) => [vec![Round::Tally], vec![Round::Refine; bits / 16 - 1]].concat(),
    }
}

/// Bins of Otsu's method for values that can't have one each.
const OTSU_BINS: usize = 256;
/// Bins of the histogram of a job that only measures, for such values.
const MEASURE_BINS: usize = 1 << 16;

/// The passes after the first of a job that only measures: the even bins and the exact percentiles of wide types.
fn measure_rounds(dtype: Dtype) -> Vec<Vec<Count>> {
    let count = |round| Count { of: Counted::Input, round };
    match dtype.size() {
        8 => vec![
            vec![count(Round::Bins(MEASURE_BINS)), count(Round::Refine)],
            vec![count(Round::Refine)],
            vec![count(Round::Refine)],
        ],
        4 => vec![vec![count(Round::Bins(MEASURE_BINS)), count(Round::Refine)]],
        _ => Vec::new(),
    }
}

/// Whether writing an image once and reading it `later` times costs less than computing it again each time.
fn spilling_is_cheaper(ops: &[Op], dtype: Dtype, later: usize) -> bool {
    /// Bytes a second that one thread compresses and writes, and reads and decompresses, for an array between stages.
    const WRITE: f64 = 4e8;
    const READ: f64 = 1e9;
    let again: f64 = ops.iter().map(|op| 1.0 / op.rate()).sum::<f64>() * later as f64;
    let spill = dtype.size() as f64 * (1.0 / WRITE + later as f64 / READ);
    spill < again
}

/// Units of a segment: about half a minute of work, but at least four segments for each thread.
fn segment(plan: &Plan, kind: &StageKind, resources: &Resources) -> u64 {
    const SECONDS: f64 = 30.0;
    let (seconds_per_unit, units) = match kind {
        StageKind::Map(pass) => {
            let voxels = plan.grid.largest().iter().product::<usize>() as f64;
            // Reading and writing a voxel costs about as much as a cheap op.
            let ops: f64 = plan.ops_of(pass).iter().map(|op| 1.0 / op.rate()).sum();
            let labels = if matches!(pass.leaves, Leaves::Labels | Leaves::Rows) { 2e-8 } else { 0.0 };
            (voxels * (ops + 5e-9 + labels), plan.grid.units())
        }
        StageKind::Relabel => (plan.grid.largest().iter().product::<usize>() as f64 * 5e-9, plan.grid.units()),
        StageKind::Seam => (0.02, plan.grid.units()),
        StageKind::Up { level } | StageKind::Down { level } => (0.2, plan.tree().units(*level)),
        // Ranges and row groups are counted later; a range is a second, a row group some.
        StageKind::Rank | StageKind::Table => return 4,
        StageKind::Publish => return 1,
    };
    let long = (SECONDS / seconds_per_unit).max(1.0) as u64;
    long.min(units.div_ceil(4 * resources.threads as u64))
}
