//! Marks in each kind of memory that a domain has: what its successor must not find there.

use core::{arch::asm, hint::black_box, ptr::with_exposed_provenance_mut};

use crate::fuse::{BSS, DATA, FP, IPC, OWN, STACK, mark};

type Mark = [u64; 4];

#[unsafe(link_section = ".data")]
static mut IN_DATA: Mark = [0; 4];
static mut IN_BSS: Mark = [0; 4];

/// Plants marks of this word, one of them before the end of a region, and then does the rest, with marks on the stack and in
/// registers.
#[inline(never)]
pub fn plant(word: u64, end: u64, rest: impl Fn()) {
    let put = |to: *mut Mark, place| {
        // SAFETY: memory of this domain's, which does no more after this.
        unsafe { to.write_volatile(mark(word, place)) };
    };
    put(&raw mut IN_DATA, DATA);
    put(&raw mut IN_BSS, BSS);
    // The messages' words: the first is its tag.
    sel4_microkit::with_msg_regs_mut(|words| {
        let end = words.len();
        words[end - 4..].copy_from_slice(&mark(word, IPC));
    });
    if end != 0 {
        put(with_exposed_provenance_mut(end as usize - size_of::<Mark>()), OWN);
    }
    let stack = black_box(mark(word, STACK));
    black_box(&stack);
    let registers = mark(word, FP);
    // SAFETY: loads registers that it names.
    #[cfg(target_arch = "aarch64")]
    unsafe {
        asm!("ldp q30, q31, [{}]", in(reg) &registers, out("v30") _, out("v31") _, options(readonly, nostack));
    }
    // SAFETY: the same.
    #[cfg(target_arch = "riscv64")]
    unsafe {
        asm!(
            ".option push", ".option arch, +d", "fld ft8, 0({0})", "fld ft9, 8({0})", "fld ft10, 16({0})",
            "fld ft11, 24({0})", ".option pop",
            in(reg) &registers, out("ft8") _, out("ft9") _, out("ft10") _, out("ft11") _, options(readonly, nostack),
        );
    }
    rest();
    black_box(&stack);
}
