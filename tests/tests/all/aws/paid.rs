use serde_json::Value;

use super::cloud::Cloud;
use super::same::{BONE, CUT};

/// What AWS bills, by its own log, is what run.json says.
#[test]
#[ignore = "needs localstack/up"]
fn what_was_billed_is_in_the_report() {
    let cloud = Cloud::new("billed");
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 16 --quiet")).well();
    cloud
        .run(&format!("run @/bone.zarr -o @/out --steps 'threshold above=120 | label' {CUT} --executor lambda"))
        .well();
    let (log, report) = (cloud.log(), cloud.report("out"));
    let billed: u64 = log.iter().map(|call| call["billed_ms"].as_u64().unwrap()).sum();
    let actual = &report["actual"];
    assert_eq!(actual["billed_ms"], billed, "{report:#}");
    assert_eq!(actual["invocations"], log.len());
    // Each of them by itself, too, with what it held and whether it was started for it.
    let attempts = actual["attempts"].as_array().unwrap();
    assert_eq!(attempts.len(), log.len());
    assert_eq!(attempts[0]["task"], "check");
    let sorted = |of: &mut dyn Iterator<Item = (u64, u64)>| {
        let mut all: Vec<(u64, u64)> = of.collect();
        all.sort_unstable();
        all
    };
    let number = |value: &Value| value.as_u64().unwrap();
    let said = sorted(&mut attempts.iter().map(|a| (number(&a["billed_ms"]), number(&a["peak_mib"]))));
    let ran = sorted(&mut log.iter().map(|c| (number(&c["billed_ms"]), number(&c["max_memory_mb"]))));
    assert_eq!(said, ran);
    assert_eq!(actual["cold_starts"], log.iter().filter(|call| call["cold"] == true).count());
    // What was estimated lies around what it came to.
    let usd = actual["usd"].as_f64().unwrap();
    let between = &report["estimate"]["usd"];
    assert!(between["low"].as_f64().unwrap() <= usd && usd <= between["high"].as_f64().unwrap(), "{usd} {between}");
}

/// A run that may not cost what it would stops before, says so, and goes on where it may.
#[test]
#[ignore = "needs localstack/up"]
fn a_run_stops_before_its_limit() {
    let cloud = Cloud::new("limit");
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 16 --quiet")).well();
    let line = format!("run @/bone.zarr -o @/out --steps 'threshold above=120' {CUT} --executor lambda --workers 2");
    // An attempt at its worst is 900 s of a GiB, a cent and a half; one of these takes a ten thousandth of it.
    cloud
        .run(&format!("{line} --max-usd 0.016"))
        .badly(3, "of --max-usd")
        .hints("a higher --max-usd goes on from here");
    let first = cloud.log().len();
    assert!(first > 1, "it may spend something");
    cloud.run(&format!("{line} --max-usd 5")).well();
    cloud.run("verify @/out --quiet").well();
}
