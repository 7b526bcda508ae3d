//! The small fixed-size records of the label merge. Those that get sorted are big-endian, so that their bytes sort as
//! they do.

/// An open label of a block: which open object of its block or group it is part of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Alias {
    /// Block number.
    pub(crate) block: u64,
    /// Open object number within the block, from 0.
    pub(crate) label: u32,
    /// The faces of the block that the label reaches, see [`face_bit`](crate::grid::face_bit).
    pub(crate) faces: u8,
    /// Open object number within the block or group that this alias was written by, from 0.
    pub(crate) open: u64,
}

impl Alias {
    /// Bytes of an encoded alias.
    pub(crate) const BYTES: usize = 21;

    /// Sorts by block, then label.
    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        out[..8].copy_from_slice(&self.block.to_be_bytes());
        out[8..12].copy_from_slice(&self.label.to_be_bytes());
        out[12] = self.faces;
        out[13..].copy_from_slice(&self.open.to_be_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        Self { block: u64_be(bytes, 0), label: u32_be(bytes, 8), faces: bytes[12], open: u64_be(bytes, 13) }
    }
}

/// Two touching labels of different blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Pair {
    /// Block and open object number of the one.
    pub(crate) a: (u64, u32),
    /// Block and open object number of the other.
    pub(crate) b: (u64, u32),
}

impl Pair {
    /// Bytes of an encoded pair.
    pub(crate) const BYTES: usize = 24;

    pub(crate) fn encode(&self) -> [u8; Self::BYTES] {
        let mut out = [0; Self::BYTES];
        for (at, (block, label)) in [(0, self.a), (12, self.b)] {
            out[at..at + 8].copy_from_slice(&block.to_be_bytes());
            out[at + 8..at + 12].copy_from_slice(&label.to_be_bytes());
        }
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Self {
        let label = |at| (u64_be(bytes, at), u32_be(bytes, at + 8));
        Self { a: label(0), b: label(12) }
    }
}

/// Two numbers as one record that sorts by the first, then the second.
pub(crate) fn two(a: u64, b: u64) -> [u8; 16] {
    let mut out = [0; 16];
    out[..8].copy_from_slice(&a.to_be_bytes());
    out[8..].copy_from_slice(&b.to_be_bytes());
    out
}

/// The inverse of [`two`].
pub(crate) fn of_two(bytes: &[u8]) -> (u64, u64) {
    (u64_be(bytes, 0), u64_be(bytes, 8))
}

pub(crate) fn u64_be(bytes: &[u8], at: usize) -> u64 {
    u64::from_be_bytes(std::array::from_fn(|i| bytes[at + i]))
}

fn u32_be(bytes: &[u8], at: usize) -> u32 {
    u32::from_be_bytes(std::array::from_fn(|i| bytes[at + i]))
}
