//! What a node's life costs its flash: programs and erases a year, against what the part endures. The table in
//! docs/architecture.md is the one that is printed here.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use std::{
    cell::{Cell, RefCell},
    mem::offset_of,
    rc::Rc,
    time::Duration,
};

use calls::{
    lifecycle::{ApplyRequest, Refusal, StageRequest, for_claim::Stage, for_mesh::Apply},
    store::{BLOCKS, RECORDS},
};
use os_network_admin::fleet::delivery::Outcome;
use policy::{Direction, MAX_PEERS, Protocol, Role, Rule};
use shm::mailbox::{CallError, Client, Patience};
use sim::{
    Administrator, World,
    admin::{pass, simulate},
    scenario::WAIT,
    trace,
};
use wire::{command::Operation, order::Order, telemetry::CommandResult};
use zerocopy::{FromZeros, IntoBytes};

/// Bytes that one program writes at most, and of an erase block.
const PAGE: u64 = node::store::PAGE as u64;
const BLOCK: u64 = 256 << 10;
/// What an erase block endures.
const ENDURANCE: u64 = 100_000;
const HOUR: Duration = Duration::from_secs(3600);
const YEAR_HOURS: u64 = 365 * 24;

/// Programs and erases of each erase block since the flash was made.
struct Cost([(u64, u64); BLOCKS]);

impl Cost {
    fn of(world: &RefCell<World>, node: usize) -> Self {
        let flash = world.borrow().flash(node);
        let nor = flash.nor();
        Self(std::array::from_fn(|block| (nor.programs()[block], nor.erases()[block])))
    }

    /// Erases of the block that is erased most, if this was so many times in a year: an erase for each time that it was
    /// filled, besides those that happened.
    fn year(self, before: &Self, times: u64) -> Year {
        let blocks = self.0.iter().zip(&before.0).map(|(now, then)| (now.0 - then.0, now.1 - then.1));
        let (mut programs, mut worst) = (0, 0);
        for (number, (written, erased)) in blocks.enumerate() {
            programs += written * times;
            // A record's block is erased when it is full; a configuration's before each write.
            let full = if number < 2 * RECORDS { (written * times * PAGE).div_ceil(BLOCK) } else { 0 };
            worst = worst.max(full.max(erased * times));
        }
        Year { programs, worst }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Year {
    programs: u64,
    worst: u64,
}

fn hold(world: &RefCell<World>, admin: &Administrator<'_>) -> usize {
    let mut world = world.borrow_mut();
    let node = world.add(&admin.plan_without_scan());
    world.power_on(node);
    let now = world.now();
    world.run_until(now + 2_000_000, |world| world.phase(node) == Some("hold")).expect("a node holds");
    node
}

/// A find with bytes of its signature exchanged, so that the checksum of the datagram still holds.
fn forged(find: &[u8], number: usize) -> Vec<u8> {
    let mut frame = find.to_vec();
    let at = frame.len() - 2 * (number % 16 + 2);
    frame.swap(at, at - 2);
    frame.swap(at + 1, at - 1);
    frame
}

fn holding() -> Vec<(&'static str, Year)> {
    let world = RefCell::new(World::new(51));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        // Somebody else's, whom it hears, and who has looked for it once.
        let seen: Rc<Cell<Option<Vec<u8>>>> = Rc::default();
        let find = seen.clone();
        world.borrow_mut().meddle(Some(Box::new(move |_, frame| {
            if trace::frame(&frame.bytes).starts_with("find") {
                find.set(Some(frame.bytes.clone()));
            }
            frame.passes()
        })));
        let node = hold(&world, &admin);
        let before = Cost::of(&world, node);
        pass(&world, HOUR).await;
        let idle = Cost::of(&world, node).year(&before, YEAR_HOURS);
        // A holder of A, who looks for a node that is not there.
        let before = Cost::of(&world, node);
        let _ = admin.claim(Some(&[9; 32]), HOUR).await;
        let looked_for = Cost::of(&world, node).year(&before, YEAR_HOURS);
        let find = seen.take().expect("a find");
        let before = Cost::of(&world, node);
        for second in 0..30 {
            for number in 0..64 {
                let mut world = world.borrow_mut();
                world.forge(0, forged(&find, number + second));
                world.forge(0, find.clone());
            }
            pass(&world, Duration::from_secs(1)).await;
        }
        let flooded = Cost::of(&world, node).year(&before, YEAR_HOURS * 120);
        vec![
            ("holding, idle", idle),
            ("holding, 64 forged and 64 replayed finds a second", flooded),
            ("holding, a holder of A sends finds all the year", looked_for),
        ]
    })
}

