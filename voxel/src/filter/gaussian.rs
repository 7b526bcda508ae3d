//! Gaussian smoothing: three one-dimensional weighted sums, along z, then y, then x.
//!
//! Every sum is formed in f64 in one fixed order, whatever the block, so that a voxel's value depends on its
//! neighbourhood alone. A few planes are summed along z at a time; of these each goes on along y and x while it lies in
//! the nearer caches, so that nothing the size of the block is kept but the block and the result. The lanes of the vector
//! unit run along x on all three axes: along z and y, strips of a few neighbouring columns are turned into f64, small
//! enough to stay in the nearest cache under the window that slides down them.

use super::Boundary;
use crate::simd::vectorised;
use crate::{AnyElement, AnyVolume, Dtype, Element, Extent, Region, Volume, with_volume};
use serde::{Deserialize, Serialize};
use std::ops::Range;

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
    /// `extent`, or more. NaN and the infinities spread over the window as plain arithmetic has it; every NaN is the same.
    pub fn apply(&self, input: AnyVolume, out: Region, extent: Extent) -> AnyVolume {
        let is_left_alone = self.halo() == [0; 3];
        let may_have_nan = input.dtype().is_float();
        let mut smooth: AnyVolume = match input {
            AnyVolume::F64(v) => self.smooth::<f64, f64>(v, out, extent).into(),
            input => with_volume!(input, v => self.smooth::<_, f32>(v, out, extent).into()),
        };
        if may_have_nan && !is_left_alone {
            match &mut smooth {
                AnyVolume::F32(volume) => equal_nans(&mut volume.data, f32::is_nan, f32::NAN),
                AnyVolume::F64(volume) => equal_nans(&mut volume.data, f64::is_nan, f64::NAN),
                _ => {}
            }
        }
        smooth
    }

    /// The most bytes of voxels alive at once in [`Gaussian::apply`], input, output and temporaries counted.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region) -> usize {
        if self.halo() == [0; 3] {
            return super::cast_peak_bytes(dtype, dtype.averaged(), input, out);
        }
        let sizes = Sizes::new(self, self.needed(input, out), out);
        let averaged = out.voxels() + sizes.slab + sizes.plane;
        let sums = sizes.strip * LANES + sizes.line;
        input.voxels() * dtype.size() + averaged * dtype.averaged().size() + sums * size_of::<f64>()
    }

    /// What lies beyond the image where that is one value.
    fn constant(&self) -> f64 {
        if let Boundary::Constant(value) = self.boundary { value } else { 0.0 }
    }

    /// `out` grown by the halo, as far as the image goes.
    fn needed(&self, input: Region, out: Region) -> Region {
        let grown = out.grown(self.halo(), input.end);
        Region { start: std::array::from_fn(|a| grown.start[a].max(input.start[a])), end: grown.end }
    }

    fn smooth<S: Element, F: AnyElement>(&self, input: Volume<S>, out: Region, extent: Extent) -> Volume<F> {
        if self.halo() == [0; 3] {
            return super::cast::converted(input, out);
        }
        let needed = self.needed(input.region, out);
        let [_, height, width] = needed.shape();
        let mut output = Volume::zeros(out);
        let sizes = Sizes::new(self, needed, out);
        let mut work = Work {
            plane: vec![F::default(); sizes.plane],
            strip: vec![[0.0; LANES]; sizes.strip],
            line: vec![0.0; sizes.line],
            rows: Vec::new(),
        };
        let mut slab = vec![F::default(); sizes.slab];
        let [_, out_height, out_width] = out.shape();
        let pass = Pass { gaussian: self, needed, out, extent };
        let planes = output.data.chunks_mut((SLAB * out_height * out_width).max(1));
        for (first, to) in (out.start[0]..out.end[0]).step_by(SLAB).zip(planes) {
            let last = (first + SLAB).min(out.end[0]);
            if self.taps[0].is_empty() {
                let to_planes = to.chunks_exact_mut(out_height * out_width);
                for (z, to) in (first..last).zip(to_planes) {
                    let start = input.offset([z, needed.start[1], needed.start[2]]);
                    let rows = Rows { data: &input.data[start..], stride: input.region.shape()[2] };
                    pass.within_plane(rows, &mut work, to);
                }
                continue;
            }
            // Where nothing is summed along y and x, the sums along z are the result.
            let sums = if slab.is_empty() { &mut *to } else { &mut slab[..] };
            for y in 0..height {
                let at = |z| input.offset([z, needed.start[1] + y, needed.start[2]]);
                pass.column_rows(0, first..last, &mut work.rows, at);
                pass.down_columns(0, &input.data, &work.rows, &mut work.strip, &mut sums[y * width..], height * width);
            }
            if slab.is_empty() {
                continue;
            }
            let to_planes = to.chunks_exact_mut(out_height * out_width);
            for (from, to) in slab.chunks_exact(height * width).zip(to_planes) {
                pass.within_plane(Rows { data: from, stride: width }, &mut work, to);
            }
        }
        output
    }
}

