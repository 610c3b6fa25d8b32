//! The administrator's side: makes the administrative fiduciary key, finds nodes, claims them, and keeps the registry of what it has claimed.
//!
//! It refuses to claim what it cannot tell is meant: by ticket only the node that the ticket names, under an image's
//! anchor only what the operator has named. The program is `os-network-admin`; this library is the same in parts, for tests.

pub mod beacon;
pub mod choose;
pub mod claim;
pub mod cli;
pub mod commands;
pub mod error;
pub mod exchange;
mod files;
pub mod fleet;
pub mod input;
pub mod interface;
pub mod key;
pub mod link;
pub mod mesh;
pub mod output;
pub mod progress;
pub mod registry;
