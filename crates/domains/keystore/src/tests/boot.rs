//! From power-up to keys, with everything that can be wrong on the way.

use std::collections::HashSet;

use calls::{
    keystore::{AnchorKind, for_beacon::MakeHello, for_lifecycle::Status},
    store::{Finding, SEALED},
};
use zerocopy::FromBytes;

use super::{
    disk::Fault,
    orders::{configure, follow, let_go},
    *,
};

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
    assert_eq!(disk.writes(), 0);
    rig.lifecycle.call::<Status>(&(), 0, Patience::ENDLESS);
    rig.beacon.call::<MakeHello>(&(), 0, Patience::ENDLESS);
    for done in 1..=3 {
        rig.run();
        assert_eq!(rig.outcome::<Status>(Channel::Lifecycle).unwrap().unwrap().state, State::Testing as u8);
        rig.lifecycle.call::<Status>(&(), 0, Patience::ENDLESS);
        assert!(rig.outcome::<MakeHello>(Channel::Beacon).is_none());
        assert!(rig.shown_ticket().is_none());
        assert!(!matches!(rig.keystore.stage, Stage::Ready(_)));
        disk.set_busy(false);
        rig.store.serve();
        disk.set_busy(true);
        // The ownership, the counters, the identity.
        let (record, sequence) = *disk.0.borrow().writes.last().unwrap();
        assert_eq!((disk.writes(), record, sequence), (done, [1, 2, 0][done - 1], 1));
    }
    rig.run();
    assert_eq!(rig.outcome::<Status>(Channel::Lifecycle).unwrap().unwrap().state, State::Ready as u8);
    assert!(rig.outcome::<MakeHello>(Channel::Beacon).unwrap().is_ok());
    assert!(rig.shown_ticket().is_some());
}

#[test]
fn an_identity_that_cannot_be_stored_is_not_used() {
    for fault in [Fault::Refused, Fault::Dead, Fault::LateDead] {
        for board in [Board::anchored(), Board::ticket()] {
            // Ownership, counters, identity.
            for write in 0..3 {
                let mut rig = Rig::cold(board, Disk::default());
                rig.run();
                rig.feed();
                rig.run_to_write(write);
                rig.disk.fail(fault);
                rig.run();
                rig.feed();
                rig.run();
                let status = rig.status();
                assert_eq!((status.state, status.fiduciary, status.address), (State::NoStore as u8, [0; 32], [0; 16]));
                assert!(rig.shown_ticket().is_none());
                assert_eq!(rig.ask::<MakeHello>(Channel::Beacon, &()).err(), Some(Refusal::NotReady));
                // Latched, whatever the store does now.
                rig.disk.power_on();
                rig.feed();
                rig.run();
                assert_eq!(rig.status().state, State::NoStore as u8);
                // The next boot makes one, or uses the one that was stored, and no second one.
                rig.power_cycle();
                let made = rig.disk.log(Record::Identity).len();
                assert_eq!((rig.status().state, made), (State::Ready as u8, 1), "{fault:?} at {write}");
            }
        }
    }
}

/// What is wrong with the records, and what the node calls it.
type Damage = (State, fn(&Disk));

