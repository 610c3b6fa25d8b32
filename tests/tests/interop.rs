//! The node's mesh speaks WireGuard with WireGuards that others wrote: `wireguard-go`, and boringtun's device. Each is on a
//! Linux host of its own on the segment, in namespaces, without root.

use std::{process::Command, thread, time::Instant};

use genesis_tests::{
    PATIENCE,
    bed::Bed,
    member::{Claimed, Implementation, Member, NODE, inner4, outer6},
};
use policy::Role;
use segment::switch::{Fate, Way};
use wire::MESH_PORT;

const BOTH: [Implementation; 2] = [Implementation::WireguardGo, Implementation::Boringtun];
const ECHO: &str = "in authority icmp";
const TENANT: [&str; 3] = [ECHO, "in authority tcp 9001", "in authority tcp 9002"];
const SINK: u16 = 9001;
const SOURCE: u16 = 9002;

/// The volume of a transfer: less under emulation.
fn megabytes() -> u64 {
    if std::env::var_os("GENESIS_BOARD").is_some() { 8 } else { 64 }
}

fn node4() -> String {
    let [a, b, c, d] = inner4(NODE);
    format!("{a}.{b}.{c}.{d}")
}

/// A member with the role of the authority, and a node that knows it.
fn pair(bed: &Bed, what: Implementation, preshared: bool, keepalive_s: u16, rules: &[&str]) -> (Member, Claimed) {
    let mut member = Member::start(bed, "authority", 1, what, preshared);
    let peer = member.as_peer(Role::Authority, keepalive_s);
    let tenant = rules.contains(&TENANT[1]).then_some("tenant");
    let node = Claimed::new(bed, vec![peer], rules, tenant);
    (member, node)
}

/// The node's power is cut, and the sessions with these peers, who know nothing of it, are there again: the node has begun,
/// and none of them took a handshake of its for an old one.
fn comes_back<const N: usize>(bed: &Bed, node: &mut Claimed, members: [&mut Member; N]) {
    bed.mark();
    node.reboot();
    for member in members {
        let at = member.outer().octets();
        let deadline = Instant::now() + PATIENCE;
        loop {
            let begun = bed
                .frames_from(&node.node)
                .iter()
                .filter(|frame| is_wireguard(frame, 1) && frame[38..54] == at)
                .count();
            let answered = bed.frames_of(&member.name).iter().filter(|frame| is_wireguard(frame, 2)).count();
            if begun > 0 && answered >= begun {
                break;
            }
            assert!(Instant::now() < deadline, "{} has answered {answered} of {begun} handshakes", member.name);
            thread::yield_now();
        }
    }
}

/// Whether it is a message of WireGuard's of this kind.
fn is_wireguard(frame: &[u8], kind: u8) -> bool {
    frame.len() > 62 && frame[20] == 17 && frame[56..58] == MESH_PORT.to_be_bytes() && frame[62] == kind
}

#[test]
fn the_node_opens_the_session_and_again_when_its_power_was_cut() {
    for what in BOTH {
        let bed = Bed::new();
        let (mut member, mut node) = pair(&bed, what, true, 1, &[ECHO]);
        // It has no endpoint: only the node can begin.
        member.meet(&node, false);
        node.node.wait_line(|line| line == "genesis: joined");
        member.ping();
        comes_back(&bed, &mut node, [&mut member]);
        member.ping();
        node.node.wait_line(|line| line == "genesis: joined");
    }
}

#[test]
fn the_peer_opens_the_session() {
    for what in BOTH {
        let bed = Bed::new();
        let (mut member, mut node) = pair(&bed, what, false, 0, &[ECHO]);
        member.meet(&node, true);
        member.ping();
        node.node.wait_line(|line| line == "genesis: joined");
        comes_back(&bed, &mut node, [&mut member]);
        member.ping();
    }
}

#[test]
fn another_preshared_key_makes_no_session() {
    let bed = Bed::new();
    let mut member = Member::start(&bed, "authority", 1, Implementation::WireguardGo, true);
    let mut peer = member.as_peer(Role::Authority, 0);
    peer.preshared = Some(policy::Preshared([7; 32]));
    let mut other = Member::start(&bed, "other", 3, Implementation::WireguardGo, true);
    let mut node = Claimed::new(&bed, vec![peer, other.as_peer(Role::Authority, 0)], &[ECHO], None);
    member.meet(&node, true);
    other.meet(&node, true);
    for powered in 0..2 {
        if powered == 1 {
            node.reboot();
        }
        let probe = format!("ping -n -c 3 -i 0.5 -W 1 {}", node4());
        assert!(!member.host.hears(&probe), "an answer without the key");
        assert_eq!(member.last_handshake(), 0);
        // The node was there all the time.
        other.ping();
    }
}

