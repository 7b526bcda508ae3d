//! Gaussian smoothing: three one-dimensional weighted sums, along z, then y, then x.
//!
//! Every sum is formed in f64 in one fixed order, whatever the block, so that a voxel's value depends on its
//! neighbourhood alone. The lanes of the vector unit run along x on all three axes: a pass keeps the rows it needs in f64
//! in a small buffer, and adds weighted rows.

use super::Boundary;
use crate::simd::vectorised;
use crate::{AnyElement, AnyVolume, Dtype, Element, Extent, Region, Volume, with_volume};
use serde::{Deserialize, Serialize};

/// A Gaussian filter as a plan carries it: the kernels themselves, so that no worker's `exp` decides a result.
///
/// What `scipy.ndimage.gaussian_filter` computes, bit for bit on f32 and f64 given equal kernels: sums are formed in f64
/// and rounded to the type of the image after each axis. Integers differ from scipy: they give f32 and are never
/// rounded back.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Gaussian {
    /// The full symmetric kernel along z, y, x, of odd length; empty where the axis is left alone.
    pub taps: [Vec<f64>; 3],
    /// What lies beyond the image.
    pub boundary: Boundary,
}

impl Gaussian {
    /// The kernels of scipy: `exp(-x² / 2 sigma²)` for `|x| <= int(truncate * sigma + 0.5)`, divided by their sum.
    ///
    /// `sigma` is in voxels along z, y, x, finite and small enough for its kernel to be kept; an axis with sigma 0 is left alone, and so is one whose kernel has a
    /// single weight. `truncate` is in sigmas.
    pub fn new(sigma: [f64; 3], truncate: f64, boundary: Boundary) -> Self {
        Self { taps: sigma.map(|sigma| kernel(sigma, truncate)), boundary }
    }

    /// How far the filter looks along z, y, x, in voxels.
    pub fn halo(&self) -> [usize; 3] {
        [0, 1, 2].map(|axis| self.taps[axis].len() / 2)
    }

    /// Smooths: the voxels of `out` as f32, or f64 from f64. `input` holds `out` grown by the halo and clipped to
    /// `extent`, or more. NaN and the infinities spread over the window as plain arithmetic has it.
    pub fn apply(&self, input: AnyVolume, out: Region, extent: Extent) -> AnyVolume {
        match input {
            AnyVolume::F64(v) => self.smooth::<f64, f64>(v, out, extent).into(),
            input => with_volume!(input, v => self.smooth::<_, f32>(v, out, extent).into()),
        }
    }

    /// The most bytes of voxels alive at once in [`Gaussian::apply`], input, output and temporaries counted.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region) -> usize {
        let size = dtype.averaged().size();
        let mut alive = input.voxels() * dtype.size();
        if self.halo() == [0; 3] {
            return super::cast_peak_bytes(dtype, dtype.averaged(), input, out);
        }
        let mut peak = alive;
        for (axis, to) in self.passes(input, out) {
            let made = to.voxels() * size;
            let row = to.shape()[2];
            let width = self.taps[axis].len();
            let buffered = if axis == 2 { row + width - 1 } else { row * width };
            peak = peak.max(alive + made + buffered * size_of::<f64>());
            alive = made;
        }
        peak
    }

    /// The axes that are summed along, in order, each with the box its pass gives: `out`, still grown by the halo along
    /// the axes to come.
    fn passes(&self, input: Region, out: Region) -> impl Iterator<Item = (usize, Region)> {
        let halo = self.halo();
        (0..3).filter(move |axis| halo[*axis] > 0).map(move |axis| {
            let to_come = std::array::from_fn(|a| if a > axis { halo[a] } else { 0 });
            let grown = out.grown(to_come, input.end);
            (axis, Region { start: std::array::from_fn(|a| grown.start[a].max(input.start[a])), end: grown.end })
        })
    }

    fn smooth<S: Element, F: AnyElement>(&self, input: Volume<S>, out: Region, extent: Extent) -> Volume<F> {
        let mut passes = self.passes(input.region, out);
        let Some((axis, to)) = passes.next() else {
            return super::cast::converted(input, out);
        };
        let first = self.pass(input, to, axis, extent);
        passes.fold(first, |from, (axis, to)| self.pass(from, to, axis, extent))
    }

    /// One pass: the voxels of `to`, each the weighted sum of `input` along `axis`.
    fn pass<S: Element, F: AnyElement>(&self, input: Volume<S>, to: Region, axis: usize, extent: Extent) -> Volume<F> {
        let n = extent.shape[axis];
        let mut output = Volume::zeros(to);
        if axis == 2 {
            self.along_rows(&input, &mut output, n)
        } else {
            self.across_rows(&input, &mut output, axis, n)
        }
        output
    }

    /// Sums along x: each row is copied, extended by the boundary, and summed with shifted copies of itself.
    fn along_rows<S: Element, F: AnyElement>(&self, input: &Volume<S>, output: &mut Volume<F>, n: usize) {
        let taps = &self.taps[2];
        let to = output.region;
        let mut line = vec![0.0; to.shape()[2] + taps.len() - 1];
        let offsets: Vec<usize> = (0..taps.len()).collect();
        let first = to.start[2] as isize - (taps.len() / 2) as isize;
        for z in to.start[0]..to.end[0] {
            for y in to.start[1]..to.end[1] {
                load_extended(input.row(z, y), input.region.start[2], n, first, &mut line, self.boundary);
                weighted_sum(&line, &offsets, taps, output.row_mut(z, y));
            }
        }
    }

    /// Sums along z or y: the rows under the kernel are kept in a ring, so that each is read and converted once.
    fn across_rows<S: Element, F: AnyElement>(&self, input: &Volume<S>, output: &mut Volume<F>, axis: usize, n: usize) {
        let taps = &self.taps[axis];
        let width = taps.len();
        let to = output.region;
        let len = to.shape()[2];
        let skipped = to.start[2] - input.region.start[2];
        let mut ring = vec![0.0; width * len];
        let mut offsets = vec![0; width];
        let other = 1 - axis;
        let place = |along: usize, across: usize| if axis == 0 { (along, across) } else { (across, along) };
        for across in to.start[other]..to.end[other] {
            let first = to.start[axis] as isize - (width / 2) as isize;
            let mut loaded = 0;
            for (step, along) in (to.start[axis]..to.end[axis]).enumerate() {
                while loaded < step + width {
                    let slot = &mut ring[loaded % width * len..][..len];
                    match (self.boundary.index(first + loaded as isize, n), self.boundary) {
                        (None, Boundary::Constant(value)) => slot.fill(value),
                        (index, _) => {
                            let (z, y) = place(index.unwrap_or_default(), across);
                            load(&input.row(z, y)[skipped..skipped + len], slot);
                        }
                    }
                    loaded += 1;
                }
                for (k, offset) in offsets.iter_mut().enumerate() {
                    *offset = (step + k) % width * len;
                }
                let (z, y) = place(along, across);
                weighted_sum(&ring, &offsets, taps, output.row_mut(z, y));
            }
        }
    }
}

