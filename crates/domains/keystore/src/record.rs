//! What the keystore keeps across power-offs: two records, laid out to the byte.

use calls::keystore::AnchorKind;
use crypto::{AnchorPublic, AnchorSecret};
use wire::{
    Hash, Key, U32, U64,
    binding::{Binding, ForkRecord, MAX_AUTHORITIES},
};
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Who the node is. Written at first boot, and again only to take the ticket out.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned, Zeroize, ZeroizeOnDrop)]
#[repr(C)]
pub struct Identity {
    pub root_seed: [u8; 32],
    /// Seed of the one-node claim key, for as long as `ticket` is [`ticket::HELD`].
    pub ticket_seed: [u8; 32],
    pub anchor_sign: Key,
    pub anchor_dh: Key,
    /// Where the stored anchor comes from, an [`AnchorKind`]; `None` if none is stored.
    pub anchor: u8,
    /// One of [`ticket`].
    pub ticket: u8,
    pub zero: [u8; 6],
}

/// [`Identity::ticket`].
pub mod ticket {
    /// There is none in either slot.
    pub const NONE: u8 = 0;
    pub const HELD: u8 = 1;
    /// It is out of this slot, not yet out of the other.
    pub const ERASING: u8 = 2;
}

impl Identity {
    pub fn new(root_seed: &[u8; 32]) -> Self {
        Self {
            root_seed: *root_seed,
            ticket_seed: [0; 32],
            anchor_sign: [0; 32],
            anchor_dh: [0; 32],
            anchor: AnchorKind::None as u8,
            ticket: ticket::NONE,
            zero: [0; 6],
        }
    }

    /// Makes this node claimable by a ticket.
    pub fn set_ticket(&mut self, seed: &[u8; 32]) {
        let public = AnchorSecret::from_seed(seed).public();
        self.ticket_seed = *seed;
        self.anchor_sign = public.sign;
        self.anchor_dh = public.dh;
        self.anchor = AnchorKind::Ticket as u8;
        self.ticket = ticket::HELD;
    }

    /// Takes the ticket and its anchor out. Commits alternate between two slots, so it is gone from both
    /// only when this has been called and committed until `ticket` is [`ticket::NONE`].
    pub fn erase_ticket(&mut self) {
        self.ticket_seed.zeroize();
        self.anchor_sign = [0; 32];
        self.anchor_dh = [0; 32];
        self.anchor = AnchorKind::None as u8;
        self.ticket = if self.ticket == ticket::HELD { ticket::ERASING } else { ticket::NONE };
    }

    pub fn stored_anchor(&self) -> Option<(AnchorPublic, u8)> {
        let public = AnchorPublic { sign: self.anchor_sign, dh: self.anchor_dh };
        (self.anchor != AnchorKind::None as u8).then_some((public, self.anchor))
    }
}

/// As many authorities as a set may come to have.
const AUTHORITIES: usize = 7;

const _: () = assert!(MAX_AUTHORITIES <= AUTHORITIES);

/// Whose the node is. Nothing in it is secret.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ownership {
    /// All zero until `forked`.
    pub fork: ForkRecord,
    /// All zero until `committed`.
    pub binding: Binding,
    /// The anchor that verified `binding`: it stays this node's until the acknowledgement.
    pub anchor_sign: Key,
    pub anchor_dh: Key,
    /// The stored epoch: a binding has the next.
    pub epoch: U64,
    /// The administrator's counter: whatever comes next is above it.
    pub counter: U64,
    /// Hash of the configuration that is in force: the binding's, or of the last update.
    pub configuration: Hash,
    /// The last block of WireGuard timestamps that was reserved ([`wire::handshake::Timestamps`]).
    pub timestamps: U64,
    /// Of the last command of each authority, by its place in the binding: what one does uses up nothing of another's.
    pub command_counters: [U32; AUTHORITIES],
    pub forked: u8,
    pub committed: u8,
    pub acknowledged: u8,
    /// As [`Identity::anchor`].
    pub anchor: u8,
    /// By an authority's command.
    pub isolated: u8,
    pub zero: [u8; 7],
}

impl Ownership {
    pub fn committed(&self) -> bool {
        self.committed == 1
    }

    pub fn claimed(&self) -> bool {
        self.acknowledged == 1
    }

    pub fn fork(&self) -> Option<&ForkRecord> {
        (self.forked == 1).then_some(&self.fork)
    }

    pub fn fork_hash(&self) -> Hash {
        ForkRecord::hash(self.fork())
    }

    pub fn stored_anchor(&self) -> Option<(AnchorPublic, u8)> {
        let public = AnchorPublic { sign: self.anchor_sign, dh: self.anchor_dh };
        self.committed().then_some((public, self.anchor))
    }
}
