//! How much of its stack a domain has ever used. It begins with zeros, so until this looks for the first time, what is not
//! zero has been used; then all that is not in use is painted, so that zeros count too.

use core::{arch::asm, ptr::with_exposed_provenance_mut};

use genesis_platform::STACK_END;

const PAINT: u64 = 0xa5a5_5a5a_c3c3_3c3c;
/// Bytes below the stack pointer that are not painted.
const NEAR: u64 = 256;
const WORD: u64 = size_of::<u64>() as u64;

/// Of a stack of this size, of which so much was known to be used: 0 if this is the first look.
#[inline(never)]
pub fn used(size: u64, known: u64) -> u64 {
    let begin = STACK_END - size;
    let unused = if known == 0 { 0 } else { PAINT };
    let word = |at: u64| with_exposed_provenance_mut::<u64>(at as usize);
    let in_use = pointer();
    // SAFETY: the stack is mapped from there on, and nobody writes below its pointer meanwhile.
    let is_unused = |at: u64| unsafe { word(at).read_volatile() } == unused;
    let mut end = begin;
    while end < in_use && is_unused(end) {
        end += WORD;
    }
    if known == 0 {
        let mut at = begin;
        while at < in_use - NEAR {
            // SAFETY: below the stack pointer of a function that calls none, nothing stands that anybody reads again.
            unsafe { word(at).write_volatile(PAINT) };
            at += WORD;
        }
    }
    known.max(STACK_END - end)
}

#[inline(always)]
fn pointer() -> u64 {
    let pointer;
    // SAFETY: it reads a register.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    // SAFETY: the same.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        asm!("mv {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}
