//! Valid inputs of the fuzz targets, for mutation.

use std::collections::BTreeMap;

use calls::{
    mesh::{Membership, Seat},
    rules::Rules,
};
use crypto::{AnchorSecret, Secret};
use lab::rehearse::transcript::{Began, Command, Event, Hash, Program, Transcript};
use policy::{Configuration, Endpoint, Peer, Prefix, Role};
use wire::{
    Fingerprint, Ip, U16,
    anchor::{Anchor, AnchorFile},
    claim::{GrantHead, kind},
    link::{Find, Hello, HelloBody, Open, OpenFor},
    order::{Isolation, Kind, Order, Release},
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    ticket::Ticket,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    admin,
    station::{ALL_NODES_MAC, udp_frame},
};

/// The seed of a target's random numbers, so that a failure comes back.
pub fn seed(name: &str) -> [u8; 32] {
    crypto::sha256(name.as_bytes())
}

/// A rehearsal that has run one command.
fn transcript() -> Vec<u8> {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("transcript");
    let (mut transcript, _) = Transcript::open(&path).expect("a new transcript");
    let (tool_hash, lab_hash) = (Hash::of(b"tool"), Hash::of(b"lab"));
    let command = Command {
        program: Program::Tool,
        segment: None,
        words: vec!["init".into()],
        values: BTreeMap::new(),
        wanted: vec![0],
        stays: false,
    };
    for event in [
        Event::Began(Began {
            tool: "tool".into(),
            tool_hash,
            lab_hash,
            nodes: 1,
            board: "native".into(),
            replays: None,
        }),
        Event::Command(command),
        Event::Ended { of: 2, code: 0, stdout: tool_hash, stderr: lab_hash },
    ] {
        transcript.append(event).expect("an entry in its place");
    }
    std::fs::read(path).expect("what was written")
}

/// The node's inner addresses in [`crate::targets::policy_packet`].
pub const INNER: [Ip; 2] = [Prefix::v4([10, 8, 0, 2], 32).ip, [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2]];

/// Inner packets of both families and all kinds, each with a byte before it for its direction.
fn inner_packets() -> Vec<Vec<u8>> {
    use smoltcp::wire::{
        Icmpv4Packet, Icmpv4Repr, IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, Ipv6Address, Ipv6Packet,
        Ipv6Repr, TcpControl, TcpPacket, TcpRepr, TcpSeqNumber, UdpPacket, UdpRepr,
    };
    let checksums = smoltcp::phy::ChecksumCapabilities::default();
    let (us, them) = (Ipv4Address::new(10, 8, 0, 2), Ipv4Address::new(10, 8, 0, 1));
    let (us6, them6) = (Ipv6Address::from(INNER[1]), Ipv6Address::from([0xfd; 16]));
    let v4 = |next_header, payload_len, fill: &dyn Fn(&mut [u8])| {
        let mut bytes = vec![0; 21 + payload_len];
        let repr = Ipv4Repr { src_addr: them, dst_addr: us, next_header, payload_len, hop_limit: 64 };
        let mut packet = Ipv4Packet::new_unchecked(&mut bytes[1..]);
        repr.emit(&mut packet, &checksums);
        fill(packet.payload_mut());
        bytes
    };
    let v6 = |next_header, payload_len, fill: &dyn Fn(&mut [u8])| {
        let mut bytes = vec![0; 41 + payload_len];
        let repr = Ipv6Repr { src_addr: them6, dst_addr: us6, next_header, payload_len, hop_limit: 64 };
        let mut packet = Ipv6Packet::new_unchecked(&mut bytes[1..]);
        repr.emit(&mut packet);
        fill(packet.payload_mut());
        bytes
    };
    let tcp = TcpRepr {
        src_port: 40_000,
        dst_port: 80,
        control: TcpControl::Syn,
        seq_number: TcpSeqNumber(1),
        ack_number: None,
        window_len: 64,
        window_scale: None,
        max_seg_size: None,
        sack_permitted: false,
        sack_ranges: [None; 3],
        timestamp: None,
        payload: &[],
    };
    let udp = UdpRepr { src_port: 40_000, dst_port: 5000 };
    let ends = (IpAddress::Ipv4(them), IpAddress::Ipv4(us));
    let ends6 = (IpAddress::Ipv6(them6), IpAddress::Ipv6(us6));
    let syn = |ends: &(IpAddress, IpAddress), bytes: &mut [u8]| {
        tcp.emit(&mut TcpPacket::new_unchecked(bytes), &ends.0, &ends.1, &checksums);
    };
    let datagram = |ends: &(IpAddress, IpAddress), bytes: &mut [u8]| {
        udp.emit(&mut UdpPacket::new_unchecked(bytes), &ends.0, &ends.1, 4, |to| to.fill(7), &checksums);
    };
    let echo = Icmpv4Repr::EchoRequest { ident: 1, seq_no: 2, data: b"ping" };
    vec![
        v4(IpProtocol::Tcp, 20, &|bytes| syn(&ends, bytes)),
        v6(IpProtocol::Tcp, 20, &|bytes| syn(&ends6, bytes)),
        v4(IpProtocol::Udp, 12, &|bytes| datagram(&ends, bytes)),
        v6(IpProtocol::Udp, 12, &|bytes| datagram(&ends6, bytes)),
        v4(IpProtocol::Icmp, 12, &|bytes| echo.emit(&mut Icmpv4Packet::new_unchecked(bytes), &checksums)),
    ]
}

