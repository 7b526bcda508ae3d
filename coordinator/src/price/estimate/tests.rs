#![allow(clippy::unwrap_used)]
//! What an estimate must be, whatever its constants: a range that grows with what is asked for, made of its lines.

use std::time::Duration;

use pipeline::array::{Geometry, Pick};
use pipeline::job::{Job, steps_from_line};
use pipeline::plan::Input;
use pipeline::plan::build::{self, InputImage, Wishes};
use pipeline::plan::memory::{Resources, project};
use voxel::{Dtype, Extent};

use super::*;

fn estimate(side: usize, steps: &str, url: &str, fleet: Option<Fleet>, sample: Option<&Sample>) -> Estimate {
    let input = Input {
        url: url.into(),
        pick: Pick::default(),
        fingerprint: "f".into(),
        dtype: Dtype::U16,
        chunk: [128; 3],
        shard: None,
        chunk_bytes: 1 << 22,
        codec: None,
        offset: [0; 3],
    };
    let extent = Extent { shape: [side; 3], planar: false };
    let image = InputImage { input, extent, geometry: Geometry::unknown(false), mask: None, intensity: None };
    let job = Job { steps: steps_from_line(steps).unwrap(), ..Job::new(url) };
    let resources = Resources { memory_bytes: 3 << 30, threads: 2, merge_bytes: None };
    let plan = build::plan(&job, &image, &Wishes::default(), &resources).unwrap();
    let pricing = Pricing { fleet, ..Pricing::default() };
    Estimate::of(&plan, &project(&plan, &resources).unwrap(), url, &pricing, sample)
}

const FLEET: Fleet = Fleet { memory_mib: 3538, instances: 100, timeout: Duration::from_secs(900) };
const STEPS: &str = "gaussian sigma=2 | threshold above=90 | label";

#[test]
fn lines_add_up_and_ranges_are_ranges() {
    let of = estimate(1024, STEPS, "s3://lab/in.zarr", Some(FLEET), None);
    let items: Vec<&str> = of.lines.iter().map(|line| line.item.as_str()).collect();
    assert_eq!(items, ["invocations", "GB-seconds", "GET requests", "PUT and LIST requests", "GB of logs"]);
    for line in &of.lines {
        assert!(0.0 < line.usd.low && line.usd.low <= line.usd.high, "{line:?}");
        assert!((line.usd.high - line.amount.high * line.price).abs() < 1e-12, "{line:?}");
    }
    let sum: f64 = of.lines.iter().map(|line| line.usd.high).sum();
    assert!((of.usd.high - sum).abs() < 1e-9);
    // A gigavoxel through a wide Gaussian: cents, not dollars and not nothing.
    assert!((0.001..1.0).contains(&of.usd.low) && of.usd.high < 10.0, "{of}");
    assert!(of.to_string().contains("by list prices of 2026-09 in us-east-1"), "{of}");
}

#[test]
fn more_voxels_and_more_work_cost_more() {
    let small = estimate(512, STEPS, "s3://lab/in.zarr", Some(FLEET), None);
    let large = estimate(1024, STEPS, "s3://lab/in.zarr", Some(FLEET), None);
    // Enough to show: what computes less than it waits for requests costs nothing more.
    let more = estimate(1024, &format!("median size=25 | {STEPS}"), "s3://lab/in.zarr", Some(FLEET), None);
    for (less, more) in [(&small, &large), (&large, &more)] {
        assert!(less.usd.low < more.usd.low && less.usd.high < more.usd.high, "{less}{more}");
        assert!(less.cpu_seconds.low < more.cpu_seconds.low);
    }
}

#[test]
fn a_sample_narrows_the_range_and_moves_it() {
    let sample = |factor| Sample {
        voxels: 1 << 22,
        blocks: 2,
        cpu_seconds: factor,
        expected_seconds: 1.0,
        factor,
        voxels_per_object: Some(100_000),
    };
    let without = estimate(1024, STEPS, "s3://lab/in.zarr", Some(FLEET), None).cpu_seconds;
    let with = |factor| estimate(1024, STEPS, "s3://lab/in.zarr", Some(FLEET), Some(&sample(factor))).cpu_seconds;
    let width = |range: Between| range.high / range.low;
    assert!(width(with(1.0)) < width(without));
    // Nearly all of it goes with the voxels.
    let times = with(3.0).low / with(1.0).low;
    assert!((2.5..3.001).contains(&times), "{times}");
}

#[test]
fn here_only_requests_to_buckets_are_paid_for() {
    assert!(!estimate(512, STEPS, "/data/in.zarr", None, None).is_charged());
    let of = estimate(512, STEPS, "s3://lab/in.zarr", None, None);
    let items: Vec<&str> = of.lines.iter().map(|line| line.item.as_str()).collect();
    assert_eq!(items, ["GET requests", "PUT and LIST requests"]);
    assert_eq!((of.gb_seconds, of.log_bytes), (None, Between::default()));
}
