//! What a node has been through, as it says itself.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use wire::telemetry::{Cause, DOMAIN_NAMES, Telemetry};

/// Power-ups, domains that were started again, the store. A record of schema 2 says nothing of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Life {
    /// Null: the node does not say.
    pub boots: Option<u64>,
    /// Of each domain that was started again since power-up, how often.
    pub restarts: BTreeMap<String, u32>,
    /// The last of these.
    pub last_fault: Option<Fault>,
    pub store_writes: u64,
    pub store_erases: u64,
    pub store_errors: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub domain: String,
    pub cause: String,
    /// How often this domain was started again.
    pub count: u32,
    /// Since power-up.
    pub at_ms: u64,
}

impl Life {
    pub fn new(record: &Telemetry) -> Self {
        let restarts = (0..).zip(record.restarts).filter(|(_, count)| count.get() > 0);
        let cause = record.fault_cause();
        Self {
            boots: Some(record.boots.get()).filter(|boots| *boots > 0),
            restarts: restarts.map(|(number, count)| (domain(number), count.get())).collect(),
            last_fault: (cause != Some(Cause::None)).then(|| Fault {
                domain: domain(record.fault_domain),
                cause: cause.map_or("other", Cause::name).into(),
                count: record.fault_count.get(),
                at_ms: record.fault_at_ms.get(),
            }),
            store_writes: record.store_writes.get(),
            store_erases: record.store_erases.get(),
            store_errors: record.store_errors.get(),
        }
    }

    /// In one line.
    pub fn text(&self) -> String {
        let boots = self.boots.map_or("boots not known".into(), |boots| format!("boots {boots}"));
        format!("{boots}, restarts {}; store: {}", self.restarts_text(), self.store_text())
    }

    pub fn restarts_text(&self) -> String {
        if self.restarts.is_empty() {
            return "none".into();
        }
        let each: Vec<String> = self.restarts.iter().map(|(domain, count)| format!("{domain} {count}")).collect();
        let last = self.last_fault.as_ref().map(|Fault { domain, cause, at_ms, .. }| {
            format!(" (the last: {domain} {cause}, {} s after power-up)", at_ms / 1000)
        });
        each.join(", ") + &last.unwrap_or_default()
    }

    pub fn store_text(&self) -> String {
        let Self { store_writes, store_erases, store_errors, .. } = self;
        format!("{store_writes} writes, {store_erases} erases, {store_errors} errors")
    }
}

/// A domain by its number; one of a later version has only that.
fn domain(number: u8) -> String {
    let name = DOMAIN_NAMES.get(usize::from(number)).filter(|name| !name.is_empty());
    name.map_or_else(|| format!("domain {number}"), |name| (*name).to_owned())
}
