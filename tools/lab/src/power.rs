//! `lab power` and `lab wipe`: the switch of each node of a lab that runs.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail};
use clap::{Args, ValueEnum};

use crate::{
    Node,
    up::{STOP, switch_of},
};

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Power {
    /// It boots with the flash that it has
    On,
    /// It ends; nothing if it is off
    Off,
    /// All its processes are killed at once, wherever they are
    Cut,
    /// It becomes a new device, and is switched on again if it was on
    #[value(skip)]
    Wipe,
}

#[derive(Args)]
pub struct Switch {
    /// The node: node-1, node-2, ...
    pub node: String,
    pub power: Power,
    /// The lab's directory
    #[arg(long, default_value = "target/lab")]
    pub dir: PathBuf,
}

#[derive(Args)]
pub struct Wipe {
    /// The node: node-1, node-2, ...
    pub node: String,
    /// The lab's directory
    #[arg(long, default_value = "target/lab")]
    pub dir: PathBuf,
}

impl Power {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::On => "on",
            Self::Off => "off",
            Self::Cut => "cut",
            Self::Wipe => "wipe",
        }
    }

    pub(crate) fn from_name(name: &str) -> Option<Self> {
        [Self::On, Self::Off, Self::Cut, Self::Wipe].into_iter().find(|power| power.name() == name)
    }

    pub(crate) fn apply(self, node: &mut Node) -> Result<()> {
        match self {
            Self::On => node.on()?,
            Self::Off => node.off(),
            Self::Cut => node.cut(),
            Self::Wipe => {
                let on = node.is_on();
                node.off();
                node.wipe()?;
                if on {
                    node.on()?;
                }
            }
        }
        Ok(())
    }
}

/// Does it to a node of the lab that runs in a directory, and returns when it is done.
pub fn power(dir: &Path, node: &str, power: Power) -> Result<()> {
    let mut stream = UnixStream::connect(switch_of(dir)?.join(STOP)).context("cannot speak to the lab")?;
    stream.write_all(format!("{node} {}\n", power.name()).as_bytes())?;
    let mut answer = String::new();
    BufReader::new(stream).read_line(&mut answer)?;
    match answer.trim_end().split_once(' ') {
        None if answer == "ok\n" => Ok(()),
        Some(("error", why)) => bail!("{why}"),
        _ => bail!("the lab has ended meanwhile"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_done_has_a_name() {
        for power in [Power::On, Power::Off, Power::Cut, Power::Wipe] {
            assert_eq!(Power::from_name(power.name()), Some(power));
        }
        assert_eq!(Power::from_name("of"), None);
    }
}
