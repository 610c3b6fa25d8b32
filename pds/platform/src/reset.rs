//! Where a child begins, at power-up and whenever its parent restarts it: `_reset` gives the domain the memory that it had
//! at its first start, whole, and goes on to `_start`. It is what stands between a domain that was taken over and the one
//! that follows it, so it uses nothing that a domain could have written: no stack, and a table in read-only memory.
//!
//! `sysdesc` writes the table when it puts an image together (`image::reset`), and makes `_reset` the entry. The table is
//! words: the size of the stack, which ends where the first stack pointer points; then for each region where it begins and
//! ends and where what it begins with begins and ends, up to a region at zero; then what they begin with. The IPC buffer has
//! one place in all domains, which the SDK chooses.

use core::arch::global_asm;

use sel4::sys::{seL4_PageBits, seL4_UserVSpaceTop};

const PAGE: u64 = 1 << seL4_PageBits;
const IPC_BUFFER: u64 = seL4_UserVSpaceTop & !(PAGE - 1);
/// Where every domain's stack ends, which the SDK chooses too: a page is between the two.
pub const STACK_END: u64 = IPC_BUFFER - PAGE;

// Its place, for both instruction sets.
global_asm!(
    ".pushsection .rodata.reset_ipc, \"aR\", %progbits",
    ".p2align 3",
    "reset_ipc: .quad {begin}, {end}",
    ".popsection",
    begin = const IPC_BUFFER,
    end = const IPC_BUFFER + PAGE,
);

// In read-only memory, and unknown to the compiler: it must not take the zero for constant.
global_asm!(
    ".pushsection .rodata.reset, \"aR\", %progbits",
    ".p2align 3",
    ".global reset_table",
    ".type reset_table, %object",
    ".size reset_table, 512",
    "reset_table: .skip 512, 0",
    ".popsection",
);

#[cfg(target_arch = "aarch64")]
global_asm!(
    ".pushsection .text.reset, \"axR\", %progbits",
    ".global _reset",
    ".type _reset, %function",
    "_reset:",
    "adrp x9, reset_table",
    "add x9, x9, :lo12:reset_table",
    // The stack.
    "ldr x10, [x9], #8",
    "mov x11, sp",
    "sub x10, x11, x10",
    // It is whole pages: sixty-four bytes at a time.
    "1: cmp x10, x11",
    "b.hs 2f",
    "stp xzr, xzr, [x10], #16",
    "stp xzr, xzr, [x10], #16",
    "stp xzr, xzr, [x10], #16",
    "stp xzr, xzr, [x10], #16",
    "b 1b",
    // The IPC buffer.
    "2: adrp x10, reset_ipc",
    "add x10, x10, :lo12:reset_ipc",
    "ldp x10, x11, [x10]",
    "1: str xzr, [x10], #8",
    "cmp x10, x11",
    "b.lo 1b",
    // A region: first what it begins with, the rest is zero.
    "2: ldp x10, x11, [x9], #16",
    "cbz x10, 5f",
    "ldp x12, x13, [x9], #16",
    "3: cmp x12, x13",
    "b.hs 4f",
    "ldr x14, [x12], #8",
    "str x14, [x10], #8",
    "b 3b",
    "4: sub x14, x11, x10",
    "cmp x14, #64",
    "b.lt 6f",
    "stp xzr, xzr, [x10], #16",
    "stp xzr, xzr, [x10], #16",
    "stp xzr, xzr, [x10], #16",
    "stp xzr, xzr, [x10], #16",
    "b 4b",
    "6: cmp x10, x11",
    "b.hs 2b",
    "str xzr, [x10], #8",
    "b 6b",
    // The parent has set all other registers.
    "5:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "movi v\\n\\().2d, #0",
    ".endr",
    "msr fpcr, xzr",
    "msr fpsr, xzr",
    "b _start",
    ".size _reset, . - _reset",
    ".popsection",
);

#[cfg(target_arch = "riscv64")]
global_asm!(
    ".pushsection .text.reset, \"axR\", %progbits",
    ".option push",
    // The global pointer is not set yet.
    ".option norelax",
    ".option arch, +d",
    ".global _reset",
    ".type _reset, %function",
    "_reset:",
    "lla t0, reset_table",
    // The stack.
    "ld t1, (t0)",
    "addi t0, t0, 8",
    "sub t1, sp, t1",
    // It is whole pages: sixty-four bytes at a time.
    "1: bgeu t1, sp, 2f",
    ".irp at, 0,8,16,24,32,40,48,56",
    "sd zero, \\at(t1)",
    ".endr",
    "addi t1, t1, 64",
    "j 1b",
    // The IPC buffer.
    "2: lla t2, reset_ipc",
    "ld t1, (t2)",
    "ld t2, 8(t2)",
    "1: sd zero, (t1)",
    "addi t1, t1, 8",
    "bltu t1, t2, 1b",
    // A region: first what it begins with, the rest is zero.
    "2: ld t1, 0(t0)",
    "ld t2, 8(t0)",
    "ld t3, 16(t0)",
    "ld t4, 24(t0)",
    "addi t0, t0, 32",
    "beqz t1, 5f",
    "3: bgeu t3, t4, 4f",
    "ld t5, (t3)",
    "sd t5, (t1)",
    "addi t3, t3, 8",
    "addi t1, t1, 8",
    "j 3b",
    "4: sub t5, t2, t1",
    "li t6, 64",
    "blt t5, t6, 6f",
    ".irp at, 0,8,16,24,32,40,48,56",
    "sd zero, \\at(t1)",
    ".endr",
    "addi t1, t1, 64",
    "j 4b",
    "6: bgeu t1, t2, 2b",
    "sd zero, (t1)",
    "addi t1, t1, 8",
    "j 6b",
    // The parent has set all other registers.
    "5:",
    ".irp n, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
    "fmv.d.x f\\n, zero",
    ".endr",
    "fscsr zero",
    "tail _start",
    ".size _reset, . - _reset",
    ".option pop",
    ".popsection",
);
