//! What the fuzzer in `tests/` is let into: one function for each way in which bytes from outside come here. Each takes
//! any bytes and gives what was said of them in a few words; none may panic, hang, or take memory without bound.
//!
//! Not an API: hidden from the documentation, and free to change.

#![allow(missing_docs, reason = "for our own tests alone")]

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

use bytes::Bytes;
use object_store::memory::InMemory;
use voxel::contacts::Contact;
use voxel::exact_sum::Kind;
use voxel::label::Connectivity;
use voxel::runs::Runs;
use voxel::seam::Plane;
use voxel::table::{ColumnData, ColumnType, ObjectRow};
use voxel::{Dtype, Extent, Region, with_volume};

use crate::array::{Array, ChunkCache, Geometry, Pick, Pyramid};
use crate::count::Partial;
use crate::grid::Grid;
use crate::job::{Job, steps_from_line};
use crate::map::labels::runs_of;
use crate::plan::build::{InputImage, Wishes, plan};
use crate::plan::memory::{Resources, project};
use crate::plan::{Input, Plan, Round};
use crate::publish::Manifest;
use crate::reduce::records::{Alias, Pair};
use crate::reduce::seam::{self, Seams};
use crate::reduce::up::{self, Group};
use crate::rows::decode_page;
use crate::scratch::{self, Reader, Tag, decode_u64s};
use crate::state::State;
use crate::store::Store;
use crate::task::{Answer, Attempt, Receipt};
use crate::{Error, Result, record};

/// A store in memory with these objects.
async fn store_of(objects: impl IntoIterator<Item = (String, Vec<u8>)>) -> Store {
    let store = Store::over(Arc::new(InMemory::new()), "memory");
    for (key, bytes) in objects {
        // Keys that no object can have are nobody's to read.
        let _ = store.put(&key, Bytes::from(bytes)).await;
    }
    store
}

fn told<T>(result: Result<T>, well: impl FnOnce(T) -> String) -> String {
    match result {
        Ok(value) => well(value),
        Err(error) => format!("{:?}: {}", error.kind, error.message),
    }
}

/// A job file: read, checked, and planned for two images.
pub fn job(text: &str, json: bool) -> String {
    told(if json { Job::from_json(text) } else { Job::from_toml(text) }, |job| planned(&job))
}

/// The steps of a job on one line, planned for two images.
pub fn steps(text: &str) -> String {
    told(steps_from_line(text), |steps| planned(&Job { steps, ..Job::new("image.zarr") }))
}

fn planned(job: &Job) -> String {
    let again = Job::from_json(&job.canonical_json());
    assert_eq!(again.map(|again| again.canonical_json()).as_deref(), Ok(job.canonical_json().as_str()), "{job:?}");
    let mut said = String::new();
    for (shape, planar, dtype) in [([300, 200, 100], false, Dtype::U16), ([1, 4000, 3000], true, Dtype::F32)] {
        let extent = Extent { shape, planar };
        let input = Input {
            url: "image.zarr".into(),
            pick: Pick::default(),
            fingerprint: String::new(),
            dtype,
            chunk: [1, 100, 100],
            shard: None,
            chunk_bytes: 20_000,
            codec: None,
            offset: [0; 3],
        };
        let beside = |dtype| Some((Input { dtype, ..input.clone() }, extent));
        let image = InputImage {
            input: input.clone(),
            extent,
            geometry: Geometry::unknown(planar),
            mask: job.mask.as_ref().and_then(|_| beside(Dtype::Bool)),
            intensity: None,
        };
        let resources = Resources { memory_bytes: 4 << 30, threads: 2, merge_bytes: None };
        let made = plan(job, &image, &Wishes::default(), &resources);
        said += &told(made, |plan| told(project(&plan, &resources), |p| format!("planned {} stages", p.stages.len())));
    }
    said
}

/// The flags that are read by types of this crate.
pub fn flag(text: &str) -> String {
    let extent = Extent { shape: [30, 20, 10], planar: false };
    let crop = text.parse::<crate::job::Crop>().and_then(|crop| crop.resolve(&extent));
    let codec = text.parse::<crate::array::Codec>();
    let shards = text.parse::<crate::job::Shards>();
    let ome = text.parse::<crate::array::OmeVersion>();
    let percentiles = text.parse::<crate::job::Percentiles>();
    let said = [told(crop, |_| "crop".into()), told(codec, |_| "codec".into()), told(shards, |_| "shards".into())];
    format!("{said:?} {} {}", ome.is_ok(), percentiles.is_ok())
}

