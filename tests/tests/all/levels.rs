//! Results do not depend on the vector instructions that a processor has, nor on how many workers there are.

use voxel::Dtype;

use crate::program::{Desk, Image, Started, blobs};

const JOBS: [&str; 4] = [
    "gaussian sigma=0.8,1.3,2 save=smooth | threshold above=100 | open ball=2.5 | label connectivity=26 contacts=6",
    "median size=3 save=median3 | median size=5 save=median5 | median size=1,7,9 | mean size=3",
    "rescale divide=3 | clip low=5 high=70 | maximum size=3,5,1 | minimum size=3 | cast dtype=int16 | threshold method=otsu \
     | erode ball=5 | fill_holes",
    "threshold percentile=60 | dilate cross=2 | close box=1,2,3 | label min_voxels=3",
];

#[test]
fn all_levels_and_all_workers_give_the_same() {
    let desk = Desk::new();
    for dtype in [Dtype::U8, Dtype::U16, Dtype::F32] {
        let input = format!("{dtype}.zarr");
        Image::new([37, 61, 83], dtype, 24).write(&desk, &input, blobs);
        for steps in JOBS {
            let run = |output: &str, workers: usize, level: Option<&str>| {
                let line =
                    format!("run {input} -o {output} --steps '{steps}' --workers {workers} --chunks 16 --overwrite");
                let mut command = desk.command(&line);
                command.envs(level.map(|level| ("VOXMILL_SIMD", level)));
                Started::new(command, &line).end().well();
            };
            run("out", 1, None);
            let best = desk.json("out/run.json")["simd"].clone();
            run("lower", 2, Some("baseline"));
            let lowest = desk.json("lower/run.json")["simd"].clone();
            assert!(cfg!(not(target_arch = "x86_64")) || lowest == "SSE2", "{lowest} was kept to");
            assert!(desk.answers("out") == desk.answers("lower"), "{dtype}: {best} and {lowest} differ in {steps}");
        }
    }
    let line = "info uint8.zarr";
    let mut command = desk.command(line);
    command.env("VOXMILL_SIMD", "mmx");
    Started::new(command, line).end().badly(2, "VOXMILL_SIMD is \"mmx\"");
}
