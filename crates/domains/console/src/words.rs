//! The words for each event. People and programs read them: `docs/lab.md` lists every line.

use core::{
    fmt::{Result, Write},
    net::Ipv6Addr,
};

use calls::{
    Domain,
    console::{Awaited, Code, Event, Rest},
    keystore::{AnchorKind, HealthTest, State, Store},
    lifecycle::Closed,
};
use wire::{
    Fingerprint, Hex, Phase,
    telemetry::{Cause, CommandResult},
};
use zerocopy::FromBytes;

pub fn read(bytes: &[u8]) -> Option<Event> {
    Event::read_from_bytes(bytes).ok()
}

/// The fingerprint that is shown as a QR code too: where there is no ticket that holds F.
pub fn shown_fingerprint(event: &Event) -> Option<Fingerprint> {
    let image = event.code() == Some(Code::Identity) && event.number == AnchorKind::Image as u32;
    image.then(|| Fingerprint::of(&first(&event.data)))
}

pub fn write(out: &mut impl Write, event: &Event) -> Result {
    let Event { number, data, .. } = event;
    let Some(code) = event.code() else {
        return line(out, format_args!("event {} {number}", event.code));
    };
    match code {
        Code::Phase => line(out, format_args!("phase {}", named(*number, Phase::from_number, Phase::name))),
        Code::Identity => {
            let key = first(data);
            let anchor = named(*number, AnchorKind::from_number, AnchorKind::name);
            line(out, format_args!("identity {} anchor {anchor}", Hex(&key)))?;
            line(out, format_args!("fingerprint {}", Fingerprint::of(&key)))
        }
        Code::Link => line(out, format_args!("link {}", place(data))),
        Code::Fault => fault(out, *number, data[0]),
        Code::GateOpen => line(out, format_args!("gate open to {}", place(data))),
        Code::GateClosed => {
            line(out, format_args!("gate closed: {}", named(*number, Closed::from_number, Closed::name)))
        }
        Code::Committed => {
            let fleet: [u8; 32] = first(data);
            let epoch = big(data, 32);
            line(out, format_args!("committed fleet {} epoch {epoch} rivals {number}", Hex(&fleet)))
        }
        Code::Claimed => line(out, format_args!("claimed")),
        Code::Rival => line(out, format_args!("rival turned away, {number} so far")),
        Code::KeystoreSilent => line(out, format_args!("fault keystore does not answer; power-cycle the node")),
        Code::Misbehaved => line(out, format_args!("fault {} broke the rules of its channel", domain(*number))),
        Code::Died => died(out, domain(*number), data),
        Code::Joined => line(out, format_args!("joined")),
        Code::Configured => {
            let hash: [u8; 32] = first(data);
            line(out, format_args!("configuration {} epoch {} peers {number}", Hex(&hash), big(data, 32)))
        }
        Code::UpdateRefused => {
            let why = named(*number, CommandResult::from_number, CommandResult::explained);
            line(out, format_args!("update refused: {why}"))
        }
        Code::Isolated => line(out, format_args!("{}", if *number == 1 { "isolated" } else { "rejoined" })),
        Code::Released => line(out, format_args!("released")),
        Code::BadLink => {
            let mac = Mac(mac(data));
            line(out, format_args!("fault the network card's address {mac} is no station's; give it another"))
        }
        Code::Waits => line(out, format_args!("waits for {}", named(*number, Awaited::from_number, Awaited::name))),
        Code::Origin if *number == 1 => line(out, format_args!("first boot: the identity is new")),
        Code::Origin => line(out, format_args!("boot {}: the identity of before", big(data, 0))),
        Code::Store => match Store::from_number((*number).into()) {
            Some(Store::Good) => line(out, format_args!("store answers again")),
            Some(Store::Down) => {
                line(out, format_args!("fault store is out: what has to be stored is refused; power-cycle the node"))
            }
            Some(Store::Doubtful) | None => line(
                out,
                format_args!("fault store does not say what it has: what hangs on it is refused; power-cycle the node"),
            ),
        },
        Code::Rest => line(out, format_args!("fault {}", named(*number, Rest::from_number, Rest::name))),
        Code::Lost => line(out, format_args!("{number} events lost")),
    }
}

