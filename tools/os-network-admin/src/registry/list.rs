//! Nodes and members as they are looked for: each by a key, or all of a kind in one statement.

use rusqlite::{Params, Row};
use wire::{Ip, Key};

use super::{
    file::Registry,
    fleet::Fleet,
    member::{COLUMNS, Member, MeshAddress, Who, stored},
    node::{self, Node, State},
    seen,
    wanted::{self, IS_DOUBLE, Other},
};
use crate::base::{error::Error, say::plain};

/// What has changed in a fleet since it was read.
pub enum Changes {
    None,
    /// These nodes, and who had these places has left; it is read up to this revision.
    Some {
        nodes: Vec<NodeMember>,
        freed: Vec<u32>,
        revision: i64,
    },
    /// All of it is to be read again.
    All,
}

/// Where a node was claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimedAt {
    pub address: Ip,
    /// Ours.
    pub interface: String,
}

/// A member that is a node, and what its pairing says of it.
#[derive(Clone)]
pub struct NodeMember {
    pub member: Member,
    pub claimed_at: Option<ClaimedAt>,
    pub is_paired: bool,
    /// Another had its WireGuard key before: it is nobody's peer.
    pub is_double: bool,
}

impl NodeMember {
    /// Claimed and not revoked.
    pub fn is_live(&self) -> bool {
        self.is_paired && self.member.revoked_ms.is_none() && self.member.configuration.is_some()
    }

    /// Nothing says that it lacks what it should have: neither what it was last told, nor what it said last.
    pub fn is_current(&self) -> bool {
        self.member.wanted.is_some_and(|wanted| self.member.has_shown(&wanted))
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<Option<Self>> {
        let (address, interface): (Option<Vec<u8>>, Option<String>) = (row.get("address")?, row.get("interface")?);
        let (state, is_double): (Option<String>, bool) = (row.get("state")?, row.get("double")?);
        let Some(member) = Member::read(row)? else { return Ok(None) };
        let whole = || {
            let address = address.map(Ip::try_from).transpose().ok()?;
            // One that another's registry has claimed is on no link of ours.
            let interface = interface.map(|name| plain::name(&name)).filter(|name| !name.is_empty());
            let claimed_at = address.zip(interface).map(|(address, interface)| ClaimedAt { address, interface });
            let is_paired = state.as_deref() == Some(State::Paired.word());
            Some(Self { member, claimed_at, is_paired, is_double })
        };
        Ok(whole())
    }
}

impl Registry {
    /// All nodes, the oldest first.
    pub fn nodes(&self) -> Result<Vec<Node>, Error> {
        let sql = format!("SELECT {} FROM node WHERE state <> 'superseded' ORDER BY id", node::COLUMNS);
        self.list(&sql, [], Node::read)
    }

    /// The same, and where each is in the mesh.
    pub fn nodes_and_addresses(&self) -> Result<Vec<(Node, Option<MeshAddress>)>, Error> {
        let columns: Vec<String> = node::COLUMNS.split(", ").map(|name| format!("n.{name} AS {name}")).collect();
        let sql = format!(
            "SELECT {}, m.host AS host, m.revoked_ms AS revoked_ms, m.telemetry AS telemetry, \
             m.telemetry_ms AS telemetry_ms, m.doubt AS doubt, f.id AS its_fleet, f.network AS network \
             FROM node n LEFT JOIN member m ON m.fiduciary = n.fiduciary LEFT JOIN fleet f ON f.id = m.fleet \
             WHERE n.state <> 'superseded' ORDER BY n.id",
            columns.join(", ")
        );
        self.list(&sql, [], |row| Ok(Node::read(row)?.zip(address(row)?)))
    }

    /// The place of a node in the mesh, if it has one.
    pub fn mesh_address(&self, fiduciary: &Key) -> Result<Option<MeshAddress>, Error> {
        let sql = "SELECT m.host AS host, m.revoked_ms AS revoked_ms, m.telemetry AS telemetry, \
             m.telemetry_ms AS telemetry_ms, m.doubt AS doubt, f.id AS its_fleet, f.network AS network \
                   FROM member m JOIN fleet f ON f.id = m.fleet WHERE m.fiduciary = ?1";
        self.one(sql, [fiduciary.as_slice()], address).map(Option::flatten)
    }

