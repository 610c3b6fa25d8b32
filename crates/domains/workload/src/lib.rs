//! `workload`: the sample tenant. A small status page over HTTP/1.1 on port 80 of the node's inner addresses, where the
//! mesh's policy lets somebody ask for it, and a heartbeat that shows that the node still works for its owner when
//! nobody governs it any more. It holds no key, knows no peer and decides about nothing: what reaches it has passed the
//! policy in `mesh`, and what it sends passes it again.
//!
//! It keeps running in every phase. Before its first place in a mesh it sets no alarm, because an idle hold takes no
//! periodic timer; from then on its beats rise for ever, also when the mesh is gone, and over restarts of this domain.
//!
//! A connection asks once, is answered once and closed. One that takes longer than [`CONNECTION_MICROS`] is cut off;
//! one too many is not answered, and asks again by itself.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate self as workload;
#[cfg(test)]
extern crate std;

// The parser of hostile bytes is open to fuzz targets; the rest is shared with the test tenant.
pub mod http;
pub mod pulse;
pub mod shell;
pub mod stack;
#[cfg(test)]
mod tests;

use calls::{
    alarm::Alarm,
    mesh::{Heartbeat, Tenancy},
    params::Params,
};
use shm::{Micros, cell, ring};
use smoltcp::{
    iface::{SocketHandle, SocketStorage},
    socket::tcp::State,
};

use http::{Answer, Head, Status};
use pulse::Pulse;
pub use shell::Tenant;
use stack::Stack;

/// Where the page is.
pub const PORT: u16 = 80;
/// Connections at once.
pub const CONNECTIONS: usize = 4;
/// How long a connection may take in all.
pub const CONNECTION_MICROS: Micros = 10_000_000;
const RECEIVE: usize = 1024;
/// A whole answer.
const SEND: usize = http::ANSWER;
/// Packets taken in one step.
const PACKETS: usize = 16;

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Mesh,
    Console,
    Timer,
}

pub struct Ports<'a> {
    /// Inner packets.
    pub mesh: ring::Duplex<'a, { ring::FRAME_SLOT }>,
    pub tenancy: cell::Reader<'a, Tenancy>,
    pub mesh_beat: cell::Writer<'a, Heartbeat>,
    pub console_beat: cell::Writer<'a, Heartbeat>,
    pub alarm: Alarm<'a>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        let (ring, beat) = (self.mesh.take_signal(), self.mesh_beat.take_signal());
        let signals = [
            (Channel::Mesh, ring || beat),
            (Channel::Console, self.console_beat.take_signal()),
            (Channel::Timer, self.alarm.take_signal()),
        ];
        signals.into_iter().filter(|(_, signal)| *signal).for_each(|(peer, _)| notify(peer));
    }
}

/// The buffers that a [`Workload`] works in. The shell keeps them, in a static that it lends once.
pub struct Memory<'a> {
    storage: [SocketStorage<'a>; CONNECTIONS],
    receive: [[u8; RECEIVE]; CONNECTIONS],
    send: [[u8; SEND]; CONNECTIONS],
    heads: [Head; CONNECTIONS],
    packet: [u8; stack::PACKET],
}

impl Memory<'_> {
    pub const fn new() -> Self {
        Self {
            storage: [SocketStorage::EMPTY; CONNECTIONS],
            receive: [[0; RECEIVE]; CONNECTIONS],
            send: [[0; SEND]; CONNECTIONS],
            heads: [const { Head::new() }; CONNECTIONS],
            packet: [0; stack::PACKET],
        }
    }
}

impl Default for Memory<'_> {
    fn default() -> Self {
        Self::new()
    }
}

pub struct Workload<'a> {
    pulse: Pulse,
    stack: Stack<'a>,
    connections: [Connection; CONNECTIONS],
    heads: &'a mut [Head; CONNECTIONS],
    packet: &'a mut [u8; stack::PACKET],
}

/// A socket, and what has become of who is at its other end.
#[derive(Clone, Copy, Default)]
struct Connection {
    handle: SocketHandle,
    /// `None` while it listens.
    since: Option<Micros>,
    answered: bool,
}

impl<'a> Workload<'a> {
    pub fn new(memory: &'a mut Memory<'a>, params: &Params) -> Self {
        let Memory { storage, receive, send, heads, packet } = memory;
        let mut stack = Stack::new(storage);
        let mut connections = [Connection::default(); CONNECTIONS];
        for ((connection, receive), send) in connections.iter_mut().zip(receive).zip(send) {
            connection.handle = stack.add(receive, send);
        }
        Self { pulse: Pulse::new(params), stack, connections, heads, packet }
    }

    /// Returns true while packets may be waiting.
    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        if let Some(tenancy) = ports.tenancy.poll() {
            self.stack.settle(&tenancy, now);
        }
        self.pulse.step(now, self.stack.has_place(), &mut ports.mesh_beat, &mut ports.console_beat);
        self.listen();
        let mut more = self.stack.hear(now, &mut ports.mesh, self.packet, PACKETS);
        self.serve(now);
        more |= self.stack.egress(now, &mut ports.mesh);
        self.stack.recycle();
        ports.alarm.set(self.deadline(now));
        more
    }

    fn deadline(&mut self, now: Micros) -> Option<Micros> {
        let oldest = self.connections.iter().filter_map(|connection| connection.since).min();
        let cut = oldest.map(|since| since.saturating_add(CONNECTION_MICROS).max(now.saturating_add(stack::SOON)));
        [self.pulse.next(), cut, self.stack.deadline(now)].into_iter().flatten().min()
    }

    /// Makes sockets whose connection is over listen again. Before packets are heard, so that a reset has gone out by then.
    fn listen(&mut self) {
        for (connection, head) in self.connections.iter_mut().zip(self.heads.iter_mut()) {
            let socket = self.stack.socket(connection.handle);
            if matches!(socket.state(), State::Closed | State::Listen) {
                // Fails only while it listens already.
                let _ = socket.listen(PORT);
                head.clear();
                (connection.since, connection.answered) = (None, false);
            }
        }
    }

    fn serve(&mut self, now: Micros) {
        let addresses = self.stack.addresses();
        for (connection, head) in self.connections.iter_mut().zip(self.heads.iter_mut()) {
            let socket = self.stack.socket(connection.handle);
            if matches!(socket.state(), State::Closed | State::Listen) {
                connection.since = None;
                continue;
            }
            let since = *connection.since.get_or_insert(now);
            if now >= since.saturating_add(CONNECTION_MICROS) {
                connection.since = None;
                socket.abort();
                continue;
            }
            let mut status = None;
            while socket.can_recv() && status.is_none() {
                // What comes behind the head is of no interest.
                let taken =
                    socket.recv(|bytes| (bytes.len(), if connection.answered { None } else { head.feed(bytes) }));
                status = taken.ok().flatten();
            }
            if let Some(status) = status {
                if status == Status::Page {
                    self.pulse.count_page();
                }
                let answer = Answer::new(status, &self.pulse.report(now, addresses));
                // It fits: the buffer is empty and made for it.
                let _ = socket.send_slice(answer.head()).and_then(|_| socket.send_slice(answer.body()));
                connection.answered = true;
            }
            // Also one that closes before it has asked.
            if connection.answered || socket.state() == State::CloseWait {
                socket.close();
            }
        }
    }
}

impl Tenant for Workload<'_> {
    fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        self.step(now, ports)
    }
}
