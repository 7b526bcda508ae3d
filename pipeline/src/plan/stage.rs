//! What stages there are, and what a pass over the voxels leaves on its way. Which of them a job needs is the business of `lay`.

use serde::{Deserialize, Serialize};

use super::{Rows, TableId};

/// About how long a segment takes on one thread, where there are enough units for that.
pub const SEGMENT_SECONDS: f64 = 30.0;

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
    /// Pairs of a step's labels over the seams, block by block.
    Seam {
        /// The step.
        step: usize,
    },
    /// Open objects of a step joined, group by group of a level.
    Up {
        /// The step.
        step: usize,
        /// Level in the tree.
        level: u32,
    },
    /// Rows merged and ranked, range by range.
    Rank(TableId),
    /// Final labels handed to the children, group by group of a level.
    Down {
        /// The step.
        step: usize,
        /// Level in the tree.
        level: u32,
    },
    /// What a step made of its labels written, block by block.
    Relabel {
        /// The step.
        step: usize,
    },
    /// A table encoded, a few columns of a row group by each unit.
    Table(TableId),
    /// A level of a stored image made of the one before, object by object.
    Level {
        /// Which image.
        image: usize,
        /// Which level, 1 being the first that is made.
        level: usize,
    },
    /// Everything published: one unit.
    Publish,
}

/// A pass over the voxels.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pass {
    /// The image it starts from. The input is read where it lies, any other where an earlier stage has put it.
    pub from: usize,
    /// The image it ends with; the ops between run.
    pub to: usize,
    /// What is left behind on the way.
    pub leaves: Vec<Leaf>,
}

/// What a pass leaves behind at one of its images.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Leaf {
    /// A histogram.
    Count(Count),
    /// The image itself, as [`Plan::images`](super::Plan::images) has it.
    Image(usize),
    /// Labels and rows of each block, for the merge of a `label` or (of the background) a `fill_holes` step.
    Labels {
        /// The step.
        step: usize,
    },
    /// Rows of each block, by id, for an `objects` step.
    Rows {
        /// The step.
        step: usize,
    },
    /// Contacts in each block, for a `label` or `objects` step.
    Contacts {
        /// The step.
        step: usize,
    },
}

impl Leaf {
    /// The image it is made from.
    pub fn image(&self) -> usize {
        match *self {
            Leaf::Count(count) => count.image,
            Leaf::Image(image) => image,
            Leaf::Labels { step } | Leaf::Rows { step } => step,
            Leaf::Contacts { step } => step + 1,
        }
    }

    /// Voxels around the block that it looks at.
    pub fn rim(&self) -> usize {
        match self {
            Leaf::Count(_) | Leaf::Image(_) => 0,
            Leaf::Labels { .. } | Leaf::Rows { .. } | Leaf::Contacts { .. } => 1,
        }
    }

    /// The table its rows belong to.
    pub fn table(&self) -> Option<TableId> {
        match *self {
            Leaf::Count(_) | Leaf::Image(_) => None,
            Leaf::Labels { step } | Leaf::Rows { step } => Some(TableId { step, of: Rows::Objects }),
            Leaf::Contacts { step } => Some(TableId { step, of: Rows::Contacts }),
        }
    }
}

impl Pass {
    /// The histograms made on the way, in order.
    pub fn counts(&self) -> impl Iterator<Item = Count> + '_ {
        self.leaves.iter().filter_map(|leaf| match leaf {
            Leaf::Count(count) => Some(*count),
            _ => None,
        })
    }
}

/// A histogram made during a pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// Of which image.
    pub image: usize,
    /// Which round.
    pub round: Round,
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
