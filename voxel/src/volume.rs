//! Voxels in memory: a box of one image, and the one place where a type known at run time becomes a Rust type.

use crate::{Dtype, Element, Region};

/// The voxels of `region` of an image, in C order. The region is in the image's own coordinates, so that a kernel
/// knows which of its faces are the image's.
#[derive(Clone, Debug, PartialEq)]
pub struct Volume<T> {
    /// Where in the image these voxels lie.
    pub region: Region,
    /// `region.voxels()` values, x fastest.
    pub data: Vec<T>,
}

impl<T: Copy + Default> Volume<T> {
    /// A volume of zeros (or `false`).
    pub fn zeros(region: Region) -> Self {
        Self { region, data: vec![T::default(); region.voxels()] }
    }

    /// Wraps `data`, which must hold one value per voxel of `region`.
    pub fn new(region: Region, data: Vec<T>) -> Self {
        assert_eq!(data.len(), region.voxels(), "one value per voxel of {region:?}");
        Self { region, data }
    }

    /// Offset in `data` of the voxel at image coordinates `at`.
    #[inline(always)]
    pub fn offset(&self, at: [usize; 3]) -> usize {
        let shape = self.region.shape();
        let at = [at[0] - self.region.start[0], at[1] - self.region.start[1], at[2] - self.region.start[2]];
        (at[0] * shape[1] + at[1]) * shape[2] + at[2]
    }

    /// The voxels with z and y fixed (image coordinates), along the region's whole x range.
    #[inline(always)]
    pub fn row(&self, z: usize, y: usize) -> &[T] {
        let from = self.offset([z, y, self.region.start[2]]);
        &self.data[from..from + (self.region.end[2] - self.region.start[2])]
    }

    /// Mutable [`Volume::row`].
    #[inline(always)]
    pub fn row_mut(&mut self, z: usize, y: usize) -> &mut [T] {
        let from = self.offset([z, y, self.region.start[2]]);
        let len = self.region.end[2] - self.region.start[2];
        &mut self.data[from..from + len]
    }

    /// The voxels of `part`, which must lie inside this volume's region, in C order and without a copy, as slices as long
    /// as memory allows: rows, whole planes, or all in one.
    pub fn runs(&self, part: Region) -> impl Iterator<Item = &[T]> {
        assert!(self.region.contains(&part), "{part:?} lies in {:?}", self.region);
        let full = |axis: usize| part.start[axis] == self.region.start[axis] && part.end[axis] == self.region.end[axis];
        let [nz, ny, nx] = part.shape();
        let (planes, rows, length) = match (full(1), full(2)) {
            _ if part.is_empty() => (0, 0, 0),
            (true, true) => (1, 1, nz * ny * nx),
            (false, true) => (nz, 1, ny * nx),
            _ => (nz, ny, nx),
        };
        (0..planes).flat_map(move |z| {
            (0..rows).map(move |y| {
                let from = self.offset([part.start[0] + z, part.start[1] + y, part.start[2]]);
                &self.data[from..from + length]
            })
        })
    }

    /// A copy of the voxels of `part`, which must lie inside this volume's region.
    pub fn cropped(&self, part: Region) -> Self {
        assert!(self.region.contains(&part), "{part:?} lies in {:?}", self.region);
        let mut data = Vec::with_capacity(part.voxels());
        for z in part.start[0]..part.end[0] {
            for y in part.start[1]..part.end[1] {
                let from = self.offset([z, y, part.start[2]]);
                data.extend_from_slice(&self.data[from..from + (part.end[2] - part.start[2])]);
            }
        }
        Self { region: part, data }
    }

    /// Copies all of `other`, which must lie inside this volume's region, to its place here.
    pub fn paste(&mut self, other: &Self) {
        assert!(self.region.contains(&other.region), "{:?} lies in {:?}", other.region, self.region);
        let width = other.region.shape()[2];
        for z in other.region.start[0]..other.region.end[0] {
            for y in other.region.start[1]..other.region.end[1] {
                let to = self.offset([z, y, other.region.start[2]]);
                self.data[to..to + width].copy_from_slice(other.row(z, y));
            }
        }
    }

