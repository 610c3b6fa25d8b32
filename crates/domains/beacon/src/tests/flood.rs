//! More than can be checked. Forged messages have the right form and addresses, as a flood's would.

use zerocopy::FromZeros;

use super::*;

/// A find that only a signature check tells from a genuine one.
fn forged(n: u64) -> Vec<u8> {
    let from = address(100 + (n % 100) as u8);
    let mut find = Find::new_zeroed();
    find.header = *Find::sign(&AnchorSecret::from_seed(&[9; 32]), 1, from.ip, from.mac).header();
    find.counter = u64::MAX.into();
    (find.sender_ip, find.sender_mac) = (from.ip, from.mac);
    find.signature[..8].copy_from_slice(&n.to_le_bytes());
    frame_of(from, &find)
}

/// `frames` arrive within `time`, evenly, in bursts of what the ring holds.
fn flood(rig: &mut Rig, frames: &[Vec<u8>], time: Micros) {
    let bursts = frames.chunks(30);
    let pause = time / bursts.len() as u64;
    for burst in bursts {
        burst.iter().for_each(|frame| rig.deliver(frame));
        rig.run();
        rig.pass(pause);
    }
}

#[test]
fn in_any_second_no_more_than_the_budget_is_checked() {
    let params = Params { find_budget: 20.into(), ..Params::DEFAULT };
    let mut rig = Rig::in_phase(Phase::Hold, params);
    let frames: Vec<_> = (0..3000).map(forged).collect();
    let start = rig.now;
    flood(&mut rig, &frames, 10 * SECOND);
    let checks: Vec<Micros> = rig.asked.iter().map(|(at, _)| *at).collect();
    for from in 0..10 {
        let second = start + from * SECOND..start + (from + 1) * SECOND;
        let count = checks.iter().filter(|at| second.contains(at)).count();
        // What was saved up comes in the first.
        assert!(count <= if from == 0 { 41 } else { 20 }, "{count}");
        assert!(count >= 19, "{count}: the budget is used");
    }
    // The rest is soon gone, and so is the alarm.
    rig.pass(SECOND);
    assert_eq!((rig.alarm(), rig.sent.len()), (None, 0));
}

#[test]
fn a_repeated_find_gets_through_ten_thousand_forged_ones_per_second() {
    let frames: Vec<_> = (0..1000).map(forged).collect();
    let mut total = 0;
    for trial in 0..12 {
        let mut rig = Rig::new(Params::DEFAULT);
        // Other seeds for the choices each time. What the budget has saved up lets some through at once.
        rig.keystore.drawn = trial * 1000;
        rig.enter(Phase::Hold);
        let mut repeats = 0;
        // Ten repeats a second. 64 of 10 010 are checked, so that 156 are needed on average.
        while rig.sent.is_empty() {
            repeats += 1;
            assert!(repeats < 1500);
            let (before, after) = frames.split_at(1 + repeats * 37 % 998);
            flood(&mut rig, before, 50 * MS);
            let find = rig.find(ADMIN);
            rig.deliver(&frame_of(ADMIN, &find));
            flood(&mut rig, after, 50 * MS);
        }
        total += repeats;
    }
    assert!(total > 120, "this was no flood");
}

#[test]
fn after_a_flood_the_first_find_is_answered() {
    let mut rig = Rig::holding();
    let frames: Vec<_> = (0..3000).map(forged).collect();
    flood(&mut rig, &frames, 100 * MS);
    rig.pass(SECOND / 8 + SECOND / 64);
    assert!(rig.sent.is_empty());
    rig.greet(ADMIN);
}

#[test]
fn a_flood_of_finds_does_not_hold_up_an_open() {
    let mut rig = Rig::holding();
    let hello = rig.greet(ADMIN);
    let frames: Vec<_> = (0..3000).map(forged).collect();
    flood(&mut rig, &frames, 100 * MS);
    let open = rig.open(ADMIN, &hello);
    rig.say(ADMIN, &open);
    assert_eq!(rig.gates.opened, 1);
}

#[test]
fn opens_without_a_nonce_take_nobodys_place() {
    let mut rig = Rig::holding();
    let hello = rig.greet(ADMIN);
    let open = rig.open(ADMIN, &hello);
    let mut junk = open;
    for n in 0..29 {
        junk.nonce = [n; 16];
        rig.deliver(&frame_of(ADMIN, &junk));
    }
    rig.deliver(&frame_of(ADMIN, &open));
    rig.run();
    assert_eq!((rig.count(CheckOpen::OP), rig.gates.opened), (1, 1));
}

#[test]
fn forged_opens_with_a_nonce_that_was_seen_are_kept_to_their_budget() {
    let mut rig = Rig::holding();
    let hello = rig.greet(ADMIN);
    let open = rig.open(ADMIN, &hello);
    let mut forged = open;
    forged.mac[0] ^= 1;
    let frames = std::vec![frame_of(ADMIN, &forged); 3000];
    let start = rig.now;
    flood(&mut rig, &frames, 2 * SECOND);
    assert!((180..=194).contains(&rig.count(CheckOpen::OP)), "{}", rig.count(CheckOpen::OP));
    // A find has its own budget.
    rig.greet(ADMIN);
    let mut repeats = 0;
    while rig.gates.opened == 0 {
        repeats += 1;
        assert!(repeats < 200);
        flood(&mut rig, &frames[..60], 20 * MS);
        rig.deliver(&frame_of(ADMIN, &open));
        flood(&mut rig, &frames[..60], 20 * MS);
    }
    assert!(rig.now < start + 30 * SECOND);
}
