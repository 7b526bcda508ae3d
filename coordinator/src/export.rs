//! `voxmill export`: an image as a multi-page BigTIFF, one page for each plane.
//!
//! Chunks are as deep as they are wide, so whole rows of chunks are read at a time, and each of their planes is written
//! as strips; the directories of the pages follow when all strips of these planes are there. So every chunk is decoded
//! once, as long as a row of them fits into the memory given. The file has a temporary name until it is whole.

use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::{Path, PathBuf};

use clap::ValueEnum;
use flate2::write::ZlibEncoder;
use pipeline::array::{Array, ChunkCache, Pick};
use pipeline::job::Crop;
use pipeline::store::Stores;
use pipeline::{Error, Result};
use tiff::encoder::{DirectoryEncoder, Rational, TiffEncoder, TiffKindBig};
use tiff::tags::{CompressionMethod, PhotometricInterpretation, ResolutionUnit, SampleFormat, Tag};
use tiff::{TiffError, TiffResult};
use voxel::{AnyVolume, Dtype, Element, Region, Volume, with_volume};

use crate::units::Bytes;

/// Bytes of a strip that no reader finds too large; a single row may be longer.
const STRIP_BYTES: usize = 4 << 20;

/// How strips are packed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub enum Compress {
    /// Plain, as every program reads it
    #[default]
    None,
    /// Deflate, as nearly every program reads it
    Deflate,
}

/// What to export, and how.
#[derive(Clone, Debug)]
pub struct Options {
    /// Which of several images.
    pub pick: Pick,
    /// The part that is wanted; all of it when none.
    pub region: Option<Crop>,
    /// How strips are packed.
    pub compress: Compress,
    /// Replace a file that is there.
    pub overwrite: bool,
    /// Memory for the voxels in flight.
    pub memory_bytes: u64,
}

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Exported {
    /// Pages, rows, columns.
    pub shape: [usize; 3],
    /// Type of the pixels: that of the image, but uint8 for bool.
    pub dtype: Dtype,
    /// Length of the file.
    pub bytes: u64,
}

/// Writes the image at `url` to the TIFF file `output`. `progress` is told how many planes of how many are done.
///
/// # Errors
/// Those of [`Array::open`] and [`Array::fetch`]. Invalid when the file is there and may not be replaced, when a plane
/// is larger than a TIFF can have, when a row of voxels doesn't fit into the memory. Unavailable when the disk is full.
pub async fn export(
    stores: &Stores,
    url: &str,
    output: &Path,
    options: &Options,
    mut progress: impl FnMut(u64, u64),
) -> Result<Exported> {
    let array = Array::open(stores, url, &options.pick).await?;
    let region = match &options.region {
        Some(crop) => crop.resolve(&array.extent())?,
        None => array.extent().region(),
    };
    let shape = region.shape();
    if shape[1..].iter().any(|len| u32::try_from(*len).is_err()) {
        return Err(Error::invalid(format!("planes of {} by {} voxels are too large for TIFF", shape[1], shape[2]))
            .hint("choose a coarser --level, or a --region"));
    }
    if output.exists() && !options.overwrite {
        return Err(
            Error::invalid(format!("{} is there already", output.display())).hint("replace it with --overwrite")
        );
    }
    let band = Band::fitting(&array, region, options.memory_bytes)?;
    let partial = Partial::new(output)?;
    let file = File::create(&partial.0).map_err(|e| unwritable(output, &e.into()))?;
    let cache = ChunkCache::new(0);
    let description = description(&array, shape[0]);
    let resolution = [2, 1].map(|axis| rational(1.0 / array.scale()[axis]));

    let failed = |e: TiffError| unwritable(output, &e);
    let mut writer = BufWriter::new(file);
    let mut tiff = TiffEncoder::new_big(&mut writer).map_err(failed)?;
    for z in (region.start[0]..region.end[0]).step_by(band.planes) {
        let planes = band.planes.min(region.end[0] - z);
        let page = |plane: usize| Page {
            size: [shape[1], shape[2]],
            rows: band.strip,
            dtype: array.dtype(),
            compress: options.compress,
            resolution,
            description: (z + plane == region.start[0]).then_some(description.as_str()),
        };
        // Offset and length of the strips of each of the planes.
        let mut strips: Vec<Vec<(u64, u64)>> = vec![Vec::new(); planes];
        let mut first = tiff.image_directory().map_err(failed)?;
        for y in (region.start[1]..region.end[1]).step_by(band.rows) {
            let end = [z + planes, (y + band.rows).min(region.end[1]), region.end[2]];
            let part = Region { start: [z, y, region.start[2]], end };
            let voxels = array.fetch(&cache, part).await?.decode()?;
            write_strips(&mut first, &voxels, band.strip, options.compress, &mut strips).map_err(failed)?;
        }
        page(0).describe(&mut first, &strips[0]).map_err(failed)?;
        first.finish().map_err(failed)?;
        for (plane, strips) in strips.iter().enumerate().skip(1) {
            let mut directory = tiff.image_directory().map_err(failed)?;
            page(plane).describe(&mut directory, strips).map_err(failed)?;
            directory.finish().map_err(failed)?;
        }
        progress((z + planes - region.start[0]) as u64, shape[0] as u64);
    }
    writer.flush().map_err(|e| failed(e.into()))?;
    let bytes = partial.become_file(output)?;
    let dtype = if array.dtype() == Dtype::Bool { Dtype::U8 } else { array.dtype() };
    Ok(Exported { shape, dtype, bytes })
}

