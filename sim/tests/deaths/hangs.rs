//! Domains that hang, at any step: from the next frame, call or alarm on that needs one, it is started anew within 5 s of that.

use std::{
    cell::{Cell, RefCell},
    rc::Rc,
    time::Duration,
};

use os_network_admin::{fleet::delivery::Outcome, registry::Rules};
use policy::{Direction, Protocol, Role, Rule};
use shm::Micros;
use sim::{
    World,
    admin::{pass, simulate},
    scenario::WAIT,
    trace,
};
use wire::command::Operation;

use crate::{CHILDREN, Life, whole};

/// What a node does when one of its domains begins to hang.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Doing {
    /// It boots, and is claimed.
    Claim,
    Traffic,
    Update,
}

const BOUND: Micros = 5_000_000;
const OFTEN: Duration = Duration::from_millis(50);

fn rules() -> Rules {
    let rule = |protocol, port| Rule { direction: Direction::In, role: Role::Authority, protocol, port };
    [rule(Protocol::Icmp, 0), rule(Protocol::Tcp, 80)].into_iter().collect()
}

/// From this step of what the node does on a domain hangs as soon as it is needed. Returns whether it was, and how many
/// steps there are.
fn run(doing: Doing, hangs: Option<(&'static str, u64)>) -> (bool, u64) {
    let world = RefCell::new(World::new(72));
    let what = format!("{doing:?}, {hangs:?}");
    simulate(async {
        let life = Life::begin(&world);
        if doing != Doing::Claim {
            life.admin.claim(None, WAIT).await.unwrap();
            life.command(Operation::Status, &what).await;
            let member = life.admin.view().unwrap().live().unwrap()[0].member.id;
            let traffic = doing == Doing::Traffic;
            if traffic {
                life.admin.set_rules(&rules(), WAIT).await.unwrap();
            }
            // A peer who has something to say now and then: a timer that hung just after it was looked at is found by that.
            life.admin.mesh.borrow_mut().probe(member, if traffic { 200_000 } else { 1_000_000 });
            pass(&world, Duration::from_secs(2)).await;
        }
        let (first, node) = (world.borrow().steps(), life.node);
        if let Some((domain, step)) = hangs {
            world.borrow_mut().before_step(first + step, move |world| world.hang(node, domain));
        }
        let (over, steps) = (Cell::new(false), Cell::new(0));
        let does = async {
            match doing {
                Doing::Claim => {
                    let claimed = life.claim(WAIT).await;
                    steps.set(world.borrow().steps() - first);
                    life.settles(claimed, &what).await;
                }
                Doing::Traffic => {
                    pass(&world, Duration::from_secs(1)).await;
                    steps.set(world.borrow().steps() - first);
                }
                Doing::Update => {
                    let outcomes = life.admin.set_rules(&rules(), WAIT).await.unwrap();
                    steps.set(world.borrow().steps() - first);
                    let done = matches!(outcomes[..], [Outcome::Done { .. }]);
                    assert!(done, "{what}: {outcomes:?}: {:#?}", life.said());
                }
            }
            if hangs.is_some() {
                // Longer than mesh's peers take to begin anew.
                pass(&world, Duration::from_secs(25)).await;
                life.command(Operation::Status, &what).await;
            }
            over.set(true);
        };
        let (was_needed, ()) = tokio::join!(life.is_mended(hangs.map(|(domain, _)| domain), &over, &what), does);
        (was_needed, steps.get())
    })
}

impl Life<'_> {
    /// Looks until a domain that hangs is started anew, or what the node does is over. Whether it hung.
    async fn is_mended(&self, domain: Option<&str>, over: &Cell<bool>, what: &str) -> bool {
        let mut hung = false;
        while !over.get() || hung {
            pass(self.world, OFTEN).await;
            let world = self.world.borrow();
            let since = domain.and_then(|domain| world.stuck_since(self.node, domain));
            let late = since.filter(|since| world.now() - since > BOUND);
            assert_eq!(late, None, "{what}");
            if hung && since.is_none() {
                break;
            }
            hung |= since.is_some();
        }
        while !over.get() {
            pass(self.world, OFTEN).await;
        }
        // Nothing else was started anew, and this was once.
        let said = self.said();
        let faults: Vec<_> = said.iter().filter(|line| line.contains("fault")).collect();
        match (&faults[..], domain) {
            ([], _) if !hung => {}
            ([line], Some(domain))
                if line.starts_with(&format!("genesis: fault {domain} hung; started anew (1 so far, ")) => {}
            _ => panic!("{what}: {hung}: {faults:#?}"),
        }
        hung
    }
}

