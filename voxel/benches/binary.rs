//! How fast the kernels of binary images, labels and counts are, one thread, in million voxels a second.
//!
//! `cargo bench -p voxel --bench binary [-- WORD...]` times every case whose name holds one of the words. Each is run
//! several times over and the fastest counts, in time of the processor: what else the machine does only adds. Inputs are
//! of the size of a block, and of three kinds: `blobs` (overlapping spheres), `noisy` (the same, with a voxel in seven hundred
//! flipped, as a threshold of a noisy image leaves it) and `random` (each voxel by itself, a third of them foreground).
#![allow(clippy::print_stdout)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use voxel::histogram::{PercentileSearch, Tally};
use voxel::label::{Connectivity, label};
use voxel::morphology::{Footprint, Outside, close, erode};
use voxel::runs::{Runs, of_values};
use voxel::table::{Objects, measure};
use voxel::threshold::{Cut, Threshold, threshold};
use voxel::{AnyElement, AnyVolume, Extent, Region, Volume};

/// Voxels along each axis.
const N: usize = 256;

/// A case is repeated for this long, and [`RUNS_MIN`] times at least.
const PATIENCE: Duration = Duration::from_millis(800);
const RUNS_MIN: usize = 3;

fn main() {
    // cargo itself passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let bench = Bench { words };
    let extent = Extent { shape: [N; 3], planar: false };
    let kinds = [("blobs", blobs(0)), ("noisy", blobs(700)), ("random", random_third())];

    thresholds(&bench, extent);
    for (name, mask) in &kinds[..2] {
        morphology(&bench, extent, name, mask);
    }
    for (name, mask) in &kinds {
        labels(&bench, extent, name, mask);
    }
    counts(&bench, extent);
}

struct Bench {
    words: Vec<String>,
}

impl Bench {
    /// Times `run` on what `prepare` makes, which is not timed.
    fn case<I, O>(&self, name: &str, prepare: impl Fn() -> I, run: impl Fn(I) -> O) {
        if !self.words.is_empty() && !self.words.iter().any(|word| name.contains(word.as_str())) {
            return;
        }
        let (start, mut best, mut runs) = (Instant::now(), Duration::MAX, 0);
        while runs < RUNS_MIN || start.elapsed() < PATIENCE {
            let input = prepare();
            let from = processor_time();
            let output = black_box(run(black_box(input)));
            best = best.min(processor_time() - from);
            drop(output);
            runs += 1;
        }
        println!("{name:<40}{:>10.0} Mvoxel/s", (N * N * N) as f64 / best.as_secs_f64() / 1e6);
    }
}

/// How long this thread has been computing.
fn processor_time() -> Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the clock writes to the place it is given.
    unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &raw mut time) };
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

fn thresholds(bench: &Bench, extent: Extent) {
    let region = extent.region();
    let rule = Threshold { cut: Cut::Below(120.0), invert: false };
    macro_rules! of_type {
        ($($t:ty)*) => {$(
            let image = grey::<$t>(|v| v as $t);
            let name = concat!("threshold/", stringify!($t));
            bench.case(name, || image.clone(), |image| threshold(image, region, &rule));
        )*};
    }
    of_type!(u8 u16 f32 f64);
}

fn morphology(bench: &Bench, extent: Extent, kind: &str, mask: &Volume<bool>) {
    let region = extent.region();
    let balls = [1.0, 2.0, 3.0, 4.0, 8.0, 12.0, 16.0, 20.0, 24.0, 32.0, 40.0, 64.0];
    let mut footprints: Vec<_> = balls.map(|r| (format!("ball{r}"), Footprint::Ball([r; 3]))).to_vec();
    footprints.extend([
        ("ellipsoid".to_owned(), Footprint::Ball([2.3, 4.1, 7.7])),
        ("cross5".to_owned(), Footprint::Cross(5)),
        ("box3".to_owned(), Footprint::Box([3; 3])),
        ("box12".to_owned(), Footprint::Box([12; 3])),
    ]);
    for (name, footprint) in footprints {
        let image = || AnyVolume::from(mask.clone());
        bench.case(&format!("erode/{kind}/{name}"), image, |v| erode(v, region, extent, footprint, Outside::Ignore));
    }
    let ball = Footprint::Ball([3.0; 3]);
    let image = || AnyVolume::from(mask.clone());
    bench.case(&format!("close/{kind}/ball3"), image, |v| close(v, region, extent, ball, Outside::Ignore));
}

