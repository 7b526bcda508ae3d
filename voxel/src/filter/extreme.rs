//! The least and the greatest value of a window, for every element type.

use std::marker::PhantomData;

use super::Boundary;
use super::keyed::{Key, Keyed};
use crate::window::{self, Rank};
use crate::{AnyVolume, Dtype, Extent, Region, Volume, with_volume};
use serde::{Deserialize, Serialize};

/// `scipy.ndimage.minimum_filter` or `maximum_filter` with a centred box. The type stays.
///
/// NaN sorts last, as in [`Median`](super::Median): the greatest of a window with a NaN is NaN, the least is NaN only
/// where nothing else is there. -0.0 sorts before 0.0.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Extreme {
    /// Which end of the sorted window is kept.
    pub end: End,
    /// Window along z, y, x in voxels, odd widths.
    pub size: [usize; 3],
    /// What lies beyond the image; a constant is cast to the element type. The other modes give equal results, since
    /// what they show beyond a face lies in the window already.
    pub boundary: Boundary,
}

/// An end of a sorted window.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum End {
    /// The least value.
    Minimum,
    /// The greatest value.
    Maximum,
}

impl Extreme {
    /// How far the filter looks along z, y, x, in voxels.
    pub fn halo(&self) -> [usize; 3] {
        self.size.map(|width| width / 2)
    }

    /// The least or greatest value of the window around each voxel of `out`. `input` holds `out` grown by the halo and
    /// clipped to `extent`, or more.
    pub fn apply(&self, input: AnyVolume, out: Region, extent: Extent) -> AnyVolume {
        if self.halo() == [0; 3] {
            return input.into_cropped(out);
        }
        with_volume!(input, v => self.filtered(v, out, extent).into())
    }

    /// The most bytes of voxels alive at once in [`Extreme::apply`], input, output and temporaries counted.
    pub fn peak_bytes(&self, dtype: Dtype, input: Region, out: Region, extent: Extent) -> usize {
        let read = input.voxels() * dtype.size();
        match self.halo() {
            [0, 0, 0] if input == out => read,
            [0, 0, 0] => read + out.voxels() * dtype.size(),
            halo => window::peak_bytes(read, out, extent, halo, dtype.size(), dtype.size()),
        }
    }

    fn filtered<T: Keyed>(&self, input: Volume<T>, out: Region, extent: Extent) -> Volume<T> {
        let constant = match self.boundary {
            Boundary::Constant(value) => Some(T::from_f64(value).to_key()),
            _ => None,
        };
        let halo = self.halo();
        match self.end {
            End::Minimum => {
                window::extremes::<Least<T>>(input, out, extent, halo, constant.unwrap_or(Least::<T>::NEUTRAL))
            }
            End::Maximum => {
                window::extremes::<Greatest<T>>(input, out, extent, halo, constant.unwrap_or(Greatest::<T>::NEUTRAL))
            }
        }
    }
}

/// Keeps the least key.
struct Least<T>(PhantomData<T>);

/// Keeps the greatest key.
struct Greatest<T>(PhantomData<T>);

macro_rules! rank {
    ($rank:ident, $neutral:ident, $pick:ident) => {
        impl<T: Keyed> Rank for $rank<T> {
            type From = T;
            type Key = T::Key;
            type To = T;
            const NEUTRAL: T::Key = T::Key::$neutral;
            #[inline(always)]
            fn encode(voxel: T) -> T::Key {
                voxel.to_key()
            }
            #[inline(always)]
            fn decode(key: T::Key) -> T {
                T::of_key(key)
            }
            #[inline(always)]
            fn pick(a: T::Key, b: T::Key) -> T::Key {
                a.$pick(b)
            }
        }
    };
}
rank! { Least, GREATEST, min }
rank! { Greatest, LEAST, max }

#[cfg(test)]
mod tests;
