//! The flow table, case by case.

use super::*;
use crate::flows::{ECHO, ESTABLISHED, FLOWS, HALF_CLOSED, HALF_OPEN, UDP};

pub const SYN: u8 = 0x02;
pub const SYN_ACK: u8 = 0x12;
pub const ACK: u8 = 0x10;
pub const FIN: u8 = 0x11;
pub const RST: u8 = 0x04;

/// TCP between the node's port and the peer's.
pub fn segment(direction: Direction, peer: u8, ports: (u16, u16), flags: u8) -> Summary {
    let (near, far) = ((v4(2), ports.0), (v4(peer), ports.1));
    let ((source, from), (destination, to)) = if direction == Direction::In { (far, near) } else { (near, far) };
    let flags = Flags { syn: flags & 2 != 0, ack: flags & 16 != 0, fin: flags & 1 != 0, rst: flags & 4 != 0 };
    Summary { source, destination, transport: Transport::Tcp { source: from, destination: to, flags } }
}

pub fn datagram(direction: Direction, peer: u8, ports: (u16, u16)) -> Summary {
    let Summary { source, destination, transport } = segment(direction, peer, ports, SYN);
    let Transport::Tcp { source: from, destination: to, .. } = transport else { unreachable!() };
    Summary { source, destination, transport: Transport::Udp { source: from, destination: to } }
}

pub fn ping(direction: Direction, peer: u8, kind: EchoKind, id: u16) -> Summary {
    let Summary { source, destination, .. } = segment(direction, peer, (1, 1), SYN);
    Summary { source, destination, transport: Transport::Echo { kind, id, sequence: 0 } }
}

/// A table under one mesh.
struct Table {
    flows: Flows,
    mesh: Configuration,
    isolated: bool,
    now: u64,
}

use Direction::{In, Out};

impl Table {
    fn new(rules: &[&str]) -> Self {
        Self { flows: Flows::new(), mesh: mesh(rules), isolated: false, now: 1 }
    }

    fn inn(&mut self, peer: usize, packet: &Summary) -> Result<Inbound, Denied> {
        self.flows.inbound(self.now, &self.mesh, self.isolated, peer, packet)
    }

    fn out(&mut self, packet: &Summary) -> Result<usize, Denied> {
        self.flows.outbound(self.now, &self.mesh, self.isolated, packet)
    }

    /// TCP with the node's role .3, which is peer NODE.
    fn tcp(&mut self, direction: Direction, ports: (u16, u16), flags: u8) -> Result<(), Denied> {
        let packet = segment(direction, 3, ports, flags);
        match direction {
            In => self.inn(NODE, &packet).map(|to| assert_eq!(to, Inbound::Flow)),
            Out => self.out(&packet).map(|to| assert_eq!(to, NODE)),
        }
    }

    fn revise(&mut self) {
        self.flows.revise(&self.mesh, self.isolated);
    }
}

#[test]
fn a_connection_is_opened_by_a_syn_that_a_rule_names_and_passes_both_ways() {
    let mut table = Table::new(&["in node tcp 80"]);
    for flags in [SYN_ACK, ACK, FIN, RST] {
        assert_eq!(table.tcp(In, (80, 4000), flags), Err(Denied::NoFlow));
        assert_eq!(table.tcp(Out, (80, 4000), flags), Err(Denied::NoFlow));
    }
    assert_eq!(table.tcp(In, (81, 4000), SYN), Err(Denied::Rule));
    assert_eq!(table.tcp(Out, (80, 4000), SYN), Err(Denied::Rule));
    assert_eq!(table.tcp(Out, (4000, 80), SYN), Err(Denied::Rule));
    assert_eq!(table.flows.count(1), 0);
    for (direction, flags) in
        [(In, SYN), (Out, SYN_ACK), (In, ACK), (In, ACK), (Out, ACK), (Out, FIN), (In, FIN), (Out, ACK)]
    {
        assert_eq!(table.tcp(direction, (80, 4000), flags), Ok(()));
    }
    // Another port is another connection.
    assert_eq!(table.tcp(Out, (80, 4001), ACK), Err(Denied::NoFlow));
    assert_eq!(table.tcp(Out, (81, 4000), ACK), Err(Denied::NoFlow));
}

