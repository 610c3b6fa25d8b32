//! What the perimeter knows of the link it knows by itself. `link`, with which the domains build their frames, knows the
//! same: here the two are compared, and nowhere do they share a line.

use link::{UdpPorts, advertisement, datagram, is_host, is_link_local, is_unicast, solicitation};
use proptest::{prelude::*, sample::select};

use super::*;
use crate::packet::{self, Content, MAX_FRAME, NeighbourKind, Packet};

/// Now and then one of those where a predicate turns.
fn any_ip() -> impl Strategy<Value = Ip> {
    let first = select(std::vec![0, 1, 0xfd, 0xfe, 0xff]);
    let edge = (first, select(std::vec![0, 0x7f, 0x80, 0x81, 0xc0]), any::<[u8; 8]>(), 0usize..8).prop_map(
        |(first, second, tail, zeros)| {
            let mut ip = [0; 16];
            (ip[0], ip[1]) = (first, second);
            ip[8 - zeros.min(6)..].iter_mut().zip(tail).for_each(|(to, from)| *to = from);
            ip
        },
    );
    let small = (0u8..=2).prop_map(|last| core::array::from_fn(|at| if at == 15 { last } else { 0 }));
    prop_oneof![4 => edge, 1 => small, 1 => any::<Ip>()]
}

fn any_mac() -> impl Strategy<Value = Mac> {
    prop_oneof![1 => Just([0; 6]), 1 => Just([0xff; 6]), 6 => any::<Mac>()]
}

fn any_end() -> impl Strategy<Value = link::Station> {
    (any_ip(), any_mac()).prop_map(|(ip, mac)| link::Station::new(ip, mac))
}

/// The perimeter's word for it.
fn own(station: &link::Station) -> Station {
    Station { mac: station.mac, ip: station.ip }
}

#[test]
fn the_longest_frame_is_the_same() {
    assert_eq!(MAX_FRAME, link::MAX_FRAME);
    assert_eq!(packet::HEADERS, link::HEADERS);
    assert_eq!(crate::decide::HOP_LIMIT, link::ON_LINK);
    assert_eq!(Station::ALL_NODES, own(&link::Station::ALL_NODES));
    let mut frame = std::vec![0; MAX_FRAME + 1];
    for (len, fits) in [(MAX_FRAME, true), (MAX_FRAME + 1, false)] {
        let (from, ports) = (link::Station::ALL_NODES, UdpPorts { source: 1, destination: 51820 });
        datagram(&mut frame[..len], &from, &from, ports, 1).unwrap();
        assert_eq!(Packet::parse(&frame[..len]).is_ok(), fits, "{len}");
    }
}

proptest! {
    #[test]
    fn the_predicates_agree(ip in any_ip(), mac in any_mac()) {
        prop_assert_eq!(packet::is_host(&ip), is_host(&ip));
        prop_assert_eq!(packet::is_link_local(&ip), is_link_local(&ip));
        prop_assert_eq!(packet::is_unicast(&mac), is_unicast(&mac));
        prop_assert_eq!(Station { mac, ip }.is_one(), is_unicast(&mac) && is_link_local(&ip));
        prop_assert!(is_host(&ip) || !is_link_local(&ip), "one that is on the link is a host");
        prop_assert_eq!(Station { mac, ip }.solicited_node(), own(&link::Station::solicited_node(&ip)));
    }

    #[test]
    fn what_is_built_is_what_is_read(from in any_end(), to in any_end(), target in any_ip(), port: u16,
                                     hops: u8, text in prop::collection::vec(any::<u8>(), 0..=MAX_FRAME - 62)) {
        let ends = |packet: &Packet<'_>| (packet.source, packet.destination, packet.plain);
        let expected = (own(&from), own(&to), true);

        let mut frame = [&[0xaa; link::DATAGRAM][..], &text].concat();
        datagram(&mut frame, &from, &to, UdpPorts { source: 51820, destination: port }, hops).unwrap();
        let read = Packet::parse(&frame).unwrap();
        prop_assert_eq!((ends(&read), read.hop_limit), (expected, hops));
        let is_wireguard =
            matches!(read.content, Content::WireGuard { source: 51820, destination } if destination == port);
        prop_assert!(is_wireguard);

        datagram(&mut frame, &from, &to, UdpPorts { source: 8090, destination: 8090 }, 255).unwrap();
        let read = Packet::parse(&frame).unwrap();
        prop_assert!(matches!(read.content, Content::Beacon(datagram) if datagram == text));

        let frame = solicitation(&from, &to, &target);
        let read = Packet::parse(&frame).unwrap();
        prop_assert_eq!((ends(&read), read.hop_limit), (expected, 255));
        let Content::Neighbour(message) = &read.content else { panic!() };
        prop_assert!(message.kind == NeighbourKind::Solicitation);
        prop_assert_eq!((message.target, message.link_layer), (target, Some(from.mac)));

        let frame = advertisement(&from, &to);
        let read = Packet::parse(&frame).unwrap();
        prop_assert_eq!((ends(&read), read.hop_limit), (expected, 255));
        let Content::Neighbour(message) = &read.content else { panic!() };
        let plain = message.kind == NeighbourKind::Advertisement { router: false };
        prop_assert!(plain);
        prop_assert_eq!((message.target, message.link_layer), (from.ip, Some(from.mac)));
    }
}
