//! Scratch objects of the first version, as an earlier voxmill left them: they are read to the values they were written
//! from, damage in them is found, and what is of another version is told apart from what is damaged.
//!
//! `tests/fixtures/README.md` says how they were made, and what to do when the format changes.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use pipeline::fuzzing::{self, Rows};
use pipeline::plan::{Plan, Rows as TableRows, StageKind};
use voxel::exact_sum::Kind;
use voxel::{Dtype, Region};

use crate::support::image::{Look, Recipe, volume};
use crate::support::lab::{Cut, Lab};
use crate::support::wait;

const SIDE: usize = 4;

/// What the objects were made by, with the kind of the intensities of their rows.
const JOBS: [(&str, Dtype, Kind, &str); 2] = [
    (
        "integers",
        Dtype::U8,
        Kind::Integer,
        "threshold above=0 | label connectivity=6 save=cells | maximum size=3 | objects contacts=26",
    ),
    ("floats", Dtype::F32, Kind::F32, "threshold method=otsu | label"),
];

/// Objects beyond this are left out: sixty thousand counts in one look like those in another.
const OBJECT_BYTES_MAX: u64 = 16 << 10;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/scratch-v1")
}

/// Every object, with its name and its text.
fn objects() -> BTreeMap<String, (Vec<u8>, String)> {
    let named = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        let name = path.file_name()?.to_str()?.strip_suffix(".scratch")?.to_owned();
        Some((name, (fs::read(&path).unwrap(), fs::read_to_string(path.with_extension("txt")).unwrap())))
    };
    fs::read_dir(folder()).unwrap().filter_map(named).collect()
}

fn rows_of(name: &str) -> Rows {
    let kind = JOBS.iter().find(|job| name.starts_with(job.0)).map(|job| job.2);
    if name.contains("contacts") { Rows::Contacts } else { Rows::Objects(kind) }
}

fn read(name: &str, object: &[u8]) -> pipeline::Result<String> {
    wait(fuzzing::scratch(object, Region { start: [0; 3], end: [SIDE; 3] }, rows_of(name)))
}

#[test]
fn old_objects_are_read_as_they_were_written() {
    let objects = objects();
    assert!(objects.len() >= 15, "only {:?}", objects.keys());
    for (name, (object, text)) in &objects {
        let said = read(name, object).unwrap_or_else(|e| panic!("{name}: {e}"));
        assert!(said == *text, "{name} is no longer read as it was written:\n{said}\nand was\n{text}");
    }
    let all: String = objects.values().map(|(_, text)| text.as_str()).collect();
    for tag in "Runs Plane Closed Open ClosedKeys Aliases Pairs ChildMap Sources Column Ranks Sizes Finals Tally Counts"
        .split(' ')
    {
        assert!(all.lines().any(|line| line.starts_with(tag)), "none has {tag}");
    }
}

#[test]
fn a_flipped_bit_is_found_wherever_it_is() {
    for (name, (object, _)) in objects() {
        let mut flipped = object.clone();
        for at in 0..object.len() {
            flipped[at] ^= 1 << (at % 8);
            let said = read(&name, &flipped).map(|_| ()).unwrap_err();
            assert_eq!(said.kind, pipeline::Kind::Data, "{name}, byte {at}: {said}");
            flipped[at] = object[at];
        }
    }
}

#[test]
fn another_version_and_another_format_are_told_apart() {
    for (name, (object, _)) in objects() {
        let message = |at_from_end: usize| {
            let mut other = object.clone();
            let at = other.len() - at_from_end;
            other[at] += 1;
            read(&name, &other).unwrap_err().message
        };
        assert!(message(8).ends_with("can't be used: another version of voxmill wrote it"), "{}", message(8));
        assert!(message(4).ends_with("can't be used: its end is not that of a scratch object"), "{}", message(4));
    }
}

