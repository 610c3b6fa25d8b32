//! Two chips of the command set 0x0001, stricter than any: a command that a chip may misread ends the test.

use std::{cell::RefCell, rc::Rc, vec, vec::Vec};

use crate::Bank;

/// In bytes of the bank.
pub const BLOCK: usize = 1024;
pub const BLOCKS: usize = 4;
/// Blocks of the bank before those that the driver has.
pub const BEFORE: usize = 1;

const WORDS: usize = BLOCK / 4;
/// Words of a chip's write buffer.
const BUFFER: usize = 16;

const READY: u16 = 0x80;
const ERASE_ERROR: u16 = 0x20;
const PROGRAM_ERROR: u16 = 0x10;
const LOCKED: u16 = 0x02;

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Array,
    Query,
    Status,
    Erase {
        block: usize,
    },
    Lock {
        block: usize,
    },
    /// The buffer was asked for.
    Buffer {
        block: usize,
    },
    /// Where the count went is where the buffer is.
    Fill {
        block: usize,
        page: usize,
        left: usize,
        data: Vec<(usize, u16)>,
    },
    Confirm {
        block: usize,
        page: usize,
        data: Vec<(usize, u16)>,
    },
}

#[derive(Debug, Clone)]
pub struct Chip {
    pub words: Vec<u16>,
    pub table: Vec<u8>,
    pub locked: [bool; BLOCKS + BEFORE],
    state: State,
    status: u16,
    /// How many looks at the status from now on show it at work.
    pub busy: usize,
    /// How many looks each action takes, and how often a buffer is not free.
    pub takes: usize,
    pub full: usize,
    /// What the next action ends with.
    pub fails_with: u16,
    /// It hears no command.
    pub deaf: bool,
    pub erases: usize,
}

impl Chip {
    pub fn new() -> Self {
        let mut table = vec![0; 0x40];
        table[0x10..0x17].copy_from_slice(b"QRY\x01\0\x31\0");
        // A buffered program takes 128 us, 512 us at most; an erase 1 s, 4 s at most.
        table[0x20..0x26].copy_from_slice(&[7, 10, 0, 0, 2, 2]);
        table[0x27] = (BLOCK / 2 * (BLOCKS + BEFORE + 3)).ilog2() as u8;
        table[0x2a] = (BUFFER * 2).ilog2() as u8;
        table[0x2c] = 1;
        table[0x2d] = (BLOCKS + BEFORE + 3 - 1) as u8;
        table[0x2f..0x31].copy_from_slice(&((BLOCK / 2 / 256) as u16).to_le_bytes());
        table[0x31..0x36].copy_from_slice(b"PRI10");
        Self {
            words: vec![0xffff; WORDS * (BLOCKS + BEFORE)],
            table,
            locked: [false; BLOCKS + BEFORE],
            state: State::Array,
            status: READY,
            busy: 0,
            takes: 0,
            full: 0,
            fails_with: 0,
            deaf: false,
            erases: 0,
        }
    }

    fn read(&mut self, word: usize) -> u16 {
        match &self.state {
            State::Array => self.words.get(word).copied().unwrap_or(0xffff),
            // What D8 to D15 show is not said.
            State::Query => u16::from(self.table.get(word).copied().unwrap_or(0xa5)) | 0x5a00,
            State::Buffer { .. } => {
                let free = self.full == 0;
                self.full = self.full.saturating_sub(1);
                if free { READY } else { 0 }
            }
            _ if self.busy > 0 => {
                self.busy -= 1;
                0
            }
            _ => self.status,
        }
    }

