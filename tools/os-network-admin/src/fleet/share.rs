//! One fleet in several registries: what that of an authority knows is handed on to the others, who believe of it what nodes and
//! authorities have signed.

use std::net::Ipv6Addr;

use crypto::AnchorPublic;
use policy::Underlay;
use wire::{
    Hex, Key, MESH_PORT, U16,
    claim::{GrantHead, kind},
    set::Authority,
    title::Title,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{chain::Chain, genesis::founded, papers::told, view::View};
use crate::{
    base::{
        error::{Error, Exit},
        paper::{Export, Exported, Paper, Papers, is_secret, name_of},
    },
    output::{Taken, TakenNode},
    registry::{
        AUTHORITY, AnchorKind, COUNTER_AHEAD, Fleet, Handed, Kind, Member, Network, NewMember, NodeMember, Registry,
        Rules, State, Tag, Who,
    },
};

/// What this registry has of the fleet. Nodes that were let go, and those that never were in the mesh, are not in it.
pub fn export(view: &View<'_>, made_ms: i64) -> Result<Export, Error> {
    let View { registry, fleet } = view;
    let mut nodes = Vec::new();
    for node in view.nodes()? {
        nodes.extend(exported(view, &node)?);
    }
    let mut receipts = Vec::new();
    for node in &nodes {
        receipts.extend(registry.proved(&fleet.id, node.fiduciary())?);
    }
    let mut taken = registry.promised(fleet)?;
    let peers = registry.members(&fleet.id)?.into_iter().filter(|member| member.fiduciary().is_none());
    taken.extend(peers.map(|peer| (peer.key, peer.host)));
    // Those of nodes that are not in it are nobody's either.
    let left = view.nodes()?.into_iter().filter_map(|node| Some((*node.member.fiduciary()?, node.member.host)));
    taken.extend(left.filter(|(fiduciary, _)| !nodes.iter().any(|node| node.fiduciary() == fiduciary)));
    let own = Chain::of(registry, &fleet.id)?.head()?.set.places().iter().find_map(|one| own_place(fleet, one));
    taken.extend(own.filter(|(_, host)| !taken.iter().any(|(_, other)| other == host)));
    let export = Export {
        fleet: fleet.name.clone(),
        id: fleet.id,
        made_s: u64::try_from(made_ms / 1000).unwrap_or_default(),
        network: (fleet.network.address, fleet.network.length),
        rules: fleet.rules.to_vec(),
        counter: registry.last_counter()?,
        taken,
        records: registry.records(&fleet.id)?,
        receipts,
        nodes,
    };
    export.sound().map_err(|why| Error::input(format!("the fleet {} cannot be handed on: {why}", fleet.name)))?;
    Ok(export)
}

/// This registry's own, with its address.
fn own_place(fleet: &Fleet, one: &Authority) -> Option<(Key, u32)> {
    let is_own = one.has_place() && Some(one.mesh) == fleet.authority;
    is_own.then_some((one.sign, fleet.host(Ipv6Addr::from(one.inner).into())?))
}

fn exported(view: &View<'_>, node: &NodeMember) -> Result<Option<Exported>, Error> {
    let (registry, member) = (view.registry, &node.member);
    let Some(known) = view.node(member)?.filter(|node| node.title.warrant.fleet == view.fleet.id) else {
        return Ok(None);
    };
    let (Some(pairing), Some(claim_key)) = (known.record, member.claim_key) else { return Ok(None) };
    if registry.has_left(&known)? {
        return Ok(None);
    }
    let open = |bytes: &[u8]| if is_secret(bytes) { Vec::new() } else { bytes.to_vec() };
    Ok(Some(Exported {
        title: known.title,
        pairing,
        claim_key,
        fork: registry.fork(&known.title.warrant.fiduciary)?,
        address: known.address,
        mac: member.mac.unwrap_or_default(),
        acknowledged: known.acknowledged,
        revoked: member.revoked_ms.is_some(),
        by_ticket: known.anchor == AnchorKind::Ticket,
        rules: member.rules.as_ref().map(|rules| rules.to_vec()),
        granted: open(known.configuration()),
        counter: registry.configuration_counter(member.id)?,
        shown: open(member.configuration.as_deref().unwrap_or_default()),
    }))
}

/// Who takes it over.
pub struct Own<'a> {
    pub key: &'a AnchorPublic,
    /// This registry's WireGuard key.
    pub mesh: Option<Key>,
    /// Ours, on the nodes' link, if we are there.
    pub interface: Option<&'a str>,
}

