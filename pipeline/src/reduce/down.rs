//! The way down: a group hands each child the final labels of the child's open objects.

use std::ops::Range;

use voxel::exact_sum::Kind;

use super::components::Shares;
use super::rank::Labels;
use super::records::{of_two, two};
use super::up::{PAGE_RECORDS, child_page};
use super::{Contributor, Counts};
use crate::buckets::Overflow;
use crate::grid::Tree;
use crate::scratch::{Reader, Tag, Writer, decode_u64s, encode_u64s};
use crate::store::Store;
use crate::{Result, layout};

/// A group, and where it and its parent left what they know.
pub(crate) struct Group<'a> {
    pub(crate) store: &'a Store,
    pub(crate) tree: Tree,
    pub(crate) level: u32,
    pub(crate) unit: u64,
    /// The stage that joined this level on the way up.
    pub(crate) up: &'a str,
    /// The stage that handed labels down to this level; none at the top.
    pub(crate) above: Option<&'a str>,
    /// This stage.
    pub(crate) stage: &'a str,
    pub(crate) labels: Labels<'a>,
    /// Of the intensities in the rows, where they carry some.
    pub(crate) kind: Option<Kind>,
    /// Bytes this task may hold.
    pub(crate) limit_bytes: u64,
}

/// Writes the labels of every child's open objects.
///
/// Children know their objects by the group's numbers, and labels are known by number too, closed ones from the ranking,
/// open ones from the parent. Above the limit the numbers go through buckets, to their labels and back.
pub(crate) async fn hand_down(group: &Group<'_>) -> Result<()> {
    let file = Reader::open(group.store, &layout::scratch(group.up, group.unit)).await?;
    let counts = Counts::read(&file, group.kind).await?;
    let pages: Vec<u64> = file.indices(Tag::ChildMap).collect();
    let places: u64 = pages.iter().map(|page| file.length(Tag::ChildMap, *page) / 8).sum();
    let numbers = counts.closed + counts.open;
    let prefix = layout::overflow(group.stage, group.unit);
    let home = Overflow::new(group.store, prefix, bytes_held(numbers, places), group.limit_bytes);
    let (by_number, by_place) = (Shares::new(numbers, home.count), Shares::new(places, home.count));

    let (mut asked, mut place) = (home.buckets("asked", 16), 0);
    for page in &pages {
        for number in decode_u64s(&file.require(Tag::ChildMap, *page).await?) {
            if number >= numbers {
                return Err(file.damaged("a child's object is not among the group's"));
            }
            asked.push(by_number.bucket(number), &two(number, place)).await?;
            place += 1;
        }
    }
    let mut answered = home.buckets("answered", 16);
    for bucket in 0..home.count {
        let numbers = by_number.range(bucket);
        let labels = labels_of(group, &file, counts, numbers.clone()).await?;
        for part in 0..asked.parts(bucket) {
            for record in asked.part(bucket, part).await?.chunks_exact(16) {
                let (number, place) = of_two(record);
                let label = labels[(number - numbers.start) as usize];
                answered.push(by_place.bucket(place), &two(place, label)).await?;
            }
        }
    }
    let mut out = Writer::create(group.store, &layout::scratch(group.stage, group.unit)).await?;
    let (mut bucket, mut labels, mut place) = (usize::MAX, Vec::new(), 0);
    for page in pages {
        let mut finals = Vec::new();
        for _ in 0..file.length(Tag::ChildMap, page) / 8 {
            let share = by_place.range(by_place.bucket(place));
            if by_place.bucket(place) != bucket {
                bucket = by_place.bucket(place);
                labels = vec![0; share.clone().count()];
                let put = |record: &[u8]| {
                    let (place, label) = of_two(record);
                    labels[(place - share.start) as usize] = label;
                };
                answered.for_each(bucket, put).await?;
            }
            finals.push(labels[(place - share.start) as usize]);
            place += 1;
        }
        out.section(Tag::Finals, page, &encode_u64s(&finals)).await?;
    }
    out.finish().await?;
    home.clear().await
}

/// What handing down holds at most when nothing is written out: the records asked and answered, in buffers that may have
/// grown to twice of them, and the labels by number and by place.
pub(crate) fn bytes_held(numbers: u64, places: u64) -> u64 {
    numbers * 8 + places * (2 * 16 + 2 * 16 + 8)
}

/// The final labels of some of a group's objects, by the group's own numbers: closed ones first, then open ones.
async fn labels_of(group: &Group<'_>, file: &Reader, counts: Counts, numbers: Range<u64>) -> Result<Vec<u64>> {
    let this = Contributor { level: group.level, unit: group.unit };
    let closed = numbers.start.min(counts.closed)..numbers.end.min(counts.closed);
    let open = numbers.start.max(counts.closed) - counts.closed..numbers.end.max(counts.closed) - counts.closed;
    let mut labels = group.labels.of_closed(this, file, closed).await?;
    match group.above {
        Some(above) => labels.extend(from_parent(group.store, group.tree, above, this, open).await?),
        None if open.is_empty() => {}
        None => return Err(file.damaged("the top of the tree has open objects")),
    }
    Ok(labels)
}

/// The final labels of some of the objects that a block or group left open, from its parent's file in stage `above`.
pub(crate) async fn from_parent(
    store: &Store,
    tree: Tree,
    above: &str,
    child: Contributor,
    open: Range<u64>,
) -> Result<Vec<u64>> {
    let mut labels = Vec::with_capacity(open.clone().count());
    if open.is_empty() {
        return Ok(labels);
    }
    let (parent, ordinal) = tree.parent(child.level, child.unit);
    let file = Reader::open(store, &layout::scratch(above, parent)).await?;
    let rows = PAGE_RECORDS as u64;
    for page in open.start / rows..open.end.div_ceil(rows) {
        let finals = decode_u64s(&file.require(Tag::Finals, child_page(ordinal, page)).await?);
        let first = page * rows;
        let wanted =
            finals.get((open.start.max(first) - first) as usize..(open.end.min(first + rows) - first) as usize);
        labels.extend_from_slice(
            wanted.ok_or_else(|| file.damaged("it has fewer labels than the child has open objects"))?,
        );
    }
    Ok(labels)
}
