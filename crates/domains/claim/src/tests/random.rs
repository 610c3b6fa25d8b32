//! Random and half-right input: nothing panics, nothing leaves that may not, and parsers do not care how
//! their input is cut.

use core::ops::RangeInclusive;
use std::{vec, vec::Vec};

use proptest::prelude::*;
use smoltcp::wire::TcpControl;
use tungstenite::protocol::frame::{
    Frame,
    coding::{Data, OpCode},
};

use super::{
    admin::{Admin, MESSAGES, Message, frame, head},
    frames::{SYN, Segment, TO_NODE, ip, syn_ack, tcp, tcp_to},
    world::World,
};
use crate::{
    upgrade::{Arrived, Head, RequestLine},
    ws::{Malformed, Receiver},
};

const TOKEN: [u8; 16] = [0xab; 16];

/// Where a stream is cut, as lengths of its pieces.
fn cuts() -> impl Strategy<Value = Vec<usize>> {
    prop::collection::vec(1usize..40, 1..40)
}

fn pieces<'b>(mut bytes: &'b [u8], cuts: &[usize]) -> Vec<&'b [u8]> {
    let mut pieces = Vec::new();
    for cut in cuts.iter().cycle() {
        let (piece, rest) = bytes.split_at((*cut).min(bytes.len()));
        if piece.is_empty() {
            break;
        }
        pieces.push(piece);
        bytes = rest;
    }
    pieces
}

/// What a head comes to: how many bytes were taken, and the answer.
fn read_head(pieces: &[&[u8]]) -> (usize, Arrived, Option<[u8; 28]>) {
    let mut head = Head::new();
    let mut taken = 0;
    for piece in pieces {
        let (some, arrived) = head.feed(piece);
        taken += some;
        if arrived != Arrived::Part {
            return (taken, arrived, head.accept(&RequestLine::new(&TOKEN)));
        }
    }
    (taken, Arrived::Part, None)
}

fn read_frames(pieces: &[&[u8]], allowed: &RangeInclusive<usize>) -> (Vec<Vec<u8>>, bool) {
    let mut receiver = Receiver::new();
    let mut buffer = vec![0; 5000];
    let mut payloads = Vec::new();
    for piece in pieces {
        let mut rest = *piece;
        while !rest.is_empty() {
            match receiver.feed(rest, allowed, &mut buffer) {
                Err(Malformed) => return (payloads, true),
                Ok((taken, length)) => {
                    assert!(taken > 0);
                    rest = &rest[taken..];
                    payloads.extend(length.map(|length| buffer[..length].to_vec()));
                }
            }
        }
    }
    (payloads, false)
}

/// A head with a few bytes changed, or not a head at all.
fn heads() -> impl Strategy<Value = Vec<u8>> {
    let changed = prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4).prop_map(|changes| {
        let mut bytes = head(&TOKEN).into_bytes();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        bytes.extend(b"behind");
        bytes
    });
    prop_oneof![4 => changed, 1 => prop::collection::vec(any::<u8>(), 0..1500)]
}

fn streams() -> impl Strategy<Value = Vec<u8>> {
    let whole = prop::collection::vec(any::<u8>(), 1..300).prop_map(|payload| frame(&payload));
    let any = prop::collection::vec(any::<u8>(), 0..40);
    prop::collection::vec(prop_oneof![3 => whole, 1 => any], 0..6).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn a_head_is_read_the_same_however_it_is_cut(bytes in heads(), cuts in cuts()) {
        let whole = read_head(&[&bytes]);
        prop_assert_eq!(whole, read_head(&pieces(&bytes, &cuts)));
        prop_assert!(whole.2.is_none() || whole.0 == bytes.len() - 6);
    }

    #[test]
    fn frames_are_read_the_same_however_they_are_cut(bytes in streams(), cuts in cuts()) {
        let whole = read_frames(&[&bytes], &(1..=280));
        prop_assert_eq!(whole, read_frames(&pieces(&bytes, &cuts), &(1..=280)));
    }

    #[test]
    fn a_frame_is_read_exactly_if_it_is_one_of_ours(
        payload in prop::collection::vec(any::<u8>(), 0..400),
        opcode in 0u8..3,
        masked: bool,
        last: bool,
        cuts in cuts(),
    ) {
        let opcode = OpCode::Data([Data::Continue, Data::Text, Data::Binary][usize::from(opcode)]);
        let mut theirs = Frame::message(payload.clone(), opcode, last);
        theirs.header_mut().mask = masked.then_some([1, 2, 3, 4]);
        let mut bytes = Vec::new();
        theirs.format(&mut bytes).unwrap();
        let ours = masked && last && opcode == OpCode::Data(Data::Binary) && (100..=300).contains(&payload.len());
        let (payloads, malformed) = read_frames(&pieces(&bytes, &cuts), &(100..=300));
        prop_assert_eq!(malformed, !ours);
        prop_assert_eq!(payloads, if ours { vec![payload] } else { vec![] });
    }
}

