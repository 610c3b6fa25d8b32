//! The counter of finds, where a node was switched off meanwhile.

use super::*;

#[tokio::test(start_paused = true)]
async fn a_node_that_was_switched_off_after_it_heard_a_find_is_claimed_with_the_second() {
    let lab = Lab::one([]);
    let registry = lab.registry();
    let find = Find::sign(&admin(), registry.next_find(0, false).unwrap(), fake::ADMIN_IP, fake::ADMIN_MAC);
    {
        let node = lab.segment.node(0);
        let mut node = node.lock().unwrap();
        assert!(node.hear(find.as_bytes()).is_some());
        // Its store has the next multiple.
        node.finds = node.finds.next_multiple_of(1 << 16);
    }
    let start = Instant::now();
    lab.claim(WAIT).await.unwrap();
    lab.assert_claimed(0);
    assert!(start.elapsed() < Duration::from_secs(3), "{:?}", start.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_hunt_in_vain_goes_past_what_nodes_may_have_stored_once_in_ten_seconds() {
    let lab = Lab::with([]);
    let before = lab.registry().next_find(0, false).unwrap();
    let error = lab.claim_with(Chooser::listed(BTreeSet::new(), Unlisted::Refuse), WAIT).await.unwrap_err();
    assert_eq!(error.exit, Exit::NoAnswer);
    let passed = lab.registry().next_find(0, false).unwrap() - before;
    // After 2, 12, … 52 s, while the clock stands.
    assert!(((5 << 16)..(6 << 16) + 60).contains(&passed), "{passed}");
}
