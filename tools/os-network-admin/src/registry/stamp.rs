//! The highest timestamp that a handshake of this host's may have had: a node answers none that is not above the last one, so
//! a clock that was ahead once must not be forgotten.

use rusqlite::params;

use super::file::Registry;
use crate::base::error::Error;

impl Registry {
    /// In Unix milliseconds; 0: there was none yet.
    pub fn stamp_ms(&self) -> Result<i64, Error> {
        self.read(|connection| connection.query_row("SELECT stamp_ms FROM counter", [], |row| row.get(0)))
    }

    /// It never falls.
    pub fn raise_stamp(&self, ms: i64) -> Result<(), Error> {
        let sql = "UPDATE counter SET stamp_ms = ?1 WHERE stamp_ms < ?1";
        self.run(|connection| connection.execute(sql, params![ms]).map(|_| ()))
    }
}
