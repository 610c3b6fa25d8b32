//! Policy, outcomes and telemetry as documents.

use std::collections::BTreeMap;

use wire::{
    Hex, Phase,
    command::Operation,
    telemetry::{CommandResult, Reason, Telemetry},
};

use zerocopy::IntoBytes;

use super::{
    account::Entry,
    delivery::{Outcome, why},
    view::View,
};
use crate::{
    base::error::Error,
    output::{self, Told, millis},
    registry::{Member, Rules},
};

fn result_name(result: Option<CommandResult>) -> &'static str {
    result.map_or("other", CommandResult::name)
}

/// The rules of the fleet, and of the one member asked for or of those with rules of their own.
pub fn policy(view: &View<'_>, one: Option<&Member>) -> Result<output::Policy, Error> {
    let texts = |rules: &Rules| rules.iter().map(ToString::to_string).collect();
    let shown = match one {
        Some(one) => vec![one.clone()],
        None => view.registry.members_with_rules(&view.fleet.id)?,
    };
    let member = |member: &Member| output::MemberRules {
        node: member.who.to_string(),
        own: member.rules.is_some(),
        rules: texts(view.rules(member)),
    };
    Ok(output::Policy {
        fleet: view.fleet.name.clone(),
        rules: texts(&view.fleet.rules),
        members: shown.iter().map(member).collect(),
        one: one.is_some(),
    })
}

pub fn told(entry: &Entry) -> Told {
    let outcome = match &entry.outcome {
        Outcome::Done { after, .. } => output::Outcome::Applied { after_ms: millis(*after) },
        Outcome::Proved { receipt, after } => {
            output::Outcome::Proved { after_ms: millis(*after), receipt: Hex(receipt.as_bytes()).to_string() }
        }
        Outcome::Current => output::Outcome::Applied { after_ms: 0 },
        Outcome::Otherwise(receipt) => output::Outcome::Otherwise { receipt: Hex(receipt.as_bytes()).to_string() },
        Outcome::Refused(code) => output::Outcome::Refused { reason: result_name(*code).into(), why: why(*code) },
        Outcome::NoAnswer => output::Outcome::NotShown,
        Outcome::NotReached(why) => output::Outcome::NotReached { reason: why.message.clone() },
        Outcome::NotComputable(why) => output::Outcome::NotComputable { reason: why.message.clone() },
    };
    Told { node: entry.who.clone(), outcome }
}

pub fn record(view: &View<'_>, member: &Member, record: &Telemetry, heard_ms: Option<i64>) -> output::Record {
    let (v4, v6) = view.fleet.addresses(member.host);
    output::Record {
        node: member.who.to_string(),
        v4,
        v6,
        heard_ms,
        phase: record.phase().map_or("unknown", Phase::name).into(),
        isolated: record.isolated != 0,
        operation: record.operation().map(|operation| Operation::name(operation).into()),
        result: result_name(record.result()).into(),
        counter: record.counter.get(),
        sequence: record.sequence.get(),
        configuration: Hex(&record.configuration).to_string(),
        current: member.wanted.is_some_and(|hash| hash.starts_with(&record.configuration)),
        epoch: record.epoch.get(),
        uptime_ms: record.uptime_ms.get(),
        life: output::Life::new(record),
        command_floors: record.command_floors.iter().map(|floor| floor.get()).collect(),
        received: record.received.get(),
        received_bytes: record.received_bytes.get(),
        sent: record.sent.get(),
        sent_bytes: record.sent_bytes.get(),
        handshakes: record.handshakes.get(),
        outer_dropped: record.dropped(Reason::Outer),
        policy_dropped: record.dropped(Reason::Policy),
        commands_dropped: record.dropped(Reason::Command),
        heartbeat: record.heartbeat.get(),
        frames_malformed: record.malformed(),
        frames_refused: record.refused(),
        frames_own: record.dropped(Reason::Own),
        frames_full: record.dropped(Reason::Full),
        lost: record.dropped(Reason::Lost),
        dropped: dropped(record),
    }
}

/// By reason, those of which there are some.
fn dropped(record: &Telemetry) -> BTreeMap<String, u64> {
    let all = Reason::ALL.iter().map(|reason| (reason.name().to_owned(), record.dropped(*reason)));
    all.filter(|(_, count)| *count > 0).collect()
}

/// The last record of a member, if there is one.
pub fn last(view: &View<'_>, member: &Member) -> Option<output::Record> {
    member.telemetry.as_ref().map(|(said, ms)| record(view, member, said, Some(*ms)))
}

/// What is known of all nodes, for a terminal.
pub fn table(view: &View<'_>, now_ms: i64) -> Result<output::Table, Error> {
    let rows = view.nodes()?.into_iter().map(|node| output::TableRow {
        node: node.member.who.to_string(),
        v4: view.fleet.addresses(node.member.host).0,
        revoked: node.member.revoked_ms.is_some(),
        doubt: output::Doubt::new(&node.member.doubt).map(|doubt| doubt.word()),
        record: last(view, &node.member),
    });
    Ok(output::Table { rows: rows.collect(), now_ms })
}
