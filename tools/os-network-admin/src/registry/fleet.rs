//! Fleets and who is in them: inner addresses, rules, preshared keys, what each node was told and what it last said.
//!
//! A member keeps its place for good: the address of a revoked one is not given to another.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use policy::{Endpoint, MAX_RULES, Preshared, Rule, Underlay};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};
use wire::{Fingerprint, Key, MESH_PORT, Mac, telemetry::Telemetry};
use zerocopy::{FromBytes, IntoBytes};

use super::{Registry, explain, now_ms, registry_error};
use crate::{error::Error, key};

/// Schema 2 adds these to schema 1.
pub(super) const CREATE: &str = "
    CREATE TABLE fleet (
        id BLOB PRIMARY KEY,
        name TEXT NOT NULL,
        network BLOB NOT NULL,
        length INTEGER NOT NULL,
        port INTEGER NOT NULL,
        rules BLOB NOT NULL
    ) STRICT;
    CREATE TABLE member (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        fleet BLOB NOT NULL REFERENCES fleet (id),
        host INTEGER NOT NULL,
        fiduciary BLOB UNIQUE,
        name TEXT,
        key BLOB NOT NULL,
        claim_key BLOB,
        mac BLOB,
        preshared BLOB NOT NULL,
        rules BLOB,
        underlay BLOB,
        authority BLOB,
        configuration BLOB,
        configuration_counter INTEGER,
        command_counter INTEGER NOT NULL DEFAULT 0,
        revoked_ms INTEGER,
        telemetry BLOB,
        telemetry_ms INTEGER,
        CHECK ((fiduciary IS NULL) <> (name IS NULL))
    ) STRICT;
    CREATE UNIQUE INDEX one_per_host ON member (fleet, host);
    CREATE UNIQUE INDEX one_per_name ON member (fleet, name);
";

const COLUMNS: &str = "id, fleet, host, fiduciary, name, key, claim_key, mac, preshared, rules, underlay, authority, configuration, \
                       command_counter, revoked_ms, telemetry, telemetry_ms";

/// What a fleet has if nobody says otherwise.
pub const NETWORK: Network = Network { address: Ipv4Addr::new(10, 8, 0, 0), length: 24 };
/// The authority's place.
pub const AUTHORITY: u32 = 1;

pub type Rules = heapless::Vec<Rule, MAX_RULES>;

/// An IPv4 network with room for an authority and a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network {
    pub address: Ipv4Addr,
    pub length: u8,
}

impl Network {
    pub fn new(address: Ipv4Addr, length: u8) -> Option<Self> {
        let network = Self { address, length };
        let fits = (8..=30).contains(&length) && address.to_bits() & (network.broadcast()) == 0;
        (fits && !address.is_multicast() && !address.is_unspecified()).then_some(network)
    }

    /// The number of the broadcast address, which nobody has.
    fn broadcast(&self) -> u32 {
        u32::MAX.checked_shr(self.length.into()).unwrap_or(0)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.length)
    }
}

impl std::str::FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parse = || {
            let (address, length) = text.split_once('/')?;
            Self::new(address.parse().ok()?, length.parse().ok()?)
        };
        parse().ok_or_else(|| "an inner network is an IPv4 network from /8 to /30, such as 10.8.0.0/24".into())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fleet {
    pub id: [u8; 16],
    pub name: String,
    pub network: Network,
    /// The authority's own WireGuard port.
    pub port: u16,
    /// For members that have none of their own.
    pub rules: Rules,
}

impl Fleet {
    pub fn new(id: [u8; 16], name: &str) -> Self {
        Self { id, name: name.into(), network: NETWORK, port: MESH_PORT, rules: Rules::new() }
    }

