//! What a URL may mean.

use super::*;
use crate::store::Stores;

async fn small(store: &Store, path: &str, shape: &[usize]) {
    let axes = shape.len();
    let document = json!({
        "zarr_format": 3, "node_type": "array", "shape": shape, "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": vec![2; axes]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 3, "codecs": [{"name": "bytes"}],
    });
    let key = if path.is_empty() { "zarr.json".to_owned() } else { format!("{path}/zarr.json") };
    put(store, &key, &document).await;
}

async fn refusal(store: &Store, pick: Pick) -> String {
    let error = Array::open_in(store, &pick).await.unwrap_err();
    assert_eq!(error.kind, Kind::Invalid, "{error}");
    error.message
}

fn images(axes: &str) -> Value {
    let axes: Vec<Value> = axes
        .chars()
        .map(|name| match name {
            't' => json!({"name": "t", "type": "time"}),
            'c' => json!({"name": "c", "type": "channel"}),
            name => json!({"name": name.to_string(), "type": "space", "unit": "µm"}),
        })
        .collect();
    let ones = vec![1.0; axes.len() - 3];
    let after = |first: &[f64], then: [f64; 3]| [first, &then[..]].concat();
    let levels: Vec<Value> = [1.0, 2.0]
        .iter()
        .enumerate()
        .map(|(level, by)| {
            json!({"path": level.to_string(), "coordinateTransformations": [
                {"type": "scale", "scale": after(&ones, [4.0 * by, 0.5 * by, 0.25 * by])},
                {"type": "translation", "translation": after(&ones, [1.0, 2.0, 3.0])},
            ]})
        })
        .collect();
    json!([{"axes": axes, "datasets": levels, "coordinateTransformations": [
        {"type": "scale", "scale": after(&ones, [2.0, 1.0, 1.0])}
    ]}])
}

#[tokio::test]
async fn a_multiscales_group_gives_the_level_asked_for() {
    let (_dir, store) = scratch();
    put(&store, "zarr.json", &json!({"zarr_format": 3, "node_type": "group", "attributes": {"ome": {
        "version": "0.5", "multiscales": images("czyx"), "omero": {"channels": [{"label": "DAPI"}, {"label": "GFP"}]},
    }}}))
    .await;
    small(&store, "0", &[2, 4, 5, 6]).await;
    small(&store, "1", &[2, 2, 3, 3]).await;
    let url = store.url();

    assert_eq!(
        refusal(&store, Pick::default()).await,
        format!("{url}/0 has 2 channels, and one must be chosen: 0 (DAPI), 1 (GFP)")
    );
    assert_eq!(
        refusal(&store, Pick { channel: Some(2), ..Pick::default() }).await,
        format!("channel 2 was asked for, {url}/0 has channels 0 (DAPI), 1 (GFP)")
    );
    let gfp = Pick { channel: Some(1), ..Pick::default() };
    let fine = Array::open_in(&store, &gfp).await.unwrap();
    assert_eq!((fine.extent().shape, fine.extent().planar), ([4, 5, 6], false));
    assert_eq!((fine.scale(), fine.translation()), ([8.0, 0.5, 0.25], [2.0, 2.0, 3.0]));
    assert_eq!(fine.units(), &["micrometer"; 3].map(|unit| Some(unit.to_owned())));
    assert_eq!((fine.levels(), fine.level()), (&["0".to_owned(), "1".to_owned()][..], 0));
    assert_eq!(
        read(&fine, Region::whole([1, 1, 2])).await.unwrap(),
        Volume::new(Region::whole([1, 1, 2]), vec![3u8; 2]).into()
    );

    let coarse = Array::open_in(&store, &Pick { level: Some(1), ..gfp.clone() }).await.unwrap();
    assert_eq!((coarse.extent().shape, coarse.scale(), coarse.level()), ([2, 3, 3], [16.0, 1.0, 0.5], 1));
    assert_ne!(coarse.fingerprint(), fine.fingerprint());
    let direct = Array::open_in(&store.child("1").unwrap(), &gfp).await.unwrap();
    assert_eq!((direct.fingerprint(), direct.scale()), (coarse.fingerprint(), coarse.scale()));
    let dapi = Array::open_in(&store, &Pick { channel: Some(0), ..Pick::default() }).await.unwrap();
    assert_ne!(dapi.fingerprint(), fine.fingerprint());
    assert_eq!(
        refusal(&store, Pick { level: Some(2), ..gfp }).await,
        format!("level 2 was asked for, {url} has levels 0 to 1")
    );
}

