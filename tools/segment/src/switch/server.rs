//! The switch's thread, and what it shares with those who look at the switch.

use std::{
    io,
    path::Path,
    sync::{
        Arc, Condvar, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::Duration,
};

use rustix::{
    event::{EventfdFlags, Timespec, epoll, eventfd},
    fd::OwnedFd,
    io::Errno,
};

use super::{
    control::Control,
    hub::{Hub, LISTENER, WAKE},
};

pub(super) struct Shared {
    hub: Mutex<Hub>,
    /// Frames were recorded.
    recorded: Condvar,
    stop: AtomicBool,
    /// Makes the thread look up.
    wake: OwnedFd,
}

impl Shared {
    /// A test that panicked while it looked at frames has broken nothing.
    pub fn hub(&self) -> MutexGuard<'_, Hub> {
        self.hub.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The hub, after all that any port has sent by now has been received.
    pub fn hub_now(&self) -> MutexGuard<'_, Hub> {
        let mut hub = self.hub();
        if hub.receive_all() {
            self.recorded.notify_all();
            // What is to be passed on is the thread's to do.
            self.wake();
        }
        hub
    }

    fn wake(&self) {
        // Full is awake.
        let _ = rustix::io::write(&self.wake, &1u64.to_ne_bytes());
    }

    /// Gives the hub back until more frames have been recorded, or the time is over.
    pub fn wait_recorded<'a>(&'a self, hub: MutexGuard<'a, Hub>, patience: Duration) -> MutexGuard<'a, Hub> {
        self.recorded.wait_timeout(hub, patience).unwrap_or_else(PoisonError::into_inner).0
    }

    /// Ends the thread.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Release);
        self.wake();
    }
}

/// Starts the thread.
pub(super) fn start(dir: &Path, record: &Path, tap: bool) -> io::Result<(Arc<Shared>, JoinHandle<()>)> {
    let wake = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
    let hub = Hub::new(dir, record, tap, &wake)?;
    let control = Control::listen(dir, &hub)?;
    let stop = AtomicBool::new(false);
    let shared = Arc::new(Shared { hub: Mutex::new(hub), recorded: Condvar::new(), stop, wake });
    let of_thread = Arc::clone(&shared);
    let thread = thread::Builder::new().name("switch".into()).spawn(move || run(&of_thread, control))?;
    Ok((shared, thread))
}

/// The switch's thread.
fn run(shared: &Shared, mut control: Control) {
    let mut events = Vec::with_capacity(64);
    let mut again = None;
    let Ok(epoll) = shared.hub().epoll.try_clone() else { return };
    loop {
        events.clear();
        let timeout = again.and_then(|wait: Duration| Timespec::try_from(wait).ok());
        match epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), timeout.as_ref()) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                // Nothing can be waited for any more. The epoll set is this process's own: it cannot be.
                shared.hub().fail(&error.into());
                return;
            }
        }
        let mut hub = shared.hub();
        if shared.stop.load(Ordering::Acquire) {
            hub.close();
            return;
        }
        let mut recorded = false;
        for event in &events {
            match event.data.u64() {
                WAKE => {
                    let _ = rustix::io::read(&shared.wake, &mut [0; 8]);
                }
                LISTENER => control.accept(&mut hub),
                id => match hub.turn(id) {
                    Some(more) => recorded |= more,
                    None => control.serve(id, &mut hub),
                },
            }
        }
        again = hub.flush();
        drop(hub);
        if recorded {
            shared.recorded.notify_all();
        }
    }
}
