//! The fleet genesis document: all that a fleet begins with. Its hash is the fleet's id, and each authority accepts it with its own
//! key: that it can sign shows that it has the key.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, Ipv6Addr},
};

use crypto::{AnchorPublic, AnchorSecret, label};
use policy::{MAX_RULES, Rule};
use wire::{
    Fingerprint, Hash, Hex, Ip, Key, MESH_PORT, U16,
    set::{Authority, AuthoritySet, MAX_AUTHORITIES},
};

use super::{
    Form, Papers,
    approval::{Approval, Subject},
    fields::{Fields, push_text},
    line,
    warrant::where_in_mesh,
};
use crate::base::say::plain;

const MAGIC: [u8; 8] = *b"GNSFLEE1";
/// As many nodes as a document has.
pub const MAX_MEMBERS: usize = 10_000;

/// A node of a document.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Listed {
    /// Its fingerprint.
    pub print: [u8; 20],
    /// F; all zero if only the fingerprint was known.
    pub fiduciary: Key,
    /// The hash of its fork record; all zero if it was not known.
    pub fork: Hash,
    /// Where it is to be, for people; may be empty.
    pub site: String,
}

impl Listed {
    pub fn new(fiduciary: &Key, site: &str) -> Self {
        Self { fiduciary: *fiduciary, ..Self::of_print(Fingerprint::of(fiduciary).0, site) }
    }

    pub fn of_print(print: [u8; 20], site: &str) -> Self {
        Self { print, fiduciary: [0; 32], fork: [0; 32], site: site.into() }
    }
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Genesis {
    pub name: String,
    /// Drawn, so that no two foundings are one.
    pub nonce: [u8; 16],
    /// So many of the authorities must sign.
    pub needed: u8,
    /// Those with a place in the mesh without their inner addresses, which follow from the fleet's id.
    pub authorities: Vec<Authority>,
    /// The inner IPv4 network.
    pub network: (Ipv4Addr, u8),
    /// The policy that nodes have from the activation on.
    pub rules: Vec<Rule>,
    /// So many members must be paired for it.
    pub activate: u16,
    pub members: Vec<Listed>,
}

/// A member's IPv6 address inside the mesh: fd, and the first seven bytes of the fleet's id, a unique local /64.
pub fn inner(fleet: &Hash, host: u32) -> Ipv6Addr {
    let mut v6 = [0; 16];
    v6[0] = 0xfd;
    v6[1..8].copy_from_slice(&fleet[..7]);
    v6[12..].copy_from_slice(&host.to_be_bytes());
    v6.into()
}

impl Genesis {
    /// The fleet's id.
    pub fn id(&self) -> Hash {
        crypto::hash(label::FLEET, &[&self.to_bytes()])
    }

    pub fn subject(&self) -> Subject {
        Subject::Fleet(self.id())
    }

    /// Who owns its nodes.
    pub fn set(&self) -> Result<AuthoritySet, String> {
        let id = self.id();
        let mut authorities = self.authorities.clone();
        for (one, host) in authorities.iter_mut().zip(1..).filter(|(one, _)| one.mesh != [0; 32]) {
            one.inner = inner(&id, host).octets();
        }
        AuthoritySet::new(self.needed, &authorities)
            .map_err(|why| format!("the set of authorities cannot own a node: {why}"))
    }

    /// The member of this fingerprint.
    pub fn member(&self, print: &[u8; 20]) -> Option<&Listed> {
        self.members.iter().find(|member| member.print == *print)
    }

    /// What is wrong with it.
    pub fn sound(&self) -> Result<(), String> {
        let plain_name = |name: &str| name.len() <= 64 && plain::name(name) == *name && name.trim() == name;
        if self.name.is_empty() || !plain_name(&self.name) || !self.members.iter().all(|one| plain_name(&one.site)) {
            return Err("names and sites have at most 64 bytes, and no characters that cannot be seen".into());
        }
        if self.authorities.iter().any(|one| one.inner != [0; 16]) {
            return Err("its authorities have inner addresses, which follow from the document".into());
        }
        self.set()?;
        let (network, length) = self.network;
        let broadcast = u32::MAX.checked_shr(length.into()).unwrap_or_default();
        if !(8..=30).contains(&length) || network.to_bits() & broadcast != 0 || network.is_multicast() {
            return Err("its inner network is none".into());
        }
        let rules: BTreeSet<String> = self.rules.iter().map(ToString::to_string).collect();
        if self.rules.len() > MAX_RULES || rules.len() < self.rules.len() {
            return Err("its policy has a rule twice, or more than there can be".into());
        }
        let members = self.members.len();
        if members == 0 || members > MAX_MEMBERS || members + self.authorities.len() >= broadcast as usize {
            return Err(format!("it has {members} nodes: there must be one, and room for all in the network"));
        }
        let mut prints = BTreeSet::new();
        for member in &self.members {
            let print = Fingerprint(member.print);
            if !prints.insert(member.print) {
                return Err(format!("the node {print} is in it twice"));
            }
            let is_its = member.fiduciary == [0; 32] || Fingerprint::of(&member.fiduciary).0 == member.print;
            if !is_its || (member.fiduciary != [0; 32] && !crypto::sign_usable(&member.fiduciary)) {
                return Err(format!("the node {print} is named with a key that is not its own"));
            }
        }
        if usize::from(self.activate) > members || self.activate == 0 {
            return Err(format!("{} paired nodes of {members} cannot activate it", self.activate));
        }
        Ok(())
    }

