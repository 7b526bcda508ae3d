//! Multi-page TIFF and BigTIFF: one page is a 2-D image, several are the planes of a volume.
//!
//! Grey pages of one shape and type, in strips or tiles, uncompressed or packed with LZW, deflate (both of its codes)
//! or PackBits. Decoding is the `tiff` crate's; here is what may be imported, and reading only the strips that a box
//! needs.

use super::source::failed;
use ::tiff::decoder::{Decoder, Limits};
use ::tiff::tags::{CompressionMethod, PhotometricInterpretation, SampleFormat, Tag};
use ::tiff::{ColorType, TiffError};
use pipeline::{Error, Result};
use std::fs::File;
use std::io::BufReader;
use std::path::{Path, PathBuf};
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype};

/// An open TIFF file whose pages agree.
pub(super) struct Tiff {
    path: PathBuf,
    decoder: Decoder<BufReader<File>>,
    pages: usize,
    page: Page,
    /// The largest strip or tile of any page, decoded.
    piece_bytes: u64,
}

/// What all pages must share.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Page {
    rows: usize,
    width: usize,
    dtype: Dtype,
    /// Stored as white is zero, which the decoder turns round; voxels are wanted as they are stored.
    inverted: bool,
}

impl Tiff {
    /// Opens a file and looks at each of its pages. A strip or tile that decodes to more than a quarter of
    /// `memory_bytes` is refused.
    pub(super) fn open(path: &Path, memory_bytes: u64) -> Result<Self> {
        let file = File::open(path).map_err(|error| failed(path, &error))?;
        let limit = usize::try_from(memory_bytes / 4).unwrap_or(usize::MAX);
        let mut limits = Limits::default();
        limits.decoding_buffer_size = limit;
        limits.intermediate_buffer_size = limit;
        limits.ifd_value_size = limit;
        let decoder = Decoder::new(BufReader::new(file)).map_err(|error| refused(path, 0, &error))?;
        let mut decoder = decoder.with_limits(limits);
        let page = page(&mut decoder, path, 0)?;
        declared_planes(&mut decoder).map_err(|error| error.at(path.display()))?;
        let mut tiff = Self { path: path.to_owned(), decoder, pages: 1, page, piece_bytes: 0 };
        tiff.weigh(0, memory_bytes)?;
        while tiff.decoder.more_images() {
            let index = tiff.pages;
            tiff.decoder.next_image().map_err(|error| refused(path, index, &error))?;
            let other = self::page(&mut tiff.decoder, path, index)?;
            if other != page {
                return Err(Error::invalid(format!(
                    "{}: page {} is {other}, but page 1 is {page}; the planes of a volume must agree",
                    path.display(),
                    index + 1,
                )));
            }
            tiff.weigh(index, memory_bytes)?;
            tiff.pages += 1;
        }
        Ok(tiff)
    }

    /// Notes the size of the current page's strips or tiles.
    fn weigh(&mut self, index: usize, memory_bytes: u64) -> Result<()> {
        let (width, rows) = self.decoder.chunk_dimensions();
        // What a strip or tile claims beyond the edge of the page is not decoded.
        let (width, rows) = ((width as usize).min(self.page.width), (rows as usize).min(self.page.rows));
        let bytes = (width as u64).saturating_mul(rows as u64).saturating_mul(self.page.dtype.size() as u64);
        if bytes > memory_bytes / 4 {
            return Err(Error::invalid(format!(
                "{}: the strips of page {} decode to {bytes} bytes each, more than a quarter of the memory of \
                 {memory_bytes} bytes",
                self.path.display(),
                index + 1
            ))
            .hint("raise --memory, or save the file with fewer rows per strip"));
        }
        self.piece_bytes = self.piece_bytes.max(bytes);
        Ok(())
    }

    pub(super) fn extent(&self) -> Extent {
        Extent { shape: [self.pages, self.page.rows, self.page.width], planar: self.pages == 1 }
    }

    pub(super) fn dtype(&self) -> Dtype {
        self.page.dtype
    }

    /// One decoded strip, and as much again for its compressed bytes.
    pub(super) fn scratch_bytes(&self) -> u64 {
        2 * self.piece_bytes
    }

