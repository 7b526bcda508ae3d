//! Tasks: the unit of dispatch, what carries one out, and the receipt it leaves.
//!
//! A task is a stage and a run of its units, or the decision that ends a stage. A message never carries voxels: a task
//! is a few numbers, its answer a receipt's summary, and everything in between goes through the store. A task writes
//! the same bytes whoever runs it and however often, and its receipt last; so a receipt that is there says that all it
//! speaks of is there too.

mod advance;
mod crew;
mod name;
mod turns;
mod worker;

use futures::{StreamExt, TryStreamExt};
use serde::{Deserialize, Serialize};

use crate::fence::Moment;
use crate::plan::Plan;
use crate::record;
use crate::reduce::Contribution;
use crate::sources::Versions;
use crate::state::State;
use crate::store::Store;
use crate::{Result, layout};

pub use crew::wait_for;
pub use name::TaskName;
pub(crate) use worker::Gate;
pub use worker::Worker;

/// Receipts that are read at once.
const RECEIPTS_IN_FLIGHT: usize = 32;

/// One piece of work for a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Task {
    /// Units `first..end` of a stage.
    Segment {
        /// Index of the stage.
        stage: usize,
        /// First unit.
        first: u64,
        /// One past the last unit.
        end: u64,
    },
    /// The decision that ends a stage: reads its receipts, writes its [`State`].
    Advance {
        /// Index of the stage.
        stage: usize,
        /// Units of the stage, all of which have receipts.
        units: u64,
    },
}

/// One try at a task, as it is sent to a worker.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attempt {
    /// The plan the task is of; a worker that has opened another refuses.
    pub plan: String,
    /// What to do.
    pub task: Task,
    /// The worker starts no unit after it, and answers with what is done by then; none where it may take its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline: Option<Moment>,
    /// The worker writes nothing after it; none where a worker can't outlive its coordinator.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub not_after: Option<Moment>,
}

/// What a worker answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Answer {
    /// A segment's receipt is in the store and ends here.
    Done {
        /// One past the last unit that is done.
        end: u64,
    },
    /// A stage has ended.
    Advanced(Box<State>),
}

/// An object of the output, as it was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Written {
    /// Its key below the output.
    pub key: String,
    /// Its length.
    pub bytes: u64,
    /// CRC-32C of its bytes.
    pub crc32c: u32,
}

impl Written {
    /// What is written when these bytes are.
    pub(crate) fn of(key: impl Into<String>, bytes: &[u8]) -> Self {
        Self { key: key.into(), bytes: bytes.len() as u64, crc32c: crc32c::crc32c(bytes) }
    }

    /// The same with its key below a folder.
    pub(crate) fn below(self, folder: &str) -> Self {
        Self { key: format!("{folder}/{}", self.key), ..self }
    }

    /// Whether these bytes are those that were written.
    pub fn is_of(&self, bytes: &[u8]) -> bool {
        (self.bytes, self.crc32c) == (bytes.len() as u64, crc32c::crc32c(bytes))
    }
}

/// The last thing a task writes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Receipt {
    /// The plan it belongs to.
    pub plan: String,
    /// Fingerprint of its stage.
    pub stage: String,
    /// First unit it speaks of.
    pub first: u64,
    /// One past the last.
    pub end: u64,
    /// Objects of the output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub written: Vec<Written>,
    /// Objects of the input, and the version that was read; those of a mask or of intensities begin with that word.
    #[serde(default, skip_serializing_if = "Versions::is_empty")]
    pub read: Versions,
    /// Chunks that were not there and read as fill value.
    #[serde(default)]
    pub missing_chunks: u64,
    /// Closed rows of each unit that has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<Contribution>,
    /// Rows kept by each range, where the stage ranks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rows: Vec<u64>,
}

impl Receipt {
    /// Reads the receipt of the segment that starts at `first`, if there is one.
    ///
    /// # Errors
    /// Data when there is one and it can't be read or is another's.
    pub async fn read(store: &Store, plan: &Plan, stage: usize, first: u64) -> Result<Option<Self>> {
        let fingerprint = &plan.stages[stage].fingerprint;
        let key = layout::receipt(fingerprint, first);
        let Some(object) = store.get(&key).await? else { return Ok(None) };
        let receipt: Self = record::parse(store, &key, &object.bytes)?;
        if receipt.stage != *fingerprint || receipt.first != first || receipt.end <= first {
            return Err(record::unusable(store, &key, "it is the receipt of something else"));
        }
        Ok(Some(receipt))
    }

    /// Reads all receipts of a stage that are there, those that nobody needs any more included.
    ///
    /// # Errors
    /// Data when one can't be read.
    pub async fn list(store: &Store, plan: &Plan, stage: usize) -> Result<Vec<Self>> {
        let folder = layout::receipts(&plan.stages[stage].fingerprint);
        let found = store.list(&folder).await?;
        let reads =
            found.iter().filter_map(|entry| entry.key.strip_prefix(&format!("{folder}/")).and_then(layout::first_of));
        let reads: Vec<_> = reads.map(|first| Self::read(store, plan, stage, first)).collect();
        futures::stream::iter(reads)
            .buffered(RECEIPTS_IN_FLIGHT)
            .try_filter_map(|found| async { Ok(found) })
            .try_collect()
            .await
    }

    /// Writes the receipt, and says where the one that stands ends: another attempt may have left one already, for more
    /// units or for fewer.
    pub async fn write(self, store: &Store) -> Result<u64> {
        let key = layout::receipt(&self.stage, self.first);
        Ok(record::create(store, &key, self).await?.end)
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::sync::Arc;

    use object_store::memory::InMemory;

    use super::*;

    #[tokio::test]
    async fn the_receipt_that_stands_is_gone_by() {
        let store = Store::over(Arc::new(InMemory::new()), "memory");
        let receipt = |end| Receipt {
            plan: "p".into(),
            stage: "s".into(),
            first: 3,
            end,
            written: Vec::new(),
            read: Versions::new(),
            missing_chunks: 0,
            contributions: Vec::new(),
            rows: Vec::new(),
        };
        assert_eq!(receipt(7).write(&store).await.unwrap(), 7);
        assert_eq!(receipt(9).write(&store).await.unwrap(), 7);
    }
}
