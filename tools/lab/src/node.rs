//! One node: what it runs on, its port, and a thread that reads its console.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use calls::params::Params;
use native::runner::{Entropy, Event, Stopper, System};
use qemu::Memory;
use rustix::process::{Pid, Signal, kill_process};
use segment::switch::Switch;
use zerocopy::IntoBytes;

use crate::{
    boot::Boot,
    console::Seen,
    machine::{self, PROCESS, Powered},
    native_node,
};

/// The board of nodes that are Linux processes.
pub const NATIVE: &str = "native";

/// How a node starts. The defaults are those of an image without an anchor.
pub struct NodeOptions {
    /// [`NATIVE`], or the board whose release image it boots.
    pub board: String,
    /// The bytes of `anchor.bin`.
    pub anchor: Option<Vec<u8>>,
    pub params: Params,
    pub entropy: Entropy,
    /// 32 bytes; without them random ones: another device.
    pub device_secret: Option<[u8; 32]>,
    /// The program in the workload's place; on a board, `make tenant` builds it.
    pub tenant: Option<String>,
    /// A domain whose program is the one with a fuse, which `make faulty` builds. Only boards have it.
    pub faulty: Option<String>,
    /// Where the console is written to, as it comes.
    pub log: Option<PathBuf>,
    /// Called when anything about the node has changed.
    pub changed: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            board: NATIVE.to_owned(),
            anchor: None,
            params: Params::DEFAULT,
            entropy: Entropy::Good,
            device_secret: None,
            tenant: None,
            faulty: None,
            log: None,
            changed: None,
        }
    }
}

impl NodeOptions {
    /// The same with other windows, deadlines or budgets.
    pub fn with(mut self, change: impl FnOnce(&mut Params)) -> Self {
        change(&mut self.params);
        self
    }
}

/// How a node is ended.
enum End {
    Domains(Stopper),
    /// Nothing once it has been.
    Machine(Option<Box<Powered>>),
}

/// A running node. It ends when dropped.
pub struct Node {
    name: String,
    board: String,
    mac: [u8; 6],
    end: End,
    watched: Arc<Watched>,
    threads: Vec<JoinHandle<()>>,
}

struct Watched {
    seen: Mutex<Seen>,
    more: Condvar,
    changed: Option<Box<dyn Fn() + Send + Sync>>,
}

impl Watched {
    fn lock(&self) -> MutexGuard<'_, Seen> {
        // A test that panicked while it looked has broken nothing.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut Seen)) {
        change(&mut self.lock());
        self.more.notify_all();
        if let Some(changed) = &self.changed {
            changed();
        }
    }
}

impl Node {
    pub(crate) fn boot(name: String, description: &str, switch: &Switch, options: NodeOptions) -> Result<Self> {
        let secret = options.device_secret.map_or_else(random::<32>, Ok)?;
        let mut mac = random::<6>()?;
        // Locally administered, of one station.
        mac[0] = (mac[0] | 0x02) & 0xfe;
        let own = switch.dir().join(&name);
        let behind = switch.attach(&name, &own)?;
        let log = options.log.as_deref().map(open_log).transpose()?;
        let mut prefill = BTreeMap::from([("params".to_owned(), options.params.as_bytes().to_vec())]);
        prefill.extend(options.anchor.map(|bytes| ("anchor".to_owned(), bytes)));
        let boot = Boot {
            name: name.clone(),
            description,
            dir: switch.dir(),
            mac,
            own,
            behind,
            device_secret: secret,
            prefill,
            entropy: options.entropy,
            tenant: options.tenant,
            faulty: options.faulty,
        };
        let watched = Arc::new(Watched { seen: Mutex::default(), more: Condvar::new(), changed: options.changed });
        let thread = || thread::Builder::new().name(name.clone());
        let (of_console, of_deaths) = (Arc::clone(&watched), Arc::clone(&watched));
        let running = |processes: &[(String, u32)]| watched.lock().processes.extend(processes.iter().cloned());
        let (end, threads) = if options.board == NATIVE {
            let (system, console) = native_node::start(boot)?;
            running(system.pids());
            let end = End::Domains(system.stopper());
            let reader = thread().spawn(move || follow(console, log, &of_console))?;
            (end, vec![reader, thread().spawn(move || bury(system, &of_deaths))?])
        } else {
            let (powered, console) = machine::start(&options.board, boot)?;
            running(&[(PROCESS.to_owned(), powered.pid())]);
            let reader = thread().spawn(move || {
                follow(console, log, &of_console);
                of_console.change(|seen| {
                    seen.deaths.push((PROCESS.to_owned(), "the machine has ended".to_owned()));
                    seen.ended = true;
                });
            })?;
            (End::Machine(Some(Box::new(powered))), vec![reader])
        };
        Ok(Self { name, board: options.board, mac, end, watched, threads })
    }

