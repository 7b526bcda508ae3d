//! NIfTI-1 and NIfTI-2: `.nii`, `.nii.gz`, and pairs of `.hdr` and `.img`, as <https://nifti.nimh.nih.gov> defines them.
//!
//! x runs fastest, which is z, y, x in C order. The rule for `scl_slope` is nibabel's: 0 and what is not finite mean
//! none, else `v * slope + inter` in float64. It is kept as float32, or as float64 where float32 could not tell two stored
//! values apart. The affine comes from the sform where its code is above 0, else from the qform.

use super::input::Input;
use super::place::{Affine, Place};
use super::source::{Context, Scaling, Source, c_order};
use pipeline::{Error, Result};
use std::path::{Path, PathBuf};
use voxel::{Dtype, Extent};

const NIFTI1_BYTES: usize = 348;
const NIFTI2_BYTES: usize = 540;

/// True when a file begins as a NIfTI header, of either version and byte order.
pub(super) fn is_header(start: &[u8]) -> bool {
    let size = start.first_chunk().map(|bytes| (i32::from_le_bytes(*bytes), i32::from_be_bytes(*bytes)));
    match size {
        Some((348, _) | (_, 348)) => matches!(start.get(344..347), Some(b"n+1" | b"ni1")),
        Some((540, _) | (_, 540)) => matches!(start.get(4..7), Some(b"n+2" | b"ni2")),
        _ => false,
    }
}

/// The header beside an `.img`, if `path` is one of a pair.
pub(super) fn header_beside(path: &Path) -> Option<PathBuf> {
    let name = path.file_name()?.to_str()?;
    let stem = name.strip_suffix(".img.gz").or_else(|| name.strip_suffix(".img"))?;
    ["hdr", "hdr.gz"].iter().map(|end| path.with_file_name(format!("{stem}.{end}"))).find(|header| header.is_file())
}

/// The image of a pair, by its header.
pub(super) fn open_pair(header: &Path, context: &Context) -> Result<Source> {
    let mut start = [0; 352];
    let read = unpacked(header)?.start(&mut start)?;
    if !is_header(&start[..read]) {
        return Err(Error::invalid(format!("{} is no NIfTI header", header.display()))
            .hint("an Analyze 7.5 pair can be saved as NIfTI with nibabel"));
    }
    open(header, unpacked(header)?, context)
}

/// The image whose header is at the beginning of `input`, which is `path` or what is packed in it.
pub(super) fn open(path: &Path, mut input: Input, context: &Context) -> Result<Source> {
    let name = input.name.clone();
    let header = Header::read(&mut input).map_err(|error| error.at(&name))?;
    let image = header.image().map_err(|error| error.at(&name))?;
    context.reading.only_one_member(&name)?;
    context.reading.pick(&name, "channel", context.reading.channel, 1, &[])?;
    let time = context.reading.pick(&name, "time", context.reading.time, image.times, &[])? as u64;
    let layout = c_order(image.extent, image.dtype, header.swapped);
    let before = time.checked_mul(layout.bytes(&name)?).filter(|before| i64::try_from(*before).is_ok());
    let before =
        before.ok_or_else(|| Error::data(format!("the header of {name} promises more voxels than fit any file")))?;
    let (input, offset) = if header.single {
        let least = if header.version == 1 { 352 } else { 544 };
        (input, header.offset.max(least))
    } else {
        (beside(path)?, header.offset)
    };
    let skip = offset.saturating_add(before).saturating_sub(input.position());
    let mut source = Source::new(input, layout, skip, context)?.scaled(image.scaling);
    let (place, note) = header.place();
    source.place = place;
    source.notes.extend(note);
    Ok(source)
}

/// A file that may be packed.
fn unpacked(path: &Path) -> Result<Input> {
    let mut start = [0; 2];
    let read = Input::plain(path)?.start(&mut start)?;
    if start[..read] == [0x1f, 0x8b] { Input::gzip(path) } else { Input::plain(path) }
}

/// The voxels of a pair, by its header.
fn beside(header: &Path) -> Result<Input> {
    let name = header.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name.strip_suffix(".gz").unwrap_or(name);
    let stem = stem.strip_suffix(".hdr").unwrap_or(stem);
    let there =
        ["img", "img.gz"].iter().map(|end| header.with_file_name(format!("{stem}.{end}"))).find(|p| p.is_file());
    match there {
        Some(image) => unpacked(&image),
        None => Err(Error::invalid(format!(
            "{} is the header of a pair, and there is no {stem}.img beside it",
            header.display()
        ))),
    }
}

/// What is used of a header, with the numbers of both versions.
#[derive(Debug, PartialEq)]
struct Header {
    version: u8,
    swapped: bool,
    /// Header and voxels are in one file.
    single: bool,
    dim: [i64; 8],
    datatype: i16,
    pixdim: [f64; 8],
    offset: u64,
    slope: f64,
    inter: f64,
    units: u8,
    qform_code: i32,
    sform_code: i32,
    /// Quaternion b, c, d and offset x, y, z.
    qform: [f64; 6],
    /// Rows of the affine.
    sform: [[f64; 4]; 3],
}

