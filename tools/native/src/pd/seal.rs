//! Gives up, for good, all that a domain does not need: descriptors, limits, privileges, system calls. What
//! stays is read and write on the descriptors that `system.xml` gave it, poll, the clock, and to end.

use std::{collections::BTreeMap, io, os::fd::RawFd};

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter,
};
use sysdesc::DeviceKind;

use super::{dying, heap};
use crate::{boot::Boot, flash};

/// What a console may write to a file: an attacker who makes it talk does not fill the disk. A flash does not grow at all.
const LONGEST_FILE: u64 = 64 << 20;

pub(super) fn seal(boot: &Boot) -> io::Result<()> {
    let rights = Rights::of(boot);
    let filter = filter(&rights).map_err(io::Error::other)?;
    rustix::thread::set_no_new_privs(true)?;
    // Nobody traces it or reads its memory, and it leaves no core file.
    set_dumpable_behavior(DumpableBehavior::NotDumpable)?;
    limit(Resource::Core, 0)?;
    limit(Resource::Nproc, 0)?;
    limit(Resource::Fsize, rights.longest_file)?;
    limit(Resource::Memlock, 0)?;
    dying::install_handlers()?;
    // The first look at the clock finds the kernel's page for it, with calls that the filter forbids.
    super::now();
    rights.close_all_others()?;
    if !heap::seal() {
        return Err(io::Error::other("the program does not use native::pd::Heap"));
    }
    apply_filter(&filter).map_err(io::Error::other)?;
    dying::sealed();
    Ok(())
}

fn limit(resource: Resource, to: u64) -> io::Result<()> {
    Ok(setrlimit(resource, Rlimit { current: Some(to), maximum: Some(to) })?)
}

/// The descriptors that stay, by what may be done with them.
#[derive(Default)]
struct Rights {
    read: Vec<RawFd>,
    write: Vec<RawFd>,
    arm: Vec<RawFd>,
    /// Read, written and brought to the disk at any place.
    flash: Vec<RawFd>,
    /// How long a file that is written to may get.
    longest_file: u64,
}

impl Rights {
    fn of(boot: &Boot) -> Self {
        let mut rights = Self::default();
        for channel in &boot.channels {
            rights.read.extend(channel.hear);
            rights.write.extend(channel.tell);
        }
        rights.read.extend(boot.children.iter().map(|child| child.ended));
        rights.write.extend(boot.children.iter().map(|child| child.restart));
        for device in &boot.devices {
            let Some(fd) = device.fd else { continue };
            match device.kind {
                DeviceKind::SwitchPort => {
                    rights.read.push(fd);
                    rights.write.push(fd);
                }
                DeviceKind::EntropyPipe => rights.read.push(fd),
                DeviceKind::File => {
                    rights.write.push(fd);
                    rights.longest_file = LONGEST_FILE;
                }
                DeviceKind::Flash => {
                    rights.flash.push(fd);
                    rights.longest_file = rights.longest_file.max(flash::SIZE as u64);
                }
                DeviceKind::Timerfd => {
                    rights.read.push(fd);
                    rights.arm.push(fd);
                }
            }
        }
        rights
    }

    fn close_all_others(&self) -> io::Result<()> {
        let mut kept: Vec<_> = self.read.iter().chain(&self.write).chain(&self.flash).copied().collect();
        kept.sort_unstable();
        kept.dedup();
        let mut next = 0;
        for fd in kept.into_iter().map(RawFd::cast_unsigned) {
            if next < fd {
                close_range(next, fd - 1)?;
            }
            next = fd + 1;
        }
        close_range(next, u32::MAX)
    }
}

fn close_range(first: u32, last: u32) -> io::Result<()> {
    // SAFETY: of these descriptors this process has no handle that it uses any more.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// The allow-list. Everything else is a SIGSYS, which kills.
fn filter(rights: &Rights) -> Result<BpfProgram, seccompiler::Error> {
    let on = |fds: &[RawFd]| -> Result<Vec<SeccompRule>, seccompiler::Error> {
        fds.iter().map(|fd| first_argument_is(fd.cast_unsigned())).collect()
    };
    let clock = vec![first_argument_is(libc::CLOCK_MONOTONIC.cast_unsigned())?];
    // No rule for a call means "with any arguments". A call with no descriptor of its own is left out.
    let mut rules: BTreeMap<i64, Vec<SeccompRule>> = BTreeMap::from([
        (libc::SYS_ppoll, vec![]),
        (libc::SYS_clock_gettime, clock),
        // Only to go back into a fault, which then kills.
        (libc::SYS_rt_sigreturn, vec![]),
        (libc::SYS_exit, vec![]),
        (libc::SYS_exit_group, vec![]),
    ]);
    #[cfg(target_arch = "x86_64")]
    rules.insert(libc::SYS_poll, vec![]);
    let by_descriptor = [
        (libc::SYS_read, &rights.read),
        (libc::SYS_write, &rights.write),
        (libc::SYS_timerfd_settime, &rights.arm),
        (libc::SYS_pread64, &rights.flash),
        (libc::SYS_pwrite64, &rights.flash),
        (libc::SYS_fdatasync, &rights.flash),
    ];
    for (call, fds) in by_descriptor {
        if !fds.is_empty() {
            rules.insert(call, on(fds)?);
        }
    }
    let arch = std::env::consts::ARCH.try_into()?;
    Ok(SeccompFilter::new(rules, SeccompAction::Trap, SeccompAction::Allow, arch)?.try_into()?)
}

fn first_argument_is(value: u32) -> Result<SeccompRule, seccompiler::Error> {
    let condition = SeccompCondition::new(0, SeccompCmpArgLen::Dword, SeccompCmpOp::Eq, u64::from(value))?;
    Ok(SeccompRule::new(vec![condition])?)
}
