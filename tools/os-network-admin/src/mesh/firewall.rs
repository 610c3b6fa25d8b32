//! The policy at the authority's end where the kernel moves the packets: a table of nftables beside the interface, which
//! says of them what [`super::filter`] says of those that pass here. From a node only telemetry, answers, and what a rule of
//! the node's names; to a node only commands, answers, and what a rule names.
//!
//! A packet is looked at as it is in the tunnel: on the way in before this host's own rules change its addresses, on the way
//! out after that. What a rule that is gone had opened has no rule any more and so does not pass: nothing is to be forgotten.

use std::{
    collections::HashMap,
    fmt::Write as _,
    io::{self, Write as _},
    net::IpAddr,
    process::{Command, Stdio},
};

use policy::{Direction, Prefix, Protocol, Role, Rule};
use wire::{COMMAND_PORT, TELEMETRY_PORT};

use super::{engine::Setup, filter::RECORDS};
use crate::base::say::say;

/// A family of addresses, in the words of nftables.
struct Family {
    digit: u8,
    header: &'static str,
    address: &'static str,
    echo: &'static str,
}

const FAMILIES: [Family; 2] = [
    Family { digit: 4, header: "ip", address: "ipv4_addr", echo: "icmp" },
    Family { digit: 6, header: "ip6", address: "ipv6_addr", echo: "icmpv6" },
];

/// Whether there is an `nft` to run.
pub fn has_nft() -> bool {
    Command::new("nft").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status().is_ok()
}

/// The policy beside one interface.
pub struct Firewall {
    table: String,
    /// Of the interface, which may be given another name.
    index: u32,
}

impl Firewall {
    /// It is not in force yet. The name is the one that the interface was made with.
    pub fn new(interface: &str, index: u32) -> Self {
        Self { table: table(interface), index }
    }

    /// Puts the policy in force, or another in its place, in one step. What was counted stays.
    pub fn apply(&self, setup: &Setup) -> io::Result<()> {
        nft(&ruleset(&self.table, self.index, setup)).map(|_| ())
    }

    /// Puts it back if another program has emptied nftables. What is wrong if that fails.
    pub fn guard(&self, setup: impl FnOnce() -> Setup) -> Option<String> {
        if is_there(&self.table) {
            return None;
        }
        match self.apply(&setup()) {
            Ok(()) => {
                say(format_args!("another program had removed the policy from nftables; it is back"));
                None
            }
            Err(error) => Some(format!("the policy is not in force here, nodes may send what they like: {error}")),
        }
    }

    /// How many packets from and to each node did not pass, by its address.
    pub fn dropped(&self) -> io::Result<HashMap<IpAddr, u64>> {
        // One list for each run: nft 1.0.6 knows nothing of the set of a second.
        let list = |family: &Family| nft(&format!("list set inet {} nodes{}\n", self.table, family.digit));
        let said: io::Result<String> = FAMILIES.iter().map(list).collect();
        Ok(parse_counters(&said?))
    }
}

/// Takes the policy away that is beside an interface made with this name, if there is one.
pub fn remove(interface: &str) -> io::Result<()> {
    let table = table(interface);
    if !is_there(&table) {
        return Ok(());
    }
    nft(&format!("delete table inet {table}\n")).map(|_| ())
}

/// Whether it is there. Other programs may empty all of nftables.
fn is_there(table: &str) -> bool {
    nft(&format!("list chain inet {table} from_nodes\n")).is_ok()
}

/// Nobody else's, and one for each interface.
fn table(interface: &str) -> String {
    format!("os-network-admin-{interface}")
}

/// Has commands carried out, all or none.
fn nft(commands: &str) -> io::Result<String> {
    let mut nft = Command::new("nft");
    let spawned = nft.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn();
    let mut nft = spawned.map_err(|error| io::Error::new(error.kind(), format!("nft: {error}")))?;
    // It reads to the end before it says anything.
    if let Some(mut stdin) = nft.stdin.take() {
        stdin.write_all(commands.as_bytes())?;
    }
    let ended = nft.wait_with_output()?;
    if ended.status.success() {
        return Ok(String::from_utf8_lossy(&ended.stdout).into_owned());
    }
    let said = String::from_utf8_lossy(&ended.stderr);
    let first = said.lines().find(|line| !line.trim().is_empty()).unwrap_or("it says nothing");
    Err(io::Error::other(format!("nft: {first}")))
}

