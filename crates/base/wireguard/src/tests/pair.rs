//! Two engines and a network that loses, repeats, reorders and changes what they say, for as long as it likes.

use std::{boxed::Box, collections::HashSet, vec, vec::Vec};

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Act {
    Send(bool, u8),
    /// Of what is on its way, one of it.
    Deliver(usize),
    Repeat(usize),
    Lose(usize),
    Change(usize, usize),
    From(usize, u8),
    Wait(Micros),
    Rotate(bool),
    /// The keystore refuses one question.
    Refuse(bool),
    /// The peer is taken away and comes back.
    Forget(bool),
    Ask(bool),
}

fn acts() -> impl Strategy<Value = Vec<Act>> {
    let act = prop_oneof![
        6 => (any::<bool>(), 1u8..40).prop_map(|(side, length)| Act::Send(side, length)),
        14 => (0usize..64).prop_map(Act::Deliver),
        8 => any::<bool>().prop_map(Act::Ask),
        2 => (0usize..64).prop_map(Act::Repeat),
        2 => (0usize..64).prop_map(Act::Lose),
        1 => (0usize..64, 0usize..1500).prop_map(|(which, at)| Act::Change(which, at)),
        1 => (0usize..64, 3u8..6).prop_map(|(which, from)| Act::From(which, from)),
        4 => (0u64..8 * SECOND).prop_map(Act::Wait),
        1 => (0u64..300 * SECOND).prop_map(Act::Wait),
        1 => any::<bool>().prop_map(Act::Rotate),
        1 => any::<bool>().prop_map(Act::Refuse),
        1 => any::<bool>().prop_map(Act::Forget),
    ];
    prop::collection::vec(act, 1..200)
}

struct OnTheWay {
    to: usize,
    from: Endpoint,
    datagram: Vec<u8>,
    changed: bool,
}

struct World {
    nodes: Box<[Node; 2]>,
    way: Vec<OnTheWay>,
    now: Micros,
    number: u32,
    /// What each sent, and what has come at each.
    sent: [HashSet<Vec<u8>>; 2],
    came: [HashSet<Vec<u8>>; 2],
}

impl World {
    fn new() -> Self {
        let nodes = Box::new(two(&[5; 32]));
        Self { nodes, way: Vec::new(), now: SECOND, number: 0, sent: Default::default(), came: Default::default() }
    }

    /// What the node wants to send is on its way, from where the node is.
    fn drain(&mut self, side: usize) {
        let from = self.nodes[side].at;
        let said = self.nodes[side].drain(self.now);
        self.way.extend(said.into_iter().map(|(_, datagram)| OnTheWay {
            to: 1 - side,
            from,
            datagram,
            changed: false,
        }));
        self.way.truncate(200);
    }

    fn send(&mut self, side: usize, length: u8) {
        self.number += 1;
        // Each packet is another, and ends where its padding would begin.
        let mut packet = vec![1; usize::from(length).next_multiple_of(16)];
        packet[..4].copy_from_slice(&self.number.to_le_bytes());
        let node = &mut self.nodes[side];
        if node.engine.peers().next().is_none() {
            return;
        }
        let result = node.send(self.now, node.peer(), &packet);
        self.sent[side].insert(packet);
        if let Ok((_, datagram)) = result {
            let from = node.at;
            self.way.push(OnTheWay { to: 1 - side, from, datagram, changed: false });
        }
    }

    fn deliver(&mut self, which: usize, keep: bool) {
        if self.way.is_empty() {
            return;
        }
        let which = which % self.way.len();
        let OnTheWay { to, from, changed, .. } = self.way[which];
        let datagram = self.way[which].datagram.clone();
        if !keep {
            self.way.remove(which);
        }
        let before = self.nodes[to].engine.peers().next().and_then(|peer| peer.endpoint);
        match self.nodes[to].receive(self.now, from, &datagram) {
            Got::Packet(packet, _) => {
                assert!(!changed, "a changed packet was taken");
                assert!(self.sent[1 - to].contains(&packet), "nobody sent this");
                assert!(self.came[to].insert(packet), "it came twice");
            }
            Got::Keepalive(_) => assert!(!changed),
            Got::Reply(datagram) => {
                let from = self.nodes[to].at;
                self.way.push(OnTheWay { to: 1 - to, from, datagram, changed: false });
            }
            Got::Waits | Got::Nothing | Got::Dropped(_) => {
                let after = self.nodes[to].engine.peers().next().and_then(|peer| peer.endpoint);
                assert_eq!(before, after, "moved by what is not authentic");
            }
        }
    }

