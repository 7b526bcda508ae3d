//! What every stage holds in memory, before anything runs.
//!
//! The sum is over what is there at once: the process itself, decoded chunks kept for neighbours, blocks being
//! computed (as many as threads), one more being read or written meanwhile (on disks there is none); and where there is
//! room, rows that are read ahead and freed buffers that wait for the next block. Each op says what it allocates; labels
//! are counted at their worst, every other voxel an object. `--memory` is compared with the largest stage, and the same
//! numbers become the [`Limits`] that the worker keeps.

use serde::{Deserialize, Serialize};
use voxel::table::ObjectRow;
use voxel::{Dtype, Region, label, runs};

use super::requests::ENTRY_BYTES;
use super::{Leaf, Pass, Plan, Rows, Stage, StageKind, Stored, TableId};
use crate::grid::Tree;
use crate::map::{Beside, beside, runs_together};
use crate::op::{Op, together};
use crate::pyramid::Outline;
use crate::reduce::down;
use crate::rows::PAGE_ROWS;
use crate::store::UPLOAD_BYTES;
use crate::{Error, Result};

/// The process with nothing loaded: program, runtime, allocator. Jobs on tiny inputs measure 17 to 19 MiB in a debug
/// build, of which most is the program itself, and less in a release build.
const PROCESS_BYTES: u64 = 20 << 20;
/// Stacks, codec contexts and buffers of one thread: measured well below 2 MiB, but for what a high compression level
/// adds.
const THREAD_BYTES: u64 = 4 << 20;
/// A block is read in parts of about this size, so that raw and decoded bytes never lie beside each other whole.
pub const READ_PART_BYTES: u64 = 4 << 20;
/// Parts of a block that are there as raw bytes at once: one being decoded, one on its way.
const RAW_PARTS: u64 = 2;
/// Object rows of a block that are gathered at once; more objects mean more passes over the runs, not more memory.
pub const BLOCK_ROWS: usize = 1 << 14;
/// Finished rows of the object table that are gathered before they are written.
pub const BATCH_ROWS: usize = 1 << 14;
/// Contacts of a block that are gathered at once; more make more files, not more memory.
pub const BLOCK_CONTACTS: usize = 1 << 16;
/// What a unit reads ahead of the rows it is at, where there is room for it: requests are fewer then.
const AHEAD_BYTES: u64 = 32 << 20;
/// And what it asks for with one request: more takes a bucket longer to send than another request takes to be answered.
pub(crate) const READ_BYTES: u64 = 1 << 20;
/// Columns of a row group that are gathered together, since those of the same rows lie side by side, and encoded one after
/// another.
pub(crate) const COLUMNS_OF_UNIT: usize = 4;
/// What freed buffers may take beside those in use, where there is room: those of the next block are of the same sizes.
const SPARE_BYTES: u64 = 48 << 20;
/// Segments under way that have no unit to compute: one that ends, and one that begins.
const SEGMENTS_ASIDE: u64 = 2;
/// What a partial histogram takes.
const TALLY_BYTES: u64 = 3 << 20;

/// What a worker may use.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resources {
    /// Bytes for the whole process.
    pub memory_bytes: u64,
    /// Threads that compute.
    pub threads: usize,
    /// Bytes one join of a group may hold before it goes through buckets; by default a share of the memory.
    pub merge_bytes: Option<u64>,
}

impl Resources {
    /// What the process takes before it has read anything.
    pub fn process_bytes(&self) -> u64 {
        PROCESS_BYTES + self.threads as u64 * THREAD_BYTES
    }

    fn merge_bytes(&self) -> u64 {
        /// What a join holds beside what is counted.
        const ASIDE_BYTES: u64 = 8 << 20;
        let all = self.memory_bytes.saturating_sub(self.process_bytes() + ASIDE_BYTES);
        self.merge_bytes.unwrap_or(all / (2 * self.threads as u64)).min(all)
    }
}

