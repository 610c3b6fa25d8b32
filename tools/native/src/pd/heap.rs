//! Fixed memory: a domain allocates while it starts and never again. Its program says
//! `#[global_allocator] static HEAP: native::pd::Heap = native::pd::Heap;`.

use std::{
    alloc::{GlobalAlloc, Layout, System},
    cell::UnsafeCell,
    ptr::null_mut,
    sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    thread,
};

use super::dying;

/// The allocator of a domain's program.
pub struct Heap;

static IN_USE: AtomicBool = AtomicBool::new(false);
static SEALED: AtomicBool = AtomicBool::new(false);

/// No allocation from now on. False if the program has another allocator.
pub(super) fn seal() -> bool {
    SEALED.store(true, Relaxed);
    IN_USE.load(Relaxed)
}

/// What the standard library may use to put a panic's message together.
struct Scratch(UnsafeCell<[u8; SCRATCH]>);
const SCRATCH: usize = 16384;

// SAFETY: the only access is through the pointers that `Heap::alloc` hands out, each for bytes of its own.
unsafe impl Sync for Scratch {}

static SCRATCH_BYTES: Scratch = Scratch(UnsafeCell::new([0; SCRATCH]));
static SCRATCH_USED: AtomicUsize = AtomicUsize::new(0);

fn scratch(layout: Layout) -> *mut u8 {
    let start = SCRATCH_BYTES.0.get().cast::<u8>();
    let used = SCRATCH_USED.load(Relaxed);
    let at = (start.addr() + used).next_multiple_of(layout.align()) - start.addr();
    match at.checked_add(layout.size()).filter(|end| *end <= SCRATCH) {
        Some(end) => {
            // A domain is one thread.
            SCRATCH_USED.store(end, Relaxed);
            start.wrapping_add(at)
        }
        None => null_mut(),
    }
}

// SAFETY: before the seal, the system's allocator; after it, bytes of the scratch area that are handed out
// once, or none. Nothing is freed after the seal.
unsafe impl GlobalAlloc for Heap {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if !SEALED.load(Relaxed) {
            IN_USE.store(true, Relaxed);
            // SAFETY: the caller's promise is the same.
            unsafe { System.alloc(layout) }
        } else if thread::panicking() {
            scratch(layout)
        } else {
            dying::give_up(format_args!("asked for {} bytes of memory after its start", layout.size()))
        }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        if !SEALED.load(Relaxed) {
            // SAFETY: came from the system's allocator: nothing else is handed out before the seal.
            unsafe { System.dealloc(at, layout) }
        }
    }
}
