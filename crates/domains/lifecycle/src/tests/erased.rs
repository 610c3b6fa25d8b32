//! What of the configurations at rest is erased, and when.

use calls::store::SEALED_BLOCK;
use shm::mailbox::Operation as _;
use wire::telemetry::CommandResult;

use super::{
    rest::{apply, blocks, booted, erased, flash_of, long},
    *,
};

/// It holds preshared keys that somebody may have had replaced because they were known.
#[test]
fn what_was_replaced_is_erased_and_costs_one_erase_for_each_that_is_written() {
    let mut rig = Rig::claimed(&long(1));
    assert_eq!((erased(&rig), rig.flash.account.erases), (1, 0));
    for port in 2..12 {
        assert_eq!(apply(&mut rig, &long(port)), CommandResult::Done);
        assert_eq!((erased(&rig), rig.flash.account.erases), (1, u64::from(port) - 1));
        assert_eq!(rig.alarm(), None);
        if port % 3 == 0 {
            rig = booted(Ownership::Claimed, &long(port), rig.flash);
            assert_eq!((erased(&rig), rig.flash.account.erases), (1, u64::from(port) - 1));
        }
    }
    // What a claim has staged that was never committed goes too, when another is.
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.stage(&configuration(1)).unwrap();
    assert_eq!(erased(&rig), 1);
    rig.stage(&configuration(2)).unwrap();
    assert_eq!(erased(&rig), 0);
    rig.commit_to(&configuration(1));
    assert_eq!((erased(&rig), rig.core.configuration()), (1, Some(&*configuration(1))));
}

#[test]
fn what_a_cut_or_a_failure_left_of_it_is_erased_at_the_next_boot_or_within_the_hour() {
    let (old, new) = (long(1), long(2));
    for reboot in [false, true] {
        let mut rig = booted(Ownership::Claimed, &old, flash_of(&old));
        rig.flash.fails_at = Some(rig.flash.changes + blocks(&new));
        assert_eq!(apply(&mut rig, &new), CommandResult::Done);
        assert_eq!(erased(&rig), 0);
        let changes = rig.flash.changes;
        rig.pass(crate::archive::PURGE_MICROS - 1);
        assert_eq!((rig.flash.changes, erased(&rig)), (changes, 0), "it is not tried all the time");
        rig.flash.fails_at = None;
        if reboot {
            // Of an erase that was cut off something stands anywhere.
            rig.flash.slots.iter_mut().for_each(|slot| {
                if slot[0][..24] == wire::binding::configuration_hash(&old)[..24] {
                    slot[0] = [0xff; SEALED_BLOCK];
                }
            });
            rig = booted(Ownership::Claimed, &new, rig.flash);
        } else {
            assert_eq!(rig.alarm(), Some(rig.now + 1));
            rig.pass(1);
        }
        assert_eq!((erased(&rig), rig.core.configuration()), (1, Some(&*new)), "reboot: {reboot}");
        assert_eq!(rig.alarm(), None);
    }
}

/// While it is not known which of the two is committed neither goes.
#[test]
fn nothing_is_erased_while_a_commit_is_in_doubt() {
    let (old, new) = (configuration(1), configuration(2));
    let mut rig = booted(Ownership::Claimed, &old, flash_of(&old));
    rig.refuses = Some((for_lifecycle::Order::OP, KeystoreRefusal::Store));
    rig.kept.status.store = calls::keystore::Store::Doubtful as u8;
    assert_eq!(apply(&mut rig, &new), CommandResult::Store);
    assert_eq!(erased(&rig), 0);
    // It says that all is well, but seals nothing; then it does, and says meanwhile that it has committed the new one.
    rig.kept.status.store = calls::keystore::Store::Good as u8;
    rig.refuses = Some((for_lifecycle::SealBlock::OP, KeystoreRefusal::Store));
    rig.change();
    assert_eq!(erased(&rig), 0);
    rig.refuses = None;
    rig.holds = Some(for_lifecycle::SealBlock::OP);
    rig.pass(crate::archive::PURGE_MICROS);
    rig.kept.status.configuration = wire::binding::configuration_hash(&new);
    rig.holds = None;
    rig.run();
    assert_eq!((erased(&rig), rig.core.configuration()), (1, Some(&*new)));
}

/// With preshared keys in it, whoever brought it and whatever has become of him.
#[test]
fn what_a_claim_has_staged_that_was_given_up_is_erased_once() {
    let mut rig = Rig::holding();
    assert_eq!(rig.flash.changes, 0);
    for claim in 1..=5 {
        rig.open(1).unwrap();
        rig.stage(&long(1)).unwrap();
        // It may go on until its gate is closed.
        rig.stage(&long(claim)).unwrap();
        rig.pass(1_000 * MS);
        let staged = 2 - erased(&rig);
        assert_eq!(staged, if claim == 1 { 1 } else { 2 });
        if claim % 2 == 0 {
            rig.pass(30_000 * MS);
        } else {
            let end = EndRequest::new(rig.rules.gate, Closed::Internal);
            rig.claim::<for_claim::Ended>(&end).unwrap();
            rig.run();
        }
        assert_eq!((rig.rules.gate, erased(&rig), rig.alarm()), (0, 2, None));
    }
    assert_eq!(rig.flash.account.erases, 1 + 4 * 2, "as many as configurations were written");
    rig.open(1).unwrap();
    rig.commit();
    assert_eq!((rig.flash.account.erases, rig.core.configuration()), (9, Some(&*configuration(80))));
}

/// Power went while a claim was under way, in any part of the writing.
#[test]
fn what_a_claim_has_staged_before_a_boot_is_erased() {
    for written in 1..=2 {
        let mut flash = flash_of(&long(1));
        flash.slots[0].iter_mut().skip(written).for_each(|block| block.fill(0xff));
        flash.slots.swap(0, written % 2);
        let before = flash.account.erases;
        let mut rig = booted(Ownership::Unclaimed, &[], flash);
        assert_eq!((rig.core.phase(), erased(&rig), rig.flash.account.erases), (Phase::Hold, 2, before + 1));
        let changes = rig.flash.changes;
        let rig_again = booted(Ownership::Unclaimed, &[], rig.flash.clone());
        assert_eq!((rig_again.flash.changes, rig.alarm()), (changes, None));
    }
}

/// Of a node whose keystore has no word about it, or is in doubt, nothing is erased.
#[test]
fn nothing_is_erased_while_nobody_knows_what_is_committed() {
    for (state, store) in [(State::Ready, 1), (State::Ready, 2), (State::StoreDamaged, 0), (State::NoStore, 0)] {
        let mut rig = Rig::with(3000, flash_of(&configuration(1)));
        rig.kept.status.forked = 1;
        (rig.kept.status.state, rig.kept.status.store) = (state as u8, store);
        rig.report.publish(&Report { mac: [2; 6], up: 1, zero: 0 });
        rig.change();
        rig.pass(crate::archive::PURGE_MICROS);
        assert_eq!(erased(&rig), 1, "{state:?}");
    }
}
