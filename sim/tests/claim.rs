//! A claim by the administrator's own library, of a node of the real domains.

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use crypto::AnchorSecret;
use os_network_admin::{
    base::progress::Progress,
    claim::{Chooser, Claimer, Configure, Context, MeshTerms, Terms, Unlisted},
    registry::{AnchorKind, Registry},
};
use sim::{
    Plan, World,
    admin::{Link, VirtualHost, run, simulate},
};
use wire::{anchor::AnchorFile, binding::Authority};
use zerocopy::IntoBytes;

#[test]
fn a_claim() {
    let world = RefCell::new(World::new(1));
    let anchor = AnchorSecret::from_seed(&[7; 32]);
    simulate(async {
        let node = {
            let mut world = world.borrow_mut();
            world.record();
            let mut plan = Plan::default();
            plan.params.scan_ms = 0.into();
            plan.anchor = AnchorFile::new(&anchor.public()).as_bytes().to_vec();
            let node = world.add(&plan);
            world.power_on(node);
            node
        };
        let host = VirtualHost::new(&world.borrow().rng().split());
        let link = Link::new(&world, 0, 1);
        let registry = Registry::in_memory(host.clone()).unwrap();
        let own = anchor.public();
        let terms = Terms {
            fleet: "lab".into(),
            fleet_id: [5; 16],
            needed: 1,
            authorities: vec![Authority { sign: own.sign, dh: own.dh }],
            configuration: Configure::Mesh(MeshTerms { authority: [9; 32], underlay: None, endpoint: None }),
            anchor: AnchorKind::Image,
        };
        let progress = Progress::silent();
        let context =
            Context { net: &link, registry: &registry, anchor: &anchor, ahead: 0, host: &host, progress: &progress };
        let mut chooser = Chooser::listed(BTreeSet::new(), Unlisted::Take);
        let claimed = run(&world, Claimer::new(&context, &terms, &mut chooser).claim(Duration::from_secs(60))).await;
        println!("{}", world.borrow().trace());
        claimed.unwrap();
        assert_eq!(world.borrow().phase(node), Some("claimed"));
    });
}
