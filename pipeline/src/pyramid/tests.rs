#![allow(clippy::unwrap_used)]

use super::*;
use crate::array::{OmeVersion, Pick};
use voxel::{Volume, with_dtype};

fn micrometers(scale: [f64; 3]) -> Geometry {
    Geometry::spaced(false, scale, [0.0; 3], ["micrometer"; 3].map(|unit| Some(unit.to_owned())))
}

fn shapes(shape: [usize; 3], scale: [f64; 3], wish: Levels) -> Vec<[usize; 3]> {
    let levels = levels(Extent { shape, planar: false }, &micrometers(scale), Reduce::Mean, wish);
    levels.iter().map(|level| level.extent.shape).collect()
}

#[test]
fn levels_end_where_a_viewer_takes_the_image_whole() {
    assert_eq!(shapes([256; 3], [1.0; 3], Levels::Auto), [[256; 3]]);
    assert_eq!(shapes([257, 5, 1], [1.0; 3], Levels::Auto), [[257, 5, 1], [129, 3, 1]]);
    assert_eq!(shapes([1000, 1000, 700], [1.0; 3], Levels::Auto).last(), Some(&[250, 250, 175]));
    assert_eq!(shapes([1000; 3], [1.0; 3], Levels::NONE), [[1000; 3]]);
    assert_eq!(shapes([5, 3, 1], [1.0; 3], Levels::Count(9)), [[5, 3, 1], [3, 2, 1], [2, 1, 1], [1, 1, 1]]);
    assert_eq!(shapes([50; 3], [1.0; 3], Levels::Count(2)), [[50; 3], [25; 3]]);
}

#[test]
fn voxels_become_cubic_and_stay_so() {
    // Planes four times as far apart as pixels: two steps in the plane, then all axes.
    let shape = [64, 2048, 2048];
    let expected = [[64, 2048, 2048], [64, 1024, 1024], [64, 512, 512], [32, 256, 256]];
    assert_eq!(shapes(shape, [4.0, 1.0, 1.0], Levels::Auto), expected);
    // Less than twice as far is near enough.
    assert_eq!(shapes(shape, [1.9, 1.0, 1.0], Levels::Auto)[1], [32, 1024, 1024]);
    // A short axis of small voxels does not keep the long one from being halved.
    assert_eq!(shapes([1000, 90, 90], [9.0, 1.0, 1.0], Levels::Auto), [[1000, 90, 90], [500, 45, 45], [250, 23, 23]]);
    // An axis of one voxel neither shrinks nor counts.
    assert_eq!(shapes([1, 600, 600], [0.1, 1.0, 1.0], Levels::Auto), [[1, 600, 600], [1, 300, 300], [1, 150, 150]]);
}

#[test]
fn levels_lie_where_their_voxels_are() {
    let extent = Extent { shape: [8, 600, 600], planar: false };
    let levels = levels(extent, &micrometers([2.0, 1.0, 0.5]), Reduce::Mean, Levels::Count(3));
    let of = |level: &Level| (level.step, level.factors, level.geometry.scale(), level.geometry.translation());
    assert_eq!(of(&levels[1]), ([1, 1, 2], [1, 1, 2], [2.0, 1.0, 1.0], [0.0, 0.0, 0.25]));
    assert_eq!(of(&levels[2]), ([1, 2, 2], [1, 2, 4], [2.0, 2.0, 2.0], [0.0, 0.5, 0.75]));
}

#[test]
fn a_level_is_stored_like_the_image() {
    let spec = ArraySpec { chunks: [16, 128, 128], shards: Some([32, 256, 384]), ..spec([64, 300, 300], Dtype::U8) };
    let level = |shape| {
        let level = level_spec(&spec, Extent { shape, planar: false });
        level.check().unwrap();
        (level.chunks, level.shards.unwrap())
    };
    assert_eq!(level([32, 150, 150]), ([16, 128, 128], [32, 256, 256]));
    assert_eq!(level([9, 90, 300]), ([9, 90, 128], [9, 90, 384]));
}

fn spec(shape: [usize; 3], dtype: Dtype) -> ArraySpec {
    ArraySpec {
        extent: Extent { shape, planar: false },
        dtype,
        chunks: [4, 5, 6],
        shards: None,
        codec: "zstd:1".parse().unwrap(),
        dimension_names: ["c", "z", "y", "x"].map(str::to_owned).to_vec(),
        ome: OmeVersion::V05,
    }
}

