#![allow(clippy::unwrap_used)]

use super::*;
use proptest::prelude::*;

/// The slow, obvious twin: naturals in base 10^9, least significant digit first.
#[derive(Clone, Debug, PartialEq)]
struct Natural(Vec<u32>);

const BASE: u64 = 1_000_000_000;

impl Natural {
    fn new(v: u128) -> Self {
        let mut digits = Vec::new();
        let mut rest = v;
        while rest > 0 {
            digits.push((rest % u128::from(BASE)) as u32);
            rest /= u128::from(BASE);
        }
        Self(digits)
    }

    fn power(base: u128, exponent: usize) -> Self {
        if exponent == 0 {
            return Self::new(1);
        }
        let half = Self::power(base, exponent / 2);
        let square = half.times(&half);
        if exponent % 2 == 1 { square.times(&Self::new(base)) } else { square }
    }

    fn times(&self, other: &Self) -> Self {
        let mut out = vec![0u64; self.0.len() + other.0.len() + 1];
        for (i, a) in self.0.iter().enumerate() {
            for (j, b) in other.0.iter().enumerate() {
                out[i + j] += u64::from(*a) * u64::from(*b);
                out[i + j + 1] += out[i + j] / BASE;
                out[i + j] %= BASE;
            }
        }
        Self(out.into_iter().map(|d| u32::try_from(d).unwrap()).collect()).trimmed()
    }

    fn plus(&self, other: &Self) -> Self {
        let mut carry = 0;
        let digit = |v: &Self, i: usize| u64::from(v.0.get(i).copied().unwrap_or(0));
        let mut out = Vec::new();
        for i in 0..=self.0.len().max(other.0.len()) {
            carry += digit(self, i) + digit(other, i);
            out.push((carry % BASE) as u32);
            carry /= BASE;
        }
        Self(out).trimmed()
    }

    /// `self - other`, and whether it came out negative.
    fn minus(&self, other: &Self) -> (bool, Self) {
        let less = |a: &Self, b: &Self| {
            (a.0.len(), a.0.iter().rev().collect::<Vec<_>>()) < (b.0.len(), b.0.iter().rev().collect())
        };
        if less(self, other) {
            return (true, other.minus(self).1);
        }
        let mut borrow = 0;
        let mut out = Vec::new();
        for i in 0..self.0.len() {
            let digit = i64::from(self.0[i]) - i64::from(other.0.get(i).copied().unwrap_or(0)) - borrow;
            borrow = i64::from(digit < 0);
            out.push((digit + borrow * BASE as i64) as u32);
        }
        (false, Self(out).trimmed())
    }

    fn trimmed(mut self) -> Self {
        while self.0.last() == Some(&0) {
            self.0.pop();
        }
        self
    }

    /// The number times 2^-below, correctly rounded: the standard library's decimal parser is the judge of rounding.
    fn to_f64(&self, below: usize) -> f64 {
        let digits = self.times(&Self::power(5, below));
        let text: String = digits.0.iter().rev().map(|d| format!("{d:09}")).collect();
        format!("0{text}e-{below}").parse().unwrap()
    }
}

/// Sum and sum of squares of values given as (negative, mantissa, shift), the slow way.
struct Slow {
    count: u64,
    plus: Natural,
    minus: Natural,
    squares: Natural,
}

impl Slow {
    fn of(values: impl Iterator<Item = (bool, u64, usize)>) -> Self {
        let zero = Natural::new(0);
        let mut out = Self { count: 0, plus: zero.clone(), minus: zero.clone(), squares: zero };
        for (negative, mantissa, shift) in values {
            let v = Natural::new(mantissa.into()).times(&Natural::power(2, shift));
            let side = if negative { &mut out.minus } else { &mut out.plus };
            *side = side.plus(&v);
            out.squares = out.squares.plus(&v.times(&v));
            out.count += 1;
        }
        out
    }

    fn sum(&self, below: usize) -> f64 {
        let (negative, sum) = self.plus.minus(&self.minus);
        let sum = sum.to_f64(below);
        if negative { -sum } else { sum }
    }

    fn variance(&self, below: usize) -> f64 {
        let (_, sum) = self.plus.minus(&self.minus);
        let (negative, spread) = self.squares.times(&Natural::new(self.count.into())).minus(&sum.times(&sum));
        assert!(!negative);
        spread.to_f64(2 * below) / (u128::from(self.count).pow(2) as f64)
    }
}

/// The value of a float by arithmetic alone: how often 2 divides into it.
fn taken_apart(v: f64, below: usize) -> (bool, u64, usize) {
    let (mut magnitude, mut shift) = (v.abs(), below as i32);
    while magnitude != 0.0 && magnitude >= 2f64.powi(53) {
        magnitude /= 2.0;
        shift += 1;
    }
    while shift > 0 && magnitude.fract() != 0.0 {
        magnitude *= 2.0;
        shift -= 1;
    }
    assert_eq!(magnitude.fract(), 0.0);
    (v.is_sign_negative(), magnitude as u64, shift as usize)
}

