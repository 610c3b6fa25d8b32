//! `mesh`: WireGuard and the inner network of a node that is a member of a fleet: commands in, telemetry out, and the
//! workload's flows as the policy names them. It holds session keys. The static key is the keystore's, and so is
//! the decision about a command; what a new configuration is worth lifecycle decides.
//!
//! What it never does:
//! - send, answer or arm its alarm without a membership: when that goes, every session key goes;
//! - talk on the link to anyone but its stations, or answer what is not authentic with anything but a solicited advertisement;
//! - take a packet whose source is not the peer's, or forward one from a peer to a peer;
//! - answer what comes to the port of commands;
//! - let the workload send what no rule or flow names: to the authority that leaves telemetry, which is made here
//!   of a fixed record (`telemetry`), unless a rule says otherwise.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod command;
mod inner;
mod keys;
mod member;
mod outer;
mod receipts;
pub mod shell;
mod staging;
mod telemetry;
#[cfg(test)]
mod tests;
mod tunnel;

use calls::{
    alarm::Alarm,
    drops::{Drops, Reason},
    keystore::CommandReply,
    lifecycle::{ApplyRequest, for_mesh as lifecycle},
    mesh::{Account, Heartbeat, Membership, Stations, Tenancy},
    params::{Params, micros},
};
use shm::{
    Micros, cell,
    mailbox::{self, CallError, Patience},
    ring,
};
use wire::{
    Key, U16, U32, U64,
    command::Operation,
    telemetry::{CommandResult, SCHEMA, Telemetry},
};
use wireguard::Refused;
use zerocopy::FromZeros;
use zeroize::Zeroize;

use inner::Inner;
use keys::{Answer, Keys, Question};
use member::Member;
use receipts::Receipts;
use telemetry::{Beats, Path, Report};
use tunnel::Tunnel;

/// One step takes at most so many frames, and as many packets of the workload.
const BATCH: usize = 16;
/// Lifecycle has so many microseconds to answer: it asks the keystore, which commits.
const PATIENCE: Patience = Patience { each: 5_000_000, tries: 2 };
/// What failed is tried again after so many microseconds.
const RETRY_MICROS: Micros = 1_000_000;
/// Two records that nobody asked for are at least so many microseconds apart, whatever the parameters say.
const REPORT_MICROS: Micros = 10_000;

/// Its channels, by who is at the other end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Channel {
    Keystore,
    Lifecycle,
    Perimeter,
    Workload,
    Timer,
}

pub struct Ports<'a> {
    pub keystore: mailbox::Client<'a>,
    pub lifecycle: mailbox::Client<'a>,
    pub membership: cell::Reader<'a, Membership>,
    /// Ethernet frames.
    pub perimeter: ring::Duplex<'a, { ring::FRAME_SLOT }>,
    pub stations: cell::Writer<'a, Stations>,
    /// Frames that never came here. Looked at when a record is made: nobody is woken for it.
    pub drops: cell::Reader<'a, Drops>,
    /// What the node has been through. Looked at likewise.
    pub account: cell::Reader<'a, Account>,
    /// Inner IP packets.
    pub workload: ring::Duplex<'a, { ring::FRAME_SLOT }>,
    pub tenancy: cell::Writer<'a, Tenancy>,
    pub heartbeat: cell::Reader<'a, Heartbeat>,
    pub alarm: Alarm<'a>,
}

impl Ports<'_> {
    pub fn signals(&mut self, mut notify: impl FnMut(Channel)) {
        let signals = [
            (Channel::Keystore, self.keystore.take_signal()),
            (Channel::Lifecycle, self.lifecycle.take_signal()),
            // Both signals are to be taken.
            (Channel::Perimeter, self.perimeter.take_signal() | self.stations.take_signal()),
            (Channel::Workload, self.workload.take_signal() | self.tenancy.take_signal()),
            (Channel::Timer, self.alarm.take_signal()),
        ];
        signals.into_iter().filter(|(_, signal)| *signal).for_each(|(peer, _)| notify(peer));
    }
}

/// What a [`Mesh`] works in, too large for the stack of a small domain. The platform keeps it and lends it once: on seL4 it
/// is a region of its own, `mesh_memory` in `system.xml`, since a static of that size would be in the image.
pub struct Memory {
    input: [u8; ring::capacity(ring::FRAME_SLOT)],
    tunnel: Tunnel,
    inner: Inner,
}

