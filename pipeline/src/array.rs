//! Zarr arrays as images: opened from any URL a user may have, read by region, written object by object.
//!
//! `zarrs` gives metadata and codecs; what it does not give is here: which axes are the image's, one request where
//! neighbouring chunks lie side by side, each chunk decoded once per process, and errors that name the damaged chunk.
//! Reading is split in two, so that the network and the processor work at the same time: [`Array::fetch`] brings raw
//! bytes, [`Fetched::decode`] makes voxels of them. Which regions to read, and what to do with them, is others' work.

mod axes;
mod cache;
mod chain;
mod codec;
mod geometry;
mod group;
mod levels;
mod metadata;
mod ome;
mod open;
mod read;
#[cfg(test)]
mod tests;
mod write;

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use voxel::{Dtype, Extent};

pub use axes::Kind as AxisKind;
pub use cache::ChunkCache;
pub(crate) use cache::Wanted;
pub use codec::{BloscCompressor, Codec};
pub use geometry::{Geometry, StoredAxis};
pub use group::{Group, METADATA_KEYS, OmeVersion};
pub use levels::Pyramid;
pub use ome::{GroupKind, unit_name};
pub(crate) use read::Canvas;
pub use read::Fetched;
pub(crate) use write::Body;
pub use write::{ArraySpec, write_whole};

use crate::store::Store;
use axes::Axes;
use metadata::Metadata;

/// Which image of a file that holds several. `None` takes the only one there is, and the finest level.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pick {
    /// Resolution level of a multiscales group; 0 is the finest.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<usize>,
    /// Index along the channel axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub channel: Option<usize>,
    /// Index along the time axis.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub time: Option<usize>,
    /// Image of a bioformats2raw file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub series: Option<usize>,
}

/// An open array, seen as one image of two or three dimensions. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Array(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    store: Store,
    metadata: Metadata,
    axes: Axes,
    units: [Option<String>; 3],
    scale: [f64; 3],
    translation: [f64; 3],
    geometry: Geometry,
    levels: Vec<String>,
    level: usize,
    fingerprint: String,
    /// The fingerprint's first bytes: what tells arrays apart in a cache.
    id: [u8; 16],
}

impl Array {
    /// Where the array lies: an absolute path, or a URL.
    pub fn url(&self) -> &str {
        self.0.store.url()
    }

    /// The store whose root is the array.
    pub fn store(&self) -> &Store {
        &self.0.store
    }

    /// Shape z, y, x, and whether the image has a z axis at all.
    pub fn extent(&self) -> Extent {
        self.0.axes.extent
    }

    /// Element type.
    pub fn dtype(&self) -> Dtype {
        self.0.metadata.dtype
    }

    /// Voxels along z, y, x of what is decoded at once, clipped to the image.
    pub fn chunk(&self) -> [usize; 3] {
        self.clipped(&self.0.metadata.chunk)
    }

    /// Voxels along z, y, x of one object that holds several chunks, clipped to the image; `None` where an object is
    /// one chunk.
    pub fn shard(&self) -> Option<[usize; 3]> {
        self.0.metadata.shards.as_ref().map(|_| self.clipped(&self.0.metadata.object))
    }

    /// Bytes of memory that decoding one chunk takes: all of it, with what lies beyond the image and with other
    /// channels and time points that share the chunk.
    pub fn chunk_bytes(&self) -> u64 {
        self.0.metadata.chunk_bytes()
    }

    /// The codec of whole chunks that an array of ours would have, too, byte for byte: each holds voxels of this image
    /// alone, in C order, and where one is missing they are 0. `None` where that is not so.
    pub fn codec(&self) -> Option<Codec> {
        let Inner { metadata, axes, .. } = &*self.0;
        let (chunk, spatial) = (self.chunk(), axes.spatial.iter().flatten());
        let whole = (0..3).all(|a| axes.spatial[a].is_none_or(|axis| metadata.chunk[axis] == chunk[a] as u64));
        let alone = axes.fixed.iter().all(|(axis, _)| metadata.chunk[*axis] == 1);
        let zero = metadata.fill.iter().all(|byte| *byte == 0);
        metadata.codec.filter(|_| whole && alone && zero && spatial.is_sorted())
    }

    /// Names of the image's axes as stored: z, y, x or y, x, or what the array calls them.
    pub fn axes(&self) -> &[String] {
        &self.0.axes.names
    }

    /// Unit of each of z, y, x as its full name (`micrometer`), where known.
    pub fn units(&self) -> &[Option<String>; 3] {
        &self.0.units
    }

    /// Size of a voxel along z, y, x, in [`Array::units`]; 1 where unknown.
    pub fn scale(&self) -> [f64; 3] {
        self.0.scale
    }

    /// Position of the centre of voxel 0, 0, 0 along z, y, x, in [`Array::units`].
    pub fn translation(&self) -> [f64; 3] {
        self.0.translation
    }

    /// Where the image lies, with the axes that an output of it puts back.
    pub fn geometry(&self) -> &Geometry {
        &self.0.geometry
    }

    /// What a missing chunk is full of: one element, as native-endian bytes.
    pub fn fill(&self) -> &[u8] {
        &self.0.metadata.fill
    }

    /// The codecs in words, in the order of encoding; `sharding_indexed` first where the array is sharded.
    pub fn codecs(&self) -> &[String] {
        &self.0.metadata.codecs
    }

    /// Shape of the array as stored, with time and channel axes.
    pub fn stored_shape(&self) -> &[u64] {
        &self.0.metadata.shape
    }

    /// Paths of the levels in the multiscales group this array belongs to, finest first; empty for an array alone.
    pub fn levels(&self) -> &[String] {
        &self.0.levels
    }

    /// Which of [`Array::levels`] this is.
    pub fn level(&self) -> usize {
        self.0.level
    }

    /// Identifies where the array is and what its metadata says, the picked channel and time included: SHA-256 in
    /// hexadecimal. It does not depend on the voxels.
    pub fn fingerprint(&self) -> &str {
        &self.0.fingerprint
    }

    /// A stored shape along z, y, x, no longer than the image.
    fn clipped(&self, stored: &[u64]) -> [usize; 3] {
        let image = self.extent().shape;
        std::array::from_fn(|a| {
            let len = self.0.axes.spatial[a].and_then(|axis| stored.get(axis)).copied().unwrap_or(1);
            usize::try_from(len).unwrap_or(usize::MAX).min(image[a])
        })
    }
}
