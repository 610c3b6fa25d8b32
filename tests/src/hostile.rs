//! What a stranger may put on the wire, frame by frame. None of it may draw one byte from an unclaimed node.

use smoltcp::wire::IpProtocol;
use wire::{ALL_NODES, BEACON_PORT, CLAIM_PORT, Ip, Mac};

use crate::station::{ALL_NODES_MAC, ip_frame, udp_frame};

/// The node as a stranger might know it.
#[derive(Clone, Copy)]
pub struct Target {
    pub mac: Mac,
    pub ip: Ip,
}

/// A frame and what it is.
pub type Named = (String, Vec<u8>);

const BROADCAST: Mac = [0xff; 6];

/// TCP flag sets that scanners use.
pub const TCP_FLAGS: [(&str, u8); 7] =
    [("SYN", 0x02), ("FIN", 0x01), ("ACK", 0x10), ("Xmas", 0x29), ("null", 0x00), ("SYN-ACK", 0x12), ("RST", 0x04)];

impl Target {
    fn both(&self) -> (Mac, Ip) {
        (self.mac, self.ip)
    }

    /// The solicited-node multicast group of the node's address.
    fn solicited(&self) -> (Mac, Ip) {
        let [.., a, b, c] = self.ip;
        ([0x33, 0x33, 0xff, a, b, c], [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
    }
}

/// One of each kind, from the stranger `from`. `find` is a well-formed find of the wrong key, for what wraps or cuts one.
pub fn zoo(from: (Mac, Ip), target: Target, find: &[u8]) -> Vec<Named> {
    let mut zoo = Vec::new();
    arp_and_ipv4(&mut zoo, from.0, target);
    neighbour_discovery(&mut zoo, from, target);
    services(&mut zoo, from, target);
    wrapped(&mut zoo, from, target, find);
    lengths(&mut zoo, from, target, find);
    zoo
}

/// TCP segments with every flag set to every port.
pub fn tcp_scan(from: (Mac, Ip), target: Target) -> impl Iterator<Item = Named> {
    TCP_FLAGS.into_iter().flat_map(move |(name, flags)| {
        (0..=u16::MAX).map(move |port| (format!("TCP {name} to {port}"), tcp(from, target.both(), port, flags, &[])))
    })
}

/// A datagram to every port, of the node's address and of ff02::1.
pub fn udp_scan(from: (Mac, Ip), target: Target) -> impl Iterator<Item = Named> {
    [target.both(), (ALL_NODES_MAC, ALL_NODES)].into_iter().flat_map(move |to| {
        (0..=u16::MAX).map(move |port| {
            (format!("UDP to {port} of {:02x?}", to.0), udp_frame(from, to, (4000, port), b"is anybody there?"))
        })
    })
}

fn arp_and_ipv4(zoo: &mut Vec<Named>, from: Mac, target: Target) {
    for (name, operation, sender, wanted) in [
        ("ARP request", 1, [10, 8, 0, 9], [10, 8, 0, 1]),
        ("ARP probe", 1, [0; 4], [169, 254, 7, 7]),
        ("ARP announcement", 1, [10, 8, 0, 9], [10, 8, 0, 9]),
        ("ARP reply", 2, [10, 8, 0, 9], [10, 8, 0, 1]),
    ] {
        let mut arp = vec![0, 1, 8, 0, 6, 4, 0, operation];
        arp.extend(from);
        arp.extend(sender);
        arp.extend([0; 6]);
        arp.extend(wanted);
        zoo.push((name.into(), ethernet(from, BROADCAST, 0x0806, &arp)));
        zoo.push((format!("{name}, unicast"), ethernet(from, target.mac, 0x0806, &arp)));
    }
    let dhcp = [&[2, 1, 6, 0][..], &[0x39; 4], &[0; 228], &[0x63, 0x82, 0x53, 0x63, 53, 1, 2, 255]].concat();
    zoo.push(("DHCP offer".into(), ipv4_udp(from, BROADCAST, [255; 4], (67, 68), &dhcp)));
    zoo.push((
        "mDNS over IPv4".into(),
        ipv4_udp(from, [1, 0, 0x5e, 0, 0, 0xfb], [224, 0, 0, 251], (5353, 5353), &mdns()),
    ));
    zoo.push(("UDP 8090 over IPv4".into(), ipv4_udp(from, BROADCAST, [255; 4], (BEACON_PORT, BEACON_PORT), &[1; 104])));
    let ping = [&[8, 0][..], &checksum(&[&[8, 0, 0, 0, 0, 1, 0, 1]]).to_be_bytes(), &[0, 1, 0, 1]].concat();
    zoo.push(("ping over IPv4".into(), ipv4(from, BROADCAST, [255; 4], 1, &ping)));
    zoo.push((
        "IGMP query".into(),
        ipv4(from, [1, 0, 0x5e, 0, 0, 1], [224, 0, 0, 1], 2, &[0x11, 0x64, 0xee, 0x9b, 0, 0, 0, 0]),
    ));
}

fn neighbour_discovery(zoo: &mut Vec<Named>, from: (Mac, Ip), target: Target) {
    let source = [&[1u8, 1][..], &from.0].concat();
    let own = [&[2u8, 1][..], &from.0].concat();
    let nobody: (Mac, Ip) = (from.0, [0; 16]);
    let solicit = |ip: Ip, option: &[u8]| [&[0; 4][..], &ip, option].concat();
    let mut push = |name: &str, from, to, kind, body: Vec<u8>| {
        for hop_limit in [255, 64] {
            zoo.push((format!("{name}, hop limit {hop_limit}"), icmp(from, to, kind, 0, hop_limit, &body)));
        }
    };
    push("solicitation to the group", from, target.solicited(), 135, solicit(target.ip, &source));
    push("solicitation to the node", from, target.both(), 135, solicit(target.ip, &source));
    push("solicitation to all nodes", from, (ALL_NODES_MAC, ALL_NODES), 135, solicit(target.ip, &source));
    push("solicitation without an option", from, target.both(), 135, solicit(target.ip, &[]));
    push("solicitation for another", from, target.both(), 135, solicit(from.1, &source));
    push("duplicate address detection", nobody, target.solicited(), 135, solicit(target.ip, &[]));
    push("advertisement of the node's address", from, (ALL_NODES_MAC, ALL_NODES), 136, solicit(target.ip, &own));
    let prefix = [&[3, 4, 64, 0xc0][..], &[0xff; 8], &[0; 4], &[0x20, 1, 0xd, 0xb8], &[0; 12]].concat();
    let router = [&[64, 0, 7, 8][..], &[0; 8], &source, &prefix].concat();
    push("router advertisement", from, (ALL_NODES_MAC, ALL_NODES), 134, router);
    push("router solicitation", from, (ALL_NODES_MAC, ALL_NODES), 133, [&[0; 4][..], &source].concat());
    push("redirect", from, target.both(), 137, [&[0; 4][..], &from.1, &target.ip].concat());
    push("echo request to the node", from, target.both(), 128, vec![0, 1, 0, 1, 42, 42]);
    push("echo request to all nodes", from, (ALL_NODES_MAC, ALL_NODES), 128, vec![0, 1, 0, 1, 42, 42]);
    push("node information query", from, target.both(), 139, vec![0; 24]);
    push("MLD query", from, (ALL_NODES_MAC, ALL_NODES), 130, vec![0; 20]);
    push("packet too big", from, target.both(), 2, vec![0; 48]);
    push("unknown ICMPv6", from, target.both(), 200, vec![0; 8]);
    // The MLD query as it must be sent, behind a router alert.
    let group = (ALL_NODES_MAC, ALL_NODES);
    let query = icmp_body(from.1, group.1, 130, 0, &[0; 20]);
    let body = [&[58, 0, 5, 2, 0, 0, 1, 0][..], &query].concat();
    zoo.push(("MLD query with router alert".into(), raw_ip(from, group, 0, 1, &body)));
}

fn services(zoo: &mut Vec<Named>, from: (Mac, Ip), target: Target) {
    let hello = b"\x16\x03\x01\x00\x31\x01\x00\x00\x2d\x03\x03stranger stranger stranger 32 by\x00\x00\x02\x13\x01\x01\x00\x00\x02\x00\x00";
    let http = b"GET / HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n";
    for port in [22, 80, 443, 8090, CLAIM_PORT, 51820] {
        zoo.push((format!("TLS hello to {port}"), tcp(from, target.both(), port, 0x18, hello)));
        zoo.push((format!("HTTP request to {port}"), tcp(from, target.both(), port, 0x18, http)));
        zoo.push((format!("SYN with data to {port}"), tcp(from, target.both(), port, 0x02, http)));
        zoo.push((format!("SYN to {port} of all nodes"), tcp(from, (ALL_NODES_MAC, ALL_NODES), port, 0x02, &[])));
    }
    let all = (ALL_NODES_MAC, ALL_NODES);
    zoo.push(("mDNS query".into(), udp_frame(from, ([0x33, 0x33, 0, 0, 0, 0xfb], group(0xfb)), (5353, 5353), &mdns())));
    zoo.push(("mDNS query to all nodes".into(), udp_frame(from, all, (5353, 5353), &mdns())));
    zoo.push(("DHCPv6 advertise".into(), udp_frame(from, target.both(), (547, 546), &[2, 1, 2, 3, 0, 1, 0, 2, 0, 0])));
    zoo.push((
        "WireGuard initiation".into(),
        udp_frame(from, target.both(), (51820, 51820), &[&[1, 0, 0, 0][..], &[7; 144]].concat()),
    ));
    zoo.push(("SSDP".into(), udp_frame(from, all, (1900, 1900), b"M-SEARCH * HTTP/1.1\r\nST: ssdp:all\r\n\r\n")));
    for length in 0..=400 {
        let noise = vec![0x47; length];
        zoo.push((format!("{length} bytes to 8090"), udp_frame(from, all, (BEACON_PORT, BEACON_PORT), &noise)));
    }
    for (length, kind) in [(160, 1), (104, 2), (192, 3), (72, 4)] {
        let mut datagram = vec![0; length];
        datagram[..8].copy_from_slice(&[b'G', b'N', b'S', b'S', 1, kind, 0, 0]);
        zoo.push((
            format!("empty datagram of kind {kind}"),
            udp_frame(from, all, (BEACON_PORT, BEACON_PORT), &datagram),
        ));
    }
}

/// A find of the wrong key in every wrapping that it must not come in.
fn wrapped(zoo: &mut Vec<Named>, from: (Mac, Ip), target: Target, find: &[u8]) {
    let all = (ALL_NODES_MAC, ALL_NODES);
    let ports = (BEACON_PORT, BEACON_PORT);
    let frame = udp_frame(from, all, ports, find);
    let udp = &frame[14 + 40..];
    zoo.push(("find of a wrong key".into(), frame.clone()));
    zoo.push(("find to the node's address".into(), udp_frame(from, target.both(), ports, find)));
    zoo.push(("find from another port".into(), udp_frame(from, all, (9, BEACON_PORT), find)));
    let global = [0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 9];
    zoo.push(("find from a global address".into(), udp_frame((from.0, global), all, ports, find)));
    zoo.push(("find from nobody".into(), udp_frame((from.0, [0; 16]), all, ports, find)));
    zoo.push(("find from the node's own address".into(), udp_frame(target.both(), all, ports, find)));
    zoo.push(("find from a group".into(), udp_frame(([0x33, 0x33, 0, 0, 0, 1], ALL_NODES), all, ports, find)));
    for (name, tag) in [("802.1Q", &[0x81, 0, 0, 5][..]), ("802.1ad", &[0x88, 0xa8, 0, 5, 0x81, 0, 0, 5])] {
        zoo.push((format!("{name} tag"), [&frame[..12], tag, &frame[12..]].concat()));
    }
    let extensions: [(&str, u8, Vec<u8>); 6] = [
        ("hop-by-hop options", 0, vec![17, 0, 1, 4, 0, 0, 0, 0]),
        ("destination options", 60, vec![17, 0, 1, 4, 0, 0, 0, 0]),
        ("routing header", 43, vec![17, 2, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        ("atomic fragment", 44, vec![17, 0, 0, 0, 0, 0, 0, 9]),
        ("first fragment", 44, vec![17, 0, 0, 1, 0, 0, 0, 9]),
        ("last fragment", 44, vec![17, 0, 0, 8, 0, 0, 0, 9]),
    ];
    for (name, header, bytes) in extensions {
        zoo.push((name.into(), raw_ip(from, all, header, 255, &[&bytes[..], udp].concat())));
    }
    let ether_types = [("LLC", 104), ("LLDP", 0x88cc), ("PPPoE", 0x8863), ("MACsec", 0x88e5), ("flow control", 0x8808)];
    for (name, kind) in ether_types {
        zoo.push((name.into(), ethernet(from.0, ALL_NODES_MAC, kind, &frame[14..])));
    }
    let mut wrong = frame.clone();
    wrong[14 + 40 + 6] ^= 1;
    zoo.push(("wrong UDP checksum".into(), wrong));
    let mut none = frame.clone();
    none[14 + 40 + 6..14 + 40 + 8].fill(0);
    zoo.push(("no UDP checksum".into(), none));
    let mut version = frame;
    version[14] = 0x40;
    zoo.push(("IP version 4 in an IPv6 frame".into(), version));
}

/// Cut at every length, too long, and with lengths that do not agree.
fn lengths(zoo: &mut Vec<Named>, from: (Mac, Ip), target: Target, find: &[u8]) {
    let frame = udp_frame(from, (ALL_NODES_MAC, ALL_NODES), (BEACON_PORT, BEACON_PORT), find);
    for length in 0..frame.len() {
        zoo.push((format!("cut at {length}"), frame[..length].to_vec()));
    }
    for length in [1500, 1514, 1515, 1518, 1522, 2000, 2040, 2041, 2048, 4000, 9000] {
        let mut long = frame.clone();
        long.resize(length, 0);
        zoo.push((format!("padded to {length}"), long));
        let payload = vec![0; length - 14 - 48];
        zoo.push((format!("{length} bytes that say so"), udp_frame(from, target.both(), (9, BEACON_PORT), &payload)));
    }
    for (name, at) in [("IPv6 payload length", 14 + 4), ("UDP length", 14 + 40 + 4)] {
        for value in [0u16, 1, 7, 8, 111, 113, 1500, 0xffff] {
            let mut lying = frame.clone();
            lying[at..at + 2].copy_from_slice(&value.to_be_bytes());
            zoo.push((format!("{name} {value}"), lying));
        }
    }
}

/// A TCP segment.
pub fn tcp(from: (Mac, Ip), to: (Mac, Ip), port: u16, flags: u8, payload: &[u8]) -> Vec<u8> {
    tcp_at(from, to, (40_000, port), (0x1234_5678, if flags & 0x10 != 0 { 1 } else { 0 }), flags, payload)
}

/// A TCP segment with its numbers.
pub fn tcp_at(
    from: (Mac, Ip),
    to: (Mac, Ip),
    ports: (u16, u16),
    numbers: (u32, u32),
    flags: u8,
    payload: &[u8],
) -> Vec<u8> {
    let mut segment = Vec::new();
    segment.extend(ports.0.to_be_bytes());
    segment.extend(ports.1.to_be_bytes());
    segment.extend(numbers.0.to_be_bytes());
    segment.extend(numbers.1.to_be_bytes());
    segment.extend([0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
    segment.extend(payload);
    let sum = checksum(&[&pseudo_header(from.1, to.1, 6, segment.len()), &segment]);
    segment[16..18].copy_from_slice(&sum.to_be_bytes());
    raw_ip(from, to, 6, 64, &segment)
}

/// An ICMPv6 message.
pub fn icmp(from: (Mac, Ip), to: (Mac, Ip), kind: u8, code: u8, hop_limit: u8, body: &[u8]) -> Vec<u8> {
    raw_ip(from, to, 58, hop_limit, &icmp_body(from.1, to.1, kind, code, body))
}

fn icmp_body(from: Ip, to: Ip, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
    let mut message = [&[kind, code, 0, 0][..], body].concat();
    let sum = checksum(&[&pseudo_header(from, to, 58, message.len()), &message]);
    message[2..4].copy_from_slice(&sum.to_be_bytes());
    message
}

fn raw_ip(from: (Mac, Ip), to: (Mac, Ip), next_header: u8, hop_limit: u8, payload: &[u8]) -> Vec<u8> {
    ip_frame(from, to, IpProtocol::from(next_header), hop_limit, payload.len(), |to| to.copy_from_slice(payload))
}

fn ethernet(from: Mac, to: Mac, kind: u16, payload: &[u8]) -> Vec<u8> {
    [&to[..], &from, &kind.to_be_bytes(), payload].concat()
}

fn ipv4_udp(from: Mac, to: Mac, ip: [u8; 4], ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
    let length = (8 + payload.len()) as u16;
    // A zero checksum is "none" in IPv4.
    let udp = [&ports.0.to_be_bytes()[..], &ports.1.to_be_bytes(), &length.to_be_bytes(), &[0, 0], payload].concat();
    ipv4(from, to, ip, 17, &udp)
}

fn ipv4(from: Mac, to: Mac, ip: [u8; 4], protocol: u8, payload: &[u8]) -> Vec<u8> {
    let length = ((20 + payload.len()) as u16).to_be_bytes();
    let mut header = [&[0x45, 0][..], &length, &[0, 1, 0, 0, 64, protocol, 0, 0], &[10, 8, 0, 9], &ip].concat();
    let sum = checksum(&[&header]);
    header[10..12].copy_from_slice(&sum.to_be_bytes());
    ethernet(from, to, 0x0800, &[header, payload.to_vec()].concat())
}

fn group(last: u8) -> Ip {
    let mut ip = ALL_NODES;
    ip[15] = last;
    ip
}

fn mdns() -> Vec<u8> {
    [&[0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0][..], b"\x09_services\x07_dns-sd\x04_udp\x05local\x00", &[0, 12, 0, 1]]
        .concat()
}

fn pseudo_header(from: Ip, to: Ip, protocol: u8, length: usize) -> Vec<u8> {
    [&from[..], &to, &(length as u32).to_be_bytes(), &[0, 0, 0, protocol]].concat()
}

/// The Internet checksum (RFC 1071); every part but the last has an even length.
fn checksum(parts: &[&[u8]]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let sum: u32 = words.map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0))).sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    !((folded & 0xffff) + (folded >> 16)) as u16
}

#[cfg(test)]
mod tests {
    use smoltcp::wire::{EthernetFrame, Icmpv6Packet, IpAddress, Ipv6Address, Ipv6Packet, TcpPacket};

    use super::*;

    fn address(ip: Ip) -> IpAddress {
        Ipv6Address::from(ip).into()
    }

    /// The frames are what they say, by a parser that is not theirs: silence to nonsense would prove nothing.
    #[test]
    fn frames_are_well_formed() {
        let (from, target) = (([2; 6], crate::station::link_local([2; 6])), Target { mac: [4; 6], ip: [0xfe; 16] });
        let frame = tcp(from, target.both(), 80, 0x02, b"data");
        let syn = Ipv6Packet::new_checked(&frame[14..]).unwrap();
        let segment = TcpPacket::new_checked(syn.payload()).unwrap();
        assert!(segment.syn() && !segment.ack() && segment.verify_checksum(&address(from.1), &address(target.ip)));
        let frame = icmp(from, target.both(), 128, 0, 255, &[0, 1, 0, 1, 42]);
        let ping = Ipv6Packet::new_checked(&frame[14..]).unwrap();
        let message = Icmpv6Packet::new_checked(ping.payload()).unwrap();
        assert!(message.verify_checksum(&from.1.into(), &target.ip.into()));
        let zoo = zoo(from, target, &[7; 104]);
        assert!(zoo.len() > 600);
        assert!(zoo.iter().filter(|(_, frame)| EthernetFrame::new_checked(frame).is_ok()).count() > 600);
        let names: std::collections::HashSet<_> = zoo.iter().map(|(name, _)| name).collect();
        assert_eq!(names.len(), zoo.len());
    }
}
