//! Tun devices: an interface whose packets a process reads and writes, without Ethernet around them.

use std::{
    fs::OpenOptions,
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, BorrowedFd, RawFd},
        unix::fs::OpenOptionsExt,
    },
};

use nix::libc;

use crate::{checked, name_field};

/// `TUNSETIFF` of linux/if_tun.h.
const TUNSETIFF: libc::Ioctl = 0x4004_54ca;

/// An open device. Its interface goes when it is dropped.
pub struct Tun(std::fs::File);

impl Tun {
    /// Makes the interface, which is down and has no address.
    pub fn make(name: &str) -> io::Result<Self> {
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).custom_flags(libc::O_NONBLOCK).open("/dev/net/tun")?;
        let flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
        let value = libc::__c_anonymous_ifr_ifru { ifru_flags: flags };
        let mut request = libc::ifreq { ifr_name: name_field(name)?, ifr_ifru: value };
        // SAFETY: the request lives through the call and is what this command takes.
        checked(unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, &raw mut request) })?;
        Ok(Self(file))
    }

    /// A packet that waits already; else the error is `WouldBlock`.
    pub fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        (&self.0).read(buffer)
    }

    /// Sends a packet to this host, or says why it was not taken.
    pub fn send(&self, packet: &[u8]) -> io::Result<()> {
        (&self.0).write(packet).map(|_| ())
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl AsRawFd for Tun {
    fn as_raw_fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }
}
