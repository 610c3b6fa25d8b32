//! The registry as the claim sees it: a node that is granted something has its place in the fleet.

use std::{iter, net::Ipv6Addr};

use policy::{Endpoint, Prefix, Underlay};
use wire::{
    Key, Mac, U16,
    binding::PairingRecord,
    claim::parse_grant,
    set::{Authority, AuthoritySet},
};
use zerocopy::FromZeros;

use super::{
    chain::{Chain, Link},
    view::View,
};
use crate::{
    base::error::Error,
    claim::{Configure, Grant, Made, MeshTerms, Pairing, Strangers, Terms, revoked},
    registry::{AUTHORITY, Accepted, Event, Kind, Member, NewMember, NewNode, Node, Outcome, Registry, Tag, Who},
};

impl Pairing for Registry {
    fn next_counter(&self, ahead: u64) -> Result<u64, Error> {
        self.next_counter(ahead)
    }

    fn next_find(&self, ahead: u64, past: bool) -> Result<u64, Error> {
        self.next_find(ahead, past)
    }

    fn known(&self, fiduciary: &Key) -> Result<Option<Node>, Error> {
        self.node(fiduciary)
    }

    fn is_revoked(&self, fiduciary: &Key) -> Result<bool, Error> {
        let is_member = self.mesh_address(fiduciary)?.is_none_or(|place| place.revoked_ms.is_none());
        // One that was let go was not cut off: it may come again.
        let has_left = || self.node(fiduciary)?.map_or(Ok(false), |node| self.has_left(&node));
        Ok(!is_member && !has_left()?)
    }

    fn readmit(&self, fiduciary: &Key) -> Result<(), Error> {
        self.readmit(fiduciary)
    }

    fn paired_among(&self, named: impl Fn(&Key) -> bool) -> Result<Option<Key>, Error> {
        let paired = self.nodes()?.into_iter().filter(|node| node.record.is_some());
        for node in paired.filter(|node| named(&node.title.warrant.fiduciary)) {
            if !self.has_left(&node)? {
                return Ok(Some(node.title.warrant.fiduciary));
            }
        }
        Ok(None)
    }

    fn grant(&self, grant: &Grant<'_>, bind: impl FnOnce(&Made<'_>) -> Result<Vec<u8>, Error>) -> Result<Node, Error> {
        self.whole(|registry| {
            if grant.accepted != Accepted::Readmitted && registry.is_revoked(&grant.fiduciary)? {
                return Err(revoked(&grant.fiduciary));
            }
            check_mesh_key(registry, grant)?;
            let link = match &grant.terms.configuration {
                Configure::Warranted { .. } => None,
                Configure::Bytes(_) => in_force(registry, grant.terms, None)?,
                Configure::Mesh(mesh) => in_force(registry, grant.terms, Some(&mesh.authority))?,
            };
            let under = link.as_ref().map(|link| (link.sequence, link.hash));
            let mut set = link.map_or(grant.terms.set, |link| link.set);
            let (member, configuration) = match &grant.terms.configuration {
                Configure::Bytes(bytes) => {
                    registry.leave(&grant.fiduciary)?;
                    (None, bytes.clone())
                }
                Configure::Warranted { bytes, own } => (settle(registry, grant, own.as_ref())?, bytes.clone()),
                Configure::Mesh(mesh) => {
                    let (member, configuration) = enroll(registry, grant, mesh, &mut set, under.is_none())?;
                    (Some(member), configuration)
                }
            };
            set.check().map_err(|why| Error::input(format!("the set of authorities cannot own a node: {why}")))?;
            let counter = registry.next_counter(grant.ahead)?;
            let bytes = bind(&Made { counter, configuration: &configuration, set, under })?;
            if let (Some(member), Some((head, _))) = (member, parse_grant(&bytes)) {
                registry.store_configuration(member.id, &configuration, head.title.binding.counter.get())?;
            }
            let node = registry.store_pending(&NewNode {
                grant: &bytes,
                fleet: &grant.terms.fleet,
                anchor: grant.terms.anchor,
                accepted: grant.accepted,
                address: grant.address,
                interface: grant.interface,
                fork: grant.fork,
            })?;
            leaves_others_theirs(registry, &grant.terms.fleet_id, &node)?;
            Ok(node)
        })
    }

    fn paired(&self, node: &Node, record: &PairingRecord, rivals: u32, mac: Option<Mac>) -> Result<Node, Error> {
        self.whole(|registry| {
            if let Some(mac) = mac {
                registry.store_mac(&node.title.warrant.fiduciary, &mac)?;
            }
            registry.store_paired(node, record, rivals)
        })
    }

    fn acknowledged(&self, node: &Node) -> Result<Node, Error> {
        self.whole(|registry| registry.store_acknowledged(node))
    }

    fn refused(&self, node: Option<&Key>, why: &Error, strangers: &Strangers) -> Result<(), Error> {
        let event = Event::new(Kind::Claim).ended(Outcome::Refused).text(Tag::Why, &why.message);
        self.log(counted(node.into_iter().fold(event, Event::node), strangers))
    }

    fn strangers(&self, strangers: &Strangers) -> Result<(), Error> {
        self.log(counted(Event::new(Kind::Strangers), strangers))
    }
}

