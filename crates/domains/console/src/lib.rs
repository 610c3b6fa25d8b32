//! `console`: the serial output. It words lifecycle's events and shows the first-boot ticket, as text and
//! as a QR code, once. It reads no input and decides nothing.
//!
//! Every line begins with `genesis: `; `docs/lab.md` lists them, because people and programs read them.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod words;

use core::fmt::{self, Write};

use calls::{
    console::{Event, SLOT},
    keystore::{TicketShown, TicketValue},
    mesh::Heartbeat,
};
use qrcodegen_no_heap::{Mask, QrCode, QrCodeEcc, Version};
use shm::{cell, ring};
use wire::ticket::Ticket;
use zeroize::Zeroize;

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
    Lifecycle,
}

pub struct Ports<'a> {
    pub ticket: cell::Reader<'a, TicketValue>,
    pub lifecycle: ring::Duplex<'a, SLOT>,
    pub heartbeat: cell::Reader<'a, Heartbeat>,
    shown: cell::Writer<'a, TicketShown>,
}

impl<'a> Ports<'a> {
    pub fn new(
        ticket: cell::Reader<'a, TicketValue>,
        lifecycle: ring::Duplex<'a, SLOT>,
        heartbeat: cell::Reader<'a, Heartbeat>,
        shown: cell::Writer<'a, TicketShown>,
    ) -> Self {
        Self { ticket, lifecycle, heartbeat, shown }
    }

    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        if self.shown.take_signal() {
            notify(Channel::Keystore);
        }
        // Both are asked. Lifecycle keeps what a full ring had no room for.
        if self.lifecycle.take_signal() | self.lifecycle.take_room() {
            notify(Channel::Lifecycle);
        }
    }
}

/// The device. It takes as many bytes as it has room for and says how many.
pub trait Serial {
    fn write(&mut self, bytes: &[u8]) -> usize;
}

/// Room for a ticket's text and QR code.
const ROOM: usize = 8192;
/// The largest QR code: 271 alphanumeric characters at the lowest error correction would be version 8.
const QR: Version = Version::new(8);
const QR_BUFFER: usize = QR.buffer_len();
/// What is shown looks like noise, so under any mask its modules are as mixed as under another. To look for the best of
/// the eight takes millions of instructions at every boot.
const MASK: Mask = Mask::new(0);

pub struct Console {
    out: [u8; ROOM],
    /// `out[sent..filled]` waits for the device.
    sent: usize,
    filled: usize,
    /// The number of the ticket that is in `out`.
    showing_ticket: Option<u64>,
    beats: u64,
}

impl Default for Console {
    fn default() -> Self {
        Self::new()
    }
}

impl Console {
    pub const fn new() -> Self {
        Self { out: [0; ROOM], sent: 0, filled: 0, showing_ticket: None, beats: 0 }
    }

    /// Returns true while bytes wait for the device or events for the console.
    pub fn step(&mut self, ports: &mut Ports<'_>, serial: &mut impl Serial) -> bool {
        self.flush(ports, serial);
        if self.filled > 0 {
            return true;
        }
        if let Some(value) = ports.ticket.poll()
            && value.present == 1
        {
            let ticket = Ticket { secret: value.secret, fiduciary: value.fiduciary };
            self.show_ticket(&ticket);
            self.showing_ticket = Some(value.number);
        } else {
            let mut slot = [0; SLOT];
            match ports.lifecycle.recv(&mut slot) {
                // What lifecycle has to say comes first.
                Ok(None) => match ports.heartbeat.poll() {
                    Some(Heartbeat { beats, .. }) if beats != self.beats => {
                        self.beats = beats;
                        self.line(format_args!("workload: heartbeat {beats}"));
                    }
                    _ => return false,
                },
                Ok(Some(len)) => {
                    if let Some(event) = slot.get(..len).and_then(words::read) {
                        self.show_event(&event);
                    }
                }
                Err(_) => self.line(format_args!("fault lifecycle's event ring is broken")),
            }
        }
        self.flush(ports, serial);
        true
    }

