//! The program as the authority's end of a mesh, on real interfaces without root: two network namespaces joined by a veth
//! pair, the program in one, a node made of its own engine in the other. Needs `unshare` (util-linux), `ping` (iputils) and
//! `ip` (iproute2).
#![allow(clippy::print_stdout, reason = "a child of a test answers its parent on standard output")]

mod fake;
#[path = "fake/member.rs"]
mod member;
#[path = "fake/segment.rs"]
mod segment;

use std::{
    env, fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6, TcpListener, TcpStream},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use crypto::Secret;
use fake::{mesh_secret, step};
use member::Member;
use netdev::netlink::Netlink;
use nix::net::if_::if_nametoindex;
use os_network_admin::{
    base::key::{Cost, KeyFile},
    mesh::{
        device::{self, Device},
        engine::{BUFFER, Engine, Out, PeerSetup, Setup},
    },
    registry::Registry,
};
use rusqlite::Connection;
use serde_json::Value;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{net::UdpSocket, time::interval};
use wire::{
    COMMAND_PORT, TELEMETRY_PORT,
    set::{Authority, AuthoritySet},
};
use zerocopy::IntoBytes;

/// The name that nodes are claimed on, so that the authority finds them on it.
const LINK: &str = "memory";
const ENGINES: [&str; 2] = ["user", "user-veth"];
/// More than one window, in segments of the inner MTU.
const PAGE: usize = 1 << 20;
/// A port at the authority's end that the node sends to whenever it obeys.
const WHISPER: u16 = 5000;

#[test]
fn a_mesh_between_two_namespaces() {
    let mut command = Command::new("unshare");
    command.args(["-Urn", "--kill-child"]).arg(env::current_exe().unwrap());
    let status = command.args(["--exact", "inside", "--ignored", "--nocapture"]).status();
    assert!(status.expect("unshare, of util-linux, is needed").success());
}

fn sh(command: &str) -> bool {
    Command::new("sh").args(["-ec", command]).stdout(Stdio::null()).status().unwrap().success()
}

/// A claimed node in a namespace of its own, from power-on on.
struct Neighbour(Child);

impl Neighbour {
    fn start(grant: &Path) -> Self {
        let mut process = Command::new("unshare")
            .args(["-n", "--kill-child"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "node", "--ignored", "--nocapture"])
            .env("GRANT", grant)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut wait_for = |word: &str| while !lines.next().unwrap().unwrap().contains(word) {};
        wait_for("started");
        let made = sh(&format!(
            "ip link del {LINK} 2>&- || true
             ip link add {LINK} type veth peer name node address 02:00:00:00:00:01 netns {}
             ip addr add fe80::ad/64 dev {LINK} nodad
             ip link set {LINK} up",
            process.id()
        ));
        assert!(made, "a veth pair");
        writeln!(process.stdin.as_mut().unwrap()).unwrap();
        wait_for("ready");
        // It must not die of a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self(process)
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
#[ignore = "run by `Neighbour::start` in its namespace"]
fn node() {
    println!("\nstarted");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    assert!(sh("ip link set node addrgenmode none; ip addr add fe80::1/64 dev node nodad; ip link set node up"));
    let node = Member::new(1, &fs::read(env::var("GRANT").unwrap()).unwrap());
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(live(node));
}

struct Sink<'a>(&'a UdpSocket, &'a Device);

impl Out for Sink<'_> {
    fn network(&mut self, datagram: &[u8], to: SocketAddrV6) {
        let _ = SockRef::from(self.0).send_to(datagram, &to.into());
    }

    fn device(&mut self, packet: &[u8]) {
        self.1.send(packet);
    }
}

/// It enforces nothing itself: what does not pass, the authority's end has stopped.
async fn live(mut node: Member) {
    let netlink = Netlink::open().unwrap();
    let device = Device::pair(&netlink, "inner").unwrap();
    let configuration = node.parsed();
    for address in &configuration.addresses {
        device::add_address(&netlink, device.index, address).unwrap();
    }
    netlink.up_without_arp(device.index).unwrap();
    let index = if_nametoindex("node").unwrap();
    let peer = |node: &Member| {
        let authority = node.parsed().peers[0].clone();
        let at = authority.endpoint.unwrap();
        PeerSetup {
            key: authority.key,
            preshared: authority.preshared.clone(),
            allowed: authority.allowed.iter().copied().collect(),
            endpoint: Some(SocketAddrV6::new(at.ip.into(), at.port, 0, index)),
            keepalive_s: authority.keepalive_s,
            rules: None,
        }
    };
    let setup = Setup {
        secret: mesh_secret(1),
        port: 51820,
        addresses: configuration.addresses.iter().copied().collect(),
        peers: vec![peer(&node)],
    };
    let mut engine = Engine::new(&setup);
    let outer = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP)).unwrap();
    outer.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, 51820, 0, 0).into()).unwrap();
    let outer = UdpSocket::from_std(outer.into()).unwrap();
    let own = Ipv6Addr::from(configuration.addresses[1].ip);
    let authority = Ipv6Addr::from(configuration.peers[0].allowed[1].ip);
    let commands = UdpSocket::bind((own, COMMAND_PORT)).await.unwrap();
    // Not from the command port, which answers nobody.
    let whisper = UdpSocket::bind((own, 0)).await.unwrap();
    // Any TCP port has the page; which are reached is for policy to say.
    for port in [80, 81] {
        let listener = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).unwrap();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let _ = stream.unwrap().write_all(&vec![7; PAGE]);
            }
        });
    }
    println!("ready");
    let mut tick = interval(Duration::from_millis(250));
    let mut buffer = vec![0; BUFFER];
    loop {
        let mut sink = Sink(&outer, &device);
        tokio::select! {
            ready = device.readable() => {
                ready.unwrap();
                while let Some(length) = device.receive(&mut buffer).unwrap() {
                    engine.from_device(&buffer[..length], &mut sink);
                }
            }
            ready = outer.readable() => {
                ready.unwrap();
                while let Ok((length, SocketAddr::V6(from))) = outer.try_recv_from(&mut buffer) {
                    engine.from_network(&buffer[..length], from, &mut sink);
                }
            }
            heard = commands.recv_from(&mut buffer) => {
                let (length, _) = heard.unwrap();
                if let Some(record) = node.hear(&buffer[..length]) {
                    commands.send_to(record.as_bytes(), (authority, TELEMETRY_PORT)).await.unwrap();
                    // What a workload might try: it must not come out at the authority's end.
                    whisper.send_to(b"psst", (authority, WHISPER)).await.unwrap();
                }
            }
            _ = tick.tick() => engine.tick(&mut sink),
        }
    }
}

