//! What the domains that make frames have to know of the link: who may be on it, how long a frame may be, and how one
//! is built. Nothing here takes a frame apart.
//!
//! `perimeter` knows the same things a second time, on purpose: the filter and what it filters must not fail together.
//! Its tests compare the two.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod frames;
mod station;
#[cfg(test)]
mod tests;

pub use frames::{
    DATAGRAM, HEADERS, HOP_LIMIT, NEIGHBOUR, NextHeader, ON_LINK, UdpPorts, advertisement, datagram, ipv6, solicitation,
};
pub use station::{Station, is_host, is_link_local, is_unicast};

/// Bytes of payload that a frame carries, at most.
pub const MTU: usize = 1500;
/// Bytes of the longest frame, without its check sequence.
pub const MAX_FRAME: usize = frames::ETHERNET_HEADER + MTU;
