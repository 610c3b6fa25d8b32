//! Policy, outcomes and telemetry as they are printed.

use std::time::Duration;

use serde_json::{Value, json};
use wire::{
    Phase,
    binding::configuration_hash,
    command::Operation,
    telemetry::{CommandResult, Telemetry},
};

use super::{
    delivery::{Outcome, why},
    view::View,
};
use crate::{
    base::host::{Host, System},
    registry::{Member, Rules, Who},
};

fn phase(record: &Telemetry) -> &'static str {
    record.phase().map_or("unknown", Phase::name)
}

fn result_name(result: Option<CommandResult>) -> &'static str {
    result.map_or("other", CommandResult::name)
}

fn rules_json(rules: &Rules) -> Vec<String> {
    rules.iter().map(ToString::to_string).collect()
}

fn rules_text(rules: &Rules) -> String {
    match rules.len() {
        0 => "  none: only commands and telemetry".into(),
        _ => {
            rules.iter().enumerate().map(|(at, rule)| format!("  {:>2}  {rule}", at + 1)).collect::<Vec<_>>().join("\n")
        }
    }
}

/// The members whose rules are shown: the one asked for, or those with rules of their own.
fn own_rules<'a>(view: &'a View, one: Option<&'a Member>) -> impl Iterator<Item = (&'a Member, &'a Rules)> {
    let shown = move |member: &&Member| match one {
        Some(one) => member.id == one.id,
        None => member.rules.is_some() && member.revoked_ms.is_none(),
    };
    view.members.iter().filter(shown).map(|member| (member, view.rules(member)))
}

pub fn policy_json(view: &View, one: Option<&Member>) -> Value {
    let members: Vec<Value> = own_rules(view, one)
        .map(|(member, rules)| {
            json!({"node": member.who.to_string(), "own": member.rules.is_some(), "rules": rules_json(rules)})
        })
        .collect();
    json!({"fleet": view.fleet.name, "rules": rules_json(&view.fleet.rules), "members": members})
}

pub fn policy_text(view: &View, one: Option<&Member>) -> String {
    let mut lines = Vec::new();
    if one.is_none() {
        lines.push(format!("fleet {}\n{}", view.fleet.name, rules_text(&view.fleet.rules)));
    }
    for (member, rules) in own_rules(view, one) {
        let whose = if member.rules.is_some() { "its own" } else { "the fleet's" };
        lines.push(format!("{}, {whose}\n{}", member.who, rules_text(rules)));
    }
    lines.join("\n")
}

pub fn outcome_json(who: &str, outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Done { after, .. } => {
            json!({"node": who, "outcome": "applied", "after_ms": u64::try_from(after.as_millis()).unwrap_or(u64::MAX)})
        }
        Outcome::Refused(code) => json!({"node": who, "outcome": "refused", "reason": result_name(*code)}),
        Outcome::NoAnswer => json!({"node": who, "outcome": "not_shown"}),
    }
}

pub fn outcome_text(who: &str, outcome: &Outcome) -> String {
    match outcome {
        Outcome::Done { after, .. } => format!("{who}  applied after {}", seconds(*after)),
        Outcome::Refused(code) => format!("{who}  refused: {}", why(*code)),
        Outcome::NoAnswer => format!("{who}  has not shown that it has it"),
    }
}

pub fn seconds(time: Duration) -> String {
    format!("{:.3} s", time.as_secs_f64())
}

/// Whether the node shows the configuration that it should have.
fn is_current(view: &View, member: &Member, record: &Telemetry) -> bool {
    let wanted = view.configuration(member).map(|wanted| configuration_hash(&wanted));
    wanted.is_ok_and(|hash| hash.starts_with(&record.configuration))
}

