//! What is done with members. Each change keeps true what the members that it touches should have.

use rusqlite::{Connection, OptionalExtension, Row, params};
use wire::{Key, Mac, binding::configuration_hash, claim::parse_grant, telemetry::Telemetry};
use zerocopy::IntoBytes;

use super::{
    audit::{Event, Kind, Tag},
    file::{Registry, registry_error},
    fleet::{Fleet, Rules},
    fleets::difference,
    member::{Member, NO_PRESHARED, NewMember, Said, Who, latest},
    pack::{maybe_unpack, pack, print},
    places::{free_host, full, redeem},
    revision, seen, wanted,
};
use crate::base::{error::Error, say::plain};

impl Registry {
    /// Sets the rules of one member; `None`: those of the fleet.
    pub fn set_member_rules(&self, member: i64, rules: Option<&Rules>) -> Result<(), Error> {
        self.run(|connection| {
            wanted::changing(connection, member, || {
                let sql = "SELECT rules FROM member WHERE id = ?1";
                let before = connection.query_row(sql, [member], |row| row.get(0)).optional()?;
                let before = maybe_unpack(before.flatten()).flatten();
                let sql = "UPDATE member SET rules = ?2 WHERE id = ?1 RETURNING fleet";
                let mut statement = connection.prepare_cached(sql)?;
                let fleet = statement.query_row(params![member, rules.map(pack)], |row| row.get::<_, Vec<u8>>(0));
                let Some(fleet) = fleet.optional()? else { return Ok(()) };
                let set = about(connection, Kind::PolicySet, member)?;
                self.note(connection, set.text(Tag::What, &difference(before.as_ref(), rules)))?;
                wanted::store_flows(connection, &fleet, member, rules)
            })
        })
    }

    /// An error if a member cannot have this WireGuard key: one that is nobody's or another's. Of two with one key only one can
    /// be a peer, and what names both is no configuration. A revoked member keeps its key; further peers may be the same in
    /// several fleets.
    pub fn check_key(&self, fleet: &[u8; 32], who: &Who, key: &Key) -> Result<(), Error> {
        let owner = if crypto::dh_usable(key) { self.owner(fleet, who, key)? } else { Some("nobody".to_owned()) };
        let Some(owner) = owner else { return Ok(()) };
        // What a node says is the node's fault, what is typed the operator's.
        Err(match who {
            Who::Node(_) => Error::failed(format!(
                "{who} says that its WireGuard key is one that is {owner}'s: it was granted nothing. Find out whose node it is; \
                 others are not touched"
            )),
            Who::Peer(_) => Error::input(format!("this public key is {owner}'s: give the peer one of its own")),
        })
    }