/// From now on until the time is over the domain's fate befalls it at the first step after which a slot is not erased.
fn befalls_when_staged(world: &RefCell<World>, node: usize, fate: impl Fn(&mut World) + 'static) -> Rc<Cell<bool>> {
    const STEPS: u64 = 20_000;
    let (befallen, fate) = (Rc::new(Cell::new(false)), Rc::new(fate));
    let steps = world.borrow().steps();
    for step in steps..steps + STEPS {
        let (befallen, fate) = (befallen.clone(), fate.clone());
        world.borrow_mut().before_step(step, move |world| {
            if !befallen.get() && staged(world, node) > 0 {
                befallen.set(true);
                fate(world);
            }
        });
    }
    befallen
}

/// How many slots are not erased.
fn staged(world: &World, node: usize) -> usize {
    let flash = world.flash(node);
    let (nor, block) = (flash.nor(), usize::try_from(BLOCK).unwrap());
    (2 * RECORDS..BLOCKS).filter(|slot| !nor.image.is_erased(slot * block, block)).count()
}

/// Claims that end after their configuration was brought to rest, or within that: `claim` hangs, or dies.
fn given_up() -> Year {
    const CLAIMS: u64 = 5;
    let world = RefCell::new(World::new(55));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let node = hold(&world, &admin);
        pass(&world, Duration::from_secs(5)).await;
        let before = Cost::of(&world, node);
        let slots = |cost: &Cost| cost.0[2 * RECORDS..].iter().map(|(_, erases)| erases).sum::<u64>();
        for claim in 1..=CLAIMS {
            let befallen = befalls_when_staged(&world, node, move |world| {
                world.meddle(Some(Box::new(|_, frame| frame.lost())));
                if claim % 2 == 0 { world.kill(node, "claim") } else { world.hang(node, "claim") }
            });
            assert!(admin.claim(None, Duration::from_secs(5)).await.is_err());
            assert!(befallen.get(), "a configuration was staged");
            world.borrow_mut().forget_deeds();
            world.borrow_mut().meddle(None);
            // It hears nobody, and is started anew as soon as somebody looks.
            pass(&world, Duration::from_secs(40)).await;
            assert_eq!((world.borrow().phase(node), staged(&world.borrow(), node)), (Some("hold"), 0), "claim {claim}");
            assert_eq!(slots(&Cost::of(&world, node)) - slots(&before), claim);
        }
        let year = Cost::of(&world, node).year(&before, 365 / CLAIMS);
        admin.claim(None, WAIT).await.unwrap();
        // The committed one needs no erase, and what was found erased none either.
        assert_eq!((slots(&Cost::of(&world, node)) - slots(&before), staged(&world.borrow(), node)), (CLAIMS, 1));
        year
    })
}

#[test]
fn a_claim_that_is_given_up_leaves_no_configuration_and_costs_one_erase() {
    given_up();
}

fn claimed() -> Vec<(&'static str, Year)> {
    let world = RefCell::new(World::new(52));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let node = hold(&world, &admin);
        admin.claim(None, WAIT).await.unwrap();
        let command = async |operation| {
            let outcomes = admin.command(operation, WAIT).await.unwrap();
            assert!(matches!(outcomes[..], [Outcome::Done { .. }]), "{outcomes:?}");
        };
        command(Operation::Status).await;
        // Longer than a session lasts: each command comes with a handshake. A handshake alone costs none.
        let before = Cost::of(&world, node);
        for _ in 0..60 {
            pass(&world, Duration::from_secs(121)).await;
            command(Operation::Status).await;
        }
        let peers = Cost::of(&world, node).year(&before, YEAR_HOURS / 2);
        let before = Cost::of(&world, node);
        for port in 1..=10 {
            let rule = |port| Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Tcp, port };
            let outcomes = admin.set_rules(&(1..=port).map(rule).collect(), WAIT).await.unwrap();
            assert!(matches!(outcomes[..], [Outcome::Done { .. }]), "{outcomes:?}");
        }
        let updates = Cost::of(&world, node).year(&before, 37);
        let before = Cost::of(&world, node);
        for _ in 0..10 {
            world.borrow_mut().power_on(node);
            pass(&world, Duration::from_secs(10)).await;
        }
        let boots = Cost::of(&world, node).year(&before, 37);
        vec![
            ("claimed, a handshake and a command every two minutes", peers),
            ("claimed, an update a day", updates),
            ("claimed, switched on once a day", boots),
        ]
    })
}

