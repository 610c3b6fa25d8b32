//! What lifecycle does for the mesh.

use core::{mem::offset_of, sync::atomic::Ordering};

use wire::{
    order::{Isolation, Kind, Order},
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    telemetry::CommandResult,
};
use zerocopy::IntoBytes;

use shm::mailbox::Operation as _;

use super::*;

/// As mesh has staged it.
pub fn staged(bytes: &[u8]) -> ApplyRequest {
    let mut request = ApplyRequest::new_zeroed();
    request.length = bytes.len() as u64;
    request.staged[..bytes.len()].copy_from_slice(bytes);
    request
}

/// The next that the authority has signed.
pub fn order(kind: Kind, body: &[u8]) -> ApplyRequest {
    static COUNTER: AtomicU64 = AtomicU64::new(0);
    let mut order = Order::new(kind, body);
    order.fiduciary = [0xf0; 32];
    order.set = set().hash();
    order.counter = (COUNTER.fetch_add(1, Ordering::Relaxed) + 1).into();
    staged(&[order.sign(&keystore::authority(), 0).as_bytes(), body].concat())
}

fn set() -> AuthoritySet {
    AuthoritySet::alone(Authority::signer(&keystore::authority().public()))
}

pub fn update(configuration: &[u8]) -> ApplyRequest {
    order(Kind::Configuration, configuration)
}

pub fn apply(rig: &mut Rig, request: &ApplyRequest) -> Result<CommandResult, CallError> {
    rig.tell::<for_mesh::Apply>(request).map(|result| CommandResult::from_number(result.into()).unwrap())
}

pub fn count(rig: &Rig, what: (Code, u32)) -> usize {
    rig.said.iter().filter(|said| **said == what).count()
}

#[test]
fn a_member_is_told_of_its_configuration_and_the_perimeter_of_its_link() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.stage(&configuration(80)).unwrap();
    // Staged is not committed.
    assert_eq!((rig.rules.mesh, rig.member.configuration()), (MeshLink::NONE, None));
    rig.kept.status.epoch = 7;
    rig.commit();
    let link = MeshLink { member: 1, address: [0x20; 16], length: 64, gateway: [0xfe; 16] };
    assert_eq!((rig.rules.mesh, rig.member.configuration()), (link, Some(&*configuration(80))));
    assert_eq!((rig.member.phase(), rig.member.epoch, rig.member.fiduciary), (Phase::Committed, 7, [0xf0; 32]));
    assert_eq!(rig.member.link, rig.rules.link);
    assert_eq!(count(&rig, (Code::Configured, 0)), 1);
    // Gates come and go without a word to mesh.
    let told = rig.told;
    rig.pass(60_000 * MS);
    rig.open(2).unwrap();
    assert_eq!((rig.told, rig.rules.peer.mac), (told, [2; 6]));
    rig.kept.status.ownership = Ownership::Claimed as u8;
    rig.change();
    assert_eq!((rig.rules.mesh, rig.member.phase()), (link, Phase::Claimed));
    assert_eq!(rig.member.configuration(), Some(&*configuration(80)));
    assert_eq!(count(&rig, (Code::Configured, 0)), 1);
}

#[test]
fn whatever_seals_a_member_ends_its_membership() {
    type Seal = fn(&mut Rig);
    let causes: [(&str, Seal); 3] = [
        ("a test that fails", |rig| {
            rig.kept.status.state = State::EntropyLost as u8;
            rig.change();
        }),
        ("a number that is no state", |rig| {
            rig.kept.status.state = 200;
            rig.change();
        }),
        ("a silent keystore", |rig| {
            rig.keystore_answers = false;
            rig.change();
            for _ in 0..crate::keystore::PATIENCE.tries {
                let at = rig.alarm().unwrap();
                rig.pass(at - rig.now);
            }
        }),
    ];
    for (cause, seal) in causes {
        let mut rig = Rig::claimed(&configuration(80));
        assert!(rig.member.configuration().is_some());
        seal(&mut rig);
        assert_eq!(rig.core.phase(), Phase::Sealed, "{cause}");
        assert_eq!((rig.member.phase(), rig.rules.mesh), (Phase::Sealed, MeshLink::NONE), "{cause}");
        assert_eq!((rig.member.length, rig.member.configuration), (0, [0; _]), "{cause}");
        assert!(rig.core.kept.bytes().is_empty() && rig.core.kept.padded() == &[0; _], "{cause}");
    }
}

