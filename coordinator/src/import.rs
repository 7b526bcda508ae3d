//! `voxmill import`: image files become OME-Zarr, block by block, in bounded memory.
//!
//! A block is a whole number of the array's objects, so each object is encoded once and written once. Voxels come
//! first and the metadata last: until the import is complete there is nothing at the destination that opens. Each
//! format has a file of its own below; how arrays are encoded and stored is `pipeline`'s.

mod npy;
mod source;
mod tiff;
mod voxel_size;

use futures::{StreamExt, TryStreamExt, stream};
use pipeline::array::{ArraySpec, Codec, GroupKind, multiscales_json};
use pipeline::job::Write;
use pipeline::store::Store;
use pipeline::{Error, Result};
use source::Source;
use std::path::Path;
use std::sync::Arc;
use voxel::{AnyVolume, Dtype, Extent, Region};

pub use voxel_size::VoxelSize;

/// What an import may be told.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Chunks, shards and codec; without a codec, [`DEFAULT_CODEC`].
    pub write: Write,
    /// The physical size of a voxel; without it, voxels are one by one by one of no unit.
    pub voxel_size: Option<VoxelSize>,
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
    /// Its one array, `0`.
    pub array: ArraySpec,
    /// Size of the group in bytes.
    pub bytes_written: u64,
}

/// The path of the full-resolution array in the group.
const LEVEL: &str = "0";

/// Reads the TIFF or `.npy` file `source` and writes it to `destination` as an OME-Zarr 0.5 image of one level, in at
/// most about `memory_bytes`. One TIFF page and arrays of two axes become 2-D images, several pages a volume. `progress`
/// is called after each block with the voxels done and all there are.
///
/// # Errors
///
/// Invalid for files that hold something else than a grey image, a destination that exists, options that don't fit the
/// image, and memory too small for one shard; Data for damaged files, with the page. Whatever the error, nothing at the
/// destination opens, and what had been written is removed again.
pub async fn import(
    source: &Path,
    destination: &str,
    options: &Options,
    memory_bytes: u64,
    mut progress: impl FnMut(u64, u64),
) -> Result<Imported> {
    options.write.validate()?;
    let path = source.to_owned();
    let source = off_thread(move || Source::open(&path, memory_bytes)).await?;
    let array = array_spec(source.extent(), source.dtype(), &options.write)?;
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let blocks = Blocks::fitting(&array, &source, memory_bytes, workers)?;
    let store = Store::open(destination)?;
    store.check_writable()?;
    make_way(&store, options.overwrite).await?;
    let array = Arc::new(array);
    let written = match write_voxels(source, &store, &array, &blocks, &mut progress).await {
        Ok(()) => publish(&store, &array, options.voxel_size.as_ref()).await,
        Err(error) => Err(error),
    };
    if let Err(error) = written {
        // The error that stopped the import is the one to report, not what cleaning up after it may meet.
        let _ = remove(&store).await;
        return Err(error);
    }
    let bytes_written = store.requests().bytes_out;
    Ok(Imported { url: store.url().to_owned(), array: Arc::unwrap_or_clone(array), bytes_written })
}

/// The array an image of that shape and type is stored as.
fn array_spec(extent: Extent, dtype: Dtype, write: &Write) -> Result<ArraySpec> {
    let (chunks, shards) = write.shapes(&extent)?;
    let codec = write.codec.as_deref().map_or(Ok(DEFAULT_CODEC), str::parse)?;
    let dimension_names = extent.axes().map(|axis| AXES[axis].to_owned()).collect();
    let array = ArraySpec { extent, dtype, chunks, shards, codec, dimension_names };
    array.check()?;
    Ok(array)
}

const AXES: [&str; 3] = ["z", "y", "x"];

/// How the image is cut: blocks of a whole number of objects, and how many objects of a block are encoded at once.
#[derive(Debug, PartialEq)]
struct Blocks {
    shape: [usize; 3],
    encoders: usize,
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
        for axis in source.nearest_axes().into_iter().take(2) {
            let row_bytes = units.iter().product::<usize>() as u64 * read_bytes;
            units[axis] = usize::try_from(for_blocks / row_bytes).unwrap_or(usize::MAX).clamp(1, grid[axis]);
            if units[axis] < grid[axis] {
                break;
            }
        }
        Ok(Self { shape: std::array::from_fn(|axis| units[axis] * unit[axis]), encoders })
    }

    /// The blocks of an image, in C order.
    fn regions(&self, extent: Extent) -> impl Iterator<Item = Region> + use<> {
        let shape = self.shape;
        let grid = Extent { shape: std::array::from_fn(|a| extent.shape[a].div_ceil(shape[a])), planar: false };
        (0..grid.region().voxels() as u64).map(move |index| {
            let at = grid.at(index);
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

/// Writes the metadata: the array's, then the group's, which makes an image of it.
async fn publish(store: &Store, array: &ArraySpec, voxel_size: Option<&VoxelSize>) -> Result<()> {
    let axes = array.extent.axes();
    let units: Vec<Option<String>> = axes.clone().map(|_| voxel_size.map(|size| size.unit.to_owned())).collect();
    let scale = axes.clone().map(|axis| voxel_size.map_or(1.0, |size| size.spacing[axis])).collect();
    let level = (LEVEL.to_owned(), scale, vec![0.0; axes.len()]);
    let name = store.url().rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".zarr").unwrap_or(name);
    let group = multiscales_json(name, &array.dimension_names, &units, &[level], GroupKind::Image);
    store.child(LEVEL)?.put("zarr.json", array.metadata_json()).await?;
    store.put("zarr.json", group).await
}

/// Files that make a folder a Zarr, of either version: without them it does not open.
const METADATA: [&str; 5] = ["zarr.json", ".zgroup", ".zarray", ".zattrs", ".zmetadata"];

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
    let zarr = there.objects.iter().any(|name| METADATA.contains(&name.as_str()));
    let interrupted = there.objects.is_empty() && there.folders == [LEVEL];
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
    for key in METADATA {
        store.delete(key).await?;
    }
    let there = store.children("").await?;
    for folder in &there.folders {
        for key in METADATA {
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
