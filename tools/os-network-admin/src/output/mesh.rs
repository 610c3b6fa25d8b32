//! The authority's end of the mesh.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddrV6};

use serde::{Deserialize, Serialize};

use super::Document;
use crate::base::say::plain;

/// Of `mesh up`, `down` and `status`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    pub up: bool,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    pub mesh: Option<Up>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub died: Option<Died>,
}

/// A mesh that is up, as its daemon says it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Up {
    pub pid: u32,
    pub fleet: String,
    pub interface: String,
    pub engine: String,
    pub since_ms: i64,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub port: u16,
    /// The longest packet inside.
    #[serde(default)]
    pub mtu: u32,
    /// Packets can pass to some node.
    #[serde(default = "yes")]
    pub works: bool,
    /// What is not as it should be, and what to do.
    #[serde(default)]
    pub trouble: Vec<String>,
    pub public_key: String,
    pub peers: Vec<Peer>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    pub fingerprint: Option<String>,
    pub public_key: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub endpoint: Option<SocketAddrV6>,
    /// Seconds since the last handshake.
    pub handshake_s: Option<u64>,
    pub received: u64,
    pub sent: u64,
    pub dropped: u64,
}

/// What a daemon that died has left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Died {
    pub pid: u32,
    pub interface: String,
    pub engine: String,
    pub since_ms: i64,
    pub log: String,
    /// Its last words.
    pub last: Option<String>,
}

/// A daemon that does not say more has no trouble that it knows of.
fn yes() -> bool {
    true
}

impl From<Up> for Status {
    fn from(mesh: Up) -> Self {
        Self { up: mesh.works, mesh: Some(mesh), died: None }
    }
}

impl From<Died> for Status {
    fn from(died: Died) -> Self {
        Self { up: false, mesh: None, died: Some(died) }
    }
}

impl Document for Status {
    fn text(&self) -> String {
        match (&self.mesh, &self.died) {
            (Some(mesh), _) => mesh.text(),
            (None, Some(died)) => format!(
                "the mesh is down: its daemon (process {}, {} on {}) has died\nlast words   {}\nlog          {}\n\
                 `os-network-admin mesh up` starts it again, `mesh down` removes what it left",
                died.pid,
                plain::name(&died.engine),
                plain::name(&died.interface),
                plain::name(died.last.as_deref().unwrap_or("none")),
                died.log,
            ),
            (None, None) => "the mesh is down".into(),
        }
    }
}

impl Up {
    fn text(&self) -> String {
        let mut lines: Vec<String> =
            self.trouble.iter().map(|why| format!("trouble      {}", plain::name(why))).collect();
        if !self.works {
            lines.insert(0, "the mesh does not work".into());
        }
        lines.extend([
            format!(
                "interface    {}, WireGuard of {}, process {}",
                plain::name(&self.interface),
                plain::name(&self.engine),
                self.pid
            ),
            format!("fleet        {}", plain::name(&self.fleet)),
            format!("addresses    {}, {}", self.v4, self.v6),
            format!("port         {}", self.port),
            format!("MTU          {}", self.mtu),
            format!("public key   {}", plain::name(&self.public_key)),
        ]);
        if self.peers.is_empty() {
            lines.push("no peers: claim a node".into());
        }
        lines.extend(self.peers.iter().map(Peer::line));
        lines.join("\n")
    }
}

impl Peer {
    fn line(&self) -> String {
        let handshake = self.handshake_s.map_or("no handshake".into(), |ago| format!("handshake {ago} s ago"));
        let at = self.endpoint.map_or("nowhere yet".into(), |at| at.to_string());
        let name = plain::name(self.fingerprint.as_deref().unwrap_or(&self.public_key));
        let Self { v4, received, sent, dropped, .. } = self;
        format!("{name}  {v4}  at {at}  {handshake}  received {received}, sent {sent}, dropped {dropped}")
    }
}

/// Of `mesh up --foreground`, when it is up.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ready {
    pub up: bool,
    pub interface: String,
    pub engine: String,
    pub pid: u32,
}

impl Document for Ready {
    fn text(&self) -> String {
        format!("up: {}, WireGuard of {}", self.interface, self.engine)
    }
}

/// Of `mesh down`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Down {
    pub up: bool,
    /// For people.
    #[serde(skip)]
    pub how: &'static str,
}

impl Document for Down {
    fn text(&self) -> String {
        self.how.into()
    }
}
