//! The configuration that follows for a node from what the registry has, a function of nothing else; and its hash beside each
//! member, so that what a node has can be compared with what it should have without making it again.
//!
//! The hash is kept true by the transaction that changes what it depends on, for those members whom the change touches: the
//! member itself, and those that know it. Whom a member knows is found by rule, not by reading all.

use std::collections::BTreeSet;

use policy::{
    Configuration, Direction, Endpoint, MAX_ALLOWED, MAX_PEERS, Peer, Prefix, Preshared, Role, Rule, Underlay,
};
use rusqlite::{Connection, Row, params};
use wire::{Ip, Key, MESH_PORT, binding::configuration_hash, order::MAX_CONFIGURATION};

use super::{
    fleet::{Fleet, Rules},
    member::{Member, NO_PRESHARED},
    pack::{maybe_unpack, pack},
    revision,
};
use crate::base::error::Error;

/// How often a node reminds the authority of where it is.
const KEEPALIVE_S: u16 = 25;
/// As many others as no node can have; the authority is a peer too.
const TOO_MANY: i64 = MAX_PEERS as i64;
/// In the table `flow`, that a member has a rule about peers.
const ABOUT_PEERS: &[u8] = &[];

/// Of a member m: another had its WireGuard key before, or has it. Such a member is refused today; one of before is nobody's
/// peer, so that the others go on.
macro_rules! is_double {
    () => {
        "(EXISTS (SELECT 1 FROM member o INDEXED BY member_key WHERE o.fleet = m.fleet AND o.key = m.key AND o.host < m.host) \
         OR EXISTS (SELECT 1 FROM fleet a WHERE a.id = m.fleet AND a.authority = m.key))"
    };
}
pub(super) const IS_DOUBLE: &str = is_double!();

/// Members whose configuration is being made of them. A node must be live: paired, not revoked, and with a place that it was told.
const NODES: &str = concat!(
    "SELECT m.id, m.host, 1 AS node, m.key, m.preshared, m.underlay, n.address FROM member m \
     CROSS JOIN node n ON n.fiduciary = m.fiduciary AND n.state <> 'superseded' \
     WHERE n.state = 'paired' AND m.revoked_ms IS NULL AND m.configuration IS NOT NULL AND m.id <> ?1 AND NOT ",
    is_double!(),
    " AND "
);
const PEERS: &str = concat!(
    "SELECT m.id, m.host, 0 AS node, m.key, m.preshared, NULL AS underlay, NULL AS address FROM member m \
     WHERE m.fleet = ?1 AND m.fiduciary IS NULL AND m.revoked_ms IS NULL AND NOT ",
    is_double!(),
    " ORDER BY m.host LIMIT ?2"
);

/// What a node's configuration says of another member.
pub struct Other {
    id: i64,
    host: u32,
    is_node: bool,
    key: Key,
    preshared: Preshared,
    endpoint: Option<Endpoint>,
}

impl Other {
    fn read_or_damaged(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        Ok(Self::read(row).ok().flatten())
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let (id, host, is_node): (_, i64, _) = (row.get("id")?, row.get("host")?, row.get("node")?);
        let (key, preshared): (Vec<u8>, Vec<u8>) = (row.get("key")?, row.get("preshared")?);
        let (underlay, address): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get("underlay")?, row.get("address")?);
        let whole = || {
            let underlay: Option<Underlay> = maybe_unpack(underlay)?;
            let address = address.map(Ip::try_from).transpose().ok()?;
            let ip = underlay.map(|underlay| underlay.address.ip).or(address);
            Some(Self {
                id,
                host: u32::try_from(host).ok()?,
                is_node,
                key: Key::try_from(key).ok().filter(crypto::dh_usable)?,
                preshared: Preshared(preshared.try_into().ok()?),
                endpoint: ip.map(|ip| Endpoint { ip, port: MESH_PORT }),
            })
        };
        Ok(whole())
    }

    pub fn is_node(&self) -> bool {
        self.is_node
    }
}

/// Why a node can have no configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Unworkable {
    /// No node was claimed and no mesh was up yet.
    NoAuthority,
    TooManyPeers,
    TooLong,
    /// Its WireGuard key is another member's too, or the authority's.
    Double,
    NotSensible(String),
}

