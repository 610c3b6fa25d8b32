//! A fleet as the registry has it: who is meant, what nodes should have, who lacks it. Nothing is kept here that grows with the
//! fleet.

use std::{collections::BTreeSet, net::SocketAddrV6};

use policy::{Endpoint, Role};
use wire::{Key, MESH_PORT, binding::configuration_hash};

use super::chain::in_force;
use crate::{
    base::{
        error::{Error, Exit},
        input,
        interface::index_of,
    },
    registry::{self, Accepted, ClaimedAt, Fleet, Member, Node, NodeMember, Other, Registry, Rules},
};

/// A node that is not known to have what it should have.
pub struct Behind {
    /// What it is called.
    pub who: String,
    /// An error says why there is nothing that it could be told.
    pub owed: Result<Owed, Error>,
}

pub struct Owed {
    pub member: Member,
    pub configuration: Vec<u8>,
}

/// Those that have no configuration.
pub struct Unworkable {
    nodes: BTreeSet<i64>,
    /// A node that would be claimed now, with no other node about.
    newcomer: bool,
}

pub struct View<'r> {
    pub registry: &'r Registry,
    pub fleet: Fleet,
}

impl<'r> View<'r> {
    /// `authority` is this registry's WireGuard key.
    pub fn load(registry: &'r Registry, fleet: &Fleet, authority: Key) -> Result<Self, Error> {
        registry.set_authority(&fleet.id, &authority)?;
        Self { registry, fleet: fleet.clone() }.again()
    }

    /// After a change of the fleet's own rules.
    pub fn again(&self) -> Result<Self, Error> {
        let fleet = self.registry.fleet(&self.fleet.id)?;
        Ok(Self { fleet: fleet.unwrap_or_else(|| self.fleet.clone()), registry: self.registry })
    }

    /// The pairing of a member that is a node.
    pub fn node(&self, member: &Member) -> Result<Option<Node>, Error> {
        member.fiduciary().map_or(Ok(None), |fiduciary| self.registry.node(fiduciary))
    }

    /// The pairing of a member that can be told something, with the set that it has now.
    pub fn paired(&self, member: &Member) -> Result<Node, Error> {
        if member.revoked_ms.is_some() {
            return Err(Error::new(Exit::Other, format!("{} is revoked: it has no key of ours any more", member.who)));
        }
        let node = self.node(member)?.filter(|node| node.record.is_some());
        let node =
            node.ok_or_else(|| Error::new(Exit::Other, format!("{} is no claimed node of this fleet", member.who)))?;
        Ok(Node { title: in_force(self.registry, member, &node)?, ..node })
    }

    /// Its nodes, whether or not they are live.
    pub fn nodes(&self) -> Result<Vec<NodeMember>, Error> {
        self.registry.node_members(&self.fleet.id)
    }

    /// Nodes that are members: claimed and not revoked.
    pub fn live(&self) -> Result<Vec<NodeMember>, Error> {
        Ok(self.nodes()?.into_iter().filter(NodeMember::is_live).collect())
    }

    /// Live nodes that are not known to have what they should have, those among them for which nothing follows.
    pub fn behind(&self) -> Result<Vec<Behind>, Error> {
        let mut behind = Vec::new();
        for entry in self.registry.every_node(&self.fleet.id)? {
            match entry {
                Ok(node) if node.is_live() && !node.is_current() => {
                    let (who, member) = (node.member.who.to_string(), node.member);
                    let configuration =
                        if self.is_withheld(&member)? { Err(withheld(&who)) } else { self.configuration(&member) };
                    behind
                        .push(Behind { who, owed: configuration.map(|configuration| Owed { member, configuration }) });
                }
                Ok(_) => {}
                Err(who) => behind.push(Behind { who, owed: Err(self.registry.damaged()) }),
            }
        }
        Ok(behind)
    }

    /// Whether another's registry has handed the node on without its configuration, which has secrets.
    fn is_withheld(&self, member: &Member) -> Result<bool, Error> {
        if !member.configuration.as_ref().is_some_and(Vec::is_empty) {
            return Ok(false);
        }
        let handed = self.node(member)?.filter(|node| node.accepted == Accepted::Imported);
        Ok(handed.is_some_and(|node| node.title.warrant.configuration != configuration_hash(&[])))
    }

