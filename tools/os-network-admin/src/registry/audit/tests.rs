use std::{fs, os::unix::fs::PermissionsExt, sync::Arc};

use crypto::{AnchorSecret, Secret};
use policy::{Direction, Protocol, Role, Rule};
use proptest::prelude::*;
use rusqlite::Connection;
use wire::{
    U64,
    binding::PairingRecord,
    claim::{GrantHead, kind},
    telemetry::Telemetry,
};
use zerocopy::{FromZeros, IntoBytes};

use super::*;
use crate::{
    base::{guard::Locked, host},
    registry::{
        Accepted, AnchorKind, NewMember, NewNode, Registry, Rules, Said, Who,
        schema::{APPLICATION, FIFTH, FIRST, FOURTH, LOGGED, SECOND, THIRD},
    },
};

const FLEET: [u8; 32] = [5; 32];

fn key(byte: u8) -> Signer {
    Arc::new(Locked::new(AnchorSecret::from_seed(&[byte; 32])))
}

fn entries(registry: &Registry) -> Vec<Signed> {
    let mut entries = Vec::new();
    registry.audit(|_, signed| entries.push(signed)).unwrap();
    entries
}

fn verdict_of(entries: &[Signed], head: Head) -> Verdict {
    let mut verifier = Verifier::new(None, Vec::new());
    (1..).zip(entries).for_each(|(sequence, signed)| verifier.take(sequence, signed));
    verifier.end(head)
}

fn verdict(registry: &Registry) -> Verdict {
    verdict_of(&entries(registry), registry.audit_head().unwrap())
}

fn parsed(registry: &Registry) -> Vec<Entry> {
    entries(registry).iter().map(|signed| Entry::parse(&signed.entry).unwrap()).collect()
}

fn rules(port: u16) -> Rules {
    let rule = Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Tcp, port };
    [rule].into_iter().collect()
}

/// A life of a registry, each act once; and what its log should have of it.
fn live(registry: &Registry) -> Vec<Kind> {
    let seed = Secret::new([5; 32]);
    let fiduciary = crypto::sign_public(&seed);
    let fleet = registry.make_fleet(&FLEET, "lab").unwrap();
    registry.set_network(&FLEET, "10.0.0.0/16".parse().unwrap(), 51820).unwrap();
    registry.set_authority(&FLEET, &[9; 32]).unwrap();
    let claim = |epoch: u64| {
        let mut head = GrantHead::new_zeroed();
        head.kind = kind::GRANT;
        (head.title.warrant.fiduciary, head.title.warrant.epoch) = (fiduciary, U64::new(epoch));
        head.title = head.title.sign(&AnchorSecret::from_seed(&[1; 32]));
        let grant = head.as_bytes().to_vec();
        let new = NewNode {
            grant: &grant,
            fleet: "lab",
            anchor: AnchorKind::Ticket,
            accepted: Accepted::Ticket,
            address: [3; 16],
            interface: "eth0",
            fork: None,
        };
        let node = registry.store_pending(&new).unwrap();
        let record = PairingRecord::sign(&seed, &node.title);
        registry.store_paired(&node, &record, 0).unwrap()
    };
    let node = Who::Node(fiduciary);
    let place = NewMember { who: &node, key: [1; 32], claim_key: None, underlay: None, authority: None };
    let member = registry.enroll(&fleet, &place).unwrap().id;
    registry.store_acknowledged(&claim(1)).unwrap();
    claim(2);
    let record = Telemetry { epoch: U64::new(2), ..Telemetry::new_zeroed() };
    let said = Said { member, record, ms: 77 };
    registry.store_telemetry(&[said, said]).unwrap();
    registry.set_fleet_rules(&FLEET, &rules(80)).unwrap();
    registry.set_member_rules(member, Some(&rules(81))).unwrap();
    registry.clear_doubt(&fiduciary).unwrap();
    registry.revoke(member).unwrap();
    registry.readmit(&fiduciary).unwrap();
    let laptop = Who::Peer("lap\u{1b}top".into());
    let peer = NewMember { who: &laptop, key: [77; 32], claim_key: None, underlay: None, authority: None };
    registry.enroll(&fleet, &peer).unwrap();
    use Kind::{
        Acknowledged, Began, Cleared, Exported, FleetMade, Granted, MeshKeyNamed, NetworkSet, Paired, PolicySet,
        Readmitted, Revoked, Superseded,
    };
    vec![
        Began,
        FleetMade,
        NetworkSet,
        MeshKeyNamed,
        Granted,
        Paired,
        Acknowledged,
        Superseded,
        Granted,
        Paired,
        Acknowledged,
        PolicySet,
        PolicySet,
        Cleared,
        Revoked,
        Readmitted,
        Exported,
    ]
}

