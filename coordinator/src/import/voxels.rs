//! Reading voxels: from their places in files, in any order, or from a stream, once, front to back.

use super::input::{self, Bytes, unpacking};
use super::layout::{Layout, Order};
use pipeline::{Error, Result};
use std::fs::File;
use std::io::{self, Read, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use voxel::{Extent, Region};

/// Voxels that lie in files as they are.
pub(super) struct Flat {
    files: Vec<PathBuf>,
    open: Option<(usize, File)>,
    places: Places,
}

/// Where voxels begin.
enum Places {
    /// All of them, in the only file.
    Together(u64),
    /// Those of each z plane, with the number of its file.
    Planes(Vec<(u32, u64)>),
}

impl Flat {
    /// The voxels of `path` from byte `start` on.
    pub(super) fn together(path: PathBuf, start: u64) -> Self {
        Self { files: vec![path], open: None, places: Places::Together(start) }
    }

    /// Planes, each with the number of its file and the byte it begins at.
    pub(super) fn planes(files: Vec<PathBuf>, planes: Vec<(u32, u64)>) -> Self {
        Self { files, open: None, places: Places::Planes(planes) }
    }

    /// The bytes of `region`, in C order.
    pub(super) fn read(&mut self, layout: &Layout, region: Region) -> Result<Vec<u8>> {
        let mut bytes = vec![0; region.voxels() * layout.dtype.size()];
        match &self.places {
            Places::Together(start) => {
                let start = *start;
                let file = opened(&self.files, &mut self.open, 0)?;
                layout
                    .read(region, &mut bytes, &mut |at, run| file.read_exact_at(run, start + at))
                    .map_err(|error| input::failed(&self.files[0], &error))?;
            }
            Places::Planes(planes) => {
                // A plane is an image of its own.
                let [depth, rows, width] = layout.extent.shape;
                let plane = Layout { extent: Extent { shape: [1, rows, width], planar: false }, ..*layout };
                let plane_bytes = bytes.len() / region.shape()[0];
                let within =
                    Region { start: [0, region.start[1], region.start[2]], end: [1, region.end[1], region.end[2]] };
                debug_assert_eq!(planes.len(), depth);
                for (z, out) in (region.start[0]..region.end[0]).zip(bytes.chunks_exact_mut(plane_bytes)) {
                    let (number, start) = planes[z];
                    let number = number as usize;
                    let file = opened(&self.files, &mut self.open, number)?;
                    plane
                        .read(within, out, &mut |at, run| file.read_exact_at(run, start + at))
                        .map_err(|error| input::failed(&self.files[number], &error))?;
                }
            }
        }
        Ok(bytes)
    }
}

/// The file of that number; one is open at a time.
fn opened<'a>(files: &[PathBuf], open: &'a mut Option<(usize, File)>, number: usize) -> Result<&'a File> {
    if open.as_ref().is_none_or(|(there, _)| *there != number) {
        let path = &files[number];
        *open = Some((number, File::open(path).map_err(|error| input::failed(path, &error))?));
    }
    match open {
        Some((_, file)) => Ok(file),
        None => Err(Error::internal("a file was opened and is not there")),
    }
}

/// Voxels that come out of a decompressor, once, slab by slab along the axis that runs slowest.
///
/// A slab that is wanted as a whole goes straight to its reader. One that is wanted in pieces, since memory does not hold
/// it, is unpacked into a nameless file, from which the pieces are read; there is never more than one slab in it.
pub(super) struct Stream {
    name: String,
    reader: Bytes,
    /// Bytes read of all there should be.
    done: u64,
    all: u64,
    /// How far along the slowest axis the stream has come.
    next: usize,
    spool: Option<(Range<usize>, File)>,
    folder: PathBuf,
}

/// Bytes that go into the spool at a time, the most that a stream takes besides what it is asked for.
pub(super) const COPY_BYTES: usize = 1 << 18;

impl Stream {
    /// The `all` bytes of voxels that follow in `reader`. `folder` takes the file for slabs beyond memory.
    pub(super) fn new(name: String, reader: Bytes, all: u64, folder: &Path) -> Self {
        Self { name, reader, done: 0, all, next: 0, spool: None, folder: folder.to_owned() }
    }

