//! From job to plan: what is computed, what is kept of it and under which name, and in which blocks. The stages are laid
//! by `lay`.

use voxel::{Dtype, Extent};

use super::cheapest;
use super::memory::{self, Resources};
use super::{
    FORMAT, Given, Input, Intensity, Leaf, MergeSettings, Plan, Rows, StageKind, Stored, Table, TableId, hash, lay,
};
use crate::array::{ArraySpec, BloscCompressor, Codec, Geometry, GroupKind, OmeVersion};
use crate::grid::Grid;
use crate::job::{Job, Measured};
use crate::op::Op;
use crate::pyramid;
use crate::state::State;
use crate::step;
use crate::{Error, Result, layout};

/// What the planner must know of the input, which somebody else has opened.
#[derive(Clone, Debug)]
pub struct InputImage {
    /// As in the plan; `offset` is still zero.
    pub input: Input,
    /// Its shape.
    pub extent: Extent,
    /// Where it lies.
    pub geometry: Geometry,
    /// The job's `mask`, and the shape of its image.
    pub mask: Option<(Input, Extent)>,
    /// The job's `intensity`, where that is another array, and the shape of its image.
    pub intensity: Option<(Input, Extent)>,
}

/// How, not what, to compute: what the user says of it, and what is there already.
#[derive(Clone, Debug, Default)]
pub struct Wishes {
    /// Voxels of a block, rounded up to whole output objects.
    pub block: Option<[usize; 3]>,
    /// Units of a segment.
    pub segment: Option<u64>,
    /// Shape of the label merge.
    pub merge: MergeSettings,
    /// Whether requests are paid for, as they are where input or output lie in a bucket: blocks are then chosen by price.
    pub charged: bool,
    /// Processes that work on the run side by side, each with the resources of one; none for one.
    pub workers: Option<usize>,
    /// Names the code of those, where it is not this program's; see [`Plan::code`].
    pub code: Option<String>,
    /// A finished run in the same output, as it was planned and as it ended: what it left need not be made again.
    pub earlier: Option<(Plan, State)>,
}

/// The codec of arrays between stages.
const SCRATCH_CODEC: Codec = Codec::Blosc { compressor: BloscCompressor::Lz4, level: 1 };

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

    let steps: Vec<&step::Step> = job.steps.iter().map(|entry| &entry.step).collect();
    step::output_dtypes(&steps, input.dtype)?;
    let beside = |what: &str, other: &Option<(Input, Extent)>| beside(what, other, image.extent, region.start);
    let mask = beside("mask", &image.mask)?;
    if let Some(mask) = mask.as_ref().filter(|mask| mask.dtype.is_float()) {
        return Err(Error::invalid(format!("`mask` takes bool or integers, but {} is {}", mask.url, mask.dtype))
            .hint("make a mask of it first, with a run that ends in a threshold"));
    }
    let other = beside("intensity", &image.intensity)?;
    let ops = compile(job, extent)?;
    let intensity = match (other, job.intensity.as_deref().map(|name| saved(job, "intensity", name)).transpose()) {
        (Some(other), _) => Intensity::Other(other),
        (None, saved) => Intensity::Image(saved?.unwrap_or(0)),
    };
    let measured = match &job.histogram {
        Measured::Input => 0,
        Measured::Saved(name) => saved(job, "histogram", name)?,
    };
    // Where things lie is not part of the question, but for what the fingerprints say of it.
    let asked = Job { input: String::new(), output: None, mask: None, ..job.clone() };
    let fingerprint = |input: &Input| (input.fingerprint.clone(), input.offset);
    let others = match &intensity {
        Intensity::Other(other) => Some(fingerprint(other)),
        Intensity::Image(_) => None,
    };
    let asked = match others {
        Some(_) => Job { intensity: None, ..asked },
        None => asked,
    };
    let identity = hash(&(
        &asked.canonical_json(),
        fingerprint(&input),
        mask.as_ref().map(fingerprint),
        others,
        extent,
        env!("CARGO_PKG_VERSION"),
    ));

    let mut plan = Plan {
        format: FORMAT,
        voxmill: env!("CARGO_PKG_VERSION").to_owned(),
        identity,
        id: String::new(),
        job: job.clone(),
        input,
        mask,
        intensity,
        extent,
        geometry: image.geometry.cropped(region.start),
        grid: Grid { extent, block: extent.shape },
        ops,
        measured,
        images: Vec::new(),
        tables: Vec::new(),
        merge: wishes.merge,
        given: Given::default(),
        contents: None,
        code: wishes.code.clone(),
        stages: Vec::new(),
    };
    plan.images = images(&plan)?;
    plan.tables = tables(&plan)?;
    if let Some((earlier, state)) = &wishes.earlier {
        plan.given = Given::of(&plan, earlier, state);
    }
    let unit = object_shape(&plan);
    plan.grid.block = match wishes.block {
        Some(block) => std::array::from_fn(|a| block[a].max(1).next_multiple_of(unit[a]).min(roof(extent, unit)[a])),
        None if wishes.charged => cheapest::block(&plan, unit, wishes, resources)?,
        None => choose_block(&plan, unit, wishes, resources)?,
    };
    let voxels = plan.grid.largest().iter().product::<usize>();
    let labels = plan.ops.iter().any(|op| op.is_merged() || matches!(op, Op::Objects { .. }));
    if labels && voxels > voxel::runs::VOXELS_MAX {
        return Err(Error::invalid(format!("a block of {voxels} voxels is too large to label"))
            .hint(format!("give --block a shape of at most {} voxels", voxel::runs::VOXELS_MAX)));
    }
    lay::stages(&mut plan, wishes, resources);
    memory::project(&plan, resources)?;
    Ok(plan)
}

