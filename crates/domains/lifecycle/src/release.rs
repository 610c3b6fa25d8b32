//! What lifecycle makes of a node that its owners have let go: it leaves the mesh, after its receipt, and begins as when it was
//! switched on. Whoever is to own it next finds and claims it as any.

use calls::{
    console::{Code, Event},
    keystore::{Ownership, StatusReply},
};
use shm::Micros;
use wire::Phase;

use crate::{Blind, Lifecycle, Ports, configuration::Kept};

/// How long it stays in the mesh, for its receipt.
pub const LEAVING_MICROS: Micros = 4_000_000;

impl Lifecycle {
    /// The keystore says whose the node is, whatever has become of the order.
    pub(crate) fn notice_release(&mut self, status: &StatusReply, now: Micros) {
        if self.phase == Phase::Claimed && status.has_keys() && status.ownership() == Ownership::Unclaimed {
            self.leaving.get_or_insert(now.saturating_add(LEAVING_MICROS));
        }
    }

    /// It is a member for a little longer, as it was: what it is then is told when it is that.
    pub(crate) fn is_leaving(&self) -> bool {
        self.phase == Phase::Claimed && self.leaving.is_some()
    }

    pub(crate) fn leave_mesh(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if self.is_leaving() && self.leaving.is_some_and(|at| now >= at) {
            (self.leaving, self.kept, self.blind) = (None, Kept::nothing(), Blind::Started);
            self.owners.forget();
            self.events.say(Event::new(Code::Released, 0, &[]));
            self.enter(Phase::Blind, ports);
        }
    }
}
