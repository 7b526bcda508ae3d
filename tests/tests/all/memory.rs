//! The promise on memory: the process never has more than `voxmill plan` says, and the plan does not ask for much more
//! than is used.

use voxel::Dtype;

use crate::program::{Desk, Image, blobs, noise};

/// Peak and projection of a job, in bytes.
struct Measured {
    job: String,
    projected: u64,
    peak: u64,
}

impl Measured {
    fn of(desk: &Desk, job: &str, how: &str) -> Self {
        let job = format!("{job} {how}");
        let plan = desk.run(&format!("plan {job} --json")).well().json();
        let ended = desk.run(&format!("run {job} -o out --overwrite --quiet")).well();
        let projected = plan["memory_bytes"].as_u64().unwrap();
        eprintln!("{:4} of {:4} MiB  {job}", ended.peak_bytes >> 20, projected >> 20);
        Self { job, projected, peak: ended.peak_bytes }
    }
}

#[test]
fn probe() {
    let desk = Desk::new();
    Image::new([8, 8, 8], Dtype::U8, 8).write(&desk, "tiny", noise(200));
    Image::new([256, 384, 384], Dtype::U8, 64).write_tiled(&desk, "u8", noise(200));
    Image::new([256, 384, 384], Dtype::U16, 64).write_tiled(&desk, "u16", noise(60000));
    Image::new([256, 384, 384], Dtype::F32, 64).write_tiled(&desk, "f32", noise(60000));
    Image::new([256, 384, 384], Dtype::U8, 64).write_tiled(&desk, "blobs", blobs);
    for (steps, inputs) in [
        ("", vec!["tiny", "u8", "u16", "f32"]),
        ("gaussian sigma=2", vec!["tiny", "u8", "u16", "f32"]),
        ("median size=3", vec!["u8", "u16"]),
        ("gaussian sigma=1 | threshold above=100 | open ball=2", vec!["u8"]),
        ("threshold above=100 | label", vec!["u8"]),
        ("threshold above=150 | label", vec!["tiny", "blobs"]),
        ("objects", vec!["u8", "blobs"]),
    ] {
        for input in inputs {
            for workers in [1, 2] {
                for memory in ["256MiB", "512MiB", "1GiB", "2GiB"] {
                    let job = format!("{input} --steps '{steps}'");
                    let how = format!("--memory {memory} --workers {workers}");
                    let ended = desk.run(&format!("plan {job} {how}"));
                    if ended.status.code() != Some(0) {
                        eprintln!("             {job} {how}: {}", ended.stderr.lines().next().unwrap());
                        continue;
                    }
                    let m = Measured::of(&desk, &job, &how);
                    if m.peak > m.projected { eprintln!("OVER {}", m.job); }
                }
            }
        }
    }
}
