//! One small test for each way in which an equality is most easily lost. `tests/breaks.sh` breaks the product in just
//! that way and sees the test fail: what it names by module and function is here.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use pipeline::fence::{Clock, Moment};
use pipeline::job::Job;
use pipeline::plan::{Rows, TableId};
use pipeline::store::{Store, Stores};
use pipeline::task::{Attempt, Task, Worker};
use pipeline::{Kind, layout};
use voxel::Dtype;

use crate::support::answers::Answers;
use crate::support::image::{Image, Look, Recipe, volume};
use crate::support::lab::{Cut, Lab};
use crate::support::{twin, wait};

/// Two voxels whose blocks share a corner and nothing else.
#[test]
fn objects_meet_over_the_corner_of_blocks() {
    for other in [[4, 4, 4], [4, 3, 4], [4, 4, 3], [4, 3, 3], [3, 4, 4], [3, 4, 3]] {
        let one = other.map(|i| 7 - i);
        let lab = Lab::with(&Image::mask(volume([8, 8, 8]), |at| at == one || at == other));
        let answers = lab.run(&lab.job("label connectivity=26", [4, 4, 4]), &Cut::blocks([4, 4, 4]));
        assert_eq!(answers.objects().len(), 1, "{one:?} and {other:?}");
    }
}

/// An object that ends within a group is numbered there, and one that leaves it isn't yet.
#[test]
fn objects_close_when_they_reach_no_open_face() {
    let image = Image::mask(volume([16, 4, 4]), |[z, y, x]| y == 0 && x == 0 && z % 6 != 5);
    assert_equals_the_twin(&image, &Cut::blocks([2, 4, 4]));
}

/// Of every block the one row is where a range starts and where it ends.
#[test]
fn ranges_have_their_first_row() {
    let image = Image::mask(volume([16, 4, 4]), |[z, y, x]| z % 2 == 0 && y == 1 && x == 1);
    assert_equals_the_twin(&image, &Cut { range_rows: 1, ..Cut::blocks([2, 4, 4]) });
}

/// Whatever joins parts of an object must join every column: this one has a surface and a border in every block.
#[test]
fn parts_of_an_object_add_up() {
    let image = Image::of(volume([9, 9, 9]), |[z, y, x]| {
        let solid = x != 4 || y % 3 == 1 || z == 8;
        if solid { (1 + z * 81 + y * 9 + x) as u16 } else { 0 }
    });
    assert_equals_the_twin(&image, &Cut::blocks([4, 2, 3]));
}

fn assert_equals_the_twin(image: &Image, cut: &Cut) {
    let lab = Lab::with(image);
    let answers = lab.run(&lab.job("label", cut.block), cut);
    let values = image.values();
    let mask: Vec<bool> = values.iter().map(|v| *v != 0.0).collect();
    let labels = twin::flood_fill(image.extent, &mask, 6);
    assert_eq!(answers.labels(), labels);
    assert_eq!(answers.objects(), twin::measured(image.extent, &labels, &values));
}

fn noise(dtype: Dtype) -> Image {
    Recipe { extent: volume([12, 13, 14]), dtype, look: Look::Noise, gaps: false, seed: 3 }.image()
}

fn assert_chunked_equals_whole(image: &Image, steps: &str) {
    let lab = Lab::with(image);
    let job = lab.job(steps, [4, 4, 4]);
    let whole = lab.run(&job, &Cut::whole());
    assert_eq!(lab.run(&job, &Cut::blocks([4, 4, 4])).difference(&whole), None);
}

/// A block sees as far around itself as its steps do, one after the other.
#[test]
fn blocks_read_all_of_their_halo() {
    assert_chunked_equals_whole(&noise(Dtype::U8), "dilate ball=2 | erode ball=1");
    assert_chunked_equals_whole(&noise(Dtype::U16), "median size=3 | threshold above=20000 | open ball=2");
}

/// The surface of an object is seen from its own block, also where the neighbour is in another.
#[test]
fn blocks_see_one_voxel_around_their_labels() {
    assert_chunked_equals_whole(&noise(Dtype::U8), "threshold above=100 | label");
}

/// Objects are measured inside a mask; the filter after them sees all of the image, further than the block's rim.
#[test]
fn measuring_inside_a_mask_leaves_the_image_as_it_is() {
    let image = noise(Dtype::U8);
    let lab = Lab::with(&image);
    let steps = "threshold above=128 | cast dtype=uint8 | objects contacts=18 | maximum size=5 | label";
    let job = Job { mask: Some(lab.input().to_string_lossy().into_owned()), ..lab.job(steps, [4, 4, 4]) };
    let whole = lab.run(&job, &Cut::whole());
    assert_eq!(lab.run(&job, &Cut::blocks([4, 4, 4])).difference(&whole), None);
}

#[test]
fn histograms_of_blocks_add_up() {
    assert_chunked_equals_whole(&noise(Dtype::U16), "");
    assert_chunked_equals_whole(&noise(Dtype::F32), "threshold percentile=40");
}

