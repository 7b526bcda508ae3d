//! Ranges of keys: where to cut them, and the merge of one.
//!
//! Objects are numbered by their first voxel. The keys of all closed rows are cut into ranges of about `range_rows`
//! rows; each is merged by one task that holds some pages of each contributor and a batch of finished columns, however many
//! rows the range turns out to have. A prefix sum over the ranges' counts then gives every object its label.

use std::collections::BTreeMap;
use std::ops::Range;

use futures::{StreamExt, TryStreamExt};
use voxel::Merge;
use voxel::exact_sum::Kind;
use voxel::table::{Columns, ObjectRow};

use super::{Contribution, Contributor};
use crate::plan::memory::{BATCH_ROWS, pieces_at_once};
use crate::plan::{Plan, TableId};
use crate::rows::{PAGE_ROWS, Row, RowFile, RowMerge};
use crate::scratch::{Reader, Tag, Writer, decode_u64s, encode_u64s};
use crate::state::State;
use crate::store::Store;
use crate::{Error, Result, layout};

/// Cuts the key space into ranges of about as many rows each, and none of more than about `range_rows`. Gives the first key of
/// every range; the first is 0.
pub(crate) fn cut(contributions: &[Contribution], range_rows: u64) -> Vec<u64> {
    // A run of rows counts where it starts.
    let mut runs: Vec<(u64, u64)> = Vec::new();
    for c in contributions {
        for (i, key) in c.keys.iter().take(c.keys.len().saturating_sub(1)).enumerate() {
            runs.push((*key, c.step.min(c.rows - i as u64 * c.step)));
        }
    }
    runs.sort_unstable();
    let all: u64 = runs.iter().map(|(_, run)| run).sum();
    let most = all.div_ceil(all.div_ceil(range_rows).max(1));
    let (mut cuts, mut rows) = (vec![0], 0);
    for (key, run) in runs {
        if rows > 0 && rows + run / 2 > most && cuts.last().is_some_and(|last| *last < key) {
            cuts.push(key);
            rows = 0;
        }
        rows += run;
    }
    cuts
}

/// The ranges that keys from `first` to `last` fall into.
pub(crate) fn ranges_of(cuts: &[u64], first: u64, last: u64) -> Range<usize> {
    cuts.partition_point(|c| *c <= first).saturating_sub(1)..cuts.partition_point(|c| *c <= last)
}

/// Writes, for every range, who contributes to it.
pub(crate) async fn write_sources(store: &Store, key: &str, cuts: &[u64], from: &[Contribution]) -> Result<()> {
    let mut sources = vec![Vec::new(); cuts.len()];
    for c in from {
        if let (Some(first), Some(last)) = (c.keys.first(), c.keys.last()) {
            for range in ranges_of(cuts, *first, *last) {
                sources[range].push(c.from.code());
            }
        }
    }
    let mut out = Writer::create(store, key).await?;
    for (range, mut codes) in sources.into_iter().enumerate() {
        codes.sort_unstable();
        out.section(Tag::Sources, range as u64, &encode_u64s(&codes)).await?;
    }
    out.finish().await?;
    Ok(())
}

/// Which objects stay.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Keep {
    pub(crate) min_voxels: u64,
    pub(crate) max_voxels: u64,
    pub(crate) clear_border: bool,
}

impl Keep {
    fn keeps(self, row: &ObjectRow) -> bool {
        (self.min_voxels..=self.max_voxels).contains(&row.voxels) && !(self.clear_border && row.border_faces > 0)
    }
}

/// The ranges to merge, and where their rows are.
pub(crate) struct Ranges<'a> {
    pub(crate) store: &'a Store,
    /// Knows the file of a contributor to this table.
    pub(crate) plan: &'a Plan,
    pub(crate) table: TableId,
    pub(crate) cuts: &'a [u64],
    /// This stage.
    pub(crate) stage: &'a str,
    /// Bytes to read ahead.
    pub(crate) ahead_bytes: u64,
}

impl Ranges<'_> {
    /// The codes of those who contribute to a range, and the rows of each.
    pub(crate) async fn open<R: Row>(&self, range: u64, kind: R::Kind) -> Result<(Vec<u64>, Vec<RowFile<R>>)> {
        /// Files opened at once, each in some small requests.
        const OPENED: usize = 8;
        let sources = Reader::open(self.store, &layout::sources(self.stage)).await?;
        let codes = decode_u64s(&sources.require(Tag::Sources, range).await?);
        let (low, high) = (self.cuts[range as usize], self.cuts.get(range as usize + 1).copied());
        let page_bytes = (PAGE_ROWS * R::bytes(kind)) as u64;
        let at_once = pieces_at_once(codes.len() as u64, page_bytes, self.ahead_bytes);
        let open = async |code: u64| {
            let key = self.plan.rows_of(self.table, Contributor::from_code(code));
            RowFile::open(Reader::open(self.store, &key).await?, kind, low, high, at_once).await
        };
        let files: Vec<_> = codes.iter().map(|code| open(*code)).collect();
        let files = futures::stream::iter(files).buffered(OPENED).try_collect().await?;
        Ok((codes, files))
    }
}

/// What becomes of the rows of objects.
pub(crate) struct Finish {
    /// What is finished of the rows; nothing when only their numbers are wanted.
    pub(crate) columns: Option<Columns>,
    pub(crate) kind: Option<Kind>,
    pub(crate) keep: Keep,
    /// Rows of different contributors with one key are one object (its label was given); else every row is an object.
    pub(crate) joins_keys: bool,
}

/// The index of a batch of a column.
pub(crate) fn column_batch(column: usize, batch: u64) -> u64 {
    (column as u64) << 32 | batch
}

