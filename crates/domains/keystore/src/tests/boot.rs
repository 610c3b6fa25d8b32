//! From power-up to keys, with everything that can be wrong on the way.

use std::collections::HashSet;

use calls::keystore::{AnchorKind, for_beacon::MakeHello, for_lifecycle::Status};

use super::{disk::Fault, *};

#[test]
fn a_first_boot_makes_one_identity_from_device_secret_and_samples() {
    let mut rig = Rig::new(Board::anchored());
    let status = rig.status();
    let keys = Keys::derive(&Board::anchored().root_seed());
    assert_eq!(
        (status.state, status.anchor, status.ownership),
        (State::Ready as u8, AnchorKind::Image as u8, Ownership::Unclaimed as u8)
    );
    assert_eq!((status.forked, status.ticket_waiting, status.epoch), (0, 0, 0));
    assert_eq!((status.fiduciary, status.address), (keys.public.fiduciary, keys.public.address));
    assert!(rig.shown_ticket().is_none());

    let identity = |device_secret, seed| {
        let board = Board { device_secret, seed, ..Board::anchored() };
        Rig::new(board).status().fiduciary
    };
    let all = [identity([1; 32], 1), identity([2; 32], 1), identity([1; 32], 2), identity([0; 32], 1)];
    assert_eq!(HashSet::from(all).len(), all.len());
    assert_eq!(identity([1; 32], 1), all[0]);
}

#[test]
fn no_key_before_enough_samples_and_none_is_asked_for_after() {
    let mut rig = Rig::cold(Board::anchored(), Disk::default());
    rig.source_lives = false;
    rig.run();
    for number in 1..=BLOCKS {
        let status = rig.status();
        assert_eq!((status.state, status.fiduciary), (State::Testing as u8, [0; 32]));
        assert_eq!(rig.disk.writes(), 0);
        rig.feed();
        rig.run();
        assert_eq!(rig.told.contains(&Channel::Entropy), number < BLOCKS);
    }
    assert!(rig.told.contains(&Channel::Lifecycle) && rig.lifecycle.nudged());
    assert_eq!(rig.status().state, State::Ready as u8);
    // At rest nobody is notified of anything.
    rig.run();
    assert_eq!(rig.told, []);
}

#[test]
fn a_block_counts_once() {
    let mut rig = Rig::cold(Board::anchored(), Disk::default());
    rig.source_lives = false;
    for _ in 0..3 * BLOCKS {
        rig.number = 3;
        rig.feed();
        rig.run();
    }
    // Numbers may skip, and may not go back.
    for number in [2, 3, 5, 9, 8, 10].into_iter().chain(100..100 + BLOCKS - 5) {
        rig.number = number - 1;
        assert_eq!(rig.status().state, State::Testing as u8);
        rig.feed();
        rig.run();
    }
    assert_eq!(rig.status().state, State::Testing as u8);
    rig.number = 1000;
    rig.feed();
    rig.run();
    assert_eq!(rig.status().state, State::Ready as u8);
}

#[test]
fn nothing_of_f_before_it_is_committed_and_read_back() {
    let mut rig = Rig::boot(Board::ticket(), Disk::default());
    assert_eq!(rig.status().state, State::Ready as u8);
    let disk = Disk::default();
    let mut rig = Rig::cold(Board::ticket(), disk.clone());
    // The records have been looked for; then the store takes its time.
    rig.run();
    disk.set_busy(true);
    rig.feed();
    rig.run();
    assert_eq!(disk.writes(), 1);
    rig.lifecycle.call::<Status>(&(), 0, Patience::ENDLESS);
    rig.beacon.call::<MakeHello>(&(), 0, Patience::ENDLESS);
    for _ in 0..5 {
        rig.run();
        assert!(rig.outcome::<Status>(Channel::Lifecycle).is_none());
        assert!(rig.outcome::<MakeHello>(Channel::Beacon).is_none());
        assert!(rig.shown_ticket().is_none());
        assert!(!matches!(rig.keystore.stage, Stage::Ready(_)));
    }
    disk.set_busy(false);
    rig.run();
    assert_eq!(rig.outcome::<Status>(Channel::Lifecycle).unwrap().unwrap().state, State::Ready as u8);
    assert!(rig.outcome::<MakeHello>(Channel::Beacon).unwrap().is_ok());
    assert!(rig.shown_ticket().is_some());
}

