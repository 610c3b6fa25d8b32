//! What finding and claiming needs of whoever keeps what was claimed, and what a node is to become.

use policy::{Endpoint, Underlay};
use wire::{
    Hash, Ip, Key, Mac,
    binding::{ForkRecord, PairingRecord},
    set::AuthoritySet,
    title::Warrant,
};

use crate::{
    base::error::Error,
    registry::{Accepted, AnchorKind, Node},
};

/// What a node that joins the mesh is told, besides its place there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MeshTerms {
    /// The authority's WireGuard key.
    pub authority: Key,
    pub underlay: Option<Underlay>,
    /// Where the authority is, if not at the address that signs finds and opens.
    pub endpoint: Option<Endpoint>,
}

/// Where a node's configuration comes from.
#[derive(Clone)]
pub enum Configure {
    /// The registry: an address, the authority as peer, the fleet's rules.
    Mesh(MeshTerms),
    /// The operator. Empty: no mesh.
    Bytes(Vec<u8>),
    /// The warrant, which names its hash: these bytes. If the set names this WireGuard key, which is the registry's, the node has
    /// the place in the mesh that the warrant gives it.
    Warranted { bytes: Vec<u8>, own: Option<Key> },
}

/// What the node is to become. The same for every node of one command.
#[derive(Clone)]
pub struct Terms {
    pub fleet: String,
    pub fleet_id: [u8; 32],
    /// Our own key first. Where we are in the mesh is filled in with the grant.
    pub set: AuthoritySet,
    pub configuration: Configure,
    pub anchor: AnchorKind,
    /// Signed beforehand, for the one node that it names. Without one the anchor's key signs it within the claim, which only an
    /// anchor takes that needs no other.
    pub warrant: Option<Warrant>,
}

/// A grant that is about to be made to a node that has proved its identity.
pub struct Grant<'a> {
    /// F.
    pub fiduciary: Key,
    /// N.
    pub claim_key: Key,
    /// W.
    pub mesh_key: Key,
    pub terms: &'a Terms,
    pub accepted: Accepted,
    /// As it has signed it, if it has one.
    pub fork: Option<&'a ForkRecord>,
    /// The node's, on its link.
    pub address: Ip,
    /// Ours, on the node's link.
    pub interface: &'a str,
    /// The address that signs: where the node finds the authority.
    pub own: Ip,
    /// See [`Pairing::next_counter`].
    pub ahead: u64,
}

/// What others on the link caused in one run, which costs them nothing: it is counted, and told once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Strangers {
    /// Nodes that answered and were not named.
    pub unlisted: u64,
    /// Revoked nodes that were not readmitted.
    pub turned_away: u64,
    /// Holders of a claim key that are not the node that their hello names.
    pub impostors: u64,
    /// Attempts that were cut.
    pub cut: u64,
    /// Claims that failed in the same way as one that was told of.
    pub failed: u64,
}

impl Strangers {
    pub fn add(&mut self, other: &Self) {
        self.unlisted += other.unlisted;
        self.turned_away += other.turned_away;
        self.impostors += other.impostors;
        self.cut += other.cut;
        self.failed += other.failed;
    }
}

/// What whoever keeps it has made of a grant.
pub struct Made<'a> {
    pub counter: u64,
    pub configuration: &'a [u8],
    /// [`Terms::set`], with where we are in the mesh.
    pub set: AuthoritySet,
    /// The number of the set and the hash of its record; `None`: it is the fleet's first.
    pub under: Option<(u64, Hash)>,
}

/// Whoever keeps what was claimed. All that a function stores is durable before it returns, and whole or not there, wherever the
/// process ends.
pub trait Pairing {
    /// The next value of the rising counter, stored: the larger of the last plus one and Unix milliseconds (plus `ahead`).
    fn next_counter(&self, ahead: u64) -> Result<u64, Error>;

    /// The same for finds, which nodes compare with finds only. `past`: above what a node that has heard the last find may have
    /// stored of it.
    fn next_find(&self, ahead: u64, past: bool) -> Result<u64, Error>;

    /// What is known of a node.
    fn known(&self, fiduciary: &Key) -> Result<Option<Node>, Error>;

    /// Whether a node was revoked. It stays so until the operator names it.
    fn is_revoked(&self, fiduciary: &Key) -> Result<bool, Error>;

    /// A node of these that is paired already.
    fn paired_among(&self, named: impl Fn(&Key) -> bool) -> Result<Option<Key>, Error>;

    /// Gives the node its place and a counter, and stores the grant that `bind` makes, before it is sent.
    fn grant(&self, grant: &Grant<'_>, bind: impl FnOnce(&Made<'_>) -> Result<Vec<u8>, Error>) -> Result<Node, Error>;

    /// A node that the operator named is revoked no longer.
    fn readmit(&self, fiduciary: &Key) -> Result<(), Error>;

    /// Stores the node's signed word, and where it is on its link, before it is acknowledged.
    fn paired(&self, node: &Node, record: &PairingRecord, rivals: u32, mac: Option<Mac>) -> Result<Node, Error>;

    /// Notes that the acknowledgement has arrived.
    fn acknowledged(&self, node: &Node) -> Result<Node, Error>;

    /// Tells of a claim that was refused: of the node that has proved itself, or that was meant, if it was one.
    fn refused(&self, node: Option<&Key>, why: &Error, strangers: &Strangers) -> Result<(), Error>;

    /// Tells of a run in which there were such.
    fn strangers(&self, strangers: &Strangers) -> Result<(), Error>;
}
