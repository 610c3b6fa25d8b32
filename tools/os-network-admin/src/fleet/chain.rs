//! The sets of a fleet, one after the other: that of the claims, and those of the records since. What a node has is known from
//! its receipts.

use std::collections::BTreeMap;

use wire::{
    Hash,
    receipt::Receipt,
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    title::Title,
};

use crate::{
    base::error::Error,
    registry::{Member, Node, Registry},
};

/// A set that was or is in force, and the record that put it there; the fleet's first has none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Link {
    pub sequence: u64,
    /// [`AuthorityRecord::hash`]; all zero for the first set.
    pub hash: Hash,
    pub set: AuthoritySet,
    pub record: Option<AuthorityRecord>,
}

/// The sets of a fleet, as far as this registry knows them, the first one first.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Chain(pub Vec<Link>);

/// Two records of one sequence: more authorities lie than the set bears.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fork {
    pub sequence: u64,
    pub hashes: Vec<Hash>,
    /// Those who have signed more than one of them, as far as the records are here.
    pub both: Vec<Authority>,
}

impl Chain {
    /// From what nodes were claimed with, and the records.
    pub fn of(registry: &Registry, fleet: &Hash) -> Result<Self, Error> {
        Ok(Self::from(&registry.nodes()?, &registry.records(fleet)?, fleet))
    }

    pub(super) fn from<'n>(
        nodes: impl IntoIterator<Item = &'n Node>,
        records: &[AuthorityRecord],
        fleet: &Hash,
    ) -> Self {
        let mut links: Vec<Link> = Vec::new();
        for node in nodes {
            let Title { warrant, set, .. } = &node.title;
            let (sequence, hash) = (warrant.sequence.get(), warrant.record);
            let known = links.iter().any(|link| (link.sequence, link.hash) == (sequence, hash));
            if warrant.fleet == *fleet && node.record.is_some() && !known {
                links.push(Link { sequence, hash, set: *set, record: None });
            }
        }
        for record in records {
            let (sequence, hash) = (record.sequence.get(), record.hash());
            let link = Link { sequence, hash, set: record.set, record: Some(*record) };
            match links.iter_mut().find(|known| (known.sequence, known.hash) == (sequence, hash)) {
                Some(known) => *known = link,
                None => links.push(link),
            }
        }
        links.sort_by_key(|link| (link.sequence, link.hash));
        Self(links)
    }

    pub fn at(&self, sequence: u64, hash: &Hash) -> Option<&Link> {
        self.0.iter().find(|link| (link.sequence, &link.hash) == (sequence, hash))
    }

    /// What follows a link, if one thing does.
    pub fn after(&self, link: &Link) -> Option<&Link> {
        let follows = |next: &&Link| next.record.is_some_and(|record| record.previous == link.hash);
        let mut next = self.0.iter().filter(|next| Some(next.sequence) == link.sequence.checked_add(1)).filter(follows);
        next.next().filter(|_| next.next().is_none())
    }

    /// The last; an error if there is none, or more than one.
    pub fn head(&self) -> Result<&Link, Error> {
        let last = self.0.last().ok_or_else(|| Error::input("the fleet has no claimed node, and so no set yet"))?;
        match self.0.iter().filter(|link| link.sequence == last.sequence).count() {
            1 => Ok(last),
            _ => Err(Error::input(format!(
                "there are two records for set {}: see `os-network-admin authority status`",
                last.sequence
            ))),
        }
    }

    /// Where nodes follow different records, by these receipts and the records that are here.
    pub fn forks<'r>(&self, receipts: impl Iterator<Item = &'r Receipt>) -> Vec<Fork> {
        let mut by_sequence: BTreeMap<u64, Vec<Hash>> = BTreeMap::new();
        let here = self.0.iter().filter(|link| link.sequence > 0).map(|link| (link.sequence, link.hash));
        for (sequence, hash) in here.chain(receipts.map(|receipt| (receipt.number.get(), receipt.hash))) {
            let hashes = by_sequence.entry(sequence).or_default();
            if !hashes.contains(&hash) {
                hashes.push(hash);
            }
        }
        let forked = by_sequence.into_iter().filter(|(_, hashes)| hashes.len() > 1);
        forked
            .map(|(sequence, hashes)| {
                let signed: Vec<Vec<Authority>> =
                    hashes.iter().filter_map(|hash| Some(self.signers(self.at(sequence, hash)?))).collect();
                let twice = |one: &Authority| signed.iter().filter(|all| all.contains(one)).count() > 1;
                let mut both: Vec<Authority> = Vec::new();
                for one in signed.iter().flatten() {
                    if twice(one) && !both.contains(one) {
                        both.push(*one);
                    }
                }
                Fork { sequence, hashes, both }
            })
            .collect()
    }

    /// Those of the set before who have signed the record of this link.
    fn signers(&self, link: &Link) -> Vec<Authority> {
        let Some(record) = &link.record else { return Vec::new() };
        let before = link.sequence.checked_sub(1).and_then(|sequence| self.at(sequence, &record.previous));
        let places = before.map_or(&[][..], |before| before.set.places());
        let signed = places.iter().zip(&record.old).filter(|(_, signature)| **signature != [0; 64]);
        signed.map(|(one, _)| *one).collect()
    }
}

/// What a node has, as its receipts prove it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Has<'c> {
    Set(&'c Link),
    /// A record that is not here.
    Unknown(u64, Hash),
}

/// What the node has by its receipts and its claim.
pub fn proved<'c>(chain: &'c Chain, registry: &Registry, node: &Node) -> Result<Has<'c>, Error> {
    let warrant = &node.title.warrant;
    let receipts = registry.proved(&warrant.fleet, &warrant.fiduciary)?;
    // Of an earlier claim, or of before it: what the warrant names counts.
    let last = receipts.first().filter(|receipt| receipt.number.get() > warrant.sequence.get());
    let (sequence, hash) =
        last.map_or((warrant.sequence.get(), warrant.record), |receipt| (receipt.number.get(), receipt.hash));
    Ok(chain.at(sequence, &hash).map_or(Has::Unknown(sequence, hash), Has::Set))
}

/// What a node is told under: what it has proved, or what it says that it has, if that is here.
pub fn in_force(registry: &Registry, member: &Member, node: &Node) -> Result<Title, Error> {
    let title = node.title;
    let records = registry.records(&title.warrant.fleet)?;
    if records.is_empty() {
        return Ok(title);
    }
    let chain = Chain::from([node], &records, &title.warrant.fleet);
    let Has::Set(mut link) = proved(&chain, registry, node)? else { return Ok(title) };
    let said = member.telemetry.as_ref().map(|(record, _)| record);
    let said = said.filter(|record| record.epoch == title.warrant.epoch).map_or(0, |record| record.set.get());
    while link.sequence < said {
        let Some(next) = chain.after(link) else { break };
        link = next;
    }
    Ok(link.record.map_or(title, |record| title.under(&record)))
}
