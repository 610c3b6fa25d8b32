//! The native platform: a node as Linux processes (docs/native.md).
//!
//! [`runner`] starts a system description, one process per domain; [`pd`] is the other side, the runtime
//! inside a domain.

mod boot;
pub mod flash;
pub mod pd;
pub mod runner;
mod words;