#[test]
fn every_act_has_its_entry_and_what_changes_nothing_has_none() {
    let registry = Registry::in_memory(host::system()).unwrap();
    assert_eq!((registry.audit_head().unwrap(), entries(&registry).len()), (Head::default(), 0));
    let kinds = live(&registry);
    let found = parsed(&registry);
    assert_eq!(
        found.iter().map(Entry::kind).collect::<Vec<_>>(),
        kinds.iter().map(|kind| kind.name()).collect::<Vec<_>>()
    );
    let text = |at: usize, tag| match found[at].field(tag) {
        Some(Value::Text(text)) => text.as_str(),
        _ => panic!("{:?}", found[at]),
    };
    assert_eq!((text(6, Tag::By), text(10, Tag::By)), ("claim", "telemetry"));
    assert_eq!(text(11, Tag::What), "+ in authority tcp 80");
    assert_eq!(text(12, Tag::What), "rules of its own; + in authority tcp 81");
    assert_eq!(text(16, Tag::Peer), "lap\\u{1b}top");
    let print = |at: usize| found[at].print().unwrap().to_string();
    assert_eq!(print(12), print(14));
    // Counting, saying, looking and trying are no acts.
    registry.next_counter(0).unwrap();
    registry.next_find(0, false).unwrap();
    registry.make_fleet(&FLEET, "lab").unwrap();
    registry.trial(|registry| registry.revoke(1)).unwrap();
    assert!(registry.whole(|registry| registry.revoke(1).and_then(|()| Err::<(), _>(registry.damaged()))).is_err());
    assert_eq!(entries(&registry).len(), found.len());
    let verdict = verdict(&registry);
    assert_eq!((verdict.bad, verdict.head.sequence, verdict.signed), (None, found.len() as u64, 0));
    assert_eq!(verdict.head, registry.audit_head().unwrap());
}

#[test]
fn with_the_key_at_hand_each_entry_is_signed_and_vouches_for_those_before() {
    let registry = Registry::in_memory(host::system()).unwrap();
    registry.log(Event::new(Kind::Cleared)).unwrap();
    registry.sign_with(&key(1));
    registry.log(Event::new(Kind::Signed)).unwrap();
    registry.sign_with(&key(2));
    registry.log(Event::new(Kind::Signed)).unwrap();
    let verdict = verdict(&registry);
    assert_eq!((&verdict.bad, verdict.signed, verdict.head.sequence), (&None, 4, 4));
    let signers: Vec<_> = verdict.signers.into_iter().collect();
    let mut expected = [(key(1).public().sign, 1), (key(2).public().sign, 1)];
    expected.sort_unstable();
    assert_eq!(signers, expected);
}

#[test]
fn sqlite_itself_lets_the_log_only_grow() {
    let registry = Registry::in_memory(host::system()).unwrap();
    live(&registry);
    for change in [
        "DELETE FROM audit WHERE sequence = 3",
        "DELETE FROM audit",
        "UPDATE audit SET entry = x'00'",
        "UPDATE audit SET sequence = 99 WHERE sequence = 3",
        "INSERT OR REPLACE INTO audit VALUES (3, x'00', NULL)",
        "INSERT INTO audit VALUES (99, x'00', NULL)",
        "DELETE FROM audit_head",
        "INSERT OR REPLACE INTO audit_head VALUES (1, 0, x'00')",
        "UPDATE audit_head SET sequence = 3",
        "UPDATE audit_head SET hash = x'00'",
    ] {
        assert!(registry.connection.execute_batch(change).is_err(), "{change}");
    }
    assert_eq!(verdict(&registry).bad, None);
}

