//! Large buffers that are used again instead of given back to the system.
//!
//! Block after block asks for buffers of the same few sizes. Fresh ones cost a page fault for every 4 KiB, and the
//! system clears each page: together that took as long as reading, filtering and writing bytes. So freed buffers are
//! kept, and the promise on memory holds all the same: a buffer is only kept as long as those in use and those kept come
//! to no more than the stage under way is projected to take, or to what has been in use at once before.
//!
//! A buffer lies in pages of its own, behind one page that knows its length.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ptr::null_mut;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::Serialize;

/// What is smaller is left to the system's allocator, whole.
const LARGE_BYTES: usize = 256 << 10;
/// From here on buffers lie on the system's huge pages, where it has some: a fault for 2 MiB instead of 4 KiB, and fewer
/// misses of the tables of pages.
const HUGE_BYTES: usize = 2 << 20;
const PAGE_BYTES: usize = 4 << 10;
/// Buffers kept at most.
const KEPT_MAX: usize = 128;

/// What large buffers may take in this process, used and kept.
static ALLOWED_BYTES: AtomicUsize = AtomicUsize::new(0);

/// Lets freed buffers be kept as long as there are no more than `bytes` with those in use, which is what the work under
/// way is projected to take.
pub(crate) fn allow(bytes: u64) {
    ALLOWED_BYTES.store(bytes as usize, Ordering::Relaxed);
}

static FRESH: AtomicU64 = AtomicU64::new(0);
static REUSED: AtomicU64 = AtomicU64::new(0);

/// Large buffers handed out since the process began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Made {
    /// Of fresh pages.
    pub fresh: u64,
    /// Used before.
    pub reused: u64,
}

/// How many buffers were made, and how many of them of fresh pages: once a run is under way, hardly any should be.
pub fn made() -> Made {
    Made { fresh: FRESH.load(Ordering::Relaxed), reused: REUSED.load(Ordering::Relaxed) }
}

/// An allocator that keeps large buffers for reuse. For the programs: a
/// library leaves the choice to them.
pub struct Reusing {
    buffers: Mutex<Buffers>,
}

/// The large buffers of the process.
struct Buffers {
    /// Freed ones, the longest unused first.
    kept: [Buffer; KEPT_MAX],
    count: usize,
    kept_bytes: usize,
    used_bytes: usize,
    /// The most that `used_bytes` has been.
    most_bytes: usize,
}

/// Whole pages, and the page before them.
#[derive(Clone, Copy)]
struct Buffer {
    start: *mut u8,
    bytes: usize,
}

// SAFETY: a kept buffer is nobody's; whoever takes it out has it alone.
unsafe impl Send for Buffers {}

impl Reusing {
    /// An allocator that keeps nothing yet.
    #[allow(clippy::new_without_default, reason = "it is made once, in a static")]
    pub const fn new() -> Self {
        let none = Buffer { start: null_mut(), bytes: 0 };
        let kept = [none; KEPT_MAX];
        Self { buffers: Mutex::new(Buffers { kept, count: 0, kept_bytes: 0, used_bytes: 0, most_bytes: 0 }) }
    }

    fn buffers(&self) -> MutexGuard<'_, Buffers> {
        // Nothing in here panics half-way.
        self.buffers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer for `size` bytes, and whether it is known to be all zeros; null when there is none.
    fn take(&self, size: usize) -> (*mut u8, bool) {
        let bytes = size.next_multiple_of(PAGE_BYTES);
        let mut buffers = self.buffers();
        if let Some(buffer) = buffers.fitting(bytes) {
            buffers.used(buffer.bytes);
            REUSED.fetch_add(1, Ordering::Relaxed);
            return (buffer.start, false);
        }
        buffers.used(bytes);
        FRESH.fetch_add(1, Ordering::Relaxed);
        // Room is made first.
        let bound = buffers.most_bytes.max(ALLOWED_BYTES.load(Ordering::Relaxed));
        while buffers.kept_bytes > 0 && buffers.used_bytes + buffers.kept_bytes > bound {
            buffers.give_back_oldest();
        }
        drop(buffers);
        let mut start = map(bytes);
        if start.is_null() {
            let mut buffers = self.buffers();
            while buffers.count > 0 {
                buffers.give_back_oldest();
            }
            start = map(bytes);
            if start.is_null() {
                buffers.used_bytes -= bytes;
            }
        }
        (start, true)
    }

