//! What lifecycle talks over.

use calls::{
    Domain,
    alarm::Alarm,
    console::SLOT,
    lifecycle::{for_beacon, for_claim, for_mesh},
    mesh::{Account, Membership},
    rules::{ClaimGate, Report, Rules},
};
use shm::{ReadOnly, cell, mailbox, ring};

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
    Perimeter,
    Beacon,
    Claim,
    Mesh,
    Console,
    Timer,
    Store,
}

pub type BeaconServer<'a> = mailbox::Server<'a, { for_beacon::MAX_REQUEST }>;
pub type ClaimServer<'a> = mailbox::Server<'a, { for_claim::MAX_REQUEST }>;
pub type MeshServer<'a> = mailbox::Server<'a, { for_mesh::MAX_REQUEST }>;

pub struct Ports<'a> {
    pub keystore: mailbox::Client<'a>,
    pub perimeter: cell::Writer<'a, Rules>,
    pub report: cell::Reader<'a, Report>,
    pub beacon_rules: cell::Writer<'a, Rules>,
    pub beacon: BeaconServer<'a>,
    pub claim_gate: cell::Writer<'a, ClaimGate>,
    pub claim: ClaimServer<'a>,
    pub membership: cell::Writer<'a, Membership>,
    /// Nobody is notified of it.
    pub account: cell::Writer<'a, Account>,
    pub mesh: MeshServer<'a>,
    pub console: ring::Duplex<'a, SLOT>,
    pub alarm: Alarm<'a>,
    pub store: mailbox::Client<'a>,
    /// Of each child, when the step began that it is in.
    pub watches: [(Domain, ReadOnly<'a>); Domain::CHILDREN.len()],
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        // Both ends of a channel are asked: a cell and a mailbox share it.
        let beacon = self.beacon_rules.take_signal() | self.beacon.take_signal();
        let claim = self.claim_gate.take_signal() | self.claim.take_signal();
        let mesh = self.membership.take_signal() | self.mesh.take_signal();
        let signals = [
            (Channel::Keystore, self.keystore.take_signal()),
            (Channel::Perimeter, self.perimeter.take_signal()),
            (Channel::Beacon, beacon),
            (Channel::Claim, claim),
            (Channel::Mesh, mesh),
            (Channel::Console, self.console.take_signal()),
            (Channel::Timer, self.alarm.take_signal()),
            (Channel::Store, self.store.take_signal()),
        ];
        signals.into_iter().filter(|(_, signal)| *signal).for_each(|(peer, _)| notify(peer));
    }
}
