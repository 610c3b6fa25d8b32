//! What the keystore keeps across power-offs: three records, laid out to the byte.

use calls::keystore::AnchorKind;
use crypto::{AnchorPublic, AnchorSecret};
use wire::{
    Hash, Key, U32, U64,
    anchor::{Anchor, AnchorFile, AnchorIn},
    binding::ForkRecord,
    order::Isolation,
    receipt::Receipt,
    set::MAX_AUTHORITIES,
    title::Title,
};
use zerocopy::{FromBytes, FromZeros, Immutable, IntoBytes, KnownLayout, Unaligned};
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Who the node is. Written at first boot, after the others, and again only to take a ticket out or in.
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
    /// There is none, and no entry of the store's has one.
    pub const NONE: u8 = 0;
    pub const HELD: u8 = 1;
    /// It is out of this entry; those before are to be purged.
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

    /// Takes the ticket and its anchor out. What the store kept before is purged once this is committed; then, and not
    /// earlier, [`Self::ticket`] becomes [`ticket::NONE`].
    pub fn erase_ticket(&mut self) {
        self.ticket_seed.zeroize();
        self.anchor_sign = [0; 32];
        self.anchor_dh = [0; 32];
        self.anchor = AnchorKind::None as u8;
        self.ticket = ticket::ERASING;
    }

    pub fn stored_anchor(&self) -> Option<(Anchor, u8)> {
        let public = AnchorPublic { sign: self.anchor_sign, dh: self.anchor_dh };
        (self.anchor != AnchorKind::None as u8).then_some((Anchor::alone(&public), self.anchor))
    }
}

/// Whose the node is. Nothing in it is secret.
#[derive(Clone, Copy, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Ownership {
    /// All zero until `forked`.
    pub fork: ForkRecord,
    /// All zero until `committed`. Records change its set, and what the warrant says of that, when they come into force.
    pub title: Title,
    /// The anchor that verified `title`: it stays this node's until the acknowledgement. Of a node that was let go, the one
    /// that was named then; all zero if that is its ticket's.
    pub anchor: AnchorFile,
    /// That it was let go last; all zero if it never was.
    pub released: Receipt,
    /// The stored epoch: a binding has the next.
    pub epoch: U64,
    /// The administrator's counter: the next binding or order is above it. Finds have one of their own.
    pub counter: U64,
    /// Hash of the configuration that is in force: the binding's, or of the last order.
    pub configuration: Hash,
    /// By which command it is isolated, if it is.
    pub isolation: Isolation,
    pub forked: u8,
    pub committed: u8,
    pub acknowledged: u8,
    /// As [`Identity::anchor`].
    pub anchor_source: u8,
    /// By an authority's command.
    pub isolated: u8,
    /// It was let go, and what the store has of its time before is to be purged.
    pub purging: u8,
    pub zero: [u8; 2],
}

impl Ownership {
    /// Nothing has happened to the node yet.
    pub fn is_new(&self) -> bool {
        self.as_bytes().iter().all(|byte| *byte == 0)
    }

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

    pub fn stored_anchor(&self) -> Option<(Anchor, u8)> {
        match self.anchor.read() {
            AnchorIn::Some(anchor) => Some((anchor, self.anchor_source)),
            AnchorIn::None | AnchorIn::Damaged => None,
        }
    }

    /// Which set is in force, of all that the node was ever under: epoch and sequence.
    pub fn reign(&self) -> (U64, U64) {
        (self.epoch, self.title.warrant.sequence)
    }

    /// Somebody has let it go: the image's anchor is none of its any more.
    pub fn was_released(&self) -> bool {
        self.released.kind().is_some()
    }

    /// What is left when its owners let it go.
    pub fn let_go(&self, anchor: AnchorFile, anchor_source: u8, released: Receipt) -> Self {
        // The last epoch there is ends as any does; but nobody can own the node in a next one.
        let epoch = U64::new(self.epoch.get().saturating_add(1));
        let Self { fork, forked, .. } = *self;
        Self { fork, forked, anchor, anchor_source, released, epoch, purging: 1, ..Self::new_zeroed() }
    }
}

/// A find of the node that is below or at the stored number is stale. What is stored is the next multiple of this, in
/// milliseconds of the administrator's clock: so no find costs a commit unless more than a minute has passed.
pub const FINDS: u64 = 1 << 16;
/// The same for commands, which count the seconds of their authority's clock.
pub const COMMANDS: u32 = 1 << 6;

/// What rises too often for a commit each: stored ahead, in blocks. After power-up counting goes on behind them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
pub struct Counters {
    /// Of finds, which are compared with nothing else.
    pub finds: U64,
    /// After which release they came: by the epoch that ended with it, or zero. The next anchor's begin at zero.
    pub finds_after: U64,
    /// The last block of WireGuard timestamps that was reserved ([`wire::handshake::Timestamps`]): one each time that the
    /// node is switched on, so this is how often it was.
    pub timestamps: U64,
    /// Of the commands of each authority, by its place in the set: what one does uses up nothing of another's.
    pub commands: [U32; MAX_AUTHORITIES],
    /// Of which set these are, by epoch and sequence. Another's begin at zero, as its keys are others.
    pub epoch: U64,
    pub sequence: U64,
}

impl Counters {
    /// No find and no command has come yet.
    pub fn is_new(&self) -> bool {
        let Self { finds, commands, .. } = self;
        finds.get() == 0 && commands.iter().all(|counter| counter.get() == 0)
    }

    /// One more block of timestamps.
    pub fn with_timestamps(&self) -> Option<Self> {
        Some(Self { timestamps: U64::new(self.timestamps.get().checked_add(1)?), ..*self })
    }

    /// No find of such a node that is this one or below is taken.
    pub fn find_floor(&self, owner: &Ownership) -> u64 {
        if self.finds_after == owner.released.number { self.finds.get() } else { 0 }
    }

    /// No command of its authorities that has this number or one below is taken.
    pub fn command_floors(&self, owner: &Ownership) -> [u32; MAX_AUTHORITIES] {
        let theirs = (self.epoch, self.sequence) == owner.reign();
        self.commands.map(|counter| if theirs { counter.get() } else { 0 })
    }

    /// Room for a find of this number, and for some more.
    pub fn with_find(&self, owner: &Ownership, counter: u64) -> Self {
        let finds = U64::new(counter.checked_next_multiple_of(FINDS).unwrap_or(u64::MAX));
        Self { finds, finds_after: owner.released.number, ..*self }
    }

    /// Room for a command of this number, and for some more.
    pub fn with_command(&self, owner: &Ownership, authority: usize, counter: u32) -> Self {
        let commands = self.command_floors(owner).map(U32::new);
        let (epoch, sequence) = owner.reign();
        let mut next = Self { commands, epoch, sequence, ..*self };
        if let Some(stored) = next.commands.get_mut(authority) {
            *stored = U32::new(counter.checked_next_multiple_of(COMMANDS).unwrap_or(u32::MAX));
        }
        next
    }
}