#[tokio::test]
async fn version_0_4_and_axes_of_time_are_understood() {
    let (_dir, store) = scratch();
    put(&store, ".zgroup", &json!({"zarr_format": 2})).await;
    put(&store, ".zattrs", &json!({"multiscales": images("tczyx")})).await;
    let document = json!({"zarr_format": 2, "shape": [3, 1, 4, 5, 6], "chunks": [1, 1, 2, 2, 2], "dtype": "|u1",
        "compressor": null, "filters": null, "fill_value": 0, "order": "C", "dimension_separator": "/"});
    put(&store, "0/.zarray", &document).await;
    assert_eq!(
        refusal(&store, Pick::default()).await,
        format!("{}/0 has 3 time points, and one must be chosen: 0 to 2", store.url())
    );
    let array = Array::open_in(&store, &Pick { time: Some(2), ..Pick::default() }).await.unwrap();
    assert_eq!((array.extent().shape, array.scale()), ([4, 5, 6], [8.0, 0.5, 0.25]));
    assert_eq!(
        refusal(&store, Pick { time: Some(0), level: Some(1), ..Pick::default() }).await,
        format!("{}/1 is named by the group around it, but is not there", store.url())
    );
}

#[tokio::test]
async fn a_bioformats2raw_file_gives_the_series_asked_for() {
    let (_dir, store) = scratch();
    let group = json!({"zarr_format": 2});
    for path in ["", "0/", "1/"] {
        put(&store, &format!("{path}.zgroup"), &group).await;
    }
    put(&store, ".zattrs", &json!({"bioformats2raw.layout": 3})).await;
    put(&store, "0/.zattrs", &json!({"multiscales": images("zyx")})).await;
    put(&store, "1/.zattrs", &json!({"multiscales": images("zyx")})).await;
    small(&store, "0/0", &[4, 4, 4]).await;
    small(&store, "1/0", &[5, 5, 5]).await;
    assert_eq!(
        refusal(&store, Pick::default()).await,
        format!("{} holds several images, and one must be chosen: series 0 to 1", store.url())
    );
    let second = Array::open_in(&store, &Pick { series: Some(1), ..Pick::default() }).await.unwrap();
    assert_eq!((second.extent().shape, second.url()), ([5, 5, 5], store.display("1/0").as_str()));
    put(&store, "OME/.zgroup", &group).await;
    put(&store, "OME/.zattrs", &json!({"series": ["1"]})).await;
    assert_eq!(open(&store).await.unwrap().extent().shape, [5, 5, 5]);
}

#[tokio::test]
async fn a_group_with_one_array_means_it_and_others_list_what_is_inside() {
    let (_dir, store) = scratch();
    put(&store, "zarr.json", &json!({"zarr_format": 3, "node_type": "group"})).await;
    let url = store.url();
    assert_eq!(refusal(&store, Pick::default()).await, format!("{url} is an empty group"));
    small(&store, "grey", &[4, 4, 4]).await;
    put(&store, "notes/zarr.json", &json!({"zarr_format": 3, "node_type": "group"})).await;
    assert_eq!(open(&store).await.unwrap().url(), format!("{url}/grey"));
    small(&store, "labels", &[4, 4, 4]).await;
    assert_eq!(
        refusal(&store, Pick::default()).await,
        format!("{url} is a group; inside are grey (array), labels (array), notes (group)")
    );
}

