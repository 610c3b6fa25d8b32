//! `nodes`.

use clap::Subcommand;
use wire::Fingerprint;

use super::common::{Common, open, print};
use crate::{
    base::{
        error::{Error, Exit},
        input::{self, Print},
    },
    output,
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
    let nodes = open(common)?.nodes_and_addresses()?;
    let nodes = nodes.iter().map(|(node, inner)| output::Node::new(node, inner.as_ref())).collect();
    print(common, &output::Nodes { nodes })
}

fn show(common: &Common, fingerprint: &Print) -> Result<(), Error> {
    let registry = open(common)?;
    let node = registry.node_with(&Fingerprint(*fingerprint))?.ok_or_else(|| {
        let message = "the registry has no node with this fingerprint: see `os-network-admin nodes list`";
        Error::new(Exit::Other, message)
    })?;
    let inner = registry.mesh_address(&node.binding.fiduciary)?;
    print(common, &output::OneNode { node: output::Node::new(&node, inner.as_ref()) })
}
