//! A Linux machine, for what a kernel's own WireGuard does: Debian's kernel for the cloud as `make have-linux` has unpacked
//! it, no disk, and in memory a shell and programs of this host. It needs no root and no KVM.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use anyhow::{Context, Result, ensure};

use crate::{initramfs::Initramfs, plain, project, with_us};

/// What the shell says before it takes commands.
pub const READY: &str = "ready";

/// The first process. The serial line is the kernel's console; the port is a shell that takes commands as they come, and whose
/// end is the machine's.
const INIT: &str = "\
#!/bin/sh
export PATH=/bin
/bin/busybox --install -s /bin
mount -t proc proc /proc
mount -t sysfs sysfs /sys
mount -t devtmpfs devtmpfs /dev
ln -s /proc/self/fd/0 /dev/stdin
modprobe -a virtio_pci virtio_net virtio_console
echo 0 >/proc/sys/net/ipv6/conf/default/accept_dad
ip link set lo up
ip link set eth0 name lab0 up
exec 3<>$(echo /dev/vport*)
echo ready >&3
sh <&3 >&3 2>&1
poweroff -f
";

/// What is on the outside of a machine, and in it.
pub struct Linux<'a> {
    /// An existing directory for the machine's own files.
    pub dir: &'a Path,
    pub mac: [u8; 6],
    /// As [`crate::Setup::net`]. The interface is called `lab0`, as behind `lab enter`.
    pub net: (&'a Path, &'a Path),
    /// Programs of this host, by path; their libraries come along. They are in `/bin`.
    pub programs: &'a [PathBuf],
    /// Modules of the kernel that it may load; what they need comes along.
    pub modules: &'a [&'a str],
}

impl Linux<'_> {
    /// QEMU for this machine. Its input and output are the shell's. It ends with the thread that starts it.
    pub fn command(&self) -> Result<Command> {
        let linux = project().join("target/linux");
        ensure!(linux.is_dir(), "{} is not there: make have-linux", linux.display());
        let kernel = only(&linux.join("boot"), "vmlinuz-")?;
        let initrd = self.dir.join("initrd");
        fs::write(&initrd, self.initramfs(&linux)?).with_context(|| initrd.display().to_string())?;
        let mac = self.mac.map(|byte| format!("{byte:02x}")).join(":");
        let (own, switch) = self.net;
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-machine", "q35", "-accel", "tcg", "-cpu", "max", "-m", "size=512M"]);
        command.args(["-nodefaults", "-display", "none", "-no-reboot", "-append", "console=ttyS0 panic=-1 quiet"]);
        command.arg("-kernel").arg(kernel).arg("-initrd").arg(initrd);
        command.args(["-device", &format!("virtio-net-pci,romfile=,netdev=net,mac={mac}"), "-netdev"]);
        command.arg(crate::dgram(own, switch)?);
        command.args(["-serial", &format!("file:{}", plain(&self.console())?), "-device", "virtio-serial-pci"]);
        command.args(["-chardev", "stdio,id=shell", "-device", "virtserialport,chardev=shell"]);
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        with_us(&mut command);
        Ok(command)
    }

    /// What the kernel says.
    pub fn console(&self) -> PathBuf {
        self.dir.join("console")
    }

    fn initramfs(&self, linux: &Path) -> Result<Vec<u8>> {
        let mut archive = Initramfs::default();
        archive.file("init", INIT.as_bytes());
        for directory in ["dev", "proc", "sys", "run", "tmp"] {
            archive.directory(directory);
        }
        let busybox = linux.join("bin/busybox");
        archive.file("bin/busybox", &read(&busybox)?);
        archive.link("bin/sh", "busybox");
        // Where the kernel looks for it.
        archive.link("sbin/modprobe", "/bin/busybox");
        for program in self.programs {
            let name = program.file_name().and_then(|name| name.to_str()).context("a program without a name")?;
            archive.file(&format!("bin/{name}"), &stripped(program, self.dir)?);
            for library in libraries(program)? {
                let path = library.trim_start_matches('/');
                if !archive.has(path) {
                    archive.file(path, &read(Path::new(&library))?);
                }
            }
        }
        let modules = only(&linux.join("lib/modules"), "")?;
        let place = modules.strip_prefix(linux)?.to_str().context("a path")?;
        for list in ["modules.dep", "modules.alias"] {
            archive.file(&format!("{place}/{list}"), &read(&modules.join(list))?);
        }
        let wanted = [&["virtio_pci", "virtio_net", "virtio_console"], self.modules].concat();
        for module in closure(&fs::read_to_string(modules.join("modules.dep"))?, &wanted)? {
            archive.file(&format!("{place}/{module}"), &read(&modules.join(module))?);
        }
        Ok(archive.finish())
    }
}

fn read(path: &Path) -> Result<Vec<u8>> {
    fs::read(path).with_context(|| path.display().to_string())
}

/// The one entry of a directory whose name begins so.
fn only(dir: &Path, beginning: &str) -> Result<PathBuf> {
    let mut entries = fs::read_dir(dir).with_context(|| dir.display().to_string())?;
    let is_it = |path: &PathBuf| path.file_name().is_some_and(|name| name.to_string_lossy().starts_with(beginning));
    let entry = entries.find_map(|entry| entry.ok().map(|entry| entry.path()).filter(is_it));
    entry.with_context(|| format!("there is no {beginning}* in {}", dir.display()))
}

/// A program without what only a debugger reads, which would fill the machine's memory.
fn stripped(program: &Path, dir: &Path) -> Result<Vec<u8>> {
    let output = dir.join("stripped");
    let status = Command::new("strip").arg("-o").arg(&output).arg(program).status().context("strip, of binutils")?;
    ensure!(status.success(), "strip {}: {status}", program.display());
    read(&output)
}

/// The libraries that a program is loaded with, by their paths.
fn libraries(program: &Path) -> Result<Vec<String>> {
    let output = Command::new("ldd").arg(program).output().context("ldd")?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    Ok(text.split_whitespace().filter(|word| word.starts_with('/')).map(str::to_owned).collect())
}

/// The modules of these names and those that they need, as paths, out of a `modules.dep`.
fn closure<'t>(dependencies: &'t str, names: &[&str]) -> Result<Vec<&'t str>> {
    let mut found = Vec::new();
    for name in names {
        let is_it = |path: &str| Path::new(path).file_stem().is_some_and(|stem| stem == *name);
        let line = dependencies.lines().filter_map(|line| line.split_once(':')).find(|(path, _)| is_it(path));
        let (path, needs) = line.with_context(|| format!("this kernel has no module {name}"))?;
        found.push(path);
        found.extend(needs.split_whitespace());
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_module_comes_with_what_it_needs() {
        let text = "kernel/a/one.ko: kernel/b/two.ko kernel/c/three.ko\nkernel/b/two.ko: kernel/c/three.ko\nkernel/c/three.ko:\n";
        assert_eq!(closure(text, &["one"]).unwrap(), ["kernel/a/one.ko", "kernel/b/two.ko", "kernel/c/three.ko"]);
        assert_eq!(closure(text, &["three"]).unwrap(), ["kernel/c/three.ko"]);
        assert!(closure(text, &["four"]).is_err());
    }
}
