//! A registry that is brought back from a backup.

use std::{fs, path::Path};

use super::{killed::everywhere, *};
use crate::{
    base::host::{self, Host, System},
    registry::{Entry, Event, FromBackup, Joined, Kind, Restored, Said, Tag, Verdict, Verifier},
};

fn open(path: &Path, bytes: &[u8]) -> FromBackup {
    FromBackup::open(path, bytes, host::system()).unwrap()
}

/// Numbers of one member that never fall.
fn counters(registry: &Registry, id: i64) -> (u64, u64, u32) {
    let counters = registry.trial(|registry| {
        Ok((registry.next_counter(0)?, registry.next_find(0, false)?, registry.next_command_counter(id, 0)?))
    });
    counters.unwrap()
}

#[test]
fn an_older_backup_lets_no_counter_fall_and_unrevokes_nobody_and_is_cut_anywhere() {
    let (folder, mut registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    let (one, two) = (claim(&registry, 1), claim(&registry, 2));
    let rules = [rule(Direction::In, Role::Peer, 80)].into_iter().collect();
    registry.set_fleet_rules(&FLEET, &rules).unwrap();
    let backup = registry.copy().unwrap();
    // Since then: counters far ahead, other rules, one revoked, and telemetry.
    registry.next_counter(1 << 40).unwrap();
    registry.next_find(1 << 41, false).unwrap();
    registry.raise_stamp(77).unwrap();
    let ahead = System.now_ms() as u32 / 1000;
    registry.next_command_counter(one.id, ahead.saturating_add(1000)).unwrap();
    registry.set_fleet_rules(&FLEET, &[].into_iter().collect()).unwrap();
    registry.store_configuration(one.id, b"of since", u64::from(u32::MAX) << 20).unwrap();
    let record = wire::telemetry::Telemetry { boots: U64::new(9), ..FromZeros::new_zeroed() };
    registry.store_telemetry(&[Said { member: one.id, record, ms: 7 }]).unwrap();
    registry.revoke(two.id).unwrap();
    let (before, revision) = (counters(&registry, one.id), registry.revision(&FLEET).unwrap());
    drop(registry);
    let path = folder.path().join("r");
    let copy = open(&path, &backup);
    let registry = everywhere(folder.path(), "a restored backup", |registry| copy.merge_into(registry).map(|_| ()));
    let after = counters(&registry, one.id);
    assert!(after.0 >= before.0 && after.1 >= before.1 && after.2 >= before.2, "{before:?} {after:?}");
    assert_eq!(registry.stamp_ms().unwrap(), 77);
    assert_eq!(registry.fleet(&FLEET).unwrap().unwrap().rules, rules, "the rest is the backup's");
    assert!(registry.revision(&FLEET).unwrap() > revision, "whoever keeps members reads them again");
    let member = |id| registry.member(id).unwrap().unwrap();
    assert!(member(two.id).revoked_ms.is_some() && member(one.id).revoked_ms.is_none());
    assert_eq!(member(one.id).configuration.as_deref(), Some(&b"of since"[..]));
    assert_eq!(member(one.id).telemetry.unwrap().0.boots.get(), 9);
    let wanted = wire::binding::configuration_hash(&view(&registry).configuration(&member(one.id)).unwrap());
    assert_eq!(member(one.id).wanted, Some(wanted));
    // The same once more changes nothing.
    assert_eq!(copy.merge_into(&registry).unwrap(), (4, Joined::Known));
    assert_eq!(counters(&registry, one.id), after);
}

fn verdict(registry: &Registry) -> Verdict {
    registry.verify_audit(Verifier::new(None, Vec::new())).unwrap()
}

fn bad(registry: &Registry) -> Option<u64> {
    verdict(registry).bad.map(|bad| bad.sequence)
}

fn tell(registry: &Registry, why: &str) {
    registry.log(Event::new(Kind::Cleared).text(Tag::Why, why)).unwrap();
}

fn last(registry: &Registry) -> Entry {
    let mut last = None;
    registry.audit(|_, signed| last = Entry::parse(&signed.entry)).unwrap();
    last.unwrap()
}

#[test]
fn a_log_is_never_shorter_by_a_backup_and_never_forked_in_silence() {
    let (folder, mut registry) = lab();
    let path = folder.path().join("r");
    tell(&registry, "before");
    let earlier = registry.copy().unwrap();
    let head = registry.audit_head().unwrap();
    tell(&registry, "since");
    let later = registry.copy().unwrap();
    // Of before: what was logged since stays.
    assert_eq!(open(&path, &earlier).merge_into(&registry).unwrap(), (0, Joined::Known));
    let restored = last(&registry);
    assert_eq!(restored.bytes(Tag::Head), Some(&head.hash[..]));
    assert_eq!((restored.kind().as_str(), verdict(&registry).head.sequence), ("restored", 4));
    drop(registry);
    // Of another registry, which has gone on with that backup: its entries are kept beside.
    let elsewhere = folder.path().join("elsewhere");
    assert_eq!(open(&elsewhere, &earlier).restore(&elsewhere).unwrap(), Restored::Made);
    let mut other = Registry::open(&elsewhere).unwrap();
    tell(&other, "there");
    let forked = other.copy().unwrap();
    let copy = open(&path, &forked);
    let registry = everywhere(folder.path(), "a forked log", |registry| copy.merge_into(registry).map(|_| ()));
    assert_eq!((bad(&registry), last(&registry).bytes(Tag::Branch).is_some()), (None, true));
    let forked = Joined::Forked { entries: 2, common: 2 };
    assert_eq!(copy.merge_into(&registry).unwrap().1, forked, "it is said every time");
    assert_eq!(bad(&registry), None);
    // One that knows nothing yet takes all of it.
    let third = Registry::open(&folder.path().join("third")).unwrap();
    assert_eq!(open(&path, &later).merge_into(&third).unwrap().1, Joined::Longer { entries: 3 });
    assert_eq!((verdict(&third).head.sequence, bad(&third)), (4, None));
    // Who removes the branch removes what an entry names.
    drop(registry);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let change = "DROP TRIGGER audit_branch_is_kept; DELETE FROM audit_branch WHERE sequence = 4";
    connection.execute_batch(change).unwrap();
    assert_eq!(bad(&Registry::open(&path).unwrap()), Some(5));
}

#[test]
fn a_backup_whose_log_was_changed_is_not_joined_to_one_that_was_not() {
    let (folder, registry) = lab();
    let path = folder.path().join("r");
    for why in ["one", "two", "three"] {
        tell(&registry, why);
    }
    drop(registry);
    let connection = rusqlite::Connection::open(&path).unwrap();
    let change = "DROP TRIGGER audit_stays; UPDATE audit SET entry = zeroblob(90) WHERE sequence = 2";
    connection.execute_batch(change).unwrap();
    drop(connection);
    let changed = Registry::open(&path).unwrap().copy().unwrap();
    let fresh = folder.path().join("fresh");
    let registry = Registry::open(&fresh).unwrap();
    let error = open(&fresh, &changed).merge_into(&registry).unwrap_err();
    assert!(error.message.contains("entry 2: it is no entry; nothing was restored"), "{error}");
    assert_eq!(registry.audit_head().unwrap().sequence, 0);
}

#[test]
fn a_registry_that_knows_more_is_left_as_it_is() {
    let (folder, mut registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    claim(&registry, 1);
    let path = folder.path().join("r");
    let mut older = vec![registry.copy().unwrap()];
    claim(&registry, 2);
    older.push(registry.copy().unwrap());
    // Claimed anew, it has another key, or another claim.
    claim(&registry, 1);
    let before = fs::read(&path).unwrap();
    for backup in older {
        let copy = open(&path, &backup);
        let error = copy.check(&path).unwrap_err();
        assert!(error.message.contains("that the backup lacks: nothing was restored"), "{error}");
        assert_eq!(copy.restore(&path).unwrap_err(), error);
        assert_eq!(fs::read(&path).unwrap(), before);
    }
    drop(registry);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
}

#[test]
fn where_the_registry_is_lost_counters_go_ahead_of_the_clock() {
    let (folder, mut registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    let member = claim(&registry, 1);
    let backup = registry.copy().unwrap();
    drop(registry);
    let path = folder.path().join("r");
    fs::remove_file(&path).unwrap();
    fs::write(folder.path().join("r-journal"), b"of another").unwrap();
    let error = open(&path, &backup).restore(&path).unwrap_err();
    assert!(error.message.contains("its journal is"), "{error}");
    assert!(!path.exists());
    fs::remove_file(folder.path().join("r-journal")).unwrap();
    let now = System.now_ms() as u64;
    assert_eq!(open(&path, &backup).restore(&path).unwrap(), Restored::Made);
    let registry = Registry::open(&path).unwrap();
    let (last, find, command) = counters(&registry, member.id);
    assert!(last >= now + 3_600_000 && find >= now + 86_400_000 && u64::from(command) >= now / 1000 + 3600);
    assert!(registry.is_likely(command), "the node is believed when it shows it");
    assert_eq!(registry.nodes().unwrap().len(), 1);
    drop(registry);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
}

#[test]
fn what_is_no_registry_or_is_damaged_is_refused() {
    let (folder, mut registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    let good = registry.copy().unwrap();
    let path = folder.path().join("other");
    let refused = |bytes: &[u8]| FromBackup::open(&path, bytes, host::system()).err().unwrap();
    assert!(refused(b"these are no pairings").message.contains("cannot be used"));
    assert!(refused(&[]).message.contains("cannot be used"));
    assert!(refused(&good[..good.len() / 2]).exit == Exit::Input);
    let mut newer = good.to_vec();
    // The header's user version.
    newer[60..64].copy_from_slice(&99u32.to_be_bytes());
    assert!(refused(&newer).message.contains("newer"));
    drop(registry);
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "something was left behind");
}
