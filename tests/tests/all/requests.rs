//! What a plan says it will ask of the store is what a calm run asks: of passes that filter and measure the very numbers,
//! of merges of labels numbers within the stated range.
//!
//! Coordinator and workers get a store each over one bucket in memory, so that each is counted alone. The input lies on
//! a disk, in chunks that blocks don't coincide with unless a test says so.

use std::sync::Arc;

use coordinator::dispatch::{self, Dispatch};
use coordinator::executor::{Executor, Local};
use coordinator::hold::Hold;
use coordinator::price::Budget;
use coordinator::progress::Progress;
use object_store::memory::InMemory;
use pipeline::fence::{Clock, Moment};
use pipeline::job::Job;
use pipeline::plan::memory::{self, Resources};
use pipeline::plan::requests::{Asked, Objects, PlanRequests, Span, Terms};
use pipeline::plan::{Input, Intensity, Plan};
use pipeline::publish;
use pipeline::store::{Requests, Store, Stores};
use pipeline::task::Worker;
use voxel::{Dtype, Extent};

use crate::support::image::{Image, Look, Recipe, sheet, volume};
use crate::support::lab::{Cut, Lab};
use crate::support::wait;

const BOUNDS: Terms = Terms { processes: 1, objects: Objects::Any };

/// What a run asked for.
struct Counted {
    input: Requests,
    workers: Requests,
    coordinator: Requests,
    end: Requests,
}

fn since(before: Requests, after: Requests) -> Requests {
    Requests {
        gets: after.gets - before.gets,
        puts: after.puts - before.puts,
        lists: after.lists - before.lists,
        deletes: after.deletes - before.deletes,
        bytes_in: after.bytes_in - before.bytes_in,
        bytes_out: after.bytes_out - before.bytes_out,
    }
}

/// Runs a plan in a bucket and counts.
fn run(plan: &Plan, resources: &Resources) -> Counted {
    let plan = Arc::new(plan.clone());
    wait(async {
        let bucket = Arc::new(InMemory::new());
        let [workers, coordinator] = [(); 2].map(|()| Store::over(Arc::clone(&bucket) as _, "memory"));
        plan.create(&coordinator).await.unwrap();
        let clock = Clock::new(|| Moment(0));
        let worker = Worker::open(&Stores::default(), workers.clone(), Arc::clone(&plan), resources, clock.clone())
            .await
            .unwrap();
        let sources = worker.sources().clone();
        let opened = sources.input.store().requests();
        let before = coordinator.requests();
        let executor: Arc<dyn Executor> = Arc::new(Local::new(worker, Arc::new(Progress::new(true))));
        let ended = dispatch::run(&Dispatch {
            plan: &plan,
            store: &coordinator,
            executor: &executor,
            progress: &Progress::new(true),
            clock: &clock,
            hold: &Hold::alone(1),
            budget: &Budget::unlimited(),
            failures_most: 0,
            seed: 1,
        })
        .await;
        ended.state.unwrap();
        let input = since(opened, sources.input.store().requests());
        let dispatched = since(before, coordinator.requests());
        let units: Vec<u64> = ended.stages.iter().map(|stage| stage.units).collect();
        let before = coordinator.requests();
        publish::fold(&coordinator, &plan, &units, &sources, false).await.unwrap();
        let end = since(before, coordinator.requests());
        Counted { input, workers: workers.requests(), coordinator: dispatched, end }
    })
}

fn asked(plan: &Plan, resources: &Resources, terms: Terms) -> PlanRequests {
    PlanRequests::of(plan, &memory::project(plan, resources).unwrap(), terms)
}

/// The plan's numbers are known, and those that a run counts.
fn assert_equal(what: &str, planned: Asked, made: Requests) {
    for (kind, planned, made) in [("GET", planned.gets, made.gets), ("PUT", planned.puts, made.puts)] {
        assert_eq!(planned, Span::exact(made), "{what}: {kind}");
    }
    assert_bytes(what, planned, made);
}

fn assert_within(what: &str, planned: Asked, made: Requests) {
    for (kind, planned, made) in [("GET", planned.gets, made.gets), ("PUT", planned.puts, made.puts)] {
        assert!(planned.contains(made), "{what}: {made} {kind}, but {planned:?} were planned");
    }
    assert_bytes(what, planned, made);
}

