//! The log of acts and refusals.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::{Hex, Key};

use super::{Document, time};
use crate::registry::{Entry, Head, Value, Verdict};

/// Of `audit show`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditLog {
    pub entries: Vec<AuditEntry>,
    /// The places of entries that are none.
    pub unreadable: Vec<i64>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditEntry {
    pub sequence: u64,
    pub time_ms: u64,
    pub kind: String,
    pub outcome: String,
    /// The fingerprint of the node that it is about.
    pub node: Option<String>,
    /// The Ed25519 half of the key that has signed it.
    pub signer: Option<String>,
    pub fields: BTreeMap<String, AuditValue>,
}

/// Bytes stand in hex.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum AuditValue {
    Number(u64),
    Text(String),
}

impl From<&Entry> for AuditEntry {
    fn from(entry: &Entry) -> Self {
        let value = |value: &Value| match value {
            Value::Bytes(bytes) => AuditValue::Text(Hex(bytes).to_string()),
            Value::Number(number) => AuditValue::Number(*number),
            Value::Text(text) => AuditValue::Text(text.clone()),
        };
        Self {
            sequence: entry.sequence,
            time_ms: entry.time_ms,
            kind: entry.kind(),
            outcome: entry.outcome(),
            node: entry.print().map(|print| print.to_string()),
            signer: entry.signer.map(|key| Hex(&key).to_string()),
            fields: entry.fields.iter().map(|field| (field.name(), value(&field.value))).collect(),
        }
    }
}

impl AuditEntry {
    fn text(&self) -> String {
        let time = time(i64::try_from(self.time_ms).unwrap_or(i64::MAX));
        let mut words = vec![format!("{:>6}  {time}  {}", self.sequence, self.kind)];
        if self.outcome != "done" {
            words.push(self.outcome.replace('_', " "));
        }
        words.extend(self.node.clone());
        for (name, value) in &self.fields {
            words.extend(match value {
                // The fingerprint is there already.
                _ if name == "node" => None,
                AuditValue::Number(number) => Some(format!("{name} {number}")),
                // So much of a hash tells it from others.
                AuditValue::Text(text) if is_hash(text) => Some(format!("{name} {}…", &text[..16])),
                AuditValue::Text(text) => Some(format!("{name} {text}")),
            });
        }
        words.extend(self.signer.as_ref().map(|_| "signed".to_owned()));
        words.join("  ")
    }
}

fn is_hash(text: &str) -> bool {
    text.len() >= 32 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

impl Document for AuditLog {
    fn text(&self) -> String {
        let mut lines: Vec<String> = self.entries.iter().map(AuditEntry::text).collect();
        if !self.unreadable.is_empty() {
            let many = self.unreadable.len();
            lines.push(format!("{many} entries cannot be read: see `os-network-admin audit verify`"));
        }
        if lines.is_empty() {
            lines.push("the log has nothing of that".into());
        }
        lines.join("\n")
    }
}

/// Where a log ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditHead {
    pub sequence: u64,
    pub hash: String,
}

impl From<Head> for AuditHead {
    fn from(head: Head) -> Self {
        Self { sequence: head.sequence, hash: Hex(&head.hash).to_string() }
    }
}

/// Of `audit verify`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    /// The last entry up to which all hold.
    pub head: AuditHead,
    /// Null without an entry.
    pub begins_ms: Option<u64>,
    pub ends_ms: Option<u64>,
    /// The last entry that is signed, zero if none is: it vouches for all before it.
    pub signed: u64,
    /// Those after it, which the next signature covers.
    pub unsigned: u64,
    pub signers: Vec<AuditSigner>,
    /// The first entry that does not hold.
    pub bad: Option<AuditBad>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditSigner {
    /// The Ed25519 half.
    pub key: String,
    pub entries: u64,
    /// Whether it is the key file's; null where there is none.
    pub own: Option<bool>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditBad {
    pub sequence: u64,
    pub why: String,
}

impl Verified {
    pub fn new(verdict: &Verdict, own: Option<&Key>) -> Self {
        let some = |ms| (verdict.head.sequence > 0).then_some(ms);
        let signer = |(key, entries): (&Key, &u64)| AuditSigner {
            key: Hex(key).to_string(),
            entries: *entries,
            own: own.map(|own| own == key),
        };
        Self {
            head: verdict.head.into(),
            begins_ms: some(verdict.begins_ms),
            ends_ms: some(verdict.ends_ms),
            signed: verdict.signed,
            unsigned: verdict.head.sequence - verdict.signed,
            signers: verdict.signers.iter().map(signer).collect(),
            bad: verdict.bad.as_ref().map(|bad| AuditBad { sequence: bad.sequence, why: bad.why.into() }),
        }
    }
}

impl Document for Verified {
    fn text(&self) -> String {
        let at = |ms: Option<u64>| ms.map_or("never".into(), |ms| time(i64::try_from(ms).unwrap_or(i64::MAX)));
        let AuditHead { sequence, hash } = &self.head;
        let mut lines = vec![
            format!("entries      {sequence} hold, from {} to {}", at(self.begins_ms), at(self.ends_ms)),
            format!("head         {hash}"),
        ];
        lines.push(match (self.signed, self.unsigned) {
            (0, _) => "signed       none: `os-network-admin audit sign` signs all".into(),
            (signed, 0) => format!("signed       up to {signed}, the last"),
            (signed, unsigned) => format!("signed       up to {signed}; the {unsigned} after it are not yet"),
        });
        for AuditSigner { key, entries, own } in &self.signers {
            let whose = match own {
                Some(true) => ", your key",
                Some(false) => ", another key than yours",
                None => "",
            };
            lines.push(format!("signer       {key}: {entries} entries{whose}"));
        }
        lines.extend(self.bad.as_ref().map(|bad| format!("BAD          entry {}: {}", bad.sequence, bad.why)));
        lines.join("\n")
    }
}

/// Of `audit export`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AuditExported {
    pub path: String,
    pub entries: u64,
}

impl Document for AuditExported {
    fn text(&self) -> String {
        format!("log          {}\nentries      {}", self.path, self.entries)
    }
}
