//! Rules as people write them: `in authority tcp 80`, `out node udp 5000`, `in peer icmp`.

use core::{
    error::Error,
    fmt::{self, Display, Formatter},
    str::FromStr,
};

use crate::{Because, Direction, Invalid, Protocol, RESERVED, Role, Rule};

/// Why a text is no rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleError {
    Direction,
    Role,
    Protocol,
    /// TCP and UDP name one.
    NoPort,
    Port,
    /// Echo has none.
    IcmpPort,
    /// One of the node's own.
    Reserved,
    /// Words after the rule.
    Rest,
}

impl Display for RuleError {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Direction => "a rule begins with `in` or `out`: who opens the flow, as the node sees it",
            Self::Role => "the second word is the other end's role: `authority`, `node` or `peer`",
            Self::Protocol => "the third word is `tcp`, `udp` or `icmp`",
            Self::NoPort => "`tcp` and `udp` need a port, from 1 to 65535",
            Self::Port => "the port is a number from 1 to 65535",
            Self::IcmpPort => "`icmp` has no port",
            Self::Reserved => {
                "udp 8090 and 8091 are commands and telemetry: they are always there, one way, and need no rule"
            }
            Self::Rest => "nothing follows a rule",
        })
    }
}

impl Error for RuleError {}

impl FromStr for Rule {
    type Err = RuleError;

    /// Any blanks between the words, any letter case.
    fn from_str(text: &str) -> Result<Self, RuleError> {
        let mut words = text.split_whitespace();
        let mut word = || words.next();
        let is = |word: &str, name: &str| word.eq_ignore_ascii_case(name);
        let direction = match word() {
            Some(word) if is(word, "in") => Direction::In,
            Some(word) if is(word, "out") => Direction::Out,
            _ => return Err(RuleError::Direction),
        };
        let role = match word() {
            Some(word) if is(word, "authority") => Role::Authority,
            Some(word) if is(word, "node") => Role::Node,
            Some(word) if is(word, "peer") => Role::Peer,
            _ => return Err(RuleError::Role),
        };
        let protocol = match word() {
            Some(word) if is(word, "tcp") => Protocol::Tcp,
            Some(word) if is(word, "udp") => Protocol::Udp,
            Some(word) if is(word, "icmp") => Protocol::Icmp,
            _ => return Err(RuleError::Protocol),
        };
        let port = match (protocol, word()) {
            (Protocol::Icmp, None) => 0,
            (Protocol::Icmp, Some(_)) => return Err(RuleError::IcmpPort),
            (_, None) => return Err(RuleError::NoPort),
            // Digits only: `u16` would read a sign.
            (_, Some(word)) if word.bytes().all(|byte| byte.is_ascii_digit()) => {
                word.parse().ok().filter(|port| *port != 0).ok_or(RuleError::Port)?
            }
            (_, Some(_)) => return Err(RuleError::Port),
        };
        if word().is_some() {
            return Err(RuleError::Rest);
        }
        if protocol == Protocol::Udp && RESERVED.contains(&port) {
            return Err(RuleError::Reserved);
        }
        Ok(Self { direction, role, protocol, port })
    }
}

impl Display for Rule {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.direction, self.role, self.protocol)?;
        if self.protocol == Protocol::Icmp { Ok(()) } else { write!(f, " {}", self.port) }
    }
}

impl Display for Direction {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::In => "in",
            Self::Out => "out",
        })
    }
}

impl Display for Role {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authority => "authority",
            Self::Node => "node",
            Self::Peer => "peer",
        })
    }
}

impl Display for Protocol {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        })
    }
}

/// Rules are numbered from 1, as people count.
impl Display for Because {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self {
            Self::Commands => f.write_str("commands, from the authority alone"),
            Self::Records => f.write_str("authority records, which nobody but the node's authorities can make"),
            Self::Telemetry => f.write_str("telemetry, to the authority alone"),
            Self::Rule(at) => write!(f, "rule {}", at.saturating_add(1)),
        }
    }
}

impl Display for Invalid {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Encoding => "the configuration is not encoded as it should be",
            Self::Address => "an address is no unicast address, has too long a prefix, or is there twice",
            Self::Peer => "two peers have one key or one prefix, or a prefix or an endpoint is none",
            Self::Rule => "a rule has a port where it must not, none where it must, or one of the node's own",
        })
    }
}

impl Error for Invalid {}
