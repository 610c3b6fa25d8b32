//! One function for each parser, ring and state machine that takes bytes from a peer: it must return,
//! whatever the bytes are, and what it accepts must hold its invariants.
//!
//! `tests/tests/targets.rs` runs each for seconds on stable; `make fuzz` runs each under libFuzzer.

pub mod store;
pub mod wireguard;

use std::sync::atomic::{AtomicU64, Ordering};

use calls::{
    Domain,
    alarm::Alarm,
    console::SLOT,
    entropy::Samples,
    keystore as keystore_calls, lifecycle,
    mesh::Stations,
    params::Params,
    rules::{MeshLink, Rules},
};
use lab::rehearse::transcript::{Hash, Story};
use perimeter::{Side, decide};
use policy::{Configuration, Direction, Flows, Packet, Peer, Prefix, Protocol, Role, Summary};
use shm::{ReadOnly, ReadWrite, cell, mailbox, mailbox::Patience, ring, ring::FRAME_SLOT};
use wire::{
    Fingerprint, Phase,
    anchor::{AnchorFile, AnchorIn},
    claim,
    link::{Answer, Datagram, Find, Hello, Open},
    order::Release,
    set::AuthoritySet,
    staged::Staged,
    ticket::Ticket,
    title::Title,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{seeds, station::link_local};

/// Takes any bytes.
pub type Target = fn(&[u8]);

/// Every target, by the name of its file in `fuzz/fuzz_targets`.
pub const TARGETS: &[(&str, Target)] = &[
    ("datagrams", datagrams),
    ("grant", grant),
    ("configuration", configuration),
    ("policy_packet", policy_packet),
    ("anchor_file", anchor_file),
    ("staged", staged),
    ("ticket", ticket),
    ("transcript", transcript),
    ("fingerprint", fingerprint),
    ("ring_peer", ring_peer),
    ("mailbox_peer", mailbox_peer),
    ("cell_peer", cell_peer),
    ("perimeter_frames", perimeter_frames),
    ("beacon_frames", beacon_frames),
    ("mesh_frames", mesh_frames),
    ("claim_upgrade", claim_upgrade),
    ("claim_websocket", claim_websocket),
    ("keystore_clients", keystore_clients),
    ("lifecycle_clients", lifecycle_clients),
    ("store_flash", store::flash),
    ("wireguard_receive", wireguard::receive),
    ("wireguard_pair", wireguard::pair),
];

/// A datagram is taken at its own length and header only, and is then the same bytes.
pub fn datagrams(data: &[u8]) {
    fn check<D: Datagram>(data: &[u8]) -> bool {
        D::parse(data).is_some_and(|datagram| {
            assert_eq!(datagram.as_bytes(), data);
            true
        })
    }
    let kinds = [check::<Hello>(data), check::<Find>(data), check::<Open>(data), check::<Answer>(data)];
    assert!(kinds.iter().filter(|taken| **taken).count() <= 1);
}

pub fn grant(data: &[u8]) {
    if let Some((head, configuration)) = claim::parse_grant(data) {
        assert_eq!([head.as_bytes(), configuration].concat(), data);
        assert!(configuration.len() <= claim::MAX_CONFIGURATION);
        let Title { warrant, set, .. } = &head.title;
        if head.title.verify(&seeds::several()).is_some() {
            assert!(set.check().is_ok() && warrant.set == set.hash() && warrant.zero == [0; 5]);
        }
    }
}

/// A configuration that reads makes sense, and is written as the one that it was read as.
pub fn configuration(data: &[u8]) {
    let Ok(configuration) = Configuration::parse(data) else { return };
    assert_eq!(configuration.check(), Ok(()));
    let mut room = [0; claim::MAX_CONFIGURATION];
    let again = configuration.write(&mut room).expect("no configuration is longer");
    // Not the same bytes: numbers may be written in more than one way.
    assert!(again.len() <= data.len().max(4) && Configuration::parse(again).is_ok_and(|again| again == configuration));
    for peer in &configuration.peers {
        for prefix in &peer.allowed {
            assert!(configuration.route(&prefix.ip).is_some());
        }
    }
}

/// An inner packet is at the front of what it was read from, and both ends of a flow agree about it.
pub fn policy_packet(data: &[u8]) {
    let mut configuration = Configuration::default();
    let mesh = Prefix { ip: [0; 16], length: 0 };
    for (own, everyone) in [(seeds::INNER[0], mesh), (seeds::INNER[1], Prefix::v4([0; 4], 0))] {
        configuration.addresses.push(Prefix { ip: own, length: 128 }).expect("room for two");
        let key = [configuration.peers.len() as u8; 32];
        let allowed = heapless::Vec::from_slice(&[everyone]).expect("room for one");
        let peer = Peer { key, role: Role::Node, preshared: None, endpoint: None, allowed, keepalive_s: 0 };
        assert!(configuration.peers.push(peer).is_ok());
    }
    let (mut closed, mut open) = (Flows::new(), Flows::new());
    let mut rest = data;
    for now in 0..16 {
        let Some((direction, more)) = rest.split_first() else { return };
        let Ok(packet) = Packet::parse(more) else { return };
        assert!(more.starts_with(packet.bytes) && packet.bytes.ends_with(packet.payload));
        assert_eq!(Packet::parse(packet.bytes), Ok(packet));
        let Summary { source, destination, .. } = packet.summary;
        let is_in = direction % 2 == 0;
        // Without a rule nothing is there, and nothing makes it so.
        assert!(closed.outbound(now, &configuration, false, &packet.summary).is_err());
        if let Some(peer) = configuration.route(&source) {
            assert!(closed.inbound(now, &configuration, false, peer, &packet.summary).is_err());
            assert_eq!(closed.count(now), 0);
            let flow = policy::Rule { direction: Direction::In, role: Role::Node, protocol: Protocol::Tcp, port: 80 };
            configuration.rules = heapless::Vec::from_slice(&[flow]).expect("room for one");
            let passes = if is_in {
                open.inbound(now, &configuration, false, peer, &packet.summary).is_ok()
            } else {
                open.outbound(now, &configuration, false, &packet.summary).is_ok()
            };
            let own = if is_in { destination } else { source };
            assert!(!passes || (packet.summary.protocol() == Protocol::Tcp && seeds::INNER.contains(&own)));
            configuration.rules.clear();
        }
        assert!(open.count(now) <= 16);
        rest = &more[packet.bytes.len()..];
    }
}

pub fn anchor_file(data: &[u8]) {
    if let AnchorIn::Some(anchor) = AnchorFile::read_file(data) {
        let (first, file) = (AnchorFile::first(&anchor.reception), AnchorFile::new(&anchor));
        assert!(file.as_bytes() == data || first == *data);
        assert_eq!(file.read(), AnchorIn::Some(anchor));
    }
}

/// Chunks, and what is made of them: whatever it says, nobody has signed it.
pub fn staged(data: &[u8]) {
    let _ = wire::staged::parse_chunk(data);
    let Some(staged) = wire::staged::parse(data) else { return };
    let _ = staged.short();
    match staged {
        Staged::Order(order, body) => {
            let _ = (order.carries(body), order.kind(), keystore_calls::OrderRequest::new(order, body));
            if let Ok((release, _)) = Release::read_from_prefix(body) {
                let set = AuthoritySet::new_zeroed();
                let _ = release.next(&set, &release.anchor);
            }
        }
        Staged::Record(record) => {
            let _ = (record.hash(), record.set.check());
            let before = record.sequence.get().wrapping_sub(1);
            let verified = record.verify(&record.set, &record.fleet, before, &record.previous);
            assert!(verified.is_err() || record.old != [[0; 64]; 7]);
        }
    }
}

/// A ticket that reads is the one that it prints as.
pub fn ticket(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(ticket) = Ticket::from_text(text) {
        let again = ticket.to_text();
        let again = std::str::from_utf8(&*again).expect("ASCII");
        assert!(Ticket::from_text(again).is_ok_and(|again| again.secret == ticket.secret));
    }
}

/// A transcript of a rehearsal that holds is its own lines, each with the hash of the one before.
pub fn transcript(data: &[u8]) {
    let Ok(story) = Story::read(data) else { return };
    let lines: Vec<&[u8]> = data.split_inclusive(|byte| *byte == b'\n').filter(|line| line.ends_with(b"\n")).collect();
    assert_eq!((lines.len(), story.hashes.len()), (story.entries.len(), story.entries.len()));
    assert_eq!(lines.concat().len() + story.torn, data.len());
    let mut previous = Hash::default();
    for (entry, line) in story.entries.iter().zip(lines) {
        assert_eq!(entry.previous, previous);
        previous = Hash::of(&line[..line.len() - 1]);
    }
    assert_eq!(previous, story.head());
}

pub fn fingerprint(data: &[u8]) {
    if let Some(read) = std::str::from_utf8(data).ok().and_then(Fingerprint::parse) {
        assert!(Fingerprint::parse(&read.to_string()).is_some_and(|again| again.0 == read.0));
    }
}

/// A region as the other end may leave it, and what it may do to it meanwhile.
fn region(data: &[u8], words: usize) -> Vec<AtomicU64> {
    let region: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    scribble(&region, data);
    region
}

fn scribble(region: &[AtomicU64], data: &[u8]) {
    for (word, chunk) in region.iter().zip(data.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

/// The other end of a ring writes what it likes, twice: each frame that comes out fits, and the ring goes on.
pub fn ring_peer(data: &[u8]) {
    let theirs = region(data, 512);
    let ours = region(&[], 512);
    let mut end = ring::Duplex::<SLOT>::new(ReadWrite::new(&ours), ReadOnly::new(&theirs)).expect("large enough");
    let mut frame = [0; SLOT];
    for half in [data, data.get(data.len() / 2..).unwrap_or_default()] {
        scribble(&theirs, half);
        // A producer cannot have more waiting than there are slots.
        for round in 0.. {
            match end.recv(&mut frame) {
                Ok(None) => break,
                Ok(Some(length)) => assert!(length <= ring::capacity(SLOT)),
                Err(shm::Misbehaved) => {}
            }
            assert!(round <= 512 * 8 / SLOT);
        }
        let _ = end.send(&frame[..SLOT / 2]);
    }
}

/// Either end of a mailbox against any bytes of the other.
pub fn mailbox_peer(data: &[u8]) {
    let theirs = region(data, 1024);
    let ours = region(&[], 1024);
    let server =
        mailbox::Server::<{ lifecycle::for_claim::MAX_REQUEST }>::new(ReadOnly::new(&theirs), ReadWrite::new(&ours));
    let mut server = server.expect("large enough");
    scribble(&theirs, data.get(1..).unwrap_or_default());
    if let Ok(Some(call)) = server.take() {
        let _ = call.parse::<lifecycle::for_claim::Stage>();
        server.refuse(1);
    }
    assert!(matches!(server.take(), Ok(None)));
    let mut client = mailbox::Client::new(ReadWrite::new(&ours), ReadOnly::new(&theirs)).expect("large enough");
    let patience = Patience { each: 10, tries: 3 };
    client.call::<keystore_calls::for_claim::Commit>(
        &FromBytes::read_from_bytes(&[7; size_of::<wire::title::Title>()]).expect("any bytes"),
        0,
        patience,
    );
    scribble(&theirs, data.get(2..).unwrap_or_default());
    // One outcome, and never none, however often the request is sent again.
    let outcomes = (0..=4).filter(|round| client.poll::<keystore_calls::for_claim::Commit>(10 * round).is_some());
    assert_eq!(outcomes.count(), 1);
    client.nudged();
}

/// A reader of any bytes gets whole values, each sequence number once.
pub fn cell_peer(data: &[u8]) {
    let theirs = region(data, 64);
    let mut reader = cell::Reader::<[u8; 100]>::new(ReadOnly::new(&theirs)).expect("large enough");
    reader.poll();
    assert!(reader.poll().is_none());
    scribble(&theirs, data.get(8..).unwrap_or_default());
    let odd = theirs[0].load(Ordering::Relaxed) % 2 == 1;
    assert!(!(odd && reader.poll().is_some()));
}

/// Rules under which the most may pass.
fn open_rules() -> Rules {
    let peer = link::Station::new(link_local([2; 6]), [2; 6]);
    let link = link::Station::new(link_local([4; 6]), [4; 6]);
    Rules { phase: Phase::Hold as u64, link, gate: 1, peer, until: 10, mesh: MeshLink::NONE }
}

/// A frame that passes is one of few shapes; a closed node passes nothing, and a member only what is the mesh's.
pub fn perimeter_frames(data: &[u8]) {
    let open = open_rules();
    let closed = Rules { phase: Phase::Claimed as u64, ..open };
    let member = Rules { mesh: MeshLink { member: 1, ..MeshLink::NONE }, ..closed };
    let mut stations = Stations { count: 1, ..Stations::NONE };
    stations.ips[0] = link_local([2; 6]);
    for source in [Side::Net, Side::Beacon, Side::Claim, Side::Mesh] {
        match decide(&member, &stations, 0, source, data) {
            Ok(Side::Net) => assert!(source == Side::Mesh && data[6..12] == member.link.mac),
            Ok(Side::Mesh) => assert!(source == Side::Net && data[6..12] != member.link.mac),
            Ok(Side::Beacon) | Ok(Side::Claim) => panic!("the claim is over"),
            Err(_) => {}
        }
        assert!(decide(&closed, &Stations::NONE, 0, source, data).is_err());
        let ungated = decide(&open, &Stations::NONE, 10, source, data);
        assert!(source != Side::Claim || ungated.is_err());
        let passed = decide(&open, &Stations::NONE, 0, source, data).is_ok();
        // Ethernet II and IPv6, from a host, and no longer than a link carries.
        assert!(!passed || (data.len() <= 1514 && data[12..14] == [0x86, 0xdd] && data[6] & 1 == 0));
        assert!(!passed || source == Side::Net || data[6..12] == open.link.mac);
    }
}

/// A beacon whose keystore never answers says nothing, whatever it hears.
pub fn beacon_frames(data: &[u8]) {
    let regions: Vec<Vec<AtomicU64>> = (0..8).map(|_| region(&[], 1024)).collect();
    let (ro, rw) = (|i: usize| ReadOnly::new(&regions[i]), |i: usize| ReadWrite::new(&regions[i]));
    let mut rules = cell::Writer::new(rw(0)).expect("large enough");
    rules.publish(&open_rules());
    let mut net = ring::Duplex::<FRAME_SLOT>::new(rw(1), ro(2)).expect("large enough");
    let mut ports = beacon::Ports {
        rules: cell::Reader::new(ro(0)).expect("large enough"),
        lifecycle: mailbox::Client::new(rw(3), ro(4)).expect("large enough"),
        keystore: mailbox::Client::new(rw(5), ro(6)).expect("large enough"),
        perimeter: ring::Duplex::new(rw(2), ro(1)).expect("large enough"),
        alarm: Alarm::new(rw(7)).expect("large enough"),
    };
    let mut beacon = beacon::Beacon::new(Params::DEFAULT);
    for now in 0..4 {
        let _ = net.send(data);
        beacon.step(now * 1_000_000, &mut ports);
        // Bytes of a lying keystore, too.
        scribble(&regions[6], data.get(now as usize..).unwrap_or_default());
    }
    assert_eq!(net.recv(&mut [0; FRAME_SLOT]), Ok(None));
}

/// A member of a mesh hears frames that no peer has sealed, and a workload that says what it likes: it sends nothing
/// but what the perimeter lets out, and no datagram that is not WireGuard's.
pub fn mesh_frames(data: &[u8]) {
    use ::mesh::{Memory, Mesh, Ports};
    use keystore_calls::for_mesh::{MAX_REQUEST, MeshKey, MeshRandom};
    let rules =
        Rules { phase: Phase::Claimed as u64, gate: 0, mesh: MeshLink { member: 1, ..MeshLink::NONE }, ..open_rules() };
    let regions: Vec<Vec<AtomicU64>> = (0..15).map(|_| region(&[], 1024)).collect();
    // Counts are numbers, whatever they are.
    scribble(&regions[13], data);
    scribble(&regions[14], data);
    let (ro, rw) = (|i: usize| ReadOnly::new(&regions[i]), |i: usize| ReadWrite::new(&regions[i]));
    let mut net = ring::Duplex::<FRAME_SLOT>::new(rw(1), ro(2)).expect("large enough");
    let mut tenant = ring::Duplex::<FRAME_SLOT>::new(rw(3), ro(4)).expect("large enough");
    let mut keystore = mailbox::Server::<MAX_REQUEST>::new(ro(5), rw(6)).expect("large enough");
    let mut membership = cell::Writer::new(rw(0)).expect("large enough");
    membership.publish(&seeds::membership(&rules));
    let mut ports = Ports {
        keystore: mailbox::Client::new(rw(5), ro(6)).expect("large enough"),
        lifecycle: mailbox::Client::new(rw(7), ro(8)).expect("large enough"),
        membership: cell::Reader::new(ro(0)).expect("large enough"),
        perimeter: ring::Duplex::new(rw(2), ro(1)).expect("large enough"),
        stations: cell::Writer::new(rw(9)).expect("large enough"),
        drops: cell::Reader::new(ro(13)).expect("large enough"),
        account: cell::Reader::new(ro(14)).expect("large enough"),
        workload: ring::Duplex::new(rw(4), ro(3)).expect("large enough"),
        tenancy: cell::Writer::new(rw(10)).expect("large enough"),
        heartbeat: cell::Reader::new(ro(11)).expect("large enough"),
        alarm: Alarm::new(rw(12)).expect("large enough"),
    };
    let mut memory = Box::new(Memory::new());
    let mut mesh = Mesh::new(&mut memory, &Params::DEFAULT);
    for now in 0..8 {
        mesh.step(now, &mut ports);
        match keystore.take() {
            Ok(Some(call)) if call.parse::<MeshKey>().is_some() => keystore.reply::<MeshKey>(&[9; 32]),
            Ok(Some(call)) if call.parse::<MeshRandom>().is_some() => keystore.reply::<MeshRandom>(&[7; 32]),
            // Bytes of a lying keystore, too.
            _ => scribble(&regions[6], data.get(now as usize..).unwrap_or_default()),
        }
        let stations = ports.stations.latest();
        assert!(now < 4 || stations.count == 1, "the mesh is up");
        let _ = (net.send(data), tenant.send(data));
        let mut frame = [0; FRAME_SLOT];
        while let Ok(Some(len)) = net.recv(&mut frame) {
            assert_eq!(decide(&rules, &stations, now, Side::Mesh, &frame[..len]), Ok(Side::Net));
        }
        assert_eq!(tenant.recv(&mut frame), Ok(None), "nobody has a session");
    }
}

/// The head is judged the same however it is cut, and is never longer than its buffer.
pub fn claim_upgrade(data: &[u8]) {
    use ::claim::upgrade::{Arrived, Head, RequestLine};
    let line = RequestLine::new(&[7; 16]);
    let (mut whole, mut pieces) = (Head::new(), Head::new());
    let first = whole.feed(data);
    let mut taken = 0;
    let mut last = Arrived::Part;
    for byte in data {
        let (count, arrived) = pieces.feed(std::slice::from_ref(byte));
        (taken, last) = (taken + count, arrived);
        if arrived != Arrived::Part {
            break;
        }
    }
    assert_eq!(first, (taken, last));
    assert_eq!(whole.accept(&line), pieces.accept(&line));
}

/// A message is the same however it is cut, and always of an allowed length.
pub fn claim_websocket(data: &[u8]) {
    use ::claim::ws::Receiver;
    let allowed = 4..=200;
    let mut whole = [0; 200];
    let first = Receiver::new().feed(data, &allowed, &mut whole);
    let mut pieces = [0; 200];
    let mut receiver = Receiver::new();
    let mut outcome = Ok((0, None));
    for (at, byte) in data.iter().enumerate() {
        outcome = receiver.feed(std::slice::from_ref(byte), &allowed, &mut pieces);
        match &mut outcome {
            Ok((taken, None)) => *taken += at,
            Ok((taken, Some(_))) => {
                *taken += at;
                break;
            }
            Err(_) => break,
        }
    }
    match (first, outcome) {
        (Ok((taken, length)), Ok(end)) => {
            assert_eq!((taken, length), end);
            assert_eq!(whole, pieces);
            assert!(length.is_none_or(|length| allowed.contains(&length)));
        }
        (first, last) => assert_eq!(first.is_err(), last.is_err()),
    }
}

/// Four clients and a source that write what they like: the keystore answers each, and goes on.
pub fn keystore_clients(data: &[u8]) {
    use keystore::{Feed, Keystore, Ports};
    let regions: Vec<Vec<AtomicU64>> = (0..15).map(|_| region(&[], 512)).collect();
    let (ro, rw) = (|i: usize| ReadOnly::new(&regions[i]), |i: usize| ReadWrite::new(&regions[i]));
    let mut ports = Ports {
        entropy: Feed::new(ro(0)).expect("large enough"),
        ticket: cell::Writer::new(rw(1)).expect("large enough"),
        lifecycle: mailbox::Server::new(ro(2), rw(3)).expect("large enough"),
        beacon: mailbox::Server::new(ro(4), rw(5)).expect("large enough"),
        claim: mailbox::Server::new(ro(6), rw(7)).expect("large enough"),
        mesh: mailbox::Server::new(ro(10), rw(11)).expect("large enough"),
        ticket_shown: cell::Reader::new(ro(12)).expect("large enough"),
        store: mailbox::Client::new(rw(13), ro(14)).expect("large enough"),
    };
    let mut core = Keystore::new(ro(8), ro(9));
    let mut store = EmptyStore(mailbox::Server::new(ro(13), rw(14)).expect("large enough"));
    let mut source = cell::Writer::<Samples>::new(rw(0)).expect("large enough");
    // A good start, so that there are keys to be had; its bytes are those of a hash chain.
    for number in 1..=16 {
        let raw = (0..8u64).flat_map(|n| crypto::sha256(&(number * 8 + n).to_le_bytes()));
        let mut samples = Samples { number, raw: [0; 256], jitter: [0; 32] };
        samples.raw.iter_mut().zip(raw).for_each(|(to, from)| *to = from);
        source.publish(&samples);
        store.run(&mut core, &mut ports);
    }
    for (round, end) in [2, 4, 6, 10, 0, 12, 14].into_iter().enumerate() {
        scribble(&regions[end], data.get(round * 3..).unwrap_or_default());
        store.run(&mut core, &mut ports);
    }
    let mut client = mailbox::Client::new(rw(2), ro(3)).expect("large enough");
    client.call::<keystore_calls::for_lifecycle::Status>(&(), 0, Patience::ENDLESS);
    store.run(&mut core, &mut ports);
    let answered = client.poll::<keystore_calls::for_lifecycle::Status>(0);
    assert!(matches!(answered, Some(Ok(_))), "the keystore stands still");
}

/// A store that finds nothing and keeps nothing, and says otherwise.
struct EmptyStore<'a>(mailbox::Server<'a, { calls::store::for_keystore::MAX_REQUEST }>);

impl EmptyStore<'_> {
    fn run(&mut self, core: &mut keystore::Keystore, ports: &mut keystore::Ports<'_>) {
        use calls::store::{FindReply, for_keystore::*};
        use shm::mailbox::Operation;
        for _ in 0..8 {
            core.step(ports);
            match self.0.take() {
                Ok(Some(call)) if call.op == Find::OP => self.0.reply::<Find>(&FindReply::new_zeroed()),
                Ok(Some(call)) if call.op == Append::OP => self.0.reply::<Append>(&()),
                Ok(Some(call)) if call.op == Purge::OP => self.0.reply::<Purge>(&()),
                Ok(_) | Err(_) => {}
            }
        }
    }
}

/// A lifecycle whose keystore says nothing opens nothing, whatever its clients write.
pub fn lifecycle_clients(data: &[u8]) {
    use ::lifecycle::{Lifecycle, Ports};
    let regions: Vec<Vec<AtomicU64>> = (0..19).map(|_| region(&[], 1024)).collect();
    let (ro, rw) = (|i: usize| ReadOnly::new(&regions[i]), |i: usize| ReadWrite::new(&regions[i]));
    let mut ports = Ports {
        keystore: mailbox::Client::new(rw(0), ro(1)).expect("large enough"),
        perimeter: cell::Writer::new(rw(2)).expect("large enough"),
        report: cell::Reader::new(ro(3)).expect("large enough"),
        beacon_rules: cell::Writer::new(rw(4)).expect("large enough"),
        beacon: mailbox::Server::new(ro(5), rw(6)).expect("large enough"),
        claim_gate: cell::Writer::new(rw(7)).expect("large enough"),
        claim: mailbox::Server::new(ro(8), rw(9)).expect("large enough"),
        console: ring::Duplex::new(rw(10), ro(11)).expect("large enough"),
        alarm: Alarm::new(rw(12)).expect("large enough"),
        membership: cell::Writer::new(rw(13)).expect("large enough"),
        account: cell::Writer::new(rw(18)).expect("large enough"),
        mesh: mailbox::Server::new(ro(14), rw(15)).expect("large enough"),
        store: mailbox::Client::new(rw(16), ro(17)).expect("large enough"),
        watches: core::array::from_fn(|at| (Domain::CHILDREN[at], ro(14))),
    };
    let mut core = Lifecycle::new(Params::DEFAULT);
    for (round, end) in [3, 5, 8, 11, 14, 17].into_iter().enumerate() {
        scribble(&regions[end], data.get(round * 5..).unwrap_or_default());
        core.step(round as u64, &mut ports);
    }
    assert!(!core.phase().listens());
}
