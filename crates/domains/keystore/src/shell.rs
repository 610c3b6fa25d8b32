//! The domain as a platform runs it: its ports, made of what `system.xml` gives it, and the store of its records.

use calls::store::Store;
use pd::{Domain, Platform, Wake, fits};
use shm::{cell::Writer, mailbox::Server};

use crate::{Channel, Feed, Keystore, Ports};

pd::wires! { $crate
    read { device_secret, anchor, entropy_in, lifecycle_req, beacon_req, claim_req, mesh_req, store_rep, ticket_in }
    write { ticket_out, lifecycle_rep, beacon_rep, claim_rep, mesh_rep, store_req }
    channels { entropy_id, lifecycle_id, beacon_id, claim_id, mesh_id, console_id, store_id }
}

pub struct Shell<'a, C, S> {
    core: Keystore<S>,
    ports: Ports<'a>,
    entropy: C,
    lifecycle: C,
    beacon: C,
    claim: C,
    mesh: C,
    console: C,
}

impl<'a, C, S: Store> Shell<'a, C, S> {
    pub fn new(wires: Wires<'a, C>, store: S) -> Self {
        Self {
            core: Keystore::new(wires.device_secret, wires.anchor, store),
            ports: Ports {
                entropy: fits(Feed::new(wires.entropy_in)),
                ticket: fits(Writer::new(wires.ticket_out)),
                lifecycle: fits(Server::new(wires.lifecycle_req, wires.lifecycle_rep)),
                beacon: fits(Server::new(wires.beacon_req, wires.beacon_rep)),
                claim: fits(Server::new(wires.claim_req, wires.claim_rep)),
                mesh: fits(Server::new(wires.mesh_req, wires.mesh_rep)),
            },
            entropy: wires.entropy_id,
            lifecycle: wires.lifecycle_id,
            beacon: wires.beacon_id,
            claim: wires.claim_id,
            mesh: wires.mesh_id,
            console: wires.console_id,
        }
    }
}

/// A platform that has a store for the keystore's records.
pub trait Machine<'a>: Platform<'a> {
    type Store: Store + 'a;

    fn store(&mut self) -> Self::Store;
}

/// The domain on a platform that looks up by name.
pub fn start<'a, M: Machine<'a>>(on: &mut M) -> Shell<'a, M::Channel, M::Store> {
    let store = on.store();
    Shell::new(Wires::bind(on), store)
}

impl<C: pd::Channel, S: Store> Domain for Shell<'_, C, S> {
    fn step(&mut self, wake: &Wake) -> bool {
        // The console says nothing else than that the ticket has been shown.
        let more = self.core.step(wake.by(self.console), &mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Entropy => self.entropy.notify(),
            Channel::Lifecycle => self.lifecycle.notify(),
            Channel::Beacon => self.beacon.notify(),
            Channel::Claim => self.claim.notify(),
            Channel::Mesh => self.mesh.notify(),
            Channel::Console => self.console.notify(),
        });
        more
    }
}
