use super::*;

#[test]
fn an_idle_hold_arms_nothing_and_says_nothing() {
    let mut rig = Rig::new(Params::DEFAULT);
    rig.run();
    assert!(rig.asked.is_empty(), "closed");
    rig.enter(Phase::Hold);
    // The seed for choices, and no more.
    assert_eq!(rig.count(BeaconRandom::OP), 1);
    rig.notified();
    for _ in 0..3 {
        assert!(!rig.core.step(rig.now, &mut rig.ports));
        assert_eq!((rig.alarm(), rig.notified()), (None, Vec::new()));
        rig.now += 3600 * SECOND;
    }
    assert_eq!(rig.asked.len(), 1);
    assert!(rig.sent.is_empty());
}

#[test]
fn a_valid_find_draws_one_hello_after_its_delay() {
    let mut rig = Rig::holding();
    let find = rig.find(ADMIN);
    rig.say(ADMIN, &find);
    let at = rig.alarm().unwrap();
    assert!((rig.now + 1..rig.now + 500 * MS).contains(&at));
    rig.pass(at - 1 - rig.now);
    assert!(rig.sent.is_empty());
    rig.pass(1);
    assert_eq!(rig.sent.len(), 1);
    assert!(is_hello(&rig.sent[0]));
    assert_eq!(rig.hello().fiduciary, FIDUCIARY);
    // The same find again, and everything afterwards: nothing.
    rig.say(ADMIN, &find);
    rig.pass(3600 * SECOND);
    assert_eq!((rig.sent.len(), rig.alarm()), (1, None));
    assert_eq!((rig.count(CheckFind::OP), rig.count(MakeHello::OP)), (2, 1));
}

#[test]
fn delays_are_spread_over_their_range() {
    let mut rig = Rig::holding();
    let mut delays = Vec::new();
    for _ in 0..40 {
        let find = rig.find(ADMIN);
        rig.say(ADMIN, &find);
        delays.push(rig.alarm().unwrap() - rig.now);
        rig.pass(SECOND);
    }
    assert!(delays.iter().all(|delay| *delay < 500 * MS));
    for quarter in 0..4 {
        assert!(delays.iter().any(|delay| delay * 4 / (500 * MS) == quarter), "{delays:?}");
    }
}

#[test]
fn two_administrators_draw_one_hello_each() {
    let mut rig = Rig::holding();
    for from in [ADMIN, RIVAL] {
        let find = rig.find(from);
        rig.say(from, &find);
    }
    rig.pass(500 * MS);
    assert_eq!(rig.sent.len(), 2);
    assert_ne!(rig.sent[0], rig.sent[1]);
}

#[test]
fn the_fifth_find_waits_for_a_pending_hello() {
    let mut rig = Rig::holding();
    for _ in 0..5 {
        let find = rig.find(ADMIN);
        rig.say(ADMIN, &find);
    }
    assert_eq!(rig.count(CheckFind::OP), 4);
    rig.pass(SECOND);
    assert_eq!((rig.count(CheckFind::OP), rig.sent.len(), rig.alarm()), (5, 5, None));
}

#[test]
fn a_find_must_come_from_the_addresses_that_it_names() {
    let mut rig = Rig::holding();
    let find = rig.find(ADMIN);
    for from in [RIVAL, Station::new(ADMIN.ip, RIVAL.mac), Station::new(RIVAL.ip, ADMIN.mac)] {
        rig.say(from, &find);
    }
    assert!(rig.asked.is_empty());
    rig.say(ADMIN, &find);
    assert_eq!(rig.count(CheckFind::OP), 1);
}

#[test]
fn a_forged_or_stale_find_draws_nothing() {
    let mut rig = Rig::holding();
    let mut find = rig.find(ADMIN);
    find.signature[3] ^= 1;
    rig.say(ADMIN, &find);
    rig.greet(ADMIN);
    rig.counter -= 1;
    let again = rig.find(ADMIN);
    rig.say(ADMIN, &again);
    rig.pass(SECOND);
    assert_eq!((rig.sent.len(), rig.count(CheckFind::OP), rig.count(MakeHello::OP)), (1, 3, 1));
}

#[test]
fn closed_phases_hear_nothing() {
    for phase in [Phase::Blind, Phase::Fork, Phase::Claimed, Phase::Sealed] {
        let mut rig = Rig::new(Params::DEFAULT);
        rig.enter(phase);
        for _ in 0..40 {
            let find = rig.find(ADMIN);
            rig.deliver(&frame_of(ADMIN, &find));
            rig.run();
        }
        rig.pass(3600 * SECOND);
        assert_eq!((rig.asked.len(), rig.sent.len(), rig.alarm()), (0, 0, None));
    }
}

#[test]
fn a_change_of_phase_forgets_what_was_pending() {
    let mut rig = Rig::holding();
    let hello = rig.greet(ADMIN);
    let find = rig.find(ADMIN);
    rig.say(ADMIN, &find);
    // In the midst of a call, and with one more waiting.
    rig.keystore_mood = Mood::Silent;
    for _ in 0..2 {
        let find = rig.find(ADMIN);
        rig.say(ADMIN, &find);
    }
    rig.enter(Phase::Sealed);
    assert_eq!((rig.alarm(), rig.ports.keystore.busy()), (None, None));
    rig.keystore_mood = Mood::Well;
    rig.enter(Phase::Hold);
    rig.asked.clear();
    rig.pass(10 * SECOND);
    let open = rig.open(ADMIN, &hello);
    rig.say(ADMIN, &open);
    assert_eq!((rig.sent.len(), rig.asked.len(), rig.alarm()), (1, 0, None));
    // And it goes on as ever.
    rig.enter_gate(ADMIN);
    assert_eq!(rig.gates.opened, 1);
}

#[test]
fn those_are_notified_who_have_something_to_do() {
    let mut rig = Rig::holding();
    rig.notified();
    let find = rig.find(ADMIN);
    rig.deliver(&frame_of(ADMIN, &find));
    rig.core.step(rig.now, &mut rig.ports);
    assert_eq!(rig.notified(), [Channel::Keystore, Channel::Timer]);
    rig.run();
    rig.pass(SECOND);
    assert_eq!(rig.notified(), [Channel::Keystore, Channel::Perimeter, Channel::Timer]);
}
