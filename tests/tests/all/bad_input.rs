//! What goes wrong, and what people are told: the text, the hint, the exit code, and nothing left that could be taken
//! for whole.

use std::fs;
use std::os::unix::fs::symlink;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use voxel::Dtype;

use crate::program::{Desk, Image, Started, blobs};

/// A desk with a small volume of blobs in eight chunks.
fn desk() -> Desk {
    let desk = Desk::new();
    small().write(&desk, "in.zarr", blobs);
    desk
}

fn small() -> Image {
    Image::new([16, 16, 16], Dtype::U8, 8)
}

/// Runs a job that must fail, and looks at what it leaves.
#[track_caller]
fn fails(desk: &Desk, job: &str, code: i32, message: &str) -> crate::program::Ended {
    let ended = desk.run(&format!("run {job} -o out")).badly(code, message);
    desk.holds_no_answer("out");
    ended
}

/// The same of a request that is refused before anything is touched.
#[track_caller]
fn refused(desk: &Desk, job: &str, message: &str) -> crate::program::Ended {
    let ended = fails(desk, job, 2, message);
    assert!(!desk.has("out"), "a refused job made its output");
    ended
}

#[test]
fn a_corrupt_chunk_is_named() {
    let desk = desk();
    let chunk = desk.path("in.zarr/c/0/1/1");
    let mut bytes = fs::read(&chunk).unwrap();
    bytes.iter_mut().skip(4).for_each(|b| *b ^= 0x55);
    fs::write(&chunk, bytes).unwrap();
    for job in ["in.zarr", "in.zarr --steps 'gaussian sigma=1'", "in.zarr --steps 'threshold above=100 | label'"] {
        fails(&desk, job, 5, "/in.zarr (key c/0/1/1) can't be decoded: zstd: ");
        fails(&desk, job, 5, "chunk [0, 1, 1] of ");
        fs::remove_dir_all(desk.path("out")).unwrap();
    }
    // An empty one, too.
    fs::write(&chunk, b"").unwrap();
    fails(&desk, "in.zarr", 5, "chunk [0, 1, 1] of ");
}

#[test]
fn a_truncated_shard_is_named() {
    let desk = Desk::new();
    Image::new([32, 32, 32], Dtype::U8, 8).sharded(2).write(&desk, "in.zarr", blobs);
    let shard = desk.path("in.zarr/c/1/0/1");
    let bytes = fs::read(&shard).unwrap();
    // Without its end a shard has no index.
    fs::write(&shard, &bytes[..bytes.len() - 20]).unwrap();
    fails(&desk, "in.zarr", 5, "/in.zarr (key c/1/0/1) can't be decoded: ");
    fs::write(&shard, &bytes[..10]).unwrap();
    fails(&desk, "in.zarr", 5, "the shard has 10 bytes, its index 132");
    // Without some bytes in the middle its index points beyond its end.
    fs::write(&shard, [&bytes[..100], &bytes[bytes.len() - 132..]].concat()).unwrap();
    fails(&desk, "in.zarr", 5, "the shard has 232 bytes, the chunk ");
    // Which of its chunks comes first is not settled.
    fails(&desk, "in.zarr", 5, "chunk [");
}

#[test]
fn an_unreadable_chunk_is_no_missing_chunk() {
    let desk = desk();
    let chunk = desk.path("in.zarr/c/0/1/1");
    fs::remove_file(&chunk).unwrap();
    // A missing one is fill value.
    desk.run("run in.zarr -o missing --json").well();
    symlink(&chunk, &chunk).unwrap();
    fails(&desk, "in.zarr", 4, "in.zarr/c/0/1/1: ");
    fs::remove_file(&chunk).unwrap();
    symlink(desk.path("gone"), &chunk).unwrap();
    fails(&desk, "in.zarr", 4, "in.zarr/c/0/1/1: it is a link that leads nowhere");
}

#[test]
fn missing_chunks_are_counted_once() {
    let desk = Desk::new();
    Image::new([40, 40, 40], Dtype::U8, 10).write(&desk, "in.zarr", |[z, y, x]| (z + y + x) as f64);
    for chunk in ["c/0/0/0", "c/1/2/3", "c/3/3/3"] {
        fs::remove_file(desk.path("in.zarr").join(chunk)).unwrap();
    }
    // Every block reads its neighbours' chunks, and three passes read the input.
    let steps =
        "--steps 'gaussian sigma=3 | threshold method=otsu' --chunks 10 --shards none --block 10 --json --overwrite";
    for (region, missing) in [("", 3), ("--region 5:40,:,:", 3), ("--region 10:40,:,:", 2), ("--region :,:,0:35", 3)] {
        let done = desk.run(&format!("run in.zarr -o out {steps} {region}")).well();
        assert_eq!(done.json()["missing_chunks"], missing, "{region}");
        assert!(!done.stderr.contains("not one chunk"), "{}", done.stderr);
    }
    Image::new([40, 40, 40], Dtype::U8, 10).write_empty(&desk, "empty.zarr");
    let empty = desk.run("run empty.zarr -o nothing --steps 'median size=3' --region 5:35,:,: --json").well();
    assert_eq!(empty.json()["missing_chunks"], 64);
    assert!(empty.stderr.contains("warning: not one chunk"), "{}", empty.stderr);
}

