//! The configuration at rest: how it is laid out over blocks that the keystore seals and `store` keeps.
//!
//! There are two slots. One that holds the configuration of the committed hash is neither erased nor written, whatever
//! becomes of the other. Before a slot is erased, the keystore has sealed the first block, and has then said once more
//! what is committed: while it is in the middle of a commit it seals nothing. Once a configuration is committed the other
//! slot is erased: a preshared key that was replaced is to go. While none is, both are: a claim that was given up leaves
//! nothing.

use calls::{
    keystore::{Ownership, Refusal as KeystoreRefusal, StatusReply},
    store::{
        BLOCK, BlockPlace, CONFIGURATIONS, MAX_BLOCKS, SEALED_BLOCK, WriteBlockRequest,
        for_lifecycle::{EraseSlot, ReadBlock, WriteBlock},
    },
};
use shm::{
    Micros,
    mailbox::{CallError, Client, Patience},
};
use wire::{Hash, claim::MAX_CONFIGURATION};
use zeroize::{Zeroize, Zeroizing};

use crate::{
    configuration::Kept,
    keystore::{Block, Errand},
};

/// How long `store` may take for one action, an erase above all, and how often it is asked.
pub const PATIENCE: Patience = Patience { each: 5_000_000, tries: 2 };
/// After how long a configuration is looked for again that a failing store could not show.
pub const AGAIN_MICROS: Micros = 30_000_000;

/// After how long a slot is erased again that could not be.
pub const PURGE_MICROS: Micros = 3_600_000_000;

/// Bytes before the configuration: its length.
const HEAD: usize = size_of::<u64>();

/// What is known of a slot.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Slot {
    Unread,
    Erased,
    /// Not the configuration that was looked for, or one that was cut off.
    Other,
    Holds(Hash),
}

/// What is done for a block, or before the first one.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Step {
    Read,
    Open,
    Seal,
    /// A status is to be asked for.
    Due,
    /// A status is asked for.
    Asked,
    Erase,
    Write,
}

#[derive(Clone, Copy)]
enum Job {
    /// `silent`: a slot could not be read.
    Find {
        silent: bool,
    },
    Keep,
    /// The block that is sealed for it is nothing and goes nowhere: it shows that no commit is under way.
    Purge,
}

/// What has come of it.
#[expect(clippy::large_enum_variant, reason = "there is one of it, and no heap")]
pub enum Outcome {
    Found(Kept),
    /// No slot has the configuration of this hash.
    Lost,
    /// `store` or the keystore could not tell; it is looked for again. Said once.
    Unknown,
    /// It is at rest.
    Kept(Hash),
    NotKept(Hash),
}

pub struct Archive {
    slots: [Slot; CONFIGURATIONS],
    /// The slot that was written last.
    newest: usize,
    job: Option<Job>,
    step: Step,
    /// What it is about.
    hash: Hash,
    slot: usize,
    index: usize,
    /// The blocks without their seals: they hold preshared keys.
    text: Zeroizing<[u8; MAX_BLOCKS * BLOCK]>,
    sealed: [u8; SEALED_BLOCK],
    /// No slot has the configuration of this hash.
    lost: Option<Hash>,
    /// It is looked for from this time on.
    again: Micros,
    /// A slot that has not what is committed is not to be erased before this time.
    purge_at: Micros,
    /// That it cannot be read has been said.
    told: bool,
    /// `store` did not answer.
    unanswered: bool,
}

impl Archive {
    pub fn new() -> Self {
        Self {
            slots: [Slot::Unread; CONFIGURATIONS],
            newest: CONFIGURATIONS - 1,
            job: None,
            step: Step::Read,
            hash: [0; 32],
            slot: 0,
            index: 0,
            text: Zeroizing::new([0; MAX_BLOCKS * BLOCK]),
            sealed: [0; SEALED_BLOCK],
            lost: None,
            again: 0,
            purge_at: 0,
            told: false,
            unanswered: false,
        }
    }

    pub fn is_idle(&self) -> bool {
        self.job.is_none()
    }

    /// Whether it makes sense to look for the configuration of this hash, now or later.
    pub fn may_find(&self, hash: &Hash) -> bool {
        self.lost != Some(*hash)
    }

    /// Whether it was looked for and is not there, or could not be read.
    pub fn gave_up(&self, hash: &Hash) -> bool {
        self.lost == Some(*hash) || self.told
    }

    /// Whether this configuration is known to be at rest.
    pub fn holds(&self, hash: &Hash) -> bool {
        self.slots.contains(&Slot::Holds(*hash))
    }

    /// Whether `store` has let a call pass without an answer, however often it was asked, since this was last asked.
    pub fn take_unanswered(&mut self) -> bool {
        core::mem::take(&mut self.unanswered)
    }