/// A record as it lies in the store, or a message between coordinator and worker.
pub async fn message(bytes: &[u8]) -> String {
    let store = store_of([(crate::layout::PLAN.to_owned(), bytes.to_vec())]).await;
    let mut said = told(Plan::read(&store).await, |plan| format!("plan {}", plan.is_some()));
    let of = |what: &str, error: Option<Error>| error.map_or(format!("; {what}"), |e| format!("; {}", e.message));
    said += &of("receipt", record::parse::<Receipt>(&store, "receipt", bytes).err());
    said += &of("state", record::parse::<State>(&store, "state", bytes).err());
    said += &of("manifest", record::parse::<Manifest>(&store, "manifest", bytes).err());
    let plain = [
        serde_json::from_slice::<Attempt>(bytes).map(|_| ()).err(),
        serde_json::from_slice::<Answer>(bytes).map(|_| ()).err(),
        serde_json::from_slice::<Error>(bytes).map(|_| ()).err(),
    ];
    for error in plain {
        let _ = write!(said, "; {error:?}");
    }
    said
}

/// What the rows of a scratch object are of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rows {
    Objects(Option<Kind>),
    Contacts,
}

/// Everything in a scratch object, in words: the labels in it are of `region`, the faces of it are square.
pub async fn scratch(bytes: &[u8], region: Region, rows: Rows) -> Result<String> {
    let store = store_of([("object".to_owned(), bytes.to_vec())]).await;
    let file = Reader::open(&store, "object").await?;
    let mut said = String::new();
    for tag in Tag::ALL {
        for index in file.indices(tag).collect::<Vec<_>>() {
            let bytes = file.require(tag, index).await?;
            let _ = writeln!(said, "{tag:?} {index}: {}", section(tag, index, &bytes, region, rows, &file)?);
        }
    }
    Ok(said)
}

fn section(tag: Tag, index: u64, bytes: &Bytes, region: Region, rows: Rows, file: &Reader) -> Result<String> {
    let wrong = || file.damaged("a section can't be decoded");
    Ok(match tag {
        Tag::Runs => in_words(&runs_of(bytes, region).ok_or_else(wrong)?),
        Tag::Plane => {
            let side = region.shape()[0];
            format!("{:?}", Plane::<u32>::decode([side, side], bytes).ok_or_else(wrong)?.data)
        }
        Tag::Closed | Tag::Open => match rows {
            Rows::Contacts => format!("{:?}", decode_page::<Contact>(bytes, (), file)?),
            Rows::Objects(kind) => {
                decode_page::<ObjectRow>(bytes, kind, file)?.iter().map(row_in_words).collect::<Vec<_>>().join(", ")
            }
        },
        Tag::Aliases => format!("{:?}", bytes.chunks_exact(Alias::BYTES).map(Alias::decode).collect::<Vec<_>>()),
        Tag::Pairs => format!("{:?}", bytes.chunks_exact(Pair::BYTES).map(Pair::decode).collect::<Vec<_>>()),
        Tag::ClosedKeys | Tag::ChildMap | Tag::Sources | Tag::Sizes | Tag::Finals | Tag::Counts => {
            format!("{:?}", decode_u64s(bytes))
        }
        Tag::Column => {
            let kind = if index >> 32 < 8 { ColumnType::U64 } else { ColumnType::F64 };
            match ColumnData::decode(kind, bytes) {
                Some(column) => format!("{column:?}"),
                None => format!("{:?}", ColumnData::decode(ColumnType::Bool, bytes).ok_or_else(wrong)?),
            }
        }
        Tag::Ranks => {
            let (first, ranks) = bytes.split_at_checked(8).ok_or_else(wrong)?;
            let ranks: Vec<u32> = ranks.as_chunks().0.iter().map(|rank| u32::from_le_bytes(*rank)).collect();
            format!("{:?} {ranks:?}", decode_u64s(first))
        }
        Tag::Records => format!("{} bytes", bytes.len()),
        Tag::Tally => {
            let rounds = [Round::Tally, Round::Bins(16), Round::Refine];
            let partial = rounds.into_iter().find_map(|round| Partial::decode(round, bytes)).ok_or_else(wrong)?;
            let mut twice = partial.clone();
            twice.merge(partial.clone());
            match partial {
                Partial::Tally(tally) => {
                    let report = voxel::histogram::HistogramReport::from_tally("image", &tally);
                    serde_json::to_string(&report).unwrap_or_default()
                }
                other => format!("{other:?}"),
            }
        }
    })
}

fn in_words(runs: &Runs) -> String {
    let mut said = format!("{} labels", runs.labels);
    for (z, y, row) in runs.by_row().filter(|(_, _, row)| !row.is_empty()) {
        let row: Vec<String> = row.iter().map(|run| format!("{}+{}={}", run.x, run.len, run.label)).collect();
        let _ = write!(said, "; {z},{y}: {}", row.join(" "));
    }
    said
}

