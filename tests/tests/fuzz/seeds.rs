//! What the fuzzer starts from: valid inputs of every kind, small enough to be mutated in many places.

use std::collections::BTreeMap;
use std::fs;
use std::io::{Cursor, Write};
use std::path::Path;

use pipeline::fuzzing::bundled;
use pipeline::job::Job;
use serde_json::{Value, json};

fn bytes(texts: &[&str]) -> Vec<Vec<u8>> {
    texts.iter().map(|text| text.as_bytes().to_vec()).collect()
}

fn below(folder: &str) -> Vec<std::path::PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut paths: Vec<_> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    paths
}

/// A file below `tests/fixtures`.
pub(crate) fn fixture(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures").join(name)
}

pub(crate) const JOB_WORDS: [&str; 52] = [
    "rescale",
    "gaussian",
    "median",
    "mean",
    "minimum",
    "maximum",
    "clip",
    "cast",
    "threshold",
    "erode",
    "dilate",
    "open",
    "close",
    "fill_holes",
    "label",
    "objects",
    "sigma",
    "size",
    "ball",
    "box",
    "cross",
    "above",
    "below",
    "between",
    "otsu",
    "percentile",
    "method",
    "connectivity",
    "min_voxels",
    "max_voxels",
    "clear_border",
    "contacts",
    "save",
    "dtype",
    "uint16",
    "float64",
    "mode",
    "constant",
    "value",
    "truncate",
    "outside",
    "zero",
    "invert",
    "|",
    "=",
    ",",
    "[",
    "]",
    "\n[[steps]]\nop = \"",
    "[write]",
    "1e18",
    "inf",
];

pub(crate) fn lines() -> Vec<Vec<u8>> {
    bytes(&[
        "median size=3 save=calm | threshold method=otsu | open ball=1 | label connectivity=26 min_voxels=50 contacts=26",
        "rescale divide=255 invert | gaussian sigma=[1,2,2] truncate=3 mode=constant value=0.5 | threshold above=0.6",
        "clip low=-inf high=3 | cast dtype=uint8 | erode box=1,0,2 outside=zero | dilate cross=3 | close ball=1.5",
        "threshold percentile=99.5 invert | fill_holes connectivity=6 save=filled | label max_voxels=9 clear_border",
        "mean size=3,5,7 mode=mirror | minimum size=3 mode=nearest | maximum size=5 | threshold between=-5,inf",
        "objects contacts=6 save=rooms",
        "",
    ])
}

pub(crate) fn jobs_toml() -> Vec<Vec<u8>> {
    let mut jobs: Vec<Vec<u8>> = below("../examples")
        .iter()
        .filter(|p| p.extension().is_some_and(|e| e == "toml"))
        .map(|p| fs::read(p).unwrap())
        .collect();
    jobs.extend(bytes(&[
        "input = \"a.zarr\"\noutput = \"b\"\nlevel = 1\nchannel = 2\ntime = 0\nseries = 1\nregion = \"0:10,5:,:\"\n\
         mask = \"m.zarr\"\nintensity = \"i.zarr\"\nhistogram = \"calm\"\npercentiles = [1, 50.5, 99]\n\n\
         [[steps]]\nop = \"median\"\nsize = [3, 5, 7]\nsave = \"calm\"\n\n\
         [write]\nchunks = [32, 64, 64]\nshards = \"none\"\ncodec = \"blosc:zstd:9\"\nlevels = 3\nome = \"0.4\"\n",
        "input = 'a'\nsteps = \"median size=3 | threshold method=otsu | label\"\n",
        "input = 'a'\nsteps = [ { op = 'gaussian', sigma = 1 }, { op = 'threshold', between = [1, 2] } ]\n",
    ]));
    jobs
}

pub(crate) fn jobs_json() -> Vec<Vec<u8>> {
    let read = |toml: &Vec<u8>| Job::from_toml(std::str::from_utf8(toml).unwrap()).ok();
    let mut jobs: Vec<Vec<u8>> =
        jobs_toml().iter().filter_map(read).map(|job| job.canonical_json().into_bytes()).collect();
    jobs.extend(bytes(&[
        r#"{"input":"a.zarr","steps":[{"op":"clip","low":"-inf","high":1e3},{"op":"label","contacts":"none"}]}"#,
        r#"{"input":"a.zarr","region":"1:2,3:4","write":{"chunks":64,"shards":2,"codec":"none"}}"#,
    ]));
    jobs
}

