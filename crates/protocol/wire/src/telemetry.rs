//! Telemetry: one fixed record, node to authority, UDP 8091 inside the tunnel.

use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Phase, U16, U32, U64, command::Operation, order::Isolation};

pub const SCHEMA: u16 = 3;

crate::numbers! {
    /// What became of a command.
    CommandResult {
        /// There was no command yet.
        None = 0, "none";
        Done = 1, "done";
        /// No operation of that number.
        Unknown = 2, "unknown";
        /// An `apply` that names nothing that is staged whole.
        NotStaged = 3, "not_staged";
        /// A signature of what was staged, its target, set, epoch, counter, sequence or hash does not hold.
        Refused = 4, "refused";
        /// What was staged, or its configuration, cannot be read.
        Unreadable = 5, "unreadable";
        /// The record could not be committed.
        Store = 6, "store";
    }
}

impl CommandResult {
    /// The same for people.
    pub const fn explained(self) -> &'static str {
        match self {
            Self::None => "no command yet",
            Self::Done => "done",
            Self::Unknown => "no such operation",
            Self::NotStaged => "it is not staged whole",
            Self::Refused => "a signature of it, its target, set, epoch, counter, sequence or hash does not hold",
            Self::Unreadable => "it cannot be read",
            Self::Store => "it could not be stored",
        }
    }
}

crate::numbers! {
    /// Why a frame, a packet or a datagram was dropped. The first thirteen are those of frames from the link.
    Reason {
        /// The phase lets nothing through.
        Closed = 0, "closed";
        /// The frame is too short or too long, or its lengths disagree.
        Length = 1, "length";
        /// The Ethernet type is not IPv6's, or the version is another.
        NotIpv6 = 2, "not_ipv6";
        /// The next header is none of TCP, UDP and ICMPv6.
        Protocol = 3, "protocol";
        /// The message is not what neighbour discovery needs here: type, code, option, target.
        Neighbour = 4, "neighbour";
        /// The checksum does not fit, or there is none.
        Checksum = 5, "checksum";
        /// The source or destination port may not be there.
        Port = 6, "port";
        /// The datagram is of no kind that may go this way.
        Datagram = 7, "datagram";
        /// No TCP segment has these flags, or they must not go out.
        Flags = 8, "flags";
        /// Hop limit, traffic class or flow label is another than it has to be.
        Header = 9, "header";
        /// The source is no address that may send this.
        Sender = 10, "sender";
        /// The destination is no address that may get this.
        Receiver = 11, "receiver";
        /// The frame needs an open gate.
        Gate = 12, "gate";
        /// A domain of the node should not have handed it over, or broke its ring. A sound node has next to none.
        Own = 13, "own";
        /// A ring in the node had no room for the frame, either way.
        Full = 14, "full";
        /// The outer datagram was no peer's: malformed, unauthentic, replayed.
        Outer = 15, "outer";
        /// Policy did not name the inner packet.
        Policy = 16, "policy";
        /// The command or chunk was not obeyed: replayed, of another target, with a wrong MAC.
        Command = 17, "command";
        /// It passed and was lost: no way to the peer, no neighbour, no room in the next ring.
        Lost = 18, "lost";
        /// Of a record of schema 2, which says no more of frames from the link that were not whole.
        Malformed = 19, "malformed";
        /// Of a record of schema 2, which says no more of frames from the link that were not let in.
        Refused = 20, "refused";
    }
}

/// Room for reasons in a record.
pub const REASONS: usize = 22;
const _: () = assert!(Reason::ALL.len() <= REASONS);

crate::numbers! {
    /// Why a domain was started again.
    Cause {
        /// None was.
        None = 0, "none";
        /// It faulted, or its process ended.
        Died = 1, "died";
        /// A step of it did not end.
        Hung = 2, "hung";
        /// It did not answer.
        Silent = 3, "silent";
    }
}

impl Cause {
    /// The same for people.
    pub const fn explained(self) -> &'static str {
        match self {
            Self::Silent => "did not answer",
            _ => self.name(),
        }
    }
}

