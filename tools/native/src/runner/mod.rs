//! Starts a system description as Linux processes, one per domain, and says how each ends.
//!
//! [`System::start`] makes the memory, the notifications and the devices, starts each program with exactly its
//! own descriptors, and maps none of the memory itself. One thread per system waits for deaths, and starts a domain anew
//! when its parent says so.

mod config;
mod death;
mod feed;
mod parts;
mod spawn;

use std::{
    io,
    os::fd::{AsFd, OwnedFd},
    path::PathBuf,
    sync::{
        Arc,
        mpsc::{self, Receiver, Sender},
    },
    thread::{self, JoinHandle},
};

use rustix::{
    event::{EventfdFlags, PollFd, PollFlags, eventfd, poll},
    io::{Errno, read, write},
};
use sysdesc::Refused;

pub use config::{BadOption, Config, Entropy, Plug, program_dir};
pub use death::{Cause, Death};
pub use feed::feed;
use parts::Part;
use spawn::Process;

/// Why a system does not run.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The description breaks a rule.
    #[error(transparent)]
    Refused(#[from] Refused),
    /// Something that it needs is missing or fails.
    #[error("{0}")]
    Failed(String),
}

impl StartError {
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Refused(_) => 3,
            Self::Failed(_) => 4,
        }
    }
}

/// A running system. Dropping it ends it.
pub struct System {
    pids: Vec<(String, u32)>,
    events: Receiver<Event>,
    stopper: Stopper,
    supervisor: Option<JoinHandle<Outcome>>,
}

/// What happens in a running system.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Died(Death),
    /// Its parent had it started anew, in this process.
    Restarted {
        domain: String,
        pid: u32,
    },
}

/// Ends a system from anywhere.
#[derive(Clone)]
pub struct Stopper(Arc<OwnedFd>);

impl Stopper {
    pub fn stop(&self) {
        // Fails only if it has been told very often.
        let _ = write(&*self.0, &1u64.to_ne_bytes());
    }
}

/// How a system ended: the deaths in their order. Those that it was stopped with are none.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    pub deaths: Vec<Death>,
}

impl Outcome {
    /// What `native run` exits with.
    pub fn exit_code(&self) -> u8 {
        self.deaths.iter().map(Death::exit_code).find(|code| *code != 0).unwrap_or(0)
    }
}

impl System {
    pub fn start(config: Config) -> Result<Self, StartError> {
        let system = sysdesc::elaborate(&config.description, &config.board)?;
        let keep_going = config.keep_going;
        let parts = parts::make(&system, config)?;
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stopper = Stopper(Arc::new(stop.map_err(|error| StartError::Failed(error.to_string()))?));
        let (told, started) = mpsc::channel();
        let (tell, events) = mpsc::channel();
        let stop = stopper.clone();
        // A domain dies with the thread that started it, so that thread waits for it too.
        let supervise = move || match Supervisor::new(parts, tell, keep_going) {
            Ok(supervisor) => {
                // Nobody listens any more: the system is dropped, and `stop` says so.
                let _ = told.send(Ok(supervisor.pids()));
                supervisor.run(&stop)
            }
            Err(error) => {
                let _ = told.send(Err(error));
                Outcome::default()
            }
        };
        let supervisor = thread::Builder::new().name("supervisor".to_owned()).spawn(supervise);
        let supervisor = supervisor.map_err(|error| StartError::Failed(error.to_string()))?;
        let pids = started.recv().unwrap_or_else(|_| Err(StartError::Failed("the supervisor died".to_owned())))?;
        Ok(Self { pids, events, stopper, supervisor: Some(supervisor) })
    }

    /// Every domain and its first process.
    pub fn pids(&self) -> &[(String, u32)] {
        &self.pids
    }

    /// Deaths and restarts as they happen; the channel ends when no domain is left.
    pub fn events(&self) -> &Receiver<Event> {
        &self.events
    }

    pub fn stopper(&self) -> Stopper {
        self.stopper.clone()
    }

    /// Waits until no domain is left: all have finished, one has died (without `keep_going`), or it was stopped.
    pub fn wait(mut self) -> Outcome {
        self.join()
    }

    /// Ends it now.
    pub fn stop(mut self) -> Outcome {
        self.stopper.stop();
        self.join()
    }

    fn join(&mut self) -> Outcome {
        let supervisor = self.supervisor.take();
        supervisor.and_then(|supervisor| supervisor.join().ok()).unwrap_or_default()
    }
}

impl Drop for System {
    fn drop(&mut self) {
        self.stopper.stop();
        self.join();
    }
}

