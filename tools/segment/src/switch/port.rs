//! An endpoint in this process.

use std::{
    io,
    os::{
        fd::{AsFd, BorrowedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    time::Duration,
};

use super::cable::MAX_FRAME;

/// Longest path of a Unix socket, without the final zero.
const MAX_PATH: usize = 107;

/// Binds a datagram socket, with words for the usual trouble.
pub(super) fn bind(path: &Path) -> io::Result<UnixDatagram> {
    check_path(path)?;
    UnixDatagram::bind(path).map_err(|error| {
        let text = match error.kind() {
            io::ErrorKind::AddrInUse => {
                let name = path.file_stem().unwrap_or_default().display();
                format!("there is a port {name} already ({} exists)", path.display())
            }
            _ => format!("{}: {error}", path.display()),
        };
        io::Error::new(error.kind(), text)
    })
}

pub(super) fn check_path(path: &Path) -> io::Result<()> {
    let length = path.as_os_str().len();
    if length <= MAX_PATH {
        return Ok(());
    }
    let text = format!("{} has {length} bytes; the path of a socket can have {MAX_PATH}", path.display());
    Err(io::Error::new(io::ErrorKind::InvalidInput, text))
}

/// A port's other end, connected to the switch.
pub struct Port {
    socket: UnixDatagram,
    path: PathBuf,
}

impl Port {
    pub(super) fn new(socket: UnixDatagram, path: PathBuf) -> Self {
        Self { socket, path }
    }

    pub(super) fn connect(&self, own: &Path) -> io::Result<()> {
        self.socket.connect(own)
    }

    /// How long [`Port::send`] waits at most.
    pub fn set_write_timeout(&self, patience: Duration) -> io::Result<()> {
        self.socket.set_write_timeout(Some(patience))
    }

    /// Sends one frame; waits if the switch has not read the last ones.
    pub fn send(&self, frame: &[u8]) -> io::Result<()> {
        self.socket.send(frame).map(|_| ())
    }

    /// The next frame, if one comes in time.
    pub fn recv(&self, patience: Duration) -> io::Result<Option<Vec<u8>>> {
        let mut frame = vec![0; MAX_FRAME];
        // Zero would mean for ever.
        self.socket.set_read_timeout(Some(patience.max(Duration::from_millis(1))))?;
        match self.socket.recv(&mut frame) {
            Ok(length) => {
                frame.truncate(length);
                Ok(Some(frame))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A frame that waits already.
    pub fn try_recv(&self, frame: &mut [u8]) -> io::Result<Option<usize>> {
        use rustix::net::RecvFlags;
        match rustix::net::recv(&self.socket, frame, RecvFlags::DONTWAIT) {
            Ok((length, _)) => Ok(Some(length)),
            Err(rustix::io::Errno::AGAIN) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }
}

impl AsFd for Port {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl Drop for Port {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.path);
    }
}
