//! What the registry's statements cost: how many there are, and how much of the file each goes through. For tests and the bench.

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, PoisonError},
};

use rusqlite::{
    StatementStatus,
    trace::{TraceEvent, TraceEventCodes},
};

use super::file::{Registry, explain};
use crate::base::error::Error;

/// Since the last look.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Cost {
    pub statements: u64,
    /// Instructions of SQLite's machine.
    pub steps: u64,
    /// Rows of tables that were gone through without an index.
    pub scanned: u64,
}

/// Counts from now on.
#[derive(Clone, Default)]
pub struct Counter(Arc<Mutex<Counted>>);

#[derive(Default)]
struct Counted {
    cost: Cost,
    /// SQLite counts for as long as a statement is prepared: what each had when it last ended.
    before: BTreeMap<String, (i32, i32)>,
}

impl Counter {
    /// The cost since the last call.
    pub fn take(&self) -> Cost {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner).cost)
    }

    fn count(&self, event: &TraceEvent<'_>) {
        let TraceEvent::Profile(statement, _) = event else { return };
        let status = |which| statement.get_status(which);
        let now = (status(StatementStatus::VmStep), status(StatementStatus::FullscanStep));
        let mut counted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = counted.before.insert(statement.sql().into_owned(), now).unwrap_or_default();
        // One that has run once has been prepared anew.
        let before = if status(StatementStatus::Run) > 1 { before } else { (0, 0) };
        let since = |now: i32, before: i32| u64::try_from(now.saturating_sub(before)).unwrap_or_default();
        counted.cost.statements += 1;
        counted.cost.steps += since(now.0, before.0);
        counted.cost.scanned += since(now.1, before.1);
    }
}

impl Registry {
    pub fn count(&mut self) -> Result<Counter, Error> {
        let counter = Counter::default();
        let own = counter.clone();
        let traced = self
            .connection
            .trace_v2(TraceEventCodes::SQLITE_TRACE_PROFILE, Some(move |event: TraceEvent<'_>| own.count(&event)));
        traced.map_err(|error| explain(&self.path, &error))?;
        Ok(counter)
    }
}
