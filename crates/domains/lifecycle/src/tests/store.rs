//! A store as far as lifecycle sees it. What the real one would not do it does not either: `sim/tests/fakes` compares them.

use calls::store::{Account, CONFIGURATIONS, MAX_BLOCKS, Refusal, SEALED_BLOCK, for_lifecycle::*};
use shm::mailbox::{Incoming, Operation, Server};

type Block = [u8; SEALED_BLOCK];
const ERASED: Block = [0xff; SEALED_BLOCK];

#[derive(Clone)]
pub struct Store {
    pub slots: [[Block; MAX_BLOCKS]; CONFIGURATIONS],
    /// Writes and erases so far.
    pub changes: u32,
    /// What the real one counts too; nobody looks at this one's errors.
    pub account: Account,
    /// From this change on the device does nothing.
    pub fails_at: Option<u32>,
    /// What is read comes as an error.
    pub unreadable: bool,
}

impl Store {
    pub const fn new() -> Self {
        Self {
            slots: [[ERASED; MAX_BLOCKS]; CONFIGURATIONS],
            changes: 0,
            account: Account { writes: 0, erases: 0, errors: 0 },
            fails_at: None,
            unreadable: false,
        }
    }

    pub fn answer(&mut self, server: &mut Server<'static, MAX_REQUEST>, call: &Incoming<MAX_REQUEST>) {
        let result = match call.op {
            ReadBlock::OP => {
                let place = call.parse::<ReadBlock>().unwrap();
                match self.block(place.slot, place.index).copied() {
                    Ok(block) if !self.unreadable => return server.reply::<ReadBlock>(&block),
                    Ok(_) => Err(Refusal::Failed),
                    Err(refusal) => Err(refusal),
                }
            }
            WriteBlock::OP => self.write(&call.parse::<WriteBlock>().unwrap()),
            ReadAccount::OP => return server.reply::<ReadAccount>(&self.account),
            EraseSlot::OP => self.erase(call.parse::<EraseSlot>().unwrap()),
            _ => Err(Refusal::NotAllowed),
        };
        match result {
            Err(refusal) => server.refuse(refusal.code()),
            Ok(()) if call.op == WriteBlock::OP => server.reply::<WriteBlock>(&()),
            Ok(()) => server.reply::<EraseSlot>(&()),
        }
    }

    fn write(&mut self, request: &calls::store::WriteBlockRequest) -> Result<(), Refusal> {
        let block = *self.block(request.place.slot, request.place.index)?;
        if block == request.sealed {
            return Ok(());
        }
        // Bits are cleared, never set.
        let fits = block.iter().zip(&request.sealed).all(|(stands, new)| stands & new == *new);
        if !fits || !self.change() {
            return Err(Refusal::Failed);
        }
        *self.block(request.place.slot, request.place.index)? = request.sealed;
        self.account.writes += 1;
        Ok(())
    }

    fn erase(&mut self, slot: u64) -> Result<(), Refusal> {
        self.block(slot, 0)?;
        if self.slots[slot as usize] == [ERASED; MAX_BLOCKS] {
            return Ok(());
        }
        if !self.change() {
            return Err(Refusal::Failed);
        }
        self.slots[slot as usize] = [ERASED; MAX_BLOCKS];
        self.account.erases += 1;
        Ok(())
    }

    fn change(&mut self) -> bool {
        let does = self.fails_at.is_none_or(|at| self.changes < at);
        self.changes += 1;
        does
    }

    fn block(&mut self, slot: u64, index: u64) -> Result<&mut Block, Refusal> {
        let slot = self.slots.get_mut(slot as usize).ok_or(Refusal::NotAllowed)?;
        slot.get_mut(index as usize).ok_or(Refusal::NotAllowed)
    }
}
