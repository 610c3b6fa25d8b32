//! What lifecycle does for `mesh`: membership, the first handshake, updates.

use calls::{
    console::{Code, Event},
    keystore::{OrderRequest, Ownership, Refusal as KeystoreRefusal, StatusReply},
    lifecycle::{ApplyRequest, Refusal, for_mesh},
};
use link::Station;
use shm::mailbox::Incoming;
use wire::{
    Hash, Key, Phase,
    order::Kind,
    record::AuthorityRecord,
    staged::{self, Staged},
    telemetry::CommandResult,
};

use crate::{configuration::Kept, events::Events, keystore::Errand, ports::MeshServer, waiting::Waiting};

/// A call of `mesh` that waits for the keystore.
#[expect(clippy::large_enum_variant, reason = "there is one of it, and no heap")]
enum Call {
    Joined,
    Configure(Configure),
    /// Any other order: nothing is to be written before it is committed.
    Order(OrderRequest),
    Adopt(AuthorityRecord),
}

struct Configure {
    order: OrderRequest,
    next: Kept,
    progress: Progress,
}

/// How far an order with a configuration has come.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Progress {
    /// Nothing is erased or written for what the keystore would not commit.
    Unchecked,
    Checked,
    /// Only now it may be committed.
    AtRest,
}

/// What `mesh` is answered.
pub enum Answer {
    Joined,
    Applied(CommandResult),
    Refused(Refusal),
}

/// What a status of the keystore means for the call that waited for it.
#[expect(clippy::large_enum_variant, reason = "there is one of it, and no heap")]
pub enum Shown {
    Answer(Answer),
    /// The order is committed: this is the configuration that is in force.
    InForce(Kept),
}

/// What makes one membership differ from the next.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Told {
    pub phase: Phase,
    pub isolated: u8,
    pub isolation: [u32; 2],
    pub sequence: u64,
    pub epoch: u64,
    pub fiduciary: Key,
    pub link: Station,
    /// Somebody has left the set, and is a peer for a little longer.
    pub parting: bool,
    pub configuration: Option<Hash>,
}

pub struct Mesh {
    waiting: Waiting<Call>,
    /// Who made the call that waits does not wait any more.
    left: bool,
    told: Option<Told>,
    joined: bool,
}

impl Mesh {
    pub const fn new() -> Self {
        Self { waiting: Waiting::nothing(), left: false, told: None, joined: false }
    }

    pub fn is_waiting(&self) -> bool {
        self.waiting.is_some()
    }

    /// Takes a call. Returns what answers it at once, if anything does.
    pub fn take(&mut self, call: &Incoming<{ for_mesh::MAX_REQUEST }>, phase: Phase) -> Option<Answer> {
        if call.parse::<for_mesh::Joined>().is_some() {
            match phase {
                Phase::Claimed => return Some(Answer::Joined),
                Phase::Committed => self.waiting.act(Call::Joined),
                _ => return Some(Answer::Refused(Refusal::Phase)),
            }
        } else if let Some(request) = call.parse::<for_mesh::Apply>() {
            match read(&request) {
                // Who can command has made a handshake, and has said so.
                _ if phase != Phase::Claimed => return Some(Answer::Refused(Refusal::Phase)),
                Ok(call) => self.waiting.act(call),
                Err(result) => return Some(Answer::Applied(result)),
            }
        } else {
            return Some(Answer::Refused(Refusal::NotAllowed));
        }
        None
    }

