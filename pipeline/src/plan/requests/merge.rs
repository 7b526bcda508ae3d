//! What the label merge and its tables ask for. Nearly all of it depends on how many objects there are: what is left of
//! a block with few fits into the end of its file, which comes with the first request, and what is left of many takes a
//! request for each page of rows, or for several of them.

use super::read::Reading;
use super::{Asked, Counting, Objects, Span};
use crate::grid::Tree;
use crate::op::Op;
use crate::plan::memory::{self, BATCH_ROWS, BLOCK_CONTACTS, COLUMNS_OF_UNIT, Limits, pieces_at_once};
use crate::plan::{Rows, StageKind, TableId};
use crate::reduce::records::{Alias, Pair};
use crate::reduce::table;
use crate::reduce::up::{PAGE_RECORDS, pages_at_once};
use crate::rows::PAGE_ROWS;
use voxel::table::ObjectRow;

/// Parts of a large object.
const PART_BYTES: u64 = 8 << 20;
/// What a reader gets with its first request.
const TAIL_BYTES: u64 = 16 << 10;
/// A section's entry in the table at the end.
const ENTRY_BYTES: u64 = 32;

/// Writing an object of at most so many bytes: one request, or a part at a time with one to begin and one to end.
fn upload(bytes: u64) -> Asked {
    let high = if bytes <= PART_BYTES { 1 } else { bytes.div_ceil(PART_BYTES) + 2 };
    Asked { puts: Span { low: 1, high }, bytes_out: Span::up_to(bytes), ..Asked::default() }
}

/// A scratch object as its reader meets it.
#[derive(Clone, Copy)]
struct File {
    bytes: u64,
    sections: u64,
}

impl File {
    /// Its table, which is in its end, but for that of very many sections.
    fn open(self) -> Asked {
        let table = u64::from(self.sections * ENTRY_BYTES + 64 > TAIL_BYTES);
        Asked { gets: Span { low: 1, high: 1 + table }, bytes_in: Span::up_to(self.bytes), ..Asked::default() }
    }

    /// One section, which may be in its end, too.
    fn section(self) -> Asked {
        let apart = u64::from(self.bytes + self.sections * ENTRY_BYTES + 64 > TAIL_BYTES);
        Asked { gets: Span::up_to(apart), ..Asked::default() }
    }
}