    /// When it is looked for again.
    pub fn again(&self) -> Micros {
        self.again
    }

    /// When a slot is to be erased, if this configuration is the committed one, or none is.
    pub fn purge_due(&self, committed: Option<&Hash>) -> Option<Micros> {
        self.stale(committed).map(|_| self.purge_at)
    }

    /// A slot that does not hold what is committed, and is not erased. What is committed has to be known to be at rest.
    fn stale(&self, committed: Option<&Hash>) -> Option<usize> {
        let holds = |slot: &Slot| committed.is_some_and(|hash| *slot == Slot::Holds(*hash));
        let is_sure = committed.is_none() || self.slots.iter().any(holds);
        let stale = self.slots.iter().position(|slot| !holds(slot) && *slot != Slot::Erased);
        stale.filter(|_| is_sure)
    }

    /// Erases a slot that does not hold what is committed.
    pub fn purge(&mut self) {
        self.begin(Job::Purge, Step::Seal, [0; 32]);
    }

    /// Looks for the configuration of this hash.
    pub fn find(&mut self, hash: Hash) {
        self.begin(Job::Find { silent: false }, Step::Read, hash);
    }

    /// Brings this configuration to rest, unless it is already.
    pub fn keep(&mut self, kept: &Kept) -> Option<Outcome> {
        if self.holds(&kept.hash) {
            return Some(Outcome::Kept(kept.hash));
        }
        let bytes = kept.bytes();
        self.text[..HEAD].copy_from_slice(&(bytes.len() as u64).to_le_bytes());
        for (to, from) in self.text[HEAD..].iter_mut().zip(bytes) {
            *to = *from;
        }
        self.begin(Job::Keep, Step::Seal, kept.hash);
        None
    }

    /// Nothing is to be kept or found any more.
    pub fn stop(&mut self, store: &mut Client<'_>) {
        store.abandon();
        self.end();
    }

