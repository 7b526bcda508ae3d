//! The plan: what a job becomes, before anything runs. Pure and deterministic.
//!
//! Steps are fused into as few passes over the voxels as the barriers allow: a threshold that is chosen from the image
//! needs the whole histogram first, a label needs its neighbours'. Each pass is a map [`Stage`] over blocks; what the
//! label merge adds are stages over seams, groups and ranges. A stage is described by a few numbers, and its units by
//! arithmetic, so the plan of a million blocks is as small as that of one.
//!
//! Images are numbered: image 0 is the input, image n what step n (from 1) gives, and what op number n (from 0) is given.
//! A pass runs from one image to another and leaves something at images on its way.
//!
//! [`build`] turns a job and what is known of its input into a plan, `lay` lays its stages; [`memory`] says what every
//! stage will hold, and [`requests`] what it will ask of the store.

pub mod build;
mod cheapest;
mod effort;
mod fingerprint;
mod given;
mod lay;
pub mod memory;
mod readers;
pub mod requests;
mod stage;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use voxel::exact_sum::Kind;
use voxel::pyramid::Reduce;
use voxel::table::{Columns, Spacing};
use voxel::{Dtype, Extent, Region};

use crate::array::{ArraySpec, Codec, Geometry, GroupKind, Pick};
use crate::grid::{Grid, Tree};
use crate::job::Job;
use crate::layout;
use crate::op::{Choice, Op};
use crate::pyramid::{self, Level};
use crate::reduce::Contributor;
use crate::state::State;
use crate::store::Store;
use crate::{Error, Result};

pub use given::Given;
pub(crate) use readers::Part;
pub use stage::{Count, Leaf, Pass, Round, SEGMENT_SECONDS, Stage, StageKind};

/// The version of the plan's own form; a worker refuses any other.
pub const FORMAT: u32 = 4;

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
    /// Outside it is background, and left out of statistics.
    pub mask: Option<Input>,
    /// What object statistics read.
    pub intensity: Intensity,
    /// The image as the steps see it: the input after `region`.
    pub extent: Extent,
    /// Where it lies.
    pub geometry: Geometry,
    /// The blocks.
    pub grid: Grid,
    /// The steps, in order.
    pub ops: Vec<Op>,
    /// The image that `histogram.json` describes.
    pub measured: usize,
    /// The images that are written, for the user or for later stages, in order.
    pub images: Vec<Stored>,
    /// The tables that are written.
    pub tables: Vec<Table>,
    /// Shape of the label merge.
    pub merge: MergeSettings,
    /// What an earlier run has left of it.
    pub given: Given,
    /// Names the versions of all objects of what is read, as they were when the run began; none where they can't be listed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub contents: Option<String>,
    /// Names the code that carries it out, where that is not the program that planned it: receipts of other code are not
    /// its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
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
    /// Its shards, where its chunks lie in such.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shard: Option<[usize; 3]>,
    /// Bytes of a decoded chunk, with what lies beyond the image.
    pub chunk_bytes: u64,
    /// What [`Array::codec`](crate::array::Array::codec) says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub codec: Option<Codec>,
    /// Where the image of the steps starts in it.
    pub offset: [usize; 3],
}

impl Input {
    /// The box of it that holds `region` of the image.
    pub fn region_of(&self, region: Region) -> Region {
        region.shifted(self.offset)
    }

    /// The box of the image that lies in `region` of it, which starts where the image does or later.
    pub(crate) fn region_in(&self, region: Region) -> Region {
        let back = |corner: [usize; 3]| std::array::from_fn(|a| corner[a].saturating_sub(self.offset[a]));
        Region { start: back(region.start), end: back(region.end) }
    }
}

/// The image whose values object statistics read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Intensity {
    /// One of the job's own.
    Image(usize),
    /// Another array of the input's shape.
    Other(Input),
}

/// An image that is written. The element type of labels is settled when they have been counted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Stored {
    /// Which.
    pub image: usize,
    /// Keys of the groups the user finds it in; none when it is for later stages only.
    pub groups: Vec<String>,
    /// What a viewer takes it for.
    pub kind: GroupKind,
    /// Shape, type, chunks, codec.
    pub spec: ArraySpec,
    /// The levels it gets, itself first.
    pub levels: Vec<Level>,
    /// How each is made of the one before.
    pub by: Reduce,
    /// Whether it is the input, in chunks that lie there as they would be written: those are taken over as they are.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub verbatim: bool,
}

