//! What is asked of the kernel about network interfaces, by rtnetlink: in whatever network namespace this process is.

use std::{io, os::fd::OwnedFd};

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_CREATE, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use policy::Prefix;
use rustix::net::{AddressFamily as Domain, RecvFlags, SendFlags, SocketFlags, SocketType, netlink::SocketAddrNetlink};
use wire::{Ip, Mac};

/// Tells our interfaces from others.
const ALIAS: &str = "os-network-admin mesh";

pub struct Netlink(OwnedFd);

/// An interface that is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Existing {
    pub index: u32,
    /// Made by this program.
    pub ours: bool,
}

impl Netlink {
    pub fn open() -> io::Result<Self> {
        let socket = rustix::net::socket_with(Domain::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)?;
        Ok(Self(socket))
    }

    pub fn find(&self, name: &str) -> io::Result<Option<Existing>> {
        let mut message = LinkMessage::default();
        message.attributes = vec![LinkAttribute::IfName(name.into())];
        match self.exchange(RouteNetlinkMessage::GetLink(message), 0)? {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                let ours = link.attributes.contains(&LinkAttribute::IfAlias(ALIAS.into()));
                Ok(Some(Existing { index: link.header.index, ours }))
            }
            NetlinkPayload::Error(error) => {
                let error = error.to_io();
                if error.raw_os_error() == Some(nix::libc::ENODEV) { Ok(None) } else { Err(error) }
            }
            _ => Err(io::Error::other("the kernel gave no answer")),
        }
    }

    /// A pair of interfaces without ARP and automatic addresses: what goes into one comes out of the other.
    pub fn make_pair(&self, name: &str, mac: Mac, far: &str, mtu: u32) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = vec![LinkAttribute::IfName(far.into()), LinkAttribute::Mtu(mtu)];
        let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)));
        let mut link = new_link(name, mtu, vec![LinkInfo::Kind(InfoKind::Veth), data]);
        link.attributes.push(LinkAttribute::Address(mac.into()));
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)?;
        self.no_automatic_address(far)
    }

    /// The kernel's own WireGuard, if it has it.
    pub fn make_wireguard(&self, name: &str, mtu: u32) -> io::Result<bool> {
        let link = new_link(name, mtu, vec![LinkInfo::Kind(InfoKind::Wireguard)]);
        match self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(nix::libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Marks an interface as ours, with no address but those that it is given.
    pub fn mark(&self, index: u32, mtu: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![LinkAttribute::IfAlias(ALIAS.into()), LinkAttribute::Mtu(mtu), no_address()];
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Brings an interface up that resolves no addresses: all that goes out of it comes to us.
    pub fn up(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = LinkFlags::Up | LinkFlags::Noarp;
        link.header.change_mask = LinkFlags::Up | LinkFlags::Noarp;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Adds an address, usable at once, and with it the route to its subnet.
    pub fn address(&self, index: u32, prefix: &Prefix) -> io::Result<()> {
        let (family, length) = if prefix.is_v4() {
            (AddressFamily::Inet, prefix.length - 96)
        } else {
            (AddressFamily::Inet6, prefix.length)
        };
        let mut message = AddressMessage::default();
        message.header = AddressHeader {
            family,
            prefix_len: length,
            flags: AddressHeaderFlags::Nodad,
            scope: AddressScope::Universe,
            index,
        };
        let [.., a, b, c, d] = prefix.ip;
        message.attributes = if prefix.is_v4() {
            let ip = std::net::Ipv4Addr::new(a, b, c, d).into();
            vec![AddressAttribute::Local(ip), AddressAttribute::Address(ip)]
        } else {
            vec![AddressAttribute::Address(std::net::Ipv6Addr::from(prefix.ip).into())]
        };
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    pub fn delete(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        self.ask(RouteNetlinkMessage::DelLink(link), 0)
    }

    /// The MAC of a neighbour, as the kernel has last seen it.
    pub fn neighbour(&self, index: u32, ip: Ip) -> io::Result<Option<Mac>> {
        match self.exchange(RouteNetlinkMessage::GetNeighbour(neighbour(index, ip)), 0)? {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNeighbour(found)) => {
                let mac = found.attributes.into_iter().find_map(|attribute| match attribute {
                    NeighbourAttribute::LinkLayerAddress(mac) => Mac::try_from(mac).ok(),
                    _ => None,
                });
                Ok(mac)
            }
            _ => Ok(None),
        }
    }

    /// Says where a neighbour was: it is sent to there at once, and asked whether it still is.
    pub fn set_neighbour(&self, index: u32, ip: Ip, mac: Mac) -> io::Result<()> {
        let mut message = neighbour(index, ip);
        message.header.state = NeighbourState::Stale;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn no_automatic_address(&self, name: &str) -> io::Result<()> {
        let found = self.find(name)?.ok_or(io::ErrorKind::NotFound)?;
        let mut link = LinkMessage::default();
        link.header.index = found.index;
        link.attributes = vec![no_address()];
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        match self.exchange(message, flags | NLM_F_ACK)? {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(io::Error::other("the kernel gave no answer")),
        }
    }

    fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        rustix::net::sendto(&self.0, &bytes, SendFlags::empty(), &SocketAddrNetlink::new(0, 0))?;
        let mut answer = vec![0; 32 * 1024];
        let (length, _) = rustix::net::recv(&self.0, &mut answer[..], RecvFlags::empty())?;
        let answer = NetlinkMessage::deserialize(answer.get(..length).unwrap_or_default());
        answer.map(|message| message.payload).map_err(io::Error::other)
    }
}

fn neighbour(index: u32, ip: Ip) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip.into()))];
    message
}

fn new_link(name: &str, mtu: u32, info: Vec<LinkInfo>) -> LinkMessage {
    let mut link = LinkMessage::default();
    link.attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::Mtu(mtu), LinkAttribute::LinkInfo(info)];
    link
}

fn no_address() -> LinkAttribute {
    let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
    LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])])
}
