//! `verify` finds what was changed behind a run's back, and what a run computed wrongly; `replay` runs one task again.

use serde_json::json;
use voxel::Dtype;

use crate::program::{Desk, Image, blobs};

const HOW: &str = "--chunks 16 --shards none --block 16 --segment 3 --merge-fanout 2 --levels 2";

fn desk() -> Desk {
    let desk = Desk::new();
    Image::new([40, 48, 64], Dtype::U8, 16).write(&desk, "blobs.zarr", blobs);
    Image::new([40, 48, 64], Dtype::U8, 16)
        .write(&desk, "mask.zarr", |[z, y, x]| f64::from(u8::from((z + y + x) % 50 > 8)));
    desk
}

#[test]
fn whole_answers_are_verified() {
    let desk = desk();
    for (steps, flags) in [
        (
            "gaussian sigma=2 save=smooth | threshold method=otsu | fill_holes save=filled | erode ball=1 | label save=cells",
            "",
        ),
        ("rescale divide=200 | median size=3 save=soft | threshold percentile=80 | label min_voxels=9 | objects", ""),
        (
            "median size=3 | threshold above=100 save=seg | fill_holes save=full | label connectivity=26",
            "--mask mask.zarr",
        ),
        ("gaussian sigma=1,0,2 save=g | cast dtype=uint8", "--region 3:37,5:41,7:59 --block 16,32,16"),
    ] {
        let run = format!("run blobs.zarr --steps '{steps}' {HOW} {flags} -o out --overwrite --quiet");
        // The last of two is the one that counts.
        let run = if flags.contains("--block") { run.replacen("--block 16 ", "", 1) } else { run };
        desk.run(&run).well();
        let verified = desk.run("verify out --windows 12 --seed 5 --json").well().json();
        assert_eq!(verified["faults"], json!([]), "{steps}");
        assert_eq!(verified["left_out"], json!([]), "{steps}");
        assert!(
            verified["windows"].as_u64().unwrap() >= 24 && verified["objects"].as_u64().unwrap() > 10,
            "{verified}"
        );
    }
    let text = desk.run("verify out --seed 5").well();
    assert_eq!(text.stdout, "");
    assert!(text.stderr.contains("each as it was written") && text.stderr.contains("(--seed 5)"), "{}", text.stderr);
    desk.run("verify elsewhere").badly(2, "there is no finished run in");
}

#[test]
fn what_was_changed_is_found() {
    let desk = desk();
    let run = format!("run blobs.zarr --steps 'median size=3 save=smooth | threshold above=100 | label' {HOW} -o out");
    desk.run(&run).well();
    let calm = desk.files("out");
    type Damage = fn(&mut Vec<u8>);
    let damages: [(&str, Damage); 5] = [
        ("labels.zarr/0/c/1/1/1", |bytes| *bytes.last_mut().unwrap() ^= 1),
        ("smooth.zarr/1/c/0/0/0", |bytes| bytes.truncate(9)),
        ("objects.parquet", |bytes| bytes[99] ^= 8),
        ("histogram.json", |bytes| bytes.push(b' ')),
        ("labels.zarr/zarr.json", |bytes| bytes[0] = b' '),
    ];
    for (key, damage) in damages {
        let mut bytes = calm[key].clone();
        damage(&mut bytes);
        desk.write(&format!("out/{key}"), bytes);
        let found = desk.run("verify out --windows 0");
        found.badly(5, key).hints("--overwrite");
        desk.write(&format!("out/{key}"), &calm[key]);
    }
    std::fs::remove_file(desk.path("out/smooth.zarr/0/c/0/1/0")).unwrap();
    desk.run("verify out --windows 0").badly(5, "smooth.zarr/0/c/0/1/0 is missing");
    desk.write("out/smooth.zarr/0/c/0/1/0", &calm["smooth.zarr/0/c/0/1/0"]);
    desk.run("verify out").well();
}