    pub fn member(&self, id: i64) -> Result<Option<Member>, Error> {
        self.one(&format!("SELECT {COLUMNS} FROM member m WHERE m.id = ?1"), [id], Member::read)
    }

    /// The member that a node is, in whatever fleet.
    pub fn member_of(&self, fiduciary: &Key) -> Result<Option<Member>, Error> {
        self.one(
            &format!("SELECT {COLUMNS} FROM member m WHERE m.fiduciary = ?1"),
            [fiduciary.as_slice()],
            Member::read,
        )
    }

    /// All members of a fleet by their places, the revoked among them.
    pub fn members(&self, fleet: &[u8; 32]) -> Result<Vec<Member>, Error> {
        self.some_members("1", [fleet.as_slice()])
    }

    /// Those of a fleet that are no nodes.
    pub fn peers(&self, fleet: &[u8; 32]) -> Result<Vec<Member>, Error> {
        self.some_members("m.fiduciary IS NULL AND m.revoked_ms IS NULL", [fleet.as_slice()])
    }

    /// Those of a fleet that have rules of their own.
    pub fn members_with_rules(&self, fleet: &[u8; 32]) -> Result<Vec<Member>, Error> {
        self.some_members("m.rules IS NOT NULL AND m.revoked_ms IS NULL", [fleet.as_slice()])
    }

    /// The member at a place.
    pub fn member_at(&self, fleet: &[u8; 32], host: u32) -> Result<Option<Member>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM member m WHERE m.fleet = ?1 AND m.host = ?2");
        self.one(&sql, (fleet.as_slice(), host), Member::read)
    }

    /// The peer of a name.
    pub fn member_named(&self, fleet: &[u8; 32], name: &str) -> Result<Option<Member>, Error> {
        let sql = format!("SELECT {COLUMNS} FROM member m WHERE m.fleet = ?1 AND m.name = ?2");
        self.one(&sql, (fleet.as_slice(), name), Member::read)
    }

    /// The nodes whose fingerprints begin with these digits, but no more than two.
    pub fn members_with_print(&self, fleet: &[u8; 32], digits: &str) -> Result<Vec<Member>, Error> {
        // No digit is as high as g.
        self.some_members("m.print >= ?2 AND m.print < ?2 || 'g' LIMIT 2", (fleet.as_slice(), digits))
    }

    fn some_members(&self, which: &str, key: impl Params) -> Result<Vec<Member>, Error> {
        let (which, limit) = which.split_once(" LIMIT ").map_or((which, "-1"), |split| split);
        let sql =
            format!("SELECT {COLUMNS} FROM member m WHERE m.fleet = ?1 AND {which} ORDER BY m.host LIMIT {limit}");
        self.list(&sql, key, Member::read)
    }

    /// All nodes of a fleet by their places, the revoked and the pending among them.
    pub fn node_members(&self, fleet: &[u8; 32]) -> Result<Vec<NodeMember>, Error> {
        self.some_node_members("m.fiduciary IS NOT NULL", fleet)
    }

    /// The number of the fleet's last change.
    pub fn revision(&self, fleet: &[u8; 32]) -> Result<i64, Error> {
        self.revisions(fleet).map(|(last, _)| last)
    }

    /// What has changed since this revision.
    pub fn changes(&self, fleet: &[u8; 32], since: i64) -> Result<Changes, Error> {
        let (revision, reset) = self.revisions(fleet)?;
        if revision == since {
            return Ok(Changes::None);
        }
        if reset > since {
            return Ok(Changes::All);
        }
        let sql = node_members("m.revision > ?2 AND m.fiduciary IS NOT NULL");
        let nodes = self.list(&sql, (fleet.as_slice(), since), NodeMember::read)?;
        let sql = "SELECT host FROM free_host WHERE fleet = ?1 AND revision > ?2";
        let freed = self.list(sql, (fleet.as_slice(), since), |row| row.get(0).map(Some))?;
        Ok(Changes::Some { nodes, freed, revision })
    }

    fn revisions(&self, fleet: &[u8; 32]) -> Result<(i64, i64), Error> {
        let sql = "SELECT revision, reset FROM fleet WHERE id = ?1";
        let row = self.one(sql, [fleet.as_slice()], |row| Ok(Some((row.get(0)?, row.get(1)?))))?;
        Ok(row.unwrap_or_default())
    }

