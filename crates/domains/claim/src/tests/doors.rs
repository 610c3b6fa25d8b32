//! Before the token: who gets how far, and what is said to them. Nobody who has not presented the token draws
//! more than SYN-ACKs, bare acknowledgements and advertisements, or keeps out the one who does.

use std::{format, string::String, vec::Vec};

use calls::lifecycle::Closed;
use smoltcp::wire::{Icmpv6Repr, TcpControl};

use super::{
    super::upgrade::{HEAD, HEADERS},
    admin::{Admin, MESSAGES, Message, claim, frame, head, hex},
    frames::{Route, SYN, Segment, TO_NODE, icmp, ip, solicitation, syn_ack, tcp, tcp_to},
    keystore::LINK_IP,
    peer::Peer,
    world::{Left, MS, PEER_IP, PEER_MAC, Told, World},
};

/// Asserts that the gate is as if nothing had happened: no claim began, and one can.
fn assert_untouched(mut world: World) {
    assert!(world.left.iter().all(|left| !matches!(left, Left::Data(_))), "{:?}", world.left);
    assert_eq!(world.told(), []);
    claim(&mut world);
    assert!(world.keystore.owned);
}

#[test]
fn no_head_but_the_right_one_is_answered() {
    let token = World::open().token();
    let right = head(&token);
    let path = hex(&token);
    let with = |from: &str, to: &str| {
        assert!(right.contains(from), "{from}");
        right.replacen(from, to, 1)
    };
    let long = format!("Cookie: {}\r\n\r\n", "x".repeat(1024));
    let many: String = (0..30).map(|i| format!("X-{i}: 1\r\n")).collect();
    let mut wrong = std::vec![
        head(&[0; 16]),
        with(&path, &path.to_uppercase()),
        with(&path, &path[..31]),
        with(&path, &format!("{path}0")),
        with(&path, &format!("{path}/")),
        with(&path, &format!("{path}?")),
        with(&path, &format!("/{path}")),
        with(&path, ""),
        with(&format!("/{path}"), &format!("http://h/{path}")),
        with("GET", "get"),
        with("GET", "POST"),
        with("GET", "HEAD"),
        with("GET ", "GET  "),
        with("GET", "\r\nGET"),
        with("HTTP/1.1", "HTTP/1.0"),
        with("HTTP/1.1", "HTTP/2.0"),
        with("Upgrade: websocket\r\n", ""),
        with("Upgrade: websocket", "Upgrade: h2c"),
        with("Connection: Upgrade\r\n", ""),
        with("Connection: Upgrade", "Connection: keep-alive, upgraded"),
        with("Sec-WebSocket-Version: 13\r\n", ""),
        with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 8"),
        with("Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13, 8"),
        with(&format!("Sec-WebSocket-Key: {}\r\n", super::admin::KEY), ""),
        with(super::admin::KEY, "dGhlIHNhbXBsZSBub25jZQ"),
        with(super::admin::KEY, "dGhlIHNhbXBsZSBub25j"),
        with(super::admin::KEY, "dGhlIHNhbXBsZSBub25jZWFhYQ=="),
        with(super::admin::KEY, "!!hlIHNhbXBsZSBub25jZQ=="),
        with("Host: [fe80::1]:9443\r\n", ""),
        with("Host: [fe80::1]:9443\r\n", "Host: a\r\nHost: [fe80::1]:9443\r\n"),
        with("Host: [fe80::1]:9443\r\n", "Host: a\r\nhost: a\r\n"),
        with("Host: [fe80::1]:9443", "Host: a b"),
        with("Host: [fe80::1]:9443", "Host: http://a/"),
        with("Host", "Ho st"),
        with("Host: ", " folded\r\nHost: "),
        with("\r\nHost", "\nHost"),
        with("\r\nUpgrade", "\nUpgrade"),
        with("\r\n\r\n", &format!("\r\n{many}\r\n")),
        with("\r\n\r\n", &format!("\r\n{long}")),
        String::from("\r\n\r\n"),
        String::from("GET / HTTP/1.1\r\n\r\n"),
        String::from("\x16\x03\x01\x02\x00\x01\x00\x01\x7c\x03\x03"),
        String::from("SSH-2.0-OpenSSH_9.2\r\n"),
    ];
    // The right head with something before its end, and without it.
    wrong.extend((1..20).map(|cut| right[..right.len() - cut].into()));
    for wrong in wrong {
        let mut world = World::open();
        assert_eq!(world.token(), token);
        let handle = world.peer.connect();
        world.pump();
        world.peer.send(handle, wrong.as_bytes());
        world.run_for(4000);
        assert!(world.peer.receive(handle).is_empty());
        world.peer.vanish(handle);
        assert_untouched(world);
    }
}

