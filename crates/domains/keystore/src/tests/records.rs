//! Records at rest over the versions of this crate: what an earlier one wrote is read, what a later one wrote is left
//! alone, and there is room for what is to come.

use std::{format, fs};

use calls::{
    keystore::{AnchorKind, for_beacon::MakeHello},
    store::{Progress, SLOTS, Sealed, Slot, Store},
};
use wire::{Key, Signature, binding::ForkRecord};
use zerocopy::{FromBytes, Immutable, KnownLayout, Unaligned};

use super::*;
use crate::vault::{self, BODY, FORMAT, Vault};

/// The board of the samples.
fn board() -> Board {
    Board::ticket()
}

fn store_key() -> Secret {
    crypto::derive(&[], &board().device_secret, label::STORE_KEY, &[])
}

fn slots() -> impl Iterator<Item = (Record, usize)> {
    [Record::Identity, Record::Ownership].into_iter().flat_map(|record| (0..SLOTS).map(move |index| (record, index)))
}

/// A node with something in every field: forked, bound, isolated, not acknowledged; its ticket is still there.
fn lived() -> Rig {
    let mut rig = Rig::new(board());
    let anchor = AnchorSecret::from_seed(&ticket_seed(&board()));
    rig.fork().unwrap();
    let find = Find::sign(&anchor, 70, SENDER.0, SENDER.1);
    rig.ask::<for_beacon::CheckFind>(Channel::Beacon, &find).unwrap();
    let binding = bind(&rig.identify().unwrap(), &anchor, 80);
    rig.commit(&binding).unwrap();
    let key = super::command::key_of(&authority(), &binding, &rig);
    let isolate = Command::new(&key, &binding.fiduciary, wire::command::Operation::Isolate, 0, 90);
    rig.command(&isolate).unwrap();
    rig.timestamp().unwrap();
    rig
}

const SAMPLE: &[u8; 2 * SLOTS * SEALED] = include_bytes!("format-2.bin");

fn sample() -> Disk {
    let disk = Disk::default();
    for ((record, index), sealed) in slots().zip(SAMPLE.chunks(SEALED)) {
        let sealed = sealed.try_into().unwrap();
        disk.set(record, index, (sealed != [0; SEALED]).then_some(sealed));
    }
    disk
}

/// Once for a format, when it is new; afterwards the file stays as it is.
#[test]
#[ignore = "writes a sample of the format that is in force"]
fn write_a_sample() {
    let disk = lived().disk;
    let bytes: Vec<u8> = slots().flat_map(|(record, index)| disk.slot(record, index).unwrap_or([0; SEALED])).collect();
    fs::write(format!("{}/src/tests/format-{FORMAT}.bin", env!("CARGO_MANIFEST_DIR")), bytes).unwrap();
}

#[test]
fn what_format_2_has_written_is_read() {
    let mut rig = Rig::boot(Board { seed: 99, ..board() }, sample());
    rig.root = board().root_seed();
    let keys = Keys::derive(&board().root_seed());
    let status = rig.status();
    assert_eq!((status.state(), status.ownership()), (Some(State::Ready), Ownership::Committed));
    assert_eq!((status.fiduciary, status.address), (keys.public.fiduciary, keys.public.address));
    assert_eq!((status.fleet, status.epoch, status.configuration), ([0xf1; 16], 1, CONFIGURATION));
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
    for (counter, expected) in [(80, Err(Refusal::Stale)), (81, Ok(()))] {
        let find = Find::sign(&anchor, counter, SENDER.0, SENDER.1);
        assert_eq!(rig.ask::<for_beacon::CheckFind>(Channel::Beacon, &find).map(|_| ()), expected);
    }
    let mut binding = unsigned(&identity, 80);
    binding.epoch = identity.epoch;
    let binding = binding.sign(&anchor);
    assert!(rig.commit(&binding).unwrap().verify(&binding).is_some(), "the same bytes again");
    let key = super::command::key_of(&authority(), &binding, &rig);
    for (counter, expected) in [(90, Err(Refusal::Stale)), (91, Ok(91))] {
        let command = Command::new(&key, &binding.fiduciary, wire::command::Operation::Status, 0, counter);
        assert_eq!(rig.command(&command).map(|reply| reply.counter), expected);
    }
    assert_eq!(rig.timestamp().unwrap()[..8], ((1u64 << 62) + 2).to_be_bytes(), "the second block");
    // The ticket is out of both slots once the claim is final.
    assert_eq!(rig.settle(), Ok(()));
    rig.power_cycle();
    assert_eq!(rig.status().ownership(), Ownership::Claimed);
}

/// The record in a slot, in another format.
fn reformat(disk: &Disk, record: Record, index: usize, format: u16) -> bool {
    let Some(mut sealed) = disk.slot(record, index) else { return false };
    let slot = Slot { record, index: index as u8 };
    assert_eq!(vault::open(&store_key(), slot, &mut sealed), Some(FORMAT));
    vault::seal(&store_key(), slot, format, &[7; 24], &mut sealed);
    disk.set(record, index, Some(sealed));
    true
}

