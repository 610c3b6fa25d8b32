//! What several people sign, each on a machine of his own: text that a person reads, and below it, in a PEM block (RFC 7468), the
//! bytes that are meant.
//!
//! A paper has one form only: whoever reads it makes it again from its bytes, and takes no other text. An approval is a paper
//! too. Several papers may stand in one file, in any order.

mod approval;
mod card;
mod change;
mod decree;
mod export;
mod fields;
mod genesis;
mod warrant;

use std::path::{Path, PathBuf};

use crypto::AnchorSecret;
use wire::{Hash, Hex, Key};

pub use self::{
    approval::{Approval, Subject},
    card::Card,
    change::{Change, Signed, name_of},
    decree::{Decided, Decree},
    export::{Export, Exported, Step, is_secret},
    genesis::{Genesis, Listed, MAX_MEMBERS, inner},
    warrant::{Proposal, Standing, place},
};
use super::{error::Error, files};

/// The longest file that is read.
const LIMIT: usize = 64 << 20;
/// What tells a file that holds a secret, and what it is.
const SECRETS: [(&str, &str); 4] = [
    ("PRIVATE KEY-----", "a private key"),
    ("PrivateKey", "a private key"),
    ("PresharedKey", "a preshared key"),
    ("\"os-network-admin key\"", "an administrator's key file"),
];

/// One kind of paper.
trait Form: Sized {
    const LABEL: &str;

    fn to_bytes(&self) -> Vec<u8>;

    /// From bytes that make sense, in their one form.
    fn parse(bytes: &[u8]) -> Result<Self, String>;

    /// What a person reads, made of the bytes alone: lines of plain characters.
    fn text(&self) -> String;

