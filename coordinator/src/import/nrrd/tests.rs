#![allow(clippy::unwrap_used)]

use super::*;
use crate::import::Reading;
use pipeline::Kind;
use std::io::Write;
use voxel::{AnyVolume, Volume};

const FIELDS: &str = "NRRD0004\n# made by hand\ntype: short\ndimension: 3\nsizes: 4 3 2\nendian: big\nencoding: raw\n";

fn opened(files: &[(&str, &[u8])]) -> (tempfile::TempDir, Result<Source>) {
    let folder = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(folder.path().join(name), bytes).unwrap();
    }
    let reading = Reading::default();
    let context = Context { reading: &reading, memory_bytes: 1 << 20, folder: folder.path() };
    let source = Source::open(&folder.path().join(files[0].0), &context);
    (folder, source)
}

fn refusal(fields: &str, voxels: &[u8]) -> (Kind, String) {
    let (folder, source) = opened(&[("a.nrrd", &[fields.as_bytes(), b"\n", voxels].concat())]);
    let error = source.err().unwrap();
    (error.kind, error.message.replace(&folder.path().join("a.nrrd").display().to_string(), "a.nrrd"))
}

fn voxels() -> (Vec<i16>, Vec<u8>) {
    let voxels: Vec<i16> = (0..24).map(|v| v * 300 - 7).collect();
    let bytes = voxels.iter().flat_map(|v| v.to_be_bytes()).collect();
    (voxels, bytes)
}

#[test]
fn every_encoding_is_read_attached_and_detached() {
    let (voxels, bytes) = voxels();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&bytes).unwrap();
    let mut bzip2 = bzip2::write::BzEncoder::new(Vec::new(), bzip2::Compression::fast());
    bzip2.write_all(&bytes).unwrap();
    let words: Vec<String> = voxels.iter().map(i16::to_string).collect();
    let encodings = [
        ("raw", bytes.clone()),
        ("gzip", gzip.finish().unwrap()),
        ("bz2", bzip2.finish().unwrap()),
        ("ascii", words.join(" ").into_bytes()),
    ];
    for (encoding, packed) in encodings {
        let fields = FIELDS.replace("raw", encoding);
        let attached = [fields.as_bytes(), b"\n", &packed].concat();
        let skipped = [b"a line\n".as_slice(), &packed].concat();
        let detached = format!("{fields}line skip: 1\ndata file: voxels.bin\n");
        for files in [
            vec![("a.nrrd", attached.as_slice())],
            vec![("a.nhdr", detached.as_bytes()), ("voxels.bin", skipped.as_slice())],
        ] {
            let (_folder, source) = opened(&files);
            let mut source = source.unwrap();
            let region = source.extent().region();
            assert_eq!(region.shape(), [2, 3, 4]);
            assert_eq!(source.read(region).unwrap(), AnyVolume::I16(Volume::new(region, voxels.clone())), "{encoding}");
        }
    }
}

#[test]
fn the_last_bytes_of_a_file_may_be_meant() {
    let (voxels, bytes) = voxels();
    let file = [format!("{FIELDS}byte skip: -1\n\n").as_bytes(), b"what another program wrote", &bytes].concat();
    let (_folder, source) = opened(&[("a.nrrd", &file)]);
    let mut source = source.unwrap();
    let region = source.extent().region();
    assert_eq!(source.read(region).unwrap(), AnyVolume::I16(Volume::new(region, voxels)));
}

#[test]
fn sizes_and_units_are_read() {
    let place = |more: &str| {
        let (_folder, source) = opened(&[("a.nrrd", &[format!("{FIELDS}{more}\n").as_bytes(), &[0; 48]].concat())]);
        let source = source.unwrap();
        (source.place, source.notes)
    };
    let (said, notes) = place("spacings: 0.5 0.25 2\nunits: \"um\" \"um\" \"um\"\n");
    assert_eq!((said.spacing, said.unit.as_deref(), notes.len()), (Some([2.0, 0.25, 0.5]), Some("micrometer"), 0));
    let (said, notes) = place("spacings: 0.5 0.25 2\nunits: \"um\" \"um\" \"mm\"\n");
    assert_eq!((said.unit, notes.len()), (None, 1));
    let (said, notes) = place("spacings: nan nan nan\n");
    assert_eq!((said, notes.len()), (Place::default(), 0));
    let turned =
        "space: left-posterior-superior\nspace directions: (0,0.5,0) (0.25,0,0) (0,0,-2)\nspace origin: (1,2,3)\n";
    let (said, notes) = place(turned);
    assert_eq!((said.spacing, said.unit.as_deref()), (Some([2.0, 0.25, 0.5]), Some("millimeter")));
    assert_eq!(said.translation, [0.0; 3]);
    assert!(
        notes[1].starts_with("the file's affine has its x, y, z run along the world's y, x, z, flips z; "),
        "{notes:?}"
    );
}

