//! What every shell needs: the regions, channels and numbers that `system.xml` gives this domain, the counter,
//! and the loop around a core's step. It knows no domain, no device and no board.
//!
//! All the `unsafe` of the shells is here, but for the devices'.
#![no_std]

mod clock;
mod region;

pub use clock::{counter, now};
pub use region::{place, words};
pub use sel4_microkit::{Channel, ChannelSet, Child, Handler, Infallible, MessageInfo};
#[doc(hidden)]
pub use shm;

/// The value that the system description gives to a symbol of this domain (`setvar_*`). Zero if it gives none.
///
/// A symbol may be named once in a domain: twice does not link.
#[macro_export]
macro_rules! setvar {
    ($symbol:expr) => {{
        // Written into the image by the Microkit tool, so it must be there and must not be folded to zero.
        #[unsafe(export_name = $symbol)]
        #[unsafe(link_section = ".data")]
        static VALUE: ::core::sync::atomic::AtomicUsize = ::core::sync::atomic::AtomicUsize::new(0);
        VALUE.load(::core::sync::atomic::Ordering::Relaxed)
    }};
}

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

/// Makes a port. What the description gave it is too small only if the image was put together wrongly: then the
/// domain does not start.
pub fn fits<T>(port: Result<T, shm::TooSmall>) -> T {
    match port {
        Ok(port) => port,
        Err(shm::TooSmall) => panic!("a region is too small"),
    }
}

/// A domain as the runtime sees it: `step` is run once at the start and on every notification, until it says
/// that there is nothing more to do at once. It is told which channels were notified since the last time.
pub struct Domain<F>(F);

impl<F: FnMut(&Notified) -> bool> Domain<F> {
    pub fn start(step: F) -> Self {
        let mut domain = Self(step);
        domain.run(&Notified(None));
        domain
    }

    fn run(&mut self, notified: &Notified) {
        let mut more = (self.0)(notified);
        while more {
            more = (self.0)(&Notified(None));
        }
    }
}

/// Tells the kernel that an interrupt has been dealt with: the device may raise it again. Last, after the device was
/// told and drained.
pub fn done(interrupt: Channel) {
    // It fails only for a channel that is no interrupt.
    interrupt.irq_ack().unwrap_or_else(|_| panic!("no interrupt on this channel"));
}

/// Says on a debug kernel what a child's fault was.
pub fn explain(child: &Child, message: &MessageInfo) {
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

/// The channels that brought the notification.
pub struct Notified(Option<ChannelSet>);

impl Notified {
    pub fn by(&self, channel: Channel) -> bool {
        self.0.as_ref().is_some_and(|set| set.contains(channel))
    }
}

impl<F: FnMut(&Notified) -> bool> Handler for Domain<F> {
    type Error = Infallible;

    fn notified(&mut self, channels: ChannelSet) -> Result<(), Infallible> {
        self.run(&Notified(Some(channels)));
        Ok(())
    }
}
