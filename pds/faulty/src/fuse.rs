//! How a fuse is found and lit from outside: four words in the memory of a domain. tests/tests/faults.rs reads this file too.

/// The first two words: nothing else in a machine looks like them. The third is zero until the fuse is lit.
/// The fourth says whose it is, when the domain runs: [`whose`].
pub const MAGIC: [u64; 2] = [0x5b1e_93d7_04ac_f26b, 0xe8c7_3f50_9a1d_642e];

/// The third word of a lit fuse: writes to address zero.
pub const NULL_WRITE: u64 = 1;
/// Panics.
pub const PANIC: u64 = 2;
/// Runs what stands in its own writable memory.
pub const JUMP_INTO_DATA: u64 = 3;
/// Runs for ever, and says so by the next number in its place.
pub const LOOP: u64 = 4;
pub const LOOPS: u64 = 5;
/// Begins a step, as its parent sees it, and runs for ever in it.
pub const HANG: u64 = 6;

/// The first letters of a domain's name.
pub fn whose(name: &str) -> u64 {
    let mut letters = [0; 8];
    letters.iter_mut().zip(name.bytes()).for_each(|(to, letter)| *to = letter);
    u64::from_le_bytes(letters)
}