/// Room for domains in a record, by their numbers.
pub const DOMAINS: usize = 16;
/// What they are called; an empty name has nobody yet.
pub const DOMAIN_NAMES: [&str; DOMAINS] = [
    "",
    "keystore",
    "lifecycle",
    "entropy",
    "net",
    "perimeter",
    "beacon",
    "claim",
    "mesh",
    "workload",
    "timer",
    "console",
    "store",
    "",
    "",
    "",
];
/// Authorities of a node.
pub const AUTHORITIES: usize = 7;

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Telemetry {
    /// [`SCHEMA`]; 2: all that schema 2 does not have is zero.
    pub schema: U16,
    /// [`Phase`] as a number.
    pub phase: u8,
    pub isolated: u8,
    /// [`CommandResult`] of the last command, as a number.
    pub result: u8,
    /// Its [`Operation`], as a number.
    pub operation: u8,
    /// The place of the authority whose it was: two of them may use one counter.
    pub authority: u8,
    pub zero: u8,
    /// Counter of the last applied command; 0 before the first since power-up.
    pub counter: U32,
    /// Rises with every record since `mesh` was started.
    pub sequence: U32,
    /// First bytes of F.
    pub node: [u8; 8],
    /// First bytes of the hash of the configuration that is in force.
    pub configuration: [u8; 8],
    pub epoch: U64,
    /// Since `mesh` was started.
    pub uptime_ms: U64,
    /// Inner packets and bytes, all peers.
    pub received: U64,
    pub received_bytes: U64,
    pub sent: U64,
    pub sent_bytes: U64,
    /// Completed handshakes.
    pub handshakes: U64,
    /// Beats of the workload that were counted.
    pub heartbeat: U64,
    /// Power-ups of this identity; 0: not known.
    pub boots: U64,
    /// How often each domain was started again since power-up, by its number.
    pub restarts: [U32; DOMAINS],
    /// The last of these: the domain's number, [`Cause`] as a number, how often this domain, and milliseconds since power-up.
    pub fault_domain: u8,
    pub fault_cause: u8,
    pub zero_too: [u8; 2],
    pub fault_count: U32,
    pub fault_at_ms: U64,
    /// What the store wrote, erased and could not do since power-up.
    pub store_writes: U64,
    pub store_erases: U64,
    pub store_errors: U64,
    /// Of each authority, the counter that its next command must be above: as stored when the node was switched on, or the set
    /// came into force.
    pub command_floors: [U32; AUTHORITIES],
    /// The keystore's state, as a number.
    pub keystore: U32,
    /// What was dropped, by [`Reason`] as a number. Each counts since the domain that drops it was started, those of frames up to
    /// the record before.
    pub dropped: [U64; REASONS],
    /// By which command it is isolated, if it is.
    pub isolation: Isolation,
    /// Which of the fleet's authority sets is in force.
    pub set: U64,
}

const _: () = assert!(size_of::<Telemetry>() == 432);

/// A record of schema 2.
#[derive(Clone, Copy, FromBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Second {
    schema: U16,
    phase: u8,
    isolated: u8,
    result: u8,
    operation: u8,
    zero: [u8; 2],
    counter: U32,
    sequence: U32,
    node: [u8; 8],
    configuration: [u8; 8],
    epoch: U64,
    uptime_ms: U64,
    received: U64,
    received_bytes: U64,
    sent: U64,
    sent_bytes: U64,
    handshakes: U64,
    outer_dropped: U64,
    policy_dropped: U64,
    commands_dropped: U64,
    heartbeat: U64,
    frames_malformed: U64,
    frames_refused: U64,
    frames_own: U64,
    frames_full: U64,
    lost: U64,
}

impl From<&Second> for Telemetry {
    fn from(second: &Second) -> Self {
        let mut record = Self {
            schema: second.schema,
            phase: second.phase,
            isolated: second.isolated,
            result: second.result,
            operation: second.operation,
            counter: second.counter,
            sequence: second.sequence,
            node: second.node,
            configuration: second.configuration,
            epoch: second.epoch,
            uptime_ms: second.uptime_ms,
            received: second.received,
            received_bytes: second.received_bytes,
            sent: second.sent,
            sent_bytes: second.sent_bytes,
            handshakes: second.handshakes,
            heartbeat: second.heartbeat,
            ..Self::new_zeroed()
        };
        for (reason, count) in [
            (Reason::Outer, second.outer_dropped),
            (Reason::Policy, second.policy_dropped),
            (Reason::Command, second.commands_dropped),
            (Reason::Malformed, second.frames_malformed),
            (Reason::Refused, second.frames_refused),
            (Reason::Own, second.frames_own),
            (Reason::Full, second.frames_full),
            (Reason::Lost, second.lost),
        ] {
            record.drop_for(reason, count.get());
        }
        record
    }
}

