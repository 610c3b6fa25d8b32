//! A fleet that is handed on from one authority's registry to another's.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wire::{Fingerprint, Hex};

use super::{Document, Failure};
use crate::base::paper::Export;

/// Of `fleet export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HandedOn {
    pub path: String,
    pub fleet: String,
    pub id: String,
    /// What is signed.
    pub hash: String,
    pub nodes: usize,
}

impl HandedOn {
    pub fn new(path: &Path, export: &Export) -> Self {
        Self {
            path: path.display().to_string(),
            fleet: export.fleet.clone(),
            id: Hex(&export.id).to_string(),
            hash: Hex(&export.hash()).to_string(),
            nodes: export.nodes.len(),
        }
    }
}

impl Document for HandedOn {
    fn text(&self) -> String {
        let Self { path, fleet, id, hash, nodes } = self;
        format!("fleet        {fleet}, {id}\nnodes        {nodes}\nregistry     {hash}\nfile         {path}")
    }
}

/// Of `fleet import`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Taken {
    pub fleet: String,
    pub id: String,
    /// The number of the set that is in force.
    pub set: u64,
    /// The fingerprint of the authority who has handed it on.
    pub from: String,
    pub nodes: Vec<TakenNode>,
    /// What is otherwise here, or to be known: a line each.
    pub notes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub error: Option<Failure>,
}

/// What became of a node here.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenNode {
    pub node: String,
    /// `new`, `claimed anew`, `updated`, `same`, or `kept`: it is otherwise here, and stays so.
    pub outcome: String,
    /// Of `kept`.
    pub why: Option<String>,
}

impl TakenNode {
    pub fn new(node: Fingerprint, (outcome, why): (&str, Option<String>)) -> Self {
        Self { node: node.to_string(), outcome: outcome.into(), why }
    }
}

impl Taken {
    /// Nodes that were left as they are here.
    pub fn kept(&self) -> usize {
        self.nodes.iter().filter(|node| node.why.is_some()).count()
    }
}

impl Document for Taken {
    fn text(&self) -> String {
        let Self { fleet, id, set, from, nodes, notes, .. } = self;
        let mut lines =
            vec![format!("fleet        {fleet}, {id}"), format!("set          {set}"), format!("from         {from}")];
        for TakenNode { node, outcome, why } in nodes {
            lines.push(format!("{node}  {outcome}{}", why.iter().map(|why| format!(": {why}")).collect::<String>()));
        }
        lines.extend(notes.iter().cloned());
        lines.join("\n")
    }
}
