//! The tables, and what tells a registry from other SQLite files.

/// "GNSR": tells a registry from other SQLite files.
pub const APPLICATION: i32 = 0x474e_5352;
pub const SCHEMA: i32 = 11;
/// The first that has a log.
pub const LOGGED: i32 = 6;

/// Schema 1.
pub const FIRST: &str = "
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

/// Schema 2 adds these to schema 1.
pub const SECOND: &str = "
    CREATE TABLE fleet (
        id BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        network BLOB NOT NULL,
        length INTEGER NOT NULL,
        port INTEGER NOT NULL,
        rules BLOB NOT NULL
    ) STRICT;
    CREATE TABLE member (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        fleet BLOB NOT NULL REFERENCES fleet (id),
        host INTEGER NOT NULL,
        fiduciary BLOB UNIQUE,
        name TEXT,
        key BLOB NOT NULL,
        claim_key BLOB,
        mac BLOB,
        preshared BLOB NOT NULL,
        rules BLOB,
        underlay BLOB,
        authority BLOB,
        configuration BLOB,
        configuration_counter INTEGER,
        command_counter INTEGER NOT NULL DEFAULT 0,
        revoked_ms INTEGER,
        telemetry BLOB,
        telemetry_ms INTEGER,
        CHECK ((fiduciary IS NULL) <> (name IS NULL))
    ) STRICT;
    CREATE UNIQUE INDEX one_per_host ON member (fleet, host);
    CREATE UNIQUE INDEX one_per_name ON member (fleet, name);
";