/// The one registry of these files, signed by one of its authorities, and fit to be taken over here: before anybody is asked.
pub fn checked<'p>(papers: &'p Papers, own: &Own<'_>) -> Result<(&'p Export, Key), Error> {
    let export = match papers.exports.as_slice() {
        [one] => one,
        [] => {
            return Err(Error::input(
                "there is no registry of a fleet in these files: `os-network-admin fleet export` writes one",
            ));
        }
        _ => return Err(Error::input("there is more than one registry of a fleet in these files: name one")),
    };
    let by = papers.approvals_of(&export.hash()).next().map(|approval| approval.signer).ok_or_else(|| {
        Error::new(
            Exit::Unapproved,
            "none of its authorities has signed this registry of a fleet: ask for the file again",
        )
    })?;
    if !papers.foundings.is_empty() {
        under(export, papers)?;
    }
    place(export, own)?;
    Ok((export, by))
}

/// That a fleet is the one that its genesis founds.
fn under(export: &Export, papers: &Papers) -> Result<(), Error> {
    let genesis = founded(papers)?;
    if genesis.id() != export.id || genesis.name != export.fleet {
        return Err(Error::input(format!(
            "the genesis of {} founds another fleet than this registry has",
            genesis.name
        )));
    }
    let first = genesis.set().map_err(Error::input)?;
    for node in &export.nodes {
        let warrant = &node.title.warrant;
        if warrant.sequence.get() == 0 && node.title.set != first {
            return Err(Error::input(format!("{} is owned by others than those of the genesis", node.print())));
        }
        if genesis.member(&node.print().0).is_none() {
            let message = format!("{} is not listed in the genesis of the fleet {}", node.print(), genesis.name);
            return Err(Error::new(Exit::NotAccepted, message));
        }
    }
    Ok(())
}

/// Our place in the set that is in force: in the mesh too, if we have one there.
fn place(export: &Export, own: &Own<'_>) -> Result<Option<(u32, Authority)>, Error> {
    let steps = export.chain().map_err(Error::input)?;
    let last = steps.last().ok_or_else(|| Error::input("the fleet has no set"))?;
    if steps.iter().filter(|step| step.sequence == last.sequence).count() > 1 {
        return Err(Error::input(format!(
            "there are two records for set {}: whoever has this registry sees them by `os-network-admin authority status`",
            last.sequence
        )));
    }
    let is_own = |one: &&Authority| (one.sign, one.dh) == (own.key.sign, own.key.dh);
    let one = last.set.places().iter().find(is_own).ok_or_else(|| {
        Error::input(format!("your key is no authority of set {}, which is in force in this fleet", last.sequence))
    })?;
    if !one.has_place() {
        return Ok(None);
    }
    if own.mesh != Some(one.mesh) {
        return Err(Error::input(
            "the fleet knows you in the mesh by the key of another registry: name the registry with which you wrote your \
             `os-network-admin authority key`",
        ));
    }
    let fleet = Fleet { network: network(export)?, ..Fleet::new(export.id, &export.fleet) };
    let host = fleet.host(Ipv6Addr::from(one.inner).into());
    let host = host.ok_or_else(|| Error::input("your address in the mesh is none of the fleet's network"))?;
    Ok(Some((host, *one)))
}

fn network(export: &Export) -> Result<Network, Error> {
    let (address, length) = export.network;
    Network::new(address, length).ok_or_else(|| Error::input("the fleet's inner network is none"))
}

