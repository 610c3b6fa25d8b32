//! A lab inside the test's process, and what tests ask of its nodes: nothing is shared with another test.
//!
//! A node is native, or, if `GENESIS_BOARD` names a board, the release image on that board under QEMU. The tests
//! are the same.

use std::{
    cell::{Cell, RefCell},
    net::Ipv6Addr,
    os::unix::fs::FileExt,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use crypto::AnchorPublic;
use lab::{Cutter, Lab, NATIVE, NodeOptions, Seen};
use qemu::Memory;
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use segment::switch::{Impairment, MAX_FRAME};
use tempfile::TempDir;
use wire::{
    Key,
    anchor::{Anchor, AnchorFile},
};
use zerocopy::IntoBytes;

use crate::{PATIENCE, fuse, hostile::Target, process, regions, station::Station};

/// A segment with nodes on it.
pub struct Bed {
    lab: Lab,
    dir: TempDir,
}

/// A node whose image has an anchor, and that does not scan.
pub fn image(anchor: &AnchorPublic) -> NodeOptions {
    NodeOptions { anchor: Some(AnchorFile::new(&Anchor::alone(anchor)).as_bytes().to_vec()), ..ticket() }
}

/// A node whose image has no anchor, and that does not scan.
pub fn ticket() -> NodeOptions {
    NodeOptions::default().with(|params| {
        params.scan_ms = 0.into();
        params.hello_delay_ms = 50.into();
        params.telemetry_ms = 1000.into();
        params.heartbeat_ms = 500.into();
    })
}

/// The same, with fuses in these domains on a board: there is no other way to end one.
pub fn fused(domains: &[&str], options: NodeOptions) -> NodeOptions {
    let faulty = if board() == NATIVE { &[][..] } else { domains };
    NodeOptions { faulty: faulty.iter().map(|domain| (*domain).to_owned()).collect(), ..options }
}

/// Where nodes are booted.
pub fn board() -> String {
    std::env::var("GENESIS_BOARD").unwrap_or_else(|_| NATIVE.to_owned())
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

impl Bed {
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        Self { lab: Lab::start().unwrap_or_else(|error| panic!("{error:#}")), dir }
    }

    /// The directory of this bed, for files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory of the switch, for programs that join it.
    pub fn segment(&self) -> &Path {
        self.lab.switch().dir()
    }

    /// Boots a node of the system that the project ships, where `GENESIS_BOARD` says.
    pub fn node(&self, options: NodeOptions) -> Node {
        self.node_on(&board(), options)
    }

    /// Boots a node on a board.
    pub fn node_on(&self, board: &str, options: NodeOptions) -> Node {
        let options = NodeOptions { board: board.to_owned(), ..options };
        let node = self.lab.node(options).unwrap_or_else(|error| panic!("{error:#}"));
        Node { node, from: Cell::new(0), killed: RefCell::default() }
    }

    /// A host with a port of its own.
    pub fn station(&self, name: &str, number: u8) -> Station {
        Station::new(self.lab.switch().port(name).expect("a port"), number)
    }

    /// What the node has sent since the mark.
    pub fn frames_from(&self, node: &Node) -> Vec<Vec<u8>> {
        self.frames_of(node.name())
    }

    /// What a port has sent since the mark.
    pub fn frames_of(&self, port: &str) -> Vec<Vec<u8>> {
        self.lab.switch().frames_from(port).iter().map(|frame| frame.to_vec()).collect()
    }

    /// What befalls the frames to and from a port, by its name.
    pub fn impair(&self, port: &str, impairment: Option<Impairment>) {
        assert!(self.lab.switch().impair(port, impairment), "there is no port {port}");
    }

    /// Forgets the frames so far.
    pub fn mark(&self) {
        self.lab.switch().mark();
    }

    /// Sends frames no faster than the node takes them from its device, so that none is lost on the way.
    pub fn deliver(&self, node: &Node, from: &Station, frames: impl IntoIterator<Item = Vec<u8>>) {
        /// Fewer than the node's rings hold.
        const AHEAD: usize = 16;
        let counters = || self.lab.switch().counters(node.name()).expect("the node has a port");
        // A host that was there first has spoken before the node was.
        let (overrun, absent) = (counters().overrun, counters().absent);
        let handled = || {
            let counters = counters();
            assert_eq!((counters.overrun, counters.absent), (overrun, absent), "frames were lost before the node");
            counters.delivered + counters.stray
        };
        // What the switch refuses (nothing, or more than any link carries) reaches nobody.
        let deliverable = |frame: &Vec<u8>| (1..=MAX_FRAME).contains(&frame.len());
        let mut frames = frames.into_iter().filter(deliverable);
        loop {
            let target = handled() + AHEAD as u64;
            let sent = frames.by_ref().take(AHEAD).map(|frame| from.send(&frame)).count();
            let deadline = Instant::now() + PATIENCE;
            while sent == AHEAD && handled() < target {
                assert!(Instant::now() < deadline, "the node takes no frames any more\n{}", node.console());
                thread::yield_now();
            }
            if sent < AHEAD {
                return;
            }
        }
    }
}

impl Drop for Bed {
    fn drop(&mut self) {
        // Whoever looks for the reason wants to see the frames.
        if thread::panicking() {
            eprintln!("the record of the segment is in {}", self.lab.keep().display());
        }
    }
}

/// A running node, seen from outside.
pub struct Node {
    node: lab::Node,
    /// Lines before this one are not waited for any more.
    from: Cell<usize>,
    /// Domains that the test has killed.
    killed: RefCell<Vec<String>>,
}

impl Node {
    pub fn name(&self) -> &str {
        self.node.name()
    }

    /// Everything that its console has shown.
    pub fn console(&self) -> String {
        self.node.console()
    }

    /// The image that a node on a board has booted.
    pub fn image(&self) -> Option<&Path> {
        self.node.image()
    }

    /// Cuts its power and switches it on again. What its console has said before is forgotten.
    pub fn reboot(&mut self) {
        self.cut();
        self.on();
    }

    /// Cuts its power, and waits until nothing of it is left.
    pub fn cut(&mut self) {
        self.node.cut();
    }

    /// Switches it on.
    pub fn on(&mut self) {
        self.from.set(0);
        self.node.on().unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// Makes another device of it, which is off.
    pub fn wipe(&mut self) {
        self.cut();
        self.node.wipe().unwrap_or_else(|error| panic!("{error:#}"));
    }

    pub fn cutter(&self) -> Cutter {
        self.node.cutter()
    }

    /// What stands in its flash.
    pub fn flash(&self) -> Vec<u8> {
        self.node.flash().unwrap_or_else(|error| panic!("{error:#}"))
    }

    /// F, if its console has shown it so far.
    pub fn shown(&self) -> Option<Key> {
        // Power may go within the line.
        self.node.seen().fiduciary.filter(|hex| hex.len() == 64).map(|hex| key(&hex))
    }

    /// Waits so long for the line, at most until its power goes.
    pub fn says(&self, patience: Duration, wanted: impl Fn(&str) -> bool) -> bool {
        let from = self.from.get();
        let look = |seen: &Seen| match seen.lines[from..].iter().any(|line| wanted(line)) {
            false if seen.ended || seen.off => Some(false),
            said => said.then_some(true),
        };
        self.node.wait(patience, look).unwrap_or(false)
    }

    /// Waits until `look` finds what it looks for on the console.
    fn wait<T>(&self, what: &str, mut look: impl FnMut(&Seen) -> Option<T>) -> T {
        let found = self.node.wait(PATIENCE, |seen| match look(seen) {
            None if seen.ended => Some(None),
            found => found.map(Some),
        });
        found.flatten().unwrap_or_else(|| panic!("no {what} on the console; deaths: {:?}", self.deaths()))
    }

    /// Waits for a line that `wanted` takes, and returns it.
    pub fn wait_line(&self, wanted: impl Fn(&str) -> bool) -> String {
        let from = self.from.get();
        self.wait("such line", |seen| seen.lines[from..].iter().find(|line| wanted(line)).cloned())
    }

    /// What is on the console so far is not waited for any more.
    pub fn forget_lines(&self) {
        self.from.set(self.node.seen().lines.len());
    }

    pub fn wait_phase(&self, phase: &str) {
        self.node.wait_phase(phase, PATIENCE).unwrap_or_else(|error| panic!("{error:#}"));
    }

    /// The phases so far.
    pub fn phases(&self) -> Vec<String> {
        self.node.seen().phases
    }

    /// The ticket, of a node without an anchor.
    pub fn ticket(&self) -> String {
        self.wait("ticket", |seen| seen.ticket.clone())
    }

    pub fn fingerprint(&self) -> String {
        self.wait("fingerprint", |seen| seen.fingerprint.clone())
    }

    /// F, as the console shows it.
    pub fn fiduciary(&self) -> Key {
        key(&self.wait("identity", |seen| seen.fiduciary.clone()))
    }

    /// Where it is on the link, as the console shows it.
    pub fn target(&self) -> Target {
        let ip: Ipv6Addr = self.wait("address", |seen| seen.address);
        Target { mac: self.node.mac(), ip: ip.octets() }
    }

    /// Lights the fuse of a domain that has one: it burns when the domain is woken next. `how` is one of [`fuse`]'s.
    pub fn light(&self, domain: &str, how: u64) {
        self.light_from(domain, 0, how, &[]);
    }

    /// Has it plant marks of this word, when it is woken next, and one before the end of a region.
    pub fn plant(&self, domain: &str, word: u64, end: u64) {
        self.light_from(domain, 0, fuse::PLANT, &[(fuse::WORD, word), (fuse::END, end)]);
    }

    /// Of a domain whose fuse says `now`; with words for what it is to do.
    pub fn light_from(&self, domain: &str, now: u64, how: u64, words: &[(u64, u64)]) {
        let places = self.fuses(domain, now);
        let [place] = places[..] else { panic!("{} fuses of {domain} in the machine's memory", places.len()) };
        let write = |number, word: u64| {
            self.memory().write(place + 8 * number, &word.to_le_bytes()).expect("the machine's memory");
        };
        words.iter().for_each(|(number, word)| write(*number, *word));
        write(fuse::LIT, how);
        self.killed.borrow_mut().push(domain.to_owned());
    }

    /// Whether the domain's fuse says this: one of [`fuse`]'s.
    pub fn fuse_says(&self, domain: &str, lit: u64) -> bool {
        !self.fuses(domain, lit).is_empty()
    }

    /// A word of the domain's fuse, if that says this.
    pub fn fuse_word(&self, domain: &str, lit: u64, number: u64) -> Option<u64> {
        let mut word = [0; 8];
        let place = self.fuses(domain, lit).first()? + 8 * number;
        self.memory().read(place, &mut word).expect("the machine's memory");
        Some(u64::from_le_bytes(word))
    }

    fn fuses(&self, domain: &str, lit: u64) -> Vec<u64> {
        self.memory().find(&words(domain, lit)).expect("the machine's memory")
    }

    /// Where these bytes stand in the machine's memory; on native, in all that its domains have, their own and what they share.
    pub fn find(&self, bytes: &[u8]) -> Vec<String> {
        if let Some(memory) = self.node.memory() {
            let places = memory.find(bytes).expect("the machine's memory");
            return places.iter().map(|place| format!("{place:#x}")).collect();
        }
        let of = |(domain, pid): (String, u32)| {
            process::find(pid, bytes).into_iter().map(move |place| format!("{domain} at {place:#x}"))
        };
        self.node.processes().into_iter().flat_map(of).collect()
    }

    fn memory(&self) -> &Memory {
        self.node.memory().expect("domains with fuses")
    }

    /// Ends a domain for good that is nobody's child: by its fuse, or as a process.
    pub fn end(&self, domain: &str) {
        if self.node.memory().is_some() {
            self.light(domain, fuse::NULL_WRITE);
        } else {
            assert!(self.node.kill(domain), "{domain} does not run");
            self.killed.borrow_mut().push(domain.to_owned());
        }
    }

    /// Whether [`Self::end`] has come to pass.
    pub fn has_ended(&self, domain: &str) -> bool {
        match self.node.memory() {
            Some(_) => self.fuse_says(domain, fuse::BURNT),
            None => !self.node.processes().contains_key(domain),
        }
    }

    /// Kills the process of a domain, as a fault would, and waits until another is in its place, and the console says so. It
    /// is the death of this number of that domain.
    pub fn kill(&self, domain: &str, number: u32) {
        let before = self.node.processes().get(domain).copied();
        assert!(before.is_some() && self.node.kill(domain), "{domain} does not run");
        self.killed.borrow_mut().push(domain.to_owned());
        let (begin, count) = (died(domain), format!(" ({number} so far, "));
        let is_it = |line: &String| line.starts_with(&begin) && line.contains(&count);
        self.wait("restart", |seen| seen.lines.iter().any(is_it).then_some(()));
        self.wait("other process", |seen| {
            seen.processes.get(domain).is_some_and(|pid| Some(*pid) != before).then_some(())
        });
    }

    /// Ends a child so, for the first time, and waits until another is in its place, which does its work. On a board, where
    /// its fuse says `now`, it ends when it is woken: by `wake`, unless something else does it.
    pub fn replace(&self, domain: &str, now: u64, mut wake: impl FnMut()) {
        let deadline = Instant::now() + PATIENCE;
        if self.node.memory().is_some() {
            self.light_from(domain, now, fuse::NULL_WRITE, &[]);
            while !self.console().lines().any(|line| line.starts_with(&died(domain))) {
                assert!(Instant::now() < deadline, "{domain} does not die:\n{}", self.console());
                wake();
            }
        } else {
            self.kill(domain, 1);
        }
        let runs = || match self.node.memory() {
            // It has a fuse again.
            Some(_) => self.fuse_says(domain, 0),
            None => process::is_sealed(self.process(domain)),
        };
        while !runs() {
            assert!(Instant::now() < deadline, "{domain} does not start:\n{}", self.console());
        }
    }

    /// Has the process of a domain hang in a step that begins now, as its parent sees it: it is stopped, and has said by its
    /// word what it says when it begins one. The one native node of this process.
    pub fn hang(&self, domain: &str) {
        let pid = self.process(domain);
        let pid = Pid::from_raw(pid.cast_signed()).expect("a process");
        kill_process(pid, Signal::STOP).expect("it runs");
        // Stopped for good: what it was doing is done or begins no more.
        waitid(WaitId::Pid(pid), WaitIdOptions::STOPPED | WaitIdOptions::NOWAIT)
            .expect("a process of the runner's, here");
        let word = regions::open(&format!("{domain}_lifecycle_watch"));
        word.write_all_at(&native::pd::now().to_le_bytes(), 0).expect("a region");
        self.killed.borrow_mut().push(domain.to_owned());
    }

    /// The process that the domain is now, on native.
    pub fn process(&self, domain: &str) -> u32 {
        let processes = self.node.processes();
        processes.get(domain).copied().unwrap_or_else(|| panic!("{domain} does not run"))
    }

    /// Domains that have died so far.
    pub fn deaths(&self) -> Vec<String> {
        let seen = self.node.seen();
        let told = seen.deaths.into_iter().map(|(_, how)| how);
        // On seL4 the node itself says it.
        told.chain(seen.lines.into_iter().filter(|line| line.contains(" died; "))).collect()
    }
}

/// A key in hexadecimal.
fn key(hex: &str) -> Key {
    std::array::from_fn(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("hex"))
}

/// A domain's fuse in its memory.
fn words(domain: &str, lit: u64) -> Vec<u8> {
    let [first, second] = fuse::MAGIC;
    [first, second, lit, fuse::whose(domain)].map(u64::to_le_bytes).concat()
}

/// How a line begins that the console says of a domain's death.
pub fn died(domain: &str) -> String {
    format!("genesis: fault {domain} died; ")
}

impl Drop for Node {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}'s console:\n{}---", self.name(), self.console());
            return;
        }
        let mut deaths = self.deaths();
        let killed = self.killed.borrow();
        deaths.retain(|line| !killed.iter().any(|domain| line.contains(&format!(" {domain} died"))));
        assert_eq!(deaths, [] as [String; 0], "domains died");
    }
}
