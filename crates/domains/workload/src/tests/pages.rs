//! What it answers, and to whom.

use std::{format, string::String, vec::Vec};

use calls::mesh::{Heartbeat, Tenancy};
use proptest::prelude::*;
use smoltcp::{
    iface::SocketHandle,
    socket::tcp::State,
    wire::{IpAddress, Ipv4Address},
};

use super::{
    homeless, placed,
    world::{NOWHERE, OWN4, OWN6, PLACE, World, own4, own6},
};
use crate::{
    CONNECTION_MICROS, CONNECTIONS, PORT,
    http::{ANSWER, Answer, HEAD, Head, Status},
    pulse::Report,
    stack::Addresses,
};

pub const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: node\r\n\r\n";

/// Asks for the page, and closes.
pub fn page(world: &mut World, to: IpAddress) -> String {
    let handle = world.say(to, PORT, GET);
    let (answer, closed) = world.hear(handle);
    assert!(closed, "{}", String::from_utf8_lossy(&answer));
    world.far.socket(handle).close();
    world.run();
    String::from_utf8(answer).unwrap()
}

fn refused(world: &mut World, handle: SocketHandle) -> bool {
    world.far.socket(handle).state() == State::Closed
}

#[test]
fn the_page_says_what_it_knows() {
    let mut world = placed();
    world.later(25_000_000);
    let text = page(&mut world, own4());
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200 OK\r\n"));
    assert!(head.contains("\r\nContent-Type: text/html\r\n"));
    assert!(head.contains(&format!("\r\nContent-Length: {}\r\n", body.len())));
    assert!(head.ends_with("\r\nConnection: close"));
    for part in ["beats\">3\n", "served\">1\n", "v4\">10.8.0.2\n", "v6\">fd00::2\n", "uptime\">25\n"] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert!(page(&mut world, own6()).contains("served\">2\n"));
}

#[test]
fn pages_are_published_with_the_next_beat() {
    let mut world = placed();
    for _ in 0..10 {
        // One after the other, in no time: a socket is free again at once.
        page(&mut world, own6());
    }
    world.later(10_000_000);
    assert_eq!(world.mesh_beat.poll(), Some(Heartbeat { beats: 2, served: 10 }));
}

#[test]
fn only_the_page_is_there_and_only_to_be_got() {
    let cases: [(&[u8], &str); 12] = [
        (b"GET / HTTP/1.0\r\n\r\n", "200 OK"),
        (b"GET / HTTP/1.1\r\nhost:\r\n\r\nand more", "200 OK"),
        (b"GET /x HTTP/1.1\r\nHost: node\r\n\r\n", "404 Not Found"),
        (b"GET /? HTTP/1.1\r\nHost: node\r\n\r\n", "404 Not Found"),
        (b"GET //etc/passwd HTTP/1.1\r\nHost: node\r\n\r\n", "404 Not Found"),
        (b"POST / HTTP/1.1\r\nHost: node\r\nContent-Length: 4\r\n\r\nbody", "405 Method Not Allowed"),
        (b"HEAD / HTTP/1.1\r\nHost: node\r\n\r\n", "405 Method Not Allowed"),
        (b"GET / HTTP/1.1\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", "400 Bad Request"),
        (b"GET / HTTP/2.0\r\n\r\n", "400 Bad Request"),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc", "400 Bad Request"),
        (&[b'a'; HEAD + 1], "431 Request Header Fields Too Large"),
    ];
    let mut world = placed();
    for (request, status) in cases {
        let handle = world.say(own4(), PORT, request);
        let (answer, closed) = world.hear(handle);
        let answer = String::from_utf8(answer).unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}\r\n")) && closed, "{status}: {answer}");
        world.far.socket(handle).close();
        world.run();
    }
    assert!(page(&mut world, own4()).contains("served\">3\n"));
}