impl Stored {
    /// How level `level` is written.
    pub fn level_spec(&self, level: usize) -> ArraySpec {
        match level {
            0 => self.spec.clone(),
            _ => pyramid::level_spec(&self.spec, self.levels[level].extent),
        }
    }
}

/// What a `label` or `objects` step measures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct TableId {
    /// Index of the step.
    pub step: usize,
    /// What there is a row for.
    pub of: Rows,
}

/// What there is a row for in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rows {
    /// Each object.
    Objects,
    /// Each two objects that touch.
    Contacts,
}

/// A table that is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Table {
    /// Which.
    pub id: TableId,
    /// Its keys: a table may have two names.
    pub keys: Vec<String>,
    /// The type of the intensities in it, if it has any.
    pub intensity: Option<Dtype>,
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
            let theirs =
                if theirs == ours { format!("another build of voxmill {ours}") } else { format!("voxmill {theirs}") };
            return Err(Error::invalid(format!(
                "the unfinished run in {} was started by {theirs}, and this is voxmill {ours}",
                store.url()
            ))
            .hint(format!("finish it with {theirs}, or {anew}")));
        }
        crate::record::parse(store, layout::PLAN, &object.bytes).map(Some)
    }

    /// Writes the plan to its output unless one is there; false when another one is.
    pub async fn create(&self, store: &Store) -> Result<bool> {
        let json = crate::record::json(self)?;
        if store.put_new(layout::PLAN, json.clone()).await? {
            return Ok(true);
        }
        // The store may have written ours and lost the reply to that.
        Ok(store.get(layout::PLAN).await?.is_some_and(|object| object.bytes == json))
    }

    /// The tree of the label merge.
    pub fn tree(&self) -> Tree {
        self.grid.tree(self.merge.fanout)
    }

    /// What is known before the first stage.
    pub fn first_state(&self) -> State {
        State { units: self.stage_units(0).unwrap_or(0), ..self.given.state.clone() }
    }

    /// The key of what is decided at the end of a stage: it describes the next one, and is named after it.
    pub fn state_key(&self, stage: usize) -> String {
        match self.stages.get(stage + 1) {
            Some(next) => layout::state(&next.fingerprint),
            None => layout::state(&hash(&("the end", self.stages.last().map(|last| &last.fingerprint)))),
        }
    }

    /// The fingerprint of a stage of which there is one at most; empty when there is none.
    fn stage_of(&self, kind: &StageKind) -> &str {
        self.stages.iter().find(|s| s.kind == *kind).map_or("", |s| s.fingerprint.as_str())
    }

    /// The folder, below the scratch, where blocks left labels, rows or contacts for a table.
    pub fn left(&self, table: TableId) -> String {
        let leaves = |kind: &StageKind| match kind {
            StageKind::Map(pass) => pass.leaves.iter().any(|leaf| leaf.table() == Some(table)),
            _ => false,
        };
        let stage = self.stages.iter().find(|s| leaves(&s.kind)).map_or("", |s| s.fingerprint.as_str());
        let TableId { step, of } = table;
        match of {
            Rows::Objects => format!("{stage}-objects-{step}"),
            Rows::Contacts => format!("{stage}-contacts-{step}"),
        }
    }

    /// Where a level was joined on the way up; level 0 are the blocks.
    pub fn up_stage(&self, step: usize, level: u32) -> String {
        match level {
            0 => self.left(TableId { step, of: Rows::Objects }),
            _ => self.stage_of(&StageKind::Up { step, level }).to_owned(),
        }
    }

    /// The stage that handed labels down from a level.
    pub fn down_stage(&self, step: usize, level: u32) -> &str {
        self.stage_of(&StageKind::Down { step, level })
    }

    /// The stage that found pairs over seams.
    pub fn seam_stage(&self, step: usize) -> &str {
        self.stage_of(&StageKind::Seam { step })
    }

    /// The stage that ranked a table's rows.
    pub fn rank_stage(&self, table: TableId) -> &str {
        self.stage_of(&StageKind::Rank(table))
    }

    /// The stage that encoded a table.
    pub fn table_stage(&self, table: TableId) -> &str {
        self.stage_of(&StageKind::Table(table))
    }

    /// The scratch object with the closed rows of a contributor.
    pub fn rows_of(&self, table: TableId, from: Contributor) -> String {
        match table.of {
            Rows::Objects => layout::scratch(&self.up_stage(table.step, from.level), from.unit),
            Rows::Contacts => layout::scratch(&format!("{}-{}", self.left(table), from.level), from.unit),
        }
    }

    /// A table that is written.
    pub fn table(&self, id: TableId) -> Option<&Table> {
        self.tables.iter().find(|table| table.id == id)
    }

    /// The type of the intensities that rows of a step carry, if they do.
    pub fn intensity_dtype(&self, step: usize) -> Option<Dtype> {
        self.table(TableId { step, of: Rows::Objects }).and_then(|table| table.intensity)
    }

    /// The kind of intensities in object rows.
    pub fn rows_kind(&self, step: usize) -> Option<Kind> {
        self.intensity_dtype(step).map(Kind::of)
    }

    /// The type whose keys are the labels in a table.
    pub fn labels_dtype(&self, step: usize) -> Dtype {
        match self.ops.get(step) {
            Some(Op::Objects { .. }) => self.dtype(step),
            _ => Dtype::U64,
        }
    }

    /// The columns of a table of objects; `None` when only its numbers are wanted.
    pub fn columns(&self, step: usize) -> Option<Columns> {
        self.table(TableId { step, of: Rows::Objects })?;
        Some(Columns::new(self.extent.planar, self.labels_dtype(step), self.intensity_dtype(step), self.spacing()))
    }

    /// The ops of a pass.
    pub fn ops_of(&self, pass: &Pass) -> &[Op] {
        &self.ops[pass.from..pass.to]
    }

    /// What a pass needs of each of its images so that a block comes out whole: from the image it starts with to the one
    /// it ends with. Every region is clipped to the image, where the op's own boundary rule takes over.
    pub fn regions(&self, pass: &Pass, block: Region) -> Vec<Region> {
        let wanted = |image: usize| {
            let rim = pass.leaves.iter().filter(|leaf| leaf.image() == image).map(Leaf::rim).max().unwrap_or(0);
            block.grown([rim; 3], self.extent.shape)
        };
        let mut regions = vec![wanted(pass.to)];
        for (image, op) in (pass.from..pass.to).zip(self.ops_of(pass)).rev() {
            let below = regions[regions.len() - 1].grown(op.halo(self.extent), self.extent.shape);
            regions.push(below.hull(&wanted(image)));
        }
        regions.reverse();
        regions
    }

    /// The part of the mask that a pass looks at, if it does. `regions` are [`Plan::regions`].
    pub fn mask_region(&self, pass: &Pass, regions: &[Region], block: Region) -> Option<Region> {
        self.mask.as_ref()?;
        let mut needed: Option<Region> = None;
        let mut need = |region: Region| needed = Some(needed.map_or(region, |n| n.hull(&region)));
        for (i, op) in self.ops_of(pass).iter().enumerate() {
            if op.takes_foreground() {
                need(regions[i]);
            }
            if op.gives_foreground() {
                need(regions[i + 1]);
            }
        }
        for leaf in &pass.leaves {
            match leaf {
                Leaf::Count(_) => need(block),
                Leaf::Labels { .. } | Leaf::Rows { .. } | Leaf::Contacts { .. } => {
                    need(block.grown([1; 3], self.extent.shape));
                }
                Leaf::Image(_) => {}
            }
        }
        needed
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
            StageKind::Map(pass) if pass.counts().any(|c| c.round != Round::Tally) => None,
            StageKind::Map(_) | StageKind::Seam { .. } | StageKind::Relabel { .. } => Some(self.grid.units()),
            StageKind::Up { level, .. } | StageKind::Down { level, .. } => Some(self.tree().units(*level)),
            StageKind::Rank(_) | StageKind::Table(_) => None,
            StageKind::Level { image, level } => self.level_objects(*image, *level),
            StageKind::Publish => Some(1),
        }
    }

    /// Objects of a level of a stored image.
    pub fn level_objects(&self, image: usize, level: usize) -> Option<u64> {
        let spec = self.stored(image)?.level_spec(level);
        Some(spec.grid().iter().map(|n| *n as u64).product())
    }

    /// The element type of an image. Labels are uint64 here when there could be so many, whatever they turn out to be.
    pub fn dtype(&self, image: usize) -> Dtype {
        crate::op::dtypes(&self.ops[..image], self.input.dtype)[image]
    }

    /// How the threshold at op number `op` is chosen, where it is.
    pub fn choice(&self, op: usize) -> Option<Choice> {
        match self.ops.get(op) {
            Some(Op::Threshold(crate::op::Cut::Chosen { by, .. })) => Some(*by),
            _ => None,
        }
    }

    /// How an image is written, if it is.
    pub fn stored(&self, image: usize) -> Option<&Stored> {
        self.images.iter().find(|stored| stored.image == image)
    }

    /// Keys of the arrays that hold a stored image, all the same.
    pub fn arrays_of(&self, stored: &Stored, level: usize) -> Vec<String> {
        match stored.groups.is_empty() {
            true => vec![layout::scratch_image(&self.image_fingerprints()[stored.image], self.grid.block)],
            false => stored.groups.iter().map(|group| layout::level(group, level)).collect(),
        }
    }

    /// How voxel indices become positions, for tables.
    fn spacing(&self) -> Spacing {
        let geometry = &self.geometry;
        let [_, y, x] = geometry.units();
        let units = geometry.units().into_iter().skip(usize::from(self.extent.planar));
        let known = x.is_some() && units.into_iter().all(|unit| unit == y && unit == x);
        Spacing { scale: geometry.scale(), translation: geometry.translation(), known }
    }

    /// What `histogram.json` is of, in the words of the job.
    pub fn measured_name(&self) -> &str {
        let saved = self.measured.checked_sub(1).and_then(|step| self.job.steps.get(step)?.save.as_deref());
        saved.unwrap_or("input")
    }

    /// Voxels that a stage looks at in all; 0 where it sees none.
    pub fn stage_voxels(&self, stage: usize) -> u64 {
        match self.stages[stage].kind {
            StageKind::Map(_) | StageKind::Relabel { .. } => self.extent.region().voxels() as u64,
            _ => 0,
        }
    }

    /// The images that a stage keeps for later ones only.
    pub fn kept_for_later(&self, stage: usize) -> bool {
        let for_later = |image: usize| self.stored(image).is_some_and(|stored| stored.groups.is_empty());
        match &self.stages[stage].kind {
            StageKind::Map(pass) => {
                pass.leaves.iter().any(|leaf| matches!(leaf, Leaf::Image(image) if for_later(*image)))
            }
            StageKind::Relabel { step } => for_later(step + 1),
            _ => false,
        }
    }

    /// One word or a few for people.
    pub fn stage_name(&self, stage: &Stage) -> String {
        // Which step it is matters only where there are several that merge.
        let several = self.ops.iter().filter(|op| op.is_merged() || matches!(op, Op::Objects { .. })).count() > 1;
        let of = |step: usize| if several { format!(" of step {}", step + 1) } else { String::new() };
        match &stage.kind {
            StageKind::Map(pass) => {
                let mut names: Vec<&str> = self.ops_of(pass).iter().map(Op::name).collect();
                for leaf in &pass.leaves {
                    match leaf {
                        Leaf::Labels { step } => names.push(self.ops[*step].name()),
                        Leaf::Contacts { .. } => names.push("contacts"),
                        Leaf::Rows { .. } | Leaf::Image(_) | Leaf::Count(_) => {}
                    }
                }
                if names.is_empty() && pass.counts().next().is_none() {
                    names.push("copy");
                }
                names.extend(pass.counts().map(|c| match c.round {
                    Round::Tally => "histogram",
                    Round::Bins(_) => "bins",
                    Round::Refine => "ranks",
                }));
                names.dedup();
                names.join(" + ")
            }
            StageKind::Seam { step } => format!("seams{}", of(*step)),
            StageKind::Up { step, level } => format!("join level {level}{}", of(*step)),
            StageKind::Rank(TableId { step, of: Rows::Objects }) => format!("rank{}", of(*step)),
            StageKind::Rank(TableId { step, of: Rows::Contacts }) => format!("sum contacts{}", of(*step)),
            StageKind::Down { step, level } => format!("hand down level {level}{}", of(*step)),
            StageKind::Relabel { step } => match self.ops.get(*step) {
                Some(Op::FillHoles { .. }) => format!("fill{}", of(*step)),
                _ => format!("relabel{}", of(*step)),
            },
            StageKind::Table(TableId { step, of: Rows::Objects }) => format!("table{}", of(*step)),
            StageKind::Table(TableId { step, of: Rows::Contacts }) => format!("table of contacts{}", of(*step)),
            StageKind::Level { image, level } => match self.stored(*image).and_then(|stored| stored.groups.first()) {
                Some(group) => format!("level {level} of {group}"),
                None => format!("level {level}"),
            },
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
