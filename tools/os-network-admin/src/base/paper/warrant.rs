//! A warrant that is to be signed, and all that its hashes stand for.

use std::net::{IpAddr, Ipv6Addr, SocketAddrV6};

use crypto::AnchorSecret;
use policy::Configuration;
use wire::{
    Fingerprint, Hex, Ip, U16, U64,
    anchor::{Anchor, AnchorFile, AnchorIn},
    binding::configuration_hash,
    order::MAX_CONFIGURATION,
    set::{Authority, AuthoritySet, MAX_AUTHORITIES},
    title::{Prefix, Warrant},
};
use zerocopy::IntoBytes;

use super::{
    Form, Papers,
    approval::{Approval, Subject},
    fields::{Fields, push_text},
    line,
};
use crate::base::{host::time, key, mesh_key, say::plain};

const MAGIC: [u8; 8] = *b"GNSWARR1";
/// Of the signature that a warrant is made with before it has its place.
const FIRST: usize = 0;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposal {
    /// Unix seconds. After this nobody signs or uses it; no node knows of it.
    pub expires_s: u64,
    /// That of the node's image: who receives it, and who must sign.
    pub anchor: Anchor,
    /// Without signatures.
    pub warrant: Warrant,
    pub set: AuthoritySet,
    /// The fleet's name.
    pub fleet: String,
    pub configuration: Vec<u8>,
}

/// Who has approved a warrant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// By the anchor's signers.
    pub signed: [bool; MAX_AUTHORITIES],
    pub needed: usize,
    pub count: usize,
    /// With the signatures that there are.
    pub warrant: Warrant,
}

impl Standing {
    pub fn signatures(&self) -> usize {
        self.signed.iter().filter(|signed| **signed).count()
    }

    pub fn is_enough(&self) -> bool {
        self.signatures() >= self.needed
    }
}

impl Proposal {
    pub fn subject(&self) -> Subject {
        Subject::Warrant(self.warrant.hash())
    }

    pub fn node(&self) -> Fingerprint {
        Fingerprint::of(&self.warrant.fiduciary)
    }

    /// Those who may sign.
    fn signers(&self) -> &[wire::Key] {
        self.anchor.signers.get(..self.anchor.count.into()).unwrap_or_default()
    }

    pub fn is_signer(&self, key: &wire::Key) -> bool {
        self.signers().contains(key)
    }

    /// What is wrong with it.
    pub fn sound(&self) -> Result<(), String> {
        self.anchor.check().map_err(|why| format!("its anchor is none: {why}"))?;
        self.set.check().map_err(|why| format!("its set of authorities cannot own a node: {why}"))?;
        let Self { warrant, set, fleet, configuration, .. } = self;
        if warrant.signatures != [[0; 64]; MAX_AUTHORITIES] {
            return Err("its warrant has signatures in it: they belong in approvals".into());
        }
        if warrant.zero != [0; 5] || warrant.epoch.get() == 0 || fleet.is_empty() || fleet.len() > 64 {
            return Err("its warrant is malformed".into());
        }
        if (warrant.sequence.get() == 0) != (warrant.record == [0; 32]) {
            return Err("its set has no record, or is the fleet's first and has one".into());
        }
        if plain::name(fleet) != *fleet {
            return Err("the fleet's name has characters that cannot be seen".into());
        }
        if !crypto::sign_usable(&warrant.fiduciary) {
            return Err("its node is one that there cannot be".into());
        }
        if warrant.set != set.hash() || warrant.configuration != configuration_hash(configuration) {
            return Err("its set or its configuration is not the one that the warrant names".into());
        }
        let granted = Configuration::parse(configuration)
            .map_err(|why| format!("no node could use its configuration: {why:?}"))?;
        if granted.peers.iter().any(|peer| peer.preshared.is_some()) {
            return Err("its configuration has a preshared key in it, which nobody else may see".into());
        }
        let mut placed = *warrant;
        place(&mut placed, configuration);
        if placed == *warrant {
            Ok(())
        } else {
            Err("its configuration gives the node another place than the warrant".into())
        }
    }

