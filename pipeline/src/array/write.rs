//! Writing an array: its metadata, and each object (a shard, or a chunk) from the voxels it covers.
//!
//! Objects are written whole, each by one writer, and the same voxels give the same bytes whoever writes them: no time,
//! no thread count and no neighbour goes into them. Which objects there are is arithmetic on [`ArraySpec`].

use std::borrow::Cow;
use std::sync::Arc;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_volume};
use zarrs::array::codec::api::{BytesToBytesCodecTraits, Codec as ZarrsCodec, CodecOptions};
use zarrs::metadata::v3::MetadataV3;

use super::axes::Axes;
use super::codec::Codec;
use super::group::{self, OmeVersion};
use super::metadata::Metadata;
use super::{Array, Geometry, Inner};
use crate::store::Store;
use crate::task::Written;
use crate::{Error, Result, zstandard};

/// An array to be written: an image of two (when planar) or three dimensions, with fill value 0.
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
    /// Names of the stored axes, or none. Beyond two when planar, else three, the first name axes of length one, such
    /// as time and channel: what [`super::Geometry::names`] gives.
    pub dimension_names: Vec<String>,
    /// The version of OME-Zarr, which decides that of Zarr: 0.4 is v2, without shards; 0.5 is v3.
    #[serde(default)]
    pub ome: OmeVersion,
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
        if self.ome == OmeVersion::V04 && self.shards.is_some() {
            return Err(Error::invalid("OME-Zarr 0.4 has no shards").hint("write shards = \"none\", or ome = \"0.5\""));
        }
        let axes = self.extent.axes().len();
        let names = self.dimension_names.len();
        if names > 0 && !(axes..=axes + 2).contains(&names) {
            return Err(Error::invalid(format!("an array of {axes} axes can't be named {:?}", self.dimension_names)));
        }
        Ok(())
    }

    /// Axes of length one that are stored before those of the image.
    fn leading(&self) -> usize {
        self.dimension_names.len().saturating_sub(self.extent.axes().len())
    }

    /// A shape as stored, of which one is taken along the leading axes.
    fn stored(&self, cell: [usize; 3]) -> Vec<usize> {
        std::iter::repeat_n(1, self.leading()).chain(self.extent.axes().map(|a| cell[a])).collect()
    }

    /// The array's shape as stored, with such lengths of the leading axes, or 1.
    fn stored_shape(&self, lengths: &[usize]) -> Vec<usize> {
        let mut shape = self.stored(self.extent.shape);
        shape.iter_mut().zip(lengths).take(self.leading()).for_each(|(len, of)| *len = *of);
        shape
    }

    /// Voxels of one object: a shard, or a chunk. What two writers must never share.
    pub fn unit_shape(&self) -> [usize; 3] {
        self.shards.unwrap_or(self.chunks)
    }

    /// What the bytes of the largest object come to, when packing makes its chunks no smaller.
    pub(crate) fn most_bytes(&self) -> u64 {
        /// The index of a shard, and what a codec writes around a chunk.
        const ASIDE_BYTES: u64 = 1 << 20;
        let unit = self.unit_shape();
        // No chunk lies beyond the image.
        let reached = |a: usize| self.extent.shape[a].div_ceil(self.chunks[a]).saturating_mul(self.chunks[a]);
        let voxels = (0..3).map(|a| unit[a].min(reached(a)) as u64).product::<u64>();
        let bytes = voxels * self.dtype.size() as u64;
        bytes + bytes / 128 + ASIDE_BYTES
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

    /// The object's key, relative to the array: `c/0/1/2`, or `0/1/2` in OME-Zarr 0.4.
    pub fn key(&self, index: [usize; 3]) -> String {
        self.key_at(&[], index)
    }

    /// [`ArraySpec::key`] in an array that holds several such images, each in objects of its own: at these indices along
    /// the leading axes.
    pub fn key_at(&self, at: &[usize], index: [usize; 3]) -> String {
        let leading = (0..self.leading()).map(|a| at.get(a).copied().unwrap_or(0));
        let parts: Vec<String> =
            leading.chain(self.extent.axes().map(|a| index[a])).map(|index| index.to_string()).collect();
        match self.ome {
            OmeVersion::V04 => parts.join("/"),
            OmeVersion::V05 => format!("c/{}", parts.join("/")),
        }
    }

    /// The array's metadata documents by key, relative to the array, in the order in which they are to be written: the
    /// last makes it open.
    pub fn metadata(&self) -> Vec<(&'static str, Bytes)> {
        self.metadata_of(&[])
    }

    /// [`ArraySpec::metadata`] of an array that holds several such images: the lengths of the leading axes.
    pub fn metadata_of(&self, lengths: &[usize]) -> Vec<(&'static str, Bytes)> {
        match self.ome {
            OmeVersion::V04 => {
                let names = json!({"_ARRAY_DIMENSIONS": self.dimension_names});
                let names = (!self.dimension_names.is_empty()).then(|| (".zattrs", group::document(&names)));
                names.into_iter().chain([(".zarray", self.document(lengths))]).collect()
            }
            OmeVersion::V05 => vec![("zarr.json", self.document(lengths))],
        }
    }

    fn document(&self, lengths: &[usize]) -> Bytes {
        group::document(&match self.ome {
            OmeVersion::V04 => self.document_v2(lengths),
            OmeVersion::V05 => self.document_v3(lengths),
        })
    }

    /// Writes the metadata; `store` has the array as its root. Every object must be there by now.
    pub async fn publish(&self, store: &Store) -> Result<Vec<Written>> {
        group::put_all(store, self.metadata()).await
    }

    fn document_v2(&self, lengths: &[usize]) -> Value {
        let dtype = stored_dtype(self.dtype);
        let kind = match dtype {
            Dtype::F32 | Dtype::F64 => 'f',
            Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => 'i',
            Dtype::Bool | Dtype::U8 | Dtype::U16 | Dtype::U32 | Dtype::U64 => 'u',
        };
        let order = if dtype.size() > 1 { '<' } else { '|' };
        json!({
            "zarr_format": 2,
            "shape": self.stored_shape(lengths),
            "chunks": self.stored(self.chunks),
            "dtype": format!("{order}{kind}{}", dtype.size()),
            "order": "C",
            "dimension_separator": "/",
            "fill_value": self.zero(),
            "compressor": self.codec.metadata_v2(),
            "filters": null,
        })
    }

    fn document_v3(&self, lengths: &[usize]) -> Value {
        let mut codecs = self.codec.metadata(stored_dtype(self.dtype));
        if self.shards.is_some() {
            codecs = vec![json!({
                "name": "sharding_indexed",
                "configuration": {
                    "chunk_shape": self.stored(self.chunks),
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
            "shape": self.stored_shape(lengths),
            "data_type": stored_dtype(self.dtype).name(),
            "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": self.stored(self.unit_shape())}},
            "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
            "fill_value": self.zero(),
            "codecs": codecs,
            "attributes": {},
        });
        if !self.dimension_names.is_empty() {
            document["dimension_names"] = json!(self.dimension_names);
        }
        document
    }

    /// The fill value.
    fn zero(&self) -> Value {
        if self.dtype.is_float() { json!(0.0) } else { json!(0) }
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
        self.encode_made(index, &|_| Cow::Borrowed(volume))
    }

    /// As [`ArraySpec::encode_object`], of voxels that are made when they are packed: `made` gives those of a part of the
    /// object, in the array's type.
    ///
    /// # Errors
    /// Invalid as [`ArraySpec::check`].
    pub(crate) fn encode_made<'v>(
        &self,
        index: [usize; 3],
        made: &dyn Fn(Region) -> Cow<'v, AnyVolume>,
    ) -> Result<Bytes> {
        let mut body = Body::new(self)?;
        for (at, part) in self.parts(index) {
            body.pack(at, &made(part), part)?;
        }
        Ok(body.finish())
    }

    /// The chunks of an object that have voxels in the image: the place of each in its shard, in C order, and the voxels.
    pub(crate) fn parts(&self, index: [usize; 3]) -> impl Iterator<Item = (usize, Region)> + use<> {
        let (object, unit, chunks) = (self.object_region(index), self.unit_shape(), self.chunks);
        let inner = Extent { shape: std::array::from_fn(|a| unit[a] / chunks[a]), planar: false };
        (0..inner.region().voxels()).filter_map(move |at| {
            let within = inner.at(at as u64);
            let start = std::array::from_fn(|a| index[a] * unit[a] + within[a] * chunks[a]);
            Region::new(start, chunks).intersection(&object).map(|part| (at, part))
        })
    }
}