/// A member with as many peers as a configuration has: the authority, and others that use what it serves all the time.
fn peopled() -> Year {
    const OFTEN: u64 = 20_000_000;
    let world = RefCell::new(World::new(56));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let node = hold(&world, &admin);
        admin.claim(None, WAIT).await.unwrap();
        let member = admin.view().unwrap().live().unwrap()[0].member.id;
        let ends =
            (2..=u8::try_from(MAX_PEERS).unwrap()).map(|number| admin.export(&format!("peer-{number}"), 0, number));
        let mut ends: Vec<_> = ends.collect::<Result<_, _>>().unwrap();
        ends.push(admin.mesh.clone());
        assert_eq!(ends.len(), MAX_PEERS);
        let rule = |role| Rule { direction: Direction::In, role, protocol: Protocol::Icmp, port: 0 };
        let outcomes =
            admin.set_rules(&[Role::Authority, Role::Peer].map(rule).into_iter().collect(), WAIT).await.unwrap();
        assert!(matches!(outcomes[..], [Outcome::Done { .. }]), "{outcomes:?}");
        ends.iter().for_each(|end| end.borrow_mut().probe(member, OFTEN));
        pass(&world, Duration::from_secs(60)).await;
        let before = Cost::of(&world, node);
        let counts = || -> Vec<_> {
            let of = |end: &Rc<RefCell<sim::authority::Authority>>| {
                (end.borrow().handshakes(member), end.borrow().answers(member).len())
            };
            ends.iter().map(of).collect()
        };
        let then = counts();
        pass(&world, HOUR).await;
        for (now, then) in counts().iter().zip(then) {
            let (handshakes, answers) = (now.0 - then.0, now.1 - then.1);
            assert!((25..=30).contains(&handshakes), "{handshakes} handshakes in an hour, and one lasts two minutes");
            assert_eq!(answers as u64, HOUR.as_micros() as u64 / OFTEN, "answers of this one");
        }
        Cost::of(&world, node).year(&before, YEAR_HOURS)
    })
}

/// The update that `mesh` asks lifecycle to apply.
fn asked(world: &World, node: usize) -> ApplyRequest {
    let region = world.system().regions.iter().position(|region| region.name == "mesh_lifecycle_req");
    let mut request = ApplyRequest::new_zeroed();
    let machine = world.machine(node).expect("it has power");
    machine.bytes(region.expect("system.xml has it"), shm::mailbox::BODY, request.as_mut_bytes());
    request
}

/// Somebody else runs `mesh`, and has what the authority once signed. What it costs that 64 times he brings two old updates,
/// one that he has forged, one without its signature, and the one that is in force.
fn brought() -> Year {
    let world = RefCell::new(World::new(53));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let node = hold(&world, &admin);
        admin.claim(None, WAIT).await.unwrap();
        let caught: Rc<RefCell<Vec<ApplyRequest>>> = Rc::default();
        for port in 1..4 {
            // It stands there until lifecycle has answered.
            world.borrow_mut().hang(node, "lifecycle");
            let (soon, catch) = (world.borrow().now() + 1_000_000, caught.clone());
            world.borrow_mut().at(soon, move |world| {
                catch.borrow_mut().push(asked(world, node));
                world.resume(node, "lifecycle");
            });
            let rule = Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Tcp, port };
            admin.set_rules(&[rule].into_iter().collect(), WAIT).await.unwrap();
        }
        pass(&world, Duration::from_secs(5)).await;
        let signed = caught.take();
        let (mut wanted, mut brings) = (Vec::new(), Vec::new());
        for number in 0..64 {
            brings.push(signed[number % 2].clone());
            let mut forged = signed[2].clone();
            forged.staged[offset_of!(Order, counter) + 7] ^= 0x80 >> (number % 8);
            brings.push(forged);
            let mut unsigned = signed[2].clone();
            unsigned.staged[offset_of!(Order, signatures) + number] ^= 1;
            brings.push(unsigned);
            brings.push(signed[2].clone());
            let [refused, done] = [CommandResult::Refused, CommandResult::Done].map(|result| result as u32);
            wanted.extend([refused, refused, refused, done]);
        }
        let said: Rc<RefCell<Vec<u32>>> = Rc::default();
        let (answers, mut brings, mut waits) = (said.clone(), brings.into_iter(), false);
        let script = move |now, client: &mut Client<'_>| {
            if waits {
                let Some(answer) = client.poll::<Apply>(now) else { return false };
                answers.borrow_mut().extend(answer);
            }
            let next = brings.next();
            waits = next.is_some();
            next.iter().for_each(|next| client.call::<Apply>(next, now, Patience::ENDLESS));
            false
        };
        let before = Cost::of(&world, node);
        world.borrow_mut().ask_lifecycle(node, "mesh", Box::new(script));
        pass(&world, Duration::from_secs(5)).await;
        assert_eq!(*said.borrow(), wanted);
        let cost = Cost::of(&world, node).year(&before, 1);
        // It was the node's lifecycle that it asked: it is still itself.
        world.borrow_mut().kill(node, "mesh");
        pass(&world, Duration::from_secs(5)).await;
        let told = admin.command(Operation::Status, WAIT).await.unwrap();
        assert!(matches!(told[..], [Outcome::Done { .. }]), "{told:?}");
        cost
    })
}