    /// Who else has a WireGuard key.
    fn owner(&self, fleet: &[u8; 32], who: &Who, key: &Key) -> Result<Option<String>, Error> {
        let sql = "SELECT name FROM fleet WHERE authority = ?1 LIMIT 1";
        if self.one(sql, [key.as_slice()], |row| row.get::<_, String>(0).map(Some))?.is_some() {
            return Ok(Some("the authority".into()));
        }
        // By the index of each fleet.
        let sql = "SELECT m.fleet, m.fiduciary, m.name FROM fleet f CROSS JOIN member m INDEXED BY member_key WHERE m.fleet = f.id AND m.key = ?1";
        let members = self.list(sql, [key.as_slice()], |row| {
            let (its, fiduciary, name): (Vec<u8>, Option<Vec<u8>>, Option<String>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let fiduciary = fiduciary.and_then(|key| Key::try_from(key).ok());
            Ok(fiduciary.map(Who::Node).or(name.map(|name| Who::Peer(plain::name(&name)))).map(|other| (its, other)))
        })?;
        let is_here = |its: &[u8]| its == fleet.as_slice();
        let is_node = |who: &Who| matches!(who, Who::Node(_));
        let other = members.into_iter().find(|(its, other)| {
            let clash = is_here(its) || is_node(other) || is_node(who);
            clash && (other != who || !(is_here(its) || is_node(who)))
        });
        Ok(other.map(|(_, other)| other.to_string()))
    }

    /// Gives a member its place, or finds the one that it has; then it is what it says now, and no longer revoked.
    pub fn enroll(&self, fleet: &Fleet, new: &NewMember<'_>) -> Result<Member, Error> {
        self.whole(|registry| registry.enroll_checked(fleet, new, registry.host.random()?))
    }

    /// The same without a preshared key: whoever has signed the node's configuration has read all of it.
    pub fn enroll_in_the_open(&self, fleet: &Fleet, new: &NewMember<'_>) -> Result<Member, Error> {
        self.whole(|registry| {
            let member = registry.enroll_checked(fleet, new, NO_PRESHARED)?;
            registry.run(|connection| {
                wanted::changing(connection, member.id, || {
                    let sql = "UPDATE member SET preshared = ?2 WHERE id = ?1";
                    connection.prepare_cached(sql)?.execute(params![member.id, NO_PRESHARED.as_slice()]).map(|_| ())
                })
            })?;
            registry.member(member.id)?.ok_or_else(|| registry.damaged())
        })
    }

    fn enroll_checked(&self, fleet: &Fleet, new: &NewMember<'_>, preshared: [u8; 32]) -> Result<Member, Error> {
        self.check_key(&fleet.id, new.who, &new.key)?;
        let id = self.run(|connection| {
            self.insert_fleet(connection, fleet)?;
            let id = match known(connection, fleet, new.who)? {
                // Another machine: the revoked one keeps its place.
                Some((id, _)) if rename_revoked_peer(connection, id)? => {
                    let Some(host) = free_host(connection, fleet)? else { return Ok(None) };
                    insert_member(connection, fleet, host, new, &preshared)?
                }
                Some((id, its)) if its == fleet.id => id,
                elsewhere => {
                    let promised = match new.who {
                        Who::Node(fiduciary) => redeem(connection, fleet, fiduciary)?,
                        Who::Peer(_) => None,
                    };
                    let host = promised.map_or_else(|| free_host(connection, fleet), |host| Ok(Some(host)))?;
                    let Some(host) = host else { return Ok(None) };
                    if let Some((id, _)) = elsewhere {
                        remove(connection, id)?;
                    }
                    insert_member(connection, fleet, host, new, &preshared)?
                }
            };
            wanted::changing(connection, id, || {
                // Whoever was revoked knows the old preshared key.
                let sql = "UPDATE member SET key = ?2, claim_key = ?3, underlay = ?4, authority = ?5, \
                           preshared = iif(revoked_ms IS NULL, preshared, ?6), revoked_ms = NULL, \
                           seen = NULL, doubt = NULL WHERE id = ?1";
                let (key, claim_key) = (new.key.as_slice(), new.claim_key.as_ref().map(Key::as_slice));
                let (underlay, authority) = (new.underlay.as_ref().map(pack), new.authority.as_ref().map(pack));
                let mut statement = connection.prepare_cached(sql)?;
                statement.execute(params![id, key, claim_key, underlay, authority, preshared.as_slice()]).map(|_| ())
            })?;
            // A node's grant says it.
            if let Who::Peer(_) = new.who {
                self.note(connection, about(connection, Kind::Exported, id)?.bytes(Tag::Key, &new.key))?;
            }
            Ok(Some(id))
        })?;
        let id = id.ok_or_else(|| full(fleet))?;
        self.member(id)?.ok_or_else(|| self.damaged())
    }

    /// A node that is claimed with a configuration of the operator's own making has no place in the mesh.
    pub fn leave(&self, fiduciary: &Key) -> Result<(), Error> {
        self.run(|connection| match id_of(connection, fiduciary)? {
            Some(id) => remove(connection, id),
            None => Ok(()),
        })
    }

    /// Notes what a node has: what it is granted, or what it has shown to be in force.
    pub fn store_configuration(&self, member: i64, configuration: &[u8], counter: u64) -> Result<(), Error> {
        let counter = i64::try_from(counter).unwrap_or(i64::MAX);
        let shown = configuration_hash(configuration);
        self.run(|connection| {
            let sql = "SELECT configuration IS NULL FROM member WHERE id = ?1";
            let is_first =
                connection.prepare_cached(sql)?.query_row([member], |row| row.get::<_, bool>(0)).optional()?;
            let store = || {
                let sql = "UPDATE member SET configuration = ?2, configuration_counter = ?3, shown = ?4 WHERE id = ?1";
                let mut statement = connection.prepare_cached(sql)?;
                statement.execute(params![member, configuration, counter, shown.as_slice()]).map(|_| ())
            };
            // With its first a node becomes one that others may know.
            if is_first == Some(true) { wanted::changing(connection, member, store) } else { store() }
        })
    }

    /// The counter of what a node has: of its binding, or of the update since.
    pub fn configuration_counter(&self, member: i64) -> Result<u64, Error> {
        let sql = "SELECT configuration_counter FROM member WHERE id = ?1";
        let counter = self.one(sql, [member], |row| row.get::<_, Option<i64>>(0).map(Some))?.flatten();
        Ok(counter.map_or(0, i64::cast_unsigned))
    }

    /// The next counter of a command to this node, stored: Unix seconds, or more than the last and than `above`, if that is
    /// likely.
    pub fn next_command_counter(&self, member: i64, above: u32) -> Result<u32, Error> {
        let now = self.host.now_ms();
        let above = Some(i64::from(above)).filter(|above| *above <= latest(now));
        let floor = above.map_or(0, |above| above + 1).max(now / 1000);
        let next: i64 = self.run(|connection| {
            let sql = "UPDATE member SET command_counter = max(command_counter + 1, ?2) WHERE id = ?1 \
                       RETURNING command_counter";
            connection.prepare_cached(sql)?.query_row(params![member, floor], |row| row.get(0))
        })?;
        u32::try_from(next).map_err(|_| registry_error(&self.path, "has used up the counter of this node's commands"))
    }

    /// Whether a node may have obeyed a command of this counter.
    pub fn is_likely(&self, counter: u32) -> bool {
        i64::from(counter) <= latest(self.host.now_ms())
    }

    /// Notes where a node is on its link.
    pub fn store_mac(&self, fiduciary: &Key, mac: &Mac) -> Result<(), Error> {
        let sql = "UPDATE member SET mac = ?2 WHERE id = ?1";
        self.run(|connection| {
            let Some(id) = id_of(connection, fiduciary)? else { return Ok(()) };
            connection.prepare_cached(sql)?.execute(params![id, mac.as_slice()])?;
            revision::member(connection, id)
        })
    }

    /// Notes what nodes have said, all of it in one transaction.
    pub fn store_telemetry(&self, said: &[Said]) -> Result<(), Error> {
        self.run(|connection| {
            for Said { member, record, ms } in said {
                seen::store(connection, *member, record, record.as_bytes(), *ms)?;
                if confirm(connection, *member, record, *ms)? {
                    let confirmed = about(connection, Kind::Acknowledged, *member)?;
                    self.note(connection, confirmed.number(Tag::Epoch, record.epoch.get()).text(Tag::By, "telemetry"))?;
                }
            }
            Ok(())
        })
    }

    /// Notes what a node has just said.
    pub fn store_shown(&self, member: i64, record: &Telemetry) -> Result<(), Error> {
        self.store_telemetry(&[Said { member, record: *record, ms: self.host.now_ms() }])
    }

    /// What the node says from now on counts, and nothing of before.
    pub fn clear_doubt(&self, fiduciary: &Key) -> Result<(), Error> {
        let sql = "UPDATE member SET seen = NULL, doubt = NULL WHERE fiduciary = ?1";
        self.run(|connection| {
            connection.execute(sql, [fiduciary.as_slice()])?;
            self.note(connection, Event::new(Kind::Cleared).node(fiduciary))
        })
    }

    /// A node that was revoked is a member again.
    pub fn readmit(&self, fiduciary: &Key) -> Result<(), Error> {
        self.run(|connection| {
            let Some(id) = id_of(connection, fiduciary)? else { return Ok(()) };
            wanted::changing(connection, id, || {
                let sql = "UPDATE member SET revoked_ms = NULL WHERE id = ?1";
                connection.prepare_cached(sql)?.execute([id])?;
                self.note(connection, Event::new(Kind::Readmitted).node(fiduciary))
            })
        })
    }

    /// Notes that a member is none any more.
    pub fn revoke(&self, member: i64) -> Result<(), Error> {
        self.run(|connection| {
            wanted::changing(connection, member, || {
                let sql = "UPDATE member SET revoked_ms = ifnull(revoked_ms, ?2) WHERE id = ?1";
                connection.prepare_cached(sql)?.execute(params![member, self.host.now_ms()])?;
                self.note(connection, about(connection, Kind::Revoked, member)?)
            })
        })
    }
}

/// What is told of a member: who it is, and of what fleet.
fn about(connection: &Connection, kind: Kind, member: i64) -> rusqlite::Result<Event> {
    let mut statement = connection.prepare_cached("SELECT fleet, fiduciary, name FROM member WHERE id = ?1")?;
    statement.query_row([member], |row| {
        let (fleet, fiduciary, name): (Vec<u8>, Option<Vec<u8>>, Option<String>) =
            (row.get(0)?, row.get(1)?, row.get(2)?);
        let event = Event::new(kind).bytes(Tag::Fleet, &fleet);
        let event = fiduciary.iter().fold(event, |event, fiduciary| event.bytes(Tag::Node, fiduciary));
        Ok(name.iter().fold(event, |event, name| event.text(Tag::Peer, name)))
    })
}

/// A node that speaks in the mesh has heard the acknowledgement of its claim, whatever became of the process that sent it. Whether that is
/// new.
fn confirm(connection: &Connection, member: i64, record: &Telemetry, ms: i64) -> rusqlite::Result<bool> {
    let sql = "SELECT n.id, n.grant_bytes FROM member m \
               CROSS JOIN node n ON n.fiduciary = m.fiduciary AND n.state <> 'superseded' \
               WHERE m.id = ?1 AND n.state = 'paired' AND n.acknowledged = 0";
    let mut statement = connection.prepare_cached(sql)?;
    let unconfirmed = statement.query_row([member], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    let Some((node, grant)): Option<(i64, Vec<u8>)> = unconfirmed else { return Ok(false) };
    // It may be of an earlier claim.
    if parse_grant(&grant).is_none_or(|(head, _)| head.title.warrant.epoch != record.epoch) {
        return Ok(false);
    }
    let sql = "UPDATE node SET acknowledged = 1, acknowledged_ms = ?2 WHERE id = ?1";
    connection.prepare_cached(sql)?.execute(params![node, ms]).map(|changed| changed == 1)
}

/// The member that a node is.
pub(super) fn id_of(connection: &Connection, fiduciary: &Key) -> rusqlite::Result<Option<i64>> {
    let mut statement = connection.prepare_cached("SELECT id FROM member WHERE fiduciary = ?1")?;
    statement.query_row([fiduciary.as_slice()], |row| row.get(0)).optional()
}

/// A peer that is revoked gives its name up, and nothing else. Whether it is one.
fn rename_revoked_peer(connection: &Connection, id: i64) -> rusqlite::Result<bool> {
    let sql = "UPDATE member SET name = name || ' (revoked, ' || id || ')' \
               WHERE id = ?1 AND name IS NOT NULL AND revoked_ms IS NOT NULL";
    Ok(connection.prepare_cached(sql)?.execute([id])? == 1)
}

/// The member of this name in the fleet, or the one that a node is in whatever fleet; and its fleet.
fn known(connection: &Connection, fleet: &Fleet, who: &Who) -> rusqlite::Result<Option<(i64, Vec<u8>)>> {
    let read = |row: &Row<'_>| Ok((row.get(0)?, row.get(1)?));
    match who {
        Who::Node(fiduciary) => {
            let mut statement = connection.prepare_cached("SELECT id, fleet FROM member WHERE fiduciary = ?1")?;
            statement.query_row([fiduciary.as_slice()], read).optional()
        }
        Who::Peer(name) => {
            let mut statement =
                connection.prepare_cached("SELECT id, fleet FROM member WHERE fleet = ?1 AND name = ?2")?;
            statement.query_row(params![fleet.id.as_slice(), name], read).optional()
        }
    }
}

fn insert_member(
    connection: &Connection,
    fleet: &Fleet,
    host: u32,
    new: &NewMember<'_>,
    preshared: &[u8; 32],
) -> rusqlite::Result<i64> {
    let (fiduciary, name) = match new.who {
        Who::Node(fiduciary) => (Some(fiduciary), None),
        Who::Peer(name) => (None, Some(name.as_str())),
    };
    let sql = "INSERT INTO member (fleet, host, fiduciary, print, name, key, preshared) \
               VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)";
    connection.prepare_cached(sql)?.execute(params![
        fleet.id.as_slice(),
        host,
        fiduciary.map(Key::as_slice),
        fiduciary.map(print),
        name,
        new.key.as_slice(),
        preshared.as_slice(),
    ])?;
    Ok(connection.last_insert_rowid())
}

/// Its place is free again.
fn remove(connection: &Connection, id: i64) -> rusqlite::Result<()> {
    wanted::changing(connection, id, || {
        connection.prepare_cached("DELETE FROM flow WHERE member = ?1")?.execute([id])?;
        revision::member(connection, id)?;
        let sql = "INSERT OR IGNORE INTO free_host (fleet, host, revision) \
                   SELECT fleet, host, revision FROM member WHERE id = ?1";
        connection.prepare_cached(sql)?.execute([id])?;
        connection.prepare_cached("DELETE FROM member WHERE id = ?1")?.execute([id]).map(|_| ())
    })
}
