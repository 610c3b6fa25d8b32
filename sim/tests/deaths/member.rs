//! Deaths in a node that is a member, while packets go both ways, past the end of a session, in an update and in a command.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

use os_network_admin::{fleet::delivery::Outcome, registry::Rules};
use policy::{Direction, Protocol, Role, Rule};
use shm::Micros;
use sim::{
    Port, World,
    admin::{pass, simulate},
    probe::Answer,
    scenario::WAIT,
    trace,
};
use wire::command::Operation;

use crate::{CHILDREN, Life, whole};

/// What a member does when one of its domains dies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    Traffic,
    /// The session has lasted as long as one does, and another takes its place.
    Rekey,
    Update,
    /// It is isolated: the one command that is committed.
    Command,
}

const SECOND: Micros = 1_000_000;
/// How often probes go.
const OFTEN: Micros = 200_000;
const SELDOM: Micros = 1_000_000;
/// How long a session lasts whose initiator still sends.
const SESSION: Duration = Duration::from_secs(120);
/// So soon after a death a member does all that it did, whoever died.
const SOON: Micros = 2 * SECOND;
/// And where a message of a handshake may have been lost: WireGuard sends it again after 5 s.
const AGAIN: Micros = 8 * SECOND;

fn rule(protocol: Protocol, port: u16) -> Rules {
    [Rule { direction: Direction::In, role: Role::Authority, protocol, port }].into_iter().collect()
}

/// What a run has shown.
struct Seen {
    /// Steps of what the member was doing.
    steps: u64,
    handshakes: u64,
}

/// A domain dies at this step of what the member does; or nobody does.
fn run(doing: Doing, dies: Option<(&'static str, u64)>) -> Seen {
    let world = RefCell::new(World::new(71));
    let what = format!("{doing:?}, {dies:?}");
    simulate(async {
        let life = Life::begin(&world);
        life.admin.claim(None, WAIT).await.unwrap();
        life.admin.set_rules(&rule(Protocol::Icmp, 0), WAIT).await.unwrap();
        life.command(Operation::Status, &what).await;
        let member = life.admin.view().unwrap().live().unwrap()[0].member.id;
        let every = if doing == Doing::Rekey { SELDOM } else { OFTEN };
        life.admin.mesh.borrow_mut().probe(member, every);
        // Whatever a member says to the segment is WireGuard, or finds out where its peers are.
        let said = Rc::new(RefCell::new(BTreeSet::new()));
        let (hears, node) = (said.clone(), life.node);
        world.borrow_mut().meddle(Some(Box::new(move |_, frame| {
            if frame.from == Port::Node(node) {
                hears.borrow_mut().insert(trace::frame(&frame.bytes).chars().take(15).collect::<String>());
            }
            frame.passes()
        })));
        pass(&world, if doing == Doing::Rekey { SESSION - Duration::from_secs(2) } else { SESSION / 60 }).await;
        let handshakes = || life.admin.mesh.borrow().handshakes(member);
        let (first, agreed, began) = (world.borrow().steps(), handshakes(), world.borrow().now());
        let died = Rc::new(Cell::new(None));
        if let Some((domain, step)) = dies {
            let died = died.clone();
            world.borrow_mut().before_step(first + step, move |world| {
                died.set(Some(world.now()));
                world.kill(node, domain);
            });
        }
        let mut told = None;
        match doing {
            Doing::Traffic => pass(&world, Duration::from_secs(1)).await,
            Doing::Rekey => pass(&world, Duration::from_secs(4)).await,
            Doing::Update => told = Some(life.admin.set_rules(&rule(Protocol::Tcp, 80), WAIT).await.unwrap()),
            Doing::Command => told = Some(life.admin.command(Operation::Isolate, WAIT).await.unwrap()),
        }
        let steps = world.borrow().steps() - first;
        let done = told.map(|outcomes| matches!(outcomes[..], [Outcome::Done { .. }]));
        assert!(dies.is_some() || done != Some(false), "{what}");
        assert_eq!(died.get().is_some(), dies.is_some(), "{what}: there is no such step");
        let ended = world.borrow().now();
        // Within its bound the member is what it was, for two seconds every probe is answered.
        let settled =
            died.get().map_or(ended, |died| ended.max(died + if doing == Doing::Rekey { AGAIN } else { SOON }));
        let wait = settled + 10 * every - ended;
        pass(&world, Duration::from_micros(wait + every / 2)).await;
        let answers = life.admin.mesh.borrow().answers(member).to_vec();
        let count =
            |answer, from, to| answers.iter().filter(|(at, what)| *what == answer && (from..to).contains(at)).count();
        let (echoes, pages) = (count(Answer::Echo, settled, u64::MAX), count(Answer::Page, settled, u64::MAX));
        let in_force = match (echoes, pages) {
            (10.., 0) => Protocol::Icmp,
            (0, 10..) => Protocol::Tcp,
            _ => panic!("{what}: of ten echoes {echoes}, of ten pages {pages}: {:#?}", life.said()),
        };
        // Nothing passes that no rule allows, nor ever did.
        assert_eq!(count(Answer::Else, 0, u64::MAX), 0, "{what}");
        assert_eq!(count(Answer::Page, 0, began), 0, "{what}");
        // Frames that were on their way then arrive yet.
        let left = if done == Some(true) { ended + 1_000 } else { settled };
        let wrong = if in_force == Protocol::Tcp { Answer::Echo } else { Answer::Page };
        assert_eq!(count(wrong, left, u64::MAX), 0, "{what}");
        assert!(
            said.borrow().iter().all(|kind| kind.starts_with("WireGuard") || kind.starts_with("ICMPv6 Neighbor")),
            "{what}: {said:?}"
        );
        // What was told as done is, and stays.
        if doing == Doing::Update {
            assert!(done != Some(true) || in_force == Protocol::Tcp, "{what}");
        } else {
            assert_eq!(in_force, Protocol::Icmp, "{what}");
        }
        let new = handshakes() - agreed;
        life.assert_died(dies.map(|(domain, _)| domain), &what);
        life.stays(doing == Doing::Command && done == Some(true), &what).await;
        if doing == Doing::Update {
            let outcomes = life.admin.set_rules(&rule(Protocol::Tcp, 80), WAIT).await.unwrap();
            assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. })), "{what}: {outcomes:?}");
        }
        Seen { steps, handshakes: new }
    })
}

