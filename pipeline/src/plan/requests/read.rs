//! What reading arrays takes: a request for each chunk, as often as it is fetched.

use super::{Asked, Counting, Span};
use crate::array::ArraySpec;
use crate::plan::memory::Limits;
use crate::plan::{Input, Pass, Plan, StageKind, Stored};
use crate::pyramid::Outline;
use voxel::{Dtype, Region};

/// What a decoded chunk costs the cache beside its voxels.
pub(in crate::plan) const ENTRY_BYTES: u64 = 256;

/// Where an array lies, and in which pieces.
struct Lies {
    /// Its name among the arrays of a plan.
    name: String,
    /// Whether it is one that the plan reads and doesn't write.
    source: bool,
    chunk: [usize; 3],
    shard: Option<[usize; 3]>,
    chunk_bytes: u64,
    offset: [usize; 3],
}

impl Lies {
    fn input(input: &Input) -> Self {
        let Input { chunk, shard, chunk_bytes, offset, .. } = *input;
        Self { name: input.url.clone(), source: true, chunk, shard, chunk_bytes, offset }
    }

    fn image(plan: &Plan, image: usize) -> Self {
        match plan.stored(image).filter(|_| image > 0) {
            Some(stored) => Self::written(&stored.spec, format!("image {image}")),
            None => Self::input(&plan.input),
        }
    }

    fn written(spec: &ArraySpec, name: String) -> Self {
        let dtype = if spec.dtype == Dtype::Bool { Dtype::U8 } else { spec.dtype };
        let chunk_bytes = (spec.chunks.iter().product::<usize>() * dtype.size()) as u64;
        Self { name, source: false, chunk: spec.chunks, shard: spec.shards, chunk_bytes, offset: [0; 3] }
    }
}

/// Pieces of a grid of `cell` along one axis that some voxels touch.
fn touched((start, end): (usize, usize), cell: usize) -> u64 {
    (end.div_ceil(cell.max(1)) - start / cell.max(1)) as u64
}

/// One array that a stage reads.
struct Read {
    lies: Lies,
    /// Chunks, summed over all blocks.
    by_block: u64,
    /// Chunks that there are.
    chunks: u64,
    /// Shards that there are.
    shards: u64,
}

/// The arrays that the blocks of a stage read.
pub(super) struct Reading<'a> {
    counting: &'a Counting<'a>,
    stage: usize,
    limits: Limits,
    reads: Vec<Read>,
}

impl<'a> Reading<'a> {
    pub(super) fn new(counting: &'a Counting<'a>, stage: usize, limits: Limits) -> Self {
        Self { counting, stage, limits, reads: Vec::new() }
    }

    /// Each block reads `region` of an image: the input, or one that an earlier stage has left.
    pub(super) fn image(&mut self, image: usize, region: impl Fn(Region) -> Region) {
        self.add(Lies::image(self.counting.plan, image), region);
    }

    /// Each block reads `region` of another array.
    pub(super) fn source(&mut self, input: &Input, region: impl Fn(Region) -> Region) {
        self.add(Lies::input(input), region);
    }

    /// Regions are made axis by axis, so that chunks can be counted along each and multiplied.
    fn add(&mut self, lies: Lies, region: impl Fn(Region) -> Region) {
        let grid = self.counting.plan.grid;
        let first = grid.region(0);
        let (mut by_block, mut chunks, mut shards) = (1u64, 1u64, 1u64);
        for a in 0..3 {
            let along = |i: usize| {
                let mut block = first;
                block.start[a] = i * grid.block[a];
                block.end[a] = ((i + 1) * grid.block[a]).min(grid.extent.shape[a]);
                let region = region(block);
                (region.start[a] + lies.offset[a], region.end[a] + lies.offset[a])
            };
            by_block *= (0..grid.counts()[a]).map(|i| touched(along(i), lies.chunk[a])).sum::<u64>();
            let all = (lies.offset[a], lies.offset[a] + grid.extent.shape[a]);
            chunks *= touched(all, lies.chunk[a]);
            shards *= lies.shard.map_or(1, |shard| touched(all, shard[a]));
        }
        self.reads.push(Read { lies, by_block, chunks, shards });
    }

