//! Where an image lies: its axes as stored, and the size and position of its voxels along each, carried from what is
//! read to what is written.
//!
//! A voxel's position is that of its centre. Time and channel axes, of which one index is read, stay in the list, so
//! that an output can put them back with length one.

use serde::{Deserialize, Serialize};
use voxel::pyramid::Reduce;

use super::Array;
use super::axes::{Axes, Axis, Kind};
use super::ome::LevelEntry;

/// One axis of an array as stored.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StoredAxis {
    /// Its name: `z`.
    pub name: String,
    /// What it counts.
    pub kind: Kind,
    /// The unit's full name (`micrometer`), where known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// Distance between neighbours, in the unit.
    pub scale: f64,
    /// Position of the centre of the first voxel, in the unit.
    pub translation: f64,
}

/// The axes of an image as its outputs have them: time and channel, where the input has them, with length one, then the
/// two or three axes of space.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Geometry {
    axes: Vec<StoredAxis>,
}

impl Geometry {
    /// That of an image with these axes, put into the order of OME-Zarr: time, channel, space. Two or three are of space.
    pub fn new(mut axes: Vec<StoredAxis>) -> Self {
        axes.sort_by_key(|axis| axis.kind);
        Self { axes }
    }

    /// That of an open array, at the channel and time that are read of it.
    pub fn of(array: &Array) -> Self {
        array.geometry().clone()
    }

    /// That of an image of which nothing is known: axes z, y, x, or y, x when planar; voxels of size 1 without a unit.
    pub fn unknown(planar: bool) -> Self {
        Self::spaced(planar, [1.0; 3], [0.0; 3], [const { None }; 3])
    }

    /// That of an image with axes z, y, x, or y, x when planar, from numbers along z, y, x.
    pub fn spaced(planar: bool, scale: [f64; 3], translation: [f64; 3], units: [Option<String>; 3]) -> Self {
        let axes = ["z", "y", "x"].into_iter().zip(units).enumerate().map(|(a, (name, unit))| StoredAxis {
            name: name.to_owned(),
            kind: Kind::Space,
            unit,
            scale: scale[a],
            translation: translation[a],
        });
        Self { axes: axes.skip(usize::from(planar)).collect() }
    }

    /// That of an array with these stored axes, of which `picked` are the image's; `level` is what the group around it
    /// says of its place. Axes are put into the order that OME-Zarr wants, time, channel, space; names that are there
    /// twice give way to the usual ones.
    pub(super) fn read(stored: &[Axis], picked: &Axes, level: Option<&LevelEntry>) -> Self {
        let number = |values: Option<&Vec<f64>>, a: usize, unknown: f64| {
            values.and_then(|values| values.get(a)).copied().filter(|v| v.is_finite()).unwrap_or(unknown)
        };
        let spatial = picked.spatial.iter().flatten().map(|a| (*a, 0));
        let mut taken: Vec<(usize, u64)> = picked.fixed.iter().copied().chain(spatial).collect();
        // Stable: axes of space stay in stored order.
        taken.sort_by_key(|(a, _)| stored.get(*a).map(|axis| axis.kind));
        let mut axes: Vec<StoredAxis> = taken
            .into_iter()
            .filter_map(|(a, at)| {
                let Axis { name, kind, unit } = stored.get(a)?.clone();
                let scale = number(level.map(|level| &level.scale), a, 1.0);
                let origin = number(level.map(|level| &level.translation), a, 0.0);
                // The one time point that is read has a time. A channel has a number, and no place.
                let translation = if kind == Kind::Time { origin + at as f64 * scale } else { origin };
                Some(StoredAxis { name, kind, unit, scale, translation })
            })
            .collect();
        let twice = (1..axes.len()).any(|i| axes[..i].iter().any(|axis| axis.name == axes[i].name));
        if twice {
            let space = axes.iter().filter(|axis| axis.kind == Kind::Space).count();
            let mut names = ["z", "y", "x"].into_iter().skip(3 - space.min(3));
            for axis in &mut axes {
                let usual = match axis.kind {
                    Kind::Time => Some("t"),
                    Kind::Channel => Some("c"),
                    Kind::Space => names.next(),
                };
                usual.unwrap_or_default().clone_into(&mut axis.name);
            }
        }
        Self { axes }
    }

    /// The axes as they are stored.
    pub fn axes(&self) -> &[StoredAxis] {
        &self.axes
    }

    /// Their names: what [`super::ArraySpec::dimension_names`] takes.
    pub fn names(&self) -> Vec<String> {
        self.axes.iter().map(|axis| axis.name.clone()).collect()
    }

    /// Size of a voxel along z, y, x; 1 along an axis that is not there.
    pub fn scale(&self) -> [f64; 3] {
        self.along_space(|axis| axis.map_or(1.0, |axis| axis.scale))
    }

    /// Position of the centre of the first voxel along z, y, x; 0 along an axis that is not there.
    pub fn translation(&self) -> [f64; 3] {
        self.along_space(|axis| axis.map_or(0.0, |axis| axis.translation))
    }

    /// Unit of z, y, x.
    pub fn units(&self) -> [Option<String>; 3] {
        self.along_space(|axis| axis.and_then(|axis| axis.unit.clone()))
    }

