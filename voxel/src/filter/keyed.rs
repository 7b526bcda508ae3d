//! Elements as unsigned integers that sort as they do, so that one kernel orders every type, NaN last.

use crate::{AnyElement, Element};

/// What rank filters compare: the least and the greatest key are those of no neighbour at all.
pub(crate) trait Key: Copy + Ord + Default + Into<u64> {
    const LEAST: Self;
    const GREATEST: Self;

    /// Keys of neighbouring voxels that are compared side by side: 64 bytes of them.
    type Lanes: Copy + AsRef<[Self]> + AsMut<[Self]>;
    /// How many they are.
    const LANES: usize = 64 / size_of::<Self>();
    /// Lanes of zeros.
    const ZEROS: Self::Lanes;
}

macro_rules! key {
    ($($t:ty),*) => {$(
        impl Key for $t {
            const LEAST: Self = <$t>::MIN;
            const GREATEST: Self = <$t>::MAX;
            type Lanes = [$t; 64 / size_of::<$t>()];
            const ZEROS: Self::Lanes = [0; 64 / size_of::<$t>()];
        }
    )*};
}
key! { u8, u16, u32, u64 }

/// Elements and the unsigned integers of their width that sort as they do.
pub(crate) trait Keyed: AnyElement {
    type Key: Key;
    fn to_key(self) -> Self::Key;
    fn of_key(key: Self::Key) -> Self;
}

macro_rules! keyed {
    ($($t:ty: $key:ty),*) => {$(
        impl Keyed for $t {
            type Key = $key;
            #[inline(always)]
            fn to_key(self) -> $key {
                self.key() as $key
            }
            #[inline(always)]
            fn of_key(key: $key) -> Self {
                Self::from_key(u64::from(key))
            }
        }
    )*};
}
keyed! { bool: u8, u8: u8, i8: u8, u16: u16, i16: u16, u32: u32, i32: u32, u64: u64, i64: u64, f32: u32, f64: u64 }
