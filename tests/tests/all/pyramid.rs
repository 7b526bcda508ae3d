//! Levels of images, as `voxmill import` makes and `voxmill pyramid` adds them.

use std::collections::BTreeMap;

use pipeline::array::{Geometry, Group, GroupKind};
use serde_json::{Value, json};
use voxel::Dtype;

use crate::program::{Desk, Image, noise};

const SHAPE: [usize; 3] = [20, 30, 40];

/// A volume of which each voxel is its own, as `scan.npy`.
fn desk() -> Desk {
    let desk = Desk::new();
    let mut npy = b"\x93NUMPY\x01\x00\x76\x00".to_vec();
    let header = format!("{{'descr': '<u2', 'fortran_order': False, 'shape': {SHAPE:?}, }}").replace(['[', ']'], "|");
    let header = header.replacen('|', "(", 1).replacen('|', ")", 1);
    npy.extend(format!("{header:<117}\n").bytes());
    npy.extend((0..SHAPE.iter().product::<usize>()).flat_map(|i| (i.wrapping_mul(40_503) as u16).to_le_bytes()));
    desk.write("scan.npy", npy);
    desk
}

fn datasets(desk: &Desk, group: &str) -> Vec<Value> {
    let (document, ome) = match desk.has(&format!("{group}/zarr.json")) {
        true => ("zarr.json", "/attributes/ome/multiscales/0/datasets"),
        false => (".zattrs", "/multiscales/0/datasets"),
    };
    desk.json(&format!("{group}/{document}")).pointer(ome).unwrap().as_array().unwrap().clone()
}

/// The objects of an array, without metadata.
fn objects(desk: &Desk, array: &str) -> BTreeMap<String, Vec<u8>> {
    let mut files = desk.files(array);
    files.retain(|name, _| !name.ends_with(".json") && !name.starts_with(".z"));
    files
}

#[test]
fn levels_added_later_are_those_of_an_import() {
    let desk = desk();
    for flags in ["", "--ome 0.4", "--shards none --voxel-size 1,4,4um"] {
        let import = |to: &str, levels: &str| {
            desk.run(&format!("import scan.npy {to} --chunks 8 {flags} --levels {levels} --overwrite --quiet")).well();
        };
        import("all.zarr", "4");
        import("one.zarr", "none");
        assert_eq!((datasets(&desk, "all.zarr").len(), datasets(&desk, "one.zarr").len()), (4, 1));
        // In two calls, with other threads and memory.
        desk.run("pyramid one.zarr --levels 3 --workers 1").well();
        desk.run("pyramid one.zarr --levels 4 --workers 3 --memory 300MiB --quiet").well();
        assert_eq!(datasets(&desk, "one.zarr"), datasets(&desk, "all.zarr"), "{flags}");
        for level in 0..4 {
            let of = |group: &str| desk.files(&format!("{group}/{level}"));
            assert_eq!(of("one.zarr"), of("all.zarr"), "level {level} with {flags}");
        }
        let done = desk.run("pyramid one.zarr --levels 4").well();
        assert!(done.stderr.contains("4 levels already, 20 x 30 x 40"), "{}", done.stderr);
    }
}

#[test]
fn labels_are_picked_and_grey_values_averaged() {
    let desk = desk();
    desk.run("import scan.npy scan.zarr --chunks 16 --levels none --quiet").well();
    let level = |flags: &str| {
        desk.run(&format!("pyramid scan.zarr --levels 2 --overwrite --quiet {flags}")).well();
        let path = datasets(&desk, "scan.zarr")[1]["path"].as_str().unwrap().to_owned();
        (objects(&desk, &format!("scan.zarr/{path}")), datasets(&desk, "scan.zarr")[1].clone())
    };
    let (mean, placed) = level("");
    assert_eq!(placed["coordinateTransformations"][1]["translation"], json!([0.5, 0.5, 0.5]));
    let (stride, placed) = level("--labels");
    assert_eq!(placed["coordinateTransformations"][1]["translation"], json!([0.0, 0.0, 0.0]));
    assert!(mean != stride && mean.keys().eq(stride.keys()));
    // What is replaced goes: there are the image and one level.
    let folders =
        std::fs::read_dir(desk.path("scan.zarr")).unwrap().filter(|entry| entry.as_ref().unwrap().path().is_dir());
    assert_eq!(folders.count(), 2);
    assert_eq!(level("").0, mean);
}

