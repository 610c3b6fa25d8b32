//! The phase of a node: its rules inside, its console and its telemetry name it.

crate::numbers! {
    Phase {
        /// Closed both ways.
        Blind = 0, "blind";
        /// First boot: hellos go out, an open is answered.
        Scan = 1, "scan";
        /// The node becomes a fleet of one: closed both ways while the record is made.
        Fork = 2, "fork";
        /// Silent; a find draws a hello, an open opens the gate.
        Hold = 3, "hold";
        /// A binding is committed but not acknowledged: as hold, for the owner.
        Committed = 4, "committed";
        /// The claim endpoint is closed for good.
        Claimed = 5, "claimed";
        /// Something failed for good: closed both ways until the next power-up.
        Sealed = 6, "sealed";
    }
}

impl Phase {
    /// The phase of this number; an unknown number is the closed phase.
    pub fn or_blind(number: u64) -> Self {
        Self::from_number(number).unwrap_or(Self::Blind)
    }

    /// Whether the node is a member of a fleet, with a mesh.
    pub const fn has_mesh(self) -> bool {
        matches!(self, Self::Committed | Self::Claimed)
    }

    /// Whether finds and opens are heard.
    pub const fn listens(self) -> bool {
        matches!(self, Self::Scan | Self::Hold | Self::Committed)
    }
}
