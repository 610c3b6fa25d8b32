//! Authority records with their signatures, and to which of them this registry's people have given theirs.

use rusqlite::{OptionalExtension, params};
use wire::{Hash, Key, record::AuthorityRecord};
use zerocopy::{FromBytes, IntoBytes};

use super::{file::Registry, receipts::number};
use crate::base::error::Error;

impl Registry {
    /// Keeps a record that has all its signatures: whoever calls has verified them.
    pub fn store_record(&self, record: &AuthorityRecord) -> Result<(), Error> {
        let sql = "INSERT OR IGNORE INTO record (fleet, sequence, hash, bytes) VALUES (?1, ?2, ?3, ?4)";
        let (fleet, hash) = (record.fleet.as_slice(), record.hash());
        self.run(|connection| {
            let mut statement = connection.prepare_cached(sql)?;
            statement
                .execute(params![fleet, number(record.sequence.get()), hash.as_slice(), record.as_bytes()])
                .map(|_| ())
        })
    }

    /// All records of a fleet, by their sequences; two of one sequence are a fork.
    pub fn records(&self, fleet: &Hash) -> Result<Vec<AuthorityRecord>, Error> {
        let sql = "SELECT bytes FROM record WHERE fleet = ?1 ORDER BY sequence, hash";
        self.list(sql, [fleet.as_slice()], |row| Ok(AuthorityRecord::read_from_bytes(&row.get::<_, Vec<u8>>(0)?).ok()))
    }

    /// Notes that a key is about to sign a record, for good: of one sequence it signs one, whatever becomes of it. `Err`: the
    /// other that it has signed.
    pub fn promise_record(&self, signer: &Key, record: &AuthorityRecord) -> Result<Result<(), Hash>, Error> {
        let key = params![record.fleet.as_slice(), number(record.sequence.get()), signer.as_slice()];
        let (find, hash) =
            ("SELECT hash FROM approved WHERE fleet = ?1 AND sequence = ?2 AND signer = ?3", record.hash());
        self.run(|connection| {
            let before: Option<Vec<u8>> =
                connection.prepare_cached(find)?.query_row(key, |row| row.get(0)).optional()?;
            if let Some(before) = before {
                let before = Hash::try_from(before).unwrap_or_default();
                return Ok(if before == hash { Ok(()) } else { Err(before) });
            }
            let sql = "INSERT INTO approved (fleet, sequence, signer, hash) VALUES (?1, ?2, ?3, ?4)";
            let (fleet, sequence) = (record.fleet.as_slice(), number(record.sequence.get()));
            let mut statement = connection.prepare_cached(sql)?;
            statement.execute(params![fleet, sequence, signer.as_slice(), hash.as_slice()]).map(|_| Ok(()))
        })
    }
}
