//! Conversion between element types.

use crate::simd::vectorised;
use crate::{AnyElement, AnyVolume, Dtype, Element, Region, Volume, with_dtype, with_volume};

/// The voxels of `out`, which lie in `input`, as `dtype`.
///
/// To an integer: floats round half to even, whatever is out of range saturates, NaN gives 0. Between integers the value
/// is kept exactly or saturates, 64-bit values too. To bool: `v != 0`, but NaN gives false. From bool: 0 or 1. To a
/// float: the nearest value; f64 beyond f32's range gives an infinity.
pub fn cast(input: AnyVolume, out: Region, dtype: Dtype) -> AnyVolume {
    if input.dtype() == dtype {
        return input.into_cropped(out);
    }
    with_volume!(input, v => with_dtype!(dtype, T => T::wrap(converted::<_, T>(v, out))))
}

/// The most bytes of voxels alive at once in [`cast`], input and output counted; nothing is copied where neither the
/// type nor the box changes.
pub fn cast_peak_bytes(from: Dtype, to: Dtype, input: Region, out: Region) -> usize {
    let read = input.voxels() * from.size();
    if from == to && input == out { read } else { read + out.voxels() * to.size() }
}

/// The voxels of `out` as another type, or as they are where the types agree.
pub(super) fn converted<S: Element, T: AnyElement>(input: Volume<S>, out: Region) -> Volume<T> {
    // A volume of the wanted type is handed on without a copy.
    let mut input = input;
    if let Some(same) = (&mut input as &mut dyn std::any::Any).downcast_mut::<Volume<T>>() {
        return std::mem::replace(same, Volume::zeros(Region::whole([0; 3]))).into_cropped(out);
    }
    let mut output = Volume::zeros(out);
    let skipped = out.start[2] - input.region.start[2];
    for z in out.start[0]..out.end[0] {
        for y in out.start[1]..out.end[1] {
            convert_row(&input.row(z, y)[skipped..], output.row_mut(z, y));
        }
    }
    output
}

vectorised! {
    fn convert_row<S: Element, T: Element>(from: &[S], to: &mut [T]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = convert(*from);
        }
    }
}

/// One value as another type. f64 holds every value of every type but the 64-bit integers, which go their own ways.
#[inline(always)]
fn convert<S: Element, T: Element>(v: S) -> T {
    match v.to_i128() {
        Some(v) if S::BITS == 64 && T::DTYPE.is_integer() => saturated(v),
        Some(v) if S::BITS == 64 && T::DTYPE == Dtype::F32 => T::from_f64(to_f64_odd(v)),
        // There and back is exact.
        _ if S::DTYPE == Dtype::F32 => T::from_f32(v.to_f64() as f32),
        _ => T::from_f64(v.to_f64()),
    }
}

/// The integer type's value nearest to `v`.
#[inline(always)]
fn saturated<T: Element>(v: i128) -> T {
    // Keys of an integer type count up from its smallest value, so that a value is its distance from the smallest.
    let smallest = T::from_key(0).to_i128().unwrap_or_default();
    let largest = i128::from(u64::MAX >> (64 - T::BITS));
    T::from_key((v - smallest).clamp(0, largest) as u64)
}