#[test]
fn what_is_removed_from_the_end_is_missed_here_or_by_a_head_that_was_noted() {
    let registry = Registry::in_memory(host::system()).unwrap();
    live(&registry);
    let (all, head) = (entries(&registry), registry.audit_head().unwrap());
    let cut = &all[..all.len() - 2];
    let bad = verdict_of(cut, head).bad.unwrap();
    assert_eq!((bad.sequence, bad.why), (all.len() as u64 - 1, "it is not there"));
    // Whoever sets the head back too is found by whoever has noted it.
    let back = Head { sequence: cut.len() as u64, hash: cut.last().unwrap().hash() };
    assert_eq!(verdict_of(cut, back).bad, None);
    let noted = |noted, entries: &[Signed], head| {
        let mut verifier = Verifier::new(Some(noted), Vec::new());
        (1..).zip(entries).for_each(|(sequence, signed)| verifier.take(sequence, signed));
        verifier.end(head).bad
    };
    assert_eq!(noted(head.hash, cut, back).unwrap().sequence, cut.len() as u64 + 1);
    assert_eq!(noted(head.hash, &all, head), None);
    assert_eq!(noted(all[4].hash(), &all, head), None, "the log has gone on since");
}

#[test]
fn a_text_is_bounded_and_nothing_in_it_is_obeyed() {
    let event = Event::new(Kind::Claim).text(Tag::Why, &"\u{1b}é".repeat(1000)).text(Tag::What, &"é".repeat(4000));
    let entry = Entry::new(event, 1, 2, [0; 32], None);
    let bytes = entry.to_bytes();
    assert!(bytes.len() < 5000);
    assert_eq!(Entry::parse(&bytes).as_ref(), Some(&entry));
    let Some(Value::Text(why)) = entry.field(Tag::Why) else { panic!() };
    assert!(why.len() <= 512 && why.ends_with('…') && !why.contains('\u{1b}'));
}

#[test]
fn an_entry_has_one_form_only() {
    let event = Event::new(Kind::Claim).text(Tag::Why, "w").number(Tag::Epoch, 7).node(&[1; 32]);
    let bytes = Entry::new(event, 1, 2, [3; 32], Some([4; 32])).to_bytes();
    let head = 84;
    assert_eq!(bytes.len(), head + 35 + 11 + 4);
    assert!(Entry::parse(&bytes).is_some());
    assert!(Entry::parse(&[&bytes[..], &[0]].concat()).is_none());
    assert!(Entry::parse(&bytes[..bytes.len() - 1]).is_none());
    let (node, epoch) = (&bytes[head..head + 35], &bytes[head + 35..head + 46]);
    let with = |fields: &[&[u8]]| Entry::parse(&[&bytes[..head], &fields.concat()].concat());
    assert!(with(&[node, epoch]).is_some() && with(&[]).is_some());
    assert!(with(&[epoch, node]).is_none(), "fields rise");
    assert!(with(&[node, node]).is_none(), "each once");
    assert!(with(&[&[0x41, 0, 1, 7]]).is_none(), "a number has eight bytes");
    assert!(with(&[&[0x87, 0, 1, 0xff]]).is_none(), "a text is UTF-8");
    assert!(with(&[&[0xc1, 0, 0]]).is_none(), "no other form");
    assert!(with(&[&[0x3f, 0, 1, 9]]).is_some(), "a later version's field is kept");
    for (at, value) in [(0, 2), (3, 1)] {
        let mut other = bytes.clone();
        other[at] = value;
        assert!(Entry::parse(&other).is_none(), "{at}");
    }
}

