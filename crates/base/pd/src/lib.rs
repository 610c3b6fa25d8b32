//! A protection domain as whatever runs it sees it: an seL4 kernel, a Linux process, or a simulator. The platform gives a
//! domain the regions and channels that `system.xml` declares, by the symbols that they have there, and wakes it; the
//! domain does one step and says whether it has more to do at once.
//!
//! Each domain's crate has one module `shell`: it lists the symbols once ([`wires!`]), makes ports of them, and is a
//! [`Domain`]. All platforms run that one.
#![no_std]
#![forbid(unsafe_code)]

use core::fmt;

#[doc(hidden)]
pub use shm;
use shm::{Micros, ReadOnly, ReadWrite, TooSmall};

/// The own end of a channel.
pub trait Channel: Copy {
    /// Notifies the other end. It never waits and never fails; notifications that were not taken yet are one.
    fn notify(self);

    /// Its number in this domain, below 64: the `id` of the channel's end in the description.
    fn id(self) -> usize;
}

/// Why a domain runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Wake {
    /// The time, in microseconds of the platform's monotonic counter.
    pub now: Micros,
    /// A bit for each channel, by its number, whose other end has notified since the domain waited last.
    pub channels: u64,
    /// A bit for each child, by its number, that has died since the domain waited last.
    pub children: u64,
}

impl Wake {
    pub fn by(&self, channel: impl Channel) -> bool {
        has(self.channels, channel.id())
    }

    pub fn died(&self, child: Child) -> bool {
        has(self.children, child.0)
    }
}

fn has(bits: u64, number: usize) -> bool {
    u32::try_from(number).ok().and_then(|number| bits.checked_shr(number)).is_some_and(|bits| bits & 1 == 1)
}

/// The number of a child in its parent: the `id` of the nested domain in the description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child(pub usize);

/// What a parent can do to its children.
pub trait Parent {
    /// Ends the child if it still runs, and starts it anew with clean memory over the same regions, channels and devices.
    /// What was notified meanwhile may be lost, or come twice.
    fn restart(&mut self, child: Child);
}

/// A domain that runs.
pub trait Domain {
    /// Looks at everything that may have changed and does a bounded piece of work; true if there is more to do at once.
    /// It is called once at the start, and then whenever the domain is notified. A call for nothing does no harm.
    fn step(&mut self, wake: &Wake) -> bool;

    /// A step begins and never ends, as a simulator has it: what the others see of it.
    fn hang(&mut self, _: Micros) {}
}

/// By this the parent of a domain sees how long its step takes: a word that says when the step began, 0 between two. Now and
/// then the parent is notified that there is something to see, so that it need not look while nobody works.
pub struct Watch<'a, C> {
    region: ReadWrite<'a>,
    parent: C,
    every: Micros,
    seen_until: Micros,
}

/// How long a parent that has been notified goes on looking by itself.
pub const WATCHED: Micros = 3_000_000;
/// How often it is of the steps of the child that wakes it, while that child goes on by itself.
pub const WAKER: Micros = 250_000;

impl<'a, C: Channel> Watch<'a, C> {
    pub fn new(mut region: ReadWrite<'a>, parent: C) -> Self {
        // A predecessor's step is over.
        region.store(0, 0);
        Self { region, parent, every: WATCHED, seen_until: 0 }
    }

    /// Of the child by which the parent has itself woken: it is notified of each step but those that follow another at once,
    /// for what it does not hear of at once it would have to be woken for.
    pub fn of_waker(self) -> Self {
        Self { every: WAKER, ..self }
    }

    /// By the names that all children of the node's have for it.
    pub fn bind(on: &mut impl Platform<'a, Channel = C>) -> Self {
        let region = on.write("watch");
        Self::new(region, on.channel("lifecycle_id"))
    }

    /// The domain with this around each step of its.
    pub fn over<D: Domain>(self, domain: D) -> Watched<'a, C, D> {
        Watched { watch: self, domain, more: false }
    }

    /// `follows`: another step, at once.
    fn begin(&mut self, now: Micros, follows: bool) {
        // 0 is no time.
        self.region.store(0, now.max(1));
        if now >= self.seen_until || (self.every == WAKER && !follows) {
            self.seen_until = now.saturating_add(self.every);
            self.parent.notify();
        }
    }
}

/// A domain whose steps are watched.
pub struct Watched<'a, C, D> {
    watch: Watch<'a, C>,
    domain: D,
    /// The last step has said that there is more to do.
    more: bool,
}

impl<C: Channel, D: Domain> Domain for Watched<'_, C, D> {
    fn step(&mut self, wake: &Wake) -> bool {
        self.watch.begin(wake.now, self.more);
        self.more = self.domain.step(wake);
        self.watch.region.store(0, 0);
        self.more
    }

    fn hang(&mut self, now: Micros) {
        self.watch.begin(now, self.more);
    }
}

/// What a platform does around a domain's step is a domain too.
impl<F: FnMut(&Wake) -> bool> Domain for F {
    fn step(&mut self, wake: &Wake) -> bool {
        self(wake)
    }
}

