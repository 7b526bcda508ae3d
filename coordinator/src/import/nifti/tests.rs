#![allow(clippy::unwrap_used)]

use super::*;
use crate::import::Reading;
use pipeline::Kind;
use std::io::Write;
use voxel::{AnyVolume, Volume};

/// A NIfTI-1 header of a 2 x 3 x 4 (z, y, x) volume of that type, in both byte orders.
fn header(big: bool, datatype: i16) -> Vec<u8> {
    let mut bytes = vec![0; 352];
    put_i32(&mut bytes, big, 0, 348);
    for (i, n) in [3i16, 4, 3, 2, 1, 1, 1, 1].into_iter().enumerate() {
        put_i16(&mut bytes, big, 40 + 2 * i, n);
    }
    put_i16(&mut bytes, big, 70, datatype);
    for (i, v) in [1.0f32, 0.5, 0.25, 2.0].into_iter().enumerate() {
        put_f32(&mut bytes, big, 76 + 4 * i, v);
    }
    put_f32(&mut bytes, big, 108, 352.0);
    bytes[123] = 2;
    bytes[344..348].copy_from_slice(b"n+1\0");
    bytes
}

fn put_i16(bytes: &mut [u8], big: bool, at: usize, v: i16) {
    bytes[at..at + 2].copy_from_slice(&if big { v.to_be_bytes() } else { v.to_le_bytes() });
}

fn put_i32(bytes: &mut [u8], big: bool, at: usize, v: i32) {
    bytes[at..at + 4].copy_from_slice(&if big { v.to_be_bytes() } else { v.to_le_bytes() });
}

fn put_f32(bytes: &mut [u8], big: bool, at: usize, v: f32) {
    bytes[at..at + 4].copy_from_slice(&if big { v.to_be_bytes() } else { v.to_le_bytes() });
}

fn opened(name: &str, bytes: &[u8], reading: Reading) -> (tempfile::TempDir, Result<Source>) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name);
    std::fs::File::create(&path).unwrap().write_all(bytes).unwrap();
    let context = Context { reading: &reading, memory_bytes: 1 << 20, folder: folder.path() };
    let source = Source::open(&path, &context);
    (folder, source)
}

fn refusal(bytes: &[u8], reading: Reading) -> (Kind, String) {
    let (folder, source) = opened("a.nii", bytes, reading);
    let error = source.err().unwrap();
    (error.kind, error.message.replace(&folder.path().join("a.nii").display().to_string(), "a.nii"))
}

#[test]
fn both_byte_orders_are_read_with_sizes_and_unit() {
    for big in [false, true] {
        let voxels: Vec<i16> = (0..24).map(|v| v * 300 - 7).collect();
        let mut bytes = header(big, 4);
        bytes.extend(voxels.iter().flat_map(|v| if big { v.to_be_bytes() } else { v.to_le_bytes() }));
        let (_folder, source) = opened("a.nii", &bytes, Reading::default());
        let mut source = source.unwrap();
        assert_eq!(source.place.spacing, Some([2.0, 0.25, 0.5]));
        assert_eq!(source.place.unit.as_deref(), Some("millimeter"));
        let region = source.extent().region();
        assert_eq!(region.shape(), [2, 3, 4]);
        assert_eq!(source.read(region).unwrap(), AnyVolume::I16(Volume::new(region, voxels)));
    }
}

/// nibabel's rule: 0 and what is not finite mean none.
#[test]
fn slopes_are_applied_in_double_and_kept_as_wide_as_needed() {
    let parse = |datatype: i16, slope: f32, inter: f32| {
        let mut bytes = header(false, datatype);
        put_f32(&mut bytes, false, 112, slope);
        put_f32(&mut bytes, false, 116, inter);
        let mut input = Input::stream("a.nii".into(), Box::new(std::io::Cursor::new(bytes)), 1 << 20);
        Header::read(&mut input).unwrap().image()
    };
    let scaling = |slope: f64, inter: f64, dtype| Some(Scaling { slope, inter, dtype });
    let cases = [
        (4, 0.0, 3.0, None),
        (4, f32::NAN, 3.0, None),
        (4, f32::INFINITY, 3.0, None),
        (4, 1.0, 0.0, None),
        (4, 0.5, 3.0, scaling(0.5, 3.0, Dtype::F32)),
        (2, 0.5, 0.0, scaling(0.5, 0.0, Dtype::F32)),
        (4, 0.5, 1e8, scaling(0.5, 1e8, Dtype::F64)),
        (8, 0.5, 0.0, scaling(0.5, 0.0, Dtype::F64)),
        (16, 0.5, 0.0, scaling(0.5, 0.0, Dtype::F32)),
        (64, 0.5, 0.0, scaling(0.5, 0.0, Dtype::F64)),
    ];
    for (datatype, slope, inter, expected) in cases {
        assert_eq!(parse(datatype, slope, inter).unwrap().scaling, expected, "{datatype} {slope} {inter}");
    }
    assert_eq!(parse(4, 2.0, f32::NAN).unwrap_err().message, "has scl_slope 2 and scl_inter NaN");
}

