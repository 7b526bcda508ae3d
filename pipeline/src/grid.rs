//! Blocks and groups as arithmetic: unit number to coordinates to region, and the tree of bricks above the blocks.
//! Nothing here is ever a list, so a plan of a million blocks is as small as a plan of one.

use std::cmp::Ordering;
use std::ops::Range;

use serde::{Deserialize, Serialize};
use voxel::{Extent, Region};

/// A volume cut into equal boxes, the last along each axis clipped. Units are numbered in C order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grid {
    /// The volume that is cut.
    pub extent: Extent,
    /// Voxels of one box along z, y, x; at least 1.
    pub block: [usize; 3],
}

impl Grid {
    /// Boxes along each axis.
    pub fn counts(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.extent.shape[a].div_ceil(self.block[a]))
    }

    /// Boxes in all.
    pub fn units(&self) -> u64 {
        self.counts().iter().map(|n| *n as u64).product()
    }

    /// The voxels of box `unit`.
    pub fn region(&self, unit: u64) -> Region {
        let at = coordinates(unit, self.counts());
        Region {
            start: std::array::from_fn(|a| at[a] * self.block[a]),
            end: std::array::from_fn(|a| ((at[a] + 1) * self.block[a]).min(self.extent.shape[a])),
        }
    }

    /// The largest box, which all but the last along an axis have.
    pub fn largest(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.block[a].min(self.extent.shape[a]))
    }

    /// The tree of groups over these boxes.
    pub fn tree(&self, fanout: usize) -> Tree {
        Tree { blocks: self.counts(), fanout }
    }
}

/// C-order coordinates of `unit` in a grid of `counts`.
pub fn coordinates(unit: u64, counts: [usize; 3]) -> [usize; 3] {
    let unit = unit as usize;
    [unit / (counts[1] * counts[2]), unit / counts[2] % counts[1], unit % counts[2]]
}

/// C-order number of the unit at `at` in a grid of `counts`.
pub fn number(at: [usize; 3], counts: [usize; 3]) -> u64 {
    ((at[0] * counts[1] + at[1]) * counts[2] + at[2]) as u64
}

/// The first unit after `at`, in C order, of those in a box of units.
pub fn following(at: [usize; 3], within: &[Range<usize>; 3]) -> Option<[usize; 3]> {
    if within.iter().any(Range::is_empty) {
        return None;
    }
    // It has the coordinates of `at` as far as some axis, a larger one along that, and the least along the others.
    (0..3).rev().find_map(|axis| {
        let alike = (0..axis).all(|a| within[a].contains(&at[a]));
        let larger = within[axis].start.max(at[axis] + 1);
        (alike && larger < within[axis].end).then(|| {
            std::array::from_fn(|a| match a.cmp(&axis) {
                Ordering::Less => at[a],
                Ordering::Equal => larger,
                Ordering::Greater => within[a].start,
            })
        })
    })
}

/// A face of a box: bit `2 * axis` for the low side, `2 * axis + 1` for the high side.
pub fn face_bit(axis: usize, high: bool) -> u8 {
    1 << (2 * axis + usize::from(high))
}

/// The label merge's tree. Level 0 are the blocks; a group of level `l` is a brick of `fanout` groups (or blocks) of
/// level `l - 1` along each axis; the top level is one group.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Tree {
    /// Blocks along each axis.
    pub blocks: [usize; 3],
    /// Children of a group along each axis; at least 2.
    pub fanout: usize,
}

impl Tree {
    /// The top level: 0 when there is a single block.
    pub fn levels(&self) -> u32 {
        let mut level = 0;
        while self.counts(level) != [1, 1, 1] {
            level += 1;
        }
        level
    }

    /// Blocks along each edge of a full group of `level`.
    fn span(&self, level: u32) -> usize {
        self.fanout.saturating_pow(level)
    }

    /// Groups of `level` along each axis.
    pub fn counts(&self, level: u32) -> [usize; 3] {
        self.blocks.map(|n| n.div_ceil(self.span(level)))
    }

    /// Groups of `level` in all.
    pub fn units(&self, level: u32) -> u64 {
        self.counts(level).iter().map(|n| *n as u64).product()
    }

    /// The blocks of a group, as a box in block coordinates.
    pub fn blocks_of(&self, level: u32, unit: u64) -> Region {
        let (at, span) = (coordinates(unit, self.counts(level)), self.span(level));
        Region { start: at.map(|i| i * span), end: std::array::from_fn(|a| ((at[a] + 1) * span).min(self.blocks[a])) }
    }

    /// The unit numbers, at `level - 1`, of a group's children, in C order.
    pub fn children(&self, level: u32, unit: u64) -> Vec<u64> {
        let (at, below) = (coordinates(unit, self.counts(level)), self.counts(level - 1));
        let range = |a: usize| at[a] * self.fanout..((at[a] + 1) * self.fanout).min(below[a]);
        let mut children = Vec::new();
        for z in range(0) {
            for y in range(1) {
                children.extend(range(2).map(|x| number([z, y, x], below)));
            }
        }
        children
    }

