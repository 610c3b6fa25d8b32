//! A fleet as the registry has it, and the configuration that follows from it for each node: a function of nothing else, so
//! that what a node has can be compared with what it should have.

use std::{collections::BTreeMap, net::SocketAddrV6};

use nix::net::if_::if_nametoindex;
use policy::{Configuration, Direction, Endpoint, Peer, Prefix, Preshared, Role, Rule};
use wire::{Fingerprint, Key, MESH_PORT, update::MAX_CONFIGURATION};

use crate::{
    base::error::{Error, Exit},
    registry::{AUTHORITY, Fleet, Member, Node, Registry, Rules, State, Who},
};

/// How often a node reminds the authority of where it is.
const KEEPALIVE_S: u16 = 25;
/// The shortest beginning of a fingerprint that names a node.
const SHORTEST: usize = 4;

pub struct View {
    pub fleet: Fleet,
    /// The authority's WireGuard key.
    pub authority: Key,
    pub members: Vec<Member>,
    nodes: BTreeMap<Key, Node>,
}

impl View {
    pub fn load(registry: &Registry, fleet: &Fleet, authority: Key) -> Result<Self, Error> {
        let nodes = registry.nodes()?.into_iter().map(|node| (node.binding.fiduciary, node)).collect();
        Ok(Self { fleet: fleet.clone(), authority, members: registry.members(&fleet.id)?, nodes })
    }

    /// The pairing of a member that is a node.
    pub fn node(&self, member: &Member) -> Option<&Node> {
        member.fiduciary().and_then(|fiduciary| self.nodes.get(fiduciary))
    }

    /// The pairing of a member that can be told something.
    pub fn paired(&self, member: &Member) -> Result<&Node, Error> {
        if member.revoked_ms.is_some() {
            return Err(Error::new(Exit::Other, format!("{} is revoked: it has no key of ours any more", member.who)));
        }
        let node = self.node(member).filter(|node| node.record.is_some());
        node.ok_or_else(|| Error::new(Exit::Other, format!("{} is no claimed node of this fleet", member.who)))
    }

    /// Nodes that are members: claimed and not revoked.
    pub fn live(&self) -> impl Iterator<Item = &Member> {
        let is_live = |member: &&Member| {
            let paired = self.node(member).is_some_and(|node| node.state == State::Paired);
            paired && member.revoked_ms.is_none() && member.configuration.is_some()
        };
        self.members.iter().filter(is_live)
    }

    /// Live nodes that have not shown what they should have.
    pub fn behind(&self) -> impl Iterator<Item = &Member> {
        self.live().filter(|member| self.configuration(member).is_ok_and(|wanted| member.configuration != Some(wanted)))
    }

    /// As it will be without a member.
    pub fn without(&self, id: i64) -> Self {
        let mut members = self.members.clone();
        for member in members.iter_mut().filter(|member| member.id == id) {
            member.revoked_ms.get_or_insert(0);
        }
        Self { fleet: self.fleet.clone(), authority: self.authority, members, nodes: self.nodes.clone() }
    }

    /// As it will be when a member has these rules.
    pub fn set_member_rules(&mut self, id: i64, rules: Option<Rules>) {
        for member in self.members.iter_mut().filter(|member| member.id == id) {
            member.rules.clone_from(&rules);
        }
    }

    /// The peers whose exported configuration may name this node.
    pub fn exported_to(&self, id: i64) -> impl Iterator<Item = &Member> {
        let node = self.members.iter().find(|member| member.id == id && member.fiduciary().is_some());
        let named = node.is_some_and(|node| self.lets_peers(node));
        self.members.iter().filter(move |member| named && member.fiduciary().is_none() && member.revoked_ms.is_none())
    }

    /// Whether a node's rules have a flow with peers that are no nodes.
    pub fn lets_peers(&self, node: &Member) -> bool {
        self.rules(node).iter().any(|rule| rule.role == Role::Peer)
    }

    pub fn rules<'a>(&'a self, member: &'a Member) -> &'a Rules {
        member.rules.as_ref().unwrap_or(&self.fleet.rules)
    }

