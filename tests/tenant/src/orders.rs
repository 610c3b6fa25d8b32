//! Orders to misbehave. A datagram to [`crate::ORDER_PORT`] holds one:
//!
//! - `send tcp ADDRESS PORT`: a SYN; `send udp ADDRESS PORT`: a datagram; `send icmp ADDRESS PORT`: an echo request with
//!   that number; `send NUMBER ADDRESS PORT`: a packet of any protocol. From the own address of the same family.
//! - `raw HEX`: these bytes, whatever they are.
//!
//! It answers `sent`, or `refused` and the reason.

use heapless::Vec;
use shm::ring::SendError;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        Icmpv4Packet, Icmpv4Repr, Icmpv6Packet, Icmpv6Repr, IpAddress, IpProtocol, IpRepr, TcpControl, TcpPacket,
        TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    },
};
use workload::stack::{Addresses, PACKET, Packet, Ring};

use crate::ORDER_PORT;

/// From where segments and datagrams go out.
pub const FROM_PORT: u16 = 40_000;
/// What they carry.
pub const PAYLOAD: &[u8] = b"where none should go";

type Buffer = Vec<u8, PACKET>;

/// Does what the packet orders, and answers. False if it is no order.
pub fn obey(packet: &[u8], own: &Addresses, ring: &mut Ring<'_>) -> bool {
    let Some((from, order)) = datagram(packet, own) else { return false };
    let answer = match carry_out(order, own, ring) {
        Ok(()) => "sent",
        Err(reason) => reason,
    };
    let (addr, port) = from;
    let reply = udp(addr.0, addr.1, ORDER_PORT, port, answer.as_bytes());
    if let Some(reply) = reply {
        // No room: who ordered asks again.
        let _ = ring.send(&reply);
    }
    true
}

type Sender = ((IpAddress, IpAddress), u16);

/// Own address, sender and what is said.
fn datagram<'p>(packet: &'p [u8], own: &Addresses) -> Option<(Sender, &'p [u8])> {
    let ip = Packet::parse(packet).filter(|ip| ip.protocol == IpProtocol::Udp && own.is_own(ip.dst))?;
    let udp = UdpPacket::new_checked(ip.payload).ok()?;
    let repr = UdpRepr::parse(&udp, &ip.src, &ip.dst, &ChecksumCapabilities::default()).ok()?;
    let speaks = repr.dst_port == ORDER_PORT && ip.src.is_unicast();
    speaks.then_some((((ip.dst, ip.src), repr.src_port), udp.payload()))
}

fn carry_out(order: &[u8], own: &Addresses, ring: &mut Ring<'_>) -> Result<(), &'static str> {
    let text = str::from_utf8(order).map_err(|_| "refused: no text")?;
    let mut words = text.split_ascii_whitespace();
    let mut next = || words.next();
    let packet = match (next(), next(), next(), next(), next()) {
        (Some("raw"), Some(hex), None, ..) => unhex(hex).ok_or("refused: no bytes")?,
        (Some("send"), Some(what), Some(to), Some(port), None) => {
            let to = to.parse().map_err(|_| "refused: no address")?;
            let port = port.parse().map_err(|_| "refused: no port")?;
            let from = match to {
                IpAddress::Ipv4(_) => own.v4.map(IpAddress::from),
                IpAddress::Ipv6(_) => own.v6.map(IpAddress::from),
            };
            build(what, from.ok_or("refused: no own address")?, to, port)?
        }
        _ => return Err("refused: no order"),
    };
    ring.send(&packet).map_err(|error| match error {
        SendError::TooLong => "refused: too long",
        SendError::Full | SendError::Misbehaved => "refused: no room",
    })
}

fn build(what: &str, src: IpAddress, dst: IpAddress, port: u16) -> Result<Buffer, &'static str> {
    let checksums = ChecksumCapabilities::default();
    let packet = match what {
        "udp" => udp(src, dst, FROM_PORT, port, PAYLOAD),
        "tcp" => {
            let syn = TcpRepr {
                src_port: FROM_PORT,
                dst_port: port,
                control: TcpControl::Syn,
                seq_number: TcpSeqNumber(1),
                ack_number: None,
                window_len: 1024,
                window_scale: None,
                max_seg_size: None,
                sack_permitted: false,
                sack_ranges: [None; 3],
                timestamp: None,
                payload: &[],
            };
            around(src, dst, IpProtocol::Tcp, syn.buffer_len(), |to| {
                syn.emit(&mut TcpPacket::new_unchecked(to), &src, &dst, &checksums);
            })
        }
        "icmp" => match (src, dst) {
            (IpAddress::Ipv6(src6), IpAddress::Ipv6(dst6)) => {
                let echo = Icmpv6Repr::EchoRequest { ident: port, seq_no: 1, data: PAYLOAD };
                around(src, dst, IpProtocol::Icmpv6, echo.buffer_len(), |to| {
                    echo.emit(&src6, &dst6, &mut Icmpv6Packet::new_unchecked(to), &checksums);
                })
            }
            _ => {
                let echo = Icmpv4Repr::EchoRequest { ident: port, seq_no: 1, data: PAYLOAD };
                around(src, dst, IpProtocol::Icmp, echo.buffer_len(), |to| {
                    echo.emit(&mut Icmpv4Packet::new_unchecked(to), &checksums);
                })
            }
        },
        number => {
            let protocol = number.parse::<u8>().map_err(|_| "refused: no protocol")?;
            around(src, dst, protocol.into(), PAYLOAD.len(), |to| to.copy_from_slice(PAYLOAD))
        }
    };
    packet.ok_or("refused: too long")
}

fn udp(src: IpAddress, dst: IpAddress, src_port: u16, dst_port: u16, payload: &[u8]) -> Option<Buffer> {
    let repr = UdpRepr { src_port, dst_port };
    around(src, dst, IpProtocol::Udp, repr.header_len() + payload.len(), |to| {
        let mut packet = UdpPacket::new_unchecked(to);
        let fill = |to: &mut [u8]| to.copy_from_slice(payload);
        repr.emit(&mut packet, &src, &dst, payload.len(), fill, &ChecksumCapabilities::default());
    })
}

/// A packet with a payload of that length. Both addresses are of one family.
fn around(
    src: IpAddress,
    dst: IpAddress,
    protocol: IpProtocol,
    len: usize,
    emit: impl FnOnce(&mut [u8]),
) -> Option<Buffer> {
    let ip = IpRepr::new(src, dst, protocol, len, 64);
    let mut packet = Buffer::new();
    packet.resize_default(ip.buffer_len()).ok()?;
    ip.emit(&mut *packet, &ChecksumCapabilities::default());
    emit(packet.get_mut(ip.header_len()..)?);
    Some(packet)
}

fn unhex(text: &str) -> Option<Buffer> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks(2).map(|pair| match pair {
        [high, low] => Some(digit(*high)? << 4 | digit(*low)?),
        _ => None,
    });
    let mut bytes = Buffer::new();
    for byte in pairs {
        bytes.push(byte?).ok()?;
    }
    (!bytes.is_empty()).then_some(bytes)
}
