//! The edge between smoltcp and the ring of frames.
//!
//! smoltcp cannot refuse selectively: it resets closed ports, reports parameter problems, closes with FIN.
//! So it sees nothing but TCP segments of the one peer, and of what it makes nothing passes but TCP to that
//! peer without RST and FIN. Neighbour solicitations are answered here, without it, and its own are never
//! needed: the peer's MAC is known. While no gate is open nothing passes at all. The perimeter does the
//! same again.

use core::ops::Range;

use link::{HEADERS, HOP_LIMIT, MAX_FRAME, NextHeader, Station, is_host, is_unicast};
use shm::ring::{Duplex, FRAME_SLOT};
use smoltcp::{
    phy::{self, Checksum, ChecksumCapabilities, DeviceCapabilities, Medium},
    time::Instant,
    wire::{
        EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Address, Ipv6Packet, NdiscRepr,
        TCP_HEADER_LEN, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber,
    },
};
use wire::CLAIM_PORT;

pub type Ring<'a> = Duplex<'a, FRAME_SLOT>;

/// Bytes of TCP payload that fit a frame, at most.
pub const MSS: u16 = (MAX_FRAME - HEADERS - TCP_HEADER_LEN) as u16;
/// Room for a frame of [`build_segment`], whose TCP header has no option but the largest segment size.
pub const SMALL: usize = HEADERS + TCP_HEADER_LEN + 4;

/// The two ends of the gate's connections: this node and the peer.
#[derive(Clone, Copy)]
pub struct Ends {
    pub node: Station,
    pub peer: Station,
}

impl Ends {
    /// `None` unless all four are addresses that a host can have, which smoltcp demands.
    pub fn new(node: Station, peer: Station) -> Option<Self> {
        [node, peer].iter().all(|end| is_unicast(&end.mac) && is_host(&end.ip)).then_some(Self { node, peer })
    }

    pub fn local(&self) -> Ipv6Address {
        Ipv6Address::from(self.node.ip)
    }

    pub fn remote(&self) -> Ipv6Address {
        Ipv6Address::from(self.peer.ip)
    }
}

/// A TCP segment of the peer to the claim port; its checksum is right.
pub struct Segment {
    pub port: u16,
    pub control: TcpControl,
    pub seq: TcpSeqNumber,
    pub ack: Option<TcpSeqNumber>,
    /// The longest payload that the peer wants, of its SYN.
    pub max_size: Option<u16>,
    /// Where in the frame its payload lies.
    pub payload: Range<usize>,
}

/// A frame that may come in.
pub enum Incoming {
    /// A neighbour solicitation of the node's own address.
    Solicitation,
    Segment(Segment),
}

/// What the frame is, if it is the peer's and of a kind that may come in.
pub fn incoming(frame: &[u8], ends: &Ends) -> Option<Incoming> {
    let eth = EthernetFrame::new_checked(frame).ok()?;
    let ip = Ipv6Packet::new_checked(eth.payload()).ok()?;
    let from_peer = eth.ethertype() == EthernetProtocol::Ipv6
        && eth.src_addr().0 == ends.peer.mac
        && ip.version() == 6
        && ip.src_addr() == ends.remote();
    from_peer.then_some(())?;
    match ip.next_header() {
        IpProtocol::Icmpv6 if ip.hop_limit() == 255 => {
            let icmp = Icmpv6Packet::new_checked(ip.payload()).ok()?;
            let (src, dst) = (ends.remote(), ip.dst_addr());
            match Icmpv6Repr::parse(&src, &dst, &icmp, &ChecksumCapabilities::default()).ok()? {
                Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, .. }) => {
                    let to = Station::new(dst.octets(), eth.dst_addr().0);
                    let asked = to == ends.node || to == Station::solicited_node(&ends.node.ip);
                    (asked && target_addr == ends.local()).then_some(Incoming::Solicitation)
                }
                _ => None,
            }
        }
        IpProtocol::Tcp if eth.dst_addr().0 == ends.node.mac && ip.dst_addr() == ends.local() => {
            let tcp = TcpPacket::new_checked(ip.payload()).ok()?;
            let (src, dst) = (ends.remote().into(), ends.local().into());
            let repr = TcpRepr::parse(&tcp, &src, &dst, &ChecksumCapabilities::default()).ok()?;
            (repr.dst_port == CLAIM_PORT).then_some(())?;
            let start = HEADERS + usize::from(tcp.header_len());
            Some(Incoming::Segment(Segment {
                port: repr.src_port,
                control: repr.control,
                seq: repr.seq_number,
                ack: repr.ack_number,
                max_size: repr.max_seg_size,
                payload: start..start + repr.payload.len(),
            }))
        }
        _ => None,
    }
}

