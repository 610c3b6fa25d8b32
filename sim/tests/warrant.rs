//! Claims by a warrant of three of five, whose signers are not there when the node is claimed.
#![allow(
    clippy::print_stdout,
    reason = "the harness of tests captures what these macros print, and shows it of a test that failed"
)]

use std::{cell::RefCell, time::Duration};

use crypto::AnchorSecret;
use os_network_admin::{
    base::{link::Net, paper::Papers},
    claim::Configure,
    fleet::{
        delivery::Outcome,
        warrant::{Wish, propose, terms},
    },
};
use sim::{
    Administrator, World,
    admin::{pass, simulate},
    scenario::WAIT,
};
use wire::{
    Key, U64,
    anchor::{Anchor, AnchorFile},
    binding::configuration_hash,
    command::Operation,
    link::{Find, UNSTORED},
    set::{Authority, AuthoritySet},
    title::Warrant,
};
use zerocopy::{FromZeros, IntoBytes};

fn signers() -> [AnchorSecret; 5] {
    [50, 51, 52, 53, 54].map(|byte| AnchorSecret::from_seed(&[byte; 32]))
}

/// A node that holds, of an image that this administrator's key receives for the five; and its F.
fn hold(world: &RefCell<World>, admin: &mut Administrator<'_>) -> (usize, Key) {
    let keys = signers().map(|signer| signer.public().sign);
    let image = Anchor::new(&admin.anchor.public(), 3, &keys).expect("a majority");
    admin.terms.set =
        AuthoritySet::new(3, &signers().map(|signer| Authority::signer(&signer.public()))).expect("a set");
    admin.terms.configuration = Configure::Bytes(Vec::new());
    let mut world = world.borrow_mut();
    let mut plan = admin.plan_without_scan();
    plan.anchor = AnchorFile::new(&image).as_bytes().to_vec();
    let node = world.add(&plan);
    world.power_on(node);
    let now = world.now();
    world.run_until(now + 1_000_000, |world| world.phase(node) == Some("hold")).expect("a node holds");
    let shown = world.console(node).iter().find_map(|line| line.split_once("identity ").map(|(_, rest)| &rest[..64]));
    let digits = shown.expect("the console shows F");
    (node, core::array::from_fn(|at| u8::from_str_radix(&digits[2 * at..2 * at + 2], 16).expect("hex")))
}

fn warrant(admin: &Administrator<'_>, fiduciary: Key, epoch: u64, places: &[usize]) -> Warrant {
    let mut warrant = Warrant::new_zeroed();
    (warrant.fiduciary, warrant.fleet, warrant.epoch) = (fiduciary, admin.terms.fleet_id, U64::new(epoch));
    (warrant.set, warrant.configuration) = (admin.terms.set.hash(), configuration_hash(&[]));
    places.iter().fold(warrant, |warrant, place| warrant.sign(&signers()[*place], *place))
}

/// Claims a node, all of whose frames from this one on are lost at first. How many frames there were.
fn claim(cut: Option<u64>) -> u64 {
    let world = RefCell::new(World::new(5));
    simulate(async {
        let mut admin = Administrator::new(&world, 0, 1).expect("an administrator");
        let (node, fiduciary) = hold(&world, &mut admin);
        admin.terms.warrant = Some(warrant(&admin, fiduciary, 1, &[0, 2, 4]));
        let first = world.borrow().frames();
        if let Some(cut) = cut {
            world.borrow_mut().meddle(Some(Box::new(move |_, frame| {
                if frame.number < first + cut { frame.passes() } else { frame.lost() }
            })));
            let _ = admin.claim(Some(&fiduciary), Duration::from_secs(15)).await;
            world.borrow_mut().meddle(None);
        }
        if world.borrow().phase(node) != Some("claimed") {
            admin.claim(Some(&fiduciary), WAIT).await.expect("it goes on");
        }
        pass(&world, Duration::from_secs(30)).await;
        assert_eq!(world.borrow().phase(node), Some("claimed"), "cut at {cut:?}");
        let known = admin.registry.node(&fiduciary).expect("a registry").expect("the node");
        assert_eq!(Some(known.title.warrant), admin.terms.warrant);
        world.borrow().frames() - first
    })
}

#[test]
fn a_claim_by_warrant_that_is_cut_anywhere_goes_on_with_the_signers_away() {
    let frames = claim(None);
    assert!(frames > 20, "{frames} frames are no claim");
    for cut in 0..frames.min(40) {
        claim(Some(cut));
    }
}

#[test]
fn whoever_holds_the_reception_key_alone_owns_nothing() {
    let world = RefCell::new(World::new(6));
    simulate(async {
        let mut admin = Administrator::new(&world, 0, 1).expect("an administrator");
        let (node, fiduciary) = hold(&world, &mut admin);
        // By its own signature, by none, by too few; and by warrants that are for another epoch, node or set.
        let mut other_set = warrant(&admin, fiduciary, 1, &[0, 1, 2]);
        other_set.set[0] ^= 1;
        for tried in [
            None,
            Some(warrant(&admin, fiduciary, 1, &[])),
            Some(warrant(&admin, fiduciary, 1, &[0, 4])),
            Some(warrant(&admin, fiduciary, 0, &[0, 1, 2])),
            Some(warrant(&admin, fiduciary, 2, &[0, 1, 2])),
            Some(warrant(&admin, [7; 32], 1, &[0, 1, 2])),
            Some(other_set),
        ] {
            admin.terms.warrant = tried;
            assert!(admin.claim(Some(&fiduciary), Duration::from_secs(15)).await.is_err());
            pass(&world, Duration::from_secs(30)).await;
            assert_eq!(world.borrow().phase(node), Some("hold"));
        }
        // None of that was in the way of those who may.
        admin.terms.warrant = Some(warrant(&admin, fiduciary, 1, &[1, 2, 3]));
        admin.claim(Some(&fiduciary), WAIT).await.expect("a claim");
        pass(&world, Duration::from_secs(5)).await;
        assert_eq!(world.borrow().phase(node), Some("claimed"));
    });
}

