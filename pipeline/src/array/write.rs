//! Writing an array: its metadata, and each object (a shard, or a chunk) from the voxels it covers.
//!
//! Objects are written whole, each by one writer, and the same voxels give the same bytes whoever writes them: no time,
//! no thread count and no neighbour goes into them. Which objects there are is arithmetic on [`ArraySpec`].

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::json;
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_volume};
use zarrs::array::codec::api::{BytesToBytesCodecTraits, Codec as ZarrsCodec, CodecOptions};
use zarrs::metadata::v3::MetadataV3;

use super::codec::Codec;
use crate::store::Store;
use crate::{Error, Result};

/// An array to be written: a Zarr v3 image of two (when planar) or three dimensions, with fill value 0.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ArraySpec {
    /// Shape z, y, x; stored without z when planar.
    pub extent: Extent,
    /// Element type. Bool is stored as uint8 0 and 1, which every viewer opens.
    pub dtype: Dtype,
    /// Voxels per chunk along z, y, x; 1 along z when planar.
    pub chunks: [usize; 3],
    /// Voxels per shard along z, y, x, a multiple of `chunks`; without, each chunk is an object.
    pub shards: Option<[usize; 3]>,
    /// Compression of each chunk.
    pub codec: Codec,
    /// Names of the stored axes: two when planar, else three; or none.
    pub dimension_names: Vec<String>,
}

impl ArraySpec {
    /// Checks that the numbers fit together.
    ///
    /// # Errors
    /// Invalid, naming what doesn't.
    pub fn check(&self) -> Result<()> {
        let Extent { shape, planar } = self.extent;
        if shape.contains(&0) || (planar && shape[0] != 1) {
            return Err(Error::invalid(format!("an array of shape {shape:?} can't be written")));
        }
        let cells = [("chunks", Some(self.chunks)), ("shards", self.shards)];
        for (name, cell) in cells.into_iter().filter_map(|(name, cell)| Some((name, cell?))) {
            if cell.contains(&0) || (planar && cell[0] != 1) {
                return Err(Error::invalid(format!("{name} of {cell:?} voxels can't be written")));
            }
        }
        if let Some(shards) = self.shards.filter(|s| (0..3).any(|a| s[a] % self.chunks[a] != 0)) {
            return Err(Error::invalid(format!(
                "shards of {shards:?} voxels are not whole chunks of {:?}",
                self.chunks
            ))
            .hint("make shards a multiple of chunks along each axis"));
        }
        let axes = self.extent.axes().len();
        if !self.dimension_names.is_empty() && self.dimension_names.len() != axes {
            return Err(Error::invalid(format!("an array of {axes} axes can't be named {:?}", self.dimension_names)));
        }
        Ok(())
    }

    /// Voxels of one object: a shard, or a chunk. What two writers must never share.
    pub fn unit_shape(&self) -> [usize; 3] {
        self.shards.unwrap_or(self.chunks)
    }

    /// Objects along z, y, x.
    pub fn grid(&self) -> [usize; 3] {
        let unit = self.unit_shape();
        std::array::from_fn(|a| self.extent.shape[a].div_ceil(unit[a]))
    }

    /// The voxels of an object, clipped to the image.
    pub fn object_region(&self, index: [usize; 3]) -> Region {
        let unit = self.unit_shape();
        let bound = |a: usize, i: usize| (i * unit[a]).min(self.extent.shape[a]);
        Region {
            start: std::array::from_fn(|a| bound(a, index[a])),
            end: std::array::from_fn(|a| bound(a, index[a] + 1)),
        }
    }

    /// Grid indices of the objects that have voxels in `region`, in C order. A block's region is whole objects, clipped at
    /// the image's edge; the indices are then exactly its objects.
    pub fn objects_in(&self, region: Region) -> impl Iterator<Item = [usize; 3]> + use<> {
        let unit = self.unit_shape();
        let inside = region.intersection(&self.extent.region());
        let [zs, ys, xs]: [std::ops::Range<usize>; 3] = std::array::from_fn(|a| match inside {
            Some(inside) => inside.start[a] / unit[a]..inside.end[a].div_ceil(unit[a]),
            None => 0..0,
        });
        zs.flat_map(move |z| {
            let xs = xs.clone();
            ys.clone().flat_map(move |y| xs.clone().map(move |x| [z, y, x]))
        })
    }

    /// The object's key, relative to the array: `c/0/1/2`.
    pub fn key(&self, index: [usize; 3]) -> String {
        let parts: Vec<String> = self.extent.axes().map(|a| index[a].to_string()).collect();
        format!("c/{}", parts.join("/"))
    }

