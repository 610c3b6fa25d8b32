use std::vec::Vec;

use proptest::{prelude::*, sample::select};
use wire::COMMAND_PORT;

use super::*;

const DIRECTIONS: [Direction; 2] = [Direction::In, Direction::Out];
const ROLES: [Role; 3] = [Role::Authority, Role::Node, Role::Peer];
const PROTOCOLS: [Protocol; 3] = [Protocol::Icmp, Protocol::Tcp, Protocol::Udp];

/// Every kind of flow to these ports.
pub fn flows(ports: &[u16]) -> Vec<Flow> {
    let mut flows = Vec::new();
    for direction in DIRECTIONS {
        for role in ROLES {
            for protocol in PROTOCOLS {
                let ports = if protocol == Protocol::Icmp { &[0][..] } else { ports };
                flows.extend(ports.iter().map(|port| Flow { direction, role, protocol, port: *port }));
            }
        }
    }
    flows
}

#[test]
fn without_rules_there_are_commands_records_and_telemetry_and_nothing_else() {
    for isolated in [false, true] {
        let there: Vec<_> = flows(&[1, 80, 8090, 8091, 9443, 51820, 65535])
            .into_iter()
            .filter_map(|flow| Some((std::format!("{flow}"), decide(&[], isolated, &flow)?)))
            .collect();
        let mut expected = std::vec![
            ("in authority udp 8090", Because::Commands),
            ("in node udp 8090", Because::Records),
            ("in peer udp 8090", Because::Records),
            ("out authority udp 8091", Because::Telemetry),
        ];
        expected.retain(|(_, because)| !isolated || *because != Because::Records);
        let expected = expected.into_iter().map(|(flow, because)| (flow.into(), because));
        let mut there = there;
        there.sort_by(|a, b| a.0.cmp(&b.0));
        assert_eq!(there, expected.collect::<Vec<(std::string::String, _)>>());
    }
}

#[test]
fn a_rule_opens_its_flow_and_no_other() {
    for rule in flows(&[80, 8090]) {
        for flow in flows(&[80, 81, 8090, 8091]) {
            let own = decide(&[], false, &flow);
            let reserved = flow.protocol == Protocol::Udp && RESERVED.contains(&flow.port);
            let expected = own.or((flow == rule && !reserved).then_some(Because::Rule(0)));
            assert_eq!(decide(&[rule], false, &flow), expected, "{rule}: {flow}");
            let expected = expected.filter(|_| flow.role == Role::Authority);
            assert_eq!(decide(&[rule], true, &flow), expected, "isolated, {rule}: {flow}");
        }
    }
}

#[test]
fn the_first_rule_that_names_it_is_the_reason() {
    let rules = ["in node tcp 80", "in peer tcp 80", "in peer tcp 80"].map(|rule| rule.parse().unwrap());
    assert_eq!(decide(&rules, false, &rules[1]), Some(Because::Rule(1)));
}

proptest! {
    #[test]
    fn what_is_there_is_named(rules in prop::collection::vec(select(flows(&[80, 8090, 8091])), 0..10), flow in select(flows(&[80, 81, 8090, 8091])), isolated in any::<bool>()) {
        match decide(&rules, isolated, &flow) {
            Some(Because::Rule(at)) => {
                prop_assert_eq!(rules[at], flow);
                prop_assert!(!isolated || flow.role == Role::Authority);
                prop_assert!(flow.protocol != Protocol::Udp || !RESERVED.contains(&flow.port));
            }
            Some(Because::Records) => {
                prop_assert!(flow.role != Role::Authority && !isolated && flow.port == COMMAND_PORT);
            }
            Some(_) => prop_assert!(flow.role == Role::Authority && RESERVED.contains(&flow.port)),
            None => prop_assert!(isolated || !rules.contains(&flow) || RESERVED.contains(&flow.port)),
        }
    }
}
