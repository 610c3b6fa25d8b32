//! The pairing registry and the rising counter, in one SQLite file: nodes, fleets, and who is in them.

mod audit;
mod backup;
mod carry;
mod cost;
mod file;
mod fleet;
mod fleets;
mod list;
mod logged;
mod member;
mod members;
mod node;
mod nodes;
mod pack;
mod places;
mod receipts;
mod records;
mod revision;
mod schema;
mod seen;
mod stamp;
mod wanted;

pub use audit::{Bad, Entry, Event, Field, Head, Joined, Kind, Outcome, Signed, Signer, Tag, Value, Verdict, Verifier};
pub use backup::{FromBackup, Restored};
pub use cost::{Cost, Counter};
pub use file::Registry;
pub use fleet::{AUTHORITY, Fleet, NETWORK, Network, Rules};
pub use fleets::Changed;
pub use list::{Changes, ClaimedAt, NodeMember};
pub use member::{COUNTER_AHEAD, Member, MeshAddress, NewMember, Said, Who};
pub use node::{Accepted, AnchorKind, NewNode, Node, State};
pub use nodes::Handed;
pub use receipts::{MAX_RECEIPTS, Parting};
pub use seen::{Doubt, Fallen, Twice};
pub use wanted::{First, Other, between, rules};

#[cfg(test)]
mod tests;
