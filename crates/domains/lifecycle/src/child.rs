//! What the death of a domain means for the node.

use calls::Domain;
use wire::Phase;

/// Whether a node in this phase can no longer be what it is without this domain.
pub const fn needed(domain: Domain, phase: Phase) -> bool {
    match domain {
        // A keystore that wants samples and gets none says so itself.
        Domain::Entropy | Domain::Console => false,
        // Without a mesh nobody reaches the node, and its workload goes on; without a workload it is still governed.
        Domain::Mesh | Domain::Workload => false,
        Domain::Beacon | Domain::Claim => !matches!(phase, Phase::Claimed),
        Domain::Net | Domain::Perimeter | Domain::Timer => true,
        // These two are nobody's children.
        Domain::Keystore | Domain::Lifecycle => true,
    }
}
