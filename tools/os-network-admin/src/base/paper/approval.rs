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
}

impl Subject {
    pub fn hash(&self) -> Hash {
        match self {
            Self::Warrant(hash) | Self::Fleet(hash) => *hash,
        }
    }

    fn number(self) -> u8 {
        match self {
            Self::Warrant(_) => 1,
            Self::Fleet(_) => 2,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Warrant(_) => "a warrant",
            Self::Fleet(_) => "a fleet's genesis",
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
            let subject = match kind {
                [1, 0, 0, 0, 0, 0, 0, 0] if *magic == MAGIC => Subject::Warrant(hash),
                [2, 0, 0, 0, 0, 0, 0, 0] if *magic == MAGIC => Subject::Fleet(hash),
                _ => return None,
            };
            Some(Self { subject, signer, signature: rest.try_into().ok()? })
        };
        whole().ok_or_else(|| "its approval is damaged, or of another version of this program".into())
    }

    fn text(&self) -> String {
        let heading = format!("Approval of {}\n\n", self.subject.name());
        heading + &line("of", Hex(&self.subject.hash())) + &line("by", Hex(&self.signer))
    }
}
