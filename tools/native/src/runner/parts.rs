//! The memory, notifications and devices of a system, and who gets which.

use std::{
    collections::BTreeMap,
    fs::{self, OpenOptions},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixDatagram,
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fs::{MemfdFlags, Mode, OFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create, open},
    io::{Errno, pwrite},
    pipe::{PipeFlags, pipe_with},
    time::{TimerfdClockId, TimerfdFlags, timerfd_create},
};
use sysdesc::{Device, DeviceKind, Domain, Map, Perms, Region, System};

use super::{Config, Plug, StartError, failed, feed, find};
use crate::{
    boot::{Boot, BootChannel, BootChild, BootDevice, BootRegion},
    flash, words,
};

/// One domain, ready to be started.
pub(super) struct Part {
    pub program: PathBuf,
    /// Without the page of last words, which is another for each process.
    pub boot: Boot,
    /// All that its process gets besides.
    pub fds: Vec<Arc<OwnedFd>>,
    /// Tells the parent that it has ended; in the parent's `fds`.
    pub ended: Option<Arc<OwnedFd>>,
    /// By this the parent wants it to be started anew; in the parent's `fds`.
    pub restart: Option<Arc<OwnedFd>>,
    /// Files that are removed when the system has ended.
    _litter: Vec<Litter>,
}

/// A file that goes when this does.
pub(super) struct Litter(PathBuf);

impl Drop for Litter {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

pub(super) fn make(system: &System, mut config: Config) -> Result<Vec<Part>, StartError> {
    let domains = system.all_domains();
    let known = |name: &str| {
        domains.iter().any(|d| d.devices.iter().any(|device| name == format!("{}.{}", d.name, device.name)))
    };
    if let Some(name) = config.devices.keys().find(|name| !known(name)) {
        return Err(StartError::Failed(format!("no domain asks for a device {name}")));
    }
    if let Some(name) = config.prefill.keys().find(|name| system.region(name).is_none()) {
        return Err(StartError::Failed(format!("there is no region {name}")));
    }
    let mut memory = BTreeMap::new();
    for region in &system.regions {
        memory.insert(region.name.as_str(), Memory::new(system, region, &config)?);
    }
    let bells = bells(system)?;
    let mut parts = BTreeMap::new();
    for domain in &domains {
        parts.insert(domain.name.clone(), part(system, domain, &mut config, &memory, &bells)?);
    }
    for parent in &domains {
        for child in &parent.children {
            introduce(parent, child, &mut parts)?;
        }
    }
    // In the description's order.
    Ok(domains.iter().filter_map(|domain| parts.remove(&domain.name)).collect())
}

/// A region's memory, as its writer and as its readers get it.
struct Memory {
    writable: Arc<OwnedFd>,
    readable: Arc<OwnedFd>,
}

impl Memory {
    fn new(system: &System, region: &Region, config: &Config) -> Result<Self, StartError> {
        let what = || format!("region {}", region.name);
        let bytes = prefill(region, config)?;
        let written = system.all_domains().iter().any(|domain| domain.maps.iter().any(|map| is_written(map, region)));
        let (writable, readable) =
            memory(&region.name, region.size, &bytes, written).map_err(|error| failed(what(), error))?;
        Ok(Self { writable, readable })
    }
}

fn is_written(map: &Map, region: &Region) -> bool {
    map.region == region.name && map.perms == Perms::ReadWrite
}

/// A page of last words.
pub(super) fn words() -> Result<Arc<OwnedFd>, Errno> {
    Ok(memory("words", words::SIZE as u64, &[], true)?.0)
}

/// Memory of a fixed size, and the same opened read-only: no mapping of that can be raised.
fn memory(name: &str, size: u64, bytes: &[u8], written: bool) -> Result<(Arc<OwnedFd>, Arc<OwnedFd>), Errno> {
    let fd = memfd_create(name, MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&fd, size)?;
    let mut rest = bytes;
    while !rest.is_empty() {
        let done = pwrite(&fd, rest, (bytes.len() - rest.len()) as u64)?;
        rest = rest.get(done..).unwrap_or_default();
    }
    let mut seals = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    if !written {
        seals |= SealFlags::WRITE;
    }
    fcntl_add_seals(&fd, seals)?;
    let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
    let readable = open(path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    Ok((Arc::new(fd), Arc::new(readable)))
}

fn prefill(region: &Region, config: &Config) -> Result<Vec<u8>, StartError> {
    let bytes = match (config.prefill.get(&region.name), &region.prefill_path) {
        (Some(bytes), _) => bytes.clone(),
        (None, None) => Vec::new(),
        (None, Some(name)) => {
            let path = find(&config.search_path, name)
                .ok_or_else(|| StartError::Failed(format!("region {}: there is no file {name}", region.name)))?;
            fs::read(&path).map_err(|error| failed(path.display(), error))?
        }
    };
    if bytes.len() as u64 > region.size {
        let (have, size) = (bytes.len(), region.size);
        return Err(StartError::Failed(format!("region {}: {have} bytes do not fit into {size}", region.name)));
    }
    Ok(bytes)
}

/// The parent hears of its child's end, as on seL4 of its fault, and can have it started anew.
fn introduce(parent: &Domain, child: &Domain, parts: &mut BTreeMap<String, Part>) -> Result<(), StartError> {
    let bell = || eventfd(0, EVENTFD).map(Arc::new).map_err(|error| failed("eventfd", error));
    let (ended, restart) = (bell()?, bell()?);
    if let Some(part) = parts.get_mut(&child.name) {
        (part.ended, part.restart) = (Some(ended.clone()), Some(restart.clone()));
    }
    // The description's check has found every child's id.
    if let (Some(part), Some(id)) = (parts.get_mut(&parent.name), child.id) {
        let symbol = child.setvar_id.clone();
        let (told, tell) = (ended.as_raw_fd(), restart.as_raw_fd());
        part.boot.children.push(BootChild { id, symbol, ended: told, restart: tell });
        part.fds.extend([ended, restart]);
    }
    Ok(())
}

const EVENTFD: EventfdFlags = EventfdFlags::CLOEXEC.union(EventfdFlags::NONBLOCK);

/// One eventfd per channel and direction, by who tells and under which id.
type Bells<'a> = BTreeMap<(&'a str, u8), Arc<OwnedFd>>;

fn bells(system: &System) -> Result<Bells<'_>, StartError> {
    let mut bells = BTreeMap::new();
    for end in system.channels.iter().flat_map(|channel| &channel.ends).filter(|end| end.notify) {
        let bell = eventfd(0, EVENTFD).map_err(|error| failed("eventfd", error))?;
        bells.insert((end.domain.as_str(), end.id), Arc::new(bell));
    }
    Ok(bells)
}

