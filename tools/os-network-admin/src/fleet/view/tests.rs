use crypto::{AnchorSecret, Secret};
use policy::{Configuration, Direction, Peer, Prefix, Protocol, Rule};
use wire::{
    U16, U64,
    binding::PairingRecord,
    claim::{GrantHead, kind},
    order::MAX_CONFIGURATION,
    set::{Authority, AuthoritySet},
};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::{
    claim::{Configure, Grant, MeshTerms, Pairing, Terms},
    registry::{Accepted, AnchorKind, Changed, Network, NewMember, Who},
};

mod cost;
mod killed;
mod restored;
mod wanted;

const FLEET: [u8; 32] = [5; 32];
const AUTHORITY_KEY: Key = [0x2a; 32];

fn rule(direction: Direction, role: Role, port: u16) -> Rule {
    Rule { direction, role, protocol: Protocol::Tcp, port }
}

fn fleet() -> Fleet {
    Fleet::new(FLEET, "lab")
}

fn terms() -> Terms {
    let own = AnchorSecret::from_seed(&[1; 32]).public();
    let mesh = MeshTerms { authority: AUTHORITY_KEY, ..MeshTerms::default() };
    Terms {
        fleet: "lab".into(),
        fleet_id: FLEET,
        set: AuthoritySet::alone(Authority::signer(&own)),
        configuration: Configure::Mesh(mesh),
        anchor: AnchorKind::Image,
        warrant: None,
    }
}

/// Grants a node something as the exchange does it.
fn grant(registry: &Registry, number: u8) -> Result<Node, Error> {
    let fiduciary = crypto::sign_public(&Secret::new([number; 32]));
    grant_to(registry, fiduciary, [number; 32])
}

fn grant_to(registry: &Registry, fiduciary: Key, mesh_key: Key) -> Result<Node, Error> {
    let is_revoked = registry.is_revoked(&fiduciary)?;
    grant_as(registry, fiduciary, mesh_key, if is_revoked { Accepted::Readmitted } else { Accepted::Asked })
}

fn grant_as(registry: &Registry, fiduciary: Key, mesh_key: Key, accepted: Accepted) -> Result<Node, Error> {
    let mut address = [0; 16];
    (address[0], address[1], address[15]) = (0xfe, 0x80, mesh_key[0]);
    let terms = terms();
    let grant = Grant {
        fiduciary,
        claim_key: [mesh_key[0].wrapping_add(100); 32],
        mesh_key,
        terms: &terms,
        accepted,
        fork: None,
        address,
        interface: "eth0",
        own: [0xfe; 16],
        ahead: 0,
    };
    registry.grant(&grant, |made| {
        let configuration = made.configuration;
        let mut head = GrantHead::new_zeroed();
        (head.kind, head.configuration) = (kind::GRANT, U16::new(configuration.len() as u16));
        (head.title.warrant.fiduciary, head.title.warrant.epoch) = (fiduciary, U64::new(1));
        head.title.binding.counter = U64::new(made.counter);
        head.title = head.title.sign(&AnchorSecret::from_seed(&[1; 32]));
        Ok([head.as_bytes(), configuration].concat())
    })
}

/// Claims a node, and pairs it.
fn claim(registry: &Registry, number: u8) -> Member {
    let node = grant(registry, number).unwrap();
    let record = PairingRecord::sign(&Secret::new([number; 32]), &node.title);
    registry.paired(&node, &record, 0, None).unwrap();
    let who = Who::Node(node.title.warrant.fiduciary);
    registry.members(&FLEET).unwrap().into_iter().find(|found| found.who == who).unwrap()
}

fn lab() -> (tempfile::TempDir, Registry) {
    let folder = tempfile::tempdir().unwrap();
    let registry = Registry::open(&folder.path().join("r")).unwrap();
    (folder, registry)
}

fn view(registry: &Registry) -> View<'_> {
    View::load(registry, &registry.fleet(&FLEET).unwrap().unwrap(), AUTHORITY_KEY).unwrap()
}

fn configuration(registry: &Registry, member: &Member) -> Configuration {
    Configuration::parse(&view(registry).configuration(member).unwrap()).unwrap()
}

