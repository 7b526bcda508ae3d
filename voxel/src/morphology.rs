//! Binary morphology with a ball, a box or a cross: erosion, dilation, opening, closing.
//!
//! A voxel is in the dilation when a seed, a foreground voxel, is near enough to it; it is lost in the erosion when a
//! background voxel is. `near` says what is near enough. For small footprints `chords` finds out, on bits; for large
//! balls and crosses `reach` does, exactly and one axis after the other (Meijster, Roerdink and Hesselink 2000;
//! Felzenszwalb and Huttenlocher 2012); for large boxes it is the extreme of a window.
//!
//! Left to others: thresholds before, labels after.

mod chords;
mod near;
mod reach;

use std::marker::PhantomData;

use crate::window::{self, Rank};
use crate::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_volume};
use chords::Chords;
use near::Near;
use serde::{Deserialize, Serialize};

/// The largest radius, in voxels, whose distances fit the integers they are counted in.
pub const RADIUS_MAX: f64 = 65_534.0;

/// The structuring element. In a planar image it has no extension along z, whatever is given.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Footprint {
    /// All offsets with `sum (d / r)² <= 1` for radii in voxels along z, y, x, 2.5 and the like too, not negative and at
    /// most [`RADIUS_MAX`]; along an axis of radius 0 only `d = 0`. Where the radii are one r, that is
    /// `dz² + dy² + dx² <= r²`. The comparison is exact where the radii are multiples of 1/1024 and their products stay
    /// below 2^53; else it is that of f64.
    Ball([f64; 3]),
    /// All offsets with `|d| <= r` along each of z, y, x.
    Box([usize; 3]),
    /// All offsets with `|dz| + |dy| + |dx| <= r`.
    Cross(usize),
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

impl Footprint {
    /// How far [`erode`] and [`dilate`] look along z, y, x, in voxels.
    pub fn halo(self, extent: Extent) -> [usize; 3] {
        let radius = match self {
            Self::Ball(radii) => Near::ball(radii).radius,
            Self::Box(radii) => radii,
            Self::Cross(radius) => [radius; 3],
        };
        std::array::from_fn(|axis| if extent.axes().contains(&axis) { radius[axis] } else { 0 })
    }

    /// How far [`open`] and [`close`] look along z, y, x, in voxels: once for each half.
    pub fn halo_twice(self, extent: Extent) -> [usize; 3] {
        self.halo(extent).map(|halo| 2 * halo)
    }

    /// The most bytes of voxels alive at once in [`erode`] or [`dilate`], input, output and temporaries counted.
    pub fn peak_bytes(self, dtype: Dtype, input: Region, out: Region, extent: Extent) -> usize {
        let (read, halo) = (input.voxels() * dtype.size(), self.halo(extent));
        if let Some(chords) = self.chords(extent) {
            return chords.peak_bytes(read, out);
        }
        match self.near(extent) {
            Some(near) => reach::peak_bytes(&near, read, out.grown(halo, extent.shape), out),
            None => window::peak_bytes(read, out, extent, halo, size_of::<u8>(), Dtype::Bool.size()),
        }
    }

    /// The most bytes of voxels alive at once in [`open`] or [`close`], input, output and temporaries counted.
    pub fn peak_bytes_twice(self, dtype: Dtype, input: Region, out: Region, extent: Extent) -> usize {
        let between = out.grown(self.halo(extent), extent.shape);
        self.peak_bytes(dtype, input, between, extent).max(self.peak_bytes(Dtype::Bool, between, out, extent))
    }

    /// Whether it is small enough for erosions on bits, which are several times as fast; in images of three dimensions.
    pub fn is_small(self) -> bool {
        self.chords(Extent { shape: [1; 3], planar: false }).is_some()
    }

    /// The chords of a small footprint; `None` for one that is left to distances or windows.
    fn chords(self, extent: Extent) -> Option<Chords> {
        match self.near(extent) {
            Some(near) => Chords::of(&near),
            None => Chords::of_box(self.halo(extent)),
        }
    }

    /// What is near enough; `None` for boxes.
    fn near(self, extent: Extent) -> Option<Near> {
        let along = [0, 1, 2].map(|axis| extent.axes().contains(&axis));
        match self {
            Self::Ball(radii) => Some(Near::ball(std::array::from_fn(|a| if along[a] { radii[a] } else { 0.0 }))),
            Self::Box(_) => None,
            Self::Cross(radius) => Some(Near::cross(radius, along)),
        }
    }
}

