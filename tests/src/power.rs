//! Power that goes at an event, never after a time: at the n-th write to a node's flash, or the n-th frame at its port.

use std::{
    fs::{self, File},
    mem::{self, MaybeUninit},
    path::{Path, PathBuf},
    sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError},
    thread,
};

use lab::Cutter;
use rustix::fs::inotify::{CreateFlags, ReadFlags, Reader, WatchFlags, add_watch, init};

use crate::PATIENCE;

/// What is counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Event {
    /// To the file of the flash. The kernel may count some that come at once as one.
    Write,
    /// To the node's port or from it.
    Frame,
}

/// Events since it was armed.
#[derive(Debug, Clone, Copy, Default)]
pub struct Counts {
    pub writes: u64,
    pub frames: u64,
    /// Whether it has cut the power.
    pub fell: bool,
}

/// Who cuts the power of one node.
pub struct Blade {
    device: PathBuf,
    state: Mutex<State>,
    more: Condvar,
}

/// The file whose making says that all writes before it have been counted.
const MARK: &str = "mark";

#[derive(Default)]
struct State {
    counts: Counts,
    marks: u64,
    at: Option<(Event, u64)>,
    /// Of a node that is on.
    cutter: Option<Cutter>,
}

impl State {
    fn fall(&mut self) {
        let Some((event, number)) = self.at else { return };
        let counted = match event {
            Event::Write => self.counts.writes,
            Event::Frame => self.counts.frames,
        };
        if counted >= number
            && !self.counts.fell
            && let Some(cutter) = &self.cutter
        {
            cutter.cut();
            self.counts.fell = true;
        }
    }
}

impl Blade {
    /// Sees each write to the flash of the device in this directory, until the directory is removed.
    pub fn over(device: &Path) -> Arc<Self> {
        let this = Self { device: device.to_owned(), state: Mutex::default(), more: Condvar::new() };
        let this = Arc::new(this);
        let seen = Arc::clone(&this);
        let inotify = init(CreateFlags::CLOEXEC).expect("inotify");
        // A read between two writes keeps the kernel from counting them as one.
        add_watch(&inotify, device, WatchFlags::MODIFY | WatchFlags::ACCESS | WatchFlags::CREATE).expect("a directory");
        thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 4096];
            let mut reader = Reader::new(inotify, &mut buffer);
            while let Ok(event) = reader.next()
                && !event.events().contains(ReadFlags::IGNORED)
            {
                let is = |what: &str| event.file_name().is_some_and(|name| name.to_bytes() == what.as_bytes());
                if is("flash") && event.events().contains(ReadFlags::MODIFY) {
                    seen.sees(Event::Write);
                } else if is(MARK) && event.events().contains(ReadFlags::CREATE) {
                    seen.lock().marks += 1;
                    seen.more.notify_all();
                }
            }
        });
        this
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until what was written so far has been counted.
    fn settled(&self) -> MutexGuard<'_, State> {
        let before = self.lock().marks;
        let mark = self.device.join(MARK);
        File::create(&mark).and_then(|_| fs::remove_file(&mark)).expect("a file in the device's directory");
        let wait = self.more.wait_timeout_while(self.lock(), PATIENCE, |state| state.marks == before);
        let (state, timed) = wait.unwrap_or_else(PoisonError::into_inner);
        assert!(!timed.timed_out(), "nobody watches {} any more", self.device.display());
        state
    }

    pub fn sees(&self, event: Event) {
        let mut state = self.lock();
        match event {
            Event::Write => state.counts.writes += 1,
            Event::Frame => state.counts.frames += 1,
        }
        state.fall();
    }

    /// Counts anew, and cuts the power at this event of those to come; without one it only counts.
    pub fn arm(&self, at: Option<(Event, u64)>) {
        let mut state = self.settled();
        (state.counts, state.at) = (Counts::default(), at);
    }

    /// The node is on. What it was to be cut at may have been already.
    pub fn reaches(&self, cutter: Cutter) {
        let mut state = self.lock();
        state.cutter = Some(cutter);
        state.fall();
    }

    /// What there has been since it was armed.
    pub fn counts(&self) -> Counts {
        self.lock().counts
    }

    /// From here on it cuts nothing.
    pub fn rest(&self) -> Counts {
        let mut state = self.settled();
        (state.at, state.cutter) = (None, None);
        mem::take(&mut state.counts)
    }
}
