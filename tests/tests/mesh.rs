//! What a claimed node does in its mesh, and above all what it does not: policy, commands, updates, telemetry, hostile
//! traffic. The other members are `wireguard-go`; what they send inside the tunnel comes from the kernel's sockets.

use std::{net::Ipv6Addr, thread, time::Instant};

use genesis_tests::{
    PATIENCE,
    bed::Bed,
    hostile,
    member::{Claimed, Implementation, Member, NODE, inner4, inner6},
    station::udp_frame,
};
use policy::Role;
use wire::{
    MESH_PORT,
    command::Operation,
    telemetry::{CommandResult, Reason, Telemetry},
};
use zerocopy::IntoBytes;

const GO: Implementation = Implementation::WireguardGo;

/// The authority with its node, and the telemetry that comes.
struct Fleet {
    bed: Bed,
    authority: Member,
    node: Claimed,
}

impl Fleet {
    fn new(rules: &[&str], tenant: Option<&str>) -> Self {
        let bed = Bed::new();
        let mut authority = Member::start(&bed, "authority", 1, GO, true);
        let peer = authority.as_peer(Role::Authority, 1);
        let node = Claimed::new(&bed, vec![peer], rules, tenant);
        Self::with(bed, authority, node)
    }

    fn with(bed: Bed, mut authority: Member, node: Claimed) -> Self {
        authority.meet(&node, true);
        authority.listens();
        let mut this = Self { bed, authority, node };
        this.telemetry(|_| true);
        this
    }

    /// The next record that `wanted` takes. Records come by themselves.
    fn telemetry(&mut self, wanted: impl Fn(&Telemetry) -> bool) -> Telemetry {
        let deadline = Instant::now() + PATIENCE;
        let mut last = None;
        loop {
            if let Some(record) = self.authority.record() {
                if wanted(&record) {
                    return record;
                }
                last = Some(record);
            }
            assert!(Instant::now() < deadline, "no such record; the last: {last:?}\n{}", self.node.node.console());
            thread::yield_now();
        }
    }

    /// Says it until telemetry shows that it was taken, as an administrator does. Returns the result.
    fn command(&mut self, operation: impl Into<u8>, argument: u32) -> CommandResult {
        let operation = operation.into();
        let command = self.node.command(operation, argument);
        let counter = self.node.counter();
        self.authority.say(command.as_bytes());
        let (deadline, mut tries) = (Instant::now() + PATIENCE, 0);
        loop {
            let record = self.telemetry(|_| true);
            if record.counter.get() == counter {
                assert_eq!(record.operation, operation);
                return record.result().expect("a known result");
            }
            tries += 1;
            if tries % 50 == 0 {
                self.authority.say(command.as_bytes());
            }
            // Whoever is told to rotate just after a handshake is not answered, since wireguard-go takes no second initiation
            // within 20 ms: he begins anew after 5 s, and hears nothing until then.
            assert!(Instant::now() < deadline, "the command was not taken: {record:?}");
        }
    }

    fn pings(&mut self) -> bool {
        let [a, b, c, d] = inner4(NODE);
        self.authority.host.hears(&format!("ping -n -c 2 -i 0.3 -W 2 {a}.{b}.{c}.{d}"))
    }
}

/// How a TCP connection to the node goes: connected, refused, or no word.
fn tcp(member: &mut Member, port: u16) -> String {
    let [a, b, c, d] = inner4(NODE);
    let command = member.probe(&format!("connect {a}.{b}.{c}.{d}:{port} 1500"));
    let said = member.host.run(&command);
    match (said.code, said.text) {
        (0, _) => "connected".into(),
        (_, text) if text.contains("refused") => "refused".into(),
        (_, text) if text.contains("timed out") => "no word".into(),
        (_, text) => text,
    }
}

