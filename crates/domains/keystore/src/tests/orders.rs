//! What the owners of a node do with it together: orders and records, over power cuts.

use wire::{
    command::Operation as Commanded,
    order::{Isolation, Kind, Release},
    receipt,
};

use super::{command::key_of, disk::Fault, *};

/// An order for a node, without its signatures.
pub fn order(title: &Title, counter: u64, kind: Kind, body: &[u8]) -> Order {
    let mut order = Order::new(kind, body);
    (order.fleet, order.fiduciary, order.epoch) = (title.warrant.fleet, title.warrant.fiduciary, title.warrant.epoch);
    (order.set, order.counter) = (title.set.hash(), U64::new(counter));
    order
}

pub fn configure(title: &Title, counter: u64, configuration: u8) -> Order {
    Order { body: [configuration; 32], ..order(title, counter, Kind::Configuration, &[]) }
}

pub fn rejoin(title: &Title, counter: u64, [authority, of]: [u32; 2]) -> (Order, Vec<u8>) {
    let isolation = Isolation { authority: authority.into(), counter: of.into() };
    (order(title, counter, Kind::Rejoin, isolation.as_bytes()), isolation.as_bytes().to_vec())
}

pub fn let_go(title: &Title, counter: u64, next: &Release) -> (Order, Vec<u8>) {
    (order(title, counter, Kind::Release, next.as_bytes()), next.as_bytes().to_vec())
}

/// The record by which a set of one gives way to another.
pub fn follow(
    title: &Title,
    sequence: u64,
    record: &wire::Hash,
    old: &AnchorSecret,
    new: &AnchorSecret,
) -> AuthorityRecord {
    let set = AuthoritySet::alone(place_of(new));
    AuthorityRecord::new(&title.warrant.fleet, sequence + 1, record, &set).sign_as_old(old, 0).sign_as_new(new, 0)
}

/// A node whose claim is final.
fn claimed(board: Board) -> (Rig, Title) {
    let (mut rig, title) = super::mesh::owned(board);
    rig.settle().unwrap();
    (rig, title)
}

fn claimed_by_three(needed: u8) -> (Rig, Title, [AnchorSecret; 3]) {
    let (mut rig, title, authorities) = super::command::of_three(needed);
    rig.settle().unwrap();
    (rig, title, authorities)
}

pub fn one(order: Order) -> Order {
    order.sign(&authority(), 0)
}

pub fn isolate(rig: &mut Rig, title: &Title, by: &AnchorSecret, counter: u32) {
    let key = key_of(by, title, rig);
    let command = Command::new(&key, &title.warrant.fiduciary, Commanded::Isolate, 0, counter);
    rig.command(&command).unwrap();
}

#[test]
fn nothing_is_ordered_before_the_claim_is_final() {
    let (mut rig, title) = super::mesh::owned(Board::anchored());
    let writes = rig.disk.writes();
    let (release, body) = let_go(&title, 20, &Release::to_ticket());
    for _ in 0..2 {
        assert_eq!(rig.order(&one(configure(&title, 20, 1)), &[]), Err(Refusal::NotReady));
        assert_eq!(rig.order(&one(release), &body), Err(Refusal::NotReady));
        assert_eq!(rig.adopt(&follow(&title, 0, &[0; 32], &authority(), &stranger())), Err(Refusal::NotReady));
        assert_eq!(rig.receipt(), Err(Refusal::NotReady));
        assert_eq!((rig.disk.writes(), rig.status().ownership()), (writes, Ownership::Committed));
    }
    rig.settle().unwrap();
    assert_eq!(rig.order(&one(configure(&title, 20, 1)), &[]), Ok(()));
}

