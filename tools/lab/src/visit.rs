//! The administrator in the mesh: brings this host's end up, finds the node as silent as the policy says, opens it, and
//! uses what was opened, with ordinary sockets. [`super::run`] ends with it.

use std::{
    ffi::OsString,
    io::{Read, Write},
    net::{Ipv4Addr, SocketAddrV4, TcpStream},
    path::PathBuf,
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, ipproto, sockopt};

const ECHO_REQUEST: u8 = 8;
const ECHO_REPLY: u8 = 0;
const HTTP: u16 = 80;
/// How long to look for an answer that must not come.
const SILENCE: Duration = Duration::from_secs(2);
/// A hang detector.
const PATIENCE: Duration = Duration::from_secs(60);
const TRY: Duration = Duration::from_secs(2);
const RULES: [&str; 2] = ["in authority icmp", "in authority tcp 80"];

#[derive(Args)]
pub struct Visit {
    /// The node's inner address
    pub node: Ipv4Addr,
    /// os-network-admin
    pub admin: PathBuf,
    /// The arguments that name its files
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    pub files: Vec<OsString>,
}

pub fn visit(visit: &Visit) -> Result<()> {
    visit.say(&["mesh", "up"], true)?;
    let outcome = visit.look();
    visit.say(&["mesh", "down"], false)?;
    outcome
}

impl Visit {
    fn look(&self) -> Result<()> {
        let answer = ping(self.node, SILENCE)?;
        ensure!(answer.is_none(), "the node answered an echo that no rule lets in");
        say::show!("   ping {}: nothing came back: no rule lets it in", self.node);
        self.say(&[&["policy", "set"], &RULES[..]].concat(), true)?;
        let deadline = Instant::now() + PATIENCE;
        let bytes = loop {
            if let Some(bytes) = ping(self.node, TRY)? {
                break bytes;
            }
            ensure!(Instant::now() < deadline, "the node answers no echo, although a rule lets it in");
        };
        say::show!("   ping {}: {bytes} bytes came back, through WireGuard", self.node);
        say::show!("   http://{}/:", self.node);
        for line in self.page()?.lines() {
            say::show!("      {line}");
        }
        self.say(&["telemetry", "--once"], true)
    }

    /// The page that the node's tenant serves.
    fn page(&self) -> Result<String> {
        let to = SocketAddrV4::new(self.node, HTTP);
        let mut tcp = TcpStream::connect_timeout(&to.into(), PATIENCE).context("no connection to the page")?;
        tcp.set_read_timeout(Some(PATIENCE))?;
        tcp.write_all(format!("GET / HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n\r\n", self.node).as_bytes())?;
        let mut answer = String::new();
        tcp.read_to_string(&mut answer).context("no page")?;
        let Some((head, page)) = answer.split_once("\r\n\r\n") else { bail!("no page: {answer}") };
        ensure!(head.starts_with("HTTP/1.1 200 "), "no page: {head}");
        Ok(page.to_owned())
    }

    fn say(&self, words: &[&str], shown: bool) -> Result<()> {
        let shell = words.iter().map(|word| if word.contains(' ') { format!("'{word}'") } else { (*word).to_owned() });
        say::show!("   $ os-network-admin {}", shell.collect::<Vec<_>>().join(" "));
        let mut command = Command::new(&self.admin);
        command.args(words).args(&self.files);
        if !shown {
            command.stdout(Stdio::null());
        }
        let status = command.status().with_context(|| self.admin.display().to_string())?;
        ensure!(status.success(), "os-network-admin failed ({status})");
        Ok(())
    }
}

/// The length of the packet that answers, if one comes in that time.
fn ping(node: Ipv4Addr, patience: Duration) -> Result<Option<usize>> {
    let socket =
        rustix::net::socket_with(AddressFamily::INET, SocketType::RAW, SocketFlags::CLOEXEC, Some(ipproto::ICMP))
            .context("no socket for an echo")?;
    // Type, code, checksum, identifier, number.
    let mut request = [ECHO_REQUEST, 0, 0, 0, 0x47, 0x4e, 0, 1];
    let sum: u32 = request.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    request[2..4].copy_from_slice(&(!u16::try_from((sum & 0xffff) + (sum >> 16))?).to_be_bytes());
    rustix::net::sendto(&socket, &request, SendFlags::empty(), &SocketAddrV4::new(node, 0))?;
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(left))?;
        let mut packet = [0; 2048];
        match rustix::net::recvfrom(&socket, &mut packet[..], RecvFlags::empty()) {
            // Twenty bytes of IPv4 header come first.
            Ok((_, length, _)) if packet[12..16] == node.octets() && packet[20] == ECHO_REPLY => {
                return Ok(Some(length));
            }
            Ok(_) | Err(rustix::io::Errno::AGAIN | rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
    }
}