#[test]
fn a_store_that_fails_to_load_makes_no_second_identity() {
    fn change(disk: &Disk, record: Record, by: impl Fn(&mut u64, &mut calls::store::Sealed)) {
        let mut log = disk.log(record);
        let (sequence, sealed) = log.last_mut().unwrap();
        by(sequence, sealed);
        disk.set(record, log);
    }
    let mut first = Rig::new(Board::anchored());
    first.fork().unwrap();
    first.find(5).unwrap();
    let damages: [Damage; 19] = [
        (State::NoStore, |disk| disk.0.borrow_mut().kill()),
        // One byte of the newest entry.
        (State::StoreForeign, |disk| change(disk, Record::Identity, |_, sealed| sealed[SEALED - 1] ^= 1)),
        (State::StoreForeign, |disk| change(disk, Record::Ownership, |_, sealed| sealed[40] ^= 1)),
        (State::StoreForeign, |disk| change(disk, Record::Counters, |_, sealed| sealed[0] ^= 1)),
        // Good bytes under another number, or of another record.
        (State::StoreForeign, |disk| change(disk, Record::Identity, |sequence, _| *sequence += 1)),
        (State::StoreForeign, |disk| change(disk, Record::Ownership, |sequence, _| *sequence += 1)),
        (State::StoreForeign, |disk| {
            let log = disk.log(Record::Ownership);
            disk.set(Record::Ownership, vec![(log[1].0, log[0].1)]);
        }),
        (State::StoreForeign, |disk| disk.set(Record::Ownership, disk.log(Record::Identity))),
        (State::StoreForeign, |disk| disk.set(Record::Counters, disk.log(Record::Ownership))),
        // One of them is gone.
        (State::StoreDamaged, |disk| disk.set(Record::Identity, vec![])),
        (State::StoreDamaged, |disk| disk.set(Record::Ownership, vec![])),
        (State::StoreDamaged, |disk| disk.set(Record::Counters, vec![])),
        // Two are, and what is left is not what a first boot leaves.
        (State::StoreDamaged, |disk| {
            disk.set(Record::Identity, vec![]);
            disk.set(Record::Counters, vec![]);
        }),
        (State::StoreDamaged, |disk| {
            disk.set(Record::Identity, vec![]);
            disk.set(Record::Ownership, vec![]);
        }),
        // The ownership is new, a find has been counted.
        (State::StoreDamaged, |disk| {
            disk.set(Record::Identity, vec![]);
            disk.forget_from(Record::Ownership, 2);
        }),
        // What the store says itself.
        (State::StoreDamaged, |disk| disk.find(Record::Ownership, Finding::Damaged)),
        (State::StoreForeign, |disk| disk.find(Record::Identity, Finding::Foreign)),
        (State::UnknownFormat, |disk| disk.find(Record::Counters, Finding::Newer)),
        (State::StoreDamaged, |disk| disk.find(Record::Identity, Finding::Empty)),
    ];
    for (i, (state, damage)) in damages.into_iter().enumerate() {
        for board in [Board::anchored(), Board::ticket()] {
            let disk = first.disk.copy();
            damage(&disk);
            let mut rig = Rig::boot(board, disk.clone());
            let status = rig.status();
            assert_eq!((status.state(), status.fiduciary), (Some(state), [0; 32]), "damage {i}");
            assert!(rig.shown_ticket().is_none());
            assert_eq!((disk.writes(), disk.purges()), (0, 0));
        }
    }
    // Another board's device secret opens nothing.
    let board = Board { device_secret: [1; 32], ..Board::anchored() };
    assert_eq!(Rig::boot(board, first.disk.copy()).status().state(), Some(State::StoreForeign));
    // An older entry where the newer is gone is an old state, which only others can tell: docs/threat-model.md.
    let disk = first.disk.copy();
    disk.forget_from(Record::Ownership, 2);
    let mut rig = Rig::boot(Board::anchored(), disk);
    assert_eq!((rig.status().state, rig.status().forked), (State::Ready as u8, 0));
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

/// The power goes when all but the identity is there.
#[test]
fn power_ups_of_an_identity_that_never_was_are_not_the_next_ones() {
    let mut rig = Rig::new(Board::anchored());
    rig.disk.0.borrow_mut().log[Record::Identity as usize].clear();
    rig.power_cycle();
    let status = rig.whole_status();
    assert_eq!((status.state(), status.first, status.boots), (Some(State::Ready), 1, 1));
    rig.power_cycle();
    assert_eq!((rig.whole_status().first, rig.whole_status().boots), (0, 2));
}

#[test]
fn each_boot_is_counted_by_one_write_and_knows_whether_it_was_the_first() {
    let mut rig = Rig::new(Board::anchored());
    assert_eq!((rig.whole_status().first, rig.whole_status().boots, rig.disk.writes()), (1, 1, 3));
    for boots in 2..5 {
        rig.power_cycle();
        let status = rig.whole_status();
        assert_eq!((status.first, status.boots, rig.disk.writes() as u64), (0, boots, boots + 2));
    }
    // Without a store that writes the node is there, is not counted, and says so.
    rig.disk.power_on();
    let (root, board, disk) = (rig.root, rig.board, rig.disk.clone());
    disk.fail(Fault::Dead);
    let mut rig = Rig::boot(Board { seed: 99, ..board }, disk);
    rig.root = root;
    let status = rig.whole_status();
    assert_eq!((status.state(), status.boots, status.store), (Some(State::Ready), 4, Store::Doubtful as u8));
    assert!(rig.ask::<MakeHello>(Channel::Beacon, &()).is_ok());
    assert_eq!(rig.fork(), Err(Refusal::Store));
}

#[test]
fn a_damaged_anchor_leaves_the_node_blind() {
    let mut damaged = Board::anchored();
    damaged.image.sign[0] ^= 1;
    let mut small_order = AnchorFile::new(&Anchor::alone(&crypto::AnchorPublic { sign: [7; 32], dh: [0; 32] }));
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
    // What the console says before there is a ticket, or of another one, means nothing.
    rig.show();
    rig.step();
    rig.feed();
    rig.run();
    assert!(rig.told.contains(&Channel::Console));
    let status = rig.status();
    assert_eq!((status.anchor, status.ticket_waiting), (AnchorKind::Ticket as u8, 1));
    let value = rig.shown_ticket().unwrap();
    assert_eq!((value.secret, value.fiduciary), (ticket_seed(&rig.board), status.fiduciary));
    assert!(!rig.secrets.contains(&value.secret));
    for number in [0, value.number + 1, value.number - 1, u64::MAX] {
        rig.shown.publish(&TicketShown { number });
        rig.run();
        assert_eq!(rig.status().ticket_waiting, 1);
    }
    rig.show();
    rig.step();
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
        let again = rig.shown_ticket().unwrap();
        assert_eq!(again.secret, value.secret);
        assert_ne!(again.number, value.number);
        assert_eq!(rig.status(), StatusReply { ticket_waiting: 1, ..status });
        rig.show();
        rig.step();
    }
    // Committed but not acknowledged, it is not shown again, but stays the anchor.
    let title = bind(&rig.identify().unwrap(), &anchor, 1);
    let record = rig.commit(&title).unwrap();
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

/// The store of a claimed node has no entry with a ticket in it, and none that is still to be purged.
pub fn assert_no_ticket_is_left(rig: &Rig) {
    let key = crypto::derive(&[], &rig.board.device_secret, label::STORE_KEY, &[]);
    let log = rig.disk.log(Record::Identity);
    assert_eq!(log.len(), 2, "what came after the purge, and what was purged down to");
    for ((sequence, mut sealed), state) in log.into_iter().zip([record::ticket::ERASING, record::ticket::NONE]) {
        crate::vault::open(&key, Record::Identity, sequence, &mut sealed).unwrap();
        assert!(!rig.tickets.iter().any(|ticket| sealed.windows(32).any(|bytes| bytes == ticket)));
        let (identity, _) = record::Identity::read_from_prefix(&sealed[32..]).unwrap();
        assert_eq!((identity.ticket, identity.ticket_seed), (state, [0; 32]));
    }
}

#[test]
fn the_acknowledgement_erases_the_ticket_even_over_a_power_cut() {
    let secret = ticket_seed(&Board::ticket());
    // The acknowledgement, the identity without the ticket, and without what was to be purged: before and after each.
    for (writes, fault) in [0, 1, 2].into_iter().flat_map(|write| [(write, Fault::Cut), (write, Fault::LateCut)]) {
        let mut rig = Rig::new(Board::ticket());
        let title = bind(&rig.identify().unwrap(), &AnchorSecret::from_seed(&secret), 1);
        let record = rig.commit(&title).unwrap();
        let before = rig.disk.writes();
        rig.claim.call::<Acknowledge>(&record.hash(), 0, Patience::ENDLESS);
        rig.run_to_write(before + writes);
        rig.disk.fail(fault);
        rig.run();
        assert!(rig.outcome::<Acknowledge>(Channel::Claim).is_none());
        rig.power_cycle();
        let acknowledged = (writes, fault) != (0, Fault::Cut);
        assert_eq!(rig.status().ownership == Ownership::Claimed as u8, acknowledged);
        if !acknowledged {
            rig.acknowledge(&record.hash()).unwrap();
        }
        assert_no_ticket_is_left(&rig);
        // A claimed node has no ticket and makes none, and purges nothing more.
        let purges = rig.disk.purges();
        rig.power_cycle();
        assert!(rig.shown_ticket().is_none());
        assert_eq!((rig.status().anchor, rig.status().ticket_waiting), (AnchorKind::None as u8, 0));
        assert_eq!(rig.disk.purges(), purges);
    }
}

/// system.xml: `stack_size` of the keystore.
const STACK: usize = 0x18000;

/// What it says is made elsewhere: the stack is the core's.
fn owners(rig: &mut Rig) {
    #[inline(never)]
    fn title(rig: &mut Rig) -> Box<Title> {
        let (mut title, status) = (Box::new(Title::new_zeroed()), rig.status());
        (title.warrant.fleet, title.warrant.fiduciary) = (status.fleet, status.fiduciary);
        title.warrant.epoch = U64::new(status.epoch);
        title.set = AuthoritySet::alone(place_of(&authority()));
        title
    }
    #[inline(never)]
    fn ordered(title: &Title) -> Box<OrderRequest> {
        Box::new(OrderRequest::new(&configure(title, 10, 1).sign(&authority(), 0), &[]).unwrap())
    }
    #[inline(never)]
    fn followed(title: &mut Title) -> Box<AuthorityRecord> {
        let record = follow(title, 0, &[0; 32], &authority(), &stranger());
        *title = title.under(&record);
        Box::new(record)
    }
    #[inline(never)]
    fn released(title: &Title) -> Box<OrderRequest> {
        let (order, body) = let_go(title, 11, &wire::order::Release::to_ticket());
        Box::new(OrderRequest::new(&order.sign(&stranger(), 0), &body).unwrap())
    }
    let mut title = title(rig);
    let good = ordered(&title);
    assert_eq!(rig.ask::<for_lifecycle::Order>(Channel::Lifecycle, &good), Ok(()));
    let record = followed(&mut title);
    assert_eq!(rig.ask::<for_lifecycle::Adopt>(Channel::Lifecycle, &record), Ok(()));
    let release = released(&title);
    // The ticket is where it should be, and nobody has told the search.
    rig.search = false;
    assert_eq!(rig.ask::<for_lifecycle::Order>(Channel::Lifecycle, &release), Ok(()));
}

#[test]
fn it_runs_on_the_stack_that_the_system_gives_it() {
    let life = || {
        let mut rig = Rig::new(Board::ticket());
        let anchor = AnchorSecret::from_seed(&ticket_seed(&rig.board));
        rig.show();
        rig.step();
        rig.fork().unwrap();
        let open = open_for(&rig.hello(&anchor), &anchor, 3);
        assert!(rig.ask::<CheckOpen>(Channel::Beacon, &open).is_ok());
        rig.claim_with(&anchor, 9);
        rig.timestamp().unwrap();
        owners(&mut rig);
        rig.power_cycle();
        assert_eq!(rig.status().anchor, AnchorKind::Ticket as u8);
    };
    std::thread::Builder::new().stack_size(STACK).spawn(life).unwrap().join().unwrap();
}
