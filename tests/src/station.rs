//! A host on the segment, with smoltcp as its stack and its raw port beside it.

use std::{
    collections::VecDeque,
    io::{self, Read, Write},
    net::Ipv6Addr,
    time::{Duration, Instant},
};

use segment::switch::Port;
use smoltcp::{
    iface::{Config, Interface, PollResult, SocketHandle, SocketSet},
    phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken},
    socket::tcp,
    time::Instant as Time,
    wire::{
        EthernetAddress, EthernetFrame, EthernetProtocol, HardwareAddress, IpCidr, IpEndpoint, IpProtocol, Ipv6Packet,
        Ipv6Repr, UdpPacket, UdpRepr,
    },
};
use wire::{ALL_NODES, BEACON_PORT, Ip, Mac};

use crate::PATIENCE;

/// MAC of ff02::1.
pub const ALL_NODES_MAC: Mac = [0x33, 0x33, 0, 0, 0, 1];

pub struct Station {
    pub mac: Mac,
    pub ip: Ip,
    device: Queues,
    interface: Interface,
    sockets: SocketSet<'static>,
    port: Port,
    started: Instant,
    /// Whether the stack sees what arrives; a station that is down hears but does not answer.
    pub stack: bool,
    /// How long a stream waits for the peer.
    pub patience: Duration,
    /// Frames that arrived and that nobody has looked at yet.
    heard: VecDeque<Vec<u8>>,
    next_port: u16,
}

/// The link-local address that a MAC gives (RFC 4291, appendix A).
pub fn link_local(mac: Mac) -> Ip {
    let [a, b, c, d, e, f] = mac;
    [0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 2, b, c, 0xff, 0xfe, d, e, f]
}

impl Station {
    /// A station with the locally administered MAC 02:…:`number`.
    pub fn new(port: Port, number: u8) -> Self {
        let mac = [2, 0, 0, 0, 0x51, number];
        Self::with_addresses(port, mac, link_local(mac))
    }

    pub fn with_addresses(port: Port, mac: Mac, ip: Ip) -> Self {
        let mut device = Queues::default();
        let mut config = Config::new(HardwareAddress::Ethernet(EthernetAddress(mac)));
        config.random_seed = u64::from(mac[5]) + u64::from(std::process::id());
        let mut interface = Interface::new(config, &mut device, Time::ZERO);
        interface.update_ip_addrs(|addresses| {
            let _ = addresses.push(IpCidr::new(Ipv6Addr::from(ip).into(), 64));
        });
        let sockets = SocketSet::new(Vec::new());
        let (started, heard) = (Instant::now(), VecDeque::new());
        let next_port = 40_000;
        let (stack, patience) = (true, PATIENCE);
        Self { mac, ip, device, interface, sockets, port, started, stack, patience, heard, next_port }
    }

    /// Puts a frame on the segment as it is.
    pub fn send(&self, frame: &[u8]) {
        self.port.send(frame).expect("the switch is there");
    }

    /// A UDP datagram in a frame from this station.
    pub fn datagram(&self, to: (Mac, Ip), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        udp_frame((self.mac, self.ip), to, ports, payload)
    }

    /// Sends a datagram from port 8090 to ff02::1, port 8090.
    pub fn announce(&self, payload: &[u8]) {
        self.send(&self.datagram((ALL_NODES_MAC, ALL_NODES), (BEACON_PORT, BEACON_PORT), payload));
    }

    /// Lets the stack run, and waits for frames until `look` finds something or the time is over.
    pub fn wait<T>(&mut self, patience: Duration, mut look: impl FnMut(&mut Self) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        loop {
            self.poll();
            if let Some(found) = look(self) {
                return Some(found);
            }
            let now = Instant::now();
            if now >= deadline {
                return None;
            }
            let delay = self.interface.poll_delay(self.now(), &self.sockets);
            let left = deadline - now;
            let nap = delay.map_or(left, |delay| Duration::from_micros(delay.total_micros()).min(left));
            if let Some(frame) = self.port.recv(nap).expect("the switch is there") {
                self.take(frame);
            }
        }
    }