#[test]
fn a_list_may_be_on_several_lines_and_a_host_be_anyone() {
    for (from, to) in [
        ("Connection: Upgrade", "Connection: keep-alive\r\nconnection: Upgrade"),
        ("Connection: Upgrade", "Connection: Upgrade\r\nConnection: close"),
        ("Upgrade: websocket", "Upgrade: h2c, WebSocket"),
        ("Upgrade: websocket", "Upgrade: h2c\r\nX: 1\r\nUpgrade: websocket"),
        ("Host: [fe80::1]:9443", "Host:"),
        ("Host: [fe80::1]:9443", "Host: node.example"),
        ("Host: [fe80::1]:9443", "Host: [fe80::1%25eth0]"),
    ] {
        let mut world = World::open();
        let mut admin = Admin::connect(&mut world);
        let text = head(&world.token()).replacen(from, to, 1);
        admin.send(&mut world, Message::Head, text.as_bytes());
        assert!(admin.take_answer(&mut world, Message::Head), "{to}");
    }
}

#[test]
fn a_head_has_at_most_1024_bytes_and_24_headers() {
    let answered = |more: String| {
        let mut world = World::open();
        let mut admin = Admin::connect(&mut world);
        let text = head(&world.token()).replace("\r\n\r\n", &format!("\r\n{more}\r\n"));
        admin.send(&mut world, Message::Head, text.as_bytes());
        (text.len(), admin.take_answer(&mut world, Message::Head))
    };
    let longer = |bytes: usize| answered(format!("X: {}\r\n", "x".repeat(bytes)));
    let (len, _) = longer(0);
    assert_eq!([longer(HEAD - len), longer(HEAD - len + 1)], [(HEAD, true), (HEAD + 1, false)]);
    let own = head(&[0; 16]).matches(": ").count();
    let more = |headers: usize| answered("X: 1\r\n".repeat(headers - own)).1;
    assert_eq!([more(HEADERS), more(HEADERS + 1)], [true, false]);
}

#[test]
fn no_segment_is_longer_than_the_peer_wants() {
    for size in [64, 65, 100, 128, 445, 536, 621, 622, 1000, 1220, 1440] {
        let mut world = World::open();
        world.peer = Peer::with(size);
        let mut admin = Admin::connect(&mut world);
        for message in MESSAGES {
            let payload = admin.payload(&world, message);
            admin.send(&mut world, message, &payload);
            world.run_for(200);
            assert_eq!(admin.take_answer(&mut world, message), message != Message::Acknowledgement, "{size}");
        }
        assert!(world.keystore.owned);
        let longest =
            world.left.iter().filter_map(|left| if let Left::Data(bytes) = left { Some(*bytes) } else { None });
        // The first answer to the initiation has 622 bytes.
        assert!(longest.max().unwrap() <= size.min(622), "{size}");
    }
    let mut world = World::open();
    world.peer = Peer::with(63);
    world.peer.connect();
    world.run_for(3000);
    assert!(!world.take_left().contains(&Left::SynAck));
}

#[test]
fn a_head_may_come_in_pieces_with_other_headers_and_with_the_first_frame_behind_it() {
    for (piece, extra) in [(1, ""), (7, "x-other: 1\r\nCookie: a=b\r\n"), (5000, "Sec-WebSocket-Protocol: x\r\n")] {
        let mut world = World::open();
        let mut admin = Admin::connect(&mut world);
        let text = head(&world.token()).replace("Connection: Upgrade", "cOnnection: keep-alive,\tuPGRADE");
        let text = text.replace("Upgrade: websocket", "upgrade: WebSocket").replace("Host", &format!("{extra}Host"));
        let initiation = admin.payload(&world, Message::Initiation);
        let bytes = [text.as_bytes(), &frame(&initiation)].concat();
        for piece in bytes.chunks(piece) {
            world.peer.send(admin.handle, piece);
            world.pump();
        }
        let answer = world.peer.receive(admin.handle);
        let end = answer.windows(4).position(|four| four == b"\r\n\r\n").unwrap() + 4;
        assert!(answer[..end].starts_with(b"HTTP/1.1 101"));
        assert_eq!(super::admin::unframe(&answer[end..]).len(), 2);
    }
}

