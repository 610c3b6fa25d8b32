//! The keystore's client: what is to be asked, the most urgent first, and what the keystore has said.

use calls::{
    keystore::{
        OpenBlockRequest, OrderRequest, OwnerReply, Refusal, SealBlockRequest, StatusReply,
        for_lifecycle::{
            Adopt, CheckBinding, CheckOrder, CloseGate, Fork, OpenBlock, Order, Owner, SealBlock, Settle, Status,
            StoreDown,
        },
    },
    store::{BLOCK, SEALED_BLOCK},
};
use shm::{
    Micros,
    mailbox::{CallError, Client, Patience},
};
use wire::{Hash, record::AuthorityRecord, title::Title};
use zeroize::{Zeroize, Zeroizing};

/// How long the keystore may take to answer, and how often it is asked before it counts as silent.
pub const PATIENCE: Patience = Patience { each: 5_000_000, tries: 3 };

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    CloseGate,
    Fork,
    Settle,
    CheckBinding,
    CheckOrder,
    Order,
    Adopt,
    StoreDown,
    Seal,
    Open,
    Owner,
    Status,
}

/// What the keystore has to do for a call of another domain, or for the configuration at rest.
pub enum Errand<'e> {
    Settle,
    CheckBinding(&'e Title),
    CheckOrder(&'e OrderRequest),
    Order(&'e OrderRequest),
    Adopt(&'e AuthorityRecord),
    Seal(Block<&'e [u8]>),
    Open(Block<&'e [u8; SEALED_BLOCK]>),
}

/// A block of a configuration.
pub struct Block<B> {
    pub configuration: Hash,
    pub index: usize,
    pub bytes: B,
}

pub enum Answer {
    Status(StatusReply),
    Owner(OwnerReply),
    Sealed([u8; SEALED_BLOCK]),
    Opened(Zeroizing<[u8; BLOCK]>),
    /// The keystore has done what any other question asks for.
    Done(Question),
    /// `None` is a code that the interface does not have.
    Refused(Question, Option<Refusal>),
    /// No answer came, however often the keystore was asked.
    Silent,
    Misbehaved,
}

pub struct Keystore {
    asked: Option<Question>,
    /// The gate has closed since the keystore was last told so.
    close_gate: bool,
    /// The fork is asked for from this time on.
    fork_at: Option<Micros>,
    /// It is to be told that the store is out.
    store_down: bool,
    owner: bool,
    status: bool,
}

impl Keystore {
    pub const fn new() -> Self {
        Self { asked: None, close_gate: false, fork_at: None, store_down: false, owner: false, status: true }
    }

    pub fn close_gate(&mut self) {
        self.close_gate = true;
    }

    pub fn store_down(&mut self) {
        self.store_down = true;
    }

    /// The fork is wanted from this time on, or not at all.
    pub fn fork(&mut self, at: Option<Micros>) {
        self.fork_at = at;
    }

    pub fn want_owner(&mut self) {
        self.owner = true;
    }

    pub fn want_status(&mut self) {
        self.status = true;
    }

    /// Asks what is most urgent, if nothing is outstanding. Returns whether it is the status. `due`: a call waits for one.
    pub fn ask(&mut self, now: Micros, client: &mut Client<'_>, errand: Option<Errand<'_>>, due: bool) -> bool {
        if self.asked.is_some() {
            return false;
        }
        let question = if core::mem::take(&mut self.store_down) {
            client.call::<StoreDown>(&(), now, PATIENCE);
            Question::StoreDown
        } else if core::mem::take(&mut self.close_gate) {
            client.call::<CloseGate>(&(), now, PATIENCE);
            Question::CloseGate
        } else if self.fork_at.take_if(|at| *at <= now).is_some() {
            client.call::<Fork>(&(), now, PATIENCE);
            Question::Fork
        } else if core::mem::take(&mut self.owner) {
            client.call::<Owner>(&(), now, PATIENCE);
            Question::Owner
        } else if let Some(errand) = errand {
            match errand {
                Errand::Settle => {
                    client.call::<Settle>(&(), now, PATIENCE);
                    Question::Settle
                }
                Errand::CheckBinding(title) => {
                    client.call::<CheckBinding>(title, now, PATIENCE);
                    Question::CheckBinding
                }
                Errand::CheckOrder(order) => {
                    client.call::<CheckOrder>(order, now, PATIENCE);
                    Question::CheckOrder
                }
                Errand::Order(order) => {
                    client.call::<Order>(order, now, PATIENCE);
                    Question::Order
                }
                Errand::Adopt(record) => {
                    client.call::<Adopt>(record, now, PATIENCE);
                    Question::Adopt
                }
                Errand::Seal(Block { configuration, index, bytes }) => {
                    let mut request = SealBlockRequest { configuration, index: index as u64, plain: [0; BLOCK] };
                    for (to, from) in request.plain.iter_mut().zip(bytes) {
                        *to = *from;
                    }
                    client.call::<SealBlock>(&request, now, PATIENCE);
                    request.plain.zeroize();
                    Question::Seal
                }
                Errand::Open(Block { configuration, index, bytes }) => {
                    let request = OpenBlockRequest { configuration, index: index as u64, sealed: *bytes };
                    client.call::<OpenBlock>(&request, now, PATIENCE);
                    Question::Open
                }
            }
        } else if core::mem::take(&mut self.status) || due {
            client.call::<Status>(&(), now, PATIENCE);
            Question::Status
        } else {
            return false;
        };
        self.asked = Some(question);
        question == Question::Status
    }

    /// Whether this is what it is being asked.
    pub fn is_asked(&self, question: Question) -> bool {
        self.asked == Some(question)
    }

    /// What has come of the question, once.
    pub fn hear(&mut self, now: Micros, client: &mut Client<'_>) -> Option<Answer> {
        let question = self.asked?;
        let outcome = match question {
            Question::CloseGate => client.poll::<CloseGate>(now)?.map(|()| Answer::Done(question)),
            Question::Fork => client.poll::<Fork>(now)?.map(|()| Answer::Done(question)),
            Question::Settle => client.poll::<Settle>(now)?.map(|()| Answer::Done(question)),
            Question::CheckBinding => client.poll::<CheckBinding>(now)?.map(|()| Answer::Done(question)),
            Question::CheckOrder => client.poll::<CheckOrder>(now)?.map(|()| Answer::Done(question)),
            Question::Order => client.poll::<Order>(now)?.map(|()| Answer::Done(question)),
            Question::Adopt => client.poll::<Adopt>(now)?.map(|()| Answer::Done(question)),
            Question::StoreDown => client.poll::<StoreDown>(now)?.map(|()| Answer::Done(question)),
            Question::Seal => client.poll::<SealBlock>(now)?.map(Answer::Sealed),
            Question::Open => client.poll::<OpenBlock>(now)?.map(|bytes| Answer::Opened(Zeroizing::new(bytes))),
            Question::Owner => client.poll::<Owner>(now)?.map(Answer::Owner),
            Question::Status => client.poll::<Status>(now)?.map(Answer::Status),
        };
        self.asked = None;
        Some(outcome.unwrap_or_else(|error| match error {
            CallError::Refused(code) => Answer::Refused(question, Refusal::from_number(code.into())),
            CallError::Timeout | CallError::Restarted => Answer::Silent,
            CallError::Misbehaved => Answer::Misbehaved,
        }))
    }

    /// When the keystore is to be heard or asked at the latest.
    pub fn deadline(&self, client: &Client<'_>) -> Option<Micros> {
        client.deadline().or(self.fork_at)
    }
}
