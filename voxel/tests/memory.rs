//! The promise of every `peak_bytes`: never below what is allocated at once, and not far above.
//!
//! An allocator that counts per thread watches the operations at work.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use voxel::filter::{Boundary, Clip, End, Extreme, Gaussian, Mean, Median, Rescale, cast, cast_peak_bytes};
use voxel::morphology::{Footprint, Outside, close, dilate, erode};
use voxel::pyramid::{Halving, Reduce};
use voxel::threshold::{Cut, Threshold, peak_bytes as threshold_peak_bytes, threshold};
use voxel::{AnyVolume, Dtype, Extent, Region, Volume, with_dtype};

struct Counting;

thread_local! {
    static ALIVE: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

// SAFETY: every request goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        let alive = ALIVE.get().wrapping_add(layout.size());
        ALIVE.set(alive);
        PEAK.set(PEAK.get().max(alive));
        // SAFETY: the caller keeps the allocator's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        ALIVE.set(ALIVE.get().wrapping_sub(layout.size()));
        // SAFETY: the caller keeps the allocator's contract.
        unsafe { System.dealloc(at, layout) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// Runs `op` on a volume made on this thread, and holds the promise against what was allocated.
fn promised(name: &str, dtype: Dtype, input: Region, promise: usize, op: impl FnOnce(AnyVolume) -> AnyVolume) {
    ALIVE.set(0);
    let volume: AnyVolume = with_dtype!(dtype, T => Volume::<T>::zeros(input).into());
    PEAK.set(ALIVE.get());
    let output = op(volume);
    let allocated = PEAK.get();
    drop(output);
    // A few kilobytes of tables and lanes are not voxels.
    assert!(allocated <= promise + (24 << 10), "{name} {dtype}: {allocated} bytes, {promise} promised");
    assert!(promise as f64 <= allocated as f64 * 1.15, "{name} {dtype}: {allocated} bytes, {promise} promised");
}

#[test]
fn promised_peaks_hold() {
    let extent = Extent { shape: [60, 200, 90], planar: false };
    let out = Region::new([5, 10, 0], [40, 150, 80]);
    let grown = |halo: [usize; 3]| [out.grown(halo, extent.shape), extent.region()];
    for dtype in Dtype::ALL {
        for sigma in [[0.0; 3], [1.0; 3], [3.0, 0.0, 2.0], [0.0, 2.0, 0.0]] {
            let gaussian = Gaussian::new(sigma, 4.0, Boundary::Reflect);
            for input in grown(gaussian.halo()) {
                let promise = gaussian.peak_bytes(dtype, input, out);
                promised("gaussian", dtype, input, promise, |v| gaussian.apply(v, out, extent));
            }
        }
        // The last is too large for a network; picking from copies has the same lines and would only be slow.
        let sizes = [[1; 3], [3; 3], [5; 3], [1, 1, 127]];
        for size in &sizes[..if dtype == Dtype::U8 { 4 } else { 3 }] {
            let median = Median { size: *size, boundary: Boundary::Mirror };
            for input in grown(median.halo()) {
                let promise = median.peak_bytes(dtype, input, out);
                promised("median", dtype, input, promise, |v| median.apply(v, out, extent));
            }
        }
        for input in grown([0; 3]) {
            let rescale = Rescale::default();
            let promise = rescale.peak_bytes(dtype, input, out);
            promised("rescale", dtype, input, promise, |v| rescale.apply(v, out));
            for to in Dtype::ALL {
                promised("cast", dtype, input, cast_peak_bytes(dtype, to, input, out), |v| cast(v, out, to));
            }
        }
        for input in grown([0; 3]).into_iter().chain([out]) {
            let promise = threshold_peak_bytes(dtype, input, out);
            let rule = Threshold { cut: Cut::Above(0.0), invert: true };
            promised("threshold", dtype, input, promise, |v| threshold(v, out, &rule));
        }
        for by in [Reduce::Mean, Reduce::Stride] {
            let halving = Halving { factors: [2, 1, 2], by };
            let half = halving.coarser(extent).region();
            let promise = halving.peak_bytes(dtype, extent.region(), half);
            promised("halving", dtype, extent.region(), promise, |v| halving.apply(v, half, extent));
        }
        for size in [[1; 3], [3; 3], [1, 5, 9], [11, 1, 1], [255, 3, 1]] {
            let mean = Mean { size, boundary: Boundary::Nearest };
            for input in grown(mean.halo()) {
                let promise = mean.peak_bytes(dtype, input, out, extent);
                promised("mean", dtype, input, promise, |v| mean.apply(v, out, extent));
            }
            let extreme = Extreme { end: End::Minimum, size, boundary: Boundary::Constant(1.0) };
            for input in grown(extreme.halo()) {
                let promise = extreme.peak_bytes(dtype, input, out, extent);
                promised("minimum", dtype, input, promise, |v| extreme.apply(v, out, extent));
            }
        }
        for input in grown([0; 3]) {
            let clip = Clip { low: -1.0, high: 1.0 };
            promised("clip", dtype, input, clip.peak_bytes(dtype, input, out), |v| clip.apply(v, out));
        }
        let balls = [0.0, 3.0, 300.0].map(|radius| Footprint::Ball([radius; 3]));
        let others = [
            Footprint::Ball([2.0, 3.0, 5.0]),
            Footprint::Ball([2.3, 3.1, 0.0]),
            Footprint::Box([2, 3, 5]),
            Footprint::Box([0, 7, 1]),
            Footprint::Cross(4),
        ];
        for footprint in balls.into_iter().chain(others) {
            for input in grown(footprint.halo(extent)) {
                let promise = footprint.peak_bytes(dtype, input, out, extent);
                promised("dilate", dtype, input, promise, |v| dilate(v, out, extent, footprint));
                promised("erode", dtype, input, promise, |v| erode(v, out, extent, footprint, Outside::Zero));
            }
            for input in grown(footprint.halo_twice(extent)) {
                let promise = footprint.peak_bytes_twice(dtype, input, out, extent);
                promised("close", dtype, input, promise, |v| close(v, out, extent, footprint, Outside::Ignore));
            }
        }
    }
}
