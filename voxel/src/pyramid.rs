//! The levels of a pyramid: an image of half as many voxels along some axes, made of the next finer one.
//!
//! Grey values become the mean of the voxels they cover, labels and masks every other voxel, since a number between two
//! labels is a third. Which axes are halved, and how often, is the caller's.

use std::ops::Add;

use serde::{Deserialize, Serialize};

use crate::simd::vectorised;
use crate::{AnyElement, AnyVolume, Dtype, Element, Extent, Region, Volume, with_volume};

/// What becomes of the voxels that one voxel of the coarser level covers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reduce {
    /// Their mean: for grey values.
    Mean,
    /// The first of them: for labels and masks.
    Stride,
}

impl Reduce {
    /// One word for it: what image metadata calls the type of a pyramid.
    pub fn name(self) -> &'static str {
        match self {
            Self::Mean => "mean",
            Self::Stride => "stride",
        }
    }
}

/// One step of a pyramid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Halving {
    /// Voxels along z, y, x that become one: 1 or 2 each.
    pub factors: [usize; 3],
    /// How.
    pub by: Reduce,
}

impl Halving {
    /// The coarser image: odd lengths round up, so that no voxel is left out.
    pub fn coarser(&self, finer: Extent) -> Extent {
        Extent { shape: std::array::from_fn(|a| finer.shape[a].div_ceil(self.factors[a])), ..finer }
    }

    /// The voxels of the finer image that `out`, a box of the coarser one, is made of.
    pub fn source(&self, out: Region, finer: Extent) -> Region {
        Region {
            start: std::array::from_fn(|a| out.start[a] * self.factors[a]),
            end: std::array::from_fn(|a| (out.end[a] * self.factors[a]).min(finer.shape[a])),
        }
    }

    /// The voxels of `out`, a box of the coarser image. `input` covers at least [`Halving::source`] of it; the type stays.
    ///
    /// The mean is that of the voxels that exist: at the end of an odd axis there is one where elsewhere are two. Of
    /// integers it is exact, 64-bit ones too, and rounds half to even. Floats are added in f64, in this order: pairs along
    /// x first, then the rows as they lie; divided, and rounded once. NaN and infinities spread by plain arithmetic.
    /// Bool is never averaged.
    pub fn apply(&self, input: AnyVolume, out: Region, finer: Extent) -> AnyVolume {
        if self.factors == [1; 3] {
            return input.into_cropped(out);
        }
        macro_rules! averaged_unless_bool {
            ($($variant:ident)*) => {
                match (self.by, input) {
                    (Reduce::Stride, input) => with_volume!(input, v => self.strided(&v, out)),
                    (Reduce::Mean, AnyVolume::Bool(v)) => self.strided(&v, out),
                    $((Reduce::Mean, AnyVolume::$variant(v)) => self.averaged(&v, out, finer).into(),)*
                }
            };
        }
        averaged_unless_bool!(U8 I8 U16 I16 U32 I32 U64 I64 F32 F64)
    }

    /// The most bytes of voxels alive at once in [`Halving::apply`], input and output counted.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region) -> usize {
        let read = input.voxels() * dtype.size();
        if self.factors == [1; 3] && input == out { read } else { read + out.voxels() * dtype.size() }
    }

    fn strided<T: AnyElement>(&self, input: &Volume<T>, out: Region) -> AnyVolume {
        let [fz, fy, fx] = self.factors;
        let mut output = Volume::zeros(out);
        let first = out.start[2] * fx - input.region.start[2];
        for z in out.start[0]..out.end[0] {
            for y in out.start[1]..out.end[1] {
                let row = &input.row(z * fz, y * fy)[first..];
                let to = output.row_mut(z, y);
                match fx {
                    1 => to.copy_from_slice(&row[..to.len()]),
                    _ => to.iter_mut().zip(row.iter().step_by(fx)).for_each(|(to, from)| *to = *from),
                }
            }
        }
        T::wrap(output)
    }

    fn averaged<T: Averaged>(&self, input: &Volume<T>, out: Region, finer: Extent) -> Volume<T> {
        let source = self.source(out, finer);
        let columns = source.start[2] - input.region.start[2]..source.end[2] - input.region.start[2];
        let pairs = self.factors[2] == 2;
        // The last column of an odd axis has no partner.
        let single = pairs && columns.len() % 2 == 1;
        let covered = |axis: usize, i: usize| {
            let from = i * self.factors[axis];
            from..(from + self.factors[axis]).min(finer.shape[axis])
        };
        let mut output = Volume::zeros(out);
        let mut sums = vec![T::Sum::default(); out.shape()[2]];
        for z in out.start[0]..out.end[0] {
            for y in out.start[1]..out.end[1] {
                let (planes, rows) = (covered(0, z), covered(1, y));
                // One or two of each: the number of voxels is a power of two.
                let shift = (planes.len() / 2 + rows.len() / 2) as u32;
                let mut begun = false;
                for plane in planes {
                    for row in rows.clone() {
                        let row = &input.row(plane, row)[columns.clone()];
                        let (sums, last) = sums.split_at_mut(row.len() / if pairs { 2 } else { 1 });
                        match (pairs, begun) {
                            (true, false) => begin_pairs(sums, row),
                            (true, true) => add_pairs(sums, row),
                            (false, false) => begin(sums, row),
                            (false, true) => add(sums, row),
                        }
                        if let (true, [last], [.., v]) = (single, last, row) {
                            *last = if begun { *last + v.widened() } else { v.widened() };
                        }
                        begun = true;
                    }
                }
                let to = output.row_mut(z, y);
                let whole = to.len() - usize::from(single);
                divide(&mut to[..whole], &sums[..whole], shift + u32::from(pairs));
                divide(&mut to[whole..], &sums[whole..], shift);
            }
        }
        output
    }
}

