//! What is printed with `--json`, one type a document, and what the mesh's daemon says of itself. Texts for people are made of
//! the same values. `docs/os-network-admin.md` has the fields; a field is never removed or given another meaning.

mod audit;
mod authority;
mod backup;
mod fleet;
mod life;
mod mesh;
mod node;
mod paper;
mod parting;
mod share;

use std::{io, time::Duration};

use serde::{Deserialize, Serialize};

pub use self::{
    audit::{AuditEntry, AuditExported, AuditHead, AuditLog, AuditSigner, AuditValue, Verified},
    authority::{
        AuthorityKey, AuthorityStatus, BehindSet, Fork, ImageSigners, Named, Record as SetRecord, Records, SetPushed,
    },
    backup::{BackedUp, Part, Restored},
    fleet::{
        Done, Explained, Exported, MemberRules, Outcome, Policy, Pushed, Record, Report, Revoked, Table, TableRow, Told,
    },
    life::{Fault, Life},
    mesh::{Died, Down, Peer, Ready, Status, Up},
    node::{
        Authority, Claimed, Configuration, Doubt, Event, Fleet, Found, KeyFile, MeshAddress, Node, Nodes, OneNode,
        Role, Said,
    },
    paper::{Delivered, Founding, Order, Orders, Signer, Warrant, Warrants},
    parting::{Left, Parting},
    share::{HandedOn, Taken, TakenNode},
};
pub use crate::base::host::time;
use crate::base::{
    error::{Error, Exit},
    say::{plain, say_now},
};

/// A result of a command: the document, and what people read.
pub trait Document: Serialize {
    fn text(&self) -> String;

    /// It is nowhere else: if nobody takes it, it is lost.
    fn is_only_copy(&self) -> bool {
        false
    }
}

/// Why a command failed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// The exit code.
    pub code: u8,
    pub message: String,
}

impl From<&Error> for Failure {
    fn from(error: &Error) -> Self {
        Self { code: error.exit as u8, message: error.message.clone() }
    }
}

/// The document of a command that failed and has nothing else to show.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failed {
    pub error: Failure,
}

impl Document for Failed {
    fn text(&self) -> String {
        self.error.message.clone()
    }
}

/// Prints a line. A reader who has gone has what he wanted.
pub fn line(text: impl std::fmt::Display) -> Result<(), Error> {
    say::result(text).map_err(|error| unwritable(&error))
}

/// The same in place of all that the terminal shows.
pub fn screen(text: impl std::fmt::Display) -> Result<(), Error> {
    say::screen(text).map_err(|error| unwritable(&error))
}

/// Prints what is nowhere else.
pub fn only_copy(text: impl std::fmt::Display) -> Result<(), Error> {
    say::only_copy(text).map_err(|error| unwritable(&error))
}

fn unwritable(error: &io::Error) -> Error {
    Error::new(Exit::Other, format!("standard output cannot be written: {error}"))
}

/// Prints a result: as one JSON document in one line, or for people.
pub fn print(json: bool, document: &impl Document) -> Result<(), Error> {
    if !json {
        return line(document.text());
    }
    let written = serde_json::to_string(document);
    let written =
        written.map_err(|error| Error::new(Exit::Other, format!("the result cannot be written as JSON: {error}")))?;
    let written = plain::json(&written);
    if document.is_only_copy() { only_copy(written) } else { line(written) }
}

/// The end of a command that failed.
pub fn error(json: bool, error: &Error) {
    if json && error.told {
        // One document only.
    } else if json {
        // If nobody reads it, the exit code still says it.
        let _ = print(json, &Failed { error: error.into() });
    } else {
        say_now(format_args!("os-network-admin: {error}"));
    }
}

/// Milliseconds as seconds, for people.
pub fn seconds(ms: u64) -> String {
    format!("{}.{:03} s", ms / 1000, ms % 1000)
}

/// A duration in whole milliseconds.
pub fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests;
