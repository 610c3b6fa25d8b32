//! What several people sign.

use std::{collections::BTreeSet, path::Path};

use serde::{Deserialize, Serialize};
use wire::{Fingerprint, Hex, Key};

use super::{Document, time};
use crate::base::paper::{Decided, Decree, Genesis, Listed, Paper, Proposal, Standing};

/// Of `warrant propose`, `sign` and `check`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warrants {
    /// The file that was written, if one was.
    pub path: Option<String>,
    pub warrants: Vec<Warrant>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Warrant {
    /// The node's fingerprint, and F.
    pub node: String,
    pub fiduciary: String,
    pub fleet: String,
    pub epoch: u64,
    /// What is signed.
    pub hash: String,
    /// `proposed`, `approved` or `claimed`.
    pub state: String,
    pub needed: usize,
    pub expires_ms: u64,
    pub signers: Vec<Signer>,
    /// What it changes of what is in force here, and what else one should know: a line each.
    pub differences: Vec<String>,
}

/// One of those who may sign.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Signer {
    /// The Ed25519 half.
    pub key: String,
    pub approved: bool,
}

impl Warrant {
    pub fn new(proposal: &Proposal, standing: &Standing, state: &str, differences: Vec<String>) -> Self {
        let signers = proposal.anchor.signers.iter().take(standing.count).zip(standing.signed);
        Self {
            node: proposal.node().to_string(),
            fiduciary: Hex(&proposal.warrant.fiduciary).to_string(),
            fleet: proposal.fleet.clone(),
            epoch: proposal.warrant.epoch.get(),
            hash: Hex(&proposal.subject().hash()).to_string(),
            state: state.into(),
            needed: standing.needed,
            expires_ms: proposal.expires_s.saturating_mul(1000),
            signers: signers.map(|(key, approved)| Signer { key: Hex(key).to_string(), approved }).collect(),
            differences,
        }
    }

    fn text(&self) -> String {
        let Self { node, hash, state, needed, expires_ms, signers, differences, .. } = self;
        let approved = signers.iter().filter(|signer| signer.approved).count();
        let mut lines = vec![
            format!("node         {node}"),
            format!("warrant      {hash}"),
            format!("state        {state}, approved by {approved} of the {needed} who must sign"),
            format!("expires      {}", time(i64::try_from(*expires_ms).unwrap_or(i64::MAX))),
        ];
        let word = |signer: &Signer| if signer.approved { "approved   " } else { "not yet    " };
        lines.extend(signers.iter().map(|signer| format!("{}  {}", word(signer), signer.key)));
        lines.extend(differences.iter().map(|line| format!("             {line}")));
        lines.join("\n")
    }
}

impl Document for Warrants {
    fn text(&self) -> String {
        let path = self.path.iter().map(|path| format!("file         {path}"));
        path.chain(self.warrants.iter().map(Warrant::text)).collect::<Vec<_>>().join("\n\n")
    }
}

/// Of `fleet propose`, `accept`, `close`, `show` and `verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Founding {
    /// The file that was written, if one was.
    pub path: Option<String>,
    pub name: String,
    pub id: String,
    /// The hash of the authority set.
    pub set: String,
    pub needed: u8,
    /// Those who must accept.
    pub authorities: Vec<Signer>,
    /// So many nodes must be claimed for the activation.
    pub activate: u16,
    pub nodes: Vec<Member>,
    /// What whoever accepts it should know.
    pub warning: Option<String>,
    /// What the document says, for people.
    #[serde(skip)]
    pub said: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its fingerprint.
    pub node: String,
    pub site: String,
    /// As this registry knows it.
    pub claimed: bool,
}

impl Founding {
    pub fn new(path: Option<&Path>, genesis: &Genesis, accepted: &[(Key, bool)], claimed: &BTreeSet<[u8; 20]>) -> Self {
        let signer = |(key, approved): &(Key, bool)| Signer { key: Hex(key).to_string(), approved: *approved };
        let member = |one: &Listed| Member {
            node: Fingerprint(one.print).to_string(),
            site: one.site.clone(),
            claimed: claimed.contains(&one.print),
        };
        let paper = Paper::Genesis(Box::new(genesis.clone()));
        Self {
            path: path.map(|path| path.display().to_string()),
            name: genesis.name.clone(),
            id: Hex(&genesis.id()).to_string(),
            set: genesis.set().map(|set| Hex(&set.hash()).to_string()).unwrap_or_default(),
            needed: genesis.needed,
            authorities: accepted.iter().map(signer).collect(),
            activate: genesis.activate,
            nodes: genesis.members.iter().map(member).collect(),
            warning: paper.warning(),
            said: paper.text(),
        }
    }
}

