//! The interface that the operator names: its index, MAC and IPv6 link-local address, as the kernel tells this network
//! namespace (not `/sys`, which may show another's).

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddrV6, UdpSocket},
    time::Duration,
};

use netdev::netlink::{Address, Netlink};
use nix::ifaddrs::{InterfaceAddress, getifaddrs};
use tokio::time::{Instant, sleep};
use wire::Mac;

use super::error::Error;

/// How long an address may stay tentative: duplicate address detection takes one to two seconds.
const TENTATIVE: Duration = Duration::from_secs(4);

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    pub name: String,
    pub index: u32,
    pub ip: Ipv6Addr,
    pub mac: Mac,
}

impl Interface {
    /// Finds the interface, and waits a little for its address to become usable.
    pub async fn find(name: &str) -> Result<Self, Error> {
        let until = Instant::now() + TENTATIVE;
        loop {
            let unusable = match Self::look(name)? {
                Ok(found) => return Ok(found),
                Err(why) => why,
            };
            if Instant::now() >= until {
                return Err(Error::network(unusable));
            }
            sleep(Duration::from_millis(100)).await;
        }
    }

    /// The interface, or why it is not usable yet.
    fn look(name: &str) -> Result<Result<Self, String>, Error> {
        let fails = |error: io::Error| Error::network(format!("the kernel does not say what {name} is: {error}"));
        let netlink = Netlink::open().map_err(fails)?;
        let Some(found) = netlink.find(name).map_err(fails)? else {
            return Err(Error::network(format!("there is no interface {name}: there are {}", names()?)));
        };
        if !found.is_up {
            return Err(Error::network(format!("the interface {name} is down: run: ip link set {name} up")));
        }
        let Some(mac) = found.mac.filter(|mac| *mac != [0; 6]) else {
            return Err(Error::network(format!("{name} is no Ethernet interface: name the one on the node's segment")));
        };
        let index = found.index;
        let addresses = netlink.addresses(index).map_err(fails)?;
        let mut unusable = format!("the interface {name} has no IPv6 link-local address: is IPv6 switched off there?");
        for (ip, _) in link_local(&addresses) {
            match UdpSocket::bind(SocketAddrV6::new(ip, 0, 0, index)) {
                Ok(_) => return Ok(Ok(Self { name: name.into(), index, ip, mac })),
                Err(error) if error.kind() == io::ErrorKind::AddrNotAvailable => {
                    unusable = format!(
                        "the address {ip} of {name} is still tentative, or is another host's: see `ip -6 addr show {name}`"
                    );
                }
                Err(error) => unusable = format!("the address {ip} of {name} cannot be used: {error}"),
            }
        }
        Ok(Err(unusable))
    }
}

/// The index of an interface, whichever of its names this is. `None`: none has it, or the kernel does not say; what is sent
/// by it then fails with an error of its own, and `mesh status` looks at the link.
pub fn index_of(name: &str) -> Option<u32> {
    Netlink::open().and_then(|netlink| netlink.find(name)).ok().flatten().map(|found| found.index)
}

/// Link-local addresses, the best to send from first: deprecated ones come after the others (RFC 6724, rule 3).
pub fn link_local(addresses: &[Address]) -> impl Iterator<Item = (Ipv6Addr, &Address)> {
    let of = |deprecated| addresses.iter().filter(move |address| address.is_deprecated == deprecated);
    of(false).chain(of(true)).filter_map(|address| match address.ip {
        IpAddr::V6(ip) if ip.is_unicast_link_local() => Some((ip, address)),
        _ => None,
    })
}

fn names() -> Result<String, Error> {
    let all =
        getifaddrs().map_err(|error| Error::network(format!("the system's interfaces cannot be listed: {error}")))?;
    let mut names: Vec<String> = all.map(|entry: InterfaceAddress| entry.interface_name).collect();
    names.sort_unstable();
    names.dedup();
    Ok(names.join(", "))
}

#[cfg(test)]
mod tests {
    use super::super::error::Exit;
    use super::*;

    #[test]
    fn a_missing_interface_is_an_error_that_names_the_others() {
        let error = Interface::look("no-such-if").unwrap_err();
        assert_eq!(error.exit, Exit::Network);
        assert!(error.message.contains("there is no interface no-such-if: there are"));
    }

    #[test]
    fn a_deprecated_address_is_the_last_choice() {
        let address =
            |ip: &str, is_deprecated| Address { ip: ip.parse().unwrap(), prefix: 64, is_usable: true, is_deprecated };
        let all = [address("fe80::1", true), address("fd00::1", false), address("fe80::2", false)];
        let of = |all| link_local(all).map(|(ip, _)| ip.to_string()).collect::<Vec<_>>();
        assert_eq!(of(&all), ["fe80::2", "fe80::1"]);
    }
}