fn moments_of<T: Element>(values: &[T]) -> Moments {
    let mut moments = Moments::new(Kind::of(T::DTYPE));
    values.iter().for_each(|v| moments.add(*v));
    moments
}

fn encoded(moments: &Moments) -> Vec<u8> {
    let mut bytes = Vec::new();
    moments.encode(&mut bytes);
    assert_eq!(bytes.len(), Moments::bytes(moments.kind()));
    bytes
}

/// Every law at once: equal to the twin, any split and order, runs, bytes there and back.
fn check<T: Element>(values: &[T], cut: usize) {
    let kind = Kind::of(T::DTYPE);
    let below = -kind.exponent() as usize;
    let whole = moments_of(values);
    let finite: Vec<T> = values.iter().copied().filter(|v| v.is_finite()).collect();
    let slow = Slow::of(finite.iter().map(|v| match v.to_i128() {
        Some(v) => (v < 0, v.unsigned_abs() as u64, 0),
        None => taken_apart(v.to_f64(), below),
    }));
    assert_eq!(whole.count(), slow.count);
    assert_eq!(whole.sum(), slow.sum(below), "{values:?}");
    if slow.count == 0 {
        assert_eq!((whole.mean(), whole.variance(), whole.std()), (None, None, None));
    } else {
        let (mean, variance) = (slow.sum(below) / slow.count as f64, slow.variance(below));
        if mean.is_finite() {
            assert_eq!(whole.mean(), Some(mean), "{values:?}");
        }
        if variance.is_finite() && variance >= f64::MIN_POSITIVE * 2f64.powi(140) {
            assert_eq!(whole.variance(), Some(variance), "{values:?}");
            assert_eq!(whole.std(), Some(variance.sqrt()));
        }
    }

    let mut run = Moments::new(kind);
    run.add_run(values);
    assert_eq!(encoded(&run), encoded(&whole));
    let mut runs = Moments::new(kind);
    runs.add_runs(values.chunks(3));
    assert_eq!(encoded(&runs), encoded(&whole));
    let (head, tail) = values.split_at(cut % (values.len() + 1));
    for (first, second) in [(head, tail), (tail, head)] {
        let mut joined = moments_of(first);
        joined.merge(&moments_of(second));
        joined.merge(&Moments::new(kind));
        assert_eq!(encoded(&joined), encoded(&whole));
    }
    assert_eq!(Moments::decode(kind, &encoded(&whole)).as_ref(), Some(&whole));
    assert_eq!(Moments::decode(kind, &encoded(&whole)[1..]), None);
    let mut longer = encoded(&whole);
    longer.push(0);
    assert_eq!(Moments::decode(kind, &longer), None);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn integers_of_every_width(values: Vec<(i64, u64, i32, u8, bool)>, cut: usize) {
        check(&values.iter().map(|v| v.0).collect::<Vec<_>>(), cut);
        check(&values.iter().map(|v| v.1).collect::<Vec<_>>(), cut);
        check(&values.iter().map(|v| v.2).collect::<Vec<_>>(), cut);
        check(&values.iter().map(|v| v.2 as u32).collect::<Vec<_>>(), cut);
        check(&values.iter().map(|v| v.2 as i16).collect::<Vec<_>>(), cut);
        check(&values.iter().map(|v| v.2 as u16).collect::<Vec<_>>(), cut);
        check(&values.iter().map(|v| v.3 as i8).collect::<Vec<_>>(), cut);
        check(&values.iter().map(|v| v.3).collect::<Vec<_>>(), cut);
        check(&values.iter().map(|v| v.4).collect::<Vec<_>>(), cut);
    }

    /// Any bit pattern: subnormals, NaN, infinities, and magnitudes that never meet.
    #[test]
    fn f32_of_any_bits(bits in prop::collection::vec(any::<u32>(), 0..20), cut: usize) {
        check(&bits.into_iter().map(f32::from_bits).collect::<Vec<_>>(), cut);
    }

    #[test]
    fn f64_of_any_bits(bits in prop::collection::vec(any::<u64>(), 0..8), cut: usize) {
        check(&bits.into_iter().map(f64::from_bits).collect::<Vec<_>>(), cut);
    }

    /// Magnitudes that do meet, so that sums cancel and round at every bit.
    #[test]
    fn floats_that_cancel(values in prop::collection::vec((-40i32..40, -3i32..3), 0..30), cut: usize) {
        let floats: Vec<f64> = values.iter().map(|(m, e)| f64::from(*m) * 10f64.powi(*e)).collect();
        check(&floats, cut);
        check(&floats.iter().map(|v| *v as f32).collect::<Vec<_>>(), cut);
    }

    #[test]
    fn covariance_is_exact(pairs in prop::collection::vec((any::<u64>(), any::<u64>()), 1..20), less in 3..64u32) {
        let less = |v: u64| u128::from(v >> less);
        let sum = |f: fn(u128, u128) -> u128| pairs.iter().map(|(x, y)| f(less(*x), less(*y))).sum::<u128>();
        let (n, sx, sy, sxy) = (pairs.len() as u64, sum(|x, _| x), sum(|_, y| y), sum(|x, y| x * y));
        let wide = |v: u128| Natural::new(v);
        let (negative, spread) = wide(n.into()).times(&wide(sxy)).minus(&wide(sx).times(&wide(sy)));
        let expected = spread.to_f64(0) / (n * n) as f64;
        assert_eq!(covariance(n, sx, sy, sxy), if negative { -expected } else { expected });
    }
}