#[test]
fn an_order_raises_the_counter_and_is_in_force() {
    let (mut rig, title) = claimed(Board::anchored());
    let before = rig.status();
    let ordered = one(configure(&title, 20, 20));
    for _ in 0..2 {
        rig.disk.fail(Fault::Refused);
        assert_eq!(rig.order(&ordered, &[]), Err(Refusal::Store));
        assert_eq!(rig.status(), before);
    }
    rig.lifecycle.nudged();
    assert_eq!(rig.order(&ordered, &[]), Ok(()));
    assert!(rig.lifecycle.nudged());
    let after = StatusReply { configuration: ordered.body, ..before };
    for _ in 0..2 {
        let writes = rig.disk.writes();
        assert_eq!(rig.status(), after);
        // Again, as lifecycle asks after its restart: the same, and nothing is written.
        assert_eq!(rig.order(&ordered, &[]), Ok(()));
        // What is not signed is not in force either.
        let mut forged = ordered;
        forged.signatures[0][0] ^= 1;
        assert_eq!(rig.order(&forged, &[]), Err(Refusal::Forged));
        assert_eq!(rig.order(&configure(&title, 20, 20), &[]), Err(Refusal::Forged));
        // Another with its counter, and any before it.
        for (counter, configuration) in [(20, 1), (19, 2), (19, 20), (0, 3)] {
            assert_eq!(rig.order(&one(configure(&title, counter, configuration)), &[]), Err(Refusal::Stale));
        }
        assert_eq!(rig.disk.writes(), writes);
        rig.power_cycle();
    }
    // One for all nodes of the fleet has no epoch.
    let mut for_all = configure(&title, 30, 30);
    (for_all.fiduciary, for_all.epoch) = ([0; 32], U64::new(1));
    assert_eq!(rig.order(&one(for_all), &[]), Err(Refusal::Stale));
    for_all.epoch = U64::new(0);
    assert_eq!(rig.order(&one(for_all), &[]), Ok(()));
    assert_eq!(rig.order(&one(configure(&title, u64::MAX, 9)), &[]), Ok(()));
    assert_eq!(rig.order(&one(configure(&title, u64::MAX, 8)), &[]), Err(Refusal::Stale));
}

#[test]
fn an_order_of_another_node_fleet_set_epoch_or_signer_is_refused() {
    let (mut rig, title) = claimed(Board::anchored());
    let writes = rig.disk.writes();
    type Change = fn(&mut Order);
    let changes: [(Refusal, Change); 8] = [
        (Refusal::NotMine, |order| order.fleet[0] ^= 1),
        (Refusal::NotMine, |order| order.fiduciary[31] ^= 1),
        (Refusal::Stale, |order| order.epoch = U64::new(0)),
        (Refusal::Stale, |order| order.epoch = U64::new(2)),
        (Refusal::Stale, |order| order.counter = U64::new(10)),
        (Refusal::Forged, |order| order.set[9] ^= 1),
        (Refusal::Forged, |order| order.kind = 0.into()),
        (Refusal::Forged, |order| order.kind = 4.into()),
    ];
    for (refusal, change) in changes {
        let mut changed = configure(&title, 20, 1);
        change(&mut changed);
        assert_eq!(rig.order(&one(changed), &[]), Err(refusal));
    }
    let blank = configure(&title, 20, 1);
    for forged in [blank.sign(&admin(), 0), blank.sign(&authority(), 1), blank.sign(&stranger(), 0)] {
        assert_eq!(rig.order(&forged, &[]), Err(Refusal::Forged));
    }
    let good = one(blank);
    for at in 0..size_of::<Order>() {
        let mut changed = good;
        changed.as_mut_bytes()[at] ^= 0x20;
        assert!(rig.order(&changed, &[]).is_err(), "byte {at}");
    }
    assert_eq!((rig.disk.writes(), rig.status().configuration), (writes, CONFIGURATION));
    assert_eq!(rig.order(&good, &[]), Ok(()));
}

#[test]
fn an_order_is_signed_by_as_many_as_the_set_says() {
    for needed in 2..=3usize {
        let (mut rig, title, authorities) = claimed_by_three(needed as u8);
        let mut counter = 10;
        for signers in 0..8usize {
            counter += 1;
            let mut order = configure(&title, counter, counter as u8);
            for (place, authority) in authorities.iter().enumerate().filter(|(place, _)| signers >> place & 1 == 1) {
                order = order.sign(authority, place);
            }
            let enough = signers.count_ones() as usize >= needed;
            assert_eq!(rig.order(&order, &[]).is_ok(), enough, "{needed} of {signers:b}");
            // One key fills one place, and a false signature spoils the others.
            let twice = configure(&title, counter + 1, 0).sign(&authorities[0], 0).sign(&authorities[0], 1);
            assert_eq!(rig.order(&twice, &[]), Err(Refusal::Forged));
            let mut spoilt = order.sign(&authorities[2], 2);
            spoilt.counter = U64::new(counter + 1);
            assert_eq!(rig.order(&spoilt, &[]), Err(Refusal::Forged));
            counter += 1;
        }
    }
}

