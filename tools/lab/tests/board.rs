//! A lab of nodes on the boards, as a user runs it. `make test-sel4` runs this; it needs the seL4 images and
//! `make build`.

use std::{
    fs::{self, Permissions},
    io::{BufRead, BufReader, Write},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use native::runner::program_dir;
use serde_json::Value;
use sysdesc::image::assemble::sel4_boards;
use tempfile::TempDir;

/// A hang detector, no more.
const PATIENCE: Duration = Duration::from_secs(60);

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
        let lab = Command::new(env!("CARGO_BIN_EXE_lab")).args([command, "--dir"]).arg(self.dir()).args(more).output();
        lab.unwrap()
    }

    fn up(&self, board: &str, more: &[&str]) -> Value {
        let output = self.lab(&[&["up", "--board", board, "--scan-ms", "0"], more].concat());
        assert!(output.status.success(), "{}", said(&output));
        self.node()
    }

    fn node(&self) -> Value {
        let text = fs::read(self.dir().join("nodes.json")).unwrap();
        serde_json::from_slice::<Value>(&text).unwrap()[0].clone()
    }

    /// The administrator's tool on the segment.
    fn admin(&self, arguments: &[&str]) -> Output {
        let file = |name: &str| self.0.path().join(name);
        fs::write(file("passphrase"), "a passphrase for a test\n").unwrap();
        fs::set_permissions(file("passphrase"), Permissions::from_mode(0o600)).unwrap();
        let mut command = Command::new(self.dir().join("enter"));
        command.arg(program_dir().join("os-network-admin")).args(arguments);
        command.arg("--key").arg(file("key")).arg("--passphrase-file").arg(file("passphrase"));
        command.arg("--registry").arg(file("registry")).args(["--interface", "lab0"]).output().unwrap()
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        self.lab(&["down"]);
    }
}

/// A program that ends with the test, and its machine with it.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn said(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn is_alive(pid: u64) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit_once(") ").is_some_and(|(_, rest)| !rest.starts_with('Z'))
}

fn until(what: &str, mut reached: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !reached() {
        assert!(Instant::now() < deadline, "{what}");
        thread::yield_now();
    }
}

fn is_brought_up_claimed_and_taken_down(board: &str) {
    let home = Home::new();
    let node = home.up(board, &[]);
    assert_eq!((node["board"].as_str(), node["phase"].as_str()), (Some(board), Some("hold")));
    let machine = node["processes"]["qemu"].as_u64().unwrap();
    assert!(is_alive(machine));
    let console = fs::read_to_string(node["console"].as_str().unwrap()).unwrap();
    assert!(console.contains("genesis: phase hold"), "{console}");
    let link = format!("link {} {}", node["address"].as_str().unwrap(), node["mac"].as_str().unwrap());
    assert!(console.contains(&link), "{link}\n{console}");

    let init = home.admin(&["init"]);
    assert!(init.status.success(), "{}", said(&init));
    let claim = home.admin(&["claim", "--ticket-file", node["ticket"].as_str().unwrap()]);
    assert!(claim.status.success(), "{}", said(&claim));
    until("the node is claimed", || home.node()["phase"] == "claimed");

    let lab: Value = serde_json::from_slice(&fs::read(home.dir().join("lab.json")).unwrap()).unwrap();
    let down = home.lab(&["down"]);
    assert!(down.status.success(), "{}", said(&down));
    assert!(!is_alive(machine));
    assert!(!Path::new(lab["switch"].as_str().unwrap()).exists(), "the device secret is left behind");
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_lab_on_every_board() {
    sel4_boards().unwrap().iter().for_each(|board| is_brought_up_claimed_and_taken_down(board));
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn bad_entropy_seals_a_board_and_the_end_of_a_machine_is_on_record() {
    let home = Home::new();
    let node = home.up(&sel4_boards().unwrap()[0], &["--entropy", "stuck"]);
    assert_eq!(node["phase"], "sealed");
    assert!(node["faults"][0].as_str().unwrap().contains("entropy failed"), "{node}");
    assert!(node["ticket"].is_null() && node["fingerprint"].is_null());
    let machine = node["processes"]["qemu"].to_string();
    assert!(Command::new("kill").args(["-KILL", &machine]).status().unwrap().success());
    until("the end is in nodes.json", || home.node()["phase"] == "dead");
    assert_eq!(home.node()["deaths"][0], "the machine has ended");
}

#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_node_on_this_terminal_has_the_source_that_was_asked_for() {
    let home = Home::new();
    let board = &sel4_boards().unwrap()[0];
    let image = program_dir().join(format!("../{board}-release/loader.img"));
    let mut qemu = Command::new(env!("CARGO_BIN_EXE_qemu"));
    qemu.args([board, "--entropy", "stuck", "--image"]).arg(image).arg("--dir").arg(home.dir());
    let mut qemu = Running(qemu.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap());
    let console = qemu.0.stdout.take().unwrap();
    let (tell, lines) = mpsc::channel();
    thread::spawn(move || BufReader::new(console).lines().try_for_each(|line| tell.send(line.unwrap())));
    let mut said = String::new();
    while !said.ends_with("genesis: phase sealed\n") {
        let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| panic!("it is not sealed:\n{said}"));
        said.extend([line.trim_end(), "\n"]);
    }
    // Ctrl-A X, as at a terminal.
    qemu.0.stdin.take().unwrap().write_all(b"\x01x").unwrap();
    assert!(qemu.0.wait().unwrap().success());
}