fn sweep(doing: Doing, sample: u64) {
    let (_, steps) = run(doing, None);
    let stride = if whole() { 1 } else { (steps / sample).max(1) };
    let (mut cases, mut hung) = (0, 0);
    for (number, domain) in CHILDREN.into_iter().enumerate() {
        for step in (number as u64 % stride..steps).step_by(usize::try_from(stride).unwrap_or(1)) {
            let (was_needed, _) = run(doing, Some((domain, step)));
            hung += u64::from(was_needed);
            cases += 1;
        }
    }
    println!("{doing:?}: {hung} hung in {cases} cases of {}", steps * CHILDREN.len() as u64);
    assert!(hung > 0);
}

#[test]
fn whoever_hangs_in_a_boot_or_a_claim_is_started_anew_in_time() {
    sweep(Doing::Claim, 6);
}

#[test]
fn whoever_hangs_under_traffic_is_started_anew_in_time() {
    sweep(Doing::Traffic, 2);
}

#[test]
fn whoever_hangs_in_an_update_is_started_anew_in_time() {
    sweep(Doing::Update, 3);
}

/// Who has the timer wake it. Each by one frame, after which the node hears and says nothing any more: the timer hangs of
/// the deadline that is set then.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Client {
    /// A find: an answer is due.
    Beacon,
    /// An open: the gate ends.
    Lifecycle,
    /// The first segment of a connection.
    Claim,
    /// No frame: its telemetry is due.
    Mesh,
    /// The first segment to the tenant's page.
    Workload,
}

impl Client {
    /// How the frame is called that has it set a deadline.
    fn begins(self) -> Option<&'static str> {
        match self {
            Self::Beacon => Some("find"),
            Self::Lifecycle => Some("open"),
            Self::Claim => Some("TCP SYN"),
            Self::Workload => Some("WireGuard data"),
            Self::Mesh => None,
        }
    }
}

#[test]
fn a_timer_that_hangs_is_started_anew_in_time_whoever_needed_it() {
    use Client::{Beacon, Claim, Lifecycle, Mesh, Workload};
    for client in [Beacon, Lifecycle, Claim, Mesh, Workload] {
        let world = RefCell::new(World::new(73));
        let what = format!("{client:?}");
        simulate(async {
            let life = Life::begin(&world);
            let node = life.node;
            let is_member = matches!(client, Mesh | Workload);
            let mut member = 0;
            if is_member {
                life.admin.claim(None, WAIT).await.unwrap();
                life.admin.set_rules(&rules(), WAIT).await.unwrap();
                member = life.admin.view().unwrap().live().unwrap()[0].member.id;
            }
            pass(&world, Duration::from_secs(10)).await;
            let (begins, sent) = (client.begins(), Rc::new(Cell::new(client.begins().is_none())));
            let is_sent = sent.clone();
            // Late by more than lifecycle goes on looking by itself; and the last one that arrives.
            world.borrow_mut().meddle(Some(Box::new(move |_, frame| {
                let is_it = begins.is_some_and(|begins| trace::frame(&frame.bytes).starts_with(begins));
                match is_sent.replace(is_sent.get() || is_it) {
                    true => frame.lost(),
                    false if is_it => frame.delayed(4_000_000),
                    false => frame.passes(),
                }
            })));
            if is_member {
                life.admin.mesh.borrow_mut().probe(member, 1_000_000);
            }
            let claim = async {
                if !is_member {
                    let _ = life.claim(Duration::from_secs(4)).await;
                }
            };
            let over = Cell::new(false);
            let ends = async {
                while !sent.get() {
                    pass(&world, OFTEN).await;
                }
                world.borrow_mut().hang(node, "timer");
                pass(&world, Duration::from_secs(70)).await;
                over.set(true);
            };
            let (hung, (), ()) = tokio::join!(life.is_mended(Some("timer"), &over, &what), claim, ends);
            assert!(hung, "{what}: {:#?}", life.said());
        });
    }
}

/// A domain hangs from the next frame, call or alarm on that needs it: within 5 s of that it is started anew, nothing else is,
/// and the node is what it was.
#[test]
fn whoever_hangs_is_started_anew_within_five_seconds_of_being_needed() {
    for claimed in [false, true] {
        let world = RefCell::new(World::new(u64::from(claimed)));
        simulate(async {
            let life = Life::begin(&world);
            let (admin, node) = (&life.admin, life.node);
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