#[test]
fn headers_without_end_are_too_long() {
    let many: Vec<u8> = GET[..GET.len() - 2].iter().copied().chain(b"a: b\r\n".repeat(40)).collect();
    assert_eq!(Head::new().feed(&many), Some(Status::TooLong));
    let long: Vec<u8> = [b"GET / HTTP/1.1\r\nHost: ", &b"x".repeat(HEAD)[..]].concat();
    assert_eq!(Head::new().feed(&long), Some(Status::TooLong));
    assert_eq!(Head::new().feed(&long[..HEAD]), None);
}

#[test]
fn the_longest_answer_fits() {
    let report = Report {
        heartbeat: Heartbeat { beats: u64::MAX, served: u64::MAX },
        uptime: u64::MAX,
        addresses: Addresses { v4: Some([255; 4].into()), v6: Some([0xfd; 16].into()) },
    };
    for status in [Status::Page, Status::Malformed, Status::NotFound, Status::NotAllowed, Status::TooLong] {
        let answer = Answer::new(status, &report);
        assert!(answer.head().ends_with(b"\r\n\r\n"));
        assert!(answer.body().ends_with(b">\n"));
        assert!(answer.head().len() + answer.body().len() <= ANSWER);
    }
}

proptest! {
    /// However it is cut into pieces, a head is judged the same; garbage is judged without a panic.
    #[test]
    fn a_head_is_the_same_in_pieces(garbage in prop::collection::vec(any::<u8>(), 0..40), at in 0..GET.len(), cut in 0..70usize) {
        let mut bytes = GET.to_vec();
        bytes.splice(at..at, garbage);
        let mut head = Head::new();
        let (first, second) = bytes.split_at(cut.min(bytes.len()));
        let in_pieces = head.feed(first).or_else(|| head.feed(second));
        prop_assert_eq!(in_pieces, Head::new().feed(&bytes));
    }
}

#[test]
fn who_is_slow_is_cut_off_and_who_waits_is_served() {
    let mut world = placed();
    let slow: Vec<_> = (0..CONNECTIONS).map(|_| world.say(own4(), PORT, b"GET / HT")).collect();
    let waiting = world.say(own6(), PORT, GET);
    assert_eq!(world.far.socket(waiting).state(), State::SynSent, "one too many is not refused");
    // A byte now and then keeps nobody in.
    for _ in 0..5 {
        world.later(CONNECTION_MICROS / 6);
        slow.iter().for_each(|handle| world.far.send(*handle, b"P"));
        world.run();
    }
    assert!(!slow.iter().any(|handle| refused(&mut world, *handle)));
    assert_eq!(world.far.socket(waiting).state(), State::SynSent);
    world.later(CONNECTION_MICROS / 6 + 1_000_000);
    assert!(slow.iter().all(|handle| refused(&mut world, *handle)));
    // Its SYN comes again by itself.
    for _ in 0..100 {
        if !world.far.socket(waiting).may_send() {
            world.later(CONNECTION_MICROS / 20);
        }
    }
    world.far.send(waiting, GET);
    world.run();
    assert!(world.hear(waiting).0.starts_with(b"HTTP/1.1 200 OK\r\n"));
}

#[test]
fn who_says_nothing_more_holds_its_place_no_longer() {
    let mut world = placed();
    // Gone after its SYN, after its request, after half of it.
    let [syn, request, half] = [0; 3].map(|_| world.far.connect(own4(), PORT));
    world.run();
    world.far.send(request, GET);
    world.far.send(half, &GET[..7]);
    world.run();
    let waiting: Vec<_> = (0..2).map(|_| world.far.connect(own6(), PORT)).collect();
    world.run();
    let states: Vec<_> = waiting.iter().map(|handle| world.far.socket(*handle).state()).collect();
    assert_eq!(states, [State::Established, State::SynSent]);
    world.later(CONNECTION_MICROS + 1);
    for handle in [syn, half, waiting[0]] {
        assert!(refused(&mut world, handle));
    }
    assert!(page(&mut world, own4()).contains("200 OK"));
    assert_ne!(world.far.socket(request).state(), State::Established);
}

