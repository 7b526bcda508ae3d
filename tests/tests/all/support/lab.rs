//! A folder with an image in it, where jobs run: whole or cut up, one after the other.

use std::cell::Cell;
use std::path::{Path, PathBuf};

use coordinator::exit::Stop;
use coordinator::price::Pricing;
use coordinator::run::{self, Place, Settings};
use pipeline::array::{ArraySpec, Codec, OmeVersion, write_whole};
use pipeline::job::{Job, Shards, steps_from_line};
use pipeline::plan::memory::Resources;
use pipeline::plan::{MergeSettings, Plan};
use pipeline::step::PerAxis;
use pipeline::store::{Store, Stores};
use tempfile::TempDir;
use voxel::{Extent, Region};

use super::answers::Answers;
use super::image::Image;
use super::wait;

/// How a job is cut into work: everything that must not change an answer.
#[derive(Clone, Debug)]
pub(crate) struct Cut {
    pub(crate) block: [usize; 3],
    pub(crate) fanout: usize,
    pub(crate) range_rows: u64,
    pub(crate) merge_bytes: Option<u64>,
    pub(crate) threads: usize,
    pub(crate) segment: Option<u64>,
    /// The one exception: row groups show in the table, and belong to the job.
    pub(crate) group_rows: u64,
}

impl Cut {
    /// One block, which all of memory is for.
    pub(crate) fn whole() -> Self {
        Self {
            block: [1 << 20; 3],
            fanout: 4,
            range_rows: 1 << 16,
            merge_bytes: None,
            threads: 1,
            segment: None,
            group_rows: 1 << 20,
        }
    }

    /// Blocks of this shape in a tree of pairs, with ranges of a few rows and room for next to none while groups join.
    pub(crate) fn blocks(block: [usize; 3]) -> Self {
        Self {
            block,
            fanout: 2,
            range_rows: 5,
            merge_bytes: Some(60_000),
            threads: 2,
            segment: Some(7),
            ..Self::whole()
        }
    }

    /// One block, for answers that must be the same as with this cut.
    pub(crate) fn undone(&self) -> Self {
        Self { group_rows: self.group_rows, ..Self::whole() }
    }

    pub(crate) fn settings(&self, planar: bool) -> Settings {
        Settings {
            resources: Resources { memory_bytes: 2 << 30, threads: self.threads, merge_bytes: self.merge_bytes },
            place: Place::Local,
            block: Some(per_axis(self.block, planar)),
            segment: self.segment,
            merge: MergeSettings { fanout: self.fanout, range_rows: self.range_rows, group_rows: self.group_rows },
            price: Pricing::default(),
            overwrite: false,
            into_input: false,
            keep: false,
            failures_most: 0,
            quiet: true,
        }
    }
}

/// z, y, x as a job or a flag has it: without z where the image is planar.
pub(crate) fn per_axis(sizes: [usize; 3], planar: bool) -> PerAxis<usize> {
    PerAxis::Each(sizes[usize::from(planar)..].to_vec())
}

/// A folder in memory where the system has such a thing: runs on tiny blocks are thousands of tiny files, and on a disk
/// the system's part of the work takes three times as long.
fn folder() -> TempDir {
    let memory = Path::new("/dev/shm");
    if memory.is_dir() && std::env::var_os("TMPDIR").is_none() {
        TempDir::new_in(memory).or_else(|_| TempDir::new()).unwrap()
    } else {
        TempDir::new().unwrap()
    }
}

/// The image, and a folder for every run.
pub(crate) struct Lab {
    folder: TempDir,
    extent: Extent,
    runs: Cell<usize>,
}

impl Lab {
    /// A lab with this image, stored in chunks that no block coincides with.
    pub(crate) fn with(image: &Image) -> Self {
        Self::with_chunks(image, [7, 9, 11], None)
    }