#[test]
fn one_isolates_and_as_many_as_must_end_that_isolation_and_no_later_one() {
    let (mut rig, title, keys) = claimed_by_three(2);
    let by_two = |(order, body): (Order, Vec<u8>)| (order.sign(&keys[0], 0).sign(&keys[2], 2), body);
    let writes = rig.disk.writes();
    // There is none to end.
    let (order, body) = by_two(rejoin(&title, 20, [1, 70]));
    assert_eq!(rig.order(&order, &body), Err(Refusal::Stale));
    assert_eq!(rig.disk.writes(), writes);
    isolate(&mut rig, &title, &keys[1], 70);
    // Another one's, or the same one's, changes nothing of that, and costs nothing but its counter.
    let writes = rig.disk.writes();
    isolate(&mut rig, &title, &keys[1], 71);
    isolate(&mut rig, &title, &keys[0], 5);
    assert_eq!((rig.disk.writes(), rig.status().isolation), (writes + 1, [1, 70]));
    let isolated = rig.status();
    for wrong in [[0, 5], [1, 71], [0, 70], [1, 69], [0, 0]] {
        let (order, body) = by_two(rejoin(&title, 21, wrong));
        assert_eq!(rig.order(&order, &body), Err(Refusal::Stale), "{wrong:?}");
    }
    // One alone does not end it, nor does a body that is not the one that was signed.
    let (order, body) = rejoin(&title, 21, [1, 70]);
    assert_eq!(rig.order(&order.sign(&keys[1], 1), &body), Err(Refusal::Forged));
    let (order, body) = by_two(rejoin(&title, 21, [1, 70]));
    let (_, other) = rejoin(&title, 21, [1, 71]);
    for body in [&other[..], &[], &body[..7]] {
        assert_eq!(rig.order(&order, body), Err(Refusal::Forged));
    }
    assert_eq!(rig.status(), isolated);
    for _ in 0..2 {
        assert_eq!(rig.order(&order, &body), Ok(()));
        let writes = rig.disk.writes();
        assert_eq!((rig.status().isolated, rig.status().isolation), (0, [0, 0]));
        assert_eq!(rig.order(&order, &body), Ok(()), "the same again");
        assert_eq!(rig.disk.writes(), writes);
        rig.power_cycle();
    }
    // It is isolated anew, and the old order does not end that.
    isolate(&mut rig, &title, &keys[1], 200);
    assert_eq!(rig.order(&order, &body), Err(Refusal::Stale));
    assert_eq!(rig.status().isolated, 1);
}

#[test]
fn a_record_takes_key_vote_and_counter_in_one_act() {
    let (mut rig, title) = claimed(Board::anchored());
    isolate(&mut rig, &title, &authority(), 900);
    assert_eq!(rig.receipt(), Err(Refusal::NotReady), "of the fleet's first set there is no record");
    let record = follow(&title, 0, &[0; 32], &authority(), &stranger());
    rig.lifecycle.nudged();
    let writes = rig.disk.writes();
    assert_eq!(rig.adopt(&record), Ok(()));
    assert_eq!(rig.disk.writes(), writes + 1);
    assert!(rig.lifecycle.nudged());
    let taken = title.under(&record);
    rig.guard_command_keys(&taken);
    let receipt = rig.receipt().unwrap();
    assert!(receipt.verify().is_some());
    assert_eq!((receipt.kind(), receipt.number.get(), receipt.hash), (Some(receipt::Kind::Record), 1, record.hash()));
    assert_eq!((receipt.fleet, receipt.fiduciary), (title.warrant.fleet, title.warrant.fiduciary));
    for boot in 1..3 {
        assert_eq!((rig.status().sequence, rig.status().isolated), (1, 1));
        assert_eq!(rig.whole_status().command_floors[0], if boot == 1 { 0 } else { 64 }, "counters begin at zero");
        // Whoever was there before has no say and no key, whatever the counter.
        for gone in [authority(), admin()] {
            let command = key_of(&gone, &title, &rig);
            let command = Command::new(&command, &title.warrant.fiduciary, Commanded::Status, 0, u32::MAX);
            assert_eq!(rig.command(&command), Err(Refusal::Forged));
            let order = configure(&title, 1000, 9).sign(&gone, 0);
            assert_eq!(rig.order(&order, &[]), Err(Refusal::Forged));
            assert_eq!(rig.order(&configure(&taken, 1000, 9).sign(&gone, 0), &[]), Err(Refusal::Forged));
        }
        let command = key_of(&stranger(), &taken, &rig);
        let command = Command::new(&command, &title.warrant.fiduciary, Commanded::Status, 0, 65 * boot - 64);
        assert!(rig.command(&command).is_ok());
        assert_eq!(rig.command(&command), Err(Refusal::Stale));
        let order = configure(&taken, 20 + u64::from(boot), 9).sign(&stranger(), 0);
        assert_eq!(rig.order(&order, &[]), Ok(()));
        // The same record again changes nothing.
        let writes = rig.disk.writes();
        assert_eq!(rig.adopt(&record), Ok(()));
        assert_eq!((rig.receipt(), rig.disk.writes()), (Ok(receipt), writes));
        rig.power_cycle();
    }
}

