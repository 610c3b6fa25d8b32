//! How a domain ended, in words and as an exit code.

use std::{fmt, os::unix::process::ExitStatusExt, process::ExitStatus};

use libc::c_int;
use serde::Serialize;
use syscalls::Sysno;

use crate::{
    pd::PANICKED,
    words::{LastWords, cause, state},
};

/// The end of a domain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Death {
    pub domain: String,
    #[serde(flatten)]
    pub cause: Cause,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "cause", rename_all = "kebab-case")]
pub enum Cause {
    /// Ended by itself, as it may: only a test's does.
    Finished,
    /// It ended before its domain code ran.
    NotStarted { reason: String },
    /// A system call that is not on its list. The call is as the domain's handler noted it.
    SystemCall { number: Option<u32>, name: Option<String> },
    /// Memory that it does not have, or not so. The address is as the domain's handler noted it.
    MemoryFault { signal: i32, address: Option<u64>, mapped: bool },
    /// It gave up: the message and its place.
    Panic { message: String },
    /// It ended although it must not.
    Exited { status: i32 },
    /// Another signal.
    Signal { signal: i32 },
}

impl Death {
    pub(super) fn new(domain: &str, status: ExitStatus, words: LastWords) -> Self {
        Self { domain: domain.to_owned(), cause: Cause::new(status, words) }
    }

    /// What `native run` exits with if this is the first death.
    pub fn exit_code(&self) -> u8 {
        match self.cause {
            Cause::Finished => 0,
            Cause::NotStarted { .. } => 4,
            Cause::SystemCall { .. } => 10,
            Cause::MemoryFault { .. } => 11,
            Cause::Panic { .. } => 12,
            Cause::Exited { .. } => 13,
            Cause::Signal { .. } => 14,
        }
    }
}

impl Cause {
    /// The kernel's word decides; the domain's own only adds to it.
    fn new(status: ExitStatus, words: LastWords) -> Self {
        if words.state == state::STARTING {
            let reason = if words.cause == cause::PANIC { words.text } else { status.to_string() };
            return Self::NotStarted { reason };
        }
        match (status.signal(), status.code()) {
            (Some(libc::SIGSYS), _) => {
                let number = (words.cause == cause::SYSTEM_CALL).then(|| u32::try_from(words.number).ok()).flatten();
                let name = number.and_then(|number| Some(Sysno::new(number as usize)?.name().to_owned()));
                Self::SystemCall { number, name }
            }
            (Some(signal @ (libc::SIGSEGV | libc::SIGBUS)), _) => {
                let address = (words.cause == cause::FAULT).then_some(words.number);
                Self::MemoryFault { signal, address, mapped: words.code == u64::from(SEGV_ACCERR) }
            }
            (Some(signal @ (libc::SIGABRT | libc::SIGILL | libc::SIGTRAP)), _) => {
                Self::Panic { message: format!("aborted by {}", signal_name(signal)) }
            }
            (Some(signal), _) => Self::Signal { signal },
            (None, Some(0)) if words.state == state::FINISHED => Self::Finished,
            (None, Some(PANICKED)) if words.cause == cause::PANIC => Self::Panic { message: words.text },
            (None, code) => Self::Exited { status: code.unwrap_or_default() },
        }
    }
}

/// The kernel's: a mapping is there, but not for this access.
const SEGV_ACCERR: u32 = 2;

fn signal_name(signal: c_int) -> String {
    let known = [
        (libc::SIGHUP, "SIGHUP"),
        (libc::SIGINT, "SIGINT"),
        (libc::SIGQUIT, "SIGQUIT"),
        (libc::SIGILL, "SIGILL"),
        (libc::SIGTRAP, "SIGTRAP"),
        (libc::SIGABRT, "SIGABRT"),
        (libc::SIGBUS, "SIGBUS"),
        (libc::SIGFPE, "SIGFPE"),
        (libc::SIGKILL, "SIGKILL"),
        (libc::SIGSEGV, "SIGSEGV"),
        (libc::SIGPIPE, "SIGPIPE"),
        (libc::SIGALRM, "SIGALRM"),
        (libc::SIGTERM, "SIGTERM"),
        (libc::SIGXCPU, "SIGXCPU"),
        (libc::SIGSYS, "SIGSYS"),
    ];
    known
        .iter()
        .find(|(number, _)| *number == signal)
        .map_or_else(|| format!("signal {signal}"), |(_, name)| (*name).to_owned())
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let verb = match self.cause {
            Cause::Finished => return write!(f, "domain {} finished", self.domain),
            Cause::NotStarted { .. } => "did not start",
            _ => "died",
        };
        write!(f, "domain {} {verb}: {}", self.domain, self.cause)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Finished => f.write_str("finished"),
            Self::NotStarted { reason } => f.write_str(reason),
            Self::SystemCall { number: Some(number), name } => {
                write!(f, "SIGSYS, system call {} ({number})", name.as_deref().unwrap_or("unknown"))
            }
            Self::SystemCall { number: None, .. } => f.write_str("SIGSYS, system call not noted"),
            Self::MemoryFault { signal, address: Some(address), mapped } => {
                let why = if *mapped { "mapped, not for this access" } else { "not mapped" };
                write!(f, "{}, address {address:#x} ({why})", signal_name(*signal))
            }
            Self::MemoryFault { signal, address: None, .. } => write!(f, "{}, address not noted", signal_name(*signal)),
            Self::Panic { message } => write!(f, "panic, {message}"),
            Self::Exited { status } => write!(f, "exited with status {status}, although it must not"),
            Self::Signal { signal } => f.write_str(&signal_name(*signal)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(state: u64, cause: u64, number: u64) -> LastWords {
        LastWords { state, cause, number, code: 1, text: "why".to_owned() }
    }

    fn death(status: i32, words: LastWords) -> (String, u8) {
        let death = Death::new("a", ExitStatus::from_raw(status), words);
        (death.to_string(), death.exit_code())
    }

    #[test]
    fn the_kernels_word_decides() {
        let sealed = state::SEALED;
        // A domain that claims to have finished, and was killed.
        let said = death(libc::SIGSYS, words(state::FINISHED, cause::PANIC, 0));
        assert_eq!(said, ("domain a died: SIGSYS, system call not noted".to_owned(), 10));
        let said = death(libc::SIGSYS, words(sealed, cause::SYSTEM_CALL, 0xffff_ffff));
        assert_eq!(said, ("domain a died: SIGSYS, system call unknown (4294967295)".to_owned(), 10));
        let said = death(libc::SIGSEGV, words(sealed, cause::FAULT, 0x1000));
        assert_eq!(said, ("domain a died: SIGSEGV, address 0x1000 (not mapped)".to_owned(), 11));
        // A panic's status without a panic, and a panic's message with another status.
        assert_eq!(death(101 << 8, words(sealed, 0, 0)).1, 13);
        assert_eq!(death(0, words(sealed, cause::PANIC, 0)).1, 13);
        assert_eq!(death(101 << 8, words(sealed, cause::PANIC, 0)), ("domain a died: panic, why".to_owned(), 12));
        assert_eq!(death(libc::SIGILL, words(sealed, 0, 0)).1, 12);
        assert_eq!(death(libc::SIGKILL, words(sealed, 0, 0)), ("domain a died: SIGKILL".to_owned(), 14));
        assert_eq!(death(0, words(state::FINISHED, 0, 0)), ("domain a finished".to_owned(), 0));
        assert_eq!(
            death(101 << 8, words(state::STARTING, cause::PANIC, 0)),
            ("domain a did not start: why".to_owned(), 4)
        );
    }
}
