//! The registry's work for one node is the same however many there are.

use wire::telemetry::Telemetry;

use super::*;
use crate::{
    base::host,
    registry::{Cost, Said},
};

/// Claims a node without signatures, which the registry does not read.
fn quick(registry: &Registry, number: u32) -> Node {
    let mut key = [7; 32];
    key[..4].copy_from_slice(&number.to_be_bytes());
    let node = grant_to(registry, key, key).unwrap();
    registry.paired(&node, &PairingRecord::new_zeroed(), 0, Some([2; 6])).unwrap()
}

/// So many members, every fourth of which knows the next by rules of its own.
fn registry(members: u32) -> Registry {
    let registry = Registry::in_memory(host::system()).unwrap();
    registry.make_fleet(&FLEET, "lab").unwrap();
    registry.set_network(&FLEET, "10.0.0.0/16".parse().unwrap(), 51820).unwrap();
    registry.set_fleet_rules(&FLEET, &[rule(Direction::In, Role::Authority, 80)].into_iter().collect()).unwrap();
    registry
        .whole(|registry| {
            for number in 0..members {
                let node = quick(registry, number);
                let port = 1000 + (number / 4) as u16;
                let member = registry.member_at(&FLEET, number + 2)?.unwrap();
                assert_eq!(member.fiduciary(), Some(&node.title.warrant.fiduciary));
                let direction = if number % 2 == 0 { Direction::In } else { Direction::Out };
                let rules = [rule(direction, Role::Node, port)].into_iter().collect();
                if number % 4 < 2 {
                    registry.set_member_rules(member.id, Some(&rules))?;
                }
            }
            Ok(())
        })
        .unwrap();
    registry
}

/// What a claim, a record of telemetry and a row of either list cost.
fn costs(members: u32) -> [Cost; 4] {
    let mut registry = registry(members);
    let counter = registry.count().unwrap();
    // Prepared, as in a process that has done it before.
    quick(&registry, members);
    counter.take();
    let node = quick(&registry, members + 1);
    registry.acknowledged(&node).unwrap();
    let claim = counter.take();
    let member = registry.member_at(&FLEET, 2).unwrap().unwrap();
    let mut record = Telemetry::new_zeroed();
    record.configuration.copy_from_slice(&member.wanted.unwrap()[..8]);
    registry.store_telemetry(&[Said { member: member.id, record, ms: 5 }]).unwrap();
    counter.take();
    registry.store_telemetry(&[Said { member: member.id, record, ms: 6 }]).unwrap();
    let telemetry = counter.take();
    let rows = u64::from(members) + 2;
    let each = |cost: Cost, listed: usize| {
        assert_eq!(listed as u64, rows);
        Cost { statements: cost.statements, steps: cost.steps.div_ceil(rows), scanned: cost.scanned.div_ceil(rows) }
    };
    let nodes = registry.nodes_and_addresses().unwrap().len();
    let listed = each(counter.take(), nodes);
    let view = View { registry: &registry, fleet: registry.fleet(&FLEET).unwrap().unwrap() };
    counter.take();
    let nodes = view.nodes().unwrap();
    assert!(nodes.iter().all(|node| node.member.wanted.is_some()));
    [claim, telemetry, listed, each(counter.take(), nodes.len())]
}

#[test]
fn a_claim_a_record_and_a_row_cost_the_same_among_ten_and_a_thousand() {
    let (few, many) = (costs(10), costs(1000));
    for (what, (few, many)) in ["claim", "record", "row", "row of telemetry"].iter().zip(few.iter().zip(&many)) {
        assert_eq!(few.statements, many.statements, "{what}");
        assert_eq!(few.scanned, many.scanned, "{what}");
        // A statement's own beginning and end count more where there are few rows.
        assert!(many.steps <= few.steps + few.steps / 10, "{what}: {few:?} {many:?}");
    }
    let [claim, record, row, other] = many;
    assert_eq!((claim.scanned, record.statements), (0, 5));
    assert!(row.statements == 1 && other.statements == 1 && row.scanned <= 1 && other.scanned <= 1);
}
