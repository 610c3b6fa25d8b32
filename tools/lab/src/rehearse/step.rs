//! The names of the steps, in their order.

use clap::Subcommand;
use serde::{Deserialize, Serialize};

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Each founder makes his key, from a seed of his own, and hands out its public half
    Keys,
    /// The anchor for the nodes' image: one finds them, two of three can give them away
    Anchor,
    /// The nodes are switched on, and show who they are
    Nodes,
    /// The genesis of the fleet: proposed, accepted by each founder, closed, verified by anybody
    Founding,
    /// Leave to own each node, proposed by the founder and signed by two of three
    Warrants,
    /// Each node is claimed by its warrant, with the signers away
    Claims,
    /// The founder's end of the mesh, and all nodes in it
    Mesh,
    /// The policy of the genesis for all nodes: an order that two of three sign
    Activation,
    /// Another set of authorities: one leaves, one is new; signed by two of three before and after, and by who is new
    Handover,
    /// One node is let go: an order that two of three sign; who finds its ticket claims it
    Release,
    /// Another is handed over to whom an anchor names, who claims it
    Transfer,
    /// The founder removes himself, and tells all nodes so
    Resignation,
    /// What the former founder kept is used, one thing after the other, and refused
    Refusals,
}

impl Step {
    pub const ALL: [Self; 13] = [
        Self::Keys,
        Self::Anchor,
        Self::Nodes,
        Self::Founding,
        Self::Warrants,
        Self::Claims,
        Self::Mesh,
        Self::Activation,
        Self::Handover,
        Self::Release,
        Self::Transfer,
        Self::Resignation,
        Self::Refusals,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Keys => "keys",
            Self::Anchor => "anchor",
            Self::Nodes => "nodes",
            Self::Founding => "founding",
            Self::Warrants => "warrants",
            Self::Claims => "claims",
            Self::Mesh => "mesh",
            Self::Activation => "activation",
            Self::Handover => "handover",
            Self::Release => "release",
            Self::Transfer => "transfer",
            Self::Resignation => "resignation",
            Self::Refusals => "refusals",
        }
    }
}
