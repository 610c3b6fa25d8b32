//! One node: the real domains, joined by what `system.xml` declares, on simulated devices. A value: it does one step of
//! one domain at a time, and nothing in it knows the host's clock or randomness.

use std::{
    cell::{Cell, RefCell},
    collections::VecDeque,
    rc::Rc,
    sync::atomic::AtomicU64,
};

use bumpalo::Bump;
use pd::{Channel, Child, Domain, Platform, Wake, missing};
use self_cell::self_cell;
use shm::{Micros, ReadOnly, ReadWrite, mailbox::Client};
use wire::Mac;
use zerocopy::FromZeros;

use crate::{
    flash::Flash,
    hostile::Hostile,
    nor::Chip,
    rng::Rng,
    system::{DomainId, System},
};

/// What differs between two nodes.
#[derive(Clone)]
pub struct Setup {
    pub mac: Mac,
    /// Contents of prefilled regions, by name; all others begin as zeros.
    pub prefill: Vec<(&'static str, Vec<u8>)>,
    pub flash: Flash,
    pub entropy: Entropy,
}

/// What the entropy device gives.
#[derive(Clone)]
pub enum Entropy {
    Good(Rng),
    /// Good for so many bytes, then one value for ever.
    FailsAfter(Rng, u64),
    /// Nothing.
    Silent,
}

/// What the domains live in: it lasts as long as the power.
struct Ground {
    system: Rc<System>,
    regions: Vec<Box<[AtomicU64]>>,
    /// For what domains work in.
    bump: Bump,
    bells: Vec<Bells>,
    /// Who has notified whom since this was last asked.
    rung: RefCell<Vec<(DomainId, DomainId)>>,
    /// Children whose parent wants them to be started anew.
    restarts: RefCell<Vec<DomainId>>,
    devices: Devices,
}

/// What a domain is to be woken for.
#[derive(Default)]
struct Bells {
    channels: Cell<u64>,
    children: Cell<u64>,
    /// A device has something, or the domain said that it has more to do, or it has just started.
    again: Cell<bool>,
}

struct Devices {
    mac: Mac,
    arrived: RefCell<VecDeque<Vec<u8>>>,
    sent: RefCell<Vec<Vec<u8>>>,
    console: RefCell<Vec<u8>>,
    alarm: Cell<Option<Micros>>,
    entropy: RefCell<Entropy>,
    given: Cell<u64>,
    flash: Flash,
}

#[derive(Default)]
struct Domains<'a> {
    running: Vec<Option<Box<dyn Domain + 'a>>>,
}

self_cell!(
    struct Powered {
        owner: Ground,
        #[not_covariant]
        dependent: Domains,
    }
);

