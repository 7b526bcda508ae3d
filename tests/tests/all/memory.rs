//! The promise on memory: a process never has more than `voxmill plan` says, and where that is much, a filter job does
//! not ask for much more than it uses.

use voxel::Dtype;

use crate::program::{Desk, Image, blobs, noise};

const MIB: u64 = 1 << 20;

/// Runs a job and holds its peak against the plan's projection. Gives both in bytes.
#[track_caller]
fn keeps_to_its_plan(desk: &Desk, job: &str) -> (u64, u64) {
    let plan = desk.run(&format!("plan {job} --json")).well().json();
    let projected = plan["memory_bytes"].as_u64().unwrap();
    assert!(projected <= plan["memory_limit_bytes"].as_u64().unwrap(), "{job}");
    let peak = desk.run(&format!("run {job} -o out --overwrite --quiet")).well().peak_bytes;
    eprintln!("{:5} of {:5} MiB: {job}", peak / MIB, projected / MIB);
    assert!(peak <= projected, "{job}: {} MiB, but {} MiB were projected", peak / MIB, projected / MIB);
    (peak, projected)
}

/// The same for a job of filters, whose projection is no worst case and so must not be far off.
#[track_caller]
fn keeps_close_to_its_plan(desk: &Desk, job: &str) {
    uses_of_its_plan(desk, job, 50);
}

/// The same, where so many percent are used at least. The plan counts all chunks that a layer of blocks reads, though those
/// that no block to come will read are let go of: so much it may be too high.
#[track_caller]
fn uses_of_its_plan(desk: &Desk, job: &str, percent: u64) {
    let (peak, projected) = keeps_to_its_plan(desk, job);
    assert!(
        projected <= 512 * MIB || 100 * peak >= percent * projected,
        "{job}: only {} of {} MiB were used",
        peak / MIB,
        projected / MIB
    );
}

#[test]
fn of_filters_on_bytes() {
    let desk = Desk::new();
    Image::new([512, 512, 512], Dtype::U8, 64).write_tiled(&desk, "input", noise(200));
    keeps_close_to_its_plan(&desk, "input --steps 'gaussian sigma=1' --workers 1");
    keeps_close_to_its_plan(&desk, "input --steps 'gaussian sigma=1' --workers 2 --memory 420MiB");
    keeps_close_to_its_plan(&desk, "input --steps 'median size=3' --workers 2 --memory 300MiB");
}

#[test]
fn of_filters_on_floats() {
    let desk = Desk::new();
    let image = |depth| Image::new([depth, 512, 512], Dtype::F32, 64);
    image(256).write_tiled(&desk, "half", noise(1 << 31));
    image(512).write_tiled(&desk, "whole", noise(1 << 31));
    keeps_close_to_its_plan(&desk, "half --steps 'gaussian sigma=1' --workers 1 --memory 500MiB");
    keeps_close_to_its_plan(&desk, "whole --steps 'median size=3' --workers 2");
    // It uses 376 to 386 of 760 MiB, and used 629 when those chunks were kept.
    let steps = "gaussian sigma=1 | threshold above=1e9 | open ball=2";
    uses_of_its_plan(&desk, &format!("whole --steps '{steps}' --workers 2"), 45);
}

#[test]
fn of_filters_on_large_chunks() {
    let desk = Desk::new();
    Image::new([512, 512, 512], Dtype::F32, 256).write_tiled(&desk, "large", noise(1 << 31));
    keeps_to_its_plan(&desk, "large --workers 2");
    // What is decoded at once is all there is to such a job, and two blocks are seldom at it at the same moment.
    keeps_to_its_plan(&desk, "large --steps 'rescale divide=2' --workers 2");
    Image::new([256, 256, 256], Dtype::U16, 32).sharded(8).write_tiled(&desk, "sharded", noise(1 << 16));
    keeps_to_its_plan(&desk, "sharded --steps 'gaussian sigma=2' --chunks 64 --shards none --workers 2");
    keeps_to_its_plan(&desk, "sharded --steps 'rescale divide=2' --chunks 32 --shards none --block 64 --workers 2");
}

