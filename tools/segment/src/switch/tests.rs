use std::{collections::BTreeMap, os::unix::net::UnixDatagram};

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;

/// A hang detector, no more: nothing here waits for it to pass.
const PATIENCE: Duration = Duration::from_secs(60);

fn switch() -> (TempDir, Switch) {
    let dir = tempfile::tempdir().unwrap();
    let switch = Switch::start(dir.path()).unwrap();
    (dir, switch)
}

fn receive(port: &Port) -> Vec<u8> {
    port.recv(PATIENCE).unwrap().expect("a frame")
}

/// Waits until `count` frames of a port have been recorded, and so queued for every other port.
fn recorded(switch: &Switch, name: &str, count: usize) {
    let enough = |frames: &[Frame]| (frames.iter().filter(|f| &*f.port == name).count() >= count).then_some(());
    switch.wait(PATIENCE, enough).expect("recorded");
}

/// Waits for a counter to get there; the switch counts after it delivers.
fn counted(switch: &Switch, name: &str, enough: impl Fn(&Counters) -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !enough(&switch.counters(name).unwrap()) {
        assert!(Instant::now() < deadline, "{:?}", switch.counters(name));
        std::thread::yield_now();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]
    #[test]
    fn every_frame_reaches_every_other_port_in_order_and_no_other(
        sends in prop::collection::vec((0usize..4, prop::collection::vec(any::<u8>(), 1..1514)), 1..60),
    ) {
        let (_dir, switch) = switch();
        let ports: Vec<_> = (0..4).map(|n| switch.port(&format!("p{n}")).unwrap()).collect();
        let mut count = BTreeMap::new();
        for (n, frame) in &sends {
            ports[*n].send(frame).unwrap();
            // In this order, not only in each port's own.
            let sent: &mut usize = count.entry(*n).or_default();
            *sent += 1;
            recorded(&switch, &format!("p{n}"), *sent);
        }
        for (n, port) in ports.iter().enumerate() {
            for (_, frame) in sends.iter().filter(|(from, _)| *from != n) {
                prop_assert_eq!(&receive(port), frame);
            }
            prop_assert_eq!(port.try_recv(&mut [0; 4]).unwrap(), None);
            let own: Vec<_> = sends.iter().filter(|(from, _)| *from == n).map(|(_, frame)| frame.clone()).collect();
            let tap: Vec<_> = switch.frames_from(&format!("p{n}")).iter().map(|frame| frame.to_vec()).collect();
            prop_assert_eq!(own, tap);
        }
    }
}

#[test]
fn a_port_that_never_reads_loses_its_own_frames_and_holds_up_nobody() {
    let (_dir, switch) = switch();
    let (sender, reader) = (switch.port("sender").unwrap(), switch.port("reader").unwrap());
    let _deaf: Vec<_> = (0..20).map(|n| switch.port(&format!("deaf{n}")).unwrap()).collect();
    // More than all the queues take together, at the full length: the kernel's and the switch's.
    let frames = MAX_WAITING + 600;
    for n in 0..frames {
        let mut frame = vec![0; 1514];
        frame[..8].copy_from_slice(&n.to_be_bytes());
        sender.send(&frame).unwrap();
        assert_eq!(receive(&reader)[..8], n.to_be_bytes());
    }
    counted(&switch, "reader", |counters| counters.delivered == frames as u64);
    counted(&switch, "deaf7", |counters| counters.overrun > 0);
    assert_eq!(switch.counters("reader").unwrap().overrun, 0);
}

#[test]
fn an_endpoint_may_go_and_come_back() {
    let (dir, switch) = switch();
    let sender = switch.port("sender").unwrap();
    let path = dir.path().join("node");
    let own = switch.attach("node", &path).unwrap();
    sender.send(b"to nobody").unwrap();
    counted(&switch, "node", |counters| counters.absent == 1);
    for _ in 0..2 {
        let node = UnixDatagram::bind(&path).unwrap();
        // As a node does it: it can send nowhere else, and hear nobody else.
        node.connect(&own).unwrap();
        sender.send(b"ping").unwrap();
        let mut frame = [0; 64];
        assert_eq!(node.recv(&mut frame).unwrap(), 4);
        node.send(b"pong").unwrap();
        assert_eq!(receive(&sender), b"pong");
        drop(node);
        std::fs::remove_file(&path).unwrap();
    }
    assert!(switch.detach("node") && !switch.detach("node"));
    assert!(!own.exists());
}

#[test]
fn strays_are_dropped_and_counted() {
    let (dir, switch) = switch();
    let (a, b) = (switch.port("a").unwrap(), switch.port("b").unwrap());
    let own = dir.path().join("a.switch");
    let nameless = UnixDatagram::unbound().unwrap();
    nameless.send_to(b"forged", &own).unwrap();
    let other = UnixDatagram::bind(dir.path().join("other")).unwrap();
    other.send_to(b"forged", &own).unwrap();
    a.send(&[0; MAX_FRAME + 1]).unwrap();
    a.send(&[]).unwrap();
    a.send(b"true").unwrap();
    assert_eq!(receive(&b), b"true");
    let counters = switch.counters("a").unwrap();
    assert_eq!((counters.stray, counters.received), (4, 1));
    assert_eq!(switch.frames_from("a").len(), 1);
}

