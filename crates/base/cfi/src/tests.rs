use std::{vec, vec::Vec};

use proptest::prelude::*;

use super::{Cfi, PAGE, Progress, Wrong, model::*};

fn found(model: &Model) -> Cfi<Model> {
    Cfi::find(model.clone(), BLOCK, BLOCKS).unwrap()
}

fn end(cfi: &mut Cfi<Model>) -> Progress {
    std::iter::repeat_with(|| cfi.poll()).find(|progress| *progress != Progress::Busy).unwrap()
}

fn read(cfi: &mut Cfi<Model>, at: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    assert!(cfi.read(at, &mut bytes));
    bytes
}

#[test]
fn what_is_programmed_stands_there_and_an_erase_takes_its_block_alone() {
    let model = Model::new();
    let mut cfi = found(&model);
    assert_eq!((cfi.block_size(), cfi.blocks()), (BLOCK, BLOCKS));
    let bytes: [u8; PAGE] = core::array::from_fn(|at| at as u8);
    for at in [0, BLOCK, BLOCK * BLOCKS - PAGE] {
        cfi.begin_program(at, &bytes);
        assert_eq!(end(&mut cfi), Progress::Done);
        assert_eq!(read(&mut cfi, at, PAGE), bytes);
    }
    // Any bytes, words or not.
    for (from, to) in (0..12).flat_map(|from| (from..12).map(move |to| (from, to))) {
        assert_eq!(read(&mut cfi, BLOCK + from, to - from), bytes[from..to]);
    }
    // A bit is never set.
    cfi.begin_program(BLOCK, &[0xf0; 8]);
    assert_eq!(end(&mut cfi), Progress::Done);
    assert_eq!(read(&mut cfi, BLOCK, 8), [0, 0, 0, 0, 0, 0, 0, 0]);
    cfi.begin_erase(1);
    assert_eq!(end(&mut cfi), Progress::Done);
    assert_eq!(read(&mut cfi, BLOCK, BLOCK), [0xff; BLOCK]);
    assert_eq!(read(&mut cfi, 0, PAGE), bytes);
    assert_eq!(model.0.borrow()[0].words[..BLOCK / 4 * BEFORE], [0xffff; BLOCK / 4 * BEFORE]);
}

#[test]
fn while_the_chips_are_at_work_it_is_busy_and_shows_nothing() {
    let model = Model::new();
    let mut cfi = found(&model);
    model.both(|chip| chip.takes = 1000);
    cfi.begin_erase(0);
    let mut polls = 0;
    while cfi.poll() == Progress::Busy {
        assert!(!cfi.read(0, &mut [0; 4]));
        polls += 1;
    }
    // A poll is bounded, and none is a look too many.
    assert_eq!(polls, 1000 / super::LOOKS);
    assert!(cfi.read(0, &mut [0; 4]));
    // One chip alone is at work.
    model.0.borrow_mut()[1].takes = 5 * super::LOOKS;
    model.0.borrow_mut()[0].takes = 0;
    cfi.begin_program(0, &[1; 4]);
    assert_eq!(cfi.poll(), Progress::Busy);
    assert_eq!(end(&mut cfi), Progress::Done);
    assert_eq!(read(&mut cfi, 0, 4), [1; 4]);
}

/// Polls, a tenth of a millisecond after the other, for so long.
fn polled(cfi: &mut Cfi<Model>, now: &mut u64, micros: u64) -> Progress {
    let end = *now + micros;
    while *now < end {
        *now += 100;
        cfi.set_time(*now);
        if cfi.poll() != Progress::Busy {
            break;
        }
    }
    cfi.poll()
}

/// A chip that is never ready has failed after twice what it says that it takes; what it holds is not known before it is
/// ready, and then all is well.
#[test]
fn a_chip_that_is_never_ready_has_failed_and_can_be_used_when_it_is() {
    for (erase, most) in [(false, 512), (true, 4_096_000)] {
        for lanes in [&[0][..], &[1], &[0, 1]] {
            let (model, mut now) = (Model::new(), 5);
            let mut cfi = found(&model);
            cfi.set_time(now);
            let set = |takes| lanes.iter().for_each(|lane| model.0.borrow_mut()[*lane].takes = takes);
            set(usize::MAX);
            if erase {
                cfi.begin_erase(1)
            } else {
                cfi.begin_program(BLOCK, &[0; 8])
            }
            assert_eq!(polled(&mut cfi, &mut now, 2 * most), Progress::Busy, "{erase} {lanes:?}");
            assert_eq!(polled(&mut cfi, &mut now, 300), Progress::Failed);
            for _ in 0..2 {
                assert!(!cfi.read(0, &mut [0; 4]));
                cfi.begin_program(0, &[1; 4]);
                assert_eq!(cfi.poll(), Progress::Failed);
                cfi.begin_erase(0);
                assert_eq!(cfi.poll(), Progress::Failed);
            }
            set(0);
            model.both(|chip| chip.busy = 0);
            // What it was late with it has done meanwhile.
            assert_eq!(read(&mut cfi, BLOCK, 8), if erase { [0xff; 8] } else { [0; 8] });
            cfi.begin_erase(1);
            assert_eq!(polled(&mut cfi, &mut now, 1000), Progress::Done);
            cfi.begin_program(BLOCK, &[3; 8]);
            assert_eq!(polled(&mut cfi, &mut now, 1000), Progress::Done);
            assert_eq!(read(&mut cfi, BLOCK, 8), [3; 8]);
        }
    }
}

