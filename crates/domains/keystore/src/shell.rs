//! The domain as a platform runs it: its ports, made of what `system.xml` gives it.

use pd::{Domain, Platform, Wake, fits};
use shm::{
    cell::{Reader, Writer},
    mailbox::{Client, Server},
};

use crate::{Channel, Feed, Keystore, Ports};

pd::wires! { $crate
    read { device_secret, anchor, entropy_in, lifecycle_req, beacon_req, claim_req, mesh_req, store_rep, ticket_in }
    write { ticket_out, lifecycle_rep, beacon_rep, claim_rep, mesh_rep, store_req }
    channels { entropy_id, lifecycle_id, beacon_id, claim_id, mesh_id, console_id, store_id }
}

pub struct Shell<'a, C> {
    core: Keystore,
    ports: Ports<'a>,
    entropy: C,
    lifecycle: C,
    beacon: C,
    claim: C,
    mesh: C,
    console: C,
    store: C,
}

impl<'a, C> Shell<'a, C> {
    pub fn new(wires: Wires<'a, C>) -> Self {
        Self {
            core: Keystore::new(wires.device_secret, wires.anchor),
            ports: Ports {
                entropy: fits(Feed::new(wires.entropy_in)),
                ticket: fits(Writer::new(wires.ticket_out)),
                ticket_shown: fits(Reader::new(wires.ticket_in)),
                store: fits(Client::new(wires.store_req, wires.store_rep)),
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
            store: wires.store_id,
        }
    }
}

/// The domain on a platform that looks up by name.
pub fn start<'a, P: Platform<'a>>(on: &mut P) -> Shell<'a, P::Channel> {
    Shell::new(Wires::bind(on))
}

impl<C: pd::Channel> Domain for Shell<'_, C> {
    fn step(&mut self, _: &Wake) -> bool {
        let more = self.core.step(&mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Entropy => self.entropy.notify(),
            Channel::Lifecycle => self.lifecycle.notify(),
            Channel::Beacon => self.beacon.notify(),
            Channel::Claim => self.claim.notify(),
            Channel::Mesh => self.mesh.notify(),
            Channel::Console => self.console.notify(),
            Channel::Store => self.store.notify(),
        });
        more
    }
}
