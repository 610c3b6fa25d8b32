//! `platform` for a domain with a fuse. The programs of this package are the real shells, built against this library in
//! the place of `platform`: the same core, ports and driver, and one look at the fuse each time the domain is woken. A
//! test lights it in the memory of a running machine, as no domain could, and so chooses when a domain faults, and how.
//!
//! They are for tests/tests/faults.rs, which puts one of them into an image that is otherwise the real one.
#![no_std]

pub mod fuse;
mod plant;
mod stack;

use core::{
    hint::black_box,
    ptr::null_mut,
    sync::atomic::{AtomicU64, Ordering},
};

pub use genesis_platform::*;
use pd::{Domain, Wake};

/// Stands in for [`genesis_platform::start`].
pub fn start(mut domain: impl Domain) -> impl Handler {
    let name = sel4_microkit::pd_name().unwrap_or_default();
    black_box(&FUSE).started.store(now(), Ordering::Relaxed);
    black_box(&FUSE).whose.store(fuse::whose(name), Ordering::Relaxed);
    genesis_platform::start(move |wake: &Wake| {
        burn();
        if black_box(&FUSE).lit.load(Ordering::Relaxed) == fuse::HANG {
            domain.hang(wake.now);
            black_box(&FUSE).began.store(wake.now, Ordering::Relaxed);
            black_box(&FUSE).lit.store(fuse::HANGS, Ordering::Relaxed);
            spin();
        }
        domain.step(wake)
    })
}

// In one page.
#[repr(C, align(64))]
struct Fuse {
    magic: [u64; 2],
    lit: AtomicU64,
    whose: AtomicU64,
    started: AtomicU64,
    began: AtomicU64,
    word: AtomicU64,
    end: AtomicU64,
}

// Exported, and in memory that is written: what is in it must not be taken for constant.
#[unsafe(export_name = "fuse")]
#[unsafe(link_section = ".data")]
static FUSE: Fuse = Fuse {
    magic: fuse::MAGIC,
    lit: AtomicU64::new(0),
    whose: AtomicU64::new(0),
    started: AtomicU64::new(0),
    began: AtomicU64::new(0),
    word: AtomicU64::new(0),
    end: AtomicU64::new(0),
};

/// Returns if the fuse is not lit, or if the machine lets the domain do what it must not: then it lives on.
fn burn() {
    if black_box(&FUSE).lit.load(Ordering::Relaxed) == fuse::PLANT {
        let [word, end] = [&black_box(&FUSE).word, &black_box(&FUSE).end].map(|word| word.load(Ordering::Relaxed));
        plant::plant(word, end, || {
            black_box(&FUSE).lit.store(fuse::PLANTED, Ordering::Relaxed);
            while black_box(&FUSE).lit.load(Ordering::Relaxed) == fuse::PLANTED {
                core::hint::spin_loop();
            }
        });
    }
    let lit = black_box(&FUSE).lit.load(Ordering::Relaxed);
    if lit == fuse::MEASURE {
        let [used, size] = [&black_box(&FUSE).word, &black_box(&FUSE).end];
        used.store(stack::used(size.load(Ordering::Relaxed), used.load(Ordering::Relaxed)), Ordering::Relaxed);
    }
    if [fuse::NULL_WRITE, fuse::PANIC, fuse::JUMP_INTO_DATA].contains(&lit) {
        black_box(&FUSE).lit.store(fuse::BURNT, Ordering::Relaxed);
    }
    match lit {
        fuse::NULL_WRITE => {
            // SAFETY: a fault is what is asked for: nothing is mapped there.
            unsafe { black_box(null_mut::<u64>()).write_volatile(1) };
        }
        fuse::PANIC => panic!("on purpose"),
        fuse::JUMP_INTO_DATA => {
            // SAFETY: a fault is what is asked for; were it none, this is a function that does nothing.
            let code: extern "C" fn() = unsafe { core::mem::transmute(black_box(&raw const RETURN)) };
            code();
        }
        fuse::LOOP => {
            black_box(&FUSE).lit.store(fuse::LOOPS, Ordering::Relaxed);
            spin();
        }
        _ => {}
    }
}

fn spin() -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// A function that returns at once, in memory that is written.
#[unsafe(link_section = ".data")]
static RETURN: AtomicU64 = AtomicU64::new(RET);

#[cfg(target_arch = "aarch64")]
const RET: u64 = 0xd65f_03c0;
#[cfg(target_arch = "riscv64")]
const RET: u64 = 0x0000_8067;