/// A chip that takes all its time is waited for, whoever else has the processor meanwhile.
#[test]
fn a_chip_that_was_ready_when_it_was_looked_at_was_in_time() {
    let model = Model::new();
    let mut cfi = found(&model);
    model.both(|chip| chip.takes = 1);
    cfi.begin_program(0, &[1; 4]);
    cfi.set_time(1 << 40);
    assert_eq!(cfi.poll(), Progress::Done);
}

/// What was begun never reaches the chips, which go on showing what they hold, whatever that looks like.
#[test]
fn a_command_that_is_lost_is_never_taken_for_one_that_was_done() {
    for (erase, stands) in [false, true].into_iter().flat_map(|erase| [0x00, 0x7f, 0x80].map(|byte| (erase, byte))) {
        for lanes in [&[0][..], &[1], &[0, 1]] {
            let (model, mut now) = (Model::new(), 5);
            let mut cfi = found(&model);
            cfi.begin_program(0, &[stands; 4]);
            assert_eq!(polled(&mut cfi, &mut now, 1000), Progress::Done);
            let set = |deaf| lanes.iter().for_each(|lane| model.0.borrow_mut()[*lane].deaf = deaf);
            set(true);
            if erase {
                cfi.begin_erase(0)
            } else {
                cfi.begin_program(0, &[0x15 & stands; 4])
            }
            let done = if erase { 0xff } else { 0x15 & stands };
            let said = polled(&mut cfi, &mut now, 10_000_000);
            let mut shown = [0; 4];
            let wrong = !cfi.read(0, &mut shown) || shown != [done; 4];
            assert!(
                said == Progress::Failed || (said == Progress::Done && (wrong || stands == 0)),
                "{said:?} {shown:x?}"
            );
            set(false);
            cfi.begin_erase(0);
            assert_eq!(polled(&mut cfi, &mut now, 1000), Progress::Done);
            cfi.begin_program(0, &[9; 4]);
            assert_eq!(polled(&mut cfi, &mut now, 1000), Progress::Done);
            assert_eq!(read(&mut cfi, 0, 8), [9, 9, 9, 9, 0xff, 0xff, 0xff, 0xff]);
        }
    }
}

#[test]
fn how_long_it_may_take_is_what_the_chips_say_within_reason() {
    let waits = |at: usize, bytes: [u8; 2]| {
        let (model, mut now) = (Model::new(), 0);
        model.both(|chip| (chip.table[at], chip.table[at + 4], chip.takes) = (bytes[0], bytes[1], usize::MAX));
        let mut cfi = found(&model);
        cfi.set_time(now);
        if at == 0x21 {
            cfi.begin_erase(0)
        } else {
            cfi.begin_program(0, &[0; 4])
        }
        polled(&mut cfi, &mut now, 100_000_000);
        now
    };
    assert_eq!((waits(0x20, [7, 4]), waits(0x21, [10, 2])), (4200, 8_192_200));
    for bytes in [[0, 0], [0, 4], [255, 255], [20, 20]] {
        assert_eq!((waits(0x20, bytes), waits(0x21, bytes)), (60_000_200, 60_000_200), "{bytes:?}");
    }
}

#[test]
fn a_buffer_that_is_not_free_is_asked_for_again() {
    let model = Model::new();
    let mut cfi = found(&model);
    model.0.borrow_mut()[1].full = 3;
    cfi.begin_program(64, &[7; 64]);
    for _ in 0..3 {
        assert_eq!(cfi.poll(), Progress::Busy);
    }
    assert_eq!(cfi.poll(), Progress::Done);
    assert_eq!(read(&mut cfi, 64, 64), [7; 64]);
    // Nor for ever.
    let mut now = 0;
    model.0.borrow_mut()[1].full = usize::MAX;
    cfi.begin_program(128, &[7; 64]);
    assert_eq!(polled(&mut cfi, &mut now, 1100), Progress::Busy);
    assert_eq!(polled(&mut cfi, &mut now, 300), Progress::Failed);
    assert_eq!(read(&mut cfi, 64, 128), [[7; 64], [0xff; 64]].concat());
    model.0.borrow_mut()[1].full = 0;
    cfi.begin_program(128, &[7; 64]);
    assert_eq!(polled(&mut cfi, &mut now, 300), Progress::Done);
    assert_eq!(read(&mut cfi, 64, 128), [7; 128]);
}

