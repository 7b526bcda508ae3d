//! The program as its users meet it: a folder to work in, what is typed there, and what comes back.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{Read, Seek};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use pipeline::array::{ArraySpec, Codec, OmeVersion};
use serde_json::Value;
use tempfile::TempDir;
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype};

/// A fresh folder, gone at the end of the test, in which the program is run.
pub(crate) struct Desk(TempDir);

impl Desk {
    pub(crate) fn new() -> Self {
        Self(TempDir::new().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn has(&self, name: &str) -> bool {
        self.path(name).symlink_metadata().is_ok()
    }

    pub(crate) fn write(&self, name: &str, content: impl AsRef<[u8]>) {
        let path = self.path(name);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, content).unwrap();
    }

    pub(crate) fn json(&self, name: &str) -> Value {
        serde_json::from_slice(&fs::read(self.path(name)).unwrap()).unwrap()
    }

    /// The command `voxmill LINE`, with `'...'` as one word.
    pub(crate) fn command(&self, line: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_voxmill-under-test"));
        command.args(words(line)).current_dir(self.0.path()).env_remove("VOXMILL_LOG");
        command
    }

    /// Runs `voxmill LINE` to its end.
    pub(crate) fn run(&self, line: &str) -> Ended {
        Started::new(self.command(line), line).end()
    }

    /// Starts `voxmill LINE`.
    pub(crate) fn start(&self, line: &str) -> Started {
        Started::new(self.command(line), line)
    }

    /// Every file below a folder with its bytes, but for run.json and the run's own state.
    pub(crate) fn answers(&self, output: &str) -> BTreeMap<String, Vec<u8>> {
        let mut found = self.files(output);
        found.retain(|name, _| name != "run.json" && !name.starts_with(".voxmill/"));
        found
    }

    /// Every file below a folder with its bytes.
    pub(crate) fn files(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let root = self.path(folder);
        let (mut files, mut folders) = (BTreeMap::new(), vec![root.clone()]);
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten() {
                let entry = entry.unwrap();
                if entry.file_type().unwrap().is_dir() {
                    folders.push(entry.path());
                } else {
                    let name = entry.path().strip_prefix(&root).unwrap().to_string_lossy().into_owned();
                    files.insert(name, fs::read(entry.path()).unwrap());
                }
            }
        }
        files
    }

    /// Asserts that nothing lies in an output that could be taken for an answer.
    pub(crate) fn holds_no_answer(&self, output: &str) {
        let answers = ["zarr.json", ".parquet", "histogram.json"];
        let taken: Vec<String> =
            self.answers(output).into_keys().filter(|name| answers.iter().any(|a| name.ends_with(a))).collect();
        assert!(taken.is_empty(), "{output} holds what could be taken for whole: {taken:?}");
    }
}

/// Splits at white space, but for what stands between single quotes.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (i, part) in line.split('\'').enumerate() {
        if i % 2 == 1 {
            words.push(part.to_owned());
        } else {
            words.extend(part.split_whitespace().map(str::to_owned));
        }
    }
    words
}

/// The program under way.
pub(crate) struct Started {
    child: Child,
    line: String,
    talk: [File; 2],
}

impl Started {
    /// Starts a command. What it says goes to files, so that it never waits for a reader.
    pub(crate) fn new(mut command: Command, line: &str) -> Self {
        let talk = [tempfile::tempfile().unwrap(), tempfile::tempfile().unwrap()];
        command.stdin(Stdio::null()).stdout(talk[0].try_clone().unwrap()).stderr(talk[1].try_clone().unwrap());
        Self { child: command.spawn().unwrap(), line: line.to_owned(), talk }
    }

    /// Sends a signal; does nothing when the program has ended.
    pub(crate) fn signal(&self, signal: libc::c_int) {
        // SAFETY: the process is our child and has not been waited for, so the id is still its own.
        unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
    }

