//! The handles of a lab that others rely on, as docs/lab.md has them.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write},
    net::Ipv6Addr,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::Node;

pub const NODES: &str = "nodes.json";
pub const SEGMENT: &str = "segment.pcapng";
pub const ENTER: &str = "enter";
pub const LOCK: &str = "lock";
/// Where the switch's sockets are. Not one of the handles.
pub const LAB: &str = "lab.json";
/// What a supervisor says when something goes wrong after `lab up` has returned.
pub const LOG: &str = "supervisor.log";
const CONSOLE: &str = "console.log";
const TICKET: &str = "ticket";
/// The image's anchor, of nodes that are kept.
pub const ANCHOR: &str = "anchor.bin";
/// How the directory of the sockets begins, in the system's temporary directory.
pub const SWITCH_PREFIX: &str = "genesis-lab-";

/// One node in `nodes.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub name: String,
    /// `native`, or the board that it runs on.
    pub board: String,
    /// `starting` until the console has said one; `off` if somebody has switched it off; `dead` if no domain is left.
    pub phase: String,
    pub console: PathBuf,
    pub ticket: Option<PathBuf>,
    pub fingerprint: Option<String>,
    pub fiduciary: Option<String>,
    pub anchor: Option<String>,
    pub address: Option<Ipv6Addr>,
    pub mac: String,
    pub port: String,
    pub processes: std::collections::BTreeMap<String, u32>,
    pub faults: Vec<String>,
    pub deaths: Vec<String>,
}

/// `lab.json`.
#[derive(Serialize, Deserialize)]
pub struct LabFile {
    /// The directory of the switch.
    pub switch: PathBuf,
}

/// A lab's directory.
#[derive(Clone)]
pub struct Dir(pub PathBuf);

impl Dir {
    pub fn path(&self, name: &str) -> PathBuf {
        self.0.join(name)
    }

    /// The console log of a node, in a directory that is made for it.
    pub fn console_of(&self, node: &str) -> Result<PathBuf> {
        let dir = self.path(node);
        fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
        Ok(dir.join(CONSOLE))
    }

    /// What `nodes.json` says of a node. Its ticket is in its file before this says so.
    pub fn record(&self, node: &Node) -> Result<Record> {
        let seen = node.seen();
        let dir = self.path(node.name());
        let ticket = match &seen.ticket {
            None => None,
            Some(text) => {
                let (path, line) = (dir.join(TICKET), format!("{text}\n"));
                // A device that was wiped shows another.
                if fs::read(&path).ok().as_deref() != Some(line.as_bytes()) {
                    replace(&path, line.as_bytes(), 0o600)?;
                }
                Some(path)
            }
        };
        let phase = match &seen {
            seen if seen.off => "off",
            seen if seen.ended => "dead",
            seen => seen.phase().unwrap_or("starting"),
        };
        let phase = phase.to_owned();
        let mac = node.mac().map(|byte| format!("{byte:02x}")).join(":");
        Ok(Record {
            name: node.name().to_owned(),
            board: node.board().to_owned(),
            phase,
            console: dir.join(CONSOLE),
            ticket,
            mac,
            port: node.name().to_owned(),
            processes: node.processes(),
            fingerprint: seen.fingerprint,
            fiduciary: seen.fiduciary,
            anchor: seen.anchor,
            address: seen.address,
            faults: seen.faults,
            deaths: seen.deaths.into_iter().map(|(_, how)| how).collect(),
        })
    }

    pub fn write_nodes(&self, records: &[Record]) -> Result<()> {
        let mut text = serde_json::to_vec_pretty(records)?;
        text.push(b'\n');
        replace(&self.path(NODES), &text, 0o644)
    }

    pub fn read_nodes(&self) -> Result<Vec<Record>> {
        let path = self.path(NODES);
        let text = fs::read(&path).with_context(|| path.display().to_string())?;
        serde_json::from_slice(&text).with_context(|| path.display().to_string())
    }

    pub fn write_lab(&self, switch: &Path) -> Result<()> {
        let lab = LabFile { switch: switch.to_owned() };
        replace(&self.path(LAB), &serde_json::to_vec(&lab)?, 0o644)
    }

    pub fn read_lab(&self) -> Option<LabFile> {
        serde_json::from_slice(&fs::read(self.path(LAB)).ok()?).ok()
    }