/// The program that is every domain of a node.
const DOMAIN: &str = "domain";

fn part(
    system: &System,
    domain: &Domain,
    config: &mut Config,
    memory: &BTreeMap<&str, Memory>,
    bells: &Bells<'_>,
) -> Result<Part, StartError> {
    let name = &domain.name;
    // The domains of a node are one program, which is told whom to be.
    let image = &domain.image.path;
    let file = if node::PROGRAMS.contains(&image.as_str()) { DOMAIN } else { image };
    let program = find(&config.search_path, file)
        .ok_or_else(|| StartError::Failed(format!("domain {name}: there is no program {file}")))?;
    // The process starts in the root directory.
    let program = std::path::absolute(program).map_err(|error| failed(name, error))?;
    let mut part = Part {
        program,
        boot: Boot {
            domain: name.clone(),
            program: image.clone(),
            words: -1,
            regions: Vec::new(),
            channels: Vec::new(),
            devices: Vec::new(),
            children: Vec::new(),
        },
        fds: Vec::new(),
        ended: None,
        restart: None,
        _litter: Vec::new(),
    };
    for map in &domain.maps {
        let writable = map.perms == Perms::ReadWrite;
        // The description's check has found every map's region.
        let (Some(memory), Some(region)) = (memory.get(map.region.as_str()), system.region(&map.region)) else {
            continue;
        };
        let fd = if writable { &memory.writable } else { &memory.readable };
        let number =
            |value: u64| usize::try_from(value).map_err(|_| StartError::Failed(format!("region {}", map.region)));
        part.boot.regions.push(BootRegion {
            name: map.region.clone(),
            symbol: map.setvar_vaddr.clone(),
            fd: fd.as_raw_fd(),
            vaddr: number(map.vaddr)?,
            size: number(region.size)?,
            writable,
        });
        part.fds.push(fd.clone());
    }
    for (own, other) in system.ends_of(name) {
        let mut number = |end: &sysdesc::End| {
            let bell = bells.get(&(end.domain.as_str(), end.id))?;
            part.fds.push(bell.clone());
            Some(bell.as_raw_fd())
        };
        let (tell, hear) = (number(own), number(other));
        part.boot.channels.push(BootChannel { id: own.id, symbol: own.setvar_id.clone(), tell, hear });
    }
    for device in &domain.devices {
        plug_in(&mut part, device, config)?;
    }
    Ok(part)
}

/// The address of a network device that is plugged in nowhere.
const UNPLUGGED: [u8; 6] = [2, 0, 0, 0, 0, 1];