/// What is read at a time: so many planes, so many rows of each, whole rows; and the rows of a strip.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Band {
    planes: usize,
    rows: usize,
    strip: usize,
}

impl Band {
    /// A row of chunks, or as much of it as the memory holds beside the chunks that are being decoded.
    fn fitting(array: &Array, region: Region, memory_bytes: u64) -> Result<Band> {
        let [depth, height, width] = region.shape();
        let row_bytes = width * array.dtype().size();
        let (chunk, chunk_bytes) = (array.chunk(), array.chunk_bytes());
        let (mut planes, mut rows) = (chunk[0].min(depth), chunk[1].min(height));
        loop {
            // Decoded chunks are held until the band is put together: those that it touches, whole. Then the band, and
            // what came packed, and the strips.
            // A band may begin in the middle of a chunk.
            let touched = |part: usize, chunk: usize, whole: usize| {
                ((part + chunk).saturating_sub(2) / chunk + 1).min(whole.div_ceil(chunk)) as u64
            };
            let chunks = touched(planes, chunk[0], array.extent().shape[0])
                * touched(rows, chunk[1], array.extent().shape[1])
                * touched(width, chunk[2], array.extent().shape[2]);
            let needed = chunks
                .saturating_mul(chunk_bytes)
                .saturating_mul(2)
                .saturating_add(2 * (planes * rows * row_bytes) as u64);
            if needed <= memory_bytes {
                // The largest part of a band's rows that makes a strip, so that all strips but the last are alike.
                let wanted = (STRIP_BYTES / row_bytes).max(1);
                let strip = (1..=rows).rev().find(|n| rows % n == 0 && *n <= wanted).unwrap_or(1);
                return Ok(Band { planes, rows, strip });
            }
            match (planes, rows) {
                (1, 1) => {
                    return Err(Error::invalid(format!(
                        "one row of {width} voxels takes {} with its chunks, and --memory allows {}",
                        Bytes(needed),
                        Bytes(memory_bytes)
                    ))
                    .hint("allow more with --memory, or export a --region"));
                }
                (many, _) if many > 1 => planes = many.div_ceil(2),
                (_, many) => rows = many.div_ceil(2),
            }
        }
    }
}

/// Cuts a band into strips of `rows` rows and appends each to those of its plane.
fn write_strips<W: Write + std::io::Seek>(
    to: &mut DirectoryEncoder<'_, W, TiffKindBig>,
    band: &AnyVolume,
    rows: usize,
    compress: Compress,
    strips: &mut [Vec<(u64, u64)>],
) -> TiffResult<()> {
    let [_, height, width] = band.region().shape();
    for (plane, strips) in strips.iter_mut().enumerate() {
        for row in (0..height).step_by(rows) {
            let from = (plane * height + row) * width;
            let to_end = from + rows.min(height - row) * width;
            let bytes = with_volume!(band, v => native_bytes(v, from, to_end));
            let bytes = match compress {
                Compress::None => bytes,
                Compress::Deflate => {
                    let mut packer = ZlibEncoder::new(Vec::new(), flate2::Compression::default());
                    packer.write_all(&bytes)?;
                    packer.finish()?
                }
            };
            let len = bytes.len() as u64;
            strips.push((to.write_data(&bytes[..])?, len));
        }
    }
    Ok(())
}

/// Voxels as the file has them: in this machine's byte order, which the file's header tells.
fn native_bytes<T: Element>(volume: &Volume<T>, from: usize, to: usize) -> Vec<u8>
where
    AnyVolume: From<Volume<T>>,
{
    let part = Volume::new(Region::whole([1, 1, to - from]), volume.data[from..to].to_vec());
    let mut bytes = AnyVolume::from(part).to_le_bytes();
    if cfg!(target_endian = "big") {
        bytes.chunks_exact_mut(T::DTYPE.size()).for_each(<[u8]>::reverse);
    }
    bytes
}

/// What the directory of a page says.
struct Page<'a> {
    /// Rows and columns.
    size: [usize; 2],
    /// Rows of a strip.
    rows: usize,
    dtype: Dtype,
    compress: Compress,
    /// Pixels in a unit of length along x and y.
    resolution: [(u32, u32); 2],
    description: Option<&'a str>,
}

