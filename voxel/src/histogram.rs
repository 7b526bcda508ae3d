//! Histograms and what is read off them: range, moments, percentiles, Otsu's threshold.
//!
//! Each pass over an image leaves one partial result per part: a [`Tally`] of the first pass, [`EvenBins`] when a range is
//! known, a [`Refine`] for percentiles of types too wide to count every value. They hold counts and exact sums only, so
//! they join in any order to the same bytes. What is asked of the joined result ([`PercentileSearch`], [`otsu_values`],
//! [`HistogramReport`]) is arithmetic on counts and sees no voxel.
//!
//! Only finite voxels enter a histogram, the moments and what follows from them; NaN and the infinities are counted apart.
//!
//! What is left to others: deciding which passes a job needs, and carrying partial results from one to the next.

use serde::{Serialize, Serializer};

use crate::Merge;

mod codec;
mod even_bins;
mod otsu;
mod percentile;
mod report;
mod table;
mod tally;

pub use even_bins::EvenBins;
pub use otsu::{otsu_even, otsu_values};
pub use percentile::{Approximate, PercentileSearch, Refine, approximate_percentile};
pub use report::{Bins, HistogramReport, PERCENTS};
pub use tally::Tally;

/// Values an integer image may span and still have each of them counted: one bin per value.
pub const VALUES_MAX: u64 = 1 << 16;

/// A voxel's value in a report: integers stay integers, to the last digit.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Scalar {
    /// Of a bool or integer image.
    Integer(i128),
    /// Of a float image.
    Float(f64),
}

impl Scalar {
    /// The value as f64; integers beyond 2^53 round to nearest even.
    pub fn to_f64(self) -> f64 {
        match self {
            Scalar::Integer(v) => v as f64,
            Scalar::Float(v) => v,
        }
    }
}

impl Serialize for Scalar {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match *self {
            Scalar::Integer(v) => serializer.serialize_i128(v),
            Scalar::Float(v) => serializer.serialize_f64(v),
        }
    }
}

/// Partial results whose identity needs a parameter (the element type, the bins) get one without it: `None`.
macro_rules! merge_as_option {
    ($($partial:ty),*) => {$(
        impl Merge for Option<$partial> {
            fn identity() -> Self {
                None
            }

            fn merge(&mut self, other: Self) {
                match (self.as_mut(), other) {
                    (Some(own), Some(other)) => own.merge(&other),
                    (None, other) => *self = other,
                    (Some(_), None) => {}
                }
            }
        }
    )*};
}
merge_as_option!(Tally, EvenBins, Refine);

#[cfg(test)]
mod tests;
