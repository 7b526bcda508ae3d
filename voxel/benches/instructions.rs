//! One kernel, run once, for whoever counts its instructions: `instructions NAME [baseline|avx2]`, and without
//! arguments the names. `bench/instructions` is who does.
//!
//! What is counted is the kernel alone, inside [`measured`]; its input, a block inside a larger image, is made before. How
//! long kernels take is for the other benches to say.
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::process::ExitCode;

use voxel::filter::{Boundary, Gaussian, Input, Median, Rescale};
use voxel::histogram::Tally;
use voxel::label::{Connectivity, label};
use voxel::morphology::{Footprint, Outside, erode};
use voxel::runs::Runs;
use voxel::simd::{self, Level};
use voxel::table::{Objects, measure};
use voxel::threshold::{Cut, Threshold, threshold};
use voxel::{AnyVolume, Dtype, Extent, Region, Volume};

/// Voxels of the block along each axis: rows of whole vectors, and more work than a kernel needs to begin.
const SIDE: usize = 64;

/// What the image has around the block: as much as the widest kernel looks at.
const MARGIN: usize = 24;

const EXTENT: Extent = Extent { shape: [SIDE + 2 * MARGIN; 3], planar: false };

/// A kernel by its name, ready to be run.
type Kernel = (&'static str, fn() -> Box<dyn FnOnce()>);

const KERNELS: [Kernel; 18] = [
    ("gaussian9-u8", || gaussian(1.0, Dtype::U8)),
    ("gaussian9-f32", || gaussian(1.0, Dtype::F32)),
    ("gaussian49-u8", || gaussian(6.0, Dtype::U8)),
    ("gaussian49-f32", || gaussian(6.0, Dtype::F32)),
    ("gaussian49-u8-above", || compared(Input::Whole, Cut::Above(120.5))),
    ("gaussian49-rescaled-above", || {
        let rescaled = |input| Input::Rescaled(input, Rescale { divide: 255.0, invert: true, ..Rescale::default() });
        compared(rescaled, Cut::Above(1.0 - 120.5 / 255.0))
    }),
    ("median3-u8", || median(3)),
    ("median5-u8", || median(5)),
    ("threshold-u8", || {
        let input = grown(0);
        ready(move || threshold(input, block(), &DARK))
    }),
    ("erode3", || erosion(3)),
    ("erode12", || erosion(12)),
    ("label6", || {
        let mask = mask(0);
        ready(move || label(&mask, block(), Connectivity::Six))
    }),
    ("label26", || {
        let mask = mask(0);
        ready(move || label(&mask, block(), Connectivity::TwentySix))
    }),
    ("measure-u8", || {
        let (runs, mask, grey) = (labelled(), mask(1), grown(0));
        ready(move || measure(&runs, 1..runs.labels + 1, &mask, Objects::Components, Some(&grey), EXTENT))
    }),
    ("histogram-u8", || {
        let grey = grown(0);
        ready(move || {
            let mut tally = Tally::new(Dtype::U8);
            tally.add(&grey, block());
            tally
        })
    }),
    ("runs-encode", || {
        let runs = labelled();
        ready(move || {
            let mut bytes = Vec::new();
            runs.encode(&mut bytes);
            bytes
        })
    }),
    ("runs-decode", || {
        let mut bytes = Vec::new();
        labelled().encode(&mut bytes);
        ready(move || Runs::decode(block(), &bytes))
    }),
    ("paint-u32", || {
        let runs = labelled();
        ready(move || runs.paint(|label| label))
    }),
];

fn main() -> ExitCode {
    // Cargo says `--bench` to every bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let Some(name) = words.first() else {
        KERNELS.iter().for_each(|(name, _)| println!("{name}"));
        return ExitCode::SUCCESS;
    };
    let most = match words.get(1).map(String::as_str) {
        Some("baseline") => Level::Baseline,
        Some("avx2") => Level::Avx2,
        _ => Level::Avx512,
    };
    if simd::keep_to(most) != most && words.len() > 1 {
        eprintln!("this processor has no {}", most.name());
        return ExitCode::FAILURE;
    }
    let Some((_, kernel)) = KERNELS.iter().find(|(kernel, _)| kernel == name) else {
        eprintln!("there is no kernel {name:?}");
        return ExitCode::FAILURE;
    };
    measured(kernel());
    ExitCode::SUCCESS
}

/// Instructions are counted from here to its end.
#[inline(never)]
fn measured(kernel: Box<dyn FnOnce()>) {
    black_box(kernel)();
}

/// A kernel whose result is looked at, so that it is computed, and never freed, so that this is not counted.
fn ready<R: 'static>(kernel: impl FnOnce() -> R + 'static) -> Box<dyn FnOnce()> {
    Box::new(move || std::mem::forget(black_box(kernel())))
}

const DARK: Threshold = Threshold { cut: Cut::Below(120.0), invert: false };

/// The part of the image that kernels are asked for.
fn block() -> Region {
    Region::new([MARGIN; 3], [SIDE; 3])
}

/// Grey values of the block and so many voxels around it: dark spheres in a bright rest, with noise.
fn grown(halo: usize) -> AnyVolume {
    let region = block().grown([halo; 3], EXTENT.shape);
    let mut state = 1u32;
    let [zs, ys, xs] = [0, 1, 2].map(|axis| region.start[axis]..region.end[axis]);
    let mut data = Vec::with_capacity(region.voxels());
    for z in zs {
        for y in ys.clone() {
            for x in xs.clone() {
                let far: usize = [z, y, x].iter().map(|at| (at % 32).abs_diff(16).pow(2)).sum();
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                data.push(if far < 169 { 30 } else { 150 } + (state >> 26) as u8);
            }
        }
    }
    // A voxel in two hundred is the other way round: specks and holes.
    data.iter_mut().step_by(199).for_each(|v| *v = 210 - *v);
    Volume::new(region, data).into()
}

/// What is dark of the block and so many voxels around it.
fn mask(halo: usize) -> AnyVolume {
    let input = grown(halo);
    let region = input.region();
    threshold(input, region, &DARK)
}

fn labelled() -> Runs {
    label(&mask(0), block(), Connectivity::Six)
}

fn gaussian(sigma: f64, dtype: Dtype) -> Box<dyn FnOnce()> {
    let filter = Gaussian::new([sigma; 3], 4.0, Boundary::Reflect);
    let input = grown(filter.halo()[0]);
    let region = input.region();
    let input = voxel::filter::cast(input, region, dtype);
    ready(move || filter.apply(input, block(), EXTENT))
}

/// A Gaussian of which nothing counts but the side of a number.
fn compared(read: fn(AnyVolume) -> Input<'static>, cut: Cut) -> Box<dyn FnOnce()> {
    let filter = Gaussian::new([6.0; 3], 4.0, Boundary::Reflect);
    let input = read(grown(filter.halo()[0]));
    ready(move || filter.stream(input, block(), EXTENT, Some(cut), &mut |planes| drop(black_box(planes))))
}

fn median(width: usize) -> Box<dyn FnOnce()> {
    let filter = Median { size: [width; 3], boundary: Boundary::Reflect };
    let input = grown(width / 2);
    ready(move || filter.apply(input, block(), EXTENT))
}

fn erosion(radius: usize) -> Box<dyn FnOnce()> {
    let (input, ball) = (mask(radius), Footprint::Ball([radius as f64; 3]));
    ready(move || erode(input, block(), EXTENT, ball, Outside::Ignore))
}