    /// The addresses of the member at this place.
    pub fn addresses(&self, host: u32) -> (Ipv4Addr, Ipv6Addr) {
        // A unique local /64: fd, and the first seven bytes of the fleet's id.
        let mut v6 = [0; 16];
        v6[0] = 0xfd;
        v6[1..8].copy_from_slice(&self.id[..7]);
        v6[12..].copy_from_slice(&host.to_be_bytes());
        (Ipv4Addr::from_bits(self.network.address.to_bits().wrapping_add(host)), v6.into())
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let (id, network, rules): (Vec<u8>, Vec<u8>, Vec<u8>) =
            (row.get("id")?, row.get("network")?, row.get("rules")?);
        let (name, length, port) = (row.get("name")?, row.get("length")?, row.get("port")?);
        let whole = || {
            let address = <[u8; 4]>::try_from(network).ok()?;
            let network = Network::new(address.into(), length)?;
            Some(Self { id: id.try_into().ok()?, name, network, port, rules: unpack(&rules)? })
        };
        Ok(whole())
    }
}

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
        let row = self.connection.query_row("SELECT * FROM fleet WHERE id = ?1", [id.as_slice()], Fleet::read);
        let row = row.optional().map_err(|error| explain(&self.path, &error))?;
        row.map(|fleet| fleet.ok_or_else(|| self.damaged())).transpose()
    }

    /// All fleets of this name: another key makes another fleet of the same name.
    pub fn fleets_named(&self, name: &str) -> Result<Vec<Fleet>, Error> {
        let read = || {
            let mut statement = self.connection.prepare("SELECT * FROM fleet WHERE name = ?1")?;
            statement.query_map([name], Fleet::read)?.collect::<Result<Vec<_>, _>>()
        };
        let rows = read().map_err(|error| explain(&self.path, &error))?;
        rows.into_iter().map(|fleet| fleet.ok_or_else(|| self.damaged())).collect()
    }

    /// Sets what members rely on, while there are none.
    pub fn set_network(&self, id: &[u8; 16], network: Network, port: u16) -> Result<Changed, Error> {
        let changed = self.run(|transaction| {
            let sql = "UPDATE fleet SET network = ?2, length = ?3, port = ?4 \
                       WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM member WHERE fleet = ?1)";
            let address = network.address.octets();
            transaction.execute(sql, params![id.as_slice(), address.as_slice(), network.length, port])
        })?;
        Ok(if changed == 1 { Changed::Yes } else { Changed::HasMembers })
    }

    /// Sets the rules of a fleet.
    pub fn set_fleet_rules(&self, id: &[u8; 16], rules: &Rules) -> Result<(), Error> {
        let sql = "UPDATE fleet SET rules = ?2 WHERE id = ?1";
        self.run(|transaction| transaction.execute(sql, params![id.as_slice(), pack(rules)])).map(|_| ())
    }

    /// Sets the rules of one member; `None`: those of the fleet.
    pub fn set_member_rules(&self, member: i64, rules: Option<&Rules>) -> Result<(), Error> {
        let sql = "UPDATE member SET rules = ?2 WHERE id = ?1";
        self.run(|transaction| transaction.execute(sql, params![member, rules.map(pack)])).map(|_| ())
    }

    /// Gives a member its place, or finds the one that it has; then it is what it says now, and no longer revoked.
    pub fn enroll(&self, fleet: &Fleet, new: &NewMember<'_>) -> Result<Member, Error> {
        let preshared: [u8; 32] = key::random()?;
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
        let floor = (now_ms() / 1000).max(i64::from(above) + 1);
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
        self.run(|transaction| transaction.execute(sql, params![member, record.as_bytes(), now_ms()])).map(|_| ())
    }

    /// Notes that a member is none any more.
    pub fn revoke(&self, member: i64) -> Result<(), Error> {
        let sql = "UPDATE member SET revoked_ms = ifnull(revoked_ms, ?2) WHERE id = ?1";
        self.run(|transaction| transaction.execute(sql, params![member, now_ms()])).map(|_| ())
    }

    /// Rises when another connection has changed something.
    pub fn version(&self) -> Result<i64, Error> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|error| explain(&self.path, &error))
    }
}

fn insert_fleet(transaction: &Transaction<'_>, fleet: &Fleet) -> rusqlite::Result<()> {
    let sql = "INSERT INTO fleet (id, name, network, length, port, rules) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
               ON CONFLICT (id) DO NOTHING";
    let Fleet { id, name, network, port, rules } = fleet;
    let address = network.address.octets();
    transaction
        .execute(sql, params![id.as_slice(), name, address.as_slice(), network.length, port, pack(rules)])
        .map(|_| ())
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

fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    // These are small values of fixed shape, for which the encoding has no error but a full buffer.
    postcard::to_allocvec(value).unwrap_or_default()
}

fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// The outer `None` is damage.
fn maybe_unpack<T: DeserializeOwned>(bytes: Option<Vec<u8>>) -> Option<Option<T>> {
    match bytes {
        Some(bytes) => unpack(&bytes).map(Some),
        None => Some(None),
    }
}
