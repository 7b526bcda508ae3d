//! Boxes of voxels: where a block lies, what it reads, what it writes.
//!
//! Everything inside voxmill is three-dimensional, in C order (z, y, x). A 2-D image is a volume with one z plane,
//! and [`Extent::planar`] remembers it, so that no step looks along an axis the image does not have.

use serde::{Deserialize, Serialize};

/// A half-open box of voxels, `start <= index < end` along z, y, x.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Region {
    /// First voxel, inclusive.
    pub start: [usize; 3],
    /// Last voxel, exclusive.
    pub end: [usize; 3],
}

impl Region {
    /// The box from the origin with the given shape.
    pub fn whole(shape: [usize; 3]) -> Self {
        Self { start: [0; 3], end: shape }
    }

    /// The box that starts at `start` and has `shape` voxels along each axis.
    pub fn new(start: [usize; 3], shape: [usize; 3]) -> Self {
        Self { start, end: std::array::from_fn(|a| start[a] + shape[a]) }
    }

    /// Voxels along each axis.
    pub fn shape(&self) -> [usize; 3] {
        std::array::from_fn(|a| self.end[a].saturating_sub(self.start[a]))
    }

    /// Number of voxels.
    pub fn voxels(&self) -> usize {
        self.shape().iter().product()
    }

    /// True when the box holds no voxel.
    pub fn is_empty(&self) -> bool {
        self.voxels() == 0
    }

    /// The box grown by `halo` voxels on both sides of each axis, clipped to a volume of shape `extent`.
    pub fn grown(&self, halo: [usize; 3], extent: [usize; 3]) -> Self {
        Self {
            start: std::array::from_fn(|a| self.start[a].saturating_sub(halo[a])),
            end: std::array::from_fn(|a| (self.end[a] + halo[a]).min(extent[a])),
        }
    }

    /// The common part of two boxes, or `None` when they share no voxel.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let both = Self {
            start: std::array::from_fn(|a| self.start[a].max(other.start[a])),
            end: std::array::from_fn(|a| self.end[a].min(other.end[a])),
        };
        (0..3).all(|a| both.start[a] < both.end[a]).then_some(both)
    }

    /// The smallest box that holds both.
    pub fn hull(&self, other: &Self) -> Self {
        Self {
            start: std::array::from_fn(|a| self.start[a].min(other.start[a])),
            end: std::array::from_fn(|a| self.end[a].max(other.end[a])),
        }
    }

    /// True when every voxel of `other` is in this box.
    pub fn contains(&self, other: &Self) -> bool {
        (0..3).all(|a| self.start[a] <= other.start[a] && other.end[a] <= self.end[a])
    }

    /// The box moved by `by` voxels (added to both corners).
    pub fn shifted(&self, by: [usize; 3]) -> Self {
        Self {
            start: std::array::from_fn(|a| self.start[a] + by[a]),
            end: std::array::from_fn(|a| self.end[a] + by[a]),
        }
    }
}

/// The image as a step sees it: its shape, and whether it has a z axis at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Extent {
    /// Shape z, y, x; z is 1 for a planar image.
    pub shape: [usize; 3],
    /// True for a 2-D image: nothing looks, counts faces or touches a border along z.
    pub planar: bool,
}

impl Extent {
    /// The whole image.
    pub fn region(&self) -> Region {
        Region::whole(self.shape)
    }

    /// The axes the image has: 0 (z), 1 (y), 2 (x); without 0 when planar.
    pub fn axes(&self) -> std::ops::Range<usize> {
        usize::from(self.planar)..3
    }

    /// C-order index of a voxel, the measure by which objects are numbered.
    pub fn linear(&self, at: [usize; 3]) -> u64 {
        ((at[0] * self.shape[1] + at[1]) * self.shape[2] + at[2]) as u64
    }

    /// The voxel with C-order index `linear`.
    pub fn at(&self, linear: u64) -> [usize; 3] {
        let linear = linear as usize;
        let plane = self.shape[1] * self.shape[2];
        [linear / plane, linear % plane / self.shape[2], linear % self.shape[2]]
    }
}