#[test]
fn of_high_compression_levels() {
    let desk = Desk::new();
    Image::new([128, 128, 256], Dtype::U8, 64).write_tiled(&desk, "input", noise(4));
    for codec in ["zstd:22", "gzip:9", "blosc:zstd:9"] {
        keeps_to_its_plan(&desk, &format!("input --steps 'cast dtype=uint16' --workers 2 --codec {codec}"));
    }
}

#[test]
fn of_labels() {
    let desk = Desk::new();
    let image = Image::new([256, 256, 512], Dtype::U8, 64);
    image.write_tiled(&desk, "noise", noise(200));
    image.write_tiled(&desk, "blobs", blobs);
    for (input, how) in [
        ("noise", "--workers 1 --memory 600MiB"),
        ("noise", "--workers 2 --memory 1GiB"),
        ("blobs", "--workers 2 --memory 600MiB"),
    ] {
        keeps_to_its_plan(&desk, &format!("{input} --steps 'threshold above=150 | label connectivity=26' {how}"));
    }
    let small_blocks = "--chunks 32 --shards none --block 64 --merge-fanout 2 --range-rows 1000";
    keeps_to_its_plan(&desk, &format!("blobs --steps 'threshold above=150 | label' {small_blocks}"));
    keeps_to_its_plan(&desk, "noise --steps 'gaussian sigma=1 | threshold method=otsu | label' --workers 2");
}

/// Once a run is under way, blocks use the buffers of those before them: twice the blocks make few more of fresh pages. Both
/// volumes are long enough to hold all that is held at once, decoded chunks that are kept for neighbours among it.
#[test]
fn buffers_are_used_again() {
    let desk = Desk::new();
    let image = |depth| Image::new([depth, 256, 256], Dtype::U8, 64);
    image(512).write_tiled(&desk, "half", noise(200));
    image(1024).write_tiled(&desk, "whole", noise(200));
    for steps in ["median size=3", "threshold above=90 | label"] {
        let made = |input: &str| {
            let how = "--block 128 --workers 1 --levels none --shards none --overwrite --quiet";
            desk.run(&format!("run {input} -o out --steps '{steps}' {how}")).well();
            let buffers = desk.json("out/run.json")["buffers"].clone();
            (buffers["fresh"].as_u64().unwrap(), buffers["reused"].as_u64().unwrap())
        };
        let (half, whole) = (made("half"), made("whole"));
        eprintln!("{steps}: {half:?} and {whole:?} buffers, fresh and reused");
        let more = (whole.0.saturating_sub(half.0), whole.1 - half.1);
        assert!(10 * more.0 <= more.1, "{steps}: {half:?}, {whole:?}");
    }
}

#[test]
fn of_measuring() {
    let desk = Desk::new();
    Image::new([8, 8, 8], Dtype::U16, 8).write(&desk, "tiny", noise(200));
    Image::new([256, 256, 512], Dtype::F32, 64).write_tiled(&desk, "floats", noise(1 << 31));
    Image::new([256, 256, 512], Dtype::U8, 64).write_tiled(&desk, "labels", noise(200));
    for workers in [1, 2] {
        for job in ["tiny", "floats", "floats --memory 150MiB", "labels --steps objects", "tiny --steps label"] {
            keeps_to_its_plan(&desk, &format!("{job} --workers {workers}"));
        }
    }
}

#[test]
fn of_jobs_that_go_on_after_labels() {
    let desk = Desk::new();
    let image = Image::new([256, 256, 512], Dtype::U8, 64);
    image.write_tiled(&desk, "noise", noise(200));
    image.write_tiled(&desk, "blobs", blobs);
    let steps = "median size=3 save=calm | threshold above=100 | fill_holes save=filled | label contacts=26 save=cells | \
                 threshold above=5 | label connectivity=26";
    keeps_to_its_plan(&desk, &format!("blobs --steps '{steps}' --workers 2"));
    for how in ["--workers 1 --memory 700MiB", "--workers 2"] {
        keeps_to_its_plan(&desk, &format!("noise --steps '{steps}' --mask blobs --intensity noise {how}"));
    }
    // Levels of shards of 256^3, and of chunks.
    keeps_to_its_plan(&desk, "noise --steps 'rescale divide=3' --levels 4 --workers 2 --memory 600MiB");
    keeps_to_its_plan(&desk, "noise --steps 'cast dtype=uint16' --levels 4 --shards none --workers 2 --memory 200MiB");
}
