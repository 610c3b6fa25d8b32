//! A claim succeeds once, with the right key, and both sides agree; everything else leaves the node holding.

use std::time::Duration;

use genesis_tests::{
    PATIENCE,
    admin::{Admin, Session, connect, fresh, grant_text, largest_mesh, mesh, receive, upgrade},
    bed::{Bed, Node, image},
    station::Station,
};
use smoltcp::iface::SocketHandle;
use wire::{
    U64,
    binding::{Identity, configuration_hash},
    link::HelloBody,
    title::Title,
};

struct Held {
    bed: Bed,
    node: Node,
    admin: Admin,
    station: Station,
}

fn held() -> Held {
    let bed = Bed::new();
    let admin = Admin::new(fresh());
    let node = bed.node(image(&admin.public()).with(|params| {
        params.claim_ms = 4000.into();
        params.token_ms = 4000.into();
    }));
    node.wait_phase("hold");
    let station = bed.station("admin", 1);
    Held { bed, node, admin, station }
}

impl Held {
    /// The node is as if nothing had happened: it can be claimed, and is.
    fn still_claimable(mut self) {
        let pairing = self.admin.claim(&mut self.station, &mesh()).expect("the node holds on");
        self.node.wait_phase("claimed");
        assert_eq!(pairing.record.fiduciary, self.node.fiduciary());
    }

    fn session(&mut self) -> (HelloBody, Session, Identity) {
        let (hello, token) = self.admin.reach(&mut self.station);
        let mut session = self.admin.session(&mut self.station, &hello, &token).expect("the gate is open");
        let identity = session.identity(&mut self.station, &hello.fiduciary).expect("the identity");
        (hello, session, identity)
    }

    fn gate_closed(&self) {
        // An open that was sent twice replaces its own gate.
        self.node.wait_line(|line| line.starts_with("genesis: gate closed") && !line.contains("opened anew"));
        self.node.forget_lines();
    }

    /// The node has closed the gate and has sent nothing more over this connection.
    fn refused(&mut self, handle: SocketHandle, what: &str) {
        self.gate_closed();
        assert!(self.station.briefly(|station| receive(station, handle)).is_err(), "{what} was answered");
        self.station.vanish(handle);
    }
}

#[test]
fn both_sides_agree_after_a_claim() {
    let mut held = held();
    let configuration = largest_mesh();
    let pairing = held.admin.claim(&mut held.station, &configuration).expect("a claim");
    held.node.wait_phase("claimed");
    let fleet = wire::Hex(&pairing.title.warrant.fleet).to_string();
    let line = held.node.wait_line(|line| line.starts_with("genesis: committed"));
    assert_eq!(line, format!("genesis: committed fleet {fleet} epoch 1 rivals 0"));
    assert_eq!(pairing.rivals, 0);
    // The binding names the fork record that the node made.
    assert_ne!(pairing.title.warrant.fork, [0; 32]);
}

#[test]
fn a_scanning_node_is_claimed_at_once_and_has_no_fork_record() {
    let bed = Bed::new();
    let mut admin = Admin::new(fresh());
    let mut station = bed.station("admin", 1);
    let node = bed.node(image(&admin.public()).with(|params| params.scan_ms = 60_000.into()));
    let hello = admin.hear_hello(&mut station, PATIENCE).expect("a hello nobody asked for");
    let token = admin.try_open(&mut station, &hello, PATIENCE).expect("an answer");
    let mut session = admin.session(&mut station, &hello, &token).expect("the gate is open");
    let identity = session.identity(&mut station, &hello.fiduciary).expect("the identity");
    assert!(identity.fork().is_none());
    let title = admin.title(&identity, b"");
    session.grant(&mut station, &title, b"");
    let message = session.pairing(&mut station, &title).expect("the pairing record");
    session.acknowledge(&mut station, &message.record);
    node.wait_phase("claimed");
    assert_eq!(node.phases(), ["blind", "scan", "committed", "claimed"]);
}