/// What somebody does with a mailbox each time that he runs; true if there is more to do at once.
pub type Script = Box<dyn FnMut(Micros, &mut Client<'_>) -> bool>;

/// A node under power.
pub struct Machine {
    powered: Powered,
    system: Rc<System>,
    /// Those whose next step never ends, and since when they are in it.
    hung: Vec<bool>,
    stuck: Vec<Option<Micros>>,
    timer_lies: bool,
    /// Domains that run before others although they are of one priority, or against all priorities, if the schedule is random.
    schedule: Schedule,
}

/// Which of the domains that could run does.
#[derive(Clone)]
pub enum Schedule {
    /// The one with the highest priority, as on seL4.
    Priorities,
    /// Any, as on Linux.
    Random(Rng),
}

/// What one step has done, for the trace.
pub struct Stepped {
    pub domain: DomainId,
    pub restarted: Vec<DomainId>,
    pub rung: Vec<(DomainId, DomainId)>,
    pub sent: Vec<Vec<u8>>,
    pub printed: Vec<u8>,
}

impl Machine {
    /// Switches a node on.
    pub fn new(system: &Rc<System>, setup: &Setup, schedule: Schedule) -> Self {
        let ground = Ground::new(system, setup);
        let mut machine = Self {
            powered: Powered::new(ground, |_| Domains::default()),
            system: system.clone(),
            hung: vec![false; system.domains.len()],
            stuck: vec![None; system.domains.len()],
            timer_lies: false,
            schedule,
        };
        machine.powered.with_dependent_mut(|ground, domains| {
            domains.running = (0..ground.system.domains.len()).map(|id| Some(ground.start(id))).collect();
        });
        machine
    }

    /// Whether a domain has something to do now.
    pub fn is_busy(&self) -> bool {
        self.next().is_some()
    }

    /// When the node's own clock wakes it, if nothing else does before.
    pub fn alarm(&self) -> Option<Micros> {
        self.ground(|ground| ground.devices.alarm.get())
    }

    /// Has the clock's alarm go off if it is due.
    pub fn tick(&self, now: Micros) {
        self.ground(|ground| {
            if ground.devices.alarm.get().is_some_and(|at| at <= now) {
                ground.devices.alarm.set(None);
                ground.wake("timer");
            }
        });
    }

    /// A frame comes in by the network device. A full device loses it.
    pub fn receive(&self, frame: Vec<u8>) {
        const QUEUE: usize = 64;
        self.ground(|ground| {
            let mut arrived = ground.devices.arrived.borrow_mut();
            if arrived.len() < QUEUE {
                arrived.push_back(frame);
            }
            ground.wake("net");
        });
    }

    /// One step of one domain; `None` if none has anything to do.
    pub fn step(&mut self, now: Micros) -> Option<Stepped> {
        let id = self.next()?;
        let stepped = self.powered.with_dependent_mut(|ground, domains| {
            let bells = &ground.bells[id];
            bells.again.set(false);
            let wake = Wake { now, channels: bells.channels.take(), children: bells.children.take() };
            let domain = domains.running[id].as_mut()?;
            if self.hung[id] {
                domain.hang(now);
                self.stuck[id] = Some(now);
            } else if domain.step(&wake) {
                bells.again.set(true);
            }
            let restarted = ground.restarts.take();
            for child in restarted.iter().copied() {
                domains.running[child] = None;
                ground.reset(child);
                domains.running[child] = Some(ground.start(child));
            }
            Some(Stepped {
                domain: id,
                restarted,
                rung: ground.rung.take(),
                sent: ground.devices.sent.take(),
                printed: ground.devices.console.take(),
            })
        })?;
        stepped.restarted.iter().for_each(|child| (self.hung[*child], self.stuck[*child]) = (false, None));
        Some(stepped)
    }

    /// The domain dies, and its parent is told.
    pub fn kill(&mut self, domain: DomainId) {
        let system = &self.system;
        self.powered.with_dependent_mut(|ground, domains| {
            domains.running[domain] = None;
            if let Some((parent, number)) = system.domains[domain].parent {
                let bells = &ground.bells[parent].children;
                bells.set(bells.get() | 1 << number);
            }
        });
    }

    /// The domain's next step never ends, and nobody is told.
    pub fn hang(&mut self, domain: DomainId) {
        self.hung[domain] = true;
    }

    /// Since when the domain is in a step that never ends.
    pub fn stuck_since(&self, domain: DomainId) -> Option<Micros> {
        self.stuck[domain]
    }

    /// Whether a domain is in a step that never ends, or may say so.
    pub fn may_loop(&self) -> bool {
        self.timer_lies || self.stuck.iter().any(Option::is_some)
    }

    pub fn resume(&mut self, domain: DomainId) {
        (self.hung[domain], self.stuck[domain]) = (false, None);
        // The step that it was in goes on.
        self.wake(domain);
    }

    /// Somebody else is in the domain's place from now on, who would like to see these frames on the wire.
    pub fn take_over(&mut self, domain: DomainId, rng: Rng, frames: Vec<Vec<u8>>) {
        // Of its word lifecycle waits for the end, a while.
        self.timer_lies |= self.system.domains[domain].name == "timer";
        self.powered.with_dependent_mut(|ground, domains| {
            domains.running[domain] = Some(Box::new(Place { ground, id: domain }.hostile(rng, frames)));
            ground.bells[domain].again.set(true);
        });
    }

    /// Somebody else is in the domain's place from now on, who asks lifecycle what the script says.
    pub fn ask_lifecycle(&mut self, domain: DomainId, mut script: Script) {
        self.powered.with_dependent_mut(|ground, domains| {
            let mut place = Place { ground, id: domain };
            let (request, reply) = (place.write("lifecycle_req"), place.read("lifecycle_rep"));
            let (mut client, channel) = (Client::new(request, reply).expect("room"), place.channel("lifecycle_id"));
            let step = move |wake: &Wake| {
                let more = script(wake.now, &mut client);
                if client.take_signal() {
                    channel.notify();
                }
                more
            };
            domains.running[domain] = Some(Box::new(step));
            ground.bells[domain].again.set(true);
        });
    }

    /// Wakes a domain for nothing.
    pub fn wake(&self, domain: DomainId) {
        self.ground(|ground| ground.bells[domain].again.set(true));
    }

    /// From now on the entropy device gives this.
    pub fn source(&self, entropy: Entropy) {
        self.ground(|ground| {
            *ground.devices.entropy.borrow_mut() = entropy;
            ground.wake("entropy");
        });
    }

    pub fn mac(&self) -> Mac {
        self.ground(|ground| ground.devices.mac)
    }

    /// The first `N` words of a region, as everyone who maps it sees them.
    pub fn words<const N: usize>(&self, region: usize) -> [u64; N] {
        let words = |ground: &Ground| {
            let region = ReadOnly::new(&ground.regions[region]);
            core::array::from_fn(|index| region.load(index * size_of::<u64>()))
        };
        self.ground(words)
    }

    /// The bytes of a region from byte `at` on.
    pub fn bytes(&self, region: usize, at: usize, to: &mut [u8]) {
        self.ground(|ground| ReadOnly::new(&ground.regions[region]).read(at, to));
    }

    fn ground<T>(&self, look: impl FnOnce(&Ground) -> T) -> T {
        self.powered.with_dependent(|ground, _| look(ground))
    }

    fn next(&self) -> Option<DomainId> {
        // With the flash's power everybody's is gone.
        if self.ground(|ground| ground.devices.flash.is_cut()) {
            return None;
        }
        let ready = |ground: &Ground, domains: &Domains<'_>| -> Vec<DomainId> {
            let wants = |id: &DomainId| {
                let bells = &ground.bells[*id];
                let alive = domains.running[*id].is_some() && self.stuck[*id].is_none();
                alive && (bells.again.get() || bells.channels.get() != 0 || bells.children.get() != 0)
            };
            (0..ground.bells.len()).filter(wants).collect()
        };
        let ready = self.powered.with_dependent(ready);
        match &self.schedule {
            // Of one priority, the first in the description.
            Schedule::Priorities => ready.into_iter().rev().max_by_key(|id| self.system.domains[*id].priority),
            Schedule::Random(_) if ready.len() < 2 => ready.first().copied(),
            Schedule::Random(rng) => {
                let choice = rng.below(ready.len() as u64);
                ready.get(usize::try_from(choice).unwrap_or(0)).copied()
            }
        }
    }
}