    /// Takes back a buffer that [`Reusing::take`] gave.
    fn put(&self, start: *mut u8) {
        let buffer = Buffer { start, bytes: length(start) };
        let mut buffers = self.buffers();
        buffers.used_bytes -= buffer.bytes;
        if buffers.count == KEPT_MAX {
            buffers.give_back_oldest();
        }
        let at = buffers.count;
        buffers.kept[at] = buffer;
        buffers.count += 1;
        buffers.kept_bytes += buffer.bytes;
    }
}

impl Buffers {
    /// Takes out the smallest kept buffer that is large enough, at most a quarter too large (blocks at the faces of an image
    /// are a little smaller than others), and of those the one freed last, which the caches may still hold.
    fn fitting(&mut self, bytes: usize) -> Option<Buffer> {
        let fits = |buffer: &Buffer| (bytes..=bytes + bytes / 4).contains(&buffer.bytes);
        let kept = self.kept[..self.count].iter().enumerate().rev();
        let (at, _) = kept.filter(|(_, buffer)| fits(buffer)).min_by_key(|(_, buffer)| buffer.bytes)?;
        Some(self.remove(at))
    }

    fn used(&mut self, bytes: usize) {
        self.used_bytes += bytes;
        self.most_bytes = self.most_bytes.max(self.used_bytes);
    }

    fn remove(&mut self, at: usize) -> Buffer {
        let buffer = self.kept[at];
        self.kept.copy_within(at + 1..self.count, at);
        self.count -= 1;
        self.kept_bytes -= buffer.bytes;
        buffer
    }

    fn give_back_oldest(&mut self) {
        let Buffer { start, bytes } = self.remove(0);
        // SAFETY: the buffer, and the page before it, are nobody's.
        unsafe { unmap(start.sub(PAGE_BYTES), PAGE_BYTES + bytes) };
    }
}

/// Whether an allocation is kept here; from its layout alone, so that freeing it comes to the same.
fn is_large(layout: &Layout) -> bool {
    cfg!(target_os = "linux") && layout.size() >= LARGE_BYTES && layout.align() <= PAGE_BYTES
}

/// The bytes of a buffer.
fn length(start: *mut u8) -> usize {
    // SAFETY: `map` has written it there.
    unsafe { start.sub(PAGE_BYTES).cast::<usize>().read() }
}

/// A fresh buffer, all zeros; null when there is none.
#[cfg(target_os = "linux")]
fn map(bytes: usize) -> *mut u8 {
    // More than is wanted, of which both ends are given back, so that the buffer starts where a huge page can.
    let align = if bytes < HUGE_BYTES { PAGE_BYTES } else { HUGE_BYTES };
    let whole = PAGE_BYTES + bytes + (align - PAGE_BYTES);
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: a new mapping of no file touches nothing that is there.
    let first = unsafe { libc::mmap(null_mut(), whole, protection, flags, -1, 0) };
    if first == libc::MAP_FAILED {
        return null_mut();
    }
    // SAFETY: all of it lies within the mapping just made, which nobody else knows.
    unsafe {
        let first = first.cast::<u8>();
        let before = first.add(PAGE_BYTES).align_offset(align);
        let start = first.add(before + PAGE_BYTES);
        unmap(first, before);
        unmap(start.add(bytes), whole - before - PAGE_BYTES - bytes);
        if bytes >= HUGE_BYTES {
            // A wish: where it is not granted, pages are small.
            libc::madvise(start.cast(), bytes, libc::MADV_HUGEPAGE);
        }
        start.sub(PAGE_BYTES).cast::<usize>().write(bytes);
        start
    }
}

/// # Safety
/// These are whole pages of mappings made here, and nobody uses them.
#[cfg(target_os = "linux")]
unsafe fn unmap(start: *mut u8, bytes: usize) {
    if bytes > 0 {
        // SAFETY: as the caller says.
        unsafe { libc::munmap(start.cast(), bytes) };
    }
}

#[cfg(not(target_os = "linux"))]
fn map(_: usize) -> *mut u8 {
    null_mut()
}

#[cfg(not(target_os = "linux"))]
unsafe fn unmap(_: *mut u8, _: usize) {}

