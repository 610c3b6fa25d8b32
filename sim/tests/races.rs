//! Every deadline met by every event that can race with it: the event comes just before, at, and just after it, with the
//! domains run by their priorities and in other orders.
//!
//! Whatever happens in a race, afterwards the node is not sealed, no domain has misbehaved, and its administrator's next
//! claim, or the one that ran, leaves it claimed and a member.

use std::{cell::RefCell, time::Duration};

use os_network_admin::base::error::Exit;
use shm::Micros;
use sim::{
    Administrator, Arrival, Frame, Plan, Port, World,
    admin::{pass, simulate},
    scenario::WAIT,
    trace,
};

/// Microseconds from the deadline to the event.
const OFFSETS: [i64; 3] = [-1, 0, 1];
/// By priorities, and other orders: two in every test run, eight in the whole sweep.
const ORDERS: [Option<u64>; 9] = [None, Some(1), Some(2), Some(3), Some(4), Some(5), Some(6), Some(7), Some(8)];

/// `make sim` sets this: then every case runs, and else a fixed part.
fn whole() -> bool {
    std::env::var_os("SIM_WHOLE").is_some()
}

/// One node, of which the world says whatever a test wants to know.
struct Case<'w> {
    world: &'w RefCell<World>,
    admin: Administrator<'w>,
    node: usize,
}

/// Runs `race` with a node of these windows that has just been switched on; then its administrator claims it.
async fn run(
    world: &RefCell<World>,
    params: impl FnOnce(&mut Plan),
    race: impl AsyncFnOnce(&Case<'_>),
) -> Result<(), String> {
    let admin = Administrator::new(world, 0, 1).map_err(|error| error.to_string())?;
    let node = {
        let mut world = world.borrow_mut();
        let mut plan = Plan { anchor: admin.anchor_file(), ..Plan::default() };
        params(&mut plan);
        let node = world.add(&plan);
        world.power_on(node);
        node
    };
    let case = Case { world, admin, node };
    race(&case).await;
    case.world.borrow_mut().meddle(None);
    // What is still on its way arrives, what waits for a deadline ends.
    pass(world, Duration::from_secs(60)).await;
    case.settle().await
}

impl Case<'_> {
    async fn settle(&self) -> Result<(), String> {
        if self.world.borrow().phase(self.node) != Some("claimed") {
            match self.admin.claim(None, WAIT).await {
                Ok(_) => {}
                Err(error) if error.exit == Exit::Unconfirmed => {}
                Err(error) => return Err(error.to_string()),
            }
            pass(self.world, Duration::from_secs(30)).await;
        }
        let world = self.world.borrow();
        let bad = ["sealed", "silent", "misbehaved", "died", "fault"];
        let said = world.console(self.node).iter().find(|line| bad.iter().any(|bad| line.contains(bad)));
        let live = self.admin.view().and_then(|view| view.live()).map_err(|error| error.to_string())?.len();
        match (said, world.phase(self.node), live) {
            (None, Some("claimed"), 1) => Ok(()),
            (said, phase, live) => Err(format!("{said:?}, phase {phase:?}, {live} members")),
        }
    }

    /// Claims, whatever comes of it.
    async fn try_claim(&self, wait: Duration) {
        let _ = self.admin.claim(None, wait).await;
    }
}

