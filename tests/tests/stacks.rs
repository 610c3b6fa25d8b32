//! How much of its stack each domain has used by the time that a node has been found, claimed, updated, isolated and talked
//! to, on the board that `GENESIS_BOARD` names. system.xml gives the sizes. `make test-sel4` runs this.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what this macro prints, and shows it to whoever asks"
)]

use std::{path::Path, time::Instant};

use genesis_tests::{
    PATIENCE,
    admin::Admin,
    bed::{Bed, Node, board, fused, ticket},
    fleet::Fleet,
    fuse::{END, MEASURE, WORD},
};
use sysdesc::image::assemble::Recipe;
use wire::ticket::Ticket;

/// Those with a program that has a fuse.
const DOMAINS: [&str; 12] = [
    "keystore",
    "lifecycle",
    "entropy",
    "store",
    "net",
    "perimeter",
    "beacon",
    "claim",
    "mesh",
    "workload",
    "timer",
    "console",
];

/// Each, and bytes of its stack.
fn stacks() -> [(&'static str, u64); DOMAINS.len()] {
    let system = Recipe::new(&board(), "release").system(Path::new("/")).expect("the description");
    let domains = system.all_domains();
    let size = |name: &str| domains.iter().find(|domain| domain.name == name)?.stack_size;
    DOMAINS.map(|name| (name, size(name).expect("a stack of its own size")))
}

fn used(node: &Node, domain: &str) -> u64 {
    // A word that is being changed is not found.
    (0..1000).find_map(|_| node.fuse_word(domain, MEASURE, WORD)).expect("a fuse that is lit")
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_quarter_of_each_stack_is_never_used() {
    let bed = Bed::new();
    let stacks = stacks();
    let node = bed.node(fused(&DOMAINS, ticket()));
    node.wait_phase("hold");
    for (name, size) in stacks {
        node.light_from(name, 0, MEASURE, &[(END, size)]);
    }
    // A claim that is given up after its first message, so that its gate closes and another opens.
    let mut admin = Admin::new(Ticket::from_text(&node.ticket()).expect("a ticket").secret);
    let mut station = bed.station("stranger", 1);
    let (hello, token) = admin.reach(&mut station);
    let mut session = admin.session(&mut station, &hello, &token).expect("the gate is open");
    session.identity(&mut station, &hello.fiduciary).expect("the identity");
    station.briefly(|station| session.send(station, b"no grant"));
    let mut fleet = Fleet::new(&bed);
    let at = fleet.claims(&node);
    fleet.admin("mesh up");
    fleet.admin("policy set 'in authority icmp' 'in authority tcp 80' 'in peer icmp'");
    fleet.ping(&at);
    fleet.host.until(&format!("curl -sf -m 5 http://{at}/"));
    fleet.admin("export a-peer");
    for command in ["status", "isolate", "rejoin", "rotate"] {
        fleet.admin(&format!("command {at} {command}"));
    }
    fleet.ping(&at);
    let deadline = Instant::now() + PATIENCE;
    while stacks.iter().any(|(name, _)| used(&node, name) == 0) {
        assert!(Instant::now() < deadline, "not all were woken");
        std::thread::yield_now();
    }
    println!("| domain | bytes of its stack | used |\n|---|---|---|");
    let mut tight = Vec::new();
    for (name, size) in stacks {
        let used = used(&node, name);
        println!("| {name} | {size} | {used} |");
        if 4 * used > 3 * size {
            tight.push(name);
        }
    }
    assert_eq!(tight, [""; 0], "less than a quarter is left");
}
