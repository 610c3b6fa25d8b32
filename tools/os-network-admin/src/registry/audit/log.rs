//! The log in the registry: a table that only grows, and where it ends.

use std::sync::Arc;

use crypto::AnchorSecret;
use rusqlite::{Connection, Row, params};
use wire::Hash;

use super::entry::{Entry, Event, Kind, Signed};
use crate::base::guard::Locked;

/// The administrator's key, unlocked.
pub type Signer = Arc<Locked<AnchorSecret>>;

/// Where a log ends; without an entry at zero.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Head {
    pub sequence: u64,
    pub hash: Hash,
}

impl Head {
    pub fn of(connection: &Connection) -> rusqlite::Result<Self> {
        Self::by(connection, "SELECT sequence, hash FROM main.audit_head")
    }

    /// Of a copy that is attached.
    pub fn of_copy(connection: &Connection) -> rusqlite::Result<Self> {
        Self::by(connection, "SELECT sequence, hash FROM copy.audit_head")
    }

    fn by(connection: &Connection, sql: &str) -> rusqlite::Result<Self> {
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_row([], |row| Ok(Self { sequence: row.get::<_, i64>(0)?.unsigned_abs(), hash: row.get(1)? }))
    }
}

/// All entries, from the first to the last.
pub fn read(connection: &Connection, mut each: impl FnMut(i64, Signed)) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached("SELECT * FROM main.audit ORDER BY sequence")?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        each(row.get("sequence")?, signed(row)?);
    }
    Ok(())
}

fn signed(row: &Row<'_>) -> rusqlite::Result<Signed> {
    Ok(Signed { entry: row.get("entry")?, signature: row.get("signature")? })
}

/// Within a transaction: the entry that follows the last one.
pub fn append(
    connection: &Connection,
    now_ms: i64,
    signer: Option<&AnchorSecret>,
    event: Event,
) -> rusqlite::Result<()> {
    let head = Head::of(connection)?;
    if head == Head::default() && !event.begins() {
        append(connection, now_ms, signer, Event::new(Kind::Began))?;
        return append(connection, now_ms, signer, event);
    }
    let time_ms = u64::try_from(now_ms).unwrap_or_default();
    let key = signer.map(|signer| crypto::sign_public(&signer.sign));
    let entry = Entry::new(event, head.sequence + 1, time_ms, head.hash, key);
    store(connection, entry.sequence, &Signed::new(entry.to_bytes(), signer))
}

/// Within a transaction: the entry of this sequence, which is the next.
pub fn store(connection: &Connection, sequence: u64, signed: &Signed) -> rusqlite::Result<()> {
    let number = i64::try_from(sequence).unwrap_or(i64::MAX);
    let sql = "INSERT INTO main.audit (sequence, entry, signature) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![number, signed.entry, signed.signature])?;
    let sql = "UPDATE main.audit_head SET sequence = ?1, hash = ?2";
    connection.prepare_cached(sql)?.execute(params![number, signed.hash().as_slice()]).map(|_| ())
}