/// Neighbouring columns that are summed side by side: eight sums in AVX2's sixteen registers hide the latency of the
/// additions, and the windows of 64 columns lie in the nearest cache.
const LANES: usize = 16;

/// Planes that are summed along z at a time. Each input plane under them is converted once; what a few planes take stays
/// in a cache that cores share.
const SLAB: usize = 16;

/// How long the buffers are, in their own items.
struct Sizes {
    /// Planes of sums along z that are still to be summed along y or x.
    slab: usize,
    /// One plane of sums along y that is still to be summed along x.
    plane: usize,
    strip: usize,
    line: usize,
}

impl Sizes {
    fn new(gaussian: &Gaussian, needed: Region, out: Region) -> Self {
        let [z, y, x] = [0, 1, 2].map(|axis| !gaussian.taps[axis].is_empty());
        let [_, height, width] = needed.shape();
        let [out_depth, out_height, out_width] = out.shape();
        let column = |summed: bool, axis: usize, out: usize| if summed { out + 2 * gaussian.halo()[axis] } else { 0 };
        Self {
            slab: if z && (y || x) { SLAB.min(out_depth) * height * width } else { 0 },
            plane: if y && x { out_height * width } else { 0 },
            strip: column(z, 0, SLAB.min(out_depth)).max(column(y, 1, out_height)),
            line: if x { out_width.next_multiple_of(LANES) + 2 * gaussian.halo()[2] } else { 0 },
        }
    }
}

/// The buffers of one run over a block.
struct Work<F> {
    plane: Vec<F>,
    strip: Vec<[f64; LANES]>,
    line: Vec<f64>,
    rows: Vec<Option<usize>>,
}

/// Rows of voxels, `stride` apart, the first of them the first that is needed.
struct Rows<'a, T> {
    data: &'a [T],
    stride: usize,
}

/// What all passes over one block know.
struct Pass<'a> {
    gaussian: &'a Gaussian,
    needed: Region,
    out: Region,
    extent: Extent,
}

