//! What becomes of a voxel when it is read, before it is summed.

use super::decide::Spread;
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
        let [factor, summand] = exact.line().map(|number| number as f32);
        let numbers: Vec<f32> = all.iter().map(|value| exact.of(*value) as f32).collect();
        // As far as any is away: nothing needs to be known of what rounding does, nor of how the line was given.
        let away =
            |(value, number): (&f64, &f32)| (f64::from(quickly(*value, factor, summand)) - f64::from(*number)).abs();
        let error = all.iter().zip(&numbers).map(away).fold(0.0, f64::max);
        let spread = Spread::of(&Volume::new(Region::whole([1, 1, numbers.len()]), numbers));
        Self { exact, factor, summand, spread, error }
    }
}

/// The number of a voxel by one product and one sum.
#[inline(always)]
fn quickly(value: f64, factor: f32, summand: f32) -> f32 {
    value as f32 * factor + summand
}

impl<S: Element> Reading<S> for Rescaled {
    #[inline(always)]
    fn double(self, voxel: S) -> f64 {
        f64::from(self.exact.of(voxel.to_f64()) as f32)
    }

    #[inline(always)]
    fn single(self, voxel: S) -> f32 {
        quickly(voxel.to_f64(), self.factor, self.summand)
    }

    fn spread(self) -> Option<Spread> {
        Some(self.spread)
    }

    fn error(self) -> f64 {
        self.error
    }
}
