//! An unclaimed node shows itself to nobody but the holder of its anchor.

use std::time::Duration;

use genesis_tests::{
    PATIENCE,
    admin::{Admin, fresh},
    bed::{Bed, Node, image},
    hostile,
    station::{ALL_NODES_MAC, Station, beacon_payload, udp_frame},
};
use wire::{
    ALL_NODES, BEACON_PORT,
    link::{Answer, Datagram, Find, Hello},
};
use zerocopy::IntoBytes;

const PORTS: (u16, u16) = (BEACON_PORT, BEACON_PORT);

/// From fork until a valid find or open: not one frame, whatever a stranger sends; and then a claim succeeds.
#[test]
fn a_held_node_is_silent_and_then_claimable() {
    let bed = Bed::new();
    let mut admin = Admin::new(fresh());
    let node = bed.node(image(&admin.public()));
    node.wait_phase("hold");
    assert_eq!(bed.frames_from(&node), [] as [Vec<u8>; 0], "a node that does not scan has sent something");
    let stranger = bed.station("stranger", 66);
    let target = node.target();
    let from = (stranger.mac, stranger.ip);
    let wrong_find = Admin::new(fresh()).find(&stranger);
    let zoo = hostile::zoo(from, target, wrong_find.as_bytes());
    bed.deliver(&node, &stranger, zoo.into_iter().map(|(_, frame)| frame));
    bed.deliver(&node, &stranger, hostile::tcp_scan(from, target).map(|(_, frame)| frame));
    bed.deliver(&node, &stranger, hostile::udp_scan(from, target).map(|(_, frame)| frame));
    // Wherever the right key's messages come from another address than the signed one.
    let mut station = bed.station("admin", 1);
    let find = admin.find(&station);
    let signed = (station.mac, station.ip);
    for source in [(stranger.mac, station.ip), (station.mac, stranger.ip), from] {
        let frame = udp_frame(source, (ALL_NODES_MAC, ALL_NODES), PORTS, find.as_bytes());
        bed.deliver(&node, &stranger, [frame]);
    }
    // What was sent is behind us when the node answers something that was sent later.
    let hello = admin.discover(&mut station);
    let frames = bed.frames_from(&node);
    let beacons: Vec<_> = frames.iter().filter_map(|frame| beacon_payload(frame)).collect();
    assert_eq!(beacons.len(), frames.len(), "something else than a hello: {frames:02x?}");
    // A hello takes a random delay, in which the administrator may have asked again.
    assert!(beacons.iter().all(|payload| Hello::parse(payload).is_some()));
    assert_eq!(hello.fiduciary, node.fiduciary());
    assert!(admin.claim(&mut station, b"").is_ok());
    node.wait_phase("claimed");
    assert_ne!(signed, from);
}

/// Every byte that a valid find or open consists of is needed, and each works once.
#[test]
fn a_find_and_an_open_that_were_seen_are_worth_nothing() {
    let bed = Bed::new();
    let mut admin = Admin::new(fresh());
    let node = bed.node(image(&admin.public()).with(|params| params.token_ms = 1000.into()));
    node.wait_phase("hold");
    let mut station = bed.station("admin", 1);
    let find = admin.find(&station);
    station.announce(find.as_bytes());
    let hello = loop {
        // A lost frame is sent again; the node may by then have answered the first.
        match admin.hear_hello(&mut station, Duration::from_secs(3)) {
            Some(hello) => break hello,
            None => station.announce(find.as_bytes()),
        }
    };
    let ephemeral = zeroize::Zeroizing::new(fresh());
    let open = admin.open(&station, &hello, &ephemeral);
    station.announce(open.as_bytes());
    let answer = station.hear(PATIENCE, |payload| Answer::parse(payload).copied());
    assert!(answer.is_some_and(|answer| answer.open(&hello.claim_key, &ephemeral, &open).is_some()));
    node.wait_line(|line| line.starts_with("genesis: gate closed"));
    bed.mark();
    // From the administrator's own place, from a stranger with the administrator's addresses, and from his own.
    let stranger = bed.station("stranger", 66);
    for message in [find.as_bytes(), open.as_bytes()] {
        station.announce(message);
        for source in [(station.mac, station.ip), (stranger.mac, stranger.ip), (stranger.mac, station.ip)] {
            let frame = udp_frame(source, (ALL_NODES_MAC, ALL_NODES), PORTS, message);
            bed.deliver(&node, &stranger, [frame]);
        }
    }
    // An older counter than one that was seen, although signed.
    let older = Find::sign(&admin.anchor, admin.counter - 1, station.ip, station.mac);
    station.announce(older.as_bytes());
    // An open for the right node whose nonce was never in a hello, and one for another node.
    let mut other = hello;
    other.nonce = [9; 16];
    station.announce(admin.open(&station, &other, &ephemeral).as_bytes());
    other = hello;
    other.fiduciary = [9; 32];
    station.announce(admin.open(&station, &other, &ephemeral).as_bytes());
    assert_silent_until_found(&bed, &node, &mut admin, &mut station);
}

/// The next thing that the node says is a hello to the next valid find.
fn assert_silent_until_found(bed: &Bed, node: &Node, admin: &mut Admin, station: &mut Station) {
    station.heard();
    admin.discover(station);
    let frames = bed.frames_from(node);
    assert!(!frames.is_empty());
    for frame in frames {
        assert!(beacon_payload(&frame).and_then(Hello::parse).is_some(), "not a hello: {frame:02x?}");
    }
}

/// A scan is a few hellos to ff02::1, and nothing else.
#[test]
fn a_scan_is_a_few_hellos_and_a_node_without_an_answer_forks() {
    let bed = Bed::new();
    let admin = Admin::new(fresh());
    let node = bed.node(image(&admin.public()).with(|params| params.scan_ms = 2000.into()));
    node.wait_phase("hold");
    let phases = node.phases();
    assert_eq!(phases, ["blind", "scan", "fork", "hold"]);
    let frames = bed.frames_from(&node);
    assert!((1..=4).contains(&frames.len()), "{} frames in a scan", frames.len());
    for frame in &frames {
        assert_eq!(frame[..6], ALL_NODES_MAC);
        let hello = beacon_payload(frame).and_then(Hello::parse).expect("a hello");
        assert!(hello.open(&admin.anchor).is_some());
        assert!(hello.open(&Admin::new(fresh()).anchor).is_none());
    }
}

/// Two nodes of one image share nothing.
#[test]
fn each_node_has_an_identity_of_its_own() {
    let bed = Bed::new();
    let admin = Admin::new(fresh());
    let nodes = [(); 3].map(|()| bed.node(image(&admin.public())));
    let keys = nodes.each_ref().map(|node| {
        node.wait_phase("hold");
        (node.fiduciary(), node.target().ip)
    });
    assert!(keys[0].0 != keys[1].0 && keys[1].0 != keys[2].0 && keys[0].0 != keys[2].0);
    assert!(keys[0].1 != keys[1].1 && keys[1].1 != keys[2].1 && keys[0].1 != keys[2].1);
    // On a board they are of one image; on native there is none.
    let images = nodes.each_ref().map(|node| node.image().map(|path| std::fs::read(path).expect("its image")));
    assert!(images.windows(2).all(|pair| pair[0] == pair[1]), "not one image");
}
