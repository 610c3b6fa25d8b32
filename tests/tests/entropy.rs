//! A node whose source fails makes no key, or makes no more use of it; it says so and shows the network nothing.

use std::time::Duration;

use genesis_tests::{
    admin::{Admin, fresh},
    bed::{Bed, image},
};
use lab::NodeOptions;
use native::runner::Entropy;

#[test]
fn a_source_that_is_bad_from_the_start_makes_no_key() {
    for (mode, test) in [(Entropy::Stuck, "repetition count"), (Entropy::Biased, "adaptive proportion")] {
        let bed = Bed::new();
        let mut admin = Admin::new(fresh());
        let node = bed.node(NodeOptions { entropy: mode, ..image(&admin.public()) });
        node.wait_phase("sealed");
        let line = node.wait_line(|line| line.starts_with("genesis: fault entropy failed"));
        assert!(line.contains("at start: no key was made"), "{line}");
        // A heavily biased source also repeats itself: either test may be the first.
        assert!(mode == Entropy::Biased || line.contains(test), "{mode}: {line}");
        assert_eq!(node.phases(), ["blind", "sealed"]);
        assert!(!node.console().contains("identity"));
        let mut station = bed.station("admin", 1);
        let find = admin.find(&station);
        station.announce(zerocopy::IntoBytes::as_bytes(&find));
        assert!(admin.hear_hello(&mut station, Duration::from_secs(2)).is_none());
        assert_eq!(bed.frames_from(&node), [] as [Vec<u8>; 0]);
    }
}

/// The source passes the start and fails in hold: the node is sealed, whatever it was doing, and never speaks again.
#[test]
fn a_source_that_fails_later_seals_the_node() {
    let bed = Bed::new();
    let mut admin = Admin::new(fresh());
    let options = NodeOptions { entropy: Entropy::FailsAfter(4200), ..image(&admin.public()) };
    let node = bed.node(options.with(|params| params.hello_delay_ms = 5.into()));
    node.wait_phase("hold");
    let mut station = bed.station("admin", 1);
    // Each hello uses up randomness, so that the keystore asks for more of what the source has become.
    let mut hellos = 0;
    while !node.phases().contains(&"sealed".to_owned()) {
        let find = admin.find(&station);
        station.announce(zerocopy::IntoBytes::as_bytes(&find));
        hellos += u32::from(admin.hear_hello(&mut station, Duration::from_millis(500)).is_some());
        assert!(hellos < 10_000, "the node never drew on its source again");
    }
    let line = node.wait_line(|line| line.starts_with("genesis: fault entropy failed"));
    assert!(line.contains("the node is sealed"), "{line}");
    bed.mark();
    let find = admin.find(&station);
    station.announce(zerocopy::IntoBytes::as_bytes(&find));
    assert!(admin.hear_hello(&mut station, Duration::from_secs(2)).is_none());
    assert_eq!(bed.frames_from(&node), [] as [Vec<u8>; 0]);
}
