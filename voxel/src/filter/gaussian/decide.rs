//! Smoothing that need not be exact, because voxels are only to be compared with a number or two.
//!
//! A vector holds twice as many 32-bit floats as 64-bit ones, and their sums are as good wherever they lie farther from
//! the numbers than they can be wrong. The few voxels that lie nearer are smoothed again, exactly: what comes of the
//! comparison is the same, voxel by voxel. Where these would be many, all are smoothed exactly. (The idea is that of the
//! filters of exact geometry: Shewchuk 1997, Adaptive Precision Floating-Point Arithmetic and Fast Robust Geometric
//! Predicates.)

use super::reading::Reading;
use super::sums::{Doubles, Lanes, Singles};
use super::{Columns, Gaussian, Pass, Sizes, Sums};
use crate::simd::vectorised;
use crate::threshold::Cut;
use crate::{Dtype, Element, Region, Volume};

/// Half the distance from 1 to the next f32: the most that rounding changes a number, as a part of it.
const ROUNDING: f64 = 1.0 / (1 << 24) as f64;

/// What weights, values and their products may be beside 0: beyond it f32 loses digits.
const RANGE: std::ops::Range<f64> = 1e-34..1e34;

/// What a row that is read again costs, far from what was read before it, in products of a weight.
const COST_OF_ROW: usize = 150;

/// The part of what exact sums cost that smoothing again may cost: quick ones save less than half of it.
const AGAIN_MAX: f64 = 0.25;

/// What values there are.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Spread {
    /// The least magnitude beside 0, the largest for none.
    least: f32,
    /// The largest magnitude; infinite or NaN where one of them is.
    largest: f32,
    /// Whether one of them may be negative.
    is_signed: bool,
}

impl Spread {
    /// That of no values.
    pub(super) const NONE: Self = Self { least: f32::MAX, largest: 0.0, is_signed: false };

    /// That of all voxels of a volume, or more.
    pub(super) fn of<S: Element>(volume: &Volume<S>) -> Self {
        match S::DTYPE {
            Dtype::Bool => Self { least: 1.0, largest: 1.0, is_signed: false },
            Dtype::U8 => Self { least: 1.0, largest: 255.0, is_signed: false },
            _ => {
                let mut bits = [u32::MAX, 0, 0];
                add_bits(&volume.data, &mut bits);
                let [less_one, largest, signs] = bits;
                let least = less_one.checked_add(1).map_or(f32::MAX, f32::from_bits);
                Self { least, largest: f32::from_bits(largest), is_signed: signs >> 31 == 1 }
            }
        }
    }

    /// That of both.
    pub(super) fn and(self, other: Self) -> Self {
        Self {
            least: self.least.min(other.least),
            // NaN is larger than any number.
            largest: f32::from_bits(self.largest.to_bits().max(other.largest.to_bits())),
            is_signed: self.is_signed || other.is_signed,
        }
    }
}

vectorised! {
    /// The least magnitude but 0, less one, the largest, and all signs, as bits: those of magnitudes are in their order.
    fn add_bits<S: Element>(values: &[S], bits: &mut [u32; 3]) {
        let [mut least, mut largest, mut signs] = *bits;
        for value in values {
            let value = (value.to_f64() as f32).to_bits();
            let magnitude = value & !(1 << 31);
            // One less than 0 is more than any other.
            least = least.min(magnitude.wrapping_sub(1));
            largest = largest.max(magnitude);
            signs |= value;
        }
        *bits = [least, largest, signs];
    }

    /// Whether one of the values lies near to one of the numbers.
    fn any_near<F: Element>(values: &[F], numbers: [f32; 2], doubt: Doubt, found: &mut bool) {
        let mut near = 0;
        for value in values {
            near |= u32::from(is_near(value.to_f64() as f32, numbers, doubt));
        }
        *found = near != 0;
    }
}

/// Whether a value lies so near to one of the numbers that the exact one may be on its other side.
#[inline(always)]
fn is_near(value: f32, numbers: [f32; 2], doubt: Doubt) -> bool {
    let doubt = doubt.absolute + doubt.relative * value.abs();
    ((value - numbers[0]).abs() <= doubt) | ((value - numbers[1]).abs() <= doubt)
}

/// How far a value may be from the exact one.
#[derive(Clone, Copy, Debug)]
struct Doubt {
    /// So much,
    absolute: f32,
    /// and this part of it.
    relative: f32,
}

/// Smooths quickly where that decides.
pub(super) struct Quick {
    /// What values are compared with.
    numbers: [f64; 2],
    taps: [Vec<f32>; 3],
    /// The most a value is wrong, as a part of the weighted mean of magnitudes.
    error: f64,
    /// The least product of a weight of each axis.
    least_weight: f64,
    columns: Columns<Singles>,
    /// What smoothing one voxel again costs, in voxels that are smoothed exactly among others.
    cost_of_one: f64,
    is_given_up: bool,
}

