//! What is built here is read by smoltcp, which has no part in building it.

use std::{vec, vec::Vec};

use proptest::prelude::*;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{
        EthernetFrame, EthernetProtocol, Icmpv6Packet, Icmpv6Repr, IpProtocol, Ipv6Address, Ipv6Packet,
        NdiscNeighborFlags, NdiscRepr, UdpPacket,
    },
};
use wire::{Ip, Mac};

use super::*;

fn any_station() -> impl Strategy<Value = Station> {
    (any::<Ip>(), any::<Mac>()).prop_map(|(ip, mac)| Station::new(ip, mac))
}

/// The payload of the frame, if its headers say this and nothing else.
fn payload<'f>(frame: &'f [u8], from: &Station, to: &Station, protocol: IpProtocol, hop_limit: u8) -> &'f [u8] {
    let ethernet = EthernetFrame::new_checked(frame).unwrap();
    assert_eq!((ethernet.src_addr().0, ethernet.dst_addr().0), (from.mac, to.mac));
    assert_eq!(ethernet.ethertype(), EthernetProtocol::Ipv6);
    let ip = Ipv6Packet::new_checked(ethernet.payload()).unwrap();
    assert_eq!((ip.src_addr().octets(), ip.dst_addr().octets()), (from.ip, to.ip));
    assert_eq!((ip.version(), ip.traffic_class(), ip.flow_label()), (6, 0, 0));
    assert_eq!((ip.next_header(), ip.hop_limit()), (protocol, hop_limit));
    assert_eq!(usize::from(ip.payload_len()), frame.len() - HEADERS);
    &frame[HEADERS..]
}

fn discovery(frame: &[u8], from: &Station, to: &Station) -> NdiscRepr<'static> {
    let message = payload(frame, from, to, IpProtocol::Icmpv6, 255);
    let packet = Icmpv6Packet::new_checked(message).unwrap();
    let ends = (Ipv6Address::from(from.ip), Ipv6Address::from(to.ip));
    match Icmpv6Repr::parse(&ends.0, &ends.1, &packet, &ChecksumCapabilities::default()).unwrap() {
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborSolicit { target_addr, lladdr }) => {
            NdiscRepr::NeighborSolicit { target_addr, lladdr }
        }
        Icmpv6Repr::Ndisc(NdiscRepr::NeighborAdvert { flags, target_addr, lladdr }) => {
            NdiscRepr::NeighborAdvert { flags, target_addr, lladdr }
        }
        other => panic!("{other:?}"),
    }
}

proptest! {
    #[test]
    fn a_datagram_reads_back(from in any_station(), to in any_station(), source: u16, destination: u16, hops: u8,
                             text in prop::collection::vec(any::<u8>(), 0..=MTU - 48)) {
        let mut frame = [&[0xaa; DATAGRAM][..], &text].concat();
        datagram(&mut frame, &from, &to, UdpPorts { source, destination }, hops).unwrap();
        let udp = UdpPacket::new_checked(payload(&frame, &from, &to, IpProtocol::Udp, hops)).unwrap();
        prop_assert_eq!((udp.src_port(), udp.dst_port(), udp.payload()), (source, destination, &text[..]));
        prop_assert_eq!(usize::from(udp.len()), 8 + text.len());
        let (from, to) = (Ipv6Address::from(from.ip), Ipv6Address::from(to.ip));
        prop_assert!(udp.checksum() != 0 && udp.verify_checksum(&from.into(), &to.into()));
    }

    #[test]
    fn a_solicitation_reads_back(from in any_station(), to in any_station(), target: Ip) {
        let lladdr = Some(smoltcp::wire::EthernetAddress(from.mac).into());
        let expected = NdiscRepr::NeighborSolicit { target_addr: target.into(), lladdr };
        prop_assert_eq!(discovery(&solicitation(&from, &to, &target), &from, &to), expected);
    }

    #[test]
    fn an_advertisement_reads_back(from in any_station(), to in any_station()) {
        let lladdr = Some(smoltcp::wire::EthernetAddress(from.mac).into());
        let flags = NdiscNeighborFlags::SOLICITED | NdiscNeighborFlags::OVERRIDE;
        let expected = NdiscRepr::NeighborAdvert { flags, target_addr: from.ip.into(), lladdr };
        prop_assert_eq!(discovery(&advertisement(&from, &to), &from, &to), expected);
    }
}

#[test]
fn a_sum_of_zero_is_written_as_ones() {
    // The payload takes the checksum through all of its values.
    let (from, to, ports) = (Station::ALL_NODES, Station::NONE, UdpPorts { source: 1, destination: 2 });
    let checksum = |n: u16| {
        let mut frame = [&[0; DATAGRAM][..], &n.to_be_bytes()].concat();
        datagram(&mut frame, &from, &to, ports, ON_LINK).unwrap();
        u16::from_be_bytes([frame[60], frame[61]])
    };
    let all: Vec<u16> = (0..=u16::MAX).map(checksum).collect();
    assert!(all.contains(&0xffff) && !all.contains(&0));
}

#[test]
fn without_room_there_is_no_frame() {
    let none = Station::NONE;
    let ports = UdpPorts { source: 1, destination: 1 };
    for len in 0..DATAGRAM {
        assert_eq!(datagram(&mut vec![0; len], &none, &none, ports, 1), None, "{len}");
        let fits = ipv6(&mut vec![0; len], &none, &none, NextHeader::Tcp, 1).is_some();
        assert_eq!(fits, len >= HEADERS, "{len}");
    }
    for (len, fits) in [(DATAGRAM, true), (HEADERS + 0xffff, true), (HEADERS + 0x10000, false)] {
        assert_eq!(datagram(&mut vec![0; len], &none, &none, ports, 1).is_some(), fits, "{len}");
    }
}

#[test]
fn who_may_be_on_the_link() {
    let ip = |text: &str| text.parse::<Ipv6Address>().unwrap().octets();
    for host in ["fe80::1", "fe80:0:0:1::1", "2001:db8::1", "fd00::", "100::", "fec0::1", "fe80::ff:fe00:0"] {
        assert!(is_host(&ip(host)), "{host}");
    }
    for nobody in ["::", "::1", "::2", "::192.0.2.1", "::ffff:192.0.2.1", "64:ff9b::1", "ff02::1", "ff0e::1"] {
        assert!(!is_host(&ip(nobody)), "{nobody}");
    }
    assert!(is_link_local(&ip("fe80::1")) && is_link_local(&ip("fe80::")));
    for elsewhere in ["fe80:0:0:1::1", "fe81::1", "fec0::1", "::", "2001:db8::1"] {
        assert!(!is_link_local(&ip(elsewhere)), "{elsewhere}");
    }
    assert!(is_unicast(&[2, 0, 0, 0, 0, 1]) && is_unicast(&[0, 0, 0, 0, 0, 1]));
    for group in [[0; 6], [0xff; 6], [1, 0, 0, 0, 0, 0], Station::ALL_NODES.mac] {
        assert!(!is_unicast(&group));
    }
    // RFC 4291, 2.7.1 has this example.
    let group = Station::solicited_node(&ip("4037::1:800:200e:8c6c"));
    assert_eq!((group.ip, group.mac), (ip("ff02::1:ff0e:8c6c"), [0x33, 0x33, 0xff, 0x0e, 0x8c, 0x6c]));
    assert_eq!(MAX_FRAME, 1514);
}
