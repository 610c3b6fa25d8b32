//! What the registry of one authority has of a fleet, for the others: public halves, and what nodes and authorities have signed.
//! No secret is in it.

use std::{collections::BTreeSet, net::Ipv4Addr};

use crypto::{AnchorPublic, AnchorSecret, label};
use policy::{Configuration, MAX_RULES, Rule};
use wire::{
    Fingerprint, Hash, Hex, Ip, Key, Mac, U16, U32, U64,
    binding::{ForkRecord, PairingRecord, configuration_hash},
    order::MAX_CONFIGURATION,
    receipt::Receipt,
    record::AuthorityRecord,
    set::{Authority, AuthoritySet},
    title::{Title, Warrant},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    Form,
    approval::{Approval, Subject},
    change::name_of,
    fields::{Fields, push_text},
    genesis::{MAX_MEMBERS, inner},
    line,
    warrant::seconds,
};
use crate::base::say::plain;

const MAGIC: [u8; 8] = *b"GNSEXPO1";
/// As many records, receipts and places as are read.
const MANY: u16 = 50_000;
/// In a node's byte of what is known of it.
const ACKNOWLEDGED: u8 = 1;
const REVOKED: u8 = 2;
const OWN_RULES: u8 = 4;
const BY_TICKET: u8 = 8;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Export {
    /// The fleet's name, and its id.
    pub fleet: String,
    pub id: Hash,
    /// Unix seconds.
    pub made_s: u64,
    /// The inner IPv4 network.
    pub network: (Ipv4Addr, u8),
    /// Of nodes that have none of their own.
    pub rules: Vec<Rule>,
    /// The highest counter of bindings and orders that was used.
    pub counter: u64,
    /// Places in the mesh that are no node's, and whose they are.
    pub taken: Vec<(Key, u32)>,
    /// With their signatures, by their sequences.
    pub records: Vec<AuthorityRecord>,
    pub receipts: Vec<Receipt>,
    pub nodes: Vec<Exported>,
}

/// A node, and its signed word that it is the fleet's.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Exported {
    pub title: Title,
    pub pairing: PairingRecord,
    /// N: as the fork record has it, where there is one.
    pub claim_key: Key,
    pub fork: Option<ForkRecord>,
    /// On the link that it was claimed on.
    pub address: Ip,
    /// All zero if it is not known.
    pub mac: Mac,
    pub acknowledged: bool,
    pub revoked: bool,
    /// It was claimed with a ticket, and not for its image's anchor.
    pub by_ticket: bool,
    pub rules: Option<Vec<Rule>>,
    /// What was granted; empty if there is a secret in it.
    pub granted: Vec<u8>,
    /// What it had last, and the counter of that.
    pub counter: u64,
    pub shown: Vec<u8>,
}

/// A set of the chain, and the hash of its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Step {
    pub sequence: u64,
    pub hash: Hash,
    pub set: AuthoritySet,
}

/// Whether nobody but a node's peers may see a configuration. One that cannot be read may have anything in it.
pub fn is_secret(configuration: &[u8]) -> bool {
    let has_secret = |read: Configuration| read.peers.iter().any(|peer| peer.preshared.is_some());
    !configuration.is_empty() && Configuration::parse(configuration).map_or(true, has_secret)
}

/// The last number of a network, which is nobody's place.
fn broadcast(length: u8) -> u32 {
    u32::MAX.checked_shr(length.into()).unwrap_or_default()
}

impl Exported {
    pub fn fiduciary(&self) -> &Key {
        &self.title.warrant.fiduciary
    }

    pub fn print(&self) -> Fingerprint {
        Fingerprint::of(self.fiduciary())
    }

    /// Its place in the network of this fleet.
    pub fn host(&self, fleet: &Hash) -> Option<u32> {
        let host = |ip: &Ip| u32::from_be_bytes([ip[12], ip[13], ip[14], ip[15]]);
        let own = self.title.warrant.addresses.iter().map(|own| &own.ip);
        own.map(|ip| (ip, host(ip))).find(|(ip, host)| inner(fleet, *host).octets() == **ip).map(|(_, host)| host)
    }

