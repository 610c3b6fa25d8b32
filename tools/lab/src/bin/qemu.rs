//! `qemu BOARD`: boots a node with its console on this terminal. Ctrl-A X ends it.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::{Context, Result};
use clap::Parser;
use lab::Source;
use native::runner::Entropy;
use qemu::Setup;
use segment::switch::Held;

#[derive(Parser)]
#[command(about = "Boots a node on seL4 with its console on this terminal; Ctrl-A X ends it")]
struct Arguments {
    /// The board: qemu/BOARD.toml
    board: String,
    /// What `make image` has made
    #[arg(long, value_name = "FILE")]
    image: PathBuf,
    /// The machine's files: its device secret, made if it is not there. Another directory is another machine
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Put it on the segment of the lab that runs in this directory; without one the cable is loose
    #[arg(long, value_name = "DIR")]
    lab: Option<PathBuf>,
    /// What the source behind the entropy device gives: good, stuck, biased or fails-after:BYTES
    #[arg(long, value_name = "MODE", default_value_t)]
    entropy: Entropy,
}

fn main() -> Result<ExitCode> {
    let Arguments { board, image, dir, lab, entropy } = Arguments::parse();
    fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let device_secret = identity(&dir)?;
    let mut mac = [0; 6];
    getrandom::fill(&mut mac).context("no random bytes")?;
    // Locally administered, of one station.
    mac[0] = (mac[0] | 0x02) & 0xfe;
    let port = lab.map(|lab| join(&lab, &format!("qemu-{}", std::process::id()))).transpose()?;
    let source = Source::start(dir.join("entropy"), entropy)?;
    let setup = Setup {
        board: &board,
        image: &image,
        dir: &dir,
        device_secret: &device_secret,
        mac,
        net: port.as_ref().map(|port| (port.own.as_path(), port.held.own.as_path())),
        entropy: source.path(),
    };
    // The terminal is QEMU's meanwhile, its signals too.
    let status = setup.command()?.args(["-serial", "mon:stdio"]).status().context("QEMU")?;
    Ok(if status.success() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A port of the lab's switch, which lasts as long as this: its own socket's path, and the switch's.
struct Port {
    own: PathBuf,
    held: Held,
}

fn join(lab: &Path, name: &str) -> Result<Port> {
    let switch = lab::switch_of(lab)?;
    let own = switch.join(name);
    let held = Held::attach(&switch, name, &own).context("the lab's switch")?;
    Ok(Port { own, held })
}

fn identity(dir: &Path) -> Result<[u8; 32]> {
    let mut secret = [0; 32];
    match fs::read(dir.join("device-secret")) {
        Ok(bytes) => secret = bytes.try_into().ok().context("device-secret is not 32 bytes")?,
        Err(_) => getrandom::fill(&mut secret).context("no random bytes")?,
    }
    Ok(secret)
}