/// The difference between the sequence numbers that the peer sees and smoltcp's own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shift(i32);

impl Shift {
    pub fn new(seen: TcpSeqNumber, own: TcpSeqNumber) -> Self {
        Self(seen.0.wrapping_sub(own.0))
    }

    /// Makes the peer's acknowledgement one of smoltcp's number. smoltcp is told not to check the checksum again.
    pub fn inward(self, frame: &mut [u8]) {
        if let Some(mut tcp) = frame.get_mut(HEADERS..).and_then(|bytes| TcpPacket::new_checked(bytes).ok()) {
            let ack = tcp.ack_number();
            tcp.set_ack_number(TcpSeqNumber(ack.0.wrapping_sub(self.0)));
        }
    }
}

/// A connection as the edge knows it.
pub struct Connection {
    /// The peer's port.
    pub port: u16,
    /// The node's first sequence number, as the peer was told it.
    pub first: TcpSeqNumber,
    /// Known once smoltcp has named its own.
    pub shift: Option<Shift>,
    pub since: shm::Micros,
}

/// Where smoltcp's frames go out.
pub struct Outlet<'d, 'r> {
    pub ring: &'d mut Ring<'r>,
    pub ends: Ends,
    pub connections: &'d mut [Option<Connection>],
}

impl Outlet<'_, '_> {
    fn pass(&mut self, frame: &mut [u8]) {
        if self.allows(frame).is_some() {
            // A full ring loses the frame, as a link would; TCP repeats.
            let _ = self.ring.send(frame);
        }
    }

    /// Whether the frame goes out. Gives it the numbers and the checksum that the peer expects.
    fn allows(&mut self, frame: &mut [u8]) -> Option<()> {
        let Ends { node, peer } = self.ends;
        let mut eth = EthernetFrame::new_checked(frame).ok()?;
        let named = eth.ethertype() == EthernetProtocol::Ipv6 && eth.src_addr().0 == node.mac;
        (named && eth.dst_addr().0 == peer.mac).then_some(())?;
        let mut ip = Ipv6Packet::new_checked(eth.payload_mut()).ok()?;
        let (src, dst) = (ip.src_addr(), ip.dst_addr());
        let named = src == self.ends.local() && dst == self.ends.remote();
        (named && ip.next_header() == IpProtocol::Tcp).then_some(())?;
        let mut tcp = TcpPacket::new_checked(ip.payload_mut()).ok()?;
        (tcp.src_port() == CLAIM_PORT && !tcp.rst() && !tcp.fin()).then_some(())?;
        let port = tcp.dst_port();
        let connection = self.connections.iter_mut().flatten().find(|known| known.port == port)?;
        if tcp.syn() {
            // The peer has its SYN-ACK already: this one only tells smoltcp's number.
            connection.shift = Some(Shift::new(connection.first, tcp.seq_number()));
            return None;
        }
        let Shift(shift) = connection.shift?;
        let seq = tcp.seq_number();
        tcp.set_seq_number(TcpSeqNumber(seq.0.wrapping_add(shift)));
        tcp.fill_checksum(&src.into(), &dst.into());
        Some(())
    }
}

/// smoltcp's device, for one call of the interface: at most one frame waits in it.
pub struct Device<'d, 'r> {
    pub incoming: Option<&'d [u8]>,
    pub scratch: &'d mut [u8; MAX_FRAME],
    pub outlet: Outlet<'d, 'r>,
}

pub struct RxToken<'t>(&'t [u8]);

pub struct TxToken<'t, 'd, 'r> {
    scratch: &'t mut [u8; MAX_FRAME],
    outlet: &'t mut Outlet<'d, 'r>,
}

impl<'d, 'r> phy::Device for Device<'d, 'r> {
    type RxToken<'t>
        = RxToken<'d>
    where
        Self: 't;
    type TxToken<'t>
        = TxToken<'t, 'd, 'r>
    where
        Self: 't;

    fn receive(&mut self, now: Instant) -> Option<(RxToken<'d>, TxToken<'_, 'd, 'r>)> {
        let frame = self.incoming.take()?;
        Some((RxToken(frame), self.transmit(now)?))
    }

    fn transmit(&mut self, _: Instant) -> Option<TxToken<'_, 'd, 'r>> {
        Some(TxToken { scratch: self.scratch, outlet: &mut self.outlet })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ethernet;
        capabilities.max_transmission_unit = MAX_FRAME;
        // Checked by `incoming` and filled in by `Outlet`, because numbers are shifted in between.
        capabilities.checksum.tcp = Checksum::None;
        capabilities
    }
}

