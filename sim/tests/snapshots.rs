//! A machine that was saved while its node held, and goes on twice, each time with another source behind its entropy device.

use std::{cell::RefCell, collections::HashSet, rc::Rc, time::Duration};

use os_network_admin::base::error::Exit;
use sim::{
    Administrator, Entropy, Frame, Port, Rng, World,
    admin::{pass, simulate},
    scenario::WAIT,
};
use wire::link::{Answer, Datagram, Hello};

/// Ethernet, IPv6 and UDP.
const HEADERS: usize = 14 + 40 + 8;

/// What the node has drawn and shown, in three kinds: hello, answer, and its own end of a handshake in the mesh.
#[derive(Default)]
struct Shown {
    hellos: HashSet<Vec<u8>>,
    answers: HashSet<Vec<u8>>,
    handshakes: HashSet<Vec<u8>>,
}

impl Shown {
    fn see(&mut self, frame: &Frame) {
        let Some(payload) = frame.bytes.get(HEADERS..).filter(|_| frame.bytes[20] == 17) else { return };
        if let Some(hello) = Hello::parse(payload) {
            self.hellos.insert(hello.ephemeral.to_vec());
        } else if let Some(answer) = Answer::parse(payload) {
            self.answers.insert(zerocopy::IntoBytes::as_bytes(answer).to_vec());
        } else if let [1, 0, 0, 0, ..] = payload
            && frame.bytes[54..56] == 51820u16.to_be_bytes()
        {
            self.handshakes.insert(payload[8..40].to_vec());
        }
    }
}

/// The same node to the same moment, in which it holds; then the source of this seed, and a claim.
fn goes_on(seed: u64) -> Shown {
    let world = RefCell::new(World::new(8));
    let shown = Rc::new(RefCell::new(Shown::default()));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let plan = admin.plan_without_scan();
        {
            let mut world = world.borrow_mut();
            let node = world.add(&plan);
            world.power_on(node);
            world.run_until(1_000_000, |world| world.phase(node) == Some("hold")).expect("it holds");
            while world.is_busy() {
                world.step();
            }
            world.source(node, Entropy::Good(Rng::new(seed)));
            let shown = Rc::clone(&shown);
            world.meddle(Some(Box::new(move |_, frame| {
                if frame.from == Port::Node(node) {
                    shown.borrow_mut().see(frame);
                }
                frame.passes()
            })));
        }
        match admin.claim(None, WAIT).await {
            Ok(_) => {}
            Err(error) => assert_eq!(error.exit, Exit::Unconfirmed, "{error}"),
        }
        pass(&world, Duration::from_secs(30)).await;
    });
    shown.take()
}

#[test]
fn a_node_that_was_saved_and_goes_on_twice_shows_no_hello_answer_or_ephemeral_key_twice() {
    let (one, two) = (goes_on(1), goes_on(2));
    for (one, two) in [(&one.hellos, &two.hellos), (&one.answers, &two.answers), (&one.handshakes, &two.handshakes)] {
        assert!(!one.is_empty() && !two.is_empty());
        assert!(one.is_disjoint(two), "{one:02x?}");
    }
}

/// Whoever asks gives up, and the node says so and holds on.
#[test]
fn a_source_that_falls_silent_makes_a_held_node_silent_until_it_comes_back() {
    let world = RefCell::new(World::new(8));
    simulate(async {
        let admin = Administrator::new(&world, 0, 1).unwrap();
        let plan = admin.plan_without_scan();
        let node = {
            let mut world = world.borrow_mut();
            let node = world.add(&plan);
            world.power_on(node);
            world.run_until(1_000_000, |world| world.phase(node) == Some("hold")).expect("it holds");
            while world.is_busy() {
                world.step();
            }
            world.source(node, Entropy::Silent);
            node
        };
        assert!(admin.claim(None, Duration::from_secs(20)).await.is_err());
        assert_eq!(world.borrow().phase(node), Some("hold"));
        let said = |world: &World| {
            let faults = world.console(node).iter().filter(|line| line.starts_with("genesis: fault"));
            faults.cloned().collect::<Vec<_>>()
        };
        let faults = said(&world.borrow());
        assert!(faults.len() == 1 && faults[0].contains("entropy does not come"), "{faults:?}");
        world.borrow_mut().source(node, Entropy::Good(Rng::new(3)));
        admin.claim(None, WAIT).await.expect("it is claimed");
    });
}
