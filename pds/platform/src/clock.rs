//! The counter that every domain may read: CNTPCT_EL0 on AArch64, `time` on RISC-V.

use core::arch::asm;

use shm::Micros;

/// Ticks per second, as the kernel was configured for this board.
const FREQUENCY: u64 = sel4::sel4_cfg_usize!(TIMER_FREQUENCY) as u64;

/// Microseconds since the counter started.
pub fn now() -> Micros {
    let ticks = counter();
    let (seconds, rest) = (ticks / FREQUENCY, ticks % FREQUENCY);
    seconds.saturating_mul(1_000_000).saturating_add(rest * 1_000_000 / FREQUENCY)
}

/// The counter itself.
#[cfg(target_arch = "aarch64")]
pub fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register that the kernel exports to user level. The barrier keeps it from being read early.
    unsafe { asm!("isb", "mrs {}, cntpct_el0", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}

/// The counter itself.
#[cfg(target_arch = "riscv64")]
pub fn counter() -> u64 {
    let ticks: u64;
    // SAFETY: reads a register that the kernel leaves readable at user level.
    unsafe { asm!("rdtime {}", out(reg) ticks, options(nomem, nostack, preserves_flags)) };
    ticks
}