/// A configuration that can be read.
fn configuration(port: u16) -> Vec<u8> {
    let mut configuration = policy::Configuration::default();
    let rule = Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Tcp, port };
    configuration.rules.push(rule).unwrap();
    configuration.write(&mut [0; 4096]).unwrap().to_vec()
}

#[test]
fn updates_that_would_not_be_committed_cost_no_erase_and_no_write() {
    assert_eq!(brought(), Year { programs: 0, worst: 0 });
}

/// Somebody else runs `claim`, and a holder of A has opened the gate.
#[test]
fn configurations_that_no_binding_names_cost_no_erase_and_no_write() {
    let world = RefCell::new(World::new(54));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let node = hold(&world, &admin);
        pass(&world, Duration::from_secs(1)).await;
        let said: Rc<RefCell<Vec<CallError>>> = Rc::default();
        let (answers, mut ports, mut waits) = (said.clone(), 1..=64, false);
        let script = move |now, client: &mut Client<'_>| {
            if waits {
                let Some(answer) = client.poll::<Stage>(now) else { return false };
                waits = false;
                // The next that wakes it is a gate.
                if answer == Err(CallError::Refused(Refusal::Gate.code())) {
                    return false;
                }
                answers.borrow_mut().extend(answer.err());
            }
            if let Some(port) = ports.next() {
                let mut request = StageRequest::new_zeroed();
                let bytes = configuration(port);
                (request.gate, request.length) = (1, bytes.len() as u64);
                request.title.warrant.configuration = wire::binding::configuration_hash(&bytes);
                request.configuration[..bytes.len()].copy_from_slice(&bytes);
                client.call::<Stage>(&request, now, Patience::ENDLESS);
                waits = true;
            }
            false
        };
        world.borrow_mut().ask_lifecycle(node, "claim", Box::new(script));
        let slots = |cost: &Cost| cost.0[2 * RECORDS..].to_vec();
        let before = slots(&Cost::of(&world, node));
        assert!(admin.claim(None, Duration::from_secs(20)).await.is_err());
        assert_eq!(*said.borrow(), vec![CallError::Refused(Refusal::Binding.code()); 63]);
        assert_eq!(slots(&Cost::of(&world, node)), before);
    });
}

#[test]
fn a_year_costs_the_flash_a_small_part_of_what_it_endures() {
    let brought_row = [("claimed, `mesh` brings updates that are forged, unsigned, older or in force", brought())];
    let given_up_row = [("holding, a claim a day that is given up", given_up())];
    let peopled_row = [("claimed, with 16 peers that talk to it all the year", peopled())];
    let rows = holding().into_iter().chain(given_up_row).chain(peopled_row).chain(claimed()).chain(brought_row);
    let rows: Vec<_> = rows.collect();
    let mut table = String::from("| a year of | programs | erases of the block that is erased most |\n|---|---|---|\n");
    for (what, Year { programs, worst }) in &rows {
        table.push_str(&format!("| {what} | {programs} | {worst} |\n"));
    }
    println!("{table}");
    assert_eq!(rows[0].1, Year { programs: 0, worst: 0 });
    assert_eq!(rows[1].1, Year { programs: 0, worst: 0 });
    assert!(rows.iter().all(|(_, year)| year.worst < ENDURANCE / 2), "two years");
    assert!(include_str!("../../docs/architecture.md").contains(&table), "the table of the documentation is another");
}