    /// All nodes of a fleet that are not revoked; of one that cannot be read, what it is called.
    pub fn every_node(&self, fleet: &[u8; 32]) -> Result<Vec<Result<NodeMember, String>>, Error> {
        let sql = node_members("m.fiduciary IS NOT NULL AND m.revoked_ms IS NULL");
        self.read(|connection| {
            let read = |row: &Row<'_>| match NodeMember::read(row) {
                Ok(Some(node)) => Ok(Ok(node)),
                _ => called(row).map(Err),
            };
            connection.prepare_cached(&sql)?.query_map([fleet.as_slice()], read)?.collect()
        })
    }

    /// Live nodes for which no configuration follows, whatever the rules: one with another's key is not their doing.
    pub fn unworkable(&self, fleet: &[u8; 32]) -> Result<Vec<NodeMember>, Error> {
        let mut nodes = self.some_node_members("m.wanted IS NULL AND m.fiduciary IS NOT NULL", fleet)?;
        nodes.retain(|node| node.is_live() && !node.is_double);
        Ok(nodes)
    }

    /// Whether a configuration follows for a node that would be claimed now, with no other node about: the outer error is the
    /// registry's.
    pub fn newcomer(&self, fleet: &[u8; 32]) -> Result<Result<(), Error>, Error> {
        let Some(fleet) = self.fleet(fleet)? else { return Ok(Ok(())) };
        let follows = self.read(|connection| wanted::newcomer(connection, &fleet))?;
        Ok(follows.map_err(|why| why.error("a node that is claimed from now on")))
    }

    /// The configuration that a node should have.
    pub fn configuration(&self, fleet: &Fleet, member: &Member) -> Result<Vec<u8>, Error> {
        let made = self.read(|connection| wanted::configuration(connection, fleet, member))?;
        made.map_err(|why| why.error(&member.who.to_string()))
    }

    /// The members, besides the authority, that a node knows: those with whom its rules open a flow. Not many more than a node
    /// may have.
    pub fn others(&self, fleet: &Fleet, member: &Member) -> Result<Vec<Other>, Error> {
        self.read(|connection| wanted::others(connection, fleet, member))
    }

    fn some_node_members(&self, which: &str, fleet: &[u8; 32]) -> Result<Vec<NodeMember>, Error> {
        self.list(&node_members(which), [fleet.as_slice()], NodeMember::read)
    }
}

fn node_members(which: &str) -> String {
    format!(
        "SELECT {COLUMNS}, n.address AS address, n.interface AS interface, n.state AS state, {IS_DOUBLE} AS double \
         FROM member m \
         LEFT JOIN node n ON n.fiduciary = m.fiduciary AND n.state <> 'superseded' \
         WHERE m.fleet = ?1 AND {which} ORDER BY m.host"
    )
}

/// What a node is called whose row cannot be read.
fn called(row: &Row<'_>) -> rusqlite::Result<String> {
    let fiduciary = Key::try_from(row.get::<_, Vec<u8>>("fiduciary")?);
    let host: i64 = row.get("host")?;
    Ok(fiduciary.map_or_else(|_| format!("the node at place {host}"), |key| Who::Node(key).to_string()))
}

/// The outer `None` is damage.
fn address(row: &Row<'_>) -> rusqlite::Result<Option<Option<MeshAddress>>> {
    let (host, revoked_ms): (Option<u32>, _) = (row.get("host")?, row.get("revoked_ms")?);
    let (fleet, network): (Option<Vec<u8>>, Option<Vec<u8>>) = (row.get("its_fleet")?, row.get("network")?);
    let (Some(host), Some(fleet), Some(network)) = (host, fleet, network) else { return Ok(Some(None)) };
    let said: Option<Vec<u8>> = row.get("telemetry")?;
    let said = said.and_then(|record| stored(&record)).zip(row.get("telemetry_ms")?);
    let doubt = seen::read(row.get("doubt")?);
    let whole = || {
        let (fleet, network) = (<[u8; 32]>::try_from(fleet).ok()?, <[u8; 4]>::try_from(network).ok()?);
        let (v4, v6) = Fleet::addresses_in(&fleet, network.into(), host);
        Some(Some(MeshAddress { v4, v6, revoked_ms, said, doubt }))
    };
    Ok(whole())
}
