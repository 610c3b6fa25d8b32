//! The interface that the operator names: its index, MAC and IPv6 link-local address, as the kernel tells this network
//! namespace (not `/sys`, which may show another's).

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6, UdpSocket},
    time::Duration,
};

use nix::{
    ifaddrs::{InterfaceAddress, getifaddrs},
    net::if_::{InterfaceFlags, if_nametoindex},
};
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
        let all: Vec<InterfaceAddress> = getifaddrs()
            .map_err(|error| Error::network(format!("the system's interfaces cannot be listed: {error}")))?
            .collect();
        let Ok(index) = if_nametoindex(name) else {
            return Err(Error::network(format!("there is no interface {name}: there are {}", names(&all))));
        };
        let own: Vec<_> = all.iter().filter(|entry| entry.interface_name == name).collect();
        if !own.iter().any(|entry| entry.flags.contains(InterfaceFlags::IFF_UP)) {
            return Err(Error::network(format!("the interface {name} is down: run: ip link set {name} up")));
        }
        let macs = own.iter().filter_map(|entry| entry.address?.as_link_addr()?.addr());
        let Some(mac) = macs.into_iter().find(|mac| *mac != [0; 6]) else {
            return Err(Error::network(format!("{name} is no Ethernet interface: name the one on the node's segment")));
        };
        let addresses = own.iter().filter_map(|entry| Some(entry.address?.as_sockaddr_in6()?.ip()));
        let mut unusable = format!("the interface {name} has no IPv6 link-local address: is IPv6 switched off there?");
        for ip in addresses.filter(Ipv6Addr::is_unicast_link_local) {
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

fn names(all: &[InterfaceAddress]) -> String {
    let mut names: Vec<&str> = all.iter().map(|entry| entry.interface_name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    names.join(", ")
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
}
