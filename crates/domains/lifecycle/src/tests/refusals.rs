//! A refusal of the keystore is an answer: it seals nothing, and the node goes on as the next status says.

use shm::mailbox::Operation as _;

use super::*;

/// Whatever the keystore refused, it was not taken for silence.
fn assert_alive(rig: &Rig) {
    assert_ne!(rig.core.phase(), Phase::Sealed);
    assert!(!rig.said.contains(&(Code::KeystoreSilent, 0)));
}

#[test]
fn a_binding_that_is_committed_while_the_gate_closes_is_followed_and_not_forked_over() {
    for owner in [Ownership::Committed, Ownership::Claimed] {
        let mut rig = Rig::new(60_000);
        rig.become_ready();
        rig.open(1).unwrap();
        let gate = rig.rules.gate;
        rig.claim::<for_claim::Started>(&gate).unwrap();
        rig.stage(&configuration(80)).unwrap();
        // The keystore commits at the last moment; lifecycle hears of the deadline first.
        rig.kept.status.ownership = owner as u8;
        rig.kept.status.configuration = wire::binding::configuration_hash(&configuration(80));
        rig.pass(20_000 * MS);
        let phase = if owner == Ownership::Committed { Phase::Committed } else { Phase::Claimed };
        assert_eq!((rig.core.phase(), rig.rules.gate), (phase, 0));
        assert!(!rig.said.contains(&(Code::KeystoreSilent, 0)));
        assert_eq!(rig.core.configuration(), Some(&*configuration(80)));
        assert_eq!(rig.rules.mesh.member, 1);
    }
}

#[test]
fn a_binding_that_shows_before_the_fork_is_asked_for_is_followed_too() {
    let mut rig = Rig::new(60_000);
    rig.become_ready();
    rig.open(1).unwrap();
    // A status is on its way when the gate closes.
    rig.keystore_answers = false;
    rig.change();
    rig.kept.status.ownership = Ownership::Committed as u8;
    rig.pass(30_000 * MS);
    rig.keystore_answers = true;
    rig.run();
    assert_eq!(rig.core.phase(), Phase::Committed);
    assert!(!rig.asked.contains(&for_lifecycle::Fork::OP));
    assert_eq!(rig.kept.status.forked, 0);
}

#[test]
fn a_fork_that_cannot_be_made_leaves_the_node_closed_and_is_asked_for_again() {
    for refusal in [KeystoreRefusal::Store, KeystoreRefusal::NotReady] {
        let mut rig = Rig::new(0);
        rig.refuses = Some((for_lifecycle::Fork::OP, refusal));
        rig.become_ready();
        for tries in 1..=5 {
            assert_eq!((rig.core.phase(), rig.rules.phase()), (Phase::Fork, Phase::Fork));
            assert_eq!(rig.asked.iter().filter(|op| **op == for_lifecycle::Fork::OP).count(), tries);
            let again = rig.alarm().unwrap();
            assert_eq!(again, rig.now + FORK_MICROS);
            rig.pass(FORK_MICROS);
        }
        assert_alive(&rig);
        rig.refuses = None;
        rig.pass(FORK_MICROS);
        assert_eq!((rig.core.phase(), rig.alarm()), (Phase::Hold, None));
    }
}

#[test]
fn a_refused_end_of_the_gate_is_not_asked_for_again() {
    let mut rig = Rig::holding();
    rig.refuses = Some((for_lifecycle::CloseGate::OP, KeystoreRefusal::NotReady));
    for _ in 0..5 {
        rig.open(1).unwrap();
        rig.asked.clear();
        rig.pass(30_000 * MS);
        assert_eq!(rig.asked, [for_lifecycle::CloseGate::OP, for_lifecycle::Status::OP]);
    }
    assert_eq!((rig.core.phase(), rig.alarm()), (Phase::Hold, None));
    assert_alive(&rig);
}

#[test]
fn a_refused_settlement_leaves_the_node_committed() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.commit();
    rig.refuses = Some((for_lifecycle::Settle::OP, KeystoreRefusal::Store));
    for _ in 0..5 {
        assert_eq!(rig.tell::<for_mesh::Joined>(&()), Err(refused(Refusal::Phase)));
    }
    assert_eq!(rig.core.phase(), Phase::Committed);
    assert_alive(&rig);
    rig.refuses = None;
    rig.tell::<for_mesh::Joined>(&()).unwrap();
    assert_eq!(rig.core.phase(), Phase::Claimed);
}

#[test]
fn a_refused_status_confirms_nothing_and_leaves_nobody_waiting() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    let gate = rig.rules.gate;
    rig.refuses = Some((for_lifecycle::Status::OP, KeystoreRefusal::NotReady));
    for _ in 0..5 {
        assert_eq!(rig.claim::<for_claim::Committed>(&gate), Err(refused(Refusal::Phase)));
    }
    assert_eq!(rig.core.phase(), Phase::Hold);
    assert_alive(&rig);
    rig.refuses = None;
    rig.commit();
    assert_eq!(rig.core.phase(), Phase::Committed);
}

#[test]
fn a_gate_that_closes_while_the_last_end_is_told_is_told_too() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.keystore_answers = false;
    rig.pass(30_000 * MS);
    rig.open(1).unwrap();
    let end = EndRequest::new(rig.rules.gate, Closed::PeerLeft);
    rig.claim::<for_claim::Ended>(&end).unwrap();
    rig.asked.clear();
    rig.keystore_answers = true;
    rig.run();
    assert_eq!(rig.asked, [for_lifecycle::CloseGate::OP, for_lifecycle::CloseGate::OP]);
}

#[test]
fn a_keystore_that_breaks_the_rules_seals_the_node() {
    let mut rig = Rig::holding();
    rig.keystore_answers = false;
    rig.change();
    rig.keystore.take().unwrap().unwrap().parse::<for_lifecycle::Status>().unwrap();
    rig.keystore.reply::<for_lifecycle::Fork>(&());
    rig.run();
    assert_eq!(rig.core.phase(), Phase::Sealed);
    assert!(rig.said.contains(&(Code::Misbehaved, Domain::Keystore as u32)));
}

#[test]
fn an_open_in_the_scan_that_leads_nowhere_ends_in_the_fork() {
    for ended in [false, true] {
        let mut rig = Rig::new(60_000);
        rig.become_ready();
        rig.open(1).unwrap();
        if ended {
            let request = EndRequest::new(rig.rules.gate, Closed::Rejected);
            rig.claim::<for_claim::Ended>(&request).unwrap();
        } else {
            rig.pass(30_000 * MS);
        }
        assert_eq!(rig.phases(), [0, 1, 2, 3]);
        assert_eq!(rig.rules.gate, 0);
    }
}
