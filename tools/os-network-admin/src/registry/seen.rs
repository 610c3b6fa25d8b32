//! What shows that a node was rolled back, or is there twice. A node's own numbers rise whatever happens to it; whoever puts
//! an old state of its store back, or starts a copy of it, makes them fall, or has two speak in one name. What a node says is
//! input: it can raise a doubt about itself and about no other.

use rusqlite::{Connection, params};
use serde::{Deserialize, Serialize};
use wire::{
    numbers,
    telemetry::{AUTHORITIES, Telemetry},
};

use super::pack::{pack, unpack};

/// The number of `mesh` among the domains.
const MESH: usize = 8;
/// What a node's clock may be ahead of this host's between two records: a minute, and so much of the time between.
const SLACK_MS: u64 = 60_000;
const DRIFT: u64 = 64;
/// A record that was heard so long before the last one was written down late; more, and this host's clock was set back.
const LATE_MS: i64 = 60_000;

numbers! {
    /// What fell.
    What {
        Boots = 0, "boots";
        Epoch = 1, "epoch";
        CommandFloor = 2, "command_floor";
        /// The sequence of its authority set.
        Set = 3, "set";
    }
}

/// What a node once said, and then said less.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallen {
    what: u8,
    pub was: u64,
    pub is: u64,
    pub first_ms: i64,
}

impl Fallen {
    pub fn what(&self) -> &'static str {
        What::from_number(self.what.into()).map_or("other", What::name)
    }
}

/// Two that speak in one name: the one whose power-up this was, and the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twice {
    pub boots: [u64; 2],
    pub first_ms: i64,
    pub last_ms: i64,
    pub times: u32,
}

/// What speaks against a node, until the operator clears it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub fallen: Option<Fallen>,
    pub twice: Option<Twice>,
}

impl Doubt {
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// The highest that a node has said, and its last record.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Seen {
    boots: u64,
    epoch: u64,
    set: u64,
    floors: [u32; AUTHORITIES],
    last: Option<Last>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Last {
    boots: u64,
    /// How often `mesh` was started again.
    starts: u32,
    sequence: u32,
    uptime_ms: u64,
    heard_ms: i64,
}

impl Seen {
    fn hear(&mut self, record: &Telemetry, heard_ms: i64, doubt: &mut Doubt) {
        let (boots, epoch, set) = (record.boots.get(), record.epoch.get(), record.set.get());
        let same_set = (epoch, set) == (self.epoch, self.set);
        let next_set = (epoch, set) > (self.epoch, self.set);
        let mut falls = |what, was: u64, is: u64| {
            if is < was {
                doubt.fallen.get_or_insert(Fallen { what: u8::from(what), was, is, first_ms: heard_ms });
            }
        };
        falls(What::Epoch, self.epoch, epoch);
        if epoch == self.epoch {
            falls(What::Set, self.set, set);
        }
        // A node that does not say counts nothing.
        if boots > 0 {
            falls(What::Boots, self.boots, boots);
            // Another claim and another set have other command keys, with counters of their own.
            if next_set {
                self.floors = [0; AUTHORITIES];
            }
            for (was, is) in self.floors.iter_mut().zip(record.command_floors) {
                if same_set {
                    falls(What::CommandFloor, (*was).into(), is.get().into());
                }
                *was = (*was).max(is.get());
            }
            self.follow(record, heard_ms, doubt);
        }
        self.boots = self.boots.max(boots);
        if next_set {
            (self.epoch, self.set) = (epoch, set);
        }
    }

