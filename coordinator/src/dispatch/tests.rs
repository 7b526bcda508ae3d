#![allow(clippy::unwrap_used)]
//! Attempt tables: for each way an attempt may go, what is sent, when, how often, and how the run ends. Time is paused,
//! so an hour of hanging takes no time at all; the seed of the pauses is [`scripted::SEED`].

mod rate;
mod scripted;
mod spending;

use pipeline::Kind;

use super::*;
use crate::executor::Terms;
use scripted::{Act, Bench, END};

/// A function: many at once, each for fifteen minutes at most.
const FUNCTION: Terms =
    Terms { in_flight: 8, units: None, backups: true, attempt_limit: Some(Duration::from_secs(900)), ramp: None };

/// Threads of this process.
const THREADS: Terms = Terms { in_flight: 2, units: None, backups: false, attempt_limit: None, ramp: None };

/// One after the other.
const ONE: Terms = Terms { in_flight: 1, ..THREADS };

fn away() -> Error {
    Error::unavailable("away")
}

#[test]
fn threads_have_units_however_short_segments_are() {
    let threads = Terms { in_flight: 9, units: Some(8), ..THREADS };
    assert_eq!([1, 3, 8, 100].map(|length| threads.segments(length)), [9, 4, 2, 2]);
    assert_eq!([1, 100].map(|length| FUNCTION.segments(length)), [8, 8]);
}