    /// The payload of the next UDP datagram to port 8090 that `wanted` takes; others are forgotten.
    pub fn hear<T>(&mut self, patience: Duration, mut wanted: impl FnMut(&[u8]) -> Option<T>) -> Option<T> {
        self.wait(patience, |station| {
            while let Some(frame) = station.heard.pop_front() {
                if let Some(found) = beacon_payload(&frame).and_then(&mut wanted) {
                    return Some(found);
                }
            }
            None
        })
    }

    /// Frames that arrived so far and that nobody has taken.
    pub fn heard(&mut self) -> Vec<Vec<u8>> {
        self.poll();
        self.heard.drain(..).collect()
    }

    /// Connects, or says that nothing came back in time.
    pub fn connect(&mut self, to: Ip, port: u16, patience: Duration) -> io::Result<SocketHandle> {
        let buffer = || tcp::SocketBuffer::new(vec![0; 16384]);
        let handle = self.sockets.add(tcp::Socket::new(buffer(), buffer()));
        self.next_port += 1;
        let remote = IpEndpoint::new(Ipv6Addr::from(to).into(), port);
        let socket = self.sockets.get_mut::<tcp::Socket>(handle);
        socket.connect(self.interface.context(), remote, self.next_port).map_err(io::Error::other)?;
        let outcome = self.wait(patience, |station| {
            let state = station.sockets.get::<tcp::Socket>(handle).state();
            match state {
                tcp::State::Established => Some(Ok(())),
                tcp::State::SynSent => None,
                state => Some(Err(io::Error::new(io::ErrorKind::ConnectionRefused, format!("{state:?}")))),
            }
        });
        match outcome {
            Some(Ok(())) => Ok(handle),
            Some(Err(error)) => Err(error),
            None => {
                // Leaves no trace: no RST goes out to a peer that may be somebody else's.
                self.sockets.remove(handle);
                Err(io::ErrorKind::TimedOut.into())
            }
        }
    }

    pub fn stream(&mut self, handle: SocketHandle) -> Stream<'_> {
        Stream { station: self, handle }
    }

    /// Does something with a peer that may have fallen silent.
    pub fn briefly<T>(&mut self, act: impl FnOnce(&mut Self) -> T) -> T {
        self.patience = Duration::from_secs(1);
        let result = act(self);
        self.patience = PATIENCE;
        result
    }

    /// Forgets a connection without a word, as a host that lost its power would.
    pub fn vanish(&mut self, handle: SocketHandle) {
        self.sockets.remove(handle);
    }

    /// Resets a connection.
    pub fn reset(&mut self, handle: SocketHandle) {
        self.sockets.get_mut::<tcp::Socket>(handle).abort();
        self.poll();
        self.sockets.remove(handle);
    }

    fn now(&self) -> Time {
        Time::from_micros(i64::try_from(self.started.elapsed().as_micros()).unwrap_or(i64::MAX))
    }

    fn take(&mut self, frame: Vec<u8>) {
        if self.stack {
            self.device.received.push_back(frame.clone());
        }
        self.heard.push_back(frame);
    }

    fn poll(&mut self) {
        while let Some(frame) = self.port.recv(Duration::ZERO).expect("the switch is there") {
            self.take(frame);
        }
        while self.interface.poll(self.now(), &mut self.device, &mut self.sockets) != PollResult::None {}
        for frame in self.device.sent.drain(..) {
            self.port.send(&frame).expect("the switch is there");
        }
    }
}

/// A connection as a blocking byte stream, for libraries that want one.
pub struct Stream<'a> {
    pub station: &'a mut Station,
    handle: SocketHandle,
}

