//! Records at rest: sealed here, so that whoever stores them learns and changes nothing; written to two
//! slots in turn, so that a write that is cut off leaves the one before.
//!
//! A record is sealed with XChaCha20-Poly1305 under a key from the device secret and a random nonce;
//! which record and slot it is, is authenticated. What opens but is old cannot be told from new: that
//! needs a monotonic counter, which only some boards have.

use chacha20poly1305::{AeadInOut, KeyInit, XChaCha20Poly1305};
use crypto::{Secret, label};
use zeroize::{Zeroize, Zeroizing};

use crate::record::{Identity, Ownership};

/// The records that are kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Record {
    Identity = 0,
    Ownership = 1,
}

const RECORDS: usize = 2;
const SLOTS: u64 = 2;

/// A place in the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    pub record: Record,
    /// 0 or 1.
    pub index: u8,
}

const NONCE: usize = 24;
const VERSION: usize = 8;
const TAG: usize = 16;

/// Length of every record, of which each fills the front.
pub const BODY: usize = {
    let (identity, ownership) = (size_of::<Identity>(), size_of::<Ownership>());
    if identity > ownership { identity } else { ownership }
};
const TEXT: usize = VERSION + BODY;
/// Length of a record as the store gets it.
pub const SEALED: usize = NONCE + TEXT + TAG;

pub type Body = [u8; BODY];
pub type Sealed = [u8; SEALED];

/// How the action that was begun last stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Ask again when the store has notified.
    Busy,
    /// It is written, or was read.
    Done,
    /// Read: the slot was never written, or a write to it was cut off. The store can tell.
    Empty,
    /// The action failed.
    Failed,
}

/// Where sealed records are kept. One action at a time; none blocks. It is trusted with nothing but
/// being there: what it returns is authenticated.
pub trait Store {
    fn begin_write(&mut self, slot: Slot, sealed: &Sealed);
    fn begin_read(&mut self, slot: Slot);
    /// How it stands; what was read is copied to `to` when that is done.
    fn poll(&mut self, to: &mut Sealed) -> Progress;
}

/// Keeps records until power-off: what there is until the store domain is.
pub struct RamStore {
    slots: [[Option<Sealed>; SLOTS as usize]; RECORDS],
    reading: Option<Slot>,
}

impl RamStore {
    pub const fn new() -> Self {
        Self { slots: [[None; _]; _], reading: None }
    }

    fn slot(&mut self, slot: Slot) -> &mut Option<Sealed> {
        &mut self.slots[slot.record as usize][usize::from(slot.index) % SLOTS as usize]
    }
}

impl Default for RamStore {
    fn default() -> Self {
        Self::new()
    }
}

impl Store for RamStore {
    fn begin_write(&mut self, slot: Slot, sealed: &Sealed) {
        *self.slot(slot) = Some(*sealed);
        self.reading = None;
    }

    fn begin_read(&mut self, slot: Slot) {
        self.reading = Some(slot);
    }

    fn poll(&mut self, to: &mut Sealed) -> Progress {
        match self.reading.map(|slot| *self.slot(slot)) {
            None => Progress::Done,
            Some(None) => Progress::Empty,
            Some(Some(sealed)) => {
                *to = sealed;
                Progress::Done
            }
        }
    }
}

