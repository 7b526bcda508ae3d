//! `.npz` files, and zip archives that hold a `.npy`: the member is read where it lies, or unpacked as it is read.

use super::input::{DEFLATE_RATIO_MAX, Input, failed, from};
use super::npy;
use super::source::{Context, Source};
use pipeline::{Error, Result};
use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;
use zip::result::ZipError;
use zip::{CompressionMethod, ZipArchive};

/// A message names no more members than these.
const LISTED_MAX: usize = 20;

/// The array in the archive `path`, or the member that is asked for.
pub(super) fn open(path: &Path, context: &Context) -> Result<Source> {
    let refused = |error: ZipError| refused(path, error);
    let file = File::open(path).map_err(|error| failed(path, &error))?;
    let length = file.metadata().map_err(|error| failed(path, &error))?.len();
    let mut archive = ZipArchive::new(BufReader::new(file)).map_err(refused)?;
    let mut names = Vec::new();
    for index in 0..archive.len() {
        let name = archive.name_for_index(index).transpose().map_err(refused)?.unwrap_or_default().into_owned();
        names.push(name);
    }
    let index = chosen(path, &names, context.reading.member.as_deref())?;
    let name = format!("{}: {}", path.display(), names[index]);
    let member = archive.by_index_raw(index).map_err(refused)?;
    if member.encrypted() {
        return Err(Error::invalid(format!("{name} is encrypted")).hint("unpack it first"));
    }
    let (method, packed, size, crc) = (member.compression(), member.compressed_size(), member.size(), member.crc32());
    let start = member
        .data_start()
        .filter(|start| start.checked_add(packed).is_some_and(|end| end <= length))
        .ok_or_else(|| Error::data(format!("{name} ends beyond its archive: the file is truncated")))?;
    drop(member);
    let input = match method {
        CompressionMethod::Stored => Input::within(path, name, start, packed)?,
        CompressionMethod::Deflated => {
            let inflated = flate2::read::DeflateDecoder::new(from(path, start)?.take(packed));
            let reader = Box::new(Checked { inner: inflated, seen: flate2::Crc::new(), size, crc });
            Input::stream(name, reader, size.min(packed.saturating_mul(DEFLATE_RATIO_MAX)))
        }
        other => {
            return Err(
                Error::invalid(format!("{name} is packed with {other}, which is not read")).hint("unpack it first")
            );
        }
    };
    // The member was chosen here; the array in it is the only one.
    let reading = super::Reading { member: None, ..context.reading.clone() };
    npy::open(input, &Context { reading: &reading, ..*context })
}

/// The number of the member to import.
fn chosen(path: &Path, names: &[String], member: Option<&str>) -> Result<usize> {
    let arrays: Vec<usize> = (0..names.len()).filter(|index| names[*index].to_lowercase().ends_with(".npy")).collect();
    let place = path.display();
    let list = || {
        let mut shown: Vec<&str> = arrays.iter().take(LISTED_MAX).map(|index| names[*index].as_str()).collect();
        if arrays.len() > LISTED_MAX {
            shown.push("...");
        }
        shown.join(", ")
    };
    if let Some(member) = member {
        // numpy shows members of an .npz without their ending.
        return arrays
            .iter()
            .copied()
            .find(|index| names[*index] == member || names[*index].strip_suffix(".npy") == Some(member))
            .ok_or_else(|| {
                Error::invalid(format!("{place} has no member `{member}`")).hint(format!("it has {}", list()))
            });
    }
    match *arrays.as_slice() {
        [index] => Ok(index),
        [] => Err(Error::invalid(format!("{place} is a zip archive without a .npy in it")).hint("unpack it first")),
        [..] => Err(Error::invalid(format!("{place} holds {} arrays, and an image is one", arrays.len()))
            .hint(format!("choose one with --member: {}", list()))),
    }
}

/// Sees at the end whether the bytes were those that the archive promises.
struct Checked<R> {
    inner: R,
    seen: flate2::Crc,
    size: u64,
    crc: u32,
}

impl<R: Read> Read for Checked<R> {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(bytes)?;
        self.seen.update(&bytes[..read]);
        // `amount` counts modulo 2^32.
        let ended = read == 0 && !bytes.is_empty() && self.seen.amount() == self.size as u32;
        if ended && self.seen.sum() != self.crc {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "its checksum is wrong"));
        }
        Ok(read)
    }
}

fn refused(path: &Path, error: ZipError) -> Error {
    let place = path.display();
    match error {
        ZipError::Io(error) => failed(path, &error),
        ZipError::UnsupportedArchive(why) => Error::invalid(format!("{place} can't be imported: {why}")),
        error => Error::data(format!("{place} is damaged: {error}")),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn one_array_is_found_and_several_are_listed() {
        let path = Path::new("a.npz");
        let names = |names: &[&str]| names.iter().map(|n| (*n).to_owned()).collect::<Vec<_>>();
        let one = names(&["__MACOSX/", "readme.txt", "grains.npy"]);
        let two = names(&["a.npy", "b.npy"]);
        assert_eq!(chosen(path, &one, None), Ok(2));
        assert_eq!(chosen(path, &two, Some("b")), Ok(1));
        assert_eq!(chosen(path, &two, Some("a.npy")), Ok(0));
        let error = chosen(path, &two, None).unwrap_err();
        assert_eq!(error.message, "a.npz holds 2 arrays, and an image is one");
        assert_eq!(error.hint.as_deref(), Some("choose one with --member: a.npy, b.npy"));
        let error = chosen(path, &two, Some("c")).unwrap_err();
        assert_eq!(
            (error.message.as_str(), error.hint.as_deref()),
            ("a.npz has no member `c`", Some("it has a.npy, b.npy"))
        );
        let error = chosen(path, &names(&["a.txt"]), None).unwrap_err();
        assert_eq!(error.message, "a.npz is a zip archive without a .npy in it");
    }
}