/// What the worker keeps to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limits {
    /// Blocks, groups or ranges computed at once.
    pub at_once: usize,
    /// Those that are read or written meanwhile.
    pub beside: usize,
    /// Bytes of decoded chunks kept for reuse.
    pub cache_bytes: u64,
    /// Whether that is enough for all that later blocks read again, where one process computes them in order.
    pub keeps_shared: bool,
    /// Bytes one join of a group may hold.
    pub merge_bytes: u64,
    /// Bytes that a unit may read ahead of what it needs next.
    pub ahead_bytes: u64,
    /// Bytes of large buffers, those kept for reuse too.
    pub buffer_bytes: u64,
}

/// Pieces of so many bytes that one request reads where so many files are read side by side: one of each is what a unit
/// needs in any case, and more are read as far as `ahead_bytes` go.
pub(crate) fn pieces_at_once(files: u64, piece_bytes: u64, ahead_bytes: u64) -> u64 {
    let ahead = ahead_bytes / files.saturating_mul(piece_bytes).max(1);
    (1 + ahead).min(READ_BYTES / piece_bytes.max(1)).max(1)
}

/// What one stage holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMemory {
    /// At most.
    pub bytes: u64,
    /// And what keeps it so.
    pub limits: Limits,
    /// Units at once if memory were no matter: one for each thread.
    pub at_once_wanted: usize,
}

/// What a run holds.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Projection {
    /// The largest stage.
    pub bytes: u64,
    /// Every stage.
    pub stages: Vec<StageMemory>,
}

impl Projection {
    /// True when no stage runs fewer units at once than there are threads for.
    pub fn keeps_threads_busy(&self) -> bool {
        self.stages.iter().all(|s| s.limits.at_once >= s.at_once_wanted)
    }
}

/// Projects every stage of a plan.
///
/// # Errors
/// Invalid when a stage can't run even one unit at a time within `memory_bytes`.
pub fn project(plan: &Plan, resources: &Resources) -> Result<Projection> {
    let needs: Vec<Needs> = plan.stages.iter().map(|stage| needs(plan, stage, resources)).collect();
    let stages: Option<Vec<StageMemory>> = needs.iter().map(|needs| needs.within(resources)).collect();
    if let Some(mut stages) = stages {
        let bytes = stages.iter().map(|s| s.bytes).max().unwrap_or(0);
        for (stage, needs) in stages.iter_mut().zip(&needs).filter(|(_, needs)| needs.waits) {
            needs.crowd(stage, bytes, resources);
        }
        return Ok(Projection { bytes, stages });
    }
    let least = |needs: &Needs| resources.process_bytes() + needs.unit + needs.beside;
    let (at, most) = needs.iter().map(least).enumerate().max_by_key(|(_, bytes)| *bytes).unwrap_or((0, 0));
    Err(Error::invalid(format!(
        "{} needs {} with blocks of {:?} voxels, but --memory is {}",
        plan.stage_name(&plan.stages[at]),
        mib(most),
        plan.grid.largest(),
        mib(resources.memory_bytes)
    ))
    .hint(format!("give it --memory {}MiB", most.div_ceil(1 << 20))))
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes.div_ceil(1 << 20))
}

/// What a stage holds, by part.
#[derive(Clone, Copy, Default)]
struct Needs {
    /// Each unit being computed.
    unit: u64,
    /// Each unit that is read or written beside them.
    beside: u64,
    /// What each unit can read ahead.
    ahead: u64,
    /// Decoded chunks that a later block would have to decode again.
    useful_cache: u64,
    /// Units there are.
    units: u64,
    /// Whether a unit waits for the store most of its time, so that a thread has time for some of them.
    waits: bool,
}