    fn write(&self) -> String {
        let block = pem_rfc7468::encode_string(Self::LABEL, pem_rfc7468::LineEnding::LF, &self.to_bytes());
        // The label is one, and memory is what ends otherwise.
        format!("{}\n{}", self.text(), block.unwrap_or_default())
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Paper {
    Warrant(Box<Proposal>),
    Genesis(Box<Genesis>),
    Record(Box<Change>),
    Order(Box<Decree>),
    Authority(Box<Card>),
    Export(Box<Export>),
    Approval(Approval),
}

impl Paper {
    fn parse(label: &str, bytes: &[u8]) -> Result<Self, String> {
        match label {
            Proposal::LABEL => Proposal::parse(bytes).map(|proposal| Self::Warrant(Box::new(proposal))),
            Genesis::LABEL => Genesis::parse(bytes).map(|genesis| Self::Genesis(Box::new(genesis))),
            Change::LABEL => Change::parse(bytes).map(|change| Self::Record(Box::new(change))),
            Decree::LABEL => Decree::parse(bytes).map(|decree| Self::Order(Box::new(decree))),
            Card::LABEL => Card::parse(bytes).map(|card| Self::Authority(Box::new(card))),
            Export::LABEL => Export::parse(bytes).map(|export| Self::Export(Box::new(export))),
            Approval::LABEL => Approval::parse(bytes).map(Self::Approval),
            label => Err(format!("it has a block {label:?}, which is none of this program's")),
        }
    }
}

impl Paper {
    /// What a person reads.
    pub fn text(&self) -> String {
        match self {
            Self::Warrant(proposal) => proposal.text(),
            Self::Genesis(genesis) => genesis.text(),
            Self::Record(change) => change.text(),
            Self::Order(decree) => decree.text(),
            Self::Authority(card) => card.text(),
            Self::Export(export) => export.text(),
            Self::Approval(approval) => approval.text(),
        }
    }
}

impl Paper {
    /// An error if it is out of date.
    pub fn current(&self, now_ms: i64) -> Result<(), String> {
        match self {
            Self::Warrant(proposal) => proposal.current(now_ms),
            Self::Order(decree) => decree.current(now_ms),
            Self::Genesis(_) | Self::Record(_) | Self::Authority(_) | Self::Export(_) | Self::Approval(_) => Ok(()),
        }
    }

    /// One person's approval; `None` if it is not his to give.
    pub fn approve(&self, key: &AnchorSecret) -> Option<Approval> {
        match self {
            Self::Warrant(proposal) => proposal.approve(key),
            Self::Genesis(genesis) => genesis.accept(key),
            Self::Record(change) => change.approve(key),
            Self::Order(decree) => decree.approve(key),
            Self::Export(export) => export.approve(key),
            Self::Authority(_) | Self::Approval(_) => None,
        }
    }

    /// Whether a key is one of those that approve.
    pub fn is_signer(&self, key: &Key) -> bool {
        match self {
            Self::Warrant(proposal) => proposal.is_signer(key),
            Self::Genesis(genesis) => genesis.authorities.iter().any(|one| one.sign == *key),
            Self::Record(change) => change.is_signer(key),
            Self::Order(decree) => decree.is_signer(key),
            Self::Export(export) => export.is_signer(key),
            Self::Authority(_) | Self::Approval(_) => false,
        }
    }

    /// What whoever signs it should know of the set that it puts in force.
    pub fn warning(&self) -> Option<String> {
        let (needed, count) = match self {
            Self::Genesis(genesis) => (usize::from(genesis.needed), genesis.authorities.len()),
            Self::Record(change) => (change.record.set.needed.into(), change.record.set.count.into()),
            Self::Warrant(_) | Self::Order(_) | Self::Authority(_) | Self::Export(_) | Self::Approval(_) => {
                return None;
            }
        };
        (needed == count && count > 1).then(|| {
            format!(
                "all {count} must sign: any one of them can block every order and its own removal, and if one key is \
                 lost, nothing can be changed any more"
            )
        })
    }

    /// What it is about, for people.
    pub fn about(&self) -> String {
        match self {
            Self::Warrant(proposal) => proposal.node().to_string(),
            Self::Genesis(genesis) => format!("the fleet {}", genesis.name),
            Self::Record(change) => format!("set {} of the fleet {}", change.record.sequence, change.fleet),
            Self::Order(decree) => format!("the order for {} {}", decree.node(), decree.what()),
            Self::Authority(card) => format!("the authority {}", name_of(&card.0)),
            Self::Export(export) => format!("the registry of the fleet {}", export.fleet),
            Self::Approval(approval) => approval.to_string(),
        }
    }
}

impl std::fmt::Display for Paper {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&match self {
            Self::Warrant(proposal) => proposal.write(),
            Self::Genesis(genesis) => genesis.write(),
            Self::Record(change) => change.write(),
            Self::Order(decree) => decree.write(),
            Self::Authority(card) => card.write(),
            Self::Export(export) => export.write(),
            Self::Approval(approval) => approval.write(),
        })
    }
}

/// All papers of a text. One that was edited is refused, and with it the text.
pub fn parse(text: &str) -> Result<Vec<Paper>, String> {
    if let Some((_, what)) = SECRETS.iter().find(|(mark, _)| text.contains(mark)) {
        return Err(format!(
            "it has {what} in it, which nobody else may see: nothing of it was taken; ask for it without"
        ));
    }
    // Mail and editors end lines in their own way.
    let text = text.replace("\r\n", "\n");
    let mut papers = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        let end = rest.find("\n-----END ").map(|at| rest[at + 1..].find('\n').map_or(rest.len(), |end| at + 1 + end));
        let Some(end) = end else {
            return Err(if rest.contains("-----BEGIN ") {
                "its last block has no end: it was cut off".into()
            } else {
                "it has text without a block to which it belongs: it is no file of this program's, or was edited".into()
            });
        };
        let (piece, after) = rest.split_at(end);
        let (label, bytes) = pem_rfc7468::decode_vec(piece.as_bytes())
            .map_err(|why| format!("its block {} cannot be read ({why}): ask for the file again", papers.len() + 1))?;
        let paper = Paper::parse(label, &bytes)?;
        if paper.to_string().trim_end() != piece {
            return Err(
                "its text does not say what its block says: one of them was edited; ask for the file again".into()
            );
        }
        papers.push(paper);
        rest = after.trim_start();
    }
    if papers.is_empty() { Err("it is empty".into()) } else { Ok(papers) }
}

