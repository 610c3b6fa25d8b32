//! Nodes and hosts on segments, on one virtual clock. Whatever happens follows from the seed and from what the caller does
//! between two steps.

mod hostile;
mod record;

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    rc::Rc,
};

use calls::{params::Params, rules::Rules};
use shm::Micros;
use wire::Mac;
use zerocopy::IntoBytes;

use crate::{
    flash::Flash,
    machine::{Entropy, Machine, Schedule, Setup},
    rng::Rng,
    segment::{Arrival, Frame, Port, takes},
    system::System,
    trace::{self, Trace},
};

/// A host that is no node: an administrator's, a stranger's.
pub trait Host {
    fn mac(&self) -> Mac;
    fn receive(&mut self, frame: &[u8]);
    /// Does what is due and returns the frames that it sends.
    fn poll(&mut self, now: Micros) -> Vec<Vec<u8>>;
    /// When it wants to be polled next, if nothing arrives.
    fn next(&mut self) -> Option<Micros>;
}

/// What somebody on the wire makes of a frame: nothing arrives, or something else, or later, or more than one.
pub type Meddler = Box<dyn FnMut(&World, &Frame) -> Vec<Arrival>>;

/// A node's place in the world, whether it has power or not.
struct Place {
    segment: usize,
    setup: Setup,
    machine: Option<Machine>,
    /// Whole lines.
    console: Vec<String>,
    line: Vec<u8>,
    /// What stood in the counting words of its regions when they were looked at last, for the trace.
    seen: BTreeMap<usize, u64>,
}

struct Stranger {
    segment: usize,
    host: Rc<RefCell<dyn Host>>,
}

/// How a node is to be.
#[derive(Clone)]
pub struct Plan {
    pub params: Params,
    /// The image's anchor file; empty: the node shows a ticket.
    pub anchor: Vec<u8>,
    pub segment: usize,
}

impl Default for Plan {
    fn default() -> Self {
        Self { params: Params::DEFAULT, anchor: Vec::new(), segment: 0 }
    }
}

/// Why the world stopped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// Nothing is left to do, and no clock is armed.
    Idle,
    /// The time was up.
    Time,
}

/// Something that a script does to the world.
pub type Deed = Box<dyn FnOnce(&mut World)>;

/// How long a step takes of a node in which a domain loops, or may say so: whoever looks again and again sees for how long.
const HELD_UP: Micros = 1_000;

/// Steps at one moment after which something goes round in circles.
const LIVELOCK: u64 = 1_000_000;

pub struct World {
    system: Rc<System>,
    rng: Rng,
    now: Micros,
    random_schedule: bool,
    /// How long a step of a domain takes, in microseconds.
    step_cost: Micros,
    /// The last step took time, for in its node a domain may loop.
    held_up: bool,
    places: Vec<Place>,
    hosts: Vec<Stranger>,
    /// Nodes of which a domain may have something to do.
    ready: BTreeSet<usize>,
    alarms: BTreeSet<(Micros, usize)>,
    armed: Vec<Option<Micros>>,
    /// By arrival, then in order of sending.
    flying: BTreeMap<(Micros, u64), (Frame, Vec<u8>)>,
    arrivals: u64,
    frames: u64,
    meddler: Option<Meddler>,
    /// A host has heard something since this was last asked.
    heard: bool,
    /// What is to be done at a time, and before a step.
    agenda: BTreeMap<(Micros, u64), Deed>,
    before_steps: BTreeMap<(u64, u64), Deed>,
    deeds: u64,
    steps: u64,
    at_once: u64,
    trace: Option<Trace>,
}

impl World {
    /// An empty one.
    pub fn new(seed: u64) -> Self {
        Self {
            system: System::of_the_node(),
            rng: Rng::new(seed),
            // Like a machine that has been on for a moment: 0 means "never" here and there.
            now: 1_000_000,
            random_schedule: false,
            step_cost: 0,
            held_up: false,
            places: Vec::new(),
            hosts: Vec::new(),
            ready: BTreeSet::new(),
            alarms: BTreeSet::new(),
            armed: Vec::new(),
            flying: BTreeMap::new(),
            arrivals: 0,
            frames: 0,
            meddler: None,
            heard: false,
            agenda: BTreeMap::new(),
            before_steps: BTreeMap::new(),
            deeds: 0,
            steps: 0,
            at_once: 0,
            trace: None,
        }
    }