impl Telemetry {
    /// A record of any schema, as one of the newest.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        if let Ok(second) = Second::ref_from_bytes(bytes) {
            return (second.schema.get() == 2 && second.zero == [0; 2]).then(|| second.into());
        }
        let record = Self::read_from_bytes(bytes).ok()?;
        (record.schema.get() == SCHEMA && (record.zero, record.zero_too) == (0, [0; 2])).then_some(record)
    }

    pub fn phase(&self) -> Option<Phase> {
        Phase::from_number(self.phase.into())
    }

    pub fn result(&self) -> Option<CommandResult> {
        CommandResult::from_number(self.result.into())
    }

    pub fn operation(&self) -> Option<Operation> {
        Operation::from_number(self.operation.into())
    }

    pub fn fault_cause(&self) -> Option<Cause> {
        Cause::from_number(self.fault_cause.into())
    }

    /// How many were dropped for this reason.
    pub fn dropped(&self, reason: Reason) -> u64 {
        self.dropped.get(usize::from(u8::from(reason))).map_or(0, |count| count.get())
    }

    /// Frames from the link that were not whole: length, checksum.
    pub fn malformed(&self) -> u64 {
        self.sum(&[Reason::Length, Reason::Checksum, Reason::Malformed])
    }

    /// Frames from the link that were whole, and that phase, gate or configuration did not let in.
    pub fn refused(&self) -> u64 {
        use Reason::{
            Closed, Datagram, Flags, Gate, Header, Neighbour, NotIpv6, Port, Protocol, Receiver, Refused, Sender,
        };
        self.sum(&[
            Closed, NotIpv6, Protocol, Neighbour, Port, Datagram, Flags, Header, Sender, Receiver, Gate, Refused,
        ])
    }

    fn sum(&self, reasons: &[Reason]) -> u64 {
        reasons.iter().fold(0, |sum, reason| sum.saturating_add(self.dropped(*reason)))
    }

    /// Says how many were dropped for this reason.
    pub fn drop_for(&mut self, reason: Reason, count: u64) {
        if let Some(place) = self.dropped.get_mut(usize::from(u8::from(reason))) {
            *place = U64::new(count);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    #[test]
    fn a_record_has_its_length_and_schema() {
        let mut record = Telemetry::new_zeroed();
        assert!(Telemetry::parse(record.as_bytes()).is_none());
        record.schema = U16::new(SCHEMA);
        assert_eq!(Telemetry::parse(record.as_bytes()), Some(record));
        assert!(Telemetry::parse(&record.as_bytes()[..431]).is_none());
        assert!(Telemetry::parse(&[record.as_bytes(), &[0]].concat()).is_none());
        // Of each schema only its own length.
        record.schema = U16::new(2);
        assert!(Telemetry::parse(record.as_bytes()).is_none());
        assert!(Telemetry::parse(&record.as_bytes()[..160]).is_some());
        record.schema = U16::new(SCHEMA);
        assert!(Telemetry::parse(&record.as_bytes()[..160]).is_none());
        record.authority = 6;
        assert!(Telemetry::parse(record.as_bytes()).is_some_and(|record| record.authority == 6));
        record.zero = 1;
        assert!(Telemetry::parse(record.as_bytes()).is_none());
    }

    fn sample(text: &str) -> Vec<u8> {
        let digits: Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        let byte = |pair: &[u8]| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap();
        digits.chunks(2).map(byte).collect()
    }

    /// A record as the programs of its time wrote it.
    #[test]
    fn a_record_of_schema_2_is_read_for_what_it_says() {
        let bytes = sample(include_str!("../samples/telemetry-2.hex"));
        let record = Telemetry::parse(&bytes).unwrap();
        assert_eq!((record.schema.get(), record.phase(), record.isolated), (2, Some(Phase::Claimed), 1));
        assert_eq!((record.result(), record.operation()), (Some(CommandResult::Done), Some(Operation::Isolate)));
        assert_eq!((record.counter.get(), record.sequence.get()), (1_700_000_000, 77));
        assert_eq!((record.node, record.configuration), ([0xa1; 8], [0xc2; 8]));
        assert_eq!((record.epoch.get(), record.uptime_ms.get(), record.boots.get()), (3, 123_456_789, 0));
        let traffic = [record.received, record.received_bytes, record.sent, record.sent_bytes].map(|count| count.get());
        assert_eq!((traffic, record.handshakes.get(), record.heartbeat.get()), ([10, 1000, 11, 1100], 12, 16));
        let dropped = Reason::ALL.iter().map(|reason| record.dropped(*reason)).collect::<Vec<_>>();
        assert_eq!(dropped, [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 19, 20, 13, 14, 15, 21, 17, 18]);
    }

    #[test]
    fn a_record_of_schema_3_is_what_it_was() {
        let bytes = sample(include_str!("../samples/telemetry-3.hex"));
        let record = Telemetry::parse(&bytes).unwrap();
        assert_eq!(record.as_bytes(), bytes);
        assert_eq!((record.schema.get(), record.boots.get(), record.epoch.get()), (3, 5, 3));
        assert_eq!(record.restarts.map(|count| count.get()), core::array::from_fn(|at| at as u32));
        assert_eq!((record.fault_domain, record.fault_cause()), (8, Some(Cause::Hung)));
        assert_eq!((record.fault_count.get(), record.fault_at_ms.get()), (8, 99_000));
        let store = [record.store_writes, record.store_erases, record.store_errors].map(|count| count.get());
        assert_eq!((store, record.keystore.get()), ([40, 41, 42], 9));
        assert_eq!(record.command_floors.map(|floor| floor.get()), core::array::from_fn(|at| 100 + at as u32));
        assert!(Reason::ALL.iter().all(|reason| record.dropped(*reason) == 200 + *reason as u64));
        // Each frame from the link is in one of both.
        let apart = [Reason::Own, Reason::Full, Reason::Outer, Reason::Policy, Reason::Command, Reason::Lost];
        let all: u64 =
            Reason::ALL.iter().filter(|reason| !apart.contains(reason)).map(|reason| record.dropped(*reason)).sum();
        assert_eq!(record.malformed() + record.refused(), all);
    }
}