impl Memory {
    pub const fn new() -> Self {
        Self { input: [0; _], tunnel: Tunnel::new(), inner: Inner::new() }
    }
}

impl Default for Memory {
    fn default() -> Self {
        Self::new()
    }
}

/// What lifecycle has been asked.
enum Asking {
    Nothing,
    Joined,
    /// For this command.
    Apply(CommandReply),
}

/// How far the authority's first handshake is told.
#[derive(PartialEq, Eq)]
enum Joined {
    NotYet,
    /// Lifecycle is to be told from this time on.
    Since(Micros),
    Told,
}

impl Joined {
    /// A session with the peer at this place is known to be live.
    fn confirm(&mut self, now: Micros, place: Option<usize>, inner: &Inner) {
        if *self == Self::NotYet && place.is_some_and(|place| inner.authority(place).is_some()) {
            *self = Self::Since(now);
        }
    }
}

pub struct Mesh<'a> {
    every: Micros,
    memory: &'a mut Memory,
    member: Option<Member>,
    keys: Keys,
    /// W's public half, and the workload's seed: there once the keystore has told.
    public: Option<Key>,
    seed: Option<u64>,
    /// The keystore is not asked for randomness before.
    ask_at: Micros,
    /// Randomness has come that is younger than the step of a handshake that the keystore is to be asked about.
    renewed: bool,
    asking: Asking,
    joined: Joined,
    started: Option<Micros>,
    report_at: Micros,
    receipts: Receipts,
    sequence: u32,
    beats: Beats,
    drops: Drops,
    account: Account,
}

impl<'a> Mesh<'a> {
    pub fn new(memory: &'a mut Memory, params: &Params) -> Self {
        Self {
            every: micros(params.telemetry_ms).max(REPORT_MICROS),
            memory,
            member: None,
            keys: Keys::new(),
            public: None,
            seed: None,
            ask_at: 0,
            renewed: false,
            asking: Asking::Nothing,
            joined: Joined::NotYet,
            started: None,
            report_at: 0,
            receipts: Receipts::none(),
            sequence: 0,
            beats: Beats::new(params),
            drops: Drops::NONE,
            account: Account::new_zeroed(),
        }
    }

    /// Returns true if more is to be done at once.
    pub fn step(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        if self.started.is_none() {
            // A predecessor's stations and tenancy are not this one's.
            self.leave(ports);
            self.started = Some(now);
        }
        if let Some(heartbeat) = ports.heartbeat.poll() {
            self.beats.hear(now, heartbeat);
        }
        // First the answer, then the membership: lifecycle publishes before it answers.
        self.hear_lifecycle(now, ports);
        if let Some(mut membership) = ports.membership.poll() {
            self.hear_membership(now, &membership, ports);
            // There are preshared keys in it.
            membership.configuration.zeroize();
        }
        if self.member.is_none() {
            return self.rest(ports);
        }
        self.hear_keystore(now, ports);
        let mut more = false;
        if self.memory.tunnel.is_up() {
            more |= self.hear_frames(now, ports);
            more |= self.hear_workload(now, ports);
            self.report(now, ports);
            more |= self.memory.tunnel.pump(now, &mut ports.perimeter);
        }
        self.ask_lifecycle(now, ports);
        self.ask_keystore(now, ports);
        ports.alarm.set(self.deadline(ports));
        more
    }

    fn deadline(&self, ports: &Ports<'_>) -> Option<Micros> {
        let up = self.memory.tunnel.is_up();
        let ask = (!self.keys.is_busy() && !up).then_some(self.ask_at);
        let tunnel = self.memory.tunnel.deadline(if self.renewed { 0 } else { self.ask_at });
        let tell = match (&self.asking, &self.joined) {
            (Asking::Nothing, Joined::Since(at)) => Some(*at),
            _ => None,
        };
        let report = up.then_some(self.report_at);
        let idle = up && !self.keys.is_busy();
        let receipt = self.receipts.deadline().filter(|_| idle);
        let command = self.memory.inner.commands.deadline().filter(|_| idle && self.hears_commands());
        let calls = [ports.keystore.deadline(), ports.lifecycle.deadline()];
        [ask, tell, report, receipt, command, tunnel].into_iter().chain(calls).flatten().min()
    }

    /// One `apply` at a time.
    fn hears_commands(&self) -> bool {
        !matches!(self.asking, Asking::Apply(_))
    }

    // --- membership