impl Needs {
    /// As many units at once as there are threads, or as fit; the rest of the memory, as far as useful, for reading ahead,
    /// for the cache, and for buffers that wait for the next unit.
    fn within(&self, resources: &Resources) -> Option<StageMemory> {
        let fixed = resources.process_bytes() + self.beside;
        let threads = (resources.threads as u64).min(self.units.max(1));
        let fit = resources.memory_bytes.checked_sub(fixed)? / self.unit.max(1);
        let at_once = fit.min(threads);
        if at_once == 0 {
            return None;
        }
        // One for every two threads, where there is room: reading and writing take nobody's core, but their time, and memory
        // that has never been touched costs time, too.
        let spare = resources.memory_bytes - fixed - at_once * self.unit;
        let beside = 1 + (spare / self.beside.max(1)).min(at_once.div_ceil(2) - 1);
        let needed = fixed + at_once * self.unit + (beside - 1) * self.beside;
        let ahead_bytes = self.ahead.min((resources.memory_bytes - needed) / at_once);
        let bytes = needed + at_once * ahead_bytes;
        let cache_bytes = self.useful_cache.min(resources.memory_bytes - bytes);
        /// What is counted here but small, and so lies elsewhere than the buffers that are kept.
        const SMALL_BYTES: u64 = 14 << 20;
        let held = bytes + cache_bytes;
        let all = held + SPARE_BYTES.min(self.unit).min(resources.memory_bytes - held);
        let limits = Limits {
            at_once: at_once as usize,
            beside: beside as usize,
            cache_bytes,
            keeps_shared: cache_bytes == self.useful_cache,
            merge_bytes: resources.merge_bytes(),
            ahead_bytes,
            buffer_bytes: all.saturating_sub(resources.process_bytes() + SMALL_BYTES),
        };
        Some(StageMemory { bytes: all, limits, at_once_wanted: threads as usize })
    }

    /// Lets more units wait at once, as far as they fit into `bytes` with all that each reads ahead: what another stage takes
    /// in any case.
    fn crowd(&self, stage: &mut StageMemory, bytes: u64, resources: &Resources) {
        /// A request takes a bucket tens of milliseconds, and what is done with its answer some.
        const WAITING: u64 = 4;
        let fixed = resources.process_bytes() + self.beside;
        let most = (WAITING * resources.threads as u64).min(self.units);
        let fit = bytes.saturating_sub(fixed) / (self.unit + self.ahead).max(1);
        let at_once = fit.min(most);
        if at_once > stage.limits.at_once as u64 && stage.limits.ahead_bytes == self.ahead {
            stage.limits.at_once = at_once as usize;
            let more = (fixed + at_once * (self.unit + self.ahead)).saturating_sub(stage.bytes);
            stage.bytes += more;
            stage.limits.buffer_bytes += more;
        }
    }
}

