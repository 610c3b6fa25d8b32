//! The administrator's host: smoltcp as a TCP client, with an address of its own and as many connections as it likes.

use std::{boxed::Box, collections::VecDeque, vec, vec::Vec};

use shm::Micros;
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage},
    phy::{self, DeviceCapabilities, Medium},
    socket::tcp::{Socket, SocketBuffer, State},
    time::Instant,
    wire::{EthernetAddress, IpAddress, IpCidr, Ipv6Address},
};
use wire::CLAIM_PORT;

use super::{
    keystore::LINK_IP,
    world::{PEER_IP, PEER_MAC},
};

/// Of Ethernet, IPv6 and TCP.
const HEADERS: usize = 14 + 40 + 20;

pub struct Peer {
    pub device: Queue,
    interface: Interface,
    sockets: SocketSet<'static>,
    port: u16,
}

pub struct Queue {
    /// The longest payload of a segment.
    largest: usize,
    pub incoming: VecDeque<Vec<u8>>,
    outgoing: Vec<Vec<u8>>,
}

pub struct Rx(Vec<u8>);
pub struct Tx<'t>(&'t mut Vec<Vec<u8>>);

impl phy::Device for Queue {
    type RxToken<'t> = Rx;
    type TxToken<'t> = Tx<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.incoming.pop_front()?), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = HEADERS + self.largest;
        capabilities
    }
}

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut frame = vec![0; len];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}

fn buffer(len: usize) -> SocketBuffer<'static> {
    SocketBuffer::new(Box::leak(vec![0; len].into_boxed_slice()))
}

impl Peer {
    pub fn new() -> Self {
        Self::with(1514 - HEADERS)
    }

    /// One that wants no segment with more payload.
    pub fn with(largest: usize) -> Self {
        let mut device = Queue { largest, incoming: VecDeque::new(), outgoing: Vec::new() };
        let mut config = Config::new(EthernetAddress(PEER_MAC).into());
        config.random_seed = 77;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            addresses.push(IpCidr::new(IpAddress::Ipv6(PEER_IP.into()), 64)).unwrap();
        });
        let storage: Vec<SocketStorage<'static>> = (0..64).map(|_| SocketStorage::EMPTY).collect();
        let sockets = SocketSet::new(Box::leak(storage.into_boxed_slice()));
        Self { device, interface, sockets, port: 50_000 }
    }

    /// Lets the stack run and returns what it sends.
    pub fn poll(&mut self, now: Micros) -> Vec<Vec<u8>> {
        self.interface.poll(Instant::from_micros(now as i64), &mut self.device, &mut self.sockets);
        core::mem::take(&mut self.device.outgoing)
    }

    /// Begins a connection.
    pub fn connect(&mut self) -> SocketHandle {
        // Places of dead connections are used again.
        let dead = self.sockets.iter().find(|(_, socket)| {
            let smoltcp::socket::Socket::Tcp(socket) = socket;
            socket.state() == State::Closed && !socket.can_recv()
        });
        let handle = match dead.map(|(handle, _)| handle) {
            Some(handle) => handle,
            None => self.sockets.add(Socket::new(buffer(8192), buffer(8192))),
        };
        self.port += 1;
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        let node = (IpAddress::Ipv6(Ipv6Address::from(LINK_IP)), CLAIM_PORT);
        socket.connect(self.interface.context(), node, self.port).unwrap();
        handle
    }

    pub fn state(&self, handle: SocketHandle) -> State {
        self.sockets.get::<Socket<'_>>(handle).state()
    }

    pub fn send(&mut self, handle: SocketHandle, bytes: &[u8]) {
        let sent = self.sockets.get_mut::<Socket<'_>>(handle).send_slice(bytes).unwrap();
        assert_eq!(sent, bytes.len());
    }

    pub fn receive(&mut self, handle: SocketHandle) -> Vec<u8> {
        let mut bytes = vec![0; 8192];
        let len = self.sockets.get_mut::<Socket<'_>>(handle).recv_slice(&mut bytes).unwrap_or(0);
        bytes.truncate(len);
        bytes
    }

    /// FIN.
    pub fn finish(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<Socket<'_>>(handle).close();
    }

    /// RST.
    pub fn reset(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<Socket<'_>>(handle).abort();
    }

    /// Forgets a connection without a word, as a host that lost its power.
    pub fn vanish(&mut self, handle: SocketHandle) {
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.abort();
        socket.listen(1).unwrap();
        socket.close();
    }

    /// Forgets all connections without a word.
    pub fn vanish_all(&mut self) {
        let all: Vec<SocketHandle> = self.sockets.iter().map(|(handle, _)| handle).collect();
        all.into_iter().for_each(|handle| self.vanish(handle));
    }
}