/// Wrong from the start, and recorded as if it were right: only computing it again can tell.
#[test]
fn what_was_computed_wrongly_is_found() {
    let desk = desk();
    let run = |above: usize, out: &str| {
        let steps = format!("median size=3 save=smooth | threshold above={above} | label");
        desk.run(&format!("run blobs.zarr --steps '{steps}' {HOW} -o {out} --quiet")).well();
    };
    run(100, "out");
    run(104, "other");
    for (image, found) in [("labels.zarr", "is foreground, but has no label"), ("smooth.zarr", "when computed anew")] {
        let mut manifest = desk.json("out/.voxmill/manifest.json");
        let (ours, theirs) = (desk.files("out"), desk.files("other"));
        // For smooth.zarr, some other image of that shape and type: the labels' chunks can't be read as such, so one of
        // its own is put in another's place.
        for written in manifest["written"].as_array_mut().unwrap() {
            let key = written["key"].as_str().unwrap().to_owned();
            if !key.starts_with(&format!("{image}/0/")) {
                continue;
            }
            let other = if image == "labels.zarr" { &theirs[&key] } else { &ours["smooth.zarr/0/c/1/1/1"] };
            desk.write(&format!("out/{key}"), other);
            written["bytes"] = json!(other.len());
            written["crc32c"] = json!(crc32c(other));
        }
        // As a record is sealed: the checksum of what comes before it is its last key.
        manifest.as_object_mut().unwrap().remove("crc32c");
        let mut text = manifest.to_string();
        text.pop();
        desk.write("out/.voxmill/manifest.json", format!("{text},\"crc32c\":{}}}", crc32c(text.as_bytes())));
        desk.run("verify out --windows 20 --seed 1").badly(5, found);
    }
}

fn crc32c(bytes: &[u8]) -> u32 {
    bytes.iter().fold(!0u32, |crc, byte| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    }) ^ !0
}

#[test]
fn a_changed_input_is_told() {
    let desk = desk();
    let run = format!("run blobs.zarr --steps 'median size=3 | threshold above=100 | label' {HOW} -o out");
    desk.run(&run).well();
    desk.write("blobs.zarr/c/0/0/0", std::fs::read(desk.path("mask.zarr/c/0/0/0")).unwrap());
    let told = desk.run("verify out").well();
    assert!(told.stderr.contains("all windows: the input has changed"), "{}", told.stderr);
}

#[test]
fn a_task_runs_once_more() {
    let desk = desk();
    let run =
        format!("run blobs.zarr --steps 'gaussian sigma=1 save=smooth | threshold method=otsu | label' {HOW} -o out");
    desk.run(&format!("{run} --keep")).well();
    let calm = desk.files("out");
    let stages = desk.json("out/run.json")["stages"].as_array().unwrap().clone();
    for (i, stage) in stages.iter().enumerate() {
        let end = stage["units"].as_u64().unwrap().min(3);
        for task in [format!("{}:0-{end}", i + 1), format!("{}:end", i + 1)] {
            if end == 0 && !task.ends_with("end") {
                continue;
            }
            let replayed = desk.run(&format!("replay out {task} --json")).well().json();
            assert_eq!(replayed["differ"], json!([]), "{task}");
            assert!(replayed["same"].as_u64().unwrap() > 0, "{task}: {replayed}");
        }
    }
    assert!(desk.files("out") == calm, "a replayed task has touched its run");
    desk.run("replay out 1:0-3 --to there").well();
    assert!(desk.has("there/smooth.zarr/0/c/0/0/0"));
    desk.run("replay out 1:0-3 --to there").badly(2, "is not empty");
    desk.run("replay out 99:0-3").badly(2, "there is no task 99:0-3: the run has");
    let unread = desk.run("replay out 3");
    assert_eq!(unread.status.code(), Some(2));
    assert!(unread.stderr.contains("as in 3:120-130, or 3:end"), "{}", unread.stderr);
    desk.run("replay out 1:0-999").badly(2, "stage 1 has 36 units");

    let scratch = calm.keys().find(|key| key.contains("/scratch/") && key.contains("objects")).unwrap();
    let mut bytes = calm[scratch].clone();
    bytes[20] ^= 1;
    desk.write(&format!("out/{scratch}"), bytes);
    desk.run("replay out 3:0-3").badly(5, "of the objects of task 3:0-3 are not what the run has");

    // Without scratch, only what reads the input can be run again.
    desk.run(&format!("{run} --overwrite")).well();
    desk.run("replay out 1:0-3").well();
    desk.run("replay out 2:0-3").badly(2, "is gone").hints("--keep");
}
