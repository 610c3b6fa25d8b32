//! What is asked of the kernel about network interfaces, by rtnetlink.
//!
//! The messages are those of `netlink-packet-route`. The socket under them is our own: `rtnetlink`, of the same project,
//! wraps it in an asynchronous connection with a task of its own, for calls that the kernel answers at once.

use std::{
    io,
    net::{IpAddr, Ipv6Addr},
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
    time::Duration,
};

use netlink_packet_core::{
    DefaultNla, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader,
    NetlinkMessage, NetlinkPayload,
};
use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressFlags, AddressHeader, AddressHeaderFlags, AddressMessage, AddressScope},
    link::{
        AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkInfo,
        LinkMessage,
    },
    neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourMessage, NeighbourState},
};
use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{
            AddressFamily as Domain, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recv, sendto,
            setsockopt, socket, sockopt,
        },
        time::TimeVal,
    },
};

use crate::Mac;

/// `RTMGRP_LINK` of linux/rtnetlink.h.
const LINK_NEWS: u32 = 1;
/// `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`.
const ADDRESS_NEWS: u32 = 0x10 | 0x100;
/// `IFLA_ALT_IFNAME` of linux/if_link.h.
const ALT_IFNAME: u16 = 53;
/// Of `struct nlmsghdr`.
const NETLINK_HEADER: usize = 16;
/// No answer is longer.
const ANSWER: usize = 32 * 1024;

/// A socket of one network namespace.
pub struct Netlink(OwnedFd);

/// An interface that is there.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Existing {
    pub index: u32,
    pub name: String,
    /// What somebody has written on it.
    pub alias: Option<String>,
    /// Somebody has set it up; there may be no carrier.
    pub is_up: bool,
    pub mtu: u32,
    pub mac: Option<Mac>,
}

/// An address of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Address {
    pub ip: IpAddr,
    pub prefix: u8,
    /// It can be sent from: duplicate address detection is over, and nobody else has it.
    pub is_usable: bool,
    /// Its preferred lifetime is over: what is new begins elsewhere (RFC 4862).
    pub is_deprecated: bool,
}

/// One end of a pair.
pub struct End<'a> {
    pub name: &'a str,
    pub mac: Option<Mac>,
    pub mtu: Option<u32>,
    /// The network namespace that it is put into, in place of the socket's.
    pub namespace: Option<BorrowedFd<'a>>,
}

impl<'a> End<'a> {
    pub fn new(name: &'a str) -> Self {
        Self { name, mac: None, mtu: None, namespace: None }
    }

    fn attributes(&self) -> Vec<LinkAttribute> {
        let mut attributes = vec![LinkAttribute::IfName(self.name.into())];
        attributes.extend(self.mac.map(|mac| LinkAttribute::Address(mac.into())));
        attributes.extend(self.mtu.map(LinkAttribute::Mtu));
        attributes.extend(self.namespace.map(|namespace| LinkAttribute::NetNsFd(namespace.as_raw_fd())));
        attributes
    }
}

impl Netlink {
    /// For the network namespace that this thread is in now.
    pub fn open() -> io::Result<Self> {
        Ok(Self(socket(Domain::Netlink, SockType::Raw, SockFlag::SOCK_CLOEXEC, SockProtocol::NetlinkRoute)?))
    }

    /// The interface of this name, be it an alternative one.
    pub fn find(&self, name: &str) -> io::Result<Option<Existing>> {
        let mut message = LinkMessage::default();
        message.attributes = if name.len() < libc::IFNAMSIZ {
            vec![LinkAttribute::IfName(name.into())]
        } else {
            let bytes = name.bytes().chain([0]).collect();
            vec![LinkAttribute::Other(DefaultNla::new(ALT_IFNAME, bytes))]
        };
        self.look(message)
    }

    /// The interface of this index.
    pub fn at(&self, index: u32) -> io::Result<Option<Existing>> {
        let mut message = LinkMessage::default();
        message.header.index = index;
        self.look(message)
    }

