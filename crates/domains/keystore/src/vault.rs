//! Records at rest: sealed here, so that whoever stores them learns and changes nothing; kept by the domain `store`.
//!
//! A sealed record is
//!
//! ```text
//! header 8 | nonce 24 | body 3024: encrypted | tag 16
//! ```
//!
//! with XChaCha20-Poly1305 under a key from the device secret and a random nonce. The header is "GNSREC" and the number of
//! the body's format; header, record and sequence number are authenticated, so that no entry passes for another. All of
//! this stays as it is for any format, so that one which this version does not know is still told from what is not this
//! node's: it was sealed by a later keystore of this node, whose identity is in it. What opens but is old cannot be told
//! from new at power-up: that needs a monotonic counter, which only some boards have. From then on the store cannot go
//! back behind what it has shown.

use calls::store::{
    AppendRequest, Finding, RECORDS, Record, SEALED, Sealed,
    for_keystore::{Append, Find, Purge},
};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use crypto::{Secret, label};
use shm::mailbox::{CallError, Client, Patience};
use zeroize::{Zeroize, Zeroizing};

use crate::record::{Counters, Identity, Ownership};

/// The format of the bodies that this version writes, `record`'s. Whatever changes there has the next number, and a sample
/// of each number that was ever released stays in the tests (`crates/domains/keystore/src/tests/records.rs`); those before
/// 3 were not.
pub const FORMAT: u16 = 3;

const MAGIC: [u8; 6] = *b"GNSREC";
const HEADER: usize = MAGIC.len() + size_of::<u16>();
pub const NONCE: usize = 24;
const TAG: usize = 16;
/// Length of every record, of which each fills the front.
pub const BODY: usize = SEALED - HEADER - NONCE - TAG;

const _: () = assert!(size_of::<Identity>() <= BODY && size_of::<Ownership>() <= BODY && size_of::<Counters>() <= BODY);

pub type Body = [u8; BODY];

/// How often a record is written again to a store that starts again each time.
const TRIES: u8 = 8;

/// Why a record is not to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The store does not do it.
    Store,
    /// It has lost what it has confirmed.
    Damaged,
    /// It holds what this node's keystore has not sealed.
    Foreign,
    /// It holds a record or a log of a format that this version does not know.
    Format,
}

/// What has come of an action.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// Looked for: [`Vault::loaded`] has the newest entry.
    Loaded(Record),
    NotLoaded(Failed),
    /// It is the newest entry.
    Committed(Record),
    /// It is not there, and the entry before is the newest.
    NotCommitted(Record),
    /// Nobody knows. [`Vault::recheck`] asks again.
    Doubtful(Record),
    /// The newest entry is the only one.
    Purged,
    NotPurged,
}

/// A commit can be begun neither while the store is out nor before it is known what came of the last one.
#[derive(Debug)]
pub struct Closed;

/// Seals and opens records, has them stored, and knows what the newest entries are.
pub struct Vault {
    key: Secret,
    /// Sequence numbers, by record: of the newest entry that was seen, and of the last that was written or tried.
    seen: [u64; RECORDS],
    tried: [u64; RECORDS],
    /// After loading, the entry, opened; while committing and in doubt, what is being written, sealed. Never both.
    buffer: Zeroizing<Sealed>,
    doing: Option<Doing>,
    doubt: Option<Record>,
    /// The generation of the store that is out for good.
    down: Option<u64>,
}

#[derive(Clone, Copy)]
enum Doing {
    Load(Record),
    Append {
        record: Record,
        left: u8,
    },
    /// Has it been written? If the store has only started again, it is written again.
    Resolve {
        record: Record,
        left: u8,
    },
    Purge(Record),
}

impl Vault {
    pub fn new(device_secret: &Secret) -> Self {
        Self {
            key: crypto::derive(&[], &**device_secret, label::STORE_KEY, &[]),
            seen: [0; _],
            tried: [0; _],
            buffer: Zeroizing::new([0; _]),
            doing: None,
            doubt: None,
            down: None,
        }
    }

