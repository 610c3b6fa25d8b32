//! The configuration at rest.

use calls::{console::Rest, store::SEALED_BLOCK};
use shm::mailbox::Operation as _;
use wire::telemetry::CommandResult;
use zerocopy::IntoBytes;

use super::{store::Store, *};

/// The longest that there is; it needs two blocks.
pub(super) fn long(port: u16) -> Vec<u8> {
    let mut configuration = policy::Configuration::parse(&configuration(port)).unwrap();
    for number in 1..=policy::MAX_PEERS as u8 {
        let mut peer = policy::Peer {
            key: [number; 32],
            role: policy::Role::Node,
            preshared: Some(policy::Preshared([number; 32])),
            endpoint: Some(policy::Endpoint { ip: [0xfe; 16], port: 51820 }),
            allowed: heapless::Vec::new(),
            keepalive_s: 25,
        };
        for subnet in 0..policy::MAX_ALLOWED as u8 {
            let ip = core::array::from_fn(|at| [0x20, number, subnet].get(at).copied().unwrap_or_default());
            peer.allowed.push(policy::Prefix { ip, length: 64 }).unwrap();
        }
        assert!(configuration.peers.push(peer).is_ok());
    }
    let rules = |n: usize| (1..=n).map(|port| format!("in node tcp {port}").parse().unwrap()).collect();
    let fits = (0..policy::MAX_RULES).rev().find_map(|n| {
        configuration.rules = rules(n);
        configuration.rules.push(format!("in node udp {port}").parse().unwrap()).unwrap();
        configuration.write(&mut [0; 4096]).map(|bytes| bytes.to_vec())
    });
    fits.unwrap()
}

pub(super) fn blocks(bytes: &[u8]) -> u32 {
    (bytes.len() as u32 + 8).div_ceil(2048)
}

fn said(rig: &Rig, rest: Rest) -> usize {
    rig.said.iter().filter(|said| **said == (Code::Rest, rest as u32)).count()
}

/// A node that was claimed with `bytes`, which this store has, and is switched on.
pub(super) fn booted(owner: Ownership, bytes: &[u8], flash: Store) -> Rig {
    let mut rig = Rig::with(3000, flash);
    rig.kept.status.ownership = owner as u8;
    rig.kept.status.configuration = wire::binding::configuration_hash(bytes);
    rig.kept.status.forked = 1;
    rig.become_ready();
    rig
}

pub(super) fn flash_of(bytes: &[u8]) -> Store {
    Rig::claimed(bytes).flash
}

pub(super) fn apply(rig: &mut Rig, bytes: &[u8]) -> CommandResult {
    rig.apply(&update(bytes))
}

impl Rig {
    fn apply(&mut self, request: &ApplyRequest) -> CommandResult {
        let result = self.tell::<for_mesh::Apply>(request).unwrap();
        CommandResult::from_number(result.into()).unwrap()
    }
}

#[test]
fn a_node_that_is_switched_on_again_has_its_configuration() {
    for bytes in [configuration(80), long(80), Vec::new()] {
        for (owner, phase) in [(Ownership::Committed, Phase::Committed), (Ownership::Claimed, Phase::Claimed)] {
            let rig = booted(owner, &bytes, flash_of(&bytes));
            assert_eq!((rig.core.phase(), rig.core.configuration()), (phase, Some(&*bytes)));
            assert_eq!(rig.member.configuration(), Some(&*bytes).filter(|bytes| !bytes.is_empty()));
            assert_eq!(rig.rules.mesh.member, u64::from(!bytes.is_empty()));
            assert_eq!(rig.flash.changes, flash_of(&bytes).changes);
            assert!(!rig.said.iter().any(|(code, _)| *code == Code::Rest));
        }
    }
}

#[test]
fn what_is_at_rest_is_written_once() {
    let bytes = configuration(80);
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.stage(&bytes).unwrap();
    assert_eq!(rig.flash.changes, 1);
    rig.stage(&bytes).unwrap();
    rig.commit_to(&bytes);
    rig.kept.status.ownership = Ownership::Claimed as u8;
    rig.change();
    assert_eq!(apply(&mut rig, &bytes), CommandResult::Done);
    assert_eq!(rig.flash.changes, 1);
    // What was found at the start is known to be there, too.
    let mut rig = booted(Ownership::Claimed, &bytes, rig.flash);
    assert_eq!(apply(&mut rig, &bytes), CommandResult::Done);
    assert_eq!(rig.flash.changes, 1);
}

