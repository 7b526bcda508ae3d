use std::collections::{BTreeMap, BTreeSet};

use serde_json::Value;

use super::cloud::Cloud;

/// The volume of the demo: micro-CT of bone.
pub(super) const BONE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/bone.tif");

/// What every job is cut into here: many small units, so that every stage has some for each instance.
pub(super) const CUT: &str =
    "--chunks 16 --shards none --block 32 --segment 2 --merge-fanout 2 --range-rows 40 --quiet";

/// Both kinds of barrier, holes, a mask (INPUT is the image itself), saved images, contacts.
const JOBS: [&str; 4] = [
    "--steps 'gaussian sigma=1 save=smooth | threshold method=otsu | fill_holes | erode ball=1 | \
     label connectivity=26 contacts=26 min_voxels=3 save=parts' --intensity smooth --histogram smooth",
    "--steps 'median size=3 | threshold percentile=80 | label' --percentiles exact --mask INPUT",
    "--steps '' --percentiles exact",
    "--steps 'mean size=3 | cast dtype=uint16' --region 3:50,:,5:",
];

/// The command that runs a job.
fn run(input: &str, output: &str, job: &str, more: &str) -> String {
    format!("run {input} -o {output} {} {CUT} {more}", job.replace("INPUT", input))
}

/// The answers of a job on a disk, by threads of one process.
pub(super) fn on_disk(cloud: &Cloud, input: &str, job: &str) -> BTreeMap<String, Vec<u8>> {
    cloud.run(&run(input, "calm", job, "--overwrite")).well();
    cloud.desk.answers("calm")
}

#[track_caller]
pub(super) fn assert_same(calm: &BTreeMap<String, Vec<u8>>, found: &BTreeMap<String, Vec<u8>>, what: &str) {
    let names = |answers: &BTreeMap<String, Vec<u8>>| answers.keys().cloned().collect::<BTreeSet<String>>();
    assert_eq!(names(calm), names(found), "{what}");
    for (name, bytes) in calm {
        assert!(found[name] == *bytes, "{what}: {name} differs");
    }
}

#[test]
#[ignore = "needs localstack/up"]
fn a_run_on_s3_and_lambda_gives_the_bytes_of_one_on_a_disk() {
    let cloud = Cloud::new("same");
    cloud.run(&format!("import {BONE} bone.zarr --chunks 16 --quiet")).well();
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 16 --quiet")).well();
    for (i, job) in JOBS.iter().enumerate() {
        let calm = on_disk(&cloud, "bone.zarr", job);
        assert!(calm.len() > usize::from(i != 2), "{job}");
        cloud.run(&run("@/bone.zarr", &format!("@/local-{i}"), job, "")).well();
        assert_same(&calm, &cloud.answers(&format!("local-{i}")), &format!("{job}, threads over S3"));
        let before = cloud.log().len();
        let lambda = "--executor lambda --workers 16";
        cloud.run(&run("@/bone.zarr", &format!("@/lambda-{i}"), job, lambda)).well();
        assert_same(&calm, &cloud.answers(&format!("lambda-{i}")), &format!("{job}, Lambda"));
        the_function_did_the_work(&cloud, &cloud.log()[before..], &format!("lambda-{i}"));
        cloud.run(&format!("verify @/lambda-{i} --quiet")).well();
    }
    assert!(cloud.store("lambda-0").can_list());
}

/// The same without a look at what the endpoint says of it: `localstack/second-judge` puts another in its place.
#[test]
#[ignore = "needs localstack/up"]
fn whoever_serves_the_function_the_bytes_are_the_same() {
    let cloud = Cloud::new("served");
    cloud.run(&format!("import {BONE} bone.zarr --chunks 16 --quiet")).well();
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 16 --quiet")).well();
    let calm = on_disk(&cloud, "bone.zarr", JOBS[1]);
    cloud.run(&run("@/bone.zarr", "@/out", JOBS[1], "--executor lambda --workers 2")).well();
    assert_same(&calm, &cloud.answers("out"), "another server");
    cloud
        .run("run @/bone.zarr -o /tmp/out --steps 'threshold above=120' --executor lambda --quiet")
        .badly(2, "the function may not write to /tmp/out");
}

