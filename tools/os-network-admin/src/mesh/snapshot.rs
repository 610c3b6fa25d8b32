//! What the daemon knows of the registry: what the interface is to be, and whose is what comes in. Nothing here reads it again.

use std::{collections::HashMap, net::IpAddr};

use policy::Prefix;
use wire::{Key, Mac, telemetry::Telemetry};

use super::engine::{PeerSetup, Setup};
use crate::{
    base::{error::Error, mesh_key::MeshKey},
    fleet::{View, socket},
    registry::{AUTHORITY, Fleet, Registry, Who},
};

/// How often a peer hears from us, so that one that has lost its session, or where we are, has them again.
pub const KEEPALIVE_S: u16 = 25;

pub struct Snapshot {
    pub fleet: Fleet,
    /// Our key.
    pub public: Key,
    pub setup: Setup,
    /// Of the setup's peers, in its order.
    pub nodes: Vec<Node>,
    by_host: HashMap<u32, usize>,
}

/// A node that is a peer of this host.
pub struct Node {
    /// The registry's number of it.
    pub member: i64,
    pub host: u32,
    pub fiduciary: Key,
    pub mac: Option<Mac>,
}

impl Snapshot {
    pub fn load(registry: &Registry, fleet: &Fleet, key: &MeshKey) -> Result<Self, Error> {
        let view = View::load(registry, fleet, key.public())?;
        let (v4, v6) = view.fleet.addresses(AUTHORITY);
        let addresses =
            vec![Prefix::v4(v4.octets(), view.fleet.network.length), Prefix { ip: v6.octets(), length: 64 }];
        let (mut nodes, mut peers) = (Vec::new(), Vec::new());
        for placed in view.nodes()? {
            let member = &placed.member;
            let Who::Node(fiduciary) = member.who else { continue };
            if member.revoked_ms.is_some() || member.configuration.is_none() {
                continue;
            }
            let (v4, v6) = view.fleet.addresses(member.host);
            peers.push(PeerSetup {
                key: member.key,
                preshared: Some(member.preshared.clone()),
                allowed: vec![Prefix::v4(v4.octets(), 32), Prefix { ip: v6.octets(), length: 128 }],
                endpoint: socket(&placed),
                keepalive_s: KEEPALIVE_S,
                rules: Some(view.rules(member).clone()),
            });
            nodes.push(Node { member: member.id, host: member.host, fiduciary, mac: member.mac });
        }
        let by_host = nodes.iter().enumerate().map(|(at, node)| (node.host, at)).collect();
        let setup = Setup { secret: key.secret().clone(), port: view.fleet.port, addresses, peers };
        Ok(Self { fleet: view.fleet, public: key.public(), setup, nodes, by_host })
    }

    /// The node at an inner address.
    pub fn at(&self, address: IpAddr) -> Option<&Node> {
        self.fleet.host(address).and_then(|host| self.by_host.get(&host)).and_then(|at| self.nodes.get(*at))
    }

    /// The node that a record is of, if it comes from where that node is.
    pub fn whose(&self, record: &Telemetry, from: IpAddr) -> Option<&Node> {
        self.at(from).filter(|node| node.fiduciary.starts_with(&record.node))
    }
}