#[test]
fn the_slot_of_what_is_committed_is_never_touched() {
    let mut rig = Rig::claimed(&configuration(1));
    for port in 2..20 {
        let before = rig.flash.slots;
        let (old, new) = (configuration(port - 1), configuration(port));
        if port % 3 == 0 {
            rig = booted(Ownership::Claimed, &old, rig.flash);
        }
        // The keystore refuses it now and then: what was written goes again, and not what is in force.
        if port % 4 == 0 {
            rig.refuses = Some((for_lifecycle::Order::OP, KeystoreRefusal::Stale));
            assert_eq!(apply(&mut rig, &configuration(1000 + port)), CommandResult::Refused);
            rig.refuses = None;
        }
        rig.holds = Some(for_lifecycle::Order::OP);
        rig.mesh.call::<for_mesh::Apply>(&update(&new), 0, Patience::ENDLESS);
        rig.run();
        // Both are there until the keystore has decided.
        assert_eq!(before.iter().zip(&rig.flash.slots).filter(|(before, after)| before == after).count(), 1);
        for bytes in [&old, &new] {
            assert_eq!(booted(Ownership::Claimed, bytes, rig.flash.clone()).core.configuration(), Some(&bytes[..]));
        }
        rig.holds = None;
        rig.run();
        assert_eq!(rig.mesh.poll::<for_mesh::Apply>(0), Some(Ok(CommandResult::Done as u32)));
        assert_eq!(booted(Ownership::Claimed, &new, rig.flash.clone()).core.configuration(), Some(&*new));
    }
}

fn is_erased(slot: &[[u8; SEALED_BLOCK]]) -> bool {
    slot.iter().flatten().all(|byte| *byte == 0xff)
}

pub(super) fn erased(rig: &Rig) -> usize {
    rig.flash.slots.iter().filter(|slot| is_erased(&slot[..])).count()
}

/// A cut between any two changes: what is committed is there, be it the old or the new.
#[test]
fn a_cut_while_a_configuration_is_written_leaves_the_one_before() {
    let (old, new) = (long(1), long(2));
    let before = flash_of(&old);
    let whole = blocks(&new);
    assert_eq!(whole, 2);
    for cut in 0..=whole {
        let mut rig = booted(Ownership::Claimed, &old, before.clone());
        rig.flash.fails_at = Some(before.changes + cut);
        let result = apply(&mut rig, &new);
        assert_eq!(result, if cut == whole { CommandResult::Done } else { CommandResult::Store }, "cut {cut}");
        let in_force = if cut == whole { &new } else { &old };
        assert_eq!(rig.core.configuration(), Some(&**in_force));
        assert_eq!(said(&rig, Rest::NotKept), usize::from(cut < whole));
        // The keystore has not heard of what is not at rest.
        assert_eq!(rig.asked.contains(&for_lifecycle::Order::OP), cut == whole);
        rig.flash.fails_at = None;
        let mut rig = booted(Ownership::Claimed, in_force, rig.flash);
        assert_eq!(rig.core.configuration(), Some(&**in_force));
        assert_eq!(apply(&mut rig, &new), CommandResult::Done);
        assert_eq!(booted(Ownership::Claimed, &new, rig.flash).core.configuration(), Some(&*new));
    }
}

#[test]
fn a_claim_whose_configuration_cannot_be_written_ends_and_may_come_again() {
    for cut in 0..2 {
        let mut rig = Rig::holding();
        rig.open(1).unwrap();
        // Something stands there that has to be erased first.
        rig.flash.slots.iter_mut().for_each(|slot| slot[1][7] = 0);
        rig.flash.fails_at = Some(cut);
        assert_eq!(rig.stage(&configuration(80)), Err(refused(Refusal::Store)));
        assert_eq!(said(&rig, Rest::NotKept), 1);
        let end = EndRequest::new(rig.rules.gate, Closed::Internal);
        rig.claim::<for_claim::Ended>(&end).unwrap();
        // What cannot be erased then goes later.
        let again = (cut == 0).then_some(rig.now + crate::archive::PURGE_MICROS);
        assert_eq!((rig.core.phase(), rig.alarm()), (Phase::Hold, again));
        rig.flash.fails_at = None;
        rig.open(2).unwrap();
        rig.commit();
        assert_eq!(rig.core.configuration(), Some(&*configuration(80)));
    }
}