#[test]
fn without_a_rule_a_claimed_node_is_as_silent_as_in_hold() {
    let mut fleet = Fleet::new(&[], None);
    let before = fleet.telemetry(|_| true).dropped(Reason::Policy);
    assert!(!fleet.pings());
    for port in [80, 22, 8090, 8091, 9443] {
        assert_eq!(tcp(&mut fleet.authority, port), "no word", "port {port}");
    }
    let quiet = fleet.telemetry(|record| record.dropped(Reason::Policy) > before);
    // Outside the tunnel, from a stranger: everything there is, and datagrams to WireGuard's port.
    let target = fleet.node.node.target();
    let stranger = fleet.bed.station("stranger", 66);
    let from = (stranger.mac, stranger.ip);
    fleet.bed.mark();
    let zoo = hostile::zoo(from, target, &[0; 16]).into_iter();
    let all = zoo.chain(hostile::tcp_scan(from, target)).chain(hostile::udp_scan(from, target));
    fleet.bed.deliver(&fleet.node.node, &stranger, all.map(|(_, frame)| frame));
    let junk =
        (1..=4_u8).flat_map(|kind| [0, 1, 31, 32, 63, 64, 91, 92, 147, 148, 149, 1400].map(|length| (kind, length)));
    let junk = junk.map(|(kind, length)| {
        let mut payload = vec![0x5a; length];
        let head = [kind, 0, 0, 0];
        let copied = length.min(4);
        payload[..copied].copy_from_slice(&head[..copied]);
        udp_frame(from, (target.mac, target.ip), (MESH_PORT, MESH_PORT), &payload)
    });
    fleet.bed.deliver(&fleet.node.node, &stranger, junk);
    // What was sent is behind us when a later record comes. The frames that were dropped are in it.
    let sequence = fleet.telemetry(|_| true).sequence.get();
    let counts = |record: &Telemetry| [record.malformed(), record.refused()];
    let after = fleet.telemetry(|record| record.sequence.get() > sequence + 1);
    assert!(counts(&after).into_iter().zip(counts(&quiet)).all(|(after, before)| after > before + 10), "{after:?}");
    assert_eq!(after.dropped(Reason::Own), quiet.dropped(Reason::Own), "the node's own domains keep to the rules");
    let host = fleet.authority.host.link_local();
    for frame in fleet.bed.frames_from(&fleet.node.node) {
        let (next, to) = (frame[20], Ipv6Addr::from(<[u8; 16]>::try_from(&frame[38..54]).expect("16 bytes")));
        let solicited = to.octets()[..13] == [0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff]
            && to.octets()[13..] == host.octets()[13..];
        assert!(to == host || (next == 58 && solicited), "to {to}: {frame:02x?}");
        let mesh = next == 17 && frame[54..56] == MESH_PORT.to_be_bytes();
        let neighbour = next == 58 && [135, 136].contains(&frame[54]);
        assert!(mesh || neighbour, "{frame:02x?}");
    }
}

#[test]
fn each_rule_opens_just_what_it_names() {
    // Echo.
    let mut fleet = Fleet::new(&["in authority icmp"], None);
    fleet.authority.ping();
    assert_eq!(tcp(&mut fleet.authority, 80), "no word");
    drop(fleet);
    // The page.
    let mut fleet = Fleet::new(&["in authority tcp 80"], None);
    let page = fleet.authority.host.until(&format!("curl -sS --max-time 5 http://[{}]/", inner6(NODE)));
    assert!(page.contains("id=\"beats\""), "{page}");
    assert!(!fleet.pings());
    for port in [79, 81, 443, 8090] {
        assert_eq!(tcp(&mut fleet.authority, port), "no word", "port {port}");
    }
    drop(fleet);
    // A port where nobody listens: the tenant says so, and only there.
    let mut fleet = Fleet::new(&["in authority tcp 81"], None);
    let deadline = Instant::now() + PATIENCE;
    while tcp(&mut fleet.authority, 81) != "refused" {
        assert!(Instant::now() < deadline, "the rule opens nothing");
    }
    assert_eq!(tcp(&mut fleet.authority, 80), "no word");
}

#[test]
fn a_rule_is_its_roles_alone() {
    let bed = Bed::new();
    let mut authority = Member::start(&bed, "authority", 1, GO, true);
    let mut other = Member::start(&bed, "other", 3, GO, true);
    let peers = vec![authority.as_peer(Role::Authority, 1), other.as_peer(Role::Peer, 1)];
    let node = Claimed::new(&bed, peers, &["in peer icmp", "in authority tcp 80"], None);
    other.meet(&node, true);
    let mut fleet = Fleet::with(bed, authority, node);
    other.ping();
    assert_eq!(tcp(&mut other, 80), "no word");
    assert_eq!(tcp(&mut fleet.authority, 80), "connected");
    assert!(!fleet.pings());
    // Commands are the authority's, whoever knows the key.
    let command = fleet.node.command(Operation::Status, 0);
    let before = fleet.telemetry(|_| true);
    other.say(command.as_bytes());
    let after = fleet.telemetry(|record| record.dropped(Reason::Command) > before.dropped(Reason::Command));
    assert_eq!(after.counter, before.counter);
    // Another's address inside the tunnel does not help.
    let [a, b, c, d] = inner4(1);
    let address = format!("{a}.{b}.{c}.{d}");
    let [e, f, g, h] = inner4(NODE);
    let spoof = format!(
        "ip address add {address}/32 dev {} && ip route add {e}.{f}.{g}.{h}/32 dev {0} src {address} && {}",
        other.interface,
        other.probe(&format!("udp-send {e}.{f}.{g}.{h}:8090 {}", wire::Hex(command.as_bytes()))),
    );
    other.host.ok(&spoof);
    let sequence = fleet.telemetry(|_| true).sequence.get();
    let after = fleet.telemetry(|record| record.sequence.get() > sequence + 2);
    assert_eq!(after.counter, before.counter, "a command with a false source was obeyed");
}

