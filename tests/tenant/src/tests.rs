use std::{boxed::Box, format, string::String, vec, vec::Vec};

use calls::{mesh::Heartbeat, params::Params};
use proptest::prelude::*;
use sha2::{Digest, Sha256};
use smoltcp::{
    iface::SocketHandle,
    phy::ChecksumCapabilities,
    socket::tcp::State,
    wire::{IpAddress, IpProtocol, IpRepr, Ipv4Address, Ipv6Address, TcpPacket, UdpPacket, UdpRepr},
};
use workload::stack::Packet;
use world::{FAR4, FAR6, NOWHERE, OWN4, PLACE, Step, World, own4, own6};

use crate::{
    Memory, ORDER_PORT, QUIET_SECONDS, SINK_PORT, SOURCE_PORT, Tenant, hex,
    orders::{FROM_PORT, PAYLOAD},
    stream::Stream,
};

#[path = "../../../crates/domains/workload/src/tests/world.rs"]
mod world;

fn step() -> Step {
    let mut tenant = Tenant::new(Box::leak(Box::new(Memory::new())), &Params::DEFAULT);
    Box::new(move |now, ports| tenant.step(now, ports))
}

fn placed() -> World {
    let mut world = World::new(step());
    world.settle(PLACE);
    world
}

fn stream(len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    Stream::default().fill(&mut bytes);
    bytes
}

fn hash(bytes: &[u8]) -> [u8; 64] {
    hex(&Sha256::digest(bytes).into())
}

/// Sends all of it and closes; returns what comes back.
fn pour(world: &mut World, to: IpAddress, port: u16, bytes: &[u8]) -> Vec<u8> {
    let handle = world.far.connect(to, port);
    world.run();
    let mut rest = bytes;
    while !rest.is_empty() {
        let sent = world.far.socket(handle).send_slice(rest).unwrap();
        rest = &rest[sent..];
        world.run();
        assert!(sent > 0);
    }
    world.far.socket(handle).close();
    drain(world, handle)
}

fn drain(world: &mut World, handle: SocketHandle) -> Vec<u8> {
    let mut all = Vec::new();
    loop {
        world.run();
        let (mut heard, closed) = world.hear(handle);
        if heard.is_empty() {
            assert!(closed, "{:?}", world.far.socket(handle).state());
            world.far.socket(handle).close();
            world.run();
            return all;
        }
        all.append(&mut heard);
    }
}

#[test]
fn a_sink_answers_with_the_hash_of_all_that_came() {
    let mut world = placed();
    for (to, len) in [(own4(), 0), (own6(), 1), (own4(), 3_000_000), (own6(), 3_000_001)] {
        let bytes = stream(len);
        assert_eq!(pour(&mut world, to, SINK_PORT, &bytes), hash(&bytes), "{len}");
    }
}

#[test]
fn a_source_sends_what_its_client_can_make_again() {
    let mut world = placed();
    for (to, len) in [(own4(), 0), (own6(), 1), (own4(), 3_000_000), (own6(), 3_000_001)] {
        let handle = world.say(to, SOURCE_PORT, format!("{len}\n").as_bytes());
        assert_eq!(hash(&drain(&mut world, handle)), hash(&stream(len)), "{len}");
    }
}

#[test]
fn a_source_that_is_told_no_number_resets() {
    let mut world = placed();
    for line in ["\n", "x\n", "-1\n", " 1\n", "18446744073709551616\n", "0000000000000000000000", "1\r\n"] {
        let handle = world.say(own4(), SOURCE_PORT, line.as_bytes());
        assert_eq!(world.far.socket(handle).state(), State::Closed, "{line:?}");
    }
    let handle = world.say(own4(), SOURCE_PORT, b"1");
    assert!(world.far_sends().is_empty());
    world.far.send(handle, b"2\n");
    assert_eq!(drain(&mut world, handle).len(), 12);
}

#[test]
fn connections_that_fall_quiet_end() {
    let mut world = placed();
    let quiet: Vec<_> =
        [SINK_PORT, SINK_PORT, SOURCE_PORT, SOURCE_PORT].map(|port| world.say(own6(), port, b"1")).into();
    world.later(QUIET_SECONDS * 1_000_000 + 1);
    assert!(quiet.iter().all(|handle| world.far.socket(*handle).state() == State::Closed));
    assert_eq!(pour(&mut world, own4(), SINK_PORT, b"abc"), hash(b"abc"));
}

#[test]
fn it_beats_like_the_workload() {
    let mut world = placed();
    world.later(50_000_000);
    world.settle(NOWHERE);
    world.restart(step());
    world.later(10_000_000);
    let beats = Some(Heartbeat { beats: 8, served: 0 });
    assert_eq!((world.mesh_beat.poll(), world.console_beat.poll()), (beats, beats));
}

#[test]
fn a_stream_is_the_same_in_pieces() {
    let whole = stream(1000);
    assert_eq!(whole[..8], stream(8)[..]);
    let mut pieces = vec![0; 1000];
    let mut from = Stream::default();
    for piece in pieces.chunks_mut(7) {
        from.fill(piece);
    }
    assert_eq!(pieces, whole);
    // Marsaglia's generator, by hand.
    let mut x = 0x9e37_79b9_7f4a_7c15u64;
    x ^= x << 13;
    x ^= x >> 7;
    x ^= x << 17;
    assert_eq!(whole[..8], x.to_le_bytes());
}