impl Unworkable {
    pub fn error(&self, who: &str) -> Error {
        match self {
            Self::NoAuthority => Error::input("the fleet has no authority yet: run `os-network-admin mesh up`"),
            Self::TooManyPeers | Self::TooLong => Error::input(format!(
                "the rules give {who} more peers than the {MAX_PEERS} that a node has: name fewer, or give nodes rules of \
                 their own"
            )),
            Self::Double => Error::input(format!(
                "the WireGuard key of {who} is another's, who had it first: it is nobody's peer. Revoke it; if it is yours, \
                 release it and claim it again"
            )),
            Self::NotSensible(why) => Error::input(format!("no sensible configuration results: {why}")),
        }
    }
}

/// The preshared key of two members: each of theirs with the authority is part of it, so no third can know it.
pub fn between(one: (i64, &Preshared), other: (i64, &Preshared)) -> Preshared {
    let (low, high) = if one.0 < other.0 { (one.1, other.1) } else { (other.1, one.1) };
    let mut text = zeroize::Zeroizing::new([0; 27 + 64]);
    let (label, secrets) = text.split_at_mut(27);
    label.copy_from_slice(b"os-network-admin preshared\0");
    secrets[..32].copy_from_slice(&low.0);
    secrets[32..].copy_from_slice(&high.0);
    Preshared(crypto::sha256(&*text))
}

/// The same for a configuration; of two that have nothing to make one of, everybody could make it.
fn shared(member: &Member, other: &Other) -> Option<Preshared> {
    let is_open = [&member.preshared, &other.preshared].iter().all(|own| own.0 == NO_PRESHARED);
    (!is_open).then(|| between((member.id, &member.preshared), (other.id, &other.preshared)))
}

/// A member's rules, the fleet's if it has none of its own.
pub fn rules<'a>(fleet: &'a Fleet, member: &'a Member) -> &'a Rules {
    member.rules.as_ref().unwrap_or(&fleet.rules)
}

pub(super) fn configuration(
    connection: &Connection,
    fleet: &Fleet,
    member: &Member,
) -> rusqlite::Result<Result<Vec<u8>, Unworkable>> {
    let theirs = theirs(fleet, member);
    let Some(key) = fleet.authority.or_else(|| theirs.first().map(|peer| peer.key)) else {
        return Ok(Err(Unworkable::NoAuthority));
    };
    let sql = format!("SELECT 1 FROM member m WHERE m.id = ?1 AND {IS_DOUBLE}");
    if connection.prepare_cached(&sql)?.exists([member.id])? {
        return Ok(Err(Unworkable::Double));
    }
    let others = others(connection, fleet, member)?;
    let first = First {
        host: member.host,
        underlay: member.underlay,
        authority: member.authority,
        preshared: (member.preshared.0 != NO_PRESHARED).then(|| member.preshared.clone()),
        rules: rules(fleet, member),
    };
    let mut made = first.configuration(fleet, key);
    if !theirs.is_empty() {
        made.peers = theirs;
    }
    let others = others.iter().map(|other| Peer {
        key: other.key,
        role: if other.is_node { Role::Node } else { Role::Peer },
        preshared: shared(member, other),
        endpoint: other.endpoint,
        allowed: allowed(fleet, other.host),
        keepalive_s: 0,
    });
    for peer in others {
        if made.peers.push(peer).is_err() {
            return Ok(Err(Unworkable::TooManyPeers));
        }
    }
    Ok(encoded(&made))
}

/// The authorities that a node knows which another's registry has claimed: it keeps them.
fn theirs(fleet: &Fleet, member: &Member) -> heapless::Vec<Peer, MAX_PEERS> {
    let has = member.configuration.as_deref().and_then(|bytes| Configuration::parse(bytes).ok()).unwrap_or_default();
    let peers: heapless::Vec<Peer, MAX_PEERS> =
        has.peers.into_iter().filter(|peer| peer.role == Role::Authority).collect();
    if peers.iter().any(|peer| Some(peer.key) == fleet.authority) { heapless::Vec::new() } else { peers }
}

/// What a node is told that knows nobody but the authority.
pub struct First<'a> {
    pub host: u32,
    pub underlay: Option<Underlay>,
    /// Where the authority is.
    pub authority: Option<Endpoint>,
    pub preshared: Option<Preshared>,
    pub rules: &'a Rules,
}