#[test]
fn slow_connections_are_dropped_in_time_and_keep_nobody_out() {
    let mut world = World::open();
    let slow: Vec<_> = (0..4).map(|_| world.peer.connect()).collect();
    world.pump();
    for handle in &slow {
        world.peer.send(*handle, b"G");
    }
    world.pump();
    // All places are taken: one who begins like them is not heard.
    let fifth = world.peer.connect();
    world.pump();
    world.left.clear();
    world.peer.send(fifth, b"G");
    world.run_for(100);
    assert_eq!(world.take_left(), []);
    // Nor is one whose line is wrong.
    let sixth = world.peer.connect();
    world.pump();
    world.left.clear();
    world.peer.send(sixth, head(&[9; 16]).as_bytes());
    world.run_for(100);
    assert_eq!(world.take_left(), []);
    // One who presents the token is, at once.
    claim(&mut world);
    assert!(world.keystore.owned);
}

#[test]
fn a_place_is_free_again_after_its_time() {
    let mut world = World::open();
    let slow: Vec<_> = (0..4).map(|_| world.peer.connect()).collect();
    world.pump();
    let since = world.now;
    for round in 0..4 {
        slow.iter().for_each(|handle| world.peer.send(*handle, b"GET /"));
        world.run_for(700);
        assert_eq!(world.armed(), Some(since + 3000 * MS), "round {round}");
    }
    world.run_for(200);
    world.left.clear();
    // Nothing is said to them any more.
    slow.iter().for_each(|handle| world.peer.send(*handle, b"GET /"));
    world.run_for(1000);
    assert_eq!(world.take_left(), []);
    // A head in two pieces is read.
    let handle = world.peer.connect();
    world.pump();
    let text = head(&world.token());
    for part in [&text[..10], &text[10..]] {
        world.peer.send(handle, part.as_bytes());
        world.pump();
    }
    assert!(world.peer.receive(handle).starts_with(b"HTTP/1.1 101"));
}

#[test]
fn connections_without_data_and_floods_take_no_place() {
    let mut world = World::open();
    let mut flood = 0..;
    let mut some = |world: &mut World| {
        for seq in flood.by_ref().take(12) {
            let port = 1 + (seq as u16).wrapping_mul(7919) % 30_000;
            world.inject(tcp(TO_NODE, &Segment { port, seq, ..SYN }));
            // Blind guesses at the cookie.
            let control = TcpControl::Psh;
            let guess = Segment { port, control, seq: seq + 1, ack: Some(seq.wrapping_mul(77)), payload: b"GET /" };
            world.inject(tcp(TO_NODE, &guess));
        }
        world.pump();
    };
    (0..200).for_each(|_| some(&mut world));
    // A full ring loses some; but nobody gets further than a SYN-ACK, which the peer's own stack resets.
    let left = world.take_left();
    assert!(left.len() > 2000 && left.iter().all(|left| matches!(left, Left::SynAck | Left::Advertisement)));
    // The guesses took no place.
    let slow = world.peer.connect();
    world.pump();
    world.left.clear();
    world.peer.send(slow, b"GET /");
    world.pump();
    assert_eq!(world.take_left(), [Left::Ack]);
    for _ in 0..10 {
        world.peer.connect();
    }
    world.pump();
    let mut admin = Admin::connect(&mut world);
    for message in MESSAGES {
        some(&mut world);
        admin.say(&mut world, message);
        some(&mut world);
    }
    assert!(world.keystore.owned);
}

#[test]
fn strangers_who_see_the_answers_take_places_and_keep_nobody_out() {
    // They spoof the peer, complete the handshake and send the beginning of a head, again and again.
    let mut world = World::open();
    for round in 0..300 {
        let segment = Segment { port: 1000 + round, seq: 5, ..SYN };
        world.inject(tcp(TO_NODE, &segment));
        world.pump();
        let (_, first) = world.frames.iter().rev().find_map(|frame| syn_ack(frame)).unwrap();
        let (control, ack) = (TcpControl::Psh, Some(first.wrapping_add(1)));
        world.inject(tcp(TO_NODE, &Segment { seq: 6, control, ack, payload: b"GET /0", ..segment }));
        world.run_for(10);
    }
    assert_untouched(world);
}