    fn hear_membership(&mut self, now: Micros, membership: &Membership, ports: &mut Ports<'_>) {
        let Some((member, configuration)) = Member::read(membership) else { return self.leave(ports) };
        match &self.member {
            Some(before) if !before.is_same_node(&member) => self.leave(ports),
            _ => {}
        }
        let Memory { tunnel, inner, .. } = &mut *self.memory;
        let before = self.member.replace(member);
        if before.is_none_or(|before| !before.is_same_network(&member)) {
            inner.configure(configuration, member::places(membership));
            tunnel.set_peers(now, member.own, &inner.configuration, &mut ports.stations);
        }
        inner.isolate(member.isolated);
        self.place_workload(ports);
        if before.is_none() {
            self.joined = Joined::NotYet;
            self.ask_at = now;
        }
        if before.is_none_or(|before| before != member) {
            self.report_at = now;
        }
    }

    /// The node is in no fleet any more: nothing stays of it.
    fn leave(&mut self, ports: &mut Ports<'_>) {
        let Memory { tunnel, inner, input } = &mut *self.memory;
        tunnel.stop(&mut ports.stations);
        inner.forget();
        input.fill(0);
        self.keys.forget(&mut ports.keystore);
        ports.lifecycle.abandon();
        self.asking = Asking::Nothing;
        self.renewed = false;
        (self.member, self.public, self.seed) = (None, None, None);
        self.joined = Joined::NotYet;
        self.place_workload(ports);
    }

    /// Without a membership: whatever comes is dropped. Returns true while something may be left.
    fn rest(&mut self, ports: &mut Ports<'_>) -> bool {
        ports.alarm.set(None);
        let mut more = false;
        for ring in [&mut ports.perimeter, &mut ports.workload] {
            more |= (0..BATCH).all(|_| ring.recv(&mut self.memory.input) != Ok(None));
        }
        more
    }

    fn place_workload(&self, ports: &mut Ports<'_>) {
        let tenancy = match (&self.member, self.seed) {
            (Some(_), Some(seed)) if self.memory.tunnel.is_up() => {
                member::tenancy(&self.memory.inner.configuration, seed)
            }
            _ => Tenancy::new_zeroed(),
        };
        if tenancy != ports.tenancy.latest() {
            ports.tenancy.publish(&tenancy);
        }
    }

    // --- the keystore

    fn ask_keystore(&mut self, now: Micros, ports: &mut Ports<'_>) {
        if self.keys.is_busy() {
            return;
        }
        let free = self.hears_commands();
        let Memory { tunnel, inner, .. } = &mut *self.memory;
        let question = if !tunnel.is_up() {
            (now >= self.ask_at).then_some(if self.public.is_none() { Question::Key } else { Question::Random })
        } else {
            let mut command = || if free { inner.commands.next(now).map(Question::Command) } else { None };
            let owed = if self.keys.owes_command { command() } else { None };
            // Every handshake draws on randomness of its own: none that a saved state of the machine knew.
            let handshake = || {
                if core::mem::take(&mut self.renewed) {
                    return tunnel.poll_static(now).map(Question::Static);
                }
                (now >= self.ask_at && tunnel.has_question(now)).then_some(Question::Random)
            };
            let receipt = || self.receipts.is_due(now).then_some(Question::Receipt);
            owed.or_else(handshake).or_else(command).or_else(receipt)
        };
        if let Some(question) = question {
            if matches!(question, Question::Receipt) {
                self.receipts.take(now);
            }
            self.keys.ask(now, &mut ports.keystore, question);
        }
    }

    fn hear_keystore(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let Some(answer) = self.keys.poll(now, &mut ports.keystore) else { return };
        let Memory { tunnel, inner, .. } = &mut *self.memory;
        match answer {
            Answer::Key(key) => self.public = Some(key),
            Answer::Random(random) => match (self.public, self.seed) {
                _ if tunnel.is_up() => {
                    tunnel.reseed(&random);
                    self.renewed = true;
                }
                (Some(_), None) => {
                    let [a, b, c, d, e, f, g, h, ..] = *random;
                    self.seed = Some(u64::from_le_bytes([a, b, c, d, e, f, g, h]));
                }
                (Some(public), Some(_)) => {
                    tunnel.start(public, random);
                    if let Some(member) = &self.member {
                        tunnel.set_peers(now, member.own, &inner.configuration, &mut ports.stations);
                    }
                    self.report_at = now;
                    self.place_workload(ports);
                }
                (None, _) => {}
            },
            Answer::Static(reply) => {
                let confirmed = tunnel.static_reply(now, Ok(reply), &mut ports.stations);
                self.joined.confirm(now, confirmed, inner);
            }
            Answer::Command(command) => self.obey(now, command, ports),
            Answer::Receipt(receipt) => tell(now, tunnel, inner, ports, |path| Report::receipt(path, &receipt)),
            Answer::Failed(Question::Static(_)) => {
                tunnel.static_reply(now, Err(Refused), &mut ports.stations);
            }
            Answer::Failed(Question::Command(_)) => inner.commands.refuse(),
            // There is none to show.
            Answer::Failed(Question::Receipt) => self.receipts = Receipts::none(),
            Answer::Failed(Question::Key | Question::Random) => self.ask_at = now.saturating_add(RETRY_MICROS),
        }
    }

