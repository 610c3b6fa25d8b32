//! A board's machine that is saved while it runs, and goes on twice. `make test-sel4` runs this; it needs the seL4 images.

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixDatagram, UnixListener, UnixStream},
    path::{Path, PathBuf},
    process::{Child, ChildStdout, Stdio},
    thread,
    time::{Duration, Instant},
};

use calls::params::Params;
use crypto::{AnchorSecret, Secret};
use genesis_tests::{PATIENCE, station::link_local};
use link::{DATAGRAM, ON_LINK, Station, UdpPorts, datagram};
use qemu::Setup;
use sysdesc::image::assemble::{Recipe, sel4_boards};
use wire::{
    BEACON_PORT, Mac,
    anchor::{Anchor, AnchorFile},
    link::{Answer, Datagram, Find, Hello, HelloBody, Open, OpenFor},
};
use zerocopy::IntoBytes;

const NODE: Mac = [2, 0, 0, 0, 0, 1];
const ADMIN: Mac = [2, 0, 0, 0, 0, 2];
/// How often what nobody answers is sent again.
const AGAIN: Duration = Duration::from_millis(300);

/// QEMU, its monitor, and the other end of its network card.
struct Running {
    machine: Child,
    monitor: BufReader<UnixStream>,
    wire: UnixDatagram,
    card: PathBuf,
}

