//! Zstandard with contexts that are kept: a fresh one costs more than a megabyte of cleared pages a chunk.
//!
//! The bytes are those of a fresh context. Which level, and what is packed, is left to others.

use std::io;
use std::sync::{Mutex, MutexGuard, PoisonError};

use zstd::bulk::{Compressor, Decompressor};
use zstd::zstd_safe::compress_bound;

/// What the context of a higher level takes is no longer small beside a block.
const KEPT_LEVEL_MAX: i32 = 5;

/// Contexts that nobody uses at the moment: never more than were in use at once.
static PACKERS: Mutex<Vec<(i32, Compressor<'static>)>> = Mutex::new(Vec::new());
static UNPACKERS: Mutex<Vec<Decompressor<'static>>> = Mutex::new(Vec::new());

fn lock<T>(pool: &Mutex<T>) -> MutexGuard<'_, T> {
    pool.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Appends one frame that holds `plain`, with its length and without a checksum.
pub(crate) fn pack(level: i32, plain: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let kept = {
        let mut packers = lock(&PACKERS);
        packers.iter().position(|(of, _)| *of == level).map(|at| packers.swap_remove(at).1)
    };
    let mut packer = match kept {
        Some(packer) => packer,
        None => Compressor::new(level)?,
    };
    out.reserve(compress_bound(plain.len()));
    let mut behind = io::Cursor::new(std::mem::take(out));
    behind.set_position(behind.get_ref().len() as u64);
    let packed = packer.compress_to_buffer(plain, &mut behind);
    *out = behind.into_inner();
    if level <= KEPT_LEVEL_MAX {
        lock(&PACKERS).push((level, packer));
    }
    packed.map(|_| ())
}

/// Unpacks a frame, or several, into the room that `out` has, which is empty.
///
/// # Errors
/// When the frame is damaged or there is not enough room.
pub(crate) fn unpack(packed: &[u8], out: &mut Vec<u8>) -> io::Result<()> {
    let kept = lock(&UNPACKERS).pop();
    let mut unpacker = match kept {
        Some(unpacker) => unpacker,
        None => Decompressor::new()?,
    };
    // After a failure the context is as new: each frame starts it over.
    let unpacked = unpacker.decompress_to_buffer(packed, out);
    lock(&UNPACKERS).push(unpacker);
    unpacked.map(|_| ())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    /// What was packed or refused before leaves no trace in what comes after.
    #[test]
    fn a_kept_context_gives_the_bytes_of_a_fresh_one() {
        let mut state = 1u32;
        for round in 0..40usize {
            let plain: Vec<u8> = (0..round * round * 97)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    (state >> 24) as u8 >> (round % 7)
                })
                .collect();
            let level = [1, 3, 5, 9, -3][round % 5];
            let mut packed = b"what was there".to_vec();
            pack(level, &plain, &mut packed).unwrap();
            let packed = packed.split_off(b"what was there".len());
            assert_eq!(packed, zstd::bulk::compress(&plain, level).unwrap());
            let mut out = Vec::with_capacity(plain.len());
            unpack(&packed, &mut out).unwrap();
            assert_eq!(out, plain);
            let mut broken = packed.clone();
            if let Some(byte) = broken.get_mut(9) {
                *byte ^= 0x55;
            }
            let _ = unpack(&broken, &mut Vec::with_capacity(plain.len()));
            assert!(
                unpack(&packed, &mut Vec::with_capacity(plain.len().saturating_sub(1))).is_err() || plain.is_empty()
            );
        }
    }
}