    /// Domains that could run do so in any order, whatever their priorities, as on Linux.
    pub fn schedule_randomly(&mut self) {
        self.random_schedule = true;
    }

    /// Steps take so long, one after the other in the whole world; otherwise they take no time. What is due comes between
    /// two of them.
    pub fn steps_take(&mut self, cost: Micros) {
        self.step_cost = cost;
    }

    /// Keeps a trace from now on.
    pub fn record(&mut self) {
        self.trace.get_or_insert_default();
    }

    pub fn trace(&self) -> &Trace {
        const NONE: &Trace = &Trace(Vec::new());
        self.trace.as_ref().unwrap_or(NONE)
    }

    pub fn now(&self) -> Micros {
        self.now
    }

    /// Steps of domains so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// Frames sent so far.
    pub fn frames(&self) -> u64 {
        self.frames
    }

    pub fn rng(&self) -> &Rng {
        &self.rng
    }

    pub fn system(&self) -> &Rc<System> {
        &self.system
    }

    // --- nodes

    /// Adds a node, without power.
    pub fn add(&mut self, plan: &Plan) -> usize {
        let number = self.places.len();
        let [.., a, b] = (number as u64 + 1).to_be_bytes();
        let mut secret = vec![0; 32];
        self.rng.fill(&mut secret);
        let prefill = vec![
            ("params", plan.params.as_bytes().to_vec()),
            ("anchor", plan.anchor.clone()),
            ("device_secret", secret),
        ];
        let entropy = Entropy::Good(self.rng.split());
        let setup = Setup { mac: [2, 0, 0x4e, 0, a, b], prefill, flash: Flash::new(), entropy };
        self.places.push(Place {
            segment: plan.segment,
            setup,
            machine: None,
            console: Vec::new(),
            line: Vec::new(),
            seen: BTreeMap::new(),
        });
        self.armed.push(None);
        number
    }

    /// What of a node outlives its power; to be changed while it has none.
    pub fn setup(&mut self, node: usize) -> &mut Setup {
        &mut self.places[node].setup
    }

    pub fn flash(&self, node: usize) -> Flash {
        self.places[node].setup.flash.clone()
    }

    /// Switches a node on. One that is on loses its power first.
    pub fn power_on(&mut self, node: usize) {
        self.power_off(node);
        let schedule = if self.random_schedule { Schedule::Random(self.rng.split()) } else { Schedule::Priorities };
        let place = &mut self.places[node];
        place.setup.flash.restore();
        place.machine = Some(Machine::new(&self.system, &place.setup, schedule));
        self.ready.insert(node);
        self.note(node, "power", "node", || "on".to_owned());
    }

    /// Cuts everything at once: memory, domains, frames on their way through the node.
    pub fn power_off(&mut self, node: usize) {
        if self.places[node].machine.take().is_some() {
            self.ready.remove(&node);
            self.arm(node, None);
            let place = &mut self.places[node];
            (place.line, place.seen) = (Vec::new(), BTreeMap::new());
            self.note(node, "power", "node", || "off".to_owned());
        }
    }

    /// One domain dies.
    pub fn kill(&mut self, node: usize, domain: &str) {
        let id = self.system.domain(domain);
        self.note(node, "fault", domain, || "dies".to_owned());
        if let Some(machine) = &mut self.places[node].machine {
            machine.kill(id);
            self.ready.insert(node);
        }
    }

    /// One domain does nothing any more, and nobody is told.
    pub fn hang(&mut self, node: usize, domain: &str) {
        let id = self.system.domain(domain);
        self.note(node, "fault", domain, || "hangs".to_owned());
        if let Some(machine) = &mut self.places[node].machine {
            machine.hang(id);
        }
    }

