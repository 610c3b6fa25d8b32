//! New namespaces, and what to say where they are refused.

use std::{
    fs, io,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags},
    process::{Pid, PidfdFlags},
    thread::UnshareFlags,
};

fn unshare(flags: UnshareFlags) -> rustix::io::Result<()> {
    // SAFETY: the descriptor table, the one namespace whose sharing memory safety can depend on, stays shared.
    unsafe { rustix::thread::unshare_unsafe(flags) }
}

/// Moves this process into a network namespace of its own, with the right to manage it. Where root may
/// do that, it stays the root it is; else the caller becomes root of a new user namespace.
pub fn enter_new() -> Result<()> {
    if rustix::process::geteuid().is_root() && unshare(UnshareFlags::NEWNET).is_ok() {
        return Ok(());
    }
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    match unshare(UnshareFlags::NEWUSER) {
        Ok(()) => {}
        Err(Errno::INVAL) => bail!("this process has more than one thread; it cannot make a user namespace"),
        Err(error) => return Err(refused("user", error)),
    }
    let map = |file: &str, text: &str| fs::write(format!("/proc/self/{file}"), text);
    let mapped = map("setgroups", "deny")
        .and_then(|()| map("uid_map", &format!("0 {uid} 1")))
        .and_then(|()| map("gid_map", &format!("0 {gid} 1")));
    if let Err(error) = mapped {
        let errno = Errno::from_io_error(&error).unwrap_or(Errno::PERM);
        return Err(refused("user", errno));
    }
    unshare(UnshareFlags::NEWNET).map_err(|error| refused("network", error))
}

/// A further network namespace.
pub fn enter_another() -> Result<()> {
    unshare(UnshareFlags::NEWNET).map_err(|error| refused("network", error))
}

/// Shows the present network namespace's interfaces in `/sys/class/net`, where that is allowed: programs
/// that look there rather than ask the kernel would find the host's.
pub fn show_interfaces_in_sys() {
    let _ = unshare(UnshareFlags::NEWNS).and_then(|()| {
        rustix::mount::mount_change("/", MountPropagationFlags::DOWNSTREAM | MountPropagationFlags::REC)?;
        rustix::mount::mount("sysfs", "/sys", "sysfs", MountFlags::empty(), None)
    });
}

/// Those that are still there after so long. What was told to end, as a daemon is, may need a moment.
pub fn who_stays(patience: Duration) -> Vec<u32> {
    let deadline = Instant::now() + patience;
    loop {
        let left = others();
        let rest = deadline.saturating_duration_since(Instant::now());
        let Some(first) = left.first().filter(|_| !rest.is_zero()) else { return left };
        let pid = i32::try_from(*first).ok().and_then(Pid::from_raw);
        if let Some(Ok(ended)) = pid.map(|pid| rustix::process::pidfd_open(pid, PidfdFlags::empty())) {
            let rest = Timespec::try_from(rest).ok();
            // Whatever comes of it, they are looked at again.
            let _ = rustix::event::poll(&mut [PollFd::new(&ended, PollFlags::IN)], rest.as_ref());
        }
    }
}

/// The other processes in the present network namespace, of those that may be looked at.
fn others() -> Vec<u32> {
    let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/net")).ok();
    let Some(own) = namespace("self") else { return Vec::new() };
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(|pid: &u32| *pid != std::process::id() && namespace(&pid.to_string()).as_ref() == Some(&own)).collect()
}

/// The terminal sends its signals to the whole group. They are the program's business.
pub fn leave_keyboard_signals_to_the_child() {
    for signal in [libc::SIGINT, libc::SIGQUIT] {
        // SAFETY: ignoring a signal runs no code.
        unsafe { libc::signal(signal, libc::SIG_IGN) };
    }
}

fn refused(kind: &str, error: Errno) -> anyhow::Error {
    let setting = |path: &str| fs::read_to_string(format!("/proc/sys/{path}")).ok().map(|text| text.trim().to_owned());
    let is = |path: &str, value: &str| setting(path).is_some_and(|found| found == value);
    let advice = if is("kernel/unprivileged_userns_clone", "0") {
        "allow it: sysctl kernel.unprivileged_userns_clone=1"
    } else if is("kernel/apparmor_restrict_unprivileged_userns", "1") {
        "allow it: sysctl kernel.apparmor_restrict_unprivileged_userns=0"
    } else if is("user/max_user_namespaces", "0") {
        "allow it: sysctl user.max_user_namespaces=10000"
    } else if is("user/max_net_namespaces", "0") {
        "allow it: sysctl user.max_net_namespaces=10000"
    } else if error == Errno::NOSPC {
        "the limit user.max_user_namespaces or user.max_net_namespaces is reached: raise it by sysctl"
    } else {
        "in a container, start it with a seccomp profile that allows unshare \
         (docker: --security-opt seccomp=unconfined), or as root with CAP_SYS_ADMIN and CAP_NET_ADMIN"
    };
    anyhow::anyhow!("the kernel refuses a new {kind} namespace ({}); {advice}", io::Error::from(error))
}

/// Writes a setting of the present network namespace, where `/proc/sys` is writable.
pub fn set(path: &str, value: &str) -> Result<()> {
    let path = format!("/proc/sys/net/{path}");
    fs::write(&path, value).with_context(|| format!("cannot write {path}"))
}
