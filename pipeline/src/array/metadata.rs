//! One array's metadata document, Zarr v2 or v3, parsed into what reading needs: shape, type, where chunks are, and how
//! they decode.

use std::num::NonZeroU64;

use serde_json::{Map, Value};
use voxel::Dtype;
use zarrs::array::codec::{ShardingCodecConfiguration, ShardingIndexLocation};
use zarrs::array::{ArrayMetadataV2, ArrayMetadataV3, ChunkKeyEncoding, DataType, FillValue, data_type};
use zarrs::convert::{ArrayMetadataV2ToV3Error, array_metadata_v2_to_v3};
use zarrs::metadata::v2::MetadataV2;
use zarrs::metadata::v3::MetadataV3;

use super::chain::{Chain, Refusal, index_shape};
use super::codec::Codec;
use crate::{Error, Result};

/// A chunk that decodes to more than this is a damaged document, not a chunk: no machine we know could hold it.
const CHUNK_BYTES_MAX: u64 = 1 << 40;

/// More voxels than this can't be counted in bytes of a 64-bit address.
const VOXELS_MAX: u64 = 1 << 60;

/// What an array's document says.
#[derive(Debug)]
pub(super) struct Metadata {
    /// Elements along each axis as stored; none is zero.
    pub(super) shape: Vec<u64>,
    pub(super) dtype: Dtype,
    /// One element in native byte order: what a missing chunk is full of.
    pub(super) fill: Vec<u8>,
    /// Shape of what one object holds: a shard, or a chunk.
    pub(super) object: Vec<u64>,
    /// Shape of what is decoded at once: the object, or an inner chunk of it.
    pub(super) chunk: Vec<u64>,
    pub(super) chain: Chain,
    pub(super) shards: Option<Shards>,
    /// The codec of ours that makes the same chunks, if there is one.
    pub(super) codec: Option<Codec>,
    /// The codecs in words, outermost first.
    pub(super) codecs: Vec<String>,
    /// One name per axis, where the document has names.
    pub(super) names: Option<Vec<Option<String>>>,
    keys: ChunkKeyEncoding,
}

/// How a shard finds its inner chunks.
#[derive(Debug)]
pub(super) struct Shards {
    /// Decodes the index: offset and length of each inner chunk, in C order.
    pub(super) index: Chain,
    /// Length of the encoded index in bytes.
    pub(super) index_len: u64,
    pub(super) index_at_start: bool,
    /// Inner chunks along each axis.
    pub(super) chunks: Vec<u64>,
}

impl Metadata {
    /// Parses a v3 `zarr.json`. `url` is for messages.
    pub(super) fn from_v3(url: &str, document: &[u8]) -> Result<Metadata> {
        let document: ArrayMetadataV3 = serde_json::from_slice(document)
            .map_err(|e| Error::invalid(format!("{url}/zarr.json is not the metadata of an array: {e}")))?;
        Self::new(url, &document)
    }

    /// Parses a v2 `.zarray` with the attributes of its `.zattrs`.
    pub(super) fn from_v2(url: &str, document: &[u8], attributes: Map<String, Value>) -> Result<Metadata> {
        let not_metadata =
            |e: serde_json::Error| Error::invalid(format!("{url}/.zarray is not the metadata of an array: {e}"));
        let document: Value = serde_json::from_slice(document).map_err(not_metadata)?;
        if let Some(fields) = document.get("dtype").filter(|dtype| dtype.is_array()) {
            return Err(unknown_dtype(url, &format!("records {fields}")));
        }
        let mut document: ArrayMetadataV2 = serde_json::from_value(document).map_err(not_metadata)?;
        document.attributes = attributes;
        // Rounding bits away is done when writing; who reads takes the numbers as they are.
        if let Some(filters) = &mut document.filters {
            filters.retain(|filter| filter.id() != "bitround");
        }
        // The library knows this checksum in version 3 only.
        let is_crc = |compressor: &mut MetadataV2| {
            compressor.id() == "crc32c" && compressor.configuration().get("location").is_none_or(|at| at == "end")
        };
        let crc = document.compressor.take_if(is_crc).map(|_| MetadataV3::new("crc32c"));
        let mut document = array_metadata_v2_to_v3(&document).map_err(|e| match e {
            ArrayMetadataV2ToV3Error::UnsupportedCodec(name, _) => unknown_codec(url, &name),
            ArrayMetadataV2ToV3Error::UnsupportedDataType(found) => {
                unknown_dtype(url, &serde_json::to_value(&found).unwrap_or_default().to_string())
            }
            e => Error::invalid(format!("{url}/.zarray can't be read: {e}")),
        })?;
        document.codecs.extend(crc);
        Self::new(url, &document)
    }

