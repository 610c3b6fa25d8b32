//! Places in the mesh: which is free, and those that a warrant gives to nodes which are not claimed yet, of which F is known and
//! nothing else.

use std::net::Ipv6Addr;

use rusqlite::{Connection, OptionalExtension, params};
use wire::{Key, set::AuthoritySet};

use super::{
    file::Registry,
    fleet::{AUTHORITY, Fleet},
};
use crate::base::{
    error::{Error, Exit},
    paper::name_of,
};

impl Registry {
    /// The place of a node in the fleet, given to it now if it has none; nobody else is given it.
    pub fn promise(&self, fleet: &Fleet, fiduciary: &Key) -> Result<u32, Error> {
        let host = self.run(|connection| {
            if let Some(host) = place(connection, fleet, fiduciary)? {
                return Ok(Some(host));
            }
            let Some(host) = free_host(connection, fleet)? else { return Ok(None) };
            store(connection, fleet, fiduciary, host)?;
            Ok(Some(host))
        })?;
        host.ok_or_else(|| full(fleet))
    }

    /// Places that are promised, and to whom.
    pub fn promised(&self, fleet: &Fleet) -> Result<Vec<(Key, u32)>, Error> {
        let sql = "SELECT fiduciary, host FROM promised WHERE fleet = ?1 ORDER BY host";
        self.list(sql, [fleet.id.as_slice()], |row| {
            Ok(Key::try_from(row.get::<_, Vec<u8>>(0)?).ok().zip(row.get(1).map(Some)?))
        })
    }

    /// The authorities of a set have their places in the mesh; an error if a node was given one of them.
    pub fn seat(&self, fleet: &Fleet, set: &AuthoritySet) -> Result<(), Error> {
        for one in set.places().iter().filter(|one| one.has_place()) {
            let host = fleet.host(Ipv6Addr::from(one.inner).into()).filter(|host| *host != fleet.host);
            let Some(host) = host else { continue };
            if !self.place_is_its(fleet, &one.sign, host)? {
                let (v4, _) = fleet.addresses(host);
                return Err(Error::input(format!(
                    "the authority {} has the address {v4} in the mesh, and in this registry that is another's",
                    name_of(one)
                )));
            }
        }
        Ok(())
    }

    /// The same of a set that is in force, whatever stands here: what does not fit is told, and holds nobody up.
    pub fn seat_as_told(&self, fleet: &Fleet, set: &AuthoritySet) -> Result<Option<String>, Error> {
        match self.seat(fleet, set) {
            Err(why) if why.exit == Exit::Input => Ok(Some(why.message)),
            seated => seated.map(|()| None),
        }
    }

    /// Whether a place is this one's, who is given it if it was nobody's.
    pub fn place_is_its(&self, fleet: &Fleet, fiduciary: &Key, host: u32) -> Result<bool, Error> {
        self.run(|connection| {
            if let Some(its) = place(connection, fleet, fiduciary)? {
                return Ok(its == host);
            }
            let sql = "SELECT 1 FROM member WHERE fleet = ?1 AND host = ?2 \
                       UNION SELECT 1 FROM promised WHERE fleet = ?1 AND host = ?2";
            if connection.prepare_cached(sql)?.exists(params![fleet.id.as_slice(), host])? {
                return Ok(false);
            }
            let sql = "DELETE FROM free_host WHERE fleet = ?1 AND host = ?2";
            connection.prepare_cached(sql)?.execute(params![fleet.id.as_slice(), host])?;
            store(connection, fleet, fiduciary, host)?;
            Ok(true)
        })
    }

    /// The same, for a place that a warrant names.
    pub fn promise_place(&self, fleet: &Fleet, fiduciary: &Key, host: u32) -> Result<(), Error> {
        if self.place_is_its(fleet, fiduciary, host)? {
            return Ok(());
        }
        let (v4, _) = fleet.addresses(host);
        Err(Error::input(format!(
            "the warrant gives the node the address {v4}, and in this registry that is another's, or the node has another: have \
             a warrant proposed from this registry"
        )))
    }
}

/// As a member, or promised.
fn place(connection: &Connection, fleet: &Fleet, fiduciary: &Key) -> rusqlite::Result<Option<u32>> {
    let sql = "SELECT host FROM member WHERE fleet = ?1 AND fiduciary = ?2 \
               UNION ALL SELECT host FROM promised WHERE fleet = ?1 AND fiduciary = ?2";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row(params![fleet.id.as_slice(), fiduciary.as_slice()], |row| row.get(0)).optional()
}

/// The promised place, which is one no longer: the node takes it.
pub(super) fn redeem(connection: &Connection, fleet: &Fleet, fiduciary: &Key) -> rusqlite::Result<Option<u32>> {
    let sql = "DELETE FROM promised WHERE fleet = ?1 AND fiduciary = ?2 RETURNING host";
    let mut statement = connection.prepare_cached(sql)?;
    statement.query_row(params![fleet.id.as_slice(), fiduciary.as_slice()], |row| row.get(0)).optional()
}

