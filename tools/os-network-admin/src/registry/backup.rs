//! A copy of the registry, and the way back: what a copy has comes into a registry that is lost, or into one that knows nothing
//! else; no counter falls by it.

use std::{fs, io::Write, path::Path, sync::Arc};

use rusqlite::{Connection, params};
use wire::{Hash, Key};

use super::{
    audit::{self, Event, Head, Joined, Kind, Tag},
    carry,
    file::{First, Registry, explain, journal, registry_error},
    schema::LOGGED,
    wanted,
};
use crate::base::{
    error::{Error, Exit},
    files::SecretBytes,
    host::Host,
};

/// Milliseconds that counters go ahead of the clock and of the copy where what was counted since is lost. They follow the clock;
/// finds may be ahead of it by more, since a hunt goes on in steps of a minute.
const AHEAD_MS: i64 = 3_600_000;
const FINDS_AHEAD_MS: i64 = 86_400_000;

/// What became of a registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Restored {
    /// There was none.
    Made,
    /// It was there: so many of its counters stood above the copy's, and stay; and so it went with the log.
    Merged { higher: u64, log: Joined },
}

/// A copy that was looked through, beside the registry that it is for. Dropped, it is gone.
pub struct FromBackup {
    file: tempfile::NamedTempFile,
    registry: Registry,
    /// An earlier version had no log.
    has_log: bool,
}

impl Registry {
    /// All of it, as it is between two changes.
    pub fn copy(&mut self) -> Result<SecretBytes, Error> {
        let copy = self.connection.serialize("main");
        copy.map(|copy| SecretBytes::new(copy.to_vec())).map_err(|error| explain(&self.path, &error))
    }

    /// The WireGuard keys of the authority that its fleets name.
    pub fn authorities(&self) -> Result<Vec<Key>, Error> {
        let sql = "SELECT DISTINCT authority FROM fleet WHERE authority IS NOT NULL";
        self.list(sql, [], |row| Ok(Key::try_from(row.get::<_, Vec<u8>>(0)?).ok()))
    }

    /// An error if the copy lacks what this one knows.
    fn lacks_nothing(&self, connection: &Connection) -> Result<(), Error> {
        let read = |sql: &str| -> rusqlite::Result<i64> { connection.query_row(sql, [], |row| row.get(0)) };
        let count = |sql| read(sql).map_err(|error| explain(&self.path, &error));
        let nodes = count(
            "SELECT count(*) FROM main.node n WHERE NOT EXISTS (SELECT 1 FROM copy.node c \
             WHERE c.fiduciary = n.fiduciary AND c.grant_bytes = n.grant_bytes AND c.state = n.state)",
        )?;
        let members = count(
            "SELECT count(*) FROM main.member m WHERE NOT EXISTS (SELECT 1 FROM copy.member c \
             WHERE c.fleet = m.fleet AND c.host = m.host AND c.fiduciary IS m.fiduciary AND c.name IS m.name \
             AND c.key = m.key AND c.preshared = m.preshared)",
        )?;
        let fleets = count(
            "SELECT count(*) FROM main.fleet f WHERE NOT EXISTS (SELECT 1 FROM copy.fleet c WHERE c.id = f.id \
             AND c.network = f.network AND c.length = f.length AND c.port = f.port \
             AND (f.authority IS NULL OR c.authority IS f.authority))",
        )?;
        if (nodes, members, fleets) == (0, 0, 0) {
            return Ok(());
        }
        Err(Error::input(format!(
            "the registry {path} knows {nodes} claims, {members} places in the mesh and {fleets} fleets that the backup lacks: \
             nothing was restored. To have the backup in its place, and lose these, move {path} away and restore again",
            path = self.path.display()
        )))
    }
}

