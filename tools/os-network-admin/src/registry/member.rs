//! Who is in a fleet: inner addresses, rules, preshared keys, what each node was told and what it last said.
//!
//! A member keeps its place for good: the address of a revoked one is not given to another.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use policy::{Endpoint, Preshared, Underlay};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use wire::{Fingerprint, Key, Mac, telemetry::Telemetry};
use zerocopy::{FromBytes, IntoBytes};

use super::{
    file::{Registry, explain, registry_error},
    fleet::{AUTHORITY, Fleet, Rules, insert_fleet, maybe_unpack, pack},
};
use crate::base::error::Error;

const COLUMNS: &str = "id, fleet, host, fiduciary, name, key, claim_key, mac, preshared, rules, underlay, authority, configuration, \
                       command_counter, revoked_ms, telemetry, telemetry_ms";

/// Who a member is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Who {
    /// A node, by F.
    Node(Key),
    /// Any other, by the name that the operator gave it.
    Peer(String),
}

impl fmt::Display for Who {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Node(fiduciary) => write!(f, "{}", Fingerprint::of(fiduciary)),
            Self::Peer(name) => f.write_str(name),
        }
    }
}

/// One member as the registry has it. No `Debug`: its configuration and preshared key are nobody's to print.
#[derive(Clone)]
pub struct Member {
    pub id: i64,
    pub fleet: [u8; 16],
    pub host: u32,
    pub who: Who,
    /// Its WireGuard key.
    pub key: Key,
    /// N of a node: what the key of its commands is made with.
    pub claim_key: Option<Key>,
    /// Of a node, on the link that it was claimed on.
    pub mac: Option<Mac>,
    /// Between it and the authority; also what keys between members are made of.
    pub preshared: Preshared,
    /// In place of the fleet's.
    pub rules: Option<Rules>,
    /// A node's static address outside the tunnel.
    pub underlay: Option<Underlay>,
    /// Where the node was told that the authority is.
    pub authority: Option<Endpoint>,
    /// What a node was granted, or has last shown to be in force.
    pub configuration: Option<Vec<u8>>,
    pub command_counter: u32,
    pub revoked_ms: Option<i64>,
    pub telemetry: Option<(Telemetry, i64)>,
}

impl Member {
    pub fn fiduciary(&self) -> Option<&Key> {
        match &self.who {
            Who::Node(fiduciary) => Some(fiduciary),
            Who::Peer(_) => None,
        }
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let bytes = |name: &str| row.get::<_, Vec<u8>>(name);
        let maybe = |name: &str| row.get::<_, Option<Vec<u8>>>(name);
        let (fleet, key, preshared) = (bytes("fleet")?, bytes("key")?, bytes("preshared")?);
        let (fiduciary, name): (_, Option<String>) = (maybe("fiduciary")?, row.get("name")?);
        let (claim_key, mac) = (maybe("claim_key")?, maybe("mac")?);
        let (rules, underlay, authority) = (maybe("rules")?, maybe("underlay")?, maybe("authority")?);
        let (telemetry, telemetry_ms): (_, Option<i64>) = (maybe("telemetry")?, row.get("telemetry_ms")?);
        let (id, host, configuration) = (row.get("id")?, row.get("host")?, maybe("configuration")?);
        let (command_counter, revoked_ms) = (row.get("command_counter")?, row.get("revoked_ms")?);
        let whole = || {
            let who = match (fiduciary, name) {
                (Some(fiduciary), None) => Who::Node(fiduciary.try_into().ok()?),
                (None, Some(name)) => Who::Peer(name),
                _ => return None,
            };
            let telemetry = match (telemetry, telemetry_ms) {
                (Some(record), Some(ms)) => Some((Telemetry::read_from_bytes(&record).ok()?, ms)),
                _ => None,
            };
            Some(Self {
                id,
                fleet: fleet.try_into().ok()?,
                host,
                who,
                key: key.try_into().ok()?,
                claim_key: claim_key.map(TryInto::try_into).transpose().ok()?,
                mac: mac.map(TryInto::try_into).transpose().ok()?,
                preshared: Preshared(preshared.try_into().ok()?),
                rules: maybe_unpack(rules)?,
                underlay: maybe_unpack(underlay)?,
                authority: maybe_unpack(authority)?,
                configuration,
                command_counter,
                revoked_ms,
                telemetry,
            })
        };
        Ok(whole())
    }
}

