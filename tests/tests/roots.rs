//! Domains that end and are nobody's child: `keystore` and `lifecycle`. Neither is started anew, nothing ends with them, the
//! node is no more open than before, and whoever switches it off and on has it back as it was. On native, and on the board
//! that `GENESIS_BOARD` names.

use std::time::Duration;

use genesis_tests::{
    admin::Admin,
    bed::{Bed, Node, fused, ticket},
    fleet::Fleet,
    hostile,
    station::Station,
};
use wire::{CLAIM_PORT, ticket::Ticket};
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

impl Held {
    fn new(bed: &Bed, fuses: &[&str]) -> Self {
        let node = bed.node(fused(fuses, ticket()).with(|params| params.token_ms = 2000.into()));
        node.wait_phase("hold");
        let mut admin = Admin::new(Ticket::from_text(&node.ticket()).expect("a ticket").secret);
        let mut station = bed.station("admin", 1);
        admin.discover(&mut station);
        Self { node, admin, station }
    }

    /// The domain ends; on a board, what wakes it is a find or the open after it.
    fn ends(&mut self, domain: &str) {
        self.node.end(domain);
        while !self.node.has_ended(domain) {
            let find = self.admin.find(&self.station);
            self.station.announce(find.as_bytes());
            if let Some(hello) = self.admin.hear_hello(&mut self.station, SHORTLY) {
                self.admin.try_open(&mut self.station, &hello, SHORTLY);
            }
        }
    }

    fn hears_nothing(&mut self) {
        let find = self.admin.find(&self.station);
        self.station.announce(find.as_bytes());
        assert!(self.admin.hear_hello(&mut self.station, LONG).is_none(), "{}", self.node.console());
    }

    /// Off and on: who it was, and it answers.
    fn comes_back(mut self) {
        let fiduciary = self.node.fiduciary();
        self.node.reboot();
        self.node.wait_phase("hold");
        // The finds of before may be stale: what is counted ahead is rounded up.
        self.admin.counter += 1 << 17;
        assert_eq!(self.admin.discover(&mut self.station).fiduciary, fiduciary);
    }
}

/// A gate that was open ends by the deadline that it carries. The node is found, and nobody is let in any more.
#[test]
fn a_held_node_without_lifecycle_closes_its_gate_in_time_and_opens_none() {
    let bed = Bed::new();
    let mut held = Held::new(&bed, &["lifecycle", "net"]);
    let ip = held.node.target().ip;
    held.admin.reach(&mut held.station);
    held.node.end("lifecycle");
    // Each connection is told to lifecycle.
    let mut open = 0;
    while let Ok(connection) = held.station.connect(ip, CLAIM_PORT, LONG) {
        held.station.vanish(connection);
        open += 1;
    }
    assert!(open > 0, "{}", held.node.console());
    while !held.node.has_ended("lifecycle") {
        held.admin.discover(&mut held.station);
    }
    let hello = held.admin.discover(&mut held.station);
    assert!(held.admin.try_open(&mut held.station, &hello, LONG).is_none(), "{}", held.node.console());
    assert!(held.station.connect(ip, CLAIM_PORT, LONG).is_err(), "{}", held.node.console());
    // Nobody has anybody started anew.
    held.ends("net");
    held.hears_nothing();
    assert!(!held.node.console().contains("fault"), "{}", held.node.console());
    assert_eq!(held.node.phases(), ["blind", "fork", "hold"]);
    held.comes_back();
}

/// Silent, to everyone and for good.
#[test]
fn a_held_node_without_keystore_is_silent() {
    let bed = Bed::new();
    let mut held = Held::new(&bed, &["keystore"]);
    held.ends("keystore");
    held.hears_nothing();
    bed.mark();
    let stranger = bed.station("stranger", 66);
    let find = Admin::new([0; 32]).find(&stranger);
    let zoo = hostile::zoo((stranger.mac, stranger.ip), held.node.target(), find.as_bytes());
    bed.deliver(&held.node, &stranger, zoo.into_iter().map(|(_, frame)| frame));
    held.hears_nothing();
    let frames = bed.frames_from(&held.node);
    assert_eq!(frames, [] as [Vec<u8>; 0]);
    held.comes_back();
}

/// A node in its administrator's mesh, and one of the two has ended.
fn member(bed: &Bed, fleet: &mut Fleet, root: &str) -> (Node, String) {
    let node = bed.node(fused(&[root], ticket()));
    node.wait_phase("hold");
    let at = fleet.claims(&node);
    fleet.admin("mesh up");
    fleet.admin("policy set 'in authority icmp'");
    fleet.ping(&at);
    node.end(root);
    while !node.has_ended(root) {
        // On a board what wakes it is a command, and nobody is there to answer.
        fleet.try_admin_for(2, &format!("command {at} status"));
    }
    // The session outlives it.
    fleet.ping(&at);
    (node, at)
}

/// Off and on: a member, with nobody's help.
fn comes_back_a_member(mut node: Node, fleet: &mut Fleet, at: &str) {
    assert_eq!(node.phases().last().map(String::as_str), Some("claimed"), "{}", node.console());
    node.reboot();
    node.wait_phase("claimed");
    fleet.ping(at);
}

/// The rules stay as they are; the mesh goes on with sessions, new handshakes and commands.
#[test]
fn a_member_without_lifecycle_goes_on_as_it_is() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (node, at) = member(&bed, &mut fleet, "lifecycle");
    fleet.admin("mesh down");
    fleet.admin("mesh up");
    fleet.ping(&at);
    fleet.admin(&format!("command {at} rotate"));
    let said = fleet.try_admin("policy set 'in authority icmp' 'in authority tcp 80'");
    assert!(said.code == 11 && said.text.contains("refused: it could not be stored"), "{said:?}");
    fleet.ping(&at);
    comes_back_a_member(node, &mut fleet, &at);
}

/// Sessions go on until their keys end, and there are no others.
#[test]
fn a_member_without_keystore_makes_no_handshake() {
    let bed = Bed::new();
    let mut fleet = Fleet::new(&bed);
    let (node, at) = member(&bed, &mut fleet, "keystore");
    fleet.admin("mesh down");
    fleet.admin("mesh up");
    assert!(!fleet.host.hears(&format!("ping -n -c 3 -W 2 {at}")));
    comes_back_a_member(node, &mut fleet, &at);
}
