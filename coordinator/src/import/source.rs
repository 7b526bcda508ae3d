//! The files that can be imported, behind one face: what image they hold, and the voxels of any box of it.

use super::npy::Npy;
use super::tiff::Tiff;
use pipeline::{Error, Result};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::Path;
use voxel::{AnyVolume, Dtype, Extent, Region};

/// An image file, opened and found readable.
pub(super) enum Source {
    Tiff(Box<Tiff>),
    Npy(Npy),
}

impl Source {
    /// Opens `path` by what its first bytes say it is. `memory_bytes` bounds what decoding one piece may take.
    pub(super) fn open(path: &Path, memory_bytes: u64) -> Result<Self> {
        let mut file = File::open(path).map_err(|error| failed(path, &error))?;
        let mut magic = [0; 6];
        let read = file.read(&mut magic).map_err(|error| failed(path, &error))?;
        match &magic[..read] {
            [b'I', b'I', 42 | 43, 0, ..] | [b'M', b'M', 0, 42 | 43, ..] => {
                Ok(Self::Tiff(Box::new(Tiff::open(path, memory_bytes)?)))
            }
            b"\x93NUMPY" => Ok(Self::Npy(Npy::open(path)?)),
            _ => Err(Error::invalid(format!("{} is neither a TIFF nor a .npy file", path.display()))
                .hint("these are the formats this version imports")),
        }
    }

    pub(super) fn extent(&self) -> Extent {
        match self {
            Self::Tiff(tiff) => tiff.extent(),
            Self::Npy(npy) => npy.extent(),
        }
    }

    pub(super) fn dtype(&self) -> Dtype {
        match self {
            Self::Tiff(tiff) => tiff.dtype(),
            Self::Npy(npy) => npy.dtype(),
        }
    }

    /// The axes in the order in which neighbours lie closest in the file: a box that is whole along the first of them
    /// is read in the longest runs.
    pub(super) fn nearest_axes(&self) -> [usize; 3] {
        match self {
            Self::Npy(npy) if npy.fortran_order() => [0, 1, 2],
            _ => [2, 1, 0],
        }
    }

    /// The most bytes that reading takes besides the voxels read.
    pub(super) fn scratch_bytes(&self) -> u64 {
        match self {
            Self::Tiff(tiff) => tiff.scratch_bytes(),
            Self::Npy(npy) => npy.scratch_bytes(),
        }
    }

    /// The voxels of `region`, which lies inside the extent.
    pub(super) fn read(&mut self, region: Region) -> Result<AnyVolume> {
        match self {
            Self::Tiff(tiff) => tiff.read(region),
            Self::Npy(npy) => npy.read(region),
        }
    }
}

/// What a failed file operation asks of the user.
pub(super) fn failed(path: &Path, error: &std::io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => Error::invalid(format!("there is no file {path}")),
        ErrorKind::PermissionDenied => Error::invalid(format!("{path} may not be read: permission denied")),
        ErrorKind::IsADirectory => Error::invalid(format!("{path} is a folder, not a file")),
        ErrorKind::UnexpectedEof => Error::data(format!("{path} ends too early: it is truncated")),
        _ => Error::unavailable(format!("{path} can't be read: {error}")),
    }
}
