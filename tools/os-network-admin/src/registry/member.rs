//! Who is in a fleet: inner addresses, rules, preshared keys, what each node was told and what it last said.
//!
//! A member keeps its place for good: the address of a revoked one is not given to another.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
};

use policy::{Endpoint, Preshared, Underlay};
use rusqlite::{Connection, OptionalExtension, Row};
use wire::{Fingerprint, Hash, Key, Mac, telemetry::Telemetry};
use zerocopy::FromBytes;

use super::{
    fleet::Rules,
    pack::maybe_unpack,
    seen::{self, Doubt},
};
use crate::base::say::plain;

/// Of the table `member`, called m.
pub(super) const COLUMNS: &str = "m.id AS id, m.fleet AS fleet, m.host AS host, m.fiduciary AS fiduciary, m.name AS name, \
                                  m.key AS key, m.claim_key AS claim_key, m.mac AS mac, m.preshared AS preshared, \
                                  m.rules AS rules, m.underlay AS underlay, m.authority AS authority, \
                                  m.configuration AS configuration, m.wanted AS wanted, m.shown AS shown, \
                                  m.revoked_ms AS revoked_ms, \
                                  m.telemetry AS telemetry, m.telemetry_ms AS telemetry_ms, m.doubt AS doubt";
/// What WireGuard takes for no preshared key.
pub const NO_PRESHARED: [u8; 32] = [0; 32];
/// Seconds that a node's counter of commands is believed to be ahead of this host's clock: another authority's clock may be
/// wrong, but a node that says more would use its counter up.
pub const COUNTER_AHEAD: i64 = 30 * 86_400;

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
    pub fleet: [u8; 32],
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
    /// The hash of what a node should have; `None` if no configuration follows for it.
    pub wanted: Option<Hash>,
    /// The hash of `configuration`.
    pub shown: Option<Hash>,
    pub revoked_ms: Option<i64>,
    pub telemetry: Option<(Telemetry, i64)>,
    /// What speaks against it.
    pub doubt: Doubt,
}

impl Member {
    pub fn fiduciary(&self) -> Option<&Key> {
        match &self.who {
            Who::Node(fiduciary) => Some(fiduciary),
            Who::Peer(_) => None,
        }
    }

    /// Whether what it was last told and what it said last are both this configuration.
    pub fn has_shown(&self, hash: &Hash) -> bool {
        let says_other = self.telemetry.as_ref().is_some_and(|(record, _)| !hash.starts_with(&record.configuration));
        self.shown == Some(*hash) && !says_other
    }

    pub(super) fn by_id(connection: &Connection, id: i64) -> rusqlite::Result<Option<Self>> {
        let mut statement = connection.prepare_cached(&format!("SELECT {COLUMNS} FROM member m WHERE m.id = ?1"))?;
        // One that cannot be read is none: whoever asks for it by name is told.
        statement.query_row([id], |row| Ok(Self::read(row).ok().flatten())).optional().map(Option::flatten)
    }

    pub(super) fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let bytes = |name: &str| row.get::<_, Vec<u8>>(name);
        let maybe = |name: &str| row.get::<_, Option<Vec<u8>>>(name);
        let (fleet, key, preshared) = (bytes("fleet")?, bytes("key")?, bytes("preshared")?);
        let (fiduciary, name): (_, Option<String>) = (maybe("fiduciary")?, row.get("name")?);
        let (claim_key, mac) = (maybe("claim_key")?, maybe("mac")?);
        let (rules, underlay, authority) = (maybe("rules")?, maybe("underlay")?, maybe("authority")?);
        let (telemetry, telemetry_ms): (_, Option<i64>) = (maybe("telemetry")?, row.get("telemetry_ms")?);
        let (id, host, configuration) = (row.get("id")?, row.get("host")?, maybe("configuration")?);
        let (revoked_ms, wanted) = (row.get("revoked_ms")?, maybe("wanted")?);
        let (shown, doubt) = (maybe("shown")?, seen::read(maybe("doubt")?));
        let whole = || {
            // With one that is nobody's no secret can be agreed: anybody could pose as this member.
            let key = Key::try_from(key).ok().filter(crypto::dh_usable)?;
            let who = match (fiduciary, name) {
                (Some(fiduciary), None) => Who::Node(fiduciary.try_into().ok()?),
                (None, Some(name)) => Who::Peer(plain::name(&name)),
                _ => return None,
            };
            let record = telemetry.and_then(|record| stored(&record));
            Some(Self {
                id,
                fleet: fleet.try_into().ok()?,
                host,
                who,
                key,
                claim_key: claim_key.map(TryInto::try_into).transpose().ok()?,
                mac: mac.map(TryInto::try_into).transpose().ok()?,
                preshared: Preshared(preshared.try_into().ok()?),
                rules: maybe_unpack(rules)?,
                underlay: maybe_unpack(underlay)?,
                authority: maybe_unpack(authority)?,
                configuration,
                wanted: wanted.map(TryInto::try_into).transpose().ok()?,
                shown: shown.map(TryInto::try_into).transpose().ok()?,
                revoked_ms,
                telemetry: record.zip(telemetry_ms),
                doubt,
            })
        };
        Ok(whole())
    }
}

/// A record as it was stored. One that an earlier version has stored is of its schema; one that cannot be read makes room for
/// the next.
pub(super) fn stored(record: &[u8]) -> Option<Telemetry> {
    Telemetry::read_from_bytes(record).ok().or_else(|| Telemetry::parse(record))
}

/// What a new member, or one that is claimed anew, brings.
pub struct NewMember<'a> {
    pub who: &'a Who,
    pub key: Key,
    pub claim_key: Option<Key>,
    pub underlay: Option<Underlay>,
    pub authority: Option<Endpoint>,
}

/// What a node has said of itself, and when.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub member: i64,
    pub record: Telemetry,
    pub ms: i64,
}

/// Where a node is inside the mesh.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MeshAddress {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub revoked_ms: Option<i64>,
    /// What it said last, and when.
    pub said: Option<(Telemetry, i64)>,
    pub doubt: Doubt,
}

/// The highest counter of commands that is believed.
pub(super) fn latest(now_ms: i64) -> i64 {
    now_ms / 1000 + COUNTER_AHEAD
}
