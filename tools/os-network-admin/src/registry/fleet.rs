//! Fleets: the inner network, the authority's port, the rules of members that have none of their own.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use policy::{MAX_RULES, Rule};
use rusqlite::{OptionalExtension, Row, Transaction, params};
use serde::{Serialize, de::DeserializeOwned};
use wire::MESH_PORT;

use super::file::{Registry, explain};
use crate::base::error::Error;

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
    pub(super) fn broadcast(&self) -> u32 {
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

    /// Rises when another connection has changed something.
    pub fn version(&self) -> Result<i64, Error> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|error| explain(&self.path, &error))
    }
}

pub(super) fn insert_fleet(transaction: &Transaction<'_>, fleet: &Fleet) -> rusqlite::Result<()> {
    let sql = "INSERT INTO fleet (id, name, network, length, port, rules) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
               ON CONFLICT (id) DO NOTHING";
    let Fleet { id, name, network, port, rules } = fleet;
    let address = network.address.octets();
    transaction
        .execute(sql, params![id.as_slice(), name, address.as_slice(), network.length, port, pack(rules)])
        .map(|_| ())
}

pub(super) fn pack<T: Serialize>(value: &T) -> Vec<u8> {
    // These are small values of fixed shape, for which the encoding has no error but a full buffer.
    postcard::to_allocvec(value).unwrap_or_default()
}

pub(super) fn unpack<T: DeserializeOwned>(bytes: &[u8]) -> Option<T> {
    let (value, rest) = postcard::take_from_bytes(bytes).ok()?;
    rest.is_empty().then_some(value)
}

/// The outer `None` is damage.
pub(super) fn maybe_unpack<T: DeserializeOwned>(bytes: Option<Vec<u8>>) -> Option<Option<T>> {
    match bytes {
        Some(bytes) => unpack(&bytes).map(Some),
        None => Some(None),
    }
}
