//! Reading a box of an array, part by part.

use futures::StreamExt;
use futures::stream;
use voxel::{AnyVolume, Dtype, Region, Volume};

use super::Done;
use crate::array::{Array, Canvas, ChunkCache, Fetched};
use crate::plan::memory::READ_PART_BYTES;
use crate::plan::{Input, Intensity};
use crate::sources::Role;
use crate::task::{Gate, Worker};
use crate::{Error, Result};

/// Reads `region` of an image, for the sake of `block`: the input where it lies, any other where an earlier stage has
/// put it.
pub(super) async fn image(
    worker: &Worker,
    gate: &Gate,
    image: usize,
    region: Region,
    block: Region,
    done: &mut Done,
) -> Result<AnyVolume> {
    if image == 0 {
        let (array, plan) = (&worker.sources.input, &worker.plan.input);
        return input(array, plan, Role::Input, Some(block), worker, gate, region, done).await;
    }
    let array = worker.stored(image).await?;
    let mut gone = None;
    let note = |part: &Fetched| gone = gone.take().or_else(|| part.absent());
    let voxels = boxed(&array, &worker.cache, gate, region, &worker.plan.readers(image), note).await?;
    // Every object of such an image was written, those that are all fill too: this one has been deleted since, by a rule
    // of the bucket or by hand, and what it held is not known.
    if let Some(key) = gone {
        let why = "is not there any more, though this run wrote it";
        let hint = "run again with --overwrite to compute everything anew";
        return Err(Error::data(format!("{} {why}", array.store().display(&key))).hint(hint));
    }
    // Masks are stored as bytes, and labels as narrow as they can be.
    let dtype = worker.plan.dtype(image);
    Ok(if voxels.dtype() == dtype { voxels } else { voxel::filter::cast(voxels, region, dtype) })
}

/// Reads `region` of the array that object statistics read, where it is another than the job's own images.
pub(super) async fn intensity(worker: &Worker, gate: &Gate, region: Region, done: &mut Done) -> Result<AnyVolume> {
    match (&worker.sources.intensity, &worker.plan.intensity) {
        (Some(array), Intensity::Other(other)) => {
            input(array, other, Role::Intensity, None, worker, gate, region, done).await
        }
        _ => Err(Error::internal("the array of intensities was not opened")),
    }
}

/// Reads `region` of the mask: true inside.
pub(super) async fn mask(worker: &Worker, gate: &Gate, region: Region, done: &mut Done) -> Result<Volume<bool>> {
    let (Some(array), Some(mask)) = (&worker.sources.mask, &worker.plan.mask) else {
        return Err(Error::internal("the mask was not opened"));
    };
    let voxels = input(array, mask, Role::Mask, None, worker, gate, region, done).await?;
    match voxel::filter::cast(voxels, region, Dtype::Bool) {
        AnyVolume::Bool(mask) => Ok(mask),
        _ => Err(Error::internal("a mask is not bool")),
    }
}

/// Reads `region` from an array that the plan reads. Many blocks read a chunk of the input; `block`, whose own it is, tells
/// that it was missing.
async fn input(
    array: &Array,
    input: &Input,
    role: Role,
    block: Option<Region>,
    worker: &Worker,
    gate: &Gate,
    region: Region,
    done: &mut Done,
) -> Result<AnyVolume> {
    let note = |part: &Fetched| {
        done.read.extend(part.versions().into_iter().map(|(key, version)| (role.key(&key), version)));
        if let Some(block) = block {
            done.missing_chunks += part.missing_in(input.region_of(block), input.offset) as u64;
        }
    };
    let (cache, region_of, plan) = (&worker.cache, input.region_of(region), &worker.plan);
    let image = match role {
        Role::Input => boxed(array, cache, gate, region_of, &plan.readers(0), note).await?,
        // What is read beside the input may be read by any pass.
        _ => boxed(array, cache, gate, region_of, &|_| u64::MAX, note).await?,
    };
    Ok(at(image, region))
}

async fn boxed(
    array: &Array,
    cache: &ChunkCache,
    gate: &Gate,
    region: Region,
    readers: &(dyn Fn(Region) -> u64 + Sync),
    mut note: impl FnMut(&Fetched),
) -> Result<AnyVolume> {
    let parts = parts(region, array.chunk(), array.dtype().size());
    let mut canvas = Canvas::new(array.dtype(), region);
    let mut fetched = stream::iter(parts.into_iter().map(|part| array.fetch(cache, part))).buffered(2);
    while let Some(part) = fetched.next().await {
        let part = part?;
        note(&part);
        let permit = gate.compute().await?;
        tokio::task::block_in_place(|| part.decode_into(&mut canvas, readers))?;
        drop(permit);
    }
    Ok(canvas.into_image())
}

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
