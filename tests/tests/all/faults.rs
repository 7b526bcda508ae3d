//! Troubled equals calm: whatever stops a run, the same command ends with the same bytes.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use serde_json::{Value, json};
use voxel::Dtype;

use crate::program::{Desk, Ended, Image, Started, blobs, staged_files};

/// Every kind of stage, in many small units.
const JOB: &str = "run blobs.zarr --steps 'median size=3 | threshold method=otsu | label connectivity=26' \
                   --chunks 16 --shards none --block 16 --segment 3 --merge-fanout 2 --range-rows 50";

/// Some seconds of work, in blocks of some hundredths.
const SLOW: &str = "run blobs.zarr --steps 'median size=13 | threshold above=100 | label' --chunks 16 --shards none --segment 2 --workers 1";

fn desk() -> Desk {
    desk_of([64, 80, 96])
}

fn desk_of(shape: [usize; 3]) -> Desk {
    let desk = Desk::new();
    Image::new(shape, Dtype::U8, 16).write(&desk, "blobs.zarr", blobs);
    desk
}

/// The answers of a run that nothing troubled.
fn calm(desk: &Desk, job: &str) -> BTreeMap<String, Vec<u8>> {
    desk.run(&format!("{job} -o calm --quiet")).well();
    desk.answers("calm")
}

/// Waits until something is true of a run under way.
#[track_caller]
fn wait_until(run: &Started, what: &str, is_true: impl Fn() -> bool) {
    let start = Instant::now();
    while !is_true() {
        assert!(run.is_running(), "the run ended before {what}");
        assert!(start.elapsed() < Duration::from_secs(60), "no {what} in a minute");
        std::thread::sleep(Duration::from_millis(2));
    }
}

fn count_files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).into_iter().flatten().map(|e| e.unwrap());
    entries.map(|e| if e.file_type().is_ok_and(|t| t.is_dir()) { count_files(&e.path()) } else { 1 }).sum()
}

/// Starts the slow job and waits until some of it is done.
fn half_done(desk: &Desk, output: &str) -> Started {
    let run = desk.start(&format!("{SLOW} -o {output}"));
    let receipts = desk.path(output).join(".voxmill/receipts");
    wait_until(&run, "a receipt", || count_files(&receipts) > 2);
    run
}

fn killed(run: Started) -> Ended {
    run.signal(libc::SIGKILL);
    let ended = run.end();
    assert_eq!(ended.status.code(), None, "{}", ended.stderr);
    ended
}

/// A job with everything a job can leave: what steps save, labels twice, contacts, within a mask.
const MUCH: &str = "run blobs.zarr --steps 'median size=3 save=calm | threshold method=otsu | fill_holes save=filled | \
                    label save=cells contacts=6 | maximum size=3 | objects contacts=18' --mask mask.zarr --levels 2 \
                    --chunks 16 --shards none --block 16 --segment 3 --merge-fanout 2 --range-rows 50";

#[test]
fn killed_at_any_moment() {
    killed_again_and_again(&desk_of([40, 64, 64]), JOB, 25);
}

#[test]
fn killed_at_any_moment_of_a_job_that_leaves_much() {
    let desk = desk_of([32, 48, 48]);
    let ball = |[z, y, x]: [usize; 3]| f64::from(u8::from(z.abs_diff(16) + y.abs_diff(24) + x.abs_diff(24) < 40));
    Image::new([32, 48, 48], Dtype::U8, 16).write(&desk, "mask.zarr", ball);
    killed_again_and_again(&desk, MUCH, 25);
}

/// Kills a job at random moments, each time where the one before had come to, and holds what comes of it in the end
/// against a run that nobody killed.
fn killed_again_and_again(desk: &Desk, job: &str, times: usize) {
    let calm = calm(desk, job);
    let start = Instant::now();
    desk.run(&format!("{job} -o timed --quiet")).well();
    let length = start.elapsed().as_micros() as u64;

    let mut random = 1u64;
    let (mut kills, mut finished) = (0, 0);
    while kills < times {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let run = desk.start(&format!("{job} -o out"));
        std::thread::sleep(Duration::from_micros((random >> 33) % length));
        run.signal(libc::SIGKILL);
        let ended = run.end();
        match ended.status.code() {
            None => kills += 1,
            Some(_) => {
                ended.well();
                finished += 1;
                assert!(desk.answers("out") == calm, "after {kills} kills the answers differ");
                std::fs::remove_dir_all(desk.path("out")).unwrap();
            }
        }
    }
    desk.run(&format!("{job} -o out")).well();
    assert!(desk.answers("out") == calm, "after {kills} kills the answers differ");
    assert_eq!(staged_files(&desk.path("out")), Vec::<PathBuf>::new(), "{finished} runs ended before");
}

