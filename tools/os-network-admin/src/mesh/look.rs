//! What the kernel has of this host's end of the mesh: the interface, its addresses, and the links that nodes are on. It is asked
//! whenever that may have changed; nothing is taken for granted because it was so before.

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::Ipv6Addr,
};

use netdev::netlink::{Address, Existing, Netlink, News};
use policy::Prefix;
use tokio::io::{Interest, unix::AsyncFd};

use super::device;
use crate::base::interface::link_local;

/// A link that nodes are on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Link {
    /// `None`: there is no such interface.
    pub index: Option<u32>,
    pub is_up: bool,
    /// The link-local addresses that this host sends from there.
    pub own: BTreeSet<Ipv6Addr>,
}

/// Links, by what the operator calls the interface.
pub type Links = BTreeMap<String, Link>;

impl Link {
    fn look(netlink: &Netlink, name: &str) -> io::Result<Self> {
        let Some(Existing { index, is_up, .. }) = netlink.find(name)? else { return Ok(Self::default()) };
        Ok(Self { index: Some(index), is_up, own: sent_from(&netlink.addresses(index)?) })
    }

    /// Why no node can be reached there.
    pub fn trouble(&self, name: &str) -> Option<String> {
        if self.index.is_none() {
            Some(format!("the interface {name}, on whose link nodes are, is not there"))
        } else if !self.is_up {
            Some(format!("the interface {name}, on whose link nodes are, is down: run: ip link set {name} up"))
        } else if self.own.is_empty() {
            Some(format!(
                "the interface {name}, on whose link nodes are, has no usable IPv6 link-local address: see \
                 `ip -6 addr show {name}`"
            ))
        } else {
            None
        }
    }
}

/// Those that can be sent from; deprecated ones only if there are no others.
fn sent_from(addresses: &[Address]) -> BTreeSet<Ipv6Addr> {
    let mut usable = link_local(addresses).filter(|(_, address)| address.is_usable).peekable();
    let is_deprecated = usable.peek().is_some_and(|(_, address)| address.is_deprecated);
    usable.filter(|(_, address)| address.is_deprecated == is_deprecated).map(|(ip, _)| ip).collect()
}

pub fn links<'n>(netlink: &Netlink, names: impl Iterator<Item = &'n str>) -> io::Result<Links> {
    let names: BTreeSet<&str> = names.collect();
    names.into_iter().map(|name| Ok((name.to_owned(), Link::look(netlink, name)?))).collect()
}

/// What became of the links.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// One is another interface than before, or is one again: where nodes are is to be asked anew.
    pub places: bool,
    /// This host has another address on one, or can use it again: nodes are to hear of it.
    pub own: bool,
}

pub fn moved(before: &Links, now: &Links) -> Moved {
    let mut moved = Moved::default();
    for (name, link) in now {
        let old = before.get(name).cloned().unwrap_or_default();
        moved.places |= link.index != old.index;
        moved.own |= link.is_up && (!old.is_up || link.own.iter().any(|own| !old.own.contains(own)));
        // What is sent from changes if an address that was used is gone.
        moved.own |= link.is_up && !link.own.is_empty() && old.own.iter().any(|own| !link.own.contains(own));
    }
    moved
}

/// Gives the interface the addresses that it lacks: the kernel takes those of IPv6 away when it is set down. What is still not
/// there.
pub fn restore(netlink: &Netlink, found: &Existing, wanted: &[Prefix]) -> io::Result<Vec<String>> {
    let has = netlink.addresses(found.index)?;
    let mut missing = Vec::new();
    for prefix in wanted {
        let (ip, length) = device::address(prefix);
        if has.iter().any(|address| address.ip == ip) {
            continue;
        }
        if let Err(error) = netlink.add_address(found.index, ip, length) {
            missing.push(format!("{} lacks its address {ip}, which cannot be given to it: {error}", found.name));
        }
    }
    Ok(missing)
}

/// Waits until the kernel tells of a change, and takes all news of it in.
pub async fn news(news: &AsyncFd<News>) -> io::Result<()> {
    news.async_io(Interest::READABLE, News::take).await?;
    while news.get_ref().take().is_ok() {}
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(index: u32, own: &[&str]) -> Links {
        let own = own.iter().map(|ip| ip.parse().unwrap()).collect();
        [("eth0".to_owned(), Link { index: Some(index), is_up: true, own })].into()
    }

    #[test]
    fn another_interface_is_another_place_and_another_address_is_told() {
        let before = link(2, &["fe80::1"]);
        let moved_to = |now: &Links| moved(&before, now);
        assert_eq!(moved_to(&before), Moved::default());
        assert_eq!(moved_to(&link(2, &["fe80::2"])), Moved { places: false, own: true });
        assert_eq!(moved_to(&link(2, &["fe80::1", "fe80::2"])), Moved { places: false, own: true });
        assert_eq!(moved(&link(2, &["fe80::1", "fe80::2"]), &before), Moved { places: false, own: true });
        // Without an address there is nothing to say, and from nowhere.
        assert_eq!(moved_to(&link(2, &[])), Moved::default());
        assert_eq!(moved(&link(2, &[]), &before), Moved { places: false, own: true });
        assert_eq!(moved_to(&link(3, &["fe80::1"])), Moved { places: true, own: false });
        let gone: Links = [("eth0".to_owned(), Link::default())].into();
        assert_eq!(moved_to(&gone), Moved { places: true, own: false });
        assert_eq!(moved(&gone, &before), Moved { places: true, own: true });
    }

    #[test]
    fn why_a_link_is_of_no_use_is_said_with_its_name() {
        let said = |link: &Link| link.trouble("eth0").unwrap_or_default();
        let mut link = Link::default();
        assert!(said(&link).contains("eth0") && said(&link).contains("not there"));
        link.index = Some(2);
        assert!(said(&link).contains("ip link set eth0 up"));
        link.is_up = true;
        assert!(said(&link).contains("link-local"));
        link.own.insert("fe80::1".parse().unwrap());
        assert_eq!(link.trouble("eth0"), None);
    }

    #[test]
    fn a_deprecated_address_is_sent_from_only_if_there_is_no_other() {
        let address = |ip: &str, is_usable, is_deprecated| Address {
            ip: ip.parse().unwrap(),
            prefix: 64,
            is_usable,
            is_deprecated,
        };
        let all = [
            address("fe80::1", true, true),
            address("fe80::2", false, false),
            address("2001:db8::1", true, false),
            address("fe80::3", true, false),
        ];
        let of = |addresses: &[Address]| sent_from(addresses).iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(of(&all), ["fe80::3"]);
        assert_eq!(of(&all[..3]), ["fe80::1"]);
        assert!(of(&all[1..3]).is_empty());
    }
}
