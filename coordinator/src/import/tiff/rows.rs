//! Packed pages as one stream of rows: each strip or tile is unpacked once, front to back, and no page is held whole.
//!
//! Rows come out in this machine's byte order, with several voxels to a byte set apart.

use super::page::{Packing, Page, Pieces, Predictor, pieces};
use super::{directories, refused};
use crate::import::input::{failed, fill, length_of};
use pipeline::{Error, Result};
use std::fs::File;
use std::io::{self, ErrorKind, Read};
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::Arc;
use voxel::Dtype;

/// A plane of the volume.
pub(super) struct Plane {
    pub(super) file: u32,
    /// The page's number in the file, from 0.
    pub(super) index: usize,
    /// Where its voxels lie, when they lie together as they are.
    pub(super) at: Option<u64>,
}

/// The rows of all planes, one after the other.
pub(super) struct Rows {
    paths: Vec<PathBuf>,
    planes: Vec<Plane>,
    memory_bytes: u64,
    /// The plane that comes next.
    next: usize,
    open: Option<(u32, super::Directories, Arc<File>)>,
    page: Option<Unpacked>,
    /// Rows that are ready, and how much of them has been given away.
    ready: Vec<u8>,
    given: usize,
}

/// A page on its way.
struct Unpacked {
    page: Page,
    swapped: bool,
    file: Arc<File>,
    pieces: Pieces,
    /// The row that comes next.
    row: usize,
    /// The strip that is being unpacked.
    strip: Option<Unpacker>,
    encoded: Vec<u8>,
}

impl Rows {
    pub(super) fn new(paths: Vec<PathBuf>, planes: Vec<Plane>, memory_bytes: u64) -> Self {
        Self { paths, planes, memory_bytes, next: 0, open: None, page: None, ready: Vec::new(), given: 0 }
    }

    /// Makes some rows ready; false after the last.
    fn advance(&mut self) -> Result<bool> {
        self.given = 0;
        self.ready.clear();
        loop {
            if let Some(page) = &mut self.page {
                let plane = &self.planes[self.next - 1];
                let path = &self.paths[plane.file as usize];
                if page.row < page.page.rows {
                    page.advance(&mut self.ready).map_err(|error| damaged(path, plane.index, &error))?;
                    return Ok(true);
                }
                self.page = None;
            }
            if self.next == self.planes.len() {
                return Ok(false);
            }
            self.page = Some(self.open_page()?);
            self.next += 1;
        }
    }

    fn open_page(&mut self) -> Result<Unpacked> {
        let plane = &self.planes[self.next];
        let path = &self.paths[plane.file as usize];
        if self.open.as_ref().is_none_or(|(file, ..)| *file != plane.file) {
            let file = File::open(path).map_err(|error| failed(path, &error))?;
            self.open = Some((plane.file, directories(path, self.memory_bytes)?, Arc::new(file)));
        }
        let Some((_, directories, file)) = &mut self.open else {
            return Err(Error::internal("a TIFF file was opened and is not there"));
        };
        directories.seek_to_image(plane.index).map_err(|error| refused(path, plane.index, &error))?;
        let little = matches!(directories.byte_order(), ::tiff::tags::ByteOrder::LittleEndian);
        let (mut page, _) = Page::read(directories, path, plane.index, length_of(path)?)?;
        let pieces = match plane.at {
            None => pieces(directories).map_err(|error| refused(path, plane.index, &error))?,
            Some(at) => {
                // As one strip, wherever the directory says it lies.
                page.piece[0] = page.rows;
                vec![(at, page.bytes())]
            }
        };
        let swapped = little != cfg!(target_endian = "little");
        Ok(Unpacked { page, swapped, file: file.clone(), pieces, row: 0, strip: None, encoded: Vec::new() })
    }
}

impl Read for Rows {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if self.given == self.ready.len() && !self.advance().map_err(io::Error::other)? {
            return Ok(0);
        }
        let length = bytes.len().min(self.ready.len() - self.given);
        bytes[..length].copy_from_slice(&self.ready[self.given..self.given + length]);
        self.given += length;
        Ok(length)
    }
}

