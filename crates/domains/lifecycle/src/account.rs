//! What the node has been through, for telemetry: boots, restarts, faults, the store. `mesh` looks at it when it makes a
//! record, and is not woken for it.

use calls::{keystore::StatusReply, mesh::Account, store::for_lifecycle::ReadAccount};
use shm::{
    Micros,
    cell::Writer,
    mailbox::{CallError, Client},
};
use zerocopy::FromZeros;

use crate::{archive::PATIENCE, children::Fault};

/// How often it is asked at most.
const MINUTE: Micros = 60_000_000;

pub struct Accounts {
    account: Account,
    published: bool,
    asking: bool,
    /// `store` is asked from this time on, when lifecycle runs anyway.
    next: Micros,
}

impl Accounts {
    pub fn new() -> Self {
        Self { account: Account::new_zeroed(), published: false, asking: false, next: 0 }
    }

    /// A child has died or hung, so long after power-up.
    pub fn fault(&mut self, fault: &Fault, age: Micros) {
        let account = &mut self.account;
        account.fault_domain = fault.domain as u32;
        account.fault_cause = fault.cause as u32;
        account.fault_count = fault.count;
        account.fault_at_ms = age / 1000;
        self.published = false;
    }

    /// A child is started anew.
    pub fn restarted(&mut self, child: calls::Domain) {
        if let Some(count) = self.account.restarts.get_mut(child as usize) {
            *count = count.saturating_add(1);
            self.published = false;
        }
    }

    pub fn status(&mut self, status: &StatusReply) {
        let before = self.account;
        self.account.boots = status.boots;
        self.account.keystore = status.state.into();
        for (to, from) in self.account.command_floors.iter_mut().zip(status.command_floors) {
            *to = from;
        }
        self.published &= self.account == before;
    }

    /// Asks `store` what it has done, if that is due and nothing else is asked of it. False: it does not answer.
    pub fn ask(&mut self, now: Micros, store: &mut Client<'_>) -> bool {
        if !self.asking && (now < self.next || store.busy().is_some()) {
            return true;
        }
        match store.ask::<ReadAccount>(now, PATIENCE, || ()) {
            Ok(None) => self.asking = true,
            Ok(Some(said)) => {
                let before = self.account;
                self.account.store_writes = said.writes;
                self.account.store_erases = said.erases;
                self.account.store_errors = said.errors;
                self.published &= self.account == before;
                self.over(now);
            }
            Err(error) => {
                self.over(now);
                return error != CallError::Timeout;
            }
        }
        true
    }

    /// Something else is asked of `store`.
    pub fn give_way(&mut self) {
        self.asking = false;
    }

    fn over(&mut self, now: Micros) {
        (self.asking, self.next) = (false, now.saturating_add(MINUTE));
    }

    pub fn publish(&mut self, cell: &mut Writer<'_, Account>) {
        if !self.published {
            cell.publish(&self.account);
            self.published = true;
        }
    }
}