    /// An error if it is out of date.
    pub fn current(&self, now_ms: i64) -> Result<(), String> {
        if u64::try_from(now_ms / 1000).unwrap_or_default() <= self.expires_s {
            return Ok(());
        }
        let (node, expired) = (self.node(), seconds(self.expires_s));
        Err(format!("the proposal of a warrant for {node} has expired, {expired}: have a new one made and signed"))
    }

    /// One of the signers' approval; `None` if the key is no signer's.
    pub fn approve(&self, key: &AnchorSecret) -> Option<Approval> {
        let signer = key.public().sign;
        self.signers().contains(&signer).then(|| {
            let signature = self.warrant.sign(key, FIRST).signatures[FIRST];
            Approval { subject: self.subject(), signer, signature }
        })
    }

    /// An error if it is no approval of this by one of those who may.
    pub fn check(&self, approval: &Approval) -> Result<(), String> {
        if approval.subject != self.subject() {
            return Err(format!("{approval} is of another warrant"));
        }
        if !self.signers().contains(&approval.signer) {
            return Err(format!("{approval} counts for nothing: the node's anchor does not name this key"));
        }
        let alone = Anchor::new(&self.anchor.reception, 1, &[approval.signer]);
        let mut warrant = self.warrant;
        warrant.signatures[FIRST] = approval.signature;
        let good = alone.ok().and_then(|alone| warrant.verify(&alone));
        good.map(|_| ()).ok_or_else(|| format!("{approval} is forged or damaged: its signature is false"))
    }

    /// How far it has come. Of approvals that are [checked](Self::check).
    pub fn standing(&self, papers: &Papers) -> Standing {
        let (mut signed, mut warrant) = ([false; MAX_AUTHORITIES], self.warrant);
        for approval in papers.approvals_of(&self.subject().hash()) {
            if let Some(place) = self.signers().iter().position(|signer| *signer == approval.signer) {
                signed[place] = true;
                warrant.signatures[place] = approval.signature;
            }
        }
        let Anchor { needed, count, .. } = self.anchor;
        Standing { signed, needed: needed.into(), count: count.into(), warrant }
    }
}

impl Form for Proposal {
    const LABEL: &str = "GENESIS WARRANT PROPOSAL";

    fn to_bytes(&self) -> Vec<u8> {
        let Self { expires_s, anchor, warrant, set, fleet, configuration } = self;
        let mut bytes = [&MAGIC[..], &expires_s.to_be_bytes()].concat();
        bytes.extend(AnchorFile::new(anchor).as_bytes());
        bytes.extend(warrant.as_bytes());
        bytes.extend(set.as_bytes());
        push_text(&mut bytes, fleet);
        bytes.extend(U16::new(configuration.len() as u16).as_bytes());
        bytes.extend(configuration);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole = || {
            let mut fields = Fields(bytes);
            let magic: [u8; 8] = fields.take()?;
            let expires_s = fields.take::<U64>()?.get();
            let file: AnchorFile = fields.take()?;
            let (warrant, set) = (fields.take()?, fields.take()?);
            let fleet = fields.text()?.to_owned();
            let length = usize::from(fields.take::<U16>()?.get());
            let AnchorIn::Some(anchor) = file.read() else { return None };
            if magic != MAGIC
                || fields.0.len() != length
                || length > MAX_CONFIGURATION
                || AnchorFile::new(&anchor) != file
            {
                return None;
            }
            Some(Self { expires_s, anchor, warrant, set, fleet, configuration: fields.0.into() })
        };
        let this = whole().ok_or("its proposal is damaged, or of another version of this program")?;
        this.sound().map(|()| this)
    }

