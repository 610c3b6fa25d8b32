//! What the authority does with its fleet once nodes are claimed: addresses, configurations, policy, commands, updates,
//! telemetry, revocation.

pub mod view;

pub use view::View;
