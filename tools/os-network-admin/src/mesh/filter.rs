//! The policy at the authority's end, for one node: what it may send here, and what may be sent to it. The node's own rules,
//! seen from the other side; `policy` decides.
//!
//! Whatever the node's workload tries, only telemetry, answers, and what a rule of the node's names come out here.

use std::time::Duration;

use fair::Budget;
use policy::{Configuration, Direction, EchoKind, Flows, Packet, Peer, Prefix, Role, Rule, Transport};
use tokio::time::Instant;
use wire::{COMMAND_PORT, TELEMETRY_PORT};

use crate::registry::Rules;

/// Records of telemetry that a node may send in a second: it sends one every ten seconds, and one for each command that
/// it hears, which are repeated twice a second. Without a budget one node could take all the room that records of others
/// wait in.
pub const RECORDS: u64 = 16;

pub struct Filter {
    flows: Box<Flows>,
    /// Ours, with the node as the only peer.
    mirrored: Box<Configuration>,
    telemetry: Budget,
    since: Instant,
}

impl Filter {
    /// Between our addresses and those of a node with these rules.
    pub fn new(own: &[Prefix], node: &[Prefix], rules: &Rules) -> Self {
        let (telemetry, since) = (Budget::new(RECORDS), Instant::now());
        let mut filter = Self { flows: Box::default(), mirrored: Box::default(), telemetry, since };
        filter.revise(own, node, rules);
        filter
    }

    /// Rules or addresses have changed: what is no flow any more is forgotten.
    pub fn revise(&mut self, own: &[Prefix], node: &[Prefix], rules: &Rules) {
        // `decide` knows of one role that is never isolated; which of the two ends has it makes no difference here.
        let peer = Peer {
            key: [0; 32],
            role: Role::Authority,
            preshared: None,
            endpoint: None,
            allowed: node.iter().copied().take(policy::MAX_ALLOWED).collect(),
            keepalive_s: 0,
        };
        let flip = |rule: &Rule| Rule {
            direction: match rule.direction {
                Direction::In => Direction::Out,
                Direction::Out => Direction::In,
            },
            ..*rule
        };
        *self.mirrored = Configuration {
            addresses: own.iter().copied().take(policy::MAX_ADDRESSES).collect(),
            underlay: None,
            peers: [peer].into_iter().collect(),
            rules: rules.iter().filter(|rule| rule.role == Role::Authority).map(flip).collect(),
        };
        self.flows.revise(&self.mirrored, false);
    }

    /// Whether a packet of ours goes to the node.
    pub fn outbound(&mut self, bytes: &[u8]) -> bool {
        let Ok(packet) = Packet::parse(bytes) else { return false };
        match packet.summary.transport {
            Transport::Udp { source, destination } if is_reserved(source, destination) => destination == COMMAND_PORT,
            // The kernel's answer to an echo that has been let in.
            Transport::Echo { kind: EchoKind::Reply, .. } => self.echo_is_let_in(),
            _ => {
                let now = self.now();
                self.flows.outbound(now, &self.mirrored, false, &packet.summary).is_ok()
            }
        }
    }

    /// Whether a packet of the node's is taken.
    pub fn inbound(&mut self, bytes: &[u8]) -> bool {
        let Ok(packet) = Packet::parse(bytes) else { return false };
        let now = self.now();
        match packet.summary.transport {
            Transport::Udp { source, destination } if is_reserved(source, destination) => {
                destination == TELEMETRY_PORT
                    && self.mirrored.addresses.iter().any(|own| own.ip == packet.summary.destination)
                    && self.telemetry.spend(now)
            }
            _ => self.flows.inbound(now, &self.mirrored, false, 0, &packet.summary).is_ok(),
        }
    }

    fn echo_is_let_in(&self) -> bool {
        let echo = Rule { direction: Direction::In, role: Role::Authority, protocol: policy::Protocol::Icmp, port: 0 };
        self.mirrored.rules.contains(&echo)
    }

    /// Begins late enough for a budget to have been saved up.
    fn now(&self) -> u64 {
        u64::try_from((Duration::from_secs(1) + self.since.elapsed()).as_micros()).unwrap_or(u64::MAX)
    }
}

fn is_reserved(source: u16, destination: u16) -> bool {
    policy::RESERVED.contains(&source) || policy::RESERVED.contains(&destination)
}

#[cfg(test)]
mod tests {
    use policy::Protocol;
    use smoltcp::wire::{IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, TcpPacket, UdpPacket};

    use super::*;

    const OWN: [u8; 4] = [10, 8, 0, 1];
    const NODE: [u8; 4] = [10, 8, 0, 2];