fn ruleset(table: &str, index: u32, setup: &Setup) -> String {
    let mut text = String::new();
    // After connection tracking (-200) and before destination NAT (-100); after source NAT (100).
    let _ = write!(
        text,
        "add table inet {table}
add chain inet {table} from_nodes {{ type filter hook prerouting priority -150; policy accept; }}
add chain inet {table} to_nodes {{ type filter hook postrouting priority 150; policy accept; }}
add chain inet {table} refused
flush chain inet {table} from_nodes
flush chain inet {table} to_nodes
flush chain inet {table} refused
"
    );
    for family in &FAMILIES {
        sets(&mut text, table, family, setup);
    }
    let mut rules = |chain: &str, lines: String| {
        for line in lines.lines().map(str::trim).filter(|line| !line.is_empty()) {
            let _ = writeln!(text, "add rule inet {table} {chain} {line}");
        }
    };
    rules("from_nodes", format!("iif != {index} accept"));
    rules("to_nodes", format!("oif != {index} accept"));
    for chain in ["from_nodes", "to_nodes"] {
        rules(chain, "ct state new tcp flags & (fin | syn | rst | ack) != syn goto refused".into());
    }
    for Family { digit, header, echo, .. } in &FAMILIES {
        let own = setup.addresses.iter().filter(|own| own.is_v4() == (*digit == 4)).map(|own| address(own).to_string());
        let own = own.collect::<Vec<_>>().join(", ");
        if own.is_empty() {
            continue;
        }
        rules(
            "from_nodes",
            format!(
                "{header} daddr != {{ {own} }} goto refused
                 {header} daddr {{ {own} }} udp dport {TELEMETRY_PORT} update @records{digit} \
                 {{ {header} saddr limit rate over {RECORDS}/second burst {RECORDS} packets }} goto refused
                 {header} daddr {{ {own} }} udp dport {TELEMETRY_PORT} accept
                 {header} daddr {{ {own} }} udp dport {COMMAND_PORT} goto refused
                 {header} daddr {{ {own} }} udp sport {{ {COMMAND_PORT}, {TELEMETRY_PORT} }} goto refused
                 ct direction reply {header} saddr . meta l4proto . th sport @asked{digit} accept
                 ct direction reply {echo} type echo-reply {header} saddr @asked_echo{digit} accept
                 {header} saddr . meta l4proto . th dport @offered{digit} accept
                 {echo} type echo-request {header} saddr @offered_echo{digit} accept"
            ),
        );
        rules(
            "to_nodes",
            format!(
                "{header} saddr != {{ {own} }} goto refused
                 {header} saddr {{ {own} }} udp dport {COMMAND_PORT} accept
                 {header} saddr {{ {own} }} udp dport {TELEMETRY_PORT} goto refused
                 {header} saddr {{ {own} }} udp sport {{ {COMMAND_PORT}, {TELEMETRY_PORT} }} goto refused
                 {header} daddr . meta l4proto . th dport @asked{digit} accept
                 {echo} type echo-request {header} daddr @asked_echo{digit} accept
                 ct direction reply {header} daddr . meta l4proto . th sport @offered{digit} accept
                 ct direction reply {echo} type echo-reply {header} daddr @offered_echo{digit} accept"
            ),
        );
        rules("refused", format!("{header} saddr @nodes{digit} drop\n{header} daddr @nodes{digit} drop"));
    }
    for chain in ["from_nodes", "to_nodes"] {
        rules(chain, "goto refused".into());
    }
    rules("refused", "drop".into());
    text
}

