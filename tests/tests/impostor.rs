//! A laptop with the image's anchor and a key of its own looks like a node of the fleet. It is not enrolled
//! unless the operator said so by name.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use genesis_tests::{
    admin::fresh,
    bed::{Bed, image},
    station::Station,
    tool::{Tool, json, said},
};
use wire::{
    Fingerprint,
    link::{Datagram, Find, Hello, HelloBody},
};
use zerocopy::IntoBytes;

/// Answers every find with a hello of its own, as a node would.
fn pose(station: &mut Station, anchor: &crypto::AnchorPublic, fiduciary: [u8; 32], stop: &AtomicBool) {
    let claim_key = crypto::dh_public(&fresh().into());
    while !stop.load(Ordering::Relaxed) {
        let heard = station.hear(Duration::from_millis(50), |payload| Find::parse(payload).map(|_| ()));
        if heard.is_some() {
            let mut nonce = [0; 16];
            nonce.copy_from_slice(&fresh()[..16]);
            let body = HelloBody { fiduciary, claim_key, address: station.ip, nonce, committed: 0, zero: [0; 7] };
            let hello = Hello::seal(anchor, &fresh().into(), &body).expect("a good anchor");
            station.announce(hello.as_bytes());
        }
    }
}

#[test]
fn an_impostor_is_not_enrolled() {
    let bed = Bed::new();
    let tool = Tool::new(&bed, "admin");
    let anchor = tool.anchor();
    let fiduciary = crypto::sign_public(&fresh().into());
    let fingerprint = Fingerprint::of(&fiduciary).to_string();
    let node = bed.node(image(&anchor));
    node.wait_phase("hold");
    let mut station = bed.station("impostor", 77);
    let stop = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| pose(&mut station, &anchor, fiduciary, &stop));
        // Seen, and nothing tells it from a node: that is why it must be named.
        let output = tool.on_segment(&["discover", "--wait", "4"]);
        let found = json(&output)["nodes"].to_string();
        assert!(found.contains(&fingerprint) && found.contains(&node.fingerprint()), "{}", said(&output));
        // Nobody is there to ask: neither is taken.
        let output = tool.on_segment(&["claim", "--wait", "3"]);
        assert_eq!(output.status.code(), Some(8), "{}", said(&output));
        assert_eq!(tool.nodes().len(), 0);
        // With a list, the real one is taken beside the impostor.
        let output = tool.on_segment(&["claim", "--any-listed", "--expect", &node.fingerprint()]);
        assert_eq!(output.status.code(), Some(0), "{}", said(&output));
        stop.store(true, Ordering::Relaxed);
    });
    node.wait_phase("claimed");
    let nodes = tool.nodes();
    assert_eq!(nodes.len(), 1);
    assert_eq!(nodes[0]["fingerprint"], node.fingerprint());
}
