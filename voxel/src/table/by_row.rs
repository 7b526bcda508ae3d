//! Measuring connected components row by row, in small numbers.
//!
//! Inside a block everything that is summed fits 64 bits, as long as coordinates count from the block's first voxel
//! and intensities have 16 bits at most. One look at each run then adds to one record that fits three cache lines;
//! faces are counted on bits. What does not fit (very long blocks), and intensities of other types, are left to
//! [`measure`](super::measure()), which also turns the totals into rows.

use super::{Intensity, ObjectRow};
use crate::bits::{self, WORD};
use crate::runs::{Run, Runs};
use crate::simd::vectorised;
use crate::{Element, Extent, Region, Volume};

/// What is known of one object of a block. Coordinates count from the block's first voxel.
#[derive(Clone, Copy, Default)]
pub(super) struct Totals {
    /// C-order index in the image of the first voxel.
    first: u64,
    voxels: u64,
    sums: [u64; 3],
    products: [u64; 6],
    start: [u32; 3],
    end: [u32; 3],
    surface_faces: u64,
    border_faces: u64,
    intensity: i64,
    intensity_squares: u64,
    /// Keys of the least and the greatest.
    intensity_min: u16,
    intensity_max: u16,
}

/// Whether all totals of a block fit their 64 bits.
pub(super) fn fits(region: Region) -> bool {
    let longest = region.shape().into_iter().max().unwrap_or(0) as u128;
    // The products are the largest; a run's own are formed with a factor of up to 2 times 3.
    longest < 1 << 31 && (region.voxels() as u128) * longest * longest < 1 << 61
}

/// The totals of the labels from `first` to before `first + count`, for runs of the foreground of `values`; intensities
/// have 16 bits at most.
pub(super) fn totals<T: Element, I: Element>(
    runs: &Runs,
    first: u32,
    count: usize,
    values: &Volume<T>,
    intensity: Option<&Volume<I>>,
    extent: Extent,
) -> Vec<Totals> {
    let mut totals = vec![Totals::default(); count];
    let mut planes = Planes::new(values, runs.region, extent);
    let offset = intensity.map_or(0, |intensity| runs.region.start[2] - intensity.region.start[2]);
    let width = runs.region.shape()[2];
    for z in runs.region.start[0]..runs.region.end[0] {
        planes.advance(z);
        for y in runs.region.start[1]..runs.region.end[1] {
            let at = [z - runs.region.start[0], y - runs.region.start[1]];
            let in_row = &runs.runs[runs.row_range(at[0], at[1])];
            if in_row.is_empty() {
                continue;
            }
            let own = values.row(z, y);
            // What a run meets before the row's first voxel and after its last.
            let end = |x: Option<usize>| match x.filter(|x| *x < extent.shape[2]) {
                None => End::Outside,
                Some(x) if own[x - values.region.start[2]].is_foreground() => End::Foreground,
                Some(_) => End::Background,
            };
            let row = Row {
                runs: in_row,
                first,
                at: at.map(|i| i as u64),
                linear: extent.linear([z, y, runs.region.start[2]]),
                width: width as u32,
                sides: [
                    planes.side(z.checked_sub(1), Some(y), 0),
                    planes.side(Some(z + 1), Some(y), 0),
                    planes.side(Some(z), y.checked_sub(1), 1),
                    planes.side(Some(z), Some(y + 1), 1),
                ],
                ends: [end(runs.region.start[2].checked_sub(1)), end(Some(runs.region.end[2]))],
                intensity: intensity.map(|intensity| &intensity.row(z, y)[offset..][..width]),
            };
            add_row(&mut totals, &row);
        }
    }
    totals
}