impl Quick {
    /// For values that are only to be compared.
    pub(super) fn new(cut: Cut, gaussian: &Gaussian, sizes: &Sizes) -> Self {
        let radius = gaussian.halo();
        let rows = (2 * radius[0] + 1) * (2 * radius[1] + 1);
        let across = (2 * radius[2] + 1).next_multiple_of(Doubles::COUNT);
        let sums = (2 * radius[1] + 1) * across * (radius[0] + 1) + across * (radius[1] + 1);
        let among_others: usize = radius.iter().map(|radius| radius + 1).sum();
        Self {
            numbers: match cut {
                Cut::Above(number) | Cut::Below(number) => [number; 2],
                Cut::Between(low, high) => [low, high],
            },
            taps: [0, 1, 2].map(|axis| gaussian.taps[axis].iter().map(|weight| *weight as f32).collect()),
            error: error(gaussian),
            least_weight: gaussian.taps.iter().filter_map(|taps| taps.first()).product(),
            columns: Columns::new(sizes),
            cost_of_one: (rows * COST_OF_ROW + sums) as f64 / among_others as f64,
            is_given_up: false,
        }
    }

    /// Smooths the planes of `part`, if that decides all of its voxels; else `to` holds nothing of use. `row` gives a row of
    /// the input from an x on, and `spread` is of all that is read; `sums` and `exact` are the block's.
    pub(super) fn slab<'r, S: Element, F: Element>(
        &mut self,
        pass: &Pass,
        part: Region,
        row: impl Fn(usize, usize, usize) -> &'r [S],
        reading: impl Reading<S>,
        spread: Spread,
        sums: &mut Sums<F>,
        exact: &mut Columns<Doubles>,
        to: &mut [F],
    ) -> bool {
        if self.is_given_up {
            return false;
        }
        let Some(doubt) = self.doubt(spread, reading.error()) else { return false };
        let width = pass.needed.shape()[2];
        let needed = |z, y| &row(z, y, pass.needed.start[2])[..width];
        pass.slab(part.start[0]..part.end[0], needed, reading, &self.taps, sums, &mut self.columns, to);

        let affordable = (part.voxels() as f64 * AGAIN_MAX / self.cost_of_one) as usize;
        let Some(undecided) = self.undecided(to, doubt, affordable) else {
            self.is_given_up = true;
            return false;
        };
        let within = part.shape();
        for i in undecided {
            let at = [i / (within[1] * within[2]), i / within[2] % within[1], i % within[2]];
            let out = Region::new(std::array::from_fn(|axis| part.start[axis] + at[axis]), [1; 3]);
            // What it needs is a part of what the block needs, so that the block's buffers are long enough.
            let one = Pass { needed: out.grown(pass.gaussian.halo(), pass.extent.shape), out, ..*pass };
            let width = one.needed.shape()[2];
            let needed = |z, y| &row(z, y, one.needed.start[2])[..width];
            let voxel = std::slice::from_mut(&mut to[i]);
            one.slab(out.start[0]..out.end[0], needed, reading, &pass.gaussian.taps, sums, exact, voxel);
        }
        true
    }

    /// How far a value may be from the exact one, where values are such that this can be said. Each was wrong by `before`
    /// already when it was read.
    fn doubt(&self, spread: Spread, before: f64) -> Option<Doubt> {
        let products = f64::from(spread.least.min(1.0)) * self.least_weight..f64::from(spread.largest);
        if spread.largest.is_nan() || products.start < RANGE.start || products.end > RANGE.end {
            return None;
        }
        // A mean of such errors is none larger, but for what sums and these operations make of it.
        let before = (before * 1.01) as f32;
        Some(match spread.is_signed {
            true => Doubt { absolute: self.error as f32 * spread.largest + before, relative: 0.0 },
            // A mean of what is not negative is wrong by a part of itself.
            false => Doubt { absolute: before, relative: self.error as f32 },
        })
    }

    /// Where values are that decide nothing; `None` when there are more than so many.
    fn undecided<F: Element>(&self, values: &[F], doubt: Doubt, count_max: usize) -> Option<Vec<usize>> {
        const PIECE: usize = 1024;
        // A mean of what is not negative is 0 where all of it is, of which f32 is sure, if it was when that was read. Nothing is
        // near to NaN.
        let of_interest = |number: f64| doubt.absolute > 0.0 || number > 0.0;
        let numbers = self.numbers.map(|number| if of_interest(number) { number as f32 } else { f32::NAN });
        let mut found = Vec::new();
        for (i, piece) in values.chunks(PIECE).enumerate() {
            let mut any = false;
            any_near(piece, numbers, doubt, &mut any);
            if any {
                let near = (0..piece.len()).filter(|k| is_near(piece[*k].to_f64() as f32, numbers, doubt));
                found.extend(near.map(|k| i * PIECE + k));
            }
            if found.len() > count_max {
                return None;
            }
        }
        Some(found)
    }
}

/// The most that a value can be away from the exact one, as a part of the mean of magnitudes.
///
/// A term of a sum is rounded as a voxel, as a pair, as a weight and as their product, and with every pair that is added
/// after it; and the exact sum is rounded once. What the numbers that are compared with lose as f32 is counted, too, and
/// what these few operations lose themselves.
pub(super) fn error(gaussian: &Gaussian) -> f64 {
    let roundings: usize = gaussian.halo().iter().filter(|radius| **radius > 0).map(|radius| radius + 4).sum();
    (roundings + 1 + 2) as f64 * ROUNDING * 1.01
}
