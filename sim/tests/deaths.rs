//! Domains that die and power that is cut, at any step.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use os_network_admin::fleet::delivery::Outcome;
use sim::{
    Administrator, World,
    admin::{pass, simulate},
    nor::Cut,
    scenario::WAIT,
};
use wire::command::Operation;

/// What a node without a scan is made of, and an administrator who may claim it.
fn make<'w>(world: &'w RefCell<World>) -> (Administrator<'w>, usize) {
    let admin = Administrator::new(world, 0, 1).unwrap();
    let plan = admin.plan_without_scan();
    let node = world.borrow_mut().add(&plan);
    (admin, node)
}

/// The children of lifecycle, each of which may die.
const CHILDREN: [&str; 10] =
    ["entropy", "store", "net", "perimeter", "beacon", "claim", "mesh", "workload", "timer", "console"];

/// A domain dies at this step of a node's life from its power-on to its membership. It is started anew, nothing else of the node
/// dies with it or breaks a rule, and with nobody's help the node is claimed in the end: by the claim that ran, or by the next.
fn dies(domain: &'static str, step: u64) {
    let world = RefCell::new(World::new(step));
    simulate(async {
        let (admin, node) = make(&world);
        world.borrow_mut().power_on(node);
        world.borrow_mut().before_step(step, move |world| world.kill(node, domain));
        let _ = admin.claim(None, WAIT).await;
        pass(&world, Duration::from_secs(1)).await;
        let phase = |world: &RefCell<World>| world.borrow().phase(node).unwrap_or("none").to_owned();
        if !["committed", "claimed"].contains(&phase(&world).as_str()) {
            admin.claim(None, WAIT).await.unwrap_or_else(|error| panic!("{domain} at {step}: {error}"));
        }
        // What was not acknowledged the mesh settles.
        pass(&world, Duration::from_secs(30)).await;
        let outcome = admin.command(Operation::Status, WAIT).await.unwrap();
        assert!(matches!(outcome[..], [Outcome::Done { .. }]), "{domain} at {step}: {outcome:?}");
        assert_eq!(phase(&world), "claimed", "{domain} at {step}");
        let world = world.borrow();
        assert!(world.steps() > step, "{domain}: there is no step {step}");
        let faults: Vec<_> = world.console(node).iter().filter(|line| line.contains("fault")).collect();
        let said = format!("genesis: fault {domain} died; started anew (1 so far, ");
        assert!(faults.len() == 1 && faults[0].starts_with(&said), "{domain} at {step}: {faults:?}");
    });
}

/// Steps of a node from power-on to the end of its claim and its first handshakes, as far as deaths are put into it.
const STEPS: u64 = 300;

#[test]
fn whoever_dies_is_started_anew_and_the_node_is_claimed_all_the_same() {
    let stride = if std::env::var_os("SIM_WHOLE").is_some() { 1 } else { 40 };
    let mut cases = 0;
    for (number, domain) in CHILDREN.into_iter().enumerate() {
        for step in (1 + number as u64 % stride..STEPS).step_by(stride as usize) {
            dies(domain, step);
            cases += 1;
        }
    }
    println!("{cases} deaths of {}", STEPS * CHILDREN.len() as u64);
}

/// A domain hangs from the next frame, call or alarm on that needs it: within 5 s of that it is started anew, nothing else is,
/// and the node is what it was.
#[test]
fn whoever_hangs_is_started_anew_within_five_seconds_of_being_needed() {
    for claimed in [false, true] {
        let world = RefCell::new(World::new(u64::from(claimed)));
        simulate(async {
            let (admin, node) = make(&world);
            world.borrow_mut().power_on(node);
            pass(&world, Duration::from_secs(10)).await;
            if claimed {
                admin.claim(None, WAIT).await.unwrap();
                pass(&world, Duration::from_secs(30)).await;
            }
            let before = world.borrow().phase(node).unwrap().to_owned();
            for domain in CHILDREN {
                // A clock that has something to do goes on.
                let later = world.borrow().now() + 60_000_000;
                world.borrow_mut().at(later, |_| {});
                pass(&world, Duration::from_secs(61)).await;
                let lines = world.borrow().console(node).len();
                world.borrow_mut().hang(node, domain);
                world.borrow_mut().wake(node, domain);
                // The timer cannot tell of itself: something else wakes lifecycle.
                let now = world.borrow().now();
                for wake in (now..=now + 4_800_000).step_by(1_200_000).filter(|_| domain == "timer") {
                    world.borrow_mut().at(wake, move |world| world.wake(node, "lifecycle"));
                }
                pass(&world, Duration::from_millis(4900)).await;
                let world = world.borrow();
                let said: Vec<_> = world.console(node)[lines..].iter().filter(|line| line.contains("fault")).collect();
                let hung = format!("genesis: fault {domain} hung; started anew (1 so far, ");
                assert!(said.len() == 1 && said[0].starts_with(&hung), "{domain}: {said:?}");
                assert_eq!(world.phase(node), Some(&*before), "{domain}");
            }
            if !claimed {
                admin.claim(None, WAIT).await.unwrap();
            }
            pass(&world, Duration::from_secs(30)).await;
            let outcome = admin.command(Operation::Status, WAIT).await.unwrap();
            assert!(matches!(outcome[..], [Outcome::Done { .. }]), "{outcome:?}");
        });
    }
}

/// Points of a first boot and its claim at which the power is cut: a sample, spread evenly.
const CUTS: u64 = 40;

/// Power is cut in the middle of what is written to the flash, of the word that is being written nothing is left or some. The
/// node that comes back has the identity that it has shown before, and is claimed or can be.
#[test]
fn power_that_is_cut_at_any_write_leaves_a_node_that_can_be_claimed() {
    let whole = cut(None);
    assert!(whole > 10_000, "{whole} words: three records, a binding, an acknowledgement at least, twice each");
    for number in 0..CUTS {
        cut(Some(Cut { point: number * whole / CUTS, seed: number % 2 }));
    }
}

/// A claim, cut at this point and then made again. How many points there were.
fn cut(at: Option<Cut>) -> u64 {
    let world = RefCell::new(World::new(5));
    simulate(async {
        let (admin, node) = make(&world);
        let flash = world.borrow().flash(node);
        world.borrow_mut().power_on(node);
        // Power that comes back makes a flash whole again, so this comes after it, and before the first step.
        if let Some(at) = at {
            flash.cut_at(at);
        }
        let claim = admin.claim(None, Duration::from_secs(5)).await;
        pass(&world, Duration::from_secs(1)).await;
        assert_eq!(flash.is_cut(), at.is_some(), "{at:?}");
        if at.is_some() {
            world.borrow_mut().power_on(node);
            // The same grant settles it, unless the node is claimed for good and could not say so.
            let is_final = claim.is_ok() || world.borrow().phase(node) == Some("claimed");
            let again = admin.claim(None, WAIT).await;
            let is_final = is_final || world.borrow().phase(node) == Some("claimed");
            assert!(is_final || again.is_ok(), "{at:?}");
        }
        pass(&world, Duration::from_secs(30)).await;
        let world = world.borrow();
        assert_eq!(world.phase(node), Some("claimed"), "{at:?}");
        // No identity is shown before it is committed: so there was only ever one.
        let console = world.console(node).iter();
        let shown: BTreeSet<_> =
            console.filter_map(|line| line.split("genesis: identity ").nth(1)?.split(' ').next()).collect();
        assert_eq!(shown.len(), 1, "{at:?}: {shown:?}");
        flash.nor().points()
    })
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