#[test]
fn commands_are_obeyed_once_and_never_answered() {
    let mut fleet = Fleet::new(&["in authority icmp"], None);
    assert_eq!(fleet.command(Operation::Status, 0), CommandResult::Done);
    let good = fleet.node.command(Operation::Status, 0);
    fleet.authority.host.ok(&format!(
        "dumpcap -q -i {} -f 'udp port 8090' -w /run/commands.pcap >/run/dumpcap 2>&1 & echo $! >/run/dumpcap.pid",
        fleet.authority.interface
    ));
    fleet.authority.host.until("grep -q File: /run/dumpcap");
    let counter = fleet.node.counter();
    // Any bit changed, cut short, too long: nothing. The good one: once.
    let mut bad: Vec<Vec<u8>> = [0, 8, 20, 50, 79, 80, 127]
        .map(|bit: usize| {
            let mut copy = good.as_bytes().to_vec();
            copy[bit / 8] ^= 1 << (bit % 8);
            copy
        })
        .to_vec();
    bad.extend([good.as_bytes()[..15].to_vec(), [good.as_bytes(), &[0]].concat()]);
    let before = fleet.telemetry(|_| true).dropped(Reason::Command);
    for datagram in &bad {
        fleet.authority.say(datagram);
    }
    let count = bad.len() as u64;
    let seen = fleet.telemetry(|record| record.dropped(Reason::Command) >= before + count);
    assert!(seen.counter.get() < counter);
    fleet.authority.say(good.as_bytes());
    let taken = fleet.telemetry(|record| record.counter.get() == counter);
    assert_eq!(taken.result(), Some(CommandResult::Done));
    fleet.authority.say(good.as_bytes());
    fleet.telemetry(|record| record.dropped(Reason::Command) > taken.dropped(Reason::Command));
    assert_eq!(fleet.command(77u8, 0), CommandResult::Unknown);
    fleet.authority.host.ok("kill -INT $(cat /run/dumpcap.pid)");
    let text = fleet.authority.host.until("tshark -r /run/commands.pcap -T fields -e ip.src");
    let [a, b, c, d] = inner4(NODE);
    assert!(text.lines().count() > bad.len(), "the capture has what was sent: {text}");
    assert!(!text.lines().any(|line| line == format!("{a}.{b}.{c}.{d}")), "a reply: {text}");
}

#[test]
fn an_isolated_node_knows_only_its_authority() {
    let bed = Bed::new();
    let mut authority = Member::start(&bed, "authority", 1, GO, true);
    let mut other = Member::start(&bed, "other", 3, GO, true);
    let peers = vec![authority.as_peer(Role::Authority, 1), other.as_peer(Role::Peer, 1)];
    let node = Claimed::new(&bed, peers, &["in peer icmp", "in authority icmp"], None);
    other.meet(&node, true);
    let mut fleet = Fleet::with(bed, authority, node);
    other.ping();
    assert_eq!(fleet.command(Operation::Isolate, 0), CommandResult::Done);
    fleet.telemetry(|record| record.isolated == 1);
    let [a, b, c, d] = inner4(NODE);
    let ping = format!("ping -n -c 2 -i 0.3 -W 2 {a}.{b}.{c}.{d}");
    assert!(!other.host.hears(&ping), "an isolated node answers another member");
    assert!(fleet.pings());
    // One authority isolates, and its set ends that, by an order about the command.
    let (order, chunks) = fleet.node.rejoin(fleet.node.counter());
    chunks.iter().for_each(|chunk| fleet.authority.say(chunk));
    assert_eq!(fleet.command(Operation::Apply, order.short()), CommandResult::Done);
    fleet.telemetry(|record| record.isolated == 0);
    other.ping();
}

