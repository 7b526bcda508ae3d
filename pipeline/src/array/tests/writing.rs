//! What is written: both versions of OME-Zarr, axes that are put back, and groups that are given levels.

use crate::store::Stores;
use serde_json::{Value, json};
use voxel::pyramid::Reduce;

use super::*;
use crate::pyramid::{self, Levels};

fn parsed(documents: &[(&'static str, bytes::Bytes)]) -> Vec<(&'static str, Value)> {
    documents.iter().map(|(key, document)| (*key, serde_json::from_slice(document).unwrap())).collect()
}

fn named(mut spec: ArraySpec, names: &[&str], ome: OmeVersion) -> ArraySpec {
    spec.dimension_names = names.iter().map(|name| (*name).to_owned()).collect();
    ArraySpec { ome, ..spec }
}

#[tokio::test]
async fn version_2_arrays_come_back_as_written() {
    for dtype in Dtype::ALL {
        for codec in ["none", "zstd:1", "gzip:1", "blosc:lz4:5", "blosc:zstd:1"] {
            let (_dir, store) = scratch();
            let spec = named(spec(dtype, [5, 9, 7], [2, 4, 4], None, codec), &["t", "z", "y", "x"], OmeVersion::V04);
            let image = voxels(dtype, spec.extent.region());
            write_whole(&store, &spec, &image).await.unwrap();
            let array = open(&store).await.unwrap();
            assert_eq!(array.stored_shape(), [1, 5, 9, 7]);
            assert_eq!(read(&array, spec.extent.region()).await.unwrap().to_le_bytes(), image.to_le_bytes());
            assert_eq!(array.geometry().names(), spec.dimension_names);
        }
    }
}

#[test]
fn version_2_says_what_zarr_2_asks_for() {
    let spec = named(spec(Dtype::U16, [5, 9, 7], [2, 4, 4], None, "blosc"), &["c", "z", "y", "x"], OmeVersion::V04);
    assert_eq!(spec.key([1, 0, 2]), "0/1/0/2");
    let [(".zattrs", attributes), (".zarray", array)] = &parsed(&spec.metadata())[..] else {
        panic!("two documents, the array's last")
    };
    assert_eq!(attributes, &json!({"_ARRAY_DIMENSIONS": ["c", "z", "y", "x"]}));
    let expected = json!({
        "zarr_format": 2, "shape": [1, 5, 9, 7], "chunks": [1, 2, 4, 4], "dtype": "<u2", "order": "C",
        "dimension_separator": "/", "fill_value": 0, "filters": null,
        "compressor": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 2, "blocksize": 0},
    });
    assert_eq!(array, &expected);
    let sharded = ArraySpec { shards: Some([4, 8, 8]), ..spec };
    assert_eq!(sharded.check().unwrap_err().message, "OME-Zarr 0.4 has no shards");
}

#[tokio::test]
async fn axes_of_time_and_channel_are_put_back() {
    for ome in [OmeVersion::V04, OmeVersion::V05] {
        let (_dir, store) = scratch();
        let shards = (ome == OmeVersion::V05).then_some([1, 8, 8]);
        let mut spec = named(spec(Dtype::U8, [1, 9, 7], [1, 4, 4], shards, "zstd"), &["t", "c", "y", "x"], ome);
        spec.extent.planar = true;
        let image = voxels(Dtype::U8, spec.extent.region());
        write_whole(&store.child("0").unwrap(), &spec, &image).await.unwrap();
        // As an image of which time point 3 of one every 0.5 s was taken, from row 2 on.
        let space = Geometry::spaced(true, [1.0, 0.25, 0.5], [0.0; 3], [const { None }; 3]).cropped([0, 2, 0]);
        let other = |name: &str, kind, scale, translation| {
            let unit = (kind == AxisKind::Time).then(|| "second".to_owned());
            StoredAxis { name: name.to_owned(), kind, unit, scale, translation }
        };
        let others = [other("c", AxisKind::Channel, 1.0, 0.0), other("t", AxisKind::Time, 0.5, 1.5)];
        let geometry = Geometry::new(space.axes().iter().cloned().chain(others).collect());
        assert_eq!(geometry.names(), spec.dimension_names);
        let group = Group {
            name: "crop".to_owned(),
            kind: GroupKind::Labels,
            levels: vec![("0".to_owned(), geometry.clone())],
            by: Reduce::Stride,
            ours: Default::default(),
            labels_of: Some("../..".to_owned()),
            ome,
        };
        group.publish(&store).await.unwrap();
        let array = open(&store).await.unwrap();
        assert_eq!((array.extent(), array.stored_shape()), (spec.extent, &[1, 1, 9, 7][..]));
        assert_eq!(array.geometry(), &geometry);
        assert_eq!((array.scale(), array.translation()), ([1.0, 0.25, 0.5], [0.0, 0.5, 0.0]));
        assert_eq!(read(&array, spec.extent.region()).await.unwrap(), image);
    }
}

#[test]
fn both_versions_say_the_same_in_their_own_places() {
    let geometry = Geometry::unknown(false).level([2, 1, 1], Reduce::Mean);
    let group = |ome| Group {
        name: "head".to_owned(),
        kind: GroupKind::Labels,
        levels: vec![("0".to_owned(), Geometry::unknown(false)), ("1".to_owned(), geometry.clone())],
        by: Reduce::Mean,
        ours: Default::default(),
        labels_of: None,
        ome,
    };
    let [("zarr.json", new)] = &parsed(&group(OmeVersion::V05).documents())[..] else { panic!("one document") };
    let [(".zgroup", _), (".zattrs", old)] = &parsed(&group(OmeVersion::V04).documents())[..] else {
        panic!("two documents, the image's last")
    };
    let new = &new["attributes"]["ome"];
    assert_eq!((&new["version"], &old["multiscales"][0]["version"]), (&json!("0.5"), &json!("0.4")));
    assert_eq!(new["multiscales"][0]["datasets"], old["multiscales"][0]["datasets"]);
    assert_eq!(new["multiscales"][0]["axes"][0], json!({"name": "z", "type": "space"}));
    assert_eq!(new["multiscales"][0]["type"], "mean");
    let placed = json!([
        {"type": "scale", "scale": [2.0, 1.0, 1.0]},
        {"type": "translation", "translation": [0.5, 0.0, 0.0]},
    ]);
    assert_eq!(old["multiscales"][0]["datasets"][1], json!({"path": "1", "coordinateTransformations": placed}));
    assert_eq!((&new["image-label"], &old["image-label"]), (&json!({"version": "0.5"}), &json!({"version": "0.4"})));
}

/// A group of 0.4 as another program wrote it: two channels, two levels, scales said in two places, keys of its own.
async fn foreign(store: &Store) {
    for (path, shape) in [("0", [2, 6, 10, 10]), ("half", [2, 3, 5, 5])] {
        let array = json!({
            "zarr_format": 2, "shape": shape, "chunks": [1, 3, 5, 5], "dtype": "|u1", "order": "C",
            "dimension_separator": "/", "fill_value": 0, "filters": null, "compressor": null,
        });
        put(store, &format!("{path}/.zarray"), &array).await;
    }
    let level = |path: &str, scale: f64| {
        json!({"path": path, "coordinateTransformations": [
            {"type": "scale", "scale": [1.0, scale, scale, scale]},
            {"type": "translation", "translation": [0.0, 0.0, 0.0, 10.0]},
        ]})
    };
    let space = |name: &str| json!({"name": name, "type": "space", "unit": "micrometer"});
    let attributes = json!({
        "multiscales": [{
            "version": "0.4", "name": "theirs",
            "axes": [{"name": "c", "type": "channel"}, space("z"), space("y"), space("x")],
            "datasets": [level("0", 1.0), level("half", 2.0)],
            "coordinateTransformations": [{"type": "scale", "scale": [1.0, 0.5, 0.5, 0.5]}],
        }],
        "omero": {"channels": [{"label": "a"}, {"label": "b"}]},
    });
    put(store, ".zgroup", &json!({"zarr_format": 2})).await;
    put(store, ".zattrs", &attributes).await;
}

#[tokio::test]
async fn a_group_is_given_levels_and_keeps_all_else() {
    let (_dir, store) = scratch();
    foreign(&store).await;
    let group = Pyramid::open(&Stores::default(), store.url()).await.unwrap();
    assert_eq!((group.ome(), group.kind(), group.lengths()), (OmeVersion::V04, GroupKind::Image, &[2][..]));
    assert_eq!(group.paths(), ["0", "half"]);
    let second = group.level(1, &[1]).await.unwrap();
    assert_eq!((second.extent().shape, second.scale()), ([3, 5, 5], [1.0; 3]));

    let levels = pyramid::levels(second.extent(), second.geometry(), Reduce::Mean, Levels::Count(2));
    let added: Vec<_> = levels.into_iter().skip(1).map(|level| ("1".to_owned(), level)).collect();
    let (key, document) = group.with_levels(2, &added, Reduce::Mean).unwrap();
    assert_eq!(key, ".zattrs");
    let mut changed: Value = serde_json::from_slice(&document).unwrap();
    let datasets = changed["multiscales"][0]["datasets"].as_array_mut().unwrap();
    // What is said of all levels comes on top: the voxel is 4 x 0.5 micrometers.
    let expected = json!([
        {"type": "scale", "scale": [1.0, 4.0, 4.0, 4.0]},
        {"type": "translation", "translation": [0.0, 1.0, 1.0, 11.0]},
    ]);
    assert_eq!(datasets.pop().unwrap(), json!({"path": "1", "coordinateTransformations": expected}));
    changed["multiscales"][0].as_object_mut().unwrap().remove("type");
    let before = store.get(".zattrs").await.unwrap().unwrap().bytes;
    assert_eq!(changed, serde_json::from_slice::<Value>(&before).unwrap(), "the channels' names, for one");
}

#[tokio::test]
async fn what_takes_no_levels_says_so() {
    let (_dir, store) = scratch();
    foreign(&store).await;
    let refused = async |path: &str| {
        let e = Pyramid::open(&Stores::default(), &format!("{}{path}", store.url())).await.unwrap_err();
        (e.message.replace(store.url(), "URL"), e.hint.unwrap_or_default().replace(store.url(), "URL"))
    };
    assert_eq!(
        refused("/half").await,
        ("URL/half is not a multiscales group".to_owned(), "name the group itself: URL".to_owned())
    );
    assert_eq!(refused("/none").await.0, "nothing at URL/none");
    let found = store.get(".zattrs").await.unwrap().unwrap().bytes;
    let mut old: Value = serde_json::from_slice(&found).unwrap();
    old["multiscales"][0]["version"] = json!("0.3");
    put(&store, ".zattrs", &old).await;
    assert_eq!(refused("").await.0, "URL is OME-Zarr 0.3, and levels can be added to 0.4 and 0.5");
}

/// A shard's buffer is made once, for the worst, and the worst is not more than there can be of the image.
#[test]
fn no_object_outgrows_its_buffer() {
    let mut state = 1u32;
    let noise = std::iter::repeat_with(|| {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    });
    let region = Region::new([0; 3], [64, 128, 128]);
    let image: AnyVolume = Volume { region, data: noise.take(region.voxels()).collect() }.into();
    for codec in ["none", "zstd:1", "gzip:0", "blosc:lz4:5"] {
        let spec = spec(Dtype::U8, region.shape(), [16; 3], Some([64, 128, 128]), codec);
        let object = spec.encode_object(&image, [0; 3]).unwrap();
        assert!(
            object.len() > region.voxels() && object.len() as u64 <= spec.most_bytes(),
            "{codec}: {}",
            object.len()
        );
    }
    let small = spec(Dtype::U8, [20, 10, 10], [16; 3], Some([1 << 20; 3]), "zstd:1");
    assert_eq!(small.most_bytes(), 32 * 16 * 16 * 129 / 128 + (1 << 20));
}
