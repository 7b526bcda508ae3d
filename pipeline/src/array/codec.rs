//! The compression of what we write, as users name it: `none`, `zstd:3`, `gzip:6`, `blosc:lz4:5`.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use voxel::Dtype;
use zarrs::metadata::v3::MetadataV3;

use crate::Error;

/// How chunks are compressed. As text: `none`, `zstd[:level]`, `gzip[:level]`, `blosc[:compressor[:level]]`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Codec {
    /// Plain bytes.
    None,
    /// Zstandard at level 1 to 22.
    Zstd {
        /// Higher is smaller and slower.
        level: u8,
    },
    /// gzip at level 0 to 9.
    Gzip {
        /// Higher is smaller and slower.
        level: u8,
    },
    /// Blosc at level 0 to 9, with its bit shuffle.
    Blosc {
        /// What compresses the shuffled bytes.
        compressor: BloscCompressor,
        /// Higher is smaller and slower.
        level: u8,
    },
}

/// The compressors inside Blosc.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum BloscCompressor {
    Lz4,
    Lz4hc,
    Blosclz,
    Zstd,
    Zlib,
}

impl BloscCompressor {
    const ALL: [(&'static str, BloscCompressor); 5] = [
        ("lz4", Self::Lz4),
        ("lz4hc", Self::Lz4hc),
        ("blosclz", Self::Blosclz),
        ("zstd", Self::Zstd),
        ("zlib", Self::Zlib),
    ];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, c)| *c == self).map_or("lz4", |(name, _)| name)
    }
}

impl Codec {
    /// The codecs of Zarr v3 metadata that store `dtype` this way: byte order first, then the compressor.
    pub(super) fn metadata(self, dtype: Dtype) -> Vec<Value> {
        let mut codecs = vec![json!({"name": "bytes", "configuration": {"endian": "little"}})];
        match self {
            Codec::None => {}
            Codec::Zstd { level } => {
                codecs.push(json!({"name": "zstd", "configuration": {"level": level, "checksum": false}}));
            }
            Codec::Gzip { level } => codecs.push(json!({"name": "gzip", "configuration": {"level": level}})),
            Codec::Blosc { compressor, level } => {
                codecs.push(json!({
                    "name": "blosc",
                    "configuration": {
                        "cname": compressor.name(),
                        "clevel": level,
                        "shuffle": "bitshuffle",
                        "typesize": dtype.size(),
                        "blocksize": 0,
                    },
                }));
            }
        }
        codecs
    }

    /// The codec whose chunks of `dtype` these codecs of Zarr v3 metadata make, if it is one that can be named here.
    pub(super) fn of(codecs: &[MetadataV3], dtype: Dtype) -> Option<Codec> {
        let (bytes, packer) = match codecs {
            [bytes] => (bytes, None),
            [bytes, packer] => (bytes, Some(packer)),
            _ => return None,
        };
        let endian = bytes.configuration().and_then(|told| told.get("endian"));
        let little = dtype.size() == 1 || endian == Some(&json!("little"));
        if bytes.name() != "bytes" || !little {
            return None;
        }
        let Some(packer) = packer else { return Some(Codec::None) };
        let mut told: Map<String, Value> =
            packer.configuration()?.iter().map(|(key, value)| (key.clone(), value.clone())).collect();
        if packer.name() == "zstd" && told.get("level") == Some(&json!(0)) {
            // What zarr-python writes unasked. It stands for zstd's default.
            told.insert("level".into(), json!(3));
        }
        let level = |key| u8::try_from(told.get(key)?.as_u64()?).ok();
        let codec = match packer.name() {
            "zstd" => Codec::Zstd { level: level("level")? },
            "gzip" => Codec::Gzip { level: level("level")? },
            "blosc" => {
                let name = told.get("cname")?;
                let (_, compressor) = BloscCompressor::ALL.into_iter().find(|(known, _)| name == *known)?;
                Codec::Blosc { compressor, level: level("clevel")? }
            }
            _ => return None,
        };
        // And all else that it is told. Others write levels that can't be asked for here; what is given must have a name.
        let ours = codec.metadata(dtype).pop()?;
        let equal = ours.get("configuration") == Some(&Value::Object(told));
        (equal && codec.to_string().parse() == Ok(codec)).then_some(codec)
    }

