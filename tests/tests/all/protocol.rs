//! The protocol of leases, fences, receipts and checkpoints, explored: every state that two coordinators, their workers
//! and a store can get into is looked at, and every rule is left out once to see that it is needed.

mod explore;
mod model;

use std::time::Instant;

use explore::{Explored, explore};
use model::{Protocol, Rule, Times};

const TIMES: Times = Times { patience: 1, silence: 2, not_after: 1, skew: 1, signature: 3 };

/// Two jobs that overwrite each other's answers.
const REPLACED: Protocol = Protocol {
    times: TIMES,
    segments: 1,
    attempts: 1,
    jobs: 2,
    overwrites: true,
    input_changes: false,
    without: None,
};

/// One job of two segments, resumed again and again.
const RESUMED: Protocol = Protocol { segments: 2, attempts: 2, jobs: 1, overwrites: false, ..REPLACED };

fn told(name: &str, protocol: &Protocol) -> Explored {
    let start = Instant::now();
    let found = explore(protocol);
    println!("{name}: {} states, {} steps, {:.1} s", found.states, found.steps, start.elapsed().as_secs_f64());
    if let Some((what, path)) = &found.violation {
        println!("  {what}, after {} steps:", path.len());
        path.iter().for_each(|step| println!("    {step}"));
    }
    found
}

#[track_caller]
fn holds(name: &str, protocol: &Protocol) {
    let found = told(name, protocol);
    assert!(found.violation.is_none(), "{}: {:#?}", name, found.violation);
    assert!(found.dead_end.is_none(), "{name}: from here nothing is ever finished: {:#?}", found.dead_end);
}

#[test]
fn nothing_is_lost_when_runs_are_replaced() {
    holds("replaced", &REPLACED);
}

#[test]
fn nothing_is_lost_when_runs_are_resumed() {
    holds("resumed", &RESUMED);
}
