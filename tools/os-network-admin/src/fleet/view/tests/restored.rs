//! A registry that is brought back from a backup.

use std::{fs, path::Path};

use super::{killed::everywhere, *};
use crate::{
    base::host::{self, Host, System},
    registry::{FromBackup, Restored, Said},
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
    assert_eq!(copy.merge_into(&registry).unwrap(), 4);
    assert_eq!(counters(&registry, one.id), after);
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
