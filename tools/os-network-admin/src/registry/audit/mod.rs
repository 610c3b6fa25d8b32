//! The log of every act and refusal: append-only, each entry with the hash of the one before, signed where the administrator's
//! key is at hand. An entry is stored in the transaction of the act that it tells of.

mod entry;
mod join;
mod log;
mod verify;

pub use entry::{Entry, Event, Field, Kind, Outcome, Signed, Tag, Value};
pub use join::Joined;
pub(super) use join::{join, verify};
pub use log::{Head, Signer};
pub(super) use log::{append, read};
pub use verify::{Bad, Verdict, Verifier};

#[cfg(test)]
mod tests;
