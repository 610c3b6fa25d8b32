//! The Linux object that stands for a device.

use std::{cell::Cell, os::fd::BorrowedFd};

use rustix::{
    event::PollFlags,
    fs::fdatasync,
    io::{Errno, pread, pwrite, read, write},
    time::{Itimerspec, TimerfdTimerFlags, Timespec, timerfd_settime},
};
use shm::Micros;
use sysdesc::DeviceKind;

use crate::boot::BootDevice;

pub(super) struct State {
    pub name: String,
    kind: DeviceKind,
    fd: Option<BorrowedFd<'static>>,
    mac: [u8; 6],
    /// What the domain is to be woken for: that it has something, or room.
    awaited: Cell<PollFlags>,
    /// Nothing will come any more.
    ended: Cell<bool>,
}

impl State {
    pub fn leak(device: &BootDevice) -> &'static Self {
        Box::leak(Box::new(Self {
            name: device.name.clone(),
            kind: device.kind,
            fd: device.fd.map(super::borrow),
            mac: device.mac,
            awaited: Cell::new(PollFlags::empty()),
            ended: Cell::new(false),
        }))
    }

    pub fn awaited(&self) -> Option<(BorrowedFd<'static>, PollFlags)> {
        let what = self.awaited.get();
        self.fd.filter(|_| !what.is_empty() && !self.ended.get()).map(|fd| (fd, what))
    }

    fn wait_for(&self, what: PollFlags, wait: bool) {
        let mut awaited = self.awaited.get();
        awaited.set(what, wait);
        self.awaited.set(awaited);
    }
}

/// A device. A domain that has read it empty is woken when there is more.
#[derive(Clone, Copy)]
pub struct Device(pub(super) &'static State);

impl Device {
    /// The MAC address of a network device; it means nothing for any other.
    pub fn mac(self) -> [u8; 6] {
        self.0.mac
    }

    /// Takes what is there: of a switch port one frame, cut off if `to` is shorter. Never waits.
    pub fn read(self, to: &mut [u8]) -> Option<usize> {
        let got = read(self.0.fd?, &mut *to);
        self.0.wait_for(PollFlags::IN, got.is_err());
        match got {
            Ok(0) if self.0.kind == DeviceKind::EntropyPipe => {
                self.0.ended.set(true);
                None
            }
            Ok(length) => Some(length),
            Err(_) => None,
        }
    }

    /// Sends a frame. False: there is no room, and the domain is woken when there is. Where nothing is plugged in,
    /// or the switch has gone, frames are lost, as on a wire.
    pub fn send(self, frame: &[u8]) -> bool {
        let Some(fd) = self.0.fd else { return true };
        let full = matches!(write(fd, frame), Err(Errno::AGAIN | Errno::NOBUFS | Errno::INTR));
        self.0.wait_for(PollFlags::OUT, full);
        !full
    }

    /// Writes out text; what cannot be written is lost.
    pub fn print(self, text: &[u8]) {
        let mut rest = text;
        while let Some(fd) = self.0.fd.filter(|_| !rest.is_empty()) {
            match write(fd, rest) {
                Ok(count) => rest = rest.get(count..).unwrap_or_default(),
                Err(Errno::INTR) => {}
                Err(_) => return,
            }
        }
    }

    /// Reads a flash from this byte on: all of `to`, or it fails.
    pub fn read_at(self, at: usize, to: &mut [u8]) -> bool {
        let Some(fd) = self.0.fd else { return false };
        let mut done = 0;
        while let Some(rest) = to.get_mut(done..).filter(|rest| !rest.is_empty()) {
            match pread(fd, rest, (at + done) as u64) {
                Ok(0) | Err(_) => return false,
                Ok(count) => done += count,
            }
        }
        true
    }

    /// Writes to a flash from this byte on: all of `bytes`, or it fails.
    pub fn write_at(self, at: usize, bytes: &[u8]) -> bool {
        let Some(fd) = self.0.fd else { return false };
        let mut done = 0;
        while let Some(rest) = bytes.get(done..).filter(|rest| !rest.is_empty()) {
            match pwrite(fd, rest, (at + done) as u64) {
                Ok(0) | Err(_) => return false,
                Ok(count) => done += count,
            }
        }
        true
    }

    /// What was written to a flash outlasts the host's power from here on. For a file in memory that is nothing.
    pub fn sync(self) -> bool {
        self.0.fd.is_some_and(|fd| fdatasync(fd).is_ok())
    }

    /// Lets a timer wake this domain at `deadline`, or stops it.
    pub fn arm(self, deadline: Option<Micros>) {
        let Some(fd) = self.0.fd else { return };
        // Reading takes back an alarm that has gone off, and asks to be woken by the next one.
        let _ = self.read(&mut [0; 8]);
        self.0.wait_for(PollFlags::IN, true);
        // All zero stops it.
        let at = deadline.map_or(0, |at| at.max(1));
        let value = Timespec { tv_sec: (at / 1_000_000).cast_signed(), tv_nsec: (at % 1_000_000 * 1000).cast_signed() };
        let time = Itimerspec { it_interval: Timespec { tv_sec: 0, tv_nsec: 0 }, it_value: value };
        // Fails on no value that can come out above.
        let _ = timerfd_settime(fd, TimerfdTimerFlags::ABSTIME, &time);
    }
}