fn image(dtype: Dtype, region: Region) -> AnyVolume {
    with_dtype!(dtype, T => {
        let of = |i: u64| <T as voxel::Element>::from_f64((i.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 52) as f64 / 16.0);
        AnyVolume::from(Volume::<T>::new(region, (0..region.voxels() as u64).map(of).collect()))
    })
}

/// Objects made one by one, in parts, from chunks that don't fit them, against the whole image shrunk at once.
#[tokio::test(flavor = "multi_thread")]
async fn objects_are_those_of_the_whole_image_shrunk() {
    let folder = tempfile::tempdir().unwrap();
    let mut number = 0;
    for (dtype, by) in [(Dtype::U16, Reduce::Mean), (Dtype::F32, Reduce::Mean), (Dtype::U32, Reduce::Stride)] {
        for ome in [OmeVersion::V04, OmeVersion::V05] {
            number += 1;
            let store = Store::open(folder.path().join(number.to_string()).to_str().unwrap()).unwrap();
            let finer = ArraySpec { ome, ..spec([13, 31, 29], dtype) };
            let voxels = image(dtype, finer.extent.region());
            for index in finer.objects_in(finer.extent.region()) {
                let bytes = finer.encode_object(&voxels, index).unwrap();
                store.put(&format!("0/{}", finer.key(index)), bytes).await.unwrap();
            }
            let halving = Halving { factors: [1, 2, 2], by };
            let coarser = ArraySpec { chunks: [3, 7, 4], ..level_spec(&finer, halving.coarser(finer.extent)) };
            let shards = (ome == OmeVersion::V05).then_some([6, 14, 8]);
            let coarser = ArraySpec { shards, ..coarser };
            // The finer level has no metadata yet.
            let array = Array::unpublished(&store.child("0").unwrap(), &finer).unwrap();
            let shrink = Shrink { finer: array, halving, spec: coarser.clone() };
            let cache = ChunkCache::new(1 << 20);
            for index in coarser.objects_in(coarser.extent.region()) {
                let written = shrink.write_object(&cache, &store, "1", index).await.unwrap();
                let stored = store.get(&written.key).await.unwrap().unwrap().bytes;
                assert_eq!((written.bytes, written.crc32c), (stored.len() as u64, crc32c::crc32c(&stored)));
            }
            coarser.publish(&store.child("1").unwrap()).await.unwrap();
            let level = Array::open_in(&store.child("1").unwrap(), &Pick::default()).await.unwrap();
            assert_eq!(level.stored_shape()[0], 1, "the channel axis is put back");
            let whole = coarser.extent.region();
            let read = level.fetch(&cache, whole).await.unwrap().decode().unwrap();
            assert_eq!(read, halving.apply(voxels, whole, finer.extent), "{dtype} {by:?} {ome}");
        }
    }
}

#[test]
fn parts_cover_a_box_once() {
    let whole = Region::new([3, 4, 5], [7, 8, 9]);
    let all: Vec<Region> = parts(whole, [2, 8, 4]).collect();
    assert_eq!(all.len(), 4 * 3);
    assert_eq!(all.iter().map(Region::voxels).sum::<usize>(), whole.voxels());
    assert!(all.iter().all(|part| whole.contains(part)));
}

#[test]
fn an_image_of_large_chunks_is_made_in_parts() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path().to_str().unwrap()).unwrap();
    let of = |chunks, shards| {
        let finer = ArraySpec { chunks, shards, ..spec([2048; 3], Dtype::F32) };
        let halving = Halving { factors: [2; 3], by: Reduce::Mean };
        let spec = level_spec(&finer, halving.coarser(finer.extent));
        Shrink { finer: Array::unpublished(&store, &finer).unwrap(), halving, spec }
    };
    let usual = of([128; 3], Some([256; 3]));
    assert_eq!(usual.part(), [64, 64, 256]);
    // 64 MiB of voxels, the same packed, and little more.
    assert!(usual.object_bytes() < 240 << 20, "{}", usual.object_bytes());
    let planes = of([1, 2048, 2048], None);
    assert_eq!(planes.part(), [1, 1024, 1024]);
}
