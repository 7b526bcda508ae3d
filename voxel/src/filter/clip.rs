//! Limiting voxel values to a range.

use crate::simd::vectorised;
use crate::{AnyVolume, Dtype, Element, Region, with_dtype, with_volume};
use serde::{Deserialize, Serialize};

/// `numpy.clip`: what is less than `low` becomes `low`, what is greater than `high` becomes `high`; NaN stays. The type
/// stays.
///
/// For integers a bound is the nearest integer inside the range, compared exactly for 64 bits too: `low` is rounded up,
/// `high` down; beyond the type it becomes the type's last value. For floats it is rounded to the type.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Clip {
    /// The least value left; -Inf for none. Not NaN.
    #[serde(with = "crate::number")]
    pub low: f64,
    /// The greatest value left; +Inf for none. Not NaN, not less than `low`.
    #[serde(with = "crate::number")]
    pub high: f64,
}

impl Clip {
    /// Limits the voxels of `out`, which lie in `input`.
    pub fn apply(&self, input: AnyVolume, out: Region) -> AnyVolume {
        let mut output = input.into_cropped(out);
        with_volume!(&mut output, v => {
            let (low, high) = self.bounds();
            limit(low, high, &mut v.data);
        });
        output
    }

    /// The most bytes of voxels alive at once in [`Clip::apply`], input and output counted; values are limited in place
    /// where there is nothing to cut.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region) -> usize {
        super::cast_peak_bytes(dtype, dtype, input, out)
    }

    /// Whether some value of the type lies in the range, bounds rounded as described. There is none between 1.2 and 1.8
    /// for integers.
    pub fn leaves_any(&self, dtype: Dtype) -> bool {
        fn ordered<T: Element>((low, high): (T, T)) -> bool {
            low <= high
        }
        with_dtype!(dtype, T => ordered::<T>(self.bounds()))
    }

    /// The bounds as values of the type.
    fn bounds<T: Element>(&self) -> (T, T) {
        let (low, high) = (self.low, self.high);
        match T::DTYPE {
            Dtype::F32 | Dtype::F64 => (T::from_f64(low), T::from_f64(high)),
            // Any number but 0 is true to `from_f64`.
            Dtype::Bool => (T::from_f64(low.ceil().clamp(0.0, 1.0)), T::from_f64(high.floor().clamp(0.0, 1.0))),
            _ => (T::from_f64(low.ceil()), T::from_f64(high.floor())),
        }
    }
}

vectorised! {
    fn limit<T: Element>(low: T, high: T, values: &mut [T]) {
        for v in values {
            // NaN compares as neither.
            let raised = if *v < low { low } else { *v };
            *v = if raised > high { high } else { raised };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any_of, random_volume, sub_boxes};
    use super::*;

    fn clipped<T: crate::AnyElement>(low: f64, high: f64, values: Vec<T>) -> Vec<T> {
        let input = any_of([1, 1, values.len()], values);
        let output = Clip { low, high }.apply(input.clone(), input.region());
        T::unwrap(&output).map(|v| v.data.clone()).unwrap_or_default()
    }

    #[test]
    fn integers_are_compared_with_the_number_itself() {
        let inf = f64::INFINITY;
        assert_eq!(clipped(1.2, 3.8, vec![0u8, 1, 2, 3, 4, 255]), [2, 2, 2, 3, 3, 3]);
        assert_eq!(clipped(-1.2, -0.3, vec![-2i8, -1, 0, 127]), [-1, -1, -1, -1]);
        assert_eq!(clipped(-5.0, 300.0, vec![0u8, 255]), [0, 255]);
        assert_eq!(clipped(300.0, inf, vec![0u8, 255]), [255, 255], "a bound beyond the type is its last value");
        assert_eq!(clipped(-inf, -1.0, vec![0u16, 7]), [0, 0]);
        let wide = vec![u64::MAX, (1 << 53) + 1, 1 << 53, 0];
        assert_eq!(clipped(9007199254740992.0, inf, wide.clone()), [u64::MAX, (1 << 53) + 1, 1 << 53, 1 << 53]);
        assert_eq!(clipped(-inf, 18446744073709551616.0, wide.clone()), wide);
        assert_eq!(clipped(-9223372036854775808.0, 0.0, vec![i64::MIN, i64::MAX]), [i64::MIN, 0]);
        assert_eq!(clipped(0.5, inf, vec![false, true]), [true, true]);
        assert_eq!(clipped(-inf, 0.5, vec![false, true]), [false, false]);
        assert_eq!(clipped(-3.0, 7.0, vec![false, true]), [false, true]);
    }

    #[test]
    fn nan_stays_and_bounds_round_to_floats() {
        let output = clipped(-1.0, 0.1, vec![f32::NAN, f32::NEG_INFINITY, f32::INFINITY, 0.05, -0.5]);
        assert!(output[0].is_nan());
        assert_eq!(output[1..], [-1.0, 0.1, 0.05, -0.5]);
        assert_eq!(clipped(f64::NEG_INFINITY, 1e300, vec![f32::INFINITY, 1.0]), [f32::INFINITY, 1.0]);
        assert_eq!(clipped(0.1, 0.2, vec![0.0, 1.0, 0.15]), [0.1, 0.2, 0.15]);
    }

    #[test]
    fn a_range_between_two_integers_leaves_none() {
        let narrow = Clip { low: 1.2, high: 1.8 };
        for dtype in Dtype::ALL {
            assert_eq!(narrow.leaves_any(dtype), dtype.is_float() || dtype == Dtype::Bool, "{dtype}");
            assert!(Clip { low: 300.0, high: 400.0 }.leaves_any(dtype));
        }
        assert!(!Clip { low: 0.2, high: 0.8 }.leaves_any(Dtype::Bool));
    }

    #[test]
    fn a_part_equals_the_same_part_of_the_whole() {
        for dtype in Dtype::ALL {
            let input = random_volume(dtype, Region::whole([3, 4, 19]), 3);
            let clip = Clip { low: -17.5, high: 99.0 };
            let whole = clip.apply(input.clone(), input.region());
            assert_eq!(whole.dtype(), dtype);
            for part in sub_boxes([3, 4, 19], 5) {
                assert_eq!(clip.apply(input.clone(), part), whole.cropped(part));
            }
        }
        let wire = serde_json::to_string(&Clip { low: f64::NEG_INFINITY, high: 2.5 }).unwrap_or_default();
        assert_eq!(serde_json::from_str::<Clip>(&wire).ok(), Some(Clip { low: f64::NEG_INFINITY, high: 2.5 }));
    }
}
