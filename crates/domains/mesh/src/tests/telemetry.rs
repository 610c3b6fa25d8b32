//! What a record says of the workload: nothing that the workload could choose.

use calls::mesh::Heartbeat;

use super::{
    packets::{self, V4},
    world::*,
};

/// Publishes a heartbeat as a workload may: any number, with a notification or without.
fn beat(world: &mut World, beats: u64) {
    world.node.heartbeat.publish(&Heartbeat { beats, served: 0 });
    world.run_for(1);
}

#[test]
fn a_record_counts_beats_and_never_says_what_the_workload_wrote() {
    let mut world = World::joined(&[]);
    let before = world.now_telemetry().heartbeat.get();
    for (number, chosen) in (1..).zip([u64::MAX, 0x5345_4352_4554_2121, 1, 1 << 63]) {
        beat(&mut world, chosen);
        world.run_for(10_000);
        assert_eq!(world.now_telemetry().heartbeat.get(), before + number, "{chosen:x}");
    }
    // The same number again is no beat.
    beat(&mut world, 1 << 63);
    world.run_for(10_000);
    assert_eq!(world.now_telemetry().heartbeat.get(), before + 4);
    // However many there are, two count in the time of one.
    for chosen in 0..400 {
        beat(&mut world, chosen);
    }
    assert!((before + 5..=before + 6).contains(&world.now_telemetry().heartbeat.get()));
}

#[test]
fn packets_of_the_workload_that_are_refused_are_one_in_a_record_however_many_they_are() {
    let mut world = World::joined(&[]);
    let datagram = packets::udp(V4(NODE), V4(LAPTOP), (4000, 4000), b"news");
    for packets in [1, 7, 500] {
        let before = world.now_telemetry().policy_dropped.get();
        for _ in 0..packets {
            world.workload_sends(&datagram);
        }
        assert_eq!(world.now_telemetry().policy_dropped.get(), before + 1);
        assert_eq!(world.now_telemetry().policy_dropped.get(), before + 1);
    }
}