#[test]
fn who_did_not_open_a_connection_opens_none_on_its_ports() {
    let mut table = Table::new(&["out node tcp 80"]);
    table.tcp(Out, (4000, 80), SYN).unwrap();
    assert_eq!(table.tcp(In, (4000, 80), SYN), Err(Denied::Rule));
    // Nor does its opener answer itself.
    assert_eq!(table.tcp(Out, (4000, 80), SYN_ACK), Err(Denied::NoFlow));
    for (direction, flags) in [(In, SYN_ACK), (Out, ACK), (In, ACK)] {
        table.tcp(direction, (4000, 80), flags).unwrap();
    }
    assert_eq!(table.tcp(In, (4000, 80), SYN), Err(Denied::Rule));
    assert_eq!(table.tcp(In, (4000, 80), ACK), Ok(()));
}

#[test]
fn a_reset_ends_a_connection_at_once() {
    for direction in [In, Out] {
        let mut table = Table::new(&["in node tcp 80"]);
        for (direction, flags) in [(In, SYN), (Out, SYN_ACK), (In, ACK), (direction, RST)] {
            table.tcp(direction, (80, 4000), flags).unwrap();
        }
        assert_eq!(table.flows.count(1), 0);
        assert_eq!(table.tcp(Out, (80, 4000), ACK), Err(Denied::NoFlow));
    }
}

#[test]
fn each_stage_has_its_time() {
    let opens = [(In, SYN), (Out, SYN_ACK), (In, ACK)];
    let ends = [(Out, FIN), (In, FIN)];
    let cases: [(&[_], &[_], u64); 5] = [
        (&opens[..1], &[], HALF_OPEN),
        (&opens[..2], &[], HALF_OPEN),
        (&opens, &[], ESTABLISHED),
        (&opens, &ends[..1], HALF_CLOSED),
        (&opens, &ends, HALF_OPEN),
    ];
    for (begin, end, idle) in cases {
        for (late, there) in [(idle - 1, true), (idle, false)] {
            let mut table = Table::new(&["in node tcp 80"]);
            for (direction, flags) in begin.iter().chain(end) {
                table.tcp(*direction, (80, 4000), *flags).unwrap();
            }
            table.now += late;
            assert_eq!(table.tcp(Out, (80, 4000), ACK).is_ok(), there, "{begin:?} {end:?} {late}");
        }
    }
    // Every packet begins the time anew.
    let mut table = Table::new(&["in node tcp 80"]);
    opens.iter().for_each(|(direction, flags)| table.tcp(*direction, (80, 4000), *flags).unwrap());
    for _ in 0..5 {
        table.now += ESTABLISHED - 1;
        table.tcp(Out, (80, 4000), ACK).unwrap();
    }
}

#[test]
fn the_opener_may_use_its_ports_again_after_the_end() {
    let mut table = Table::new(&["in node tcp 80"]);
    for (direction, flags) in [(In, SYN), (Out, SYN_ACK), (In, ACK), (Out, FIN), (In, FIN), (In, SYN)] {
        table.tcp(direction, (80, 4000), flags).unwrap();
    }
    table.tcp(Out, (80, 4000), SYN_ACK).unwrap();
    table.tcp(In, (80, 4000), ACK).unwrap();
    table.now += HALF_OPEN;
    assert_eq!(table.tcp(In, (80, 4000), ACK), Ok(()));
}