impl FromBackup {
    /// Looks through a copy for the registry at `path`; it becomes one of this version.
    pub fn open(path: &Path, bytes: &[u8], host: Arc<dyn Host>) -> Result<Self, Error> {
        // Of an empty file SQLite would make a registry.
        if !bytes.starts_with(b"SQLite format 3\0") {
            return Err(Error::input("the backup's registry cannot be used: it is none"));
        }
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let made = tempfile::Builder::new().prefix(".os-network-admin-").tempfile_in(folder).and_then(|mut file| {
            file.write_all(bytes)?;
            Ok(file)
        });
        let file = made.map_err(|error| {
            Error::new(Exit::Other, format!("the backup cannot be looked through in {}: {error}", folder.display()))
        })?;
        let bad = |error: Error| Error::input(format!("the backup's registry cannot be used: {}", error.message));
        let registry = Registry::connect(file.path(), host, First::Write).map_err(bad)?;
        let sound = registry
            .read(|connection| connection.query_row("PRAGMA integrity_check(1)", [], |row| row.get::<_, String>(0)));
        if sound.map_err(bad)? != "ok" {
            return Err(Error::input("the backup's registry is damaged: take another backup"));
        }
        // The user version, in the header.
        let schema = bytes.get(60..64).and_then(|schema| schema.try_into().ok()).map_or(0, i32::from_be_bytes);
        Ok(Self { file, registry, has_log: schema >= LOGGED })
    }

    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// An error if [`FromBackup::restore`] would refuse.
    pub fn check(&self, path: &Path) -> Result<(), Error> {
        match Registry::open_existing(path)? {
            Some(present) => {
                self.name_fleets(&present)?;
                self.attached(&present, |connection| present.lacks_nothing(connection))
            }
            // SQLite would take what an end without a goodbye left for this one's.
            None if journal(path).exists() => Err(registry_error(
                path,
                &format!("is not there, and its journal is: move {} away too", journal(path).display()),
            )),
            None => Ok(()),
        }
    }

    /// Has the registry at `path` say what the copy says: all of it or nothing, wherever it ends.
    pub fn restore(self, path: &Path) -> Result<Restored, Error> {
        self.check(path)?;
        match Registry::open_existing(path)? {
            Some(present) => self.merge_into(&present).map(|(higher, log)| Restored::Merged { higher, log }),
            None => self.make(path),
        }
    }

    /// How many counters were higher there, and how it went with the log: it never gets shorter.
    pub fn merge_into(&self, present: &Registry) -> Result<(u64, Joined), Error> {
        self.name_fleets(present)?;
        self.attached(present, |connection| {
            present.whole(|present| {
                present.lacks_nothing(connection)?;
                let higher = merge(connection).map_err(|error| explain(&present.path, &error))?;
                Ok((higher, self.join_logs(connection, present)?))
            })
        })
    }

    /// A copy of an earlier schema has half of each fleet's id, where the registry that it is for may have all of it.
    fn name_fleets(&self, present: &Registry) -> Result<(), Error> {
        let ids: Vec<Hash> = present.list("SELECT id FROM fleet", [], |row| Ok(row.get(0).ok()))?;
        self.registry.run(|connection| ids.iter().try_for_each(|id| carry::whole_id(connection, id)))
    }

    fn join_logs(&self, connection: &Connection, present: &Registry) -> Result<Joined, Error> {
        let none = || Event::new(Kind::Restored).text(Tag::What, "the backup has no log");
        let joined = if self.has_log { audit::join(connection) } else { Ok((Joined::Known, none())) };
        let (joined, event) = joined.map_err(|error| explain(&present.path, &error))?;
        if let Joined::Bad(bad) = joined {
            return Err(Error::input(format!(
                "the log of the backup is not as it was written, entry {}: {}; nothing was restored. To have the backup all the \
                 same, move {} away and restore again",
                bad.sequence,
                bad.why,
                present.path.display()
            )));
        }
        present.log(event)?;
        Ok(joined)
    }

    fn make(self, path: &Path) -> Result<Restored, Error> {
        let Self { file, registry, has_log: _ } = self;
        let now = registry.host.now_ms();
        registry.run(|connection| {
            let sql = "UPDATE counter SET last = max(last, ?1) + ?2, find = max(find, ?1) + ?3";
            connection.execute(sql, params![now, AHEAD_MS, FINDS_AHEAD_MS])?;
            let sql = "UPDATE member SET command_counter = max(command_counter, ?1) + ?2 WHERE fiduciary IS NOT NULL";
            connection.execute(sql, params![now / 1000, AHEAD_MS / 1000])?;
            let head = Head::of(connection)?;
            let restored = Event::new(Kind::Restored).bytes(Tag::Head, &head.hash).number(Tag::Sequence, head.sequence);
            let what = "the registry was not there: what was logged since the backup is not in this log";
            registry.note(connection, restored.text(Tag::What, what))
        })?;
        drop(registry);
        let stored = file.as_file().sync_all().and_then(|()| {
            file.persist_noclobber(path).map_err(|error| error.error)?;
            let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
            fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
        });
        stored.map_err(|error| registry_error(path, &format!("cannot be made: {error}")))?;
        Ok(Restored::Made)
    }

