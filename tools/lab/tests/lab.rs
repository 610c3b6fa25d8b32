//! `lab` as a user runs it, and its library as a test does. The domains' programs are those of `make build`.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    time::{Duration, Instant},
};

use lab::{Lab, NodeOptions};
use pcap_file::pcapng::{Block, PcapNgReader, blocks::interface_description::InterfaceDescriptionOption};
use serde_json::Value;
use tempfile::TempDir;

/// A hang detector, no more.
const PATIENCE: Duration = Duration::from_secs(60);

/// A lab's directory. Whatever happens to the test, its lab ends.
struct Home(TempDir);

impl Home {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn dir(&self) -> PathBuf {
        self.0.path().join("lab")
    }

    fn lab(&self, arguments: &[&str]) -> Output {
        let (command, more) = arguments.split_first().unwrap();
        Command::new(env!("CARGO_BIN_EXE_lab")).args([command, "--dir"]).arg(self.dir()).args(more).output().unwrap()
    }

    fn nodes(&self) -> Vec<Value> {
        let text = fs::read(self.dir().join("nodes.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap().as_array().unwrap().clone()
    }

    fn up(&self, arguments: &[&str]) -> Vec<Value> {
        let output = self.lab(&[&["up", "--scan-ms", "0"], arguments].concat());
        assert_eq!(code(&output), 0, "{}", error(&output));
        self.nodes()
    }

    fn down(&self) {
        let output = self.lab(&["down"]);
        assert_eq!(code(&output), 0, "{}", error(&output));
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.lab(&["down"]);
    }
}

fn code(output: &Output) -> i32 {
    output.status.code().unwrap()
}

fn error(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn pids(node: &Value) -> Vec<u64> {
    node["processes"].as_object().unwrap().values().map(|pid| pid.as_u64().unwrap()).collect()
}

/// A process that is there, and no zombie.
fn is_alive(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::yield_now();
    }
}

/// The switch's directory of a running lab.
fn switch(home: &Home) -> PathBuf {
    let lab: Value = serde_json::from_slice(&fs::read(home.dir().join("lab.json")).unwrap()).unwrap();
    lab["switch"].as_str().unwrap().into()
}

fn kill(pid: u64) {
    let status = Command::new("kill").args(["-KILL", &pid.to_string()]).status().unwrap();
    assert!(status.success());
}

fn path(value: &Value) -> &Path {
    Path::new(value.as_str().unwrap())
}

#[test]
fn a_lab_has_its_handles_and_leaves_nothing_running() {
    let home = Home::new();
    // A descriptor that the caller left open must not be kept by what runs on: `output` waits for its end.
    let script = format!(
        "exec 9>&1; exec {} up --dir {} --nodes 2 --scan-ms 0",
        env!("CARGO_BIN_EXE_lab"),
        home.dir().display()
    );
    let output = Command::new("sh").args(["-c", &script]).output().unwrap();
    assert_eq!(code(&output), 0, "{}", error(&output));
    let said = String::from_utf8(output.stdout).unwrap();
    for phase in ["blind", "fork", "hold"] {
        assert_eq!(said.lines().filter(|line| line.contains(phase)).count(), 2, "{said}");
    }

    let nodes = home.nodes();
    assert_eq!(nodes.len(), 2);
    for (number, node) in nodes.iter().enumerate() {
        let name = format!("node-{}", number + 1);
        assert_eq!((node["name"].as_str(), node["port"].as_str()), (Some(&*name), Some(&*name)));
        assert_eq!(node["board"], "native");
        assert_eq!((node["phase"].as_str(), node["anchor"].as_str()), (Some("hold"), Some("ticket")));
        let console = fs::read_to_string(path(&node["console"])).unwrap();
        assert!(console.contains("genesis: phase hold"));
        assert!(console.contains(node["fingerprint"].as_str().unwrap()));
        let link = format!("link {} {}", node["address"].as_str().unwrap(), node["mac"].as_str().unwrap());
        assert!(console.contains(&link), "{link}\n{console}");
        let ticket = path(&node["ticket"]);
        assert_eq!(fs::metadata(ticket).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(console.contains(fs::read_to_string(ticket).unwrap().trim()));
        for domain in ["keystore", "lifecycle", "net", "perimeter", "beacon", "claim", "entropy", "timer", "console"] {
            assert!(is_alive(node["processes"][domain].as_u64().unwrap()), "{domain}");
        }
    }
    let documented = include_str!("../../../docs/lab.md");
    for key in nodes[0].as_object().unwrap().keys() {
        assert!(documented.contains(&format!("`{key}`")), "docs/lab.md does not have {key}");
    }
    assert_ne!(nodes[0]["fingerprint"], nodes[1]["fingerprint"]);
    assert_ne!(nodes[0]["mac"], nodes[1]["mac"]);

    assert_eq!(code(&home.lab(&["status"])), 0);
    // `lab status | true`
    let (reader, writer) = io::pipe().unwrap();
    drop(reader);
    let mut unread = Command::new(env!("CARGO_BIN_EXE_lab"));
    assert!(unread.args(["status", "--dir"]).arg(home.dir()).stdout(writer).status().unwrap().success());
    let second = home.lab(&["up"]);
    assert_eq!(code(&second), 3);
    assert!(error(&second).contains("runs in") && error(&second).contains("already"), "{}", error(&second));
    assert_eq!(home.nodes(), nodes, "a second lab was refused and changed nothing");

    let program = ["--name", "me", "sh", "-c", "echo $GENESIS_INTERFACE; exit 7"];
    let entered = Command::new(home.dir().join("enter")).args(program).output().unwrap();
    assert_eq!((code(&entered), &*entered.stdout), (7, &b"lab0\n"[..]), "{}", error(&entered));

    let switch = switch(&home);
    home.down();
    home.down();
    assert!(nodes.iter().flat_map(pids).all(|pid| !is_alive(pid)));
    assert!(!switch.exists());
    for gone in ["nodes.json", "enter", "node-1/ticket"] {
        assert!(!home.dir().join(gone).exists(), "{gone}");
    }
    assert!(home.dir().join("node-2/console.log").exists());
    assert_eq!(interfaces(&home.dir().join("segment.pcapng")), ["node-1", "node-2", "me"]);
    assert_eq!(code(&home.lab(&["status"])), 4);
}

fn interfaces(segment: &Path) -> Vec<String> {
    let mut reader = PcapNgReader::new(File::open(segment).unwrap()).unwrap();
    let mut names = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::InterfaceDescription(block) = block.unwrap() {
            names.extend(block.options.iter().find_map(|option| match option {
                InterfaceDescriptionOption::IfName(name) => Some(name.to_string()),
                _ => None,
            }));
        }
    }
    names
}

#[test]
fn nodes_with_bad_entropy_are_sealed_and_that_is_no_failure_of_the_lab() {
    let home = Home::new();
    let nodes = home.up(&["--entropy", "stuck"]);
    assert_eq!(nodes[0]["phase"], "sealed");
    assert!(nodes[0]["faults"][0].as_str().unwrap().contains("entropy failed"));
    for nothing in ["ticket", "fingerprint", "fiduciary", "address"] {
        assert!(nodes[0][nothing].is_null(), "{nothing}");
    }
}

#[test]
fn a_segment_may_be_empty() {
    let home = Home::new();
    assert!(home.up(&["--nodes", "0"]).is_empty());
    let entered = Command::new(home.dir().join("enter")).arg("true").output().unwrap();
    assert_eq!(code(&entered), 0, "{}", error(&entered));
}

#[test]
fn a_death_is_on_record_and_the_others_live() {
    let home = Home::new();
    let nodes = home.up(&[]);
    // It is nobody's child, so nobody starts it anew.
    kill(nodes[0]["processes"]["keystore"].as_u64().unwrap());
    until("the death is in nodes.json", || home.nodes()[0]["deaths"] != Value::Array(Vec::new()));
    let after = &home.nodes()[0];
    assert!(after["deaths"][0].as_str().unwrap().contains("keystore"), "{after}");
    assert!(after["processes"]["keystore"].is_null());
    assert!(is_alive(after["processes"]["entropy"].as_u64().unwrap()));
}

#[test]
fn a_lab_that_was_killed_takes_its_nodes_along_and_a_new_one_starts() {
    let home = Home::new();
    let nodes = home.up(&[]);
    let stat = fs::read_to_string(format!("/proc/{}/stat", nodes[0]["processes"]["net"])).unwrap();
    let supervisor = stat.rsplit_once(") ").unwrap().1.split(' ').nth(1).unwrap().parse().unwrap();
    let switch = switch(&home);
    kill(supervisor);
    until("the domains die with their lab", || !pids(&nodes[0]).into_iter().any(is_alive));
    assert_eq!(code(&home.lab(&["status"])), 4);
    let again = home.up(&[]);
    assert_ne!(again[0]["fingerprint"], nodes[0]["fingerprint"], "another power-up, another identity");
    assert!(!switch.exists());
}

#[test]
fn a_lab_waits_no_longer_than_it_is_told() {
    for window in [["--scan-ms", "600000"], ["--param", "scan_ms=600000"]] {
        let home = Home::new();
        let output = home.lab(&[&["up", "--no-wait"][..], &window].concat());
        assert_eq!(code(&output), 0, "{}", error(&output));
        assert_eq!(home.nodes()[0]["phase"], "scan");
    }
}

#[test]
fn what_cannot_be_is_said() {
    let home = Home::new();
    let refused = |arguments: &[&str], expected: i32, why: &str| {
        let output = home.lab(arguments);
        assert_eq!(code(&output), expected, "{arguments:?}: {}", error(&output));
        assert!(error(&output).contains(why), "{arguments:?}: {}", error(&output));
    };
    refused(&["up", "--entropy", "perfect"], 2, "is not good, stuck, biased or fails-after:BYTES");
    refused(&["up", "--nodes", "many"], 2, "invalid value");
    refused(&["up", "--param", "magic=1"], 2, "there is no parameter magic");
    refused(&["status"], 4, "no lab runs in");
    refused(&["up", "--anchor", "/no/such/anchor.bin"], 1, "/no/such/anchor.bin: No such file");
    refused(&["up", "--system", "/dev/null"], 1, "node-1");
    for list in ["no_such_board", "native,no_such_board"] {
        refused(&["up", "--board", list], 1, "there is no board no_such_board");
    }
    assert_eq!(code(&home.lab(&["status"])), 4);
    let entered = Command::new(env!("CARGO_BIN_EXE_lab")).args(["enter", "--lab"]).arg(home.dir()).arg("true").output();
    let entered = entered.unwrap();
    assert_eq!(code(&entered), 125);
    assert!(error(&entered).contains("no lab runs in"), "{}", error(&entered));
}

#[test]
fn nodes_in_a_tests_own_process() {
    let lab = Lab::start().unwrap();
    let mut params = NodeOptions::default().params;
    params.scan_ms = 0.into();
    let boot = || lab.node(NodeOptions { params, ..NodeOptions::default() }).unwrap();
    let (one, two) = (boot(), boot());
    for node in [&one, &two] {
        node.wait_phase("hold", PATIENCE).unwrap();
        assert_eq!(node.seen().phases, ["blind", "fork", "hold"]);
        assert!(node.ticket().is_some_and(|ticket| ticket.starts_with("GENESIS1-")));
        // A node that does not scan has said nothing.
        assert!(lab.switch().frames_from(node.name()).is_empty());
    }
    let died = |who: &'static str| {
        one.wait(PATIENCE, |seen| seen.deaths.iter().any(|(domain, _)| domain == who).then_some(())).unwrap();
    };
    // Its parent starts it anew.
    let before = one.processes()["claim"];
    assert!(one.kill("claim"));
    died("claim");
    one.wait(PATIENCE, |seen| seen.processes.get("claim").filter(|pid| **pid != before).map(drop)).unwrap();
    assert!(one.kill("keystore"));
    died("keystore");
    assert!(!one.kill("keystore") && !one.processes().contains_key("keystore"));
    assert!(two.seen().deaths.is_empty());
    let error = two.wait_phase("claimed", Duration::ZERO).unwrap_err().to_string();
    assert!(error.contains("has not reached claimed") && error.contains("genesis: phase hold"), "{error}");
}

/// Where the kernel refuses what a stranger needs, it is not the node that is found wanting.
#[test]
fn a_life_is_not_begun_where_no_program_can_be_put_beside_it() {
    let no_namespaces =
        "echo 0 >/proc/sys/user/max_user_namespaces; echo 0 >/proc/sys/user/max_net_namespaces; exec \"$@\"";
    let mut run = Command::new("unshare");
    run.args(["-Urmpf", "--mount-proc", "sh", "-ec", no_namespaces, "sh", env!("CARGO_BIN_EXE_lab"), "run"]);
    let output = run.output().expect("unshare, of util-linux, is needed");
    assert_eq!((code(&output), &*output.stdout), (1, &b""[..]), "{}", error(&output));
    assert!(error(&output).contains("sysctl user.max_user_namespaces=10000"), "{}", error(&output));
    assert_eq!(error(&output).lines().count(), 1, "{}", error(&output));
}

/// `make run`, with a shorter scan. It needs `make build` for the administrator's tool.
#[test]
fn a_life_from_power_on_to_pairing() {
    let home = Home::new();
    let mut run = Command::new(env!("CARGO_BIN_EXE_lab"));
    let output = run.args(["run", "--scan-ms", "300", "--dir"]).arg(home.dir()).stdin(Stdio::null()).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    assert_eq!(code(&output), 0, "{said}\n{}", error(&output));
    let mut rest = &*said;
    for step in
        ["blind", "scan", "fork", "hold", "node frames to the stranger: 0", "claimed", "nodes show", "paired, ADMIN"]
    {
        let (_, after) = rest.split_once(step).unwrap_or_else(|| panic!("no {step} in {said}"));
        rest = after;
    }
    // Not empty: not a place for another life.
    let again = Command::new(env!("CARGO_BIN_EXE_lab")).args(["run", "--dir"]).arg(home.dir()).output().unwrap();
    assert_eq!(code(&again), 1);
    assert!(error(&again).contains("is not empty"), "{}", error(&again));
}

#[test]
fn a_node_can_be_switched_off_and_on_and_its_power_cut() {
    let home = Home::new();
    let nodes = home.up(&["--nodes", "2"]);
    for end in ["off", "cut"] {
        let before = pids(&home.nodes()[0]);
        assert_eq!(code(&home.lab(&["power", "node-1", end])), 0);
        // The files say so when the command has ended.
        let node = &home.nodes()[0];
        assert_eq!((node["phase"].as_str(), pids(node).len()), (Some("off"), 0));
        assert!(node["deaths"].as_array().unwrap().is_empty(), "{node}");
        assert!(!before.iter().any(|pid| is_alive(*pid)));
        let again = home.lab(&["power", "node-1", "on"]);
        assert_eq!(code(&again), 0, "{}", error(&again));
        until("hold", || home.nodes()[0]["phase"] == "hold");
        assert!(pids(&home.nodes()[0]).iter().all(|pid| is_alive(*pid) && !before.contains(pid)));
        let twice = home.lab(&["power", "node-1", "on"]);
        assert!(code(&twice) == 1 && error(&twice).contains("node-1 is on"), "{}", error(&twice));
    }
    // The other one has not noticed, and the log has all that was said.
    assert_eq!(pids(&home.nodes()[1]), pids(&nodes[1]));
    let log = fs::read_to_string(path(&nodes[0]["console"])).unwrap();
    assert_eq!(log.matches("genesis: phase hold").count(), 3);
    let stranger = home.lab(&["power", "node-3", "off"]);
    assert!(code(&stranger) == 1 && error(&stranger).contains("there is no node-3"), "{}", error(&stranger));
    home.down();
    assert_eq!(code(&home.lab(&["power", "node-1", "on"])), 4);
}

#[test]
fn nodes_that_are_kept_are_the_same_devices_until_one_is_wiped() {
    let home = Home::new();
    let flash = home.dir().join("node-1/native/flash");
    let anchor = home.0.path().join("anchor");
    fs::write(&anchor, [0; 16]).unwrap();
    let first = home.up(&["--keep", "--no-wait", "--anchor", anchor.to_str().unwrap()]);
    home.down();
    assert_eq!(fs::metadata(&flash).unwrap().permissions().mode() & 0o777, 0o600);
    let secret = fs::read(home.dir().join("node-1/native/device-secret")).unwrap();
    let other = home.up(&["--no-wait"]);
    assert_ne!(other[0]["mac"], first[0]["mac"]);
    home.down();
    let again = home.up(&["--keep", "--no-wait"]);
    assert_eq!(again[0]["mac"], first[0]["mac"]);
    assert_eq!(fs::read(home.dir().join("node-1/native/device-secret")).unwrap(), secret);
    assert!(home.dir().join("anchor.bin").is_file());
    let wiped = home.lab(&["wipe", "node-1"]);
    assert_eq!(code(&wiped), 0, "{}", error(&wiped));
    assert!(
        error(&wiped).contains("gone for ever") || String::from_utf8_lossy(&wiped.stdout).contains("gone for ever")
    );
    assert_ne!(fs::read(home.dir().join("node-1/native/device-secret")).unwrap(), secret);
}
