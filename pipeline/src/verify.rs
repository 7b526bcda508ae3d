//! Whether a finished run's answers are what it wrote, and what it wrote is right: every object against the manifest, and
//! windows of the images, across the seams of blocks, computed anew without any blocks.
//!
//! A window of a filtered or thresholded image must be the same bit for bit. Labels are numbered over the whole image, so
//! of them a window must say the same as the image they were made of: the same voxels are foreground, neighbours have one
//! label.

mod compare;
mod windows;

use futures::{StreamExt, stream};
use serde::Serialize;

use crate::Result;
use crate::publish::Manifest;
use crate::store::Store;
use crate::task::Written;

pub use windows::Windows;

/// Objects that are read at once.
const OBJECTS_IN_FLIGHT: usize = 4;
/// Bytes of an object that are read at once.
const PART_BYTES: u64 = 8 << 20;

/// What was looked at, and what is wrong.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Verified {
    /// Objects that were read.
    pub objects: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Windows that were computed anew.
    pub windows: u64,
    /// Their voxels.
    pub voxels: u64,
    /// What is not as it should be.
    pub faults: Vec<String>,
    /// What could not be computed anew, and why.
    pub left_out: Vec<String>,
}

/// Reads every object of a finished run and compares it with what was written.
pub async fn objects(
    store: &Store,
    manifest: &Manifest,
    verified: &mut Verified,
    done: impl Fn(u64, u64),
) -> Result<()> {
    let count = (manifest.documents.len() + manifest.written.len()) as u64;
    let all = manifest.documents.iter().chain(&manifest.written);
    let mut checks = stream::iter(all.map(|written| check(store, written))).buffered(OBJECTS_IN_FLIGHT);
    while let Some(checked) = checks.next().await {
        match checked? {
            Ok(bytes) => verified.bytes += bytes,
            Err(fault) => verified.faults.push(fault),
        }
        verified.objects += 1;
        done(verified.objects, count);
    }
    Ok(())
}

/// Reads an object; gives its length, or what is wrong with it.
async fn check(store: &Store, written: &Written) -> Result<Result<u64, String>> {
    let name = store.display(&written.key);
    let (mut at, mut crc) = (0, 0);
    loop {
        let Some(part) = store.get_range(&written.key, at..at + PART_BYTES).await? else {
            return Ok(Err(format!("{name} is missing")));
        };
        if part.size != written.bytes {
            return Ok(Err(format!("{name} has {} bytes, but {} were written", part.size, written.bytes)));
        }
        crc = crc32c::crc32c_append(crc, &part.bytes);
        at += part.bytes.len() as u64;
        if at >= part.size || part.bytes.is_empty() {
            break;
        }
    }
    Ok(if crc == written.crc32c {
        Ok(at)
    } else {
        Err(format!("{name} is not what was written: its checksum differs"))
    })
}
