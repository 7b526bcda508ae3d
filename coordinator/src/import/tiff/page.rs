//! One page: its shape and type, how its voxels are packed, and where they lie.

use super::{Directories, refused};
use ::tiff::TiffError;
use ::tiff::decoder::ChunkType;
use ::tiff::tags::{CompressionMethod, PhotometricInterpretation, SampleFormat, Tag};
use pipeline::{Error, Result};
use std::path::Path;
use voxel::Dtype;

/// What is used of a page's directory.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Page {
    pub(super) rows: usize,
    pub(super) width: usize,
    pub(super) dtype: Dtype,
    /// Bits of a voxel in the file: less than 8 where several share a byte.
    pub(super) bits: usize,
    pub(super) packing: Packing,
    pub(super) predictor: Predictor,
    /// Rows and columns of a strip or tile.
    pub(super) piece: [usize; 2],
    pub(super) tiled: bool,
    /// How many strips or tiles it has.
    pub(super) pieces: usize,
    /// Voxels are indices into a table of colours.
    pub(super) palette: bool,
    /// A coarser copy of another page.
    pub(super) reduced: bool,
}

/// How strips and tiles are compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packing {
    None,
    Lzw,
    Deflate,
    PackBits,
    Zstd,
}

/// What a voxel in a row is stored as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Predictor {
    /// Itself.
    None,
    /// The difference from the one before.
    Horizontal,
    /// Floats, by bytes of equal weight, then each byte as the difference from the one before.
    Float,
}

/// Where the strips or tiles of a page lie in the file: the first byte and the length of each.
pub(super) type Pieces = Vec<(u64, u64)>;

impl Page {
    /// The current page, page `index` of the file counted from 0, and where its voxels begin if they lie together as they
    /// are.
    pub(super) fn read(
        directories: &mut Directories,
        path: &Path,
        index: usize,
        length: u64,
    ) -> Result<(Self, Option<u64>)> {
        let place = format!("{}: page {}", path.display(), index + 1);
        let mut page = Self::parse(directories, &place).map_err(|error| match error {
            Problem::Tiff(error) => refused(path, index, &error),
            Problem::Ours(error) => error,
        })?;
        let pieces = pieces(directories).map_err(|error| refused(path, index, &error))?;
        let [rows, width] = page.piece;
        let expected = page.rows.div_ceil(rows).saturating_mul(page.width.div_ceil(width));
        if pieces.len() != expected {
            return Err(Error::data(format!(
                "{place} is damaged: it has {} strips or tiles, and its size makes {expected}",
                pieces.len()
            )));
        }
        page.pieces = pieces.len();
        let end = if page.packing == Packing::None {
            // Some programs write wrong lengths; what voxels take is known.
            let last_rows = page.rows - (page.rows - 1) / rows * rows;
            let row_bytes = (width as u64 * page.bits as u64).div_ceil(8);
            let bytes = |rows: usize| row_bytes.saturating_mul(rows as u64);
            let last = pieces.len() - 1;
            let size = |i: usize| if i == last && !page.tiled { bytes(last_rows) } else { bytes(rows) };
            (0..pieces.len()).map(|i| pieces[i].0.saturating_add(size(i))).max()
        } else {
            pieces.iter().map(|(start, bytes)| start.saturating_add(*bytes)).max()
        };
        if let Some(end) = end.filter(|end| *end > length) {
            return Err(Error::data(format!(
                "{place} ends too early: its voxels end at byte {end}, and the file is truncated at {length}"
            )));
        }
        let strip_bytes = (width as u64 * page.dtype.size() as u64).saturating_mul(rows as u64);
        let together = pieces.windows(2).all(|pair| pair[1].0 == pair[0].0.wrapping_add(strip_bytes));
        let as_they_are = page.packing == Packing::None
            && page.predictor == Predictor::None
            && page.bits == page.dtype.size() * 8
            && !page.tiled;
        Ok((page, pieces.first().filter(|_| as_they_are && together).map(|(start, _)| *start)))
    }

