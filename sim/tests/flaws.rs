//! A flash that is not what the node left: bits that changed, blocks that changed places, that are somebody else's, old or
//! gone. Each has an outcome that is defined: the node goes on as the one that it was, or says what is wrong and is
//! silent. It never panics, and is never somebody else without saying so.

use std::{
    cell::RefCell,
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use calls::store::{BLOCKS, RECORDS};
use policy::{Direction, Protocol, Role, Rule};
use sim::{
    Administrator, World,
    admin::{pass, simulate},
    nor::Image,
    scenario::WAIT,
};
use wire::command::Operation;

const SOON: Duration = Duration::from_secs(5);
/// Bytes of an erase block.
const BLOCK: usize = 256 << 10;

fn whole() -> bool {
    std::env::var_os("SIM_WHOLE").is_some()
}

/// A node that was claimed and updated, with what its flash held on the way: in hold, claimed, updated.
struct Rig<'w> {
    world: &'w RefCell<World>,
    node: usize,
    images: [Image; 3],
    identity: String,
}

impl<'w> Rig<'w> {
    async fn new(world: &'w RefCell<World>) -> Self {
        let admin = Administrator::new(world, 0, 1).unwrap();
        let plan = admin.plan_without_scan();
        let node = world.borrow_mut().add(&plan);
        let image = || world.borrow().flash(node).nor().image.clone();
        world.borrow_mut().power_on(node);
        pass(world, SOON).await;
        let hold = image();
        admin.claim(None, WAIT).await.unwrap();
        admin.command(Operation::Status, WAIT).await.unwrap();
        let claimed = image();
        let rule = Rule { direction: Direction::In, role: Role::Authority, protocol: Protocol::Tcp, port: 7 };
        admin.set_rules(&[rule].into_iter().collect(), WAIT).await.unwrap();
        let images = [hold, claimed, image()];
        let identity = said(&world.borrow(), node, 0, "genesis: identity ").pop().map(fiduciary).unwrap();
        Self { world, node, images, identity }
    }

    /// What a node is that is switched on with this flash.
    async fn boot(&self, image: Image) -> Outcome {
        let from = {
            let mut world = self.world.borrow_mut();
            world.power_off(self.node);
            world.flash(self.node).nor().image = image;
            let from = world.console(self.node).len();
            world.power_on(self.node);
            from
        };
        // As long as it takes to say what it waits for.
        pass(self.world, Duration::from_secs(15)).await;
        let world = self.world.borrow();
        let lines = |what: &str| said(&world, self.node, from, what);
        Outcome {
            phase: lines("genesis: phase ").pop().unwrap_or_default(),
            identity: lines("genesis: identity ").pop().map(|identity| fiduciary(identity) == self.identity),
            configured: !lines("genesis: configuration ").is_empty(),
            said: [lines("genesis: fault "), lines("genesis: store "), lines("genesis: waits ")].concat(),
        }
    }
}

fn fiduciary(line: String) -> String {
    line.split(' ').next().unwrap_or_default().to_owned()
}

