//! `voxmill import`: image files become OME-Zarr, block by block, in bounded memory.
//!
//! A block is a whole number of the array's objects, so each object is encoded once and written once. Voxels come
//! first and the metadata last: until the import is complete there is nothing at the destination that opens. Each
//! format has a file of its own below; how arrays are encoded and stored is `pipeline`'s.

mod input;
mod layout;
mod nifti;
mod npy;
mod nrrd;
mod place;
mod raw;
mod reading;
mod source;
mod tiff;
mod voxel_size;
mod voxels;
mod zip;

use futures::{StreamExt, TryStreamExt, stream};
use pipeline::array::{ArraySpec, Codec, Geometry, METADATA_KEYS};
use pipeline::job::Write;
use pipeline::plan::memory::Resources;
use pipeline::store::{Store, Stores};
use pipeline::{Error, Result};
use source::Context;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use voxel::{AnyVolume, Dtype, Extent, Region};

use crate::pyramid;
pub use raw::Raw;
pub use reading::Reading;
pub(crate) use source::Source;
pub use voxel_size::VoxelSize;

/// What an import may be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Chunks, shards, codec, levels and version; without a codec, [`DEFAULT_CODEC`].
    pub write: Write,
    /// The physical size of a voxel, instead of what the file says; where neither says it, voxels are one by one by one
    /// of no unit.
    pub voxel_size: Option<VoxelSize>,
    /// Which image of the file is meant.
    pub reading: Reading,
    /// Replaces a Zarr that is already there.
    pub overwrite: bool,
}

/// The codec of an import that names none: every Zarr library reads it, and it loses little speed to the quickest.
pub const DEFAULT_CODEC: Codec = Codec::Zstd { level: 3 };

/// A finished import.
#[derive(Clone, Debug)]
pub struct Imported {
    /// The OME-Zarr group, as an absolute path or URL.
    pub url: String,
    /// Its finest array, `0`.
    pub array: ArraySpec,
    /// Size of the group in bytes.
    pub bytes_written: u64,
    /// What a user should know of what was made of the file, a line each.
    pub notes: Vec<String>,
}

/// The path of the full-resolution array in the group.
const LEVEL: &str = "0";

/// Reads the image in the file or folder `source` and writes it to `destination` as an OME-Zarr image with its levels, in
/// at most about `memory_bytes`. One TIFF page and arrays of two axes become 2-D images, several pages a volume.
/// `progress` is called after each block with the voxels done and all there are.
///
/// Where a slab of a packed file is larger than the memory, it is kept in a nameless file next to the destination.
///
/// # Errors
///
/// Invalid for files that hold something else than a grey image, a destination that exists, options that don't fit the
/// image, and memory too small for one shard; Data for damaged files, with the page. Whatever the error, nothing at the
/// destination opens, and what had been written is removed again.
pub async fn import(
    stores: &Stores,
    source: &Path,
    destination: &str,
    options: &Options,
    memory_bytes: u64,
    mut progress: impl FnMut(u64, u64),
) -> Result<Imported> {
    options.write.validate()?;
    let path = source.to_owned();
    let (reading, folder) = (options.reading.clone(), scratch_folder(destination));
    let mut source =
        off_thread(move || Source::open(&path, &Context { reading: &reading, memory_bytes, folder: &folder })).await?;
    let notes = std::mem::take(&mut source.notes);
    let mut place = std::mem::take(&mut source.place);
    if let Some(size) = &options.voxel_size {
        size.replace(&mut place);
    }
    let geometry = place.geometry(source.extent().planar);
    let array = array_spec(source.extent(), source.dtype(), &geometry, &options.write)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let blocks = Blocks::fitting(&array, &source, memory_bytes, workers)?;
    let store = stores.open(destination).await?;
    store.check_writable()?;
    let resources = Resources { memory_bytes, threads: workers, merge_bytes: None };
    pyramid::check_memory(&store, &array, &geometry, options.write.levels, &resources)?;
    make_way(&store, options.overwrite).await?;
    let array = Arc::new(array);
    let written = match write_voxels(source, &store, &array, &blocks, &mut progress).await {
        Ok(()) => pyramid::finish(&store, &array, &geometry, place.attributes, options.write.levels, &resources).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        // The error that stopped the import is the one to report, not what cleaning up after it may meet.
        let _ = remove(&store).await;
        return Err(error);
    }
    let bytes_written = store.requests().bytes_out;
    Ok(Imported { url: store.url().to_owned(), array: Arc::unwrap_or_clone(array), bytes_written, notes })
}

