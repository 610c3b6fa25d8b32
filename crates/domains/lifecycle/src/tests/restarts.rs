use calls::Needed;
use wire::telemetry::Cause;

use super::*;
use crate::children::{LIMIT, TRY, WINDOW};

impl Rig {
    /// A child dies.
    fn dies(&mut self, child: Domain) {
        self.core.died(child, self.now, &mut self.ports);
        self.run();
    }

    /// A child dies as often as it is started anew, and is down.
    pub fn wear_out(&mut self, child: Domain) {
        for _ in 0..=LIMIT {
            // The pause before.
            self.pass(16_000 * MS);
            self.dies(child);
        }
    }

    fn started(&mut self) -> Vec<Domain> {
        self.core.take_restarts().iter().copied().collect()
    }
}

fn told(rig: &Rig, child: Domain) -> usize {
    rig.said.iter().filter(|said| **said == (Code::Died, child as u32)).count()
}

#[test]
fn whoever_dies_is_started_anew_and_the_node_goes_on() {
    for child in Domain::CHILDREN.iter().copied() {
        for claimed in [false, true] {
            let mut rig = if claimed { Rig::claimed(&configuration(80)) } else { Rig::holding() };
            let before = rig.core.phase();
            for times in 1..=usize::from(LIMIT) {
                rig.core.died(child, rig.now, &mut rig.ports);
                // It is said once, however often the platform says it.
                rig.core.died(child, rig.now, &mut rig.ports);
                rig.run();
                if let Some(at) = rig.alarm() {
                    assert_eq!(rig.started(), [], "not before its pause is over");
                    rig.pass(at - rig.now);
                }
                assert_eq!(rig.started(), [child], "{times}");
                assert_eq!((told(&rig, child), rig.core.phase()), (times, before), "{child:?}");
            }
            assert_eq!(rig.rules.mesh.member, u64::from(claimed));
            assert_eq!(rig.member.configuration().is_some(), claimed);
        }
    }
}

#[test]
fn a_child_that_goes_on_dying_stays_down_and_seals_the_node_that_needs_it_until_a_try_an_hour_later() {
    for child in Domain::CHILDREN.iter().copied() {
        for claimed in [false, true] {
            let mut rig = if claimed { Rig::claimed(&configuration(80)) } else { Rig::holding() };
            let before = rig.core.phase();
            let needed = match child.needed() {
                Needed::Never => false,
                Needed::UntilClaimed => !claimed,
                Needed::Always => true,
            };
            rig.wear_out(child);
            assert_eq!(rig.started().len(), 1, "each once, however late it is asked");
            for _ in 0..2 {
                let down = rig.now;
                let phase = if needed { Phase::Sealed } else { before };
                assert_eq!((rig.core.phase(), rig.rules.phase()), (phase, phase), "{child:?}");
                assert_eq!(rig.member.configuration().is_some(), claimed && !needed);
                assert_eq!(rig.alarm(), Some(down + TRY));
                rig.pass(TRY);
                assert_eq!(rig.started(), [child]);
                // It lives: the node is what it was, with nobody's help.
                assert_eq!(rig.core.phase(), before, "{child:?}");
                assert_eq!((rig.rules.mesh.member == 1, rig.member.configuration().is_some()), (claimed, claimed));
                // And if it dies soon, it has had its try.
                rig.pass(WINDOW - 1);
                rig.dies(child);
                assert_eq!(rig.started(), []);
            }
        }
    }
}

#[test]
fn a_node_that_is_sealed_for_good_stays_so_whoever_lives_again() {
    let mut rig = Rig::holding();
    rig.wear_out(Domain::Net);
    rig.kept.status.state = State::EntropyLost as u8;
    rig.pass(TRY);
    // It asked, and it knows now.
    assert_eq!(rig.core.phase(), Phase::Sealed);
    rig.kept.status.state = State::Ready as u8;
    rig.wear_out(Domain::Beacon);
    rig.pass(TRY);
    assert_eq!(rig.core.phase(), Phase::Sealed);
}

#[test]
fn a_gate_closes_when_one_dies_who_served_it_and_can_be_opened_anew() {
    for child in Domain::CHILDREN.iter().copied() {
        let mut rig = Rig::holding();
        rig.open(1).unwrap();
        let gate = rig.rules.gate;
        rig.claim::<for_claim::Started>(&gate).unwrap();
        rig.asked.clear();
        // What the dead asked before it died is not done.
        rig.beacon.call::<for_beacon::OpenGate>(&GateRequest::new_zeroed(), 0, Patience::ENDLESS);
        rig.claim.call::<for_claim::Acknowledged>(&gate, 0, Patience::ENDLESS);
        if child != Domain::Beacon {
            rig.beacon.abandon();
        }
        if child != Domain::Claim {
            rig.claim.abandon();
        }
        rig.dies(child);
        let serves = [Domain::Net, Domain::Perimeter, Domain::Beacon, Domain::Claim].contains(&child);
        assert_eq!(rig.rules.gate == 0, serves, "{child:?}");
        assert_eq!(rig.said.contains(&(Code::GateClosed, Closed::Fault as u32)), serves);
        // The keystore forgets the claim too.
        assert_eq!(rig.asked.contains(&(for_lifecycle::Op::CloseGate as u32)), serves);
        assert_eq!(rig.core.phase(), Phase::Hold);
        if serves {
            rig.open(2).unwrap();
            assert_eq!(rig.rules.peer.mac, [2; 6]);
        }
    }
}