/// Takes over what a registry has that another authority has handed on. No counter falls, nobody is revoked no more, and what is
/// known here otherwise stays as it is, and is told.
pub fn import(registry: &Registry, papers: &Papers, own: &Own<'_>) -> Result<Taken, Error> {
    let (export, by) = checked(papers, own)?;
    registry.whole(|registry| {
        let (fleet, mut notes) = fleet(registry, export, place(export, own)?)?;
        for record in &export.records {
            if !registry.records(&fleet.id)?.contains(record) {
                registry.store_record(record)?;
                let event = crate::registry::Event::new(Kind::Adopted).bytes(Tag::Fleet, &fleet.id);
                registry.log(event.bytes(Tag::Proposal, &record.hash()).number(Tag::Number, record.sequence.get()))?;
            }
        }
        let mut nodes = Vec::new();
        for node in &export.nodes {
            nodes.push(TakenNode::new(node.print(), take(registry, &fleet, node, own, &by)?));
        }
        // Two who propose at once may each have promised a place to another.
        for (whose, host) in export.taken.iter().filter(|(_, host)| *host != fleet.host) {
            if !registry.place_is_its(&fleet, whose, *host)? {
                let (v4, _) = fleet.addresses(*host);
                notes
                    .push(format!("the address {v4} is promised to another here: one of you has to propose that anew"));
            }
        }
        let chain = Chain::of(registry, &fleet.id)?;
        let head = chain.head()?;
        notes.extend(registry.seat_as_told(&fleet, &head.set)?);
        registry.store_receipts(&export.receipts)?;
        notes.extend(count(registry, export)?);
        registry.log(told(Kind::Imported, &Paper::Export(Box::new(export.clone()))).bytes(Tag::Key, &by))?;
        let mut from = head.set.places().iter().chain(chain.0.iter().flat_map(|link| link.set.places()));
        let from = from.find(|one| one.sign == by).map_or_else(|| Hex(&by).to_string(), name_of);
        Ok(Taken {
            fleet: fleet.name.clone(),
            id: Hex(&fleet.id).to_string(),
            set: head.sequence,
            from,
            nodes,
            notes,
            error: None,
        })
    })
}

/// The fleet in this registry, and what of it is otherwise here.
fn fleet(registry: &Registry, export: &Export, place: Option<(u32, Authority)>) -> Result<(Fleet, Vec<String>), Error> {
    let (id, network) = (export.id, network(export)?);
    let mut notes = Vec::new();
    if registry.fleets_named(&export.fleet)?.iter().any(|fleet| fleet.id != id) {
        return Err(super::genesis::taken(&export.fleet));
    }
    match registry.fleet(&id)? {
        Some(fleet) if fleet.network != network => {
            return Err(Error::input(format!("this registry has the fleet {} with another network", fleet.name)));
        }
        Some(fleet) => {
            if fleet.rules.as_slice() != export.rules {
                notes.push("the fleet's rules are others there: those of this registry stay, see `policy show`".into());
            }
        }
        None => {
            registry.make_fleet(&id, &export.fleet)?;
            let port = place.map_or(0, |(_, one)| one.port.get());
            registry.set_network(&id, network, if port == 0 { MESH_PORT } else { port })?;
            let rules: Rules = export.rules.iter().copied().collect();
            registry.set_fleet_rules(&id, &rules)?;
        }
    }
    match place {
        Some((host, one)) => {
            registry.set_authority(&id, &one.mesh)?;
            registry.set_own_place(&id, host)?;
        }
        None => notes.push("you have no place in this fleet's mesh: nodes hear others, you propose and sign".into()),
    }
    let fleet = registry.fleet(&id)?.ok_or_else(|| registry.damaged())?;
    if place.is_none() && fleet.host == AUTHORITY && fleet.authority.is_none() {
        // Nobody's: so that no authority's address is taken for ours.
        registry.set_own_place(&id, 0)?;
    }
    Ok((registry.fleet(&id)?.ok_or_else(|| registry.damaged())?, notes))
}