struct Admin {
    folder: tempfile::TempDir,
}

impl Admin {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let cost = Cost { memory_kib: 8, passes: 1, lanes: 1 };
        let file = KeyFile::seal(&Secret::new([42; 32]), b"open sesame", cost).unwrap();
        file.store(&folder.path().join("key")).unwrap();
        let pass = folder.path().join("pass");
        fs::write(&pass, "open sesame\n").unwrap();
        fs::set_permissions(&pass, fs::Permissions::from_mode(0o600)).unwrap();
        Self { folder }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_os-network-admin"));
        command.current_dir(self.folder.path()).stdin(Stdio::null());
        command.args(["--key", "key", "--passphrase-file", "pass", "--registry", "registry", "--json"]);
        command.args(arguments);
        command
    }

    /// The status of the mesh, once it is as wanted.
    fn status(&self, what: &str, wanted: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + Duration::from_secs(60);
        loop {
            let status = self.expect(0, &["mesh", "status"]);
            if wanted(&status) {
                return status;
            }
            assert!(Instant::now() < until, "{what}: {status}");
        }
    }

    fn expect(&self, code: i32, arguments: &[&str]) -> Value {
        let output = self.command(arguments).output().unwrap();
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        let log = fs::read_to_string(self.path("mesh.log")).unwrap_or_default();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}:\n{out}\n{err}\n{log}");
        serde_json::from_str(&out).unwrap_or_else(|error| panic!("{arguments:?}: {error}: {out}"))
    }

    /// Claims nodes, and leaves the grant of each in a file.
    fn claim(&self, numbers: &[u8]) {
        let registry = self.path("registry");
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let set = AuthoritySet::alone(Authority::signer(&fake::admin().public()));
        let grants = runtime.block_on(member::claim(&registry, numbers, set));
        for (number, grant) in numbers.iter().zip(grants) {
            fs::write(self.path(&format!("grant-{number}")), grant).unwrap();
        }
    }
}