#[test]
fn each_node_gets_the_next_address_keeps_it_and_has_the_authority_as_only_peer() {
    let (_folder, registry) = lab();
    let (one, two) = (claim(&registry, 1), claim(&registry, 2));
    assert_eq!((one.host, two.host, claim(&registry, 1).host), (2, 3, 2));
    assert_ne!(one.preshared.0, two.preshared.0);
    let first = configuration(&registry, &one);
    assert_eq!(first.addresses[0], Prefix::v4([10, 8, 0, 2], 24));
    assert_eq!((first.addresses[1].ip[0], first.addresses[1].ip[15], first.addresses[1].length), (0xfd, 2, 64));
    assert_eq!(first.addresses[1].ip[1..8], FLEET[..7]);
    let [authority] = &first.peers[..] else { panic!("more than the authority") };
    assert_eq!((authority.key, authority.role, authority.keepalive_s), (AUTHORITY_KEY, Role::Authority, 25));
    assert_eq!(authority.endpoint, Some(Endpoint { ip: [0xfe; 16], port: 51820 }));
    assert_eq!(authority.allowed[0], Prefix::v4([10, 8, 0, 1], 32));
    assert_eq!((first.rules.len(), first.underlay), (0, None));
    assert_eq!(view(&registry).behind().unwrap().len(), 0);
}

#[test]
fn nodes_know_each_other_only_where_rules_of_both_name_one_flow() {
    let (_folder, registry) = lab();
    let (one, two) = (claim(&registry, 1), claim(&registry, 2));
    let (out, into) = (rule(Direction::Out, Role::Node, 80), rule(Direction::In, Role::Node, 80));
    let with = |rules: &[Rule], others: &[Rule]| {
        registry.set_member_rules(one.id, Some(&rules.iter().copied().collect())).unwrap();
        registry.set_member_rules(two.id, Some(&others.iter().copied().collect())).unwrap();
        let view = view(&registry);
        let peers = |member: &Member| {
            let member = view.find(&member.who.to_string()).unwrap();
            Configuration::parse(&view.configuration(&member).unwrap()).unwrap().peers.len()
        };
        assert_eq!(peers(&one), peers(&two), "a tunnel has two ends");
        peers(&one) == 2
    };
    assert!(with(&[out], &[into]));
    assert!(with(&[into], &[out]));
    for (rules, others) in [
        (&[out][..], &[out][..]),
        (&[into], &[into]),
        (&[out], &[]),
        (&[out], &[rule(Direction::In, Role::Node, 81)]),
        (&[out], &[rule(Direction::In, Role::Peer, 80)]),
        (&[rule(Direction::Out, Role::Peer, 80)], &[into]),
    ] {
        assert!(!with(rules, others), "{rules:?} {others:?}");
    }
    // In a fleet whose common rules name it, all do, with the same key at both ends.
    for member in [&one, &two] {
        registry.set_member_rules(member.id, None).unwrap();
    }
    registry.set_fleet_rules(&FLEET, &[out, into].into_iter().collect()).unwrap();
    let view = view(&registry);
    let nodes = view.live().unwrap();
    let peers = nodes.iter().map(|node| {
        let configuration = Configuration::parse(&view.configuration(&node.member).unwrap()).unwrap();
        configuration.peers[1].clone()
    });
    let peers: Vec<Peer> = peers.collect();
    assert_eq!((peers[0].key, peers[1].key, peers[0].role), ([2; 32], [1; 32], Role::Node));
    assert!(peers[0].preshared == peers[1].preshared);
    assert_eq!(peers[0].endpoint.unwrap().ip[15], 2);
    assert_eq!(view.behind().unwrap().len(), 2);
}

