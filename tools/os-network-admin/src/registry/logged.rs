//! What the registry does with its log.

use std::sync::Arc;

use rusqlite::Connection;

use super::{
    audit::{self, Event, Head, Signed, Signer, Verdict, Verifier},
    file::Registry,
};
use crate::base::error::Error;

impl Registry {
    /// From here on what is logged is signed.
    pub fn sign_with(&self, signer: &Signer) {
        self.signer.replace(Some(Arc::clone(signer)));
    }

    /// Tells of something that stands for itself.
    pub fn log(&self, event: Event) -> Result<(), Error> {
        self.run(|connection| self.note(connection, event))
    }

    /// Tells of what is changed in the same transaction.
    pub(super) fn note(&self, connection: &Connection, event: Event) -> rusqlite::Result<()> {
        let signer = self.signer.borrow();
        audit::append(connection, self.host.now_ms(), signer.as_ref().map(|signer| &***signer), event)
    }

    /// Whether the log is as it was written. One transaction, so that the head is that of the entries.
    pub fn verify_audit(&self, verifier: Verifier) -> Result<Verdict, Error> {
        self.trial(|registry| registry.read(|connection| audit::verify(connection, verifier)))
    }

    pub fn audit_head(&self) -> Result<Head, Error> {
        self.read(Head::of)
    }

    /// Goes through all entries, from the first to the last.
    pub fn audit(&self, each: impl FnMut(i64, Signed)) -> Result<(), Error> {
        self.read(|connection| audit::read(connection, each))
    }
}
