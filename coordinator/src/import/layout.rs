//! How voxels lie in a file: type, byte order and the order of axes; and reading a box of them.

use pipeline::{Error, Result};
use std::io;
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype};

/// The voxels of an image, one after the other, as a file has them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Layout {
    pub(super) extent: Extent,
    /// The type as stored.
    pub(super) dtype: Dtype,
    /// The bytes of a voxel are in the other order than this machine's.
    pub(super) swapped: bool,
    pub(super) order: Order,
}

/// Which axis runs fastest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// x, then y, then z.
    C,
    /// z, then y, then x.
    Fortran,
}

impl Order {
    /// From the axis that runs fastest to the slowest.
    pub(super) fn axes(self) -> [usize; 3] {
        match self {
            Self::C => [2, 1, 0],
            Self::Fortran => [0, 1, 2],
        }
    }

    pub(super) fn slowest(self) -> usize {
        self.axes()[2]
    }
}

/// Runs of a Fortran-ordered file are read together up to this many bytes.
const TOGETHER_BYTES: usize = 4 << 20;

/// Reads bytes from a place, all of them or an error.
pub(super) type ReadAt<'a> = &'a mut dyn FnMut(u64, &mut [u8]) -> io::Result<()>;

impl Layout {
    /// Bytes of all voxels.
    ///
    /// # Errors
    /// Data when no file has as many.
    pub(super) fn bytes(&self, name: &str) -> Result<u64> {
        self.extent
            .shape
            .iter()
            .try_fold(self.dtype.size() as u64, |product, n| product.checked_mul(*n as u64))
            .filter(|bytes| i64::try_from(*bytes).is_ok())
            .ok_or_else(|| Error::data(format!("the header of {name} promises more voxels than fit any file")))
    }

    /// The most bytes that [`Layout::read`] takes besides those it reads.
    pub(super) fn scratch_bytes(&self) -> u64 {
        let [depth, rows, _] = self.extent.shape;
        let run = depth * self.dtype.size();
        match self.order {
            Order::C => 0,
            Order::Fortran => run.saturating_mul(rows).min(TOGETHER_BYTES.max(run)) as u64,
        }
    }

    /// Puts the bytes of `region` into `bytes`, in C order.
    pub(super) fn read(&self, region: Region, bytes: &mut [u8], read_at: ReadAt) -> io::Result<()> {
        match self.order {
            Order::C => self.read_c(region, bytes, read_at),
            Order::Fortran => self.read_fortran(region, bytes, read_at),
        }
    }

    /// Row by row; rows that lie together in the file in one read.
    fn read_c(&self, region: Region, bytes: &mut [u8], read_at: ReadAt) -> io::Result<()> {
        let [depth, rows, width] = region.shape();
        let size = self.dtype.size();
        let rows_together = if width == self.extent.shape[2] { rows } else { 1 };
        let mut runs = bytes.chunks_exact_mut(rows_together * width * size);
        for z in 0..depth {
            for y in (0..rows).step_by(rows_together) {
                let at = [region.start[0] + z, region.start[1] + y, region.start[2]];
                if let Some(run) = runs.next() {
                    read_at(self.extent.linear(at) * size as u64, run)?;
                }
            }
        }
        Ok(())
    }

    /// z runs fastest in the file: a few runs along z at a time, each from its first to its last wanted voxel, scattered.
    fn read_fortran(&self, region: Region, bytes: &mut [u8], read_at: ReadAt) -> io::Result<()> {
        let [depth_all, rows_all, _] = self.extent.shape;
        let [depth, rows, width] = region.shape();
        let size = self.dtype.size();
        let together = (TOGETHER_BYTES / (depth_all * size)).clamp(1, rows);
        let mut runs = vec![0; ((together - 1) * depth_all + depth) * size];
        for x in 0..width {
            for y0 in (0..rows).step_by(together) {
                let count = together.min(rows - y0);
                let first = ((region.start[2] + x) * rows_all + region.start[1] + y0) * depth_all + region.start[0];
                let runs = &mut runs[..((count - 1) * depth_all + depth) * size];
                read_at((first * size) as u64, runs)?;
                for y in 0..count {
                    for z in 0..depth {
                        let from = (y * depth_all + z) * size;
                        let to = ((z * rows + y0 + y) * width + x) * size;
                        bytes[to..to + size].copy_from_slice(&runs[from..from + size]);
                    }
                }
            }
        }
        Ok(())
    }

    /// The voxels of `region` from their bytes in C order.
    pub(super) fn volume(&self, region: Region, mut bytes: Vec<u8>) -> AnyVolume {
        if self.swapped {
            bytes.chunks_exact_mut(self.dtype.size()).for_each(<[u8]>::reverse);
        }
        with_dtype!(self.dtype, T => AnyVolume::from(Volume::new(region, T::from_ne(bytes.into()))))
    }
}

/// What numpy calls the types, with the byte order: `<u2`, `|b1`. Says whether the bytes must be swapped here.
pub(super) fn dtype_of_code(code: &str) -> Option<(Dtype, bool)> {
    let mut letters = code.chars();
    let (order, name) = (letters.next()?, letters.as_str());
    let dtype = match name {
        "b1" => Dtype::Bool,
        "u1" => Dtype::U8,
        "i1" => Dtype::I8,
        "u2" => Dtype::U16,
        "i2" => Dtype::I16,
        "u4" => Dtype::U32,
        "i4" => Dtype::I32,
        "u8" => Dtype::U64,
        "i8" => Dtype::I64,
        "f4" => Dtype::F32,
        "f8" => Dtype::F64,
        _ => return None,
    };
    match order {
        '<' => Some((dtype, cfg!(target_endian = "big"))),
        '>' => Some((dtype, cfg!(target_endian = "little"))),
        '|' | '=' => Some((dtype, false)),
        _ => None,
    }
}
