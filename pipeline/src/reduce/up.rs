//! The way up: a group joins its children's open objects over the borders between them.
//!
//! A child is a block or a group of the level below; both leave the same sections (closed rows, open rows, aliases). A
//! group reads only the open rows of its children and the pairs that meet at its level. Objects that no longer reach
//! one of the group's own faces (but for the volume's) are closed: their rows are complete, are written by first voxel
//! and leave the problem. Memory is open rows plus pairs; above the limit the same steps go through buckets.

use std::collections::{BTreeMap, HashMap};

use voxel::Merge;
use voxel::exact_sum::Kind;
use voxel::table::ObjectRow;

use super::components::{Roots, Shares};
use super::records::{Alias, Pair, of_two, two, u64_be};
use super::{Contribution, Contributor, Counts};
use crate::buckets::{Buckets, Overflow};
use crate::grid::{Tree, coordinates};
use crate::plan::memory::READ_BYTES;
use crate::plan::{Rows, TableId};
use crate::rows::{PAGE_ROWS, PageWriter, decode_page, write_closed_keys};
use crate::scratch::{Reader, Tag, Writer, encode_u64s};
use crate::store::Store;
use crate::{Result, layout};

/// Records in a page of aliases or of a child map.
pub(crate) const PAGE_RECORDS: usize = 1 << 14;

/// Pages of open rows that a join reads with one request.
pub(crate) fn pages_at_once(kind: Option<Kind>) -> usize {
    (READ_BYTES as usize / (PAGE_ROWS * ObjectRow::bytes(kind))).max(1)
}

/// A group to join, and where its parts are.
pub(crate) struct Group<'a> {
    pub(crate) store: &'a Store,
    pub(crate) tree: Tree,
    pub(crate) level: u32,
    pub(crate) unit: u64,
    /// The step whose labels are merged.
    pub(crate) step: usize,
    /// Where the children are.
    pub(crate) below: &'a str,
    /// The stage that made the pairs.
    pub(crate) seam: &'a str,
    /// This stage.
    pub(crate) stage: &'a str,
    pub(crate) kind: Option<Kind>,
    /// Bytes this task may hold.
    pub(crate) limit_bytes: u64,
}

/// A child's file and the number of its first open object among all children's.
struct Child {
    file: Reader,
    counts: Counts,
    first: u64,
}

/// Joins the children of a group, and says which closed rows it wrote.
pub(crate) async fn join(group: &Group<'_>) -> Result<Contribution> {
    let Group { store, tree, level, unit, .. } = *group;
    let (mut children, mut nodes) = (Vec::new(), 0);
    for child in tree.children(level, unit) {
        let file = Reader::open(store, &layout::scratch(group.below, child)).await?;
        let counts = Counts::read(&file, group.kind).await?;
        children.push(Child { file, counts, first: nodes });
        nodes += counts.open;
    }
    let borders = tree.inner_border_blocks(level, unit);
    let mut pairs = 0;
    for block in &borders {
        let seam = Reader::open(store, &layout::scratch(group.seam, *block)).await?;
        pairs += seam.length(Tag::Pairs, u64::from(level)) / Pair::BYTES as u64;
    }
    let aliases: u64 = children.iter().map(|c| c.counts.aliases).sum();
    let prefix = layout::overflow(group.stage, unit);
    let home = Overflow::new(store, prefix, bytes_held(nodes, aliases, pairs, group.kind), group.limit_bytes);
    let shares = Shares::new(nodes, home.count);

    let edges = resolve_pairs(group, &home, &children, &borders).await?;
    let roots = Roots::find(&home, shares, edges).await?;
    let parts = gather(group, &home, shares, &children, &roots).await?;
    let contribution = write(group, &home, shares, &children, parts).await?;
    home.clear().await?;
    Ok(contribution)
}

/// What joining so much holds at most when nothing is written out: each row as bytes on its way in (in a buffer that may
/// have grown to twice of it) and out, once merged, and the small records of each step.
fn bytes_held(nodes: u64, aliases: u64, pairs: u64, kind: Option<Kind>) -> u64 {
    let row = (4 * ObjectRow::bytes(kind) + ObjectRow::memory_bytes(kind) + 200) as u64;
    nodes * row + aliases * 200 + pairs * 120
}