fn assert_bytes(what: &str, planned: Asked, made: Requests) {
    assert!(planned.bytes_in.high + (1 << 20) >= made.bytes_in, "{what}: {made:?}, but {planned:?}");
    assert!(planned.bytes_out.high + (1 << 20) >= made.bytes_out, "{what}: {made:?}, but {planned:?}");
}

fn resources(cut: &Cut) -> Resources {
    cut.settings(false).resources
}

fn check(lab: &Lab, job: &Job, cut: &Cut, exact: bool) {
    let (plan, resources) = (lab.plan(job, cut), resources(cut));
    let (planned, made) = (asked(&plan, &resources, BOUNDS), run(&plan, &resources));
    let sum = |of: fn(&pipeline::plan::requests::StageRequests) -> Asked| planned.stages.iter().map(of).sum::<Asked>();
    let steps = job.canonical_json();
    let assert = if exact { assert_equal } else { assert_within };
    assert(&format!("input of {steps}"), sum(|stage| stage.input), made.input);
    assert(&format!("workers of {steps}"), sum(|stage| stage.output), made.workers);
    // Before the first stage, checkpoints are looked for; the rest of the start is another's.
    assert(&format!("coordinator of {steps}"), sum(|stage| stage.coordinator), made.coordinator);
    let end = Asked { puts: Span::exact(1), ..planned.end };
    assert(&format!("end of {steps}"), end, made.end);
}

fn u8_image(extent: Extent) -> Image {
    Recipe { extent, dtype: Dtype::U8, look: Look::Noise, gaps: false, seed: 5 }.image()
}

#[test]
fn filters_and_measures_ask_for_what_the_plan_says() {
    let image = u8_image(volume([26, 27, 29]));
    let lab = Lab::with_chunks(&image, [9, 9, 5], None);
    let steps =
        ["", "median size=3", "gaussian sigma=1 | threshold above=90", "dilate ball=2 save=grown | median size=3"];
    let one_thread = Cut { threads: 1, segment: Some(1), ..Cut::blocks([9, 9, 10]) };
    for cut in [Cut::whole(), Cut { segment: Some(3), ..Cut::blocks([9, 9, 10]) }, one_thread] {
        for steps in steps {
            check(&lab, &lab.job(steps, [9, 9, 10]), &cut, true);
        }
    }
    // Where a layer of blocks is kept and not all of the image, some of it may have to be read again.
    let lab = Lab::with(&image);
    for steps in &steps[1..] {
        check(&lab, &lab.job(steps, [8, 9, 10]), &Cut::blocks([8, 9, 10]), false);
    }
}

#[test]
fn wide_images_are_measured_by_as_many_requests() {
    for dtype in [Dtype::U16, Dtype::I16, Dtype::F32] {
        let image = Recipe { extent: volume([20, 21, 22]), dtype, look: Look::Blobs, gaps: false, seed: 5 }.image();
        let lab = Lab::with_chunks(&image, [10, 7, 11], None);
        let cut = Cut { segment: Some(2), ..Cut::blocks([10, 7, 11]) };
        // Of wider types it depends on the values how often they are counted.
        check(&lab, &lab.job("", [10, 7, 11]), &cut, dtype.size() <= 2);
        check(&lab, &lab.job("median size=3", [10, 7, 11]), &cut, true);
    }
}

#[test]
fn sheets_and_pyramids_and_shards_are_counted() {
    let image = u8_image(sheet([90, 80]));
    let lab = Lab::with(&image);
    let mut job = lab.job("mean size=3", [1, 16, 16]);
    job.write.levels = pipeline::pyramid::Levels::Count(3);
    check(&lab, &job, &Cut::blocks([1, 32, 32]), true);
    // How a shard's chunks lie, and which are there, is not known.
    let job = lab.sharded(job, [1, 2, 2]);
    check(&lab, &job, &Cut::blocks([1, 32, 32]), false);
    let image = u8_image(volume([24, 24, 24]));
    let lab = Lab::with_chunks(&image, [6, 6, 6], Some([12, 12, 12]));
    check(&lab, &lab.job("median size=3", [8, 8, 8]), &Cut::blocks([8, 8, 8]), false);
}

