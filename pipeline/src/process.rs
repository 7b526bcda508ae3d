//! What a process that computes sets up once, whether it is a coordinator's or a function's.

mod reuse;

pub(crate) use reuse::allow;
pub use reuse::{Made, Reusing, made};

/// Keeps the system's allocator from keeping what is large, which a projection can't foresee: that is left to [`Reusing`].
/// From making a heap for every thread, too. What is small it may keep: it would give its last pages back each time 128 KiB
/// are free, and half of the faults of a labelling were for such pages.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_memory_tight() {
    const LARGE_BYTES: libc::c_int = 256 << 10;
    const KEPT_BYTES: libc::c_int = 16 << 20;
    // SAFETY: called once, before any other thread exists; these parameters are documented for `mallopt`.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, 2);
        libc::mallopt(libc::M_TRIM_THRESHOLD, KEPT_BYTES);
    }
}

/// Nothing to be done: other allocators give large buffers back of their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_memory_tight() {}
