#![allow(clippy::unwrap_used)]

use pipeline::store::Stores;

use super::*;
use pipeline::array::{ArraySpec, Geometry, Group, GroupKind, write_whole};
use pipeline::store::Store;
use tiff::decoder::{Decoder, DecodingResult};
use voxel::{Extent, with_dtype};

async fn written(folder: &Path, dtype: Dtype, shape: [usize; 3], planar: bool) -> AnyVolume {
    let spec = ArraySpec {
        extent: Extent { shape, planar },
        dtype,
        chunks: [if planar { 1 } else { 3 }, 4, 5],
        shards: None,
        codec: "zstd".parse().unwrap(),
        dimension_names: Vec::new(),
        ome: Default::default(),
    };
    let image: AnyVolume = with_dtype!(dtype, T => {
        let region = Region::whole(shape);
        let data = (0..region.voxels()).map(|i| T::from_f64((i * 7 % 251) as f64 - if dtype == Dtype::I8 { 99.0 } else { 0.0 }));
        Volume::new(region, data.collect()).into()
    });
    let store = Store::open(folder.to_str().unwrap()).unwrap();
    write_whole(&store.child("0").unwrap(), &spec, &image).await.unwrap();
    let units = std::array::from_fn(|_| Some("micrometer".to_owned()));
    let geometry = Geometry::spaced(planar, [2.0, 0.5, 0.3], [0.0; 3], units);
    Group::single("image", GroupKind::Image, geometry).publish(&store).await.unwrap();
    image
}

fn options() -> Options {
    Options { pick: Pick::default(), region: None, compress: Compress::None, overwrite: false, memory_bytes: 1 << 20 }
}

/// Pages, rows, columns, and the pixels as numbers.
fn pages(path: &Path) -> (Vec<(u32, u32)>, Vec<f64>) {
    let mut decoder = Decoder::new(File::open(path).unwrap()).unwrap();
    let (mut sizes, mut pixels) = (Vec::new(), Vec::new());
    loop {
        sizes.push(decoder.dimensions().unwrap());
        match decoder.read_image().unwrap() {
            DecodingResult::U8(v) => pixels.extend(v.into_iter().map(f64::from)),
            DecodingResult::U16(v) => pixels.extend(v.into_iter().map(f64::from)),
            DecodingResult::U32(v) => pixels.extend(v.into_iter().map(f64::from)),
            DecodingResult::U64(v) => pixels.extend(v.into_iter().map(|v| v as f64)),
            DecodingResult::I8(v) => pixels.extend(v.into_iter().map(f64::from)),
            DecodingResult::I16(v) => pixels.extend(v.into_iter().map(f64::from)),
            DecodingResult::I32(v) => pixels.extend(v.into_iter().map(f64::from)),
            DecodingResult::I64(v) => pixels.extend(v.into_iter().map(|v| v as f64)),
            DecodingResult::F32(v) => pixels.extend(v.into_iter().map(f64::from)),
            DecodingResult::F64(v) => pixels.extend(v),
            _ => panic!("another type"),
        }
        if !decoder.more_images() {
            return (sizes, pixels);
        }
        decoder.next_image().unwrap();
    }
}

fn numbers(image: &AnyVolume) -> Vec<f64> {
    with_volume!(image, v => v.data.iter().map(|v| v.to_f64()).collect())
}

#[tokio::test]
async fn every_type_and_band_comes_back() {
    for dtype in Dtype::ALL {
        for (compress, memory_bytes) in [(Compress::None, 1 << 20), (Compress::Deflate, 12_000)] {
            let folder = tempfile::tempdir().unwrap();
            let image = written(folder.path(), dtype, [7, 9, 11], false).await;
            let output = folder.path().join("out.tif");
            let options = Options { compress, memory_bytes, ..options() };
            let done = export(&Stores::default(), folder.path().to_str().unwrap(), &output, &options, |_, _| ())
                .await
                .unwrap();
            assert_eq!((done.shape, done.bytes), ([7, 9, 11], std::fs::metadata(&output).unwrap().len()));
            let (sizes, pixels) = pages(&output);
            assert_eq!(sizes, [(11, 9); 7], "{dtype}");
            assert_eq!(pixels, numbers(&image), "{dtype} {compress:?}");
        }
    }
}

#[tokio::test]
async fn a_region_is_cut_and_described() {
    let folder = tempfile::tempdir().unwrap();
    let image = written(folder.path(), Dtype::U16, [7, 9, 11], false).await;
    let (url, output) = (folder.path().to_str().unwrap(), folder.path().join("out.tif"));
    let options = Options { region: Some("2:6,1:,3:10".parse().unwrap()), ..options() };
    export(&Stores::default(), url, &output, &options, |_, _| ()).await.unwrap();
    let (sizes, pixels) = pages(&output);
    assert_eq!(sizes, [(7, 8); 4]);
    assert_eq!(pixels, numbers(&image.cropped(Region { start: [2, 1, 3], end: [6, 9, 10] })));
    let mut decoder = Decoder::new(File::open(&output).unwrap()).unwrap();
    assert_eq!(
        decoder.get_tag_ascii_string(Tag::ImageDescription).unwrap(),
        "ImageJ=1.11a\nimages=4\nslices=4\nunit=micron\nspacing=2\nloop=false\n"
    );

    let there = export(&Stores::default(), url, &output, &options, |_, _| ()).await.unwrap_err();
    assert_eq!(there.message, format!("{} is there already", output.display()));
    export(&Stores::default(), url, &output, &Options { overwrite: true, ..options.clone() }, |_, _| ()).await.unwrap();
    let tight = Options { overwrite: true, memory_bytes: 100, ..options };
    assert!(
        export(&Stores::default(), url, &output, &tight, |_, _| ())
            .await
            .unwrap_err()
            .message
            .contains("--memory allows 100 B")
    );
    assert_eq!(pages(&output).1, pixels, "what was there stays");
    let left: Vec<_> = std::fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().ends_with(".part")), "{left:?}");
}

#[tokio::test]
async fn a_plane_is_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let image = written(folder.path(), Dtype::F32, [1, 9, 11], true).await;
    let output = folder.path().join("out.tif");
    export(&Stores::default(), folder.path().to_str().unwrap(), &output, &options(), |_, _| ()).await.unwrap();
    assert_eq!(pages(&output), (vec![(11, 9)], numbers(&image)));
}

#[test]
fn resolutions_are_near_fractions() {
    for (value, fraction) in [(1.0, (1, 1)), (2.0, (2, 1)), (1.0 / 0.3, (10, 3)), (0.125, (1, 8)), (1e-12, (1, 1))] {
        assert_eq!(rational(value), fraction);
    }
    for value in [std::f64::consts::PI, 1.0 / 0.1234567, 12345.678] {
        let (n, d) = rational(value);
        assert!((f64::from(n) / f64::from(d) / value - 1.0).abs() < 1e-9);
    }
}
