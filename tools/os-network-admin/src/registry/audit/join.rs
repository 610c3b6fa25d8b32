//! Two logs of one registry: that of a backup, and the one here.

use rusqlite::{Connection, OptionalExtension, params};
use wire::Hash;

use super::{
    entry::{Entry, Event, Kind, Signed, Tag},
    log::{Head, store},
    verify::{Bad, Verdict, Verifier},
};

/// What became of a backup's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Joined {
    /// It has none, or this one has all of it.
    Known,
    /// This one goes on with what the backup has more.
    Longer { entries: u64 },
    /// From some entry on both are different: this one goes on, and the backup's is kept beside it.
    Forked { entries: u64, common: u64 },
    /// The backup's is not as it was written, and would be needed.
    Bad(Bad),
}

/// Within a transaction: what the backup's log, attached as `copy`, has more than this one. And what is to be told of it.
pub fn join(connection: &Connection) -> rusqlite::Result<(Joined, Event)> {
    let here = Head::of(connection)?;
    let there = Head::of_copy(connection)?;
    let differs = "SELECT min(m.sequence) FROM main.audit m JOIN copy.audit c ON c.sequence = m.sequence \
                   WHERE m.entry IS NOT c.entry OR m.signature IS NOT c.signature";
    let differs: Option<i64> = connection.query_row(differs, [], |row| row.get(0))?;
    let shorter = here.sequence.min(there.sequence);
    let common = differs.map_or(shorter, |first| first.unsigned_abs().saturating_sub(1).min(shorter));
    let event = Event::new(Kind::Restored).bytes(Tag::Head, &there.hash).number(Tag::Sequence, there.sequence);
    let entries = there.sequence - common;
    if entries == 0 {
        return Ok((Joined::Known, event));
    }
    let more = read_copy(connection)?;
    let mut verifier = Verifier::new(None, Vec::new());
    more.iter().for_each(|(sequence, signed)| verifier.take(*sequence, signed));
    if let Some(bad) = verifier.end(there).bad {
        return Ok((Joined::Bad(bad), event));
    }
    let mut more = (1..).zip(more).filter(|(sequence, _)| *sequence > common);
    if common == here.sequence {
        more.try_for_each(|(sequence, (_, signed))| store(connection, sequence, &signed))?;
        return Ok((Joined::Longer { entries }, event));
    }
    let sql = "INSERT OR IGNORE INTO main.audit_branch (head, sequence, entry, signature) VALUES (?1, ?2, ?3, ?4)";
    for (_, (sequence, Signed { entry, signature })) in more {
        connection.prepare_cached(sql)?.execute(params![there.hash.as_slice(), sequence, entry, signature])?;
    }
    let event = event.bytes(Tag::Branch, &there.hash).text(
        Tag::What,
        &format!(
            "the backup's log is another from entry {} on: {entries} entries of it are kept beside this one",
            common + 1
        ),
    );
    Ok((Joined::Forked { entries, common }, event))
}

fn read_copy(connection: &Connection) -> rusqlite::Result<Vec<(i64, Signed)>> {
    let mut statement = connection.prepare("SELECT sequence, entry, signature FROM copy.audit ORDER BY sequence")?;
    let rows =
        statement.query_map([], |row| Ok((row.get(0)?, Signed { entry: row.get(1)?, signature: row.get(2)? })))?;
    rows.collect()
}

/// Whether a branch that the log names is there and as it was written; `restored` is the entry that names it.
pub fn holds(connection: &Connection, head: &Hash) -> rusqlite::Result<bool> {
    let sql = "SELECT sequence, entry, signature FROM main.audit_branch WHERE head = ?1 ORDER BY sequence";
    let mut statement = connection.prepare_cached(sql)?;
    let rows = statement.query_map([head.as_slice()], |row| {
        Ok((row.get::<_, i64>(0)?, Signed { entry: row.get(1)?, signature: row.get(2)? }))
    })?;
    let branch = rows.collect::<Result<Vec<_>, _>>()?;
    let Some((first, _)) = branch.first() else { return Ok(false) };
    // It follows an entry of this log.
    let stem = first.saturating_sub(1);
    let sql = "SELECT entry, signature FROM main.audit WHERE sequence = ?1";
    let before = connection
        .prepare_cached(sql)?
        .query_row([stem], |row| Ok(Signed { entry: row.get(0)?, signature: row.get(1)? }))
        .optional()?;
    let stem = match before {
        Some(before) => Head { sequence: stem.unsigned_abs(), hash: before.hash() },
        None if stem == 0 => Head::default(),
        None => return Ok(false),
    };
    let mut verifier = Verifier::after(stem);
    branch.iter().for_each(|(sequence, signed)| verifier.take(*sequence, signed));
    let sequence = branch.last().map_or(0, |(sequence, _)| sequence.unsigned_abs());
    Ok(verifier.end(Head { sequence, hash: *head }).bad.is_none())
}

/// Goes through a whole log, and through the branches that it names.
pub fn verify(connection: &Connection, verifier: Verifier) -> rusqlite::Result<Verdict> {
    let (mut verifier, mut branches) = (verifier, Vec::new());
    super::read(connection, |sequence, signed| {
        verifier.take(sequence, &signed);
        let entry = Entry::parse(&signed.entry);
        let branch = entry.as_ref().and_then(|entry| Hash::try_from(entry.bytes(Tag::Branch)?).ok());
        branches.extend(branch.map(|branch| (sequence.unsigned_abs(), branch)));
    })?;
    let mut verdict = verifier.end(Head::of(connection)?);
    for (sequence, branch) in branches {
        if verdict.bad.is_none() && !holds(connection, &branch)? {
            verdict.bad =
                Some(Bad { sequence, why: "the branch that it names is not there, or not as it was written" });
        }
    }
    Ok(verdict)
}