#[test]
fn an_identity_that_does_not_read_back_is_not_used() {
    for fault in [Fault::Write, Fault::ReadBack, Fault::Read, Fault::Dead] {
        for board in [Board::anchored(), Board::ticket()] {
            let mut rig = Rig::cold(board, Disk::default());
            rig.run();
            rig.disk.fail(fault);
            rig.feed();
            rig.run();
            let status = rig.status();
            assert_eq!((status.state, status.fiduciary, status.address), (State::NoStore as u8, [0; 32], [0; 16]));
            assert!(rig.shown_ticket().is_none());
            assert_eq!(rig.ask::<MakeHello>(Channel::Beacon, &()).err(), Some(Refusal::NotReady));
            // Latched, whatever the store does now.
            rig.feed();
            rig.run();
            assert_eq!(rig.status().state, State::NoStore as u8);
        }
    }
}

#[test]
fn a_store_that_fails_to_load_makes_no_second_identity() {
    let mut first = Rig::new(Board::anchored());
    first.fork().unwrap();
    first.find(5).unwrap();
    type Damage = fn(&Disk);
    let damages: [Damage; 6] = [
        |disk| disk.fail(Fault::Dead),
        // One byte of the only version.
        |disk| {
            let mut sealed = disk.slot(Record::Identity, 1).unwrap();
            sealed[SEALED - 1] ^= 1;
            disk.set(Record::Identity, 1, Some(sealed));
        },
        // Good bytes in the wrong slot, or of the wrong record.
        |disk| disk.set(Record::Identity, 0, disk.slot(Record::Identity, 1)),
        |disk| disk.set(Record::Ownership, 0, disk.slot(Record::Ownership, 1)),
        |disk| disk.set(Record::Ownership, 1, disk.slot(Record::Identity, 1)),
        // Ownership without identity.
        |disk| disk.set(Record::Identity, 1, None),
    ];
    for (i, damage) in damages.into_iter().enumerate() {
        let disk = first.disk.copy();
        damage(&disk);
        let mut rig = Rig::boot(Board::anchored(), disk.clone());
        assert_eq!(rig.status().state, State::NoStore as u8, "damage {i}");
        assert_eq!(disk.writes(), 0);
    }
    // Another board's device secret opens nothing.
    let board = Board { device_secret: [1; 32], ..Board::anchored() };
    assert_eq!(Rig::boot(board, first.disk.copy()).status().state, State::NoStore as u8);
    // An older version where the newer is gone: what a write that was cut off leaves.
    let disk = first.disk.copy();
    disk.set(Record::Ownership, 0, None);
    let mut rig = Rig::boot(Board::anchored(), disk);
    assert_eq!((rig.status().state, rig.status().forked), (State::Ready as u8, 1));
    assert!(rig.find(5).is_ok());
}

#[test]
fn what_is_committed_outlives_the_power() {
    let mut rig = Rig::new(Board::anchored());
    let before = rig.status();
    rig.power_cycle();
    assert_eq!(rig.status(), before);
    rig.fork().unwrap();
    rig.find(70).unwrap();
    rig.power_cycle();
    assert_eq!(rig.status(), StatusReply { forked: 1, ..before });
    assert_eq!(rig.find(70), Err(Refusal::Stale));
    assert!(rig.identify().unwrap().fork().unwrap().verify().is_some());
}