impl Unpacked {
    /// Puts the next row of a strip, or the next row of tiles, into `ready`.
    fn advance(&mut self, ready: &mut Vec<u8>) -> io::Result<()> {
        let Page { rows, width, dtype, piece: [piece_rows, piece_width], tiled, .. } = self.page;
        let size = dtype.size();
        if !tiled {
            if self.row.is_multiple_of(piece_rows) {
                self.strip = Some(self.unpacker(self.row / piece_rows)?);
            }
            ready.resize(width * size, 0);
            if let Some(strip) = &mut self.strip {
                row(strip, &self.page, self.swapped, &mut self.encoded, width, ready)?;
            }
            self.row += 1;
            return Ok(());
        }
        let here = piece_rows.min(rows - self.row);
        ready.resize(here * width * size, 0);
        let across = width.div_ceil(piece_width);
        let mut tile_row = vec![0; piece_width * size];
        for column in 0..across {
            let mut tile = self.unpacker(self.row / piece_rows * across + column)?;
            let left = column * piece_width;
            let run = piece_width.min(width - left) * size;
            for y in 0..here {
                row(&mut tile, &self.page, self.swapped, &mut self.encoded, piece_width, &mut tile_row)?;
                let to = (y * width + left) * size;
                ready[to..to + run].copy_from_slice(&tile_row[..run]);
            }
        }
        self.row += here;
        Ok(())
    }

    fn unpacker(&self, piece: usize) -> io::Result<Unpacker> {
        let (start, mut length) = self.pieces[piece];
        if self.page.packing == Packing::None {
            // Some programs write wrong lengths; reading goes by what is wanted.
            length = u64::MAX - start;
        }
        let packed = Packed { file: self.file.clone(), at: start, left: length };
        Ok(match self.page.packing {
            Packing::None => Box::new(io::BufReader::with_capacity(1 << 16, packed)),
            Packing::Lzw => Box::new(Lzw::new(packed)),
            Packing::Deflate => Box::new(flate2::read::ZlibDecoder::new(packed)),
            Packing::PackBits => Box::new(PackBits { packed: io::BufReader::new(packed), run: Run::None }),
            Packing::Zstd => {
                let mut decoder = zstd::Decoder::new(packed)?;
                decoder.window_log_max(ZSTD_WINDOW_LOG_MAX)?;
                Box::new(decoder)
            }
        })
    }
}

/// Strips whose distances reach further back than 64 MiB are refused.
const ZSTD_WINDOW_LOG_MAX: u32 = 26;

/// A strip or tile as it comes out of its decompressor.
type Unpacker = Box<dyn Read + Send>;

/// Reads a row of `width` voxels and undoes all that was done to it.
fn row(
    from: &mut Unpacker,
    page: &Page,
    swapped: bool,
    encoded: &mut Vec<u8>,
    width: usize,
    voxels: &mut [u8],
) -> io::Result<()> {
    let size = page.dtype.size();
    if page.bits < 8 {
        encoded.resize((width * page.bits).div_ceil(8), 0);
        from.read_exact(encoded)?;
        let mask = (1u8 << page.bits) - 1;
        for (x, voxel) in voxels.iter_mut().enumerate() {
            // The first voxel is in the highest bits.
            let bit = x * page.bits;
            *voxel = (encoded[bit / 8] >> (8 - page.bits - bit % 8)) & mask;
        }
        return Ok(());
    }
    if page.predictor == Predictor::Float {
        encoded.resize(voxels.len(), 0);
        from.read_exact(encoded)?;
        for i in 1..encoded.len() {
            encoded[i] = encoded[i].wrapping_add(encoded[i - 1]);
        }
        // Byte planes, the highest first.
        for (x, voxel) in voxels.chunks_exact_mut(size).enumerate() {
            for (b, byte) in voxel.iter_mut().enumerate() {
                *byte = encoded[if cfg!(target_endian = "big") { b } else { size - 1 - b } * width + x];
            }
        }
        return Ok(());
    }
    from.read_exact(voxels)?;
    if swapped {
        voxels.chunks_exact_mut(size).for_each(<[u8]>::reverse);
    }
    if page.predictor == Predictor::Horizontal {
        match size {
            1 => add_up::<1>(voxels, |a, b| [a[0].wrapping_add(b[0])]),
            2 => add_up(voxels, |a, b| u16::from_ne_bytes(a).wrapping_add(u16::from_ne_bytes(b)).to_ne_bytes()),
            4 => add_up(voxels, |a, b| u32::from_ne_bytes(a).wrapping_add(u32::from_ne_bytes(b)).to_ne_bytes()),
            _ => add_up(voxels, |a, b| u64::from_ne_bytes(a).wrapping_add(u64::from_ne_bytes(b)).to_ne_bytes()),
        }
    }
    debug_assert_ne!(page.dtype, Dtype::Bool, "single bits were set apart above");
    Ok(())
}

