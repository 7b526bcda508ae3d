#![allow(clippy::unwrap_used)]
//! What a job becomes: which stages, where the barriers are, and that nothing is planned that can't run.

use super::build::{InputImage, Wishes, plan};
use super::memory::{Resources, project};
use super::*;
use crate::Kind;
use crate::job::steps_from_line;
use crate::step::PerAxis;

const PLENTY: Resources = Resources { memory_bytes: 4 << 30, threads: 2, merge_bytes: None };

fn image(shape: [usize; 3], dtype: Dtype) -> InputImage {
    let input = Input {
        url: "/data/in.zarr".into(),
        pick: Pick::default(),
        fingerprint: "f".into(),
        dtype,
        chunk: [64; 3],
        chunk_bytes: (64 * 64 * 64 * dtype.size()) as u64,
        offset: [0; 3],
    };
    let planar = shape[0] == 1;
    InputImage { input, extent: Extent { shape, planar }, axes: Vec::new() }
}

fn job(steps: &str) -> Job {
    Job { steps: steps_from_line(steps).unwrap(), ..Job::new("in.zarr") }
}

fn stages(steps: &str, dtype: Dtype) -> Vec<String> {
    let plan = plan(&job(steps), &image([300, 300, 300], dtype), &Wishes::default(), &PLENTY).unwrap();
    plan.stages.iter().map(|stage| plan.stage_name(stage)).collect()
}

#[test]
fn filters_are_one_pass() {
    assert_eq!(
        stages("gaussian sigma=1 | median size=3 | cast dtype=uint8", Dtype::U8),
        ["gaussian + median + cast + histogram", "publish"]
    );
}

#[test]
fn measuring_wide_types_takes_a_pass_for_bins_and_one_for_every_16_bits_of_a_percentile() {
    assert_eq!(stages("", Dtype::U16), ["histogram", "publish"]);
    assert_eq!(stages("", Dtype::F32), ["histogram", "bins + ranks", "publish"]);
    assert_eq!(stages("", Dtype::F64), ["histogram", "bins + ranks", "ranks", "ranks", "publish"]);
}

#[test]
fn a_chosen_threshold_waits_for_its_histogram() {
    // On the input itself, the tally of the input is the tally the threshold waits for.
    let otsu = stages("threshold method=otsu", Dtype::U8);
    assert_eq!(otsu, ["histogram", "threshold", "publish"]);
    let float = stages("gaussian sigma=3 | threshold method=otsu", Dtype::U8);
    assert_eq!(float, ["gaussian + histogram", "bins", "threshold", "publish"]);
    let percentile = stages("threshold percentile=90", Dtype::F32);
    assert_eq!(percentile, ["histogram", "ranks", "threshold", "publish"]);
    // Cheap steps are computed again rather than kept.
    let again = stages("cast dtype=uint16 | threshold method=otsu", Dtype::U8);
    assert_eq!(again, ["cast + histogram", "cast + threshold", "publish"]);
}

#[test]
fn labels_go_up_and_down_the_tree() {
    let image = image([300, 300, 300], Dtype::U8);
    let mut job = job("threshold above=3 | label");
    job.write.shards = crate::job::Shards::None;
    let wishes = Wishes {
        block: Some([128; 3]),
        merge: MergeSettings { fanout: 2, ..MergeSettings::default() },
        ..Wishes::default()
    };
    let plan = plan(&job, &image, &wishes, &PLENTY).unwrap();
    let names: Vec<String> = plan.stages.iter().map(|stage| plan.stage_name(stage)).collect();
    assert_eq!(
        names,
        [
            "threshold + label + histogram",
            "seams",
            "join level 1",
            "join level 2",
            "rank",
            "hand down level 2",
            "hand down level 1",
            "relabel",
            "table",
            "publish"
        ]
    );
    let mut fingerprints: Vec<&str> = plan.stages.iter().map(|s| s.fingerprint.as_str()).collect();
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), plan.stages.len());
}

#[test]
fn how_a_job_is_run_is_not_who_it_is() {
    let image = image([300, 300, 300], Dtype::U8);
    let one = plan(&job("label"), &image, &Wishes::default(), &PLENTY).unwrap();
    let wishes = Wishes {
        segment: Some(3),
        merge: MergeSettings { fanout: 2, ..MergeSettings::default() },
        ..Wishes::default()
    };
    let less = Resources { memory_bytes: 800 << 20, threads: 1, merge_bytes: Some(1) };
    let other = plan(&Job { output: Some("elsewhere".into()), ..job("label") }, &image, &wishes, &less).unwrap();
    assert_eq!(one.identity, other.identity);
    assert_ne!(one.id, other.id);
    assert_eq!(one.output.unwrap().spec, other.output.unwrap().spec);
    let third = plan(&job("label connectivity=26"), &image, &Wishes::default(), &PLENTY).unwrap();
    assert_ne!(one.identity, third.identity);
}

#[test]
fn blocks_are_whole_objects_within_memory() {
    let image = image([1000, 1000, 1000], Dtype::U16);
    for mib in [200, 400, 800, 1600] {
        let resources = Resources { memory_bytes: mib << 20, threads: 2, merge_bytes: None };
        let mut job = job("gaussian sigma=2 | threshold above=9 | label");
        job.write = crate::job::Write { chunks: PerAxis::All(32), ..crate::job::Write::default() };
        let plan = plan(&job, &image, &Wishes::default(), &resources).unwrap();
        assert!(plan.grid.block.iter().all(|side| side % 64 == 0), "{:?}", plan.grid.block);
        assert!(project(&plan, &resources).unwrap().bytes <= resources.memory_bytes);
    }
}

#[test]
fn what_does_not_fit_is_refused_with_numbers_and_a_way_out() {
    let little = Resources { memory_bytes: 64 << 20, threads: 2, merge_bytes: None };
    let error =
        plan(&job("gaussian sigma=2"), &image([300, 300, 300], Dtype::U8), &Wishes::default(), &little).unwrap_err();
    assert_eq!(error.kind, Kind::Invalid);
    assert!(error.message.contains("--memory is 64 MiB"), "{error}");
    assert!(error.hint.unwrap().contains("--shards none"));
}