vectorised! {
    fn begin_pairs<T: Averaged>(sums: &mut [T::Sum], row: &[T]) {
        for (sum, [a, b]) in sums.iter_mut().zip(row.as_chunks().0) {
            *sum = a.widened() + b.widened();
        }
    }

    fn add_pairs<T: Averaged>(sums: &mut [T::Sum], row: &[T]) {
        for (sum, [a, b]) in sums.iter_mut().zip(row.as_chunks().0) {
            *sum = *sum + (a.widened() + b.widened());
        }
    }

    fn begin<T: Averaged>(sums: &mut [T::Sum], row: &[T]) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum = v.widened();
        }
    }

    fn add<T: Averaged>(sums: &mut [T::Sum], row: &[T]) {
        for (sum, v) in sums.iter_mut().zip(row) {
            *sum = *sum + v.widened();
        }
    }

    fn divide<T: Averaged>(to: &mut [T], sums: &[T::Sum], shift: u32) {
        for (to, sum) in to.iter_mut().zip(sums) {
            *to = T::mean(*sum, shift);
        }
    }
}

/// An element of which up to eight can be added without loss, or, for floats, in f64.
trait Averaged: AnyElement {
    type Sum: Copy + Default + Add<Output = Self::Sum>;

    fn widened(self) -> Self::Sum;

    /// The sum of 2^`shift` values, divided by as many.
    fn mean(sum: Self::Sum, shift: u32) -> Self;
}

macro_rules! integers {
    ($($t:ty, $sum:ty;)*) => {$(
        impl Averaged for $t {
            type Sum = $sum;
            #[inline(always)]
            fn widened(self) -> $sum {
                <$sum>::from(self)
            }
            #[inline(always)]
            fn mean(sum: $sum, shift: u32) -> Self {
                // Just under a half is added, and the rest of a half where the quotient is odd. A shift of 0 adds nothing.
                let (half, odd) = ((1 << shift) >> 1, (sum >> shift) & 1);
                let up = if shift == 0 { 0 } else { half - 1 + odd };
                ((sum + up) >> shift) as $t
            }
        }
    )*};
}
integers! { u8, i32; i8, i32; u16, i32; i16, i32; u32, i64; i32, i64; u64, i128; i64, i128; }