/// Opens a file and imports nothing.
pub(crate) fn look(path: &Path, reading: &Reading, memory_bytes: u64, folder: &Path) -> Result<Source> {
    Source::open(path, &Context { reading, memory_bytes, folder })
}

/// Where slabs beyond memory are kept: next to the answer, where there has to be room anyway; for a bucket, where the
/// system keeps such things.
fn scratch_folder(destination: &str) -> PathBuf {
    let local = destination.strip_prefix("file://").unwrap_or(destination);
    let there = Path::new(local).ancestors().skip(1).find(|folder| folder.is_dir());
    match there {
        Some(folder) if !local.contains("://") => folder.to_owned(),
        // The last ancestor of a relative path is empty, and no folder.
        None if !local.contains("://") => PathBuf::from("."),
        _ => std::env::temp_dir(),
    }
}

/// The array an image of that shape and type is stored as.
fn array_spec(extent: Extent, dtype: Dtype, geometry: &Geometry, write: &Write) -> Result<ArraySpec> {
    let (chunks, shards) = write.shapes(&extent)?;
    let codec = write.codec.as_deref().map_or(Ok(DEFAULT_CODEC), str::parse)?;
    let array = ArraySpec { extent, dtype, chunks, shards, codec, dimension_names: geometry.names(), ome: write.ome };
    array.check()?;
    Ok(array)
}

/// How the image is cut: blocks of a whole number of objects, and how many objects of a block are encoded at once.
#[derive(Debug, PartialEq)]
struct Blocks {
    shape: [usize; 3],
    encoders: usize,
    /// The axes from the one along which blocks follow each other to the one that changes last.
    order: [usize; 3],
}

impl Blocks {
    /// The largest blocks that fit the memory, made long first along the axes whose voxels lie together in the file: for
    /// a TIFF, slabs as deep as a shard, or bands of rows of one.
    fn fitting(array: &ArraySpec, source: &Source, memory_bytes: u64, workers: usize) -> Result<Self> {
        let unit = array.unit_shape();
        let grid = array.grid();
        // A block is alive twice while its bytes become voxels. An object being encoded is at worst as large as its
        // voxels, once in the making and once, for the last chunk, in pieces.
        let unit_bytes = (unit.iter().product::<usize>() * array.dtype.size()) as u64;
        let (read_bytes, encode_bytes) = (2 * unit_bytes, 2 * unit_bytes);
        let spare = memory_bytes.saturating_sub(source.scratch_bytes());
        if spare < read_bytes + encode_bytes {
            return Err(Error::invalid(format!(
                "importing needs at least {} bytes of memory with {} of {unit:?} voxels, but may take {memory_bytes}",
                source.scratch_bytes() + read_bytes + encode_bytes,
                if array.shards.is_some() { "shards" } else { "chunks" },
            ))
            .hint("raise --memory, or make --shards or --chunks smaller"));
        }
        // Up to half of the memory serves encoding, so that every worker has something to do.
        let encoders = usize::try_from(spare / 2 / encode_bytes).unwrap_or(usize::MAX).clamp(1, workers);
        let for_blocks = spare - encoders as u64 * encode_bytes;
        let mut units = [1; 3];
        let order = source.nearest_axes();
        for axis in order.into_iter().take(2) {
            let row_bytes = units.iter().product::<usize>() as u64 * read_bytes;
            units[axis] = usize::try_from(for_blocks / row_bytes).unwrap_or(usize::MAX).clamp(1, grid[axis]);
            if units[axis] < grid[axis] {
                break;
            }
        }
        Ok(Self { shape: std::array::from_fn(|axis| units[axis] * unit[axis]), encoders, order })
    }

