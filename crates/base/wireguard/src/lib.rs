//! WireGuard, as its paper specifies it, without input and output: datagrams and the time go in, datagrams and the
//! next deadline come out. The static private key is not here: its steps of a handshake are values that the caller
//! takes to the keystore and back.
//!
//! It never answers what is not authentic, but for the cookie reply to a message whose `mac1` is right while the load is
//! high (or to the fifth wrong response to one initiation). It keeps to fixed memory. It knows nothing of inner addresses:
//! which packets a peer may send is the caller's to decide.
//!
//! After each call that takes `now` the caller goes on until both are empty: [`Engine::poll_static`] and
//! [`Engine::poll_transmit`].
//!
//! What the paper leaves open is as in the reference implementations, but for two things. A handshake of the node's own
//! goes on when the peer's initiation is answered, so that both at once end in a session and not in a wait. And keys are
//! wiped as soon as they may no longer be used, not after thrice that time.
#![no_std]
#![forbid(unsafe_code)]

#[cfg(test)]
extern crate std;

mod agenda;
mod cookie;
mod engine;
mod index;
mod load;
mod messages;
mod noise;
mod peer;
mod random;
mod replay;
mod session;
mod shared;
#[cfg(test)]
mod tests;
mod time;

use clock::Micros;
use wire::handshake::{FinishHandshake, ReadHandshake, ReadHandshakeReply, StartHandshake, StartHandshakeReply};
use wire::{Ip, Key};

pub use engine::Engine;

pub const MAX_PEERS: usize = 16;
/// The longest inner packet.
pub const MAX_MTU: usize = 1420;
/// What a data message is longer than the packet in it, without padding.
pub const OVERHEAD: usize = 32;
/// The longest datagram that is sent.
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
    /// It waits for a handshake, in the place of the one before.
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

/// One of the static key's steps of a handshake, to be asked of the keystore: `Start`, `Finish` and `Read` of its
/// operations for `mesh`.
pub enum StaticRequest {
    Start(StartHandshake),
    Finish(FinishHandshake),
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
