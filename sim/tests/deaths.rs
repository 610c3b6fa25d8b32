//! Domains that die and power that is cut, at any step.

use std::{cell::RefCell, time::Duration};

use sim::{
    Administrator, Plan, Tear, World,
    admin::{pass, simulate},
    scenario::WAIT,
};

/// What a node without a scan is made of, and an administrator who may claim it.
fn make<'w>(world: &'w RefCell<World>) -> (Administrator<'w>, usize) {
    let admin = Administrator::new(world, 0, 1).unwrap();
    let mut plan = Plan { anchor: admin.anchor_file(), ..Plan::default() };
    plan.params.scan_ms = 0.into();
    let node = world.borrow_mut().add(&plan);
    (admin, node)
}

/// Steps of a node from power-on to the end of its claim, as far as deaths are put into it.
const STEPS: u64 = 240;

/// A domain that dies at any step takes the node to a named state: sealed if the phase needs the domain, else the claim goes on
/// or may be made again. Nothing else of the node dies with it, and the death is said.
#[test]
fn whoever_dies_at_any_step_is_named_and_seals_the_node_only_if_it_is_needed() {
    let domains = ["entropy", "net", "perimeter", "beacon", "claim", "mesh", "workload", "timer"];
    for (number, domain) in domains.into_iter().enumerate() {
        for step in (number as u64..STEPS).step_by(24) {
            let world = RefCell::new(World::new(step));
            simulate(async {
                let (admin, node) = make(&world);
                world.borrow_mut().power_on(node);
                world.borrow_mut().before_step(step, move |world| world.kill(node, domain));
                let _ = admin.claim(None, Duration::from_secs(20)).await;
                pass(&world, Duration::from_secs(60)).await;
                let world = world.borrow();
                let said = world.console(node).iter().filter(|line| line.contains("died")).count();
                assert_eq!(said, 1, "{domain} at {step}: {:#?}", world.console(node));
                let phase = world.phase(node).unwrap_or("none");
                let sensible = match domain {
                    // Samples that do not come leave it blind; it needs no more of them once it has keys.
                    "entropy" => ["blind", "claimed"].contains(&phase),
                    // Nobody is needed less.
                    "mesh" | "workload" => ["committed", "claimed"].contains(&phase),
                    // Not needed any more by a node that is claimed.
                    "beacon" | "claim" => ["sealed", "claimed"].contains(&phase),
                    _ => phase == "sealed",
                };
                assert!(sensible, "{domain} at {step}: {phase}");
            });
        }
    }
}

/// Power is cut at each write of a record, and what was being written is there, or is not, or what stood there before. The node
/// that comes back is the one that was, or, if nothing was committed yet, a new one; it can be claimed, or is claimed.
#[test]
fn power_that_is_cut_at_any_write_leaves_a_node_that_can_be_claimed() {
    for tear in [Tear::Old, Tear::Nothing, Tear::New] {
        for write in 0..8 {
            let world = RefCell::new(World::new(write));
            simulate(async {
                let (admin, node) = make(&world);
                world.borrow().flash(node).cut_at(write, tear);
                world.borrow_mut().power_on(node);
                let claim = admin.claim(None, Duration::from_secs(5)).await;
                world.borrow_mut().power_on(node);
                // Counters of finds are milliseconds of the day, and rise over the cut.
                let again = admin.claim(None, WAIT).await;
                pass(&world, Duration::from_secs(30)).await;
                let phase = world.borrow().phase(node).map(str::to_owned);
                let claimed = claim.is_ok() || again.is_ok();
                assert!(claimed && phase.as_deref() == Some("claimed"), "write {write}, {tear:?}: {phase:?}");
            });
        }
    }
}

/// The same node runs twice to the same step, and is cut there: so any moment of a run can be had again.
#[test]
fn a_world_is_had_again_by_running_its_script_to_the_same_step() {
    let run = |step: u64| {
        let world = RefCell::new(World::new(9));
        world.borrow_mut().record();
        simulate(async {
            let (admin, node) = make(&world);
            world.borrow_mut().power_on(node);
            world.borrow_mut().before_step(step, move |world| world.power_off(node));
            let _ = admin.claim(None, Duration::from_secs(3)).await;
        });
        world.into_inner().trace().to_string()
    };
    let (one, two) = (run(150), run(150));
    assert!(one == two);
    // A step may say nothing: the neighbour could give the same trace.
    assert!(one.contains("off") && one != run(200));
}
