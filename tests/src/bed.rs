//! A segment with nodes on it, inside the test's process: nothing is shared with another test.
//!
//! A node is native, or, if `GENESIS_BOARD` names a board, the release image on that board under QEMU. The tests
//! are the same.

use std::{
    cell::Cell,
    collections::BTreeMap,
    fmt::Write as _,
    fs::File,
    io::{BufRead, BufReader, Read},
    net::Ipv6Addr,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Instant,
};

use calls::params::Params;
use crypto::AnchorPublic;
use native::{
    runner::{Config, Entropy, Plug, System, feed},
    switch::{Impairment, Switch},
};
use qemu::{Image, Machine, Memory};
use rustix::fs::{FileType, Mode};
use tempfile::TempDir;
use wire::{Key, anchor::AnchorFile};
use zerocopy::IntoBytes;

use crate::{PATIENCE, admin::fresh, fuse, hostile::Target, station::Station};

pub struct Bed {
    switch: Switch,
    dir: TempDir,
    nodes: Cell<u8>,
}

/// A node to be. Windows in milliseconds, as `params` has them.
#[derive(Clone)]
pub struct Setup {
    /// Of the image; without one the node makes a ticket.
    pub anchor: Option<AnchorPublic>,
    pub scan_ms: u32,
    pub hello_delay_ms: u32,
    pub token_ms: u32,
    pub pending_ms: u32,
    pub claim_ms: u32,
    pub telemetry_ms: u32,
    pub heartbeat_ms: u32,
    /// What the source gives, as `ENTROPY=` has it.
    pub entropy: String,
    /// The program in the workload's place.
    pub tenant: Option<String>,
    /// On a board, a domain that is there with a fuse.
    pub faulty: Option<&'static str>,
}

impl Setup {
    /// An image with an anchor, that does not scan.
    pub fn image(anchor: &AnchorPublic) -> Self {
        Self { anchor: Some(*anchor), ..Self::ticket() }
    }

    /// An image without an anchor, that does not scan.
    pub fn ticket() -> Self {
        let d = Params::DEFAULT;
        Self {
            anchor: None,
            scan_ms: 0,
            hello_delay_ms: 50,
            token_ms: d.token_ms.get(),
            pending_ms: d.pending_ms.get(),
            claim_ms: d.claim_ms.get(),
            telemetry_ms: 1000,
            heartbeat_ms: 500,
            entropy: "good".into(),
            tenant: None,
            faulty: None,
        }
    }

    fn params(&self) -> Params {
        Params {
            scan_ms: self.scan_ms.into(),
            hello_delay_ms: self.hello_delay_ms.into(),
            token_ms: self.token_ms.into(),
            pending_ms: self.pending_ms.into(),
            claim_ms: self.claim_ms.into(),
            telemetry_ms: self.telemetry_ms.into(),
            heartbeat_ms: self.heartbeat_ms.into(),
            ..Params::DEFAULT
        }
    }
}

impl Default for Bed {
    fn default() -> Self {
        Self::new()
    }
}

impl Bed {
    pub fn new() -> Self {
        let dir = TempDir::new().expect("a temporary directory");
        let switch = Switch::start(&dir.path().join("s")).expect("a switch");
        Self { switch, dir, nodes: Cell::new(0) }
    }

    /// The directory of this bed, for files of the test.
    pub fn dir(&self) -> &Path {
        self.dir.path()
    }

    /// The directory of the switch, for programs that join it.
    pub fn segment(&self) -> &Path {
        self.switch.dir()
    }

    /// Boots a node of the system that the project ships, where `GENESIS_BOARD` says.
    pub fn node(&self, setup: Setup) -> Node {
        match std::env::var("GENESIS_BOARD") {
            Ok(board) => self.node_on(&board, setup),
            Err(_) => self.node_on("native", setup),
        }
    }