    fn ip(
        from: [u8; 4],
        to: [u8; 4],
        protocol: IpProtocol,
        fill: impl FnOnce(&mut [u8], &IpAddress, &IpAddress),
    ) -> Vec<u8> {
        let mut bytes = vec![0; 48];
        let (from, to): (Ipv4Address, Ipv4Address) = (from.into(), to.into());
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[..]);
        packet.set_version(4);
        packet.set_header_len(20);
        packet.set_total_len(48);
        packet.set_hop_limit(64);
        packet.set_next_header(protocol);
        packet.set_src_addr(from);
        packet.set_dst_addr(to);
        packet.fill_checksum();
        fill(&mut bytes[20..], &from.into(), &to.into());
        bytes
    }

    fn udp(from: ([u8; 4], u16), to: ([u8; 4], u16)) -> Vec<u8> {
        ip(from.0, to.0, IpProtocol::Udp, |bytes, source, destination| {
            let mut udp = UdpPacket::new_unchecked(bytes);
            udp.set_src_port(from.1);
            udp.set_dst_port(to.1);
            udp.set_len(28);
            udp.fill_checksum(source, destination);
        })
    }

    fn tcp(from: ([u8; 4], u16), to: ([u8; 4], u16), syn: bool, ack: bool) -> Vec<u8> {
        ip(from.0, to.0, IpProtocol::Tcp, |bytes, source, destination| {
            let mut tcp = TcpPacket::new_unchecked(bytes);
            tcp.set_src_port(from.1);
            tcp.set_dst_port(to.1);
            tcp.set_header_len(20);
            tcp.set_syn(syn);
            tcp.set_ack(ack);
            tcp.fill_checksum(source, destination);
        })
    }

    fn filter(rules: &[Rule]) -> Filter {
        let rules = rules.iter().copied().collect();
        Filter::new(&[Prefix::v4(OWN, 24)], &[Prefix::v4(NODE, 32)], &rules)
    }

    fn rule(direction: Direction, protocol: Protocol, port: u16) -> Rule {
        Rule { direction, role: Role::Authority, protocol, port }
    }

    #[test]
    fn with_no_rule_commands_go_and_telemetry_comes_and_nothing_else() {
        let mut filter = filter(&[]);
        assert!(filter.outbound(&udp((OWN, 4000), (NODE, 8090))));
        assert!(!filter.inbound(&udp((NODE, 8090), (OWN, 4000))), "a command is not answered");
        assert!(filter.inbound(&udp((NODE, 8091), (OWN, 8091))));
        assert!(filter.inbound(&udp((NODE, 5), (OWN, 8091))));
        assert!(!filter.inbound(&udp((NODE, 5), ([10, 8, 0, 3], 8091))), "another's");
        for port in [8090, 22, 53] {
            assert!(!filter.inbound(&udp((NODE, 8091), (OWN, port))), "{port}");
            assert!(!filter.inbound(&tcp((NODE, 4000), (OWN, port), true, false)), "{port}");
        }
        assert!(!filter.outbound(&tcp((OWN, 4000), (NODE, 80), true, false)));
        assert!(!filter.outbound(&udp((OWN, 4000), (NODE, 8091))));
        assert!(!filter.outbound(b"no packet") && !filter.inbound(&[]));
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_has_a_budget_of_telemetry_and_what_it_opens_beside_is_not_held_up() {
        let mut filter = filter(&[rule(Direction::Out, Protocol::Tcp, 80)]);
        let record = udp((NODE, 8091), (OWN, 8091));
        let taken = |filter: &mut Filter| (0..200).filter(|_| filter.inbound(&record)).count();
        assert!((16..=17).contains(&taken(&mut filter)));
        assert!(filter.inbound(&tcp((NODE, 4000), (OWN, 80), true, false)));
        tokio::time::advance(Duration::from_millis(500)).await;
        assert!((7..=9).contains(&taken(&mut filter)));
    }

    #[test]
    fn what_a_rule_lets_in_at_the_node_is_opened_here_and_answered_there() {
        let mut filter = filter(&[rule(Direction::In, Protocol::Tcp, 80)]);
        let answer = tcp((NODE, 80), (OWN, 4000), true, true);
        assert!(!filter.inbound(&answer), "an answer to nothing");
        assert!(!filter.inbound(&tcp((NODE, 4000), (OWN, 80), true, false)), "the node opens nothing");
        assert!(filter.outbound(&tcp((OWN, 4000), (NODE, 80), true, false)));
        assert!(filter.inbound(&answer));
        assert!(!filter.outbound(&tcp((OWN, 4000), (NODE, 81), true, false)));
        // The rule goes, and the connection with it.
        filter.revise(&[Prefix::v4(OWN, 24)], &[Prefix::v4(NODE, 32)], &Rules::new());
        assert!(!filter.inbound(&tcp((NODE, 80), (OWN, 4000), false, true)));
    }

    #[test]
    fn what_a_rule_lets_out_of_the_node_is_taken_here() {
        let mut filter = filter(&[rule(Direction::Out, Protocol::Udp, 514)]);
        assert!(filter.inbound(&udp((NODE, 4000), (OWN, 514))));
        assert!(filter.outbound(&udp((OWN, 514), (NODE, 4000))));
        assert!(!filter.inbound(&udp((NODE, 4000), (OWN, 515))));
        assert!(!filter.outbound(&udp((OWN, 4000), (NODE, 514))));
        // A rule about others opens nothing here.
        let peers = Rule { role: Role::Peer, ..rule(Direction::Out, Protocol::Udp, 514) };
        assert!(!self::filter(&[peers]).inbound(&udp((NODE, 4000), (OWN, 514))));
    }
}