    fn parse(directories: &mut Directories, place: &str) -> Result<Self, Problem> {
        let number = |directories: &mut Directories, tag: Tag, default: u16| {
            directories
                .find_tag_unsigned_vec::<u16>(tag)
                .map(|list| list.and_then(|l| l.first().copied()).unwrap_or(default))
        };
        let interpretation = number(directories, Tag::PhotometricInterpretation, 1)?;
        let samples = number(directories, Tag::SamplesPerPixel, 1)?;
        let bits = number(directories, Tag::BitsPerSample, 1)?;
        let colour = match PhotometricInterpretation::from_u16(interpretation) {
            Some(PhotometricInterpretation::RGB) => Some("RGB".to_owned()),
            Some(PhotometricInterpretation::CMYK) => Some("CMYK".to_owned()),
            Some(PhotometricInterpretation::YCbCr) => Some("YCbCr".to_owned()),
            Some(
                other @ (PhotometricInterpretation::CIELab
                | PhotometricInterpretation::IccLab
                | PhotometricInterpretation::ItuLab),
            ) => Some(format!("{other:?}")),
            _ => None,
        };
        let grey = |error: Error| error.hint("save it as a grey image, one file per channel");
        if let Some(colour) = colour {
            return Err(
                grey(Error::invalid(format!("{place} is {colour}, but a volume has one value per voxel"))).into()
            );
        }
        if samples != 1 {
            return Err(
                grey(Error::invalid(format!("{place} has {samples} samples per pixel, but a volume has one"))).into()
            );
        }
        if number(directories, Tag::FillOrder, 1)? != 1 {
            return Err(Error::invalid(format!("{place} has its bits in reversed order, which is not read"))
                .hint("save it with the usual order of bits (FillOrder 1)")
                .into());
        }
        let format = SampleFormat::from_u16_exhaustive(number(directories, Tag::SampleFormat, 1)?);
        let dtype = dtype(&format, bits).ok_or_else(|| {
            Error::invalid(format!("{place} holds {}, which are not read", in_words(&format, bits)))
                .hint("save it with integers of 8 to 64 bits, or floats of 32 or 64")
        })?;
        let packing = match CompressionMethod::from_u16_exhaustive(number(directories, Tag::Compression, 1)?) {
            CompressionMethod::None => Packing::None,
            CompressionMethod::LZW => Packing::Lzw,
            CompressionMethod::Deflate | CompressionMethod::OldDeflate => Packing::Deflate,
            CompressionMethod::PackBits => Packing::PackBits,
            CompressionMethod::ZSTD => Packing::Zstd,
            other => {
                return Err(Error::invalid(format!("{place} is compressed with {other:?}, which is not read"))
                    .hint("save it uncompressed, or with zstd, LZW, deflate or PackBits")
                    .into());
            }
        };
        let predictor = match number(directories, Tag::Predictor, 1)? {
            1 => Predictor::None,
            2 if bits >= 8 => Predictor::Horizontal,
            3 if dtype.is_float() => Predictor::Float,
            other => {
                return Err(Error::invalid(format!("{place} has predictor {other} for {dtype}, which is not read"))
                    .hint("save it without a predictor")
                    .into());
            }
        };
        let (width, rows) = directories.dimensions()?;
        let (piece_width, piece_rows) = directories.chunk_dimensions();
        let (width, rows) = (width as usize, rows as usize);
        let tiled = directories.get_chunk_type() == ChunkType::Tile;
        // A strip may say that it has more rows than the page.
        let piece_rows = if tiled { piece_rows as usize } else { (piece_rows as usize).min(rows) };
        let piece = [piece_rows, if tiled { piece_width as usize } else { width }];
        let reduced = directories.find_tag_unsigned::<u32>(Tag::NewSubfileType)?.unwrap_or(0) & 1 == 1;
        let palette = interpretation == PhotometricInterpretation::RGBPalette.to_u16();
        Ok(Self {
            rows,
            width,
            dtype,
            bits: usize::from(bits),
            packing,
            predictor,
            piece,
            tiled,
            pieces: 0,
            palette,
            reduced,
        })
    }

    /// True when both can be planes of one volume.
    pub(super) fn agrees(&self, other: &Self) -> bool {
        (self.rows, self.width, self.dtype) == (other.rows, other.width, other.dtype)
    }

    pub(super) fn voxels(&self) -> u64 {
        (self.rows as u64).saturating_mul(self.width as u64)
    }

    /// Bytes of the voxels, unpacked.
    pub(super) fn bytes(&self) -> u64 {
        self.voxels().saturating_mul(self.dtype.size() as u64)
    }

    /// What unpacking takes: a row, or a row of tiles, and a row as it is stored.
    pub(super) fn decoding_bytes(&self) -> u64 {
        let size = self.dtype.size() as u64;
        let rows = if self.tiled { self.piece[0] as u64 } else { 1 };
        (self.width as u64).saturating_mul(rows).saturating_mul(size).saturating_add(self.piece[1] as u64 * size)
    }
}

/// Where the strips or tiles of the current page lie.
pub(super) fn pieces(directories: &mut Directories) -> Result<Pieces, TiffError> {
    let (starts, lengths) = match directories.get_chunk_type() {
        ChunkType::Strip => (Tag::StripOffsets, Tag::StripByteCounts),
        ChunkType::Tile => (Tag::TileOffsets, Tag::TileByteCounts),
    };
    let starts = directories.find_tag_unsigned_vec::<u64>(starts)?.unwrap_or_default();
    let lengths = directories.find_tag_unsigned_vec::<u64>(lengths)?.unwrap_or_default();
    Ok(starts.into_iter().zip(lengths).collect())
}

fn dtype(format: &SampleFormat, bits: u16) -> Option<Dtype> {
    Some(match (format, bits) {
        // Other programs show single bits as bool.
        (SampleFormat::Uint | SampleFormat::Void, 1) => Dtype::Bool,
        (SampleFormat::Uint | SampleFormat::Void, 2 | 4 | 8) => Dtype::U8,
        (SampleFormat::Uint | SampleFormat::Void, 16) => Dtype::U16,
        (SampleFormat::Uint | SampleFormat::Void, 32) => Dtype::U32,
        (SampleFormat::Uint | SampleFormat::Void, 64) => Dtype::U64,
        (SampleFormat::Int, 8) => Dtype::I8,
        (SampleFormat::Int, 16) => Dtype::I16,
        (SampleFormat::Int, 32) => Dtype::I32,
        (SampleFormat::Int, 64) => Dtype::I64,
        (SampleFormat::IEEEFP, 32) => Dtype::F32,
        (SampleFormat::IEEEFP, 64) => Dtype::F64,
        _ => return None,
    })
}

fn in_words(format: &SampleFormat, bits: u16) -> String {
    let what = match format {
        SampleFormat::Uint => "unsigned integers",
        SampleFormat::Int => "integers",
        SampleFormat::IEEEFP => "floats",
        _ => "values of an unknown kind",
    };
    format!("{what} of {bits} bits")
}

impl std::fmt::Display for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} rows of {} voxels ({})", self.rows, self.width, self.dtype)
    }
}

/// Why a page can't be had.
enum Problem {
    Tiff(TiffError),
    Ours(Error),
}

impl From<TiffError> for Problem {
    fn from(error: TiffError) -> Self {
        Self::Tiff(error)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        Self::Ours(error)
    }
}