#[test]
fn a_source_that_falls_silent_is_said_and_ends_nothing() {
    let mut rig = Rig::claimed(&configuration(80));
    let fault = (Code::Fault, State::EntropySilent as u32);
    for times in 1..3 {
        let told = rig.told;
        for state in [State::EntropySilent, State::EntropySilent, State::Ready] {
            rig.kept.status.state = state as u8;
            rig.change();
            assert_eq!((rig.core.phase(), rig.told, count(&rig, fault)), (Phase::Claimed, told, times));
        }
    }
    assert_eq!(count(&rig, (Code::Identity, u32::from(rig.kept.status.anchor))), 1);
    // What lifecycle has to tell mesh it tells meanwhile.
    rig.kept.status.state = State::EntropySilent as u8;
    rig.kept.status.isolated = 1;
    rig.change();
    assert_eq!(rig.member.isolated, 1);
}

#[test]
fn no_configuration_is_no_mesh() {
    let rig = Rig::claimed(b"");
    assert_eq!((rig.rules.mesh, rig.member.configuration()), (MeshLink::NONE, None));
    // Claimed before the last power-up: the configuration is not here.
    let mut rig = Rig::new(0);
    rig.kept.status.ownership = Ownership::Claimed as u8;
    rig.kept.status.configuration = wire::binding::configuration_hash(&configuration(80));
    rig.become_ready();
    assert_eq!((rig.core.phase(), rig.rules.mesh), (Phase::Claimed, MeshLink::NONE));
    assert_eq!(rig.member.configuration(), None);
}

#[test]
fn a_configuration_that_cannot_be_read_is_not_staged() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    let good = configuration(80);
    let longer = [&good[..], &[0]].concat();
    for bad in [b"mesh: 10.8.0.2", &good[..good.len() - 1], &longer, &[0xff; 4096]] {
        assert_eq!(rig.stage(bad), Err(refused(Refusal::Configuration)));
    }
    rig.stage(b"").unwrap();
    rig.stage(&good).unwrap();
}

#[test]
fn the_first_handshake_makes_a_claim_final() {
    let mut rig = Rig::holding();
    assert_eq!(rig.tell::<for_mesh::Joined>(&()), Err(refused(Refusal::Phase)));
    rig.open(1).unwrap();
    rig.commit();
    rig.asked.clear();
    rig.tell::<for_mesh::Joined>(&()).unwrap();
    assert_eq!((rig.core.phase(), rig.rules.gate), (Phase::Claimed, 0));
    assert!(rig.asked.contains(&4));
    rig.asked.clear();
    rig.tell::<for_mesh::Joined>(&()).unwrap();
    // Said again, because the reply was lost: nobody is asked.
    assert_eq!(rig.asked, []);
    assert_eq!((count(&rig, (Code::Joined, 0)), count(&rig, (Code::Claimed, 0))), (1, 1));
}

#[test]
fn an_older_status_answers_no_call_of_mesh() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.commit();
    rig.keystore_answers = false;
    rig.change();
    rig.mesh.call::<for_mesh::Joined>(&(), 0, Patience::ENDLESS);
    rig.run();
    rig.keystore_answers = true;
    rig.run();
    assert_eq!(rig.mesh.poll::<for_mesh::Joined>(0), Some(Ok(())));
    rig.keystore_answers = false;
    rig.change();
    rig.mesh.call::<for_mesh::Apply>(&update(&configuration(81)), 0, Patience::ENDLESS);
    rig.run();
    rig.keystore_answers = true;
    rig.run();
    assert_eq!(rig.mesh.poll::<for_mesh::Apply>(0), Some(Ok(CommandResult::Done as u32)));
}