    /// What the keystore has to do for the call that waits.
    pub fn errand(&self) -> Option<Errand<'_>> {
        Some(match self.waiting.undone()? {
            Call::Joined => Errand::Settle,
            Call::Configure(Configure { order, progress, .. }) => match progress {
                Progress::Unchecked => Errand::CheckOrder(order),
                Progress::Checked => return None,
                Progress::AtRest => Errand::Order(order),
            },
            Call::Order(order) => Errand::Order(order),
            Call::Adopt(record) => Errand::Adopt(record),
        })
    }

    /// What is to be brought to rest before the keystore commits it.
    pub fn to_keep(&self) -> Option<&Kept> {
        match self.waiting.undone()? {
            Call::Configure(one) if one.progress == Progress::Checked => Some(&one.next),
            _ => None,
        }
    }

    /// This configuration is at rest.
    pub fn at_rest(&mut self, hash: &Hash) {
        if let Some(Call::Configure(one)) = self.waiting.undone_mut()
            && one.progress == Progress::Checked
            && one.next.hash == *hash
        {
            one.progress = Progress::AtRest;
        }
    }

    /// This configuration could not be brought to rest.
    pub fn not_at_rest(&mut self, hash: &Hash) -> Option<Answer> {
        self.to_keep().filter(|kept| kept.hash == *hash)?;
        self.waiting.take().map(|_| Answer::Applied(CommandResult::Store))
    }

    /// The keystore has done it: its status is to show it. Or it would commit the order, whose configuration is then to be at
    /// rest.
    pub fn done(&mut self) {
        match self.waiting.undone_mut() {
            Some(Call::Configure(one)) if one.progress == Progress::Unchecked => one.progress = Progress::Checked,
            _ => self.waiting.done(),
        }
    }

    /// Whether the call that waits needs a status.
    pub fn is_due(&self) -> bool {
        self.waiting.is_due()
    }

    pub fn asked(&mut self) {
        self.waiting.asked();
    }

    /// The keystore refuses what the call needs. Only its word about what was staged is a word against that.
    pub fn refused(&mut self, refusal: Option<KeystoreRefusal>) -> Option<Answer> {
        use KeystoreRefusal::{Forged, NotMine, Stale};
        Some(match self.waiting.take()? {
            Call::Joined => Answer::Refused(Refusal::Phase),
            _ if matches!(refusal, Some(Forged | Stale | NotMine)) => Answer::Applied(CommandResult::Refused),
            _ => Answer::Applied(CommandResult::Store),
        })
    }

    pub fn shown(&mut self, status: &StatusReply) -> Option<Shown> {
        let shows = match self.waiting.shown()? {
            Call::Joined if status.ownership() == Ownership::Claimed => return Some(Shown::Answer(Answer::Joined)),
            Call::Joined => return Some(Shown::Answer(Answer::Refused(Refusal::Phase))),
            Call::Configure(Configure { next, .. }) if status.configuration == next.hash => {
                return Some(Shown::InForce(next));
            }
            Call::Configure(_) => false,
            Call::Order(OrderRequest { order, .. }) if order.kind() == Some(Kind::Release) => {
                status.ownership() == Ownership::Unclaimed
            }
            Call::Order(_) => status.isolated == 0,
            Call::Adopt(record) => status.sequence == record.sequence.get(),
        };
        Some(Shown::Answer(Answer::Applied(if shows { CommandResult::Done } else { CommandResult::Store })))
    }

    /// The domain has died. What it has asked for goes on: one that dies again and again would have the same written each time.
    pub fn left(&mut self) {
        self.left = self.is_waiting();
    }

    /// Forgets the call that waits. Returns what answers it.
    pub fn give_up(&mut self) -> Option<Answer> {
        self.waiting.take().map(|_| Answer::Refused(Refusal::Phase))
    }

    pub fn answer(&mut self, answer: &Answer, server: &mut MeshServer<'_>, events: &mut Events) {
        let waits = !core::mem::take(&mut self.left);
        match answer {
            Answer::Joined => {
                if !core::mem::replace(&mut self.joined, true) {
                    events.say(Event::new(Code::Joined, 0, &[]));
                }
                if waits {
                    server.reply::<for_mesh::Joined>(&());
                }
            }
            Answer::Applied(result) => {
                if *result != CommandResult::Done {
                    events.say(Event::new(Code::UpdateRefused, *result as u32, &[]));
                }
                if waits {
                    server.reply::<for_mesh::Apply>(&(*result as u32));
                }
            }
            Answer::Refused(refusal) if waits => server.refuse(refusal.code()),
            Answer::Refused(_) => {}
        }
    }

    /// Whether the membership is another than the one that was told.
    pub fn is_news(&self, told: &Told) -> bool {
        self.told.as_ref() != Some(told)
    }

    /// The membership has been published.
    pub fn tell(&mut self, told: Told, kept: Option<&Kept>, events: &mut Events) {
        let before = self.told.replace(told).and_then(|told| told.configuration);
        let news = kept.filter(|kept| !kept.bare && before != Some(kept.hash));
        if let Some(Kept { hash, peers, .. }) = news {
            events.say(Event::new(Code::Configured, *peers, &[hash, &told.epoch.to_be_bytes()]));
        }
    }
}

/// What was staged, if it is worth asking the keystore about.
fn read(request: &ApplyRequest) -> Result<Call, CommandResult> {
    let bytes = usize::try_from(request.length).ok().and_then(|length| request.staged.get(..length));
    let (order, body) = match bytes.and_then(staged::parse).ok_or(CommandResult::Unreadable)? {
        Staged::Record(record) => return Ok(Call::Adopt(*record)),
        Staged::Order(order, body) => (order, body),
    };
    let kind = order.kind().ok_or(CommandResult::Unreadable)?;
    let next = match kind {
        Kind::Configuration => Some(Kept::read(body).ok_or(CommandResult::Unreadable)?),
        Kind::Rejoin | Kind::Release => None,
    };
    if !order.carries(body) {
        return Err(CommandResult::Refused);
    }
    let order = OrderRequest::new(order, body).ok_or(CommandResult::Unreadable)?;
    Ok(match next {
        Some(next) => Call::Configure(Configure { order, next, progress: Progress::Unchecked }),
        None => Call::Order(order),
    })
}
