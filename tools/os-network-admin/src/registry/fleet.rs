//! Fleets: the inner network, the authority's port, the rules of members that have none of their own.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use policy::{MAX_RULES, Rule};
use rusqlite::{Connection, OptionalExtension, Row};
use wire::{Key, MESH_PORT};

use super::pack::unpack;
use crate::base::{paper::inner, say::plain};

/// What a fleet has if nobody says otherwise.
pub const NETWORK: Network = Network { address: Ipv4Addr::new(10, 8, 0, 0), length: 24 };
pub(super) const BY_ID: &str = "SELECT * FROM fleet WHERE id = ?1";
/// The place of the authority that makes a fleet.
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
    pub id: [u8; 32],
    pub name: String,
    pub network: Network,
    /// The authority's own WireGuard port.
    pub port: u16,
    /// This registry's own WireGuard key; `None` until a node was claimed or the mesh was up.
    pub authority: Option<Key>,
    /// Its place in the mesh.
    pub host: u32,
    /// For members that have none of their own.
    pub rules: Rules,
}

impl Fleet {
    pub fn new(id: [u8; 32], name: &str) -> Self {
        Self {
            id,
            name: name.into(),
            network: NETWORK,
            port: MESH_PORT,
            authority: None,
            host: AUTHORITY,
            rules: Rules::new(),
        }
    }

    /// The addresses of the member at this place.
    pub fn addresses(&self, host: u32) -> (Ipv4Addr, Ipv6Addr) {
        Self::addresses_in(&self.id, self.network.address, host)
    }

    pub(super) fn addresses_in(fleet: &[u8; 32], network: Ipv4Addr, host: u32) -> (Ipv4Addr, Ipv6Addr) {
        (Ipv4Addr::from_bits(network.to_bits().wrapping_add(host)), inner(fleet, host))
    }

    /// Whose address this is: the other way round.
    pub fn host(&self, address: IpAddr) -> Option<u32> {
        let host = match address {
            IpAddr::V4(v4) => v4.to_bits().checked_sub(self.network.address.to_bits())?,
            IpAddr::V6(v6) => {
                let [.., a, b, c, d] = v6.octets();
                u32::from_be_bytes([a, b, c, d])
            }
        };
        let (v4, v6) = self.addresses(host);
        (host < self.network.broadcast() && [IpAddr::V4(v4), IpAddr::V6(v6)].contains(&address)).then_some(host)
    }

    pub(super) fn by_id(connection: &Connection, id: &[u8; 32]) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(BY_ID)?;
        statement.query_row([id.as_slice()], Self::read).optional().map(Option::flatten)
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let (id, network, rules): (Vec<u8>, Vec<u8>, Vec<u8>) =
            (row.get("id")?, row.get("network")?, row.get("rules")?);
        let (name, length, port): (String, _, _) = (row.get("name")?, row.get("length")?, row.get("port")?);
        let host = row.get("host")?;
        // Whoever made the registry has named it.
        let name = plain::name(&name);
        let authority: Option<Vec<u8>> = row.get("authority")?;
        let whole = || {
            let address = <[u8; 4]>::try_from(network).ok()?;
            let network = Network::new(address.into(), length)?;
            let authority = authority.map(Key::try_from).transpose().ok()?;
            let authority =
                authority.map(|key| crypto::dh_usable(&key).then_some(key)).map_or(Some(None), |key| key.map(Some))?;
            Some(Self { id: id.try_into().ok()?, name, network, port, authority, host, rules: unpack(&rules)? })
        };
        Ok(whole())
    }
}