#[test]
fn interrupted_and_resumed() {
    let desk = desk();
    let calm = calm(&desk, SLOW);
    let run = half_done(&desk, "out");
    run.signal(libc::SIGINT);
    let ended = run.end();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    let goes_on = "interrupted: what is done is kept; the same command goes on from there";
    assert!(ended.stderr.contains(goes_on), "{}", ended.stderr);
    desk.holds_no_answer("out");
    desk.run(&format!("{SLOW} -o out")).well();
    assert!(desk.answers("out") == calm);
    let resumed = desk.json("out/run.json")["stages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|s| s["resumed"].as_u64().unwrap())
        .sum::<u64>();
    assert!(resumed > 0, "everything was computed again");
}

#[test]
fn resumed_with_other_means() {
    let desk = desk();
    let calm = calm(&desk, SLOW);
    let what = SLOW.replace("--segment 2 --workers 1", "");
    for how in
        ["--memory 200MiB --workers 2", "--workers 4 --block 64 --segment 1 --merge-fanout 3", "--memory 4GiB --keep"]
    {
        killed(half_done(&desk, "out"));
        desk.run(&format!("{what} {how} -o out")).well();
        assert!(desk.answers("out") == calm, "resumed with {how}");
        std::fs::remove_dir_all(desk.path("out")).unwrap();
    }
}

#[test]
fn one_at_a_time() {
    let desk = desk();
    let calm = calm(&desk, SLOW);
    let run = half_done(&desk, "out");
    let busy = "is busy: another voxmill (process ";
    desk.run(&format!("{SLOW} -o out")).badly(2, busy).hints("the same command again: it resumes");
    desk.run(&format!("{SLOW} -o out --overwrite")).badly(2, busy);
    desk.run("clean out").badly(2, busy);
    run.end().well();
    assert!(desk.answers("out") == calm);
}

/// A process that stands still holds its output as one that runs does: nobody can tell whether it will go on.
#[test]
fn a_paused_process_keeps_its_output() {
    let desk = desk();
    let calm = calm(&desk, SLOW);
    let run = half_done(&desk, "out");
    run.pause();
    let before = desk.files("out");
    for how in ["", "--overwrite"] {
        desk.run(&format!("{SLOW} -o out {how}")).badly(2, "is busy: another voxmill (process ").hints("it resumes");
    }
    desk.run("clean out").badly(2, "is busy: another voxmill (process ");
    assert!(desk.files("out") == before, "somebody wrote while the output was held");
    run.signal(libc::SIGCONT);
    run.end().well();
    assert!(desk.answers("out") == calm);
}

#[test]
fn status_and_clean_of_an_unfinished_run() {
    let desk = desk();
    let run = half_done(&desk, "out");
    let status = desk.run("status out --json").well().json();
    assert_eq!(status["finished"], json!(false));
    let first = &status["stages"][0];
    let (done, units) = (first["done"].as_u64().unwrap(), first["units"].as_u64().unwrap());
    assert!(done > 0 && done <= units, "{status}");
    killed(run);
    let text = desk.run("status out").well().stdout;
    assert!(text.contains("unfinished; the command that started it goes on with it"), "{text}");
    assert!(text.contains("not reached") || text.contains(" of "), "{text}");

    // Into the last stages, so that shards are there, too.
    let run = desk.start(&format!("{SLOW} -o out"));
    wait_until(&run, "a shard", || count_files(&desk.path("out/labels.zarr")) > 2);
    killed(run);
    desk.write("out/notes.txt", "mine");
    desk.write("out/labels.zarr/notes.txt", "mine");
    desk.write("out/draft#2", "mine");
    let cleaned = desk.run("clean out").well();
    assert!(cleaned.stderr.contains("the unfinished run and what it had written are removed"), "{}", cleaned.stderr);
    let left: Vec<String> = desk.files("out").into_keys().filter(|name| name != ".voxmill/lock").collect();
    assert_eq!(left, ["draft#2", "labels.zarr/notes.txt", "notes.txt"]);

    std::fs::remove_file(desk.path("out/labels.zarr/notes.txt")).unwrap();
    desk.run("clean out").badly(2, "there is no run in");
}

#[test]
fn after_clean_the_output_is_free() {
    let desk = desk();
    let calm = calm(&desk, SLOW);
    let run = desk.start(&format!("{SLOW} -o out"));
    wait_until(&run, "a shard", || count_files(&desk.path("out/labels.zarr")) > 2);
    killed(run);
    desk.run("clean out").well();
    assert!(!desk.has("out/labels.zarr"), "an empty folder is left");
    desk.run(&format!("{SLOW} -o out")).well();
    assert!(desk.answers("out") == calm);
}

#[test]
fn staged_files_of_others_stay() {
    let desk = desk();
    desk.write("elsewhere/shard#7", "somebody is writing this");
    desk.write("objects.parquet#1", "left by a killed run");
    desk.run(&format!("{JOB} -o .")).well();
    assert!(desk.has("elsewhere/shard#7") && !desk.has("objects.parquet#1"));
}

#[test]
fn a_flipped_bit_in_scratch_is_found() {
    let desk = desk();
    let calm = calm(&desk, JOB);
    desk.run(&format!("{JOB} -o kept --keep --quiet")).well();
    assert!(desk.answers("kept") == calm);
    let plan = desk.json("kept/.voxmill/plan.json");
    let stages = plan["stages"].as_array().unwrap();
    let after = 1 + stages.iter().position(|s| s["kind"]["leaves"].to_string().contains("labels")).unwrap();
    let of_later_stages: Vec<&str> = stages[after..].iter().map(|s| s["fingerprint"].as_str().unwrap()).collect();
    // The run as it stood when the blocks were labelled: later receipts, states, scratch and answers are not there yet.
    let kept: BTreeMap<String, Vec<u8>> = desk
        .files("kept")
        .into_iter()
        .filter(|(name, _)| name.starts_with(".voxmill/") && !name.ends_with("manifest.json"))
        .filter(|(name, _)| !of_later_stages.iter().any(|f| name.contains(f)))
        .collect();
    let labelled = stages[after - 1]["fingerprint"].as_str().unwrap();
    let victim = format!(".voxmill/scratch/{labelled}-objects-2/{:012}", 7);

    let mut found = 0;
    for eighth in 0..8 {
        for (name, bytes) in &kept {
            let mut bytes = bytes.clone();
            if *name == victim {
                let at = bytes.len() * eighth / 8;
                bytes[at] ^= 1 << eighth;
            }
            desk.write(&format!("out/{name}"), bytes);
        }
        let ended = desk.run(&format!("{JOB} -o out"));
        match ended.status.code() {
            // Bytes that nobody needs any more.
            Some(0) => assert!(desk.answers("out") == calm, "a flipped bit came through at {eighth}/8"),
            _ => {
                ended.badly(5, &victim).hints("--overwrite");
                desk.holds_no_answer("out");
                found += 1;
            }
        }
        if eighth == 7 {
            desk.run(&format!("{JOB} -o out --overwrite")).well();
            assert!(desk.answers("out") == calm);
        }
        std::fs::remove_dir_all(desk.path("out")).unwrap();
    }
    assert!(found >= 6, "only {found} of 8 flipped bits were found");
}

#[test]
fn an_image_of_the_run_that_was_deleted_is_not_taken_for_empty() {
    let desk = desk();
    let job = "run blobs.zarr --steps 'threshold above=100 | fill_holes | label' --chunks 16 --shards none --block 16";
    desk.run(&format!("{job} -o kept --keep --quiet")).well();
    let plan = desk.json("kept/.voxmill/plan.json");
    let stages = plan["stages"].as_array().unwrap();
    let filled = stages.iter().position(|s| s["kind"]["kind"] == "relabel").unwrap();
    let later: Vec<&str> = stages[filled + 1..].iter().map(|s| s["fingerprint"].as_str().unwrap()).collect();
    // The run as it stood when the holes were filled. Then a rule of the bucket came by.
    let is_victim = |name: &str| name.contains("/scratch/image-") && name.ends_with("/c/1/2/3");
    let is_later =
        |name: &str| later[1..].iter().any(|f| name.contains(f)) || name.contains(&format!("/receipts/{}/", later[0]));
    let mut deleted = None;
    for (name, bytes) in desk.files("kept") {
        let is_state =
            name.starts_with(".voxmill/") && !name.contains("checkpoint") && !name.ends_with("manifest.json");
        if is_victim(&name) {
            deleted = Some(name);
        } else if is_state && !is_later(&name) {
            desk.write(&format!("out/{name}"), bytes);
        }
    }
    desk.run(&format!("{job} -o out")).badly(5, &deleted.unwrap()).hints("--overwrite");
    desk.holds_no_answer("out");
    desk.run(&format!("{job} -o out --overwrite")).well();
    assert!(desk.answers("out") == desk.answers("kept"));
}

#[test]
fn a_damaged_record_is_named() {
    let desk = desk();
    killed(half_done(&desk, "out"));
    let plan = desk.json("out/.voxmill/plan.json");
    let receipt = format!(".voxmill/receipts/{}/{:012}.json", plan["stages"][0]["fingerprint"].as_str().unwrap(), 0);
    let good = desk.json(&format!("out/{receipt}"));
    desk.write(&format!("out/{receipt}"), "{");
    desk.run(&format!("{SLOW} -o out")).badly(5, &receipt).hints("--overwrite");
    desk.write(&format!("out/{receipt}"), good.to_string());
    desk.write("out/.voxmill/plan.json", Value::Null.to_string());
    desk.run(&format!("{SLOW} -o out")).badly(5, "plan.json").hints("--overwrite");
    desk.run(&format!("{SLOW} -o out --overwrite")).well();
}
