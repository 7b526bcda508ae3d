//! The plan: what a job becomes, before anything runs. Pure and deterministic.
//!
//! Steps are fused into as few passes over the voxels as the barriers allow: a threshold that is chosen from the image
//! needs the whole histogram first, a label needs its neighbours'. Each pass is a map [`Stage`] over blocks; what the
//! label merge adds are stages over seams, groups and ranges. A stage is described by a few numbers, and its units by
//! arithmetic, so the plan of a million blocks is as small as that of one.
//!
//! [`build`] turns a job and what is known of its input into a plan; [`memory`] says what every stage will hold.

pub mod build;
pub mod memory;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use voxel::exact_sum::Kind;
use voxel::label::Connectivity;
use voxel::table::Columns;
use voxel::{Dtype, Extent, Region};

use crate::array::{ArraySpec, OmeVersion, Pick};
use crate::grid::{Grid, Tree};
use crate::job::Job;
use crate::layout;
use crate::op::{Choice, Op};
use crate::reduce::Contributor;
use crate::store::Store;
use crate::{Error, Result};

/// The version of the plan's own form; a worker refuses any other.
pub const FORMAT: u32 = 1;

/// A job, ready to run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Plan {
    /// See [`FORMAT`].
    pub format: u32,
    /// Version of voxmill that made it.
    pub voxmill: String,
    /// Which question is asked of which data: equal for every plan of the same job on the same input.
    pub identity: String,
    /// The identity with blocks, groups and ranges: equal plans leave equal scratch.
    pub id: String,
    /// What the user wrote.
    pub job: Job,
    /// What is read.
    pub input: Input,
    /// The image as the steps see it: the input after `region`.
    pub extent: Extent,
    /// The blocks.
    pub grid: Grid,
    /// The steps but for the last where it is `label` or `objects`.
    pub ops: Vec<Op>,
    /// What the job ends with.
    pub ending: Ending,
    /// The image that is written.
    pub output: Option<Output>,
    /// Shape of the label merge.
    pub merge: MergeSettings,
    /// What runs, in order.
    pub stages: Vec<Stage>,
}

/// What a plan reads.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Input {
    /// URL of the array.
    pub url: String,
    /// Which level, channel and so on.
    pub pick: Pick,
    /// Hash of its metadata.
    pub fingerprint: String,
    /// Its element type.
    pub dtype: Dtype,
    /// Its chunks, z, y, x.
    pub chunk: [usize; 3],
    /// Bytes of a decoded chunk, with what lies beyond the image.
    pub chunk_bytes: u64,
    /// Where the image of the steps starts in it.
    pub offset: [usize; 3],
}

/// What the last step leaves.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ending {
    /// A histogram only.
    Measure,
    /// An image.
    Image,
    /// Labels and their table.
    Label {
        /// Which voxels are neighbours.
        connectivity: Connectivity,
        /// Objects smaller than this are dropped.
        min_voxels: u64,
        /// Objects at the border of the volume are dropped.
        clear_border: bool,
    },
    /// A table of the objects that the image's values name.
    Objects,
}

/// An image a run writes. The element type of labels is settled when they have been counted.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Output {
    /// Key of its group.
    pub group: String,
    /// Shape, type, chunks, codec.
    pub spec: ArraySpec,
}

/// Shape of the label merge. Never changes a result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MergeSettings {
    /// Children of a group along each axis.
    pub fanout: usize,
    /// Rows that a range is cut for.
    pub range_rows: u64,
    /// Rows in a row group of the table.
    pub group_rows: u64,
}

impl Default for MergeSettings {
    fn default() -> Self {
        Self { fanout: 4, range_rows: 1 << 16, group_rows: 1 << 20 }
    }
}

/// One map or one reduce over units, ended by a barrier: every unit is done before the next stage starts.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Stage {
    /// What it does.
    pub kind: StageKind,
    /// Units in a segment, which is what one task gets.
    pub segment: u64,
    /// Names its receipts and scratch: a hash of everything its results depend on.
    pub fingerprint: String,
}

/// What a stage does.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum StageKind {
    /// A pass over the voxels, block by block.
    Map(Pass),
    /// Pairs of labels over the seams, block by block.
    Seam,
    /// Open objects joined, group by group of a level.
    Up {
        /// Level in the tree.
        level: u32,
    },
    /// Closed rows merged and ranked, range by range.
    Rank,
    /// Final labels handed to the children, group by group of a level.
    Down {
        /// Level in the tree.
        level: u32,
    },
    /// Final labels written, block by block.
    Relabel,
    /// The object table encoded, row group by row group.
    Table,
    /// Everything published: one unit.
    Publish,
}