#[test]
fn datagrams_are_answered_while_somebody_speaks() {
    let mut table = Table::new(&["in peer udp 5000", "out peer udp 53"]);
    assert_eq!(table.out(&datagram(Out, 4, (5000, 4000))), Err(Denied::Rule));
    assert_eq!(table.inn(PEER, &datagram(In, 4, (5000, 4000))), Ok(Inbound::Flow));
    for _ in 0..3 {
        table.now += UDP - 1;
        assert_eq!(table.out(&datagram(Out, 4, (5000, 4000))), Ok(PEER));
    }
    assert_eq!(table.out(&datagram(Out, 4, (5000, 4001))), Err(Denied::Rule));
    assert_eq!(table.out(&datagram(Out, 3, (5000, 4000))), Err(Denied::Rule));
    table.now += UDP;
    assert_eq!(table.out(&datagram(Out, 4, (5000, 4000))), Err(Denied::Rule));
    assert_eq!(table.out(&datagram(Out, 4, (4000, 53))), Ok(PEER));
    assert_eq!(table.inn(PEER, &datagram(In, 4, (4000, 53))), Ok(Inbound::Flow));
}

#[test]
fn echo_is_asked_and_answered() {
    use EchoKind::{Reply, Request};
    let mut table = Table::new(&["in authority icmp", "out node icmp"]);
    assert_eq!(table.inn(AUTHORITY, &ping(In, 1, Request, 7)), Ok(Inbound::Echo));
    assert_eq!(table.inn(NODE, &ping(In, 3, Request, 7)), Err(Denied::Rule));
    // The mesh answers that itself: the workload answers nothing.
    assert_eq!(table.out(&ping(Out, 1, Reply, 7)), Err(Denied::NoFlow));
    assert_eq!(table.flows.count(1), 0);
    assert_eq!(table.inn(NODE, &ping(In, 3, Reply, 7)), Err(Denied::NoFlow));
    assert_eq!(table.out(&ping(Out, 3, Request, 7)), Ok(NODE));
    assert_eq!(table.inn(NODE, &ping(In, 3, Reply, 8)), Err(Denied::NoFlow));
    assert_eq!(table.inn(NODE, &ping(In, 3, Reply, 7)), Ok(Inbound::Flow));
    assert_eq!(table.out(&ping(Out, 3, Reply, 7)), Err(Denied::NoFlow));
    assert_eq!(table.inn(NODE, &ping(In, 3, Request, 7)), Err(Denied::Rule));
    table.now += ECHO;
    assert_eq!(table.inn(NODE, &ping(In, 3, Reply, 7)), Err(Denied::NoFlow));
}

#[test]
fn commands_come_from_the_authority_and_nothing_answers_them() {
    // Rules cannot be written for these ports; others for the authority do not help.
    let mut table = Table::new(&["in authority udp 5000", "out authority udp 5000", "in node udp 5000"]);
    assert_eq!(table.inn(AUTHORITY, &datagram(In, 1, (8090, 4000))), Ok(Inbound::Commands));
    assert_eq!(table.inn(AUTHORITY, &datagram(In, 1, (8090, 8090))), Ok(Inbound::Commands));
    assert_eq!(table.flows.count(1), 0);
    for peer in [(NODE, 3), (PEER, 4)] {
        assert_eq!(table.inn(peer.0, &datagram(In, peer.1, (8090, 8090))), Ok(Inbound::Records));
        assert_eq!(table.inn(peer.0, &datagram(In, peer.1, (5000, 8090))), Err(Denied::Rule));
    }
    assert_eq!(table.flows.count(1), 0);
    assert_eq!(table.inn(AUTHORITY, &datagram(In, 1, (8091, 8091))), Err(Denied::Rule));
    for ports in [(8090, 4000), (8090, 8090), (4000, 8090), (4000, 8091), (8091, 8091), (8090, 5000), (5000, 8090)] {
        for peer in [1, 3, 4] {
            assert_eq!(table.out(&datagram(Out, peer, ports)), Err(Denied::Rule), "{ports:?}");
        }
    }
    // Not even as the answer to what a rule allows.
    assert_eq!(table.inn(AUTHORITY, &datagram(In, 1, (5000, 8090))), Err(Denied::Rule));
    assert_eq!(table.inn(AUTHORITY, &datagram(In, 1, (5000, 4000))), Ok(Inbound::Flow));
    table.isolated = true;
    assert_eq!(table.inn(AUTHORITY, &datagram(In, 1, (8090, 4000))), Ok(Inbound::Commands));
    assert_eq!(table.inn(PEER, &datagram(In, 4, (8090, 8090))), Err(Denied::Rule));
}

