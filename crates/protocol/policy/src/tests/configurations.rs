use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::*;
use crate::configuration::is_mapped;

fn bytes(of: &Configuration) -> Vec<u8> {
    of.write(&mut [0; 4096]).unwrap().to_vec()
}

/// What is wrong with the mesh after a change.
fn after(change: impl FnOnce(&mut Configuration)) -> Result<(), Invalid> {
    let mut mesh = mesh(&["in node tcp 80"]);
    change(&mut mesh);
    let read = Configuration::parse(&bytes(&mesh)).map(|_| ());
    assert_eq!(read, mesh.check());
    read
}

#[test]
fn what_is_written_is_read_and_nothing_is_left_over() {
    let mut mesh = mesh(&["in authority tcp 80", "out node udp 5000", "in peer icmp"]);
    mesh.underlay = Some(Underlay { address: Prefix { ip: [0x20; 16], length: 64 }, gateway: Some([0xfe; 16]) });
    let good = bytes(&mesh);
    assert!(Configuration::parse(&good).unwrap() == mesh);
    assert_eq!(Configuration::parse(&[&good[..], &[0]].concat()).err(), Some(Invalid::Encoding));
    for length in 1..good.len() {
        assert!(Configuration::parse(&good[..length]).is_err(), "cut to {length}");
    }
    assert!(Configuration::parse(&[]).unwrap() == Configuration::default());
    assert!(mesh.write(&mut vec![0; good.len() - 1]).is_none());
}

#[test]
fn addresses_are_hosts_addresses_each_once() {
    let address = |ip: [u8; 4]| move |mesh: &mut Configuration| mesh.addresses[0] = Prefix::v4(ip, 24);
    assert_eq!(after(address([10, 9, 0, 7])), Ok(()));
    for ip in [[224, 0, 0, 1], [255; 4], [0; 4], [0, 1, 2, 3]] {
        assert_eq!(after(address(ip)), Err(Invalid::Address));
    }
    for ip in [[0; 16], [0xff; 16]] {
        assert_eq!(after(|mesh| mesh.addresses[1].ip = ip), Err(Invalid::Address));
        let underlay = |gateway| Some(Underlay { address: Prefix { ip: [0x20; 16], length: 64 }, gateway });
        assert_eq!(after(|mesh| mesh.underlay = underlay(Some(ip))), Err(Invalid::Address));
        assert_eq!(
            after(
                |mesh| mesh.underlay = underlay(None).map(|it| Underlay { address: Prefix { ip, ..it.address }, ..it })
            ),
            Err(Invalid::Address)
        );
    }
    assert_eq!(after(|mesh| mesh.addresses[1].length = 129), Err(Invalid::Address));
    assert_eq!(after(|mesh| mesh.addresses[1] = mesh.addresses[0]), Err(Invalid::Address));
    let same = Prefix { ip: v6(2), length: 96 };
    assert_eq!(after(|mesh| mesh.underlay = Some(Underlay { address: same, gateway: None })), Err(Invalid::Address));
}

#[test]
fn the_underlay_is_ipv6() {
    let v4 = Prefix::v4([192, 168, 0, 2], 24);
    assert_eq!(after(|mesh| mesh.underlay = Some(Underlay { address: v4, gateway: None })), Err(Invalid::Address));
    let address = Prefix { ip: [0x20; 16], length: 64 };
    assert_eq!(after(|mesh| mesh.underlay = Some(Underlay { address, gateway: Some(v4.ip) })), Err(Invalid::Address));
    let endpoint = Some(Endpoint { ip: v4.ip, port: 51820 });
    assert_eq!(after(|mesh| mesh.peers[0].endpoint = endpoint), Err(Invalid::Peer));
    // Nor is it what no host has: the loopback, and the rest of ::/8.
    let loopback = {
        let mut ip = [0; 16];
        ip[15] = 1;
        ip
    };
    for (ip, usable) in [(loopback, false), ([0; 16], false), ([0xff; 16], false), (v4.ip, false), ([0x20; 16], true)] {
        assert_eq!(Endpoint { ip, port: 51820 }.is_usable(), usable);
        assert_eq!(Underlay { address: Prefix { ip, length: 64 }, gateway: None }.is_usable(), usable);
        assert_eq!(Underlay { address: Prefix { ip: [0xfd; 16], length: 64 }, gateway: Some(ip) }.is_usable(), usable);
    }
    assert!(!Endpoint { ip: [0x20; 16], port: 0 }.is_usable());
    assert!(!Underlay { address, gateway: Some(address.ip) }.is_usable());
}