macro_rules! floats {
    ($($t:ty)*) => {$(
        impl Averaged for $t {
            type Sum = f64;
            #[inline(always)]
            fn widened(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn mean(sum: f64, shift: u32) -> Self {
                <$t as Element>::from_f64(sum / f64::from(1u32 << shift))
            }
        }
    )*};
}
floats! { f32 f64 }

#[cfg(test)]
mod tests {
    use super::*;
    use crate::filter::testing::{any_of, random_volume, sub_boxes};
    use crate::simd::tests::on_each_level;

    fn every_halving() -> impl Iterator<Item = Halving> {
        let of = |by| (0..8).map(move |bits| Halving { factors: [0, 1, 2].map(|a| 1 + (bits >> a & 1)), by });
        of(Reduce::Mean).chain(of(Reduce::Stride))
    }

    /// The slow twin: voxel by voxel, integers in i128 with the rounding spelled out.
    fn twin<T: AnyElement>(halving: Halving, input: &Volume<T>, out: Region, finer: Extent) -> Volume<T> {
        let mut output = Volume::zeros(out);
        for at in voxels(out) {
            let covered = halving.source(Region::new(at, [1; 3]), finer);
            let values: Vec<T> = voxels(covered).map(|at| input.data[input.offset(at)]).collect();
            let offset = output.offset(at);
            output.data[offset] = match halving.by {
                Reduce::Mean if T::DTYPE.is_integer() => {
                    let sum: i128 = values.iter().filter_map(|v| v.to_i128()).sum();
                    let n = values.len() as i128;
                    let (quotient, rest) = (sum.div_euclid(n), sum.rem_euclid(n));
                    let up = rest * 2 > n || rest * 2 == n && quotient % 2 != 0;
                    let smallest = T::from_key(0).to_i128().unwrap_or_default();
                    T::from_key((quotient + i128::from(up) - smallest) as u64)
                }
                Reduce::Mean if T::DTYPE.is_float() => {
                    let pairs = values.chunks(covered.shape()[2]).map(|x| x.iter().map(|v| v.to_f64()).sum::<f64>());
                    T::from_f64(pairs.sum::<f64>() / values.len() as f64)
                }
                _ => values[0],
            };
        }
        output
    }

    fn voxels(region: Region) -> impl Iterator<Item = [usize; 3]> {
        let within = Extent { shape: region.shape(), planar: false };
        (0..region.voxels() as u64).map(move |i| {
            let at = within.at(i);
            std::array::from_fn(|a| region.start[a] + at[a])
        })
    }

    #[test]
    fn every_type_and_halving_agrees_with_the_slow_twin() {
        for shape in [[5, 7, 19], [4, 6, 8], [1, 1, 1], [3, 1, 16], [2, 5, 1]] {
            let finer = Extent { shape, planar: false };
            for dtype in Dtype::ALL {
                let image = random_volume(dtype, finer.region(), 5);
                for halving in every_halving() {
                    let coarser = halving.coarser(finer);
                    for out in sub_boxes(coarser.shape, 4).into_iter().chain([coarser.region()]) {
                        // What lies around the source must not matter.
                        let covering = image.cropped(halving.source(out, finer).grown([1, 0, 1], shape));
                        let expected = with_volume!(&image, v => AnyVolume::from(twin(halving, v, out, finer)));
                        let made = halving.apply(covering.clone(), out, finer);
                        assert_eq!(made, expected, "{dtype} {halving:?} {out:?} of {shape:?}");
                        assert_eq!(on_each_level(|| halving.apply(covering.clone(), out, finer)), expected);
                    }
                }
            }
        }
    }

    #[test]
    fn means_round_half_to_even_and_hold_the_extremes() {
        let mean = |v: AnyVolume| {
            let halving = Halving { factors: [1, 1, 2], by: Reduce::Mean };
            let finer = Extent { shape: v.region().shape(), planar: false };
            halving.apply(v, halving.coarser(finer).region(), finer).to_le_bytes()
        };
        let bytes = |v: AnyVolume| v.to_le_bytes();
        let row = |n| [1, 1, n];
        assert_eq!(mean(any_of(row(7), vec![0u8, 1, 1, 2, 255, 255, 9])), [0, 2, 255, 9]);
        assert_eq!(mean(any_of(row(4), vec![-1i8, 0, -2, -1])), [0, -2i8 as u8]);
        let wide = vec![u64::MAX, u64::MAX, u64::MAX, u64::MAX - 1, 1 << 63, 0];
        assert_eq!(mean(any_of(row(6), wide)), bytes(any_of(row(3), vec![u64::MAX, u64::MAX - 1, 1 << 62])));
        assert_eq!(mean(any_of(row(2), vec![i64::MIN; 2])), bytes(any_of(row(1), vec![i64::MIN])));
        // Nothing is added to a zero: its sign stays. NaN spreads to the one voxel that covers it.
        let odd = vec![-0.0f32, -0.0, f32::NAN, 1.0, f32::MAX, f32::MAX, f32::INFINITY];
        let expected = vec![-0.0f32, f32::NAN, f32::MAX, f32::INFINITY];
        assert_eq!(mean(any_of(row(7), odd)), bytes(any_of(row(4), expected)));
        assert_eq!(mean(any_of(row(3), vec![false, true, true])), [0, 1]);
    }

    #[test]
    fn every_voxel_of_the_finer_image_is_covered_once() {
        let finer = Extent { shape: [5, 1, 8], planar: false };
        for halving in every_halving() {
            let coarser = halving.coarser(finer).region();
            let covered: usize =
                voxels(coarser).map(|at| halving.source(Region::new(at, [1; 3]), finer).voxels()).sum();
            assert_eq!(covered, finer.region().voxels());
            assert_eq!(halving.source(coarser, finer), finer.region());
        }
    }
}
