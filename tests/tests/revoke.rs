//! A node that is revoked: nobody in the fleet takes anything from it any more, and its workload goes on. The
//! administrator is `os-network-admin` on a host of the segment, with the engine that it chooses for itself.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use genesis_tests::{bed::Bed, fleet::Fleet};

const RULES: &str = "'in authority icmp' 'in node icmp' 'out node icmp'";

#[test]
fn nobody_takes_anything_from_a_revoked_node_and_its_workload_goes_on() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (stays, at) = fleet.node(&bed);
    let (goes, revoked) = fleet.node(&bed);
    fleet.admin("mesh up");
    fleet.admin(&format!("policy set {RULES}"));
    stays.wait_line(|line| line.starts_with("genesis: configuration ") && line.ends_with(" peers 2"));
    fleet.ping(&at);
    fleet.ping(&revoked);

    stays.forget_lines();
    let said = fleet.admin(&format!("revoke --yes {revoked}"));
    let last = said.lines().find(|line| line.starts_with("last peer"));
    println!("{}", last.unwrap_or_else(|| panic!("no time is told: {said}")));
    stays.wait_line(|line| line.starts_with("genesis: configuration ") && line.ends_with(" peers 1"));
    // The others go on; the revoked one is on nobody's list.
    fleet.ping(&at);
    assert!(!fleet.host.hears(&format!("ping -n -c 3 -i 0.3 -W 1 {revoked}")), "the authority still hears it");
    let refused = fleet.admin("nodes list");
    assert!(refused.lines().any(|line| line.contains(&revoked) && line.contains("revoked")), "{refused}");
    // Nobody told it, and its tenant does not notice.
    let beats = || {
        let console = goes.console();
        let last =
            console.lines().rev().find_map(|line| line.strip_prefix("genesis: workload: heartbeat ")?.parse().ok());
        last.unwrap_or(0_u64)
    };
    let before = beats();
    let later = format!("genesis: workload: heartbeat {}", before + 3);
    goes.wait_line(|line| line == later);
    assert_eq!(goes.phases().last().map(String::as_str), Some("claimed"));
}
