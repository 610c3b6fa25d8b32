//! What is in the memory that domains share: a secret is there for as long as somebody has yet to take it, and no longer.

use std::{cell::RefCell, time::Duration};

use shm::mailbox::BODY;
use sim::{
    Administrator, Entropy, World,
    admin::{pass, simulate},
    scenario::WAIT,
};
use wire::command::Operation;

/// Every region of a node under power, by name.
fn regions(world: &World, node: usize) -> Vec<(String, Vec<u8>)> {
    let machine = world.machine(node).expect("it has power");
    let regions = world.system().regions.iter().enumerate().map(|(id, region)| {
        let mut bytes = vec![0; region.size];
        machine.bytes(id, 0, &mut bytes);
        (region.name.clone(), bytes)
    });
    regions.collect()
}

/// The regions in which this stands, whole.
fn places(world: &World, node: usize, secret: &[u8]) -> Vec<String> {
    assert!(secret.len() >= 16 && secret.iter().any(|byte| *byte != 0));
    let has = |bytes: &Vec<u8>| bytes.windows(secret.len()).any(|window| window == secret);
    regions(world, node).into_iter().filter(|(_, bytes)| has(bytes)).map(|(name, _)| name).collect()
}

/// No mailbox holds anything of a call that is over, whatever it was.
fn assert_mailboxes_are_empty(world: &World, node: usize, when: &str) {
    let mut seen = 0;
    for (name, bytes) in regions(world, node) {
        if name.ends_with("_req") || name.ends_with("_rep") {
            seen += 1;
            assert!(bytes[BODY..].iter().all(|byte| *byte == 0), "{name}, {when}");
        }
    }
    assert_eq!(seen, 18);
}

#[test]
fn shared_memory_keeps_no_secret_that_has_been_taken() {
    let world = RefCell::new(World::new(11));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let device_secret = [0xd5; 32];
        let node = {
            let mut world = world.borrow_mut();
            let plan = admin.plan_without_scan();
            let node = world.add(&plan);
            world.setup(node).prefill.retain(|(name, _)| *name != "device_secret");
            world.setup(node).prefill.push(("device_secret", device_secret.to_vec()));
            world.power_on(node);
            node
        };
        let empty = |when: &str| assert_mailboxes_are_empty(&world.borrow(), node, when);
        pass(&world, Duration::from_secs(1)).await;
        empty("in hold");
        admin.claim(None, WAIT).await.unwrap();
        pass(&world, Duration::from_secs(30)).await;
        empty("claimed");
        let preshared = admin.view().unwrap().live().unwrap()[0].member.preshared.0;
        // The membership is in force: mesh has it from there, also after a restart.
        let held = |when: &str| {
            let world = world.borrow();
            assert_eq!(places(&world, node, &preshared), ["lifecycle_mesh"], "{when}");
            assert_eq!(places(&world, node, &device_secret), ["device_secret"], "{when}");
        };
        held("claimed");
        let rules = [policy::Rule {
            direction: policy::Direction::In,
            role: policy::Role::Authority,
            protocol: policy::Protocol::Icmp,
            port: 0,
        }];
        admin.set_rules(&rules.into_iter().collect(), WAIT).await.unwrap();
        pass(&world, Duration::from_secs(30)).await;
        empty("updated");
        held("updated");
        admin.command(Operation::Rotate, WAIT).await.unwrap();
        pass(&world, Duration::from_secs(30)).await;
        empty("rotated");
        held("rotated");
        // Whoever is started anew, in the middle of anything.
        for (number, domain) in
            ["mesh", "beacon", "claim", "perimeter", "entropy", "timer", "store"].into_iter().enumerate()
        {
            let step = world.borrow().steps() + 3 + 7 * number as u64;
            world.borrow_mut().before_step(step, move |world| world.kill(node, domain));
            let _ = admin.command(Operation::Rotate, WAIT).await.unwrap();
            pass(&world, Duration::from_secs(30)).await;
            let anew = format!("genesis: fault {domain} died; started anew");
            assert!(world.borrow().console(node).iter().any(|line| line.starts_with(&anew)), "{domain}");
            empty(domain);
            held(domain);
        }
        // Sealed, it has no mesh.
        for _ in 0..6 {
            world.borrow_mut().kill(node, "net");
            pass(&world, Duration::from_secs(16)).await;
        }
        assert_eq!(world.borrow().phase(node), Some("sealed"));
        empty("sealed");
        assert_eq!(places(&world.borrow(), node, &preshared), [] as [&str; 0]);
    });
}

/// The samples are good until the node is claimed, and then they are all alike.
#[test]
fn a_claimed_node_whose_source_fails_has_no_mesh_any_more() {
    let world = RefCell::new(World::new(12));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let node = {
            let mut world = world.borrow_mut();
            let plan = admin.plan_without_scan();
            let node = world.add(&plan);
            world.power_on(node);
            node
        };
        admin.claim(None, WAIT).await.unwrap();
        pass(&world, Duration::from_secs(30)).await;
        let preshared = admin.view().unwrap().live().unwrap()[0].member.preshared.0;
        assert_eq!(places(&world.borrow(), node, &preshared), ["lifecycle_mesh"]);
        let rng = world.borrow().rng().split();
        world.borrow_mut().source(node, Entropy::FailsAfter(rng, 0));
        for _ in 0..300 {
            if world.borrow().phase(node) == Some("sealed") {
                break;
            }
            let _ = admin.command(Operation::Rotate, Duration::from_secs(10)).await.unwrap();
        }
        pass(&world, Duration::from_secs(1)).await;
        let world = world.borrow();
        assert_eq!(world.phase(node), Some("sealed"));
        assert!(world.console(node).iter().any(|line| line.contains("fault entropy failed the")));
        assert_eq!(places(&world, node, &preshared), [] as [&str; 0]);
        assert_mailboxes_are_empty(&world, node, "sealed");
    });
}
