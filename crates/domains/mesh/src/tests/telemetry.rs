//! What a record says of the workload: nothing that the workload could choose.

use calls::{
    Domain,
    mesh::{Account, Heartbeat},
};
use wire::telemetry::{Cause, Reason};
use zerocopy::FromZeros;

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
        let before = world.now_telemetry().dropped(Reason::Policy);
        for _ in 0..packets {
            world.workload_sends(&datagram);
        }
        assert_eq!(world.now_telemetry().dropped(Reason::Policy), before + 1);
        assert_eq!(world.now_telemetry().dropped(Reason::Policy), before + 1);
    }
}

#[test]
fn what_the_node_has_been_through_is_in_the_next_record_as_lifecycle_said_it_last() {
    let mut world = World::joined(&[]);
    assert_eq!(world.now_telemetry().boots.get(), 0);
    for boots in [7, u64::MAX] {
        let mut account =
            Account { boots, keystore: 3, store_writes: 4, store_erases: 5, store_errors: 6, ..Account::new_zeroed() };
        account.restarts[usize::from(u8::from(Domain::Claim))] = 2;
        (account.fault_domain, account.fault_cause) = (u8::from(Domain::Claim).into(), u8::from(Cause::Hung).into());
        (account.fault_count, account.fault_at_ms) = (2, 99_000);
        account.command_floors = [1, 2, 3, 4, 5, 6, u32::MAX];
        world.node.account.publish(&account);
        let record = world.now_telemetry();
        assert_eq!((record.boots.get(), record.keystore.get()), (boots, 3));
        assert_eq!(record.restarts.map(|count| count.get()), account.restarts);
        assert_eq!((record.fault_domain, record.fault_cause()), (Domain::Claim.into(), Some(Cause::Hung)));
        assert_eq!((record.fault_count.get(), record.fault_at_ms.get()), (2, 99_000));
        let store = [record.store_writes, record.store_erases, record.store_errors].map(|count| count.get());
        assert_eq!(store, [4, 5, 6]);
        assert_eq!(record.command_floors.map(|floor| floor.get()), account.command_floors);
    }
    // A number that no record has room for is none.
    let account = Account { fault_domain: 300, fault_cause: 300, ..Account::new_zeroed() };
    world.node.account.publish(&account);
    let record = world.now_telemetry();
    assert_eq!((record.fault_domain, record.fault_cause()), (0, Some(Cause::None)));
}
