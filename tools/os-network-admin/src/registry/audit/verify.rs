//! Whether a log is as it was written.

use std::collections::BTreeMap;

use wire::{Hash, Key};

use super::{
    entry::{Entry, Signed},
    log::Head,
};

/// The first entry that is not as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bad {
    pub sequence: u64,
    pub why: &'static str,
}

/// What a log is found to be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Verdict {
    /// The last entry that holds.
    pub head: Head,
    pub bad: Option<Bad>,
    /// How many entries each key has signed.
    pub signers: BTreeMap<Key, u64>,
    /// The last one that is signed: it vouches for all before.
    pub signed: u64,
    pub begins_ms: u64,
    pub ends_ms: u64,
}

/// Takes entries one after the other, in the order in which they are stored.
#[derive(Default)]
pub struct Verifier {
    verdict: Verdict,
    /// A head that is to be in the log.
    noted: Option<Hash>,
    authorities: Vec<Key>,
    /// The hash of an entry that does not follow the one before it: what comes next says which of both was changed.
    suspect: Option<Hash>,
}

const MISSING: &str = "it is not there";
const NO_ENTRY: &str = "it is no entry";
const CHANGED: &str = "it was changed: the next does not follow it";
const STRAY: &str = "it does not follow the one before it";

impl Verifier {
    /// `noted`: the head that the log had once, as it was noted elsewhere.
    /// `authorities`: if any, nobody else may have signed.
    pub fn new(noted: Option<Hash>, authorities: Vec<Key>) -> Self {
        Self { noted, authorities, ..Self::default() }
    }

    /// Of a branch, whose first entry follows this one.
    pub fn after(head: Head) -> Self {
        Self { verdict: Verdict { head, ..Verdict::default() }, ..Self::default() }
    }

    pub fn take(&mut self, sequence: i64, signed: &Signed) {
        if self.verdict.bad.is_some() {
            return;
        }
        let next = self.verdict.head.sequence + 1;
        let entry = Entry::parse(&signed.entry);
        if let Some(suspect) = self.suspect {
            self.settle(entry.is_some_and(|entry| entry.before == suspect));
            return;
        }
        if u64::try_from(sequence) != Ok(next) {
            return self.found(next, MISSING);
        }
        let Some(entry) = entry else { return self.found(next, NO_ENTRY) };
        if entry.sequence != next {
            return self.found(next, "another's place is on it");
        }
        if !signed.is_signed_as_it_says(entry.signer.as_ref()) {
            return self.found(next, "it is not signed by the key that it names");
        }
        if entry.signer.is_some_and(|key| !self.authorities.is_empty() && !self.authorities.contains(&key)) {
            return self.found(next, "it is signed by a key that was not named");
        }
        let verdict = &mut self.verdict;
        if entry.before != verdict.head.hash {
            match (verdict.signed == verdict.head.sequence, entry.signer) {
                (true, _) => self.found(next, STRAY),
                (false, Some(_)) => self.found(next - 1, CHANGED),
                (false, None) => self.suspect = Some(signed.hash()),
            }
            return;
        }
        verdict.head = Head { sequence: next, hash: signed.hash() };
        self.noted.take_if(|noted| *noted == verdict.head.hash);
        if let Some(signer) = entry.signer {
            *verdict.signers.entry(signer).or_default() += 1;
            verdict.signed = next;
        }
        if next == 1 {
            verdict.begins_ms = entry.time_ms;
        }
        verdict.ends_ms = entry.time_ms;
    }

    fn found(&mut self, sequence: u64, why: &'static str) {
        self.verdict.bad = Some(Bad { sequence, why });
    }

    /// Whether the suspect is what it was when the next was written.
    fn settle(&mut self, is_as_it_was: bool) {
        let last = self.verdict.head.sequence;
        if is_as_it_was { self.found(last, CHANGED) } else { self.found(last + 1, STRAY) }
    }

    /// All were taken. `head`: where the log ends, as it is stored beside it.
    pub fn end(mut self, head: Head) -> Verdict {
        let last = self.verdict.head;
        if self.verdict.bad.is_some() {
        } else if let Some(suspect) = self.suspect {
            self.settle(head.hash == suspect);
        } else if head.sequence > last.sequence {
            self.found(last.sequence + 1, MISSING);
        } else if head.sequence < last.sequence {
            self.found(head.sequence + 1, "the log ends before it");
        } else if head.hash != last.hash {
            self.found(last.sequence, "it is another than the log ended with");
        } else if self.noted.is_some() {
            self.found(
                last.sequence + 1,
                "the log never had the head that was noted: entries at its end were removed, or all of it was written anew",
            );
        }
        self.verdict
    }
}
