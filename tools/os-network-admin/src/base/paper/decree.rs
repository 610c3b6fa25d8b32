//! An order that several authorities are to sign, with its body.

use crypto::AnchorSecret;
use policy::Configuration;
use wire::{
    Fingerprint, Hex, Key, U16, U64,
    anchor::AnchorIn,
    order::{Isolation, Kind, MAX_CONFIGURATION, Order, Release},
    set::{Authority, AuthoritySet, MAX_AUTHORITIES},
};
use zerocopy::{FromBytes, FromZeros, IntoBytes};

use super::{
    Form, Papers,
    approval::{Approval, Subject},
    change::name_of,
    fields::{Fields, push_text},
    line,
    warrant::seconds,
};
use crate::base::say::plain;

const MAGIC: [u8; 8] = *b"GNSORDE1";
const SIGNED: usize = size_of::<Order>() - MAX_AUTHORITIES * 64;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decree {
    /// Unix seconds. After this nobody signs or delivers it; no node knows of it.
    pub expires_s: u64,
    /// The fleet's name.
    pub fleet: String,
    /// Those who decide.
    pub set: AuthoritySet,
    /// Without signatures.
    pub order: Order,
    pub body: Vec<u8>,
}

/// Who has approved an order.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decided {
    /// With the signatures that there are.
    pub order: Order,
    pub signed: Vec<(Key, bool)>,
    pub needed: usize,
}

impl Decided {
    pub fn signatures(&self) -> usize {
        self.signed.iter().filter(|(_, signed)| *signed).count()
    }

    pub fn is_enough(&self) -> bool {
        self.signatures() >= self.needed
    }
}

impl Decree {
    pub fn subject(&self) -> Subject {
        Subject::Order(self.order.hash())
    }

    pub fn node(&self) -> Fingerprint {
        Fingerprint::of(&self.order.fiduciary)
    }

    pub fn is_signer(&self, key: &Key) -> bool {
        self.set.places().iter().any(|one| one.sign == *key)
    }

    /// What is wrong with it.
    pub fn sound(&self) -> Result<(), String> {
        let Self { fleet, set, order, body, .. } = self;
        set.check().map_err(|why| format!("its set of authorities cannot own a node: {why}"))?;
        if order.signatures != [[0; 64]; MAX_AUTHORITIES] {
            return Err("its order has signatures in it: they belong in approvals".into());
        }
        if fleet.is_empty() || fleet.len() > 64 || plain::name(fleet) != *fleet {
            return Err("the fleet's name is empty, too long, or has characters that cannot be seen".into());
        }
        if order.set != set.hash() || !order.carries(body) || !crypto::sign_usable(&order.fiduciary) {
            return Err("its order is malformed, or is for no node, or its set or body is another".into());
        }
        match order.kind() {
            Some(Kind::Configuration) => match Configuration::parse(body) {
                Ok(granted) if granted.peers.iter().any(|peer| peer.preshared.is_some()) => {
                    Err("its configuration has a preshared key in it, which nobody else may see".into())
                }
                Ok(_) => Ok(()),
                Err(why) => Err(format!("no node could use its configuration: {why:?}")),
            },
            Some(Kind::Rejoin) if Isolation::ref_from_bytes(body).is_ok() => Ok(()),
            Some(Kind::Release) => match Release::ref_from_bytes(body) {
                Ok(release)
                    if release.zero == [0; 3]
                        && release.same_owner <= 1
                        && release.anchor.read() != AnchorIn::Damaged =>
                {
                    Ok(())
                }
                _ => Err("it lets a node go to an anchor that is none".into()),
            },
            _ => Err("it orders nothing that there is".into()),
        }
    }

    /// An error if it is out of date.
    pub fn current(&self, now_ms: i64) -> Result<(), String> {
        if u64::try_from(now_ms / 1000).unwrap_or_default() <= self.expires_s {
            return Ok(());
        }
        let (node, expired) = (self.node(), seconds(self.expires_s));
        Err(format!("the proposal of an order for {node} has expired, {expired}: have a new one made and signed"))
    }

    /// One of the authorities' approval; `None` if the keys are none's.
    pub fn approve(&self, key: &AnchorSecret) -> Option<Approval> {
        let own = key.public();
        let is_own = |one: &Authority| (one.sign, one.dh) == (own.sign, own.dh);
        self.set.places().iter().any(is_own).then(|| {
            let signature = self.order.sign(key, 0).signatures[0];
            Approval { subject: self.subject(), signer: own.sign, signature }
        })
    }

    /// An error if it is no approval of this by one of those who may.
    pub fn check(&self, approval: &Approval) -> Result<(), String> {
        if approval.subject != self.subject() {
            return Err(format!("{approval} is of another order"));
        }
        if !self.is_signer(&approval.signer) {
            return Err(format!("{approval} counts for nothing: the set does not have this key"));
        }
        let good = self.order.is_signed_by(&approval.signer, &approval.signature);
        good.map(|_| ()).ok_or_else(|| format!("{approval} is forged or damaged: its signature is false"))
    }

