//! Which blocks of a run read a chunk, so that a worker knows when it is wanted next, and when it has seen the last of it.

use std::ops::Range;

use voxel::Region;

use super::{Intensity, Pass, Plan, StageKind};
use crate::array::Wanted;
use crate::grid::{self, Grid};
use crate::map::{Beside, beside};

/// An array of which each block of a pass reads a part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The image that a pass starts from.
    From,
    /// An image that lies beside it, under this number: of that the block itself.
    Image(usize),
    /// The array that object statistics read: the block itself, too.
    Intensity,
    /// The mask.
    Mask,
}

impl Plan {
    /// Tells of a chunk, by the voxels of the array that it covers, who reads it beside `block` of `stage`. How often it is read
    /// in the whole run is known where only one pass reads it.
    pub(crate) fn wanted(&self, stage: usize, part: Part, block: Region) -> impl Fn(Region) -> Wanted + Send + Sync {
        let (grid, at) = (self.grid, std::array::from_fn(|a| block.start[a] / self.grid.block[a]));
        let pass = match self.stages.get(stage).map(|stage| &stage.kind) {
            Some(StageKind::Map(pass)) => Some(pass),
            _ => None,
        };
        let offset = match (part, &self.intensity, &self.mask) {
            (Part::From, ..) if pass.is_some_and(|pass| pass.from == 0) => self.input.offset,
            (Part::Image(0), ..) => self.input.offset,
            (Part::Intensity, Intensity::Other(other), _) => other.offset,
            (Part::Mask, _, Some(mask)) => mask.offset,
            _ => [0; 3],
        };
        let only = part == Part::From && pass.is_some_and(|pass| self.is_only_reader(pass));
        move |chunk| {
            let reads = |block: Region| match (part, pass) {
                (Part::From, Some(pass)) => self.regions(pass, block)[0],
                (Part::Mask, Some(pass)) => self.mask_region(pass, &self.regions(pass, block), block).unwrap_or(block),
                _ => block,
            };
            let blocks = [0, 1, 2].map(|a| blocks_along(a, grid, &reads, chunk, offset[a]));
            let all: usize = blocks.iter().map(Range::len).product();
            let next = match grid::following(at, &blocks) {
                Some(next) => (stage, grid::number(next, grid.counts())),
                // A later stage may.
                None => (stage + 1, 0),
            };
            Wanted { readers: if only { all as u64 } else { u64::MAX }, next }
        }
    }

    /// Whether nothing but this pass reads the image that it starts from.
    fn is_only_reader(&self, pass: &Pass) -> bool {
        let image = pass.from;
        let passes = self.stages.iter().filter_map(|stage| match &stage.kind {
            StageKind::Map(pass) => Some(pass),
            _ => None,
        });
        let reading = passes.filter(|pass| pass.from == image || beside(self, pass) == Some(Beside::Image(image)));
        let other = match &self.intensity {
            Intensity::Other(other) => Some(other),
            Intensity::Image(_) => None,
        };
        let again = self.mask.iter().chain(other).any(|input| input.url == self.input.url);
        reading.count() == 1 && (image > 0 || !again)
    }
}

/// The blocks along an axis of which `reads` touches a chunk. Regions are made axis by axis, so that blocks can be counted
/// along each.
fn blocks_along(a: usize, grid: Grid, reads: &dyn Fn(Region) -> Region, chunk: Region, offset: usize) -> Range<usize> {
    let (start, end) = (chunk.start[a].saturating_sub(offset), chunk.end[a].saturating_sub(offset));
    let touches = |i: &usize| {
        let mut block = grid.region(0);
        block.start[a] = i * grid.block[a];
        block.end[a] = ((i + 1) * grid.block[a]).min(grid.extent.shape[a]);
        let region = reads(block);
        region.start[a] < end && start < region.end[a]
    };
    // The block in which it begins, and its neighbours as far as they reach.
    let at = (start / grid.block[a]).min(grid.counts()[a] - 1);
    let below = (0..at).rev().take_while(touches).count();
    at - below..at + (at..grid.counts()[a]).take_while(touches).count()
}
