//! An administrator at the level of messages: it does one step at a time, so that a test can stop,
//! repeat or alter any of them. WebSocket and Noise are tungstenite's and snow's.

use std::{io, net::Ipv6Addr, time::Duration};

use crypto::{AnchorPublic, AnchorSecret, Secret};
use policy::{Configuration, Peer, Prefix, Preshared, Underlay};
use smoltcp::iface::SocketHandle;
use snow::{Builder, HandshakeState, TransportState};
use tungstenite::{Message, WebSocket, protocol::Role};
use wire::{
    CLAIM_PORT, Key, U16, U64,
    binding::{ForkRecord, Identity, PairingRecord, configuration_hash},
    claim::{self, Acknowledgement, GrantHead, IdentityMessage, PairingMessage, kind},
    link::{Answer, Datagram, Find, Hello, HelloBody, Open, OpenFor},
    set::{Authority, AuthoritySet},
    title::Title,
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use crate::{
    PATIENCE,
    station::{Station, Stream},
};

/// How long to wait for what may have been lost before it is sent again.
const REPEAT: Duration = Duration::from_millis(300);

pub struct Admin {
    pub anchor: AnchorSecret,
    pub counter: u64,
}

/// What a test does with a claim that goes wrong: it has ended without a word from the node.
#[derive(Debug)]
pub struct Silence;

impl Admin {
    pub fn new(seed: [u8; 32]) -> Self {
        Self { anchor: AnchorSecret::from_seed(&seed), counter: 1_000 }
    }

    pub fn public(&self) -> AnchorPublic {
        self.anchor.public()
    }

    /// A find with the next counter.
    pub fn find(&mut self, station: &Station) -> Find {
        self.counter += 1;
        Find::sign(&self.anchor, self.counter, station.ip, station.mac)
    }

    /// The next hello for this administrator.
    pub fn hear_hello(&self, station: &mut Station, patience: Duration) -> Option<HelloBody> {
        station.hear(patience, |payload| Hello::parse(payload)?.open(&self.anchor))
    }

    /// Finds the node, repeating as an administrator does.
    pub fn discover(&mut self, station: &mut Station) -> HelloBody {
        let tries = PATIENCE.as_millis() / REPEAT.as_millis();
        for _ in 0..tries {
            let find = self.find(station);
            station.announce(find.as_bytes());
            if let Some(hello) = self.hear_hello(station, 3 * REPEAT) {
                return hello;
            }
        }
        panic!("no hello in {PATIENCE:?}");
    }

    pub fn open(&self, station: &Station, hello: &HelloBody, ephemeral: &Secret) -> Open {
        let about = OpenFor { hello, sender_ip: station.ip, sender_mac: station.mac };
        Open::sign(&self.anchor, ephemeral, &about).expect("N is a good key")
    }

    /// Sends one open and returns the token, if an answer comes.
    pub fn try_open(&self, station: &mut Station, hello: &HelloBody, patience: Duration) -> Option<[u8; 16]> {
        let ephemeral = Secret::new(fresh());
        let open = self.open(station, hello, &ephemeral);
        station.announce(open.as_bytes());
        station.hear(patience, |payload| Answer::parse(payload)?.open(&hello.claim_key, &ephemeral, &open))
    }

    /// Finds the node and opens its gate, if it answers this one time.
    pub fn try_reach(&mut self, station: &mut Station) -> Option<(HelloBody, [u8; 16])> {
        let find = self.find(station);
        station.announce(find.as_bytes());
        let hello = self.hear_hello(station, 3 * REPEAT)?;
        let token = self.try_open(station, &hello, 3 * REPEAT)?;
        Some((hello, token))
    }

    /// Finds the node and opens its gate.
    pub fn reach(&mut self, station: &mut Station) -> (HelloBody, [u8; 16]) {
        for _ in 0..20 {
            let hello = self.discover(station);
            if let Some(token) = self.try_open(station, &hello, 10 * REPEAT) {
                return (hello, token);
            }
        }
        panic!("no answer to any open");
    }

    /// TCP, the upgrade and the Noise handshake.
    pub fn session(&self, station: &mut Station, hello: &HelloBody, token: &[u8; 16]) -> Result<Session, Silence> {
        let handle = connect(station, hello)?;
        let path = format!("/{}", wire::Hex(token));
        upgrade(station.stream(handle), &path).map_err(|_| Silence)?;
        self.handshake(station, handle, hello, token)
    }

    /// The Noise handshake over an upgraded connection.
    pub fn handshake(
        &self,
        station: &mut Station,
        handle: SocketHandle,
        hello: &HelloBody,
        token: &[u8; 16],
    ) -> Result<Session, Silence> {
        self.initiate(station, handle, hello, token).complete(station)
    }

    /// Sends Noise message 1.
    pub fn initiate(
        &self,
        station: &mut Station,
        handle: SocketHandle,
        hello: &HelloBody,
        token: &[u8; 16],
    ) -> Initiated {
        let prologue = claim::prologue(&hello.fiduciary, &hello.nonce, token);
        let params = "Noise_IK_25519_ChaChaPoly_BLAKE2s".parse().expect("a known pattern");
        let mut noise = Builder::new(params)
            .local_private_key(&*self.anchor.dh)
            .and_then(|builder| builder.remote_public_key(&hello.claim_key))
            .and_then(|builder| builder.prologue(&prologue))
            .and_then(Builder::build_initiator)
            .expect("good keys");
        let mut message = [0; claim::INITIATION];
        let length = noise.write_message(&[], &mut message).expect("room for message 1");
        assert_eq!(length, claim::INITIATION);
        send(station, handle, &message);
        Initiated { handle, noise }
    }

    /// A binding for the node, with this administrator as its one authority.
    pub fn title(&mut self, identity: &Identity, configuration: &[u8]) -> Title {
        self.counter += 1;
        let mut title = Title::new_zeroed();
        title.warrant.fiduciary = identity.fiduciary;
        title.binding.nonce = identity.nonce;
        title.binding.mesh_key = identity.mesh_key;
        title.warrant.fork = ForkRecord::hash(identity.fork());
        title.warrant.fleet = *b"a fleet of system tests, of one ";
        title.warrant.epoch = U64::new(identity.epoch.get() + 1);
        title.binding.counter = U64::new(self.counter);
        title.warrant.configuration = configuration_hash(configuration);
        title.set = self.set_of(configuration);
        title.sign(&self.anchor)
    }

    /// The set of those whom a configuration has as authorities: this administrator is the first, or alone without a place.
    fn set_of(&self, configuration: &[u8]) -> AuthoritySet {
        let peers = Configuration::parse(configuration).map(|read| read.peers).unwrap_or_default();
        let authorities = peers.iter().filter(|peer| peer.role == policy::Role::Authority).zip(0..);
        let keys = |place| if place == 0 { self.public() } else { signer(place).public() };
        let set: Vec<Authority> = authorities.map(|(peer, place)| placed(&keys(place), peer)).collect();
        match set.len() {
            0 => AuthoritySet::alone(Authority::signer(&self.public())),
            count => AuthoritySet::new(count as u8 / 2 + 1, &set).expect("a set that can own a node"),
        }
    }

    /// The whole claim. Returns what an administrator would keep.
    pub fn claim(&mut self, station: &mut Station, configuration: &[u8]) -> Result<Pairing, Silence> {
        let (hello, token) = self.reach(station);
        let mut session = self.session(station, &hello, &token)?;
        let identity = session.identity(station, &hello.fiduciary)?;
        let title = self.title(&identity, configuration);
        session.grant(station, &title, configuration);
        let message = session.pairing(station, &title)?;
        session.acknowledge(station, &message.record);
        Ok(Pairing { title, record: message.record, rivals: message.rivals.get() })
    }
}

/// Whoever signs beside the administrator, at this place of a set.
pub fn signer(place: usize) -> AnchorSecret {
    AnchorSecret::from_seed(&[0xa0 + place as u8; 32])
}

/// An authority that is in the mesh as this peer.
pub fn placed(keys: &AnchorPublic, peer: &Peer) -> Authority {
    let (endpoint, port) = peer.endpoint.map_or(([0; 16], 0), |at| (at.ip, at.port));
    let inner = peer.allowed.iter().find(|prefix| !prefix.is_v4()).map_or([0xfd; 16], |prefix| prefix.ip);
    Authority { mesh: peer.key, inner, endpoint, port: U16::new(port), ..Authority::signer(keys) }
}

/// Both sides' agreement.
pub struct Pairing {
    pub title: Title,
    pub record: PairingRecord,
    pub rivals: u32,
}

/// A Noise handshake that waits for message 2.
pub struct Initiated {
    pub handle: SocketHandle,
    noise: HandshakeState,
}

impl Initiated {
    pub fn complete(mut self, station: &mut Station) -> Result<Session, Silence> {
        let response = receive(station, self.handle)?;
        self.noise.read_message(&response, &mut []).map_err(|_| Silence)?;
        let hash: [u8; 32] = self.noise.get_handshake_hash().try_into().expect("BLAKE2s gives 32 bytes");
        let keys = self.noise.dangerously_get_raw_split().into();
        let noise = self.noise.into_transport_mode().expect("the handshake is complete");
        Ok(Session { handle: self.handle, noise, hash, keys })
    }
}

/// A Noise session with a node.
pub struct Session {
    pub handle: SocketHandle,
    pub noise: TransportState,
    pub hash: [u8; 32],
    /// The two that messages are sealed with.
    pub keys: [[u8; 32]; 2],
}

impl Session {
    /// The node's identity, checked.
    pub fn identity(&mut self, station: &mut Station, expected: &Key) -> Result<Identity, Silence> {
        let text = self.receive(station)?;
        let message = IdentityMessage::read_from_bytes(&text).expect("an identity message");
        assert_eq!(message.kind, kind::IDENTITY);
        assert_eq!(message.identity.fiduciary, *expected);
        message.identity.verify(&self.hash).expect("signed by F in this session");
        if let Some(fork) = message.identity.fork() {
            fork.verify().expect("a fork record signed by F");
        }
        Ok(message.identity)
    }

    pub fn grant(&mut self, station: &mut Station, title: &Title, configuration: &[u8]) {
        self.send(station, &grant_text(title, configuration));
    }

    /// The node's pairing message, checked against the binding.
    pub fn pairing(&mut self, station: &mut Station, title: &Title) -> Result<PairingMessage, Silence> {
        let text = self.receive(station)?;
        let message = PairingMessage::read_from_bytes(&text).expect("a pairing message");
        assert_eq!(message.kind, kind::PAIRING);
        message.record.verify(title).expect("a record of this binding, signed by F");
        Ok(message)
    }

    pub fn acknowledge(&mut self, station: &mut Station, record: &PairingRecord) {
        let text = Acknowledgement { kind: kind::ACKNOWLEDGEMENT, zero: [0; 7], record: record.hash() };
        self.send(station, text.as_bytes());
    }

    /// Encrypts and sends any text.
    pub fn send(&mut self, station: &mut Station, text: &[u8]) {
        let mut message = vec![0; text.len() + claim::TAG];
        let length = self.noise.write_message(text, &mut message).expect("a short message");
        send(station, self.handle, &message[..length]);
    }

    pub fn receive(&mut self, station: &mut Station) -> Result<Vec<u8>, Silence> {
        let message = receive(station, self.handle)?;
        let mut text = vec![0; message.len()];
        let length = self.noise.read_message(&message, &mut text).map_err(|_| Silence)?;
        text.truncate(length);
        Ok(text)
    }
}

/// The plain text of a grant.
pub fn grant_text(title: &Title, configuration: &[u8]) -> Vec<u8> {
    let length = u16::try_from(configuration.len()).expect("a configuration that fits");
    let head = GrantHead { kind: kind::GRANT, zero: [0; 5], configuration: U16::new(length), title: *title };
    [head.as_bytes(), configuration].concat()
}

/// Connects to the claim endpoint; a SYN may be lost like any frame.
pub fn connect(station: &mut Station, hello: &HelloBody) -> Result<SocketHandle, Silence> {
    station.connect(hello.address, CLAIM_PORT, station.patience.min(PATIENCE / 6)).map_err(|_| Silence)
}

/// The WebSocket upgrade, by tungstenite.
pub fn upgrade(stream: Stream<'_>, path: &str) -> io::Result<()> {
    let host = Ipv6Addr::from(stream.station.ip);
    let url = format!("ws://[{host}]:{CLAIM_PORT}{path}");
    tungstenite::client(url, stream).map(|_| ()).map_err(|error| io::Error::other(error.to_string()))
}

/// Sends one binary message.
pub fn send(station: &mut Station, handle: SocketHandle, bytes: &[u8]) {
    let mut socket = WebSocket::from_raw_socket(station.stream(handle), Role::Client, None);
    // A node that has gone silent takes nothing; what it then does is what the test looks at.
    let _ = socket.send(Message::binary(bytes.to_vec()));
}

/// The next message; anything that is not one is silence.
pub fn receive(station: &mut Station, handle: SocketHandle) -> Result<Vec<u8>, Silence> {
    let mut stream = station.stream(handle);
    // One frame at a time, so that nothing is read ahead of a socket that is made anew for each.
    let mut head = [0; 2];
    io::Read::read_exact(&mut stream, &mut head).map_err(|_| Silence)?;
    assert_eq!(head[0], 0x82, "a final binary frame, and nothing else, comes from a node");
    let length = match head[1] {
        length @ 0..126 => usize::from(length),
        126 => {
            let mut long = [0; 2];
            io::Read::read_exact(&mut stream, &mut long).map_err(|_| Silence)?;
            usize::from(u16::from_be_bytes(long))
        }
        other => panic!("length byte {other} from a node"),
    };
    let mut message = vec![0; length];
    io::Read::read_exact(&mut stream, &mut message).map_err(|_| Silence)?;
    Ok(message)
}

/// The bytes of a small configuration: a node with an address and nobody to talk to.
pub fn mesh() -> Vec<u8> {
    let mut configuration = Configuration::default();
    configuration.addresses.push(Prefix::v4([10, 8, 0, 2], 24)).expect("room for one");
    written(&configuration)
}

/// The bytes of the largest configuration that there is.
pub fn largest_mesh() -> Vec<u8> {
    let mut configuration = Configuration::default();
    let network = |n: usize, of: usize| Prefix {
        ip: [0xfd, n as u8, of as u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0],
        length: 128,
    };
    configuration.addresses = (0..policy::MAX_ADDRESSES).map(|n| network(200, n)).collect();
    let address = Prefix { ip: [0x20; 16], length: 64 };
    configuration.underlay = Some(Underlay { address, gateway: Some([0xfe; 16]) });
    let peer = |n: usize| Peer {
        key: [n as u8 + 1; 32],
        role: policy::Role::Peer,
        preshared: Some(Preshared([n as u8; 32])),
        // Nobody answers there, and nothing is sent that would keep it alive.
        endpoint: None,
        allowed: (0..policy::MAX_ALLOWED).map(|of| network(n, of)).collect(),
        keepalive_s: 0,
    };
    configuration.peers = (0..policy::MAX_PEERS).map(peer).collect();
    let rule = |n: usize| format!("out authority tcp {}", 65_000 + n).parse().expect("a rule");
    configuration.rules = (0..policy::MAX_RULES).map(rule).collect();
    written(&configuration)
}

fn written(configuration: &Configuration) -> Vec<u8> {
    configuration.check().expect("a configuration that makes sense");
    configuration.write(&mut [0; claim::MAX_CONFIGURATION]).expect("it fits").to_vec()
}

/// Random bytes, for keys of one test run.
pub fn fresh() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    bytes
}
