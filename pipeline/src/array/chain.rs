//! Decoding one chunk: the codecs of `zarrs`, guarded against bytes that lie.
//!
//! A chunk comes from outside. A flipped bit in a compressor's header may promise a terabyte, a kilobyte of zeros may
//! unpack to a terabyte of them, and a codec may panic on an index that points nowhere. None of that may take the
//! process down: sizes are known from the chunk's shape before anything is unpacked, every unpacker stops at its size,
//! and a codec's panic becomes an error about that chunk. Shards within chunks are taken apart here too, so that the same
//! holds inside them.

mod pcodec;
mod shard;
mod unpack;

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zarrs::array::codec::BytesCodec;
use zarrs::array::codec::api::{ArrayToBytesCodecTraits, BytesToBytesCodecTraits, Codec, CodecOptions};
use zarrs::array::{ArrayBytes, BytesRepresentation, CodecChain, DataType, Endianness, FillValue};
use zarrs::metadata::v3::MetadataV3;

use pcodec::Numbers;
use shard::Shard;
use unpack::Packer;

pub(super) use shard::index_shape;

/// What is wrong, in a clause that follows "can't be decoded: ".
pub(super) type Why = String;

/// Why codecs can't be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    /// Nobody here knows the codec of that name.
    Unknown(String),
    /// What is wrong, in a clause that follows "can't be read: its ".
    Broken(Why),
}

/// The codecs of one kind of chunk, and the shape and type they decode to.
#[derive(Debug)]
pub(super) struct Chain {
    /// Compressors and checksums in the order of encoding, each with the size of what it was given to encode.
    steps: Vec<(Step, BytesRepresentation)>,
    elements: Elements,
    /// The codecs between voxels and the first bytes: transposition, byte order. Where [`Chain::elements`] makes
    /// numbers of bytes, this takes them as they are.
    voxels: CodecChain,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill: FillValue,
    /// Bytes that a chunk may unpack to where a codec's own size is unknown.
    bytes_max: u64,
    /// Length of the encoded chunk where no codec makes it depend on the voxels.
    encoded_len: Option<u64>,
}

/// A codec from bytes to bytes.
#[derive(Debug)]
enum Step {
    /// Unpacked here, because the library trusts what a frame claims, or unpacks to the end whatever its size.
    Packed(Packer),
    /// Unpacked by the library once the sizes in its header are seen to be right.
    Blosc(Arc<dyn BytesToBytesCodecTraits>),
    /// Checksums and shuffles: what comes out is never larger than what went in.
    Plain(Arc<dyn BytesToBytesCodecTraits>),
}

/// The codec that turns elements into the first bytes.
#[derive(Debug)]
enum Elements {
    /// The library's: bytes in some order, packed bits.
    Library,
    Pcodec(Numbers),
    Shard(Box<Shard>),
}

impl Chain {
    /// Prepares `codecs`, as the metadata lists them, for chunks of `shape`.
    pub(super) fn new(
        codecs: &[MetadataV3],
        shape: Vec<NonZeroU64>,
        data_type: DataType,
        fill: FillValue,
    ) -> Result<Chain, Refusal> {
        let mut understood = Vec::new();
        let mut packers = Vec::new();
        for codec in codecs {
            let codec = &canonical(codec);
            match guarded(|| Codec::from_metadata(codec).map_err(|e| e.to_string())) {
                Ok(Codec::BytesToBytes(_)) => {
                    packers.push(codec.name().to_owned());
                    understood.push(codec.clone());
                }
                Ok(_) => understood.push(codec.clone()),
                Err(_) if !codec.must_understand() => {}
                // An inner codec of a shard is asked about when the shard's own chain is made.
                Err(_) if codec.name() == shard::NAME => return Err(shard::refusal(codec)),
                Err(e) if e.contains("not supported") => return Err(Refusal::Unknown(codec.name().to_owned())),
                Err(e) => return Err(Refusal::Broken(format!("codec {}: {e}", codec.name()))),
            }
        }
        let broken = |e: Why| Refusal::Broken(format!("codecs: {e}"));
        let chain = CodecChain::from_metadata(&understood).map_err(|e| broken(e.to_string()))?;
        // What the codec from elements to bytes is given: shape and type after transposition, scaling and the like.
        let (mut inner_shape, mut inner_type, mut inner_fill) = (shape.clone(), data_type.clone(), fill.clone());
        for codec in chain.array_to_array_codecs() {
            (inner_shape, inner_type, inner_fill) = guarded(|| {
                codec.encoded_representation(&inner_shape, &inner_type, &inner_fill).map_err(|e| e.to_string())
            })
            .map_err(broken)?;
        }
        let elements = match understood.iter().find(|codec| [shard::NAME, pcodec::NAME].contains(&codec.name())) {
            None => Elements::Library,
            Some(codec) if codec.name() == pcodec::NAME => {
                Elements::Pcodec(Numbers::new(&inner_shape, &inner_type).map_err(broken)?)
            }
            Some(codec) => Elements::Shard(Box::new(Shard::new(codec, &inner_shape, &inner_type, &inner_fill)?)),
        };
        let first: Arc<dyn ArrayToBytesCodecTraits> = match &elements {
            Elements::Library => Arc::clone(chain.array_to_bytes_codec()),
            _ => Arc::new(BytesCodec::new(Some(Endianness::native()))),
        };
        let (steps, encoded_len) = guarded(|| {
            let own = chain.array_to_bytes_codec().encoded_representation(&inner_shape, &inner_type, &inner_fill);
            let mut size = own.map_err(|e| e.to_string())?;
            let mut steps = Vec::new();
            for (codec, name) in chain.bytes_to_bytes_codecs().iter().zip(&packers) {
                let encoded = codec.encoded_representation(&size);
                let step = match (Packer::named(name), name.as_str()) {
                    (Some(packer), _) => Step::Packed(packer),
                    (None, "blosc") => Step::Blosc(Arc::clone(codec)),
                    _ => Step::Plain(Arc::clone(codec)),
                };
                steps.push((step, size));
                size = encoded;
            }
            let encoded_len = match size {
                BytesRepresentation::FixedSize(len) => Some(len),
                _ => None,
            };
            Ok((steps, encoded_len))
        })
        .map_err(broken)?;
        let size = data_type.fixed_size().unwrap_or(1) as u64;
        let bytes = shape.iter().try_fold(size, |n, len| n.checked_mul(len.get()));
        Ok(Chain {
            steps,
            elements,
            voxels: CodecChain::new(chain.array_to_array_codecs().to_vec(), first, Vec::new()),
            shape,
            data_type,
            fill,
            bytes_max: bytes.map_or(u64::MAX, loosely),
            encoded_len,
        })
    }

