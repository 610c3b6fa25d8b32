use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crypto::{AnchorSecret, Secret};
use rusqlite::Connection;
use wire::{
    Key, U16, U64,
    binding::PairingRecord,
    claim::{GrantHead, kind},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{schema::SCHEMA, *};
use crate::base::{
    error::{Error, Exit},
    host::Host,
};

fn grant(fiduciary: Key, epoch: u64) -> Vec<u8> {
    let mut head = GrantHead::new_zeroed();
    head.kind = kind::GRANT;
    head.configuration = U16::new(3);
    head.binding.fiduciary = fiduciary;
    head.binding.epoch = U64::new(epoch);
    head.binding = head.binding.sign(&AnchorSecret::from_seed(&[1; 32]));
    [head.as_bytes(), b"abc"].concat()
}

fn new(grant: &[u8]) -> NewNode<'_> {
    NewNode {
        grant,
        fleet: "default",
        anchor: AnchorKind::Image,
        accepted: Accepted::Asked,
        address: [3; 16],
        interface: "eth0",
    }
}

/// A host whose clock the test sets, in milliseconds.
struct Clock(AtomicU64);

impl Host for Clock {
    fn since_1970(&self) -> Duration {
        Duration::from_millis(self.0.load(Ordering::Relaxed))
    }

    fn fill(&self, bytes: &mut [u8]) -> Result<(), Error> {
        bytes.fill(7);
        Ok(())
    }
}

fn folder() -> tempfile::TempDir {
    tempfile::tempdir().unwrap()
}

