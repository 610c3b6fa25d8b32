//! Another set takes over: what is proposed, whom it would leave behind, and how nodes are told, step by step.

use std::{collections::BTreeMap, path::Path, time::Duration};

use super::{
    account::{Account, Entry},
    chain::{Chain, Has, Link, in_force, proved},
    delivery::{self, Awaited, Lane, Outcome, Signed, Task},
    papers::told,
    view::View,
};
use crate::{
    base::{
        error::{Error, Exit},
        paper::{Change, Paper, Papers, name_of},
        say::say,
    },
    output::{self, AuthorityStatus, BehindSet, ImageSigners, Named},
    registry::{Event, Kind, Member, Tag},
};
use crypto::AnchorSecret;
use policy::MAX_PEERS;
use wire::{
    Hex, Key,
    anchor::Anchor,
    receipt::{Kind as Proof, Receipt},
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
};

/// What becomes of a set.
#[derive(Debug, Clone, Default)]
pub struct Wish {
    pub add: Vec<Authority>,
    /// Places in the set that is in force.
    pub remove: Vec<usize>,
    /// Places of those who cannot sign any more.
    pub lost: Vec<usize>,
    pub needed: Option<u8>,
}

/// The place of an authority in a set, by its fingerprint or its key or the beginning of one.
pub fn find(set: &AuthoritySet, text: &str) -> Result<usize, Error> {
    let digits: String = text.chars().filter(char::is_ascii_hexdigit).collect::<String>().to_ascii_lowercase();
    let plain = |name: String| name.replace('-', "");
    let is_it = |one: &Authority| {
        digits.len() >= 4
            && (plain(name_of(one)).starts_with(&digits) || Hex(&one.sign).to_string().starts_with(&digits))
    };
    let mut found = (0..set.places().len()).filter(|place| is_it(&set.places()[*place]));
    match (found.next(), found.next()) {
        (Some(place), None) => Ok(place),
        (Some(_), Some(_)) => Err(Error::input(format!("{text} names more than one authority: say more of it"))),
        (None, _) => {
            Err(Error::input(format!("the set has no authority {text}: see `os-network-admin authority status`")))
        }
    }
}

/// The record that follows what is in force, if it could be reached and would leave nobody behind.
pub fn propose(view: &View<'_>, wish: &Wish) -> Result<Change, Error> {
    let chain = Chain::of(view.registry, &view.fleet.id)?;
    let head = chain.head()?;
    let stays = |place: usize| !wish.remove.contains(&place);
    let old = head.set.places();
    let kept = old.iter().enumerate().filter(|(place, _)| stays(*place)).map(|(_, one)| *one);
    let places: Vec<Authority> = kept.chain(wish.add.iter().copied()).collect();
    let smallest = u8::try_from(places.len() / 2 + 1).unwrap_or(u8::MAX);
    let needed = wish.needed.unwrap_or(smallest);
    let set = AuthoritySet::new(needed, &places)
        .map_err(|why| Error::input(format!("the set of authorities cannot own a node: {why}")))?;
    let living_old = (0..old.len()).filter(|place| !wish.lost.contains(place)).count();
    let lost_new = wish.lost.iter().filter(|place| stays(**place)).count();
    if living_old < head.set.needed.into() {
        return Err(Error::input(format!(
            "{living_old} living authorities cannot sign for the set that is in force, of which {} must: only a person at each \
             device helps, who erases its store",
            head.set.needed
        )));
    }
    if places.len() - lost_new < needed.into() {
        return Err(Error::input(format!(
            "a set of which {needed} must sign and {} can is one that its living keys cannot reach: remove who is lost, or \
             name fewer with --needed",
            places.len() - lost_new
        )));
    }
    leaves_nobody(view, &chain, head, &set)?;
    has_room(view, &head.set, &set)?;
    let record = AuthorityRecord::new(&view.fleet.id, head.sequence + 1, &head.hash, &set);
    let change = Change { fleet: view.fleet.name.clone(), before: head.set, record };
    change.sound().map_err(Error::input)?;
    Ok(change)
}

