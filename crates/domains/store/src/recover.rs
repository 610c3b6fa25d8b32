//! What is to be done about a record, from nothing but what its two blocks say.
//!
//! What makes it decidable: an entry is acknowledged when both blocks have it; it is written to block 0 first; only a block
//! whose words say so is a reason for the other to hold garbage; and that block had the newest entry when they were written.

use calls::store::Finding;

use crate::{
    layout::NEW,
    scan::{Owner, Scan, Top},
};

/// The newest entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Newest {
    pub which: usize,
    pub place: usize,
    pub sequence: u64,
}

/// How far a rewriting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Both blocks are to be rewritten, first the one that is not the source.
    Both,
    /// Only the one that is not the source.
    Other,
    /// None; it is only to be noted.
    Note,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// Nothing was ever confirmed. `headers`: the blocks that have theirs already.
    Empty { generation: u32, headers: [bool; 2] },
    /// Both blocks have the same entry newest, in the same place, and nothing is left of anything else.
    Clean { generation: u32, newest: Newest },
    /// What the source has, an entry or none, goes into blocks that are erased for it.
    Rewrite { source: usize, generation: u32, newest: Option<Newest>, part: Part },
    /// It is left as it is.
    Unusable(Finding),
}

/// Decides. The second number: blocks in which something was lost that no cut explains.
pub fn recover(scans: &[Scan; 2]) -> (Verdict, u64) {
    let lost = |which: &usize| {
        let scan = &scans[*which];
        (scan.headless || matches!(scan.top, Top::Unreadable { .. })) && !scans[1 - *which].is_open()
    };
    (decide(scans), (0..2).filter(lost).count() as u64)
}

const DAMAGED: Verdict = Verdict::Unusable(Finding::Damaged);
const FOREIGN: Verdict = Verdict::Unusable(Finding::Foreign);

fn decide(scans: &[Scan; 2]) -> Verdict {
    let [a, b] = scans.map(|scan| scan.owner);
    match (a, b) {
        (Owner::Newer, _) | (_, Owner::Newer) => Verdict::Unusable(Finding::Newer),
        (Owner::Ours { generation: a }, Owner::Ours { generation: b }) if a == b => of_one_generation(scans, a),
        (Owner::Ours { generation: a }, Owner::Ours { generation: b }) => {
            let newer = usize::from(b > a);
            of_two(scans, newer, [a, b])
        }
        (Owner::Ours { generation }, _) => of_one_block(scans, 0, generation),
        (_, Owner::Ours { generation }) => of_one_block(scans, 1, generation),
        (Owner::Misplaced, _) | (_, Owner::Misplaced) => DAMAGED,
        (Owner::Blank, Owner::Blank) => Verdict::Empty { generation: NEW, headers: [false; 2] },
        _ => FOREIGN,
    }
}

/// No rewriting has come to the other block's header, or one is as good as over.
fn of_one_generation(scans: &[Scan; 2], generation: u32) -> Verdict {
    let source = match [scans[0].is_open(), scans[1].is_open()] {
        [false, false] => return settled(scans, generation),
        [true, false] => 0,
        [false, true] => 1,
        // One is being erased, and what its words say is a part of that.
        [true, true] => match scans.each_ref().map(is_credible) {
            [true, false] => 0,
            [false, true] => 1,
            _ => return DAMAGED,
        },
    };
    let [from, other] = [&scans[source], &scans[1 - source]];
    match (from.top, other.top) {
        (Top::Unreadable { .. }, _) => DAMAGED,
        // It would not have an entry that the source has not.
        (Top::None, Top::Readable { .. }) => DAMAGED,
        (Top::Readable { sequence, .. }, Top::Readable { sequence: of_other, .. }) if of_other > sequence => DAMAGED,
        (Top::Readable { place: 0, .. }, _) if from.top == other.top && only_open(from) && is_plain(other) => {
            rewrite(scans, source, generation, Part::Note)
        }
        (Top::None, Top::None) if only_open(from) && is_plain(other) => rewrite(scans, source, generation, Part::Note),
        _ => rewrite(scans, source, generation, part_of(from)),
    }
}

/// Whether a block is as its last finished write has left it.
fn is_credible(scan: &Scan) -> bool {
    is_tidy(scan) && !matches!(scan.top, Top::Unreadable { .. })
}

/// Nothing but the word that says that the other is being rewritten last is left to settle.
fn only_open(scan: &Scan) -> bool {
    is_tidy(scan) && !scan.first
}

fn is_plain(scan: &Scan) -> bool {
    only_open(scan) && !scan.second && !scan.closed
}

fn is_tidy(scan: &Scan) -> bool {
    !scan.dirty && !scan.unsettled
}

