//! `drivers` for three domains of a node that is measured in another way than the product runs. The programs of this
//! package are the real shells, built against this library in the place of `drivers`.
#![no_std]

/// A serial device that says when it has said that the node holds.
pub mod uart {
    use bench_report::Report;
    use console::Serial;
    use platform::counter;

    const LAST: &[u8] = b"genesis: phase hold\r\n";

    pub struct Uart {
        report: Report,
        /// So much of [`LAST`] has just been said.
        said: usize,
    }

    impl Uart {
        pub fn bind() -> Self {
            Self { report: Report::bind(), said: 0 }
        }
    }

    impl Serial for Uart {
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
}

/// Samples from a fixed sequence, at once. A device answers when the host gets round to it, and a processor that waits
/// executes no instructions that could be counted.
pub mod virtio_rng {
    use entropy::Source;
    use platform::counter;

    /// As many at a time as the device gives.
    const PART: usize = 8;

    /// SplitMix64 (Steele, Lea, Flood, 2014). Not random: always the same.
    pub struct VirtioRng(u64);

    impl VirtioRng {
        pub fn bind() -> Self {
            Self(0)
        }
    }

    impl Source for VirtioRng {
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
}

/// A network of one neighbour, who has every address that is asked for and says no more.
pub mod virtio_net {
    use bench_report::Report;
    use link::{DATAGRAM, HEADERS, NEIGHBOUR, Station, advertisement};
    use platform::counter;

    const OWN: [u8; 6] = [2, 0, 0, 0, 0x4e, 1];
    const NEIGHBOURS: [u8; 6] = [2, 0, 0, 0, 0x4e, 2];
    /// Where the source, the protocol and the target of a question stand.
    const SOURCE: usize = 22;
    const PROTOCOL: usize = 20;
    const TARGET: usize = HEADERS + 8;

    const ICMPV6: u8 = 58;
    const SOLICITATION: u8 = 135;
    const UDP: u8 = 17;
    /// WireGuard's first message.
    const INITIATION: (usize, u8) = (148, 1);

    pub struct VirtioNet {
        report: Report,
        answer: Option<[u8; NEIGHBOUR]>,
    }

    impl VirtioNet {
        pub fn bind() -> Self {
            Self { report: Report::bind(), answer: None }
        }

        pub fn acknowledge(&mut self) {}

        pub fn wake_when_room(&mut self, _: bool) -> bool {
            false
        }
    }

    impl net::Device for VirtioNet {
        fn mac(&self) -> [u8; 6] {
            OWN
        }

        fn recv(&mut self, frame: &mut [u8]) -> Option<usize> {
            let answer = self.answer.take()?;
            frame.get_mut(..NEIGHBOUR)?.copy_from_slice(&answer);
            Some(NEIGHBOUR)
        }

        fn send(&mut self, frame: &[u8]) -> bool {
            let ip = |at: usize| frame.get(at..).and_then(|rest| rest.first_chunk::<16>()).copied();
            match (frame.get(PROTOCOL), frame.get(HEADERS)) {
                (Some(&ICMPV6), Some(&SOLICITATION)) => {
                    if let (Some(asks), Some(target)) = (ip(SOURCE), ip(TARGET)) {
                        let (from, to) = (Station::new(target, NEIGHBOURS), Station::new(asks, OWN));
                        self.answer = Some(advertisement(&from, &to));
                    }
                }
                (Some(&UDP), _)
                    if (frame.len() - DATAGRAM.min(frame.len()), frame.get(DATAGRAM))
                        == (INITIATION.0, Some(&INITIATION.1)) =>
                {
                    let sent = counter();
                    self.report.line("");
                    self.report.figure("ticks", sent);
                    self.report.end();
                }
                _ => {}
            }
            true
        }
    }
}
