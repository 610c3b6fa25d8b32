//! The words for each event. People and programs read them: `docs/lab.md` lists every line.

use core::{
    fmt::{Result, Write},
    net::Ipv6Addr,
};

use calls::{
    Domain,
    console::{Event, code},
    keystore::{anchor, state, test},
};
use wire::{Fingerprint, Hex, Phase, telemetry::result};
use zerocopy::FromBytes;

pub fn read(bytes: &[u8]) -> Option<Event> {
    Event::read_from_bytes(bytes).ok()
}

/// The fingerprint that is shown as a QR code too: where there is no ticket that holds F.
pub fn shown_fingerprint(event: &Event) -> Option<Fingerprint> {
    let image = event.code == code::IDENTITY && event.number == u32::from(anchor::IMAGE);
    image.then(|| Fingerprint::of(&first(&event.data)))
}

pub fn write(out: &mut impl Write, event: &Event) -> Result {
    let Event { number, data, .. } = event;
    match event.code {
        code::PHASE => {
            line(out, format_args!("phase {}", Phase::from_number(u64::from(*number)).map_or("unknown", Phase::name)))
        }
        code::IDENTITY => {
            let key = first(data);
            let anchor = if *number == u32::from(anchor::IMAGE) { "image" } else { "ticket" };
            line(out, format_args!("identity {} anchor {anchor}", Hex(&key)))?;
            line(out, format_args!("fingerprint {}", Fingerprint::of(&key)))
        }
        code::LINK => line(out, format_args!("link {}", place(data))),
        code::FAULT => line(out, format_args!("fault {}", fault(*number, data[0]))),
        code::GATE_OPEN => line(out, format_args!("gate open to {}", place(data))),
        code::GATE_CLOSED => line(out, format_args!("gate closed: {}", closed(*number))),
        code::COMMITTED => {
            let fleet: [u8; 16] = first(data);
            let epoch = epoch(data, 16);
            line(out, format_args!("committed fleet {} epoch {epoch} rivals {number}", Hex(&fleet)))
        }
        code::CLAIMED => line(out, format_args!("claimed")),
        code::RIVAL => line(out, format_args!("rival turned away, {number} so far")),
        code::KEYSTORE_SILENT => line(out, format_args!("fault keystore does not answer; power-cycle the node")),
        code::MISBEHAVED => line(out, format_args!("fault {} broke the rules of its channel", domain(*number))),
        code::DIED => line(out, format_args!("fault {} died; power-cycle the node", domain(*number))),
        code::JOINED => line(out, format_args!("joined")),
        code::CONFIGURED => {
            let hash: [u8; 32] = first(data);
            line(out, format_args!("configuration {} epoch {} peers {number}", Hex(&hash), epoch(data, 32)))
        }
        code::UPDATE_REFUSED => line(out, format_args!("update refused: {}", refused(*number))),
        code::ISOLATED => line(out, format_args!("{}", if *number == 1 { "isolated" } else { "rejoined" })),
        code::LOST => line(out, format_args!("{number} events lost")),
        _ => line(out, format_args!("event {} {number}", event.code)),
    }
}

fn line(out: &mut impl Write, words: core::fmt::Arguments<'_>) -> Result {
    out.write_fmt(format_args!("genesis: {words}\r\n"))
}

fn first<const N: usize>(data: &[u8; 64]) -> [u8; N] {
    const { assert!(N <= 64) };
    let mut bytes = [0; N];
    bytes.copy_from_slice(&data[..N]);
    bytes
}

/// The eight bytes at `at`.
fn epoch(data: &[u8; 64], at: usize) -> u64 {
    data.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// An address and a MAC.
fn place(data: &[u8; 64]) -> impl core::fmt::Display {
    let ip = Ipv6Addr::from(first::<16>(data));
    let mut mac = [0; 6];
    mac.copy_from_slice(&data[16..22]);
    Place(ip, mac)
}

struct Place(Ipv6Addr, [u8; 6]);

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> Result {
        write!(f, "{} ", self.0)?;
        for (i, byte) in self.1.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

fn fault(number: u32, failed: u8) -> &'static str {
    let startup = u32::from(state::NO_ENTROPY);
    let later = u32::from(state::ENTROPY_LOST);
    match (number, failed) {
        (n, test::REPETITION) if n == startup => {
            "entropy failed the repetition count test at start: no key was made; power-cycle or replace the source"
        }
        (n, _) if n == startup => {
            "entropy failed the adaptive proportion test at start: no key was made; power-cycle or replace the source"
        }
        (n, test::REPETITION) if n == later => {
            "entropy failed the repetition count test: the node is sealed; power-cycle or replace the source"
        }
        (n, _) if n == later => {
            "entropy failed the adaptive proportion test: the node is sealed; power-cycle or replace the source"
        }
        (n, _) if n == u32::from(state::NO_STORE) => "the identity could not be stored: the node stays blind",
        (n, _) if n == u32::from(state::BAD_ANCHOR) => {
            "the image's anchor is damaged: the node stays blind; rebuild it"
        }
        _ => "unknown",
    }
}

fn closed(reason: u32) -> &'static str {
    use calls::{console::closed as gate, lifecycle::end};
    match reason {
        gate::DONE => "done",
        end::REJECTED => "the peer broke the exchange",
        end::DEADLINE => "the claim took too long",
        end::CLOSED => "the peer went away",
        end::INTERNAL => "a domain did not answer",
        gate::EXPIRED => "nobody came with the token in time",
        gate::REPLACED => "opened anew by the same peer",
        gate::SEALED => "the node is sealed",
        _ => "unknown",
    }
}

fn refused(number: u32) -> &'static str {
    match u8::try_from(number) {
        Ok(result::REFUSED) => "its signature, target, epoch or counter does not hold",
        Ok(result::UNREADABLE) => "its configuration cannot be read",
        Ok(result::STORE) => "it could not be stored",
        _ => "unknown",
    }
}

fn domain(number: u32) -> &'static str {
    Domain::from_number(number.into()).map_or("a domain", Domain::name)
}
