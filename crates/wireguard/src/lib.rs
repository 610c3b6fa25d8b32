//! WireGuard, as its paper specifies it, without input and output: datagrams and the time go in, datagrams and the
//! next deadline come out. The static private key is not here: its steps of a handshake are values that the caller
//! takes to the keystore and back.
//!
//! It never answers what is not authentic: nothing but a cookie reply goes to a message whose `mac1` is right while
//! the load is high, and a response to an authentic initiation. It keeps to fixed memory, and it knows nothing of inner
//! addresses: which packets a peer may send is the caller's to decide.
//!
//! After each call that takes `now` the caller goes on until both are empty: [`Engine::poll_static`] and
//! [`Engine::poll_transmit`].
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

use calls::keystore::{FinishHandshake, ReadHandshake, ReadHandshakeReply, StartHandshake, StartHandshakeReply};
use crypto::Secret;
use shm::Micros;
use wire::{Ip, Key};

pub const MAX_PEERS: usize = 16;
/// The longest inner packet.
pub const MAX_MTU: usize = 1420;
/// What a data message is longer than the packet in it, without padding.
pub const OVERHEAD: usize = 32;
/// The longest datagram that is sent or taken.
pub const MAX_DATAGRAM: usize = MAX_MTU + OVERHEAD;

/// A peer's place in the engine. It stays as long as the peer does; after its removal another may get it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct PeerId(u8);

impl PeerId {
    /// Below [`MAX_PEERS`]: for tables beside the engine.
    pub const fn index(self) -> usize {
        self.0 as usize
    }
}

/// A place on the outer network. It means nothing to the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Endpoint {
    pub ip: Ip,
    pub port: u16,
}

#[derive(Clone, Copy)]
pub struct PeerConfig<'a> {
    pub key: Key,
    /// All zero: none.
    pub preshared: &'a [u8; 32],
    pub endpoint: Option<Endpoint>,
    /// Seconds; 0: off.
    pub keepalive_s: u16,
}

/// What became of a datagram.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'b> {
    /// From this peer, in place. Behind the packet there may be padding: its own header says where it ends.
    /// `first`: nothing had come by these session keys before.
    Packet {
        peer: PeerId,
        packet: &'b mut [u8],
        first: bool,
    },
    /// An authentic empty packet.
    Keepalive {
        peer: PeerId,
        first: bool,
    },
    /// A handshake message that now waits for the keystore. What became of it, [`Engine::static_reply`] tells.
    Waits,
    /// A cookie reply, in place: to be sent to where the datagram came from.
    Reply(&'b mut [u8]),
    /// Taken, and there is nothing to do: the peer's cookie reply.
    Nothing,
    Dropped(Reason),
}

/// What became of a packet to be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sent {
    /// The first `len` bytes of `out`.
    Datagram {
        to: Endpoint,
        len: usize,
    },
    /// It waits for a handshake; the newest few do.
    Queued,
    Dropped(Reason),
}

/// Why something was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Reason {
    /// No message of the protocol: type, reserved bytes or length.
    Malformed,
    /// `mac1` is wrong: the sender does not know the node's key.
    Mac,
    /// A response or a cookie reply to nothing that was sent, or data by keys that are not there.
    UnknownIndex,
    /// The initiator is none of the peers.
    UnknownPeer,
    /// A packet's counter has come before or is too old, or an initiation's timestamp is not above the last one.
    Replay,
    /// The tag is wrong.
    Forged,
    /// The session's keys have reached their age or number of packets.
    Expired,
    /// The initiator came again too soon.
    TooSoon,
    /// Too many handshakes wait.
    Busy,
    /// The keystore refused its part of a handshake.
    Refused,
    /// The packet is empty or longer than the MTU, or `out` is too small for it.
    Length,
    /// Not, or no more, a peer.
    NoPeer,
    /// It is not known where the peer is.
    NoEndpoint,
}

impl Reason {
    pub const COUNT: usize = Self::NoEndpoint as usize + 1;
}