/// The bytes of one object as they come to be, chunk by chunk.
pub(crate) struct Body<'s> {
    spec: &'s ArraySpec,
    packer: Packer,
    bytes: Vec<u8>,
    /// Of a shard, offset and length of each chunk: both the largest number where there is none.
    entries: Vec<u8>,
}

impl<'s> Body<'s> {
    /// Of nothing yet.
    ///
    /// # Errors
    /// Invalid as [`ArraySpec::check`].
    pub(crate) fn new(spec: &'s ArraySpec) -> Result<Self> {
        spec.check()?;
        let packer = Packer::new(spec)?;
        let Some(shards) = spec.shards else {
            return Ok(Self { spec, packer, bytes: Vec::new(), entries: Vec::new() });
        };
        let chunks: usize = (0..3).map(|a| shards[a] / spec.chunks[a]).product();
        // For the worst at once: a buffer that grew would be of another size with each block, and so of fresh pages. What
        // is not written to takes none.
        let bytes = Vec::with_capacity(spec.most_bytes() as usize);
        Ok(Self { spec, packer, bytes, entries: vec![u8::MAX; 16 * chunks] })
    }

    /// Packs the chunk at `at`, whose voxels in the image are `part`.
    pub(crate) fn pack(&mut self, at: usize, voxels: &AnyVolume, part: Region) -> Result<()> {
        let plain = with_volume!(voxels, v => plain(v, self.spec.chunks, part));
        if self.leaves_out(&plain) {
            return Ok(());
        }
        let offset = self.bytes.len();
        self.packer.append(&plain, &mut self.bytes)?;
        self.settle(at, offset);
        Ok(())
    }

