//! What a process that computes sets up once, whether it is a coordinator's or a function's.

/// Gives every large buffer back to the system when it is freed. By default glibc keeps freed buffers of up to 32 MiB
/// for reuse, which a projection can't foresee; blocks are few and large, so the cost is small.
#[cfg(all(target_os = "linux", target_env = "gnu"))]
pub fn keep_memory_tight() {
    const LARGE_BYTES: libc::c_int = 256 << 10;
    // SAFETY: called once, before any other thread exists; both parameters are documented for `mallopt`.
    unsafe {
        libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE_BYTES);
        libc::mallopt(libc::M_ARENA_MAX, 2);
    }
}

/// Nothing to be done: other allocators give large buffers back of their own.
#[cfg(not(all(target_os = "linux", target_env = "gnu")))]
pub fn keep_memory_tight() {}
