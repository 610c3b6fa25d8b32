//! `nodes`.

use std::net::IpAddr;

use clap::Subcommand;

use super::common::{Common, open, print};
use crate::{
    base::{
        error::{Error, Exit},
        input,
    },
    output,
    registry::{MeshAddress, Node, Registry},
};

#[derive(Subcommand)]
pub enum NodesVerb {
    /// One line a node
    List,
    /// All that is known of a node
    Show {
        /// The node: its fingerprint or the beginning of it, or an inner address
        node: String,
    },
    /// Nodes that may have been rolled back or be there twice; exit code 13 if there are any
    Check,
    /// Believe a node again: what speaks against it is forgotten
    Clear {
        /// The node: its fingerprint or the beginning of it, or an inner address
        node: String,
    },
}

pub fn run(common: &Common, command: NodesVerb) -> Result<(), Error> {
    match command {
        NodesVerb::List => list(common),
        NodesVerb::Show { node } => show(common, &open(common)?, &node),
        NodesVerb::Check => check(common),
        NodesVerb::Clear { node } => {
            let registry = open(common)?;
            registry.clear_doubt(&one(&registry, &node)?.0.title.warrant.fiduciary)?;
            show(common, &registry, &node)
        }
    }
}

fn list(common: &Common) -> Result<(), Error> {
    let registry = open(common)?;
    let nodes = registry.nodes_and_addresses()?;
    let nodes = nodes.iter().map(|(node, inner)| {
        let parting = registry.parting(node)?;
        Ok(output::Node::new(node, inner.as_ref()).parting(parting.as_ref()))
    });
    print(common, &output::Nodes { nodes: nodes.collect::<Result<_, Error>>()? })
}

fn check(common: &Common) -> Result<(), Error> {
    let mut nodes = open(common)?.nodes_and_addresses()?;
    nodes.retain(|(_, inner)| inner.as_ref().is_some_and(|inner| !inner.doubt.is_none()));
    let nodes: Vec<_> = nodes.iter().map(|(node, inner)| output::Node::new(node, inner.as_ref())).collect();
    let doubted = nodes.len();
    print(common, &output::Nodes { nodes })?;
    if doubted == 0 {
        return Ok(());
    }
    let message =
        format!("{doubted} nodes may have been rolled back or be there twice: see `os-network-admin nodes show`");
    Err(Error { told: common.json, ..Error::new(Exit::Doubted, message) })
}

fn show(common: &Common, registry: &Registry, text: &str) -> Result<(), Error> {
    let (node, inner) = one(registry, text)?;
    let parting = registry.parting(&node)?;
    print(common, &output::OneNode { node: output::Node::new(&node, inner.as_ref()).parting(parting.as_ref()) })
}

/// The one node that is meant.
fn one(registry: &Registry, text: &str) -> Result<(Node, Option<MeshAddress>), Error> {
    let mut found = named(registry, text)?;
    let message = match (found.pop(), found.pop()) {
        (Some(one), None) => return Ok(one),
        (Some(_), Some(_)) => format!("{text} names more than one node: say more of it"),
        (None, _) => format!("the registry has no node {text}: see `os-network-admin nodes list`"),
    };
    Err(Error::new(Exit::Other, message))
}

/// The nodes that may be meant, of whatever fleet; more than two are not all said.
fn named(registry: &Registry, text: &str) -> Result<Vec<(Node, Option<MeshAddress>)>, Error> {
    if let Ok(address) = text.parse::<IpAddr>() {
        let mut nodes = registry.nodes_and_addresses()?;
        let is_at = |inner: &MeshAddress| [IpAddr::V4(inner.v4), IpAddr::V6(inner.v6)].contains(&address);
        nodes.retain(|(_, inner)| inner.as_ref().is_some_and(is_at));
        return Ok(nodes);
    }
    let Some(digits) = input::beginning(text) else { return Ok(Vec::new()) };
    let with_place = |node: Node| Ok((registry.mesh_address(&node.title.warrant.fiduciary)?, node));
    let nodes = registry.nodes_with_print(&digits)?.into_iter().map(with_place);
    nodes.map(|found: Result<_, Error>| found.map(|(inner, node)| (node, inner))).collect()
}