#[test]
fn what_is_no_image_is_refused() {
    let cases = [
        (FIELDS.replace("encoding: raw\n", ""), Kind::Data, "a.nrrd: the header has no field `encoding`"),
        (FIELDS.replace("raw", "hex"), Kind::Invalid, "a.nrrd: has encoding hex, which is not read"),
        (FIELDS.replace("short", "block"), Kind::Invalid, "a.nrrd: holds voxels of type block, which is not read"),
        (FIELDS.replace("endian: big\n", ""), Kind::Data, "a.nrrd: the header has no field `endian`"),
        (FIELDS.replace("sizes: 4 3 2", "sizes: 4 3"), Kind::Data, "a.nrrd: the header has 2 sizes for dimension 3"),
        (FIELDS.replace("4 3 2", "4 x 2"), Kind::Data, "a.nrrd: the header's `sizes` are `4 x 2`, not numbers"),
        (FIELDS.replace("4 3 2", "4 0 2"), Kind::Data, "a.nrrd: has no voxels: its sizes are 4 0 2"),
        (
            FIELDS.replace("4 3 2", "4 3 9"),
            Kind::Data,
            "a.nrrd is truncated: its header promises 305 bytes, and it has 137",
        ),
        (
            format!("{FIELDS}kinds: vector domain domain\n"),
            Kind::Invalid,
            "a.nrrd: has 4 values per voxel (axis 1 is of kind vector), and a volume has one",
        ),
        (
            FIELDS.replace("dimension: 3", "dimension: 4").replace("4 3 2", "2 2 3 2"),
            Kind::Invalid,
            "a.nrrd: has 4 axes (2 2 3 2), and images have two or three",
        ),
        (format!("{FIELDS}data file: slice%03d.raw 1 9 1\n"), Kind::Invalid, "a.nrrd: has its voxels in several files"),
    ];
    for (fields, kind, message) in cases {
        assert_eq!(refusal(&fields, &[0; 48]), (kind, message.to_owned()));
    }
    let (_folder, source) = opened(&[("a.nhdr", format!("{FIELDS}data file: gone.raw\n").as_bytes())]);
    assert!(source.err().unwrap().message.starts_with("there is no file "));
}

#[test]
fn words_that_are_no_numbers_and_ends_that_come_early_are_told() {
    let fields = FIELDS.replace("raw", "ascii");
    let read = |text: &str| {
        let (folder, source) = opened(&[("a.nrrd", format!("{fields}\n{text}").as_bytes())]);
        let mut source = source.unwrap();
        let error = source.read(source.extent().region()).unwrap_err();
        error.message.replace(&folder.path().join("a.nrrd").display().to_string(), "a.nrrd")
    };
    let most = "11 ".repeat(23);
    assert_eq!(read(&format!("{most} 1x")), "a.nrrd is damaged: `1x` is no int16");
    assert_eq!(read(&most), "a.nrrd is truncated: its header promises 48 bytes of voxels, and 46 are there");
}

/// Any one letter of a header may be wrong: what comes is an error or an image, never a panic.
#[test]
fn no_wrong_letter_is_the_end_of_the_program() {
    let more =
        "space: left-posterior-superior\nspace directions: (0,0.5,0) (0.25,0,0) (0,0,-2)\nspace origin: (1,2,3)\n";
    let intact =
        [FIELDS, more, "byte skip: -1\nkinds: domain domain domain\nspace units: \"mm\" \"mm\" \"mm\"\n\n"].concat();
    let intact = [intact.as_bytes(), &[0; 48]].concat();
    for at in 0..intact.len() - 48 {
        for wrong in [b'0', b'9', b'-', b' ', b'\n', b'x', 0xff] {
            let mut bytes = intact.clone();
            bytes[at] = wrong;
            if let (_folder, Ok(mut source)) = opened(&[("a.nrrd", &bytes)]) {
                let _ = source.read(source.extent().region());
            }
        }
    }
}
