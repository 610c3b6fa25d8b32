//! A fleet as the registry has it, and the configuration that follows from it for each node: a function of nothing else, so
//! that what a node has can be compared with what it should have.

use std::{
    collections::HashMap,
    net::{Ipv6Addr, SocketAddrV6},
};

use nix::net::if_::if_nametoindex;
use policy::{Configuration, Direction, Endpoint, Peer, Prefix, Preshared, Role, Rule, Underlay};
use wire::{Fingerprint, Ip, Key, MESH_PORT, update::MAX_CONFIGURATION};

use crate::{
    error::{Error, Exit},
    mesh::key::decode,
    registry::{
        Node, Registry, State,
        fleet::{AUTHORITY, Fleet, Member, NewMember, Rules, Who},
    },
};

/// How often a node reminds the authority of where it is.
const KEEPALIVE_S: u16 = 25;
/// The shortest beginning of a fingerprint that names a node.
const SHORTEST: usize = 4;

/// What a claim gives a node, besides its place.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Place {
    /// The authority's WireGuard key.
    pub authority: Key,
    pub underlay: Option<Underlay>,
    /// Where the authority is, if not at the address that signs finds and opens.
    pub endpoint: Option<Endpoint>,
}

/// F, N and W.
pub struct NodeKeys {
    pub fiduciary: Key,
    pub claim: Key,
    pub mesh: Key,
}

pub struct View {
    pub fleet: Fleet,
    /// The authority's WireGuard key.
    pub authority: Key,
    pub members: Vec<Member>,
    nodes: HashMap<Key, Node>,
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
        let named = node.is_some_and(|node| super::peer::lets_peers(self, node));
        self.members.iter().filter(move |member| named && member.fiduciary().is_none() && member.revoked_ms.is_none())
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

/// Gives a node that is being claimed its place, and says what it is granted.
pub fn enroll(
    registry: &Registry,
    fleet: &Fleet,
    place: &Place,
    node: &NodeKeys,
    own: Ip,
) -> Result<(Member, Vec<u8>), Error> {
    let NodeKeys { fiduciary, claim, mesh } = *node;
    let fleet = registry.fleet(&fleet.id)?.unwrap_or_else(|| fleet.clone());
    let authority = place.endpoint.unwrap_or(Endpoint { ip: own, port: fleet.port });
    let new = NewMember {
        who: &Who::Node(fiduciary),
        key: mesh,
        claim_key: Some(claim),
        underlay: place.underlay,
        authority: Some(authority),
    };
    let member = registry.enroll(&fleet, &new)?;
    let configuration = View::load(registry, &fleet, place.authority)?.configuration(&member)?;
    Ok((member, configuration))
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

/// `ADDRESS/LENGTH`, a static IPv6 address with its subnet.
pub fn underlay(text: &str) -> Result<Prefix, String> {
    let parse = || {
        let (ip, length) = text.split_once('/')?;
        let (ip, length) = (ip.parse::<Ipv6Addr>().ok()?, length.parse().ok().filter(|length| *length <= 128)?);
        Some(Prefix { ip: ip.octets(), length })
    };
    parse().ok_or_else(|| "an underlay address is an IPv6 address with its length, such as 2001:db8::5/64".into())
}

/// `[ADDRESS]:PORT`.
pub fn endpoint(text: &str) -> Result<Endpoint, String> {
    let address: SocketAddrV6 = text.parse().map_err(|_| "an endpoint is written as [2001:db8::1]:51820")?;
    Ok(Endpoint { ip: address.ip().octets(), port: address.port() })
}

/// A WireGuard public key.
pub fn public_key(text: &str) -> Result<Key, String> {
    decode(text).ok_or_else(|| "a public key has 44 characters, as `wg pubkey` prints it".into())
}

#[cfg(test)]
mod tests;
