//! What the tests of filters and morphology share: reproducible volumes and boxes.

use crate::{AnyElement, AnyVolume, Dtype, Region, Volume, with_dtype};

/// A reproducible source of 64-bit numbers: SplitMix64 (Steele, Lea and Flood 2014).
pub(crate) struct Random(u64);

impl Random {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `n`.
    pub(crate) fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

pub(crate) fn any_of<T: AnyElement>(shape: [usize; 3], data: Vec<T>) -> AnyVolume {
    T::wrap(Volume::new(Region::whole(shape), data))
}

/// Voxels over the whole range of integer types, and between -1000 and 1000 for floats.
pub(crate) fn random_volume(dtype: Dtype, region: Region, seed: u64) -> AnyVolume {
    let mut random = Random::new(seed);
    with_dtype!(dtype, T => {
        let data = (0..region.voxels()).map(|_| {
            let bits = random.next();
            if dtype.is_float() {
                <T as crate::Element>::from_f64((bits >> 11) as f64 / (1u64 << 53) as f64 * 2000.0 - 1000.0)
            } else {
                <T as crate::Element>::from_key(if dtype == Dtype::Bool { bits & 1 } else { bits })
            }
        });
        T::wrap(Volume::new(region, data.collect()))
    })
}

/// `count` random boxes, not empty, in an image of the given shape.
pub(crate) fn sub_boxes(shape: [usize; 3], count: usize) -> Vec<Region> {
    let mut random = Random::new(shape.iter().sum::<usize>() as u64);
    (0..count)
        .map(|_| {
            let start = shape.map(|n| random.below(n));
            let size = std::array::from_fn(|a| 1 + random.below(shape[a] - start[a]));
            Region::new(start, size)
        })
        .collect()
}
