//! A node on a board: the release image in a QEMU machine, and the source behind its entropy device.

use std::{
    fs::{self, File, OpenOptions},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use native::runner::{Entropy, feed};
use qemu::{Image, Machine, Setup};
use rustix::fs::{CWD, FileType, Mode, OFlags, mknodat};

use crate::node::{Place, Running, Started};

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
    _machine: Machine,
    _source: Source,
}

/// Boots a machine. It ends with the thread that calls this.
pub fn start(board: &str, place: Place<'_>) -> Result<Started> {
    let dir = place.dir.join(format!("{}.machine", place.name));
    fs::create_dir(&dir).with_context(|| dir.display().to_string())?;
    let description = Some(place.description.to_owned());
    let image = Image { prefill: place.prefill, description, ..Image::new(board, "release") };
    let image = image.build(&dir).with_context(|| place.name.clone())?;
    let source = Source::start(dir.join("entropy"), place.entropy)?;
    let (machine, console) = Machine::boot(&Setup {
        board,
        image: &image,
        dir: &dir,
        device_secret: &place.device_secret,
        mac: place.mac,
        net: Some((&place.own, &place.behind)),
        entropy: source.path(),
    })?;
    Ok(Started {
        console: Box::new(console),
        processes: vec![(PROCESS.to_owned(), machine.pid())],
        running: Running::Machine(Powered { _machine: machine, _source: source }),
    })
}
