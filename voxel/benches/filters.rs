//! How fast the kernels are, one thread: `cargo bench -p voxel --bench filters [WORD ...]` runs those whose line holds
//! every word.
//!
//! Each works on a block of 256 x 256 x 256 voxels inside a larger image, as a block of a run does, and on noise, which
//! no branch predictor and no run of equal voxels can help. A rate is that of the fastest of a few runs, in the thread's
//! own CPU time, so that other programs disturb it little; the memory it takes is not new to the process, since pages that
//! are would cost more than many a kernel. The hash is of the result: two versions that print the same one compute the
//! same bits.

use std::hint::black_box;
use std::time::Duration;
use voxel::filter::{Boundary, Clip, End, Extreme, Gaussian, Input, Mean, Median, Rescale, cast};
use voxel::morphology::{Footprint, Outside, erode};
use voxel::threshold::{Cut, Threshold, threshold};
use voxel::{AnyVolume, Dtype, Element, Extent, Region, Volume, with_dtype};

/// Voxels of a block along each axis.
const SIDE: usize = 256;
/// What the image has around the block: more than any kernel here looks at.
const MARGIN: usize = 32;
/// A kernel runs until it has been measured for this long, and at least twice.
const MEASURED_MIN: Duration = Duration::from_millis(400);
/// And no more often than this: a volume that is handed on as it is takes no time at all.
const RUNS_MAX: usize = 100;

type Kernel = Box<dyn Fn(AnyVolume, Region, Extent) -> AnyVolume>;

/// Every kernel with its halo and the types it is measured on.
fn kernels() -> Vec<(&'static str, [usize; 3], &'static [Dtype], Kernel)> {
    const USUAL: &[Dtype] = &[Dtype::U8, Dtype::U16, Dtype::F32];
    let mut all: Vec<(&'static str, [usize; 3], &'static [Dtype], Kernel)> = Vec::new();
    for (name, sigma) in [
        ("gaussian 1 1 1", [1.0; 3]),
        ("gaussian 3 6 6", [3.0, 6.0, 6.0]),
        ("gaussian 0 2 2", [0.0, 2.0, 2.0]),
        ("gaussian 2 0 0", [2.0, 0.0, 0.0]),
        ("gaussian 0 0 6", [0.0, 0.0, 6.0]),
    ] {
        let filter = Gaussian::new(sigma, 4.0, Boundary::Reflect);
        all.push((name, filter.halo(), USUAL, Box::new(move |v, out, extent| filter.apply(v, out, extent))));
    }
    let filter = Gaussian::new([3.0, 6.0, 6.0], 4.0, Boundary::Reflect);
    let halo = filter.halo();
    let cut = move |v, out, extent| {
        let above = Threshold { cut: Cut::Above(130.0), invert: false };
        let mut all = AnyVolume::without_planes(Dtype::Bool, out);
        let mut take = |planes: AnyVolume| {
            let part = planes.region();
            all.add_planes(&threshold(planes, part, &above));
        };
        filter.stream(Input::Whole(v), out, extent, Some(above.cut), &mut take);
        all
    };
    all.push(("gaussian 3 6 6, cut", halo, USUAL, Box::new(cut)));
    for (name, size) in [
        ("median 3 3 3", [3; 3]),
        ("median 5 5 5", [5; 3]),
        ("median 1 3 3", [1, 3, 3]),
        ("median 1 5 5", [1, 5, 5]),
        ("median 3 5 5", [3, 5, 5]),
        ("median 7 7 7", [7; 3]),
    ] {
        let filter = Median { size, boundary: Boundary::Reflect };
        let dtypes = if size == [7; 3] { &USUAL[..1] } else { USUAL };
        all.push((name, filter.halo(), dtypes, Box::new(move |v, out, extent| filter.apply(v, out, extent))));
    }
    for (name, size) in [("mean 3 3 3", [3; 3]), ("mean 9 9 9", [9; 3])] {
        let filter = Mean { size, boundary: Boundary::Reflect };
        all.push((name, filter.halo(), USUAL, Box::new(move |v, out, extent| filter.apply(v, out, extent))));
    }
    for (name, end, size) in [("minimum 3 3 3", End::Minimum, [3; 3]), ("maximum 9 9 9", End::Maximum, [9; 3])] {
        let filter = Extreme { end, size, boundary: Boundary::Reflect };
        all.push((name, filter.halo(), USUAL, Box::new(move |v, out, extent| filter.apply(v, out, extent))));
    }
    let ball = Footprint::Ball([3.0; 3]);
    all.push((
        "erode ball 3",
        [3; 3],
        &[Dtype::Bool],
        Box::new(move |v, out, extent| erode(v, out, extent, ball, Outside::Ignore)),
    ));
    let rescale = Rescale { divide: 255.0, add: 0.5, ..Rescale::default() };
    all.push(("rescale", [0; 3], USUAL, Box::new(move |v, out, _| rescale.apply(v, out))));
    let clip = Clip { low: 20.0, high: 90.0 };
    all.push(("clip", [0; 3], USUAL, Box::new(move |v, out, _| clip.apply(v, out))));
    for (name, to) in [("cast to uint8", Dtype::U8), ("cast to float32", Dtype::F32)] {
        all.push((name, [0; 3], USUAL, Box::new(move |v, out, _| cast(v, out, to))));
    }
    let above = Threshold { cut: Cut::Above(100.0), invert: false };
    all.push(("threshold", [0; 3], USUAL, Box::new(move |v, out, _| threshold(v, out, &above))));
    all
}

