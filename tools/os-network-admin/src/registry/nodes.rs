//! What is done with nodes.

use rusqlite::{Connection, params};
use wire::{
    Fingerprint, Hex, Ip, Key,
    binding::{ForkRecord, PairingRecord},
    claim::parse_grant,
    title::Title,
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    audit::{Event, Kind, Tag},
    file::{Registry, registry_error},
    members::id_of,
    node::{Accepted, AnchorKind, COLUMNS, NewNode, Node},
    pack::print,
    wanted,
};
use crate::base::error::Error;

impl Registry {
    /// What is known of a node.
    pub fn node(&self, fiduciary: &Key) -> Result<Option<Node>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM node WHERE fiduciary = ?1 AND state <> 'superseded'");
        self.one(&sql, [fiduciary.as_slice()], Node::read)
    }

    /// The node with a fingerprint.
    pub fn node_with(&self, print: &Fingerprint) -> Result<Option<Node>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM node WHERE print = ?1 AND state <> 'superseded'");
        self.one(&sql, [Hex(&print.0).to_string()], Node::read)
    }

    /// The nodes whose fingerprints begin with these digits, but no more than two.
    pub fn nodes_with_print(&self, digits: &str) -> Result<Vec<Node>, Error> {
        // No digit is as high as g.
        let sql = format!(
            "SELECT {COLUMNS} FROM node WHERE print >= ?1 AND print < ?1 || 'g' AND state <> 'superseded' LIMIT 2"
        );
        self.list(&sql, [digits], Node::read)
    }

    /// Stores a grant before it is sent. It replaces one that the node has never committed; a pairing that it follows is kept as superseded.
    pub fn store_pending(&self, node: &NewNode<'_>) -> Result<Node, Error> {
        let (head, _) = parse_grant(node.grant).ok_or_else(|| self.damaged())?;
        let fiduciary = head.title.warrant.fiduciary;
        let now = self.host.now_ms();
        self.run(|connection| {
            touching(connection, &fiduciary, || {
                self.supersede(connection, &fiduciary)?;
                let sql = "INSERT INTO node (fiduciary, state, grant_bytes, fleet, anchor, accepted, address, interface, \
                           pending_ms, print, fork) VALUES (?1, 'pending', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)";
                connection
                    .prepare_cached(sql)?
                    .execute(params![
                        fiduciary.as_slice(),
                        node.grant,
                        node.fleet,
                        node.anchor.word(),
                        node.accepted.word(),
                        node.address.as_slice(),
                        node.interface,
                        now,
                        print(&fiduciary),
                        node.fork.map(ForkRecord::as_bytes),
                    ])
                    .map(|_| ())?;
                let title = &head.title;
                let granted = Event::new(Kind::Granted)
                    .node(&fiduciary)
                    .bytes(Tag::Fleet, &title.warrant.fleet)
                    .text(Tag::Name, node.fleet)
                    .bytes(Tag::Binding, &title.binding.hash())
                    .bytes(Tag::Configuration, &title.warrant.configuration)
                    .number(Tag::Epoch, title.warrant.epoch.get())
                    .number(Tag::Counter, title.binding.counter.get())
                    .text(Tag::Anchor, node.anchor.word())
                    .text(Tag::Accepted, node.accepted.word());
                self.note(connection, granted)
            })
        })?;
        self.node(&fiduciary)?.ok_or_else(|| self.damaged())
    }

    /// Stores the node's signed word, as an ADMIN pairing. Of a node that is paired already the time stays.
    pub fn store_paired(&self, node: &Node, record: &PairingRecord, rivals: u32) -> Result<Node, Error> {
        let mut changed = 0;
        self.run(|connection| {
            touching(connection, &node.title.warrant.fiduciary, || {
                let sql = "UPDATE node SET state = 'paired', record = ?2, rivals = ?3, paired_ms = ifnull(paired_ms, ?4) \
                           WHERE id = ?1 AND state <> 'superseded'";
                let mut statement = connection.prepare_cached(sql)?;
                changed = statement.execute(params![node.id, record.as_bytes(), rivals, self.host.now_ms()])?;
                if changed == 1 { self.note(connection, about(Kind::Paired, node)) } else { Ok(()) }
            })
        })?;
        self.after(changed, node)
    }

    /// Notes that the acknowledgement has arrived.
    pub fn store_acknowledged(&self, node: &Node) -> Result<Node, Error> {
        let changed = self.run(|connection| {
            let sql = "UPDATE node SET acknowledged = 1, acknowledged_ms = ifnull(acknowledged_ms, ?2) \
                       WHERE id = ?1 AND state = 'paired'";
            let changed = connection.prepare_cached(sql)?.execute(params![node.id, self.host.now_ms()])?;
            if changed == 1 {
                self.note(connection, about(Kind::Acknowledged, node).text(Tag::By, "claim"))?;
            }
            Ok(changed)
        })?;
        self.after(changed, node)
    }

    fn after(&self, changed: usize, node: &Node) -> Result<Node, Error> {
        if changed != 1 {
            return Err(registry_error(&self.path, "was changed by another process while it claimed the same node"));
        }
        self.node(&node.title.warrant.fiduciary)?.ok_or_else(|| self.damaged())
    }
}