/// What the rules look into: what we may open at a node (`asked`), what a node may open here (`offered`), and the nodes, each
/// with its counter.
fn sets(text: &mut String, table: &str, family: &Family, setup: &Setup) {
    let Family { digit, address: kind, .. } = family;
    let flow = format!("type {kind} . inet_proto . inet_service;");
    let one = format!("type {kind};");
    // What each has said of late; an element that is not used any more goes by itself.
    let _ = writeln!(text, "add set inet {table} records{digit} {{ {one} size 65535; flags dynamic; timeout 1m; }}");
    let mut set = |name: &str, kind: &str, elements: &[String]| {
        let _ = writeln!(text, "add set inet {table} {name}{digit} {{ {kind} }}");
        // A node that is gone may keep its counter: its address is not used again.
        if name != "nodes" {
            let _ = writeln!(text, "flush set inet {table} {name}{digit}");
        }
        if !elements.is_empty() {
            let _ = writeln!(text, "add element inet {table} {name}{digit} {{ {} }}", elements.join(", "));
        }
    };
    let of_family = |prefix: &&Prefix| prefix.is_v4() == (*digit == 4);
    let addresses = || {
        let peers = setup.peers.iter();
        peers.flat_map(|peer| {
            peer.allowed.iter().filter(of_family).map(move |prefix| (address(prefix).to_string(), peer))
        })
    };
    let elements = |direction: Direction, is_echo: bool| -> Vec<String> {
        let named = |rule: &&Rule| {
            (rule.role, rule.direction) == (Role::Authority, direction) && (rule.protocol == Protocol::Icmp) == is_echo
        };
        let of_node = |(node, peer): (String, &super::engine::PeerSetup)| {
            let rules = peer.rules.as_deref().unwrap_or_default();
            let all = rules.iter().filter(named).map(move |rule| match rule.protocol {
                Protocol::Icmp => node.clone(),
                Protocol::Tcp => format!("{node} . tcp . {}", rule.port),
                Protocol::Udp => format!("{node} . udp . {}", rule.port),
            });
            all.collect::<Vec<_>>()
        };
        addresses().flat_map(of_node).collect()
    };
    set("asked", &flow, &elements(Direction::In, false));
    set("asked_echo", &one, &elements(Direction::In, true));
    set("offered", &flow, &elements(Direction::Out, false));
    set("offered_echo", &one, &elements(Direction::Out, true));
    let nodes: Vec<String> = addresses().map(|(node, _)| node).collect();
    set("nodes", &format!("{one} counter;"), &nodes);
}

/// The address of a prefix.
pub fn address(prefix: &Prefix) -> IpAddr {
    let [.., a, b, c, d] = prefix.ip;
    if prefix.is_v4() { IpAddr::from([a, b, c, d]) } else { IpAddr::from(prefix.ip) }
}

