//! The one place where an address becomes memory.

use core::{mem::align_of, sync::atomic::AtomicU64};

/// A mapped region as words.
///
/// # Safety
///
/// `size` bytes at `vaddr` are mapped for as long as the domain runs, are used as nothing else, and are only
/// read if the mapping is read-only. Another domain may change them meanwhile: the words are atomic.
pub unsafe fn words(vaddr: usize, size: usize) -> &'static [AtomicU64] {
    assert!(vaddr != 0 && vaddr.is_multiple_of(align_of::<AtomicU64>()), "the system description maps no region here");
    // SAFETY: aligned, not null, mapped as the caller promises.
    unsafe { core::slice::from_raw_parts(vaddr as *const AtomicU64, size / size_of::<AtomicU64>()) }
}

/// Makes a value at the front of a mapped region.
///
/// # Safety
/// The region is mapped readable and writable for the domain's life, and nothing else refers to it.
pub unsafe fn place<T>(vaddr: usize, size: usize, make: impl FnOnce() -> T) -> &'static mut T {
    let at = core::ptr::with_exposed_provenance_mut::<T>(vaddr);
    assert!(!at.is_null() && at.is_aligned() && size_of::<T>() <= size, "a region is too small");
    // SAFETY: by the caller, and what was just checked.
    unsafe {
        at.write(make());
        &mut *at
    }
}