/// A node that another authority's registry has, as the node itself has signed it.
pub struct Handed<'a> {
    /// A grant as it was sent, or without its configuration.
    pub grant: &'a [u8],
    pub record: &'a PairingRecord,
    pub fork: Option<&'a ForkRecord>,
    pub anchor: AnchorKind,
    pub acknowledged: bool,
    pub address: Ip,
    /// Ours, on its link; empty if it is not on a link of ours.
    pub interface: &'a str,
    /// Who has handed it on.
    pub by: &'a Key,
}

impl Registry {
    /// Stores it as paired. What is known of an earlier epoch is kept as superseded.
    pub fn store_handed(&self, fleet: &str, node: &Handed<'_>) -> Result<(), Error> {
        let (head, _) = parse_grant(node.grant).ok_or_else(|| self.damaged())?;
        let (fiduciary, now) = (head.title.warrant.fiduciary, self.host.now_ms());
        self.run(|connection| {
            touching(connection, &fiduciary, || {
                self.supersede(connection, &fiduciary)?;
                let sql = "INSERT INTO node (fiduciary, state, grant_bytes, fleet, anchor, accepted, address, interface, \
                           pending_ms, print, fork, record, rivals, paired_ms, acknowledged, acknowledged_ms) \
                           VALUES (?1, 'paired', ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, 0, ?8, ?12, iif(?12, ?8, NULL))";
                connection.prepare_cached(sql)?.execute(params![
                    fiduciary.as_slice(),
                    node.grant,
                    fleet,
                    node.anchor.word(),
                    Accepted::Imported.word(),
                    node.address.as_slice(),
                    node.interface,
                    now,
                    print(&fiduciary),
                    node.fork.map(ForkRecord::as_bytes),
                    node.record.as_bytes(),
                    node.acknowledged,
                ])?;
                let Title { binding, warrant, .. } = &head.title;
                let event = Event::new(Kind::Imported).node(&fiduciary).bytes(Tag::Fleet, &warrant.fleet);
                let event = event.bytes(Tag::Binding, &binding.hash()).number(Tag::Epoch, warrant.epoch.get());
                self.note(connection, event.bytes(Tag::Key, node.by))
            })
        })
    }

    /// Of what is known of a node, what it never committed goes, and its pairing is one of before.
    fn supersede(&self, connection: &Connection, fiduciary: &Key) -> rusqlite::Result<()> {
        // That its state is another is said for the index.
        let sql = "DELETE FROM node WHERE fiduciary = ?1 AND state = 'pending' AND state <> 'superseded'";
        connection.prepare_cached(sql)?.execute([fiduciary.as_slice()])?;
        let sql = "UPDATE node SET state = 'superseded' WHERE fiduciary = ?1 AND state <> 'superseded'";
        if connection.prepare_cached(sql)?.execute([fiduciary.as_slice()])? > 0 {
            self.note(connection, Event::new(Kind::Superseded).node(fiduciary))?;
        }
        Ok(())
    }

    /// The fork record of a node, if it was seen.
    pub fn fork(&self, fiduciary: &Key) -> Result<Option<ForkRecord>, Error> {
        let sql = "SELECT fork FROM node WHERE fiduciary = ?1 AND state <> 'superseded'";
        let row = self.one(sql, [fiduciary.as_slice()], |row| row.get::<_, Option<Vec<u8>>>(0).map(Some))?;
        let bytes = row.flatten();
        bytes.map(|bytes| ForkRecord::read_from_bytes(&bytes).map_err(|_| self.damaged())).transpose()
    }
}

fn about(kind: Kind, node: &Node) -> Event {
    Event::new(kind).node(&node.title.warrant.fiduciary).bytes(Tag::Binding, &node.title.binding.hash())
}

/// A node changes: so may the configurations of members that know it.
fn touching(
    connection: &Connection,
    fiduciary: &Key,
    change: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    match id_of(connection, fiduciary)? {
        Some(member) => wanted::changing(connection, member, change),
        None => change(),
    }
}
