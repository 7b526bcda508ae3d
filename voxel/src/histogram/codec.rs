//! How partial results become bytes: fixed-width little-endian integers, and counts in base 128, because most counts of
//! a histogram are zero or small.

use crate::Dtype;

pub(super) fn put_u64(v: u64, out: &mut Vec<u8>) {
    out.extend(v.to_le_bytes());
}

pub(super) fn take_u64(bytes: &mut &[u8]) -> Option<u64> {
    take(bytes).map(u64::from_le_bytes)
}

pub(super) fn take<const N: usize>(bytes: &mut &[u8]) -> Option<[u8; N]> {
    let (head, rest) = bytes.split_first_chunk()?;
    *bytes = rest;
    Some(*head)
}

/// The element type as its place in [`Dtype::ALL`].
pub(super) fn put_dtype(dtype: Dtype, out: &mut Vec<u8>) {
    out.extend((0u8..).zip(Dtype::ALL).filter(|(_, d)| *d == dtype).map(|(code, _)| code));
}

pub(super) fn take_dtype(bytes: &mut &[u8]) -> Option<Dtype> {
    let [code] = take(bytes)?;
    Dtype::ALL.get(usize::from(code)).copied()
}

/// LEB128: seven bits a byte, low ones first, the high bit set on all but the last.
pub(super) fn put_counts(counts: &[u64], out: &mut Vec<u8>) {
    for &count in counts {
        let mut rest = count;
        while rest >= 0x80 {
            out.push(rest as u8 | 0x80);
            rest >>= 7;
        }
        out.push(rest as u8);
    }
}

/// Takes `length` counts; `None` when bytes run out or a count exceeds 64 bits.
pub(super) fn take_counts(length: usize, bytes: &mut &[u8]) -> Option<Vec<u64>> {
    // A count takes a byte or more, so a length that was tampered with is found before memory is asked for.
    if bytes.len() < length {
        return None;
    }
    let mut counts = Vec::with_capacity(length);
    for _ in 0..length {
        let mut count = 0u64;
        let mut shift = 0;
        loop {
            let [byte] = take(bytes)?;
            let part = u64::from(byte & 0x7f);
            if shift > 63 || (part << shift) >> shift != part {
                return None;
            }
            count |= part << shift;
            shift += 7;
            if byte < 0x80 {
                break;
            }
        }
        counts.push(count);
    }
    Some(counts)
}