    /// Since when a domain is in a step that never ends.
    pub fn stuck_since(&self, node: usize, domain: &str) -> Option<Micros> {
        self.machine(node)?.stuck_since(self.system.domain(domain))
    }

    /// A domain that hung goes on.
    pub fn resume(&mut self, node: usize, domain: &str) {
        let id = self.system.domain(domain);
        self.note(node, "fault", domain, || "goes on".to_owned());
        if let Some(machine) = &mut self.places[node].machine {
            machine.resume(id);
            self.ready.insert(node);
        }
    }

    /// Wakes a domain for nothing.
    pub fn wake(&mut self, node: usize, domain: &str) {
        if let Some(machine) = &self.places[node].machine {
            machine.wake(self.system.domain(domain));
            self.ready.insert(node);
        }
    }

    /// What lifecycle has published to the perimeter last.
    pub fn rules(&self, node: usize) -> Option<Rules> {
        let machine = self.places[node].machine.as_ref()?;
        let region = self.system.regions.iter().position(|region| region.name == "lifecycle_perimeter")?;
        let mut rules = Rules::CLOSED;
        machine.bytes(region, size_of::<u64>(), rules.as_mut_bytes());
        Some(rules)
    }

    pub fn machine(&self, node: usize) -> Option<&Machine> {
        self.places[node].machine.as_ref()
    }

    /// From now on the entropy device of a node under power gives this.
    pub fn source(&mut self, node: usize, entropy: Entropy) {
        self.machine(node).expect("it has power").source(entropy);
        self.ready.insert(node);
    }

    pub fn mac(&self, node: usize) -> Mac {
        self.places[node].setup.mac
    }

    /// The lines that a node's console has printed, since it was added.
    pub fn console(&self, node: usize) -> &[String] {
        &self.places[node].console
    }

    /// The phase that a node's console has printed last.
    pub fn phase(&self, node: usize) -> Option<&str> {
        self.console(node).iter().rev().find_map(|line| line.strip_prefix("genesis: phase "))
    }

    // --- hosts and the wire

    pub fn join(&mut self, segment: usize, host: Rc<RefCell<dyn Host>>) -> usize {
        self.hosts.push(Stranger { segment, host });
        self.hosts.len() - 1
    }

    /// From now on this decides what becomes of each frame.
    pub fn meddle(&mut self, meddler: Option<Meddler>) {
        self.meddler = meddler;
    }

    /// Puts a frame on a segment, from nobody in particular.
    pub fn forge(&mut self, segment: usize, bytes: Vec<u8>) {
        self.send(segment, Port::Nobody, bytes);
    }

    fn send(&mut self, segment: usize, from: Port, bytes: Vec<u8>) {
        let frame = Frame { number: self.frames, segment, from, at: self.now, bytes };
        self.frames += 1;
        let arrivals = match self.meddler.take() {
            Some(mut meddler) => {
                let arrivals = meddler(self, &frame);
                self.meddler = Some(meddler);
                arrivals
            }
            None => frame.passes(),
        };
        if self.trace.is_some() {
            let what = trace::frame(&frame.bytes);
            let fate = match &arrivals[..] {
                _ if arrivals == frame.passes() => String::new(),
                [] => " (lost)".to_owned(),
                [_, _, ..] => format!(" (arrives {} times)", arrivals.len()),
                [one] if one.bytes == frame.bytes => format!(" (after {} us)", one.after),
                [_] => " (altered)".to_owned(),
            };
            self.say(
                self.name_of(from),
                "segment".to_owned(),
                format!("frame {}: {what}{fate}", frame.number),
                segment,
            );
        }
        for arrival in arrivals {
            self.flying.insert((self.now + arrival.after, self.arrivals), (frame.clone(), arrival.bytes));
            self.arrivals += 1;
        }
    }

