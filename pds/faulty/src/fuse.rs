//! How a fuse is found and lit from outside: eight words in the memory of a domain. tests/tests/faults.rs reads this file
//! too.

/// The first two words: nothing else in a machine looks like them.
pub const MAGIC: [u64; 2] = [0x5b1e_93d7_04ac_f26b, 0xe8c7_3f50_9a1d_642e];

/// The number of the word that is zero until the fuse is lit. The next one says whose it is, when the domain runs: [`whose`].
pub const LIT: u64 = 2;
/// When the domain has started, in microseconds of the machine's counter.
pub const STARTED: u64 = 4;
/// When it began to hang.
pub const BEGAN: u64 = 5;
/// What [`PLANT`] plants; what [`MEASURE`] has found.
pub const WORD: u64 = 6;
/// And before the end of which region besides; 0: none. For [`MEASURE`]: the size of the stack.
pub const END: u64 = 7;

/// What a lit fuse does: writes to address zero.
pub const NULL_WRITE: u64 = 1;
/// Panics.
pub const PANIC: u64 = 2;
/// Runs what stands in its own writable memory.
pub const JUMP_INTO_DATA: u64 = 3;
/// Runs for ever, and says so by the next number in its place.
pub const LOOP: u64 = 4;
pub const LOOPS: u64 = 5;
/// Begins a step, as its parent sees it, and runs for ever in it, and says so by the next number in its place.
pub const HANG: u64 = 6;
pub const HANGS: u64 = 7;
/// Leaves a mark in each kind of memory that a domain has, and says so by the next number in its place. Then it waits until
/// another number is there.
pub const PLANT: u64 = 8;
pub const PLANTED: u64 = 9;
/// Says from now on, each time that the domain is woken, how many bytes of its stack it has ever used.
pub const MEASURE: u64 = 11;
/// One of the first three is being done. Whoever is started anew has a new fuse.
pub const BURNT: u64 = 10;

/// Where a mark is planted: the second of its four words, of which the others are what the fuse says.
pub const PLACES: [(u64, &str); 6] = [
    (DATA, ".data"),
    (BSS, ".bss"),
    (STACK, "the stack"),
    (IPC, "the IPC buffer"),
    (FP, "registers"),
    (OWN, "a region"),
];
pub const DATA: u64 = 1;
pub const BSS: u64 = 2;
pub const STACK: u64 = 3;
pub const IPC: u64 = 4;
/// Floating-point registers, and what the kernel keeps of them.
pub const FP: u64 = 5;
/// A region that the description gives to the domain.
pub const OWN: u64 = 6;

/// The mark at this place.
pub fn mark(word: u64, place: u64) -> [u64; 4] {
    [word, place, word, word]
}

/// The first letters of a domain's name.
pub fn whose(name: &str) -> u64 {
    let mut letters = [0; 8];
    letters.iter_mut().zip(name.bytes()).for_each(|(to, letter)| *to = letter);
    u64::from_le_bytes(letters)
}