/// What a hostile peer may put on the wire next.
#[derive(Debug, Clone)]
enum Act {
    Bytes(Vec<u8>),
    Packet(u8, Vec<u8>),
    Tcp {
        port: u8,
        control: u8,
        seq: i32,
        ack: i32,
        window: u16,
        urgent: bool,
        payload: Vec<u8>,
    },
    /// One of these numbers is the right one.
    Near {
        seq: i8,
        ack: i8,
        control: u8,
        window: u16,
        len: u16,
    },
    Wait(u16),
    Connect,
    Reopen,
}

fn acts() -> impl Strategy<Value = Act> {
    let bytes = || prop::collection::vec(any::<u8>(), 0..100);
    prop_oneof![
        1 => bytes().prop_map(Act::Bytes),
        1 => (prop::sample::select(vec![6u8, 58, 0, 17, 44]), bytes()).prop_map(|(header, bytes)| Act::Packet(header, bytes)),
        2 => (any::<u8>(), any::<u8>(), any::<i32>(), any::<i32>(), any::<u16>(), any::<bool>(), bytes()).prop_map(
            |(port, control, seq, ack, window, urgent, payload)| Act::Tcp { port, control, seq, ack, window, urgent, payload }
        ),
        12 => (-3i8..3, -3i8..3, any::<u8>(), prop_oneof![Just(0), Just(1), any::<u16>()], prop_oneof![3 => Just(0), 1 => 1u16..1400])
            .prop_map(|(seq, ack, control, window, len)| Act::Near { seq, ack, control, window, len }),
        2 => (0u16..3000).prop_map(Act::Wait),
        1 => Just(Act::Connect),
        1 => Just(Act::Reopen),
    ]
}

fn control(number: u8) -> TcpControl {
    // Mostly data.
    match number {
        0..=10 => TcpControl::Rst,
        11..=25 => TcpControl::Fin,
        26..=40 => TcpControl::Syn,
        41..=140 => TcpControl::None,
        _ => TcpControl::Psh,
    }
}

/// A connection that a hostile peer keeps by hand: what it has sent and what it was told.
struct Hand {
    port: u16,
    seq: i32,
    ack: i32,
}

impl Hand {
    /// Opens a connection and says something on it.
    fn connect(world: &mut World, port: u16, seq: i32, payload: &[u8]) -> Option<Self> {
        let seen = world.frames.len();
        world.inject(tcp(TO_NODE, &Segment { port, seq, ..SYN }));
        world.pump();
        let (_, first) = world.frames[seen..].iter().find_map(|frame| syn_ack(frame))?;
        let mut hand = Self { port, seq: seq.wrapping_add(1), ack: first.wrapping_add(1) };
        hand.say(world, TcpControl::Psh, 0, 0, 8000, payload);
        Some(hand)
    }

    fn say(&mut self, world: &mut World, control: TcpControl, seq: i8, ack: i8, window: u16, payload: &[u8]) {
        let segment = Segment {
            port: self.port,
            control,
            seq: self.seq.wrapping_add(i32::from(seq) * 40),
            ack: Some(self.ack.wrapping_add(i32::from(ack) * 40)),
            payload,
        };
        world.inject(tcp_to(TO_NODE, 9443, &segment, |bytes| bytes[14..16].copy_from_slice(&window.to_be_bytes())));
        world.pump();
        if seq == 0 {
            self.seq = self.seq.wrapping_add(payload.len() as i32);
        }
    }
}