#[test]
fn an_error_of_either_chip_is_a_failure_and_is_forgotten_by_the_next_action() {
    for error in [0x20, 0x10, 0x08, 0x02] {
        for lane in 0..2 {
            let model = Model::new();
            let mut cfi = found(&model);
            model.0.borrow_mut()[lane].fails_with = error;
            cfi.begin_program(0, &[0; 8]);
            assert_eq!(end(&mut cfi), Progress::Failed, "{error:#x} of chip {lane}");
            // It is said until something else is begun, and what stands can be read.
            assert_eq!(cfi.poll(), Progress::Failed);
            assert!(cfi.read(0, &mut [0; 8]));
            model.0.borrow_mut()[lane].fails_with = error;
            cfi.begin_erase(0);
            assert_eq!(end(&mut cfi), Progress::Failed);
            cfi.begin_erase(0);
            assert_eq!(end(&mut cfi), Progress::Done);
            assert_eq!(read(&mut cfi, 0, 8), [0xff; 8]);
        }
    }
}

#[test]
fn chips_that_are_locked_at_power_up_are_unlocked_where_they_are_written_and_nowhere_else() {
    let model = Model::new();
    model.both(|chip| {
        chip.table[0x36] = 1 << 5;
        chip.locked = [true; BLOCKS + BEFORE];
    });
    let mut cfi = found(&model);
    cfi.begin_program(BLOCK * 2 + 64, &[5; 4]);
    assert_eq!(end(&mut cfi), Progress::Done);
    cfi.begin_erase(3);
    assert_eq!(end(&mut cfi), Progress::Done);
    assert_eq!(model.0.borrow()[0].locked, [true, true, true, false, false]);
    // Lock bits of the older family outlast the power and are cleared for all blocks: the driver leaves them alone.
    let model = Model::new();
    model.both(|chip| chip.locked = [true; BLOCKS + BEFORE]);
    let mut cfi = found(&model);
    cfi.begin_program(0, &[5; 4]);
    assert_eq!(end(&mut cfi), Progress::Failed);
    assert_eq!(read(&mut cfi, 0, 4), [0xff; 4]);
}

#[test]
fn another_device_is_none() {
    let asked = |change: &dyn Fn(&mut Chip)| {
        let model = Model::new();
        model.both(|chip| change(chip));
        Cfi::find(model, BLOCK, BLOCKS).map(|_| ()).unwrap_err()
    };
    assert_eq!(asked(&|chip| chip.table[0x11] = 0), Wrong::NoFlash);
    assert_eq!(asked(&|chip| chip.table[0x13] = 2), Wrong::CommandSet);
    assert_eq!(asked(&|chip| chip.table[0x31] = 0), Wrong::CommandSet);
    assert_eq!(asked(&|chip| chip.table[0x15] = 0), Wrong::CommandSet);
    assert_eq!(asked(&|chip| chip.table[0x27] += 1), Wrong::Geometry);
    assert_eq!(asked(&|chip| chip.table[0x27] = 255), Wrong::Geometry);
    assert_eq!(asked(&|chip| chip.table[0x2c] = 2), Wrong::Geometry);
    assert_eq!(asked(&|chip| chip.table[0x2f] = 1), Wrong::Geometry);
    assert_eq!(asked(&|chip| chip.table[0x2a] = 4), Wrong::Buffer);
    assert_eq!(asked(&|chip| chip.table[0x2b] = 1), Wrong::Buffer);
    let model = Model::new();
    model.0.borrow_mut()[1].table[0x2a] = 6;
    assert_eq!(Cfi::find(model, BLOCK, BLOCKS).err(), Some(Wrong::Chips));
    for (block_size, blocks) in [(BLOCK * 2, BLOCKS), (BLOCK, 9), (BLOCK, 0), (0, 4), (48, 4), (usize::MAX, 2)] {
        assert_eq!(Cfi::find(Model::new(), block_size, blocks).err(), Some(Wrong::Geometry), "{block_size} {blocks}");
    }
}

