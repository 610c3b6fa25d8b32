//! Domains that hang in a native node: each is ended and started anew, and the node is what it was. The one test of its
//! program, since it writes to the one node's memory.

use std::time::Instant;

use genesis_tests::{
    PATIENCE,
    admin::Admin,
    bed::{Bed, Node, ticket},
    fleet::Fleet,
};
use wire::ticket::Ticket;

/// Those whose parent is `lifecycle`, but for `timer`: without that nobody looks.
const OTHERS: [&str; 9] = ["console", "entropy", "store", "claim", "mesh", "workload", "beacon", "perimeter", "net"];

fn told(node: &Node, domain: &str, number: u32) -> bool {
    let (fault, count) = (format!("genesis: fault {domain} hung; "), format!(" ({number} so far, "));
    node.console().lines().any(|line| line.starts_with(&fault) && line.contains(&count))
}

/// All of these, at once. `work` needs the node; whether it gets what it wants is nothing to it.
fn hang(node: &Node, domains: &[&str], number: u32, work: &mut dyn FnMut()) {
    // Whoever works has lifecycle look 3 s later.
    work();
    let before: Vec<_> = domains.iter().map(|domain| node.process(domain)).collect();
    domains.iter().for_each(|domain| node.hang(domain));
    let deadline = Instant::now() + PATIENCE;
    let is_anew = |(domain, before): (&&str, &u32)| told(node, domain, number) && node.process(domain) != *before;
    while !domains.iter().zip(&before).all(is_anew) {
        assert!(Instant::now() < deadline, "not all of {domains:?} are started anew:\n{}", node.console());
        work();
    }
}

#[test]
fn each_domain_hangs_in_each_phase_and_is_started_anew() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let node = bed.node(ticket());
    node.wait_phase("hold");
    let mut admin = Admin::new(Ticket::from_text(&node.ticket()).expect("a ticket").secret);
    let mut station = bed.station("admin", 1);
    let mut finds = || {
        admin.counter += 1;
        let find = admin.find(&station);
        station.announce(zerocopy::IntoBytes::as_bytes(&find));
        admin.hear_hello(&mut station, PATIENCE / 200);
    };
    for domains in [&OTHERS[..], &["timer"]] {
        hang(&node, domains, 1, &mut finds);
    }
    assert_eq!(node.phases().last().map(String::as_str), Some("hold"));
    let at = fleet.claims(&node);
    fleet.admin("mesh up");
    fleet.admin("policy set 'in authority icmp'");
    fleet.ping(&at);
    for domains in [&OTHERS[..], &["timer"]] {
        hang(&node, domains, 2, &mut || drop(fleet.host.run(&format!("ping -n -c 1 -W 1 {at}"))));
    }
    fleet.ping(&at);
    fleet.admin(&format!("command {at} status"));
    assert_eq!(node.phases(), ["blind", "fork", "hold", "committed", "claimed"]);
}