/// What a header says of the voxels.
#[derive(Debug, PartialEq)]
struct Image {
    extent: Extent,
    dtype: Dtype,
    times: usize,
    scaling: Option<Scaling>,
}

/// Numbers at places of a header.
struct Fields {
    bytes: Vec<u8>,
    big_endian: bool,
}

impl Fields {
    fn raw<const N: usize>(&self, at: usize) -> [u8; N] {
        let mut raw = [0; N];
        raw.copy_from_slice(&self.bytes[at..at + N]);
        if self.big_endian {
            raw.reverse();
        }
        raw
    }
    fn i16(&self, at: usize) -> i16 {
        i16::from_le_bytes(self.raw(at))
    }
    fn i32(&self, at: usize) -> i32 {
        i32::from_le_bytes(self.raw(at))
    }
    fn i64(&self, at: usize) -> i64 {
        i64::from_le_bytes(self.raw(at))
    }
    fn f32(&self, at: usize) -> f64 {
        f64::from(f32::from_le_bytes(self.raw(at)))
    }
    fn f64(&self, at: usize) -> f64 {
        f64::from_le_bytes(self.raw(at))
    }
}

impl Header {
    fn read(input: &mut Input) -> Result<Self> {
        let mut bytes = vec![0; NIFTI1_BYTES];
        input.header(&mut bytes)?;
        let mut fields = Fields { bytes, big_endian: false };
        fields.big_endian = !matches!(fields.i32(0), 348 | 540);
        let header = if fields.i32(0) == 348 {
            Self::version_1(&fields)
        } else {
            fields.bytes.resize(NIFTI2_BYTES, 0);
            input.header(&mut fields.bytes[NIFTI1_BYTES..])?;
            Self::version_2(&fields)
        };
        let offset = header.1;
        if !(0.0..=9e15).contains(&offset) {
            return Err(Error::data(format!("its voxels begin at byte {offset}, says the header")));
        }
        Ok(Self { offset: offset as u64, ..header.0 })
    }

    fn version_1(fields: &Fields) -> (Self, f64) {
        let row = |at: usize| std::array::from_fn(|i| fields.f32(at + 4 * i));
        let header = Self {
            version: 1,
            swapped: fields.big_endian != cfg!(target_endian = "big"),
            single: fields.bytes[345] == b'+',
            dim: std::array::from_fn(|i| i64::from(fields.i16(40 + 2 * i))),
            datatype: fields.i16(70),
            pixdim: std::array::from_fn(|i| fields.f32(76 + 4 * i)),
            offset: 0,
            slope: fields.f32(112),
            inter: fields.f32(116),
            units: fields.bytes[123],
            qform_code: i32::from(fields.i16(252)),
            sform_code: i32::from(fields.i16(254)),
            qform: std::array::from_fn(|i| fields.f32(256 + 4 * i)),
            sform: [row(280), row(296), row(312)],
        };
        (header, fields.f32(108))
    }

    fn version_2(fields: &Fields) -> (Self, f64) {
        let row = |at: usize| std::array::from_fn(|i| fields.f64(at + 8 * i));
        let header = Self {
            version: 2,
            swapped: fields.big_endian != cfg!(target_endian = "big"),
            single: fields.bytes[5] == b'+',
            dim: std::array::from_fn(|i| fields.i64(16 + 8 * i)),
            datatype: fields.i16(12),
            pixdim: std::array::from_fn(|i| fields.f64(104 + 8 * i)),
            offset: 0,
            slope: fields.f64(176),
            inter: fields.f64(184),
            units: (fields.i32(500) & 0xff) as u8,
            qform_code: fields.i32(344),
            sform_code: fields.i32(348),
            qform: std::array::from_fn(|i| fields.f64(352 + 8 * i)),
            sform: [row(400), row(432), row(464)],
        };
        (header, fields.i64(168) as f64)
    }

    fn image(&self) -> Result<Image> {
        let axes = usize::try_from(self.dim[0]).unwrap_or(0);
        if !(1..=7).contains(&axes) {
            return Err(Error::data(format!("has {} axes, says its header", self.dim[0])));
        }
        let lengths: Vec<usize> = self.dim[1..=axes].iter().map(|n| usize::try_from(*n).unwrap_or(0)).collect();
        if lengths.contains(&0) {
            return Err(Error::data(format!("has no voxels: its shape is {:?}", &self.dim[1..=axes])));
        }
        let extent = match *lengths.as_slice() {
            [x, y] => Extent { shape: [1, y, x], planar: true },
            [x, y, z, ..] => Extent { shape: [z, y, x], planar: false },
            _ => return Err(Error::invalid("has 1 axis, and images have two or three")),
        };
        if let Some((axis, length)) = lengths.iter().enumerate().skip(4).find(|(_, length)| **length > 1) {
            return Err(Error::invalid(format!(
                "has {length} values per voxel along axis {}, and a volume has one",
                axis + 1
            ))
            .hint("save one of them on its own"));
        }
        let dtype = self.dtype()?;
        Ok(Image { extent, dtype, times: lengths.get(3).copied().unwrap_or(1), scaling: self.scaling(dtype)? })
    }

