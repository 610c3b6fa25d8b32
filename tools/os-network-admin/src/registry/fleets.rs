//! What is done with fleets.

use rusqlite::{Connection, params};
use wire::Key;

use super::{
    file::{Registry, explain},
    fleet::{BY_ID, Fleet, Network, Rules},
    pack::pack,
    revision, wanted,
};
use crate::base::error::Error;

/// How far a fleet's settings may still be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Yes,
    /// Members have addresses in the old network, or know the old port.
    HasMembers,
}

impl Registry {
    /// The fleet, made with the defaults if it is new.
    pub fn make_fleet(&self, id: &[u8; 16], name: &str) -> Result<Fleet, Error> {
        self.run(|transaction| insert_fleet(transaction, &Fleet::new(*id, name)))?;
        self.fleet(id)?.ok_or_else(|| self.damaged())
    }

    pub fn fleet(&self, id: &[u8; 16]) -> Result<Option<Fleet>, Error> {
        self.one(BY_ID, [id.as_slice()], Fleet::read)
    }

    /// All fleets of this name: another key makes another fleet of the same name.
    pub fn fleets_named(&self, name: &str) -> Result<Vec<Fleet>, Error> {
        self.list("SELECT * FROM fleet WHERE name = ?1", [name], Fleet::read)
    }

    /// Notes the authority's WireGuard key, which every node's configuration has.
    pub fn set_authority(&self, id: &[u8; 16], key: &Key) -> Result<(), Error> {
        if self.fleet(id)?.is_none_or(|fleet| fleet.authority == Some(*key)) {
            return Ok(());
        }
        self.run(|connection| {
            let sql = "UPDATE fleet SET authority = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![id.as_slice(), key.as_slice()])?;
            wanted::refresh_fleet(connection, id)
        })
    }

    /// Sets what members rely on, while there are none.
    pub fn set_network(&self, id: &[u8; 16], network: Network, port: u16) -> Result<Changed, Error> {
        let changed = self.run(|transaction| {
            let sql = "UPDATE fleet SET network = ?2, length = ?3, port = ?4 \
                       WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM member WHERE fleet = ?1)";
            let address = network.address.octets();
            revision::all(transaction, id)?;
            transaction.execute(sql, params![id.as_slice(), address.as_slice(), network.length, port])
        })?;
        Ok(if changed == 1 { Changed::Yes } else { Changed::HasMembers })
    }

    /// Sets the rules of a fleet.
    pub fn set_fleet_rules(&self, id: &[u8; 16], rules: &Rules) -> Result<(), Error> {
        self.run(|connection| {
            connection.execute("UPDATE fleet SET rules = ?2 WHERE id = ?1", params![id.as_slice(), pack(rules)])?;
            wanted::refresh_fleet(connection, id)
        })
    }

    /// Rises when another connection has changed something.
    pub fn version(&self) -> Result<i64, Error> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|error| explain(&self.path, &error))
    }
}

pub(super) fn insert_fleet(connection: &Connection, fleet: &Fleet) -> rusqlite::Result<()> {
    let sql = "INSERT INTO fleet (id, name, network, length, port, rules) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
               ON CONFLICT (id) DO NOTHING";
    let Fleet { id, name, network, port, authority: _, rules } = fleet;
    let address = network.address.octets();
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute(params![id.as_slice(), name, address.as_slice(), network.length, port, pack(rules)]).map(|_| ())
}
