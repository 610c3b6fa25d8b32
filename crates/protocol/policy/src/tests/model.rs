//! The flow table against a model that keeps every packet that passed and looks back.

use std::{vec, vec::Vec};

use proptest::{prelude::*, sample::select};

use super::{table::*, *};
use crate::flows;

#[derive(Debug, Clone)]
enum Step {
    Packet(Direction, Summary),
    Pass(u64),
    Isolate(bool),
}

fn direction() -> impl Strategy<Value = Direction> {
    select(vec![Direction::In, Direction::Out])
}

fn step() -> impl Strategy<Value = Step> {
    let port = || select(vec![80u16, 81, 5000, 8090]);
    let flags = select(vec![SYN, SYN, SYN_ACK, ACK, FIN, RST]);
    let who = || select(vec![1u8, 3, 4]);
    let kind = select(vec![EchoKind::Request, EchoKind::Reply]);
    prop_oneof![
        6 => (direction(), who(), port(), port(), flags)
            .prop_map(|(way, who, near, far, flags)| Step::Packet(way, segment(way, who, (near, far), flags))),
        4 => (direction(), who(), port(), port())
            .prop_map(|(way, who, near, far)| Step::Packet(way, datagram(way, who, (near, far)))),
        2 => (direction(), who(), kind).prop_map(|(way, who, kind)| Step::Packet(way, ping(way, who, kind, 7))),
        1 => select(vec![1, flows::ECHO, flows::HALF_OPEN, flows::UDP, flows::ESTABLISHED]).prop_map(Step::Pass),
        1 => any::<bool>().prop_map(Step::Isolate),
    ]
}

/// The flow that a packet would open, whoever the other end is.
fn opened_by(way: Direction, packet: &Summary, mesh: &Configuration) -> Flow {
    let remote = if way == Direction::In { packet.source } else { packet.destination };
    let role = mesh.peers[mesh.route(&remote).unwrap()].role;
    let port = match packet.transport {
        Transport::Tcp { destination, .. } | Transport::Udp { destination, .. } => destination,
        Transport::Echo { .. } => 0,
    };
    Flow { direction: way, role, protocol: packet.protocol(), port }
}

/// The same conversation: protocol and both ends, whichever way it goes.
fn ends(way: Direction, packet: &Summary) -> (Protocol, [(Ip, u16); 2]) {
    let (from, to) = match packet.transport {
        Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination } => (source, destination),
        Transport::Echo { id, .. } => (id, id),
    };
    let ends = [(packet.source, from), (packet.destination, to)];
    let [far, near] = ends;
    (packet.protocol(), if way == Direction::In { [near, far] } else { [far, near] })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1000))]

    /// Nothing passes but what a rule opens now, or what goes on with something that passed within the longest idle time,
    /// was opened in a direction that a rule names, and was not cut off by isolation since.
    #[test]
    fn what_passes_was_opened(
        rules in prop::collection::vec(select(vec!["in authority tcp 80", "in node tcp 80", "out node tcp 81", "in peer udp 5000", "out node udp 80", "out authority icmp", "in node icmp"]), 0..4),
        steps in prop::collection::vec(step(), 0..80),
    ) {
        let mesh = mesh(&rules);
        let mut table = Flows::new();
        let (mut now, mut isolated) = (0, false);
        let mut passed: Vec<(u64, Direction, Summary)> = Vec::new();
        for step in steps {
            let (way, packet) = match step {
                Step::Packet(way, packet) => (way, packet),
                Step::Pass(time) => {
                    now += time;
                    continue;
                }
                Step::Isolate(value) => {
                    isolated = value;
                    table.revise(&mesh, isolated);
                    if isolated {
                        passed.retain(|(_, way, packet)| opened_by(*way, packet, &mesh).role == Role::Authority);
                    }
                    continue;
                }
            };
            let remote = if way == Direction::In { packet.source } else { packet.destination };
            let peer = mesh.route(&remote).unwrap();
            let result = match way {
                Direction::In => table.inbound(now, &mesh, isolated, peer, &packet).map(Some),
                Direction::Out => table.outbound(now, &mesh, isolated, &packet).map(|to| { assert_eq!(to, peer); None }),
            };
            let named = decide(&mesh.rules, isolated, &opened_by(way, &packet, &mesh)).is_some();
            if result == Ok(Some(Inbound::Commands)) {
                prop_assert!(peer == AUTHORITY && named);
                continue;
            }
            if result == Ok(Some(Inbound::Records)) {
                prop_assert!(peer != AUTHORITY && named && !isolated);
                continue;
            }
            let opens = match packet.transport {
                Transport::Tcp { flags, .. } => flags.syn && !flags.ack,
                Transport::Udp { source, destination } => source != 8090 && destination != 8090,
                Transport::Echo { kind, .. } => kind == EchoKind::Request,
            };
            let goes_on = passed.iter().any(|(at, before, with)| {
                now - at < flows::ESTABLISHED && ends(*before, with) == ends(way, &packet)
            });
            if named && opens {
                prop_assert!(result.is_ok(), "{:?} {:?}", packet, result);
            }
            prop_assert!(result.is_err() || (named && opens) || goes_on, "{:?}", packet);
            if result.is_ok() && result != Ok(Some(Inbound::Echo)) {
                passed.push((now, way, packet));
            }
            prop_assert!(table.count(now) <= flows::FLOWS);
        }
    }
}
