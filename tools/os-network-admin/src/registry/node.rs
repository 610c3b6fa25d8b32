//! Nodes: what each was granted, and its signed word that it has it.
//!
//! A grant is stored as *pending*, byte for byte, before it is sent, so that a claim that was cut is resumed with the same
//! bytes. Nothing that was paired is ever deleted.

use std::fmt;

use rusqlite::{OptionalExtension, Row, params};
use wire::{
    Fingerprint, Ip, Key,
    binding::{Binding, PairingRecord},
    claim::parse_grant,
};
use zerocopy::{FromBytes, IntoBytes};

use super::file::{Registry, explain, registry_error};
use crate::base::error::Error;

const COLUMNS: &str = "id, state, grant_bytes, record, rivals, acknowledged, fleet, anchor, accepted, address, \
                       interface, pending_ms, paired_ms, acknowledged_ms";

/// A closed set of words, as the file and the JSON have them.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $word:literal,)* }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        pub enum $name { $($(#[$vdoc])* $variant,)* }

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
        /// Nobody looked: `--accept-any`.
        AcceptedAny = "accepted_any",
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
}

/// One node as the registry has it.
#[derive(Clone, PartialEq, Eq)]
pub struct Node {
    pub id: i64,
    pub state: State,
    /// Exactly as it was, or will be, sent.
    pub grant: Vec<u8>,
    pub binding: Binding,
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
        write!(f, "Node({} {})", Fingerprint::of(&self.binding.fiduciary), self.state.word())
    }
}

impl Node {
    /// The configuration that was granted.
    pub fn configuration(&self) -> &[u8] {
        parse_grant(&self.grant).map_or(&[], |(_, configuration)| configuration)
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let grant: Vec<u8> = row.get("grant_bytes")?;
        let record: Option<Vec<u8>> = row.get("record")?;
        let address: Vec<u8> = row.get("address")?;
        let word = |name: &str| row.get::<_, String>(name);
        let (state, anchor, accepted) = (word("state")?, word("anchor")?, word("accepted")?);
        let (fleet, interface) = (word("fleet")?, word("interface")?);
        let (id, rivals, acknowledged) = (row.get("id")?, row.get("rivals")?, row.get("acknowledged")?);
        let (pending_ms, paired_ms) = (row.get("pending_ms")?, row.get("paired_ms")?);
        let acknowledged_ms = row.get("acknowledged_ms")?;
        let whole = || {
            let binding = parse_grant(&grant)?.0.binding;
            let record = match record {
                Some(bytes) => Some(PairingRecord::read_from_bytes(&bytes).ok()?),
                None => None,
            };
            let state = State::from_word(&state)?;
            let (anchor, accepted) = (AnchorKind::from_word(&anchor)?, Accepted::from_word(&accepted)?);
            let address = Ip::try_from(address).ok()?;
            Some((binding, record, state, anchor, accepted, address))
        };
        let Some((binding, record, state, anchor, accepted, address)) = whole() else { return Ok(None) };
        Ok(Some(Self {
            id,
            state,
            grant,
            binding,
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

impl Registry {
    /// What is known of a node.
    pub fn node(&self, fiduciary: &Key) -> Result<Option<Node>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM node WHERE fiduciary = ?1 AND state <> 'superseded'");
        let row = self.connection.query_row(&sql, [fiduciary.as_slice()], Node::read).optional();
        row.map_err(|error| explain(&self.path, &error))?.map(|node| node.ok_or_else(|| self.damaged())).transpose()
    }

    /// All nodes, the oldest first.
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM node WHERE state <> 'superseded' ORDER BY id");
        let read = || self.connection.prepare(&sql)?.query_map([], Node::read)?.collect::<Result<Vec<_>, _>>();
        let rows = read().map_err(|error| explain(&self.path, &error))?;
        rows.into_iter().map(|node| node.ok_or_else(|| self.damaged())).collect()
    }

    /// Stores a grant before it is sent. It replaces one that the node has never committed; a pairing that it follows is kept as superseded.
    pub fn store_pending(&self, node: &NewNode<'_>) -> Result<Node, Error> {
        let (head, _) = parse_grant(node.grant).ok_or_else(|| self.damaged())?;
        let fiduciary = head.binding.fiduciary;
        let now = self.host.now_ms();
        self.run(|transaction| {
            transaction
                .execute("DELETE FROM node WHERE fiduciary = ?1 AND state = 'pending'", [fiduciary.as_slice()])?;
            transaction.execute(
                "UPDATE node SET state = 'superseded' WHERE fiduciary = ?1 AND state = 'paired'",
                [fiduciary.as_slice()],
            )?;
            let sql = "INSERT INTO node (fiduciary, state, grant_bytes, fleet, anchor, accepted, address, interface, \
                       pending_ms) VALUES (?1, 'pending', ?2, ?3, ?4, ?5, ?6, ?7, ?8)";
            transaction.execute(
                sql,
                params![
                    fiduciary.as_slice(),
                    node.grant,
                    node.fleet,
                    node.anchor.word(),
                    node.accepted.word(),
                    node.address.as_slice(),
                    node.interface,
                    now,
                ],
            )
        })?;
        self.node(&fiduciary)?.ok_or_else(|| self.damaged())
    }

    /// Stores the node's signed word, as an ADMIN pairing. Of a node that is paired already the time stays.
    pub fn store_paired(&self, node: &Node, record: &PairingRecord, rivals: u32) -> Result<Node, Error> {
        let changed = self.run(|transaction| {
            let sql = "UPDATE node SET state = 'paired', record = ?2, rivals = ?3, paired_ms = ifnull(paired_ms, ?4) \
                       WHERE id = ?1 AND state <> 'superseded'";
            transaction.execute(sql, params![node.id, record.as_bytes(), rivals, self.host.now_ms()])
        })?;
        self.after(changed, node)
    }

    /// Notes that the acknowledgement has arrived.
    pub fn store_acknowledged(&self, node: &Node) -> Result<Node, Error> {
        let changed = self.run(|transaction| {
            let sql = "UPDATE node SET acknowledged = 1, acknowledged_ms = ifnull(acknowledged_ms, ?2) \
                       WHERE id = ?1 AND state = 'paired'";
            transaction.execute(sql, params![node.id, self.host.now_ms()])
        })?;
        self.after(changed, node)
    }

    fn after(&self, changed: usize, node: &Node) -> Result<Node, Error> {
        if changed != 1 {
            return Err(registry_error(&self.path, "was changed by another process while it claimed the same node"));
        }
        self.node(&node.binding.fiduciary)?.ok_or_else(|| self.damaged())
    }
}