    fn write(&mut self, word: usize, value: u16) {
        let (block, code) = (word / WORDS, value & 0xff);
        if self.deaf {
            return;
        }
        if self.busy > 0 {
            // It is ignored; the test's driver has begun anew, or has given up.
            assert!(matches!(code, 0xff | 0x70), "a command for a chip that is at work");
            return;
        }
        self.state = match std::mem::replace(&mut self.state, State::Array) {
            State::Array | State::Query | State::Status => match code {
                0xff => State::Array,
                0x70 => State::Status,
                0x98 => State::Query,
                0x50 => {
                    self.status = READY;
                    State::Status
                }
                0x20 => State::Erase { block },
                0x60 => State::Lock { block },
                0xe8 => State::Buffer { block },
                code => panic!("command {code:#x}"),
            },
            State::Erase { block: of } => self.confirmed(code, of == block, |chip| {
                chip.erases += 1;
                if chip.allowed(block, ERASE_ERROR) {
                    chip.words[block * WORDS..][..WORDS].fill(0xffff);
                }
            }),
            State::Lock { block: of } => self.confirmed(code, of == block, |chip| {
                chip.locked[block] = false;
                // At once.
                chip.busy = 0;
            }),
            State::Buffer { block: of } if code == 0xe8 => {
                assert_eq!(of, block);
                State::Buffer { block }
            }
            State::Buffer { block: of } => match usize::from(value) + 1 {
                left if left <= BUFFER && of == block => {
                    State::Fill { block, page: word / BUFFER, left, data: Vec::new() }
                }
                _ => self.sequence_error(),
            },
            State::Fill { block: of, page, left, mut data } => {
                data.push((word, value));
                match left - 1 {
                    _ if of != block => self.sequence_error(),
                    0 => State::Confirm { block, page, data },
                    left => State::Fill { block, page, left, data },
                }
            }
            State::Confirm { block: of, page, data } => self.confirmed(code, of == block, |chip| {
                assert!(data.iter().all(|(word, _)| word / BUFFER == page), "a program beside the buffer");
                assert!(data.is_sorted() && data.windows(2).all(|pair| pair[0].0 < pair[1].0));
                if chip.allowed(block, PROGRAM_ERROR) {
                    for (word, value) in data {
                        chip.words[word] &= value;
                    }
                }
            }),
        };
    }

    /// The second half of a command.
    fn confirmed(&mut self, code: u16, same_block: bool, act: impl FnOnce(&mut Self)) -> State {
        if code != 0xd0 || !same_block {
            return self.sequence_error();
        }
        assert_eq!(self.status, READY, "the errors of before are still there");
        self.busy = self.takes;
        act(self);
        State::Status
    }

    fn sequence_error(&mut self) -> State {
        self.status |= ERASE_ERROR | PROGRAM_ERROR;
        State::Status
    }

    fn allowed(&mut self, block: usize, error: u16) -> bool {
        if self.locked[block] {
            self.status |= error | LOCKED;
        }
        let fails = std::mem::take(&mut self.fails_with);
        self.status |= fails;
        !self.locked[block] && fails == 0
    }
}

/// The bank, which the test still has while the driver has it.
#[derive(Clone)]
pub struct Model(pub Rc<RefCell<[Chip; 2]>>);

impl Model {
    pub fn new() -> Self {
        Self(Rc::new(RefCell::new([Chip::new(), Chip::new()])))
    }

    /// Writes at a byte of the driver's part, each chip for itself.
    pub fn each(&self, at: usize, values: [u16; 2]) {
        for (chip, value) in self.0.borrow_mut().iter_mut().zip(values) {
            chip.write(WORDS * BEFORE + at / 4, value);
        }
    }

    /// What the chips hold in the driver's part.
    pub fn bytes(&self) -> Vec<u8> {
        let [low, high] = &*self.0.borrow();
        let words = low.words.iter().zip(&high.words).skip(WORDS * BEFORE);
        words.flat_map(|(low, high)| [low.to_le_bytes(), high.to_le_bytes()].concat()).collect()
    }

    /// Changes both chips.
    pub fn both(&self, mut change: impl FnMut(&mut Chip)) {
        self.0.borrow_mut().iter_mut().for_each(&mut change);
    }

    fn shown(&self, word: usize) -> u32 {
        let [low, high] = &mut *self.0.borrow_mut();
        u32::from(low.read(word)) | u32::from(high.read(word)) << 16
    }
}

impl Bank for Model {
    fn read(&mut self, at: usize) -> u32 {
        assert!(at.is_multiple_of(4));
        self.shown(WORDS * BEFORE + at / 4)
    }

    fn write(&mut self, at: usize, word: u32) {
        assert!(at.is_multiple_of(4));
        self.each(at, [word as u16, (word >> 16) as u16]);
    }

    fn read_query(&mut self, at: usize) -> u32 {
        assert!(at.is_multiple_of(4));
        self.shown(at / 4)
    }
}