/// Merges one range; gives the number of objects kept.
pub(crate) async fn merge(ranges: &Ranges<'_>, finish: &Finish, range: u64) -> Result<u64> {
    let (codes, files) = ranges.open::<ObjectRow>(range, finish.kind).await?;
    // The rank of every row within the range, 0 when it is dropped, for its contributor to look up.
    let mut ranks: Vec<Vec<u8>> = files.iter().map(|f| f.first_row.to_le_bytes().to_vec()).collect();
    let mut sizes: BTreeMap<u64, u64> = BTreeMap::new();
    let mut out = Writer::create(ranges.store, &layout::scratch(ranges.stage, range)).await?;
    let (mut kept, mut batch, mut batches) = (0u64, Vec::new(), 0);

    let mut rows = RowMerge::new(files).await?;
    let mut next = rows.next().await?;
    while let Some((from, mut row)) = next {
        next = rows.next().await?;
        while finish.joins_keys && next.as_ref().is_some_and(|(_, other)| other.key == row.key) {
            if let Some((_, other)) = next {
                row.merge(other);
            }
            next = rows.next().await?;
        }
        let keeps = finish.keep.keeps(&row);
        kept += u64::from(keeps);
        if !finish.joins_keys {
            let rank = if keeps { kept as u32 } else { 0 };
            ranks[from].extend_from_slice(&rank.to_le_bytes());
        }
        if keeps {
            *sizes.entry(row.voxels).or_default() += 1;
            // What stands in the label column: the id, or the rank, to which the table adds the range's base.
            batch.push((if finish.joins_keys { row.key } else { kept }, row));
            if batch.len() == BATCH_ROWS {
                write_batch(&mut batch, &mut batches, finish.columns.as_ref(), &mut out).await?;
            }
        }
    }
    if !batch.is_empty() {
        write_batch(&mut batch, &mut batches, finish.columns.as_ref(), &mut out).await?;
    }
    if !finish.joins_keys {
        for (code, ranks) in codes.iter().zip(&ranks) {
            out.section(Tag::Ranks, *code, ranks).await?;
        }
    }
    let sizes: Vec<u64> = sizes.into_iter().flat_map(|(size, count)| [size, count]).collect();
    out.section(Tag::Sizes, 0, &encode_u64s(&sizes)).await?;
    out.finish().await?;
    Ok(kept)
}

async fn write_batch(
    batch: &mut Vec<(u64, ObjectRow)>,
    batches: &mut u64,
    columns: Option<&Columns>,
    out: &mut Writer,
) -> Result<()> {
    let Some(columns) = columns else {
        batch.clear();
        return Ok(());
    };
    for (i, column) in columns.finish(batch.iter().map(|(label, row)| (*label, row))).into_iter().enumerate() {
        let mut bytes = Vec::new();
        column.encode(&mut bytes);
        out.section(Tag::Column, column_batch(i, *batches), &bytes).await?;
    }
    batch.clear();
    *batches += 1;
    Ok(())
}

/// The final labels of a contributor's closed rows, in their order; 0 for those dropped.
pub(crate) struct Labels<'a> {
    pub(crate) store: &'a Store,
    /// The stage that ranked.
    pub(crate) rank: &'a str,
    pub(crate) cuts: &'a [u64],
    /// Objects before each range.
    pub(crate) bases: &'a [u64],
}

impl<'a> Labels<'a> {
    /// The labels of a table whose rows have been ranked.
    pub(crate) fn of(store: &'a Store, plan: &'a Plan, state: &'a State, table: TableId) -> Result<Self> {
        let ranked =
            state.ranked(table).ok_or_else(|| Error::internal("labels are asked for before they are ranked"))?;
        Ok(Self { store, rank: plan.rank_stage(table), cuts: &ranked.cuts, bases: &ranked.bases })
    }

    /// Reads the labels of closed rows `rows` of `of`, whose file is `file`.
    pub(crate) async fn of_closed(&self, of: Contributor, file: &Reader, rows: Range<u64>) -> Result<Vec<u64>> {
        let keys = decode_u64s(&file.require(Tag::ClosedKeys, 0).await?);
        // The keys of the pages that hold these rows, and of the row after them.
        let page = |row: u64| (row / PAGE_ROWS as u64) as usize;
        let (first, last) = (keys.get(page(rows.start)), keys.get(page(rows.end.saturating_sub(1)) + 1));
        let (Some(first), Some(last), false) = (first, last, rows.is_empty()) else {
            return if rows.is_empty() { Ok(Vec::new()) } else { Err(file.damaged("it has fewer rows than it says")) };
        };
        let (mut labels, mut found) = (vec![0; rows.clone().count()], 0);
        for range in ranges_of(self.cuts, *first, *last) {
            let ranked = Reader::open(self.store, &layout::scratch(self.rank, range as u64)).await?;
            let bytes = ranked.require(Tag::Ranks, of.code()).await?;
            let (start, ranks) = bytes.split_at_checked(8).ok_or_else(|| ranked.damaged("ranks are cut short"))?;
            let start = u64::from_le_bytes(std::array::from_fn(|i| start[i]));
            for (row, rank) in (start..).zip(ranks.chunks_exact(4)).filter(|(row, _)| rows.contains(row)) {
                let rank = u32::from_le_bytes(std::array::from_fn(|i| rank[i]));
                found += 1;
                if rank != 0 {
                    labels[(row - rows.start) as usize] = self.bases[range] + u64::from(rank);
                }
            }
        }
        if found != labels.len() {
            return Err(file.damaged("not all of its rows were ranked"));
        }
        Ok(labels)
    }
}