/// The membership of a mesh whose one peer, an authority, is the station of the frames' seeds.
pub fn membership(rules: &Rules) -> Membership {
    let mut configuration = Configuration::default();
    let own = INNER.map(|ip| Prefix { ip, length: 128 });
    configuration.addresses = heapless::Vec::from_slice(&own).expect("room for two");
    let everyone = Prefix { ip: [0; 16], length: 0 };
    let peer = Peer {
        key: crypto::dh_public(&Secret::new([5; 32])),
        role: Role::Authority,
        preshared: None,
        endpoint: Some(Endpoint { ip: crate::station::link_local([2; 6]), port: wire::MESH_PORT }),
        allowed: heapless::Vec::from_slice(&[everyone]).expect("room for one"),
        keepalive_s: 0,
    };
    let mut membership = Membership::new_zeroed();
    (membership.phase, membership.link) = (rules.phase, rules.link);
    let Some(Endpoint { ip: endpoint, port }) = peer.endpoint else { unreachable!("it has one") };
    membership.seats[0] = Seat { key: peer.key, inner: [0xfd; 16], endpoint, port: port.into(), place: 0 };
    assert!(configuration.peers.push(peer).is_ok());
    membership.length = configuration.write(&mut membership.configuration).expect("it fits").len() as u64;
    membership
}

const SIGNERS: [u8; 3] = [2, 3, 4];

/// An anchor that two of three must sign for.
pub(crate) fn several() -> Anchor {
    let keys = SIGNERS.map(|signer| AnchorSecret::from_seed(&[signer; 32]).public().sign);
    Anchor::new(&AnchorSecret::from_seed(&[1; 32]).public(), 2, &keys).expect("a majority")
}

