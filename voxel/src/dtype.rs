//! Element types: their names, sizes, and the few operations every kernel may ask of one.

use std::any::Any;
use std::borrow::Cow;

use serde::{Deserialize, Serialize};

/// The type of one voxel. Names are numpy's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[allow(missing_docs)]
pub enum Dtype {
    Bool,
    #[serde(rename = "uint8")]
    U8,
    #[serde(rename = "int8")]
    I8,
    #[serde(rename = "uint16")]
    U16,
    #[serde(rename = "int16")]
    I16,
    #[serde(rename = "uint32")]
    U32,
    #[serde(rename = "int32")]
    I32,
    #[serde(rename = "uint64")]
    U64,
    #[serde(rename = "int64")]
    I64,
    #[serde(rename = "float32")]
    F32,
    #[serde(rename = "float64")]
    F64,
}

impl Dtype {
    /// Every element type, narrow to wide within its kind.
    pub const ALL: [Dtype; 11] = [
        Dtype::Bool,
        Dtype::U8,
        Dtype::I8,
        Dtype::U16,
        Dtype::I16,
        Dtype::U32,
        Dtype::I32,
        Dtype::U64,
        Dtype::I64,
        Dtype::F32,
        Dtype::F64,
    ];

    /// Bytes of one element in memory (bool is one byte).
    pub fn size(self) -> usize {
        match self {
            Dtype::Bool | Dtype::U8 | Dtype::I8 => 1,
            Dtype::U16 | Dtype::I16 => 2,
            Dtype::U32 | Dtype::I32 | Dtype::F32 => 4,
            Dtype::U64 | Dtype::I64 | Dtype::F64 => 8,
        }
    }

    /// numpy's and Zarr v3's name: `bool`, `uint8`, ..., `float64`.
    pub fn name(self) -> &'static str {
        match self {
            Dtype::Bool => "bool",
            Dtype::U8 => "uint8",
            Dtype::I8 => "int8",
            Dtype::U16 => "uint16",
            Dtype::I16 => "int16",
            Dtype::U32 => "uint32",
            Dtype::I32 => "int32",
            Dtype::U64 => "uint64",
            Dtype::I64 => "int64",
            Dtype::F32 => "float32",
            Dtype::F64 => "float64",
        }
    }

    /// The type with that numpy name, or `None`.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|d| d.name() == name)
    }

    /// True for f32 and f64.
    pub fn is_float(self) -> bool {
        matches!(self, Dtype::F32 | Dtype::F64)
    }

    /// True for the 8- to 64-bit integers (not for bool).
    pub fn is_integer(self) -> bool {
        !self.is_float() && self != Dtype::Bool
    }

    /// What a filter that averages gives: f64 for f64, f32 for everything else.
    pub fn averaged(self) -> Self {
        if self == Dtype::F64 { Dtype::F64 } else { Dtype::F32 }
    }
}

impl std::fmt::Display for Dtype {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.name())
    }
}

/// What a kernel may ask of an element. Implemented for bool, the integers and the floats, nothing else.
pub trait Element: Copy + Default + PartialEq + PartialOrd + Send + Sync + std::fmt::Debug + 'static {
    /// The element type's name at run time.
    const DTYPE: Dtype;

    /// Width of the type in bits, and of its [`Element::key`]: 8 (bool too), 16, 32 or 64.
    const BITS: u32;

    /// The value as f64; exact but for 64-bit integers beyond 2^53, which round to nearest even.
    fn to_f64(self) -> f64;

    /// The value as an exact integer; `None` for floats.
    fn to_i128(self) -> Option<i128>;

    /// f64 to this type: integers round half to even and saturate, NaN gives 0; bool is `v != 0`.
    fn from_f64(v: f64) -> Self;

    /// f32 to this type, by the same rules.
    #[inline(always)]
    fn from_f32(v: f32) -> Self {
        Self::from_f64(f64::from(v))
    }

    /// An order-preserving unsigned key: `a < b` exactly when `a.key() < b.key()`. -0.0 sorts just below 0.0, and
    /// every NaN has the largest key, so that NaN sorts last as numpy's sort puts it.
    fn key(self) -> u64;

    /// The inverse of [`Element::key`] (NaN comes back as the canonical NaN).
    fn from_key(key: u64) -> Self;

    /// True for every value but NaN and the infinities.
    fn is_finite(self) -> bool;

    /// Foreground in the sense of label and morphology: anything that is not zero.
    fn is_foreground(self) -> bool;

    /// The little-endian bytes of `values`: those that lie in memory, where they lie so.
    fn le_bytes(values: &[Self]) -> Cow<'_, [u8]>;

    /// Elements from native-endian bytes, whose length is a multiple of the size. Bool takes any non-zero byte as true;
    /// bytes of one's own that are to be bytes are not copied.
    fn from_ne(bytes: Cow<'_, [u8]>) -> Vec<Self>;
}

