//! What becomes of a voxel when it is read, before it is summed.

use super::decide::{RANGE, ROUNDING, Spread};
use crate::filter::Rescale;
use crate::{Dtype, Element, Region, Volume};

/// Gives the numbers that sums are formed of.
pub(super) trait Reading<S>: Copy {
    /// The number of a voxel.
    fn double(self, voxel: S) -> f64;

    /// The same for quick sums: each is wrong by no more than its rounding and [`Reading::error`].
    fn single(self, voxel: S) -> f32;

    /// What numbers there may be, where that is known without looking.
    fn spread(self) -> Option<Spread>;

    /// The most that a number for quick sums is wrong beside its rounding.
    fn error(self) -> f64;
}

/// Voxels as they are.
#[derive(Clone, Copy)]
pub(super) struct AsIs;

impl<S: Element> Reading<S> for AsIs {
    #[inline(always)]
    fn double(self, voxel: S) -> f64 {
        voxel.to_f64()
    }

    #[inline(always)]
    fn single(self, voxel: S) -> f32 {
        voxel.to_f64() as f32
    }

    fn spread(self) -> Option<Spread> {
        None
    }

    fn error(self) -> f64 {
        0.0
    }
}

/// Voxels of at most 16 bits, rescaled: to the f32 that [`Rescale::apply`] gives, but for quick sums without a division.
#[derive(Clone, Copy)]
pub(super) struct Rescaled {
    exact: Rescale,
    factor: f32,
    summand: f32,
    spread: Spread,
    error: f64,
}

impl Rescaled {
    /// Whether voxels of a type may be read so.
    pub(super) fn reads(dtype: Dtype) -> bool {
        matches!(dtype, Dtype::Bool | Dtype::U8 | Dtype::I8 | Dtype::U16 | Dtype::I16)
    }

    /// For voxels of the type `S`.
    pub(super) fn new<S: Element>(exact: Rescale) -> Self {
        let all: Vec<f64> = match S::DTYPE {
            Dtype::Bool => vec![0.0, 1.0],
            Dtype::U8 => (0..=u8::MAX).map(f64::from).collect(),
            Dtype::I8 => (i8::MIN..=i8::MAX).map(f64::from).collect(),
            Dtype::U16 => (0..=u16::MAX).map(f64::from).collect(),
            _ => (i16::MIN..=i16::MAX).map(f64::from).collect(),
        };
        let largest = all.iter().fold(0.0, |largest: f64, value| largest.max(value.abs()));
        let numbers: Vec<f32> = all.iter().map(|value| exact.of(*value) as f32).collect();
        let [factor, summand] = exact.line();
        let is_known = [factor, summand].iter().all(|number| *number == 0.0 || RANGE.contains(&number.abs()));
        let spread = Spread::of(&Volume::new(Region::whole([1, 1, numbers.len()]), numbers));
        Self {
            exact,
            factor: factor as f32,
            summand: summand as f32,
            spread: if is_known { spread } else { Spread::UNKNOWN },
            // Factor, product, summand and sum are rounded, by parts of numbers that may cancel each other.
            error: 5.0 * ROUNDING * (factor.abs() * largest + summand.abs()),
        }
    }
}

impl<S: Element> Reading<S> for Rescaled {
    #[inline(always)]
    fn double(self, voxel: S) -> f64 {
        f64::from(self.exact.of(voxel.to_f64()) as f32)
    }

    #[inline(always)]
    fn single(self, voxel: S) -> f32 {
        voxel.to_f64() as f32 * self.factor + self.summand
    }

    fn spread(self) -> Option<Spread> {
        Some(self.spread)
    }

    fn error(self) -> f64 {
        self.error
    }
}