#[test]
fn addresses_are_the_peers_and_the_nodes() {
    let mut table = Table::new(&["in node tcp 80", "out node tcp 80", "in authority tcp 80"]);
    // Another peer's address, nobody's, the node's own; to another than the node.
    assert_eq!(table.inn(AUTHORITY, &segment(In, 3, (80, 4000), SYN)), Err(Denied::Route));
    assert_eq!(table.inn(NODE, &segment(In, 1, (80, 4000), SYN)), Err(Denied::Route));
    assert_eq!(table.inn(NODE, &segment(In, 99, (80, 4000), SYN)), Err(Denied::Route));
    assert_eq!(table.out(&segment(Out, 99, (4000, 80), SYN)), Err(Denied::Route));
    let mut to_another = segment(In, 3, (80, 4000), SYN);
    to_another.destination = v4(4);
    assert_eq!(table.inn(NODE, &to_another), Err(Denied::Address));
    let mut from_another = segment(Out, 3, (4000, 80), SYN);
    from_another.source = v4(4);
    assert_eq!(table.out(&from_another), Err(Denied::Address));
    // A peer that may have every address does not have the node's.
    table.mesh.peers[NODE].allowed[0] = Prefix::v4([10, 8, 0, 0], 24);
    assert_eq!(table.inn(NODE, &segment(In, 2, (80, 4000), SYN)), Err(Denied::Route));
    assert_eq!(table.out(&segment(Out, 2, (4000, 80), SYN)), Err(Denied::Route));
    assert_eq!(table.inn(NODE, &segment(In, 77, (80, 4000), SYN)), Ok(Inbound::Flow));
    // An established flow does not pass to another peer.
    assert_eq!(table.inn(AUTHORITY, &segment(In, 77, (80, 4000), ACK)), Err(Denied::Route));
    assert_eq!(table.inn(9, &segment(In, 77, (80, 4000), ACK)), Err(Denied::Route));
}

#[test]
fn a_change_of_rules_peers_or_isolation_ends_what_would_not_be_opened_now() {
    let open = || {
        let mut table = Table::new(&["in node tcp 80", "in authority tcp 80", "out peer udp 53"]);
        table.tcp(In, (80, 4000), SYN).unwrap();
        table.inn(AUTHORITY, &segment(In, 1, (80, 4000), SYN)).unwrap();
        table.out(&datagram(Out, 4, (4000, 53))).unwrap();
        table
    };
    let mut table = open();
    table.revise();
    assert_eq!(table.flows.count(1), 3);
    table.mesh.rules.swap_remove(0);
    table.revise();
    assert_eq!(table.tcp(Out, (80, 4000), SYN_ACK), Err(Denied::NoFlow));
    assert_eq!(table.flows.count(1), 2);

    let mut table = open();
    table.isolated = true;
    table.revise();
    assert_eq!(table.flows.count(1), 1);
    assert_eq!(table.out(&segment(Out, 1, (80, 4000), SYN_ACK)), Ok(AUTHORITY));
    // What isolation ended does not come back with the rejoin.
    table.isolated = false;
    table.revise();
    assert_eq!(table.tcp(Out, (80, 4000), SYN_ACK), Err(Denied::NoFlow));

    // A peer has moved to another place, has another role, is gone; the node has another address.
    let mut table = open();
    table.mesh.peers.swap(NODE, PEER);
    table.revise();
    assert_eq!((table.flows.count(1), table.out(&segment(Out, 3, (80, 4000), SYN_ACK))), (3, Ok(PEER)));
    table.mesh.peers[PEER].role = Role::Peer;
    table.revise();
    assert_eq!(table.flows.count(1), 2);
    table.mesh.peers.remove(AUTHORITY);
    table.revise();
    assert_eq!(table.flows.count(1), 1);
    table.mesh.addresses[0] = Prefix::v4([10, 8, 0, 9], 24);
    table.revise();
    assert_eq!(table.flows.count(1), 0);

    let mut table = open();
    table.flows.clear();
    assert_eq!(table.flows.count(1), 0);
}

