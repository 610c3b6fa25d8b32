//! What commands print on standard output: words, or one JSON document (of `beacon`, one per line).

use std::{
    io::{self, Write},
    time::{Duration, UNIX_EPOCH},
};

use serde_json::json;

use super::error::{Error, Exit};

/// Prints a line, or says that nobody reads it.
pub fn line(text: impl std::fmt::Display) -> Result<(), Error> {
    let mut out = io::stdout().lock();
    writeln!(out, "{text}")
        .and_then(|()| out.flush())
        .map_err(|error| Error::new(Exit::Other, format!("standard output cannot be written: {error}")))
}

/// The end of a command that failed.
pub fn error(json: bool, error: &Error) {
    if json && error.told {
        // One document only.
    } else if json {
        let document = json!({"error": {"code": error.exit as u8, "message": error.message}});
        // If nobody reads it, the exit code still says it.
        let _ = line(document);
    } else {
        eprintln!("os-network-admin: {error}");
    }
}

/// A time of day, for people.
pub fn time(ms: i64) -> String {
    let since = u64::try_from(ms).ok().map(Duration::from_millis);
    match since.and_then(|since| UNIX_EPOCH.checked_add(since)) {
        // Past this humantime has no form for it.
        Some(time) if ms < 253_402_300_800_000 => humantime::format_rfc3339_seconds(time).to_string(),
        _ => format!("{ms} ms after 1970"),
    }
}
