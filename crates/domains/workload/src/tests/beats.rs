//! The heartbeat and the alarm.

use calls::{
    mesh::Tenancy,
    params::{Params, micros},
};

use super::{
    homeless, placed, step,
    world::{NOWHERE, OWN4, PLACE, World, own4},
};
use crate::CONNECTION_MICROS;

fn beats(world: &mut World) -> Option<u64> {
    let (mesh, console) = (world.mesh_beat.poll(), world.console_beat.poll());
    assert_eq!(mesh, console);
    mesh.map(|heartbeat| heartbeat.beats)
}

fn every() -> u64 {
    micros(Params::DEFAULT.heartbeat_ms)
}

#[test]
fn before_its_first_place_it_sleeps() {
    let mut world = homeless();
    world.settle(NOWHERE);
    assert_eq!(world.due, None);
    assert_eq!(world.later(1_000 * every()), 0);
    assert_eq!(beats(&mut world), None);
}

#[test]
fn its_beats_rise_for_ever_once_it_has_had_a_place() {
    let mut world = placed();
    assert_eq!(beats(&mut world), Some(1));
    assert_eq!(world.later(every() - 1), 0);
    assert_eq!(beats(&mut world), None);
    assert_eq!(world.later(1), 1);
    assert_eq!(beats(&mut world), Some(2));
    assert_eq!(world.later(10 * every()), 10);
    assert_eq!(beats(&mut world), Some(12));
    world.settle(NOWHERE);
    assert_eq!(beats(&mut world), None, "another place is no beat");
    assert_eq!(world.later(10 * every()), 10);
    assert_eq!(beats(&mut world), Some(22));
    world.settle(PLACE);
    assert_eq!(world.later(10 * every()), 10);
    assert_eq!(beats(&mut world), Some(32));
}

#[test]
fn a_restart_goes_on_from_what_was_published() {
    let mut world = placed();
    world.later(4 * every());
    assert_eq!(beats(&mut world), Some(5));
    // The mesh is gone too, and its cell with it.
    world.settle(NOWHERE);
    world.restart(step());
    assert_eq!(beats(&mut world), Some(6));
    world.later(every());
    assert_eq!(beats(&mut world), Some(7));
}

#[test]
fn a_parameter_of_zero_does_not_spin() {
    let mut workload = crate::Workload::new(
        std::boxed::Box::leak(std::boxed::Box::new(crate::Memory::new())),
        &Params { heartbeat_ms: 0.into(), ..Params::DEFAULT },
    );
    let mut world = World::new(std::boxed::Box::new(move |now, ports| workload.step(now, ports)));
    world.settle(PLACE);
    assert!(world.later(1_000_000) <= 1_000);
}

#[test]
fn idle_it_wakes_for_nothing_but_its_beat() {
    let mut world = placed();
    let page = world.say(own4(), 80, b"GET / HTTP/1.1\r\nHost: node\r\n\r\n");
    world.far.socket(page).close();
    world.run();
    world.later(CONNECTION_MICROS);
    assert_eq!(world.later(10 * every()), 10);
}

#[test]
fn addresses_that_no_host_has_are_none() {
    for v4 in [[0; 4], [255; 4], [127, 0, 0, 1], [224, 0, 0, 1]] {
        for v6 in [[0; 16], [0xff; 16]] {
            let mut world = homeless();
            world.settle(Tenancy { v4, v6, ..PLACE });
            assert_eq!(beats(&mut world), None);
        }
    }
    for mtu in [0, 1, 40, u64::MAX] {
        let mut world = homeless();
        world.settle(Tenancy { v4: OWN4, mtu, ..NOWHERE });
        assert_eq!(beats(&mut world), Some(1));
        let page = world.say(own4(), 80, b"GET / HTTP/1.0\r\n\r\n");
        assert!(world.hear(page).0.starts_with(b"HTTP/1.1 200 OK\r\n"));
    }
}
