//! The node on seL4 as a QEMU machine, from its image (`sysdesc`), and a Linux machine for what only another kernel shows.
//!
//! It knows no protocol and looks at no frame: a machine has a console to read, a network socket, a source of
//! entropy and a device secret, as any board has.

mod flash;
mod initramfs;
pub mod linux;
pub mod machine;
mod memory;

use std::{os::unix::process::CommandExt, path::Path, process::Command};

use anyhow::{Context, Result, ensure};

pub use linux::Linux;
pub use machine::{Machine, Setup, flash, write_flash};
pub use memory::{Memory, find_within};

/// The checkout that this program was built in.
fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A network of datagrams: a frame each, from a socket to bind, to the one to send to.
fn dgram(own: &Path, switch: &Path) -> Result<String> {
    let (own, switch) = (plain(own)?, plain(switch)?);
    Ok(format!("dgram,id=net,local.type=unix,local.path={own},remote.type=unix,remote.path={switch}"))
}

/// A path as QEMU's options take it: a comma would end the option.
fn plain(path: &Path) -> Result<&str> {
    let text = path.to_str().filter(|text| !text.contains(','));
    let text = text.with_context(|| format!("{} cannot be given to QEMU", path.display()))?;
    ensure!(!text.is_empty(), "an empty path");
    Ok(text)
}

/// Lets it end with the thread that starts it.
fn with_us(command: &mut Command) {
    // SAFETY: between fork and exec, one system call and nothing that could hold a lock.
    unsafe {
        command.pre_exec(|| {
            let end = Some(rustix::process::Signal::KILL);
            Ok(rustix::process::set_parent_process_death_signal(end)?)
        });
    }
}
