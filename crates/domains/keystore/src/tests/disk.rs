//! A store that outlives the core, and fails in every way that a store can. It keeps the log of `store`, not the flash
//! below it: of a record, every entry since it was purged. Without its troubles it is the real one: `sim/tests/fakes`
//! compares the two.

use std::{cell::RefCell, rc::Rc, vec::Vec};

use calls::store::{
    AppendRequest, FindReply, Finding, RECORDS, Record, Refusal, SEALED, Sealed,
    for_keystore::{Append, Find, MAX_REQUEST, Purge},
};
use shm::{
    ReadOnly, ReadWrite,
    mailbox::{Operation, Server},
};
use zerocopy::FromZeros;

use super::{Region, region};

/// What goes wrong with the next append.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It is refused, and nothing is written.
    Refused,
    /// It is refused, and is there.
    Unsaid,
    /// The store starts again before anything is written, or after everything is.
    Restart,
    LateRestart,
    /// The power goes before anything is written, or after everything is. Nothing is answered any more.
    Cut,
    LateCut,
    /// Nothing is written, and from then on the store refuses whatever it is asked; or it is written.
    Dead,
    LateDead,
    /// It says that it is done, and has written nothing.
    Unwritten,
}

impl Fault {
    /// Those that a node survives without a new power-up.
    pub const REPORTED: [Self; 5] = [Self::Refused, Self::Unsaid, Self::Restart, Self::LateRestart, Self::Dead];

    fn writes(self) -> bool {
        matches!(self, Self::Unsaid | Self::LateRestart | Self::LateCut | Self::LateDead)
    }
}

#[derive(Clone, Default)]
pub struct Inside {
    pub log: [Vec<(u64, Sealed)>; RECORDS],
    /// What is found of a record, whatever is in the log.
    pub finding: [Option<Finding>; RECORDS],
    pub fault: Option<Fault>,
    /// Nothing is answered until this is cleared.
    pub busy: bool,
    dead: bool,
    /// Every append that was asked for, in this order.
    pub writes: Vec<(usize, u64)>,
    pub purges: usize,
}

impl Inside {
    /// It refuses whatever it is asked.
    pub fn kill(&mut self) {
        self.dead = true;
    }
}

#[derive(Clone, Default)]
pub struct Disk(pub Rc<RefCell<Inside>>);

impl Disk {
    pub fn fail(&self, fault: Fault) {
        self.0.borrow_mut().fault = Some(fault);
    }

    pub fn set_busy(&self, busy: bool) {
        self.0.borrow_mut().busy = busy;
    }

    pub fn power_on(&self) {
        let mut inside = self.0.borrow_mut();
        inside.fault = None;
        inside.busy = false;
        inside.dead = false;
    }

    pub fn writes(&self) -> usize {
        self.0.borrow().writes.len()
    }

    pub fn purges(&self) -> usize {
        self.0.borrow().purges
    }

    pub fn is_empty(&self) -> bool {
        self.0.borrow().log.iter().all(Vec::is_empty)
    }

    /// Another disk with the same content.
    pub fn copy(&self) -> Self {
        let copy = Self::default();
        copy.0.borrow_mut().log = self.0.borrow().log.clone();
        copy
    }

    pub fn log(&self, record: Record) -> Vec<(u64, Sealed)> {
        self.0.borrow().log[record as usize].clone()
    }

    pub fn newest(&self, record: Record) -> Option<(u64, Sealed)> {
        self.0.borrow().log[record as usize].last().copied()
    }

    pub fn set(&self, record: Record, log: Vec<(u64, Sealed)>) {
        self.0.borrow_mut().log[record as usize] = log;
    }

    /// This entry and what was written after it is gone.
    pub fn forget_from(&self, record: Record, sequence: u64) {
        self.0.borrow_mut().log[record as usize].retain(|(number, _)| *number < sequence);
    }

    pub fn find(&self, record: Record, finding: Finding) {
        self.0.borrow_mut().finding[record as usize] = Some(finding);
    }
}

/// The domain `store`.
pub struct Store {
    pub disk: Disk,
    request: Region,
    reply: Region,
    server: Server<'static, MAX_REQUEST>,
    /// What it was asked to append since power-up: what was cut off before nobody knows of.
    tried: Vec<(usize, u64)>,
}

impl Store {
    pub fn new(disk: Disk) -> Self {
        let (request, reply) = (region(), region());
        let server = Server::new(ReadOnly::new(request), ReadWrite::new(reply)).unwrap();
        Self { disk, request, reply, server, tried: Vec::new() }
    }

    pub fn regions(&self) -> (Region, Region) {
        (self.request, self.reply)
    }

    pub fn restart(&mut self) {
        self.server = Server::new(ReadOnly::new(self.request), ReadWrite::new(self.reply)).unwrap();
        self.disk.power_on();
    }

    /// Answers what is asked; whether anything was.
    pub fn serve(&mut self) -> bool {
        let disk = self.disk.clone();
        let mut inside = disk.0.borrow_mut();
        if inside.busy {
            return false;
        }
        let Ok(Some(call)) = self.server.take() else { return false };
        if inside.dead {
            self.server.refuse(Refusal::Failed.code());
        } else if call.op == Find::OP {
            let record = call.parse::<Find>().unwrap() as usize;
            let newest = inside.log[record].last();
            let finding = inside.finding[record];
            let finding = finding.unwrap_or(if newest.is_some() { Finding::Found } else { Finding::Empty });
            let mut reply = FindReply::new_zeroed();
            reply.finding = finding as u64;
            if let (Finding::Found, Some((sequence, sealed))) = (finding, newest) {
                (reply.sequence, reply.sealed) = (*sequence, *sealed);
            }
            self.server.reply::<Find>(&reply);
        } else if call.op == Append::OP {
            let AppendRequest { record, sequence, sealed } = call.parse::<Append>().unwrap();
            self.append(&mut inside, record as usize, sequence, sealed);
        } else {
            assert_eq!(call.op, Purge::OP);
            let log = &mut inside.log[call.parse::<Purge>().unwrap() as usize];
            log.drain(..log.len().saturating_sub(1));
            inside.purges += 1;
            self.server.reply::<Purge>(&());
        }
        true
    }

    fn append(&mut self, inside: &mut Inside, record: usize, sequence: u64, sealed: [u8; SEALED]) {
        assert!(!self.tried.contains(&(record, sequence)), "{record}: {sequence} is written twice");
        self.tried.push((record, sequence));
        inside.writes.push((record, sequence));
        let newest = inside.log[record].last().map_or(0, |(newest, _)| *newest);
        if sequence <= newest || inside.finding[record].is_some() {
            return self.server.refuse(Refusal::Stale.code());
        }
        let fault = inside.fault.take();
        if fault.is_none_or(Fault::writes) {
            inside.log[record].push((sequence, sealed));
        }
        match fault {
            None | Some(Fault::Unwritten) => self.server.reply::<Append>(&()),
            Some(Fault::Refused | Fault::Unsaid) => self.server.refuse(Refusal::Failed.code()),
            Some(Fault::Restart | Fault::LateRestart) => {
                self.server = Server::new(ReadOnly::new(self.request), ReadWrite::new(self.reply)).unwrap();
            }
            Some(Fault::Cut | Fault::LateCut) => inside.busy = true,
            Some(Fault::Dead | Fault::LateDead) => {
                inside.dead = true;
                self.server.refuse(Refusal::Failed.code());
            }
        }
    }
}