#[test]
fn one_of_several_time_points_is_read() {
    let mut bytes = header(false, 2);
    put_i16(&mut bytes, false, 40, 4);
    put_i16(&mut bytes, false, 48, 3);
    bytes.extend(0..72);
    let (kind, message) = refusal(&bytes, Reading::default());
    assert_eq!((kind, message.as_str()), (Kind::Invalid, "a.nii holds 3 time points, but a volume has one"));
    let (kind, message) = refusal(&bytes, Reading { time: Some(3), ..Reading::default() });
    assert_eq!((kind, message.as_str()), (Kind::Invalid, "a.nii has no time 3: it has 3"));
    let (_folder, source) = opened("a.nii", &bytes, Reading { time: Some(2), ..Reading::default() });
    let mut source = source.unwrap();
    let region = source.extent().region();
    assert_eq!(source.read(region).unwrap(), AnyVolume::U8(Volume::new(region, (48..72).collect())));
}

#[test]
fn what_can_not_be_is_refused() {
    let with = |at: usize, v: i16| {
        let mut bytes = header(false, 2);
        put_i16(&mut bytes, false, at, v);
        bytes.extend([0; 24]);
        bytes
    };
    let cases = [
        (with(40, 0), Kind::Data, "a.nii: has 0 axes, says its header"),
        (with(42, -4), Kind::Data, "a.nii: has no voxels: its shape is [-4, 3, 2]"),
        (
            with(70, 128),
            Kind::Invalid,
            "a.nii: holds colours, and integers of 8 to 64 bits, float32 and float64 are read",
        ),
        (with(70, 3), Kind::Data, "a.nii: has voxels of type 3, which NIfTI does not define"),
        (with(42, 5), Kind::Data, "a.nii is truncated: its header promises 382 bytes, and it has 376"),
        (
            header(false, 2)[..350].to_vec(),
            Kind::Data,
            "a.nii is truncated: its header promises 376 bytes, and it has 350",
        ),
    ];
    for (bytes, kind, message) in cases {
        assert_eq!(refusal(&bytes, Reading::default()), (kind, message.to_owned()));
    }
    let mut components = header(false, 2);
    put_i16(&mut components, false, 40, 5);
    put_i16(&mut components, false, 50, 3);
    let message = "a.nii: has 3 values per voxel along axis 5, and a volume has one";
    assert_eq!(refusal(&components, Reading::default()), (Kind::Invalid, message.to_owned()));
    let mut far = header(false, 2);
    put_f32(&mut far, false, 108, f32::NAN);
    assert_eq!(
        refusal(&far, Reading::default()),
        (Kind::Data, "a.nii: its voxels begin at byte NaN, says the header".into())
    );
    // Every cut of an intact file is an error, or an image, but no panic.
    let whole = [header(false, 2), vec![7; 24]].concat();
    for length in 0..whole.len() {
        assert!(opened("a.nii", &whole[..length], Reading::default()).1.is_err(), "{length}");
    }
}

#[test]
fn packed_voxels_that_end_early_are_counted() {
    let mut bytes = header(false, 2);
    bytes.extend([1; 20]);
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&bytes).unwrap();
    let (folder, source) = opened("a.nii.gz", &packed.finish().unwrap(), Reading::default());
    let mut source = source.unwrap();
    let error = source.read(source.extent().region()).unwrap_err();
    let place = folder.path().join("a.nii.gz").display().to_string();
    let message = format!("{place} is truncated: its header promises 24 bytes of voxels, and 20 are there");
    assert_eq!((error.kind, error.message), (Kind::Data, message));
}

#[test]
fn an_absurd_size_is_refused_before_anything_is_read() {
    let mut bytes = header(false, 64);
    for at in [42, 44, 46] {
        put_i16(&mut bytes, false, at, i16::MAX);
    }
    let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    packed.write_all(&bytes).unwrap();
    let (_folder, source) = opened("a.nii.gz", &packed.finish().unwrap(), Reading::default());
    let message = source.err().unwrap().message;
    assert!(message.contains("is truncated: its header promises 281449207693656 bytes"), "{message}");
}

#[test]
fn a_quaternion_is_turned_into_the_same_affine() {
    let mut bytes = header(false, 2);
    put_i16(&mut bytes, false, 252, 1);
    // Half a turn about z, and z reversed by qfac.
    put_f32(&mut bytes, false, 76, -1.0);
    put_f32(&mut bytes, false, 264, 1.0);
    put_f32(&mut bytes, false, 268, 10.0);
    let mut input = Input::stream("a.nii".into(), Box::new(std::io::Cursor::new(bytes)), 1 << 20);
    let (affine, code) = Header::read(&mut input).unwrap().affine().unwrap();
    assert_eq!(code, 1);
    let columns = [[-0.5, 0.0, 0.0], [0.0, -0.25, 0.0], [0.0, 0.0, -2.0]];
    assert_eq!(affine, Affine { columns, origin: [10.0, 0.0, 0.0] });
}

/// Any one byte of a header may be wrong: what comes is an error or an image, never a panic.
#[test]
fn no_wrong_byte_is_the_end_of_the_program() {
    let intact = [header(false, 2), vec![7; 24]].concat();
    for at in 0..352 {
        for wrong in [0, 1, 0x7f, 0x80, 0xff] {
            let mut bytes = intact.clone();
            bytes[at] = wrong;
            if let (_folder, Ok(mut source)) = opened("a.nii", &bytes, Reading::default()) {
                let _ = source.read(source.extent().region());
            }
        }
    }
}
