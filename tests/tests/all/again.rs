//! Running again: what is done is done once, what has changed is done again with all that depends on it and nothing else,
//! and the answers are those of a run that had never seen anything before.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use coordinator::run;
use pipeline::Kind;
use pipeline::fence::{Clock, Moment};
use pipeline::store::{Store, Stores};
use pipeline::task::{Answer, Attempt, Task, Worker};
use serde_json::Value;
use voxel::Dtype;

use crate::program::{Desk, Image, blobs};
use crate::support::answers::Answers;
use crate::support::image::{Look, Recipe, volume};
use crate::support::lab::{Cut, Lab};
use crate::support::wait;

const SHAPE: [usize; 3] = [64, 48, 160];
const HOW: &str = "--chunks 16 --shards none --block 16 --segment 3 --merge-fanout 2 --range-rows 50 --levels 2";

fn image() -> Image {
    Image::new(SHAPE, Dtype::U8, 16)
}

/// The blobs with one more bright voxel in the chunk at 1, 2, 3.
fn dotted(at: [usize; 3]) -> f64 {
    if at == [20, 40, 50] { 255.0 } else { blobs(at) }
}

fn desk() -> Desk {
    let desk = Desk::new();
    image().write(&desk, "blobs.zarr", blobs);
    image().write(&desk, "dotted.zarr", dotted);
    desk
}

/// Puts the chunk with the bright voxel into the input.
fn change(desk: &Desk) {
    let chunk = std::fs::read(desk.path("dotted.zarr/c/1/2/3")).unwrap();
    assert_ne!(std::fs::read(desk.path("blobs.zarr/c/1/2/3")).unwrap(), chunk);
    desk.write("blobs.zarr/c/1/2/3", chunk);
}

/// What a run that starts from nothing gives.
fn fresh(desk: &Desk, job: &str) -> BTreeMap<String, Vec<u8>> {
    desk.run(&format!("{job} -o fresh --quiet")).well();
    let answers = desk.answers("fresh");
    std::fs::remove_dir_all(desk.path("fresh")).unwrap();
    answers
}

/// Names of the stages of the last run, with their units and how many of them had been done before.
fn stages(desk: &Desk) -> Vec<(String, u64, u64)> {
    let number = |stage: &Value, key: &str| stage[key].as_u64().unwrap();
    let report = desk.json("out/run.json");
    let stages = report["stages"].as_array().unwrap().iter();
    stages.map(|s| (s["stage"].as_str().unwrap().to_owned(), number(s, "units"), number(s, "resumed"))).collect()
}

fn same(desk: &Desk, answers: &BTreeMap<String, Vec<u8>>) {
    let ours = desk.answers("out");
    let keys = |answers: &BTreeMap<String, Vec<u8>>| answers.keys().cloned().collect::<Vec<_>>();
    assert_eq!(keys(&ours), keys(answers));
    let differ: Vec<&String> =
        ours.iter().filter(|(key, bytes)| answers[*key] != **bytes).map(|(key, _)| key).collect();
    assert!(differ.is_empty(), "{differ:?} differ");
}

#[test]
fn a_finished_run_is_done_once() {
    let desk = desk();
    let job = format!("run blobs.zarr --steps 'median size=3 | threshold above=120 | label' {HOW}");
    desk.run(&format!("{job} -o out")).well();
    let again = desk.run(&format!("{job} -o out")).well();
    assert!(again.stderr.contains("already done"), "{}", again.stderr);
    // However it would be cut up now.
    let again = desk.run(&format!("{job} -o out --workers 1 --memory 300MiB")).well();
    assert!(again.stderr.contains("already done"), "{}", again.stderr);
    // An answer that is gone is not done.
    let answers = desk.answers("out");
    std::fs::remove_file(desk.path("out/labels.zarr/0/c/1/1/1")).unwrap();
    let again = desk.run(&format!("{job} -o out")).well();
    assert!(again.stderr.contains("labels.zarr/0/c/1/1/1 is gone or has another length"), "{}", again.stderr);
    same(&desk, &answers);
}

