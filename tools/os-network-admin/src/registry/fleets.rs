//! What is done with fleets.

use policy::Rule;
use rusqlite::{Connection, OptionalExtension, params};
use wire::Key;

use super::{
    audit::{Event, Kind, Tag},
    carry,
    file::{Registry, explain, registry_error},
    fleet::{BY_ID, Fleet, Network, Rules},
    pack::{pack, unpack},
    revision, wanted,
};
use crate::base::{
    error::Error,
    mesh_key::{self, MeshKey},
};

/// What to do for a mesh key that is gone.
const RESTORE: &str = "is not there: restore it from the backup that the registry is from; none is made in its place. If it is \
                       lost, no node of before can be reached by the mesh, and each has to be released and claimed anew";

/// How far a fleet's settings may still be changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Changed {
    Yes,
    /// Members have addresses in the old network, or know the old port.
    HasMembers,
}

impl Registry {
    /// The fleet, made with the defaults if it is new.
    pub fn make_fleet(&self, id: &[u8; 32], name: &str) -> Result<Fleet, Error> {
        self.run(|transaction| {
            carry::whole_id(transaction, id)?;
            self.insert_fleet(transaction, &Fleet::new(*id, name))
        })?;
        self.fleet(id)?.ok_or_else(|| self.damaged())
    }

    pub fn fleet(&self, id: &[u8; 32]) -> Result<Option<Fleet>, Error> {
        self.one(BY_ID, [id.as_slice()], Fleet::read)
    }

    /// All fleets of this name: another key makes another fleet of the same name.
    pub fn fleets_named(&self, name: &str) -> Result<Vec<Fleet>, Error> {
        self.list("SELECT * FROM fleet WHERE name = ?1", [name], Fleet::read)
    }

    /// The authority's key beside this registry, if there is one. It is the one that fleets name: another in its place would
    /// part this host from every node, without a word.
    pub fn mesh_key(&self) -> Result<Option<MeshKey>, Error> {
        let key = MeshKey::existing(&self.path)?;
        let named = "SELECT DISTINCT authority FROM fleet WHERE authority IS NOT NULL";
        for named in self.list(named, [], |row| Ok(Key::try_from(row.get::<_, Vec<u8>>(0)?).ok()))? {
            self.is_named(&named, key.as_ref().map(MeshKey::public))?;
        }
        Ok(key)
    }

    /// The same, made if no node can know another.
    pub fn make_mesh_key(&self) -> Result<MeshKey, Error> {
        if let Some(key) = self.mesh_key()? {
            return Ok(key);
        }
        let nodes = self.read(|connection| {
            connection.prepare("SELECT 1 FROM member WHERE fiduciary IS NOT NULL LIMIT 1")?.exists([])
        })?;
        if nodes {
            let lost = format!("has nodes, and the mesh key that they know, {}, {RESTORE}", self.mesh_key_file());
            return Err(registry_error(&self.path, &lost));
        }
        MeshKey::make(&self.path)
    }

    fn mesh_key_file(&self) -> String {
        MeshKey::path(&self.path).display().to_string()
    }

    fn is_named(&self, named: &Key, key: Option<Key>) -> Result<(), Error> {
        let text = mesh_key::encode(named);
        let (named_text, file) = (text.as_str(), self.mesh_key_file());
        let why = match key {
            Some(key) if key == *named => return Ok(()),
            Some(_) => format!(
                "names the mesh key {named_text}, and {file} is another: they are not of one backup. Restore the one that \
                 belongs to it, or name another registry; nothing was changed"
            ),
            None => format!("names the mesh key {named_text}, and {file} {RESTORE}"),
        };
        Err(registry_error(&self.path, &why))
    }

    /// Notes the authority's WireGuard key, which every node's configuration has. It is never another.
    pub fn set_authority(&self, id: &[u8; 32], key: &Key) -> Result<(), Error> {
        match self.fleet(id)?.map(|fleet| fleet.authority) {
            None => return Ok(()),
            Some(Some(named)) => return self.is_named(&named, Some(*key)),
            Some(None) => {}
        }
        self.run(|connection| {
            let sql = "UPDATE fleet SET authority = ?2 WHERE id = ?1";
            connection.prepare_cached(sql)?.execute(params![id.as_slice(), key.as_slice()])?;
            self.note(connection, Event::new(Kind::MeshKeyNamed).bytes(Tag::Fleet, id).bytes(Tag::Key, key))?;
            wanted::refresh_fleet(connection, id)
        })
    }

