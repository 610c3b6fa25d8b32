//! Who is in the mesh: the committed set says.

use calls::mesh::Seat;
use crypto::{AnchorSecret, Secret, dh_public};
use shm::mailbox::Operation as _;
use wire::{
    U16,
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    telemetry::CommandResult,
    title::Prefix,
};
use zerocopy::IntoBytes;

use super::{
    members::{apply, order, staged},
    *,
};
use crate::release::LEAVING_MICROS;

fn person(n: u8) -> AnchorSecret {
    AnchorSecret::from_seed(&[n; 32])
}

/// One with a place in the mesh.
fn placed(n: u8) -> Authority {
    let (mut inner, mut endpoint) = ([0xfd; 16], [0xfe; 16]);
    (inner[15], endpoint[15]) = (n, n);
    let mesh = dh_public(&Secret::new([n + 100; 32]));
    Authority { mesh, inner, endpoint, port: U16::new(7), ..Authority::signer(&person(n).public()) }
}

fn seat(n: u8, place: u32) -> Seat {
    let Authority { mesh: key, inner, endpoint, .. } = placed(n);
    Seat { key, inner, endpoint, port: 7, place }
}

fn seats(rig: &Rig) -> Vec<Seat> {
    rig.member.seats().copied().collect()
}

/// A claimed node of 1, who is in the mesh, and 2, who signs only.
fn claimed() -> Rig {
    let mut rig = Rig::holding();
    rig.kept.adopted = Some(AuthoritySet::new(2, &[placed(1), Authority::signer(&person(2).public())]).unwrap());
    rig.open(1).unwrap();
    rig.commit_to(&configuration(80));
    rig.kept.status.ownership = Ownership::Claimed as u8;
    rig.change();
    rig
}

/// The next record, to a set of 2 alone and 3.
fn record(rig: &Rig) -> AuthorityRecord {
    let set = AuthoritySet::new(2, &[Authority::signer(&person(2).public()), placed(3)]).unwrap();
    let record = AuthorityRecord::new(&rig.kept.status.fleet, 1, &[0; 32], &set);
    let record = record.sign_as_old(&person(1), 0).sign_as_old(&person(2), 1);
    record.sign_as_new(&person(2), 0).sign_as_new(&person(3), 1)
}

#[test]
fn the_authorities_in_the_mesh_are_those_of_the_committed_set_at_their_places() {
    let mut rig = claimed();
    assert_eq!((seats(&rig), rig.member.configuration()), (std::vec![seat(1, 0)], Some(&*configuration(80))));
    let record = record(&rig);
    assert_eq!(apply(&mut rig, &staged(record.as_bytes())), Ok(CommandResult::Done));
    assert_eq!((rig.member.sequence, seats(&rig)), (1, std::vec![seat(3, 1), seat(1, Seat::PARTS)]));
    assert_eq!(rig.member.configuration(), Some(&*configuration(80)));
}

#[test]
fn who_leaves_the_set_is_a_peer_for_four_seconds_more_and_no_longer() {
    let mut rig = claimed();
    let record = record(&rig);
    apply(&mut rig, &staged(record.as_bytes())).unwrap();
    assert_eq!(rig.alarm(), Some(rig.now + LEAVING_MICROS));
    // The same record again lengthens nothing.
    rig.pass(LEAVING_MICROS - 1);
    assert_eq!(apply(&mut rig, &staged(record.as_bytes())), Ok(CommandResult::Done));
    assert_eq!(seats(&rig), [seat(3, 1), seat(1, Seat::PARTS)]);
    rig.pass(1);
    assert_eq!((seats(&rig), rig.alarm()), (std::vec![seat(3, 1)], None));
}

#[test]
fn a_cut_ends_the_farewell() {
    let mut rig = claimed();
    let record = record(&rig);
    apply(&mut rig, &staged(record.as_bytes())).unwrap();
    let mut again = Rig::with(0, rig.flash);
    again.kept = rig.kept;
    again.become_ready();
    assert_eq!((again.core.phase(), seats(&again)), (Phase::Claimed, std::vec![seat(3, 1)]));
}

