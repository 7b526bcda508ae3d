//! Tasks: the unit of dispatch, what carries one out, and the receipt it leaves.
//!
//! A task is a stage and a run of its units, or the decision that ends a stage. A message never carries voxels: a task
//! is a few numbers, its answer a receipt's summary, and everything in between goes through the store. A task writes
//! the same bytes whoever runs it and however often, and its receipt last; so a receipt that is there says that all it
//! speaks of is there too.

mod advance;
mod worker;

use bytes::Bytes;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use voxel::Dtype;

use crate::count::Wanted;
use crate::plan::{Counted, Plan};
use crate::reduce::Contribution;
use crate::store::{Store, Version};
use crate::{Error, Result, layout};

pub(crate) use worker::Gate;
pub use worker::Worker;

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
    /// Objects of the input, and the version that was read.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub read: BTreeMap<String, Version>,
    /// Chunks that were not there and read as fill value.
    #[serde(default)]
    pub missing_chunks: u64,
    /// Closed rows of each unit that has some.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub contributions: Vec<Contribution>,
    /// Objects kept by each range, where the stage ranks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub objects: Vec<u64>,
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
        let receipt: Self = parse(store, &key, &object.bytes)?;
        if receipt.stage != *fingerprint || receipt.first != first || receipt.end <= first {
            return Err(unusable(store, &key, "it is the receipt of something else"));
        }
        Ok(Some(receipt))
    }

    /// Writes the receipt; one that is already there says the same.
    async fn write(&self, store: &Store) -> Result<()> {
        store.put_new(&layout::receipt(&self.stage, self.first), json(self)?).await?;
        Ok(())
    }
}

/// What is known when a stage has ended: the description of the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Units of the next stage.
    pub units: u64,
    /// Thresholds chosen so far, by the number of their op.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub thresholds: BTreeMap<usize, f64>,
    /// Finite ranges that the next rounds of counting put even bins over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<(Counted, (f64, f64))>,
    /// Ranks that the next rounds of counting look for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<Wanted>,
    /// First key of each range.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cuts: Vec<u64>,
    /// Objects before each range, and at the end all of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<u64>,
    /// Median number of voxels of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_voxels: Option<f64>,
    /// Input chunks that were not there, over all passes so far.
    #[serde(default)]
    pub missing_chunks: u64,
}

impl State {
    /// Objects that were kept, once they have been counted.
    pub fn objects(&self) -> Option<u64> {
        self.bases.last().copied()
    }

    /// True when not one chunk of the input was there.
    pub fn all_missing(&self, plan: &Plan) -> bool {
        let chunks: u64 = (0..3).map(|a| plan.extent.shape[a].div_ceil(plan.input.chunk[a]) as u64).product();
        self.missing_chunks >= chunks
    }

    /// The element type of the labels.
    pub fn label_dtype(&self) -> Dtype {
        if self.objects().is_some_and(|n| n > u64::from(u32::MAX)) { Dtype::U64 } else { Dtype::U32 }
    }

    /// Reads what a stage decided, if it has ended.
    pub async fn read(store: &Store, plan: &Plan, stage: usize) -> Result<Option<Self>> {
        let key = layout::state(&plan.stages[stage].fingerprint);
        let Some(object) = store.get(&key).await? else { return Ok(None) };
        parse(store, &key, &object.bytes).map(Some)
    }
}

/// A record as the bytes of an object.
pub(crate) fn json(record: &impl Serialize) -> Result<Bytes> {
    let bytes = serde_json::to_vec(record).map_err(|e| Error::internal(format!("a record can't be written: {e}")))?;
    Ok(bytes.into())
}

fn parse<T: for<'a> Deserialize<'a>>(store: &Store, key: &str, bytes: &[u8]) -> Result<T> {
    serde_json::from_slice(bytes).map_err(|e| unusable(store, key, &e.to_string()))
}

fn unusable(store: &Store, key: &str, why: &str) -> Error {
    Error::data(format!("the record {} can't be used: {why}", store.display(key)))
        .hint("run again with --overwrite to compute everything anew")
}