    fn new(url: &str, document: &ArrayMetadataV3) -> Result<Metadata> {
        let broken = |what: &str| Error::invalid(format!("{url} can't be read: {what}"));
        let dtype =
            Dtype::from_name(document.data_type.name()).ok_or_else(|| unknown_dtype(url, document.data_type.name()))?;
        let data_type = DataType::from_metadata(&document.data_type).map_err(|e| broken(&e.to_string()))?;
        let fill = data_type
            .fill_value_v3(&document.fill_value)
            .map_err(|_| broken(&format!("its fill value {} is no {dtype}", document.fill_value)))?;
        if let Some(transformer) = document.storage_transformers.first() {
            return Err(broken(&format!("it uses the storage transformer {:?}", transformer.name())));
        }
        if let Some((name, _)) = document.additional_fields.iter().find(|(_, field)| field.must_understand()) {
            return Err(broken(&format!("its metadata has a field {name:?} that must be understood")));
        }
        let keys = ChunkKeyEncoding::from_metadata(&document.chunk_key_encoding)
            .map_err(|_| broken(&format!("its chunk keys are encoded as {:?}", document.chunk_key_encoding.name())))?;

        let shape = document.shape.clone();
        if shape.contains(&0) {
            return Err(Error::invalid(format!("{url} has no voxels: its shape is {shape:?}")));
        }
        if shape.iter().try_fold(1u64, |n, len| n.checked_mul(*len)).is_none_or(|n| n > VOXELS_MAX) {
            return Err(broken(&format!("its shape {shape:?} has more voxels than can be counted")));
        }
        let object = regular_chunks(document)
            .filter(|chunks| chunks.len() == shape.len())
            .ok_or_else(|| broken(&format!("its chunk grid {} is not regular", document.chunk_grid)))?;

        let mut codecs = Vec::new();
        let sharding = sole_sharding(url, &document.codecs)?;
        let (chunk, inner) = match &sharding {
            None => (object.clone(), document.codecs.as_slice()),
            Some(sharding) => {
                codecs.push("sharding_indexed".to_owned());
                (sharding.chunk_shape.to_vec(), sharding.codecs.as_slice())
            }
        };
        if chunk.len() != object.len() || object.iter().zip(&chunk).any(|(o, c)| o.get() % c.get() != 0) {
            return Err(broken(&format!("its shards {object:?} are not whole chunks {chunk:?}")));
        }
        for shape in [&object, &chunk] {
            let bytes = shape.iter().try_fold(dtype.size() as u64, |n, len| n.checked_mul(len.get()));
            if bytes.is_none_or(|n| n > CHUNK_BYTES_MAX) {
                return Err(broken(&format!("its chunks {shape:?} are too large for any machine")));
            }
        }
        codecs.extend(inner.iter().map(in_words));
        let codec = Codec::of(inner, dtype);
        let chain = chain(url, inner, chunk.clone(), data_type, fill.clone())?;
        let per_object: Vec<u64> = object.iter().zip(&chunk).map(|(o, c)| o.get() / c.get()).collect();
        let shards = match sharding {
            None => None,
            Some(sharding) => {
                let index_shape = index_shape(&per_object).map_err(|why| broken(&format!("its {why}")))?;
                let index = self::chain(
                    url,
                    &sharding.index_codecs,
                    index_shape,
                    data_type::uint64(),
                    FillValue::from(u64::MAX),
                )?;
                let index_len = index.encoded_len().ok_or_else(|| broken("its shard index is compressed"))?;
                let index_at_start = sharding.index_location == ShardingIndexLocation::Start;
                Some(Shards { index, index_len, index_at_start, chunks: per_object })
            }
        };

        let names = match &document.dimension_names {
            Some(names) => Some(names.clone()),
            // What xarray writes into v2 arrays.
            None => document
                .attributes
                .get("_ARRAY_DIMENSIONS")
                .and_then(Value::as_array)
                .map(|names| names.iter().map(|name| name.as_str().map(str::to_owned)).collect()),
        };
        Ok(Metadata {
            names: names.filter(|names| names.len() == shape.len()),
            shape,
            dtype,
            fill: fill.as_ne_bytes().to_vec(),
            object: object.iter().map(|n| n.get()).collect(),
            chunk: chunk.iter().map(|n| n.get()).collect(),
            codec,
            chain,
            shards,
            codecs,
            keys,
        })
    }