#[test]
fn the_revoked_are_nobodys_peers_and_keep_their_address() {
    let (_folder, registry) = lab();
    let (one, two) = (claim(&registry, 1), claim(&registry, 2));
    let peer = Who::Peer("laptop".into());
    let new = NewMember { who: &peer, key: [7; 32], claim_key: None, underlay: None, authority: None };
    let laptop = registry.enroll(&fleet(), &new).unwrap();
    let rules = [
        rule(Direction::In, Role::Node, 80),
        rule(Direction::Out, Role::Node, 80),
        rule(Direction::In, Role::Peer, 22),
    ];
    registry.set_fleet_rules(&FLEET, &rules.into_iter().collect()).unwrap();
    let keys =
        |registry: &Registry| configuration(registry, &one).peers.iter().map(|peer| peer.key[0]).collect::<Vec<_>>();
    assert_eq!(keys(&registry), [0x2a, 2, 7]);
    registry.revoke(two.id).unwrap();
    assert_eq!(keys(&registry), [0x2a, 7]);
    registry.revoke(laptop.id).unwrap();
    assert_eq!(keys(&registry), [0x2a]);
    assert_eq!(claim(&registry, 3).host, 5);
    // Until it is named it stays so, whatever it says and whatever it would be granted.
    let fiduciary = *two.fiduciary().unwrap();
    for accepted in [Accepted::Ticket, Accepted::Expected, Accepted::Asked, Accepted::AcceptedAny] {
        let refused = grant_as(&registry, fiduciary, [2; 32], accepted).unwrap_err();
        assert!(refused.message.contains("--readmit"), "{refused}");
    }
    assert!(registry.is_revoked(&fiduciary).unwrap());
    // Claimed anew it is a member again, with another preshared key.
    let again = claim(&registry, 2);
    assert_eq!((again.host, again.revoked_ms), (two.host, None));
    assert_ne!(again.preshared.0, two.preshared.0);
    // A peer of a name that was revoked is another machine, at another address.
    let other = registry.enroll(&fleet(), &NewMember { key: [8; 32], ..new }).unwrap();
    assert_eq!((laptop.host, other.host), (4, 6));
    assert!(registry.member(laptop.id).unwrap().unwrap().revoked_ms.is_some());
    assert_eq!(view(&registry).find("laptop").unwrap().id, other.id);
}

#[test]
fn the_largest_fleet_of_peers_fits_an_update_and_one_more_is_refused() {
    let (_folder, registry) = lab();
    let one = claim(&registry, 1);
    let rules: Rules =
        (0..policy::MAX_RULES as u16).map(|port| rule(Direction::In, Role::Peer, 60000 + port)).collect();
    registry.set_fleet_rules(&FLEET, &rules).unwrap();
    let add = |number: usize| {
        let peer = Who::Peer(format!("laptop {number}"));
        registry.enroll(
            &fleet(),
            &NewMember { who: &peer, key: [number as u8 + 10; 32], claim_key: None, underlay: None, authority: None },
        )
    };
    for number in 1..policy::MAX_PEERS {
        add(number).unwrap();
    }
    assert!(view(&registry).configuration(&one).unwrap().len() <= MAX_CONFIGURATION);
    add(policy::MAX_PEERS).unwrap();
    assert!(view(&registry).configuration(&one).unwrap_err().message.contains("more peers than the 16"));
}

#[test]
fn a_member_is_found_by_what_it_is_called_and_only_if_that_is_one() {
    let (_folder, registry) = lab();
    let (one, _two) = (claim(&registry, 1), claim(&registry, 2));
    let view = view(&registry);
    let (v4, v6) = view.fleet.addresses(one.host);
    let print = one.who.to_string();
    for text in [
        print.clone(),
        print.to_uppercase(),
        print[..9].into(),
        print[..9].replace('-', "\u{2013}"),
        v4.to_string(),
        v6.to_string(),
    ] {
        assert_eq!(view.find(&text).unwrap().id, one.id, "{text}");
    }
    for text in ["", &print[..3], "nobody", "10.8.0.1"] {
        assert!(view.find(text).is_err(), "{text}");
    }
}