/// Finds by the thousand, each beyond all that the node stores ahead, and one that leaves none above it; opens, and no claim.
#[test]
fn whoever_holds_the_reception_key_alone_does_not_brick_a_node() {
    let world = RefCell::new(World::new(8));
    simulate(async {
        let mut admin = Administrator::new(&world, 0, 1).expect("an administrator");
        let (node, fiduciary) = hold(&world, &mut admin);
        admin.terms.warrant = Some(warrant(&admin, fiduciary, 1, &[0, 2, 4]));
        let written = |world: &RefCell<World>| {
            let flash = world.borrow().flash(node);
            let nor = flash.nor();
            (nor.programs().iter().sum::<u64>(), nor.erases().iter().sum::<u64>())
        };
        let before = written(&world);
        let thief = admin.rival(0, 3).expect("the same key");
        for _ in 0..3 {
            assert!(thief.claim(Some(&fiduciary), Duration::from_secs(10)).await.is_err());
        }
        let (ip, mac) = thief.link.address();
        for number in 1..=3000 {
            let find = Find::sign(&thief.anchor, (1 << 50) + (number << 17), ip, mac);
            thief.link.broadcast(find.as_bytes()).await.expect("a link");
            pass(&world, Duration::from_millis(100)).await;
        }
        for last in [UNSTORED - 1, u64::MAX] {
            let find = Find::sign(&thief.anchor, last, ip, mac);
            thief.link.broadcast(find.as_bytes()).await.expect("a link");
            pass(&world, Duration::from_secs(1)).await;
        }
        let after = written(&world);
        println!("3,005 finds of a holder of A: {} programs, {} erases", after.0 - before.0, after.1 - before.1);
        assert!((1000..400_000).contains(&(after.0 - before.0)) && after.1 - before.1 < 200, "{before:?}, {after:?}");
        // It hears nobody; and then somebody goes there and switches it off and on.
        pass(&world, Duration::from_secs(60)).await;
        admin.past_stored = true;
        assert!(admin.claim(Some(&fiduciary), Duration::from_secs(15)).await.is_err());
        world.borrow_mut().power_off(node);
        world.borrow_mut().power_on(node);
        admin.past_stored = false;
        assert!(admin.claim(Some(&fiduciary), Duration::from_secs(15)).await.is_err(), "what is stored is used up");
        admin.past_stored = true;
        admin.claim(Some(&fiduciary), WAIT).await.expect("a claim");
        pass(&world, Duration::from_secs(5)).await;
        assert_eq!(world.borrow().phase(node), Some("claimed"));
    });
}

/// What people sign is what the tool proposes, and all that the node runs.
#[test]
fn a_node_that_is_claimed_by_a_proposal_of_the_tool_has_its_place_in_the_mesh() {
    let world = RefCell::new(World::new(7));
    simulate(async {
        let mut admin = Administrator::new(&world, 0, 1).expect("an administrator");
        let (node, fiduciary) = hold(&world, &mut admin);
        let own = admin.mesh.borrow().public();
        let alone = Authority::signer(&admin.anchor.public());
        let wish = Wish {
            node: fiduciary,
            fleet: "sim",
            fleet_id: admin.terms.fleet_id,
            anchor: Anchor::new(&admin.anchor.public(), 3, &signers().map(|signer| signer.public().sign))
                .expect("sound"),
            set: AuthoritySet::alone(alone),
            endpoint: None,
            underlay: None,
            epoch: None,
            expires_s: u64::MAX / 1000,
        };
        let proposal = propose(&admin.registry, &own, &wish).expect("a proposal");
        let approvals = [0, 2, 4].map(|place: usize| proposal.approve(&signers()[place]).expect("a signer"));
        let papers = Papers { warrants: vec![proposal], approvals: approvals.into(), ..Papers::default() };
        admin.terms = terms(&papers, None, &admin.anchor.public(), 0).expect("enough have approved");
        if let Configure::Warranted { own: mesh, .. } = &mut admin.terms.configuration {
            *mesh = Some(own);
        }
        admin.claim(Some(&fiduciary), WAIT).await.expect("a claim");
        pass(&world, Duration::from_secs(60)).await;
        assert_eq!(world.borrow().phase(node), Some("claimed"));
        // One authority owns it: a command reaches it in the mesh, and an update from then on.
        let told = admin.command(Operation::Status, WAIT).await.expect("a command");
        assert!(matches!(told[..], [Outcome::Done { .. }]), "{told:?}");
        let rules = ["in authority icmp".parse().expect("a rule")];
        let told = admin.set_rules(&rules.into_iter().collect(), WAIT).await.expect("an update");
        assert!(matches!(told[..], [Outcome::Done { .. }]), "{told:?}");
    });
}