fn plug_in(part: &mut Part, device: &Device, config: &mut Config) -> Result<(), StartError> {
    let name = format!("{}.{}", part.boot.domain, device.name);
    // Elaboration for native gives every device its kind.
    let Some(kind) = device.kind else { return Ok(()) };
    let plug = config.devices.remove(&name).unwrap_or_else(|| Plug::default_of(kind));
    let mut mac = UNPLUGGED;
    let fd = match (kind, plug) {
        (DeviceKind::SwitchPort, Plug::Nothing) => None,
        (DeviceKind::SwitchPort, Plug::Switch { own, switch, mac: address }) => {
            mac = address;
            let socket = UnixDatagram::bind(&own).map_err(|error| failed(own.display(), error))?;
            part._litter.push(Litter(own));
            socket.connect(&switch).map_err(|error| failed(switch.display(), error))?;
            socket.set_nonblocking(true).map_err(|error| failed(&name, error))?;
            Some(OwnedFd::from(socket))
        }
        (DeviceKind::EntropyPipe, Plug::Entropy(source)) => {
            let (output, input) = pipe_with(PipeFlags::CLOEXEC).map_err(|error| failed(&name, error))?;
            // Small: what is in the pipe has been drawn before it was asked for.
            rustix::pipe::fcntl_setpipe_size(&input, 4096).map_err(|error| failed(&name, error))?;
            rustix::fs::fcntl_setfl(&output, OFlags::NONBLOCK).map_err(|error| failed(&name, error))?;
            feed(input, source).map_err(|error| failed(&name, error))?;
            Some(output)
        }
        (DeviceKind::File, Plug::Stdout) => {
            Some(std::io::stdout().as_fd().try_clone_to_owned().map_err(|error| failed("standard output", error))?)
        }
        (DeviceKind::File, Plug::File(path)) => Some(append_to(&path)?),
        (DeviceKind::File, Plug::Descriptor(fd)) => Some(fd),
        (DeviceKind::Flash, Plug::Nothing) => Some(flash::anonymous().map_err(|error| failed(&name, error))?),
        (DeviceKind::Flash, Plug::File(path)) => {
            Some(flash::open(&path).map_err(|error| failed(path.display(), error))?.into())
        }
        (DeviceKind::Flash, Plug::Descriptor(fd)) => Some(fd),
        (DeviceKind::Timerfd, Plug::Nothing) => {
            let flags = TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK;
            Some(timerfd_create(TimerfdClockId::Monotonic, flags).map_err(|error| failed(&name, error))?)
        }
        (kind, plug) => {
            return Err(StartError::Failed(format!("device {name} is a {}: {plug:?} does not fit", kind.name())));
        }
    };
    let fd = fd.map(Arc::new);
    part.fds.extend(fd.clone());
    part.boot.devices.push(BootDevice { name: device.name.clone(), kind, fd: fd.map(|fd| fd.as_raw_fd()), mac });
    Ok(())
}

fn append_to(path: &Path) -> Result<OwnedFd, StartError> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    Ok(file.map_err(|error| failed(path.display(), error))?.into())
}

#[cfg(test)]
mod tests {
    use std::ptr::null_mut;

    use rustix::mm::{MapFlags, MprotectFlags, ProtFlags, mmap, mprotect, munmap};

    use super::*;

    const PAGE: usize = 4096;

    fn maps(fd: &OwnedFd, access: ProtFlags) -> Result<(), Errno> {
        // SAFETY: a new mapping at a place of the kernel's choice, taken back at once.
        unsafe { munmap(mmap(null_mut(), PAGE, access, MapFlags::SHARED, fd, 0)?, PAGE) }
    }

    #[test]
    fn memory_keeps_its_size_and_a_reader_cannot_make_itself_a_writer() {
        let both = ProtFlags::READ | ProtFlags::WRITE;
        let (writable, readable) = memory("test", PAGE as u64, b"text", true).unwrap();
        assert_eq!(maps(&writable, both), Ok(()));
        assert_eq!(maps(&readable, ProtFlags::READ), Ok(()));
        assert_eq!(maps(&readable, both), Err(Errno::ACCESS));
        // SAFETY: a new mapping, nothing else uses it.
        let raised = unsafe {
            let page = mmap(null_mut(), PAGE, ProtFlags::READ, MapFlags::SHARED, &readable, 0).unwrap();
            mprotect(page, PAGE, MprotectFlags::READ | MprotectFlags::WRITE)
        };
        assert_eq!(raised, Err(Errno::ACCESS));
        assert_eq!(ftruncate(&writable, 0), Err(Errno::PERM));
        assert_eq!(ftruncate(&writable, 1 << 20), Err(Errno::PERM));
        assert_eq!(fcntl_add_seals(&writable, SealFlags::WRITE), Err(Errno::PERM));
    }

    #[test]
    fn memory_that_nobody_writes_cannot_be_written_at_all() {
        let (writable, readable) = memory("test", PAGE as u64, b"text", false).unwrap();
        assert_eq!(pwrite(&writable, b"x", 0), Err(Errno::PERM));
        assert_eq!(maps(&writable, ProtFlags::READ | ProtFlags::WRITE), Err(Errno::PERM));
        assert_eq!(maps(&readable, ProtFlags::READ), Ok(()));
    }
}