/// Noise, the same each time: a linear congruential generator's high bits.
fn noise(dtype: Dtype, region: Region) -> AnyVolume {
    let mut state = 1u64;
    with_dtype!(dtype, T => {
        let voxels = (0..region.voxels()).map(|_| {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bits = state >> 40;
            <T as Element>::from_f64(if dtype == Dtype::Bool {
                f64::from(bits & 63 != 0)
            } else {
                bits as f64 / f64::from(1u32 << 24) * 256.0
            })
        });
        Volume::<T>::new(region, voxels.collect()).into()
    })
}

/// FNV-1a, in steps of eight bytes.
fn hash(volume: &AnyVolume) -> u64 {
    volume.to_le_bytes().chunks(8).fold(0xcbf2_9ce4_8422_2325, |hash, bytes| {
        let word = bytes.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
        (hash ^ word).wrapping_mul(0x100_0000_01b3)
    })
}

/// CPU time of this thread.
#[cfg(unix)]
fn spent() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the call fills the record it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Time since the first call, where a thread's own is not to be had.
#[cfg(not(unix))]
fn spent() -> Duration {
    static START: std::sync::OnceLock<std::time::Instant> = std::sync::OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed()
}

/// Tells the allocator to give back nothing to the system.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
fn keep_memory() {
    // SAFETY: these set limits of the allocator, before there is a second thread.
    unsafe {
        libc::mallopt(libc::M_MMAP_MAX, 0);
        libc::mallopt(libc::M_TRIM_THRESHOLD, i32::MAX);
    }
}

/// Other allocators are taken as they are.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
fn keep_memory() {}

#[allow(clippy::print_stdout)]
fn main() {
    keep_memory();
    println!("{}", voxel::simd::level().name());
    // Cargo says `--bench` to every bench.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with("--")).collect();
    let extent = Extent { shape: [SIDE + 2 * MARGIN; 3], planar: false };
    let out = Region::new([MARGIN; 3], [SIDE; 3]);
    for (name, halo, dtypes, kernel) in kernels() {
        for dtype in dtypes {
            let line = format!("{name:<20} {:<8}", dtype.name());
            if !words.iter().all(|word| line.contains(word.as_str())) {
                continue;
            }
            let input = noise(*dtype, out.grown(halo, extent.shape));
            let (mut best, mut all, mut runs) = (Duration::MAX, Duration::ZERO, 0);
            let mut result = 0;
            while runs < 2 || all < MEASURED_MIN && runs < RUNS_MAX {
                let input = input.clone();
                let start = spent();
                let output = black_box(kernel(black_box(input), out, extent));
                let took = spent() - start;
                (best, all, runs) = (best.min(took), all + took, runs + 1);
                if runs == 1 {
                    result = hash(&output);
                }
            }
            let rate = out.voxels() as f64 / best.as_secs_f64() / 1e6;
            println!("{line} {rate:8.0} Mvoxel/s  {result:016x}");
        }
    }
}
