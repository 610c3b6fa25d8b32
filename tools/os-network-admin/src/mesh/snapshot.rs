//! What the daemon knows of the registry: what the interface is to be, and whose is what comes in. Nothing here reads it again.

use std::{collections::BTreeMap, net::IpAddr};

use crypto::Secret;
use policy::Prefix;
use wire::{Key, Mac, telemetry::Telemetry};

use super::engine::{PeerSetup, Setup};
use crate::{
    base::{error::Error, mesh_key::MeshKey},
    fleet::{View, endpoint, socket},
    registry::{Fleet, NodeMember, Registry, Who, rules},
};

/// How often a peer hears from us, so that one that has lost its session, or where we are, has them again.
pub const KEEPALIVE_S: u16 = 25;

pub struct Snapshot {
    pub fleet: Fleet,
    /// Our key.
    pub public: Key,
    secret: Secret,
    /// The nodes that are peers of this host, by their places.
    pub nodes: BTreeMap<u32, Node>,
    /// The fleet was read then.
    pub revision: i64,
}

/// A node that is a peer of this host.
pub struct Node {
    /// The registry's number of it.
    pub member: i64,
    pub fiduciary: Key,
    pub mac: Option<Mac>,
    /// The interface of this host on its link; `None`: it is reached by its static address.
    pub link: Option<String>,
    pub peer: PeerSetup,
}

/// Who is at a place now; `None`: nobody who is a peer.
pub type Change = (u32, Option<Node>);

impl Snapshot {
    pub fn load(registry: &Registry, fleet: &Fleet, key: &MeshKey) -> Result<Self, Error> {
        registry.set_authority(&fleet.id, &key.public())?;
        // Before the rest: what changes meanwhile is read again.
        let revision = registry.revision(&fleet.id)?;
        let view = View::load(registry, fleet, key.public())?;
        let all = view.nodes()?;
        let nodes = all.iter().filter_map(|node| Some((node.member.host, peer(&view.fleet, node)?))).collect();
        Ok(Self { public: key.public(), secret: key.secret().clone(), fleet: view.fleet, nodes, revision })
    }

    /// What the interface is to be.
    pub fn setup(&self) -> Setup {
        let peers = self.nodes.values().map(|node| node.peer.clone()).collect();
        let addresses = self.addresses().into();
        Setup { secret: self.secret.clone(), port: self.fleet.port, addresses, peers }
    }

    /// Those that the interface is to have.
    pub fn addresses(&self) -> [Prefix; 2] {
        let (v4, v6) = self.fleet.addresses(self.fleet.host);
        [Prefix::v4(v4.octets(), self.fleet.network.length), Prefix { ip: v6.octets(), length: 64 }]
    }

    /// The node at an inner address.
    pub fn at(&self, address: IpAddr) -> Option<&Node> {
        self.fleet.host(address).and_then(|host| self.nodes.get(&host))
    }

    /// The node that a record is of, if it comes from where that node is.
    pub fn whose(&self, record: &Telemetry, from: IpAddr) -> Option<&Node> {
        self.at(from).filter(|node| node.fiduciary.starts_with(&record.node))
    }
}

/// What changes at places that were left, and at those of nodes that have changed.
pub fn changes(fleet: &Fleet, freed: Vec<u32>, nodes: &[NodeMember]) -> Vec<Change> {
    let freed = freed.into_iter().map(|host| (host, None));
    freed.chain(nodes.iter().map(|node| (node.member.host, peer(fleet, node)))).collect()
}

/// A node as this host's peer, if it is one.
fn peer(fleet: &Fleet, node: &NodeMember) -> Option<Node> {
    let member = &node.member;
    let Who::Node(fiduciary) = member.who else { return None };
    if member.revoked_ms.is_some() || member.configuration.is_none() || node.is_double {
        return None;
    }
    let (v4, v6) = fleet.addresses(member.host);
    let peer = PeerSetup {
        key: member.key,
        preshared: Some(member.preshared.clone()),
        allowed: vec![Prefix::v4(v4.octets(), 32), Prefix { ip: v6.octets(), length: 128 }],
        endpoint: socket(node),
        keepalive_s: KEEPALIVE_S,
        rules: Some(rules(fleet, member).clone()),
    };
    let link = endpoint(node).and_then(|(_, link)| link).map(str::to_owned);
    Some(Node { member: member.id, fiduciary, mac: member.mac, link, peer })
}