impl Ground {
    fn new(system: &Rc<System>, setup: &Setup) -> Self {
        let regions = system.regions.iter().map(|region| {
            let words = region.size / size_of::<u64>();
            let mut memory = <[AtomicU64]>::new_box_zeroed_with_elems(words).expect("memory for a region");
            if let Some((_, bytes)) = setup.prefill.iter().find(|(name, _)| *name == region.name) {
                for (word, bytes) in memory.iter_mut().zip(bytes.chunks(size_of::<u64>())) {
                    let mut padded = [0; size_of::<u64>()];
                    padded[..bytes.len()].copy_from_slice(bytes);
                    *word.get_mut() = u64::from_ne_bytes(padded);
                }
            }
            memory
        });
        Self {
            system: system.clone(),
            regions: regions.collect(),
            bump: Bump::new(),
            bells: system.domains.iter().map(|_| Bells::default()).collect(),
            rung: RefCell::default(),
            restarts: RefCell::default(),
            devices: Devices {
                mac: setup.mac,
                arrived: RefCell::default(),
                sent: RefCell::default(),
                console: RefCell::default(),
                alarm: Cell::new(None),
                entropy: RefCell::new(setup.entropy.clone()),
                given: Cell::new(0),
                flash: setup.flash.clone(),
            },
        }
    }