/// A pass over the voxels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// What is read.
    pub source: Source,
    /// Which ops run: from, to (exclusive).
    pub ops: (usize, usize),
    /// What is counted on the way.
    pub counts: Vec<Count>,
    /// What is left behind.
    pub leaves: Leaves,
}

/// What a pass reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Source {
    /// The input.
    Input,
    /// What an earlier stage left, by its index.
    Stage(usize),
}

/// What a pass leaves behind, beside its counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leaves {
    /// Nothing.
    Nothing,
    /// The image, for later passes.
    Array,
    /// The output image.
    Image,
    /// Labels and rows of each block.
    Labels,
    /// Rows of each block, by id.
    Rows,
}

/// A histogram made during a pass.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Count {
    /// Of what.
    pub of: Counted,
    /// Which round.
    pub round: Round,
}

/// Which image is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Counted {
    /// The input of the job.
    Input,
    /// What op number so-and-so is given.
    Before(usize),
}

/// What a round of counting looks for. A later round needs what the earlier ones found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Round {
    /// Everything one pass can know: range, moments, value counts or key buckets.
    Tally,
    /// So many even bins over the range.
    Bins(usize),
    /// The next 16 bits of the values at the wanted ranks.
    Refine,
}

impl Plan {
    /// Reads the plan of the unfinished run in an output, if there is one.
    ///
    /// # Errors
    /// Data when there is one that can't be read, Invalid when another version of voxmill made it.
    pub async fn read(store: &Store) -> Result<Option<Self>> {
        let Some(object) = store.get(layout::PLAN).await? else { return Ok(None) };
        #[derive(Deserialize)]
        struct Head {
            format: u32,
            voxmill: String,
        }
        let anew = "run again with --overwrite to compute everything anew";
        let unusable = |e: serde_json::Error| {
            Error::data(format!("the plan {} can't be used: {e}", store.display(layout::PLAN))).hint(anew)
        };
        let head: Head = serde_json::from_slice(&object.bytes).map_err(unusable)?;
        if (head.format, head.voxmill.as_str()) != (FORMAT, env!("CARGO_PKG_VERSION")) {
            let (theirs, ours) = (head.voxmill, env!("CARGO_PKG_VERSION"));
            return Err(Error::invalid(format!(
                "the unfinished run in {} was started by voxmill {theirs}, but this is {ours}",
                store.url()
            ))
            .hint(format!("finish it with voxmill {theirs}, or {anew}")));
        }
        serde_json::from_slice(&object.bytes).map(Some).map_err(unusable)
    }

    /// Writes the plan to its output unless one is there; false when one is.
    pub async fn create(&self, store: &Store) -> Result<bool> {
        store.put_new(layout::PLAN, crate::record::json(self)?).await
    }

    /// The box of the input that holds `region` of the image.
    pub fn in_input(&self, region: Region) -> Region {
        region.shifted(self.input.offset)
    }

    /// The tree of the label merge.
    pub fn tree(&self) -> Tree {
        self.grid.tree(self.merge.fanout)
    }

    /// The fingerprint of the first stage that `wanted` accepts; empty when there is none.
    pub fn stage_where(&self, wanted: impl Fn(&StageKind) -> bool) -> &str {
        self.stages.iter().find(|s| wanted(&s.kind)).map_or("", |s| s.fingerprint.as_str())
    }

    /// The stage that leaves labels, or rows by id.
    pub fn rows_stage(&self) -> &str {
        self.stage_where(|k| matches!(k, StageKind::Map(Pass { leaves: Leaves::Labels | Leaves::Rows, .. })))
    }

    /// The stage that joined a level on the way up; level 0 are the blocks.
    pub fn up_stage(&self, level: u32) -> &str {
        if level == 0 { self.rows_stage() } else { self.stage_where(|k| *k == StageKind::Up { level }) }
    }

    /// The stage that handed labels down from a level.
    pub fn down_stage(&self, level: u32) -> &str {
        self.stage_where(|k| *k == StageKind::Down { level })
    }

    /// The stage that ranked.
    pub fn rank_stage(&self) -> &str {
        self.stage_where(|k| *k == StageKind::Rank)
    }

    /// The scratch object with the closed rows of a contributor.
    pub fn rows_of(&self, from: Contributor) -> String {
        layout::scratch(self.up_stage(from.level), from.unit)
    }

    /// The image whose values object statistics read: the input, but for a job that is given labels.
    pub fn intensity(&self) -> Option<Dtype> {
        matches!(self.ending, Ending::Label { .. }).then_some(self.input.dtype)
    }

    /// The columns of the object table.
    pub fn columns(&self) -> Columns {
        let labels = match self.ending {
            Ending::Objects => self.dtype_before(self.ops.len()),
            _ => Dtype::U64,
        };
        Columns::new(self.extent.planar, labels, self.intensity())
    }