    /// The anchor of nodes that are kept: this one from now on, or that of before.
    pub fn keep_anchor(&self, anchor: Option<Vec<u8>>) -> Result<Option<Vec<u8>>> {
        let path = self.path(ANCHOR);
        match anchor {
            Some(bytes) => {
                replace(&path, &bytes, 0o644)?;
                Ok(Some(bytes))
            }
            None => match fs::read(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
                read => read.map(Some).with_context(|| path.display().to_string()),
            },
        }
    }

    /// The script `enter`: `lab enter` with the directory filled in.
    pub fn write_enter(&self) -> Result<()> {
        let program = std::env::current_exe().context("cannot find this program")?;
        let script = format!("#!/bin/sh\nexec {} enter --lab {} \"$@\"\n", quoted(&program)?, quoted(&self.0)?);
        replace(&self.path(ENTER), script.as_bytes(), 0o755)
    }

    /// Takes away what names a lab that no longer runs. Its logs and its record stay, its tickets do not.
    pub fn retire(&self) -> Result<()> {
        for name in [NODES, ENTER, LAB] {
            remove(&self.path(name))?;
        }
        self.node_dirs()?.iter().try_for_each(|dir| remove(&dir.join(TICKET)))
    }

    /// Takes away the logs of an earlier lab.
    pub fn clear(&self) -> Result<()> {
        self.retire()?;
        for dir in self.node_dirs()? {
            remove(&dir.join(CONSOLE))?;
            // Somebody else's files in it stay.
            let _ = fs::remove_dir(&dir);
        }
        Ok(())
    }

    fn node_dirs(&self) -> Result<Vec<PathBuf>> {
        let is_node = |name: &str| name.strip_prefix("node-").is_some_and(|number| number.parse::<u32>().is_ok());
        let entries = match fs::read_dir(&self.0) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            entries => entries.with_context(|| self.0.display().to_string())?,
        };
        let nodes = entries.flatten().filter(|entry| entry.file_name().to_str().is_some_and(is_node));
        Ok(nodes.map(|entry| entry.path()).collect())
    }
}

/// Readers see the old file or the new one, never a part.
fn replace(path: &Path, bytes: &[u8], mode: u32) -> Result<()> {
    let write = || {
        let mut name = path.as_os_str().to_owned();
        name.push(".new");
        remove_raw(Path::new(&name))?;
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&name)?;
        file.write_all(bytes)?;
        drop(file);
        fs::rename(&name, path)
    };
    write().with_context(|| format!("cannot write {}", path.display()))
}

fn remove(path: &Path) -> Result<()> {
    remove_raw(path).with_context(|| format!("cannot remove {}", path.display()))
}

fn remove_raw(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn quoted(path: &Path) -> Result<String> {
    let text = path.to_str().with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, process::Command};

    use super::*;

    #[test]
    fn files_are_replaced_whole_and_with_their_mode() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ticket");
        for text in ["one", "two"] {
            replace(&path, text.as_bytes(), 0o600).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), text);
            assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        }
        assert_eq!(dir.path().read_dir().unwrap().count(), 1);
    }

    #[test]
    fn a_shell_reads_a_quoted_path_as_it_is() {
        let path = Path::new("/it's a $HOME `of` \"odd\" \\ names");
        let script = format!("printf %s {}", quoted(path).unwrap());
        let said = Command::new("sh").args(["-c", &script]).output().unwrap();
        assert_eq!(said.stdout, path.as_os_str().as_encoded_bytes());
    }

    #[test]
    fn what_an_earlier_lab_left_goes_and_what_is_anothers_stays() {
        let dir = tempfile::tempdir().unwrap();
        let lab = Dir(dir.path().to_owned());
        for node in ["node-1", "node-2"] {
            fs::write(lab.console_of(node).unwrap(), "log").unwrap();
            fs::write(lab.path(node).join(TICKET), "secret").unwrap();
        }
        fs::write(lab.path("node-2").join("mine"), "").unwrap();
        lab.write_enter().unwrap();
        lab.retire().unwrap();
        assert!(lab.path("node-1").join(CONSOLE).exists() && !lab.path("node-1").join(TICKET).exists());
        assert!(!lab.path(ENTER).exists());
        lab.clear().unwrap();
        assert!(!lab.path("node-1").exists() && lab.path("node-2").join("mine").exists());
    }
}
