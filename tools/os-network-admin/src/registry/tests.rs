use std::{
    collections::HashSet,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::Duration,
};

use crypto::{AnchorSecret, Secret};
use rusqlite::{Connection, params};
use wire::{
    Fingerprint, Key, U16, U64,
    binding::PairingRecord,
    claim::{GrantHead, kind},
    telemetry::Telemetry,
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    pack::pack,
    schema::{APPLICATION, FIFTH, FIRST, FOURTH, SCHEMA, SECOND, THIRD},
    *,
};
use crate::base::{
    error::{Error, Exit},
    host::{self, Host},
};

fn grant(fiduciary: Key, epoch: u64) -> Vec<u8> {
    let mut head = GrantHead::new_zeroed();
    head.kind = kind::GRANT;
    head.configuration = U16::new(3);
    head.title.warrant.fiduciary = fiduciary;
    head.title.warrant.epoch = U64::new(epoch);
    head.title = head.title.sign(&AnchorSecret::from_seed(&[1; 32]));
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
        fork: None,
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
    let record = PairingRecord::sign(&seed, &node.title);
    let paired = registry.store_paired(&node, &record, 2).unwrap();
    assert_eq!((paired.state, paired.record, paired.rivals), (State::Paired, Some(record), Some(2)));
    assert!(registry.store_acknowledged(&paired).unwrap().acknowledged);
    assert_eq!(registry.nodes().unwrap().len(), 1);
    assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
}

#[test]
fn what_a_node_says_in_the_mesh_confirms_the_claim_that_it_is_of() {
    let registry = Registry::in_memory(host::system()).unwrap();
    let seed = Secret::new([5; 32]);
    let fiduciary = crypto::sign_public(&seed);
    let who = Who::Node(fiduciary);
    let place = NewMember { who: &who, key: [1; 32], claim_key: None, underlay: None, authority: None };
    let member = registry.enroll(&Fleet::new([5; 32], "lab"), &place).unwrap().id;
    let node = registry.store_pending(&new(&grant(fiduciary, 2))).unwrap();
    let say = |epoch: u64| {
        let record = Telemetry { epoch: U64::new(epoch), ..Telemetry::new_zeroed() };
        registry.store_telemetry(&[Said { member, record, ms: 77 }]).unwrap();
        let node = registry.node(&fiduciary).unwrap().unwrap();
        (node.acknowledged, node.acknowledged_ms)
    };
    assert_eq!(say(2), (false, None), "without its signed word it is not paired");
    registry.store_paired(&node, &PairingRecord::sign(&seed, &node.title), 0).unwrap();
    assert_eq!(say(1), (false, None), "that is of an earlier claim");
    assert_eq!(say(2), (true, Some(77)));
}

