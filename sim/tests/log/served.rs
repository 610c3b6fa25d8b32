//! The domain as its clients see it, and what it costs the flash.

use std::sync::atomic::AtomicU64;

use calls::store::{
    AppendRequest, BlockPlace, COPIES, Finding, MAX_BLOCKS, RECORDS, Refusal, SEALED, SEALED_BLOCK, WriteBlockRequest,
    for_keystore::{Append, Find, Purge},
    for_lifecycle::{EraseSlot, ReadAccount, ReadBlock, WriteBlock},
};
use node::store::{Ports, Store};
use shm::{
    ReadOnly, ReadWrite,
    mailbox::{CallError, Client, Operation, Patience, Server},
};
use sim::nor::{Chip, Nor};

/// A page: what a mailbox has in `system.xml`.
type Words = [AtomicU64; 512];

struct Regions([Words; 4]);

impl Regions {
    fn new() -> Box<Self> {
        Box::new(Self([const { [const { AtomicU64::new(0) }; 512] }; 4]))
    }
}

struct Served<'a> {
    store: Store<Chip>,
    ports: Ports<'a>,
    keystore: Client<'a>,
    lifecycle: Client<'a>,
    steps: u64,
}

impl<'a> Served<'a> {
    fn new(regions: &'a Regions, chip: &Chip) -> Self {
        let [a, b, c, d] = &regions.0;
        Self {
            store: Store::new(chip.clone()),
            ports: Ports {
                keystore: Server::new(ReadOnly::new(a), ReadWrite::new(b)).unwrap(),
                lifecycle: Server::new(ReadOnly::new(c), ReadWrite::new(d)).unwrap(),
            },
            keystore: Client::new(ReadWrite::new(a), ReadOnly::new(b)).unwrap(),
            lifecycle: Client::new(ReadWrite::new(c), ReadOnly::new(d)).unwrap(),
            steps: 0,
        }
    }

    fn run(&mut self) {
        while self.store.step(0, &mut self.ports) {
            self.steps += 1;
            assert!(self.steps < 1_000_000, "it has an end");
        }
    }

    fn keystore<O: Operation>(&mut self, request: &O::Request) -> Result<O::Reply, CallError> {
        self.keystore.call::<O>(request, 0, Patience::ENDLESS);
        self.run();
        self.keystore.poll::<O>(0).expect("an answer")
    }

    fn lifecycle<O: Operation>(&mut self, request: &O::Request) -> Result<O::Reply, CallError> {
        self.lifecycle.call::<O>(request, 0, Patience::ENDLESS);
        self.run();
        self.lifecycle.poll::<O>(0).expect("an answer")
    }

    fn append(&mut self, record: u64, sequence: u64) -> Result<(), CallError> {
        self.keystore::<Append>(&AppendRequest { record, sequence, sealed: sealed(record, sequence) })
    }

    fn find(&mut self, record: u64) -> (Option<Finding>, u64) {
        let reply = self.keystore::<Find>(&record).unwrap();
        let finding = Finding::from_number(reply.finding);
        if finding == Some(Finding::Found) {
            assert_eq!(reply.sealed, sealed(record, reply.sequence));
        } else {
            assert_eq!(reply.sealed, [0; SEALED]);
        }
        (finding, reply.sequence)
    }
}

fn sealed(record: u64, sequence: u64) -> [u8; SEALED] {
    core::array::from_fn(|at| (at as u64 ^ sequence.wrapping_mul(7) ^ record.wrapping_mul(31)) as u8)
}

fn chip(block: usize) -> Chip {
    Chip(std::rc::Rc::new(std::cell::RefCell::new(Nor::new(block))))
}

const SMALL: usize = 16 << 10;

#[test]
fn keystore_has_three_records_and_lifecycle_two_slots_and_none_is_in_the_others_way() {
    let chip = chip(SMALL);
    let regions = Regions::new();
    let mut served = Served::new(&regions, &chip);
    for record in 0..RECORDS as u64 {
        assert_eq!(served.find(record), (Some(Finding::Empty), 0));
    }
    let block = |slot: u64, index: u64| [(slot * 16 + index) as u8; SEALED_BLOCK];
    for slot in 0..2 {
        for index in 0..MAX_BLOCKS as u64 {
            let request = WriteBlockRequest { place: BlockPlace { slot, index }, sealed: block(slot, index) };
            served.lifecycle::<WriteBlock>(&request).unwrap();
            // As often as it likes.
            served.lifecycle::<WriteBlock>(&request).unwrap();
        }
    }
    for sequence in 1..20 {
        for record in 0..RECORDS as u64 {
            served.append(record, sequence + record).unwrap();
        }
    }
    // A new one, on what stands there.
    let mut served = Served::new(&regions, &chip);
    for record in 0..RECORDS as u64 {
        assert_eq!(served.find(record), (Some(Finding::Found), 19 + record));
        assert_eq!(served.append(record, 19 + record), Err(CallError::Refused(Refusal::Stale.code())));
        served.keystore::<Purge>(&record).unwrap();
        assert_eq!(served.find(record), (Some(Finding::Found), 19 + record));
    }
    let read = |served: &mut Served<'_>, slot, index| served.lifecycle::<ReadBlock>(&BlockPlace { slot, index });
    for index in 0..MAX_BLOCKS as u64 {
        assert_eq!(read(&mut served, 1, index), Ok(block(1, index)));
    }
    // Something else does not go over it, until the slot is erased.
    let other = WriteBlockRequest { place: BlockPlace { slot: 0, index: 0 }, sealed: [0x77; SEALED_BLOCK] };
    assert_eq!(served.lifecycle::<WriteBlock>(&other), Err(CallError::Refused(Refusal::Failed.code())));
    served.lifecycle::<EraseSlot>(&0).unwrap();
    let erases = chip.0.borrow().erases().to_vec();
    served.lifecycle::<EraseSlot>(&0).unwrap();
    assert_eq!(chip.0.borrow().erases(), erases, "what is erased is not erased again");
    assert_eq!(read(&mut served, 0, 2), Ok([0xff; SEALED_BLOCK]));
    served.lifecycle::<WriteBlock>(&other).unwrap();
    assert_eq!(read(&mut served, 0, 0), Ok([0x77; SEALED_BLOCK]));
    assert_eq!(read(&mut served, 1, 0), Ok(block(1, 0)));
    let account = served.lifecycle::<ReadAccount>(&()).unwrap();
    assert_eq!((account.errors, account.erases), (1, 2 * RECORDS as u64 + 1));
}

