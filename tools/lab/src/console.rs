//! What a node's console has said. docs/lab.md lists the lines.

use std::{collections::BTreeMap, net::Ipv6Addr};

/// Everything that is known of a node, from its console and from the deaths of its domains.
#[derive(Debug, Clone, Default)]
pub struct Seen {
    /// All lines, without their ends.
    pub lines: Vec<String>,
    /// In their order; the last is the present one.
    pub phases: Vec<String>,
    /// F in hexadecimal.
    pub fiduciary: Option<String>,
    /// `image` or `ticket`.
    pub anchor: Option<String>,
    pub fingerprint: Option<String>,
    pub address: Option<Ipv6Addr>,
    pub ticket: Option<String>,
    pub faults: Vec<String>,
    /// How domains died: the domain, and a sentence.
    pub deaths: Vec<(String, String)>,
    /// The processes of the domains that live.
    pub processes: BTreeMap<String, u32>,
    /// No domain is left.
    pub ended: bool,
    /// Somebody has switched it off.
    pub off: bool,
}

impl Seen {
    pub fn phase(&self) -> Option<&str> {
        self.phases.last().map(String::as_str)
    }

    /// A death of a domain, or of the machine, that nobody has switched off.
    pub(super) fn died(&mut self, who: &str, how: impl Into<String>) {
        if !self.off {
            self.deaths.push((who.to_owned(), how.into()));
        }
    }

    /// The processes that have not ended.
    pub(super) fn running(&self) -> BTreeMap<String, u32> {
        if self.ended { BTreeMap::new() } else { self.processes.clone() }
    }

    pub(super) fn take(&mut self, line: &str) {
        self.lines.push(line.to_owned());
        let Some(words) = line.strip_prefix("genesis: ") else { return };
        let (what, rest) = words.split_once(' ').unwrap_or((words, ""));
        let first = || rest.split(' ').next().map(str::to_owned);
        match what {
            "phase" => self.phases.push(rest.to_owned()),
            "identity" => {
                self.fiduciary = first();
                self.anchor = rest.split_once(" anchor ").map(|(_, anchor)| anchor.to_owned());
            }
            "fingerprint" => self.fingerprint = first(),
            "link" => self.address = first().and_then(|address| address.parse().ok()),
            "ticket" => self.ticket = first(),
            "fault" => self.faults.push(rest.to_owned()),
            _ => {}
        }
    }

    /// The console as text.
    pub fn text(&self) -> String {
        self.lines.iter().flat_map(|line| [line.as_str(), "\n"]).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_understood_and_others_kept() {
        let mut seen = Seen::default();
        for line in [
            "genesis: phase blind",
            "genesis: identity 00ff anchor ticket",
            "genesis: fingerprint 0123-4567",
            "genesis: link fe80::1 02:00:00:00:00:01",
            "genesis: ticket GENESIS1-AAAA",
            "  ▄▄▄  ",
            "genesis: phase hold",
            "genesis: fault entropy failed",
            "genesis: claimed",
            "phase forged",
        ] {
            seen.take(line);
        }
        assert_eq!(seen.phases, ["blind", "hold"]);
        assert_eq!((seen.fiduciary.as_deref(), seen.anchor.as_deref()), (Some("00ff"), Some("ticket")));
        assert_eq!(seen.fingerprint.as_deref(), Some("0123-4567"));
        assert_eq!(seen.address, Some("fe80::1".parse().unwrap()));
        assert_eq!(seen.ticket.as_deref(), Some("GENESIS1-AAAA"));
        assert_eq!(seen.faults, ["entropy failed"]);
        assert_eq!(seen.lines.len(), 10);
    }
}