pub(crate) fn flags() -> Vec<Vec<u8>> {
    bytes(&[
        "0:100,:,5:",
        "-10:,:,:",
        "zstd:3",
        "gzip:9",
        "blosc:lz4:5",
        "none",
        "64",
        "1,4,4",
        "0.5",
        "1,50,99.5",
        "1.2um",
        "2,0.5,0.5mm",
        "100,512,512",
        "100x512",
    ])
}

/// A record with its checksum, as the store has it.
fn sealed(record: &Value) -> Vec<u8> {
    let mut text = record.to_string().into_bytes();
    text.pop();
    let seal = format!(",\"crc32c\":{}}}", crc32c(&text));
    text.extend(seal.bytes());
    text
}

fn crc32c(bytes: &[u8]) -> u32 {
    let step = |crc: u32, byte: &u8| {
        (0..8).fold(crc ^ u32::from(*byte), |crc, _| (crc >> 1) ^ if crc & 1 == 1 { 0x82f6_3b78 } else { 0 })
    };
    !bytes.iter().fold(u32::MAX, step)
}

pub(crate) fn messages() -> Vec<Vec<u8>> {
    let task = json!({"segment": {"stage": 1, "first": 12, "end": 24}});
    let state = json!({
        "units": 4, "thresholds": {"1": 0.5}, "ranges": [[0, [0.0, 1.0]]],
        "wanted": [{"image": 0, "bits": 16, "prefixes": [1, 2]}],
        "ranked": [{"of": {"step": 1, "of": "objects"}, "cuts": [0, 7], "bases": [0, 3, 9], "median_voxels": 4.5}],
    });
    let table = json!({"step": 1, "of": "objects"});
    let receipt = json!({
        "plan": "ab", "stage": "cd", "first": 0, "end": 3, "missing_chunks": 1, "rows": [1, 2],
        "written": [{"key": "labels.zarr/0/c/0/0/0", "bytes": 12, "crc32c": 77}],
        "read": {"c/0/0/0": {"size": 12, "mtime_us": 5}, "c/0/0/1": {"e_tag": "\"x\""}},
        "contributions": [{"to": table, "from": {"level": 0, "unit": 1}, "rows": 3, "step": 64, "keys": [1, 9]}],
    });
    let plain = [
        json!({"plan": "ab", "task": task, "deadline": 5, "not_after": 6}),
        json!({"plan": "ab", "task": {"advance": {"stage": 0, "units": 9}}}),
        json!({"done": {"end": 4}}),
        json!({"advanced": state}),
        json!({"kind": "data", "message": "no", "hint": "yes", "throttled": "atonce"}),
        json!({"format": 1, "voxmill": env!("CARGO_PKG_VERSION"), "stages": []}),
    ];
    let text = |value: &Value| value.to_string().into_bytes();
    plain.iter().map(text).chain([sealed(&state), sealed(&receipt)]).collect()
}

pub(crate) fn scratch() -> Vec<Vec<u8>> {
    let is_object = |path: &std::path::PathBuf| path.extension().is_some_and(|e| e == "scratch");
    below("fixtures/scratch-v1").into_iter().filter(is_object).map(|path| fs::read(path).unwrap()).collect()
}

pub(crate) const ZARR_WORDS: [&str; 38] = [
    "\"zarr_format\":3",
    "\"node_type\":\"group\"",
    "\"shape\":",
    "\"chunks\":",
    "\"codecs\":",
    "\"gzip\"",
    "\"zstd\"",
    "\"blosc\"",
    "\"sharding_indexed\"",
    "\"bytes\"",
    "\"transpose\"",
    "\"crc32c\"",
    "\"pcodec\"",
    "\"bitround\"",
    "\"fill_value\":",
    "\"NaN\"",
    "\"0x7fc00000\"",
    "\"<f4\"",
    "\"uint64\"",
    "\"order\":\"F\"",
    "\"configuration\":{",
    "\"must_understand\":false",
    "null",
    "{",
    "}",
    "[",
    "]",
    ",",
    "\"multiscales\":",
    "\"axes\":",
    "\"datasets\":",
    "\"path\":\"../..\"",
    "\"coordinateTransformations\":",
    "\"dimension_names\":",
    "\"chunk_key_encoding\":",
    "\n--- zarr.json\n",
    "\n--- 0/zarr.json\n",
    "\n--- c/0/0/0\n",
];

