//! Hostile input: every reader of bytes from outside is given broken ones by the thousand. How is in [`engine`], what is
//! fuzzed below, a test for each; `CONTRIBUTING.md` says how to let them run for longer.

#![allow(clippy::unwrap_used)]

mod engine;
mod seeds;

use std::future::Future;
use std::path::PathBuf;

use engine::Target;
use pipeline::fuzzing::{self, Rows};
use voxel::Region;
use voxel::exact_sum::Kind;

const MIB: usize = 1 << 20;

/// Runs what is async, on this thread.
fn wait<T>(work: impl Future<Output = T>) -> T {
    thread_local!(static RUNTIME: tokio::runtime::Runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap());
    RUNTIME.with(|runtime| runtime.block_on(work))
}

/// Text that may not be text.
fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn job_toml() {
    let seeds = seeds::jobs_toml();
    Target { name: "job_toml", seeds, words: &seeds::JOB_WORDS, memory_bytes: 64 * MIB, length_max: 8 << 10 }
        .check(|bytes| fuzzing::job(&text(bytes), false));
}

#[test]
fn job_json() {
    let seeds = seeds::jobs_json();
    Target { name: "job_json", seeds, words: &seeds::JOB_WORDS, memory_bytes: 64 * MIB, length_max: 8 << 10 }
        .check(|bytes| fuzzing::job(&text(bytes), true));
}

#[test]
fn steps_line() {
    let seeds = seeds::lines();
    Target { name: "steps_line", seeds, words: &seeds::JOB_WORDS, memory_bytes: 64 * MIB, length_max: 4 << 10 }
        .check(|bytes| fuzzing::steps(&text(bytes)));
}

#[test]
fn flags() {
    let seeds = seeds::flags();
    let words = &["none", "zstd", "blosc", "gzip", ":", ",", "0:5", "::", "-", "um", "mm", "inf", "nan", "e9", "z"];
    Target { name: "flags", seeds, words, memory_bytes: MIB, length_max: 256 }
        .check(|bytes| format!("{} {}", fuzzing::flag(&text(bytes)), coordinator::fuzzing::flag(&text(bytes))));
}

#[test]
fn messages() {
    let seeds = seeds::messages();
    let words = &["\"crc32c\":", "null", "true", "{", "}", "[", "]", "\"end\":", "1e99", "\"plan\":", "\"segment\":"];
    Target { name: "messages", seeds, words, memory_bytes: 16 * MIB, length_max: 64 << 10 }
        .check(|bytes| wait(fuzzing::message(bytes)));
}

#[test]
fn scratch() {
    let region = Region { start: [0; 3], end: [4; 3] };
    let all = [Rows::Contacts, Rows::Objects(None), Rows::Objects(Some(Kind::Integer)), Rows::Objects(Some(Kind::F32))];
    let told = |bytes: &[u8]| -> String {
        let read = |rows| match wait(fuzzing::scratch(bytes, region, rows)) {
            Ok(said) => format!("{} sections;", said.lines().count()),
            Err(error) => format!("{:?}: {};", error.kind, error.message),
        };
        all.into_iter().map(read).collect()
    };
    Target { name: "scratch", seeds: seeds::scratch(), words: &["VXMS"], memory_bytes: 32 * MIB, length_max: 64 << 10 }
        .check(|bytes| told(bytes) + &fuzzing::resealed(bytes).map(|sealed| told(&sealed)).unwrap_or_default());
}

#[test]
fn merge() {
    let seeds = vec![std::fs::read(seeds::fixture("scratch-v1/two-blocks.bundle")).unwrap()];
    Target { name: "merge", seeds, words: &[], memory_bytes: 64 * MIB, length_max: 64 << 10 }
        .check(|bytes| wait(fuzzing::merge(bytes)));
}

#[test]
fn zarr() {
    let seeds = seeds::zarr();
    Target { name: "zarr", seeds, words: &seeds::ZARR_WORDS, memory_bytes: 256 * MIB, length_max: 64 << 10 }
        .check(|bytes| wait(fuzzing::zarr(bytes)));
}

/// A folder in memory, for readers that want a file.
struct Folder(tempfile::TempDir);

impl Folder {
    fn new() -> Self {
        let memory = std::path::Path::new("/dev/shm");
        let folder = if memory.is_dir() { tempfile::TempDir::new_in(memory) } else { tempfile::TempDir::new() };
        Self(folder.unwrap())
    }

    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        std::fs::write(&path, bytes).unwrap();
        path
    }
}

/// Fuzzes a format whose files have that ending.
fn import(name: &'static str, seeds: Vec<Vec<u8>>, words: &'static [&'static str]) {
    let folder = Folder::new();
    Target { name, seeds, words, memory_bytes: 64 * MIB, length_max: 256 << 10 }.check(|bytes| {
        let path = folder.file("scan", bytes);
        coordinator::fuzzing::import(&path).replace(path.to_str().unwrap(), "scan")
    });
}

#[test]
fn import_tiff() {
    import("import_tiff", seeds::tiff(), &["II*\0", "MM\0*", "ImageJ=", "images=", "slices=", "<OME", "\n"]);
}

#[test]
fn import_nifti() {
    import("import_nifti", seeds::nifti(), &["n+1\0", "ni1\0", "n+2\0"]);
}

#[test]
fn import_nrrd() {
    let words = &[
        "\nsizes: ",
        "\ntype: ",
        "\nencoding: ",
        "gzip",
        "bzip2",
        "ascii",
        "raw",
        "\nbyte skip: ",
        "\nline skip: ",
        "\nspace directions: ",
        "none",
        "(1,0,0)",
        "\nspacings: ",
        "\nkinds: ",
        "\ndimension: ",
        "\ndata file: ",
        "LIST",
        "%03d",
        "\nendian: big",
        "double",
        "\n\n",
    ];
    import("import_nrrd", seeds::nrrd(), words);
}

#[test]
fn import_npy() {
    import(
        "import_npy",
        seeds::npy(),
        &["'descr': ", "'<f8'", "'shape': (", "True", "False", "'fortran_order': ", ")"],
    );
}

#[test]
fn import_zip() {
    import("import_zip", seeds::zip(), &["PK\x01\x02", "PK\x03\x04", "PK\x05\x06", "PK\x06\x06", "a.npy", "../"]);
}

#[test]
fn import_raw() {
    let folder = Folder::new();
    let seeds = ["2,3,4 uint8 little 0\n012345678901234567890123", "3,4 uint16 big 4\n0123456789012345678901234567"];
    let seeds = seeds.map(|seed| seed.as_bytes().to_vec()).to_vec();
    let words = &["uint8", "float64", "bool", "little", "big", ",", "x", " "];
    Target { name: "import_raw", seeds, words, memory_bytes: 64 * MIB, length_max: 4 << 10 }.check(|bytes| {
        let line = bytes.iter().position(|byte| *byte == b'\n').unwrap_or(bytes.len());
        let (flags, voxels) = bytes.split_at(line);
        let path = folder.file("scan.raw", voxels.get(1..).unwrap_or_default());
        let flags = text(flags);
        let mut flags = flags.split(' ');
        let mut next = || flags.next().unwrap_or_default();
        let (shape, dtype, order) = (next(), next(), next());
        coordinator::fuzzing::import_raw(&path, shape, dtype, order, next().parse().unwrap_or(0))
    });
}
