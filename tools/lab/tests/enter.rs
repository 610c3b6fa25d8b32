//! Programs on a segment: `lab enter` as a user runs it. Where the kernel refuses namespaces these tests fail,
//! with what `lab enter` says about it.

use std::{
    io::{Read, Write},
    net::{Ipv6Addr, SocketAddrV6, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsRawFd, FromRawFd, OwnedFd},
    path::Path,
    process::{Command, Output, Stdio},
    time::Duration,
};

use segment::switch::Switch;
use smoltcp::wire::{EthernetFrame, EthernetProtocol, Icmpv6Packet, IpProtocol, Ipv6Packet, TcpPacket, UdpPacket};
use tempfile::TempDir;

/// A hang detector, no more.
const PATIENCE: Duration = Duration::from_secs(60);
const ROLE: &str = "GENESIS_TEST_ROLE";
const PEER: &str = "GENESIS_TEST_PEER";
const BULK: usize = 3_000_000;
const UDP_PORT: u16 = 8090;
const TCP_PORT: u16 = 9443;

fn switch() -> (TempDir, Switch) {
    let dir = tempfile::tempdir().unwrap();
    let switch = Switch::start(dir.path()).unwrap();
    (dir, switch)
}

fn enter(dir: &Path, name: &str) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_lab"));
    command.args(["enter", "--switch"]).arg(dir).args(["--name", name]);
    command
}

/// This test program itself as a program on the segment, in a role.
fn role(dir: &Path, name: &str, role: &str) -> Command {
    let mut command = enter(dir, name);
    command.arg(std::env::current_exe().unwrap()).args(["--exact", "plays_its_role", "--nocapture"]).env(ROLE, role);
    command
}

fn succeed(output: Output) -> String {
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{}\n{out}\n{err}", output.status);
    out.into_owned()
}

/// The scope of the interface, as the kernel numbers it.
fn scope() -> u32 {
    let name = std::env::var("GENESIS_INTERFACE").unwrap();
    let index = UdpSocket::bind("[::]:0").unwrap();
    rustix::net::netdevice::name_to_index(&index, &name).unwrap()
}

fn peer(port: u16) -> SocketAddrV6 {
    let ip: Ipv6Addr = std::env::var(PEER).unwrap().parse().unwrap();
    SocketAddrV6::new(ip, port, 0, scope())
}

/// Not a test by itself: what [`role`] runs.
#[test]
fn plays_its_role() {
    match std::env::var(ROLE).as_deref() {
        Err(_) => {}
        Ok("shout") => {
            let socket = UdpSocket::bind("[::]:0").unwrap();
            let everyone = SocketAddrV6::new("ff02::1".parse().unwrap(), UDP_PORT, 0, scope());
            socket.send_to(&[7; 500], everyone).unwrap();
        }
        Ok("serve") => {
            let listener = TcpListener::bind(("::", TCP_PORT)).unwrap();
            let everyone = SocketAddrV6::new("ff02::1".parse().unwrap(), UDP_PORT, 0, scope());
            // Says where it is once it listens.
            UdpSocket::bind("[::]:0").unwrap().send_to(b"here", everyone).unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = Vec::new();
            stream.read_to_end(&mut bytes).unwrap();
            assert!(bytes.len() == BULK && bytes.iter().all(|byte| *byte == 5));
            stream.write_all(b"got it").unwrap();
        }
        Ok("send") => {
            let mut stream = TcpStream::connect(peer(TCP_PORT)).unwrap();
            stream.write_all(&vec![5; BULK]).unwrap();
            stream.shutdown(std::net::Shutdown::Write).unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            assert_eq!(answer, "got it");
        }
        Ok("tags") => {
            // SAFETY: makes a descriptor; nobody else has it.
            let socket = unsafe { OwnedFd::from_raw_fd(libc::socket(libc::AF_PACKET, libc::SOCK_RAW, 0)) };
            // SAFETY: all fields are integers, for which zero is a value.
            let mut to: libc::sockaddr_ll = unsafe { std::mem::zeroed() };
            to.sll_family = libc::AF_PACKET as u16;
            to.sll_ifindex = scope() as i32;
            let (address, length) = ((&raw const to).cast(), size_of_val(&to) as u32);
            // SAFETY: frame and address are valid for the lengths given.
            let sent =
                unsafe { libc::sendto(socket.as_raw_fd(), TAGGED.as_ptr().cast(), TAGGED.len(), 0, address, length) };
            assert_eq!(usize::try_from(sent), Ok(TAGGED.len()), "{}", std::io::Error::last_os_error());
        }
        Ok(other) => panic!("no role {other}"),
    }
}

