//! The protocol of leases, fences, receipts and checkpoints ([`model`] says what is in it), explored: every state that
//! two coordinators, their workers and a store can get into is looked at. Then every rule is left out once, to see that it
//! is needed, and that the explorer would find a hole. `docs/reliability.md` states the protocol in words.
//!
//! What always holds: no two coordinators hold the output; a receipt vouches for data that is there and its own job's;
//! what can be opened, and what a manifest speaks of, is whole; a checkpoint claims nothing that no receipt says; once a
//! deletion has begun, no write from before it takes effect. And from every state some path leads to a finished run.

#![allow(clippy::print_stdout, reason = "how much was explored is part of what a test says")]

mod explore;
mod model;

use std::time::Instant;

use explore::{Explored, explore};
use model::{Protocol, Rule, Times};

/// As few ticks as tell apart what has to be told apart: what a dead holder has signed outlives its lease.
const TIMES: Times = Times { patience: 2, silence: 2, not_after: 1, skew: 0, signature: 2 };

/// A job that is resumed, and whose answers are replaced by those of the same job.
const ALONE: Protocol = Protocol {
    times: Times { skew: 1, ..TIMES },
    segments: 1,
    attempts: 1,
    jobs: 1,
    overwrites: true,
    input_changes: false,
    checkpoints: true,
    without: None,
};

fn told(name: &str, protocol: &Protocol) -> Explored {
    let start = Instant::now();
    let found = explore(protocol);
    println!("{name}: {} states, {} steps, {:.1} s", found.states, found.steps, start.elapsed().as_secs_f64());
    if let Some((what, path)) = &found.violation {
        println!("    {what}, after");
        path.iter().for_each(|step| println!("      {step}"));
    }
    found
}

#[track_caller]
fn holds(name: &str, protocol: &Protocol) {
    let found = told(name, protocol);
    assert_eq!(found.violation, None, "{name}");
    assert_eq!(found.dead_end, None, "{name}: from here nothing is ever finished");
    // A model in which nothing happens would hold, too.
    assert!(found.states > 10_000, "{name}");
}

#[test]
fn a_job_alone() {
    holds("a job, resumed and replaced", &ALONE);
}

#[test]
fn two_jobs() {
    let protocol = Protocol { times: TIMES, jobs: 2, checkpoints: false, ..ALONE };
    holds("a job, resumed, and another that replaces it", &protocol);
}

#[test]
fn two_segments() {
    let protocol = Protocol { times: TIMES, segments: 2, overwrites: false, ..ALONE };
    holds("a job of two segments, resumed", &protocol);
}

#[test]
fn two_attempts() {
    let protocol = Protocol { times: TIMES, attempts: 2, overwrites: false, ..ALONE };
    holds("a job with two attempts at once, resumed", &protocol);
}

#[test]
fn an_input_that_changes() {
    let protocol = Protocol { times: TIMES, overwrites: false, input_changes: true, ..ALONE };
    holds("a job whose input changes, resumed", &protocol);
}

/// What goes wrong without each rule, and that it is found.
#[test]
fn every_rule_is_needed() {
    let spoiled = "a write from before a deletion takes effect after it has begun";
    let unvouched = "a receipt vouches for data that isn't there, or isn't its own";
    for (rule, expected) in [
        (Rule::ReceiptAfterData, unvouched),
        (Rule::Fence, spoiled),
        (Rule::WaitBeforeDeleting, spoiled),
        (Rule::WaitForSignatures, spoiled),
        (Rule::WaitForSkew, spoiled),
        (Rule::LookAfterPromise, spoiled),
        (Rule::CheckpointByHolder, spoiled),
        (Rule::Guard, "two coordinators hold the output"),
        (Rule::LeaseIsCreated, "two coordinators hold the output"),
        (Rule::MetadataFirst, "what can be opened isn't whole"),
        (Rule::PublishAtTheEnd, "what can be opened isn't whole"),
        (Rule::ReceiptsBeforeData, unvouched),
        (Rule::SayThatYouDelete, unvouched),
        (Rule::CheckpointBeforeReceipts, "a checkpoint claims what no receipt says"),
    ] {
        let found = told(&format!("without {rule:?}"), &Protocol { without: Some(rule), ..ALONE });
        let (what, path) = found.violation.unwrap_or_else(|| panic!("nothing goes wrong without {rule:?}"));
        assert_eq!(what, expected, "without {rule:?}");
        assert!(path.len() < 40);
    }
}
