//! Domains fault or loop for ever on the board that `GENESIS_BOARD` names, and harm no other: each that faults is started
//! anew, and the node is what it was. `make test-sel4` runs this; on native, tests/tests/restart.rs does the same.
//!
//! The image is the release image with some programs in the place of others: the same domains with a fuse (pds/faulty). They
//! work as any do until the test lights a fuse in the machine's memory.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what this macro prints, and shows it to whoever asks"
)]

use std::time::{Duration, Instant};

use genesis_tests::{
    PATIENCE,
    admin::Admin,
    bed::{Bed, Node, ticket},
    fleet::Fleet,
    fuse::{self, HANG, HANGS, JUMP_INTO_DATA, LOOP, LOOPS, NULL_WRITE, PANIC},
    station::Station,
};
use lab::NodeOptions;
use wire::ticket::Ticket;
use zerocopy::IntoBytes;

/// For an answer that comes if anybody is there.
const SHORTLY: Duration = Duration::from_millis(500);

/// Those whose parent is `lifecycle`.
const CHILDREN: [&str; 10] =
    ["entropy", "net", "perimeter", "beacon", "claim", "timer", "console", "store", "mesh", "workload"];

struct Held {
    node: Node,
    /// Whoever has the ticket.
    admin: Admin,
    station: Station,
}

/// A node that holds, with fuses in these domains, and that answers as one without.
fn held(bed: &Bed, faulty: &[&str]) -> Held {
    let faulty = faulty.iter().map(|domain| (*domain).to_owned()).collect();
    let node = bed.node(NodeOptions { faulty, ..ticket() }.with(|params| {
        params.hello_delay_ms = 5.into();
        params.token_ms = 2000.into();
    }));
    node.wait_phase("hold");
    let mut admin = Admin::new(Ticket::from_text(&node.ticket()).expect("a ticket").secret);
    let mut station = bed.station("admin", 1);
    assert_eq!(admin.discover(&mut station).fiduciary, node.fiduciary());
    assert_eq!(node.deaths(), [] as [String; 0]);
    Held { node, admin, station }
}

/// Whether the console has told that the domain has died or hung so often.
fn told(node: &Node, domain: &str, number: u32) -> bool {
    let (fault, count) = (format!("genesis: fault {domain} "), format!(" ({number} so far, "));
    node.console().lines().any(|line| line.starts_with(&fault) && line.contains(&count))
}

impl Held {
    /// Finds the node, and opens its gate if it answers: that wakes all whom a node in hold needs.
    fn wake(&mut self) {
        let find = self.admin.find(&self.station);
        self.station.announce(find.as_bytes());
        if let Some(hello) = self.admin.hear_hello(&mut self.station, SHORTLY) {
            self.admin.try_open(&mut self.station, &hello, SHORTLY);
        }
    }

    /// The domain dies or hangs in this way, and is started anew.
    fn falls(&mut self, domain: &str, how: u64, number: u32) {
        self.node.light(domain, how);
        for _ in 0..120 {
            if told(&self.node, domain, number) {
                return;
            }
            self.wake();
        }
        panic!("{domain} does not fall, or is not started anew:\n{}", self.node.console());
    }

    /// The domain hangs, and is started anew. How long that took by the machine's clock is said: it is a busy host's, so nothing
    /// is asked of it. The simulator holds the bound.
    fn hangs(&mut self, domain: &str, number: u32) {
        if domain == "store" {
            // A find beyond those that are counted ahead has to be written.
            self.admin.counter += 1 << 17;
        }
        self.node.light(domain, HANG);
        let mut since = None;
        for _ in 0..120 {
            since = since.or_else(|| self.node.fuse_word(domain, HANGS, fuse::BEGAN));
            if told(&self.node, domain, number) {
                let started = (0..1000).find_map(|_| self.node.fuse_word(domain, 0, fuse::STARTED));
                if let (Some(since), Some(started)) = (since, started) {
                    println!("{domain} was started anew {} ms after it began to hang", (started - since) / 1000);
                }
                return;
            }
            self.wake();
        }
        panic!("{domain} does not hang, or is not started anew:\n{}", self.node.console());
    }

    /// Claimed, with a rule that lets an echo in.
    fn claimed(self, fleet: &mut Fleet) -> Member<'_> {
        let at = fleet.claims(&self.node);
        fleet.admin("mesh up");
        fleet.admin("policy set 'in authority icmp'");
        let mut member = Member { node: self.node, fleet, at, rules: 0 };
        member.lives();
        member
    }

    /// The domain runs for ever from now on.
    fn loops(&mut self, domain: &str) {
        self.node.light(domain, LOOP);
        for _ in 0..120 {
            if self.node.fuse_says(domain, LOOPS) {
                return;
            }
            self.wake();
        }
        panic!("{domain} is not woken");
    }
}

