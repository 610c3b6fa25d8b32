//! A node on a board: the release image in a QEMU machine, and the source behind its entropy device.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    process::ChildStdout,
};

use anyhow::{Context, Result};
use native::runner::{Entropy, feed};
use qemu::{Machine, Memory, Setup};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};
use sysdesc::image::assemble::Recipe;

use crate::boot::Boot;

/// What a machine is in `processes` of `nodes.json`: its domains are no processes here.
pub const PROCESS: &str = "qemu";

/// A FIFO that is fed, for as long as this is there.
pub struct Source {
    path: PathBuf,
    /// The machine has one too, but not yet, or not any more.
    _reader: File,
}

impl Source {
    /// Makes a FIFO, in place of an earlier one.
    pub fn start(path: PathBuf, entropy: Entropy) -> Result<Self> {
        let start = || {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
            mknodat(CWD, &path, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0)?;
            let nonblock = OFlags::NONBLOCK.bits().cast_signed();
            let reader = OpenOptions::new().read(true).custom_flags(nonblock).open(&path)?;
            // There is a reader, so this does not wait for one. When the last is gone, the feeding ends.
            feed(OpenOptions::new().write(true).open(&path)?.into(), entropy)?;
            Ok(reader)
        };
        let reader = start().with_context(|| path.display().to_string())?;
        Ok(Self { path, _reader: reader })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }
}

/// A machine that is on. Dropping it is pulling the plug.
pub struct Powered {
    machine: Machine,
    /// The image that it has booted.
    pub image: PathBuf,
    /// Its memory, if a domain has a fuse: it is lit there.
    pub memory: Option<Memory>,
    _source: Source,
}

impl Powered {
    pub fn pid(&self) -> u32 {
        self.machine.pid()
    }
}

/// Boots a machine. It ends with the thread that calls this.
pub fn start(board: &str, boot: &mut Boot) -> Result<(Powered, ChildStdout)> {
    let memory = (!boot.faulty.is_empty()).then(Memory::new).transpose()?;
    let image = match boot.image.take() {
        Some(image) => image,
        None => build(board, boot)?,
    };
    boot.image = Some(image.clone());
    let dir = &boot.device.dir;
    let source = Source::start(dir.join("entropy"), boot.entropy)?;
    let setup = Setup {
        board,
        image: &image,
        dir,
        device_secret: &boot.device.secret,
        mac: boot.device.mac,
        net: Some((&boot.own, &boot.behind)),
        entropy: source.path(),
    };
    let (machine, console) = match &memory {
        Some(memory) => Machine::boot_in(memory, &setup)?,
        None => Machine::boot(&setup)?,
    };
    Ok((Powered { machine, image, memory, _source: source }, console))
}

/// Puts the image together, once for all that it is switched on.
fn build(board: &str, boot: &Boot) -> Result<PathBuf> {
    let dir = boot.dir.join(format!("{}.image", boot.name));
    fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
    let recipe = Recipe {
        prefill: boot.prefill.clone(),
        description: Some(boot.description.clone()),
        faulty: boot.faulty.clone(),
        tenant: boot.tenant.clone(),
        ..Recipe::new(board, "release")
    };
    recipe.build(&dir).with_context(|| boot.name.clone())
}
