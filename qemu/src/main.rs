//! `qemu BOARD`: boots a node with its console on this terminal. Ctrl-A X ends it.

use std::{
    os::unix::process::CommandExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use clap::Parser;
use qemu::Setup;

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
    /// Connect the network to the switch's socket that is this port's; without it the cable is loose
    #[arg(long, value_name = "SOCKET")]
    switch: Option<PathBuf>,
    /// What the entropy device reads
    #[arg(long, value_name = "FILE", default_value = "/dev/urandom")]
    entropy: PathBuf,
}

fn main() -> Result<()> {
    let Arguments { board, image, dir, switch, entropy } = Arguments::parse();
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let device_secret = identity(&dir)?;
    let mut mac = [0; 6];
    getrandom::fill(&mut mac).context("no random bytes")?;
    // Locally administered, of one station.
    mac[0] = (mac[0] | 0x02) & 0xfe;
    let own = dir.join("net");
    let setup = Setup {
        board: &board,
        image: &image,
        dir: &dir,
        device_secret: &device_secret,
        mac,
        net: switch.as_deref().map(|switch| (own.as_path(), switch)),
        entropy: &entropy,
    };
    let error = setup.command()?.args(["-serial", "mon:stdio"]).exec();
    Err(error).context("QEMU")
}

fn identity(dir: &Path) -> Result<[u8; 32]> {
    let mut secret = [0; 32];
    match std::fs::read(dir.join("device-secret")) {
        Ok(bytes) => secret = bytes.try_into().ok().context("device-secret is not 32 bytes")?,
        Err(_) => getrandom::fill(&mut secret).context("no random bytes")?,
    }
    Ok(secret)
}