#[test]
fn what_is_no_record_slot_or_block_is_refused_and_nobody_asks_for_the_others() {
    let chip = chip(SMALL);
    let regions = Regions::new();
    let mut served = Served::new(&regions, &chip);
    let no = CallError::Refused(Refusal::NotAllowed.code());
    for record in [RECORDS as u64, 256, u64::MAX] {
        assert_eq!(served.keystore::<Find>(&record).err(), Some(no));
        assert_eq!(served.append(record, 1), Err(no));
        assert_eq!(served.keystore::<Purge>(&record), Err(no));
    }
    for (slot, index) in [(2, 0), (0, MAX_BLOCKS as u64), (u64::MAX, 0), (0, u64::MAX)] {
        let place = BlockPlace { slot, index };
        assert_eq!(served.lifecycle::<ReadBlock>(&place), Err(no));
        assert_eq!(served.lifecycle::<WriteBlock>(&WriteBlockRequest { place, sealed: [0; SEALED_BLOCK] }), Err(no));
    }
    assert_eq!(served.lifecycle::<EraseSlot>(&2), Err(no));
    assert_eq!(served.lifecycle::<Find>(&0).err(), Some(no));
    assert_eq!(served.keystore::<EraseSlot>(&0), Err(no));
    assert_eq!(chip.0.borrow().actions(), 0);
}

#[test]
fn a_flash_that_is_too_small_or_gone_is_said_to_fail() {
    for chip in [chip(1024), chip(SMALL)] {
        chip.0.borrow_mut().break_down(true);
        let regions = Regions::new();
        let mut served = Served::new(&regions, &chip);
        let failed = CallError::Refused(Refusal::Failed.code());
        assert_eq!(served.keystore::<Find>(&0).err(), Some(failed));
        assert_eq!(served.append(0, 1), Err(failed));
        assert_eq!(served.lifecycle::<ReadBlock>(&BlockPlace { slot: 0, index: 0 }), Err(failed));
        assert_eq!(served.lifecycle::<EraseSlot>(&0), Err(failed));
        assert!(served.lifecycle::<ReadAccount>(&()).is_ok());
    }
}

/// While the chip erases, which takes a second, each step is short, and the other client is served afterwards.
#[test]
fn a_busy_chip_is_asked_once_a_step_and_both_clients_get_their_turn() {
    let chip = chip(SMALL);
    chip.0.borrow_mut().set_busy(1000);
    let regions = Regions::new();
    let mut served = Served::new(&regions, &chip);
    served.keystore.call::<Append>(
        &AppendRequest { record: 0, sequence: 1, sealed: sealed(0, 1) },
        0,
        Patience::ENDLESS,
    );
    served.lifecycle.call::<ReadBlock>(&BlockPlace { slot: 0, index: 0 }, 0, Patience::ENDLESS);
    served.run();
    let actions = chip.0.borrow().actions();
    assert!(served.steps >= actions * 1000, "{} steps, {actions} actions", served.steps);
    assert_eq!(served.keystore.poll::<Append>(0), Some(Ok(())));
    assert!(served.lifecycle.poll::<ReadBlock>(0).is_some_and(|reply| reply.is_ok()));
}

/// The table of wear in docs/store.md.
#[test]
fn an_append_costs_each_block_one_erase_in_as_many_as_have_place() {
    const BLOCK: usize = 256 << 10;
    const ENDURANCE: u64 = 100_000;
    let chip = chip(BLOCK);
    let regions = Regions::new();
    let mut served = Served::new(&regions, &chip);
    let places = 83;
    let writes = 10 * places;
    for sequence in 1..=writes {
        served.append(2, sequence).unwrap();
    }
    let nor = chip.0.borrow();
    let (first, second) = (2 * COPIES, 2 * COPIES + 1);
    // The first filling needs none.
    assert_eq!([nor.erases()[first], nor.erases()[second]], [9; 2], "one in {places} appends");
    assert_eq!(nor.erases().iter().sum::<u64>(), 18, "no other block");
    let programs = (nor.programs()[first] + nor.programs()[second]) / writes;
    // The body's pages, the header, the word that makes it valid; twice.
    assert_eq!(programs, 2 * (48 + 2));
    say::show!("entries of a block: {places}; programs of an append: {programs}");
    say::show!("| Writes a day | Erases of a block a year | Years until {ENDURANCE} |");
    for day in [1, 10, 100, 1000, 10_000] {
        let year = (day * 365_u64).div_ceil(places);
        say::show!("| {day} | {year} | {} |", ENDURANCE / year);
    }
}