    /// A lab with this image in chunks, and shards, of these shapes.
    pub(crate) fn with_chunks(image: &Image, chunks: [usize; 3], shards: Option<[usize; 3]>) -> Self {
        let lab = Self { folder: folder(), extent: image.extent, runs: Cell::new(0) };
        let thin = |cell: [usize; 3]| if image.extent.planar { [1, cell[1], cell[2]] } else { cell };
        let spec = ArraySpec {
            extent: image.extent,
            dtype: image.voxels.dtype(),
            chunks: thin(chunks),
            shards: shards.map(thin),
            codec: Codec::Zstd { level: 1 },
            dimension_names: ["z", "y", "x"][usize::from(image.extent.planar)..]
                .iter()
                .map(|n| (*n).to_owned())
                .collect(),
            ome: OmeVersion::V05,
        };
        let store = Store::open(&lab.path("input.zarr").to_string_lossy()).unwrap();
        wait(write_whole(&store, &spec, &image.voxels)).unwrap();
        lab
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The folder of the image.
    pub(crate) fn input(&self) -> PathBuf {
        self.path("input.zarr")
    }

    /// A job on the image, from its steps on one line. Its output is written in `chunks`, without shards.
    pub(crate) fn job(&self, steps: &str, chunks: [usize; 3]) -> Job {
        let mut job = Job::new(self.path("input.zarr").to_string_lossy());
        job.steps = steps_from_line(steps).unwrap();
        job.write.chunks = per_axis(chunks, self.extent.planar);
        job.write.shards = Shards::None;
        job
    }

    /// The job with so many chunks in a shard, along each axis.
    pub(crate) fn sharded(&self, mut job: Job, counts: [usize; 3]) -> Job {
        job.write.shards = Shards::Chunks(per_axis(counts, self.extent.planar));
        job
    }

    /// The job on a part of the image.
    pub(crate) fn cropping(&self, mut job: Job, region: Region) -> Job {
        let slices: Vec<String> =
            self.extent.axes().map(|a| format!("{}:{}", region.start[a], region.end[a])).collect();
        job.region = Some(slices.join(",").parse().unwrap());
        job
    }

    /// What the job becomes when it is cut like this.
    pub(crate) fn plan(&self, job: &Job, cut: &Cut) -> Plan {
        wait(run::planned(&Stores::default(), job, &cut.settings(self.extent.planar))).unwrap().plan
    }

    /// Runs the job in a new folder; what it says when it fails is an answer, too.
    pub(crate) fn outcome(&self, job: &Job, cut: &Cut) -> Result<Answers, String> {
        let output = self.new_output();
        self.attempt(job, cut, &output).map(|()| Answers::read(&output))
    }

    /// Runs the job, which is expected to succeed, in a new folder.
    pub(crate) fn run(&self, job: &Job, cut: &Cut) -> Answers {
        self.outcome(job, cut).unwrap_or_else(|error| panic!("{error}, with {cut:?}"))
    }

    /// A folder nobody has used.
    pub(crate) fn new_output(&self) -> PathBuf {
        self.runs.set(self.runs.get() + 1);
        self.path(&format!("output-{}", self.runs.get()))
    }

    /// Runs the job in this folder, where it may have run before.
    pub(crate) fn attempt(&self, job: &Job, cut: &Cut, output: &Path) -> Result<(), String> {
        self.attempt_with(job, &cut.settings(self.extent.planar), output)
    }

    /// The same, and leaves plan, receipts and scratch where they are.
    pub(crate) fn attempt_and_keep(&self, job: &Job, cut: &Cut, output: &Path) -> Result<(), String> {
        self.attempt_with(job, &Settings { keep: true, ..cut.settings(self.extent.planar) }, output)
    }

    fn attempt_with(&self, job: &Job, settings: &Settings, output: &Path) -> Result<(), String> {
        let job = Job { output: Some(output.to_string_lossy().into_owned()), ..job.clone() };
        match wait(run::run(&Stores::default(), &job, settings)) {
            Ok(_) => Ok(()),
            Err(Stop::Failed(error)) => Err(format!("{:?}: {}", error.kind, error.message)),
            Err(Stop::Tasks { failed, .. }) => Err(format!("{failed:?}")),
            Err(Stop::Spent { error, left }) => Err(format!("{}: {left}", error.message)),
            Err(Stop::Interrupted(how)) => Err(how),
        }
    }
}