    fn dtype(&self) -> Result<Dtype> {
        let other = match self.datatype {
            2 => return Ok(Dtype::U8),
            4 => return Ok(Dtype::I16),
            8 => return Ok(Dtype::I32),
            16 => return Ok(Dtype::F32),
            64 => return Ok(Dtype::F64),
            256 => return Ok(Dtype::I8),
            512 => return Ok(Dtype::U16),
            768 => return Ok(Dtype::U32),
            1024 => return Ok(Dtype::I64),
            1280 => return Ok(Dtype::U64),
            1 => "single bits",
            32 | 1792 | 2048 => "complex numbers",
            128 | 2304 => "colours",
            1536 => "floats of 128 bits",
            code => return Err(Error::data(format!("has voxels of type {code}, which NIfTI does not define"))),
        };
        Err(Error::invalid(format!("holds {other}, and integers of 8 to 64 bits, float32 and float64 are read"))
            .hint("save one component of it on its own, as numbers"))
    }

    fn scaling(&self, stored: Dtype) -> Result<Option<Scaling>> {
        let Self { slope, inter, .. } = *self;
        if slope == 0.0 || !slope.is_finite() {
            return Ok(None);
        }
        if !inter.is_finite() {
            return Err(Error::data(format!("has scl_slope {slope} and scl_inter {inter}")));
        }
        if (slope, inter) == (1.0, 0.0) {
            return Ok(None);
        }
        let dtype = match stored {
            Dtype::F32 => Dtype::F32,
            dtype if dtype.size() <= 2 => {
                // float32 keeps neighbours apart where half its step at the largest value is less than half of theirs.
                let largest = slope.abs() * 65_535.0 + inter.abs();
                let apart = largest * f64::from(f32::EPSILON) <= slope.abs() && largest < f64::from(f32::MAX);
                if apart { Dtype::F32 } else { Dtype::F64 }
            }
            _ => Dtype::F64,
        };
        Ok(Some(Scaling { slope, inter, dtype }))
    }

    fn affine(&self) -> Option<(Affine, i32)> {
        if self.sform_code > 0 {
            let columns = std::array::from_fn(|c| std::array::from_fn(|r| self.sform[r][c]));
            return Some((Affine { columns, origin: self.sform.map(|row| row[3]) }, self.sform_code));
        }
        if self.qform_code <= 0 {
            return None;
        }
        let [b, c, d, x, y, z] = self.qform;
        let a = (1.0 - (b * b + c * c + d * d)).max(0.0).sqrt();
        let rows = [
            [a * a + b * b - c * c - d * d, 2.0 * (b * c - a * d), 2.0 * (b * d + a * c)],
            [2.0 * (b * c + a * d), a * a + c * c - b * b - d * d, 2.0 * (c * d - a * b)],
            [2.0 * (b * d - a * c), 2.0 * (c * d + a * b), a * a + d * d - b * b - c * c],
        ];
        let handed = if self.pixdim[0] < 0.0 { -1.0 } else { 1.0 };
        let steps = [self.pixdim[1], self.pixdim[2], handed * self.pixdim[3]];
        let columns = std::array::from_fn(|c| std::array::from_fn(|r| rows[r][c] * steps[c]));
        Some((Affine { columns, origin: [x, y, z] }, self.qform_code))
    }

    /// Sizes from pixdim, whose unit is in the lowest bits of xyzt_units; and what to tell of the affine.
    fn place(&self) -> (Place, Option<String>) {
        let step = |axis: usize| self.pixdim[axis].abs();
        let good = |v: f64| if v.is_finite() && v > 0.0 { v } else { 1.0 };
        let unit = match self.units & 7 {
            1 => Some("meter"),
            2 => Some("millimeter"),
            3 => Some("micrometer"),
            _ => None,
        };
        let mut place = Place {
            spacing: Some([good(step(3)), good(step(2)), good(step(1))]),
            unit: unit.map(str::to_owned),
            ..Place::default()
        };
        let affine = self
            .affine()
            .filter(|(affine, _)| affine.columns.iter().flatten().chain(&affine.origin).all(|v| v.is_finite()));
        let note = affine.and_then(|(affine, code)| {
            let space = match code {
                1 => "scanner",
                2 => "aligned",
                3 => "talairach",
                4 => "mni",
                _ => "other",
            };
            affine.put_into(&mut place, space)
        });
        (place, note)
    }
}

#[cfg(test)]
mod tests;