#[test]
fn bulk_tcp_arrives_whole_each_way() {
    for what in BOTH {
        let bed = Bed::new();
        let (mut member, mut node) = pair(&bed, what, true, 0, &TENANT);
        member.meet(&node, true);
        member.ping();
        push(&mut member, megabytes() << 20);
        comes_back(&bed, &mut node, [&mut member]);
        pull(&mut member, megabytes() << 20);
    }
}

fn push(member: &mut Member, bytes: u64) {
    transfer(member, "push", SINK, bytes);
}

fn pull(member: &mut Member, bytes: u64) {
    transfer(member, "pull", SOURCE, bytes);
}

fn transfer(member: &mut Member, way: &str, port: u16, bytes: u64) {
    let command = member.probe(&format!("{way} {}:{port} {bytes}", node4()));
    let said = member.host.run_within(&command, 10 * PATIENCE);
    assert_eq!(said.code, 0, "{way}: {}", said.text);
}

#[test]
fn loss_and_reordering_slow_tcp_and_break_nothing() {
    for what in BOTH {
        let bed = Bed::new();
        let (mut member, mut node) = pair(&bed, what, false, 0, &TENANT);
        member.meet(&node, true);
        member.ping();
        let mut ways = [(0_u64, Vec::new()), (0, Vec::new())];
        let impairment = move |way: Way, frame: &mut Vec<u8>| {
            let (count, late) = &mut ways[usize::from(way == Way::ToPort)];
            *count += 1;
            if *count % 5 == 0 {
                // This one waits for the next that is held.
                std::mem::swap(frame, late);
            }
            if frame.is_empty() || *count % 101 == 0 { Fate::Drop } else { Fate::Pass }
        };
        bed.impair(node.node.name(), Some(Box::new(impairment)));
        push(&mut member, 1 << 20);
        pull(&mut member, 1 << 20);
        bed.impair(node.node.name(), None);
        comes_back(&bed, &mut node, [&mut member]);
        member.ping();
    }
}

#[test]
fn a_session_is_made_anew_after_the_rekey_time() {
    let bed = Bed::new();
    let mut members = [(1, Implementation::WireguardGo), (3, Implementation::Boringtun)]
        .map(|(number, what)| Member::start(&bed, &format!("member-{number}"), number, what, true));
    let peers = members.iter_mut().map(|member| member.as_peer(Role::Authority, 0)).collect();
    let mut node = Claimed::new(&bed, peers, &[ECHO], None);
    let before = members.each_mut().map(|member| {
        member.meet(&node, true);
        member.ping();
        member.last_handshake()
    });
    for (member, before) in members.iter_mut().zip(before) {
        // Traffic all the time: none of it may be lost over the change.
        let (address, interface) = (node4(), &member.interface);
        let wait = format!(
            "until [ \"$(wg show {interface} latest-handshakes | cut -f2)\" -gt {before} ]; \
             do ping -n -q -c 5 -i 0.2 -W 5 {address} >/run/ping || {{ cat /run/ping; exit 1; }}; done"
        );
        let said = member.host.run_within(&wait, 4 * PATIENCE);
        assert_eq!(said.code, 0, "{}", said.text);
        member.ping();
    }
    // Its timestamps rise, over rekeying and over the power.
    comes_back(&bed, &mut node, members.each_mut());
    members.iter_mut().for_each(Member::ping);
}

#[test]
fn a_peer_that_moves_is_followed_until_the_power_goes() {
    for what in BOTH {
        let bed = Bed::new();
        let (mut member, mut node) = pair(&bed, what, true, 0, &[ECHO]);
        member.meet(&node, true);
        member.ping();
        let link = member.host.link_local();
        let moved = format!(
            "ip address add fe80::77/64 dev lab0 nodad && ip address del {link}/64 dev lab0 && \
             ip address add fd99::77/64 dev lab0 nodad && ip address del {}/64 dev lab0",
            outer6(1)
        );
        member.host.ok(&moved);
        member.ping();
        // Then the node looks where its configuration has the peer, and answers no solicitation from elsewhere.
        node.reboot();
        assert!(!member.host.hears(&format!("ping -n -c 2 -i 0.5 -W 1 {}", node4())), "a stranger's address");
        let back = format!("ip address add {link}/64 dev lab0 nodad && ip address add {}/64 dev lab0 nodad", outer6(1));
        member.host.ok(&back);
        member.ping();
    }
}

