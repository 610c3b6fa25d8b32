//! What every shell needs: the regions, channels and numbers that `system.xml` gives this domain, the counter,
//! and the loop around a core's step. It knows no domain, no device and no board.
//!
//! All the `unsafe` of the shells is here, but for the devices'.
#![no_std]

mod clock;
mod parent;
mod region;
mod reset;
mod symbols;

pub use clock::{counter, now};
pub use parent::Parent;
use pd::Wake;
pub use pd::{Child, Watch, fits};
pub use region::{place, words};
pub use reset::STACK_END;
pub use sel4_microkit::Handler;
use sel4_microkit::{ChannelSet, Infallible, MessageInfo};
#[doc(hidden)]
pub use shm;

/// The words of the region whose symbols are `NAME` and `NAME_size`.
#[doc(hidden)]
#[macro_export]
macro_rules! region {
    ($name:ident) => {{
        let (vaddr, size) = ($crate::setvar!(stringify!($name)), $crate::setvar!(concat!(stringify!($name), "_size")));
        // SAFETY: both come from the description's one map of this symbol, and the symbol exists once in this domain.
        unsafe { $crate::words(vaddr, size) }
    }};
}

/// The region mapped at the symbol, of which this domain is a reader.
#[macro_export]
macro_rules! read_only {
    ($name:ident) => {
        $crate::shm::ReadOnly::new($crate::region!($name))
    };
}

/// The region mapped at the symbol, of which this domain is the one writer.
#[macro_export]
macro_rules! read_write {
    ($name:ident) => {
        $crate::shm::ReadWrite::new($crate::region!($name))
    };
}

/// A value in the region that the description gives to this domain alone, mapped at the symbol. A static would be in the
/// image, zeros and all.
#[macro_export]
macro_rules! place {
    ($name:ident, $make:expr) => {{
        let (vaddr, size) = ($crate::setvar!(stringify!($name)), $crate::setvar!(concat!(stringify!($name), "_size")));
        // SAFETY: both come from the description's one map of this symbol, the symbol exists once in this domain, and
        // nobody else maps the region.
        unsafe { $crate::place(vaddr, size, $make) }
    }};
}

/// The channel whose id the symbol holds.
#[macro_export]
macro_rules! channel {
    ($name:ident) => {
        $crate::Channel::new($crate::setvar!(stringify!($name)))
    };
}

/// The domain with its watch around it: `watched!(wires!(), Shell::new)`.
#[macro_export]
macro_rules! watched {
    ($wires:expr, $make:expr) => {{
        let wires = $wires;
        $crate::Watch::new($crate::read_write!(watch), wires.lifecycle_id).over($make(wires))
    }};
}

/// The child whose number the symbol `NAME_child` holds.
#[macro_export]
macro_rules! child {
    ($name:ident) => {
        $crate::Child($crate::setvar!(concat!(stringify!($name), "_child")))
    };
}

/// The own end of a channel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Channel(sel4_microkit::Channel);

impl Channel {
    pub const fn new(number: usize) -> Self {
        Self(sel4_microkit::Channel::new(number))
    }

    pub fn notify(self) {
        self.0.notify();
    }
}

impl pd::Channel for Channel {
    fn notify(self) {
        self.0.notify();
    }

    fn id(self) -> usize {
        self.0.index()
    }
}

/// A domain as the runtime sees it.
struct Running<D>(D);

/// Runs the domain, now and on every notification, until it says that there is nothing more to do at once.
pub fn start(domain: impl pd::Domain) -> impl Handler {
    let mut running = Running(domain);
    running.run(0, 0);
    running
}

impl<D: pd::Domain> Running<D> {
    fn run(&mut self, channels: u64, children: u64) {
        let mut wake = Wake { now: now(), channels, children };
        while self.0.step(&wake) {
            wake = Wake { now: now(), channels: 0, children: 0 };
        }
    }
}

impl<D: pd::Domain> Handler for Running<D> {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.run(channels.iter().fold(0, |bits, channel| bits | 1 << channel.index()), 0);
        Ok(())
    }

    /// No reply: the child stays where it is. Its message is a hint that it could have sent itself, so nothing in it is
    /// believed; the badge that says which child it is, is the kernel's.
    fn fault(&mut self, child: sel4_microkit::Child, message: MessageInfo) -> Result<Option<MessageInfo>, Infallible> {
        explain(&child, &message);
        self.run(0, 1 << child.index());
        Ok(None)
    }
}

/// Tells the kernel that an interrupt has been dealt with: the device may raise it again. Last, after the device was
/// told and drained.
pub fn done(interrupt: Channel) {
    // It fails only for a channel that is no interrupt.
    interrupt.0.irq_ack().unwrap_or_else(|_| panic!("no interrupt on this channel"));
}

/// Says on a debug kernel what a child's fault was.
fn explain(child: &sel4_microkit::Child, message: &MessageInfo) {
    sel4_microkit::debug_println!(
        "child {} faulted: kind {}, at {:#x}, address {:#x}",
        child.index(),
        message.label(),
        sel4_microkit::get_mr(0),
        sel4_microkit::get_mr(1)
    );
    let _ = (child, message);
}

/// Gives the rest of this period's budget away: returns in the next period.
pub fn rest() {
    sel4::r#yield();
}
