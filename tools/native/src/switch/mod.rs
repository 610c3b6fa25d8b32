//! The switch: joins nodes, host programs and QEMU machines to one Ethernet segment, without root.
//!
//! It is a hub: every frame goes to every other port, whatever its addresses. For secrecy that is the worst
//! case, and the one to test against. It records all it receives ([`crate::segment`]). It refuses to learn
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

mod control;
mod hub;
mod port;

use std::{
    fs::DirBuilder,
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::JoinHandle,
    time::{Duration, Instant, SystemTime},
};

use rustix::event::EventfdFlags;

use self::{control::Control, hub::Hub};
pub use self::{
    control::{CONTROL, Held, attach, detach, join},
    port::Port,
};

/// The longest frame that is passed on: a jumbo frame. Longer ones are dropped and counted.
pub const MAX_FRAME: usize = 9216;
/// Frames that wait for a port. More are dropped and counted.
pub const MAX_WAITING: usize = 1024;

/// Where a frame is, as an impairment sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The port has sent it. It is recorded already.
    FromPort,
    /// It is about to go to the port.
    ToPort,
}

/// What an impairment makes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
    /// Passes after a while. The order of a port's frames is kept.
    After(Duration),
}

/// A bad cable between a port and the hub: sees each frame, may change it, and says what becomes of it.
pub type Impairment = Box<dyn FnMut(Way, &mut Vec<u8>) -> Fate + Send>;

/// A recorded frame, and the port that sent it.
#[derive(Debug, Clone)]
pub struct Frame {
    pub port: Arc<str>,
    pub at: SystemTime,
    pub bytes: Arc<[u8]>,
}

/// What happened to a port's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames from the port.
    pub received: u64,
    /// Frames that the port's endpoint took.
    pub delivered: u64,
    /// Frames lost because the port did not read.
    pub overrun: u64,
    /// Frames lost because nobody was at the endpoint.
    pub absent: u64,
    /// Datagrams from another path than the port's, empty or too long.
    pub stray: u64,
    /// Frames lost to the impairment.
    pub impaired: u64,
}

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

struct Shared {
    hub: Mutex<Hub>,
    /// Frames were recorded.
    recorded: Condvar,
    stop: AtomicBool,
    /// Makes the thread look up.
    wake: rustix::fd::OwnedFd,
}

impl Shared {
    /// A test that panicked while it looked at frames has broken nothing.
    fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hub, after all that any port has sent by now has been received.
    fn hub_now(&self) -> MutexGuard<'_, Hub> {
        let mut hub = self.hub();
        if hub.receive_all() {
            self.recorded.notify_all();
            // What is to be passed on is the thread's to do.
            self.wake();
        }
        hub
    }

    fn wake(&self) {
        // Full is awake.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }
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
        let wake = rustix::event::eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let hub = Hub::new(&dir, &record, tap, &wake)?;
        let control = Control::listen(&dir, &hub)?;
        let stop = AtomicBool::new(false);
        let shared = Arc::new(Shared { hub: Mutex::new(hub), recorded: Condvar::new(), stop, wake });
        let of_thread = Arc::clone(&shared);
        let run = move || hub::run(&of_thread, control);
        let thread = std::thread::Builder::new().name("switch".into()).spawn(run)?;
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
            hub = self.shared.recorded.wait_timeout(hub, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Drop for Switch {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Release);
        self.shared.wake();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

#[cfg(test)]
mod tests;