/// Masks, intensities, parts of the input, 2-D images, shards: what was read is what is looked for.
#[test]
fn nothing_is_taken_for_changed_that_is_not() {
    let desk = desk();
    image().sharded(2).write(&desk, "sharded.zarr", blobs);
    image().write(&desk, "mask.zarr", |[z, y, x]| f64::from(u8::from((z + y + x) % 50 > 8)));
    std::fs::remove_file(desk.path("blobs.zarr/c/2/1/3")).unwrap();
    for job in [
        "run blobs.zarr --steps 'median size=3'",
        "run blobs.zarr --steps 'median size=3' --intensity dotted.zarr",
        "run blobs.zarr --steps 'median size=3 | threshold above=120 | label' --intensity dotted.zarr --mask mask.zarr",
        "run blobs.zarr --steps 'median size=3 | threshold method=otsu | label' --region 3:61,20:,33:90",
        "run sharded.zarr --steps 'gaussian sigma=2 | threshold percentile=90 | label' --region :40,:,100:",
        "run sharded.zarr --steps '' --mask mask.zarr",
    ] {
        let _ = std::fs::remove_dir_all(desk.path("out"));
        let first = desk.run(&format!("{job} -o out {HOW}")).well();
        assert!(!first.stderr.contains("has changed"), "{job}\n{}", first.stderr);
        assert!(desk.json("out/.voxmill/manifest.json").get("contents").is_some(), "{job}");
        // Another file in the array's folder changes the name of all there is, and nothing that was read.
        desk.write("blobs.zarr/c/notes.txt", job);
        desk.write("sharded.zarr/c/notes.txt", job);
        let again = desk.run(&format!("{job} -o out {HOW}")).well();
        assert!(again.stderr.contains("already done"), "{job}\n{}", again.stderr);
    }
}

/// zarr-python writes zstd at level 0 unasked, others at levels below it: no level that a job could ask for.
#[test]
fn whatever_the_input_is_packed_by_the_plan_can_be_read_again() {
    let desk = desk();
    desk.run("run blobs.zarr --steps 'cast dtype=uint8' --codec zstd:3 --levels none -o packed").well();
    let metadata = std::fs::read_to_string(desk.path("packed/result.zarr/0/zarr.json")).unwrap();
    for level in ["0", "-5"] {
        let theirs = metadata.replace("\"level\": 3", &format!("\"level\": {level}"));
        assert_ne!(theirs, metadata);
        desk.write("packed/result.zarr/0/zarr.json", &theirs);
        let job = format!("run packed/result.zarr/0 --steps 'median size=3' {HOW} -o out{level}");
        desk.run(&job).well();
        assert!(desk.run(&job).well().stderr.contains("already done"), "{level}");
        desk.run(&format!("verify out{level}")).well();
    }
}

#[test]
fn a_changed_chunk_redoes_what_depends_on_it() {
    let desk = desk();
    let job = format!(
        "run blobs.zarr --steps 'median size=3 save=smooth | threshold above=120 | label' {}",
        HOW.replace("--segment 3", "--segment 1")
    );
    desk.run(&format!("{job} -o out --keep")).well();
    change(&desk);
    let again = desk.run(&format!("{job} -o out --keep")).well();
    assert!(again.stderr.contains("the input has changed since it was read: 18 segments"), "{}", again.stderr);
    let stages = stages(&desk);
    let answers = fresh(&desk, &job);
    same(&desk, &answers);
    // 120 blocks of one chunk each, in segments of one: the chunk lies at the last of three along y, so it has 17
    // neighbours that read it, too. They are 3 x 2 x 3, have seams with 4 x 3 x 5, and lie in 2 x 2 x 2 objects of the
    // level above.
    let of = |name: &str| stages.iter().find(|(stage, ..)| stage.starts_with(name)).unwrap();
    for (stage, units, again) in [("median", 120, 18), ("seams", 120, 60), ("level 1 of smooth", 20, 8)] {
        assert_eq!((of(stage).1, of(stage).2), (units, units - again), "{stage}");
    }
    assert_eq!(of("relabel").2, 0, "{stages:?}");
    // And so once more, with nothing to be done.
    assert!(desk.run(&format!("{job} -o out --keep")).well().stderr.contains("already done"));
}

