//! Pyramids: which levels an image has, and one object of a level made of the level before.
//!
//! [`levels`] is arithmetic. [`Shrink`] reads what one object needs, a few chunks at a time, so that a level of any size
//! is made in bounded memory, by any number of writers, object by object. Who makes which object, and when the levels'
//! metadata is written, is others' work.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use bytes::Bytes;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use voxel::pyramid::{Halving, Reduce};
use voxel::{AnyVolume, Dtype, Extent, Region};

use crate::array::{Array, ArraySpec, ChunkCache, Geometry, GroupKind};
use crate::store::Store;
use crate::task::Written;
use crate::{Error, Result};

/// An image whose longest axis has at most this many voxels needs no coarser level: a viewer takes it whole.
const LONGEST: usize = 256;

/// More levels than this no image has: each halves at least one of three axes of less than 2^63 voxels.
const LEVELS_MAX: usize = 64;

/// Bytes of the finer level that are read at once for a part of an object, where its chunks allow.
const PART_BYTES: usize = 32 << 20;

/// How many levels an image gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "Key", try_from = "Key")]
pub enum Levels {
    /// Until the longest axis has at most 256 voxels.
    #[default]
    Auto,
    /// This many, the image itself being the first; fewer where an image of one voxel comes first.
    Count(usize),
}

impl Levels {
    /// The image itself only.
    pub const NONE: Levels = Levels::Count(1);
}

/// `levels` as it is written.
#[derive(Serialize, Deserialize)]
#[serde(untagged, expecting = "takes \"auto\", \"none\", or the number of levels, 1 to 64")]
enum Key {
    Word(String),
    Count(usize),
}

impl From<Levels> for Key {
    fn from(levels: Levels) -> Self {
        match levels {
            Levels::Auto => Key::Word("auto".to_owned()),
            Levels::NONE => Key::Word("none".to_owned()),
            Levels::Count(n) => Key::Count(n),
        }
    }
}

impl TryFrom<Key> for Levels {
    type Error = &'static str;

    fn try_from(key: Key) -> Result<Self, &'static str> {
        match key {
            Key::Word(word) if word == "auto" => Ok(Levels::Auto),
            Key::Word(word) if word == "none" => Ok(Levels::NONE),
            Key::Count(n) if (1..=LEVELS_MAX).contains(&n) => Ok(Levels::Count(n)),
            _ => Err("takes \"auto\", \"none\", or the number of levels, 1 to 64"),
        }
    }
}

/// As flags write it: `auto`, `none` or `4`.
impl FromStr for Levels {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let text = text.trim();
        let key = text.parse().map_or_else(|_| Key::Word(text.to_owned()), Key::Count);
        Levels::try_from(key).map_err(|takes| Error::invalid(format!("{takes}, but got {text:?}")))
    }
}

impl fmt::Display for Levels {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match Key::from(*self) {
            Key::Word(word) => f.write_str(&word),
            Key::Count(n) => n.fmt(f),
        }
    }
}

impl JsonSchema for Levels {
    fn schema_name() -> Cow<'static, str> {
        "Levels".into()
    }

    fn inline_schema() -> bool {
        true
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"anyOf": [
            {"enum": ["auto", "none"]},
            {"type": "integer", "minimum": 1, "maximum": LEVELS_MAX},
        ]})
    }
}

/// One level of a pyramid.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Level {
    /// Its shape.
    pub extent: Extent,
    /// Voxels of the level before along z, y, x that make one of its own: 1 or 2 each; all 1 for the first level.
    pub step: [usize; 3],
    /// Voxels of the first level along z, y, x that make one of its own.
    pub factors: [usize; 3],
    /// Where it lies.
    pub geometry: Geometry,
}

/// How voxels of such an image become one of a coarser level.
pub fn reduce_of(kind: GroupKind, dtype: Dtype) -> Reduce {
    if kind == GroupKind::Labels || dtype == Dtype::Bool { Reduce::Stride } else { Reduce::Mean }
}

