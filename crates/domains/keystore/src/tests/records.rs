//! Records at rest over the versions of this crate: what an earlier one wrote is read, what a later one wrote is left
//! alone, and there is room for what is to come.

use std::{format, fs};

use calls::{
    keystore::{AnchorKind, for_beacon::MakeHello},
    store::{RECORDS, SEALED, Sealed},
};
use wire::{binding::ForkRecord, set::MAX_AUTHORITIES};
use zerocopy::FromBytes;

use super::*;
use crate::vault::{self, BODY, FORMAT};

/// The board of the samples.
fn board() -> Board {
    Board::ticket()
}

fn store_key() -> Secret {
    crypto::derive(&[], &board().device_secret, label::STORE_KEY, &[])
}

const ALL: [Record; RECORDS] = [Record::Identity, Record::Ownership, Record::Counters];

/// A node with something in every field: forked, bound, isolated, not acknowledged; its ticket is still there.
fn lived() -> Rig {
    let mut rig = Rig::new(board());
    let anchor = AnchorSecret::from_seed(&ticket_seed(&board()));
    rig.fork().unwrap();
    let find = Find::sign(&anchor, 70, SENDER.0, SENDER.1);
    rig.ask::<for_beacon::CheckFind>(Channel::Beacon, &find).unwrap();
    let title = bind(&rig.identify().unwrap(), &anchor, 80);
    rig.commit(&title).unwrap();
    let key = super::command::key_of(&authority(), &title, &rig);
    let isolate = Command::new(&key, &title.warrant.fiduciary, wire::command::Operation::Isolate, 0, 90);
    rig.command(&isolate).unwrap();
    rig.timestamp().unwrap();
    rig
}

/// An entry of a sample: its number, and what stands there.
const ENTRY: usize = size_of::<u64>() + SEALED;
/// The newest entry of each record.
const SAMPLE: &[u8; RECORDS * ENTRY] = include_bytes!("format-3.bin");

fn sample() -> Disk {
    let disk = Disk::default();
    for (record, entry) in ALL.into_iter().zip(SAMPLE.chunks(ENTRY)) {
        let (sequence, sealed) = entry.split_first_chunk().unwrap();
        disk.set(record, vec![(u64::from_be_bytes(*sequence), sealed.try_into().unwrap())]);
    }
    disk
}

/// Once for a format, when it is new; afterwards the file stays as it is.
#[test]
#[ignore = "writes a sample of the format that is in force"]
fn write_a_sample() {
    let disk = lived().disk;
    let entries = ALL.map(|record| disk.newest(record).unwrap());
    let bytes: Vec<u8> =
        entries.iter().flat_map(|(sequence, sealed)| [&sequence.to_be_bytes()[..], sealed].concat()).collect();
    fs::write(format!("{}/src/tests/format-{FORMAT}.bin", env!("CARGO_MANIFEST_DIR")), bytes).unwrap();
}

#[test]
fn what_format_3_has_written_is_read() {
    let mut rig = Rig::boot(Board { seed: 99, ..board() }, sample());
    rig.root = board().root_seed();
    let keys = Keys::derive(&board().root_seed());
    let status = rig.status();
    assert_eq!((status.state(), status.ownership()), (Some(State::Ready), Ownership::Committed));
    assert_eq!((status.fiduciary, status.address), (keys.public.fiduciary, keys.public.address));
    assert_eq!((status.fleet, status.epoch, status.configuration), ([0xf1; 32], 1, CONFIGURATION));
    assert_eq!((status.forked, status.isolated, status.anchor), (1, 1, AnchorKind::Ticket as u8));
    // The anchor, the counters and the block of timestamps.
    let anchor = AnchorSecret::from_seed(&ticket_seed(&board()));
    assert_eq!(rig.hello(&anchor).committed, 1);
    let identity = rig.identify().unwrap();
    let fork = ForkRecord::sign(
        &keys.fiduciary,
        keys.public.fiduciary,
        keys.public.claim,
        keys.public.mesh,
        keys.public.address,
    );
    assert_eq!(identity.fork(), Some(&fork));
    // Finds and commands are stored ahead.
    for (counter, expected) in [(1 << 16, Err(Refusal::Stale)), ((1 << 16) + 1, Ok(()))] {
        let find = Find::sign(&anchor, counter, SENDER.0, SENDER.1);
        assert_eq!(rig.ask::<for_beacon::CheckFind>(Channel::Beacon, &find).map(|_| ()), expected);
    }
    let mut title = unsigned(&identity, 80);
    title.warrant.epoch = identity.epoch;
    let title = title.sign(&anchor);
    assert!(rig.commit(&title).unwrap().verify(&title).is_some(), "the same bytes again");
    let key = super::command::key_of(&authority(), &title, &rig);
    assert_eq!(rig.whole_status().command_floors, [128, 0, 0, 0, 0, 0, 0]);
    for (counter, expected) in [(128, Err(Refusal::Stale)), (129, Ok(129))] {
        let command = Command::new(&key, &title.warrant.fiduciary, wire::command::Operation::Status, 0, counter);
        assert_eq!(rig.command(&command).map(|reply| reply.counter), expected);
    }
    assert_eq!(rig.timestamp().unwrap()[..8], ((1u64 << 62) + 2).to_be_bytes(), "the second block");
    assert_eq!(rig.whole_status().boots, 2);
    // The ticket is out of the store once the claim is final.
    assert_eq!(rig.settle(), Ok(()));
    rig.power_cycle();
    assert_eq!(rig.status().ownership(), Ownership::Claimed);
}