impl Running {
    fn start(board: &str, image: &Path, dir: &Path, incoming: Option<&Path>) -> (Self, BufReader<ChildStdout>) {
        fs::create_dir_all(dir).unwrap();
        let [card, switch, monitor] = ["card", "switch", "monitor"].map(|name| dir.join(name));
        let wire = UnixDatagram::bind(&switch).unwrap();
        wire.set_read_timeout(Some(AGAIN)).unwrap();
        let listener = UnixListener::bind(&monitor).unwrap();
        let setup = Setup {
            board,
            image,
            dir,
            device_secret: &[7; 32],
            mac: NODE,
            net: Some((&card, &switch)),
            entropy: Path::new("/dev/urandom"),
        };
        let mut command = setup.command().unwrap();
        command.args(["-serial", "stdio", "-qmp", &format!("unix:{}", monitor.display())]);
        if let Some(saved) = incoming {
            command.args(["-incoming", &format!("exec:cat '{}'", saved.display())]);
        }
        let mut machine = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let console = BufReader::new(machine.stdout.take().unwrap());
        let mut monitor = BufReader::new(listener.accept().unwrap().0);
        monitor.get_ref().set_read_timeout(Some(PATIENCE)).unwrap();
        monitor.read_line(&mut String::new()).unwrap();
        let mut running = Self { machine, monitor, wire, card };
        running.order(r#"{"execute":"qmp_capabilities"}"#, r#""return""#);
        (running, console)
    }

    /// Says something to QEMU and waits for a line with this in it.
    fn order(&mut self, order: &str, until: &str) {
        writeln!(self.monitor.get_mut(), "{order}").unwrap();
        loop {
            let mut line = String::new();
            assert_ne!(self.monitor.read_line(&mut line).unwrap(), 0, "{order}: QEMU has ended");
            assert!(!line.contains(r#""error""#) && !line.contains(r#""failed""#), "{order}: {line}");
            if line.contains(until) {
                return;
            }
        }
    }

    fn save(mut self, to: &Path) {
        self.order(
            r#"{"execute":"migrate-set-capabilities","arguments":{"capabilities":[{"capability":"events","state":true}]}}"#,
            r#""return""#,
        );
        let order = format!(r#"{{"execute":"migrate","arguments":{{"uri":"exec:cat >'{}'"}}}}"#, to.display());
        self.order(&order, r#""completed""#);
    }

    /// Says this to everyone until something comes that is read as an answer to it.
    fn ask<T>(&self, payload: &[u8], read: impl Fn(&[u8]) -> Option<T>) -> T {
        let from = Station::new(link_local(ADMIN), ADMIN);
        let mut frame = [&[0; DATAGRAM][..], payload].concat();
        let ports = UdpPorts { source: BEACON_PORT, destination: BEACON_PORT };
        datagram(&mut frame, &from, &Station::ALL_NODES, ports, ON_LINK).unwrap();
        let deadline = Instant::now() + PATIENCE;
        let mut said = Instant::now() - AGAIN;
        let mut heard = [0; 2048];
        while Instant::now() < deadline {
            if said.elapsed() >= AGAIN {
                self.wire.send_to(&frame, &self.card).unwrap();
                said = Instant::now();
            }
            let length = self.wire.recv(&mut heard).unwrap_or(0);
            if let Some(answer) = heard[..length].get(DATAGRAM..).and_then(&read) {
                return answer;
            }
        }
        panic!("no answer of {}", self.card.display());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.machine.kill();
        let _ = self.machine.wait();
    }
}

/// What a machine that goes on says to the same find, and to an open for that.
fn enter(running: &Running, anchor: &AnchorSecret) -> (Hello, HelloBody, Answer, [u8; 16]) {
    let ip = link_local(ADMIN);
    let hello = running.ask(Find::sign(anchor, 5, ip, ADMIN).as_bytes(), |bytes| Hello::parse(bytes).copied());
    let body = hello.open(anchor).expect("a hello for this anchor");
    let ephemeral = Secret::new([3; 32]);
    let about = OpenFor { hello: &body, sender_ip: ip, sender_mac: ADMIN };
    let open = Open::sign(anchor, &ephemeral, &about).unwrap();
    let answer = running.ask(open.as_bytes(), |bytes| Answer::parse(bytes).copied());
    let token = answer.open(&body.claim_key, &ephemeral, &open).expect("an answer to this open");
    (hello, body, answer, token)
}

fn saved_and_restored_twice(board: &str) {
    let dir = tempfile::tempdir().unwrap();
    let anchor = AnchorSecret::from_seed(&[9; 32]);
    let mut recipe = Recipe::new(board, "release");
    // Without a scan: straight to the fork.
    let params = Params { scan_ms: 0.into(), ..Params::DEFAULT };
    recipe.prefill.insert("params".into(), params.as_bytes().to_vec());
    recipe.prefill.insert("anchor".into(), AnchorFile::new(&Anchor::alone(&anchor.public())).as_bytes().to_vec());
    let image = recipe.build(dir.path()).unwrap();
    let saved = dir.path().join("saved");
    let (running, console) = Running::start(board, &image, &dir.path().join("first"), None);
    let mut said = console.lines().map_while(Result::ok);
    assert!(said.any(|line| line.trim_end() == "genesis: phase hold"), "{board} does not hold");
    // A console that nobody reads holds a machine up.
    thread::spawn(move || said.for_each(drop));
    running.save(&saved);
    let [one, two] = ["second", "third"].map(|name| {
        let (running, console) = Running::start(board, &image, &dir.path().join(name), Some(&saved));
        thread::spawn(move || console.lines().map_while(Result::ok).for_each(drop));
        enter(&running, &anchor)
    });
    assert_eq!((one.1.fiduciary, one.1.claim_key), (two.1.fiduciary, two.1.claim_key), "the same node");
    assert_ne!(one.0.ephemeral, two.0.ephemeral);
    assert_ne!(one.1.nonce, two.1.nonce);
    assert_ne!(one.2.ephemeral, two.2.ephemeral);
    assert_ne!(one.3, two.3, "tokens");
}

/// Hello, nonce, answer and token of two machines that go on from one snapshot are drawn from samples that came after it.
#[test]
#[ignore = "needs seL4 images: make test-sel4"]
fn a_board_that_was_saved_and_goes_on_twice_says_nothing_twice() {
    sel4_boards().expect("boards/").iter().for_each(|board| saved_and_restored_twice(board));
}