    /// How far it has come. Of approvals that are [checked](Self::check).
    pub fn standing(&self, papers: &Papers) -> Decided {
        let (hash, mut order) = (self.order.hash(), self.order);
        let signed = self.set.places().iter().zip(&mut order.signatures).map(|(one, place)| {
            let approval = papers.approvals_of(&hash).find(|approval| approval.signer == one.sign);
            *place = approval.map_or([0; 64], |approval| approval.signature);
            (one.sign, approval.is_some())
        });
        let signed = signed.collect();
        Decided { order, signed, needed: self.set.needed.into() }
    }

    /// What it orders, in a few words.
    pub fn what(&self) -> String {
        match (self.order.kind(), Release::ref_from_bytes(&self.body)) {
            (Some(Kind::Release), Ok(release)) => match release.anchor.read() {
                AnchorIn::Some(_) => "to be transferred to an anchor".into(),
                _ => "to be released to a ticket".into(),
            },
            (Some(Kind::Rejoin), _) => "to rejoin".into(),
            _ => format!("to have a configuration of {} bytes", self.body.len()),
        }
    }
}

impl Form for Decree {
    const LABEL: &str = "GENESIS ORDER PROPOSAL";

    fn to_bytes(&self) -> Vec<u8> {
        let Self { expires_s, fleet, set, order, body } = self;
        let mut bytes = [&MAGIC[..], &expires_s.to_be_bytes()].concat();
        push_text(&mut bytes, fleet);
        bytes.extend(set.as_bytes());
        bytes.extend(&order.as_bytes()[..SIGNED]);
        bytes.extend(U16::new(body.len() as u16).as_bytes());
        bytes.extend(body);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole = || {
            let mut fields = Fields(bytes);
            let magic: [u8; 8] = fields.take()?;
            let expires_s = fields.take::<U64>()?.get();
            let fleet = fields.text()?.to_owned();
            let set = fields.take()?;
            let mut order = Order::new_zeroed();
            let signed: [u8; SIGNED] = fields.take()?;
            order.as_mut_bytes()[..SIGNED].copy_from_slice(&signed);
            let length = usize::from(fields.take::<U16>()?.get());
            let fits = magic == MAGIC && fields.0.len() == length && length <= MAX_CONFIGURATION;
            fits.then(|| Self { expires_s, fleet, set, order, body: fields.0.into() })
        };
        let this = whole().ok_or("its order is damaged, or of another version of this program")?;
        this.sound().map(|()| this)
    }

    fn text(&self) -> String {
        let Self { expires_s, fleet, set, order, body } = self;
        let mut text = String::from("Proposal of an order: what the owners of a node decide together\n\n");
        text += &line("node", self.node());
        text += &line("F", Hex(&order.fiduciary));
        text += &line("order", self.what());
        text += &line("fleet", format_args!("{fleet}, {}", Hex(&order.fleet)));
        text += &line("epoch", order.epoch);
        text += &line("counter", order.counter);
        match order.kind() {
            Some(Kind::Configuration) => super::warrant::configured(&mut text, body),
            Some(Kind::Rejoin) => {
                if let Ok(isolation) = Isolation::ref_from_bytes(body) {
                    let (place, counter) = (isolation.authority.get().saturating_add(1), isolation.counter);
                    text += &line("ends", format_args!("its isolation by authority {place}, command {counter}"));
                }
            }
            _ => {
                if let Ok(Release { anchor, same_owner, .. }) = Release::ref_from_bytes(body) {
                    match anchor.read() {
                        AnchorIn::Some(next) => {
                            let found = Hex(&next.reception.sign);
                            text += &line("found by", found);
                            text += &line("next", format_args!("{} of {} must sign", next.needed, next.count));
                            for signer in next.signers.iter().take(next.count.into()) {
                                text += &line("", Hex(signer));
                            }
                            text += &line("next hash", Hex(&anchor.hash()));
                        }
                        _ => text += &line("next", "whoever has the ticket that the node makes and shows"),
                    }
                    let theirs = if *same_owner == 1 { "may be" } else { "are not" };
                    text += &line("", format_args!("those who own it next {theirs} those who own it now"));
                }
            }
        }
        text += &line("set", format_args!("{} of {} must sign, {}", set.needed, set.count, Hex(&set.hash())));
        for (at, one) in set.places().iter().enumerate() {
            text += &line(&format!("authority {}", at + 1), format_args!("{}, {}", name_of(one), Hex(&one.sign)));
        }
        text += &line("expires", seconds(*expires_s));
        text + &line("order hash", Hex(&order.hash()))
    }
}