    fn sound(&self, export: &Export) -> Result<(), String> {
        let Self { title, pairing, claim_key, fork, granted, shown, .. } = self;
        let Title { binding, warrant, set } = title;
        let node = self.print();
        set.check().map_err(|why| format!("the set of {node} is none: {why}"))?;
        // The node has signed the binding, which names the warrant, which names the set.
        if pairing.verify(title).is_none() || binding.warrant != warrant.hash() || warrant.set != set.hash() {
            return Err(format!("what {node} has signed is not what is said of it"));
        }
        if warrant.fleet != export.id {
            return Err(format!("{node} is another fleet's"));
        }
        if (warrant.sequence.get() == 0) != (warrant.record == [0; 32]) {
            return Err(format!("the set of {node} has no record, or is the fleet's first and has one"));
        }
        let is_its = |fork: &ForkRecord| {
            let named = warrant.fork == [0; 32] || warrant.fork == ForkRecord::hash(Some(fork));
            let keys = (fork.fiduciary, fork.claim_key, fork.mesh_key);
            named && keys == (warrant.fiduciary, *claim_key, binding.mesh_key) && fork.verify().is_some()
        };
        if !fork.as_ref().is_none_or(is_its) || !crypto::dh_usable(claim_key) || !crypto::dh_usable(&binding.mesh_key) {
            return Err(format!("the keys of {node} are not those that its fork record has, or good for nothing"));
        }
        if !self.host(&export.id).is_some_and(|host| (1..broadcast(export.network.1)).contains(&host)) {
            return Err(format!("{node} has no place in the fleet's network"));
        }
        let readable = |bytes: &[u8]| bytes.is_empty() || Configuration::parse(bytes).is_ok();
        let is_granted = granted.is_empty() || configuration_hash(granted) == warrant.configuration;
        if !is_granted || !readable(granted) || !readable(shown) {
            return Err(format!("no node could use the configuration of {node}, or it was granted another"));
        }
        if [granted, shown].iter().any(|bytes| is_secret(bytes)) {
            return Err(format!("the configuration of {node} has a preshared key in it, which nobody else may see"));
        }
        Ok(())
    }
}

impl Export {
    pub fn hash(&self) -> Hash {
        crypto::hash(label::EXPORT, &[&self.to_bytes()])
    }

    pub fn subject(&self) -> Subject {
        Subject::Export(self.hash())
    }

    /// The sets that the fleet had, the last one at the end: those that nodes were claimed for, and those of the records.
    pub fn chain(&self) -> Result<Vec<Step>, String> {
        let mut steps: Vec<Step> = Vec::new();
        for node in &self.nodes {
            let Warrant { sequence, record: hash, .. } = node.title.warrant;
            let step = Step { sequence: sequence.get(), hash, set: node.title.set };
            match steps.iter().find(|known| (known.sequence, known.hash) == (step.sequence, step.hash)) {
                Some(known) if known.set == step.set => {}
                Some(_) => return Err(format!("its nodes have signed for two sets of the number {sequence}")),
                None => steps.push(step),
            }
        }
        for record in &self.records {
            let sequence = record.sequence.get();
            let follows = |before: &&Step| record.verify(&before.set, &self.id, before.sequence, &before.hash).is_ok();
            if !steps.iter().any(|before| follows(&before)) {
                return Err(format!(
                    "its record for set {sequence} follows nothing that is here, or is not signed by enough"
                ));
            }
            let step = Step { sequence, hash: record.hash(), set: record.set };
            if !steps.contains(&step) {
                steps.push(step);
            }
        }
        steps.sort_by_key(|step| (step.sequence, step.hash));
        Ok(steps)
    }

    fn everybody(&self) -> Vec<Authority> {
        let steps = self.chain().unwrap_or_default();
        steps.iter().flat_map(|step| step.set.places().to_vec()).collect()
    }

    pub fn is_signer(&self, key: &Key) -> bool {
        self.everybody().iter().any(|one| one.sign == *key)
    }

    /// What is wrong with it.
    pub fn sound(&self) -> Result<(), String> {
        let Self { fleet, network: (network, length), nodes, receipts, rules, taken, records, .. } = self;
        if fleet.is_empty() || fleet.len() > 64 || plain::name(fleet) != *fleet {
            return Err("the fleet's name is empty, too long, or has characters that cannot be seen".into());
        }
        let broadcast = broadcast(*length);
        if !(8..=30).contains(length) || network.to_bits() & broadcast != 0 || network.is_multicast() {
            return Err("its inner network is none".into());
        }
        if nodes.is_empty() || nodes.len() > MAX_MEMBERS || rules.len() > MAX_RULES {
            return Err("it has no node, or more nodes or rules than there can be".into());
        }
        if [taken.len(), records.len(), receipts.len()].iter().any(|count| *count > MANY.into()) {
            return Err(format!("it has more than {MANY} records, receipts or places"));
        }
        nodes.iter().try_for_each(|node| node.sound(self))?;
        let (mut fiduciaries, mut keys, mut hosts) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
        for node in nodes {
            let once = fiduciaries.insert(node.fiduciary())
                && keys.insert(&node.title.binding.mesh_key)
                && hosts.insert(node.host(&self.id));
            if !once {
                return Err(format!("{}, its WireGuard key or its address is in it twice", node.print()));
            }
        }
        if taken.iter().any(|(_, host)| *host == 0 || *host >= broadcast || !hosts.insert(Some(*host))) {
            return Err("it gives one place in the mesh to two, or one that there is not".into());
        }
        let is_its = |receipt: &Receipt| receipt.fleet == self.id && fiduciaries.contains(&receipt.fiduciary);
        if !receipts.iter().all(|receipt| is_its(receipt) && receipt.verify().is_some()) {
            return Err("it has a receipt that is forged, or another node's".into());
        }
        self.chain().map(|_| ())
    }