impl Document for Founding {
    fn text(&self) -> String {
        let accepted = self.authorities.iter().filter(|one| one.approved).count();
        let claimed = self.nodes.iter().filter(|one| one.claimed).count();
        let word = |one: &Signer| if one.approved { "accepted   " } else { "not yet    " };
        let mut lines = vec![self.said.trim_end().to_owned(), String::new()];
        lines.extend(self.path.iter().map(|path| format!("file         {path}")));
        lines.push(format!("accepted     by {accepted} of {}, who must all", self.authorities.len()));
        lines.extend(self.authorities.iter().map(|one| format!("{}  {}", word(one), one.key)));
        lines.push(format!("claimed      {claimed} of {}, as this registry knows them", self.nodes.len()));
        lines.extend(self.warning.iter().map(|warning| format!("warning      {warning}")));
        lines.join("\n")
    }
}

/// Of `order sign` and `show`, and of what writes proposals of orders.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Orders {
    /// The file that was written, if one was.
    pub path: Option<String>,
    /// So many nodes have shown that they did it, of so many.
    pub delivered: usize,
    pub of: usize,
    pub orders: Vec<Order>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// The node's fingerprint, and F.
    pub node: String,
    pub fiduciary: String,
    pub fleet: String,
    /// In words.
    pub what: String,
    /// What is signed.
    pub hash: String,
    /// `proposed`, `approved` or `delivered`.
    pub state: String,
    pub needed: usize,
    pub expires_ms: u64,
    pub signers: Vec<Signer>,
    pub differences: Vec<String>,
}

impl Order {
    pub fn new(decree: &Decree, decided: &Decided, state: &str, differences: Vec<String>) -> Self {
        let signer = |(key, approved): &(Key, bool)| Signer { key: Hex(key).to_string(), approved: *approved };
        Self {
            node: decree.node().to_string(),
            fiduciary: Hex(&decree.order.fiduciary).to_string(),
            fleet: decree.fleet.clone(),
            what: decree.what(),
            hash: Hex(&decree.subject().hash()).to_string(),
            state: state.into(),
            needed: decided.needed,
            expires_ms: decree.expires_s.saturating_mul(1000),
            signers: decided.signed.iter().map(signer).collect(),
            differences,
        }
    }

    fn text(&self) -> String {
        let Self { node, what, hash, state, needed, expires_ms, signers, differences, .. } = self;
        let approved = signers.iter().filter(|one| one.approved).count();
        let expires = time(i64::try_from(*expires_ms).unwrap_or(i64::MAX));
        let mut lines = vec![format!("{node}  {what}: {state}, approved by {approved} of {needed}; expires {expires}")];
        lines.push(format!("             {hash}"));
        lines.extend(differences.iter().map(|line| format!("             {line}")));
        let word = |one: &Signer| if one.approved { "approved   " } else { "not yet    " };
        lines.extend(signers.iter().map(|one| format!("{}  {}", word(one), one.key)));
        lines.join("\n")
    }
}

impl Orders {
    pub fn new(path: Option<&Path>, orders: Vec<Order>) -> Self {
        let delivered = orders.iter().filter(|order| order.state == "delivered").count();
        Self { path: path.map(|path| path.display().to_string()), delivered, of: orders.len(), orders }
    }
}

impl Document for Orders {
    fn text(&self) -> String {
        let total = format!("delivered to {} of {} nodes", self.delivered, self.of);
        let path = self.path.iter().map(|path| format!("file         {path}"));
        self.orders.iter().map(Order::text).chain(path).chain([total]).collect::<Vec<_>>().join("\n")
    }
}

/// Of `order deliver`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Delivered {
    pub delivered: usize,
    pub of: usize,
}

impl Document for Delivered {
    fn text(&self) -> String {
        format!("delivered to {} of {} nodes", self.delivered, self.of)
    }
}
