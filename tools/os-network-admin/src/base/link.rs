//! UDP 8090 and TCP 9443 on one interface, with ordinary kernel sockets.
//!
//! What the claim needs of a link is the trait [`Net`], so that the same code is tested against a node in memory.

use std::{
    future::Future,
    io::{self, IoSlice, IoSliceMut},
    net::{Ipv6Addr, SocketAddrV6},
    os::fd::AsRawFd,
    time::Duration,
};

use netdev::netlink::Netlink;
use nix::{
    errno::Errno,
    libc,
    sys::socket::{ControlMessage, ControlMessageOwned, MsgFlags, SockaddrIn6, recvmsg, sendmsg, setsockopt, sockopt},
};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest},
    net::{TcpSocket, TcpStream, UdpSocket},
    time::{Instant, sleep},
};
use wire::{ALL_NODES, BEACON_PORT, CLAIM_PORT, Ip, Mac};

use super::{error::Error, interface::Interface};

/// More than any datagram of the protocol, so that a longer one is not mistaken for it.
pub const BUFFER: usize = 512;

/// One link, as the administrator's end of the protocol sees it.
pub trait Net {
    type Stream: AsyncRead + AsyncWrite + Unpin;

    /// Name of the interface, for messages and the registry.
    fn name(&self) -> &str;
    /// What the node must see as the sender: signed in every find and open.
    fn address(&self) -> (Ip, Mac);
    /// Sends a datagram to all nodes of the link, UDP 8090.
    fn broadcast(&self, datagram: &[u8]) -> impl Future<Output = Result<(), Error>>;
    /// The next datagram from the link and its sender. May be dropped at any await.
    fn receive(&self, buffer: &mut [u8; BUFFER]) -> impl Future<Output = Result<(usize, Ip), Error>>;
    /// The MAC of a node that there has been a connection with. No claim fails for want of it: an export says of which node it
    /// is not known.
    fn neighbour(&self, node: Ip) -> Option<Mac>;
    /// One attempt to connect to the claim port.
    fn connect(&self, node: Ip) -> impl Future<Output = io::Result<Self::Stream>>;
    /// Waits until the peer has confirmed all that was sent; false if it has not within `patience`.
    fn delivered(&self, stream: &Self::Stream, patience: Duration) -> impl Future<Output = bool>;
    /// Resets a connection whose claim has failed, so that the node need not wait for its end.
    fn abandon(&self, stream: Self::Stream);
}

/// The kernel's.
pub struct Sockets {
    interface: Interface,
    udp: UdpSocket,
}

impl Sockets {
    pub fn open(interface: Interface) -> Result<Self, Error> {
        let name = &interface.name;
        let open = || -> io::Result<UdpSocket> {
            // No SO_REUSEADDR: of two that share the port, one would take the other's answers.
            let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
            socket.set_only_v6(true)?;
            setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
            socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, BEACON_PORT, 0, 0).into())?;
            socket.set_multicast_if_v6(interface.index)?;
            socket.set_multicast_loop_v6(false)?;
            socket.set_multicast_hops_v6(255)?;
            socket.join_multicast_v6(&ALL_NODES.into(), interface.index)?;
            UdpSocket::from_std(socket.into())
        };
        let udp = open().map_err(|error| match error.kind() {
            io::ErrorKind::AddrInUse => Error::network(format!(
                "UDP port {BEACON_PORT} is in use: another os-network-admin (a beacon?) runs on this host; stop it first"
            )),
            _ => Error::network(format!("UDP port {BEACON_PORT} cannot be opened on {name}: {error}")),
        })?;
        Ok(Self { interface, udp })
    }

    fn send_now(&self, datagram: &[u8]) -> io::Result<()> {
        // From this address on this interface, whatever others the host has.
        let from = libc::in6_pktinfo {
            ipi6_addr: libc::in6_addr { s6_addr: self.interface.ip.octets() },
            ipi6_ifindex: self.interface.index,
        };
        let to = SockaddrIn6::from(SocketAddrV6::new(ALL_NODES.into(), BEACON_PORT, 0, self.interface.index));
        let parts = [IoSlice::new(datagram)];
        let control = [ControlMessage::Ipv6PacketInfo(&from)];
        sendmsg(self.udp.as_raw_fd(), &parts, &control, MsgFlags::empty(), Some(&to))?;
        Ok(())
    }

    /// A datagram of this interface from a neighbour; `None` for any other.
    fn receive_now(&self, buffer: &mut [u8; BUFFER]) -> io::Result<Option<(usize, Ip)>> {
        let mut parts = [IoSliceMut::new(buffer)];
        let mut control = nix::cmsg_space!(libc::in6_pktinfo);
        let message = recvmsg::<SockaddrIn6>(self.udp.as_raw_fd(), &mut parts, Some(&mut control), MsgFlags::empty())?;
        let here = message.cmsgs()?.any(|control| {
            matches!(control, ControlMessageOwned::Ipv6PacketInfo(info) if info.ipi6_ifindex == self.interface.index)
        });
        let from = message.address.map(|address| address.ip()).filter(Ipv6Addr::is_unicast_link_local);
        let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
        Ok(from.filter(|_| here && whole).map(|from| (message.bytes, from.octets())))
    }
}

