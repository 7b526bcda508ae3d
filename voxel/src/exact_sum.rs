//! Exact sums: count, sum and sum of squares of voxels of any type, and the mean and variance they give.
//!
//! Nothing is rounded while adding, so partial results join in any order and grouping to the same bytes. Integers add up
//! in 128 bits and their squares in 192; floats go into a fixed-point number wide enough for every finite value of the type
//! (the long accumulator of U. Kulisch, "Computer Arithmetic and Validity", 2008), here as plain two's complement. Rounding
//! happens once per result, in [`Moments::sum`] and its like, with only the operations that IEEE 754 rounds exactly.
//!
//! What is left to others: which voxels belong to which object, and the sums of coordinates, which need no more than
//! 128 bits and only borrow [`covariance`].

use crate::{Dtype, Element};

mod by_exponent;
mod wide;

use by_exponent::{F32Entry, F64Entry};
use wide::{Signed, Wide, halves, product};

/// The three ways to add up: which one depends on the element type only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// bool and the integers.
    Integer,
    /// 32-bit floats.
    F32,
    /// 64-bit floats.
    F64,
}

impl Kind {
    /// The kind that adds values of `dtype`.
    pub fn of(dtype: Dtype) -> Self {
        match dtype {
            Dtype::F32 => Kind::F32,
            Dtype::F64 => Kind::F64,
            _ => Kind::Integer,
        }
    }

    /// The sum is an integer times two to this power, the sum of squares one times two to twice this power.
    fn exponent(self) -> i32 {
        match self {
            Kind::Integer => 0,
            Kind::F32 => -149,
            Kind::F64 => -1074,
        }
    }
}

/// Floats from which on settling a table by exponent is paid for by what it saves.
const FLOAT_RUN_MIN: usize = 1 << 10;

/// Sum in `S` limbs, sum of squares in `Q`. The widths hold 2^63 values of the largest magnitude.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Sums<const S: usize, const Q: usize> {
    sum: Wide<S>,
    squares: Wide<Q>,
}

type IntegerSums = Sums<2, 3>;
type F32Sums = Sums<6, 10>;
type F64Sums = Sums<34, 67>;

#[derive(Clone, Debug, PartialEq, Eq)]
enum Totals {
    Integer(IntegerSums),
    F32(F32Sums),
    F64(Box<F64Sums>),
}

/// Count, exact sum and exact sum of squares of the finite values added so far.
///
/// Values that are NaN or infinite are left out. Up to 2^63 values may be added. Two `Moments` of the same values are
/// equal, and encode to equal bytes, however the values were ordered, split and merged. One takes 144 bytes in memory, and
/// 808 more on the heap for 64-bit floats.
///
/// ```
/// use voxel::exact_sum::{Kind, Moments};
/// let mut moments = Moments::new(Kind::F64);
/// moments.add_run(&[1e100, 1.0, -1e100, f64::NAN]);
/// assert_eq!((moments.count(), moments.sum()), (3, 1.0));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moments {
    count: u64,
    totals: Totals,
}

impl Moments {
    /// The moments of no value at all.
    pub fn new(kind: Kind) -> Self {
        let totals = match kind {
            Kind::Integer => Totals::Integer(Sums::ZERO),
            Kind::F32 => Totals::F32(Sums::ZERO),
            Kind::F64 => Totals::F64(Box::new(Sums::ZERO)),
        };
        Self { count: 0, totals }
    }

    /// How these moments add up.
    pub fn kind(&self) -> Kind {
        match self.totals {
            Totals::Integer(_) => Kind::Integer,
            Totals::F32(_) => Kind::F32,
            Totals::F64(_) => Kind::F64,
        }
    }

    /// Number of finite values added.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Adds one value, if it is finite.
    ///
    /// # Panics
    ///
    /// When `T` is not of the kind these moments were made for.
    #[inline]
    pub fn add<T: Element>(&mut self, v: T) {
        match (&mut self.totals, v.to_i128()) {
            (Totals::Integer(sums), Some(v)) => sums.add(v),
            (Totals::F32(sums), None) if T::DTYPE == Dtype::F32 => {
                // Comes from an f32, so nothing is lost; the compiler drops both conversions.
                let Some(v) = Binary::of_f32(v.to_f64() as f32) else { return };
                sums.add_f32(v);
            }
            (Totals::F64(sums), None) if T::DTYPE == Dtype::F64 => {
                let Some(v) = Binary::of_f64(v.to_f64()) else { return };
                sums.add_f64(v);
            }
            _ => self.refuse(T::DTYPE),
        }
        self.count += 1;
    }

