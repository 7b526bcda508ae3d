//! What a task is called where people read it, and type it.

use std::fmt;
use std::str::FromStr;

use super::Task;
use crate::{Error, Result};

/// A task by the stage's number as `voxmill plan` prints it and the units: `3:120-130` are the units from 120 up to,
/// and not including, 130 of the third stage; `3:end` is the decision that ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct TaskName {
    /// Index of the stage, which is one less than its number.
    pub stage: usize,
    /// First unit, and one past the last; none for the decision that ends the stage.
    pub units: Option<(u64, u64)>,
}

impl From<Task> for TaskName {
    fn from(task: Task) -> Self {
        match task {
            Task::Segment { stage, first, end } => Self { stage, units: Some((first, end)) },
            Task::Advance { stage, .. } => Self { stage, units: None },
        }
    }
}

impl fmt::Display for TaskName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.units {
            Some((first, end)) => write!(f, "{}:{first}-{end}", self.stage + 1),
            None => write!(f, "{}:end", self.stage + 1),
        }
    }
}

impl FromStr for TaskName {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let parsed = || {
            let (stage, units) = text.trim().split_once(':')?;
            let stage = stage.parse::<usize>().ok()?.checked_sub(1)?;
            if units == "end" {
                return Some(Self { stage, units: None });
            }
            let (first, end) = units.split_once('-')?;
            let (first, end) = (first.parse().ok()?, end.parse().ok()?);
            (first < end).then_some(Self { stage, units: Some((first, end)) })
        };
        parsed().ok_or_else(|| {
            Error::invalid(format!("{text:?} is no task")).hint(
                "a task is a stage's number and its units, as in 3:120-130, or 3:end for the decision that ends it",
            )
        })
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn names_are_read_as_they_are_written() {
        for task in [Task::Segment { stage: 2, first: 120, end: 130 }, Task::Advance { stage: 0, units: 9 }] {
            let name = TaskName::from(task);
            assert_eq!(name.to_string().parse::<TaskName>().unwrap(), name);
        }
        assert_eq!(TaskName::from(Task::Segment { stage: 2, first: 120, end: 130 }).to_string(), "3:120-130");
        for wrong in ["", "3", "0:1-2", "3:2-2", "3:5-4", "x:1-2", "3:1", "3:-1-2", "3:1-2-3", "3:end-4"] {
            let error = wrong.parse::<TaskName>().unwrap_err();
            assert!(error.hint.unwrap().contains("3:120-130"), "{wrong}");
        }
    }
}
