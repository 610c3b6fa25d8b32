//! A domain that does what it must not. Its name says what; `tests/systems/` has a system for each deed. As
//! `bystander` it does nothing, for ever.

use std::{
    ffi::{c_int, c_void},
    hint::black_box,
    ptr::{null, with_exposed_provenance_mut},
};

use ::pd::Platform;
use native::pd::{self, Domain, Heap};

#[global_allocator]
static HEAP: Heap = Heap;

/// Where the bystander has a region of its own, in every system.
const FOREIGN: usize = 0x2000_0000;
/// Where the rogue has a region read-only.
const READ_ONLY: usize = 0x2000_1000;
const PAGE: usize = 4096;

fn main() -> ! {
    let domain = Domain::start();
    let deed: fn() = match domain.name() {
        "bystander" => domain.run(|_| false),
        "spins" => domain.run(|_| true),
        "reads-foreign-memory" => || read(FOREIGN),
        "writes-read-only-memory" => || write(READ_ONLY),
        "raises-read-only-memory" => || call(libc::SYS_mprotect, [READ_ONLY, PAGE, RW, 0, 0, 0]),
        "maps-code" => || call(libc::SYS_mmap, [0, PAGE, RWX, PRIVATE, usize::MAX, 0]),
        "runs-data" => run_data,
        "overflows-its-stack" => || {
            black_box(deep(0));
        },
        "opens-a-file" => || call(libc::SYS_openat, [CWD, c"/etc/passwd".as_ptr().addr(), 0, 0, 0, 0]),
        "opens-a-socket" => || call(libc::SYS_socket, [libc::AF_INET6 as usize, libc::SOCK_DGRAM as usize, 0, 0, 0, 0]),
        "reads-another-descriptor" => || call(libc::SYS_read, [0, READ_ONLY, 8, 0, 0, 0]),
        "writes-another-descriptor" => || call(libc::SYS_write, [1, READ_ONLY, 8, 0, 0, 0]),
        "kills" => || call(libc::SYS_kill, [1, 0, 0, 0, 0, 0]),
        "traces" => || call(libc::SYS_ptrace, [libc::PTRACE_ATTACH as usize, 1, 0, 0, 0, 0]),
        "reads-foreign-process" => || call(libc::SYS_process_vm_readv, [1, 0, 0, 0, 0, 0]),
        "forks" => || call(libc::SYS_clone, [libc::SIGCHLD as usize, 0, 0, 0, 0, 0]),
        "executes" => || call(libc::SYS_execve, [c"/bin/true".as_ptr().addr(), 0, 0, 0, 0, 0]),
        "takes-its-filter-off" => || call(libc::SYS_prctl, [libc::PR_SET_SECCOMP as usize, 0, 0, 0, 0, 0]),
        "handles-its-own-death" => || call(libc::SYS_rt_sigaction, [libc::SIGSYS as usize, 0, 0, 8, 0, 0]),
        "exits" => || exit(0),
        "panics" => || panic!("with {} and a number, {}", "words", black_box(42)),
        "allocates" => || drop(black_box(Box::new([0u8; 100]))),
        "counts-descriptors" => count_descriptors,
        "recites" => recite(domain),
        "writes-a-line" => {
            let out = domain.device("out");
            domain.run(move |_| {
                out.print(b"a line\n");
                pd::finish()
            })
        }
        other => panic!("{other} is no deed"),
    };
    domain.run(move |_| {
        deed();
        // It is still alive. No test expects this status.
        exit(42)
    })
}

const CWD: usize = libc::AT_FDCWD as usize;
const RW: usize = (libc::PROT_READ | libc::PROT_WRITE) as usize;
const RWX: usize = RW | libc::PROT_EXEC as usize;
const PRIVATE: usize = (libc::MAP_PRIVATE | libc::MAP_ANONYMOUS) as usize;

fn call(number: i64, [a, b, c, d, e, f]: [usize; 6]) {
    // SAFETY: none of these harms this process, should it be allowed: the pointers are null or constants.
    unsafe { libc::syscall(number, a, b, c, d, e, f) };
}

fn read(address: usize) {
    // SAFETY: a fault is what is asked for: the runtime dies of it.
    black_box(unsafe { with_exposed_provenance_mut::<u8>(address).read_volatile() });
}

fn write(address: usize) {
    // SAFETY: a fault is what is asked for: the runtime dies of it.
    unsafe { with_exposed_provenance_mut::<u8>(address).write_volatile(1) };
}

fn run_data() {
    let data = black_box([0xc3u8; 64]);
    // SAFETY: a fault is what is asked for: no data can be run.
    let code: extern "C" fn() = unsafe { std::mem::transmute(data.as_ptr().cast::<c_void>()) };
    code();
}

#[expect(unconditional_recursion, reason = "until the stack ends")]
fn deep(depth: u64) -> u64 {
    let room = black_box([depth; 512]);
    deep(depth + 1) + room[7]
}

fn exit(status: c_int) -> ! {
    // SAFETY: ends the process.
    unsafe { libc::_exit(status) }
}

/// Polling tells open descriptors from closed ones, and is allowed.
fn count_descriptors() {
    let mut fds: [libc::pollfd; 1024] =
        std::array::from_fn(|fd| libc::pollfd { fd: fd as c_int, events: 0, revents: 0 });
    let no_time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: an array of that length, a time that is there, no signal mask.
    unsafe { libc::syscall(libc::SYS_ppoll, fds.as_mut_ptr(), fds.len(), &no_time, null::<c_void>(), 0) };
    let open = fds.iter().filter(|fd| fd.revents & libc::POLLNVAL == 0).count();
    panic!("{open} open descriptors");
}

/// Says what stands in its region, as far as there is text.
fn recite(mut domain: Domain) -> ! {
    let text = domain.read("text");
    domain.run(move |_| {
        let mut bytes = [0; 64];
        text.read(0, &mut bytes);
        let line = bytes.split(|byte| !(b' '..=b'~').contains(byte)).next().unwrap_or_default();
        panic!("{}", str::from_utf8(line).unwrap_or_default());
    })
}
