//! The label merge, a tree up and down, exact for 6, 18 and 26 neighbours:
//!
//! 1. `map` labels each block and leaves its rows, its faces and the aliases of its open objects;
//! 2. `seam` finds the pairs of labels that touch over a seam;
//! 3. `up` joins open objects group by group, level by level; rows that can't grow any more are closed and leave;
//! 4. `rank` merges the closed rows of everyone, range by range of first voxels, drops what is too small, finishes the
//!    columns, and numbers the objects;
//! 5. `down` hands the final labels back from group to child, down to the blocks;
//! 6. `map` writes each block's final labels, and `table` the object table.
//!
//! Rows of objects that are given (`objects`) and `contacts` need no tree: they are ranked by their ids.
//!
//! No part of it holds a row per object of the whole volume: a group holds its open objects, a range a page of each of
//! its contributors and what there is room to read ahead, the coordinator a handful of numbers per range.

pub(crate) mod components;
pub(crate) mod contacts;
pub(crate) mod down;
pub(crate) mod rank;
pub(crate) mod records;
pub(crate) mod seam;
pub(crate) mod table;
pub(crate) mod up;

use serde::{Deserialize, Serialize};

use voxel::exact_sum::Kind;
use voxel::table::ObjectRow;

use self::records::Alias;
use crate::Result;
use crate::plan::TableId;
use crate::rows::{PAGE_ROWS, Pages};
use crate::scratch::{Reader, Tag, Writer, decode_u64s, encode_u64s};

/// Who wrote closed rows: a block (level 0) or a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Contributor {
    /// Level in the tree. Of contacts, which blocks alone leave: which of its files, when they did not fit into one.
    pub level: u32,
    /// Unit within the level.
    pub unit: u64,
}

/// More blocks than this are beyond anything that can be stored.
const UNIT_BITS: u32 = 44;

impl Contributor {
    /// One number for both, as the index of a section.
    pub(crate) fn code(self) -> u64 {
        u64::from(self.level) << UNIT_BITS | self.unit
    }

    /// The inverse of [`Contributor::code`].
    pub(crate) fn from_code(code: u64) -> Self {
        Self { level: (code >> UNIT_BITS) as u32, unit: code & ((1 << UNIT_BITS) - 1) }
    }
}

/// What one contributor's closed rows look like from afar: enough to cut ranges, and never more than a few numbers.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Contribution {
    /// To which table.
    pub to: TableId,
    /// Who.
    pub from: Contributor,
    /// Closed rows.
    pub rows: u64,
    /// Rows between two neighbouring `keys`.
    pub step: u64,
    /// The key of every `step`-th row from the first, then that of the last row.
    pub keys: Vec<u64>,
}

impl Contribution {
    pub(crate) fn of(to: TableId, from: Contributor, pages: Pages) -> Self {
        /// Enough to cut evenly, few enough for a receipt.
        const KEYS_MAX: usize = 32;
        let every = (pages.keys.len().saturating_sub(1)).div_ceil(KEYS_MAX).max(1);
        let (last, firsts) = pages.keys.split_last().map_or((None, &[][..]), |(last, firsts)| (Some(*last), firsts));
        let keys = firsts.iter().copied().step_by(every).chain(last).collect();
        Self { to, from, rows: pages.rows, step: (every * PAGE_ROWS) as u64, keys }
    }
}

/// How much a block's or group's file holds.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Counts {
    pub(crate) closed: u64,
    pub(crate) open: u64,
    pub(crate) aliases: u64,
}

impl Counts {
    /// The counts of a file whose rows are of `kind`. Memory is planned by them, so a file that holds other numbers of
    /// records than it counts is refused here, before anything else of it is read.
    pub(crate) async fn read(file: &Reader, kind: Option<Kind>) -> Result<Self> {
        let numbers = decode_u64s(&file.require(Tag::Counts, 0).await?);
        let [closed, open, aliases] = numbers[..] else { return Err(file.damaged("its counts are not three")) };
        let row = ObjectRow::bytes(kind);
        for (count, tag, bytes) in
            [(closed, Tag::Closed, row), (open, Tag::Open, row), (aliases, Tag::Aliases, Alias::BYTES)]
        {
            let held: u64 = file.indices(tag).map(|page| file.length(tag, page) / bytes as u64).sum();
            if held != count {
                return Err(file.damaged(&format!("it counts {count} records of {tag:?} and holds {held}")));
            }
        }
        Ok(Self { closed, open, aliases })
    }

    pub(crate) async fn write(&self, out: &mut Writer) -> Result<()> {
        out.section(Tag::Counts, 0, &encode_u64s(&[self.closed, self.open, self.aliases])).await
    }
}
