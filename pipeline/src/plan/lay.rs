//! The stages of a plan: which passes over the voxels there are, what each leaves on its way, and the reduces between.
//!
//! A pass goes as far as it can. It must end where the next op needs the whole image: before a threshold that is chosen
//! from a histogram, and at a step whose result is known only when all blocks have been joined. Whatever is wanted of
//! the images on its way (saved images, histograms, rows of objects) is left in the same pass.

use super::build::{self, Wishes};
use super::memory::Resources;
use super::{Count, Leaf, Pass, Plan, Round, Rows, SEGMENT_SECONDS, Stage, StageKind, Stored, TableId, hash};
use crate::array::GroupKind;
use crate::job::Percentiles;
use crate::op::{Choice, Op};
use crate::pyramid;
use voxel::Dtype;

/// Bins of Otsu's method for values that can't have one each.
const OTSU_BINS: usize = 256;
/// Bins of the histogram of a job that only measures, for such values.
const MEASURE_BINS: usize = 1 << 16;

/// Lays the stages of a plan whose blocks are chosen, and adds the images that must be kept between them.
pub(super) fn stages(plan: &mut Plan, wishes: &Wishes, resources: &Resources) {
    plan.id = hash(&(&plan.identity, plan.grid, plan.merge, &plan.given, &plan.code, super::FORMAT));
    plan.images.retain(|stored| !stored.groups.is_empty());
    let from = plan.given.start(plan);
    let mut laying = Laying { due: due(plan), kinds: Vec::new(), from, plan };
    for op in from..laying.plan.ops.len() {
        if let Some(by) = laying.plan.choice(op) {
            laying.wait_for_histogram(op, by);
        } else if laying.plan.ops[op].is_merged() {
            laying.merge_labels(op);
        }
    }
    let end = laying.plan.ops.len();
    if !laying.due.is_empty() {
        laying.pass(end, Vec::new());
    }
    laying.measure();
    laying.levels();
    laying.kinds.push(StageKind::Publish);

    let kinds = laying.kinds;
    plan.images.sort_by_key(|stored| stored.image);
    let fingerprints = plan.stage_fingerprints(&kinds);
    let threads = resources.threads * wishes.workers.unwrap_or(1);
    plan.stages = Vec::with_capacity(kinds.len());
    for (kind, fingerprint) in kinds.into_iter().zip(fingerprints) {
        let segment = wishes.segment.unwrap_or_else(|| segment(plan, &kind, threads)).max(1);
        plan.stages.push(Stage { kind, segment, fingerprint });
    }
}

/// All that passes must leave, but for what the barriers themselves ask for, in the order of the images.
fn due(plan: &Plan) -> Vec<Leaf> {
    let given = &plan.given;
    let mut due = Vec::new();
    due.extend((!given.histogram).then_some(Leaf::Count(Count { image: plan.measured, round: Round::Tally })));
    // What a merge gives is written by its last stage, block by block.
    let merged = |image: usize| image > 0 && plan.ops[image - 1].is_merged();
    let images = plan.images.iter().map(|s| s.image).filter(|image| !given.images.contains(image));
    due.extend(images.filter(|image| !merged(*image)).map(Leaf::Image));
    for table in plan.tables.iter().filter(|table| !given.tables.contains(&table.id)) {
        match (table.id, &plan.ops[table.id.step]) {
            (TableId { step, of: Rows::Objects }, Op::Objects { .. }) => due.push(Leaf::Rows { step }),
            (TableId { step, of: Rows::Contacts }, _) => due.push(Leaf::Contacts { step }),
            (TableId { of: Rows::Objects, .. }, _) => {}
        }
    }
    due.sort_by_key(Leaf::image);
    due
}

/// A plan whose stages are being laid.
struct Laying<'a> {
    plan: &'a mut Plan,
    /// What is still to be left.
    due: Vec<Leaf>,
    kinds: Vec<StageKind>,
    /// The image that the next pass starts from.
    from: usize,
}

