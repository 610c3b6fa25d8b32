//! Whole cores with fake domains around them, joined by a link to members that others drive.

mod commands;
mod domains;
mod membership;
mod outer;
mod outsider;
mod packets;
mod places;
mod policies;
mod random;
mod telemetry;
mod world;
