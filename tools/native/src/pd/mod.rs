//! A domain's process, from its start to its death.
//!
//! [`Domain::start`] maps the regions that `system.xml` declares; the shell makes its ports and its core of
//! them; [`Domain::run`] then gives up everything else for good (`seal`) and only now runs domain code. What
//! fails before that is a panic: the runner reports that the domain did not start.

mod device;
mod dying;
mod flash;
mod heap;
mod seal;

use std::{
    ffi::c_void,
    fs::File,
    io::Read,
    os::fd::{BorrowedFd, FromRawFd, OwnedFd, RawFd},
    ptr::{with_exposed_provenance, with_exposed_provenance_mut},
    sync::atomic::AtomicU64,
};

use ::pd::{Child, Wake, missing};
use rustix::{
    event::{PollFd, PollFlags, poll},
    io::{read, write},
    mm::{MapFlags, ProtFlags, mmap},
    time::{ClockId, clock_gettime},
};
use shm::{Micros, ReadOnly, ReadWrite, region::WORD};

pub use device::Device;
pub(crate) use dying::PANICKED;
pub use dying::finish;
pub use flash::Nor;
pub use heap::Heap;

use crate::boot::{Boot, BootRegion, VARIABLE};

/// Microseconds of the monotonic clock, the same for every process of the machine.
pub fn now() -> Micros {
    counter() / 1000
}

/// The finest counter that the platform has: nanoseconds.
pub fn counter() -> u64 {
    let time = clock_gettime(ClockId::Monotonic);
    // The monotonic clock counts from the machine's start.
    time.tv_sec.cast_unsigned() * 1_000_000_000 + time.tv_nsec.cast_unsigned()
}

/// The process as `system.xml` made it. Regions, channels and devices go by the symbols they have there.
pub struct Domain {
    boot: Boot,
    devices: Vec<&'static device::State>,
}

/// The own end of a channel.
#[derive(Debug, Clone, Copy)]
pub struct Channel {
    id: u8,
    tell: Option<BorrowedFd<'static>>,
}

impl ::pd::Channel for Channel {
    fn notify(self) {
        if let Some(bell) = self.tell {
            let _ = write(bell, &1u64.to_ne_bytes());
        }
    }

    fn id(self) -> usize {
        usize::from(self.id)
    }
}