impl Counting<'_> {
    fn block_voxels(&self) -> u64 {
        self.plan.grid.largest().iter().map(|n| *n as u64).product()
    }

    fn blocks(&self) -> u64 {
        self.plan.grid.units()
    }

    /// Objects of a block, at most.
    fn in_block(&self) -> u64 {
        self.terms.objects.most(self.block_voxels())
    }

    /// Of those, objects that reach one of its faces.
    fn open_in_block(&self) -> u64 {
        let [z, y, x] = self.plan.grid.largest().map(|n| n as u64);
        let faces = 2 * (z * y + z * x + y * x);
        // Objects of so many voxels each have a face of about two thirds of a power of them.
        let touching = match self.terms.objects {
            Objects::Any => faces,
            Objects::OneIn(n) => (2.0 * faces as f64 / (n.max(2) as f64).powf(2.0 / 3.0)).ceil() as u64,
        };
        touching.min(self.in_block())
    }

    /// Rows of a table, at most.
    pub(super) fn rows(&self, table: TableId) -> u64 {
        match table.of {
            Rows::Objects => self.blocks().saturating_mul(self.in_block()),
            // An object touches a few others, in each block it lies in.
            Rows::Contacts => self.blocks().saturating_mul(self.contacts_in_block()),
        }
    }

    fn contacts_in_block(&self) -> u64 {
        match self.terms.objects {
            Objects::Any => self.block_voxels().saturating_mul(13),
            Objects::OneIn(_) => self.in_block().saturating_mul(8),
        }
    }

    /// Ranges that a table's rows are cut into: two neighbours have more rows together than one should.
    pub(super) fn ranges(&self, table: TableId) -> Span {
        let rows = self.rows(table);
        Span { low: 1, high: 1 + 2 * rows.div_ceil(self.plan.merge.range_rows.max(1)) }
    }

    fn row_bytes(&self, table: TableId) -> u64 {
        match table.of {
            Rows::Objects => ObjectRow::bytes(self.plan.rows_kind(table.step)) as u64,
            Rows::Contacts => 32,
        }
    }

    /// What a block leaves for a merge.
    fn labels_file(&self, step: usize) -> File {
        let (objects, voxels) = (self.in_block(), self.block_voxels());
        let row = self.row_bytes(TableId { step, of: Rows::Objects });
        let [z, y, x] = self.plan.grid.largest().map(|n| n as u64);
        let planes = 2 * (z * y + z * x + y * x) * 5;
        let runs = match self.terms.objects {
            Objects::Any => 4 * voxels,
            Objects::OneIn(_) => voxels / 16 + 8 * objects,
        };
        let bytes = runs + planes + objects * row + objects / 8 + self.open_in_block() * Alias::BYTES as u64 + 1024;
        File { bytes, sections: 12 + objects / PAGE_ROWS as u64 }
    }

    /// What a block leaves as rows by id.
    fn rows_file(&self, table: TableId) -> File {
        let rows = match table.of {
            Rows::Objects => self.in_block(),
            Rows::Contacts => self.contacts_in_block().min(2 * BLOCK_CONTACTS as u64),
        };
        File { bytes: rows * self.row_bytes(table) + rows / 8 + 1024, sections: 4 + rows / PAGE_ROWS as u64 }
    }

    pub(super) fn left_labels(&self, step: usize) -> Asked {
        upload(self.labels_file(step).bytes) * self.blocks()
    }

    pub(super) fn left_rows(&self, step: usize) -> Asked {
        upload(self.rows_file(TableId { step, of: Rows::Objects }).bytes) * self.blocks()
    }

    pub(super) fn left_contacts(&self, step: usize) -> Asked {
        let file = self.rows_file(TableId { step, of: Rows::Contacts });
        // A file for so many, and one at the end.
        let files = Span { low: 0, high: 1 + self.contacts_in_block().div_ceil(BLOCK_CONTACTS as u64) };
        upload(file.bytes) * files * self.blocks()
    }

    /// Pairs over the seams: each block reads its own faces and those of up to 13 neighbours.
    pub(super) fn seams(&self) -> Asked {
        let step = self.plan.stages.iter().find_map(|stage| match stage.kind {
            StageKind::Seam { step } => Some(step),
            _ => None,
        });
        let file = self.labels_file(step.unwrap_or(0));
        let counts = self.plan.grid.counts().map(|n| n as i64);
        // How many blocks have a neighbour there.
        let having = |by: [i64; 3]| (0..3).map(|a| (counts[a] - by[a].abs()).max(0) as u64).product::<u64>();
        let mut neighbours = having([0, 0, 1]);
        neighbours += (-1..=1).map(|x| having([0, 1, x])).sum::<u64>();
        neighbours += (-1..=1).flat_map(|y| (-1..=1).map(move |x| [1, y, x])).map(having).sum::<u64>();
        let own_faces: u64 = [[1, 0, 0], [0, 1, 0], [0, 0, 1]].map(having).iter().sum();
        let with_faces = self.blocks() - 1;
        let opened = file.open() * (neighbours + with_faces);
        let planes = file.section() * (neighbours + own_faces);
        opened + planes + upload(self.seam_file().bytes) * self.blocks()
    }

    fn seam_file(&self) -> File {
        let pairs = match self.terms.objects {
            Objects::Any => {
                let [z, y, x] = self.plan.grid.largest().map(|n| n as u64);
                9 * (z * y + z * x + y * x)
            }
            Objects::OneIn(_) => 2 * self.open_in_block(),
        };
        File { bytes: pairs * Pair::BYTES as u64 + 256, sections: 8 }
    }

    /// What a block or group leaves, as the group above reads it.
    fn child_file(&self, step: usize, level: u32) -> File {
        match level {
            0 => self.labels_file(step),
            _ => {
                let blocks = self.blocks_under(level);
                let (open, row) = (blocks * self.open_in_block(), self.row_bytes(TableId { step, of: Rows::Objects }));
                File { bytes: open * (row + 40) + 1024, sections: 8 + open / PAGE_ROWS as u64 }
            }
        }
    }

    /// Blocks of a full group.
    fn blocks_under(&self, level: u32) -> u64 {
        let tree = self.plan.tree();
        let span = (tree.fanout as u64).saturating_pow(level);
        tree.blocks.iter().map(|n| (*n as u64).min(span)).product()
    }

    /// Objects that may be open in all children of the groups of a level.
    fn open_below(&self, level: u32) -> u64 {
        let tree = self.plan.tree();
        let of_one = self.blocks_under(level - 1).saturating_mul(self.open_in_block());
        tree.units(level - 1).saturating_mul(of_one).min(self.blocks().saturating_mul(self.open_in_block()))
    }

    pub(super) fn up(&self, step: usize, level: u32, limits: Limits) -> Asked {
        let tree = self.plan.tree();
        let (children, open) = (tree.units(level - 1), self.open_below(level));
        let (file, own) = (self.child_file(step, level - 1), self.child_file(step, level));
        let pages = |records: u64, page: usize| Span::up_to(records / page as u64 + children);
        // Aliases are read twice, rows once, and the seams between the children twice.
        let aliases = file.section() * pages(open, PAGE_RECORDS) * 2;
        let rows = file.section() * pages(open, PAGE_ROWS * pages_at_once(self.plan.rows_kind(step)));
        let seam = self.seam_file();
        let borders = self.border_blocks(tree, level);
        let seams = seam.open() * borders * 2 + seam.section() * borders;
        let of_children = (file.open() + file.section()) * children;
        let written = upload(own.bytes) * tree.units(level);
        let held = open / tree.units(level).max(1) * 1000;
        of_children + aliases + rows + seams + written + overflow(held, limits) * tree.units(level)
    }

    /// Blocks at borders between children of the groups of a level.
    fn border_blocks(&self, tree: Tree, level: u32) -> Span {
        /// Beyond this they are bounded, not counted.
        const COUNTED_MOST: u64 = 1 << 16;
        if self.blocks() > COUNTED_MOST {
            return Span::up_to(self.blocks());
        }
        let groups = (0..tree.units(level)).map(|unit| tree.inner_border_blocks(level, unit).len() as u64);
        Span::exact(groups.sum())
    }

    /// Contributors to a table.
    fn contributors(&self, table: TableId) -> u64 {
        let tree = self.plan.tree();
        let is_merged = self.plan.ops.get(table.step).is_some_and(Op::is_merged);
        match table.of {
            Rows::Objects if is_merged => (0..=tree.levels()).map(|level| tree.units(level)).sum(),
            Rows::Objects => self.blocks(),
            Rows::Contacts => {
                self.blocks().saturating_mul(1 + self.contacts_in_block().div_ceil(BLOCK_CONTACTS as u64))
            }
        }
    }

    /// How many ranges the rows of all contributors to a table fall into.
    fn overlaps(&self, table: TableId) -> u64 {
        self.contributors(table).saturating_mul(self.ranges_of_one(table))
    }

    /// Ranges that the rows of one contributor fall into.
    fn ranges_of_one(&self, table: TableId) -> u64 {
        let ranges = self.ranges(table).high;
        let layered = table.of == Rows::Objects && self.plan.ops.get(table.step).is_some_and(Op::is_merged);
        match self.terms.objects {
            // First voxels of a block lie in one layer of blocks, and so do its ranges.
            Objects::OneIn(_) if layered => ranges.div_ceil(self.plan.grid.counts()[0] as u64) + 1,
            _ => ranges,
        }
    }

    /// A range as it was ranked.
    fn range_file(&self, table: TableId) -> File {
        let rows = match self.terms.objects {
            Objects::Any => self.rows(table),
            Objects::OneIn(_) => self.rows(table).min(2 * self.plan.merge.range_rows),
        };
        let batches = rows.div_ceil(BATCH_ROWS as u64);
        let sections = 4 + self.overlaps(table).min(rows) + 32 * batches;
        File { bytes: rows * (8 * 32 + 4 + 16) + 4096, sections }
    }

    pub(super) fn rank(&self, table: TableId, limits: Limits) -> Asked {
        let (ranges, overlaps) = (self.ranges(table), self.overlaps(table));
        let sources = File { bytes: overlaps * 8, sections: ranges.high };
        let rows = match table.of {
            Rows::Objects => self.rows_file(table),
            Rows::Contacts => self.rows_file(table),
        };
        let side_by_side = match (self.terms.objects, table.of) {
            (Objects::OneIn(_), Rows::Objects) => memory::contributors(self.plan, table),
            _ => self.contributors(table),
        };
        let at_once = pieces_at_once(side_by_side, PAGE_ROWS as u64 * self.row_bytes(table), limits.ahead_bytes);
        // The first keys of a file, its pages, and at each cut one page twice; with few rows all come with its end. The
        // last pages of a contributor to a range are fewer than are read at once.
        let pages = (self.rows(table) / PAGE_ROWS as u64).saturating_add(overlaps.saturating_mul(at_once + 1));
        let pages = Span::up_to(pages / at_once);
        let contributors = (rows.open() + rows.section()) * Span::up_to(overlaps);
        let written = upload(self.range_file(table).bytes) * ranges;
        (sources.open() + sources.section()) * ranges + contributors + rows.section() * pages + written
    }

    /// The sizes of all objects, for their median.
    pub(super) fn numbered(&self, table: TableId) -> Asked {
        match table.of {
            Rows::Objects => {
                let file = self.range_file(table);
                (file.open() + file.section()) * self.ranges(table)
            }
            Rows::Contacts => Asked::default(),
        }
    }

    /// Final labels of the closed rows of a block or group.
    fn closed_labels(&self, step: usize, file: File) -> Asked {
        let table = TableId { step, of: Rows::Objects };
        let range = self.range_file(table);
        file.section() + (range.open() + range.section()) * Span::up_to(self.ranges_of_one(table))
    }

    pub(super) fn down(&self, step: usize, level: u32, limits: Limits) -> Asked {
        let tree = self.plan.tree();
        let (groups, open) = (tree.units(level), self.open_below(level));
        let file = self.child_file(step, level);
        let maps = file.section() * Span::up_to(open / PAGE_RECORDS as u64 + tree.units(level - 1));
        let above = match level < tree.levels() {
            true => {
                let finals = File { bytes: 8 * self.open_below(level + 1), sections: 1 };
                let pages = Span::up_to(1 + open / PAGE_RECORDS as u64);
                // Groups without an open object ask for none.
                (finals.open() + finals.section() * pages).or_none()
            }
            false => Asked::default(),
        };
        let written = upload(8 * open / groups.max(1) + 1024 + 64 * tree.units(level - 1));
        let held = open / groups.max(1) * 100;
        let each = file.open() + file.section() + self.closed_labels(step, file) + above + written;
        each * groups + maps + overflow(held, limits) * groups
    }

    /// What blocks read of a mask, and what they ask of the output.
    pub(super) fn relabel(&self, step: usize, limits: Limits) -> (Asked, Asked) {
        let plan = self.plan;
        let mut input = Asked::default();
        if let (Some(mask), Some(Op::FillHoles { .. })) = (&plan.mask, plan.ops.get(step)) {
            let mut reading = Reading::new(self, plan.stages.len(), limits);
            reading.source(mask, |unit| unit);
            input = reading.asked().0;
        }
        let file = self.labels_file(step);
        let finals = match plan.tree().levels() {
            0 => Asked::default(),
            _ => {
                let finals = File { bytes: 8 * self.open_below(1), sections: self.open_below(1) / 4096 + 64 };
                // Blocks without an open object ask for none.
                let pages = Span::up_to(1 + self.open_in_block() / PAGE_RECORDS as u64);
                (finals.open() + finals.section() * pages).or_none()
            }
        };
        // How many there are, and the runs.
        let each = file.open() + file.section() * 2 + self.closed_labels(step, file) + finals;
        (input, each * self.blocks() + self.image(step + 1))
    }

    /// Columns encoded from the ranges that their row group overlaps.
    pub(super) fn table(&self, id: TableId) -> Asked {
        let rows = self.rows(id);
        let (ranges, units) = (self.ranges(id).high, table::units(self.plan, id, rows));
        let groups = rows.div_ceil(self.plan.merge.group_rows.max(1));
        let of_group = units / groups.max(1);
        let range = self.range_file(id);
        let parts = Span::up_to(of_group * (ranges + groups));
        let batches = Span::up_to(of_group * (rows / BATCH_ROWS as u64 + 2 * (ranges + groups)));
        let bytes = self.plan.merge.group_rows.min(rows) * 8 * COLUMNS_OF_UNIT as u64 + (1 << 16);
        range.open() * parts + range.section() * batches + upload(bytes) * Span::up_to(units)
    }

    /// A table put together from its columns.
    pub(super) fn published_table(&self, id: TableId) -> Asked {
        /// Bytes that are read at a time.
        const AHEAD_BYTES: u64 = 1 << 20;
        let rows = self.rows(id);
        let (units, columns) = (table::units(self.plan, id, rows), table::columns(self.plan, id).len() as u64);
        let groups = rows.div_ceil(self.plan.merge.group_rows.max(1));
        let bytes = rows * 8 * columns;
        // Of each unit's file its length and its footer, in a few requests; then column by column.
        let reads = units * 6 + groups * 2 * columns + bytes / AHEAD_BYTES;
        Asked { gets: Span::up_to(reads), bytes_in: Span::up_to(bytes), ..Asked::default() } + upload(bytes + (1 << 20))
    }
}

/// What goes through buckets where a join would hold more than its limit: a bound, and a generous one.
fn overflow(held_bytes: u64, limits: Limits) -> Asked {
    /// Steps that sort all records anew, rounds of the components included.
    const STEPS: u64 = 64;
    let limit = limits.merge_bytes.max(1);
    let buckets = held_bytes.div_ceil(limit).clamp(1, 4096);
    if buckets == 1 {
        return Asked::default();
    }
    let flush_bytes = (limit / (4 * buckets)).max(1 << 10);
    let parts = STEPS * held_bytes.div_ceil(flush_bytes);
    Asked {
        gets: Span::up_to(4 * parts),
        puts: Span::up_to(parts),
        // They go when the unit is done.
        deletes: Span::up_to(parts + 1),
        lists: Span::up_to(1 + parts / 1000),
        bytes_in: Span::up_to(4 * STEPS * held_bytes),
        bytes_out: Span::up_to(STEPS * held_bytes),
    }
}
