//! What is in the keystore's memory while it waits: one copy of each long-term secret, in its place, and none where it has
//! worked. Looked at from outside, as `/proc/self/mem` has it.

use std::{fs::File, hint::black_box, os::unix::fs::FileExt, thread};

use calls::keystore::{Initiation, for_beacon, for_claim, for_lifecycle, for_mesh};
use wire::{
    command,
    handshake::{FinishHandshake, ReadHandshake, StartHandshake},
};

use super::{command::key_of, *};
use crate::WIPED;

/// The stack that is looked at, and what of it the rest of the test may use.
const STACK: usize = 2 << 20;
const DEEP: usize = STACK - (256 << 10);
/// Bytes that stand on a stack that nobody has used.
const UNUSED: u8 = 0xa7;

fn memory(from: usize, len: usize) -> Vec<u8> {
    let mut bytes = vec![0; len];
    File::open("/proc/self/mem").unwrap().read_exact_at(&mut bytes, from as u64).unwrap();
    bytes
}

/// Fills the stack below the caller's frame.
#[inline(never)]
fn paint() {
    let mut all = [UNUSED; DEEP];
    black_box(&mut all);
}

#[inline(never)]
fn address_of_this_frame() -> usize {
    let here = 0_u8;
    black_box(&raw const here).addr()
}

fn count(memory: &[u8], secret: &[u8; 32]) -> usize {
    memory.windows(32).filter(|window| window == secret).count()
}

/// Lets the core do what there is to do on a clean stack, and looks at what stays there and in the core. `kept`: how often
/// each of the secrets may be there.
fn look(rig: &mut Rig, what: &str, kept: [usize; 4]) -> usize {
    let keys = Keys::derive(&rig.board.root_seed());
    let mesh = crate::identity::mesh_key(&rig.board.root_seed());
    let secrets = [rig.board.root_seed(), *keys.fiduciary, *keys.claim, *mesh];
    // On the heap: the stack is about to be looked at.
    let secrets: Vec<[u8; 32]> = secrets.into();
    paint();
    rig.run();
    let top = address_of_this_frame();
    let stack = memory(top - DEEP, DEEP);
    let core = memory((&raw const rig.keystore).addr(), size_of_val(&rig.keystore));
    // The frames from which it is painted and looked at are not quite one.
    let painted = &stack[4096..];
    let used = painted.len() - painted.iter().position(|byte| *byte != UNUSED).unwrap();
    for (at, secret) in secrets.iter().enumerate() {
        let found = (count(&core, secret), count(&stack, secret));
        assert_eq!(found, (kept[at], 0), "secret {at} in the core and on its stack, {what}");
    }
    for (at, secret) in rig.tickets.iter().enumerate() {
        assert_eq!((count(&core, secret), count(&stack, secret)), (0, 0), "ticket {at}, {what}");
    }
    used
}

fn life(board: Board) -> usize {
    const KEPT: [usize; 4] = [1, 1, 1, 0];
    let mut rig = Box::new(Rig::cold(board, Disk::default()));
    rig.search = false;
    let mut deepest = look(&mut rig, "cold", [0; 4]);
    rig.feed();
    let mut after = |rig: &mut Rig, what: &str| deepest = deepest.max(look(rig, what, KEPT));
    after(&mut rig, "ready");
    let once = Patience::ENDLESS;
    let anchor = if rig.tickets.is_empty() { admin() } else { AnchorSecret::from_seed(&rig.tickets[0]) };
    rig.lifecycle.call::<for_lifecycle::Fork>(&(), 0, once);
    after(&mut rig, "forked");
    rig.beacon.call::<for_beacon::CheckFind>(&Find::sign(&anchor, 5, SENDER.0, SENDER.1), 0, once);
    after(&mut rig, "found");
    let hello = rig.hello(&anchor);
    let open = open_for(&hello, &anchor, 3);
    rig.beacon.call::<for_beacon::CheckOpen>(&open, 0, once);
    after(&mut rig, "opened");
    rig.claim.call::<for_claim::ReadInitiation>(&Initiation::new_zeroed(), 0, once);
    after(&mut rig, "handshake of a claim");
    let identity = rig.identify().unwrap();
    let title = bind(&identity, &anchor, 10);
    rig.claim.call::<for_claim::Commit>(&title, 0, once);
    after(&mut rig, "committed");
    rig.mesh.call::<for_mesh::StartMeshHandshake>(
        &StartHandshake { peer: admin().public().dh, ..StartHandshake::new_zeroed() },
        0,
        once,
    );
    after(&mut rig, "handshake begun");
    let ephemeral = admin().public().dh;
    rig.mesh.call::<for_mesh::FinishMeshHandshake>(
        &FinishHandshake { ephemeral, ..FinishHandshake::new_zeroed() },
        0,
        once,
    );
    after(&mut rig, "handshake finished");
    rig.mesh.call::<for_mesh::ReadMeshHandshake>(&ReadHandshake { ephemeral, ..ReadHandshake::new_zeroed() }, 0, once);
    after(&mut rig, "handshake read");
    let key = key_of(&authority(), &title, &rig);
    let command = Command::new(&key, &title.warrant.fiduciary, command::Operation::Isolate, 0, 5);
    rig.mesh.call::<for_mesh::CheckCommand>(&command, 0, once);
    after(&mut rig, "commanded");
    rig.lifecycle.call::<for_lifecycle::Settle>(&(), 0, once);
    after(&mut rig, "claimed");
    // The same node after its power was cut: the records are read.
    rig.disk.power_on();
    let disk = rig.disk.clone();
    let mut again = Box::new(Rig::cold(Board { seed: 73, ..board }, disk));
    again.search = false;
    again.board = board;
    again.feed();
    let used = deepest.max(look(&mut again, "powered on again", KEPT));
    // Memory that is given back may be the next one's.
    Box::leak(rig);
    Box::leak(again);
    used
}

#[test]
fn at_rest_there_is_one_copy_of_each_secret_and_none_on_the_stack() {
    // No other test has their secrets, whose memory these may get.
    for board in [Board { seed: 71, ..Board::anchored() }, Board { seed: 72, ..Board::ticket() }] {
        let worked = thread::Builder::new().stack_size(STACK).spawn(move || life(board)).unwrap().join();
        let used = worked.unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // What is wiped is all that was worked in; above it there are some frames of the test's.
        assert!((WIPED..WIPED + (1 << 10)).contains(&used), "{used} bytes of stack were used, {WIPED} are wiped");
    }
}
