#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use proptest::prelude::*;
use serde::Deserialize;
use serde_json::{Value, json};
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype, with_volume};

use super::*;
use crate::{Error, Kind, Result};

/// An array as zarr-python wrote it and read it back; `tests/zarr_python.py` makes them.
#[derive(Deserialize)]
struct Written {
    name: String,
    pick: Pick,
    dtype: Dtype,
    shape: Vec<usize>,
    /// Little-endian, C order, in hexadecimal.
    voxels: String,
    documents: BTreeMap<String, Value>,
    chunks: BTreeMap<String, String>,
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn scratch() -> (tempfile::TempDir, Store) {
    let dir = tempfile::tempdir().unwrap();
    let store = Store::open(dir.path().to_str().unwrap()).unwrap();
    (dir, store)
}

async fn put(store: &Store, key: &str, value: &Value) {
    store.put(key, value.to_string().into()).await.unwrap();
}

async fn open(store: &Store) -> Result<Array> {
    Array::open_in(store, &Pick::default()).await
}

async fn read(array: &Array, region: Region) -> Result<AnyVolume> {
    array.fetch(&ChunkCache::new(1 << 20), region).await?.decode()
}

/// The slow, obvious twin of a read: the whole image, cut.
fn cut(whole: &AnyVolume, region: Region) -> AnyVolume {
    fn voxel_by_voxel<T: Element>(whole: &Volume<T>, region: Region) -> Volume<T> {
        let mut data = Vec::new();
        for z in region.start[0]..region.end[0] {
            for y in region.start[1]..region.end[1] {
                for x in region.start[2]..region.end[2] {
                    data.push(whole.data[whole.offset([z, y, x])]);
                }
            }
        }
        Volume::new(region, data)
    }
    with_volume!(whole, v => voxel_by_voxel(v, region).into())
}

/// Voxels with all bits in use and some runs of zero.
fn voxels(dtype: Dtype, region: Region) -> AnyVolume {
    fn of<T: Element>(region: Region) -> Volume<T> {
        let bits = |i: u64| if i % 23 < 5 { 0 } else { i.wrapping_mul(0x0123_4567_89AB_CDEF) };
        let bytes: Vec<u8> =
            (0..region.voxels() as u64).flat_map(|i| bits(i).to_le_bytes()[..T::DTYPE.size()].to_vec()).collect();
        Volume::new(region, T::from_ne(bytes.into()))
    }
    with_dtype!(dtype, T => of::<T>(region).into())
}

fn spec(dtype: Dtype, shape: [usize; 3], chunks: [usize; 3], shards: Option<[usize; 3]>, codec: &str) -> ArraySpec {
    ArraySpec {
        extent: Extent { shape, planar: false },
        dtype,
        chunks,
        shards,
        codec: codec.parse().unwrap(),
        dimension_names: ["z", "y", "x"].map(str::to_owned).to_vec(),
        ome: OmeVersion::V05,
    }
}

#[tokio::test]
async fn what_zarr_python_writes_is_read() {
    let cases: Vec<Written> = serde_json::from_str(include_str!("../../tests/zarr_python.json")).unwrap();
    assert!(cases.len() > 110);
    for case in cases {
        let (_dir, store) = scratch();
        for (key, document) in &case.documents {
            put(&store, key, document).await;
        }
        for (key, chunk) in &case.chunks {
            store.put(key, unhex(chunk).into()).await.unwrap();
        }
        let array = Array::open_in(&store, &case.pick).await.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        let extent = array.extent();
        assert_eq!(array.dtype(), case.dtype, "{}", case.name);
        assert_eq!(extent.axes().map(|a| extent.shape[a]).collect::<Vec<_>>(), case.shape, "{}", case.name);
        let whole = read(&array, extent.region()).await.unwrap_or_else(|e| panic!("{}: {e}", case.name));
        assert_eq!(whole.to_le_bytes(), unhex(&case.voxels), "{}", case.name);
        let part = Region { start: extent.shape.map(|n| n / 3), end: extent.shape.map(|n| n - n / 4) };
        assert_eq!(read(&array, part).await.unwrap().to_le_bytes(), cut(&whole, part).to_le_bytes(), "{}", case.name);
    }
}

#[tokio::test]
async fn every_dtype_comes_back_as_written() {
    for dtype in Dtype::ALL {
        for codec in ["none", "zstd:1", "gzip:1", "blosc:lz4:5", "blosc:zstd:1"] {
            for shards in [None, Some([4, 8, 8])] {
                let (_dir, store) = scratch();
                let spec = spec(dtype, [5, 9, 7], [2, 4, 4], shards, codec);
                let image = voxels(dtype, spec.extent.region());
                write_whole(&store, &spec, &image).await.unwrap();
                let array = open(&store).await.unwrap();
                let back = read(&array, spec.extent.region()).await.unwrap();
                assert_eq!(back.to_le_bytes(), image.to_le_bytes(), "{dtype} {codec} {shards:?}");
                assert_eq!(array.dtype(), if dtype == Dtype::Bool { Dtype::U8 } else { dtype });
                assert_eq!((array.chunk(), array.shard().is_some()), ([2, 4, 4], shards.is_some()));
            }
        }
    }
}

#[tokio::test]
async fn a_plane_is_stored_with_two_axes() {
    let (_dir, store) = scratch();
    let mut spec = spec(Dtype::U16, [1, 9, 7], [1, 4, 4], Some([1, 8, 4]), "zstd");
    spec.extent.planar = true;
    spec.dimension_names = vec!["y".into(), "x".into()];
    let image = voxels(Dtype::U16, spec.extent.region());
    write_whole(&store, &spec, &image).await.unwrap();
    assert_eq!(spec.key([0, 1, 1]), "c/1/1");
    assert!(store.exists("c/1/1").await.unwrap());
    let array = open(&store).await.unwrap();
    assert_eq!(
        (array.extent(), array.stored_shape(), array.axes()),
        (spec.extent, &[9, 7][..], &spec.dimension_names[..])
    );
    assert_eq!(
        read(&array, Region::new([0, 2, 3], [1, 5, 4])).await.unwrap(),
        cut(&image, Region::new([0, 2, 3], [1, 5, 4]))
    );
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn any_box_of_any_layout_equals_the_same_box_of_the_whole(
        shape in [1usize..9, 1..12, 1..14],
        chunks in [1usize..5, 1..6, 1..16],
        per_shard in proptest::option::of([1usize..4, 1..3, 1..3]),
        codec in prop_oneof![Just("none"), Just("zstd:1"), Just("blosc")],
        from in [0.0f64..1.0, 0.0..1.0, 0.0..1.0],
        to in [0.0f64..1.0, 0.0..1.0, 0.0..1.0],
    ) {
        let shards = per_shard.map(|n| std::array::from_fn(|a| n[a] * chunks[a]));
        let spec = spec(Dtype::I16, shape, chunks, shards, codec);
        let start: [usize; 3] = std::array::from_fn(|a| (from[a] * shape[a] as f64) as usize);
        let end = std::array::from_fn(|a| start[a] + 1 + (to[a] * (shape[a] - start[a] - 1) as f64).round() as usize);
        let region = Region { start, end };
        let image = voxels(Dtype::I16, spec.extent.region());
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let (_dir, store) = scratch();
            write_whole(&store, &spec, &image).await.unwrap();
            let array = open(&store).await.unwrap();
            assert_eq!(read(&array, region).await.unwrap(), cut(&image, region));
        });
    }

    #[test]
    fn objects_cover_the_image_once(
        shape in [1usize..9, 1..12, 1..14],
        chunks in [1usize..5, 1..6, 1..16],
    ) {
        let spec = spec(Dtype::U8, shape, chunks, None, "none");
        let mut seen = vec![0; spec.extent.region().voxels()];
        for index in spec.objects_in(spec.extent.region()) {
            let region = spec.object_region(index);
            prop_assert_eq!(spec.objects_in(region).collect::<Vec<_>>(), [index]);
            for z in region.start[0]..region.end[0] {
                for y in region.start[1]..region.end[1] {
                    for x in region.start[2]..region.end[2] {
                        seen[spec.extent.linear([z, y, x]) as usize] += 1;
                    }
                }
            }
        }
        prop_assert!(seen.iter().all(|n| *n == 1));
        prop_assert_eq!(spec.objects_in(spec.extent.region()).count(), spec.grid().iter().product::<usize>());
    }
}

