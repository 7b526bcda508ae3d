//! Tasks that failed for good: what is kept of them, and what people are told.

use std::fmt::Write as _;

use pipeline::plan::{Plan, StageKind};
use pipeline::task::{Task, TaskName};
use pipeline::{Error, Kind};
use serde::{Deserialize, Serialize};

/// A task that was given up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailedTask {
    /// What `voxmill replay` calls it: `3:120-130`.
    pub task: String,
    /// Number of the stage, from 1.
    pub stage: usize,
    /// The stage's name.
    pub name: String,
    /// First unit that is not done.
    pub first: u64,
    /// One past the last.
    pub end: u64,
    /// The units as people find them: blocks with their place in the image, where they are blocks.
    pub place: String,
    /// Why, by kind.
    pub kind: Kind,
    /// Why.
    pub message: String,
    /// What would help.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hint: Option<String>,
    /// How often it was tried.
    pub attempts: u64,
}

impl FailedTask {
    pub(super) fn new(plan: &Plan, task: Task, error: &Error, attempts: u64) -> Self {
        let (stage, first, end, place) = match task {
            Task::Segment { stage, first, end } => (stage, first, end, place(plan, stage, first, end)),
            Task::Advance { stage, units } => (stage, 0, units, "the decision that ends it".to_owned()),
        };
        Self {
            task: TaskName::from(task).to_string(),
            stage: stage + 1,
            name: plan.stage_name(&plan.stages[stage]),
            first,
            end,
            place,
            kind: error.kind,
            message: error.message.clone(),
            hint: error.hint.clone(),
            attempts,
        }
    }
}

/// Which part of a stage some units are.
fn place(plan: &Plan, stage: usize, first: u64, end: u64) -> String {
    let (word, blocks) = match plan.stages[stage].kind {
        StageKind::Map(_) | StageKind::Relabel { .. } => ("block", true),
        _ => ("unit", false),
    };
    let mut text = match end - first {
        1 => format!("{word} {first}"),
        _ => format!("{word}s {first} to {}", end - 1),
    };
    if blocks {
        let grid = &plan.grid;
        let region = |unit: u64| {
            let region = grid.region(unit);
            let sides = grid.extent.axes().map(|a| format!("{}:{}", region.start[a], region.end[a]));
            sides.collect::<Vec<_>>().join(",")
        };
        // Writing to a string does not fail.
        let _ = match end - first {
            1 => write!(text, ", {}", region(first)),
            _ => write!(text, ", from {} to {}", region(first), region(end - 1)),
        };
    }
    text
}

/// Failed tasks in a few lines, with the reason given once where neighbours share it.
pub(crate) fn told(failed: &[FailedTask]) -> String {
    const LINES: usize = 8;
    let mut out = String::new();
    for task in failed.iter().take(LINES) {
        let FailedTask { task, name, place, message, attempts, .. } = task;
        let times = if *attempts == 1 { String::new() } else { format!(" ({attempts} times)") };
        let _ = writeln!(out, "  {task}  {name}, {place}: {message}{times}");
    }
    if let Some(more) = failed.len().checked_sub(LINES).filter(|more| *more > 0) {
        let _ = writeln!(out, "  and {more} more");
    }
    out
}
