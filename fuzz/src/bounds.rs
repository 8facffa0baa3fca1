//! What a decoder may allocate: an allocator that counts, and ends the process at the first byte above a bound.
//!
//! The bound is stated by the target, as a multiple of the length of its input; it holds for what is alive at one time.
//! Ending the process at the allocation itself gives libFuzzer the stack that asked for too much. One thread only.

use std::alloc::{GlobalAlloc, Layout, System};
use std::io::Write as _;
use std::sync::atomic::{AtomicUsize, Ordering};

static LIVE_BYTES: AtomicUsize = AtomicUsize::new(0);
static LIVE_BYTES_MAX: AtomicUsize = AtomicUsize::new(usize::MAX);

#[global_allocator]
static COUNTING: Counting = Counting;

struct Counting;

// SAFETY: every call is handed to the system's allocator unchanged; only sums are kept beside it.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: the caller's promises are those of `System`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        take(layout.size());
        // SAFETY: as above.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        take(size);
        LIVE_BYTES.fetch_sub(layout.size(), Ordering::Relaxed);
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, size) }
    }
}

fn take(bytes: usize) {
    let live = LIVE_BYTES.fetch_add(bytes, Ordering::Relaxed).saturating_add(bytes);
    // What a panic needs to tell its story is not the decoder's.
    if live > LIVE_BYTES_MAX.load(Ordering::Relaxed) && !std::thread::panicking() {
        // What follows must be allowed to allocate, or it ends here again.
        LIVE_BYTES_MAX.store(usize::MAX, Ordering::Relaxed);
        let _ = std::io::stderr().write_all(b"fuzz: allocated past the bound of this target\n");
        std::process::abort();
    }
}

/// Runs `work`, which may have at most `bytes_max` bytes more alive at any moment than there were before.
pub fn bounded<T>(bytes_max: usize, work: impl FnOnce() -> T) -> T {
    LIVE_BYTES_MAX.store(LIVE_BYTES.load(Ordering::Relaxed) + bytes_max, Ordering::Relaxed);
    let result = work();
    LIVE_BYTES_MAX.store(usize::MAX, Ordering::Relaxed);
    result
}