impl Totals {
    /// Adds the totals to an empty row; `origin` is the block's first voxel.
    pub(super) fn add_to(&self, row: &mut ObjectRow, origin: [usize; 3]) {
        if self.voxels == 0 {
            return;
        }
        let n = u128::from(self.voxels);
        let from = origin.map(|i| i as u128);
        let sums = self.sums.map(u128::from);
        row.key = self.first;
        row.voxels = self.voxels;
        for axis in 0..3 {
            row.sums[axis] = sums[axis] + from[axis] * n;
            row.start[axis] = origin[axis] as u64 + u64::from(self.start[axis]);
            row.end[axis] = origin[axis] as u64 + u64::from(self.end[axis]);
        }
        for (i, (a, b)) in super::PAIRS.into_iter().enumerate() {
            // (a + from a) (b + from b), summed.
            row.products[i] =
                u128::from(self.products[i]) + from[a] * sums[b] + from[b] * sums[a] + from[a] * from[b] * n;
        }
        row.surface_faces = self.surface_faces;
        row.border_faces = self.border_faces;
    }

    /// Adds the intensities to an object's, which are none so far.
    pub(super) fn add_intensities(&self, to: &mut Intensity) {
        if self.voxels > 0 {
            to.moments.add_sums(self.voxels, self.intensity.into(), self.intensity_squares.into());
            (to.min_key, to.max_key) = (self.intensity_min.into(), self.intensity_max.into());
        }
    }
}

/// What lies next to a row, or to its ends.
#[derive(Clone, Copy)]
enum Side<'a> {
    /// An axis that the image does not have.
    Nothing,
    Outside,
    /// A row's foreground.
    Row(&'a [u64]),
}

#[derive(Clone, Copy)]
enum End {
    Outside,
    Foreground,
    Background,
}

struct Row<'a, I> {
    runs: &'a [Run],
    first: u32,
    /// z and y from the block's first voxel.
    at: [u64; 2],
    /// C-order index in the image of the row's first voxel.
    linear: u64,
    width: u32,
    sides: [Side<'a>; 4],
    ends: [End; 2],
    intensity: Option<&'a [I]>,
}

/// The foreground of the three planes around a row, as bits. They are packed once each.
struct Planes<'a, T> {
    values: &'a Volume<T>,
    extent: Extent,
    /// The rows that are packed: those of the block and one around it, inside the image.
    rim: Region,
    columns: std::ops::Range<usize>,
    words: usize,
    /// Plane z stands in place z % 3.
    bits: [Vec<u64>; 3],
    packed: usize,
}

impl<'a, T: Element> Planes<'a, T> {
    fn new(values: &'a Volume<T>, region: Region, extent: Extent) -> Self {
        let rim = region.grown([1; 3], extent.shape);
        let words = region.shape()[2].div_ceil(WORD);
        let first = values.region.start[2];
        let columns = region.start[2] - first..region.end[2] - first;
        let plane = vec![0; rim.shape()[1] * words];
        let bits = [plane.clone(), plane.clone(), plane];
        Self { values, extent, rim, columns, words, bits, packed: rim.start[0] }
    }

    /// Packs what is missing of the planes around `z`.
    fn advance(&mut self, z: usize) {
        let to = if self.extent.planar { z + 1 } else { (z + 2).min(self.rim.end[0]) };
        for plane in self.packed..to {
            let rows = self.bits[plane % 3].chunks_exact_mut(self.words.max(1));
            for (y, row) in (self.rim.start[1]..self.rim.end[1]).zip(rows) {
                bits::pack(&self.values.row(plane, y)[self.columns.clone()], row);
            }
        }
        self.packed = to;
    }

    /// The row at `z` and `y`, which lies beside another along `axis`.
    fn side(&self, z: Option<usize>, y: Option<usize>, axis: usize) -> Side<'_> {
        let inside = |i: Option<usize>, axis: usize| i.filter(|i| *i < self.extent.shape[axis]);
        match (inside(z, 0), inside(y, 1)) {
            _ if !self.extent.axes().contains(&axis) => Side::Nothing,
            (Some(z), Some(y)) => Side::Row(&self.bits[z % 3][(y - self.rim.start[1]) * self.words..][..self.words]),
            _ => Side::Outside,
        }
    }
}

