#![allow(clippy::unwrap_used)]

use pipeline::store::Stores;

use super::*;
use ::tiff::encoder::{TiffEncoder, colortype};
use pipeline::Kind;
use pipeline::array::{Array, ChunkCache, Pick};
use pipeline::job::Shards;
use pipeline::step::PerAxis;
use std::path::PathBuf;
use voxel::Volume;

const MEMORY: u64 = 64 << 20;
const SHAPE: [usize; 3] = [9, 11, 13];

fn value(at: u64) -> u16 {
    (at * 31 % 65_521) as u16
}

/// A folder with `a.tif` and `a.npy` (Fortran order), both the same volume, and the volume.
fn files() -> (tempfile::TempDir, PathBuf, PathBuf, AnyVolume) {
    let folder = tempfile::tempdir().unwrap();
    let extent = Extent { shape: SHAPE, planar: false };
    let [depth, rows, width] = SHAPE;
    let voxels: Vec<u16> = (0..extent.region().voxels() as u64).map(value).collect();

    let tif = folder.path().join("a.tif");
    let mut encoder = TiffEncoder::new(std::fs::File::create(&tif).unwrap()).unwrap();
    for plane in voxels.chunks(rows * width) {
        let mut image = encoder.new_image::<colortype::Gray16>(width as u32, rows as u32).unwrap();
        image.rows_per_strip(4).unwrap();
        image.write_data(plane).unwrap();
    }

    let header = format!("{{'descr': '>u2', 'fortran_order': True, 'shape': {SHAPE:?}, }}\n").replace(['[', ']'], "|");
    let header = header.replacen('|', "(", 1).replacen('|', ")", 1);
    let mut bytes = b"\x93NUMPY\x01\0".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    for x in 0..width {
        for y in 0..rows {
            bytes.extend((0..depth).flat_map(|z| value(extent.linear([z, y, x])).to_be_bytes()));
        }
    }
    let npy = folder.path().join("a.npy");
    std::fs::write(&npy, bytes).unwrap();
    let volume = AnyVolume::U16(Volume::new(extent.region(), voxels));
    (folder, tif, npy, volume)
}

fn options(chunks: usize, shards: Shards) -> Options {
    Options { write: Write { chunks: PerAxis::All(chunks), shards, ..Write::default() }, ..Options::default() }
}

async fn read(url: &str) -> (Array, AnyVolume) {
    let array = Array::open(&Stores::default(), url, &Pick::default()).await.unwrap();
    let cache = ChunkCache::new(1 << 20);
    let volume = array.fetch(&cache, array.extent().region()).await.unwrap().decode().unwrap();
    (array, volume)
}

/// All files below a folder with their bytes.
fn tree(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in std::fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                found.push((path.strip_prefix(folder).unwrap().to_owned(), std::fs::read(&path).unwrap()));
            }
        }
    }
    found.sort();
    found
}

/// The bytes at the destination depend on neither the memory nor the format the voxels came in.
#[tokio::test]
async fn tiff_and_npy_give_the_same_bytes_with_any_memory() {
    let (folder, tif, npy, volume) = files();
    let cases = [(Shards::None, 1500, [3, 5]), (Shards::Chunks(PerAxis::All(2)), 2400, [2, 3])];
    for (i, (shards, little, slabs)) in cases.into_iter().enumerate() {
        let options = options(3, shards);
        let mut first: Option<Vec<(PathBuf, Vec<u8>)>> = None;
        let sources = [(&tif, MEMORY), (&npy, MEMORY), (&tif, little), (&npy, little)];
        for (j, (source, memory)) in sources.into_iter().enumerate() {
            let destination = folder.path().join(format!("{i}{j}")).join("a.zarr");
            let url = destination.to_str().unwrap();
            let mut seen = Vec::new();
            let imported =
                import(&Stores::default(), source, url, &options, memory, |done, all| seen.push((done, all)))
                    .await
                    .unwrap();
            assert_eq!(imported.url, url);
            assert_eq!(seen.last(), Some(&(9 * 11 * 13, 9 * 11 * 13)));
            // With memory to spare a block is a whole slab: along z of the TIFF, along x of the Fortran array.
            match memory {
                MEMORY => assert_eq!(seen.len(), slabs[j]),
                _ => assert!(seen.len() > slabs[j - 2], "little memory makes smaller blocks"),
            }
            let (array, voxels) = read(url).await;
            assert_eq!(voxels, volume);
            assert_eq!(array.chunk(), [3; 3]);
            let bytes = tree(&destination);
            assert_eq!(imported.bytes_written, bytes.iter().map(|(_, b)| b.len() as u64).sum::<u64>());
            assert_eq!(first.get_or_insert_with(|| bytes.clone()), &bytes, "{source:?} with {memory} bytes");
        }
    }
}