/// An array that is read beside the input: it has the input's shape, and is cropped as the input is.
fn beside(what: &str, other: &Option<(Input, Extent)>, extent: Extent, offset: [usize; 3]) -> Result<Option<Input>> {
    let Some((other, theirs)) = other else { return Ok(None) };
    let shape = |extent: &Extent| extent.axes().map(|a| extent.shape[a]).collect::<Vec<_>>();
    if *theirs != extent {
        let (theirs, ours) = (shape(theirs), shape(&extent));
        return Err(Error::invalid(format!(
            "`{what}` {} has the shape {theirs:?}, but the input has {ours:?}",
            other.url
        ))
        .hint("give an array of the input's shape; `region` crops both"));
    }
    Ok(Some(Input { offset, ..other.clone() }))
}

/// The image that a key of the job names.
fn saved(job: &Job, key: &str, name: &str) -> Result<usize> {
    if name == "input" {
        return Ok(0);
    }
    let step = job.steps.iter().position(|entry| entry.save.as_deref() == Some(name));
    step.map(|step| step + 1).ok_or_else(|| {
        let names: Vec<&str> = job.steps.iter().filter_map(|entry| entry.save.as_deref()).collect();
        Error::invalid(format!("`{key}` is {name}, but no step saves an image of that name")).hint(match &names[..] {
            [] => format!("add save = \"{name}\" to the step whose result is meant"),
            _ => format!("the saved images are {}", names.join(", ")),
        })
    })
}

/// The ops of a job, one for each step.
fn compile(job: &Job, extent: Extent) -> Result<Vec<Op>> {
    let op = |(i, entry): (usize, &step::JobStep)| {
        Op::compile(&entry.step, extent).map_err(|e| e.at(format!("step {} ({})", i + 1, entry.step.op())))
    };
    job.steps.iter().enumerate().map(op).collect()
}

/// The default codec of an output, by what was measured on noise and on scans (docs/benchmarks.md): about as small as
/// zstd at level 3, and two to six times as fast to write. The bits of wider intensities, shuffled, are best packed by
/// what is simplest; labels repeat as a whole, which shuffling hides.
fn default_codec(dtype: Dtype, is_labels: bool) -> Codec {
    if is_labels || dtype.size() == 1 {
        Codec::Zstd { level: 1 }
    } else {
        Codec::Blosc { compressor: BloscCompressor::Lz4, level: 1 }
    }
}

/// The images that the user finds: those saved, the labels of the last `label`, and what the job ends with otherwise.
fn images(plan: &Plan) -> Result<Vec<Stored>> {
    let (job, ops) = (&plan.job, &plan.ops);
    let last_label = ops.iter().rposition(|op| matches!(op, Op::Label(_))).map(|op| op + 1);
    // Steps that only measure leave the image as it was.
    let end = (0..ops.len()).rev().find(|op| !matches!(ops[*op], Op::Objects { .. })).map_or(0, |op| op + 1);
    let result = (end > 0 && end == ops.len() && Some(end) != last_label).then_some(end);
    let codec = job.write.codec.as_deref().map(|text| text.parse().map_err(|e: Error| e.at("`codec`"))).transpose()?;
    let mut images = Vec::new();
    for image in 1..=ops.len() {
        let mut groups = Vec::new();
        groups.extend((Some(image) == last_label).then(|| layout::LABELS.to_owned()));
        groups.extend((Some(image) == result).then(|| layout::IMAGE.to_owned()));
        groups.extend(job.steps[image - 1].save.as_deref().map(layout::saved_group));
        if groups.is_empty() {
            continue;
        }
        // What `objects` measures are labels, too, wherever they came from.
        let labels = matches!(ops[image - 1], Op::Label(_) | Op::Objects { .. });
        let kind = if labels { GroupKind::Labels } else { GroupKind::Image };
        let (chunks, shards) = job.write.shapes(&plan.extent)?;
        let (extent, dtype) = (plan.extent, plan.dtype(image));
        let codec = codec.unwrap_or_else(|| default_codec(dtype, labels));
        let (dimension_names, ome) = (plan.geometry.names(), job.write.ome);
        let spec = ArraySpec { extent, dtype, chunks, shards, codec, dimension_names, ome };
        spec.check()?;
        let by = pyramid::reduce_of(kind, dtype);
        let levels = pyramid::levels(extent, &plan.geometry, by, job.write.levels);
        let verbatim = lies_as_written(plan, &spec);
        images.push(Stored { image, groups, kind, spec, levels, by, verbatim });
    }
    Ok(images)
}