impl First<'_> {
    /// Its bytes; `key` is the authority's.
    pub fn bytes(&self, fleet: &Fleet, key: Key) -> Result<Vec<u8>, Error> {
        encoded(&self.configuration(fleet, key)).map_err(|why| why.error("the node"))
    }

    fn configuration(&self, fleet: &Fleet, key: Key) -> Configuration {
        let (v4, v6) = fleet.addresses(self.host);
        let own = [Prefix::v4(v4.octets(), fleet.network.length), Prefix { ip: v6.octets(), length: 64 }];
        let authority = Peer {
            key,
            role: Role::Authority,
            preshared: self.preshared.clone(),
            endpoint: self.authority,
            allowed: allowed(fleet, fleet.host),
            keepalive_s: KEEPALIVE_S,
        };
        Configuration {
            addresses: own.into_iter().collect(),
            underlay: self.underlay,
            peers: [authority].into_iter().collect(),
            rules: self.rules.clone(),
        }
    }
}

fn allowed(fleet: &Fleet, host: u32) -> heapless::Vec<Prefix, MAX_ALLOWED> {
    let (v4, v6) = fleet.addresses(host);
    [Prefix::v4(v4.octets(), 32), Prefix { ip: v6.octets(), length: 128 }].into_iter().collect()
}

fn encoded(made: &Configuration) -> Result<Vec<u8>, Unworkable> {
    made.check().map_err(|why| Unworkable::NotSensible(format!("{why:?}")))?;
    let mut buffer = vec![0; MAX_CONFIGURATION];
    let length = made.write(&mut buffer).map(<[u8]>::len).ok_or(Unworkable::TooLong)?;
    buffer.truncate(length);
    Ok(buffer)
}

/// Whether the fleet's rules leave a node that has none of its own a configuration, if it has no other node as a peer.
pub(super) fn newcomer(connection: &Connection, fleet: &Fleet) -> rusqlite::Result<Result<(), Unworkable>> {
    if !is_about_peers(&fleet.rules) {
        return Ok(Ok(()));
    }
    let mut statement = connection.prepare_cached(PEERS)?;
    let peers =
        statement.query_map(params![fleet.id.as_slice(), TOO_MANY], Other::read_or_damaged)?.flatten().flatten();
    // The authority is one too.
    Ok(if peers.count() < MAX_PEERS { Ok(()) } else { Err(Unworkable::TooManyPeers) })
}

/// By their places, nodes first; cut off after as many as no node can have.
pub(super) fn others(connection: &Connection, fleet: &Fleet, member: &Member) -> rusqlite::Result<Vec<Other>> {
    let rules = rules(fleet, member);
    let mut found = Vec::new();
    if linked(rules, &fleet.rules) {
        let sql =
            format!("{NODES} m.fleet = ?2 AND m.rules IS NULL AND m.fiduciary IS NOT NULL ORDER BY m.host LIMIT ?3");
        let mut statement = connection.prepare_cached(&sql)?;
        let rows = statement.query_map(params![member.id, fleet.id.as_slice(), TOO_MANY], Other::read_or_damaged)?;
        found.extend(rows.collect::<Result<Vec<_>, _>>()?);
    }
    let sql =
        format!("{NODES} m.id IN (SELECT member FROM flow WHERE fleet = ?2 AND rule = ?3) ORDER BY m.host LIMIT ?4");
    for rule in rules.iter().filter(|rule| rule.role == Role::Node) {
        let mut statement = connection.prepare_cached(&sql)?;
        let parameters = params![member.id, fleet.id.as_slice(), pack(&flipped(rule)), TOO_MANY];
        found.extend(statement.query_map(parameters, Other::read_or_damaged)?.collect::<Result<Vec<_>, _>>()?);
    }
    if is_about_peers(rules) {
        let mut statement = connection.prepare_cached(PEERS)?;
        let rows = statement.query_map(params![fleet.id.as_slice(), TOO_MANY], Other::read_or_damaged)?;
        found.extend(rows.collect::<Result<Vec<_>, _>>()?);
    }
    // A damaged row is nobody's peer: it must not take the others' configurations with it.
    let mut found: Vec<Other> = found.into_iter().flatten().collect();
    found.sort_by_key(|other| (!other.is_node, other.host));
    found.dedup_by_key(|other| other.id);
    Ok(found)
}