/// Arrays that zarr-python wrote, one of each kind, and groups around them.
pub(crate) fn zarr() -> Vec<Vec<u8>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../pipeline/tests/zarr_python.json");
    let written: Vec<Value> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
    let unhex = |text: &str| -> Vec<u8> {
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    };
    let mut seeds = Vec::new();
    for (i, array) in written.iter().enumerate() {
        let documents =
            array["documents"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), v.to_string().into_bytes()));
        let chunks = array["chunks"].as_object().unwrap().iter().map(|(k, v)| (k.clone(), unhex(v.as_str().unwrap())));
        let objects: BTreeMap<String, Vec<u8>> = documents.chain(chunks).collect();
        seeds.push(bundled(&objects));
        if i % 7 == 0 && objects.contains_key("zarr.json") {
            let below: BTreeMap<String, Vec<u8>> = objects.into_iter().map(|(k, v)| (format!("0/{k}"), v)).collect();
            let axes: Vec<Value> =
                ["z", "y", "x"].iter().map(|n| json!({"name": n, "type": "space", "unit": "micrometer"})).collect();
            let scale =
                json!([{"type": "scale", "scale": [2.0, 0.5, 0.5]}, {"type": "translation", "translation": [1, 2, 3]}]);
            let datasets = json!([{"path": "0", "coordinateTransformations": scale}]);
            let multiscales = json!([{"version": "0.4", "name": "a", "axes": axes, "datasets": datasets}]);
            let ome = json!({"version": "0.5", "multiscales": multiscales, "omero": {"channels": [{"label": "dapi"}]}});
            let group = json!({"zarr_format": 3, "node_type": "group", "attributes": {"ome": ome}});
            let mut v5 = below.clone();
            v5.insert("zarr.json".into(), group.to_string().into_bytes());
            let mut v4 = below;
            v4.insert(".zattrs".into(), json!({"multiscales": multiscales}).to_string().into_bytes());
            v4.insert(".zgroup".into(), json!({"zarr_format": 2}).to_string().into_bytes());
            seeds.extend([bundled(&v5), bundled(&v4)]);
        }
    }
    seeds
}

pub(crate) fn tiff() -> Vec<Vec<u8>> {
    use tiff::encoder::{Compression, DeflateLevel, TiffEncoder, colortype};
    let pages = |compression: Compression, big: bool| {
        let mut file = Cursor::new(Vec::new());
        if big {
            let mut tiff = TiffEncoder::new_big(&mut file).unwrap().with_compression(compression);
            tiff.write_image::<colortype::Gray32Float>(8, 6, &[0.5; 48]).unwrap();
            tiff.write_image::<colortype::Gray32Float>(8, 6, &[1.5; 48]).unwrap();
        } else {
            let mut tiff = TiffEncoder::new(&mut file).unwrap().with_compression(compression);
            for page in 0..3 {
                let voxels: Vec<u16> = (0..48).map(|v| v * 100 + page).collect();
                tiff.write_image::<colortype::Gray16>(8, 6, &voxels).unwrap();
            }
        }
        file.into_inner()
    };
    let mut described = Cursor::new(Vec::new());
    let mut tiff = TiffEncoder::new(&mut described).unwrap();
    for text in ["ImageJ=1.53\nimages=2\nslices=2\nspacing=2.0\nunit=um\nloop=false\n", ""] {
        let mut image = tiff.new_image::<colortype::Gray8>(8, 6).unwrap();
        image.encoder().write_tag(tiff::tags::Tag::ImageDescription, text).unwrap();
        image.write_data(&[7; 48]).unwrap();
    }
    let ome = r#"<?xml version="1.0"?><OME><Image><Pixels DimensionOrder="XYZCT" Type="uint8" SizeX="8" SizeY="6" SizeZ="2" SizeC="1" SizeT="1" PhysicalSizeX="0.5" PhysicalSizeXUnit="nm"><Channel Name="a"/><TiffData IFD="0" PlaneCount="1"/></Pixels></Image></OME>"#;
    let mut of_ome = Cursor::new(Vec::new());
    let mut encoder = TiffEncoder::new(&mut of_ome).unwrap();
    for text in [ome, ""] {
        let mut image = encoder.new_image::<colortype::Gray8>(8, 6).unwrap();
        image.encoder().write_tag(tiff::tags::Tag::ImageDescription, text).unwrap();
        image.write_data(&[9; 48]).unwrap();
    }
    vec![
        pages(Compression::Uncompressed, false),
        pages(Compression::Lzw, false),
        pages(Compression::Deflate(DeflateLevel::Fast), true),
        pages(Compression::Packbits, false),
        described.into_inner(),
        of_ome.into_inner(),
    ]
}

