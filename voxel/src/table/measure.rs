//! From the runs of a block to one row per object.

use super::by_row::{self, Totals};
use super::{Intensity, ObjectRow};
use crate::exact_sum::Kind;
use crate::runs::{Run, Runs};
use crate::{AnyVolume, Element, Extent, Merge, Volume, with_volume};
use std::ops::Range;

/// What makes voxels one object.
#[derive(Clone, Copy, Debug)]
pub enum Objects<'a> {
    /// Being connected, as [`label`](crate::label::label) gives. Foreground that shares a face is one object, so that
    /// only faces to background count as surface.
    Components,
    /// Having the same value, as [`of_values`](crate::runs::of_values) gives together with these ids. A face to any
    /// other value is surface.
    Values(&'a [u64]),
}

/// One row for each label of `labels`, in their order: all that can be known of the objects from the voxels of
/// `runs.region`. Labels that don't occur have the identity as their row.
///
/// - `labels`: only these are measured, so that a block of many objects can be measured within a memory limit, in
///   several passes. A row takes [`ObjectRow::memory_bytes`].
/// - `values`: what the runs were found in, at least on their region grown by one voxel and clipped to the image. The
///   rim lets every voxel count its own six faces, so that rows of neighbouring blocks simply add up.
/// - `intensity`: the image whose values are summed, at least on the runs' region.
/// - `extent`: the whole image.
///
/// Positions are summed run by run, in closed form; only intensities, and the faces of objects by value, look at each
/// voxel of a run.
///
/// ```
/// use voxel::label::{Connectivity, label};
/// use voxel::table::{ColumnData, Columns, Objects, Spacing, measure};
/// use voxel::{AnyVolume, Dtype, Extent, Volume};
/// let image = Extent { shape: [1, 2, 4], planar: true };
/// let mask: AnyVolume = Volume::new(image.region(), vec![true, true, false, true, false, false, false, true]).into();
/// let runs = label(&mask, image.region(), Connectivity::Six);
/// let rows = measure(&runs, 1..runs.labels + 1, &mask, Objects::Components, None, image);
///
/// let columns = Columns::new(true, Dtype::U64, None, Spacing::default());
/// let values = columns.finish((1..).zip(&rows));
/// assert_eq!((columns.columns()[1].name, &values[1]), ("voxels", &ColumnData::U64(vec![2, 2])));
/// assert_eq!((columns.columns()[3].name, &values[3]), ("centroid_x", &ColumnData::F64(vec![0.5, 3.0])));
/// ```
///
/// # Panics
///
/// When `values` or `intensity` cover less than that, or `objects` has fewer ids than there are labels.
pub fn measure(
    runs: &Runs,
    labels: Range<u32>,
    values: &AnyVolume,
    objects: Objects<'_>,
    intensity: Option<&AnyVolume>,
    extent: Extent,
) -> Vec<ObjectRow> {
    let rim = runs.region.grown([1; 3], extent.shape);
    assert!(values.region().contains(&rim), "the values cover {rim:?}");
    let empty = ObjectRow {
        intensity: intensity.map(|intensity| Intensity::new(Kind::of(intensity.dtype()))),
        ..ObjectRow::identity()
    };
    if let Some(intensity) = intensity {
        assert!(intensity.region().contains(&runs.region), "the intensities cover {:?}", runs.region);
    }
    let rows = Rows { first: labels.start, rows: vec![empty; labels.len()] };
    match objects {
        Objects::Components if by_row::fits(runs.region) => {
            with_volume!(values, values => components(rows, runs, values, intensity, extent))
        }
        _ => by_voxel(rows, runs, values, objects, intensity, extent),
    }
}

/// The rows of components whose totals fit small numbers.
fn components<T: Element>(
    mut rows: Rows,
    runs: &Runs,
    values: &Volume<T>,
    intensity: Option<&AnyVolume>,
    extent: Extent,
) -> Vec<ObjectRow> {
    let (first, count) = (rows.first, rows.rows.len());
    let mut finish = |totals: Vec<Totals>, with_intensities: bool| {
        for (row, totals) in rows.rows.iter_mut().zip(totals) {
            totals.add_to(row, runs.region.start);
            if let (Some(intensity), true) = (&mut row.intensity, with_intensities) {
                totals.add_intensities(intensity);
            }
        }
    };
    macro_rules! with_intensities {
        ($($variant:ident)*) => {
            match intensity {
                $(Some(AnyVolume::$variant(intensity)) => {
                    finish(by_row::totals(runs, first, count, values, Some(intensity), extent), true);
                })*
                other => {
                    finish(by_row::totals::<T, u8>(runs, first, count, values, None, extent), false);
                    if let Some(intensity) = other {
                        with_volume!(intensity, intensity => add_intensities(&mut rows, runs, intensity));
                    }
                }
            }
        };
    }
    with_intensities!(Bool U8 I8 U16 I16);
    rows.rows
}

