//! A stranger on the segment: no key, ordinary sockets, and what comes back is counted. [`super::run`] shows with it
//! that nothing does.

use std::{
    io,
    net::{Ipv6Addr, SocketAddrV6, TcpStream, UdpSocket},
    os::fd::OwnedFd,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use clap::Args;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketAddrAny, SocketFlags, SocketType, ipproto, sockopt};

use segment::enter::VARIABLE;

const PORTS: [u16; 8] = [22, 23, 80, 443, 5353, 8080, 8090, 9443];
const BEACON_PORT: u16 = 8090;
const EVERYONE: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const ECHO_REQUEST: u8 = 128;

/// What it exits with if anything came back: no other failure is taken for that.
pub const EXIT_ANSWERED: u8 = 20;

#[derive(Args)]
pub struct Stranger {
    /// The node's address
    pub node: Ipv6Addr,
    /// How long to wait for an answer, in milliseconds
    #[arg(long, default_value_t = 2000)]
    pub wait_ms: u64,
}

/// Knocks everywhere at once, prints what came back, and returns whether anything did. What could not be sent is an error.
pub fn stranger(stranger: &Stranger) -> Result<bool> {
    let name = std::env::var(VARIABLE).with_context(|| format!("{VARIABLE} is not set; run me by `lab enter`"))?;
    let any = UdpSocket::bind("[::]:0")?;
    let scope = rustix::net::netdevice::name_to_index(&any, &name).with_context(|| name.clone())?;
    let (node, patience) = (stranger.node, Duration::from_millis(stranger.wait_ms));
    let at = |ip, port| SocketAddrV6::new(ip, port, 0, scope);
    let deadline = Instant::now() + patience;
    let answers = thread::scope(|threads| {
        let ping = threads.spawn(|| ping([at(node, 0), at(EVERYONE, 0)], node, deadline));
        let shout = threads.spawn(|| shout([at(node, BEACON_PORT), at(EVERYONE, BEACON_PORT)], node, deadline));
        let connects: Vec<_> =
            PORTS.map(|port| threads.spawn(move || connect(at(node, port), patience))).into_iter().collect();
        let ping = ping.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        let shout = shout.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?;
        let mut connected = 0;
        for thread in connects {
            connected += usize::from(thread.join().unwrap_or_else(|_| Err(io::ErrorKind::Other.into()))?);
        }
        io::Result::Ok([
            ("ping to the node and to everyone", ping),
            ("UDP to port 8090", shout),
            ("TCP to 8 ports", connected),
        ])
    })?;
    let mut any = false;
    for (what, count) in answers {
        let text = if count == 0 { "nothing came back".to_owned() } else { format!("{count} answers") };
        say::show!("   {what}: {text}");
        any |= count > 0;
    }
    Ok(any)
}

/// Echo requests; every ICMPv6 message that comes from the node counts.
fn ping(targets: [SocketAddrV6; 2], node: Ipv6Addr, deadline: Instant) -> io::Result<usize> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET6, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMPV6))?;
    for target in targets {
        // The kernel fills in the checksum.
        went(rustix::net::sendto(&socket, &[ECHO_REQUEST, 0, 0, 0, 0x47, 0x4e, 0, 1], SendFlags::empty(), &target))?;
    }
    count(socket, node, deadline)
}

/// Datagrams that are no message of anybody's.
fn shout(targets: [SocketAddrV6; 2], node: Ipv6Addr, deadline: Instant) -> io::Result<usize> {
    let socket = UdpSocket::bind(("::", BEACON_PORT))?;
    for target in targets {
        went(rustix::net::sendto(&socket, b"is anybody there?", SendFlags::empty(), &target))?;
    }
    count(socket.into(), node, deadline)
}

/// Without a neighbour's answer the kernel has nowhere to send to, and may say so before this is sent.
fn went(sent: rustix::io::Result<usize>) -> io::Result<()> {
    match sent {
        Ok(_) | Err(rustix::io::Errno::HOSTUNREACH) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn count(socket: OwnedFd, node: Ipv6Addr, deadline: Instant) -> io::Result<usize> {
    let mut count = 0;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(count);
        }
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(left))?;
        match rustix::net::recvfrom(&socket, &mut [0; 2048][..], RecvFlags::empty()) {
            Ok((_, _, from)) => count += usize::from(is(from, node)),
            Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            // The kernel reports that a neighbour did not answer.
            Err(rustix::io::Errno::HOSTUNREACH) => {}
            Err(error) => return Err(error.into()),
        }
    }
}

fn is(from: Option<SocketAddrAny>, node: Ipv6Addr) -> bool {
    from.and_then(|from| SocketAddrV6::try_from(from).ok()).is_some_and(|from| *from.ip() == node)
}

/// Whether anything came back: a connection, or a refusal. What else goes wrong says nothing about that.
fn connect(to: SocketAddrV6, patience: Duration) -> io::Result<bool> {
    match TcpStream::connect_timeout(&to.into(), patience) {
        Ok(_) => Ok(true),
        Err(error) => match error.kind() {
            io::ErrorKind::ConnectionRefused | io::ErrorKind::ConnectionReset => Ok(true),
            io::ErrorKind::TimedOut | io::ErrorKind::HostUnreachable => Ok(false),
            _ => Err(error),
        },
    }
}