#[test]
fn a_signed_update_is_put_into_force_and_no_other() {
    let mut fleet = Fleet::new(&[], None);
    assert!(!fleet.pings());
    let mut wanted = fleet.node.configuration.clone();
    wanted.rules.push("in authority icmp".parse().expect("a rule")).expect("room");
    let (head, chunks) = fleet.node.update(&wanted);
    // Nothing is staged.
    assert_eq!(fleet.command(Operation::Apply, head.short()), CommandResult::NotStaged);
    // Signed by another.
    let (mut forged, mut forged_chunks) = (head, chunks.clone());
    forged.signatures[0][5] ^= 1;
    forged_chunks[0][24..24 + forged.as_bytes().len()].copy_from_slice(forged.as_bytes());
    for chunk in &mut forged_chunks {
        chunk[..4].copy_from_slice(&forged.short().to_be_bytes());
        fleet.authority.say(chunk);
    }
    assert_eq!(fleet.command(Operation::Apply, forged.short()), CommandResult::Refused);
    // In any order, more than once.
    for chunk in chunks.iter().rev().chain(&chunks) {
        fleet.authority.say(chunk);
    }
    assert!(!fleet.pings(), "staged is not in force");
    assert_eq!(fleet.command(Operation::Apply, head.short()), CommandResult::Done);
    fleet.authority.ping();
    let record = fleet.telemetry(|_| true);
    assert_eq!(record.configuration, head.body[..8]);
    // An older one, although signed.
    let (mut old, _) = fleet.node.update(&wanted);
    old.counter = wire::U64::new(head.counter.get() - 1);
    let old = old.sign(&fleet.node.admin.anchor, 0);
    let (_, mut chunks) = fleet.node.update(&wanted);
    chunks[0][24..24 + old.as_bytes().len()].copy_from_slice(old.as_bytes());
    for chunk in &mut chunks {
        chunk[..4].copy_from_slice(&old.short().to_be_bytes());
        fleet.authority.say(chunk);
    }
    assert_eq!(fleet.command(Operation::Apply, old.short()), CommandResult::Refused);
}

#[test]
fn new_session_keys_on_command() {
    let mut fleet = Fleet::new(&["in authority icmp"], None);
    fleet.authority.ping();
    let before = fleet.telemetry(|_| true).handshakes.get();
    assert_eq!(fleet.command(Operation::Rotate, 0), CommandResult::Done);
    fleet.telemetry(|record| record.handshakes.get() > before);
    fleet.authority.ping();
}

#[test]
fn the_heartbeat_rises_on_the_console_and_in_telemetry() {
    let mut fleet = Fleet::new(&[], None);
    let first = fleet.telemetry(|record| record.heartbeat.get() > 0).heartbeat.get();
    fleet.telemetry(|record| record.heartbeat.get() > first + 1);
    fleet.node.node.wait_line(|line| line == format!("genesis: workload: heartbeat {}", first + 2));
}

#[test]
fn frames_that_were_seen_and_floods_do_not_cost_the_honest_peer_its_answer() {
    let mut fleet = Fleet::new(&["in authority icmp"], None);
    fleet.authority.ping();
    let host = fleet.authority.host.link_local();
    let stranger = fleet.bed.station("stranger", 66);
    // Everything that the authority has sent, again and again, as it was and from elsewhere.
    let seen = fleet.bed.frames_of("authority");
    assert!(seen.len() > 4);
    let target = fleet.node.node.target();
    fleet.bed.mark();
    for _ in 0..20 {
        fleet.bed.deliver(&fleet.node.node, &stranger, seen.iter().cloned());
        let moved = seen.iter().filter(|frame| frame[20] == 17).map(|frame| {
            udp_frame((stranger.mac, stranger.ip), (target.mac, target.ip), (MESH_PORT, MESH_PORT), &frame[62..])
        });
        fleet.bed.deliver(&fleet.node.node, &stranger, moved.collect::<Vec<_>>());
    }
    fleet.authority.ping();
    for frame in fleet.bed.frames_from(&fleet.node.node) {
        let to = Ipv6Addr::from(<[u8; 16]>::try_from(&frame[38..54]).expect("16 bytes"));
        assert!(to == host || to.is_multicast(), "to {to}: {frame:02x?}");
    }
}

