//! The veth pair: made and set up by rtnetlink, so that a read-only `/proc/sys` does no harm.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv6Addr,
    os::fd::AsFd,
    time::Duration,
};

use anyhow::{Context, Result};
use netdev::{
    Mac,
    netlink::{End, Netlink, News},
    packet::{PacketSocket, no_offload},
};

use super::namespace;

/// The other end of the program's interface, in this process's own namespace.
const WIRE: &str = "wire";
/// An interface that is not said to run by then is used all the same.
const RUNNING_PATIENCE: Duration = Duration::from_secs(2);

/// Moves this process into the program's namespace, and returns the far end of its interface.
pub fn plug(name: &str, interface: &str) -> Result<PacketSocket> {
    namespace::enter_new()?;
    // The kernel of the wire's namespace has nothing to say on it; netlink below is what must work.
    let _ = namespace::set("ipv6/conf/default/disable_ipv6", "1");
    let here = File::open("/proc/self/ns/net").context("cannot open /proc/self/ns/net")?;
    let far = netlink()?;
    let wire = PacketSocket::open().context("cannot open a packet socket")?;

    namespace::enter_another()?;
    namespace::show_interfaces_in_sys();
    for (setting, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")] {
        let _ = namespace::set(&format!("ipv6/conf/default/{setting}"), value);
    }
    let near = netlink()?;
    let mac = mac_of(name);
    let ends = (End { mac: Some(mac), ..End::new(interface) }, End { namespace: Some(here.as_fd()), ..End::new(WIRE) });
    near.make_pair(&ends.0, &ends.1).context("cannot make a veth pair; the kernel needs the module veth")?;
    let (wire_index, index) = (far.index(WIRE)?, near.index(interface)?);
    wire.bind(wire_index)?;
    far.no_automatic_address(wire_index).context("cannot set up the wire")?;
    far.up(wire_index).context("cannot bring the wire up")?;

    near.up(near.index("lo")?).context("cannot bring lo up")?;
    // Frames are to leave the interface as they would a real one: checksums made, none too long.
    no_offload(&near, interface).context("cannot turn checksum offload off")?;
    near.no_automatic_address(index)
        .with_context(|| format!("cannot set up {interface}; is IPv6 off in this kernel?"))?;
    let news = News::open(RUNNING_PATIENCE).context("cannot open a netlink socket")?;
    near.up(index).with_context(|| format!("cannot bring {interface} up"))?;
    news.await_running(index)?;
    near.add_address(index, link_local(mac).into(), 64)
        .with_context(|| format!("cannot give {interface} its address; is IPv6 off in this kernel?"))?;
    Ok(wire)
}

fn netlink() -> Result<Netlink> {
    Netlink::open().context("cannot open a netlink socket")
}

/// Where a program behind a port of that name is on the link.
pub fn address(name: &str) -> Ipv6Addr {
    link_local(mac_of(name))
}

/// The same for the same name: a host that comes back is where it was.
fn mac_of(name: &str) -> Mac {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let [mut first, b, c, d, e, f, ..] = hasher.finish().to_be_bytes();
    // Locally administered, of one station.
    first = (first | 0x02) & 0xfe;
    [first, b, c, d, e, f]
}

/// RFC 4291, appendix A.
fn link_local(mac: Mac) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
}
