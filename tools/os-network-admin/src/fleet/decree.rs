//! Orders that several authorities sign, each apart: what is proposed, how far it has come, and how it is delivered.

use std::time::Duration;

use crypto::AnchorSecret;
use policy::Configuration;
use wire::{
    U64,
    order::{Isolation, Kind as Ordered, Release},
    title::Title,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    account::{Account, Entry},
    delivery::{self, Lane, Outcome, Signed, Task},
    papers::told,
    parting,
    view::View,
};
use crate::{
    base::{
        error::{Error, Exit},
        paper::{Decided, Decree, Paper, Papers},
    },
    registry::{Kind, Member},
};

/// What a node is to be ordered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    Configuration(Vec<u8>),
    /// The end of the isolation that it told of last.
    Rejoin,
    Release(Box<Release>),
}

/// The proposal of an order for a node, to be signed by those who own it now.
pub fn propose(view: &View<'_>, member: &Member, wish: &Wish, expires_s: u64) -> Result<Decree, Error> {
    let title = view.paired(member)?.title;
    let (kind, body) = match wish {
        Wish::Configuration(bytes) => (Ordered::Configuration, bytes.clone()),
        Wish::Release(release) => (Ordered::Release, release.as_bytes().to_vec()),
        Wish::Rejoin => (Ordered::Rejoin, isolation(member)?.as_bytes().to_vec()),
    };
    let mut order = delivery::order_for(&title, kind, &body);
    order.counter = U64::new(view.registry.next_counter(0)?);
    let decree = Decree { expires_s, fleet: view.fleet.name.clone(), set: title.set, order, body };
    decree
        .sound()
        .map_err(|why| Error::input(format!("{} cannot be ordered this by several people: {why}", member.who)))?;
    view.registry.log(told(Kind::Proposed, &Paper::Order(Box::new(decree.clone()))))?;
    Ok(decree)
}

fn isolation(member: &Member) -> Result<Isolation, Error> {
    let said = member.telemetry.as_ref().map(|(record, _)| record).filter(|record| record.isolated != 0);
    said.map(|record| record.isolation).ok_or_else(|| {
        Error::input(format!("{} has not said that it is isolated: run `command {} status`", member.who, member.who))
    })
}

/// How far it has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    Proposed,
    Approved,
    /// The node has shown that it did it.
    Delivered,
}

impl State {
    pub fn name(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Approved => "approved",
            Self::Delivered => "delivered",
        }
    }
}

pub fn state(view: Option<&View<'_>>, decree: &Decree, decided: &Decided) -> Result<State, Error> {
    let shown = view.map_or(Ok(false), |view| is_delivered(view, decree))?;
    Ok(match (shown, decided.is_enough()) {
        (true, _) => State::Delivered,
        (false, true) => State::Approved,
        (false, false) => State::Proposed,
    })
}

fn member_of(view: &View<'_>, decree: &Decree) -> Result<Option<Member>, Error> {
    let members = view.nodes()?.into_iter().map(|node| node.member);
    Ok(members.into_iter().find(|member| member.fiduciary() == Some(&decree.order.fiduciary)))
}

fn is_delivered(view: &View<'_>, decree: &Decree) -> Result<bool, Error> {
    let Some(member) = member_of(view, decree)? else { return Ok(false) };
    Ok(match decree.order.kind() {
        Some(Ordered::Configuration) => member.has_shown(&decree.order.body),
        Some(Ordered::Release) => {
            parting::receipt(view, &member)?.is_some_and(|receipt| receipt.number == decree.order.epoch)
        }
        _ => {
            let says = |isolation: Isolation| isolation.as_bytes() == decree.body;
            member.telemetry.as_ref().is_some_and(|(record, _)| record.isolated == 0 || !says(record.isolation))
        }
    })
}

/// What an order changes of what this registry has in force: a line each.
pub fn differences(view: &View<'_>, decree: &Decree) -> Result<Vec<String>, Error> {
    let Some(member) = member_of(view, decree)? else {
        return Ok(vec!["this registry has nothing of the node in force".into()]);
    };
    let mut lines = Vec::new();
    if let Ok(node) = view.paired(&member)
        && node.title.set != decree.set
    {
        lines.push("THE SET IS ANOTHER than the one that this registry has of the node: it would refuse this".into());
    }
    if decree.order.kind() == Some(Ordered::Configuration) {
        let granted = |bytes: &[u8]| Configuration::parse(bytes).unwrap_or_default();
        let before = member.configuration.as_deref().map(granted).unwrap_or_default();
        let after = granted(&decree.body);
        let goes =
            before.rules.iter().filter(|rule| !after.rules.contains(rule)).map(|rule| format!("rule goes: {rule}"));
        let comes =
            after.rules.iter().filter(|rule| !before.rules.contains(rule)).map(|rule| format!("rule comes: {rule}"));
        lines.extend(goes.chain(comes));
        if before.peers.len() != after.peers.len() {
            lines.push(format!("peers: in force are {}, proposed {}", before.peers.len(), after.peers.len()));
        }
        if lines.is_empty() {
            lines.push("this changes no rule of what is in force".into());
        }
    }
    Ok(lines)
}