    // --- commands

    fn obey(&mut self, now: Micros, command: CommandReply, ports: &mut Ports<'_>) {
        let Memory { tunnel, inner: Inner { commands, .. }, .. } = &mut *self.memory;
        let authority = commands.accept();
        let result = match command.operation() {
            // The keystore has committed isolation; it takes effect when lifecycle says so.
            Some(Operation::Status) => {
                if command.argument == 1 {
                    self.receipts.asked(now);
                }
                CommandResult::Done
            }
            Some(Operation::Isolate) => CommandResult::Done,
            Some(Operation::Rotate) => {
                tunnel.rotate(now);
                CommandResult::Done
            }
            Some(Operation::Apply) => {
                if authority.is_some_and(|authority| commands.staging.lock(authority, command.argument)) {
                    ports.lifecycle.abandon();
                    self.asking = Asking::Apply(command);
                    return self.ask_apply(now, ports);
                }
                CommandResult::NotStaged
            }
            None => CommandResult::Unknown,
        };
        self.finish(now, &command, result);
    }

    fn finish(&mut self, now: Micros, command: &CommandReply, result: CommandResult) {
        self.memory.inner.commands.finish(command, result);
        self.report_at = now;
    }

    // --- lifecycle

    fn ask_lifecycle(&mut self, now: Micros, ports: &mut Ports<'_>) {
        match (&self.asking, &self.joined) {
            (Asking::Nothing, Joined::Since(at)) if now >= *at => {
                ports.lifecycle.call::<lifecycle::Joined>(&(), now, PATIENCE);
                self.asking = Asking::Joined;
            }
            _ => {}
        }
    }

    fn ask_apply(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let Some(staged) = self.memory.inner.commands.staging.locked() else { return };
        let mut request = ApplyRequest::new_zeroed();
        if let Some(to) = request.staged.get_mut(..staged.len()) {
            to.copy_from_slice(staged);
            request.length = staged.len() as u64;
        }
        ports.lifecycle.call::<lifecycle::Apply>(&request, now, PATIENCE);
    }

    fn hear_lifecycle(&mut self, now: Micros, ports: &mut Ports<'_>) {
        match self.asking {
            Asking::Nothing => {}
            Asking::Joined => {
                let Some(outcome) = ports.lifecycle.poll::<lifecycle::Joined>(now) else { return };
                self.asking = Asking::Nothing;
                self.joined = match outcome {
                    Ok(()) => Joined::Told,
                    // The next session tells it anew.
                    Err(CallError::Refused(_)) => Joined::NotYet,
                    Err(_) => Joined::Since(now.saturating_add(RETRY_MICROS)),
                };
            }
            Asking::Apply(command) => {
                let result = match ports.lifecycle.poll::<lifecycle::Apply>(now) {
                    None => return,
                    Some(Ok(result)) => CommandResult::from_number(result.into()).unwrap_or(CommandResult::Store),
                    Some(Err(CallError::Refused(_))) => CommandResult::Refused,
                    Some(Err(_)) => CommandResult::Store,
                };
                self.asking = Asking::Nothing;
                let staging = &mut self.memory.inner.commands.staging;
                let applied = result == CommandResult::Done;
                if applied && staging.proves() {
                    self.receipts.made(now);
                }
                staging.unlock(applied);
                self.finish(now, &command, result);
            }
        }
    }

    // --- packets

