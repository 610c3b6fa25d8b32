//! The node on seL4 as a QEMU machine, from its image (`sysdesc`).
//!
//! It knows no protocol and looks at no frame: a machine has a console to read, a network socket, a source of
//! entropy and a device secret, as any board has.

pub mod machine;
mod memory;

use std::path::Path;

pub use machine::{Machine, Setup};
pub use memory::Memory;

/// The checkout that this program was built in.
fn project() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}