#[cfg(test)]
mod tests {
    use wire::telemetry::Telemetry;
    use zerocopy::FromZeros;

    use super::*;
    use crate::{
        base::host,
        registry::{Changes, NewMember, Rules, Said},
    };

    const FLEET: [u8; 32] = [5; 32];

    fn enroll(registry: &Registry, number: u8) -> i64 {
        let who = Who::Node([number; 32]);
        let new = NewMember { who: &who, key: [number; 32], claim_key: None, underlay: None, authority: None };
        let member = registry.enroll(&Fleet::new(FLEET, "lab"), &new).unwrap();
        registry.store_configuration(member.id, b"some", 1).unwrap();
        member.id
    }

    fn are_same(one: &Snapshot, other: &Snapshot) -> bool {
        let fields = |node: &Node| (node.member, node.fiduciary, node.mac, node.link.clone());
        let same = |one: &Node, other: &Node| fields(one) == fields(other) && one.peer == other.peer;
        one.nodes.keys().eq(other.nodes.keys())
            && one.nodes.values().zip(other.nodes.values()).all(|(one, other)| same(one, other))
    }

    #[test]
    fn what_has_changed_since_makes_an_old_snapshot_a_new_one() {
        let registry = Registry::in_memory(host::system()).unwrap();
        registry.make_fleet(&FLEET, "lab").unwrap();
        let key = MeshKey::generate(&host::System).unwrap();
        let fleet = registry.fleet(&FLEET).unwrap().unwrap();
        let load = || Snapshot::load(&registry, &fleet, &key).unwrap();
        let members: Vec<i64> = (1..4).map(|number| enroll(&registry, number)).collect();
        let rules: Rules = ["in authority icmp".parse().unwrap()].into_iter().collect();
        let mut snapshot = load();
        assert_eq!(snapshot.nodes.len(), 3);
        let steps: [(&str, usize, &dyn Fn()); 8] = [
            ("a record", 0, &|| {
                let said = Said { member: members[0], record: Telemetry::new_zeroed(), ms: 1 };
                registry.store_telemetry(&[said]).unwrap();
            }),
            ("a command's counter", 0, &|| {
                registry.next_command_counter(members[0], 0).unwrap();
            }),
            ("a new node", 1, &|| {
                enroll(&registry, 4);
            }),
            ("rules of its own", 1, &|| registry.set_member_rules(members[0], Some(&rules)).unwrap()),
            ("where it is on its link", 1, &|| registry.store_mac(&[2; 32], &[2; 6]).unwrap()),
            ("a revoked one", 1, &|| registry.revoke(members[2]).unwrap()),
            ("one that has left", 1, &|| registry.leave(&[2; 32]).unwrap()),
            ("another in its place", 1, &|| {
                enroll(&registry, 7);
            }),
        ];
        for (what, expected, step) in steps {
            step();
            match registry.changes(&FLEET, snapshot.revision).unwrap() {
                Changes::None => assert_eq!(expected, 0, "{what}"),
                Changes::All => panic!("{what} changes all"),
                Changes::Some { nodes, freed, revision } => {
                    let changes = changes(&fleet, freed, &nodes);
                    assert_eq!(changes.len(), expected, "{what}");
                    for (host, node) in changes {
                        snapshot.nodes.remove(&host);
                        snapshot.nodes.extend(node.map(|node| (host, node)));
                    }
                    snapshot.revision = revision;
                }
            }
            assert!(are_same(&snapshot, &load()), "{what}");
        }
        registry.set_fleet_rules(&FLEET, &rules).unwrap();
        assert!(matches!(registry.changes(&FLEET, snapshot.revision).unwrap(), Changes::All));
    }
}