/// Whatever the tenant tries: to the authority only telemetry and what belongs to a flow of the authority's, to another
/// node nothing.
#[test]
fn nothing_leaves_the_tenant_that_no_rule_names() {
    let bed = Bed::new();
    let mut authority = Member::start(&bed, "authority", 1, GO, true);
    let mut other = Member::start(&bed, "other", 3, GO, true);
    let peers = vec![authority.as_peer(Role::Authority, 1), other.as_peer(Role::Node, 1)];
    let node = Claimed::new(&bed, peers, &["in authority udp 9003", "in authority icmp"], Some("tenant"));
    other.meet(&node, true);
    let mut fleet = Fleet::with(bed, authority, node);
    fleet.authority.ping();
    // Both sessions are there.
    other.host.until(&format!("[ $(wg show {} latest-handshakes | cut -f2) -gt 0 ]", other.interface));
    for member in [&mut fleet.authority, &mut other] {
        let capture = format!(
            "dumpcap -q -i {} -w /run/inner.pcap >/run/dumpcap 2>&1 & echo $! >/run/dumpcap.pid",
            member.interface
        );
        member.host.ok(&capture);
        member.host.until("grep -q File: /run/dumpcap");
    }
    let mut orders = Vec::new();
    for number in [1, 3, 77] {
        let [a, b, c, d] = inner4(number);
        for address in [format!("{a}.{b}.{c}.{d}"), inner6(number).to_string()] {
            for protocol in ["tcp", "udp", "icmp", "47", "132"] {
                orders.extend([8090, 8091, 9003, 80].map(|port| format!("send {protocol} {address} {port}")));
            }
        }
    }
    // A whole packet of its own making, with another's address as the source.
    orders.push(format!("raw {}", wire::Hex(&packet(inner4(3), inner4(1)))));
    orders.push(format!("raw {}", wire::Hex(&packet(inner4(NODE), inner4(1)))));
    let before = fleet.telemetry(|_| true).dropped(Reason::Policy);
    let [a, b, c, d] = inner4(NODE);
    for order in &orders {
        let send = format!("udp-send {a}.{b}.{c}.{d}:9003 {}", wire::Hex(order.as_bytes()));
        let command = fleet.authority.probe(&send);
        fleet.authority.host.ok(&command);
    }
    // What was tried is behind us when a later record comes.
    fleet.telemetry(|record| record.dropped(Reason::Policy) > before);
    let sequence = fleet.telemetry(|_| true).sequence.get();
    fleet.telemetry(|record| record.sequence.get() > sequence + 1);
    fleet.authority.ping();
    let ours = format!("ip.src == {a}.{b}.{c}.{d} || ipv6.src == {}", inner6(NODE));
    let read = |member: &mut Member| {
        member.host.ok("kill -INT $(cat /run/dumpcap.pid)");
        member.host.until("! kill -0 $(cat /run/dumpcap.pid) 2>/dev/null");
        member.host.ok(&format!(
            "tshark -r /run/inner.pcap -Y '{ours}' -T fields -e udp.srcport -e udp.dstport -e icmp.type -e icmpv6.type 2>/run/tshark"
        ))
    };
    assert_eq!(read(&mut other), "", "another node was reached");
    let text = read(&mut fleet.authority);
    let mut kinds = std::collections::BTreeMap::new();
    for line in text.lines() {
        let words: Vec<&str> = line.split('\t').collect();
        let kind = match words[..] {
            [_, "8091", ..] => "telemetry",
            ["9003", ..] => "answer",
            [_, _, "0", ""] | [_, _, "", "129"] => "echo reply",
            _ => panic!("the tenant got out: {line:?}\n{text}"),
        };
        *kinds.entry(kind).or_insert(0) += 1;
    }
    assert!(kinds.contains_key("telemetry") && kinds.contains_key("answer"), "{kinds:?}");
}

/// An IPv4 packet with a UDP datagram to the authority's telemetry port.
fn packet(source: [u8; 4], destination: [u8; 4]) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 32, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend(source);
    packet.extend(destination);
    let sum: u32 = packet.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    let folded = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[10..12].copy_from_slice(&folded.to_be_bytes());
    // Without a checksum, as IPv4 allows.
    packet.extend([0x9c, 0x40, 0x1f, 0x9b, 0, 12, 0, 0, 1, 2, 3, 4]);
    packet
}