    fn look(&self, message: LinkMessage) -> io::Result<Option<Existing>> {
        match self.exchange(RouteNetlinkMessage::GetLink(message), 0)? {
            NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) => {
                let is_up = link.header.flags.contains(LinkFlags::Up);
                let (index, mut found) = (link.header.index, Existing::default());
                for attribute in link.attributes {
                    match attribute {
                        LinkAttribute::IfName(name) => found.name = name,
                        LinkAttribute::IfAlias(alias) => found.alias = Some(alias),
                        LinkAttribute::Mtu(mtu) => found.mtu = mtu,
                        LinkAttribute::Address(mac) => found.mac = Mac::try_from(mac).ok(),
                        _ => {}
                    }
                }
                Ok(Some(Existing { index, is_up, ..found }))
            }
            NetlinkPayload::Error(error) => {
                let error = error.to_io();
                let is_missing = matches!(error.raw_os_error(), Some(libc::ENODEV | libc::EINVAL | libc::ERANGE));
                if is_missing { Ok(None) } else { Err(error) }
            }
            _ => Err(no_answer()),
        }
    }

    /// The addresses that an interface has.
    pub fn addresses(&self, index: u32) -> io::Result<Vec<Address>> {
        let mut message = AddressMessage::default();
        // Newer kernels list those of one interface, older ones all.
        message.header.index = index;
        let mut found = Vec::new();
        self.dump(RouteNetlinkMessage::GetAddress(message), |message| {
            let RouteNetlinkMessage::NewAddress(address) = message else { return };
            if address.header.index == index {
                found.extend(read_address(&address));
            }
        })?;
        Ok(found)
    }

    /// The index of an interface that must be there.
    pub fn index(&self, name: &str) -> io::Result<u32> {
        let missing = || io::Error::new(io::ErrorKind::NotFound, format!("there is no interface {name}"));
        Ok(self.find(name)?.ok_or_else(missing)?.index)
    }

    /// A pair of interfaces: what goes into one comes out of the other. Both are down.
    pub fn make_pair(&self, near: &End<'_>, far: &End<'_>) -> io::Result<()> {
        let mut peer = LinkMessage::default();
        peer.attributes = far.attributes();
        let data = LinkInfo::Data(InfoData::Veth(InfoVeth::Peer(peer)));
        self.make(near.attributes(), vec![LinkInfo::Kind(InfoKind::Veth), data])
    }

    /// The kernel's own WireGuard, if it has it.
    pub fn make_wireguard(&self, name: &str, mtu: u32) -> io::Result<bool> {
        let attributes = vec![LinkAttribute::IfName(name.into()), LinkAttribute::Mtu(mtu)];
        match self.make(attributes, vec![LinkInfo::Kind(InfoKind::Wireguard)]) {
            Ok(()) => Ok(true),
            Err(error) if error.raw_os_error() == Some(libc::EOPNOTSUPP) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn make(&self, mut attributes: Vec<LinkAttribute>, info: Vec<LinkInfo>) -> io::Result<()> {
        let mut link = LinkMessage::default();
        attributes.push(LinkAttribute::LinkInfo(info));
        link.attributes = attributes;
        self.ask(RouteNetlinkMessage::NewLink(link), NLM_F_CREATE | NLM_F_EXCL)
    }

    pub fn set_alias(&self, index: u32, alias: &str) -> io::Result<()> {
        self.set(index, LinkAttribute::IfAlias(alias.into()))
    }

    pub fn set_mtu(&self, index: u32, mtu: u32) -> io::Result<()> {
        self.set(index, LinkAttribute::Mtu(mtu))
    }

    /// The interface has no address but those that it is given.
    pub fn no_automatic_address(&self, index: u32) -> io::Result<()> {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        self.set(index, LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]))
    }

    fn set(&self, index: u32, attribute: LinkAttribute) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.attributes = vec![attribute];
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    pub fn up(&self, index: u32) -> io::Result<()> {
        self.set_flags(index, LinkFlags::Up)
    }

    /// Brings an interface up that resolves no addresses: all that goes out of it comes to whoever reads its other end.
    pub fn up_without_arp(&self, index: u32) -> io::Result<()> {
        self.set_flags(index, LinkFlags::Up | LinkFlags::Noarp)
    }

    fn set_flags(&self, index: u32, flags: LinkFlags) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        link.header.flags = flags;
        link.header.change_mask = flags;
        self.ask(RouteNetlinkMessage::SetLink(link), 0)
    }

    /// Adds an address, and with it the route to its subnet. It is usable at once: no duplicate address detection.
    pub fn add_address(&self, index: u32, ip: IpAddr, prefix: u8) -> io::Result<()> {
        let (family, scope) = match ip {
            IpAddr::V4(_) => (AddressFamily::Inet, AddressScope::Universe),
            IpAddr::V6(ip) if ip.is_unicast_link_local() => (AddressFamily::Inet6, AddressScope::Link),
            IpAddr::V6(_) => (AddressFamily::Inet6, AddressScope::Universe),
        };
        let mut message = AddressMessage::default();
        message.header = AddressHeader { family, prefix_len: prefix, flags: AddressHeaderFlags::Nodad, scope, index };
        message.attributes = vec![AddressAttribute::Address(ip)];
        if ip.is_ipv4() {
            message.attributes.push(AddressAttribute::Local(ip));
        }
        self.ask(RouteNetlinkMessage::NewAddress(message), NLM_F_CREATE | NLM_F_EXCL)
    }

    pub fn delete(&self, index: u32) -> io::Result<()> {
        let mut link = LinkMessage::default();
        link.header.index = index;
        self.ask(RouteNetlinkMessage::DelLink(link), 0)
    }

    /// The MAC of a neighbour, as the kernel has last seen it.
    pub fn neighbour(&self, index: u32, ip: Ipv6Addr) -> io::Result<Option<Mac>> {
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
    pub fn set_neighbour(&self, index: u32, ip: Ipv6Addr, mac: Mac) -> io::Result<()> {
        let mut message = neighbour(index, ip);
        message.header.state = NeighbourState::Stale;
        message.attributes.push(NeighbourAttribute::LinkLayerAddress(mac.to_vec()));
        self.ask(RouteNetlinkMessage::NewNeighbour(message), NLM_F_CREATE | NLM_F_REPLACE)
    }

    fn ask(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        match self.exchange(message, flags | NLM_F_ACK)? {
            NetlinkPayload::Error(error) if error.code.is_none() => Ok(()),
            NetlinkPayload::Error(error) => Err(error.to_io()),
            _ => Err(no_answer()),
        }
    }

    fn exchange(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
        self.send(message, flags)?;
        receive(&self.0)
    }

    /// Has all of a kind listed.
    fn dump(&self, message: RouteNetlinkMessage, mut each: impl FnMut(RouteNetlinkMessage)) -> io::Result<()> {
        self.send(message, NLM_F_DUMP)?;
        let mut answer = vec![0; ANSWER];
        loop {
            let length = recv(self.0.as_raw_fd(), &mut answer, MsgFlags::empty())?;
            let mut rest = answer.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::deserialize(rest).map_err(io::Error::other)?;
                // The next begins at a multiple of four.
                let taken = (message.header.length as usize).next_multiple_of(4).max(NETLINK_HEADER);
                rest = rest.get(taken..).unwrap_or_default();
                match message.payload {
                    NetlinkPayload::InnerMessage(message) => each(message),
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => return Err(no_answer()),
                }
            }
        }
    }

    fn send(&self, message: RouteNetlinkMessage, flags: u16) -> io::Result<()> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        let mut message = NetlinkMessage::new(header, NetlinkPayload::from(message));
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        sendto(self.0.as_raw_fd(), &bytes, &NetlinkAddr::new(0, 0), MsgFlags::empty())?;
        Ok(())
    }
}

