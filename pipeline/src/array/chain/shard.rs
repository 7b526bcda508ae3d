//! A shard that is decoded whole: within another shard, or packed or transposed as a whole. Shards that lie in the store
//! as they are have their chunks read one by one instead; that is `read`'s work.

use std::num::NonZeroU64;

use zarrs::array::codec::api::Codec;
use zarrs::array::codec::{ShardingCodecConfiguration, ShardingIndexLocation};
use zarrs::array::{DataType, FillValue, data_type};
use zarrs::metadata::v3::MetadataV3;

use super::{Chain, Refusal, Why, guarded, room};

/// The codec's name in Zarr.
pub(super) const NAME: &str = "sharding_indexed";

/// An index of more bytes than this is a damaged document: a shard of a million chunks has one of 16 MiB.
const INDEX_BYTES_MAX: u64 = 256 << 20;

/// Shard and chunk as boxes of elements, and how each is decoded.
#[derive(Debug)]
pub(super) struct Shard {
    shape: Vec<usize>,
    chunk: Vec<usize>,
    /// Chunks along each axis.
    chunks: Vec<usize>,
    index: Chain,
    index_len: usize,
    index_at_start: bool,
    inner: Chain,
    /// One element.
    fill: Vec<u8>,
}

/// The shape of the index of a shard with `chunks` along each axis.
///
/// # Errors
/// When no memory should be given to it.
pub(in crate::array) fn index_shape(chunks: &[u64]) -> Result<Vec<NonZeroU64>, Why> {
    let entries = chunks.iter().try_fold(16u64, |n, len| n.checked_mul(*len));
    if entries.is_none_or(|bytes| bytes > INDEX_BYTES_MAX) {
        return Err(format!("shards of {chunks:?} chunks have too large an index"));
    }
    Ok(chunks.iter().chain(&[2]).filter_map(|n| NonZeroU64::new(*n)).collect())
}

/// Why the library doesn't take a sharding codec: one of its inner codecs, or its own configuration.
pub(super) fn refusal(codec: &MetadataV3) -> Refusal {
    let inner = match codec.to_typed_configuration() {
        Ok(ShardingCodecConfiguration::V1(v1)) => [v1.codecs, v1.index_codecs].concat(),
        _ => return Refusal::Broken("sharding codec has a bad configuration".to_owned()),
    };
    for codec in inner.iter().map(super::canonical).filter(MetadataV3::must_understand) {
        if let Err(e) = guarded(|| Codec::from_metadata(&codec).map_err(|e| e.to_string())) {
            return match codec.name() {
                NAME => refusal(&codec),
                name if e.contains("not supported") => Refusal::Unknown(name.to_owned()),
                name => Refusal::Broken(format!("codec {name}: {e}")),
            };
        }
    }
    Refusal::Broken("sharding codec has a bad configuration".to_owned())
}

impl Shard {
    /// Prepares `codec` for shards of `shape`.
    pub(super) fn new(
        codec: &MetadataV3,
        shape: &[NonZeroU64],
        data_type: &DataType,
        fill: &FillValue,
    ) -> Result<Shard, Refusal> {
        let Ok(ShardingCodecConfiguration::V1(v1)) = codec.to_typed_configuration() else {
            return Err(Refusal::Broken("sharding codec has a bad configuration".to_owned()));
        };
        let chunk = v1.chunk_shape;
        if chunk.len() != shape.len() || shape.iter().zip(&chunk).any(|(s, c)| s.get() % c.get() != 0) {
            return Err(Refusal::Broken(format!("shards {shape:?} are not whole chunks {chunk:?}")));
        }
        let chunks: Vec<u64> = shape.iter().zip(&chunk).map(|(s, c)| s.get() / c.get()).collect();
        let index_shape = index_shape(&chunks).map_err(Refusal::Broken)?;
        let index = Chain::new(&v1.index_codecs, index_shape, data_type::uint64(), FillValue::from(u64::MAX))?;
        let index_len = index.encoded_len().ok_or_else(|| Refusal::Broken("shard index is compressed".to_owned()))?;
        let lens = |lens: &[NonZeroU64]| lens.iter().map(|n| n.get() as usize).collect::<Vec<_>>();
        Ok(Shard {
            shape: lens(shape),
            chunk: lens(&chunk),
            chunks: chunks.iter().map(|n| *n as usize).collect(),
            index,
            index_len: index_len as usize,
            index_at_start: v1.index_location == ShardingIndexLocation::Start,
            inner: Chain::new(&v1.codecs, chunk, data_type.clone(), fill.clone())?,
            fill: fill.as_ne_bytes().to_vec(),
        })
    }

    /// The shard's elements in native byte order and C order.
    pub(super) fn decode(&self, bytes: &[u8]) -> Result<Vec<u8>, Why> {
        let index = match self.index_at_start {
            true => bytes.get(..self.index_len),
            false => bytes.len().checked_sub(self.index_len).and_then(|at| bytes.get(at..)),
        };
        let index =
            index.ok_or_else(|| format!("a shard in it has {} bytes, its index {}", bytes.len(), self.index_len))?;
        let index = self.index.decode(index).map_err(|why| format!("the index of a shard in it: {why}"))?;
        let word = |at: usize| -> Option<u64> { Some(u64::from_ne_bytes(index.get(at..at + 8)?.try_into().ok()?)) };

        let element = self.fill.len();
        let elements: usize = self.shape.iter().product();
        let mut out = room(elements * element)?;
        for _ in 0..elements {
            out.extend_from_slice(&self.fill);
        }
        for at in 0..self.chunks.iter().product() {
            let (Some(offset), Some(len)) = (word(16 * at), word(16 * at + 8)) else {
                return Err("the index of a shard in it is too short".to_owned());
            };
            if (offset, len) == (u64::MAX, u64::MAX) {
                continue;
            }
            let packed = offset.checked_add(len).and_then(|end| bytes.get(offset as usize..end as usize));
            let packed = packed.ok_or_else(|| {
                format!("a shard in it has {} bytes, its chunk {at} {len} from byte {offset} on", bytes.len())
            })?;
            let chunk = self.inner.decode(packed).map_err(|why| format!("chunk {at} of a shard in it: {why}"))?;
            self.place(&mut out, &chunk, at)?;
        }
        Ok(out)
    }

    /// Copies chunk `at` (in C order) to its place, a row of the last axis at a time.
    fn place(&self, out: &mut [u8], chunk: &[u8], at: usize) -> Result<(), Why> {
        let element = self.fill.len();
        let last = self.shape.len() - 1;
        if chunk.len() != self.chunk.iter().product::<usize>() * element {
            return Err(format!("chunk {at} of a shard in it has {} bytes", chunk.len()));
        }
        let corner = coordinates(at, &self.chunks);
        let row_bytes = self.chunk[last] * element;
        for (row, from) in chunk.chunks_exact(row_bytes).enumerate() {
            let within = coordinates(row, &self.chunk[..last]);
            let mut to = 0;
            for axis in 0..=last {
                let inside = within.get(axis).copied().unwrap_or(0);
                to = to * self.shape[axis] + corner[axis] * self.chunk[axis] + inside;
            }
            out[to * element..to * element + row_bytes].copy_from_slice(from);
        }
        Ok(())
    }
}

/// The coordinates of element `at` in C order of a box of `shape`.
fn coordinates(mut at: usize, shape: &[usize]) -> Vec<usize> {
    let mut coordinates = vec![0; shape.len()];
    for axis in (0..shape.len()).rev() {
        coordinates[axis] = at % shape[axis];
        at /= shape[axis];
    }
    coordinates
}
