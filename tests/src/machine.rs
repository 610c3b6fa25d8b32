//! A Linux machine on the segment, with a kernel that has WireGuard and nftables, whatever the kernel of this host has.

use std::{
    env, fs,
    ops::{Deref, DerefMut},
    path::PathBuf,
    thread,
};

use native::runner::program_dir;
use qemu::linux::{Linux, READY};
use segment::switch::Held;

use crate::{bed::Bed, host::Host};

const MODULES: &[&str] = &["wireguard", "nf_tables", "nft_ct", "nft_limit"];

/// The administrator's host: its shell runs `os-network-admin`, and what that runs.
pub struct Machine {
    host: Host,
    console: PathBuf,
    _held: Held,
}

impl Machine {
    pub fn boot(bed: &Bed, name: &str) -> Self {
        let dir = bed.dir().join(name);
        fs::create_dir(&dir).expect("a directory for the machine");
        let own = bed.segment().join(name);
        let held = Held::attach(bed.segment(), name, &own).expect("a port");
        let ours = ["os-network-admin", "probe"].map(|program| program_dir().join(program));
        let programs = [ours.to_vec(), ["curl", "ip", "nft", "wg"].map(installed).to_vec()].concat();
        let mac = [0x02, 0, 0, 0, 0x78, 0x86];
        let linux = Linux { dir: &dir, mac, net: (&own, &held.own), programs: &programs, modules: MODULES };
        let mut command = linux.command().unwrap_or_else(|error| panic!("{error:#}"));
        let this = Self { host: Host::behind(&mut command), console: linux.console(), _held: held };
        this.host.hear(READY);
        this
    }
}

/// A program of this host, which may be where only root looks.
fn installed(name: &str) -> PathBuf {
    let path = env::var_os("PATH").unwrap_or_default();
    let all = env::split_paths(&path).chain(["/usr/sbin".into(), "/sbin".into()]);
    let found = all.map(|dir| dir.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is not installed: make deps"))
}

impl Deref for Machine {
    type Target = Host;

    fn deref(&self) -> &Host {
        &self.host
    }
}

impl DerefMut for Machine {
    fn deref_mut(&mut self) -> &mut Host {
        &mut self.host
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if thread::panicking() {
            let console = fs::read(&self.console).unwrap_or_default();
            eprintln!("--- the machine's console:\n{}---", String::from_utf8_lossy(&console));
        }
    }
}
