//! Bytes of a file to be imported: as they lie on the disk, or unpacked on the way.
//!
//! A header is read through [`Input`]; what follows it is then either a place in a file, which can be read in any order,
//! or a stream, which is read once, front to back.

use pipeline::{Error, Result};
use std::fs::File;
use std::io::{self, BufReader, ErrorKind, Read};
use std::path::{Path, PathBuf};

/// A stream of bytes that can be handed to another thread.
pub(super) type Bytes = Box<dyn Read + Send>;

/// A file, or a member of one, of which `position` bytes have been read.
pub(super) struct Input {
    /// What messages call it.
    pub(super) name: String,
    reader: Bytes,
    position: u64,
    /// The file and the place in it, when its bytes lie there as they are.
    place: Option<(PathBuf, u64)>,
    /// No more bytes than these can come.
    pub(super) room: u64,
}

/// Where the bytes after a header are.
pub(super) enum Rest {
    /// In a file, from this byte on.
    Place(PathBuf, u64),
    /// Only in this stream.
    Stream(Bytes),
}

/// Deflate never makes more of a byte than this.
pub(super) const DEFLATE_RATIO_MAX: u64 = 1032;

impl Input {
    /// A file as it is.
    pub(super) fn plain(path: &Path) -> Result<Self> {
        let length = length_of(path)?;
        Self::within(path, path.display().to_string(), 0, length)
    }

    /// `length` bytes of a file from `start` on, called `name`.
    pub(super) fn within(path: &Path, name: String, start: u64, length: u64) -> Result<Self> {
        let reader = Box::new(from(path, start)?.take(length));
        Ok(Self { name, reader, position: 0, place: Some((path.to_owned(), start)), room: length })
    }

    /// A stream of at most `room` bytes.
    pub(super) fn stream(name: String, reader: Bytes, room: u64) -> Self {
        Self { name, reader, position: 0, place: None, room }
    }

    /// What a gzip file holds; it may have several members.
    pub(super) fn gzip(path: &Path) -> Result<Self> {
        let reader = Box::new(flate2::read::MultiGzDecoder::new(from(path, 0)?));
        let room = length_of(path)?.saturating_mul(DEFLATE_RATIO_MAX);
        Ok(Self::stream(path.display().to_string(), reader, room))
    }

    /// Bytes read so far.
    pub(super) fn position(&self) -> u64 {
        self.position
    }

    /// True when the bytes are unpacked on the way.
    pub(super) fn is_packed(&self) -> bool {
        self.place.is_none()
    }

    /// The next bytes of a header.
    ///
    /// # Errors
    /// Data when there are fewer.
    pub(super) fn header(&mut self, bytes: &mut [u8]) -> Result<()> {
        self.read_exact(bytes).map_err(|error| unpacking(&self.name, &error))
    }

    /// Up to `bytes.len()` bytes: fewer only where the input ends.
    pub(super) fn start(&mut self, bytes: &mut [u8]) -> Result<usize> {
        fill(self, bytes).map_err(|error| unpacking(&self.name, &error))
    }

    /// What follows once `skip` more bytes are passed over.
    pub(super) fn rest(mut self, skip: u64) -> Result<Rest> {
        match self.place {
            Some((path, start)) => Ok(Rest::Place(path, start + self.position + skip)),
            None => {
                let passed = io::copy(&mut self.reader.by_ref().take(skip), &mut io::sink());
                match passed.map_err(|error| unpacking(&self.name, &error))? {
                    passed if passed == skip => Ok(Rest::Stream(self.reader)),
                    _ => Err(Error::data(format!("{} ends too early: it is truncated", self.name))),
                }
            }
        }
    }
}

impl Read for Input {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(bytes)?;
        self.position += read as u64;
        Ok(read)
    }
}

/// The file from `start` on.
pub(super) fn from(path: &Path, start: u64) -> Result<BufReader<File>> {
    use std::io::{Seek, SeekFrom};
    let mut file = File::open(path).map_err(|error| failed(path, &error))?;
    file.seek(SeekFrom::Start(start)).map_err(|error| failed(path, &error))?;
    Ok(BufReader::with_capacity(1 << 16, file))
}

/// The file's length in bytes.
pub(super) fn length_of(path: &Path) -> Result<u64> {
    let metadata = std::fs::metadata(path).map_err(|error| failed(path, &error))?;
    if metadata.is_dir() {
        return Err(Error::invalid(format!("{} is a folder, not a file", path.display())));
    }
    Ok(metadata.len())
}

/// Reads until `bytes` is full or the input ends; says how many came.
pub(super) fn fill(reader: &mut impl Read, bytes: &mut [u8]) -> io::Result<usize> {
    let mut at = 0;
    while at < bytes.len() {
        match reader.read(&mut bytes[at..]) {
            Ok(0) => break,
            Ok(read) => at += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(at)
}

/// What a failed file operation asks of the user.
pub(super) fn failed(path: &Path, error: &io::Error) -> Error {
    let path = path.display();
    match error.kind() {
        ErrorKind::NotFound => Error::invalid(format!("there is no file {path}")),
        ErrorKind::PermissionDenied => Error::invalid(format!("{path} may not be read: permission denied")),
        ErrorKind::IsADirectory => Error::invalid(format!("{path} is a folder, not a file")),
        ErrorKind::UnexpectedEof => Error::data(format!("{path} ends too early: it is truncated")),
        _ => Error::unavailable(format!("{path} can't be read: {error}")),
    }
}

/// What an error on the way through a decompressor asks of the user. Decompressors report damage as an I/O error of
/// one of these kinds.
pub(super) fn unpacking(name: &str, error: &io::Error) -> Error {
    if let Some(ours) = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>()) {
        return ours.clone();
    }
    match error.kind() {
        ErrorKind::InvalidData | ErrorKind::InvalidInput | ErrorKind::Other => {
            Error::data(format!("{name} is damaged: {error}"))
        }
        _ => failed(Path::new(name), error),
    }
}
