//! The domain as a platform runs it: its ports, made of what `system.xml` gives it, and its children.

use calls::{Domain as Who, alarm::Alarm, params::Params};
use pd::{Domain, Parent, Platform, Wake, fits};
use shm::{
    cell::{Reader, Writer},
    mailbox::{Client, Server},
    ring::Duplex,
};

use crate::{Channel, Lifecycle, Ports};

macro_rules! wires_and {
    (
        { $($wires:tt)* }
        roots { $($roots:tt)* }
        children { $($child:ident = $number:literal, $name:ident, $needed:ident;)* }
    ) => {
        pd::wires! { $($wires)* children { $($name),* } }

        impl<C> Wires<'_, C> {
            /// All children, with their numbers.
            pub fn children(&self) -> [(Who, pd::Child); Who::CHILDREN.len()] {
                [$((Who::$child, self.$name)),*]
            }
        }
    };
}

calls::domains!(wires_and! { $crate
    read {
        params, keystore_rep, perimeter_in, beacon_req, claim_req, mesh_req, console_in, store_rep,
        entropy_watch, net_watch, perimeter_watch, beacon_watch, claim_watch, mesh_watch, workload_watch, timer_watch, console_watch, store_watch,
    }
    write {
        keystore_req, perimeter_out, beacon_out, beacon_rep, claim_out, claim_rep, mesh_out, mesh_rep, mesh_account,
        console_out, timer_out, store_req,
    }
    channels { keystore_id, perimeter_id, beacon_id, claim_id, mesh_id, console_id, timer_id, store_id }
});

pub struct Shell<'a, C, P> {
    parent: P,
    core: Lifecycle,
    ports: Ports<'a>,
    children: [(Who, pd::Child); Who::CHILDREN.len()],
    keystore: C,
    perimeter: C,
    beacon: C,
    claim: C,
    mesh: C,
    console: C,
    timer: C,
    store: C,
}

impl<'a, C, P: Parent> Shell<'a, C, P> {
    pub fn new(wires: Wires<'a, C>, parent: P) -> Self {
        Self {
            parent,
            children: wires.children(),
            core: Lifecycle::new(Params::read(&wires.params)),
            ports: Ports {
                keystore: fits(Client::new(wires.keystore_req, wires.keystore_rep)),
                perimeter: fits(Writer::new(wires.perimeter_out)),
                report: fits(Reader::new(wires.perimeter_in)),
                beacon_rules: fits(Writer::new(wires.beacon_out)),
                beacon: fits(Server::new(wires.beacon_req, wires.beacon_rep)),
                claim_gate: fits(Writer::new(wires.claim_out)),
                claim: fits(Server::new(wires.claim_req, wires.claim_rep)),
                membership: fits(Writer::new(wires.mesh_out)),
                account: fits(Writer::new(wires.mesh_account)),
                mesh: fits(Server::new(wires.mesh_req, wires.mesh_rep)),
                console: fits(Duplex::new(wires.console_out, wires.console_in)),
                alarm: fits(Alarm::new(wires.timer_out)),
                store: fits(Client::new(wires.store_req, wires.store_rep)),
                watches: [
                    (Who::Entropy, wires.entropy_watch),
                    (Who::Net, wires.net_watch),
                    (Who::Perimeter, wires.perimeter_watch),
                    (Who::Beacon, wires.beacon_watch),
                    (Who::Claim, wires.claim_watch),
                    (Who::Mesh, wires.mesh_watch),
                    (Who::Workload, wires.workload_watch),
                    (Who::Timer, wires.timer_watch),
                    (Who::Console, wires.console_watch),
                    (Who::Store, wires.store_watch),
                ],
            },
            keystore: wires.keystore_id,
            perimeter: wires.perimeter_id,
            beacon: wires.beacon_id,
            claim: wires.claim_id,
            mesh: wires.mesh_id,
            console: wires.console_id,
            timer: wires.timer_id,
            store: wires.store_id,
        }
    }
}

/// What the platform has for this domain: its hold on its children.
pub trait Machine<'a>: Platform<'a> {
    type Parent: Parent + 'a;

    fn parent(&mut self) -> Self::Parent;
}

/// The domain on a platform that looks up by name.
pub fn start<'a, M: Machine<'a>>(on: &mut M) -> Shell<'a, M::Channel, M::Parent> {
    let parent = on.parent();
    Shell::new(Wires::bind(on), parent)
}

impl<C: pd::Channel, P: Parent> Domain for Shell<'_, C, P> {
    fn step(&mut self, wake: &Wake) -> bool {
        for (child, number) in self.children {
            if wake.died(number) {
                self.core.died(child, wake.now, &mut self.ports);
            }
        }
        // The timer wakes it for what it has asked for itself, and the keystore is no child.
        let others = [self.timer, self.keystore].iter().fold(0, |bits, channel| bits | 1_u64 << channel.id());
        if wake.channels & !others != 0 {
            self.core.stirred(wake.now);
        }
        if wake.by(self.timer) {
            self.core.ticked();
        }
        let more = self.core.step(wake.now, &mut self.ports);
        self.ports.signals(|channel| match channel {
            Channel::Keystore => self.keystore.notify(),
            Channel::Perimeter => self.perimeter.notify(),
            Channel::Beacon => self.beacon.notify(),
            Channel::Claim => self.claim.notify(),
            Channel::Mesh => self.mesh.notify(),
            Channel::Console => self.console.notify(),
            Channel::Timer => self.timer.notify(),
            Channel::Store => self.store.notify(),
        });
        // Last: the rules are closed by now.
        for child in self.core.take_restarts() {
            self.children.iter().filter(|(of, _)| *of == child).for_each(|(_, number)| self.parent.restart(*number));
        }
        more
    }
}