    /// The `compressor` of Zarr v2 metadata that stores `dtype` the same way, which gives the same bytes.
    pub(super) fn metadata_v2(self) -> Value {
        match self {
            Codec::None => Value::Null,
            Codec::Zstd { level } => json!({"id": "zstd", "level": level}),
            Codec::Gzip { level } => json!({"id": "gzip", "level": level}),
            Codec::Blosc { compressor, level } => {
                // 2 is its bit shuffle.
                json!({"id": "blosc", "cname": compressor.name(), "clevel": level, "shuffle": 2, "blocksize": 0})
            }
        }
    }

    /// Bytes that packing one chunk of `chunk_bytes` takes beside the chunk itself, packed and unpacked: what the
    /// compressor remembers of what it has seen. Little at the levels people write with, much at the highest.
    pub(crate) fn working_bytes(self, chunk_bytes: u64) -> u64 {
        /// Of zstd's own parameters for levels 1 to 22 and inputs beyond 256 KiB: the logarithms of how far it looks
        /// back, and of the entries, 4 bytes each, of its two tables of matches.
        #[rustfmt::skip]
        const TABLES: [[u32; 3]; 22] = [
            [19, 13, 14], [20, 15, 16], [21, 16, 17], [21, 18, 18], [21, 18, 19], [21, 18, 19], [21, 19, 20],
            [21, 19, 20], [22, 20, 21], [22, 21, 22], [22, 21, 22], [22, 22, 23], [22, 22, 22], [22, 22, 23],
            [22, 23, 23], [22, 22, 22], [23, 23, 22], [23, 23, 22], [23, 24, 22], [25, 25, 23], [26, 26, 24],
            [27, 27, 25],
        ];
        const FIXED: u64 = 2 << 20;
        let zstd = |level: u8| {
            let [window, chain, hash] = TABLES[usize::from(level.clamp(1, 22)) - 1];
            // No table is larger than its input can fill.
            let window = window.min(chunk_bytes.max(1).next_power_of_two().ilog2());
            let entries = (1u64 << chain.min(window + 1)) + (1 << hash.min(window + 1));
            FIXED + 4 * entries + (1 << window)
        };
        match self {
            Codec::None => 0,
            Codec::Zstd { level } => zstd(level),
            Codec::Blosc { compressor: BloscCompressor::Zstd, level } => {
                // How Blosc maps its levels.
                zstd(if level < 8 { (2 * level).saturating_sub(1) } else { 2 * level + 4 })
            }
            Codec::Gzip { .. } | Codec::Blosc { .. } => FIXED,
        }
    }
}

impl FromStr for Codec {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let refused = |why: String| {
            Error::invalid(format!("{text:?} is no codec: {why}")).hint(
                "codecs are none, zstd[:level], gzip[:level], blosc[:compressor[:level]], as in zstd:3 or blosc:lz4:5",
            )
        };
        let mut words = text.split(':');
        let name = words.next().unwrap_or_default();
        let level = |word: Option<&str>, default: u8, least: u8, most: u8| match word {
            None => Ok(default),
            Some(word) => match word.parse() {
                Ok(level) if (least..=most).contains(&level) => Ok(level),
                _ => Err(refused(format!("the level of {name} is {least} to {most}, not {word:?}"))),
            },
        };
        let codec = match name {
            "none" => Codec::None,
            "zstd" => Codec::Zstd { level: level(words.next(), 3, 1, 22)? },
            "gzip" => Codec::Gzip { level: level(words.next(), 5, 0, 9)? },
            "blosc" => {
                let compressor = match words.next() {
                    None => BloscCompressor::Lz4,
                    Some(word) => match BloscCompressor::ALL.iter().find(|(name, _)| *name == word) {
                        Some((_, compressor)) => *compressor,
                        None => {
                            let names = BloscCompressor::ALL.map(|(name, _)| name).join(", ");
                            return Err(refused(format!("the compressors of blosc are {names}")));
                        }
                    },
                };
                Codec::Blosc { compressor, level: level(words.next(), 5, 0, 9)? }
            }
            _ => return Err(refused(format!("{name:?} is unknown"))),
        };
        match words.next() {
            None => Ok(codec),
            Some(word) => Err(refused(format!("{word:?} is one word too many"))),
        }
    }
}

impl fmt::Display for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Codec::None => f.write_str("none"),
            Codec::Zstd { level } => write!(f, "zstd:{level}"),
            Codec::Gzip { level } => write!(f, "gzip:{level}"),
            Codec::Blosc { compressor, level } => write!(f, "blosc:{}:{level}", compressor.name()),
        }
    }
}

impl From<Codec> for String {
    fn from(codec: Codec) -> String {
        codec.to_string()
    }
}