fn needs(plan: &Plan, stage: &Stage, resources: &Resources) -> Needs {
    let block = plan.grid.largest();
    let voxels = block.iter().product::<usize>() as u64;
    let tree = plan.tree();
    match &stage.kind {
        StageKind::Map(pass) => map_needs(plan, pass, stage.segment, resources.threads),
        StageKind::Seam { .. } => {
            // A face, the facing one with its rim, and the pairs found.
            let face = largest_face(block);
            let unit = face * (4 + 8 + 4 + 2 * 24) + (1 << 20);
            Needs { unit, units: plan.grid.units(), waits: true, ..Needs::default() }
        }
        StageKind::Up { step, level } => {
            let worst = open_objects_max(plan, tree, *level) * (5 * row_bytes(plan, *step) + 600) + (1 << 20);
            Needs {
                unit: worst.min(resources.merge_bytes() + (4 << 20)),
                units: tree.units(*level),
                waits: true,
                ..Needs::default()
            }
        }
        StageKind::Down { level, .. } => {
            // Closed objects are among those that were open below.
            let objects = open_objects_max(plan, tree, *level);
            let worst = down::bytes_held(objects, objects) + (1 << 20);
            let unit = worst.min(resources.merge_bytes() + (4 << 20));
            Needs { unit, units: tree.units(*level), waits: true, ..Needs::default() }
        }
        StageKind::Rank(table) => {
            let row = match table.of {
                Rows::Objects => 2 * row_bytes(plan, table.step),
                Rows::Contacts => 4 * 4 * 8,
            };
            let contributors = contributors(plan, *table);
            let pages = contributors * (PAGE_ROWS as u64 * row + 512);
            let batch = BATCH_ROWS as u64 * 8 * 32 * 2;
            let ahead = AHEAD_BYTES.min(contributors * READ_BYTES);
            let unit = pages + batch + 4 * plan.merge.range_rows;
            Needs { unit, ahead, units: u64::MAX, waits: true, ..Needs::default() }
        }
        StageKind::Relabel { step } => {
            // The runs as bytes and decoded, a label for each object, and a painted chunk with the object being encoded.
            let Some(stored) = plan.stored(step + 1) else { return Needs::default() };
            let runs = voxels.div_ceil(2) * size_of::<runs::Run>() as u64;
            let bytes = voxels.div_ceil(2) * 4;
            let labels = voxels.div_ceil(2) * 8;
            let mask = mask_bytes(plan, voxels, matches!(plan.ops[*step], Op::FillHoles { .. }));
            let painted = (stored.spec.chunks.iter().product::<usize>() * stored.spec.dtype.size()) as u64;
            let held = runs + labels + mask;
            // Where a block is several objects, what they are painted from waits with those that are written.
            let beside = if one_object(plan, stored) { 0 } else { held } + stored.spec.most_bytes();
            let unit = held + bytes.max(painted + object_bytes(stored));
            Needs { unit, beside, units: plan.grid.units(), ..Needs::default() }
        }
        StageKind::Table(_) => {
            // The columns as they were read, of the one being encoded its values (twice) and its pages instead, and the batch
            // being read.
            let unit = plan.merge.group_rows * 8 * (COLUMNS_OF_UNIT as u64 + 2);
            let batch = BATCH_ROWS as u64 * 8 * COLUMNS_OF_UNIT as u64;
            Needs { unit: unit + batch + (4 << 20), units: u64::MAX, waits: true, ..Needs::default() }
        }
        StageKind::Level { image, level } => {
            let Some(stored) = plan.stored(*image) else { return Needs::default() };
            let (finer, spec) = (stored.level_spec(level - 1), stored.level_spec(*level));
            let dtype = if spec.dtype == Dtype::Bool { Dtype::U8 } else { spec.dtype };
            let outline = Outline {
                finer: finer.extent,
                dtype,
                chunk: finer.chunks,
                chunk_bytes: (finer.chunks.iter().product::<usize>() * dtype.size()) as u64,
                factors: stored.levels[*level].step,
                spec: &spec,
            };
            // Nothing is read before there is a core to compute on, so none waits beside them.
            let units = plan.level_objects(*image, *level).unwrap_or(1);
            Needs { unit: outline.object_bytes(), units, ..Needs::default() }
        }
        StageKind::Publish => Needs { unit: plan.merge.group_rows * 8 + 4 * TALLY_BYTES, units: 1, ..Needs::default() },
    }
}

/// Blocks and groups that have rows in one range.
pub(super) fn contributors(plan: &Plan, table: TableId) -> u64 {
    let counts = plan.grid.counts();
    // A range of first voxels reaches over a layer of blocks and the groups above it, seldom into a second; ids of given
    // objects may come from anywhere.
    match (table.of, &plan.ops[table.step]) {
        (Rows::Contacts, _) | (_, Op::Objects { .. }) => plan.grid.units(),
        _ => (3 * (counts[1] * counts[2]) as u64).min(2 * plan.grid.units()),
    }
}

/// What a part of the mask takes while it is used, with the array it is made of.
fn mask_bytes(plan: &Plan, voxels: u64, used: bool) -> u64 {
    match &plan.mask {
        Some(mask) if used => voxels * (1 + mask.dtype.size() as u64) + mask.chunk_bytes.max(READ_PART_BYTES),
        _ => 0,
    }
}

/// What reading a region holds.
struct Reading {
    /// The image alone.
    image: u64,
    /// With the raw bytes of the parts that are on their way.
    fetching: u64,
    /// With one part that is being decoded, and a chunk of it.
    decoding: u64,
}

/// While one part is decoded, the next is on its way; a chunk is there twice then, as voxels and as the bytes that they
/// are made of. Decoding needs a permit to compute, fetching does not.
fn reading(region: &Region, voxel_bytes: usize, chunk: [usize; 3], chunk_bytes: u64) -> Reading {
    let image = (region.voxels() * voxel_bytes) as u64;
    let all = chunks_in(region, chunk) * chunk_bytes;
    let part = chunk_bytes.max(READ_PART_BYTES);
    let fetching = image + all.min(RAW_PARTS * part);
    Reading { image, fetching, decoding: fetching + all.min(part) + chunk_bytes }
}

