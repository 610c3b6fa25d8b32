//! The pairing registry and the rising counter, in one SQLite file: nodes, fleets, and who is in them.

mod file;
mod fleet;
mod member;
mod node;
mod schema;

pub use file::Registry;
pub use fleet::{AUTHORITY, Changed, Fleet, NETWORK, Network, Rules};
pub use member::{Inner, Member, NewMember, Who};
pub use node::{Accepted, AnchorKind, NewNode, Node, State};

#[cfg(test)]
mod tests;
