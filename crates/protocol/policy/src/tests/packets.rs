use std::{vec, vec::Vec};

use proptest::{prelude::*, sample::select};

use super::*;

/// One of each kind that is a packet, both families.
pub fn good() -> Vec<Vec<u8>> {
    let both = |next4, next6, payload: &dyn Fn(bool) -> Vec<u8>| {
        [packet(v4(1), v4(2), next4, &payload(false)), packet(v6(1), v6(2), next6, &payload(true))]
    };
    let echo_kind = |six, request| match (six, request) {
        (false, true) => 8,
        (false, false) => 0,
        (true, true) => 128,
        (true, false) => 129,
    };
    [
        both(TCP, TCP, &|_| tcp(40000, 80, 0x02, b"")),
        both(TCP, TCP, &|_| tcp(80, 40000, 0x12, b"")),
        both(TCP, TCP, &|_| tcp(40000, 80, 0x18, b"text of odd length.")),
        both(TCP, TCP, &|_| tcp(40000, 80, 0x11, b"")),
        both(TCP, TCP, &|_| tcp(40000, 80, 0x04, b"")),
        both(UDP, UDP, &|_| udp(40000, 5000, b"datagram")),
        both(UDP, UDP, &|_| udp(40000, 5000, b"")),
        both(ICMP4, ICMP6, &|six| echo(echo_kind(six, true), 7, b"ping")),
        both(ICMP4, ICMP6, &|six| echo(echo_kind(six, false), 7, b"")),
    ]
    .concat()
}

fn read(bytes: &[u8]) -> Result<Summary, Malformed> {
    Packet::parse(bytes).map(|packet| packet.summary)
}

#[test]
fn a_packet_is_read_without_what_stands_behind_it() {
    for bytes in good() {
        let packet = Packet::parse(&bytes).unwrap();
        assert_eq!(packet.bytes, bytes);
        for padding in 1..16 {
            let padded = [&bytes[..], &vec![0; padding]].concat();
            assert_eq!(Packet::parse(&padded), Ok(packet));
        }
        for length in 0..bytes.len() {
            assert!(Packet::parse(&bytes[..length]).is_err());
        }
    }
}

#[test]
fn the_summary_is_what_the_packet_says() {
    let six = packet(v6(1), v6(2), UDP, &udp(40000, 5000, b"datagram"));
    let packet6 = Packet::parse(&six).unwrap();
    assert_eq!((packet6.payload, packet6.summary.protocol()), (&b"datagram"[..], Protocol::Udp));
    let udp = Transport::Udp { source: 40000, destination: 5000 };
    assert_eq!(packet6.summary, Summary { source: v6(1), destination: v6(2), transport: udp });
    let four = packet(v4(1), v4(2), TCP, &tcp(40000, 80, 0x19, b"text"));
    let packet4 = Packet::parse(&four).unwrap();
    let flags = Flags { fin: true, ack: true, ..Flags::default() };
    let transport = Transport::Tcp { source: 40000, destination: 80, flags };
    assert_eq!(
        (packet4.payload, packet4.summary),
        (&b"text"[..], Summary { source: v4(1), destination: v4(2), transport })
    );
    let ping = packet(v4(1), v4(2), ICMP4, &echo(8, 0x1234, b"ping"));
    let transport = Transport::Echo { kind: EchoKind::Request, id: 0x1234, sequence: 1 };
    assert_eq!(read(&ping).unwrap().transport, transport);
    assert_eq!(Packet::parse(&ping).unwrap().payload, b"ping");
}

#[test]
fn every_flipped_bit_that_a_checksum_covers_breaks_it() {
    for bytes in good() {
        for bit in 0..bytes.len() * 8 {
            let mut copy = bytes.clone();
            copy[bit / 8] ^= 1 << (bit % 8);
            // IPv6 has no header checksum: traffic class, flow label and hop limit are not covered.
            let uncovered = bytes[0] >> 4 == 6 && (bit < 4 || [1, 2, 3, 7].contains(&(bit / 8)));
            assert_eq!(Packet::parse(&copy).is_ok(), uncovered, "bit {bit} of {bytes:02x?}");
        }
    }
}

#[test]
fn a_missing_checksum_is_none() {
    for mut bytes in good() {
        let (_, next, sum) = parts(&bytes);
        bytes[sum..sum + 2].fill(0);
        assert_eq!(read(&bytes), Err(Malformed::Checksum), "{next}");
    }
}