    /// Whether an action is under way. None may be begun then.
    pub fn busy(&self) -> bool {
        self.doing.is_some()
    }

    /// The record of which it is not known whether the last commit was done.
    pub fn doubt(&self) -> Option<Record> {
        self.doubt
    }

    /// Whether the store is out for good, and has not started since.
    pub fn is_down(&self, store: &Client<'_>) -> bool {
        self.down == Some(store.generation())
    }

    /// Whether the identity was written again is left to the next boot.
    pub fn leave_identity(&mut self) {
        if self.doubt.take_if(|record| *record == Record::Identity).is_some() {
            self.forget();
        }
    }

    /// The store is out for good: what is under way ends with the next [`Self::poll`].
    pub fn store_down(&mut self, store: &Client<'_>) {
        self.down = Some(store.generation());
    }

    /// Begins to look for the newest entry of a record.
    pub fn load(&mut self, record: Record, store: &mut Client<'_>) {
        debug_assert!(!self.busy());
        self.forget();
        self.doing = Some(Doing::Load(record));
        find(record, store);
    }

    /// What the last load found, if anything. Until something else is begun.
    pub fn loaded(&self, record: Record) -> Option<&Body> {
        body(&self.buffer).filter(|_| self.seen[record as usize] > 0)
    }

    /// Nothing of what was found is wanted any more.
    pub fn forget(&mut self) {
        self.buffer.zeroize();
    }

    /// Begins to commit `body` as the newest entry of a record. The nonce is made of fresh bytes and of what is sealed: with
    /// the same bytes again, in a machine that was saved and goes on twice, no two texts are sealed alike.
    pub fn commit(
        &mut self,
        record: Record,
        body: &[u8],
        fresh: [u8; NONCE],
        store: &mut Client<'_>,
    ) -> Result<(), Closed> {
        debug_assert!(!self.busy() && body.len() <= BODY);
        if self.doubt.is_some() || self.is_down(store) {
            return Err(Closed);
        }
        self.forget();
        for (to, from) in text_mut(&mut self.buffer).iter_mut().zip(body) {
            *to = *from;
        }
        self.append(record, fresh, TRIES, store).then_some(()).ok_or(Closed)
    }

    /// Begins to have every entry but the newest erased.
    pub fn purge(&mut self, record: Record, store: &mut Client<'_>) -> Result<(), Closed> {
        debug_assert!(!self.busy());
        if self.is_down(store) {
            return Err(Closed);
        }
        self.doing = Some(Doing::Purge(record));
        store.call::<Purge>(&(record as u64), 0, Patience::ENDLESS);
        Ok(())
    }

    /// Asks once more what came of the commit that is in doubt. False: there is none, or nobody to ask.
    pub fn recheck(&mut self, store: &mut Client<'_>) -> bool {
        let Some(record) = self.doubt.filter(|_| !self.busy() && !self.is_down(store)) else { return false };
        self.resolve(record, 0, store);
        true
    }

    /// What has come of the action, once.
    pub fn poll(&mut self, store: &mut Client<'_>) -> Option<Outcome> {
        loop {
            let doing = self.doing?;
            if self.is_down(store) {
                store.abandon();
                return Some(self.given_up(doing));
            }
            // Each turn but the last follows an answer, or a start of the store's.
            match doing {
                Doing::Load(record) | Doing::Resolve { record, .. } => match store.poll::<Find>(0)? {
                    Err(CallError::Restarted) => find(record, store),
                    Err(_) => return Some(self.given_up(doing)),
                    Ok(reply) => {
                        let finding = Finding::from_number(reply.finding);
                        let found = (finding, reply.sequence, &reply.sealed);
                        match doing {
                            Doing::Resolve { left, .. } => {
                                if let Some(outcome) = self.resolved(record, left, found, store) {
                                    return Some(outcome);
                                }
                            }
                            _ => return Some(self.take(record, found)),
                        }
                    }
                },
                Doing::Append { record, left } => match store.poll::<Append>(0)? {
                    Ok(()) => return Some(self.committed(record)),
                    Err(CallError::Restarted) => self.resolve(record, left, store),
                    Err(_) => self.resolve(record, 0, store),
                },
                Doing::Purge(record) => match store.poll::<Purge>(0)? {
                    Err(CallError::Restarted) => store.call::<Purge>(&(record as u64), 0, Patience::ENDLESS),
                    done => {
                        self.doing = None;
                        return Some(if done.is_ok() { Outcome::Purged } else { Outcome::NotPurged });
                    }
                },
            }
        }
    }

