//! TCP over inner packets: smoltcp on the ring, with the addresses that the mesh gives.
//!
//! smoltcp sees nothing but whole TCP segments to an own address; ICMP is the mesh's business. A SYN for which no
//! socket is free is dropped rather than refused, so that its sender repeats it; so is one of a connection that
//! is there, which a socket that listens would take for a new one.

use calls::mesh::Tenancy;
use shm::{
    Micros,
    ring::{self, Duplex, FRAME_SLOT},
};
use smoltcp::{
    iface::{Config, Interface, PollResult, SocketHandle, SocketSet, SocketStorage},
    phy::{self, DeviceCapabilities, Medium},
    socket::{
        AnySocket,
        tcp::{Socket, SocketBuffer, State},
    },
    time::Instant,
    wire::{
        HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpProtocol, Ipv4Address, Ipv4Packet, Ipv6Address, Ipv6Packet,
        TcpPacket,
    },
};

pub type Ring<'a> = Duplex<'a, FRAME_SLOT>;

/// The longest inner packet that the ring carries.
pub const PACKET: usize = ring::capacity(FRAME_SLOT);
/// The soonest that an alarm is set for smoltcp's sake.
pub const SOON: Micros = 1_000;
/// What every IPv6 link carries, and what the longest inner packet on an Ethernet could be.
const MTU: core::ops::RangeInclusive<u64> = 1280..=1500;
/// Rounds of sending in one step, each at most one packet per socket.
const ROUNDS: usize = 64;

/// The own addresses.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Addresses {
    pub v4: Option<Ipv4Address>,
    pub v6: Option<Ipv6Address>,
}

impl Addresses {
    /// Those of the tenancy that a host can have.
    pub fn of(tenancy: &Tenancy) -> Self {
        let (v4, v6) = (Ipv4Address::from(tenancy.v4), Ipv6Address::from(tenancy.v6));
        let of_host = !(v4.is_unspecified() || v4.is_multicast() || v4.is_broadcast() || v4.is_loopback());
        let of_host6 = !(v6.is_unspecified() || v6.is_multicast() || v6.is_loopback());
        Self { v4: of_host.then_some(v4), v6: of_host6.then_some(v6) }
    }

    pub fn is_own(&self, address: IpAddress) -> bool {
        match address {
            IpAddress::Ipv4(v4) => self.v4 == Some(v4),
            IpAddress::Ipv6(v6) => self.v6 == Some(v6),
        }
    }
}

/// An inner packet with all of its payload.
pub struct Packet<'p> {
    pub src: IpAddress,
    pub dst: IpAddress,
    pub protocol: IpProtocol,
    pub payload: &'p [u8],
}

impl<'p> Packet<'p> {
    /// `None` for what is no IP packet or a fragment of one.
    pub fn parse(bytes: &'p [u8]) -> Option<Self> {
        match bytes.first()? >> 4 {
            4 => {
                let ip = Ipv4Packet::new_checked(bytes).ok()?;
                let whole = !ip.more_frags() && ip.frag_offset() == 0;
                let (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
                whole.then_some(Self { src, dst, protocol: ip.next_header(), payload: ip.payload() })
            }
            6 => {
                let ip = Ipv6Packet::new_checked(bytes).ok()?;
                let (src, dst) = (ip.src_addr().into(), ip.dst_addr().into());
                Some(Self { src, dst, protocol: ip.next_header(), payload: ip.payload() })
            }
            _ => None,
        }
    }
}

pub struct Stack<'a> {
    sockets: SocketSet<'a>,
    place: Option<Place>,
}

/// A place in a mesh.
struct Place {
    addresses: Addresses,
    mtu: usize,
    interface: Interface,
}