#[test]
fn a_store_that_does_not_answer_is_asked_twice_and_holds_up_no_gate() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.store_answers = false;
    let request = rig.grant(b"");
    rig.claim.call::<for_claim::Stage>(&request, 0, Patience::ENDLESS);
    for _ in 0..crate::archive::PATIENCE.tries {
        rig.run();
        assert_eq!(rig.claim.poll::<for_claim::Stage>(0), None);
        // The gate ends by itself meanwhile, and the other domains are served.
        assert!(rig.alarm().unwrap() <= rig.now + crate::archive::PATIENCE.each);
        assert_eq!(rig.open(2), Err(refused(Refusal::Busy)));
        rig.pass(crate::archive::PATIENCE.each);
    }
    assert_eq!(rig.claim.poll::<for_claim::Stage>(0), Some(Err(refused(Refusal::Store))));
    assert_eq!(rig.core.phase(), Phase::Hold);
}

/// The store answers, and nobody else has anything to say: what comes next is begun at once.
#[test]
fn nothing_waits_for_a_notification_that_nobody_owes() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    let request = rig.grant(b"");
    rig.store_answers = false;
    rig.claim.call::<for_claim::Stage>(&request, 0, Patience { each: MS, tries: 2 });
    rig.run();
    for _ in 0..2 {
        let call = rig.store.take().unwrap().unwrap();
        rig.flash.answer(&mut rig.store, &call);
        // Claim asks once more, and hears only what answers that.
        if call.op == calls::store::for_lifecycle::WriteBlock::OP {
            assert_eq!(rig.claim.poll::<for_claim::Stage>(2 * MS), None);
        }
        // Each runs only if it has something to do.
        let mut more = true;
        while more {
            more = rig.core.step(rig.now, &mut rig.ports);
            if let Some(call) = rig.keystore.take().unwrap() {
                rig.kept.answer(&mut rig.keystore, &call);
                more = true;
            }
        }
    }
    assert_eq!(rig.claim.poll::<for_claim::Stage>(2 * MS), Some(Ok(())));
}

#[test]
fn a_gate_that_closes_while_the_store_works_ends_the_claim_at_once() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.store_answers = false;
    let request = rig.grant(b"");
    rig.pass(29_000 * MS);
    rig.claim.call::<for_claim::Stage>(&request, 0, Patience::ENDLESS);
    rig.run();
    rig.pass(1_000 * MS);
    assert_eq!(rig.claim.poll::<for_claim::Stage>(0), Some(Err(refused(Refusal::Gate))));
    // The next claim brings another one, and the store comes to that when it has done what was begun.
    rig.open(2).unwrap();
    rig.store_answers = true;
    rig.commit();
    assert_eq!(rig.core.configuration(), Some(&*configuration(80)));
    assert_eq!(said(&rig, Rest::NotKept), 0);
}

/// The keystore commits the binding of a claim that has ended: it hears of that only then. Or a claim has brought another
/// configuration meanwhile.
#[test]
fn a_binding_that_is_committed_late_finds_its_configuration() {
    for ends in [false, true] {
        let mut rig = Rig::holding();
        rig.open(1).unwrap();
        rig.stage(&configuration(80)).unwrap();
        if ends {
            rig.holds = Some(for_lifecycle::CloseGate::OP);
            rig.pass(30_000 * MS);
            assert_eq!(rig.rules.gate, 0);
        } else {
            rig.stage(&configuration(81)).unwrap();
        }
        rig.kept.status.ownership = Ownership::Committed as u8;
        rig.kept.status.configuration = wire::binding::configuration_hash(&configuration(80));
        rig.holds = None;
        rig.change();
        assert_eq!((rig.core.phase(), rig.core.configuration()), (Phase::Committed, Some(&*configuration(80))));
        assert_eq!((rig.rules.mesh.member, erased(&rig)), (1, 1));
        assert_eq!(rig.alarm(), Some(rig.rules.until).filter(|_| !ends), "nothing else is left to be done");
    }
}

/// It does so between the first seal and the erase.
#[test]
fn what_is_committed_meanwhile_is_not_erased() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    for port in [80, 81] {
        rig.stage(&configuration(port)).unwrap();
    }
    // The next would go to the slot of the first.
    let request = rig.grant(&configuration(82));
    rig.holds = Some(for_lifecycle::SealBlock::OP);
    rig.claim.call::<for_claim::Stage>(&request, 0, Patience::ENDLESS);
    rig.run();
    rig.kept.status.ownership = Ownership::Committed as u8;
    rig.kept.status.configuration = wire::binding::configuration_hash(&configuration(80));
    rig.holds = None;
    rig.run();
    assert_eq!(rig.claim.poll::<for_claim::Stage>(0), Some(Ok(())));
    assert_eq!(rig.core.configuration(), Some(&*configuration(80)));
    let hash = |port| wire::binding::configuration_hash(&configuration(port));
    let holds = |port| rig.flash.slots.iter().any(|slot| slot[0][..24] == hash(port)[..24]);
    // What was staged last is not what is committed, so that goes too.
    assert!(holds(80) && !holds(81) && !holds(82));
}