/// `ADDRESS counter packets N`, wherever it stands.
fn parse_counters(said: &str) -> HashMap<IpAddr, u64> {
    let words: Vec<&str> = said.split([' ', '\t', '\n', ',', '{', '}']).filter(|word| !word.is_empty()).collect();
    let counter = |words: &[&str]| match words {
        [address, "counter", "packets", count] => Some((address.parse().ok()?, count.parse().ok()?)),
        _ => None,
    };
    words.windows(4).filter_map(counter).collect()
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{mesh::engine::PeerSetup, registry::Rules};

    fn peer(number: u8, rules: &[&str]) -> PeerSetup {
        let mut six = [0; 16];
        (six[0], six[15]) = (0xfd, number);
        let rules: Rules = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        PeerSetup {
            key: [number; 32],
            preshared: None,
            allowed: vec![Prefix::v4([10, 8, 0, number], 32), Prefix { ip: six, length: 128 }],
            endpoint: None,
            keepalive_s: 0,
            rules: Some(rules),
        }
    }

    fn setup(peers: Vec<PeerSetup>) -> Setup {
        let own = peer(1, &[]).allowed;
        let addresses = vec![Prefix { length: 96 + 24, ..own[0] }, Prefix { length: 64, ..own[1] }];
        Setup { secret: Zeroizing::new([9; 32]), port: 51820, addresses, peers }
    }

    #[test]
    fn the_sets_say_what_each_nodes_rules_about_the_authority_say() {
        let rules = ["in authority tcp 80", "out authority udp 514", "in authority icmp", "out peer tcp 443"];
        let text = ruleset(&table("g0"), 7, &setup(vec![peer(2, &rules), peer(3, &["out authority icmp"])]));
        let element = |line: &str| format!("add element inet os-network-admin-g0 {line}");
        for line in [
            "asked4 { 10.8.0.2 . tcp . 80 }",
            "asked6 { fd00::2 . tcp . 80 }",
            "asked_echo4 { 10.8.0.2 }",
            "offered4 { 10.8.0.2 . udp . 514 }",
            "offered_echo6 { fd00::3 }",
            "nodes4 { 10.8.0.2, 10.8.0.3 }",
        ] {
            assert!(text.lines().any(|found| found == element(line)), "{line}\n{text}");
        }
        assert!(!text.contains("443") && !text.contains("offered_echo4 { 10.8.0.2"), "{text}");
        // Nothing of before is left, but for the counters.
        for name in ["asked4", "offered6", "offered_echo4"] {
            let (flush, add) = (format!("flush set inet os-network-admin-g0 {name}"), element(name));
            let at = |line: &str| text.lines().position(|found| found.starts_with(line));
            assert!(at(&flush).is_some_and(|at_flush| at(&add).is_none_or(|at_add| at_flush < at_add)), "{name}");
        }
        assert!(!text.contains("flush set inet os-network-admin-g0 nodes"));
    }

    #[test]
    fn each_chain_ends_with_a_refusal_and_no_rule_is_for_other_interfaces() {
        let text = ruleset(&table("g0"), 7, &setup(vec![]));
        let rules = |chain: &str| {
            let start = format!("add rule inet os-network-admin-g0 {chain} ");
            text.lines().filter_map(|line| line.strip_prefix(&start)).map(str::to_owned).collect::<Vec<_>>()
        };
        for (chain, first) in [("from_nodes", "iif != 7 accept"), ("to_nodes", "oif != 7 accept")] {
            let rules = rules(chain);
            assert_eq!((rules[0].as_str(), rules.last().unwrap().as_str()), (first, "goto refused"));
        }
        assert_eq!(rules("refused").last().unwrap(), "drop");
        assert!(!text.contains("{  }"), "an empty set of elements is an error: {text}");
    }

    #[test]
    fn a_node_has_a_budget_of_telemetry_here_too() {
        let text = ruleset(&table("g0"), 7, &setup(vec![]));
        for (header, digit) in [("ip", 4), ("ip6", 6)] {
            let set = format!("records{digit} ");
            let made = text.lines().position(|line| line.starts_with("add set ") && line.contains(&set));
            let limit = format!("@records{digit} {{ {header} saddr limit rate over 16/second");
            let limited = text.lines().position(|line| line.contains(&limit) && line.ends_with("goto refused"));
            let taken = text.lines().position(|line| {
                line.contains(&format!(" {header} daddr ")) && line.ends_with("udp dport 8091 accept")
            });
            assert!(made.is_some() && made < limited && limited < taken, "{text}");
        }
    }

    #[test]
    fn counters_are_read_wherever_they_stand() {
        let said = "table inet os-network-admin-g0 {\n\tset nodes4 {\n\t\ttype ipv4_addr\n\t\tcounter\n\t\telements = \
                    { 10.8.0.2 counter packets 7 bytes 588, 10.8.0.3 counter packets 0 bytes 0 }\n\t}\n}\n\
                    table inet t { set nodes6 { elements = { fd00::2 counter packets 1 bytes 60,\n fd00::3 } } }";
        let counts = parse_counters(said);
        let of = |address: &str| counts.get(&address.parse::<IpAddr>().unwrap()).copied();
        assert_eq!((of("10.8.0.2"), of("10.8.0.3"), of("fd00::2"), of("fd00::3")), (Some(7), Some(0), Some(1), None));
        assert_eq!(parse_counters("counter packets many"), HashMap::new());
    }
}
