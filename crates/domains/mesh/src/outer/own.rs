//! The addresses that the node has on its link, and from which of them and by whom it reaches another.

use link::{Station, is_host, is_link_local, is_unicast};
use policy::Underlay;
use wire::Ip;

/// The node's own end of the link.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Own {
    /// MAC and link-local address.
    pub station: Station,
    pub underlay: Option<Underlay>,
}

impl Own {
    /// `None` unless a host can have these addresses.
    pub fn new(station: Station, underlay: Option<Underlay>) -> Option<Self> {
        (is_unicast(&station.mac) && is_link_local(&station.ip)).then_some(Self { station, underlay })
    }

    pub fn is(&self, ip: &Ip) -> bool {
        *ip == self.station.ip || self.underlay.is_some_and(|underlay| underlay.address.ip == *ip)
    }

    /// The address from which the node talks to `ip`: it needs a static one for any that is not link-local.
    pub fn source_for(&self, ip: &Ip) -> Option<Ip> {
        if is_link_local(ip) { Some(self.station.ip) } else { self.underlay.map(|underlay| underlay.address.ip) }
    }

    /// Who on the link takes what is for `ip`.
    pub fn next_hop(&self, ip: &Ip) -> Option<Ip> {
        if !is_host(ip) || self.is(ip) {
            return None;
        }
        let underlay = self.underlay.as_ref();
        let direct = is_link_local(ip) || underlay.is_some_and(|underlay| underlay.address.contains(ip));
        if direct { Some(*ip) } else { underlay?.gateway.filter(|gateway| is_host(gateway) && !self.is(gateway)) }
    }
}
