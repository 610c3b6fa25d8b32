//! Who owns a fleet: what is proposed, what is in force, and which node has it.

use std::path::Path;

use serde::{Deserialize, Serialize};
use wire::{Hex, Key, set::Authority};

use super::{Document, Failure, Signer, Told};
use crate::base::paper::{Change, Paper, Signed, name_of};

/// Of `authority key`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityKey {
    pub path: String,
    pub authority: Named,
}

impl Document for AuthorityKey {
    fn text(&self) -> String {
        format!("authority    {}\nfile         {}", self.authority.name, self.path)
    }
}

/// An authority as people call it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Named {
    /// The fingerprint of its keys.
    pub name: String,
    /// The Ed25519 half.
    pub key: String,
    /// Whether it has a place in the mesh.
    pub in_mesh: bool,
}

impl From<&Authority> for Named {
    fn from(one: &Authority) -> Self {
        Self { name: name_of(one), key: Hex(&one.sign).to_string(), in_mesh: one.has_place() }
    }
}

/// Of `authority propose`, `resign`, `approve` and `show`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Records {
    /// The file that was written, if one was.
    pub path: Option<String>,
    pub records: Vec<Record>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub fleet: String,
    /// The number of the set that it puts in force.
    pub set: u64,
    /// What is signed.
    pub hash: String,
    /// `proposed`, `approved`, `delivered`: to some or all.
    pub state: String,
    /// Of the set before, and of the new one.
    pub needed: [usize; 2],
    pub before: Vec<Signer>,
    pub then: Vec<Signer>,
    /// What is missing, in words.
    pub lacks: Option<String>,
    /// So many nodes have proved that they have it, of so many.
    pub has: usize,
    pub of: usize,
    pub differences: Vec<String>,
    /// What whoever approves it should know.
    pub warning: Option<String>,
    /// What it says, for people.
    #[serde(skip)]
    pub said: String,
}

impl Record {
    pub fn new(change: &Change, signed: &Signed, differences: Vec<String>, (has, of): (usize, usize)) -> Self {
        let signers = |set: &[(Key, bool)]| -> Vec<Signer> {
            set.iter().map(|(key, approved)| Signer { key: Hex(key).to_string(), approved: *approved }).collect()
        };
        let lacks = signed.lacks();
        let state = match (has, &lacks) {
            (1.., _) => "delivered",
            (0, None) => "approved",
            (0, Some(_)) => "proposed",
        };
        let paper = Paper::Record(Box::new(change.clone()));
        Self {
            fleet: change.fleet.clone(),
            set: change.record.sequence.get(),
            hash: Hex(&change.record.hash()).to_string(),
            state: state.into(),
            needed: signed.needed,
            before: signers(&signed.old),
            then: signers(&signed.new),
            lacks,
            has,
            of,
            differences,
            warning: paper.warning(),
            said: paper.text(),
        }
    }

    fn text(&self) -> String {
        let mut lines = vec![self.said.trim_end().to_owned(), String::new()];
        lines.extend(self.differences.iter().map(|line| format!("             {line}")));
        for (what, needed, signers) in [("before", self.needed[0], &self.before), ("then", self.needed[1], &self.then)]
        {
            let approved = signers.iter().filter(|one| one.approved).count();
            lines.push(format!("{what:<12} approved by {approved} of {needed} who must"));
            let word = |one: &Signer| if one.approved { "approved   " } else { "not yet    " };
            lines.extend(signers.iter().map(|one| format!("{}  {}", word(one), one.key)));
        }
        let Self { state, set, has, of, .. } = self;
        lines.push(format!("state        {state}; set {set}: {has} of {of} nodes"));
        lines.extend(self.warning.iter().map(|warning| format!("warning      {warning}")));
        lines.join("\n")
    }
}

impl Document for Records {
    fn text(&self) -> String {
        let path = self.path.iter().map(|path| format!("file         {path}"));
        self.records.iter().map(Record::text).chain(path).collect::<Vec<_>>().join("\n\n")
    }
}

