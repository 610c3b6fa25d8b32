//! Claims against nodes in memory, on tokio's paused clock: nothing here depends on time or order.

mod fake;
#[path = "claim/finds.rs"]
mod finds;
#[path = "claim/logged.rs"]
mod logged;
#[path = "claim/revoked.rs"]
mod revoked;
#[path = "fake/segment.rs"]
mod segment;

use std::{cell::RefCell, collections::BTreeSet, sync::Arc, time::Duration};

use crypto::{AnchorSecret, Secret, dh_public};
use fake::{Fault, Node, admin, step};
use os_network_admin::{
    base::{
        error::{Error, Exit},
        host::{Host, system},
        link::Net,
        progress::Progress,
    },
    claim::{
        Chooser, Claimed, Claimer, Configure, Context, Found, MeshTerms, Terms, Unlisted,
        beacon::{self, Event, Listed},
        discover,
    },
    registry::{Accepted, AnchorKind, Registry, State},
};
use segment::Segment;
use tokio::time::Instant;
use wire::{
    Ip, Key,
    claim::parse_grant,
    link::{Find, Hello, HelloBody, Open},
    set::{Authority, AuthoritySet},
};
use zerocopy::IntoBytes;

const WAIT: Duration = Duration::from_secs(60);

struct Lab {
    segment: Segment,
    folder: tempfile::TempDir,
    anchor: AnchorSecret,
    host: Arc<dyn Host>,
    terms: Terms,
}

/// A hello in the name of this F, by the made-up holder of a claim key with this number.
fn forged_hello(fiduciary: Key, address: Ip, number: u8) -> Vec<u8> {
    let secret = Secret::new([number; 32]);
    let claim_key = dh_public(&secret);
    let body = HelloBody { fiduciary, claim_key, address, nonce: [number; 16], committed: 0, zero: [0; 7] };
    Hello::seal(&admin().public(), &secret, &body).unwrap().as_bytes().to_vec()
}

impl Lab {
    fn with(nodes: impl IntoIterator<Item = Node>) -> Self {
        let own = admin().public();
        let terms = Terms {
            fleet: "lab".into(),
            fleet_id: [5; 32],
            set: AuthoritySet::alone(Authority::signer(&own)),
            configuration: Configure::Bytes(b"opaque".to_vec()),
            anchor: AnchorKind::Image,
            warrant: None,
        };
        Self {
            segment: Segment::with(nodes),
            folder: tempfile::tempdir().unwrap(),
            anchor: admin(),
            host: system(),
            terms,
        }
    }

    /// One node under the image's anchor, with these faults in its claims to come.
    fn one(faults: impl IntoIterator<Item = Fault>) -> Self {
        let mut node = Node::new(1, admin().public());
        node.faults.extend(faults);
        Self::with([node])
    }

    fn registry(&self) -> Registry {
        Registry::open(&self.folder.path().join("registry")).unwrap()
    }

    /// What one run of the program works with.
    fn context<'a>(&'a self, registry: &'a Registry, progress: &'a Progress) -> Context<'a, Segment, Registry> {
        let Self { segment, anchor, host, .. } = self;
        Context { net: segment, registry, anchor, ahead: 0, past_stored: false, host, progress }
    }

    /// A claim as one run of the program makes it: the registry is opened anew.
    async fn claim_with(&self, mut chooser: Chooser<'_>, wait: Duration) -> Result<Claimed, Error> {
        let (registry, progress) = (self.registry(), Progress::silent());
        let context = self.context(&registry, &progress);
        Claimer::new(&context, &self.terms, &mut chooser).claim(wait).await
    }

    async fn claim(&self, wait: Duration) -> Result<Claimed, Error> {
        self.claim_with(self.expecting([0]), wait).await
    }

    fn expecting(&self, nodes: impl IntoIterator<Item = usize>) -> Chooser<'static> {
        let prints = nodes.into_iter().map(|at| self.segment.node(at).lock().unwrap().print()).collect();
        Chooser::listed(prints, Unlisted::Refuse)
    }

    /// Node and registry say the same, and the claim is final on both sides.
    fn assert_claimed(&self, at: usize) {
        let node = self.segment.node(at);
        let node = node.lock().unwrap();
        let entry = self.registry().node(&node.fiduciary()).unwrap().unwrap();
        let (title, record) = node.committed.as_ref().unwrap();
        assert!(node.acknowledged && entry.acknowledged);
        assert_eq!((entry.state, &entry.title, entry.record.as_ref()), (State::Paired, title, Some(record)));
        // Whatever was sent after the commit was the committed grant to the byte.
        assert_eq!(node.grants.last().unwrap(), &entry.grant);
    }

    fn assert_not_paired(&self) {
        assert!(self.registry().nodes().unwrap().iter().all(|node| node.state == State::Pending));
    }
}