/// Makes the objects anew, of the format of today: only for a new version of it, in a folder of its own.
#[test]
#[ignore = "writes the fixtures"]
fn write_the_objects() {
    fs::create_dir_all(folder()).unwrap();
    write_two_blocks();
    for (name, dtype, _, steps) in JOBS {
        let recipe = Recipe { extent: volume([8, 8, 8]), dtype, look: Look::Dust, gaps: false, seed: 7 };
        let lab = Lab::with(&recipe.image());
        let (job, cut) = (lab.job(steps, [SIDE; 3]), Cut { range_rows: 20, ..Cut::blocks([SIDE; 3]) });
        let (plan, output) = (lab.plan(&job, &cut), lab.new_output());
        lab.attempt_and_keep(&job, &cut, &output).unwrap();
        for (kind, folder_name) in folders(&plan) {
            let mut found: Vec<PathBuf> = fs::read_dir(output.join(pipeline::layout::SCRATCH).join(folder_name))
                .into_iter()
                .flatten()
                .map(|entry| entry.unwrap().path())
                .filter(|path| path.is_file())
                .collect();
            found.sort();
            let is_named = |path: &PathBuf, start: &str| path.file_name().unwrap().to_str().unwrap().starts_with(start);
            for (what, start) in [("", "0"), ("-tally", "tally"), ("-digest", "digest"), ("-sources", "sources")] {
                // The largest has the most in it.
                let of_this = found.iter().filter(|path| is_named(path, start));
                let length = |path: &&PathBuf| fs::metadata(path).unwrap().len();
                let Some(path) = of_this.filter(|path| length(path) < OBJECT_BYTES_MAX).max_by_key(length) else {
                    continue;
                };
                let to = folder().join(format!("{name}-{kind}{what}.scratch"));
                let object = fs::read(path).unwrap();
                let text = read(&format!("{name}-{kind}{what}"), &object).unwrap();
                fs::write(&to, object).unwrap();
                fs::write(to.with_extension("txt"), text).unwrap();
            }
        }
    }
}

/// What two blocks left for a merge of their labels, as one file for the fuzzer.
fn write_two_blocks() {
    let recipe = Recipe { extent: volume([8, 4, 4]), dtype: Dtype::U8, look: Look::Noise, gaps: false, seed: 4 };
    let lab = Lab::with(&recipe.image());
    let (job, cut) = (lab.job("threshold above=170 | label connectivity=26", [4; 3]), Cut::blocks([4; 3]));
    let (plan, output) = (lab.plan(&job, &cut), lab.new_output());
    lab.attempt_and_keep(&job, &cut, &output).unwrap();
    let left = output.join(pipeline::layout::SCRATCH).join(plan.left(plan.tables[0].id));
    let object = |block: u64| (fuzzing::merge_key(block), fs::read(left.join(format!("{block:012}"))).unwrap());
    fs::write(folder().join("two-blocks.bundle"), fuzzing::bundled(&[object(0), object(1)].into())).unwrap();
}

/// The folders of a plan's scratch objects, by what they hold.
fn folders(plan: &Plan) -> Vec<(String, String)> {
    let mut folders = Vec::new();
    for table in &plan.tables {
        // Contacts of a block go into as many files as they take, each in a folder.
        let left = plan.left(table.id) + if table.id.of == TableRows::Contacts { "-0" } else { "" };
        folders.push((format!("block{}-{:?}", table.id.step, table.id.of).to_lowercase(), left));
    }
    for (i, stage) in plan.stages.iter().enumerate() {
        let kind = match &stage.kind {
            StageKind::Map(_) => format!("map{i}"),
            StageKind::Seam { .. } => "seam".into(),
            StageKind::Up { level, .. } => format!("up{level}"),
            StageKind::Rank(table) => format!("rank{}-{:?}", table.step, table.of).to_lowercase(),
            StageKind::Down { level, .. } => format!("down{level}"),
            _ => continue,
        };
        folders.push((kind, stage.fingerprint.clone()));
    }
    folders
}