/// What a new member, or one that is claimed anew, brings.
pub struct NewMember<'a> {
    pub who: &'a Who,
    pub key: Key,
    pub claim_key: Option<Key>,
    pub underlay: Option<Underlay>,
    pub authority: Option<Endpoint>,
}

/// Where a node is inside the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Inner {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub revoked_ms: Option<i64>,
}

impl Registry {
    /// Sets the rules of one member; `None`: those of the fleet.
    pub fn set_member_rules(&self, member: i64, rules: Option<&Rules>) -> Result<(), Error> {
        let sql = "UPDATE member SET rules = ?2 WHERE id = ?1";
        self.run(|transaction| transaction.execute(sql, params![member, rules.map(pack)])).map(|_| ())
    }

    /// Gives a member its place, or finds the one that it has; then it is what it says now, and no longer revoked.
    pub fn enroll(&self, fleet: &Fleet, new: &NewMember<'_>) -> Result<Member, Error> {
        let preshared: [u8; 32] = self.host.random()?;
        let (fiduciary, name) = match new.who {
            Who::Node(fiduciary) => (Some(fiduciary.as_slice()), None),
            Who::Peer(name) => (None, Some(name.as_str())),
        };
        let (underlay, authority) = (new.underlay.as_ref().map(pack), new.authority.as_ref().map(pack));
        let full = self.run(|transaction| {
            insert_fleet(transaction, fleet)?;
            let sql = "SELECT id, fleet FROM member WHERE fiduciary = ?1 OR (fleet = ?2 AND name = ?3)";
            let known = transaction.query_row(sql, params![fiduciary, fleet.id.as_slice(), name], |row| {
                Ok((row.get::<_, i64>(0)?, row.get::<_, Vec<u8>>(1)?))
            });
            let known = known.optional()?;
            let id = match known {
                Some((id, its)) if its == fleet.id => id,
                _ => {
                    let Some(host) = free_host(transaction, fleet)? else { return Ok(true) };
                    if let Some((id, _)) = known {
                        // It was in another fleet.
                        transaction.execute("DELETE FROM member WHERE id = ?1", [id])?;
                    }
                    let sql = "INSERT INTO member (fleet, host, fiduciary, name, key, preshared) \
                               VALUES (?1, ?2, ?3, ?4, ?5, ?6)";
                    let (key, secret) = (new.key.as_slice(), preshared.as_slice());
                    transaction.execute(sql, params![fleet.id.as_slice(), host, fiduciary, name, key, secret])?;
                    transaction.last_insert_rowid()
                }
            };
            // Whoever was revoked knows the old preshared key.
            let sql = "UPDATE member SET key = ?2, claim_key = ?3, underlay = ?4, authority = ?5, \
                       preshared = iif(revoked_ms IS NULL, preshared, ?6), revoked_ms = NULL WHERE id = ?1";
            let (key, claim_key) = (new.key.as_slice(), new.claim_key.as_ref().map(Key::as_slice));
            transaction.execute(sql, params![id, key, claim_key, underlay, authority, preshared.as_slice()])?;
            Ok(false)
        })?;
        if full {
            return Err(Error::input(format!("the network {} of the fleet {} is full", fleet.network, fleet.name)));
        }
        let members = self.members(&fleet.id)?;
        members.into_iter().find(|member| member.who == *new.who).ok_or_else(|| self.damaged())
    }

    /// A node that is claimed with a configuration of the operator's own making has no place in the mesh.
    pub fn leave(&self, fiduciary: &Key) -> Result<(), Error> {
        let sql = "DELETE FROM member WHERE fiduciary = ?1";
        self.run(|transaction| transaction.execute(sql, [fiduciary.as_slice()])).map(|_| ())
    }

