//! Starts the processes of a system, each with exactly its own descriptors.

use std::{
    io,
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd},
        unix::process::CommandExt,
    },
    process::{Child, Command, Stdio},
    ptr::null_mut,
    sync::{Arc, atomic::AtomicU64},
};

use rustix::{
    fs::{MemfdFlags, SeekFrom, memfd_create, seek},
    io::write,
    mm::{MapFlags, ProtFlags, mmap, munmap},
    process::{Pid, PidfdFlags, pidfd_open},
};
use shm::{ReadOnly, region::WORD};

use super::{
    Death, StartError, failed,
    parts::{self, Part},
};
use crate::{
    boot::{Boot, VARIABLE},
    words::{self, LastWords},
};

/// A domain's process. Dropping it kills it.
pub(super) struct Process {
    pub name: String,
    child: Child,
    pidfd: OwnedFd,
    words: Words,
    ended: Option<Arc<OwnedFd>>,
}

/// Starts a process of a domain, which lives no longer than the calling thread.
pub(super) fn one(part: &mut Part) -> Result<Process, StartError> {
    start(part).map_err(|error| failed(format!("domain {}", part.boot.domain), error))
}

fn start(part: &mut Part) -> io::Result<Process> {
    let last = parts::words()?;
    part.boot.words = last.as_raw_fd();
    let boot = boot_file(&part.boot)?;
    let passed = part.fds.iter().map(|fd| fd.as_raw_fd()).chain([last.as_raw_fd(), boot.as_raw_fd()]);
    let passed: Vec<RawFd> = passed.collect();
    let words = Words::map(&last)?;
    let runner = rustix::process::getpid();
    let mut command = Command::new(&part.program);
    command
        .arg0(&part.boot.domain)
        .env_clear()
        .env(VARIABLE, boot.as_raw_fd().to_string())
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        // An interrupt from the terminal is for the runner.
        .process_group(0);
    let prepare = move || prepare(runner, &passed);
    // SAFETY: between fork and exec it only makes system calls and reads what was there before.
    unsafe { command.pre_exec(prepare) };
    let mut child = command.spawn()?;
    match pidfd(&child) {
        Ok(pidfd) => Ok(Process { name: part.boot.domain.clone(), child, pidfd, words, ended: part.ended.clone() }),
        Err(error) => {
            let _ = child.kill();
            let _ = child.wait();
            Err(error)
        }
    }
}

fn pidfd(child: &Child) -> io::Result<OwnedFd> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw).ok_or(io::ErrorKind::InvalidData)?;
    Ok(pidfd_open(pid, PidfdFlags::empty())?)
}

fn boot_file(boot: &Boot) -> io::Result<OwnedFd> {
    let text = serde_json::to_vec(boot)?;
    let file = memfd_create("boot", MemfdFlags::CLOEXEC)?;
    let mut rest = text.as_slice();
    while !rest.is_empty() {
        rest = rest.get(write(&file, rest)?..).unwrap_or_default();
    }
    seek(&file, SeekFrom::Start(0))?;
    Ok(file)
}

/// In the child, before its program: it dies with the runner, blocks no signal that the runner blocks, and only
/// these descriptors outlive exec.
fn prepare(runner: Pid, passed: &[RawFd]) -> io::Result<()> {
    // SAFETY: the set is made by sigemptyset before it is used.
    let unblocked = unsafe {
        let mut none = std::mem::zeroed();
        libc::sigemptyset(&mut none);
        libc::sigprocmask(libc::SIG_SETMASK, &none, null_mut())
    };
    if unblocked < 0 {
        return Err(io::Error::last_os_error());
    }
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL))?;
    // The runner may have died before that.
    if rustix::process::getppid() != Some(runner) {
        return Err(io::ErrorKind::NotConnected.into());
    }
    for fd in passed {
        // SAFETY: open in the runner, which holds it until the child has been started.
        let fd = unsafe { BorrowedFd::borrow_raw(*fd) };
        rustix::io::fcntl_setfd(fd, rustix::io::FdFlags::empty())?;
    }
    Ok(())
}

impl Process {
    /// Whether it runs.
    pub fn lives(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// How it ended; it has.
    pub fn bury(mut self) -> Death {
        match self.child.wait() {
            Ok(status) => {
                if let Some(parent) = &self.ended {
                    // Fails only if the parent has been told and has not looked.
                    let _ = write(parent, &1u64.to_ne_bytes());
                }
                Death::new(&self.name, status, self.words.read())
            }
            Err(error) => unreachable!("waiting for an own child: {error}"),
        }
    }
}

impl AsFd for Process {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.pidfd.as_fd()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // Both fail only if it has ended and been waited for.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The runner's view of a page of last words.
struct Words(*mut [AtomicU64; words::SIZE / WORD]);

// SAFETY: the mapping belongs to this value alone, and is of atomics.
unsafe impl Send for Words {}

impl Words {
    fn map(file: &Arc<OwnedFd>) -> io::Result<Self> {
        // SAFETY: a new mapping at a place of the kernel's choice.
        let page = unsafe { mmap(null_mut(), words::SIZE, ProtFlags::READ, MapFlags::SHARED, file, 0)? };
        Ok(Self(page.cast()))
    }

    fn read(&self) -> LastWords {
        // SAFETY: mapped until drop; the file is that long and sealed; all who map it use atomics.
        let words = unsafe { &*self.0 };
        LastWords::read(ReadOnly::new(words))
    }
}

impl Drop for Words {
    fn drop(&mut self) {
        // SAFETY: `map` made it and nothing borrows it any more. It fails on no mapping that is there.
        let _ = unsafe { munmap(self.0.cast(), words::SIZE) };
    }
}