    /// What is asked of the plan's sources, and of the output.
    pub(super) fn asked(&self) -> (Asked, Asked) {
        let bytes = |read: &Read| read.chunks.saturating_mul(read.lies.chunk_bytes + ENTRY_BYTES);
        // A single process computes blocks in order, so that it needs room only for what later ones share.
        let in_order = self.counting.terms.processes <= 1 && self.reads.len() == 1 && self.limits.keeps_shared;
        let kept = in_order || self.reads.iter().map(bytes).sum::<u64>() <= self.limits.cache_bytes;
        let (mut source, mut output) = (Asked::default(), Asked::default());
        for (i, read) in self.reads.iter().enumerate() {
            let twice = self.reads[..i].iter().any(|other| other.lies.name == read.lies.name);
            let to = if read.lies.source { &mut source } else { &mut output };
            *to += self.asked_of(read, kept, twice);
        }
        (source, output)
    }

    /// `kept` where a process has room for every chunk that the stage reads, as long as it is wanted, `twice` where it reads
    /// the array for something else, too.
    fn asked_of(&self, read: &Read, kept: bool, twice: bool) -> Asked {
        let Read { lies, by_block, chunks, shards } = read;
        // Blocks that share no chunk read each once, whoever computes them. Else each process reads one once if it can
        // keep it, and else again for each block at worst.
        let most = match kept {
            true => (*by_block).min(chunks.saturating_mul(self.counting.terms.processes.max(1))),
            false => *by_block,
        };
        // What an earlier stage has read may still be there.
        let before = self.counting.plan.stages[..self.stage].iter().any(|stage| match &stage.kind {
            StageKind::Map(pass) => reads(self.counting.plan, pass, &lies.name),
            _ => false,
        });
        let there = match (before || twice, lies.chunk_bytes) {
            (true, bytes) => self.limits.cache_bytes / bytes.max(1) + u64::from(twice) * chunks,
            (false, _) => 0,
        };
        let least = chunks.saturating_sub(there);
        let bytes_in = Span::up_to(most.saturating_mul(lies.chunk_bytes + lies.chunk_bytes / 64 + 1024));
        let gets = match lies.shard {
            None => Span { low: least, high: most },
            // An index for each shard, which may have to be read again; chunks that lie side by side come in one request.
            Some(_) => Span { low: if there > 0 { 0 } else { *shards }, high: most.saturating_mul(2) },
        };
        Asked { gets, bytes_in, ..Asked::default() }
    }
}

/// Whether a pass reads an array of this name.
fn reads(plan: &Plan, pass: &Pass, name: &str) -> bool {
    let others = plan.mask.as_ref().is_some_and(|mask| mask.url == name)
        || matches!(&plan.intensity, crate::plan::Intensity::Other(other) if other.url == name);
    let beside = match crate::map::beside(plan, pass) {
        Some(crate::map::Beside::Image(image)) => Lies::image(plan, image).name == name,
        _ => false,
    };
    others || beside || Lies::image(plan, pass.from).name == name
}

/// What making a level reads of the one before.
pub(super) fn shrink(stored: &Stored, level: usize) -> Asked {
    let (finer, spec) = (stored.level_spec(level - 1), stored.level_spec(level));
    let lies = Lies::written(&finer, String::new());
    let factors = stored.levels[level].step;
    let dtype = if spec.dtype == Dtype::Bool { Dtype::U8 } else { spec.dtype };
    let outline = Outline {
        finer: finer.extent,
        dtype,
        chunk: finer.chunks,
        chunk_bytes: lies.chunk_bytes,
        factors,
        spec: &spec,
    };
    let (part, unit, shape) = (outline.part(), spec.unit_shape(), spec.extent.shape);
    let (mut by_part, mut chunks, mut pairs, mut shards) = (1u64, 1u64, 1u64, 1u64);
    let shard = lies.shard.unwrap_or(lies.chunk);
    for a in 0..3 {
        let (mut cells, mut of_shards) = (0, 0);
        for object in (0..shape[a]).step_by(unit[a]) {
            let end = (object + unit[a]).min(shape[a]);
            for start in (object..end).step_by(part[a]) {
                let end = (start + part[a]).min(end);
                let source = (start * factors[a], (end * factors[a]).min(finer.extent.shape[a]));
                cells += touched(source, lies.chunk[a]);
                of_shards += touched(source, shard[a]);
            }
        }
        by_part *= cells;
        pairs *= of_shards;
        chunks *= touched((0, finer.extent.shape[a]), lies.chunk[a]);
        shards *= touched((0, finer.extent.shape[a]), shard[a]);
    }
    let gets = match lies.shard {
        // Nothing is kept from one part to the next, but parts that are made at once may share.
        None => Span { low: chunks, high: by_part },
        Some(_) => Span { low: shards, high: pairs + by_part },
    };
    let bytes_in = Span::up_to(by_part.saturating_mul(lies.chunk_bytes + lies.chunk_bytes / 64 + 1024));
    Asked { gets, bytes_in, ..Asked::default() }
}