impl Laying<'_> {
    /// A pass up to image `to` that leaves what is due on the way, then `last`; and the reduces of what it leaves.
    fn pass(&mut self, to: usize, last: Vec<Leaf>) {
        let from = self.from;
        let mut leaves: Vec<Leaf> = Vec::new();
        self.due.retain(|leaf| {
            let here = (from..=to).contains(&leaf.image());
            leaves.extend(here.then_some(*leaf));
            !here
        });
        leaves.extend(last);
        let tables: Vec<TableId> =
            leaves.iter().filter(|leaf| !matches!(leaf, Leaf::Labels { .. })).filter_map(Leaf::table).collect();
        self.kinds.push(StageKind::Map(Pass { from, to, leaves }));
        for table in tables {
            self.kinds.extend([StageKind::Rank(table), StageKind::Table(table)]);
        }
    }

    /// Whether a histogram of this image is made, or will be made on the way to `to`.
    fn counted(&self, count: Count) -> bool {
        let made = |kind: &StageKind| matches!(kind, StageKind::Map(pass) if pass.counts().any(|c| c == count));
        self.due.contains(&Leaf::Count(count)) || self.kinds.iter().any(made)
    }

    /// The passes before op `op`, a threshold chosen from a histogram.
    fn wait_for_histogram(&mut self, op: usize, by: Choice) {
        if self.plan.given.state.thresholds.contains_key(&op) {
            return;
        }
        let dtype = self.plan.dtype(op);
        let rounds = rounds(by, dtype);
        let mut last = Vec::new();
        let first = Count { image: op, round: rounds[0] };
        if !self.counted(first) {
            last.push(Leaf::Count(first));
        }
        if op > self.from && self.plan.stored(op).is_none() {
            let ops = &self.plan.ops[self.from..op];
            if spilling_is_cheaper(ops, dtype, rounds.len()) {
                self.keep_for_later(op);
                last.push(Leaf::Image(op));
            }
        }
        let due = self.due.iter().any(|leaf| (self.from..=op).contains(&leaf.image()));
        if due || !last.is_empty() {
            self.pass(op, last);
        }
        if self.plan.stored(op).is_some() {
            self.from = op;
        }
        for round in &rounds[1..] {
            let leaves = vec![Leaf::Count(Count { image: op, round: *round })];
            self.kinds.push(StageKind::Map(Pass { from: self.from, to: op, leaves }));
        }
    }

    /// The label merge of op `op`, after which the next pass starts from what it gave.
    fn merge_labels(&mut self, op: usize) {
        self.pass(op, vec![Leaf::Labels { step: op }]);
        let (step, objects) = (op, TableId { step: op, of: Rows::Objects });
        let levels = self.plan.tree().levels();
        self.kinds.extend((levels > 0).then_some(StageKind::Seam { step }));
        self.kinds.extend((1..=levels).map(|level| StageKind::Up { step, level }));
        self.kinds.push(StageKind::Rank(objects));
        self.kinds.extend((1..=levels).rev().map(|level| StageKind::Down { step, level }));
        if self.plan.stored(op + 1).is_none() {
            self.keep_for_later(op + 1);
        }
        self.kinds.push(StageKind::Relabel { step });
        self.kinds.extend(self.plan.table(objects).map(|_| StageKind::Table(objects)));
        self.from = op + 1;
    }

    /// Keeps an image between stages, in the scratch.
    fn keep_for_later(&mut self, image: usize) {
        let kind = match image > 0 && matches!(self.plan.ops[image - 1], Op::Label(_)) {
            true => GroupKind::Labels,
            false => GroupKind::Image,
        };
        let spec = build::scratch_spec(self.plan, self.plan.dtype(image));
        let by = pyramid::reduce_of(kind, spec.dtype);
        self.plan.images.push(Stored {
            image,
            groups: Vec::new(),
            kind,
            spec,
            levels: Vec::new(),
            by,
            verbatim: false,
        });
    }

    /// The coarser levels of what the user finds.
    fn levels(&mut self) {
        let levels = |stored: &Stored| {
            let image = stored.image;
            (1..stored.levels.len()).map(move |level| StageKind::Level { image, level }).collect::<Vec<_>>()
        };
        let made = |stored: &&Stored| !stored.groups.is_empty() && !self.plan.given.images.contains(&stored.image);
        self.kinds.extend(self.plan.images.iter().filter(made).flat_map(levels));
    }

    /// The passes that only the histogram of the whole job needs.
    fn measure(&mut self) {
        if self.plan.given.histogram {
            return;
        }
        let (image, dtype) = (self.plan.measured, self.plan.dtype(self.plan.measured));
        let rounds = match (self.plan.ops.is_empty(), self.plan.job.percentiles) {
            (true, _) => measure_rounds(dtype),
            // The same ranks are looked for when a threshold is chosen by percentile.
            (false, Some(Percentiles::Exact)) if !matches!(self.plan.choice(image), Some(Choice::Percentile(_))) => {
                vec![vec![Round::Refine]; refinements(dtype)]
            }
            _ => Vec::new(),
        };
        for rounds in rounds {
            let leaves = rounds.into_iter().map(|round| Leaf::Count(Count { image, round })).collect();
            self.kinds.push(StageKind::Map(Pass { from: image, to: image, leaves }));
        }
    }
}

