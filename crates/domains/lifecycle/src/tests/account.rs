use wire::telemetry::Cause;

use super::*;

impl Rig {
    /// What mesh would find.
    fn account(&mut self) -> Account {
        self.account.poll().expect("something new")
    }
}

#[test]
fn what_the_node_has_been_through_stands_there_for_telemetry() {
    let mut rig = Rig::claimed(&configuration(80));
    rig.kept.status.boots = 7;
    rig.kept.status.command_floors = [1, 2, 3, 4, 5, 6, 7];
    rig.keystore.nudge();
    rig.run();
    // Of what the store has done it is known when it is asked, once a minute at most.
    rig.pass(61_000 * MS);
    rig.run();
    let account = rig.account();
    assert_eq!((account.boots, account.command_floors), (7, [1, 2, 3, 4, 5, 6, 7]));
    let stored = rig.flash.account;
    assert!(stored.writes > 0);
    assert_eq!((account.store_writes, account.store_erases), (stored.writes, stored.erases));
    assert_eq!((account.restarts.iter().sum::<u32>(), account.fault_domain), (0, 0));

    rig.core.died(Domain::Mesh, rig.now, &mut rig.ports);
    rig.run();
    let after = rig.account();
    assert_eq!(after.restarts[Domain::Mesh as usize], 1);
    assert_eq!((after.fault_domain, after.fault_cause), (Domain::Mesh as u32, Cause::Died as u32));
    assert_eq!(after.fault_count, 1);
    assert!(after.fault_at_ms >= 61_000);
    assert_eq!(Account { restarts: account.restarts, ..after }.boots, account.boots);
}

#[test]
fn nothing_is_asked_of_a_store_for_telemetry_that_nobody_makes() {
    let mut rig = Rig::holding();
    rig.store_answers = false;
    rig.pass(120_000 * MS);
    assert_eq!(rig.store.waiting(), None);
}
