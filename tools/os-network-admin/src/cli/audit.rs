//! `audit`.

use std::{
    fmt::Write as _,
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use clap::Subcommand;
use wire::{Hash, Hex};

use super::common::{Common, key_path, open, print, unlock};
use crate::{
    base::{
        error::{Error, Exit},
        files,
        host::{Host, System},
        input,
        key::KeyFile,
    },
    output::{AuditExported, AuditLog, Verified},
    registry::{Entry, Event, Kind, Registry, Tag, Value, Verifier},
};

#[derive(Subcommand)]
pub enum AuditVerb {
    /// What was done and refused, the oldest first
    Show {
        /// Not what was before: a time (2026-11-28T20:00:00Z), or a span before now (2h, 3days)
        #[arg(long, value_name = "WHEN", value_parser = when)]
        since: Option<u64>,
        /// Of this node only (its fingerprint or the beginning of it), or of this peer (its name)
        #[arg(long, value_name = "NODE")]
        node: Option<String>,
    },
    /// Whether the log is as it was written; exit code 14 if it is not
    Verify {
        /// The head that the log had when it was noted: `audit verify` and `backup` print it
        #[arg(long, value_name = "HASH", value_parser = hash)]
        head: Option<Hash>,
        /// No other key may have signed it: a public key as `init` prints it, or its anchor.bin; repeatable
        #[arg(long, value_name = "PUBKEY")]
        authority: Vec<String>,
    },
    /// Write the log for other programs, as JSON, one entry a line
    Export {
        /// File to write
        file: PathBuf,
    },
    /// Sign the log as it is now: the signature covers all that is in it
    Sign,
}

/// In Unix milliseconds.
fn when(text: &str) -> Result<u64, String> {
    let millis = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    if let Ok(span) = humantime::parse_duration(text) {
        return Ok(millis(System.since_1970()).saturating_sub(millis(span)));
    }
    let time = humantime::parse_rfc3339_weak(text).ok().and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    time.map(millis).ok_or_else(|| "name a time such as 2026-11-28T20:00:00Z, or a span before now such as 2h".into())
}

fn hash(text: &str) -> Result<Hash, String> {
    let mut hash = Hash::default();
    let decoded = base16ct::mixed::decode(text, &mut hash).is_ok_and(|bytes| bytes.len() == 32);
    if decoded { Ok(hash) } else { Err("a head is 64 hex digits".into()) }
}

pub fn run(common: &Common, command: AuditVerb) -> Result<(), Error> {
    let registry = open(common)?;
    match command {
        AuditVerb::Show { since, node } => show(common, &registry, since.unwrap_or_default(), node.as_deref()),
        AuditVerb::Verify { head, authority } => verify(common, &registry, head, &authority),
        AuditVerb::Export { file } => export(common, &registry, &file),
        AuditVerb::Sign => {
            unlock(common, &registry)?;
            registry.log(Event::new(Kind::Signed))?;
            verify(common, &registry, None, &[])
        }
    }
}

fn show(common: &Common, registry: &Registry, since: u64, node: Option<&str>) -> Result<(), Error> {
    let digits = node.map(|node| input::beginning(node).unwrap_or_default());
    let is_meant = |entry: &Entry| {
        let (Some(name), Some(digits)) = (node, &digits) else { return true };
        let has = |print: wire::Fingerprint| !digits.is_empty() && Hex(&print.0).to_string().starts_with(digits);
        entry.print().is_some_and(has) || entry.field(Tag::Peer) == Some(&Value::Text(name.into()))
    };
    let mut log = AuditLog::default();
    registry.audit(|sequence, signed| match Entry::parse(&signed.entry) {
        Some(entry) if entry.time_ms >= since && is_meant(&entry) => log.entries.push((&entry).into()),
        Some(_) => {}
        None => log.unreadable.push(sequence),
    })?;
    print(common, &log)
}

fn verify(common: &Common, registry: &Registry, noted: Option<Hash>, authorities: &[String]) -> Result<(), Error> {
    let authorities = authorities.iter().map(|text| input::authority(text).map(|key| key.sign));
    let verdict = registry.verify_audit(Verifier::new(noted, authorities.collect::<Result<_, _>>()?))?;
    // Which of the keys is one's own is only said.
    let own = key_path(common).and_then(|path| KeyFile::load(&path)).map(|key| key.public().sign).ok();
    print(common, &Verified::new(&verdict, own.as_ref()))?;
    match verdict.bad {
        None => Ok(()),
        Some(bad) => Err(Error {
            told: common.json,
            ..Error::new(
                Exit::Log,
                format!(
                    "entry {} of the log: {}. Compare with the log of a backup; what was written before it holds",
                    bad.sequence, bad.why
                ),
            )
        }),
    }
}

fn export(common: &Common, registry: &Registry, file: &Path) -> Result<(), Error> {
    let (mut text, mut entries) = (String::new(), 0);
    registry.audit(|sequence, signed| {
        entries += 1;
        let signature = signed.signature.as_ref().map_or("null".into(), |bytes| format!("\"{}\"", Hex(bytes)));
        let entry = Hex(&signed.entry);
        // A string takes everything.
        let _ = writeln!(text, "{{\"sequence\":{sequence},\"entry\":\"{entry}\",\"signature\":{signature}}}");
    })?;
    files::create_private(file, "log", text.as_bytes())?;
    print(common, &AuditExported { path: file.display().to_string(), entries })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_a_date_or_a_span_before_now() {
        assert_eq!(when("1970-01-01T00:00:02Z"), Ok(2000));
        assert_eq!(when("1970-01-01 00:00:02"), Ok(2000));
        let now = u64::try_from(System.now_ms()).unwrap();
        assert!(when("2h").unwrap().abs_diff(now - 7_200_000) < 60_000);
        assert_eq!(when("900000days"), Ok(0));
        assert!(when("yesterday").is_err() && when("1969-01-01T00:00:00Z").is_err());
        assert!(hash(&"0a".repeat(32)).is_ok() && hash("0a").is_err() && hash(&"0x".repeat(32)).is_err());
    }
}
