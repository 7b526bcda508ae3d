//! How long the lists of a file's first directory are, before the `tiff` crate reads them: it takes limits only once it
//! has opened a file, and by then it has made room for whatever the first page says.

use std::io::{Read, Seek, SeekFrom};

/// What the crate reads of a directory when it opens one: shape, types, packing, and where strips and tiles lie.
const READ: [u16; 20] =
    [256, 257, 258, 259, 262, 266, 273, 277, 278, 279, 284, 317, 322, 323, 324, 325, 338, 339, 347, 530];

/// Bytes that one value of a list takes in memory.
const VALUE_BYTES: u64 = 32;

/// The bytes that the longest list of the first directory will take in memory; 0 where there is no directory to be read.
pub(super) fn longest(file: &mut (impl Read + Seek)) -> std::io::Result<u64> {
    let mut head = [0; 16];
    let read = super::super::input::fill(file, &mut head)?;
    let big_endian = head.starts_with(b"MM");
    let number = |bytes: &[u8]| {
        let add = |n: u64, byte: &u8| n << 8 | u64::from(*byte);
        if big_endian { bytes.iter().fold(0, add) } else { bytes.iter().rev().fold(0, add) }
    };
    let big_tiff = number(&head[2..4]) == 43;
    let (start, counter, entry) = if big_tiff { (number(&head[8..16]), 8, 20) } else { (number(&head[4..8]), 2, 12) };
    if read < 16 {
        return Ok(0);
    }
    file.seek(SeekFrom::Start(start))?;
    let mut count = [0; 8];
    if super::super::input::fill(file, &mut count[..counter])? < counter {
        return Ok(0);
    }
    let mut longest = 0;
    // More entries than a 16-bit number has tags are not in a directory that can be read.
    for _ in 0..number(&count[..counter]).min(1 << 16) {
        let mut bytes = [0; 20];
        if super::super::input::fill(file, &mut bytes[..entry])? < entry {
            break;
        }
        if READ.contains(&(number(&bytes[..2]) as u16)) {
            let values = number(&bytes[4..if big_tiff { 12 } else { 8 }]);
            longest = longest.max(values.saturating_mul(VALUE_BYTES));
        }
    }
    Ok(longest)
}
