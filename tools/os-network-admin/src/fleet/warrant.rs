//! Warrants: what is proposed, what it changes, and how far it has come; from the files and the registry alone.

use crypto::AnchorPublic;
use policy::{Configuration, Endpoint, Underlay};
use wire::{
    Hash, Hex, Key, U16, U64,
    anchor::Anchor,
    binding::configuration_hash,
    set::AuthoritySet,
    title::{Title, Warrant},
};
use zerocopy::FromZeros;

use crate::{
    base::{
        error::{Error, Exit},
        paper::{Paper, Papers, Proposal, Standing, place},
    },
    claim::{Configure, Terms},
    registry::{AUTHORITY, AnchorKind, Entry, First, Kind, Node, Outcome, Registry, Tag, Value},
};

use super::{chain::Chain, papers::told};

/// What a warrant is to say.
pub struct Wish<'a> {
    /// F.
    pub node: Key,
    pub fleet: &'a str,
    pub fleet_id: Hash,
    pub anchor: Anchor,
    /// Our own key first. Where we are in the mesh is filled in.
    pub set: AuthoritySet,
    /// Where nodes reach this host's end of the mesh, if they are to speak first.
    pub endpoint: Option<Endpoint>,
    pub underlay: Option<Underlay>,
    /// The one after what the registry knows of the node, if it is not said.
    pub epoch: Option<u64>,
    /// Unix seconds.
    pub expires_s: u64,
}

/// Gives the node its place in the mesh, and makes the proposal of a warrant for it. `own` is the registry's WireGuard key.
pub fn propose(registry: &Registry, own: &Key, wish: &Wish<'_>) -> Result<Proposal, Error> {
    registry.whole(|registry| {
        registry.make_fleet(&wish.fleet_id, wish.fleet)?;
        registry.set_authority(&wish.fleet_id, own)?;
        let fleet = registry.make_fleet(&wish.fleet_id, wish.fleet)?;
        registry.seat(&fleet, &wish.set)?;
        let host = registry.promise(&fleet, &wish.node)?;
        let mut set = wish.set;
        // Once records have been adopted, nodes that come join the set that is in force.
        let chain = Chain::of(registry, &fleet.id)?;
        let in_force = if chain.0.iter().any(|link| link.record.is_some()) { Some(chain.head()?) } else { None };
        match in_force {
            Some(link) => set = link.set,
            None => {
                let place_of_own = &mut set.authorities[0];
                (place_of_own.mesh, place_of_own.inner) = (*own, fleet.addresses(AUTHORITY).1.octets());
                if let Some(Endpoint { ip, port }) = wish.endpoint {
                    (place_of_own.endpoint, place_of_own.port) = (ip, U16::new(port));
                }
            }
        }
        let first =
            First { host, underlay: wish.underlay, authority: wish.endpoint, preshared: None, rules: &fleet.rules };
        let configuration = first.bytes(&fleet, *own)?;
        let known = match registry.node(&wish.node)? {
            // Leaving is an epoch too.
            Some(node) => node.title.warrant.epoch.get().saturating_add(registry.has_left(&node)?.into()),
            None => 0,
        };
        let mut warrant = Warrant::new_zeroed();
        (warrant.fiduciary, warrant.fleet, warrant.set) = (wish.node, wish.fleet_id, set.hash());
        if let Some(link) = in_force {
            (warrant.sequence, warrant.record) = (U64::new(link.sequence), link.hash);
        }
        warrant.epoch = U64::new(wish.epoch.unwrap_or(known.saturating_add(1)));
        warrant.configuration = configuration_hash(&configuration);
        place(&mut warrant, &configuration);
        let proposal = Proposal {
            expires_s: wish.expires_s,
            anchor: wish.anchor,
            warrant,
            set,
            fleet: wish.fleet.into(),
            configuration,
        };
        proposal.sound().map_err(Error::input)?;
        registry.log(told(Kind::Proposed, &Paper::Warrant(Box::new(proposal.clone()))))?;
        Ok(proposal)
    })
}

/// What a proposal changes of what this registry has in force, and what else of it whoever signs should know: a line each.
pub fn differences(registry: &Registry, proposal: &Proposal) -> Result<Vec<String>, Error> {
    let mut lines = Vec::new();
    let warrant = &proposal.warrant;
    match registry.node(&warrant.fiduciary)?.filter(|node| node.record.is_some()) {
        Some(node) => changes(&node, proposal, &mut lines),
        None => lines.push("this registry has nothing of the node in force".into()),
    }
    let others = registry.fleets_named(&proposal.fleet)?;
    if !others.is_empty() && others.iter().all(|fleet| fleet.id != warrant.fleet) {
        lines.push(format!("this registry has another fleet of the name {}", proposal.fleet));
    }
    let hash = proposal.subject().hash();
    let mut before = None;
    registry.audit(|_, signed| {
        let Some(entry) = Entry::parse(&signed.entry).filter(|entry| is_rival(entry, warrant, &hash)) else { return };
        before = entry.bytes(Tag::Proposal).map(|other| Hex(other).to_string());
    })?;
    lines.extend(before.map(|other| {
        format!(
            "YOU HAVE APPROVED ANOTHER WARRANT for this node and epoch, {other}: whoever is first with one has the node"
        )
    }));
    Ok(lines)
}

