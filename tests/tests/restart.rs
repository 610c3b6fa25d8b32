//! Domains that are killed in a node, one after the other: each is started anew, and the node is what it was.

use genesis_tests::{
    bed::{Bed, ticket},
    fleet::Fleet,
};

/// Those whose parent is `lifecycle`.
const CHILDREN: [&str; 10] =
    ["entropy", "store", "net", "perimeter", "beacon", "claim", "mesh", "workload", "timer", "console"];

/// In hold and as a member: with one node, and its administrator's own program.
#[test]
fn each_domain_is_killed_in_each_phase_and_started_anew() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let node = bed.node(ticket());
    node.wait_phase("hold");
    CHILDREN.into_iter().for_each(|domain| node.kill(domain, 1));
    assert_eq!(node.phases().last().map(String::as_str), Some("hold"));
    let at = fleet.claims(&node);
    fleet.admin("mesh up");
    fleet.admin("policy set 'in authority icmp'");
    fleet.ping(&at);
    CHILDREN.into_iter().for_each(|domain| node.kill(domain, 2));
    fleet.ping(&at);
    fleet.admin(&format!("command {at} status"));
    assert_eq!(node.phases(), ["blind", "fork", "hold", "committed", "claimed"]);
}