#[test]
fn a_store_that_is_out_is_told_to_the_keystore() {
    let mut rig = Rig::holding();
    let down = for_lifecycle::Op::StoreDown as u32;
    for _ in 0..LIMIT {
        rig.pass(16_000 * MS);
        rig.dies(Domain::Store);
    }
    assert!(!rig.asked.contains(&down));
    rig.pass(16_000 * MS);
    rig.dies(Domain::Store);
    assert!(rig.asked.contains(&down));
    assert_eq!(rig.core.phase(), Phase::Hold);
}

#[test]
fn the_console_is_told_cause_pause_count_and_time() {
    let mut rig = Rig::holding();
    rig.pass(100_000 * MS);
    for _ in 0..3 {
        rig.pass(16_000 * MS);
        rig.core.died(Domain::Claim, rig.now, &mut rig.ports);
    }
    rig.core.step(rig.now, &mut rig.ports);
    let mut slot = [0; SLOT];
    let mut last = None;
    while let Some(len) = rig.console.recv(&mut slot).unwrap() {
        last = Some(Event::read_from_bytes(&slot[..len]).unwrap());
    }
    let data = last.unwrap().data;
    assert_eq!(data[..2], [Cause::Died as u8, 0]);
    // Two seconds, three times, 148 s after power-up.
    assert_eq!([data[15], data[23], data[31]], [2, 3, 148]);
}

#[test]
fn a_child_that_hangs_is_ended_and_started_anew() {
    for (at, child) in Domain::CHILDREN.iter().copied().enumerate() {
        let mut rig = Rig::holding();
        rig.pass(1000 * MS);
        let began = rig.now;
        rig.watch.store(at * 8, began);
        // The timer may not go on: so the keystore is asked, whose answer wakes lifecycle.
        rig.asked.clear();
        rig.core.ticked();
        rig.run();
        let asked = rig.asked.contains(&(for_lifecycle::Op::Status as u32));
        assert_eq!(asked, child == Domain::Timer, "{child:?}");
        if child == Domain::Timer {
            rig.pass(2000 * MS);
        } else {
            let at = rig.alarm().unwrap();
            rig.pass(at - rig.now);
            assert_eq!(rig.started(), []);
            let again = rig.alarm().unwrap();
            rig.pass(again - rig.now);
        }
        assert_eq!(rig.started(), [child]);
        assert!(rig.now - began < 5000 * MS);
        assert_eq!((told(&rig, child), rig.core.phase()), (1, Phase::Hold));
        // Until the other has started, the word is its predecessor's.
        rig.pass(10_000 * MS);
        assert_eq!((rig.started(), rig.alarm()), (Vec::new(), None));
    }
}

/// What wakes lifecycle by the alarm that it sets for that is the timer: whether it takes the alarm is looked at once more.
#[test]
fn who_stirs_an_idle_node_has_the_keystore_asked_once() {
    let mut rig = Rig::holding();
    for times in 0..2 {
        rig.asked.clear();
        rig.core.stirred(rig.now);
        rig.run();
        assert_eq!(rig.asked, [for_lifecycle::Op::Status as u32], "{times}");
        // Who goes on, meanwhile.
        rig.core.stirred(rig.now + 1);
        rig.run();
        assert_eq!(rig.asked.len(), 1);
        rig.pass(3000 * MS);
        assert_eq!(rig.alarm(), None);
    }
}

/// Its steps end, so that its watch says nothing.
#[test]
fn a_store_that_does_not_answer_is_ended_and_started_anew() {
    for claimed in [false, true] {
        let mut rig = if claimed { Rig::claimed(&configuration(80)) } else { Rig::holding() };
        rig.pass(100_000 * MS);
        assert_eq!(rig.started(), []);
        rig.store_answers = false;
        let before = rig.core.phase();
        if claimed {
            // It is asked for its account once a minute.
            rig.pass(100_000 * MS);
        } else {
            rig.open(1).unwrap();
            let gate = rig.rules.gate;
            rig.claim::<for_claim::Started>(&gate).unwrap();
            let request = rig.grant(&configuration(80));
            rig.claim.call::<for_claim::Stage>(&request, rig.now, Patience::ENDLESS);
            rig.run();
        }
        // It is asked twice, and so long each time.
        for _ in 0..2 {
            assert_eq!(rig.started(), []);
            rig.pass(5000 * MS);
        }
        assert_eq!(rig.started(), [Domain::Store], "{claimed}");
        assert_eq!((told(&rig, Domain::Store), rig.core.phase()), (1, before));
    }
}
