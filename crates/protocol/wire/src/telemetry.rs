//! Telemetry: one fixed record, node to authority, UDP 8091 inside the tunnel.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::{Phase, U16, U32, U64};

pub const SCHEMA: u16 = 1;

/// [`Telemetry::result`].
pub mod result {
    /// No command yet.
    pub const NONE: u8 = 0;
    pub const DONE: u8 = 1;
    /// No operation of that number.
    pub const UNKNOWN: u8 = 2;
    /// An `apply` that names nothing that is staged whole.
    pub const NOT_STAGED: u8 = 3;
    /// The update's signature, target, epoch or counter does not hold.
    pub const REFUSED: u8 = 4;
    /// The configuration cannot be read.
    pub const UNREADABLE: u8 = 5;
    /// The record could not be committed.
    pub const STORE: u8 = 6;
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Telemetry {
    /// [`SCHEMA`].
    pub schema: U16,
    /// [`Phase`] as a number.
    pub phase: u8,
    pub isolated: u8,
    /// One of [`result`], of the last command.
    pub result: u8,
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
    /// Heartbeat of the workload.
    pub heartbeat: U64,
}

const _: () = assert!(size_of::<Telemetry>() == 120);

impl Telemetry {
    pub fn parse(bytes: &[u8]) -> Option<&Self> {
        Self::ref_from_bytes(bytes).ok().filter(|record| record.schema.get() == SCHEMA && record.zero == [0; 2])
    }

    pub fn phase(&self) -> Option<Phase> {
        Phase::from_number(self.phase.into())
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
        assert!(Telemetry::parse(&record.as_bytes()[..119]).is_none());
        assert!(Telemetry::parse(&[record.as_bytes(), &[0]].concat()).is_none());
    }
}