macro_rules! integer {
    ($t:ty, $unsigned:ty, $dtype:ident, $flip:expr) => {
        impl Element for $t {
            const DTYPE: Dtype = Dtype::$dtype;
            const BITS: u32 = <$t>::BITS;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                self as f64
            }
            #[inline(always)]
            fn to_i128(self) -> Option<i128> {
                Some(i128::from(self))
            }
            #[inline(always)]
            fn from_f64(v: f64) -> Self {
                // `as` saturates and sends NaN to 0.
                v.round_ties_even() as $t
            }
            #[inline(always)]
            fn from_f32(v: f32) -> Self {
                if Self::BITS > 16 {
                    return Self::from_f64(f64::from(v));
                }
                // f32 has the ends and all between, and twice as many lanes. Where numbers lie 1 apart, adding rounds, half to
                // even, and leaves the integer in the lowest bits: `as` would saturate once more, lane by lane.
                const APART_BY_ONE: f32 = 1.5 * (1 << 23) as f32;
                let v = if v.is_nan() { 0.0 } else { v.clamp(<$t>::MIN as f32, <$t>::MAX as f32) };
                (v + APART_BY_ONE).to_bits().wrapping_sub(APART_BY_ONE.to_bits()) as $t
            }
            #[inline(always)]
            fn key(self) -> u64 {
                ((self as $unsigned) ^ $flip) as u64
            }
            #[inline(always)]
            fn from_key(key: u64) -> Self {
                ((key as $unsigned) ^ $flip) as $t
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                true
            }
            #[inline(always)]
            fn is_foreground(self) -> bool {
                self != 0
            }
            fn le_bytes(values: &[Self]) -> Cow<'_, [u8]> {
                if cfg!(target_endian = "little") {
                    return Cow::Borrowed(bytemuck::must_cast_slice(values));
                }
                Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            fn from_ne(bytes: Cow<'_, [u8]>) -> Vec<Self> {
                let mut bytes = bytes;
                if Self::DTYPE == Dtype::U8
                    && let Some(same) = (bytes.to_mut() as &mut dyn Any).downcast_mut::<Vec<Self>>()
                {
                    return std::mem::take(same);
                }
                let (whole, _) = bytes.as_chunks();
                whole.iter().map(|b| <$t>::from_ne_bytes(*b)).collect()
            }
        }
    };
}
integer!(u8, u8, U8, 0);
integer!(u16, u16, U16, 0);
integer!(u32, u32, U32, 0);
integer!(u64, u64, U64, 0);
integer!(i8, u8, I8, 1 << 7);
integer!(i16, u16, I16, 1 << 15);
integer!(i32, u32, I32, 1 << 31);
integer!(i64, u64, I64, 1 << 63);

macro_rules! float {
    ($t:ty, $bits:ty, $dtype:ident, $sign:expr) => {
        impl Element for $t {
            const DTYPE: Dtype = Dtype::$dtype;
            const BITS: u32 = <$bits>::BITS;
            #[inline(always)]
            fn to_f64(self) -> f64 {
                f64::from(self)
            }
            #[inline(always)]
            fn to_i128(self) -> Option<i128> {
                None
            }
            #[inline(always)]
            fn from_f64(v: f64) -> Self {
                v as $t
            }
            #[inline(always)]
            fn key(self) -> u64 {
                if self.is_nan() {
                    return <$bits>::MAX as u64;
                }
                let bits = self.to_bits();
                (if bits & $sign == 0 { bits | $sign } else { !bits }) as u64
            }
            #[inline(always)]
            fn from_key(key: u64) -> Self {
                let key = key as $bits;
                if key == <$bits>::MAX {
                    return <$t>::NAN;
                }
                <$t>::from_bits(if key & $sign != 0 { key & !$sign } else { !key })
            }
            #[inline(always)]
            fn is_finite(self) -> bool {
                <$t>::is_finite(self)
            }
            #[inline(always)]
            fn is_foreground(self) -> bool {
                self != 0.0
            }
            fn le_bytes(values: &[Self]) -> Cow<'_, [u8]> {
                if cfg!(target_endian = "little") {
                    return Cow::Borrowed(bytemuck::must_cast_slice(values));
                }
                Cow::Owned(values.iter().flat_map(|v| v.to_le_bytes()).collect())
            }
            fn from_ne(bytes: Cow<'_, [u8]>) -> Vec<Self> {
                let (whole, _) = bytes.as_chunks();
                whole.iter().map(|b| <$t>::from_ne_bytes(*b)).collect()
            }
        }
    };
}
float!(f32, u32, F32, 1 << 31);
float!(f64, u64, F64, 1 << 63);

