//! A QEMU machine, from power-on until it is dropped.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use serde::{Deserialize, de::DeserializeOwned};

use crate::{dgram, flash::Flash, memory::Memory, plain, project, with_us};

/// `qemu/BOARD.toml`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Line {
    program: String,
    arguments: Vec<String>,
    flash: Flash,
}

/// What `boards/BOARD.toml` says of the memory, which is all that is read there.
#[derive(Deserialize)]
struct Board {
    ram: Ram,
}

#[derive(Deserialize)]
struct Ram {
    /// Bytes.
    size: u64,
}

/// A file of the project about a board.
fn read<T: DeserializeOwned>(dir: &str, board: &str) -> Result<T> {
    let file = project().join(dir).join(format!("{board}.toml"));
    let text = fs::read_to_string(&file).with_context(|| file.display().to_string())?;
    toml::from_str(&text).with_context(|| file.display().to_string())
}

impl Line {
    fn of(board: &str) -> Result<Self> {
        let line: Self = read("qemu", board)?;
        line.check().with_context(|| format!("qemu/{board}.toml"))?;
        Ok(line)
    }

    /// With less memory than the board's image is made for neither kernel nor node says a word: no number of its own.
    fn check(&self) -> Result<()> {
        let sizes: Vec<_> = self.arguments.iter().filter(|argument| argument.starts_with("size=")).collect();
        let after_m = self.arguments.iter().skip_while(|argument| *argument != "-m").nth(1);
        ensure!(
            sizes == ["size={ram}"] && after_m.is_some_and(|size| size == "size={ram}"),
            "the machine has as much memory as boards/ says that it needs: \"-m\", \"size={{ram}}\""
        );
        Ok(())
    }
}

/// How much memory the board's image needs, in bytes.
fn ram(board: &str) -> Result<u64> {
    Ok(read::<Board>("boards", board)?.ram.size)
}

/// What runs a board's machine: the name of a program.
pub fn program(board: &str) -> Result<String> {
    Ok(Line::of(board)?.program)
}

/// What stands in the flash of the machine in this directory: the blocks that are the board's.
pub fn flash(board: &str, dir: &Path) -> Result<Vec<u8>> {
    Line::of(board)?.flash.read(dir)
}

/// Puts other contents into the flash of a machine that does not run.
pub fn write_flash(board: &str, dir: &Path, bytes: &[u8]) -> Result<()> {
    Line::of(board)?.flash.write(dir, bytes)
}

/// What is on the outside of a machine.
pub struct Setup<'a> {
    pub board: &'a str,
    pub image: &'a Path,
    /// An existing directory for this machine's own files. Its flash stays there: with another directory it is another device.
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
        let (size, path) = (ram(setup.board)?, memory.path());
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
        let flash = line.flash.of(self.dir)?;
        let mac = self.mac.map(|byte| format!("{byte:02x}")).join(":");
        let ram = format!("{}B", ram(self.board)?);
        let values = [
            ("{image}", plain(self.image)?),
            ("{secret}", plain(&secret)?),
            ("{flash}", plain(&flash)?),
            ("{mac}", &mac),
            ("{ram}", &ram),
        ];
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

#[cfg(test)]
mod tests {
    use sysdesc::image::assemble::sel4_boards;

    use super::*;

    #[test]
    fn a_machine_has_the_memory_that_its_boards_image_is_made_for() {
        for board in sel4_boards().unwrap() {
            let dir = tempfile::tempdir().unwrap();
            let setup = Setup {
                board: &board,
                image: Path::new("image"),
                dir: dir.path(),
                device_secret: &[0; 32],
                mac: [2; 6],
                net: None,
                entropy: Path::new("/dev/urandom"),
            };
            let command = setup.command().unwrap();
            let arguments: Vec<_> = command.get_args().collect();
            let at = arguments.iter().position(|argument| *argument == "-m").expect("its memory");
            assert_eq!(arguments[at + 1].to_str(), Some(&*format!("size={}B", ram(&board).unwrap())));
            assert!(ram(&board).unwrap() >= 2 << 30);
        }
    }

    #[test]
    fn a_machine_with_memory_of_its_own_choice_is_refused() {
        let line = |arguments: &[&str]| Line {
            program: "qemu".to_owned(),
            arguments: arguments.iter().map(|argument| (*argument).to_owned()).collect(),
            ..Line::of("qemu_virt_aarch64").unwrap()
        };
        assert!(line(&["-m", "size={ram}"]).check().is_ok());
        for bad in
            [&["-m", "size=1G"][..], &["-m", "1G"], &["-machine", "virt"], &["-m", "size={ram}", "-m", "size=1G"]]
        {
            assert!(line(bad).check().is_err(), "{bad:?}");
        }
    }
}
