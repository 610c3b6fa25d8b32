//! Starts a system description as Linux processes, one per domain, and says how each ends.
//!
//! [`System::start`] makes the memory, the notifications and the devices, starts each program with exactly its
//! own descriptors, and keeps none of the memory itself. One thread per system waits for deaths.

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
    io::{Errno, write},
};
use sysdesc::Refused;

pub use config::{BadOption, Config, Entropy, Plug, program_dir};
pub use death::{Cause, Death};
pub use feed::feed;
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
    deaths: Receiver<Death>,
    stopper: Stopper,
    supervisor: Option<JoinHandle<Outcome>>,
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
        let (tell, deaths) = mpsc::channel();
        let stop = stopper.clone();
        // A domain dies with the thread that started it, so that thread waits for it too.
        let supervise = move || match spawn::all(parts) {
            Ok(processes) => {
                let pids = processes.iter().map(|process| (process.name.clone(), process.pid())).collect();
                // Nobody listens any more: the system is dropped, and `stop` says so.
                let _ = told.send(Ok(pids));
                Supervisor { processes, tell, keep_going }.run(&stop)
            }
            Err(error) => {
                let _ = told.send(Err(error));
                Outcome::default()
            }
        };
        let supervisor = thread::Builder::new().name("supervisor".to_owned()).spawn(supervise);
        let supervisor = supervisor.map_err(|error| StartError::Failed(error.to_string()))?;
        let pids = started.recv().unwrap_or_else(|_| Err(StartError::Failed("the supervisor died".to_owned())))?;
        Ok(Self { pids, deaths, stopper, supervisor: Some(supervisor) })
    }

    /// Every domain and its process.
    pub fn pids(&self) -> &[(String, u32)] {
        &self.pids
    }

    /// Deaths as they happen; the channel ends when no domain is left.
    pub fn deaths(&self) -> &Receiver<Death> {
        &self.deaths
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

struct Supervisor {
    processes: Vec<Process>,
    tell: Sender<Death>,
    keep_going: bool,
}

impl Supervisor {
    fn run(mut self, stop: &Stopper) -> Outcome {
        let mut outcome = Outcome::default();
        while !self.processes.is_empty() {
            let Some(ended) = self.wait(stop) else { break };
            let process = self.processes.swap_remove(ended);
            let death = process.bury();
            outcome.deaths.push(death.clone());
            let _ = self.tell.send(death);
            if outcome.exit_code() != 0 && !self.keep_going {
                break;
            }
        }
        // What is left is ended, and that is no death of its own.
        drop(self.processes);
        outcome
    }

    /// The index of a process that has ended; none if the system is to stop.
    fn wait(&self, stop: &Stopper) -> Option<usize> {
        loop {
            let watched = self.processes.iter().map(|process| process.as_fd()).chain([stop.0.as_fd()]);
            let mut watched: Vec<_> = watched.map(|fd| PollFd::from_borrowed_fd(fd, PollFlags::IN)).collect();
            match poll(&mut watched, None) {
                Ok(_) | Err(Errno::INTR) => {}
                Err(error) => unreachable!("poll of own descriptors: {error}"),
            }
            let ended = watched.iter().position(|fd| !fd.revents().is_empty());
            if let Some(index) = ended {
                return (index < self.processes.len()).then_some(index);
            }
        }
    }
}

/// The first of `dirs`, and then the current directory, that has the file.
fn find(dirs: &[PathBuf], name: &str) -> Option<PathBuf> {
    dirs.iter().map(|dir| dir.join(name)).chain([PathBuf::from(name)]).find(|path| path.is_file())
}

fn failed(what: impl std::fmt::Display, error: impl Into<io::Error>) -> StartError {
    StartError::Failed(format!("{what}: {}", error.into()))
}