/// The rows of any objects, by looking at every voxel.
fn by_voxel(
    mut rows: Rows,
    runs: &Runs,
    values: &AnyVolume,
    objects: Objects<'_>,
    intensity: Option<&AnyVolume>,
    extent: Extent,
) -> Vec<ObjectRow> {
    add_positions(&mut rows, runs, extent);
    match objects {
        Objects::Components => with_volume!(values, values => {
            add_faces(&mut rows, runs, values, extent, |_, other| !other.is_foreground());
        }),
        Objects::Values(ids) => {
            rows.set_keys(ids);
            with_volume!(values, values => {
                add_faces(&mut rows, runs, values, extent, |own, other| own.key() != other.key());
            });
        }
    }
    if let Some(intensity) = intensity {
        with_volume!(intensity, intensity => add_intensities(&mut rows, runs, intensity));
    }
    rows.rows
}

/// The rows of the labels from `first` on.
struct Rows {
    first: u32,
    rows: Vec<ObjectRow>,
}

impl Rows {
    /// The row of a run's object, if it is one of those measured in this pass.
    #[inline(always)]
    fn of(&mut self, run: &Run) -> Option<&mut ObjectRow> {
        // A label below the first wraps around to far beyond the last.
        self.rows.get_mut(run.label.wrapping_sub(self.first) as usize)
    }

    fn set_keys(&mut self, ids: &[u64]) {
        for (label, row) in (self.first..).zip(&mut self.rows) {
            if row.voxels > 0 {
                row.key = ids[label as usize - 1];
            }
        }
    }
}

/// Key (of the first voxel), voxels, sums, products and box.
fn add_positions(rows: &mut Rows, runs: &Runs, extent: Extent) {
    for (z, y, in_row) in runs.by_row() {
        for run in in_row {
            let Some(row) = rows.of(run) else { continue };
            let x = runs.region.start[2] + run.x as usize;
            let at = [z as u64, y as u64, x as u64];
            let len = u64::from(run.len);
            row.key = row.key.min(extent.linear([z, y, x]));
            row.voxels += len;
            for axis in 0..3 {
                row.start[axis] = row.start[axis].min(at[axis]);
                row.end[axis] = row.end[axis].max(at[axis] + if axis == 2 { len } else { 1 });
            }

            // With x = at[2] + i: the sums of i and of i squared over i in 0..len.
            let n = u128::from(len);
            let i = n * (n - 1) / 2;
            let ii = n * (n - 1) * (2 * n - 1) / 6;
            let [z, y, x0] = at.map(u128::from);
            let x = x0 * n + i;
            let xx = x0 * (x0 * n + 2 * i) + ii;
            for (sum, more) in row.sums.iter_mut().zip([z * n, y * n, x]) {
                *sum += more;
            }
            for (sum, more) in row.products.iter_mut().zip([z * z * n, z * y * n, z * x, y * y * n, y * x, xx]) {
                *sum += more;
            }
        }
    }
}

/// Surface and border faces along the axes the image has; `differs(own, other)` says whether a face between the two
/// values is surface.
fn add_faces<T: Element>(
    rows: &mut Rows,
    runs: &Runs,
    values: &Volume<T>,
    extent: Extent,
    differs: impl Fn(T, T) -> bool + Copy,
) {
    let x_of_row = values.region.start[2];
    for (z, y, in_row) in runs.by_row() {
        if in_row.is_empty() {
            continue;
        }
        let own_row = values.row(z, y);
        // The rows that share faces with this one; `None` outside the image.
        let mut beside = [None; 4];
        let mut sides = 0;
        for axis in extent.axes().take_while(|axis| *axis < 2) {
            for step in [-1, 1] {
                let mut at = [z, y];
                beside[sides] = at[axis].checked_add_signed(step).filter(|to| *to < extent.shape[axis]).map(|to| {
                    at[axis] = to;
                    values.row(at[0], at[1])
                });
                sides += 1;
            }
        }
        for run in in_row {
            let Some(row) = rows.of(run) else { continue };
            let x = runs.region.start[2] + run.x as usize;
            let end = x + run.len as usize;
            let own = own_row[x - x_of_row];
            for side in &beside[..sides] {
                match side {
                    None => row.border_faces += u64::from(run.len),
                    Some(side) => {
                        row.surface_faces += count(&side[x - x_of_row..end - x_of_row], |v| differs(own, v));
                    }
                }
            }
            let ends = [x.checked_sub(1), Some(end).filter(|end| *end < extent.shape[2])];
            for beyond in ends {
                match beyond {
                    None => row.border_faces += 1,
                    Some(beyond) => row.surface_faces += u64::from(differs(own, own_row[beyond - x_of_row])),
                }
            }
        }
    }
}