#[test]
fn no_threshold_without_finite_voxels() {
    let desk = Desk::new();
    Image::new([16, 16, 16], Dtype::F32, 8).write(&desk, "in.zarr", |[z, _, _]| [f64::NAN, f64::INFINITY][z % 2]);
    let none = "but none of the 4096 voxels it is given is finite";
    fails(&desk, "in.zarr --steps 'threshold method=otsu'", 5, none).hints("voxmill slice");
    fails(&desk, "in.zarr --steps 'threshold method=otsu' --overwrite", 5, "step 1 (threshold) asks for Otsu's");
    fails(&desk, "in.zarr --steps 'gaussian sigma=0 | threshold percentile=99' --overwrite", 5, none);
    fails(
        &desk,
        "in.zarr --steps 'rescale | threshold percentile=99' --overwrite",
        5,
        "step 2 (threshold) asks for percentile 99",
    );
    // Measuring them is no error.
    desk.run("run in.zarr -o measured").well();
    assert!(desk.json("measured/histogram.json")["min"].is_null());
}

#[test]
fn a_job_file_is_read_strictly() {
    let desk = desk();
    desk.write("key.toml", "input = 'in.zarr'\nstps = []\n");
    refused(&desk, "key.toml", "key.toml: line 2: the job has no key `stps`").hints("did you mean `steps`?");
    desk.write("parameter.toml", "input = 'in.zarr'\n[[steps]]\nop = 'gaussian'\nsgima = 2\n");
    refused(&desk, "parameter.toml", "parameter.toml: line 4: step 1 (gaussian) has no parameter `sgima`")
        .hints("did you mean `sigma`?");
    desk.write("key.json", r#"{"input": "in.zarr", "outptu": "x"}"#);
    refused(&desk, "key.json", "the job has no key `outptu`").hints("did you mean `output`?");
    desk.write("broken.toml", "input = 'in.zarr\n");
    refused(&desk, "broken.toml", "broken.toml: line 1");
    refused(&desk, "nowhere.toml", "the job file nowhere.toml can't be read");
    desk.write("name.toml", "input = 'in.zarr'\nsteps = [{op = 'label', save = 'a/b'}]\n");
    refused(&desk, "name.toml", "name.toml: line 2: step 1 (label): `save` is \"a/b\", which can't be the name");
    desk.write("twice.toml", "input = 'in.zarr'\nsteps = [{op = 'label', save = 'a'}, {op = 'label', save = 'a'}]\n");
    refused(&desk, "twice.toml", "steps 1 and 2 both save as a").hints("give each its own name");
    desk.write("histogram.toml", "input = 'in.zarr'\nhistogram = 'smooth'\n");
    refused(&desk, "histogram.toml", "`histogram` is smooth, but no step saves an image of that name");
    desk.write("percentiles.toml", "input = 'in.zarr'\npercentiles = 'about'\n");
    refused(&desk, "percentiles.toml", "`percentiles` of the job takes");
}

#[test]
fn a_line_of_steps_is_read_strictly() {
    let desk = desk();
    for (steps, message, hint) in [
        (
            "gausian sigma=2",
            "step 1: there is no op `gausian`\n  gausian sigma=2\n  ^^^^^^^",
            "did you mean `gaussian`?",
        ),
        (
            "median size=3 | erode bal=2",
            "step 2 (erode) has no parameter `bal`\n  median size=3 | erode bal=2\n                        ^^^",
            "did you mean `ball`?",
        ),
        (
            "gaussian sigma=1 | erode ball=1",
            "step 2 (erode) takes bool or integers, but gets float32 from step 1 (gaussian)",
            "put a threshold before it",
        ),
        (
            "gaussian sigma=1e9",
            "makes a kernel of radius 4000000000 voxels, and the limit is 1024\n  gaussian sigma=1e9\n           ^^^^^^^^^",
            "a coarser `level`",
        ),
        ("gaussian sigma=-1", "step 1 (gaussian): `sigma` is -1, but must be 0 or more", ""),
        (
            "gaussian sigma=nan",
            "`sigma` of step 1 (gaussian) takes a number or a list of numbers, one for each axis, but got \"nan\"",
            "",
        ),
        ("open ball=1e9", "`ball` is 1000000000, but must be a radius above 0 and up to 1024 voxels", ""),
        ("median size=4", "`size` is 4, but must be an odd number from 1 to 255", ""),
        ("median size=1001", "`size` is 1001, but must be an odd number from 1 to 255", ""),
        (
            "label connectivity=7",
            "`connectivity` of step 1 (label) takes 6, 18 or 26 (for 2-D images also 4 or 8), but got 7\n  label connectivity=7\n        ^^^^^^^^^^^^^^",
            "",
        ),
        ("gaussian sigma=1 sigma=2", "sigma", ""),
        ("threshold", "step 1 (threshold)", ""),
        ("threshold above=1 below=2", "step 1 (threshold)", ""),
        ("label contacts=7", "`contacts` of step 1 (label) takes none, 6, 18 or 26", ""),
        ("label contacts=6 | label contacts=6", "step 1 (label) asks for contacts that a later step's", "add save"),
        ("label min_voxels=9 max_voxels=3", "`max_voxels` is 3, but `min_voxels` is 9", ""),
        ("threshold above=1 | objects", "step 2 (objects) takes integer labels, but gets bool", "put a label"),
    ] {
        refused(&desk, &format!("in.zarr --steps '{steps}'"), message).hints(hint);
    }
}

#[test]
fn flags_are_read_strictly() {
    let desk = desk();
    for (flags, message) in [
        ("--region 5:5,:,:", "`region` 5:5,:,: leaves no voxel along z, which is 16 voxels long"),
        ("--region 0:3", "region"),
        ("--chunks 0", "`chunks` is 0, but must be from 1 to 65536"),
        ("--shards 3.5", "--shards: `3.5` is not a number"),
        ("--codec lzma", "\"lzma\" is no codec"),
        ("--block 0", "--block: a block has at least one voxel along each axis"),
        ("--block 4,4", "--block"),
        ("--workers 0", "--workers, --segment and --range-rows are at least 1"),
        ("--memory lots", "\"lots\" is no size: write a number and a unit, as in 512MiB or 1.5GiB"),
        ("--channel 3", "channel"),
        ("--level 2", "level"),
    ] {
        refused(&desk, &format!("in.zarr --steps 'median size=3' {flags}"), message);
    }
}

#[test]
fn an_output_is_never_its_input() {
    let desk = desk();
    let before = desk.files("in.zarr");
    for output in ["in.zarr", "./x/../in.zarr", "in.zarr/c/out", "link/out"] {
        let _ = symlink(desk.path("in.zarr"), desk.path("link"));
        desk.run(&format!("run in.zarr -o {output} --steps 'median size=3' --overwrite"))
            .badly(2, "lies inside the input")
            .hints("choose another folder with -o or `output`");
    }
    assert_eq!(desk.files("in.zarr"), before);
}

#[test]
fn an_input_that_lies_in_its_output_survives() {
    let desk = Desk::new();
    small().write(&desk, "out/result.zarr", blobs);
    let before = desk.files("out");
    desk.run("run out/result.zarr -o out --steps 'median size=3' --overwrite").badly(2, "the input ").hints("-o");
    desk.run("run out/result.zarr -o out --steps 'median size=3'").badly(2, "the input ");
    assert_eq!(desk.files("out"), before);
}

#[test]
fn what_is_no_array_is_told() {
    let desk = desk();
    refused(&desk, "nothing.zarr", "nothing at ");
    desk.write("scan.tif", b"II*\0\x08\0\0\0");
    let tiff = refused(&desk, "scan.tif", "scan.tif is a TIFF file, not a Zarr array");
    tiff.hints(&format!("voxmill import {} {}", desk.path("scan.tif").display(), desk.path("scan.zarr").display()));
    fs::create_dir(desk.path("folder")).unwrap();
    refused(&desk, "folder", "folder");
    desk.write("broken.zarr/zarr.json", "{");
    refused(&desk, "broken.zarr", "broken.zarr/zarr.json is not a JSON object");
    refused(&desk, "gs://lab/foam.zarr", "gs:// is not built into this voxmill").hints("--features pipeline/gcs");
}

#[test]
fn an_image_without_voxels_is_refused() {
    let desk = Desk::new();
    Image::new([0, 16, 16], Dtype::U8, 8).write_empty(&desk, "in.zarr");
    refused(&desk, "in.zarr", "no voxels");
    refused(&desk, "in.zarr --steps 'median size=3'", "no voxels");
}

#[test]
fn chunks_proposed_for_little_memory_are_smaller_than_those_there_are() {
    let desk = Desk::new();
    Image::new([256, 256, 256], Dtype::U8, 64).write_empty(&desk, "in.zarr");
    let job = "in.zarr --steps 'gaussian sigma=2' --memory 50MiB --workers 1 --shards none";
    let large = refused(&desk, &format!("{job} --chunks 256"), "but --memory is 50 MiB");
    assert!(large.stderr.contains("or smaller chunks, as with --chunks 128"), "{}", large.stderr);
}

#[test]
fn too_little_memory_is_told_in_numbers() {
    let desk = Desk::new();
    Image::new([256, 256, 256], Dtype::U8, 64).write_empty(&desk, "in.zarr");
    let job = "in.zarr --steps 'gaussian sigma=2'";
    let told = refused(&desk, &format!("{job} --memory 50MiB --workers 1"), "voxels, but --memory is 50 MiB");
    assert!(
        told.stderr.contains("needs ") && told.stderr.contains("or smaller shards: --shards none"),
        "{}",
        told.stderr
    );
    let (_, hint) = told.stderr.split_once("hint: give it --memory ").unwrap();
    // What the hint names is enough, and what is a little less is not.
    let enough: u64 = hint.split_once("MiB").unwrap().0.parse().unwrap();
    desk.run(&format!("plan {job} --workers 1 --memory {enough}MiB")).well();
    desk.run(&format!("plan {job} --workers 1 --memory {}MiB", enough - 2)).badly(2, "but --memory is ");
    desk.run(&format!("plan {job} --workers 1 --memory 100MiB --chunks 64 --shards none")).well();
}

/// A small file system of its own, where the test may mount one.
struct Mounted(PathBuf);

impl Mounted {
    fn new(at: PathBuf, options: &str) -> Option<Self> {
        fs::create_dir_all(&at).unwrap();
        mount(&["-t", "tmpfs", "-o", options, "tmpfs", at.to_str().unwrap()]).then_some(Self(at))
    }

    fn remount(&self, options: &str) {
        assert!(mount(&["-o", &format!("remount,{options}"), self.0.to_str().unwrap()]), "can't remount");
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

fn mount(args: &[&str]) -> bool {
    Command::new("mount").args(args).output().is_ok_and(|out| out.status.success())
}

/// Incompressible output, so that its size is known.
const LARGE: &str =
    "run in.zarr --steps 'rescale multiply=1.7' --codec none --chunks 16 --shards none --block 16 --quiet";

#[test]
fn a_full_disk_is_told_and_the_run_resumes() {
    let desk = Desk::new();
    Image::new([64, 64, 64], Dtype::U8, 16).write(&desk, "in.zarr", blobs);
    desk.run(&format!("{LARGE} -o calm")).well();
    let Some(disk) = Mounted::new(desk.path("disk"), "size=600k") else {
        eprintln!("skipped: no file system can be mounted here");
        return;
    };
    desk.run(&format!("{LARGE} -o disk/out"))
        .badly(4, ": the disk is full")
        .hints("free some space and run the same command again");
    desk.holds_no_answer("disk/out");
    disk.remount("size=64m");
    desk.run(&format!("{LARGE} -o disk/out")).well();
    assert!(desk.answers("disk/out") == desk.answers("calm"));
}

#[test]
fn a_limit_on_file_sizes_is_told_and_the_run_resumes() {
    let desk = Desk::new();
    Image::new([64, 64, 64], Dtype::U8, 16).write(&desk, "in.zarr", blobs);
    desk.run(&format!("{LARGE} -o calm")).well();
    let line = format!("{LARGE} -o out");
    let mut command = desk.command(&line);
    // SAFETY: both calls are safe between fork and exec.
    unsafe {
        command.pre_exec(|| {
            let limit = libc::rlimit { rlim_cur: 10_000, rlim_max: 10_000 };
            libc::signal(libc::SIGXFSZ, libc::SIG_IGN);
            match libc::setrlimit(libc::RLIMIT_FSIZE, &limit) {
                0 => Ok(()),
                _ => Err(std::io::Error::last_os_error()),
            }
        });
    }
    Started::new(command, &line).end().badly(4, "can't write ").hints("ulimit -f");
    desk.holds_no_answer("out");
    desk.run(&line).well();
    assert!(desk.answers("out") == desk.answers("calm"));
}

#[test]
fn an_output_that_can_not_be_written_is_told() {
    let desk = desk();
    desk.write("file", "mine");
    desk.run("run in.zarr -o file/out").badly(2, "file/out/").hints("choose an output you may write to");
    desk.run("run in.zarr -o file").badly(2, "file").hints("choose an output you may write to");
    assert_eq!(fs::read(desk.path("file")).unwrap(), b"mine");
    let Some(disk) = Mounted::new(desk.path("disk"), "size=1m") else {
        eprintln!("skipped in part: no file system can be mounted here");
        return;
    };
    disk.remount("ro");
    desk.run("run in.zarr -o disk/out").badly(2, "Read-only file system").hints("choose an output you may write to");
}
