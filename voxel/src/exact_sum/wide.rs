//! Integers of a few dozen limbs, and the one place where an exact integer becomes an `f64`.
//!
//! [`Wide`] is what accumulators are made of: fixed width, two's complement, carries always resolved, so that equal
//! sums are equal bytes. The free functions work on magnitudes (limbs of 64 bits, least significant first, any length)
//! and are called once per result, not once per voxel.

use std::cmp::Ordering;

/// A two's-complement integer of `N` limbs of 64 bits, least significant first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wide<const N: usize>(pub(super) [u64; N]);

impl<const N: usize> Wide<N> {
    pub(super) const ZERO: Self = Self([0; N]);

    /// Adds `parts * 2^(64 limb)`, or subtracts it when `negative`. `limb + K` may not exceed `N`.
    ///
    /// `a - x` is formed as `!(!a + x)`: the sign then is a mask instead of a branch that a noisy image would make the
    /// processor mispredict at every other voxel.
    #[inline(always)]
    pub(super) fn add_at<const K: usize>(&mut self, limb: usize, parts: [u64; K], negative: bool) {
        let mask = if negative { u64::MAX } else { 0 };
        let mut carry = false;
        for (held, part) in self.0[limb..limb + K].iter_mut().zip(parts) {
            let sum;
            (sum, carry) = (*held ^ mask).carrying_add(part, carry);
            *held = sum ^ mask;
        }
        for held in &mut self.0[limb + K..] {
            if !carry {
                break;
            }
            let sum;
            (sum, carry) = (*held ^ mask).overflowing_add(1);
            *held = sum ^ mask;
        }
    }

    /// Adds `v * 2^shift`, or subtracts it when `negative`. Reaches into three limbs from limb `shift / 64` on.
    #[inline(always)]
    pub(super) fn add_shifted(&mut self, v: u128, shift: usize, negative: bool) {
        let within = shift % 64;
        let [low, high] = halves(v);
        let [first, carried] = halves(u128::from(low) << within);
        let [second, third] = halves(u128::from(high) << within);
        self.add_at(shift / 64, [first, second | carried, third], negative);
    }

    /// Adds another integer of the same width.
    pub(super) fn merge(&mut self, other: &Self) {
        self.add_at(0, other.0, false);
    }

    /// Appends the limbs, little-endian.
    pub(super) fn encode(&self, out: &mut Vec<u8>) {
        out.extend(self.0.iter().flat_map(|limb| limb.to_le_bytes()));
    }

    /// Takes the limbs off the front of `bytes`.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let mut limbs = [0; N];
        for limb in &mut limbs {
            let (head, rest) = bytes.split_first_chunk()?;
            *limb = u64::from_le_bytes(*head);
            *bytes = rest;
        }
        Some(Self(limbs))
    }
}

/// An exact integer as sign and magnitude.
#[derive(Clone, Debug)]
pub(super) struct Signed {
    pub(super) negative: bool,
    pub(super) magnitude: Vec<u64>,
}

impl Signed {
    /// Reads two's-complement limbs.
    pub(super) fn from_twos_complement(limbs: &[u64]) -> Self {
        let negative = limbs.last().is_some_and(|top| top >> 63 == 1);
        let mut magnitude = limbs.to_vec();
        if negative {
            let mut carry = true;
            for limb in &mut magnitude {
                (*limb, carry) = (!*limb).overflowing_add(u64::from(carry));
            }
        }
        Self { negative, magnitude }
    }

    /// `a - b` of two magnitudes.
    pub(super) fn difference(a: &[u64], b: &[u64]) -> Self {
        let negative = compare(a, b) == Ordering::Less;
        let (more, less) = if negative { (b, a) } else { (a, b) };
        let mut borrow = false;
        let magnitude = (0..more.len())
            .map(|i| {
                let limb;
                (limb, borrow) = more[i].borrowing_sub(less.get(i).copied().unwrap_or(0), borrow);
                limb
            })
            .collect();
        Self { negative, magnitude }
    }

