//! What people are told when a file can't be imported: the text, the hint, the exit code, and nothing left behind.

use crate::program::Desk;

/// A grey TIFF page of 8-bit voxels as one strip; `tags` are added, or take the place of its own.
fn tiff(width: u32, rows: u32, tags: &[(u16, u32)], strip: &[u8]) -> Vec<u8> {
    let mut entries = vec![(256, width), (257, rows), (258, 8), (259, 1), (262, 1), (277, 1), (278, rows)];
    entries.push((273, 8));
    entries.push((279, strip.len() as u32));
    entries.retain(|(tag, _)| !tags.iter().any(|(other, _)| other == tag));
    entries.extend(tags);
    entries.sort_unstable();
    let mut bytes = b"II*\0".to_vec();
    bytes.extend((8 + strip.len() as u32).to_le_bytes());
    bytes.extend(strip);
    bytes.extend((entries.len() as u16).to_le_bytes());
    for (tag, value) in entries {
        bytes.extend(tag.to_le_bytes().into_iter().chain(4u16.to_le_bytes()).chain(1u32.to_le_bytes()));
        bytes.extend(value.to_le_bytes());
    }
    bytes.extend(0u32.to_le_bytes());
    bytes
}

/// An `.npy` file with that header.
fn npy(header: &str, voxels: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16 + 1).to_le_bytes());
    bytes.extend(header.bytes().chain([b'\n']).chain(voxels.iter().copied()));
    bytes
}

/// Imports `file`, which must fail with that code, text and hint, and leaves nothing.
#[track_caller]
fn fails(desk: &Desk, line: &str, code: i32, message: &str, hint: &str) {
    desk.run(&format!("import {line} out.zarr")).badly(code, message).hints(hint);
    assert!(!desk.has("out.zarr/zarr.json"), "a failed import can be opened");
}

#[test]
fn what_is_in_no_format_is_told() {
    let desk = Desk::new();
    let read = "these are read: TIFF (a file or a folder), NIfTI (.nii, .nii.gz, .hdr with .img), NRRD (.nrrd, .nhdr)";
    fails(&desk, "gone.tif", 2, "there is no file gone.tif", "");
    for (content, message) in [
        (b"plain words".as_slice(), "scan.dat is in none of the formats that are read"),
        (b"", "scan.dat is in none of the formats that are read"),
        (b"\x89HDF\r\n\x1a\n", "scan.dat is an HDF5 file, which is not read"),
        (b"\x89PNG\r\n\x1a\n", "scan.dat is a PNG image, which is not read"),
        (&[&[0; 128], b"DICM".as_slice()].concat(), "scan.dat is a DICOM file, which is not read"),
    ] {
        desk.write("scan.dat", content);
        fails(&desk, "scan.dat", 2, message, read);
    }
    std::fs::create_dir(desk.path("folder")).unwrap();
    fails(&desk, "folder", 2, "folder is a folder without TIFF files (.tif, .tiff)", read);
    desk.write("folder/zarr.json", "{}");
    fails(&desk, "folder", 2, "folder is a Zarr already", "`voxmill run` and `voxmill info` read it as it is");
}

#[test]
fn a_tiff_that_is_no_volume_is_told() {
    let desk = Desk::new();
    let grey = "save it as a grey image, one file per channel";
    for (tags, strip, code, message, hint) in [
        (vec![(262, 2), (277, 3)], 12, 2, "page 1 is RGB, but a volume has one value per voxel", grey),
        (vec![(277, 2)], 8, 2, "page 1 has 2 samples per pixel, but a volume has one", grey),
        (
            vec![(259, 7)],
            4,
            2,
            "page 1 is compressed with ModernJPEG, which is not read",
            "save it uncompressed, or with zstd, LZW, deflate or PackBits",
        ),
        (
            vec![(258, 16), (339, 3)],
            8,
            2,
            "page 1 holds floats of 16 bits, which are not read",
            "save it with integers of 8 to 64 bits, or floats of 32 or 64",
        ),
        (vec![(257, 1_000_000), (278, 1_000_000)], 4, 5, "page 1 ends too early: its voxels end at byte 2000008", ""),
        (vec![(259, 8)], 4, 5, "page 1 is damaged: ", ""),
    ] {
        desk.write("scan.tif", tiff(2, 2, &tags, &vec![0; strip]));
        fails(&desk, "scan.tif", code, message, hint);
    }
    desk.write("scan.tif", tiff(2, 2, &[], &[0; 4]));
    fails(&desk, "scan.tif --channel 1", 2, "scan.tif has no channel 1: it has one", "leave out --channel");
    fails(&desk, "scan.tif --member a", 2, "scan.tif is no archive, and has no members", "leave out --member");
    desk.write("slices/s1.tif", tiff(2, 2, &[], &[0; 4]));
    desk.write("slices/s10.tif", tiff(2, 2, &[], &[0; 4]));
    desk.write("slices/s9.tif", tiff(2, 1, &[], &[0; 2]));
    let odd = "slices: s9.tif is 1 rows of 2 voxels (uint8), but s1.tif is 2 rows of 2 voxels (uint8)";
    fails(&desk, "slices", 2, odd, "leave it out, or import it on its own");
}

