//! The inner end of the tunnel: a tun device where there is one to open, else one end of a veth pair whose other end is
//! read and written as raw frames. Both carry whole IP packets with their checksums made.

use std::{
    fs::OpenOptions,
    io, mem,
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
};

use nix::libc;
use tokio::io::{Interest, unix::AsyncFd};
use wire::Mac;

use super::engine::MTU;
use crate::base::{
    host::{Host, System},
    netlink::Netlink,
};

/// `ETHTOOL_STXCSUM` and `ETHTOOL_STSO` of linux/ethtool.h. Without them the kernel makes checksums and cuts segments
/// before a packet leaves the interface.
const OFFLOADS: [u32; 2] = [0x17, 0x1f];
const SIOCETHTOOL: libc::Ioctl = 0x8946;
/// `TUNSETIFF` of linux/if_tun.h.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;
const RECEIVE_BUFFER: libc::c_int = 4 << 20;
const HEADER: usize = 14;
const ETHERTYPES: [(u8, [u8; 2]); 2] = [(4, [0x08, 0x00]), (6, [0x86, 0xdd])];

pub struct Device {
    fd: AsyncFd<OwnedFd>,
    /// The MAC of the near end, if it has one.
    frames: Option<Mac>,
    pub index: u32,
}

impl Device {
    /// Makes the interface; it is down yet and has no address.
    pub fn make(netlink: &Netlink, name: &str) -> io::Result<Self> {
        match tun(name) {
            Ok(fd) => {
                let index = netlink.find(name)?.ok_or(io::ErrorKind::NotFound)?.index;
                netlink.mark(index, MTU)?;
                Ok(Self { fd: register(fd)?, frames: None, index })
            }
            // No such device here, or not for us: common in containers and user namespaces.
            Err(_) => Self::pair(netlink, name),
        }
    }

    /// The same without a tun device.
    pub fn pair(netlink: &Netlink, name: &str) -> io::Result<Self> {
        let host: &dyn Host = &System;
        let mut mac: Mac = host.random().map_err(io::Error::other)?;
        // Locally administered, of one station.
        mac[0] = (mac[0] | 0x02) & 0xfe;
        let far = far_end(name);
        netlink.make_pair(name, mac, &far, MTU)?;
        let made = || {
            let index = netlink.find(name)?.ok_or(io::ErrorKind::NotFound)?.index;
            netlink.mark(index, MTU)?;
            let far = netlink.find(&far)?.ok_or(io::ErrorKind::NotFound)?.index;
            let fd = packets(far)?;
            no_offload(&fd, name)?;
            netlink.up(far)?;
            Ok(Self { fd: register(fd)?, frames: Some(mac), index })
        };
        let made: io::Result<Self> = made();
        if made.is_err()
            && let Ok(Some(found)) = netlink.find(name)
        {
            // The first error says more than one of cleaning up.
            let _ = netlink.delete(found.index);
        }
        made
    }

    /// How it is made, for people.
    pub fn kind(&self) -> &'static str {
        if self.frames.is_some() { "veth" } else { "tun" }
    }

    pub async fn readable(&self) -> io::Result<()> {
        self.fd.ready(Interest::READABLE).await.map(|_| ())
    }

    /// A packet that waits already, at the front of `buffer`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let length = match self.fd.try_io(Interest::READABLE, |fd| read(fd.as_raw_fd(), buffer)) {
            Ok(length) => length,
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
            // ENETDOWN: somebody took the interface down, and may bring it up again.
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => return Ok(None),
            Err(error) => return Err(error),
        };
        if self.frames.is_none() {
            return Ok(Some(length));
        }
        if length <= HEADER {
            return Ok(Some(0));
        }
        buffer.copy_within(HEADER..length, 0);
        Ok(Some(length - HEADER))
    }

    /// A packet for this host. What it does not take is lost, as on a wire.
    pub fn send(&self, packet: &[u8]) {
        let fd = self.fd.get_ref().as_raw_fd();
        let Some(mac) = self.frames else {
            // SAFETY: the packet is valid for its length.
            unsafe { libc::write(fd, packet.as_ptr().cast(), packet.len()) };
            return;
        };
        let version = packet.first().map_or(0, |first| first >> 4);
        let Some((_, ethertype)) = ETHERTYPES.iter().find(|(of, _)| *of == version) else { return };
        let mut frame = Vec::with_capacity(HEADER + packet.len());
        frame.extend(mac);
        frame.extend(mac);
        frame.extend(ethertype);
        frame.extend(packet);
        // SAFETY: the frame is valid for its length.
        unsafe { libc::send(fd, frame.as_ptr().cast(), frame.len(), libc::MSG_DONTWAIT) };
    }
}

