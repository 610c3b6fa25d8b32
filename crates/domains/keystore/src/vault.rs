//! Records at rest: sealed here, so that whoever stores them learns and changes nothing; written to two slots in turn, so
//! that a write that is cut off leaves the one before.
//!
//! A sealed record is
//!
//! ```text
//! header 8 | nonce 24 | version 8, body 3016: encrypted | tag 16
//! ```
//!
//! with XChaCha20-Poly1305 under a key from the device secret and a random nonce. The header is "GNSREC" and the number of
//! the body's format; header, record and slot are authenticated. All of this stays as it is for any format, so that one
//! which this version does not know is still told from damage: it was sealed by a later keystore of this node, whose
//! identity is in it. What opens but is old cannot be told from new: that needs a monotonic counter, which only some
//! boards have.

use calls::store::{Progress, RECORDS, Record, SEALED, SLOTS, Sealed, Slot, Store};
use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use crypto::{Secret, label};
use zeroize::{Zeroize, Zeroizing};

use crate::record::{Identity, Ownership};

/// The format of the bodies that this version writes, `record`'s. Whatever changes there has the next number, and a sample
/// of each number that was ever released stays in the tests (`crates/domains/keystore/src/tests/records.rs`); number 1 was not.
pub const FORMAT: u16 = 2;

const MAGIC: [u8; 6] = *b"GNSREC";
const HEADER: usize = MAGIC.len() + size_of::<u16>();
const NONCE: usize = 24;
const VERSION: usize = 8;
const TAG: usize = 16;
const TEXT: usize = SEALED - HEADER - NONCE - TAG;
/// Length of every record, of which each fills the front.
pub const BODY: usize = TEXT - VERSION;

const _: () = assert!(size_of::<Identity>() <= BODY && size_of::<Ownership>() <= BODY);

pub type Body = [u8; BODY];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failed {
    /// The store failed, or holds what this node's keystore has not sealed.
    Store,
    /// It holds a record of a format that this version does not know.
    Format,
}

/// What the vault has finished.
pub enum Finished {
    /// Looked for: [`Vault::loaded`] has the newest good version.
    Loaded(Record),
    /// Written, and read back the same.
    Committed,
}

/// Seals and opens records, and says which slot is next.
pub struct Vault<S> {
    store: S,
    key: Secret,
    /// Of the newest good version of each record; 0 if there is none.
    versions: [u64; RECORDS],
    /// While loading, the newest version so far, opened; while committing, what is being written. Never both.
    buffer: Zeroizing<Sealed>,
    doing: Option<Doing>,
}

#[derive(Clone, Copy)]
enum Doing {
    Load(Slot),
    Write(Slot),
    ReadBack(Slot),
}

impl<S: Store> Vault<S> {
    pub fn new(store: S, device_secret: &Secret) -> Self {
        Self {
            store,
            key: crypto::derive(&[], &**device_secret, label::STORE_KEY, &[]),
            versions: [0; _],
            buffer: Zeroizing::new([0; _]),
            doing: None,
        }
    }

    /// Whether an action is under way. None may be begun then.
    pub fn busy(&self) -> bool {
        self.doing.is_some()
    }

    /// Begins to look for the newest good version of a record.
    pub fn load(&mut self, record: Record) {
        debug_assert!(!self.busy());
        self.forget();
        self.begin(Doing::Load(Slot { record, index: 0 }));
    }

    /// What the last load found, if there is any version of it. Until something else is begun.
    pub fn loaded(&self) -> Option<&Body> {
        let text = text(&self.buffer);
        text.last_chunk().filter(|_| version_of(text) > 0)
    }

    /// Nothing of what was found is wanted any more.
    pub fn forget(&mut self) {
        self.buffer.zeroize();
    }

    /// Begins to commit `body` as the newest version of a record. The last good version stays where it is. The nonce is
    /// made of fresh bytes and of what is sealed: with the same bytes again, in a machine that was saved and goes on twice,
    /// no two texts are sealed alike.
    pub fn commit(&mut self, record: Record, body: &[u8], fresh: [u8; NONCE]) {
        debug_assert!(!self.busy() && body.len() <= BODY);
        let version = self.versions[record as usize].saturating_add(1);
        let slot = Slot { record, index: (version % SLOTS as u64) as u8 };
        self.forget();
        let text = text_mut(&mut self.buffer);
        text[..VERSION].copy_from_slice(&version.to_be_bytes());
        for (to, from) in text[VERSION..].iter_mut().zip(body) {
            *to = *from;
        }
        let nonce = crypto::derive(&*self.key, &fresh, label::STORE_KEY, &[b"nonce", &text[..]]);
        seal(&self.key, slot, FORMAT, &nonce, &mut self.buffer);
        self.begin(Doing::Write(slot));
    }