/// A run that failed half way has left no receipt for what it had not done; the next one does it, and is as if the first
/// had never been.
#[test]
fn a_receipt_comes_after_its_data() {
    let lab = Lab::with(&noise(Dtype::U8));
    let (job, cut) = (lab.job("threshold above=100 | label", [4, 4, 4]), Cut::blocks([4, 4, 4]));
    let output = lab.new_output();
    // A file where the folder of all scratch should be: nothing that blocks leave can be written.
    let scratch = output.join(layout::SCRATCH);
    std::fs::create_dir_all(scratch.parent().unwrap()).unwrap();
    std::fs::write(&scratch, "").unwrap();
    lab.attempt(&job, &cut, &output).unwrap_err();
    std::fs::remove_file(&scratch).unwrap();
    assert_resumes(&lab, &job, &cut, &output);
}

/// A stage whose receipts are not all there has not ended, whatever else is there.
#[test]
fn what_has_no_receipt_is_done_again() {
    let lab = Lab::with(&noise(Dtype::U8));
    let cut = Cut { segment: Some(1), ..Cut::blocks([4, 4, 4]) };
    let job = lab.job("threshold above=100 | label", [4, 4, 4]);
    let output = lab.new_output();
    lab.attempt_and_keep(&job, &cut, &output).unwrap();
    // As if the run had ended while the second block was under way, and others were done.
    let plan = lab.plan(&job, &cut);
    let labels = plan.left(TableId { step: 1, of: Rows::Objects });
    for key in
        [layout::receipt(&plan.stages[0].fingerprint, 1), layout::scratch(&labels, 1), layout::MANIFEST.to_owned()]
    {
        std::fs::remove_file(output.join(key)).unwrap();
    }
    std::fs::remove_dir_all(output.join(layout::STATES)).unwrap();
    assert_resumes(&lab, &job, &cut, &output);
}

/// What comes to a worker when its time is over leaves nothing, neither data nor a receipt.
#[test]
fn a_late_attempt_writes_nothing() {
    let lab = Lab::with(&noise(Dtype::U8));
    let (job, cut) = (lab.job("threshold above=100 | label", [4, 4, 4]), Cut::blocks([4, 4, 4]));
    let (plan, output) = (Arc::new(lab.plan(&job, &cut)), lab.new_output());
    let store = Store::open(&output.to_string_lossy()).unwrap();
    let attempt = |not_after| Attempt {
        plan: plan.id.clone(),
        task: Task::Segment { stage: 0, first: 0, end: 2 },
        deadline: None,
        not_after: Some(Moment(not_after)),
    };
    let clock = Clock::new(|| Moment(100));
    let resources = cut.settings(false).resources;
    let worker = wait(Worker::open(&Stores::default(), store, Arc::clone(&plan), &resources, clock)).unwrap();
    let run = |attempt: Attempt| wait(async { worker.run(&attempt, |_| {}).await });
    assert_eq!(run(attempt(99)).unwrap_err().kind, Kind::Unavailable);
    assert!(!output.exists() || Answers::read(&output).names().is_empty());
    assert!(!output.join(layout::RUN).exists(), "a late attempt left something");
    run(attempt(100)).unwrap();
    assert!(output.join(layout::receipt(&plan.stages[0].fingerprint, 0)).exists());
}

/// Threads that compute for an attempt when it is dropped are not waited for: they write nothing more, since whoever dropped it
/// may have given the output to others.
#[test]
fn an_attempt_that_nobody_waits_for_writes_nothing_more() {
    let image =
        Recipe { extent: volume([64, 16, 16]), dtype: Dtype::U8, look: Look::Noise, gaps: false, seed: 4 }.image();
    let lab = Lab::with(&image);
    let (job, cut) = (lab.job("median size=3", [2, 2, 2]), Cut::blocks([16, 16, 16]));
    let (plan, output) = (Arc::new(lab.plan(&job, &cut)), lab.new_output());
    let store = Store::open(&output.to_string_lossy()).unwrap();
    let clock = Clock::new(|| Moment(0));
    let resources = cut.settings(false).resources;
    let worker = wait(Worker::open(&Stores::default(), store.clone(), Arc::clone(&plan), &resources, clock)).unwrap();
    let task = Task::Segment { stage: 0, first: 0, end: plan.grid.units() };
    let attempt = Attempt { plan: plan.id.clone(), task, deadline: None, not_after: None };
    let one = Arc::new(tokio::sync::Notify::new());
    let tell = Arc::clone(&one);
    wait(async move {
        tokio::select! {
            _ = worker.run(&attempt, move |_| tell.notify_one()) => panic!("four blocks were done before one was told of"),
            _ = one.notified() => {}
        }
    });
    let objects = || wait(store.list("")).unwrap().len();
    let then = objects();
    std::thread::sleep(Duration::from_millis(300));
    assert!(objects() <= then + resources.threads, "{then} objects became {}", objects());
}

fn assert_resumes(lab: &Lab, job: &Job, cut: &Cut, output: &Path) {
    let whole = lab.run(job, &Cut::whole());
    lab.attempt(job, cut, output).unwrap();
    assert_eq!(Answers::read(output).difference(&whole), None);
}
