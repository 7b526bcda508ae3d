use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::cloud::Cloud;
use super::same::{BONE, CUT, assert_same, on_disk};
use crate::program::Started;

/// Every kind of stage.
const JOB: &str = "--steps 'median size=3 | threshold method=otsu | label connectivity=26'";

/// A cloud with the volume of the demo on it, there and on the disk.
fn cloud(test: &str) -> Cloud {
    let cloud = Cloud::new(test);
    cloud.run(&format!("import {BONE} bone.zarr --chunks 16 --quiet")).well();
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 16 --quiet")).well();
    cloud
}

fn lambda(more: &str) -> String {
    format!("run @/bone.zarr -o @/out {JOB} {CUT} --executor lambda {more}")
}

/// Runs the job under these faults, and asserts that they struck, how often, and that the bytes are the same.
fn troubled(test: &str, faults: &Value, kind: &str, least: u64, more: &str) {
    let cloud = cloud(test);
    let calm = on_disk(&cloud, "bone.zarr", JOB);
    cloud.faults(faults);
    cloud.run(&lambda(more)).well();
    let struck = cloud.struck()[kind].as_u64().unwrap_or(0);
    assert!(struck >= least, "{kind} struck {struck} times");
    cloud.faults(&json!({}));
    assert_same(&calm, &cloud.answers("out"), test);
    cloud.run("verify @/out --quiet").well();
}

#[test]
#[ignore = "needs localstack/up"]
fn functions_that_are_killed_do_not_show() {
    troubled("killed", &json!({ "seed": 1, "kill": { "one_in": 6 } }), "kill", 3, "--workers 4");
}

#[test]
#[ignore = "needs localstack/up"]
fn replies_that_are_lost_do_not_show() {
    let faults = json!({ "seed": 2, "drop_after": { "one_in": 5 }, "drop_before": { "one_in": 9 } });
    troubled("lost", &faults, "drop_after", 3, "--workers 4");
}

#[test]
#[ignore = "needs localstack/up"]
fn bad_gateways_and_errors_do_not_show() {
    let faults = json!({ "seed": 3, "bad_gateway": { "one_in": 9 }, "server_error": { "one_in": 12 } });
    troubled("gateway", &faults, "bad_gateway", 3, "--workers 4");
}

#[test]
#[ignore = "needs localstack/up"]
fn being_throttled_to_one_does_not_show() {
    troubled("throttled", &json!({ "concurrency": 1 }), "throttle", 0, "--workers 3");
    let faults = json!({ "seed": 4, "throttle": { "one_in": 4, "reason": "CallerRateLimitExceeded" } });
    troubled("too-fast", &faults, "throttle", 3, "--workers 4");
}

/// The store is gone for some seconds in the middle of a run.
#[test]
#[ignore = "needs localstack/up"]
fn a_store_that_is_restarted_does_not_show() {
    let cloud = cloud("restarted");
    let calm = on_disk(&cloud, "bone.zarr", JOB);
    let run = cloud.desk.start(&cloud.line(&lambda("--workers 4")));
    wait_for_attempts(&cloud, &run, 12);
    cloud.service("s3", "restart");
    let ended = run.end();
    if ended.status.code() != Some(0) {
        // Away for longer than anybody waits: the same command goes on.
        assert_eq!(ended.status.code(), Some(4), "{}", ended.stderr);
        cloud.run(&lambda("--workers 4")).well();
    }
    assert_same(&calm, &cloud.answers("out"), "restarted");
}

/// The bucket is deleted under a run: what is not there is not taken for fill value.
#[test]
#[ignore = "needs localstack/up"]
fn a_bucket_that_goes_ends_a_run_with_a_sentence() {
    let cloud = Cloud::new("gone");
    let bucket = format!("gone-{}", std::process::id());
    cloud.bucket("PUT", &bucket);
    cloud.run(&format!("import {BONE} s3://{bucket}/bone.zarr --chunks 16 --quiet")).well();
    let line = format!(
        "run s3://{bucket}/bone.zarr -o s3://{bucket}/out --steps 'median size=13' --chunks 16 --shards none --block 16 \
         --segment 2 --workers 1 --quiet"
    );
    let run = cloud.desk.start(&line);
    std::thread::sleep(Duration::from_millis(1500));
    assert!(run.is_running(), "the run was too fast to lose its bucket");
    cloud.bucket("DELETE", &bucket);
    let ended = run.end();
    // Some servers make a bucket that they miss when something is written to it; then it is receipts that are missed.
    match ended.status.code() {
        Some(4) => ended.badly(4, "has no receipt"),
        _ => ended.badly(2, &format!("there is no bucket s3://{bucket}")),
    };
}

/// The coordinator dies; another goes on with the run, by threads of its own.
#[test]
#[ignore = "needs localstack/up"]
fn a_coordinator_that_is_killed_does_not_show() {
    let cloud = cloud("coordinator");
    let calm = on_disk(&cloud, "bone.zarr", JOB);
    let run = cloud.desk.start(&cloud.line(&lambda("--workers 2")));
    wait_for_attempts(&cloud, &run, 14);
    run.signal(libc::SIGKILL);
    run.end();
    cloud.run(&format!("run @/bone.zarr -o @/out {JOB} {CUT}")).well();
    assert_same(&calm, &cloud.answers("out"), "killed coordinator");
}

#[test]
#[ignore = "needs localstack/up"]
fn a_run_that_is_interrupted_goes_on() {
    let cloud = cloud("interrupted");
    let calm = on_disk(&cloud, "bone.zarr", JOB);
    let run = cloud.desk.start(&cloud.line(&lambda("--workers 2")));
    wait_for_attempts(&cloud, &run, 5);
    run.signal(libc::SIGINT);
    let ended = run.end();
    assert_eq!(ended.status.code(), Some(130), "{}", ended.stderr);
    cloud.run(&lambda("--workers 2")).well();
    assert_same(&calm, &cloud.answers("out"), "interrupted");
    let resumed: u64 =
        cloud.report("out")["stages"].as_array().unwrap().iter().filter_map(|s| s["resumed"].as_u64()).sum();
    assert!(resumed > 0);
}

/// Waits until so many attempts have come to an end.
fn wait_for_attempts(cloud: &Cloud, run: &Started, attempts: usize) {
    let start = Instant::now();
    while cloud.log().len() < attempts {
        assert!(run.is_running(), "the run ended too early");
        assert!(start.elapsed() < Duration::from_secs(120), "too slow");
        std::thread::sleep(Duration::from_millis(20));
    }
}
