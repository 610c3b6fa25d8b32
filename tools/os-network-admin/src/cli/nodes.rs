//! `nodes`.

use clap::Subcommand;
use wire::Fingerprint;

use super::common::{Common, print, registry_path};
use crate::{
    base::{
        error::{Error, Exit},
        input::{self, Print},
    },
    output,
    registry::Registry,
};

#[derive(Subcommand)]
pub enum NodesVerb {
    /// One line a node
    List,
    /// All that is known of a node
    Show {
        /// The node's fingerprint
        #[arg(value_name = "FP", value_parser = input::fingerprint)]
        fingerprint: Print,
    },
}

pub fn run(common: &Common, command: NodesVerb) -> Result<(), Error> {
    match command {
        NodesVerb::List => list(common),
        NodesVerb::Show { fingerprint } => show(common, &fingerprint),
    }
}

fn list(common: &Common) -> Result<(), Error> {
    let nodes = match Registry::open_existing(&registry_path(common)?)? {
        Some(registry) => registry.nodes_and_addresses()?,
        None => Vec::new(),
    };
    let nodes = nodes.iter().map(|(node, inner)| output::Node::new(node, inner.as_ref())).collect();
    print(common, &output::Nodes { nodes })
}

fn show(common: &Common, fingerprint: &Print) -> Result<(), Error> {
    let registry = Registry::open_existing(&registry_path(common)?)?;
    let node = registry.as_ref().map(|registry| registry.node_with(&Fingerprint(*fingerprint)));
    let (Some(registry), Some(node)) = (&registry, node.transpose()?.flatten()) else {
        let message = "the registry has no node with this fingerprint: see `os-network-admin nodes list`";
        return Err(Error::new(Exit::Other, message));
    };
    let inner = registry.mesh_address(&node.binding.fiduciary)?;
    print(common, &output::OneNode { node: output::Node::new(&node, inner.as_ref()) })
}