#[test]
fn what_speaks_against_a_node_is_kept_until_the_operator_clears_it_or_claims_it_anew() {
    let folder = folder();
    let path = folder.path().join("r");
    let registry = Registry::open(&path).unwrap();
    let fiduciary = [5; 32];
    let who = Who::Node(fiduciary);
    let place = NewMember { who: &who, key: [1; 32], claim_key: None, underlay: None, authority: None };
    let fleet = Fleet::new([5; 32], "lab");
    let member = registry.enroll(&fleet, &place).unwrap().id;
    registry.store_pending(&new(&grant(fiduciary, 2))).unwrap();
    let say = |boots: u64, ms| {
        let record = Telemetry { boots: U64::new(boots), ..Telemetry::new_zeroed() };
        Registry::open(&path).unwrap().store_telemetry(&[Said { member, record, ms }]).unwrap();
        let registry = Registry::open(&path).unwrap();
        let doubt = registry.member(member).unwrap().unwrap().doubt;
        let listed = registry.nodes_and_addresses().unwrap();
        assert_eq!(listed[0].1.unwrap().doubt, doubt);
        doubt.fallen.map(|fallen| (fallen.was, fallen.is))
    };
    assert_eq!([say(7, 1), say(5, 2), say(8, 3)], [None, Some((7, 5)), Some((7, 5))]);
    registry.clear_doubt(&fiduciary).unwrap();
    assert_eq!([say(6, 4), say(3, 5)], [None, Some((6, 3))]);
    registry.enroll(&fleet, &place).unwrap();
    assert_eq!(say(1, 6), None);
    // Of a member that is gone nothing is kept.
    registry.leave(&fiduciary).unwrap();
    registry.store_telemetry(&[Said { member, record: Telemetry::new_zeroed(), ms: 7 }]).unwrap();
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
    let record = PairingRecord::sign(&seed, &second.title);
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
fn finds_have_a_counter_of_their_own_that_can_go_past_what_nodes_store() {
    let folder = folder();
    let path = folder.path().join("r");
    let clock = Arc::new(Clock(AtomicU64::new(1000)));
    let registry = Registry::open_on(&path, Arc::clone(&clock) as Arc<dyn Host>).unwrap();
    let finds = [(0, false, 1000), (0, false, 1001), (0, true, 65_537), (0, true, 131_073), (7, false, 131_074)];
    for (ahead, past, expected) in finds {
        assert_eq!(registry.next_find(ahead, past).unwrap(), expected);
    }
    assert_eq!(registry.next_counter(0).unwrap(), 1000, "it costs bindings nothing");
    clock.0.store(1 << 40, Ordering::Relaxed);
    drop(registry);
    let registry = Registry::open_on(&path, clock).unwrap();
    assert_eq!(registry.next_find(7, true).unwrap(), (1 << 40) + 7);
    // A multiple is its own: a node has stored nothing above it.
    registry.connection.execute("UPDATE counter SET find = 1 << 41", []).unwrap();
    assert_eq!(registry.next_find(0, true).unwrap(), (1 << 41) + 1);
    registry.connection.execute("UPDATE counter SET find = ?1", [i64::MAX - 2]).unwrap();
    assert_eq!(registry.next_find(0, true).unwrap_err().exit, Exit::Registry);
}

#[test]
fn a_registry_is_opened_and_read_while_another_process_writes_to_it() {
    let folder = folder();
    let path = folder.path().join("r");
    let writer = Registry::open(&path).unwrap();
    writer.connection.execute_batch("BEGIN IMMEDIATE; UPDATE counter SET last = 7").unwrap();
    let reader = Registry::open_existing(&path).unwrap().unwrap();
    assert!(reader.nodes().unwrap().is_empty());
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
fn a_registry_that_others_can_read_or_change_is_refused_until_it_is_mended() {
    let folder = folder();
    let path = folder.path().join("r");
    drop(Registry::open(&path).unwrap());
    let set = |mode| fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
    for (mode, said) in [(0o644, "can be read by others"), (0o620, "can be changed by others")] {
        set(mode);
        for refused in [Registry::open(&path).err(), Registry::open_existing(&path).err()] {
            let error = refused.unwrap();
            assert_eq!(error.exit, Exit::Registry);
            assert!(error.message.contains(said) && error.message.contains("chmod 600"), "{error}");
        }
    }
    set(0o600);
    assert!(Registry::open(&path).is_ok());
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

/// An old registry, as its program made it.
fn old(path: &Path, schema: i32, tables: &[&str]) -> Connection {
    let connection = Connection::open(path).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    tables.iter().for_each(|tables| connection.execute_batch(tables).unwrap());
    connection.pragma_update(None, "application_id", APPLICATION).unwrap();
    connection.pragma_update(None, "user_version", schema).unwrap();
    connection
}

fn old_node(connection: &Connection, fiduciary: Key, state: &str) {
    let sql = "INSERT INTO node (fiduciary, state, grant_bytes, fleet, anchor, accepted, address, interface, pending_ms) \
               VALUES (?1, ?2, ?3, 'lab', 'image', 'asked', ?4, 'eth0', 7)";
    connection.execute(sql, params![fiduciary.as_slice(), state, grant(fiduciary, 1), [3u8; 16].as_slice()]).unwrap();
}

#[test]
fn a_registry_of_the_first_version_goes_on_with_what_it_has() {
    let folder = folder();
    let path = folder.path().join("r");
    let fiduciary = [1; 32];
    let connection = old(&path, 1, &[FIRST]);
    old_node(&connection, fiduciary, "pending");
    connection.execute("UPDATE counter SET last = 1 << 50", []).unwrap();
    drop(connection);
    let registry = Registry::open(&path).unwrap();
    assert_eq!(registry.node(&fiduciary).unwrap().unwrap().configuration(), b"abc");
    assert_eq!(registry.node_with(&Fingerprint::of(&fiduciary)).unwrap().unwrap().pending_ms, 7);
    assert!(registry.next_counter(0).unwrap() > 1 << 50);
    assert!(registry.mesh_address(&fiduciary).unwrap().is_none());
    assert_eq!(registry.make_fleet(&[5; 32], "lab").unwrap().network.to_string(), "10.8.0.0/24");
    drop(registry);
    assert_eq!(Registry::open(&path).unwrap().fleets_named("lab").unwrap().len(), 1);
}

#[test]
fn a_registry_of_the_second_version_is_found_in_by_key() {
    let folder = folder();
    let path = folder.path().join("r");
    // The beginning of its id.
    let (short, fleet) = ([5u8; 16], [5; 32]);
    let connection = old(&path, 2, &[FIRST, SECOND]);
    let sql = "INSERT INTO fleet VALUES (?1, 'lab', ?2, 24, 51820, x'00')";
    connection.execute(sql, params![short.as_slice(), [10u8, 8, 0, 0].as_slice()]).unwrap();
    let rule =
        |direction| policy::Rule { direction, role: policy::Role::Node, protocol: policy::Protocol::Tcp, port: 80 };
    let rules = |direction| pack(&[rule(direction)].into_iter().collect::<Rules>());
    let (into, out) = (rules(policy::Direction::In), rules(policy::Direction::Out));
    // Of places 3 and 4 nodes have gone; the counter of the second node was used up by what it said.
    for (host, rules, counter) in [(2u8, Some(into), 5i64), (5, Some(out), 1 << 32), (6, None, 5)] {
        let fiduciary = [host; 32];
        old_node(&connection, fiduciary, "paired");
        let sql = "INSERT INTO member (fleet, host, fiduciary, key, preshared, rules, configuration, command_counter, \
                   telemetry, telemetry_ms) VALUES (?1, ?2, ?3, ?3, ?3, ?4, x'01', ?5, x'0102', 7)";
        connection.execute(sql, params![short.as_slice(), host, fiduciary.as_slice(), rules, counter]).unwrap();
    }
    drop(connection);
    let registry = Registry::open(&path).unwrap();
    assert_eq!(registry.make_fleet(&fleet, "lab").unwrap().name, "lab");
    let members = registry.members(&fleet).unwrap();
    assert_eq!(members.iter().map(|member| member.host).collect::<Vec<_>>(), [2, 5, 6]);
    assert!(members.iter().all(|member| member.wanted.is_none() && member.telemetry.is_none()));
    let counter = registry.next_command_counter(members[1].id, 0).unwrap();
    assert!(i64::from(counter) - host::system().now_ms() / 1000 <= 1);
    // With the authority's key it is known what nodes should have: the first two know each other.
    registry.set_authority(&fleet, &[9; 32]).unwrap();
    let lacks = |node: &NodeMember| node.is_live() && !node.is_current();
    let nodes = registry.every_node(&fleet).unwrap();
    assert_eq!(nodes.iter().flatten().filter(|node| lacks(node)).count(), 3);
    let its = registry.fleet(&fleet).unwrap().unwrap();
    let others = |at: usize| registry.others(&its, &members[at]).unwrap().len();
    assert_eq!((others(0), others(1), others(2)), (1, 1, 0));
    let print = Fingerprint::of(&[5; 32]).to_string().replace('-', "");
    let named = registry.members_with_print(&fleet, &print[..5]).unwrap();
    assert_eq!(named.iter().map(|member| member.host).collect::<Vec<_>>(), [5]);
    let place = |number: u8| {
        let new = NewMember {
            who: &Who::Peer(format!("{number}")),
            key: [number + 20; 32],
            claim_key: None,
            underlay: None,
            authority: None,
        };
        registry.enroll(&its, &new).unwrap().host
    };
    assert_eq!([place(1), place(2), place(3)], [3, 4, 7]);
}

#[test]
fn a_registry_of_the_third_version_has_no_stamp_yet() {
    let folder = folder();
    let path = folder.path().join("r");
    drop(old(&path, 3, &[FIRST, SECOND, THIRD]));
    let registry = Registry::open(&path).unwrap();
    assert_eq!(registry.stamp_ms().unwrap(), 0);
    registry.raise_stamp(7).unwrap();
    drop(registry);
    assert_eq!(Registry::open(&path).unwrap().stamp_ms().unwrap(), 7);
}

#[test]
fn a_registry_of_the_fourth_version_finds_above_all_that_it_has_counted() {
    let folder = folder();
    let path = folder.path().join("r");
    let connection = old(&path, 4, &[FIRST, SECOND, THIRD, FOURTH]);
    connection.execute("UPDATE counter SET last = 1 << 50", []).unwrap();
    drop(connection);
    assert_eq!(Registry::open(&path).unwrap().next_find(0, false).unwrap(), (1 << 50) + 1);
}

#[test]
fn a_registry_of_the_fifth_version_knows_half_of_its_fleets_ids() {
    let folder = folder();
    let path = folder.path().join("r");
    let connection = old(&path, 5, &[FIRST, SECOND, THIRD, FOURTH, FIFTH]);
    let sql = "INSERT INTO fleet (id, name, network, length, port, rules) VALUES (?1, ?2, ?3, 24, 51820, x'00')";
    for (id, name) in [([5u8; 16], "lab"), ([6; 16], "other")] {
        connection.execute(sql, params![id.as_slice(), name, [10u8, 8, 0, 0].as_slice()]).unwrap();
        let sql = "INSERT INTO member (fleet, host, name, key, preshared) VALUES (?1, 3, 'laptop', ?2, ?2)";
        connection.execute(sql, params![id.as_slice(), [9u8; 32].as_slice()]).unwrap();
        connection.execute("INSERT INTO free_host (fleet, host) VALUES (?1, 2)", [id.as_slice()]).unwrap();
    }
    // A grant as it was then, and a damaged one.
    for (fiduciary, length) in [([1u8; 32], 528 + 3), ([4; 32], 1240 + 3), ([2; 32], 528)] {
        old_node(&connection, fiduciary, "paired");
        let mut grant = vec![0; length];
        (grant[0], grant[7]) = (kind::GRANT, 3);
        let sql = "UPDATE node SET grant_bytes = ?2 WHERE fiduciary = ?1";
        connection.execute(sql, params![fiduciary.as_slice(), grant]).unwrap();
    }
    old_node(&connection, [3; 32], "paired");
    drop(connection);
    let backup = fs::read(&path).unwrap();
    let registry = Registry::open(&path).unwrap();
    let half = |byte| core::array::from_fn::<u8, 32, _>(|at| if at < 16 { byte } else { 0 });
    assert_eq!(registry.fleets_named("lab").unwrap()[0].id, half(5));
    // The whole id is said when the fleet is named by its key: it is the same fleet, with all that it had.
    let id: [u8; 32] = core::array::from_fn(|at| if at < 16 { 5 } else { 8 });
    assert_eq!(registry.make_fleet(&id, "lab").unwrap().id, id);
    assert_eq!(registry.fleets_named("lab").unwrap().len(), 1);
    assert_eq!(registry.members(&id).unwrap().len(), 1);
    assert_eq!((registry.members(&half(5)).unwrap().len(), registry.members(&half(6)).unwrap().len()), (0, 1));
    // A backup of then has half of it, and lacks nothing for that.
    let restore = || FromBackup::open(&path, &backup, host::system()).unwrap().restore(&path).unwrap();
    assert!(matches!(restore(), Restored::Merged { .. }));
    assert_eq!((registry.members(&id).unwrap().len(), registry.members(&half(5)).unwrap().len()), (1, 0));
    let new =
        NewMember { who: &Who::Peer("phone".into()), key: [20; 32], claim_key: None, underlay: None, authority: None };
    assert_eq!(registry.enroll(&registry.fleet(&id).unwrap().unwrap(), &new).unwrap().host, 2);
    // What was granted then is kept, and shown no more; what is damaged is still told of.
    assert!(registry.node(&[1; 32]).unwrap().is_none() && registry.node(&[4; 32]).unwrap().is_none());
    assert_eq!(registry.node(&[2; 32]).unwrap_err().exit, Exit::Registry);
    assert!(registry.node(&[3; 32]).unwrap().is_some());
    let kept = "SELECT count(*) FROM node WHERE state = 'superseded' AND length(grant_bytes) IN (531, 1243)";
    assert_eq!(registry.connection.query_row(kept, [], |row| row.get::<_, i64>(0)).unwrap(), 2);
}

#[test]
fn a_damaged_row_hides_no_other() {
    let folder = folder();
    let registry = Registry::open(&folder.path().join("r")).unwrap();
    let fleet = Fleet::new([5; 32], "lab");
    for number in 1..4 {
        registry.store_pending(&new(&grant([number; 32], 1))).unwrap();
        let who = Who::Node([number; 32]);
        let new = NewMember { who: &who, key: [number; 32], claim_key: None, underlay: None, authority: None };
        registry.enroll(&fleet, &new).unwrap();
    }
    for change in ["key = x'00'", "rules = x'ff'", "preshared = x''", "host = 1 << 40"] {
        let damage = format!("SAVEPOINT s; UPDATE member SET {change} WHERE fiduciary = x'{}'", "02".repeat(32));
        registry.connection.execute_batch(&damage).unwrap();
        let hosts: Vec<u32> = registry.members(&fleet.id).unwrap().iter().map(|member| member.host).collect();
        assert_eq!(hosts, [2, 4], "{change}");
        // Whoever has to answer for all is told which one it is.
        let every = registry.every_node(&fleet.id).unwrap();
        let unread: Vec<&String> = every.iter().filter_map(|node| node.as_ref().err()).collect();
        assert_eq!((every.len(), unread), (3, vec![&Who::Node([2; 32]).to_string()]), "{change}");
        registry.set_authority(&fleet.id, &[change.len() as u8; 32]).unwrap();
        assert!(registry.member_at(&fleet.id, 4).unwrap().unwrap().wanted.is_some(), "{change}");
        registry.connection.execute_batch("ROLLBACK TO s; RELEASE s").unwrap();
    }
    let damage = format!("UPDATE node SET address = x'00' WHERE fiduciary = x'{}'", "02".repeat(32));
    registry.connection.execute_batch(&damage).unwrap();
    let left: Vec<Key> =
        registry.nodes_and_addresses().unwrap().iter().map(|(node, _)| node.title.warrant.fiduciary).collect();
    assert_eq!(left, [[1; 32], [3; 32]]);
}

#[test]
fn what_a_node_says_of_its_counter_is_believed_within_reason() {
    let folder = folder();
    let registry = Registry::open(&folder.path().join("r")).unwrap();
    let who = Who::Node([1; 32]);
    let new = NewMember { who: &who, key: [1; 32], claim_key: None, underlay: None, authority: None };
    let member = registry.enroll(&Fleet::new([5; 32], "lab"), &new).unwrap().id;
    let now = (host::system().now_ms() / 1000) as u32;
    assert!(registry.is_likely(now + 1_000_000) && !registry.is_likely(u32::MAX));
    let first = registry.next_command_counter(member, 0).unwrap();
    for said in [u32::MAX, u32::MAX - 1, now + COUNTER_AHEAD as u32 + 100] {
        let next = registry.next_command_counter(member, said).unwrap();
        assert!(next > first && next < now + 1000, "{said}: {next}");
    }
    let ahead = now + 1_000_000;
    assert_eq!(registry.next_command_counter(member, ahead).unwrap(), ahead + 1);
    assert_eq!(registry.next_command_counter(member, 0).unwrap(), ahead + 2);
}

#[test]
fn a_trial_shows_what_would_follow_and_stores_nothing() {
    let folder = folder();
    let registry = Registry::open(&folder.path().join("r")).unwrap();
    let shown = registry.trial(|registry| Ok(registry.make_fleet(&[5; 32], "lab")?.name)).unwrap();
    assert_eq!((shown.as_str(), registry.fleets_named("lab").unwrap().len()), ("lab", 0));
    let whole = |fails: bool| {
        registry.whole(|registry| {
            registry.make_fleet(&[5; 32], "lab")?;
            if fails { Err(registry.damaged()) } else { registry.next_counter(0) }
        })
    };
    assert!(whole(true).is_err());
    assert_eq!(registry.fleets_named("lab").unwrap().len(), 0);
    assert!(whole(false).is_ok());
    assert_eq!(registry.fleets_named("lab").unwrap().len(), 1);
}

#[test]
fn a_registry_has_one_mesh_key_made_once_and_never_in_place_of_one_that_is_lost() {
    let folder = folder();
    let path = folder.path().join("r");
    let registry = Registry::open(&path).unwrap();
    let fleet = registry.make_fleet(&[5; 32], "lab").unwrap();
    assert!(registry.mesh_key().unwrap().is_none());
    let key = registry.make_mesh_key().unwrap().public();
    assert_eq!(registry.make_mesh_key().unwrap().public(), key);
    registry.set_authority(&fleet.id, &key).unwrap();
    // Neither a fleet that has one, nor a further one, takes another.
    let refused = registry.set_authority(&fleet.id, &[9; 32]).unwrap_err();
    assert!(refused.exit == Exit::Registry && refused.message.contains("not of one backup"), "{refused}");
    registry.make_fleet(&[6; 32], "other").unwrap();
    fs::remove_file(folder.path().join("mesh.key")).unwrap();
    for lost in [registry.mesh_key().err(), registry.make_mesh_key().err()] {
        assert!(lost.unwrap().message.contains("none is made in its place"));
    }
    assert!(!folder.path().join("mesh.key").exists());
    // One of an earlier version does not name the key that its nodes know.
    let old = folder.path().join("old");
    fs::create_dir(&old).unwrap();
    let registry = Registry::open(&old.join("r")).unwrap();
    let who = Who::Node([1; 32]);
    let new = NewMember { who: &who, key: [1; 32], claim_key: None, underlay: None, authority: None };
    registry.enroll(&Fleet::new([5; 32], "lab"), &new).unwrap();
    assert!(registry.mesh_key().unwrap().is_none());
    assert!(registry.make_mesh_key().err().unwrap().message.contains("has nodes"));
}