vectorised! {
    fn add_row<I: Element>(totals: &mut [Totals], row: &Row<'_, I>) {
        let [z, y] = row.at;
        for run in row.runs {
            // A label below the first wraps around to far beyond the last.
            let Some(to) = totals.get_mut(run.label.wrapping_sub(row.first) as usize) else { continue };
            let (x0, n) = (u64::from(run.x), u64::from(run.len));
            if to.voxels == 0 {
                to.first = row.linear + x0;
                to.start = [z as u32, y as u32, run.x];
                (to.intensity_min, to.intensity_max) = (u16::MAX, 0);
            }
            to.voxels += n;
            // Rows come in the order of z, and in a plane in that of y.
            to.start[1] = to.start[1].min(y as u32);
            to.start[2] = to.start[2].min(run.x);
            to.end = [z as u32 + 1, to.end[1].max(y as u32 + 1), to.end[2].max(run.end())];

            // With x = x0 + i: the sums of i and of i squared over i in 0..n.
            let i = n * (n - 1) / 2;
            let ii = n * (n - 1) * (2 * n - 1) / 6;
            let x = x0 * n + i;
            let xx = x0 * (x0 * n + 2 * i) + ii;
            for (sum, more) in to.sums.iter_mut().zip([z * n, y * n, x]) {
                *sum += more;
            }
            for (sum, more) in to.products.iter_mut().zip([z * z * n, z * y * n, z * x, y * y * n, y * x, xx]) {
                *sum += more;
            }

            for side in row.sides {
                match side {
                    Side::Nothing => {}
                    Side::Outside => to.border_faces += n,
                    Side::Row(bits) => to.surface_faces += n - set(bits, run.x as usize, run.end() as usize),
                }
            }
            // Within the row, a run ends where background begins.
            for end in [
                if run.x == 0 { row.ends[0] } else { End::Background },
                if run.end() == row.width { row.ends[1] } else { End::Background },
            ] {
                match end {
                    End::Outside => to.border_faces += 1,
                    End::Background => to.surface_faces += 1,
                    End::Foreground => {}
                }
            }
            if let Some(values) = row.intensity {
                add_values(to, &values[run.x as usize..run.end() as usize]);
            }
        }
    }
}

/// How many bits are set from `from` to before `to`, which is more.
#[inline(always)]
fn set(bits: &[u64], from: usize, to: usize) -> u64 {
    let (first, last) = (from / WORD, (to - 1) / WORD);
    let (head, tail) = (u64::MAX << (from % WORD), u64::MAX >> (WORD - 1 - (to - 1) % WORD));
    if first == last {
        return u64::from((bits[first] & head & tail).count_ones());
    }
    let middle: u32 = bits[first + 1..last].iter().map(|word| word.count_ones()).sum();
    u64::from((bits[first] & head).count_ones() + middle + (bits[last] & tail).count_ones())
}

/// Adds integers of at most 16 bits.
#[inline(always)]
fn add_values<I: Element>(to: &mut Totals, values: &[I]) {
    // So many values of 16 bits have a sum of 31 bits, and of 8 bits squares of as many.
    for part in values.chunks(1 << 14) {
        let (mut sum, mut narrow, mut wide) = (0i32, 0u32, 0u64);
        let (mut least, mut greatest) = (u16::MAX, 0);
        for v in part {
            // Integers have an exact value; the alternative is never taken.
            let value = v.to_i128().unwrap_or(0) as i32;
            let magnitude = value.unsigned_abs();
            sum += value;
            if I::BITS == 8 {
                narrow += magnitude * magnitude;
            } else {
                wide += u64::from(magnitude * magnitude);
            }
            least = least.min(v.key() as u16);
            greatest = greatest.max(v.key() as u16);
        }
        to.intensity += i64::from(sum);
        to.intensity_squares += u64::from(narrow) + wide;
        to.intensity_min = to.intensity_min.min(least);
        to.intensity_max = to.intensity_max.max(greatest);
    }
}