    fn deliver(&mut self, frame: &Frame, bytes: &[u8]) {
        let to = bytes.first_chunk().copied().unwrap_or_default();
        for (number, place) in self.places.iter_mut().enumerate() {
            let here = place.segment == frame.segment && frame.from != Port::Node(number);
            if let Some(machine) = place.machine.as_ref().filter(|_| here && takes(place.setup.mac, to)) {
                machine.receive(bytes.to_vec());
                self.ready.insert(number);
            }
        }
        let mut sent = Vec::new();
        for (number, stranger) in self.hosts.iter().enumerate() {
            let here = stranger.segment == frame.segment && frame.from != Port::Host(number);
            let mut host = stranger.host.borrow_mut();
            if here && takes(host.mac(), to) {
                host.receive(bytes);
                self.heard = true;
                sent.push((number, stranger.segment, host.poll(self.now)));
            }
        }
        for (number, segment, frames) in sent {
            frames.into_iter().for_each(|bytes| self.send(segment, Port::Host(number), bytes));
        }
    }

    /// Whether a host has heard something since this was last asked.
    pub fn take_heard(&mut self) -> bool {
        std::mem::take(&mut self.heard)
    }

    /// Lets the hosts do what they have been told to since the last step.
    pub fn poll_hosts(&mut self) {
        for number in 0..self.hosts.len() {
            let (segment, host) = (self.hosts[number].segment, self.hosts[number].host.clone());
            let frames = host.borrow_mut().poll(self.now);
            frames.into_iter().for_each(|bytes| self.send(segment, Port::Host(number), bytes));
        }
    }

    // --- what happens by itself

    /// Does something at a time, before anything else that happens then.
    pub fn at(&mut self, time: Micros, deed: impl FnOnce(&mut Self) + 'static) {
        self.agenda.insert((time.max(self.now), self.deeds), Box::new(deed));
        self.deeds += 1;
    }

    /// Does something when so many steps have been done, counted from the world's beginning.
    pub fn before_step(&mut self, step: u64, deed: impl FnOnce(&mut Self) + 'static) {
        self.before_steps.insert((step, self.deeds), Box::new(deed));
        self.deeds += 1;
    }

    /// Nothing more is done of what was to be done at a time or before a step.
    pub fn forget_deeds(&mut self) {
        self.agenda.clear();
        self.before_steps.clear();
    }

    // --- time

    /// Whether there is something to do before the clock goes on.
    pub fn is_busy(&self) -> bool {
        !self.ready.is_empty() || self.due().is_some_and(|at| at <= self.now)
    }

    /// When the next thing happens, as far as the world has come.
    pub fn next(&self) -> Option<Micros> {
        let goes_on = (self.held_up && !self.ready.is_empty()).then_some(self.now);
        [goes_on, self.due()].into_iter().flatten().min()
    }

    /// When the next thing happens that waits for its time.
    fn due(&self) -> Option<Micros> {
        let alarm = self.alarms.first().map(|(at, _)| *at);
        let arrival = self.flying.first_key_value().map(|((at, _), _)| *at);
        let hosts = self.hosts.iter().filter_map(|stranger| stranger.host.borrow_mut().next());
        let deed = self.agenda.first_key_value().map(|((at, _), _)| *at);
        hosts.chain(alarm).chain(arrival).chain(deed).min()
    }

    /// One step of one domain, or else the next thing that waits for its time, whose time it then is. False: nothing is left.
    pub fn step(&mut self) -> bool {
        self.step_until(Micros::MAX)
    }

    /// The same, but the clock does not pass `end`. False: nothing is left until then.
    pub fn step_until(&mut self, end: Micros) -> bool {
        while let Some(((step, _), _)) = self.before_steps.first_key_value()
            && *step <= self.steps
        {
            if let Some((_, deed)) = self.before_steps.pop_first() {
                deed(self);
            }
        }
        if (self.held_up || self.step_cost > 0) && self.due().is_some_and(|at| at <= self.now.min(end)) {
            return self.happen(end);
        }
        if self.held_up && self.now > end {
            return false;
        }
        while let Some(node) = self.ready.first().copied() {
            self.at_once += 1;
            assert!(self.at_once < LIVELOCK, "the world goes round in circles at {} us:\n{}", self.now, self.trace());
            if self.step_node(node) {
                return true;
            }
            self.ready.remove(&node);
        }
        self.happen(end)
    }