fn read_address(address: &AddressMessage) -> Option<Address> {
    let (mut ip, mut flags) = (None, AddressFlags::from_bits_retain(address.header.flags.bits().into()));
    for attribute in &address.attributes {
        match attribute {
            // Of IPv4, where a pair of hosts has an interface for itself, the other is the peer's.
            AddressAttribute::Local(local) => ip = Some(*local),
            AddressAttribute::Address(address) if ip.is_none() => ip = Some(*address),
            AddressAttribute::Flags(whole) => flags = *whole,
            _ => {}
        }
    }
    let is_tentative = flags.contains(AddressFlags::Tentative) && !flags.contains(AddressFlags::Optimistic);
    Some(Address {
        ip: ip?,
        prefix: address.header.prefix_len,
        is_usable: !is_tentative && !flags.contains(AddressFlags::Dadfailed),
        is_deprecated: flags.contains(AddressFlags::Deprecated),
    })
}

impl AsFd for Netlink {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

/// Every change of an interface, as the kernel tells it to whoever listens.
pub struct News(OwnedFd);

impl AsRawFd for News {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}

impl News {
    /// Listens for changes of interfaces and of their addresses. It waits for nothing.
    pub fn of_all() -> io::Result<Self> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(Domain::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, LINK_NEWS | ADDRESS_NEWS))?;
        Ok(Self(socket))
    }

    /// Takes one piece of news in, without a look at it. Where there was too much of it some is lost, and this is news too.
    pub fn take(&self) -> io::Result<()> {
        match recv(self.0.as_raw_fd(), &mut [0; 1], MsgFlags::empty()) {
            Ok(_) | Err(Errno::ENOBUFS) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Listens in the network namespace that this thread is in now. No wait is longer than `patience`.
    pub fn open(patience: Duration) -> io::Result<Self> {
        let Netlink(socket) = Netlink::open()?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, LINK_NEWS))?;
        let seconds = i64::try_from(patience.as_secs()).map_err(io::Error::other)?;
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::new(seconds, patience.subsec_micros().into()))?;
        Ok(Self(socket))
    }

    /// Waits for the kernel to notice that the interface has a carrier. False if it has not in time. It carries frames
    /// before that, but programs look.
    pub fn await_running(&self, index: u32) -> io::Result<bool> {
        loop {
            let message = match receive(&self.0) {
                Ok(message) => message,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                Err(error) => return Err(error),
            };
            if let NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewLink(link)) = message
                && link.header.index == index
                && link.header.flags.contains(LinkFlags::Running)
            {
                return Ok(true);
            }
        }
    }
}

fn receive(socket: &OwnedFd) -> io::Result<NetlinkPayload<RouteNetlinkMessage>> {
    let mut answer = vec![0; ANSWER];
    let length = recv(socket.as_raw_fd(), &mut answer, MsgFlags::empty())?;
    let answer = NetlinkMessage::deserialize(answer.get(..length).unwrap_or_default());
    answer.map(|message| message.payload).map_err(io::Error::other)
}

fn no_answer() -> io::Error {
    io::Error::other("the kernel gave no answer")
}

fn neighbour(index: u32, ip: Ipv6Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet6;
    message.header.ifindex = index;
    message.attributes = vec![NeighbourAttribute::Destination(NeighbourAddress::Inet6(ip))];
    message
}