/// Whether a job does nothing but write its input anew, in chunks that lie there already just as this array has them.
fn lies_as_written(plan: &Plan, spec: &ArraySpec) -> bool {
    let Input { dtype, chunk, codec, offset, .. } = &plan.input;
    let copies = plan.mask.is_none() && plan.ops.iter().all(|op| matches!(op, Op::Cast { dtype: to } if to == dtype));
    // A chunk that a crop cuts through holds voxels that are not of the image.
    let whole = (0..3).all(|a| {
        let end = offset[a] + plan.extent.shape[a];
        offset[a].is_multiple_of(chunk[a]) && (end.is_multiple_of(chunk[a]) || plan.job.region.is_none())
    });
    copies
        && whole
        && *dtype == spec.dtype
        && *dtype != Dtype::Bool
        && *chunk == spec.chunks
        && *codec == Some(spec.codec)
}

/// The tables that the user finds: of the last step that measures, and of those saved.
fn tables(plan: &Plan) -> Result<Vec<Table>> {
    let measures = |op: &Op| matches!(op, Op::Label(_) | Op::Objects { .. });
    let last = plan.ops.iter().rposition(measures);
    let last_contacts = plan.ops.iter().rposition(|op| op.contacts().is_some());
    let mut tables = Vec::new();
    for (step, op) in plan.ops.iter().enumerate().filter(|(_, op)| measures(op)) {
        let name = plan.job.steps[step].save.as_deref();
        let mut keys = Vec::new();
        keys.extend((last == Some(step)).then(|| layout::OBJECTS.to_owned()));
        keys.extend(name.map(layout::saved_objects));
        if !keys.is_empty() {
            let id = TableId { step, of: Rows::Objects };
            tables.push(Table { id, keys, intensity: intensity_dtype(plan, step)? });
        }
        if op.contacts().is_some() {
            let id = TableId { step, of: Rows::Contacts };
            let mut keys = Vec::new();
            keys.extend((last_contacts == Some(step)).then(|| layout::CONTACTS.to_owned()));
            keys.extend(name.map(layout::saved_contacts));
            if keys.is_empty() {
                return Err(Error::invalid(format!(
                    "step {} ({}) asks for contacts that a later step's would take the place of",
                    step + 1,
                    op.name()
                ))
                .hint("add save = \"name\" to it, so that they get a file of their own"));
            }
            tables.push(Table { id, keys, intensity: None });
        }
    }
    Ok(tables)
}

/// The type of the intensities of a step's objects.
fn intensity_dtype(plan: &Plan, step: usize) -> Result<Option<Dtype>> {
    match &plan.intensity {
        Intensity::Other(other) => Ok(Some(other.dtype)),
        Intensity::Image(image) if *image > step => Err(Error::invalid(format!(
            "`intensity` names what step {image} saves, but step {} ({}) measures before that",
            step + 1,
            plan.ops[step].name()
        ))
        .hint("name an image that is saved earlier, or another array")),
        // Without a step that makes a mask or labels, the values that name the objects are the input's own.
        Intensity::Image(0) if !plan.ops[..=step].iter().any(|op| op.gives_foreground() || op.is_merged()) => Ok(None),
        Intensity::Image(image) => Ok(Some(plan.dtype(*image))),
    }
}

/// The voxels of one output object (or, for a job that writes none, one input chunk): what blocks are multiples of.
fn object_shape(plan: &Plan) -> [usize; 3] {
    match plan.images.first() {
        Some(stored) => stored.spec.unit_shape(),
        None => std::array::from_fn(|a| plan.input.chunk[a].clamp(1, plan.extent.shape[a])),
    }
}

/// The smallest multiple of the unit that covers the volume.
fn roof(extent: Extent, unit: [usize; 3]) -> [usize; 3] {
    std::array::from_fn(|a| extent.shape[a].next_multiple_of(unit[a]))
}

/// The smallest block there may be.
pub(super) fn smallest(plan: &Plan, unit: [usize; 3]) -> [usize; 3] {
    let roof = roof(plan.extent, unit);
    std::array::from_fn(|a| unit[a].min(roof[a]))
}

