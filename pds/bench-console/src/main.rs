//! The console of a node that is measured: the product's, and when it has said that the node holds, it says when.
#![no_std]
#![no_main]

use bench_report::Report;
use console::{Console, Peer, Ports, Serial};
use platform::{Domain, Handler, channel, counter, fits, read_only, read_write};
use sel4_microkit::protection_domain;
use shm::{cell::Reader, ring::Duplex};

const LAST: &[u8] = b"genesis: phase hold\r\n";

struct Watch {
    report: Report,
    /// So much of [`LAST`] has just been said.
    said: usize,
}

impl Serial for Watch {
    fn write(&mut self, bytes: &[u8]) -> usize {
        for byte in bytes {
            self.report.all(&[*byte]);
            self.said = match LAST.get(self.said) {
                Some(next) if next == byte => self.said + 1,
                _ => 0,
            };
            if self.said == LAST.len() {
                let held = counter();
                self.report.figure("ticks", held);
                self.report.end();
            }
        }
        bytes.len()
    }
}

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports::new(
        fits(Reader::new(read_only!(ticket_in))),
        fits(Duplex::new(read_write!(lifecycle_out), read_only!(lifecycle_in))),
    );
    let (keystore, lifecycle) = (channel!(keystore_id), channel!(lifecycle_id));
    let mut serial = Watch { report: Report::bind(), said: 0 };
    let mut console = Console::new();
    Domain::start(move |_| {
        let more = console.step(&mut ports, &mut serial);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
            Peer::Lifecycle => lifecycle.notify(),
        });
        more
    })
}
