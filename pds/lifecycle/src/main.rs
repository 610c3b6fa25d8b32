//! The lifecycle domain on seL4, and the parent of all but the keystore: the kernel tells it when one of them faults.
#![no_std]
#![no_main]

use calls::{Domain, alarm::Alarm, params::Params};
use lifecycle::{Lifecycle, Peer, Ports};
use platform::{Channel, ChannelSet, Handler, Infallible, channel, fits, now, read_only, read_write, setvar};
use sel4_microkit::{MessageInfo, protection_domain};
use shm::{
    cell::{Reader, Writer},
    mailbox::{Client, Server},
    ring::Duplex,
};

struct Shell {
    lifecycle: Lifecycle,
    ports: Ports<'static>,
    channels: [(Peer, Channel); 7],
    children: [(Domain, usize); 9],
}

#[protection_domain]
fn init() -> impl Handler {
    let ports = Ports {
        keystore: fits(Client::new(read_write!(keystore_req), read_only!(keystore_rep))),
        perimeter: fits(Writer::new(read_write!(perimeter_out))),
        report: fits(Reader::new(read_only!(perimeter_in))),
        beacon_rules: fits(Writer::new(read_write!(beacon_out))),
        beacon: fits(Server::new(read_only!(beacon_req), read_write!(beacon_rep))),
        claim_gate: fits(Writer::new(read_write!(claim_out))),
        claim: fits(Server::new(read_only!(claim_req), read_write!(claim_rep))),
        membership: fits(Writer::new(read_write!(mesh_out))),
        mesh: fits(Server::new(read_only!(mesh_req), read_write!(mesh_rep))),
        console: fits(Duplex::new(read_write!(console_out), read_only!(console_in))),
        alarm: fits(Alarm::new(read_write!(timer_out))),
    };
    let channels = [
        (Peer::Keystore, channel!(keystore_id)),
        (Peer::Perimeter, channel!(perimeter_id)),
        (Peer::Beacon, channel!(beacon_id)),
        (Peer::Claim, channel!(claim_id)),
        (Peer::Mesh, channel!(mesh_id)),
        (Peer::Console, channel!(console_id)),
        (Peer::Timer, channel!(timer_id)),
    ];
    let children = [
        (Domain::Entropy, setvar!("entropy_child")),
        (Domain::Net, setvar!("net_child")),
        (Domain::Perimeter, setvar!("perimeter_child")),
        (Domain::Beacon, setvar!("beacon_child")),
        (Domain::Claim, setvar!("claim_child")),
        (Domain::Timer, setvar!("timer_child")),
        (Domain::Console, setvar!("console_child")),
        (Domain::Mesh, setvar!("mesh_child")),
        (Domain::Workload, setvar!("workload_child")),
    ];
    let lifecycle = Lifecycle::new(Params::read(&read_only!(params)));
    let mut domain = Shell { lifecycle, ports, channels, children };
    domain.run();
    domain
}

impl Shell {
    fn run(&mut self) {
        loop {
            let more = self.lifecycle.step(now(), &mut self.ports);
            self.ports.signals(|peer| {
                let channel = self.channels.iter().find(|(of, _)| *of == peer);
                channel.iter().for_each(|(_, channel)| channel.notify());
            });
            if !more {
                return;
            }
        }
    }
}

impl Handler for Shell {
    type Error = Infallible;

    fn notified(&mut self, _: ChannelSet) -> Result<(), Infallible> {
        self.run();
        Ok(())
    }

    /// No reply: the child stays where it is. Its message is a hint that it could have sent itself, so nothing in it is
    /// believed; the badge that says which child it is, is the kernel's.
    fn fault(&mut self, child: sel4_microkit::Child, message: MessageInfo) -> Result<Option<MessageInfo>, Infallible> {
        platform::explain(&child, &message);
        if let Some((child, _)) = self.children.iter().find(|(_, id)| *id == child.index()) {
            self.lifecycle.died(*child, &mut self.ports);
            self.run();
        }
        Ok(None)
    }
}