// SAFETY: small allocations are the system's; a large one is a buffer of at least its size, aligned to pages, and handed
// to nobody else until it is freed.
unsafe impl GlobalAlloc for Reusing {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            return self.take(layout.size()).0;
        }
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if is_large(&layout) {
            let (start, is_zero) = self.take(layout.size());
            if !is_zero && !start.is_null() {
                // SAFETY: the buffer has at least that many bytes.
                unsafe { start.write_bytes(0, layout.size()) };
            }
            return start;
        }
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn realloc(&self, start: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller gives a size that is valid with this alignment.
        let new = unsafe { Layout::from_size_align_unchecked(size, layout.align()) };
        match (is_large(&layout), is_large(&new)) {
            // SAFETY: as above.
            (false, false) => unsafe { System.realloc(start, layout, size) },
            (true, true) if (size..=size + size / 4).contains(&length(start)) => start,
            // SAFETY: both have as many bytes as the smaller of the sizes, and lie apart.
            _ => unsafe {
                let moved = self.alloc(new);
                if !moved.is_null() {
                    moved.copy_from_nonoverlapping(start, layout.size().min(size));
                    self.dealloc(start, layout);
                }
                moved
            },
        }
    }

    unsafe fn dealloc(&self, start: *mut u8, layout: Layout) {
        if is_large(&layout) {
            return self.put(start);
        }
        // SAFETY: as above.
        unsafe { System.dealloc(start, layout) }
    }
}

#[cfg(all(test, target_os = "linux"))]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, 64).unwrap()
    }

    #[test]
    fn what_is_in_use_and_kept_never_exceeds_what_has_been_in_use() {
        let heap = Reusing::new();
        let mut state = 7u64;
        let mut held: Vec<(*mut u8, Layout)> = Vec::new();
        for _ in 0..2000 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            let (draw, size) = ((state >> 33) as usize, LARGE_BYTES << ((state >> 61) % 6));
            if draw % 2 == 0 && held.len() < 9 {
                let layout = layout(size + draw % 5 * 10_000);
                // SAFETY: of the layout, freed once, used within.
                let start = unsafe { heap.alloc_zeroed(layout) };
                let bytes = unsafe { std::slice::from_raw_parts_mut(start, layout.size()) };
                assert!(bytes.iter().step_by(99).all(|byte| *byte == 0));
                bytes.iter_mut().step_by(99).for_each(|byte| *byte = draw as u8);
                held.push((start, layout));
            } else if !held.is_empty() {
                let (start, layout) = held.swap_remove(draw % held.len());
                // SAFETY: as above.
                unsafe { heap.dealloc(start, layout) };
            }
            let buffers = heap.buffers();
            assert_eq!(buffers.used_bytes, held.iter().map(|(start, _)| length(*start)).sum::<usize>());
            assert_eq!(buffers.kept_bytes, buffers.kept[..buffers.count].iter().map(|b| b.bytes).sum::<usize>());
            assert!(buffers.used_bytes + buffers.kept_bytes <= buffers.most_bytes);
            for (start, layout) in &held {
                assert!(length(*start) >= layout.size() && length(*start) <= layout.size() * 5 / 4 + PAGE_BYTES);
            }
        }
    }

    #[test]
    fn a_buffer_is_used_again_and_keeps_its_content_when_it_grows() {
        let heap = Reusing::new();
        // SAFETY: each is freed once, with the layout it has then, and used within.
        unsafe {
            let first = heap.alloc(layout(3 << 20));
            heap.dealloc(first, layout(3 << 20));
            let second = heap.alloc(layout((3 << 20) - 100_000));
            assert_eq!(first, second);
            assert_eq!(second, heap.realloc(second, layout((3 << 20) - 100_000), 3 << 20));
            second.write_bytes(9, 3 << 20);
            let grown = heap.realloc(second, layout(3 << 20), 5 << 20);
            assert!(std::slice::from_raw_parts(grown, 3 << 20).iter().all(|byte| *byte == 9));
            let small = heap.realloc(grown, layout(5 << 20), 1000);
            assert!(std::slice::from_raw_parts(small, 1000).iter().all(|byte| *byte == 9));
            let large = heap.realloc(small, layout(1000), LARGE_BYTES);
            assert!(std::slice::from_raw_parts(large, 1000).iter().all(|byte| *byte == 9));
            heap.dealloc(large, layout(LARGE_BYTES));
            assert_eq!(heap.buffers().used_bytes, 0);
            assert!(heap.alloc(layout(1 << 48)).is_null(), "no process has such addresses");
            let buffers = heap.buffers();
            assert_eq!((buffers.used_bytes, buffers.count), (0, 0));
        }
    }
}