/// Valid inputs of a target.
pub fn of(name: &str) -> Vec<Vec<u8>> {
    let anchor = AnchorSecret::from_seed(&[1; 32]);
    let body = HelloBody { claim_key: crypto::dh_public(&Secret::new([5; 32])), ..HelloBody::new_zeroed() };
    let find = Find::sign(&anchor, 1, [1; 16], [2; 6]);
    let about = OpenFor { hello: &body, sender_ip: [1; 16], sender_mac: [2; 6] };
    let open = Open::sign(&anchor, &Secret::new([6; 32]), &about).expect("good keys");
    let hello = Hello::seal(&anchor.public(), &Secret::new([7; 32]), &body).expect("good keys");
    let datagrams = || vec![hello.as_bytes().to_vec(), find.as_bytes().to_vec(), open.as_bytes().to_vec()];
    match name {
        "datagrams" => datagrams(),
        "grant" => {
            let mut head = GrantHead::new_zeroed();
            (head.kind, head.configuration) = (kind::GRANT, U16::new(9));
            let unsigned = [head.as_bytes(), b"mesh data"].concat();
            head.title.set = AuthoritySet::alone(Authority::signer(&anchor.public()));
            head.title.warrant.set = head.title.set.hash();
            for (place, signer) in SIGNERS.into_iter().take(2).enumerate() {
                head.title.warrant = head.title.warrant.sign(&AnchorSecret::from_seed(&[signer; 32]), place);
            }
            head.title = head.title.bind(&anchor);
            assert!(head.title.verify(&several()).is_some());
            vec![unsigned, [head.as_bytes(), b"mesh data"].concat()]
        }
        "transcript" => vec![transcript()],
        "configuration" => vec![admin::mesh(), admin::largest_mesh()],
        "policy_packet" => {
            let packets = inner_packets();
            [vec![packets.concat()], packets].concat()
        }
        "anchor_file" => {
            let files = [Anchor::alone(&anchor.public()), several()].map(|anchor| AnchorFile::new(&anchor));
            let [alone, several] = files.map(|file| file.as_bytes().to_vec());
            vec![alone, several, AnchorFile::first(&anchor.public()).to_vec()]
        }
        "staged" => {
            let set = AuthoritySet::alone(Authority::signer(&anchor.public()));
            let record = AuthorityRecord::new(&[1; 32], 1, &[0; 32], &set);
            let record = record.sign_as_old(&anchor, 0).sign_as_new(&anchor, 0);
            let order = |kind, body: &[u8]| {
                let order = Order { set: set.hash(), ..Order::new(kind, body) }.sign(&anchor, 0);
                [order.as_bytes(), body].concat()
            };
            vec![
                record.as_bytes().to_vec(),
                order(Kind::Configuration, &admin::mesh()),
                order(Kind::Rejoin, Isolation::default().as_bytes()),
                order(Kind::Release, Release::to_anchor(&Anchor::alone(&anchor.public()), true).as_bytes()),
            ]
        }
        "ticket" => vec![Ticket { secret: [1; 32], fiduciary: [2; 32] }.to_text().to_vec()],
        "fingerprint" => vec![Fingerprint::of(&[7; 32]).to_string().into_bytes()],
        name if name.ends_with("_frames") => {
            let from = ([2; 6], crate::station::link_local([2; 6]));
            let to = (ALL_NODES_MAC, wire::ALL_NODES);
            let node = ([4; 6], crate::station::link_local([4; 6]));
            let tunnel = |from, to| udp_frame(from, to, (wire::MESH_PORT, wire::MESH_PORT), &[4; 32]);
            let frames = datagrams().into_iter().map(|datagram| udp_frame(from, to, (8090, 8090), &datagram));
            let mut initiation = [1; 148];
            initiation[1..4].fill(0);
            let initiation = udp_frame(from, node, (wire::MESH_PORT, wire::MESH_PORT), &initiation);
            frames.chain([tunnel(from, node), tunnel(node, from), initiation]).collect()
        }
        "claim_upgrade" => {
            let path = "07".repeat(16);
            let head = format!(
                "GET /{path} HTTP/1.1\r\nHost: node\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
            );
            vec![head.into_bytes()]
        }
        "claim_websocket" => {
            let short = [&[0x82, 0x80 | 96, 1, 2, 3, 4][..], &[7; 96]].concat();
            let long = [&[0x82, 0x80 | 126, 0, 150, 1, 2, 3, 4][..], &[7; 150]].concat();
            vec![short, long]
        }
        "store_flash" => crate::flash::seeds(),
        // Small numbers: counters, lengths and operations that nearly fit.
        _ => (0..4u64).map(|n| (0..40).flat_map(|word| (word % 5 + n).to_le_bytes()).collect()).collect(),
    }
}