    /// Like [`Volume::cropped`], but gives back `self` when there is nothing to cut.
    pub fn into_cropped(self, part: Region) -> Self {
        if self.region == part { self } else { self.cropped(part) }
    }
}

/// A [`Volume`] of any element type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum AnyVolume {
    Bool(Volume<bool>),
    U8(Volume<u8>),
    I8(Volume<i8>),
    U16(Volume<u16>),
    I16(Volume<i16>),
    U32(Volume<u32>),
    I32(Volume<i32>),
    U64(Volume<u64>),
    I64(Volume<i64>),
    F32(Volume<f32>),
    F64(Volume<f64>),
}

/// Runs `$body` with `$v` bound to the typed volume inside an [`AnyVolume`] (or a reference to one).
#[macro_export]
macro_rules! with_volume {
    ($any:expr, $v:ident => $body:expr) => {
        match $any {
            $crate::AnyVolume::Bool($v) => $body,
            $crate::AnyVolume::U8($v) => $body,
            $crate::AnyVolume::I8($v) => $body,
            $crate::AnyVolume::U16($v) => $body,
            $crate::AnyVolume::I16($v) => $body,
            $crate::AnyVolume::U32($v) => $body,
            $crate::AnyVolume::I32($v) => $body,
            $crate::AnyVolume::U64($v) => $body,
            $crate::AnyVolume::I64($v) => $body,
            $crate::AnyVolume::F32($v) => $body,
            $crate::AnyVolume::F64($v) => $body,
        }
    };
}

/// Runs `$body` with the type alias `$T` set to the Rust type of a [`Dtype`].
#[macro_export]
macro_rules! with_dtype {
    ($dtype:expr, $T:ident => $body:expr) => {
        match $dtype {
            $crate::Dtype::Bool => {
                type $T = bool;
                $body
            }
            $crate::Dtype::U8 => {
                type $T = u8;
                $body
            }
            $crate::Dtype::I8 => {
                type $T = i8;
                $body
            }
            $crate::Dtype::U16 => {
                type $T = u16;
                $body
            }
            $crate::Dtype::I16 => {
                type $T = i16;
                $body
            }
            $crate::Dtype::U32 => {
                type $T = u32;
                $body
            }
            $crate::Dtype::I32 => {
                type $T = i32;
                $body
            }
            $crate::Dtype::U64 => {
                type $T = u64;
                $body
            }
            $crate::Dtype::I64 => {
                type $T = i64;
                $body
            }
            $crate::Dtype::F32 => {
                type $T = f32;
                $body
            }
            $crate::Dtype::F64 => {
                type $T = f64;
                $body
            }
        }
    };
}

/// Element types that know their [`AnyVolume`] variant.
pub trait AnyElement: Element {
    /// Wraps a typed volume.
    fn wrap(volume: Volume<Self>) -> AnyVolume;

    /// The typed volume inside, where it is of this type.
    fn unwrap(any: &AnyVolume) -> Option<&Volume<Self>>;

    /// Takes the typed volume out, where it is of this type.
    fn take(any: AnyVolume) -> Option<Volume<Self>>;
}

macro_rules! wrap {
    ($($t:ty, $variant:ident;)*) => {$(
        impl AnyElement for $t {
            fn wrap(volume: Volume<Self>) -> AnyVolume {
                AnyVolume::$variant(volume)
            }
            fn unwrap(any: &AnyVolume) -> Option<&Volume<Self>> {
                match any {
                    AnyVolume::$variant(volume) => Some(volume),
                    _ => None,
                }
            }
            fn take(any: AnyVolume) -> Option<Volume<Self>> {
                match any {
                    AnyVolume::$variant(volume) => Some(volume),
                    _ => None,
                }
            }
        }
        impl From<Volume<$t>> for AnyVolume {
            fn from(volume: Volume<$t>) -> Self {
                AnyVolume::$variant(volume)
            }
        }
    )*};
}
wrap! { bool, Bool; u8, U8; i8, I8; u16, U16; i16, I16; u32, U32; i32, I32; u64, U64; i64, I64; f32, F32; f64, F64; }

