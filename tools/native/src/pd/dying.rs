//! Last words: a panic hook, and handlers for the signals by which the kernel ends a domain. Each says what
//! it knows and dies of the same signal; none lets the domain go on.

use std::{
    ffi::{c_int, c_void},
    fmt, io,
    mem::zeroed,
    os::fd::BorrowedFd,
    panic,
    ptr::null_mut,
    sync::atomic::AtomicU64,
};

use rustix::mm::{MapFlags, ProtFlags, mmap};
use shm::ReadWrite;

use crate::words::{Author, SIZE, cause, state};

/// The exit status after a panic.
pub(crate) const PANICKED: c_int = 101;

const WORDS: usize = SIZE / 8;

/// The page of last words. The runner's memfd is mapped over it, so that its address is a constant that
/// nothing in the domain can bend.
#[repr(align(4096))]
struct Page([AtomicU64; WORDS]);

static PAGE: Page = Page([const { AtomicU64::new(0) }; WORDS]);

fn author() -> Author<'static> {
    Author(ReadWrite::new(&PAGE.0))
}

/// Maps the page and sends panics there.
pub(super) fn prepare(words: BorrowedFd<'_>) -> io::Result<()> {
    let at = (&raw const PAGE).cast::<c_void>().cast_mut();
    // SAFETY: the range is exactly that static, which is a page, page-aligned and made of atomics; the file
    // has a page too and cannot shrink (it is sealed).
    unsafe { mmap(at, SIZE, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED | MapFlags::FIXED, words, 0)? };
    panic::set_hook(Box::new(|info| {
        let text = info.payload_as_str().unwrap_or("no message");
        match info.location() {
            Some(at) => give_up(format_args!("{text} ({at})")),
            None => give_up(format_args!("{text}")),
        }
    }));
    Ok(())
}

/// Ends the process as a panic does.
pub(super) fn give_up(text: fmt::Arguments<'_>) -> ! {
    author().panic(text);
    exit(PANICKED)
}

pub(super) fn sealed() {
    author().state(state::SEALED);
}

/// Ends this domain's process and says that it was meant to. For tests: no domain of the node ends.
pub fn finish() -> ! {
    author().state(state::FINISHED);
    exit(0)
}

fn exit(status: c_int) -> ! {
    // SAFETY: ends the process at once and runs nothing more.
    unsafe { libc::_exit(status) }
}

const STACK: usize = 65536;

/// Handlers run here: the domain's own stack may be what is broken. The kernel aligns what it puts there.
static mut HANDLER_STACK: [u8; STACK] = [0; STACK];

/// Installs the handlers. Each works once: the second signal of a kind kills.
pub(super) fn install_handlers() -> io::Result<()> {
    let stack = libc::stack_t { ss_sp: (&raw mut HANDLER_STACK).cast(), ss_flags: 0, ss_size: STACK };
    // SAFETY: the static lives for ever and nothing else uses it.
    check(unsafe { libc::sigaltstack(&stack, null_mut()) })?;
    let handlers: [(c_int, extern "C" fn(c_int, *const libc::siginfo_t, *const c_void)); 3] =
        [(libc::SIGSYS, on_system_call), (libc::SIGSEGV, on_fault), (libc::SIGBUS, on_fault)];
    for (signal, handler) in handlers {
        // SAFETY: all zero is a valid sigaction, with an empty mask.
        let mut action: libc::sigaction = unsafe { zeroed() };
        action.sa_sigaction = handler as *const c_void as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESETHAND;
        // SAFETY: the handlers do only what may be done in a signal handler: they store words and make system calls.
        check(unsafe { libc::sigaction(signal, &action, null_mut()) })?;
    }
    // SAFETY: ignoring a signal. A console that has written too much is told so by the call.
    if unsafe { libc::signal(libc::SIGXFSZ, libc::SIG_IGN) } == libc::SIG_ERR {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn check(result: c_int) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The kernel's `siginfo` of a SIGSYS, on every 64-bit Linux.
#[repr(C)]
struct SystemCallInfo {
    head: [c_int; 4],
    call_addr: usize,
    number: c_int,
    arch: u32,
}

extern "C" fn on_system_call(_: c_int, info: *const libc::siginfo_t, _: *const c_void) {
    const { assert!(size_of::<SystemCallInfo>() <= size_of::<libc::siginfo_t>()) };
    // SAFETY: the kernel passes a whole siginfo, of which a SIGSYS begins with this.
    let number = unsafe { (*info.cast::<SystemCallInfo>()).number };
    author().last(cause::SYSTEM_CALL, u64::from(number.cast_unsigned()), 0);
    loop {
        // SAFETY: a call that no filter allows and that does no harm. The handler is gone: it kills.
        unsafe { libc::syscall(libc::SYS_getppid) };
    }
}

extern "C" fn on_fault(_: c_int, info: *const libc::siginfo_t, _: *const c_void) {
    // SAFETY: the kernel passes a whole siginfo, which of a fault holds the address.
    let (address, code) = unsafe { ((*info).si_addr().addr(), (*info).si_code) };
    author().last(cause::FAULT, address as u64, u64::from(code.cast_unsigned()));
    // The handler is gone: going back repeats the fault, which kills.
}