pub fn record_json(view: &View, member: &Member, record: &Telemetry, heard_ms: Option<i64>) -> Value {
    let (v4, v6) = view.fleet.addresses(member.host);
    json!({
        "node": member.who.to_string(),
        "v4": v4.to_string(),
        "v6": v6.to_string(),
        "heard_ms": heard_ms,
        "phase": phase(record),
        "isolated": record.isolated != 0,
        "operation": record.operation().map(Operation::name),
        "result": result_name(record.result()),
        "counter": record.counter.get(),
        "sequence": record.sequence.get(),
        "configuration": wire::Hex(&record.configuration).to_string(),
        "current": is_current(view, member, record),
        "epoch": record.epoch.get(),
        "uptime_ms": record.uptime_ms.get(),
        "received": record.received.get(),
        "received_bytes": record.received_bytes.get(),
        "sent": record.sent.get(),
        "sent_bytes": record.sent_bytes.get(),
        "handshakes": record.handshakes.get(),
        "outer_dropped": record.outer_dropped.get(),
        "policy_dropped": record.policy_dropped.get(),
        "commands_dropped": record.commands_dropped.get(),
        "heartbeat": record.heartbeat.get(),
    })
}

pub fn record_text(view: &View, member: &Member, record: &Telemetry) -> String {
    let (v4, _) = view.fleet.addresses(member.host);
    let isolated = if record.isolated != 0 { ", isolated" } else { "" };
    let current = if is_current(view, member, record) { "current" } else { "not what it should have" };
    format!(
        "{}  {v4}  {}{isolated}, up {} s, configuration {current}\n  received {} packets ({} bytes), sent {} ({} bytes), \
         handshakes {}\n  dropped: outside {}, by policy {}, commands {}; heartbeat {}; last command {} {}, counter {}",
        member.who,
        phase(record),
        record.uptime_ms.get() / 1000,
        record.received,
        record.received_bytes,
        record.sent,
        record.sent_bytes,
        record.handshakes,
        record.outer_dropped,
        record.policy_dropped,
        record.commands_dropped,
        record.heartbeat,
        record.operation().map(Operation::name).unwrap_or("none"),
        result_name(record.result()),
        record.counter,
    )
}

/// One line a node, for a terminal.
pub fn table(view: &View) -> String {
    let now = System.now_ms();
    let mut lines = vec![format!(
        "{:<20} {:<15} {:<10} {:>9} {:>9} {:>9} {:>6} {:>9} {:>9} {:>9}  {}",
        "NODE", "ADDRESS", "PHASE", "UP", "RECEIVED", "SENT", "SHAKES", "DROPPED", "HEARTBEAT", "HEARD", "STATE"
    )];
    for member in view.members.iter().filter(|member| matches!(member.who, Who::Node(_))) {
        let (v4, _) = view.fleet.addresses(member.host);
        let print: String = member.who.to_string().chars().take(19).collect();
        let mut state = Vec::new();
        if member.revoked_ms.is_some() {
            state.push("revoked");
        }
        let Some((record, ms)) = &member.telemetry else {
            state.push("nothing heard yet");
            lines.push(format!("{print:<20} {v4:<15} {}", state.join(", ")));
            continue;
        };
        if record.isolated != 0 {
            state.push("isolated");
        }
        if member.revoked_ms.is_none() && !is_current(view, member, record) {
            state.push("configuration is behind");
        }
        let dropped = [record.outer_dropped, record.policy_dropped, record.commands_dropped].map(|count| count.get());
        lines.push(format!(
            "{print:<20} {v4:<15} {:<10} {:>7} s {:>9} {:>9} {:>6} {:>9} {:>9} {:>7} s  {}",
            phase(record),
            record.uptime_ms.get() / 1000,
            record.received,
            record.sent,
            record.handshakes,
            dropped.iter().fold(0u64, |sum, count| sum.saturating_add(*count)),
            record.heartbeat,
            now.saturating_sub(*ms).max(0) / 1000,
            state.join(", "),
        ));
    }
    if lines.len() == 1 {
        lines.push("no nodes in the mesh".into());
    }
    lines.join("\n")
}
