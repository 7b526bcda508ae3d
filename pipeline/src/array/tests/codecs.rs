//! Every codec, and what lies in wait behind one: bombs, absurd sizes, types that are no image.

use std::borrow::Cow;
use std::num::NonZeroU64;

use zarrs::array::codec::api::{ArrayToBytesCodecTraits, CodecOptions};
use zarrs::array::{ArrayBytes, CodecChain, DataType};
use zarrs::metadata::v3::MetadataV3;

use super::*;

/// The document of a v3 array of one chunk, or with chunks of `chunks`.
fn document(dtype: &str, shape: [usize; 3], chunks: [usize; 3], codecs: &Value) -> Value {
    json!({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": dtype,
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": chunks}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": codecs,
    })
}

/// One chunk as the library encodes it.
fn encoded(dtype: Dtype, shape: [usize; 3], codecs: &Value, bytes: Vec<u8>) -> Vec<u8> {
    let codecs: Vec<MetadataV3> = serde_json::from_value(codecs.clone()).unwrap();
    let chain = CodecChain::from_metadata(&codecs).unwrap();
    let data_type = DataType::from_metadata(&MetadataV3::new(dtype.name())).unwrap();
    let fill = data_type.fill_value_v3(&serde_json::from_value(json!(0)).unwrap()).unwrap();
    let shape: Vec<NonZeroU64> = shape.iter().map(|n| NonZeroU64::new(*n as u64).unwrap()).collect();
    let bytes = ArrayBytes::Fixed(Cow::Owned(bytes));
    chain.encode(bytes, &shape, &data_type, &fill, &CodecOptions::default()).unwrap().into_owned()
}

/// An image's bytes in the order of this machine.
fn native(image: &AnyVolume) -> Vec<u8> {
    let mut bytes = image.to_le_bytes();
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(image.dtype().size()).for_each(<[u8]>::reverse);
    }
    bytes
}

fn sharding(chunk: [usize; 3], inner: &Value) -> Value {
    json!([{"name": "sharding_indexed", "configuration": {
        "chunk_shape": chunk, "codecs": inner, "index_location": "end",
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    }}])
}

fn with(codec: Value) -> Value {
    json!([{"name": "bytes", "configuration": {"endian": "big"}}, codec])
}

fn every_codec() -> Vec<Value> {
    vec![
        with(json!({"name": "gzip", "configuration": {"level": 5}})),
        with(json!({"name": "zstd", "configuration": {"level": 5, "checksum": true}})),
        with(json!({"name": "numcodecs.zlib", "configuration": {"level": 5}})),
        with(json!({"name": "numcodecs.bz2", "configuration": {"level": 5}})),
        with(json!({"name": "crc32c"})),
        with(json!({"name": "numcodecs.adler32"})),
        with(json!({"name": "numcodecs.fletcher32"})),
        with(json!({"name": "numcodecs.shuffle", "configuration": {"elementsize": 2}})),
        with(json!({"name": "blosc", "configuration":
            {"cname": "lz4", "clevel": 5, "shuffle": "shuffle", "typesize": 4, "blocksize": 0}})),
        with(json!({"name": "blosc", "configuration":
            {"cname": "zlib", "clevel": 5, "shuffle": "bitshuffle", "typesize": 4, "blocksize": 0}})),
    ]
}

#[tokio::test]
async fn every_codec_is_read_alone_and_inside_shards() {
    let shape = [3, 5, 8];
    for dtype in [Dtype::U16, Dtype::I32, Dtype::F32, Dtype::U64, Dtype::F64] {
        let image = voxels(dtype, Region::whole(shape));
        let mut chains = every_codec();
        chains.push(json!([{"name": "numcodecs.pcodec", "configuration": {}}]));
        chains.push(json!([
            {"name": "transpose", "configuration": {"order": [2, 0, 1]}},
            {"name": "numcodecs.pcodec", "configuration": {"level": 3}}, {"name": "crc32c"},
        ]));
        if matches!(dtype, Dtype::F32 | Dtype::F64) {
            chains.push(json!([{"name": "bitround", "configuration": {"keepbits": 52}},
                {"name": "bytes", "configuration": {"endian": "little"}}]));
        }
        for inner in chains {
            for codecs in [
                inner.clone(),
                sharding([1, 5, 4], &inner),
                json!([sharding([1, 5, 4], &inner)[0], {"name": "zstd", "configuration": {"level": 1, "checksum": false}}]),
                sharding([3, 5, 4], &sharding([1, 5, 2], &inner)),
            ] {
                // Rounding to 52 bits changes nothing below 64.
                if dtype == Dtype::F32 && codecs.to_string().contains("bitround") {
                    continue;
                }
                let (_dir, store) = scratch();
                put(&store, "zarr.json", &document(dtype.name(), shape, shape, &codecs)).await;
                let chunk = encoded(dtype, shape, &codecs, native(&image));
                store.put("c/0/0/0", chunk.into()).await.unwrap();
                let array = open(&store).await.unwrap_or_else(|e| panic!("{codecs}: {e}"));
                let back = read(&array, Region::whole(shape)).await.unwrap_or_else(|e| panic!("{codecs}: {e}"));
                assert_eq!(back.to_le_bytes(), image.to_le_bytes(), "{dtype} {codecs}");
            }
        }
    }
}