    /// The name of the node, and of its port at the switch.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// What it runs on.
    pub fn board(&self) -> &str {
        &self.board
    }

    pub fn mac(&self) -> [u8; 6] {
        self.mac
    }

    /// The image that a node on a board has booted.
    pub fn image(&self) -> Option<&Path> {
        Some(&self.powered()?.image)
    }

    /// The machine's memory, if a domain has a fuse: it is lit there.
    pub fn memory(&self) -> Option<&Memory> {
        self.powered()?.memory.as_ref()
    }

    fn powered(&self) -> Option<&Powered> {
        match &self.end {
            End::Domains(_) => None,
            End::Machine(powered) => powered.as_deref(),
        }
    }

    /// The processes of the domains that have not died; of a node on a board, the machine's.
    pub fn processes(&self) -> BTreeMap<String, u32> {
        let seen = self.watched.lock();
        if seen.ended { BTreeMap::new() } else { seen.processes.clone() }
    }

    /// What is known of the node now.
    pub fn seen(&self) -> Seen {
        self.watched.lock().clone()
    }

    /// All that the console has said.
    pub fn console(&self) -> String {
        self.watched.lock().text()
    }

    /// The ticket's text, if the node has shown one.
    pub fn ticket(&self) -> Option<String> {
        self.watched.lock().ticket.clone()
    }

    /// Waits until `look` finds what it looks for, at most for `patience`: a hang detector.
    pub fn wait<T>(&self, patience: Duration, mut look: impl FnMut(&Seen) -> Option<T>) -> Option<T> {
        let deadline = Instant::now() + patience;
        let mut seen = self.watched.lock();
        loop {
            if let Some(found) = look(&seen) {
                return Some(found);
            }
            let left = deadline.checked_duration_since(Instant::now())?;
            seen = self.watched.more.wait_timeout(seen, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Waits until the node has reached a phase; it may be past it. The error holds the console.
    pub fn wait_phase(&self, phase: &str, patience: Duration) -> Result<()> {
        let reached = self.wait(patience, |seen| {
            let reached = seen.phases.iter().any(|past| past == phase);
            (reached || seen.ended).then_some(reached)
        });
        match reached {
            Some(true) => Ok(()),
            ended => {
                let why = if ended.is_none() { "has not reached" } else { "has ended before it reached" };
                let deaths: Vec<_> = self.seen().deaths.into_iter().map(|(_, how)| how).collect();
                bail!("{} {why} {phase}. Deaths: {deaths:?}. Its console:\n{}", self.name, self.console())
            }
        }
    }

    /// Kills one domain, as a fault would, or a machine. False if it is dead already.
    pub fn kill(&self, domain: &str) -> bool {
        let pid = self.processes().get(domain).and_then(|pid| Pid::from_raw(i32::try_from(*pid).ok()?));
        pid.is_some_and(|pid| kill_process(pid, Signal::KILL).is_ok())
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        match &mut self.end {
            End::Domains(stopper) => stopper.stop(),
            End::Machine(powered) => drop(powered.take()),
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

fn random<const N: usize>() -> Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("no random bytes")?;
    Ok(bytes)
}

/// It may show a ticket: nobody else may read it.
fn open_log(path: &Path) -> Result<File> {
    let mut options = OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600).open(path).with_context(|| path.display().to_string())
}

/// Reads the console until whoever writes it has ended. The log has a line before anybody is told of it.
fn follow(reader: impl Read, mut log: Option<File>, watched: &Watched) {
    let mut reader = BufReader::new(reader);
    let mut line = Vec::new();
    while matches!(reader.read_until(b'\n', &mut line), Ok(1..)) {
        if let Some(file) = &mut log
            && let Err(error) = file.write_all(&line)
        {
            say::tell!("lab: a console log is cut short: {error}");
            log = None;
        }
        let text = String::from_utf8_lossy(&line);
        watched.change(|seen| seen.take(text.trim_end_matches(['\r', '\n'])));
        line.clear();
    }
}

fn bury(system: System, watched: &Watched) {
    for event in system.events() {
        watched.change(|seen| match event {
            Event::Died(death) => {
                seen.processes.remove(&death.domain);
                seen.deaths.push((death.domain.clone(), death.to_string()));
            }
            Event::Restarted { domain, pid } => drop(seen.processes.insert(domain, pid)),
        });
    }
    system.wait();
    watched.change(|seen| seen.ended = true);
}
