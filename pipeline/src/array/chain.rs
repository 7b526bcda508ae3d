//! Decoding one chunk: the codecs of `zarrs`, guarded against bytes that lie.
//!
//! A chunk comes from outside. A flipped bit in a compressor's header may promise a terabyte, and a codec may panic on
//! an index that points nowhere. Neither may take the process down: sizes are known from the chunk's shape before
//! anything is unpacked, and a codec's panic becomes an error about that chunk.

use std::borrow::Cow;
use std::num::NonZeroU64;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zarrs::array::codec::api::{ArrayToBytesCodecTraits, BytesToBytesCodecTraits, CodecOptions};
use zarrs::array::{ArrayBytes, BytesRepresentation, CodecChain, DataType, FillValue};

/// What is wrong, in a clause that follows "can't be decoded: ".
pub(super) type Why = String;

/// The codecs of one kind of chunk, and the shape and type they decode to.
#[derive(Debug)]
pub(super) struct Chain {
    /// Compressors and checksums in the order of encoding, each with the size of what it was given to encode.
    steps: Vec<(Step, BytesRepresentation)>,
    /// The codecs between voxels and the first bytes: transposition, byte order, a whole shard.
    voxels: CodecChain,
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill: FillValue,
    /// Length of the encoded chunk where no codec makes it depend on the voxels.
    encoded_len: Option<u64>,
}

#[derive(Debug)]
enum Step {
    /// Unpacked here, because the library trusts the size that a frame claims.
    Zstd,
    /// Unpacked by the library once the size in its header is seen to be right.
    Blosc(Arc<dyn BytesToBytesCodecTraits>),
    Other(Arc<dyn BytesToBytesCodecTraits>),
}

impl Chain {
    /// Prepares `chain` for chunks of `shape`; `names` are those of its bytes-to-bytes codecs.
    pub(super) fn new(
        chain: &CodecChain,
        names: &[&str],
        shape: Vec<NonZeroU64>,
        data_type: DataType,
        fill: FillValue,
    ) -> Result<Chain, Why> {
        guarded(|| {
            let voxels = CodecChain::new(
                chain.array_to_array_codecs().to_vec(),
                Arc::clone(chain.array_to_bytes_codec()),
                Vec::new(),
            );
            let mut size = voxels.encoded_representation(&shape, &data_type, &fill).map_err(|e| e.to_string())?;
            let mut steps = Vec::new();
            for (codec, name) in chain.bytes_to_bytes_codecs().iter().zip(names) {
                let encoded = codec.encoded_representation(&size);
                let step = match *name {
                    "zstd" => Step::Zstd,
                    "blosc" => Step::Blosc(Arc::clone(codec)),
                    _ => Step::Other(Arc::clone(codec)),
                };
                steps.push((step, size));
                size = encoded;
            }
            let encoded_len = match size {
                BytesRepresentation::FixedSize(len) => Some(len),
                _ => None,
            };
            Ok(Chain { steps, voxels, shape, data_type, fill, encoded_len })
        })
    }

    /// Length of the encoded chunk in bytes, where it is the same for every chunk.
    pub(super) fn encoded_len(&self) -> Option<u64> {
        self.encoded_len
    }

    /// The chunk's elements in native byte order and C order.
    pub(super) fn decode<'a>(&self, encoded: &'a [u8]) -> Result<Cow<'a, [u8]>, Why> {
        guarded(|| {
            // One thread: blocks are what runs in parallel.
            let options = CodecOptions::default().with_concurrent_target(1);
            let mut bytes = Cow::Borrowed(encoded);
            for (step, size) in self.steps.iter().rev() {
                bytes = match step {
                    Step::Zstd => Cow::Owned(unpack_zstd(&bytes, size)?),
                    Step::Blosc(codec) => {
                        check_blosc_header(&bytes, size)?;
                        codec.decode(bytes, size, &options).map_err(|e| e.to_string())?
                    }
                    Step::Other(codec) => codec.decode(bytes, size, &options).map_err(|e| e.to_string())?,
                };
            }
            match self.voxels.decode(bytes, &self.shape, &self.data_type, &self.fill, &options) {
                Ok(ArrayBytes::Fixed(bytes)) => Ok(bytes),
                Ok(_) => Err("its elements have no fixed size".to_owned()),
                Err(e) => Err(e.to_string()),
            }
        })
    }
}

/// Runs foreign code on foreign bytes; a panic in it is an error like any other.
pub(super) fn guarded<T>(work: impl FnOnce() -> Result<T, Why>) -> Result<T, Why> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|_| Err("a codec gave up on it".to_owned()))
}

fn unpack_zstd(bytes: &[u8], size: &BytesRepresentation) -> Result<Vec<u8>, Why> {
    let Some(size) = size.size().and_then(|size| usize::try_from(size).ok()) else {
        return Err("its unpacked size is unknown".to_owned());
    };
    let mut unpacker = zstd::bulk::Decompressor::new().map_err(|e| format!("zstd: {e}"))?;
    unpacker.decompress(bytes, size).map_err(|e| format!("zstd: {e}"))
}

/// Checks what a Blosc header says against the size the chunk must have: bytes 4..8 hold the unpacked size, bytes
/// 12..16 the packed one, little-endian (Blosc 1 chunk format).
fn check_blosc_header(bytes: &[u8], size: &BytesRepresentation) -> Result<(), Why> {
    let field = |at: usize| -> Option<u64> {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(four)))
    };
    let (Some(unpacked), Some(packed)) = (field(4), field(12)) else {
        return Err(format!("blosc: {} bytes are too few for a header", bytes.len()));
    };
    if packed != bytes.len() as u64 {
        return Err(format!("blosc: the header tells of {packed} packed bytes, there are {}", bytes.len()));
    }
    match *size {
        BytesRepresentation::FixedSize(size) if size != unpacked => {
            Err(format!("blosc: the header tells of {unpacked} unpacked bytes, the chunk has {size}"))
        }
        _ => Ok(()),
    }
}
