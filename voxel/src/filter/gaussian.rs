//! Gaussian smoothing: three one-dimensional weighted sums, along z, then y, then x.
//!
//! Every sum is formed in f64 in one fixed order, whatever the block, so that a voxel's value depends on its
//! neighbourhood alone. A few planes are summed along z at a time; of these each goes on along y and x while it lies in
//! the nearer caches, so that nothing the size of the block is kept but the block and the result. The lanes of the vector
//! unit run along x on all three axes: along z and y, strips of a few neighbouring columns are turned into f64, small
//! enough to stay in the nearest cache under the window that slides down them.
//!
//! Since planes go through a few at a time, they may come and go that way, too: [`Gaussian::stream`] never holds the whole
//! of what it reads or of what it gives.

mod planes;

use super::Boundary;
use crate::simd::vectorised;
use crate::{AnyElement, AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype, with_volume};
use planes::{Planes, Target};
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
    /// `sigma` is in voxels along z, y, x, finite and small enough for its kernel to be kept; an axis with sigma 0 is left
    /// alone, and so is one whose kernel has a single weight. `truncate` is in sigmas.
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
        fn typed<S: Element, F: AnyElement>(
            gaussian: &Gaussian,
            input: Volume<S>,
            out: Region,
            extent: Extent,
        ) -> AnyVolume {
            if gaussian.halo() == [0; 3] {
                return F::wrap(super::cast::converted(input, out));
            }
            let mut smooth = Volume::<F>::zeros(out);
            gaussian.smooth(Planes::all(input), out, extent, Target::Whole(&mut smooth.data));
            F::wrap(smooth)
        }
        match input {
            AnyVolume::F64(v) => typed::<f64, f64>(self, v, out, extent),
            input => with_volume!(input, v => typed::<_, f32>(self, v, out, extent)),
        }
    }

    /// Smooths as [`Gaussian::apply`] does, where the result need never be whole, nor the input. `take` gets the planes of
    /// `out`, a few at a time and in order.
    ///
    /// # Panics
    /// When planes come that are of another type than was said.
    pub fn stream(&self, input: Input, out: Region, extent: Extent, take: &mut dyn FnMut(AnyVolume)) {
        fn whole<S: Element, F: AnyElement>(
            gaussian: &Gaussian,
            input: Volume<S>,
            out: Region,
            extent: Extent,
            take: &mut dyn FnMut(AnyVolume),
        ) {
            let mut take = |planes| take(F::wrap(planes));
            gaussian.smooth(Planes::all(input), out, extent, Target::Passed(&mut take));
        }
        fn to_come<S: AnyElement, F: AnyElement>(
            gaussian: &Gaussian,
            next: &mut dyn FnMut(Range<usize>) -> AnyVolume,
            out: Region,
            extent: Extent,
            take: &mut dyn FnMut(AnyVolume),
        ) {
            let mut next = |planes| match S::take(next(planes)) {
                Some(planes) => planes,
                None => panic!("planes of {} were to come", S::DTYPE),
            };
            let mut take = |planes| take(F::wrap(planes));
            gaussian.smooth(Planes::to_come(&mut next), out, extent, Target::Passed(&mut take));
        }
        match input {
            input if self.halo() == [0; 3] => {
                let averaged = input.dtype().averaged();
                let mut input = input;
                slabs(out).for_each(|part| take(super::cast(input.planes(part), part, averaged)));
            }
            Input::Whole(AnyVolume::F64(v)) => whole::<f64, f64>(self, v, out, extent, take),
            Input::Whole(input) => with_volume!(input, v => whole::<_, f32>(self, v, out, extent, take)),
            Input::ToCome(Dtype::F64, next) => to_come::<f64, f64>(self, next, out, extent, take),
            Input::ToCome(dtype, next) => with_dtype!(dtype, S => to_come::<S, f32>(self, next, out, extent, take)),
        }
    }

    /// The most bytes of voxels alive at once in [`Gaussian::apply`], input, output and temporaries counted.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region) -> usize {
        if self.halo() == [0; 3] {
            return super::cast_peak_bytes(dtype, dtype.averaged(), input, out);
        }
        let temporary = Sizes::new(self, self.needed(input, out), out).bytes(dtype);
        input.voxels() * dtype.size() + out.voxels() * dtype.averaged().size() + temporary
    }

    /// The most bytes of voxels alive at once in [`Gaussian::stream`] beside an input that is whole, or beside what planes
    /// that are to come are made of: with those that have come and those that are being passed on. `input` is `out` grown
    /// by the halo and clipped.
    pub fn stream_peak_bytes(&self, dtype: Dtype, is_whole: bool, input: Region, out: Region) -> usize {
        let plane = |region: Region| region.shape()[1] * region.shape()[2];
        let depth = SLAB.min(out.shape()[0]);
        // Those under the windows, and beside them some that came together with them.
        let held = if is_whole { 0 } else { (depth + 2 * self.halo()[0] + 2 * SLAB).min(input.shape()[0]) };
        let temporary = Sizes::new(self, input, out).bytes(dtype);
        held * plane(input) * dtype.size() + depth * plane(out) * dtype.averaged().size() + temporary
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

    fn smooth<S: Element, F: AnyElement>(
        &self,
        mut from: Planes<S>,
        out: Region,
        extent: Extent,
        mut target: Target<F>,
    ) {
        let needed = out.grown(self.halo(), extent.shape);
        let width = needed.shape()[2];
        let sizes = Sizes::new(self, needed, out);
        let mut work = Work {
            plane: vec![F::default(); sizes.plane],
            strip: vec![Strip([0.0; LANES]); sizes.strip],
            line: vec![0.0; sizes.line],
        };
        let mut sums = vec![F::default(); sizes.slab];
        let pass = Pass { gaussian: self, needed, out, extent };
        for part in slabs(out) {
            let planes = part.start[0]..part.end[0];
            let window = part.grown([self.halo()[0], 0, 0], extent.shape);
            from.hold(window.start[0]..window.end[0]);
            let row = |z, y| &from.row(z, y, needed.start[2])[..width];
            target.fill(part, |to| {
                pass.slab(planes, row, &mut sums, &mut work, to);
                if S::DTYPE.is_float() {
                    equal_nans(to);
                }
            });
        }
    }
}

