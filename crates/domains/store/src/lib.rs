//! `store`: keeps what must outlive the power, and nothing of it can it read. Records of `keystore` and blocks of the
//! configuration come sealed, and go back as they were written or not at all.
//!
//! What it may do: lose everything, and give back an old state of everything. What it may not: change a record, or show one.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod flash;
mod layout;
mod log;
mod recover;
mod scan;
pub mod shell;
mod writer;

use calls::store::{
    BLOCKS, BlockPlace, CONFIGURATIONS, COPIES, FindReply, MAX_BLOCKS, RECORDS, Refusal, SEALED, SEALED_BLOCK,
    for_keystore, for_lifecycle,
};
use shm::{Micros, mailbox::Server};

pub use flash::{Absent, Flash, PAGE, Progress, WORD};
pub use log::{Log, Outcome, Stands};

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
    Lifecycle,
}

pub type KeystoreServer<'a> = Server<'a, { for_keystore::MAX_REQUEST }>;
pub type LifecycleServer<'a> = Server<'a, { for_lifecycle::MAX_REQUEST }>;

pub struct Ports<'a> {
    pub keystore: KeystoreServer<'a>,
    pub lifecycle: LifecycleServer<'a>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        if self.keystore.take_signal() {
            notify(Channel::Keystore);
        }
        if self.lifecycle.take_signal() {
            notify(Channel::Lifecycle);
        }
    }
}

/// From one block of a configuration to the next.
const STRIDE: usize = SEALED_BLOCK.next_multiple_of(PAGE);

/// Pieces that are done in one step, as long as the flash does not say that it is busy.
const PIECES: usize = 32;

/// Whose call is being worked on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Find,
    Append,
    Purge,
    WriteBlock,
    EraseSlot,
}

/// The core.
pub struct Store<F> {
    flash: F,
    log: Log<SEALED>,
    asked: Option<Asked>,
    /// Who is served first next.
    turn: Channel,
}

impl<F: Flash> Store<F> {
    pub fn new(flash: F) -> Self {
        let log = Log::new(flash.block_size());
        Self { flash, log, asked: None, turn: Channel::Keystore }
    }

