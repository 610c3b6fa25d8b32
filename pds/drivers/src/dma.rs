//! Memory that the device reads and writes: the region `dma`, which the board gives to this domain alone.
//!
//! Queues and buffers are cut from it once, at the start, and never given back. Everything that is lent to a device lies in
//! it, so sharing is arithmetic: nothing is copied into bounce buffers and nothing is allocated later.

use core::{
    ptr::NonNull,
    sync::atomic::{AtomicUsize, Ordering},
};

use virtio_drivers::{BufferDirection, Hal, PAGE_SIZE, PhysAddr};

pub struct Dma;

struct Region {
    vaddr: usize,
    size: usize,
    paddr: usize,
}

fn region() -> Region {
    Region {
        vaddr: platform::setvar!("dma"),
        size: platform::setvar!("dma_size"),
        paddr: platform::setvar!("dma_paddr"),
    }
}

/// How much of the region is in use.
static TAKEN: AtomicUsize = AtomicUsize::new(0);

impl Dma {
    /// Zeroed pages, for good. `None` if the region has no more.
    pub fn take(pages: usize) -> Option<(PhysAddr, NonNull<u8>)> {
        let Region { vaddr, size, paddr } = region();
        let bytes = pages.checked_mul(PAGE_SIZE)?;
        let at = TAKEN.load(Ordering::Relaxed);
        let end = at.checked_add(bytes).filter(|end| *end <= size)?;
        TAKEN.store(end, Ordering::Relaxed);
        let start = NonNull::new((vaddr + at) as *mut u8)?;
        // SAFETY: within the region, which the description maps read-write to this domain, and handed out only once.
        unsafe { start.write_bytes(0, bytes) };
        Some(((paddr + at) as PhysAddr, start))
    }
}

// SAFETY: `take` hands out distinct, zeroed, page-aligned and physically contiguous pages.
unsafe impl Hal for Dma {
    fn dma_alloc(pages: usize, _: BufferDirection) -> (PhysAddr, NonNull<u8>) {
        // Address 0 is how this trait says that there is none.
        Self::take(pages).unwrap_or((0, NonNull::dangling()))
    }

    unsafe fn dma_dealloc(_: PhysAddr, _: NonNull<u8>, _: usize) -> i32 {
        0
    }

    unsafe fn mmio_phys_to_virt(_: PhysAddr, _: usize) -> NonNull<u8> {
        unreachable!("only PCI asks for this")
    }

    unsafe fn share(buffer: NonNull<[u8]>, _: BufferDirection) -> PhysAddr {
        let Region { vaddr, size, paddr } = region();
        let at = (buffer.cast::<u8>().as_ptr() as usize).wrapping_sub(vaddr);
        assert!(at < size && buffer.len() <= size - at, "a buffer outside the region is lent to a device");
        (paddr + at) as PhysAddr
    }

    unsafe fn unshare(_: PhysAddr, _: NonNull<[u8]>, _: BufferDirection) {}
}