impl Element for bool {
    const DTYPE: Dtype = Dtype::Bool;
    const BITS: u32 = 8;
    #[inline(always)]
    fn to_f64(self) -> f64 {
        f64::from(u8::from(self))
    }
    #[inline(always)]
    fn to_i128(self) -> Option<i128> {
        Some(i128::from(self))
    }
    #[inline(always)]
    fn from_f64(v: f64) -> Self {
        v != 0.0 && !v.is_nan()
    }
    #[inline(always)]
    fn key(self) -> u64 {
        u64::from(self)
    }
    #[inline(always)]
    fn from_key(key: u64) -> Self {
        key != 0
    }
    #[inline(always)]
    fn is_finite(self) -> bool {
        true
    }
    #[inline(always)]
    fn is_foreground(self) -> bool {
        self
    }
    fn le_bytes(values: &[Self]) -> Cow<'_, [u8]> {
        Cow::Borrowed(bytemuck::must_cast_slice(values))
    }
    fn from_ne(bytes: Cow<'_, [u8]>) -> Vec<Self> {
        bytes.iter().map(|b| *b != 0).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn keys_preserve_order<T: Element>(sorted: &[T]) {
        for pair in sorted.windows(2) {
            assert!(pair[0].key() < pair[1].key(), "{:?} {:?}", pair[0], pair[1]);
        }
        for v in sorted {
            assert_eq!(format!("{:?}", T::from_key(v.key())), format!("{v:?}"));
        }
    }

    #[test]
    fn keys_sort_as_values_do() {
        keys_preserve_order(&[f32::NEG_INFINITY, f32::MIN, -1.0, -0.0, 0.0, 1e-45, 1.0, f32::INFINITY, f32::NAN]);
        keys_preserve_order(&[f64::NEG_INFINITY, f64::MIN, -1.0, -0.0, 0.0, 5e-324, 1.0, f64::INFINITY, f64::NAN]);
        keys_preserve_order(&[i8::MIN, -1, 0, 1, i8::MAX]);
        keys_preserve_order(&[i16::MIN, -1, 0, 1, i16::MAX]);
        keys_preserve_order(&[i32::MIN, -1, 0, 1, i32::MAX]);
        keys_preserve_order(&[i64::MIN, -1, 0, 1, i64::MAX]);
        keys_preserve_order(&[0u64, 1, u64::MAX]);
        keys_preserve_order(&[false, true]);
    }

    #[test]
    fn from_f32_is_from_f64_of_the_same_number() {
        fn agrees<T: Element>() {
            let near = (-70_000..70_000).map(|i| i as f32 / 2.0);
            let any = (0..=u32::MAX).step_by(65_521).map(f32::from_bits);
            for v in near.chain(any).chain([f32::INFINITY, f32::NEG_INFINITY, f32::NAN, -0.0]) {
                assert_eq!(T::from_f32(v).key(), T::from_f64(f64::from(v)).key(), "{v} as {}", T::DTYPE);
            }
        }
        for dtype in Dtype::ALL {
            crate::with_dtype!(dtype, T => agrees::<T>());
        }
    }

    #[test]
    fn casting_rounds_half_to_even_saturates_and_sends_nan_to_zero() {
        assert_eq!(
            [0.5, 1.5, 2.5, 254.5, 255.5, -1.0, 1e9, f64::NAN].map(u8::from_f64),
            [0, 2, 2, 254, 255, 0, 255, 0]
        );
        assert_eq!([-0.5, -1.5, -200.0].map(i8::from_f64), [0, -2, -128]);
    }
}
