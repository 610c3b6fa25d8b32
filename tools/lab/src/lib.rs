//! A lab: a segment, nodes on it, and what their consoles say. In a test's process ([`Lab::start`]), or in a
//! process of its own that runs on after `lab up` has returned ([`supervise()`]).
//!
//! A node is native, or the release image on a board under QEMU. A lab looks at either as anybody could: at its
//! frames and its console. It shares nothing with another lab.

mod boot;
mod console;
mod files;
mod machine;
mod native_node;
mod node;
mod power;
pub mod rehearse;
mod run;
mod stranger;
mod supervise;
mod up;
mod visit;

use std::{cell::Cell, path::Path};

use anyhow::{Context, Result};
use segment::switch::{self, Options};
use tempfile::TempDir;

pub use self::{
    console::Seen,
    machine::Source,
    node::{Cutter, NATIVE, Node, NodeOptions},
    power::{Power, Switch, Wipe, power},
    rehearse::{Rehearse, rehearse},
    run::{Run, run},
    stranger::{EXIT_ANSWERED, Stranger, stranger},
    supervise::supervise,
    up::{AlreadyRunning, EXIT_NOT_RUNNING, EXIT_RUNNING, NotRunning, Up, down, status, switch_of, up},
    visit::{Visit, visit},
};
/// The system that a lab's nodes run, unless it is told otherwise.
const SYSTEM: &str = include_str!("../../../system.xml");

/// A segment with nodes on it.
pub struct Lab {
    switch: switch::Switch,
    description: String,
    nodes: Cell<u32>,
    /// The directory of the switch's sockets, which is removed last.
    dir: TempDir,
}

impl Lab {
    /// A lab for a test, with its record in memory too.
    pub fn start() -> Result<Self> {
        Self::start_with(None, true, SYSTEM.to_owned())
    }

    /// A lab with its record in a file of its own.
    fn start_with(record: Option<&Path>, tap: bool, description: String) -> Result<Self> {
        // A path of a socket must be short, and that of a checkout may be long.
        let dir = tempfile::Builder::new().prefix(files::SWITCH_PREFIX).tempdir().context("no temporary directory")?;
        let record = record.map_or_else(|| dir.path().join(files::SEGMENT), Path::to_owned);
        let switch = switch::Switch::start_with(Options { dir: dir.path().to_owned(), record, tap })?;
        Ok(Self { switch, description, nodes: Cell::new(0), dir })
    }

    pub fn switch(&self) -> &switch::Switch {
        &self.switch
    }

    /// Leaves the directory with its record there when the lab ends: for a test that has failed.
    pub fn keep(&mut self) -> &Path {
        self.dir.disable_cleanup(true);
        self.dir.path()
    }

    /// Boots a node. It is called `node-N`, and so is its switch port.
    pub fn node(&self, options: NodeOptions) -> Result<Node> {
        let number = self.nodes.get() + 1;
        self.nodes.set(number);
        let name = format!("node-{number}");
        Node::boot(name, &self.description, &self.switch, options)
    }
}
