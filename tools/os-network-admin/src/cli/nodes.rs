//! `nodes`.

use clap::Subcommand;
use serde_json::json;
use wire::Fingerprint;

use super::{
    common::{Common, print, registry_path},
    output,
};
use crate::{
    base::{
        error::{Error, Exit},
        input::{self, Print},
    },
    registry::{Inner, Node, Registry},
};

#[derive(Subcommand)]
pub enum Nodes {
    /// One line a node
    List,
    /// All that is known of a node
    Show {
        /// The node's fingerprint
        #[arg(value_name = "FP", value_parser = input::fingerprint)]
        fingerprint: Print,
    },
}

pub fn run(common: &Common, command: Nodes) -> Result<(), Error> {
    match command {
        Nodes::List => list(common),
        Nodes::Show { fingerprint } => show(common, &fingerprint),
    }
}

fn list(common: &Common) -> Result<(), Error> {
    let nodes = known(common)?;
    let json = || json!({"nodes": nodes.iter().map(|(node, inner)| output::node_json(node, inner.as_ref())).collect::<Vec<_>>()});
    let text = || match nodes.as_slice() {
        [] => "no nodes".into(),
        nodes => {
            nodes.iter().map(|(node, inner)| output::node_line(node, inner.as_ref())).collect::<Vec<_>>().join("\n")
        }
    };
    print(common, json, text)
}

fn show(common: &Common, fingerprint: &Print) -> Result<(), Error> {
    let nodes = known(common)?;
    let node = nodes.into_iter().find(|(node, _)| Fingerprint::of(&node.binding.fiduciary).0 == *fingerprint);
    let (node, inner) = node.ok_or_else(|| {
        Error::new(Exit::Other, "the registry has no node with this fingerprint: see `os-network-admin nodes list`")
    })?;
    let inner = inner.as_ref();
    print(common, || json!({"node": output::node_json(&node, inner)}), || output::node_text(&node, inner))
}

/// The registry's nodes and where they are in the mesh.
fn known(common: &Common) -> Result<Vec<(Node, Option<Inner>)>, Error> {
    let Some(registry) = Registry::open_existing(&registry_path(common)?)? else { return Ok(Vec::new()) };
    let nodes = registry.nodes()?.into_iter();
    nodes.map(|node| registry.place(&node.binding.fiduciary).map(|inner| (node, inner))).collect()
}
