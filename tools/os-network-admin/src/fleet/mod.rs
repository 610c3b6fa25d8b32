//! What the authority does with its fleet once nodes are claimed: addresses, configurations, policy, commands, updates,
//! telemetry, revocation.

pub mod account;
pub mod authority;
pub mod chain;
pub mod decree;
pub mod delivery;
pub mod genesis;
mod pairing;
pub mod papers;
pub mod parting;
pub mod peer;
pub mod rules;
pub mod share;
pub mod show;
mod view;
pub mod warrant;

pub use view::{Behind, Owed, Unworkable, View, endpoint, socket};
