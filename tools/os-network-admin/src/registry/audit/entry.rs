//! One entry, to the byte: `docs/os-network-admin.md` has the same in a table. Whatever an entry says has one form only.

use crypto::{AnchorSecret, Label, label};
use wire::{Fingerprint, Hash, Key, numbers};

use crate::base::say::plain;

const VERSION: u8 = 1;
/// Version, kind, outcome, a zero; sequence, time, hash of the entry before, signer.
const HEAD: usize = 4 + 8 + 8 + 32 + 32;
/// No entry is longer, and no text in it.
const LONGEST: usize = 8192;
const TEXT: usize = 4096;
/// Of a text that somebody else has a part in.
const SHORT: usize = 512;
/// What of an entry is signed, and what the next one has of it.
const SIGNATURE: Label = label::AUDIT;
const HASH: Label = label::AUDIT_HASH;

numbers! {
    /// What happened.
    Kind {
        /// The log begins: with a new registry, or with what one of an earlier version had.
        Began = 1, "log_began";
        KeyMade = 2, "key_made";
        AnchorWritten = 3, "anchor_written";
        FleetMade = 4, "fleet_made";
        /// The inner network or the port of a fleet.
        NetworkSet = 5, "network_set";
        /// The authority's WireGuard key, which all nodes of a fleet know from then on.
        MeshKeyNamed = 6, "mesh_key_named";
        Granted = 7, "granted";
        Paired = 8, "paired";
        Acknowledged = 9, "acknowledged";
        /// A pairing to which another claim of the same node follows.
        Superseded = 10, "superseded";
        /// A node that was revoked is a member again.
        Readmitted = 11, "readmitted";
        /// A claim that ended without a pairing.
        Claim = 12, "claim";
        /// What others on the link caused in one run, in numbers.
        Strangers = 13, "strangers";
        PolicySet = 14, "policy_set";
        /// A configuration for a node.
        Update = 15, "update";
        Command = 16, "command";
        Revoked = 17, "revoked";
        /// A peer that is no node was given a place and a configuration.
        Exported = 18, "exported";
        /// What spoke against a node is forgotten.
        Cleared = 19, "cleared";
        Restored = 20, "restored";
        MeshUp = 21, "mesh_up";
        MeshDown = 22, "mesh_down";
        /// Nothing but the signature, which covers all before.
        Signed = 23, "signed";
        /// Something that others are to sign.
        Proposed = 24, "proposed";
        /// One person's signature of it, or a refusal.
        Approved = 25, "approved";
        /// A fleet whose genesis all its authorities have accepted.
        Founded = 26, "founded";
        /// Telling a node to leave: to a ticket, or to somebody else's anchor.
        Released = 27, "released";
        /// A node's signed word that it did what its owners decided.
        Receipt = 28, "receipt";
        /// An authority record that all have signed who must.
        Adopted = 29, "record_adopted";
        /// A node is told an authority record.
        RecordTold = 30, "record_told";
        /// What is known of a fleet is handed on to its other authorities.
        HandedOn = 31, "handed_on";
        /// The same, taken over from one of them: the fleet, and each node that is new here or known anew.
        Imported = 32, "imported";
    }
}

numbers! {
    /// How it ended.
    Outcome {
        Done = 0, "done";
        /// It was begun; what came of it is an entry of its own, or is not known.
        Begun = 1, "begun";
        Refused = 2, "refused";
        NotReached = 3, "not_reached";
        NotShown = 4, "not_shown";
        NotComputable = 5, "not_computable";
    }
}

numbers! {
    /// What a field is about. Its two highest bits say what form it has: bytes, a number, a text.
    Tag {
        /// F.
        Node = 0x01, "node";
        /// A fleet's id.
        Fleet = 0x02, "fleet";
        Key = 0x03, "key";
        Binding = 0x04, "binding";
        Configuration = 0x05, "configuration";
        /// The hash of an entry.
        Head = 0x06, "head";
        /// The last entry of a backup's log that is no part of this one.
        Branch = 0x07, "branch";
        /// The hash of what is to be signed.
        Proposal = 0x08, "proposal";
        /// Of the next anchor, or of an authority record.
        Hash = 0x09, "hash";
        Counter = 0x41, "counter";
        Epoch = 0x42, "epoch";
        Schema = 0x43, "schema";
        Nodes = 0x44, "nodes";
        /// The sequence of an entry.
        Sequence = 0x45, "sequence";
        /// Nodes that answered and were not named.
        Unlisted = 0x47, "unlisted";
        /// Revoked nodes that answered and were not readmitted.
        TurnedAway = 0x48, "turned_away";
        /// Holders of a claim key that are not the node that their hello names.
        Impostors = 0x49, "impostors";
        /// Connections that broke, or with which somebody meddled.
        Cut = 0x4a, "cut";
        /// Claims that failed.
        Failed = 0x4b, "failed";
        Port = 0x4c, "port";
        /// The sequence of an authority record, or the epoch that ends.
        Number = 0x4d, "number";
        /// A member that is no node.
        Peer = 0x81, "peer";
        /// A fleet's name.
        Name = 0x82, "name";
        Operation = 0x83, "operation";
        /// Why a node was taken for the right one.
        Accepted = 0x84, "accepted";
        Anchor = 0x85, "anchor";
        What = 0x86, "what";
        Why = 0x87, "why";
        By = 0x88, "by";
        /// A member whose entry cannot be read, as it is called.
        Who = 0x89, "who";
    }
}