#[test]
fn the_ends_of_the_range() {
    check::<f64>(&[], 0);
    check(&[-0.0f64], 0);
    check(&[5e-324, 5e-324, f64::MIN_POSITIVE, -5e-324], 1);
    check(&[f64::MAX, f64::MAX, f64::MIN], 2);
    check(&[f64::MAX, f64::MAX], 1);
    check(&[1e308, 1.0, -1e308, 1e-300, f64::NAN, f64::INFINITY, f64::NEG_INFINITY], 3);
    check(&[f32::MAX, f32::MIN_POSITIVE, 1e-45, -1e-45, -0.0, f32::MIN, f32::NAN], 3);
    check(&[i64::MIN, i64::MIN, i64::MAX, -1], 2);
    check(&[u64::MAX, u64::MAX, 0], 2);
    // A sum that rounds to even, up and down, and one that a third value pushes over the tie.
    check(&[9007199254740992.0, 1.0], 1);
    check(&[9007199254740994.0, 1.0], 1);
    check(&[9007199254740992.0, 1.0, 1e-300], 1);
}

#[test]
fn mean_and_variance_survive_a_sum_beyond_the_range() {
    assert_eq!(moments_of(&[1e308, 1e308]).sum(), f64::INFINITY);
    assert_eq!(moments_of(&[1e308, 1e308]).mean(), Some(1e308));
    assert_eq!(moments_of(&[1.25e154, 0.0, 1.25e154, 0.0]).std(), Some(0.625e154));
    assert_eq!(moments_of(&[3e-160, 1e-160]).variance().map(|v| v > 0.99e-320 && v < 1.01e-320), Some(true));
}

#[test]
fn the_largest_totals_fit() {
    let mut most = Moments::new(Kind::F32);
    most.add(f32::MAX);
    for _ in 0..62 {
        let half = most.clone();
        most.merge(&half);
    }
    assert_eq!(most.mean(), Some(f64::from(f32::MAX)));
    assert_eq!(most.variance(), Some(0.0));
    let mut most = Moments::new(Kind::F64);
    most.add(f64::MIN);
    for _ in 0..62 {
        let half = most.clone();
        most.merge(&half);
    }
    assert_eq!(most.mean(), Some(f64::MIN));
    assert_eq!(most.variance(), Some(0.0));
    for value in [i128::from(u64::MAX), i128::from(i64::MIN)] {
        let mut most = Moments::new(Kind::Integer);
        most.add_integer(value, 1 << 63);
        assert_eq!(most.mean(), Some(value as f64));
        assert_eq!(most.variance(), Some(0.0));
    }
}

#[test]
fn repeated_integers_equal_single_ones() {
    let mut repeated = Moments::new(Kind::Integer);
    let mut single = Moments::new(Kind::Integer);
    for (value, times) in [(-3i64, 5u64), (i64::MIN, 2), (0, 7), (1 << 40, 3)] {
        repeated.add_integer(value.into(), times);
        (0..times).for_each(|_| single.add(value));
    }
    assert_eq!(repeated, single);
}

#[test]
fn long_runs_stay_exact() {
    let values = vec![i32::MIN; 3 << 16];
    let mut run = Moments::new(Kind::Integer);
    run.add_run(&values);
    let mut expected = Moments::new(Kind::Integer);
    expected.add_integer(i32::MIN.into(), 3 << 16);
    assert_eq!(run, expected);
    let mut run = Moments::new(Kind::Integer);
    run.add_run(&vec![i16::MIN; 3 << 16]);
    assert_eq!(run.mean(), Some(f64::from(i16::MIN)));
    assert_eq!(run.variance(), Some(0.0));
}

#[test]
fn tables_by_exponent_settle_before_they_overflow() {
    let pairs = 3 << 16;
    let mut run = Moments::new(Kind::F32);
    run.add_run(&[f32::MAX, -1.5].repeat(pairs));
    let mut single = moments_of(&[f32::MAX, -1.5]);
    for _ in 0..16 {
        let half = single.clone();
        single.merge(&half);
    }
    let third = single.clone();
    single.merge(&third);
    single.merge(&third);
    assert_eq!(run, single);
    let mut run = Moments::new(Kind::F64);
    run.add_runs([1e300f64.next_down(); 1 << 10].chunks(1).cycle().take((1 << 22) + (1 << 20)));
    assert_eq!((run.mean(), run.variance()), (Some(1e300f64.next_down()), Some(0.0)));
}

#[test]
fn moments_stay_small() {
    assert_eq!(size_of::<Moments>(), 144);
}