#[test]
fn the_same_voxels_give_the_same_object_from_any_volume_around_it() {
    let spec = spec(Dtype::F32, [9, 10, 11], [2, 3, 4], Some([4, 6, 8]), "zstd");
    let whole = voxels(Dtype::F32, spec.extent.region());
    for index in spec.objects_in(spec.extent.region()) {
        let alone = spec.encode_object(&whole.cropped(spec.object_region(index)), index).unwrap();
        assert_eq!(alone, spec.encode_object(&whole, index).unwrap());
    }
    let zeros = Volume::<f32>::zeros(spec.extent.region()).into();
    assert_eq!(spec.encode_object(&zeros, [0, 0, 0]).unwrap().len(), 8 * 16 + 4, "an empty shard is its index");
    let negative_zero = Volume::new(spec.extent.region(), vec![-0.0f32; 990]).into();
    assert!(spec.encode_object(&negative_zero, [0, 0, 0]).unwrap().len() > 132, "-0.0 is not the fill value");
    let wrong = [voxels(Dtype::F64, spec.extent.region()), whole.cropped(Region::whole([3, 3, 3]))];
    for wrong in wrong {
        assert_eq!(spec.encode_object(&wrong, [0, 0, 0]).unwrap_err().kind, Kind::Internal);
    }
}

