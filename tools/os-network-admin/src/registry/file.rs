//! The open SQLite file: how it is made, opened and written, and the rising counter.
//!
//! Every write is durable before the function returns (rollback journal, `synchronous=EXTRA`) and whole or not there.

use std::{
    cell::RefCell,
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Params, Row, Transaction, TransactionBehavior, ffi, params};

use super::{
    audit::{self, Event, Kind, Signer, Tag},
    carry,
    schema::{APPLICATION, ELEVENTH, FIFTH, FIRST, FOURTH, NINTH, SCHEMA, SECOND, SIXTH, TENTH, THIRD},
};
use crate::base::{
    error::{Error, Exit},
    files,
    host::{self, Host},
    say::say,
};

/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(2);
/// Statements that are kept prepared.
const PREPARED: usize = 64;

/// What is done first with a registry that is opened.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum First {
    /// It waits for nobody who writes.
    Read,
    /// That it can be written is seen at once, before anything else is made.
    Write,
}

/// The open registry.
pub struct Registry {
    pub(super) path: PathBuf,
    pub(super) connection: Connection,
    pub(super) host: Arc<dyn Host>,
    /// Signs what is logged, while it is at hand.
    pub(super) signer: RefCell<Option<Signer>>,
}

impl Registry {
    /// Opens the registry, or makes it, mode 0600.
    pub fn open(path: &Path) -> Result<Self, Error> {
        Self::open_on(path, host::system())
    }

