#![allow(clippy::unwrap_used)]

use super::*;
use crate::import::Reading;
use std::io::Write;
use voxel::{AnyVolume, Element, Region, Volume, with_dtype};

fn open(file: &tempfile::NamedTempFile) -> Result<Source> {
    let reading = Reading::default();
    let folder = std::env::temp_dir();
    Source::open(file.path(), &Context { reading: &reading, memory_bytes: 1 << 20, folder: &folder })
}

/// A `.npy` file of `version` whose voxels, as bytes in file order, follow a header numpy would write.
fn npy(version: u8, descr: &str, fortran: bool, shape: &[usize], voxels: &[u8]) -> tempfile::NamedTempFile {
    let shape: String = shape.iter().map(|n| format!("{n}, ")).collect();
    let order = if fortran { "True" } else { "False" };
    let mut header = format!("{{'descr': '{descr}', 'fortran_order': {order}, 'shape': ({shape}), }}");
    while (header.len() + 11) % 64 != 0 {
        header.push(' ');
    }
    header.push('\n');
    let mut file = tempfile::NamedTempFile::new().unwrap();
    file.write_all(b"\x93NUMPY").unwrap();
    file.write_all(&[version, 0]).unwrap();
    match version {
        1 => file.write_all(&(header.len() as u16).to_le_bytes()).unwrap(),
        _ => file.write_all(&(header.len() as u32).to_le_bytes()).unwrap(),
    }
    file.write_all(header.as_bytes()).unwrap();
    file.write_all(voxels).unwrap();
    file
}

fn refusal(file: &tempfile::NamedTempFile) -> String {
    let path = file.path().display().to_string();
    open(file).err().unwrap().message.replace(&path, "a.npy")
}

/// Every box of a 3 x 4 x 5 volume whose voxel value is its C-order index, in both orders, all versions.
#[test]
fn every_box_is_read_from_both_orders() {
    let shape = [3, 4, 5];
    let extent = Extent { shape, planar: false };
    let mut fortran = Vec::new();
    for x in 0..5 {
        for y in 0..4 {
            for z in 0..3 {
                fortran.extend((extent.linear([z, y, x]) as i16).to_be_bytes());
            }
        }
    }
    let c: Vec<u8> = (0..60i16).flat_map(i16::to_le_bytes).collect();
    let files = [npy(1, "<i2", false, &shape, &c), npy(2, ">i2", true, &shape, &fortran)];
    for file in files {
        let mut npy = open(&file).unwrap();
        assert_eq!(npy.extent(), extent);
        for (from, to) in [([0, 0, 0], shape), ([1, 0, 0], [3, 4, 5]), ([0, 1, 0], [2, 3, 5]), ([2, 3, 1], [3, 4, 4])] {
            let region = Region { start: from, end: to };
            let mut expected = Volume::zeros(region);
            for z in from[0]..to[0] {
                for y in from[1]..to[1] {
                    for (x, voxel) in (from[2]..to[2]).zip(expected.row_mut(z, y)) {
                        *voxel = extent.linear([z, y, x]) as i16;
                    }
                }
            }
            assert_eq!(npy.read(region).unwrap(), AnyVolume::I16(expected), "{region:?} {:?}", npy.nearest_axes());
        }
    }
}

#[test]
fn every_type_is_read_in_both_byte_orders() {
    let codes = ["b1", "u1", "i1", "u2", "i2", "u4", "i4", "u8", "i8", "f4", "f8"];
    let types = [
        Dtype::Bool,
        Dtype::U8,
        Dtype::I8,
        Dtype::U16,
        Dtype::I16,
        Dtype::U32,
        Dtype::I32,
        Dtype::U64,
        Dtype::I64,
        Dtype::F32,
        Dtype::F64,
    ];
    for (code, dtype) in codes.into_iter().zip(types) {
        let little = with_dtype!(dtype, T => {
            T::le_bytes(&[T::from_f64(0.0), T::from_f64(1.0), T::from_f64(100.0), T::from_f64(77.0)]).into_owned()
        });
        let mut big = little.clone();
        big.chunks_exact_mut(dtype.size()).for_each(<[u8]>::reverse);
        let orders = if dtype.size() == 1 { [("|", &little), ("|", &little)] } else { [("<", &little), (">", &big)] };
        for (order, bytes) in orders {
            let file = npy(3, &format!("{order}{code}"), false, &[2, 2], bytes);
            let mut npy = open(&file).unwrap();
            assert!(npy.extent().planar, "two axes are a 2-D image");
            let volume = npy.read(npy.extent().region()).unwrap();
            assert_eq!((volume.dtype(), volume.to_le_bytes()), (dtype, little.clone()), "{order}{code}");
        }
    }
}

#[test]
fn what_is_not_an_image_is_refused() {
    let cases = [
        (npy(1, "|u1", false, &[4], &[0; 4]), "a.npy: has 1 axes, and images have two or three"),
        (npy(1, "|u1", false, &[2, 2, 2, 2], &[0; 16]), "a.npy: has 4 axes, and images have two or three"),
        (npy(1, "|u1", false, &[0, 4], &[]), "a.npy: has no voxels: its shape is [0, 4]"),
        (
            npy(1, "<f2", false, &[2, 2], &[0; 8]),
            "a.npy: its type is `<f2`, and bool, integers of 8 to 64 bits, float32 and float64 are read",
        ),
        (
            npy(1, "é", false, &[2, 2], &[0; 8]),
            "a.npy: its type is `é`, and bool, integers of 8 to 64 bits, float32 and float64 are read",
        ),
        (npy(4, "|u1", false, &[2, 2], &[0; 4]), "a.npy is a .npy file of version 4, and versions 1 to 3 are read"),
    ];
    for (file, message) in cases {
        assert_eq!(refusal(&file), message);
    }
    let truncated = refusal(&npy(1, "<u2", false, &[2, 2], &[0; 7]));
    assert_eq!(truncated, "a.npy is truncated: its header promises 136 bytes, and it has 135");
    let absurd = refusal(&npy(1, "<u2", false, &[usize::MAX, 2], &[]));
    assert_eq!(absurd, "the header of a.npy promises more voxels than fit any file");
    let mut headless = tempfile::NamedTempFile::new().unwrap();
    headless.write_all(b"\x93NUMPY\x01\0\x40\0{'descr'").unwrap();
    assert_eq!(refusal(&headless), "a.npy ends too early: it is truncated");
}

#[test]
fn odd_headers_are_refused_without_panic() {
    for text in ["", "{}", "{'descr': }", "{'descr': [('a', '<u2')]}", "{'descr': '<u2', 'fortran_order': 3}"] {
        assert!(parse(text).is_err(), "{text}");
    }
    let spaced = "{ \"shape\" : (2,3) , 'fortran_order':False,'descr':\"|b1\"}";
    let extent = Extent { shape: [1, 2, 3], planar: true };
    let header = Layout { dtype: Dtype::Bool, swapped: false, order: Order::C, extent };
    assert_eq!(parse(spaced), Ok(header));
}
