//! Ctrl-C and SIGTERM: once something is stored, a command that is ended by one says what.

use std::{io, net::Ipv6Addr};

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::{
    base::error::{Error, Exit},
    fleet::delivery::{Lane, News},
    registry::Member,
};

/// From when it is made on, the two signals end nothing by themselves.
pub struct Interrupt {
    interrupt: Signal,
    terminate: Signal,
}

impl Interrupt {
    pub fn watch() -> Result<Self, Error> {
        let stop = |error: io::Error| Error::new(Exit::Other, format!("signals cannot be awaited: {error}"));
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).map_err(stop)?,
            terminate: signal(SignalKind::terminate()).map_err(stop)?,
        })
    }

    /// Until one comes. May be dropped at any await.
    pub async fn came(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// A lane that is lost when the operator interrupts.
pub struct Interruptible<L> {
    pub lane: L,
    pub interrupt: Interrupt,
}

impl<L: Lane> Lane for Interruptible<L> {
    async fn send(&mut self, to: &Member, at: Ipv6Addr, datagram: &[u8]) -> Result<(), Error> {
        self.lane.send(to, at, datagram).await
    }

    async fn next(&mut self) -> Result<(i64, News), Error> {
        tokio::select! {
            next = self.lane.next() => next,
            () = self.interrupt.came() => Err(Error::new(Exit::Interrupted, "interrupted")),
        }
    }
}