#[test]
fn impairments_drop_change_and_delay_in_order() {
    let (_dir, switch) = switch();
    let (a, b) = (switch.port("a").unwrap(), switch.port("b").unwrap());
    let mut seen = 0;
    let odd_only: Impairment = Box::new(move |way, frame| {
        if way == Way::ToPort {
            return Fate::Pass;
        }
        seen += 1;
        frame[0] ^= 0x80;
        match seen {
            1 => Fate::After(Duration::from_millis(30)),
            n if n % 2 == 1 => Fate::Pass,
            _ => Fate::Drop,
        }
    });
    assert!(switch.impair("a", Some(odd_only)));
    for n in 1..=5 {
        a.send(&[n]).unwrap();
    }
    assert_eq!([receive(&b), receive(&b), receive(&b)], [[0x81], [0x83], [0x85]]);
    assert_eq!(switch.counters("a").unwrap().impaired, 2);
    // What the port sent is on record as it sent it, lost or not.
    assert_eq!(switch.frames_from("a").concat(), [1, 2, 3, 4, 5]);

    assert!(switch.cut("b"));
    switch.impair("a", None);
    a.send(b"lost").unwrap();
    b.send(b"lost too").unwrap();
    recorded(&switch, "a", 6);
    recorded(&switch, "b", 1);
    switch.impair("b", None);
    b.send(b"back").unwrap();
    assert_eq!(receive(&a), b"back");
    assert!(!switch.cut("nobody"));
}

#[test]
fn names_and_paths_are_checked() {
    let (dir, switch) = switch();
    let path = dir.path().join("x");
    let why = |name: &str, path: &Path| switch.attach(name, path).unwrap_err().to_string();
    for name in ["", "a b", "../a", "a\n", &"x".repeat(33)] {
        assert!(why(name, &path).contains("is no port name"), "{name}");
    }
    assert!(why("a", Path::new("relative")).contains("not absolute"));
    assert!(why("a", &path.join("x".repeat(100))).contains("can have 107"));
    switch.attach("a", &path).unwrap();
    assert!(why("a", &path).contains("a port a already"));
}

#[test]
fn the_control_socket_attaches_detaches_and_lets_go() {
    let (dir, switch) = switch();
    let (a, path) = (switch.port("a").unwrap(), dir.path().join("qemu"));
    let endpoint = UnixDatagram::bind(&path).unwrap();
    let own = attach(dir.path(), "qemu", &path).unwrap();
    endpoint.send_to(b"hello", &own).unwrap();
    assert_eq!(receive(&a), b"hello");
    assert!(attach(dir.path(), "qemu", &path).unwrap_err().to_string().contains("already"));
    detach(dir.path(), "qemu").unwrap();
    assert!(detach(dir.path(), "qemu").unwrap_err().to_string().contains("no port qemu"));

    let held = Held::attach(dir.path(), "held", &path).unwrap();
    endpoint.send_to(b"held", &held.own).unwrap();
    assert_eq!(receive(&a), b"held");
    let own = held.own.clone();
    drop(held);
    assert!(!own.exists() && !switch.detach("held"));

    // The port of a program that was killed ends with its connection.
    let mut killed = std::os::unix::net::UnixStream::connect(dir.path().join(CONTROL)).unwrap();
    std::io::Write::write_all(&mut killed, format!("hold killed {}\n", path.display()).as_bytes()).unwrap();
    let deadline = Instant::now() + PATIENCE;
    let until = |there: bool| {
        while dir.path().join("killed.switch").exists() != there {
            assert!(Instant::now() < deadline);
            std::thread::yield_now();
        }
    };
    until(true);
    drop(killed);
    until(false);

    let mut garbage = std::os::unix::net::UnixStream::connect(dir.path().join(CONTROL)).unwrap();
    std::io::Write::write_all(&mut garbage, &[b'x'; 4096]).unwrap();
    let mut answer = Vec::new();
    // Refused and cut off; a reset says the same.
    let _ = std::io::Read::read_to_end(&mut garbage, &mut answer);
    assert!(answer.is_empty() || answer.starts_with(b"error"));
    switch.attach("still-there", &path).unwrap();
}

#[test]
fn what_was_sent_before_a_look_is_seen_and_what_was_sent_before_a_mark_is_not() {
    let (_dir, switch) = switch();
    let (a, b) = (switch.port("a").unwrap(), switch.port("b").unwrap());
    for n in 0..200u8 {
        a.send(&[n, 1]).unwrap();
        a.send(&[n, 2]).unwrap();
        assert_eq!(switch.frames_from("a").concat(), [n, 1, n, 2]);
        a.send(&[n, 3]).unwrap();
        switch.mark();
        assert!(switch.frames_from("a").is_empty());
        // Looking has kept nothing from anybody.
        assert_eq!([receive(&b), receive(&b), receive(&b)], [[n, 1], [n, 2], [n, 3]]);
    }
}

#[test]
fn an_endpoint_that_was_killed_is_replaced_and_a_living_one_is_not() {
    let (dir, switch) = switch();
    let a = switch.port("a").unwrap();
    let path = dir.path().join("joined.port");
    // A killed process leaves its socket's file.
    drop(UnixDatagram::bind(&path).unwrap());
    let (_held, joined) = join(dir.path(), "joined").unwrap();
    joined.send(b"back").unwrap();
    assert_eq!(receive(&a), b"back");
    let error = join(dir.path(), "joined").err().unwrap();
    assert!(error.to_string().contains("a port joined already"), "{error}");
    a.send(b"still there?").unwrap();
    assert_eq!(receive(&joined), b"still there?");
}

#[test]
fn a_stopped_switch_leaves_no_socket_and_a_mark_forgets() {
    let (dir, switch) = switch();
    let (a, b) = (switch.port("a").unwrap(), switch.port("b").unwrap());
    a.send(b"one").unwrap();
    receive(&b);
    switch.mark();
    assert!(switch.frames_from("a").is_empty());
    drop((a, b, switch));
    let left: Vec<_> = dir.path().read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(left, ["segment.pcapng"]);
}
