//! Keys, nodes that answer, and nodes of the registry.

use std::net::{Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};
use wire::{Fingerprint, Hex, title::Title};

use super::{Document, Failure, Life, Parting, time};
use crate::registry::{self, Accepted, AnchorKind, State};

/// Of `init` and `anchor`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyFile {
    /// What was written, for people.
    #[serde(skip)]
    pub what: &'static str,
    /// The same: what there is only one of.
    #[serde(skip)]
    pub backup: Option<&'static str>,
    pub path: String,
    pub fingerprint: String,
    pub public_key: String,
}

impl Document for KeyFile {
    fn text(&self) -> String {
        let Self { what, backup, path, fingerprint, public_key } = self;
        let backup = backup.map(|backup| format!("\nbackup       {backup}")).unwrap_or_default();
        format!("{what:<12} {path}\nfingerprint  {fingerprint}\npublic key   {public_key}{backup}")
    }
}

/// A node that answered, as its hello says it: unproven.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    pub fingerprint: String,
    pub fiduciary: String,
    pub address: String,
    pub committed: bool,
    /// What the registry has of it.
    pub registry: Option<State>,
}

impl Document for Found {
    fn text(&self) -> String {
        let state = match (self.committed, self.registry) {
            (true, Some(_)) => "committed, waits for our acknowledgement: claim it again",
            (true, None) => "committed to a binding that this registry does not know",
            (false, Some(State::Pending)) => "unclaimed; a claim was begun",
            (false, Some(State::Paired)) => "says it is unclaimed, but is paired in this registry",
            (false, None) => "unclaimed",
        };
        format!("{}  {}  {state}", self.fingerprint, self.address)
    }
}

/// Of `discover` (of [`Found`]) and `nodes list` (of [`Node`]).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Nodes<T> {
    pub nodes: Vec<T>,
}

impl Document for Nodes<Found> {
    fn text(&self) -> String {
        self.nodes.iter().map(Found::text).collect::<Vec<_>>().join("\n")
    }
}

impl Document for Nodes<Node> {
    fn text(&self) -> String {
        match self.nodes.as_slice() {
            [] => "no nodes".into(),
            nodes => nodes.iter().map(Node::line).collect::<Vec<_>>().join("\n"),
        }
    }
}

/// Of `nodes show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OneNode {
    pub node: Node,
}

impl Document for OneNode {
    fn text(&self) -> String {
        self.node.text()
    }
}

/// A node of the registry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Node {
    pub fingerprint: String,
    pub state: State,
    pub role: Option<Role>,
    pub acknowledged: bool,
    pub fiduciary: String,
    pub mesh_key: String,
    pub fleet: Fleet,
    pub epoch: u64,
    pub counter: u64,
    pub needed: u8,
    pub authorities: Vec<Authority>,
    pub configuration: Configuration,
    /// The hash of the binding.
    pub binding: String,
    /// The hash of the fork record, if the node had forked.
    pub fork: Option<String>,
    pub anchor: AnchorKind,
    pub accepted: Accepted,
    pub address: Ipv6Addr,
    pub interface: String,
    pub mesh: Option<MeshAddress>,
    /// What it has said last of itself.
    pub said: Option<Said>,
    pub doubt: Option<Doubt>,
    /// Whether and how it leaves.
    #[serde(default)]
    pub parting: Option<Parting>,
    pub rivals: Option<u32>,
    pub pending_ms: i64,
    pub paired_ms: Option<i64>,
    pub acknowledged_ms: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    #[serde(rename = "ADMIN")]
    Admin,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fleet {
    pub name: String,
    pub id: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authority {
    pub sign: String,
    pub dh: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Configuration {
    pub length: usize,
    pub hash: String,
}

/// Where a node is inside the mesh.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MeshAddress {
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub revoked_ms: Option<i64>,
}

/// What a node said last of what it has been through.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Said {
    pub heard_ms: i64,
    #[serde(flatten)]
    pub life: Life,
}

