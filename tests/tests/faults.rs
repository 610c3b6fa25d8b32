//! Domains fault or loop for ever on the board that `GENESIS_BOARD` names, and harm no other: each that faults is started
//! anew, and the node is what it was. `make test-sel4` runs this; on native, tests/tests/restart.rs does the same.
//!
//! The image is the release image with some programs in the place of others: the same domains with a fuse (pds/faulty). They
//! work as any do until the test lights a fuse in the machine's memory.

use std::time::Duration;

use genesis_tests::{
    admin::Admin,
    bed::{Bed, Node, ticket},
    fleet::Fleet,
    fuse::{HANG, JUMP_INTO_DATA, LOOP, NULL_WRITE, PANIC},
    hostile,
    station::Station,
};
use lab::NodeOptions;
use wire::ticket::Ticket;
use zerocopy::IntoBytes;

/// For an answer that comes if anybody is there.
const SHORTLY: Duration = Duration::from_millis(500);
/// For an answer that must not come.
const LONG: Duration = Duration::from_secs(2);

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

    /// The domain dies in this way, and is started anew.
    fn dies(&mut self, domain: &str, how: u64, number: u32) {
        self.node.light(domain, how);
        for _ in 0..120 {
            if told(&self.node, domain, number) {
                return;
            }
            self.wake();
        }
        panic!("{domain} does not die, or is not started anew:\n{}", self.node.console());
    }

    /// The domain runs for ever from now on.
    fn loops(&mut self, domain: &str) {
        self.node.light(domain, LOOP);
        for _ in 0..120 {
            if self.node.loops(domain) {
                return;
            }
            self.wake();
        }
        panic!("{domain} is not woken");
    }

    fn hears_nothing(&mut self) {
        let find = self.admin.find(&self.station);
        self.station.announce(find.as_bytes());
        assert!(self.admin.hear_hello(&mut self.station, LONG).is_none(), "{}", self.node.console());
    }
}

/// In hold each that works there, in each way to fault; the others when the claim wakes them; and as a member.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn each_domain_faults_in_each_phase_and_is_started_anew() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let mut held =
        held(&bed, &["entropy", "net", "perimeter", "beacon", "claim", "mesh", "workload", "timer", "console"]);
    let mut ways = [NULL_WRITE, PANIC, JUMP_INTO_DATA].into_iter().cycle();
    let mut way = || ways.next().expect("endless");
    for domain in ["entropy", "net", "perimeter", "beacon", "claim", "timer", "console"] {
        held.dies(domain, way(), 1);
    }
    held.admin.discover(&mut held.station);
    for domain in ["mesh", "workload"] {
        held.node.light(domain, way());
    }
    let at = fleet.claims(&held.node);
    fleet.admin("mesh up");
    fleet.admin("policy set 'in authority icmp'");
    fleet.ping(&at);
    assert!(told(&held.node, "mesh", 1) && told(&held.node, "workload", 1), "{}", held.node.console());
    for domain in ["net", "perimeter", "mesh", "workload", "timer", "console"] {
        held.node.light(domain, way());
        while !told(&held.node, domain, 2) {
            fleet.ping(&at);
        }
    }
    fleet.ping(&at);
    assert_eq!(held.node.phases(), ["blind", "fork", "hold", "committed", "claimed"]);
}

/// One that hangs in a step is ended and started anew, and the node can be claimed then.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn each_domain_hangs_in_hold_and_is_started_anew() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let mut held = held(&bed, &["entropy", "net", "perimeter", "beacon", "claim", "timer", "console", "store"]);
    for domain in ["entropy", "net", "perimeter", "beacon", "claim", "timer", "console"] {
        held.dies(domain, HANG, 1);
    }
    held.admin.discover(&mut held.station);
    // The claim wakes it, and waits for what it was to write.
    held.node.light("store", PANIC);
    fleet.claims(&held.node);
    assert!(told(&held.node, "store", 1), "{}", held.node.console());
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
        held.dies("perimeter", PANIC, 1);
        held.dies("net", NULL_WRITE, 1);
    }
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let mut held = held(&bed, &["console"]);
    held.loops("console");
    let before = held.node.console();
    fleet.claim(&held.node);
    assert_eq!(held.node.console(), before);
}

/// The keystore is nobody's child: it stays down, and the node is silent, to everyone and for good.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_held_node_is_silent_when_its_keystore_faults() {
    let bed = Bed::new();
    let mut held = held(&bed, &["keystore"]);
    held.node.light("keystore", PANIC);
    held.hears_nothing();
    bed.mark();
    let stranger = bed.station("stranger", 66);
    let find = Admin::new([0; 32]).find(&stranger);
    let zoo = hostile::zoo((stranger.mac, stranger.ip), held.node.target(), find.as_bytes());
    bed.deliver(&held.node, &stranger, zoo.into_iter().map(|(_, frame)| frame));
    held.hears_nothing();
    let frames = bed.frames_from(&held.node);
    assert_eq!(frames, [] as [Vec<u8>; 0]);
}
