//! What a block more costs in allocations, once a run is under way: `cargo bench -p coordinator --bench allocations [WORD ...]`
//! runs those cases whose name holds one of the words.
//!
//! The program runs in this process, on a volume and on one that is twice as deep; what the second takes more is that of its
//! further blocks alone, since starting, planning and what a run holds at once are the same. Small allocations are counted
//! by the allocator here (keys, tasks, requests, rows of objects). Buffers, from 256 KiB on, are counted by the program's own
//! (`pipeline::process::made`), and none of them should be of fresh pages.
#![allow(clippy::print_stdout)]

use std::alloc::{GlobalAlloc, Layout};
use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};

use clap::Parser;
use coordinator::cli::Cli;
use coordinator::commands;
use coordinator::memory::Remembering;
use pipeline::array::{ArraySpec, Codec, OmeVersion, write_whole};
use pipeline::process;
use pipeline::store::Store;
use voxel::{AnyVolume, Dtype, Extent, Volume};

/// Voxels of a chunk, and of a block, along each axis.
const SIDE: usize = 128;

/// Blocks of the smaller volume, one above the other: more than are under way at once, with the chunks kept for neighbours.
const BLOCKS: usize = 12;

/// The program's allocator, with what is asked of it counted.
struct Counting(Remembering);

#[global_allocator]
static ALLOCATOR: Counting = Counting(Remembering::new());

static ASKED: AtomicU64 = AtomicU64::new(0);
static ASKED_BYTES: AtomicU64 = AtomicU64::new(0);

fn count(bytes: usize) {
    /// From here on it is a buffer, which the program's own allocator counts.
    const LARGE_BYTES: usize = 256 << 10;
    if bytes < LARGE_BYTES {
        ASKED.fetch_add(1, Ordering::Relaxed);
        ASKED_BYTES.fetch_add(bytes as u64, Ordering::Relaxed);
    }
}

// SAFETY: every call is the inner allocator's, with the arguments as they came and the result as it is.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of the inner one.
        unsafe { self.0.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size());
        // SAFETY: as above.
        unsafe { self.0.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size);
        // SAFETY: as above.
        unsafe { self.0.realloc(block, layout, size) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(block, layout) }
    }
}

/// What was asked for since the process began: small allocations, and buffers.
#[derive(Clone, Copy)]
struct Taken {
    asked: u64,
    asked_bytes: u64,
    fresh: u64,
    reused: u64,
}

impl Taken {
    fn now() -> Self {
        let process::Made { fresh, reused } = process::made();
        let (asked, asked_bytes) = (ASKED.load(Ordering::Relaxed), ASKED_BYTES.load(Ordering::Relaxed));
        Self { asked, asked_bytes, fresh, reused }
    }

    fn since(self, before: Self) -> Self {
        Self {
            asked: self.asked - before.asked,
            asked_bytes: self.asked_bytes - before.asked_bytes,
            fresh: self.fresh - before.fresh,
            reused: self.reused - before.reused,
        }
    }
}

fn main() -> Result<(), Box<dyn Error>> {
    process::keep_memory_tight();
    // cargo itself passes `--bench`.
    let words: Vec<String> = std::env::args().skip(1).filter(|word| !word.starts_with('-')).collect();
    let folder = tempfile::tempdir()?;
    let runtime = tokio::runtime::Runtime::new()?;
    for blocks in [BLOCKS, 2 * BLOCKS] {
        runtime.block_on(write(&folder.path().join(blocks.to_string()), blocks))?;
    }
    println!("for each further block of {SIDE} x {SIDE} x {SIDE} bytes, one thread:");
    println!("{:48} {:>12} {:>10} {:>14} {:>15}", "", "allocations", "in KiB", "fresh buffers", "reused buffers");
    for steps in [
        "",
        "cast dtype=uint8",
        "gaussian sigma=1 | cast dtype=uint8",
        "median size=3",
        "threshold above=120 | erode ball=3",
        "threshold above=120 | label",
    ] {
        if !words.is_empty() && !words.iter().any(|word| steps.contains(word.as_str())) {
            continue;
        }
        // The first is for what a process makes once.
        run(folder.path(), BLOCKS, steps)?;
        let (few, many) = (run(folder.path(), BLOCKS, steps)?, run(folder.path(), 2 * BLOCKS, steps)?);
        // Buffers that are kept may leave the longer run with fewer new ones.
        let each = |many: u64, few: u64| (many as f64 - few as f64) / BLOCKS as f64;
        println!(
            "{:48} {:12.0} {:10.0} {:14.2} {:15.1}",
            if steps.is_empty() { "histogram" } else { steps },
            each(many.asked, few.asked),
            each(many.asked_bytes, few.asked_bytes) / 1024.0,
            each(many.fresh, few.fresh),
            each(many.reused, few.reused),
        );
    }
    Ok(())
}

/// Writes a volume of so many chunks, one above the other: noise, between two levels.
async fn write(folder: &Path, blocks: usize) -> Result<(), Box<dyn Error>> {
    let extent = Extent { shape: [blocks * SIDE, SIDE, SIDE], planar: false };
    let spec = ArraySpec {
        extent,
        dtype: Dtype::U8,
        chunks: [SIDE; 3],
        shards: None,
        codec: Codec::Zstd { level: 1 },
        dimension_names: Vec::new(),
        ome: OmeVersion::V05,
    };
    let noise = |i: usize| {
        let bits = (i as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 58;
        bits as u8 + if (i / 20).is_multiple_of(3) { 60 } else { 150 }
    };
    let voxels: Vec<u8> = (0..extent.region().voxels()).map(noise).collect();
    let store = Store::open(&folder.to_string_lossy())?;
    write_whole(&store, &spec, &AnyVolume::from(Volume::new(extent.region(), voxels))).await?;
    Ok(())
}

/// Runs steps on the volume of so many blocks; what that took.
fn run(folder: &Path, blocks: usize, steps: &str) -> Result<Taken, Box<dyn Error>> {
    let at = |name: &str| folder.join(name).to_string_lossy().into_owned();
    let (input, output) = (at(&blocks.to_string()), at("out"));
    let how = "--block 128 --chunks 128 --shards none --levels none --workers 1 --overwrite --quiet";
    let line = ["voxmill", "run", &input, "-o", &output, "--steps", steps].into_iter().chain(how.split(' '));
    let cli = Cli::try_parse_from(line)?;
    let before = Taken::now();
    commands::execute(cli).map_err(|stop| format!("{steps}: {stop:?}"))?;
    Ok(Taken::now().since(before))
}
