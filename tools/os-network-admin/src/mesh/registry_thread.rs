//! The thread that has the registry open while the mesh is up: it writes down what nodes have said, and reads what the interface
//! is to be. So what moves packets waits for no disk and for no other process.

use std::{
    sync::mpsc::{self, RecvTimeoutError},
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::sync::{mpsc as answers, oneshot};

use super::{
    control::Reply,
    intake::Words,
    snapshot::{Change, Snapshot, changes},
};
use crate::{
    base::{
        error::{Error, Exit},
        mesh_key::MeshKey,
        say::say,
    },
    registry::{Changes, Event, Fleet, Kind, Registry, Tag},
};

/// How often the registry is looked at for what other processes have changed without a word.
const LOOK: Duration = Duration::from_millis(500);

/// Whoever waits until the interface is as the registry says.
pub type Teller = oneshot::Sender<Reply>;

enum Job {
    /// What members have said, and the highest stamp.
    Write(Words, i64),
    /// Read the registry, whether or not it has changed.
    Read(Teller),
    Log(Event),
}

/// What the thread has done.
pub enum Done {
    /// What was to be written is, with so many receipts that are none, or why it is not.
    Written(Result<(i64, u64), (Words, Error)>),
    /// This is how the registry is now.
    Read(Box<Snapshot>, Option<Teller>),
    /// This has changed since.
    Changed(Vec<Change>),
}

/// The other end of the thread.
pub struct RegistryThread {
    jobs: mpsc::Sender<Job>,
    done: answers::UnboundedReceiver<Done>,
    thread: JoinHandle<()>,
    is_up: bool,
}

struct Kept {
    registry: Registry,
    key: MeshKey,
    fleet: Fleet,
    /// The file and the fleet were read then.
    version: i64,
    revision: i64,
}

impl RegistryThread {
    /// Reads the registry for the first time.
    pub fn start(registry: Registry, key: MeshKey, fleet: &[u8; 32]) -> Result<(Self, Snapshot), Error> {
        let fleet = registry.fleet(fleet)?;
        let fleet =
            fleet.ok_or_else(|| Error::new(Exit::Registry, "the registry does not have this fleet any more"))?;
        let mut kept = Kept { version: 0, revision: 0, registry, key, fleet };
        let known = kept.read()?;
        let (jobs, to_do) = mpsc::channel();
        let (tell, done) = answers::unbounded_channel();
        let run = move || kept.serve(&to_do, &tell);
        let thread = thread::Builder::new().name("registry".into()).spawn(run);
        let thread =
            thread.map_err(|error| Error::new(Exit::Other, format!("the registry's thread cannot run: {error}")))?;
        Ok((Self { jobs, done, thread, is_up: false }, known))
    }

    /// Has this written down. Nobody waits for it.
    pub fn write(&self, words: Words, stamp_ms: i64) {
        // If the thread has died, `done` says it.
        let _ = self.jobs.send(Job::Write(words, stamp_ms));
    }

    /// Has the registry read again, for somebody who waits.
    pub fn read(&self, teller: Teller) {
        let _ = self.jobs.send(Job::Read(teller));
    }

    /// Has it logged that the mesh is up, and in the end that it is not.
    pub fn is_up(&mut self, fleet: &str, interface: &str, engine: &str) {
        self.is_up = true;
        let what = format!("{interface}, WireGuard of {engine}");
        let _ = self.jobs.send(Job::Log(Event::new(Kind::MeshUp).text(Tag::Name, fleet).text(Tag::What, &what)));
    }

    /// What was done next. `None`: the thread has died.
    pub async fn done(&mut self) -> Option<Done> {
        self.done.recv().await
    }

    /// After all that is to be written is.
    pub fn end(self) {
        if self.is_up {
            let _ = self.jobs.send(Job::Log(Event::new(Kind::MeshDown)));
        }
        drop(self.jobs);
        // It has said what was wrong.
        let _ = self.thread.join();
    }
}

impl Kept {
    fn serve(mut self, jobs: &mpsc::Receiver<Job>, tell: &answers::UnboundedSender<Done>) {
        loop {
            let told = match jobs.recv_timeout(LOOK) {
                Ok(Job::Write(words, stamp_ms)) => tell.send(Done::Written(self.write(words, stamp_ms))),
                Ok(Job::Read(teller)) => match self.read() {
                    Ok(known) => tell.send(Done::Read(Box::new(known), Some(teller))),
                    Err(error) => {
                        say(&error);
                        // Whoever asked may be gone.
                        let _ = teller.send(Reply::Error(error.message));
                        Ok(())
                    }
                },
                Ok(Job::Log(event)) => {
                    // The mesh is up or down whether or not it can be told.
                    self.registry.log(event).unwrap_or_else(|error| say(&error));
                    Ok(())
                }
                // The registry may be locked for a moment; then the next look sees it.
                Err(RecvTimeoutError::Timeout) if self.registry.version().is_ok_and(|now| now != self.version) => {
                    match self.look() {
                        Ok(Some(done)) => tell.send(done),
                        Ok(None) => Ok(()),
                        Err(error) => {
                            say(&error);
                            Ok(())
                        }
                    }
                }
                Err(RecvTimeoutError::Timeout) => Ok(()),
                Err(RecvTimeoutError::Disconnected) => return,
            };
            // The daemon ends: what is left to do is done all the same.
            let _ = told;
        }
    }

    fn write(&self, words: Words, stamp_ms: i64) -> Result<(i64, u64), (Words, Error)> {
        let written = self.registry.whole(|registry| {
            registry.store_telemetry(&words.said)?;
            registry.raise_stamp(stamp_ms)?;
            registry.store_receipts(words.receipts.iter().map(|(_, receipt)| receipt))
        });
        match written {
            Ok(bad) => Ok((stamp_ms, bad)),
            Err(error) => {
                say(&error);
                Err((words, error))
            }
        }
    }

    fn read(&mut self) -> Result<Snapshot, Error> {
        // Before the rest: a change meanwhile is seen at the next look.
        let version = self.registry.version()?;
        let known = Snapshot::load(&self.registry, &self.fleet, &self.key)?;
        (self.version, self.revision) = (version, known.revision);
        self.fleet.clone_from(&known.fleet);
        Ok(known)
    }

    /// What other processes have changed, if it is about the interface: no more is read than that.
    fn look(&mut self) -> Result<Option<Done>, Error> {
        let version = self.registry.version()?;
        let done = match self.registry.changes(&self.fleet.id, self.revision)? {
            Changes::None => None,
            Changes::All => return self.read().map(|snapshot| Some(Done::Read(Box::new(snapshot), None))),
            Changes::Some { nodes, freed, revision } => {
                self.revision = revision;
                Some(Done::Changed(changes(&self.fleet, freed, &nodes)))
            }
        };
        self.version = version;
        Ok(done)
    }
}
