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
    // The first call asks whether the function could; it belongs to no attempt.
    let billed: u64 = log[1..].iter().map(|call| call["billed_ms"].as_u64().unwrap()).sum();
    let actual = &report["actual"];
    assert_eq!(actual["billed_ms"], billed, "{report:#}");
}