    fn text(&self) -> String {
        let Self { expires_s, anchor, warrant, set, fleet, configuration } = self;
        let prefix =
            |prefix: &Prefix| if prefix.ip == [0; 16] { "none".into() } else { subnet(&prefix.ip, prefix.length) };
        let mut text = String::from("Proposal of a warrant: leave to own one node\n\n");
        text += &line("node", self.node());
        text += &line("F", Hex(&warrant.fiduciary));
        let fork = if warrant.fork == [0; 32] { "whichever it has".into() } else { Hex(&warrant.fork).to_string() };
        text += &line("fork record", fork);
        text += &line("epoch", warrant.epoch);
        text += &line("fleet", format_args!("{fleet}, {}", Hex(&warrant.fleet)));
        text += &line("set", format_args!("number {}, {} of {} must sign", warrant.sequence, set.needed, set.count));
        text += &line("set hash", Hex(&warrant.set));
        if warrant.record != [0; 32] {
            text += &line("by record", Hex(&warrant.record));
        }
        for (at, one) in set.places().iter().enumerate() {
            text += &line(&format!("authority {}", at + 1), Hex(&[one.sign, one.dh].concat()));
            text += &line("", where_in_mesh(one));
        }
        for address in warrant.addresses.iter().filter(|address| address.ip != [0; 16]) {
            text += &line("address", prefix(address));
        }
        text += &line("on its link", prefix(&warrant.underlay));
        if warrant.gateway != [0; 16] {
            text += &line("gateway", Ipv6Addr::from(warrant.gateway));
        }
        configured(&mut text, configuration);
        text += &line(
            "received by",
            format_args!("{}, {}", key::fingerprint(&anchor.reception), key::public_text(&anchor.reception)),
        );
        text += &line("signers", format_args!("{} of {} must approve", anchor.needed, anchor.count));
        for (at, signer) in self.signers().iter().enumerate() {
            text += &line(&format!("signer {}", at + 1), Hex(signer));
        }
        text += &line("expires", seconds(*expires_s));
        text + &line("warrant", Hex(&warrant.hash()))
    }
}

/// What a configuration says, a line each.
pub(super) fn configured(text: &mut String, configuration: &[u8]) {
    let granted = Configuration::parse(configuration).unwrap_or_default();
    let hash = configuration_hash(configuration);
    *text += &line("configured", format_args!("{} bytes, {}", configuration.len(), Hex(&hash)));
    for peer in &granted.peers {
        let allowed = peer.allowed.iter().map(|allowed| subnet(&allowed.ip, allowed.length));
        let at = peer.endpoint.map_or("which speaks first".into(), |at| socket(&at.ip, at.port));
        let role = format!("{:?}", peer.role).to_lowercase();
        let allowed = allowed.collect::<Vec<_>>().join(" ");
        let key = mesh_key::encode(&peer.key);
        *text += &line("peer", format_args!("{role} {} {at} {allowed}, every {} s", &*key, peer.keepalive_s));
    }
    if granted.rules.is_empty() {
        *text += &line("rule", "none");
    }
    for rule in &granted.rules {
        *text += &line("rule", rule);
    }
}

pub(super) fn seconds(since_1970: u64) -> String {
    time(i64::try_from(since_1970).unwrap_or(i64::MAX).saturating_mul(1000))
}

pub(super) fn where_in_mesh(one: &Authority) -> String {
    if !one.has_place() {
        return "signs, and has no place in the mesh".into();
    }
    let at = if one.port.get() == 0 { "speaks first".into() } else { socket(&one.endpoint, one.port.get()) };
    format!("in the mesh {} {}, {at}", &*mesh_key::encode(&one.mesh), Ipv6Addr::from(one.inner))
}

pub(super) fn socket(ip: &Ip, port: u16) -> String {
    SocketAddrV6::new((*ip).into(), port, 0, 0).to_string()
}

/// An address with the length of its subnet, each family in its own form.
fn subnet(ip: &Ip, length: u8) -> String {
    match (Ipv6Addr::from(*ip).to_canonical(), length.checked_sub(96)) {
        (IpAddr::V4(v4), Some(length)) => format!("{v4}/{length}"),
        _ => format!("{}/{length}", Ipv6Addr::from(*ip)),
    }
}

/// Where the node is, as its configuration says it.
pub fn place(warrant: &mut Warrant, configuration: &[u8]) {
    let Ok(configuration) = Configuration::parse(configuration) else { return };
    let prefix = |from: &policy::Prefix| Prefix { ip: from.ip, length: from.length };
    for (to, from) in warrant.addresses.iter_mut().zip(&configuration.addresses) {
        *to = prefix(from);
    }
    if let Some(underlay) = &configuration.underlay {
        warrant.underlay = prefix(&underlay.address);
        warrant.gateway = underlay.gateway.unwrap_or_default();
    }
}