#[test]
fn a_damaged_anchor_leaves_the_node_blind() {
    let mut damaged = Board::anchored();
    damaged.image.sign[0] ^= 1;
    let mut small_order = AnchorFile::new(&crypto::AnchorPublic { sign: [7; 32], dh: [0; 32] });
    let small_order = Board { image: core::mem::replace(&mut small_order, AnchorFile::new_zeroed()), ..damaged };
    for board in [damaged, small_order] {
        let mut rig = Rig::boot(board, Disk::default());
        let status = rig.status();
        assert_eq!((status.state, status.fiduciary), (State::BadAnchor as u8, [0; 32]));
        assert_eq!(rig.disk.writes(), 0);
        assert_eq!(rig.fork(), Err(Refusal::NotReady));
        assert_eq!(rig.told, [Channel::Lifecycle]);
    }
}

#[test]
fn a_ticket_is_shown_once_a_boot_while_unclaimed() {
    let mut rig = Rig::cold(Board::ticket(), Disk::default());
    // A notification before there is a ticket means nothing.
    rig.step(true);
    rig.feed();
    rig.run();
    assert!(rig.told.contains(&Channel::Console));
    let status = rig.status();
    assert_eq!((status.anchor, status.ticket_waiting), (AnchorKind::Ticket as u8, 1));
    let value = rig.shown_ticket().unwrap();
    assert_eq!((value.secret, value.fiduciary), (ticket_seed(&rig.board), status.fiduciary));
    assert!(!rig.secrets.contains(&value.secret));
    rig.step(true);
    let mut bytes = [0; 4096];
    ReadOnly::new(rig.ticket_region).read(8, &mut bytes);
    assert_eq!(bytes, [0; 4096]);
    assert!(rig.told.contains(&Channel::Lifecycle));
    assert_eq!(rig.status().ticket_waiting, 0);
    // It claims this node: the hello is for it.
    let anchor = AnchorSecret::from_seed(&value.secret);
    assert_eq!(rig.hello(&anchor).fiduciary, status.fiduciary);
    // Later boots show the same one, the image's anchor notwithstanding.
    for image in [AnchorFile::new_zeroed(), Board::anchored().image] {
        rig.board.image = image;
        rig.power_cycle();
        assert_eq!(rig.shown_ticket().unwrap().secret, value.secret);
        assert_eq!(rig.status(), StatusReply { ticket_waiting: 1, ..status });
        rig.step(true);
    }
    // Committed but not acknowledged, it is not shown again, but stays the anchor.
    let binding = bind(&rig.identify().unwrap(), &anchor, 1);
    let record = rig.commit(&binding).unwrap();
    rig.power_cycle();
    assert!(rig.shown_ticket().is_none());
    assert_eq!((rig.status().ticket_waiting, rig.status().anchor), (0, AnchorKind::Ticket as u8));
    assert_eq!(rig.acknowledge(&record.hash()), Ok(()));
    assert_eq!(rig.status().anchor, AnchorKind::None as u8);
}

#[test]
fn an_unclaimed_node_that_loses_its_image_anchor_gets_a_ticket_and_keeps_its_identity() {
    let mut rig = Rig::new(Board::anchored());
    let fiduciary = rig.status().fiduciary;
    rig.board.image = AnchorFile::new_zeroed();
    rig.power_cycle();
    let status = rig.status();
    assert_eq!((status.fiduciary, status.anchor, status.ticket_waiting), (fiduciary, AnchorKind::Ticket as u8, 1));
    assert_eq!(rig.shown_ticket().unwrap().fiduciary, fiduciary);
}

/// The secret that an unclaimed node with nothing but this slot of its identity would show.
pub fn ticket_in(disk: &Disk, index: usize) -> Option<[u8; 32]> {
    let disk = disk.copy();
    disk.set(Record::Identity, 1 - index, None);
    disk.set(Record::Ownership, 0, None);
    disk.set(Record::Ownership, 1, None);
    disk.slot(Record::Identity, index)?;
    let mut rig = Rig::boot(Board { seed: 99, ..Board::ticket() }, disk);
    rig.shown_ticket().map(|value| value.secret)
}

