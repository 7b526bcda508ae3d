//! The mean of a window: sums along z, then y, then x, divided once at the end.
//!
//! A plane of sums along z, a row of sums along y, then sums along x: no volume but the result is kept. Integers of up
//! to 32 bits are summed exactly, so that a sum can run: the next window's is this one's, with what enters added and
//! what leaves taken away. All else is summed anew for each voxel, in f64 and in the order of the window, so that a
//! voxel's value depends on its window alone, and a NaN spreads no farther.

use super::Boundary;
use crate::simd::vectorised;
use crate::{AnyElement, AnyVolume, Dtype, Element, Extent, Region, Volume, with_volume};
use serde::{Deserialize, Serialize};

/// A mean filter: `scipy.ndimage.uniform_filter` with a centred box. Gives f32, or f64 from f64; unlike scipy, integers
/// give floats and nothing is rounded between axes.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Mean {
    /// Window along z, y, x in voxels, odd widths of at most [`Mean::SIZE_MAX`].
    pub size: [usize; 3],
    /// What lies beyond the image.
    pub boundary: Boundary,
}

impl Mean {
    /// The widest window along an axis for which running sums of 32-bit integers fit their 64 bits.
    pub const SIZE_MAX: usize = 1023;

    /// How far the filter looks along z, y, x, in voxels.
    pub fn halo(&self) -> [usize; 3] {
        self.size.map(|width| width / 2)
    }

    /// The mean of the window around each voxel of `out`, as f32, or f64 from f64. `input` holds `out` grown by the halo
    /// and clipped to `extent`, or more. NaN and the infinities follow plain arithmetic within their windows.
    pub fn apply(&self, input: AnyVolume, out: Region, extent: Extent) -> AnyVolume {
        match input {
            AnyVolume::F64(v) => self.averaged::<f64, f64>(v, out, extent).into(),
            input => with_volume!(input, v => self.averaged::<_, f32>(v, out, extent).into()),
        }
    }

    /// The most bytes of voxels alive at once in [`Mean::apply`], input, output and temporaries counted.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region, extent: Extent) -> usize {
        if self.halo() == [0; 3] {
            return super::cast_peak_bytes(dtype, dtype.averaged(), input, out);
        }
        let [_, rows, columns] = out.grown(self.halo(), extent.shape).shape();
        let line = out.shape()[2] + self.size[2] - 1;
        let sums = (rows * columns + columns + line) * size_of::<f64>();
        input.voxels() * dtype.size() + out.voxels() * dtype.averaged().size() + sums
    }

    fn averaged<S: Element, F: AnyElement>(&self, input: Volume<S>, out: Region, extent: Extent) -> Volume<F> {
        if self.halo() == [0; 3] {
            return super::cast::converted(input, out);
        }
        match self.whole_constant() {
            Some(constant) if !S::DTYPE.is_float() && S::BITS <= 32 => {
                self.summed::<S, i64, F>(&input, out, extent, constant)
            }
            _ => {
                let constant = if let Boundary::Constant(value) = self.boundary { value } else { 0.0 };
                self.summed::<S, f64, F>(&input, out, extent, constant)
            }
        }
    }

    /// The value beyond the image as an integer of no more than 32 bits, if it is one.
    fn whole_constant(&self) -> Option<i64> {
        match self.boundary {
            Boundary::Constant(value) => {
                (value.fract() == 0.0 && value.abs() <= f64::from(u32::MAX)).then_some(value as i64)
            }
            _ => Some(0),
        }
    }

    fn summed<S: Element, A: Sum, F: AnyElement>(
        &self,
        input: &Volume<S>,
        out: Region,
        extent: Extent,
        constant: A,
    ) -> Volume<F> {
        let mut output = Volume::zeros(out);
        let needed = out.grown(self.halo(), extent.shape);
        let [_, rows, columns] = needed.shape();
        let skipped = needed.start[2] - input.region.start[2];
        let [depth, height, width] = self.size;
        let at = |axis: usize, i: isize| self.boundary.index(i, extent.shape[axis]);
        let voxels: f64 = self.size.iter().map(|width| *width as f64).product();

        let mut plane = vec![A::default(); rows * columns];
        let mut row = vec![A::default(); columns];
        let mut line = vec![A::default(); out.shape()[2] + width - 1];
        // What a place outside the image adds up to along z, and along z and y.
        let (outside, outside_row) = (constant.times(depth), constant.times(depth).times(height));
        for z in out.start[0]..out.end[0] {
            let first = z as isize - (depth / 2) as isize;
            for (y, sums) in (needed.start[1]..needed.end[1]).zip(plane.chunks_exact_mut(columns)) {
                let voxels = |z: usize| &input.row(z, y)[skipped..][..columns];
                let add = |sums: &mut [A], i: isize| match at(0, i) {
                    Some(z) => add_voxels(sums, voxels(z)),
                    None => add_constant(sums, constant),
                };
                if A::RUNS && z > out.start[0] {
                    add(sums, first + depth as isize - 1);
                    match at(0, first - 1) {
                        Some(z) => take_voxels(sums, voxels(z)),
                        None => add_constant(sums, A::default().less(constant)),
                    }
                } else {
                    sums.fill(A::default());
                    (0..depth as isize).for_each(|d| add(sums, first + d));
                }
            }
            for y in out.start[1]..out.end[1] {
                let first = y as isize - (height / 2) as isize;
                let sums = |y: usize| &plane[(y - needed.start[1]) * columns..][..columns];
                let add = |row: &mut [A], i: isize| match at(1, i) {
                    Some(y) => add_sums(row, sums(y)),
                    None => add_constant(row, outside),
                };
                if A::RUNS && y > out.start[1] {
                    add(&mut row, first + height as isize - 1);
                    match at(1, first - 1) {
                        Some(y) => take_sums(&mut row, sums(y)),
                        None => add_constant(&mut row, A::default().less(outside)),
                    }
                } else {
                    row.fill(A::default());
                    (0..height as isize).for_each(|d| add(&mut row, first + d));
                }
                let first = out.start[2] as isize - (width / 2) as isize;
                let n = extent.shape[2];
                self.boundary.extend_row(&row, needed.start[2], n, first, &mut line, outside_row, |sum| sum);
                if A::RUNS {
                    running_means(&line, width, voxels, output.row_mut(z, y));
                } else {
                    means(&line, width, voxels, output.row_mut(z, y));
                }
            }
        }
        output
    }
}