    /// Notes where this registry's end of the fleet's mesh is.
    pub fn set_own_place(&self, id: &[u8; 32], host: u32) -> Result<(), Error> {
        self.run(|connection| {
            connection.execute("UPDATE fleet SET host = ?2 WHERE id = ?1", params![id.as_slice(), host])?;
            wanted::refresh_fleet(connection, id)
        })
    }

    /// Sets what members rely on, while there are none.
    pub fn set_network(&self, id: &[u8; 32], network: Network, port: u16) -> Result<Changed, Error> {
        let changed = self.run(|transaction| {
            let sql = "UPDATE fleet SET network = ?2, length = ?3, port = ?4 \
                       WHERE id = ?1 AND NOT EXISTS (SELECT 1 FROM member WHERE fleet = ?1)";
            let address = network.address.octets();
            revision::all(transaction, id)?;
            let changed = transaction.execute(sql, params![id.as_slice(), address.as_slice(), network.length, port])?;
            if changed == 1 {
                let set = Event::new(Kind::NetworkSet).bytes(Tag::Fleet, id).number(Tag::Port, port.into());
                self.note(transaction, set.text(Tag::What, &network.to_string()))?;
            }
            Ok(changed)
        })?;
        Ok(if changed == 1 { Changed::Yes } else { Changed::HasMembers })
    }

    /// Sets the rules of a fleet.
    pub fn set_fleet_rules(&self, id: &[u8; 32], rules: &Rules) -> Result<(), Error> {
        self.run(|connection| {
            let sql = "SELECT rules FROM fleet WHERE id = ?1";
            let before: Option<Vec<u8>> = connection.query_row(sql, [id.as_slice()], |row| row.get(0)).optional()?;
            connection.execute("UPDATE fleet SET rules = ?2 WHERE id = ?1", params![id.as_slice(), pack(rules)])?;
            let what = before.map(|before| difference(unpack(&before).as_ref(), Some(rules))).unwrap_or_default();
            self.note(connection, Event::new(Kind::PolicySet).bytes(Tag::Fleet, id).text(Tag::What, &what))?;
            wanted::refresh_fleet(connection, id)
        })
    }

    pub(super) fn insert_fleet(&self, connection: &Connection, fleet: &Fleet) -> rusqlite::Result<()> {
        let sql = "INSERT INTO fleet (id, name, network, length, port, rules) VALUES (?1, ?2, ?3, ?4, ?5, ?6) \
                   ON CONFLICT (id) DO NOTHING";
        let Fleet { id, name, network, port, authority: _, host: _, rules } = fleet;
        let address = network.address.octets();
        let mut statement = connection.prepare_cached(sql)?;
        let new =
            statement.execute(params![id.as_slice(), name, address.as_slice(), network.length, port, pack(rules)])?;
        if new == 1 {
            self.note(connection, Event::new(Kind::FleetMade).bytes(Tag::Fleet, id).text(Tag::Name, name))?;
        }
        Ok(())
    }

    /// Rises when another connection has changed something.
    pub fn version(&self) -> Result<i64, Error> {
        let version = self.connection.pragma_query_value(None, "data_version", |row| row.get(0));
        version.map_err(|error| explain(&self.path, &error))
    }
}

/// What a change of rules is, for people; `None` are those of the fleet, or such as cannot be read.
pub(super) fn difference(before: Option<&Rules>, after: Option<&Rules>) -> String {
    let lacks = |rules: Option<&Rules>, rule: &Rule| rules.is_none_or(|rules| !rules.contains(rule));
    let rules = |rules: Option<&Rules>| rules.cloned().unwrap_or_default();
    let gone = rules(before).into_iter().filter(|rule| lacks(after, rule)).map(|rule| format!("- {rule}"));
    let new = rules(after).into_iter().filter(|rule| lacks(before, rule)).map(|rule| format!("+ {rule}"));
    let whose = match (before, after) {
        (None, Some(_)) => Some("rules of its own"),
        (Some(_), None) => Some("the fleet's rules again"),
        _ => None,
    };
    let parts: Vec<String> = whose.map(str::to_owned).into_iter().chain(gone).chain(new).collect();
    if parts.is_empty() { "nothing changed".into() } else { parts.join("; ") }
}