/// The store failed, or holds what this keystore has not sealed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Failed;

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
    /// What is being written.
    sealed: Sealed,
    /// The newest version of what is being loaded.
    text: Zeroizing<[u8; TEXT]>,
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
            sealed: [0; _],
            text: Zeroizing::new([0; _]),
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
        self.text.zeroize();
        self.begin(Doing::Load(Slot { record, index: 0 }));
    }

    /// What the last load found, if there is any version of it. Until the next load.
    pub fn loaded(&self) -> Option<&Body> {
        self.text.last_chunk().filter(|_| version_of(&self.text) > 0)
    }

    /// Nothing of what was found is wanted any more.
    pub fn forget(&mut self) {
        self.text.zeroize();
    }

    /// Begins to commit `body` as the newest version of a record. The last good version stays where it is.
    pub fn commit(&mut self, record: Record, body: &[u8], nonce: [u8; NONCE]) {
        debug_assert!(!self.busy() && body.len() <= BODY);
        let version = self.versions[record as usize].saturating_add(1);
        let slot = Slot { record, index: (version % SLOTS) as u8 };
        let mut text = Zeroizing::new([0; TEXT]);
        text[..VERSION].copy_from_slice(&version.to_be_bytes());
        for (to, from) in text[VERSION..].iter_mut().zip(body) {
            *to = *from;
        }
        self.sealed = self.seal(slot, &nonce, text);
        self.begin(Doing::Write(slot));
    }

    /// What has been finished since, each once.
    pub fn poll(&mut self) -> Option<Result<Finished, Failed>> {
        let mut read = [0; SEALED];
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
                    if progress == Progress::Done && self.keep_newer(slot, &read).is_err() {
                        return Some(Err(Failed));
                    }
                    if slot.index > 0 {
                        self.versions[slot.record as usize] = version_of(&self.text);
                        return Some(Ok(Finished::Loaded(slot.record)));
                    }
                    self.begin(Doing::Load(Slot { index: 1, ..slot }));
                }
                (Doing::Write(slot), Progress::Done) => self.begin(Doing::ReadBack(slot)),
                (Doing::ReadBack(slot), Progress::Done) if read == self.sealed => {
                    let version = &mut self.versions[slot.record as usize];
                    *version = version.saturating_add(1);
                    return Some(Ok(Finished::Committed));
                }
                _ => return Some(Err(Failed)),
            }
        }
    }

    fn begin(&mut self, doing: Doing) {
        match doing {
            Doing::Load(slot) | Doing::ReadBack(slot) => self.store.begin_read(slot),
            Doing::Write(slot) => self.store.begin_write(slot, &self.sealed),
        }
        self.doing = Some(doing);
    }

    /// A slot that holds something must open: what does not was not written by this keystore.
    fn keep_newer(&mut self, slot: Slot, sealed: &Sealed) -> Result<(), Failed> {
        let text = self.open(slot, sealed).ok_or(Failed)?;
        let version = version_of(&text);
        if !(1..u64::MAX).contains(&version) || version % SLOTS != u64::from(slot.index) {
            return Err(Failed);
        }
        if version > version_of(&self.text) {
            self.text = text;
        }
        Ok(())
    }

    fn seal(&self, slot: Slot, nonce: &[u8; NONCE], mut text: Zeroizing<[u8; TEXT]>) -> Sealed {
        let cipher = XChaCha20Poly1305::new((&*self.key).into());
        let tag = cipher.encrypt_inout_detached(nonce.into(), &associated(slot), text.as_mut_slice().into());
        let mut sealed = [0; SEALED];
        // It fails only for texts past 2^38 bytes; all zero, it would not open.
        if let Ok(tag) = tag {
            sealed[..NONCE].copy_from_slice(nonce);
            sealed[NONCE..NONCE + TEXT].copy_from_slice(&*text);
            sealed[NONCE + TEXT..].copy_from_slice(&tag);
        }
        sealed
    }

    fn open(&self, slot: Slot, sealed: &Sealed) -> Option<Zeroizing<[u8; TEXT]>> {
        let (nonce, rest) = sealed.split_first_chunk::<NONCE>()?;
        let (from, tag) = rest.split_first_chunk::<TEXT>()?;
        let tag = <&[u8; TAG]>::try_from(tag).ok()?;
        let mut text = Zeroizing::new(*from);
        let cipher = XChaCha20Poly1305::new((&*self.key).into());
        let opened =
            cipher.decrypt_inout_detached(nonce.into(), &associated(slot), text.as_mut_slice().into(), tag.into());
        opened.ok().map(|()| text)
    }
}

fn associated(slot: Slot) -> [u8; 2] {
    [slot.record as u8, slot.index]
}

fn version_of(text: &[u8; TEXT]) -> u64 {
    text.first_chunk().map_or(0, |version| u64::from_be_bytes(*version))
}