/// Members that know this one once it is live, whatever they are now.
fn known_by(connection: &Connection, fleet: &Fleet, member: &Member) -> rusqlite::Result<BTreeSet<i64>> {
    let own = rules(fleet, member);
    let is_node = member.fiduciary().is_some();
    let inheriting = if is_node { linked(own, &fleet.rules) } else { is_about_peers(&fleet.rules) };
    let mut known = BTreeSet::new();
    if inheriting {
        let sql = "SELECT id FROM member WHERE fleet = ?1 AND rules IS NULL AND fiduciary IS NOT NULL";
        let mut statement = connection.prepare_cached(sql)?;
        let rows = statement.query_map([fleet.id.as_slice()], |row| row.get::<_, i64>(0))?;
        known.extend(rows.collect::<Result<Vec<_>, _>>()?);
    }
    let named = own.iter().filter(|rule| is_node && rule.role == Role::Node).map(|rule| pack(&flipped(rule)));
    let about = (!is_node).then(|| ABOUT_PEERS.to_vec());
    for rule in named.chain(about) {
        let mut statement = connection.prepare_cached("SELECT member FROM flow WHERE fleet = ?1 AND rule = ?2")?;
        let rows = statement.query_map(params![fleet.id.as_slice(), rule], |row| row.get::<_, i64>(0))?;
        known.extend(rows.collect::<Result<Vec<_>, _>>()?);
    }
    known.remove(&member.id);
    Ok(known)
}

/// A member changes: its own hash, and those of the members that knew it or know it now.
pub(super) fn changing(
    connection: &Connection,
    member: i64,
    change: impl FnOnce() -> rusqlite::Result<()>,
) -> rusqlite::Result<()> {
    let whom = |connection: &Connection| -> rusqlite::Result<BTreeSet<i64>> {
        let Some((fleet, member)) = with_fleet(connection, member)? else { return Ok(BTreeSet::new()) };
        known_by(connection, &fleet, &member)
    };
    let mut touched = whom(connection)?;
    change()?;
    revision::member(connection, member)?;
    touched.extend(whom(connection)?);
    touched.insert(member);
    touched.into_iter().try_for_each(|id| refresh(connection, id))
}

/// Something changes that all members of a fleet depend on.
pub(super) fn refresh_fleet(connection: &Connection, fleet: &[u8; 32]) -> rusqlite::Result<()> {
    revision::all(connection, fleet)?;
    let mut statement =
        connection.prepare_cached("SELECT id FROM member WHERE fleet = ?1 AND fiduciary IS NOT NULL")?;
    let ids: Vec<i64> = statement.query_map([fleet.as_slice()], |row| row.get(0))?.collect::<Result<_, _>>()?;
    ids.into_iter().try_for_each(|id| refresh(connection, id))
}

fn refresh(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    let Some((fleet, member)) = with_fleet(connection, id)? else { return Ok(()) };
    if member.fiduciary().is_none() {
        return Ok(());
    }
    let wanted = configuration(connection, &fleet, &member)?.ok().map(|bytes| configuration_hash(&bytes));
    let mut statement = connection.prepare_cached("UPDATE member SET wanted = ?2 WHERE id = ?1")?;
    statement.execute(params![id, wanted.as_ref().map(|hash| hash.as_slice())]).map(|_| ())
}

fn with_fleet(connection: &Connection, id: i64) -> rusqlite::Result<Option<(Fleet, Member)>> {
    let member = Member::by_id(connection, id)?;
    let Some(member) = member else { return Ok(None) };
    Ok(Fleet::by_id(connection, &member.fleet)?.map(|fleet| (fleet, member)))
}

/// Notes which flows a member's own rules name, so that the other ends of them are found.
pub(super) fn store_flows(
    connection: &Connection,
    fleet: &[u8],
    member: i64,
    rules: Option<&Rules>,
) -> rusqlite::Result<()> {
    connection.prepare_cached("DELETE FROM flow WHERE member = ?1")?.execute([member])?;
    let own = rules.into_iter().flatten();
    let named = own.filter(|rule| rule.role == Role::Node).map(pack);
    let about = rules.is_some_and(is_about_peers).then(|| ABOUT_PEERS.to_vec());
    for rule in named.chain(about) {
        let sql = "INSERT OR IGNORE INTO flow (fleet, rule, member) VALUES (?1, ?2, ?3)";
        connection.prepare_cached(sql)?.execute(params![fleet, rule, member])?;
    }
    Ok(())
}

fn is_about_peers(rules: &Rules) -> bool {
    rules.iter().any(|rule| rule.role == Role::Peer)
}

/// Whether one may open a flow that the other lets in.
fn linked(one: &[Rule], other: &[Rule]) -> bool {
    one.iter().any(|rule| rule.role == Role::Node && other.contains(&flipped(rule)))
}

/// The rule that names a flow at its other end.
fn flipped(rule: &Rule) -> Rule {
    let direction = match rule.direction {
        Direction::In => Direction::Out,
        Direction::Out => Direction::In,
    };
    Rule { direction, ..*rule }
}
