//! A QEMU machine, from power-on until it is dropped.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result};
use serde::Deserialize;

use crate::{dgram, memory::Memory, plain, project, with_us};

/// `qemu/BOARD.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    program: String,
    /// Bytes.
    ram: u64,
    arguments: Vec<String>,
}

impl Line {
    fn of(board: &str) -> Result<Self> {
        let file = project().join("qemu").join(format!("{board}.toml"));
        let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
        toml::from_str(&text).with_context(|| file.display().to_string())
    }
}

/// What runs a board's machine: the name of a program.
pub fn program(board: &str) -> Result<String> {
    Ok(Line::of(board)?.program)
}

/// What is on the outside of a machine.
pub struct Setup<'a> {
    pub board: &'a str,
    pub image: &'a Path,
    /// An existing directory for this machine's own files.
    pub dir: &'a Path,
    /// Per node, put into memory beside the image.
    pub device_secret: &'a [u8; 32],
    pub mac: [u8; 6],
    /// A datagram socket to bind, and the one to send to: a frame each datagram. Without it the cable is loose.
    pub net: Option<(&'a Path, &'a Path)>,
    /// What the entropy device reads: a character device or a FIFO that somebody holds open.
    pub entropy: &'a Path,
}

/// A running machine. Dropping it is pulling the plug.
pub struct Machine(Child);

impl Machine {
    /// Boots it; its console is to be read, or it waits.
    pub fn boot(setup: &Setup<'_>) -> Result<(Self, ChildStdout)> {
        Self::start(setup, setup.command()?)
    }

    /// The same, with its memory in reach.
    pub fn boot_in(memory: &Memory, setup: &Setup<'_>) -> Result<(Self, ChildStdout)> {
        let mut command = setup.command()?;
        let (size, path) = (Line::of(setup.board)?.ram, memory.path());
        let backend = format!("memory-backend-file,id=ram,size={size}B,share=on,mem-path={path}");
        command.args(["-object", &backend, "-machine", "memory-backend=ram"]);
        Self::start(setup, command)
    }

    fn start(setup: &Setup<'_>, mut command: Command) -> Result<(Self, ChildStdout)> {
        command.args(["-serial", "stdio"]).stdin(Stdio::null()).stdout(Stdio::piped());
        let mut child = command.spawn().with_context(|| setup.board.to_owned())?;
        let console = child.stdout.take().context("no pipe to QEMU")?;
        Ok((Self(child), console))
    }

    pub fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Setup<'_> {
    /// QEMU for this machine, with nothing said about its console. It ends with the thread that starts it.
    pub fn command(&self) -> Result<Command> {
        let line = Line::of(self.board)?;
        let secret = self.dir.join("device-secret");
        let mut options = File::options();
        let file = options.write(true).create(true).truncate(true).mode(0o600).open(&secret);
        file.and_then(|mut file| file.write_all(self.device_secret)).with_context(|| secret.display().to_string())?;
        let mac = self.mac.map(|byte| format!("{byte:02x}")).join(":");
        let ram = format!("{}B", line.ram);
        let values = [("{image}", plain(self.image)?), ("{secret}", plain(&secret)?), ("{mac}", &mac), ("{ram}", &ram)];
        let fill = |argument: &String| {
            values.iter().fold(argument.clone(), |argument, (name, value)| argument.replace(name, value))
        };
        let net = match self.net {
            None => "hubport,id=net,hubid=0".to_owned(),
            Some((own, switch)) => dgram(own, switch)?,
        };
        let mut command = Command::new(&line.program);
        command.args(line.arguments.iter().map(fill)).args(["-nodefaults", "-display", "none", "-no-reboot"]);
        command
            .args(["-netdev", &net, "-object"])
            .arg(format!("rng-random,id=source,filename={}", plain(self.entropy)?));
        with_us(&mut command);
        Ok(command)
    }
}
