//! The ports, and their queues: how frames get from one to all others.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use rustix::event::epoll;

use super::{
    cable::{Counters, Fate, Frame, Impairment, MAX_FRAME, MAX_WAITING, Way},
    port,
};
use crate::record::Recorder;

/// What an epoll event is about, where it is neither a port nor a connection.
pub(super) const WAKE: u64 = 0;
pub(super) const LISTENER: u64 = 1;
/// Frames taken from one port before the next one's turn.
const TURN: usize = 32;
/// How soon a port that did not take a frame is tried again. An unconnected datagram socket cannot tell
/// when its receiver has read.
const RETRY: Duration = Duration::from_millis(1);
const MAX_NAME: usize = 32;

pub(super) struct Hub {
    dir: PathBuf,
    pub epoll: OwnedFd,
    next: u64,
    ports: BTreeMap<u64, PortOf>,
    recorder: Recorder,
    /// Why the record is not complete.
    pub failure: Option<String>,
    tap: bool,
    pub frames: Vec<Frame>,
    buffer: Vec<u8>,
}

pub(super) struct PortOf {
    name: Arc<str>,
    interface: u32,
    socket: UnixDatagram,
    own: PathBuf,
    endpoint: PathBuf,
    waiting: VecDeque<(Instant, Arc<[u8]>)>,
    pub impairment: Option<Impairment>,
    pub counters: Counters,
}

fn refuse(text: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, text)
}

impl Hub {
    pub fn new(dir: &Path, record: &Path, tap: bool, wake: &OwnedFd) -> io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        let hub = Self {
            dir: dir.to_owned(),
            epoll,
            next: LISTENER + 1,
            ports: BTreeMap::new(),
            recorder: Recorder::create(record)?,
            failure: None,
            tap,
            frames: Vec::new(),
            buffer: vec![0; MAX_FRAME + 1],
        };
        hub.watch(wake, WAKE)?;
        Ok(hub)
    }

    pub fn watch(&self, source: impl AsFd, id: u64) -> io::Result<()> {
        Ok(epoll::add(&self.epoll, source, epoll::EventData::new_u64(id), epoll::EventFlags::IN)?)
    }

    pub fn fresh(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn attach(&mut self, name: &str, endpoint: &Path) -> io::Result<PathBuf> {
        let plain = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c);
        if name.is_empty() || name.len() > MAX_NAME || !name.chars().all(plain) {
            return Err(refuse(format!("{name:?} is no port name: 1 to {MAX_NAME} letters, digits, - and _")));
        }
        if self.port_mut(name).is_some() {
            return Err(refuse(format!("there is a port {name} already")));
        }
        if !endpoint.is_absolute() {
            return Err(refuse(format!("{} is not absolute", endpoint.display())));
        }
        port::check_path(endpoint)?;
        let own = self.dir.join(format!("{name}.switch"));
        let interface = self.recorder.interface(name)?;
        let socket = port::bind(&own)?;
        socket.set_nonblocking(true)?;
        let id = self.fresh();
        self.watch(&socket, id)?;
        let port = PortOf {
            name: name.into(),
            interface,
            socket,
            own: own.clone(),
            endpoint: endpoint.to_owned(),
            waiting: VecDeque::new(),
            impairment: None,
            counters: Counters::default(),
        };
        self.ports.insert(id, port);
        Ok(own)
    }

    pub fn detach(&mut self, name: &str) -> bool {
        let found = self.ports.iter().find(|(_, port)| &*port.name == name).map(|(id, _)| *id);
        found.and_then(|id| self.ports.remove(&id)).is_some()
    }

    pub fn port_mut(&mut self, name: &str) -> Option<&mut PortOf> {
        self.ports.values_mut().find(|port| &*port.name == name)
    }

    /// Takes what all ports have sent by now: no more than can wait, however fast more comes.
    pub fn receive_all(&mut self) -> bool {
        let ids: Vec<_> = self.ports.keys().copied().collect();
        ids.into_iter().fold(false, |recorded, id| self.receive(id, MAX_WAITING) | recorded)
    }

    /// Takes up to so many datagrams from a port. True if a frame was recorded.
    fn receive(&mut self, id: u64, count: usize) -> bool {
        let mut recorded = false;
        for _ in 0..count {
            let Some(port) = self.ports.get_mut(&id) else { break };
            let Ok((length, sender)) = port.socket.recv_from(&mut self.buffer) else { break };
            if sender.as_pathname() != Some(&*port.endpoint) || !(1..=MAX_FRAME).contains(&length) {
                port.counters.stray += 1;
                continue;
            }
            port.counters.received += 1;
            let frame =
                Frame { port: Arc::clone(&port.name), at: SystemTime::now(), bytes: self.buffer[..length].into() };
            let interface = port.interface;
            if let Err(error) = self.recorder.packet(interface, frame.at, &frame.bytes) {
                self.fail(&error);
            }
            let bytes = Arc::clone(&frame.bytes);
            if self.tap {
                self.frames.push(frame);
            }
            recorded = true;
            self.spread(id, bytes);
        }
        recorded
    }

    pub fn fail(&mut self, error: &io::Error) {
        if self.failure.is_none() {
            say::tell!("switch: the record of the segment is not complete: {error}");
            self.failure = Some(error.to_string());
        }
    }

    /// Takes what a port has sent, up to one turn; none if there is no such port. True if a frame was recorded.
    pub fn turn(&mut self, id: u64) -> Option<bool> {
        self.ports.contains_key(&id).then(|| self.receive(id, TURN))
    }

    /// The end of all ports.
    pub fn close(&mut self) {
        self.ports.clear();
    }

    /// Puts a frame into the queue of every port but its sender's.
    fn spread(&mut self, from: u64, frame: Arc<[u8]>) {
        let now = Instant::now();
        let sent = self.ports.get_mut(&from).and_then(|port| port.impaired(Way::FromPort, frame));
        let Some((frame, delay)) = sent else { return };
        for (id, port) in &mut self.ports {
            if *id == from {
                continue;
            }
            let Some((frame, more)) = port.impaired(Way::ToPort, Arc::clone(&frame)) else { continue };
            if port.waiting.len() < MAX_WAITING {
                port.waiting.push_back((now + delay + more, frame));
            } else {
                port.counters.overrun += 1;
            }
        }
    }

    /// Sends what can be sent, and says when to come again.
    pub fn flush(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.ports.values_mut().filter_map(|port| port.flush(now)).min()
    }
}

impl PortOf {
    fn impaired(&mut self, way: Way, frame: Arc<[u8]>) -> Option<(Arc<[u8]>, Duration)> {
        let Some(impairment) = &mut self.impairment else { return Some((frame, Duration::ZERO)) };
        let mut copy = frame.to_vec();
        let fate = impairment(way, &mut copy);
        match fate {
            Fate::Pass => Some((copy.into(), Duration::ZERO)),
            Fate::After(delay) => Some((copy.into(), delay)),
            Fate::Drop => {
                self.counters.impaired += 1;
                None
            }
        }
    }

    fn flush(&mut self, now: Instant) -> Option<Duration> {
        while let Some((due, frame)) = self.waiting.front() {
            if *due > now {
                return Some(*due - now);
            }
            match self.socket.send_to(frame, &self.endpoint) {
                Ok(_) => self.counters.delivered += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Some(RETRY),
                // Nobody there, or no longer: like a cable without a machine.
                Err(_) => self.counters.absent += 1,
            }
            self.waiting.pop_front();
        }
        None
    }
}

impl Drop for PortOf {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.own);
    }
}
