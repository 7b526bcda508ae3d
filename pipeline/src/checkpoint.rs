//! Checkpoints: how far a run is, in one small record, so that going on with it need not ask for every receipt.
//!
//! The coordinator that holds the output writes one every few seconds and at the end of each stage, under the number of
//! its lease, over the one before. Receipts hold the truth; a checkpoint repeats some of it, and one that is missing, old
//! or damaged costs requests and nothing else. Whoever takes receipts back deletes the checkpoints first
//! ([`Checkpoint::forget`]): one that speaks of more than there are receipts for would be believed.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::plan::Plan;
use crate::store::Store;
use crate::{Result, layout, record};

/// How far a run was.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The plan it is of.
    pub plan: String,
    /// The lease of the coordinator that wrote it.
    pub lease: u64,
    /// Index of the stage that was under way; those before it have ended.
    pub stage: usize,
    /// Units of the stages up to this one.
    pub units: Vec<u64>,
    /// Units of the stage that have receipts.
    pub done: Ranges,
}

impl Checkpoint {
    /// The newest one of a plan that was written under a lease up to `lease`. One that is damaged is passed over.
    ///
    /// # Errors
    /// What the store says when it can't be asked.
    pub async fn latest(store: &Store, plan: &Plan, lease: u64) -> Result<Option<Self>> {
        let written = store.children(layout::CHECKPOINTS).await?.objects;
        let mut leases: Vec<u64> = written.iter().filter_map(|name| name.strip_suffix(".json")?.parse().ok()).collect();
        leases.retain(|number| *number <= lease);
        leases.sort_unstable();
        for number in leases.into_iter().rev() {
            let key = layout::checkpoint(number);
            let Some(object) = store.get(&key).await? else { continue };
            match record::parse::<Self>(store, &key, &object.bytes) {
                Ok(found) if found.plan == plan.id && found.is_whole(plan) => return Ok(Some(found)),
                Ok(_) => {}
                Err(error) => {
                    tracing::warn!(error = error.message, "a checkpoint is passed over; receipts say the same")
                }
            }
        }
        Ok(None)
    }

    fn is_whole(&self, plan: &Plan) -> bool {
        let within = |units: &u64| self.done.0.iter().all(|(first, end)| first < end && end <= units);
        self.stage < plan.stages.len() && self.units.len() == self.stage + 1 && self.units.last().is_some_and(within)
    }

    /// Writes it over the one before.
    pub async fn write(&self, store: &Store) -> Result<()> {
        store.put(&layout::checkpoint(self.lease), record::json(self)?).await
    }

    /// Deletes all checkpoints of an output: from then on receipts alone say what is done.
    pub async fn forget(store: &Store) -> Result<()> {
        store.delete_prefix(layout::CHECKPOINTS).await
    }
}

/// Sets of units, as ranges that neither overlap nor touch.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Vec<(u64, u64)>", into = "Vec<(u64, u64)>")]
pub struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    /// Adds units `first..end`.
    pub fn insert(&mut self, first: u64, end: u64) {
        if first >= end {
            return;
        }
        let (mut first, mut end) = (first, end);
        // All that begin no later than this ends, last to first, until one ends before this begins.
        while let Some((start, stop)) = self.0.range(..=end).next_back().map(|(s, e)| (*s, *e)) {
            if stop < first {
                break;
            }
            (first, end) = (first.min(start), end.max(stop));
            self.0.remove(&start);
        }
        self.0.insert(first, end);
    }

    /// The end of the range that `unit` is in, if it is in one.
    pub fn end_of(&self, unit: u64) -> Option<u64> {
        self.0.range(..=unit).next_back().map(|(_, end)| *end).filter(|end| unit < *end)
    }

    /// Units in all.
    pub fn len(&self) -> u64 {
        self.0.iter().map(|(first, end)| end - first).sum()
    }

    /// True when there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl From<Vec<(u64, u64)>> for Ranges {
    fn from(pairs: Vec<(u64, u64)>) -> Self {
        let mut ranges = Self::default();
        pairs.into_iter().for_each(|(first, end)| ranges.insert(first, end));
        ranges
    }
}

impl From<Ranges> for Vec<(u64, u64)> {
    fn from(ranges: Ranges) -> Self {
        ranges.0.into_iter().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_merged_in_any_order() {
        let pieces = [(0, 3), (3, 5), (9, 12), (7, 9), (20, 21), (10, 11)];
        for turn in 0..pieces.len() {
            let mut turned = pieces.to_vec();
            turned.rotate_left(turn);
            let ranges = Ranges::from(turned);
            assert_eq!(Vec::from(ranges.clone()), [(0, 5), (7, 12), (20, 21)]);
            assert_eq!(
                [0, 4, 5, 7, 11, 12, 20, 21].map(|u| ranges.end_of(u)),
                [Some(5), Some(5), None, Some(12), Some(12), None, Some(21), None]
            );
            assert_eq!(ranges.len(), 11);
        }
        let mut all = Ranges::default();
        all.insert(5, 5);
        assert!(all.is_empty());
        all.insert(4, 6);
        all.insert(0, 20);
        assert_eq!(Vec::from(all), [(0, 20)]);
    }
}
