//! What a node should have is noted with each change, and is what a reading of the whole registry says.

use proptest::prelude::*;
use wire::binding::configuration_hash;

use super::*;

#[derive(Debug, Clone)]
enum Change {
    Grant(u8),
    Claim(u8),
    Revoke(u8),
    Leave(u8),
    Export(u8),
    Rules(u8, Option<Vec<Rule>>),
    FleetRules(Vec<Rule>),
    Shown(u8),
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let direction = prop_oneof![Just(Direction::In), Just(Direction::Out)];
    let role = prop_oneof![3 => Just(Role::Node), 1 => Just(Role::Peer), 1 => Just(Role::Authority)];
    let rule = (direction, role, 80u16..82).prop_map(|(direction, role, port)| rule(direction, role, port));
    proptest::collection::vec(rule, 0..4)
}

fn any_change() -> impl Strategy<Value = Change> {
    let number = 1u8..6;
    prop_oneof![
        1 => number.clone().prop_map(Change::Grant),
        5 => number.clone().prop_map(Change::Claim),
        1 => number.clone().prop_map(Change::Revoke),
        1 => number.clone().prop_map(Change::Leave),
        1 => number.clone().prop_map(Change::Export),
        3 => (number.clone(), proptest::option::of(any_rules())).prop_map(|(of, rules)| Change::Rules(of, rules)),
        2 => any_rules().prop_map(Change::FleetRules),
        1 => number.prop_map(Change::Shown),
    ]
}

fn make(registry: &Registry, change: &Change) {
    let fiduciary = |number: u8| crypto::sign_public(&Secret::new([number; 32]));
    let member = |number: u8| {
        let members = registry.members(&FLEET).unwrap();
        members.into_iter().find(|member| member.who == Who::Node(fiduciary(number)))
    };
    let rules = |rules: &Vec<Rule>| -> Rules { rules.iter().copied().collect() };
    match change {
        Change::Grant(number) => drop(grant(registry, *number).unwrap()),
        Change::Claim(number) => drop(claim(registry, *number)),
        Change::Revoke(number) => member(*number).into_iter().for_each(|member| registry.revoke(member.id).unwrap()),
        Change::Leave(number) => registry.leave(&fiduciary(*number)).unwrap(),
        Change::Export(number) => {
            let who = Who::Peer(format!("laptop {number}"));
            let key = [number + 50; 32];
            let new = NewMember { who: &who, key, claim_key: None, underlay: None, authority: None };
            registry.enroll(&fleet(), &new).unwrap();
        }
        Change::Rules(number, own) => {
            let own = own.as_ref().map(rules);
            member(*number).into_iter().for_each(|member| registry.set_member_rules(member.id, own.as_ref()).unwrap());
        }
        Change::FleetRules(all) => registry.set_fleet_rules(&FLEET, &rules(all)).unwrap(),
        Change::Shown(number) => {
            if let Some(member) = member(*number) {
                let view = View { registry, fleet: registry.fleet(&FLEET).unwrap().unwrap() };
                let shown = view.configuration(&member).unwrap();
                registry.store_configuration(member.id, &shown, 7).unwrap();
            }
        }
    }
}

/// By reading everything: the keys that a node's configuration has besides the authority's.
fn others(view: &View<'_>, member: &Member) -> Vec<Key> {
    let opens = |from: &Rules, to: &Rules| {
        let out = from.iter().filter(|rule| rule.role == Role::Node && rule.direction == Direction::Out);
        out.clone().any(|rule| to.contains(&Rule { direction: Direction::In, ..*rule }))
    };
    let rules = view.rules(member);
    let linked = |other: &Member| opens(rules, view.rules(other)) || opens(view.rules(other), rules);
    let live = view.live().unwrap();
    let nodes = live.iter().map(|node| &node.member).filter(|other| other.id != member.id && linked(other));
    let mut keys: Vec<Key> = nodes.map(|other| other.key).collect();
    if view.lets_peers(member) {
        let members = view.registry.members(&FLEET).unwrap();
        let peers = members.iter().filter(|other| other.fiduciary().is_none() && other.revoked_ms.is_none());
        keys.extend(peers.map(|other| other.key));
    }
    keys
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn what_is_noted_is_what_follows(changes in proptest::collection::vec(any_change(), 1..16)) {
        let registry = Registry::in_memory(crate::base::host::system()).unwrap();
        registry.make_fleet(&FLEET, "lab").unwrap();
        registry.set_authority(&FLEET, &AUTHORITY_KEY).unwrap();
        for change in &changes {
            make(&registry, change);
            let view = View { registry: &registry, fleet: registry.fleet(&FLEET).unwrap().unwrap() };
            for node in view.nodes().unwrap() {
                let bytes = view.configuration(&node.member).unwrap();
                prop_assert_eq!(node.member.wanted, Some(configuration_hash(&bytes)), "{} after {:?}", node.member.who, change);
                let made = Configuration::parse(&bytes).unwrap();
                let keys: Vec<Key> = made.peers.iter().skip(1).map(|peer| peer.key).collect();
                prop_assert_eq!(keys, others(&view, &node.member), "{} after {:?}", node.member.who, change);
            }
            let behind = view.behind().unwrap().into_iter().map(|behind| behind.who).collect::<Vec<_>>();
            let lack = |node: &NodeMember| node.member.configuration != view.configuration(&node.member).ok();
            let lacking: Vec<String> =
                view.live().unwrap().iter().filter(|node| lack(node)).map(|node| node.member.who.to_string()).collect();
            prop_assert_eq!(behind, lacking);
        }
    }
}