/// That each node which has not what is in force still knows somebody in the mesh who stays.
fn leaves_nobody(view: &View<'_>, chain: &Chain, head: &Link, set: &AuthoritySet) -> Result<(), Error> {
    let placed = |set: &AuthoritySet, one: &Authority| {
        one.has_place() && set.places().iter().any(|it| it.mesh == one.mesh && it.inner == one.inner)
    };
    let mut cut = Vec::new();
    for node in view.live()? {
        let Some(pairing) = view.node(&node.member)? else { continue };
        let Has::Set(link) = proved(chain, view.registry, &pairing)? else { continue };
        let knows_any = link.set.places().iter().any(Authority::has_place);
        if link.sequence < head.sequence && knows_any && !link.set.places().iter().any(|one| placed(set, one)) {
            cut.push(format!("{} (set {})", node.member.who, link.sequence));
        }
    }
    if !set.places().iter().any(Authority::has_place) && cut.is_empty() && !view.live()?.is_empty() {
        return Err(Error::input(
            "nobody of this set has a place in the mesh: its nodes could be reached by nobody any more, for ever. Keep one who \
             has, or add one with the file of his `os-network-admin authority key`",
        ));
    }
    if cut.is_empty() {
        return Ok(());
    }
    Err(Error::input(format!(
        "this removes the last authority that nodes which were not told yet can be reached by: {}. Run `os-network-admin \
         authority push` until they have what is in force, or keep one of those whom they know",
        cut.join(", ")
    )))
}

/// Each node has room for all of the new set who are in the mesh.
fn has_room(view: &View<'_>, old: &AuthoritySet, new: &AuthoritySet) -> Result<(), Error> {
    let placed = |set: &AuthoritySet| set.places().iter().filter(|one| one.has_place()).count();
    let (before, after) = (placed(old), placed(new));
    for node in view.live()?.iter().filter(|_| after > before) {
        let others = view.others(&node.member)?.len();
        if others + after > MAX_PEERS {
            return Err(Error::input(format!(
                "{} would have {others} peers by its rules and {after} authorities in its mesh, of {MAX_PEERS} peers that a node \
                 has: give it rules that name fewer, or add somebody without a place in the mesh",
                node.member.who
            )));
        }
    }
    Ok(())
}

/// What a record changes of what this registry has in force: a line each.
pub fn differences(view: &View<'_>, change: &Change) -> Result<Vec<String>, Error> {
    let chain = Chain::of(view.registry, &view.fleet.id)?;
    let mut lines = Vec::new();
    match chain.0.last() {
        None => lines.push("this registry has nothing of the fleet in force".into()),
        Some(head) => {
            let record = &change.record;
            if (head.sequence + 1, head.hash) != (record.sequence.get(), record.previous) {
                lines.push(format!(
                    "IT DOES NOT FOLLOW what this registry has in force: set {}, record {}",
                    head.sequence,
                    Hex(&head.hash)
                ));
            } else if head.set != change.before {
                lines.push("THE SET BEFORE IS ANOTHER than the one that this registry has in force".into());
            }
        }
    }
    Ok(lines)
}

/// The record of these papers, signed by all who must; kept from now on.
pub fn adopt(view: &View<'_>, papers: &Papers) -> Result<(), Error> {
    for change in &papers.records {
        let signed = change.standing(papers);
        if let Some(lacks) = signed.lacks() {
            let message = format!("set {}: {lacks}: see `os-network-admin authority show`", change.record.sequence);
            return Err(Error::new(Exit::Unapproved, message));
        }
        let record = &signed.record;
        if record.fleet != view.fleet.id {
            return Err(Error::input(format!("the record is for another fleet than {}", view.fleet.name)));
        }
        let chain = Chain::of(view.registry, &view.fleet.id)?;
        let before = record.sequence.get().checked_sub(1).and_then(|sequence| chain.at(sequence, &record.previous));
        let before = before.ok_or_else(|| {
            Error::input(format!(
                "the record for set {} follows one that is not here: push that first, with its approvals",
                record.sequence
            ))
        })?;
        record
            .verify(&before.set, &view.fleet.id, before.sequence, &before.hash)
            .map_err(|why| Error::input(format!("no node would take the record: {why}")))?;
        view.registry.whole(|registry| {
            registry.store_record(record)?;
            if let Some(why) = registry.seat_as_told(&view.fleet, &record.set)? {
                say(format_args!("warning: {why}"));
            }
            registry.log(told(Kind::Adopted, &Paper::Record(Box::new(change.clone()))))
        })?;
    }
    Ok(())
}