impl Pass<'_> {
    /// Sums along y, then x, from the needed rows of a plane to those of the result.
    fn within_plane<T: Element, F: AnyElement>(&self, from: Rows<T>, work: &mut Work<F>, to: &mut [F]) {
        let width = self.needed.shape()[2];
        if self.gaussian.taps[1].is_empty() {
            return self.along_rows(from, &mut work.line, to);
        }
        let start = self.needed.start[1];
        self.column_rows(1, self.out.start[1]..self.out.end[1], &mut work.rows, |y| (y - start) * from.stride);
        if self.gaussian.taps[2].is_empty() {
            return self.down_columns(1, from.data, &work.rows, &mut work.strip, to, width);
        }
        self.down_columns(1, from.data, &work.rows, &mut work.strip, &mut work.plane, width);
        self.along_rows(Rows { data: &work.plane, stride: width }, &mut work.line, to);
    }

    /// Where the rows under the windows around `out` along an axis begin, `None` for those of the constant.
    fn column_rows(&self, axis: usize, out: Range<usize>, rows: &mut Vec<Option<usize>>, at: impl Fn(usize) -> usize) {
        let radius = self.gaussian.taps[axis].len() as isize / 2;
        let (boundary, n) = (self.gaussian.boundary, self.extent.shape[axis]);
        rows.clear();
        rows.extend((out.start as isize - radius..out.end as isize + radius).map(|i| boundary.index(i, n).map(&at)));
    }

    /// Sums down columns as wide as what is needed: `rows` begin at these places of `from`, and those of the result lie
    /// `stride` apart.
    fn down_columns<T: Element, F: Element>(
        &self,
        axis: usize,
        from: &[T],
        rows: &[Option<usize>],
        strip: &mut [[f64; LANES]],
        to: &mut [F],
        stride: usize,
    ) {
        let width = self.needed.shape()[2];
        let constant = self.gaussian.constant();
        let strip = &mut strip[..rows.len()];
        for x in (0..width).step_by(LANES) {
            let lanes = LANES.min(width - x);
            load_strip(from, rows, x, lanes, constant, strip);
            weigh_strip(strip, &self.gaussian.taps[axis], &mut to[x..], stride, lanes);
        }
    }

    /// Sums along x: each row is extended by the boundary, and summed with shifted copies of itself.
    fn along_rows<T: Element, F: Element>(&self, from: Rows<T>, line: &mut [f64], to: &mut [F]) {
        let taps = &self.gaussian.taps[2];
        let [width, out_width] = [self.needed, self.out].map(|region| region.shape()[2]);
        let first = self.out.start[2] as isize - (taps.len() / 2) as isize;
        let used = out_width + taps.len() - 1;
        let (boundary, n) = (self.gaussian.boundary, self.extent.shape[2]);
        for (from, to) in from.data.chunks(from.stride).zip(to.chunks_exact_mut(out_width)) {
            load_extended(&from[..width], self.needed.start[2], n, first, &mut line[..used], boundary);
            weigh_line(line, taps, to);
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
    /// Converts a few columns of the rows to f64.
    fn load_strip<S: Element>(
        from: &[S], rows: &[Option<usize>], x: usize, lanes: usize, constant: f64, strip: &mut [[f64; LANES]],
    ) {
        for (to, row) in strip.iter_mut().zip(rows) {
            let Some(row) = row else {
                to.fill(constant);
                continue;
            };
            let from = &from[row + x..][..lanes];
            match from.first_chunk::<LANES>() {
                Some(from) => {
                    for i in 0..LANES {
                        to[i] = from[i].to_f64();
                    }
                }
                None => {
                    for (to, from) in to.iter_mut().zip(from) {
                        *to = from.to_f64();
                    }
                }
            }
        }
    }

    /// Converts a row to f64, extended beyond the image's faces.
    fn load_extended<S: Element>(row: &[S], start: usize, n: usize, first: isize, line: &mut [f64], boundary: Boundary) {
        let constant = if let Boundary::Constant(value) = boundary { value } else { 0.0 };
        boundary.extend_row(row, start, n, first, line, constant, S::to_f64);
    }

    /// The weighted sum of each window down a strip, to rows of `lanes` voxels that lie `stride` apart.
    fn weigh_strip<F: Element>(strip: &[[f64; LANES]], taps: &[f64], to: &mut [F], stride: usize, lanes: usize) {
        for (window, to) in strip.windows(taps.len()).zip(to.chunks_mut(stride)) {
            weigh(window.as_flattened(), LANES, taps, &mut to[..lanes]);
        }
    }

    /// The weighted sum of each window of a line that ends in as many lanes as there may be, some of them for nothing.
    fn weigh_line<F: Element>(line: &[f64], taps: &[f64], to: &mut [F]) {
        for (x, to) in to.chunks_mut(LANES).enumerate() {
            weigh(&line[x * LANES..][..taps.len() - 1 + LANES], 1, taps, to);
        }
    }
}

/// Makes one NaN of all: which of two NaNs a sum gives is up to the processor, and to the compiler.
fn equal_nans<T: Copy>(values: &mut [T], is_nan: impl Fn(T) -> bool, nan: T) {
    for value in values {
        *value = if is_nan(*value) { nan } else { *value };
    }
}

/// The weighted sum of a window of rows that begin `stride` apart, rounded once, to as many voxels as there are. The
/// centre comes first, then pairs of equal weight from the ends inwards: scipy's order for symmetric kernels.
#[inline(always)]
fn weigh<F: Element>(window: &[f64], stride: usize, taps: &[f64], to: &mut [F]) {
    let radius = taps.len() / 2;
    let row = |k: usize| -> &[f64; LANES] { window[k * stride..].first_chunk().unwrap_or(&[0.0; LANES]) };
    let (centre, weight) = (row(radius), taps[radius]);
    let mut sums = [0.0; LANES];
    for i in 0..LANES {
        sums[i] = centre[i] * weight;
    }
    for k in 0..radius {
        let (low, high, weight) = (row(k), row(2 * radius - k), taps[k]);
        for i in 0..LANES {
            sums[i] += (low[i] + high[i]) * weight;
        }
    }
    match to.first_chunk_mut::<LANES>() {
        Some(to) => {
            for i in 0..LANES {
                to[i] = F::from_f64(sums[i]);
            }
        }
        None => {
            for (to, sum) in to.iter_mut().zip(sums) {
                *to = F::from_f64(sum);
            }
        }
    }
}

#[cfg(test)]
mod tests;