impl Read for Stream<'_> {
    fn read(&mut self, to: &mut [u8]) -> io::Result<usize> {
        let handle = self.handle;
        let got = self.station.wait(self.station.patience, |station| {
            let socket = station.sockets.get_mut::<tcp::Socket>(handle);
            if socket.can_recv() {
                Some(socket.recv_slice(to).map_err(io::Error::other))
            } else if !socket.may_recv() {
                Some(Ok(0))
            } else {
                None
            }
        });
        got.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl Write for Stream<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        let handle = self.handle;
        let sent = self.station.wait(self.station.patience, |station| {
            let socket = station.sockets.get_mut::<tcp::Socket>(handle);
            if !socket.may_send() {
                return Some(Err(io::ErrorKind::BrokenPipe.into()));
            }
            socket.can_send().then(|| socket.send_slice(from).map_err(io::Error::other))
        });
        sent.unwrap_or(Err(io::ErrorKind::TimedOut.into()))
    }

    /// Waits until the peer has acknowledged everything.
    fn flush(&mut self) -> io::Result<()> {
        let handle = self.handle;
        let done = self.station.wait(self.station.patience, |station| {
            let socket = station.sockets.get::<tcp::Socket>(handle);
            (socket.send_queue() == 0 || !socket.is_open()).then_some(())
        });
        done.ok_or(io::ErrorKind::TimedOut.into())
    }
}

/// An IPv6 UDP datagram in an Ethernet frame, with its checksum.
pub fn udp_frame(from: (Mac, Ip), to: (Mac, Ip), ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let udp = UdpRepr { src_port: ports.0, dst_port: ports.1 };
    let (source, target) = (Ipv6Addr::from(from.1), Ipv6Addr::from(to.1));
    let length = udp.header_len() + payload.len();
    ip_frame(from, to, IpProtocol::Udp, 255, length, |bytes| {
        let mut packet = UdpPacket::new_unchecked(bytes);
        let fill = |to: &mut [u8]| to.copy_from_slice(payload);
        udp.emit(&mut packet, &source.into(), &target.into(), payload.len(), fill, &Default::default());
    })
}

/// An IPv6 packet in an Ethernet frame; `fill` writes its payload of `length` bytes.
pub fn ip_frame(
    from: (Mac, Ip),
    to: (Mac, Ip),
    next_header: IpProtocol,
    hop_limit: u8,
    length: usize,
    fill: impl FnOnce(&mut [u8]),
) -> Vec<u8> {
    let ip = Ipv6Repr { src_addr: from.1.into(), dst_addr: to.1.into(), next_header, payload_len: length, hop_limit };
    let mut bytes = vec![0; 14 + ip.buffer_len() + length];
    let mut frame = EthernetFrame::new_unchecked(&mut bytes);
    frame.set_src_addr(EthernetAddress(from.0));
    frame.set_dst_addr(EthernetAddress(to.0));
    frame.set_ethertype(EthernetProtocol::Ipv6);
    let mut packet = Ipv6Packet::new_unchecked(frame.payload_mut());
    ip.emit(&mut packet);
    fill(packet.payload_mut());
    bytes
}

/// The payload of a UDP datagram to port 8090, if the frame is one.
pub fn beacon_payload(frame: &[u8]) -> Option<&[u8]> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
    (packet.next_header() == IpProtocol::Udp).then_some(())?;
    let udp = UdpPacket::new_checked(packet.payload()).ok()?;
    (udp.dst_port() == BEACON_PORT).then(|| udp.payload())
}

#[derive(Default)]
struct Queues {
    received: VecDeque<Vec<u8>>,
    sent: Vec<Vec<u8>>,
}

impl Device for Queues {
    type RxToken<'a> = Received;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Time) -> Option<(Received, Sending<'_>)> {
        let frame = self.received.pop_front()?;
        Some((Received(frame), Sending(&mut self.sent)))
    }

    fn transmit(&mut self, _: Time) -> Option<Sending<'_>> {
        Some(Sending(&mut self.sent))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = 1514;
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