fn labels(bench: &Bench, extent: Extent, kind: &str, mask: &Volume<bool>) {
    let region = extent.region();
    let image: AnyVolume = mask.clone().into();
    for connectivity in [Connectivity::Six, Connectivity::TwentySix] {
        let name = format!("label/{kind}/{}", u8::from(connectivity));
        bench.case(&name, || (), |()| label(&image, region, connectivity));
    }
    let runs = label(&image, region, Connectivity::Six);
    let rows = |intensity: Option<&AnyVolume>| {
        measure(&runs, 1..runs.labels + 1, &image, Objects::Components, intensity, extent)
    };
    bench.case(&format!("measure/{kind}/shape"), || (), |()| rows(None));
    let intensities = [("u8", grey::<u8>(|v| v as u8)), ("u16", grey::<u16>(|v| v as u16)), ("f32", grey(|v| v))];
    for (name, intensity) in &intensities {
        bench.case(&format!("measure/{kind}/{name}"), || (), |()| rows(Some(intensity)));
    }
    bench.case(
        &format!("label+measure/{kind}/u8"),
        || (),
        |()| {
            let runs = label(&image, region, Connectivity::Six);
            measure(&runs, 1..runs.labels + 1, &image, Objects::Components, Some(&intensities[0].1), extent)
        },
    );

    let mut bytes = Vec::new();
    runs.encode(&mut bytes);
    bench.case(
        &format!("runs/{kind}/encode"),
        || (),
        |()| {
            let mut bytes = Vec::new();
            runs.encode(&mut bytes);
            bytes
        },
    );
    bench.case(&format!("runs/{kind}/decode"), || (), |()| Runs::decode(region, &bytes));
    bench.case(&format!("runs/{kind}/paint"), || (), |()| runs.paint(|label| label));
    let painted: AnyVolume = runs.paint(|label| label).into();
    bench.case(&format!("runs/{kind}/of_values"), || (), |()| of_values(&painted, region));
}

fn counts(bench: &Bench, extent: Extent) {
    let region = extent.region();
    let tally = |image: &AnyVolume| {
        let mut tally = Tally::new(image.dtype());
        tally.add(image, region);
        tally
    };
    let flat: AnyVolume = Volume::new(region, vec![60u8; region.voxels()]).into();
    bench.case("histogram/flat/u8", || (), |()| tally(&flat));
    macro_rules! of_type {
        ($($t:ty)*) => {$(
            let image = grey::<$t>(|v| (v * 100.0) as $t);
            bench.case(concat!("histogram/noisy/", stringify!($t)), || (), |()| tally(&image));
        )*};
    }
    let image = grey::<u8>(|v| v as u8);
    bench.case("histogram/noisy/u8", || (), |()| tally(&image));
    of_type!(u16 u32 f32 f64);
    let image = grey::<f32>(|v| v);
    let wanted = PercentileSearch::new(&tally(&image), &[1.0, 50.0, 99.0]).and_then(|search| search.wanted());
    if let Some(wanted) = wanted {
        bench.case(
            "percentile/noisy/f32",
            || wanted.clone(),
            |mut wanted| {
                wanted.add(&image, region);
                wanted
            },
        );
    }
}

/// Numbers that look random, the same every time (Vigna's splitmix64).
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, n: usize) -> usize {
        (self.next() % n as u64) as usize
    }
}

/// Spheres that cover about a third; where `flips` is not 0, one voxel in so many is flipped.
fn blobs(flips: usize) -> Volume<bool> {
    let mut random = Random(1);
    let mut volume = Volume::zeros(Region::whole([N; 3]));
    for i in 0..N * N * N / 20_000 {
        let radius = if i % 4 == 0 { 16 } else { 6 + random.below(8) };
        let centre = [0; 3].map(|_: usize| random.below(N));
        let range = |axis: usize| centre[axis].saturating_sub(radius)..(centre[axis] + radius + 1).min(N);
        for z in range(0) {
            for y in range(1) {
                for x in range(2) {
                    let d = [z, y, x].into_iter().zip(centre).map(|(a, b)| a.abs_diff(b).pow(2)).sum::<usize>();
                    let offset = volume.offset([z, y, x]);
                    volume.data[offset] |= d <= radius * radius;
                }
            }
        }
    }
    if flips > 0 {
        volume.data.iter_mut().for_each(|voxel| *voxel ^= random.below(flips) == 0);
    }
    volume
}

fn random_third() -> Volume<bool> {
    let mut random = Random(2);
    let region = Region::whole([N; 3]);
    Volume::new(region, (0..region.voxels()).map(|_| random.below(3) == 0).collect())
}

/// Dark blobs in a bright image, with noise.
fn grey<T: AnyElement>(from: impl Fn(f32) -> T) -> AnyVolume {
    let (mask, mut random) = (blobs(0), Random(3));
    let data = mask.data.iter().map(|inside| {
        let noise: u64 = (0..4).map(|_| random.next() >> 58).sum();
        from(if *inside { 60.0 } else { 180.0 } + (noise as f32 - 126.0) / 2.0)
    });
    T::wrap(Volume::new(mask.region, data.collect()))
}
