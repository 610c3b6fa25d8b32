//! The call that is measured: as long both ways as the short calls of the product.
#![no_std]

use shm::mailbox::Operation;

pub const BODY: usize = 64;

pub struct Echo;

impl Operation for Echo {
    const OP: u32 = 1;
    const REPEATABLE: bool = true;
    type Request = [u8; BODY];
    type Reply = [u8; BODY];
}
