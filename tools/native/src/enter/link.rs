//! The veth pair: made and set up by rtnetlink, so that a read-only `/proc/sys` does no harm.

use std::{
    fs::File,
    hash::{DefaultHasher, Hash, Hasher},
    net::Ipv6Addr,
    os::fd::{AsRawFd, OwnedFd},
    time::Duration,
};

use anyhow::{Context, Result, bail};
use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage,
    },
};
use rustix::{
    io::Errno,
    net::{
        AddressFamily as Domain, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink, sockopt,
    },
};

use super::{INTERFACE, namespace, packet::Wire};

/// The other end of the program's interface, in this process's own namespace.
const WIRE: &str = "wire";
/// `RTMGRP_LINK` of linux/rtnetlink.h.
const LINK_NEWS: u32 = 1;
/// An interface that is not said to run by then is used all the same.
const RUNNING_PATIENCE: Duration = Duration::from_secs(2);

/// Moves this process into the program's namespace, and returns the far end of its interface.
pub fn plug(name: &str) -> Result<Wire> {
    namespace::enter_new()?;
    // The kernel of the wire's namespace has nothing to say on it; netlink below is what must work.
    let _ = namespace::set("ipv6/conf/default/disable_ipv6", "1");
    let here = File::open("/proc/self/ns/net").context("cannot open /proc/self/ns/net")?;
    let far = Routes::open()?;
    let wire = Wire::open()?;

    namespace::enter_another()?;
    namespace::show_interfaces_in_sys();
    for (setting, value) in [("accept_dad", "0"), ("accept_ra", "0"), ("router_solicitations", "0")] {
        let _ = namespace::set(&format!("ipv6/conf/default/{setting}"), value);
    }
    let near = Routes::open()?;
    let mac = mac_of(name);
    near.pair(mac, &here)?;
    let (wire_index, index) = (far.index(WIRE)?, near.index(INTERFACE)?);
    wire.bind(wire_index)?;
    far.no_automatic_address(wire_index).context("cannot set up the wire")?;
    far.up(wire_index).context("cannot bring the wire up")?;

    near.up(near.index("lo")?).context("cannot bring lo up")?;
    near.no_offload()?;
    near.no_automatic_address(index).context("cannot set up lab0; is IPv6 off in this kernel?")?;
    let news = near.news()?;
    near.up(index).context("cannot bring lab0 up")?;
    news.await_running(index)?;
    near.address(index, link_local(mac)).context("cannot give lab0 its address; is IPv6 off in this kernel?")?;
    Ok(wire)
}

/// The same for the same name: a host that comes back is where it was.
fn mac_of(name: &str) -> [u8; 6] {
    let mut hasher = DefaultHasher::new();
    name.hash(&mut hasher);
    let [mut first, b, c, d, e, f, ..] = hasher.finish().to_be_bytes();
    // Locally administered, of one station.
    first = (first | 0x02) & 0xfe;
    [first, b, c, d, e, f]
}

/// RFC 4291, appendix A.
pub fn link_local(mac: [u8; 6]) -> Ipv6Addr {
    let [a, b, c, d, e, f] = mac;
    Ipv6Addr::from([0xfe, 0x80, 0, 0, 0, 0, 0, 0, a ^ 0x02, b, c, 0xff, 0xfe, d, e, f])
}

/// An rtnetlink socket of one network namespace.
struct Routes(OwnedFd);

impl Routes {
    fn open() -> Result<Self> {
        let socket = rustix::net::socket_with(Domain::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .context("cannot open a netlink socket")?;
        Ok(Self(socket))
    }

    /// A further socket of the present namespace, on which the kernel tells of every change of an interface.
    fn news(&self) -> Result<Self> {
        let news = Self::open()?;
        rustix::net::bind(&news.0, &SocketAddrNetlink::new(0, LINK_NEWS))?;
        sockopt::set_socket_timeout(&news.0, sockopt::Timeout::Recv, Some(RUNNING_PATIENCE))?;
        Ok(news)
    }

    /// Waits for the kernel to notice that the interface has a carrier. It carries frames before that, but programs look.
    fn await_running(&self, index: u32) -> Result<()> {
        let running = |message: RouteNetlinkMessage| match message {
            RouteNetlinkMessage::NewLink(link) => {
                link.header.index == index && link.header.flags.contains(LinkFlags::Running)
            }
            _ => false,
        };
        loop {
            let answer = match self.receive() {
                Ok(answer) => answer,
                Err(error) if error.downcast_ref() == Some(&Errno::AGAIN) => return Ok(()),
                Err(error) => return Err(error),
            };
            if let NetlinkPayload::InnerMessage(message) = answer.payload
                && running(message)
            {
                return Ok(());
            }
        }
    }

    fn receive(&self) -> Result<NetlinkMessage<RouteNetlinkMessage>> {
        let mut bytes = [0; 8192];
        let (length, _) = rustix::net::recv(&self.0, &mut bytes[..], RecvFlags::empty())?;
        Ok(NetlinkMessage::deserialize(&bytes[..length])?)
    }

    fn index(&self, name: &str) -> Result<u32> {
        rustix::net::netdevice::name_to_index(&self.0, name).with_context(|| format!("there is no interface {name}"))
    }

    fn pair(&self, mac: [u8; 6], far: &File) -> Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![LinkAttribute::IfName(WIRE.into()), LinkAttribute::NetNsFd(far.as_raw_fd())];
        let mut link = LinkMessage::default();
        link.attributes = vec![
            LinkAttribute::IfName(INTERFACE.into()),
            LinkAttribute::Address(mac.into()),
            LinkAttribute::LinkInfo(vec![
                LinkInfo::Kind(InfoKind::Veth),
                LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer))),
            ]),
        ];
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
            .context("cannot make a veth pair; the kernel needs the module veth")
    }

    fn no_automatic_address(&self, index: u32) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        link.attributes = vec![LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])];
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn up(&self, index: u32) -> Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up;
        link.header.change_mask = LinkFlags::Up;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Usable at once: no duplicate address detection.
    fn address(&self, index: u32, address: Ipv6Addr) -> Result<()> {
        let mut message = AddressMessage::default();
        message.header = AddressHeader {
            family: AddressFamily::Inet6,
            prefix_len: 64,
            flags: AddressHeaderFlags::Nodad,
            scope: AddressScope::Link,
            index,
        };
        message.attributes = vec![AddressAttribute::Address(address.into())];
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    /// Frames are to leave the interface as they would a real one: checksums made, none too long.
    fn no_offload(&self) -> Result<()> {
        super::packet::no_offload(&self.0, INTERFACE).context("cannot turn checksum offload off")
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_ACK | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        let kernel = SocketAddrNetlink::new(0, 0);
        rustix::net::sendto(&self.0, &bytes, SendFlags::empty(), &kernel).context("cannot ask the kernel")?;
        match self.receive()?.payload {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
            NetlinkPayload::Error(error) => Err(error.to_io().into()),
            _ => bail!("the kernel gave no answer"),
        }
    }
}
