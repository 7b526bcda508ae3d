//! Input that is damaged: with a checksum in its chunks every flipped bit is found, named, and never in an answer, also
//! when it flips while a run is under way. And names that would lead out of where they belong.

use std::fs;

use serde_json::json;
use voxel::Dtype;

use crate::program::{Desk, Image, blobs};

const STEPS: &str = "median size=3 | threshold above=100 | label";
const HOW: &str = "--chunks 16 --shards none --block 16 --segment 2 --workers 1";

/// CRC-32C, bit by bit.
fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

/// An array each of whose chunks ends in a checksum, as its metadata says.
fn desk() -> Desk {
    let desk = Desk::new();
    Image::new([64, 48, 48], Dtype::U8, 16).write(&desk, "in.zarr", blobs);
    for (name, mut bytes) in desk.files("in.zarr") {
        if name.starts_with("c/") {
            bytes.extend(crc32c(&bytes).to_le_bytes());
            desk.write(&format!("in.zarr/{name}"), bytes);
        }
    }
    let mut document = desk.json("in.zarr/zarr.json");
    document["codecs"].as_array_mut().unwrap().push(json!({"name": "crc32c"}));
    desk.write("in.zarr/zarr.json", document.to_string());
    desk
}

/// Flips a bit of a chunk; again, and it is as it was.
fn flip(desk: &Desk, chunk: &str, eighth: usize) {
    let path = desk.path(&format!("in.zarr/{chunk}"));
    let mut bytes = fs::read(&path).unwrap();
    let at = (bytes.len() - 1) * eighth / 7;
    bytes[at] ^= 1 << eighth;
    fs::write(path, bytes).unwrap();
}

#[test]
fn a_flipped_bit_in_a_chunk_is_found_and_named() {
    let desk = desk();
    let line = format!("run in.zarr --steps '{STEPS}' {HOW}");
    desk.run(&format!("{line} -o calm")).well();
    for (eighth, chunk) in ["c/0/0/0", "c/0/1/2", "c/3/2/2", "c/1/0/1"].into_iter().cycle().take(8).enumerate() {
        flip(&desk, chunk, eighth);
        desk.run(&format!("{line} -o out")).badly(5, &format!("/in.zarr (key {chunk}) can't be decoded: "));
        desk.holds_no_answer("out");
        flip(&desk, chunk, eighth);
        desk.run(&format!("{line} -o out")).well();
        assert!(desk.answers("out") == desk.answers("calm"), "after a flipped bit at {eighth}/7 of {chunk}");
        fs::remove_dir_all(desk.path("out")).unwrap();
    }
}

/// The first blocks are done and read no more; the bit flips in a chunk that is still to come.
#[test]
fn a_bit_that_flips_while_a_run_is_under_way_is_found() {
    let desk = desk();
    let line = format!("run in.zarr --steps 'median size=13 | threshold above=100 | label' {HOW}");
    desk.run(&format!("{line} -o calm")).well();
    let run = desk.start(&format!("{line} -o out"));
    let receipts = desk.path("out/.voxmill/receipts");
    let started = std::time::Instant::now();
    // Names only: the file of a receipt that is being written may be gone before it can be read.
    let has_receipt = || {
        fs::read_dir(&receipts).is_ok_and(|stages| {
            stages.flatten().any(|stage| fs::read_dir(stage.path()).is_ok_and(|mut files| files.next().is_some()))
        })
    };
    while !has_receipt() {
        assert!(run.is_running() && started.elapsed().as_secs() < 60, "no receipt in {}", receipts.display());
        std::thread::sleep(std::time::Duration::from_millis(1));
    }
    run.signal(libc::SIGSTOP);
    flip(&desk, "c/3/2/2", 3);
    run.signal(libc::SIGCONT);
    run.end().badly(5, "/in.zarr (key c/3/2/2) can't be decoded: ");
    desk.holds_no_answer("out");
    flip(&desk, "c/3/2/2", 3);
    desk.run(&format!("{line} -o out")).well();
    assert!(desk.answers("out") == desk.answers("calm"));
}

/// Names that come from outside and become keys: of what a step saves, of levels, of members of an archive.
#[test]
fn no_name_leads_out_of_its_place() {
    let desk = desk();
    desk.write("secret", "mine");
    let everything = |desk: &Desk| {
        let mut files = desk.files(".");
        files.retain(|name, _| !name.starts_with("out/"));
        files
    };
    let before = everything(&desk);
    for name in
        ["..", "../secret", "/secret", "a/b", ".voxmill", "a#1", "a\\b", "", ".", "x/../../y", "labels", "objects"]
    {
        let line = format!("run in.zarr --steps 'median size=3 save={name} | threshold above=9 | label' -o out");
        desk.run(&line).badly(2, "`save`");
        assert!(everything(&desk) == before && !desk.has("out"), "save={name} wrote something");
    }

    // A group whose level is somewhere else.
    let axes = json!([{"name": "z", "type": "space"}, {"name": "y", "type": "space"}, {"name": "x", "type": "space"}]);
    for path in ["../in.zarr", "..", "/in.zarr", "a/../../in.zarr", "", "."] {
        let scale = json!([{"type": "scale", "scale": [1, 1, 1]}]);
        let datasets = json!([{"path": path, "coordinateTransformations": scale}]);
        let ome = json!({"version": "0.5", "multiscales": [{"axes": axes, "datasets": datasets}]});
        let group = json!({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}});
        desk.write("group.zarr/zarr.json", group.to_string());
        let ended = desk.run("run group.zarr --steps 'cast dtype=uint16' -o out");
        assert_eq!(ended.status.code(), Some(2), "{path}: {}", ended.stderr);
        assert!(!desk.has("out"), "{path}");
    }
    fs::remove_dir_all(desk.path("group.zarr")).unwrap();

    // What a file says of itself names nothing that is written.
    let array =
        b"\x93NUMPY\x01\x00\x47\x00{'descr': '|u1', 'fortran_order': False, 'shape': (2, 2), }           \n0123";
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    for name in ["../escaped.npy", "/tmp/voxmill-escaped.npy"] {
        archive.start_file(name, zip::write::SimpleFileOptions::default()).unwrap();
        std::io::Write::write_all(&mut archive, array).unwrap();
    }
    desk.write("out/scan.npz", archive.finish().unwrap().into_inner());
    desk.run("import out/scan.npz out/image.zarr --member ../escaped.npy").well();
    assert!(everything(&desk) == before, "an archive's member was written outside");
}