#[test]
fn a_peer_that_starts_anew_is_a_peer_again() {
    for what in BOTH {
        let bed = Bed::new();
        let (mut member, mut node) = pair(&bed, what, true, 0, &[ECHO]);
        member.meet(&node, true);
        member.ping();
        member.restart();
        member.meet(&node, true);
        member.ping();
        // Both at once.
        member.restart();
        node.reboot();
        member.meet(&node, true);
        member.ping();
    }
}

#[test]
fn the_wire_is_wireguard_as_tshark_reads_it() {
    let bed = Bed::new();
    let (mut member, mut node) = pair(&bed, Implementation::WireguardGo, true, 1, &[ECHO]);
    member.meet(&node, true);
    member.ping();
    // A second handshake, opened by the other side.
    member.restart();
    member.meet(&node, true);
    member.ping();
    // And one of the node's, after its power was cut.
    comes_back(&bed, &mut node, [&mut member]);
    member.ping();
    let record = bed.segment().join("segment.pcapng");
    let fields = ["-T", "fields", "-e", "ipv6.src", "-e", "wg.type", "-e", "udp.length", "-e", "_ws.malformed"];
    let output = Command::new("tshark").arg("-r").arg(&record).args(["-Y", "udp.port == 51820"]).args(fields).output();
    let output = output.expect("tshark; `make deps` installs it");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let text = String::from_utf8(output.stdout).expect("text");
    let ours = std::net::Ipv6Addr::from(node.node.target().ip).to_string();
    let mut kinds = [0; 5];
    for line in text.lines().filter(|line| line.starts_with(&ours)) {
        let words: Vec<&str> = line.split('\t').collect();
        let (kind, length): (usize, usize) = (words[1].parse().expect(line), words[2].parse().expect(line));
        assert_eq!(words.get(3).copied().unwrap_or_default(), "", "malformed: {line}");
        match kind {
            1 => assert_eq!(length, 8 + 148),
            2 => assert_eq!(length, 8 + 92),
            // Header, padded text, tag.
            4 => assert_eq!(length % 16, 8, "{line}"),
            _ => panic!("{line}"),
        }
        kinds[kind] += 1;
    }
    assert!(kinds[1] >= 1 && kinds[2] >= 1 && kinds[4] >= 2, "initiations, responses and data: {kinds:?}\n{text}");
}

#[test]
fn a_node_with_both_at_once_keeps_them_apart() {
    let bed = Bed::new();
    let mut first = Member::start(&bed, "first", 1, Implementation::WireguardGo, true);
    let mut second = Member::start(&bed, "second", 3, Implementation::Boringtun, false);
    // The node has nothing to say to a peer that is no authority: it begins because it keeps the session alive.
    let peers = vec![first.as_peer(Role::Authority, 0), second.as_peer(Role::Peer, 1)];
    let mut node = Claimed::new(&bed, peers, &[ECHO], None);
    first.meet(&node, true);
    second.meet(&node, true);
    first.ping();
    // The session is there, and the rule is the authority's alone.
    second.host.until(&format!(
        "ping -n -c 1 -W 1 {0}; [ $(wg show {1} latest-handshakes | cut -f2) -gt 0 ]",
        node4(),
        second.interface
    ));
    assert!(!second.host.hears(&format!("ping -n -c 3 -i 0.3 -W 1 {}", node4())), "a rule for another role");
    // Nor does a packet with the other's address open it.
    let [a, b, c, d] = inner4(1);
    let spoof = format!(
        "ip address add {a}.{b}.{c}.{d}/32 dev {0} && ping -n -c 3 -i 0.3 -W 1 -I {a}.{b}.{c}.{d} {1}",
        second.interface,
        node4()
    );
    assert!(!second.host.hears(&spoof), "another's address");
    first.ping();
    comes_back(&bed, &mut node, [&mut first, &mut second]);
    first.ping();
    assert!(!second.host.hears(&format!("ping -n -c 3 -i 0.3 -W 1 {}", node4())), "a rule for another role");
}
