//! The native platform: a node as Linux processes on an Ethernet segment in software (docs/native.md).
//!
//! [`runner`] starts a system description, one process per domain; [`pd`] is the other side, the runtime
//! inside a domain. [`switch`] is the segment, and [`enter`] puts any program on it.

mod boot;
pub mod enter;
pub mod pd;
pub mod runner;
pub mod segment;
pub mod switch;
mod words;