fn map_needs(plan: &Plan, pass: &Pass, segment: u64, threads: usize) -> Needs {
    let block = middle_block(plan);
    let voxels = block.voxels() as u64;
    let regions = plan.regions(pass, block);
    let (dtype, chunk, chunk_bytes) = lies_as(plan, pass.from);
    let main = reading(&regions[0], dtype.size(), chunk, chunk_bytes);
    // An image that lies narrower than the ops take it is there twice for a moment.
    let widened =
        if plan.dtype(pass.from) == dtype { 0 } else { (regions[0].voxels() * plan.dtype(pass.from).size()) as u64 };

    let (mut kept, mut aside) = (0, None);
    match beside(plan, pass) {
        Some(Beside::OnTheWay(image)) => kept += voxels * plan.dtype(image).size() as u64,
        Some(Beside::Image(image)) => {
            let (dtype, chunk, chunk_bytes) = lies_as(plan, image);
            aside = Some(reading(&block, dtype.size(), chunk, chunk_bytes));
        }
        Some(Beside::Other) => {
            if let super::Intensity::Other(other) = &plan.intensity {
                aside = Some(reading(&block, other.dtype.size(), other.chunk, other.chunk_bytes));
            }
        }
        None => {}
    }
    kept += aside.as_ref().map_or(0, |aside| aside.image);
    let mask_region = plan.mask_region(pass, &regions, block);
    kept += mask_region.map_or(0, |region| region.voxels() as u64);
    let read_mask = mask_region.map_or(0, |region| mask_bytes(plan, region.voxels() as u64, true));
    let fetching = kept + main.fetching.max(aside.as_ref().map_or(0, |a| a.fetching)).max(read_mask);
    let decoding = kept + (main.decoding + widened).max(aside.as_ref().map_or(0, |a| a.decoding)).max(read_mask);

    let mut most = 0;
    let mut waiting = 0;
    for ops in runs_together(plan, pass) {
        let regions = &regions[ops.start - pass.from..=ops.end - pass.from];
        let bytes = together::peak_bytes(&plan.ops[ops.clone()], plan.dtype(ops.start), regions, plan.extent);
        most = most.max(bytes as u64);
    }
    for (i, image) in (pass.from..=pass.to).enumerate() {
        let (dtype, region) = (plan.dtype(image), regions[i]);
        let bytes = (region.voxels() * dtype.size()) as u64;
        let leaves: Vec<&Leaf> = pass.leaves.iter().filter(|leaf| leaf.image() == image).collect();
        for (n, leaf) in leaves.iter().enumerate() {
            let (leaving, then) = leaf_bytes(plan, leaf, block, dtype.size() as u64);
            // Inside a mask, rows are left of a copy where the image goes on.
            let goes_on = image < pass.to || n + 1 < leaves.len();
            let rim = block.grown([leaf.rim(); 3], plan.extent.shape);
            let copied = plan.mask.is_some() && leaf.rim() > 0 && goes_on;
            let copy = if copied { (rim.voxels() * dtype.size()) as u64 } else { 0 };
            most = most.max(bytes + copy + leaving);
            let alone = matches!(leaf, Leaf::Image(_))
                && image == pass.to
                && plan.stored(image).is_some_and(|stored| one_object(plan, stored));
            waiting = waiting.max(if then == 0 { 0 } else { then + copy + if alone { 0 } else { bytes } });
        }
    }
    let counts = pass.counts().count() as u64;
    let later = pass.counts().any(|count| count.image > 0);
    let tallies = counts * TALLY_BYTES + u64::from(later) * TALLY_BYTES;
    let unit = decoding.max(most + kept) + tallies;
    // Each segment under way joins the histograms of its blocks.
    let segments = (threads as u64).div_ceil(segment.max(1)) + SEGMENTS_ASIDE;
    let beside = fetching.max(waiting + kept) + segments * tallies;
    let useful_cache = useful_cache(plan, &regions[0], chunk, chunk_bytes, 2 * threads);
    Needs { unit, beside, useful_cache, units: plan.grid.units(), ..Needs::default() }
}