#[test]
fn mesh_is_not_believed_about_ownership() {
    let mut rig = Rig::holding();
    rig.open(1).unwrap();
    rig.commit();
    rig.keystore_answers = false;
    rig.mesh.call::<for_mesh::Joined>(&(), 0, Patience::ENDLESS);
    rig.run();
    assert_eq!(rig.mesh.poll::<for_mesh::Joined>(0), None);
    assert_eq!(rig.core.phase(), Phase::Committed);
    // The keystore refuses: it is still what it was.
    rig.keystore.take().unwrap().unwrap().parse::<for_lifecycle::Settle>().unwrap();
    rig.keystore.refuse(KeystoreRefusal::NotReady.code());
    rig.keystore_answers = true;
    rig.run();
    assert_eq!(rig.mesh.poll::<for_mesh::Joined>(0), Some(Err(refused(Refusal::Phase))));
    assert_eq!((rig.core.phase(), count(&rig, (Code::Joined, 0))), (Phase::Committed, 0));
}

#[test]
fn an_update_is_in_force_when_the_reply_is_there() {
    let mut rig = Rig::claimed(&configuration(80));
    rig.asked.clear();
    assert_eq!(apply(&mut rig, &update(&configuration(81))), Ok(CommandResult::Done));
    // The keystore would commit it, then it is at rest, then it is committed, and then the one before goes.
    assert_eq!(rig.asked, [9, 6, 1, 5, 1, 6, 1]);
    assert_eq!(rig.member.configuration(), Some(&*configuration(81)));
    assert_eq!(count(&rig, (Code::Configured, 0)), 2);
    // The same once more changes nothing.
    assert_eq!(apply(&mut rig, &update(&configuration(81))), Ok(CommandResult::Done));
    assert_eq!(count(&rig, (Code::Configured, 0)), 2);
    // Out of the mesh.
    assert_eq!(apply(&mut rig, &update(b"")), Ok(CommandResult::Done));
    assert_eq!((rig.rules.mesh, rig.member.configuration()), (MeshLink::NONE, None));
}

#[test]
fn an_update_that_does_not_hold_changes_nothing() {
    let mut rig = Rig::claimed(&configuration(80));
    let mut other_hash = update(&configuration(81));
    other_hash.staged[offset_of!(Order, body)] ^= 1;
    let mut longer = update(&configuration(81));
    longer.length += 1;
    let mut endless = update(&configuration(81));
    endless.length = u64::MAX;
    rig.asked.clear();
    for (request, expected) in [
        (other_hash, CommandResult::Refused),
        (longer, CommandResult::Unreadable),
        (endless, CommandResult::Unreadable),
        (update(b"nonsense"), CommandResult::Unreadable),
    ] {
        assert_eq!(apply(&mut rig, &request), Ok(expected));
        assert!(rig.said.contains(&(Code::UpdateRefused, expected as u32)));
    }
    assert_eq!(rig.asked, []);
    for (refusal, expected) in [
        (KeystoreRefusal::Forged, CommandResult::Refused),
        (KeystoreRefusal::Stale, CommandResult::Refused),
        (KeystoreRefusal::NotMine, CommandResult::Refused),
        (KeystoreRefusal::Store, CommandResult::Store),
        // The update may be good.
        (KeystoreRefusal::NotReady, CommandResult::Store),
    ] {
        rig.refuses = Some((for_lifecycle::Order::OP, refusal));
        assert_eq!(apply(&mut rig, &update(&configuration(81))), Ok(expected));
    }
    assert_eq!(rig.member.configuration(), Some(&*configuration(80)));
    assert_eq!((rig.core.phase(), count(&rig, (Code::Configured, 0))), (Phase::Claimed, 1));
    rig.refuses = None;
    assert_eq!(apply(&mut rig, &update(&configuration(81))), Ok(CommandResult::Done));
}