/// What the source has begun.
fn part_of(source: &Scan) -> Part {
    if source.second && !source.closed && !source.first && !source.dirty { Part::Other } else { Part::Both }
}

/// Two blocks that were appended to in turn.
fn settled(scans: &[Scan; 2], generation: u32) -> Verdict {
    let [a, b] = scans;
    let clean = is_tidy(a) && is_tidy(b);
    // Of two that have the same, the one that is as it should be.
    let tidier = usize::from(!is_tidy(a) && is_tidy(b));
    match (a.top, b.top) {
        (Top::Readable { .. }, Top::Readable { .. }) if a.top == b.top => match newest_of(a, 0) {
            Some(newest) if clean => Verdict::Clean { generation, newest },
            _ => rewrite(scans, tidier, generation, Part::Both),
        },
        (Top::Readable { sequence: in_a, .. }, Top::Readable { sequence: in_b, .. }) => {
            // One number was never two entries.
            if in_a == in_b { DAMAGED } else { rewrite(scans, usize::from(in_b > in_a), generation, Part::Both) }
        }
        (Top::Readable { place, .. }, Top::Unreadable { place: lost }) if lost <= place => {
            rewrite(scans, 0, generation, Part::Both)
        }
        (Top::Unreadable { place: lost }, Top::Readable { place, .. }) if lost <= place => {
            rewrite(scans, 1, generation, Part::Both)
        }
        (Top::Unreadable { .. }, _) | (_, Top::Unreadable { .. }) => DAMAGED,
        (Top::Readable { .. }, Top::None) => rewrite(scans, 0, generation, Part::Both),
        (Top::None, Top::Readable { .. }) => rewrite(scans, 1, generation, Part::Both),
        (Top::None, Top::None) if clean => Verdict::Empty { generation, headers: [true; 2] },
        (Top::None, Top::None) => rewrite(scans, tidier, generation, Part::Both),
    }
}

/// A rewriting was cut off: the newer block was made from the older one, which is untouched until the newer one has all.
fn of_two(scans: &[Scan; 2], newer: usize, generations: [u32; 2]) -> Verdict {
    let older = 1 - newer;
    let [new, old] = [&scans[newer], &scans[older]];
    let next = generations[older].checked_add(1) == Some(generations[newer]);
    match (new.top, old.top) {
        (Top::Readable { sequence, .. }, Top::Readable { sequence: before, .. }) if before > sequence => DAMAGED,
        (Top::Readable { place, .. }, _) => {
            let part = if place == 0 && !new.first && !new.closed && !new.dirty { Part::Other } else { Part::Both };
            rewrite(scans, newer, generations[newer], part)
        }
        // It is not there yet, or was not taken as it was written; the other still has it.
        (Top::None | Top::Unreadable { .. }, Top::Readable { .. }) if next && old.is_open() && !new.is_open() => {
            rewrite(scans, older, generations[older], Part::Both)
        }
        // There is no entry at all.
        (Top::None, Top::None) if next && new.is_open() => rewrite(scans, newer, generations[newer], part_of(new)),
        (Top::None, Top::None) if next && old.is_open() => rewrite(scans, older, generations[older], Part::Both),
        (Top::None, Top::Unreadable { .. }) if next && new.is_open() => {
            rewrite(scans, newer, generations[newer], part_of(new))
        }
        _ => DAMAGED,
    }
}

/// The other block is not one of this record's.
fn of_one_block(scans: &[Scan; 2], which: usize, generation: u32) -> Verdict {
    let [scan, other] = [&scans[which], &scans[1 - which]];
    let excused = scan.is_open();
    match (scan.top, other.owner) {
        (_, Owner::Misplaced) if !excused => DAMAGED,
        (_, Owner::Unknown) if !excused => FOREIGN,
        (Top::Unreadable { .. }, _) => DAMAGED,
        (Top::Readable { .. }, _) => rewrite(scans, which, generation, part_of(scan)),
        (Top::None, _) if excused => rewrite(scans, which, generation, part_of(scan)),
        // The first headers are being written.
        (Top::None, _) if which == 0 && generation == NEW => Verdict::Empty { generation, headers: [true, false] },
        (Top::None, _) => DAMAGED,
    }
}

fn rewrite(scans: &[Scan; 2], source: usize, generation: u32, part: Part) -> Verdict {
    let newest = newest_of(&scans[source], source);
    // The other block gets the entry in its first place, and both are to have it in the same one.
    let part = if newest.is_some_and(|newest| newest.place != 0) { Part::Both } else { part };
    Verdict::Rewrite { source, generation, newest, part }
}

fn newest_of(scan: &Scan, which: usize) -> Option<Newest> {
    match scan.top {
        Top::Readable { place, sequence, .. } => Some(Newest { which, place, sequence }),
        _ => None,
    }
}
