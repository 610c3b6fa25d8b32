//! A domain that somebody else runs: with its regions and channels it does what it likes, lies and replays included. What the
//! node must not lose by that is the same for all of them: nobody becomes its owner, its owner stays, its identity stays, and
//! what leaves it is what the domain was there to say.

use std::{
    cell::{Cell, RefCell},
    collections::BTreeSet,
    rc::Rc,
    time::Duration,
};

use calls::keystore::{Ownership, StatusReply};
use link::{ON_LINK, Station, UdpPorts};
use os_network_admin::fleet::delivery::Outcome;
use shm::Micros;
use sim::{
    Administrator, Frame, Port, World,
    admin::{pass, simulate},
    scenario::WAIT,
    trace,
};
use wire::command::Operation;
use zerocopy::{FromZeros, IntoBytes};

/// For how long it does what it likes, and how often it begins anew.
const LONG: Micros = 400_000;
const OFTEN: Micros = 1_000;

/// Everyone but `keystore`.
const DOMAINS: [&str; 10] =
    ["beacon", "claim", "console", "entropy", "lifecycle", "mesh", "net", "perimeter", "timer", "workload"];

/// How many seeds each domain has.
fn seeds() -> u64 {
    if std::env::var_os("SIM_WHOLE").is_some() { 200 } else { 4 }
}

/// What a domain in hold can put on the wire, by the words of the trace. `None`: all there is.
fn in_hold(domain: &str) -> Option<&'static [&'static str]> {
    match domain {
        // They are the way out. What they cannot have is a key.
        "net" | "perimeter" => None,
        // It may say hellos of its own making, and open the gate to whom it likes, behind which `claim` waits.
        "beacon" => Some(&["hello", "answer", "TCP SYN ACK", "TCP ACK", "ICMPv6 Neighbor"]),
        // It tells the perimeter what is open, so it may let the others say what each may.
        "lifecycle" => Some(&["hello", "answer", "TCP", "ICMPv6 Neighbor", "WireGuard", "UDP"]),
        _ => Some(&[]),
    }
}

/// The same once the node is claimed.
fn once_claimed(domain: &str) -> Option<&'static [&'static str]> {
    match domain {
        "net" | "perimeter" => None,
        // To its stations, which it names.
        "mesh" => Some(&["WireGuard", "UDP", "ICMPv6 Neighbor"]),
        "lifecycle" => Some(&["hello", "answer", "TCP", "ICMPv6 Neighbor", "WireGuard", "UDP"]),
        _ => Some(&["WireGuard", "ICMPv6 Neighbor"]),
    }
}

/// What it would like to say: of each kind that there is, to everyone and to somebody far away.
fn wishes(node: Station) -> Vec<Vec<u8>> {
    let somebody = Station::new([0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0x99], [2, 0, 0, 0, 0, 0x99]);
    let far = Station::new([0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1], [2, 0, 0, 0, 0, 0x98]);
    let mut wishes = vec![
        link::solicitation(&node, &somebody, &somebody.ip).to_vec(),
        link::advertisement(&node, &somebody).to_vec(),
    ];
    let hello = [&b"GNSS\x01\x01\0\0"[..], &[0x5a; 152]].concat();
    let payloads = [hello, b"GNSS\x01\x02\0\0".to_vec(), vec![4; 64], b"the root seed".to_vec()];
    for to in [Station::ALL_NODES, somebody, far] {
        for payload in &payloads {
            for port in [wire::BEACON_PORT, wire::MESH_PORT, 53] {
                let mut frame = vec![0; link::DATAGRAM];
                frame.extend_from_slice(payload);
                let ports = UdpPorts { source: port, destination: port };
                link::datagram(&mut frame, &node, &to, ports, ON_LINK).expect("room for it");
                wishes.push(frame);
            }
        }
    }
    wishes
}

/// A node without a scan, under power, and an administrator who may claim it.
fn make<'w>(world: &'w RefCell<World>) -> (Administrator<'w>, usize) {
    let admin = Administrator::new(world, 0, 1).unwrap();
    let plan = admin.plan_without_scan();
    let node = world.borrow_mut().add(&plan);
    world.borrow_mut().power_on(node);
    (admin, node)
}

/// What has left the node since this was put on the wire.
fn listen(world: &mut World, node: usize) -> Rc<RefCell<BTreeSet<String>>> {
    let left = Rc::new(RefCell::new(BTreeSet::new()));
    let seen = left.clone();
    world.meddle(Some(Box::new(move |_: &World, frame: &Frame| {
        if frame.from == Port::Node(node) {
            seen.borrow_mut().insert(trace::frame(&frame.bytes));
        }
        frame.passes()
    })));
    left
}

