//! One node: what it runs on, its port, and a thread that reads its console.

use std::{
    collections::BTreeMap,
    fs::{File, OpenOptions},
    io::{BufRead, BufReader, Read, Write},
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use calls::params::Params;
use native::runner::{Entropy, Event, Stopper, System};
use qemu::Memory;
use rustix::process::{Pid, Signal, kill_process};
use segment::switch::Switch;
use zerocopy::IntoBytes;

use crate::{
    boot::{Boot, Device},
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
    /// A directory with the device that it is: flash, device secret, MAC. What is not there is made. Without one the device
    /// is new, and gone with the node.
    pub device: Option<PathBuf>,
    /// The program in the workload's place; on a board, `make tenant` builds it.
    pub tenant: Option<String>,
    /// Domains whose program is the one with a fuse, which `make faulty` builds. Only boards have them.
    pub faulty: Vec<String>,
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
            device: None,
            tenant: None,
            faulty: Vec::new(),
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
    /// It is off.
    Off,
}

/// A running node. It ends when dropped.
pub struct Node {
    name: String,
    board: String,
    boot: Boot,
    log: Option<PathBuf>,
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

    /// What ends from here on has been switched off.
    fn switch_off(&self, signal: Option<Signal>) {
        let mut seen = self.lock();
        seen.off = true;
        for pid in seen.running().into_values() {
            if let (Some(signal), Some(pid)) = (signal, i32::try_from(pid).ok().and_then(Pid::from_raw)) {
                // Whoever has ended already needs no end.
                let _ = kill_process(pid, signal);
            }
        }
    }
}

/// Cuts a node's power from any thread, at the moment at which something is seen. It is of one power-up.
pub struct Cutter {
    watched: Arc<Watched>,
    /// Of the domains that are processes.
    stopper: Option<Stopper>,
}

impl Cutter {
    /// All processes are killed at once. That none is left is [`Node::cut`]'s to wait for.
    pub fn cut(&self) {
        self.watched.switch_off(Some(Signal::KILL));
        if let Some(stopper) = &self.stopper {
            stopper.stop();
        }
    }
}

impl Node {
    pub(crate) fn boot(name: String, description: &str, switch: &Switch, options: NodeOptions) -> Result<Self> {
        let native = options.board == NATIVE;
        let device = match options.device {
            Some(dir) => Device::kept(dir, native)?,
            None => Device::new(switch.dir().join(format!("{name}.device")), options.device_secret, native)?,
        };
        let own = switch.dir().join(&name);
        let behind = switch.attach(&name, &own)?;
        let mut prefill = BTreeMap::from([("params".to_owned(), options.params.as_bytes().to_vec())]);
        prefill.extend(options.anchor.map(|bytes| ("anchor".to_owned(), bytes)));
        let boot = Boot {
            name: name.clone(),
            description: description.to_owned(),
            dir: switch.dir().to_owned(),
            own,
            behind,
            device,
            prefill,
            entropy: options.entropy,
            tenant: options.tenant,
            faulty: options.faulty,
            image: None,
        };
        if let Some(log) = &options.log {
            open_log(log, true)?;
        }
        let watched = Arc::new(Watched { seen: Mutex::default(), more: Condvar::new(), changed: options.changed });
        let mut node =
            Self { name, board: options.board, boot, log: options.log, end: End::Off, watched, threads: Vec::new() };
        node.on()?;
        Ok(node)
    }

    /// Switches it on: it boots with the flash and the device secret that it has. The log of its console goes on; what is
    /// seen of it begins anew. A node on a board ends at the latest with the thread that calls this.
    pub fn on(&mut self) -> Result<()> {
        ensure!(matches!(self.end, End::Off), "{} is on", self.name);
        let log = self.log.as_deref().map(|path| open_log(path, false)).transpose()?;
        *self.watched.lock() = Seen::default();
        let name = self.name.clone();
        let thread = || thread::Builder::new().name(name.clone());
        let (of_console, of_deaths) = (Arc::clone(&self.watched), Arc::clone(&self.watched));
        let watched = &self.watched;
        let running = |processes: &[(String, u32)]| watched.lock().processes.extend(processes.iter().cloned());
        (self.end, self.threads) = if self.board == NATIVE {
            let (system, console) = native_node::start(&self.boot)?;
            running(system.pids());
            let end = End::Domains(system.stopper());
            let reader = thread().spawn(move || follow(console, log, &of_console))?;
            (end, vec![reader, thread().spawn(move || bury(system, &of_deaths))?])
        } else {
            let (powered, console) = machine::start(&self.board, &mut self.boot)?;
            running(&[(PROCESS.to_owned(), powered.pid())]);
            let reader = thread().spawn(move || {
                follow(console, log, &of_console);
                of_console.change(|seen| {
                    seen.died(PROCESS, "the machine has ended");
                    seen.ended = true;
                });
            })?;
            (End::Machine(Some(Box::new(powered))), vec![reader])
        };
        Ok(())
    }

    /// Ends it as somebody does who switches it off: each of its processes may still do what it does when it ends.
    pub fn off(&mut self) {
        let signal = if matches!(self.end, End::Machine(_)) { Some(Signal::TERM) } else { None };
        self.end(signal);
    }

    /// Cuts its power: all its processes are killed at once.
    pub fn cut(&mut self) {
        self.end(Some(Signal::KILL));
    }

    fn end(&mut self, signal: Option<Signal>) {
        self.watched.switch_off(signal);
        if let End::Domains(stopper) = &self.end {
            stopper.stop();
        }
        for thread in self.threads.drain(..) {
            // What it had to say of its end it has said.
            let _ = thread.join();
        }
        self.end = End::Off;
        self.watched.change(|seen| {
            seen.processes.clear();
            seen.ended = true;
        });
    }

    /// Who cuts its power where it is not in reach.
    pub fn cutter(&self) -> Cutter {
        let stopper = if let End::Domains(stopper) = &self.end { Some(stopper.clone()) } else { None };
        Cutter { watched: Arc::clone(&self.watched), stopper }
    }

    /// What stands in its flash.
    pub fn flash(&self) -> Result<Vec<u8>> {
        let Device { dir, flash, .. } = &self.boot.device;
        let Some(flash) = flash else { return qemu::flash(&self.board, dir) };
        let mut bytes = vec![0; native::flash::SIZE];
        File::from(flash.try_clone()?).read_exact_at(&mut bytes, 0)?;
        Ok(bytes)
    }

    /// Makes another device of it, which has forgotten all: its identity is gone for ever. It must be off.
    pub fn wipe(&mut self) -> Result<()> {
        ensure!(matches!(self.end, End::Off), "{} is on", self.name);
        self.boot.device.wipe()
    }

    /// Whether it has power.
    pub fn is_on(&self) -> bool {
        !matches!(self.end, End::Off)
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
        self.boot.device.mac
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
            End::Domains(_) | End::Off => None,
            End::Machine(powered) => powered.as_deref(),
        }
    }

    /// The processes of the domains that have not died; of a node on a board, the machine's.
    pub fn processes(&self) -> BTreeMap<String, u32> {
        self.watched.lock().running()
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
        self.watched.lock().off = true;
        match &mut self.end {
            End::Domains(stopper) => stopper.stop(),
            End::Machine(powered) => drop(powered.take()),
            End::Off => {}
        }
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// It may show a ticket: nobody else may read it.
fn open_log(path: &Path, anew: bool) -> Result<File> {
    let mut options = OpenOptions::new();
    options
        .write(true)
        .append(!anew)
        .create(true)
        .truncate(anew)
        .mode(0o600)
        .open(path)
        .with_context(|| path.display().to_string())
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
                seen.died(&death.domain, death.to_string());
            }
            Event::Restarted { domain, pid } => drop(seen.processes.insert(domain, pid)),
        });
    }
    system.wait();
    watched.change(|seen| seen.ended = true);
}