    /// Boots a node on a board.
    pub fn node_on(&self, board: &str, setup: Setup) -> Node {
        let number = self.nodes.get() + 1;
        self.nodes.set(number);
        let name = format!("node-{number}");
        let own = self.switch.dir().join(&name);
        let behind = self.switch.attach(&name, &own).expect("a port for the node");
        let mac = [2, 0, 0, 0, 0x4e, number];
        let mut prefill = BTreeMap::from([("params".to_owned(), setup.params().as_bytes().to_vec())]);
        if let Some(anchor) = &setup.anchor {
            prefill.insert("anchor".into(), AnchorFile::new(anchor).as_bytes().to_vec());
        }
        let entropy = setup.entropy.parse().expect("a mode of the source");
        let (tenant, faulty) = (setup.tenant, setup.faulty);
        let place = Place { mac, own, behind, prefill, entropy, tenant, faulty };
        let (running, reader) = if board == "native" { native(place) } else { self.machine(board, &name, place) };
        let console = Arc::new(Console::default());
        let lines = Arc::clone(&console);
        thread::spawn(move || {
            for line in BufReader::new(reader).split(b'\n').map_while(Result::ok) {
                lines.push(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
        });
        Node { name, mac, running, console, from: Cell::new(0), lit: Cell::new(None) }
    }

    fn machine(&self, board: &str, name: &str, place: Place) -> (Running, Box<dyn Read + Send>) {
        let dir = self.dir.path().join(name);
        std::fs::create_dir(&dir).expect("a directory for the machine");
        let faulty = place.faulty.map(str::to_owned);
        let image = Image { prefill: place.prefill, faulty, tenant: place.tenant, ..Image::new(board, "release") };
        let image = image.build(&dir).unwrap_or_else(|error| panic!("{error:#}"));
        // Held open at both ends: QEMU may come and go.
        let source = dir.join("entropy");
        rustix::fs::mknodat(rustix::fs::CWD, &source, FileType::Fifo, Mode::RUSR | Mode::WUSR, 0).expect("a FIFO");
        let feeding = File::options().read(true).write(true).open(&source).expect("the FIFO");
        feed(feeding.into(), place.entropy).expect("a thread");
        let setup = qemu::Setup {
            board,
            image: &image,
            dir: &dir,
            device_secret: &fresh(),
            mac: place.mac,
            net: Some((&place.own, &place.behind)),
            entropy: &source,
        };
        let fused = place.faulty.map(|domain| (domain, Memory::new().unwrap_or_else(|error| panic!("{error:#}"))));
        let booted = match &fused {
            Some((_, memory)) => Machine::boot_in(memory, &setup),
            None => Machine::boot(&setup),
        };
        let (machine, console) = booted.unwrap_or_else(|error| panic!("{error:#}"));
        (Running::Machine(machine, fused), Box::new(console))
    }

    /// A host with a port of its own.
    pub fn station(&self, name: &str, number: u8) -> Station {
        Station::new(self.switch.port(name).expect("a port"), number)
    }

    /// What the node has sent since the mark.
    pub fn frames_from(&self, node: &Node) -> Vec<Vec<u8>> {
        self.switch.frames_from(&node.name).iter().map(|frame| frame.to_vec()).collect()
    }

    /// What a port has sent since the mark.
    pub fn frames_of(&self, port: &str) -> Vec<Vec<u8>> {
        self.switch.frames_from(port).iter().map(|frame| frame.to_vec()).collect()
    }

    /// What befalls the frames to and from a port, by its name.
    pub fn impair(&self, port: &str, impairment: Option<Impairment>) {
        assert!(self.switch.impair(port, impairment), "there is no port {port}");
    }

    /// Forgets the frames so far.
    pub fn mark(&self) {
        self.switch.mark();
    }

    /// Sends frames no faster than the node takes them from its device, so that none is lost on the way.
    pub fn deliver(&self, node: &Node, from: &Station, frames: impl IntoIterator<Item = Vec<u8>>) {
        /// Fewer than the node's rings hold.
        const AHEAD: usize = 16;
        let counters = || self.switch.counters(&node.name).expect("the node has a port");
        // A host that was there first has spoken before the node was.
        let (overrun, absent) = (counters().overrun, counters().absent);
        let handled = || {
            let counters = counters();
            assert_eq!((counters.overrun, counters.absent), (overrun, absent), "frames were lost before the node");
            counters.delivered + counters.stray
        };
        // What the switch refuses (nothing, or more than any link carries) reaches nobody.
        let deliverable = |frame: &Vec<u8>| (1..=native::switch::MAX_FRAME).contains(&frame.len());
        let mut frames = frames.into_iter().filter(deliverable);
        loop {
            let target = handled() + AHEAD as u64;
            let sent = frames.by_ref().take(AHEAD).map(|frame| from.send(&frame)).count();
            let deadline = Instant::now() + PATIENCE;
            while sent == AHEAD && handled() < target {
                assert!(Instant::now() < deadline, "the node takes no frames any more\n{}", node.console());
                thread::yield_now();
            }
            if sent < AHEAD {
                return;
            }
        }
    }
}

/// What a node is plugged into.
struct Place {
    mac: wire::Mac,
    own: PathBuf,
    behind: PathBuf,
    prefill: BTreeMap<String, Vec<u8>>,
    entropy: Entropy,
    tenant: Option<String>,
    faulty: Option<&'static str>,
}

enum Running {
    Native(System),
    #[expect(dead_code, reason = "dropping it pulls the plug")]
    Machine(Machine, Option<(&'static str, Memory)>),
}

fn native(place: Place) -> (Running, Box<dyn Read + Send>) {
    assert_eq!(place.faulty, None, "no domain has a fuse on native");
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let description = std::fs::read_to_string(root.join("system.xml")).expect("system.xml");
    let mut config = Config::new(description);
    config.prefill = place.prefill;
    if let Some(tenant) = &place.tenant {
        assert!(config.board.set("workload", tenant), "boards/native.toml has the tenant's program");
    }
    config.prefill.insert("device_secret".into(), fresh().to_vec());
    let (reader, writer) = std::io::pipe().expect("a pipe");
    let nic = Plug::Switch { own: place.own, switch: place.behind, mac: place.mac };
    config.devices.insert("net.nic".into(), nic);
    config.devices.insert("entropy.source".into(), Plug::Entropy(place.entropy));
    config.devices.insert("console.serial".into(), Plug::Descriptor(writer.into()));
    let system = System::start(config).unwrap_or_else(|error| panic!("{error}; `make build` makes the programs"));
    (Running::Native(system), Box::new(reader))
}

/// A running node, seen from outside.
pub struct Node {
    name: String,
    mac: wire::Mac,
    running: Running,
    console: Arc<Console>,
    /// Lines before this one are not waited for any more.
    from: Cell<usize>,
    /// The domain whose fuse was lit.
    lit: Cell<Option<&'static str>>,
}

impl Node {
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Everything that its console has shown.
    pub fn console(&self) -> String {
        self.console.lock().iter().fold(String::new(), |mut all, line| {
            let _ = writeln!(all, "{line}");
            all
        })
    }

    /// Waits for a line that `wanted` takes, and returns it.
    pub fn wait_line(&self, wanted: impl Fn(&str) -> bool) -> String {
        self.wait_from(self.from.get(), wanted)
    }

    fn wait_from(&self, from: usize, wanted: impl Fn(&str) -> bool) -> String {
        let found = self.console.wait(|lines| lines[from..].iter().find(|line| wanted(line)).cloned());
        found.unwrap_or_else(|| panic!("not on the console:\n{}\ndeaths: {:?}", self.console(), self.deaths()))
    }

    /// What is on the console so far is not waited for any more.
    pub fn forget_lines(&self) {
        self.from.set(self.console.lock().len());
    }

    pub fn wait_phase(&self, phase: &str) {
        self.wait_from(0, |line| line == format!("genesis: phase {phase}"));
    }

    /// The phases so far.
    pub fn phases(&self) -> Vec<String> {
        let lines = self.console.lock();
        lines.iter().filter_map(|line| line.strip_prefix("genesis: phase ")).map(str::to_owned).collect()
    }

    /// The ticket, of a node without an anchor.
    pub fn ticket(&self) -> String {
        self.said("ticket")
    }

    pub fn fingerprint(&self) -> String {
        self.said("fingerprint")
    }

    /// F, as the console shows it.
    pub fn fiduciary(&self) -> Key {
        let said = self.said("identity");
        let hex = said.split(' ').next().expect("F in hex");
        let byte = |at| u8::from_str_radix(&hex[at..at + 2], 16).expect("hex");
        std::array::from_fn(|i| byte(2 * i))
    }

    /// Where it is on the link, as the console shows it.
    pub fn target(&self) -> Target {
        let ip: Ipv6Addr = self.said("link").split(' ').next().and_then(|ip| ip.parse().ok()).expect("an address");
        Target { mac: self.mac, ip: ip.octets() }
    }

    /// What the first line of this kind says.
    fn said(&self, kind: &str) -> String {
        let start = format!("genesis: {kind} ");
        self.wait_from(0, |line| line.starts_with(&start))[start.len()..].to_owned()
    }

    /// Makes the domain with the fuse fault when it is woken next; `how` is one of [`fuse`]'s.
    pub fn light(&self, how: u64) {
        let Running::Machine(_, Some((domain, memory))) = &self.running else { panic!("no domain has a fuse") };
        let mark = fuse::MAGIC.map(u64::to_le_bytes).concat();
        let places = memory.find(&mark).expect("the machine's memory");
        assert!(!places.is_empty(), "no fuse in the machine's memory");
        // Nobody reads what the boot has left behind of a program.
        for place in places {
            memory.write(place + mark.len() as u64, &how.to_le_bytes()).expect("the machine's memory");
        }
        self.lit.set(Some(domain));
    }

    /// Domains that have died since this was last asked.
    pub fn deaths(&self) -> Vec<String> {
        match &self.running {
            Running::Native(system) => system.deaths().try_iter().map(|death| death.to_string()).collect(),
            // On seL4 the node itself says it.
            Running::Machine(..) => {
                self.console.lock().iter().filter(|line| line.contains(" died; ")).cloned().collect()
            }
        }
    }
}

/// What the console says of a domain's death.
pub fn died(domain: &str) -> String {
    format!("genesis: fault {domain} died; power-cycle the node")
}

impl Drop for Node {
    fn drop(&mut self) {
        let mut deaths = self.deaths();
        if let Some(domain) = self.lit.get() {
            deaths.retain(|line| *line != died(domain));
        }
        // A test that fails already says more about why.
        if !thread::panicking() {
            assert_eq!(deaths, [] as [String; 0], "domains died");
        }
    }
}

#[derive(Default)]
struct Console {
    lines: Mutex<Vec<String>>,
    more: Condvar,
}

impl Console {
    fn lock(&self) -> std::sync::MutexGuard<'_, Vec<String>> {
        self.lines.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn push(&self, line: String) {
        self.lock().push(line);
        self.more.notify_all();
    }

    fn wait<T>(&self, mut look: impl FnMut(&[String]) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + PATIENCE;
        let mut lines = self.lock();
        loop {
            if let Some(found) = look(&lines) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            lines = self.more.wait_timeout(lines, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}