/// Each voxel of `N` bytes becomes the sum of those up to it.
fn add_up<const N: usize>(row: &mut [u8], add: impl Fn([u8; N], [u8; N]) -> [u8; N]) {
    let mut sum = [0; N];
    for voxel in row.as_chunks_mut().0 {
        sum = add(*voxel, sum);
        *voxel = sum;
    }
}

/// A run of bytes in a file.
struct Packed {
    file: Arc<File>,
    at: u64,
    left: u64,
}

impl Read for Packed {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let length = bytes.len().min(usize::try_from(self.left).unwrap_or(usize::MAX));
        let read = self.file.read_at(&mut bytes[..length], self.at)?;
        self.at += read as u64;
        self.left -= read as u64;
        Ok(read)
    }
}

/// LZW as TIFF has it: most significant bit first, codes that grow one step early.
struct Lzw {
    packed: Packed,
    decoder: weezl::decode::Decoder,
    buffer: Box<[u8; 1 << 14]>,
    filled: std::ops::Range<usize>,
}

impl Lzw {
    fn new(packed: Packed) -> Self {
        let decoder = weezl::decode::Decoder::with_tiff_size_switch(weezl::BitOrder::Msb, 8);
        Self { packed, decoder, buffer: Box::new([0; 1 << 14]), filled: 0..0 }
    }
}

impl Read for Lzw {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        loop {
            if self.filled.is_empty() {
                self.filled = 0..fill(&mut self.packed, &mut self.buffer[..])?;
            }
            let result = self.decoder.decode_bytes(&self.buffer[self.filled.clone()], bytes);
            self.filled.start += result.consumed_in;
            if result.consumed_out > 0 {
                return Ok(result.consumed_out);
            }
            match result.status {
                Ok(weezl::LzwStatus::Ok) if result.consumed_in > 0 => {}
                Ok(_) => return Ok(0),
                Err(error) => return Err(io::Error::new(ErrorKind::InvalidData, error.to_string())),
            }
        }
    }
}

/// Runs of equal bytes, and runs of bytes as they are.
struct PackBits {
    packed: io::BufReader<Packed>,
    run: Run,
}

/// What is left of a run.
enum Run {
    None,
    Equal(u8, usize),
    Plain(usize),
}

impl Read for PackBits {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        while let Run::None = self.run {
            let mut byte = [0];
            if fill(&mut self.packed, &mut byte)? == 0 {
                return Ok(0);
            }
            match byte[0] as i8 {
                -128 => {}
                count if count < 0 => {
                    self.packed.read_exact(&mut byte)?;
                    self.run = Run::Equal(byte[0], 1 + usize::from(count.unsigned_abs()));
                }
                count => self.run = Run::Plain(1 + usize::from(count.unsigned_abs())),
            }
        }
        let (done, left) = match self.run {
            Run::None => return Ok(0),
            Run::Equal(byte, left) => {
                let done = left.min(bytes.len());
                bytes[..done].fill(byte);
                (done, left - done)
            }
            Run::Plain(left) => {
                let done = left.min(bytes.len());
                self.packed.read_exact(&mut bytes[..done])?;
                (done, left - done)
            }
        };
        self.run = match self.run {
            Run::Equal(byte, _) if left > 0 => Run::Equal(byte, left),
            Run::Plain(_) if left > 0 => Run::Plain(left),
            _ => Run::None,
        };
        Ok(done)
    }
}

/// What an error on the way through a strip asks of the user.
fn damaged(path: &std::path::Path, index: usize, error: &io::Error) -> Error {
    let place = format!("{}: page {}", path.display(), index + 1);
    match error.kind() {
        ErrorKind::UnexpectedEof => {
            Error::data(format!("{place} is damaged: a strip or tile ends before its last voxel"))
        }
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => {
            Error::data(format!("{place} is damaged: {error}"))
        }
        _ => failed(path, error).at(format!("page {}", index + 1)),
    }
}