/// The newest entry of a record, in another format.
fn reformat(disk: &Disk, record: Record, format: u16) {
    let mut log = disk.log(record);
    let (sequence, sealed) = log.last_mut().unwrap();
    assert_eq!(vault::open(&store_key(), record, *sequence, sealed), Some(FORMAT));
    vault::seal(&store_key(), record, *sequence, format, &[7; 24], sealed);
    disk.set(record, log);
}

#[test]
fn a_record_of_another_format_is_never_an_empty_store() {
    let before = lived().disk;
    for record in ALL {
        for format in [0, FORMAT - 1, FORMAT + 1, u16::MAX] {
            let disk = before.copy();
            reformat(&disk, record, format);
            let mut rig = Rig::boot(Board { seed: 99, ..board() }, disk.clone());
            let status = rig.status();
            assert_eq!((status.state(), status.fiduciary), (Some(State::UnknownFormat), [0; 32]), "{record:?}");
            assert_eq!(rig.ask::<MakeHello>(Channel::Beacon, &()).err(), Some(Refusal::NotReady));
            assert!(rig.shown_ticket().is_none());
            assert_eq!(disk.writes(), 0);
        }
    }
}

#[test]
fn the_format_is_authenticated() {
    let before = lived().disk;
    for record in ALL {
        for at in 0..8 {
            let disk = before.copy();
            let mut log = disk.log(record);
            log.last_mut().unwrap().1[at] ^= 1;
            disk.set(record, log);
            let mut rig = Rig::boot(Board { seed: 99, ..board() }, disk.clone());
            assert_eq!(rig.status().state(), Some(State::StoreForeign), "{record:?}, byte {at}");
            assert_eq!(disk.writes(), 0);
        }
    }
}

/// A set's place may grow, and other things may come.
const SPARE: usize = 256;

#[test]
fn there_is_room_for_seven_authorities_and_the_next_anchor() {
    const { assert!(size_of::<record::Ownership>() + SPARE <= BODY) };
    let full = [0xa5; size_of::<record::Ownership>()];
    let mut sealed: Sealed = [0; SEALED];
    sealed[32..][..full.len()].copy_from_slice(&full);
    vault::seal(&store_key(), Record::Ownership, 7, FORMAT, &[1; 24], &mut sealed);
    assert_eq!(vault::open(&store_key(), Record::Ownership, 7, &mut sealed), Some(FORMAT));
    let (read, _) = record::Ownership::ref_from_prefix(&sealed[32..]).unwrap();
    assert!(read.as_bytes() == full);
    assert_eq!((read.title.set.authorities.len(), read.anchor.signers.len()), (MAX_AUTHORITIES, MAX_AUTHORITIES));
}

#[test]
fn the_store_sees_one_size_and_nothing_of_what_is_in_it() {
    let rig = lived();
    let mut nonces = Vec::new();
    for (_, sealed) in ALL.into_iter().flat_map(|record| rig.disk.log(record)) {
        assert_eq!(sealed[..8], *b"GNSREC\x00\x03");
        nonces.push(sealed[8..32].to_vec());
        for secret in rig.secrets.iter().chain(&rig.tickets) {
            assert!(!sealed.windows(16).any(|window| window == &secret[..16]));
        }
        // The unused end is not zeros either.
        assert!(sealed[SEALED - 64..].iter().filter(|byte| **byte == 0).count() < 8);
    }
    let all = nonces.len();
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!((nonces.len(), all), (8, 8), "three of the first boot; fork, find, binding; command and isolation");
}