    /// Adds every finite value of a run; faster than one call of [`Moments::add`] for each.
    ///
    /// # Panics
    ///
    /// When `T` is not of the kind these moments were made for.
    pub fn add_run<T: Element>(&mut self, run: &[T]) {
        if T::DTYPE.is_float() && run.len() < FLOAT_RUN_MIN {
            run.iter().for_each(|v| self.add(*v));
        } else {
            self.add_runs(std::iter::once(run));
        }
    }

    /// Adds every finite value of many runs: the way for a whole block, whose rows may be short.
    ///
    /// # Panics
    ///
    /// When `T` is not of the kind these moments were made for.
    pub fn add_runs<'a, T: Element>(&mut self, runs: impl Iterator<Item = &'a [T]>) {
        match &mut self.totals {
            Totals::Integer(sums) if Kind::of(T::DTYPE) == Kind::Integer => {
                for run in runs {
                    sums.add_run(run);
                    self.count += run.len() as u64;
                }
            }
            Totals::F32(sums) if T::DTYPE == Dtype::F32 => {
                self.count += by_exponent::add::<F32Entry, _, _, _>(sums, runs)
            }
            Totals::F64(sums) if T::DTYPE == Dtype::F64 => {
                self.count += by_exponent::add::<F64Entry, _, _, _>(sums, runs)
            }
            _ => self.refuse(T::DTYPE),
        }
    }

    /// Adds an integer `times` times over.
    ///
    /// # Panics
    ///
    /// When these moments are not of [`Kind::Integer`].
    pub(crate) fn add_integer(&mut self, value: i128, times: u64) {
        let Totals::Integer(sums) = &mut self.totals else { self.refuse(Dtype::I64) };
        let magnitude = value.unsigned_abs() as u64;
        sums.sum.add_at(0, halves(u128::from(magnitude) * u128::from(times)), value < 0);
        let [low, high] = halves(u128::from(magnitude) * u128::from(magnitude));
        let (first, carry) = low.carrying_mul(times, 0);
        let (second, third) = high.carrying_mul(times, carry);
        sums.squares.add_at(0, [first, second, third], false);
        self.count += times;
    }

    /// Adds `count` integers by their sum and the sum of their squares.
    ///
    /// # Panics
    ///
    /// When these moments are not of [`Kind::Integer`].
    pub(crate) fn add_sums(&mut self, count: u64, sum: i128, squares: u128) {
        let Totals::Integer(sums) = &mut self.totals else { self.refuse(Dtype::I64) };
        sums.sum.add_at(0, halves(sum.unsigned_abs()), sum < 0);
        sums.squares.add_at(0, halves(squares), false);
        self.count += count;
    }

    #[cold]
    fn refuse(&self, dtype: Dtype) -> ! {
        panic!("{dtype} voxels can't be added to moments of kind {:?}", self.kind())
    }

    /// Takes in what `other` has added. Associative and commutative, with `Moments::new` of the same kind as identity.
    ///
    /// # Panics
    ///
    /// When the two are of different kinds.
    pub fn merge(&mut self, other: &Self) {
        match (&mut self.totals, &other.totals) {
            (Totals::Integer(a), Totals::Integer(b)) => a.merge(b),
            (Totals::F32(a), Totals::F32(b)) => a.merge(b),
            (Totals::F64(a), Totals::F64(b)) => a.merge(b),
            _ => panic!("moments of kind {:?} and {:?} can't be joined", self.kind(), other.kind()),
        }
        // Sums wrap, and so does the count: a damaged part that was decoded may give nonsense, but not a panic.
        self.count = self.count.wrapping_add(other.count);
    }

    /// The sum, rounded once to the nearest f64 (ties to even); infinite beyond its range, 0.0 for no values.
    pub fn sum(&self) -> f64 {
        if let Some(sum) = self.narrow_sum() {
            return sum as f64;
        }
        Signed::from_twos_complement(self.limbs().0).to_f64(self.kind().exponent())
    }

    /// The sum of integers where it is no wider, as for most objects: then it takes no memory to make numbers of it.
    fn narrow_sum(&self) -> Option<i64> {
        let Totals::Integer(IntegerSums { sum: Wide([sum, above]), .. }) = self.totals else { return None };
        let sum = sum.cast_signed();
        (above == (sum >> 63).cast_unsigned()).then_some(sum)
    }

    /// The mean: the exact sum, rounded once to 53 bits, divided by the count. `None` when nothing was added.
    pub fn mean(&self) -> Option<f64> {
        if let Some(sum) = self.narrow_sum().filter(|_| self.count > 0) {
            return Some(sum as f64 / self.count as f64);
        }
        let sum = Signed::from_twos_complement(self.limbs().0);
        (self.count > 0).then(|| sum.divided(self.kind().exponent(), self.count as f64))
    }

    /// The population variance: `n Sxx - Sx Sx`, formed exactly and rounded once to 53 bits, divided by `n n`. `None` when
    /// nothing was added.
    pub fn variance(&self) -> Option<f64> {
        if self.count == 0 {
            return None;
        }
        let (sum, squares) = self.limbs();
        if let Totals::Integer(IntegerSums { squares: Wide([squares, 0, 0]), .. }) = self.totals
            && let Some(sum) = self.narrow_sum()
        {
            let sum = sum.unsigned_abs();
            return Some(narrow_covariance(self.count, sum, sum, squares));
        }
        let sum = Signed::from_twos_complement(sum).magnitude;
        let spread = Signed::difference(&product(&[self.count], squares), &product(&sum, &sum));
        Some(spread.divided(2 * self.kind().exponent(), squared(self.count)))
    }

    /// The population standard deviation, the square root of [`Moments::variance`].
    pub fn std(&self) -> Option<f64> {
        self.variance().map(f64::sqrt)
    }

    /// Length of what [`Moments::encode`] appends: 48 bytes for integers, 136 for f32, 816 for f64.
    pub fn bytes(kind: Kind) -> usize {
        let (sum, squares) = match kind {
            Kind::Integer => IntegerSums::LIMBS,
            Kind::F32 => F32Sums::LIMBS,
            Kind::F64 => F64Sums::LIMBS,
        };
        size_of::<u64>() * (1 + sum + squares)
    }

    /// Appends [`Moments::bytes`] bytes: the count, the sum and the sum of squares, all little-endian.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.count.to_le_bytes());
        match &self.totals {
            Totals::Integer(sums) => sums.encode(out),
            Totals::F32(sums) => sums.encode(out),
            Totals::F64(sums) => sums.encode(out),
        }
    }

    /// Reads what [`Moments::encode`] wrote for that kind; `None` when the length is another.
    pub fn decode(kind: Kind, bytes: &[u8]) -> Option<Self> {
        let (count, mut rest) = bytes.split_first_chunk()?;
        let totals = match kind {
            Kind::Integer => Totals::Integer(Sums::decode(&mut rest)?),
            Kind::F32 => Totals::F32(Sums::decode(&mut rest)?),
            Kind::F64 => Totals::F64(Box::new(Sums::decode(&mut rest)?)),
        };
        rest.is_empty().then_some(Self { count: u64::from_le_bytes(*count), totals })
    }

    fn limbs(&self) -> (&[u64], &[u64]) {
        match &self.totals {
            Totals::Integer(sums) => (&sums.sum.0, &sums.squares.0),
            Totals::F32(sums) => (&sums.sum.0, &sums.squares.0),
            Totals::F64(sums) => (&sums.sum.0, &sums.squares.0),
        }
    }
}