/// A 64-bit integer as f64, such that rounding on to f32 gives what rounding once would: where bits are lost the last
/// one kept is made odd (Boldo and Melquiond 2008). Numbers below 2^53 are exact.
#[inline(always)]
fn to_f64_odd(v: i128) -> f64 {
    let magnitude = v.unsigned_abs() as u64;
    let lost = magnitude & 0x7ff;
    let odd = if magnitude >> 53 == 0 || lost == 0 { magnitude } else { (magnitude >> 11 | 1) << 11 };
    if v < 0 { -(odd as f64) } else { odd as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any_of, random_volume, sub_boxes};
    use super::*;

    fn cast_values<S: AnyElement, T: AnyElement>(values: Vec<S>) -> Vec<T> {
        let input: AnyVolume = any_of([1, 1, values.len()], values);
        let region = input.region();
        let output = cast(input, region, T::DTYPE);
        let wanted = T::wrap(Volume::zeros(region));
        assert_eq!(output.dtype(), wanted.dtype());
        T::from_ne(output.to_le_bytes().into())
    }

    #[test]
    fn floats_round_half_to_even_saturate_and_lose_nan() {
        let floats = vec![0.5f32, 1.5, 2.5, -0.5, -1.0, 300.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY];
        assert_eq!(cast_values::<_, u8>(floats.clone()), [0, 2, 2, 0, 0, 255, 0, 255, 0]);
        assert_eq!(cast_values::<_, i64>(floats.clone()), [0, 2, 2, 0, -1, 300, 0, i64::MAX, i64::MIN]);
        assert_eq!(cast_values::<_, bool>(floats), [true, true, true, true, true, true, false, true, true]);
        assert_eq!(cast_values::<_, u8>(vec![true, false]), [1, 0]);
        assert_eq!(cast_values::<_, f32>(vec![1e300f64, 1.0]), [f32::INFINITY, 1.0]);
    }

    #[test]
    fn integers_are_exact_and_saturate() {
        let wide = vec![i64::MIN, -1, 0, (1 << 53) + 1, i64::MAX];
        assert_eq!(cast_values::<_, u64>(wide.clone()), [0, 0, 0, (1 << 53) + 1, i64::MAX as u64]);
        assert_eq!(cast_values::<_, i8>(wide.clone()), [i8::MIN, -1, 0, i8::MAX, i8::MAX]);
        assert_eq!(cast_values::<_, bool>(wide), [true, true, false, true, true]);
        assert_eq!(cast_values::<_, i64>(vec![u64::MAX, (1 << 63) - 1]), [i64::MAX, i64::MAX]);
        assert_eq!(cast_values::<_, u32>(vec![u64::MAX, 7]), [u32::MAX, 7]);
        assert_eq!(cast_values::<_, u64>(vec![-3i8, 100]), [0, 100]);
    }

    #[test]
    fn wide_integers_round_once_to_f32() {
        // Just above the middle of two floats: rounding to f64 first would land on the middle, and then go down.
        let middle = (1u64 << 62) + (1 << 38);
        let values = vec![middle - 1, middle, middle + 1, u64::MAX, (1 << 53) + 1, 12];
        let expected: Vec<f32> = values.iter().map(|v| *v as f32).collect();
        assert_eq!(cast_values::<_, f32>(values.clone()), expected);
        let negative: Vec<i64> = values.iter().map(|v| (*v as i64).saturating_neg()).collect();
        let expected: Vec<f32> = negative.iter().map(|v| *v as f32).collect();
        assert_eq!(cast_values::<_, f32>(negative), expected);
        assert_eq!(cast_values::<_, f64>(vec![i64::MIN, 5]), [i64::MIN as f64, 5.0]);
    }

    /// The obvious twin: through i128 for integers, f64 otherwise.
    #[test]
    fn every_pair_of_types_agrees_with_the_exact_value() {
        for from in Dtype::ALL {
            let input = random_volume(from, Region::whole([2, 3, 41]), 11);
            for to in Dtype::ALL {
                let output = cast(input.clone(), input.region(), to);
                assert_eq!(output.dtype(), to);
                with_volume!(&input, i => with_volume!(&output, o => {
                    for (i, o) in i.data.iter().zip(&o.data) {
                        assert_eq!(o.key(), twin(*i, *o).key(), "{i:?} {from} {to}");
                    }
                }));
                for part in sub_boxes([2, 3, 41], 2) {
                    assert_eq!(cast(input.clone(), part, to).to_le_bytes(), output.cropped(part).to_le_bytes());
                }
            }
        }
    }

    fn twin<S: Element, T: Element>(v: S, _: T) -> T {
        match (v.to_i128(), T::DTYPE) {
            (Some(v), Dtype::U8) => T::from_key(u8::try_from(v).unwrap_or(if v < 0 { 0 } else { u8::MAX }).key()),
            (Some(v), Dtype::U64) => T::from_key(u64::try_from(v).unwrap_or(if v < 0 { 0 } else { u64::MAX }).key()),
            (Some(v), Dtype::I64) => T::from_key(i64::try_from(v).unwrap_or(i64::MAX).key()),
            (Some(v), Dtype::F32) => T::from_key((v as f32).key()),
            (Some(v), Dtype::F64) => T::from_key((v as f64).key()),
            (Some(v), Dtype::I32) => {
                T::from_key(i32::try_from(v).unwrap_or(if v < 0 { i32::MIN } else { i32::MAX }).key())
            }
            _ => T::from_f64(v.to_f64()),
        }
    }
}
