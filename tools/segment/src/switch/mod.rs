//! The switch: joins nodes, host programs and QEMU machines to one Ethernet segment, without root.
//!
//! It is a hub: every frame goes to every other port, whatever its addresses. For secrecy that is the worst
//! case, and the one to test against. It records all it receives ([`crate::record`]). It refuses to learn
//! addresses, to answer anything, and to wait for anybody: a port that does not read loses its own frames
//! and nobody else's.
//!
//! Each port is a pair of `AF_UNIX` datagram sockets in a directory of mode 0700: the endpoint's, bound
//! where [`Switch::attach`] was told, and the switch's own, bound where `attach` answers. One datagram is
//! one frame. A datagram that does not come from the endpoint's path is dropped and counted. That each
//! port has a socket of its own on the switch's side is what keeps ports apart: the kernel charges a
//! datagram that nobody reads to its sender.
//!
//! For QEMU: `-netdev dgram,id=n,local.type=unix,local.path=ENDPOINT,remote.type=unix,remote.path=OWN`.

mod cable;
mod client;
mod control;
mod hub;
mod port;
mod server;

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    thread::JoinHandle,
    time::{Duration, Instant},
};

use self::server::Shared;
pub use self::{
    cable::{Counters, Fate, Frame, Impairment, MAX_FRAME, MAX_WAITING, Way},
    client::{Held, attach, detach, join},
    control::CONTROL,
    port::Port,
};

/// How a switch starts.
pub struct Options {
    /// Directory of the sockets. It is made with mode 0700 if it is not there.
    pub dir: PathBuf,
    /// The record.
    pub record: PathBuf,
    /// Keep the frames in memory too, for [`Switch::wait`] and [`Switch::frames_from`].
    pub tap: bool,
}

/// A running switch. It stops when dropped.
pub struct Switch {
    shared: Arc<Shared>,
    dir: PathBuf,
    thread: Option<JoinHandle<()>>,
}

impl Switch {
    /// A switch in `dir` that keeps its record in `dir/segment.pcapng` and in memory, for tests.
    pub fn start(dir: &Path) -> io::Result<Self> {
        Self::start_with(Options { dir: dir.to_owned(), record: dir.join("segment.pcapng"), tap: true })
    }

    pub fn start_with(options: Options) -> io::Result<Self> {
        let Options { dir, record, tap } = options;
        if !dir.is_dir() {
            DirBuilder::new().mode(0o700).create(&dir)?;
        }
        let (shared, thread) = server::start(&dir, &record, tap)?;
        Ok(Self { shared, dir, thread: Some(thread) })
    }

    /// Directory of the sockets.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Attaches the endpoint that is, or will be, bound at `path`, and returns the path to send to. The
    /// name becomes the record's interface name.
    pub fn attach(&self, name: &str, path: &Path) -> io::Result<PathBuf> {
        self.shared.hub().attach(name, path)
    }

    /// False if there is no such port.
    pub fn detach(&self, name: &str) -> bool {
        self.shared.hub().detach(name)
    }

    /// Attaches an endpoint in this process.
    pub fn port(&self, name: &str) -> io::Result<Port> {
        let path = self.dir.join(format!("{name}.port"));
        let port = Port::new(port::bind(&path)?, path.clone());
        port.connect(&self.attach(name, &path)?)?;
        Ok(port)
    }

    /// Puts an impairment between a port and the hub, or takes it away. False if there is no such port.
    pub fn impair(&self, name: &str, impairment: Option<Impairment>) -> bool {
        self.shared.hub().port_mut(name).map(|port| port.impairment = impairment).is_some()
    }

    /// Cuts the port off, both ways. [`Switch::impair`] with `None` mends it.
    pub fn cut(&self, name: &str) -> bool {
        self.impair(name, Some(Box::new(|_, _| Fate::Drop)))
    }

    pub fn counters(&self, name: &str) -> Option<Counters> {
        self.shared.hub().port_mut(name).map(|port| port.counters)
    }

    /// Why the record is not complete, if it is not.
    pub fn record_failure(&self) -> Option<String> {
        self.shared.hub().failure.clone()
    }

    /// Forgets the frames in memory: only what is sent from now on is looked at. The record keeps all.
    pub fn mark(&self) {
        self.shared.hub_now().frames.clear();
    }

    /// Frames that the port has sent between the mark and now.
    pub fn frames_from(&self, name: &str) -> Vec<Arc<[u8]>> {
        let hub = self.shared.hub_now();
        hub.frames.iter().filter(|frame| &*frame.port == name).map(|frame| Arc::clone(&frame.bytes)).collect()
    }

    /// Waits until `look` finds what it looks for in the frames since the mark, at most for `patience`.
    pub fn wait<T>(&self, patience: Duration, mut look: impl FnMut(&[Frame]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut hub = self.shared.hub_now();
        loop {
            if let Some(found) = look(&hub.frames) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            hub = self.shared.wait_recorded(hub, left);
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stop();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
