//! What nodes prove of what their owners have decided, and how a node is to leave.

use rusqlite::{Connection, params};
use wire::{
    Hash, Key,
    order::Release,
    receipt::{Kind as Proof, Receipt},
};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    audit::{Event, Kind, Tag},
    file::Registry,
    members::id_of,
    node::Node,
    wanted,
};
use crate::base::error::Error;

/// Receipts that are kept of one node: whatever it signs, it fills no disk.
pub const MAX_RECEIPTS: usize = 64;

/// How a node was told to leave, and whether it has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parting {
    /// `None`: not from this registry.
    pub told: Option<(Release, i64)>,
    /// Its word that it has, and when that came.
    pub receipt: Option<(Receipt, i64)>,
}

impl Registry {
    /// Notes how a node is told to leave, before it is.
    pub fn store_parting(&self, node: &Node, release: &Release) -> Result<(), Error> {
        let warrant = &node.title.warrant;
        let sql = "INSERT OR REPLACE INTO parting (fiduciary, epoch, body, told_ms) VALUES (?1, ?2, ?3, ?4)";
        let (epoch, now) = (number(warrant.epoch.get()), self.host.now_ms());
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement.execute(params![warrant.fiduciary.as_slice(), epoch, release.as_bytes(), now]).map(|_| ())
        })
    }

    /// How a node leaves the claim that is known of it; `None`: it was not told to, and did not.
    pub fn parting(&self, node: &Node) -> Result<Option<Parting>, Error> {
        let warrant = &node.title.warrant;
        let (fiduciary, epoch) = (warrant.fiduciary.as_slice(), number(warrant.epoch.get()));
        let sql = "SELECT body, told_ms FROM parting WHERE fiduciary = ?1 AND epoch = ?2";
        let told = self.one(sql, params![fiduciary, epoch], |row| {
            let body = Release::read_from_bytes(&row.get::<_, Vec<u8>>(0)?).ok();
            Ok(body.zip(row.get(1)?))
        })?;
        let sql = "SELECT bytes, heard_ms FROM receipt \
                   WHERE fiduciary = ?1 AND fleet = ?2 AND kind = ?3 AND number = ?4 LIMIT 1";
        let key = params![fiduciary, warrant.fleet.as_slice(), Proof::Release as i64, epoch];
        let receipt = self.one(sql, key, |row| {
            let receipt = Receipt::read_from_bytes(&row.get::<_, Vec<u8>>(0)?).ok();
            Ok(receipt.zip(row.get(1)?))
        })?;
        Ok((told.is_some() || receipt.is_some()).then_some(Parting { told, receipt }))
    }

    /// Whether the node has said that it is ours no more.
    pub fn has_left(&self, node: &Node) -> Result<bool, Error> {
        Ok(self.parting(node)?.is_some_and(|parting| parting.receipt.is_some()))
    }

    /// Keeps receipts. One that is none, of no node of ours, of another fleet or claim, or too many, is not kept: how many those
    /// were. A node that has left is no member any more.
    pub fn store_receipts<'a>(&self, receipts: impl IntoIterator<Item = &'a Receipt>) -> Result<u64, Error> {
        let mut bad = 0;
        self.whole(|registry| {
            for receipt in receipts {
                if !registry.store_receipt(receipt)? {
                    bad += 1;
                }
            }
            Ok(bad)
        })
    }

    fn store_receipt(&self, receipt: &Receipt) -> Result<bool, Error> {
        let node = self.node(&receipt.fiduciary)?.filter(|node| node.record.is_some());
        let (Some(kind), Some(node)) = (receipt.kind(), node) else { return Ok(false) };
        let warrant = &node.title.warrant;
        let ours = warrant.fleet == receipt.fleet && (kind != Proof::Release || receipt.number == warrant.epoch);
        if !ours || receipt.verify().is_none() {
            return Ok(false);
        }
        // Its last word is kept whatever it has said before.
        if kind != Proof::Release && self.is_full(receipt)? {
            return Ok(false);
        }
        // Whoever was cut off comes back by no word of his own.
        let place = self.mesh_address(&receipt.fiduciary)?;
        let is_revoked = place.is_some_and(|place| place.revoked_ms.is_some());
        if kind == Proof::Release && is_revoked && !self.has_left(&node)? {
            return Ok(false);
        }
        self.run(|connection| {
            if !insert(connection, receipt, self.host.now_ms())? {
                return Ok(true);
            }
            let event = Event::new(Kind::Receipt).node(&receipt.fiduciary).bytes(Tag::Fleet, &receipt.fleet);
            let event = event.text(Tag::What, kind.name()).number(Tag::Number, receipt.number.get());
            self.note(connection, event.bytes(Tag::Hash, &receipt.hash))?;
            if let Some(member) = id_of(connection, &receipt.fiduciary)?.filter(|_| kind == Proof::Release) {
                wanted::changing(connection, member, || {
                    let sql = "UPDATE member SET revoked_ms = ifnull(revoked_ms, ?2) WHERE id = ?1";
                    connection.prepare_cached(sql)?.execute(params![member, self.host.now_ms()]).map(|_| ())
                })?;
            }
            Ok(true)
        })
    }

    /// Whether there is no room for another receipt of its node; one that is here needs none.
    fn is_full(&self, receipt: &Receipt) -> Result<bool, Error> {
        let sql = "SELECT bytes FROM receipt WHERE fiduciary = ?1";
        let kept: Vec<Vec<u8>> = self.list(sql, [receipt.fiduciary.as_slice()], |row| row.get(0).map(Some))?;
        Ok(kept.len() >= MAX_RECEIPTS && !kept.iter().any(|bytes| bytes == receipt.as_bytes()))
    }

    /// What a node has proved of authority records: sequences and hashes, the last first.
    pub fn proved(&self, fleet: &Hash, fiduciary: &Key) -> Result<Vec<Receipt>, Error> {
        let sql = "SELECT bytes FROM receipt WHERE fiduciary = ?1 AND fleet = ?2 AND kind = ?3 ORDER BY number DESC";
        let key = params![fiduciary.as_slice(), fleet.as_slice(), Proof::Record as i64];
        self.list(sql, key, |row| Ok(Receipt::read_from_bytes(&row.get::<_, Vec<u8>>(0)?).ok()))
    }
}

/// Whether it is new.
fn insert(connection: &Connection, receipt: &Receipt, now_ms: i64) -> rusqlite::Result<bool> {
    let sql = "INSERT OR IGNORE INTO receipt (fiduciary, fleet, kind, number, hash, bytes, heard_ms) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    let inserted = connection.prepare_cached(sql)?.execute(params![
        receipt.fiduciary.as_slice(),
        receipt.fleet.as_slice(),
        receipt.kind.get(),
        number(receipt.number.get()),
        receipt.hash.as_slice(),
        receipt.as_bytes(),
        now_ms,
    ])?;
    Ok(inserted == 1)
}

/// As SQLite counts. No fleet and no node comes that far.
pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
