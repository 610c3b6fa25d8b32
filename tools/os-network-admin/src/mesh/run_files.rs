//! Where a running mesh is found: a state file that its daemon holds locked while it lives, a socket, a log; all beside the
//! registry.

use std::{
    fs::{File, OpenOptions, TryLockError},
    io::{self, Read, Seek, Write},
    os::{fd::AsRawFd, unix::fs::OpenOptionsExt},
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};

use crate::base::files::NO_LINK;

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

/// What a socket is called when it is made or looked for: a name has room for 107 bytes, a path may have more. Then it is named by
/// its folder, which is open for as long as this is.
pub struct SocketName {
    pub name: PathBuf,
    _folder: Option<File>,
}

impl SocketName {
    pub fn of(path: &Path) -> io::Result<Self> {
        let (Some(folder), Some(file)) = (path.parent(), path.file_name()) else {
            return Err(io::ErrorKind::InvalidInput.into());
        };
        if path.as_os_str().len() < SOCKET_NAME {
            return Ok(Self { name: path.into(), _folder: None });
        }
        let folder =
            OpenOptions::new().read(true).custom_flags(nix::libc::O_PATH | nix::libc::O_DIRECTORY).open(folder)?;
        let name = Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(file);
        Ok(Self { name, _folder: Some(folder) })
    }
}

/// Of `sockaddr_un`, with the zero at its end.
const SOCKET_NAME: usize = 108;

/// Held by the one daemon of a registry.
pub struct Lock {
    file: File,
    paths: Paths,
}

impl Lock {
    /// `None`: another holds it.
    pub fn take(paths: &Paths) -> io::Result<Option<Self>> {
        let mut options = OpenOptions::new();
        let file = options
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .custom_flags(NO_LINK)
            .open(&paths.state)?;
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

    #[tokio::test]
    async fn a_socket_is_made_and_found_however_long_its_path_is() {
        let root = tempfile::tempdir().unwrap();
        let names = [10, 90, 97, 98, 99, 107, 108, 109, 400];
        for length in names.map(|length: usize| length.saturating_sub(root.path().as_os_str().len() + 1).max(1)) {
            let mut folder = root.path().to_owned();
            // A name has at most 255 bytes.
            [length.min(200), length.saturating_sub(200)].iter().for_each(|part| folder.push("d".repeat(*part)));
            std::fs::create_dir_all(&folder).unwrap();
            let paths = Paths::beside(&folder.join("registry"));
            let name = SocketName::of(&paths.socket).unwrap();
            let listener = tokio::net::UnixListener::bind(&name.name).unwrap();
            drop(name);
            assert!(paths.socket.exists(), "{length}");
            let name = SocketName::of(&paths.socket).unwrap();
            let (connected, accepted) = tokio::join!(tokio::net::UnixStream::connect(&name.name), listener.accept());
            assert!(connected.is_ok() && accepted.is_ok(), "{length}");
        }
    }

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
