//! Servers that fail in the middle: what was going on is dropped, and the next try goes through.

use super::*;

const MOODS: [Mood; 4] = [Mood::Silent, Mood::Restarting, Mood::Refusing, Mood::Lying];

#[test]
fn whatever_the_keystore_does_to_a_call_the_next_try_goes_through() {
    for mood in MOODS {
        for at in 0..4 {
            let mut rig = Rig::new(Params::DEFAULT);
            let fail = |rig: &mut Rig, now: usize| rig.keystore_mood = if now == at { mood } else { Mood::Well };
            fail(&mut rig, 0);
            rig.enter(Phase::Hold);
            rig.pass(3 * SECOND);
            fail(&mut rig, 1);
            let find = rig.find(ADMIN);
            rig.say(ADMIN, &find);
            rig.pass(u64::from(at == 1) * 3 * SECOND);
            fail(&mut rig, 2);
            // A hello is asked for twice.
            rig.pass(5 * SECOND);
            assert_eq!(rig.sent.len(), usize::from(at == 0 || at == 3), "{mood:?} {at}");
            fail(&mut rig, 9);
            let hello = rig.greet(ADMIN);
            fail(&mut rig, 3);
            let open = rig.open(ADMIN, &hello);
            rig.say(ADMIN, &open);
            rig.pass(3 * SECOND);
            assert_eq!(rig.gates.opened, u64::from(at != 3), "{mood:?} {at}");
            fail(&mut rig, 9);
            rig.pass(SECOND);
            // Such an open used up nothing.
            rig.say(ADMIN, &open);
            assert_eq!((rig.gates.opened, rig.alarm()), (1, None), "{mood:?} {at}");
        }
    }
}

#[test]
fn a_silent_keystore_is_waited_for_until_a_deadline_with_one_call() {
    let mut rig = Rig::holding();
    rig.keystore_mood = Mood::Silent;
    for _ in 0..20 {
        let find = rig.find(ADMIN);
        rig.say(ADMIN, &find);
    }
    assert_eq!(rig.alarm(), Some(rig.now + PATIENCE.each));
    assert_eq!(rig.ports.keystore.busy(), Some(CheckFind::OP));
    // Each of those that wait gets its turn, then all is quiet.
    rig.pass(PATIENCE.each * (waiting::PLACES as u64 + 1) + SECOND);
    assert_eq!((rig.alarm(), rig.sent.len()), (None, 0));
}

#[test]
fn a_seed_that_does_not_come_is_asked_for_again_and_finds_wait_for_it() {
    let mut rig = Rig::new(Params::DEFAULT);
    rig.keystore_mood = Mood::Refusing;
    rig.enter(Phase::Hold);
    assert_eq!(rig.alarm(), Some(rig.now + SEED_MICROS));
    for _ in 0..20 {
        let find = rig.find(ADMIN);
        rig.say(ADMIN, &find);
    }
    rig.pass(5 * SECOND);
    assert_eq!((rig.count(BeaconRandom::OP), rig.count(CheckFind::OP)), (6, 0));
    rig.keystore_mood = Mood::Well;
    rig.pass(3 * SECOND);
    assert_eq!(rig.count(CheckFind::OP), waiting::PLACES);
    assert!(!rig.sent.is_empty());
}

#[test]
fn an_open_whose_outcome_is_unknown_is_not_answered_and_not_tried_again() {
    for mood in MOODS {
        let mut rig = Rig::holding();
        let hello = rig.greet(ADMIN);
        let open = rig.open(ADMIN, &hello);
        rig.lifecycle_mood = mood;
        rig.say(ADMIN, &open);
        rig.pass(3 * SECOND);
        assert_eq!((rig.sent.len(), rig.alarm()), (1, None), "{mood:?}");
        rig.lifecycle_mood = Mood::Well;
        rig.say(ADMIN, &open);
        // A refusal is a known outcome: the nonce is as good as before.
        let answers = rig.sent.iter().filter(|frame| is_answer(frame)).count();
        assert_eq!(answers, usize::from(mood == Mood::Refusing), "{mood:?}");
        rig.enter_gate(ADMIN);
        assert!(is_answer(&rig.sent[rig.sent.len() - 2]));
    }
}

#[test]
fn a_late_answer_of_the_keystore_is_nobodys() {
    let mut rig = Rig::holding();
    rig.keystore_mood = Mood::Silent;
    let find = rig.find(ADMIN);
    rig.say(ADMIN, &find);
    rig.now += PATIENCE.each;
    rig.core.step(rig.now, &mut rig.ports);
    rig.keystore_mood = Mood::Well;
    rig.run();
    rig.pass(SECOND);
    // The find is spent, for its counter is stored.
    assert!(rig.sent.is_empty());
    rig.greet(ADMIN);
}