/// What a field says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    Bytes(Vec<u8>),
    Number(u64),
    Text(String),
}

/// One field. Its number is kept although its name may be of a later version.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Field {
    pub tag: u8,
    pub value: Value,
}

impl Field {
    pub fn name(&self) -> String {
        Tag::from_number(self.tag.into()).map_or_else(|| format!("field_{}", self.tag), |tag| tag.name().to_owned())
    }

    fn write(&self, to: &mut Vec<u8>) {
        let number;
        let bytes = match &self.value {
            Value::Bytes(bytes) => bytes.as_slice(),
            Value::Number(value) => {
                number = value.to_be_bytes();
                &number
            }
            Value::Text(text) => text.as_bytes(),
        };
        // Every field is bounded where it is made.
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        to.push(self.tag);
        to.extend(length.to_be_bytes());
        to.extend(&bytes[..length.into()]);
    }

    /// The first field, and what follows it.
    fn read(bytes: &[u8]) -> Option<(Self, &[u8])> {
        let (&[tag, high, low], rest) = bytes.split_first_chunk::<3>()?;
        let (value, rest) = rest.split_at_checked(u16::from_be_bytes([high, low]).into())?;
        let value = match tag >> 6 {
            0 => Value::Bytes(value.into()),
            1 => Value::Number(u64::from_be_bytes(value.try_into().ok()?)),
            2 => Value::Text(str::from_utf8(value).ok()?.into()),
            _ => return None,
        };
        Some((Self { tag, value }, rest))
    }
}

/// What is to be told: an entry that has no place yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    kind: Kind,
    outcome: Outcome,
    fields: Vec<Field>,
}

impl Event {
    pub fn new(kind: Kind) -> Self {
        Self { kind, outcome: Outcome::Done, fields: Vec::new() }
    }

    /// It ended otherwise than well.
    pub fn ended(mut self, outcome: Outcome) -> Self {
        self.outcome = outcome;
        self
    }

    /// Whether it is the first of a log.
    pub(super) fn begins(&self) -> bool {
        self.kind == Kind::Began
    }

    /// Each field once.
    fn with(mut self, tag: Tag, value: Value) -> Self {
        self.fields.retain(|field| field.tag != u8::from(tag));
        self.fields.push(Field { tag: tag.into(), value });
        self
    }

    pub fn node(self, fiduciary: &Key) -> Self {
        self.bytes(Tag::Node, fiduciary)
    }

    /// A key, a hash, an id; no secret.
    pub fn bytes(self, tag: Tag, bytes: &[u8]) -> Self {
        let bytes = bytes.get(..64).unwrap_or(bytes);
        self.with(tag, Value::Bytes(bytes.into()))
    }

    pub fn number(self, tag: Tag, number: u64) -> Self {
        self.with(tag, Value::Number(number))
    }

    /// The same, unless it is nothing.
    pub fn count(self, tag: Tag, number: u64) -> Self {
        if number == 0 { self } else { self.number(tag, number) }
    }

    /// A text, in which somebody else may have a part: nothing that a terminal would obey is left of it.
    pub fn text(self, tag: Tag, text: &str) -> Self {
        let limit = if tag == Tag::What { TEXT } else { SHORT };
        self.with(tag, Value::Text(bounded(plain::name(text), limit)))
    }
}

/// What is longer ends with an ellipsis.
fn bounded(mut text: String, limit: usize) -> String {
    const CUT: &str = "…";
    if text.len() > limit {
        text.truncate(text.floor_char_boundary(limit - CUT.len()));
        text.push_str(CUT);
    }
    text
}