/// Somebody else is in the domain's place for a while.
async fn take_over(world: &RefCell<World>, node: usize, domain: &'static str) {
    let mac = world.borrow().mac(node);
    let address = world.borrow().rules(node).expect("it has power").link.ip;
    {
        let mut world = world.borrow_mut();
        world.take_over(node, domain, wishes(Station::new(address, mac)));
        let now = world.now();
        for after in (0..LONG).step_by(usize::try_from(OFTEN).unwrap()) {
            world.at(now + after, move |world| world.wake(node, domain));
        }
    }
    pass(world, Duration::from_micros(LONG)).await;
}

/// The identity that the node has shown last. Who is taken over may show any.
fn identity(world: &World, node: usize) -> Option<String> {
    let mut console = world.console(node).iter().rev();
    console.find_map(|line| line.split("genesis: identity ").nth(1).map(str::to_owned))
}

fn judge(domain: &str, seed: u64, left: &BTreeSet<String>, may: Option<&[&str]>) {
    let Some(may) = may else { return };
    let wrong: Vec<_> = left.iter().filter(|what| !may.iter().any(|kind| what.starts_with(kind))).collect();
    assert!(wrong.is_empty(), "{domain}, seed {seed}: {wrong:?} left the node");
}

/// A node in hold whose domain was taken over is after power-up the node of before: nobody's, and its administrator's to claim.
#[test]
fn a_held_node_gets_no_owner_by_any_of_its_domains() {
    let forged = Cell::new(false);
    for domain in DOMAINS {
        for seed in 0..seeds() {
            let world = RefCell::new(World::new(seed));
            simulate(async {
                let (admin, node) = make(&world);
                pass(&world, Duration::from_secs(1)).await;
                assert_eq!(world.borrow().phase(node), Some("hold"));
                let before = identity(&world.borrow(), node);
                assert!(before.is_some());
                let left = listen(&mut world.borrow_mut(), node);
                take_over(&world, node, domain).await;
                judge(domain, seed, &left.borrow(), in_hold(domain));
                forged.set(
                    forged.get() || domain == "beacon" && left.borrow().iter().any(|what| what.starts_with("hello")),
                );
                world.borrow_mut().meddle(None);
                world.borrow_mut().power_on(node);
                pass(&world, Duration::from_secs(1)).await;
                assert_eq!(world.borrow().phase(node), Some("hold"), "{domain}, seed {seed}");
                assert_eq!(identity(&world.borrow(), node), before, "{domain}, seed {seed}");
                let claimed = admin.claim(None, WAIT).await;
                assert!(claimed.is_ok(), "{domain}, seed {seed}: {:?}", claimed.err());
            });
        }
    }
    assert!(forged.get(), "no beacon that was taken over has said a hello of its own: it does not try hard enough");
}

/// What the keystore says of a claimed node after power-up, if one of its domains was taken over before, or none.
fn after_power(seed: u64, domain: Option<&'static str>) -> StatusReply {
    let world = RefCell::new(World::new(seed));
    let mut status = StatusReply::new_zeroed();
    simulate(async {
        let (admin, node) = make(&world);
        admin.claim(None, WAIT).await.unwrap();
        let told = admin.command(Operation::Status, WAIT).await.unwrap();
        assert!(matches!(told[..], [Outcome::Done { .. }]), "{told:?}");
        if let Some(domain) = domain {
            let left = listen(&mut world.borrow_mut(), node);
            take_over(&world, node, domain).await;
            judge(domain, seed, &left.borrow(), once_claimed(domain));
        }
        let mut world = world.borrow_mut();
        world.power_on(node);
        let region = world.system().regions.iter().position(|region| region.name == "keystore_lifecycle_rep");
        let region = region.expect("system.xml has it");
        let end = world.now() + 1_000_000;
        // An answer stands there until lifecycle has taken it.
        let last = |world: &World| {
            let mut said = StatusReply::new_zeroed();
            let machine = world.machine(node).expect("it has power");
            machine.bytes(region, shm::mailbox::BODY, said.as_mut_bytes());
            // So does a block of the configuration, which has another length.
            let [_, _, length] = machine.words(region);
            if length == size_of::<StatusReply>() as u64 && said != StatusReply::new_zeroed() {
                status = said;
            }
            false
        };
        assert!(world.run_until(end, last).is_err());
    });
    status
}

/// A claimed node whose domain was taken over is after power-up its owner's, in the same epoch, with the same configuration
/// committed, and not cut off.
#[test]
fn a_claimed_node_keeps_its_owner_whatever_one_of_its_domains_does() {
    for seed in 0..seeds() {
        let untouched = after_power(seed, None);
        assert_eq!((untouched.ownership(), untouched.isolated), (Ownership::Claimed, 0));
        for domain in DOMAINS {
            assert_eq!(after_power(seed, Some(domain)), untouched, "{domain}, seed {seed}");
        }
    }
}