#[test]
fn what_is_in_no_slot_is_said_and_a_claim_that_goes_on_brings_it_again() {
    let mut broken = flash_of(&long(80));
    for (block, byte) in [(0, 0), (0, SEALED_BLOCK - 1), (1, 50), (1, 35)] {
        let mut flash = broken.clone();
        match byte {
            // Blocks that changed their places are not damaged.
            50 => flash.slots.iter_mut().for_each(|slot| slot.swap(0, 1)),
            _ => flash.slots.iter_mut().for_each(|slot| slot[block][byte] ^= 1),
        }
        let mut rig = booted(Ownership::Committed, &long(80), flash);
        assert_eq!((said(&rig, Rest::Lost), rig.core.configuration()), (1, None));
        assert_eq!((rig.core.phase(), rig.rules.mesh, rig.alarm()), (Phase::Committed, MeshLink::NONE, None));
        rig.change();
        assert_eq!(said(&rig, Rest::Lost), 1);
        rig.open(1).unwrap();
        rig.commit_to(&long(80));
        assert_eq!((rig.core.configuration(), rig.rules.mesh.member), (Some(&*long(80)), 1));
        assert_eq!(booted(Ownership::Claimed, &long(80), rig.flash).core.configuration(), Some(&*long(80)));
    }
    // Another configuration's, as a whole: an old one that was put back.
    broken.slots.swap(0, 1);
    let rig = booted(Ownership::Claimed, &configuration(7), broken);
    assert_eq!((said(&rig, Rest::Lost), rig.core.configuration()), (1, None));
}

#[test]
fn what_cannot_be_read_is_looked_for_again_and_nothing_is_erased_meanwhile() {
    let bytes = configuration(80);
    for silent in [false, true] {
        let mut rig = Rig::with(3000, flash_of(&bytes));
        let changes = rig.flash.changes;
        (rig.flash.unreadable, rig.store_answers) = (!silent, !silent);
        rig.kept.status.ownership = Ownership::Committed as u8;
        rig.kept.status.configuration = wire::binding::configuration_hash(&bytes);
        rig.become_ready();
        for _ in 0..20 {
            let at = rig.alarm().unwrap();
            rig.pass(at - rig.now);
        }
        assert_eq!((said(&rig, Rest::Unreadable), said(&rig, Rest::Lost)), (1, 0));
        assert_eq!((rig.core.phase(), rig.core.configuration()), (Phase::Committed, None));
        (rig.flash.unreadable, rig.store_answers) = (true, true);
        rig.open(1).unwrap();
        assert_eq!(rig.stage(&bytes), Err(refused(Refusal::Store)));
        assert_eq!(rig.flash.changes, changes);
        rig.flash.unreadable = false;
        let at = rig.alarm().unwrap();
        rig.pass(at.max(rig.now) - rig.now);
        rig.pass(crate::archive::AGAIN_MICROS);
        assert_eq!((rig.core.configuration(), rig.flash.changes), (Some(&*bytes), changes));
        assert_eq!(rig.rules.mesh.member, 1);
    }
}

/// A mesh that somebody else runs brings what nobody has signed, what was in force once, and what is in force.
#[test]
fn an_update_that_would_not_be_committed_costs_no_erase_and_no_write() {
    let mut rig = Rig::claimed(&configuration(1));
    let mut brought = Vec::new();
    for port in 2..6 {
        brought.push(update(&configuration(port)));
        assert_eq!(rig.apply(brought.last().unwrap()), CommandResult::Done);
    }
    let in_force = brought.pop().unwrap();
    let changes = rig.flash.changes;
    for number in 0..64 {
        let old = &brought[number % brought.len()];
        assert_eq!(rig.apply(old), CommandResult::Refused);
        let mut unsigned = update(&configuration(100 + number as u16));
        let signature = core::mem::offset_of!(wire::order::Order, signatures);
        unsigned.staged[signature + number] ^= 1;
        assert_eq!(rig.apply(&unsigned), CommandResult::Refused);
        assert_eq!(rig.apply(&in_force), CommandResult::Done);
    }
    assert_eq!(rig.flash.changes, changes);
    assert_eq!(rig.core.configuration(), Some(&*configuration(5)));
}