    /// Takes over the chunk at `at` as it was packed elsewhere; `voxels` are what it holds, and `part` those in the image.
    pub(crate) fn take(&mut self, at: usize, packed: &[u8], voxels: &AnyVolume, part: Region) {
        if !self.leaves_out(&with_volume!(voxels, v => plain(v, self.spec.chunks, part))) {
            let offset = self.bytes.len();
            self.bytes.extend_from_slice(packed);
            self.settle(at, offset);
        }
    }

    /// A shard lacks chunks that are 0 throughout.
    fn leaves_out(&self, plain: &[u8]) -> bool {
        self.spec.shards.is_some() && is_zero(plain)
    }

    fn settle(&mut self, at: usize, offset: usize) {
        let len = (self.bytes.len() - offset) as u64;
        if let Some(entry) = self.entries.get_mut(16 * at..16 * at + 16) {
            entry[..8].copy_from_slice(&(offset as u64).to_le_bytes());
            entry[8..].copy_from_slice(&len.to_le_bytes());
        }
    }

    /// The bytes of the object.
    pub(crate) fn finish(self) -> Bytes {
        let Self { mut bytes, entries, .. } = self;
        if !entries.is_empty() {
            let checksum = crc32c::crc32c(&entries);
            bytes.extend_from_slice(&entries);
            bytes.extend_from_slice(&checksum.to_le_bytes());
        }
        bytes.into()
    }
}

impl Array {
    /// The array that `spec` describes, with `store` as its root, before its metadata is there: how a level is read of
    /// which the next is made. It has no geometry.
    ///
    /// # Errors
    /// Invalid as [`ArraySpec::check`].
    pub fn unpublished(store: &Store, spec: &ArraySpec) -> Result<Array> {
        Self::unpublished_at(store, spec, &[], &[])
    }

    /// [`Array::unpublished`] for one image of several in an array: the lengths of the leading axes, and the index taken.
    ///
    /// # Errors
    /// Invalid as [`ArraySpec::check`].
    pub fn unpublished_at(store: &Store, spec: &ArraySpec, lengths: &[usize], at: &[usize]) -> Result<Array> {
        spec.check()?;
        let document = spec.document(lengths);
        let metadata = match spec.ome {
            OmeVersion::V04 => Metadata::from_v2(store.url(), &document, Map::new())?,
            OmeVersion::V05 => Metadata::from_v3(store.url(), &document)?,
        };
        let leading = spec.leading();
        let axes = Axes {
            spatial: std::array::from_fn(|a| {
                spec.extent.axes().contains(&a).then(|| leading + a - spec.extent.axes().start)
            }),
            fixed: (0..leading).map(|a| (a, at.get(a).copied().unwrap_or(0) as u64)).collect(),
            names: spec.dimension_names.iter().skip(leading).cloned().collect(),
            extent: spec.extent,
        };
        let mut hash = Sha256::new();
        hash.update(store.url());
        hash.update(format!(" {at:?} "));
        hash.update(&document);
        let hash: [u8; 32] = hash.finalize().into();
        let mut id = [0; 16];
        id.copy_from_slice(&hash[..16]);
        Ok(Array(Arc::new(Inner {
            store: store.clone(),
            metadata,
            axes,
            units: [const { None }; 3],
            scale: [1.0; 3],
            translation: [0.0; 3],
            geometry: Geometry::unknown(spec.extent.planar),
            levels: Vec::new(),
            level: 0,
            fingerprint: hash.iter().map(|byte| format!("{byte:02x}")).collect(),
            id,
        })))
    }
}