#[test]
fn a_keystore_that_does_not_commit_what_it_said_is_not_believed() {
    let mut rig = Rig::claimed(&configuration(80));
    rig.holds = Some(for_lifecycle::Order::OP);
    rig.mesh.call::<for_mesh::Apply>(&update(&configuration(81)), 0, Patience::ENDLESS);
    rig.run();
    rig.keystore.take().unwrap().unwrap().parse::<for_lifecycle::Order>().unwrap();
    rig.keystore.reply::<for_lifecycle::Order>(&());
    rig.keystore_answers = true;
    rig.run();
    assert_eq!(rig.mesh.poll::<for_mesh::Apply>(0), Some(Ok(CommandResult::Store as u32)));
    assert_eq!(rig.member.configuration(), Some(&*configuration(80)));
}

#[test]
fn an_update_is_asked_again_when_the_keystore_is_late() {
    let mut rig = Rig::claimed(&configuration(80));
    rig.keystore_answers = false;
    rig.mesh.call::<for_mesh::Apply>(&update(&configuration(81)), 0, Patience::ENDLESS);
    rig.run();
    // Nothing else of mesh is taken meanwhile.
    let at = rig.alarm().unwrap();
    rig.keystore_answers = true;
    rig.keystore.take().unwrap();
    rig.pass(at - rig.now);
    assert_eq!(rig.mesh.poll::<for_mesh::Apply>(0), Some(Ok(CommandResult::Done as u32)));
    assert_eq!(rig.core.phase(), Phase::Claimed);
    // One that never answers seals the node, and mesh is not left without a word.
    rig.keystore_answers = false;
    rig.mesh.call::<for_mesh::Apply>(&update(&configuration(82)), 0, Patience::ENDLESS);
    for _ in 0..crate::keystore::PATIENCE.tries {
        rig.run();
        let at = rig.alarm().unwrap();
        rig.pass(at - rig.now);
    }
    assert_eq!(rig.core.phase(), Phase::Sealed);
    assert_eq!(rig.mesh.poll::<for_mesh::Apply>(0), Some(Err(refused(Refusal::Phase))));
    assert_eq!((rig.rules.mesh, rig.member.configuration()), (MeshLink::NONE, None));
}

#[test]
fn there_are_no_updates_before_the_claim_is_final() {
    let mut rig = Rig::holding();
    assert_eq!(apply(&mut rig, &update(&configuration(81))), Err(refused(Refusal::Phase)));
    rig.open(1).unwrap();
    rig.commit();
    assert_eq!(apply(&mut rig, &update(&configuration(81))), Err(refused(Refusal::Phase)));
    assert_eq!(rig.member.configuration(), Some(&*configuration(80)));
}

#[test]
fn isolation_is_told_when_it_changes() {
    let mut rig = Rig::claimed(&configuration(80));
    for isolated in [1, 1, 0, 1] {
        rig.kept.status.isolated = isolated;
        rig.change();
        assert_eq!(rig.member.isolated, u64::from(isolated));
        assert_eq!(rig.member.configuration(), Some(&*configuration(80)));
    }
    assert_eq!((count(&rig, (Code::Isolated, 1)), count(&rig, (Code::Isolated, 0))), (2, 1));
}

