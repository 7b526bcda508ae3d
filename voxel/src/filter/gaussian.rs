//! Gaussian smoothing: three one-dimensional weighted sums, along z, then y, then x.
//!
//! Every sum is formed in f64 in one fixed order, whatever the block, so that a voxel's value depends on its
//! neighbourhood alone. A few planes are summed along z at a time; of these each goes on along y and x while it lies in
//! the nearer caches, so that nothing the size of the block is kept but the block and the result. The lanes of the vector
//! unit run along x on all three axes: along z and y, strips of a few neighbouring columns are turned into f64, small
//! enough to stay in the nearest cache under the window that slides down them.
//!
//! Voxels that are only to be compared with a number are smoothed in f32 where that is sure enough (`decide`).
//!
//! Since planes go through a few at a time, they may come and go that way, too: [`Gaussian::stream`] never holds the whole
//! of what it reads or of what it gives.

mod decide;
mod planes;
mod reading;
mod sums;

use super::{Boundary, Rescale};
use crate::threshold::Cut;
use crate::{AnyElement, AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype, with_volume};
use decide::{Quick, Spread};
use planes::{Planes, Target};
use reading::{AsIs, Reading, Rescaled};
use serde::{Deserialize, Serialize};
use std::ops::Range;
use sums::{Doubles, Lanes, Singles};

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
            gaussian.smooth(Planes::all(input), AsIs, out, extent, None, Target::Whole(&mut smooth.data));
            F::wrap(smooth)
        }
        match input {
            AnyVolume::F64(v) => typed::<f64, f64>(self, v, out, extent),
            input => with_volume!(input, v => typed::<_, f32>(self, v, out, extent)),
        }
    }

    /// Smooths as [`Gaussian::apply`] does, where the result need never be whole, nor the input. `take` gets the planes of
    /// `out`, a few at a time and in order. Where they are only to be compared, with the numbers of a `cut`, it may be that
    /// nothing else is true of them: a value is on the side on which that of [`Gaussian::apply`] is, and near to it.
    ///
    /// # Panics
    /// When planes come that are of another type than was said.
    pub fn stream(&self, input: Input, out: Region, extent: Extent, cut: Option<Cut>, take: &mut dyn FnMut(AnyVolume)) {
        fn whole<S: Element, F: AnyElement>(
            gaussian: &Gaussian,
            input: Volume<S>,
            reading: impl Reading<S>,
            out: Region,
            extent: Extent,
            cut: Option<Cut>,
            take: &mut dyn FnMut(AnyVolume),
        ) {
            let mut take = |planes| take(F::wrap(planes));
            gaussian.smooth(Planes::all(input), reading, out, extent, cut, Target::Passed(&mut take));
        }
        fn to_come<S: AnyElement, F: AnyElement>(
            gaussian: &Gaussian,
            next: &mut dyn FnMut(Range<usize>) -> AnyVolume,
            out: Region,
            extent: Extent,
            cut: Option<Cut>,
            take: &mut dyn FnMut(AnyVolume),
        ) {
            let mut next = |planes| match S::take(next(planes)) {
                Some(planes) => planes,
                None => panic!("planes of {} were to come", S::DTYPE),
            };
            let mut take = |planes| take(F::wrap(planes));
            gaussian.smooth(Planes::to_come(&mut next), AsIs, out, extent, cut, Target::Passed(&mut take));
        }
        fn rescaled<S: Element>(
            gaussian: &Gaussian,
            input: Volume<S>,
            by: Rescale,
            out: Region,
            extent: Extent,
            cut: Option<Cut>,
            take: &mut dyn FnMut(AnyVolume),
        ) {
            whole::<S, f32>(gaussian, input, Rescaled::new::<S>(by), out, extent, cut, take);
        }
        match input {
            input if self.halo() == [0; 3] => {
                let averaged = input.dtype().averaged();
                let mut input = input;
                slabs(out).for_each(|part| take(super::cast(input.planes(part), part, averaged)));
            }
            Input::Whole(AnyVolume::F64(v)) => whole::<f64, f64>(self, v, AsIs, out, extent, cut, take),
            Input::Whole(input) => with_volume!(input, v => whole::<_, f32>(self, v, AsIs, out, extent, cut, take)),
            Input::Rescaled(AnyVolume::Bool(v), by) => rescaled(self, v, by, out, extent, cut, take),
            Input::Rescaled(AnyVolume::U8(v), by) => rescaled(self, v, by, out, extent, cut, take),
            Input::Rescaled(AnyVolume::I8(v), by) => rescaled(self, v, by, out, extent, cut, take),
            Input::Rescaled(AnyVolume::U16(v), by) => rescaled(self, v, by, out, extent, cut, take),
            Input::Rescaled(AnyVolume::I16(v), by) => rescaled(self, v, by, out, extent, cut, take),
            Input::Rescaled(input, by) => {
                let region = input.region();
                self.stream(Input::Whole(by.apply(input, region)), out, extent, cut, take);
            }
            Input::ToCome(Dtype::F64, next) => to_come::<f64, f64>(self, next, out, extent, cut, take),
            Input::ToCome(dtype, next) => {
                with_dtype!(dtype, S => to_come::<S, f32>(self, next, out, extent, cut, take))
            }
        }
    }

    /// Whether voxels of a type can be rescaled while they are read.
    pub fn rescales(dtype: Dtype) -> bool {
        Rescaled::reads(dtype)
    }

    /// The most bytes of voxels alive at once in [`Gaussian::apply`], input, output and temporaries counted.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region) -> usize {
        if self.halo() == [0; 3] {
            return super::cast_peak_bytes(dtype, dtype.averaged(), input, out);
        }
        let temporary = Sizes::new(self, self.needed(input, out), out).bytes(dtype.averaged());
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
        let sizes = Sizes::new(self, input, out);
        let temporary = sizes.bytes(dtype.averaged()) + sizes.column_bytes::<Singles>();
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
        reading: impl Reading<S>,
        out: Region,
        extent: Extent,
        cut: Option<Cut>,
        mut target: Target<F>,
    ) {
        let needed = out.grown(self.halo(), extent.shape);
        let width = needed.shape()[2];
        let pass = Pass { gaussian: self, needed, out, extent };
        let sizes = Sizes::new(self, needed, out);
        let mut sums = Sums::new(&sizes);
        let mut columns = Columns::<Doubles>::new(&sizes);
        let mut quick = cut.filter(|_| F::DTYPE == Dtype::F32).map(|cut| Quick::new(cut, self, &sizes));
        if quick.is_some() && reading.spread().is_none() {
            from.look_at_values();
        }
        let beyond = Spread::of(&Volume::new(Region::whole([1; 3]), vec![self.constant() as f32]));
        for part in slabs(out) {
            let planes = part.start[0]..part.end[0];
            let window = part.grown([self.halo()[0], 0, 0], extent.shape);
            from.hold(window.start[0]..window.end[0]);
            target.fill(part, |to| {
                let row = |z, y, x| from.row(z, y, x);
                let spread = reading.spread().unwrap_or_else(|| from.spread()).and(beyond);
                if let Some(quick) = &mut quick
                    && quick.slab(&pass, part, row, reading, spread, &mut sums, &mut columns, to)
                {
                    return;
                }
                let row = |z, y| &row(z, y, needed.start[2])[..width];
                pass.slab(planes, row, reading, &self.taps, &mut sums, &mut columns, to);
                if S::DTYPE.is_float() || reading.spread().is_some() {
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
    /// The same, to be rescaled first: voxels of at most 16 bits when they are read, so that they are never there as floats.
    Rescaled(AnyVolume, Rescale),
    /// Planes of this type that are made when they are needed: those at the bottom first, each once and a few at a time. They
    /// are as wide and high as `out` grown by the halo and clipped, or more.
    ToCome(Dtype, &'a mut dyn FnMut(Range<usize>) -> AnyVolume),
}

impl Input<'_> {
    fn dtype(&self) -> Dtype {
        match self {
            Input::Whole(input) => input.dtype(),
            Input::Rescaled(input, _) => input.dtype().averaged(),
            Input::ToCome(dtype, _) => *dtype,
        }
    }

    /// The voxels of a part that is asked for for the first time, and maybe more.
    fn planes(&mut self, part: Region) -> AnyVolume {
        match self {
            Input::Whole(input) => input.cropped(part),
            Input::Rescaled(input, by) => by.apply(input.cropped(part), part),
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
    /// Voxels of a row that is summed along x, and how many lie beyond its ends.
    row: [usize; 2],
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
            row: if x { [out_width, 2 * gaussian.halo()[2]] } else { [0; 2] },
        }
    }

    /// A row and what lies beyond it, up to as many lanes as there may be.
    fn line<L: Lanes>(&self) -> usize {
        self.row[0].next_multiple_of(L::COUNT) + self.row[1]
    }

    fn column_bytes<L: Lanes>(&self) -> usize {
        self.strip * size_of::<L>() + self.line::<L>() * size_of::<L::Number>()
    }

    /// What they take for exact results of this type.
    fn bytes(&self, result: Dtype) -> usize {
        (self.slab + self.plane) * result.size() + self.column_bytes::<Doubles>()
    }
}

/// Sums along one axis or two.
struct Sums<F> {
    slab: Vec<F>,
    plane: Vec<F>,
}

impl<F: Element> Sums<F> {
    fn new(sizes: &Sizes) -> Self {
        Self { slab: vec![F::default(); sizes.slab], plane: vec![F::default(); sizes.plane] }
    }
}

/// What sums are formed from: a few columns side by side, or a row.
struct Columns<L: Lanes> {
    strip: Vec<L>,
    line: Vec<L::Number>,
}

impl<L: Lanes> Columns<L> {
    fn new(sizes: &Sizes) -> Self {
        Self { strip: vec![L::ZERO; sizes.strip], line: vec![L::Number::default(); sizes.line::<L>()] }
    }
}

/// What all passes over one block know.
#[derive(Clone, Copy)]
struct Pass<'a> {
    gaussian: &'a Gaussian,
    needed: Region,
    out: Region,
    extent: Extent,
}

impl Pass<'_> {
    /// Sums along z, then y and x, for these planes of the result. `row` gives the needed part of a row of the input; `taps`
    /// are those of the Gaussian, as the sums' numbers.
    fn slab<'r, L: Lanes, S: Element, F: Element>(
        &self,
        planes: Range<usize>,
        row: impl Fn(usize, usize) -> &'r [S],
        reading: impl Reading<S>,
        taps: &[Vec<L::Number>; 3],
        sums: &mut Sums<F>,
        columns: &mut Columns<L>,
        to: &mut [F],
    ) {
        let [_, height, width] = self.needed.shape();
        let [_, out_height, out_width] = self.out.shape();
        let first_row = self.needed.start[1];
        let Sums { slab, plane } = sums;
        if taps[0].is_empty() {
            for (z, to) in planes.zip(to.chunks_exact_mut(out_height * out_width)) {
                self.within_plane(|y| row(z, y), reading, taps, plane, columns, to);
            }
            return;
        }
        let under = self.under(0, planes.clone());
        let mut rows = Vec::with_capacity(under.len());
        let mut sum_along_z = |sums: &mut [F]| {
            for y in 0..height {
                rows.clear();
                rows.extend(under.iter().map(|z| z.map(|z| row(z, first_row + y))));
                self.down_columns(&rows, reading, &taps[0], &mut columns.strip, &mut sums[y * width..], height * width);
            }
        };
        if slab.is_empty() {
            // Nothing is summed along y and x.
            return sum_along_z(to);
        }
        sum_along_z(slab);
        for (from, to) in slab.chunks_exact(height * width).zip(to.chunks_exact_mut(out_height * out_width)) {
            self.within_plane(|y| &from[(y - first_row) * width..][..width], AsIs, taps, plane, columns, to);
        }
    }

    /// Sums along y, then x, from the needed rows of a plane, by their y, to those of the result.
    fn within_plane<'r, L: Lanes, S: Element, F: Element>(
        &self,
        row: impl Fn(usize) -> &'r [S],
        reading: impl Reading<S>,
        taps: &[Vec<L::Number>; 3],
        plane: &mut [F],
        columns: &mut Columns<L>,
        to: &mut [F],
    ) {
        let Columns { strip, line } = columns;
        let width = self.needed.shape()[2];
        let ys = self.out.start[1]..self.out.end[1];
        if taps[1].is_empty() {
            return self.along_rows::<L, _, _>(ys.map(row), reading, &taps[2], line, to);
        }
        let rows: Vec<_> = self.under(1, ys).into_iter().map(|y| y.map(&row)).collect();
        if taps[2].is_empty() {
            return self.down_columns(&rows, reading, &taps[1], strip, to, width);
        }
        self.down_columns(&rows, reading, &taps[1], strip, plane, width);
        self.along_rows::<L, _, _>(plane.chunks_exact(width), AsIs, &taps[2], line, to);
    }

    /// What lies under the windows around `out` along an axis, by its place in the image; `None` for the constant.
    fn under(&self, axis: usize, out: Range<usize>) -> Vec<Option<usize>> {
        let radius = self.gaussian.taps[axis].len() as isize / 2;
        let (boundary, n) = (self.gaussian.boundary, self.extent.shape[axis]);
        (out.start as isize - radius..out.end as isize + radius).map(|i| boundary.index(i, n)).collect()
    }

    /// Sums down columns as wide as what is needed; the rows of the result lie `stride` apart.
    fn down_columns<L: Lanes, S: Element, F: Element>(
        &self,
        rows: &[Option<&[S]>],
        reading: impl Reading<S>,
        taps: &[L::Number],
        strip: &mut [L],
        to: &mut [F],
        stride: usize,
    ) {
        let width = self.needed.shape()[2];
        let constant = L::number(self.gaussian.constant(), AsIs);
        let strip = &mut strip[..rows.len()];
        for x in (0..width).step_by(L::COUNT) {
            let lanes = L::COUNT.min(width - x);
            sums::load_strip(rows, reading, x, lanes, constant, strip);
            sums::weigh_strip(strip, taps, &mut to[x..], stride, lanes);
        }
    }

    /// Sums along x: each row is extended by the boundary, and summed with shifted copies of itself.
    fn along_rows<'r, L: Lanes, S: Element, F: Element>(
        &self,
        rows: impl Iterator<Item = &'r [S]>,
        reading: impl Reading<S>,
        taps: &[L::Number],
        line: &mut [L::Number],
        to: &mut [F],
    ) {
        let out_width = self.out.shape()[2];
        let first = self.out.start[2] as isize - (taps.len() / 2) as isize;
        let used = out_width + taps.len() - 1;
        let (boundary, n) = (self.gaussian.boundary, self.extent.shape[2]);
        let constant = L::number(self.gaussian.constant(), AsIs);
        for (row, to) in rows.zip(to.chunks_exact_mut(out_width)) {
            sums::load_extended::<L, S, _>(
                row,
                reading,
                self.needed.start[2],
                n,
                first,
                &mut line[..used],
                boundary,
                constant,
            );
            sums::weigh_line::<L, F>(line, taps, to);
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

/// Makes one NaN of all: which of two NaNs a sum gives is up to the processor, and to the compiler.
fn equal_nans<F: Element>(values: &mut [F]) {
    let nan = F::from_f64(f64::NAN);
    for value in values {
        *value = if value.to_f64().is_nan() { nan } else { *value };
    }
}

#[cfg(test)]
mod tests;