#[test]
fn a_network_is_set_while_it_is_empty_and_holds_no_more_than_it_has_room_for() {
    let (_folder, registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    let small = "10.9.0.0/30".parse::<Network>().unwrap();
    assert_eq!(registry.set_network(&FLEET, small, 4000).unwrap(), Changed::Yes);
    let one = claim(&registry, 1);
    assert_eq!(view(&registry).fleet.addresses(one.host).0.to_string(), "10.9.0.2");
    assert_eq!(configuration(&registry, &one).peers[0].endpoint.unwrap().port, 4000);
    assert_eq!(registry.set_network(&FLEET, small, 4001).unwrap(), Changed::HasMembers);
    let full = grant(&registry, 9).unwrap_err();
    assert!(full.message.contains("is full"));
    for wrong in ["10.9.0.1/24", "10.9.0.0/31", "10.0.0.0/7", "224.0.0.0/24", "0.0.0.0/8", "fd00::/64", "10.9.0.0"] {
        assert!(wrong.parse::<Network>().is_err(), "{wrong}");
    }
}

/// Claims a node that says that this is its WireGuard key.
fn says(registry: &Registry, number: u8, mesh_key: Key) -> Result<Node, Error> {
    let fiduciary = crypto::sign_public(&Secret::new([number; 32]));
    grant_to(registry, fiduciary, mesh_key)
}

#[test]
fn a_node_that_says_anothers_key_is_its_own_is_granted_nothing_and_touches_nobody() {
    let (_folder, registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    let both = [rule(Direction::In, Role::Node, 80), rule(Direction::Out, Role::Node, 80)];
    registry.set_fleet_rules(&FLEET, &both.into_iter().collect()).unwrap();
    let (one, two, three) = (claim(&registry, 1), claim(&registry, 2), claim(&registry, 3));
    registry.revoke(three.id).unwrap();
    let peer = |name: &str, number: u8| {
        let who = Who::Peer(name.into());
        let new = NewMember { who: &who, key: [number; 32], claim_key: None, underlay: None, authority: None };
        registry.enroll(&registry.fleet(&FLEET).unwrap().unwrap(), &new)
    };
    peer("laptop", 7).unwrap();
    let before = registry.members(&FLEET).unwrap().len();
    let own = AnchorSecret::from_seed(&[1; 32]).public();
    let cases = [
        ("another member's", [1; 32], one.who.to_string()),
        ("a revoked member's", [3; 32], three.who.to_string()),
        ("an exported peer's", [7; 32], "laptop".into()),
        ("the authority's own", AUTHORITY_KEY, "the authority's".into()),
        ("an authority's of the set", own.dh, "authorities or peers".into()),
        ("nobody's", [0; 32], "nobody".into()),
    ];
    for (what, key, named) in cases {
        let error = says(&registry, 9, key).unwrap_err();
        assert_eq!(error.exit, Exit::Failed, "{what}");
        assert!(error.message.contains(&named), "{what}: {error}");
        assert_eq!((registry.members(&FLEET).unwrap().len(), registry.nodes().unwrap().len()), (before, 3), "{what}");
    }
    // A peer neither: what the operator types is checked in the same place.
    for key in [1, 3, AUTHORITY_KEY[0], 0] {
        assert_eq!(peer("phone", key).err().unwrap().exit, Exit::Input);
    }
    assert!(peer("laptop", 7).is_ok());
    // The others have what they should have, and the node can be claimed with a key of its own.
    assert!(says(&registry, 9, [9; 32]).is_ok() && says(&registry, 9, [9; 32]).is_ok());
    assert!([one, two].iter().all(|member| configuration(&registry, member).peers.len() == 2));
}

#[test]
fn two_of_before_with_one_key_are_named_and_the_others_go_on() {
    let (folder, registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    let both = [
        rule(Direction::In, Role::Node, 80),
        rule(Direction::Out, Role::Node, 80),
        rule(Direction::In, Role::Peer, 22),
    ];
    registry.set_fleet_rules(&FLEET, &both.into_iter().collect()).unwrap();
    let members: Vec<Member> = (1..=4).map(|number| claim(&registry, number)).collect();
    let file = rusqlite::Connection::open(folder.path().join("r")).unwrap();
    // The third has the first one's key, the fourth the authority's.
    let set = |member: &Member, key: Key| {
        file.execute("UPDATE member SET key = ?2 WHERE id = ?1", rusqlite::params![member.id, key.as_slice()]).unwrap()
    };
    set(&members[2], members[0].key);
    set(&members[3], AUTHORITY_KEY);
    // Something changes: all is made anew.
    registry.set_fleet_rules(&FLEET, &both.into_iter().collect()).unwrap();
    let keys = |member: &Member| configuration(&registry, member).peers.iter().map(|peer| peer.key).collect::<Vec<_>>();
    assert_eq!(keys(&members[0]), [AUTHORITY_KEY, members[1].key]);
    assert_eq!(keys(&members[1]), [AUTHORITY_KEY, members[0].key]);
    for double in &members[2..] {
        let member = registry.member(double.id).unwrap().unwrap();
        assert_eq!(member.wanted, None);
        assert!(view(&registry).configuration(&member).unwrap_err().message.contains("had it first"));
    }
    let view = view(&registry);
    view.check(&view.unworkable().unwrap()).unwrap();
    let named: Vec<String> =
        view.behind().unwrap().into_iter().filter(|behind| behind.owed.is_err()).map(|behind| behind.who).collect();
    assert_eq!(named, [members[2].who.to_string(), members[3].who.to_string()], "they are accounted for");
    let nodes = view.nodes().unwrap();
    assert_eq!(nodes.iter().map(|node| node.is_double).collect::<Vec<_>>(), [false, false, true, true]);
}