fn fetch(port: u16) -> Option<usize> {
    let address = (Ipv4Addr::new(10, 8, 0, 2), port).into();
    let mut stream = match TcpStream::connect_timeout(&address, Duration::from_secs(2)) {
        Ok(stream) => stream,
        // Nothing came back. A refusal would be an answer.
        Err(error) if error.kind() == std::io::ErrorKind::TimedOut => return None,
        Err(error) => panic!("{error}"),
    };
    let mut page = Vec::new();
    stream.read_to_end(&mut page).ok()?;
    assert!(page.iter().all(|byte| *byte == 7));
    Some(page.len())
}

/// Whether the node answers, on each family. A `ping` that could not ask is no answer to that.
fn heard() -> [bool; 2] {
    ["10.8.0.2", "fd05:505:505:505::2"].map(|to| {
        let output = Command::new("ping").args(["-c", "1", "-W", "2", to]).output().unwrap();
        match output.status.code() {
            Some(0) => true,
            Some(1) => false,
            _ => panic!("ping {to}: {}", String::from_utf8_lossy(&output.stderr)),
        }
    })
}

/// The same, where both families are to have one answer.
fn pings() -> bool {
    let heard = heard();
    assert_eq!(heard[0], heard[1]);
    heard[0]
}

fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(60);
    while !is_so() {
        assert!(Instant::now() < until, "{what}");
    }
}

/// The kernel may take a moment to see that a link carries again, and each family its own.
fn ping_until() {
    until("the node is not found again", || heard() == [true; 2]);
}

#[test]
#[ignore = "run by `a_mesh_between_two_namespaces` in its namespaces"]
fn inside() {
    // The fake's steps are of another test.
    assert_eq!(step::ALL.len(), 7);
    for engine in ENGINES {
        lives(engine);
    }
    dies();
    is_disturbed();
}

/// All that is done with a fleet whose second node is not there.
fn lives(engine: &str) {
    let admin = Admin::new();
    admin.claim(&[1, 2]);
    let down = admin.expect(4, &["command", "10.8.0.2", "status"]);
    assert!(down["error"]["message"].as_str().unwrap().contains("the mesh is not up"));
    let _node = Neighbour::start(&admin.path("grant-1"));
    let up = admin.expect(0, &["mesh", "up", "--engine", engine]);
    assert_eq!((&up["up"], &up["v4"], &up["interface"]), (&true.into(), &"10.8.0.1".into(), &"genesis0".into()));
    let again = admin.expect(4, &["mesh", "up", "--engine", engine]);
    assert!(again["error"]["message"].as_str().unwrap().contains("is up already"));

    let shown = admin.expect(0, &["command", "10.8.0.2", "status"]);
    assert_eq!((&shown["telemetry"]["phase"], &shown["telemetry"]["current"]), (&"claimed".into(), &true.into()));
    let gone = admin.expect(10, &["command", "10.8.0.3", "status", "--wait", "1"]);
    assert!(gone["error"]["message"].as_str().unwrap().contains("did not show within 1 s"));

    // Default deny, then what is named, and nothing beside it.
    assert!(!pings());
    assert_eq!(fetch(80), None);
    let set = ["policy", "set", "in authority icmp", "in authority tcp 80", "--wait", "2"];
    let told = admin.expect(10, &set);
    let outcomes: Vec<_> = told["nodes"].as_array().unwrap().iter().map(|node| &node["outcome"]).collect();
    assert_eq!(outcomes, ["applied", "not_shown"]);
    assert!(pings());
    assert_eq!((fetch(80), fetch(81)), (Some(PAGE), None));
    let yes = admin.expect(0, &["policy", "explain", "10.8.0.2", "in", "authority", "tcp", "80"]);
    assert_eq!((&yes["allowed"], &yes["rule"]), (&true.into(), &2.into()));

    // What the node has sent unasked has not come out, until a rule of its own names it.
    let ear = std::net::UdpSocket::bind((Ipv6Addr::UNSPECIFIED, WHISPER)).unwrap();
    ear.set_nonblocking(true).unwrap();
    admin.expect(0, &["command", "10.8.0.2", "status"]);
    let status = admin.expect(0, &["mesh", "status"]);
    assert!(ear.recv(&mut [0; 16]).is_err(), "the node was heard although no rule names it");
    let named = ["policy", "set", "out authority udp 5000", "in authority icmp", "in authority tcp 80", "--wait", "1"];
    assert_eq!(admin.expect(10, &named)["nodes"][0]["outcome"], "applied");
    admin.expect(0, &["command", "10.8.0.2", "status"]);
    ear.set_nonblocking(false).unwrap();
    ear.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
    assert_eq!(ear.recv(&mut [0; 16]).unwrap(), 4);

    let peer = &status["peers"][0];
    assert!(peer["handshake_s"].is_u64() && peer["received"].as_u64().unwrap() > PAGE as u64, "{status}");
    assert!(peer["endpoint"].as_str().unwrap().starts_with("[fe80::1%"));

    // Nodes that know each other, until one is revoked.
    let mesh = ["policy", "set", "in node icmp", "out node icmp", "--wait", "1"];
    assert_eq!(admin.expect(10, &mesh)["nodes"][0]["outcome"], "applied");
    let revoked = admin.expect(0, &["revoke", "--yes", "10.8.0.3"]);
    assert_eq!((revoked["nodes"].as_array().unwrap().len(), &revoked["nodes"][0]["outcome"]), (1, &"applied".into()));
    assert!(revoked["last_ms"].is_u64() && revoked["own_ms"].is_u64(), "{revoked}");
    assert_eq!(admin.expect(0, &["mesh", "status"])["peers"].as_array().unwrap().len(), 1);
    let refused = admin.expect(1, &["command", "10.8.0.3", "status"]);
    assert!(refused["error"]["message"].as_str().unwrap().contains("is revoked"));
    assert!(admin.expect(0, &["nodes", "list"])["nodes"][1]["mesh"]["revoked_ms"].is_i64());

    // A laptop, which the node is told of once its rules let peers in.
    let exported = admin.expect(0, &["export", "laptop"]);
    assert!(exported["configuration"].as_str().unwrap().contains("PrivateKey = "));
    let told = admin.expect(0, &["policy", "set", "in peer tcp 22"]);
    assert_eq!(told["nodes"][0]["outcome"], "applied");
    assert!(admin.expect(0, &["telemetry", "--once"])["current"].as_bool().unwrap());
    assert_eq!(admin.expect(0, &["revoke", "--yes", "laptop"])["nodes"][0]["outcome"], "applied");

    admin.expect(0, &["mesh", "down"]);
    assert_eq!(admin.expect(0, &["mesh", "status"])["up"], false);
    assert!(!sh("ip link show genesis0 2>&-"));
}

