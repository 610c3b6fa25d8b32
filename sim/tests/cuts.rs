//! Power that goes at a point of the flash: at any word that is programmed, within it, and within an erase; in every flow
//! of a node's life, and in the boot that comes after. What was acknowledged stays, the rest is there or not, and the
//! node is always one and the same, which can be claimed, or commanded by who has claimed it.
//!
//! What a cut leaves is told apart by the hash of the flash. `SIM_WHOLE=1` runs every distinct state of each flow, and a
//! hundred of them, with twenty cuts each, for the boot that recovers (the log alone has all: `sim/tests/log/`); how
//! many there are, and how many were run, is printed either way.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use std::{
    cell::RefCell,
    collections::{BTreeSet, HashSet},
    time::Duration,
};

use calls::store::{BLOCKS, COPIES, RECORDS};
use node::store::Flash;
use os_network_admin::{fleet::delivery::Outcome, registry::Rules};
use policy::{Direction, Protocol, Role, Rule};
use sim::{
    Administrator, World,
    admin::{pass, simulate},
    nor::Cut,
    scenario::WAIT,
};
use wire::command::Operation;

const SOON: Duration = Duration::from_secs(5);

/// What the power goes in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Flow {
    /// From the first power-up to hold: identity and fork.
    FirstBoot,
    /// The second power-up, in hold.
    Boot,
    /// Find, grant, acknowledgement.
    Claim,
    /// The power-up of a claimed node: a block of counters.
    BootClaimed,
    Update,
    Isolate,
    /// More than one block of commands' counters.
    Commands,
}

impl Flow {
    fn is_claimed_before(self) -> bool {
        matches!(self, Self::BootClaimed | Self::Update | Self::Isolate | Self::Commands)
    }
}

struct Rig<'w> {
    world: &'w RefCell<World>,
    admin: Administrator<'w>,
    node: usize,
}

impl Rig<'_> {
    fn points(&self) -> u64 {
        self.world.borrow().flash(self.node).nor().points()
    }

    fn cut_at(&self, cut: Cut) {
        self.world.borrow().flash(self.node).nor().cut_at(cut);
    }

    fn digest(&self) -> u64 {
        self.world.borrow().flash(self.node).nor().image.digest()
    }

    /// How many slots have a configuration, or a part of one.
    fn at_rest(&self) -> usize {
        let flash = self.world.borrow().flash(self.node);
        let nor = flash.nor();
        let block = nor.block_size();
        (RECORDS * COPIES..BLOCKS).filter(|slot| !nor.image.is_erased(slot * block, block)).count()
    }

    fn has_power(&self) -> bool {
        self.world.borrow().machine(self.node).is_some()
    }

    fn phase(&self) -> String {
        self.world.borrow().phase(self.node).unwrap_or("none").to_owned()
    }

    fn said(&self, what: &str) -> Vec<String> {
        let world = self.world.borrow();
        world.console(self.node).iter().filter_map(|line| line.strip_prefix(what).map(str::to_owned)).collect()
    }

    async fn power_on(&self) {
        self.world.borrow_mut().power_on(self.node);
        pass(self.world, SOON).await;
    }

    async fn prepare(&self, flow: Flow) {
        if flow == Flow::FirstBoot {
            return;
        }
        self.power_on().await;
        if flow.is_claimed_before() {
            self.admin.claim(None, WAIT).await.expect("nothing stands in the way of a claim");
            self.command(Operation::Status, WAIT).await.expect("a status");
        }
    }

    async fn perform(&self, flow: Flow) {
        match flow {
            Flow::FirstBoot | Flow::Boot | Flow::BootClaimed => self.power_on().await,
            Flow::Claim => drop(self.admin.claim(None, SOON).await),
            Flow::Update => drop(self.admin.set_rules(&rules(2), SOON).await),
            Flow::Isolate => drop(self.command(Operation::Isolate, SOON).await),
            Flow::Commands => {
                for _ in 0..3 {
                    if self.has_power() {
                        // The counters are seconds.
                        pass(self.world, Duration::from_secs(300)).await;
                        drop(self.command(Operation::Status, SOON).await);
                    }
                }
            }
        }
        pass(self.world, SOON).await;
    }

    async fn command(&self, operation: Operation, wait: Duration) -> Result<(), String> {
        done(self.admin.command(operation, wait).await.map_err(|error| error.to_string())?)
    }

    /// The node is what it was or what it was to become, and does what a node does.
    async fn check(&self, flow: Flow, before: &Before) -> Result<(), String> {
        let fiduciary = |line: String| line.split(' ').next().map(str::to_owned);
        let identities: BTreeSet<_> = self.said("genesis: identity ").into_iter().filter_map(fiduciary).collect();
        if identities.len() != 1 {
            return Err(format!("identities {identities:?}"));
        }
        let phase = self.phase();
        if !["hold", "committed", "claimed"].contains(&phase.as_str())
            || (flow.is_claimed_before() && phase != "claimed")
        {
            return Err(format!("phase {phase}"));
        }
        if flow.is_claimed_before() {
            let configuration = self.said("genesis: configuration ").pop();
            let old = configuration == before.configuration;
            if configuration.is_none() || (!old && flow != Flow::Update) {
                return Err(format!("configuration {configuration:?}, before {:?}", before.configuration));
            }
        }
        // Of a claim that is to be made anew nothing is left.
        if phase == "hold" && self.at_rest() != 0 {
            return Err("a configuration at rest that nobody has committed".to_owned());
        }
        if phase != "claimed" {
            let claimed = self.admin.claim(None, WAIT).await;
            pass(self.world, SOON).await;
            if self.phase() != "claimed" {
                return Err(format!(
                    "{phase}, then {}: {:?}",
                    self.phase(),
                    claimed.err().map(|error| error.to_string())
                ));
            }
        }
        match flow {
            Flow::Isolate => done(self.admin.rejoin(WAIT).await.map_err(|error| error.to_string())?)?,
            Flow::Update => {
                done(self.admin.set_rules(&rules(3), WAIT).await.map_err(|error| error.to_string())?)?;
            }
            _ => {}
        }
        self.command(Operation::Status, WAIT).await?;
        // Of a configuration that was replaced nothing is left, wherever the cut was.
        let kept = self.at_rest();
        if kept == 1 { Ok(()) } else { Err(format!("{kept} configurations at rest")) }
    }
}