/// Delivers what enough have signed, and says how it went with each; what was delivered before is done.
pub async fn deliver(
    lane: &mut impl Lane,
    view: &View<'_>,
    authority: &AnchorSecret,
    papers: &Papers,
    wait: Duration,
) -> Result<Account, Error> {
    check(view, papers)?;
    let mut prepared = Vec::new();
    for decree in &papers.orders {
        prepared.push(prepare(view, papers, decree)?);
    }
    let registry = view.registry;
    let tasks = prepared.iter().filter_map(|one| Some((one.member.as_ref()?, one.task.as_ref().ok()?.clone())));
    let mut outcomes = delivery::run(lane, registry, view, authority, tasks.collect(), wait).await.into_iter();
    let (mut account, mut events) =
        (Account { again: "order deliver, with the same files", ..Account::default() }, Vec::new());
    for Prepared { decree, title, member, task } in prepared {
        let outcome = match task {
            Ok(_) => outcomes.next().unwrap_or(Outcome::NoAnswer),
            Err(outcome) => outcome,
        };
        let noted = match (&outcome, &member) {
            (Outcome::Proved { receipt, .. } | Outcome::Otherwise(receipt), _) => {
                registry.store_receipts([&**receipt]).map(|_| ())
            }
            (Outcome::Done { record, .. }, Some(member)) => registry.whole(|registry| {
                if decree.order.kind() == Some(Ordered::Configuration) {
                    registry.store_configuration(member.id, &decree.body, decree.order.counter.get())?;
                }
                registry.store_shown(member.id, record)
            }),
            _ => Ok(()),
        };
        account.own = account.own.or(noted.err());
        if outcome != Outcome::Current {
            events.push(outcome.logged(event(decree, title.as_ref())));
        }
        account.entries.push(Entry { who: decree.node().to_string(), outcome });
    }
    account.log(registry, events);
    Ok(account)
}

fn event(decree: &Decree, title: Option<&Title>) -> crate::registry::Event {
    let order = &decree.order;
    match (order.kind(), Release::read_from_bytes(&decree.body), title) {
        (Some(Ordered::Configuration), _, _) => delivery::update_event(&order.fiduciary, &order.body),
        (Some(Ordered::Release), Ok(release), Some(title)) => parting::event(title, &release),
        _ => delivery::command_event(&order.fiduciary, Ordered::Rejoin.name()),
    }
}

/// An error if fewer have signed than must, one is out of date, or they are of several fleets: then nobody is told anything.
pub fn check(view: &View<'_>, papers: &Papers) -> Result<(), Error> {
    papers.orders.iter().try_for_each(|decree| {
        if decree.order.fleet != view.fleet.id {
            return Err(Error::input(format!("the order for {} is of another fleet than the others", decree.node())));
        }
        let decided = decree.standing(papers);
        if !decided.is_enough() {
            let (has, needed) = (decided.signatures(), decided.needed);
            let message = format!(
                "the order for {} is approved by {has} of the {needed} who must sign: see `os-network-admin order show`",
                decree.node()
            );
            return Err(Error::new(Exit::Unapproved, message));
        }
        if is_delivered(view, decree)? { Ok(()) } else { decree.current(view.registry.now_ms()).map_err(Error::input) }
    })
}

struct Prepared<'p> {
    decree: &'p Decree,
    title: Option<Title>,
    member: Option<Member>,
    task: Result<Task, Outcome>,
}

fn prepare<'p>(view: &View<'_>, papers: &Papers, decree: &'p Decree) -> Result<Prepared<'p>, Error> {
    let decided = decree.standing(papers);
    let member = member_of(view, decree)?;
    let mut prepared = Prepared { decree, title: None, member, task: Err(Outcome::Current) };
    if is_delivered(view, decree)? {
        return Ok(prepared);
    }
    let refuse = |why: String| Err(Outcome::NotComputable(Error::input(why)));
    prepared.task = match &prepared.member {
        None => refuse(format!("{} is no node of this fleet", decree.node())),
        Some(member) => match view.paired(member) {
            Err(error) => Err(Outcome::NotComputable(error)),
            Ok(node) if node.title.set != decree.set || node.title.warrant.epoch != decree.order.epoch => {
                refuse(format!(
                    "{} has another set or epoch now than those who signed: have the order proposed anew",
                    member.who
                ))
            }
            Ok(node) => {
                prepared.title = Some(node.title);
                task(view, member, &node.title, decree, &decided)?
            }
        },
    };
    Ok(prepared)
}

fn task(
    view: &View<'_>,
    member: &Member,
    title: &Title,
    decree: &Decree,
    decided: &Decided,
) -> Result<Result<Task, Outcome>, Error> {
    let signed = Signed::new(&decided.order, &decree.body);
    Ok(Ok(match (decree.order.kind(), Release::read_from_bytes(&decree.body)) {
        (Some(Ordered::Release), Ok(release)) => {
            parting::begin(view, member, &release)?;
            Task::Receipted { signed, awaited: parting::awaited(title, &release) }
        }
        (Some(Ordered::Configuration), _) => Task::Update { signed, hash: decree.order.body },
        _ => Task::Ended(signed),
    }))
}