/// A daemon that is killed leaves word of it, and the next finds the node again.
fn dies() {
    let admin = Admin::new();
    admin.claim(&[1]);
    let _node = Neighbour::start(&admin.path("grant-1"));
    let up = admin.expect(0, &["mesh", "up", "--engine", "user-veth", "--name", "other0"]);
    admin.expect(0, &["command", "10.8.0.2", "status"]);
    // Nobody watches any more: the watch ends, and that is no error.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let watch = admin.command(&["telemetry"]).stdout(writer).status().unwrap();
    assert_eq!(watch.code(), Some(0));
    assert!(sh(&format!("kill -KILL {}", up["pid"])));
    let died = loop {
        let status = admin.expect(0, &["mesh", "status"]);
        if status["up"] == false {
            break status;
        }
    };
    assert_eq!(died["died"]["pid"], up["pid"]);
    let down = admin.expect(4, &["command", "10.8.0.2", "status"]);
    assert!(down["error"]["message"].as_str().unwrap().contains("has died"));
    admin.expect(0, &["mesh", "up", "--engine", "user-veth", "--name", "other0"]);
    admin.expect(0, &["command", "10.8.0.2", "rotate"]);
    // An interface that is somebody else's is left alone.
    admin.expect(0, &["mesh", "down"]);
    assert!(sh("ip link add other0 type veth peer name other1"));
    let taken = admin.expect(4, &["mesh", "up", "--name", "other0"]);
    assert!(taken["error"]["message"].as_str().unwrap().contains("not made by os-network-admin"), "{taken}");
    assert!(sh("ip link show other0"));
}

fn says(status: &Value, word: &str) -> bool {
    status["trouble"].as_array().is_some_and(|all| all.iter().any(|why| why.as_str().unwrap().contains(word)))
}