impl phy::RxToken for RxToken<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

impl phy::TxToken for TxToken<'_, '_, '_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        // smoltcp keeps to the device's longest frame.
        let len = len.min(MAX_FRAME);
        let frame = &mut self.scratch[..len];
        let result = f(frame);
        self.outlet.pass(frame);
        result
    }
}

/// Builds a segment without payload: from the node to the peer, or as if from the peer.
pub fn build_segment<'b>(buffer: &'b mut [u8; SMALL], ends: &Ends, from_peer: bool, repr: &TcpRepr<'_>) -> &'b [u8] {
    let (from, to) = if from_peer { (&ends.peer, &ends.node) } else { (&ends.node, &ends.peer) };
    let (src, dst) = (Ipv6Address::from(from.ip).into(), Ipv6Address::from(to.ip).into());
    let frame = &mut buffer[..HEADERS + repr.buffer_len()];
    let mut packet = TcpPacket::new_unchecked(&mut frame[HEADERS..]);
    repr.emit(&mut packet, &src, &dst, &ChecksumCapabilities::default());
    // There is room.
    let _ = link::ipv6(frame, from, to, NextHeader::Tcp, HOP_LIMIT);
    frame
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec;

    use shm::{ReadOnly, ReadWrite};
    use smoltcp::phy::TxToken as _;

    use super::*;

    const ENDS: Ends = Ends { node: Station::new([0xfe; 16], [2; 6]), peer: Station::new([0xfd; 16], [4; 6]) };

    fn segment() -> TcpRepr<'static> {
        TcpRepr {
            src_port: CLAIM_PORT,
            dst_port: 7,
            control: TcpControl::None,
            seq_number: TcpSeqNumber(100),
            ack_number: Some(TcpSeqNumber(1)),
            window_len: 1,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        }
    }

    /// What of the frame leaves an outlet that knows the peer's port 7.
    fn leaves(frame: &[u8]) -> Option<Vec<u8>> {
        let regions: [[AtomicU64; 600]; 2] = core::array::from_fn(|_| core::array::from_fn(|_| AtomicU64::new(0)));
        let [a, b] = &regions;
        let mut ring = Ring::new(ReadWrite::new(a), ReadOnly::new(b)).unwrap();
        let shift = Some(Shift::new(TcpSeqNumber(-1), TcpSeqNumber(99)));
        let mut connections = [Some(Connection { port: 7, first: TcpSeqNumber(-1), shift, since: 0 })];
        let outlet = Outlet { ring: &mut ring, ends: ENDS, connections: &mut connections };
        let mut device = Device { incoming: None, scratch: &mut [0; MAX_FRAME], outlet };
        let token = phy::Device::transmit(&mut device, Instant::ZERO).unwrap();
        token.consume(frame.len(), |to| to.copy_from_slice(frame));
        let mut other = Ring::new(ReadWrite::new(b), ReadOnly::new(a)).unwrap();
        let mut buffer = [0; FRAME_SLOT];
        other.recv(&mut buffer).unwrap().map(|len| buffer[..len].to_vec())
    }

    #[test]
    fn only_plain_segments_of_known_connections_leave() {
        let mut small = [0; SMALL];
        let right = build_segment(&mut small, &ENDS, false, &segment()).to_vec();
        let left = leaves(&right).unwrap();
        let tcp = TcpPacket::new_checked(&left[HEADERS..]).unwrap();
        assert_eq!(tcp.seq_number(), TcpSeqNumber(0));
        assert!(tcp.verify_checksum(&ENDS.local().into(), &ENDS.remote().into()));
        for control in [TcpControl::Rst, TcpControl::Fin, TcpControl::Syn] {
            assert_eq!(leaves(build_segment(&mut small, &ENDS, false, &TcpRepr { control, ..segment() })), None);
        }
        for (src_port, dst_port) in [(CLAIM_PORT, 8), (CLAIM_PORT + 1, 7)] {
            let repr = TcpRepr { src_port, dst_port, ..segment() };
            assert_eq!(leaves(build_segment(&mut small, &ENDS, false, &repr)), None);
        }
        assert_eq!(leaves(build_segment(&mut small, &ENDS, true, &segment())), None);
        assert_eq!(leaves(&link::advertisement(&ENDS.node, &ENDS.peer)), None);
        // Another MAC, type, header, address.
        for at in [0, 6, 12, 20, 22, 38] {
            let mut wrong = right.clone();
            wrong[at] ^= 0x10;
            assert_eq!(leaves(&wrong), None, "{at}");
        }
        for len in 0..right.len() {
            assert_eq!(leaves(&right[..len]), None);
        }
    }
}
