//! Linear rescaling of voxel values.

use crate::simd::vectorised;
use crate::{AnyElement, AnyVolume, Dtype, Element, Region, Volume, with_volume};
use serde::{Deserialize, Serialize};

/// `v * multiply / divide + add`, and then `1 - v` where `invert` is set: in f64, in that order, rounded once.
///
/// Gives f32, or f64 from f64. Dividing is kept apart from multiplying because `v / 255` is exact where
/// `v * (1 / 255)` is not.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Rescale {
    /// Factor, applied first.
    pub multiply: f64,
    /// Divisor, applied second.
    pub divide: f64,
    /// Summand, applied third.
    pub add: f64,
    /// Gives one minus the value, at the end.
    pub invert: bool,
}

impl Default for Rescale {
    fn default() -> Self {
        Self { multiply: 1.0, divide: 1.0, add: 0.0, invert: false }
    }
}

impl Rescale {
    /// Rescales the voxels of `out`, which lie in `input`.
    pub fn apply(&self, input: AnyVolume, out: Region) -> AnyVolume {
        match input {
            AnyVolume::F32(v) => self.in_place(v.into_cropped(out)).into(),
            AnyVolume::F64(v) => self.in_place(v.into_cropped(out)).into(),
            input => with_volume!(input, v => self.copied(&v, out).into()),
        }
    }

    /// The most bytes of voxels alive at once in [`Rescale::apply`], input and output counted; floats are rescaled in
    /// place where there is nothing to cut.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region) -> usize {
        let read = input.voxels() * dtype.size();
        if dtype.is_float() && input == out { read } else { read + out.voxels() * dtype.averaged().size() }
    }

    fn in_place<F: AnyElement>(&self, mut volume: Volume<F>) -> Volume<F> {
        rescale_in_place(*self, &mut volume.data);
        volume
    }

    fn copied<S: Element>(&self, input: &Volume<S>, out: Region) -> Volume<f32> {
        let mut output = Volume::zeros(out);
        let skipped = out.start[2] - input.region.start[2];
        for z in out.start[0]..out.end[0] {
            for y in out.start[1]..out.end[1] {
                rescale_row(*self, &input.row(z, y)[skipped..], output.row_mut(z, y));
            }
        }
        output
    }

    /// Factor and summand of the line it is, but for what rounding makes of it.
    pub(super) fn line(&self) -> [f64; 2] {
        let factor = self.multiply / self.divide;
        if self.invert { [-factor, 1.0 - self.add] } else { [factor, self.add] }
    }

    /// What a value becomes.
    #[inline(always)]
    pub(super) fn of(&self, v: f64) -> f64 {
        let v = v * self.multiply / self.divide + self.add;
        if self.invert { 1.0 - v } else { v }
    }
}

vectorised! {
    fn rescale_row<S: Element>(rescale: Rescale, from: &[S], to: &mut [f32]) {
        for (to, from) in to.iter_mut().zip(from) {
            *to = rescale.of(from.to_f64()) as f32;
        }
    }

    fn rescale_in_place<F: Element>(rescale: Rescale, values: &mut [F]) {
        for v in values {
            *v = F::from_f64(rescale.of(v.to_f64()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::{any_of, random_volume, sub_boxes};
    use super::*;

    #[test]
    fn arithmetic_is_in_f64_in_the_stated_order_and_rounds_once() {
        let rescale = Rescale { multiply: 3.0, divide: 255.0, add: -0.25, invert: true };
        for dtype in Dtype::ALL {
            let input = random_volume(dtype, Region::new([1, 2, 3], [2, 3, 37]), 7);
            let output = rescale.apply(input.clone(), input.region());
            let values: Vec<f64> = with_volume!(&input, v => v.data.iter().map(|v| v.to_f64()).collect());
            let expected: Vec<f64> = values.iter().map(|v| 1.0 - (v * 3.0 / 255.0 + -0.25)).collect();
            match output {
                AnyVolume::F32(v) => assert_eq!(
                    v.data.iter().map(|v| v.to_bits()).collect::<Vec<_>>(),
                    expected.iter().map(|v| (*v as f32).to_bits()).collect::<Vec<_>>()
                ),
                AnyVolume::F64(v) => assert_eq!(v.data, expected),
                other => panic!("{}", other.dtype()),
            }
        }
    }

    #[test]
    fn a_part_equals_the_same_part_of_the_whole() {
        let rescale = Rescale { divide: 7.0, ..Rescale::default() };
        for dtype in Dtype::ALL {
            let input = random_volume(dtype, Region::whole([3, 4, 19]), 3);
            let whole = rescale.apply(input.clone(), input.region());
            for part in sub_boxes([3, 4, 19], 5) {
                assert_eq!(rescale.apply(input.clone(), part), whole.cropped(part));
            }
        }
    }

    #[test]
    fn defaults_change_nothing() {
        let input: AnyVolume = any_of([1, 1, 4], vec![0.0f32, -1.5, f32::INFINITY, 3e38]);
        assert_eq!(Rescale::default().apply(input.clone(), input.region()), input);
        assert_eq!(serde_json::from_str::<Rescale>("{}").ok(), Some(Rescale::default()));
    }
}