    /// Returns true if more may wait.
    fn hear_frames(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        let Memory { tunnel, input, inner } = &mut *self.memory;
        for _ in 0..BATCH {
            let frame = match ports.perimeter.recv(&mut input[..]) {
                Ok(None) => return false,
                Ok(Some(len)) => input.get_mut(..len).unwrap_or_default(),
                // What broke the rules is lost; what comes next is looked at as ever.
                Err(shm::Misbehaved) => continue,
            };
            let arrived = tunnel.receive(now, frame, &mut ports.perimeter, &mut ports.stations);
            self.joined.confirm(now, arrived.confirmed, inner);
            if let Some((place, packet)) = arrived.packet {
                inner.take(now, place, packet, &mut ports.workload, tunnel, &mut ports.perimeter);
            }
        }
        true
    }

    /// Returns true if more may wait.
    fn hear_workload(&mut self, now: Micros, ports: &mut Ports<'_>) -> bool {
        let Memory { tunnel, input, inner } = &mut *self.memory;
        for _ in 0..BATCH {
            match ports.workload.recv(&mut input[..]) {
                Ok(None) => return false,
                Ok(Some(len)) => {
                    inner.send(now, input.get(..len).unwrap_or_default(), tunnel, &mut ports.perimeter);
                }
                Err(shm::Misbehaved) => inner.refuse_workload(),
            }
        }
        true
    }

    // --- telemetry

    fn report(&mut self, now: Micros, ports: &mut Ports<'_>) {
        let Some(member) = self.member.filter(|_| now >= self.report_at) else { return };
        self.report_at = now.saturating_add(self.every);
        self.sequence = self.sequence.wrapping_add(1);
        if let Some(drops) = ports.drops.poll() {
            self.drops = drops;
        }
        if let Some(account) = ports.account.poll() {
            self.account = account;
        }
        self.memory.inner.count_workload();
        let record = self.record(now, &member);
        let Memory { tunnel, inner, .. } = &mut *self.memory;
        tell(now, tunnel, inner, ports, |path| Report::new(path, &record));
    }

    fn record(&self, now: Micros, member: &Member) -> Telemetry {
        let Memory { tunnel, inner, .. } = &*self.memory;
        let done = &inner.commands.done;
        let counters = &tunnel.counters;
        let first = |bytes: &[u8; 32]| {
            let [a, b, c, d, e, f, g, h, ..] = *bytes;
            [a, b, c, d, e, f, g, h]
        };
        let account = &self.account;
        let mut record = Telemetry {
            schema: U16::new(SCHEMA),
            phase: member.phase,
            isolated: u8::from(member.isolated),
            result: done.result as u8,
            operation: done.operation,
            authority: done.authority,
            zero: 0,
            counter: U32::new(done.counter),
            sequence: U32::new(self.sequence),
            node: first(&member.fiduciary),
            configuration: first(&member.configuration),
            epoch: U64::new(member.epoch),
            uptime_ms: U64::new(now.saturating_sub(self.started.unwrap_or(now)) / 1000),
            received: U64::new(counters.received),
            received_bytes: U64::new(counters.received_bytes),
            sent: U64::new(counters.sent),
            sent_bytes: U64::new(counters.sent_bytes),
            handshakes: U64::new(counters.handshakes),
            heartbeat: U64::new(self.beats.count),
            boots: U64::new(account.boots),
            restarts: account.restarts.map(U32::new),
            fault_domain: account.fault_domain.try_into().unwrap_or_default(),
            fault_cause: account.fault_cause.try_into().unwrap_or_default(),
            zero_too: [0; 2],
            fault_count: U32::new(account.fault_count),
            fault_at_ms: U64::new(account.fault_at_ms),
            store_writes: U64::new(account.store_writes),
            store_erases: U64::new(account.store_erases),
            store_errors: U64::new(account.store_errors),
            command_floors: account.command_floors.map(U32::new),
            keystore: U32::new(account.keystore),
            dropped: self.drops.by_reason.map(U64::new),
            isolation: member.isolation,
            set: U64::new(member.sequence),
        };
        for (reason, count) in [
            (Reason::Outer, tunnel.outer_dropped()),
            (Reason::Policy, inner.dropped),
            (Reason::Command, inner.commands.dropped),
            (Reason::Lost, tunnel.lost().saturating_add(inner.lost)),
        ] {
            record.drop_for(reason, count);
        }
        record
    }
}

/// Tells every authority.
fn tell(now: Micros, tunnel: &mut Tunnel, inner: &Inner, ports: &mut Ports<'_>, report: impl Fn(&Path) -> Report) {
    for (place, peer) in inner.configuration.peers.iter().enumerate() {
        if let Some(path) = Path::to(&inner.configuration, peer) {
            tunnel.send(now, place, report(&path).packet(), &mut ports.perimeter);
        }
    }
}
