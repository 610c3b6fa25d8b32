//! Why a description is refused, and where.

use std::fmt;

/// Where the offending part of the description stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum At {
    /// A line of the system description.
    Line(u32),
    /// The board's file.
    #[default]
    Board,
}

/// Why a system description is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{at}: {what}")]
pub struct Refused {
    pub at: At,
    pub what: String,
}

impl fmt::Display for At {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Line(line) => write!(f, "line {line}"),
            Self::Board => f.write_str("board"),
        }
    }
}

impl At {
    pub(super) fn refuse<T>(self, what: impl Into<String>) -> Result<T, Refused> {
        Err(Refused { at: self, what: what.into() })
    }
}