    /// No answer will come, or none that is of use.
    fn given_up(&mut self, doing: Doing) -> Outcome {
        self.doing = None;
        match doing {
            Doing::Load(_) => Outcome::NotLoaded(Failed::Store),
            Doing::Append { record, .. } | Doing::Resolve { record, .. } => {
                self.doubt = Some(record);
                Outcome::Doubtful(record)
            }
            Doing::Purge(_) => Outcome::NotPurged,
        }
    }

    fn committed(&mut self, record: Record) -> Outcome {
        self.seen[record as usize] = self.tried[record as usize];
        (self.doing, self.doubt) = (None, None);
        self.forget();
        Outcome::Committed(record)
    }

    /// Seals the text that stands in the buffer under a number that was never written, and has it appended.
    fn append(&mut self, record: Record, fresh: [u8; NONCE], left: u8, store: &mut Client<'_>) -> bool {
        let Some(sequence) = self.tried[record as usize].checked_add(1) else { return false };
        self.tried[record as usize] = sequence;
        let parts: [&[u8]; 3] = [b"nonce", &sequence.to_be_bytes(), filled(text(&self.buffer))];
        let nonce = crypto::derive(&*self.key, &fresh, label::STORE_KEY, &parts);
        seal(&self.key, record, sequence, FORMAT, &nonce, &mut self.buffer);
        self.doing = Some(Doing::Append { record, left });
        let request = AppendRequest { record: record as u64, sequence, sealed: *self.buffer };
        store.call::<Append>(&request, 0, Patience::ENDLESS);
        true
    }

    fn resolve(&mut self, record: Record, left: u8, store: &mut Client<'_>) {
        self.doing = Some(Doing::Resolve { record, left });
        find(record, store);
    }

    /// Of a commit of which only the store knew what came. What it shows is what was tried, or what was the newest before,
    /// or it lies.
    fn resolved(&mut self, record: Record, left: u8, found: Found<'_>, store: &mut Client<'_>) -> Option<Outcome> {
        let (seen, tried) = (self.seen[record as usize], self.tried[record as usize]);
        match found {
            (Some(Finding::Found), sequence, sealed) if sequence == tried && *sealed == *self.buffer => {
                Some(self.committed(record))
            }
            (Some(Finding::Found), sequence, _) if sequence == seen && seen > 0 => self.again(record, left, store),
            (Some(Finding::Empty), ..) if seen == 0 => self.again(record, left, store),
            _ => Some(self.given_up(Doing::Resolve { record, left })),
        }
    }

    /// It is not there: it is written again, as long as there are tries left.
    fn again(&mut self, record: Record, left: u8, store: &mut Client<'_>) -> Option<Outcome> {
        let fresh = nonce(&self.buffer);
        let sequence = self.tried[record as usize];
        if let Some(left) = left.checked_sub(1)
            && open(&self.key, record, sequence, &mut self.buffer).is_some()
            && self.append(record, fresh, left, store)
        {
            return None;
        }
        (self.doing, self.doubt) = (None, None);
        self.forget();
        Some(Outcome::NotCommitted(record))
    }

    /// What was found of a record that is looked for at power-up.
    fn take(&mut self, record: Record, (finding, sequence, sealed): Found<'_>) -> Outcome {
        self.doing = None;
        let failed = match finding {
            Some(Finding::Empty) => return Outcome::Loaded(record),
            Some(Finding::Found) => match self.open_into_buffer(record, sequence, sealed) {
                Ok(()) => return Outcome::Loaded(record),
                Err(failed) => failed,
            },
            Some(Finding::Damaged) => Failed::Damaged,
            Some(Finding::Foreign) => Failed::Foreign,
            Some(Finding::Newer) => Failed::Format,
            None => Failed::Store,
        };
        self.forget();
        Outcome::NotLoaded(failed)
    }

