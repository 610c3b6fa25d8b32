//! Nodes that were revoked, and say that they are unclaimed.

use super::*;

#[tokio::test(start_paused = true)]
async fn the_revoked_are_claimed_only_if_the_operator_names_them_for_that() {
    let mut lab = Lab::one([]);
    lab.terms.configuration = Configure::Mesh(MeshTerms {
        authority: crypto::dh_public(&crypto::Secret::new([9; 32])),
        ..MeshTerms::default()
    });
    lab.claim(WAIT).await.unwrap();
    let registry = lab.registry();
    let revoked = registry.members(&[5; 32]).unwrap().remove(0);
    registry.revoke(revoked.id).unwrap();
    let (node, print) = (lab.segment.node(0), lab.segment.node(0).lock().unwrap().print());
    // It says that it was released.
    let say = || {
        let mut node = node.lock().unwrap();
        (node.committed, node.acknowledged, node.epoch) = (None, false, 1);
        for _ in 0..3 {
            lab.segment.deliver(node.hello(), node.address);
        }
    };
    let progress = Progress::silent();
    let context = lab.context(&registry, &progress);
    let events = RefCell::new(Vec::new());
    let tell = |event: Event<'_>| {
        events.borrow_mut().push(name_of(&event));
        Ok(())
    };
    say();
    let mut listed = Listed { nodes: BTreeSet::from([print]), ..Listed::default() };
    let watching = beacon::watch(&context, &lab.terms, &listed, false, tell);
    assert!(tokio::time::timeout(WAIT, watching).await.is_err());
    assert_eq!(*events.borrow(), ["revoked"]);
    let choosers = [
        lab.expecting([0]),
        Chooser::ticket(node.lock().unwrap().fiduciary()),
        Chooser::listed(BTreeSet::new(), Unlisted::Take),
        Chooser::listed(BTreeSet::new(), Unlisted::Ask(Box::new(|_| true))),
    ];
    for chooser in choosers {
        let error = lab.claim_with(chooser, Duration::from_secs(5)).await.unwrap_err();
        assert_eq!(error.exit, Exit::NotAccepted, "{error}");
        assert!(error.message.contains("--readmit"), "{error}");
    }
    assert!(registry.member(revoked.id).unwrap().unwrap().revoked_ms.is_some());
    assert_eq!(node.lock().unwrap().opens, 1);

    say();
    listed.readmitted.insert(print);
    beacon::watch(&context, &lab.terms, &listed, true, tell).await.unwrap();
    assert_eq!(*events.borrow(), ["revoked", "claimed"]);
    lab.assert_claimed(0);
    let again = registry.member(revoked.id).unwrap().unwrap();
    assert_eq!((again.host, again.revoked_ms), (revoked.host, None));
    assert_ne!(again.preshared.0, revoked.preshared.0);
    assert_eq!(registry.nodes().unwrap()[0].accepted, Accepted::Readmitted);
}

#[tokio::test(start_paused = true)]
async fn a_claim_that_was_cut_and_revoked_is_not_resumed_unless_the_operator_says_so() {
    let mut lab = Lab::one([Fault::Cut(step::COMMITTED); 40]);
    lab.terms.configuration = Configure::Mesh(MeshTerms {
        authority: crypto::dh_public(&crypto::Secret::new([9; 32])),
        ..MeshTerms::default()
    });
    lab.claim(Duration::from_secs(2)).await.unwrap_err();
    let registry = lab.registry();
    let member = registry.members(&[5; 32]).unwrap().remove(0);
    registry.revoke(member.id).unwrap();
    lab.segment.node(0).lock().unwrap().faults.clear();
    assert_eq!(lab.claim(Duration::from_secs(5)).await.unwrap_err().exit, Exit::NotAccepted);
    let named = BTreeSet::from([lab.segment.node(0).lock().unwrap().print()]);
    assert!(lab.claim_with(lab.expecting([0]).readmitting(named), WAIT).await.unwrap().resumed);
    lab.assert_claimed(0);
    assert_eq!(registry.member(member.id).unwrap().unwrap().revoked_ms, None);
}