#[test]
fn who_closes_before_asking_is_let_go() {
    let mut world = placed();
    for _ in 0..2 * CONNECTIONS {
        let handle = world.say(own4(), PORT, b"GET");
        world.far.socket(handle).close();
        world.run();
        assert_eq!(world.far.socket(handle).state(), State::TimeWait);
    }
    assert!(page(&mut world, own4()).contains("served\">1\n"));
}

#[test]
fn another_port_refuses() {
    let mut world = placed();
    let handle = world.say(own4(), 81, GET);
    assert!(refused(&mut world, handle));
}

#[test]
fn a_repeated_syn_is_no_second_connection() {
    let mut world = placed();
    let first = world.say(own4(), PORT, b"GET");
    let second = world.far.connect(own4(), PORT);
    let syn = world.far_sends().remove(0);
    world.give(&syn);
    // The first socket is free again, and would take it.
    world.far.socket(first).close();
    world.run();
    let before = world.sent.len();
    world.give(&syn);
    assert_eq!(world.sent.len(), before);
    world.far.send(second, GET);
    world.run();
    assert!(world.hear(second).0.starts_with(b"HTTP/1.1 200 OK"));
}

#[test]
fn another_place_is_another_address() {
    let other = [10, 9, 0, 7];
    let to_other = IpAddress::from(Ipv4Address::from(other));
    let mut world = homeless();
    let early = world.say(own4(), PORT, GET);
    assert_eq!(world.far.socket(early).state(), State::SynSent, "no place, no word");
    assert!(world.sent.is_empty());
    world.far.socket(early).abort();
    world.settle(PLACE);
    let half = world.say(own4(), PORT, &GET[..9]);
    world.settle(PLACE);
    world.settle(Tenancy { seed: 7, ..PLACE });
    world.far.send(half, &GET[9..]);
    world.run();
    assert!(world.hear(half).0.starts_with(b"HTTP/1.1 200 OK"), "the same place keeps connections");

    let half = world.say(own4(), PORT, &GET[..9]);
    let before = world.sent.len();
    world.settle(Tenancy { v4: other, v6: [0; 16], ..PLACE });
    world.far.send(half, &GET[9..]);
    world.run();
    let gone = world.say(own6(), PORT, GET);
    assert_eq!(world.far.socket(gone).state(), State::SynSent);
    assert_eq!(world.sent.len(), before, "the old address says nothing more");
    let text = page(&mut world, to_other);
    assert!(text.contains("v4\">10.9.0.7\n") && !text.contains("IPv6"), "{text}");

    let half = world.say(to_other, PORT, &GET[..9]);
    world.settle(Tenancy { v4: other, mtu: 1300, ..PLACE });
    world.far.send(half, &GET[9..]);
    world.run();
    assert!(world.hear(half).0.starts_with(b"HTTP/1.1 200 OK"), "an address that stays keeps its connections");

    world.settle(NOWHERE);
    let before = world.sent.len();
    let handle = world.say(to_other, PORT, GET);
    assert_eq!(world.far.socket(handle).state(), State::SynSent);
    assert_eq!(world.sent.len(), before);
    world.settle(Tenancy { v4: OWN4, v6: OWN6, ..PLACE });
    assert!(page(&mut world, own4()).contains("200 OK"));
}

#[test]
fn a_mesh_that_takes_nothing_is_not_waited_for() {
    let mut world = placed();
    let handles: Vec<_> = (0..CONNECTIONS).map(|_| world.far.connect(own4(), PORT)).collect();
    world.run();
    world.stuck = true;
    for _ in 0..200 {
        handles.iter().for_each(|handle| world.far.send(*handle, b"a: b\r\n"));
        world.run();
    }
    let woken = world.later(20 * CONNECTION_MICROS);
    assert!(woken < 50_000, "{woken}");
    world.stuck = false;
    world.run();
    assert!(page(&mut world, own6()).contains("200 OK"));
}