    /// Handles what has arrived, a bounded piece of it; true if there is more to do at once. While the flash is busy there
    /// is: nobody tells when it is ready.
    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        self.flash.set_time(now);
        for _ in 0..PIECES {
            let Some(asked) = self.asked else {
                if !self.take(ports) {
                    return false;
                }
                continue;
            };
            match self.log.step(&mut self.flash) {
                Stands::Busy => return true,
                Stands::More => {}
                Stands::Over(outcome) => {
                    self.asked = None;
                    self.answer(asked, outcome, ports);
                }
            }
        }
        true
    }

    /// Whether there is a flash that has place for everything.
    fn has_place(&self) -> bool {
        self.flash.blocks() >= BLOCKS && self.log.places() >= 2 && self.flash.block_size() >= MAX_BLOCKS * STRIDE
    }

    /// Takes the next call; false if there is none. Both clients are served in turn.
    fn take(&mut self, ports: &mut Ports<'_>) -> bool {
        let first = self.turn;
        self.turn = other(first);
        self.take_from(first, ports) || self.take_from(other(first), ports)
    }

    fn take_from(&mut self, channel: Channel, ports: &mut Ports<'_>) -> bool {
        match channel {
            Channel::Keystore => self.take_from_keystore(&mut ports.keystore),
            Channel::Lifecycle => self.take_from_lifecycle(&mut ports.lifecycle),
        }
    }

    fn take_from_keystore(&mut self, server: &mut KeystoreServer<'_>) -> bool {
        use for_keystore::{Append, Find, Op, Purge};
        let incoming = match server.take() {
            Ok(None) => return false,
            Ok(Some(incoming)) => incoming,
            Err(_) => return refused(server, Refusal::NotAllowed),
        };
        if !self.has_place() {
            return refused(server, Refusal::Failed);
        }
        let asked = match Op::from_number(incoming.op.into()) {
            Some(Op::Find) => incoming.parse::<Find>().and_then(record).map(|record| {
                self.log.find(record);
                Asked::Find
            }),
            Some(Op::Append) => incoming.parse::<Append>().and_then(|request| {
                self.log.append(record(request.record)?, request.sequence, &request.sealed);
                Some(Asked::Append)
            }),
            Some(Op::Purge) => incoming.parse::<Purge>().and_then(record).map(|record| {
                self.log.purge(record);
                Asked::Purge
            }),
            None => None,
        };
        self.asked = asked;
        asked.is_some() || refused(server, Refusal::NotAllowed)
    }

    fn take_from_lifecycle(&mut self, server: &mut LifecycleServer<'_>) -> bool {
        use for_lifecycle::{EraseSlot, Op, ReadAccount, ReadBlock, WriteBlock};
        let incoming = match server.take() {
            Ok(None) => return false,
            Ok(Some(incoming)) => incoming,
            Err(_) => return refused(server, Refusal::NotAllowed),
        };
        let op = Op::from_number(incoming.op.into());
        if op != Some(Op::ReadAccount) && !self.has_place() {
            return refused(server, Refusal::Failed);
        }
        let size = self.flash.block_size();
        match op {
            Some(Op::ReadBlock) => {
                let Some(at) = incoming.parse::<ReadBlock>().and_then(|place| place_of(&place, size)) else {
                    return refused(server, Refusal::NotAllowed);
                };
                let mut sealed = [0; SEALED_BLOCK];
                if !self.flash.read(at, &mut sealed) {
                    return refused(server, Refusal::Failed);
                }
                server.reply::<ReadBlock>(&sealed);
            }
            Some(Op::WriteBlock) => {
                let Some(request) = incoming.parse::<WriteBlock>() else {
                    return refused(server, Refusal::NotAllowed);
                };
                let Some(at) = place_of(&request.place, size) else {
                    return refused(server, Refusal::NotAllowed);
                };
                self.log.write(at, &request.sealed);
                self.asked = Some(Asked::WriteBlock);
            }
            Some(Op::EraseSlot) => {
                let Some(block) = incoming.parse::<EraseSlot>().and_then(slot) else {
                    return refused(server, Refusal::NotAllowed);
                };
                self.log.clear(block, MAX_BLOCKS * STRIDE);
                self.asked = Some(Asked::EraseSlot);
            }
            Some(Op::ReadAccount) if incoming.parse::<ReadAccount>().is_some() => {
                server.reply::<ReadAccount>(&self.log.account());
            }
            _ => return refused(server, Refusal::NotAllowed),
        }
        true
    }

    fn answer(&self, asked: Asked, outcome: Outcome, ports: &mut Ports<'_>) {
        use for_keystore::{Append, Find, Purge};
        use for_lifecycle::{EraseSlot, WriteBlock};
        match (asked, outcome) {
            (Asked::Find | Asked::Append | Asked::Purge, Outcome::Refused(why)) => ports.keystore.refuse(why.code()),
            (Asked::WriteBlock | Asked::EraseSlot, Outcome::Refused(why)) => ports.lifecycle.refuse(why.code()),
            (Asked::Find, Outcome::Found(finding, sequence)) => {
                let sealed = if finding == calls::store::Finding::Found { *self.log.body() } else { [0; SEALED] };
                ports.keystore.reply::<Find>(&FindReply { finding: u64::from(u8::from(finding)), sequence, sealed });
            }
            (Asked::Find, _) => ports.keystore.refuse(Refusal::Failed.code()),
            (Asked::Append, _) => ports.keystore.reply::<Append>(&()),
            (Asked::Purge, _) => ports.keystore.reply::<Purge>(&()),
            (Asked::WriteBlock, _) => ports.lifecycle.reply::<WriteBlock>(&()),
            (Asked::EraseSlot, _) => ports.lifecycle.reply::<EraseSlot>(&()),
        }
    }
}

const fn other(channel: Channel) -> Channel {
    match channel {
        Channel::Keystore => Channel::Lifecycle,
        Channel::Lifecycle => Channel::Keystore,
    }
}

/// It was a call, and is answered.
fn refused<const MAX: usize>(server: &mut Server<'_, MAX>, why: Refusal) -> bool {
    server.refuse(why.code());
    true
}

fn record(number: u64) -> Option<u8> {
    u8::try_from(number).ok().filter(|record| usize::from(*record) < RECORDS)
}

/// The erase block of a configuration's slot.
fn slot(number: u64) -> Option<usize> {
    let slot = usize::try_from(number).ok().filter(|slot| *slot < CONFIGURATIONS)?;
    Some(RECORDS * COPIES + slot)
}

/// Where a block of a configuration stands.
fn place_of(place: &BlockPlace, block_size: usize) -> Option<usize> {
    let index = usize::try_from(place.index).ok().filter(|index| *index < MAX_BLOCKS)?;
    Some(slot(place.slot)? * block_size + index * STRIDE)
}