#[test]
fn a_flood_of_one_peer_leaves_the_flows_of_others_and_its_own_connections() {
    let mut table = Table::new(&["in node tcp 80", "in node udp 5000", "in peer tcp 80", "in peer udp 5000"]);
    let share = FLOWS / 3;
    table.inn(PEER, &segment(In, 4, (80, 4000), SYN)).unwrap();
    table.inn(PEER, &datagram(In, 4, (5000, 4000))).unwrap();
    for (direction, flags) in [(In, SYN), (Out, SYN_ACK), (In, ACK)] {
        table.tcp(direction, (80, 1), flags).unwrap();
    }
    for n in 0..2 * FLOWS as u16 {
        table.now += 1;
        table.tcp(In, (80, 1000 + n), SYN).unwrap();
        table.inn(NODE, &datagram(In, 3, (5000, 1000 + n))).unwrap();
    }
    assert_eq!(table.flows.count(table.now), share + 2);
    assert_eq!(table.out(&segment(Out, 4, (80, 4000), SYN_ACK)), Ok(PEER));
    assert_eq!(table.out(&datagram(Out, 4, (5000, 4000))), Ok(PEER));
    assert_eq!(table.tcp(Out, (80, 1), ACK), Ok(()));
    // The least recently used went first.
    let last = 1000 + 2 * FLOWS as u16 - 1;
    assert_eq!(table.tcp(Out, (80, last), SYN_ACK), Ok(()));
    assert_eq!(table.tcp(Out, (80, 1000), SYN_ACK), Err(Denied::NoFlow));
}

#[test]
fn a_share_that_is_full_of_connections_takes_no_more() {
    let mut table = Table::new(&["in node tcp 80", "in peer tcp 80"]);
    let share = (FLOWS / 3) as u16;
    for n in 0..share {
        for (direction, flags) in [(In, SYN), (Out, SYN_ACK), (In, ACK)] {
            table.tcp(direction, (80, 1000 + n), flags).unwrap();
        }
    }
    assert_eq!(table.tcp(In, (80, 999), SYN), Err(Denied::Full));
    assert_eq!(table.inn(PEER, &segment(In, 4, (80, 4000), SYN)), Ok(Inbound::Flow));
    for n in 0..share {
        table.tcp(Out, (80, 1000 + n), ACK).unwrap();
    }
    table.tcp(Out, (80, 1000), RST).unwrap();
    assert_eq!(table.tcp(In, (80, 999), SYN), Ok(()));
}

#[test]
fn more_peers_have_smaller_shares() {
    let mut table = Table::new(&["in node udp 5000"]);
    table.mesh.peers.remove(PEER);
    table.mesh.peers.remove(AUTHORITY);
    for n in 0..300 {
        table.now += 1;
        table.inn(0, &datagram(In, 3, (5000, 1000 + n))).unwrap();
    }
    assert_eq!(table.flows.count(table.now), FLOWS);
    for number in 5..8 {
        assert!(table.mesh.peers.push(peer(Role::Node, number)).is_ok());
    }
    table.revise();
    assert_eq!(table.flows.count(table.now), FLOWS / 4);
    // The latest stay.
    assert_eq!(table.out(&datagram(Out, 3, (5000, 1299))), Ok(0));
    assert_eq!(table.out(&datagram(Out, 3, (5000, 1200))), Err(Denied::Rule));
    assert_eq!(table.inn(1, &datagram(In, 5, (5000, 1))), Ok(Inbound::Flow));
}
