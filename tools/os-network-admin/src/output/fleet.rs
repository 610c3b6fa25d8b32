//! What is done with claimed nodes: policy, commands, telemetry, revocation, further peers.

use std::{
    collections::BTreeMap,
    net::{Ipv4Addr, Ipv6Addr},
};

use serde::{Deserialize, Serialize};

use super::{Document, Failure, Life, seconds};

/// How it went with one node that was told something.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Told {
    pub node: String,
    #[serde(flatten)]
    pub outcome: Outcome,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Outcome {
    Applied {
        after_ms: u64,
    },
    /// It has signed that it did it.
    Proved {
        after_ms: u64,
        /// In hex, with its signature.
        receipt: String,
    },
    /// It has signed that it did something else in its place.
    Otherwise {
        receipt: String,
    },
    Refused {
        reason: String,
        /// The same, for people.
        #[serde(skip)]
        why: &'static str,
    },
    NotShown,
    /// Nothing could be sent to it, or no more.
    NotReached {
        reason: String,
    },
    /// There is nothing that it could be told.
    NotComputable {
        reason: String,
    },
}

impl Told {
    pub fn text(&self) -> String {
        let who = &self.node;
        match &self.outcome {
            Outcome::Applied { after_ms } => format!("{who}  applied after {}", seconds(*after_ms)),
            Outcome::Proved { after_ms, .. } => format!("{who}  receipt after {}", seconds(*after_ms)),
            Outcome::Otherwise { .. } => format!("{who}  has a receipt for something else: another was first"),
            Outcome::Refused { why, .. } => format!("{who}  refused: {why}"),
            Outcome::NotShown => format!("{who}  has not shown that it has it"),
            Outcome::NotReached { reason } => format!("{who}  not reached: {reason}"),
            Outcome::NotComputable { reason } => format!("{who}  was told nothing: {reason}"),
        }
    }
}

/// A change and how each node took it; an error if one did not.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report<T> {
    #[serde(flatten)]
    pub change: T,
    pub nodes: Vec<Told>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<Failure>,
}

impl<T: Document> Document for Report<T> {
    fn text(&self) -> String {
        let mut lines = vec![self.change.text()];
        lines.extend(self.nodes.iter().map(Told::text));
        lines.retain(|line| !line.is_empty());
        if lines.is_empty() {
            lines.push("every node has what it should have".into());
        }
        lines.join("\n")
    }

    fn is_only_copy(&self) -> bool {
        self.change.is_only_copy()
    }
}

/// Of `policy push`, which changes nothing here.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pushed {}

impl Document for Pushed {
    fn text(&self) -> String {
        String::new()
    }
}

/// Of `policy show` and `policy set`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Policy {
    pub fleet: String,
    pub rules: Vec<String>,
    pub members: Vec<MemberRules>,
    /// One member was asked for: people are not shown the fleet's rules.
    #[serde(skip)]
    pub one: bool,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemberRules {
    pub node: String,
    /// Its own, in place of the fleet's.
    pub own: bool,
    pub rules: Vec<String>,
}

impl Document for Policy {
    fn text(&self) -> String {
        let mut lines = Vec::new();
        if !self.one {
            lines.push(format!("fleet {}\n{}", self.fleet, rules_text(&self.rules)));
        }
        for MemberRules { node, own, rules } in &self.members {
            let whose = if *own { "its own" } else { "the fleet's" };
            lines.push(format!("{node}, {whose}\n{}", rules_text(rules)));
        }
        lines.join("\n")
    }
}

fn rules_text(rules: &[String]) -> String {
    match rules {
        [] => "  none: only commands and telemetry".into(),
        _ => (1..).zip(rules).map(|(at, rule)| format!("  {at:>2}  {rule}")).collect::<Vec<_>>().join("\n"),
    }
}

