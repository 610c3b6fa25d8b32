//! One function for each parser, ring and state machine that takes bytes from a peer: it must return,
//! whatever the bytes are, and what it accepts must hold its invariants.
//!
//! `tests/tests/targets.rs` runs each for seconds on stable; `make fuzz` runs each under libFuzzer.

use std::sync::atomic::{AtomicU64, Ordering};

use calls::{console::SLOT, keystore, lifecycle};
use shm::{ReadOnly, ReadWrite, cell, mailbox, ring};
use wire::{
    Fingerprint,
    anchor::{AnchorFile, AnchorIn},
    claim,
    link::{Answer, Datagram, Find, Hello, Open},
    ticket::Ticket,
};
use zerocopy::{FromBytes, IntoBytes};

/// Every target, by the name of its file in `fuzz/fuzz_targets`.
pub const TARGETS: &[(&str, fn(&[u8]))] = &[
    ("datagrams", datagrams),
    ("grant", grant),
    ("anchor_file", anchor_file),
    ("ticket", ticket),
    ("fingerprint", fingerprint),
    ("ring_peer", ring_peer),
    ("mailbox_peer", mailbox_peer),
    ("cell_peer", cell_peer),
];

/// A datagram is taken at its own length and header only, and is then the same bytes.
pub fn datagrams(data: &[u8]) {
    fn check<D: Datagram>(data: &[u8]) -> bool {
        D::parse(data).is_some_and(|datagram| {
            assert_eq!(datagram.as_bytes(), data);
            true
        })
    }
    let kinds = [check::<Hello>(data), check::<Find>(data), check::<Open>(data), check::<Answer>(data)];
    assert!(kinds.iter().filter(|taken| **taken).count() <= 1);
}

pub fn grant(data: &[u8]) {
    if let Some((head, configuration)) = claim::parse_grant(data) {
        assert_eq!([head.as_bytes(), configuration].concat(), data);
        assert!(configuration.len() <= claim::MAX_CONFIGURATION);
    }
}

pub fn anchor_file(data: &[u8]) {
    if let Ok((file, _)) = AnchorFile::read_from_prefix(data)
        && let AnchorIn::Some(anchor) = file.read()
    {
        assert_eq!(AnchorFile::new(&anchor), file);
    }
}

/// A ticket that reads is the one that it prints as.
pub fn ticket(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(ticket) = Ticket::from_text(text) {
        let again = ticket.to_text();
        let again = std::str::from_utf8(&*again).expect("ASCII");
        assert!(Ticket::from_text(again).is_ok_and(|again| again.secret == ticket.secret));
    }
}

pub fn fingerprint(data: &[u8]) {
    if let Some(read) = std::str::from_utf8(data).ok().and_then(Fingerprint::parse) {
        assert!(Fingerprint::parse(&read.to_string()).is_some_and(|again| again.0 == read.0));
    }
}

/// A region as the other end may leave it, and what it may do to it meanwhile.
fn region(data: &[u8], words: usize) -> Vec<AtomicU64> {
    let region: Vec<AtomicU64> = (0..words).map(|_| AtomicU64::new(0)).collect();
    scribble(&region, data);
    region
}

fn scribble(region: &[AtomicU64], data: &[u8]) {
    for (word, chunk) in region.iter().zip(data.chunks(8)) {
        let mut bytes = [0; 8];
        bytes[..chunk.len()].copy_from_slice(chunk);
        word.store(u64::from_le_bytes(bytes), Ordering::Relaxed);
    }
}

/// The other end of a ring writes what it likes, twice: each frame that comes out fits, and the ring goes on.
pub fn ring_peer(data: &[u8]) {
    let theirs = region(data, 512);
    let ours = region(&[], 512);
    let mut end = ring::Duplex::<SLOT>::new(ReadWrite::new(&ours), ReadOnly::new(&theirs)).expect("large enough");
    let mut frame = [0; SLOT];
    for half in [data, data.get(data.len() / 2..).unwrap_or_default()] {
        scribble(&theirs, half);
        // A producer cannot have more waiting than there are slots.
        for round in 0.. {
            match end.recv(&mut frame) {
                Ok(None) => break,
                Ok(Some(length)) => assert!(length <= ring::capacity(SLOT)),
                Err(shm::Misbehaved) => {}
            }
            assert!(round <= 512 * 8 / SLOT);
        }
        let _ = end.send(&frame[..SLOT / 2]);
    }
}

/// Either end of a mailbox against any bytes of the other.
pub fn mailbox_peer(data: &[u8]) {
    let theirs = region(data, 1024);
    let ours = region(&[], 1024);
    let server =
        mailbox::Server::<{ lifecycle::for_claim::MAX_REQUEST }>::new(ReadOnly::new(&theirs), ReadWrite::new(&ours));
    let mut server = server.expect("large enough");
    scribble(&theirs, data.get(1..).unwrap_or_default());
    if let Ok(Some(call)) = server.take() {
        let _ = call.parse::<lifecycle::for_claim::Stage>();
        server.refuse(1);
    }
    assert!(matches!(server.take(), Ok(None)));
    let mut client = mailbox::Client::new(ReadWrite::new(&ours), ReadOnly::new(&theirs)).expect("large enough");
    client.call::<keystore::for_claim::Commit>(&FromBytes::read_from_bytes(&[7; 520]).expect("any bytes"), 10);
    scribble(&theirs, data.get(2..).unwrap_or_default());
    let first = client.poll::<keystore::for_claim::Commit>(0);
    let last = client.poll::<keystore::for_claim::Commit>(10);
    // One outcome, and never none.
    assert!(first.is_some() != last.is_some());
    client.nudged();
}

/// A reader of any bytes gets whole values, each sequence number once.
pub fn cell_peer(data: &[u8]) {
    let theirs = region(data, 64);
    let mut reader = cell::Reader::<[u8; 100]>::new(ReadOnly::new(&theirs)).expect("large enough");
    reader.poll();
    assert!(reader.poll().is_none());
    scribble(&theirs, data.get(8..).unwrap_or_default());
    let odd = theirs[0].load(Ordering::Relaxed) % 2 == 1;
    assert!(!(odd && reader.poll().is_some()));
}
