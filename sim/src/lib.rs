//! A whole node in one process, and many of them: the real domains, joined by what `system.xml` declares, on a virtual
//! clock, an in-memory segment, a simulated flash and an entropy source of a seed.
//!
//! [`Machine`] is one node under power: step a domain, kill one, look at its regions. [`World`] has many of them and hosts on
//! segments: run it step by step or until something holds, cut a node's power at a step, lose, double, delay, alter or forge
//! frames, print who said what to whom. The same seed and the same calls give the same trace to the byte: so a copy of a
//! world is the same script, run again to the same step.
//!
//! What needs two domains in a test is here, not in either of them.
#![forbid(unsafe_code)]

pub mod admin;
pub mod authority;
pub mod chance;
pub mod flash;
pub mod fleet;
mod hostile;
pub mod machine;
pub mod nor;
pub mod probe;
pub mod rng;
pub mod scenario;
pub mod segment;
pub mod station;
pub mod system;
pub mod trace;
pub mod world;

pub use flash::Flash;
pub use fleet::Administrator;
pub use machine::{Entropy, Machine, Schedule, Setup};
pub use rng::Rng;
pub use segment::{Arrival, Frame, Port};
pub use system::System;
pub use trace::Trace;
pub use world::{Host, Meddler, Plan, Stop, World};
