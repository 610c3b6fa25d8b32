//! A node from power-on to hold, in the simulator.

use sim::{Plan, Stop, World};

fn quick() -> Plan {
    let mut plan = Plan::default();
    plan.params.scan_ms = 0.into();
    plan
}

#[test]
fn a_node_boots_to_hold_and_then_arms_no_clock() {
    let mut world = World::new(1);
    world.record();
    let node = world.add(&quick());
    world.power_on(node);
    let ended = world.run_until(u64::MAX, |_| false);
    println!("{}\n{:#?}", world.trace(), world.console(node));
    assert_eq!(ended, Err(Stop::Idle));
    assert_eq!(world.phase(node), Some("hold"));
}