/// To a group, from a station, 802.1Q, priority 3 and VLAN 5, then a type that nobody knows.
const TAGGED: [u8; 64] = {
    let mut frame = [0xee; 64];
    let head = [0x33, 0x33, 0, 0, 0, 1, 2, 0, 0, 0, 0, 9, 0x81, 0x00, 0x60, 0x05, 0x88, 0xb5];
    let mut at = 0;
    while at < head.len() {
        frame[at] = head[at];
        at += 1;
    }
    frame
};

fn udp_to_everyone(frame: &[u8]) -> Option<(Ipv6Addr, Vec<u8>)> {
    let frame = EthernetFrame::new_checked(frame).ok()?;
    let packet = Ipv6Packet::new_checked(frame.payload()).ok()?;
    let datagram = UdpPacket::new_checked(packet.payload()).ok()?;
    let ours = packet.next_header() == IpProtocol::Udp && datagram.dst_port() == UDP_PORT;
    ours.then(|| (packet.src_addr(), datagram.payload().to_vec()))
}

/// Where the program at `port` said that it is.
fn whereabouts(switch: &Switch, port: &str) -> Ipv6Addr {
    let heard = switch.wait(PATIENCE, |frames| {
        frames.iter().filter(|frame| &*frame.port == port).find_map(|frame| udp_to_everyone(&frame.bytes))
    });
    heard.expect("a datagram to everyone").0
}

#[test]
fn two_programs_ping_each_other() {
    let (dir, switch) = switch();
    let _server = KilledAtEnd(role(dir.path(), "server", "serve").stdout(Stdio::null()).spawn().unwrap());
    let target = format!("{}%lab0", whereabouts(&switch, "server"));
    let ping = enter(dir.path(), "client").args(["ping", "-6", "-c", "2", "-i", "0.2", &target]).output();
    let said = succeed(ping.expect("ping, of the Debian package iputils-ping"));
    assert!(said.contains(" 0% packet loss"), "{said}");
}

/// `lab enter` takes its program with it.
struct KilledAtEnd(std::process::Child);

impl Drop for KilledAtEnd {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_bulk_transfer_makes_only_whole_frames_with_good_checksums() {
    let (dir, switch) = switch();
    let mut server = KilledAtEnd(role(dir.path(), "server", "serve").stdout(Stdio::null()).spawn().unwrap());
    let target = whereabouts(&switch, "server");
    let client = role(dir.path(), "client", "send").env(PEER, target.to_string()).output().unwrap();
    succeed(client);
    assert!(server.0.wait().unwrap().success());

