//! What all the rest stands on: errors, files, keys, the link and its interface, and what the operator is told.

pub mod backup;
pub mod error;
pub mod files;
pub mod guard;
pub mod host;
pub mod input;
pub mod interface;
pub mod key;
pub mod link;
pub mod mesh_key;
pub mod paper;
pub mod path;
pub mod progress;
pub mod terminal;

// What the operator is told on the way.
pub use say;