fn counted(event: Event, strangers: &Strangers) -> Event {
    let Strangers { unlisted, turned_away, impostors, cut, failed } = *strangers;
    event
        .count(Tag::Unlisted, unlisted)
        .count(Tag::TurnedAway, turned_away)
        .count(Tag::Impostors, impostors)
        .count(Tag::Cut, cut)
        .count(Tag::Failed, failed)
}

/// Once it is paired others know it: none may lose its configuration by that.
fn leaves_others_theirs(registry: &Registry, fleet: &[u8; 32], node: &Node) -> Result<(), Error> {
    let Some(fleet) = registry.fleet(fleet)? else { return Ok(()) };
    let view = View { registry, fleet };
    let before = view.unworkable()?;
    registry.trial(|registry| {
        registry.store_paired(node, &PairingRecord::new_zeroed(), 0)?;
        view.check(&before)
    })
}

/// What a node says that its WireGuard key is, it says only: whoever has another's would take the other's place.
fn check_mesh_key(registry: &Registry, grant: &Grant<'_>) -> Result<(), Error> {
    let (who, key, terms) = (Who::Node(grant.fiduciary), grant.mesh_key, grant.terms);
    registry.check_key(&terms.fleet_id, &who, &key)?;
    let peers = match &terms.configuration {
        Configure::Bytes(bytes) | Configure::Warranted { bytes, .. } => {
            policy::Configuration::parse(bytes).map(|granted| granted.peers).unwrap_or_default()
        }
        Configure::Mesh(_) => Default::default(),
    };
    let own = |authority: &Authority| authority.dh == key || authority.mesh == key;
    if terms.set.places().iter().any(own) || peers.iter().any(|peer| peer.key == key) {
        return Err(Error::failed(format!(
            "{who} says that its WireGuard key is one that its authorities or peers have: it was granted nothing"
        )));
    }
    Ok(())
}

