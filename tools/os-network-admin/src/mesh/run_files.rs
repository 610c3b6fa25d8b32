//! Where a running mesh is found: a state file that its daemon holds locked while it lives, a socket, a log; all beside the
//! registry.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

/// What the state file says of the daemon that made it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DaemonState {
    pub pid: u32,
    pub fleet: String,
    pub interface: String,
    /// Of the interface, whatever it is called.
    #[serde(default)]
    pub index: u32,
    /// `kernel`, `user (tun)` or `user (veth)`.
    pub engine: String,
    pub since_ms: i64,
    /// Why it has ended, if not because it was told to.
    #[serde(default)]
    pub ended: Option<String>,
}

/// How a mesh is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Condition {
    /// Never up, or taken down.
    Down,
    /// Its daemon lives.
    Up,
    /// Its daemon has died and left this.
    Died(DaemonState),
}

#[derive(Debug, Clone)]
pub struct Paths {
    pub state: PathBuf,
    pub socket: PathBuf,
    pub log: PathBuf,
}

impl Paths {
    pub fn beside(registry: &Path) -> Self {
        let beside = |name| registry.with_file_name(name);
        Self { state: beside("mesh.json"), socket: beside("mesh.sock"), log: beside("mesh.log") }
    }

    pub fn condition(&self) -> io::Result<Condition> {
        let mut file = match File::open(&self.state) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Condition::Down),
            Err(error) => return Err(error),
        };
        match file.try_lock_shared() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Ok(Condition::Up),
            Err(TryLockError::Error(error)) => return Err(error),
        }
        let mut text = String::new();
        file.read_to_string(&mut text)?;
        // An empty one is of a daemon that died before it was up.
        Ok(serde_json::from_str(&text).map_or(Condition::Down, Condition::Died))
    }
}

/// Held by the one daemon of a registry.
pub struct Lock {
    file: File,
    paths: Paths,
}

impl Lock {
    /// `None`: another holds it.
    pub fn take(paths: &Paths) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).create(true).truncate(false).mode(0o600).open(&paths.state)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file, paths: paths.clone() })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(error)) => Err(error),
        }
    }

    pub fn write(&mut self, state: &DaemonState) -> io::Result<()> {
        self.file.rewind()?;
        self.file.set_len(0)?;
        self.file.write_all(serde_json::to_string(state)?.as_bytes())?;
        self.file.sync_all()
    }

    /// The end that was asked for: nothing is left.
    pub fn release(self) -> io::Result<()> {
        let gone = |path: &Path| match std::fs::remove_file(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            result => result,
        };
        gone(&self.paths.socket)?;
        gone(&self.paths.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mesh_is_up_while_its_daemon_lives_and_has_died_if_it_left_its_state() {
        let folder = tempfile::tempdir().unwrap();
        let paths = Paths::beside(&folder.path().join("registry"));
        assert_eq!(paths.condition().unwrap(), Condition::Down);
        let mut lock = Lock::take(&paths).unwrap().unwrap();
        assert!(Lock::take(&paths).unwrap().is_none());
        let state = DaemonState {
            pid: 1,
            fleet: "lab".into(),
            interface: "g".into(),
            index: 3,
            engine: "kernel".into(),
            since_ms: 5,
            ended: None,
        };
        lock.write(&state).unwrap();
        assert_eq!(paths.condition().unwrap(), Condition::Up);
        drop(lock);
        assert_eq!(paths.condition().unwrap(), Condition::Died(state));
        Lock::take(&paths).unwrap().unwrap().release().unwrap();
        assert_eq!(paths.condition().unwrap(), Condition::Down);
    }
}
