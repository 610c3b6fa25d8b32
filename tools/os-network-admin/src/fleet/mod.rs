//! What the authority does with its fleet once nodes are claimed: addresses, configurations, policy, commands, updates,
//! telemetry, revocation.

pub mod account;
pub mod delivery;
mod pairing;
pub mod peer;
pub mod rules;
pub mod show;
mod view;

pub use view::{Behind, Owed, Unworkable, View, endpoint, socket};