/// Passes after the first until values of a type are known to the last bit.
fn refinements(dtype: Dtype) -> usize {
    (dtype.size() * 8 / 16).saturating_sub(1)
}

/// The passes of counting that a chosen threshold needs.
fn rounds(by: Choice, dtype: Dtype) -> Vec<Round> {
    match by {
        _ if dtype.size() <= 2 => vec![Round::Tally],
        Choice::Otsu => vec![Round::Tally, Round::Bins(OTSU_BINS)],
        Choice::Percentile(_) => [vec![Round::Tally], vec![Round::Refine; refinements(dtype)]].concat(),
    }
}

/// The passes after the first of a job that only measures: the even bins and the exact percentiles of wide types.
fn measure_rounds(dtype: Dtype) -> Vec<Vec<Round>> {
    let mut rounds = vec![vec![Round::Refine]; refinements(dtype)];
    if let Some(first) = rounds.first_mut() {
        first.insert(0, Round::Bins(MEASURE_BINS));
    }
    rounds
}

/// Whether writing an image once and reading it `later` times costs less than computing it again each time.
fn spilling_is_cheaper(ops: &[Op], dtype: Dtype, later: usize) -> bool {
    /// Bytes a second that one thread compresses and writes, and reads and decompresses, for an array between stages.
    const WRITE: f64 = 4e8;
    const READ: f64 = 1e9;
    let again: f64 = ops.iter().map(|op| 1.0 / op.rate()).sum::<f64>() * later as f64;
    let spill = dtype.size() as f64 * (1.0 / WRITE + later as f64 / READ);
    spill < again
}

/// Units of a segment: about half a minute of work, but at least four segments for each thread.
fn segment(plan: &Plan, kind: &StageKind, threads: usize) -> u64 {
    let units = match kind {
        StageKind::Map(_) | StageKind::Relabel { .. } | StageKind::Seam { .. } => plan.grid.units(),
        StageKind::Up { level, .. } | StageKind::Down { level, .. } => plan.tree().units(*level),
        // Ranges and row groups are counted later, and with them their columns.
        StageKind::Rank(_) | StageKind::Table(_) => return 4,
        StageKind::Level { image, level } => plan.level_objects(*image, *level).unwrap_or(1),
        StageKind::Publish => return 1,
    };
    let long = (SEGMENT_SECONDS / plan.unit_seconds(kind)).max(1.0) as u64;
    long.min(units.div_ceil(4 * threads as u64))
}