impl<'a> Stack<'a> {
    pub fn new(storage: &'a mut [SocketStorage<'a>]) -> Self {
        Self { sockets: SocketSet::new(storage), place: None }
    }

    /// One socket more; there must be storage for it.
    pub fn add(&mut self, receive: &'a mut [u8], send: &'a mut [u8]) -> SocketHandle {
        let mut socket = Socket::new(SocketBuffer::new(receive), SocketBuffer::new(send));
        socket.set_ack_delay(None);
        socket.set_nagle_enabled(false);
        self.sockets.add(socket)
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'a> {
        self.sockets.get_mut(handle)
    }

    pub fn has_place(&self) -> bool {
        self.place.is_some()
    }

    pub fn addresses(&self) -> Addresses {
        self.place.as_ref().map(|place| place.addresses).unwrap_or_default()
    }

    /// Moves to the place that the mesh gives, or to none. Connections of an address that is gone end without a word: smoltcp
    /// sees to that.
    pub fn settle(&mut self, tenancy: &Tenancy, now: Micros) {
        let addresses = Addresses::of(tenancy);
        let mtu = tenancy.mtu.clamp(*MTU.start(), *MTU.end()) as usize;
        if self.place.as_ref().is_some_and(|place| (place.addresses, place.mtu) == (addresses, mtu)) {
            return;
        }
        self.place = (addresses != Addresses::default()).then(|| {
            let mut config = Config::new(HardwareAddress::Ip);
            config.random_seed = tenancy.seed;
            let mut device = Device { incoming: None, mtu, outgoing: None };
            let mut interface = Interface::new(config, &mut device, instant(now));
            interface.update_ip_addrs(|own| {
                // There is room for two. No prefix: whatever it is, the way there is the ring.
                let v4 = addresses.v4.map(|v4| IpCidr::new(v4.into(), 0));
                let v6 = addresses.v6.map(|v6| IpCidr::new(v6.into(), 0));
                own.extend([v4, v6].into_iter().flatten());
            });
            Place { addresses, mtu, interface }
        });
    }

    /// Takes packets from the ring, at most so many. Returns true if more may wait.
    pub fn hear(&mut self, now: Micros, ring: &mut Ring<'_>, buffer: &mut [u8; PACKET], packets: usize) -> bool {
        for _ in 0..packets {
            match ring.recv(buffer) {
                Ok(None) => return false,
                Ok(Some(len)) => self.ingest(buffer.get(..len).unwrap_or_default(), now, ring),
                // What the mesh broke is lost; what comes next is looked at as ever.
                Err(shm::Misbehaved) => {}
            }
        }
        true
    }

    /// Takes one packet.
    pub fn ingest(&mut self, packet: &[u8], now: Micros, ring: &mut Ring<'_>) {
        let Some(place) = &mut self.place else { return };
        let segment = Packet::parse(packet).filter(|packet| place.addresses.is_own(packet.dst));
        if !segment.is_some_and(|segment| admits(&self.sockets, &segment)) {
            return;
        }
        let mut device = Device { incoming: Some(packet), mtu: place.mtu, outgoing: Some(ring) };
        place.interface.poll_ingress_single(instant(now), &mut device, &mut self.sockets);
    }

    /// Sends what is due, while the ring has room. Returns true if there may be more.
    pub fn egress(&mut self, now: Micros, ring: &mut Ring<'_>) -> bool {
        let Some(place) = &mut self.place else { return false };
        let mut device = Device { incoming: None, mtu: place.mtu, outgoing: Some(ring) };
        for _ in 0..ROUNDS {
            if place.interface.poll_egress(instant(now), &mut device, &mut self.sockets) == PollResult::None {
                return false;
            }
        }
        true
    }

    /// When [`Self::egress`] is due next. Soon, if the ring was full: who empties it does not say so.
    pub fn deadline(&mut self, now: Micros) -> Option<Micros> {
        let place = self.place.as_mut()?;
        let at = place.interface.poll_at(instant(now), &self.sockets)?;
        Some(u64::try_from(at.total_micros()).unwrap_or(0).max(now.saturating_add(SOON)))
    }

    /// Frees sockets whose connection is over but for the time that TCP waits for stray segments: each comes from
    /// another port of its peer, and what strays here is refused.
    pub fn recycle(&mut self) {
        for (_, socket) in self.sockets.iter_mut() {
            match Socket::downcast_mut(socket) {
                Some(socket) if socket.state() == State::TimeWait => silence(socket),
                _ => {}
            }
        }
    }
}

/// Whether smoltcp is to see it.
fn admits(sockets: &SocketSet<'_>, packet: &Packet<'_>) -> bool {
    if packet.protocol != IpProtocol::Tcp {
        return false;
    }
    let Ok(tcp) = TcpPacket::new_checked(packet.payload) else { return false };
    if !tcp.syn() || tcp.ack() {
        return true;
    }
    let from = IpEndpoint::new(packet.src, tcp.src_port());
    let here = || sockets.iter().filter_map(|(_, socket)| Socket::downcast(socket));
    let mut serving = here().filter(|socket| socket.listen_endpoint().port == tcp.dst_port()).peekable();
    let known = here().any(|socket| {
        socket.remote_endpoint() == Some(from) && socket.local_endpoint().is_some_and(|own| own.port == tcp.dst_port())
    });
    // A port that nobody serves refuses.
    !known && (serving.peek().is_none() || serving.any(|socket| socket.is_listening()))
}

/// Closes without a word: aborting alone would leave a reset to be sent, listening anew forgets the peer.
fn silence(socket: &mut Socket<'_>) {
    let port = socket.listen_endpoint().port.max(1);
    socket.abort();
    let _ = socket.listen(port);
    socket.close();
}

fn instant(now: Micros) -> Instant {
    // Half the range, so that smoltcp's own additions cannot overflow: 146 thousand years.
    Instant::from_micros(i64::try_from(now).unwrap_or(i64::MAX).min(i64::MAX / 2))
}

/// smoltcp's device, for one call of the interface: at most one packet waits in it.
struct Device<'d, 'r> {
    incoming: Option<&'d [u8]>,
    mtu: usize,
    outgoing: Option<&'d mut Ring<'r>>,
}

struct RxToken<'d>(&'d [u8]);
struct TxToken<'t, 'r>(Option<&'t mut Ring<'r>>);

impl<'d, 'r> phy::Device for Device<'d, 'r> {
    type RxToken<'t>
        = RxToken<'d>
    where
        Self: 't;
    type TxToken<'t>
        = TxToken<'t, 'r>
    where
        Self: 't;

    fn receive(&mut self, _: Instant) -> Option<(RxToken<'d>, TxToken<'_, 'r>)> {
        // An answer for which there is no room is lost, as on a link.
        Some((RxToken(self.incoming.take()?), TxToken(self.outgoing.as_deref_mut())))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_, 'r>> {
        let ring = self.outgoing.as_deref_mut()?;
        ring.has_room().then_some(TxToken(Some(ring)))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for TxToken<'_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut buffer = [0; PACKET];
        // smoltcp keeps to the device's longest packet.
        let packet = &mut buffer[..len.min(PACKET)];
        let result = f(packet);
        if let Some(ring) = self.0 {
            let _ = ring.send(packet);
        }
        result
    }
}
