//! When each member last changed, in numbers that rise with every change of a fleet: so that whoever keeps what members are
//! reads those that have changed and no others. What nodes say, and counters, are no such change.

use rusqlite::Connection;

/// A member has changed, or is new.
pub fn member(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    let sql = "UPDATE fleet SET revision = revision + 1 WHERE id = (SELECT fleet FROM member WHERE id = ?1)";
    connection.prepare_cached(sql)?.execute([id])?;
    let sql = "UPDATE member SET revision = (SELECT revision FROM fleet WHERE id = member.fleet) WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([id]).map(|_| ())
}

/// All members of a fleet have changed.
pub fn all(connection: &Connection, fleet: &[u8; 32]) -> rusqlite::Result<()> {
    let sql = "UPDATE fleet SET revision = revision + 1, reset = revision + 1 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute([fleet.as_slice()]).map(|_| ())
}