#[test]
fn an_isolation_ends_by_an_order_about_it() {
    let mut rig = Rig::claimed(&configuration(80));
    (rig.kept.status.isolated, rig.kept.status.isolation) = (1, [2, 77]);
    rig.change();
    assert_eq!((rig.member.isolated, rig.member.isolation), (1, [2, 77]));
    let rejoin = |authority: u32, counter: u32| {
        let isolation = Isolation { authority: authority.into(), counter: counter.into() };
        order(Kind::Rejoin, isolation.as_bytes())
    };
    let mut other_body = rejoin(2, 77);
    other_body.staged[size_of::<Order>()] ^= 1;
    rig.asked.clear();
    assert_eq!(apply(&mut rig, &other_body), Ok(CommandResult::Refused));
    assert_eq!(rig.asked, []);
    assert_eq!(apply(&mut rig, &rejoin(2, 76)), Ok(CommandResult::Refused));
    assert_eq!(rig.member.isolated, 1);
    let good = rejoin(2, 77);
    for _ in 0..2 {
        rig.asked.clear();
        assert_eq!(apply(&mut rig, &good), Ok(CommandResult::Done));
        assert_eq!((rig.member.isolated, rig.member.isolation), (0, [0, 0]));
        assert_eq!(rig.asked, [5, 1], "nothing is written first");
    }
    assert_eq!(rig.member.configuration(), Some(&*configuration(80)));
    assert_eq!(count(&rig, (Code::Isolated, 0)), 1);
}

#[test]
fn a_record_is_in_force_when_the_reply_is_there() {
    let mut rig = Rig::claimed(&configuration(80));
    let record = |sequence, previous: &wire::Hash| {
        let record = AuthorityRecord::new(&[0; 32], sequence, previous, &set());
        record.sign_as_old(&keystore::authority(), 0).sign_as_new(&keystore::authority(), 0)
    };
    let first = record(1, &[0; 32]);
    assert_eq!(apply(&mut rig, &staged(record(2, &first.hash()).as_bytes())), Ok(CommandResult::Refused));
    let told = rig.told;
    for _ in 0..2 {
        assert_eq!(apply(&mut rig, &staged(first.as_bytes())), Ok(CommandResult::Done));
        assert_eq!(rig.member.sequence, 1);
    }
    assert!(rig.told > told);
    assert_eq!(apply(&mut rig, &staged(record(2, &first.hash()).as_bytes())), Ok(CommandResult::Done));
    assert_eq!((rig.member.sequence, rig.member.configuration()), (2, Some(&*configuration(80))));
    // A keystore that says so and does not is not believed.
    rig.holds = Some(for_lifecycle::Adopt::OP);
    rig.mesh.call::<for_mesh::Apply>(&staged(record(3, &[0; 32]).as_bytes()), 0, Patience::ENDLESS);
    rig.run();
    rig.keystore.take().unwrap().unwrap().parse::<for_lifecycle::Adopt>().unwrap();
    rig.keystore.reply::<for_lifecycle::Adopt>(&());
    rig.keystore_answers = true;
    rig.run();
    assert_eq!(rig.mesh.poll::<for_mesh::Apply>(0), Some(Ok(CommandResult::Store as u32)));
    assert_eq!(rig.member.sequence, 2);
}

#[test]
fn a_dead_mesh_closes_the_perimeter_and_leaves_the_node_claimed() {
    let mut rig = Rig::claimed(&configuration(80));
    assert_eq!(rig.rules.mesh.member, 1);
    rig.wear_out(Domain::Workload);
    assert_eq!(rig.rules.mesh.member, 1);
    rig.wear_out(Domain::Mesh);
    assert_eq!((rig.core.phase(), rig.rules.mesh), (Phase::Claimed, MeshLink::NONE));
    rig.kept.status.isolated = 1;
    rig.change();
    assert_eq!(rig.rules.mesh, MeshLink::NONE);
}

#[test]
fn mesh_has_its_own_operations_only() {
    let mut rig = Rig::claimed(&configuration(80));
    assert_eq!(rig.tell::<for_claim::Started>(&1), Err(refused(Refusal::NotAllowed)));
    assert_eq!(rig.claim::<for_mesh::Joined>(&()), Err(refused(Refusal::NotAllowed)));
}