/// Type, chunks and bytes of a decoded chunk of an image where it lies.
fn lies_as(plan: &Plan, image: usize) -> (Dtype, [usize; 3], u64) {
    match plan.stored(image).filter(|_| image > 0) {
        Some(stored) => {
            // Masks lie as bytes.
            let dtype = if stored.spec.dtype == Dtype::Bool { Dtype::U8 } else { stored.spec.dtype };
            (dtype, stored.spec.chunks, (stored.spec.chunks.iter().product::<usize>() * dtype.size()) as u64)
        }
        None => (plan.input.dtype, plan.input.chunk, plan.input.chunk_bytes),
    }
}

/// What leaving something of a block takes beside the image, and what of it waits for the store while other blocks are
/// computed.
fn leaf_bytes(plan: &Plan, leaf: &Leaf, block: Region, voxel_bytes: u64) -> (u64, u64) {
    let voxels = block.voxels() as u64;
    match *leaf {
        // Inside a mask, the values are gathered first.
        Leaf::Count(_) => (if plan.mask.is_some() { voxels * voxel_bytes } else { 0 }, 0),
        Leaf::Image(image) => {
            plan.stored(image).map_or((0, 0), |stored| (object_bytes(stored), stored.spec.most_bytes()))
        }
        Leaf::Labels { step } => {
            // The background is a mask of its own.
            let background =
                if matches!(plan.ops[step], Op::FillHoles { .. }) { voxels * (1 + voxel_bytes) } else { 0 };
            (background + label_bytes(plan, step, block), background + UPLOAD_BYTES)
        }
        Leaf::Rows { step } => {
            let runs = runs::of_values_peak_bytes(block) as u64;
            (runs + voxels * 5 + BLOCK_ROWS as u64 * row_bytes(plan, step) * 2, UPLOAD_BYTES)
        }
        Leaf::Contacts { .. } => (voxel::contacts::peak_bytes(BLOCK_CONTACTS + 13 * block.shape()[2]) as u64, 0),
    }
}

/// What stays of labelling a block, at its worst: runs and sets, one byte and one number per label, the encoded runs,
/// and the rows gathered.
fn label_bytes(plan: &Plan, step: usize, block: Region) -> u64 {
    let voxels = block.voxels() as u64;
    let labels = voxels.div_ceil(2);
    let encoded = voxels.div_ceil(2) * 4;
    label::peak_bytes(block) as u64 + labels * 9 + 2 * encoded + BLOCK_ROWS as u64 * row_bytes(plan, step) * 2
}

/// A row as a value and as bytes.
fn row_bytes(plan: &Plan, step: usize) -> u64 {
    let kind = plan.rows_kind(step);
    (ObjectRow::memory_bytes(kind) + ObjectRow::bytes(kind)) as u64
}

/// An output object being encoded: the buffer of its bytes, one chunk as voxels and packed, and what its codec takes.
fn object_bytes(stored: &Stored) -> u64 {
    let spec = &stored.spec;
    let chunk = (spec.chunks.iter().product::<usize>() * spec.dtype.size()) as u64;
    stored.spec.most_bytes() + 2 * chunk + spec.codec.working_bytes(chunk)
}

/// Whether a block is one output object, so that its voxels can go before the object is written.
fn one_object(plan: &Plan, stored: &Stored) -> bool {
    stored.spec.unit_shape() == plan.grid.block
}

/// A block of full size that has neighbours on all sides where there are enough blocks.
fn middle_block(plan: &Plan) -> Region {
    let (shape, size) = (plan.extent.shape, plan.grid.largest());
    let start = std::array::from_fn(|a| ((shape[a] - size[a]) / 2 / size[a]) * size[a]);
    Region::new(start, size)
}

fn largest_face([z, y, x]: [usize; 3]) -> u64 {
    (z * y).max(z * x).max(y * x) as u64
}