#[test]
fn a_registry_of_each_earlier_version_begins_its_log_with_where_it_came_from() {
    let tables = [FIRST, SECOND, THIRD, FOURTH, FIFTH];
    assert_eq!(tables.len() as i32, LOGGED - 1);
    for schema in 1..LOGGED {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("r");
        let connection = Connection::open(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        tables[..schema as usize].iter().for_each(|tables| connection.execute_batch(tables).unwrap());
        connection.pragma_update(None, "application_id", APPLICATION).unwrap();
        connection.pragma_update(None, "user_version", schema).unwrap();
        drop(connection);
        for _ in 0..2 {
            let registry = Registry::open(&path).unwrap();
            let [began] = &parsed(&registry)[..] else { panic!("schema {schema}") };
            assert_eq!(
                (began.kind().as_str(), began.field(Tag::Schema)),
                ("log_began", Some(&Value::Number(schema as u64)))
            );
            assert_eq!(verdict(&registry).bad, None);
        }
    }
}

/// A log of some entries, of which these are signed.
fn log(signed: &[bool]) -> (Vec<Signed>, Head) {
    let mut head = Head::default();
    let mut all = Vec::new();
    for (sequence, is_signed) in (1..).zip(signed) {
        let key = is_signed.then(|| AnchorSecret::from_seed(&[1; 32]));
        let signer = key.as_ref().map(|key| key.public().sign);
        let event = Event::new(Kind::Revoked).node(&[sequence as u8; 32]).text(Tag::Why, "because");
        let entry = Entry::new(event, sequence, 1000 + sequence, head.hash, signer);
        let signed = Signed::new(entry.to_bytes(), key.as_ref());
        head = Head { sequence, hash: signed.hash() };
        all.push(signed);
    }
    (all, head)
}

fn pick<T>(all: &[T], at: usize) -> usize {
    at % all.len()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]

    #[test]
    fn any_byte_that_is_changed_is_found_and_its_entry_named(
        signed in prop::collection::vec(any::<bool>(), 1..8),
        at: usize, byte: usize, bit in 0..8u8,
    ) {
        let (mut all, head) = log(&signed);
        prop_assert_eq!(verdict_of(&all, head).bad, None);
        let at = pick(&all, at);
        let length = all[at].entry.len();
        let byte = byte % (length + all[at].signature.as_ref().map_or(0, Vec::len));
        match &mut all[at] {
            Signed { entry, .. } if byte < length => entry[byte] ^= 1 << bit,
            Signed { signature, .. } => signature.as_mut().unwrap()[byte - length] ^= 1 << bit,
        }
        prop_assert_eq!(verdict_of(&all, head).bad.map(|bad| bad.sequence), Some(at as u64 + 1));
    }

    #[test]
    fn any_entry_that_is_removed_swapped_inserted_or_signed_anew_is_found(
        signed in prop::collection::vec(any::<bool>(), 2..8),
        at: usize, other: usize, what in 0..5,
    ) {
        let (mut all, head) = log(&signed);
        let (at, other) = (pick(&all, at), pick(&all, other));
        let first = match what {
            0 => {
                all.remove(at);
                at
            }
            1 => {
                prop_assume!(at != other);
                all.swap(at, other);
                at.min(other)
            }
            2 => {
                let copy = all[other].clone();
                all.insert(at, copy);
                if at == other { at + 1 } else { at }
            }
            3 => {
                // Somebody else's signature in place of the own, or of none.
                let key = AnchorSecret::from_seed(&[2; 32]);
                all[at] = Signed::new(all[at].entry.clone(), Some(&key));
                at
            }
            _ => {
                prop_assume!(all[at].signature.is_some());
                all[at].signature = None;
                at
            }
        };
        prop_assert_eq!(verdict_of(&all, head).bad.map(|bad| bad.sequence), Some(first as u64 + 1));
    }

    #[test]
    fn whoever_writes_a_part_anew_is_found_by_the_next_signature(
        before in 1..4usize, after in 0..3usize, at: usize,
    ) {
        // Unsigned entries, one that is signed, unsigned ones: all up to the signature are written anew, consistently.
        let mut signed = vec![false; before];
        signed.push(true);
        signed.extend(vec![false; after]);
        let (all, head) = log(&signed);
        let (mut anew, mut last) = (all.clone(), Head::default());
        let at = at % before;
        for (number, signed) in anew[..before].iter_mut().enumerate() {
            let mut entry = Entry::parse(&signed.entry).unwrap();
            entry.before = last.hash;
            entry.time_ms += u64::from(number == at);
            *signed = Signed::new(entry.to_bytes(), None);
            last.hash = signed.hash();
        }
        prop_assert_eq!(verdict_of(&anew, head).bad.map(|bad| bad.sequence), Some(before as u64));
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), version: bool) {
        let mut bytes = bytes;
        if version && bytes.len() > 3 {
            (bytes[0], bytes[3]) = (1, 0);
        }
        if let Some(entry) = Entry::parse(&bytes) {
            prop_assert_eq!(entry.to_bytes(), bytes);
        }
    }
}