/// What another driver may have left: its last words, and whether the chips are still at work.
#[test]
fn a_driver_that_begins_finds_the_chips_whatever_another_has_left_them_in() {
    let page = BLOCK + 64;
    let commands: [(usize, u16); 20] = core::array::from_fn(|number| match number {
        0 => (page, 0xe8),
        1 => (page, 15),
        19 => (page, 0xff),
        18 => (page, 0xd0),
        number => (page + (number - 2) * 4, 0x1234),
    });
    for left in 0..=commands.len() {
        let model = Model::new();
        model.both(|chip| chip.takes = 3000);
        for (at, value) in &commands[..left] {
            model.each(*at, [*value; 2]);
        }
        let mut cfi = found(&model);
        let stands = read(&mut cfi, page, 64);
        let whole = left > 18;
        assert_eq!(stands, if whole { [0x34, 0x12].repeat(32) } else { [0xff; 64].to_vec() }, "{left}");
        assert!(model.bytes()[page + 64..].iter().all(|byte| *byte == 0xff));
        cfi.begin_program(0, &[1; 4]);
        assert_eq!(end(&mut cfi), Progress::Done);
    }
    for halves in [&[0x20][..], &[0x20, 0xd0], &[0x60], &[0x60, 0xd0], &[0x50], &[0x98]] {
        let model = Model::new();
        model.both(|chip| chip.takes = 100_000);
        halves.iter().for_each(|code| model.each(0, [*code; 2]));
        let mut cfi = found(&model);
        cfi.begin_erase(0);
        assert_eq!(end(&mut cfi), Progress::Done);
    }
}

#[test]
fn what_cannot_be_begun_fails_and_touches_nothing() {
    let model = Model::new();
    let mut cfi = found(&model);
    let programs: [(usize, &[u8]); 8] = [
        (0, &[]),
        (0, &[0; 3]),
        (2, &[0; 4]),
        (0, &[0; 68]),
        (60, &[0; 8]),
        (BLOCK * BLOCKS, &[0; 4]),
        (usize::MAX - 3, &[0; 4]),
        (usize::MAX - 63, &[0; 64]),
    ];
    for (at, bytes) in programs {
        cfi.begin_program(at, bytes);
        assert_eq!(cfi.poll(), Progress::Failed, "{at} {}", bytes.len());
    }
    for block in [BLOCKS, usize::MAX] {
        cfi.begin_erase(block);
        assert_eq!(cfi.poll(), Progress::Failed);
    }
    assert!(!cfi.read(BLOCK * BLOCKS - 1, &mut [0; 2]) && !cfi.read(usize::MAX, &mut [0; 2]));
    assert!(model.bytes().iter().all(|byte| *byte == 0xff));
    // What is begun while the chips are at work is not done, and not said to be.
    model.both(|chip| chip.takes = 10);
    cfi.begin_erase(0);
    cfi.begin_program(BLOCK, &[0; 4]);
    assert_eq!(end(&mut cfi), Progress::Failed);
    assert_eq!(read(&mut cfi, BLOCK, 4), [0xff; 4]);
    cfi.begin_program(BLOCK, &[0; 4]);
    assert_eq!(end(&mut cfi), Progress::Done);
}

#[derive(Debug, Clone)]
enum Act {
    Program(usize, Vec<u8>),
    Erase(usize),
    /// The driver ends, and another begins.
    Again,
}

fn acts() -> impl Strategy<Value = Act> {
    let words = (0..BLOCK * BLOCKS / 4).prop_flat_map(|word| {
        let room = (PAGE - word * 4 % PAGE) / 4;
        (Just(word * 4), proptest::collection::vec(any::<[u8; 4]>(), 1..=room))
    });
    prop_oneof![
        4 => words.prop_map(|(at, words)| Act::Program(at, words.concat())),
        1 => (0..BLOCKS).prop_map(Act::Erase),
        1 => Just(Act::Again),
    ]
}

proptest! {
    #[test]
    fn it_does_what_a_flash_does(acts in proptest::collection::vec(acts(), 1..40), takes in [0..200usize, 0..200]) {
        let model = Model::new();
        for (chip, takes) in model.0.borrow_mut().iter_mut().zip(takes) {
            chip.takes = takes;
        }
        let mut expected = vec![0xff; BLOCK * BLOCKS];
        let mut cfi = found(&model);
        for act in acts {
            match act {
                Act::Program(at, bytes) => {
                    cfi.begin_program(at, &bytes);
                    expected[at..].iter_mut().zip(bytes).for_each(|(old, new)| *old &= new);
                }
                Act::Erase(block) => {
                    cfi.begin_erase(block);
                    expected[block * BLOCK..][..BLOCK].fill(0xff);
                }
                Act::Again => cfi = found(&model),
            }
            prop_assert_eq!(end(&mut cfi), Progress::Done);
            prop_assert_eq!(read(&mut cfi, 0, BLOCK * BLOCKS), &expected[..]);
        }
        prop_assert_eq!(model.bytes(), expected);
    }
}
