//! What is decided between the stages of a run, and carried from one to the next.
//!
//! Each stage's advance ([`task`](crate::task)) takes the state before it, adds what the stage has made known, and
//! leaves the whole as one small record. Tasks of later stages read the last one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use voxel::Dtype;

use crate::plan::{Counted, Plan};
use crate::store::Store;
use crate::{Result, layout, record};

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
        record::parse(store, &key, &object.bytes).map(Some)
    }
}

/// The ranks a refining round looks for, as leading bits of their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Of which image.
    pub of: Counted,
    /// Leading bits that are known.
    pub bits: u32,
    /// Those bits, for each rank.
    pub prefixes: Vec<u64>,
}