/// Open objects that the children of a group can have at most: every other voxel of their faces.
fn open_objects_max(plan: &Plan, tree: Tree, level: u32) -> u64 {
    let blocks = tree.blocks_of(level, 0).shape();
    let child = (plan.merge.fanout as u64).saturating_pow(level - 1);
    let block = plan.grid.largest().map(|n| n as u64);
    let side = |axis: usize| block[axis] * child.min(blocks[axis] as u64);
    let children: u64 = (0..3).map(|a| (blocks[a] as u64).div_ceil(child)).product();
    let faces = 2 * (side(0) * side(1) + side(0) * side(2) + side(1) * side(2));
    children * faces.div_ceil(2)
}

/// Chunks that a region touches at most.
fn chunks_in(region: &Region, chunk: [usize; 3]) -> u64 {
    (0..3)
        .map(|a| region.shape()[a].div_ceil(chunk[a]) as u64 + u64::from(!region.shape()[a].is_multiple_of(chunk[a])))
        .product()
}

/// Whether blocks read chunks that others read, too: beyond their faces, or because blocks and chunks don't coincide. `read`
/// is what a block in the middle reads.
fn is_shared(plan: &Plan, read: &Region, chunk: [usize; 3], offset: [usize; 3]) -> bool {
    let block = plan.grid.block;
    (0..3).any(|a| {
        plan.grid.counts()[a] > 1
            && (read.shape()[a] > block[a] || !block[a].is_multiple_of(chunk[a]) || !offset[a].is_multiple_of(chunk[a]))
    })
}

/// Whether the blocks of a pass read chunks that others of them read, too.
pub(super) fn shares_chunks(plan: &Plan, pass: &Pass) -> bool {
    let block = middle_block(plan);
    let regions = plan.regions(pass, block);
    let offset = if pass.from == 0 { plan.input.offset } else { [0; 3] };
    let mask = plan.mask.as_ref().zip(plan.mask_region(pass, &regions, block));
    is_shared(plan, &regions[0], lies_as(plan, pass.from).1, offset)
        || mask.is_some_and(|(mask, region)| is_shared(plan, &region, mask.chunk, mask.offset))
}

/// Decoded chunks that blocks still to come will read again, where blocks and chunks don't coincide. Blocks are begun in C
/// order, so these are what a layer of blocks shares with the next, what a row of them shares with the next, and what
/// surrounds those under way, `at_once` of them.
fn useful_cache(plan: &Plan, read: &Region, chunk: [usize; 3], chunk_bytes: u64, at_once: usize) -> u64 {
    let block = plan.grid.block;
    if !is_shared(plan, read, chunk, plan.input.offset) {
        return chunk_bytes;
    }
    let kept = chunk_bytes + ENTRY_BYTES;
    let (shape, offset) = (plan.extent.shape, plan.input.offset);
    let across = |a: usize| (offset[a] % chunk[a] + shape[a]).div_ceil(chunk[a]);
    // Where blocks begin with a chunk, so does every layer; else one may begin and end within a chunk.
    let covering = |a: usize| {
        let aligned = block[a].is_multiple_of(chunk[a]) && offset[a] % chunk[a] == 0;
        let halo = read.shape()[a].saturating_sub(block[a]).div_ceil(2);
        let chunks = match aligned {
            true => block[a] / chunk[a] + 2 * halo.div_ceil(chunk[a]),
            false => read.shape()[a].div_ceil(chunk[a]) + 1,
        };
        chunks.min(across(a))
    };
    // Of neighbours along an axis, both read the chunks as far as the halo reaches to both sides of their border.
    let shared = |a: usize| {
        let halo = read.shape()[a].saturating_sub(block[a]).div_ceil(2);
        let chunks = match block[a].is_multiple_of(chunk[a]) && offset[a].is_multiple_of(chunk[a]) {
            true => 2 * halo.div_ceil(chunk[a]),
            false => (2 * halo).div_ceil(chunk[a]) + 1,
        };
        if plan.grid.counts()[a] == 1 { 0 } else { chunks.min(covering(a)) }
    };
    let layers = shared(0) * across(1) * across(2);
    let rows = covering(0) * shared(1) * across(2);
    let here = at_once * covering(0) * covering(1) * covering(2);
    (layers + rows + here).min(covering(0) * across(1) * across(2)) as u64 * kept
}
