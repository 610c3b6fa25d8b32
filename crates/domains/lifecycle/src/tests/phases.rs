//! Phases, whatever is asked for.

use calls::{
    keystore::Ownership,
    lifecycle::{Closed, EndRequest, for_claim, for_mesh},
};
use wire::Phase;

use super::{MS, Rig, configuration, members::update};

proptest::proptest! {
    /// Whatever beacon and claim ask for, the phase moves only along the allowed edges and the gate has one peer.
    #[test]
    fn phases_follow_their_edges(actions in proptest::collection::vec((0u8..11, 0u8..3), 0..60)) {
        let mut rig = Rig::new(1000);
        rig.become_ready();
        let mut before = rig.core.phase();
        for (action, n) in actions {
            let gate = rig.rules.gate + u64::from(n / 2);
            match action {
                0 => drop(rig.open(n)),
                1 => drop(rig.claim::<for_claim::Started>(&gate)),
                2 => drop(rig.stage(&configuration(u16::from(n) + 1))),
                3 => drop(rig.claim::<for_claim::Committed>(&gate)),
                4 => drop(rig.claim::<for_claim::Acknowledged>(&gate)),
                5 => drop(rig.claim::<for_claim::Ended>(&EndRequest::new(gate, Closed::Rejected))),
                6 => rig.pass(7_000 * MS),
                7 => {
                    rig.kept.status.ownership = rig.kept.status.ownership.max(n);
                    rig.change();
                }
                8 => drop(rig.tell::<for_mesh::Joined>(&())),
                9 => drop(rig.tell::<for_mesh::Apply>(&update(&configuration(u16::from(n) + 1)))),
                _ => rig.change(),
            }
            let after = rig.core.phase();
            // Fork is passed through within one action.
            let allowed = before <= after || (before == Phase::Scan && after == Phase::Hold);
            proptest::prop_assert!(allowed, "{before:?} to {after:?}");
            proptest::prop_assert!(after != Phase::Claimed || rig.kept.status.ownership() == Ownership::Claimed);
            proptest::prop_assert!(after != Phase::Committed || rig.kept.status.ownership() != Ownership::Unclaimed);
            proptest::prop_assert_eq!(rig.rules.gate != 0, rig.core.gate.is_open());
            let member = rig.core.configuration().filter(|bytes| after.has_mesh() && !bytes.is_empty());
            proptest::prop_assert_eq!(rig.rules.mesh.member == 1, member.is_some());
            proptest::prop_assert_eq!(rig.member.configuration(), member);
            before = after;
        }
    }
}