#[test]
fn a_changed_chunk_is_noticed_whatever_is_left() {
    let desk = desk();
    let job = format!("run blobs.zarr --steps 'threshold method=otsu | label' {HOW}");
    desk.run(&format!("{job} -o out")).well();
    change(&desk);
    let again = desk.run(&format!("{job} -o out")).well();
    assert!(again.stderr.contains("the input has changed since it was read: everything"), "{}", again.stderr);
    same(&desk, &fresh(&desk, &job));
    // A chunk that is gone is another input, and so is one that has come.
    std::fs::remove_file(desk.path("blobs.zarr/c/0/0/0")).unwrap();
    desk.run(&format!("{job} -o out --keep")).well();
    same(&desk, &fresh(&desk, &job));
    image().write(&desk, "blobs.zarr", blobs);
    let again = desk.run(&format!("{job} -o out --keep")).well();
    assert!(again.stderr.contains("the input has changed"), "{}", again.stderr);
    same(&desk, &fresh(&desk, &job));
}

#[test]
fn an_unfinished_run_notices_too() {
    let desk = desk();
    let job = "run blobs.zarr --steps 'median size=9 | threshold above=100 | label' --chunks 16 --shards none --block 16 \
               --segment 1 --workers 1";
    let run = desk.start(&format!("{job} -o out"));
    let start = Instant::now();
    while !std::fs::read_dir(desk.path("out/.voxmill/receipts"))
        .is_ok_and(|mut stages| stages.any(|stage| std::fs::read_dir(stage.unwrap().path()).unwrap().count() > 40))
    {
        assert!(run.is_running() && start.elapsed() < Duration::from_secs(60));
        std::thread::sleep(Duration::from_millis(2));
    }
    run.signal(libc::SIGKILL);
    run.end();
    change(&desk);
    let again = desk.run(&format!("{job} -o out")).well();
    assert!(again.stderr.contains("the input has changed since it was read: "), "{}", again.stderr);
    let (name, units, resumed) = stages(&desk).remove(0);
    assert!(resumed > 0 && resumed < units, "{name}: {resumed} of {units}");
    same(&desk, &fresh(&desk, job));
}

/// A run that was stopped when all was published but its manifest: what is about to change can't be opened meanwhile.
#[test]
fn what_changes_is_closed_first() {
    let desk = desk();
    let job = format!("run blobs.zarr --steps 'median size=3 | threshold above=120 | label' {HOW}");
    desk.run(&format!("{job} -o out --keep")).well();
    std::fs::remove_file(desk.path("out/.voxmill/manifest.json")).unwrap();
    desk.write("blobs.zarr/c/1/2/3", "no chunk");
    desk.run(&format!("{job} -o out")).badly(5, "c/1/2/3");
    desk.holds_no_answer("out");
    change(&desk);
    desk.run(&format!("{job} -o out")).well();
    same(&desk, &fresh(&desk, &job));
}

