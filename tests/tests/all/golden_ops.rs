//! What every op gives, held against hashes of what it gave before: an op that changes without its version is found.
//!
//! Receipts and saved images of an older voxmill are taken for what this one would give as long as the versions of their
//! ops are the same ([`Op::version`]). So bytes must not change under a version. `tests/golden/ops.txt` has a line for each
//! op, version and case; lines are added, and never changed:
//!
//!     VOXMILL_GOLDEN=add cargo nextest run -E 'test(golden_ops)'

use pipeline::store::Stores;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use bytes::Bytes;
use parquet::file::reader::{FileReader, SerializedFileReader};
use parquet::record::Field;
use pipeline::array::{Array, ChunkCache, Pick};
use pipeline::job::{Job, steps_from_line};
use pipeline::op::{HISTOGRAM_VERSION, LEVEL_VERSION, Op};
use voxel::{AnyVolume, Dtype, Element, Extent, with_volume};

use crate::support::image::{Look, Recipe, sheet, volume};
use crate::support::lab::{Cut, Lab};
use crate::support::wait;

/// Ops that look at a voxel and those around it, on each type.
const FILTERS: [&str; 27] = [
    "rescale multiply=3 divide=7 add=0.25",
    "rescale divide=255 invert",
    "clip low=-20 high=99.5",
    "cast dtype=uint8",
    "cast dtype=int16",
    "cast dtype=float32",
    "gaussian sigma=1.3",
    "gaussian sigma=0,2,0.7 truncate=2.5 mode=nearest",
    "gaussian sigma=2 mode=mirror",
    "gaussian sigma=1 mode=constant value=3",
    "median size=3",
    "median size=5,3,1 mode=nearest",
    "median size=7 mode=constant value=-1",
    "mean size=3",
    "mean size=1,5,7 mode=mirror",
    "minimum size=3",
    "maximum size=5,1,3 mode=constant value=2",
    "threshold above=50",
    "threshold below=50 invert",
    "threshold between=10,80",
    "erode ball=1",
    "erode box=1,0,2 outside=zero",
    "dilate ball=2.5",
    "dilate cross=3",
    "open box=1",
    "open ball=2 outside=zero",
    "close cross=2",
];

/// What needs the whole image, and the op whose version it is under.
const JOBS: [(&str, &str); 10] = [
    ("threshold", "threshold method=otsu"),
    ("threshold", "threshold percentile=77 invert"),
    ("fill_holes", "threshold above=60 | fill_holes"),
    ("fill_holes", "threshold above=60 | fill_holes connectivity=26"),
    ("label", "threshold above=60 | label"),
    ("label", "threshold above=60 | label connectivity=18 min_voxels=3 max_voxels=400"),
    ("label", "threshold above=60 | label connectivity=26 clear_border contacts=26"),
    ("objects", "cast dtype=uint8 | objects"),
    ("objects", "cast dtype=int16 | objects contacts=18"),
    ("histogram", ""),
];

const DTYPES: [Dtype; 4] = [Dtype::U8, Dtype::I16, Dtype::F32, Dtype::F64];

fn recipe(extent: Extent, dtype: Dtype) -> Recipe {
    Recipe { extent, dtype, look: Look::Blobs, gaps: true, seed: 11 }
}

/// FNV-1a, which is short and will stay what it is.
fn hash(of: impl IntoIterator<Item = u8>) -> String {
    let fold = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    format!("{:016x}", of.into_iter().fold(0xcbf2_9ce4_8422_2325, fold))
}

fn bytes_of(image: &AnyVolume) -> Vec<u8> {
    let mut bytes = image.dtype().name().as_bytes().to_vec();
    with_volume!(image, v => bytes.extend_from_slice(&Element::le_bytes(&v.data)));
    bytes
}

/// A table without what Parquet adds to it.
fn rows_of(table: Vec<u8>) -> Vec<u8> {
    let mut said = String::new();
    let table = SerializedFileReader::new(Bytes::from(table)).unwrap();
    for row in table.get_row_iter(None).unwrap() {
        for (name, field) in row.unwrap().get_column_iter() {
            match field {
                Field::Double(v) => write!(said, "{name}={:x} ", v.to_bits()).unwrap(),
                other => write!(said, "{name}={other} ").unwrap(),
            }
        }
    }
    said.into_bytes()
}

/// Every case: the op, its version, what was done, and the hash of what came of it.
type Cases = BTreeMap<(String, u32, String), String>;

fn of_filters(cases: &mut Cases) {
    for extent in [volume([9, 10, 11]), sheet([13, 17])] {
        let shape = if extent.planar { "2-D" } else { "3-D" };
        for line in FILTERS {
            // A list of three has no meaning in two dimensions.
            let step = steps_from_line(line).unwrap().remove(0).step;
            let Ok(op) = Op::compile(&step, extent) else { continue };
            for dtype in DTYPES {
                let image = recipe(extent, dtype).image();
                let given = op.apply(image.voxels, extent.region(), extent, None);
                let case = format!("{line} on {shape} {dtype}");
                cases.insert((op.name().to_owned(), op.version(), case), hash(bytes_of(&given)));
            }
        }
    }
}