    /// The signature of the authority who hands it on; `None` if the keys are none's.
    pub fn approve(&self, key: &AnchorSecret) -> Option<Approval> {
        let AnchorPublic { sign: signer, dh } = key.public();
        self.everybody().iter().any(|one| (one.sign, one.dh) == (signer, dh)).then(|| {
            let signature = crypto::sign(&key.sign, label::EXPORT, &[&self.to_bytes()]);
            Approval { subject: self.subject(), signer, signature }
        })
    }

    /// An error if it is not signed by one of its authorities.
    pub fn check(&self, approval: &Approval) -> Result<(), String> {
        if approval.subject != self.subject() {
            return Err(format!("{approval} is of another fleet's registry"));
        }
        if !self.is_signer(&approval.signer) {
            return Err(format!("{approval} counts for nothing: the fleet has no such authority"));
        }
        let good = crypto::verify(&approval.signer, label::EXPORT, &[&self.to_bytes()], &approval.signature);
        good.map(|_| ()).ok_or_else(|| format!("{approval} is forged or damaged: its signature is false"))
    }
}

fn push_rules(bytes: &mut Vec<u8>, rules: &[Rule]) {
    bytes.push(rules.len() as u8);
    rules.iter().for_each(|rule| push_text(bytes, &rule.to_string()));
}

fn push_long(bytes: &mut Vec<u8>, long: &[u8]) {
    bytes.extend(U16::new(long.len() as u16).as_bytes());
    bytes.extend(long);
}

fn take_rules(fields: &mut Fields<'_>) -> Option<Vec<Rule>> {
    let count: u8 = fields.take()?;
    (0..count).map(|_| fields.text()?.parse().ok()).collect()
}

fn take_long(fields: &mut Fields<'_>) -> Option<Vec<u8>> {
    let length = usize::from(fields.take::<U16>()?.get());
    let (long, rest) = fields.0.split_at_checked(length).filter(|_| length <= MAX_CONFIGURATION)?;
    fields.0 = rest;
    Some(long.into())
}

/// As many as the number before them says.
fn take_many<T>(fields: &mut Fields<'_>, mut one: impl FnMut(&mut Fields<'_>) -> Option<T>) -> Option<Vec<T>> {
    let count = fields.take::<U16>()?.get();
    (count <= MANY).then(|| (0..count).map(|_| one(fields)).collect())?
}

fn count(many: usize) -> U16 {
    U16::new(u16::try_from(many).unwrap_or(u16::MAX))
}

impl Form for Export {
    const LABEL: &str = "GENESIS FLEET REGISTRY";

