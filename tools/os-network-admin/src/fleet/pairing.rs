//! The registry as the claim sees it: a node that is granted something has its place in the fleet.

use policy::Endpoint;
use wire::{Key, Mac, binding::PairingRecord, claim::parse_grant};
use zerocopy::FromZeros;

use super::view::View;
use crate::{
    base::error::Error,
    claim::{Configure, Grant, MeshTerms, Pairing},
    registry::{Fleet, Member, NewMember, NewNode, Node, Registry, Who},
};

impl Pairing for Registry {
    fn next_counter(&self, ahead: u64) -> Result<u64, Error> {
        self.next_counter(ahead)
    }

    fn known(&self, fiduciary: &Key) -> Result<Option<Node>, Error> {
        self.node(fiduciary)
    }

    fn paired_among(&self, named: impl Fn(&Key) -> bool) -> Result<Option<Key>, Error> {
        let paired = self.nodes()?.into_iter().filter(|node| node.record.is_some());
        Ok(paired.map(|node| node.binding.fiduciary).find(|fiduciary| named(fiduciary)))
    }

    fn grant(&self, grant: &Grant<'_>, bind: impl FnOnce(u64, &[u8]) -> Result<Vec<u8>, Error>) -> Result<Node, Error> {
        self.whole(|registry| {
            let (member, configuration) = match &grant.terms.configuration {
                Configure::Bytes(bytes) => {
                    registry.leave(&grant.fiduciary)?;
                    (None, bytes.clone())
                }
                Configure::Mesh(mesh) => {
                    let (member, configuration) = enroll(registry, grant, mesh)?;
                    (Some(member), configuration)
                }
            };
            let bytes = bind(registry.next_counter(grant.ahead)?, &configuration)?;
            if let (Some(member), Some((head, _))) = (member, parse_grant(&bytes)) {
                registry.store_configuration(member.id, &configuration, head.binding.counter.get())?;
            }
            let node = registry.store_pending(&NewNode {
                grant: &bytes,
                fleet: &grant.terms.fleet,
                anchor: grant.terms.anchor,
                accepted: grant.accepted,
                address: grant.address,
                interface: grant.interface,
            })?;
            leaves_others_theirs(registry, &grant.terms.fleet_id, &node)?;
            Ok(node)
        })
    }

    fn paired(&self, node: &Node, record: &PairingRecord, rivals: u32, mac: Option<Mac>) -> Result<Node, Error> {
        self.whole(|registry| {
            if let Some(mac) = mac {
                registry.store_mac(&node.binding.fiduciary, &mac)?;
            }
            registry.store_paired(node, record, rivals)
        })
    }

    fn acknowledged(&self, node: &Node) -> Result<Node, Error> {
        self.whole(|registry| registry.store_acknowledged(node))
    }
}

/// Once it is paired others know it: none may lose its configuration by that.
fn leaves_others_theirs(registry: &Registry, fleet: &[u8; 16], node: &Node) -> Result<(), Error> {
    let Some(fleet) = registry.fleet(fleet)? else { return Ok(()) };
    let view = View { registry, fleet };
    let before = view.unworkable()?;
    registry.trial(|registry| {
        registry.store_paired(node, &PairingRecord::new_zeroed(), 0)?;
        view.check(&before)
    })
}

/// Gives a node that is being claimed its place, and says what configuration it has there.
fn enroll(registry: &Registry, grant: &Grant<'_>, mesh: &MeshTerms) -> Result<(Member, Vec<u8>), Error> {
    let terms = grant.terms;
    let fleet = registry.fleet(&terms.fleet_id)?.unwrap_or_else(|| Fleet::new(terms.fleet_id, &terms.fleet));
    let authority = mesh.endpoint.unwrap_or(Endpoint { ip: grant.own, port: fleet.port });
    let new = NewMember {
        who: &Who::Node(grant.fiduciary),
        key: grant.mesh_key,
        claim_key: Some(grant.claim_key),
        underlay: mesh.underlay,
        authority: Some(authority),
    };
    let member = registry.enroll(&fleet, &new)?;
    registry.set_authority(&fleet.id, &mesh.authority)?;
    let fleet = registry.fleet(&fleet.id)?.unwrap_or(fleet);
    let configuration = registry.configuration(&fleet, &member)?;
    Ok((member, configuration))
}
