//! Which WireGuard it is, and the interface that is made for it.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6},
    path::PathBuf,
};

use netdev::netlink::Netlink;
use rustix::net::sockopt::{Ipv6PathMtuDiscovery, set_ipv6_mtu_discover};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::UdpSocket;

use super::{
    device::{self, Device},
    engine::{Engine, Out, PeerSetup, Seen, Setup},
    firewall::{self, Firewall},
    kernel::{self, Known},
    run_files::{DaemonState, Lock, Paths},
    stamp::Stamps,
};
use crate::base::error::Error;

const SOCKET_BUFFER: usize = 4 << 20;

/// Which WireGuard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineChoice {
    /// The kernel's where there is one, `wg` to set it up and `nft` for the policy; else this program's own.
    Auto,
    /// The kernel's.
    Kernel,
    /// This program's own.
    User,
    /// The same, with a pair of veth although there may be a tun device.
    UserVeth,
}

pub struct Plan {
    pub registry: PathBuf,
    pub fleet: [u8; 32],
    pub interface: String,
    pub choice: EngineChoice,
}

pub enum Backend {
    Kernel(Stamps, Firewall),
    User { engine: Box<Engine>, device: Device, outer: UdpSocket },
}

pub struct Sink<'a> {
    pub outer: &'a UdpSocket,
    pub device: &'a Device,
}

impl Out for Sink<'_> {
    fn network(&mut self, datagram: &[u8], to: SocketAddrV6) {
        // What cannot be sent now is lost, as on the link; the protocol repeats it.
        let _ = SockRef::from(self.outer).send_to(datagram, &to.into());
    }

    fn device(&mut self, packet: &[u8]) {
        self.device.send(packet);
    }
}

impl Backend {
    /// Makes the interface. With it come its index and what people call this WireGuard.
    pub fn make(plan: &Plan, netlink: &Netlink, setup: &Setup, outer: UdpSocket) -> io::Result<(Self, u32, String)> {
        let name = &plan.interface;
        if matches!(plan.choice, EngineChoice::Kernel | EngineChoice::Auto) {
            match kernel::make(netlink, name, setup) {
                Ok((index, firewall)) => {
                    // The port is the kernel's from here on.
                    drop(outer);
                    if let Err(error) = kernel::sync(name, setup) {
                        // The first error says more than one of cleaning up.
                        let _ = remove_ours(netlink, name);
                        return Err(error);
                    }
                    return Ok((Self::Kernel(Stamps::new(), firewall), index, "kernel".into()));
                }
                Err(error) if plan.choice == EngineChoice::Kernel => return Err(error),
                Err(_) => {}
            }
        }
        let device = if plan.choice == EngineChoice::UserVeth {
            Device::pair(netlink, name)?
        } else {
            Device::make(netlink, name)?
        };
        let (index, engine) = (device.index, format!("user ({})", device.kind()));
        Ok((Self::User { engine: Box::new(Engine::new(setup)), device, outer }, index, engine))
    }

    pub async fn readable(&self) -> io::Result<()> {
        match self {
            Self::Kernel(..) => std::future::pending().await,
            Self::User { device, outer, .. } => tokio::select! {
                ready = device.readable() => ready,
                ready = outer.readable() => ready,
            },
        }
    }

    /// What the kernel knows of its peers, asked once for all.
    pub fn known(&self, interface: &str) -> Known {
        match self {
            Self::Kernel(_, firewall) => Known::ask(interface, firewall),
            Self::User { .. } => Known::default(),
        }
    }

    pub fn seen(&self, known: &Known, peer: &PeerSetup) -> Seen {
        match self {
            Self::Kernel(..) => known.of(peer),
            Self::User { engine, .. } => engine.seen(&peer.key).unwrap_or_default(),
        }
    }

    /// Whether there is a session with a peer in which it is heard.
    pub fn hears(&self, known: &Known, peer: &PeerSetup) -> bool {
        match self {
            Self::Kernel(..) => known.of(peer).handshake.is_some(),
            Self::User { engine, .. } => engine.hears(&peer.key),
        }
    }

    pub fn highest_stamp_ms(&self) -> i64 {
        match self {
            Self::Kernel(stamps, _) => stamps.highest_ms(),
            Self::User { engine, .. } => engine.highest_stamp_ms(),
        }
    }
}

/// Removes what a daemon that died has left.
pub fn remove_leftovers(paths: &Paths, state: &DaemonState) -> Result<(), Error> {
    let clean = || {
        let Some(lock) = Lock::take(paths)? else { return Ok(()) };
        let netlink = Netlink::open()?;
        match netlink.at(state.index)?.filter(device::is_ours) {
            // Whatever it is called now.
            Some(found) => {
                netlink.delete(found.index)?;
                firewall::remove(&state.interface)?;
            }
            None => remove_ours(&netlink, &state.interface)?,
        }
        lock.release()
    };
    clean().map_err(|error: io::Error| refused(&state.interface, &error))
}

/// Removes an interface of this name, if this program has made it, and the policy beside it.
pub fn remove_ours(netlink: &Netlink, name: &str) -> io::Result<()> {
    match netlink.find(name)? {
        Some(found) if device::is_ours(&found) => netlink.delete(found.index)?,
        Some(_) => {
            return Err(io::Error::other("there is an interface of this name already, not made by os-network-admin"));
        }
        None => {}
    }
    firewall::remove(name)
}

pub fn refused(interface: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::network(format!(
            "the interface {interface} cannot be made: this needs root, or CAP_NET_ADMIN in this network namespace"
        )),
        _ => Error::network(format!("the interface {interface} cannot be made: {error}")),
    }
}

/// The socket of the engine in user space, and the proof that the port is free.
pub fn outer(port: u16) -> Result<UdpSocket, Error> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        // A node drops fragments. Nor does anybody's word that a packet was too big count here: it would not be authentic.
        set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE)?;
        // As much as the limit allows.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())?;
        UdpSocket::from_std(socket.into())
    };
    open().map_err(|error| Error::network(format!("UDP port {port} cannot be opened for WireGuard: {error}")))
}