impl Page<'_> {
    fn describe<W: Write + std::io::Seek>(
        &self,
        to: &mut DirectoryEncoder<'_, W, TiffKindBig>,
        strips: &[(u64, u64)],
    ) -> TiffResult<()> {
        let format = match self.dtype {
            Dtype::F32 | Dtype::F64 => SampleFormat::IEEEFP,
            Dtype::I8 | Dtype::I16 | Dtype::I32 | Dtype::I64 => SampleFormat::Int,
            _ => SampleFormat::Uint,
        };
        let compression = match self.compress {
            Compress::None => CompressionMethod::None,
            Compress::Deflate => CompressionMethod::Deflate,
        };
        to.write_tag(Tag::ImageWidth, self.size[1] as u32)?;
        to.write_tag(Tag::ImageLength, self.size[0] as u32)?;
        to.write_tag(Tag::BitsPerSample, 8 * self.dtype.size() as u16)?;
        to.write_tag(Tag::Compression, compression.to_u16())?;
        to.write_tag(Tag::PhotometricInterpretation, PhotometricInterpretation::BlackIsZero.to_u16())?;
        if let Some(description) = self.description {
            to.write_tag(Tag::ImageDescription, description)?;
        }
        let (offsets, lengths): (Vec<u64>, Vec<u64>) = strips.iter().copied().unzip();
        to.write_tag(Tag::StripOffsets, &offsets[..])?;
        to.write_tag(Tag::SamplesPerPixel, 1u16)?;
        to.write_tag(Tag::RowsPerStrip, self.rows as u32)?;
        to.write_tag(Tag::StripByteCounts, &lengths[..])?;
        let [x, y] = self.resolution.map(|(n, d)| Rational { n, d });
        to.write_tag(Tag::XResolution, x)?;
        to.write_tag(Tag::YResolution, y)?;
        to.write_tag(Tag::ResolutionUnit, ResolutionUnit::None.to_u16())?;
        to.write_tag(Tag::SampleFormat, format.to_u16())?;
        to.write_tag(Tag::Software, concat!("voxmill ", env!("CARGO_PKG_VERSION")))
    }
}

/// What ImageJ writes about a stack, and what it, tifffile and Bio-Formats read the depth of a voxel and its unit from.
fn description(array: &Array, planes: usize) -> String {
    let mut text = format!("ImageJ=1.11a\nimages={planes}\nslices={planes}\n");
    // One unit for all axes is all that ImageJ knows; x has it if any has.
    if let Some(unit) = array.units()[2].as_deref() {
        let unit = match unit {
            "micrometer" => "micron",
            "nanometer" => "nm",
            "millimeter" => "mm",
            "centimeter" => "cm",
            other => other,
        };
        text += &format!("unit={unit}\n");
    }
    if !array.extent().planar {
        text += &format!("spacing={}\n", array.scale()[0]);
    }
    text + "loop=false\n"
}

/// The fraction of 32-bit numbers that is nearest to a positive number, by its continued fraction.
fn rational(value: f64) -> (u32, u32) {
    let (mut before, mut now) = ((0u64, 1u64), (1u64, 0u64));
    let mut rest = value;
    for _ in 0..32 {
        let whole = rest.floor();
        if !(0.0..4_294_967_296.0).contains(&whole) {
            break;
        }
        let next = (whole as u64 * now.0 + before.0, whole as u64 * now.1 + before.1);
        if next.0 > u64::from(u32::MAX) || next.1 > u64::from(u32::MAX) {
            break;
        }
        (before, now) = (now, next);
        if (now.0 as f64 / now.1 as f64 - value).abs() <= value * 1e-12 || rest == whole {
            break;
        }
        rest = 1.0 / (rest - whole);
    }
    match now {
        // Out of what a fraction can be: no resolution is better than a wrong one.
        (0, _) | (_, 0) => (1, 1),
        (n, d) => (n as u32, d as u32),
    }
}

/// A file under a temporary name beside its own; it goes when it is dropped before it is whole.
struct Partial(PathBuf);

impl Partial {
    fn new(output: &Path) -> Result<Partial> {
        let name = output.file_name().filter(|_| !output.is_dir());
        let name = name.ok_or_else(|| Error::invalid(format!("{} is a folder, not a file", output.display())))?;
        Ok(Partial(output.with_file_name(format!(".{}.{}.part", name.to_string_lossy(), std::process::id()))))
    }

    /// Gives the file its name, and says how long it is.
    fn become_file(self, output: &Path) -> Result<u64> {
        let renamed = std::fs::metadata(&self.0).and_then(|meta| std::fs::rename(&self.0, output).map(|()| meta.len()));
        renamed.map_err(|e| unwritable(output, &e.into()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // Not there any more when it was renamed.
        let _ = std::fs::remove_file(&self.0);
    }
}

fn unwritable(output: &Path, error: &TiffError) -> Error {
    let message = format!("{} can't be written: {error}", output.display());
    match error {
        TiffError::IoError(io) if io.kind() == std::io::ErrorKind::StorageFull => Error::unavailable(message),
        TiffError::IoError(_) => Error::invalid(message),
        _ => Error::internal(message),
    }
}

#[cfg(test)]
mod tests;