fn order(to: IpAddress, text: &[u8]) -> Vec<u8> {
    let src: IpAddress = match to {
        IpAddress::Ipv4(_) => Ipv4Address::from(FAR4).into(),
        IpAddress::Ipv6(_) => Ipv6Address::from(FAR6).into(),
    };
    let udp = UdpRepr { src_port: 5555, dst_port: ORDER_PORT };
    let ip = IpRepr::new(src, to, IpProtocol::Udp, 8 + text.len(), 64);
    let mut packet = vec![0; ip.buffer_len()];
    ip.emit(&mut packet[..], &ChecksumCapabilities::default());
    let mut inner = UdpPacket::new_unchecked(&mut packet[ip.header_len()..]);
    let fill = |bytes: &mut [u8]| bytes.copy_from_slice(text);
    udp.emit(&mut inner, &src, &to, text.len(), fill, &ChecksumCapabilities::default());
    packet
}

/// What it sends on an order, besides its answer; and the answer.
fn obeys(world: &mut World, to: IpAddress, text: &str) -> (Option<Vec<u8>>, String) {
    let before = world.sent.len();
    world.give(&order(to, text.as_bytes()));
    let mut sent = world.sent.split_off(before);
    let answer = sent.pop().unwrap();
    let ip = Packet::parse(&answer).unwrap();
    let udp = UdpPacket::new_checked(ip.payload).unwrap();
    assert!(udp.verify_checksum(&ip.src, &ip.dst));
    assert_eq!((ip.src, udp.src_port(), udp.dst_port()), (to, ORDER_PORT, 5555));
    assert!(sent.len() <= 1);
    (sent.pop(), String::from_utf8(udp.payload().to_vec()).unwrap())
}

#[test]
fn it_sends_what_it_is_ordered_to() {
    let mut world = placed();
    for (from, own, dst) in [(own6(), own4(), "10.8.0.99"), (own4(), own6(), "2001:db8::1")] {
        for (what, protocol) in [("tcp", 6), ("udp", 17), ("icmp", if own == own4() { 1 } else { 58 }), ("132", 132)] {
            let (sent, answer) = obeys(&mut world, from, &format!("send {what} {dst} 4242"));
            assert_eq!(answer, "sent");
            let sent = sent.unwrap();
            let ip = Packet::parse(&sent).unwrap();
            assert_eq!((ip.src, ip.dst, ip.protocol), (own, dst.parse().unwrap(), protocol.into()));
            match what {
                "tcp" => {
                    let tcp = TcpPacket::new_checked(ip.payload).unwrap();
                    assert!(tcp.syn() && !tcp.ack() && tcp.verify_checksum(&ip.src, &ip.dst));
                    assert_eq!((tcp.src_port(), tcp.dst_port()), (FROM_PORT, 4242));
                }
                "udp" => {
                    let udp = UdpPacket::new_checked(ip.payload).unwrap();
                    assert!(udp.verify_checksum(&ip.src, &ip.dst));
                    assert_eq!((udp.dst_port(), udp.payload()), (4242, PAYLOAD));
                }
                _ => assert!(ip.payload.ends_with(PAYLOAD)),
            }
        }
    }
    let (sent, answer) = obeys(&mut world, own4(), "raw 00fF7a\n");
    assert_eq!((sent.unwrap(), answer.as_str()), (vec![0, 0xff, 0x7a], "sent"));
}

#[test]
fn orders_that_make_no_sense_are_refused() {
    let mut world = placed();
    for text in [
        "",
        "send",
        "send tcp 10.8.0.1",
        "send tcp 10.8.0.1 80 now",
        "send tcp here 80",
        "send tcp 10.8.0.1 65536",
        "send sctp 10.8.0.1 80",
        "send 256 10.8.0.1 80",
        "raw",
        "raw 0",
        "raw 0x",
        "raw 00 00",
        "close",
    ] {
        let (sent, answer) = obeys(&mut world, own4(), text);
        assert!(sent.is_none() && answer.starts_with("refused: "), "{text:?}: {answer}");
    }
    world.settle(calls::mesh::Tenancy { v4: OWN4, ..NOWHERE });
    assert_eq!(obeys(&mut world, own4(), "send tcp ::1 80"), (None, "refused: no own address".into()));
    let before = world.sent.len();
    world.give(&order(own6(), b"send tcp 10.8.0.1 80"));
    assert_eq!(world.sent.len(), before, "not its address any more");
}

proptest! {
    /// Orders of any kind, packets that are nearly orders, and what is no packet.
    #[test]
    fn whatever_comes_is_survived(
        orders in prop::collection::vec((any::<bool>(), "(send|raw|) (tcp|udp|icmp|[0-9]{1,3}|[0-9a-f]{1,60}) ([0-9.]{1,15}|[0-9a-f:]{2,20}|[^ ]*) [0-9]{0,6}"), 1..10),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        garbage in prop::collection::vec(any::<u8>(), 0..100),
    ) {
        let mut world = placed();
        for (v6, text) in orders {
            let mut packet = order(if v6 { own6() } else { own4() }, text.as_bytes());
            world.give(&packet);
            for (at, value) in &changes {
                let at = at.index(packet.len());
                packet[at] = *value;
            }
            world.give(&packet);
            packet.truncate(packet.len() / 2);
            world.give(&packet);
        }
        world.give(&garbage);
        prop_assert_eq!(pour(&mut world, own4(), SINK_PORT, b"abc"), hash(b"abc"));
    }
}
