//! The core with the other ends of its regions.

use core::sync::atomic::AtomicU64;
use std::{boxed::Box, vec::Vec};

use calls::{
    drops::{Drops, Reason},
    mesh::Stations,
    rules::{Nic, Report, Rules},
};
use shm::{
    ReadOnly, ReadWrite, cell,
    ring::{Duplex, FRAME_SLOT},
};
use wire::Phase;

use super::*;
use crate::{BATCH, Channel, Perimeter, Ports};

type Region = &'static [AtomicU64];

fn region(len: usize) -> Region {
    Box::leak((0..len / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().into_boxed_slice())
}

fn ring(len: usize) -> (Duplex<'static, FRAME_SLOT>, Duplex<'static, FRAME_SLOT>, Region) {
    let (ours, theirs) = (region(len), region(len));
    let end = |out, inn| Duplex::new(ReadWrite::new(out), ReadOnly::new(inn)).unwrap();
    (end(ours, theirs), end(theirs, ours), theirs)
}

fn cells<T: shm::Plain>() -> (cell::Writer<'static, T>, cell::Reader<'static, T>) {
    let words = region(0x1000);
    (cell::Writer::new(ReadWrite::new(words)).unwrap(), cell::Reader::new(ReadOnly::new(words)).unwrap())
}

struct Rig {
    core: Perimeter,
    ports: Ports<'static>,
    nic: cell::Writer<'static, Nic>,
    rules: cell::Writer<'static, Rules>,
    stations: cell::Writer<'static, Stations>,
    report: cell::Reader<'static, Report>,
    net_drops: cell::Writer<'static, Drops>,
    drops: cell::Reader<'static, Drops>,
    net: Duplex<'static, FRAME_SLOT>,
    net_region: Region,
    beacon: Duplex<'static, FRAME_SLOT>,
    claim: Duplex<'static, FRAME_SLOT>,
    mesh: Duplex<'static, FRAME_SLOT>,
}

impl Rig {
    fn new() -> Self {
        let (net, their_net, net_region) = ring(0x20000);
        let (beacon, their_beacon, _) = ring(0x10000);
        let (claim, their_claim, _) = ring(0x10000);
        let (mesh, their_mesh, _) = ring(0x20000);
        let (nic, nic_in) = cells();
        let (rules, rules_in) = cells();
        let (stations, stations_in) = cells();
        let (report_out, report) = cells();
        let (net_drops, net_drops_in) = cells();
        let (drops_out, drops) = cells();
        let ports = Ports {
            nic: nic_in,
            net_drops: net_drops_in,
            rules: rules_in,
            stations: stations_in,
            report: report_out,
            drops: drops_out,
            net,
            beacon,
            claim,
            mesh,
        };
        Self {
            core: Perimeter::new(),
            ports,
            nic,
            rules,
            stations,
            report,
            net_drops,
            drops,
            net: their_net,
            net_region,
            beacon: their_beacon,
            claim: their_claim,
            mesh: their_mesh,
        }
    }

    fn run(&mut self, now: u64) {
        while self.core.step(now, &mut self.ports) {}
    }

    fn notified(&mut self) -> Vec<Channel> {
        let mut notified = Vec::new();
        self.ports.signals(|peer| notified.push(peer));
        notified
    }
}

fn received(ring: &mut Duplex<'static, FRAME_SLOT>) -> Vec<Vec<u8>> {
    let mut buf = [0; 2040];
    core::iter::from_fn(|| ring.recv(&mut buf).unwrap().map(|len| buf[..len].to_vec())).collect()
}

#[test]
fn it_starts_closed_and_drops_what_the_rules_do_not_name() {
    let mut rig = Rig::new();
    let frames = all_that_may_pass();
    let send = |rig: &mut Rig| {
        for (source, _, frame) in &frames {
            let ring = match source {
                Side::Net => &mut rig.net,
                Side::Beacon => &mut rig.beacon,
                Side::Claim => &mut rig.claim,
                Side::Mesh => &mut rig.mesh,
            };
            ring.send(frame).unwrap();
        }
    };
    let passed = |rig: &mut Rig| [&mut rig.net, &mut rig.beacon, &mut rig.claim].map(|ring| received(ring).len());
    send(&mut rig);
    rig.run(0);
    assert_eq!(passed(&mut rig), [0; 3]);
    assert_eq!(rig.drops.poll(), Some([(Reason::Closed, 11), (Reason::Own, 8)].into()));
    assert_eq!(rig.notified(), []);

    rig.rules.publish(&rules(Phase::Hold, true));
    send(&mut rig);
    rig.run(0);
    assert_eq!(passed(&mut rig), [8, 3, 8]);
    assert_eq!(rig.notified(), [Channel::Net, Channel::Beacon, Channel::Claim]);

    // Its own clock closes the gate.
    send(&mut rig);
    rig.run(UNTIL);
    assert_eq!(passed(&mut rig), [1, 3, 0]);
    assert_eq!(rig.drops.poll(), Some([(Reason::Closed, 11), (Reason::Gate, 8), (Reason::Own, 8 + 7)].into()));
}

#[test]
fn the_device_is_reported_whenever_net_publishes_it() {
    let mut rig = Rig::new();
    rig.run(0);
    assert_eq!(rig.report.poll(), None);
    let nic = Nic { mac: US.mac, up: 1, zero: 0 };
    rig.nic.publish(&nic);
    rig.run(0);
    assert_eq!(rig.report.poll(), Some(nic));
    assert_eq!(rig.notified(), [Channel::Lifecycle]);
    rig.run(0);
    assert_eq!((rig.report.poll(), rig.notified()), (None, Vec::new()));
}

#[test]
fn a_step_is_bounded_for_each_ring() {
    let mut rig = Rig::new();
    for n in 0..BATCH + 1 {
        rig.net.send(&[n as u8]).unwrap();
    }
    assert!(rig.core.step(0, &mut rig.ports));
    assert_eq!(rig.drops.poll().unwrap().all(), BATCH as u64);
    assert!(!rig.core.step(0, &mut rig.ports));
    assert_eq!(rig.drops.poll().unwrap().all(), BATCH as u64 + 1);
}

#[test]
fn a_full_ring_and_a_lying_one_are_counted() {
    let mut rig = Rig::new();
    rig.rules.publish(&rules(Phase::Hold, false));
    let find = beacon(ADMIN, EVERYONE, zerocopy::IntoBytes::as_bytes(&find()));
    for _ in 0..60 {
        rig.net.send(&find).unwrap();
    }
    rig.run(0);
    // Beacon's ring holds 31 frames.
    assert_eq!(received(&mut rig.beacon).len(), 31);
    assert_eq!(rig.drops.poll(), Some([(Reason::Full, 29)].into()));
    ReadWrite::new(rig.net_region).store(0, u64::MAX);
    rig.run(0);
    assert_eq!(rig.drops.poll(), Some([(Reason::Full, 29), (Reason::Own, 1)].into()));
}

#[test]
fn a_frame_meets_the_rules_that_were_published_before_it() {
    let mut rig = Rig::new();
    let hello = beacon(US, EVERYONE, zerocopy::IntoBytes::as_bytes(&hello()));
    rig.rules.publish(&rules(Phase::Hold, false));
    rig.beacon.send(&hello).unwrap();
    rig.run(0);
    rig.rules.publish(&rules(Phase::Fork, false));
    rig.beacon.send(&hello).unwrap();
    rig.run(0);
    assert_eq!(received(&mut rig.net).len(), 1);
    assert_eq!(rig.drops.poll(), Some([(Reason::Own, 1)].into()));
}

#[test]
fn a_member_talks_to_the_stations_that_its_mesh_names_now() {
    let mut rig = Rig::new();
    let (out, inn) = (tunnel(US, NEAR, (51820, 51820)), tunnel(NEAR, US, (51820, 51820)));
    let exchange = |rig: &mut Rig| {
        rig.mesh.send(&out).unwrap();
        rig.net.send(&inn).unwrap();
        rig.run(0);
        (received(&mut rig.net).len(), received(&mut rig.mesh).len())
    };
    rig.rules.publish(&rules(Phase::Claimed, false));
    rig.stations.publish(&stations());
    assert_eq!(exchange(&mut rig), (0, 0));
    rig.rules.publish(&member(Phase::Claimed, false));
    assert_eq!(exchange(&mut rig), (1, 1));
    assert_eq!(rig.notified(), [Channel::Net, Channel::Mesh]);
    rig.stations.publish(&Stations::NONE);
    assert_eq!(exchange(&mut rig), (0, 1));
    assert_eq!(rig.drops.poll(), Some([(Reason::Closed, 1), (Reason::Own, 2)].into()));
    assert_eq!((received(&mut rig.beacon).len(), received(&mut rig.claim).len()), (0, 0));
}

#[test]
fn dropped_frames_are_told_with_those_of_net_and_wake_nobody() {
    let mut rig = Rig::new();
    rig.rules.publish(&rules(Phase::Hold, false));
    rig.run(0);
    assert_eq!(rig.drops.poll(), None);
    let find = beacon(ADMIN, EVERYONE, zerocopy::IntoBytes::as_bytes(&find()));
    let (mut torn, mut cut) = (find.clone(), find.clone());
    torn[80] ^= 1;
    cut.pop();
    for frame in [&torn, &cut, &frame(STRANGER, US, TCP, 64, &tcp(1, 9443, 2, b""))] {
        rig.net.send(frame).unwrap();
    }
    rig.claim.send(&find).unwrap();
    rig.run(0);
    let mine: Drops = [(Reason::Checksum, 1), (Reason::Length, 1), (Reason::Gate, 1), (Reason::Own, 1)].into();
    assert_eq!((rig.drops.poll(), rig.notified()), (Some(mine), Vec::new()));
    // What net says is added, and is not asked whether it can be.
    rig.net_drops.publish(&[(Reason::Length, 5), (Reason::Gate, u64::MAX), (Reason::Full, 7)].into());
    rig.run(0);
    let both: Drops =
        [(Reason::Checksum, 1), (Reason::Length, 6), (Reason::Gate, u64::MAX), (Reason::Own, 1), (Reason::Full, 7)]
            .into();
    assert_eq!((rig.drops.poll(), rig.notified()), (Some(both), Vec::new()));
    rig.run(0);
    assert_eq!(rig.drops.poll(), None);
}