#[test]
fn an_array_that_is_no_volume_is_told() {
    let desk = Desk::new();
    for (header, voxels, code, message, hint) in [
        ("{'descr': '<f2', 'fortran_order': False, 'shape': (2, 2)}", 8, 2, "scan.npy: its type is `<f2`", "astype"),
        (
            "{'descr': '<u2', 'fortran_order': False, 'shape': (4,)}",
            8,
            2,
            "has 1 axes, and images have two or three",
            "",
        ),
        (
            "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3)}",
            11,
            5,
            "scan.npy is truncated: its header promises ",
            "",
        ),
        (
            "{'descr': '<u2', 'fortran_order': False, 'shape': (99999999999, 99999999999)}",
            8,
            5,
            "the header of scan.npy promises more voxels than fit any file",
            "",
        ),
    ] {
        desk.write("scan.npy", npy(header, &vec![0; voxels]));
        fails(&desk, "scan.npy", code, message, hint);
    }
    desk.write("scan.npz", b"PK\x03\x04 and no more");
    fails(&desk, "scan.npz", 5, "scan.npz is damaged: ", "");
}

#[test]
fn a_header_of_a_medical_image_that_can_not_be_is_told() {
    let desk = Desk::new();
    let fields = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 4 3 2\nencoding: raw\n";
    for (header, code, message, hint) in [
        (fields.replace("raw", "hex"), 2, "has encoding hex, which is not read", "raw, gzip, bzip2 or ascii"),
        (fields.replace("4 3 2", "4 3 9"), 5, "scan.nrrd is truncated: its header promises ", ""),
        (
            format!("{fields}kinds: RGB-color domain domain\n"),
            2,
            "has 4 values per voxel (axis 1 is of kind RGB-color), and a volume has one",
            "save one component of it on its own",
        ),
    ] {
        desk.write("scan.nrrd", [header.as_bytes(), b"\n", &[0; 24]].concat());
        fails(&desk, "scan.nrrd", code, message, hint);
    }
    let mut nifti = vec![0; 376];
    nifti[..4].copy_from_slice(&348i32.to_le_bytes());
    for (at, n) in [(40, 4u8), (42, 4), (44, 3), (46, 1), (48, 2), (70, 2)] {
        nifti[at] = n;
    }
    nifti[344..347].copy_from_slice(b"n+1");
    desk.write("scan.nii", &nifti);
    fails(
        &desk,
        "scan.nii",
        2,
        "scan.nii holds 2 time points, but a volume has one",
        "choose one with --time, from 0 to 1",
    );
    nifti[70] = 128;
    desk.write("scan.nii", &nifti);
    fails(&desk, "scan.nii", 2, "scan.nii: holds colours", "save one component of it on its own");
    nifti[344..347].copy_from_slice(b"ni1");
    desk.write("scan.hdr", &nifti);
    nifti[70] = 2;
    fails(&desk, "scan.hdr", 2, "scan.hdr: holds colours", "");
    desk.write("scan.hdr", &nifti);
    fails(&desk, "scan.hdr --time 0", 2, "scan.hdr is the header of a pair, and there is no scan.img beside it", "");
}

#[test]
fn raw_voxels_must_fit_their_shape() {
    let desk = Desk::new();
    desk.write("scan.raw", [0; 48]);
    let told = "scan.raw has 48 bytes, and 2 x 3 x 4 uint8 after 0 bytes makes 24";
    fails(&desk, "scan.raw --shape 2,3,4 --dtype uint8", 2, told, "--dtype uint16 or int16 would fit");
    fails(&desk, "scan.raw --shape 3,4 --dtype half", 2, "--dtype: there is no type `half`", "uint8");
    fails(&desk, "scan.raw --shape 3 --dtype uint8", 2, "--shape: `3` is not z,y,x, nor y,x", "--shape 100,512,512");
    fails(&desk, "scan.raw --shape 3,4 --dtype uint8 --order up", 2, "--order: `up` is neither little nor big", "");
    fails(&desk, "scan.raw --shape 3,4", 2, "--dtype", "");
    desk.run("import scan.raw out.zarr --shape 2,3,4 --dtype uint16 --quiet").well();
    let help = desk.run("help import").well();
    for format in ["scan.tif", "slices/", "head.nii.gz", "brain.nrrd", "grains.npy", "arrays.npz", "foam.raw"] {
        assert!(help.stdout.contains(format), "help import does not show {format}");
    }
}