#[test]
fn a_record_is_answered_when_mesh_has_been_told_and_until_then_all_stays() {
    let mut rig = claimed();
    let (told, record) = (rig.told, record(&rig));
    rig.holds = Some(for_lifecycle::Owner::OP);
    rig.mesh.call::<for_mesh::Apply>(&staged(record.as_bytes()), 0, Patience::ENDLESS);
    rig.change();
    // The keystore has committed it, and the sessions of the others live on.
    assert_eq!((rig.kept.status.sequence, rig.told, seats(&rig)), (1, told, std::vec![seat(1, 0)]));
    assert_eq!((rig.rules.mesh.member, rig.mesh.poll::<for_mesh::Apply>(rig.now)), (1, None));
    rig.holds = None;
    rig.run();
    assert_eq!(rig.mesh.poll::<for_mesh::Apply>(rig.now), Some(Ok(CommandResult::Done as u32)));
    assert_eq!(seats(&rig)[0], seat(3, 1));
}

#[test]
fn without_an_answer_about_its_owners_a_node_has_no_mesh_and_asks_again() {
    let mut rig = Rig::holding();
    rig.refuses = Some((for_lifecycle::Owner::OP, KeystoreRefusal::Store));
    rig.open(1).unwrap();
    rig.commit();
    assert_eq!((rig.rules.mesh, rig.member.configuration()), (MeshLink::NONE, None));
    let asked = rig.asked.len();
    rig.run();
    assert_eq!(rig.asked.len(), asked);
    rig.refuses = None;
    rig.change();
    assert_eq!((rig.rules.mesh.member, rig.member.configuration()), (1, Some(&*configuration(80))));
}

#[test]
fn a_claimed_node_without_its_configuration_runs_with_its_authorities_until_they_give_it_one() {
    let rig = claimed();
    let mut again = Rig::with(0, store::Store::new());
    again.kept = rig.kept;
    let mut title = again.kept.bound.unwrap_or_else(wire::title::Title::new_zeroed);
    title.warrant.addresses[0] = Prefix { ip: [0xfd; 16], length: 64 };
    title.warrant.underlay = Prefix { ip: [0x20; 16], length: 64 };
    again.kept.bound = Some(title);
    again.become_ready();
    assert_eq!((again.core.phase(), again.core.configuration()), (Phase::Claimed, None));
    assert_eq!((again.rules.mesh.member, again.rules.mesh.address), (1, [0x20; 16]));
    assert_eq!(seats(&again), [seat(1, 0)]);
    let bare = policy::Configuration::parse(again.member.configuration().unwrap()).unwrap();
    assert!(bare.addresses[0].ip == [0xfd; 16] && bare.peers.is_empty() && bare.rules.is_empty());
    assert!(again.said.contains(&(Code::Rest, calls::console::Rest::Lost as u32)));
    assert!(!again.said.iter().any(|(code, _)| *code == Code::Configured));
    // An order reaches it.
    let mut request = order(wire::order::Kind::Configuration, &configuration(81));
    let set = again.kept.adopted.unwrap();
    let bytes = request.staged;
    let Some(wire::staged::Staged::Order(unsigned, body)) = wire::staged::parse(&bytes[..request.length as usize])
    else {
        panic!("it is an order")
    };
    let unsigned = wire::order::Order { set: set.hash(), signatures: [[0; 64]; 7], ..*unsigned };
    let signed = unsigned.sign(&person(1), 0).sign(&person(2), 1);
    request = staged(&[signed.as_bytes(), body].concat());
    assert_eq!(apply(&mut again, &request), Ok(CommandResult::Done));
    assert_eq!(again.core.configuration(), Some(&*configuration(81)));
}