/// Writes a whole array that fits in memory, metadata last.
pub async fn write_whole(store: &Store, spec: &ArraySpec, volume: &AnyVolume) -> Result<()> {
    for index in spec.objects_in(spec.extent.region()) {
        store.put(&spec.key(index), spec.encode_object(volume, index)?).await?;
    }
    spec.publish(store).await?;
    Ok(())
}

/// The type on disk.
fn stored_dtype(dtype: Dtype) -> Dtype {
    if dtype == Dtype::Bool { Dtype::U8 } else { dtype }
}

/// The voxels of `part` as little-endian bytes at their places in a chunk of this shape, whose first voxel is theirs, and
/// 0 beyond. Where they make up the chunk and lie side by side already, they are not copied.
fn plain<T: Element>(volume: &Volume<T>, chunk: [usize; 3], part: Region) -> Cow<'_, [u8]> {
    if part.shape() == chunk
        && let (Some(all), None) = {
            let mut runs = volume.runs(part);
            (runs.next(), runs.next())
        }
    {
        return T::le_bytes(all);
    }
    let element = T::DTYPE.size();
    let [depth, height, width] = chunk;
    let columns = part.start[2] - volume.region.start[2]..part.end[2] - volume.region.start[2];
    let mut bytes = Vec::with_capacity(depth * height * width * element);
    for z in part.start[0]..part.end[0] {
        for y in part.start[1]..part.end[1] {
            bytes.extend_from_slice(&T::le_bytes(&volume.row(z, y)[columns.clone()]));
            bytes.resize(bytes.len() + (width - columns.len()) * element, 0);
        }
        bytes.resize(bytes.len() + (height - part.shape()[1]) * width * element, 0);
    }
    bytes.resize(depth * height * width * element, 0);
    Cow::Owned(bytes)
}

/// Whether all bytes are 0. Piece by piece, so that one that isn't is soon found, and a piece is looked at in vectors.
fn is_zero(bytes: &[u8]) -> bool {
    const PIECE: usize = 4096;
    bytes.chunks(PIECE).all(|piece| piece.iter().fold(0, |all, byte| all | byte) == 0)
}

/// What packs the chunks of one spec, made once per object. Byte order is settled before it sees the bytes.
enum Packer {
    Zstd(u8),
    Library(Vec<Arc<dyn BytesToBytesCodecTraits>>),
}

impl Packer {
    fn new(spec: &ArraySpec) -> Result<Packer> {
        if let Codec::Zstd { level } = spec.codec {
            return Ok(Packer::Zstd(level));
        }
        let mut codecs = Vec::new();
        for metadata in spec.codec.metadata(stored_dtype(spec.dtype)) {
            let failed = |e: String| Error::internal(format!("the codec {} can't be made: {e}", spec.codec));
            let metadata: MetadataV3 = serde_json::from_value(metadata).map_err(|e| failed(e.to_string()))?;
            match ZarrsCodec::from_metadata(&metadata).map_err(|e| failed(e.to_string()))? {
                ZarrsCodec::BytesToBytes(codec) => codecs.push(codec),
                ZarrsCodec::ArrayToBytes(_) | ZarrsCodec::ArrayToArray(_) => {}
            }
        }
        Ok(Packer::Library(codecs))
    }

    /// Packs a chunk, and appends what comes of it to the bytes of the object.
    fn append(&self, plain: &[u8], body: &mut Vec<u8>) -> Result<()> {
        let failed = |e: String| Error::internal(format!("a chunk can't be packed: {e}"));
        match self {
            Packer::Zstd(level) => {
                zstandard::pack((*level).into(), plain, body).map_err(|e| failed(e.to_string()))?;
            }
            Packer::Library(codecs) => {
                // One thread, and so the same bytes on every machine.
                let options = CodecOptions::default().with_concurrent_target(1);
                let mut bytes = Cow::Borrowed(plain);
                for codec in codecs {
                    bytes = codec.encode(bytes, &options).map_err(|e| failed(e.to_string()))?;
                }
                body.extend_from_slice(&bytes);
            }
        }
        Ok(())
    }
}
