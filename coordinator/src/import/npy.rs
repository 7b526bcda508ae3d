//! numpy's `.npy` files, as `numpy.lib.format` documents them: a header in Python's notation, then the voxels.
//!
//! Versions 1 to 3, C and Fortran order, both byte orders, bool, integers and floats, two or three axes.

use super::source::failed;
use pipeline::{Error, Result};
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype};

/// An open `.npy` file.
pub(super) struct Npy {
    path: PathBuf,
    file: File,
    header: Header,
    /// Where the voxels begin, in bytes.
    data: u64,
}

/// What the header says.
#[derive(Debug, PartialEq)]
struct Header {
    dtype: Dtype,
    /// The bytes of a voxel are in the other order than this machine's.
    swapped: bool,
    fortran_order: bool,
    extent: Extent,
}

/// No sensible header is longer: numpy refuses to read longer ones by default, too.
const HEADER_BYTES_MAX: usize = 10_000;

impl Npy {
    pub(super) fn open(path: &Path) -> Result<Self> {
        let io = |error| failed(path, &error);
        let mut file = File::open(path).map_err(io)?;
        let mut start = [0; 8];
        file.read_exact(&mut start).map_err(io)?;
        let length = match start[6] {
            1 => {
                let mut length = [0; 2];
                file.read_exact(&mut length).map_err(io)?;
                usize::from(u16::from_le_bytes(length))
            }
            2 | 3 => {
                let mut length = [0; 4];
                file.read_exact(&mut length).map_err(io)?;
                u32::from_le_bytes(length) as usize
            }
            version => {
                return Err(Error::invalid(format!(
                    "{} is a .npy file of version {version}, and versions 1 to 3 are read",
                    path.display()
                )));
            }
        };
        if length > HEADER_BYTES_MAX {
            return Err(Error::data(format!("the header of {} claims {length} bytes", path.display())));
        }
        let mut text = vec![0; length];
        file.read_exact(&mut text).map_err(io)?;
        let header = Header::parse(&String::from_utf8_lossy(&text)).map_err(|error| error.at(path.display()))?;
        let data = file.stream_position().map_err(io)?;
        let npy = Self { path: path.to_owned(), file, header, data };
        let bytes = npy.file.metadata().map_err(io)?.len();
        match npy.expected_bytes() {
            Some(expected) if bytes >= expected => Ok(npy),
            Some(expected) => Err(Error::data(format!(
                "{} is truncated: its header promises {expected} bytes, and it has {bytes}",
                path.display()
            ))),
            None => {
                Err(Error::data(format!("the header of {} promises more voxels than fit any file", path.display())))
            }
        }
    }

    /// The length of the whole file, unless its header is absurd.
    fn expected_bytes(&self) -> Option<u64> {
        let shape = self.header.extent.shape;
        let voxels = shape.iter().try_fold(1u64, |product, n| product.checked_mul(*n as u64))?;
        voxels.checked_mul(self.header.dtype.size() as u64)?.checked_add(self.data)
    }

    pub(super) fn extent(&self) -> Extent {
        self.header.extent
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.header.dtype
    }

    pub(super) fn fortran_order(&self) -> bool {
        self.header.fortran_order
    }

    /// One run of the file, at its longest.
    pub(super) fn scratch_bytes(&self) -> u64 {
        let [depth, rows, _] = self.header.extent.shape;
        if self.header.fortran_order { (depth * rows * self.header.dtype.size()) as u64 } else { 0 }
    }

    pub(super) fn read(&mut self, region: Region) -> Result<AnyVolume> {
        let size = self.header.dtype.size();
        let mut bytes = vec![0; region.voxels() * size];
        if self.header.fortran_order { self.read_fortran(region, &mut bytes) } else { self.read_c(region, &mut bytes) }
            .map_err(|error| failed(&self.path, &error))?;
        if self.header.swapped {
            bytes.chunks_exact_mut(size).for_each(<[u8]>::reverse);
        }
        Ok(with_dtype!(self.header.dtype, T => AnyVolume::from(Volume::new(region, T::from_ne(&bytes)))))
    }

    /// Row by row; rows that lie together in the file in one read.
    fn read_c(&mut self, region: Region, bytes: &mut [u8]) -> std::io::Result<()> {
        let Extent { shape, .. } = self.header.extent;
        let [depth, rows, width] = region.shape();
        let size = self.header.dtype.size();
        let rows_together = if width == shape[2] { rows } else { 1 };
        let mut runs = bytes.chunks_exact_mut(rows_together * width * size);
        for z in 0..depth {
            for y in (0..rows).step_by(rows_together) {
                let at = [region.start[0] + z, region.start[1] + y, region.start[2]];
                let offset = self.data + self.header.extent.linear(at) * size as u64;
                self.file.seek(SeekFrom::Start(offset))?;
                if let Some(run) = runs.next() {
                    self.file.read_exact(run)?;
                }
            }
        }
        Ok(())
    }

