//! Runs any program on a segment, without root.
//!
//! The program gets a network namespace with `lo` and one interface, `lab0`, with a MAC made of its name and the
//! IPv6 link-local address made from it; no DAD, no router discovery. `lab0` is one end of a veth pair. The
//! other end lies in a second network namespace, where this process moves frames between it and a
//! switch port of their own. What the program does to its interface stays in its namespace.
//!
//! It refuses to guess: where the kernel does not allow this, the error says what to change.

mod namespace;
mod plug;

use std::{
    ffi::OsString,
    io::ErrorKind,
    os::unix::process::{CommandExt, ExitStatusExt},
    path::Path,
    process::{Child, Command},
    time::Duration,
};

use anyhow::{Context, Result};
use netdev::packet::PacketSocket;
use rustix::{
    event::{PollFd, PollFlags},
    process::{Pid, PidfdFlags, Signal},
};

pub use self::plug::address;
use crate::switch::{Port, join};

/// The program's interface.
pub const INTERFACE: &str = "lab0";
/// Variable that tells the program its interface.
pub const VARIABLE: &str = "GENESIS_INTERFACE";
/// Exit codes that are not the program's: it was not started, cannot be executed, was not found.
pub const EXIT_FAILED: u8 = 125;
pub const EXIT_NOT_EXECUTABLE: u8 = 126;
pub const EXIT_NOT_FOUND: u8 = 127;
/// A switch that has not read for so long loses a frame.
const SWITCH_PATIENCE: Duration = Duration::from_millis(200);
/// How long what the program has left may take to end.
const ENDING: Duration = Duration::from_secs(2);
/// Frames moved one way before the other way's turn.
const TURN: usize = 64;
/// The longest frame with a VLAN tag, and one byte more.
const BUFFER: usize = 16 * 1024;

/// Runs `command` on the segment of the switch in `dir`, and returns its exit code: 128 and the signal's
/// number if it died of one. The calling process must have one thread: it moves into other namespaces,
/// for good.
pub fn run(dir: &Path, name: Option<&str>, command: &[OsString]) -> Result<u8> {
    let (program, arguments) = command.split_first().context("no command given")?;
    let name = name.map_or_else(|| format!("host-{}", std::process::id()), str::to_owned);
    // Before the new namespace, where the kernel's default would let fewer datagrams wait.
    let (_held, port) = join(dir, &name).with_context(|| format!("cannot join the switch in {}", dir.display()))?;
    port.set_write_timeout(SWITCH_PATIENCE)?;
    let wire = plug::plug(&name, INTERFACE)?;

    let mut command = Command::new(program);
    command.args(arguments).env(VARIABLE, INTERFACE);
    // SAFETY: the closure makes one system call and allocates nothing.
    unsafe {
        // A killed `enter` takes the program with it: it would be on no network any more.
        command.pre_exec(|| Ok(rustix::process::set_parent_process_death_signal(Some(Signal::TERM))?));
    }
    let mut child = match command.spawn() {
        Ok(child) => child,
        Err(error) => {
            say::tell!("lab enter: {}: {error}", program.display());
            let missing = error.kind() == ErrorKind::NotFound;
            return Ok(if missing { EXIT_NOT_FOUND } else { EXIT_NOT_EXECUTABLE });
        }
    };
    namespace::leave_keyboard_signals_to_the_child();
    bridge(&wire, &port, &child)?;
    let status = child.wait()?;
    let left = namespace::who_stays(ENDING);
    if !left.is_empty() {
        let pids = left.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
        say::tell!(
            "lab enter: what {} started lives on (process {pids}), on no network any more: the port has ended. What is to \
             stay is started in a shell that lasts (docs/lab.md)",
            program.display()
        );
    }
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    Ok(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(EXIT_FAILED))
}

/// Moves frames until the child has ended.
fn bridge(wire: &PacketSocket, port: &Port, child: &Child) -> Result<()> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).context("the child has no process id")?;
    let ended = rustix::process::pidfd_open(pid, PidfdFlags::empty()).context("cannot watch the program")?;
    let mut buffer = vec![0; BUFFER];
    let mut switch_is_there = true;
    loop {
        let mut watched =
            [PollFd::new(&ended, PollFlags::IN), PollFd::new(wire, PollFlags::IN), PollFd::new(port, PollFlags::IN)];
        let count = if switch_is_there { 3 } else { 2 };
        match rustix::event::poll(&mut watched[..count], None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        let over = !watched[0].revents().is_empty();
        for _ in 0..TURN {
            let length = match wire.receive(&mut buffer) {
                Ok(length) => length,
                Err(error) => match error.kind() {
                    // The program took its interface down. It may bring it up again.
                    ErrorKind::WouldBlock | ErrorKind::Interrupted | ErrorKind::NetworkDown => break,
                    _ => return Err(error.into()),
                },
            };
            if let Err(error) = port.send(&buffer[..length])
                && error.kind() != ErrorKind::WouldBlock
                && std::mem::take(&mut switch_is_there)
            {
                say::tell!("lab enter: the switch has gone; the program is on no network any more");
            }
        }
        for _ in 0..TURN {
            let Some(length) = port.try_recv(&mut buffer)? else { break };
            wire.send(&buffer[..length]);
        }
        if over {
            return Ok(());
        }
    }
}