    /// Reads this beside another.
    fn attached<T>(&self, beside: &Registry, work: impl FnOnce(&Connection) -> Result<T, Error>) -> Result<T, Error> {
        let connection = &beside.connection;
        let name = self.file.path().to_string_lossy();
        connection.execute("ATTACH ?1 AS copy", [name]).map_err(|error| explain(self.file.path(), &error))?;
        let done = work(connection);
        let gone = connection.execute_batch("DETACH copy").map_err(|error| explain(&beside.path, &error));
        let done = done?;
        gone.map(|()| done)
    }
}

/// Within a transaction: what the copy has, and of what rises or stays the higher of both. How many counters were higher here.
fn merge(connection: &Connection) -> rusqlite::Result<u64> {
    let higher = "SELECT (SELECT (m.last > c.last) + (m.find > c.find) + (m.stamp_ms > c.stamp_ms) \
                  FROM main.counter m, copy.counter c) + (SELECT count(*) FROM main.member m JOIN copy.member c \
                  ON c.fleet = m.fleet AND c.host = m.host WHERE m.command_counter > c.command_counter)";
    let higher: i64 = connection.query_row(higher, [], |row| row.get(0))?;
    connection.execute_batch(
        "UPDATE main.counter SET last = max(last, (SELECT last FROM copy.counter)),
            find = max(find, (SELECT find FROM copy.counter)),
            stamp_ms = max(stamp_ms, (SELECT stamp_ms FROM copy.counter));
        CREATE TEMP TABLE held AS SELECT * FROM main.member;
        CREATE TEMP TABLE held_fleet AS SELECT id, revision FROM main.fleet;
        CREATE TEMP TABLE held_node AS SELECT * FROM main.node;
        DELETE FROM main.flow; INSERT INTO main.flow SELECT * FROM copy.flow;
        DELETE FROM main.free_host; INSERT INTO main.free_host SELECT * FROM copy.free_host;
        DELETE FROM main.node; INSERT INTO main.node SELECT * FROM copy.node;
        DELETE FROM main.member; DELETE FROM main.fleet;
        INSERT INTO main.fleet SELECT * FROM copy.fleet; INSERT INTO main.member SELECT * FROM copy.member;
        UPDATE main.fleet SET revision = max(revision, ifnull((SELECT h.revision FROM held_fleet h WHERE h.id = fleet.id), 0));
        UPDATE main.node SET acknowledged = 1, acknowledged_ms = h.acknowledged_ms FROM held_node h
            WHERE h.grant_bytes = node.grant_bytes AND h.acknowledged = 1 AND node.acknowledged = 0;
        UPDATE main.member SET command_counter = max(member.command_counter, h.command_counter),
            revoked_ms = ifnull(member.revoked_ms, h.revoked_ms) FROM held h
            WHERE h.fleet = member.fleet AND h.host = member.host;
        UPDATE main.member SET configuration = h.configuration, configuration_counter = h.configuration_counter,
            shown = h.shown FROM held h WHERE h.fleet = member.fleet AND h.host = member.host
            AND h.configuration_counter > ifnull(member.configuration_counter, -1);
        UPDATE main.member SET telemetry = h.telemetry, telemetry_ms = h.telemetry_ms, seen = h.seen, doubt = h.doubt
            FROM held h WHERE h.fleet = member.fleet AND h.host = member.host
            AND h.telemetry_ms > ifnull(member.telemetry_ms, -1);
        INSERT OR IGNORE INTO main.promised SELECT * FROM copy.promised;
        INSERT OR IGNORE INTO main.parting SELECT * FROM copy.parting;
        INSERT OR IGNORE INTO main.receipt SELECT * FROM copy.receipt;
        INSERT OR IGNORE INTO main.record SELECT * FROM copy.record;
        INSERT OR IGNORE INTO main.approved SELECT * FROM copy.approved;
        DELETE FROM main.promised WHERE EXISTS (SELECT 1 FROM main.member m WHERE m.fleet = promised.fleet
            AND (m.host = promised.host OR m.fiduciary = promised.fiduciary));
        DELETE FROM main.free_host WHERE EXISTS (SELECT 1 FROM main.promised p WHERE p.fleet = free_host.fleet
            AND p.host = free_host.host);
        DROP TABLE held; DROP TABLE held_fleet; DROP TABLE held_node;",
    )?;
    let fleets = connection
        .prepare("SELECT id FROM main.fleet")?
        .query_map([], |row| row.get(0))?
        .collect::<Result<Vec<Vec<u8>>, _>>()?;
    for fleet in fleets {
        if let Ok(id) = <[u8; 32]>::try_from(fleet) {
            wanted::refresh_fleet(connection, &id)?;
        }
    }
    Ok(higher.unsigned_abs())
}