#[test]
fn only_a_syn_to_the_claim_port_from_the_peer_itself_is_answered() {
    let controls = [TcpControl::None, TcpControl::Psh, TcpControl::Fin, TcpControl::Rst, TcpControl::Syn];
    let mut world = World::open();
    // The peer's own stack is not to answer what it did not ask for.
    world.cut = true;
    for control in controls {
        for ack in [None, Some(0), Some(77)] {
            for payload in [&b""[..], b"GET / HTTP/1.1\r\n\r\n"] {
                world.inject(tcp(TO_NODE, &Segment { control, ack, payload, ..SYN }));
            }
        }
    }
    // All flags, no flags, a wrong checksum, another port.
    world.inject(tcp_to(TO_NODE, 9443, &SYN, |bytes| bytes[13] = 0x3f));
    world.inject(tcp_to(TO_NODE, 9443, &SYN, |bytes| bytes[13] = 0));
    let mut broken = tcp(TO_NODE, &SYN);
    *broken.last_mut().unwrap() ^= 1;
    world.inject(broken);
    for port in [0, 1, 80, 8090, 9442, 9444, 65535] {
        world.inject(tcp_to(TO_NODE, port, &SYN, |_| {}));
    }
    let other = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xab, 0xce];
    for route in [
        Route { src_mac: [2, 0, 0, 0, 0, 9], ..TO_NODE },
        Route { src: other, ..TO_NODE },
        Route { dst: other, ..TO_NODE },
        Route { dst: wire::ALL_NODES, dst_mac: [0x33, 0x33, 0, 0, 0, 1], ..TO_NODE },
        Route { dst_mac: [0xff; 6], ..TO_NODE },
        Route { dst_mac: [2, 0, 0, 0, 0, 7], ..TO_NODE },
        Route { src: [0; 16], ..TO_NODE },
        Route { src: LINK_IP, dst: LINK_IP, ..TO_NODE },
    ] {
        world.inject(tcp(route, &SYN));
        world.inject(solicitation(Route { dst_mac: TO_NODE.dst_mac, ..route }, other, 255));
    }
    world.pump();
    // The two SYNs of the first loop, with and without data.
    assert_eq!(world.left, [Left::SynAck; 2]);
    world.cut = false;
    assert_untouched(world);
}

#[test]
fn neighbour_discovery_answers_for_the_own_address_only_and_nothing_else_is_answered() {
    let mut world = World::open();
    world.inject(solicitation(TO_NODE, LINK_IP, 255));
    let group = [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, 0, 0x12, 0x34];
    let multicast = Route { dst: group, dst_mac: [0x33, 0x33, 0xff, 0, 0x12, 0x34], ..TO_NODE };
    world.inject(solicitation(multicast, LINK_IP, 255));
    world.pump();
    assert_eq!(world.take_left(), [Left::Advertisement; 2]);
    world.inject(solicitation(TO_NODE, LINK_IP, 64));
    world.inject(solicitation(TO_NODE, PEER_IP, 255));
    world.inject(solicitation(multicast, wire::ALL_NODES, 255));
    let elsewhere = Route { dst_mac: [0x33, 0x33, 0xff, 0, 0x12, 0x35], ..multicast };
    world.inject(solicitation(elsewhere, LINK_IP, 255));
    world.inject(solicitation(Route { dst: wire::ALL_NODES, ..multicast }, LINK_IP, 255));
    world.inject(solicitation(Route { src: [0; 16], ..multicast }, LINK_IP, 255));
    world.pump();
    assert_eq!(world.take_left(), []);
    // A link-layer option that would send the answer elsewhere, which the perimeter refuses: it goes to the peer.
    let lie = Icmpv6Repr::Ndisc(smoltcp::wire::NdiscRepr::NeighborSolicit {
        target_addr: LINK_IP.into(),
        lladdr: Some(smoltcp::wire::EthernetAddress([2, 0, 0, 0, 0, 9]).into()),
    });
    world.inject(icmp(TO_NODE, 255, &lie));
    world.pump();
    assert_eq!(world.take_left(), [Left::Advertisement]);
    let echo = Icmpv6Repr::EchoRequest { ident: 1, seq_no: 1, data: b"ping" };
    world.inject(icmp(TO_NODE, 64, &echo));
    world.inject(icmp(Route { dst: wire::ALL_NODES, ..TO_NODE }, 64, &echo));
    // UDP, an unknown header, hop-by-hop options that demand an error, a fragment, no next header.
    for next_header in [17, 200, 0, 43, 44, 59, 60] {
        world.inject(ip(TO_NODE, next_header, 64, &[6, 0, 0xc2, 4, 0, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]));
    }
    for len in 0..60 {
        world.inject(tcp(TO_NODE, &SYN)[..len].to_vec());
    }
    world.pump();
    assert_eq!(world.take_left(), []);
    assert_untouched(world);
}