/// How many values satisfy `is`. Counted in bytes, as many at once as the widest register holds.
#[inline(always)]
fn count<T: Copy>(values: &[T], is: impl Fn(T) -> bool) -> u64 {
    values.chunks(255).map(|chunk| u64::from(chunk.iter().fold(0u8, |n, v| n.wrapping_add(u8::from(is(*v)))))).sum()
}

fn add_intensities<T: Element>(rows: &mut Rows, runs: &Runs, intensity: &Volume<T>) {
    let offset = runs.region.start[2] - intensity.region.start[2];
    for (z, y, in_row) in runs.by_row() {
        for run in in_row {
            let Some(Some(sums)) = rows.of(run).map(|row| row.intensity.as_mut()) else { continue };
            let voxels = &intensity.row(z, y)[offset + run.x as usize..offset + run.end() as usize];
            sums.moments.add_run(voxels);
            for v in voxels {
                if v.is_finite() {
                    sums.min_key = sums.min_key.min(v.key());
                    sums.max_key = sums.max_key.max(v.key());
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::{Random, random_volume};
    use crate::label::{Connectivity, label};
    use crate::simd::tests::on_each_level;
    use crate::{Dtype, Region};

    /// In small numbers and on bits, against every voxel by itself: in blocks of an image, for every type of intensity,
    /// for all labels and for some.
    #[test]
    fn components_measured_by_row_and_by_voxel_are_equal() {
        let mut random = Random::new(5);
        for (shape, planar) in [([4, 7, 150], false), ([1, 9, 70], true), ([1, 9, 64], false), ([6, 5, 3], false)] {
            let extent = Extent { shape, planar };
            for round in 0..12 {
                let start = shape.map(|n| random.below(n.min(3)));
                let end = shape.map(|n| n - random.below(n.min(2)));
                let block = Region { start, end: std::array::from_fn(|a| end[a].max(start[a] + 1)) };
                // From specks to stretches of hundreds of voxels.
                let rim = block.grown([1; 3], shape);
                let mask = (0..rim.voxels()).map(|i| (random.below(10) < round) != (round > 5 && i % 97 < 60));
                let mask: AnyVolume = Volume::new(rim, mask.collect()).into();
                let runs = label(&mask, block, [Connectivity::Six, Connectivity::TwentySix][round % 2]);
                for intensity in Dtype::ALL.map(|dtype| Some(random_volume(dtype, rim, 3))).iter().chain([&None]) {
                    for labels in [1..runs.labels + 1, 2..4, runs.labels / 2..runs.labels + 2] {
                        let intensity = intensity.as_ref();
                        let run = || measure(&runs, labels.clone(), &mask, Objects::Components, intensity, extent);
                        let empty = ObjectRow {
                            intensity: intensity.map(|intensity| Intensity::new(Kind::of(intensity.dtype()))),
                            ..ObjectRow::identity()
                        };
                        let rows = Rows { first: labels.start, rows: vec![empty; labels.len()] };
                        let slow = by_voxel(rows, &runs, &mask, Objects::Components, intensity, extent);
                        assert_eq!(run(), slow, "{extent:?} {block:?} {labels:?}");
                        assert_eq!(on_each_level(run), slow);
                    }
                }
            }
        }
    }

    /// The largest intensities in as long a run as there may be of one sum.
    #[test]
    fn long_runs_of_large_values_do_not_overflow() {
        let extent = Extent { shape: [1, 1, (1 << 15) + 3], planar: false };
        let mask: AnyVolume = Volume::new(extent.region(), vec![true; extent.shape[2]]).into();
        let runs = label(&mask, extent.region(), Connectivity::Six);
        let voxels = extent.shape[2] as u64;
        let check = |intensity: AnyVolume, value: i128| {
            let rows = measure(&runs, 1..2, &mask, Objects::Components, Some(&intensity), extent);
            let mut expected = Intensity::new(Kind::Integer);
            expected.moments.add_integer(value, voxels);
            assert_eq!(rows[0].intensity.as_ref().map(|intensity| &intensity.moments), Some(&expected.moments));
        };
        check(Volume::new(extent.region(), vec![u16::MAX; extent.shape[2]]).into(), 65_535);
        check(Volume::new(extent.region(), vec![i16::MIN; extent.shape[2]]).into(), -32_768);
        check(Volume::new(extent.region(), vec![u8::MAX; extent.shape[2]]).into(), 255);
    }
}