    /// Makes the program stand still; every thread of it does when this returns.
    pub(crate) fn pause(&self) {
        self.signal(libc::SIGSTOP);
        let stands = |task: fs::DirEntry| {
            let status = fs::read_to_string(task.path().join("status")).unwrap_or_default();
            status.lines().any(|line| line.starts_with("State:") && line.contains('T'))
        };
        let tasks = || fs::read_dir(format!("/proc/{}/task", self.child.id())).unwrap();
        while !tasks().all(|task| stands(task.unwrap())) {
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        !status.lines().any(|line| line.starts_with("State:") && line.contains('Z'))
    }

    /// Waits for the end.
    pub(crate) fn end(mut self) -> Ended {
        // Asked for again and again, the highest mark can only miss what is above it in the last instant. The usage that
        // the system reports of a child that has ended would begin at the peak of this process.
        let mut peak_bytes = 0;
        let status = loop {
            peak_bytes = self.peak_bytes().unwrap_or(0).max(peak_bytes);
            match self.child.try_wait().unwrap() {
                Some(status) => break status,
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        };
        let [stdout, stderr] = self.talk.each_mut().map(|file| {
            let mut text = String::new();
            file.rewind().unwrap();
            file.read_to_string(&mut text).unwrap();
            text
        });
        Ended { line: self.line, status, stdout, stderr, peak_bytes }
    }

    /// The most memory the program has had so far; none when it has ended.
    fn peak_bytes(&self) -> Option<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.child.id())).ok()?;
        let kib = status.lines().find_map(|line| line.strip_prefix("VmHWM:"))?.trim().strip_suffix(" kB")?;
        Some(kib.parse::<u64>().unwrap() * 1024)
    }
}

/// How the program ended.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) line: String,
    pub(crate) status: ExitStatus,
    /// The answer.
    pub(crate) stdout: String,
    /// The talk.
    pub(crate) stderr: String,
    /// Most memory it ever had.
    pub(crate) peak_bytes: u64,
}

impl Ended {
    /// Asserts that it ended well.
    #[track_caller]
    pub(crate) fn well(self) -> Self {
        assert_eq!(self.status.code(), Some(0), "voxmill {}\n{}", self.line, self.stderr);
        self
    }

    /// Asserts the exit code, what stands in `error:`, and that nothing went to stdout.
    #[track_caller]
    pub(crate) fn badly(self, code: i32, message: &str) -> Self {
        assert_eq!(self.status.code(), Some(code), "voxmill {}\n{}", self.line, self.stderr);
        let error = self.said("error: ");
        assert!(error.contains(message), "voxmill {}\nsays\n  {error}\nand not\n  {message}", self.line);
        assert_eq!(self.stdout, "", "voxmill {}", self.line);
        self
    }

    /// Asserts what stands in `hint:`.
    #[track_caller]
    pub(crate) fn hints(self, hint: &str) -> Self {
        let said = self.said("hint: ");
        assert!(said.contains(hint), "voxmill {}\nhints\n  {said}\nand not\n  {hint}", self.line);
        self
    }

    /// What stands on stderr after `label`, up to the next label.
    fn said(&self, label: &str) -> String {
        let after = self.stderr.split_once(label).map_or("", |(_, after)| after);
        let ends = ["\nhint: ", "\nerror: "].iter().filter_map(|end| after.find(end)).min();
        after[..ends.unwrap_or(after.len())].trim_end().to_owned()
    }

    /// Stdout as JSON.
    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("voxmill {}: {e}\n{}", self.line, self.stdout))
    }
}

/// An array made for a test.
#[derive(Clone)]
pub(crate) struct Image {
    spec: ArraySpec,
}

impl Image {
    /// One of cubic chunks, no shards, little compression.
    pub(crate) fn new(shape: [usize; 3], dtype: Dtype, chunk: usize) -> Self {
        let spec = ArraySpec {
            extent: Extent { shape, planar: false },
            dtype,
            chunks: shape.map(|n| chunk.min(n.max(1))),
            shards: None,
            codec: Codec::Zstd { level: 1 },
            dimension_names: ["z", "y", "x"].map(str::to_owned).to_vec(),
            ome: OmeVersion::V05,
        };
        Self { spec }
    }