#[test]
fn one_peer_too_many_is_noted_as_no_configuration_and_named() {
    let (_folder, registry) = lab();
    claim(&registry, 1);
    let rules: Rules = [rule(Direction::In, Role::Peer, 22)].into_iter().collect();
    for number in 0..policy::MAX_PEERS as u8 {
        make(&registry, &Change::Export(number));
    }
    let before = view(&registry).unworkable().unwrap();
    let trial = registry.trial(|registry| {
        registry.set_fleet_rules(&FLEET, &rules)?;
        view(registry).check(&before)
    });
    assert!(trial.unwrap_err().message.contains("more peers than the 16"));
    // Nothing of it was kept.
    let view = view(&registry);
    view.check(&before).unwrap();
    assert_eq!((view.fleet.rules.len(), view.behind().unwrap().len()), (0, 0));
}

#[test]
fn a_claim_that_would_take_another_nodes_configuration_is_refused() {
    let (_folder, registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    let server = claim(&registry, 1);
    let rules = |direction| [rule(direction, Role::Node, 80)].into_iter().collect();
    registry.set_member_rules(server.id, Some(&rules(Direction::In))).unwrap();
    registry.set_fleet_rules(&FLEET, &rules(Direction::Out)).unwrap();
    let server = registry.member(server.id).unwrap().unwrap();
    // The authority is a peer of the server too.
    for number in 2..=policy::MAX_PEERS as u8 {
        claim(&registry, number);
    }
    assert_eq!(configuration(&registry, &server).peers.len(), policy::MAX_PEERS);
    let refused = grant(&registry, 50).unwrap_err();
    assert!(refused.message.contains("more peers than the 16"), "{refused}");
    assert_eq!(registry.members(&FLEET).unwrap().len(), policy::MAX_PEERS);
    assert!(view(&registry).behind().unwrap().iter().all(|behind| behind.owed.is_ok()));
    // One that is claimed anew is no further one.
    claim(&registry, 2);
}

#[test]
fn rules_that_leave_newcomers_nothing_are_refused_unless_they_did_before() {
    let (_folder, registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    registry.set_authority(&FLEET, &AUTHORITY_KEY).unwrap();
    let rules: Rules = [rule(Direction::In, Role::Peer, 22)].into_iter().collect();
    registry.set_fleet_rules(&FLEET, &rules).unwrap();
    let checked = |change: &dyn Fn(&Registry)| {
        let before = view(&registry).unworkable().unwrap();
        change(&registry);
        view(&registry).check(&before)
    };
    for number in 1..policy::MAX_PEERS as u8 {
        checked(&|registry| make(registry, &Change::Export(number))).unwrap();
    }
    claim(&registry, 1);
    registry.leave(&crypto::sign_public(&Secret::new([1; 32]))).unwrap();
    let refused = checked(&|registry| make(registry, &Change::Export(70))).unwrap_err();
    assert!(refused.message.contains("a node that is claimed from now on more peers than the 16"), "{refused}");
    // It was stored all the same: what else is done then is none of its fault.
    checked(&|registry| make(registry, &Change::Export(69))).unwrap();
    checked(&|registry| make(registry, &Change::FleetRules(Vec::new()))).unwrap();
    assert!(checked(&|registry| registry.set_fleet_rules(&FLEET, &rules).unwrap()).is_err());
}

#[test]
fn a_claim_that_is_refused_leaves_nothing() {
    let (_folder, registry) = lab();
    let before = claim(&registry, 1);
    let refused = registry.grant(
        &Grant {
            fiduciary: [9; 32],
            claim_key: [9; 32],
            mesh_key: [9; 32],
            terms: &terms(),
            accepted: Accepted::Asked,
            fork: None,
            address: [1; 16],
            interface: "eth0",
            own: [1; 16],
            ahead: 0,
        },
        |_| Err(Error::input("no")),
    );
    assert_eq!(refused.unwrap_err().message, "no");
    let members = registry.members(&FLEET).unwrap();
    assert_eq!(members.iter().map(|member| member.id).collect::<Vec<_>>(), [before.id]);
    assert_eq!(claim(&registry, 2).host, 3);
}
