//! The authority's end of the mesh: its key, its interface, and the daemon that owns both.

pub mod control;
pub mod daemon;
pub mod device;
pub mod engine;
mod gate;
mod keeper;
mod kernel;
mod known;
pub mod run_files;
mod server;