    /// The same with so many chunks along each side of a shard.
    pub(crate) fn sharded(mut self, chunks: usize) -> Self {
        self.spec.shards = Some(self.spec.chunks.map(|c| c * chunks));
        self
    }

    /// Writes it, each voxel by its place.
    pub(crate) fn write(&self, desk: &Desk, name: &str, voxel: impl Fn([usize; 3]) -> f64) {
        for index in self.spec.objects_in(self.spec.extent.region()) {
            let volume = volume(self.spec.dtype, self.spec.object_region(index), &voxel);
            desk.write(&format!("{name}/{}", self.spec.key(index)), self.spec.encode_object(&volume, index).unwrap());
        }
        self.write_empty(desk, name);
    }

    /// Writes it with the same object everywhere, which is quick at any size.
    pub(crate) fn write_tiled(&self, desk: &Desk, name: &str, voxel: impl Fn([usize; 3]) -> f64) {
        let tile = Extent { shape: self.spec.unit_shape(), planar: false };
        let one = ArraySpec { extent: tile, ..self.spec.clone() };
        let bytes = one.encode_object(&volume(one.dtype, tile.region(), &voxel), [0; 3]).unwrap();
        for index in self.spec.objects_in(self.spec.extent.region()) {
            let (first, path) =
                (desk.path(name).join(self.spec.key([0; 3])), desk.path(name).join(self.spec.key(index)));
            match index {
                [0, 0, 0] => desk.write(&format!("{name}/{}", self.spec.key(index)), &bytes),
                _ => fs::create_dir_all(path.parent().unwrap()).and_then(|()| fs::hard_link(first, path)).unwrap(),
            }
        }
        self.write_empty(desk, name);
    }

    /// Writes its metadata only.
    pub(crate) fn write_empty(&self, desk: &Desk, name: &str) {
        for (key, document) in self.spec.metadata() {
            desk.write(&format!("{name}/{key}"), document);
        }
    }
}

fn volume(dtype: Dtype, region: Region, voxel: &impl Fn([usize; 3]) -> f64) -> AnyVolume {
    fn typed<T: Element>(region: Region, voxel: &impl Fn([usize; 3]) -> f64) -> Volume<T> {
        let mut data = Vec::with_capacity(region.voxels());
        for z in region.start[0]..region.end[0] {
            for y in region.start[1]..region.end[1] {
                data.extend((region.start[2]..region.end[2]).map(|x| T::from_f64(voxel([z, y, x]))));
            }
        }
        Volume::new(region, data)
    }
    with_dtype!(dtype, T => typed::<T>(region, voxel).into())
}

/// White noise from 0 to `below`, whole numbers.
pub(crate) fn noise(below: u64) -> impl Fn([usize; 3]) -> f64 {
    move |[z, y, x]| {
        let mut h = (z as u64) << 42 | (y as u64) << 21 | x as u64;
        for factor in [0xff51_afd7_ed55_8ccd, 0xc4ce_b9fe_1a85_ec53] {
            h = (h ^ (h >> 33)).wrapping_mul(factor);
        }
        ((h ^ (h >> 33)) % below) as f64
    }
}

/// Smooth blobs of some voxels, 0 to 200, a few percent of them above 120, with a little noise.
pub(crate) fn blobs([z, y, x]: [usize; 3]) -> f64 {
    let wave = |n: usize, length: f64| (n as f64 / length).sin();
    let smooth = wave(z, 2.1) * wave(y, 2.7) * wave(x + z / 3, 3.3);
    (95.0 + 95.0 * smooth + noise(10)([z, y, x])).round()
}

/// Names of the files that another process left half written below a folder.
pub(crate) fn staged_files(folder: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![folder.to_owned()]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten() {
            let entry = entry.unwrap();
            match entry.file_type().unwrap().is_dir() {
                true => folders.push(entry.path()),
                false if entry.file_name().to_string_lossy().contains('#') => found.push(entry.path()),
                false => {}
            }
        }
    }
    found
}
