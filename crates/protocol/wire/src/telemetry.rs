//! Telemetry: one fixed record, node to authority, UDP 8091 inside the tunnel.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Phase, U16, U32, U64, command::Operation};

pub const SCHEMA: u16 = 2;

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
        /// The update's signature, target, epoch, counter or hash does not hold.
        Refused = 4, "refused";
        /// The configuration cannot be read.
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
            Self::NotStaged => "the update is not staged whole",
            Self::Refused => "the update's signature, target, epoch, counter or hash does not hold",
            Self::Unreadable => "the configuration cannot be read",
            Self::Store => "the update could not be stored",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Telemetry {
    /// [`SCHEMA`].
    pub schema: U16,
    /// [`Phase`] as a number.
    pub phase: u8,
    pub isolated: u8,
    /// [`CommandResult`] of the last command, as a number.
    pub result: u8,
    /// Its [`Operation`], as a number.
    pub operation: u8,
    pub zero: [u8; 2],
    /// Counter of the last applied command; 0 before the first since power-up.
    pub counter: U32,
    /// Rises with every record since power-up.
    pub sequence: U32,
    /// First bytes of F.
    pub node: [u8; 8],
    /// First bytes of the hash of the configuration that is in force.
    pub configuration: [u8; 8],
    pub epoch: U64,
    pub uptime_ms: U64,
    /// Inner packets and bytes, all peers.
    pub received: U64,
    pub received_bytes: U64,
    pub sent: U64,
    pub sent_bytes: U64,
    /// Completed handshakes.
    pub handshakes: U64,
    /// Outer datagrams that were no peer's: malformed, unauthentic, replayed.
    pub outer_dropped: U64,
    /// Inner packets that policy did not name.
    pub policy_dropped: U64,
    /// Commands and chunks that were not obeyed: replayed, of another target, with a wrong MAC.
    pub commands_dropped: U64,
    /// Beats of the workload that were counted since power-up.
    pub heartbeat: U64,
    /// Frames from the link that were not whole: lengths that disagree or that no frame has, a checksum that does not fit.
    /// This and the next three count since the domain that dropped them was started, up to the record before.
    pub frames_malformed: U64,
    /// Frames from the link that the phase, the gate or the configuration does not let in.
    pub frames_refused: U64,
    /// Frames that a domain of the node should not have handed over, and broken rings. A sound node has next to none.
    pub frames_own: U64,
    /// Frames for which a ring in the node had no room, either way.
    pub frames_full: U64,
    /// Datagrams and packets that passed and were lost: no way to the peer, no neighbour, no room in the next ring.
    pub lost: U64,
}

const _: () = assert!(size_of::<Telemetry>() == 160);

impl Telemetry {
    pub fn parse(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_bytes(bytes).ok().filter(|record| record.schema.get() == SCHEMA && record.zero == [0; 2])
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
}

#[cfg(test)]
mod tests {
    use zerocopy::FromZeros;

    use super::*;

    #[test]
    fn a_record_has_its_length_and_schema() {
        let mut record = Telemetry::new_zeroed();
        assert!(Telemetry::parse(record.as_bytes()).is_none());
        record.schema = U16::new(SCHEMA);
        assert_eq!(Telemetry::parse(record.as_bytes()), Some(&record));
        assert!(Telemetry::parse(&record.as_bytes()[..159]).is_none());
        assert!(Telemetry::parse(&[record.as_bytes(), &[0]].concat()).is_none());
    }
}
