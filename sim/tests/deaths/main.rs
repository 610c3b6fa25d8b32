//! Domains that die and power that is cut, at any step.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

mod hangs;
mod member;

use std::{cell::RefCell, collections::BTreeSet, time::Duration};

use os_network_admin::{base::error::Exit, fleet::delivery::Outcome, registry::State};
use sim::{
    Administrator, World,
    admin::{pass, simulate},
    nor::Cut,
    scenario::WAIT,
};
use wire::command::Operation;

/// `make sim` sets this: then every case runs, and else a fixed part.
fn whole() -> bool {
    std::env::var_os("SIM_WHOLE").is_some()
}

/// The children of lifecycle, each of which may die.
const CHILDREN: [&str; 10] =
    ["entropy", "store", "net", "perimeter", "beacon", "claim", "mesh", "workload", "timer", "console"];

/// A node without a scan, and an administrator who may claim it.
struct Life<'w> {
    world: &'w RefCell<World>,
    admin: Administrator<'w>,
    node: usize,
}

impl<'w> Life<'w> {
    /// It has just been switched on.
    fn begin(world: &'w RefCell<World>) -> Self {
        let admin = Administrator::new(world, 0, 1).unwrap();
        let plan = admin.plan_without_scan();
        let node = world.borrow_mut().add(&plan);
        world.borrow_mut().power_on(node);
        Self { world, admin, node }
    }

    fn phase(&self) -> String {
        self.world.borrow().phase(self.node).unwrap_or("none").to_owned()
    }

    fn said(&self) -> Vec<String> {
        self.world.borrow().console(self.node).to_vec()
    }

    async fn command(&self, operation: Operation, what: &str) {
        let outcomes = self.admin.command(operation, WAIT).await.unwrap();
        let done = matches!(outcomes[..], [Outcome::Done { .. }]);
        assert!(done, "{what}: {operation:?}: {outcomes:?}: {:#?}", self.said());
    }

    /// The claim that ran, or the same once more, leaves a node that is claimed, and an administrator who knows that; what was
    /// not acknowledged the mesh settles.
    async fn settles(&self, first: Result<(), Exit>, what: &str) {
        let paired = || self.admin.registry.nodes().unwrap().iter().any(|node| node.state == State::Paired);
        if first.is_err() && !paired() {
            let again = self.admin.claim(None, WAIT).await;
            let why = again.err().filter(|error| error.exit != Exit::Unconfirmed).map(|error| error.to_string());
            assert_eq!(why, None, "{what}, {first:?}: {:#?}", self.said());
        }
        pass(self.world, Duration::from_secs(30)).await;
        self.command(Operation::Status, what).await;
        assert_eq!(self.phase(), "claimed", "{what}");
        let nodes = self.admin.registry.nodes().unwrap();
        let known = matches!(&nodes[..], [node] if node.state == State::Paired && node.acknowledged);
        assert!(known, "{what}, {first:?}: {nodes:?}: {:#?}", self.said());
    }

    async fn claim(&self, wait: Duration) -> Result<(), Exit> {
        self.admin.claim(None, wait).await.map(drop).map_err(|error| error.exit)
    }

    /// One died, if any, and nobody else did, hung or broke a rule.
    fn assert_died(&self, domain: Option<&str>, what: &str) {
        let said = self.said();
        let faults: Vec<_> = said.iter().filter(|line| line.contains("fault")).collect();
        let died = |domain| format!("genesis: fault {domain} died; started anew (1 so far, ");
        match (&faults[..], domain) {
            ([], None) => {}
            ([line], Some(domain)) if line.starts_with(&died(domain)) => {}
            _ => panic!("{what}: {faults:#?}"),
        }
    }
}

/// A domain dies at this step of a node's life from its power-on to its membership. It is started anew, nothing else of the node
/// dies with it or breaks a rule, and with nobody's help the node is claimed in the end: by the claim that ran, or by the next.
fn dies(domain: &'static str, step: u64) {
    let world = RefCell::new(World::new(step));
    let what = format!("{domain} at {step}");
    simulate(async {
        let life = Life::begin(&world);
        let node = life.node;
        world.borrow_mut().before_step(step, move |world| world.kill(node, domain));
        let first = life.claim(WAIT).await;
        pass(&world, Duration::from_secs(1)).await;
        life.settles(first, &what).await;
        assert!(world.borrow().steps() > step, "{what}: there is no such step");
        life.assert_died(Some(domain), &what);
    });
}

/// Steps of a node from power-on to the end of its claim and its first handshakes, as far as deaths are put into it.
const STEPS: u64 = 300;

#[test]
fn whoever_dies_is_started_anew_and_the_node_is_claimed_all_the_same() {
    let stride = if whole() { 1 } else { 40 };
    let mut cases = 0;
    for (number, domain) in CHILDREN.into_iter().enumerate() {
        for step in (1 + number as u64 % stride..STEPS).step_by(stride as usize) {
            dies(domain, step);
            cases += 1;
        }
    }
    println!("{cases} deaths of {}", STEPS * CHILDREN.len() as u64);
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
    let what = format!("{at:?}");
    simulate(async {
        let life = Life::begin(&world);
        let flash = world.borrow().flash(life.node);
        // Power that comes back makes a flash whole again, so this comes after it, and before the first step.
        if let Some(at) = at {
            flash.cut_at(at);
        }
        let first = life.claim(Duration::from_secs(5)).await;
        pass(&world, Duration::from_secs(1)).await;
        assert_eq!(flash.is_cut(), at.is_some(), "{what}");
        if at.is_some() {
            world.borrow_mut().power_on(life.node);
            pass(&world, Duration::from_secs(5)).await;
        }
        let points = flash.nor().points();
        life.settles(first, &what).await;
        // No identity is shown before it is committed: so there was only ever one.
        let said = life.said();
        let identity = |line: &String| line.strip_prefix("genesis: identity ")?.split(' ').next().map(str::to_owned);
        let shown: BTreeSet<_> = said.iter().filter_map(identity).collect();
        assert_eq!(shown.len(), 1, "{what}: {shown:?}");
        points
    })
}

/// The same node runs twice to the same step, and is cut there: so any moment of a run can be had again.
#[test]
fn a_world_is_had_again_by_running_its_script_to_the_same_step() {
    let run = |step: u64| {
        let world = RefCell::new(World::new(9));
        world.borrow_mut().record();
        simulate(async {
            let life = Life::begin(&world);
            let node = life.node;
            world.borrow_mut().before_step(step, move |world| world.power_off(node));
            let _ = life.claim(Duration::from_secs(3)).await;
        });
        world.into_inner().trace().to_string()
    };
    let (one, two) = (run(150), run(150));
    assert!(one == two);
    // A step may say nothing: the neighbour could give the same trace.
    assert!(one.contains("off") && one != run(200));
}