/// Turns pairs of (block, label) into edges between the children's open objects.
async fn resolve_pairs<'a>(
    group: &Group<'_>,
    home: &'a Overflow,
    children: &[Child],
    borders: &[u64],
) -> Result<Buckets<'a>> {
    let bucket_of = |(block, label): (u64, u32)| spread(block ^ (u64::from(label) << 32), home.count);
    let mut aliases = home.buckets("aliases", Alias::BYTES);
    for child in children {
        for page in child.file.indices(Tag::Aliases) {
            for record in child.file.require(Tag::Aliases, page).await?.chunks_exact(Alias::BYTES) {
                let alias = Alias::decode(record);
                if alias.open >= child.counts.open {
                    return Err(child.file.damaged("an alias is of no open object"));
                }
                let alias = Alias { open: child.first + alias.open, ..alias };
                aliases.push(bucket_of((alias.block, alias.label)), &alias.encode()).await?;
            }
        }
    }
    let mut by_a = home.buckets("pairs", Pair::BYTES);
    for block in borders {
        let seam = Reader::open(group.store, &layout::scratch(group.seam, *block)).await?;
        if let Some(bytes) = seam.get(Tag::Pairs, u64::from(group.level)).await? {
            for record in bytes.chunks_exact(Pair::BYTES) {
                by_a.push(bucket_of(Pair::decode(record).a), record).await?;
            }
        }
    }
    // One end at a time, since its alias may be in any bucket.
    let mut by_b = home.buckets("half-resolved", 8 + 12);
    for bucket in 0..home.count {
        let nodes = alias_map(&aliases, bucket).await?;
        for part in 0..by_a.parts(bucket) {
            for record in by_a.part(bucket, part).await?.chunks_exact(Pair::BYTES) {
                let pair = Pair::decode(record);
                let mut half = [0; 20];
                half[..8].copy_from_slice(&node_of(&nodes, pair.a, children)?.to_be_bytes());
                half[8..].copy_from_slice(&record[12..]);
                by_b.push(bucket_of(pair.b), &half).await?;
            }
        }
    }
    let mut edges = home.buckets("resolved", 16);
    for bucket in 0..home.count {
        let nodes = alias_map(&aliases, bucket).await?;
        for part in 0..by_b.parts(bucket) {
            for record in by_b.part(bucket, part).await?.chunks_exact(20) {
                let b = (u64_be(record, 8), u32::from_be_bytes(std::array::from_fn(|i| record[16 + i])));
                edges.push(bucket, &two(u64_be(record, 0), node_of(&nodes, b, children)?)).await?;
            }
        }
    }
    Ok(edges)
}

/// Spreads keys over buckets (Fibonacci hashing).
fn spread(key: u64, buckets: usize) -> usize {
    ((u128::from(key.wrapping_mul(0x9e37_79b9_7f4a_7c15)) * buckets as u128) >> 64) as usize
}

async fn alias_map(aliases: &Buckets<'_>, bucket: usize) -> Result<HashMap<(u64, u32), u64>> {
    let mut map = HashMap::with_capacity(aliases.len(bucket) as usize);
    aliases
        .for_each(bucket, |record| {
            let alias = Alias::decode(record);
            map.insert((alias.block, alias.label), alias.open);
        })
        .await?;
    Ok(map)
}

fn node_of(nodes: &HashMap<(u64, u32), u64>, label: (u64, u32), children: &[Child]) -> Result<u64> {
    let unknown = || children[0].file.damaged(&format!("no child knows label {} of block {}", label.1, label.0));
    nodes.get(&label).copied().ok_or_else(unknown)
}

/// What belongs together, in the bucket of its root.
struct Parts<'a> {
    /// (root, row).
    rows: Buckets<'a>,
    /// (root, alias) of the labels that still reach one of the group's faces.
    aliases: Buckets<'a>,
    /// (root, node).
    nodes: Buckets<'a>,
}