    /// The integer times `2^exponent`, rounded once to the nearest f64, ties to even; beyond the range, infinite.
    pub(super) fn to_f64(&self, exponent: i32) -> f64 {
        let bits = bit_length(&self.magnitude);
        if bits == 0 {
            return 0.0;
        }
        // The exponent of the last bit an f64 of this size keeps; -1074 is that of the subnormals.
        let last = (bits - 1 + exponent - 52).max(-1074);
        let drop = last - exponent;
        let mut mantissa =
            if drop <= 0 { self.magnitude[0] << -drop } else { bits_from(&self.magnitude, drop as usize) };
        if drop > 0 {
            let below = drop as usize - 1;
            let half = bits_from(&self.magnitude, below) & 1 == 1;
            let beyond_half = any_below(&self.magnitude, below);
            mantissa += u64::from(half && (beyond_half || mantissa & 1 == 1));
        }
        if last > 971 {
            return if self.negative { f64::NEG_INFINITY } else { f64::INFINITY };
        }
        // Adding, instead of masking, lets the leading bit raise the exponent field: from subnormal to normal, from
        // one binade to the next, and from the largest finite number to infinity.
        let magnitude = f64::from_bits((((last + 1074) as u64) << 52) + mantissa);
        if self.negative { -magnitude } else { magnitude }
    }

    /// The integer times `2^exponent`, rounded once to 53 bits, divided by `by`. The exponent is put back after the
    /// division, so that a numerator beyond the range of f64 does no harm to a quotient within it.
    pub(super) fn divided(&self, exponent: i32, by: f64) -> f64 {
        let above_one = bit_length(&self.magnitude) - 1;
        let mut quotient = self.to_f64(-above_one) / by;
        let mut remaining = exponent + above_one;
        while remaining != 0 && quotient != 0.0 && quotient.is_finite() {
            let step = remaining.clamp(-1022, 1023);
            quotient *= f64::from_bits(((step + 1023) as u64) << 52);
            remaining -= step;
        }
        quotient
    }
}

/// The product of two magnitudes.
pub(super) fn product(a: &[u64], b: &[u64]) -> Vec<u64> {
    let mut out = vec![0; a.len() + b.len()];
    for (i, &x) in a.iter().enumerate() {
        let mut carry = 0u64;
        for (j, &y) in b.iter().enumerate() {
            (out[i + j], carry) = x.carrying_mul_add(y, out[i + j], carry);
        }
        out[i + b.len()] = carry;
    }
    out
}

/// The two limbs of a 128-bit magnitude.
pub(super) fn halves(v: u128) -> [u64; 2] {
    [v as u64, (v >> 64) as u64]
}

fn compare(a: &[u64], b: &[u64]) -> Ordering {
    let limb = |v: &[u64], i: usize| v.get(i).copied().unwrap_or(0);
    (0..a.len().max(b.len())).rev().map(|i| limb(a, i).cmp(&limb(b, i))).find(|o| o.is_ne()).unwrap_or(Ordering::Equal)
}

/// Position of the highest set bit plus one; 0 for zero.
fn bit_length(magnitude: &[u64]) -> i32 {
    magnitude
        .iter()
        .rposition(|limb| *limb != 0)
        .map_or(0, |i| 64 * (i as i32 + 1) - magnitude[i].leading_zeros() as i32)
}

/// The 64 bits that start at bit `from`.
fn bits_from(magnitude: &[u64], from: usize) -> u64 {
    let limb = |i: usize| u128::from(magnitude.get(i).copied().unwrap_or(0));
    ((limb(from / 64) | limb(from / 64 + 1) << 64) >> (from % 64)) as u64
}

/// True when a bit below bit `end` is set.
fn any_below(magnitude: &[u64], end: usize) -> bool {
    let whole = magnitude.iter().take(end / 64).any(|limb| *limb != 0);
    whole || bits_from(magnitude, end / 64 * 64) & ((1 << (end % 64)) - 1) != 0
}