#[tokio::test]
async fn voxel_size_and_planar_images_are_kept() {
    let folder = tempfile::tempdir().unwrap();
    let tif = folder.path().join("one.tif");
    let file = std::fs::File::create(&tif).unwrap();
    TiffEncoder::new(file).unwrap().write_image::<colortype::Gray8>(3, 2, &[1, 2, 3, 4, 5, 6]).unwrap();
    let destination = folder.path().join("one.zarr");
    let url = destination.to_str().unwrap();
    let options = Options { voxel_size: Some("0.5,0.25um".parse().unwrap()), ..Options::default() };
    import(&Stores::default(), &tif, url, &options, MEMORY, |_, _| ()).await.unwrap();
    let (array, voxels) = read(url).await;
    assert!(array.extent().planar);
    assert_eq!(array.axes(), ["y", "x"]);
    assert_eq!(array.scale()[1..], [0.5, 0.25]);
    assert_eq!(array.units()[1].as_deref(), Some("micrometer"));
    assert_eq!(voxels, AnyVolume::U8(Volume::new(Region::whole([1, 2, 3]), vec![1, 2, 3, 4, 5, 6])));
}

#[tokio::test]
async fn what_is_there_is_kept_unless_it_is_a_zarr_and_may_be_replaced() {
    let (folder, tif, _, _) = files();
    let destination = folder.path().join("a.zarr");
    let url = destination.to_str().unwrap();
    let keep = options(8, Shards::None);
    let replace = Options { overwrite: true, ..keep.clone() };
    import(&Stores::default(), &tif, url, &keep, MEMORY, |_, _| ()).await.unwrap();
    let before = tree(&destination);
    let error = import(&Stores::default(), &tif, url, &keep, MEMORY, |_, _| ()).await.unwrap_err();
    assert_eq!((error.kind, error.message), (Kind::Invalid, format!("{url} is there already")));
    assert_eq!(error.hint.as_deref(), Some("replace it with --overwrite"));
    assert_eq!(tree(&destination), before);

    std::fs::write(destination.join("0/c/stray"), "left over").unwrap();
    import(&Stores::default(), &tif, url, &replace, MEMORY, |_, _| ()).await.unwrap();
    assert_eq!(tree(&destination), before, "nothing of the old one is left");

    std::fs::remove_file(destination.join("zarr.json")).unwrap();
    import(&Stores::default(), &tif, url, &replace, MEMORY, |_, _| ()).await.unwrap();
    assert_eq!(tree(&destination), before, "what an interrupted import left is replaced too");

    let others = folder.path().to_str().unwrap();
    let error = import(&Stores::default(), &tif, others, &replace, MEMORY, |_, _| ()).await.unwrap_err();
    assert_eq!(error.message, format!("{others} is a folder of other files, which an import does not replace"));
    assert!(tif.exists());
}

#[tokio::test]
async fn a_failed_import_leaves_nothing() {
    let (folder, tif, npy, _) = files();
    let mut bytes = std::fs::read(&tif).unwrap();
    // The last page's directory is at the end, after its strips: give its first strip a place beyond the file.
    let strips = bytes.windows(2).rposition(|tag| tag == 273u16.to_le_bytes()).unwrap();
    let list = u32::from_le_bytes(bytes[strips + 8..strips + 12].try_into().unwrap()) as usize;
    bytes[list..list + 4].copy_from_slice(&0x00ff_ffffu32.to_le_bytes());
    std::fs::write(&tif, bytes).unwrap();
    let destination = folder.path().join("a.zarr");
    let url = destination.to_str().unwrap();
    let error = import(&Stores::default(), &tif, url, &options(3, Shards::None), 6000, |_, _| ()).await.unwrap_err();
    let message = format!("{}: page 9 ends too early: its voxels end at byte ", tif.display());
    assert_eq!(error.kind, Kind::Data);
    assert!(error.message.starts_with(&message), "{}", error.message);
    assert!(!destination.exists());

    // What shows only on the way leaves nothing either: a packed array that ends early.
    let bytes = std::fs::read(&npy).unwrap();
    let packed = folder.path().join("a.npy.gz");
    let mut encoder = flate2::write::GzEncoder::new(std::fs::File::create(&packed).unwrap(), Default::default());
    std::io::Write::write_all(&mut encoder, &bytes[..bytes.len() - 1]).unwrap();
    encoder.finish().unwrap();
    let error =
        import(&Stores::default(), &packed, url, &options(3, Shards::None), MEMORY, |_, _| ()).await.unwrap_err();
    let message =
        format!("{} is truncated: its header promises 2574 bytes of voxels, and 2573 are there", packed.display());
    assert_eq!((error.kind, error.message), (Kind::Data, message));
    assert!(!destination.exists() || tree(&destination).is_empty());
}

