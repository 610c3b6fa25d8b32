//! What the world writes into its trace.

use super::World;
use crate::{
    segment::Port,
    system::DomainId,
    trace::{self, Line},
};

impl World {
    /// Adds a line of the caller's to the trace.
    pub fn remark(&mut self, from: &str, to: &str, what: &str) {
        if let Some(trace) = &mut self.trace {
            let at = self.now;
            trace.0.push(Line { at, place: "-".into(), from: from.into(), to: to.into(), what: what.into() });
        }
    }

    pub(super) fn name_of(&self, port: Port) -> String {
        match port {
            Port::Node(node) => format!("node {node}"),
            Port::Host(host) => format!("host {host}"),
            Port::Nobody => "nobody".to_owned(),
        }
    }

    pub(super) fn say(&mut self, from: String, to: String, what: String, segment: usize) {
        let at = self.now;
        if let Some(trace) = &mut self.trace {
            trace.0.push(Line { at, place: format!("segment {segment}"), from, to, what });
        }
    }

    pub(super) fn note(&mut self, node: usize, from: &str, to: &str, what: impl FnOnce() -> String) {
        let at = self.now;
        if let Some(trace) = &mut self.trace {
            let place = format!("node {node}");
            trace.0.push(Line { at, place, from: from.into(), to: to.into(), what: what() });
        }
    }

    /// Says what is new in the regions from one domain to the other.
    pub(super) fn note_call(&mut self, node: usize, from: DomainId, to: DomainId) {
        let system = self.system.clone();
        let (from_name, to_name) = (&system.domains[from].name, &system.domains[to].name);
        let place = &mut self.places[node];
        let Some(machine) = &place.machine else { return };
        let mut said = Vec::new();
        for region in system.between(from, to) {
            let name = &system.regions[region].name;
            let [first, second, _, _, nudges] = machine.words(region);
            let mut is_new = |key, value| place.seen.insert(key, value).unwrap_or(0) != value;
            if name.ends_with("_req") {
                if is_new(2 * region, first) {
                    said.push(match second {
                        // The client has its answer, or gave up, and has wiped its request.
                        0 => "no call".to_owned(),
                        _ => format!("call {}", trace::operation(to_name, second)),
                    });
                }
            } else if name.ends_with("_rep") {
                if is_new(2 * region, first) {
                    said.push(format!("answer: {}", trace::status(from_name, second)));
                }
                if is_new(2 * region + 1, nudges) {
                    said.push("nudge".to_owned());
                }
            } else if is_new(2 * region, first) {
                // A ring has a slot more, a cell another value.
                said.push(name.clone());
            }
        }
        let what = if said.is_empty() { "notification".to_owned() } else { said.join(", ") };
        self.note(node, from_name, to_name, || what);
    }
}