/// Of `policy explain`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Explained {
    /// The policy has it, and the node has shown that it applies the policy.
    pub allowed: bool,
    /// The node has shown that it has what it should have.
    pub applied: bool,
    /// What the configuration says that the node has shown last; null if that is not known here.
    pub in_force: Option<bool>,
    /// The reason, in words.
    pub because: String,
    /// The number of the rule that names the flow.
    pub rule: Option<usize>,
    /// As the node has last said.
    pub isolated: bool,
}

impl Document for Explained {
    fn text(&self) -> String {
        let answer = match (self.allowed, self.applied) {
            (true, _) => "yes",
            (false, true) => "no",
            (false, false) => "not applied yet",
        };
        format!("{answer}: {}", self.because)
    }
}

/// A record of telemetry, with what the registry makes of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    pub node: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub heard_ms: Option<i64>,
    pub phase: String,
    pub isolated: bool,
    /// The last command, if there was one.
    pub operation: Option<String>,
    pub result: String,
    pub counter: u32,
    pub sequence: u32,
    pub configuration: String,
    /// The configuration in force is the one that it should have.
    pub current: bool,
    pub epoch: u64,
    pub uptime_ms: u64,
    #[serde(flatten)]
    pub life: Life,
    /// Of each authority, the counter that its next command must be above.
    pub command_floors: Vec<u32>,
    pub received: u64,
    pub received_bytes: u64,
    pub sent: u64,
    pub sent_bytes: u64,
    pub handshakes: u64,
    pub outer_dropped: u64,
    pub policy_dropped: u64,
    pub commands_dropped: u64,
    pub heartbeat: u64,
    pub frames_malformed: u64,
    pub frames_refused: u64,
    pub frames_own: u64,
    pub frames_full: u64,
    pub lost: u64,
    /// All that was dropped, by reason; reasons with none are left out.
    pub dropped: BTreeMap<String, u64>,
}

impl Document for Record {
    fn text(&self) -> String {
        let isolated = if self.isolated { ", isolated" } else { "" };
        let current = if self.current { "current" } else { "not what it should have" };
        format!(
            "{}  {}  {}{isolated}, up {} s, configuration {current}\n  {}\n  received {} packets ({} bytes), sent {} ({} bytes), \
             handshakes {}\n  dropped: outside {}, by policy {}, commands {}; heartbeat {}; last command {} {}, counter {}\n  \
             frames dropped: malformed {}, refused {}, the node's own {}, no room {}; lost {}",
            self.node,
            self.v4,
            self.phase,
            self.uptime_ms / 1000,
            self.life.text(),
            self.received,
            self.received_bytes,
            self.sent,
            self.sent_bytes,
            self.handshakes,
            self.outer_dropped,
            self.policy_dropped,
            self.commands_dropped,
            self.heartbeat,
            self.operation.as_deref().unwrap_or("none"),
            self.result,
            self.counter,
            self.frames_malformed,
            self.frames_refused,
            self.frames_own,
            self.frames_full,
            self.lost,
        )
    }
}

/// What is known of all nodes of a fleet, for a terminal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    pub rows: Vec<TableRow>,
    /// Unix milliseconds.
    pub now_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRow {
    pub node: String,
    pub v4: Ipv4Addr,
    pub revoked: bool,
    /// What speaks against it, in a few words.
    pub doubt: Option<&'static str>,
    /// The last record; none: nothing heard yet.
    pub record: Option<Record>,
}

impl Table {
    /// One line a node.
    pub fn text(&self) -> String {
        let mut lines = vec![format!(
            "{:<20} {:<15} {:<10} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9} {:>9}  {}",
            "NODE", "ADDRESS", "PHASE", "UP", "RECEIVED", "SENT", "SHAKES", "DROPPED", "HEARTBEAT", "HEARD", "STATE"
        )];
        lines.extend(self.rows.iter().map(|row| row.line(self.now_ms)));
        if lines.len() == 1 {
            lines.push("no nodes in the mesh".into());
        }
        lines.join("\n")
    }
}