fn row_in_words(row: &ObjectRow) -> String {
    let mut words = format!("{}: {} voxels {:?} {:?}", row.key, row.voxels, row.sums, row.products);
    let _ = write!(words, " in {:?}..{:?} faces {} {}", row.start, row.end, row.surface_faces, row.border_faces);
    if let Some(intensity) = &row.intensity {
        let (moments, least, greatest) = (&intensity.moments, intensity.min_key, intensity.max_key);
        let _ = write!(words, " sum {} var {:?} {least}..{greatest}", moments.sum(), moments.variance());
    }
    words
}

/// The same scratch object with all checksums made right again.
pub fn resealed(object: &[u8]) -> Option<Vec<u8>> {
    scratch::resealed(object)
}

/// Objects as one file: `--- key` on a line of its own, then the bytes of the object up to the next such line.
pub fn bundled(objects: &BTreeMap<String, Vec<u8>>) -> Vec<u8> {
    let one = |(key, bytes): (&String, &Vec<u8>)| [b"\n--- ", key.as_bytes(), b"\n", bytes].concat();
    objects.iter().flat_map(one).collect()
}

fn unbundled(bytes: &[u8]) -> BTreeMap<String, Vec<u8>> {
    const MARK: &[u8] = b"\n--- ";
    let starts: Vec<usize> = (0..bytes.len()).filter(|at| bytes[*at..].starts_with(MARK)).collect();
    let ends = starts.iter().skip(1).copied().chain([bytes.len()]);
    let one = |(start, end): (&usize, usize)| {
        let object = &bytes[start + MARK.len()..end];
        let line = object.iter().position(|byte| *byte == b'\n')?;
        Some((String::from_utf8_lossy(&object[..line]).into_owned(), object[line + 1..].to_vec()))
    };
    starts.iter().zip(ends).filter_map(one).collect()
}

/// An array or an image group, opened, and voxels of it read; see [`bundled`].
pub async fn zarr(bytes: &[u8]) -> String {
    let store = store_of(unbundled(bytes)).await;
    let mut said = String::new();
    for channel in [None, Some(0)] {
        let pick = Pick { channel, time: channel, ..Pick::default() };
        let opened = Array::open_in(&store, &pick).await;
        let Ok(array) = opened else {
            said += &told(opened, |_| String::new());
            continue;
        };
        said += &format!("{:?} {:?} {:?}", array.dtype(), array.axes(), array.units());
        // Whoever reads plans for a chunk at a time.
        if array.chunk_bytes() <= 16 << 20 {
            let whole = array.extent().region();
            let first = Region { start: [0; 3], end: whole.end.map(|n| n.min(40)) };
            let last = Region { start: whole.end.map(|n| n.saturating_sub(5)), end: whole.end };
            for region in [first, last] {
                let read = async { array.fetch(&ChunkCache::new(1 << 20), region).await?.decode() }.await;
                said += &told(read, |image| with_volume!(&image, v => format!("{} voxels", v.data.len())));
            }
        }
    }
    let levels = Pyramid::open_in(store).await;
    said += &told(levels, |levels| format!("{} levels", levels.paths().len()));
    said
}

/// What two blocks of 4 x 4 x 4 left for the merge of their labels, bundled under [`merge_key`]; joined, with all checksums
/// made right.
pub async fn merge(bytes: &[u8]) -> String {
    let sealed = |(key, object): (String, Vec<u8>)| {
        let sealed = scratch::resealed(&object).unwrap_or(object);
        (key, sealed)
    };
    let store = store_of(unbundled(bytes).into_iter().map(sealed)).await;
    let grid = Grid { extent: Extent { shape: [8, 4, 4], planar: false }, block: [4; 3] };
    let connectivity = Connectivity::TwentySix;
    let seams = Seams { store: &store, grid, fanout: 2, connectivity, blocks: "blocks", stage: "seams" };
    let mut said = String::new();
    for block in 0..2 {
        said += &told(seam::join(&seams, block).await, |()| "joined ".into());
    }
    for limit_bytes in [1 << 20, 1000] {
        let group = Group {
            store: &store,
            tree: grid.tree(2),
            level: 1,
            unit: 0,
            step: 0,
            below: "blocks",
            seam: "seams",
            stage: "up",
            kind: Some(Kind::Integer),
            limit_bytes,
        };
        said += &told(up::join(&group).await, |rows| format!("{} rows ", rows.rows));
    }
    said
}

/// The key of a block's object.
pub fn merge_key(block: u64) -> String {
    crate::layout::scratch("blocks", block)
}
