//! A tenant for tests, in the place of `workload`: the same ports, other habits. In no image that anyone ships.
//!
//! - TCP [`SINK_PORT`]: reads until its peer closes, answers with the SHA-256 of what came, in hexadecimal, and closes.
//! - TCP [`SOURCE_PORT`]: reads a decimal number and a newline, sends as many bytes of [`stream::Stream`], and closes.
//! - UDP [`ORDER_PORT`]: sends whatever packet it is told to ([`orders`]), to show what of it does not leave the node.
//!
//! Connections that hear nothing of their peer for [`QUIET_SECONDS`] end.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod orders;
pub mod stream;
#[cfg(test)]
mod tests;

use calls::params::Params;
use sha2::{Digest, Sha256};
use shm::Micros;
use smoltcp::{
    iface::{SocketHandle, SocketStorage},
    socket::tcp::{Socket, State},
    time::Duration,
};
use workload::{
    Ports,
    pulse::Pulse,
    stack::{PACKET, Ring, Stack},
};

use stream::Stream;

pub const SINK_PORT: u16 = 9001;
pub const SOURCE_PORT: u16 = 9002;
pub const ORDER_PORT: u16 = 9003;
pub const QUIET_SECONDS: u64 = 30;

/// Connections of each kind at once.
const EACH: usize = 2;
/// The largest window without scaling, and the buffer behind it.
const LARGE: usize = 65535;
const SMALL: usize = 1024;
/// Packets taken in one step: enough for a window.
const PACKETS: usize = 64;
/// The longest request of a source: the digits of a `u64`, and a newline.
const LINE: usize = 21;

/// The buffers that a [`Tenant`] works in. The shell keeps them.
pub struct Memory<'a> {
    storage: [SocketStorage<'a>; 2 * EACH],
    large: [[u8; LARGE]; 2 * EACH],
    small: [[u8; SMALL]; 2 * EACH],
    packet: [u8; PACKET],
}

impl Memory<'_> {
    pub const fn new() -> Self {
        Self {
            storage: [SocketStorage::EMPTY; 2 * EACH],
            large: [[0; LARGE]; 2 * EACH],
            small: [[0; SMALL]; 2 * EACH],
            packet: [0; PACKET],
        }
    }
}

impl Default for Memory<'_> {
    fn default() -> Self {
        Self::new()
    }
}

pub struct Tenant<'a> {
    pulse: Pulse,
    stack: Stack<'a>,
    sinks: [(SocketHandle, Sink); EACH],
    sources: [(SocketHandle, Source); EACH],
    packet: &'a mut [u8; PACKET],
}

#[derive(Default)]
struct Sink {
    hash: Sha256,
}

#[derive(Default)]
struct Source {
    line: heapless::Vec<u8, LINE>,
    /// How many bytes are still to be sent, once that is known.
    left: Option<u64>,
    stream: Stream,
}

impl<'a> Tenant<'a> {
    pub fn new(memory: &'a mut Memory<'a>, params: &Params) -> Self {
        let Memory { storage, large, small, packet } = memory;
        let mut stack = Stack::new(storage);
        let mut sinks: [(SocketHandle, Sink); EACH] = Default::default();
        let mut sources: [(SocketHandle, Source); EACH] = Default::default();
        let mut buffers = large.iter_mut().zip(small);
        for ((sink, _), (large, small)) in sinks.iter_mut().zip(&mut buffers) {
            *sink = stack.add(large, small);
        }
        for ((source, _), (large, small)) in sources.iter_mut().zip(&mut buffers) {
            *source = stack.add(small, large);
        }
        for handle in sinks.iter().map(|sink| sink.0).chain(sources.iter().map(|source| source.0)) {
            stack.socket(handle).set_timeout(Some(Duration::from_secs(QUIET_SECONDS)));
        }
        Self { pulse: Pulse::new(params), stack, sinks, sources, packet }
    }

