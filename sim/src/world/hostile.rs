//! Domains that somebody else runs.

use super::World;
use crate::machine::Script;

impl World {
    /// Somebody else is in a domain's place from now on, who does with its regions and channels what it likes, and would like
    /// to see these frames on the wire.
    pub fn take_over(&mut self, node: usize, domain: &str, frames: Vec<Vec<u8>>) {
        let id = self.system.domain(domain);
        self.note(node, "fault", domain, || "is taken over".to_owned());
        let rng = self.rng.split();
        if let Some(machine) = &mut self.places[node].machine {
            machine.take_over(id, rng, frames);
            self.ready.insert(node);
        }
    }

    /// Somebody else is in a domain's place from now on, who asks lifecycle what the script says.
    pub fn ask_lifecycle(&mut self, node: usize, domain: &str, script: Script) {
        let id = self.system.domain(domain);
        self.note(node, "fault", domain, || "is taken over".to_owned());
        if let Some(machine) = &mut self.places[node].machine {
            machine.ask_lifecycle(id, script);
            self.ready.insert(node);
        }
    }
}
