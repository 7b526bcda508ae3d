//! What happens when the system gives no more memory: two lines that say which setting to change, and exit code 2.
//!
//! Where an allocation may not fail, Rust gives up by `abort`. Nothing may be allocated then, so what is said is made
//! ready here, and said by the handler of that signal, to the thread that was refused last. Code that asks for room
//! which it may not get (a codec, for a size that a file claims) sees the refusal and goes on as ever.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::Cell;

use pipeline::process::Reusing;

/// An allocator that uses large buffers again and remembers that the system had nothing to give. For the programs: a
/// library leaves the choice to them.
pub struct Remembering(Reusing);

impl Remembering {
    /// An allocator that has given nothing yet.
    #[allow(clippy::new_without_default, reason = "it is made once, in a static")]
    pub const fn new() -> Self {
        Self(Reusing::new())
    }
}

thread_local! {
    static REFUSED: Cell<bool> = const { Cell::new(false) };
}

fn noted(block: *mut u8) -> *mut u8 {
    if block.is_null() {
        // A thread at its very end has no such cell any more, and then nobody to tell.
        let _ = REFUSED.try_with(|refused| refused.set(true));
    }
    block
}

// SAFETY: every call is the inner allocator's, with the arguments as they came and the result as it is.
unsafe impl GlobalAlloc for Remembering {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller keeps the contract of `GlobalAlloc`, which is that of the inner one.
        noted(unsafe { self.0.alloc(layout) })
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { self.0.alloc_zeroed(layout) })
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: as above.
        noted(unsafe { self.0.realloc(block, layout, size) })
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { self.0.dealloc(block, layout) }
    }
}

/// Makes the end of memory an end with a hint.
pub(crate) fn explain_when_it_is_out() {
    #[cfg(unix)]
    {
        let handler = explain as extern "C" fn(libc::c_int);
        // SAFETY: the handler calls nothing but `write` and `_exit`, which may be called in one, and `signal`.
        unsafe {
            libc::signal(libc::SIGABRT, handler as libc::sighandler_t);
        }
    }
}

#[cfg(unix)]
extern "C" fn explain(signal: libc::c_int) {
    const SAID: &[u8] = b"error: out of memory: the system gives no more to this process\n\
        hint: lower --memory or --workers, or give a smaller --block; a run goes on where it stopped\n";
    if REFUSED.try_with(Cell::get).unwrap_or(false) {
        // SAFETY: both may be called in a handler, and the bytes live as long as the program.
        unsafe {
            libc::write(libc::STDERR_FILENO, SAID.as_ptr().cast(), SAID.len());
            libc::_exit(2);
        }
    }
    // Another reason to give up: as if nobody had listened. `abort` raises it once more when this returns.
    // SAFETY: may be called in a handler.
    unsafe {
        libc::signal(signal, libc::SIG_DFL);
    }
}
