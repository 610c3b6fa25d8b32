//! The inner end of the tunnel: a tun device where there is one to open, else one end of a veth pair whose other end is
//! read and written as raw frames. Both carry whole IP packets with their checksums made.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    os::fd::AsRawFd,
};

use netdev::{
    netlink::{self, Existing, Netlink},
    packet::{PacketSocket, no_offload},
    tun::Tun,
};
use policy::Prefix;
use tokio::io::{Interest, unix::AsyncFd};
use wire::Mac;

use crate::base::{
    host::{Host, System},
    path::FULL,
};

const HEADER: usize = 14;
const ETHERTYPES: [(u8, [u8; 2]); 2] = [(4, [0x08, 0x00]), (6, [0x86, 0xdd])];
/// Tells our interfaces from others.
const ALIAS: &str = "os-network-admin mesh";

pub struct Device {
    end: End,
    pub index: u32,
}

/// What is read and written.
enum End {
    Tun(AsyncFd<Tun>),
    /// The far end of a pair, and the MAC of the near one.
    Pair(AsyncFd<PacketSocket>, Mac),
}

/// Whether this program has made an interface.
pub fn is_ours(found: &Existing) -> bool {
    found.alias.as_deref() == Some(ALIAS)
}

/// Marks an interface as ours, with no address but those that it is given.
pub fn mark(netlink: &Netlink, index: u32) -> io::Result<()> {
    netlink.set_alias(index, ALIAS)?;
    netlink.set_mtu(index, FULL)?;
    netlink.no_automatic_address(index)
}

/// Gives an interface an address, and its subnet's route.
pub fn add_address(netlink: &Netlink, index: u32, prefix: &Prefix) -> io::Result<()> {
    let (ip, length) = address(prefix);
    netlink.add_address(index, ip, length)
}

/// An address with its subnet's length, as the kernel has it.
pub fn address(prefix: &Prefix) -> (IpAddr, u8) {
    let [.., a, b, c, d] = prefix.ip;
    if prefix.is_v4() {
        (Ipv4Addr::new(a, b, c, d).into(), prefix.length - 96)
    } else {
        (Ipv6Addr::from(prefix.ip).into(), prefix.length)
    }
}

impl Device {
    /// Makes the interface; it is down yet and has no address.
    pub fn make(netlink: &Netlink, name: &str) -> io::Result<Self> {
        match Tun::make(name) {
            Ok(tun) => {
                let index = netlink.index(name)?;
                mark(netlink, index)?;
                Ok(Self { end: End::Tun(register(tun)?), index })
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
        let end = |name, mac| netlink::End { mac, mtu: Some(FULL), ..netlink::End::new(name) };
        netlink.make_pair(&end(name, Some(mac)), &end(&far, None))?;
        let made = || {
            let (index, far) = (netlink.index(name)?, netlink.index(&far)?);
            netlink.no_automatic_address(far)?;
            mark(netlink, index)?;
            let frames = PacketSocket::open()?;
            frames.bind(far)?;
            no_offload(&frames, name)?;
            netlink.up_without_arp(far)?;
            Ok(Self { end: End::Pair(register(frames)?, mac), index })
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
        match self.end {
            End::Tun(_) => "tun",
            End::Pair(..) => "veth",
        }
    }

    pub async fn readable(&self) -> io::Result<()> {
        match &self.end {
            End::Tun(tun) => tun.ready(Interest::READABLE).await.map(|_| ()),
            End::Pair(frames, _) => frames.ready(Interest::READABLE).await.map(|_| ()),
        }
    }

    /// A packet that waits already, at the front of `buffer`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let received = match &self.end {
            End::Tun(tun) => tun.try_io(Interest::READABLE, |tun| tun.receive(buffer)),
            End::Pair(frames, _) => frames.try_io(Interest::READABLE, |frames| frames.receive(buffer)),
        };
        match received {
            Ok(length) if matches!(self.end, End::Tun(_)) => Ok(Some(length)),
            Ok(length) if length <= HEADER => Ok(Some(0)),
            Ok(length) => {
                buffer.copy_within(HEADER..length, 0);
                Ok(Some(length - HEADER))
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
            // Somebody took the interface down, and may bring it up again.
            Err(error) if error.kind() == io::ErrorKind::NetworkDown => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A packet for this host. What it does not take is lost, as on a wire.
    pub fn send(&self, packet: &[u8]) {
        let (frames, mac) = match &self.end {
            End::Tun(tun) => {
                let _ = tun.get_ref().send(packet);
                return;
            }
            End::Pair(frames, mac) => (frames.get_ref(), mac),
        };
        let version = packet.first().map_or(0, |first| first >> 4);
        let Some((_, ethertype)) = ETHERTYPES.iter().find(|(of, _)| *of == version) else { return };
        let mut frame = Vec::with_capacity(HEADER + packet.len());
        frame.extend(mac);
        frame.extend(mac);
        frame.extend(ethertype);
        frame.extend(packet);
        frames.send(&frame);
    }
}

/// What is awaited until it can be read.
pub fn register<T: AsRawFd>(of: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: the descriptor is owned by what is returned, and is closed with it.
    unsafe { Ok(AsyncFd::register(of)?) }
}

/// The other end's name, of at most 15 bytes.
fn far_end(name: &str) -> String {
    format!("{}-w", name.chars().take(13).collect::<String>())
}
