//! Reading what a block needs, part by part.

use bytes::Bytes;
use tokio::task::JoinSet;
use voxel::{AnyVolume, Dtype, Region, Volume};

use super::Done;
use crate::array::{Array, Canvas, Fetched, Wanted};
use crate::plan::memory::READ_PART_BYTES;
use crate::plan::{Input, Intensity, Part};
use crate::sources::Role;
use crate::task::{Gate, Worker};
use crate::{Error, Result};

/// What a block of a stage reads, and what is told of that.
pub(super) struct Reader<'a> {
    pub(super) worker: &'a Worker,
    pub(super) gate: &'a Gate,
    pub(super) stage: usize,
    pub(super) unit: u64,
    pub(super) block: Region,
    /// Whether parts must come in C order.
    pub(super) in_order: bool,
    pub(super) done: &'a mut Done,
}

/// An array that the plan reads, and what it is to a block.
#[derive(Clone, Copy)]
struct Source<'a> {
    array: &'a Array,
    input: &'a Input,
    role: Role,
    part: Part,
}

impl<'a> Source<'a> {
    /// The input, as `part` of what a block reads.
    fn input(worker: &'a Worker, part: Part) -> Self {
        Self { array: &worker.sources.input, input: &worker.plan.input, role: Role::Input, part }
    }
}