/// An entry at its place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub sequence: u64,
    pub time_ms: u64,
    /// The hash of the entry before; of the first, zeros.
    pub before: Hash,
    /// The Ed25519 half of the key that has signed it.
    pub signer: Option<Key>,
    /// Of a [`Kind`]; it may be a later version's.
    pub kind: u8,
    /// Of an [`Outcome`].
    pub outcome: u8,
    /// By rising tags.
    pub fields: Vec<Field>,
}

impl Entry {
    pub fn new(event: Event, sequence: u64, time_ms: u64, before: Hash, signer: Option<Key>) -> Self {
        let Event { kind, outcome, mut fields } = event;
        fields.sort_by_key(|field| field.tag);
        Self { sequence, time_ms, before, signer, kind: kind.into(), outcome: outcome.into(), fields }
    }

    pub fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::from([VERSION, self.kind, self.outcome, 0]);
        bytes.extend(self.sequence.to_be_bytes());
        bytes.extend(self.time_ms.to_be_bytes());
        bytes.extend(self.before);
        bytes.extend(self.signer.unwrap_or_default());
        self.fields.iter().for_each(|field| field.write(&mut bytes));
        bytes
    }

    /// `None`: they are no entry, or not in its one form.
    pub fn parse(bytes: &[u8]) -> Option<Self> {
        let (head, mut rest) = bytes.split_first_chunk::<HEAD>().filter(|_| bytes.len() <= LONGEST)?;
        let (&[version, kind, outcome, zero], head) = head.split_first_chunk::<4>()?;
        let (sequence, head) = head.split_first_chunk::<8>()?;
        let (time_ms, head) = head.split_first_chunk::<8>()?;
        let (before, signer) = head.split_first_chunk::<32>()?;
        if (version, zero) != (VERSION, 0) {
            return None;
        }
        let mut fields: Vec<Field> = Vec::new();
        while !rest.is_empty() {
            let (field, after) = Field::read(rest)?;
            if fields.last().is_some_and(|last| last.tag >= field.tag) {
                return None;
            }
            fields.push(field);
            rest = after;
        }
        let signer = Key::try_from(signer).ok()?;
        Some(Self {
            sequence: u64::from_be_bytes(*sequence),
            time_ms: u64::from_be_bytes(*time_ms),
            before: *before,
            signer: (signer != [0; 32]).then_some(signer),
            kind,
            outcome,
            fields,
        })
    }

    pub fn kind(&self) -> String {
        Kind::from_number(self.kind.into()).map_or_else(|| format!("kind_{}", self.kind), |kind| kind.name().to_owned())
    }

    pub fn outcome(&self) -> String {
        let outcome = Outcome::from_number(self.outcome.into());
        outcome.map_or_else(|| format!("outcome_{}", self.outcome), |outcome| outcome.name().to_owned())
    }

    pub fn field(&self, tag: Tag) -> Option<&Value> {
        self.fields.iter().find(|field| field.tag == u8::from(tag)).map(|field| &field.value)
    }

    /// The bytes of a field that has some.
    pub fn bytes(&self, tag: Tag) -> Option<&[u8]> {
        match self.field(tag)? {
            Value::Bytes(bytes) => Some(bytes),
            _ => None,
        }
    }

    /// The fingerprint of the node that it is about.
    pub fn print(&self) -> Option<Fingerprint> {
        Some(Fingerprint::of(&Key::try_from(self.bytes(Tag::Node)?).ok()?))
    }
}

/// The bytes of an entry, and the signature if it names a signer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    pub entry: Vec<u8>,
    pub signature: Option<Vec<u8>>,
}

impl Signed {
    pub fn new(entry: Vec<u8>, key: Option<&AnchorSecret>) -> Self {
        let signature = key.map(|key| crypto::sign(&key.sign, SIGNATURE, &[&entry]).to_vec());
        Self { entry, signature }
    }

    /// What the next entry has of this one: of its signature too.
    pub fn hash(&self) -> Hash {
        crypto::hash(HASH, &[&self.entry, self.signature.as_deref().unwrap_or_default()])
    }

    /// Whether it is signed by the key that it names, and not at all if it names none.
    pub fn is_signed_as_it_says(&self, signer: Option<&Key>) -> bool {
        match (signer, &self.signature) {
            (None, None) => true,
            (Some(signer), Some(signature)) => {
                let signature = <&[u8; 64]>::try_from(signature.as_slice());
                signature.is_ok_and(|signature| crypto::verify(signer, SIGNATURE, &[&self.entry], signature).is_some())
            }
            _ => false,
        }
    }
}
