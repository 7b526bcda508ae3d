#![allow(clippy::unwrap_used)]

use pipeline::store::Stores;

use super::*;
use pipeline::array::{ArraySpec, Codec, Geometry, Group, GroupKind, OmeVersion, write_whole};
use pipeline::store::Store;
use voxel::Volume;

fn spec(dtype: Dtype, shape: [usize; 3]) -> ArraySpec {
    ArraySpec {
        extent: Extent { shape, planar: false },
        dtype,
        chunks: [2, 2, 2],
        shards: None,
        codec: Codec::None,
        dimension_names: Vec::new(),
        ome: OmeVersion::V05,
    }
}

/// Slices the array `volume` and gives the decoded picture.
async fn sliced(volume: AnyVolume, kind: Option<GroupKind>, axis: Axis, at: usize) -> (Sliced, Vec<u8>) {
    viewed(volume, kind, &View { axis, at: Some(at), window: None, labels: false }).await
}

async fn viewed(volume: AnyVolume, kind: Option<GroupKind>, view: &View) -> (Sliced, Vec<u8>) {
    let folder = tempfile::tempdir().unwrap();
    let url = folder.path().join("image.zarr");
    let store = Store::open(url.to_str().unwrap()).unwrap();
    let spec = spec(volume.dtype(), volume.region().shape());
    write_whole(&store.child("0").unwrap(), &spec, &volume).await.unwrap();
    if let Some(kind) = kind {
        Group::single("image", kind, Geometry::unknown(false)).publish(&store).await.unwrap();
    }
    let target = if kind.is_some() { url.clone() } else { url.join("0") };
    let output = folder.path().join("slice.png");
    let result = slice(&Stores::default(), target.to_str().unwrap(), &Pick::default(), view, &output).await.unwrap();
    let decoder = png::Decoder::new(std::io::BufReader::new(std::fs::File::open(&output).unwrap()));
    let mut reader = decoder.read_info().unwrap();
    let mut pixels = vec![0; reader.output_buffer_size().unwrap()];
    let info = reader.next_frame(&mut pixels).unwrap();
    assert_eq!((info.width as usize, info.height as usize), (result.width, result.height));
    pixels.truncate(info.buffer_size());
    (result, pixels)
}

#[tokio::test]
async fn planes_are_cut_along_each_axis() {
    let shape = [3, 4, 5];
    let extent = Extent { shape, planar: false };
    let volume = AnyVolume::U8(Volume::new(extent.region(), (0..60).collect()));
    let voxel = |z, y, x| extent.linear([z, y, x]) as u8;
    let (z, pixels) = sliced(volume.clone(), None, Axis::Z, 1).await;
    assert_eq!((z.height, z.width), (4, 5));
    assert_eq!(z.shading, Shading::Grey { black: 0.0, white: 255.0 });
    assert_eq!(pixels, (0..20).map(|i| voxel(1, i / 5, i % 5)).collect::<Vec<_>>());
    let (y, pixels) = sliced(volume.clone(), None, Axis::Y, 3).await;
    assert_eq!((y.height, y.width), (3, 5));
    assert_eq!(pixels, (0..15).map(|i| voxel(i / 5, 3, i % 5)).collect::<Vec<_>>());
    let (x, pixels) = sliced(volume, Some(GroupKind::Image), Axis::X, 4).await;
    assert_eq!((x.height, x.width), (3, 4));
    assert_eq!(pixels, (0..12).map(|i| voxel(i / 4, i % 4, 4)).collect::<Vec<_>>());
}

#[tokio::test]
async fn grey_values_are_windowed_to_what_is_finite() {
    let values = vec![-1.0, 0.0, 1.0, 3.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 2.0];
    let volume = AnyVolume::F32(Volume::new(Region::whole([1, 2, 4]), values));
    let (result, pixels) = sliced(volume, None, Axis::Z, 0).await;
    assert_eq!(result.shading, Shading::Grey { black: -1.0, white: 3.0 });
    assert_eq!(pixels, [0, 64, 128, 255, 0, 255, 0, 191]);
    let flat = AnyVolume::U16(Volume::new(Region::whole([1, 1, 2]), vec![700; 2]));
    assert_eq!(sliced(flat, None, Axis::Z, 0).await.1, [0, 0]);
    let widest = AnyVolume::F64(Volume::new(Region::whole([1, 1, 3]), vec![f64::MIN, 0.0, f64::MAX]));
    assert_eq!(sliced(widest, None, Axis::Z, 0).await.1, [0, 128, 255]);
    let nothing = AnyVolume::F64(Volume::new(Region::whole([1, 1, 2]), vec![f64::NAN, f64::INFINITY]));
    assert_eq!(sliced(nothing, None, Axis::Z, 0).await.1, [0, 255]);
}