    /// What has been finished since, each once.
    pub fn poll(&mut self) -> Option<Result<Finished, Failed>> {
        let mut read = Zeroizing::new([0; SEALED]);
        // A load is two actions, a commit as well: written, and read back.
        loop {
            let doing = self.doing?;
            let progress = self.store.poll(&mut read);
            if progress == Progress::Busy {
                return None;
            }
            self.doing = None;
            match (doing, progress) {
                (Doing::Load(slot), Progress::Done | Progress::Empty) => {
                    if progress == Progress::Done
                        && let Err(failed) = self.keep_newer(slot, &mut read)
                    {
                        return Some(Err(failed));
                    }
                    if usize::from(slot.index) + 1 == SLOTS {
                        self.versions[slot.record as usize] = version_of(text(&self.buffer));
                        return Some(Ok(Finished::Loaded(slot.record)));
                    }
                    self.begin(Doing::Load(Slot { index: slot.index + 1, ..slot }));
                }
                (Doing::Write(slot), Progress::Done) => self.begin(Doing::ReadBack(slot)),
                (Doing::ReadBack(slot), Progress::Done) if *read == *self.buffer => {
                    let version = &mut self.versions[slot.record as usize];
                    *version = version.saturating_add(1);
                    return Some(Ok(Finished::Committed));
                }
                _ => return Some(Err(Failed::Store)),
            }
        }
    }

    fn begin(&mut self, doing: Doing) {
        match doing {
            Doing::Load(slot) | Doing::ReadBack(slot) => self.store.begin_read(slot),
            Doing::Write(slot) => self.store.begin_write(slot, &self.buffer),
        }
        self.doing = Some(doing);
    }

    /// A slot that holds something must open: what does not was not written by this keystore.
    fn keep_newer(&mut self, slot: Slot, sealed: &mut Sealed) -> Result<(), Failed> {
        let format = open(&self.key, slot, sealed).ok_or(Failed::Store)?;
        if format != FORMAT {
            return Err(Failed::Format);
        }
        let version = version_of(text(sealed));
        if !(1..u64::MAX).contains(&version) || version % SLOTS as u64 != u64::from(slot.index) {
            return Err(Failed::Store);
        }
        if version > version_of(text(&self.buffer)) {
            self.buffer.copy_from_slice(sealed);
        }
        Ok(())
    }
}

fn text(sealed: &Sealed) -> &[u8] {
    &sealed[HEADER + NONCE..][..TEXT]
}

fn text_mut(sealed: &mut Sealed) -> &mut [u8] {
    &mut sealed[HEADER + NONCE..][..TEXT]
}

fn version_of(text: &[u8]) -> u64 {
    text.first_chunk().map_or(0, |version| u64::from_be_bytes(*version))
}

fn associated(header: &[u8], slot: Slot) -> [u8; HEADER + 2] {
    let mut data = [0; HEADER + 2];
    data[..HEADER].copy_from_slice(header);
    data[HEADER..].copy_from_slice(&[slot.record as u8, slot.index]);
    data
}

/// Seals the text that stands in its place.
pub fn seal(key: &Secret, slot: Slot, format: u16, nonce: &[u8; NONCE], sealed: &mut Sealed) {
    let (header, rest) = sealed.split_at_mut(HEADER);
    header[..MAGIC.len()].copy_from_slice(&MAGIC);
    header[MAGIC.len()..].copy_from_slice(&format.to_be_bytes());
    let (to_nonce, rest) = rest.split_at_mut(NONCE);
    to_nonce.copy_from_slice(nonce);
    let (text, to_tag) = rest.split_at_mut(TEXT);
    let cipher = XChaCha20Poly1305::new((&**key).into());
    match cipher.encrypt_inout_detached(nonce.into(), &associated(header, slot), text.into()) {
        Ok(tag) => to_tag.copy_from_slice(&tag),
        // It fails only for texts past 2^38 bytes; all zero, it would not open.
        Err(_) => sealed.zeroize(),
    }
}

/// Opens a record where it is; its format. `None`: this node's keystore has not sealed it for this slot.
pub fn open(key: &Secret, slot: Slot, sealed: &mut Sealed) -> Option<u16> {
    let (header, rest) = sealed.split_at_mut(HEADER);
    let format = u16::from_be_bytes(*header.strip_prefix(&MAGIC)?.first_chunk()?);
    let (nonce, rest) = rest.split_first_chunk_mut::<NONCE>()?;
    let (text, tag) = rest.split_first_chunk_mut::<TEXT>()?;
    let tag = <&[u8; TAG]>::try_from(&*tag).ok()?;
    let cipher = XChaCha20Poly1305::new((&**key).into());
    let data = associated(header, slot);
    let opened = cipher.decrypt_inout_detached((&*nonce).into(), &data, text.as_mut_slice().into(), tag.into());
    opened.is_ok().then_some(format)
}