#[test]
fn the_acknowledgement_erases_the_ticket_from_both_slots_even_over_a_power_cut() {
    let secret = ticket_seed(&Board::ticket());
    for cut_after in 0..4 {
        let mut rig = Rig::new(Board::ticket());
        let binding = bind(&rig.identify().unwrap(), &AnchorSecret::from_seed(&secret), 1);
        let record = rig.commit(&binding).unwrap();
        assert_eq!(ticket_in(&rig.disk, 1), Some(secret));
        let before = rig.disk.writes();
        rig.claim.call::<Acknowledge>(&record.hash(), 0, Patience::ENDLESS);
        // Steps, so that the power goes between two commits: of the acknowledgement, of one slot, of the other.
        while rig.disk.writes() < before + cut_after.min(3) {
            rig.step(false);
        }
        if cut_after == 3 {
            rig.run();
            assert_eq!(rig.outcome::<Acknowledge>(Channel::Claim), Some(Ok(())));
        }
        if cut_after == 0 {
            rig.acknowledge(&record.hash()).unwrap();
        } else {
            rig.power_cycle();
        }
        assert_eq!(rig.status().ownership, Ownership::Claimed as u8);
        for index in [0, 1] {
            let found = ticket_in(&rig.disk, index);
            assert!(found.is_some() && found != Some(secret), "cut after {cut_after}, slot {index}");
        }
        // A claimed node has no ticket and makes none.
        rig.power_cycle();
        assert!(rig.shown_ticket().is_none());
        assert_eq!((rig.status().anchor, rig.status().ticket_waiting), (AnchorKind::None as u8, 0));
    }
}

/// system.xml: `stack_size` of the keystore.
const STACK: usize = 0x18000;

#[test]
fn it_runs_on_the_stack_that_the_system_gives_it() {
    let life = || {
        let mut rig = Rig::new(Board::ticket());
        let anchor = AnchorSecret::from_seed(&ticket_seed(&rig.board));
        rig.step(true);
        rig.fork().unwrap();
        let open = open_for(&rig.hello(&anchor), &anchor, 3);
        assert!(rig.ask::<CheckOpen>(Channel::Beacon, &open).is_ok());
        rig.claim_with(&anchor, 9);
        rig.timestamp().unwrap();
        let mut head = UpdateHead::new_zeroed();
        let status = rig.status();
        (head.fleet, head.fiduciary, head.epoch) = (status.fleet, status.fiduciary, U64::new(status.epoch));
        head.counter = U64::new(10);
        let head = head.sign(&authority(), 0).sign(&authority(), 1);
        assert_eq!(rig.update(&head), Err(Refusal::Forged));
        assert_eq!(
            rig.update(&UpdateHead { signatures: [head.signatures[0], [0; 64], [0; 64], [0; 64]], ..head }),
            Ok(())
        );
        rig.power_cycle();
        rig.timestamp().unwrap();
    };
    std::thread::Builder::new().stack_size(STACK).spawn(life).unwrap().join().unwrap();
}

#[test]
fn it_fits_on_it_with_a_store_in_its_own_memory() {
    let board = Board::ticket();
    let Rig { mut ports, mut entropy, .. } = Rig::cold(board, Disk::default());
    let (secret, anchor) = (region(), region());
    ReadWrite::new(secret).write(0, &board.device_secret);
    let mut first_boot = move || {
        let mut keystore = Keystore::new(ReadOnly::new(secret), ReadOnly::new(anchor), RamStore::new());
        let mut source = Good::new(1);
        for number in 1..=BLOCKS {
            entropy.publish(&source::block(number, &mut source));
            while keystore.step(true, &mut ports) {}
        }
        // As the platform moves it to where it stays.
        move || keystore.status()
    };
    let run = move || assert_eq!(first_boot()().state(), Some(State::Ready));
    std::thread::Builder::new().stack_size(STACK).spawn(run).unwrap().join().unwrap();
}