fn store(connection: &Connection, fleet: &Fleet, fiduciary: &Key, host: u32) -> rusqlite::Result<()> {
    let sql = "INSERT INTO promised (fleet, fiduciary, host) VALUES (?1, ?2, ?3)";
    connection.prepare_cached(sql)?.execute(params![fleet.id.as_slice(), fiduciary.as_slice(), host]).map(|_| ())
}

/// The lowest place that nobody has: of those that were left, else the next after the last.
pub(super) fn free_host(connection: &Connection, fleet: &Fleet) -> rusqlite::Result<Option<u32>> {
    let one = |sql: &str| {
        let mut statement = connection.prepare_cached(sql)?;
        statement.query_row([fleet.id.as_slice()], |row| row.get::<_, Option<u32>>(0))
    };
    if let Some(host) = one("SELECT min(host) FROM free_host WHERE fleet = ?1")? {
        let sql = "DELETE FROM free_host WHERE fleet = ?1 AND host = ?2";
        connection.prepare_cached(sql)?.execute(params![fleet.id.as_slice(), host])?;
        return Ok(Some(host));
    }
    // Each by its index.
    let member = one("SELECT max(host) FROM member WHERE fleet = ?1")?;
    let last = member.max(one("SELECT max(host) FROM promised WHERE fleet = ?1")?);
    let next = last.unwrap_or(AUTHORITY).saturating_add(1);
    Ok((next < fleet.network.broadcast()).then_some(next))
}

pub(super) fn full(fleet: &Fleet) -> Error {
    Error::input(format!("the network {} of the fleet {} is full", fleet.network, fleet.name))
}

#[cfg(test)]
mod tests {
    use wire::Key;

    use super::*;
    use crate::registry::{FromBackup, NewMember, Who};

    const KEY: Key = [9; 32];

    fn enrolled(registry: &Registry, fleet: &Fleet, node: u8) -> u32 {
        let who = Who::Node([node; 32]);
        let key = crypto::dh_public(&crypto::Secret::new([node; 32]));
        let new = NewMember { who: &who, key, claim_key: Some(KEY), underlay: None, authority: None };
        registry.enroll(fleet, &new).unwrap().host
    }

    #[test]
    fn a_promised_place_is_nobody_elses_until_its_node_takes_it() {
        let registry = Registry::in_memory(crate::base::host::system()).unwrap();
        let fleet = registry.make_fleet(&[1; 32], "one").unwrap();
        let other = registry.make_fleet(&[2; 32], "other").unwrap();
        assert_eq!(registry.promise(&fleet, &[3; 32]).unwrap(), 2);
        // Asked again it is the same, and in another fleet another.
        assert_eq!([&fleet, &other].map(|fleet| registry.promise(fleet, &[3; 32]).unwrap()), [2, 2]);
        assert_eq!(enrolled(&registry, &fleet, 4), 3);
        assert_eq!(registry.promise(&fleet, &[5; 32]).unwrap(), 4);
        assert_eq!([6, 5, 3].map(|node| enrolled(&registry, &fleet, node)), [5, 4, 2]);
        // A member has its place.
        assert_eq!(registry.promise(&fleet, &[4; 32]).unwrap(), 3);
    }

    #[test]
    fn what_was_promised_since_a_backup_stays_promised_when_it_is_restored() {
        let (folder, host) = (tempfile::tempdir().unwrap(), crate::base::host::system());
        let path = folder.path().join("registry");
        let registry = Registry::open(&path).unwrap();
        let fleet = registry.make_fleet(&[1; 32], "one").unwrap();
        assert_eq!([3, 4].map(|node| registry.promise(&fleet, &[node; 32]).unwrap()), [2, 3]);
        let copy = std::fs::read(&path).unwrap();
        assert_eq!(registry.promise(&fleet, &[5; 32]).unwrap(), 4);
        FromBackup::open(&path, &copy, host).unwrap().merge_into(&registry).unwrap();
        assert_eq!([5, 4, 3, 6].map(|node| registry.promise(&fleet, &[node; 32]).unwrap()), [4, 3, 2, 5]);
    }

    #[test]
    fn a_place_that_a_warrant_names_is_free_or_the_nodes_own() {
        let registry = Registry::in_memory(crate::base::host::system()).unwrap();
        let fleet = registry.make_fleet(&[1; 32], "one").unwrap();
        registry.promise_place(&fleet, &[3; 32], 7).unwrap();
        registry.promise_place(&fleet, &[3; 32], 7).unwrap();
        for (node, host) in [(4, 7), (3, 8)] {
            let why = registry.promise_place(&fleet, &[node; 32], host).unwrap_err().message;
            assert!(why.contains(&format!("10.8.0.{host}")), "{why}");
        }
        assert_eq!([3, 4].map(|node| enrolled(&registry, &fleet, node)), [7, 8]);
        assert!(registry.promise_place(&fleet, &[5; 32], 8).is_err());
        assert!(registry.promise_place(&fleet, &[4; 32], 8).is_ok());
    }
}
