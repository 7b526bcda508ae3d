//! Thresholds: any image to bool, compared exactly with the number as it was written.
//!
//! What is left to others: choosing the number (Otsu, a percentile), which [`histogram`](crate::histogram) does.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use crate::simd::vectorised;
use crate::{AnyVolume, Dtype, Element, Region, Volume, with_volume};

/// Which voxels are foreground.
///
/// Comparisons are those of real numbers: a 64-bit integer beyond 2^53 is not rounded before it is compared. NaN fails every
/// comparison. `invert` negates the *result* of the comparison, as `~(v > a)` does in numpy, so under it NaN is foreground.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Threshold {
    /// The comparison.
    pub cut: Cut,
    /// Whether foreground is where the comparison fails.
    pub invert: bool,
}

/// A comparison of a voxel `v` with numbers.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cut {
    /// `v > a`; +Inf passes for every finite `a`.
    Above(#[serde(with = "crate::number")] f64),
    /// `v < b`.
    Below(#[serde(with = "crate::number")] f64),
    /// `a <= v <= b`.
    Between(#[serde(with = "crate::number")] f64, #[serde(with = "crate::number")] f64),
}

/// Foreground of `input` inside `out`, a part of its region.
pub fn threshold(input: AnyVolume, out: Region, threshold: &Threshold) -> AnyVolume {
    with_volume!(input, v => AnyVolume::Bool(compared(v, out, threshold)))
}

/// Most bytes of voxels [`threshold`] holds at once, the input included.
pub fn peak_bytes(dtype: Dtype, input: Region, out: Region) -> usize {
    if in_place(dtype, input, out) {
        return out.voxels();
    }
    input.voxels() * dtype.size() + out.voxels() * Dtype::Bool.size()
}

/// Whether the answer takes the place of the input: where there is nothing to cut, and a voxel stays a byte.
fn in_place(dtype: Dtype, input: Region, out: Region) -> bool {
    dtype.size() == size_of::<bool>() && input == out
}

fn compared<T: Element>(input: Volume<T>, out: Region, threshold: &Threshold) -> Volume<bool> {
    let invert = threshold.invert;
    let Some((low, high)) = passing::<T>(threshold.cut) else {
        return Volume::new(out, vec![invert; out.voxels()]);
    };
    let data = match in_place(T::DTYPE, input.region, out) {
        // The standard library collects into the vector that it consumes.
        true => input.data.into_iter().map(move |v| is_between(v, low, high) != invert).collect(),
        false => {
            let mut data = vec![false; out.voxels()];
            let mut rest = &mut data[..];
            for run in input.runs(out) {
                let (here, after) = std::mem::take(&mut rest).split_at_mut(run.len());
                compare_run(run, low, high, invert, here);
                rest = after;
            }
            data
        }
    };
    Volume::new(out, data)
}

vectorised! {
    fn compare_run<T: Element>(run: &[T], low: T, high: T, invert: bool, passes: &mut [bool]) {
        for (v, passes) in run.iter().zip(passes) {
            *passes = is_between(*v, low, high) != invert;
        }
    }
}

/// Comparing with the ends themselves keeps NaN out: it fails both.
#[inline(always)]
fn is_between<T: Element>(v: T, low: T, high: T) -> bool {
    (low <= v) & (v <= high)
}

/// Least and greatest value of a type that pass the cut; `None` when none does.
///
/// The values that pass lie side by side in the order of keys, so both ends are found by bisection with exact comparisons,
/// whatever the type, once per block.
fn passing<T: Element>(cut: Cut) -> Option<(T, T)> {
    let infinite = |v: f64| T::from_f64(v).key();
    let (lowest, highest) = match T::DTYPE {
        Dtype::F32 | Dtype::F64 => (infinite(f64::NEG_INFINITY), infinite(f64::INFINITY)),
        _ => (0, infinite(f64::INFINITY)),
    };
    let (low, high) = match cut {
        Cut::Above(a) => (a, f64::INFINITY),
        Cut::Below(b) => (f64::NEG_INFINITY, b),
        Cut::Between(a, b) => (a, b),
    };
    if low.is_nan() || high.is_nan() {
        return None;
    }
    let reached = |key| match (cut, compare(T::from_key(key), low)) {
        (Cut::Above(_), order) => order.is_gt(),
        (_, order) => order.is_ge(),
    };
    let passed = |key| match (cut, compare(T::from_key(key), high)) {
        (Cut::Below(_), order) => order.is_ge(),
        (_, order) => order.is_gt(),
    };
    let first = first_key(lowest, highest, reached);
    // One past the last, so that no key goes below zero.
    let end = first_key(lowest, highest, passed);
    (first < end).then(|| (T::from_key(first as u64), T::from_key((end - 1) as u64)))
}

/// The least key in `lowest..=highest` for which `holds` is true, given that it stays true from there on; one past the last
/// when there is none.
fn first_key(lowest: u64, highest: u64, holds: impl Fn(u64) -> bool) -> u128 {
    let (mut from, mut to) = (u128::from(lowest), u128::from(highest) + 1);
    while from < to {
        let middle = (from + to) / 2;
        if holds(middle as u64) { to = middle } else { from = middle + 1 }
    }
    from
}

/// Compares two real numbers, neither of them NaN.
fn compare<T: Element>(v: T, number: f64) -> Ordering {
    let Some(integer) = v.to_i128() else {
        return v.to_f64().partial_cmp(&number).unwrap_or(Ordering::Equal);
    };
    // `as` saturates, far beyond 64 bits either way; what it cuts off decides only a tie.
    let whole = number.floor();
    integer.cmp(&(whole as i128)).then(if number > whole { Ordering::Less } else { Ordering::Equal })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// The slow, obvious twin: the comparison as a person would write it, integers against integers.
    fn slow<T: Element>(v: T, threshold: &Threshold) -> bool {
        let above = |a: f64| match v.to_i128() {
            _ if a.is_nan() => false,
            Some(v) if a.is_infinite() || a.abs() > 1e30 => f64::signum(a) < 0.0 || (v as f64) > a,
            Some(v) => v > a.floor() as i128,
            None => v.to_f64() > a,
        };
        let below = |b: f64| match v.to_i128() {
            _ if b.is_nan() => false,
            Some(v) if b.is_infinite() || b.abs() > 1e30 => f64::signum(b) > 0.0 || (v as f64) < b,
            Some(v) => v < b.ceil() as i128,
            None => v.to_f64() < b,
        };
        let nan = v.to_f64().is_nan();
        threshold.invert
            != match threshold.cut {
                Cut::Above(a) => above(a),
                Cut::Below(b) => below(b),
                Cut::Between(a, b) => !nan && !a.is_nan() && !b.is_nan() && !below(a) && !above(b),
            }
    }

    fn check<T: crate::AnyElement>(values: &[T], a: f64, b: f64)
    where
        AnyVolume: From<Volume<T>>,
    {
        let region = Region::new([3, 0, 1], [1, 1, values.len()]);
        for cut in [Cut::Above(a), Cut::Below(a), Cut::Between(a, b), Cut::Between(b, a)] {
            for invert in [false, true] {
                let rule = Threshold { cut, invert };
                let expected: Vec<bool> = values.iter().map(|v| slow(*v, &rule)).collect();
                let whole = threshold(Volume::new(region, values.to_vec()).into(), region, &rule);
                assert_eq!(whole, Volume::new(region, expected).into(), "{rule:?} {values:?}");
                let part = Region { start: [3, 0, 1 + values.len() / 3], ..region };
                let cut_out = threshold(Volume::new(region, values.to_vec()).into(), part, &rule);
                assert_eq!(cut_out, whole.cropped(part));
            }
        }
    }

    fn check_all(seeds: &[u64], a: f64, b: f64) {
        macro_rules! as_types {
            ($($t:ty)*) => {$( check(&seeds.iter().map(|s| *s as $t).collect::<Vec<_>>(), a, b); )*};
        }
        as_types!(u8 i8 u16 i16 u32 i32 u64 i64);
        check(&seeds.iter().map(|s| s % 2 == 1).collect::<Vec<_>>(), a, b);
        check(&seeds.iter().map(|s| f32::from_bits(*s as u32)).collect::<Vec<_>>(), a, b);
        check(&seeds.iter().map(|s| f64::from_bits(*s)).collect::<Vec<_>>(), a, b);
    }

    proptest! {
        #[test]
        fn equals_the_comparison_as_written(
            seeds in prop::collection::vec(prop_oneof![any::<u64>(), 0u64..4, (u64::MAX - 3)..], 1..20),
            a in prop_oneof![any::<f64>(), -3.0..300.0, Just(0.0), Just(-0.0), Just(1.0), Just(f64::NAN), Just(f64::INFINITY)],
            b in prop_oneof![any::<f64>(), -3.0..300.0, Just(2.0), Just(f64::NEG_INFINITY)],
        ) {
            check_all(&seeds, a, b);
            // Cuts at a voxel's own value, where an inexact comparison shows.
            check_all(&seeds, seeds[0] as f64, (seeds[0] as i64) as f64);
            check_all(&seeds, f64::from_bits(seeds[0]), f64::from(f32::from_bits(seeds[0] as u32)));
        }
    }

    fn foreground<T: crate::AnyElement>(values: &[T], cut: Cut, invert: bool) -> Vec<bool> {
        let region = Region::whole([1, 1, values.len()]);
        compared(Volume::new(region, values.to_vec()), region, &Threshold { cut, invert }).data
    }

    #[test]
    fn integers_beyond_2_to_the_53_are_not_rounded() {
        let edge = (1u64 << 53) + 1;
        assert_eq!(foreground(&[edge - 1, edge], Cut::Above(9007199254740992.0), false), [false, true]);
        assert_eq!(foreground(&[u64::MAX], Cut::Below(18446744073709551616.0), false), [true]);
        assert_eq!(foreground(&[i64::MIN, i64::MIN + 1], Cut::Above(-9223372036854775808.0), false), [false, true]);
    }

    #[test]
    fn nan_fails_every_comparison_and_invert_negates_the_result() {
        let values = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 0.1];
        // 0.1 as f32 is above 0.1 as f64.
        assert_eq!(foreground(&values, Cut::Above(0.1), false), [false, true, false, true]);
        assert_eq!(foreground(&values, Cut::Above(0.1), true), [true, false, true, false]);
        assert_eq!(
            foreground(&values, Cut::Between(f64::NEG_INFINITY, f64::INFINITY), false),
            [false, true, true, true]
        );
    }

    #[test]
    fn projects_its_memory() {
        let (input, out) = (Region::whole([4, 4, 4]), Region::whole([2, 2, 2]));
        assert_eq!(peak_bytes(Dtype::U16, input, out), 64 * 2 + 8);
        assert_eq!(peak_bytes(Dtype::U8, input, out), 64 + 8);
        assert_eq!(peak_bytes(Dtype::U8, input, input), 64);
    }
}