    let (mut segments, mut payload) = (0, 0);
    for name in ["client", "server"] {
        for bytes in switch.frames_from(name) {
            assert!(bytes.len() <= 1514, "a frame of {} bytes from {name}", bytes.len());
            let frame = EthernetFrame::new_checked(&bytes[..]).unwrap();
            assert_eq!(frame.ethertype(), EthernetProtocol::Ipv6);
            let packet = Ipv6Packet::new_checked(frame.payload()).unwrap();
            let (from, to) = (packet.src_addr(), packet.dst_addr());
            match packet.next_header() {
                IpProtocol::Tcp => {
                    let segment = TcpPacket::new_checked(packet.payload()).unwrap();
                    assert!(segment.verify_checksum(&from.into(), &to.into()));
                    segments += 1;
                    payload += segment.payload().len();
                }
                IpProtocol::Udp => {
                    let datagram = UdpPacket::new_checked(packet.payload()).unwrap();
                    assert!(datagram.checksum() != 0 && datagram.verify_checksum(&from.into(), &to.into()));
                }
                IpProtocol::Icmpv6 => {
                    assert!(Icmpv6Packet::new_checked(packet.payload()).unwrap().verify_checksum(&from, &to));
                }
                _ => {}
            }
        }
    }
    assert!(segments > BULK / 1500 && payload >= BULK);
}

#[test]
fn what_a_program_says_last_is_heard() {
    let (dir, switch) = switch();
    succeed(role(dir.path(), "shouter", "shout").output().unwrap());
    let shouted = |frames: &[segment::switch::Frame]| frames.iter().find_map(|frame| udp_to_everyone(&frame.bytes));
    assert_eq!(switch.wait(PATIENCE, shouted).unwrap().1, [7; 500]);
    assert!(!switch.detach("shouter"), "the port ends with the program");
}

#[test]
fn a_vlan_tag_is_kept() {
    let (dir, switch) = switch();
    succeed(role(dir.path(), "tagger", "tags").output().unwrap());
    let tagged = |frames: &[segment::switch::Frame]| frames.iter().find(|frame| frame.bytes[..] == TAGGED).map(|_| ());
    let found = switch.wait(PATIENCE, tagged);
    assert!(found.is_some(), "{:02x?}", switch.frames_from("tagger"));
}

#[test]
fn the_program_has_an_interface_of_its_own_and_no_other() {
    let (dir, _switch) = switch();
    let script =
        "cat /proc/net/dev | tail -n +3 | cut -d: -f1 | xargs; echo $GENESIS_INTERFACE; cat /proc/net/if_inet6";
    let said = succeed(enter(dir.path(), "a").args(["sh", "-c", script]).output().unwrap());
    let lines: Vec<_> = said.lines().collect();
    let mut names: Vec<_> = lines[0].split(' ').collect();
    names.sort_unstable();
    assert_eq!(names, ["lab0", "lo"]);
    assert_eq!(lines[1], "lab0");
    // Link-local, scope link, permanent and not tentative.
    let address: Vec<_> = lines[2..].iter().find(|line| line.ends_with("lab0")).unwrap().split_whitespace().collect();
    assert!(address[0].starts_with("fe80") && address[3] == "20", "{address:?}");
    assert_eq!(u8::from_str_radix(address[4], 16).unwrap() & 0x40, 0);
}

#[test]
fn the_exit_code_is_the_programs() {
    let (dir, _switch) = switch();
    let code = |arguments: &[&str]| enter(dir.path(), "a").args(arguments).output().unwrap().status.code();
    assert_eq!(code(&["true"]), Some(0));
    assert_eq!(code(&["sh", "-c", "exit 42"]), Some(42));
    assert_eq!(code(&["sh", "-c", "kill -9 $$"]), Some(137));
    assert_eq!(code(&["/no/such/program"]), Some(127));
    assert_eq!(code(&["/etc/passwd"]), Some(126));
    // Options after the program are the program's.
    assert_eq!(code(&["sh", "-c", "test \"$1\" = --name", "sh", "--name"]), Some(0));
}

/// A daemon, such as that of `mesh up`: it is on no network once the command has ended.
#[test]
fn what_a_program_leaves_running_is_told_of() {
    let (dir, _switch) = switch();
    let script = "setsid sleep infinity <&- >&- 2>&- & echo $!";
    let output = enter(dir.path(), "a").args(["sh", "-c", script]).output().unwrap();
    let left = String::from_utf8(output.stdout).unwrap();
    assert!(Command::new("kill").arg(left.trim()).status().unwrap().success());
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(0), "{said}");
    assert!(said.contains(&format!("lives on (process {}), on no network", left.trim())), "{said}");
    let output = enter(dir.path(), "b").arg("true").output().unwrap();
    assert_eq!((output.status.code(), output.stderr.len()), (Some(0), 0));
}

/// A daemon that was told to end, as by `mesh down`, and does so after the command.
#[test]
fn what_is_just_ending_does_not_live_on() {
    let (dir, _switch) = switch();
    let script = "setsid tail --pid=$$ -s 0.1 -f /dev/null </dev/null >/dev/null 2>&1 &";
    let output = enter(dir.path(), "a").args(["sh", "-c", script]).output().unwrap();
    assert_eq!((output.status.code(), String::from_utf8(output.stderr).unwrap()), (Some(0), String::new()));
}

#[test]
fn what_cannot_be_is_said() {
    let (dir, switch) = switch();
    let fails = |mut command: Command| {
        let output = command.arg("true").output().unwrap();
        assert_eq!(output.status.code(), Some(125));
        String::from_utf8(output.stderr).unwrap()
    };
    let said = fails(enter(&dir.path().join("elsewhere"), "a"));
    assert!(said.contains("cannot join the switch in") && said.contains("elsewhere"), "{said}");
    switch.attach("taken", &dir.path().join("x")).unwrap();
    let said = fails(enter(dir.path(), "taken"));
    assert!(said.contains("there is a port taken already"), "{said}");
    drop(switch);
    let said = fails(enter(dir.path(), "a"));
    assert!(said.contains("cannot join the switch in"), "{said}");
}