    fn flush(&mut self, ports: &mut Ports<'_>, serial: &mut impl Serial) {
        while let Some(rest) = self.out.get(self.sent..self.filled).filter(|rest| !rest.is_empty()) {
            match serial.write(rest).min(rest.len()) {
                0 => return,
                count => self.sent += count,
            }
        }
        if self.filled > 0 {
            self.out.zeroize();
            (self.sent, self.filled) = (0, 0);
        }
        if let Some(number) = self.showing_ticket.take() {
            ports.shown.publish(&TicketShown { number });
        }
    }

    fn line(&mut self, words: fmt::Arguments<'_>) {
        // Cut short where the buffer ends: `Out` never fails.
        let _ = Out(self).write_fmt(format_args!("genesis: {words}\r\n"));
    }

    fn show_event(&mut self, event: &Event) {
        let _ = words::write(&mut Out(self), event);
        if let Some(fingerprint) = words::shown_fingerprint(event) {
            let mut text = heapless::String::<64>::new();
            let _ = write!(text, "{fingerprint}");
            text.make_ascii_uppercase();
            self.show_qr(&text);
        }
    }

    fn show_ticket(&mut self, ticket: &Ticket) {
        let text = ticket.to_text();
        // The text is base32: ASCII.
        let text = core::str::from_utf8(&*text).unwrap_or_default();
        self.line(format_args!("ticket {text}"));
        self.show_qr(text);
    }

    fn show_qr(&mut self, text: &str) {
        let (mut scratch, mut buffer) = ([0; QR_BUFFER], [0; QR_BUFFER]);
        let made =
            QrCode::encode_text(text, &mut scratch, &mut buffer, QrCodeEcc::Low, Version::MIN, QR, Some(MASK), true);
        if let Ok(code) = made {
            const QUIET: i32 = 2;
            let size = code.size();
            // Two rows to a line of half blocks, light on dark: dark modules are left blank.
            for y in (-QUIET..size + QUIET).step_by(2) {
                let mut out = Out(self);
                for x in -QUIET..size + QUIET {
                    let light = |y| y >= size + QUIET || !code.get_module(x, y);
                    let _ = out.write_char(match (light(y), light(y + 1)) {
                        (true, true) => '█',
                        (true, false) => '▀',
                        (false, true) => '▄',
                        (false, false) => ' ',
                    });
                }
                let _ = out.write_str("\r\n");
            }
        }
        scratch.zeroize();
        buffer.zeroize();
    }
}

/// Appends to the buffer, dropping what does not fit.
struct Out<'a>(&'a mut Console);

impl Write for Out<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if let Some(to) = self.0.out.get_mut(self.0.filled..self.0.filled + text.len()) {
            to.copy_from_slice(text.as_bytes());
            self.0.filled += text.len();
        }
        Ok(())
    }
}

/// The domain as a platform runs it: its ports, made of what `system.xml` gives it, and the device.
pub mod shell {
    use pd::{Domain, Platform, Wake, fits};
    use shm::{
        cell::{Reader, Writer},
        ring::Duplex,
    };

    use crate::{Channel, Console, Ports, Serial};

    pd::wires! { $crate
        read { ticket_in, lifecycle_in, workload_beat }
        write { lifecycle_out, ticket_out }
        channels { keystore_id, lifecycle_id }
    }