    /// The same, with the time of day and randomness of this host.
    pub fn open_on(path: &Path, host: Arc<dyn Host>) -> Result<Self, Error> {
        files::make_parent(path).map_err(|error| Error::new(Exit::Registry, error.message))?;
        let made = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(registry_error(path, &format!("cannot be made: {error}"))),
        };
        let opened = Self::connect(path, host, First::Write);
        if made && opened.is_err() {
            // Ours, and of no use to anybody: an empty file and perhaps its journal.
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(journal(path));
        }
        opened
    }

    /// Opens the registry if it is there.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, Error> {
        if files::is_there(path) { Self::connect(path, host::system(), First::Read).map(Some) } else { Ok(None) }
    }

    /// A registry that ends with this value, for tests and simulation.
    pub fn in_memory(host: Arc<dyn Host>) -> Result<Self, Error> {
        let path = Path::new("in memory");
        Self::set_up(path, Connection::open_in_memory(), host, First::Write)
    }

    pub(super) fn connect(path: &Path, host: Arc<dyn Host>, first: First) -> Result<Self, Error> {
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let opened = Connection::open_with_flags(path, flags);
        // It has preshared keys, and what it says is believed. Another program's file has its own mode.
        if opened.as_ref().is_ok_and(is_registry)
            && let Some(why) = fs::metadata(path).ok().and_then(|meta| files::exposed(&meta, path))
        {
            return Err(registry_error(path, &why));
        }
        Self::set_up(path, opened, host, first)
    }

    fn set_up(
        path: &Path,
        opened: rusqlite::Result<Connection>,
        host: Arc<dyn Host>,
        first: First,
    ) -> Result<Self, Error> {
        let setup = || {
            let connection = opened?;
            connection.busy_timeout(BUSY)?;
            connection.set_prepared_statement_cache_capacity(PREPARED);
            connection.execute_batch("PRAGMA synchronous = EXTRA; PRAGMA trusted_schema = OFF;")?;
            let number = |pragma| connection.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
            let is_current = || {
                Ok::<_, rusqlite::Error>((number("application_id")?, number("user_version")?) == (APPLICATION, SCHEMA))
            };
            if first == First::Read && is_current()? {
                return Ok((connection, SCHEMA));
            }
            let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
            let (application, mut schema) = (number("application_id")?, number("user_version")?);
            let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if (application, schema, tables) == (0, 0, 0) {
                transaction.execute_batch(FIRST)?;
                transaction.pragma_update(None, "application_id", APPLICATION)?;
                schema = 1;
            } else if application != APPLICATION {
                schema = 0;
            }
            // A registry of an earlier version goes on with what it has.
            let before = schema;
            if schema == 1 {
                transaction.execute_batch(SECOND)?;
                schema = 2;
            }
            if schema == 2 {
                transaction.execute_batch(THIRD)?;
                carry::over(&transaction, host.now_ms())?;
                schema = 3;
            }
            if schema == 3 {
                transaction.execute_batch(FOURTH)?;
                schema = 4;
            }
            if schema == 4 {
                transaction.execute_batch(FIFTH)?;
                schema = 5;
            }
            if schema == 5 {
                transaction.execute_batch(SIXTH)?;
                if tables > 0 {
                    let nodes: u32 = transaction.query_row("SELECT count(*) FROM node", [], |row| row.get(0))?;
                    let began = Event::new(Kind::Began).number(Tag::Schema, before.unsigned_abs().into());
                    audit::append(&transaction, host.now_ms(), None, began.number(Tag::Nodes, nodes.into()))?;
                }
                schema = 6;
            }
            if schema == 6 {
                carry::to_long_ids(&transaction)?;
                schema = 7;
            }
            if schema == 7 {
                let outdated = carry::supersede_outdated(&transaction)?;
                if outdated > 0 {
                    say(format_args!("{}", carry::outdated(outdated)));
                }
                schema = 8;
            }
            if schema == 8 {
                transaction.execute_batch(NINTH)?;
                schema = 9;
            }
            if schema == 9 {
                transaction.execute_batch(TENTH)?;
                schema = 10;
            }
            if schema == 10 {
                transaction.execute_batch(ELEVENTH)?;
                transaction.pragma_update(None, "user_version", SCHEMA)?;
                schema = SCHEMA;
            }
            transaction.commit()?;
            Ok((connection, schema))
        };
        let (connection, schema) = setup().map_err(|error| explain(path, &error))?;
        match schema {
            SCHEMA => Ok(Self { path: path.into(), connection, host, signer: RefCell::default() }),
            0 => Err(registry_error(path, "is another program's database: name a registry with --registry")),
            _ => Err(registry_error(path, "was made by a newer os-network-admin: use that one")),
        }
    }

    /// The next value of the rising counter, stored: the larger of the last plus one and Unix milliseconds (plus `ahead`).
    pub fn next_counter(&self, ahead: u64) -> Result<u64, Error> {
        let sql = "UPDATE counter SET last = max(last + 1, ?1) WHERE last < ?2 RETURNING last";
        self.count_on(sql, ahead)
    }

    /// The last value of it.
    pub fn last_counter(&self) -> Result<u64, Error> {
        let last: i64 =
            self.read(|connection| connection.query_row("SELECT last FROM counter", [], |row| row.get(0)))?;
        Ok(last.cast_unsigned())
    }

    /// It goes on above this value.
    pub fn raise_counter(&self, to: u64) -> Result<(), Error> {
        let to = i64::try_from(to).unwrap_or(i64::MAX);
        self.run(|connection| connection.execute("UPDATE counter SET last = max(last, ?1)", [to]).map(|_| ()))
    }

    /// The same for finds, which have a counter of their own. `past`: above what a node that has heard the last one may have
    /// stored of it, since a node stores what it has heard rounded up.
    pub fn next_find(&self, ahead: u64, past: bool) -> Result<u64, Error> {
        let sql = if past {
            "UPDATE counter SET find = max(find + 1 + (-find & 65535), ?1) WHERE find < ?2 RETURNING find"
        } else {
            "UPDATE counter SET find = max(find + 1, ?1) WHERE find < ?2 RETURNING find"
        };
        self.count_on(sql, ahead)
    }

    fn count_on(&self, sql: &str, ahead: u64) -> Result<u64, Error> {
        let floor = self.host.now_ms().saturating_add(i64::try_from(ahead).unwrap_or(i64::MAX));
        // Above this there is no multiple to round up to that nodes store.
        let bound = wire::link::UNSTORED.cast_signed() - (1 << 16);
        let next: Option<i64> =
            self.run(|transaction| transaction.query_row(sql, params![floor, bound], |row| row.get(0)).optional())?;
        next.and_then(|next| u64::try_from(next).ok())
            .ok_or_else(|| registry_error(&self.path, "has used up its counter: it was skipped too far ahead"))
    }

    /// Runs several of the registry's functions as one transaction, or as a part of the one that is open: all that they store is
    /// stored, or nothing.
    pub fn whole<T>(&self, work: impl FnOnce(&Self) -> Result<T, Error>) -> Result<T, Error> {
        if !self.connection.is_autocommit() {
            return work(self);
        }
        let transaction = self.begin()?;
        let value = work(self)?;
        transaction.commit().map_err(|error| explain(&self.path, &error))?;
        Ok(value)
    }

    /// The same, to see what would follow: nothing is stored.
    pub fn trial<T>(&self, work: impl FnOnce(&Self) -> Result<T, Error>) -> Result<T, Error> {
        if !self.connection.is_autocommit() {
            self.run(|connection| connection.execute_batch("SAVEPOINT trial"))?;
            let value = work(self);
            self.run(|connection| connection.execute_batch("ROLLBACK TO trial; RELEASE trial"))?;
            return value;
        }
        let transaction = self.begin()?;
        let value = work(self);
        transaction.rollback().map_err(|error| explain(&self.path, &error))?;
        value
    }

    fn begin(&self) -> Result<Transaction<'_>, Error> {
        // Immediate: of two processes one waits, so that no two read the same counter.
        let begun = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate);
        begun.map_err(|error| explain(&self.path, &error))
    }

    /// The same, for one statement or some.
    pub(super) fn run<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        self.whole(|_| work(&self.connection).map_err(|error| explain(&self.path, &error)))
    }

    /// Reads without storing anything.
    pub(super) fn read<T>(&self, work: impl FnOnce(&Connection) -> rusqlite::Result<T>) -> Result<T, Error> {
        work(&self.connection).map_err(|error| explain(&self.path, &error))
    }

    /// The one row of a key. `None` in a row is damage.
    pub(super) fn one<T>(
        &self,
        sql: &str,
        key: impl Params,
        read: impl FnOnce(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Option<T>, Error> {
        let row = self.read(|connection| connection.prepare_cached(sql)?.query_row(key, read).optional())?;
        row.map(|row| row.ok_or_else(|| self.damaged())).transpose()
    }

    /// All rows. One that is damaged is told of, and hides no other.
    pub(super) fn list<T>(
        &self,
        sql: &str,
        key: impl Params,
        mut read: impl FnMut(&Row<'_>) -> rusqlite::Result<Option<T>>,
    ) -> Result<Vec<T>, Error> {
        let rows = self.read(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            // What a column cannot hold is damage too.
            statement.query_map(key, |row| Ok(read(row).ok().flatten()))?.collect::<Result<Vec<_>, _>>()
        })?;
        let all = rows.len();
        let rows: Vec<T> = rows.into_iter().flatten().collect();
        if rows.len() < all {
            let many = all - rows.len();
            let path = self.path.display();
            say(format_args!(
                "warning: {many} entries of the registry {path} are damaged and left out: restore it from a backup"
            ));
        }
        Ok(rows)
    }

    /// The time of day of this registry's host.
    pub fn now_ms(&self) -> i64 {
        self.host.now_ms()
    }

    #[cfg(test)]
    pub fn connection_mut(&mut self) -> &mut Connection {
        &mut self.connection
    }

    pub fn damaged(&self) -> Error {
        registry_error(&self.path, "has a damaged entry: restore it from a backup")
    }
}

/// Whatever else is wrong with it.
fn is_registry(connection: &Connection) -> bool {
    let read = || {
        connection.busy_timeout(BUSY)?;
        connection.pragma_query_value(None, "application_id", |row| row.get::<_, i32>(0))
    };
    read().is_ok_and(|application| application == APPLICATION)
}

pub(super) fn explain(path: &Path, error: &rusqlite::Error) -> Error {
    let sqlite = error.sqlite_error();
    let why = match sqlite.map(|error| error.extended_code & 0xff) {
        Some(ffi::SQLITE_BUSY | ffi::SQLITE_LOCKED) => {
            "is locked by another process: wait until that has ended, then try again".into()
        }
        Some(ffi::SQLITE_FULL | ffi::SQLITE_IOERR) => {
            format!("cannot be written, the disk may be full ({error}): nothing was stored; make room, then try again")
        }
        Some(ffi::SQLITE_NOTADB | ffi::SQLITE_CORRUPT) => {
            "is no registry, or is damaged: name another with --registry, or restore it from a backup".into()
        }
        Some(ffi::SQLITE_CANTOPEN | ffi::SQLITE_READONLY | ffi::SQLITE_PERM) => {
            format!("cannot be opened for writing ({error}): it and its folder must be yours")
        }
        _ => format!("failed: {error}"),
    };
    registry_error(path, &why)
}

pub(super) fn registry_error(path: &Path, why: &str) -> Error {
    Error::new(Exit::Registry, format!("the registry {} {why}", path.display()))
}

pub(super) fn journal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-journal");
    name.into()
}