/// What held before the flow.
struct Before {
    configuration: Option<String>,
}

fn rules(count: u16) -> Rules {
    let rule = |port| Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Tcp, port };
    (1..=count).map(rule).collect()
}

fn done(outcomes: Vec<Outcome>) -> Result<(), String> {
    if matches!(outcomes[..], [Outcome::Done { .. }]) { Ok(()) } else { Err(format!("{outcomes:?}")) }
}

/// What a run has seen.
#[derive(Default)]
struct Seen {
    /// Points of the flow, if nothing was cut.
    flow: u64,
    /// Points of the boot after the cut.
    boot: u64,
    /// The state that the last cut left is one that was left before: nothing more was done.
    known: bool,
}

/// Runs a flow in which power goes at these points: the first is counted from the flow's beginning, the next from that of
/// the boot after. A state that `states` has is not gone on with.
fn run(flow: Flow, cuts: &[Cut], states: &mut HashSet<u64>) -> Result<Seen, String> {
    let world = RefCell::new(World::new(31));
    simulate(async {
        let mut seen = Seen::default();
        let admin = Administrator::new(&world, 0, 1).expect("an administrator");
        let plan = admin.plan_without_scan();
        let node = world.borrow_mut().add(&plan);
        let rig = Rig { world: &world, admin, node };
        rig.prepare(flow).await;
        let before = Before { configuration: rig.said("genesis: configuration ").pop() };
        let first = rig.points();
        for (number, cut) in cuts.iter().enumerate() {
            let point = rig.points() + cut.point;
            // Power that comes back makes a flash whole again: so this comes after it, and before the first step.
            if number == 0 && !matches!(flow, Flow::FirstBoot | Flow::Boot | Flow::BootClaimed) {
                rig.cut_at(Cut { point, ..*cut });
                rig.perform(flow).await;
            } else {
                world.borrow_mut().power_on(node);
                rig.cut_at(Cut { point, ..*cut });
                pass(&world, SOON).await;
            }
            if rig.has_power() {
                return Err(format!("no cut happened: {} points", rig.points() - first));
            }
            if number + 1 == cuts.len() && !states.insert(rig.digest()) {
                return Ok(Seen { known: true, ..seen });
            }
        }
        if cuts.is_empty() {
            rig.perform(flow).await;
            seen.flow = rig.points() - first;
        } else {
            let at = rig.points();
            rig.power_on().await;
            seen.boot = rig.points() - at;
        }
        rig.check(flow, &before).await?;
        Ok(seen)
    })
}

fn whole() -> bool {
    std::env::var_os("SIM_WHOLE").is_some()
}

/// Every so many.
fn stride(count: u64, runs: u64) -> usize {
    usize::try_from((count / runs).max(1)).unwrap_or(1)
}

/// Cuts a flow at points of its own, and at points of the boots that recover.
fn sweep(flow: Flow) {
    let points = run(flow, &[], &mut HashSet::new()).unwrap_or_else(|what| panic!("{flow:?}: {what}")).flow;
    assert!(points > 0, "{flow:?} writes nothing");
    let mut states = HashSet::new();
    let (mut generated, mut runs, mut left) = (0, 0, Vec::new());
    for point in (0..points).step_by(if whole() { 1 } else { stride(points, 12) }) {
        for seed in 0..2 {
            let cut = Cut { point, seed };
            generated += 1;
            let seen = run(flow, &[cut], &mut states).unwrap_or_else(|what| panic!("{flow:?} {cut:?}: {what}"));
            if !seen.known {
                runs += 1;
                left.push((cut, seen.boot));
            }
        }
    }
    println!("{flow:?}: {points} points, {generated} cuts generated, {} distinct states, {runs} run", states.len());
    // Then the boot from what was left.
    let all: u64 = left.iter().map(|(_, boot)| 2 * boot).sum();
    let (mut generated, mut runs, mut states) = (0, 0, HashSet::new());
    let (from, within) = if whole() { (100, 20) } else { (3, 3) };
    for (cut, boot) in left.iter().step_by(stride(left.len() as u64, from)) {
        for point in (0..*boot).step_by(stride(*boot, within)) {
            let again = Cut { point, seed: point % 2 };
            generated += 1;
            let seen = run(flow, &[*cut, again], &mut states);
            let seen = seen.unwrap_or_else(|what| panic!("{flow:?} {cut:?}, then {again:?}: {what}"));
            runs += u64::from(!seen.known);
        }
    }
    println!(
        "{flow:?}: cuts of the boot after: {all} there are, {generated} generated, {} distinct states, {runs} run",
        states.len()
    );
}

#[test]
fn a_cut_in_the_first_boot() {
    sweep(Flow::FirstBoot);
}

#[test]
fn a_cut_in_a_boot() {
    sweep(Flow::Boot);
    sweep(Flow::BootClaimed);
}

#[test]
fn a_cut_in_a_claim() {
    sweep(Flow::Claim);
}

#[test]
fn a_cut_in_an_update() {
    sweep(Flow::Update);
}

#[test]
fn a_cut_when_a_node_is_isolated_or_commanded() {
    sweep(Flow::Isolate);
    sweep(Flow::Commands);
}