/// All offsets and orders of a race; a world for each.
fn all<F>(name: &str, params: impl Fn(&mut Plan) + Copy, race: F)
where
    F: AsyncFn(&Case<'_>, i64) + Copy,
{
    for offset in OFFSETS {
        for order in ORDERS.into_iter().take(if whole() { ORDERS.len() } else { 3 }) {
            let mut world = World::new(order.unwrap_or(0) + 10);
            if order.is_some() {
                world.schedule_randomly();
            }
            world.record();
            let world = RefCell::new(world);
            let result = simulate(run(&world, params, async |case| race(case, offset).await));
            let shown = || world.borrow().trace().to_string();
            assert!(result.is_ok(), "{name}, offset {offset}, order {order:?}: {}\n{}", result.unwrap_err(), shown());
        }
    }
}

fn at(deadline: Micros, offset: i64) -> Micros {
    deadline.saturating_add_signed(offset)
}

fn is(frame: &Frame, from: Port, what: &str) -> bool {
    frame.from == from && trace::frame(&frame.bytes).starts_with(what)
}

/// From the host's frame that `first` accepts on, everything that he sends arrives at the end of the gate that is open then,
/// and later in order; what the node says arrives as ever.
fn hold_back(case: &Case<'_>, offset: i64, first: impl Fn(&Frame, usize) -> bool + 'static) {
    let node = case.node;
    let (mut until, mut seen, mut late) = (None::<Micros>, 0, 0);
    case.world.borrow_mut().meddle(Some(Box::new(move |world: &World, frame: &Frame| -> Vec<Arrival> {
        if !matches!(frame.from, Port::Host(_)) {
            return frame.passes();
        }
        if until.is_none() && is(frame, frame.from, "TCP") {
            seen += 1;
            if first(frame, seen) {
                until = world.rules(node).filter(|rules| rules.gate != 0).map(|rules| rules.until);
            }
        }
        match until {
            Some(end) if frame.at < at(end, offset) => {
                late += 1;
                frame.arrives_at(at(end, offset) + late - 1)
            }
            _ => frame.passes(),
        }
    })));
}

/// No scan, and windows that are short beside the administrator's own patience.
fn holding(plan: &mut Plan) {
    plan.params.scan_ms = 0.into();
    plan.params.token_ms = 4_000.into();
    plan.params.pending_ms = 1_500.into();
    plan.params.claim_ms = 5_000.into();
}

/// The same, but the claim begins during the scan, which ends before the gate does.
fn scanning(plan: &mut Plan) {
    holding(plan);
    plan.params.scan_ms = 2_000.into();
}

/// Segments of the administrator's, from the SYN on: enough for the whole claim.
const SEGMENTS: usize = 9;

#[test]
fn the_end_of_the_claim_and_each_segment_of_it() {
    for number in 1..=SEGMENTS {
        all(&format!("segment {number}"), holding, async |case, offset| {
            hold_back(case, offset, move |_, seen| seen == number);
            case.try_claim(Duration::from_secs(20)).await;
        });
    }
}

#[test]
fn the_end_of_the_claim_during_the_scan_and_each_segment_of_it() {
    for number in 1..=SEGMENTS {
        all(&format!("segment {number}"), scanning, async |case, offset| {
            hold_back(case, offset, move |_, seen| seen == number);
            case.try_claim(Duration::from_secs(20)).await;
        });
    }
}

/// A step of a domain takes so long, so that a deadline can pass between any two steps of what a segment sets off.
const COST: Micros = 10;
/// So many steps before and behind the deadline the segment arrives.
const BEFORE: i64 = 45;
const BEHIND: i64 = 2;

/// Among these is the commit at the claim's deadline during the scan, after which the fork is asked for: the keystore refuses
/// it, and a refusal is an answer.
#[test]
fn the_end_of_the_claim_between_any_two_steps_of_a_commit_or_an_acknowledgement() {
    for (name, params) in [("holding", holding as fn(&mut Plan)), ("scanning", scanning)] {
        // The Noise initiation, the grant, the acknowledgement.
        for number in 4..=6 {
            // The grant sets off most.
            let stride = if number == 5 || whole() { 1 } else { 5 };
            for steps in (-BEFORE..BEHIND).step_by(stride) {
                let mut world = World::new(10);
                world.steps_take(COST);
                world.record();
                let world = RefCell::new(world);
                let result = simulate(run(&world, params, async |case| {
                    hold_back(case, steps * COST.cast_signed(), move |_, seen| seen == number);
                    case.try_claim(Duration::from_secs(20)).await;
                }));
                let shown = || world.borrow().trace().to_string();
                assert!(result.is_ok(), "{name}, segment {number}, {steps}: {}\n{}", result.unwrap_err(), shown());
            }
        }
    }
}

#[test]
fn the_end_of_the_scan_and_an_open() {
    all("open", scanning, async |case, offset| {
        let began = case.world.borrow().now();
        let end = began + 2_000_000;
        case.world.borrow_mut().meddle(Some(Box::new(move |_, frame| {
            if is(frame, frame.from, "open") && frame.at < end {
                frame.arrives_at(at(end, offset))
            } else {
                frame.passes()
            }
        })));
        case.try_claim(Duration::from_secs(20)).await;
    });
}

#[test]
fn the_end_of_the_scan_and_a_find() {
    all("find", scanning, async |case, offset| {
        let end = case.world.borrow().now() + 2_000_000;
        case.world.borrow_mut().meddle(Some(Box::new(move |_, frame| {
            if is(frame, frame.from, "find") && frame.at < end {
                frame.arrives_at(at(end, offset))
            } else {
                frame.passes()
            }
        })));
        case.try_claim(Duration::from_secs(20)).await;
    });
}

/// A hello's nonce is good for its time, and the open that repeats it comes at the end of that.
#[test]
fn the_end_of_a_nonce_and_the_open() {
    let short = |plan: &mut Plan| {
        holding(plan);
        plan.params.nonce_ms = 3_000.into();
    };
    all("nonce", short, async |case, offset| {
        let mut hello = None;
        case.world.borrow_mut().meddle(Some(Box::new(move |_, frame| {
            if is(frame, Port::Node(0), "hello") {
                hello.get_or_insert(frame.at);
            }
            match hello {
                Some(said) if is(frame, frame.from, "open") && frame.at < said + 2_900_000 => {
                    frame.arrives_at(at(said + 3_000_000, offset))
                }
                _ => frame.passes(),
            }
        })));
        case.try_claim(Duration::from_secs(20)).await;
    });
}

/// The gate without a claim ends with its token; another open of the same peer, or one of a rival, comes just then.
#[test]
fn the_end_of_a_token_and_another_open() {
    for rival in [false, true] {
        all(&format!("open of a rival: {rival}"), holding, async |case, offset| {
            // Nobody connects to the first gate: its answers are lost.
            case.world.borrow_mut().meddle(Some(Box::new(move |world, frame| {
                let gate = world.rules(0).filter(|rules| rules.gate == 1).map(|rules| at(rules.until, offset));
                match gate {
                    Some(_) if is(frame, Port::Node(0), "answer") => frame.lost(),
                    Some(end) if is(frame, frame.from, "open") && frame.at < end => frame.arrives_at(end),
                    _ => frame.passes(),
                }
            })));
            if rival {
                let other = case.admin.rival(0, 2).unwrap();
                let _ = tokio::join!(other.claim(None, Duration::from_secs(3)), case.try_claim(Duration::from_secs(6)));
            } else {
                case.try_claim(Duration::from_secs(6)).await;
            }
        });
    }
}

/// The keystore is silent for as long as its client waits, and answers just then. It falls silent at any point of the
/// claim.
#[test]
fn the_end_of_the_patience_with_the_keystore_and_its_answer() {
    // Beacon waits 2 s for a call, lifecycle and claim 5 s.
    for patience in [2_000_000, 5_000_000] {
        for steps in (0..200).step_by(if whole() { 5 } else { 40 }) {
            all(&format!("after {steps} steps"), holding, async |case, offset| {
                pass(case.world, Duration::from_millis(10)).await;
                {
                    let mut world = case.world.borrow_mut();
                    let (begin, node) = (world.steps() + steps, case.node);
                    world.before_step(begin, move |world| {
                        world.hang(node, "keystore");
                        world.at(at(world.now() + patience, offset), move |world| world.resume(node, "keystore"));
                    });
                }
                case.try_claim(Duration::from_secs(20)).await;
            });
        }
    }
}
