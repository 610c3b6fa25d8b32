//! What is to be run, and on what.

use std::{
    collections::BTreeMap,
    fmt,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
    str::FromStr,
};

use sysdesc::{Board, DeviceKind};

/// The board that `native` has built in.
const NATIVE: &str = include_str!("../../../../boards/native.toml");

/// A system to run.
pub struct Config {
    /// The text of the system description, in the project's dialect.
    pub description: String,
    pub board: Board,
    /// Where programs and prefill files are looked for, in order; the current directory comes last.
    pub search_path: Vec<PathBuf>,
    /// What fills a region, in place of the description's file. The rest of the region is zero.
    pub prefill: BTreeMap<String, Vec<u8>>,
    /// What stands behind a device, by `DOMAIN.DEVICE`. Without it: [`Plug::default_of`].
    pub devices: BTreeMap<String, Plug>,
    /// Lets the others run on after a death, and the parent of the dead start it anew.
    pub keep_going: bool,
}

/// What stands behind a device.
#[derive(Debug)]
pub enum Plug {
    /// Nothing: a network device whose cable is loose; a timer; a flash that is new, and forgotten at the end.
    Nothing,
    /// A port of a switch: the endpoint's own socket, the switch's, and the device's address.
    Switch {
        own: PathBuf,
        switch: PathBuf,
        mac: [u8; 6],
    },
    Entropy(Entropy),
    /// The runner's own standard output.
    Stdout,
    /// A file to append to; of a flash, what is in it.
    File(PathBuf),
    /// An open descriptor to write to; of a flash, one that is read too and is of its size.
    Descriptor(OwnedFd),
}

/// What the entropy source gives: the tests behind it see the difference, or must.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Entropy {
    /// The kernel's random bytes.
    #[default]
    Good,
    /// One value for ever.
    Stuck,
    /// Each bit is one with probability 0.9.
    Biased,
    /// Good for so many bytes, then stuck.
    FailsAfter(u64),
}

/// Text that is no such option.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct BadOption(String);

impl Config {
    /// A system on the built-in board, with programs beside the present one.
    pub fn new(description: impl Into<String>) -> Self {
        Self {
            description: description.into(),
            board: Board::parse(NATIVE).expect("the built-in board is checked by a test"),
            search_path: vec![program_dir()],
            prefill: BTreeMap::new(),
            devices: BTreeMap::new(),
            keep_going: false,
        }
    }
}

/// Where this build's programs are: the directory of the present one. A test's is one below.
pub fn program_dir() -> PathBuf {
    let program = std::env::current_exe().unwrap_or_default();
    let dir = program.parent().unwrap_or(Path::new("."));
    if dir.ends_with("deps") { dir.parent().unwrap_or(dir).to_owned() } else { dir.to_owned() }
}

impl Plug {
    pub fn default_of(kind: DeviceKind) -> Self {
        match kind {
            DeviceKind::EntropyPipe => Self::Entropy(Entropy::Good),
            DeviceKind::File => Self::Stdout,
            DeviceKind::SwitchPort | DeviceKind::Timerfd | DeviceKind::Flash => Self::Nothing,
        }
    }

    /// As `--device` has it, for a device of this kind.
    pub fn parse(kind: DeviceKind, text: &str) -> Result<Self, BadOption> {
        match kind {
            DeviceKind::SwitchPort => {
                let [own, switch, mac] = text.split(',').collect::<Vec<_>>()[..] else {
                    return Err(BadOption(format!("\"{text}\" is not OWN_SOCKET,SWITCH_SOCKET,MAC")));
                };
                Ok(Self::Switch { own: own.into(), switch: switch.into(), mac: parse_mac(mac)? })
            }
            DeviceKind::EntropyPipe => text.parse().map(Self::Entropy),
            DeviceKind::File | DeviceKind::Flash => Ok(Self::File(text.into())),
            DeviceKind::Timerfd => Err(BadOption("a timer has no options".to_owned())),
        }
    }
}

fn parse_mac(text: &str) -> Result<[u8; 6], BadOption> {
    let bytes: Option<Vec<u8>> = text
        .split(':')
        .map(|byte| u8::from_str_radix(byte, 16).ok().filter(|_| byte.len() == 2 && !byte.starts_with('+')))
        .collect();
    let mac: Option<[u8; 6]> = bytes.and_then(|bytes| bytes.try_into().ok());
    // The lowest bit of the first byte marks a group.
    mac.filter(|mac| mac[0] & 1 == 0).ok_or_else(|| BadOption(format!("\"{text}\" is not the MAC address of a host")))
}

impl FromStr for Entropy {
    type Err = BadOption;

    fn from_str(text: &str) -> Result<Self, BadOption> {
        let refused = || BadOption(format!("\"{text}\" is not good, stuck, biased or fails-after:BYTES"));
        match text {
            "good" => Ok(Self::Good),
            "stuck" => Ok(Self::Stuck),
            "biased" => Ok(Self::Biased),
            _ => {
                let bytes = text.strip_prefix("fails-after:").and_then(|bytes| bytes.parse().ok());
                bytes.map(Self::FailsAfter).ok_or_else(refused)
            }
        }
    }
}

impl fmt::Display for Entropy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Good => f.write_str("good"),
            Self::Stuck => f.write_str("stuck"),
            Self::Biased => f.write_str("biased"),
            Self::FailsAfter(bytes) => write!(f, "fails-after:{bytes}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_built_in_board_is_one() {
        assert_eq!(Config::new("").board.platform, sysdesc::Platform::Native);
    }

    #[test]
    fn options_are_read_whole_or_refused() {
        for text in ["good", "stuck", "biased", "fails-after:4096"] {
            assert_eq!(text.parse::<Entropy>().unwrap().to_string(), text);
        }
        for text in ["", "Good", "fails-after:", "fails-after:-1", "fails-after:1k"] {
            assert!(text.parse::<Entropy>().is_err(), "{text}");
        }
        let port = |text| Plug::parse(DeviceKind::SwitchPort, text);
        assert!(matches!(port("a,b,02:00:00:00:00:0a"), Ok(Plug::Switch { mac: [2, 0, 0, 0, 0, 10], .. })));
        for text in ["a,b", "a,b,02:00:00:00:00", "a,b,03:00:00:00:00:01", "a,b,2:0:0:0:0:1", "a,b,02:00:00:00:00:0a,c"]
        {
            assert!(port(text).is_err(), "{text}");
        }
    }
}
