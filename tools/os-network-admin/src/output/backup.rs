//! Backups and what became of them.

use serde::{Deserialize, Serialize};

use super::{AuditHead, Document, time};
use crate::registry::Joined;

/// Of `backup`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BackedUp {
    pub path: String,
    pub made_ms: i64,
    /// Nodes of the registry.
    pub nodes: usize,
    /// Whether it has them.
    pub mesh_key: bool,
    pub key: bool,
    /// Where the log of its registry ends: `audit verify --head` says whether a log has it.
    pub log: AuditHead,
}

impl Document for BackedUp {
    fn text(&self) -> String {
        let mesh_key = if self.mesh_key { "with the mesh key" } else { "no mesh key: there is none yet" };
        let key = if self.key {
            "with the key file, which its passphrase opens"
        } else {
            "no key file: it is not at --key; keep a copy of it elsewhere"
        };
        format!(
            "backup       {}\nregistry     {} nodes\n             {mesh_key}\n             {key}\nlog          {} entries, head {}\nkeep         it is secret: whoever \
             has it can be this mesh's authority",
            self.path, self.nodes, self.log.sequence, self.log.hash
        )
    }
}

/// What became of a part of a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The backup has none.
    None,
    /// It was not there, and is.
    Restored,
    /// It was there already, with the same key.
    Kept,
    /// What was there and what the backup has.
    Merged,
}

/// Of `restore`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Restored {
    pub made_ms: i64,
    pub registry: Part,
    pub mesh_key: Part,
    pub key: Part,
    /// What the operator should know or look at.
    pub check: Vec<String>,
}

impl Restored {
    /// Where the registry of before is lost.
    pub fn lost() -> Vec<String> {
        [
            "what was done since the backup is not known here: claim again what was claimed since, and revoke again what was \
             revoked since",
            "counters go on an hour ahead of this host's clock, those of finds a day: if the clock was further ahead once, nodes \
             stay silent; then use --counter-ahead",
            "run `os-network-admin policy push`: nodes may have other rules than the backup says",
        ]
        .map(Into::into)
        .into()
    }

    /// Where it is there.
    pub fn kept(higher: u64, log: &Joined) -> Vec<String> {
        let log = match log {
            Joined::Known | Joined::Bad(_) => None,
            Joined::Longer { entries } => Some(format!("the log has {entries} entries more, which the backup had")),
            Joined::Forked { entries, common } => Some(format!(
                "the logs here and in the backup are one up to entry {common} and then two: the one here goes on, and the \
                 {entries} entries of the other are kept beside it. Find out why there were two registries"
            )),
        };
        let mut check = vec![
            format!(
                "{higher} counters stood higher here than in the backup, and stay; whoever is revoked here stays so"
            ),
            "run `os-network-admin policy push`: nodes may have other rules than the backup says".into(),
        ];
        check.extend(log);
        check
    }
}

impl Document for Restored {
    fn text(&self) -> String {
        let part = |part| match part {
            Part::None => "the backup has none",
            Part::Restored => "restored",
            Part::Kept => "was there already, and is the same",
            Part::Merged => "was there; it has what the backup has, and its own higher counters",
        };
        let mut lines = vec![
            format!("backup       of {}", time(self.made_ms)),
            format!("registry     {}", part(self.registry)),
            format!("mesh key     {}", part(self.mesh_key)),
            format!("key file     {}", part(self.key)),
        ];
        lines.extend(self.check.iter().map(|check| format!("check        {check}")));
        lines.join("\n")
    }
}
