//! Inner packets by which an authority sees what a node's rules let through: an echo request, the first segment of a
//! connection to the workload's page, and a datagram that no rule is for; and what comes back.

use shm::Micros;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, Ipv6Address, Ipv6Packet, Ipv6Repr, TcpControl, TcpPacket,
        TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    },
};
use wire::Ip;

/// The workload's page, and a port that nobody serves.
const PAGE: u16 = 80;
const DISCARD: u16 = 9;
const FIRST_PORT: u16 = 20_000;

/// What a node answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer {
    Echo,
    /// The workload's end of a connection, or the end of it.
    Page,
    Else,
}

/// A stream of probes.
pub struct Probes {
    every: Micros,
    pub next: Micros,
    count: u16,
    /// What came back, and when.
    pub answers: Vec<(Micros, Answer)>,
}

impl Probes {
    pub fn new(every: Micros, now: Micros) -> Self {
        Self { every, next: now, count: 0, answers: Vec::new() }
    }

    /// The packets that are due.
    pub fn due(&mut self, now: Micros, from: Ip, to: Ip) -> Vec<Vec<u8>> {
        if now < self.next {
            return Vec::new();
        }
        self.next = now + self.every;
        self.count = self.count.wrapping_add(1);
        let line = Line { from, to, port: FIRST_PORT + self.count % 20_000 };
        vec![line.echo(self.count), line.tcp(TcpControl::Syn, 0), line.datagram()]
    }

    /// Takes a packet of the node's; returns what is said to that.
    pub fn take(&mut self, now: Micros, packet: &[u8], from: Ip, to: Ip) -> Option<Vec<u8>> {
        let (answer, reply) = read(packet, from, to).unwrap_or((Answer::Else, None));
        self.answers.push((now, answer));
        reply
    }
}

/// From the authority to the node.
struct Line {
    from: Ip,
    to: Ip,
    port: u16,
}

impl Line {
    fn ends(&self) -> (Ipv6Address, Ipv6Address) {
        (self.from.into(), self.to.into())
    }

    fn packet(&self, protocol: IpProtocol, length: usize, fill: impl FnOnce(&mut [u8])) -> Vec<u8> {
        let (src_addr, dst_addr) = self.ends();
        let hop_limit = link::HOP_LIMIT;
        let head = Ipv6Repr { src_addr, dst_addr, next_header: protocol, payload_len: length, hop_limit };
        let mut bytes = vec![0; head.buffer_len() + length];
        let mut packet = Ipv6Packet::new_unchecked(&mut bytes[..]);
        head.emit(&mut packet);
        fill(packet.payload_mut());
        bytes
    }

    fn echo(&self, seq_no: u16) -> Vec<u8> {
        let (from, to) = self.ends();
        let echo = Icmpv6Repr::EchoRequest { ident: 1, seq_no, data: b"genesis" };
        self.packet(IpProtocol::Icmpv6, echo.buffer_len(), |bytes| {
            echo.emit(&from, &to, &mut Icmpv6Packet::new_unchecked(bytes), &ChecksumCapabilities::default());
        })
    }

    fn tcp(&self, control: TcpControl, seq_number: i32) -> Vec<u8> {
        let (from, to) = self.ends();
        let segment = TcpRepr {
            src_port: self.port,
            dst_port: PAGE,
            control,
            seq_number: TcpSeqNumber(seq_number),
            ack_number: None,
            window_len: 1024,
            window_scale: None,
            max_seg_size: None,
            sack_permitted: false,
            sack_ranges: [None; 3],
            timestamp: None,
            payload: &[],
        };
        self.packet(IpProtocol::Tcp, segment.buffer_len(), |bytes| {
            let mut packet = TcpPacket::new_unchecked(bytes);
            segment.emit(&mut packet, &from.into(), &to.into(), &ChecksumCapabilities::default());
        })
    }

    fn datagram(&self) -> Vec<u8> {
        let (from, to) = self.ends();
        let udp = UdpRepr { src_port: self.port, dst_port: DISCARD };
        self.packet(IpProtocol::Udp, udp.header_len() + 1, |bytes| {
            let mut packet = UdpPacket::new_unchecked(bytes);
            let ends: (IpAddress, IpAddress) = (from.into(), to.into());
            udp.emit(&mut packet, &ends.0, &ends.1, 1, |_| {}, &ChecksumCapabilities::default());
        })
    }
}

/// A packet of the node at `from`, and what is said to it: a connection is given up as soon as it is there.
fn read(packet: &[u8], from: Ip, to: Ip) -> Option<(Answer, Option<Vec<u8>>)> {
    let packet = Ipv6Packet::new_checked(packet).ok()?;
    if packet.src_addr().octets() != from || packet.dst_addr().octets() != to {
        return None;
    }
    match packet.next_header() {
        IpProtocol::Icmpv6 => {
            let echo = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            (echo.msg_type() == smoltcp::wire::Icmpv6Message::EchoReply).then_some((Answer::Echo, None))
        }
        IpProtocol::Tcp => {
            let segment = TcpPacket::new_checked(packet.payload()).ok()?;
            let line = Line { from: to, to: from, port: segment.dst_port() };
            let opens = segment.syn() && segment.ack();
            (segment.src_port() == PAGE)
                .then(|| (Answer::Page, opens.then(|| line.tcp(TcpControl::Rst, segment.ack_number().0))))
        }
        _ => None,
    }
}
