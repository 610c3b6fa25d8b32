//! What the authority does with its fleet once nodes are claimed: addresses, configurations, policy, commands, updates,
//! telemetry, revocation.

pub mod peer;
pub mod rules;
pub mod show;
pub mod talk;
pub mod view;

pub use view::View;