fn of_jobs(cases: &mut Cases) {
    for dtype in [Dtype::U8, Dtype::F32] {
        let extent = volume([11, 12, 13]);
        let lab = Lab::with(&recipe(extent, dtype).image());
        for (name, steps) in JOBS {
            let job = lab.job(steps, [6, 6, 6]);
            let versions: BTreeMap<String, u32> = job
                .steps
                .iter()
                .map(|entry| Op::compile(&entry.step, extent).unwrap())
                .map(|op| (op.name().to_owned(), op.version()))
                .collect();
            let version = versions.get(name).copied().unwrap_or(HISTOGRAM_VERSION);
            let case = format!("{} on {dtype}", if steps.is_empty() { "measured" } else { steps });
            cases.insert((name.to_owned(), version, case), hash(answers(&lab, &job, name)));
        }
    }
}

/// Everything a job gives, without how it is stored; its histogram where that is what is asked for.
fn answers(lab: &Lab, job: &Job, name: &str) -> Vec<u8> {
    let output = lab.new_output();
    lab.attempt(job, &Cut::whole(), &output).unwrap();
    let mut all = Vec::new();
    for image in ["labels.zarr", "result.zarr"] {
        if output.join(image).is_dir() {
            all.extend(bytes_of(&voxels(&output.join(image), 0)));
        }
    }
    for table in ["objects.parquet", "contacts.parquet"] {
        if let Ok(table) = std::fs::read(output.join(table)) {
            all.extend(rows_of(table));
        }
    }
    if name == "histogram" {
        all.extend(std::fs::read(output.join("histogram.json")).unwrap());
    }
    all
}

fn voxels(group: &Path, level: usize) -> AnyVolume {
    let group = group.to_string_lossy();
    wait(async {
        let array =
            Array::open(&Stores::default(), &group, &Pick { level: Some(level), ..Pick::default() }).await.unwrap();
        let fetched = array.fetch(&ChunkCache::new(0), array.extent().region()).await.unwrap();
        tokio::task::spawn_blocking(|| fetched.decode().unwrap()).await.unwrap()
    })
}

fn of_levels(cases: &mut Cases) {
    for dtype in DTYPES {
        let lab = Lab::with(&recipe(volume([11, 12, 13]), dtype).image());
        for (name, steps) in [("image", "clip low=-1e9"), ("labels", "cast dtype=int16 | label")] {
            let mut job = lab.job(steps, [6, 6, 6]);
            job.write.levels = "2".parse().unwrap();
            let output = lab.new_output();
            lab.attempt(&job, &Cut::whole(), &output).unwrap();
            let group = if name == "labels" { "labels.zarr" } else { "result.zarr" };
            let level = voxels(&output.join(group), 1);
            let case = format!("{name} of {dtype}");
            cases.insert(("level".into(), LEVEL_VERSION, case), hash(bytes_of(&level)));
        }
    }
}

fn table() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/ops.txt")
}

#[test]
fn no_op_changes_without_its_version() {
    let mut cases = Cases::new();
    of_filters(&mut cases);
    of_jobs(&mut cases);
    of_levels(&mut cases);
    for line in FILTERS.iter().chain(JOBS.iter().map(|(_, steps)| steps)) {
        assert!(cases.keys().any(|(_, _, case)| case.contains(line)), "{line} was never run");
    }

    let text = std::fs::read_to_string(table()).unwrap();
    let known: Cases = text
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let [op, version, case, hash] = line.split(" | ").collect::<Vec<_>>().try_into().unwrap();
            ((op.to_owned(), version.parse().unwrap(), case.replace('/', "|")), hash.to_owned())
        })
        .collect();
    let (mut changed, mut missing) = (String::new(), String::new());
    for ((op, version, case), hash) in &cases {
        match known.get(&(op.clone(), *version, case.clone())) {
            Some(before) if before == hash => {}
            Some(_) => writeln!(changed, "  {op}, version {version}: {case}").unwrap(),
            // Bars stand between the fields.
            None => writeln!(missing, "{op} | {version} | {} | {hash}", case.replace('|', "/")).unwrap(),
        }
    }
    assert!(
        changed.is_empty(),
        "these give other bytes than they did under the same version; where that is meant, raise the version \
         (`Op::version`, in pipeline/src/op.rs) and add the lines of the new one:\n{changed}"
    );
    if std::env::var("VOXMILL_GOLDEN").is_ok_and(|how| how == "add") {
        std::fs::write(table(), text + &missing).unwrap();
    } else {
        assert!(
            missing.is_empty(),
            "tests/golden/ops.txt has no line for these; VOXMILL_GOLDEN=add adds them:\n{missing}"
        );
    }
}