    /// The bytes of `region`, in C order. Slabs must be asked for in order: the pieces of one before those of the next.
    pub(super) fn read(&mut self, layout: &Layout, region: Region) -> Result<Vec<u8>> {
        let slow = layout.order.slowest();
        let slab = region.start[slow]..region.end[slow];
        let whole = (0..3).all(|axis| axis == slow || region.shape()[axis] == layout.extent.shape[axis]);
        if whole && layout.order == Order::C {
            self.advance(&slab)?;
            let mut bytes = vec![0; region.voxels() * layout.dtype.size()];
            self.take(&mut bytes)?;
            self.end()?;
            return Ok(bytes);
        }
        if self.spool.as_ref().is_none_or(|(there, _)| *there != slab) {
            self.fill_spool(layout, &slab)?;
        }
        let Some((_, spool)) = &self.spool else {
            return Err(Error::internal("a slab was unpacked and is not there"));
        };
        let mut shape = layout.extent.shape;
        shape[slow] = slab.len();
        let part = Layout { extent: Extent { shape, planar: false }, ..*layout };
        let mut within = region;
        (within.start[slow], within.end[slow]) = (0, slab.len());
        let mut bytes = vec![0; region.voxels() * layout.dtype.size()];
        part.read(within, &mut bytes, &mut |at, run| spool.read_exact_at(run, at))
            .map_err(|error| self.spool_failed(&error))?;
        Ok(bytes)
    }

    /// Moves on to the end of a slab, which must be the next.
    fn advance(&mut self, slab: &Range<usize>) -> Result<()> {
        if slab.start != self.next {
            let message = format!("slab {slab:?} of a stream was asked for at {}", self.next);
            return Err(Error::internal(message));
        }
        self.next = slab.end;
        Ok(())
    }

    fn fill_spool(&mut self, layout: &Layout, slab: &Range<usize>) -> Result<()> {
        self.advance(slab)?;
        let file = match self.spool.take() {
            Some((_, file)) => file,
            None => tempfile::tempfile_in(&self.folder).map_err(|error| self.spool_failed(&error))?,
        };
        let slow = layout.order.slowest();
        let across: usize = (0..3).filter(|axis| *axis != slow).map(|axis| layout.extent.shape[axis]).product();
        let all = across as u64 * slab.len() as u64 * layout.dtype.size() as u64;
        let mut piece = vec![0; COPY_BYTES.min(usize::try_from(all).unwrap_or(COPY_BYTES))];
        let mut at = 0;
        while at < all {
            let length = piece.len().min(usize::try_from(all - at).unwrap_or(usize::MAX));
            self.take(&mut piece[..length])?;
            file.write_all_at(&piece[..length], at).map_err(|error| self.spool_failed(&error))?;
            at += length as u64;
        }
        (&file).flush().map_err(|error| self.spool_failed(&error))?;
        self.end()?;
        self.spool = Some((slab.clone(), file));
        Ok(())
    }

    /// The next bytes.
    fn take(&mut self, mut bytes: &mut [u8]) -> Result<()> {
        while !bytes.is_empty() {
            match self.reader.read(bytes) {
                Ok(0) => return Err(self.cut_short()),
                Ok(read) => {
                    self.done += read as u64;
                    bytes = &mut bytes[read..];
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(self.failed(&error)),
            }
        }
        Ok(())
    }

    /// After the last voxel, goes on to the end of the stream, where its checksum is; what else may follow is left alone.
    fn end(&mut self) -> Result<()> {
        if self.done == self.all {
            io::copy(&mut self.reader.by_ref().take(1 << 20), &mut io::sink()).map_err(|error| self.failed(&error))?;
        }
        Ok(())
    }

    fn failed(&self, error: &io::Error) -> Error {
        if error.kind() == io::ErrorKind::UnexpectedEof { self.cut_short() } else { unpacking(&self.name, error) }
    }

    fn cut_short(&self) -> Error {
        let Self { name, all, done, .. } = self;
        Error::data(format!("{name} is truncated: its header promises {all} bytes of voxels, and {done} are there"))
    }

    fn spool_failed(&self, error: &io::Error) -> Error {
        Error::unavailable(format!("a slab of {} can't be kept in {}: {error}", self.name, self.folder.display()))
            .hint("free some space there, or give more --memory so that a slab fits it")
    }
}
