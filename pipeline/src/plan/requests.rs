//! What a plan will ask of the store, before anything runs: how many tasks, and what each reads, writes and lists.
//!
//! Arithmetic over the plan alone, as `memory` is, and as exact as the code is: where the plan decides, the numbers are
//! those that a calm run counts, and a test compares the two. Where the data decide (how many objects there are, which
//! chunks of a shard lie side by side) or who else has read a chunk already, they are bounds. What goes wrong is not
//! foreseen: requests that are sent again, attempts after the first, and bytes that are moved for them.
//!
//! `read` counts what reading arrays takes, `merge` the stages of the label merge; here is what all stages have in
//! common, and the passes.

mod merge;
mod read;
mod span;

use serde::{Deserialize, Serialize};

use super::memory::{Limits, Projection};
use super::{Leaf, Pass, Plan, Round, Rows, StageKind, Stored, TableId};
use crate::map::{Beside, beside};
use crate::plan::Intensity;
use crate::reduce::table;

pub(super) use read::ENTRY_BYTES;
pub use span::{Asked, Span};

/// A larger object goes to a bucket in parts, with a request to begin and one to end.
const ONE_REQUEST_BYTES: u64 = 64 << 20;
/// Parts of it.
const OBJECT_PART_BYTES: u64 = 16 << 20;

/// What is taken for granted about a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terms {
    /// Worker processes, which share nothing: 1 on one machine, as many as there may be instances elsewhere.
    pub processes: u64,
    /// How many objects are found where objects are looked for.
    pub objects: Objects,
}

/// How many objects there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Objects {
    /// From none to one in every other voxel, lying as badly as can be: the numbers are bounds that hold.
    Any,
    /// From none to one in so many voxels, spread evenly: the numbers are what is to be expected.
    OneIn(u64),
}

impl Objects {
    /// Objects in so many voxels, at most.
    fn most(self, voxels: u64) -> u64 {
        match self {
            Objects::Any => voxels.div_ceil(2),
            Objects::OneIn(n) => voxels.div_ceil(n.max(2)),
        }
    }
}

/// What one stage asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageRequests {
    /// Its units.
    pub units: Span,
    /// Its segments: each is a task, and the decision that ends the stage is one more.
    pub segments: Span,
    /// What workers ask of the arrays that the plan reads, opening them left out.
    pub input: Asked,
    /// What workers ask of the output.
    pub output: Asked,
    /// What the coordinator asks of the output.
    pub coordinator: Asked,
}

impl StageRequests {
    /// Tasks, the decision included.
    pub fn tasks(&self) -> Span {
        self.segments + 1
    }
}

/// What a run asks for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanRequests {
    /// Stage by stage.
    pub stages: Vec<StageRequests>,
    /// What the coordinator asks of the output before the first stage, in an output that is free.
    pub start: Asked,
    /// What it asks after the last.
    pub end: Asked,
}

impl PlanRequests {
    /// Of a plan that is run from its start. `projection` is that of the workers.
    pub fn of(plan: &Plan, projection: &Projection, terms: Terms) -> Self {
        let mut counting = Counting { plan, terms, segments: Vec::new() };
        let limits = projection.stages.iter().map(|stage| stage.limits);
        let stages: Vec<_> = limits.enumerate().map(|(stage, limits)| counting.stage(stage, limits)).collect();
        let (start, end) = (start(), end(&stages));
        Self { stages, start, end }
    }

    /// Tasks of all stages.
    pub fn tasks(&self) -> Span {
        self.stages.iter().map(StageRequests::tasks).sum()
    }

    /// What workers ask for, of everybody.
    pub fn workers(&self) -> Asked {
        self.stages.iter().map(|stage| stage.input + stage.output).sum()
    }

    /// What the coordinator asks for. A run of more than some seconds leaves a checkpoint every few seconds beside.
    pub fn coordinator(&self) -> Asked {
        self.stages.iter().map(|stage| stage.coordinator).sum::<Asked>() + self.start + self.end
    }

    /// What everybody asks for.
    pub fn total(&self) -> Asked {
        self.workers() + self.coordinator()
    }
}

/// The store is probed, the output looked at and the plan written.
fn start() -> Asked {
    // A probe, then whose the output is, asked twice: once for what is to be swept, once for what is to be done.
    let probe = Asked { lists: Span::exact(1), ..Asked::gets(10) + Asked::puts(3) + Asked::deletes(2) };
    // The checkpoints, of which there are none.
    let looks = Asked { lists: Span::exact(2), ..Asked::gets(4) };
    probe + looks + Asked::puts(1)
}

/// The receipts become a manifest, and the run's own state goes.
fn end(stages: &[StageRequests]) -> Asked {
    let receipts: Span = stages.iter().map(|stage| stage.segments).sum();
    let written: Span = stages.iter().map(|stage| stage.output.puts).sum();
    // A report and the manifest; receipts and the last state.
    let fold = Asked { gets: receipts + 1, ..Asked::puts(2) };
    // On a disk folders go; in a bucket whatever is in them, a thousand names to a page.
    let pages = Span { low: 0, high: 6 + written.high / 1000 };
    fold + Asked { deletes: Span { low: 7, high: 7 + written.high }, lists: pages, ..Asked::default() }
}

