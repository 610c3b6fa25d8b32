//! After a valid open only that peer gets frames, and only those that the design names.

use std::{io::Write, time::Duration};

use calls::params::Params;
use genesis_tests::{
    PATIENCE,
    admin::{self, Admin, fresh, mesh},
    bed::{Bed, Node, image},
    hostile::{self, Target},
    station::{Station, beacon_payload},
};
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Icmpv6Message, Icmpv6Packet, IpProtocol, Ipv6Packet, TcpPacket};
use wire::{
    CLAIM_PORT,
    link::{Answer, Datagram, Hello, HelloBody},
};

/// What a node may send while its gate is open, by the words of the design and not by the node's code.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
enum Allowed {
    Hello,
    Answer,
    Solicitation,
    Advertisement,
    SynAck,
    BareAck,
    Data,
}

fn classify(frame: &[u8], peer: &Station) -> Option<Allowed> {
    let ethernet = EthernetFrame::new_checked(frame).ok()?;
    (ethernet.ethertype() == EthernetProtocol::Ipv6).then_some(())?;
    if let Some(payload) = beacon_payload(frame) {
        if Hello::parse(payload).is_some() {
            return (frame[..6] == genesis_tests::station::ALL_NODES_MAC).then_some(Allowed::Hello);
        }
        return (Answer::parse(payload).is_some() && frame[..6] == peer.mac).then_some(Allowed::Answer);
    }
    // Everything else goes to the peer alone, by both addresses.
    let packet = Ipv6Packet::new_checked(ethernet.payload()).ok()?;
    let solicited = frame[..3] == [0x33, 0x33, 0xff];
    (frame[..6] == peer.mac && packet.dst_addr().octets() == peer.ip || solicited).then_some(())?;
    match packet.next_header() {
        IpProtocol::Icmpv6 => {
            let message = Icmpv6Packet::new_checked(packet.payload()).ok()?;
            (packet.hop_limit() == 255).then_some(())?;
            match message.msg_type() {
                Icmpv6Message::NeighborSolicit if message.target_addr().octets() == peer.ip => {
                    Some(Allowed::Solicitation)
                }
                Icmpv6Message::NeighborAdvert if !solicited => Some(Allowed::Advertisement),
                _ => None,
            }
        }
        IpProtocol::Tcp if !solicited => {
            let segment = TcpPacket::new_checked(packet.payload()).ok()?;
            let plain = segment.src_port() == CLAIM_PORT && !segment.rst() && !segment.fin();
            plain.then_some(())?;
            match (segment.syn(), segment.ack(), segment.payload().is_empty()) {
                (true, true, true) => Some(Allowed::SynAck),
                (false, true, true) => Some(Allowed::BareAck),
                (false, true, false) => Some(Allowed::Data),
                _ => None,
            }
        }
        _ => None,
    }
}

/// Everything that the node has sent since the mark, each a thing that it may send.
fn sent(bed: &Bed, node: &Node, peer: &Station) -> Vec<Allowed> {
    let frames = bed.frames_from(node);
    frames.iter().map(|frame| classify(frame, peer).unwrap_or_else(|| panic!("not allowed: {frame:02x?}"))).collect()
}

struct Open {
    bed: Bed,
    node: Node,
    admin: Admin,
    station: Station,
    hello: HelloBody,
    token: [u8; 16],
}

/// A held node whose gate is open to a station.
fn opened(change: impl FnOnce(&mut Params)) -> Open {
    let bed = Bed::new();
    let mut admin = Admin::new(fresh());
    let node = bed.node(image(&admin.public()).with(change));
    node.wait_phase("hold");
    let mut station = bed.station("admin", 1);
    let (hello, token) = admin.reach(&mut station);
    Open { bed, node, admin, station, hello, token }
}

fn closed(node: &Node) {
    node.wait_line(|line| line.starts_with("genesis: gate closed"));
}