    /// The array's `zarr.json`.
    pub fn metadata_json(&self) -> Bytes {
        let stored = |cell: [usize; 3]| -> Vec<usize> { self.extent.axes().map(|a| cell[a]).collect() };
        let mut codecs = self.codec.metadata(stored_dtype(self.dtype));
        if self.shards.is_some() {
            codecs = vec![json!({
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": stored(self.chunks),
                    "codecs": codecs,
                    "index_codecs": [
                        {"name": "bytes", "configuration": {"endian": "little"}},
                        {"name": "crc32c"},
                    ],
                    "index_location": "end",
                },
            })];
        }
        let mut document = json!({
            "zarr_format": 3,
            "node_type": "array",
            "shape": stored(self.extent.shape),
            "data_type": stored_dtype(self.dtype).name(),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": stored(self.unit_shape())}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": if self.dtype.is_float() { json!(0.0) } else { json!(0) },
            "codecs": codecs,
            "attributes": {},
        });
        if !self.dimension_names.is_empty() {
            document["dimension_names"] = json!(self.dimension_names);
        }
        Bytes::from(format!("{document:#}\n"))
    }

    /// The bytes of one object. `volume` must cover [`ArraySpec::object_region`] and hold the array's type (bool for
    /// uint8 and the reverse are taken). Beyond the image's edge chunks are filled with 0. A shard leaves out inner chunks
    /// that are 0 throughout; an object is written even when all of it is.
    ///
    /// # Errors
    /// Internal when the volume is of another type or doesn't cover the object; Invalid as [`ArraySpec::check`].
    pub fn encode_object(&self, volume: &AnyVolume, index: [usize; 3]) -> Result<Bytes> {
        self.check()?;
        let object = self.object_region(index);
        if stored_dtype(volume.dtype()) != stored_dtype(self.dtype)
            || object.is_empty()
            || !volume.region().contains(&object)
        {
            return Err(Error::internal(format!(
                "object {index:?} ({object:?}) of a {} array was to be written from {} voxels of {:?}",
                self.dtype,
                volume.dtype(),
                volume.region()
            )));
        }
        let packer = Packer::new(self)?;
        let Some(shards) = self.shards else {
            let start = std::array::from_fn(|a| index[a] * self.chunks[a]);
            return packer.pack(with_volume!(volume, v => padded(v, Region::new(start, self.chunks), object)));
        };

        let per_shard: [usize; 3] = std::array::from_fn(|a| shards[a] / self.chunks[a]);
        let mut body: Vec<u8> = Vec::new();
        let mut entries: Vec<u8> = Vec::new();
        let inner_grid = Extent { shape: per_shard, planar: false };
        for inner in (0..inner_grid.region().voxels() as u64).map(|i| inner_grid.at(i)) {
            let start = std::array::from_fn(|a| index[a] * shards[a] + inner[a] * self.chunks[a]);
            let chunk = Region::new(start, self.chunks);
            let plain = match chunk.intersection(&object) {
                Some(_) => with_volume!(volume, v => padded(v, chunk, object)),
                None => Vec::new(),
            };
            let (offset, len) = if plain.iter().all(|byte| *byte == 0) {
                (u64::MAX, u64::MAX)
            } else {
                let encoded = packer.pack(plain)?;
                let offset = body.len() as u64;
                body.extend_from_slice(&encoded);
                (offset, encoded.len() as u64)
            };
            entries.extend(offset.to_le_bytes());
            entries.extend(len.to_le_bytes());
        }
        let checksum = crc32c::crc32c(&entries);
        body.extend_from_slice(&entries);
        body.extend_from_slice(&checksum.to_le_bytes());
        Ok(body.into())
    }
}

/// Writes a whole array that fits in memory, metadata last.
pub async fn write_whole(store: &Store, spec: &ArraySpec, volume: &AnyVolume) -> Result<()> {
    for index in spec.objects_in(spec.extent.region()) {
        store.put(&spec.key(index), spec.encode_object(volume, index)?).await?;
    }
    store.put("zarr.json", spec.metadata_json()).await
}

/// The type on disk.
fn stored_dtype(dtype: Dtype) -> Dtype {
    if dtype == Dtype::Bool { Dtype::U8 } else { dtype }
}

/// The voxels of `chunk` as little-endian bytes, 0 where `object` ends.
fn padded<T: Element>(volume: &Volume<T>, chunk: Region, object: Region) -> Vec<u8> {
    let element = T::DTYPE.size();
    let Some(part) = chunk.intersection(&object) else { return vec![0; chunk.voxels() * element] };
    let [_, height, width] = chunk.shape();
    let columns = part.start[2] - volume.region.start[2]..part.end[2] - volume.region.start[2];
    let mut bytes = Vec::with_capacity(chunk.voxels() * element);
    for z in part.start[0]..part.end[0] {
        for y in part.start[1]..part.end[1] {
            T::extend_le(&volume.row(z, y)[columns.clone()], &mut bytes);
            bytes.resize(bytes.len() + (chunk.end[2] - part.end[2]) * element, 0);
        }
        bytes.resize(bytes.len() + (height - part.shape()[1]) * width * element, 0);
    }
    bytes.resize(chunk.voxels() * element, 0);
    bytes
}

/// The compressors of one spec, made once per object. Byte order is settled before they see the bytes.
struct Packer(Vec<Arc<dyn BytesToBytesCodecTraits>>);

impl Packer {
    fn new(spec: &ArraySpec) -> Result<Packer> {
        let mut codecs = Vec::new();
        for metadata in spec.codec.metadata(stored_dtype(spec.dtype)) {
            let failed = |e: String| Error::internal(format!("the codec {} can't be made: {e}", spec.codec));
            let metadata: MetadataV3 = serde_json::from_value(metadata).map_err(|e| failed(e.to_string()))?;
            match ZarrsCodec::from_metadata(&metadata).map_err(|e| failed(e.to_string()))? {
                ZarrsCodec::BytesToBytes(codec) => codecs.push(codec),
                ZarrsCodec::ArrayToBytes(_) | ZarrsCodec::ArrayToArray(_) => {}
            }
        }
        Ok(Packer(codecs))
    }

    fn pack(&self, plain: Vec<u8>) -> Result<Bytes> {
        // One thread, and so the same bytes on every machine.
        let options = CodecOptions::default().with_concurrent_target(1);
        let mut bytes = Cow::Owned(plain);
        for codec in &self.0 {
            bytes =
                codec.encode(bytes, &options).map_err(|e| Error::internal(format!("a chunk can't be packed: {e}")))?;
        }
        Ok(bytes.into_owned().into())
    }
}