/// The levels of an image of that shape and place, itself first.
///
/// A step halves the axes whose voxels are smaller than twice the smallest, so that voxels become ever more cubic and then
/// stay so. The smallest is looked for among the axes longer than 256, if any is, else among those longer than 1. Axes of
/// length 1 are left alone. Sizes are compared where all axes have the same unit.
pub fn levels(extent: Extent, geometry: &Geometry, by: Reduce, wish: Levels) -> Vec<Level> {
    let mut levels = vec![Level { extent, step: [1; 3], factors: [1; 3], geometry: geometry.clone() }];
    let (mut shape, mut factors, mut sizes) = (extent.shape, [1; 3], geometry.sizes());
    loop {
        let longest = shape.into_iter().max().unwrap_or(1);
        let more = match wish {
            Levels::Auto => longest > LONGEST,
            Levels::Count(n) => levels.len() < n.min(LEVELS_MAX) && longest > 1,
        };
        if !more {
            return levels;
        }
        let worth = if longest > LONGEST { LONGEST } else { 1 };
        let smallest = (0..3).filter(|a| shape[*a] > worth).map(|a| sizes[a]).fold(f64::INFINITY, f64::min);
        let step: [usize; 3] = std::array::from_fn(|a| if shape[a] > 1 && sizes[a] < 2.0 * smallest { 2 } else { 1 });
        for a in 0..3 {
            shape[a] = shape[a].div_ceil(step[a]);
            factors[a] *= step[a];
            sizes[a] *= step[a] as f64;
        }
        let extent = Extent { shape, ..extent };
        levels.push(Level { extent, step, factors, geometry: geometry.level(factors, by) });
    }
}

/// The array of a level of that shape: as the image's own, with chunks and shards no longer than the axes.
pub fn level_spec(image: &ArraySpec, extent: Extent) -> ArraySpec {
    let chunks: [usize; 3] = std::array::from_fn(|a| image.chunks[a].min(extent.shape[a]));
    let shards = image.shards.map(|shards| {
        std::array::from_fn(|a| chunks[a] * (shards[a] / image.chunks[a]).min(extent.shape[a].div_ceil(chunks[a])))
    });
    ArraySpec { extent, chunks, shards, ..image.clone() }
}

/// How a level is made of the one before.
#[derive(Clone, Debug)]
pub struct Shrink {
    /// The level before.
    pub finer: Array,
    /// What becomes of its voxels.
    pub halving: Halving,
    /// The level that is made: its shape is [`Halving::coarser`] of the one before, its type the same, but that bool may
    /// be read as uint8.
    pub spec: ArraySpec,
}

impl Shrink {
    /// Makes object `index` and writes it below `prefix` in `store`: reads, computes and waits for the store in turn. The
    /// bytes depend on the finer level only. Must be called on a runtime of several threads.
    ///
    /// # Errors
    /// As [`Array::fetch`] and [`Store::put`]; Data for a damaged chunk of the finer level.
    pub async fn write_object(
        &self,
        cache: &ChunkCache,
        store: &Store,
        prefix: &str,
        index: [usize; 3],
    ) -> Result<Written> {
        let bytes = self.object(cache, index).await?;
        let key = format!("{prefix}/{}", self.spec.key(index));
        let (len, crc32c) = (bytes.len() as u64, crc32c::crc32c(&bytes));
        store.put(&key, bytes).await?;
        Ok(Written { key, bytes: len, crc32c })
    }

    /// The bytes of object `index`.
    pub async fn object(&self, cache: &ChunkCache, index: [usize; 3]) -> Result<Bytes> {
        let finer = self.finer.extent();
        if self.halving.coarser(finer) != self.spec.extent {
            return Err(Error::internal(format!(
                "a level of {:?} was to be made of one of {:?} by {:?}",
                self.spec.extent.shape, finer.shape, self.halving.factors
            )));
        }
        let object = self.spec.object_region(index);
        let mut volume: Option<AnyVolume> = None;
        for part in parts(object, self.part()) {
            let fetched = self.finer.fetch(cache, self.halving.source(part, finer)).await?;
            let shrunk =
                tokio::task::block_in_place(|| Ok::<_, Error>(self.halving.apply(fetched.decode()?, part, finer)))?;
            // Made no sooner than there is something to put into it.
            volume.get_or_insert_with(|| AnyVolume::zeros(self.finer.dtype(), object)).paste(&shrunk);
        }
        let volume = volume.ok_or_else(|| Error::internal(format!("object {index:?} has no voxels")))?;
        tokio::task::block_in_place(|| self.spec.encode_object(&volume, index))
    }