impl Net for Sockets {
    type Stream = TcpStream;

    fn name(&self) -> &str {
        &self.interface.name
    }

    fn address(&self) -> (Ip, Mac) {
        (self.interface.ip.octets(), self.interface.mac)
    }

    async fn broadcast(&self, datagram: &[u8]) -> Result<(), Error> {
        let sent = self.udp.async_io(Interest::WRITABLE, || self.send_now(datagram)).await;
        match sent {
            Ok(()) => Ok(()),
            // A full queue loses a datagram, as the link may: it is repeated.
            Err(error) if error.raw_os_error() == Some(Errno::ENOBUFS as i32) => Ok(()),
            Err(error) => Err(Error::network(format!(
                "nothing can be sent on {}: {error}; is it up, and does a firewall let UDP {BEACON_PORT} out?",
                self.interface.name
            ))),
        }
    }

    async fn receive(&self, buffer: &mut [u8; BUFFER]) -> Result<(usize, Ip), Error> {
        loop {
            let received = self.udp.async_io(Interest::READABLE, || self.receive_now(buffer)).await;
            match received {
                Ok(Some(received)) => return Ok(received),
                Ok(None) => {}
                Err(error) => {
                    let name = &self.interface.name;
                    return Err(Error::network(format!("nothing can be received on {name}: {error}; is it up?")));
                }
            }
        }
    }

    fn neighbour(&self, node: Ip) -> Option<Mac> {
        Netlink::open().and_then(|netlink| netlink.neighbour(self.interface.index, node.into())).ok().flatten()
    }

    async fn connect(&self, node: Ip) -> io::Result<TcpStream> {
        let socket = claim_socket()?;
        // From the address that was signed.
        socket.bind(SocketAddrV6::new(self.interface.ip, 0, 0, self.interface.index).into())?;
        socket.connect(SocketAddrV6::new(node.into(), CLAIM_PORT, 0, self.interface.index).into()).await
    }

    async fn delivered(&self, stream: &TcpStream, patience: Duration) -> bool {
        let until = Instant::now() + patience;
        loop {
            // A connection that was reset has nothing left to deliver, but has not delivered it.
            if !matches!(stream.take_error(), Ok(None)) {
                return false;
            }
            match unconfirmed(stream) {
                Ok(0) => return true,
                Ok(_) if Instant::now() < until => sleep(Duration::from_millis(10)).await,
                _ => return false,
            }
        }
    }

    fn abandon(&self, stream: TcpStream) {
        // If this fails the connection ends in the usual way, a little later.
        let _ = SockRef::from(&stream).set_linger(Some(Duration::ZERO));
    }
}

/// A claim is a few small messages, each of which waits for the one before. On a flooded link the kernel sends a lost one
/// again at a steady pace: the pause would else double with each loss, to seconds after some losses in a row.
fn claim_socket() -> io::Result<TcpSocket> {
    let socket = TcpSocket::new_v6()?;
    socket.set_nodelay(true)?;
    SockRef::from(&socket).set_tcp_thin_linear_timeouts(true)?;
    Ok(socket)
}

/// Bytes that were sent and that the peer's TCP has not acknowledged.
fn unconfirmed(stream: &TcpStream) -> io::Result<i32> {
    nix::ioctl_read_bad!(siocoutq, libc::TIOCOUTQ, libc::c_int);
    let mut bytes = 0;
    // SAFETY: the descriptor is open while `stream` is borrowed, and this request writes one c_int, which `bytes` is.
    unsafe { siocoutq(stream.as_raw_fd(), &raw mut bytes)? };
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_flood_costs_a_claim_is_sent_again_at_a_steady_pace() {
        let socket = claim_socket().unwrap();
        assert!(SockRef::from(&socket).tcp_thin_linear_timeouts().unwrap());
        assert!(socket.nodelay().unwrap());
    }
}