/// The children, by their numbers: the runner starts anew whose descriptor is written.
pub struct Parent(Vec<(u8, BorrowedFd<'static>)>);

impl ::pd::Parent for Parent {
    fn restart(&mut self, child: Child) {
        if let Some((_, bell)) = self.0.iter().find(|(id, _)| usize::from(*id) == child.0) {
            // Fails only if the runner has been told and has not looked.
            let _ = write(bell, &1u64.to_ne_bytes());
        }
    }
}

/// Bits by number of the channel, and of the child.
#[derive(Debug, Clone, Copy, Default)]
struct Heard {
    channels: u64,
    children: u64,
}

impl Domain {
    /// Takes over the process that the runner has started.
    pub fn start() -> Self {
        let boot = read_boot();
        dying::prepare(borrow(boot.words)).expect("the page of last words can be mapped");
        boot.regions.iter().for_each(map);
        let devices = boot.devices.iter().map(device::State::leak).collect();
        Self { boot, devices }
    }

    pub fn name(&self) -> &str {
        &self.boot.domain
    }

    /// The program that the description names for this domain.
    pub fn program(&self) -> &str {
        &self.boot.program
    }

    fn region(&self, symbol: &str, writable: bool) -> &BootRegion {
        let named = |region: &&BootRegion| region.symbol.as_deref() == Some(symbol) && region.writable == writable;
        let what = if writable { "region to write at" } else { "region to read at" };
        let found = self.boot.regions.iter().find(named);
        found.unwrap_or_else(|| missing(self.name(), what, symbol))
    }

    pub fn device(&self, name: &str) -> Device {
        let found = self.devices.iter().find(|device| device.name == name);
        Device(found.unwrap_or_else(|| missing(self.name(), "device", name)))
    }

    /// The hold on its children.
    pub fn parent(&self) -> Parent {
        Parent(self.boot.children.iter().map(|child| (child.id, borrow(child.restart))).collect())
    }

    /// Gives up what domain code must not have, then runs it for good: `step` each time that something may have
    /// happened, and at once again while it returns true.
    pub fn run(self, mut step: impl FnMut(&Wake) -> bool) -> ! {
        let mut ears = Ears::new(&self);
        seal::seal(&self.boot).unwrap_or_else(|error| panic!("cannot be isolated: {error}"));
        let mut heard = Heard::default();
        loop {
            let more = step(&Wake { now: now(), channels: heard.channels, children: heard.children });
            heard = if more { Heard::default() } else { ears.wait() };
        }
    }
}

impl ::pd::Platform<'static> for Domain {
    type Channel = Channel;

    fn read(&mut self, symbol: &'static str) -> ReadOnly<'static> {
        ReadOnly::new(words_of(self.region(symbol, false)))
    }

    /// It is bound once: two writers would undo each other's work.
    fn write(&mut self, symbol: &'static str) -> ReadWrite<'static> {
        let region = self.region(symbol, true);
        let words = words_of(region);
        let name = region.name.clone();
        self.boot.regions.retain(|region| region.name != name);
        ReadWrite::new(words)
    }

    fn channel(&mut self, symbol: &'static str) -> Channel {
        let found = self.boot.channels.iter().find(|channel| channel.symbol.as_deref() == Some(symbol));
        let channel = found.unwrap_or_else(|| missing(self.name(), "channel", symbol));
        Channel { id: channel.id, tell: channel.tell.map(borrow) }
    }

    fn child(&mut self, symbol: &'static str) -> Child {
        let found = self.boot.children.iter().find(|child| child.symbol.as_deref() == Some(symbol));
        Child(usize::from(found.unwrap_or_else(|| missing(self.name(), "child", symbol)).id))
    }

    fn memory<T: 'static>(&mut self, make: fn() -> T) -> &'static mut T {
        Box::leak(Box::new(make()))
    }
}

#[derive(Clone, Copy)]
enum Bell {
    Channel(u8),
    Child(u8),
}

/// What a domain waits on.
struct Ears {
    bells: Vec<(Bell, BorrowedFd<'static>)>,
    devices: Vec<&'static device::State>,
    poll: Vec<PollFd<'static>>,
}

impl Ears {
    fn new(domain: &Domain) -> Self {
        let channels = &domain.boot.channels;
        let channels = channels.iter().filter_map(|channel| Some((Bell::Channel(channel.id), borrow(channel.hear?))));
        let children = domain.boot.children.iter().map(|child| (Bell::Child(child.id), borrow(child.ended)));
        let bells: Vec<_> = channels.chain(children).collect();
        let devices = domain.devices.clone();
        let poll = Vec::with_capacity(bells.len() + devices.len());
        Self { bells, devices, poll }
    }

    /// Waits for a notification, or for a device that had nothing, or no room. Returns who has told.
    fn wait(&mut self) -> Heard {
        // Within the capacity: nothing is allocated.
        self.poll.clear();
        self.poll.extend(self.bells.iter().map(|(_, bell)| PollFd::from_borrowed_fd(*bell, PollFlags::IN)));
        let awaited = self.devices.iter().filter_map(|device| device.awaited());
        self.poll.extend(awaited.map(|(fd, what)| PollFd::from_borrowed_fd(fd, what)));
        // Interrupted or not: waking up for nothing does no harm.
        let _ = poll(&mut self.poll, None);
        let mut heard = Heard::default();
        for ((from, bell), polled) in self.bells.iter().zip(&self.poll) {
            if polled.revents().contains(PollFlags::IN) && read(*bell, &mut [0; 8]).is_ok() {
                match from {
                    Bell::Channel(id) => heard.channels |= 1 << id,
                    Bell::Child(id) => heard.children |= 1 << id,
                }
            }
        }
        heard
    }
}

fn read_boot() -> Boot {
    let number = std::env::var(VARIABLE).ok().and_then(|number| number.parse::<RawFd>().ok());
    let Some(number) = number else {
        say::tell!("this is a domain of a node: `native run` starts it");
        std::process::exit(2);
    };
    // SAFETY: the runner opened it for this process; nothing else in it uses the number.
    let mut file = File::from(unsafe { OwnedFd::from_raw_fd(number) });
    let mut text = String::new();
    file.read_to_string(&mut text).expect("the boot description can be read");
    serde_json::from_str(&text).expect("the boot description is the runner's")
}

/// A descriptor that the runner has opened for this process.
fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: nothing closes it but `seal`, which closes exactly those that domain code has no handle of.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

fn map(region: &BootRegion) {
    let access = if region.writable { ProtFlags::READ | ProtFlags::WRITE } else { ProtFlags::READ };
    let at = with_exposed_provenance_mut::<c_void>(region.vaddr);
    let flags = MapFlags::SHARED | MapFlags::FIXED_NOREPLACE;
    // SAFETY: a range where nothing is mapped yet, or the call fails.
    let mapped = unsafe { mmap(at, region.size, access, flags, borrow(region.fd), 0) };
    match mapped {
        Ok(place) => assert_eq!(place.expose_provenance(), region.vaddr, "region {} is elsewhere", region.name),
        Err(error) => panic!("region {} cannot be mapped at {:#x}: {error}", region.name, region.vaddr),
    }
}

fn words_of(region: &BootRegion) -> &'static [AtomicU64] {
    let words = with_exposed_provenance::<AtomicU64>(region.vaddr);
    // SAFETY: `map` has mapped it there, for good, with at least that size (the memfd is sealed), and everyone
    // reads and writes it as atomics. Of a region that is mapped read-only only `ReadOnly` is made.
    unsafe { std::slice::from_raw_parts(words, region.size / WORD) }
}
