//! A claim on a host of a given seed, an in-memory registry and a paused clock is the same every time.

mod fake;
#[path = "fake/host.rs"]
mod host;
#[path = "fake/segment.rs"]
mod segment;

use std::time::Duration;

use fake::{Fault, Node, admin, step};
use host::Seeded;
use os_network_admin::{
    base::{mesh_key::MeshKey, progress::Progress},
    claim::{Chooser, Claimer, Configure, Context, MeshTerms, Terms, Unlisted},
    registry::{AnchorKind, Registry},
};
use segment::Segment;
use tokio::time::Instant;
use wire::set::{Authority, AuthoritySet};

/// All that left the administrator and when, and all that the nodes were granted.
type Told = (Vec<(Duration, Vec<u8>)>, Vec<Vec<u8>>);

/// Claims two nodes, of which one breaks off at first.
fn run(seed: u8) -> Told {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
    runtime.block_on(async {
        let start = Instant::now();
        let (host, anchor, progress) = (Seeded::shared(seed), admin(), Progress::silent());
        let registry = Registry::in_memory(host.clone()).unwrap();
        let segment = Segment::with([1, 2].map(|number| Node::new(number, admin().public())));
        segment.node(1).lock().unwrap().faults.push_back(Fault::Cut(step::GRANTED));
        let own = anchor.public();
        let authority = MeshKey::generate(&*host).unwrap().public();
        let terms = Terms {
            fleet: "lab".into(),
            fleet_id: [5; 32],
            set: AuthoritySet::alone(Authority::signer(&own)),
            configuration: Configure::Mesh(MeshTerms { authority, ..MeshTerms::default() }),
            anchor: AnchorKind::Image,
            warrant: None,
        };
        let context = Context {
            net: &segment,
            registry: &registry,
            anchor: &anchor,
            ahead: 0,
            past_stored: false,
            host: &host,
            progress: &progress,
        };
        for _ in 0..2 {
            let mut chooser = Chooser::listed([].into(), Unlisted::Take);
            Claimer::new(&context, &terms, &mut chooser).claim(Duration::from_secs(60)).await.unwrap();
        }
        let sent = segment.sent.borrow().iter().map(|(at, bytes)| (*at - start, bytes.clone())).collect();
        let grants = (0..2).flat_map(|at| segment.node(at).lock().unwrap().grants.clone()).collect();
        (sent, grants)
    })
}

#[test]
fn a_seed_says_all_that_a_claim_sends_and_when() {
    let (sent, grants) = run(1);
    assert!(sent.len() > 4 && grants.len() == 3, "{} sent, {} granted", sent.len(), grants.len());
    for _ in 0..3 {
        assert_eq!(run(1), (sent.clone(), grants.clone()));
    }
    assert_ne!(run(2), (sent, grants));
}
