//! What a run may spend: attempts ask before they are sent, those under way count at their worst, and where there is room
//! for none, no more is sent.

use std::time::Duration;

use pipeline::store::Requests;

use super::scripted::{Act, Bench, END};
use super::{FUNCTION, away};
use crate::executor::{Terms, Usage};
use crate::price::{Budget, Fleet, Prices, Pricing};
use pipeline::plan::memory::{Resources, project};

/// An instance of a GiB costs a dollar for the hundred seconds that an attempt may take, and nothing else costs anything.
fn pricing(max_usd: f64) -> Pricing {
    let mut prices = Prices::default();
    ["gb-second=0.01", "invocation=0", "s3-put=0", "s3-get=0"].iter().for_each(|text| prices.set(text).unwrap());
    let fleet = Fleet { memory_mib: 1024, instances: 8, timeout: Duration::from_secs(100) };
    Pricing { prices, fleet: Some(fleet), max_usd: Some(max_usd), ..Pricing::default() }
}

/// A bench where an attempt takes a tenth of its time, and may spend so much.
fn bench(units: usize, terms: Terms, max_usd: f64) -> Bench {
    let mut bench = Bench::new(units, terms);
    let resources = Resources { memory_bytes: 1 << 30, threads: 1, merge_bytes: None };
    let projection = project(&bench.plan, &resources).unwrap();
    bench.budget = Budget::new(&pricing(max_usd), &bench.plan, &projection, &[]);
    let usage = Usage { billed_ms: 10_000, memory_mib: 1024, requests: Some(Requests::default()), ..Usage::default() };
    *bench.executor.usage.lock().unwrap() = Some(usage);
    bench
}

fn cents(usd: f64) -> i64 {
    (usd * 100.0).round() as i64
}

#[tokio::test(start_paused = true)]
async fn it_stops_before_the_limit_and_goes_on_with_a_higher_one() {
    // After four attempts a fifth could take it to 1.40.
    let mut bench = bench(100, FUNCTION, 1.35);
    let ended = bench.run().await;
    let refusal = bench.budget.refusal().unwrap();
    assert_eq!(ended.state.unwrap_err(), refusal);
    assert!(refusal.message.contains("$0.400 of --max-usd $1.35"), "{}", refusal.message);
    assert!(refusal.hint.unwrap().contains("higher --max-usd"));
    assert!(ended.failed.is_empty(), "nothing has failed: {:?}", ended.failed);
    assert_eq!((ended.stages[0].done, ended.stages[0].attempts), (40, 4));
    assert_eq!(bench.most_at_once(), 1, "two at their worst were too much at any time");
    let spent = bench.budget.spent();
    assert_eq!((cents(spent.usd), spent.invocations, spent.billed_ms, spent.attempts.len()), (40, 4, 40_000, 4));
    assert_eq!(spent.attempts[0].task, "1:0-10");

    let resources = Resources { memory_bytes: 1 << 30, threads: 1, merge_bytes: None };
    let projection = project(&bench.plan, &resources).unwrap();
    bench.budget = Budget::new(&pricing(100.0), &bench.plan, &projection, &[]);
    let ended = bench.run().await;
    ended.state.unwrap();
    // Six segments, the decision, and the same for the last stage.
    assert_eq!((ended.stages[0].resumed, bench.budget.spent().invocations), (40, 9));
    assert!(bench.most_at_once() > 4);
    assert!((0..100).step_by(10).all(|first| bench.sent(first).len() == 1), "nothing was done twice");
}

#[tokio::test(start_paused = true)]
async fn as_many_are_under_way_as_could_be_paid_for() {
    let bench = bench(100, FUNCTION, 3.9);
    bench.run().await.state.unwrap();
    assert_eq!(bench.most_at_once(), 3);
    assert_eq!(cents(bench.budget.spent().usd), 130);
}

#[tokio::test(start_paused = true)]
async fn attempts_that_fail_are_paid_for_and_refused_ones_are_not() {
    let bench = bench(20, Terms { backups: false, ..FUNCTION }, 100.0)
        .when(0, [Act::Fails(away()), Act::Fails(pipeline::Error::throttled("slow down"))]);
    bench.run().await.state.unwrap();
    let spent = bench.budget.spent();
    // Two segments and one decision, the last stage's two, and one that failed.
    assert_eq!((spent.invocations, cents(spent.usd)), (6, 60));
    // Of the one that failed, requests may still be on their way; the refused one never made any.
    assert_eq!(bench.unsettled.into_inner(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_told_of_counts_at_its_worst() {
    let bench = bench(20, Terms { backups: false, ..FUNCTION }, 100.0).when(10, [Act::Hangs]).when(END, [Act::Hangs]);
    bench.run().await.state.unwrap();
    let spent = bench.budget.spent();
    assert_eq!((spent.unknown, spent.invocations, cents(spent.usd)), (2, 7, 250));
    assert!(spent.attempts.iter().all(|took| took.usage.billed_ms == 10_000));
}

#[tokio::test(start_paused = true)]
async fn a_limit_of_nothing_sends_nothing() {
    let bench = bench(20, FUNCTION, 0.0);
    let ended = bench.run().await;
    assert_eq!(ended.state.unwrap_err(), bench.budget.refusal().unwrap());
    assert_eq!((bench.most_at_once(), bench.budget.spent().invocations), (0, 0));
}