/// The blocks that are a unit larger along one axis, have no more than so many voxels, and leave some for every thread. The
/// shortest side grows first, so that blocks stay near cubes and their halos small.
pub(super) fn larger(
    plan: &Plan,
    unit: [usize; 3],
    block: [usize; 3],
    wishes: &Wishes,
    resources: &Resources,
    voxels_most: usize,
) -> Vec<[usize; 3]> {
    let roof = roof(plan.extent, unit);
    let enough = 4 * (resources.threads * wishes.workers.unwrap_or(1).max(1)) as u64;
    let mut axes: Vec<usize> = plan.extent.axes().filter(|a| block[*a] < roof[*a]).collect();
    axes.sort_by_key(|a| block[*a]);
    let grown = axes.into_iter().map(|a| {
        let mut larger = block;
        larger[a] = (block[a] + unit[a]).min(roof[a]);
        larger
    });
    let units = |block: [usize; 3]| Grid { extent: plan.extent, block }.units();
    grown.filter(|larger| units(*larger) >= enough && larger.iter().product::<usize>() <= voxels_most).collect()
}

/// The largest blocks that fit into memory, keep every thread busy, and are no larger than they need be.
fn choose_block(plan: &Plan, unit: [usize; 3], wishes: &Wishes, resources: &Resources) -> Result<[usize; 3]> {
    /// Beyond this a larger block saves little halo and costs memory.
    const VOXELS_ENOUGH: usize = 1 << 24;
    /// Beyond this a larger block that has nothing to do with others saves nothing, and leaves the caches.
    const VOXELS_ENOUGH_ALONE: usize = 1 << 21;
    let laid = |block: [usize; 3]| {
        let mut candidate = Plan { grid: Grid { extent: plan.extent, block }, ..plan.clone() };
        lay::stages(&mut candidate, &Wishes::default(), resources);
        candidate
    };
    let mut block = smallest(plan, unit);
    let candidate = laid(block);
    memory::project(&candidate, resources).map_err(|e| too_large(plan, unit, e))?;
    let enough = if stand_alone(&candidate) { VOXELS_ENOUGH_ALONE } else { VOXELS_ENOUGH };
    let fits = |block| memory::project(&laid(block), resources).is_ok_and(|p| p.keeps_threads_busy());
    loop {
        let mut larger = larger(plan, unit, block, wishes, resources, enough).into_iter();
        match larger.find(|larger| fits(*larger)) {
            Some(larger) => block = larger,
            None => return Ok(block),
        }
    }
}

/// Whether the blocks of a plan have nothing to do with each other: each reads chunks of its own, and leaves nothing but
/// images and counts.
fn stand_alone(plan: &Plan) -> bool {
    plan.stages.iter().all(|stage| match &stage.kind {
        StageKind::Map(pass) => {
            let alone = |leaf: &Leaf| matches!(leaf, Leaf::Image(_) | Leaf::Count(_));
            pass.leaves.iter().all(alone) && !memory::shares_chunks(plan, pass)
        }
        StageKind::Level { .. } | StageKind::Publish => true,
        _ => false,
    })
}

/// Not even the smallest block fits.
pub(super) fn too_large(plan: &Plan, unit: [usize; 3], e: Error) -> Error {
    let half = unit.iter().max().map_or(0, |longest| longest / 2);
    let (object, parts) = match plan.images.first() {
        Some(stored) if stored.spec.shards.is_some() => ("shard", ", or smaller shards: --shards none".to_owned()),
        // Chunks smaller than that cost more for what is kept of each than they save.
        Some(_) if half < 32 => ("output chunk", String::new()),
        Some(_) => ("output chunk", format!(", or smaller chunks, as with --chunks {half}")),
        None => ("input chunk", ", or an input of smaller chunks".to_owned()),
    };
    let memory = e.hint.clone().unwrap_or_default();
    e.hint(format!("{memory}{parts}; a block is at least one {object}, here {unit:?} voxels"))
}

/// The chunks of an array between stages: parts of blocks, so that no two blocks write one object, and small enough
/// that a neighbour's halo reads little more than it needs.
fn spilled_chunks(grid: Grid) -> [usize; 3] {
    const SIDE: usize = 64;
    let block = grid.largest();
    std::array::from_fn(|a| (1..=block[a].min(SIDE)).rev().find(|c| grid.block[a].is_multiple_of(*c)).unwrap_or(1))
}

/// An image between stages.
pub(super) fn scratch_spec(plan: &Plan, dtype: Dtype) -> ArraySpec {
    ArraySpec {
        extent: plan.extent,
        dtype,
        chunks: spilled_chunks(plan.grid),
        shards: None,
        codec: SCRATCH_CODEC,
        dimension_names: Vec::new(),
        ome: OmeVersion::V05,
    }
}