/// Gives a node that is being claimed the place that its warrant names, if the mesh of its set is ours too.
fn settle(registry: &Registry, grant: &Grant<'_>, own: Option<&Key>) -> Result<Option<Member>, Error> {
    let terms = grant.terms;
    let place = terms.set.places().iter().find(|one| one.has_place() && Some(&one.mesh) == own);
    let (Some(place), Some(warrant)) = (place, &terms.warrant) else {
        registry.leave(&grant.fiduciary)?;
        return Ok(None);
    };
    if warrant.fiduciary != grant.fiduciary {
        let meant = Who::Node(warrant.fiduciary);
        return Err(Error::input(format!("the warrant is for {meant}, and this is another node")));
    }
    registry.make_fleet(&terms.fleet_id, &terms.fleet)?;
    registry.set_authority(&terms.fleet_id, &place.mesh)?;
    let fleet = registry.make_fleet(&terms.fleet_id, &terms.fleet)?;
    let host = warrant.addresses.iter().find_map(|own| fleet.host(Ipv6Addr::from(own.ip).to_canonical()));
    let host = host.ok_or_else(|| {
        Error::input(format!(
            "the warrant gives the node no address in the network {} that the fleet {} has in this registry",
            fleet.network, fleet.name
        ))
    })?;
    registry.seat(&fleet, &terms.set)?;
    registry.promise_place(&fleet, &grant.fiduciary, host)?;
    let port = place.port.get();
    let static_address = (warrant.underlay.ip != [0; 16]).then(|| Underlay {
        address: Prefix { ip: warrant.underlay.ip, length: warrant.underlay.length },
        gateway: (warrant.gateway != [0; 16]).then_some(warrant.gateway),
    });
    let new = NewMember {
        who: &Who::Node(grant.fiduciary),
        key: grant.mesh_key,
        claim_key: Some(grant.claim_key),
        underlay: static_address,
        authority: (port != 0).then_some(Endpoint { ip: place.endpoint, port }),
    };
    registry.enroll_in_the_open(&fleet, &new).map(Some)
}

/// The set that nodes join which are claimed now, once there is another than the one that whoever claims names. `own` is this
/// registry's WireGuard key.
fn in_force(registry: &Registry, terms: &Terms, own: Option<&Key>) -> Result<Option<Link>, Error> {
    // A claim costs the same however many nodes there are.
    let records = registry.records(&terms.fleet_id)?;
    if records.is_empty() {
        return Ok(None);
    }
    let chain = Chain::from(iter::empty::<&Node>(), &records, &terms.fleet_id);
    let head = chain.head()?;
    if own.is_some_and(|own| !head.set.places().iter().any(|one| one.mesh == *own)) {
        return Err(Error::input(format!(
            "set {} is in force in the fleet {}, and has no authority with this registry's mesh key: one of those who are in it claims \
             nodes for the fleet; or name another fleet with --fleet",
            head.sequence, terms.fleet
        )));
    }
    Ok(Some(head.clone()))
}

/// Gives a node that is being claimed its place, and says what configuration it has there, and, in a first set, where we are.
fn enroll(
    registry: &Registry,
    grant: &Grant<'_>,
    mesh: &MeshTerms,
    set: &mut AuthoritySet,
    is_first: bool,
) -> Result<(Member, Vec<u8>), Error> {
    let terms = grant.terms;
    registry.make_fleet(&terms.fleet_id, &terms.fleet)?;
    // First, so that no node has this key.
    registry.set_authority(&terms.fleet_id, &mesh.authority)?;
    let fleet = registry.make_fleet(&terms.fleet_id, &terms.fleet)?;
    registry.seat(&fleet, set)?;
    let authority = mesh.endpoint.unwrap_or(Endpoint { ip: grant.own, port: fleet.port });
    if is_first {
        let own = &mut set.authorities[0];
        (own.mesh, own.inner) = (mesh.authority, fleet.addresses(AUTHORITY).1.octets());
        (own.endpoint, own.port) = (authority.ip, U16::new(authority.port));
    }
    let new = NewMember {
        who: &Who::Node(grant.fiduciary),
        key: grant.mesh_key,
        claim_key: Some(grant.claim_key),
        underlay: mesh.underlay,
        authority: Some(authority),
    };
    // What several are to sign, several read.
    let is_open = set.needed > 1;
    let member = if is_open { registry.enroll_in_the_open(&fleet, &new) } else { registry.enroll(&fleet, &new) }?;
    let configuration = registry.configuration(&fleet, &member)?;
    Ok((member, configuration))
}