    /// The group one level up that holds this one, and which of its children this one is.
    pub fn parent(&self, level: u32, unit: u64) -> (u64, usize) {
        let at = coordinates(unit, self.counts(level));
        let parent = number(at.map(|i| i / self.fanout), self.counts(level + 1));
        let ordinal = self.children(level + 1, parent).iter().position(|c| *c == unit);
        (parent, ordinal.expect("a group is among its parent's children"))
    }

    /// The lowest level at which two blocks lie in one group.
    pub fn meeting_level(&self, a: [usize; 3], b: [usize; 3]) -> u32 {
        let mut level = 0;
        while (0..3).any(|axis| a[axis] / self.span(level) != b[axis] / self.span(level)) {
            level += 1;
        }
        level
    }

    /// The blocks of a group that lie at a border between two of its children, in C order: only they can hold
    /// pairs that meet at this level.
    pub fn inner_border_blocks(&self, level: u32, unit: u64) -> Vec<u64> {
        let (brick, child) = (self.blocks_of(level, unit), self.span(level - 1));
        let at_border = |axis: usize, i: usize| {
            (i > brick.start[axis] && i.is_multiple_of(child))
                || (i + 1 < brick.end[axis] && (i + 1).is_multiple_of(child))
        };
        let mut blocks = Vec::new();
        for z in brick.start[0]..brick.end[0] {
            for y in brick.start[1]..brick.end[1] {
                let whole_row = at_border(0, z) || at_border(1, y);
                blocks.extend(
                    (brick.start[2]..brick.end[2])
                        .filter(|x| whole_row || at_border(2, *x))
                        .map(|x| number([z, y, x], self.blocks)),
                );
            }
        }
        blocks
    }

    /// The faces of block `at` through which an object may leave the group of `level` that holds the block: those on
    /// the group's own faces, but for the faces of the volume.
    pub fn open_faces(&self, level: u32, at: [usize; 3]) -> u8 {
        let span = self.span(level);
        let mut faces = 0;
        for axis in 0..3 {
            let i = at[axis];
            if i > 0 && i.is_multiple_of(span) {
                faces |= face_bit(axis, false);
            }
            if i + 1 < self.blocks[axis] && (i + 1).is_multiple_of(span) {
                faces |= face_bit(axis, true);
            }
        }
        faces
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TREE: Tree = Tree { blocks: [5, 3, 2], fanout: 2 };

    #[test]
    fn every_block_is_under_the_top_once() {
        assert_eq!(TREE.levels(), 3);
        fn leaves(level: u32, unit: u64) -> Vec<u64> {
            if level == 0 {
                return vec![unit];
            }
            TREE.children(level, unit).into_iter().flat_map(|c| leaves(level - 1, c)).collect()
        }
        let mut all = leaves(3, 0);
        all.sort_unstable();
        assert_eq!(all, (0..30).collect::<Vec<_>>());
        for level in 0..3 {
            for unit in 0..TREE.units(level) {
                let (parent, ordinal) = TREE.parent(level, unit);
                assert_eq!(TREE.children(level + 1, parent)[ordinal], unit);
            }
        }
    }

    #[test]
    fn pairs_meet_only_in_border_blocks_and_through_open_faces() {
        let blocks = TREE.units(0);
        for a in 0..blocks {
            for b in 0..blocks {
                let (p, q) = (coordinates(a, TREE.blocks), coordinates(b, TREE.blocks));
                if a == b || (0..3).any(|i| p[i].abs_diff(q[i]) > 1) {
                    continue;
                }
                let level = TREE.meeting_level(p, q);
                let group = number(p.map(|i| i / 2usize.pow(level)), TREE.counts(level));
                assert!(TREE.inner_border_blocks(level, group).contains(&a));
                for below in 0..level {
                    let toward = (0..3).filter(|i| p[*i] != q[*i]).map(|i| face_bit(i, q[i] > p[i]));
                    // A voxel at the shared corner touches all these faces; one of them must still be open.
                    assert!(toward.into_iter().any(|bit| TREE.open_faces(below, p) & bit != 0));
                }
            }
        }
    }

    #[test]
    fn the_following_unit_is_the_least_of_the_larger_ones() {
        let counts = [3, 4, 3];
        let ranges = |n: usize| (0..=n).flat_map(move |start| (start..=n).map(move |end| start..end));
        for z in ranges(counts[0]) {
            for y in ranges(counts[1]) {
                for x in ranges(counts[2]) {
                    let within = [z.clone(), y.clone(), x];
                    for unit in 0..counts.iter().product::<usize>() as u64 {
                        let inside = |unit: &u64| {
                            let at = coordinates(*unit, counts);
                            (0..3).all(|a| within[a].contains(&at[a]))
                        };
                        let expected = (unit + 1..36).find(inside).map(|unit| coordinates(unit, counts));
                        assert_eq!(following(coordinates(unit, counts), &within), expected, "{unit} {within:?}");
                    }
                }
            }
        }
    }

    #[test]
    fn regions_tile_the_volume() {
        let grid = Grid { extent: Extent { shape: [5, 7, 9], planar: false }, block: [2, 7, 4] };
        let voxels: usize = (0..grid.units()).map(|u| grid.region(u).voxels()).sum();
        assert_eq!((grid.counts(), voxels), ([3, 1, 3], 5 * 7 * 9));
    }
}
