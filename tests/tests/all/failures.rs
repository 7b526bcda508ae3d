//! Tasks that fail for good: what is told of them, by whom, and that the same command does the rest.

use std::os::unix::process::CommandExt;

use serde_json::json;
use voxel::Dtype;

use crate::program::{Desk, Image, Started, blobs, noise};

/// Eight blocks, a task each.
const JOB: &str = "run blobs.zarr --steps 'median size=3 | threshold above=100 | label' --chunks 16 --shards none \
                   --block 16 --segment 1 -o out";

fn desk() -> Desk {
    let desk = Desk::new();
    Image::new([32, 32, 32], Dtype::U8, 16).write(&desk, "blobs.zarr", blobs);
    desk
}

#[test]
fn failed_tasks_are_listed_and_done_by_the_same_command() {
    let desk = desk();
    let good = desk.files("blobs.zarr");
    desk.write("blobs.zarr/c/0/0/0", "no chunk");
    // Without a budget, one failure stops the run, and is told as ever.
    desk.run(JOB).badly(5, "c/0/0/0");
    let report = desk.json("out/run.json");
    assert_eq!((&report["finished"], report["failed"].as_array().unwrap().len()), (&json!(false), 1));
    // Every block reads that chunk for its halo but those at the far side of it.
    let ended =
        desk.run(&format!("{JOB} --max-failures 99")).badly(5, "8 tasks failed, so the run stopped at the stage");
    assert!(ended.stderr.contains("1:0-1  median"), "{}", ended.stderr);
    assert!(ended.stderr.contains("block 0, 0:16,0:16,0:16: "), "{}", ended.stderr);
    assert!(ended.stderr.contains("hint: `voxmill status "), "{}", ended.stderr);
    let status = desk.run("status out --json").well().json();
    assert_eq!(status["failed"].as_array().unwrap().len(), 8);
    assert_eq!(status["failed"][7]["task"], json!("1:7-8"));
    assert_eq!(status["failed"], desk.json("out/run.json")["failed"]);
    let text = desk.run("status out").well().stdout;
    assert!(text.contains("failed when it was last stopped:\n  1:0-1  "), "{text}");
    desk.holds_no_answer("out");

    desk.write("blobs.zarr/c/0/0/0", &good["c/0/0/0"]);
    desk.run(JOB).well();
    assert_eq!(desk.json("out/run.json")["finished"], json!(true));
    assert!(desk.run("status out --json").well().json().get("failed").is_none());
}

#[test]
fn failures_of_several_kinds_have_an_exit_code_of_their_own() {
    let desk = desk();
    let good = desk.files("blobs.zarr");
    // Blocks of one chunk each, without a halo: one can't be read, and one can't be written.
    let job = JOB.replace("median size=3 | threshold above=100 | label", "threshold above=100") + " --max-failures 2";
    desk.write("blobs.zarr/c/0/0/0", "no chunk");
    desk.run(&job).badly(5, "1 task failed");
    std::fs::remove_file(desk.path("out/result.zarr/0/c/1/1/1")).unwrap();
    std::fs::remove_dir_all(desk.path("out/.voxmill/receipts")).unwrap();
    std::fs::remove_dir_all(desk.path("out/.voxmill/checkpoint")).unwrap();
    desk.write("out/result.zarr/0/c/1/1/1/in-the-way", "");
    let ended = desk.run(&job).badly(3, "2 tasks failed");
    assert!(ended.stderr.contains("1:0-1  ") && ended.stderr.contains("1:7-8  "), "{}", ended.stderr);
    std::fs::remove_dir_all(desk.path("out/result.zarr/0/c/1/1/1")).unwrap();
    desk.write("blobs.zarr/c/0/0/0", &good["c/0/0/0"]);
    desk.run(&job).well();
    let resumed = &desk.json("out/run.json")["stages"][0]["resumed"];
    assert_eq!(resumed, &json!(6));
}

/// What a projection can't foresee is what others on the machine take.
#[cfg(target_os = "linux")]
#[test]
fn the_end_of_memory_names_the_setting() {
    let desk = Desk::new();
    Image::new([384, 384, 384], Dtype::U8, 64).write_tiled(&desk, "noise.zarr", noise(200));
    let line = "run noise.zarr --steps 'gaussian sigma=2' --chunks 384 --shards none --block 384 --memory 3GiB \
                --workers 1 -o out";
    let mut command = desk.command(line);
    // SAFETY: between fork and exec only a system call is made.
    unsafe {
        command.pre_exec(|| {
            const BYTES: libc::rlim_t = 380 << 20;
            let limit = libc::rlimit { rlim_cur: BYTES, rlim_max: BYTES };
            match libc::setrlimit(libc::RLIMIT_AS, &raw const limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    Started::new(command, line).end().badly(2, "out of memory").hints("lower --memory or --workers");
    desk.holds_no_answer("out");
}
