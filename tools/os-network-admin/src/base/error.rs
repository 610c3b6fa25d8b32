//! Why a command ended: an exit code that scripts may rely on, and a message that says what to do.

use std::fmt;

/// Exit codes; `docs/os-network-admin.md` and `--help` list them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Exit {
    Other = 1,
    /// The command line is wrong.
    Usage = 2,
    /// A ticket, key file, passphrase, list or other input is unusable.
    Input = 3,
    /// The interface or its sockets are unusable.
    Network = 4,
    /// No node answered.
    NoAnswer = 5,
    /// A node answered and was not claimed.
    Failed = 6,
    /// The registry could not be read or written.
    Registry = 7,
    /// A node answered, and the operator did not accept it.
    NotAccepted = 8,
    /// The node is claimed, but may not know that this is known.
    Unconfirmed = 9,
    /// A node did not show in time that it did what it was told.
    NotShown = 10,
    /// A node says that it did not do what it was told.
    Refused = 11,
    /// There is nothing that a node could be told.
    NotComputable = 12,
    /// A node may have been rolled back, or be there twice.
    Doubted = 13,
    /// The log of acts and refusals is not as it was written.
    Log = 14,
    /// Fewer have approved than must.
    Unapproved = 15,
    /// The operator ended it; the message says what is stored.
    Interrupted = 130,
}

/// The end of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Error {
    pub exit: Exit,
    pub message: String,
    /// The result that was printed says it already.
    pub told: bool,
}

impl Error {
    pub fn new(exit: Exit, message: impl Into<String>) -> Self {
        Self { exit, message: message.into(), told: false }
    }

    pub fn input(message: impl Into<String>) -> Self {
        Self::new(Exit::Input, message)
    }

    pub fn network(message: impl Into<String>) -> Self {
        Self::new(Exit::Network, message)
    }

    pub fn failed(message: impl Into<String>) -> Self {
        Self::new(Exit::Failed, message)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Error {}
