//! A domain that is started anew finds nothing of its predecessor's: no key of a session, nothing that was in its memory.
//! The test knows the keys, because it is the other end. Each is found first, so that the search can find.
//!
//! On a board, all memory of the machine is searched; on native, all that any of the node's processes has mapped.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use crypto::{Secret, dh_public, noise};
use genesis_tests::{
    PATIENCE,
    admin::{Admin, Session, fresh},
    bed::{Bed, Node, board, fused, ticket},
    fuse::{self, PLACES, PLANTED},
    process,
    station::Station,
};
use lab::NATIVE;
use policy::{Configuration, Peer, Prefix, Role};
use snow::Builder;
use sysdesc::image::assemble::Recipe;
use wire::{Key, MESH_PORT, ticket::Ticket};

/// For an answer that comes if anybody is there.
const SHORTLY: Duration = Duration::from_millis(500);

const NOWHERE: [String; 0] = [];

struct Seeker {
    node: Node,
    admin: Admin,
    station: Station,
    /// The test's own key as a peer.
    secret: Secret,
    handshakes: u32,
}

impl Seeker {
    fn new(bed: &Bed) -> Self {
        let node = bed.node(fused(&["claim", "mesh"], ticket()));
        node.wait_phase("hold");
        let admin = Admin::new(Ticket::from_text(&node.ticket()).expect("a ticket").secret);
        Self { node, admin, station: bed.station("admin", 1), secret: Secret::new(fresh()), handshakes: 0 }
    }

    /// Where either half of these bytes stands in memory: what lies across two pages of a machine is found by a half.
    fn places(&self, bytes: &[u8]) -> Vec<String> {
        bytes.chunks(bytes.len() / 2).flat_map(|half| self.node.find(half)).collect()
    }

    /// A session of the claim, with the node's identity as its first message.
    fn session(&mut self) -> (Session, wire::binding::Identity) {
        let (hello, token) = self.admin.reach(&mut self.station);
        let mut session = self.admin.session(&mut self.station, &hello, &token).expect("the gate is open");
        let identity = session.identity(&mut self.station, &hello.fiduciary).expect("the identity");
        (session, identity)
    }

    /// Claims the node, with the test as its one peer. Returns the key of the node's WireGuard.
    fn claim(&mut self) -> Key {
        let (mut session, identity) = self.session();
        let bytes = self.configuration();
        let title = self.admin.title(&identity, &bytes);
        session.grant(&mut self.station, &title, &bytes);
        let message = session.pairing(&mut self.station, &title).expect("the pairing record");
        session.acknowledge(&mut self.station, &message.record);
        self.node.wait_phase("claimed");
        self.station.vanish(session.handle);
        title.binding.mesh_key
    }

    fn configuration(&self) -> Vec<u8> {
        let allowed = [Prefix::v4([10, 8, 0, 3], 32)].into_iter().collect();
        let key = dh_public(&self.secret);
        let peer = Peer { key, role: Role::Peer, preshared: None, endpoint: None, allowed, keepalive_s: 0 };
        let configuration = Configuration {
            addresses: [Prefix::v4([10, 8, 0, 2], 24)].into_iter().collect(),
            peers: [peer].into_iter().collect(),
            ..Configuration::default()
        };
        configuration.check().expect("a configuration that makes sense");
        configuration.write(&mut [0; wire::order::MAX_CONFIGURATION]).expect("it fits").to_vec()
    }

    /// A handshake of WireGuard and the first packet after it. Returns the keys.
    fn handshake(&mut self, node: &Key) -> [[u8; 32]; 2] {
        let deadline = Instant::now() + PATIENCE;
        loop {
            self.handshakes += 1;
            let mut noise = Builder::new("Noise_IKpsk2_25519_ChaChaPoly_BLAKE2s".parse().expect("a known pattern"))
                .local_private_key(&*self.secret)
                .and_then(|builder| builder.remote_public_key(node))
                .and_then(|builder| builder.prologue(b"WireGuard v1 zx2c4 Jason@zx2c4.com"))
                .and_then(|builder| builder.psk(2, &[0; 32]))
                .and_then(Builder::build_initiator)
                .expect("good keys");
            let (mut timestamp, mut sealed) = ([0; 12], [0; 108]);
            timestamp[..8].copy_from_slice(&((1 << 62) + u64::from(self.handshakes)).to_be_bytes());
            noise.write_message(&timestamp, &mut sealed).expect("room for the initiation");
            // An answer names the initiation that it is to.
            let index = self.handshakes.to_le_bytes();
            let message = [&[1, 0, 0, 0][..], &index, &sealed].concat();
            let mac1 = noise::mac(&noise::hash(&[b"mac1----", node]), &[&message]);
            self.say(&[&message[..], &mac1, &[0; 16]].concat());
            let Some(response) =
                self.hear(|datagram| datagram.len() == 92 && datagram[0] == 2 && datagram[8..12] == index)
            else {
                assert!(Instant::now() < deadline, "no handshake:\n{}", self.node.console());
                continue;
            };
            noise.read_message(&response[12..60], &mut []).expect("a response to this");
            let keys = noise.dangerously_get_raw_split().into();
            let transport = noise.into_stateless_transport_mode().expect("the handshake is complete");
            let mut empty = [0; 16];
            transport.write_message(0, &[], &mut empty).expect("room for a tag");
            self.say(&[&[4, 0, 0, 0], &response[4..8], &[0; 8], &empty].concat());
            return keys;
        }
    }

