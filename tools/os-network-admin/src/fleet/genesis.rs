//! Founding a fleet: from the document and the registry alone.

use std::collections::BTreeSet;

use policy::Endpoint;
use wire::{Fingerprint, Key, MESH_PORT};

use super::papers::told;
use crate::{
    base::{
        error::{Error, Exit},
        paper::{Genesis, Paper, Papers},
    },
    claim::{Configure, MeshTerms, Terms},
    registry::{AnchorKind, Kind, Network, Registry, State},
};

/// The one document of these files, accepted by all its authorities.
pub fn founded(papers: &Papers) -> Result<&Genesis, Error> {
    let genesis = one(papers)?;
    let missing = genesis.accepted(papers).iter().filter(|(_, accepted)| !accepted).count();
    if missing == 0 {
        return Ok(genesis);
    }
    Err(Error::new(
        Exit::Unapproved,
        format!(
            "{missing} of the {} authorities have not accepted the genesis of {}: see `os-network-admin fleet show`",
            genesis.authorities.len(),
            genesis.name
        ),
    ))
}

pub fn one(papers: &Papers) -> Result<&Genesis, Error> {
    match papers.foundings.as_slice() {
        [one] => Ok(one),
        [] => Err(Error::input(
            "there is no genesis of a fleet in these files: `os-network-admin fleet propose` writes one",
        )),
        _ => Err(Error::input("there is more than one fleet's genesis in these files: name one")),
    }
}

/// The fleet is there from now on, in the registry of the authority whose mesh its nodes join. `own` is its WireGuard key.
pub fn close(registry: &Registry, genesis: &Genesis, own: Option<&Key>) -> Result<(), Error> {
    let has_place = genesis.authorities.first().is_some_and(|one| Some(&one.mesh) == own);
    if !has_place {
        return Err(Error::input(
            "the document's first authority is another registry's: who proposed it closes it, from the same registry",
        ));
    }
    registry.whole(|registry| {
        make(registry, genesis)?;
        registry.log(told(Kind::Founded, &Paper::Genesis(Box::new(genesis.clone()))))
    })
}

/// The fleet in the registry, as the document has it.
fn make(registry: &Registry, genesis: &Genesis) -> Result<(), Error> {
    let id = genesis.id();
    if registry.fleets_named(&genesis.name)?.iter().any(|fleet| fleet.id != id) {
        return Err(taken(&genesis.name));
    }
    if registry.fleet(&id)?.is_none() {
        registry.make_fleet(&id, &genesis.name)?;
        let (address, length) = genesis.network;
        registry.set_network(&id, Network { address, length }, MESH_PORT)?;
    }
    if let Some(first) = genesis.authorities.first() {
        registry.set_authority(&id, &first.mesh)?;
    }
    // No node is given a place that an authority has.
    let fleet = registry.fleet(&id)?.ok_or_else(|| registry.damaged())?;
    registry.seat(&fleet, &genesis.set().map_err(Error::input)?)
}

pub fn taken(name: &str) -> Error {
    Error::input(format!(
        "this registry has a fleet {name} already: found one of another name, or name another registry"
    ))
}

/// The members that are claimed, by their fingerprints.
pub fn paired(registry: &Registry, genesis: &Genesis) -> Result<BTreeSet<[u8; 20]>, Error> {
    let id = genesis.id();
    let is_its = |node: &crate::registry::Node| node.state == State::Paired && node.title.warrant.fleet == id;
    let prints = registry.nodes()?.into_iter().filter(is_its);
    let prints = prints.map(|node| Fingerprint::of(&node.title.warrant.fiduciary).0);
    Ok(prints.filter(|print| genesis.member(print).is_some()).collect())
}

/// An error if one of these may not be claimed under the document: it does not list it, or has taken it already.
pub fn check_members(
    registry: Option<&Registry>,
    genesis: &Genesis,
    meant: &BTreeSet<[u8; 20]>,
    again: bool,
) -> Result<(), Error> {
    let refuse = |print: &[u8; 20], why: &str| {
        Err(Error::new(Exit::NotAccepted, format!("{} {why} {}", Fingerprint(*print), genesis.name)))
    };
    if let Some(print) = meant.iter().find(|print| genesis.member(print).is_none()) {
        return refuse(print, "is not listed in the genesis of the fleet");
    }
    let Some(registry) = registry.filter(|_| again) else { return Ok(()) };
    let paired = paired(registry, genesis)?;
    match meant.iter().find(|print| paired.contains(*print)) {
        Some(print) => {
            refuse(print, "was claimed already, and a document takes each node once: by the genesis of the fleet")
        }
        None => Ok(()),
    }
}

/// What a node becomes that is claimed under the document. It has no rules before the fleet is activated.
pub fn terms(genesis: &Genesis, anchor: AnchorKind) -> Result<Terms, Error> {
    let endpoint = genesis.authorities.first().map(|one| Endpoint { ip: one.endpoint, port: one.port.get() });
    Ok(Terms {
        fleet: genesis.name.clone(),
        fleet_id: genesis.id(),
        set: genesis.set().map_err(Error::input)?,
        configuration: Configure::Mesh(MeshTerms { endpoint, ..MeshTerms::default() }),
        anchor,
        warrant: None,
    })
}
