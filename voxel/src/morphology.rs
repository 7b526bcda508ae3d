//! Binary morphology with a ball: erosion, dilation, opening, closing.
//!
//! A voxel is in the dilation when its distance to the nearest seed, a foreground voxel, is at most the radius; it is
//! lost in the erosion when the nearest background voxel is that near. Distances are exact squared integers, found one
//! axis after the other (Meijster, Roerdink and Hesselink 2000; Felzenszwalb and Huttenlocher 2012): `reach` does it.
//!
//! Left to others: boxes and crosses, thresholds before, labels after.

mod reach;

use crate::{AnyVolume, Dtype, Extent, Region, Volume, with_volume};
use serde::{Deserialize, Serialize};

/// The structuring element: all voxels with `dz² + dy² + dx² <= radius²`; a disc in a planar image.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ball {
    /// In voxels, not negative, at most [`Ball::RADIUS_MAX`]; 2.5 and the like are welcome.
    pub radius: f64,
}

/// What lies outside the image.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outside {
    /// It never decides: foreground to an erosion, background to a dilation. Closing removes nothing and opening adds
    /// nothing, at the faces too (scikit-image).
    Ignore,
    /// It is background, to an erosion too (scipy's `border_value=0`).
    Zero,
}

impl Ball {
    /// The largest radius, in voxels, whose distances fit the integers they are counted in.
    pub const RADIUS_MAX: f64 = 65_534.0;

    /// The largest squared distance inside the ball.
    fn radius_squared(self) -> u32 {
        let radius = self.radius.clamp(0.0, Self::RADIUS_MAX);
        // NaN becomes 0.
        (radius * radius) as u32
    }

    /// The radius in whole voxels.
    fn voxels(self) -> usize {
        self.radius_squared().isqrt() as usize
    }

    /// How far [`erode`] and [`dilate`] look along z, y, x, in voxels.
    pub fn halo(self, extent: Extent) -> [usize; 3] {
        std::array::from_fn(|axis| if extent.axes().contains(&axis) { self.voxels() } else { 0 })
    }

    /// How far [`open`] and [`close`] look along z, y, x, in voxels: once for each half.
    pub fn halo_twice(self, extent: Extent) -> [usize; 3] {
        self.halo(extent).map(|halo| 2 * halo)
    }

    /// The most bytes of voxels alive at once in [`erode`] or [`dilate`], input, output and temporaries counted.
    pub fn peak_bytes(self, dtype: Dtype, input: Region, out: Region, extent: Extent) -> usize {
        let needed = out.grown(self.halo(extent), extent.shape);
        reach::peak_bytes(self.radius_squared(), input.voxels() * dtype.size(), needed, out)
    }

    /// The most bytes of voxels alive at once in [`open`] or [`close`], input, output and temporaries counted.
    pub fn peak_bytes_twice(self, dtype: Dtype, input: Region, out: Region, extent: Extent) -> usize {
        let between = out.grown(self.halo(extent), extent.shape);
        self.peak_bytes(dtype, input, between, extent).max(self.peak_bytes(Dtype::Bool, between, out, extent))
    }
}

/// The voxels of `out` whose whole ball is foreground. `input` holds `out` grown by [`Ball::halo`] and clipped to
/// `extent`, or more; what is not zero is foreground. Gives bool.
pub fn erode(input: AnyVolume, out: Region, extent: Extent, ball: Ball, outside: Outside) -> AnyVolume {
    let mut eroded = reached(input, out, extent, ball, false);
    for near in &mut eroded.data {
        *near = !*near;
    }
    if outside == Outside::Zero {
        clear_faces(&mut eroded, extent, ball.voxels());
    }
    eroded.into()
}

/// The voxels of `out` whose ball holds a foreground voxel. `input` as for [`erode`]. Gives bool. What lies outside the
/// image is background either way.
pub fn dilate(input: AnyVolume, out: Region, extent: Extent, ball: Ball) -> AnyVolume {
    reached(input, out, extent, ball, true).into()
}

/// The union of all balls that fit the foreground: an erosion, then a dilation of the image that is left. `input` holds
/// `out` grown by [`Ball::halo_twice`] and clipped to `extent`, or more. Gives bool.
pub fn open(input: AnyVolume, out: Region, extent: Extent, ball: Ball, outside: Outside) -> AnyVolume {
    let between = out.grown(ball.halo(extent), extent.shape);
    dilate(erode(input, between, extent, ball, outside), out, extent, ball)
}

/// What no ball that fits the background can reach: a dilation, then an erosion of what that gave. `input` as for
/// [`open`]. Gives bool.
pub fn close(input: AnyVolume, out: Region, extent: Extent, ball: Ball, outside: Outside) -> AnyVolume {
    let between = out.grown(ball.halo(extent), extent.shape);
    erode(dilate(input, between, extent, ball), out, extent, ball, outside)
}

/// The voxels of `out` with a seed within the ball: foreground voxels of `input`, or background ones.
fn reached(input: AnyVolume, out: Region, extent: Extent, ball: Ball, foreground: bool) -> Volume<bool> {
    let needed = out.grown(ball.halo(extent), extent.shape);
    with_volume!(input, v => reach::reached(v, needed, out, ball.radius_squared(), foreground))
}

/// Clears what lies within `radius` voxels of an outside voxel. Of all outside voxels the nearest is straight across a
/// face, so that no distance has to be computed.
fn clear_faces(volume: &mut Volume<bool>, extent: Extent, radius: usize) {
    let region = volume.region;
    // A ball reaches out of the image from indices below `radius` and from `n - radius` on.
    let lost =
        |axis: usize, i: usize| extent.axes().contains(&axis) && (i < radius || i + radius >= extent.shape[axis]);
    for z in region.start[0]..region.end[0] {
        for y in region.start[1]..region.end[1] {
            let row = volume.row_mut(z, y);
            if lost(0, z) || lost(1, y) {
                row.fill(false);
                continue;
            }
            for (x, voxel) in (region.start[2]..).zip(row) {
                *voxel &= !lost(2, x);
            }
        }
    }
}

#[cfg(test)]
mod tests;
