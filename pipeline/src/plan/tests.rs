#![allow(clippy::unwrap_used)]
//! What a job becomes: which stages, where the barriers are, and that nothing is planned that can't run.

use super::build::{InputImage, Wishes, plan};
use super::memory::{self, Resources, project};
use super::*;
use crate::Kind;
use crate::job::{Write, steps_from_line};
use crate::pyramid::Levels;
use crate::step::PerAxis;

const PLENTY: Resources = Resources { memory_bytes: 4 << 30, threads: 2, merge_bytes: None };

fn image(shape: [usize; 3], dtype: Dtype) -> InputImage {
    let input = Input {
        url: "/data/in.zarr".into(),
        pick: Pick::default(),
        fingerprint: "f".into(),
        dtype,
        chunk: [64; 3],
        shard: None,
        chunk_bytes: (64 * 64 * 64 * dtype.size()) as u64,
        codec: None,
        offset: [0; 3],
    };
    let planar = shape[0] == 1;
    let geometry = Geometry::unknown(planar);
    InputImage { input, extent: Extent { shape, planar }, geometry, mask: None, intensity: None }
}

fn job(steps: &str) -> Job {
    let write = Write { levels: Levels::NONE, ..Write::default() };
    Job { steps: steps_from_line(steps).unwrap(), write, ..Job::new("in.zarr") }
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
fn what_is_saved_is_left_in_the_same_pass() {
    let one = stages("gaussian sigma=1 save=smooth | median size=3 | cast dtype=uint8 save=small", Dtype::U8);
    assert_eq!(one, ["gaussian + median + cast + histogram", "publish"]);
    // And where it is saved, it need not be computed again or kept in the scratch.
    let plan = plan(
        &job("gaussian sigma=9 save=smooth | threshold method=otsu"),
        &image([300, 300, 300], Dtype::U8),
        &Wishes::default(),
        &PLENTY,
    )
    .unwrap();
    let names: Vec<String> = plan.stages.iter().map(|stage| plan.stage_name(stage)).collect();
    assert_eq!(names, ["gaussian + histogram", "bins", "threshold", "publish"]);
    assert_eq!(plan.images.iter().map(|s| s.groups.join(" ")).collect::<Vec<_>>(), ["smooth.zarr", "result.zarr"]);
}

#[test]
fn levels_come_last_and_one_after_the_other() {
    let job = Job { write: Write::default(), ..job("gaussian sigma=1 save=smooth | threshold above=3 | label") };
    let plan = plan(&job, &image([100, 600, 600], Dtype::U8), &Wishes::default(), &PLENTY).unwrap();
    let names: Vec<String> = plan.stages.iter().map(|stage| plan.stage_name(stage)).collect();
    let last = ["level 1 of smooth.zarr", "level 2 of smooth.zarr", "level 1 of labels.zarr", "level 2 of labels.zarr"];
    assert_eq!(names[names.len() - 5..names.len() - 1], last);
    let shapes: Vec<[usize; 3]> = plan.images[0].levels.iter().map(|level| level.extent.shape).collect();
    assert_eq!(shapes, [[100, 600, 600], [50, 300, 300], [25, 150, 150]]);
}

#[test]
fn a_job_goes_on_after_labels_from_what_they_became() {
    let names = stages(
        "threshold above=3 | fill_holes | label contacts=26 | threshold between=5,9 | label save=few | objects",
        Dtype::U8,
    );
    let tree = |name: &&String| !["seams", "join", "hand down"].iter().any(|stage| name.starts_with(stage));
    assert_eq!(
        names.iter().filter(tree).collect::<Vec<_>>(),
        [
            "threshold + fill_holes + histogram",
            "rank of step 2",
            "fill of step 2",
            "label",
            "rank of step 3",
            "relabel of step 3",
            "threshold + contacts + label",
            "sum contacts of step 3",
            "table of contacts of step 3",
            "rank of step 5",
            "relabel of step 5",
            "table of step 5",
            "objects",
            "rank of step 6",
            "table of step 6",
            "publish"
        ]
    );
}

#[test]
fn what_a_job_names_must_be_there() {
    let error = |steps: &str, change: fn(&mut Job)| {
        let mut job = job(steps);
        change(&mut job);
        let error = plan(&job, &image([64, 64, 64], Dtype::U8), &Wishes::default(), &PLENTY).unwrap_err();
        format!("{} ({})", error.message, error.hint.unwrap_or_default())
    };
    let unknown = error("gaussian sigma=1 save=smooth", |job| job.histogram = "smoth".to_owned().into());
    assert!(unknown.contains("`histogram` is smoth, but no step saves an image of that name"), "{unknown}");
    assert!(unknown.contains("the saved images are smooth"), "{unknown}");
    let late = error("label | cast dtype=float32 save=after", |job| job.intensity = Some("after".into()));
    assert!(late.contains("`intensity` names what step 2 saves, but step 1 (label) measures before that"), "{late}");
    let twice = error("gaussian sigma=1 save=a | gaussian sigma=1 save=a", |_| {});
    assert!(twice.contains("steps 1 and 2 both save as a"), "{twice}");
    let lost = error("label contacts=6 | label contacts=26", |_| {});
    assert!(lost.contains("step 1 (label) asks for contacts that a later step's would take the place of"), "{lost}");
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
    assert_eq!(one.images[0].spec, other.images[0].spec);
    let third = plan(&job("label connectivity=26"), &image, &Wishes::default(), &PLENTY).unwrap();
    assert_ne!(one.identity, third.identity);
}

#[test]
fn blocks_are_whole_objects_within_memory() {
    let image = image([1000, 1000, 1000], Dtype::U16);
    for mib in [200, 400, 800, 1600] {
        let resources = Resources { memory_bytes: mib << 20, threads: 2, merge_bytes: None };
        let mut job = job("gaussian sigma=2 | threshold above=9 | label");
        job.write = Write { chunks: PerAxis::All(32), ..Write::default() };
        let plan = plan(&job, &image, &Wishes::default(), &resources).unwrap();
        assert!(plan.grid.block.iter().all(|side| side % 64 == 0), "{:?}", plan.grid.block);
        assert!(project(&plan, &resources).unwrap().bytes <= resources.memory_bytes);
    }
}

#[test]
fn rows_are_read_ahead_within_what_is_left() {
    for (files, piece, ahead, pieces) in [
        (1, 1000, 0, 1),
        (1, 1000, 5999, 6),
        (8, 1000, 5999, 1),
        (8, 1000, 16_000, 3),
        (8, 1000, 1 << 40, 1048),
        (8, 5 << 20, 1 << 40, 1),
        (0, 0, 0, 1),
    ] {
        assert_eq!(memory::pieces_at_once(files, piece, ahead), pieces, "{files} files, {piece} bytes, {ahead} ahead");
    }
    let image = image([1000, 1000, 1000], Dtype::U8);
    let wishes = Wishes { block: Some([128; 3]), ..Wishes::default() };
    let mut job = job("label");
    job.write = Write { chunks: PerAxis::All(32), ..Write::default() };
    let rank = |resources: &Resources| {
        let plan = plan(&job, &image, &wishes, resources).ok()?;
        let at = plan.stages.iter().position(|stage| matches!(stage.kind, StageKind::Rank(_))).unwrap();
        Some(project(&plan, resources).unwrap().stages[at])
    };
    // With less and less memory first fewer wait for the store than there is room for, then less is read ahead; as many
    // are computed at once as there are threads.
    let mut before = rank(&PLENTY).unwrap();
    assert_eq!((before.limits.at_once, before.limits.ahead_bytes), (8, 32 << 20));
    let mut seen = [false; 3];
    for mib in (0..200).map(|i| (PLENTY.memory_bytes >> 20) - 20 * i) {
        let Some(now) = rank(&Resources { memory_bytes: mib << 20, ..PLENTY }) else { break };
        let (at_once, ahead) = (now.limits.at_once, now.limits.ahead_bytes);
        assert!(now.bytes <= mib << 20 && at_once >= 2, "{now:?}");
        assert!(at_once == 2 || ahead == 32 << 20, "{now:?}");
        assert!(at_once <= before.limits.at_once && ahead <= before.limits.ahead_bytes, "{now:?}");
        seen = [seen[0] || (3..8).contains(&at_once), seen[1] || ahead < 32 << 20, true];
        before = now;
    }
    assert_eq!(seen, [true; 3]);
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

/// The fingerprints of a job's stages, in blocks that don't depend on what it needs.
fn fingerprints(job: &Job, image: &InputImage) -> Vec<String> {
    let wishes = Wishes { block: Some([128; 3]), ..Wishes::default() };
    plan(job, image, &wishes, &PLENTY).unwrap().stages.into_iter().map(|stage| stage.fingerprint).collect()
}

/// How many stages from the first on two jobs have in common.
fn in_common(one: &Job, other: &Job) -> usize {
    let image = image([300, 300, 300], Dtype::U8);
    let (one, other) = (fingerprints(one, &image), fingerprints(other, &image));
    let common = one.iter().zip(&other).take_while(|(a, b)| a == b).count();
    assert!(one[common..].iter().all(|a| !other.contains(a)), "what comes after a difference depends on it");
    common
}

#[test]
fn stages_are_named_after_what_they_depend_on() {
    let ball = |ball: usize| job(&format!("gaussian sigma=2 | threshold method=otsu | erode ball={ball} | label"));
    let all = fingerprints(&ball(1), &image([300, 300, 300], Dtype::U8)).len();
    assert_eq!(in_common(&ball(1), &ball(1)), all);
    // The histogram that the threshold is chosen from, and its bins.
    assert_eq!(in_common(&ball(1), &ball(2)), 2);
    let smoother = job("gaussian sigma=3 | threshold method=otsu | erode ball=1 | label");
    assert_eq!(in_common(&ball(1), &smoother), 0);
    // Up to the label table, which is measured without them.
    let contacts = job("threshold above=3 | label contacts=6");
    assert_eq!(in_common(&job("threshold above=3 | label"), &contacts), 0);
    let percentiles = Job { percentiles: Some(crate::job::Percentiles::Exact), ..ball(1) };
    assert!(in_common(&ball(1), &percentiles) < all);
    // Another output is another place, not another question.
    assert_eq!(in_common(&ball(1), &Job { output: Some("elsewhere".into()), ..ball(1) }), all);
}

#[test]
fn other_blocks_leave_other_scratch() {
    let (job, image) = (job("median size=3 | threshold above=9 | label"), image([300, 300, 300], Dtype::U8));
    let with = |wishes: Wishes| plan(&job, &image, &wishes, &PLENTY).unwrap().stages[0].fingerprint.clone();
    let block = |side: usize| Wishes { block: Some([side; 3]), ..Wishes::default() };
    assert_ne!(with(block(256)), with(block(300)));
    // How many of them make up a task is in the receipts.
    assert_eq!(with(Wishes { segment: Some(1), ..block(256) }), with(Wishes { segment: Some(2), ..block(256) }));
}

#[test]
fn other_code_leaves_other_scratch_and_answers_the_same_question() {
    let (job, image) = (job("threshold above=9 | label"), image([300, 300, 300], Dtype::U8));
    let by = |code: Option<&str>| {
        let wishes = Wishes { code: code.map(str::to_owned), ..Wishes::default() };
        plan(&job, &image, &wishes, &PLENTY).unwrap()
    };
    let (ours, theirs, others) = (by(None), by(Some("sha-a")), by(Some("sha-b")));
    assert_eq!((&ours.identity, &theirs.identity), (&theirs.identity, &others.identity));
    for (one, other) in [(&ours, &theirs), (&theirs, &others)] {
        assert_ne!(one.id, other.id);
        assert!(one.stages.iter().zip(&other.stages).all(|(a, b)| a.fingerprint != b.fingerprint));
    }
}

#[test]
fn what_a_finished_run_has_left_is_not_made_again() {
    let image = image([300, 300, 300], Dtype::U8);
    let first = job("gaussian sigma=2 save=smooth | threshold method=otsu save=mask | erode ball=1 | label");
    let earlier = plan(&first, &image, &Wishes::default(), &PLENTY).unwrap();
    let state = State { thresholds: [(1, 12.5)].into(), ..State::default() };
    let with = |steps: &str, change: fn(&mut Job)| {
        let mut job = job(steps);
        change(&mut job);
        let wishes = Wishes { earlier: Some((earlier.clone(), state.clone())), ..Wishes::default() };
        let plan = plan(&job, &image, &wishes, &PLENTY).unwrap();
        (plan.given.clone(), plan.stages.iter().map(|stage| plan.stage_name(stage)).next().unwrap())
    };
    let same = |_: &mut Job| {};
    let (given, start) =
        with("gaussian sigma=2 save=smooth | threshold method=otsu save=mask | erode ball=2 | label", same);
    assert_eq!((given.images, given.histogram, &start[..]), (vec![1, 2], true, "erode + label"));
    assert_eq!(given.state.thresholds, state.thresholds);
    // Another way to choose the threshold needs the histogram of what was saved.
    let (given, start) = with("gaussian sigma=2 save=smooth | threshold percentile=90 | label", same);
    assert_eq!((given.images, &start[..]), (vec![1], "histogram"));
    // Under another name it would have to be copied, so it is made again; and nothing is given that starts later.
    let (given, _) = with("gaussian sigma=2 save=soft | threshold above=3 | label", same);
    assert!(given.is_empty());
    let (given, _) = with("gaussian sigma=2.5 save=smooth | threshold method=otsu save=mask | label", same);
    assert!(given.is_empty());
    // The histogram of another image, or other chunks.
    let changes: [fn(&mut Job); 2] =
        [|job| job.histogram = "smooth".to_owned().into(), |job| job.write.chunks = PerAxis::All(64)];
    for change in changes {
        let (given, start) = with("gaussian sigma=2 save=smooth | threshold above=3 | label", change);
        assert!(given.is_empty() || start.contains("histogram"), "{given:?} {start}");
    }
}

/// At 128 voxels a side, what blocks leave between stages costs more to write than the blocks to compute.
#[test]
fn where_requests_are_paid_for_blocks_are_chosen_by_price() {
    let image = image([1536, 1536, 1536], Dtype::U8);
    let mut job = job("threshold above=3 | label");
    job.write.shards = crate::job::Shards::None;
    let voxels = |wishes: Wishes, job: &Job| {
        let plan = plan(job, &image, &wishes, &PLENTY).unwrap();
        plan.grid.largest().iter().product::<usize>()
    };
    let charged = Wishes { charged: true, ..Wishes::default() };
    assert!(voxels(charged.clone(), &job) > voxels(Wishes::default(), &job), "of labels, larger blocks are cheaper");
    // As many as there are threads for, all the same.
    let many = Wishes { workers: Some(16), ..charged.clone() };
    let blocks = plan(&job, &image, &many, &PLENTY).unwrap().grid.units();
    assert!(blocks >= 4 * 2 * 16, "{blocks}");
    // What was asked for is what is done.
    let asked = Wishes { block: Some([128; 3]), ..charged };
    assert_eq!(voxels(asked, &job), 1 << 21);
}

#[test]
fn readers_are_the_blocks_whose_region_touches_the_chunk() {
    for (steps, block, offset, chunk) in [
        ("gaussian sigma=1", 8, [0; 3], [8; 3]),
        ("gaussian sigma=3 | cast dtype=uint8", 8, [3, 0, 5], [8, 5, 16]),
        ("cast dtype=uint8", 8, [0; 3], [8; 3]),
        ("erode ball=2", 12, [1, 2, 3], [7, 40, 3]),
        ("threshold above=3 | label", 16, [0, 9, 0], [10; 3]),
    ] {
        let mut job = job(steps);
        (job.write.chunks, job.write.shards) = (PerAxis::All(4), crate::job::Shards::None);
        let wishes = Wishes { block: Some([block; 3]), ..Wishes::default() };
        let mut plan = plan(&job, &image([40, 30, 50], Dtype::U8), &wishes, &PLENTY).unwrap();
        (plan.input.offset, plan.input.chunk) = (offset, chunk);
        let from_input = |stage: &&Stage| matches!(&stage.kind, StageKind::Map(pass) if pass.from == 0);
        let stage = plan.stages.iter().position(|stage| from_input(&stage)).unwrap();
        let StageKind::Map(pass) = &plan.stages[stage].kind else { unreachable!() };
        let chunks = [0, 1, 2].map(|a| (offset[a] + plan.extent.shape[a]).div_ceil(chunk[a]));
        for i in 0..chunks.iter().product::<usize>() as u64 {
            let at = crate::grid::coordinates(i, chunks);
            let covers = Region::new(std::array::from_fn(|a| at[a] * chunk[a]), chunk);
            let touches = |unit: &u64| {
                let region = plan.regions(pass, plan.grid.region(*unit))[0];
                region.shifted(offset).intersection(&covers).is_some()
            };
            match (0..plan.grid.units()).filter(touches).count() as u64 {
                0 => assert!((0..3).any(|a| covers.end[a] <= offset[a]), "{steps}: {covers:?} lies before the image"),
                readers => {
                    let all: Vec<u64> = (0..plan.grid.units()).filter(touches).collect();
                    for unit in [0, all[0], all[all.len() / 2], plan.grid.units() - 1] {
                        let wanted = plan.wanted(stage, Part::From, plan.grid.region(unit))(covers);
                        let next = all.iter().find(|later| **later > unit).map_or((stage + 1, 0), |n| (stage, *n));
                        assert_eq!((wanted.readers, wanted.next), (readers, next), "{steps}: {covers:?}");
                    }
                }
            }
        }
    }
}

#[test]
fn of_a_chunk_that_is_read_again_nobody_knows_who_reads_it_last() {
    for (steps, once) in [
        ("threshold method=otsu", false),
        ("gaussian sigma=1 | threshold method=otsu | label", false),
        ("gaussian sigma=1 | threshold above=3 | label", true),
    ] {
        let plan = plan(&job(steps), &image([300; 3], Dtype::U8), &Wishes::default(), &PLENTY).unwrap();
        let wanted = plan.wanted(0, Part::From, plan.grid.region(0))(Region::whole([64; 3]));
        assert_eq!(wanted.readers < u64::MAX, once, "{steps}");
    }
}
