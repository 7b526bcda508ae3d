#![allow(clippy::unwrap_used)]
//! The account alone: what counts as what. How a run stops by it is in the tests of dispatch.

use super::*;

#[tokio::test]
async fn without_a_limit_everything_passes_and_is_counted() {
    let budget = Budget::unlimited();
    let task = Task::Segment { stage: 0, first: 0, end: 10 };
    let entered = budget.enter(task).await.unwrap();
    let used = Used::default();
    let usage = Usage { billed_ms: 1500, memory_mib: 2048, peak_mib: 700, cold: true, ..Usage::default() };
    used.set(usage);
    entered.ended(task, &used, false);
    // Dropped as one that is given up.
    drop(budget.enter(task).await.unwrap());
    let spent = budget.spent();
    assert_eq!((spent.invocations, spent.cold_starts, spent.peak_mib), (1, 1, 700));
    assert!((spent.gb_seconds - 3.0).abs() < 1e-12 && spent.usd == 0.0);
    assert_eq!(spent.attempts, [Took { task: "1:0-10".into(), usage }]);
    assert_eq!(budget.refusal(), None);
}