    fn open_into_buffer(&mut self, record: Record, sequence: u64, sealed: &Sealed) -> Result<(), Failed> {
        self.buffer.copy_from_slice(sealed);
        let format = open(&self.key, record, sequence, &mut self.buffer).ok_or(Failed::Foreign)?;
        if format != FORMAT {
            return Err(Failed::Format);
        }
        if sequence == 0 {
            return Err(Failed::Damaged);
        }
        (self.seen[record as usize], self.tried[record as usize]) = (sequence, sequence);
        Ok(())
    }
}

type Found<'f> = (Option<Finding>, u64, &'f Sealed);

fn find(record: Record, store: &mut Client<'_>) {
    store.call::<Find>(&(record as u64), 0, Patience::ENDLESS);
}

fn text(sealed: &Sealed) -> &[u8] {
    &sealed[HEADER + NONCE..][..BODY]
}

/// A text without the zeros at its end. Texts are of one length, so two that differ, differ without them.
fn filled(text: &[u8]) -> &[u8] {
    let end = text.iter().rposition(|byte| *byte != 0).map_or(0, |last| last + 1);
    &text[..end]
}

fn text_mut(sealed: &mut Sealed) -> &mut [u8] {
    &mut sealed[HEADER + NONCE..][..BODY]
}

fn body(sealed: &Sealed) -> Option<&Body> {
    text(sealed).first_chunk()
}

fn nonce(sealed: &Sealed) -> [u8; NONCE] {
    let mut nonce = [0; NONCE];
    nonce.copy_from_slice(&sealed[HEADER..][..NONCE]);
    nonce
}

fn associated(header: &[u8], record: Record, sequence: u64) -> [u8; HEADER + 9] {
    let mut data = [0; HEADER + 9];
    data[..HEADER].copy_from_slice(header);
    data[HEADER] = record as u8;
    data[HEADER + 1..].copy_from_slice(&sequence.to_be_bytes());
    data
}

/// Seals the text that stands in its place.
pub fn seal(key: &Secret, record: Record, sequence: u64, format: u16, nonce: &[u8; NONCE], sealed: &mut Sealed) {
    let (header, rest) = sealed.split_at_mut(HEADER);
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    header[MAGIC.len()..].copy_from_slice(&format.to_be_bytes());
    let (to_nonce, rest) = rest.split_at_mut(NONCE);
    to_nonce.copy_from_slice(nonce);
    let (text, to_tag) = rest.split_at_mut(BODY);
    let cipher = XChaCha20Poly1305::new((&**key).into());
    match cipher.encrypt_inout_detached(nonce.into(), &associated(header, record, sequence), text.into()) {
        Ok(tag) => to_tag.copy_from_slice(&tag),
        // It fails only for texts past 2^38 bytes; all zero, it would not open.
        Err(_) => sealed.zeroize(),
    }
}

/// Opens a record where it is; its format. `None`: this node's keystore has not sealed it as this entry of this record.
pub fn open(key: &Secret, record: Record, sequence: u64, sealed: &mut Sealed) -> Option<u16> {
    let (header, rest) = sealed.split_at_mut(HEADER);
    let format = u16::from_be_bytes(*header.strip_prefix(&MAGIC)?.first_chunk()?);
    let (nonce, rest) = rest.split_first_chunk_mut::<NONCE>()?;
    let (text, tag) = rest.split_first_chunk_mut::<BODY>()?;
    let tag = <&[u8; TAG]>::try_from(&*tag).ok()?;
    let cipher = XChaCha20Poly1305::new((&**key).into());
    let data = associated(header, record, sequence);
    let opened = cipher.decrypt_inout_detached((&*nonce).into(), &data, text.as_mut_slice().into(), tag.into());
    opened.is_ok().then_some(format)
}
