//! The three ways in which bytes cross between domains, and nothing else:
//!
//! - [`cell`]: one writer, latest value wins, nothing flows back;
//! - [`mailbox`]: a call with one outstanding request, a deadline and a "server restarted" outcome;
//! - [`ring`]: a pair of single-producer single-consumer rings for frames.
//!
//! Every region has exactly one writer; what a domain reads it maps read-only. The other end is
//! never trusted: lengths and indices are copied once into private memory, then checked, then
//! used, and a breach is a typed error that the caller handles. None of this can panic on bytes
//! that another domain wrote.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

pub mod cell;
pub mod mailbox;
pub mod region;
pub mod ring;

pub use clock::Micros;
pub use region::{ReadOnly, ReadWrite};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// A fixed layout of which every bit pattern is a value: it can be copied in and out as bytes.
pub trait Plain: FromBytes + IntoBytes + Immutable + KnownLayout {}

impl<T: FromBytes + IntoBytes + Immutable + KnownLayout> Plain for T {}

/// The region that the system description gives is too small for what is to live in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TooSmall;

/// The other end broke the rules of the shared structure. What it sent is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Misbehaved;