/// A claim that somebody else runs, behind a gate that a beacon that somebody else runs has opened.
#[test]
fn a_configuration_that_no_binding_names_costs_no_erase_and_no_write() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    let signature = core::mem::offset_of!(wire::title::Title, binding.signature);
    for number in 0..64 {
        let mut request = rig.grant(&configuration(1 + number as u16));
        request.title.as_mut_bytes()[signature + number] ^= 1;
        assert_eq!(rig.claim::<for_claim::Stage>(&request), Err(refused(Refusal::Binding)));
    }
    // One that was signed for a nonce that is void, and one that the keystore cannot look at now.
    let old = rig.grant(&configuration(80));
    rig.kept.identity = None;
    assert_eq!(rig.claim::<for_claim::Stage>(&old), Err(refused(Refusal::Binding)));
    rig.refuses = Some((for_lifecycle::CheckBinding::OP, KeystoreRefusal::NotReady));
    assert_eq!(rig.stage(&configuration(80)), Err(refused(Refusal::Store)));
    rig.refuses = None;
    assert_eq!(rig.flash.changes, 0);
    rig.commit();
    assert_eq!(rig.flash.changes, 1);
}

/// The gate closes while the keystore looks at a binding: what it says then is not taken for a word about the next one.
#[test]
fn the_answer_to_one_binding_is_none_to_another() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.holds = Some(for_lifecycle::CheckBinding::OP);
    let request = rig.grant(&configuration(80));
    rig.claim.call::<for_claim::Stage>(&request, 0, Patience::ENDLESS);
    rig.run();
    rig.pass(30_000 * MS);
    assert_eq!(rig.claim.poll::<for_claim::Stage>(0), Some(Err(refused(Refusal::Gate))));
    rig.open(2).unwrap();
    let mut forged = rig.grant(&configuration(81));
    forged.title.binding.signature[0] ^= 1;
    rig.claim.call::<for_claim::Stage>(&forged, 0, Patience::ENDLESS);
    rig.run();
    rig.holds = None;
    rig.run();
    assert_eq!(rig.claim.poll::<for_claim::Stage>(0), Some(Err(refused(Refusal::Binding))));
    assert_eq!(rig.flash.changes, 0);
}

/// One that dies while its update is being written, and is started anew each time, wears out nothing: the update is
/// committed without it.
#[test]
fn an_update_is_committed_even_if_mesh_dies_of_it() {
    let mut rig = Rig::claimed(&configuration(1));
    let steps = [for_lifecycle::CheckOrder::OP, for_lifecycle::SealBlock::OP, for_lifecycle::Order::OP];
    for (port, step) in (2..).zip(steps) {
        let (next, changes) = (update(&configuration(port)), rig.flash.changes);
        rig.holds = Some(step);
        rig.mesh.call::<for_mesh::Apply>(&next, 0, Patience::ENDLESS);
        rig.run();
        rig.core.died(Domain::Mesh, rig.now, &mut rig.ports);
        rig.holds = None;
        rig.pass(60_000 * MS);
        assert_eq!(rig.core.configuration(), Some(&*configuration(port)));
        // Nobody is answered who has not asked, and the one in its place is served.
        assert_eq!(rig.mesh.poll::<for_mesh::Apply>(0), None);
        rig.mesh.abandon();
        assert_eq!(rig.apply(&next), CommandResult::Done);
        assert_eq!(rig.flash.changes, changes + 2);
    }
}

#[test]
fn a_keystore_that_cannot_seal_now_refuses_the_claim_and_the_update() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.refuses = Some((for_lifecycle::SealBlock::OP, KeystoreRefusal::Store));
    assert_eq!(rig.stage(&configuration(80)), Err(refused(Refusal::Store)));
    rig.refuses = None;
    rig.commit();
    rig.kept.status.ownership = Ownership::Claimed as u8;
    rig.change();
    rig.refuses = Some((for_lifecycle::SealBlock::OP, KeystoreRefusal::Store));
    let changes = rig.flash.changes;
    assert_eq!(apply(&mut rig, &configuration(81)), CommandResult::Store);
    // Nothing was erased for it.
    assert_eq!((rig.flash.changes, rig.core.phase()), (changes, Phase::Claimed));
    assert_eq!(rig.core.configuration(), Some(&*configuration(80)));
}