#[test]
fn records_are_taken_in_their_order_and_no_other_follows_the_same() {
    let (mut rig, title) = claimed(Board::anchored());
    let (a, b, c) = (authority(), stranger(), AnchorSecret::from_seed(&[0x77; 32]));
    let first = follow(&title, 0, &[0; 32], &a, &b);
    let second = follow(&title, 1, &first.hash(), &b, &c);
    let back = follow(&title, 2, &second.hash(), &c, &a);
    let fork = follow(&title, 0, &[0; 32], &a, &c);
    let foreign = {
        let mut other = title;
        other.warrant.fleet[0] ^= 1;
        follow(&other, 0, &[0; 32], &a, &b)
    };
    let refused = |rig: &mut Rig, all: &[(&AuthorityRecord, Refusal)]| {
        let writes = rig.disk.writes();
        for (at, (record, refusal)) in all.iter().enumerate() {
            assert_eq!(rig.adopt(record), Err(*refusal), "{at}");
        }
        assert_eq!(rig.disk.writes(), writes);
    };
    let unsigned = AuthorityRecord { old: [[0; 64]; 7], ..first };
    let unwilling = AuthorityRecord { new: [[0; 64]; 7], ..first };
    refused(
        &mut rig,
        &[
            (&second, Refusal::Stale),
            (&foreign, Refusal::NotMine),
            (&unsigned, Refusal::Forged),
            (&unwilling, Refusal::Forged),
            (&follow(&title, 0, &[1; 32], &a, &b), Refusal::Forged),
            (&follow(&title, 0, &[0; 32], &b, &c), Refusal::Forged),
        ],
    );
    assert_eq!(rig.adopt(&first), Ok(()));
    rig.power_cycle();
    let forked = follow(&title, 1, &fork.hash(), &b, &c);
    refused(&mut rig, &[(&fork, Refusal::Stale), (&back, Refusal::Stale), (&forked, Refusal::Forged)]);
    for record in [&second, &back] {
        rig.disk.fail(Fault::Refused);
        assert_eq!(rig.adopt(record), Err(Refusal::Store));
        assert_eq!(rig.adopt(record), Ok(()));
        rig.power_cycle();
    }
    // The set is that of before, and what it signed then is not taken again.
    assert_eq!(rig.status().sequence, 3);
    refused(&mut rig, &[(&first, Refusal::Stale), (&fork, Refusal::Stale)]);
    assert_eq!(rig.receipt().unwrap().hash, back.hash());
}

#[test]
fn a_record_cut_short_leaves_the_one_set_or_the_other() {
    for fault in [Fault::Cut, Fault::LateCut] {
        let (mut rig, title) = claimed(Board::anchored());
        let key = key_of(&authority(), &title, &rig);
        rig.command(&Command::new(&key, &title.warrant.fiduciary, Commanded::Status, 0, 900)).unwrap();
        let record = follow(&title, 0, &[0; 32], &authority(), &stranger());
        rig.disk.fail(fault);
        rig.lifecycle.call::<for_lifecycle::Adopt>(&record, 0, Patience::ENDLESS);
        rig.run();
        rig.power_cycle();
        let done = fault == Fault::LateCut;
        assert_eq!(rig.status().sequence, done.into());
        assert_eq!(rig.whole_status().command_floors[0], if done { 0 } else { 960 });
        let order = configure(&title, 50, 1);
        assert_eq!(rig.order(&one(order), &[]).is_ok(), !done);
        assert_eq!(rig.adopt(&record), Ok(()));
        assert_eq!(rig.order(&one(Order { counter: U64::new(51), ..order }), &[]), Err(Refusal::Forged));
    }
}

#[test]
fn the_last_command_of_one_set_costs_the_next_one_nothing() {
    let (mut rig, title) = claimed(Board::anchored());
    isolate(&mut rig, &title, &authority(), u32::MAX);
    let record = follow(&title, 0, &[0; 32], &authority(), &stranger());
    assert_eq!(rig.adopt(&record), Ok(()));
    // The same person in the set after that.
    let back = follow(&title, 1, &record.hash(), &stranger(), &authority());
    assert_eq!(rig.adopt(&back), Ok(()));
    let again = title.under(&back);
    assert_eq!(again.set, title.set);
    let command = Command::new(&key_of(&authority(), &again, &rig), &title.warrant.fiduciary, Commanded::Status, 0, 1);
    assert!(rig.command(&command).is_ok());
    // What was said to the set of before is not said to this one.
    let before = Command::new(&key_of(&authority(), &title, &rig), &title.warrant.fiduciary, Commanded::Status, 0, 900);
    assert_eq!(rig.command(&before), Err(Refusal::Forged));
}