#[tokio::test]
async fn too_little_memory_is_said_before_anything_is_written() {
    let (folder, tif, _, _) = files();
    let destination = folder.path().join("a.zarr");
    let url = destination.to_str().unwrap();
    let error = import(&Stores::default(), &tif, url, &options(8, Shards::None), 4000, |_, _| ()).await.unwrap_err();
    assert_eq!(
        (error.kind, error.message.as_str()),
        (
            Kind::Invalid,
            "importing needs at least 4096 bytes of memory with chunks of [8, 8, 8] voxels, but may take 4000"
        )
    );
    assert!(!destination.exists());
    let error = import(&Stores::default(), &folder.path().join("no.tif"), url, &Options::default(), MEMORY, |_, _| ())
        .await
        .unwrap_err();
    assert!(error.message.starts_with("there is no file "), "{}", error.message);
}

/// Streams give the same bytes as files, whether their slabs fit the memory or go through the disk, in both orders.
#[tokio::test]
async fn streams_give_the_same_bytes_as_files_with_any_memory() {
    let folder = tempfile::tempdir().unwrap();
    let extent = Extent { shape: [21, 70, 90], planar: false };
    let [depth, rows, width] = extent.shape;
    let mut expected: Option<Vec<(PathBuf, Vec<u8>)>> = None;
    for fortran in [false, true] {
        let order = if fortran { "True" } else { "False" };
        let header = format!("{{'descr': '<u2', 'fortran_order': {order}, 'shape': (21, 70, 90), }}\n");
        let mut bytes = b"\x93NUMPY\x01\0".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        if fortran {
            for x in 0..width {
                for y in 0..rows {
                    bytes.extend((0..depth).flat_map(|z| value(extent.linear([z, y, x])).to_le_bytes()));
                }
            }
        } else {
            bytes.extend((0..extent.region().voxels() as u64).flat_map(|at| value(at).to_le_bytes()));
        }
        let plain = folder.path().join(format!("{order}.npy"));
        std::fs::write(&plain, &bytes).unwrap();
        let packed = folder.path().join(format!("{order}.npy.gz"));
        let mut encoder = flate2::write::GzEncoder::new(std::fs::File::create(&packed).unwrap(), Default::default());
        std::io::Write::write_all(&mut encoder, &bytes).unwrap();
        encoder.finish().unwrap();
        for (source, memory) in [(&plain, MEMORY), (&packed, MEMORY), (&packed, 400_000), (&plain, 200_000)] {
            let destination = folder.path().join(format!("{order}{memory}{}", source == &plain)).join("a.zarr");
            let url = destination.to_str().unwrap();
            let mut seen = 0;
            import(&Stores::default(), source, url, &options(16, Shards::None), memory, |_, _| seen += 1)
                .await
                .unwrap();
            if memory < MEMORY {
                assert!(seen >= 6, "a slab takes several blocks");
            }
            let written = tree(&destination);
            assert!(expected.get_or_insert_with(|| written.clone()) == &written, "{source:?} with {memory} bytes");
        }
    }
}

#[tokio::test]
async fn the_affine_of_a_file_is_kept_in_the_attributes() {
    let folder = tempfile::tempdir().unwrap();
    let nrrd = folder.path().join("a.nrrd");
    let header = "NRRD0005\ntype: uchar\ndimension: 3\nsizes: 2 2 2\nencoding: raw\nspace: left-posterior-superior\n\
                  space directions: (-1,0,0) (0,1,0) (0,0,3)\nspace origin: (4,5,6)\n\n";
    std::fs::write(&nrrd, [header.as_bytes(), &[1; 8]].concat()).unwrap();
    let destination = folder.path().join("a.zarr");
    let imported =
        import(&Stores::default(), &nrrd, destination.to_str().unwrap(), &Options::default(), MEMORY, |_, _| ())
            .await
            .unwrap();
    assert!(imported.notes[1].starts_with("the file's affine flips x; "), "{:?}", imported.notes);
    let group: serde_json::Value =
        serde_json::from_slice(&std::fs::read(destination.join("zarr.json")).unwrap()).unwrap();
    let kept = &group["attributes"]["voxmill"];
    assert_eq!(kept["space"], "left-posterior-superior");
    assert_eq!(kept["affine"][0], serde_json::json!([-1.0, 0.0, 0.0, 4.0]));
    let (array, _) = read(destination.to_str().unwrap()).await;
    assert_eq!((array.scale(), array.units()[0].as_deref()), ([3.0, 1.0, 1.0], Some("millimeter")));
}