pub(crate) fn nifti() -> Vec<Vec<u8>> {
    let one = |big: bool, datatype: i16, bytes: usize| {
        let i16 = |v: i16| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let f32 = |v: f32| if big { v.to_be_bytes() } else { v.to_le_bytes() };
        let mut header = vec![0; 352];
        header[..4].copy_from_slice(&if big { 348i32.to_be_bytes() } else { 348i32.to_le_bytes() });
        for (i, n) in [3i16, 4, 3, 2, 1, 1, 1, 1].into_iter().enumerate() {
            header[40 + 2 * i..42 + 2 * i].copy_from_slice(&i16(n));
        }
        header[70..72].copy_from_slice(&i16(datatype));
        for (i, v) in [1.0f32, 0.5, 0.25, 2.0].into_iter().enumerate() {
            header[76 + 4 * i..80 + 4 * i].copy_from_slice(&f32(v));
        }
        header[108..112].copy_from_slice(&f32(352.0));
        header[112..116].copy_from_slice(&f32(2.0));
        header[123] = 2;
        header[344..348].copy_from_slice(b"n+1\0");
        header.extend((0..24 * bytes).map(|i| i as u8));
        header
    };
    let packed = |bytes: &[u8]| {
        let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        gzip.write_all(bytes).unwrap();
        gzip.finish().unwrap()
    };
    vec![one(false, 4, 2), one(true, 16, 4), one(false, 2, 1), packed(&one(false, 512, 2))]
}

pub(crate) fn nrrd() -> Vec<Vec<u8>> {
    let fields = "NRRD0004\n# made by hand\ntype: short\ndimension: 3\nsizes: 4 3 2\nendian: big\nencoding: raw\n";
    let voxels: Vec<u8> = (0..48).collect();
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(&voxels).unwrap();
    let words: Vec<String> = (0..24).map(|v: i32| v.to_string()).collect();
    let space = "space: left-posterior-superior\nspace directions: (0.5,0,0) (0,0.5,0) (0,0,2)\nspace units: \"mm\" \"mm\" \"mm\"\n";
    [
        (fields.to_owned(), voxels.clone()),
        (format!("{fields}{space}space origin: (1,2,3)\nkinds: domain domain domain\n"), voxels.clone()),
        (fields.replace("raw", "gzip"), gzip.finish().unwrap()),
        (fields.replace("raw", "ascii") + "spacings: 1 2 NaN\n", words.join(" ").into_bytes()),
        (format!("{fields}byte skip: -1\n"), voxels.clone()),
        (format!("{fields}line skip: 1\nbyte skip: 2\n"), [b"a line\nxx".as_slice(), &voxels].concat()),
    ]
    .into_iter()
    .map(|(fields, voxels)| [fields.as_bytes(), b"\n", &voxels].concat())
    .collect()
}

pub(crate) fn npy() -> Vec<Vec<u8>> {
    let one = |version: u8, header: &str, voxels: usize| {
        let mut bytes = b"\x93NUMPY".to_vec();
        bytes.extend([version, 0]);
        let length = header.len() + 1;
        match version {
            1 => bytes.extend((length as u16).to_le_bytes()),
            _ => bytes.extend((length as u32).to_le_bytes()),
        }
        bytes.extend(header.bytes().chain([b'\n']).chain((0..voxels).map(|v| v as u8)));
        bytes
    };
    vec![
        one(1, "{'descr': '<u2', 'fortran_order': False, 'shape': (2, 3, 4), }", 48),
        one(2, "{'descr': '>f4', 'fortran_order': True, 'shape': (3, 4), }", 48),
        one(3, "{'shape': (2,3,4), \"descr\": '|b1', 'fortran_order': False}", 24),
    ]
}

pub(crate) fn zip() -> Vec<Vec<u8>> {
    use zip::write::SimpleFileOptions;
    use zip::{CompressionMethod, ZipWriter};
    let archive = |method: CompressionMethod, large: bool| {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        let options = SimpleFileOptions::default().compression_method(method).large_file(large);
        for (name, array) in ["a.npy", "b.npy"].iter().zip(npy()) {
            zip.start_file(*name, options).unwrap();
            zip.write_all(&array).unwrap();
        }
        zip.finish().unwrap().into_inner()
    };
    let one = {
        let mut zip = ZipWriter::new(Cursor::new(Vec::new()));
        zip.start_file("only.npy", SimpleFileOptions::default()).unwrap();
        zip.write_all(&npy()[0]).unwrap();
        zip.finish().unwrap().into_inner()
    };
    vec![archive(CompressionMethod::Stored, false), archive(CompressionMethod::Deflated, true), one]
}