/// The population covariance of `n` pairs of naturals: `n Sxy - Sx Sy`, formed exactly and rounded once to 53 bits, divided
/// by `n n`. NaN when `n` is 0.
///
/// `sx`, `sy` and `sxy` are the exact sums of x, of y and of their products.
///
/// ```
/// // (1, 4), (2, 6), (3, 8)
/// assert_eq!(voxel::exact_sum::covariance(3, 6, 18, 4 + 12 + 24), 4.0 / 3.0);
/// ```
pub fn covariance(n: u64, sx: u128, sy: u128, sxy: u128) -> f64 {
    if n == 0 {
        return f64::NAN;
    }
    if let (Ok(sx), Ok(sy), Ok(sxy)) = (sx.try_into(), sy.try_into(), sxy.try_into()) {
        return narrow_covariance(n, sx, sy, sxy);
    }
    let spread = Signed::difference(&product(&[n], &halves(sxy)), &product(&halves(sx), &halves(sy)));
    spread.divided(0, squared(n))
}

/// [`covariance`] of sums of 64 bits, which those of most objects are: their products need no memory of their own.
fn narrow_covariance(n: u64, sx: u64, sy: u64, sxy: u64) -> f64 {
    let product = |a: u64, b: u64| u128::from(a) * u128::from(b);
    let (positive, negative) = (product(n, sxy), product(sx, sy));
    let spread = positive.abs_diff(negative) as f64;
    (if positive < negative { -spread } else { spread }) / squared(n)
}

/// `n n`, rounded once.
fn squared(n: u64) -> f64 {
    (u128::from(n) * u128::from(n)) as f64
}