    /// The most bytes that making one object takes, what [`ChunkCache`] keeps beyond it left out.
    pub fn object_bytes(&self) -> u64 {
        self.outline().object_bytes()
    }

    fn part(&self) -> [usize; 3] {
        self.outline().part()
    }

    fn outline(&self) -> Outline<'_> {
        let (chunk, chunk_bytes) = (self.finer.chunk(), self.finer.chunk_bytes());
        let (finer, dtype) = (self.finer.extent(), self.finer.dtype());
        Outline { finer, dtype, chunk, chunk_bytes, factors: self.halving.factors, spec: &self.spec }
    }
}

/// The numbers of a [`Shrink`], for those who have no array yet.
pub(crate) struct Outline<'a> {
    /// The level before.
    pub(crate) finer: Extent,
    pub(crate) dtype: Dtype,
    /// Its chunks, and what decoding one takes.
    pub(crate) chunk: [usize; 3],
    pub(crate) chunk_bytes: u64,
    /// Voxels that become one.
    pub(crate) factors: [usize; 3],
    /// The level that is made.
    pub(crate) spec: &'a ArraySpec,
}

impl Outline<'_> {
    /// See [`Shrink::object_bytes`].
    pub(crate) fn object_bytes(&self) -> u64 {
        let size = self.dtype.size() as u64;
        let of = |shape: [usize; 3]| shape.iter().map(|n| *n as u64).product::<u64>() * size;
        let (part, chunk) = (self.part(), self.chunk);
        let read: [usize; 3] = std::array::from_fn(|a| (part[a] * self.factors[a]).min(self.finer.shape[a]));
        let chunks: u64 = (0..3)
            .map(|a| {
                let aligned = read[a].is_multiple_of(chunk[a]) && self.spec.unit_shape()[a].is_multiple_of(part[a]);
                (read[a].div_ceil(chunk[a]) + usize::from(!aligned)) as u64
            })
            .product();
        // Each chunk as it came and decoded, two more copies of the one being decoded, the box made of them, and what it
        // becomes.
        let part_bytes = (2 * chunks + 2) * self.chunk_bytes + of(read) + of(part);
        // The object's voxels, the buffer of its bytes, and one chunk, packed and not.
        let object = of(self.spec.unit_shape());
        let packed = of(self.spec.chunks);
        object + part_bytes.max(self.spec.most_bytes() + 2 * packed + self.spec.codec.working_bytes(packed))
    }

    /// Voxels of an object that are made at once: those of whole chunks of the finer level, of so many that reading pays.
    pub(crate) fn part(&self) -> [usize; 3] {
        let unit = self.spec.unit_shape();
        let chunk = self.chunk;
        let mut part: [usize; 3] = std::array::from_fn(|a| chunk[a].div_ceil(self.factors[a]).min(unit[a]));
        let size = self.dtype.size() * self.factors.iter().product::<usize>();
        for a in [2, 1, 0] {
            while part[a] < unit[a] && part.iter().product::<usize>() * size * 2 <= PART_BYTES {
                part[a] = (part[a] * 2).min(unit[a]);
            }
        }
        part
    }
}

/// A box cut into parts of that shape, in C order; the last along an axis may be shorter.
fn parts(whole: Region, shape: [usize; 3]) -> impl Iterator<Item = Region> {
    let counts = std::array::from_fn(|a| whole.shape()[a].div_ceil(shape[a]));
    let grid = Extent { shape: counts, planar: false };
    (0..grid.region().voxels() as u64).map(move |i| {
        let at = grid.at(i);
        let start: [usize; 3] = std::array::from_fn(|a| whole.start[a] + at[a] * shape[a]);
        Region { start, end: std::array::from_fn(|a| (start[a] + shape[a]).min(whole.end[a])) }
    })
}

#[cfg(test)]
mod tests;