    /// The key of the object with grid index `index`, relative to the array.
    pub(super) fn key(&self, index: &[u64]) -> String {
        self.keys.encode(index).as_str().to_owned()
    }

    /// Bytes of one decoded chunk.
    pub(super) fn chunk_bytes(&self) -> u64 {
        self.chunk.iter().product::<u64>() * self.dtype.size() as u64
    }
}

fn regular_chunks(document: &ArrayMetadataV3) -> Option<Vec<NonZeroU64>> {
    if document.chunk_grid.name() != "regular" {
        return None;
    }
    let chunks = document.chunk_grid.configuration()?.get("chunk_shape")?.as_array()?;
    chunks.iter().map(|n| n.as_u64().and_then(NonZeroU64::new)).collect()
}

/// The sharding codec's configuration, when inner chunks can be read one by one: it is the only codec. Anything else is
/// decoded a whole object at a time, as is a shard within a shard.
fn sole_sharding(
    url: &str,
    codecs: &[MetadataV3],
) -> Result<Option<zarrs::array::codec::ShardingCodecConfigurationV1>> {
    let [only] = codecs else { return Ok(None) };
    if only.name() != "sharding_indexed" {
        return Ok(None);
    }
    let configuration: ShardingCodecConfiguration = only
        .to_typed_configuration()
        .map_err(|e| Error::invalid(format!("{url} can't be read: its sharding codec has a bad configuration: {e}")))?;
    match configuration {
        ShardingCodecConfiguration::V1(v1) => Ok(Some(v1)),
        _ => Ok(None),
    }
}

fn chain(
    url: &str,
    codecs: &[MetadataV3],
    shape: Vec<NonZeroU64>,
    data_type: DataType,
    fill: FillValue,
) -> Result<Chain> {
    Chain::new(codecs, shape, data_type, fill).map_err(|refusal| match refusal {
        Refusal::Unknown(name) => unknown_codec(url, &name),
        Refusal::Broken(why) => Error::invalid(format!("{url} can't be read: its {why}")),
    })
}

/// `zstd (level 3, checksum false)`
fn in_words(codec: &MetadataV3) -> String {
    let name = codec.name();
    let settings: Vec<String> = codec
        .configuration()
        .into_iter()
        .flat_map(|c| c.iter())
        .map(|(key, value)| match value {
            Value::String(text) => format!("{key} {text}"),
            value => format!("{key} {value}"),
        })
        .collect();
    if settings.is_empty() { name.to_owned() } else { format!("{name} ({})", settings.join(", ")) }
}

fn unknown_codec(url: &str, name: &str) -> Error {
    Error::invalid(format!("{url} uses the codec {name:?}, which voxmill can't read"))
        .hint("rewrite the array with zstd, gzip, zlib, blosc or no compression")
}

fn unknown_dtype(url: &str, name: &str) -> Error {
    Error::invalid(format!("{url} holds {name}; voxmill reads bool, integers of 8 to 64 bits, float32 and float64"))
}
