//! Letting nodes go: to a ticket, or to somebody else's anchor. A node that has gone has signed that it has.

use std::time::Duration;

use crypto::AnchorSecret;
use wire::{
    U64,
    anchor::{Anchor, AnchorIn},
    order::{Kind as Ordered, Order, Release},
    receipt::{Kind as Proof, Receipt},
    title::Title,
};
use zerocopy::IntoBytes;

use super::{
    account::{Account, Entry},
    delivery::{self, Awaited, Lane, Outcome, Signed, Task},
    view::View,
};
use crate::{
    base::error::Error,
    registry::{Event, Kind, Member, Outcome as Ended, Tag},
};

/// What is said of a node that has not.
pub const AGAIN: &str = "the same again";

/// Who is to own it next.
pub fn release(to: Option<&Anchor>, same_owner: bool) -> Release {
    to.map_or_else(Release::to_ticket, |anchor| Release::to_anchor(anchor, same_owner))
}

/// An error if the members cannot be let go like this. Of those that have left already nothing is asked.
pub fn check(view: &View<'_>, members: &[Member], release: &Release) -> Result<(), Error> {
    members.iter().try_for_each(|member| match receipt(view, member)? {
        Some(_) => Ok(()),
        None => sound(&view.paired(member)?.title, member, release),
    })
}

/// An error if more than one must sign for a member that has not left.
pub fn alone(view: &View<'_>, members: &[Member]) -> Result<(), Error> {
    members.iter().try_for_each(|member| match receipt(view, member)? {
        Some(_) => Ok(()),
        None => delivery::alone(&view.paired(member)?.title, member, "the release"),
    })
}

/// An anchor with a key of those who let it go leaves them its owners: that is to be said.
fn sound(title: &Title, member: &Member, release: &Release) -> Result<(), Error> {
    let AnchorIn::Some(next) = release.anchor.read() else { return Ok(()) };
    let theirs = title.set.places().iter().position(|one| next.has_key_of(&one.sign, &one.dh));
    match theirs {
        Some(place) if release.same_owner == 0 => Err(Error::input(format!(
            "the anchor has a key of authority {} of {}: it would stay theirs. If that is meant, add --same-owner",
            place + 1,
            member.who
        ))),
        _ => Ok(()),
    }
}

/// The word of a member that has left.
pub fn receipt(view: &View<'_>, member: &Member) -> Result<Option<Receipt>, Error> {
    let Some(node) = view.node(member)? else { return Ok(None) };
    let parting = view.registry.parting(&node)?;
    Ok(parting.and_then(|parting| parting.receipt).map(|(receipt, _)| receipt))
}

/// The order that lets a node go, without counter and signatures.
pub fn order(title: &Title, release: &Release) -> Order {
    delivery::order_for(title, Ordered::Release, release.as_bytes())
}

/// What is waited for.
pub fn awaited(title: &Title, release: &Release) -> Awaited {
    // The ticket that it makes is its own.
    let hash = matches!(release.anchor.read(), AnchorIn::Some(_)).then(|| release.anchor.hash());
    Awaited { kind: Proof::Release, number: title.warrant.epoch.get(), hash }
}

fn task(view: &View<'_>, authority: &AnchorSecret, member: &Member, release: &Release) -> Result<Task, Error> {
    let registry = view.registry;
    let node = view.paired(member)?;
    let place = delivery::place_of(&node.title.set, authority, member)?;
    delivery::alone(&node.title, member, "the release")?;
    let mut order = order(&node.title, release);
    order.counter = U64::new(registry.next_counter(0)?);
    begin(view, member, release)?;
    let signed = Signed::new(&order.sign(authority, place), release.as_bytes());
    Ok(Task::Receipted { signed, awaited: awaited(&node.title, release) })
}

/// Notes that a node is told to leave.
pub fn begin(view: &View<'_>, member: &Member, release: &Release) -> Result<(), Error> {
    let node = view.paired(member)?;
    view.registry.whole(|registry| {
        registry.store_parting(&node, release)?;
        registry.log(event(&node.title, release).ended(Ended::Begun))
    })
}

pub(super) fn event(title: &Title, release: &Release) -> Event {
    let event = Event::new(Kind::Released).node(&title.warrant.fiduciary).number(Tag::Epoch, title.warrant.epoch.get());
    match release.anchor.read() {
        AnchorIn::Some(_) => event.text(Tag::Anchor, "anchor").bytes(Tag::Hash, &release.anchor.hash()),
        _ => event.text(Tag::Anchor, "ticket"),
    }
}

/// Lets members go, and says how it went with each. Whoever has left already is done.
pub async fn run(
    lane: &mut impl Lane,
    view: &View<'_>,
    authority: &AnchorSecret,
    members: Vec<Member>,
    release: &Release,
    wait: Duration,
) -> Account {
    let registry = view.registry;
    let mut prepared = Vec::new();
    for member in members {
        let task = match receipt(view, &member) {
            Ok(Some(receipt)) => Err(Outcome::Proved { receipt: Box::new(receipt), after: Duration::ZERO }),
            Ok(None) => task(view, authority, &member, release).map_err(Outcome::NotComputable),
            Err(error) => Err(Outcome::NotComputable(error)),
        };
        prepared.push((member, task));
    }
    let tasks = prepared.iter().filter_map(|(member, task)| Some((member, task.as_ref().ok()?.clone())));
    let mut outcomes = delivery::run(lane, registry, view, authority, tasks.collect(), wait).await.into_iter();
    let (mut account, mut events) = (Account { again: AGAIN, ..Account::default() }, Vec::new());
    for (member, task) in prepared {
        let outcome = match task {
            Ok(_) => outcomes.next().unwrap_or(Outcome::NoAnswer),
            Err(outcome) => outcome,
        };
        if let Outcome::Proved { receipt, .. } | Outcome::Otherwise(receipt) = &outcome {
            // The mesh's daemon writes it too, but not at once.
            account.own = account.own.or(registry.store_receipts([&**receipt]).err());
        }
        match view.node(&member) {
            Ok(node) => events.extend(node.map(|node| outcome.logged(event(&node.title, release)))),
            Err(error) => account.own = account.own.or(Some(error)),
        }
        account.entries.push(Entry { who: member.who.to_string(), outcome });
    }
    account.log(registry, events);
    account
}