impl Life<'_> {
    /// After its power was gone the member has the same configuration, and is isolated if it was.
    async fn stays(&self, isolated: bool, what: &str) {
        let last = |of: &str| {
            let world = self.world.borrow();
            world.console(self.node).iter().rev().find(|line| line.starts_with(of)).cloned()
        };
        let before = last("genesis: configuration ");
        let lines = self.said().len();
        self.world.borrow_mut().power_on(self.node);
        pass(self.world, Duration::from_secs(5)).await;
        assert_eq!(last("genesis: configuration "), before, "{what}");
        let is_isolated = self.said()[lines..].iter().any(|line| line == "genesis: isolated");
        assert!(is_isolated || !isolated, "{what}: {:#?}", self.said());
        if is_isolated {
            let outcomes = self.admin.rejoin(WAIT).await.unwrap();
            assert!(outcomes.iter().all(|outcome| matches!(outcome, Outcome::Done { .. })), "{what}: {outcomes:?}");
        }
        self.command(Operation::Status, what).await;
    }
}

/// Each domain dies at each step; how many deaths there were.
fn sweep(doing: Doing, sample: u64) {
    let calm = run(doing, None);
    assert_eq!(calm.handshakes, u64::from(doing == Doing::Rekey));
    let stride = if whole() { 1 } else { (calm.steps / sample).max(1) };
    let mut cases = 0;
    for (number, domain) in CHILDREN.into_iter().enumerate() {
        for step in (number as u64 % stride..calm.steps).step_by(usize::try_from(stride).unwrap_or(1)) {
            let seen = run(doing, Some((domain, step)));
            // With mesh its sessions die: its peer sees one handshake more, and with nobody else's death any.
            let more = u64::from(domain == "mesh");
            assert!(
                (calm.handshakes..=calm.handshakes + more).contains(&seen.handshakes),
                "{doing:?}, {domain} at {step}: {} handshakes",
                seen.handshakes
            );
            cases += 1;
        }
    }
    println!("{doing:?}: {cases} deaths of {}", calm.steps * CHILDREN.len() as u64);
}

#[test]
fn a_member_goes_on_with_its_traffic_whoever_dies() {
    sweep(Doing::Traffic, 2);
}

#[test]
fn a_session_is_renewed_whoever_dies() {
    sweep(Doing::Rekey, 1);
}

#[test]
fn an_update_is_in_force_or_not_whoever_dies_and_stays_if_it_was_told_as_done() {
    sweep(Doing::Update, 3);
}

#[test]
fn a_command_that_was_told_as_done_stays_whoever_dies() {
    sweep(Doing::Command, 2);
}