impl<const S: usize, const Q: usize> Sums<S, Q> {
    const ZERO: Self = Self { sum: Wide::ZERO, squares: Wide::ZERO };
    const LIMBS: (usize, usize) = (S, Q);

    fn merge(&mut self, other: &Self) {
        self.sum.merge(&other.sum);
        self.squares.merge(&other.squares);
    }

    fn encode(&self, out: &mut Vec<u8>) {
        self.sum.encode(out);
        self.squares.encode(out);
    }

    fn decode(bytes: &mut &[u8]) -> Option<Self> {
        Some(Self { sum: Wide::decode(bytes)?, squares: Wide::decode(bytes)? })
    }
}

impl IntegerSums {
    /// `v` is an integer of at most 64 bits, so its magnitude fits 64 too.
    #[inline(always)]
    fn add(&mut self, v: i128) {
        let magnitude = v.unsigned_abs() as u64;
        self.sum.add_at(0, [magnitude, 0], v < 0);
        self.squares.add_at(0, halves(u128::from(magnitude) * u128::from(magnitude)), false);
    }

    fn add_run<T: Element>(&mut self, run: &[T]) {
        // `to_i128` is never `None` here, and what `as` cuts off is sign extension.
        let integer = |v: &T| v.to_i128().unwrap_or(0);
        if T::BITS == 64 {
            let mut sum = 0i128;
            // The two limbs of each square, added up apart: neither can overflow in as many values as memory holds.
            let (mut low, mut high) = (0u128, 0u128);
            for v in run.iter().map(integer) {
                let magnitude = u128::from(v.unsigned_abs() as u64);
                let [first, second] = halves(magnitude * magnitude);
                sum += v;
                low += u128::from(first);
                high += u128::from(second);
            }
            self.sum.add_at(0, halves(sum.unsigned_abs()), sum < 0);
            self.squares.add_at(0, halves(low), false);
            self.squares.add_at(1, halves(high), false);
            return;
        }
        // 2^16 values keep the sum within 2^48; 16-bit ones keep the sum of squares there too.
        for part in run.chunks(1 << 16) {
            let sum: i64 = part.iter().map(|v| integer(v) as i64).sum();
            let magnitudes = part.iter().map(|v| (integer(v) as i64).unsigned_abs() as u32);
            let squares: u128 = if T::BITS <= 16 {
                magnitudes.map(|m| u64::from(m * m)).sum::<u64>().into()
            } else {
                magnitudes.map(|m| u128::from(u64::from(m) * u64::from(m))).sum()
            };
            self.sum.add_at(0, [sum.unsigned_abs(), 0], sum < 0);
            self.squares.add_at(0, halves(squares), false);
        }
    }
}

/// A finite float taken apart: `mantissa * 2^(shift + the exponent of its kind)`, negated when `negative`.
#[derive(Clone, Copy)]
struct Binary {
    negative: bool,
    mantissa: u64,
    shift: usize,
}

impl Binary {
    #[inline(always)]
    fn of_f32(v: f32) -> Option<Self> {
        let bits = v.to_bits();
        let exponent = (bits >> 23) & 0xff;
        let mantissa = (bits & 0x7f_ffff) | (u32::from(exponent != 0) << 23);
        (exponent != 0xff).then_some(Self {
            negative: bits >> 31 == 1,
            mantissa: mantissa.into(),
            shift: exponent.saturating_sub(1) as usize,
        })
    }

    #[inline(always)]
    fn of_f64(v: f64) -> Option<Self> {
        let bits = v.to_bits();
        let exponent = (bits >> 52) & 0x7ff;
        let mantissa = (bits & 0xf_ffff_ffff_ffff) | (u64::from(exponent != 0) << 52);
        (exponent != 0x7ff).then_some(Self {
            negative: bits >> 63 == 1,
            mantissa,
            shift: exponent.saturating_sub(1) as usize,
        })
    }
}

impl F32Sums {
    #[inline(always)]
    fn add_f32(&mut self, Binary { negative, mantissa, shift }: Binary) {
        self.sum.add_at(shift / 64, halves(u128::from(mantissa) << (shift % 64)), negative);
        let shift = 2 * shift;
        self.squares.add_at(shift / 64, halves(u128::from(mantissa * mantissa) << (shift % 64)), false);
    }
}

impl F64Sums {
    #[inline(always)]
    fn add_f64(&mut self, Binary { negative, mantissa, shift }: Binary) {
        self.sum.add_at(shift / 64, halves(u128::from(mantissa) << (shift % 64)), negative);
        self.squares.add_shifted(u128::from(mantissa) * u128::from(mantissa), 2 * shift, false);
    }
}

#[cfg(test)]
mod tests;