#[test]
fn labels_stay_in_the_stated_range() {
    let cuts = [Cut::whole(), Cut::blocks([8, 9, 10]), Cut { merge_bytes: None, ..Cut::blocks([8, 9, 10]) }];
    for look in Look::ALL {
        let image = Recipe { extent: volume([26, 27, 29]), dtype: Dtype::U8, look, gaps: false, seed: 11 }.image();
        let lab = Lab::with(&image);
        for steps in [
            "threshold above=100 | label connectivity=26",
            "median size=3 | threshold above=100 | fill_holes | label contacts=6 min_voxels=2",
            "objects contacts=6",
        ] {
            for cut in &cuts {
                check(&lab, &lab.job(steps, [8, 9, 10]), cut, false);
            }
        }
    }
}

/// On a disk, coordinator and workers are one process, and its report has what all of it has asked by then.
#[test]
fn a_whole_run_on_a_disk_asks_for_what_the_plan_says() {
    let lab = Lab::with_chunks(&u8_image(volume([26, 27, 29])), [9, 9, 5], None);
    let cut = Cut::blocks([9, 9, 10]);
    for steps in ["", "gaussian sigma=1 | threshold above=90"] {
        let (job, output) = (lab.job(steps, [9, 9, 10]), lab.new_output());
        let plan = lab.plan(&job, &cut);
        let planned = asked(&plan, &resources(&cut), BOUNDS);
        lab.attempt(&job, &cut, &output).unwrap();
        let report: serde_json::Value =
            serde_json::from_slice(&std::fs::read(output.join("run.json")).unwrap()).unwrap();
        let made: Requests = serde_json::from_value(report["requests"]["output"].clone()).unwrap();
        let expected: Asked = planned.stages.iter().map(|stage| stage.output + stage.coordinator).sum();
        let expected = expected + planned.start;
        assert_equal(steps, expected, made);
        assert_eq!((expected.lists, expected.deletes), (Span::exact(made.lists), Span::exact(made.deletes)));
    }
}

/// Workers that share nothing read a chunk of a halo each for itself.
#[test]
fn many_processes_read_no_less() {
    let lab = Lab::with_chunks(&u8_image(volume([26, 27, 29])), [9, 9, 5], None);
    let cut = Cut::blocks([9, 9, 10]);
    let (plan, resources) = (lab.plan(&lab.job("median size=3", [9, 9, 10]), &cut), resources(&cut));
    let of = |processes| asked(&plan, &resources, Terms { processes, ..BOUNDS }).stages[0].input.gets;
    assert!(of(1).is_exact());
    assert_eq!(of(16).low, of(1).low);
    assert!(of(16).high > of(1).high);
}

/// The numbers don't grow with what is held, and an image of petavoxels is counted at once.
#[test]
fn a_petavoxel_is_counted_by_arithmetic() {
    let lab = Lab::with(&u8_image(volume([26, 27, 29])));
    let mut plan = lab.plan(&lab.job("median size=3", [8, 9, 10]), &Cut::blocks([8, 9, 10]));
    let side = 100_000;
    plan.extent = volume([side; 3]);
    plan.grid.extent = plan.extent;
    plan.grid.block = [256; 3];
    plan.input = Input { chunk: [128; 3], chunk_bytes: 1 << 21, ..plan.input.clone() };
    assert!(matches!(plan.intensity, Intensity::Image(_)));
    for stored in &mut plan.images {
        stored.spec.extent = plan.extent;
        (stored.spec.chunks, stored.spec.shards) = ([128; 3], None);
        stored.levels.truncate(1);
        stored.levels[0].extent = plan.extent;
    }
    let resources = Resources { memory_bytes: 64 << 30, threads: 4, merge_bytes: None };
    let asked = asked(&plan, &resources, BOUNDS);
    let objects = (side as u64).div_ceil(128).pow(3);
    assert!(asked.stages[0].output.puts.low > objects);
    assert!(asked.stages[0].input.gets.low == objects && asked.stages[0].input.gets.high > 7 * objects / 2);
}
