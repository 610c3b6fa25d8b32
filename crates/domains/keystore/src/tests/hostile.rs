//! Any bytes in every region that another domain writes.

use core::sync::atomic::Ordering;

use calls::keystore::AnchorKind;
use proptest::prelude::*;

use wire::link::UNSTORED;

use super::{claim::ask_raw, *};

/// Mostly operations that exist, at lengths that fit: the rest is refused at the door.
fn request() -> impl Strategy<Value = (usize, u64, u64, Vec<u8>)> {
    let op = prop_oneof![4 => 1u64..60, 1 => 1u64..];
    let len = prop_oneof![
        4 => prop::sample::select(&[0u64, 16, 32, 64, 96, 104, 144, 176, 192, 568, 1232][..]),
        1 => 0u64..1300,
        1 => any::<u64>()
    ];
    (0usize..4, op, len, prop::collection::vec(any::<u8>(), 0..1300))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_request_is_answered_and_none_makes_an_owner(
        ticket: bool, committed: bool, requests in prop::collection::vec(request(), 1..60)
    ) {
        let board = if ticket { Board::ticket() } else { Board::anchored() };
        let mut rig = Rig::new(board);
        if committed {
            let anchor = if ticket { AnchorSecret::from_seed(&ticket_seed(&board)) } else { admin() };
            let title = bind(&rig.identify().unwrap(), &anchor, 1);
            rig.commit(&title).unwrap();
        }
        let mut before = rig.status();
        // Lifecycle says that the owner of a committed node has come: the one thing that it is believed about.
        if committed && requests.iter().any(|(mailbox, op, len, _)| (*mailbox, *op, *len) == (0, 4, 0)) {
            let (ownership, anchor) = (Ownership::Claimed as u8, AnchorKind::None as u8);
            before = StatusReply { ownership, anchor, ticket_waiting: 0, ..before };
        }
        for (mailbox, op, len, body) in requests {
            ask_raw(&mut rig, mailbox, op, len, &body);
        }
        // So it is about the store, until that starts again.
        rig.store.restart();
        // The client's own count of calls was left behind by the raw ones.
        let (request, reply) = rig.mailboxes[0];
        rig.lifecycle = Client::new(ReadWrite::new(request), ReadOnly::new(reply)).unwrap();
        let status = rig.status();
        prop_assert_eq!(StatusReply { forked: 0, ..status }, StatusReply { forked: 0, ..before });
    }

    #[test]
    fn any_words_in_the_shared_regions_are_survived(
        words in prop::collection::vec(any::<u64>(), 512),
        small: bool, rounds in 1usize..20, cold: bool, shown in prop::collection::vec(any::<bool>(), 20)
    ) {
        let mut rig = Rig::cold(Board::ticket(), Disk::default());
        if !cold {
            rig.feed();
            rig.run();
        }
        // Also the ticket's: nobody else writes it, and nothing is read from it.
        let mut regions: Vec<Region> = rig.mailboxes.iter().map(|(request, _)| *request).collect();
        regions.extend([rig.ticket_region, rig.store.regions().1]);
        for round in 0..rounds {
            for region in &regions {
                for (i, (to, from)) in region.iter().zip(&words).enumerate() {
                    let word = if small && i < 5 { from % 60 } else { *from };
                    to.store(word.wrapping_add(round as u64), Ordering::Relaxed);
                }
            }
            let mut block = Samples::new_zeroed();
            for (to, from) in block.as_mut_bytes().chunks_mut(8).zip(&words[round..]) {
                to.copy_from_slice(&from.to_le_bytes());
            }
            rig.entropy.publish(&block);
            if shown[round] {
                rig.show();
            }
            rig.step();
            rig.run();
        }
    }
}

#[test]
fn who_uses_up_all_numbers_of_finds_is_heard_and_nobody_after_him_until_the_node_is_switched_off() {
    let mut rig = Rig::new(Board::anchored());
    let writes = rig.disk.writes();
    for last in [UNSTORED, UNSTORED + 1, u64::MAX] {
        assert!(rig.find(last).is_ok());
        assert_eq!(rig.find(last), Err(Refusal::Stale));
    }
    assert_eq!(rig.find(100_000_000), Err(Refusal::Stale));
    assert_eq!(rig.disk.writes(), writes);
    rig.power_cycle();
    assert!(rig.find(100_000_000).is_ok());
    // The largest that is stored leaves room above it.
    assert!(rig.find(UNSTORED - 1).is_ok());
    rig.power_cycle();
    assert_eq!(rig.find(UNSTORED - 1), Err(Refusal::Stale));
    assert!(rig.find(UNSTORED + 1_800_000_000_000).is_ok());
}
