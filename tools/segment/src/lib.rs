//! A segment: an Ethernet in software, without root. [`switch`] joins nodes, machines and programs to it, [`record`]
//! keeps what went over it, and [`enter`] puts any program on it.

pub mod enter;
pub mod record;
pub mod switch;