#[test]
fn a_call_that_fails_leaves_the_image_as_it_was() {
    let desk = desk();
    desk.run("import scan.npy scan.zarr --chunks 8 --shards none --levels none --quiet").well();
    let whole = desk.files("scan.zarr");
    desk.write("scan.zarr/0/c/2/3/4", "damaged");
    let failed = desk.run("pyramid scan.zarr --levels 3");
    failed.badly(5, "chunk [2, 3, 4] of");
    assert_eq!(datasets(&desk, "scan.zarr").len(), 1);
    // What it left opens nowhere, and is replaced by the next call.
    desk.run("info scan.zarr/1").badly(2, "is not a Zarr array or group");
    desk.write("scan.zarr/0/c/2/3/4", &whole["0/c/2/3/4"]);
    desk.write("scan.zarr/1/c/99/99/99", "of some other shape");
    desk.run("pyramid scan.zarr --levels 3 --quiet").well();
    desk.run("import scan.npy new.zarr --chunks 8 --shards none --levels 3 --quiet").well();
    let (mut found, mut expected) = (desk.files("scan.zarr"), desk.files("new.zarr"));
    assert_eq!(datasets(&desk, "scan.zarr"), datasets(&desk, "new.zarr"));
    found.remove("zarr.json");
    expected.remove("zarr.json");
    assert_eq!(found, expected);
}

#[test]
fn what_a_pyramid_cannot_be_made_of_is_said() {
    let desk = desk();
    desk.run("import scan.npy scan.zarr --chunks 8 --levels 2 --quiet").well();
    desk.run("pyramid scan.zarr/0").badly(2, "is not a multiscales group").hints("name the group itself");
    desk.run("pyramid nowhere.zarr").badly(2, "nothing at");
    desk.run("pyramid scan.npy").badly(2, "is a NPY file, not a Zarr array").hints("voxmill import");
    desk.run("pyramid scan.zarr --levels 1").badly(2, "has 2 levels already, and was to have 1").hints("--overwrite");
    desk.run("pyramid scan.zarr --levels many").badly(2, "--levels: takes \"auto\", \"none\", or the number of levels");
    desk.run("pyramid scan.zarr --levels 3 --memory 8MiB").badly(2, "making level 1 needs").hints("--memory");
    desk.run("import scan.npy b.zarr --ome 0.4 --shards 4").badly(2, "`shards` are not part of OME-Zarr 0.4");
    desk.run("import scan.npy b.zarr --ome 0.3").badly(2, "--ome: takes the version of OME-Zarr");
}

#[test]
fn memory_is_kept_to() {
    const MIB: u64 = 1 << 20;
    let desk = Desk::new();
    Image::new([256, 512, 512], Dtype::F32, 64).sharded(2).write_tiled(&desk, "image/0", noise(1 << 31));
    let group = Group::single("image", GroupKind::Image, Geometry::unknown(false));
    for (key, document) in group.documents() {
        desk.write(&format!("image/{key}"), document);
    }
    for (limit, how) in [(250, ""), (500, "--chunks 128"), (150, "--shards none")] {
        let line = format!("pyramid image --overwrite --quiet --workers 2 --memory {limit}MiB {how}");
        let peak = desk.run(&line).well().peak_bytes;
        eprintln!("{} of {limit} MiB: {line}", peak / MIB);
        assert!(peak <= limit * MIB, "{} MiB: {line}", peak / MIB);
    }
}
