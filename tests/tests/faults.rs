//! A domain of a held node faults, and harms no other: the node is sealed if it needs that domain, else it stays silent and
//! can be claimed. On the board that `GENESIS_BOARD` names; `make test-sel4` runs this.
//!
//! The image is the release image with one program in the place of another: the same domain with a fuse
//! (pds/faulty). It works as any does until the test lights the fuse in the machine's memory.

use std::time::Duration;

use genesis_tests::{
    PATIENCE,
    admin::Admin,
    bed::{Bed, Node, died, ticket},
    fuse::{JUMP_INTO_DATA, NULL_WRITE, PANIC},
    hostile,
    station::{Station, beacon_payload},
    tool::{Tool, json, said},
};
use lab::NodeOptions;
use wire::{
    link::{Datagram, Hello},
    ticket::Ticket,
};
use zerocopy::IntoBytes;

/// Every way to fault.
const KINDS: [u64; 3] = [NULL_WRITE, PANIC, JUMP_INTO_DATA];
/// For an answer that comes if anybody is there.
const SHORTLY: Duration = Duration::from_millis(500);
/// For an answer that must not come.
const LONG: Duration = Duration::from_secs(2);

struct Held {
    bed: Bed,
    node: Node,
    /// Whoever has the ticket.
    admin: Admin,
    station: Station,
    stranger: Station,
}

/// A node that holds, with a domain that has a fuse, and that answers as one without.
fn held(faulty: &'static str) -> Held {
    let bed = Bed::new();
    let options = NodeOptions { faulty: Some(faulty.to_owned()), ..ticket() };
    let node = bed.node(options.with(|params| {
        params.hello_delay_ms = 5.into();
        params.token_ms = 2000.into();
    }));
    node.wait_phase("hold");
    let mut admin = Admin::new(Ticket::from_text(&node.ticket()).expect("a ticket").secret);
    let (mut station, stranger) = (bed.station("admin", 1), bed.station("stranger", 66));
    assert_eq!(admin.discover(&mut station).fiduciary, node.fiduciary());
    assert_eq!(node.deaths(), [] as [String; 0]);
    Held { bed, node, admin, station, stranger }
}

impl Held {
    /// Finds the node, opens its gate if wanted, and again, until the console says this. Finds alone wake every domain but
    /// `claim`.
    fn until(&mut self, open: bool, line: &str) {
        let mut rounds = 0;
        while !self.node.console().lines().any(|said| said.starts_with(line)) {
            rounds += 1;
            assert!(rounds < 1_000, "not on the console: {line}\n{}", self.node.console());
            let find = self.admin.find(&self.station);
            self.station.announce(find.as_bytes());
            if let Some(hello) = self.admin.hear_hello(&mut self.station, SHORTLY)
                && open
            {
                self.admin.try_open(&mut self.station, &hello, SHORTLY);
            }
        }
    }

    fn zoo(&self) -> Vec<Vec<u8>> {
        let from = (self.stranger.mac, self.stranger.ip);
        let find = Admin::new([0; 32]).find(&self.stranger);
        hostile::zoo(from, self.node.target(), find.as_bytes()).into_iter().map(|(_, frame)| frame).collect()
    }

    fn hears_nothing(&mut self) {
        let find = self.admin.find(&self.station);
        self.station.announce(find.as_bytes());
        assert!(self.admin.hear_hello(&mut self.station, LONG).is_none(), "{}", self.node.console());
    }

    /// Not a frame, to nobody.
    fn silent(mut self) {
        // What was on its way when it died is out.
        self.hears_nothing();
        self.bed.mark();
        // No more than its device holds: it may take none of them.
        self.bed.deliver(&self.node, &self.stranger, self.zoo().into_iter().take(8));
        self.hears_nothing();
        assert_eq!(self.bed.frames_from(&self.node), [] as [Vec<u8>; 0]);
    }

    /// Not a frame to a stranger, and the ticket's holder claims it.
    fn silent_to_strangers_and_claimable(mut self) -> Node {
        self.bed.mark();
        self.bed.deliver(&self.node, &self.stranger, self.zoo());
        // What was sent is behind us when the node answers something that was sent later.
        self.admin.discover(&mut self.station);
        let frames = self.bed.frames_from(&self.node);
        assert!(frames.iter().all(|frame| beacon_payload(frame).and_then(Hello::parse).is_some()), "{frames:02x?}");
        let tool = Tool::new(&self.bed, "tool");
        let output = tool.on_segment(&["claim", "--ticket", &self.node.ticket()]);
        assert_eq!(output.status.code(), Some(0), "{}\n{}", said(&output), self.node.console());
        assert_eq!(json(&output)["node"]["fingerprint"], self.node.fingerprint());
        let nodes = tool.nodes();
        assert_eq!((&nodes[0]["state"], &nodes[0]["acknowledged"]), (&"paired".into(), &true.into()));
        self.node
    }
}

fn seals(domain: &'static str, how: u64) {
    let mut held = held(domain);
    held.node.light(how);
    held.until(domain == "claim", &died(domain));
    held.node.wait_phase("sealed");
    assert_eq!(held.node.deaths(), [died(domain)]);
    assert_eq!(held.node.phases(), ["blind", "fork", "hold", "sealed"]);
    held.silent();
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_held_node_is_sealed_when_its_beacon_faults_in_any_way() {
    KINDS.into_iter().for_each(|how| seals("beacon", how));
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_held_node_is_sealed_when_any_domain_faults_that_it_needs() {
    for (domain, how) in [
        ("entropy", JUMP_INTO_DATA),
        ("net", NULL_WRITE),
        ("perimeter", JUMP_INTO_DATA),
        ("claim", PANIC),
        ("timer", NULL_WRITE),
    ] {
        seals(domain, how);
    }
}

/// The keystore is nobody's child. Nobody is told, and the node says that it does not answer.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_held_node_is_silent_when_its_keystore_faults() {
    let held = held("keystore");
    held.node.light(PANIC);
    held.silent();
}

/// The console cannot say that it has died: it says nothing more.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_node_whose_console_faulted_in_any_way_holds_on_and_is_claimed() {
    for how in KINDS {
        let mut held = held("console");
        let before = held.node.console();
        held.node.light(how);
        // It would have to tell of a gate.
        let hello = held.admin.discover(&mut held.station);
        held.admin.try_open(&mut held.station, &hello, PATIENCE).expect("an answer");
        let node = held.silent_to_strangers_and_claimable();
        assert_eq!(node.console(), before);
    }
}

/// A held node leaves them alone; the claim wakes them.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_node_is_claimed_whose_mesh_or_workload_faults_at_the_claim() {
    for (domain, how) in [("mesh", JUMP_INTO_DATA), ("workload", PANIC)] {
        let held = held(domain);
        held.node.light(how);
        let node = held.silent_to_strangers_and_claimable();
        node.wait_line(|line| line.starts_with(&died(domain)));
        node.wait_phase("claimed");
    }
}
