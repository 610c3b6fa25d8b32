//! Who said what to whom: each notification with what stands in the regions between the two, each frame, each line of a
//! console.

use std::fmt;

use calls::{keystore, lifecycle};
use shm::Micros;

/// One thing that was said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    pub at: Micros,
    /// The node, or `-` for what is said outside.
    pub place: String,
    pub from: String,
    pub to: String,
    pub what: String,
}

/// Everything that was said, in order.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace(pub Vec<Line>);

impl fmt::Display for Trace {
    /// A table: seconds, place, from, to, what.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Line) -> &str| self.0.iter().map(|line| of(line).len()).max().unwrap_or(0);
        let (place, from, to) = (width(|line| &line.place), width(|line| &line.from), width(|line| &line.to));
        for Line { at, place: p, from: s, to: t, what } in &self.0 {
            let (seconds, micros) = (at / 1_000_000, at % 1_000_000);
            writeln!(f, "{seconds:4}.{micros:06}  {p:place$}  {s:>from$} -> {t:to$}  {what}")?;
        }
        Ok(())
    }
}

/// The name of an operation that `server` is asked for.
pub fn operation(server: &str, number: u64) -> String {
    let name = match server {
        "keystore" => {
            let lifecycle = keystore::for_lifecycle::Op::from_number(number).map(keystore::for_lifecycle::Op::name);
            let beacon = keystore::for_beacon::Op::from_number(number).map(keystore::for_beacon::Op::name);
            let claim = keystore::for_claim::Op::from_number(number).map(keystore::for_claim::Op::name);
            let mesh = keystore::for_mesh::Op::from_number(number).map(keystore::for_mesh::Op::name);
            lifecycle.or(beacon).or(claim).or(mesh)
        }
        "lifecycle" => {
            let beacon = lifecycle::for_beacon::Op::from_number(number).map(lifecycle::for_beacon::Op::name);
            let claim = lifecycle::for_claim::Op::from_number(number).map(lifecycle::for_claim::Op::name);
            let mesh = lifecycle::for_mesh::Op::from_number(number).map(lifecycle::for_mesh::Op::name);
            beacon.or(claim).or(mesh)
        }
        _ => None,
    };
    name.map_or_else(|| format!("operation {number}"), str::to_owned)
}

/// How `server` has answered.
pub fn status(server: &str, code: u64) -> String {
    let name = match server {
        _ if code == 0 => return "done".to_owned(),
        "keystore" => keystore::Refusal::from_number(code).map(keystore::Refusal::name),
        "lifecycle" => lifecycle::Refusal::from_number(code).map(lifecycle::Refusal::name),
        _ => None,
    };
    name.map_or_else(|| format!("refused: {code}"), |name| format!("refused: {name}"))
}

/// What a frame is, in words.
pub fn frame(bytes: &[u8]) -> String {
    use smoltcp::wire::{EthernetFrame, EthernetProtocol, Icmpv6Packet, IpProtocol, Ipv6Packet, TcpPacket, UdpPacket};
    let odd = || format!("{} bytes", bytes.len());
    let Ok(ethernet) = EthernetFrame::new_checked(bytes) else { return odd() };
    if ethernet.ethertype() != EthernetProtocol::Ipv6 {
        return odd();
    }
    let Ok(ip) = Ipv6Packet::new_checked(ethernet.payload()) else { return odd() };
    match ip.next_header() {
        IpProtocol::Udp => UdpPacket::new_checked(ip.payload()).map_or_else(
            |_| odd(),
            |udp| {
                let payload = udp.payload();
                let kind = match (udp.dst_port(), payload.get(5), payload.first()) {
                    (wire::BEACON_PORT, Some(1), _) => "hello",
                    (wire::BEACON_PORT, Some(2), _) => "find",
                    (wire::BEACON_PORT, Some(3), _) => "open",
                    (wire::BEACON_PORT, Some(4), _) => "answer",
                    (wire::MESH_PORT, _, Some(1)) => "WireGuard initiation",
                    (wire::MESH_PORT, _, Some(2)) => "WireGuard response",
                    (wire::MESH_PORT, _, Some(3)) => "WireGuard cookie",
                    (wire::MESH_PORT, _, Some(4)) => "WireGuard data",
                    _ => "UDP",
                };
                format!("{kind}, {} bytes", payload.len())
            },
        ),
        IpProtocol::Tcp => TcpPacket::new_checked(ip.payload()).map_or_else(
            |_| odd(),
            |tcp| {
                let flags = [
                    (tcp.syn(), "SYN"),
                    (tcp.ack(), "ACK"),
                    (tcp.psh(), "PSH"),
                    (tcp.fin(), "FIN"),
                    (tcp.rst(), "RST"),
                ];
                let set: Vec<_> = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
                format!("TCP {}, {} bytes", set.join(" "), tcp.payload().len())
            },
        ),
        IpProtocol::Icmpv6 => Icmpv6Packet::new_checked(ip.payload())
            .map_or_else(|_| odd(), |icmp| format!("ICMPv6 {:?}", icmp.msg_type())),
        _ => odd(),
    }
}