#[test]
fn a_larger_ball_starts_from_what_was_saved() {
    let desk = desk();
    let job = |ball: usize| {
        format!(
            "run blobs.zarr --steps 'gaussian sigma=1 save=smooth | threshold method=otsu save=mask | erode ball={ball} | \
             label save=cells' {HOW}"
        )
    };
    desk.run(&format!("{} -o out", job(1))).well();
    desk.run(&format!("{} -o out", job(2))).badly(2, "holds the answers of another job").hints("--overwrite");
    let again = desk.run(&format!("{} -o out --overwrite", job(2))).well();
    assert!(
        again.stderr.contains("going on from what an earlier run left here: smooth.zarr, mask.zarr"),
        "{}",
        again.stderr
    );
    let names: Vec<String> = stages(&desk).into_iter().map(|(name, ..)| name).collect();
    assert_eq!(names[0], "erode + label", "{names:?}");
    same(&desk, &fresh(&desk, &job(2)));
    assert!(desk.run(&format!("{} -o out", job(2))).well().stderr.contains("already done"));
    // The threshold that was chosen is still told, and what was read still known.
    let summary = desk.json("out/run.json")["summary"].clone();
    assert_eq!(summary["thresholds"][0]["by"], "otsu");
    change(&desk);
    let changed = desk.run(&format!("{} -o out", job(2))).well();
    assert!(changed.stderr.contains("everything is computed again"), "{}", changed.stderr);
    same(&desk, &fresh(&desk, &job(2)));
    // The same job, told to start over, starts over.
    desk.run(&format!("{} -o out --overwrite", job(2))).well();
    assert!(stages(&desk)[0].0.starts_with("gaussian"), "{:?}", stages(&desk));
    // After labels, too: their table stays, and their numbers are still known to be few enough for 32 bits.
    let after =
        |steps: &str| format!("run blobs.zarr --steps 'threshold above=120 | label save=cells | {steps}' {HOW}");
    desk.run(&format!("{} -o out --overwrite", after("threshold between=3,9"))).well();
    let again = desk.run(&format!("{} -o out --overwrite", after("threshold between=2,5"))).well();
    assert!(again.stderr.contains("left here: labels.zarr, cells.zarr"), "{}", again.stderr);
    same(&desk, &fresh(&desk, &after("threshold between=2,5")));
}

#[test]
fn a_larger_ball_goes_on_from_kept_stages() {
    let desk = desk();
    let job = |ball: usize| {
        format!("run blobs.zarr --steps 'gaussian sigma=2 | threshold method=otsu | erode ball={ball} | label' {HOW}")
    };
    desk.run(&format!("{} -o out --keep", job(1))).well();
    let again = desk.run(&format!("{} -o out --overwrite --keep", job(2))).well();
    assert!(again.stderr.contains("going on from the stages that an earlier run left here"), "{}", again.stderr);
    let (name, units, resumed) = stages(&desk).remove(0);
    assert!(name.starts_with("gaussian"), "{name}");
    assert_eq!(units, resumed);
    same(&desk, &fresh(&desk, &job(2)));
}

#[test]
fn killed_while_one_job_replaces_another() {
    let desk = Desk::new();
    Image::new([32, 48, 48], Dtype::U8, 16).write(&desk, "blobs.zarr", blobs);
    let job = |ball: usize| {
        format!(
            "run blobs.zarr --steps 'gaussian sigma=1 save=smooth | threshold above=100 | erode ball={ball} | label' \
             --chunks 16 --shards none --block 16 --segment 3 --merge-fanout 2"
        )
    };
    let answers = [1, 2].map(|ball| fresh(&desk, &job(ball)));
    desk.run(&format!("{} -o out --quiet", job(1))).well();
    let mut random = 7u64;
    let mut kills = 0;
    while kills < 16 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        // Now one, now the other; sometimes without being told to overwrite, as who goes on would.
        let (which, overwrite) = ((random >> 60) as usize % 2, if random >> 62 & 1 == 0 { "--overwrite" } else { "" });
        let run = desk.start(&format!("{} -o out {overwrite}", job(which + 1)));
        std::thread::sleep(Duration::from_micros((random >> 33) % 150_000));
        run.signal(libc::SIGKILL);
        match run.end().status.code() {
            None => kills += 1,
            Some(0) => same(&desk, &answers[which]),
            Some(code) => assert_eq!(code, 2, "another job's, and not to be overwritten"),
        }
        if kills % 4 == 3 {
            desk.run(&format!("{} -o out --overwrite", job(which + 1))).well();
            same(&desk, &answers[which]);
        }
    }
    desk.run(&format!("{} -o out --overwrite", job(2))).well();
    same(&desk, &answers[1]);
}