/// What is summed in.
trait Sum: Copy + Default + Send + Sync + 'static {
    /// Whether a sum can be carried from window to window: adding and taking away are exact.
    const RUNS: bool;
    fn of<S: Element>(voxel: S) -> Self;
    fn plus(self, other: Self) -> Self;
    fn less(self, other: Self) -> Self;
    fn times(self, count: usize) -> Self;
    fn value(self) -> f64;
}

impl Sum for i64 {
    const RUNS: bool = true;
    #[inline(always)]
    fn of<S: Element>(voxel: S) -> i64 {
        // Used for integers of up to 32 bits only.
        voxel.to_i128().unwrap_or_default() as i64
    }
    #[inline(always)]
    fn plus(self, other: i64) -> i64 {
        self.wrapping_add(other)
    }
    #[inline(always)]
    fn less(self, other: i64) -> i64 {
        self.wrapping_sub(other)
    }
    #[inline(always)]
    fn times(self, count: usize) -> i64 {
        self.wrapping_mul(count as i64)
    }
    #[inline(always)]
    fn value(self) -> f64 {
        self as f64
    }
}

impl Sum for f64 {
    const RUNS: bool = false;
    #[inline(always)]
    fn of<S: Element>(voxel: S) -> f64 {
        voxel.to_f64()
    }
    #[inline(always)]
    fn plus(self, other: f64) -> f64 {
        self + other
    }
    #[inline(always)]
    fn less(self, other: f64) -> f64 {
        self - other
    }
    #[inline(always)]
    fn times(self, count: usize) -> f64 {
        self * count as f64
    }
    #[inline(always)]
    fn value(self) -> f64 {
        self
    }
}

vectorised! {
    fn add_voxels<S: Element, A: Sum>(sums: &mut [A], row: &[S]) {
        for (sum, voxel) in sums.iter_mut().zip(row) {
            *sum = sum.plus(A::of(*voxel));
        }
    }

    fn take_voxels<S: Element, A: Sum>(sums: &mut [A], row: &[S]) {
        for (sum, voxel) in sums.iter_mut().zip(row) {
            *sum = sum.less(A::of(*voxel));
        }
    }

    fn add_sums<A: Sum>(sums: &mut [A], row: &[A]) {
        for (sum, other) in sums.iter_mut().zip(row) {
            *sum = sum.plus(*other);
        }
    }

    fn take_sums<A: Sum>(sums: &mut [A], row: &[A]) {
        for (sum, other) in sums.iter_mut().zip(row) {
            *sum = sum.less(*other);
        }
    }

    fn add_constant<A: Sum>(sums: &mut [A], value: A) {
        for sum in sums {
            *sum = sum.plus(value);
        }
    }

    /// The mean of each `width` sums that follow one another, each window summed from its first.
    fn means<A: Sum, F: Element>(line: &[A], width: usize, voxels: f64, out: &mut [F]) {
        const LANES: usize = 16;
        let whole = out.len() / LANES * LANES;
        let (wide, rest) = out.split_at_mut(whole);
        for (i, out) in wide.chunks_exact_mut(LANES).enumerate() {
            mean_lanes::<A, F, LANES>(&line[i * LANES..], width, voxels, out);
        }
        for (i, out) in rest.chunks_exact_mut(1).enumerate() {
            mean_lanes::<A, F, 1>(&line[whole + i..], width, voxels, out);
        }
    }

    /// The same from one sum that runs.
    fn running_means<A: Sum, F: Element>(line: &[A], width: usize, voxels: f64, out: &mut [F]) {
        let mut sum = line[..width - 1].iter().fold(A::default(), |sum, next| sum.plus(*next));
        for ((out, enters), leaves) in out.iter_mut().zip(&line[width - 1..]).zip(line) {
            sum = sum.plus(*enters);
            *out = F::from_f64(sum.value() / voxels);
            sum = sum.less(*leaves);
        }
    }
}

#[inline(always)]
fn mean_lanes<A: Sum, F: Element, const L: usize>(line: &[A], width: usize, voxels: f64, out: &mut [F]) {
    let mut sum = [A::default(); L];
    for k in 0..width {
        let next = &line[k..][..L];
        for i in 0..L {
            sum[i] = sum[i].plus(next[i]);
        }
    }
    for i in 0..L {
        out[i] = F::from_f64(sum[i].value() / voxels);
    }
}

#[cfg(test)]
mod tests;