/// What becomes of a node here: a word for it, and why, if it stays as it is here.
fn take(
    registry: &Registry,
    fleet: &Fleet,
    node: &Exported,
    own: &Own<'_>,
    by: &Key,
) -> Result<(&'static str, Option<String>), Error> {
    let Title { binding, warrant, .. } = &node.title;
    let kept = |why: String| Ok(("kept", Some(why)));
    let known = registry.node(&warrant.fiduciary)?;
    // A claim that was cut is one too.
    if known.as_ref().is_some_and(|known| known.title.warrant.epoch > warrant.epoch) {
        return kept("here it is known in a later epoch".into());
    }
    let known = known.filter(|known| known.state == State::Paired);
    if let Some(known) = &known {
        let its = &known.title;
        if its.warrant.fleet != warrant.fleet {
            return kept(format!("here it is a node of the fleet {}", known.fleet));
        }
        if its.binding.mesh_key != binding.mesh_key {
            return kept("here it has another WireGuard key: one of these is not what the node is".into());
        }
        let mut member = registry.member_of(&warrant.fiduciary)?;
        if member.as_ref().is_some_and(|member| member.claim_key != Some(node.claim_key)) {
            return kept("here it has another claim key N: one of these is not what the node is".into());
        }
        if its.warrant.epoch == warrant.epoch {
            if its != &node.title {
                return kept("here it has signed another binding of this epoch: it may be there twice".into());
            }
            let Some(member) = member.take() else { return kept("here it has no place in the mesh".into()) };
            return update(registry, &member, node).map(|changed| (if changed { "updated" } else { "same" }, None));
        }
    }
    // Whoever was cut off stays so, whatever has been signed since.
    let was_revoked = registry.mesh_address(&warrant.fiduciary)?.is_some_and(|place| place.revoked_ms.is_some());
    let Some(host) = node.host(&fleet.id) else { return kept("it has no place in the fleet's network".into()) };
    let who = Who::Node(warrant.fiduciary);
    if let Err(why) = registry.check_key(&fleet.id, &who, &binding.mesh_key) {
        return kept(why.message);
    }
    if host == fleet.host || !registry.place_is_its(fleet, &warrant.fiduciary, host)? {
        return kept(format!("its address {} is another's here", fleet.addresses(host).0));
    }
    let ip = warrant.underlay.ip;
    let underlay = (ip != [0; 16]).then(|| Underlay {
        address: policy::Prefix { ip, length: warrant.underlay.length },
        gateway: (warrant.gateway != [0; 16]).then_some(warrant.gateway),
    });
    let claim_key = Some(node.claim_key);
    let new = NewMember { who: &who, key: binding.mesh_key, claim_key, underlay, authority: None };
    let member = registry.enroll_in_the_open(fleet, &new)?;
    registry.store_configuration(member.id, &node.shown, node.counter)?;
    let mut head = GrantHead::new_zeroed();
    (head.kind, head.configuration) = (kind::GRANT, U16::new(node.granted.len() as u16));
    head.title = node.title;
    let grant = [head.as_bytes(), &node.granted].concat();
    registry.store_handed(
        &fleet.name,
        &Handed {
            grant: &grant,
            record: &node.pairing,
            fork: node.fork.as_ref(),
            anchor: if node.by_ticket { AnchorKind::Ticket } else { AnchorKind::Image },
            acknowledged: node.acknowledged,
            address: node.address,
            interface: own.interface.unwrap_or_default(),
            by,
        },
    )?;
    if node.mac != [0; 6] {
        registry.store_mac(&warrant.fiduciary, &node.mac)?;
    }
    if let Some(rules) = &node.rules {
        registry.set_member_rules(member.id, Some(&rules.iter().copied().collect()))?;
    }
    if node.revoked || was_revoked {
        registry.revoke(member.id)?;
    }
    Ok((if known.is_some() { "claimed anew" } else { "new" }, None))
}

/// What is known there of the same claim, if it is more. Whether it was.
fn update(registry: &Registry, member: &Member, node: &Exported) -> Result<bool, Error> {
    let mut changed = false;
    if node.revoked && member.revoked_ms.is_none() {
        registry.revoke(member.id)?;
        changed = true;
    }
    if node.counter > registry.configuration_counter(member.id)? && !node.shown.is_empty() {
        registry.store_configuration(member.id, &node.shown, node.counter)?;
        changed = true;
    }
    if let Some(known) = registry.node(node.fiduciary())?.filter(|known| node.acknowledged && !known.acknowledged) {
        registry.store_acknowledged(&known)?;
        changed = true;
    }
    Ok(changed)
}

/// Our orders go on above theirs. What a node has signed counts, and what is said besides if it is likely: nobody uses up our
/// counter.
fn count(registry: &Registry, export: &Export) -> Result<Option<String>, Error> {
    let signed = export.nodes.iter().map(|node| node.title.binding.counter.get()).max().unwrap_or_default();
    let likely = registry.now_ms().saturating_add(COUNTER_AHEAD * 1000).cast_unsigned();
    let is_likely = export.counter <= likely;
    registry.raise_counter(signed.min(likely).max(if is_likely { export.counter } else { 0 }))?;
    Ok((!is_likely).then(|| {
        "its counter of orders is more than 30 days ahead of this host's clock, and was not taken over: if nodes take no order \
         of yours, propose it with a clock as far ahead"
            .into()
    }))
}
