//! A fleet as the registry has it: who is meant, what nodes should have, who lacks it. Nothing is kept here that grows with the
//! fleet.

use std::net::SocketAddrV6;

use nix::net::if_::if_nametoindex;
use policy::{Endpoint, Role};
use wire::{Key, MESH_PORT};

use crate::{
    base::error::{Error, Exit},
    registry::{self, ClaimedAt, Fleet, Member, Node, NodeMember, Other, Registry, Rules},
};

/// The shortest beginning of a fingerprint that names a node.
const SHORTEST: usize = 4;

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
    pub fn again(self) -> Result<Self, Error> {
        let fleet = self.registry.fleet(&self.fleet.id)?;
        Ok(Self { fleet: fleet.unwrap_or(self.fleet), ..self })
    }

    /// The pairing of a member that is a node.
    pub fn node(&self, member: &Member) -> Result<Option<Node>, Error> {
        member.fiduciary().map_or(Ok(None), |fiduciary| self.registry.node(fiduciary))
    }

    /// The pairing of a member that can be told something.
    pub fn paired(&self, member: &Member) -> Result<Node, Error> {
        if member.revoked_ms.is_some() {
            return Err(Error::new(Exit::Other, format!("{} is revoked: it has no key of ours any more", member.who)));
        }
        let node = self.node(member)?.filter(|node| node.record.is_some());
        node.ok_or_else(|| Error::new(Exit::Other, format!("{} is no claimed node of this fleet", member.who)))
    }

    /// Its nodes, whether or not they are live.
    pub fn nodes(&self) -> Result<Vec<NodeMember>, Error> {
        self.registry.node_members(&self.fleet.id)
    }

    /// Nodes that are members: claimed and not revoked.
    pub fn live(&self) -> Result<Vec<NodeMember>, Error> {
        Ok(self.nodes()?.into_iter().filter(NodeMember::is_live).collect())
    }

    /// Live nodes that have not shown what they should have.
    pub fn behind(&self) -> Result<Vec<Member>, Error> {
        Ok(self.registry.behind(&self.fleet.id)?.into_iter().map(|node| node.member).collect())
    }

    /// An error if a live node can have no configuration.
    pub fn check(&self) -> Result<(), Error> {
        match self.registry.unworkable(&self.fleet.id)?.first() {
            Some(node) => {
                let fleet = self.registry.fleet(&self.fleet.id)?.unwrap_or_else(|| self.fleet.clone());
                self.registry.configuration(&fleet, &node.member).map(|_| ())
            }
            None => Ok(()),
        }
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
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | ':')).collect::<String>().to_lowercase();
        let is_print = digits.len() >= SHORTEST && digits.chars().all(|c| c.is_ascii_hexdigit());
        let mut found = if is_print { self.registry.members_with_print(id, &digits)? } else { Vec::new() };
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
    let scope = interface.map_or(0, |name| if_nametoindex(name).unwrap_or(0));
    Some(SocketAddrV6::new(endpoint.ip.into(), endpoint.port, 0, scope))
}

#[cfg(test)]
mod tests;