    /// The blocks of an image, in the order in which the file has them: all of a slab, then the next.
    fn regions(&self, extent: Extent) -> impl Iterator<Item = Region> + use<> {
        let Self { shape, order, .. } = *self;
        let counts: [usize; 3] = std::array::from_fn(|a| extent.shape[a].div_ceil(shape[a]));
        (0..counts.iter().product::<usize>()).map(move |mut index| {
            let mut at = [0; 3];
            for axis in order {
                at[axis] = index % counts[axis];
                index /= counts[axis];
            }
            let start = std::array::from_fn(|a| at[a] * shape[a]);
            Region { start, end: std::array::from_fn(|a| (start[a] + shape[a]).min(extent.shape[a])) }
        })
    }
}

/// Writes every object of the array, and no metadata.
async fn write_voxels(
    mut source: Source,
    store: &Store,
    array: &Arc<ArraySpec>,
    blocks: &Blocks,
    progress: &mut impl FnMut(u64, u64),
) -> Result<()> {
    let level = store.child(LEVEL)?;
    let voxels = array.extent.region().voxels() as u64;
    let mut done = 0;
    for region in blocks.regions(array.extent) {
        let read = off_thread(move || source.read(region).map(|volume| (source, volume))).await?;
        let volume: Arc<AnyVolume>;
        (source, volume) = (read.0, Arc::new(read.1));
        let write = |index| {
            let (array, volume, level) = (array.clone(), volume.clone(), &level);
            async move {
                let key = array.key(index);
                let bytes = off_thread(move || array.encode_object(&volume, index)).await?;
                level.put(&key, bytes).await
            }
        };
        stream::iter(array.objects_in(region)).map(write).buffer_unordered(blocks.encoders).try_collect::<()>().await?;
        done += region.voxels() as u64;
        progress(done, voxels);
    }
    Ok(())
}

/// Makes sure that nothing is at the destination. Only a Zarr, or what an interrupted import left, is ever replaced.
async fn make_way(store: &Store, overwrite: bool) -> Result<()> {
    let url = store.url();
    if store.is_object().await? {
        return Err(Error::invalid(format!("{url} is a file, and an OME-Zarr is a folder")));
    }
    let there = store.children("").await?;
    if there.folders.is_empty() && there.objects.is_empty() {
        return Ok(());
    }
    let zarr = there.objects.iter().any(|name| METADATA_KEYS.contains(&name.as_str()));
    let is_level = |name: &String| name.bytes().all(|byte| byte.is_ascii_digit());
    let begun = there.folders.iter().any(|name| name == LEVEL) && there.folders.iter().all(is_level);
    let interrupted = there.objects.is_empty() && begun;
    if !zarr && !interrupted {
        return Err(Error::invalid(format!("{url} is a folder of other files, which an import does not replace"))
            .hint("name a folder that is not there yet"));
    }
    if !overwrite {
        return Err(Error::invalid(format!("{url} is there already")).hint("replace it with --overwrite"));
    }
    remove(store).await
}

/// Removes everything at the destination, first of all what makes it open.
async fn remove(store: &Store) -> Result<()> {
    for key in METADATA_KEYS {
        store.delete(key).await?;
    }
    let there = store.children("").await?;
    for folder in &there.folders {
        for key in METADATA_KEYS {
            store.delete(&format!("{folder}/{key}")).await?;
        }
        store.delete_prefix(folder).await?;
    }
    for key in &there.objects {
        store.delete(key).await?;
    }
    Ok(())
}

/// Runs work that keeps a processor or a disk busy where it does not hold up others.
async fn off_thread<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| Error::internal(format!("a task of the import died: {error}")))?
}

#[cfg(test)]
mod tests;
