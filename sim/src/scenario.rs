//! The life of nodes as a script, in any weather: what `make sim` runs for many seeds, and replays for one.

use std::{cell::RefCell, fmt::Display, time::Duration};

use os_network_admin::fleet::delivery::Outcome;
use policy::{Direction, Protocol, Role, Rule};
use wire::command::Operation;

use crate::{
    admin::{pass, simulate},
    fleet::Administrator,
    rng::Rng,
    segment::Frame,
    trace::Trace,
    world::{Meddler, Plan, World},
};

/// Longer than anything takes.
pub const WAIT: Duration = Duration::from_secs(120);
/// How often a claim is tried again that could not be confirmed.
const TRIES: usize = 5;

/// What becomes of frames, and who runs first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Weather {
    /// No frame is lost, domains run by their priorities.
    Fair,
    /// Frames are lost, doubled, delayed and so reordered, domains run in any order.
    Rough,
}

/// How a script ended.
pub struct Ended {
    pub trace: Trace,
    /// What did not hold.
    pub result: Result<(), String>,
    pub steps: u64,
    pub frames: u64,
}

/// Of a hundred frames some four are lost, four doubled, ten late by up to 20 ms.
pub fn rough(rng: Rng) -> Meddler {
    Box::new(move |_: &World, frame: &Frame| match rng.below(100) {
        0..4 => frame.lost(),
        4..8 => frame.doubled(),
        8..18 => frame.delayed(rng.below(20_000)),
        _ => frame.passes(),
    })
}

/// Boot, scan, fork, hold, find, claim, mesh, command, update, revoke: two nodes of one administrator.
pub fn life(seed: u64, weather: Weather, record: bool) -> Ended {
    let mut world = World::new(seed);
    if record {
        world.record();
    }
    if weather == Weather::Rough {
        world.schedule_randomly();
        let rng = world.rng().split();
        world.meddle(Some(rough(rng)));
    }
    let world = RefCell::new(world);
    let result = simulate(script(&world));
    let world = world.into_inner();
    Ended { trace: world.trace().clone(), result, steps: world.steps(), frames: world.frames() }
}

async fn script(world: &RefCell<World>) -> Result<(), String> {
    let admin = Administrator::new(world, 0, 1).map_err(text)?;
    let plan = Plan { anchor: admin.anchor_file(), ..Plan::default() };
    let nodes = {
        let mut world = world.borrow_mut();
        let nodes = [world.add(&plan), world.add(&plan)];
        nodes.into_iter().for_each(|node| world.power_on(node));
        nodes
    };
    let phases = |wanted: &str| {
        let world = world.borrow();
        let found = nodes.map(|node| world.phase(node).unwrap_or("none").to_owned());
        if found.iter().all(|phase| phase == wanted) { Ok(()) } else { Err(format!("{found:?} and not {wanted}")) }
    };
    pass(world, Duration::from_secs(1)).await;
    phases("scan")?;
    pass(world, Duration::from_secs(40)).await;
    phases("hold")?;
    for _ in nodes {
        claim(&admin).await?;
    }
    // What was not acknowledged the mesh settles.
    all_done(2, admin.command(Operation::Status, WAIT).await)?;
    phases("claimed")?;
    let rules = [Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Icmp, port: 0 }];
    all_done(2, admin.set_rules(&rules.into_iter().collect(), WAIT).await)?;
    all_done(2, admin.command(Operation::Isolate, WAIT).await)?;
    all_done(2, admin.rejoin(WAIT).await)?;
    let first = admin.view().map_err(text)?.live().map_err(text)?.first().ok_or("nobody is a member")?.member.id;
    all_done(0, admin.revoke(first, WAIT).await)?;
    all_done(1, admin.command(Operation::Rotate, WAIT).await)?;
    phases("claimed")
}

/// Nodes on segments, each of which has an administrator of its own who claims every one.
pub fn crowd(seed: u64, nodes: usize, per_segment: usize) -> Ended {
    let world = RefCell::new(World::new(seed));
    let result = simulate(claim_all(&world, nodes, per_segment));
    let world = world.into_inner();
    Ended { trace: world.trace().clone(), result, steps: world.steps(), frames: world.frames() }
}

async fn claim_all(world: &RefCell<World>, nodes: usize, per_segment: usize) -> Result<(), String> {
    let mut crowds = Vec::new();
    for (segment, first) in (0..nodes).step_by(per_segment).enumerate() {
        let admin = Administrator::new(world, segment, 1).map_err(text)?;
        let plan = Plan { segment, ..admin.plan_without_scan() };
        let mut world = world.borrow_mut();
        let here: Vec<usize> = (first..nodes.min(first + per_segment)).map(|_| world.add(&plan)).collect();
        here.iter().for_each(|node| world.power_on(*node));
        drop(world);
        crowds.push((admin, here));
    }
    for (admin, here) in &crowds {
        for _ in here {
            claim(admin).await?;
        }
        let live = admin.view().and_then(|view| view.live()).map_err(text)?.len();
        let claimed = here.iter().filter(|node| world.borrow().phase(**node) == Some("claimed")).count();
        if (live, claimed) != (here.len(), here.len()) {
            return Err(format!("of {} nodes {claimed} are claimed, and {live} are members", here.len()));
        }
    }
    Ok(())
}

/// Claims one more node, as an operator does who repeats what could not be confirmed.
async fn claim(admin: &Administrator<'_>) -> Result<(), String> {
    let mut last = String::new();
    for _ in 0..TRIES {
        match admin.claim(None, WAIT).await {
            Ok(_) => return Ok(()),
            Err(error) if error.exit == os_network_admin::base::error::Exit::Unconfirmed => return Ok(()),
            Err(error) => last = error.to_string(),
        }
    }
    Err(last)
}

fn all_done(count: usize, outcomes: Result<Vec<Outcome>, impl Display>) -> Result<(), String> {
    let outcomes = outcomes.map_err(text)?;
    let done = outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. }));
    if done && outcomes.len() == count { Ok(()) } else { Err(format!("{outcomes:?} and not {count} times done")) }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