#[test]
fn a_record_of_another_format_is_never_an_empty_store() {
    let before = lived().disk;
    let mut tried = 0;
    // Of either record, newest or not, and although the other slot is one that can be read.
    for (record, index) in slots() {
        for format in [0, FORMAT - 1, FORMAT + 1, u16::MAX] {
            let disk = before.copy();
            if !reformat(&disk, record, index, format) {
                continue;
            }
            tried += 1;
            let mut rig = Rig::boot(Board { seed: 99, ..board() }, disk.clone());
            let status = rig.status();
            assert_eq!((status.state(), status.fiduciary), (Some(State::UnknownFormat), [0; 32]), "{record:?} {index}");
            assert_eq!(rig.ask::<MakeHello>(Channel::Beacon, &()).err(), Some(Refusal::NotReady));
            assert!(rig.shown_ticket().is_none());
            assert_eq!(disk.writes(), 0);
        }
    }
    assert_eq!(tried, 12, "all slots but the second of the identity");
}

#[test]
fn the_format_is_authenticated() {
    let before = lived().disk;
    for (record, index) in slots() {
        let Some(sealed) = before.slot(record, index) else { continue };
        for at in 0..8 {
            let (disk, mut sealed) = (before.copy(), sealed);
            sealed[at] ^= 1;
            disk.set(record, index, Some(sealed));
            let mut rig = Rig::boot(Board { seed: 99, ..board() }, disk.clone());
            assert_eq!(rig.status().state(), Some(State::NoStore), "{record:?} {index}, byte {at}");
            assert_eq!(disk.writes(), 0);
        }
    }
}

/// What a fleet with several authorities will want to be kept beside what is kept today.
#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Later {
    today: record::Ownership,
    authorities: [Place; 7],
    /// Of the record of the set before.
    chain: Key,
    /// With what it takes to prove it again.
    signatures: [Signature; 7],
    next_anchor: [Key; 2],
    next_signers: [Key; 7],
    own_addresses: [[u8; 18]; 6],
}

#[derive(FromBytes, IntoBytes, Immutable, KnownLayout, Unaligned)]
#[repr(C)]
struct Place {
    sign: Key,
    dh: Key,
    mesh: Key,
    inner: [u8; 16],
    endpoint: [u8; 18],
}

#[test]
fn there_is_room_for_seven_authorities_and_the_next_anchor() {
    const { assert!(size_of::<Later>() <= BODY) };
    let mut store = Vault::new(RamStore::new(), &Secret::new([1; 32]));
    let finish = |store: &mut Vault<RamStore>| while store.poll().is_some_and(|done| done.is_ok()) {};
    store.load(Record::Ownership);
    finish(&mut store);
    assert!(store.loaded().is_none());
    for byte in 1..=5 {
        let body = [byte; size_of::<Later>()];
        store.commit(Record::Ownership, &body, [byte; 24]);
        finish(&mut store);
        store.load(Record::Ownership);
        finish(&mut store);
        let (later, rest) = Later::ref_from_prefix(store.loaded().unwrap()).unwrap();
        assert!(later.as_bytes() == body && rest.iter().all(|byte| *byte == 0));
    }
}

#[test]
fn the_store_sees_one_size_and_nothing_of_what_is_in_it() {
    let mut rig = lived();
    let mut nonces = Vec::new();
    for (record, index) in slots() {
        let Some(sealed) = rig.disk.slot(record, index) else { continue };
        assert_eq!(sealed[..8], *b"GNSREC\x00\x02");
        nonces.push(sealed[8..32].to_vec());
        for secret in rig.secrets.iter().chain(&rig.tickets) {
            assert!(!sealed.windows(16).any(|window| window == &secret[..16]));
        }
        // The unused end is not zeros either.
        assert!(sealed[SEALED - 64..].iter().filter(|byte| **byte == 0).count() < 8);
    }
    nonces.sort_unstable();
    nonces.dedup();
    assert_eq!(nonces.len(), 3);
    assert!(rig.status().forked == 1);
}

#[test]
fn a_ram_store_keeps_the_newest_slot_of_each_record() {
    let mut store = RamStore::new();
    let mut read = [0; SEALED];
    let slot = |record, index: usize| Slot { record, index: index as u8 };
    let filled = |record: Record, index: usize| -> Sealed { [1 + record as u8 * 2 + index as u8; SEALED] };
    for (record, index) in slots() {
        store.begin_read(slot(record, index));
        assert_eq!(store.poll(&mut read), Progress::Empty);
        store.begin_write(slot(record, index), &filled(record, index));
        assert_eq!(store.poll(&mut read), Progress::Done);
    }
    for (record, index) in slots() {
        store.begin_read(slot(record, index));
        assert_eq!(store.poll(&mut read), if index == 1 { Progress::Done } else { Progress::Empty });
        assert!(index == 0 || read == filled(record, index));
    }
}