/// What gives a domain its wires. A symbol that the description does not have is a fault of the image: it ends the domain
/// before it runs, with a panic that names the symbol.
pub trait Platform<'a> {
    type Channel: Channel + 'a;

    /// The region that the description maps at this symbol, which this domain reads.
    fn read(&mut self, symbol: &'static str) -> ReadOnly<'a>;
    /// The region that the description maps at this symbol, of which this domain is the one writer.
    fn write(&mut self, symbol: &'static str) -> ReadWrite<'a>;
    /// The own end of the channel whose number the description sets at this symbol.
    fn channel(&mut self, symbol: &'static str) -> Self::Channel;
    /// The child whose number the description sets at this symbol.
    fn child(&mut self, symbol: &'static str) -> Child;
    /// A place for what the domain works in, for as long as it runs.
    fn memory<T: 'a>(&mut self, make: fn() -> T) -> &'a mut T;
}

/// Makes a port. A region is too small for it only if the image was put together wrongly: then the domain does not start.
pub fn fits<T>(port: Result<T, TooSmall>) -> T {
    match port {
        Ok(port) => port,
        Err(TooSmall) => panic!("a region is too small"),
    }
}

/// Says what could not be found; for platforms that look symbols up by name.
pub fn missing(domain: impl fmt::Display, what: &str, symbol: &str) -> ! {
    panic!("system.xml gives {domain} no {what} {symbol}")
}

/// Declares what `system.xml` gives a domain, by the symbols that it has there: `Wires`, which a platform that looks up by
/// name binds with `Wires::bind`. On seL4 each symbol is a static that the Microkit tool fills: there the crate's macro
/// `wires!()` makes the same value with the macros of the crate `platform`.
///
/// The identifier of a child stands in the symbol `NAME_child`.
///
/// It begins with `$crate`, which stands for itself: the macro defines another one, whose `$crate` is the domain's.
#[macro_export]
macro_rules! wires {
    (
        $dollar:tt $krate:tt
        read { $($read:ident),* $(,)? }
        write { $($write:ident),* $(,)? }
        channels { $($channel:ident),* $(,)? }
        $(children { $($child:ident),* $(,)? })?
    ) => {
        /// What `system.xml` gives this domain, by the symbols that it has there.
        pub struct Wires<'a, C> {
            $(pub $read: $crate::shm::ReadOnly<'a>,)*
            $(pub $write: $crate::shm::ReadWrite<'a>,)*
            $(pub $channel: C,)*
            $($(pub $child: $crate::Child,)*)?
        }

        impl<'a, C: $crate::Channel + 'a> Wires<'a, C> {
            /// By name.
            pub fn bind(platform: &mut impl $crate::Platform<'a, Channel = C>) -> Self {
                Self {
                    $($read: platform.read(stringify!($read)),)*
                    $($write: platform.write(stringify!($write)),)*
                    $($channel: platform.channel(stringify!($channel)),)*
                    $($($child: platform.child(concat!(stringify!($child), "_child")),)*)?
                }
            }
        }

        /// [`Wires`], of the symbols of an seL4 program. Once in a program: a symbol is a static.
        #[macro_export]
        macro_rules! wires {
            () => {
                $dollar $krate::shell::Wires {
                    $($read: ::platform::read_only!($read),)*
                    $($write: ::platform::read_write!($write),)*
                    $($channel: ::platform::channel!($channel),)*
                    $($($child: ::platform::child!($child),)*)?
                }
            };
        }
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Clone, Copy)]
    struct Numbered(usize);

    impl Channel for Numbered {
        fn notify(self) {}

        fn id(self) -> usize {
            self.0
        }
    }

    #[test]
    fn a_watch_says_when_a_step_began_and_notifies_now_and_then() {
        #[derive(Clone, Copy)]
        struct Bell<'a>(&'a core::cell::Cell<u32>);
        impl Channel for Bell<'_> {
            fn notify(self) {
                self.0.set(self.0.get() + 1);
            }

            fn id(self) -> usize {
                0
            }
        }
        let (words, rung) = ([const { core::sync::atomic::AtomicU64::new(7) }; 1], core::cell::Cell::new(0));
        let word = || ReadOnly::new(&words).load(0);
        let watch = Watch::new(ReadWrite::new(&words), Bell(&rung));
        assert_eq!(word(), 0);
        let mut domain = watch.over(|wake: &Wake| {
            assert_eq!(word(), wake.now.max(1));
            wake.channels != 0
        });
        let mut step = |now, channels| {
            assert_eq!(domain.step(&Wake { now, channels, children: 0 }), channels != 0);
            assert_eq!(word(), 0);
            rung.take()
        };
        assert_eq!([step(0, 0), step(WATCHED - 1, 1), step(WATCHED, 0), step(WATCHED + 1, 0)], [1, 0, 1, 0]);
        domain.hang(3 * WATCHED);
        assert_eq!((word(), rung.take()), (3 * WATCHED, 1));
        let mut waker =
            Watch::new(ReadWrite::new(&words), Bell(&rung)).of_waker().over(|wake: &Wake| wake.channels != 0);
        let mut step = |now, channels| {
            waker.step(&Wake { now, channels, children: 0 });
            rung.take()
        };
        // Each that does not follow another at once.
        assert_eq!([step(0, 0), step(1, 1), step(2, 1), step(3, 0), step(4, 0)], [1, 1, 0, 0, 1]);
        assert_eq!([step(5, 1), step(WAKER, 1), step(WAKER + 5, 1)], [1, 0, 1]);
    }

    #[test]
    fn a_wake_names_channels_and_children_apart() {
        let wake = Wake { now: 0, channels: 1 << 63 | 1, children: 1 << 5 };
        assert!(wake.by(Numbered(0)) && wake.by(Numbered(63)) && !wake.by(Numbered(5)));
        assert!(wake.died(Child(5)) && !wake.died(Child(0)));
        assert!(!wake.by(Numbered(64)) && !wake.died(Child(usize::MAX)));
    }
}