#[test]
fn specs_that_do_not_fit_together_are_refused() {
    let good = spec(Dtype::U8, [4, 4, 4], [2, 2, 2], None, "none");
    good.check().unwrap();
    for (bad, message) in [
        (ArraySpec { chunks: [0, 1, 1], ..good.clone() }, "chunks of [0, 1, 1] voxels can't be written"),
        (
            ArraySpec { shards: Some([4, 4, 3]), ..good.clone() },
            "shards of [4, 4, 3] voxels are not whole chunks of [2, 2, 2]",
        ),
        (ArraySpec { dimension_names: vec!["x".into()], ..good.clone() }, r#"an array of 3 axes can't be named ["x"]"#),
    ] {
        assert_eq!(bad.check().unwrap_err().message, message);
    }
}

/// A sharded 8x8x8 array of two shards along z, its store, and the key of its first shard.
async fn two_shards(codec: &str) -> (tempfile::TempDir, Store, Array, AnyVolume) {
    let (dir, store) = scratch();
    let spec = spec(Dtype::U16, [8, 4, 8], [2, 4, 4], Some([4, 4, 8]), codec);
    let image = with_volume!(voxels(Dtype::U16, spec.extent.region()), v => {
        Volume::new(v.region, v.data.iter().map(|v| u16::from_f64(Element::to_f64(*v)).max(1)).collect()).into()
    });
    write_whole(&store, &spec, &image).await.unwrap();
    let array = open(&store).await.unwrap();
    (dir, store, array, image)
}

async fn rewrite(store: &Store, key: &str, change: impl FnOnce(&mut Vec<u8>)) {
    let mut bytes = store.get(key).await.unwrap().unwrap().bytes.to_vec();
    change(&mut bytes);
    store.put(key, bytes.into()).await.unwrap();
}

async fn failure_of(array: &Array) -> Error {
    read(array, array.extent().region()).await.unwrap_err()
}

#[tokio::test]
async fn damaged_shards_name_the_chunk() {
    let (_dir, store, array, image) = two_shards("zstd").await;
    let url = array.url();
    let size = store.get("c/1/0/0").await.unwrap().unwrap().size;

    rewrite(&store, "c/1/0/0", |bytes| *bytes.last_mut().unwrap() ^= 1).await;
    let error = failure_of(&array).await;
    assert_eq!(
        (error.kind, error.message),
        (Kind::Data, format!("the shard index of {url} (key c/1/0/0) can't be decoded: the checksum is invalid"))
    );
    rewrite(&store, "c/1/0/0", |bytes| *bytes.last_mut().unwrap() ^= 1).await;

    rewrite(&store, "c/1/0/0", |bytes| bytes[0] ^= 0xff).await;
    let error = failure_of(&array).await;
    assert_eq!(
        (error.kind, error.message),
        (
            Kind::Data,
            format!("chunk [2, 0, 0] of {url} (key c/1/0/0) can't be decoded: zstd: Unknown frame descriptor")
        )
    );
    rewrite(&store, "c/1/0/0", |bytes| bytes[0] ^= 0xff).await;

    // The index at the end stays whole, and points beyond what is left.
    rewrite(&store, "c/1/0/0", |bytes| drop(bytes.drain(..size as usize - 70))).await;
    let error = failure_of(&array).await;
    assert_eq!(error.kind, Kind::Data);
    let begins = format!("chunk [2, 0, 0] of {url} (key c/1/0/0) can't be decoded: the shard has 70 bytes, the chunk ");
    assert!(error.message.starts_with(&begins), "{}", error.message);

    rewrite(&store, "c/1/0/0", |bytes| bytes.truncate(10)).await;
    assert_eq!(
        failure_of(&array).await.message,
        format!("the shard index of {url} (key c/1/0/0) can't be decoded: the shard has 10 bytes, its index 68")
    );
    store.put("c/1/0/0", Vec::new().into()).await.unwrap();
    assert_eq!(failure_of(&array).await.kind, Kind::Data);

    let sound = Region::whole([4, 4, 8]);
    assert_eq!(read(&array, sound).await.unwrap(), cut(&image, sound), "the other shard is not affected");
}

#[tokio::test]
async fn damaged_chunks_never_decode_and_never_panic() {
    for codec in ["none", "zstd", "gzip", "blosc:lz4:5", "blosc:zstd:5"] {
        let (_dir, store) = scratch();
        let spec = spec(Dtype::U32, [4, 4, 4], [4, 4, 4], None, codec);
        let image = voxels(Dtype::U32, spec.extent.region());
        write_whole(&store, &spec, &image).await.unwrap();
        let array = open(&store).await.unwrap();
        let whole = store.get("c/0/0/0").await.unwrap().unwrap().bytes;
        for len in 0..whole.len() {
            store.put("c/0/0/0", whole.slice(..len)).await.unwrap();
            let error = failure_of(&array).await;
            let begins = format!("chunk [0, 0, 0] of {} (key c/0/0/0) can't be decoded: ", array.url());
            assert!(error.kind == Kind::Data && error.message.starts_with(&begins), "{codec} {len}: {error}");
        }
        for at in 0..whole.len().min(40) {
            for bit in 0..8 {
                let mut bytes = whole.to_vec();
                bytes[at] ^= 1 << bit;
                store.put("c/0/0/0", bytes.into()).await.unwrap();
                // Without a checksum other voxels may come out; anything else must be an error about the data.
                if let Err(error) = read(&array, array.extent().region()).await {
                    assert_eq!(error.kind, Kind::Data, "{codec} {at} {bit}: {error}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_frame_that_promises_terabytes_is_refused_unopened() {
    let (_dir, store) = scratch();
    let spec = spec(Dtype::U8, [4, 4, 4], [4, 4, 4], None, "zstd");
    write_whole(&store, &spec, &voxels(Dtype::U8, spec.extent.region())).await.unwrap();
    // A zstd frame header with a content size of 2^60 bytes, then one raw block.
    let mut frame = vec![0x28, 0xb5, 0x2f, 0xfd, 0xe0];
    frame.extend((1u64 << 60).to_le_bytes());
    frame.extend([1, 0, 0]);
    store.put("c/0/0/0", frame.into()).await.unwrap();
    assert_eq!(failure_of(&open(&store).await.unwrap()).await.kind, Kind::Data);
}

#[tokio::test]
async fn missing_chunks_are_counted_and_failed_reads_are_not() {
    let (dir, store, array, image) = two_shards("none").await;
    store.delete("c/1/0/0").await.unwrap();
    let cache = ChunkCache::new(1 << 20);
    let fetched = array.fetch(&cache, array.extent().region()).await.unwrap();
    assert_eq!((fetched.missing, fetched.chunks), (4, 8));
    assert_eq!(fetched.versions().iter().map(|(key, _)| key.as_str()).collect::<Vec<_>>(), ["c/0/0/0"]);
    let seen = fetched.decode().unwrap();
    let (upper, lower) = (Region::whole([4, 4, 8]), Region::new([4, 0, 0], [4, 4, 8]));
    assert_eq!(seen.cropped(upper), cut(&image, upper));
    assert_eq!(seen.cropped(lower), Volume::<u16>::zeros(lower).into());

    // A link to itself can't be read by anyone, which a denied file can by a privileged test run.
    std::os::unix::fs::symlink("0", dir.path().join("c/1/0/0")).unwrap();
    let error = failure_of(&array).await;
    assert_eq!(error.kind, Kind::Unavailable);
    assert!(error.message.starts_with(&format!("can't read {}", store.display("c/1/0/0"))), "{error}");
}

#[tokio::test]
async fn chunks_are_fetched_and_decoded_once() {
    let (_dir, store, array, image) = two_shards("zstd").await;
    let cache = ChunkCache::new(1 << 20);
    let region = Region::new([1, 0, 1], [2, 3, 5]);
    let before = store.requests().gets;
    let first = array.fetch(&cache, region).await.unwrap();
    assert_eq!(store.requests().gets - before, 2, "an index, and four chunks side by side");
    let second = array.fetch(&cache, region).await.unwrap();
    assert_eq!(store.requests().gets - before, 2);
    assert_eq!(first.versions(), second.versions());
    let (first, second) = std::thread::scope(|scope| {
        let first = scope.spawn(|| first.decode());
        let second = scope.spawn(|| second.decode());
        (first.join().unwrap().unwrap(), second.join().unwrap().unwrap())
    });
    assert_eq!((&first, &second), (&cut(&image, region), &cut(&image, region)));
    assert_eq!(cache.bytes(), 4 * 2 * 4 * 4 * 2 + 4 * 16, "four decoded chunks and an index");

    let none = ChunkCache::new(0);
    assert_eq!(array.fetch(&none, region).await.unwrap().decode().unwrap(), first);
    assert_eq!(none.bytes(), 0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn fetches_of_the_same_chunks_at_the_same_time_share_them() {
    let (_dir, store, array, image) = two_shards("zstd").await;
    let region = array.extent().region();
    let before = store.requests().bytes_in;
    array.fetch(&ChunkCache::new(1 << 20), region).await.unwrap();
    let once = store.requests().bytes_in - before;
    let cache = ChunkCache::new(1 << 20);
    let tasks: Vec<_> = (0..8)
        .map(|_| {
            let (array, cache) = (array.clone(), cache.clone());
            tokio::spawn(async move { array.fetch(&cache, region).await.unwrap().decode().unwrap() })
        })
        .collect();
    for task in tasks {
        assert_eq!(task.await.unwrap(), image);
    }
    // In how many requests depends on who was first at which chunk.
    assert_eq!(store.requests().bytes_in - before, 2 * once, "each index and each chunk is read once");
}

#[tokio::test]
async fn a_chunk_that_was_damaged_is_read_anew() {
    let (_dir, store, array, image) = two_shards("zstd").await;
    let cache = ChunkCache::new(1 << 20);
    let region = Region::whole([2, 4, 4]);
    rewrite(&store, "c/0/0/0", |bytes| bytes[0] ^= 0xff).await;
    assert!(array.fetch(&cache, region).await.unwrap().decode().is_err());
    rewrite(&store, "c/0/0/0", |bytes| bytes[0] ^= 0xff).await;
    assert_eq!(array.fetch(&cache, region).await.unwrap().decode().unwrap(), cut(&image, region));
}

#[tokio::test]
async fn a_shard_written_again_behind_its_index_is_read_anew() {
    let (_dir, store, array, image) = two_shards("zstd").await;
    let cache = ChunkCache::new(1 << 20);
    let (first, last) = (Region::whole([2, 4, 4]), Region::new([2, 0, 4], [2, 4, 4]));
    array.fetch(&cache, first).await.unwrap().decode().unwrap();

    // The other shard's voxels in this one's place: other chunks at other offsets.
    let other = store.get("c/1/0/0").await.unwrap().unwrap().bytes;
    store.put("c/0/0/0", other).await.unwrap();
    let fetched = array.fetch(&cache, last).await.unwrap();
    let versions = fetched.versions();
    let seen = fetched.decode().unwrap();
    assert_eq!(seen.to_le_bytes(), cut(&image, last.shifted([4, 0, 0])).to_le_bytes());
    assert_eq!(versions, [("c/0/0/0".to_owned(), store.get("c/0/0/0").await.unwrap().unwrap().version)]);
}

#[tokio::test]
async fn a_region_outside_the_image_is_our_mistake() {
    let (_dir, _store, array, _) = two_shards("none").await;
    for region in [Region::whole([9, 1, 1]), Region::whole([0, 1, 1])] {
        assert_eq!(read(&array, region).await.unwrap_err().kind, Kind::Internal);
    }
}

mod codecs;
mod opening;
mod writing;
