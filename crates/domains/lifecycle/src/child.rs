//! What the death of a domain means for the node.

use calls::{console::who, rules::Phase};

/// Those whose parent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    Entropy,
    Net,
    Perimeter,
    Beacon,
    Claim,
    Timer,
    Console,
    Mesh,
    Workload,
}

impl Child {
    pub const fn who(self) -> u32 {
        match self {
            Self::Entropy => who::ENTROPY,
            Self::Net => who::NET,
            Self::Perimeter => who::PERIMETER,
            Self::Beacon => who::BEACON,
            Self::Claim => who::CLAIM,
            Self::Timer => who::TIMER,
            Self::Console => who::CONSOLE,
            Self::Mesh => who::MESH,
            Self::Workload => who::WORKLOAD,
        }
    }

    /// Whether a node in this phase can no longer be what it is without it.
    pub const fn needed(self, phase: Phase) -> bool {
        match self {
            // A keystore that wants samples and gets none says so itself.
            Self::Entropy | Self::Console => false,
            // Without a mesh nobody reaches the node, and its workload goes on; without a workload it is still governed.
            Self::Mesh | Self::Workload => false,
            Self::Beacon | Self::Claim => !matches!(phase, Phase::Claimed),
            Self::Net | Self::Perimeter | Self::Timer => true,
        }
    }
}
