//! Whole cores with fake domains around them, joined by a link to members that others drive.

mod commands;
mod domains;
mod link;
mod membership;
mod outsider;
mod packets;
mod policies;
mod random;
mod world;
