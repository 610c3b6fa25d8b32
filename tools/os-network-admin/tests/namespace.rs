//! The program on real sockets: two network namespaces joined by a veth pair, the program in one, a node in the other. Needs `unshare`
//! (util-linux), `script` (bsdutils) and `ip` (iproute2), and no root.
#![allow(clippy::print_stdout, reason = "a child of a test answers its parent on standard output")]

mod fake;

use std::{
    env, fs,
    io::{BufRead, BufReader, Write, pipe},
    net::{Ipv6Addr, SocketAddr, SocketAddrV6},
    os::unix::fs::OpenOptionsExt,
    path::Path,
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use crypto::Secret;
use fake::{Fault, Node, admin, step};
use nix::{
    net::if_::if_nametoindex,
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use os_network_admin::{
    base::{
        interface::Interface,
        key::{Cost, KeyFile},
    },
    registry::{Registry, State},
};
use rusqlite::Connection;
use rustix::process::{Resource, getrlimit};
use serde_json::Value;
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::{TcpListener, UdpSocket};
use wire::{BEACON_PORT, CLAIM_PORT, Fingerprint};

/// The node's address; what the node is told on standard input are its faults, as steps to cut the connection at.
const NODE: u8 = 1;

#[test]
fn the_program_on_real_sockets() {
    let mut command = Command::new("unshare");
    command.args(["-Urn", "--kill-child"]).arg(env::current_exe().unwrap());
    let status = command.args(["--exact", "inside", "--ignored", "--nocapture"]).status();
    assert!(status.expect("unshare, of util-linux, is needed").success());
}

fn run(command: &str) {
    let status = Command::new("sh").args(["-ec", command]).status().unwrap();
    assert!(status.success(), "{command}");
}

/// A node in a namespace of its own, from power-on on.
struct Neighbour {
    process: Child,
}

impl Neighbour {
    fn start(faults: &[u8]) -> Self {
        let mut process = Command::new("unshare")
            .args(["-n", "--kill-child"])
            .arg(env::current_exe().unwrap())
            .args(["--exact", "node", "--ignored", "--nocapture"])
            .env("FAULTS", faults.iter().map(u8::to_string).collect::<Vec<_>>().join(" "))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        let mut wait_for = |word: &str| while !lines.next().unwrap().unwrap().contains(word) {};
        // Its namespace is there once it runs.
        wait_for("started");
        run(&format!(
            "ip link del admin 2>&- || true
             ip link add admin type veth peer name node netns {}
             ip addr add fe80::ad/64 dev admin nodad
             ip link set admin up",
            process.id()
        ));
        writeln!(process.stdin.as_mut().unwrap()).unwrap();
        wait_for("ready");
        // It must not die of a full pipe.
        std::thread::spawn(move || lines.for_each(drop));
        Self { process }
    }
}

impl Drop for Neighbour {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
#[ignore = "run by `Neighbour::start` in its namespace"]
fn node() {
    println!("\nstarted");
    std::io::stdin().lock().read_line(&mut String::new()).unwrap();
    // Its one address, so that it is the source of the answer.
    run("ip link set node addrgenmode none; ip addr add fe80::1/64 dev node nodad; ip link set node up");
    let mut node = Node::new(NODE, admin().public());
    node.faults = env::var("FAULTS").unwrap().split_whitespace().map(|at| Fault::Cut(at.parse().unwrap())).collect();
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(live(node));
}

async fn live(node: Node) {
    let node = Arc::new(Mutex::new(node));
    let index = if_nametoindex("node").unwrap();
    let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking(), Some(Protocol::UDP)).unwrap();
    socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, BEACON_PORT, 0, 0).into()).unwrap();
    socket.set_multicast_if_v6(index).unwrap();
    let udp = UdpSocket::from_std(socket.into()).unwrap();
    let tcp = TcpListener::bind((Ipv6Addr::UNSPECIFIED, CLAIM_PORT)).await.unwrap();
    println!("ready");
    let mut buffer = [0; 2048];
    loop {
        tokio::select! {
            received = udp.recv_from(&mut buffer) => {
                let (length, SocketAddr::V6(from)) = received.unwrap() else { continue };
                let reply = {
                    let mut node = node.lock().unwrap();
                    // The MAC cannot be seen here: it is taken as signed.
                    let mac_at = if buffer[5] == 2 { 32 } else { 72 };
                    node.peer = (from.ip().octets(), buffer[mac_at..][..6].try_into().unwrap());
                    node.hear(&buffer[..length])
                };
                let all_nodes = SocketAddrV6::new(wire::ALL_NODES.into(), BEACON_PORT, 0, index);
                if let Some(reply) = reply {
                    let to = if reply[5] == 1 { all_nodes } else { from };
                    udp.send_to(&reply, to).await.unwrap();
                }
            }
            accepted = tcp.accept() => {
                tokio::spawn(fake::serve(accepted.unwrap().0, node.clone()));
            }
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
        let mut options = fs::OpenOptions::new();
        let mut pass = options.write(true).create_new(true).mode(0o600).open(folder.path().join("pass")).unwrap();
        pass.write_all(b"open sesame\n").unwrap();
        Self { folder }
    }

    fn line(&self, arguments: &str) -> String {
        let program = env!("CARGO_BIN_EXE_os-network-admin");
        format!("{program} --key key --passphrase-file pass --registry registry --interface admin {arguments}")
    }

    fn command(&self, line: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", line]).current_dir(self.folder.path()).stdin(Stdio::null());
        command
    }

    /// Runs a command under `sh`, and expects its exit code.
    fn expect(&self, code: i32, arguments: &str) -> Value {
        self.expect_under("", code, arguments)
    }

    fn expect_under(&self, before: &str, code: i32, arguments: &str) -> Value {
        let output = self.command(&format!("{before} {}", self.line(arguments))).arg("--json").output().unwrap();
        self.check(code, arguments, &output);
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    fn check(&self, code: i32, what: &str, output: &Output) {
        let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert_eq!(output.status.code(), Some(code), "{what}:\n{out}\n{err}");
    }

    fn registry(&self) -> Registry {
        Registry::open(&self.folder.path().join("registry")).unwrap()
    }
}

fn node_print() -> String {
    Fingerprint(Node::new(NODE, admin().public()).print()).to_string()
}

#[test]
#[ignore = "run by `the_program_on_real_sockets` in its namespaces"]
fn inside() {
    refusals();
    for step in [None].into_iter().chain(step::ALL.map(Some)) {
        claims(step);
    }
    nobody_reads();
    asks();
    interrupted();
    beacon();
}

/// A claim that is ended by the operator says what is stored of it.
fn interrupted() {
    let admin = Admin::new();
    let _node = Neighbour::start(&[step::GRANTED; 200]);
    for (node, stored) in [("0123-4567-89ab-cdef-0123-4567-89ab-cdef-0123-4567", false), (&node_print(), true)] {
        let line = format!("exec {}", admin.line(&format!("claim --wait 600 --fingerprint {node}")));
        let mut claim = admin.command(&line).stderr(Stdio::piped()).spawn().unwrap();
        let mut said = BufReader::new(claim.stderr.take().unwrap()).lines().map(Result::unwrap);
        let word = if stored { "grant" } else { "looking for the node" };
        assert!(said.by_ref().any(|line| line.contains(word)));
        while stored && admin.registry().nodes().unwrap().is_empty() {
            std::thread::yield_now();
        }
        kill(Pid::from_raw(i32::try_from(claim.id()).unwrap()), Signal::SIGINT).unwrap();
        let last = said.last().unwrap();
        assert_eq!(claim.wait().unwrap().code(), Some(130), "{last}");
        let expected = if stored { format!("{node}: a grant was made") } else { "nothing is stored".into() };
        assert!(last.contains(&expected), "{last}");
    }
}

/// A node is there, and none of these claims it or leaves anything half-written.
fn refusals() {
    let admin = Admin::new();
    admin.expect(4, "discover --json");
    let _node = Neighbour::start(&[]);
    let path = admin.folder.path().join("registry");
    // A disk with no room for a registry: a limit of the size of files is met by the same code.
    admin.expect_under("ulimit -f 1;", 7, "discover --wait 1 --json");
    assert_eq!(fs::read_dir(admin.folder.path()).unwrap().count(), 2);
    let unlisted = admin.expect(8, "claim --json");
    assert!(unlisted["error"]["message"].as_str().unwrap().contains(&node_print()));
    admin.expect(8, "claim --any-listed --expect 0123-4567-89ab-cdef-0123-4567-89ab-cdef-0123-4567 --wait 2 --json");
    assert_eq!(admin.registry().nodes().unwrap(), []);
    let claim = format!("claim --fingerprint {} --json", node_print());
    // Room for the counter, on the second page, but not for the place and the grant, on later ones.
    let full = admin.expect_under("ulimit -f 20;", 7, &claim);
    assert!(full["error"]["message"].as_str().unwrap().contains("disk may be full"), "{full}");
    assert_eq!(admin.registry().nodes().unwrap(), []);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN EXCLUSIVE").unwrap();
    let locked = admin.expect(7, &claim);
    other.execute_batch("ROLLBACK").unwrap();
    assert!(locked["error"]["message"].as_str().unwrap().contains("locked by another process"));
    // After all of it the node is as it was.
    let found = admin.expect(0, "discover --wait 2 --json");
    assert_eq!(found["nodes"][0]["fingerprint"], node_print());
    assert_eq!((&found["nodes"][0]["committed"], &found["nodes"][0]["registry"]), (&Value::Bool(false), &Value::Null));
    // The interface by another of its names, and of its addresses one that is not deprecated, whichever comes first.
    run("ip link property add dev admin altname the-segment-of-the-nodes");
    run("ip -6 addr flush dev admin; ip addr add fe80::ad/64 dev admin nodad");
    let find = || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(Interface::find("the-segment-of-the-nodes")).unwrap()
    };
    let plain = find();
    assert_eq!((plain.index, plain.ip.to_string()), (if_nametoindex("admin").unwrap(), "fe80::ad".into()));
    run("ip addr add fe80::ae/64 dev admin nodad preferred_lft 0 valid_lft forever");
    assert_eq!(find().ip.to_string(), "fe80::ad");
    run("ip addr del fe80::ae/64 dev admin; ip addr add fe80::ae/64 dev admin nodad");
    run("ip addr change fe80::ad/64 dev admin preferred_lft 0 valid_lft forever");
    assert_eq!(find().ip.to_string(), "fe80::ae");
    run("ip addr change fe80::ad/64 dev admin preferred_lft forever; ip addr del fe80::ae/64 dev admin");
    run("ip link set admin down");
    let down = admin.expect(4, &claim);
    assert!(down["error"]["message"].as_str().unwrap().contains("ip link set admin up"));
}

/// The node's connection is cut once at this step.
fn claims(cut: Option<u8>) {
    let admin = Admin::new();
    let _node = Neighbour::start(cut.as_slice());
    let claimed = admin.expect(0, &format!("claim --any-listed --expect {} --json", node_print()));
    let node = &claimed["node"];
    assert_eq!(claimed["resumed"], cut.is_some_and(|step| step >= step::COMMITTED), "{cut:?}");
    assert_eq!((&node["state"], &node["acknowledged"]), (&"paired".into(), &true.into()), "{cut:?}");
    assert_eq!((&node["accepted"], &node["interface"]), (&"expected".into(), &"admin".into()));
    assert_eq!(admin.expect(0, "nodes list --json")["nodes"][0], *node);
    let (print, place) = (node_print(), node["mesh"]["v4"].as_str().unwrap());
    for name in [print.as_str(), &print[..4], &print.to_uppercase()[..9], place] {
        assert_eq!(admin.expect(0, &format!("nodes show {name} --json"))["node"], *node, "{name}");
    }
    admin.expect(1, &format!("nodes show {} --json", &print[..3]));
    if cut.is_none() {
        // The registry answers without a word to anybody, unless it is told that it is wrong.
        let already = admin.expect(0, &format!("claim --fingerprint {} --json", node_print()));
        assert_eq!((&already["already"], &already["node"]), (&true.into(), node));
        let other = admin.expect(6, &format!("claim --fingerprint {} --fleet other --json", node_print()));
        assert!(other["error"]["message"].as_str().unwrap().contains("for the fleet default"));
        let silent = admin.expect(5, &format!("claim --fingerprint {} --again --wait 2 --json", node_print()));
        assert!(silent["error"]["message"].as_str().unwrap().contains("already paired"));
    }
}

/// What it says on the way is lost, on a pipe that was closed or a full disk, and the claim is whole.
fn nobody_reads() {
    let gone = || Stdio::from(pipe().unwrap().1);
    let full = || Stdio::from(fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    for stderr in [gone(), full()] {
        let admin = Admin::new();
        let _node = Neighbour::start(&[]);
        let line = admin.line(&format!("claim --fingerprint {}", node_print()));
        let status = admin.command(&line).stdout(gone()).stderr(stderr).status().unwrap();
        assert_eq!(status.code(), Some(0));
        let nodes = admin.registry().nodes().unwrap();
        assert_eq!((nodes[0].state, nodes[0].acknowledged_ms.is_some()), (State::Paired, true));
    }
}

/// On a terminal the operator is asked, and only `yes` is a yes.
fn asks() {
    let admin = Admin::new();
    let _node = Neighbour::start(&[]);
    for (typed, code) in [("y", 8), ("yes", 0)] {
        let line = format!("TERM=dumb script -qec '{}' /dev/null", admin.line("claim --wait 20"));
        let mut script =
            admin.command(&line).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        writeln!(script.stdin.as_mut().unwrap(), "{typed}").unwrap();
        let output = script.wait_with_output().unwrap();
        admin.check(code, typed, &output);
        let shown = String::from_utf8_lossy(&output.stdout);
        assert!(shown.contains(&node_print()) && !shown.contains('\x1b'), "{shown:?}");
    }
    let nodes = admin.registry().nodes().unwrap();
    assert_eq!((nodes.len(), nodes[0].state, nodes[0].accepted.word()), (1, State::Paired, "asked"));
}

/// It holds the port, and ends well when it is told to.
fn beacon() {
    let admin = Admin::new();
    let _node = Neighbour::start(&[]);
    let line = format!("exec {}", admin.line("beacon --json"));
    let mut beacon = admin.command(&line).stdout(Stdio::piped()).spawn().unwrap();
    // Its registry is made after its sockets.
    while !Path::new(&admin.folder.path().join("registry")).exists() {
        std::thread::yield_now();
    }
    // It holds the key all the time: nobody gets it out of a core file, nor, if there is room for that, out of swap.
    let about = |file: &str| fs::read_to_string(format!("/proc/{}/{file}", beacon.id())).unwrap();
    let words = |text: String, line: &str| -> Vec<String> {
        let line = text.lines().find_map(|text| text.strip_prefix(line)).unwrap().to_owned();
        line.split_whitespace().map(str::to_owned).collect()
    };
    assert_eq!(words(about("limits"), "Max core file size"), ["0", "0", "bytes"]);
    let may_lock = getrlimit(Resource::Memlock).current.is_none_or(|room| room >= 1 << 16);
    assert_eq!(words(about("status"), "VmLck:")[0] != "0", may_lock);
    let used = admin.expect(4, "discover --wait 1 --json");
    assert!(used["error"]["message"].as_str().unwrap().contains("8090 is in use"));
    kill(Pid::from_raw(i32::try_from(beacon.id()).unwrap()), Signal::SIGTERM).unwrap();
    assert_eq!(beacon.wait().unwrap().code(), Some(0));
}