#[test]
fn an_administrator_with_another_static_key_is_met_with_silence() {
    let mut held = held();
    let (hello, token) = held.admin.reach(&mut held.station);
    // The thief knows the token and everything else but A.
    let thief = Admin::new(fresh());
    let handle = connect(&mut held.station, &hello).expect("the gate is open");
    upgrade(held.station.stream(handle), &format!("/{}", wire::Hex(&token))).expect("the right token");
    held.station.briefly(|station| thief.initiate(station, handle, &hello, &token));
    held.refused(handle, "another static key");
    held.still_claimable();
}

#[test]
fn an_altered_grant_or_one_for_another_is_refused() {
    type Change = fn(&mut Title, &mut Vec<u8>);
    let changes: [(&str, bool, Change); 11] = [
        ("a bit of the binding", false, |title, _| title.warrant.fleet[0] ^= 1),
        ("a bit of the configuration", false, |_, configuration| configuration[0] ^= 1),
        ("a configuration cut short", false, |_, configuration| configuration.truncate(2)),
        ("a configuration that cannot be read", true, |title, configuration| {
            *configuration = b"mesh".to_vec();
            title.warrant.configuration = configuration_hash(configuration);
        }),
        ("another node", true, |title, _| title.warrant.fiduciary[0] ^= 1),
        ("another mesh key", true, |title, _| title.binding.mesh_key[0] ^= 1),
        ("another nonce", true, |title, _| title.binding.nonce[0] ^= 1),
        ("another fork record", true, |title, _| title.warrant.fork[0] ^= 1),
        ("an epoch too low", true, |title, _| title.warrant.epoch = U64::new(0)),
        ("an epoch too high", true, |title, _| title.warrant.epoch = U64::new(2)),
        ("a counter not above the stored one", true, |title, _| title.binding.counter = U64::new(0)),
    ];
    let mut held = held();
    for (what, signed, change) in changes {
        let (_, mut session, identity) = held.session();
        let mut configuration = mesh();
        let mut title = held.admin.title(&identity, &configuration);
        change(&mut title, &mut configuration);
        if signed {
            title = title.sign(&held.admin.anchor);
        }
        held.station.briefly(|station| session.grant(station, &title, &configuration));
        held.refused(session.handle, what);
    }
    held.still_claimable();
}

#[test]
fn a_grant_signed_by_another_is_refused() {
    let mut held = held();
    let (_, mut session, identity) = held.session();
    let title = Admin::new(fresh()).title(&identity, &mesh());
    held.station.briefly(|station| session.grant(station, &title, &mesh()));
    held.refused(session.handle, "a grant of another administrator");
    held.still_claimable();
}

#[test]
fn a_grant_that_was_recorded_is_worth_nothing_in_another_session() {
    let mut held = held();
    let (_, first, identity) = held.session();
    let title = held.admin.title(&identity, &mesh());
    // Cut before it is sent; the nonce ends with the session.
    held.station.vanish(first.handle);
    held.gate_closed();
    let (_, mut second, _) = held.session();
    held.station.briefly(|station| second.send(station, &grant_text(&title, &mesh())));
    held.refused(second.handle, "a recorded grant");
    held.still_claimable();
}

/// Cut after each message before the commit: the node holds.
#[test]
fn a_claim_cut_before_the_grant_leaves_a_holding_node() {
    let mut held = held();
    for cut in 0..4 {
        let (hello, token) = held.admin.reach(&mut held.station);
        if cut >= 1 {
            let handle = connect(&mut held.station, &hello).expect("the gate is open");
            if cut == 1 {
                held.station.reset(handle);
            } else {
                let path = format!("/{}", wire::Hex(&token));
                upgrade(held.station.stream(handle), &path).expect("the right token");
                if cut == 3 {
                    let session = held.admin.handshake(&mut held.station, handle, &hello, &token);
                    let mut session = session.expect("the right key");
                    session.identity(&mut held.station, &hello.fiduciary).expect("the identity");
                }
                // No word to the node: its own deadline ends it.
                held.station.vanish(handle);
            }
        }
        held.gate_closed();
        assert!(!held.node.console().contains("phase committed"));
    }
    held.still_claimable();
}

