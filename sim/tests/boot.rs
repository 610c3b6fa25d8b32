//! A node from power-on to hold, in the simulator.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use calls::Domain;
use sim::{Entropy, Plan, Rng, Stop, System, World};

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

/// Its source is there and gives nothing; later it does.
#[test]
fn a_node_whose_source_is_silent_from_the_start_says_so_and_goes_on_when_it_is_not() {
    let mut world = World::new(1);
    let node = world.add(&quick());
    world.setup(node).entropy = Entropy::Silent;
    world.power_on(node);
    assert_eq!(world.run_until(u64::MAX, |_| false), Err(Stop::Idle));
    let console = world.console(node);
    assert_eq!(
        console,
        ["genesis: phase blind", "genesis: waits for samples: the source of randomness is silent or slow"]
    );
    world.source(node, Entropy::Good(Rng::new(2)));
    assert_eq!(world.run_until(u64::MAX, |_| false), Err(Stop::Idle));
    assert_eq!(world.phase(node), Some("hold"));
}

/// `calls::domains!` and `system.xml` each list the domains of a node.
#[test]
fn the_list_of_domains_is_that_of_the_description() {
    let board = sysdesc::Board::parse(include_str!("../../boards/native.toml")).unwrap();
    let system = sysdesc::elaborate(include_str!("../../system.xml"), &board).unwrap();
    let sorted = |mut names: Vec<String>| {
        names.sort_unstable();
        names
    };
    let listed = |domains: &[Domain]| sorted(domains.iter().map(|domain| domain.name().to_owned()).collect());
    assert_eq!(sorted(system.all_domains().iter().map(|domain| domain.name.clone()).collect()), listed(Domain::ALL));
    let lifecycle = system.domain("lifecycle").unwrap();
    let children = lifecycle.children.iter().map(|child| child.name.clone()).collect();
    assert_eq!(sorted(children), listed(Domain::CHILDREN));
}

/// On seL4 the domain does not start if this does not hold; elsewhere nobody would notice.
#[test]
fn what_mesh_works_in_fits_into_the_region_that_it_has_for_that() {
    let system = System::of_the_node();
    let region =
        system.regions.iter().find(|region| region.name == "mesh_memory").expect("mesh has a region of its own");
    let needed = size_of::<node::mesh::Memory>();
    assert!(needed <= region.size, "{needed:#x} bytes into {:#x}", region.size);
}
