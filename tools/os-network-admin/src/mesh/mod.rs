//! The authority's end of the mesh: its key, its interface, and the daemon that owns both.

pub mod key;