#[tokio::test(start_paused = true)]
async fn what_may_help_is_tried_again() {
    for (errors, sent, kind) in [
        (vec![], 1, None),
        (vec![away(), away()], 3, None),
        (vec![away(); 4], 4, Some(Kind::Unavailable)),
        (vec![Error::internal("broken")], 2, None),
        (vec![Error::internal("broken"); 2], 2, Some(Kind::Internal)),
        (vec![Error::internal("broken"), away(), away(), away()], 5, None),
        (vec![Error::throttled("slow down"); 11], 12, None),
        (vec![Error::throttled("slow down"); 12], 12, Some(Kind::Unavailable)),
        (vec![Error::invalid("no")], 1, Some(Kind::Invalid)),
        (vec![Error::data("damaged")], 1, Some(Kind::Data)),
        (vec![away(), Error::data("damaged")], 2, Some(Kind::Data)),
    ] {
        for task in [10, END] {
            let bench = Bench::new(30, THREADS).when(task, errors.iter().cloned().map(Act::Fails));
            let ended = bench.run().await;
            assert_eq!(bench.sent(task).len(), sent, "{errors:?}");
            assert_eq!(ended.state.as_ref().err().map(|e| e.kind), kind, "{errors:?}");
            assert_eq!(ended.failed.len(), usize::from(kind.is_some()), "{errors:?}");
            if let (Some(failed), Some(last)) = (ended.failed.first(), errors.last()) {
                assert_eq!((&failed.message, failed.attempts), (&last.message, sent as u64));
            }
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_attempt_is_sent_beside_one_that_hangs() {
    let bench = Bench::new(100, FUNCTION).when(40, [Act::Hangs]);
    let ended = bench.run().await;
    ended.state.unwrap();
    // The others take a second, so that even the least patience is at its end soon.
    assert_eq!(bench.sent(40).len(), 2);
    assert!(bench.seconds() < 20, "{} s", bench.seconds());
    assert_eq!((ended.stages[0].attempts, ended.stages[0].backups), (12, 1));
}

/// Nothing is known of the others then but what the plan expects.
#[tokio::test(start_paused = true)]
async fn so_it_is_when_the_whole_first_wave_hangs() {
    let bench = (0..8).fold(Bench::new(80, FUNCTION), |bench, task| bench.when(task * 10, [Act::Hangs]));
    let ended = bench.run().await;
    ended.state.unwrap();
    assert_eq!(ended.stages[0].backups, 8);
    // Four times the half minute that the plan cuts segments for.
    assert!((120..150).contains(&bench.sent(0)[1]), "{:?}", bench.sent(0));
    assert!(bench.seconds() < 150, "{} s", bench.seconds());
}

#[tokio::test(start_paused = true)]
async fn a_decision_that_hangs_has_a_backup_too() {
    let bench = Bench::new(10, FUNCTION).when(END, [Act::Hangs]);
    bench.run().await.state.unwrap();
    assert_eq!(bench.sent(END).len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_waits_for_a_worker_is_not_slow() {
    let bench = Bench::new(100, FUNCTION).when(40, [Act::Queues(600)]);
    let ended = bench.run().await;
    ended.state.unwrap();
    assert_eq!((bench.sent(40).len(), ended.stages[0].backups), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn the_first_answer_wins_and_an_error_is_none() {
    // The backup fails in a way that may pass: the first is waited for.
    let bench = Bench::new(100, FUNCTION).when(40, [Act::Takes(100), Act::Fails(away())]);
    bench.run().await.state.unwrap();
    assert_eq!(bench.sent(40).len(), 2);
    // And in one that won't: it would fail the first, too.
    let bench = Bench::new(100, FUNCTION).when(40, [Act::Takes(100), Act::Fails(Error::data("damaged"))]);
    assert_eq!(bench.run().await.state.unwrap_err().kind, Kind::Data);
    assert!(bench.seconds() < 30);
}

#[tokio::test(start_paused = true)]
async fn threads_have_no_backups() {
    let bench = Bench::new(100, THREADS).when(40, [Act::Takes(5000)]);
    bench.run().await.state.unwrap();
    assert_eq!(bench.sent(40).len(), 1);
}

/// The answer is in the store: nothing runs again.
#[tokio::test(start_paused = true)]
async fn a_lost_reply_is_found_in_the_store() {
    let no_backups = Terms { backups: false, ..FUNCTION };
    for (terms, act, least) in
        [(no_backups, Act::LosesReply, 0), (no_backups, Act::FallsSilent, 900), (THREADS, Act::LosesReply, 0)]
    {
        for task in [10, END] {
            let bench = Bench::new(30, terms).when(task, [act.clone()]);
            bench.run().await.state.unwrap();
            assert_eq!(bench.sent(task).len(), 1, "{act:?}");
            assert!(bench.seconds() >= least && bench.seconds() < least + 30, "{} s", bench.seconds());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn silence_without_a_receipt_is_tried_again_after_not_after() {
    let bench = Bench::new(30, Terms { backups: false, ..FUNCTION }).when(10, [Act::Hangs]);
    bench.run().await.state.unwrap();
    assert_eq!(bench.sent(10).len(), 2);
    assert!(bench.sent(10)[1] >= 900, "{:?}", bench.sent(10));
}

#[tokio::test(start_paused = true)]
async fn the_rest_of_a_part_is_sent_again() {
    let bench = Bench::new(30, ONE).when(10, [Act::Part(13)]).when(13, [Act::Part(14)]);
    let ended = bench.run().await;
    ended.state.unwrap();
    assert_eq!([10, 13, 14, 20].map(|first| bench.sent(first).len()), [1, 1, 1, 1]);
    // Gone on with from a part, a segment still ends where it would have.
    let bench = Bench::new(30, ONE).when(10, [Act::Part(13)]).when(13, [Act::Fails(Error::data("damaged"))]);
    let ended = bench.run().await;
    assert_eq!(ended.failed[0].task, "1:13-20");
    bench.run().await.state.unwrap();
    assert_eq!([0, 10, 13, 20].map(|first| bench.sent(first).len()), [1, 1, 2, 1]);
}

#[tokio::test(start_paused = true)]
async fn throttling_narrows_the_window_until_it_is_over() {
    let throttled = || Act::Fails(Error::throttled("slow down"));
    let bench = (0..60).fold(Bench::new(600, FUNCTION), |bench, task| {
        // A burst that every attempt of the first wave meets, and those sent again first.
        let acts = if task < 8 { vec![throttled(), throttled()] } else { vec![] };
        bench.when(task * 10, acts)
    });
    let with = Dispatch {
        plan: &bench.plan,
        store: &bench.store,
        executor: &(bench.executor.clone() as Arc<dyn Executor>),
        progress: &Progress::new(true),
        clock: &Clock::new(|| pipeline::fence::Moment(0)),
        hold: &Hold::alone(1),
        budget: &Budget::unlimited(),
        failures_most: 0,
        seed: scripted::SEED,
    };
    let carrier = Carrier::new(&with);
    let (pace, count) = (Pace::new(3.0), Count::default());
    let first: FuturesUnordered<_> = (0..8).map(|i| carrier.segment(0, i * 10, i * 10 + 10, &pace, &count)).collect();
    let ended: Vec<Sent> = first.collect().await;
    assert!(ended.iter().all(|sent| sent.failed.is_none()));
    let narrow = carrier.window.limit();
    assert!(narrow <= 6, "{narrow}");
    let rest: FuturesUnordered<_> = (8..60).map(|i| carrier.segment(0, i * 10, i * 10 + 10, &pace, &count)).collect();
    assert!(rest.all(|sent| async move { sent.failed.is_none() }).await);
    assert_eq!((carrier.window.limit(), bench.most_at_once()), (8, 8));
}

#[tokio::test(start_paused = true)]
async fn no_more_are_under_way_than_agreed() {
    let bench = Bench::new(300, THREADS);
    bench.run().await.state.unwrap();
    assert_eq!(bench.most_at_once(), 2);
    let bench = Bench::new(300, FUNCTION);
    bench.run().await.state.unwrap();
    assert_eq!(bench.most_at_once(), 8);
}

#[tokio::test(start_paused = true)]
async fn others_go_on_within_the_budget_of_failures() {
    let damaged = || [Act::Fails(Error::data("damaged").hint("look at it"))];
    let mut bench = Bench::new(100, ONE).when(20, damaged()).when(50, damaged());
    bench.failures_most = 2;
    let ended = bench.run().await;
    assert_eq!(ended.state.unwrap_err().kind, Kind::Data);
    let names: Vec<&str> = ended.failed.iter().map(|task| task.task.as_str()).collect();
    assert_eq!(names, ["1:20-30", "1:50-60"]);
    assert_eq!(ended.failed[0].place, "blocks 20 to 29, from 80:84,0:4,0:4 to 116:120,0:4,0:4");
    assert_eq!((bench.sent(90).len(), bench.sent(END).len()), (1, 0), "the stage goes on and does not end");
    assert_eq!(ended.stages.len(), 1);
    // What was done is done, and the next run does the rest.
    let ended = bench.run().await;
    ended.state.unwrap();
    assert_eq!((ended.stages[0].resumed, ended.stages[0].attempts), (80, 3));

    let mut bench = Bench::new(100, ONE).when(20, damaged()).when(50, damaged());
    bench.failures_most = 1;
    assert_eq!(bench.run().await.failed.len(), 2);
    assert_eq!(bench.sent(60).len(), 0, "it stops at the one too many");
}

#[tokio::test(start_paused = true)]
async fn a_resumed_run_asks_for_what_its_checkpoint_leaves_open_only() {
    const SEGMENTS: u64 = 2000;
    let mut bench =
        Bench::new(10 * SEGMENTS as usize, ONE).when(10 * SEGMENTS - 10, [Act::Fails(Error::data("damaged"))]);
    bench.run().await.state.unwrap_err();
    let asked = |from: &pipeline::store::Requests| bench.store.requests().gets - from.gets;
    let before = bench.store.requests();
    assert_eq!(Checkpoint::latest(&bench.store, &bench.plan, 1).await.unwrap().unwrap().done.len(), 10 * SEGMENTS - 10);
    let one = asked(&before);
    let before = bench.store.requests();
    let ended = bench.run().await;
    ended.state.unwrap();
    assert_eq!((ended.stages[0].resumed, ended.stages[0].attempts), (10 * SEGMENTS - 10, 2));
    // The checkpoint, two states, one receipt of each stage.
    assert!(asked(&before) <= one + 4, "{} reads", asked(&before));
    // And a run that goes on after all stages but the last: states and the last stage only.
    bench.store.delete(&bench.plan.state_key(1)).await.unwrap();
    let before = bench.store.requests();
    let ended = bench.run().await;
    assert_eq!((ended.stages[0].resumed, ended.stages[1].resumed), (10 * SEGMENTS, 1));
    assert!(asked(&before) <= one + 4, "{} reads", asked(&before));
    // Without it, receipts say the same.
    Checkpoint::forget(&bench.store).await.unwrap();
    bench.store.delete(&bench.plan.state_key(0)).await.unwrap();
    bench.lease = 2;
    let before = bench.store.requests();
    let ended = bench.run().await;
    ended.state.unwrap();
    assert_eq!((ended.stages[0].resumed, ended.stages[0].attempts), (10 * SEGMENTS, 1));
    assert!(bench.store.requests().gets - before.gets >= SEGMENTS);
}

#[tokio::test(start_paused = true)]
async fn a_checkpoint_is_written_while_a_stage_goes_on() {
    let bench = Bench::new(100, ONE).when(90, [Act::Hangs]);
    tokio::time::timeout(Duration::from_secs(60), bench.run()).await.unwrap_err();
    let written = Checkpoint::latest(&bench.store, &bench.plan, 1).await.unwrap().unwrap();
    assert_eq!((written.stage, written.done), (0, Ranges::from(vec![(0, 90)])));
}

#[tokio::test(start_paused = true)]
async fn only_a_checkpoint_of_this_plan_and_no_later_lease_counts() {
    let mut bench = Bench::new(30, ONE);
    let (store, plan) = (bench.store.clone(), bench.plan.clone());
    let ours = |lease: u64, end: u64| Checkpoint {
        plan: plan.id.clone(),
        lease,
        stage: 0,
        units: vec![30],
        done: vec![(0, end)].into(),
    };
    let latest = async |lease| Checkpoint::latest(&store, &plan, lease).await.unwrap();
    assert_eq!(latest(9).await, None);
    ours(2, 10).write(&store).await.unwrap();
    ours(4, 20).write(&store).await.unwrap();
    assert_eq!([latest(1).await, latest(3).await, latest(9).await], [None, Some(ours(2, 10)), Some(ours(4, 20))]);
    // Another plan's, one that can't be read, and one that can't be right.
    Checkpoint { plan: "another".into(), ..ours(5, 30) }.write(&store).await.unwrap();
    store.put(&pipeline::layout::checkpoint(6), "{".into()).await.unwrap();
    ours(7, 31).write(&store).await.unwrap();
    assert_eq!(latest(9).await, Some(ours(4, 20)));
    // One whose stage begins with a state that is not there any more.
    Checkpoint { stage: 1, units: vec![30, 1], ..ours(8, 0) }.write(&store).await.unwrap();
    bench.lease = 8;
    let ended = bench.run().await;
    ended.state.unwrap();
    assert_eq!(ended.stages[0].attempts, 4);
}

#[test]
fn several_kinds_of_failure_have_a_code_of_their_own() {
    let failed = |kind| FailedTask {
        task: "1:0-1".into(),
        stage: 1,
        name: "median".into(),
        first: 0,
        end: 1,
        place: "block 0".into(),
        kind,
        message: "no".into(),
        hint: None,
        attempts: 1,
    };
    let code = |kinds: &[Kind]| {
        let failed = kinds.iter().map(|kind| failed(*kind)).collect();
        crate::exit::Stop::Tasks { output: "out".into(), failed }.number()
    };
    assert_eq!(code(&[Kind::Data, Kind::Data]), 5);
    assert_eq!(code(&[Kind::Unavailable]), 4);
    assert_eq!(code(&[Kind::Data, Kind::Unavailable, Kind::Data]), 3);
    let many: Vec<FailedTask> = (0..20).map(|_| failed(Kind::Data)).collect();
    let told = told(&many);
    assert!(told.ends_with("  and 12 more\n") && told.starts_with("  1:0-1  median, block 0: no\n"), "{told}");
}