#[test]
fn fragments_options_and_extension_headers_are_refused() {
    let four = packet(v4(1), v4(2), UDP, &udp(40000, 5000, b"datagram"));
    let with = |at: usize, bytes: &[u8]| {
        let mut copy = four.clone();
        copy[at..at + bytes.len()].copy_from_slice(bytes);
        fix(&mut copy);
        read(&copy)
    };
    // More fragments, a last fragment, both; "don't fragment" is none.
    for flags in [[0x20, 0], [0, 1], [0x20, 1], [0x1f, 0xff]] {
        assert_eq!(with(6, &flags), Err(Malformed::Header));
    }
    assert!(with(6, &[0, 0]).is_ok());
    // Room for options: the datagram's first words.
    assert_eq!(with(0, &[0x46]), Err(Malformed::Header));
    assert_eq!(with(0, &[0x44]), Err(Malformed::Length));
    for version in [0x05, 0x15, 0x55, 0x75, 0xf5] {
        assert_eq!(with(0, &[version]), Err(Malformed::Version));
    }
    assert_eq!(with(2, &[0, 19]), Err(Malformed::Length));
    assert_eq!(with(2, &[0xff, 0xff]), Err(Malformed::Length));
    // IGMP, IPv4 and IPv6 in IPv4, GRE, ESP, the other family's ICMP, SCTP.
    for next in [2, 4, 41, 47, 50, 58, 132, 255] {
        assert_eq!(with(9, &[next]), Err(Malformed::Protocol));
    }
    let six = packet(v6(1), v6(2), UDP, &udp(40000, 5000, b"datagram"));
    // Hop-by-hop, routing, fragment, ESP, authentication, none, destination, and the other family's ICMP.
    for next in [0, 43, 44, 50, 51, 59, 60, 1, 4, 41, 135, 255] {
        let mut copy = six.clone();
        copy[6] = next;
        assert_eq!(read(&copy), Err(Malformed::Protocol));
    }
}

#[test]
fn icmp_is_echo() {
    for kind in 0..=255 {
        let four = read(&packet(v4(1), v4(2), ICMP4, &echo(kind, 7, b"12345678901234567890123456789012")));
        assert_eq!(four.is_ok(), [0, 8].contains(&kind), "{kind}");
        let six = read(&packet(v6(1), v6(2), ICMP6, &echo(kind, 7, b"12345678901234567890123456789012")));
        assert_eq!(six.is_ok(), [128, 129].contains(&kind), "{kind}");
    }
    for (next, kind) in [(ICMP4, 8), (ICMP6, 128)] {
        let mut coded = echo(kind, 7, b"");
        coded[1] = 1;
        let ends = if next == ICMP4 { (v4(1), v4(2)) } else { (v6(1), v6(2)) };
        assert_eq!(read(&packet(ends.0, ends.1, next, &coded)), Err(Malformed::Protocol));
        for length in 0..8 {
            assert!(read(&packet(ends.0, ends.1, next, &coded[..length])).is_err());
        }
    }
}

#[test]
fn ports_are_not_zero_and_flags_make_sense() {
    for (from, to) in [(0, 80), (80, 0), (0, 0)] {
        assert_eq!(read(&packet(v4(1), v4(2), TCP, &tcp(from, to, 0x02, b""))), Err(Malformed::Transport));
        assert_eq!(read(&packet(v4(1), v4(2), UDP, &udp(from, to, b""))), Err(Malformed::Transport));
    }
    for flags in 0..0x40u8 {
        let sane = matches!(flags & 0x17, 0x02 | 0x12 | 0x10 | 0x11 | 0x04 | 0x14);
        assert_eq!(read(&packet(v4(1), v4(2), TCP, &tcp(1, 2, flags, b""))).is_ok(), sane, "{flags:#x}");
    }
    // A header longer than the segment, or shorter than a header.
    for offset in [0x40, 0x60, 0xf0] {
        let mut segment = tcp(1, 2, 0x02, b"");
        segment[12] = offset;
        assert_eq!(read(&packet(v4(1), v4(2), TCP, &segment)), Err(Malformed::Length));
    }
    for length in [0, 7, 8, 15, 17] {
        let mut datagram = udp(1, 2, b"datagram");
        datagram[5] = length;
        assert_eq!(read(&packet(v4(1), v4(2), UDP, &datagram)), Err(Malformed::Length));
    }
}

#[test]
fn an_ipv4_address_does_not_come_as_ipv6() {
    for (from, to) in [(v4(1), v6(2)), (v6(1), v4(2))] {
        assert_eq!(read(&packet(from, to, UDP, &udp(1, 2, b""))), Err(Malformed::Header));
    }
}

proptest! {
    #[test]
    fn any_bytes_are_a_packet_or_not(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(packet) = Packet::parse(&bytes) {
            prop_assert!(bytes.starts_with(packet.bytes) && packet.bytes.ends_with(packet.payload));
        }
    }

    #[test]
    fn nearly_good_bytes_are_a_packet_or_not(mut bytes in select(good()), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4), right in any::<bool>()) {
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if right && parts(&bytes).0 < bytes.len() {
            fix(&mut bytes);
        }
        if let Ok(packet) = Packet::parse(&bytes) {
            prop_assert_eq!(Packet::parse(packet.bytes), Ok(packet));
            prop_assert!(bytes.starts_with(packet.bytes) && packet.bytes.ends_with(packet.payload));
        }
    }
}