impl Table {
    /// As much of it as a terminal shows at once. A row that is too wide takes several lines.
    pub fn text_within(&self, rows: usize, columns: usize) -> String {
        let text = self.text();
        let height = |line: &str| line.chars().count().div_ceil(columns.max(1)).max(1);
        let room = rows.saturating_sub(1);
        if text.lines().map(height).sum::<usize>() <= room {
            return text;
        }
        // One line says what is left out.
        let fit = |used: &mut usize, line: &str| {
            *used += height(line);
            (*used < room).then_some(())
        };
        let shown = text.lines().scan(0, |used, line| fit(used, line).map(|()| line));
        let mut lines: Vec<String> = shown.map(str::to_owned).collect();
        let left = self.rows.len() - lines.len().saturating_sub(1);
        lines.push(format!("and {left} more: telemetry --once"));
        lines.join("\n")
    }
}

impl TableRow {
    fn line(&self, now_ms: i64) -> String {
        let print: String = self.node.chars().take(19).collect();
        let v4 = self.v4;
        let mut state = Vec::new();
        if self.revoked {
            state.push("revoked");
        }
        state.extend(self.doubt);
        let Some(record) = &self.record else {
            state.push("nothing heard yet");
            return format!("{print:<20} {v4:<15} {}", state.join(", "));
        };
        if record.isolated {
            state.push("isolated");
        }
        if !self.revoked && !record.current {
            state.push("configuration is behind");
        }
        let dropped = [record.outer_dropped, record.policy_dropped, record.commands_dropped];
        format!(
            "{print:<20} {v4:<15} {:<10} {:>7} s {:>9} {:>9} {:>6} {:>9} {:>9} {:>7} s  {}",
            record.phase,
            record.uptime_ms / 1000,
            record.received,
            record.sent,
            record.handshakes,
            dropped.into_iter().fold(0u64, u64::saturating_add),
            record.heartbeat,
            record.heard_ms.map_or(0, |ms| now_ms.saturating_sub(ms).max(0) / 1000),
            state.join(", "),
        )
    }
}

/// Of `command`, when the node has shown that it obeyed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Done {
    pub after_ms: u64,
    pub telemetry: Record,
}

impl Document for Done {
    fn text(&self) -> String {
        format!("done after {}\n{}", seconds(self.after_ms), self.telemetry.text())
    }
}

/// Of `revoke`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revoked {
    pub revoked: String,
    /// Until this host's interface refused it; null: the mesh is not up.
    pub own_ms: Option<u64>,
    /// Why this host may still take it for a member.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_error: Option<String>,
    /// Until the last peer refused it; null if one has not shown it.
    pub last_ms: Option<u64>,
    /// Peers whose exported configurations name it.
    pub exported: Vec<String>,
}

impl Document for Revoked {
    fn text(&self) -> String {
        let mut lines = vec![format!("revoked      {}", self.revoked)];
        lines.push(match (self.own_ms, &self.own_error) {
            (Some(own), None) => format!("this host    refuses it after {}", seconds(own)),
            (_, Some(error)) => error.clone(),
            (None, None) => "this host    the mesh is not up, there is no interface to refuse it".into(),
        });
        lines.extend(self.last_ms.map(|last| format!("last peer    refuses it after {}", seconds(last))));
        if !self.exported.is_empty() {
            let names = self.exported.join(", ");
            lines.push(format!("remove it by hand from the configurations of {names}, or export them anew"));
        }
        lines.join("\n")
    }
}

/// Of `export`: a configuration for `wg-quick`, which has secrets in it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exported {
    pub name: String,
    pub v4: Ipv4Addr,
    pub v6: Ipv6Addr,
    pub configuration: String,
}

impl Document for Exported {
    fn text(&self) -> String {
        self.configuration.trim_end().into()
    }

    /// It may have the peer's private key.
    fn is_only_copy(&self) -> bool {
        true
    }
}
