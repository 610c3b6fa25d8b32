//! The administrator's end as most will have it: the kernel's WireGuard, on a machine with Debian's kernel. The nodes are
//! where `GENESIS_BOARD` says. `make have-linux` fetches the kernel.

use genesis_tests::{
    bed::{Bed, Node, ticket},
    machine::Machine,
};
use lab::NodeOptions;

/// The administrator's fleet, with a network interface of the kernel's.
struct Fleet {
    machine: Machine,
}

impl Fleet {
    fn new(bed: &Bed) -> Self {
        let mut machine = Machine::boot(bed, "administrator");
        machine.ok("umask 077; mkdir /run/admin; echo correct horse >/run/admin/passphrase");
        let mut this = Self { machine };
        this.admin("init");
        this
    }

    fn command(words: &str) -> String {
        let files = "--key /run/admin/key --passphrase-file /run/admin/passphrase --registry /run/admin/registry";
        format!("os-network-admin {files} --interface lab0 {words}")
    }

    fn admin(&mut self, words: &str) -> String {
        self.machine.ok(&Self::command(words))
    }

    /// Boots a node and claims it with its ticket.
    fn node(&mut self, bed: &Bed, options: NodeOptions) -> Node {
        let node = bed.node(options);
        node.wait_phase("hold");
        let ticket = node.ticket();
        self.machine.ok(&format!("umask 077; echo '{ticket}' >/run/admin/ticket"));
        self.admin("claim --ticket-file /run/admin/ticket");
        node.wait_phase("claimed");
        node
    }

    fn pings(&mut self, address: &str) {
        self.machine.until(&format!("ping -c 1 -W 2 {address}"));
    }
}

/// Both inner addresses of the node at a place, as the registry shows them.
fn addresses(fleet: &mut Fleet, place: usize) -> [String; 2] {
    let text = fleet.admin("--json nodes list");
    let list: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    ["v4", "v6"].map(|family| list["nodes"][place]["mesh"][family].as_str().expect("an address").to_owned())
}

#[test]
#[ignore = "boots a kernel of Debian's: make test"]
fn the_kernels_wireguard_is_the_authoritys_end_of_a_mesh() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let node = fleet.node(&bed, ticket());
    let [v4, v6] = addresses(&mut fleet, 0);

    let up = fleet.admin("mesh up --engine kernel");
    assert!(up.contains("genesis0, WireGuard of kernel"), "{up}");
    assert!(fleet.machine.ok("/bin/ip -details link show genesis0").contains("wireguard"));
    let said = fleet.admin("policy set 'in authority icmp' 'in authority tcp 80'");
    assert!(said.contains("applied after"), "{said}");
    fleet.pings(&v4);
    fleet.pings(&v6);
    for address in [v4.clone(), format!("[{v6}]")] {
        let page = fleet.machine.until(&format!("curl -sS -m 5 http://{address}/"));
        assert!(page.contains("Genesis workload"), "{page}");
    }
    let handshake = "wg show genesis0 latest-handshakes | cut -f2";
    let before = fleet.machine.ok(handshake);
    fleet.admin(&format!("command {v4} rotate"));
    fleet.machine.until(&format!("[ $({handshake}) -gt {before} ]"));
    fleet.pings(&v4);
    assert!(fleet.admin("telemetry --once").contains("claimed"));
    let status = fleet.admin("mesh status");
    assert!(status.contains("handshake") && status.contains(&v4), "{status}");

    // A peer that the node is told of, until it is revoked.
    node.forget_lines();
    let exported = fleet.admin("export laptop");
    assert!(exported.contains("PrivateKey = "), "{exported}");
    fleet.admin("policy set 'in authority icmp' 'in peer icmp'");
    node.wait_line(|line| line.starts_with("genesis: configuration ") && line.ends_with(" peers 2"));
    node.forget_lines();
    fleet.admin("revoke laptop");
    node.wait_line(|line| line.starts_with("genesis: configuration ") && line.ends_with(" peers 1"));
    fleet.pings(&v4);

    fleet.admin(&format!("revoke {v4}"));
    assert_eq!(fleet.machine.ok("wg show genesis0 peers"), "");
    assert_ne!(fleet.machine.run(&format!("ping -c 2 -W 1 {v4}")).code, 0, "a revoked node is heard");
    fleet.admin("mesh down");
    assert_ne!(fleet.machine.run("/bin/ip link show genesis0").code, 0, "the interface is left");
    assert_eq!(node.phases().last().map(String::as_str), Some("claimed"));
}