    fn start(&self, id: DomainId) -> Box<dyn Domain + '_> {
        self.bells[id].again.set(true);
        let program = &self.system.domains[id].program;
        let domain = node::start(program, &mut Place { ground: self, id });
        domain.unwrap_or_else(|| panic!("{program} is no domain of a node"))
    }

    /// What a device forgets when its driver is started anew, and what nobody waits for any more.
    fn reset(&self, id: DomainId) {
        self.bells[id].channels.set(0);
        match self.system.domains[id].name.as_str() {
            "net" => self.devices.arrived.borrow_mut().clear(),
            "timer" => self.devices.alarm.set(None),
            _ => {}
        }
    }

    fn wake(&self, domain: &str) {
        self.bells[self.system.domain(domain)].again.set(true);
    }
}

/// What a domain is started on.
struct Place<'a> {
    ground: &'a Ground,
    id: DomainId,
}

impl<'a> Place<'a> {
    fn hostile(&self, rng: Rng, frames: Vec<Vec<u8>>) -> Hostile<'a, Line<'a>> {
        let (ground, id) = (self.ground, self.id);
        let domain = &ground.system.domains[id];
        let (writable, readable): (Vec<_>, Vec<_>) = domain.maps.iter().partition(|map| map.writable);
        let channels = domain.channels.iter();
        Hostile::new(
            rng,
            readable.into_iter().map(|map| ReadOnly::new(&ground.regions[map.region])).collect(),
            writable.into_iter().map(|map| ReadWrite::new(&ground.regions[map.region])).collect(),
            channels.map(|channel| Line { ground, from: id, id: channel.id, other: channel.other }).collect(),
            frames,
        )
    }

    fn words(&self, symbol: &str, writable: bool) -> &'a [AtomicU64] {
        let domain = &self.ground.system.domains[self.id];
        let found = domain.maps.iter().find(|map| map.symbol == symbol && map.writable == writable);
        let map = found.unwrap_or_else(|| missing(&domain.name, "region", symbol));
        &self.ground.regions[map.region]
    }
}

impl<'a> Platform<'a> for Place<'a> {
    type Channel = Line<'a>;

    fn read(&mut self, symbol: &'static str) -> ReadOnly<'a> {
        ReadOnly::new(self.words(symbol, false))
    }

    fn write(&mut self, symbol: &'static str) -> ReadWrite<'a> {
        ReadWrite::new(self.words(symbol, true))
    }

    fn channel(&mut self, symbol: &'static str) -> Line<'a> {
        let domain = &self.ground.system.domains[self.id];
        let found = domain.channels.iter().find(|channel| channel.symbol.as_deref() == Some(symbol));
        let channel = found.unwrap_or_else(|| missing(&domain.name, "channel", symbol));
        Line { ground: self.ground, from: self.id, id: channel.id, other: channel.other }
    }

    fn child(&mut self, symbol: &'static str) -> Child {
        let domain = &self.ground.system.domains[self.id];
        let found = domain.children.iter().find(|(name, _)| name == symbol);
        Child(found.unwrap_or_else(|| missing(&domain.name, "child", symbol)).1.into())
    }

    fn memory<T: 'a>(&mut self, make: fn() -> T) -> &'a mut T {
        self.ground.bump.alloc_with(make)
    }
}

impl<'a> node::net::shell::Machine<'a> for Place<'a> {
    type Nic = Device<'a>;

    fn nic(&mut self) -> Device<'a> {
        Device(&self.ground.devices)
    }
}