#[test]
fn whoever_has_the_slot_has_it_alone() {
    let mut world = World::open();
    let early = world.peer.connect();
    let mut admin = Admin::connect(&mut world);
    world.peer.send(early, b"GET /");
    world.pump();
    admin.say(&mut world, Message::Head);
    world.left.clear();
    // The other connection is dropped, a new one is not even answered, the token is used up.
    world.peer.send(early, b"more");
    let late = world.peer.connect();
    world.run_for(1500);
    assert_eq!(world.take_left(), []);
    assert!(world.peer.receive(late).is_empty());
    for message in &MESSAGES[1..] {
        admin.say(&mut world, *message);
    }
    assert!(world.keystore.owned);
}

#[test]
fn a_pending_peer_may_close_or_reset_and_come_again() {
    for reset in [false, true] {
        let mut world = World::open();
        for _ in 0..10 {
            let handle = world.peer.connect();
            world.pump();
            world.peer.send(handle, b"GET /");
            world.pump();
            if reset {
                world.peer.reset(handle)
            } else {
                world.peer.finish(handle)
            }
            world.pump();
            world.peer.vanish(handle);
        }
        assert_untouched(world);
    }
}

#[test]
fn a_token_of_another_gate_is_worth_nothing() {
    let mut world = World::open();
    let old = world.token();
    world.reopen();
    assert_ne!(old, world.token());
    let handle = world.peer.connect();
    world.pump();
    world.peer.send(handle, head(&old).as_bytes());
    world.run_for(100);
    assert!(world.peer.receive(handle).is_empty());
    world.peer.vanish(handle);
    assert_untouched(world);
}

#[test]
fn a_token_is_good_until_its_time_and_no_longer() {
    for late in [false, true] {
        let mut world = World::open();
        let mut admin = Admin::connect(&mut world);
        let until = world.lifecycle.gate.rules.until;
        world.now = until - 2 * MS;
        world.run_for(1 + u64::from(late));
        let payload = admin.payload(&world, Message::Head);
        admin.send(&mut world, Message::Head, &payload);
        assert_eq!(admin.take_answer(&mut world, Message::Head), !late);
        assert_eq!(world.told(), if late { Vec::new() } else { Vec::from([Told::Started]) });
        if late {
            world.assert_silent();
        } else {
            // The claim has its own time from there on.
            world.run_for(19_000);
            admin.say(&mut world, Message::Initiation);
            world.run_for(1_000);
            assert_eq!(world.ended(), Some(Closed::Deadline));
            world.assert_silent();
        }
    }
}

#[test]
fn addresses_that_no_host_can_have_open_nothing() {
    let group = [0xff; 16];
    let mutations: [fn(&mut calls::rules::Rules); 5] = [
        |rules| rules.link.mac = [0xff; 6],
        |rules| rules.link.ip = [0; 16],
        |rules| rules.peer.mac = [1, 0, 0, 0, 0, 1],
        |rules| rules.peer.ip = [0xff; 16],
        |rules| rules.link.mac = [0; 6],
    ];
    for mutation in mutations {
        let mut world = World::open();
        let mut gate = world.lifecycle.gate;
        gate.rules.gate += 1;
        mutation(&mut gate.rules);
        world.publish(gate);
        world.inject(tcp(TO_NODE, &SYN));
        world.inject(tcp(Route { src: group, src_mac: PEER_MAC, ..TO_NODE }, &SYN));
        world.inject(solicitation(TO_NODE, LINK_IP, 255));
        world.run_for(10);
        assert_eq!(world.take_left(), []);
    }
}
