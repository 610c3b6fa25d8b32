//! The log of every record: finds the newest entry, appends one, purges all others.

use calls::store::{Account, Finding, RECORDS, Refusal};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    flash::{Flash, PAGE},
    layout::{EntryHeader, Geometry},
    recover::{Newest, Part, Verdict, recover},
    scan::{Scan, Scanner, read},
    writer::{Act, Failed, Plan, Step, Writer},
};

/// What a log is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Op {
    Find,
    Append {
        sequence: u64,
    },
    Purge,
    /// Something outside of the records.
    Plain,
}

/// What is known of a record since it was last looked at or written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Known {
    Nothing,
    Empty { generation: u32, headers: [bool; 2] },
    Entries { generation: u32, next: usize, sequence: u64 },
}

enum Doing {
    Nothing,
    Scanning { scanner: Scanner, first: Option<Scan> },
    Loading { newest: Newest, rewrite: Option<(usize, u32, Part)> },
    Writing { writer: Writer, then: Known },
}

/// What was asked for is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// What was found; an entry stands in [`Log::body`].
    Found(Finding, u64),
    Done,
    Refused(Refusal),
}

/// How it stands with what was asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stands {
    /// The flash is at work.
    Busy,
    More,
    Over(Outcome),
}

/// The log, for bodies of `BODY` bytes, a multiple of a word. One thing is asked of it at a time.
pub struct Log<const BODY: usize> {
    geometry: Geometry,
    known: [Known; RECORDS],
    record: u8,
    op: Op,
    doing: Doing,
    body: [u8; BODY],
    account: Account,
}

impl<const BODY: usize> Log<BODY> {
    /// For blocks of so many bytes.
    pub const fn new(block: usize) -> Self {
        Self {
            geometry: Geometry { block, body: BODY },
            known: [Known::Nothing; RECORDS],
            record: 0,
            op: Op::Plain,
            doing: Doing::Nothing,
            body: [0; BODY],
            account: Account { writes: 0, erases: 0, errors: 0 },
        }
    }

    /// Entries that a block has place for.
    pub const fn places(&self) -> usize {
        self.geometry.places()
    }

    /// What has been done since it was made.
    pub const fn account(&self) -> Account {
        self.account
    }

    /// The body of the entry that was found.
    pub const fn body(&self) -> &[u8; BODY] {
        &self.body
    }

    /// Looks for the newest entry of a record, which is below [`RECORDS`], and completes what was cut off.
    pub fn find(&mut self, record: u8) {
        self.scan(record, Op::Find);
    }

    /// Writes an entry.
    pub fn append(&mut self, record: u8, sequence: u64, body: &[u8; BODY]) {
        self.body = *body;
        self.scan(record, Op::Append { sequence });
        if self.known[usize::from(record)] != Known::Nothing {
            self.doing = Doing::Nothing;
        }
    }

    /// Leaves the newest entry of a record and no other.
    pub fn purge(&mut self, record: u8) {
        self.scan(record, Op::Purge);
    }

    /// Writes the first bytes of `from`, at most a body, where there is no record. What stands there already may stay.
    pub fn write(&mut self, at: usize, from: &[u8]) {
        let len = from.len().min(BODY);
        self.body[..len].copy_from_slice(&from[..len]);
        self.plain(Act::Bytes(at, len));
    }

    /// Erases a block that is no record's, if the bytes that are ever written of it, so many at its beginning, are not erased:
    /// a boot has no time to look at a whole one.
    pub fn clear(&mut self, block: usize, used: usize) {
        self.plain(Act::Clear(block, used.min(self.geometry.block)));
    }

    fn plain(&mut self, act: Act) {
        self.op = Op::Plain;
        let writer = Writer::new(self.geometry, 0, 0, Plan::new([act]));
        self.doing = Doing::Writing { writer, then: Known::Nothing };
    }

    fn scan(&mut self, record: u8, op: Op) {
        (self.record, self.op) = (record, op);
        let scanner = Scanner::new(self.geometry, record, 0);
        self.doing = Doing::Scanning { scanner, first: None };
    }

    /// Goes on, a bounded piece of it.
    pub fn step(&mut self, flash: &mut impl Flash) -> Stands {
        self.go_on(flash).unwrap_or_else(|Failed| {
            self.account.errors += 1;
            match (self.op, &self.doing) {
                // It was read, and the copy that it was read from is not touched before another one is whole. A worn-out
                // block takes no entry any more, but nobody's state.
                (Op::Find, Doing::Writing { then: Known::Entries { sequence, .. }, .. }) => {
                    let sequence = *sequence;
                    self.over(Outcome::Found(Finding::Found, sequence))
                }
                _ => self.refuse(Refusal::Failed),
            }
        })
    }

    fn go_on(&mut self, flash: &mut impl Flash) -> Result<Stands, Failed> {
        match &mut self.doing {
            Doing::Nothing => {
                let known = *self.known();
                return Ok(self.append_to(known));
            }
            Doing::Scanning { scanner, first } => {
                let Some(scan) = scanner.step(flash)? else {
                    return Ok(Stands::More);
                };
                let Some(first) = *first else {
                    let scanner = Scanner::new(self.geometry, self.record, 1);
                    self.doing = Doing::Scanning { scanner, first: Some(scan) };
                    return Ok(Stands::More);
                };
                let (verdict, errors) = recover(&[first, scan]);
                self.account.errors += errors;
                return Ok(self.decided(verdict));
            }
            Doing::Loading { newest, rewrite } => {
                let (newest, rewrite) = (*newest, *rewrite);
                self.load(flash, newest)?;
                match rewrite {
                    Some((source, generation, part)) => {
                        self.rewrite(source, generation, Some(newest.sequence), Some(newest.place), part);
                    }
                    None => return Ok(self.over(Outcome::Found(Finding::Found, newest.sequence))),
                }
            }
            Doing::Writing { writer, then } => match writer.step(flash, &self.body, &mut self.account)? {
                Step::Busy => return Ok(Stands::Busy),
                Step::More => {}
                Step::Done => {
                    let then = *then;
                    if self.op != Op::Plain {
                        *self.known() = then;
                    }
                    let outcome = match (self.op, then) {
                        (Op::Find, Known::Entries { sequence, .. }) => Outcome::Found(Finding::Found, sequence),
                        (Op::Find, _) => Outcome::Found(Finding::Empty, 0),
                        _ => Outcome::Done,
                    };
                    return Ok(self.over(outcome));
                }
            },
        }
        Ok(Stands::More)
    }

