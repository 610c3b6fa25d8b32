//! An administrator with `os-network-admin` on a host of the segment, and the nodes that he claims.

use native::runner::program_dir;

use crate::{
    bed::{Bed, Node, ticket},
    host::{Host, Said},
};

pub struct Fleet {
    pub host: Host,
}

impl Fleet {
    pub fn new(bed: &Bed) -> Self {
        let mut host = Host::new(bed, "administrator");
        host.ok("umask 077; mkdir /run/admin; echo correct horse >/run/admin/passphrase");
        let mut this = Self { host };
        this.admin("init");
        this
    }

    /// Runs the program, which must succeed.
    pub fn admin(&mut self, words: &str) -> String {
        self.host.ok(&command(words))
    }

    /// Runs the program, whatever becomes of it.
    pub fn try_admin(&mut self, words: &str) -> Said {
        self.host.run(&command(words))
    }

    /// Runs the program as somebody else on the same host, with a key of his own. `third` has a registry of his own too.
    pub fn person(&mut self, name: &str, words: &str) -> String {
        let registry = if name == "third" { "registry-third/r" } else { "registry" };
        let program = program_dir().join("os-network-admin");
        let files = format!("--key /run/admin/key-{name} --passphrase-file /run/admin/passphrase");
        self.host
            .ok(&format!("{} {files} --registry /run/admin/{registry} --interface lab0 {words}", program.display()))
    }

    /// Has the administrator and the other approve this file. Returns it with both approvals.
    pub fn both(&mut self, verb: &str, file: &str) -> String {
        self.admin(&format!("{verb} {file} --out {file}-one --yes"));
        self.person("other", &format!("{verb} {file} --out {file}-two --yes"));
        format!("{file} {file}-one {file}-two")
    }

    /// Runs the program for so many seconds at most.
    pub fn try_admin_for(&mut self, seconds: u32, words: &str) -> Said {
        self.host.run(&format!("timeout {seconds} {}", command(words)))
    }

    /// Boots a node and claims it with its ticket. Returns it with its inner address.
    pub fn node(&mut self, bed: &Bed) -> (Node, String) {
        let node = bed.node(ticket());
        node.wait_phase("hold");
        let address = self.claims(&node);
        (node, address)
    }

    /// Claims a node with its ticket. Returns its inner address.
    pub fn claims(&mut self, node: &Node) -> String {
        let said = self.claim(node);
        node.wait_phase("claimed");
        let address = said.split_whitespace().find(|word| word.starts_with("10.8.0."));
        address.unwrap_or_else(|| panic!("no inner address: {said}")).to_owned()
    }

    /// Claims a node with its ticket, whatever its console says. Returns what the program says.
    pub fn claim(&mut self, node: &Node) -> String {
        let ticket = node.ticket();
        self.host.ok(&format!("umask 077; echo '{ticket}' >/run/admin/ticket"));
        self.admin("claim --ticket-file /run/admin/ticket")
    }

    pub fn ping(&mut self, address: &str) {
        self.host.until(&format!("ping -n -c 1 -W 2 {address}"));
    }
}

fn command(words: &str) -> String {
    let program = program_dir().join("os-network-admin");
    let files = "--key /run/admin/key --passphrase-file /run/admin/passphrase --registry /run/admin/registry";
    format!("{} {files} --interface lab0 {words}", program.display())
}