#[test]
fn peers_differ_and_so_do_their_prefixes() {
    assert_eq!(after(|mesh| mesh.peers[1].key = mesh.peers[0].key), Err(Invalid::Peer));
    // With these no secret can be agreed.
    let small: Vec<[u8; 32]> = ["e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800", &"00".repeat(32)]
        .map(|text| core::array::from_fn(|at| u8::from_str_radix(&text[2 * at..][..2], 16).unwrap()))
        .into();
    for key in small {
        assert_eq!(after(|mesh| mesh.peers[1].key = key), Err(Invalid::Peer));
    }
    assert_eq!(after(|mesh| mesh.peers[1].allowed[0] = mesh.peers[0].allowed[0]), Err(Invalid::Peer));
    assert_eq!(after(|mesh| mesh.peers[0].allowed[1] = mesh.peers[0].allowed[0]), Err(Invalid::Peer));
    // Bits past the length.
    assert_eq!(after(|mesh| mesh.peers[0].allowed[0] = Prefix::v4([10, 8, 0, 1], 24)), Err(Invalid::Peer));
    assert_eq!(after(|mesh| mesh.peers[0].allowed[0].length = 129), Err(Invalid::Peer));
    assert_eq!(after(|mesh| mesh.peers[0].allowed[0].length = 255), Err(Invalid::Peer));
    // A shorter prefix around a longer one is another.
    assert_eq!(after(|mesh| mesh.peers[0].allowed[0] = Prefix::v4([10, 8, 0, 0], 24)), Ok(()));
    for endpoint in
        [Endpoint { ip: [0; 16], port: 1 }, Endpoint { ip: [0xff; 16], port: 1 }, Endpoint { ip: [0xfe; 16], port: 0 }]
    {
        assert_eq!(after(|mesh| mesh.peers[0].endpoint = Some(endpoint)), Err(Invalid::Peer));
    }
}

#[test]
fn rules_name_ports_where_there_are_some_and_none_of_the_nodes() {
    let rule = |protocol, port| {
        move |mesh: &mut Configuration| (mesh.rules[0].protocol, mesh.rules[0].port) = (protocol, port)
    };
    assert_eq!(after(rule(Protocol::Icmp, 0)), Ok(()));
    assert_eq!(after(rule(Protocol::Tcp, 8090)), Ok(()));
    for (protocol, port) in
        [(Protocol::Icmp, 1), (Protocol::Tcp, 0), (Protocol::Udp, 0), (Protocol::Udp, 8090), (Protocol::Udp, 8091)]
    {
        assert_eq!(after(rule(protocol, port)), Err(Invalid::Rule));
    }
}

#[test]
fn the_longest_prefix_has_the_route() {
    let mut mesh = mesh(&[]);
    mesh.peers[PEER].allowed[0] = Prefix::v4([10, 8, 0, 0], 24);
    mesh.peers[NODE].allowed.push(Prefix { ip: [0; 16], length: 0 }).unwrap();
    assert_eq!(mesh.check(), Ok(()));
    assert_eq!(mesh.route(&v4(1)), Some(AUTHORITY));
    assert_eq!(mesh.route(&v4(77)), Some(PEER));
    assert_eq!(mesh.route(&[0x20; 16]), Some(NODE));
    mesh.peers[NODE].allowed.pop();
    assert_eq!(mesh.route(&[0x20; 16]), None);
}

#[test]
fn a_prefix_has_no_address_of_the_other_family() {
    let google = Prefix::v4([8; 4], 32).ip;
    let all = |prefix| {
        let mut mesh = mesh(&[]);
        mesh.peers[NODE].allowed.push(prefix).unwrap();
        assert_eq!(mesh.check(), Ok(()));
        (mesh.route(&google), mesh.route(&[0x20; 16]))
    };
    assert_eq!(all(Prefix { ip: [0; 16], length: 0 }), (None, Some(NODE)));
    assert_eq!(all(Prefix::v4([0; 4], 0)), (Some(NODE), None));
    // Around the mapped addresses, and shorter than where they begin.
    assert_eq!(all(Prefix { ip: [0; 16], length: 80 }), (None, None));
    let short = Prefix { ip: google, length: 95 };
    assert!(!short.contains(&google));
    assert_eq!(after(|mesh| mesh.addresses[0] = Prefix { ip: v4(2), length: 95 }), Err(Invalid::Address));
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        if let Ok(read) = Configuration::parse(&bytes) {
            prop_assert_eq!(read.check(), Ok(()));
        }
    }

    /// The encoding of a mesh with some bytes changed. What still reads makes sense, and is written as it was read.
    #[test]
    fn nearly_good_bytes_are_read_or_refused(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4)) {
        let mut bytes = bytes(&mesh(&["in authority tcp 80", "out node udp 5000", "in peer icmp"]));
        for (at, byte) in changes {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(read) = Configuration::parse(&bytes) {
            prop_assert_eq!(read.check(), Ok(()));
            let mut room = [0; 4096];
            let again = read.write(&mut room).unwrap();
            prop_assert!(Configuration::parse(again).unwrap() == read);
        }
    }

    #[test]
    fn a_prefix_holds_the_addresses_that_begin_like_it(ip in any::<[u8; 16]>(), other in any::<[u8; 16]>(), length in 0u8..=128, same in 0u32..=128) {
        let mask = |bits: u32| u128::MAX.checked_shl(128 - bits).unwrap_or(0);
        let (ip, other) = (u128::from_be_bytes(ip), u128::from_be_bytes(other));
        // Alike in the first `same` bits at least.
        let near = (ip & mask(same)) | (other & !mask(same));
        // The mapped addresses have a test of their own.
        prop_assume!(![ip, near].iter().any(|ip| is_mapped(&ip.to_be_bytes())));
        let prefix = Prefix { ip: ip.to_be_bytes(), length };
        let alike = (ip ^ near).leading_zeros() >= u32::from(length);
        prop_assert_eq!(prefix.contains(&near.to_be_bytes()), alike);
        prop_assert_eq!(prefix.is_network(), ip & !mask(length.into()) == 0);
    }
}