fn named<T>(number: u32, read: fn(u64) -> Option<T>, name: fn(T) -> &'static str) -> &'static str {
    read(number.into()).map_or("unknown", name)
}

fn domain(number: u32) -> &'static str {
    named(number, Domain::from_number, Domain::name)
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
fn big(data: &[u8; 64], at: usize) -> u64 {
    data.get(at..).and_then(|rest| rest.first_chunk()).map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

/// An address and a MAC.
fn place(data: &[u8; 64]) -> impl core::fmt::Display {
    Place(Ipv6Addr::from(first::<16>(data)), Mac(mac(data)))
}

fn mac(data: &[u8; 64]) -> [u8; 6] {
    let mut mac = [0; 6];
    mac.copy_from_slice(&data[16..22]);
    mac
}

struct Place(Ipv6Addr, Mac);

impl core::fmt::Display for Place {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> Result {
        write!(f, "{} {}", self.0, self.1)
    }
}

struct Mac([u8; 6]);

impl core::fmt::Display for Mac {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> Result {
        for (i, byte) in self.0.iter().enumerate() {
            write!(f, "{}{byte:02x}", if i == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

fn died(out: &mut impl Write, domain: &str, data: &[u8; 64]) -> Result {
    let cause = named(data[0].into(), Cause::from_number, Cause::explained);
    let (pause, count, at) = (big(data, 8), big(data, 16), big(data, 24));
    let what = format_args!("{count} so far, {at} s after power-up");
    match (data[1], pause) {
        (1, _) => line(out, format_args!("fault {domain} {cause}; it stays down, with a try an hour ({what})")),
        (_, 0) => line(out, format_args!("fault {domain} {cause}; started anew ({what})")),
        _ => line(out, format_args!("fault {domain} {cause}; started anew in {pause} s ({what})")),
    }
}

fn fault(out: &mut impl Write, state: u32, failed: u8) -> Result {
    let test = named(failed.into(), HealthTest::from_number, HealthTest::name);
    match State::from_number(state.into()) {
        Some(State::NoEntropy) => line(
            out,
            format_args!(
                "fault entropy failed the {test} test at start: no key was made; power-cycle or replace the source"
            ),
        ),
        Some(State::EntropyLost) => line(
            out,
            format_args!("fault entropy failed the {test} test: the node is sealed; power-cycle or replace the source"),
        ),
        Some(State::EntropySilent) => line(
            out,
            format_args!(
                "fault entropy does not come: no hello, claim or handshake is made until it does; look at the source"
            ),
        ),
        Some(State::NoStore) => {
            line(out, format_args!("fault store fails: the node stays blind; power-cycle it or replace the flash"))
        }
        Some(State::StoreDamaged) => line(
            out,
            format_args!(
                "fault store damaged: a record is lost: the node stays blind and makes no second identity; \
                 power-cycle it, or erase the flash to begin anew"
            ),
        ),
        Some(State::StoreForeign) => line(
            out,
            format_args!(
                "fault store foreign: it holds what this board has not sealed: the node stays blind and leaves it; give \
                 the board its own flash and device secret, or erase the flash to begin anew"
            ),
        ),
        Some(State::BadAnchor) => {
            line(out, format_args!("fault the image's anchor is damaged: the node stays blind; rebuild it"))
        }
        Some(State::UnknownFormat) => line(
            out,
            format_args!(
                "fault store newer: a later version has written it: the node stays blind and leaves it; install that version"
            ),
        ),
        Some(State::Testing | State::Ready) | None => line(out, format_args!("fault unknown")),
    }
}