/// What speaks against a node: it may have been rolled back, or be there twice.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doubt {
    pub fallen: Option<Fallen>,
    pub twice: Option<Twice>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fallen {
    /// `boots`, `epoch`, `set` or `command_floor`.
    pub what: String,
    pub was: u64,
    pub is: u64,
    pub first_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Twice {
    pub boots: [u64; 2],
    pub first_ms: i64,
    pub last_ms: i64,
    pub times: u32,
}

impl Doubt {
    /// Null if nothing speaks against it.
    pub fn new(doubt: &registry::Doubt) -> Option<Self> {
        let fallen = |fallen: registry::Fallen| Fallen {
            what: fallen.what().into(),
            was: fallen.was,
            is: fallen.is,
            first_ms: fallen.first_ms,
        };
        let twice = |registry::Twice { boots, first_ms, last_ms, times }| Twice { boots, first_ms, last_ms, times };
        (!doubt.is_none()).then(|| Self { fallen: doubt.fallen.map(fallen), twice: doubt.twice.map(twice) })
    }

    /// In a few words.
    pub fn word(&self) -> &'static str {
        if self.twice.is_some() { "there twice?" } else { "rolled back or cloned?" }
    }

    fn texts(&self) -> Vec<String> {
        let fallen = self.fallen.as_ref().map(|Fallen { what, was, is, first_ms }| {
            let what = what.replace('_', " ");
            format!("rolled back or cloned? Its {what} fell from {was} to {is} at {}", time(*first_ms))
        });
        let twice = self.twice.as_ref().map(|Twice { boots: [one, other], first_ms, last_ms, times }| {
            let (first, last) = (time(*first_ms), time(*last_ms));
            format!("there twice? Of power-ups {one} and {other} both spoke, {times} times from {first} to {last}")
        });
        let advice = "look at the machine; `nodes clear` believes it again, `revoke` cuts it off";
        fallen.into_iter().chain(twice).chain([advice.into()]).collect()
    }
}

impl Node {
    pub fn new(node: &registry::Node, inner: Option<&registry::MeshAddress>) -> Self {
        let Title { binding, warrant, set } = &node.title;
        let said = inner.and_then(|inner| inner.said.as_ref());
        let said = said.map(|(record, heard_ms)| Said { heard_ms: *heard_ms, life: Life::new(record) });
        let doubt = inner.and_then(|inner| Doubt::new(&inner.doubt));
        let inner = inner.map(|inner| MeshAddress { v4: inner.v4, v6: inner.v6, revoked_ms: inner.revoked_ms });
        Self {
            fingerprint: Fingerprint::of(&warrant.fiduciary).to_string(),
            state: node.state,
            role: (node.state == State::Paired).then_some(Role::Admin),
            acknowledged: node.acknowledged,
            fiduciary: Hex(&warrant.fiduciary).to_string(),
            mesh_key: Hex(&binding.mesh_key).to_string(),
            fleet: Fleet { name: node.fleet.clone(), id: Hex(&warrant.fleet).to_string() },
            epoch: warrant.epoch.get(),
            counter: binding.counter.get(),
            needed: set.needed,
            authorities: (set.places().iter())
                .map(|key| Authority { sign: Hex(&key.sign).to_string(), dh: Hex(&key.dh).to_string() })
                .collect(),
            configuration: Configuration {
                length: node.configuration().len(),
                hash: Hex(&warrant.configuration).to_string(),
            },
            binding: Hex(&binding.hash()).to_string(),
            fork: (warrant.fork != [0; 32]).then(|| Hex(&warrant.fork).to_string()),
            anchor: node.anchor,
            accepted: node.accepted,
            address: node.address.into(),
            interface: node.interface.clone(),
            mesh: inner,
            said,
            doubt,
            parting: None,
            rivals: node.rivals,
            pending_ms: node.pending_ms,
            paired_ms: node.paired_ms,
            acknowledged_ms: node.acknowledged_ms,
        }
    }

    /// The same, with how it leaves.
    pub fn parting(self, parting: Option<&registry::Parting>) -> Self {
        Self { parting: parting.map(Parting::new), ..self }
    }

    /// When it was cut off; one that has left was not.
    fn revoked(&self) -> Option<i64> {
        let has_left = self.parting.as_ref().is_some_and(Parting::has_left);
        self.mesh.as_ref().and_then(|inner| inner.revoked_ms).filter(|_| !has_left)
    }

    /// One line of `nodes list`.
    fn line(&self) -> String {
        let waits = if self.state == State::Paired && !self.acknowledged { ", unconfirmed" } else { "" };
        let revoked = if self.revoked().is_some() { ", revoked" } else { "" };
        let leaves = self.parting.as_ref().map(|parting| format!(", {}", parting.word())).unwrap_or_default();
        let boots = self.said.as_ref().and_then(|said| said.life.boots);
        let boots = boots.map(|boots| format!(", boots {boots}")).unwrap_or_default();
        let restarts = self
            .said
            .as_ref()
            .map_or(0, |said| said.life.restarts.values().fold(0, |sum: u32, one| sum.saturating_add(*one)));
        let restarts = if restarts > 0 { format!(", restarts {restarts}") } else { String::new() };
        let doubt = self.doubt.as_ref().map(|doubt| format!(", {}", doubt.word())).unwrap_or_default();
        let at = self.mesh.as_ref().map_or("no mesh".into(), |inner| inner.v4.to_string());
        let since = time(self.paired_ms.unwrap_or(self.pending_ms));
        let (print, state, fleet, epoch) = (&self.fingerprint, self.state.word(), &self.fleet.name, self.epoch);
        format!(
            "{print}  {state}{waits}{revoked}{leaves}{doubt}  {at}  fleet {fleet}, epoch {epoch}{boots}{restarts}  {since}"
        )
    }