#[test]
fn a_whole_claim_sends_nothing_but_what_the_design_names() {
    let Open { bed, node, mut admin, mut station, .. } = opened(|_| {});
    assert!(admin.claim(&mut station, &mesh()).is_ok());
    node.wait_phase("claimed");
    let sent = sent(&bed, &node, &station);
    for kind in [Allowed::Hello, Allowed::Answer, Allowed::Solicitation, Allowed::SynAck, Allowed::Data] {
        assert!(sent.contains(&kind), "no {kind:?} in {sent:?}");
    }
    // 101, Noise message 2 with the identity behind it, pairing.
    assert!(sent.iter().filter(|kind| **kind == Allowed::Data).count() >= 3);
    // Closed for good: the owner too gets nothing any more.
    bed.mark();
    let find = admin.find(&station);
    station.announce(zerocopy::IntoBytes::as_bytes(&find));
    assert!(station.connect(node.target().ip, CLAIM_PORT, Duration::from_secs(3)).is_err());
    assert_eq!(bed.frames_from(&node), [] as [Vec<u8>; 0]);
}

#[test]
fn strangers_get_nothing_while_the_gate_is_open() {
    let Open { bed, node, admin, mut station, hello, token } = opened(|_| {});
    let stranger = bed.station("stranger", 66);
    let from = (stranger.mac, stranger.ip);
    let wrong = Admin::new(fresh()).find(&stranger);
    let zoo = hostile::zoo(from, node.target(), zerocopy::IntoBytes::as_bytes(&wrong));
    bed.deliver(&node, &stranger, zoo.into_iter().map(|(_, frame)| frame));
    // With one of the administrator's addresses, and only one.
    for source in [(station.mac, stranger.ip), (stranger.mac, station.ip)] {
        let to = (node.target().mac, node.target().ip);
        bed.deliver(&node, &stranger, [hostile::tcp(source, to, CLAIM_PORT, 0x02, &[])]);
    }
    assert!(admin.session(&mut station, &hello, &token).is_ok());
    // Nothing was for the stranger: every frame is one that the administrator may get.
    sent(&bed, &node, &station);
}

/// A peer that comes through the gate but misbehaves hears nothing, and keeps nobody out.
#[test]
fn malformed_upgrades_are_met_with_silence_and_the_right_one_still_works() {
    let Open { bed, node, admin, mut station, hello, token } = opened(|params| params.pending_ms = 1000.into());
    let good = wire::Hex(&token).to_string();
    let head = |path: &str, rest: &str| format!("GET {path} HTTP/1.1\r\nHost: node\r\n{rest}\r\n");
    let upgrade = "Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n";
    let requests = [
        head("/", upgrade),
        head(&format!("/{}", "0".repeat(32)), upgrade),
        head(&format!("/{good}0"), upgrade),
        head(&format!("/{}", &good[1..]), upgrade),
        head(&format!("/{good}"), ""),
        head(&format!("/{good}"), &upgrade.replace("13", "12")),
        head(&format!("/{good}"), upgrade).replace("GET", "POST"),
        head(&format!("/{good}"), upgrade).replace("HTTP/1.1", "HTTP/2.0"),
        head(&format!("/{good}"), &format!("{upgrade}X: {}\r\n", "x".repeat(5000))),
        "\u{16}\u{3}\u{1}\0\u{5}hello".to_owned(),
        "\0".repeat(2000),
        String::new(),
    ];
    for request in requests {
        let handle = admin::connect(&mut station, &hello).expect("a place is free again after each");
        bed.mark();
        // The node may stop reading before the end.
        station.briefly(|station| {
            let mut stream = station.stream(handle);
            let _ = stream.write_all(request.as_bytes());
            let _ = stream.flush();
        });
        station.vanish(handle);
        let sent = sent(&bed, &node, &station);
        assert!(!sent.contains(&Allowed::Data), "{request:?} got an answer");
    }
    assert!(admin.session(&mut station, &hello, &token).is_ok());
}

#[test]
fn nothing_is_sent_after_the_deadline() {
    let Open { bed, node, mut admin, mut station, hello, token } = opened(|params| {
        params.token_ms = 3000.into();
        params.claim_ms = 3000.into();
    });
    // The claim runs and then stands still.
    let session = admin.session(&mut station, &hello, &token).expect("the gate is open");
    node.wait_line(|line| line == "genesis: gate closed: the claim took too long");
    station.heard();
    bed.mark();
    let target = node.target();
    let from = (station.mac, station.ip);
    station.stack = false;
    for flags in [0x02, 0x10, 0x11, 0x18] {
        station.send(&hostile::tcp(from, (target.mac, target.ip), CLAIM_PORT, flags, b"late"));
    }
    let solicitation = [&[0; 4][..], &target.ip, &[1, 1], &station.mac].concat();
    station.send(&hostile::icmp(from, (target.mac, target.ip), 135, 0, 255, &solicitation));
    station.stack = true;
    station.vanish(session.handle);
    assert!(station.connect(target.ip, CLAIM_PORT, Duration::from_secs(2)).is_err());
    assert_eq!(bed.frames_from(&node), [] as [Vec<u8>; 0]);
    // It holds, and can be claimed.
    assert!(admin.claim(&mut station, b"").is_ok());
    node.wait_phase("claimed");
}