proptest! {
    /// `World` watches every frame that leaves; and after all of it a claim goes through.
    #[test]
    fn a_hostile_peer_draws_nothing_but_what_may_leave(
        acts in prop::collection::vec(acts(), 1..60),
        started: bool,
        first in prop_oneof![Just(i32::MAX - 50), Just(-50), any::<i32>()],
    ) {
        let mut world = World::open();
        // The peer's own stack does not disturb.
        world.cut = true;
        let mut port = 2000;
        let mut hand = None;
        let opening = |world: &World| if started { head(&world.token()).into_bytes() } else { b"GET /".to_vec() };
        for act in acts {
            port += 1;
            match act {
                Act::Bytes(bytes) => world.inject(bytes),
                Act::Packet(header, bytes) => world.inject(ip(TO_NODE, header, 255, &bytes)),
                Act::Tcp { port, control: number, seq, ack, window, urgent, payload } => {
                    let ack = (number % 5 != 0).then_some(ack);
                    let segment = Segment { port: u16::from(port), control: control(number), seq, ack, payload: &payload };
                    world.inject(tcp_to(TO_NODE, 9443, &segment, |bytes| {
                        bytes[14..16].copy_from_slice(&window.to_be_bytes());
                        bytes[13] |= u8::from(urgent) << 5;
                    }));
                }
                Act::Near { seq, ack, control: number, window, len } => {
                    if hand.is_none() {
                        let opening = opening(&world);
                        hand = Hand::connect(&mut world, port, first, &opening);
                    }
                    if let Some(hand) = &mut hand {
                        hand.say(&mut world, control(number), seq, ack, window, &vec![7; usize::from(len)]);
                    }
                }
                Act::Wait(ms) => {
                    world.now += u64::from(ms) * 1000;
                    world.pump();
                }
                Act::Connect => {
                    let opening = opening(&world);
                    hand = Hand::connect(&mut world, port, first, &opening);
                }
                Act::Reopen => {
                    world.reopen();
                    hand = None;
                }
            }
            world.pump();
        }
        world.cut = false;
        world.reopen();
        super::admin::claim(&mut world);
        prop_assert!(world.keystore.owned);
    }

    /// A claim of which each message arrives changed, cut or late, at random.
    #[test]
    fn a_broken_exchange_ends_or_waits(
        at in 1usize..4,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..3),
        keep in any::<prop::sample::Index>(),
        whole: bool,
        cuts in cuts(),
    ) {
        let mut world = World::open();
        let mut admin = Admin::connect(&mut world);
        let message = MESSAGES[at];
        admin.say_until(&mut world, message);
        let right = frame(&admin.payload(&world, message));
        let mut bytes = right.clone();
        for (at, byte) in changes {
            *at.get_mut(&mut bytes) = byte;
        }
        if !whole {
            bytes.truncate(keep.index(bytes.len()));
        }
        // Cut so that it is not sent byte by byte for long.
        for piece in pieces(&bytes, &cuts.iter().map(|cut| cut * 10).collect::<Vec<_>>()) {
            world.peer.send(admin.handle, piece);
            world.pump();
        }
        let answered = admin_heard(&mut world, &admin);
        if bytes == right {
            prop_assert!(answered || message == Message::Acknowledgement);
            prop_assert_eq!(world.ended(), None);
        } else {
            prop_assert!(!answered);
            prop_assert!(!world.keystore.owned);
            prop_assert!(world.ended().is_some() || !whole || right[..bytes.len()] != bytes);
            world.run_for(100);
            world.now += 20_000_000;
            world.assert_silent();
            prop_assert!(world.ended().is_some());
        }
    }
}

fn admin_heard(world: &mut World, admin: &Admin) -> bool {
    !world.peer.receive(admin.handle).is_empty()
}