/// Has each member walk to the last set, step by step, and says how it went with each.
pub async fn push(
    lane: &mut impl Lane,
    view: &View<'_>,
    authority: &AnchorSecret,
    members: Vec<Member>,
    wait: Duration,
) -> Result<Account, Error> {
    let registry = view.registry;
    let chain = Chain::of(view.registry, &view.fleet.id)?;
    let head = chain.head()?.clone();
    let mut account = Account { again: "authority push", ..Account::default() };
    let (mut ends, mut walkers, mut tasks) = (BTreeMap::new(), Vec::new(), Vec::new());
    for (at, member) in members.into_iter().enumerate() {
        match step(view, &chain, &head, &member).unwrap_or_else(|error| Step::Ended(Outcome::NotComputable(error))) {
            Step::Task { task, from } => {
                walkers.push(Walker { at, member: member.clone(), sequence: task.sequence(), from });
                tasks.push((member, task));
            }
            Step::Ended(outcome) => drop(ends.insert(at, Entry { who: member.who.to_string(), outcome })),
        }
    }
    let outcomes = delivery::walk(lane, registry, view, authority, tasks, wait, |at, outcome| {
        let Some(walker) = walkers.get_mut(at) else { return Err(outcome) };
        if let Outcome::Proved { receipt, .. } | Outcome::Otherwise(receipt) = &outcome {
            account.own = account.own.take().or(registry.store_receipts([&**receipt]).err());
        }
        let (outcome, further) = match outcome {
            Outcome::Proved { receipt, after } if account.own.is_none() => {
                came(view, &chain, &head, &walker.member, walker.from, (receipt, after))
                    .unwrap_or_else(|error| (Outcome::NotComputable(error), None))
            }
            other => (other, None),
        };
        let event = walker.sequence.map(|sequence| {
            let event = Event::new(Kind::RecordTold).bytes(Tag::Fleet, &view.fleet.id).number(Tag::Number, sequence);
            outcome.logged(walker.member.fiduciary().into_iter().fold(event, Event::node))
        });
        account.log(registry, event.into_iter().collect());
        let member = further.ok_or(outcome)?;
        match step(view, &chain, &head, &member).unwrap_or_else(|error| Step::Ended(Outcome::NotComputable(error))) {
            Step::Task { task, from } => {
                (walker.member, walker.sequence, walker.from) = (member.clone(), task.sequence(), from);
                Ok((member, task))
            }
            Step::Ended(outcome) => Err(outcome),
        }
    });
    let outcomes = outcomes.await;
    for (Walker { at, member, .. }, outcome) in walkers.into_iter().zip(outcomes) {
        ends.insert(at, Entry { who: member.who.to_string(), outcome });
    }
    account.entries = ends.into_values().collect();
    Ok(account)
}

/// A member on its way to the last set, of those that were named.
struct Walker {
    at: usize,
    member: Member,
    /// Of the set that it is told now.
    sequence: Option<u64>,
    from: u64,
}

enum Step {
    /// It has proved the set of this sequence so far.
    Task {
        task: Task,
        from: u64,
    },
    Ended(Outcome),
}

