//! Nodes: what each was granted, and its signed word that it has it.
//!
//! A grant is stored as *pending*, byte for byte, before it is sent, so that a claim that was cut is resumed with the same
//! bytes. Nothing that was paired is ever deleted.

use std::fmt;

use rusqlite::Row;
use serde::{Deserialize, Serialize};
use wire::{
    Fingerprint, Ip,
    binding::{ForkRecord, PairingRecord},
    claim::parse_grant,
    title::Title,
};
use zerocopy::FromBytes;

use crate::base::say::plain;

pub(super) const COLUMNS: &str = "id, state, grant_bytes, record, rivals, acknowledged, fleet, anchor, accepted, address, \
                       interface, pending_ms, paired_ms, acknowledged_ms";

/// A closed set of words, as the file and the JSON have them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
        pub enum $name { $($(#[$vdoc])* #[serde(rename = $word)] $variant,)* }

        impl $name {
            pub const fn word(self) -> &'static str {
                match self { $(Self::$variant => $word,)* }
            }

            fn from_word(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)* _ => None }
            }
        }
    };
}

words! {
    State {
        /// A grant was made; whether the node has it is not known.
        Pending = "pending",
        /// The node's signed word is here.
        Paired = "paired",
    }
}

words! {
    /// What the node was anchored to.
    AnchorKind {
        Image = "image",
        Ticket = "ticket",
    }
}

words! {
    /// Why this node was taken for the right one.
    Accepted {
        /// The ticket names it.
        Ticket = "ticket",
        /// The operator named its fingerprint beforehand.
        Expected = "expected",
        /// The operator was shown its fingerprint and typed yes.
        Asked = "asked",
        /// The operator named its fingerprint although it was revoked: `--readmit`.
        Readmitted = "readmitted",
        /// Nobody looked: `--accept-any`.
        AcceptedAny = "accepted_any",
        /// Another authority claimed it: `fleet import`.
        Imported = "imported",
    }
}

/// A claim that is about to be made.
pub struct NewNode<'a> {
    pub grant: &'a [u8],
    pub fleet: &'a str,
    pub anchor: AnchorKind,
    pub accepted: Accepted,
    pub address: Ip,
    pub interface: &'a str,
    pub fork: Option<&'a ForkRecord>,
}

/// One node as the registry has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    pub id: i64,
    pub state: State,
    /// Exactly as it was, or will be, sent.
    pub grant: Vec<u8>,
    pub title: Title,
    pub record: Option<PairingRecord>,
    pub rivals: Option<u32>,
    /// The node's kernel or stack has confirmed the acknowledgement.
    pub acknowledged: bool,
    pub fleet: String,
    pub anchor: AnchorKind,
    pub accepted: Accepted,
    pub address: Ip,
    pub interface: String,
    pub pending_ms: i64,
    pub paired_ms: Option<i64>,
    pub acknowledged_ms: Option<i64>,
}

impl fmt::Debug for Node {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // A configuration is nobody's to print.
        write!(f, "Node({} {})", Fingerprint::of(&self.title.warrant.fiduciary), self.state.word())
    }
}

impl Node {
    /// The configuration that was granted.
    pub fn configuration(&self) -> &[u8] {
        parse_grant(&self.grant).map_or(&[], |(_, configuration)| configuration)
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let grant: Vec<u8> = row.get("grant_bytes")?;
        let record: Option<Vec<u8>> = row.get("record")?;
        let address: Vec<u8> = row.get("address")?;
        let word = |name: &str| row.get::<_, String>(name);
        let (state, anchor, accepted) = (word("state")?, word("anchor")?, word("accepted")?);
        // Whoever made the registry has named them.
        let (fleet, interface) = (plain::name(&word("fleet")?), plain::name(&word("interface")?));
        let (id, rivals, acknowledged) = (row.get("id")?, row.get("rivals")?, row.get("acknowledged")?);
        let (pending_ms, paired_ms) = (row.get("pending_ms")?, row.get("paired_ms")?);
        let acknowledged_ms = row.get("acknowledged_ms")?;
        let whole = || {
            let title = parse_grant(&grant)?.0.title;
            let record = match record {
                Some(bytes) => Some(PairingRecord::read_from_bytes(&bytes).ok()?),
                None => None,
            };
            let state = State::from_word(&state)?;
            let (anchor, accepted) = (AnchorKind::from_word(&anchor)?, Accepted::from_word(&accepted)?);
            let address = Ip::try_from(address).ok()?;
            Some((title, record, state, anchor, accepted, address))
        };
        let Some((title, record, state, anchor, accepted, address)) = whole() else { return Ok(None) };
        Ok(Some(Self {
            id,
            state,
            grant,
            title,
            record,
            rivals,
            acknowledged,
            fleet,
            anchor,
            accepted,
            address,
            interface,
            pending_ms,
            paired_ms,
            acknowledged_ms,
        }))
    }
}