    /// What the keystore has to do.
    pub fn errand(&self) -> Option<Errand<'_>> {
        let (configuration, index) = (self.hash, self.index);
        self.job?;
        Some(match self.step {
            Step::Seal => Errand::Seal(Block { configuration, index, bytes: self.text.chunks(BLOCK).nth(index)? }),
            Step::Open => Errand::Open(Block { configuration, index, bytes: &self.sealed }),
            _ => return None,
        })
    }

    pub fn is_due(&self) -> bool {
        self.job.is_some() && self.step == Step::Due
    }

    pub fn asked(&mut self) {
        if self.step == Step::Due {
            self.step = Step::Asked;
        }
    }

    /// The keystore has sealed the block.
    pub fn sealed(&mut self, sealed: &[u8; SEALED_BLOCK]) {
        if self.job.is_some() && self.step == Step::Seal {
            self.sealed = *sealed;
            self.step = if self.index == 0 { Step::Due } else { Step::Write };
        }
    }

    /// The keystore has opened the block.
    pub fn opened(&mut self, plain: &[u8; BLOCK]) -> Option<Outcome> {
        if self.job.is_none() || self.step != Step::Open {
            return None;
        }
        if let Some(to) = self.text.chunks_mut(BLOCK).nth(self.index) {
            to.copy_from_slice(plain);
        }
        let Some(length) = self.length() else { return self.pass_by(Slot::Other) };
        self.index += 1;
        if self.index < blocks(length) {
            self.step = Step::Read;
            return None;
        }
        let found = self.text.get(HEAD..HEAD + length).and_then(Kept::read).filter(|kept| kept.hash == self.hash);
        let Some(kept) = found else { return self.pass_by(Slot::Other) };
        self.slots[self.slot] = Slot::Holds(self.hash);
        (self.newest, self.told) = (self.slot, false);
        self.end();
        Some(Outcome::Found(kept))
    }

    /// The keystore refuses the block.
    pub fn refused(&mut self, refusal: Option<KeystoreRefusal>, now: Micros) -> Option<Outcome> {
        match self.job? {
            Job::Keep => Some(self.not_kept()),
            Job::Purge => self.purge_later(now),
            Job::Find { .. } if refusal == Some(KeystoreRefusal::Forged) => self.pass_by(Slot::Other),
            Job::Find { .. } => self.pass_silent(now),
        }
    }

    /// A status has come that may be younger than the first block.
    pub fn shown(&mut self, status: &StatusReply, now: Micros) -> Option<Outcome> {
        if self.job.is_none() || self.step != Step::Asked {
            return None;
        }
        let committed = (status.ownership() != Ownership::Unclaimed).then_some(status.configuration);
        let holder = |hash| self.slots.iter().position(|slot| *slot == Slot::Holds(hash));
        let other = CONFIGURATIONS - 1 - self.newest;
        self.slot = match committed.map(|hash| (hash, holder(hash))) {
            _ if matches!(self.job, Some(Job::Purge)) => {
                let Some(slot) = self.stale(committed.as_ref()) else {
                    self.end();
                    return None;
                };
                slot
            }
            Some((_, Some(slot))) => CONFIGURATIONS - 1 - slot,
            Some((hash, None)) if self.lost != Some(hash) => {
                // It may be in either slot, and is to be looked for first.
                if now >= self.again {
                    self.end();
                    return None;
                }
                self.again = 0;
                return Some(self.not_kept());
            }
            _ => other,
        };
        self.step = Step::Erase;
        None
    }

    /// Goes on with what `store` does.
    pub fn step(&mut self, now: Micros, store: &mut Client<'_>) -> Option<Outcome> {
        let job = self.job?;
        let place = BlockPlace { slot: self.slot as u64, index: self.index as u64 };
        match self.step {
            Step::Read => match store.ask::<ReadBlock>(now, PATIENCE, || place) {
                Ok(None) => None,
                Ok(Some(sealed)) => {
                    self.sealed = sealed;
                    self.step = Step::Open;
                    None
                }
                Err(error) => {
                    self.note(error);
                    self.pass_silent(now)
                }
            },
            Step::Erase => {
                self.slots[self.slot] = Slot::Other;
                match store.ask::<EraseSlot>(now, PATIENCE, || place.slot) {
                    Ok(None) => None,
                    Ok(Some(())) if matches!(job, Job::Purge) => {
                        self.slots[self.slot] = Slot::Erased;
                        self.end();
                        None
                    }
                    Ok(Some(())) => {
                        self.step = Step::Write;
                        self.step(now, store)
                    }
                    Err(error) => {
                        self.note(error);
                        if matches!(job, Job::Purge) { self.purge_later(now) } else { Some(self.not_kept()) }
                    }
                }
            }
            Step::Write => {
                match store.ask::<WriteBlock>(now, PATIENCE, || WriteBlockRequest { place, sealed: self.sealed }) {
                    Ok(None) => None,
                    Ok(Some(())) => {
                        self.index += 1;
                        self.step = Step::Seal;
                        let whole = matches!(job, Job::Keep) && self.index == self.length().map_or(0, blocks);
                        whole.then(|| self.kept())
                    }
                    Err(error) => {
                        self.note(error);
                        Some(self.not_kept())
                    }
                }
            }
            Step::Open | Step::Seal | Step::Due | Step::Asked => None,
        }
    }

    fn note(&mut self, error: CallError) {
        self.unanswered |= error == CallError::Timeout;
    }

    fn begin(&mut self, job: Job, step: Step, hash: Hash) {
        self.job = Some(job);
        (self.step, self.hash, self.slot, self.index) = (step, hash, 0, 0);
    }

    fn end(&mut self) {
        self.job = None;
        self.text.zeroize();
    }

    fn purge_later(&mut self, now: Micros) -> Option<Outcome> {
        self.purge_at = now.saturating_add(PURGE_MICROS);
        self.end();
        None
    }

    fn kept(&mut self) -> Outcome {
        self.purge_at = 0;
        self.slots[self.slot] = Slot::Holds(self.hash);
        self.newest = self.slot;
        if self.lost == Some(self.hash) {
            self.lost = None;
        }
        self.end();
        Outcome::Kept(self.hash)
    }

    fn not_kept(&mut self) -> Outcome {
        self.end();
        Outcome::NotKept(self.hash)
    }

    /// The length that the first block says.
    fn length(&self) -> Option<usize> {
        let length = u64::from_le_bytes(*self.text.first_chunk()?);
        usize::try_from(length).ok().filter(|length| *length <= MAX_CONFIGURATION)
    }

    /// This slot could not be read.
    fn pass_silent(&mut self, now: Micros) -> Option<Outcome> {
        self.job = Some(Job::Find { silent: true });
        self.again = now.saturating_add(AGAIN_MICROS);
        self.pass_by(Slot::Unread)
    }

    /// It is not in this slot: on to the next.
    fn pass_by(&mut self, what: Slot) -> Option<Outcome> {
        self.slots[self.slot] = what;
        (self.slot, self.index, self.step) = (self.slot + 1, 0, Step::Read);
        if self.slot < CONFIGURATIONS {
            return None;
        }
        let silent = matches!(self.job, Some(Job::Find { silent: true }));
        self.end();
        if silent {
            return (!core::mem::replace(&mut self.told, true)).then_some(Outcome::Unknown);
        }
        self.lost = Some(self.hash);
        Some(Outcome::Lost)
    }
}

/// How many blocks a configuration of this length has.
const fn blocks(length: usize) -> usize {
    (HEAD + length).div_ceil(BLOCK)
}