    /// A member by what the operator calls it: a name, a fingerprint or its beginning, or an inner address.
    pub fn find(&self, text: &str) -> Result<&Member, Error> {
        let digits: String = text.chars().filter(|c| !matches!(c, ' ' | '-' | ':')).collect::<String>().to_lowercase();
        let is_print = digits.len() >= SHORTEST && digits.chars().all(|c| c.is_ascii_hexdigit());
        let named = |member: &&Member| match &member.who {
            Who::Peer(name) => name == text,
            Who::Node(fiduciary) => {
                let (v4, v6) = self.fleet.addresses(member.host);
                let print = Fingerprint::of(fiduciary).to_string().replace('-', "");
                (is_print && print.starts_with(&digits)) || text == v4.to_string() || text.parse() == Ok(v6)
            }
        };
        let mut found = self.members.iter().filter(named);
        match (found.next(), found.next()) {
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

    /// Where a node is outside the tunnel, and on which of our interfaces if it is on our link.
    pub fn endpoint(&self, member: &Member) -> Option<(Endpoint, Option<&str>)> {
        if let Some(underlay) = &member.underlay {
            return Some((Endpoint { ip: underlay.address.ip, port: MESH_PORT }, None));
        }
        let node = self.node(member)?;
        Some((Endpoint { ip: node.address, port: MESH_PORT }, Some(&node.interface)))
    }

    /// The same, as a socket sees it. An interface that is not there now has no index.
    pub fn socket(&self, member: &Member) -> Option<SocketAddrV6> {
        let (endpoint, interface) = self.endpoint(member)?;
        let scope = interface.map_or(0, |name| if_nametoindex(name).unwrap_or(0));
        Some(SocketAddrV6::new(endpoint.ip.into(), endpoint.port, 0, scope))
    }

    /// The configuration that a node should have.
    pub fn configuration(&self, member: &Member) -> Result<Vec<u8>, Error> {
        let mut configuration = Configuration { underlay: member.underlay, ..Configuration::default() };
        let (v4, v6) = self.fleet.addresses(member.host);
        let own = [Prefix::v4(v4.octets(), self.fleet.network.length), Prefix { ip: v6.octets(), length: 64 }];
        configuration.addresses.extend(own);
        configuration.rules.clone_from(self.rules(member));
        let authority = Peer {
            key: self.authority,
            role: Role::Authority,
            preshared: Some(member.preshared.clone()),
            endpoint: member.authority,
            allowed: self.allowed(AUTHORITY).into_iter().collect(),
            keepalive_s: KEEPALIVE_S,
        };
        let others = self.peers(member).map(|other| Peer {
            key: other.key,
            role: if other.fiduciary().is_some() { Role::Node } else { Role::Peer },
            preshared: Some(between(member, other)),
            endpoint: self.endpoint(other).map(|(endpoint, _)| endpoint),
            allowed: self.allowed(other.host).into_iter().collect(),
            keepalive_s: 0,
        });
        for peer in [authority].into_iter().chain(others) {
            configuration.peers.push(peer).map_err(|_| too_many(member))?;
        }
        configuration.check().map_err(|why| Error::input(format!("no sensible configuration results: {why:?}")))?;
        let mut buffer = vec![0; MAX_CONFIGURATION];
        let length = configuration.write(&mut buffer).map(<[u8]>::len).ok_or_else(|| too_many(member))?;
        buffer.truncate(length);
        Ok(buffer)
    }

    /// The members, besides the authority, that a node knows: those with whom its rules open a flow.
    pub fn peers<'a>(&'a self, member: &'a Member) -> impl Iterator<Item = &'a Member> {
        let rules = self.rules(member);
        let nodes = self.live().filter(move |other| other.id != member.id && linked(rules, self.rules(other)));
        let with_peers = rules.iter().any(|rule| rule.role == Role::Peer);
        let is_peer = move |other: &&Member| with_peers && other.fiduciary().is_none() && other.revoked_ms.is_none();
        nodes.chain(self.members.iter().filter(is_peer))
    }

    fn allowed(&self, host: u32) -> [Prefix; 2] {
        let (v4, v6) = self.fleet.addresses(host);
        [Prefix::v4(v4.octets(), 32), Prefix { ip: v6.octets(), length: 128 }]
    }
}

/// Whether one may open a flow that the other lets in.
fn linked(one: &[Rule], other: &[Rule]) -> bool {
    let opens = |from: &[Rule], to: &[Rule]| {
        let out = from.iter().filter(|rule| rule.role == Role::Node && rule.direction == Direction::Out);
        out.clone().any(|rule| to.contains(&Rule { direction: Direction::In, ..*rule }))
    };
    opens(one, other) || opens(other, one)
}

/// The preshared key of two members: each of theirs with the authority is part of it, so no third can know it.
pub fn between(one: &Member, other: &Member) -> Preshared {
    let (low, high) = if one.id < other.id { (one, other) } else { (other, one) };
    let mut text = zeroize::Zeroizing::new([0; 27 + 64]);
    let (label, secrets) = text.split_at_mut(27);
    label.copy_from_slice(b"os-network-admin preshared\0");
    secrets[..32].copy_from_slice(&low.preshared.0);
    secrets[32..].copy_from_slice(&high.preshared.0);
    Preshared(crypto::sha256(&*text))
}

fn too_many(member: &Member) -> Error {
    Error::input(format!(
        "the rules give {} more peers than the {} that a node has: name fewer, or give nodes rules of their own",
        member.who,
        policy::MAX_PEERS
    ))
}

#[cfg(test)]
mod tests;
