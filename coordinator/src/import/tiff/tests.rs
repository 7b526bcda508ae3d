#![allow(clippy::unwrap_used)]

use super::*;
use crate::import::Reading;
use ::tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype};
use std::io::Write;
use voxel::{AnyVolume, Element, Region, Volume};

const MEMORY: u64 = 1 << 20;

fn opened(path: &Path, reading: Reading) -> Result<Source> {
    Source::open(path, &Context { reading: &reading, memory_bytes: MEMORY, folder: &std::env::temp_dir() })
}

fn saved(bytes: &[u8]) -> tempfile::NamedTempFile {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(bytes).unwrap();
    file
}

/// A box of a file: of a stream, after all that comes before it.
fn boxed(path: &Path, region: Region) -> AnyVolume {
    let mut tiff = opened(path, Reading::default()).unwrap();
    let [_, rows, width] = tiff.extent().shape;
    if region.start[0] > 0 {
        tiff.read(Region { start: [0; 3], end: [region.start[0], rows, width] }).unwrap();
    }
    tiff.read(region).unwrap()
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
    let mut tiff = opened(file.path(), Reading::default()).unwrap();
    tiff.read(tiff.extent().region()).unwrap()
}

fn refusal(file: &tempfile::NamedTempFile) -> (pipeline::Kind, String) {
    let path = file.path().display().to_string();
    let error = match opened(file.path(), Reading::default()) {
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
        let tiff = opened(file.path(), Reading::default()).unwrap();
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
            assert_eq!(boxed(file.path(), region), AnyVolume::from(expected));
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
    assert!(opened(file.path(), Reading::default()).unwrap().extent().planar);
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
    assert_eq!(boxed(file.path(), region), AnyVolume::U8(part));

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
        (plain(2, 2, vec![0; 4]).with(259, 7), "a.tif: page 1 is compressed with ModernJPEG, which is not read"),
        (
            plain(2, 2, vec![0; 8]).with(258, 16).with(339, 3),
            "a.tif: page 1 holds floats of 16 bits, which are not read",
        ),
        (plain(2, 2, vec![0; 4]).with(317, 3), "a.tif: page 1 has predictor 3 for uint8, which is not read"),
        (plain(2, 2, vec![0; 4]).with(266, 2), "a.tif: page 1 has its bits in reversed order, which is not read"),
        (
            RawPage { description: Some("ImageJ=1.53t\nimages=6\nchannels=2\nslices=3\n"), ..plain(1, 1, vec![0; 6]) },
            "a.tif holds 2 channels, but a volume has one",
        ),
        (
            RawPage {
                description: Some("<?xml version=\"1.0\"?><OME><Image><Pixels SizeC=\"1\" SizeT=\"7\"/></Image></OME>"),
                ..plain(1, 1, vec![0])
            },
            "a.tif holds 7 time points, but a volume has one",
        ),
        (
            RawPage {
                description: Some("<?xml version=\"1.0\"?><OME><Image><Pixels SizeZ=\"7\"/></Image></OME>"),
                ..plain(1, 1, vec![0])
            },
            "a.tif says that it holds 7 planes, and has 1 pages; the others may be in other files",
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
    assert!(opened(saved(&intact).path(), Reading::default()).is_ok());
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
    let message =
        format!("a.tif: page 1 ends too early: its voxels end at byte {}, and the file is truncated at {end}", end + 8);
    assert_eq!(refusal(&saved(&short)), (Data, message));

    for length in 0..intact.len() {
        let file = saved(&intact[..length]);
        if let Ok(mut tiff) = opened(file.path(), Reading::default()) {
            let _ = tiff.read(tiff.extent().region());
        }
    }
}

#[test]
fn palettes_give_their_indices_and_small_voxels_are_set_apart() {
    let palette = plain(2, 2, vec![9, 8, 7, 6]).with(262, 3);
    let file = saved(&palette.bytes());
    let source = opened(file.path(), Reading::default()).unwrap();
    assert_eq!(source.notes, ["the colours of the palette are left out: voxels are its indices"]);
    assert_eq!(read_all(&file), AnyVolume::U8(Volume::new(Region::whole([1, 2, 2]), vec![9, 8, 7, 6])));

    // Rows begin at a byte of their own; the first voxel is in the highest bits.
    let bits = plain(10, 2, vec![0b1011_0001, 0b0100_0000, 0b0000_0001, 0b1000_0000]).with(258, 1);
    let expected =
        [[1, 0, 1, 1, 0, 0, 0, 1, 0, 1], [0, 0, 0, 0, 0, 0, 0, 1, 1, 0]].as_flattened().iter().map(|b| *b == 1);
    assert_eq!(
        read_all(&saved(&bits.bytes())),
        AnyVolume::Bool(Volume::new(Region::whole([1, 2, 10]), expected.collect()))
    );
    let nibbles = plain(3, 1, vec![0x1f, 0x70]).with(258, 4).with(262, 3);
    assert_eq!(
        read_all(&saved(&nibbles.bytes())),
        AnyVolume::U8(Volume::new(Region::whole([1, 1, 3]), vec![1, 15, 7]))
    );
}

/// ImageJ's form of stacks beyond 4 GB: one page, then the bare data of all, big-endian, in a file with holes.
#[test]
fn one_page_may_stand_for_a_stack_beyond_4_gb() {
    let (rows, width, slices) = (1usize << 14, 1usize << 14, 9u64);
    let mut page = plain(width as u32, rows as u32, vec![]).with(258, 16);
    page.big_endian = true;
    page.description = Some("ImageJ=1.53t\nimages=9\nslices=9\nunit=um\nspacing=3\n");
    page.pieces = vec![vec![0; 1]];
    let mut bytes = page.bytes();
    // The data come last, after the directory.
    let start = bytes.len() as u64;
    let place = bytes.windows(2).rposition(|tag| tag == 273u16.to_be_bytes()).unwrap();
    bytes[place + 8..place + 12].copy_from_slice(&(start as u32).to_be_bytes());
    let mut file = saved(&bytes);
    let plane = (rows * width * 2) as u64;
    file.as_file().set_len(start + slices * plane).unwrap();
    use std::os::unix::fs::FileExt;
    file.as_file().write_all_at(&[0x12, 0x34], start + 8 * plane + ((rows * width - 1) * 2) as u64).unwrap();
    file.flush().unwrap();
    let mut source = opened(file.path(), Reading::default()).unwrap();
    assert_eq!(source.extent(), Extent { shape: [9, rows, width], planar: false });
    assert_eq!(source.place.unit.as_deref(), Some("micrometer"));
    let last = Region { start: [7, rows - 1, width - 2], end: [9, rows, width] };
    assert_eq!(source.read(last).unwrap(), AnyVolume::U16(Volume::new(last, vec![0, 0, 0, 0x1234])));

    file.as_file().set_len(start + slices * plane - 1).unwrap();
    let (kind, message) = refusal(&file);
    let expected = format!(
        "a.tif is truncated: it says that it holds 9 images of {plane} bytes after byte {start}, and has {} bytes",
        start + slices * plane - 1
    );
    assert_eq!((kind, message), (pipeline::Kind::Data, expected));
}

/// A page of one packed strip that is larger than all the memory, cut into pieces by way of the disk.
#[test]
fn a_strip_beyond_memory_is_read_in_bands() {
    let (rows, width) = (1000usize, 800usize);
    let mut file = std::io::Cursor::new(Vec::new());
    let deflate = Compression::Deflate(DeflateLevel::Fast);
    let mut encoder = TiffEncoder::new(&mut file).unwrap().with_compression(deflate);
    let value = |at: usize| (at * 7 % 65_521) as u16;
    let voxels: Vec<u16> = (0..rows * width).map(value).collect();
    let mut image = encoder.new_image::<colortype::Gray16>(width as u32, rows as u32).unwrap();
    image.rows_per_strip(rows as u32).unwrap();
    image.write_data(&voxels).unwrap();
    let file = saved(&file.into_inner());
    let reading = Reading::default();
    let context = Context { reading: &reading, memory_bytes: 300_000, folder: &std::env::temp_dir() };
    let mut source = Source::open(file.path(), &context).unwrap();
    assert!(source.scratch_bytes() < 300_000, "{}", source.scratch_bytes());
    let whole = Volume::new(source.extent().region(), voxels);
    for top in [0, 250, 500, 750] {
        let band = Region { start: [0, top, 100], end: [1, top + 250, 300] };
        assert_eq!(source.read(band).unwrap(), AnyVolume::U16(whole.cropped(band)));
    }
}

#[test]
fn names_are_sorted_as_people_number_them() {
    let mut names =
        ["s10.tif", "s2.tif", "s1.tif", "t.tif", "s02.tif", "s2b.tif", "s.tif", "s100000000000000000000.tif"];
    names.sort_by(|a, b| natural(a, b).then_with(|| a.cmp(b)));
    let expected =
        ["s.tif", "s1.tif", "s02.tif", "s2.tif", "s2b.tif", "s10.tif", "s100000000000000000000.tif", "t.tif"];
    assert_eq!(names, expected);
}

#[test]
fn the_odd_file_out_of_a_folder_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let refused = || {
        let error = opened(folder.path(), Reading::default()).err().unwrap();
        error.message.replace(&folder.path().display().to_string(), "slices")
    };
    assert_eq!(refused(), "slices is a folder without TIFF files (.tif, .tiff)");
    for n in 1..12 {
        std::fs::write(folder.path().join(format!("s{n}.tif")), plain(2, 2, vec![n; 4]).bytes()).unwrap();
    }
    std::fs::write(folder.path().join("readme.txt"), "x").unwrap();
    let mut source = opened(folder.path(), Reading::default()).unwrap();
    assert_eq!(source.notes[0], "11 files from s1.tif to s11.tif");
    let AnyVolume::U8(volume) = source.read(source.extent().region()).unwrap() else { panic!("uint8") };
    assert_eq!(volume.data.chunks(4).map(|plane| plane[0]).collect::<Vec<_>>(), (1..12).collect::<Vec<u8>>());
    std::fs::write(folder.path().join("s7.tif"), plain(3, 2, vec![0; 6]).bytes()).unwrap();
    assert_eq!(
        refused(),
        "slices: s7.tif is 2 rows of 3 voxels (uint8), but s1.tif is 2 rows of 2 voxels (uint8); the planes of a volume \
         must agree"
    );
}

#[test]
fn predictors_and_small_runs_are_undone() {
    // PackBits: three as they are, five equal, nothing, one as it is.
    let page = plain(9, 1, vec![2, 1, 2, 3, (-4i8) as u8, 7, 0x80, 0, 9]).with(259, 32773);
    let expected = vec![1, 2, 3, 7, 7, 7, 7, 7, 9];
    assert_eq!(read_all(&saved(&page.bytes())), AnyVolume::U8(Volume::new(Region::whole([1, 1, 9]), expected)));
    let differences = plain(4, 2, vec![250, 3, 4, 255, 1, 1, 1, 1]).with(317, 2);
    let expected = vec![250, 253, 1, 0, 1, 2, 3, 4];
    assert_eq!(read_all(&saved(&differences.bytes())), AnyVolume::U8(Volume::new(Region::whole([1, 2, 4]), expected)));
    // 1.0 and 2.0 as floats: 3f80 0000 and 4000 0000, by bytes of equal weight, then differences.
    let planes: [u8; 8] = [0x3f, 0x40, 0x80, 0, 0, 0, 0, 0];
    let mut stored = planes;
    for i in (1..8).rev() {
        stored[i] = planes[i].wrapping_sub(planes[i - 1]);
    }
    let floats = plain(2, 1, stored.to_vec()).with(258, 32).with(339, 3).with(317, 3);
    assert_eq!(
        read_all(&saved(&floats.bytes())),
        AnyVolume::F32(Volume::new(Region::whole([1, 1, 2]), vec![1.0, 2.0]))
    );
}

/// Any one byte of a file may be wrong: what comes is an error or an image, never a panic, and never beyond the memory.
#[test]
fn no_wrong_byte_is_the_end_of_the_program() {
    let tiled = {
        let mut page = plain(20, 18, Vec::new()).with(322, 16).with(323, 16).with(317, 2);
        page.tags.retain(|(tag, _)| *tag != 278);
        page.tiled = true;
        page.pieces = vec![vec![1; 256]; 4];
        page.description = Some("ImageJ=1.53t\nimages=1\nslices=1\nspacing=2\nunit=um\n");
        page.bytes()
    };
    let packed = plain(9, 1, vec![2, 1, 2, 3, (-4i8) as u8, 7, 0x80, 0, 9]).with(259, 32773).bytes();
    for intact in [tiled, packed] {
        for at in 0..intact.len() {
            // Voxels may be anything; directories and headers are what is read first.
            if (300..1000).contains(&at) && at % 16 > 0 {
                continue;
            }
            for wrong in [0, 1, 0x7f, 0xff] {
                let mut bytes = intact.clone();
                bytes[at] = wrong;
                let file = saved(&bytes);
                if let Ok(mut source) = opened(file.path(), Reading::default()) {
                    let [depth, rows, width] = source.extent().shape;
                    let end = [depth.min(2), rows.min(40), width.min(40)];
                    let _ = source.read(Region { start: [0; 3], end });
                }
            }
        }
    }
}

/// The `tiff` crate makes room for what the first page says before it can be told a limit.
#[test]
fn a_list_too_long_for_the_memory_is_refused_before_it_is_read() {
    let limited = |bytes: Vec<u8>| opened(saved(&bytes).path(), Reading::default()).err().unwrap().message;
    for big_endian in [false, true] {
        let page = RawPage { big_endian, ..plain(4, 4, vec![7; 16]) };
        let mut bytes = page.bytes();
        // The number of values of SamplesPerPixel.
        let tag = if big_endian { [1, 21] } else { [21, 1] };
        let at = bytes.windows(2).rposition(|pair| pair == tag).unwrap() + 4;
        bytes[at..at + 4].copy_from_slice(&[0, 0x7f, 0x7f, 0]);
        let message = limited(bytes);
        assert!(message.ends_with("page 1 has a list too large for the memory"), "{message}");
    }
}
