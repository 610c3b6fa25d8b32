//! Stands where `net` stands, and around `perimeter`: the product's `net` over a device that replays recorded frames.
//! It publishes the rules of a node that holds, sends bursts of each frame, and says what a burst has cost until the
//! perimeter had dropped the last one.
#![no_std]
#![no_main]

use bench_report::Report;
use calls::{drops::Reason, rules::Rules};
use link::Station;
use net::{Device, Net, Ports};
use pd::Wake;
use platform::{Channel, Handler, channel, counter, fits, read_only, read_write, start};
use sel4_microkit::protection_domain;
use shm::{
    ReadOnly,
    cell::Writer,
    ring::{Duplex, FRAME_SLOT},
};

const LINK: Station = Station::new([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0x4e, 1]);
/// So many frames at a time, so often, and once more beforehand.
const BURST: usize = 16;
const BURSTS: u64 = 64;

/// A recording: slots of [`FRAME_SLOT`] bytes, a word with the frame's length and the frame. The first is one that
/// has to pass: it shows that the perimeter heeds the rules.
struct Replay {
    frames: ReadOnly<'static>,
    slot: usize,
    left: usize,
}

impl Replay {
    fn len(&self) -> usize {
        usize::try_from(self.frames.load(self.slot * FRAME_SLOT)).unwrap_or(0)
    }

    fn slots(&self) -> usize {
        self.frames.len() / FRAME_SLOT
    }
}

impl Device for Replay {
    fn mac(&self) -> [u8; 6] {
        LINK.mac
    }

    fn recv(&mut self, frame: &mut [u8]) -> Option<usize> {
        self.left = self.left.checked_sub(1)?;
        let len = self.len();
        self.frames.read(self.slot * FRAME_SLOT + size_of::<u64>(), frame.get_mut(..len)?);
        Some(len)
    }

    fn send(&mut self, _: &[u8]) -> bool {
        true
    }
}

struct Bench {
    net: Net,
    ports: Ports<'static>,
    device: Replay,
    perimeter: Channel,
}

impl Bench {
    /// The perimeter has the higher priority: when this returns it has dealt with all of them.
    fn burst(&mut self, frames: usize) {
        self.device.left = frames;
        while self.net.step(&mut self.ports, &mut self.device) {}
        self.ports.signals(|_| self.perimeter.notify());
    }

    fn measure(&mut self, report: &mut Report) {
        for slot in 1..self.device.slots() {
            self.device.slot = slot;
            if self.device.len() == 0 {
                break;
            }
            for (name, frames) in [("alone_ticks", 1), ("burst_ticks", BURST)] {
                self.burst(frames);
                let since = counter();
                for _ in 0..BURSTS {
                    self.burst(frames);
                }
                let ticks = counter() - since;
                report.figure(name, ticks);
                report.figure("frames", BURSTS * frames as u64);
            }
        }
        report.figure("lost", self.net.drops().of(Reason::Full));
    }
}

#[protection_domain]
fn init() -> impl Handler {
    let mut report = Report::bind();
    let mut rules: Writer<'_, Rules> = fits(Writer::new(read_write!(rules)));
    rules.publish(&Rules { phase: wire::Phase::Hold as u64, link: LINK, ..Rules::CLOSED });
    let ports = Ports {
        nic: fits(Writer::new(read_write!(perimeter_nic))),
        drops: fits(Writer::new(read_write!(perimeter_drops))),
        perimeter: fits(Duplex::new(read_write!(perimeter_out), read_only!(perimeter_in))),
    };
    let (perimeter, beacon, claim) = (channel!(perimeter_id), channel!(beacon_id), channel!(claim_id));
    let device = Replay { frames: read_only!(frames), slot: 0, left: 0 };
    let mut bench = Bench { net: Net::new(), ports, device, perimeter };
    let mut measured = false;
    start(move |wake: &Wake| {
        let passed = wake.by(beacon) || wake.by(claim);
        if !measured {
            measured = true;
            // The address of the device is news to the perimeter, and it says so: this is called again.
            bench.measure(&mut report);
        } else if bench.device.slot != 0 {
            report.figure("passed", u64::from(passed));
            bench.device.slot = 0;
            bench.burst(1);
        } else if passed {
            report.figure("listens", 1);
            report.end();
        }
        false
    })
}