/// A plan that is being gone through.
struct Counting<'a> {
    plan: &'a Plan,
    terms: Terms,
    /// Segments of the stages so far.
    segments: Vec<Span>,
}

impl Counting<'_> {
    fn stage(&mut self, stage: usize, limits: Limits) -> StageRequests {
        let plan = self.plan;
        let units = self.units(stage);
        let length = plan.stages[stage].segment.max(1);
        let segments = Span { low: units.low.div_ceil(length), high: units.high.div_ceil(length) };
        self.segments.push(segments);

        // Each segment looks for its receipt and leaves one.
        let mut output = Asked { gets: segments, puts: segments, ..Asked::default() };
        let mut input = Asked::default();
        match &plan.stages[stage].kind {
            StageKind::Map(pass) => {
                let (reads, writes) = self.pass(stage, pass, units, limits);
                input = reads;
                output += writes;
            }
            StageKind::Level { image, level } => output += self.level(*image, *level),
            StageKind::Publish => output += self.publish(stage),
            StageKind::Relabel { step } => {
                let (reads, writes) = self.relabel(*step, limits);
                input = reads;
                output += writes;
            }
            StageKind::Seam { .. } => output += self.seams(),
            StageKind::Up { step, level } => output += self.up(*step, *level, limits),
            StageKind::Down { step, level } => output += self.down(*step, *level, limits),
            StageKind::Rank(table) => output += self.rank(*table, limits),
            StageKind::Table(table) => output += self.table(*table),
        }
        output += self.advance(stage, segments, input.gets.high > 0);
        if stage > 0 {
            // What was decided before it, once for each process that has a part in it.
            output.gets += Span { low: 1, high: self.terms.processes.clamp(1, segments.high + 1) };
        }
        // Whether it has ended, a question for each segment, and a checkpoint at its end.
        let last = stage + 1 == plan.stages.len();
        let coordinator = Asked { gets: segments + 1, ..Asked::puts(u64::from(!last)) };
        StageRequests { units, segments, input, output, coordinator }
    }

    /// Units of a stage, as far as the plan knows them.
    fn units(&self, stage: usize) -> Span {
        let plan = self.plan;
        match (plan.stage_units(stage), &plan.stages[stage].kind) {
            (Some(units), _) => Span::exact(units),
            // There may be nothing left to count.
            (None, StageKind::Map(_)) => Span { low: 0, high: plan.grid.units() },
            (None, StageKind::Rank(table)) => self.ranges(*table),
            (None, StageKind::Table(id)) => Span { low: 0, high: table::units(plan, *id, self.rows(*id)) },
            (None, _) => Span::exact(1),
        }
    }

    /// The decision that ends a stage.
    fn advance(&self, stage: usize, segments: Span, reads: bool) -> Asked {
        let plan = self.plan;
        let mut asked = Asked { gets: segments, ..Asked::puts(1) };
        if reads {
            // What was read is written down, and compared with what the passes before it have.
            let earlier = plan.stages[..stage].iter().filter(|stage| matches!(stage.kind, StageKind::Map(_)));
            let idle = segments.low == 0;
            let compared = Span { low: if idle { 0 } else { 1 }, high: 1 };
            asked += Asked { gets: compared * earlier.count() as u64, puts: compared, ..Asked::default() };
        }
        if let StageKind::Map(pass) = &plan.stages[stage].kind
            && pass.counts().next().is_some()
        {
            // The histogram of each segment, joined; then what all passes so far have counted of each image.
            let history: u64 = pass.counts().map(|count| self.digests(stage, count.image)).sum();
            let (bytes, files) = (self.counted_bytes(pass), segments + history);
            let bytes_in = Span::up_to(files.high.saturating_mul(bytes));
            asked += Asked { gets: files, bytes_in, bytes_out: Span::up_to(bytes), ..Asked::puts(1) };
        }
        if let StageKind::Rank(table) = plan.stages[stage].kind {
            asked += self.numbered(table);
        }
        if let Some(StageKind::Rank(table)) = plan.stages.get(stage + 1).map(|next| &next.kind) {
            // Who has rows for it is read from all receipts once more.
            let from =
                plan.stages.iter().zip(&self.segments).filter(|(stage, _)| self.contributes(&stage.kind, *table));
            let receipts: Span = from.map(|(_, segments)| *segments).sum();
            asked += Asked { gets: receipts, ..Asked::puts(1) };
        }
        asked
    }

    /// What the histograms of a segment take, at most.
    fn counted_bytes(&self, pass: &Pass) -> u64 {
        /// A count of voxels of a segment as it is written, and what is written beside the counts.
        const COUNT_BYTES: u64 = 5;
        const HEAD_BYTES: u64 = 2 << 10;
        /// Values that are looked for at once, each with neighbours that may lie apart.
        const RANKS: u64 = 16;
        let counts = pass.counts().map(|count| match count.round {
            Round::Tally => 1u64 << (8 * self.plan.dtype(count.image).size()).min(16),
            Round::Bins(bins) => bins as u64,
            Round::Refine => RANKS << 16,
        });
        counts.map(|counts| counts * COUNT_BYTES + HEAD_BYTES).sum()
    }

    /// Joined histograms that have to do with an image, up to and including those of a stage.
    fn digests(&self, last: usize, image: usize) -> u64 {
        let counts = |kind: &StageKind| match kind {
            StageKind::Map(pass) => pass.counts().any(|count| count.image == image),
            _ => false,
        };
        self.plan.stages[..=last].iter().filter(|stage| counts(&stage.kind)).count() as u64
    }

    /// Whether a stage leaves rows for a table.
    fn contributes(&self, kind: &StageKind, table: TableId) -> bool {
        match kind {
            StageKind::Map(pass) => pass.leaves.iter().any(|leaf| leaf.table() == Some(table)),
            StageKind::Up { step, .. } => table == TableId { step: *step, of: Rows::Objects },
            _ => false,
        }
    }

    /// What the blocks of a pass read of the plan's arrays, and what they ask of the output.
    fn pass(&self, stage: usize, pass: &Pass, units: Span, limits: Limits) -> (Asked, Asked) {
        let plan = self.plan;
        let idle = units.low == 0;
        let mut reading = read::Reading::new(self, stage, limits);
        let block = |block| block;
        reading.image(pass.from, |unit| plan.regions(pass, unit)[0]);
        match beside(plan, pass) {
            Some(Beside::Image(image)) => reading.image(image, block),
            Some(Beside::Other) => {
                if let Intensity::Other(other) = &plan.intensity {
                    reading.source(other, block);
                }
            }
            Some(Beside::OnTheWay(_)) | None => {}
        }
        if let Some(mask) = &plan.mask
            && plan.mask_region(pass, &plan.regions(pass, plan.grid.region(0)), plan.grid.region(0)).is_some()
        {
            reading.source(mask, |unit| plan.mask_region(pass, &plan.regions(pass, unit), unit).unwrap_or(unit));
        }
        let (mut input, mut output) = reading.asked();
        for leaf in &pass.leaves {
            match *leaf {
                Leaf::Count(_) => {}
                Leaf::Image(image) => output += self.image(image),
                Leaf::Labels { step } => output += self.left_labels(step),
                Leaf::Rows { step } => output += self.left_rows(step),
                Leaf::Contacts { step } => output += self.left_contacts(step),
            }
        }
        if pass.counts().next().is_some() {
            // One for all histograms of a segment.
            let (segments, bytes) = (self.segments[stage], self.counted_bytes(pass));
            let bytes_out = Span::up_to(segments.high.saturating_mul(bytes));
            output += Asked { puts: segments, bytes_out, ..Asked::default() };
        }
        if idle {
            input = input.or_none();
            output = output.or_none();
        }
        (input, output)
    }

    /// The objects of an image that is written, under each of its names.
    fn image(&self, image: usize) -> Asked {
        self.plan.stored(image).map_or(Asked::default(), |stored| self.objects(stored, 0))
    }

    fn objects(&self, stored: &Stored, level: usize) -> Asked {
        let spec = stored.level_spec(level);
        let names = self.plan.arrays_of(stored, level).len() as u64;
        let objects = spec.grid().iter().map(|n| *n as u64).product::<u64>() * names;
        let bytes = spec.unit_shape().iter().product::<usize>() as u64 * spec.dtype.size() as u64;
        // Packing makes them smaller, or hardly larger.
        let bytes = bytes + bytes / 128 + 1024;
        let parts = if bytes <= ONE_REQUEST_BYTES { 1 } else { bytes.div_ceil(OBJECT_PART_BYTES) + 2 };
        let puts = Span { low: objects, high: objects.saturating_mul(parts) };
        Asked { puts, bytes_out: Span::up_to(objects.saturating_mul(bytes)), ..Asked::default() }
    }

    /// A level made of the one before.
    fn level(&self, image: usize, level: usize) -> Asked {
        let Some(stored) = self.plan.stored(image) else { return Asked::default() };
        self.objects(stored, level) + read::shrink(stored, level)
    }

    /// Everything made visible.
    fn publish(&self, stage: usize) -> Asked {
        let plan = self.plan;
        let mut asked = Asked::default();
        for table in plan.tables.iter().filter(|table| !plan.given.tables.contains(&table.id)) {
            asked += self.published_table(table.id) * table.keys.len() as u64;
        }
        if !plan.given.histogram {
            asked += Asked::gets(self.digests(stage, plan.measured)) + Asked::puts(1);
        }
        for stored in &plan.images {
            let group = match stored.spec.ome {
                crate::array::OmeVersion::V04 => 2,
                crate::array::OmeVersion::V05 => 1,
            };
            let levels: usize = (0..stored.levels.len()).map(|level| stored.level_spec(level).metadata().len()).sum();
            asked += Asked::puts(((group + levels) * stored.groups.len()) as u64);
        }
        asked
    }
}