    pub(super) fn read(&mut self, region: Region) -> Result<AnyVolume> {
        let mut bytes = vec![0; region.voxels() * self.page.dtype.size()];
        let plane_bytes = bytes.len() / region.shape()[0];
        for (z, plane) in (region.start[0]..region.end[0]).zip(bytes.chunks_exact_mut(plane_bytes)) {
            self.read_page(z, region, plane).map_err(|error| refused(&self.path, z, &error))?;
        }
        if self.page.inverted {
            // The decoder has subtracted unsigned values from their largest, which flips every bit; back again.
            bytes.iter_mut().for_each(|byte| *byte = !*byte);
        }
        Ok(with_dtype!(self.page.dtype, T => AnyVolume::from(Volume::new(region, T::from_ne(&bytes)))))
    }

    /// The rows and columns of `region` on page `z`, strip by strip.
    fn read_page(&mut self, z: usize, region: Region, plane: &mut [u8]) -> Result<(), TiffError> {
        self.decoder.seek_to_image(z)?;
        let size = self.page.dtype.size();
        let (piece_width, piece_rows) = self.decoder.chunk_dimensions();
        let (piece_width, piece_rows) = (piece_width as usize, piece_rows as usize);
        let across = self.page.width.div_ceil(piece_width);
        let [_, _, width] = region.shape();
        let mut piece = Vec::new();
        for row in region.start[1] / piece_rows..=(region.end[1] - 1) / piece_rows {
            for column in region.start[2] / piece_width..=(region.end[2] - 1) / piece_width {
                let index = (row * across + column) as u32;
                let (data_width, data_rows) = self.decoder.chunk_data_dimensions(index);
                let (data_width, data_rows) = (data_width as usize, data_rows as usize);
                piece.resize(data_width * data_rows * size, 0);
                self.decoder.read_chunk_bytes(index, &mut piece)?;
                let (top, left) = (row * piece_rows, column * piece_width);
                let (from, to) = (left.max(region.start[2]), (left + data_width).min(region.end[2]));
                for y in top.max(region.start[1])..(top + data_rows).min(region.end[1]) {
                    let source = ((y - top) * data_width + (from - left)) * size;
                    let target = ((y - region.start[1]) * width + (from - region.start[2])) * size;
                    let run = (to - from) * size;
                    plane[target..target + run].copy_from_slice(&piece[source..source + run]);
                }
            }
        }
        Ok(())
    }
}

/// The current page, page `index` of the file counted from 0, if it is one that can be imported.
fn page(decoder: &mut Decoder<BufReader<File>>, path: &Path, index: usize) -> Result<Page> {
    let place = format!("{}: page {}", path.display(), index + 1);
    let tiff = |error: TiffError| refused(path, index, &error);
    let grey = |error: Error| error.hint("save it as a grey image, one file per channel");
    let interpretation = decoder.find_tag_unsigned::<u16>(Tag::PhotometricInterpretation).map_err(tiff)?;
    if interpretation == Some(PhotometricInterpretation::RGBPalette.to_u16()) {
        return Err(grey(Error::invalid(format!(
            "{place} has colours from a palette, but a volume has one value per voxel"
        ))));
    }
    let bits = match decoder.colortype().map_err(tiff)? {
        ColorType::Gray(bits) => bits,
        ColorType::Multiband { num_samples, .. } => {
            return Err(grey(Error::invalid(format!(
                "{place} has {num_samples} samples per pixel, but a volume has one"
            ))));
        }
        colour => {
            let name = format!("{colour:?}");
            let name = name.split('(').next().unwrap_or_default();
            return Err(grey(Error::invalid(format!("{place} is {name}, but a volume has one value per voxel"))));
        }
    };
    let compression = decoder.find_tag_unsigned::<u16>(Tag::Compression).map_err(tiff)?.unwrap_or(1);
    match CompressionMethod::from_u16_exhaustive(compression) {
        CompressionMethod::None
        | CompressionMethod::LZW
        | CompressionMethod::Deflate
        | CompressionMethod::OldDeflate
        | CompressionMethod::PackBits => {}
        other => {
            return Err(Error::invalid(format!("{place} is compressed with {other:?}, which is not read"))
                .hint("save it uncompressed, or with LZW, deflate or PackBits"));
        }
    }
    let format = match decoder.find_tag_unsigned_vec::<u16>(Tag::SampleFormat).map_err(tiff)?.as_deref() {
        Some([format, ..]) => SampleFormat::from_u16_exhaustive(*format),
        _ => SampleFormat::Uint,
    };
    let inverted = interpretation == Some(PhotometricInterpretation::WhiteIsZero.to_u16());
    let dtype = match (format, bits) {
        (SampleFormat::Uint, 8) => Dtype::U8,
        (SampleFormat::Uint, 16) => Dtype::U16,
        (SampleFormat::Uint, 32) => Dtype::U32,
        (SampleFormat::Int, 8) if !inverted => Dtype::I8,
        (SampleFormat::Int, 16) if !inverted => Dtype::I16,
        (SampleFormat::Int, 32) if !inverted => Dtype::I32,
        (SampleFormat::IEEEFP, 32) if !inverted => Dtype::F32,
        (SampleFormat::IEEEFP, 64) if !inverted => Dtype::F64,
        _ => {
            let white = if inverted { " where white is zero" } else { "" };
            return Err(Error::invalid(format!(
                "{place} holds {format:?} values of {bits} bits{white}, which are not read"
            ))
            .hint("save it with integers of 8, 16 or 32 bits, or floats of 32 or 64"));
        }
    };
    let (width, rows) = decoder.dimensions().map_err(tiff)?;
    Ok(Page { rows: rows as usize, width: width as usize, dtype, inverted })
}