/// Schema 3 adds what is found by key to schema 2: a member by its fingerprint, a free place, whom a rule names, and what a
/// node should have beside what it has; and when each last changed.
pub const THIRD: &str = "
    ALTER TABLE fleet ADD COLUMN authority BLOB;
    ALTER TABLE fleet ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE fleet ADD COLUMN reset INTEGER NOT NULL DEFAULT 0;
    ALTER TABLE node ADD COLUMN print TEXT;
    ALTER TABLE member ADD COLUMN print TEXT;
    ALTER TABLE member ADD COLUMN shown BLOB;
    ALTER TABLE member ADD COLUMN wanted BLOB;
    ALTER TABLE member ADD COLUMN revision INTEGER NOT NULL DEFAULT 0;
    CREATE TABLE free_host (
        fleet BLOB NOT NULL,
        host INTEGER NOT NULL,
        revision INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (fleet, host)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX free_host_revision ON free_host (fleet, revision);
    CREATE INDEX member_revision ON member (fleet, revision);
    CREATE TABLE flow (
        fleet BLOB NOT NULL,
        rule BLOB NOT NULL,
        member INTEGER NOT NULL,
        PRIMARY KEY (fleet, rule, member)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX flow_member ON flow (member);
    CREATE INDEX fleet_name ON fleet (name);
    CREATE INDEX node_print ON node (print) WHERE state <> 'superseded';
    CREATE INDEX member_key ON member (fleet, key);
    CREATE INDEX member_print ON member (fleet, print);
    CREATE INDEX member_inherits ON member (fleet, host) WHERE rules IS NULL AND fiduciary IS NOT NULL;
    CREATE INDEX member_own_rules ON member (fleet, host) WHERE rules IS NOT NULL;
    CREATE INDEX member_peer ON member (fleet, host) WHERE fiduciary IS NULL;
    CREATE INDEX member_behind ON member (fleet, host) WHERE wanted <> shown;
    CREATE INDEX member_unworkable ON member (fleet, host) WHERE wanted IS NULL AND fiduciary IS NOT NULL;
";

/// Schema 4 adds the highest timestamp of a handshake to schema 3.
pub const FOURTH: &str = "
    ALTER TABLE counter ADD COLUMN stamp_ms INTEGER NOT NULL DEFAULT 0;
";

/// Schema 5 adds to schema 4 the counter of finds, which nodes compare with finds only, and what shows that a node was rolled
/// back or is there twice.
pub const FIFTH: &str = "
    ALTER TABLE counter ADD COLUMN find INTEGER NOT NULL DEFAULT 0;
    UPDATE counter SET find = last;
    ALTER TABLE member ADD COLUMN seen BLOB;
    ALTER TABLE member ADD COLUMN doubt BLOB;
";

/// Schema 6 adds to schema 5 the log of acts and refusals, which only grows, and where it ends.
pub const SIXTH: &str = "
    CREATE TABLE audit (sequence INTEGER PRIMARY KEY, entry BLOB NOT NULL, signature BLOB) STRICT;
    CREATE TABLE audit_head (
        id INTEGER PRIMARY KEY CHECK (id = 1),
        sequence INTEGER NOT NULL,
        hash BLOB NOT NULL
    ) STRICT;
    INSERT INTO audit_head VALUES (1, 0, zeroblob(32));
    CREATE TABLE audit_branch (
        head BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        entry BLOB NOT NULL,
        signature BLOB,
        PRIMARY KEY (head, sequence)
    ) STRICT;
    CREATE TRIGGER audit_follows BEFORE INSERT ON audit
        WHEN NEW.sequence IS NOT (SELECT sequence + 1 FROM audit_head)
        BEGIN SELECT RAISE(ABORT, 'an entry of the log follows the last one'); END;
    CREATE TRIGGER audit_stays BEFORE UPDATE ON audit
        BEGIN SELECT RAISE(ABORT, 'no entry of the log is changed'); END;
    CREATE TRIGGER audit_is_kept BEFORE DELETE ON audit
        BEGIN SELECT RAISE(ABORT, 'no entry of the log is removed'); END;
    CREATE TRIGGER audit_branch_stays BEFORE UPDATE ON audit_branch
        BEGIN SELECT RAISE(ABORT, 'no entry of the log is changed'); END;
    CREATE TRIGGER audit_branch_is_kept BEFORE DELETE ON audit_branch
        BEGIN SELECT RAISE(ABORT, 'no entry of the log is removed'); END;
    CREATE TRIGGER audit_head_rises BEFORE UPDATE ON audit_head WHEN NEW.sequence IS NOT OLD.sequence + 1
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
    CREATE TRIGGER audit_head_is_one BEFORE INSERT ON audit_head
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
    CREATE TRIGGER audit_head_is_kept BEFORE DELETE ON audit_head
        BEGIN SELECT RAISE(ABORT, 'the log only grows'); END;
";

/// Schema 9 adds to schema 8 the places of nodes that are not claimed yet.
pub const NINTH: &str = "
    CREATE TABLE promised (
        fleet BLOB NOT NULL,
        fiduciary BLOB NOT NULL,
        host INTEGER NOT NULL,
        PRIMARY KEY (fleet, fiduciary),
        UNIQUE (fleet, host)
    ) STRICT, WITHOUT ROWID;
";

/// Schema 10 adds to schema 9 what the owners of nodes decide together: how each node is to leave, authority records with their
/// signatures, to which of them this registry's people have given theirs, and nodes' receipts.
pub const TENTH: &str = "
    CREATE TABLE parting (
        fiduciary BLOB NOT NULL,
        epoch INTEGER NOT NULL,
        body BLOB NOT NULL,
        told_ms INTEGER NOT NULL,
        PRIMARY KEY (fiduciary, epoch)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE receipt (
        fiduciary BLOB NOT NULL,
        fleet BLOB NOT NULL,
        kind INTEGER NOT NULL,
        number INTEGER NOT NULL,
        hash BLOB NOT NULL,
        bytes BLOB NOT NULL,
        heard_ms INTEGER NOT NULL,
        PRIMARY KEY (fiduciary, fleet, kind, number, hash)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX receipt_fleet ON receipt (fleet, kind);
    CREATE TABLE record (
        fleet BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        hash BLOB NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (fleet, sequence, hash)
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE approved (
        fleet BLOB NOT NULL,
        sequence INTEGER NOT NULL,
        signer BLOB NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (fleet, sequence, signer)
    ) STRICT, WITHOUT ROWID;
";

/// Schema 11 adds to schema 10 where this registry's end of each fleet's mesh is, since others than the one who claimed the nodes
/// may have the fleet; and nodes' fork records, which they sign.
pub const ELEVENTH: &str = "
    ALTER TABLE fleet ADD COLUMN host INTEGER NOT NULL DEFAULT 1;
    ALTER TABLE node ADD COLUMN fork BLOB;
";