#[tokio::test]
async fn a_window_and_labels_can_be_asked_for() {
    let volume = AnyVolume::U8(Volume::new(Region::whole([3, 1, 4]), [[9; 4], [10, 60, 110, 255], [9; 4]].concat()));
    let view = View { axis: Axis::Z, at: None, window: Some("10,110".parse().unwrap()), labels: false };
    let (result, pixels) = viewed(volume.clone(), Some(GroupKind::Labels), &view).await;
    assert_eq!((result.shading, pixels), (Shading::Grey { black: 10.0, white: 110.0 }, vec![0, 128, 255, 255]));
    let (result, pixels) = viewed(volume, None, &View { window: None, labels: true, ..view }).await;
    assert_eq!((result.shading, &pixels[3..6]), (Shading::Labels, &colour(60)[..]));
    for wrong in ["", "1", "2,1", "1,1", "1,2,3", "a,b", "0,inf", "nan,1"] {
        assert_eq!(wrong.parse::<Window>().unwrap_err().message, format!("{wrong:?} is no window"));
    }
}

#[tokio::test]
async fn labels_are_coloured_and_background_is_black() {
    let volume = AnyVolume::U32(Volume::new(Region::whole([1, 1, 4]), vec![0, 1, 2, 1]));
    let (result, pixels) = sliced(volume.clone(), Some(GroupKind::Labels), Axis::Z, 0).await;
    assert_eq!(result.shading, Shading::Labels);
    assert_eq!(pixels[..3], [0, 0, 0]);
    assert_eq!(pixels[3..6], pixels[9..12]);
    assert_ne!(pixels[3..6], pixels[6..9]);
    let (plain, _) = sliced(volume, Some(GroupKind::Image), Axis::Z, 0).await;
    assert_eq!(plain.shading, Shading::Grey { black: 0.0, white: 2.0 });
}

/// A run's own labels are known by their name even before a group is around them.
#[tokio::test]
async fn integers_in_labels_zarr_are_labels() {
    let folder = tempfile::tempdir().unwrap();
    for (name, dtype, expected) in
        [("labels.zarr", Dtype::U32, true), ("labels.zarr", Dtype::F32, false), ("other.zarr", Dtype::U32, false)]
    {
        let url = folder.path().join(dtype.name()).join(name);
        let store = Store::open(url.to_str().unwrap()).unwrap();
        let region = Region::whole([1, 1, 2]);
        let volume = match dtype {
            Dtype::U32 => AnyVolume::U32(Volume::zeros(region)),
            _ => AnyVolume::F32(Volume::zeros(region)),
        };
        write_whole(&store, &spec(dtype, [1, 1, 2]), &volume).await.unwrap();
        let output = folder.path().join("slice.png");
        let view = View { axis: Axis::Z, at: None, window: None, labels: false };
        let result = slice(&Stores::default(), url.to_str().unwrap(), &Pick::default(), &view, &output).await.unwrap();
        assert_eq!(result.shading == Shading::Labels, expected, "{name} of {dtype}");
    }
}

#[test]
fn no_label_is_dark() {
    for label in (1..2000).chain([u64::MAX, 1 << 40]) {
        assert!(colour(label).into_iter().max() >= Some(160), "{label}");
    }
    assert_eq!(colour(0), [0; 3]);
}

#[test]
fn planes_that_are_not_there_are_refused() {
    let volume = Extent { shape: [3, 4, 5], planar: false };
    let message = |extent, axis, at| plane_region(extent, axis, at).unwrap_err().message;
    assert_eq!(message(volume, Axis::Y, 4), "there is no plane 4 along y: the image has 0 to 3");
    let planar = Extent { shape: [1, 4, 5], planar: true };
    assert_eq!(message(planar, Axis::X, 0), "a 2-D image has no slices along y or x");
    assert_eq!(plane_region(planar, Axis::Z, 0).unwrap(), planar.region());
    assert_eq!("w".parse::<Axis>().unwrap_err().message, "there is no axis `w`");
    assert_eq!("y".parse::<Axis>().unwrap(), Axis::Y);
}