/// What a receipt has brought of a member that had proved the set `from`; and the member, if it is to be told more. It may sign
/// what it likes: what does not bring it further on this chain ends with it.
fn came(
    view: &View<'_>,
    chain: &Chain,
    head: &Link,
    member: &Member,
    from: u64,
    (receipt, after): (Box<Receipt>, Duration),
) -> Result<(Outcome, Option<Member>), Error> {
    let node = view.node(member)?.ok_or_else(|| Error::new(Exit::Other, format!("{} is no node", member.who)))?;
    Ok(match proved(chain, view.registry, &node)? {
        Has::Set(link) if link.sequence <= from => {
            let message = format!(
                "{} has signed so many receipts that this one could not be kept: it may not be what it was",
                member.who
            );
            (Outcome::NotComputable(Error::input(message)), None)
        }
        // What it says of itself may have changed by it.
        Has::Set(link) if link.sequence < head.sequence => {
            (Outcome::Proved { receipt, after }, view.registry.member(member.id)?)
        }
        Has::Set(_) => (Outcome::Proved { receipt, after }, None),
        Has::Unknown(..) => (Outcome::Otherwise(receipt), None),
    })
}

/// What a member is to be told next.
fn step(view: &View<'_>, chain: &Chain, head: &Link, member: &Member) -> Result<Step, Error> {
    let node = view.node(member)?.filter(|node| node.record.is_some());
    let node = node.ok_or_else(|| Error::new(Exit::Other, format!("{} is no claimed node", member.who)))?;
    let link = match proved(chain, view.registry, &node)? {
        Has::Set(link) => link,
        Has::Unknown(sequence, hash) => {
            return Err(Error::input(format!(
                "{} has the record {} for set {sequence}, which is not here: push it with its file, or see `authority status`",
                member.who,
                Hex(&hash)
            )));
        }
    };
    if (link.sequence, link.hash) == (head.sequence, head.hash) {
        let receipt = view.registry.proved(&view.fleet.id, &node.title.warrant.fiduciary)?.into_iter().next();
        return Ok(Step::Ended(match receipt {
            Some(receipt) => Outcome::Proved { receipt: Box::new(receipt), after: Duration::ZERO },
            // It was claimed under it.
            None => Outcome::Current,
        }));
    }
    let awaited = |link: &Link| Awaited { kind: Proof::Record, number: link.sequence, hash: Some(link.hash) };
    // What it says that it has it may prove.
    let title = in_force(view.registry, member, &node)?;
    if title.warrant.sequence.get() > link.sequence {
        let said = chain.at(title.warrant.sequence.get(), &title.warrant.record).unwrap_or(link);
        return Ok(Step::Task { task: Task::Prove(awaited(said)), from: link.sequence });
    }
    let next = chain.after(link).ok_or_else(|| {
        Error::input(format!("{} has set {}, and what follows it is not here", member.who, link.sequence))
    })?;
    let record = next.record.as_ref().ok_or_else(|| {
        Error::input(format!("{} has set {}, and the record that follows it is not here", member.who, link.sequence))
    })?;
    let task = Task::Receipted { signed: Signed::record(record), awaited: awaited(next) };
    Ok(Step::Task { task, from: link.sequence })
}

impl Task {
    /// Of the set that a record puts in force.
    fn sequence(&self) -> Option<u64> {
        match self {
            Self::Receipted { awaited, .. } | Self::Prove(awaited) => Some(awaited.number),
            _ => None,
        }
    }
}

/// How many live nodes have proved a set or a later one, of how many.
pub fn having(view: &View<'_>, chain: &Chain, sequence: u64) -> Result<(usize, usize), Error> {
    let (mut has, mut of) = (0, 0);
    for node in view.live()? {
        let Some(pairing) = view.node(&node.member)? else { continue };
        of += 1;
        has +=
            usize::from(matches!(proved(chain, view.registry, &pairing)?, Has::Set(link) if link.sequence >= sequence));
    }
    Ok((has, of))
}