    fn act(&mut self, act: &Act) {
        let now = self.now;
        match *act {
            Act::Send(side, length) => self.send(side.into(), length),
            Act::Deliver(which) => self.deliver(which, false),
            Act::Repeat(which) => self.deliver(which, true),
            Act::Lose(which) if !self.way.is_empty() => drop(self.way.remove(which % self.way.len())),
            Act::Change(which, at) if !self.way.is_empty() => {
                let which = which % self.way.len();
                let entry = &mut self.way[which];
                let at = at % entry.datagram.len();
                // Not twice: that might make it right again.
                if !core::mem::replace(&mut entry.changed, true) {
                    entry.datagram[at] ^= 0x40;
                }
            }
            Act::From(which, from) if !self.way.is_empty() => {
                let which = which % self.way.len();
                self.way[which].from = endpoint(from);
            }
            Act::Lose(_) | Act::Change(..) | Act::From(..) => {}
            Act::Wait(time) => self.now += time,
            Act::Rotate(side) => self.nodes[usize::from(side)].engine.rotate(now),
            Act::Refuse(side) => {
                let engine = &mut self.nodes[usize::from(side)].engine;
                if engine.poll_static(now).is_some() {
                    assert!(engine.static_reply(now, Err(Refused)).is_none());
                }
            }
            Act::Forget(side) => {
                let (key, at) = (self.nodes[1 - usize::from(side)].key, self.nodes[1 - usize::from(side)].at);
                let engine = &mut self.nodes[usize::from(side)].engine;
                engine.set_peers(now, []);
                assert_eq!(engine.indices(), 0);
                engine.set_peers(now, [config(key, &[5; 32], Some(at))]);
            }
            Act::Ask(side) => drop(self.nodes[usize::from(side)].ask(now)),
        }
        for side in 0..2 {
            self.nodes[side].engine.tick(self.now);
            self.drain(side);
            self.check(side);
        }
    }

    /// What holds at any time.
    fn check(&mut self, side: usize) {
        let engine = &mut self.nodes[side].engine;
        let indices = engine.indices();
        let peer = engine.peers_mut().next().unwrap();
        assert_eq!(indices, peer.indices(), "an index is lost");
        assert_eq!(peer.keys(), peer.sessions().indices(), "a key is left");
        assert!(indices <= 4);
        assert!(peer.expiry_fits());
        assert!(
            engine.has_question(self.now) || engine.deadline().is_none_or(|at| at > self.now),
            "the deadline is past"
        );
    }

    /// The network is good again: packets arrive both ways in the time of a handshake or two.
    fn recover(&mut self) {
        self.way.clear();
        let goal = [0, 1].map(|side| self.came[side].len() + 1);
        for _ in 0..4000 {
            if (0..2).all(|side| self.came[side].len() >= goal[side]) {
                return;
            }
            for side in 0..2 {
                while self.nodes[side].ask(self.now) {}
                self.send(side, 16);
                self.nodes[side].engine.tick(self.now);
                self.drain(side);
            }
            while !self.way.is_empty() {
                self.deliver(0, false);
            }
            self.now += SECOND / 10;
        }
        panic!("no packet comes through: {:?}, {goal:?}", self.came.each_ref().map(HashSet::len));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn nothing_false_is_taken_and_afterwards_all_is_well(acts in acts()) {
        let mut world = World::new();
        for act in &acts {
            world.act(act);
        }
        world.recover();
    }
}

#[test]
fn a_long_session_over_a_bad_network_goes_on() {
    // Every third datagram is lost, for an hour.
    let mut world = World::new();
    let mut count = 0;
    for step in 0..36_000 {
        for side in 0..2 {
            while world.nodes[side].ask(world.now) {}
            if step % 5 == side * 2 {
                world.send(side, 16);
            }
            world.nodes[side].engine.tick(world.now);
            world.drain(side);
        }
        while !world.way.is_empty() {
            count += 1;
            if count % 3 == 0 {
                world.way.remove(0);
            } else {
                world.deliver(0, false);
            }
        }
        world.now += SECOND / 10;
    }
    for side in 0..2 {
        let (sent, came) = (world.sent[1 - side].len(), world.came[side].len());
        assert!(came * 10 > sent * 6 && sent > 5000, "{came} of {sent}");
    }
}