impl TryFrom<String> for Codec {
    type Error = Error;

    fn try_from(text: String) -> Result<Self, Error> {
        text.parse()
    }
}

impl JsonSchema for Codec {
    fn schema_name() -> Cow<'static, str> {
        "Codec".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "string",
            "description": "How chunks are compressed: none, zstd[:level], gzip[:level] or blosc[:compressor[:level]]",
            "pattern": r"^(none|zstd(:[0-9]+)?|gzip(:[0-9])?|blosc(:(lz4|lz4hc|blosclz|zstd|zlib)(:[0-9])?)?)$",
            "examples": ["zstd:3", "blosc:lz4:5", "none"],
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn text_and_codec_are_each_others_inverse() {
        for (text, long) in [
            ("none", "none"),
            ("zstd", "zstd:3"),
            ("zstd:22", "zstd:22"),
            ("gzip", "gzip:5"),
            ("gzip:0", "gzip:0"),
            ("blosc", "blosc:lz4:5"),
            ("blosc:zstd", "blosc:zstd:5"),
            ("blosc:blosclz:9", "blosc:blosclz:9"),
        ] {
            let codec: Codec = text.parse().unwrap();
            assert_eq!(codec.to_string(), long);
            assert_eq!(long.parse::<Codec>().unwrap(), codec);
            assert_eq!(serde_json::from_str::<Codec>(&serde_json::to_string(&codec).unwrap()).unwrap(), codec);
        }
    }

    #[test]
    fn metadata_and_codec_are_each_others_inverse() {
        let read = |codecs: Vec<Value>| -> Vec<MetadataV3> {
            codecs.into_iter().map(|codec| serde_json::from_value(codec).unwrap()).collect()
        };
        for text in ["none", "zstd:3", "gzip:0", "blosc:lz4:5", "blosc:zstd:9"] {
            let codec: Codec = text.parse().unwrap();
            for dtype in [Dtype::U8, Dtype::I16, Dtype::F64] {
                let metadata = codec.metadata(dtype);
                assert_eq!(Codec::of(&read(metadata.clone()), dtype), Some(codec), "{text} {dtype}");
                // Another byte order, another type's shuffle, a checksum more, a setting more.
                let mut other = metadata.clone();
                other[0]["configuration"]["endian"] = json!("big");
                assert_eq!(Codec::of(&read(other), dtype).is_some(), dtype == Dtype::U8);
                let mut more = metadata.clone();
                more.push(json!({"name": "crc32c"}));
                assert_eq!(Codec::of(&read(more), dtype), None);
                if let Some(packer) = metadata.get(1) {
                    let mut other = vec![metadata[0].clone(), packer.clone()];
                    other[1]["configuration"]["checksum"] = json!(true);
                    assert_eq!(Codec::of(&read(other), dtype), None);
                }
            }
        }
        let with = |name: &str, configuration: Value| {
            let packer = json!({"name": name, "configuration": configuration});
            Codec::of(&read(vec![json!({"name": "bytes"}), packer]), Dtype::U8)
        };
        // What others write, too.
        assert_eq!(with("zstd", json!({"level": 0, "checksum": false})), "zstd:3".parse().ok());
        assert_eq!(with("zstd", json!({"level": 0, "checksum": true})), None);
        assert_eq!(with("zstd", json!({"level": 23, "checksum": false})), None);
        assert_eq!(with("zstd", json!({"level": -5, "checksum": false})), None);
        assert_eq!(with("gzip", json!({"level": 12})), None);
        let shuffled = "blosc".parse::<Codec>().unwrap().metadata(Dtype::U16);
        assert_eq!(Codec::of(&read(shuffled), Dtype::U32), None);
    }

    #[test]
    fn wrong_codecs_are_told_what_is_wrong() {
        for (text, message) in [
            ("", r#""" is no codec: "" is unknown"#),
            ("lzma", r#""lzma" is no codec: "lzma" is unknown"#),
            ("zstd:0", r#""zstd:0" is no codec: the level of zstd is 1 to 22, not "0""#),
            ("gzip:ten", r#""gzip:ten" is no codec: the level of gzip is 0 to 9, not "ten""#),
            ("none:1", r#""none:1" is no codec: "1" is one word too many"#),
            (
                "blosc:snappy",
                r#""blosc:snappy" is no codec: the compressors of blosc are lz4, lz4hc, blosclz, zstd, zlib"#,
            ),
        ] {
            assert_eq!(text.parse::<Codec>().unwrap_err().message, message);
        }
    }
}
