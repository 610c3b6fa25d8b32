//! Who is an authority in the mesh: the committed set says, and the configuration only how.

use std::vec::Vec;

use proptest::prelude::*;

use super::*;

fn seat(number: u8) -> Seat {
    Seat { key: [number; 32], inner: v6(number), endpoint: None, parts: false }
}

fn parting(number: u8) -> Seat {
    Seat { parts: true, ..seat(number) }
}

fn seated(mut mesh: Configuration, seats: &[Seat]) -> Configuration {
    mesh.seat(seats.iter().copied());
    mesh
}

fn roles(mesh: &Configuration) -> Vec<(u8, Role)> {
    mesh.peers.iter().map(|peer| (peer.key[0], peer.role)).collect()
}

#[test]
fn the_set_comes_first_in_its_order_and_the_configuration_makes_no_authority() {
    let none = seated(mesh(&[]), &[]);
    assert_eq!(roles(&none), [(3, Role::Node), (4, Role::Peer)]);
    let made = seated(mesh(&[]), &[seat(9), seat(1), seat(8)]);
    let authorities = [9, 1, 8].map(|number| (number, Role::Authority));
    assert_eq!(roles(&made), [&authorities[..], &[(3, Role::Node), (4, Role::Peer)]].concat());
    // Whoever is an authority is nothing else.
    let made = seated(mesh(&[]), &[seat(4)]);
    assert_eq!(roles(&made), [(4, Role::Authority), (3, Role::Node)]);
}

#[test]
fn of_an_authority_the_configuration_gives_the_preshared_key_keepalive_and_further_addresses() {
    let known = Endpoint { ip: [0xfd; 16], port: 7 };
    let made = seated(mesh(&[]), &[Seat { endpoint: Some(known), inner: v6(77), ..seat(1) }, seat(9)]);
    let (one, other) = (&made.peers[0], &made.peers[1]);
    let expected = [Prefix::host(v6(77)), Prefix::v4([10, 8, 0, 1], 32), Prefix::host(v6(1))];
    assert_eq!((&one.allowed[..], one.endpoint, one.keepalive_s), (&expected[..], Some(known), 25));
    assert!(one.preshared.as_ref().is_some_and(|key| key.0 == [1; 32]));
    assert_eq!((&other.allowed[..], other.endpoint), (&[Prefix::host(v6(9))][..], None));
    assert!(other.preshared.is_none() && other.keepalive_s == KEEPALIVE_S);
    // Where the set does not know it, the configuration does.
    assert_eq!(seated(mesh(&[]), &[seat(1)]).peers[0].endpoint, mesh(&[]).peers[0].endpoint);
}

#[test]
fn the_address_of_an_authority_is_nobody_elses() {
    let sits = |number, at| Seat { inner: v6(at), ..seat(number) };
    let made = seated(mesh(&[]), &[sits(9, 3), sits(8, 1), sits(1, 70)]);
    assert_eq!((made.route(&v6(3)), made.route(&v6(1))), (Some(0), Some(1)));
    // What else they have they keep.
    assert_eq!((made.route(&v4(1)), made.route(&v4(3))), (Some(2), Some(3)));
}

#[test]
fn who_parts_is_last_and_only_if_there_is_room() {
    let made = seated(mesh(&[]), &[seat(9), parting(1)]);
    assert_eq!(roles(&made), [(9, Role::Authority), (3, Role::Node), (4, Role::Peer), (1, Role::Authority)]);
    assert!(made.peers[3].preshared.is_some());
    // His address or key is another's now.
    for stays in [Seat { inner: v6(1), ..seat(9) }, seat(1)] {
        assert_eq!(seated(mesh(&[]), &[stays, parting(1)]).peers.len(), 3);
    }
    let mut full = mesh(&[]);
    full.peers.extend((20..33).map(|number| peer(Role::Node, number)));
    let made = seated(full.clone(), &[seat(9), parting(1)]);
    assert_eq!((made.peers.len(), made.peers.last().map(|peer| peer.key[0])), (MAX_PEERS, Some(32)));
    // Whoever stays has room whatever the configuration says.
    let made = seated(full, &[1, 5, 6, 7, 8, 9, 10].map(seat));
    assert_eq!((made.peers.len(), made.peers.last().map(|peer| peer.key[0])), (MAX_PEERS, Some(26)));
    assert!(made.peers.iter().take(7).all(|peer| peer.role == Role::Authority));
}

proptest! {
    #[test]
    fn whatever_sits_is_a_configuration_that_makes_sense(
        named in proptest::collection::vec((1_u8..24, 0_u8..3), 0..=MAX_PEERS),
        sits in proptest::collection::vec((1_u8..24, any::<bool>()), 0..14),
    ) {
        let mut mesh = Configuration::default();
        for (number, role) in named {
            let role = [Role::Authority, Role::Node, Role::Peer][usize::from(role)];
            if mesh.peers.iter().all(|peer| peer.key[0] != number) {
                let _ = mesh.peers.push(peer(role, number));
            }
        }
        // A set has each key once.
        let mut seats: Vec<Seat> = Vec::new();
        for (number, parts) in sits {
            let placed = seats.iter().filter(|seat| seat.parts == parts).count();
            if placed < 7 && seats.iter().all(|seat| seat.key[0] != number) {
                seats.push(Seat { parts, ..seat(number) });
            }
        }
        let made = seated(mesh, &seats);
        prop_assert_eq!(made.check(), Ok(()));
        let staying: Vec<u8> = seats.iter().filter(|seat| !seat.parts).map(|seat| seat.key[0]).collect();
        let first: Vec<u8> = made.peers.iter().take(staying.len()).map(|peer| peer.key[0]).collect();
        prop_assert_eq!(&first, &staying);
        for peer in &made.peers {
            let sits = seats.iter().any(|seat| seat.key == peer.key);
            prop_assert_eq!(peer.role == Role::Authority, sits);
        }
    }
}
