//! A process that ends, or a disk that fails, anywhere within a grant or a pairing leaves all of it or nothing.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use rusqlite::{Connection, types::Value};

use super::*;
use crate::registry::{Event, Kind, Said, State, Verifier};

type Verb<'a> = dyn Fn(&Registry) -> Result<(), Error> + 'a;

/// SQLite's instructions from one place to the next.
const STRIDE: i32 = 11;

/// All that the file says, as whoever opens it next finds it.
fn rows(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let tables = "SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name";
    let mut tables = connection.prepare(tables).unwrap();
    let tables: Vec<String> = tables.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    let mut rows = Vec::new();
    for table in tables {
        let mut statement = connection.prepare(&format!("SELECT * FROM {table}")).unwrap();
        let columns = statement.column_count();
        let mut found = statement.query([]).unwrap();
        while let Some(row) = found.next().unwrap() {
            let values: Vec<Value> = (0..columns).map(|at| row.get(at).unwrap()).collect();
            rows.push(format!("{table} {values:?}"));
        }
    }
    rows
}

/// The file and its journal as they are now, which a process that is killed here leaves.
fn copy(path: &Path, to: &Path) -> PathBuf {
    fs::remove_dir_all(to).ok();
    fs::create_dir(to).unwrap();
    for entry in fs::read_dir(path.parent().unwrap()).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_file() {
            fs::copy(entry.path(), to.join(entry.file_name())).unwrap();
        }
    }
    to.join(path.file_name().unwrap_or(OsStr::new("r")))
}

/// Ends `work` at one place after the other, killed and failed, until it comes to its end. Then the disk was full at one page
/// after the other before it.
pub fn everywhere(folder: &Path, what: &str, work: impl Fn(&Registry) -> Result<(), Error>) -> Registry {
    let path = folder.join("r");
    let before = rows(&path);
    full(&path, what, &before, &work);
    let killed = Arc::new(Mutex::new(None));
    for place in 1.. {
        let mut registry = Registry::open(&path).unwrap();
        let (mut passed, from, to, left) = (0, path.clone(), folder.join("killed"), Arc::clone(&killed));
        let end = move || {
            passed += 1;
            if passed == place {
                *left.lock().unwrap() = Some(copy(&from, &to));
            }
            passed == place
        };
        registry.connection_mut().progress_handler(STRIDE, Some(end)).unwrap();
        let worked = work(&registry);
        registry.connection_mut().progress_handler(STRIDE, None::<fn() -> bool>).unwrap();
        match worked {
            Ok(()) => {
                assert!(place > 3, "{what} was ended at {place} places only");
                assert!(rows(&path) != before, "{what} stored nothing");
                let verdict = registry.verify_audit(Verifier::new(None, Vec::new())).unwrap();
                assert_eq!(verdict.bad, None, "{what} left a log that does not hold");
                return registry;
            }
            Err(_) => {
                assert!(rows(&path) == before, "{what} failed at place {place} and left something");
                let left = killed.lock().unwrap().take().unwrap();
                assert!(rows(&left) == before, "{what} was killed at place {place} and left something");
            }
        }
    }
    unreachable!("there is always a next place")
}

/// On a disk without room for one more page, and two, …: whoever is told that it is done finds it there, and nobody else does.
fn full(path: &Path, what: &str, before: &[String], work: &impl Fn(&Registry) -> Result<(), Error>) {
    let kept = fs::read(path).unwrap();
    for room in 0..3 {
        let mut registry = Registry::open(path).unwrap();
        let connection = registry.connection_mut();
        let pages: i64 = connection.pragma_query_value(None, "page_count", |row| row.get(0)).unwrap();
        connection.pragma_update(None, "max_page_count", pages + room).unwrap();
        let worked = work(&registry);
        drop(registry);
        match worked {
            Ok(()) => {
                assert!(rows(path) != before, "{what} said that it is done");
                fs::write(path, &kept).unwrap();
            }
            Err(error) => {
                assert_eq!(error.exit, Exit::Registry, "{what}: {error}");
                assert!(error.message.contains("the disk may be full"), "{what}: {error}");
                assert!(rows(path) == before, "{what} failed on a full disk and left something");
            }
        }
    }
}