    /// Says something to the node's WireGuard.
    fn say(&self, datagram: &[u8]) {
        let target = self.node.target();
        self.station.send(&self.station.datagram((target.mac, target.ip), (MESH_PORT, MESH_PORT), datagram));
    }

    /// The next datagram from there that is wanted.
    fn hear(&mut self, wanted: impl Fn(&[u8]) -> bool) -> Option<Vec<u8>> {
        // Ethernet, IPv6, UDP.
        const AT: usize = 14 + 40 + 8;
        let is_one = |frame: &Vec<u8>| {
            frame.len() > AT && frame[20] == 17 && frame[56..58] == MESH_PORT.to_be_bytes() && wanted(&frame[AT..])
        };
        let found = self.station.wait(SHORTLY, |station| station.heard().into_iter().find(is_one));
        found.map(|frame| frame[AT..].to_vec())
    }
}

/// The keys of a claim that runs, and those of a WireGuard session.
#[test]
fn no_key_of_a_session_outlives_a_restart() {
    if board() == NATIVE && !process::may_read() {
        return process::again_as_root("no_key_of_a_session_outlives_a_restart");
    }
    let bed = Bed::new();
    let mut seeker = Seeker::new(&bed);
    let (mut session, _) = seeker.session();
    for key in session.keys {
        assert_ne!(seeker.places(&key), NOWHERE, "the search does not find");
    }
    // Nobody acknowledges it.
    seeker.node.replace("claim", 0, || seeker.station.briefly(|station| session.send(station, b"wakes it")));
    for key in session.keys {
        assert_eq!(seeker.places(&key), NOWHERE, "a key of claim's");
    }
    seeker.station.vanish(session.handle);
    let node = seeker.claim();
    let keys = seeker.handshake(&node);
    let deadline = Instant::now() + PATIENCE;
    while keys.iter().any(|key| seeker.places(key).is_empty()) {
        assert!(Instant::now() < deadline, "the search does not find");
    }
    seeker.node.replace("mesh", 0, || seeker.say(b"wakes it"));
    for key in keys {
        assert_eq!(seeker.places(&key), NOWHERE, "a key of mesh's");
    }
    seeker.handshake(&node);
}

/// Marks in each kind of memory that a domain has.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn no_mark_in_a_domains_memory_outlives_a_restart() {
    let bed = Bed::new();
    let mut seeker = Seeker::new(&bed);
    let mut finds = |seeker: &mut Seeker| {
        let hello = seeker.admin.discover(&mut seeker.station);
        seeker.admin.try_open(&mut seeker.station, &hello, SHORTLY);
    };
    seeker.leaves_no_mark("claim", &mut finds);
    seeker.claim();
    seeker.leaves_no_mark("mesh", &mut |seeker| seeker.say(b"wakes it"));
}

impl Seeker {
    fn leaves_no_mark(&mut self, domain: &str, wake: &mut dyn FnMut(&mut Self)) {
        let own = end_of_own_memory(domain);
        let word = u64::from_le_bytes(fresh()[..8].try_into().expect("eight bytes"));
        let marks = || {
            let bytes = move |place| fuse::mark(word, place).map(u64::to_le_bytes).concat();
            let has = move |place| place != fuse::OWN || own != 0;
            PLACES.into_iter().filter(move |(place, _)| has(*place)).map(move |(place, name)| (bytes(place), name))
        };
        self.node.plant(domain, word, own);
        let deadline = Instant::now() + PATIENCE;
        while !self.node.fuse_says(domain, PLANTED) {
            assert!(Instant::now() < deadline, "{domain} plants nothing:\n{}", self.node.console());
            wake(self);
        }
        for (mark, place) in marks() {
            // What is in registers stands in memory once others have used them.
            while self.node.find(&mark).is_empty() {
                assert!(Instant::now() < deadline, "no mark in {place} of {domain}");
            }
        }
        self.node.replace(domain, PLANTED, || ());
        for (mark, place) in marks() {
            let there = self.node.find(&mark);
            assert_eq!(there, NOWHERE, "{place} of {domain} outlives a restart");
        }
    }
}

/// Where the region ends that the description gives to the domain alone; 0: it gives none.
fn end_of_own_memory(domain: &str) -> u64 {
    let system = Recipe::new(&board(), "release").system(Path::new("/")).expect("the description");
    let domains = system.all_domains();
    let maps = &domains.iter().find(|of| of.name == domain).expect("a domain").maps;
    let own = maps.iter().find(|map| map.region == format!("{domain}_memory"));
    own.map_or(0, |map| map.vaddr + system.region(&map.region).expect("a region that is mapped").size)
}