/// Who owns what, as it is proved.
pub fn status(view: &View<'_>) -> Result<AuthorityStatus, Error> {
    let chain = Chain::of(view.registry, &view.fleet.id)?;
    let last = chain.0.last().ok_or_else(|| Error::input("the fleet has no claimed node, and so no set yet"))?;
    let names = |set: &AuthoritySet| set.places().iter().map(Named::from).collect::<Vec<_>>();
    let (mut behind, mut receipts) = (Vec::new(), Vec::new());
    for node in view.live()? {
        let Some(pairing) = view.node(&node.member)? else { continue };
        receipts.extend(view.registry.proved(&view.fleet.id, &pairing.title.warrant.fiduciary)?);
        let (who, heard_ms) = (node.member.who.to_string(), node.member.telemetry.as_ref().map(|(_, ms)| *ms));
        match proved(&chain, view.registry, &pairing)? {
            Has::Set(link) if (link.sequence, link.hash) == (last.sequence, last.hash) => {}
            Has::Set(link) => {
                let stays = |one: &Authority| last.set.places().iter().any(|it| it.has_keys_of(one));
                let (state, what) = standing(link, link.set.places().iter().any(stays), last);
                behind.push(BehindSet {
                    node: who,
                    heard_ms,
                    set: link.sequence,
                    state: state.into(),
                    needed: link.set.needed,
                    owners: names(&link.set),
                    what,
                });
            }
            Has::Unknown(set, hash) => behind.push(BehindSet {
                node: who,
                heard_ms,
                set,
                state: "unknown".into(),
                needed: 0,
                owners: Vec::new(),
                what: format!(
                    "its record {} is not here: if its file is yours, run `os-network-admin authority push` with it",
                    Hex(&hash)
                ),
            }),
        }
    }
    let (has, of) = having(view, &chain, last.sequence)?;
    let forks = chain.forks(receipts.iter()).into_iter().map(|fork| output::Fork {
        set: fork.sequence,
        hashes: fork.hashes.iter().map(|hash| Hex(hash).to_string()).collect(),
        both: fork.both.iter().map(Named::from).collect(),
    });
    Ok(AuthorityStatus {
        fleet: view.fleet.name.clone(),
        set: last.sequence,
        hash: Hex(&last.hash).to_string(),
        needed: last.set.needed,
        authorities: names(&last.set),
        has,
        of,
        behind,
        forks: forks.collect(),
        images: Vec::new(),
    })
}

/// How many of those whom images' anchors name were authorities of the fleet and are none any more. Whoever never was one may be
/// there all the same.
pub fn images(view: &View<'_>, anchors: &[(&Path, Anchor)]) -> Result<Vec<ImageSigners>, Error> {
    let chain = Chain::of(view.registry, &view.fleet.id)?;
    let head = chain.head()?;
    let is_in = |link: &Link, key: &Key| link.set.places().iter().any(|one| one.sign == *key);
    let images = anchors.iter().map(|(path, anchor)| {
        let signers = anchor.signers.iter().take(anchor.count.into());
        let left = signers.filter(|key| !is_in(head, key) && chain.0.iter().any(|link| is_in(link, key)));
        let left: Vec<String> = left.map(|key| Hex(key).to_string()).collect();
        let enough = usize::from(anchor.count) >= usize::from(anchor.needed) + left.len();
        ImageSigners { path: path.display().to_string(), needed: anchor.needed, of: anchor.count, left, enough }
    });
    Ok(images.collect())
}

/// Of a node that has not what is in force: whether anybody whom it knows is still there, and what to do.
fn standing(link: &Link, any_stays: bool, last: &Link) -> (&'static str, String) {
    let names: Vec<String> = link.set.places().iter().map(name_of).collect();
    let owners = format!("any {} of {}", link.set.needed, names.join(", "));
    if any_stays {
        let steps = last.sequence.saturating_sub(link.sequence);
        let what = format!(
            "until its receipt it is owned by {owners}, who can update it, let it go or give it to another set; it is told the \
             {steps} steps when it is there: `os-network-admin authority push`"
        );
        return ("behind", what);
    }
    let what = format!(
        "nobody whom it knows is in set {}: {owners} own it still. One of them who has left can run `os-network-admin authority \
         push` with this registry's records; if none will, a person at the device erases its store, and it is claimed anew",
        last.sequence
    );
    ("left", what)
}