    /// The kind of intensities in object rows.
    pub fn rows_kind(&self) -> Option<Kind> {
        self.intensity().map(Kind::of)
    }

    /// Voxels around a block that decide its result, of the widest pass.
    pub fn halo(&self) -> [usize; 3] {
        let mut halo = [0; 3];
        for stage in &self.stages {
            if let StageKind::Map(pass) = &stage.kind {
                let ops = self.ops_of(pass).iter().map(|op| op.halo(self.extent));
                let sum = ops.fold([0; 3], |sum, h| std::array::from_fn(|a| sum[a] + h[a]));
                halo = std::array::from_fn(|a| sum[a].max(halo[a]));
            }
        }
        halo
    }

    /// Units of a stage, where they are known before it is reached.
    pub fn stage_units(&self, stage: usize) -> Option<u64> {
        match &self.stages[stage].kind {
            // Later rounds of counting may find that there is nothing left to look for.
            StageKind::Map(pass) if pass.counts.iter().any(|c| c.round != Round::Tally) => None,
            StageKind::Map(_) | StageKind::Seam | StageKind::Relabel => Some(self.grid.units()),
            StageKind::Up { level } | StageKind::Down { level } => Some(self.tree().units(*level)),
            StageKind::Rank | StageKind::Table => None,
            StageKind::Publish => Some(1),
        }
    }

    /// Whether a stage keeps an image for later ones.
    pub fn leaves_array(&self, stage: usize) -> bool {
        self.spilled_spec(stage).is_some()
    }

    /// The ops of a pass.
    pub fn ops_of(&self, pass: &Pass) -> &[Op] {
        &self.ops[pass.ops.0..pass.ops.1]
    }

    /// The element type that op number `op` is given.
    pub fn dtype_before(&self, op: usize) -> Dtype {
        crate::op::dtypes(&self.ops[..op], self.input.dtype)[op]
    }

    /// The element type of what is counted.
    pub fn dtype_of(&self, counted: Counted) -> Dtype {
        match counted {
            Counted::Input => self.input.dtype,
            Counted::Before(op) => self.dtype_before(op),
        }
    }

    /// How the threshold at op number `op` is chosen, where it is.
    pub fn choice(&self, op: usize) -> Option<Choice> {
        match self.ops.get(op) {
            Some(Op::Threshold(crate::op::Cut::Chosen { by, .. })) => Some(*by),
            _ => None,
        }
    }

    /// The array a stage leaves for later ones.
    pub fn spilled_spec(&self, stage: usize) -> Option<(String, ArraySpec)> {
        let Stage { kind: StageKind::Map(pass), fingerprint, .. } = self.stages.get(stage)? else { return None };
        (pass.leaves == Leaves::Array).then_some(())?;
        let spec = ArraySpec {
            extent: self.extent,
            dtype: self.dtype_before(pass.ops.1),
            chunks: build::spilled_chunks(self.grid),
            shards: None,
            codec: build::SCRATCH_CODEC,
            dimension_names: Vec::new(),
            ome: OmeVersion::V05,
        };
        Some((layout::spilled_array(fingerprint), spec))
    }

    /// Voxels that a stage looks at in all; 0 where it sees none.
    pub fn stage_voxels(&self, stage: usize) -> u64 {
        match self.stages[stage].kind {
            StageKind::Map(_) | StageKind::Relabel => self.extent.region().voxels() as u64,
            _ => 0,
        }
    }

    /// One word or two for people.
    pub fn stage_name(&self, stage: &Stage) -> String {
        match &stage.kind {
            StageKind::Map(pass) => {
                let ops = self.ops_of(pass);
                let mut names: Vec<&str> = ops.iter().map(Op::name).collect();
                match pass.leaves {
                    Leaves::Labels => names.push("label"),
                    Leaves::Rows => names.push("objects"),
                    _ => {}
                }
                if names.is_empty() && pass.counts.is_empty() {
                    names.push("copy");
                }
                names.extend(pass.counts.iter().map(|c| match c.round {
                    Round::Tally => "histogram",
                    Round::Bins(_) => "bins",
                    Round::Refine => "ranks",
                }));
                names.dedup();
                names.join(" + ")
            }
            StageKind::Seam => "seams".into(),
            StageKind::Up { level } => format!("join level {level}"),
            StageKind::Rank => "rank".into(),
            StageKind::Down { level } => format!("hand down level {level}"),
            StageKind::Relabel => "relabel".into(),
            StageKind::Table => "table".into(),
            StageKind::Publish => "publish".into(),
        }
    }
}

/// A short hash of anything that can be written as JSON.
pub(crate) fn hash(of: &impl Serialize) -> String {
    let json = serde_json::to_vec(of).unwrap_or_default();
    Sha256::digest(&json).iter().take(10).map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests;