    fn to_bytes(&self) -> Vec<u8> {
        let Self { fleet, id, made_s, network, rules, counter, taken, records, receipts, nodes } = self;
        let mut bytes = MAGIC.to_vec();
        push_text(&mut bytes, fleet);
        bytes.extend(id);
        bytes.extend(made_s.to_be_bytes());
        bytes.extend(network.0.octets());
        bytes.push(network.1);
        push_rules(&mut bytes, rules);
        bytes.extend(counter.to_be_bytes());
        bytes.extend(count(taken.len()).as_bytes());
        for (key, host) in taken {
            bytes.extend(key);
            bytes.extend(host.to_be_bytes());
        }
        bytes.extend(count(records.len()).as_bytes());
        records.iter().for_each(|record| bytes.extend(record.as_bytes()));
        bytes.extend(count(receipts.len()).as_bytes());
        receipts.iter().for_each(|receipt| bytes.extend(receipt.as_bytes()));
        bytes.extend(count(nodes.len()).as_bytes());
        for node in nodes {
            let Exported { title, pairing, claim_key, fork, address, mac, .. } = node;
            bytes.extend([title.as_bytes(), pairing.as_bytes(), claim_key].concat());
            bytes.extend(fork.unwrap_or_else(ForkRecord::new_zeroed).as_bytes());
            bytes.extend(address);
            bytes.extend(mac);
            let flag = |set: bool, bit| if set { bit } else { 0 };
            bytes.push(
                flag(node.acknowledged, ACKNOWLEDGED)
                    | flag(node.revoked, REVOKED)
                    | flag(node.rules.is_some(), OWN_RULES)
                    | flag(node.by_ticket, BY_TICKET),
            );
            node.rules.iter().for_each(|rules| push_rules(&mut bytes, rules));
            push_long(&mut bytes, &node.granted);
            bytes.extend(node.counter.to_be_bytes());
            push_long(&mut bytes, &node.shown);
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole = || {
            let mut fields = Fields(bytes);
            let magic: [u8; 8] = fields.take()?;
            let fleet = fields.text()?.to_owned();
            let (id, made_s): (Hash, U64) = (fields.take()?, fields.take()?);
            let (network, length): ([u8; 4], u8) = (fields.take()?, fields.take()?);
            let rules = take_rules(&mut fields)?;
            let counter = fields.take::<U64>()?.get();
            let taken = take_many(&mut fields, |fields| Some((fields.take()?, fields.take::<U32>()?.get())))?;
            let records = take_many(&mut fields, |fields| fields.take())?;
            let receipts = take_many(&mut fields, |fields| fields.take())?;
            let nodes = take_many(&mut fields, node)?;
            let (made_s, network) = (made_s.get(), (network.into(), length));
            let this = Self { fleet, id, made_s, network, rules, counter, taken, records, receipts, nodes };
            // Rules are text, of which there is one form only.
            (magic == MAGIC && fields.0.is_empty() && this.to_bytes() == bytes).then_some(this)
        };
        let this = whole().ok_or("its registry of a fleet is damaged, or of another version of this program")?;
        this.sound().map(|()| this)
    }

    fn text(&self) -> String {
        let mut text = String::from("What an authority's registry has of a fleet, for the others who own it\n\n");
        text += &line("fleet", format_args!("{}, {}", self.fleet, Hex(&self.id)));
        text += &line("as of", seconds(self.made_s));
        text += &line("network", format_args!("{}/{}", self.network.0, self.network.1));
        for rule in &self.rules {
            text += &line("rule", rule);
        }
        for Step { sequence, hash, set } in self.chain().unwrap_or_default() {
            text += &line(&format!("set {sequence}"), format_args!("{} of {} must sign", set.needed, set.count));
            if sequence > 0 {
                text += &line("  by record", Hex(&hash));
            }
            set.places().iter().for_each(|one| text += &line("  authority", name_of(one)));
        }
        text += &line("receipts", self.receipts.len());
        text += &line("places", format_args!("{} that are no node's", self.taken.len()));
        text += &line("counter", format_args!("{} of bindings and orders", self.counter));
        for node in &self.nodes {
            let Title { binding, warrant, .. } = &node.title;
            text += &line("node", format_args!("{}{}", node.print(), if node.revoked { ", revoked" } else { "" }));
            text += &line("  F", Hex(node.fiduciary()));
            text += &line("  N", Hex(&node.claim_key));
            text += &line("  W", Hex(&binding.mesh_key));
            text += &line("  epoch", format_args!("{}, claimed for set {}", warrant.epoch, warrant.sequence));
            text += &line("  address", inner(&self.id, node.host(&self.id).unwrap_or_default()));
            let signed = if node.fork.is_some() { "pairing record, fork record" } else { "pairing record" };
            text += &line("  signed", signed);
        }
        text + &line("registry", Hex(&self.hash()))
    }
}

fn node(fields: &mut Fields<'_>) -> Option<Exported> {
    let (title, pairing, claim_key): (Title, PairingRecord, Key) = (fields.take()?, fields.take()?, fields.take()?);
    let fork: ForkRecord = fields.take()?;
    let (address, mac, flags): (Ip, Mac, u8) = (fields.take()?, fields.take()?, fields.take()?);
    let has = |bit| flags & bit != 0;
    (flags <= ACKNOWLEDGED | REVOKED | OWN_RULES | BY_TICKET).then_some(())?;
    let rules = if has(OWN_RULES) { Some(take_rules(fields)?) } else { None };
    let granted = take_long(fields)?;
    let counter = fields.take::<U64>()?.get();
    Some(Exported {
        title,
        pairing,
        claim_key,
        fork: (fork != ForkRecord::new_zeroed()).then_some(fork),
        address,
        mac,
        acknowledged: has(ACKNOWLEDGED),
        revoked: has(REVOKED),
        by_ticket: has(BY_TICKET),
        rules,
        granted,
        counter,
        shown: take_long(fields)?,
    })
}