#[tokio::test]
async fn groups_in_groups_are_looked_through() {
    let (_dir, store) = scratch();
    let group = json!({"zarr_format": 3, "node_type": "group"});
    for path in ["", "cells/", "cells/day1/", "empty/"] {
        put(&store, &format!("{path}zarr.json"), &group).await;
    }
    small(&store, "cells/day1/grey", &[4, 4, 4]).await;
    small(&store, "cells/mask", &[4, 4, 4]).await;
    put(
        &store,
        "cells/day2/zarr.json",
        &json!({"zarr_format": 3, "node_type": "group", "attributes": {"ome": {
        "version": "0.5", "multiscales": images("zyx")}}}),
    )
    .await;
    let error = open(&store).await.unwrap_err();
    let url = store.url();
    assert_eq!(
        (error.message, error.hint),
        (
            format!(
                "{url} is a group; inside are cells/day1/grey (array), cells/day2 (image), cells/mask (array), empty (group)"
            ),
            Some(format!("name one of them, as in {url}/cells/day1/grey"))
        )
    );
    let within =
        Array::open(&Stores::default(), &format!("file://{url}/cells//day1/"), &Pick::default()).await.unwrap();
    assert_eq!(within.url(), format!("{url}/cells/day1/grey"));
}

#[tokio::test]
async fn images_of_the_first_versions_go_by_position() {
    for shape in [&[4, 5][..], &[3, 4, 5], &[1, 3, 4, 5], &[1, 1, 3, 4, 5]] {
        let (_dir, store) = scratch();
        put(&store, ".zgroup", &json!({"zarr_format": 2})).await;
        put(&store, ".zattrs", &json!({"multiscales": [{"version": "0.1", "datasets": [{"path": "0"}]}]})).await;
        small(&store, "0", shape).await;
        let array = open(&store).await.unwrap();
        assert_eq!(array.extent().shape[1..], [4, 5]);
        assert_eq!((array.extent().planar, array.scale()), (shape.len() == 2, [1.0; 3]));
    }
}

#[tokio::test]
async fn what_is_no_array_is_told_apart() {
    let (dir, store) = scratch();
    let url = store.url();
    let at = |name: &str| Store::open(&format!("{url}/{name}")).unwrap();
    assert_eq!(refusal(&at("absent.zarr"), Pick::default()).await, format!("nothing at {url}/absent.zarr"));
    std::fs::write(dir.path().join("scan.ome.tif"), b"II*").unwrap();
    let tiff = open(&at("scan.ome.tif")).await.unwrap_err();
    assert_eq!(tiff.message, format!("{url}/scan.ome.tif is a TIFF file, not a Zarr array"));
    assert_eq!(tiff.hint, Some(format!("voxmill import {url}/scan.ome.tif {url}/scan.zarr")));
    std::fs::write(dir.path().join("notes.md"), b"#").unwrap();
    assert_eq!(refusal(&at("notes.md"), Pick::default()).await, format!("{url}/notes.md is a file, not a Zarr array"));
    std::fs::create_dir(dir.path().join("sub")).unwrap();
    assert_eq!(
        refusal(&store, Pick::default()).await,
        format!("{url} is not a Zarr array or group; inside are sub/, notes.md, scan.ome.tif")
    );
    store.put("zarr.json", "{".into()).await.unwrap();
    assert!(refusal(&store, Pick::default()).await.starts_with(&format!("{url}/zarr.json is not a JSON object: ")));
}