/// Two blocks that saw different versions of a chunk don't make one answer.
#[test]
fn two_versions_of_a_chunk_end_the_run() {
    let image =
        Recipe { extent: volume([12, 13, 14]), dtype: Dtype::U8, look: Look::Noise, gaps: false, seed: 3 }.image();
    let lab = Lab::with_chunks(&image, [4, 13, 14], None);
    let (job, cut) = (lab.job("median size=3 | threshold above=90 | label", [4, 4, 4]), Cut::blocks([4, 4, 4]));
    let output = lab.new_output();
    let plan = Arc::new(lab.plan(&job, &cut));
    let store = Store::open(&output.to_string_lossy()).unwrap();
    let clock = Clock::new(|| Moment(0));
    let open = || {
        wait(Worker::open(
            &Stores::default(),
            store.clone(),
            Arc::clone(&plan),
            &cut.settings(false).resources,
            clock.clone(),
        ))
    };
    let attempt = |task| Attempt { plan: plan.id.clone(), task, deadline: None, not_after: None };
    let segment = |first, end| attempt(Task::Segment { stage: 0, first, end });
    let units = plan.grid.units();
    wait(open().unwrap().run(&segment(0, 1), |_| {})).unwrap();
    // The same bytes at another time are another version: nobody can tell that nothing was there in between.
    let chunk = lab.input().join("c/0/0/0");
    let bytes = std::fs::read(&chunk).unwrap();
    std::thread::sleep(Duration::from_millis(20));
    std::fs::write(&chunk, bytes).unwrap();
    // Another worker, which has nothing in its cache.
    let other = open().unwrap();
    wait(other.run(&segment(1, units), |_| {})).unwrap();
    let error = wait(other.run(&attempt(Task::Advance { stage: 0, units }), |_| {})).unwrap_err();
    assert_eq!(error.kind, Kind::Data);
    assert!(error.message.contains("c/0/0/0 was replaced while the run read it"), "{error}");

    // And what says so is only found where it is looked for: the run itself goes on, after its stale part.
    let stored = wait(run::planned(&Stores::default(), &job, &cut.settings(false))).unwrap().plan;
    assert_eq!(stored.identity, plan.identity);
    assert!(wait(plan.create(&store)).unwrap());
    lab.attempt(&job, &cut, &output).unwrap();
    assert_eq!(Answers::read(&output).difference(&lab.run(&job, &Cut::whole())), None);
}

/// A deadline may pass between any two looks at the clock, also when no unit runs and others are still to begin: what is
/// done by then has its receipt.
#[test]
fn a_deadline_may_pass_at_any_moment() {
    let image =
        Recipe { extent: volume([2, 2, 24]), dtype: Dtype::U8, look: Look::Noise, gaps: false, seed: 4 }.image();
    let lab = Lab::with_chunks(&image, [2, 2, 2], None);
    let (job, cut) = (lab.job("median size=3", [2, 2, 2]), Cut::blocks([2, 2, 2]));
    let plan = Arc::new(lab.plan(&job, &cut));
    let units = plan.grid.units();
    let mut ends = std::collections::BTreeSet::new();
    // Which unit ends when is left to chance.
    for looks in (1..25).cycle().take(300) {
        let store = Store::open(&lab.new_output().to_string_lossy()).unwrap();
        let ticks = std::sync::atomic::AtomicU64::new(0);
        let clock = Clock::new(move || Moment(ticks.fetch_add(1, std::sync::atomic::Ordering::Relaxed)));
        let mut resources = cut.settings(false).resources;
        resources.threads = 1;
        let worker = wait(Worker::open(&Stores::default(), store, Arc::clone(&plan), &resources, clock)).unwrap();
        let task = Task::Segment { stage: 0, first: 0, end: units };
        let attempt = Attempt { plan: plan.id.clone(), task, deadline: Some(Moment(looks)), not_after: None };
        let Answer::Done { end } = wait(worker.run(&attempt, |_| {})).unwrap() else {
            panic!("a segment is done or fails")
        };
        assert!((1..=units).contains(&end));
        ends.insert(end);
    }
    assert!(ends.len() > 2, "no deadline passed in mid-segment: {ends:?}");
}