    /// All members of a fleet by their places, the revoked among them.
    pub fn members(&self, fleet: &[u8; 16]) -> Result<Vec<Member>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM member WHERE fleet = ?1 ORDER BY host");
        self.read_members(&sql, params![fleet.as_slice()])
    }

    /// All members of all fleets.
    pub fn all_members(&self) -> Result<Vec<Member>, Error> {
        self.read_members(&format!("SELECT {COLUMNS} FROM member ORDER BY id"), params![])
    }

    /// The place of a node in the mesh, if it has one.
    pub fn place(&self, fiduciary: &Key) -> Result<Option<Inner>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM member WHERE fiduciary = ?1");
        let Some(member) = self.read_members(&sql, params![fiduciary.as_slice()])?.pop() else { return Ok(None) };
        let fleet = self.fleet(&member.fleet)?.ok_or_else(|| self.damaged())?;
        let (v4, v6) = fleet.addresses(member.host);
        Ok(Some(Inner { v4, v6, revoked_ms: member.revoked_ms }))
    }

    fn read_members(&self, sql: &str, parameters: &[&dyn rusqlite::ToSql]) -> Result<Vec<Member>, Error> {
        let read = || {
            let mut statement = self.connection.prepare(sql)?;
            statement.query_map(parameters, Member::read)?.collect::<Result<Vec<_>, _>>()
        };
        let rows = read().map_err(|error| explain(&self.path, &error))?;
        rows.into_iter().map(|member| member.ok_or_else(|| self.damaged())).collect()
    }

    /// Notes what a node has: what it is granted, or what it has shown to be in force.
    pub fn store_configuration(&self, member: i64, configuration: &[u8], counter: u64) -> Result<(), Error> {
        let sql = "UPDATE member SET configuration = ?2, configuration_counter = ?3 WHERE id = ?1";
        let counter = i64::try_from(counter).unwrap_or(i64::MAX);
        self.run(|transaction| transaction.execute(sql, params![member, configuration, counter])).map(|_| ())
    }

    /// The next counter of a command to this node, stored: Unix seconds, or more than the last and than `above`.
    pub fn next_command_counter(&self, member: i64, above: u32) -> Result<u32, Error> {
        let floor = (self.host.now_ms() / 1000).max(i64::from(above) + 1);
        let sql =
            "UPDATE member SET command_counter = max(command_counter + 1, ?2) WHERE id = ?1 RETURNING command_counter";
        let next: i64 = self.run(|transaction| transaction.query_row(sql, params![member, floor], |row| row.get(0)))?;
        u32::try_from(next).map_err(|_| registry_error(&self.path, "has used up the counter of this node's commands"))
    }

    /// Notes where a node is on its link.
    pub fn store_mac(&self, fiduciary: &Key, mac: &Mac) -> Result<(), Error> {
        let sql = "UPDATE member SET mac = ?2 WHERE fiduciary = ?1";
        self.run(|transaction| transaction.execute(sql, params![fiduciary.as_slice(), mac.as_slice()])).map(|_| ())
    }

    /// Notes what a node has said.
    pub fn store_telemetry(&self, member: i64, record: &Telemetry) -> Result<(), Error> {
        let sql = "UPDATE member SET telemetry = ?2, telemetry_ms = ?3 WHERE id = ?1";
        self.run(|transaction| transaction.execute(sql, params![member, record.as_bytes(), self.host.now_ms()]))
            .map(|_| ())
    }

    /// Notes that a member is none any more.
    pub fn revoke(&self, member: i64) -> Result<(), Error> {
        let sql = "UPDATE member SET revoked_ms = ifnull(revoked_ms, ?2) WHERE id = ?1";
        self.run(|transaction| transaction.execute(sql, params![member, self.host.now_ms()])).map(|_| ())
    }
}

/// The lowest place that nobody has.
fn free_host(transaction: &Transaction<'_>, fleet: &Fleet) -> rusqlite::Result<Option<u32>> {
    let mut statement = transaction.prepare("SELECT host FROM member WHERE fleet = ?1 ORDER BY host")?;
    let mut free = AUTHORITY + 1;
    for taken in statement.query_map([fleet.id.as_slice()], |row| row.get::<_, u32>(0))? {
        if taken? == free {
            free += 1;
        }
    }
    Ok((free < fleet.network.broadcast()).then_some(free))
}