/// Its log and its registry cannot be written; its interface and its link change and go under it.
fn is_disturbed() {
    let admin = Admin::new();
    admin.claim(&[1]);
    let node = Neighbour::start(&admin.path("grant-1"));
    let full = fs::OpenOptions::new().write(true).open("/dev/full").unwrap();
    let mut up = admin.command(&["mesh", "up", "--foreground", "--engine", "user-veth"]);
    let mut daemon = up.stdout(Stdio::piped()).stderr(full).spawn().unwrap();
    let mut lines = BufReader::new(daemon.stdout.take().unwrap()).lines();
    assert!(lines.next().unwrap().unwrap().contains("genesis0"));
    admin.expect(0, &["policy", "set", "in authority icmp"]);

    // What the node says cannot be written, nor can that be: the mesh goes on, and says it.
    let registry = Connection::open(admin.path("registry")).unwrap();
    let trigger = "CREATE TRIGGER full BEFORE UPDATE OF telemetry ON member BEGIN SELECT RAISE(FAIL, 'no room'); END";
    registry.execute_batch(trigger).unwrap();
    admin.command(&["command", "10.8.0.2", "status"]).output().unwrap();
    let status = admin.status("nothing can be written", |status| says(status, "not written down"));
    assert!(pings() && status["up"] == true, "{status}");
    registry.execute_batch("DROP TRIGGER full").unwrap();
    admin.status("all is written", |status| status["trouble"].as_array().unwrap().is_empty());
    // A lock that is held holds up nothing that is on the way.
    registry.execute_batch("BEGIN EXCLUSIVE").unwrap();
    assert!(pings());
    registry.execute_batch("ROLLBACK").unwrap();

    // The kernel takes the address of IPv6 away with an interface that is down.
    assert!(sh("ip link set genesis0 down"));
    let status = admin.status("it is down", |status| status["up"] == false);
    assert!(says(&status, "ip link set genesis0 up"), "{status}");
    for refused in [&["command", "10.8.0.2", "status"][..], &["mesh", "up"]] {
        let refused = admin.expect(4, refused);
        assert!(refused["error"]["message"].as_str().unwrap().contains("genesis0 is down"), "{refused}");
    }
    assert!(sh("ip link set genesis0 up"));
    assert_eq!(admin.expect(0, &["mesh", "status"])["up"], true);
    ping_until();

    // Under another name it is the same; with another MTU of the link it has another.
    assert!(sh("ip link set genesis0 down; ip link set genesis0 name other9; ip link set other9 up"));
    let status = admin.expect(0, &["mesh", "status"]);
    assert_eq!((&status["interface"], &status["up"], &status["mtu"]), (&"other9".into(), &true.into(), &1420.into()));
    assert!(sh(&format!("ip link set {LINK} mtu 1400")));
    assert_eq!(admin.expect(0, &["mesh", "status"])["mtu"], 1312);
    assert!(sh("ip link show other9 | grep -q 'mtu 1312 '"));
    let exported = admin.expect(0, &["export", "laptop"]);
    assert!(exported["configuration"].as_str().unwrap().contains("MTU = "));
    until("the longest packet fits the link", || sh("ping -c 1 -W 2 -s 1284 -M do 10.8.0.2"));
    assert!(sh(&format!("ip link set {LINK} mtu 1300")));
    let status = admin.expect(0, &["mesh", "status"]);
    assert!(says(&status, "1360 bytes") && status["mtu"] == 1280, "{status}");
    assert!(sh(&format!("ip link set {LINK} mtu 1500")));

    // Another address of this host is told to the node at once.
    assert!(sh(&format!("ip addr add fe80::ae/64 dev {LINK} nodad; ip addr del fe80::ad/64 dev {LINK}")));
    ping_until();

    // The link goes, and with another interface of its name it is there again.
    drop(node);
    let status = admin.status("the link is gone", |status| status["up"] == false);
    assert!(says(&status, LINK), "{status}");
    let refused = admin.expect(4, &["command", "10.8.0.2", "status"]);
    assert!(refused["error"]["message"].as_str().unwrap().contains(LINK), "{refused}");
    let _node = Neighbour::start(&admin.path("grant-1"));
    admin.status("the link is there", |status| status["up"] == true);
    ping_until();

    // Without its interface there is no mesh.
    assert!(sh("ip link del other9"));
    let died = admin.status("its interface is gone", |status| !status["died"].is_null());
    assert_eq!((&died["up"], daemon.wait().unwrap().code()), (&false.into(), Some(4)));
    assert!(died["died"]["last"].as_str().unwrap().contains("other9 is gone"), "{died}");

    // The clock was ahead: no handshake is stamped below.
    let registry = Registry::open(&admin.path("registry")).unwrap();
    let last = registry.stamp_ms().unwrap();
    assert!(last >= died["died"]["since_ms"].as_i64().unwrap());
    registry.raise_stamp(last + 365 * 24 * 3_600_000).unwrap();
    let refused = admin.expect(1, &["mesh", "up", "--engine", "user-veth"]);
    assert!(refused["error"]["message"].as_str().unwrap().contains("clock says"), "{refused}");
}
