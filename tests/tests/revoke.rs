//! A node that is revoked: nobody in the fleet takes anything from it any more, and its workload goes on. The
//! administrator is `os-network-admin` on a host of the segment, with the engine that it chooses for itself.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use genesis_tests::{
    bed::{Bed, Node, ticket},
    host::Host,
};
use native::runner::program_dir;

const RULES: &str = "'in authority icmp' 'in node icmp' 'out node icmp'";

struct Fleet {
    host: Host,
}

impl Fleet {
    fn new(bed: &Bed) -> Self {
        let mut host = Host::new(bed, "administrator");
        host.ok("umask 077; mkdir /run/admin; echo correct horse >/run/admin/passphrase");
        let mut this = Self { host };
        this.admin("init");
        this
    }

    fn admin(&mut self, words: &str) -> String {
        let program = program_dir().join("os-network-admin");
        let files = "--key /run/admin/key --passphrase-file /run/admin/passphrase --registry /run/admin/registry";
        self.host.ok(&format!("{} {files} --interface lab0 {words}", program.display()))
    }

    /// Boots a node and claims it with its ticket. Returns it with its inner address.
    fn node(&mut self, bed: &Bed) -> (Node, String) {
        let node = bed.node(ticket());
        node.wait_phase("hold");
        let ticket = node.ticket();
        self.host.ok(&format!("umask 077; echo '{ticket}' >/run/admin/ticket"));
        let said = self.admin("claim --ticket-file /run/admin/ticket");
        node.wait_phase("claimed");
        let address = said.split_whitespace().find(|word| word.starts_with("10.8.0."));
        (node, address.unwrap_or_else(|| panic!("no inner address: {said}")).to_owned())
    }

    fn ping(&mut self, address: &str) {
        self.host.until(&format!("ping -n -c 1 -W 2 {address}"));
    }
}

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

    let said = fleet.admin(&format!("revoke --yes {revoked}"));
    let last = said.lines().find(|line| line.starts_with("last peer"));
    println!("{}", last.unwrap_or_else(|| panic!("no time is told: {said}")));
    stays.forget_lines();
    assert!(
        stays
            .console()
            .lines()
            .rev()
            .find(|line| line.contains("configuration "))
            .is_some_and(|line| line.ends_with(" peers 1"))
    );
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
