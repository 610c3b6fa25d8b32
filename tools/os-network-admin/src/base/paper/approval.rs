//! One person's signature of something that is elsewhere.

use std::fmt;

use wire::{Hash, Hex, Key, Signature};
use zerocopy::FromBytes;

use super::{Form, line};

const MAGIC: [u8; 8] = *b"GNSAPPR1";
const LENGTH: usize = 8 + 1 + 7 + 32 + 32 + 64;

/// What is approved, by its hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subject {
    Warrant(Hash),
    Fleet(Hash),
    Record(Hash),
    Order(Hash),
    Export(Hash),
}

impl Subject {
    pub fn hash(&self) -> Hash {
        match self {
            Self::Warrant(hash) | Self::Fleet(hash) | Self::Record(hash) | Self::Order(hash) | Self::Export(hash) => {
                *hash
            }
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Warrant(_) => 1,
            Self::Fleet(_) => 2,
            Self::Record(_) => 3,
            Self::Order(_) => 4,
            Self::Export(_) => 5,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Warrant(_) => "a warrant",
            Self::Fleet(_) => "a fleet's genesis",
            Self::Record(_) => "an authority record",
            Self::Order(_) => "an order",
            Self::Export(_) => "a fleet's registry",
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Approval {
    pub subject: Subject,
    /// Ed25519.
    pub signer: Key,
    /// Of what is approved itself, as a node or a reader wants it.
    pub signature: Signature,
}

impl fmt::Display for Approval {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the approval of {} by {}", self.subject.name(), Hex(&self.signer))
    }
}

impl Form for Approval {
    const LABEL: &str = "GENESIS APPROVAL";

    fn to_bytes(&self) -> Vec<u8> {
        let Self { subject, signer, signature } = self;
        [&MAGIC[..], &[subject.number()], &[0; 7], &subject.hash(), signer, signature].concat()
    }

    fn parse(bytes: &[u8]) -> Result<Self, String> {
        let whole = || {
            let (magic, rest) = bytes.split_first_chunk::<8>().filter(|_| bytes.len() == LENGTH)?;
            let (kind, rest) = rest.split_first_chunk::<8>()?;
            let (hash, rest) = Hash::read_from_prefix(rest).ok()?;
            let (signer, rest) = Key::read_from_prefix(rest).ok()?;
            let (number, zeros) = kind.split_first()?;
            let make = match number {
                1 => Subject::Warrant,
                2 => Subject::Fleet,
                3 => Subject::Record,
                4 => Subject::Order,
                5 => Subject::Export,
                _ => return None,
            };
            if *magic != MAGIC || *zeros != [0; 7] {
                return None;
            }
            let subject = make(hash);
            Some(Self { subject, signer, signature: rest.try_into().ok()? })
        };
        whole().ok_or_else(|| "its approval is damaged, or of another version of this program".into())
    }

    fn text(&self) -> String {
        let heading = format!("Approval of {}\n\n", self.subject.name());
        heading + &line("of", Hex(&self.subject.hash())) + &line("by", Hex(&self.signer))
    }
}