    /// Sizes of a voxel along z, y, x that can be compared with each other: the scale where all axes have the same unit,
    /// or all have none; else 1.
    pub fn sizes(&self) -> [f64; 3] {
        let mut units = self.axes.iter().filter(|axis| axis.kind == Kind::Space).map(|axis| &axis.unit);
        let first = units.next();
        if units.all(|unit| Some(unit) == first) { self.scale() } else { [1.0; 3] }
    }

    /// That of the part of the image that begins at voxel `start`, along z, y, x.
    pub fn cropped(&self, start: [usize; 3]) -> Self {
        self.moved(|axis, a| axis.translation += axis.scale * start[a] as f64)
    }

    /// That of the image made of it by taking `factors` voxels along z, y, x together. A mean lies in the middle of
    /// what it covers, a voxel that was picked where it was.
    pub fn level(&self, factors: [usize; 3], by: Reduce) -> Self {
        self.moved(|axis, a| {
            if by == Reduce::Mean {
                axis.translation += axis.scale * (factors[a] as f64 - 1.0) / 2.0;
            }
            axis.scale *= factors[a] as f64;
        })
    }

    /// The same with something done to each axis of space, which is told whether it is z, y or x by number.
    fn moved(&self, change: impl Fn(&mut StoredAxis, usize)) -> Self {
        let mut moved = self.clone();
        let space = moved.axes.iter_mut().filter(|axis| axis.kind == Kind::Space);
        // From the end, since a planar image has no z.
        space.rev().zip((0..3).rev()).for_each(|(axis, a)| change(axis, a));
        moved
    }

    fn along_space<T>(&self, of: impl Fn(Option<&StoredAxis>) -> T) -> [T; 3] {
        let space: Vec<&StoredAxis> = self.axes.iter().filter(|axis| axis.kind == Kind::Space).collect();
        let missing = 3 - space.len().min(3);
        std::array::from_fn(|a| of(a.checked_sub(missing).and_then(|i| space.get(i)).copied()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn micrometers(scale: [f64; 3]) -> Geometry {
        Geometry::spaced(
            false,
            scale,
            [10.0, 0.0, -1.0],
            [const { None }; 3].map(|_: Option<String>| Some("micrometer".to_owned())),
        )
    }

    #[test]
    fn a_crop_and_a_level_lie_where_their_first_voxel_has_its_centre() {
        let image = micrometers([4.0, 0.5, 0.25]);
        let crop = image.cropped([3, 2, 8]);
        assert_eq!((crop.scale(), crop.translation()), ([4.0, 0.5, 0.25], [22.0, 1.0, 1.0]));
        let mean = image.level([1, 2, 4], Reduce::Mean);
        assert_eq!((mean.scale(), mean.translation()), ([4.0, 1.0, 1.0], [10.0, 0.25, -0.625]));
        // Two steps of two are one of four.
        assert_eq!(image.level([1, 2, 2], Reduce::Mean).level([1, 1, 2], Reduce::Mean), mean);
        let stride = image.level([1, 2, 4], Reduce::Stride);
        assert_eq!((stride.scale(), stride.translation()), (mean.scale(), image.translation()));
        let planar = Geometry::spaced(true, [9.0, 2.0, 3.0], [9.0, 0.0, 0.0], [const { None }; 3]).cropped([0, 1, 2]);
        assert_eq!((planar.scale(), planar.translation()), ([1.0, 2.0, 3.0], [0.0, 2.0, 6.0]));
        assert_eq!(planar.names(), ["y", "x"]);
    }

    #[test]
    fn sizes_of_different_units_are_not_compared() {
        let mut image = micrometers([4.0, 0.5, 0.25]);
        assert_eq!(image.sizes(), [4.0, 0.5, 0.25]);
        image.axes[0].unit = Some("nanometer".to_owned());
        assert_eq!(image.sizes(), [1.0; 3]);
        assert_eq!(Geometry::unknown(true).sizes(), [1.0; 3]);
    }

    #[test]
    fn axes_are_put_into_the_order_of_ome_zarr() {
        let axis = |name: &str, kind| Axis { name: name.to_owned(), kind, unit: None };
        let stored =
            [axis("x", Kind::Space), axis("c", Kind::Channel), axis("x", Kind::Space), axis("when", Kind::Time)];
        let picked = Axes {
            spatial: [None, Some(0), Some(2)],
            fixed: vec![(1, 2), (3, 5)],
            names: Vec::new(),
            extent: voxel::Extent { shape: [1, 8, 8], planar: true },
        };
        let entry = LevelEntry {
            path: "0".to_owned(),
            scale: vec![2.0, 1.0, 3.0, 0.5],
            translation: vec![1.0, 0.0, 2.0, 100.0],
        };
        let read = Geometry::read(&stored, &picked, Some(&entry));
        assert_eq!(read.names(), ["t", "c", "y", "x"], "of two axes x one would be lost");
        let places: Vec<f64> = read.axes().iter().map(|axis| axis.translation).collect();
        assert_eq!(places, [102.5, 0.0, 1.0, 2.0]);
        assert_eq!(read.scale(), [1.0, 2.0, 3.0]);
    }
}