async fn gather<'a>(
    group: &Group<'_>,
    home: &'a Overflow,
    shares: Shares,
    children: &[Child],
    roots: &Roots<'_>,
) -> Result<Parts<'a>> {
    let row_bytes = ObjectRow::bytes(group.kind);
    let mut parts = Parts {
        rows: home.buckets("rows", 8 + row_bytes),
        aliases: home.buckets("rooted-aliases", 8 + Alias::BYTES),
        nodes: home.buckets("rooted-nodes", 16),
    };
    // The children's open rows come in the order of their nodes, so the roots of one bucket at a time are enough.
    let (mut bucket, mut bucket_roots) = (usize::MAX, Vec::new());
    let mut record = vec![0; 8 + row_bytes];
    for child in children {
        let mut node = child.first;
        let pages: Vec<u64> = child.file.indices(Tag::Open).collect();
        for pages in pages.chunks(pages_at_once(group.kind)) {
            let pages = child.file.require_all(Tag::Open, pages.iter().copied()).await?;
            for row in pages.iter().flat_map(|page| page.chunks_exact(row_bytes)) {
                if shares.bucket(node) != bucket {
                    bucket = shares.bucket(node);
                    bucket_roots = roots.of_bucket(bucket).await?;
                }
                let root = bucket_roots[(node - shares.range(bucket).start) as usize];
                record[..8].copy_from_slice(&root.to_be_bytes());
                record[8..].copy_from_slice(row);
                parts.rows.push(shares.bucket(root), &record).await?;
                parts.nodes.push(shares.bucket(root), &two(root, node)).await?;
                node += 1;
            }
        }
    }
    let mut by_node = home.buckets("leaving-aliases", Alias::BYTES);
    for child in children {
        for page in child.file.indices(Tag::Aliases) {
            for bytes in child.file.require(Tag::Aliases, page).await?.chunks_exact(Alias::BYTES) {
                let alias = Alias::decode(bytes);
                let faces = group.tree.open_faces(group.level, coordinates(alias.block, group.tree.blocks));
                if alias.faces & faces != 0 {
                    let alias = Alias { open: child.first + alias.open, ..alias };
                    by_node.push(shares.bucket(alias.open), &alias.encode()).await?;
                }
            }
        }
    }
    let mut record = [0; 8 + Alias::BYTES];
    for bucket in 0..home.count {
        let (start, roots) = (shares.range(bucket).start, roots.of_bucket(bucket).await?);
        for part in 0..by_node.parts(bucket) {
            for bytes in by_node.part(bucket, part).await?.chunks_exact(Alias::BYTES) {
                let root = roots[(Alias::decode(bytes).open - start) as usize];
                record[..8].copy_from_slice(&root.to_be_bytes());
                record[8..].copy_from_slice(bytes);
                parts.aliases.push(shares.bucket(root), &record).await?;
            }
        }
    }
    Ok(parts)
}

/// Merges what belongs together, numbers the objects (closed ones first, each kind by first voxel), and writes the
/// group's file.
async fn write(
    group: &Group<'_>,
    home: &Overflow,
    shares: Shares,
    children: &[Child],
    parts: Parts<'_>,
) -> Result<Contribution> {
    let row_bytes = ObjectRow::bytes(group.kind);
    let key = layout::scratch(group.stage, group.unit);
    let mut out = Writer::create(group.store, &key).await?;

    // Sorted by (open, first voxel) within each bucket, then over all buckets.
    let mut objects = home.buckets("objects", 1 + 8 + 8 + row_bytes);
    for bucket in 0..home.count {
        for record in merged_objects(group, &parts, bucket, &children[0].file).await? {
            objects.push(bucket, &record).await?;
        }
    }
    let mut numbers = home.buckets("numbers", 16);
    let (mut closed, mut open) = (PageWriter::new(Tag::Closed, group.kind), PageWriter::new(Tag::Open, group.kind));
    let (mut own, mut closed_rows) = (0, 0);
    let mut sorted = objects.merge().await?;
    while let Some(record) = sorted.next().await? {
        let root = u64_be(&record, 9);
        let row: ObjectRow = decode_page(&record[17..], group.kind, &children[0].file)?.remove(0);
        if record[0] == 0 {
            closed.push(&row, &mut out).await?;
            closed_rows += 1;
        } else {
            // Before the first open page, so that all closed ones lie side by side.
            closed.flush(&mut out).await?;
            open.push(&row, &mut out).await?;
        }
        numbers.push(shares.bucket(root), &two(root, own)).await?;
        own += 1;
    }
    let closed = closed.finish(&mut out).await?;
    let open = open.finish(&mut out).await?;
    write_closed_keys(&closed, &mut out).await?;

    let mut aliases = home.buckets("sorted-aliases", Alias::BYTES);
    let mut node_numbers = home.buckets("node-numbers", 16);
    for bucket in 0..home.count {
        let mut own_of = HashMap::with_capacity(numbers.len(bucket) as usize);
        numbers.for_each(bucket, |r| own_of.extend([of_two(r)])).await?;
        let mut here = Vec::with_capacity(parts.aliases.len(bucket) as usize);
        parts
            .aliases
            .for_each(bucket, |r| {
                let alias = Alias::decode(&r[8..]);
                here.push(Alias { open: own_of[&u64_be(r, 0)] - closed_rows, ..alias });
            })
            .await?;
        here.sort_unstable();
        for alias in here {
            aliases.push(bucket, &alias.encode()).await?;
        }
        for part in 0..parts.nodes.parts(bucket) {
            for record in parts.nodes.part(bucket, part).await?.chunks_exact(16) {
                let (root, node) = of_two(record);
                node_numbers.push(shares.bucket(node), &two(node, own_of[&root])).await?;
            }
        }
    }
    let alias_count = write_aliases(&aliases, &mut out).await?;
    write_child_maps(shares, children, &node_numbers, &mut out).await?;
    Counts { closed: closed.rows, open: open.rows, aliases: alias_count }.write(&mut out).await?;
    out.finish().await?;
    let to = TableId { step: group.step, of: Rows::Objects };
    Ok(Contribution::of(to, Contributor { level: group.level, unit: group.unit }, closed))
}