#[tokio::test(start_paused = true)]
async fn an_expected_node_is_claimed() {
    let lab = Lab::one([]);
    lab.segment.node(0).lock().unwrap().rivals = 3;
    let claimed = lab.claim(WAIT).await.unwrap();
    lab.assert_claimed(0);
    let node = &claimed.node;
    assert!(!claimed.resumed);
    assert_eq!((node.rivals, node.accepted, node.anchor), (Some(3), Accepted::Expected, AnchorKind::Image));
    assert_eq!((node.title.warrant.epoch.get(), node.title.warrant.fleet, node.fleet.as_str()), (1, [5; 32], "lab"));
    assert_eq!((node.configuration(), node.interface.as_str()), (&b"opaque"[..], "memory"));
    assert_eq!((node.title.set.needed, node.title.set.count), (1, 1));
    assert_eq!(node.address, lab.segment.node(0).lock().unwrap().address);
    assert_eq!(lab.segment.node(0).lock().unwrap().opens, 1);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_has_not_forked_is_claimed() {
    let lab = Lab::one([]);
    lab.segment.node(0).lock().unwrap().forked = false;
    let claimed = lab.claim(WAIT).await.unwrap();
    assert_eq!(claimed.node.title.warrant.fork, [0; 32]);
    lab.assert_claimed(0);
}

#[tokio::test(start_paused = true)]
async fn a_ticket_claims_its_node_and_names_the_fleets_authority() {
    let mut lab = Lab::one([]);
    lab.anchor = AnchorSecret::from_seed(&[7; 32]);
    lab.terms.anchor = AnchorKind::Ticket;
    let fiduciary = {
        let node = lab.segment.node(0);
        let mut node = node.lock().unwrap();
        node.anchor = lab.anchor.public();
        node.fiduciary()
    };
    let node = lab.claim_with(Chooser::ticket(fiduciary), WAIT).await.unwrap().node;
    lab.assert_claimed(0);
    assert_eq!((node.accepted, node.anchor), (Accepted::Ticket, AnchorKind::Ticket));
    assert_eq!(node.title.set.authorities[0].sign, admin().public().sign);
    assert!(node.title.verify(&wire::anchor::Anchor::alone(&lab.anchor.public())).is_some());
}

#[tokio::test(start_paused = true)]
async fn a_ticket_of_another_node_claims_nothing() {
    let lab = Lab::one([]);
    let error = lab.claim_with(Chooser::ticket([8; 32]), Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.exit, Exit::Failed);
    assert!(error.message.contains("another identity than the ticket's"), "{error}");
    assert_eq!(lab.segment.node(0).lock().unwrap().opens, 0);
    assert_eq!(lab.registry().nodes().unwrap(), []);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_does_not_prove_its_identity_is_not_claimed() {
    let cases = [
        (Fault::OtherSession, "is not for this session"),
        (Fault::BadSignature, "is not for this session"),
        (Fault::OtherNode, "another than the one in the hello"),
        (Fault::OtherFork, "fleet record is not its own"),
        (Fault::ForkOutOfPlace, "has not forked, yet shows"),
        (Fault::Garbage(568), "not authentic"),
        (Fault::Garbage(567), "something else than its identity"),
        (Fault::Garbage(2000), "broke the connection"),
        (Fault::OtherClaimKey, "the node"),
    ];
    for (fault, message) in cases {
        let lab = Lab::one([fault; 40]);
        let error = lab.claim(Duration::from_secs(10)).await.unwrap_err();
        assert_eq!(error.exit, Exit::Failed, "{fault:?}");
        assert!(error.message.contains(message), "{fault:?}: {error}");
        assert_eq!(lab.registry().nodes().unwrap(), [], "{fault:?}");
        assert_eq!(lab.segment.node(0).lock().unwrap().grants.len(), 0, "{fault:?}");
        assert!(lab.segment.abandoned.get() > 0);
    }
}

#[tokio::test(start_paused = true)]
async fn a_connection_cut_or_hung_at_any_message_is_made_good_in_the_same_run() {
    for step in step::ALL {
        for fault in [Fault::Cut(step), Fault::Hang(step)] {
            let lab = Lab::one([fault]);
            let claimed = lab.claim(WAIT).await;
            let claimed = claimed.unwrap_or_else(|error| panic!("{fault:?}: {error}"));
            assert_eq!(claimed.resumed, step >= step::COMMITTED, "{fault:?}");
            lab.assert_claimed(0);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_ended_anywhere_is_finished_by_the_next_run() {
    for step in step::ALL {
        // The node dies at this step in every claim of the first run.
        let lab = Lab::one([Fault::Cut(step); 40]);
        let error = lab.claim(Duration::from_secs(2)).await.unwrap_err();
        let expected = if step == step::PAIRED { Exit::Unconfirmed } else { Exit::Failed };
        assert_eq!(error.exit, expected, "step {step}: {error}");
        let node = lab.segment.node(0);
        let before = lab.registry().node(&node.lock().unwrap().fiduciary()).unwrap();
        assert_eq!(before.is_some(), step >= step::IDENTIFIED, "step {step}");
        node.lock().unwrap().faults.clear();
        let claimed = lab.claim(WAIT).await.unwrap();
        lab.assert_claimed(0);
        assert_eq!(claimed.resumed, step >= step::COMMITTED);
        if claimed.resumed {
            let grants = &node.lock().unwrap().grants;
            assert!(grants.iter().all(|grant| *grant == before.as_ref().unwrap().grant), "step {step}");
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_pending_grant_that_was_not_committed_is_replaced() {
    let lab = Lab::one([Fault::Cut(step::GRANTED)]);
    lab.claim(WAIT).await.unwrap();
    let node = lab.segment.node(0);
    let grants = &node.lock().unwrap().grants;
    assert_eq!(grants.len(), 2);
    assert_ne!(grants[0], grants[1]);
    assert_eq!(lab.registry().nodes().unwrap().len(), 1);
    assert_eq!(parse_grant(&grants[0]).unwrap().1, b"opaque");
}

#[tokio::test(start_paused = true)]
async fn a_node_committed_to_an_unknown_binding_is_an_error_at_once() {
    let lab = Lab::one([Fault::Committed; 2]);
    let error = lab.claim(WAIT).await.unwrap_err();
    assert_eq!(error.exit, Exit::Failed);
    assert!(error.message.contains("binding that this registry does not know"), "{error}");
    assert_eq!(lab.segment.node(0).lock().unwrap().faults.len(), 1);
    assert_eq!(lab.registry().nodes().unwrap(), []);
    // The same from a node that another registry has claimed.
    let lab = Lab::one([Fault::Cut(step::COMMITTED); 40]);
    lab.claim(Duration::from_secs(2)).await.unwrap_err();
    let elsewhere = Lab { segment: lab.segment, ..Lab::one([]) };
    elsewhere.segment.node(0).lock().unwrap().faults.clear();
    let error = elsewhere.claim(WAIT).await.unwrap_err();
    assert!(error.message.contains("binding that this registry does not know"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_wrong_pairing_record_is_not_stored() {
    for fault in [Fault::WrongPairing, Fault::ForgedPairing] {
        let lab = Lab::one([fault]);
        let error = lab.claim(WAIT).await.unwrap_err();
        assert_eq!(error.exit, Exit::Failed);
        assert!(error.message.contains("pairing record does not match"), "{error}");
        lab.assert_not_paired();
        // The node has committed all the same, and once it is repaired the claim is resumed.
        assert!(lab.claim(WAIT).await.unwrap().resumed);
        lab.assert_claimed(0);
    }
}

#[tokio::test(start_paused = true)]
async fn an_unconfirmed_acknowledgement_has_its_own_exit_code_and_says_what_to_do() {
    let lab = Lab::one([Fault::Hang(step::PAIRED); 40]);
    let error = lab.claim(WAIT).await.unwrap_err();
    assert_eq!(error.exit, Exit::Unconfirmed);
    assert!(error.message.contains("Run the same claim again"));
    let entry = &lab.registry().nodes().unwrap()[0];
    assert_eq!((entry.state, entry.acknowledged), (State::Paired, false));
    lab.segment.node(0).lock().unwrap().faults.clear();
    assert!(lab.claim(WAIT).await.unwrap().resumed);
    lab.assert_claimed(0);
    // A claimed node is silent, and the registry knows why.
    let error = lab.claim(Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(error.exit, Exit::NoAnswer);
    assert!(error.message.contains("already paired"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_claim_whose_end_was_not_noted_is_looked_for_briefly_and_not_taken_for_silence() {
    let lab = Lab::one([]);
    lab.claim(WAIT).await.unwrap();
    // The process was killed after the acknowledgement had left.
    let file = rusqlite::Connection::open(lab.folder.path().join("registry")).unwrap();
    file.execute_batch("UPDATE node SET acknowledged = 0, acknowledged_ms = NULL").unwrap();
    let before = Instant::now();
    let error = lab.claim(WAIT).await.unwrap_err();
    assert_eq!(error.exit, Exit::Unconfirmed, "{error}");
    assert!(error.message.contains("mesh up"), "{error}");
    assert!(before.elapsed() < Duration::from_secs(6), "{:?}", before.elapsed());
    // Another that is on the list too is waited for as ever.
    let lists = [lab.segment.node(0).lock().unwrap().print(), [7; 20]];
    let before = Instant::now();
    let both = lab.claim_with(Chooser::listed(BTreeSet::from(lists), Unlisted::Refuse), WAIT).await.unwrap_err();
    assert_eq!((both.exit, before.elapsed() >= WAIT), (Exit::NoAnswer, true));
}

#[tokio::test(start_paused = true)]
async fn lost_hellos_answers_and_connections_are_made_good() {
    let lab = Lab::one([]);
    {
        let node = lab.segment.node(0);
        let mut node = node.lock().unwrap();
        (node.lose_hellos, node.lose_answers, node.lose_connections) = (3, 2, 2);
    }
    lab.claim(WAIT).await.unwrap();
    lab.assert_claimed(0);
    assert_eq!(lab.segment.node(0).lock().unwrap().opens, 3);
}

#[tokio::test(start_paused = true)]
async fn finds_and_opens_are_repeated_to_the_byte_and_counters_rise() {
    let lab = Lab::one([]);
    lab.segment.node(0).lock().unwrap().lose_hellos = 2;
    lab.segment.node(0).lock().unwrap().lose_answers = 1;
    lab.claim(WAIT).await.unwrap();
    let finds: Vec<Find> = lab.segment.sent_of();
    let opens: Vec<Open> = lab.segment.sent_of();
    let distinct = |messages: Vec<&[u8]>| messages.into_iter().collect::<BTreeSet<_>>().len();
    let distinct_finds = distinct(finds.iter().map(Find::as_bytes).collect());
    assert!(finds.len() > 2 * distinct_finds && distinct_finds >= 3);
    assert!(finds.is_sorted_by_key(|find| find.counter.get()));
    assert!(opens.len() > 2 * distinct(opens.iter().map(Open::as_bytes).collect()));
    // Never more often than every 200 ms.
    let times: Vec<_> = lab.segment.sent.borrow().iter().filter(|(_, b)| b[5] == 2).map(|(at, _)| *at).collect();
    let close = times.windows(2).filter(|pair| pair[1] - pair[0] < Duration::from_millis(200)).count();
    assert_eq!(close, 0);
}

#[tokio::test(start_paused = true)]
async fn a_gate_that_does_not_open_is_told_from_silence() {
    let lab = Lab::one([]);
    lab.segment.node(0).lock().unwrap().lose_answers = u32::MAX;
    let error = lab.claim(Duration::from_secs(60)).await.unwrap_err();
    assert_eq!(error.exit, Exit::Failed);
    assert!(error.message.contains("did not open its gate"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn nobody_there_is_an_error_of_its_own() {
    let lab = Lab::with([]);
    let error = lab.claim_with(Chooser::ticket([1; 32]), Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(error.exit, Exit::NoAnswer);
}

/// A laptop with the image's anchor and its own key: a complete node, but not the operator's.
fn impostor() -> Node {
    Node::new(9, admin().public())
}

#[tokio::test(start_paused = true)]
async fn an_impostor_is_not_enrolled_unless_the_operator_says_so_by_name() {
    let lab = Lab::with([impostor()]);
    let nobody_to_ask = Chooser::listed(BTreeSet::new(), Unlisted::Refuse);
    let listed_others = Chooser::listed(BTreeSet::from([[1; 20]]), Unlisted::Ignore);
    let declined = Chooser::listed(BTreeSet::new(), Unlisted::Ask(Box::new(|_| false)));
    for chooser in [nobody_to_ask, listed_others, declined] {
        let error = lab.claim_with(chooser, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.exit, Exit::NotAccepted);
        let print = wire::Fingerprint(lab.segment.node(0).lock().unwrap().print()).to_string();
        assert!(error.message.contains(&print), "{error}");
    }
    assert_eq!(lab.segment.node(0).lock().unwrap().opens, 0);
    assert_eq!(lab.registry().nodes().unwrap(), []);
    let asked = RefCell::new(Vec::new());
    let yes = |found: &Found| {
        asked.borrow_mut().push(found.print());
        true
    };
    let chooser = Chooser::listed(BTreeSet::new(), Unlisted::Ask(Box::new(yes)));
    let claimed = lab.claim_with(chooser, WAIT).await.unwrap();
    assert_eq!(claimed.node.accepted, Accepted::Asked);
    assert_eq!(*asked.borrow(), [lab.segment.node(0).lock().unwrap().print()]);
}

#[tokio::test(start_paused = true)]
async fn accept_any_is_recorded() {
    let lab = Lab::with([impostor()]);
    let claimed = lab.claim_with(Chooser::listed(BTreeSet::new(), Unlisted::Take), WAIT).await.unwrap();
    assert_eq!(claimed.node.accepted, Accepted::AcceptedAny);
    assert_eq!(lab.registry().nodes().unwrap()[0].accepted, Accepted::AcceptedAny);
}

#[tokio::test(start_paused = true)]
async fn one_who_poses_as_an_expected_node_is_found_out_and_the_true_one_claimed() {
    let real = Node::new(1, admin().public());
    let mut liar = impostor();
    liar.poses_as = Some(real.fiduciary());
    // Alone it gets nothing.
    let lab = Lab::with([liar]);
    let expected = BTreeSet::from([real.print()]);
    let error = lab.claim_with(Chooser::listed(expected, Unlisted::Refuse), Duration::from_secs(5)).await.unwrap_err();
    assert_eq!(error.exit, Exit::Failed);
    assert_eq!(lab.registry().nodes().unwrap(), []);
    // Once found out, it is not tried again.
    assert_eq!(lab.segment.node(0).lock().unwrap().opens, 1);
    // Beside the true one it delays it.
    lab.segment.nodes.borrow_mut().push(std::sync::Arc::new(std::sync::Mutex::new(real)));
    lab.claim_with(lab.expecting([1]), WAIT).await.unwrap();
    lab.assert_claimed(1);
    assert_eq!(lab.segment.node(0).lock().unwrap().grants.len(), 0);
}

#[tokio::test(start_paused = true)]
async fn forged_replayed_and_foreign_datagrams_do_not_keep_the_node_out() {
    let lab = Lab::one([]);
    let real = Node::new(1, admin().public());
    let (fiduciary, address) = (real.fiduciary(), real.address);
    let mut noise: Vec<_> = (200..240).map(|number| (forged_hello(fiduciary, address, number), address)).collect();
    // Not of this link; sealed to another; an old hello of the true node; an answer of nobody; junk.
    noise.push((forged_hello(fiduciary, [0x20; 16], 240), address));
    let other = AnchorSecret::from_seed(&[1; 32]).public();
    noise.push((Node::new(3, other).hello(), address));
    // Long ago: of other nonces than today's.
    let mut earlier = real;
    noise.extend((0..100).map(|_| (earlier.hello(), address)).skip(97));
    noise.push((vec![b'G'; 72], address));
    noise.push((vec![0; 512], address));
    noise.push((vec![], address));
    *lab.segment.noise.borrow_mut() = noise;
    lab.claim(WAIT).await.unwrap();
    lab.assert_claimed(0);
    // One open for each hello at the most, each repeated; none to an address off the link.
    let opens: Vec<Open> = lab.segment.sent_of();
    assert!(opens.iter().all(|open| open.nonce != [240; 16]));
}

#[tokio::test(start_paused = true)]
async fn of_two_listed_nodes_one_is_claimed_and_the_other_left_alone() {
    let lab = Lab::with([Node::new(1, admin().public()), Node::new(2, admin().public())]);
    lab.claim_with(lab.expecting([0, 1]), WAIT).await.unwrap();
    let opens = [0, 1].map(|at| lab.segment.node(at).lock().unwrap().opens);
    assert_eq!(opens.iter().sum::<u32>(), 1);
    lab.claim_with(lab.expecting([0, 1]), WAIT).await.unwrap();
    lab.assert_claimed(0);
    lab.assert_claimed(1);
}

#[tokio::test(start_paused = true)]
async fn a_listed_node_that_hangs_does_not_keep_another_from_being_claimed() {
    let mut dead = Node::new(1, admin().public());
    dead.lose_answers = u32::MAX;
    let lab = Lab::with([dead, Node::new(2, admin().public())]);
    lab.claim_with(lab.expecting([0, 1]), WAIT).await.unwrap();
    lab.assert_claimed(1);
}

#[tokio::test(start_paused = true)]
async fn a_paired_node_that_is_released_or_put_back_is_claimed_anew_and_its_old_pairing_kept() {
    for epoch in [0, 1] {
        let lab = Lab::one([]);
        lab.claim(WAIT).await.unwrap();
        {
            let node = lab.segment.node(0);
            let mut node = node.lock().unwrap();
            (node.committed, node.acknowledged, node.epoch) = (None, false, epoch);
        }
        let claimed = lab.claim(WAIT).await.unwrap();
        assert_eq!(claimed.node.title.warrant.epoch.get(), epoch + 1);
        lab.assert_claimed(0);
        assert_eq!(lab.registry().nodes().unwrap().len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn discover_lists_the_nodes_of_this_anchor_and_opens_none() {
    let other = AnchorSecret::from_seed(&[1; 32]).public();
    let mut nodes = Vec::from([1, 2].map(|number| Node::new(number, admin().public())));
    nodes.push(Node::new(3, other));
    let lab = Lab::with(nodes);
    let (registry, progress) = (lab.registry(), Progress::silent());
    let context = lab.context(&registry, &progress);
    let mut seen = 0;
    let found = discover(&context, Duration::from_secs(5), |_| seen += 1).await.unwrap();
    let mut prints: Vec<_> = found.iter().map(Found::print).collect();
    let mut expected = [0, 1].map(|at| lab.segment.node(at).lock().unwrap().print());
    prints.sort_unstable();
    expected.sort_unstable();
    assert_eq!((prints.as_slice(), seen), (&expected[..], 2));
    assert!(lab.segment.sent_of::<Open>().is_empty());
}

#[tokio::test(start_paused = true)]
async fn the_beacon_claims_what_is_listed_and_reports_the_rest_once() {
    let lab = Lab::with([Node::new(1, admin().public()), impostor()]);
    for _ in 0..3 {
        for at in [1, 0] {
            let node = lab.segment.node(at);
            let mut node = node.lock().unwrap();
            lab.segment.deliver(node.hello(), node.address);
        }
    }
    let (registry, progress) = (lab.registry(), Progress::silent());
    let context = lab.context(&registry, &progress);
    let nodes = BTreeSet::from([lab.segment.node(0).lock().unwrap().print()]);
    let listed = Listed { nodes, ..Listed::default() };
    let events = RefCell::new(Vec::new());
    let tell = |event: Event<'_>| {
        events.borrow_mut().push(name_of(&event));
        Ok(())
    };
    // It runs on after the claim; the listed node's late hellos start nothing.
    let watching = beacon::watch(&context, &lab.terms, &listed, false, tell);
    assert!(tokio::time::timeout(Duration::from_secs(100), watching).await.is_err());
    assert_eq!(*events.borrow(), ["unlisted", "claimed"]);
    lab.assert_claimed(0);
    assert_eq!(lab.segment.node(1).lock().unwrap().opens, 0);
    // A scan is answered without a find.
    assert!(lab.segment.sent_of::<Find>().is_empty());
    assert_eq!(lab.segment.name(), "memory");
}

#[tokio::test(start_paused = true)]
async fn the_beacon_resumes_what_was_cut_and_ends_once_it_has_claimed() {
    let lab = Lab::one([Fault::Cut(step::COMMITTED)]);
    {
        let node = lab.segment.node(0);
        let mut node = node.lock().unwrap();
        lab.segment.deliver(node.hello(), node.address);
    }
    let (registry, progress) = (lab.registry(), Progress::silent());
    let context = lab.context(&registry, &progress);
    let nodes = BTreeSet::from([lab.segment.node(0).lock().unwrap().print()]);
    let listed = Listed { nodes, ..Listed::default() };
    beacon::watch(&context, &lab.terms, &listed, true, |_| Ok(())).await.unwrap();
    lab.assert_claimed(0);
}

#[tokio::test(start_paused = true)]
async fn a_node_that_knows_a_higher_counter_is_silent_and_the_way_past_it_is_named() {
    let lab = Lab::one([]);
    // The clock of this host was ahead once, or another registry has used the key.
    let ahead = Find::sign(&admin(), 1 << 50, fake::ADMIN_IP, fake::ADMIN_MAC);
    assert!(lab.segment.node(0).lock().unwrap().hear(ahead.as_bytes()).is_some());
    let error = lab.claim(Duration::from_secs(3)).await.unwrap_err();
    assert_eq!(error.exit, Exit::NoAnswer);
    assert!(error.message.contains("--counter-ahead MS"), "{error}");
    lab.registry().next_find(1 << 50, false).unwrap();
    lab.claim(WAIT).await.unwrap();
    lab.assert_claimed(0);
}

fn name_of(event: &Event<'_>) -> &'static str {
    match event {
        Event::Unlisted(_) => "unlisted",
        Event::Revoked(_) => "revoked",
        Event::Claimed(_) => "claimed",
        Event::Failed(..) => "failed",
    }
}
