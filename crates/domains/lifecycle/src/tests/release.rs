//! A node that its owners let go.

use wire::{
    order::{Kind, Release},
    telemetry::CommandResult,
};
use zerocopy::IntoBytes;

use super::{
    members::{apply, count, order},
    rest::erased,
    *,
};
use crate::release::LEAVING_MICROS;

/// A claimed node that has forked before.
fn claimed() -> Rig {
    let mut rig = Rig::claimed(&configuration(80));
    rig.kept.status.forked = 1;
    (rig.kept.status.isolated, rig.kept.status.isolation) = (1, [0, 9]);
    rig.change();
    rig
}

fn assert_is_member(rig: &Rig) {
    assert_eq!((rig.core.phase(), rig.rules.mesh.member), (Phase::Claimed, 1));
    assert_eq!((rig.member.configuration(), rig.member.isolated), (Some(&*configuration(80)), 1));
}

fn assert_is_nobodys(rig: &Rig) {
    assert_eq!((rig.rules.mesh, rig.member.configuration()), (MeshLink::NONE, None));
    assert_eq!((rig.member.isolated, rig.core.configuration()), (0, None));
    assert_eq!(count(rig, (Code::Released, 0)), 1);
}

#[test]
fn a_node_that_is_let_go_leaves_its_mesh_when_it_has_said_so_and_holds() {
    let mut rig = claimed();
    let release = order(Kind::Release, Release::to_ticket().as_bytes());
    let mut other = release.clone();
    other.staged[size_of::<wire::order::Order>()] ^= 1;
    assert_eq!(apply(&mut rig, &other), Ok(CommandResult::Refused));
    let told = rig.told;
    assert_eq!(apply(&mut rig, &release), Ok(CommandResult::Done));
    // It stays as it was for as long as its receipt takes.
    assert_is_member(&rig);
    assert_eq!((rig.told, rig.alarm()), (told, Some(rig.now + LEAVING_MICROS)));
    // What those who were its owners say meanwhile is no more than anybody's word.
    assert_eq!(apply(&mut rig, &members::update(&configuration(81))), Ok(CommandResult::Store));
    rig.pass(LEAVING_MICROS - 1);
    assert_is_member(&rig);
    rig.pass(1);
    assert_is_nobodys(&rig);
    assert_eq!(rig.core.phase(), Phase::Hold);
    // Nothing of their configuration is left.
    assert_eq!((erased(&rig), rig.alarm()), (2, None));
    // The next owner claims it as any.
    rig.open(3).unwrap();
    rig.commit();
    assert_eq!((rig.core.phase(), rig.member.phase()), (Phase::Committed, Phase::Committed));
}

#[test]
fn a_release_that_nobody_waits_for_is_followed_all_the_same() {
    for ticket in [false, true] {
        let mut rig = claimed();
        rig.kept.let_go();
        rig.kept.status.ticket_waiting = ticket.into();
        rig.change();
        assert_is_member(&rig);
        rig.pass(LEAVING_MICROS);
        assert_is_nobodys(&rig);
        if ticket {
            // Closed both ways until the ticket is shown.
            assert_eq!(rig.core.phase(), Phase::Blind);
            rig.kept.status.ticket_waiting = 0;
            rig.change();
        }
        assert_eq!(rig.core.phase(), Phase::Hold);
    }
}

#[test]
fn a_node_that_fails_while_it_leaves_is_sealed_and_no_member() {
    let mut rig = claimed();
    rig.kept.let_go();
    rig.change();
    rig.kept.status.state = State::EntropyLost as u8;
    rig.change();
    assert_eq!((rig.core.phase(), rig.rules.mesh), (Phase::Sealed, MeshLink::NONE));
    assert_eq!(rig.member.configuration(), None);
    rig.pass(LEAVING_MICROS);
    assert_eq!(rig.core.phase(), Phase::Sealed);
}