fn kernel(sigma: f64, truncate: f64) -> Vec<f64> {
    let radius = (truncate * sigma + 0.5) as i64;
    if sigma <= 0.0 || radius == 0 {
        return Vec::new();
    }
    let weights: Vec<f64> = (-radius..=radius).map(|x| (-0.5 / (sigma * sigma) * (x * x) as f64).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|w| w / sum).collect()
}

vectorised! {
    /// Converts a row to f64.
    fn load<S: Element>(from: &[S], to: &mut [f64]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = from.to_f64();
        }
    }

    /// Converts a row to f64, extended beyond the image's faces.
    fn load_extended<S: Element>(row: &[S], start: usize, n: usize, first: isize, line: &mut [f64], boundary: Boundary) {
        let constant = if let Boundary::Constant(value) = boundary { value } else { 0.0 };
        boundary.extend_row(row, start, n, first, line, constant, S::to_f64);
    }

    /// `out[x] = sum over k of rows[offsets[k] + x] * taps[k]`, rounded once to the output type. The centre comes first,
    /// then pairs of equal weight from the ends inwards: scipy's order for symmetric kernels.
    fn weighted_sum<F: Element>(rows: &[f64], offsets: &[usize], taps: &[f64], out: &mut [F]) {
        // Sixteen sums fill four of AVX2's sixteen registers and hide the latency of the additions.
        const LANES: usize = 16;
        let whole = out.len() / LANES * LANES;
        let (wide, rest) = out.split_at_mut(whole);
        for (i, out) in wide.chunks_exact_mut(LANES).enumerate() {
            weighted_lanes::<F, LANES>(rows, offsets, taps, i * LANES, out);
        }
        for (i, out) in rest.chunks_exact_mut(1).enumerate() {
            weighted_lanes::<F, 1>(rows, offsets, taps, whole + i, out);
        }
    }
}

#[inline(always)]
fn weighted_lanes<F: Element, const L: usize>(rows: &[f64], offsets: &[usize], taps: &[f64], x: usize, out: &mut [F]) {
    let radius = taps.len() / 2;
    let centre = &rows[offsets[radius] + x..][..L];
    let mut sum: [f64; L] = std::array::from_fn(|i| centre[i] * taps[radius]);
    for k in 0..radius {
        let low = &rows[offsets[k] + x..][..L];
        let high = &rows[offsets[2 * radius - k] + x..][..L];
        for i in 0..L {
            sum[i] += (low[i] + high[i]) * taps[k];
        }
    }
    for i in 0..L {
        out[i] = F::from_f64(sum[i]);
    }
}

#[cfg(test)]
mod tests;