impl AnyVolume {
    /// A volume of zeros (or `false`).
    pub fn zeros(dtype: Dtype, region: Region) -> Self {
        with_dtype!(dtype, T => Volume::<T>::zeros(region).into())
    }

    /// Copies all of `other`, of the same type and inside this volume's region, to its place here.
    pub fn paste(&mut self, other: &Self) {
        fn typed<T: AnyElement>(to: &mut Volume<T>, from: &AnyVolume) {
            match T::unwrap(from) {
                Some(from) => to.paste(from),
                None => panic!("{} can't be pasted into {}", from.dtype(), T::DTYPE),
            }
        }
        with_volume!(self, to => typed(to, other));
    }

    /// A volume to which the planes of `region` are still to be added, with room for them.
    pub fn without_planes(dtype: Dtype, region: Region) -> Self {
        let start = region.start;
        let none = Region { start, end: [start[0], region.end[1], region.end[2]] };
        with_dtype!(dtype, T => Volume::<T> { region: none, data: Vec::with_capacity(region.voxels()) }.into())
    }

    /// Adds planes that follow those that are here, of the same type, width and height.
    pub fn add_planes(&mut self, planes: &Self) {
        fn typed<T: AnyElement>(to: &mut Volume<T>, from: &AnyVolume) {
            let Some(from) = T::unwrap(from) else { panic!("{} can't be added to {}", from.dtype(), T::DTYPE) };
            assert_eq!(from.region.start, [to.region.end[0], to.region.start[1], to.region.start[2]], "planes follow");
            assert_eq!(from.region.end[1..], to.region.end[1..], "planes are as wide and high");
            to.data.extend_from_slice(&from.data);
            to.region.end[0] = from.region.end[0];
        }
        with_volume!(self, to => typed(to, planes));
    }

    /// The element type.
    pub fn dtype(&self) -> Dtype {
        fn of<T: Element>(_: &Volume<T>) -> Dtype {
            T::DTYPE
        }
        with_volume!(self, v => of(v))
    }

    /// Where in the image the voxels lie.
    pub fn region(&self) -> Region {
        with_volume!(self, v => v.region)
    }

    /// The part inside `part`, as a copy unless there is nothing to cut.
    pub fn into_cropped(self, part: Region) -> Self {
        with_volume!(self, v => v.into_cropped(part).into())
    }

    /// A copy of the voxels of `part`.
    pub fn cropped(&self, part: Region) -> Self {
        with_volume!(self, v => v.cropped(part).into())
    }

    /// The voxels as little-endian bytes, in C order.
    pub fn to_le_bytes(&self) -> Vec<u8> {
        with_volume!(self, v => Element::le_bytes(&v.data).into_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_are_the_voxels_of_the_part_in_order() {
        let region = Region::new([2, 3, 5], [3, 2, 4]);
        let volume = Volume::new(region, (0..24u8).collect());
        for z in 2..5 {
            for (y0, y1) in [(3, 5), (4, 5), (3, 4), (4, 4)] {
                for (x0, x1) in [(5, 9), (6, 8), (8, 9)] {
                    let part = Region { start: [z, y0, x0], end: [5, y1, x1] };
                    assert_eq!(volume.runs(part).flatten().copied().collect::<Vec<_>>(), volume.cropped(part).data);
                }
            }
        }
        assert_eq!(volume.runs(region).count(), 1);
        assert_eq!(volume.runs(Region { start: region.end, end: region.end }).count(), 0);
    }
}