/// Whether this approves another warrant for the same node and epoch.
fn is_rival(entry: &Entry, warrant: &Warrant, hash: &Hash) -> bool {
    let epoch = Value::Number(warrant.epoch.get());
    (entry.kind, entry.outcome) == (Kind::Approved.into(), Outcome::Done.into())
        && entry.bytes(Tag::Node) == Some(&warrant.fiduciary[..])
        && entry.field(Tag::Epoch) == Some(&epoch)
        && entry.bytes(Tag::Proposal).is_some_and(|other| other != hash)
}

fn changes(node: &Node, proposal: &Proposal, lines: &mut Vec<String>) {
    let (Title { warrant: old, set, .. }, new) = (&node.title, &proposal.warrant);
    let mut changed = |what: &str, before: String, after: String| {
        if before != after {
            lines.push(format!("{what}: in force is {before}, proposed {after}"));
        }
    };
    changed("epoch", old.epoch.to_string(), new.epoch.to_string());
    let fleet = |name: &str, id: &Hash| format!("{name}, {}", Hex(id));
    changed("fleet", fleet(&node.fleet, &old.fleet), fleet(&proposal.fleet, &new.fleet));
    let majority = |set: &AuthoritySet| format!("{} of {}", set.needed, set.count);
    changed("who must sign", majority(set), majority(&proposal.set));
    let has = |set: &AuthoritySet, key: &Key| set.places().iter().any(|one| one.sign == *key);
    let gone = set.places().iter().filter(|one| !has(&proposal.set, &one.sign)).map(|one| ("leaves", one));
    let come = proposal.set.places().iter().filter(|one| !has(set, &one.sign)).map(|one| ("is new", one));
    let people: Vec<String> =
        gone.chain(come).map(|(how, one)| format!("authority {how}: {}", Hex(&one.sign))).collect();
    lines.extend(people);
    let granted = |bytes: &[u8]| Configuration::parse(bytes).unwrap_or_default();
    let (before, after) = (granted(node.configuration()), granted(&proposal.configuration));
    lines.extend(
        before.rules.iter().filter(|rule| !after.rules.contains(rule)).map(|rule| format!("rule goes: {rule}")),
    );
    lines.extend(
        after.rules.iter().filter(|rule| !before.rules.contains(rule)).map(|rule| format!("rule comes: {rule}")),
    );
    if old.addresses != new.addresses || old.underlay != new.underlay {
        lines.push("the node has other addresses".into());
    }
    if lines.is_empty() {
        lines.push("this changes nothing of what is in force".into());
    }
}

/// How far a proposal has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Proposed,
    /// Enough have signed.
    Approved,
    /// The node has shown that it has it.
    Claimed,
}

pub fn state(registry: Option<&Registry>, proposal: &Proposal, standing: &Standing) -> Result<State, Error> {
    let node = registry.map(|registry| registry.node(&proposal.warrant.fiduciary)).transpose()?.flatten();
    let has = |node: Node| node.record.is_some() && node.title.warrant.hash() == proposal.subject().hash();
    Ok(match (node.is_some_and(has), standing.is_enough()) {
        (true, _) => State::Claimed,
        (false, true) => State::Approved,
        (false, false) => State::Proposed,
    })
}

/// The terms of a claim by a warrant, if it can be one: the right one of these, with enough approvals, in time, and for nodes
/// that `own` receives. Whose mesh it is says whoever claims.
pub fn terms(papers: &Papers, node: Option<[u8; 20]>, own: &AnchorPublic, now_ms: i64) -> Result<Terms, Error> {
    let mut meant = papers.warrants.iter().filter(|proposal| node.is_none_or(|node| proposal.node().0 == node));
    let proposal = match (meant.next(), meant.next()) {
        (Some(one), None) => one,
        (Some(_), Some(_)) => {
            return Err(Error::new(Exit::Usage, "there are warrants for several nodes: say which with --fingerprint"));
        }
        (None, _) => return Err(Error::input("there is no warrant for that node in these files")),
    };
    proposal.current(now_ms).map_err(Error::input)?;
    if proposal.anchor.reception != *own {
        let (its, own) =
            (crate::base::key::fingerprint(&proposal.anchor.reception), crate::base::key::fingerprint(own));
        return Err(Error::input(format!(
            "the warrant is for nodes of another anchor, which the key {its} receives, and yours is {own}: name that key with \
             --key, or have a warrant proposed with --anchor of this image"
        )));
    }
    let standing = proposal.standing(papers);
    if !standing.is_enough() {
        return Err(Error::new(
            Exit::Unapproved,
            format!(
                "the warrant for {} is approved by {} of the {} who must sign: see `os-network-admin warrant check`",
                proposal.node(),
                standing.signatures(),
                standing.needed
            ),
        ));
    }
    Ok(Terms {
        fleet: proposal.fleet.clone(),
        fleet_id: proposal.warrant.fleet,
        set: proposal.set,
        configuration: Configure::Warranted { bytes: proposal.configuration.clone(), own: None },
        anchor: AnchorKind::Image,
        warrant: Some(standing.warrant),
    })
}