/// Cut after the grant: whether or not the record arrived, the owner resumes, and nobody else can.
#[test]
fn a_committed_claim_is_resumed_by_its_owner_alone() {
    let mut held = held();
    let (_, mut session, identity) = held.session();
    let title = held.admin.title(&identity, &mesh());
    session.grant(&mut held.station, &title, &mesh());
    let first = session.pairing(&mut held.station, &title).expect("the record").record;
    held.station.vanish(session.handle);
    held.node.wait_phase("committed");
    held.gate_closed();

    // Another binding, although A signed it: refused.
    let (hello, mut session, identity) = held.session();
    assert_eq!(hello.committed, 1);
    assert_eq!((identity.committed, identity.nonce), (1, title.binding.nonce));
    assert_eq!(identity.epoch, title.warrant.epoch);
    let mut other = held.admin.title(&identity, &mesh());
    other.warrant.epoch = title.warrant.epoch;
    let other = other.sign(&held.admin.anchor);
    held.station.briefly(|station| session.grant(station, &other, &mesh()));
    held.refused(session.handle, "another binding");

    // Another key: not even heard.
    let stranger = Admin::new(fresh());
    let mut thief = Admin { anchor: stranger.anchor, counter: held.admin.counter + 1_000_000 };
    held.bed.mark();
    let find = thief.find(&held.station);
    held.station.announce(zerocopy::IntoBytes::as_bytes(&find));

    // The same bytes: the same record, and the acknowledgement ends it.
    let (_, mut session, _) = held.session();
    session.grant(&mut held.station, &title, &mesh());
    let again = session.pairing(&mut held.station, &title).expect("the same binding").record;
    assert_eq!(first, again);
    session.acknowledge(&mut held.station, &again);
    held.node.wait_phase("claimed");
}

#[test]
fn a_wrong_acknowledgement_does_not_end_the_claim() {
    let mut held = held();
    let (_, mut session, identity) = held.session();
    let title = held.admin.title(&identity, &mesh());
    session.grant(&mut held.station, &title, &mesh());
    let mut record = session.pairing(&mut held.station, &title).expect("the record").record;
    record.fleet[0] ^= 1;
    held.station.briefly(|station| session.acknowledge(station, &record));
    held.gate_closed();
    assert!(!held.node.console().contains("phase claimed"));
    let (_, mut session, _) = held.session();
    session.grant(&mut held.station, &title, &mesh());
    let record = session.pairing(&mut held.station, &title).expect("the same binding").record;
    session.acknowledge(&mut held.station, &record);
    held.node.wait_phase("claimed");
}

/// Two who hold A: the one in the gate wins, the other is turned away, counted, and told by the silence.
#[test]
fn of_two_rivals_one_wins_and_hears_of_the_other() {
    let mut held = held();
    let mut second = held.bed.station("second", 2);
    let mut rival = Admin {
        anchor: crypto::AnchorSecret { sign: held.admin.anchor.sign.clone(), dh: held.admin.anchor.dh.clone() },
        counter: held.admin.counter + 100_000,
    };
    let (_, mut session, identity) = held.session();
    let hello = rival.discover(&mut second);
    assert!(rival.try_open(&mut second, &hello, Duration::from_millis(500)).is_none());
    held.admin.counter = rival.counter;
    let title = held.admin.title(&identity, &mesh());
    session.grant(&mut held.station, &title, &mesh());
    let message = session.pairing(&mut held.station, &title).expect("the record");
    assert_eq!(message.rivals.get(), 1);
    session.acknowledge(&mut held.station, &message.record);
    held.node.wait_phase("claimed");
    // Afterwards there is nothing to be had.
    held.bed.mark();
    let find = rival.find(&second);
    second.announce(zerocopy::IntoBytes::as_bytes(&find));
    assert!(rival.try_open(&mut second, &hello, Duration::from_secs(1)).is_none());
    assert_eq!(held.bed.frames_from(&held.node), [] as [Vec<u8>; 0]);
}
