//! How it went with each member that should have something else than it has: whoever changes what members should have answers
//! for every one of them.

use std::time::Duration;

use crypto::AnchorSecret;
use wire::{
    binding::configuration_hash,
    staged::{self, Staged},
};

use super::{
    delivery::{self, Lane, Outcome, Task},
    view::{Behind, Owed, View},
};
use crate::{
    base::error::{Error, Exit},
    registry::{Event, Kind, Member, Registry, Tag},
};

type Prepared = Result<(Member, Task), Error>;

/// One member, and how it went.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub who: String,
    pub outcome: Outcome,
}

/// All of them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Account {
    pub entries: Vec<Entry>,
    /// What went wrong on this host besides.
    pub own: Option<Error>,
    /// What is run to try it again.
    pub again: &'static str,
}

impl Default for Account {
    fn default() -> Self {
        Self { entries: Vec::new(), own: None, again: "policy push" }
    }
}

/// Tells nodes what they should have, and notes what they have shown.
pub async fn settle(
    lane: &mut impl Lane,
    view: &View<'_>,
    authority: &AnchorSecret,
    behind: Vec<Behind>,
    wait: Duration,
) -> Account {
    let registry = view.registry;
    let prepare = |Behind { who, owed }| {
        let task = owed.and_then(|Owed { member, configuration }| {
            delivery::update(registry, view, authority, &member, &configuration).map(|task| (member, task))
        });
        (who, task)
    };
    let prepared: Vec<(String, Prepared)> = behind.into_iter().map(prepare).collect();
    let tasks = prepared.iter().filter_map(|(_, task)| task.as_ref().ok());
    let tasks = tasks.map(|(member, task)| (member, task.clone())).collect();
    let mut outcomes = delivery::run(lane, registry, view, authority, tasks, wait).await.into_iter();
    let mut account = Account::default();
    let mut events = Vec::new();
    for (who, task) in prepared {
        let outcome = match task {
            Ok((member, task)) => {
                let outcome = outcomes.next().unwrap_or(Outcome::NoAnswer);
                let event = logged(&who, Some((&member, task.configuration())));
                if let (Outcome::Done { record, .. }, Some(Staged::Order(order, configuration))) =
                    (&outcome, staged::parse(task.bytes()))
                {
                    // The mesh's daemon writes the record too, but not at once.
                    let noted = registry.whole(|registry| {
                        registry.store_configuration(member.id, configuration, order.counter.get())?;
                        registry.store_shown(member.id, record)?;
                        registry.log(event)
                    });
                    account.own = account.own.or(noted.err());
                } else {
                    events.push(outcome.logged(event));
                }
                outcome
            }
            Err(error) => {
                let outcome = Outcome::NotComputable(error);
                events.push(outcome.logged(logged(&who, None)));
                outcome
            }
        };
        account.entries.push(Entry { who, outcome });
    }
    account.log(registry, events);
    account
}

/// What the log has of an update; of a member that cannot be told anything only what it is called.
fn logged(who: &str, owed: Option<(&Member, &[u8])>) -> Event {
    match owed.and_then(|(member, configuration)| Some((member.fiduciary()?, configuration))) {
        Some((fiduciary, configuration)) => delivery::update_event(fiduciary, &configuration_hash(configuration)),
        None => Event::new(Kind::Update).text(Tag::Who, who),
    }
}

impl Account {
    /// Of nodes to which there is no way, for this reason.
    pub fn unreached(registry: &Registry, behind: Vec<Behind>, why: &Error) -> Self {
        let (mut account, mut events) = (Self::default(), Vec::new());
        for Behind { who, owed } in behind {
            let event = logged(&who, owed.as_ref().ok().map(|owed| (&owed.member, owed.configuration.as_slice())));
            let outcome = owed.map_or_else(Outcome::NotComputable, |_| Outcome::NotReached(why.clone()));
            events.push(outcome.logged(event));
            account.entries.push(Entry { who, outcome });
        }
        account.log(registry, events);
        account
    }

    /// All at once, however many there are.
    pub(super) fn log(&mut self, registry: &Registry, events: Vec<Event>) {
        if !events.is_empty() {
            let logged = registry.whole(|registry| events.into_iter().try_for_each(|event| registry.log(event)));
            self.own = self.own.take().or(logged.err());
        }
    }

    /// What a command ends with: the worst of all.
    pub fn error(&self) -> Option<Error> {
        let worst = self.entries.iter().filter_map(|entry| entry.outcome.exit()).max_by_key(|exit| badness(*exit));
        let own = self.own.as_ref();
        let exit = worst.into_iter().chain(own.map(|error| error.exit)).max_by_key(|exit| badness(*exit))?;
        let count = |is: fn(&Outcome) -> bool| self.entries.iter().filter(|entry| is(&entry.outcome)).count();
        let many = [
            (count(|outcome| matches!(outcome, Outcome::NotComputable(_))), "could not be told anything"),
            (count(|outcome| matches!(outcome, Outcome::Refused(_) | Outcome::Otherwise(_))), "refused"),
            (count(|outcome| matches!(outcome, Outcome::NotReached(_))), "could not be reached"),
            (count(|outcome| *outcome == Outcome::NoAnswer), "did not show in time that they have it"),
        ];
        let of = self.entries.len();
        let many = many.iter().filter(|(many, _)| *many > 0).map(|(many, what)| format!("{many} of {of} nodes {what}"));
        let why = self.entries.iter().find_map(|entry| match &entry.outcome {
            Outcome::NotReached(why) => Some(why.message.clone()),
            _ => None,
        });
        let mut parts: Vec<String> = own.map(|error| error.message.clone()).into_iter().chain(many).collect();
        parts.extend(why);
        if worst.is_some() {
            parts.push(format!("when that is mended, run: os-network-admin {}", self.again));
        }
        Some(Error::new(exit, parts.join("; ")))
    }
}

/// Of several ends of a command the one with the highest number is said.
fn badness(exit: Exit) -> u8 {
    match exit {
        Exit::NotShown => 1,
        Exit::Network => 2,
        Exit::Refused => 3,
        Exit::NotComputable => 4,
        Exit::Interrupted => 6,
        _ => 5,
    }
}
