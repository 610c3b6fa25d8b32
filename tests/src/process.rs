//! The memory of a native node's processes. A domain lets nobody read its own but who may trace any process: root, or root
//! of the user namespace that the node was started in.

use std::{
    env,
    fs::{self, File},
    io::ErrorKind,
    process::Command,
};

use qemu::find_within;
use rustix::thread::{CapabilitySet, capabilities};

/// Whether this program may read the memory of the nodes that it starts.
pub fn may_read() -> bool {
    capabilities(None).expect("own capabilities").effective.contains(CapabilitySet::SYS_PTRACE)
}

/// Runs this test of this program once more, as root of a user namespace of its own.
pub fn again_as_root(test: &str) {
    let mut command = Command::new("unshare");
    command.args(["-Ur", "--kill-child"]).arg(env::current_exe().expect("this program"));
    let status = command.args(["--exact", test, "--nocapture"]).status();
    assert!(status.expect("unshare, of util-linux, is needed").success(), "{test} fails as root");
}

/// Where these bytes stand in what the process has mapped, its own and what it shares.
pub fn find(process: u32, bytes: &[u8]) -> Vec<u64> {
    let of = |what: &str| format!("/proc/{process}/{what}");
    let maps = fs::read_to_string(of("maps")).expect("a process that runs");
    let memory = File::open(of("mem")).expect("the right to trace it");
    let parts = maps.lines().filter(|line| !is_the_kernels(line)).map(|line| {
        let (start, rest) = line.split_once('-').expect("an address");
        let (end, _) = rest.split_once(' ').expect("an address");
        let address = |hex| u64::from_str_radix(hex, 16).expect("hex");
        address(start)..address(end)
    });
    parts
        .flat_map(|part| find_within(&memory, part.clone(), bytes).unwrap_or_else(|error| panic!("{part:x?}: {error}")))
        .collect()
}

/// Pages that the kernel shows to every process, and that cannot be read so.
fn is_the_kernels(mapping: &str) -> bool {
    ["[vvar]", "[vvar_vclock]", "[vsyscall]"].iter().any(|name| mapping.ends_with(name))
}

/// Whether the process runs domain code: before that it gives up all system calls but a few.
pub fn is_sealed(process: u32) -> bool {
    match fs::read_to_string(format!("/proc/{process}/status")) {
        Ok(status) => status.lines().any(|line| line == "Seccomp:\t2"),
        Err(error) if error.kind() == ErrorKind::NotFound => false,
        Err(error) => panic!("{error}"),
    }
}