    /// What has no configuration now.
    pub fn unworkable(&self) -> Result<Unworkable, Error> {
        let nodes = self.registry.unworkable(&self.fleet.id)?.iter().map(|node| node.member.id).collect();
        Ok(Unworkable { nodes, newcomer: self.registry.newcomer(&self.fleet.id)?.is_err() })
    }

    /// After a change: an error if a live node, or the first that would be claimed now, can have no configuration any more.
    /// What had none before is not this change's doing, and must not stand in the way of what mends it.
    pub fn check(&self, before: &Unworkable) -> Result<(), Error> {
        let nodes = self.registry.unworkable(&self.fleet.id)?;
        if let Some(node) = nodes.iter().find(|node| !before.nodes.contains(&node.member.id)) {
            let fleet = self.registry.fleet(&self.fleet.id)?.unwrap_or_else(|| self.fleet.clone());
            self.registry.configuration(&fleet, &node.member)?;
        }
        if before.newcomer { Ok(()) } else { self.registry.newcomer(&self.fleet.id)? }
    }

    /// The peers whose exported configuration may name this member.
    pub fn exported_to(&self, member: &Member) -> Result<Vec<Member>, Error> {
        let named = member.fiduciary().is_some() && self.lets_peers(member);
        if named { self.registry.peers(&self.fleet.id) } else { Ok(Vec::new()) }
    }

    pub fn rules<'a>(&'a self, member: &'a Member) -> &'a Rules {
        registry::rules(&self.fleet, member)
    }

    /// Whether a node's rules name peers.
    pub fn lets_peers(&self, node: &Member) -> bool {
        self.rules(node).iter().any(|rule| rule.role == Role::Peer)
    }

    /// A member by what the operator calls it: a name, a fingerprint or its beginning, or an inner address.
    pub fn find(&self, text: &str) -> Result<Member, Error> {
        let id = &self.fleet.id;
        let mut found = match input::beginning(text) {
            Some(digits) => self.registry.members_with_print(id, &digits)?,
            None => Vec::new(),
        };
        if let Some(host) = text.parse().ok().and_then(|address| self.fleet.host(address)) {
            found.extend(self.registry.member_at(id, host)?.filter(|member| member.fiduciary().is_some()));
        }
        found.extend(self.registry.member_named(id, text)?);
        match (found.pop(), found.pop()) {
            (Some(member), None) => Ok(member),
            (Some(_), Some(_)) => {
                Err(Error::new(Exit::Other, format!("{text} names more than one member: say more of it")))
            }
            (None, _) => Err(Error::new(
                Exit::Other,
                format!(
                    "the fleet {} has no member {text}: see `os-network-admin nodes list`; a node that was claimed by an \
                     earlier version, or with --config, is not in the mesh",
                    self.fleet.name
                ),
            )),
        }
    }

    /// The configuration that a node should have.
    pub fn configuration(&self, member: &Member) -> Result<Vec<u8>, Error> {
        self.registry.configuration(&self.fleet, member)
    }

    /// The members, besides the authority, that a node knows: those with whom its rules open a flow.
    pub fn others(&self, member: &Member) -> Result<Vec<Other>, Error> {
        self.registry.others(&self.fleet, member)
    }
}

fn withheld(who: &str) -> Error {
    Error::input(format!(
        "the configuration of {who} has preshared keys of the authority who claimed it, and is not here: its updates are proposed \
         from that registry"
    ))
}

/// Where a node is outside the tunnel, and on which of our interfaces if it is on our link.
pub fn endpoint(node: &NodeMember) -> Option<(Endpoint, Option<&str>)> {
    if let Some(underlay) = &node.member.underlay {
        return Some((Endpoint { ip: underlay.address.ip, port: MESH_PORT }, None));
    }
    let ClaimedAt { address, interface } = node.claimed_at.as_ref()?;
    Some((Endpoint { ip: *address, port: MESH_PORT }, Some(interface)))
}

/// The same, as a socket sees it. An interface that is not there now has no index.
pub fn socket(node: &NodeMember) -> Option<SocketAddrV6> {
    let (endpoint, interface) = endpoint(node)?;
    let scope = interface.map_or(0, |name| index_of(name).unwrap_or(0));
    Some(SocketAddrV6::new(endpoint.ip.into(), endpoint.port, 0, scope))
}

#[cfg(test)]
mod tests;
