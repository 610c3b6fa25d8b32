//! An authority record that is to be signed, and the set that it follows.

use std::fmt::Write;

use crypto::AnchorSecret;
use wire::{
    Hex, Key,
    record::AuthorityRecord,
    set::{Authority, AuthoritySet, MAX_AUTHORITIES},
};
use zerocopy::{FromZeros, IntoBytes};

use super::{
    Form, Papers,
    approval::{Approval, Subject},
    fields::{Fields, push_text},
    line,
    warrant::where_in_mesh,
};
use crate::base::{key, say::plain};

const MAGIC: [u8; 8] = *b"GNSSETS1";
const SIGNED: usize = size_of::<AuthorityRecord>() - 2 * MAX_AUTHORITIES * 64;

/// How one set takes over from another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The fleet's name.
    pub fleet: String,
    pub before: AuthoritySet,
    /// Without signatures.
    pub record: AuthorityRecord,
}

/// Who has approved a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// With the signatures that there are.
    pub record: AuthorityRecord,
    /// Of the set before, and of the new one: who has signed.
    pub old: Vec<(Key, bool)>,
    pub new: Vec<(Key, bool)>,
    /// Places of the new set with keys that the set before has not.
    pub newcomers: Vec<usize>,
    pub needed: [usize; 2],
}

impl Signed {
    pub fn signatures(&self) -> [usize; 2] {
        [&self.old, &self.new].map(|set| set.iter().filter(|(_, signed)| *signed).count())
    }

    /// What is missing, if anything is.
    pub fn lacks(&self) -> Option<String> {
        let ([old, new], [of_old, of_new]) = (self.signatures(), self.needed);
        let strangers = self.newcomers.iter().filter(|place| !self.new[**place].1).count();
        (old < of_old || new < of_new || strangers > 0).then(|| {
            format!(
                "it is approved by {old} of the {of_old} of the set before who must, and by {new} of the {of_new} of the new \
                 one; {strangers} of those whose keys are new have not shown that they have them"
            )
        })
    }
}

/// What people call an authority.
pub fn name_of(one: &Authority) -> String {
    key::fingerprint(&crypto::AnchorPublic { sign: one.sign, dh: one.dh }).to_string()
}

impl Change {
    pub fn subject(&self) -> Subject {
        Subject::Record(self.record.hash())
    }

    /// Authorities of both sets.
    fn everybody(&self) -> impl Iterator<Item = &Authority> {
        self.before.places().iter().chain(self.record.set.places())
    }

    pub fn is_signer(&self, key: &Key) -> bool {
        self.everybody().any(|one| one.sign == *key)
    }

    /// What is wrong with it.
    pub fn sound(&self) -> Result<(), String> {
        let Self { fleet, before, record } = self;
        before.check().map_err(|why| format!("the set before it is none: {why}"))?;
        record.set.check().map_err(|why| format!("its set of authorities cannot own a node: {why}"))?;
        if record.old != [[0; 64]; MAX_AUTHORITIES] || record.new != [[0; 64]; MAX_AUTHORITIES] {
            return Err("its record has signatures in it: they belong in approvals".into());
        }
        if fleet.is_empty() || fleet.len() > 64 || plain::name(fleet) != *fleet {
            return Err("the fleet's name is empty, too long, or has characters that cannot be seen".into());
        }
        let sequence = record.sequence.get();
        if record.magic != AuthorityRecord::MAGIC
            || record.zero != [0; 4]
            || sequence == 0
            || (sequence == 1) != (record.previous == [0; 32])
        {
            return Err("its record is malformed, or follows nothing".into());
        }
        if before.places() == record.set.places() && before.needed == record.set.needed {
            return Err("its set is the one before".into());
        }
        Ok(())
    }

    /// One of the authorities' approval; `None` if the keys are none's.
    pub fn approve(&self, key: &AnchorSecret) -> Option<Approval> {
        let own = key.public();
        self.everybody().any(|one| (one.sign, one.dh) == (own.sign, own.dh)).then(|| {
            let signature = self.record.sign_as_old(key, 0).old[0];
            Approval { subject: self.subject(), signer: own.sign, signature }
        })
    }

    /// An error if it is no approval of this by one of those who may.
    pub fn check(&self, approval: &Approval) -> Result<(), String> {
        if approval.subject != self.subject() {
            return Err(format!("{approval} is of another record"));
        }
        if !self.is_signer(&approval.signer) {
            return Err(format!("{approval} counts for nothing: neither set has this key"));
        }
        let good = self.record.is_signed_by(&approval.signer, &approval.signature);
        good.map(|_| ()).ok_or_else(|| format!("{approval} is forged or damaged: its signature is false"))
    }