#[test]
fn a_claim_is_pending_then_paired_then_acknowledged_and_survives_reopening() {
    let folder = folder();
    let path = folder.path().join("deep/registry.sqlite");
    let seed = Secret::new([5; 32]);
    let fiduciary = crypto::sign_public(&seed);
    let bytes = grant(fiduciary, 1);
    let registry = Registry::open(&path).unwrap();
    assert_eq!(registry.node(&fiduciary).unwrap(), None);
    let node = registry.store_pending(&new(&bytes)).unwrap();
    assert_eq!((node.state, node.grant.as_slice(), node.configuration()), (State::Pending, &*bytes, &b"abc"[..]));
    assert!(registry.store_acknowledged(&node).is_err());
    drop(registry);
    let registry = Registry::open(&path).unwrap();
    let record = PairingRecord::sign(&seed, &node.binding);
    let paired = registry.store_paired(&node, &record, 2).unwrap();
    assert_eq!((paired.state, paired.record, paired.rivals), (State::Paired, Some(record), Some(2)));
    assert!(registry.store_acknowledged(&paired).unwrap().acknowledged);
    assert_eq!(registry.nodes().unwrap().len(), 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn a_new_grant_replaces_a_pending_one_and_keeps_a_paired_one() {
    let folder = folder();
    let registry = Registry::open(&folder.path().join("r")).unwrap();
    let seed = Secret::new([5; 32]);
    let fiduciary = crypto::sign_public(&seed);
    let count = || {
        let sql = "SELECT count(*), sum(state = 'superseded') FROM node";
        registry.connection.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap()
    };
    let first = registry.store_pending(&new(&grant(fiduciary, 1))).unwrap();
    let second = registry.store_pending(&new(&grant(fiduciary, 1))).unwrap();
    assert_eq!(count(), (1, 0));
    let record = PairingRecord::sign(&seed, &second.binding);
    assert!(registry.store_paired(&first, &record, 0).is_err());
    registry.store_paired(&second, &record, 0).unwrap();
    registry.store_pending(&new(&grant(fiduciary, 2))).unwrap();
    assert_eq!(count(), (2, 1));
    assert_eq!(registry.node(&fiduciary).unwrap().unwrap().state, State::Pending);
}

#[test]
fn the_counter_rises_whatever_the_clock_says_and_never_twice() {
    let folder = folder();
    let path = folder.path().join("r");
    let clock = Arc::new(Clock(AtomicU64::new(1000)));
    let registry = Registry::open_on(&path, Arc::clone(&clock) as Arc<dyn Host>).unwrap();
    assert_eq!(registry.next_counter(0).unwrap(), 1000);
    // A clock that was years ahead once, and is right again.
    clock.0.store(1 << 40, Ordering::Relaxed);
    let ahead = registry.next_counter(7).unwrap();
    assert_eq!(ahead, (1 << 40) + 7);
    clock.0.store(1000, Ordering::Relaxed);
    assert_eq!(registry.next_counter(0).unwrap(), ahead + 1);
    // Opened one after another and patient, however slow the disk and whoever else uses it.
    let registries: Vec<Registry> = (0..4).map(|_| Registry::open(&path).unwrap()).collect();
    let draw = |registry: Registry| {
        registry.connection.busy_timeout(Duration::from_secs(600)).unwrap();
        (0..20).map(|_| registry.next_counter(0).unwrap()).collect::<Vec<_>>()
    };
    let drawn: Vec<u64> = thread::scope(|scope| {
        let threads: Vec<_> = registries.into_iter().map(|registry| scope.spawn(|| draw(registry))).collect();
        threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(drawn.iter().collect::<HashSet<_>>().len(), 80);
    assert!(drawn.iter().all(|counter| *counter > ahead + 1));
}

#[test]
fn a_used_up_counter_is_an_error_and_stays_as_it_is() {
    let folder = folder();
    let registry = Registry::open(&folder.path().join("r")).unwrap();
    registry.connection.execute("UPDATE counter SET last = ?1", [i64::MAX - 1]).unwrap();
    for _ in 0..2 {
        assert_eq!(registry.next_counter(0).unwrap_err().exit, Exit::Registry);
    }
}

#[test]
fn foreign_and_newer_files_are_refused_and_left_alone() {
    let folder = folder();
    let path = folder.path().join("r");
    fs::write(&path, "these are no pairings, and the file is long enough to have a header".repeat(10)).unwrap();
    let before = fs::read(&path).unwrap();
    assert!(Registry::open(&path).err().unwrap().message.contains("is no registry"));
    assert_eq!(fs::read(&path).unwrap(), before);
    let other = folder.path().join("other");
    Connection::open(&other).unwrap().execute_batch("CREATE TABLE t (a)").unwrap();
    assert!(Registry::open(&other).err().unwrap().message.contains("another program"));
    let newer = folder.path().join("newer");
    drop(Registry::open(&newer).unwrap());
    Connection::open(&newer).unwrap().pragma_update(None, "user_version", SCHEMA + 1).unwrap();
    assert!(Registry::open(&newer).err().unwrap().message.contains("newer"));
}

#[test]
fn a_damaged_entry_is_an_error_not_a_node() {
    let folder = folder();
    let registry = Registry::open(&folder.path().join("r")).unwrap();
    let fiduciary = [1; 32];
    registry.store_pending(&new(&grant(fiduciary, 1))).unwrap();
    for change in ["address = x'00'", "record = x'00'", "grant_bytes = x'02'", "accepted = 'guessed'"] {
        registry.connection.execute_batch(&format!("SAVEPOINT s; UPDATE node SET {change}")).unwrap();
        assert!(registry.node(&fiduciary).unwrap_err().message.contains("damaged"), "{change}");
        registry.connection.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
    }
    assert!(registry.node(&fiduciary).unwrap().is_some());
}

#[test]
fn a_registry_of_the_first_version_goes_on_with_what_it_has() {
    let folder = folder();
    let path = folder.path().join("r");
    let fiduciary = [1; 32];
    let old = Registry::open(&path).unwrap();
    old.store_pending(&new(&grant(fiduciary, 1))).unwrap();
    let counter = old.next_counter(0).unwrap();
    old.connection.execute_batch("DROP TABLE member; DROP TABLE fleet; PRAGMA user_version = 1").unwrap();
    drop(old);
    let registry = Registry::open(&path).unwrap();
    assert_eq!(registry.node(&fiduciary).unwrap().unwrap().configuration(), b"abc");
    assert!(registry.next_counter(0).unwrap() > counter);
    assert!(registry.place(&fiduciary).unwrap().is_none());
    assert_eq!(registry.make_fleet(&[5; 16], "lab").unwrap().network.to_string(), "10.8.0.0/24");
    drop(registry);
    assert_eq!(Registry::open(&path).unwrap().fleets_named("lab").unwrap().len(), 1);
}
