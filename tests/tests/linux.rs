//! The administrator's end as most will have it: the kernel's WireGuard, on a machine with Debian's kernel. The nodes are
//! where `GENESIS_BOARD` says. `make have-linux` fetches the kernel.

use std::time::Instant;

use genesis_tests::{
    PATIENCE,
    bed::{Bed, Node, ticket},
    machine::Machine,
};
use lab::NodeOptions;
use segment::switch::{Fate, Way};
use tenant::ORDER_PORT;

/// A port at the authority's end.
const WHISPER: u16 = 5000;
/// Frames of this length or more have a chunk of an update in them; commands and orders are shorter.
const LONG: usize = 350;

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

    /// Runs a command that must fail with this exit code.
    fn fails(&mut self, code: i32, words: &str) -> String {
        let said = self.machine.run(&Self::command(words));
        assert_eq!(said.code, code, "{words}\n{}", said.text);
        said.text
    }

    /// Has the tenant at an address send a datagram to the authority, unasked, until something is seen of it.
    fn whisper(&mut self, tenant: &str, mut is_seen: impl FnMut(&mut Self) -> bool) {
        let order = format!("send udp 10.8.0.1 {WHISPER}");
        let send = format!("probe udp-send {tenant}:{ORDER_PORT} {}", wire::Hex(order.as_bytes()));
        let deadline = Instant::now() + PATIENCE;
        while !is_seen(self) {
            assert!(Instant::now() < deadline, "the tenant's datagrams leave no trace");
            self.machine.ok(&send);
        }
    }

    /// What `mesh status` says of the packets of the node at a place that did not pass.
    fn dropped(&mut self, place: usize) -> u64 {
        let status: serde_json::Value = serde_json::from_str(&self.admin("--json mesh status")).expect("JSON");
        status["peers"][place]["dropped"].as_u64().unwrap_or_else(|| panic!("no count: {status}"))
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

    holds_the_policy(&bed, &mut fleet);

    // A peer that the node is told of, until it is revoked.
    node.forget_lines();
    let exported = fleet.admin("export laptop");
    assert!(exported.contains("PrivateKey = "), "{exported}");
    fleet.admin("policy set 'in authority icmp' 'in peer icmp'");
    node.wait_line(|line| line.starts_with("genesis: configuration ") && line.ends_with(" peers 2"));
    node.forget_lines();
    fleet.admin("revoke --yes laptop");
    node.wait_line(|line| line.starts_with("genesis: configuration ") && line.ends_with(" peers 1"));
    fleet.pings(&v4);

    fleet.admin(&format!("revoke --yes {v4}"));
    let peers = fleet.machine.ok("wg show genesis0 allowed-ips");
    assert!(!peers.contains(&format!("{v4}/32")), "{peers}");
    assert_ne!(fleet.machine.run(&format!("ping -c 2 -W 1 {v4}")).code, 0, "a revoked node is heard");
    fleet.admin("mesh down");
    is_gone(&mut fleet);
    assert_eq!(node.phases().last().map(String::as_str), Some("claimed"));

    // What a daemon that was killed has left still holds, until it is taken away.
    let up = fleet.admin("mesh up --engine auto");
    assert!(up.contains("genesis0, WireGuard of kernel"), "{up}");
    fleet.machine.ok("kill -KILL $(pidof os-network-admin)");
    fleet.machine.until(&format!("! {} | grep -q '^interface'", Fleet::command("mesh status")));
    fleet.machine.ok(TABLE);
    fleet.admin("mesh down");
    is_gone(&mut fleet);
    fleet.machine.ok("mv /bin/nft /bin/away");
    let said = fleet.fails(4, "mesh up --engine kernel");
    assert!(said.contains("install nftables"), "{said}");
    fleet.machine.ok("mv /bin/away /bin/nft");
    is_gone(&mut fleet);
}

/// Succeeds while the policy is in force. The shell has an `ip` of its own.
const TABLE: &str = "nft list table inet os-network-admin-genesis0";

fn is_gone(fleet: &mut Fleet) {
    assert_ne!(fleet.machine.run("/bin/ip link show genesis0").code, 0, "the interface is left");
    assert_ne!(fleet.machine.run(TABLE).code, 0, "the table is left");
}

/// What a node may send here, and what may be sent to it, is held at this end too, whatever the node thinks.
fn holds_the_policy(bed: &Bed, fleet: &mut Fleet) {
    let _tenant = fleet.node(bed, NodeOptions { tenant: Some("tenant".to_owned()), ..ticket() });
    let [v4, _] = addresses(fleet, 1);
    fleet.admin("policy push");
    fleet.pings(&v4);
    let rules = format!("policy set --node {v4} 'in authority icmp' 'in authority udp {ORDER_PORT}'");
    fleet.admin(&format!("{rules} 'out authority udp {WHISPER}'"));
    fleet.machine.ok(&format!("probe udp-receive {WHISPER} >/run/heard 2>&1 &"));
    fleet.whisper(&v4, |fleet| fleet.machine.run("[ -s /run/heard ]").code == 0);

    // The rule goes, and the node does not hear of it.
    let short_only = |way: Way, frame: &mut Vec<u8>| {
        if way == Way::FromPort && frame.len() >= LONG { Fate::Drop } else { Fate::Pass }
    };
    bed.impair("administrator", Some(Box::new(short_only)));
    let untold = fleet.fails(10, &format!("{rules} --wait 1"));
    assert!(untold.contains("has not shown"), "{untold}");
    let heard = fleet.machine.ok("cat /run/heard");
    let before = fleet.dropped(1);
    fleet.whisper(&v4, |fleet| fleet.dropped(1) > before);
    assert_eq!(fleet.machine.ok("cat /run/heard"), heard, "what no rule names came out");

    // The other way nothing goes that no rule names, and commands do.
    let before = fleet.dropped(1);
    assert_ne!(fleet.machine.run(&format!("probe udp-send {v4}:9999 00")).code, 0, "it went");
    assert!(fleet.dropped(1) > before);
    fleet.pings(&v4);
    fleet.admin(&format!("command {v4} status"));

    // Who empties nftables is put right, by the next look at the latest.
    fleet.machine.ok("nft flush ruleset");
    fleet.admin("mesh status");
    fleet.machine.ok(TABLE);
    bed.impair("administrator", None);
    fleet.admin("policy push");
    fleet.pings(&v4);
}
