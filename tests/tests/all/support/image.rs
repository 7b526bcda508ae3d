//! Images made from a rule, or from a seed.

use voxel::{AnyElement, AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype, with_volume};

/// An image that fits in memory many times.
#[derive(Clone, Debug)]
pub(crate) struct Image {
    pub(crate) extent: Extent,
    pub(crate) voxels: AnyVolume,
}

/// A volume of shape z, y, x.
pub(crate) fn volume(shape: [usize; 3]) -> Extent {
    Extent { shape, planar: false }
}

/// A 2-D image of shape y, x.
pub(crate) fn sheet([y, x]: [usize; 2]) -> Extent {
    Extent { shape: [1, y, x], planar: true }
}

impl Image {
    /// The image with this value at each z, y, x.
    pub(crate) fn of<T: AnyElement>(extent: Extent, mut value: impl FnMut([usize; 3]) -> T) -> Self {
        let region = extent.region();
        let data = (0..region.voxels() as u64).map(|i| value(extent.at(i))).collect();
        Self { extent, voxels: T::wrap(Volume::new(region, data)) }
    }

    /// A mask in uint8: 1 where the rule says so, else 0.
    pub(crate) fn mask(extent: Extent, inside: impl Fn([usize; 3]) -> bool) -> Self {
        Self::of(extent, |at| u8::from(inside(at)))
    }

    /// The part in `region` as an image of its own.
    pub(crate) fn cropped(&self, region: Region) -> Self {
        let mut voxels = self.voxels.cropped(region);
        with_volume!(&mut voxels, v => v.region = Region::whole(region.shape()));
        Self { extent: Extent { shape: region.shape(), ..self.extent }, voxels }
    }

    /// Every value, in C order. Exact for all types the tests use.
    pub(crate) fn values(&self) -> Vec<f64> {
        with_volume!(&self.voxels, v => v.data.iter().map(|v| v.to_f64()).collect())
    }
}

/// What a random image looks like.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Look {
    /// Nothing.
    Zeros,
    /// The same value, not 0, everywhere.
    Flat,
    /// Independent values.
    Noise,
    /// Zeros, and here and there a value.
    Dust,
    /// Smooth hills with noise on them: objects of all sizes.
    Blobs,
}

impl Look {
    pub(crate) const ALL: [Look; 5] = [Look::Zeros, Look::Flat, Look::Noise, Look::Dust, Look::Blobs];
}

/// A random image, always the same for the same recipe.
#[derive(Clone, Debug)]
pub(crate) struct Recipe {
    pub(crate) extent: Extent,
    pub(crate) dtype: Dtype,
    pub(crate) look: Look,
    /// Whether floats have NaN and infinities among them.
    pub(crate) gaps: bool,
    pub(crate) seed: u64,
}

impl Recipe {
    pub(crate) fn image(&self) -> Image {
        let mut dice = Dice(self.seed);
        let hills: Vec<[f64; 3]> =
            (0..6).map(|_| std::array::from_fn(|a| dice.roll() * self.extent.shape[a] as f64)).collect();
        let mut level = |at: [usize; 3]| match self.look {
            Look::Zeros => 0.0,
            Look::Flat => 0.7,
            Look::Noise => dice.roll(),
            Look::Dust => (dice.roll() - 0.8).max(0.0) * 5.0,
            Look::Blobs => {
                let height = |hill: &[f64; 3]| {
                    let square: f64 = (0..3).map(|a| (at[a] as f64 - hill[a]).powi(2)).sum();
                    1.0 / (1.0 + square / 16.0)
                };
                (0.8 * hills.iter().map(height).sum::<f64>() + 0.2 * dice.roll()).min(1.0)
            }
        };
        let mut gaps = Dice(!self.seed);
        with_dtype!(self.dtype, T => Image::of(self.extent, |at| {
            let level = level(at);
            let value = match self.dtype {
                Dtype::Bool => f64::from(u8::from(level > 0.5)),
                Dtype::U8 => level * 250.0,
                Dtype::I16 => (level - 0.3) * 4000.0,
                // Far more than 65,536 values, so that there can't be a bin for each.
                Dtype::I32 => (level - 0.5) * 4e9,
                // Quarters, so that sums in f64 are exact and a twin may form them.
                Dtype::F32 | Dtype::F64 => ((level - 0.4) * 4000.0).round() / 4.0,
                _ => level * 40_000.0,
            };
            let gap = if self.gaps && self.dtype.is_float() { gaps.roll() } else { 1.0 };
            <T as Element>::from_f64(match gap {
                g if g < 0.04 => f64::NAN,
                g if g < 0.05 => f64::INFINITY,
                g if g < 0.06 => f64::NEG_INFINITY,
                _ => value,
            })
        }))
    }
}

/// Random numbers that are the same everywhere: SplitMix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number
/// generators", 2014).
pub(crate) struct Dice(pub(crate) u64);

impl Dice {
    /// From 0 to below 1.
    pub(crate) fn roll(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}
