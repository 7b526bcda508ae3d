//! The seams of a block: pairs of its open labels with those of the blocks beyond its high faces.
//!
//! A voxel pair belongs to the first axis, in z, y, x order, along which its blocks differ, so every pair, across faces,
//! edges and corners, is seen exactly once, by the block on the low side of that axis.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use voxel::label::Connectivity;
use voxel::seam::{Plane, facing_pairs};

use super::records::Pair;
use crate::grid::{Grid, coordinates, number};
use crate::scratch::{Reader, Tag, Writer};
use crate::store::Store;
use crate::{Result, layout};

/// The blocks to join, and where they left their faces.
pub(crate) struct Seams<'a> {
    pub(crate) store: &'a Store,
    pub(crate) grid: Grid,
    pub(crate) fanout: usize,
    pub(crate) connectivity: Connectivity,
    /// The stage that labelled the blocks.
    pub(crate) blocks: &'a str,
    /// This stage.
    pub(crate) stage: &'a str,
}

/// Writes the pairs of one block, a section for each level of the tree at which they meet.
pub(crate) async fn join(seams: &Seams<'_>, block: u64) -> Result<()> {
    let mut pairs: BTreeMap<u32, Vec<Pair>> = BTreeMap::new();
    let mut faces = Faces { seams, files: HashMap::new() };
    for axis in 0..3 {
        across(seams, &mut faces, block, axis, &mut pairs).await?;
    }
    let mut out = Writer::create(seams.store, &layout::scratch(seams.stage, block)).await?;
    for (level, mut pairs) in pairs {
        pairs.sort_unstable();
        pairs.dedup();
        let bytes: Vec<u8> = pairs.iter().flat_map(Pair::encode).collect();
        out.section(Tag::Pairs, u64::from(level), &bytes).await?;
    }
    out.finish().await?;
    Ok(())
}

/// The pairs over the block's high face along `axis`.
async fn across(
    seams: &Seams<'_>,
    faces: &mut Faces<'_>,
    block: u64,
    axis: usize,
    pairs: &mut BTreeMap<u32, Vec<Pair>>,
) -> Result<()> {
    let counts = seams.grid.counts();
    let at = coordinates(block, counts);
    if at[axis] + 1 == counts[axis] {
        return Ok(());
    }
    let tree = seams.grid.tree(seams.fanout);
    let low = faces.read(block, axis, true).await?;
    // In-plane axes (slow, fast). The rim reaches into other blocks only along later axes: along an earlier one the
    // blocks differ there first, and the pair is another seam's.
    let (slow, fast) = in_plane(axis);
    let reach = |in_plane: usize| if in_plane > axis { -1..=1isize } else { 0..=0 };
    let shape = low.shape;
    let mut high = Plane { shape: [shape[0] + 2, shape[1] + 2], data: vec![0u64; (shape[0] + 2) * (shape[1] + 2)] };
    let mut neighbours = Vec::new();
    for ds in reach(slow) {
        for df in reach(fast) {
            let mut beyond = at;
            beyond[axis] += 1;
            let (Some(s), Some(f)) = (at[slow].checked_add_signed(ds), at[fast].checked_add_signed(df)) else {
                continue;
            };
            (beyond[slow], beyond[fast]) = (s, f);
            if s >= counts[slow] || f >= counts[fast] {
                continue;
            }
            let ordinal = neighbours.len() as u64;
            neighbours.push((number(beyond, counts), tree.meeting_level(at, beyond)));
            let plane = faces.read(number(beyond, counts), axis, false).await?;
            paste(&mut high, &plane, shape, [ds, df], ordinal);
        }
    }
    for (label, code) in facing_pairs(&low, &high, seams.connectivity) {
        let (other, level) = neighbours[(code >> 32) as usize];
        let pair = Pair { a: (block, label - 1), b: (other, (code & u64::from(u32::MAX)) as u32 - 1) };
        pairs.entry(level).or_default().push(pair);
    }
    Ok(())
}

/// The other two axes, in C order.
fn in_plane(axis: usize) -> (usize, usize) {
    [(1, 2), (0, 2), (0, 1)][axis]
}

/// The faces of blocks; a block that is asked for again is not opened again.
struct Faces<'a> {
    seams: &'a Seams<'a>,
    files: HashMap<u64, Reader>,
}

impl Faces<'_> {
    async fn read(&mut self, block: u64, axis: usize, high: bool) -> Result<Plane<u32>> {
        let file = match self.files.entry(block) {
            Entry::Occupied(open) => open.into_mut(),
            Entry::Vacant(place) => {
                place.insert(Reader::open(self.seams.store, &layout::scratch(self.seams.blocks, block)).await?)
            }
        };
        let bytes = file.require(Tag::Plane, (2 * axis + usize::from(high)) as u64).await?;
        let shape = self.seams.grid.region(block).shape();
        let (slow, fast) = in_plane(axis);
        Plane::decode([shape[slow], shape[fast]], &bytes).ok_or_else(|| file.damaged("a face can't be decoded"))
    }
}

/// Puts the part of a neighbour's face that the low face can see into the rimmed plane, as ordinal and label.
fn paste(high: &mut Plane<u64>, plane: &Plane<u32>, low: [usize; 2], step: [isize; 2], ordinal: u64) {
    // For each in-plane axis: the range to read, and where it starts in the rimmed plane.
    let span = |axis: usize| match step[axis] {
        -1 => (plane.shape[axis] - 1..plane.shape[axis], 0),
        0 => (0..plane.shape[axis], 1),
        _ => (0..1, low[axis] + 1),
    };
    let ((slow, slow_to), (fast, fast_to)) = (span(0), span(1));
    for (i, s) in slow.enumerate() {
        for (j, f) in fast.clone().enumerate() {
            let label = plane.data[s * plane.shape[1] + f];
            if label != 0 {
                high.data[(slow_to + i) * high.shape[1] + fast_to + j] = ordinal << 32 | u64::from(label);
            }
        }
    }
}