fn said(world: &World, node: usize, from: usize, what: &str) -> Vec<String> {
    world.console(node)[from..].iter().filter_map(|line| line.strip_prefix(what).map(str::to_owned)).collect()
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Outcome {
    phase: String,
    /// Whether it shows the identity that it had; `None`: it shows none.
    identity: Option<bool>,
    configured: bool,
    said: Vec<String>,
}

impl Outcome {
    fn goes_on(&self) -> bool {
        self.phase == "claimed" && self.identity == Some(true) && self.configured
    }

    fn assert_defined(&self, what: &str) {
        assert_ne!(self.identity, Some(false), "{what}: a second identity: {self:?}");
        let older = ["hold", "committed", "claimed"].contains(&self.phase.as_str()) && self.identity == Some(true);
        let silent = ["sealed", "blind"].contains(&self.phase.as_str()) && !self.said.is_empty();
        assert!(older || silent, "{what}: {self:?}");
        assert!(self.phase != "claimed" || self.configured || !self.said.is_empty(), "{what}: {self:?}");
    }
}

/// Where something stands.
fn used(image: &Image, block: usize) -> Vec<usize> {
    (block * BLOCK..(block + 1) * BLOCK).filter(|at| image.byte(*at) != 0xff).collect()
}

#[test]
fn a_bit_that_changed_in_one_copy_of_a_record_costs_nothing() {
    let world = RefCell::new(World::new(41));
    simulate(async {
        let rig = Rig::new(&world).await;
        let image = &rig.images[2];
        let samples = if whole() { 400 } else { 6 };
        for block in 0..2 * RECORDS {
            let places = used(image, block);
            assert!(!places.is_empty(), "block {block} is empty");
            for (number, at) in places.iter().enumerate().step_by((places.len() / samples).max(1)) {
                let mut image = image.clone();
                image.flip(*at, (number % 8) as u8);
                let outcome = rig.boot(image).await;
                outcome.assert_defined(&format!("a bit of byte {at:#x}"));
                // A flaw in the header of a block is not a flaw of an entry: then a person decides.
                assert!(outcome.goes_on() || !outcome.said.is_empty(), "byte {at:#x}: {outcome:?}");
            }
        }
    });
}

#[test]
fn a_bit_that_changed_in_both_copies_or_in_a_configuration_is_said() {
    let world = RefCell::new(World::new(42));
    simulate(async {
        let rig = Rig::new(&world).await;
        let image = &rig.images[2];
        let samples = if whole() { 200 } else { 4 };
        for record in 0..RECORDS {
            let places = used(image, 2 * record);
            for at in places.iter().step_by((places.len() / samples).max(1)) {
                let mut image = image.clone();
                image.flip(*at, 3);
                image.flip(*at + BLOCK, 3);
                rig.boot(image).await.assert_defined(&format!("a bit of byte {at:#x} and of its copy"));
            }
        }
        let mut lost = 0;
        for block in 2 * RECORDS..BLOCKS {
            let places = used(image, block);
            for at in places.iter().step_by((places.len() / samples).max(1)) {
                let mut image = image.clone();
                image.flip(*at, 3);
                let outcome = rig.boot(image).await;
                outcome.assert_defined(&format!("a bit of byte {at:#x} of a configuration"));
                lost += u32::from(!outcome.configured);
            }
        }
        assert!(lost > 0, "a configuration with a flaw was used");
    });
}

#[test]
fn blocks_that_changed_places_are_old_or_gone_have_defined_outcomes() {
    let world = RefCell::new(World::new(43));
    simulate(async {
        let rig = Rig::new(&world).await;
        let [hold, claimed, updated] = &rig.images;
        let mut outcomes: BTreeMap<Outcome, BTreeSet<String>> = BTreeMap::new();
        let mut cases: Vec<(String, Image)> = Vec::new();
        let mut case = |what: String, copies: &[(&Image, usize, usize)]| {
            let mut image = updated.clone();
            copies.iter().for_each(|(from, at, to)| image.copy(from, at * BLOCK, to * BLOCK, BLOCK));
            cases.push((what, image));
        };
        for from in 0..BLOCKS {
            for to in 0..BLOCKS {
                // A sample that has each block as source and as place.
                if from != to && (whole() || (to + BLOCKS - from) % BLOCKS < 3) {
                    case(format!("block {from} in the place of {to}"), &[(updated, from, to)]);
                }
            }
        }
        let blank = Image::default();
        for (name, old) in [("hold", hold), ("claimed", claimed), ("blank", &blank)] {
            for block in 0..BLOCKS {
                case(format!("block {block} of {name}"), &[(old, block, block)]);
            }
            for record in 0..RECORDS {
                let (a, b) = (2 * record, 2 * record + 1);
                case(format!("record {record} of {name}"), &[(old, a, a), (old, b, b)]);
            }
        }
        for (what, image) in cases {
            let outcome = rig.boot(image).await;
            outcome.assert_defined(&what);
            outcomes.entry(outcome).or_default().insert(what);
        }
        // Some of each kind.
        assert!(outcomes.keys().any(Outcome::goes_on) && outcomes.keys().any(|outcome| outcome.phase != "claimed"));
        // The whole flash of before is the node of before, which only others can tell.
        for (image, phase) in [(hold, "hold"), (claimed, "claimed"), (updated, "claimed")] {
            let outcome = rig.boot(image.clone()).await;
            assert_eq!((outcome.phase.as_str(), outcome.identity), (phase, Some(true)), "{outcome:?}");
        }
    });
}
