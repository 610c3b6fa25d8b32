//! The pairing registry and the rising counter, in one SQLite file.
//!
//! Every write is durable before the function returns (rollback journal, `synchronous=EXTRA`) and whole or not
//! there. A grant is stored as *pending*, byte for byte, before it is sent, so that a claim that was cut is resumed with
//! the same bytes. Nothing that was paired is ever deleted. Fleets and their members are in [`fleet`].

pub mod fleet;

use std::{
    fmt,
    fs::{self, OpenOptions},
    io::ErrorKind,
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use rusqlite::{Connection, OpenFlags, OptionalExtension, Row, Transaction, TransactionBehavior, ffi, params};
use wire::{
    Fingerprint, Ip, Key,
    binding::{Binding, PairingRecord},
    claim::parse_grant,
};
use zerocopy::{FromBytes, IntoBytes};

use crate::{
    error::{Error, Exit},
    files,
};

/// "GNSR": tells a registry from other SQLite files.
const APPLICATION: i32 = 0x474e_5352;
const SCHEMA: i32 = 2;
/// How long another process may hold the file.
const BUSY: Duration = Duration::from_secs(2);

const CREATE: &str = "
    CREATE TABLE counter (id INTEGER PRIMARY KEY CHECK (id = 1), last INTEGER NOT NULL) STRICT;
    INSERT INTO counter VALUES (1, 0);
    CREATE TABLE node (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        fiduciary BLOB NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'paired', 'superseded')),
        grant_bytes BLOB NOT NULL,
        record BLOB,
        rivals INTEGER,
        acknowledged INTEGER NOT NULL DEFAULT 0,
        fleet TEXT NOT NULL,
        anchor TEXT NOT NULL,
        accepted TEXT NOT NULL,
        address BLOB NOT NULL,
        interface TEXT NOT NULL,
        pending_ms INTEGER NOT NULL,
        paired_ms INTEGER,
        acknowledged_ms INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX one_per_node ON node (fiduciary) WHERE state <> 'superseded';
";

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

/// The open registry.
pub struct Registry {
    path: PathBuf,
    connection: Connection,
}

impl Registry {
    /// Opens the registry, or makes it, mode 0600.
    pub fn open(path: &Path) -> Result<Self, Error> {
        files::make_parent(path).map_err(|error| Error::new(Exit::Registry, error.message))?;
        let made = match OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::AlreadyExists => false,
            Err(error) => return Err(registry_error(path, &format!("cannot be made: {error}"))),
        };
        let opened = Self::connect(path);
        if made && opened.is_err() {
            // Ours, and of no use to anybody: an empty file and perhaps its journal.
            let _ = fs::remove_file(path);
            let _ = fs::remove_file(journal(path));
        }
        opened
    }

    /// Opens the registry if it is there.
    pub fn open_existing(path: &Path) -> Result<Option<Self>, Error> {
        if files::is_there(path) { Self::connect(path).map(Some) } else { Ok(None) }
    }

    fn connect(path: &Path) -> Result<Self, Error> {
        let setup = || {
            let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
            let connection = Connection::open_with_flags(path, flags)?;
            connection.busy_timeout(BUSY)?;
            connection.execute_batch("PRAGMA synchronous = EXTRA; PRAGMA trusted_schema = OFF;")?;
            let transaction = Transaction::new_unchecked(&connection, TransactionBehavior::Immediate)?;
            let number = |pragma| transaction.pragma_query_value(None, pragma, |row| row.get::<_, i32>(0));
            let (application, mut schema) = (number("application_id")?, number("user_version")?);
            let tables: i64 = transaction.query_row("SELECT count(*) FROM sqlite_schema", [], |row| row.get(0))?;
            if (application, schema, tables) == (0, 0, 0) {
                transaction.execute_batch(CREATE)?;
                transaction.pragma_update(None, "application_id", APPLICATION)?;
                schema = 1;
            } else if application != APPLICATION {
                schema = 0;
            }
            // A registry of an earlier version goes on with what it has.
            if schema == 1 {
                transaction.execute_batch(fleet::CREATE)?;
                transaction.pragma_update(None, "user_version", SCHEMA)?;
                schema = SCHEMA;
            }
            transaction.commit()?;
            Ok((connection, schema))
        };
        let (connection, schema) = setup().map_err(|error| explain(path, &error))?;
        match schema {
            SCHEMA => Ok(Self { path: path.into(), connection }),
            0 => Err(registry_error(path, "is another program's database: name a registry with --registry")),
            _ => Err(registry_error(path, "was made by a newer os-network-admin: use that one")),
        }
    }

    /// The next value of the rising counter, stored: the larger of the last plus one and Unix milliseconds (plus `ahead`).
    pub fn next_counter(&self, ahead: u64) -> Result<u64, Error> {
        let floor = now_ms().saturating_add(i64::try_from(ahead).unwrap_or(i64::MAX));
        let next: Option<i64> = self.run(|transaction| {
            let sql = "UPDATE counter SET last = max(last + 1, ?1) WHERE last < ?2 RETURNING last";
            transaction.query_row(sql, params![floor, i64::MAX - 1], |row| row.get(0)).optional()
        })?;
        next.and_then(|next| u64::try_from(next).ok())
            .ok_or_else(|| registry_error(&self.path, "has used up its counter: it was skipped too far ahead"))
    }

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
        let now = now_ms();
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
            transaction.execute(sql, params![node.id, record.as_bytes(), rivals, now_ms()])
        })?;
        self.after(changed, node)
    }

    /// Notes that the acknowledgement has arrived.
    pub fn store_acknowledged(&self, node: &Node) -> Result<Node, Error> {
        let changed = self.run(|transaction| {
            let sql = "UPDATE node SET acknowledged = 1, acknowledged_ms = ifnull(acknowledged_ms, ?2) \
                       WHERE id = ?1 AND state = 'paired'";
            transaction.execute(sql, params![node.id, now_ms()])
        })?;
        self.after(changed, node)
    }

    fn after(&self, changed: usize, node: &Node) -> Result<Node, Error> {
        if changed != 1 {
            return Err(registry_error(&self.path, "was changed by another process while it claimed the same node"));
        }
        self.node(&node.binding.fiduciary)?.ok_or_else(|| self.damaged())
    }

    fn run<T>(&self, work: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>) -> Result<T, Error> {
        // Immediate: of two processes one waits, so that no two read the same counter.
        let run = || {
            let transaction = Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
            let value = work(&transaction)?;
            transaction.commit()?;
            Ok(value)
        };
        run().map_err(|error| explain(&self.path, &error))
    }

    fn damaged(&self) -> Error {
        registry_error(&self.path, "has a damaged entry: restore it from a backup")
    }
}

fn explain(path: &Path, error: &rusqlite::Error) -> Error {
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

fn registry_error(path: &Path, why: &str) -> Error {
    Error::new(Exit::Registry, format!("the registry {} {why}", path.display()))
}

fn journal(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-journal");
    name.into()
}

fn now_ms() -> i64 {
    // Before 1970 the last value plus one is the larger.
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