    pub struct Shell<'a, C, S> {
        core: Console,
        ports: Ports<'a>,
        serial: S,
        keystore: C,
        lifecycle: C,
    }

    impl<'a, C, S> Shell<'a, C, S> {
        pub fn new(wires: Wires<'a, C>, serial: S) -> Self {
            Self {
                core: Console::new(),
                ports: Ports::new(
                    fits(Reader::new(wires.ticket_in)),
                    fits(Duplex::keeping(wires.lifecycle_out, wires.lifecycle_in)),
                    fits(Reader::new(wires.workload_beat)),
                    fits(Writer::new(wires.ticket_out)),
                ),
                serial,
                keystore: wires.keystore_id,
                lifecycle: wires.lifecycle_id,
            }
        }
    }

    /// A platform that has the serial line.
    pub trait Machine<'a>: Platform<'a> {
        type Serial: Serial + 'a;

        fn serial(&mut self) -> Self::Serial;
    }

    /// The domain on a platform that looks up by name.
    pub fn start<'a, M: Machine<'a>>(on: &mut M) -> Shell<'a, M::Channel, M::Serial> {
        let serial = on.serial();
        Shell::new(Wires::bind(on), serial)
    }

    impl<C: pd::Channel, S: Serial> Domain for Shell<'_, C, S> {
        fn step(&mut self, _: &Wake) -> bool {
            let more = self.core.step(&mut self.ports, &mut self.serial);
            self.ports.signals(|channel| match channel {
                Channel::Keystore => self.keystore.notify(),
                Channel::Lifecycle => self.lifecycle.notify(),
            });
            more
        }
    }
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;
    use std::{boxed::Box, format, string::String, vec::Vec};

    use calls::{
        Domain,
        console::{Awaited, Code, Rest},
        keystore::{State, Store},
    };
    use proptest::prelude::*;
    use shm::{ReadOnly, ReadWrite};
    use wire::Phase;
    use zerocopy::IntoBytes;

    use super::*;

    /// A device that takes a few bytes at a time.
    struct Slow(Vec<u8>, usize);
    impl Serial for Slow {
        fn write(&mut self, bytes: &[u8]) -> usize {
            let count = bytes.len().min(self.1);
            self.0.extend_from_slice(&bytes[..count]);
            count
        }
    }

    struct Rig {
        lifecycle: ring::Duplex<'static, SLOT>,
        keystore: cell::Writer<'static, TicketValue>,
        shown: cell::Reader<'static, TicketShown>,
        workload: cell::Writer<'static, Heartbeat>,
        ports: Ports<'static>,
        console: Console,
        serial: Slow,
    }

    fn rig() -> Rig {
        let words = || -> &'static [AtomicU64] { Box::leak(Box::new([const { AtomicU64::new(0) }; 512])) };
        let (a, b, c, d, e) = (words(), words(), words(), words(), words());
        let ends = |out, inn| ring::Duplex::new(ReadWrite::new(out), ReadOnly::new(inn)).unwrap();
        Rig {
            lifecycle: ends(a, b),
            keystore: cell::Writer::new(ReadWrite::new(c)).unwrap(),
            shown: cell::Reader::new(ReadOnly::new(e)).unwrap(),
            workload: cell::Writer::new(ReadWrite::new(d)).unwrap(),
            ports: Ports::new(
                cell::Reader::new(ReadOnly::new(c)).unwrap(),
                ends(b, a),
                cell::Reader::new(ReadOnly::new(d)).unwrap(),
                cell::Writer::new(ReadWrite::new(e)).unwrap(),
            ),
            console: Console::new(),
            serial: Slow(Vec::new(), 7),
        }
    }

    impl Rig {
        fn run(&mut self) -> String {
            let mut rounds = 0;
            while self.console.step(&mut self.ports, &mut self.serial) {
                rounds += 1;
                assert!(rounds < 10_000);
            }
            String::from_utf8(core::mem::take(&mut self.serial.0)).unwrap()
        }
    }

    /// The data of a death: its cause, whether the domain stays down, and the pause.
    fn died(cause: u8, out: u8, pause: u64) -> [[u8; 8]; 4] {
        [[cause, out, 0, 0, 0, 0, 0, 0], pause.to_be_bytes(), 2u64.to_be_bytes(), 77u64.to_be_bytes()]
    }

    #[test]
    fn events_come_out_as_lines() {
        let mut rig = rig();
        for event in [
            Event::new(Code::Phase, Phase::Hold as u32, &[]),
            Event::new(Code::GateOpen, 0, &[&[0xfe; 16], &[2; 6]]),
            Event::new(Code::Committed, 2, &[&[0xab; 32], &7u64.to_be_bytes()]),
            Event::new(Code::Joined, 0, &[]),
            Event::new(Code::Configured, 3, &[&[0xcd; 32], &7u64.to_be_bytes()]),
            Event::new(Code::UpdateRefused, 4, &[]),
            Event::new(Code::UpdateRefused, 99, &[]),
            Event::new(Code::Isolated, 1, &[]),
            Event::new(Code::Isolated, 0, &[]),
            Event::new(Code::Died, Domain::Mesh as u32, &died(1, 0, 0).each_ref().map(|part| &part[..])),
            Event::new(Code::Died, Domain::Net as u32, &died(2, 0, 8).each_ref().map(|part| &part[..])),
            Event::new(Code::Died, Domain::Claim as u32, &died(3, 1, 0).each_ref().map(|part| &part[..])),
            Event::new(Code::BadLink, 0, &[&[0; 16], &[0x33; 6]]),
            Event::new(Code::Waits, Awaited::Samples as u32, &[]),
            Event::new(Code::Origin, 1, &[&1u64.to_be_bytes()]),
            Event::new(Code::Origin, 0, &[&7u64.to_be_bytes()]),
            Event::new(Code::Fault, State::StoreDamaged as u32, &[]),
            Event::new(Code::Store, Store::Down as u32, &[]),
            Event::new(Code::Store, Store::Good as u32, &[]),
            Event::new(Code::Rest, Rest::Lost as u32, &[]),
        ] {
            rig.lifecycle.send(event.as_bytes()).unwrap();
        }
        let text = rig.run();
        let lines: Vec<&str> = text.split("\r\n").collect();
        assert_eq!(lines[0], "genesis: phase hold");
        assert!(lines[1].starts_with("genesis: gate open to fefe:fefe:") && lines[1].ends_with(" 02:02:02:02:02:02"));
        assert_eq!(lines[2], format!("genesis: committed fleet {} epoch 7 rivals 2", "ab".repeat(32)));
        assert_eq!(lines[3], "genesis: joined");
        assert_eq!(lines[4], format!("genesis: configuration {} epoch 7 peers 3", "cd".repeat(32)));
        assert!(lines[5].starts_with("genesis: update refused: a signature of it"));
        assert_eq!(lines[6], "genesis: update refused: unknown");
        assert_eq!(lines[7], "genesis: isolated");
        assert_eq!(lines[8], "genesis: rejoined");
        assert_eq!(lines[9], "genesis: fault mesh died; started anew (2 so far, 77 s after power-up)");
        assert_eq!(lines[10], "genesis: fault net hung; started anew in 8 s (2 so far, 77 s after power-up)");
        let out = "it stays down, with a try an hour (2 so far, 77 s after power-up)";
        assert_eq!(lines[11], format!("genesis: fault claim did not answer; {out}"));
        assert_eq!(
            lines[12],
            "genesis: fault the network card's address 33:33:33:33:33:33 is no station's; give it another"
        );
        assert_eq!(lines[13], "genesis: waits for samples: the source of randomness is silent or slow");
        assert_eq!(lines[14], "genesis: first boot: the identity is new");
        assert_eq!(lines[15], "genesis: boot 7: the identity of before");
        assert!(lines[16].starts_with("genesis: fault store damaged: a record is lost: "));
        assert!(lines[17].starts_with("genesis: fault store is out: "));
        assert_eq!(lines[18], "genesis: store answers again");
        assert_eq!(
            lines[19],
            "genesis: fault the configuration is not in the store; the node has no rules, and no peers but its authorities"
        );
        assert_eq!(lines[20..], [""]);
    }

    #[test]
    fn lifecycle_is_told_when_a_ring_that_was_full_has_been_read() {
        let mut rig = rig();
        let event = Event::new(Code::Phase, Phase::Hold as u32, &[]);
        let told = |rig: &mut Rig| {
            let mut told = Vec::new();
            rig.ports.signals(|peer| told.push(peer));
            told
        };
        // Nobody reads the device.
        rig.serial.1 = 0;
        while rig.lifecycle.send(event.as_bytes()).is_ok() {}
        (0..10).for_each(|_| assert!(rig.console.step(&mut rig.ports, &mut rig.serial)));
        while rig.lifecycle.send(event.as_bytes()).is_ok() {}
        assert_eq!(told(&mut rig), []);
        rig.serial.1 = 7;
        rig.run();
        assert_eq!(told(&mut rig), [Channel::Lifecycle]);
        rig.run();
        assert_eq!(told(&mut rig), []);
    }

    #[test]
    fn each_new_heartbeat_is_a_line_after_what_lifecycle_says() {
        let mut rig = rig();
        let beat = |rig: &mut Rig, beats| rig.workload.publish(&Heartbeat { beats, served: 9 });
        beat(&mut rig, 1);
        rig.lifecycle.send(Event::new(Code::Claimed, 0, &[]).as_bytes()).unwrap();
        assert_eq!(rig.run(), "genesis: claimed\r\ngenesis: workload: heartbeat 1\r\n");
        assert_eq!(rig.run(), "");
        // Pages served do not make a beat, a workload that started anew does.
        beat(&mut rig, 1);
        assert_eq!(rig.run(), "");
        beat(&mut rig, 0);
        beat(&mut rig, 2);
        assert_eq!(rig.run(), "genesis: workload: heartbeat 2\r\n");
        let mut told = Vec::new();
        rig.ports.signals(|peer| told.push(peer));
        assert_eq!(told, []);
    }

    #[test]
    fn the_ticket_is_shown_once_reads_back_and_leaves_nothing_behind() {
        let mut rig = rig();
        rig.keystore.publish(&TicketValue { present: 1, number: 7, secret: [0x5a; 32], fiduciary: [9; 32] });
        // Nothing is reported as shown while the device is stuck.
        rig.serial.1 = 0;
        for _ in 0..10 {
            rig.console.step(&mut rig.ports, &mut rig.serial);
        }
        rig.ports.signals(|peer| panic!("{peer:?} notified before the ticket was out"));
        assert_eq!(rig.shown.poll(), None);
        rig.serial.1 = 7;
        let text = rig.run();
        let line = text.lines().find_map(|line| line.strip_prefix("genesis: ticket ")).unwrap();
        assert!(Ticket::from_text(line).is_ok_and(|ticket| ticket.secret == [0x5a; 32]));
        assert_eq!(scanned(&text), line);
        let mut told = Vec::new();
        rig.ports.signals(|peer| told.push(peer));
        assert_eq!(told, [Channel::Keystore]);
        assert_eq!(rig.shown.poll(), Some(TicketShown { number: 7 }));
        assert!(rig.console.out.iter().all(|byte| *byte == 0));
        rig.keystore.wipe();
        assert_eq!(rig.run(), "");
    }

    /// What a camera reads off the lines: a picture of four points to a module.
    fn scanned(text: &str) -> String {
        let dark = |line: &str| -> Vec<_> {
            line.chars().map(|half| [matches!(half, ' ' | '▄'), matches!(half, ' ' | '▀')]).collect()
        };
        let lines: Vec<_> = text.lines().filter(|line| line.contains('█')).map(dark).collect();
        let is_dark = |x: usize, y: usize| lines.get(y / 8).is_some_and(|line| line[x / 4][y / 4 % 2]);
        let (width, height) = (4 * lines[0].len(), 8 * lines.len());
        let mut picture =
            rqrr::PreparedImage::prepare_from_greyscale(width, height, |x, y| if is_dark(x, y) { 0 } else { 255 });
        let codes = picture.detect_grids();
        assert_eq!(codes.len(), 1, "{text}");
        codes[0].decode().unwrap().1
    }

    /// Under the one mask each is read, whatever it says.
    #[test]
    fn whatever_is_shown_as_a_code_scans() {
        for number in 0..40u8 {
            let ticket = Ticket { secret: [number; 32], fiduciary: [number.wrapping_mul(37); 32] };
            let mut console = Console::new();
            console.show_ticket(&ticket);
            let shown = core::str::from_utf8(&console.out[..console.filled]).unwrap();
            assert_eq!(scanned(shown).as_bytes(), &*ticket.to_text());
            let fingerprint = format!("{:064X}", u128::from(number) << 100);
            let mut console = Console::new();
            console.show_qr(&fingerprint);
            assert_eq!(scanned(core::str::from_utf8(&console.out[..console.filled]).unwrap()), fingerprint);
        }
    }

    proptest! {
        #[test]
        fn any_event_bytes_give_whole_lines(bytes in prop::collection::vec(any::<u8>(), 0..120), code in 0u32..24) {
            let mut rig = rig();
            rig.lifecycle.send(&bytes).unwrap();
            let number = u32::from(bytes.first().copied().unwrap_or(0));
            let event = Event { code, ..Event::new(Code::Lost, number, &[&bytes]) };
            rig.lifecycle.send(event.as_bytes()).unwrap();
            rig.serial.1 = 4096;
            let text = rig.run();
            prop_assert!(text.is_empty() || text.ends_with("\r\n"));
        }
    }
}