/// One of the static key's steps of a handshake, to be asked of the keystore.
pub enum StaticRequest {
    /// [`calls::keystore::for_mesh::StartMeshHandshake`]
    Start(StartHandshake),
    /// [`calls::keystore::for_mesh::FinishMeshHandshake`]
    Finish(FinishHandshake),
    /// [`calls::keystore::for_mesh::ReadMeshHandshake`]
    Read(ReadHandshake),
}

/// The keystore's answer.
pub enum StaticReply {
    Start(StartHandshakeReply),
    Finish([u8; 32]),
    Read(ReadHandshakeReply),
}

/// The keystore refused, or no answer came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Refused;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerView {
    pub id: PeerId,
    pub key: Key,
    pub endpoint: Option<Endpoint>,
    /// When the keys in use were agreed.
    pub last_handshake: Option<Micros>,
    /// Bytes of data messages, as on the wire.
    pub received: u64,
    pub sent: u64,
}

pub struct Engine {
    _seed: Secret,
}

impl Engine {
    /// `public` is W's public half. `mtu` is that of the inner network, at most [`MAX_MTU`]. The value is large:
    /// better in a static than on a small stack.
    pub fn new(_public: Key, seed: Secret, _mtu: usize) -> Self {
        Self { _seed: seed }
    }

    /// Mixes in fresh randomness.
    pub fn reseed(&mut self, _seed: &Secret) {}

    /// Replaces the set of peers. Who stays keeps its sessions, unless its preshared key changed, and the place where it
    /// was last heard, unless the configured one changed. Who goes is forgotten with its keys. The node's own
    /// key and a second entry of a key are passed over, and those past [`MAX_PEERS`].
    pub fn set_peers<'a>(&mut self, _now: Micros, _peers: impl IntoIterator<Item = PeerConfig<'a>>) {}

    /// Takes a datagram that came from `from`.
    pub fn receive<'b>(&mut self, _now: Micros, _from: Endpoint, _datagram: &'b mut [u8]) -> Received<'b> {
        Received::Dropped(Reason::Malformed)
    }

    /// Seals a packet for a peer into `out`, which should hold [`MAX_DATAGRAM`].
    pub fn send(&mut self, _now: Micros, _peer: PeerId, _packet: &[u8], _out: &mut [u8]) -> Sent {
        Sent::Dropped(Reason::NoPeer)
    }

    /// The next datagram that is to be sent: handshake messages, keepalives, packets that waited.
    pub fn poll_transmit(&mut self, _now: Micros, _out: &mut [u8]) -> Option<(Endpoint, usize)> {
        None
    }

    /// The next question to the keystore. One at a time: none until the last one has its [`Self::static_reply`].
    pub fn poll_static(&mut self, _now: Micros) -> Option<StaticRequest> {
        None
    }

    /// The answer to the last [`Self::poll_static`]. The peer, if its handshake message proved authentic.
    pub fn static_reply(&mut self, _now: Micros, _reply: Result<StaticReply, Refused>) -> Option<PeerId> {
        None
    }

    /// Does what is due. May be called at any time.
    pub fn tick(&mut self, _now: Micros) {}

    /// When [`Self::tick`] is to be called next.
    pub fn deadline(&self) -> Option<Micros> {
        None
    }

    /// Wipes all session keys and begins a handshake with each peer whose place is known.
    pub fn rotate(&mut self, _now: Micros) {}

    /// The peer of this key.
    pub fn find(&self, _key: &Key) -> Option<PeerId> {
        None
    }

    pub fn peer(&self, _peer: PeerId) -> Option<PeerView> {
        None
    }

    pub fn peers(&self) -> impl Iterator<Item = PeerView> + '_ {
        (0..MAX_PEERS as u8).filter_map(|index| self.peer(PeerId(index)))
    }

    /// How often something was dropped for this reason.
    pub fn dropped(&self, _reason: Reason) -> u64 {
        0
    }
}
