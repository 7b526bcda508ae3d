//! Long runs of floats: mantissas are first added up apart for each sign and exponent, in plain integers.
//!
//! One value then costs two additions into a table that fits the cache, instead of carries through a long accumulator.
//! Settling the table costs as much as some hundred single values.

use crate::Element;

use super::Sums;

/// What the table holds for one sign and exponent of a float format.
pub(super) trait Entry: Copy + Default {
    /// Width of the format's exponent field.
    const EXPONENT_BITS: u32;
    /// Width of the format's mantissa field, without the implicit bit.
    const MANTISSA_BITS: u32;
    /// Values after which a sum of squared mantissas may have filled its width.
    const PENDING_MAX: usize;
    /// Copies of the table, which neighbouring values go to in turn: those of an image have few exponents, and an
    /// addition waits for the one before in the same place. As many as the nearest caches hold.
    const LANES: usize;

    /// The bits of a value of the format, given as f64.
    fn bits(v: f64) -> u64;
    fn add(&mut self, mantissa: u64);
    /// Takes in another entry of the same sign and exponent.
    fn merge(&mut self, other: Self);
    /// Sum of the mantissas, sum of their squares.
    fn sums(self) -> [u128; 2];
}

/// Squares have 48 bits.
#[derive(Clone, Copy, Default)]
pub(super) struct F32Entry {
    sum: u64,
    squares: u64,
}

impl Entry for F32Entry {
    const EXPONENT_BITS: u32 = 8;
    const MANTISSA_BITS: u32 = 23;
    const PENDING_MAX: usize = 1 << 16;
    const LANES: usize = 4;

    #[inline(always)]
    fn bits(v: f64) -> u64 {
        // Comes from an f32, so nothing is lost; the compiler drops both conversions.
        (v as f32).to_bits().into()
    }

    #[inline(always)]
    fn add(&mut self, mantissa: u64) {
        self.sum += mantissa;
        self.squares += mantissa * mantissa;
    }

    fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn sums(self) -> [u128; 2] {
        [self.sum.into(), self.squares.into()]
    }
}

/// Squares have 106 bits.
#[derive(Clone, Copy, Default)]
pub(super) struct F64Entry {
    sum: u128,
    squares: u128,
}

impl Entry for F64Entry {
    const EXPONENT_BITS: u32 = 11;
    const MANTISSA_BITS: u32 = 52;
    const PENDING_MAX: usize = 1 << 22;
    const LANES: usize = 1;

    #[inline(always)]
    fn bits(v: f64) -> u64 {
        v.to_bits()
    }

    #[inline(always)]
    fn add(&mut self, mantissa: u64) {
        self.sum += u128::from(mantissa);
        self.squares += u128::from(mantissa) * u128::from(mantissa);
    }

    fn merge(&mut self, other: Self) {
        self.sum += other.sum;
        self.squares += other.squares;
    }

    fn sums(self) -> [u128; 2] {
        [self.sum, self.squares]
    }
}

/// Adds the finite values of `runs` to the sums of their format; gives their number.
pub(super) fn add<'a, E: Entry, T: Element, const S: usize, const Q: usize>(
    sums: &mut Sums<S, Q>,
    runs: impl Iterator<Item = &'a [T]>,
) -> u64 {
    let mut tables = vec![E::default(); E::LANES * entries::<E>()];
    let (mut pending, mut count) = (0, 0);
    for part in runs.flat_map(|run| run.chunks(E::PENDING_MAX)) {
        if pending + part.len() > E::PENDING_MAX {
            settle(sums, &mut tables);
            pending = 0;
        }
        pending += part.len();
        for values in part.chunks(E::LANES) {
            for (v, table) in values.iter().zip(tables.chunks_exact_mut(entries::<E>())) {
                let bits = E::bits(v.to_f64());
                let index = (bits >> E::MANTISSA_BITS) as usize;
                let normal = index & exponent_max::<E>() != 0;
                let mantissa = bits & ((1 << E::MANTISSA_BITS) - 1) | u64::from(normal) << E::MANTISSA_BITS;
                table[index].add(mantissa);
            }
        }
        count += part.iter().filter(|v| v.is_finite()).count() as u64;
    }
    settle(sums, &mut tables);
    count
}

/// Signs and exponents.
const fn entries<E: Entry>() -> usize {
    2 << E::EXPONENT_BITS
}

/// The exponent field of NaN and the infinities.
const fn exponent_max<E: Entry>() -> usize {
    (1 << E::EXPONENT_BITS) - 1
}

/// Moves the tables, which are indexed by sign and exponent, into the sums. What NaN and the infinities left is dropped.
fn settle<E: Entry, const S: usize, const Q: usize>(sums: &mut Sums<S, Q>, tables: &mut [E]) {
    let (table, others) = tables.split_at_mut(entries::<E>());
    for other in others.chunks_exact_mut(entries::<E>()) {
        for (entry, other) in table.iter_mut().zip(other) {
            entry.merge(std::mem::take(other));
        }
    }
    for (index, entry) in table.iter_mut().enumerate() {
        let exponent = index & exponent_max::<E>();
        let [sum, squares] = std::mem::take(entry).sums();
        if exponent != exponent_max::<E>() && squares != 0 {
            let shift = exponent.saturating_sub(1);
            sums.sum.add_shifted(sum, shift, index >> E::EXPONENT_BITS == 1);
            sums.squares.add_shifted(squares, 2 * shift, false);
        }
    }
}
