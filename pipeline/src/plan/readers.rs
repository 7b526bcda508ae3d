//! How often the blocks of a run read a chunk, so that a worker knows when it has seen the last of it.

use voxel::Region;

use super::{Intensity, Pass, Plan, StageKind};
use crate::map::{Beside, beside};

impl Plan {
    /// Tells of a chunk of an image (0 is the input), by the voxels of the array that it covers, how many blocks read it in
    /// the whole run. More than any number where that depends on more than one pass.
    pub(crate) fn readers(&self, image: usize) -> impl Fn(Region) -> u64 + Send + Sync {
        let (pass, offset) = (self.only_reader(image), if image == 0 { self.input.offset } else { [0; 3] });
        move |chunk| match pass {
            Some(pass) => self.blocks_that_read(pass, chunk, offset),
            None => u64::MAX,
        }
    }

    /// The pass that goes from an image, where nothing else reads that.
    fn only_reader(&self, image: usize) -> Option<&Pass> {
        let passes = self.stages.iter().filter_map(|stage| match &stage.kind {
            StageKind::Map(pass) => Some(pass),
            _ => None,
        });
        let mut reading = passes.filter(|pass| pass.from == image || beside(self, pass) == Some(Beside::Image(image)));
        let only = reading.next().filter(|pass| pass.from == image && reading.next().is_none());
        let other = match &self.intensity {
            Intensity::Other(other) => Some(other),
            Intensity::Image(_) => None,
        };
        let again = self.mask.iter().chain(other).any(|input| input.url == self.input.url);
        only.filter(|_| image > 0 || !again)
    }

    /// Regions are made axis by axis, so that blocks can be counted along each and multiplied.
    fn blocks_that_read(&self, pass: &Pass, chunk: Region, offset: [usize; 3]) -> u64 {
        let (grid, first) = (self.grid, self.grid.region(0));
        let along = |a: usize| {
            let (start, end) = (chunk.start[a].saturating_sub(offset[a]), chunk.end[a].saturating_sub(offset[a]));
            let reads = |i: &usize| {
                let mut block = first;
                block.start[a] = i * grid.block[a];
                block.end[a] = ((i + 1) * grid.block[a]).min(grid.extent.shape[a]);
                let region = self.regions(pass, block)[0];
                region.start[a] < end && start < region.end[a]
            };
            // The block in which it begins, and its neighbours as far as they reach.
            let at = (start / grid.block[a]).min(grid.counts()[a] - 1);
            let below = (0..at).rev().take_while(reads).count();
            (below + (at..grid.counts()[a]).take_while(reads).count()) as u64
        };
        (0..3).map(along).product()
    }
}