    /// An authority's acceptance; `None` if the key is none's.
    pub fn accept(&self, key: &AnchorSecret) -> Option<Approval> {
        let AnchorPublic { sign: signer, dh } = key.public();
        self.authorities.iter().any(|one| (one.sign, one.dh) == (signer, dh)).then(|| {
            let signature = crypto::sign(&key.sign, label::FLEET, &[&self.to_bytes()]);
            Approval { subject: self.subject(), signer, signature }
        })
    }

    /// An error if it is no acceptance of this by one of its authorities.
    pub fn check(&self, approval: &Approval) -> Result<(), String> {
        if approval.subject != self.subject() {
            return Err(format!("{approval} is of another fleet"));
        }
        if !self.authorities.iter().any(|one| one.sign == approval.signer) {
            return Err(format!("{approval} counts for nothing: the document does not name this key"));
        }
        let good = crypto::verify(&approval.signer, label::FLEET, &[&self.to_bytes()], &approval.signature);
        good.map(|_| ()).ok_or_else(|| format!("{approval} is forged or damaged: its signature is false"))
    }

    /// Which of its authorities have accepted it. Of approvals that are [checked](Self::check).
    pub fn accepted(&self, papers: &Papers) -> Vec<(Key, bool)> {
        let id = self.id();
        let has = |key: &Key| papers.approvals_of(&id).any(|approval| approval.signer == *key);
        self.authorities.iter().map(|one| (one.sign, has(&one.sign))).collect()
    }
}

impl Form for Genesis {
    const LABEL: &str = "GENESIS FLEET";

    fn to_bytes(&self) -> Vec<u8> {
        let Self { name, nonce, needed, authorities, network, rules, activate, members } = self;
        let mut bytes = MAGIC.to_vec();
        push_text(&mut bytes, name);
        bytes.extend(nonce);
        bytes.extend([*needed, authorities.len() as u8]);
        for Authority { sign, dh, mesh, endpoint, port, .. } in authorities {
            bytes.extend([sign, dh, mesh].into_iter().flatten());
            bytes.extend(endpoint);
            bytes.extend(port.get().to_be_bytes());
        }
        bytes.extend(network.0.octets());
        bytes.extend([network.1, rules.len() as u8]);
        rules.iter().for_each(|rule| push_text(&mut bytes, &rule.to_string()));
        bytes.extend(activate.to_be_bytes());
        bytes.extend((members.len() as u16).to_be_bytes());
        for Listed { print, fiduciary, fork, site } in members {
            bytes.extend(print);
            bytes.extend([fiduciary, fork].into_iter().flatten());
            push_text(&mut bytes, site);
        }
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole = || {
            let mut fields = Fields(bytes);
            let magic: [u8; 8] = fields.take()?;
            let name = fields.text()?.to_owned();
            let (nonce, [needed, count]) = (fields.take()?, fields.take()?);
            if magic != MAGIC || usize::from(count) > MAX_AUTHORITIES {
                return None;
            }
            let mut authorities = Vec::new();
            for _ in 0..count {
                let (sign, dh, mesh): (Key, Key, Key) = (fields.take()?, fields.take()?, fields.take()?);
                let (endpoint, port): (Ip, U16) = (fields.take()?, fields.take()?);
                authorities.push(Authority { sign, dh, mesh, endpoint, port, ..Authority::default() });
            }
            let (network, [length, count]): ([u8; 4], [u8; 2]) = (fields.take()?, fields.take()?);
            let rules = (0..count).map(|_| fields.text()?.parse().ok()).collect::<Option<_>>()?;
            let (activate, count): (U16, U16) = (fields.take()?, fields.take()?);
            let mut members = Vec::new();
            for _ in 0..count.get() {
                let (print, fiduciary, fork) = (fields.take()?, fields.take()?, fields.take()?);
                members.push(Listed { print, fiduciary, fork, site: fields.text()?.to_owned() });
            }
            let (network, activate) = ((network.into(), length), activate.get());
            let this = Self { name, nonce, needed, authorities, network, rules, activate, members };
            // Rules are text, of which there is one form only.
            (fields.0.is_empty() && this.to_bytes() == bytes).then_some(this)
        };
        let this = whole().ok_or("its document is damaged, or of another version of this program")?;
        this.sound().map(|()| this)
    }

    fn text(&self) -> String {
        let Self { name, nonce, needed, network, rules, activate, members, .. } = self;
        let set = self.set();
        let authorities = set.as_ref().map_or(&*self.authorities, |set| set.places());
        let mut text = String::from("Genesis of a fleet: what its authorities found\n\n");
        text += &line("fleet", name);
        text += &line("id", Hex(&self.id()));
        text += &line("drawn", Hex(nonce));
        text += &line("set", format_args!("number 0, {needed} of {} must sign", authorities.len()));
        for (at, one) in authorities.iter().enumerate() {
            text += &line(&format!("authority {}", at + 1), Hex(&[one.sign, one.dh].concat()));
            text += &line("", where_in_mesh(one));
        }
        text += &line("set hash", set.as_ref().map_or_else(Clone::clone, |set| Hex(&set.hash()).to_string()));
        text += &line("network", format_args!("{}/{}, nodes at port {MESH_PORT}", network.0, network.1));
        for rule in rules {
            text += &line("rule", rule);
        }
        if rules.is_empty() {
            text += &line("rule", "none");
        }
        text += &line("activated", format_args!("with {activate} of {} nodes paired", members.len()));
        for (at, member) in members.iter().enumerate() {
            text += &line(
                &format!("node {}", at + 1),
                format_args!("{}  {}", Fingerprint(member.print), member.site).to_string().trim_end(),
            );
            if member.fiduciary != [0; 32] {
                text += &line("  F", Hex(&member.fiduciary));
            }
            if member.fork != [0; 32] {
                text += &line("  fork record", Hex(&member.fork));
            }
        }
        text
    }
}
