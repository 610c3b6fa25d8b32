//! The smallest system, `tests/systems/skeleton.xml`: `left` calls `right` through a mailbox and sends it frames
//! through a ring, `right` answers and sends them back, and both finish. One program, two domains.

use ::pd::{Channel, Platform};
use native::pd::{self, Domain, Heap};
use shm::{
    mailbox::{CallError, Client, Operation, Patience, Server},
    ring::{Duplex, FRAME_SLOT},
};

#[global_allocator]
static HEAP: Heap = Heap;

struct Add;

impl Operation for Add {
    const OP: u32 = 1;
    const REPEATABLE: bool = true;
    type Request = [u64; 2];
    type Reply = u64;
}

const ROUNDS: u64 = 1000;
/// Far longer than the whole takes.
const DEADLINE: u64 = 60_000_000;

fn main() -> ! {
    let domain = Domain::start();
    if domain.name() == "left" { left(domain) } else { right(domain) }
}

fn left(mut domain: Domain) -> ! {
    let mut calls = Client::new(domain.write("request"), domain.read("reply")).unwrap();
    let mut frames = Duplex::<FRAME_SLOT>::new(domain.write("frames_out"), domain.read("frames_in")).unwrap();
    let right = domain.channel("right");
    let (mut sum, mut sent, mut back) = (0, 0, 0);
    let mut frame = [0; FRAME_SLOT];
    domain.run(move |wake| {
        match calls.poll::<Add>(wake.now) {
            Some(Ok(reply)) => sum = reply,
            // It was asked before it had started: asked again below.
            Some(Err(CallError::Restarted)) | None => {}
            Some(Err(error)) => panic!("right fails: {error:?}"),
        }
        if calls.busy().is_none() && sum < ROUNDS {
            calls.call::<Add>(&[sum, 1], wake.now, Patience { each: DEADLINE, tries: 1 });
        }
        while sent < ROUNDS && frames.send(&sent.to_ne_bytes()).is_ok() {
            sent += 1;
        }
        while let Some(length) = frames.recv(&mut frame).expect("right keeps the ring's rules") {
            assert_eq!(frame[..length], u64::to_ne_bytes(back), "frames come back in order");
            back += 1;
        }
        if calls.take_signal() | frames.take_signal() {
            right.notify();
        }
        if sum == ROUNDS && back == ROUNDS {
            pd::finish();
        }
        // The ring has no signal for "there is room again".
        sent < ROUNDS
    })
}

fn right(mut domain: Domain) -> ! {
    let mut calls = Server::<16>::new(domain.read("request"), domain.write("reply")).unwrap();
    let mut frames = Duplex::<FRAME_SLOT>::new(domain.write("frames_out"), domain.read("frames_in")).unwrap();
    let left = domain.channel("left");
    let (mut answered, mut returned) = (0, 0);
    let mut waiting = None;
    let mut frame = [0; FRAME_SLOT];
    domain.run(move |_| {
        if let Some(incoming) = calls.take().expect("left keeps the mailbox's rules") {
            let [a, b] = incoming.parse::<Add>().expect("left asks for a sum");
            calls.reply::<Add>(&(a + b));
            answered += 1;
        }
        loop {
            waiting = waiting.or_else(|| frames.recv(&mut frame).expect("left keeps the ring's rules"));
            let Some(length) = waiting else { break };
            if frames.send(&frame[..length]).is_err() {
                break;
            }
            waiting = None;
            returned += 1;
        }
        if calls.take_signal() | frames.take_signal() {
            left.notify();
        }
        if answered == ROUNDS && returned == ROUNDS {
            pd::finish();
        }
        waiting.is_some()
    })
}