#[tokio::test]
async fn arrays_voxmill_does_not_read_say_why() {
    let base = json!({
        "zarr_format": 3, "node_type": "array", "shape": [4, 4, 4], "data_type": "uint8",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [2, 2, 2]}},
        "chunk_key_encoding": {"name": "default"}, "fill_value": 0, "codecs": [{"name": "bytes"}],
    });
    let nested = |chunk: Value| {
        json!([{"name": "sharding_indexed", "configuration": {"chunk_shape": chunk, "codecs": [{"name": "bytes"}],
            "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}], "index_location": "end"}}])
    };
    let chunks = |shape: Value| json!({"name": "regular", "configuration": {"chunk_shape": shape}});
    let huge = 1u64 << 45;
    for (changes, message) in [
        (json!({"shape": [4, 0, 4]}), "URL has no voxels: its shape is [4, 0, 4]"),
        (
            json!({"shape": [4], "chunk_grid": chunks(json!([2]))}),
            "URL has 1 axis; voxmill reads images of two or three axes, with time and channels up to five",
        ),
        (
            json!({"shape": [1, 1, 1, 4, 4, 4], "chunk_grid": chunks(json!([1, 1, 1, 2, 2, 2]))}),
            "URL has 6 axes; voxmill reads images of two or three axes, with time and channels up to five",
        ),
        (
            json!({"data_type": "float16"}),
            "URL holds float16; voxmill reads bool, integers of 8 to 64 bits, float32 and float64",
        ),
        (
            json!({"codecs": [{"name": "bytes"}, {"name": "lzma2000"}]}),
            r#"URL uses the codec "lzma2000", which voxmill can't read"#,
        ),
        (
            json!({"shape": [huge, 4, 4], "chunk_grid": chunks(json!([huge, 2, 2]))}),
            "URL can't be read: its chunks [35184372088832, 2, 2] are too large for any machine",
        ),
        (
            json!({"shape": [huge, huge, huge]}),
            "URL can't be read: its shape [35184372088832, 35184372088832, 35184372088832] has more voxels than can be counted",
        ),
        (
            json!({"chunk_grid": {"name": "rectilinear"}}),
            r#"URL can't be read: its chunk grid rectilinear is not regular"#,
        ),
        (
            json!({"codecs": nested(json!([2, 2, 3]))}),
            "URL can't be read: its shards [2, 2, 2] are not whole chunks [2, 2, 3]",
        ),
        (json!({"fill_value": 256}), "URL can't be read: its fill value 256 is no uint8"),
        (json!({"storage_transformers": [{"name": "x"}]}), r#"URL can't be read: it uses the storage transformer "x""#),
    ] {
        let (_dir, store) = scratch();
        let mut document = base.clone();
        document.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        put(&store, "zarr.json", &document).await;
        assert_eq!(refusal(&store, Pick::default()).await, message.replace("URL", store.url()));
    }

    let (_dir, store) = scratch();
    let v2 = json!({"zarr_format": 2, "shape": [4, 4], "chunks": [2, 2], "dtype": "<u2", "compressor": {"id": "lz4"},
        "filters": null, "fill_value": 0, "order": "C"});
    put(&store, ".zarray", &v2).await;
    assert_eq!(
        refusal(&store, Pick::default()).await,
        format!(r#"{} uses the codec "lz4", which voxmill can't read"#, store.url())
    );
    let (_dir, store) = scratch();
    small(&store, "", &[4, 4, 4]).await;
    for (pick, message) in [
        (Pick { level: Some(1), ..Pick::default() }, "level 1 was asked for, URL is a single array"),
        (Pick { series: Some(1), ..Pick::default() }, "series 1 was asked for, URL is a single image"),
        (Pick { channel: Some(1), ..Pick::default() }, "channel 1 was asked for, URL has no channel axis"),
    ] {
        assert_eq!(refusal(&store, pick).await, message.replace("URL", store.url()));
    }
}

#[tokio::test]
async fn our_own_groups_open_with_scale_and_units() {
    let (_dir, store) = scratch();
    let level = spec(Dtype::U8, [4, 4, 4], [2, 2, 2], None, "zstd");
    write_whole(&store.child("0").unwrap(), &level, &voxels(Dtype::U8, level.extent.region())).await.unwrap();
    let units = [Some("micrometer".to_owned()), None, Some("nanometer".to_owned())];
    let geometry = Geometry::spaced(false, [2.0, 1.0, 0.5], [0.5, 0.0, -1.0], units.clone());
    Group::single("labels", GroupKind::Labels, geometry).publish(&store).await.unwrap();
    let array = open(&store).await.unwrap();
    assert_eq!((array.scale(), array.translation(), array.units()), ([2.0, 1.0, 0.5], [0.5, 0.0, -1.0], &units));
    let group: Value = serde_json::from_slice(&store.get("zarr.json").await.unwrap().unwrap().bytes).unwrap();
    assert_eq!(group["attributes"]["ome"]["image-label"], json!({"version": "0.5"}));
    assert_eq!(array.codecs(), ["bytes (endian little)", "zstd (level 3, checksum false)"]);
}
