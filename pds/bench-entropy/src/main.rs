//! The entropy domain of a node that is measured: samples from a fixed sequence, at once. A device answers when the
//! host gets round to it, and a processor that waits executes no instructions that could be counted.
#![no_std]
#![no_main]

use entropy::{Entropy, Peer, Ports, Source};
use platform::{Domain, Handler, channel, counter, fits, read_write};
use sel4_microkit::protection_domain;
use shm::cell::Writer;

/// SplitMix64 (Steele, Lea, Flood, 2014). Not random: always the same.
struct Sequence(u64);

/// As many samples at a time as the device gives.
const PART: usize = 8;

impl Source for Sequence {
    fn read(&mut self, to: &mut [u8]) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut word = self.0;
        word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        word ^= word >> 31;
        to.iter_mut().zip(word.to_le_bytes()).for_each(|(to, byte)| *to = byte);
        to.len().min(PART)
    }

    fn counter(&mut self) -> u64 {
        counter()
    }
}

#[protection_domain]
fn init() -> impl Handler {
    let mut ports = Ports { keystore: fits(Writer::new(read_write!(keystore_out))) };
    let keystore = channel!(keystore_id);
    let mut entropy = Entropy::new(Sequence(0));
    Domain::start(move |notified| {
        let more = entropy.step(notified.by(keystore), &mut ports);
        ports.signals(|peer| match peer {
            Peer::Keystore => keystore.notify(),
        });
        more
    })
}