    /// One node's records follow each other: what was started since the last one has run no longer than since then, and what
    /// was not goes on where it was.
    fn follow(&mut self, record: &Telemetry, heard_ms: i64, doubt: &mut Doubt) {
        let starts = record.restarts.get(MESH).map_or(0, |count| count.get());
        let (boots, sequence, uptime_ms) = (record.boots.get(), record.sequence.get(), record.uptime_ms.get());
        let now = Last { boots, starts, sequence, uptime_ms, heard_ms };
        let Some(last) = self.last.replace(now) else { return };
        if heard_ms < last.heard_ms {
            // Of a clock that was set back nothing follows; what comes late changes nothing.
            if last.heard_ms - heard_ms < LATE_MS {
                self.last = Some(last);
            }
            return;
        }
        let elapsed = heard_ms.abs_diff(last.heard_ms);
        let slack = SLACK_MS.saturating_add(elapsed / DRIFT);
        let is_same = (last.boots, last.starts) == (boots, starts);
        let goes_on = is_same && uptime_ms.saturating_add(slack) >= last.uptime_ms;
        let most = if goes_on { last.uptime_ms } else { 0 }.saturating_add(elapsed).saturating_add(slack);
        // Two records may be of one millisecond, and no two have one number.
        let order = sequence.cmp(&last.sequence);
        let disorder =
            goes_on && order != uptime_ms.cmp(&last.uptime_ms) && (uptime_ms != last.uptime_ms || order.is_eq());
        if uptime_ms > most || disorder {
            let known = doubt.twice.get_or_insert(Twice {
                boots: [last.boots, boots],
                first_ms: heard_ms,
                last_ms: heard_ms,
                times: 0,
            });
            known.last_ms = heard_ms;
            known.times = known.times.saturating_add(1);
        } else if goes_on && sequence < last.sequence {
            // One overtook the other on the way.
            self.last = Some(Last { heard_ms, ..last });
        }
    }
}

/// Weighs what a member says, and stores it.
pub(super) fn store(
    connection: &Connection,
    member: i64,
    record: &Telemetry,
    bytes: &[u8],
    ms: i64,
) -> rusqlite::Result<()> {
    let sql = "SELECT seen, doubt FROM member WHERE id = ?1";
    let mut statement = connection.prepare_cached(sql)?;
    let kept = statement.query_row([member], |row| Ok((row.get::<_, Option<Vec<u8>>>(0)?, row.get(1)?)));
    let (seen, doubt): (Option<Vec<u8>>, Option<Vec<u8>>) = match kept {
        Err(rusqlite::Error::QueryReturnedNoRows) => return Ok(()),
        kept => kept?,
    };
    // What cannot be read is begun anew.
    let mut seen: Seen = seen.and_then(|bytes| unpack(&bytes)).unwrap_or_default();
    let mut doubt = read(doubt);
    seen.hear(record, ms, &mut doubt);
    let doubt = (!doubt.is_none()).then(|| pack(&doubt));
    let sql = "UPDATE member SET telemetry = ?2, telemetry_ms = ?3, seen = ?4, doubt = ?5 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![member, bytes, ms, pack(&seen), doubt]).map(|_| ())
}

pub(super) fn read(doubt: Option<Vec<u8>>) -> Doubt {
    doubt.and_then(|bytes| unpack(&bytes)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use wire::{U32, U64};
    use zerocopy::FromZeros;

    use super::*;

    /// Says boots, sequence, seconds of uptime and the second in which it was heard; what is doubted then.
    fn doubts(records: &[(u64, u32, u64, i64)]) -> Doubt {
        let (mut seen, mut doubt) = (Seen::default(), Doubt::default());
        for (boots, sequence, uptime_s, heard_s) in records {
            let mut record = Telemetry::new_zeroed();
            (record.boots, record.sequence) = (U64::new(*boots), U32::new(*sequence));
            record.uptime_ms = U64::new(uptime_s * 1000);
            seen.hear(&record, heard_s * 1000, &mut doubt);
        }
        doubt
    }

    #[test]
    fn what_happens_to_one_node_raises_no_doubt() {
        for (what, records) in [
            ("records in their order", &[(1, 1, 0, 0), (1, 2, 10, 10), (1, 3, 20, 20)][..]),
            ("two of one moment", &[(1, 5, 50, 50), (1, 6, 50, 50), (1, 7, 50, 50)]),
            ("one that was not heard for a year", &[(1, 1, 0, 0), (1, 9, 31_557_000, 31_556_900)]),
            ("a reboot", &[(1, 500, 5000, 5000), (2, 1, 0, 5030), (2, 2, 10, 5040)]),
            ("a reboot that is heard of late", &[(1, 500, 5000, 5000), (3, 900, 9000, 14_500)]),
            ("one that overtook another", &[(1, 5, 50, 50), (1, 7, 70, 70), (1, 6, 60, 70), (1, 8, 80, 80)]),
            ("one that is written down twice", &[(1, 5, 50, 50), (1, 5, 50, 51), (1, 6, 60, 60)]),
            ("one that is written down late", &[(1, 5, 50, 50), (1, 6, 60, 60), (1, 5, 50, 50), (1, 7, 70, 70)]),
            ("this host's clock set back", &[(1, 5, 50, 9000), (1, 6, 60, 100), (1, 7, 70, 110)]),
            ("this host's clock set ahead", &[(1, 5, 50, 50), (1, 6, 60, 9000), (1, 7, 70, 9010)]),
            ("a node that does not say", &[(0, 500, 5000, 5000), (0, 1, 9000, 5010), (0, 700, 5, 5020)]),
        ] {
            assert!(doubts(records).is_none(), "{what}: {:?}", doubts(records));
        }
    }

    #[test]
    fn a_mesh_that_was_started_again_raises_none() {
        let (mut seen, mut doubt) = (Seen::default(), Doubt::default());
        for (starts, sequence, uptime_s, heard_s) in [(0, 90, 50, 50), (1, 1, 0, 55), (1, 2, 60, 115), (2, 1, 1, 130)] {
            let mut record = Telemetry::new_zeroed();
            (record.boots, record.sequence) = (U64::new(4), U32::new(sequence));
            (record.uptime_ms, record.restarts[MESH]) = (U64::new(uptime_s * 1000), U32::new(starts));
            seen.hear(&record, heard_s * 1000, &mut doubt);
        }
        assert!(doubt.is_none(), "{doubt:?}");
    }

    #[test]
    fn numbers_that_fall_are_said_with_what_they_were_first() {
        let fallen = doubts(&[(7, 500, 5000, 5000), (5, 1, 0, 5100), (4, 1, 0, 5200)]).fallen.unwrap();
        assert_eq!((fallen.what(), fallen.was, fallen.is, fallen.first_ms), ("boots", 7, 5, 5_100_000));
        let said = |epoch, floor| {
            let mut record = Telemetry { epoch: U64::new(epoch), boots: U64::new(1), ..Telemetry::new_zeroed() };
            record.command_floors[2] = U32::new(floor);
            record
        };
        let hear = |records: &[Telemetry]| {
            let (mut seen, mut doubt) = (Seen::default(), Doubt::default());
            records.iter().for_each(|record| seen.hear(record, 0, &mut doubt));
            doubt.fallen.map(|fallen| (fallen.what(), fallen.was, fallen.is))
        };
        assert_eq!(hear(&[said(2, 9), said(2, 9), said(2, 10), said(3, 0)]), None, "a claim anew");
        assert_eq!(hear(&[said(2, 9), said(2, 8)]), Some(("command_floor", 9, 8)));
        let under = |epoch, set, floor| Telemetry { set: U64::new(set), ..said(epoch, floor) };
        assert_eq!(hear(&[under(2, 0, 9), under(2, 1, 0), under(2, 2, 0), under(3, 0, 0)]), None, "another set");
        assert_eq!(hear(&[under(2, 1, 9), under(2, 0, 9)]), Some(("set", 1, 0)));
        assert_eq!(hear(&[said(2, 9), said(1, 9)]), Some(("epoch", 2, 1)));
        // A number that nobody can have leaves room for one's own doubt only.
        assert_eq!(hear(&[said(u64::MAX, 0), said(1, 0)]), Some(("epoch", u64::MAX, 1)));
    }

    #[test]
    fn two_that_speak_in_one_name_are_told_from_one() {
        for (what, records) in [
            ("started at different times", &[(3, 900, 9000, 9000), (3, 1, 0, 9003), (3, 901, 9010, 9010)][..]),
            ("started at once", &[(3, 5, 50, 50), (3, 5, 53, 53), (3, 6, 60, 60), (3, 6, 63, 63)]),
            ("started at once, one told more", &[(3, 5, 50, 50), (3, 9, 49, 53)]),
            ("one of an old state", &[(7, 900, 9000, 9000), (5, 3, 20, 9003), (7, 901, 9010, 9010)]),
            ("one of a new state", &[(7, 900, 9000, 9000), (8, 700, 7000, 9003)]),
        ] {
            let twice = doubts(records).twice.unwrap_or_else(|| panic!("{what}"));
            assert!(twice.times >= 1 && twice.first_ms <= twice.last_ms, "{what}");
        }
        let twice = doubts(&[(7, 900, 9000, 9000), (5, 3, 20, 9003), (7, 901, 9010, 9010)]).twice.unwrap();
        assert_eq!((twice.boots, twice.first_ms), ([5, 7], 9_010_000));
    }
}
