//! Unpacking within bounds: a chunk knows its size, and no packed bytes make more of it.

use std::io::Read;

use zarrs::array::BytesRepresentation;

use super::{Why, room};
use crate::zstandard;

/// A compressor whose frames are unpacked here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Packer {
    Zstd,
    Gzip,
    Zlib,
    Bz2,
}

impl Packer {
    /// The packer of the codec that Zarr calls `name`.
    pub(super) fn named(name: &str) -> Option<Packer> {
        match name {
            "zstd" => Some(Packer::Zstd),
            "gzip" => Some(Packer::Gzip),
            "numcodecs.zlib" => Some(Packer::Zlib),
            "numcodecs.bz2" => Some(Packer::Bz2),
            _ => None,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Packer::Zstd => "zstd",
            Packer::Gzip => "gzip",
            Packer::Zlib => "zlib",
            Packer::Bz2 => "bz2",
        }
    }

    /// Bytes that one packed byte can stand for at most: what may be set aside before anything is unpacked.
    fn ratio(self) -> u64 {
        match self {
            // A run of 258 bytes takes two bits.
            Packer::Gzip | Packer::Zlib => 1032,
            // A block of 128 KiB takes four bytes.
            Packer::Zstd => 128 << 8,
            // A block of 900 kB takes some forty bytes, and begins with four-byte runs of 255.
            Packer::Bz2 => 64 << 10,
        }
    }

    /// Unpacks `packed`, which must not hold more than `most` bytes.
    pub(super) fn unpack(self, packed: &[u8], most: u64) -> Result<Vec<u8>, Why> {
        let name = self.name();
        let too_much = || format!("{name}: it unpacks to more than the {most} bytes it can have");
        let failed = |e: std::io::Error| format!("{name}: {e}");
        let likely = most.min((packed.len() as u64).saturating_mul(self.ratio()).saturating_add(1 << 10));
        let likely = usize::try_from(likely).map_err(|_| too_much())?;
        let mut out = room(likely)?;
        match self {
            Packer::Zstd => {
                zstandard::unpack(packed, &mut out).map_err(|e| match claimed(packed) {
                    Some(claimed) if claimed > most => too_much(),
                    _ => failed(e),
                })?;
            }
            Packer::Gzip => read(flate2::read::MultiGzDecoder::new(packed), most, &mut out).map_err(failed)?,
            Packer::Zlib => read(flate2::read::ZlibDecoder::new(packed), most, &mut out).map_err(failed)?,
            Packer::Bz2 => read(bzip2::read::MultiBzDecoder::new(packed), most, &mut out).map_err(failed)?,
        }
        if out.len() as u64 > most { Err(too_much()) } else { Ok(out) }
    }
}

/// Reads to the end, or one byte beyond `most`.
fn read(from: impl Read, most: u64, out: &mut Vec<u8>) -> std::io::Result<()> {
    from.take(most.saturating_add(1)).read_to_end(out).map(|_| ())
}

/// What the first frame of zstd says it unpacks to.
fn claimed(packed: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(packed).ok().flatten()
}

/// Checks what a Blosc header says against the size the chunk must have: bytes 4..8 hold the unpacked size, bytes
/// 8..12 that of a block, bytes 12..16 the packed one, little-endian (Blosc 1 chunk format).
pub(super) fn check_blosc_header(bytes: &[u8], size: &BytesRepresentation, most: u64) -> Result<(), Why> {
    let field = |at: usize| -> Option<u64> {
        let four: [u8; 4] = bytes.get(at..at + 4)?.try_into().ok()?;
        Some(u64::from(u32::from_le_bytes(four)))
    };
    let (Some(unpacked), Some(block), Some(packed)) = (field(4), field(8), field(12)) else {
        return Err(format!("blosc: {} bytes are too few for a header", bytes.len()));
    };
    if packed != bytes.len() as u64 {
        return Err(format!("blosc: the header tells of {packed} packed bytes, there are {}", bytes.len()));
    }
    if block > unpacked.max(1) {
        return Err(format!("blosc: the header tells of blocks of {block} bytes in {unpacked} unpacked bytes"));
    }
    match *size {
        BytesRepresentation::FixedSize(size) if size != unpacked => {
            Err(format!("blosc: the header tells of {unpacked} unpacked bytes, the chunk has {size}"))
        }
        _ if unpacked > most => Err(format!("blosc: it unpacks to more than the {most} bytes it can have")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use std::io::Write;

    use super::*;

    fn packed(packer: Packer, bytes: &[u8]) -> Vec<u8> {
        match packer {
            Packer::Zstd => zstd::bulk::compress(bytes, 3).unwrap(),
            Packer::Gzip => {
                let mut to = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            Packer::Zlib => {
                let mut to = flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::best());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
            Packer::Bz2 => {
                let mut to = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::best());
                to.write_all(bytes).unwrap();
                to.finish().unwrap()
            }
        }
    }

    #[test]
    fn what_fits_comes_out_and_a_bomb_does_not() {
        for packer in [Packer::Zstd, Packer::Gzip, Packer::Zlib, Packer::Bz2] {
            for len in [0, 1, 1000, 4 << 20] {
                let bytes = vec![7; len];
                let small = packed(packer, &bytes);
                assert_eq!(packer.unpack(&small, len as u64).unwrap(), bytes, "{packer:?} {len}");
                assert_eq!(packer.unpack(&small, 2 * len as u64 + 9).unwrap(), bytes, "{packer:?} {len}");
                if len > 0 {
                    let refused = packer.unpack(&small, len as u64 - 1).unwrap_err();
                    let most = len - 1;
                    assert!(
                        refused.ends_with(&format!(": it unpacks to more than the {most} bytes it can have")),
                        "{refused}"
                    );
                }
            }
        }
    }

    #[test]
    fn what_is_set_aside_follows_what_is_there() {
        for packer in [Packer::Zstd, Packer::Gzip, Packer::Zlib, Packer::Bz2] {
            let small = packed(packer, &[7; 100]);
            assert!(packer.unpack(&small, 1 << 40).unwrap().capacity() <= small.len() << 17, "{packer:?}");
        }
    }
}