    /// Returns true while packets may be waiting.
    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        if let Some(tenancy) = ports.tenancy.poll() {
            self.stack.settle(&tenancy, now);
        }
        self.pulse.step(now, self.stack.has_place(), &mut ports.mesh_beat, &mut ports.console_beat);
        self.listen();
        let mut more = self.hear(now, &mut ports.mesh);
        self.serve();
        more |= self.stack.egress(now, &mut ports.mesh);
        self.stack.recycle();
        ports.alarm.set([self.pulse.next(), self.stack.deadline(now)].into_iter().flatten().min());
        more
    }

    fn hear(&mut self, now: Micros, ring: &mut Ring<'_>) -> bool {
        for _ in 0..PACKETS {
            let packet = match ring.recv(self.packet) {
                Ok(None) => return false,
                Ok(Some(len)) => self.packet.get(..len).unwrap_or_default(),
                Err(shm::Misbehaved) => continue,
            };
            if !orders::obey(packet, &self.stack.addresses(), ring) {
                self.stack.ingest(packet, now, ring);
            }
        }
        true
    }

    /// Makes sockets whose connection is over listen again. Before packets are heard, so that a reset has gone out by then.
    fn listen(&mut self) {
        for (handle, sink) in &mut self.sinks {
            if listen(self.stack.socket(*handle), SINK_PORT) {
                *sink = Sink::default();
            }
        }
        for (handle, source) in &mut self.sources {
            if listen(self.stack.socket(*handle), SOURCE_PORT) {
                *source = Source::default();
            }
        }
    }

    fn serve(&mut self) {
        for (handle, sink) in &mut self.sinks {
            sink.serve(self.stack.socket(*handle));
        }
        for (handle, source) in &mut self.sources {
            source.serve(self.stack.socket(*handle));
        }
    }
}

impl workload::Tenant for Tenant<'_> {
    fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        self.step(now, ports)
    }
}

/// Whether there is no connection; then it listens for the next.
fn listen(socket: &mut Socket<'_>, port: u16) -> bool {
    let free = matches!(socket.state(), State::Closed | State::Listen);
    if free {
        // Fails only while it listens already.
        let _ = socket.listen(port);
    }
    free
}

impl Sink {
    fn serve(&mut self, socket: &mut Socket<'_>) {
        while socket.can_recv() {
            let taken = socket.recv(|bytes| {
                self.hash.update(&*bytes);
                (bytes.len(), ())
            });
            if taken.is_err() {
                return;
            }
        }
        if socket.state() == State::CloseWait {
            let hex = hex(&core::mem::take(&mut self.hash).finalize().into());
            // It fits: the buffer is empty.
            let _ = socket.send_slice(&hex);
            socket.close();
        }
    }
}

/// A hash as the sink says it.
pub fn hex(hash: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    let digits = hash.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    for (to, digit) in text.iter_mut().zip(digits) {
        *to = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
    }
    text
}

impl Source {
    fn serve(&mut self, socket: &mut Socket<'_>) {
        while self.left.is_none() && socket.can_recv() {
            let taken = socket.recv(|bytes| (bytes.len(), self.read(bytes)));
            if taken.is_err() || taken == Ok(Err(NoNumber)) {
                return socket.abort();
            }
        }
        let Some(left) = &mut self.left else { return };
        while *left > 0 && socket.can_send() {
            let sent = socket.send(|room| {
                let len = usize::try_from(*left).unwrap_or(usize::MAX).min(room.len());
                let room = room.get_mut(..len).unwrap_or_default();
                self.stream.fill(room);
                (room.len(), room.len() as u64)
            });
            *left = left.saturating_sub(sent.unwrap_or(0));
        }
        if *left == 0 {
            socket.close();
        }
    }

    /// Reads up to the newline; what follows it does not count.
    fn read(&mut self, bytes: &[u8]) -> Result<(), NoNumber> {
        for byte in bytes {
            if *byte == b'\n' {
                let number = str::from_utf8(&self.line).ok().and_then(|line| line.parse().ok());
                self.left = Some(number.ok_or(NoNumber)?);
                return Ok(());
            }
            self.line.push(*byte).map_err(|_| NoNumber)?;
        }
        Ok(())
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct NoNumber;