/// A domain, and its process while it lives.
struct Ward {
    part: Part,
    process: Option<Process>,
}

/// What a supervisor wakes for.
enum Call {
    Stop,
    Ended(usize),
    /// Its parent wants it to be started anew.
    Restart(usize),
}

struct Supervisor {
    wards: Vec<Ward>,
    tell: Sender<Event>,
    keep_going: bool,
    outcome: Outcome,
}

impl Supervisor {
    /// Starts all, or none.
    fn new(parts: Vec<Part>, tell: Sender<Event>, keep_going: bool) -> Result<Self, StartError> {
        let start = |mut part| Ok(Ward { process: Some(spawn::one(&mut part)?), part });
        let wards = parts.into_iter().map(start).collect::<Result<_, StartError>>()?;
        Ok(Self { wards, tell, keep_going, outcome: Outcome::default() })
    }

    fn pids(&self) -> Vec<(String, u32)> {
        let processes = self.wards.iter().filter_map(|ward| ward.process.as_ref());
        processes.map(|process| (process.name.clone(), process.pid())).collect()
    }

    fn run(mut self, stop: &Stopper) -> Outcome {
        while self.wards.iter().any(|ward| ward.process.is_some()) {
            match self.wait(stop) {
                Call::Stop => break,
                Call::Ended(index) => self.bury(index),
                Call::Restart(index) => self.restart(index),
            }
            if self.outcome.exit_code() != 0 && !self.keep_going {
                break;
            }
        }
        // What is left is ended, and that is no death of its own.
        self.outcome
    }

    fn bury(&mut self, index: usize) {
        if let Some(process) = self.wards.get_mut(index).and_then(|ward| ward.process.take()) {
            self.died(process.bury());
        }
    }

    fn died(&mut self, death: Death) {
        self.outcome.deaths.push(death.clone());
        // Nobody listens any more: the system is dropped.
        let _ = self.tell.send(Event::Died(death));
    }

    fn restart(&mut self, index: usize) {
        // One that has ended by itself has died, whoever heard of it first. Any other hangs, and is ended.
        if self.wards.get_mut(index).and_then(|ward| ward.process.as_mut()).is_some_and(|process| !process.lives()) {
            self.bury(index);
        }
        let Some(ward) = self.wards.get_mut(index) else { return };
        ward.process = None;
        // Its predecessor's end is known by now to whoever wants a successor.
        ward.part.ended.iter().chain(&ward.part.restart).for_each(drain);
        let domain = ward.part.boot.domain.clone();
        match spawn::one(&mut ward.part) {
            Ok(process) => {
                let _ = self.tell.send(Event::Restarted { domain, pid: process.pid() });
                ward.process = Some(process);
            }
            Err(error) => self.died(Death { domain, cause: Cause::NotStarted { reason: error.to_string() } }),
        }
    }

    fn wait(&self, stop: &Stopper) -> Call {
        loop {
            let restarts = self
                .wards
                .iter()
                .enumerate()
                .filter_map(|(index, ward)| Some((Call::Restart(index), ward.part.restart.as_ref()?.as_fd())));
            let ends = self.wards.iter().enumerate();
            let ends = ends.filter_map(|(index, ward)| Some((Call::Ended(index), ward.process.as_ref()?.as_fd())));
            // Ends before restarts: a parent hears of one before it wants the other.
            let calls: Vec<_> = [(Call::Stop, stop.0.as_fd())].into_iter().chain(ends).chain(restarts).collect();
            let mut watched: Vec<_> =
                calls.iter().map(|(_, fd)| PollFd::from_borrowed_fd(*fd, PollFlags::IN)).collect();
            match poll(&mut watched, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => unreachable!("poll of own descriptors: {error}"),
            }
            let rung = watched.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>();
            if let Some((call, _)) = calls.into_iter().zip(rung).find_map(|(call, rung)| rung.then_some(call)) {
                return call;
            }
        }
    }
}

/// Takes what an eventfd has been told.
fn drain(bell: &Arc<OwnedFd>) {
    // Fails only if it was told nothing.
    let _ = read(bell, &mut [0; 8]);
}

/// The first of `dirs`, and then the current directory, that has the file.
fn find(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    dirs.iter().map(|dir| dir.join(name)).chain([PathBuf::from(name)]).find(|path| path.is_file())
}

fn failed(what: impl std::fmt::Display, error: impl Into<io::Error>) -> StartError {
    StartError::Failed(format!("{what}: {}", error.into()))
}