fn register(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: the descriptor is owned by what is returned, and is closed with it.
    unsafe { Ok(AsyncFd::register(fd)?) }
}

/// The other end's name, of at most 15 bytes.
fn far_end(name: &str) -> String {
    format!("{}-w", name.chars().take(13).collect::<String>())
}

fn checked(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

fn read(fd: RawFd, buffer: &mut [u8]) -> io::Result<usize> {
    // SAFETY: the buffer is valid for its length.
    let length = unsafe { libc::read(fd, buffer.as_mut_ptr().cast(), buffer.len()) };
    usize::try_from(length).map_err(|_| io::Error::last_os_error())
}

fn request(name: &str) -> libc::ifreq {
    // SAFETY: all variants of the union are integers or pointers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { mem::zeroed() };
    // The last byte stays zero.
    let (to, _) = request.ifr_name.split_at_mut(libc::IFNAMSIZ - 1);
    for (to, from) in to.iter_mut().zip(name.bytes()) {
        *to = from as libc::c_char;
    }
    request
}

fn tun(name: &str) -> io::Result<OwnedFd> {
    let mut options = OpenOptions::new();
    let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
    let mut request = request(name);
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request lives through the call and is what this command takes.
    checked(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
    Ok(file.into())
}

/// All frames that come out of an interface, and a way to put frames into it.
fn packets(index: u32) -> io::Result<OwnedFd> {
    let kind = libc::SOCK_RAW | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK;
    // SAFETY: makes a descriptor and touches no memory.
    let fd = checked(unsafe { libc::socket(libc::AF_PACKET, kind, 0) })?;
    // SAFETY: the descriptor is new and nobody else's.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    option(&fd, libc::SOL_PACKET, libc::PACKET_IGNORE_OUTGOING, 1)?;
    // The first is root's; the second takes what the limit allows.
    if option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUFFORCE, RECEIVE_BUFFER).is_err() {
        option(&fd, libc::SOL_SOCKET, libc::SO_RCVBUF, RECEIVE_BUFFER)?;
    }
    // SAFETY: all fields are integers, for which zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { mem::zeroed() };
    address.sll_family = libc::AF_PACKET as u16;
    address.sll_protocol = (libc::ETH_P_ALL as u16).to_be();
    address.sll_ifindex = i32::try_from(index).map_err(io::Error::other)?;
    // SAFETY: the address is valid for the size given.
    checked(unsafe { libc::bind(fd.as_raw_fd(), (&raw const address).cast(), size_of_val(&address) as u32) })?;
    Ok(fd)
}

fn option(fd: &OwnedFd, level: libc::c_int, name: libc::c_int, value: libc::c_int) -> io::Result<()> {
    let size = size_of_val(&value) as u32;
    // SAFETY: the value is valid for the size given.
    checked(unsafe { libc::setsockopt(fd.as_raw_fd(), level, name, (&raw const value).cast(), size) }).map(|_| ())
}

fn no_offload(socket: &OwnedFd, interface: &str) -> io::Result<()> {
    #[repr(C)]
    struct Value {
        command: u32,
        value: u32,
    }
    for command in OFFLOADS {
        let mut value = Value { command, value: 0 };
        let mut request = request(interface);
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the request names a value that lives through the call and is as long as these commands take.
        checked(unsafe { libc::ioctl(socket.as_raw_fd(), SIOCETHTOOL, &raw mut request) })?;
    }
    Ok(())
}