    /// How far it has come. Of approvals that are [checked](Self::check).
    pub fn standing(&self, papers: &Papers) -> Signed {
        let hash = self.record.hash();
        let signature =
            |key: &Key| papers.approvals_of(&hash).find(|approval| approval.signer == *key).map(|one| one.signature);
        let mut record = self.record;
        let mut fill = |set: &AuthoritySet, old: bool| {
            let places = if old { &mut record.old } else { &mut record.new };
            let signed = set.places().iter().zip(places).map(|(one, place)| {
                let signature = signature(&one.sign);
                *place = signature.unwrap_or([0; 64]);
                (one.sign, signature.is_some())
            });
            signed.collect::<Vec<_>>()
        };
        let (old, new) = (fill(&self.before, true), fill(&self.record.set, false));
        let is_new = |one: &Authority| !self.before.places().iter().any(|it| it.has_keys_of(one));
        let newcomers = self.record.set.places().iter().enumerate().filter(|(_, one)| is_new(one));
        let newcomers = newcomers.map(|(place, _)| place).collect();
        Signed { record, old, new, newcomers, needed: [self.before.needed.into(), self.record.set.needed.into()] }
    }

    /// Who goes, who comes, and how many must sign: a line each.
    pub fn differences(&self) -> Vec<String> {
        let (before, after) = (&self.before, &self.record.set);
        let majority = |set: &AuthoritySet| format!("{} of {} must sign", set.needed, set.count);
        let mut lines = vec![format!("{}; then {}", majority(before), majority(after))];
        let in_set = |set: &AuthoritySet, one: &Authority| set.places().iter().any(|it| it.has_keys_of(one));
        lines.extend(
            before.places().iter().filter(|one| !in_set(after, one)).map(|one| format!("leaves: {}", name_of(one))),
        );
        lines.extend(
            after.places().iter().filter(|one| !in_set(before, one)).map(|one| format!("is new: {}", name_of(one))),
        );
        let moved = |one: &&Authority| in_set(before, one) && !before.places().contains(one);
        lines.extend(after.places().iter().filter(moved).map(|one| format!("is elsewhere: {}", name_of(one))));
        lines
    }
}

impl Form for Change {
    const LABEL: &str = "GENESIS AUTHORITY RECORD";

    fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = MAGIC.to_vec();
        push_text(&mut bytes, &self.fleet);
        bytes.extend(self.before.as_bytes());
        bytes.extend(&self.record.as_bytes()[..SIGNED]);
        bytes
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole = || {
            let mut fields = Fields(bytes);
            let magic: [u8; 8] = fields.take()?;
            let fleet = fields.text()?.to_owned();
            let before = fields.take()?;
            if magic != MAGIC || fields.0.len() != SIGNED {
                return None;
            }
            let mut record = AuthorityRecord::new_zeroed();
            record.as_mut_bytes()[..SIGNED].copy_from_slice(fields.0);
            Some(Self { fleet, before, record })
        };
        let this = whole().ok_or("its record is damaged, or of another version of this program")?;
        this.sound().map(|()| this)
    }

    fn text(&self) -> String {
        let Self { fleet, before, record } = self;
        let mut text = String::from("Proposal of an authority record: another set is to own a fleet\n\n");
        text += &line("fleet", format_args!("{fleet}, {}", Hex(&record.fleet)));
        text += &line("set", format_args!("number {}", record.sequence));
        let follows = if record.previous == [0; 32] {
            "the fleet's first set, which has no record".into()
        } else {
            format!("the record {}", Hex(&record.previous))
        };
        text += &line("follows", follows);
        for change in self.differences() {
            text += &line("change", change);
        }
        for (what, set) in [("before", before), ("then", &record.set)] {
            text += &line(what, format_args!("{} of {} must sign, {}", set.needed, set.count, Hex(&set.hash())));
            for (at, one) in set.places().iter().enumerate() {
                let _ = write!(
                    text,
                    "{}{}{}",
                    line(&format!("authority {}", at + 1), name_of(one)),
                    line("", Hex(&[one.sign, one.dh].concat())),
                    line("", where_in_mesh(one))
                );
            }
        }
        text += &line("expires", "never: a record is signed once, and delivered whenever a node is there");
        text + &line("record", Hex(&record.hash()))
    }
}
