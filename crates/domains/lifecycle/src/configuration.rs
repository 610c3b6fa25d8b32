//! A configuration as lifecycle keeps it: its bytes, for mesh, and the little that it needs itself.

use calls::keystore::OwnerReply;
use calls::rules::MeshLink;
use policy::{Configuration, Prefix, Underlay};
use wire::{Hash, claim::MAX_CONFIGURATION, title};
use zeroize::Zeroizing;

pub struct Kept {
    pub hash: Hash,
    length: usize,
    /// They hold preshared keys.
    bytes: Zeroizing<[u8; MAX_CONFIGURATION]>,
    pub link: MeshLink,
    pub peers: u32,
    /// It is none that anybody has made: what the warrant says, in the place of one that is not here.
    pub bare: bool,
}

impl Kept {
    pub fn nothing() -> Self {
        let bytes = Zeroizing::new([0; MAX_CONFIGURATION]);
        Self { hash: [0; 32], length: 0, bytes, link: MeshLink::NONE, peers: 0, bare: false }
    }

    /// The configuration, if it can be read. No bytes are one too: that of a node without a mesh.
    pub fn read(bytes: &[u8]) -> Option<Self> {
        let configuration = Configuration::parse(bytes).ok()?;
        let mut link = MeshLink { member: u64::from(!bytes.is_empty()), ..MeshLink::NONE };
        if let Some(underlay) = configuration.underlay {
            (link.address, link.length) = (underlay.address.ip, u64::from(underlay.address.length));
            link.gateway = underlay.gateway.unwrap_or_default();
        }
        let peers = u32::try_from(configuration.peers.len()).unwrap_or(u32::MAX);
        let hash = wire::binding::configuration_hash(bytes);
        let mut kept = Self { hash, length: bytes.len(), link, peers, ..Self::nothing() };
        kept.bytes.get_mut(..bytes.len())?.copy_from_slice(bytes);
        Some(kept)
    }

    /// Where the warrant has the node: no rules, and no peers but its authorities.
    pub fn bare(owner: &OwnerReply) -> Option<Self> {
        let prefix = |it: &title::Prefix| Prefix { ip: it.ip, length: it.length };
        let is_there = |it: &&title::Prefix| it.ip != [0; 16];
        let gateway = (owner.gateway != [0; 16]).then_some(owner.gateway);
        let underlay = Some(&owner.underlay).filter(is_there);
        let configuration = Configuration {
            addresses: owner.addresses.iter().filter(is_there).map(prefix).collect(),
            underlay: underlay.map(|it| Underlay { address: prefix(it), gateway }),
            ..Configuration::default()
        };
        let mut bytes = [0; 128];
        let bytes = configuration.write(&mut bytes).filter(|_| !configuration.addresses.is_empty())?;
        Some(Self { bare: true, ..Self::read(bytes)? })
    }

    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    /// The bytes, with zeros behind them.
    pub fn padded(&self) -> &[u8; MAX_CONFIGURATION] {
        &self.bytes
    }
}