/// A node in its administrator's mesh.
struct Member<'a> {
    node: Node,
    fleet: &'a mut Fleet,
    at: String,
    /// How often the rules were changed.
    rules: u32,
}

impl Member<'_> {
    /// It answers an echo and a command, and has been nothing but what it is.
    fn lives(&mut self) {
        self.fleet.ping(&self.at);
        self.fleet.admin(&format!("command {} status", self.at));
        assert_eq!(self.node.phases(), ["blind", "fork", "hold", "committed", "claimed"]);
    }

    /// The domain dies or hangs in this way, and is started anew.
    fn falls(&mut self, domain: &str, how: u64, number: u32) {
        self.node.light(domain, how);
        self.until_told(domain, number);
    }

    /// Does what needs the domain until the console has told that it fell; the workload wakes by itself, now and then.
    fn until_told(&mut self, domain: &str, number: u32) {
        let deadline = Instant::now() + PATIENCE;
        while !told(&self.node, domain, number) {
            assert!(
                Instant::now() < deadline,
                "{domain} does not fall, or is not started anew:\n{}",
                self.node.console()
            );
            match domain {
                // Whose rules are published anew; and a handshake takes samples.
                "store" | "beacon" | "claim" => {
                    self.rules += 1;
                    let port = 1000 + self.rules;
                    self.fleet.admin(&format!("policy set 'in authority icmp' 'in authority udp {port}'"));
                }
                "entropy" => {
                    self.fleet.admin("mesh down");
                    self.fleet.admin("mesh up");
                    self.fleet.ping(&self.at);
                }
                _ => self.fleet.ping(&self.at),
            }
        }
    }
}

/// In hold each that works there, in each way to fault; the others when the claim wakes them; and all of them as a member.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn each_domain_faults_in_each_phase_and_is_started_anew() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let mut held = held(&bed, &CHILDREN);
    let mut ways = [NULL_WRITE, PANIC, JUMP_INTO_DATA].into_iter().cycle();
    let mut way = || ways.next().expect("endless");
    for domain in ["entropy", "net", "perimeter", "beacon", "claim", "timer", "console"] {
        held.falls(domain, way(), 1);
    }
    held.admin.discover(&mut held.station);
    // The claim wakes them, and waits for what the store was to write.
    for domain in ["mesh", "workload", "store"] {
        held.node.light(domain, way());
    }
    let mut member = held.claimed(&mut fleet);
    for domain in ["mesh", "workload", "store"] {
        assert!(told(&member.node, domain, 1), "{domain}:\n{}", member.node.console());
    }
    for domain in CHILDREN {
        member.falls(domain, way(), 2);
    }
    member.lives();
}

/// One that hangs in a step is ended and started anew, and nobody with it: in hold, in the claim that wakes it, and as a
/// member.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn each_domain_hangs_in_each_phase_and_is_started_anew() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let mut held = held(&bed, &CHILDREN);
    for domain in ["entropy", "net", "perimeter", "beacon", "claim", "timer", "console", "store"] {
        held.hangs(domain, 1);
    }
    held.admin.discover(&mut held.station);
    for domain in ["mesh", "workload"] {
        held.node.light(domain, HANG);
    }
    let mut member = held.claimed(&mut fleet);
    for domain in ["mesh", "workload"] {
        member.until_told(domain, 1);
    }
    for domain in CHILDREN {
        member.falls(domain, HANG, 2);
    }
    member.lives();
    let faults = member.node.console().lines().filter(|line| line.starts_with("genesis: fault ")).count();
    assert_eq!(faults, 2 * CHILDREN.len(), "{}", member.node.console());
}

/// One that never waits takes what its budget gives, whatever its priority: the highest of all children, those below the
/// keystore, the lowest of those that a node in hold needs. All others go on.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_domain_that_never_waits_leaves_time_to_all_others() {
    for domain in ["timer", "entropy"] {
        let bed = Bed::new();
        let mut held = held(&bed, &[domain, "net", "perimeter"]);
        held.loops(domain);
        // Whoever dies has run, and so has the console, which says it.
        held.falls("perimeter", PANIC, 1);
        held.falls("net", NULL_WRITE, 1);
    }
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let mut held = held(&bed, &["console"]);
    held.loops("console");
    let before = held.node.console();
    fleet.claim(&held.node);
    assert_eq!(held.node.console(), before);
}
