//! The authority's end of the mesh: its key, its interface, and the daemon that owns both.

pub mod backend;
pub mod control;
pub mod daemon;
pub mod device;
pub mod engine;
mod filter;
mod firewall;
mod intake;
mod kernel;
mod look;
mod registry_thread;
pub mod run_files;
mod server;
mod snapshot;
mod stamp;