/// What a Gaussian reads.
pub enum Input<'a> {
    /// `out` grown by the halo and clipped to the image, or more.
    Whole(AnyVolume),
    /// Planes of this type that are made when they are needed: those at the bottom first, each once and a few at a time. They
    /// are as wide and high as `out` grown by the halo and clipped, or more.
    ToCome(Dtype, &'a mut dyn FnMut(Range<usize>) -> AnyVolume),
}

impl Input<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Input::Whole(input) => input.dtype(),
            Input::ToCome(dtype, _) => *dtype,
        }
    }

    /// The voxels of a part that is asked for for the first time, and maybe more.
    fn planes(&mut self, part: Region) -> AnyVolume {
        match self {
            Input::Whole(input) => input.cropped(part),
            Input::ToCome(_, next) => next(part.start[0]..part.end[0]),
        }
    }
}

/// `out` in slabs of a few planes, from the bottom up: as many as filters take at a time.
pub fn slabs(out: Region) -> impl Iterator<Item = Region> + Clone {
    (out.start[0]..out.end[0]).step_by(SLAB).map(move |first| {
        let [_, y, x] = out.start;
        let [_, y_end, x_end] = out.end;
        Region { start: [first, y, x], end: [(first + SLAB).min(out.end[0]), y_end, x_end] }
    })
}

/// Neighbouring columns that are summed side by side: their sums, four of AVX2's registers, hide the latency of the
/// additions, and the windows over them lie in the nearest cache.
const LANES: usize = 16;

/// Planes that are summed along z at a time. Each input plane under them is converted once; what a few planes take stays
/// in a cache that cores share.
const SLAB: usize = 16;

/// A row of a strip of columns, on cache lines of its own.
#[derive(Clone, Copy)]
#[repr(align(64))]
struct Strip([f64; LANES]);

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

    /// What they take where voxels of `dtype` are smoothed.
    fn bytes(&self, dtype: Dtype) -> usize {
        (self.slab + self.plane) * dtype.averaged().size()
            + self.strip * size_of::<Strip>()
            + self.line * size_of::<f64>()
    }
}

/// The buffers of one run over a block.
struct Work<F> {
    plane: Vec<F>,
    strip: Vec<Strip>,
    line: Vec<f64>,
}

