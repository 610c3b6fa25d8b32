//! The administrator's side: makes the administrative fiduciary key, finds nodes, claims them, and keeps the registry of what it has claimed.
//!
//! It refuses to claim what it cannot tell is meant: by ticket only the node that the ticket names, under an image's
//! anchor only what the operator has named. The program is `os-network-admin`; this library is the same in parts, for tests.
//!
//! The modules import in one direction, each only those before it: `base` (what all use, and the link), `registry` (what was
//! claimed), `output` (what is printed), `claim` (finding and pairing), `fleet` (what follows for claimed nodes), `mesh`
//! (this host's end of it), `cli`.

pub mod base;
pub mod claim;
pub mod cli;
pub mod fleet;
pub mod mesh;
pub mod output;
pub mod registry;
