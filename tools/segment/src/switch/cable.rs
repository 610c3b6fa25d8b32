//! What goes over a switch's cables, and what can befall it there.

use std::{
    sync::Arc,
    time::{Duration, SystemTime},
};

/// The longest frame that is passed on: a jumbo frame. Longer ones are dropped and counted.
pub const MAX_FRAME: usize = 9216;
/// Frames that wait for a port. More are dropped and counted.
pub const MAX_WAITING: usize = 1024;

/// Where a frame is, as an impairment sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// The port has sent it. It is recorded already.
    FromPort,
    /// It is about to go to the port.
    ToPort,
}

/// What an impairment makes of a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Pass,
    Drop,
    /// Passes after a while. The order of a port's frames is kept.
    After(Duration),
}

/// A bad cable between a port and the hub: sees each frame, may change it, and says what becomes of it.
pub type Impairment = Box<dyn FnMut(Way, &mut Vec<u8>) -> Fate + Send>;

/// A recorded frame, and the port that sent it.
#[derive(Debug, Clone)]
pub struct Frame {
    pub port: Arc<str>,
    pub at: SystemTime,
    pub bytes: Arc<[u8]>,
}

/// What happened to a port's frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counters {
    /// Frames from the port.
    pub received: u64,
    /// Frames that the port's endpoint took.
    pub delivered: u64,
    /// Frames lost because the port did not read.
    pub overrun: u64,
    /// Frames lost because nobody was at the endpoint.
    pub absent: u64,
    /// Datagrams from another path than the port's, empty or too long.
    pub stray: u64,
    /// Frames lost to the impairment.
    pub impaired: u64,
}