    /// z runs fastest in the file: plane by plane along x, each read from its first to its last wanted voxel and
    /// scattered.
    fn read_fortran(&mut self, region: Region, bytes: &mut [u8]) -> std::io::Result<()> {
        let [depth_all, rows_all, _] = self.header.extent.shape;
        let [depth, rows, width] = region.shape();
        let size = self.header.dtype.size();
        let mut plane = vec![0; ((rows - 1) * depth_all + depth) * size];
        for x in 0..width {
            let first = ((region.start[2] + x) * rows_all + region.start[1]) * depth_all + region.start[0];
            self.file.seek(SeekFrom::Start(self.data + (first * size) as u64))?;
            self.file.read_exact(&mut plane)?;
            for y in 0..rows {
                for z in 0..depth {
                    let from = (y * depth_all + z) * size;
                    let to = ((z * rows + y) * width + x) * size;
                    bytes[to..to + size].copy_from_slice(&plane[from..from + size]);
                }
            }
        }
        Ok(())
    }
}

impl Header {
    /// Reads `{'descr': '<u2', 'fortran_order': False, 'shape': (3, 4, 5), }`.
    fn parse(text: &str) -> Result<Self> {
        let descr = value_of(text, "descr")?;
        let quoted = descr.trim_start_matches(['\'', '"']);
        if quoted.len() == descr.len() {
            return Err(Error::invalid("holds records, not plain numbers").hint("save one field of it on its own"));
        }
        let (dtype, swapped) = dtype_of(quoted.split(['\'', '"']).next().unwrap_or_default())?;
        let order = value_of(text, "fortran_order")?;
        let fortran_order = match () {
            () if order.starts_with("True") => true,
            () if order.starts_with("False") => false,
            () => return Err(Error::data("the header's `fortran_order` is neither True nor False")),
        };
        let shape = value_of(text, "shape")?;
        let shape = shape.strip_prefix('(').and_then(|rest| rest.split_once(')')).map(|(inside, _)| inside);
        let lengths = shape.map(|inside| {
            inside
                .split(',')
                .map(str::trim)
                .filter(|n| !n.is_empty())
                .map(str::parse)
                .collect::<Result<Vec<usize>, _>>()
        });
        let Some(Ok(lengths)) = lengths else {
            return Err(Error::data("the header's `shape` is not a tuple of lengths"));
        };
        let extent = match *lengths.as_slice() {
            [y, x] => Extent { shape: [1, y, x], planar: true },
            [z, y, x] => Extent { shape: [z, y, x], planar: false },
            _ => {
                return Err(Error::invalid(format!("has {} axes, and images have two or three", lengths.len()))
                    .hint("save one channel or time point of it on its own"));
            }
        };
        if extent.shape.contains(&0) {
            return Err(Error::invalid(format!("has no voxels: its shape is {lengths:?}")));
        }
        Ok(Self { dtype, swapped, fortran_order, extent })
    }
}

/// What follows `'key':` in a Python dictionary.
fn value_of<'a>(text: &'a str, key: &str) -> Result<&'a str> {
    ['\'', '"']
        .iter()
        .find_map(|quote| text.split_once(&format!("{quote}{key}{quote}")))
        .and_then(|(_, rest)| rest.trim_start().strip_prefix(':'))
        .map(str::trim_start)
        .ok_or_else(|| Error::data(format!("the header has no `{key}`")))
}

/// The type numpy's code `<u2` stands for, and whether its bytes must be swapped here.
fn dtype_of(code: &str) -> Result<(Dtype, bool)> {
    let unknown = || {
        Error::invalid(format!(
            "its type is `{code}`, and bool, integers of 8 to 64 bits, float32 and float64 are read"
        ))
        .hint("convert it in numpy first: a.astype(\"float32\")")
    };
    let mut letters = code.chars();
    let (order, name) = (letters.next().ok_or_else(unknown)?, letters.as_str());
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
        _ => return Err(unknown()),
    };
    match order {
        '<' => Ok((dtype, cfg!(target_endian = "big"))),
        '>' => Ok((dtype, cfg!(target_endian = "little"))),
        '|' | '=' => Ok((dtype, false)),
        _ => Err(unknown()),
    }
}

#[cfg(test)]
mod tests;
