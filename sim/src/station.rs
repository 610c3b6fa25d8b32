//! A host on a segment, with smoltcp as its TCP and neighbour discovery; datagrams go by it, to whoever listens for their port.

use std::{
    collections::{BTreeMap, VecDeque},
    net::Ipv6Addr,
};

use link::{DATAGRAM, HOP_LIMIT, UdpPorts};
use shm::Micros;
use smoltcp::{
    iface::{Config, Interface, PollResult, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp,
    time::Instant,
    wire::{EthernetAddress, EthernetFrame, HardwareAddress, IpCidr, IpEndpoint, IpProtocol, Ipv6Packet, UdpPacket},
};
use wire::{Ip, Mac};

use crate::world::Host;

const BUFFER: usize = 16384;
/// Datagrams that wait for somebody; more are lost.
const WAITING: usize = 256;

/// A datagram that has arrived.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Datagram {
    pub from: Ip,
    pub ports: UdpPorts,
    pub payload: Vec<u8>,
}

pub struct Station {
    pub at: link::Station,
    device: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
    next_port: u16,
    now: Micros,
    /// Who has sent a frame from which address.
    neighbours: BTreeMap<Ip, Mac>,
    arrived: VecDeque<Datagram>,
}

/// The link-local address that a MAC gives (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ip {
    let [a, b, c, d, e, f] = mac;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

impl Station {
    pub fn new(number: u8) -> Self {
        let mac = [2, 0, 0, 0, 0x51, number];
        let at = link::Station::new(link_local(mac), mac);
        let mut device = Queues::default();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = number.into();
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(Ipv6Addr::from(at.ip).into(), 64));
        });
        let sockets = SocketSet::new(Vec::new());
        let (neighbours, arrived) = (BTreeMap::new(), VecDeque::new());
        Self { at, device, interface, sockets, next_port: 40_000, now: 0, neighbours, arrived }
    }

    /// Somebody has told it who is where.
    pub fn know(&mut self, station: &link::Station) {
        self.neighbours.insert(station.ip, station.mac);
    }

    /// Sends a datagram.
    pub fn send(&mut self, to: &link::Station, ports: UdpPorts, hop_limit: u8, payload: &[u8]) {
        let mut frame = vec![0; DATAGRAM + payload.len()];
        frame[DATAGRAM..].copy_from_slice(payload);
        link::datagram(&mut frame, &self.at, to, ports, hop_limit).expect("a datagram fits into a frame");
        self.device.sent.push(frame);
    }

    /// The same, to where this address was heard last. Nothing is sent if it never was.
    pub fn send_to(&mut self, to: &Ip, ports: UdpPorts, payload: &[u8]) {
        if let Some(mac) = self.neighbour(to) {
            self.send(&link::Station::new(*to, mac), ports, HOP_LIMIT, payload);
        }
    }

    /// The next datagram to this port.
    pub fn receive_from(&mut self, port: u16) -> Option<Datagram> {
        let at = self.arrived.iter().position(|datagram| datagram.ports.destination == port)?;
        self.arrived.remove(at)
    }

    pub fn neighbour(&self, ip: &Ip) -> Option<Mac> {
        self.neighbours.get(ip).copied()
    }

    pub fn connect(&mut self, to: Ip, port: u16) -> SocketHandle {
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_nagle_enabled(false);
        let handle = self.sockets.add(socket);
        self.next_port += 1;
        let remote = IpEndpoint::new(Ipv6Addr::from(to).into(), port);
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.connect(self.interface.context(), remote, self.next_port).expect("a fresh socket connects");
        handle
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    fn time(&self) -> Instant {
        Instant::from_micros(i64::try_from(self.now).unwrap_or(i64::MAX))
    }

    fn hear(&mut self, frame: &[u8]) -> Option<()> {
        let ethernet = EthernetFrame::new_checked(frame).ok()?;
        let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
        let from = packet.src_addr().octets();
        self.neighbours.insert(from, ethernet.src_addr().0);
        if packet.next_header() == IpProtocol::Udp {
            let udp = UdpPacket::new_checked(packet.payload()).ok()?;
            let ports = UdpPorts { source: udp.src_port(), destination: udp.dst_port() };
            // Each port has room of its own: what nobody takes there is in nobody's way elsewhere.
            let waiting = self.arrived.iter().filter(|datagram| datagram.ports.destination == ports.destination);
            if waiting.count() < WAITING {
                self.arrived.push_back(Datagram { from, ports, payload: udp.payload().to_vec() });
            }
        } else {
            self.device.received.push_back(frame.to_vec());
        }
        Some(())
    }
}

impl Host for Station {
    fn mac(&self) -> Mac {
        self.at.mac
    }

    fn receive(&mut self, frame: &[u8]) {
        // What is no IPv6 is nobody's here.
        let _ = self.hear(frame);
    }

    fn poll(&mut self, now: Micros) -> Vec<Vec<u8>> {
        self.now = now;
        while self.interface.poll(self.time(), &mut self.device, &mut self.sockets) != PollResult::None {}
        std::mem::take(&mut self.device.sent)
    }

    fn next(&mut self) -> Option<Micros> {
        let time = self.time();
        let at = self.interface.poll_at(time, &self.sockets)?;
        // Never at once again: what is to be done at once has been done.
        u64::try_from(at.total_micros()).ok().map(|at| at.max(self.now + 1))
    }
}

#[derive(Default)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = link::MAX_FRAME;
        capabilities
    }
}

struct Received(Vec<u8>);

impl RxToken for Received {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

struct Sending<'a>(&'a mut Vec<Vec<u8>>);

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let mut frame = vec![0; length];
        let result = f(&mut frame);
        self.0.push(frame);
        result
    }
}
