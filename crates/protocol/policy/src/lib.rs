//! What a node of a fleet is told about its mesh, and the one pure function that says which flows there are.
//!
//! Default deny: a flow is there because a rule names its direction, role, protocol and port, or because it is one of the
//! two that make a node governable (commands in, telemetry out). `mesh` decides with it on the node, and
//! `os-network-admin` shows with it what a policy means. The bytes of a [`Configuration`] are parsed only after their hash
//! has been verified, and never in `keystore`.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod configuration;
mod decide;
pub mod flows;
pub mod packet;
#[cfg(test)]
mod tests;
mod text;

pub use configuration::{
    Configuration, Endpoint, Invalid, KEEPALIVE_S, MAX_ADDRESSES, MAX_ALLOWED, MAX_PEERS, MAX_RULES, Peer, Prefix,
    Preshared, Seat, Underlay,
};
pub use decide::{Because, Direction, Flow, Protocol, RESERVED, Role, Rule, decide};
pub use flows::{Denied, Flows, Inbound};
pub use packet::{EchoKind, Flags, Malformed, Packet, Summary, Transport};
pub use text::RuleError;