/// What was gathered for one purpose: what is to be approved, and approvals of it and of nothing else.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Papers {
    pub warrants: Vec<Proposal>,
    pub foundings: Vec<Genesis>,
    pub records: Vec<Change>,
    pub orders: Vec<Decree>,
    pub authorities: Vec<Card>,
    pub exports: Vec<Export>,
    pub approvals: Vec<Approval>,
}

impl Papers {
    /// From files; `-` is standard input.
    pub fn read(files: &[PathBuf]) -> Result<Self, Error> {
        let mut all = Self::default();
        for path in files {
            for paper in parse_file(path)? {
                all.add(paper);
            }
        }
        all.check().map_err(Error::input)?;
        Ok(all)
    }

    fn add(&mut self, paper: Paper) {
        // The same again adds nothing.
        match paper {
            Paper::Warrant(proposal) if !self.warrants.contains(&proposal) => self.warrants.push(*proposal),
            Paper::Genesis(genesis) if !self.foundings.contains(&genesis) => self.foundings.push(*genesis),
            Paper::Record(change) if !self.records.contains(&change) => self.records.push(*change),
            Paper::Order(decree) if !self.orders.contains(&decree) => self.orders.push(*decree),
            Paper::Authority(card) if !self.authorities.contains(&card) => self.authorities.push(*card),
            Paper::Export(export) if !self.exports.contains(&export) => self.exports.push(*export),
            Paper::Approval(approval) if !self.approvals.contains(&approval) => self.approvals.push(approval),
            _ => {}
        }
    }

    fn check(&self) -> Result<(), String> {
        for (at, proposal) in self.warrants.iter().enumerate() {
            let rival = self.warrants[..at].iter().find(|other| other.warrant.fiduciary == proposal.warrant.fiduciary);
            if let Some(rival) = rival {
                let (one, other) = (rival.subject().hash(), proposal.subject().hash());
                return Err(format!(
                    "there are two warrants for {}, {} and {}: name one",
                    proposal.node(),
                    Hex(&one),
                    Hex(&other)
                ));
            }
        }
        for (at, decree) in self.orders.iter().enumerate() {
            if self.orders[..at].iter().any(|other| other.order.fiduciary == decree.order.fiduciary) {
                return Err(format!("there are two orders for {}: name one", decree.node()));
            }
        }
        self.approvals.iter().try_for_each(|approval| {
            let subject = approval.subject;
            let warrants = self.warrants.iter().filter(|one| one.subject() == subject).map(|one| one.check(approval));
            let foundings = self.foundings.iter().filter(|one| one.subject() == subject).map(|one| one.check(approval));
            let records = self.records.iter().filter(|one| one.subject() == subject).map(|one| one.check(approval));
            let orders = self.orders.iter().filter(|one| one.subject() == subject).map(|one| one.check(approval));
            let exports = self.exports.iter().filter(|one| one.subject() == subject).map(|one| one.check(approval));
            warrants.chain(foundings).chain(records).chain(orders).chain(exports).next().unwrap_or_else(|| {
                Err(format!(
                    "{approval} is of nothing that was named here: it belongs to another file, or what it approves was changed since"
                ))
            })
        })
    }

    pub fn approvals_of(&self, hash: &Hash) -> impl Iterator<Item = &Approval> {
        self.approvals.iter().filter(move |approval| approval.subject.hash() == *hash)
    }
}

fn parse_file(path: &Path) -> Result<Vec<Paper>, Error> {
    let refuse = |why: &str| Error::input(format!("{}: {why}", path.display()));
    let bytes = files::read(path, "file of papers", LIMIT)?;
    let text = files::text(&bytes).map_err(refuse)?;
    let text = str::from_utf8(text).map_err(|_| refuse("it is no text, and so no paper"))?;
    parse(text).map_err(|why| refuse(&why))
}

/// A line of a paper's text.
fn line(name: &str, value: impl std::fmt::Display) -> String {
    format!("{name:<13}{value}\n")
}

#[cfg(test)]
mod tests;