/// The objects of one bucket of roots, sorted: open flag, key, root, row.
async fn merged_objects(group: &Group<'_>, parts: &Parts<'_>, bucket: usize, file: &Reader) -> Result<Vec<Vec<u8>>> {
    let mut rows: BTreeMap<u64, (bool, ObjectRow)> = BTreeMap::new();
    for part in 0..parts.rows.parts(bucket) {
        let bytes = parts.rows.part(bucket, part).await?;
        for record in bytes.chunks_exact(8 + ObjectRow::bytes(group.kind)) {
            let row: ObjectRow = decode_page(&record[8..], group.kind, file)?.remove(0);
            match rows.entry(u64_be(record, 0)) {
                std::collections::btree_map::Entry::Vacant(slot) => drop(slot.insert((false, row))),
                std::collections::btree_map::Entry::Occupied(mut slot) => slot.get_mut().1.merge(row),
            }
        }
    }
    let mark_open = |record: &[u8]| {
        if let Some(object) = rows.get_mut(&u64_be(record, 0)) {
            object.0 = true;
        }
    };
    parts.aliases.for_each(bucket, mark_open).await?;
    let encode = |(root, (open, row)): (u64, (bool, ObjectRow))| {
        let mut record = vec![u8::from(open)];
        record.extend_from_slice(&row.key.to_be_bytes());
        record.extend_from_slice(&root.to_be_bytes());
        row.encode(group.kind, &mut record);
        record
    };
    let mut objects: Vec<Vec<u8>> = rows.into_iter().map(encode).collect();
    objects.sort_unstable();
    Ok(objects)
}

async fn write_aliases(aliases: &Buckets<'_>, out: &mut Writer) -> Result<u64> {
    let (mut sorted, mut page, mut count, mut pages) = (aliases.merge().await?, Vec::new(), 0, 0);
    while let Some(record) = sorted.next().await? {
        page.extend_from_slice(&record);
        count += 1;
        if page.len() >= PAGE_RECORDS * Alias::BYTES {
            out.section(Tag::Aliases, pages, &page).await?;
            pages += 1;
            page.clear();
        }
    }
    if !page.is_empty() {
        out.section(Tag::Aliases, pages, &page).await?;
    }
    Ok(count)
}

/// The index of a page of a child's map or final labels.
pub(crate) fn child_page(child: usize, page: u64) -> u64 {
    (child as u64) << 32 | page
}

async fn write_child_maps(shares: Shares, children: &[Child], numbers: &Buckets<'_>, out: &mut Writer) -> Result<()> {
    let (mut bucket, mut own): (usize, Vec<u64>) = (usize::MAX, Vec::new());
    for (ordinal, child) in children.iter().enumerate() {
        let nodes = child.first..child.first + child.counts.open;
        let mut page = Vec::with_capacity(PAGE_RECORDS.min(child.counts.open as usize));
        for node in nodes.clone() {
            if shares.bucket(node) != bucket {
                bucket = shares.bucket(node);
                let start = shares.range(bucket).start;
                own = vec![0; shares.range(bucket).count()];
                numbers.for_each(bucket, |r| own[(u64_be(r, 0) - start) as usize] = u64_be(r, 8)).await?;
            }
            page.push(own[(node - shares.range(bucket).start) as usize]);
            let done = node + 1 - nodes.start;
            if page.len() == PAGE_RECORDS || node + 1 == nodes.end {
                let number = (done - 1) / PAGE_RECORDS as u64;
                out.section(Tag::ChildMap, child_page(ordinal, number), &encode_u64s(&page)).await?;
                page.clear();
            }
        }
    }
    Ok(())
}
