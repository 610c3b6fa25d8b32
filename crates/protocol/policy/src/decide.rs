//! Which flows there are.

use serde::{Deserialize, Serialize};
use wire::{COMMAND_PORT, TELEMETRY_PORT};

/// Who opens the flow, as the node sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Direction {
    In,
    Out,
}

/// What the other end is to the node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// The administrator's end of the mesh.
    Authority,
    /// Another node.
    Node,
    /// Any other member: a laptop, a server with a standard WireGuard.
    Peer,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Protocol {
    /// Echo, of IPv4 and IPv6, and nothing else.
    Icmp,
    Tcp,
    Udp,
}

/// Opens one kind of flow.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rule {
    pub direction: Direction,
    pub role: Role,
    pub protocol: Protocol,
    /// The port of the end that did not open the flow; 0 for ICMP.
    pub port: u16,
}

/// A flow: what its first packet says.
pub type Flow = Rule;

/// Why a flow is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Because {
    /// Commands and what they name, from an authority alone.
    Commands,
    /// Authority records, which as many as must have signed: whoever brings them.
    Records,
    /// Telemetry, to the authority alone.
    Telemetry,
    /// The rule at this place.
    Rule(usize),
}

/// The ports that no rule can name: they are the node's own.
pub const RESERVED: [u16; 2] = [COMMAND_PORT, TELEMETRY_PORT];

/// Whether there is such a flow, and why. An isolated node has flows with the authority only.
pub fn decide(rules: &[Rule], isolated: bool, flow: &Flow) -> Option<Because> {
    const COMMANDS: Flow =
        Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Udp, port: COMMAND_PORT };
    const TELEMETRY: Flow =
        Rule { direction: Direction::Out, role: Role::Authority, protocol: Protocol::Udp, port: TELEMETRY_PORT };
    if *flow == COMMANDS {
        return Some(Because::Commands);
    }
    if *flow == TELEMETRY {
        return Some(Because::Telemetry);
    }
    if isolated && flow.role != Role::Authority {
        return None;
    }
    if *flow == (Flow { role: flow.role, ..COMMANDS }) {
        return Some(Because::Records);
    }
    if flow.protocol == Protocol::Udp && RESERVED.contains(&flow.port) {
        return None;
    }
    rules.iter().position(|rule| rule == flow).map(Because::Rule)
}