    fn known(&mut self) -> &mut Known {
        &mut self.known[usize::from(self.record)]
    }

    fn over(&mut self, outcome: Outcome) -> Stands {
        self.doing = Doing::Nothing;
        Stands::Over(outcome)
    }

    fn refuse(&mut self, why: Refusal) -> Stands {
        if self.op != Op::Plain && why != Refusal::Stale {
            *self.known() = Known::Nothing;
        }
        self.over(Outcome::Refused(why))
    }

    fn decided(&mut self, verdict: Verdict) -> Stands {
        *self.known() = match verdict {
            Verdict::Empty { generation, headers } => Known::Empty { generation, headers },
            Verdict::Clean { generation, newest } => {
                Known::Entries { generation, next: newest.place + 1, sequence: newest.sequence }
            }
            Verdict::Rewrite { .. } | Verdict::Unusable(_) => Known::Nothing,
        };
        match (self.op, verdict) {
            (Op::Append { .. }, Verdict::Empty { .. } | Verdict::Clean { .. }) => self.doing = Doing::Nothing,
            // Nobody has looked at it since it was cut off: what was newest is to be known first.
            (Op::Append { .. }, Verdict::Rewrite { .. }) => return self.refuse(Refusal::Failed),
            (Op::Find, Verdict::Unusable(finding)) => return self.over(Outcome::Found(finding, 0)),
            (_, Verdict::Unusable(_)) => return self.refuse(Refusal::Unusable),
            (Op::Find, Verdict::Empty { .. }) => return self.over(Outcome::Found(Finding::Empty, 0)),
            (_, Verdict::Empty { .. }) => return self.over(Outcome::Done),
            (Op::Find, Verdict::Clean { newest, .. }) => self.doing = Doing::Loading { newest, rewrite: None },
            (_, Verdict::Clean { newest: Newest { place: 0, .. }, .. }) => return self.over(Outcome::Done),
            (_, Verdict::Clean { generation, newest }) => {
                self.doing = Doing::Loading { newest, rewrite: Some((newest.which, generation, Part::Both)) };
            }
            (_, Verdict::Rewrite { source, generation, newest: Some(newest), part }) => {
                self.doing = Doing::Loading { newest, rewrite: Some((source, generation, part)) };
            }
            (_, Verdict::Rewrite { source, generation, newest: None, part }) => {
                self.rewrite(source, generation, None, None, part);
            }
        }
        Stands::More
    }

    /// Reads the newest entry, which was good when it was last looked at.
    fn load(&mut self, flash: &mut impl Flash, newest: Newest) -> Result<(), Failed> {
        let block = self.geometry.at(self.record, newest.which);
        let at = self.geometry.entry(block, newest.place);
        let mut header = EntryHeader::new_zeroed();
        read(flash, at, header.as_mut_bytes())?;
        read(flash, at + PAGE, &mut self.body)?;
        let valid = header.valid;
        let expected =
            EntryHeader::new(self.record, header.generation.get(), newest.place, newest.sequence, &self.body);
        if (EntryHeader { valid, ..expected }) == header { Ok(()) } else { Err(Failed) }
    }

    fn rewrite(&mut self, source: usize, generation: u32, sequence: Option<u64>, sure: Option<usize>, part: Part) {
        let plan = Plan::rewrite(source, generation, sequence.is_some(), sure, part);
        let writer = Writer::new(self.geometry, self.record, sequence.unwrap_or(0), plan);
        let generation = if part == Part::Both { generation.wrapping_add(1) } else { generation };
        let then = match sequence {
            Some(sequence) => Known::Entries { generation, next: 1, sequence },
            None => Known::Empty { generation, headers: [true; 2] },
        };
        *self.known() = Known::Nothing;
        self.doing = Doing::Writing { writer, then };
    }

    /// Appends to a record of which all is known.
    fn append_to(&mut self, known: Known) -> Stands {
        let (Op::Append { sequence }, false) = (self.op, known == Known::Nothing) else {
            return self.over(Outcome::Refused(Refusal::Failed));
        };
        let (generation, place, headers) = match known {
            Known::Entries { sequence: newest, .. } if sequence <= newest => return self.refuse(Refusal::Stale),
            Known::Entries { generation, next, .. } if next >= self.places() => {
                // The new entry is the one that goes into the new blocks.
                self.rewrite(0, generation, Some(sequence), None, Part::Both);
                return Stands::More;
            }
            Known::Entries { generation, next, .. } => (generation, next, [true; 2]),
            Known::Empty { generation, headers } => (generation, 0, headers),
            Known::Nothing => return self.refuse(Refusal::Failed),
        };
        let plan = Plan::append(headers, generation, place);
        let writer = Writer::new(self.geometry, self.record, sequence, plan);
        *self.known() = Known::Nothing;
        self.doing = Doing::Writing { writer, then: Known::Entries { generation, next: place + 1, sequence } };
        Stands::More
    }
}