impl Records {
    pub fn new(path: Option<&Path>, records: Vec<Record>) -> Self {
        Self { path: path.map(|path| path.display().to_string()), records }
    }
}

/// Of `authority push`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SetPushed {
    /// The number of the set in force.
    pub set: u64,
    pub has: usize,
    pub of: usize,
    pub nodes: Vec<Told>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl Document for SetPushed {
    fn text(&self) -> String {
        let Self { set, has, of, nodes, .. } = self;
        nodes.iter().map(Told::text).chain([format!("set {set}: {has} of {of} nodes")]).collect::<Vec<_>>().join("\n")
    }
}

/// Of `authority status`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuthorityStatus {
    pub fleet: String,
    /// The number of the last set, and the hash of its record; zeros for the first.
    pub set: u64,
    pub hash: String,
    pub needed: u8,
    pub authorities: Vec<Named>,
    pub has: usize,
    pub of: usize,
    /// Those that have not proved the last set.
    pub behind: Vec<BehindSet>,
    pub forks: Vec<Fork>,
    /// Of the anchors that were named.
    pub images: Vec<ImageSigners>,
}

/// Who can still give nodes away that have an anchor in their image.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImageSigners {
    pub path: String,
    /// So many of its signers must sign, of so many.
    pub needed: u8,
    pub of: u8,
    /// Those of them who were authorities of the fleet and are none any more.
    pub left: Vec<String>,
    /// Whether enough are left to sign.
    pub enough: bool,
}

impl ImageSigners {
    fn text(&self) -> String {
        let Self { path, needed, of, left, enough } = self;
        let counted =
            format!("image        {path}: {} of its {of} signers have left the set, {needed} must sign", left.len());
        if *enough {
            return counted;
        }
        format!(
            "{counted}\n             TOO FEW ARE LEFT: give the unclaimed nodes of this image a new one, with an anchor of those who \
             are in the set now (`os-network-admin anchor`)"
        )
    }
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct BehindSet {
    pub node: String,
    pub heard_ms: Option<i64>,
    /// The number of the set that it has proved.
    pub set: u64,
    /// `behind`: it is told when it is there. `left`: nobody whom it knows is in the last set. `unknown`: it has a record that
    /// is not here.
    pub state: String,
    /// So many of these own it until it proves another set.
    pub needed: u8,
    pub owners: Vec<Named>,
    /// What to do.
    pub what: String,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fork {
    pub set: u64,
    pub hashes: Vec<String>,
    /// Who has signed more than one of the records that are here.
    pub both: Vec<Named>,
}

impl Document for AuthorityStatus {
    fn text(&self) -> String {
        let Self { fleet, set, hash, needed, authorities, has, of, behind, forks, images } = self;
        let mut lines = vec![
            format!("fleet        {fleet}"),
            format!("set          {set}, {needed} of {} must sign", authorities.len()),
            format!("record       {hash}"),
        ];
        for one in authorities {
            let place = if one.in_mesh { "in the mesh" } else { "signs" };
            lines.push(format!("authority    {}  {place}", one.name));
        }
        for Fork { set, hashes, both } in forks {
            lines.push(format!("FORK         of set {set} there are {} records: {}", hashes.len(), hashes.join(", ")));
            lines.push(match both.as_slice() {
                [] => "             one is known by the word of a node, which may lie: ask for its file".into(),
                both => {
                    let names: Vec<&str> = both.iter().map(|one| one.name.as_str()).collect();
                    format!("             both are signed by {}", names.join(", "))
                }
            });
        }
        lines.extend(images.iter().map(ImageSigners::text));
        lines.push(format!("set {set}: {has} of {of} nodes"));
        lines.extend(behind.iter().map(|node| format!("{}  has set {}: {}", node.node, node.set, node.what)));
        lines.join("\n")
    }
}