#[tokio::test]
async fn short_names_of_codecs_are_known_too() {
    let shape = [2, 2, 2];
    let image = voxels(Dtype::U16, Region::whole(shape));
    for (long, short) in [("numcodecs.zlib", "zlib"), ("numcodecs.bz2", "bz2"), ("gzip", "numcodecs.gzip")] {
        let codecs = |name: &str| with(json!({"name": name, "configuration": {"level": 1}}));
        let (_dir, store) = scratch();
        put(&store, "zarr.json", &document("uint16", shape, shape, &codecs(short))).await;
        store.put("c/0/0/0", encoded(Dtype::U16, shape, &codecs(long), native(&image)).into()).await.unwrap();
        assert_eq!(read(&open(&store).await.unwrap(), Region::whole(shape)).await.unwrap(), image);
    }
}

#[tokio::test]
async fn a_chunk_that_unpacks_to_far_more_than_it_holds_is_refused() {
    let (small, large) = ([4, 4, 4], [128, 256, 256]);
    let zeros = vec![0; large.iter().product::<usize>() * 2];
    let mut chains = every_codec();
    chains
        .retain(|chain| !["crc32c", "adler32", "fletcher32", "shuffle"].iter().any(|c| chain.to_string().contains(c)));
    chains.push(json!([{"name": "numcodecs.pcodec", "configuration": {}}]));
    for inner in chains {
        let bomb = encoded(Dtype::U16, large, &inner, zeros.clone());
        let (_dir, store) = scratch();
        put(&store, "zarr.json", &document("uint16", small, small, &inner)).await;
        store.put("c/0/0/0", bomb.clone().into()).await.unwrap();
        let error = failure_of(&open(&store).await.unwrap()).await;
        let begins = format!("chunk [0, 0, 0] of {} (key c/0/0/0) can't be decoded: ", store.url());
        assert!(error.kind == Kind::Data && error.message.starts_with(&begins), "{inner}: {error}");

        // The same in a shard that is packed as a whole, where the library would unpack it.
        let codecs = json!([sharding(small, &inner)[0], {"name": "crc32c"}]);
        let (_dir, store) = scratch();
        put(&store, "zarr.json", &document("uint16", small, small, &codecs)).await;
        let mut shard = bomb;
        let len = shard.len() as u64;
        let index = [0u64.to_le_bytes(), len.to_le_bytes()].concat();
        shard.extend(&index);
        shard.extend(crc32c::crc32c(&index).to_le_bytes());
        shard.extend(crc32c::crc32c(&shard).to_le_bytes());
        store.put("c/0/0/0", shard.into()).await.unwrap();
        let error = failure_of(&open(&store).await.unwrap()).await;
        assert!(error.kind == Kind::Data && error.message.contains("chunk 0 of a shard in it: "), "{inner}: {error}");
    }
}

#[tokio::test]
async fn an_object_far_larger_than_a_chunk_is_not_read() {
    let (_dir, store) = scratch();
    let codecs = with(json!({"name": "zstd", "configuration": {"level": 1, "checksum": false}}));
    put(&store, "zarr.json", &document("uint16", [4; 3], [4; 3], &codecs)).await;
    store.put("c/0/0/0", vec![1; 3 << 20].into()).await.unwrap();
    let before = store.requests().bytes_in;
    let error = failure_of(&open(&store).await.unwrap()).await;
    assert_eq!(error.kind, Kind::Data);
    assert!(error.message.starts_with(&store.display("c/0/0/0")), "{error}");
    assert!(store.requests().bytes_in - before < 1 << 20);
}

