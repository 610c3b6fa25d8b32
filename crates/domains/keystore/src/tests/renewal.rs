//! What is made for a request of a block that is younger than the request: a machine that was saved before, and goes on
//! twice, gives neither a key nor a nonce twice.

use std::collections::HashSet;

use calls::keystore::{for_beacon, for_claim, for_mesh};
use wire::link::Hello;

use super::*;

/// The same node at the same moment, each time; what its source says after that is another thing.
fn saved(owned: bool, later: u64) -> Rig {
    let mut rig = Rig::new(Board::anchored());
    if owned {
        let title = bind(&rig.identify().unwrap(), &admin(), 1);
        rig.commit(&title).unwrap();
    }
    rig.source = Box::new(Good::new(later));
    rig
}

fn open(rig: &mut Rig) -> Open {
    let claim_key = Keys::derive(&rig.board.root_seed()).public.claim;
    let fiduciary = rig.status().fiduciary;
    open_for(&HelloBody { fiduciary, claim_key, ..HelloBody::new_zeroed() }, &admin(), 3)
}

/// Everything that a stranger or an administrator sees of what was drawn, and what other domains make keys of.
fn drawn(later: u64) -> Vec<Vec<u8>> {
    let rig = &mut saved(false, later);
    let hello = rig.ask::<for_beacon::MakeHello>(Channel::Beacon, &()).unwrap();
    let Hello { ephemeral, .. } = hello.hello;
    let mut drawn = vec![hello.nonce.to_vec(), ephemeral.to_vec()];
    let rig = &mut saved(false, later);
    let open = open(rig);
    let opened = rig.ask::<for_beacon::CheckOpen>(Channel::Beacon, &open).unwrap();
    drawn.extend([opened.token.to_vec(), opened.answer.as_bytes().to_vec()]);
    drawn.push(saved(false, later).identify().unwrap().nonce.to_vec());
    drawn.push(saved(false, later).ask::<for_claim::ClaimRandom>(Channel::Claim, &()).unwrap().to_vec());
    drawn.push(saved(true, later).ask::<for_mesh::MeshRandom>(Channel::Mesh, &()).unwrap().to_vec());
    drawn
}

#[test]
fn a_node_that_was_saved_and_goes_on_twice_draws_nothing_twice() {
    let (one, two) = (drawn(71), drawn(72));
    assert_eq!(one, drawn(71), "nothing else makes a difference");
    for (at, (one, two)) in one.iter().zip(&two).enumerate() {
        assert_ne!(one, two, "{at}");
    }
}

/// Also where nothing new was drawn.
#[test]
fn no_two_records_are_sealed_alike_after_a_node_was_saved() {
    let nonces = |counter: u64| -> Vec<Vec<u8>> {
        let mut rig = saved(false, 71);
        rig.find(counter).unwrap();
        rig.disk.log(Record::Counters).iter().map(|(_, sealed)| sealed[8..32].to_vec()).collect()
    };
    // What was stored before that is the same.
    let (one, two) = (nonces(5), nonces(1 << 20));
    assert_eq!((one.len(), &one), (2, &nonces(5)));
    assert!(one[0] == two[0] && one[1] != two[1]);
}

#[test]
fn a_request_waits_for_a_block_that_was_asked_for_after_it_and_holds_nobody_up() {
    let mut rig = saved(true, 71);
    rig.source_lives = false;
    // A block that was there before is of no use.
    rig.feed();
    rig.run();
    rig.client(Channel::Mesh).call::<for_mesh::MeshRandom>(&(), 0, Patience::ENDLESS);
    rig.run();
    assert_eq!(rig.told.iter().filter(|peer| **peer == Channel::Entropy).count(), 1);
    assert!(rig.outcome::<for_mesh::MeshRandom>(Channel::Mesh).is_none());
    // What draws nothing is done meanwhile, whoever asks.
    assert_eq!(rig.status().state, State::Ready as u8);
    assert!(rig.ask::<for_beacon::BeaconRandom>(Channel::Beacon, &()).is_ok());
    assert!(!rig.told.contains(&Channel::Entropy), "it is asked for once");
    // Another waits behind it, for a block of its own.
    rig.client(Channel::Claim).call::<for_claim::ClaimRandom>(&(), 0, Patience::ENDLESS);
    rig.run();
    rig.feed();
    rig.run();
    let first = rig.outcome::<for_mesh::MeshRandom>(Channel::Mesh).expect("its block has come").unwrap();
    assert!(rig.outcome::<for_claim::ClaimRandom>(Channel::Claim).is_none());
    assert_eq!(rig.told.iter().filter(|peer| **peer == Channel::Entropy).count(), 1);
    rig.feed();
    rig.run();
    let second = rig.outcome::<for_claim::ClaimRandom>(Channel::Claim).expect("its block has come").unwrap();
    assert_ne!(first, second);
    // Nobody asks: nothing is wanted.
    assert!(!rig.told.contains(&Channel::Entropy));
}

#[test]
fn a_block_whose_request_is_gone_serves_no_later_one() {
    let mut rig = saved(true, 71);
    rig.source_lives = false;
    rig.client(Channel::Mesh).call::<for_mesh::MeshRandom>(&(), 0, Patience::ENDLESS);
    rig.run();
    // In its place comes one that draws nothing.
    rig.ask::<for_mesh::MeshKey>(Channel::Mesh, &()).unwrap();
    rig.feed();
    rig.run();
    rig.client(Channel::Mesh).call::<for_mesh::MeshRandom>(&(), 0, Patience::ENDLESS);
    rig.run();
    assert!(rig.outcome::<for_mesh::MeshRandom>(Channel::Mesh).is_none());
    assert!(rig.told.contains(&Channel::Entropy));
}

/// Requests come without end on three channels, and each has its turn.
#[test]
fn who_waits_is_served_in_turn() {
    let mut rig = saved(true, 71);
    let mut served = HashSet::new();
    for _ in 0..6 {
        for client in [Channel::Beacon, Channel::Claim, Channel::Mesh] {
            let waits = match client {
                Channel::Beacon => rig.beacon.busy().is_some(),
                Channel::Claim => rig.claim.busy().is_some(),
                _ => rig.mesh.busy().is_some(),
            };
            if !waits {
                match client {
                    Channel::Beacon => rig.beacon.call::<for_beacon::MakeHello>(&(), 0, Patience::ENDLESS),
                    Channel::Claim => rig.claim.call::<for_claim::ClaimRandom>(&(), 0, Patience::ENDLESS),
                    _ => rig.mesh.call::<for_mesh::MeshRandom>(&(), 0, Patience::ENDLESS),
                }
            }
        }
        rig.step();
        rig.feed();
        rig.step();
        served.extend(rig.outcome::<for_beacon::MakeHello>(Channel::Beacon).map(|_| 0));
        served.extend(rig.outcome::<for_claim::ClaimRandom>(Channel::Claim).map(|_| 1));
        served.extend(rig.outcome::<for_mesh::MeshRandom>(Channel::Mesh).map(|_| 2));
    }
    assert_eq!(served.len(), 3);
}

#[test]
fn a_source_that_fails_ends_the_waiting() {
    let mut rig = saved(true, 71);
    rig.source_lives = false;
    rig.client(Channel::Mesh).call::<for_mesh::MeshRandom>(&(), 0, Patience::ENDLESS);
    rig.run();
    rig.source = Box::new(source::Stuck(7));
    rig.feed();
    rig.run();
    assert_eq!(rig.outcome::<for_mesh::MeshRandom>(Channel::Mesh), Some(Err(Refusal::NotReady)));
}