    /// The next thing that waits for its time.
    fn happen(&mut self, end: Micros) -> bool {
        let Some(at) = self.due().filter(|at| *at <= end) else { return false };
        if at > self.now {
            (self.now, self.at_once) = (at, 0);
        }
        if let Some(((at, _), _)) = self.agenda.first_key_value()
            && *at <= self.now
        {
            if let Some((_, deed)) = self.agenda.pop_first() {
                deed(self);
            }
        } else if let Some(((at, number), _)) = self.flying.first_key_value()
            && *at <= self.now
        {
            let key = (*at, *number);
            if let Some((frame, bytes)) = self.flying.remove(&key) {
                self.deliver(&frame, &bytes);
            }
        } else if let Some((at, node)) = self.alarms.first().copied()
            && at <= self.now
        {
            self.arm(node, None);
            if let Some(machine) = &self.places[node].machine {
                machine.tick(self.now);
                self.ready.insert(node);
            }
        } else {
            self.poll_hosts();
        }
        true
    }

    /// Runs until `done`, at most until `end`.
    pub fn run_until(&mut self, end: Micros, mut done: impl FnMut(&Self) -> bool) -> Result<(), Stop> {
        while !done(self) {
            if !self.step_until(end) {
                let idle = self.next().is_none();
                self.now = self.now.max(if idle { self.now } else { end });
                return Err(if idle { Stop::Idle } else { Stop::Time });
            }
        }
        Ok(())
    }

    /// Runs for so long, and to the end of it.
    pub fn run_for(&mut self, time: Micros) {
        let end = self.now + time;
        while self.step_until(end) {}
        (self.now, self.at_once) = (self.now.max(end), 0);
    }

    /// Lets the clock go on to `now` where nothing waits for a time before that.
    pub fn advance_to(&mut self, now: Micros) {
        debug_assert!(self.due().is_none_or(|next| next > now.min(self.now)), "something is due before");
        if now > self.now {
            (self.now, self.at_once) = (now, 0);
        }
    }

    fn step_node(&mut self, node: usize) -> bool {
        let now = self.now;
        let place = &mut self.places[node];
        let Some(machine) = &mut place.machine else { return false };
        let Some(stepped) = machine.step(now) else { return false };
        let alarm = machine.alarm();
        self.held_up = machine.may_loop();
        self.steps += 1;
        self.now += self.step_cost.max(if self.held_up { HELD_UP } else { 0 });
        self.arm(node, alarm);
        if self.trace.is_some() {
            for (from, to) in stepped.rung {
                self.note_call(node, from, to);
            }
        }
        let place = &mut self.places[node];
        let mut lines = Vec::new();
        for byte in stepped.printed {
            match byte {
                b'\n' => lines.push(String::from_utf8_lossy(&std::mem::take(&mut place.line)).into_owned()),
                b'\r' => {}
                byte => place.line.push(byte),
            }
        }
        let segment = place.segment;
        for line in lines {
            if line.starts_with("genesis: ") {
                self.note(node, "console", "serial", || line.clone());
            }
            self.places[node].console.push(line);
        }
        // Power that goes in a write goes everywhere.
        if self.places[node].setup.flash.nor().is_dead() {
            self.power_off(node);
            return true;
        }
        stepped.sent.into_iter().for_each(|bytes| self.send(segment, Port::Node(node), bytes));
        true
    }

    fn arm(&mut self, node: usize, alarm: Option<Micros>) {
        if self.armed[node] != alarm {
            if let Some(before) = self.armed[node] {
                self.alarms.remove(&(before, node));
            }
            if let Some(at) = alarm {
                self.alarms.insert((at, node));
            }
            self.armed[node] = alarm;
        }
    }
}