/// The voxels of `out` whose whole footprint is foreground. `input` holds `out` grown by [`Footprint::halo`] and clipped
/// to `extent`, or more; what is not zero is foreground. Gives bool.
pub fn erode(input: AnyVolume, out: Region, extent: Extent, footprint: Footprint, outside: Outside) -> AnyVolume {
    if let Some(chords) = footprint.chords(extent) {
        let beyond = outside == Outside::Ignore;
        return with_volume!(input, v => chords::eroded(v, out, extent.shape, &chords, false, beyond).into());
    }
    eroded_by_distance(input, out, extent, footprint, outside)
}

/// [`erode`] for footprints of any size.
fn eroded_by_distance(
    input: AnyVolume,
    out: Region,
    extent: Extent,
    footprint: Footprint,
    outside: Outside,
) -> AnyVolume {
    let halo = footprint.halo(extent);
    let Some(near) = footprint.near(extent) else {
        let beyond = u8::from(outside == Outside::Ignore);
        return with_volume!(input, v => window::extremes::<All<_>>(v, out, extent, halo, beyond).into());
    };
    let mut eroded = reached(input, out, extent, halo, &near, false);
    for near in &mut eroded.data {
        *near = !*near;
    }
    if outside == Outside::Zero {
        clear_faces(&mut eroded, extent, halo);
    }
    eroded.into()
}

/// The voxels of `out` whose footprint holds a foreground voxel. `input` as for [`erode`]. Gives bool. What lies outside
/// the image is background either way.
pub fn dilate(input: AnyVolume, out: Region, extent: Extent, footprint: Footprint) -> AnyVolume {
    if let Some(chords) = footprint.chords(extent) {
        return with_volume!(input, v => chords::eroded(v, out, extent.shape, &chords, true, true).into());
    }
    dilated_by_distance(input, out, extent, footprint)
}

/// [`dilate`] for footprints of any size.
fn dilated_by_distance(input: AnyVolume, out: Region, extent: Extent, footprint: Footprint) -> AnyVolume {
    let halo = footprint.halo(extent);
    match footprint.near(extent) {
        Some(near) => reached(input, out, extent, halo, &near, true).into(),
        None => with_volume!(input, v => window::extremes::<Any<_>>(v, out, extent, halo, 0).into()),
    }
}

/// The union of all footprints that fit the foreground: an erosion, then a dilation of the image that is left. `input`
/// holds `out` grown by [`Footprint::halo_twice`] and clipped to `extent`, or more. Gives bool.
pub fn open(input: AnyVolume, out: Region, extent: Extent, footprint: Footprint, outside: Outside) -> AnyVolume {
    let between = out.grown(footprint.halo(extent), extent.shape);
    dilate(erode(input, between, extent, footprint, outside), out, extent, footprint)
}

/// What no footprint that fits the background can reach: a dilation, then an erosion of what that gave. `input` as for
/// [`open`]. Gives bool.
pub fn close(input: AnyVolume, out: Region, extent: Extent, footprint: Footprint, outside: Outside) -> AnyVolume {
    let between = out.grown(footprint.halo(extent), extent.shape);
    erode(dilate(input, between, extent, footprint), out, extent, footprint, outside)
}

/// The voxels of `out` with a seed near enough: foreground voxels of `input`, or background ones.
fn reached(
    input: AnyVolume,
    out: Region,
    extent: Extent,
    halo: [usize; 3],
    near: &Near,
    foreground: bool,
) -> Volume<bool> {
    let needed = out.grown(halo, extent.shape);
    with_volume!(input, v => reach::reached(v, needed, out, near, foreground))
}

/// Clears what has an outside voxel within `radius` along z, y, x. Of all outside voxels the nearest is straight across
/// a face, whatever the footprint, so that no distance has to be computed.
fn clear_faces(volume: &mut Volume<bool>, extent: Extent, radius: [usize; 3]) {
    let region = volume.region;
    // A footprint reaches out of the image from indices below the radius and from `n - radius` on.
    let lost = |axis: usize, i: usize| {
        extent.axes().contains(&axis) && (i < radius[axis] || i + radius[axis] >= extent.shape[axis])
    };
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

/// Whether a whole window is foreground.
struct All<T>(PhantomData<T>);

/// Whether any of a window is foreground.
struct Any<T>(PhantomData<T>);

macro_rules! rank {
    ($rank:ident, $neutral:expr, $pick:ident) => {
        impl<T: Element> Rank for $rank<T> {
            type From = T;
            type Key = u8;
            type To = bool;
            const NEUTRAL: u8 = $neutral;
            #[inline(always)]
            fn encode(voxel: T) -> u8 {
                u8::from(voxel.is_foreground())
            }
            #[inline(always)]
            fn decode(key: u8) -> bool {
                key != 0
            }
            #[inline(always)]
            fn pick(a: u8, b: u8) -> u8 {
                a.$pick(b)
            }
        }
    };
}
rank! { All, 1, min }
rank! { Any, 0, max }

#[cfg(test)]
mod tests;
