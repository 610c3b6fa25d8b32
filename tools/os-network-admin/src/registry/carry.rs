//! What schema 3 keeps beside the rest, for a registry of an earlier version.

use rusqlite::{Connection, Row, params};
use wire::{Key, binding::configuration_hash};

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
