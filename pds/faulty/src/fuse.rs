//! How a fuse is found and lit from outside: three words in the memory of a domain. tests/tests/faults.rs reads this file too.

/// The first two words: nothing else in a machine looks like them. The third is zero until the fuse is lit.
pub const MAGIC: [u64; 2] = [0x5b1e_93d7_04ac_f26b, 0xe8c7_3f50_9a1d_642e];

/// The third word of a lit fuse: writes to address zero.
pub const NULL_WRITE: u64 = 1;
/// Panics.
pub const PANIC: u64 = 2;
/// Runs what stands in its own writable memory.
pub const JUMP_INTO_DATA: u64 = 3;
/// Runs for ever.
pub const LOOP: u64 = 4;