impl Reader<'_> {
    /// Reads `region` of an image, which is `part` of what the block reads: the input where it lies, any other where an
    /// earlier stage has put it.
    pub(super) async fn image(&mut self, image: usize, part: Part, region: Region) -> Result<AnyVolume> {
        let worker = self.worker;
        if image == 0 {
            return self.source(Source::input(worker, part), region).await;
        }
        let array = worker.stored(image).await?;
        let mut gone = None;
        let note = |part: &Fetched| gone = gone.take().or_else(|| part.absent());
        let voxels = self.boxed(&array, part, region, note).await?;
        // Every object of such an image was written, those that are all fill too: this one has been deleted since, by a
        // rule of the bucket or by hand, and what it held is not known.
        if let Some(key) = gone {
            let why = "is not there any more, though this run wrote it";
            let hint = "run again with --overwrite to compute everything anew";
            return Err(Error::data(format!("{} {why}", array.store().display(&key))).hint(hint));
        }
        // Masks are stored as bytes, and labels as narrow as they can be.
        let dtype = worker.plan.dtype(image);
        Ok(if voxels.dtype() == dtype { voxels } else { voxel::filter::cast(voxels, region, dtype) })
    }

    /// Reads the block in the array that object statistics read, where it is another than the job's own images.
    pub(super) async fn intensity(&mut self) -> Result<AnyVolume> {
        let (worker, block) = (self.worker, self.block);
        match (&worker.sources.intensity, &worker.plan.intensity) {
            (Some(array), Intensity::Other(other)) => {
                let (role, part) = (Role::Intensity, Part::Intensity);
                self.source(Source { array, input: other, role, part }, block).await
            }
            _ => Err(Error::internal("the array of intensities was not opened")),
        }
    }

    /// Reads `region` of the mask: true inside.
    pub(super) async fn mask(&mut self, region: Region) -> Result<Volume<bool>> {
        let worker = self.worker;
        let (Some(array), Some(input)) = (&worker.sources.mask, &worker.plan.mask) else {
            return Err(Error::internal("the mask was not opened"));
        };
        let voxels = self.source(Source { array, input, role: Role::Mask, part: Part::Mask }, region).await?;
        match voxel::filter::cast(voxels, region, Dtype::Bool) {
            AnyVolume::Bool(mask) => Ok(mask),
            _ => Err(Error::internal("a mask is not bool")),
        }
    }

    /// Reads `region` of the input chunk by chunk, in C order: `each` gets the voxels of the image in one, and unless the store
    /// has none, what it holds and how that is packed.
    pub(super) async fn input_chunks(
        &mut self,
        region: Region,
        mut each: impl FnMut(Region, Option<(AnyVolume, Option<Bytes>)>) -> Result<()>,
    ) -> Result<()> {
        let source = Source::input(self.worker, Part::From);
        let input = source.input;
        let decode = |part: Fetched, wanted: &Wanting<'_>| {
            part.decode_each(wanted, |covers, chunk| {
                let covers = input.region_in(covers);
                each(covers, chunk.map(|(voxels, packed)| (at(voxels, covers), packed)))
            })
        };
        self.source_parts(source, region, decode).await
    }

    /// Reads `region` from an array that the plan reads.
    async fn source(&mut self, source: Source<'_>, region: Region) -> Result<AnyVolume> {
        let mut canvas = Canvas::new(source.array.dtype(), source.input.region_of(region));
        let put = |part: Fetched, wanted: &Wanting<'_>| part.decode_into(&mut canvas, wanted);
        self.source_parts(source, region, put).await?;
        Ok(at(canvas.into_image(), region))
    }

    /// [`Reader::parts`] of an array that the plan reads, with what is told of them. Many blocks read a chunk of the input; the
    /// one whose own it is tells that it was missing.
    async fn source_parts(
        &mut self,
        source: Source<'_>,
        region: Region,
        decode: impl FnMut(Fetched, &Wanting<'_>) -> Result<()>,
    ) -> Result<()> {
        let Source { array, input, role, part } = source;
        let own = (role == Role::Input).then(|| input.region_of(self.block));
        let (mut read, mut missing) = (Vec::new(), 0);
        let note = |part: &Fetched| {
            read.extend(part.versions().into_iter().map(|(key, version)| (role.key(&key), version)));
            missing += own.map_or(0, |own| part.missing_in(own, input.offset) as u64);
        };
        self.parts(array, part, input.region_of(region), note, decode).await?;
        self.done.read.extend(read);
        self.done.missing_chunks += missing;
        Ok(())
    }

    /// Reads `region` of an array, in voxels of that.
    async fn boxed(&self, array: &Array, part: Part, region: Region, note: impl FnMut(&Fetched)) -> Result<AnyVolume> {
        let mut canvas = Canvas::new(array.dtype(), region);
        self.parts(array, part, region, note, |part, wanted| part.decode_into(&mut canvas, wanted)).await?;
        Ok(canvas.into_image())
    }

    /// Whether parts are read from the last to the first. Neighbours are computed at the same time: from the same end, they
    /// would want the same chunk at the same time again and again, and one would wait for the other to decode it. From both
    /// ends they meet once, and all that one has decoded must be there then. In a bucket, where what has gone costs a
    /// request, and where more of them read than compute, they keep to the order in which chunks are let go of.
    fn backwards(&self) -> bool {
        let grid = &self.worker.plan.grid;
        let at = |a: usize| self.block.start[a] / grid.block[a].max(1);
        let free = !self.in_order && self.gate.threads().is_some() && self.gate.keeps_shared();
        free && (at(0) + at(1) + at(2)) % 2 == 1
    }

    /// Fetches `region` of an array, in voxels of that, part by part, and has each decoded under a permit to compute.
    async fn parts(
        &self,
        array: &Array,
        part: Part,
        region: Region,
        mut note: impl FnMut(&Fetched),
        mut decode: impl FnMut(Fetched, &Wanting<'_>) -> Result<()>,
    ) -> Result<()> {
        let wanted = self.worker.plan.wanted(self.stage, part, self.block);
        let mut parts = parts(region, array.chunk(), array.dtype().size());
        if self.backwards() {
            parts.reverse();
        }
        let fetch = |part| {
            let (array, cache) = (array.clone(), self.worker.cache.clone());
            async move { array.fetch(&cache, part).await }
        };
        let mut ahead = JoinSet::new();
        for n in 0..parts.len() {
            let part = match self.gate.threads() {
                Some(threads) => {
                    let part = fetch(parts[n]).await?;
                    if n + 1 == parts.len() {
                        self.want_soon(array, region, threads);
                    }
                    part
                }
                // A task of its own, so that the next part is on its way while one is decoded; it ends with this future.
                None => {
                    if n == 0 {
                        ahead.spawn(fetch(parts[n]));
                    }
                    let part = ahead.join_next().await.ok_or_else(|| Error::internal("a part was not asked for"))?;
                    parts.get(n + 1).map(|next| ahead.spawn(fetch(*next)));
                    part.map_err(|e| Error::internal(format!("a read did not end well: {e}")))??
                }
            };
            note(&part);
            let permit = self.gate.compute().await?;
            tokio::task::block_in_place(|| decode(part, &wanted))?;
            drop(permit);
        }
        Ok(())
    }

    /// Says what the block will read that this thread comes to next, of which this one reads `region`: disks have it at hand
    /// by then, if they are told before this one is computed.
    fn want_soon(&self, array: &Array, region: Region, threads: usize) {
        let grid = &self.worker.plan.grid;
        let next = self.unit + threads as u64;
        if next < grid.units() {
            let moved = |at: usize, a: usize| (at + grid.region(next).start[a]).saturating_sub(self.block.start[a]);
            let there = Region {
                start: std::array::from_fn(|a| moved(region.start[a], a)),
                end: std::array::from_fn(|a| moved(region.end[a], a)),
            };
            if let Some(there) = there.intersection(&array.extent().region()) {
                array.want_soon(&self.worker.cache, there);
            }
        }
    }
}

/// Tells of a chunk who else wants it.
type Wanting<'a> = dyn Fn(Region) -> Wanted + Send + Sync + 'a;

/// The same voxels with coordinates that start where `region` does.
fn at(image: AnyVolume, region: Region) -> AnyVolume {
    let mut image = image;
    voxel::with_volume!(&mut image, volume => volume.region = region);
    image
}

/// Cuts a box into boxes of whole chunks (where the box has whole chunks) of about [`READ_PART_BYTES`], in C order.
fn parts(region: Region, chunk: [usize; 3], voxel_bytes: usize) -> Vec<Region> {
    let mut size = chunk.map(|c| c.max(1));
    for axis in [2, 1, 0] {
        let bytes = size.iter().product::<usize>() * voxel_bytes;
        let times = (READ_PART_BYTES as usize / bytes.max(1)).max(1);
        let chunks = region.end[axis].div_ceil(size[axis]) - region.start[axis] / size[axis];
        size[axis] *= times.min(chunks);
    }
    let first: [usize; 3] = std::array::from_fn(|a| region.start[a] / chunk[a].max(1) * chunk[a].max(1));
    let steps = |a: usize| (first[a]..region.end[a]).step_by(size[a]);
    let mut parts = Vec::new();
    for z in steps(0) {
        for y in steps(1) {
            for x in steps(2) {
                parts.extend(Region::new([z, y, x], size).intersection(&region));
            }
        }
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_tile_the_region_along_chunk_borders() {
        for (region, chunk) in [
            (Region { start: [3, 0, 7], end: [70, 200, 129] }, [32, 64, 64]),
            (Region { start: [0, 0, 0], end: [1, 5000, 5000] }, [1, 512, 512]),
            (Region { start: [5, 6, 7], end: [6, 7, 8] }, [4, 4, 4]),
        ] {
            let parts = parts(region, chunk, 2);
            assert_eq!(parts.iter().map(Region::voxels).sum::<usize>(), region.voxels());
            for part in &parts {
                assert!(region.contains(part));
                assert!((0..3).all(|a| part.start[a] == region.start[a] || part.start[a] % chunk[a] == 0));
            }
        }
    }
}