impl<'a> node::entropy::shell::Machine<'a> for Place<'a> {
    type Source = Device<'a>;

    fn source(&mut self) -> Device<'a> {
        Device(&self.ground.devices)
    }
}

impl<'a> node::console::shell::Machine<'a> for Place<'a> {
    type Serial = Device<'a>;

    fn serial(&mut self) -> Device<'a> {
        Device(&self.ground.devices)
    }
}

impl<'a> node::timer::shell::Machine<'a> for Place<'a> {
    type Clock = Device<'a>;

    fn clock(&mut self) -> Device<'a> {
        Device(&self.ground.devices)
    }
}

impl<'a> node::store::shell::Machine<'a> for Place<'a> {
    type Flash = Chip;

    fn flash(&mut self) -> Chip {
        self.ground.devices.flash.chip()
    }
}

impl<'a> node::lifecycle::shell::Machine<'a> for Place<'a> {
    type Parent = Parent<'a>;

    fn parent(&mut self) -> Parent<'a> {
        Parent { ground: self.ground, id: self.id }
    }
}

impl<'a> node::Machine<'a> for Place<'a> {
    type Kept = Box<dyn Domain + 'a>;

    fn keep(&mut self, domain: impl Domain + 'a) -> Self::Kept {
        Box::new(domain)
    }
}

/// Its children are started anew when its own step is over.
struct Parent<'a> {
    ground: &'a Ground,
    id: DomainId,
}

impl pd::Parent for Parent<'_> {
    fn restart(&mut self, child: Child) {
        let is_it = |domain: &crate::system::Domain| {
            domain.parent.is_some_and(|(parent, id)| parent == self.id && usize::from(id) == child.0)
        };
        if let Some(child) = self.ground.system.domains.iter().position(is_it) {
            self.ground.restarts.borrow_mut().push(child);
        }
    }
}

/// The own end of a channel.
#[derive(Clone, Copy)]
struct Line<'a> {
    ground: &'a Ground,
    from: DomainId,
    id: u8,
    other: Option<(DomainId, u8)>,
}

impl pd::Channel for Line<'_> {
    fn notify(self) {
        if let Some((to, number)) = self.other {
            let bells = &self.ground.bells[to].channels;
            bells.set(bells.get() | 1 << number);
            self.ground.rung.borrow_mut().push((self.from, to));
        }
    }

    fn id(self) -> usize {
        self.id.into()
    }
}

/// Each domain has the device that it drives; they share a type here, not anything of it.
struct Device<'a>(&'a Devices);

impl node::net::Device for Device<'_> {
    fn mac(&self) -> Mac {
        self.0.mac
    }

    fn recv(&mut self, frame: &mut [u8]) -> Option<usize> {
        let arrived = self.0.arrived.borrow_mut().pop_front()?;
        let len = arrived.len().min(frame.len());
        frame[..len].copy_from_slice(&arrived[..len]);
        Some(arrived.len())
    }

    fn send(&mut self, frame: &[u8]) -> bool {
        self.0.sent.borrow_mut().push(frame.to_vec());
        true
    }
}

impl node::entropy::Source for Device<'_> {
    fn read(&mut self, to: &mut [u8]) -> usize {
        let given = self.0.given.get();
        self.0.given.set(given + to.len() as u64);
        match &*self.0.entropy.borrow() {
            Entropy::Good(rng) => rng.fill(to),
            Entropy::FailsAfter(rng, bytes) if given < *bytes => rng.fill(to),
            Entropy::FailsAfter(..) => to.fill(0x55),
            Entropy::Silent => return 0,
        }
        to.len()
    }

    fn counter(&mut self) -> u64 {
        self.0.given.get()
    }
}

impl node::console::Serial for Device<'_> {
    fn write(&mut self, bytes: &[u8]) -> usize {
        self.0.console.borrow_mut().extend_from_slice(bytes);
        bytes.len()
    }
}

impl node::timer::Clock for Device<'_> {
    fn arm(&mut self, next: Option<Micros>) -> bool {
        self.0.alarm.set(next);
        false
    }
}