#[tokio::test]
async fn absurd_documents_are_refused_before_memory_is_taken() {
    let plain = json!([{"name": "bytes"}]);
    let base = document("uint8", [4; 3], [2; 3], &plain);
    let chunks = |shape: Value| json!({"name": "regular", "configuration": {"chunk_shape": shape}});
    let huge = 1u64 << 38;
    for (changes, message) in [
        (json!({"shape": [-1, 4, 4]}), "is not the metadata of an array"),
        (json!({"shape": [4.5, 4, 4]}), "is not the metadata of an array"),
        (json!({"shape": "4"}), "is not the metadata of an array"),
        (json!({"chunk_grid": chunks(json!([1u64 << 60, 1, 1]))}), "are too large for any machine"),
        (json!({"chunk_grid": chunks(json!([u64::MAX, 2, 2]))}), "are too large for any machine"),
        (json!({"chunk_grid": chunks(json!([0, 2, 2]))}), "is not regular"),
        (json!({"chunk_grid": chunks(json!([-2, 2, 2]))}), "is not regular"),
        (json!({"chunk_grid": chunks(json!([2, 2]))}), "is not regular"),
        (
            json!({"shape": [huge, 1, 1], "chunk_grid": chunks(json!([huge, 1, 1])), "codecs": sharding([1; 3], &plain)}),
            "chunks have too large an index",
        ),
        (
            json!({"codecs": [sharding([2, 2, 2], &json!([{"name": "bytes"}, {"name": "lz5"}]))[0], {"name": "crc32c"}]}),
            r#"uses the codec "lz5", which voxmill can't read"#,
        ),
        (json!({"codecs": sharding([2, 2, 2], &json!([{"name": "lz5"}]))}), r#"uses the codec "lz5""#),
        (
            json!({"codecs": [{"name": "transpose", "configuration": {"order": [0, 0, 1]}}, {"name": "bytes"}]}),
            "can't be read: its codec transpose",
        ),
        (json!({"codecs": []}), "can't be read: its codecs"),
        (json!({"codecs": [{"name": "bytes"}, {"name": "bytes"}]}), "can't be read: its codecs"),
        (json!({"fill_value": -1}), "its fill value -1 is no uint8"),
        (json!({"chunk_key_encoding": {"name": "snake"}}), r#"its chunk keys are encoded as "snake""#),
    ] {
        let (_dir, store) = scratch();
        let mut document = base.clone();
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        put(&store, "zarr.json", &document).await;
        let error = open(&store).await.unwrap_err();
        assert!(error.kind == Kind::Invalid && error.message.contains(message), "{changes}: {error}");
    }
}

#[tokio::test]
async fn types_that_are_no_image_are_named() {
    let wanted = "; voxmill reads bool, integers of 8 to 64 bits, float32 and float64";
    for (dtype, fill) in [
        (json!("float16"), json!(0)),
        (json!("bfloat16"), json!(0)),
        (json!("complex64"), json!([0, 0])),
        (json!("string"), json!("")),
        (json!("r16"), json!([0, 0])),
        (json!({"name": "numpy.datetime64", "configuration": {"unit": "s", "scale_factor": 1}}), json!(0)),
    ] {
        let (_dir, store) = scratch();
        let mut document = document("uint8", [4; 3], [2; 3], &json!([{"name": "bytes"}]));
        document["data_type"] = dtype.clone();
        document["fill_value"] = fill;
        put(&store, "zarr.json", &document).await;
        let name = dtype.as_str().unwrap_or("numpy.datetime64");
        let error = open(&store).await.unwrap_err();
        assert_eq!((error.kind, error.message), (Kind::Invalid, format!("{} holds {name}{wanted}", store.url())));
    }
    for (dtype, fill) in [
        (json!("<f2"), json!(0)),
        (json!("<c8"), json!(0)),
        (json!("<M8[ns]"), json!(0)),
        (json!("<m8[s]"), json!(0)),
        (json!("|S5"), json!("")),
        (json!("<U4"), json!("")),
        (json!("|O"), json!("")),
        (json!("|V4"), json!("")),
        (json!([["a", "<i4"], ["b", "<f8"]]), json!(null)),
    ] {
        let (_dir, store) = scratch();
        put(
            &store,
            ".zarray",
            &json!({"zarr_format": 2, "shape": [4, 4], "chunks": [2, 2], "dtype": dtype, "compressor": null,
                "filters": null, "fill_value": fill, "order": "C"}),
        )
        .await;
        let error = open(&store).await.unwrap_err();
        assert!(error.kind == Kind::Invalid && error.message.ends_with(wanted), "{dtype}: {error}");
    }
}

#[tokio::test]
async fn filters_of_version_2_are_read_or_named() {
    for name in ["delta", "astype", "packbits", "quantize", "lzma", "my-own"] {
        let (_dir, store) = scratch();
        put(
            &store,
            ".zarray",
            &json!({"zarr_format": 2, "shape": [4, 4], "chunks": [2, 2], "dtype": "<i4", "compressor": null,
                "filters": [{"id": name, "dtype": "<i4"}], "fill_value": 0, "order": "C"}),
        )
        .await;
        let error = open(&store).await.unwrap_err();
        assert!(error.kind == Kind::Invalid && error.message.contains(name), "{name}: {error}");
    }
}

#[tokio::test]
async fn every_way_to_name_chunks_is_known() {
    for (encoding, key) in [
        (json!({"name": "default"}), "c/1/0/2"),
        (json!({"name": "default", "configuration": {"separator": "."}}), "c.1.0.2"),
        (json!({"name": "v2"}), "1.0.2"),
        (json!({"name": "v2", "configuration": {"separator": "/"}}), "1/0/2"),
        (json!({"name": "zarrs.default_suffix", "configuration": {"separator": "/", "suffix": ".bin"}}), "c/1/0/2.bin"),
    ] {
        let (_dir, store) = scratch();
        let mut document = document("uint8", [4, 2, 6], [2; 3], &json!([{"name": "bytes"}]));
        document["chunk_key_encoding"] = encoding.clone();
        put(&store, "zarr.json", &document).await;
        store.put(key, vec![9; 8].into()).await.unwrap();
        let array = open(&store).await.unwrap();
        let seen = read(&array, Region::new([2, 0, 4], [2, 2, 2])).await.unwrap();
        assert_eq!(seen.to_le_bytes(), [9; 8], "{encoding}");
    }
}
