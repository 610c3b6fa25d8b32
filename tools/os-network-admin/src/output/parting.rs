//! Nodes that are let go.

use serde::{Deserialize, Serialize};
use wire::{Hex, anchor::AnchorIn, order::Release};
use zerocopy::IntoBytes;

use super::{Document, Failure, Outcome, Told, time};
use crate::registry;

/// Of `release` and `transfer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Left {
    /// `ticket` or `anchor`.
    pub to: String,
    /// What the receipts name: the hash of the next anchor; null for tickets, of which each node makes its own.
    pub next: Option<String>,
    /// So many have signed that they have gone, of so many.
    pub left: usize,
    pub of: usize,
    pub nodes: Vec<Told>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

/// To what, and the hash that receipts name.
fn next(release: &Release) -> (&'static str, Option<String>) {
    match release.anchor.read() {
        AnchorIn::Some(_) => ("anchor", Some(Hex(&release.anchor.hash()).to_string())),
        _ => ("ticket", None),
    }
}

impl Left {
    pub fn new(release: &Release, nodes: Vec<Told>) -> Self {
        let left = nodes.iter().filter(|told| matches!(told.outcome, Outcome::Proved { .. })).count();
        let (to, next) = next(release);
        Self { to: to.into(), next, left, of: nodes.len(), nodes, error: None }
    }

    fn done(&self) -> &'static str {
        if self.next.is_some() { "transferred" } else { "released" }
    }
}

impl Document for Left {
    fn text(&self) -> String {
        let line = |told: &Told| match &told.outcome {
            Outcome::Proved { .. } => format!("{}  {}: its receipt is here", told.node, self.done()),
            Outcome::NotShown => format!("{}  told, no receipt yet: run the same again", told.node),
            _ => told.text(),
        };
        let total = format!("{}: {} of {} nodes", self.done(), self.left, self.of);
        self.nodes.iter().map(line).chain([total]).collect::<Vec<_>>().join("\n")
    }
}

/// How a node of the registry leaves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Parting {
    /// `ticket` or `anchor`, as it was told; null if not from this registry.
    pub to: Option<String>,
    pub told_ms: Option<i64>,
    /// Its word that it has gone, in hex; null without.
    pub receipt: Option<String>,
    pub receipt_ms: Option<i64>,
}

impl Parting {
    pub fn new(parting: &registry::Parting) -> Self {
        let registry::Parting { told, receipt } = parting;
        Self {
            to: told.as_ref().map(|(release, _)| next(release).0.into()),
            told_ms: told.as_ref().map(|(_, ms)| *ms),
            receipt: receipt.as_ref().map(|(receipt, _)| Hex(receipt.as_bytes()).to_string()),
            receipt_ms: receipt.as_ref().map(|(_, ms)| *ms),
        }
    }

    /// In a few words.
    pub fn word(&self) -> &'static str {
        match (&self.receipt, self.to.as_deref()) {
            (Some(_), Some("anchor")) => "transferred",
            (Some(_), _) => "released",
            (None, _) => "told to leave, no receipt yet",
        }
    }

    pub(super) fn has_left(&self) -> bool {
        self.receipt.is_some()
    }

    pub(super) fn text(&self) -> String {
        let since = self.receipt_ms.or(self.told_ms).map_or_else(String::new, |ms| format!(", {}", time(ms)));
        format!("{}{since}", self.word())
    }
}
