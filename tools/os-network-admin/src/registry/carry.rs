//! What a later schema keeps beside the rest or in another form, for a registry of an earlier version.

use rusqlite::{Connection, Row, params};
use wire::{
    Hash, Key,
    binding::configuration_hash,
    claim::{kind, parse_grant},
};

use super::{
    fleet::{AUTHORITY, Rules},
    member::latest,
    pack::{maybe_unpack, print},
    wanted,
};

/// What nodes should have follows when the authority's key is known. A row that cannot be read stays as it is.
pub fn over(connection: &Connection, now_ms: i64) -> rusqlite::Result<()> {
    let ids = |sql: &str| connection.prepare(sql)?.query_map([], |row| row.get(0))?.collect::<Result<Vec<i64>, _>>();
    for id in ids("SELECT id FROM node")? {
        let mut statement = connection.prepare_cached("SELECT fiduciary FROM node WHERE id = ?1")?;
        let fiduciary: Vec<u8> = statement.query_row([id], |row| row.get(0))?;
        let print = Key::try_from(fiduciary).ok().map(|fiduciary| print(&fiduciary));
        connection.prepare_cached("UPDATE node SET print = ?2 WHERE id = ?1")?.execute(params![id, print])?;
    }
    for id in ids("SELECT id FROM member")? {
        let sql = "SELECT fleet, fiduciary, rules, configuration FROM member WHERE id = ?1";
        let mut statement = connection.prepare_cached(sql)?;
        let bytes = |row: &Row<'_>, at| row.get::<_, Option<Vec<u8>>>(at);
        let row = statement.query_row([id], |row| Ok((row.get(0)?, bytes(row, 1)?, bytes(row, 2)?, bytes(row, 3)?)));
        let (fleet, fiduciary, rules, configuration): (Vec<u8>, _, _, _) = row?;
        let print = fiduciary.and_then(|key| Key::try_from(key).ok()).map(|fiduciary| print(&fiduciary));
        let shown = configuration.map(|bytes| configuration_hash(&bytes));
        let sql = "UPDATE member SET print = ?2, shown = ?3 WHERE id = ?1";
        connection.prepare_cached(sql)?.execute(params![id, print, shown.as_ref().map(|hash| hash.as_slice())])?;
        let rules: Option<Rules> = maybe_unpack(rules).flatten();
        wanted::store_flows(connection, &fleet, id, rules.as_ref())?;
    }
    // A node that said it was far ahead once had its counter used up.
    let latest = latest(now_ms);
    let sql = "UPDATE member SET command_counter = ?1 WHERE command_counter > ?2";
    connection.execute(sql, params![now_ms / 1000, latest])?;
    gaps(connection)
}

/// Places below others' that nobody has.
fn gaps(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT fleet, host FROM member ORDER BY fleet, host")?;
    let mut rows = statement.query([])?;
    let (mut last, mut next) = (Vec::new(), 0);
    while let Some(row) = rows.next()? {
        let (fleet, host): (Vec<u8>, i64) = (row.get(0)?, row.get(1)?);
        if fleet != last {
            (last, next) = (fleet, i64::from(AUTHORITY) + 1);
        }
        // A place that no network has is damage, not the end of a gap.
        for free in (next..host).take(usize::from(u16::MAX)) {
            let sql = "INSERT OR IGNORE INTO free_host (fleet, host) VALUES (?1, ?2)";
            connection.prepare_cached(sql)?.execute(params![last, free])?;
        }
        next = host.saturating_add(1);
    }
    Ok(())
}

/// Bytes of a fleet's id in schemas 2 to 6: the first of what it is now.
const SHORT: usize = 16;

/// Schema 7: ids of 32 bytes, of which the second half is not known before the fleet is named again, and zeros until then.
pub fn to_long_ids(connection: &Connection) -> rusqlite::Result<()> {
    let mut statement = connection.prepare("SELECT id FROM fleet")?;
    let ids = statement.query_map([], |row| row.get(0))?;
    for id in ids.collect::<Result<Vec<Vec<u8>>, _>>()? {
        rename(connection, &id, &[&id[..], &[0; SHORT]].concat())?;
    }
    Ok(())
}

/// Schema 8: what was granted in a form of before no node of this version has: it is kept, as superseded. How many there are.
pub fn supersede_outdated(connection: &Connection) -> rusqlite::Result<usize> {
    let mut outdated = 0;
    let mut statement = connection.prepare("SELECT id, grant_bytes FROM node WHERE state <> 'superseded'")?;
    let grants = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    for (id, grant) in grants.collect::<Result<Vec<(i64, Vec<u8>)>, _>>()? {
        if parse_grant(&grant).is_none() && is_outdated(&grant) {
            outdated += 1;
            connection.execute("UPDATE node SET state = 'superseded' WHERE id = ?1", [id])?;
        }
    }
    Ok(outdated)
}

/// What to say of these.
pub fn outdated(count: usize) -> String {
    format!(
        "warning: {count} nodes were claimed in a form that no node has any more: the registry keeps the claims as superseded; \
         erase the store of each of these nodes, and claim it anew"
    )
}

/// Whether it is a grant as it was before schema 8.
fn is_outdated(grant: &[u8]) -> bool {
    // Of schemas 1 to 6, and 7.
    const HEADS: [usize; 2] = [528, 1240];
    let length = grant.get(6..8).and_then(|length| length.try_into().ok()).map(u16::from_be_bytes);
    let fits = |head: usize| length.map(usize::from) == grant.len().checked_sub(head);
    grant.first() == Some(&kind::GRANT) && length.is_some() && HEADS.into_iter().any(fits)
}

/// A fleet of which only the first half of the id was known is the one of this id.
pub fn whole_id(connection: &Connection, id: &Hash) -> rusqlite::Result<()> {
    let mut half = *id;
    half[SHORT..].fill(0);
    rename(connection, &half, id)
}

fn rename(connection: &Connection, from: &[u8], to: &[u8]) -> rusqlite::Result<()> {
    if from == to || !connection.prepare_cached("SELECT 1 FROM fleet WHERE id = ?1")?.exists([from])? {
        return Ok(());
    }
    connection.execute_batch("PRAGMA defer_foreign_keys = ON")?;
    for (table, column) in [("fleet", "id"), ("member", "fleet"), ("free_host", "fleet"), ("flow", "fleet")] {
        connection.execute(&format!("UPDATE {table} SET {column} = ?2 WHERE {column} = ?1"), params![from, to])?;
    }
    Ok(())
}