#[test]
fn a_grant_and_a_pairing_that_are_cut_anywhere_leave_all_or_nothing() {
    let (folder, registry) = lab();
    // Another node is there already, whose configuration changes by the new one's.
    registry.make_fleet(&FLEET, "lab").unwrap();
    let both = [rule(Direction::In, Role::Node, 80), rule(Direction::Out, Role::Node, 80)];
    registry.set_fleet_rules(&FLEET, &both.into_iter().collect()).unwrap();
    claim(&registry, 1);
    drop(registry);
    let registry = everywhere(folder.path(), "a grant", |registry| grant(registry, 2).map(|_| ()));
    let fiduciary = crypto::sign_public(&Secret::new([2; 32]));
    let node = registry.node(&fiduciary).unwrap().unwrap();
    let member = registry.members(&FLEET).unwrap().into_iter().find(|found| found.fiduciary() == Some(&fiduciary));
    assert_eq!(member.unwrap().configuration.as_deref(), Some(node.configuration()));
    drop(registry);
    let record = PairingRecord::sign(&Secret::new([2; 32]), &node.title);
    let mac = Some([2; 6]);
    let registry =
        everywhere(folder.path(), "a pairing", |registry| registry.paired(&node, &record, 0, mac).map(|_| ()));
    let node = registry.node(&fiduciary).unwrap().unwrap();
    assert_eq!((node.state, node.record), (State::Paired, Some(record)));
    drop(registry);
    let registry = everywhere(folder.path(), "an acknowledgement", |registry| registry.acknowledged(&node).map(|_| ()));
    assert!(registry.node(&fiduciary).unwrap().unwrap().acknowledged);
    // A grant in place of one that has a pairing: the pairing is kept, as superseded.
    everywhere(folder.path(), "another grant", |registry| grant(registry, 2).map(|_| ()));
}

#[test]
fn what_changes_a_fleet_or_counts_and_is_cut_anywhere_leaves_all_or_nothing() {
    let (folder, registry) = lab();
    registry.make_fleet(&FLEET, "lab").unwrap();
    let member = claim(&registry, 1);
    claim(&registry, 2);
    let id = member.id;
    drop(registry);
    let rules = [rule(Direction::In, Role::Node, 80)].into_iter().collect();
    let laptop = Who::Peer("laptop".into());
    let peer = NewMember { who: &laptop, key: [77; 32], claim_key: None, underlay: None, authority: None };
    let said = Said { member: id, record: wire::telemetry::Telemetry::new_zeroed(), ms: 7 };
    let verbs: [(&str, &Verb<'_>); 10] = [
        ("an entry of the log", &|registry| registry.log(Event::new(Kind::Signed))),
        ("a find", &|registry| registry.next_find(0, true).map(|_| ())),
        ("an update's counter", &|registry| registry.next_counter(0).map(|_| ())),
        ("a command's counter", &|registry| registry.next_command_counter(id, 0).map(|_| ())),
        ("rules of the fleet", &|registry| registry.set_fleet_rules(&FLEET, &rules)),
        ("rules of a node", &|registry| registry.set_member_rules(id, Some(&rules))),
        ("an exported peer", &|registry| registry.enroll(&fleet(), &peer).map(|_| ())),
        ("what nodes say", &|registry| registry.store_telemetry(&[said])),
        ("a doubt that is cleared", &|registry| registry.clear_doubt(member.fiduciary().unwrap())),
        ("a revocation", &|registry| registry.revoke(id)),
    ];
    for (what, verb) in verbs {
        drop(everywhere(folder.path(), what, verb));
    }
}
