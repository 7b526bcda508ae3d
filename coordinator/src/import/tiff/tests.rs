#![allow(clippy::unwrap_used)]

use super::*;
use ::tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype};
use std::io::Write;

const MEMORY: u64 = 1 << 20;

fn saved(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// One page by hand: tags the encoder would not write, and strips or tiles as they are.
#[derive(Clone)]
struct RawPage {
    big_endian: bool,
    tags: Vec<(u16, u32)>,
    description: Option<&'static str>,
    tiled: bool,
    pieces: Vec<Vec<u8>>,
}

/// A grey page of 8-bit voxels in one uncompressed strip.
fn plain(width: u32, rows: u32, voxels: Vec<u8>) -> RawPage {
    let tags = vec![(256, width), (257, rows), (258, 8), (259, 1), (262, 1), (277, 1), (278, rows)];
    RawPage { big_endian: false, tags, description: None, tiled: false, pieces: vec![voxels] }
}

impl RawPage {
    fn with(mut self, tag: u16, value: u32) -> Self {
        self.tags.retain(|(t, _)| *t != tag);
        self.tags.push((tag, value));
        self
    }

    /// The whole file: header, pieces, arrays of their places, description, directory.
    fn bytes(mut self) -> Vec<u8> {
        let big = self.big_endian;
        let short = |v: u16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let long = |v: u32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let mut out = if big { b"MM\0*".to_vec() } else { b"II*\0".to_vec() };
        out.extend([0; 4]);
        let mut places = (Vec::new(), Vec::new());
        for piece in &self.pieces {
            places.0.extend(long(out.len() as u32));
            places.1.extend(long(piece.len() as u32));
            out.extend(piece);
        }
        let count = self.pieces.len() as u32;
        // A single number stands in the entry itself, as its own offset.
        let mut array = |list: &[u8]| {
            let at = out.len() as u32;
            out.extend(list);
            if count == 1 {
                list.try_into()
                    .map(|b: [u8; 4]| if big { u32::from_be_bytes(b) } else { u32::from_le_bytes(b) })
                    .unwrap()
            } else {
                at
            }
        };
        let (offsets, lengths) = (array(&places.0), array(&places.1));
        let (offsets_tag, lengths_tag) = if self.tiled { (324, 325) } else { (273, 279) };
        let mut entries: Vec<(u16, u16, u32, u32)> = self.tags.drain(..).map(|(tag, v)| (tag, 4, 1, v)).collect();
        entries.push((offsets_tag, 4, count, offsets));
        entries.push((lengths_tag, 4, count, lengths));
        if let Some(text) = self.description {
            entries.push((270, 2, text.len() as u32 + 1, out.len() as u32));
            out.extend(text.as_bytes());
            out.push(0);
        }
        entries.sort_unstable();
        let directory = out.len() as u32;
        out.extend(short(entries.len() as u16));
        for (tag, kind, n, value) in entries {
            out.extend(short(tag).into_iter().chain(short(kind)).chain(long(n)).chain(long(value)));
        }
        out.extend(long(0));
        out[4..8].copy_from_slice(&long(directory));
        out
    }
}

fn read_all(file: &tempfile::NamedTempFile) -> AnyVolume {
    let mut tiff = Tiff::open(file.path(), MEMORY).unwrap();
    tiff.read(tiff.extent().region()).unwrap()
}

fn refusal(file: &tempfile::NamedTempFile) -> (pipeline::Kind, String) {
    let path = file.path().display().to_string();
    let error = match Tiff::open(file.path(), MEMORY) {
        Ok(mut tiff) => tiff.read(tiff.extent().region()).unwrap_err(),
        Err(error) => error,
    };
    (error.kind, error.message.replace(&path, "a.tif"))
}

/// Writes `$pages` pages of 7 rows by 5 voxels in strips of 3 rows and reads every kind of box back.
macro_rules! round_trip {
    ($colour:ty, $t:ty, $compression:expr) => {{
        let value = |z: usize, y: usize, x: usize| ((z * 7 + y) * 5 + x) as $t;
        let mut file = std::io::Cursor::new(Vec::new());
        let mut encoder = TiffEncoder::new(&mut file).unwrap().with_compression($compression);
        for z in 0..4 {
            let voxels: Vec<$t> = (0..35).map(|i| value(z, i / 5, i % 5)).collect();
            let mut image = encoder.new_image::<$colour>(5, 7).unwrap();
            image.rows_per_strip(3).unwrap();
            image.write_data(&voxels).unwrap();
        }
        let file = saved(&file.into_inner());
        let mut tiff = Tiff::open(file.path(), MEMORY).unwrap();
        assert_eq!(tiff.extent(), Extent { shape: [4, 7, 5], planar: false });
        assert_eq!(tiff.dtype(), <$t as Element>::DTYPE);
        for (start, end) in
            [([0, 0, 0], [4, 7, 5]), ([1, 2, 0], [3, 4, 5]), ([3, 6, 2], [4, 7, 4]), ([0, 3, 1], [2, 6, 2])]
        {
            let region = Region { start, end };
            let mut expected = Volume::zeros(region);
            for z in start[0]..end[0] {
                for y in start[1]..end[1] {
                    for (x, voxel) in (start[2]..end[2]).zip(expected.row_mut(z, y)) {
                        *voxel = value(z, y, x);
                    }
                }
            }
            assert_eq!(tiff.read(region).unwrap(), AnyVolume::from(expected));
        }
    }};
}

#[test]
fn every_type_and_compression_is_read() {
    let codecs = || {
        [Compression::Uncompressed, Compression::Lzw, Compression::Deflate(DeflateLevel::Fast), Compression::Packbits]
    };
    for compression in codecs() {
        round_trip!(colortype::Gray8, u8, compression);
        round_trip!(colortype::GrayI8, i8, compression);
        round_trip!(colortype::Gray16, u16, compression);
        round_trip!(colortype::GrayI16, i16, compression);
        round_trip!(colortype::Gray32, u32, compression);
        round_trip!(colortype::GrayI32, i32, compression);
        round_trip!(colortype::Gray32Float, f32, compression);
        round_trip!(colortype::Gray64Float, f64, compression);
    }
}

#[test]
fn one_page_is_a_planar_image_and_bigtiff_is_read() {
    let mut file = std::io::Cursor::new(Vec::new());
    TiffEncoder::new_big(&mut file).unwrap().write_image::<colortype::Gray8>(3, 2, &[1, 2, 3, 4, 5, 6]).unwrap();
    let volume = Volume::new(Region::whole([1, 2, 3]), vec![1u8, 2, 3, 4, 5, 6]);
    let file = saved(&file.into_inner());
    assert!(Tiff::open(file.path(), MEMORY).unwrap().extent().planar);
    assert_eq!(read_all(&file), AnyVolume::U8(volume));
}

#[test]
fn the_older_code_for_deflate_is_read() {
    let mut file = std::io::Cursor::new(Vec::new());
    let deflate = Compression::Deflate(DeflateLevel::Fast);
    let voxels: Vec<u8> = (0..200).collect();
    TiffEncoder::new(&mut file)
        .unwrap()
        .with_compression(deflate)
        .write_image::<colortype::Gray8>(20, 10, &voxels)
        .unwrap();
    // The encoder writes code 8; the entry is found by its tag and count, and given the older code.
    let mut bytes = file.into_inner();
    let entry = [3, 1, 3, 0, 1, 0, 0, 0, 8, 0];
    let at = bytes.windows(entry.len()).position(|window| window == entry).unwrap();
    bytes[at + 8..at + 10].copy_from_slice(&32946u16.to_le_bytes());
    assert_eq!(read_all(&saved(&bytes)), AnyVolume::U8(Volume::new(Region::whole([1, 10, 20]), voxels)));
}

#[test]
fn big_endian_files_tiles_and_inverted_pages_are_read_as_stored() {
    let big =
        RawPage { big_endian: true, ..plain(2, 2, vec![1, 2, 3, 4, 0xff, 0xfe, 0, 0]).with(258, 16).with(339, 2) };
    let volume = Volume::new(Region::whole([1, 2, 2]), vec![0x0102i16, 0x0304, -2, 0]);
    assert_eq!(read_all(&saved(&big.bytes())), AnyVolume::I16(volume));

    // 20 x 18 voxels in tiles of 16 x 16: four, of which three are padded.
    let value = |y: usize, x: usize| (y * 20 + x) as u8;
    let tile = |top: usize, left: usize| (0..256).map(|i| value(top + i / 16, left + i % 16)).collect::<Vec<u8>>();
    let mut tiled = plain(20, 18, Vec::new()).with(322, 16).with(323, 16);
    tiled.tags.retain(|(tag, _)| *tag != 278);
    tiled.tiled = true;
    tiled.pieces = vec![tile(0, 0), tile(0, 16), tile(16, 0), tile(16, 16)];
    let file = saved(&tiled.bytes());
    let all: Vec<u8> = (0..360).map(|i| value(i / 20, i % 20)).collect();
    assert_eq!(read_all(&file), AnyVolume::U8(Volume::new(Region::whole([1, 18, 20]), all.clone())));
    let region = Region { start: [0, 14, 15], end: [1, 17, 18] };
    let part = Volume::new(Region::whole([1, 18, 20]), all).cropped(region);
    assert_eq!(Tiff::open(file.path(), MEMORY).unwrap().read(region).unwrap(), AnyVolume::U8(part));

    let inverted = plain(2, 2, vec![0, 1, 254, 255]).with(262, 0);
    let volume = Volume::new(Region::whole([1, 2, 2]), vec![0u8, 1, 254, 255]);
    assert_eq!(read_all(&saved(&inverted.bytes())), AnyVolume::U8(volume));
}

#[test]
fn what_is_not_a_grey_volume_is_refused_by_page() {
    use pipeline::Kind::Invalid;
    let cases = [
        (
            plain(2, 2, vec![0; 12]).with(262, 2).with(277, 3),
            "a.tif: page 1 is RGB, but a volume has one value per voxel",
        ),
        (plain(2, 2, vec![0; 8]).with(277, 2), "a.tif: page 1 has 2 samples per pixel, but a volume has one"),
        (
            plain(2, 2, vec![0; 4]).with(262, 3),
            "a.tif: page 1 has colours from a palette, but a volume has one value per voxel",
        ),
        (plain(2, 2, vec![0; 4]).with(259, 7), "a.tif: page 1 is compressed with ModernJPEG, which is not read"),
        (plain(8, 2, vec![0; 2]).with(258, 1), "a.tif: page 1 holds Uint values of 1 bits, which are not read"),
        (
            plain(2, 2, vec![0; 16]).with(258, 32).with(339, 3).with(262, 0),
            "a.tif: page 1 holds IEEEFP values of 32 bits where white is zero, which are not read",
        ),
        (
            RawPage { description: Some("ImageJ=1.53t\nimages=6\nchannels=2\nslices=3\n"), ..plain(1, 1, vec![0]) },
            "a.tif: holds 2 channels, but a volume has one",
        ),
        (
            RawPage {
                description: Some("<?xml?><OME><Pixels SizeC=\"1\" SizeT=\"7\"/></OME>"),
                ..plain(1, 1, vec![0])
            },
            "a.tif: holds 7 time points, but a volume has one",
        ),
        (
            RawPage { description: Some("ImageJ=1.53t\nimages=6000\nslices=6000\n"), ..plain(1, 1, vec![0]) },
            "a.tif: says that it holds 6000 images, but has one page: ImageJ's form of files beyond 4 GB",
        ),
        (
            plain(1000, 1000, vec![0; 1_000_000]),
            "a.tif: the strips of page 1 decode to 1000000 bytes each, more than a quarter of the memory of 1048576 bytes",
        ),
    ];
    for (page, message) in cases {
        assert_eq!(refusal(&saved(&page.bytes())), (Invalid, message.to_owned()));
    }
}

#[test]
fn the_odd_page_out_is_named() {
    let mut file = std::io::Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap();
    encoder.write_image::<colortype::Gray8>(3, 2, &[0; 6]).unwrap();
    encoder.write_image::<colortype::Gray8>(3, 2, &[0; 6]).unwrap();
    encoder.write_image::<colortype::Gray16>(3, 2, &[0; 6]).unwrap();
    let message = "a.tif: page 3 is 2 rows of 3 voxels (uint16), but page 1 is 2 rows of 3 voxels (uint8); the planes of \
                   a volume must agree";
    assert_eq!(refusal(&saved(&file.into_inner())), (pipeline::Kind::Invalid, message.to_owned()));
}

#[test]
fn damage_is_a_data_error_that_names_the_page() {
    use pipeline::Kind::Data;
    let mut file = std::io::Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut file).unwrap().with_compression(Compression::Deflate(DeflateLevel::Fast));
    let voxels: Vec<u8> = (0..=255).cycle().map(|i: u8| i.wrapping_mul(37)).take(4096).collect();
    encoder.write_image::<colortype::Gray8>(64, 64, &voxels).unwrap();
    let intact = file.into_inner();
    assert!(Tiff::open(saved(&intact).path(), MEMORY).is_ok());
    let mut flipped = intact.clone();
    flipped[8..40].fill(0xff);
    let (kind, message) = refusal(&saved(&flipped));
    assert_eq!(kind, Data);
    assert!(message.starts_with("a.tif: page 1 is damaged: "), "{message}");

    let mut short = plain(4, 4, vec![7; 16]).bytes();
    // The strip is said to lie where the file ends.
    let end = short.len() as u32;
    let place = short.windows(2).rposition(|tag| tag == 273u16.to_le_bytes()).unwrap();
    short[place + 8..place + 12].copy_from_slice(&(end - 8).to_le_bytes());
    assert_eq!(refusal(&saved(&short)), (Data, "a.tif: page 1 ends too early: the file is truncated".to_owned()));

    for length in 0..intact.len() {
        let file = saved(&intact[..length]);
        if let Ok(mut tiff) = Tiff::open(file.path(), MEMORY) {
            let _ = tiff.read(tiff.extent().region());
        }
    }
}
