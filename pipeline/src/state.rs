//! What is decided between the stages of a run, and carried from one to the next.
//!
//! Each stage's advance ([`task`](crate::task)) takes the state before it, adds what the stage has made known, and
//! leaves the whole as one small record. Tasks of later stages read the last one.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use voxel::Dtype;

use crate::plan::{Plan, Rows, TableId};
use crate::store::Store;
use crate::{Error, Result, record};

/// What is known when a stage has ended: the description of the next.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct State {
    /// Units of the next stage.
    pub units: u64,
    /// Thresholds chosen so far, by the number of their op.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub thresholds: BTreeMap<usize, f64>,
    /// Finite ranges, by image, that the next rounds of counting put even bins over.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranges: Vec<(usize, (f64, f64))>,
    /// Ranks that the next rounds of counting look for.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub wanted: Vec<Wanted>,
    /// How the rows of each table are ranked, so far as that is known.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ranked: Vec<Ranked>,
    /// Input chunks that were not there.
    #[serde(default)]
    pub missing_chunks: u64,
}

impl State {
    /// How a table's rows are ranked, if that is known.
    pub fn ranked(&self, of: TableId) -> Option<&Ranked> {
        self.ranked.iter().find(|ranked| ranked.of == of)
    }

    /// Rows of a table, once they have been counted.
    pub fn rows(&self, of: TableId) -> Option<u64> {
        self.ranked(of)?.bases.last().copied()
    }

    /// True when not one chunk of the input was there.
    pub fn all_missing(&self, plan: &Plan) -> bool {
        let (offset, chunk) = (plan.input.offset, plan.input.chunk);
        let along = |a: usize| (offset[a] + plan.extent.shape[a]).div_ceil(chunk[a]) - offset[a] / chunk[a];
        let chunks: u64 = (0..3).map(|a| along(a) as u64).product();
        self.missing_chunks >= chunks
    }

    /// The element type that an image is written in: labels take uint32 where they can.
    pub fn dtype(&self, plan: &Plan, image: usize) -> Dtype {
        let objects = image.checked_sub(1).and_then(|step| self.rows(TableId { step, of: Rows::Objects }));
        match (plan.dtype(image), objects) {
            (Dtype::U64, Some(n)) if plan.ops[image - 1].is_merged() && n <= u64::from(u32::MAX) => Dtype::U32,
            (dtype, _) => dtype,
        }
    }

    /// Reads what a stage decided, if it has ended.
    pub async fn read(store: &Store, plan: &Plan, stage: usize) -> Result<Option<Self>> {
        let key = plan.state_key(stage);
        let Some(object) = store.get(&key).await? else { return Ok(None) };
        record::parse(store, &key, &object.bytes).map(Some)
    }

    /// Writes what a stage decided. Whoever decides it again decides the same.
    ///
    /// # Errors
    /// Internal when it was decided differently before.
    pub async fn create(&self, store: &Store, plan: &Plan, stage: usize) -> Result<()> {
        let key = plan.state_key(stage);
        if record::create(store, &key, self.clone()).await? == *self {
            return Ok(());
        }
        Err(Error::internal(format!("{} was decided differently before", store.display(&key))))
    }
}

/// How the rows of a table fall into ranges.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ranked {
    /// Which table.
    pub of: TableId,
    /// First key of each range.
    pub cuts: Vec<u64>,
    /// Rows kept before each range, and at the end all of them; empty until they have been counted.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub bases: Vec<u64>,
    /// Median number of voxels of an object.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub median_voxels: Option<f64>,
}

/// The ranks a refining round looks for, as leading bits of their keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Wanted {
    /// Of which image.
    pub image: usize,
    /// Leading bits that are known.
    pub bits: u32,
    /// Those bits, for each rank.
    pub prefixes: Vec<u64>,
}