/// The log of the endpoint has every attempt of the run, and the coordinator read no voxel.
fn the_function_did_the_work(cloud: &Cloud, log: &[Value], output: &str) {
    let report = cloud.report(output);
    let attempts = report["attempts"].as_u64().unwrap();
    assert!(attempts > 10, "{report}");
    // One more asks whether the function could.
    assert_eq!(log.len() as u64, attempts + 1, "{output}");
    assert!(log.iter().all(|call| call["outcome"] == "ok"), "{log:?}");
    let instances: BTreeSet<&str> = log.iter().filter_map(|call| call["instance"].as_str()).collect();
    assert!(instances.len() >= 4, "{output}: the work of {attempts} attempts was done by {instances:?}");
    let memory = |name: &str| log.iter().map(|call| call[name].as_u64().unwrap()).max().unwrap();
    assert!(memory("max_memory_mb") <= memory("memory_mb"), "{output}");
    let read = &report["requests"]["input"];
    assert!(read["gets"].as_u64().unwrap() < 20 && read["bytes_in"].as_u64().unwrap() < 20_000, "{read}");
}

#[test]
#[ignore = "needs localstack/up"]
fn sixteen_instances_work_at_once() {
    let cloud = Cloud::new("sixteen");
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 16 --quiet")).well();
    let job = "--steps 'median size=9' --chunks 16 --shards none --block 16 --segment 8 --quiet";
    cloud.run(&format!("run @/bone.zarr -o @/out {job} --executor lambda --workers 16")).well();
    let spans: Vec<(u64, u64)> =
        cloud.log().iter().map(|c| (c["start_ms"].as_u64().unwrap(), c["end_ms"].as_u64().unwrap())).collect();
    let at_once = spans.iter().map(|(at, _)| spans.iter().filter(|(s, e)| s <= at && at < e).count()).max().unwrap();
    assert!(at_once >= 12, "{at_once} at once");
}

#[test]
#[ignore = "needs localstack/up"]
fn other_commands_work_on_buckets_too() {
    let cloud = Cloud::new("commands");
    cloud.run(&format!("import {BONE} @/bone.zarr --chunks 32 --quiet")).well();
    assert_eq!(cloud.run("info @/bone.zarr --json").well().json()["dtype"], "uint8");
    cloud.run("slice @/bone.zarr -o plane.png").well();
    cloud.run("export @/bone.zarr back.tif --quiet").well();
    cloud.run("pyramid @/bone.zarr --levels 3 --quiet").well();
    cloud.run("run @/bone.zarr -o @/out --steps 'threshold above=120 | label' --keep --into-input --quiet").well();
    assert_eq!(cloud.run("status @/out --json").well().json()["finished"], true);
    let csv = cloud.run("table @/out --csv").well().stdout;
    assert!(csv.lines().count() > 10 && csv.starts_with("label,voxels,"), "{csv}");
    cloud.run("table @/out --csv --to local.csv").well();
    assert_eq!(std::fs::read_to_string(cloud.desk.path("local.csv")).unwrap(), csv);
    cloud.run("table @/out --name nothing").badly(2, "there is no table nothing.parquet").hints("--name objects");
    cloud.run("replay @/out 1:end").well();
    cloud.run("verify @/out --quiet").well();
    // The same command again finds it done: the versions that were read are those that are listed.
    let again = cloud.run("run @/bone.zarr -o @/out --steps 'threshold above=120 | label' --keep").well();
    assert!(again.stderr.contains("already done"), "{}", again.stderr);
    cloud.run("clean @/out").well();
    assert!(cloud.store("out").parent().is_some());
    assert!(!cloud.answers("out").is_empty());
}
