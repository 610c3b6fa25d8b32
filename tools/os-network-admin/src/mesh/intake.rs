//! What nodes have said and is not written down yet: of each the last record, and the last receipt of each kind. So nobody can
//! have more verified or written than that, however much he sends.

use std::{collections::HashMap, net::IpAddr};

use wire::{Hex, receipt::Receipt, telemetry::Telemetry};
use zerocopy::{FromBytes, IntoBytes};

use super::{control::Heard, snapshot::Snapshot};
use crate::registry::Said;

/// What is on its way to the disk.
#[derive(Default)]
pub struct Words {
    pub said: Vec<Said>,
    /// Unverified.
    pub receipts: Vec<(i64, Receipt)>,
}

#[derive(Default)]
pub struct Intake {
    said: HashMap<i64, Said>,
    /// By member and kind.
    receipts: HashMap<(i64, u32), Receipt>,
    /// Receipts that are none, or not of the node that sent them.
    pub bad: u64,
}

impl Intake {
    /// Takes in a datagram to the telemetry port; for watchers, if it is a node's own word.
    pub fn take(&mut self, snapshot: &Snapshot, datagram: &[u8], from: IpAddr, heard_ms: i64) -> Option<Heard> {
        if let Some(record) = Telemetry::parse(datagram) {
            let member = snapshot.whose(&record, from)?.member;
            self.said.insert(member, Said { member, record, ms: heard_ms });
            return Some(Heard { member, heard_ms, record: Hex(record.as_bytes()).to_string() });
        }
        let receipt = Receipt::read_from_bytes(datagram).ok()?;
        let node = snapshot.at(from)?;
        if node.fiduciary != receipt.fiduciary || receipt.kind().is_none() {
            self.bad = self.bad.saturating_add(1);
            return None;
        }
        self.receipts.insert((node.member, receipt.kind.get()), receipt);
        Some(Heard { member: node.member, heard_ms, record: Hex(receipt.as_bytes()).to_string() })
    }

    pub fn is_empty(&self) -> bool {
        self.said.is_empty() && self.receipts.is_empty()
    }

    /// All of it, to be written.
    pub fn drain(&mut self) -> Words {
        let said = self.said.drain().map(|(_, said)| said).collect();
        Words { said, receipts: self.receipts.drain().map(|((member, _), receipt)| (member, receipt)).collect() }
    }

    /// What could not be written; what came meanwhile is newer.
    pub fn put_back(&mut self, left: Words) {
        for said in left.said {
            self.said.entry(said.member).or_insert(said);
        }
        for (member, receipt) in left.receipts {
            self.receipts.entry((member, receipt.kind.get())).or_insert(receipt);
        }
    }

    /// What to say of receipts that are none.
    pub fn trouble(&self) -> Option<String> {
        (self.bad > 0).then(|| format!("{} receipts came that are not of the node that sent them", self.bad))
    }
}

#[cfg(test)]
mod tests {
    use crypto::Secret;
    use wire::receipt::Kind;

    use super::*;
    use crate::{
        base::{host, mesh_key::MeshKey},
        registry::{Fleet, NewMember, Registry, Who},
    };

    #[test]
    fn a_receipt_is_taken_from_the_node_that_it_names_and_one_of_a_kind_waits() {
        let registry = Registry::in_memory(host::system()).unwrap();
        let fleet = registry.make_fleet(&[5; 32], "lab").unwrap();
        let key = MeshKey::generate(&host::System).unwrap();
        let seeds = [Secret::new([1; 32]), Secret::new([2; 32])];
        let nodes = seeds.each_ref().map(crypto::sign_public);
        for (at, node) in nodes.iter().enumerate() {
            let (who, key) = (Who::Node(*node), [at as u8 + 1; 32]);
            let new = NewMember { who: &who, key, claim_key: None, underlay: None, authority: None };
            let member = registry.enroll(&Fleet::new([5; 32], "lab"), &new).unwrap();
            registry.store_configuration(member.id, b"some", 1).unwrap();
        }
        let snapshot = Snapshot::load(&registry, &fleet, &key).unwrap();
        let at = |host| IpAddr::V6(fleet.addresses(host).1);
        let signed = |at: usize, kind, number| Receipt::sign(&seeds[at], &nodes[at], kind, &[5; 32], number, &[3; 32]);
        let mut intake = Intake::default();
        let (first, last) = (signed(0, Kind::Record, 1), signed(0, Kind::Record, 2));
        let release = signed(0, Kind::Release, 1);
        for receipt in [&first, &last, &release] {
            let heard = intake.take(&snapshot, receipt.as_bytes(), at(2), 7).unwrap();
            assert_eq!((heard.record, heard.heard_ms), (Hex(receipt.as_bytes()).to_string(), 7));
        }
        // From another's address, and with a kind that there is not.
        let odd = Receipt { kind: wire::U32::new(9), ..last };
        for receipt in [signed(1, Kind::Record, 9), odd] {
            assert!(intake.take(&snapshot, receipt.as_bytes(), at(2), 7).is_none());
        }
        assert!(intake.take(&snapshot, first.as_bytes(), at(9), 7).is_none(), "nobody's address");
        assert!(intake.take(&snapshot, &first.as_bytes()[1..], at(2), 7).is_none());
        assert_eq!(intake.bad, 2);
        let mut words = intake.drain();
        words.receipts.sort_by_key(|(_, receipt)| receipt.kind.get());
        let kept: Vec<Receipt> = words.receipts.iter().map(|(_, receipt)| *receipt).collect();
        assert_eq!(kept, [last, release]);
        // What could not be written waits, unless a newer one came.
        intake.take(&snapshot, first.as_bytes(), at(2), 8).unwrap();
        intake.put_back(words);
        let left = intake.drain().receipts;
        assert!(left.len() == 2 && left.iter().any(|(_, receipt)| *receipt == first));
    }
}