/// What all passes over one block know.
struct Pass<'a> {
    gaussian: &'a Gaussian,
    needed: Region,
    out: Region,
    extent: Extent,
}

impl Pass<'_> {
    /// Sums along z, then y and x, for these planes of the result. `row` gives the needed part of a row of the input; `sums`
    /// are along z.
    fn slab<'r, S: Element, F: AnyElement>(
        &self,
        planes: Range<usize>,
        row: impl Fn(usize, usize) -> &'r [S],
        sums: &mut [F],
        work: &mut Work<F>,
        to: &mut [F],
    ) {
        let [_, height, width] = self.needed.shape();
        let [_, out_height, out_width] = self.out.shape();
        let first_row = self.needed.start[1];
        if self.gaussian.taps[0].is_empty() {
            for (z, to) in planes.zip(to.chunks_exact_mut(out_height * out_width)) {
                self.within_plane(|y| row(z, y), work, to);
            }
            return;
        }
        let mut sum_along_z = |sums: &mut [F]| {
            for y in 0..height {
                let rows = self.column_rows(0, planes.clone(), |z| row(z, first_row + y));
                self.down_columns(0, &rows, &mut work.strip, &mut sums[y * width..], height * width);
            }
        };
        if sums.is_empty() {
            // Nothing is summed along y and x.
            return sum_along_z(to);
        }
        sum_along_z(sums);
        for (from, to) in sums.chunks_exact(height * width).zip(to.chunks_exact_mut(out_height * out_width)) {
            self.within_plane(|y| &from[(y - first_row) * width..][..width], work, to);
        }
    }

    /// Sums along y, then x, from the needed rows of a plane, by their y, to those of the result.
    fn within_plane<'r, T: Element, F: AnyElement>(
        &self,
        row: impl Fn(usize) -> &'r [T],
        work: &mut Work<F>,
        to: &mut [F],
    ) {
        let width = self.needed.shape()[2];
        let ys = self.out.start[1]..self.out.end[1];
        if self.gaussian.taps[1].is_empty() {
            return self.along_rows(ys.map(row), &mut work.line, to);
        }
        let rows = self.column_rows(1, ys, row);
        if self.gaussian.taps[2].is_empty() {
            return self.down_columns(1, &rows, &mut work.strip, to, width);
        }
        self.down_columns(1, &rows, &mut work.strip, &mut work.plane, width);
        self.along_rows(work.plane.chunks_exact(width), &mut work.line, to);
    }

    /// The rows under the windows around `out` along an axis, `None` for those of the constant.
    fn column_rows<'r, T>(
        &self,
        axis: usize,
        out: Range<usize>,
        row: impl Fn(usize) -> &'r [T],
    ) -> Vec<Option<&'r [T]>> {
        let radius = self.gaussian.taps[axis].len() as isize / 2;
        let (boundary, n) = (self.gaussian.boundary, self.extent.shape[axis]);
        let under = out.start as isize - radius..out.end as isize + radius;
        under.map(|i| boundary.index(i, n).map(&row)).collect()
    }

    /// Sums down columns as wide as what is needed; the rows of the result lie `stride` apart.
    fn down_columns<T: Element, F: Element>(
        &self,
        axis: usize,
        rows: &[Option<&[T]>],
        strip: &mut [Strip],
        to: &mut [F],
        stride: usize,
    ) {
        let width = self.needed.shape()[2];
        let constant = self.gaussian.constant();
        let strip = &mut strip[..rows.len()];
        for x in (0..width).step_by(LANES) {
            let lanes = LANES.min(width - x);
            load_strip(rows, x, lanes, constant, strip);
            weigh_strip(strip, &self.gaussian.taps[axis], &mut to[x..], stride, lanes);
        }
    }

    /// Sums along x: each row is extended by the boundary, and summed with shifted copies of itself.
    fn along_rows<'r, T: Element, F: Element>(
        &self,
        rows: impl Iterator<Item = &'r [T]>,
        line: &mut [f64],
        to: &mut [F],
    ) {
        let taps = &self.gaussian.taps[2];
        let out_width = self.out.shape()[2];
        let first = self.out.start[2] as isize - (taps.len() / 2) as isize;
        let used = out_width + taps.len() - 1;
        let (boundary, n) = (self.gaussian.boundary, self.extent.shape[2]);
        for (row, to) in rows.zip(to.chunks_exact_mut(out_width)) {
            load_extended(row, self.needed.start[2], n, first, &mut line[..used], boundary);
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
    fn load_strip<S: Element>(rows: &[Option<&[S]>], x: usize, lanes: usize, constant: f64, strip: &mut [Strip]) {
        for (Strip(to), row) in strip.iter_mut().zip(rows) {
            let Some(row) = row else {
                to.fill(constant);
                continue;
            };
            let from = &row[x..][..lanes];
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
    fn weigh_strip<F: Element>(strip: &[Strip], taps: &[f64], to: &mut [F], stride: usize, lanes: usize) {
        let (weights, centre) = halves(taps);
        for (window, to) in strip.windows(taps.len()).zip(to.chunks_mut(stride)) {
            let (low, above) = window.split_at(weights.len());
            let Some((Strip(middle), high)) = above.split_first() else { return };
            let pairs = low.iter().zip(high.iter().rev()).map(|(low, high)| (&low.0, &high.0));
            round(weigh(middle, centre, pairs, weights), &mut to[..lanes]);
        }
    }

    /// The weighted sum of each window of a line that ends in as many lanes as there may be, some of them for nothing.
    fn weigh_line<F: Element>(line: &[f64], taps: &[f64], to: &mut [F]) {
        let (weights, centre) = halves(taps);
        for (x, to) in to.chunks_mut(LANES).enumerate() {
            let (low, above) = line[x * LANES..][..taps.len() - 1 + LANES].split_at(weights.len());
            let Some(middle) = above.first_chunk() else { return };
            // The windows of the voxels before the middle begin below it, and reach into it and beyond.
            let low = lanes(&line[x * LANES..][..low.len() + LANES - 1]);
            let high = lanes(&above[1..]).rev();
            round(weigh(middle, centre, low.zip(high), weights), to);
        }
    }
}

/// A symmetric kernel's weights up to its centre, and that of the centre.
#[inline(always)]
fn halves(taps: &[f64]) -> (&[f64], f64) {
    let radius = taps.len() / 2;
    (&taps[..radius], taps[radius])
}

/// All runs of as many values as there are lanes.
#[inline(always)]
fn lanes(line: &[f64]) -> impl DoubleEndedIterator<Item = &[f64; LANES]> + ExactSizeIterator {
    line.windows(LANES).map(|run| run.first_chunk().unwrap_or(&[0.0; LANES]))
}

/// Makes one NaN of all: which of two NaNs a sum gives is up to the processor, and to the compiler.
fn equal_nans<F: Element>(values: &mut [F]) {
    let nan = F::from_f64(f64::NAN);
    for value in values {
        *value = if value.to_f64().is_nan() { nan } else { *value };
    }
}

/// The weighted sums of windows that lie side by side: the centre first, then pairs of equal weight from the ends
/// inwards, which is scipy's order for symmetric kernels.
#[inline(always)]
fn weigh<'w>(
    middle: &[f64; LANES],
    centre: f64,
    pairs: impl Iterator<Item = (&'w [f64; LANES], &'w [f64; LANES])>,
    weights: &[f64],
) -> [f64; LANES] {
    let mut sums = [0.0; LANES];
    for i in 0..LANES {
        sums[i] = middle[i] * centre;
    }
    for ((low, high), weight) in pairs.zip(weights) {
        for i in 0..LANES {
            sums[i] += (low[i] + high[i]) * *weight;
        }
    }
    sums
}

/// Rounds sums to as many voxels as there are. All are rounded, wanted or not, and the last few of a row are a case of their
/// own that is out of sight: else the compiler keeps sums apart, or copies all of them by a call.
#[inline(always)]
fn round<F: Element>(sums: [f64; LANES], to: &mut [F]) {
    #[cold]
    #[inline(never)]
    fn few<F: Element>(rounded: &[F; LANES], to: &mut [F]) {
        to.copy_from_slice(&rounded[..to.len()]);
    }
    let mut rounded = [F::default(); LANES];
    for i in 0..LANES {
        rounded[i] = F::from_f64(sums[i]);
    }
    match to.first_chunk_mut() {
        Some(to) => *to = rounded,
        None => few(&rounded, to),
    }
}

#[cfg(test)]
mod tests;