/// Refuses files whose first page says that its pages are not the z planes of one image: channels and time points
/// would come out interleaved as planes, and ImageJ writes stacks beyond 4 GB as one page followed by bare data.
fn declared_planes(decoder: &mut Decoder<BufReader<File>>) -> Result<()> {
    let Ok(description) = decoder.get_tag_ascii_string(Tag::ImageDescription) else { return Ok(()) };
    let imagej = description.starts_with("ImageJ=");
    let number = |key: &str| {
        if imagej {
            description.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('=')?.trim().parse::<u64>().ok())
        } else {
            let (_, rest) = description.split_once(&format!(" {key}=\""))?;
            rest.split('"').next()?.parse().ok()
        }
    };
    let axes = if imagej { ["channels", "frames"] } else { ["SizeC", "SizeT"] };
    for (key, name) in axes.into_iter().zip(["channels", "time points"]) {
        if let Some(n) = number(key).filter(|n| *n > 1) {
            return Err(Error::invalid(format!("holds {n} {name}, but a volume has one"))
                .hint("save each of them as a file of its own"));
        }
    }
    match number("images").filter(|n| imagej && *n > 1) {
        Some(n) if !decoder.more_images() => Err(Error::invalid(format!(
            "says that it holds {n} images, but has one page: ImageJ's form of files beyond 4 GB"
        ))
        .hint("save it as BigTIFF, or as several files")),
        _ => Ok(()),
    }
}

impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let white = if self.inverted { ", white is zero" } else { "" };
        write!(f, "{} rows of {} voxels ({}{white})", self.rows, self.width, self.dtype)
    }
}

/// What an error on page `index`, counted from 0, asks of the user.
fn refused(path: &Path, index: usize, error: &TiffError) -> Error {
    let place = format!("{}: page {}", path.display(), index + 1);
    match error {
        TiffError::IoError(io) => match io.kind() {
            // The decompressors report damage as an I/O error of one of these kinds.
            std::io::ErrorKind::UnexpectedEof => Error::data(format!("{place} ends too early: the file is truncated")),
            std::io::ErrorKind::InvalidData | std::io::ErrorKind::InvalidInput | std::io::ErrorKind::Other => {
                Error::data(format!("{place} is damaged: {io}"))
            }
            _ => failed(path, io).at(format!("page {}", index + 1)),
        },
        TiffError::UnsupportedError(what) => Error::invalid(format!("{place} can't be imported: {what}")),
        TiffError::LimitsExceeded => Error::invalid(format!("{place} has a strip or list too large for the memory"))
            .hint("raise --memory, or save the file with fewer rows per strip"),
        TiffError::FormatError(_) | TiffError::IntSizeError | TiffError::UsageError(_) => {
            Error::data(format!("{place} is damaged: {error}"))
        }
    }
}

#[cfg(test)]
mod tests;