/// The bound of docs/threat-model.md: a gate that nobody uses is gone after the token's time, whoever opened it.
#[test]
fn an_opened_gate_that_is_not_used_ends_and_another_host_gets_in() {
    let Open { bed, node, mut admin, mut station, .. } = opened(|params| params.token_ms = 2000.into());
    let mut second = bed.station("second", 2);
    // The first one does nothing at all; the second is turned away until then, and counted.
    station.stack = false;
    let pairing = {
        let mut rivals = 0;
        loop {
            let hello = admin.discover(&mut second);
            if let Some(token) = admin.try_open(&mut second, &hello, Duration::from_secs(1)) {
                break finish(&mut admin, &mut second, &hello, &token);
            }
            rivals += 1;
            assert!(rivals < 50, "the gate never ended");
        }
    };
    node.wait_phase("claimed");
    assert!(node.console().contains("rival turned away"));
    assert!(pairing >= 1, "the winner was not told of its rival");
}

fn finish(admin: &mut Admin, station: &mut Station, hello: &HelloBody, token: &[u8; 16]) -> u32 {
    let mut session = admin.session(station, hello, token).expect("the gate is open");
    let identity = session.identity(station, &hello.fiduciary).expect("the identity");
    let title = admin.title(&identity, b"");
    session.grant(station, &title, b"");
    let message = session.pairing(station, &title).expect("the pairing record");
    session.acknowledge(station, &message.record);
    message.rivals.get()
}

/// Someone with the administrator's own addresses, who sees every frame, opens connections and sends rubbish:
/// while that lasts he may disturb, and once he stops the administrator gets in.
#[test]
fn a_stranger_with_the_administrators_addresses_does_not_keep_him_out() {
    let Open { bed, node, mut admin, mut station, .. } = opened(|params| {
        params.pending_ms = 1000.into();
        params.claim_ms = 3000.into();
        params.token_ms = 3000.into();
    });
    let stranger = bed.station("stranger", 66);
    let (from, Target { mac, ip }) = ((station.mac, station.ip), node.target());
    let flood = (0..2000u16).flat_map(|n| {
        let ports = (20_000 + n % 40, CLAIM_PORT);
        [
            hostile::tcp_at(from, (mac, ip), ports, (u32::from(n), 0), 0x02, &[]),
            hostile::tcp_at(from, (mac, ip), ports, (u32::from(n) + 1, 1), 0x18, b"GET /0 HTTP/1.1\r\n\r\n"),
            hostile::tcp_at(from, (mac, ip), ports, (u32::from(n) + 1, 1), 0x14, &[]),
        ]
    });
    bed.deliver(&node, &stranger, flood);
    station.heard();
    assert!(admin.claim(&mut station, b"").is_ok());
    node.wait_phase("claimed");
}

/// A connection that sends nothing, or one byte now and then, is dropped after its time; four of them keep nobody out.
#[test]
fn slow_and_silent_connections_make_room() {
    let Open { bed, node, admin, mut station, hello, token } = opened(|params| params.pending_ms = 1500.into());
    let slow: Vec<_> = (0..4).map(|_| admin::connect(&mut station, &hello).expect("four may wait")).collect();
    for handle in &slow {
        let _ = station.stream(*handle).write_all(b"G");
    }
    // A fifth gets no SYN-ACK at first; its SYN is repeated until a place is free.
    let fifth = station.connect(hello.address, CLAIM_PORT, PATIENCE).expect("a place is free after the time");
    station.vanish(fifth);
    slow.into_iter().for_each(|handle| station.vanish(handle));
    assert!(admin.session(&mut station, &hello, &token).is_ok());
    sent(&bed, &node, &station);
}

#[test]
fn a_gate_closes_on_the_console() {
    let Open { node, .. } = opened(|params| params.token_ms = 500.into());
    closed(&node);
}