    /// Length of the encoded chunk in bytes, where it is the same for every chunk.
    pub(super) fn encoded_len(&self) -> Option<u64> {
        self.encoded_len
    }

    /// Bytes that no encoded chunk exceeds.
    pub(super) fn encoded_max(&self) -> u64 {
        self.encoded_len.unwrap_or(self.bytes_max)
    }

    /// The chunk's elements in native byte order and C order.
    pub(super) fn decode<'a>(&self, encoded: &'a [u8]) -> Result<Cow<'a, [u8]>, Why> {
        guarded(|| {
            // One thread: blocks are what runs in parallel.
            let options = CodecOptions::default().with_concurrent_target(1);
            let mut bytes = Cow::Borrowed(encoded);
            for (step, size) in self.steps.iter().rev() {
                let most = match *size {
                    BytesRepresentation::FixedSize(size) => size,
                    BytesRepresentation::BoundedSize(size) => loosely(size),
                    BytesRepresentation::UnboundedSize => self.bytes_max,
                };
                bytes = match step {
                    Step::Packed(packer) => Cow::Owned(packer.unpack(&bytes, most)?),
                    Step::Blosc(codec) => {
                        unpack::check_blosc_header(&bytes, size, most)?;
                        codec.decode(bytes, size, &options).map_err(|e| e.to_string())?
                    }
                    Step::Plain(codec) => codec.decode(bytes, size, &options).map_err(|e| e.to_string())?,
                };
            }
            let bytes = match &self.elements {
                Elements::Library => bytes,
                Elements::Pcodec(numbers) => Cow::Owned(numbers.decode(&bytes)?),
                Elements::Shard(shard) => Cow::Owned(shard.decode(&bytes)?),
            };
            match self.voxels.decode(bytes, &self.shape, &self.data_type, &self.fill, &options) {
                Ok(ArrayBytes::Fixed(bytes)) => Ok(bytes),
                Ok(_) => Err("its elements have no fixed size".to_owned()),
                Err(e) => Err(e.to_string()),
            }
        })
    }
}

/// Twice `size` and a little: what no packed form of so many bytes exceeds, whoever packed it.
fn loosely(size: u64) -> u64 {
    size.saturating_mul(2).saturating_add(1 << 20)
}

/// The codec under the name that the library knows it by. Some writers leave out the prefix.
fn canonical(codec: &MetadataV3) -> MetadataV3 {
    let mut codec = codec.clone();
    let name = codec.name();
    if ["adler32", "bz2", "fixedscaleoffset", "fletcher32", "pcodec", "shuffle", "zlib"].contains(&name) {
        codec.set_name(format!("numcodecs.{name}"));
    } else if let Some(plain @ ("gzip" | "zstd" | "bitround")) = name.strip_prefix("numcodecs.") {
        let plain = plain.to_owned();
        codec.set_name(plain);
    }
    // Who unpacks needs no level, but the library asks for one.
    let level = ["numcodecs.zlib", "numcodecs.bz2"].contains(&codec.name());
    if level && codec.configuration().is_none_or(|c| !c.contains_key("level")) {
        let given = serde_json::Map::from_iter([("level".to_owned(), 1.into())]);
        return MetadataV3::new_with_configuration(codec.name(), given).with_must_understand(codec.must_understand());
    }
    codec
}

/// Runs foreign code on foreign bytes; a panic in it is an error like any other.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Why>) -> Result<T, Why> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("a codec gave up on it".to_owned()))
}

/// An empty vector with room for `len` items.
fn room<T>(len: usize) -> Result<Vec<T>, Why> {
    let mut room = Vec::new();
    match room.try_reserve_exact(len) {
        Ok(()) => Ok(room),
        Err(_) => Err(format!("there is no memory for its {} bytes", len.saturating_mul(size_of::<T>()))),
    }
}