    /// All of a node, a line each.
    fn text(&self) -> String {
        let paired = self.state == State::Paired;
        let inner = |address: &dyn Fn(&MeshAddress) -> String| {
            self.mesh.as_ref().map_or("none: not in the mesh".into(), address)
        };
        let mut lines = vec![
            ("fingerprint", self.fingerprint.clone()),
            ("state", if paired { "paired, ADMIN".into() } else { self.state.word().into() }),
            ("accepted", self.accepted.word().into()),
            ("anchor", self.anchor.word().into()),
            ("identity F", self.fiduciary.clone()),
            ("mesh key W", self.mesh_key.clone()),
            ("fleet", format!("{} ({})", self.fleet.name, self.fleet.id)),
            ("epoch", self.epoch.to_string()),
            ("authorities", format!("{} of {} must sign", self.needed, self.authorities.len())),
            ("configuration", format!("{} bytes", self.configuration.length)),
            ("inner v4", inner(&|inner| inner.v4.to_string())),
            ("inner v6", inner(&|inner| inner.v6.to_string())),
            ("address", format!("{}%{}", self.address, self.interface)),
            ("pending", time(self.pending_ms)),
        ];
        lines.extend(self.revoked().map(|ms| ("revoked", time(ms))));
        lines.extend(self.parting.as_ref().map(|parting| ("leaves", parting.text())));
        lines.extend(self.parting.as_ref().and_then(|parting| Some(("receipt", parting.receipt.clone()?))));
        lines.extend(self.paired_ms.map(|ms| ("paired", time(ms))));
        lines.extend(self.acknowledged_ms.map(|ms| ("acknowledged", time(ms))));
        if paired && !self.acknowledged {
            lines.push(("acknowledged", "not confirmed: claim it again".into()));
        }
        if let Some(said) = &self.said {
            let life = &said.life;
            lines.push(("heard", time(said.heard_ms)));
            lines.push(("boots", life.boots.map_or("not known".into(), |boots| boots.to_string())));
            lines.push(("restarts", life.restarts_text()));
            lines.push(("store", life.store_text()));
        }
        lines.extend(self.doubt.iter().flat_map(Doubt::texts).map(|text| ("doubt", text)));
        lines.extend(self.rivals.map(|rivals| ("rivals", rivals_text(rivals))));
        let lines: Vec<String> = lines.into_iter().map(|(name, value)| format!("{name:<14} {value}")).collect();
        lines.join("\n")
    }
}

fn rivals_text(rivals: u32) -> String {
    match rivals {
        0 => "none".into(),
        1 => "1 valid open of another was turned away: who else holds this key?".into(),
        _ => format!("{rivals} valid opens of others were turned away: who else holds this key?"),
    }
}

/// Of `claim`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claimed {
    pub resumed: bool,
    /// The registry has it as claimed and confirmed: nothing was sent.
    #[serde(default)]
    pub already: bool,
    pub node: Node,
}

impl Document for Claimed {
    fn text(&self) -> String {
        let how = match (self.already, self.resumed) {
            (true, _) => {
                "claimed already: nothing was sent; if the node was released or its storage put back, and it shows that it \
                 is unclaimed, add --again"
            }
            (false, true) => "claimed (an earlier claim, resumed)",
            (false, false) => "claimed",
        };
        format!("{how}\n{}", self.node.text())
    }
}

/// One line of `beacon`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    Unlisted { found: Found },
    Revoked { found: Found },
    Claimed { claim: Box<Claimed> },
    Failed { found: Found, error: Failure },
}

impl Document for Event {
    fn text(&self) -> String {
        match self {
            Self::Revoked { found } => {
                let print = &found.fingerprint;
                format!("on the list but revoked, not claimed (--readmit {print}): {}", found.text())
            }
            Self::Unlisted { found } => format!("not on the list, not claimed: {}", found.text()),
            Self::Claimed { claim } => claim.text(),
            Self::Failed { found, error } => format!("{}: {}", found.fingerprint, error.message),
        }
    }
}
