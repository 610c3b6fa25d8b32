//! The process that owns the interface while the mesh is up: it makes it, keeps it as the registry says, takes telemetry in,
//! and does what other commands ask over the control socket. With an engine in user space it is also what moves packets.

use std::{
    collections::HashMap,
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::PathBuf,
    time::Duration,
};

use netdev::netlink::Netlink;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    net::UdpSocket,
    signal::unix::{SignalKind, signal},
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};
use wire::{COMMAND_PORT, Fingerprint, Hex, Key, TELEMETRY_PORT, telemetry::Telemetry};
use zerocopy::IntoBytes;

use super::{
    control::{self, Heard, Reply, Request},
    device::{self, Device},
    engine::{BUFFER, Engine, MTU, Out, PeerSetup, Seen, Setup},
    kernel,
    registry_thread::{Done, RegistryThread, Teller},
    run_files::{DaemonState, Lock, Paths},
    server::{Asked, listen},
    snapshot::{Change, KEEPALIVE_S, Node, Snapshot},
    stamp::{self, Stamps},
};
use crate::{
    base::{
        error::{Error, Exit},
        host::{Host, System},
        mesh_key::{self, MeshKey},
        say::{self, say},
    },
    output::{self, Up},
    registry::{AUTHORITY, Registry, Said},
};

const TICK: Duration = Duration::from_millis(250);
/// How often what nodes have said is written down.
const WRITE: Duration = Duration::from_secs(1);
/// Packets moved one way before the other way's turn.
const TURN: usize = 64;
const SOCKET_BUFFER: usize = 4 << 20;
/// Records that a slow watcher may be behind.
const BEHIND: usize = 256;

/// Which WireGuard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum EngineChoice {
    /// The kernel's where there is one and `wg` to set it up; else this program's own.
    Auto,
    /// The kernel's.
    Kernel,
    /// This program's own.
    User,
    /// The same, with a pair of veth although there may be a tun device.
    UserVeth,
}

pub struct Plan {
    pub registry: PathBuf,
    pub fleet: [u8; 16],
    pub interface: String,
    pub choice: EngineChoice,
}

enum Backend {
    Kernel(Stamps),
    User { engine: Box<Engine>, device: Device, outer: UdpSocket },
}

struct Daemon {
    registry: RegistryThread,
    snapshot: Snapshot,
    /// The last record of each member that is not on its way to the disk.
    said: HashMap<i64, Said>,
    /// Some are.
    is_writing: bool,
    /// Why the last could not be written.
    unwritten: Option<String>,
    /// The highest stamp that the registry has.
    stamp_ms: i64,
    interface: String,
    index: u32,
    backend: Backend,
    state: DaemonState,
    telemetry: [UdpSocket; 2],
    commands: UdpSocket,
    heard: broadcast::Sender<String>,
}

struct Sink<'a> {
    outer: &'a UdpSocket,
    device: &'a Device,
}

impl Out for Sink<'_> {
    fn network(&mut self, datagram: &[u8], to: SocketAddrV6) {
        // What cannot be sent now is lost, as on the link; the protocol repeats it.
        let _ = SockRef::from(self.outer).send_to(datagram, &to.into());
    }

    fn device(&mut self, packet: &[u8]) {
        self.device.send(packet);
    }
}

/// Runs until it is told to end. `ready` is told when the mesh is up.
pub async fn run(plan: Plan, ready: impl FnOnce(&DaemonState)) -> Result<(), Error> {
    let paths = Paths::beside(&plan.registry);
    let mine = |error: io::Error| Error::new(Exit::Other, format!("{}: {error}", paths.state.display()));
    let Some(mut lock) = Lock::take(&paths).map_err(mine)? else {
        return Err(Error::network("the mesh of this registry is up already: see `os-network-admin mesh status`"));
    };
    let stop = |error: io::Error| Error::new(Exit::Other, format!("signals cannot be awaited: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(stop)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(stop)?;
    // A terminal that goes away does not take the mesh with it.
    let _hangup = signal(SignalKind::hangup()).map_err(stop)?;
    say::from_a_thread().map_err(|error| Error::new(Exit::Other, format!("a thread cannot run: {error}")))?;
    let mut daemon = match Daemon::start(&plan).await {
        Ok(daemon) => daemon,
        Err(error) => {
            // The first error says more than one of cleaning up.
            let _ = lock.release();
            return Err(error);
        }
    };
    let (asks, mut asked) = mpsc::channel(16);
    let listening = listen(&paths, asks, daemon.heard.clone());
    let ended = match listening.and_then(|()| lock.write(&daemon.state)) {
        Ok(()) => {
            ready(&daemon.state);
            tokio::select! {
                ended = daemon.serve(&mut asked) => ended,
                _ = interrupt.recv() => Ok(None),
                _ = terminate.recv() => Ok(None),
            }
        }
        Err(error) => Err(Error::network(format!("the control socket {}: {error}", paths.socket.display()))),
    };
    let cleaned = daemon.end().and_then(|()| lock.release());
    let teller = ended?;
    let result = cleaned.map_err(|error| Error::network(format!("the interface cannot be removed: {error}")));
    if let Some(teller) = teller {
        let _ = teller.send(match &result {
            Ok(()) => Reply::Ok(None),
            Err(error) => Reply::Error(error.to_string()),
        });
        // The connection's task passes it on before this process ends.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    result
}

/// Removes what a daemon that died has left.
pub fn remove_leftovers(paths: &Paths, state: &DaemonState) -> Result<(), Error> {
    let clean = || {
        let Some(lock) = Lock::take(paths)? else { return Ok(()) };
        remove_ours(&Netlink::open()?, &state.interface)?;
        lock.release()
    };
    clean().map_err(|error: io::Error| refused(&state.interface, &error))
}

fn remove_ours(netlink: &Netlink, name: &str) -> io::Result<()> {
    match netlink.find(name)? {
        Some(found) if device::is_ours(&found) => netlink.delete(found.index),
        Some(_) => Err(io::Error::other("there is an interface of this name already, not made by os-network-admin")),
        None => Ok(()),
    }
}

fn refused(interface: &str, error: &io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::PermissionDenied => Error::network(format!(
            "the interface {interface} cannot be made: this needs root, or CAP_NET_ADMIN in this network namespace"
        )),
        _ => Error::network(format!("the interface {interface} cannot be made: {error}")),
    }
}

impl Daemon {
    async fn start(plan: &Plan) -> Result<Self, Error> {
        let registry = Registry::open(&plan.registry)?;
        stamp::claim(&registry, &System).await?;
        let key = MeshKey::of_registry(&plan.registry)?;
        let (registry, snapshot) = RegistryThread::start(registry, key, &plan.fleet)?;
        let (setup, fleet) = (&snapshot.setup(), &snapshot.fleet);
        let name = &plan.interface;
        let outer = outer(setup.port)?;
        let make = || -> io::Result<(Backend, u32, String)> {
            let netlink = Netlink::open()?;
            remove_ours(&netlink, name)?;
            let (backend, index, engine) = backend(plan, &netlink, setup, outer)?;
            let finish = || {
                for address in &setup.addresses {
                    device::add_address(&netlink, index, address)?;
                }
                netlink.up_without_arp(index)
            };
            if let Err(error) = finish() {
                let _ = netlink.delete(index);
                return Err(error);
            }
            Ok((backend, index, engine))
        };
        let (backend, index, engine) = make().map_err(|error| refused(name, &error))?;
        let (interface, since_ms) = (name.clone(), System.now_ms());
        let state = DaemonState { pid: std::process::id(), fleet: fleet.name.clone(), interface, engine, since_ms };
        let (v4, v6) = fleet.addresses(AUTHORITY);
        let bind = |ip: IpAddr, port: u16| {
            let bound = std::net::UdpSocket::bind((ip, port)).and_then(|socket| {
                socket.set_nonblocking(true)?;
                UdpSocket::from_std(socket)
            });
            bound.map_err(|error| Error::network(format!("UDP port {port} of {ip} cannot be opened: {error}")))
        };
        let sockets =
            || Ok(([bind(v4.into(), TELEMETRY_PORT)?, bind(v6.into(), TELEMETRY_PORT)?], bind(v6.into(), 0)?));
        let (telemetry, commands) = match sockets() {
            Ok(sockets) => sockets,
            Err(error) => {
                if let Ok(netlink) = Netlink::open() {
                    let _ = netlink.delete(index);
                }
                return Err(error);
            }
        };
        let (heard, _) = broadcast::channel(BEHIND);
        Ok(Self {
            registry,
            snapshot,
            said: HashMap::new(),
            is_writing: false,
            unwritten: None,
            stamp_ms: 0,
            interface: name.clone(),
            index,
            backend,
            state,
            telemetry,
            commands,
            heard,
        })
    }

    /// Until `down`, whose asker waits for the end, or an error.
    async fn serve(&mut self, asked: &mut mpsc::Receiver<Asked>) -> Result<Option<Teller>, Error> {
        let mut tick = interval(TICK);
        let mut write = interval(WRITE);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        write.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The first is at once.
        let mut greet = interval(Duration::from_secs(KEEPALIVE_S.into()));
        greet.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut buffer = vec![0; BUFFER];
        loop {
            let [v4, v6] = &self.telemetry;
            let broken =
                |what: &str, error: io::Error| Error::network(format!("{what} cannot be read any more: {error}"));
            tokio::select! {
                ready = readable(&self.backend) => {
                    ready.and_then(|()| self.move_packets(&mut buffer)).map_err(|error| broken(&self.interface, error))?;
                }
                ready = v4.readable() => ready.map_err(|error| broken("telemetry", error))?,
                ready = v6.readable() => ready.map_err(|error| broken("telemetry", error))?,
                _ = tick.tick() => {
                    if let Backend::User { engine, device, outer } = &mut self.backend {
                        engine.tick(&mut Sink { outer, device });
                    }
                }
                _ = greet.tick() => self.greet(),
                _ = write.tick() => {
                    self.write();
                    self.seek();
                }
                done = self.registry.done() => match done {
                    Some(done) => self.take(done),
                    None => return Err(Error::new(Exit::Registry, "the registry's thread has died")),
                },
                Some((request, teller)) = asked.recv() => match request {
                    Request::Down => return Ok(Some(teller)),
                    Request::Reload => self.registry.read(teller),
                    request => {
                        let _ = teller.send(self.answer(request));
                    }
                },
            }
            self.hear(&mut buffer);
        }
    }

    /// Tells peers without a session where we are.
    fn greet(&mut self) {
        self.show_neighbours(self.snapshot.nodes.values());
        if let Backend::User { engine, device, outer } = &mut self.backend {
            engine.greet(&mut Sink { outer, device });
        }
    }

    /// The kernel may have lost a node that says nothing any more.
    fn seek(&self) {
        if let Backend::User { engine, .. } = &self.backend {
            self.show_neighbours(self.snapshot.nodes.values().filter(|node| engine.is_unheard(&node.peer.key)));
        }
    }

    /// A node answers no solicitation of an address that it does not know, such as our new one: so the kernel is told where the
    /// node was.
    fn show_neighbours<'n>(&self, nodes: impl Iterator<Item = &'n Node>) {
        let Ok(netlink) = Netlink::open() else { return };
        for Node { peer, mac, .. } in nodes {
            let (Some(at), Some(mac)) = (peer.endpoint, *mac) else { continue };
            let (index, ip) = (at.scope_id(), *at.ip());
            let unknown = || matches!(netlink.neighbour(index, ip), Ok(None));
            if index != 0 && !self.is_heard(peer) && unknown() {
                // Without the right to do so the kernel's own way is left, which works where we have not moved.
                let _ = netlink.set_neighbour(index, ip, mac);
            }
        }
    }

    fn is_heard(&self, peer: &PeerSetup) -> bool {
        match &self.backend {
            Backend::Kernel(_) => kernel::seen(&self.interface, peer).is_ok_and(|seen| seen.handshake.is_some()),
            Backend::User { engine, .. } => engine.hears(&peer.key),
        }
    }

    fn move_packets(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let Backend::User { engine, device, outer } = &mut self.backend else { return Ok(()) };
        let mut sink = Sink { outer, device };
        for _ in 0..TURN {
            let Some(length) = device.receive(buffer)? else { break };
            engine.from_device(buffer.get(..length).unwrap_or_default(), &mut sink);
        }
        for _ in 0..TURN {
            match outer.try_recv_from(buffer) {
                Ok((length, SocketAddr::V6(from))) => {
                    engine.from_network(buffer.get(..length).unwrap_or_default(), from, &mut sink);
                }
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                // An answer of the link to something sent earlier, not to this.
                Err(_) => {}
            }
        }
        Ok(())
    }

    /// Takes in what telemetry waits.
    fn hear(&mut self, buffer: &mut [u8]) {
        for socket in &self.telemetry {
            for _ in 0..TURN {
                let Ok((length, from)) = socket.try_recv_from(buffer) else { break };
                let Some(record) = buffer.get(..length).and_then(Telemetry::parse) else { continue };
                let Some(node) = self.snapshot.whose(record, from.ip()) else { continue };
                let (member, ms) = (node.member, System.now_ms());
                self.said.insert(member, Said { member, record: *record, ms });
                let heard = Heard { member, heard_ms: ms, record: Hex(record.as_bytes()).to_string() };
                // Nobody may be watching.
                let _ = self.heard.send(control::write(heard));
            }
        }
    }

    /// Has what was said since the last time written down, unless that is still going on.
    fn write(&mut self) {
        if let Backend::Kernel(stamps) = &mut self.backend {
            stamps.begin(System.since_1970());
        }
        let stamp_ms = self.highest_stamp_ms();
        if !self.is_writing && (!self.said.is_empty() || stamp_ms > self.stamp_ms + stamp::BEHIND_MS) {
            self.is_writing = true;
            self.registry.write(self.said.drain().map(|(_, said)| said).collect(), stamp_ms);
        }
    }

    fn highest_stamp_ms(&self) -> i64 {
        match &self.backend {
            Backend::Kernel(stamps) => stamps.highest_ms(),
            Backend::User { engine, .. } => engine.highest_stamp_ms(),
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Written(Ok(stamp_ms)) => {
                (self.is_writing, self.unwritten, self.stamp_ms) = (false, None, stamp_ms);
            }
            Done::Written(Err((left, error))) => {
                (self.is_writing, self.unwritten) = (false, Some(error.message));
                for said in left {
                    // What came meanwhile is newer.
                    self.said.entry(said.member).or_insert(said);
                }
            }
            Done::Changed(changes) => self.change(changes),
            Done::Read(snapshot, teller) => {
                self.snapshot = *snapshot;
                let setup = self.snapshot.setup();
                match &mut self.backend {
                    Backend::Kernel(_) => self.configure(&setup),
                    Backend::User { engine, .. } => engine.set_peers(&setup.peers),
                }
                self.greet();
                if let Some(teller) = teller {
                    // Whoever asked may be gone.
                    let _ = teller.send(Reply::Ok(None));
                }
            }
        }
    }

    /// Makes the interface what the registry says now of some places.
    fn change(&mut self, changes: Vec<Change>) {
        let mut changed = Vec::new();
        for (host, node) in changes {
            let old = self.snapshot.nodes.remove(&host);
            if let (Backend::User { engine, .. }, Some(old)) = (&mut self.backend, &old)
                && node.as_ref().is_none_or(|node| node.peer.key != old.peer.key)
            {
                engine.remove_peer(&old.peer.key);
            }
            if let Some(node) = node {
                if let Backend::User { engine, .. } = &mut self.backend {
                    engine.set_peer(&node.peer);
                }
                self.snapshot.nodes.insert(host, node);
                changed.push(host);
            }
        }
        if let Backend::Kernel(_) = self.backend {
            self.configure(&self.snapshot.setup());
        }
        let nodes = changed.iter().filter_map(|host| self.snapshot.nodes.get(host));
        let keys: Vec<Key> = nodes.map(|node| node.peer.key).collect();
        self.show_neighbours(changed.iter().filter_map(|host| self.snapshot.nodes.get(host)));
        if let Backend::User { engine, device, outer } = &mut self.backend {
            keys.iter().for_each(|key| engine.greet_peer(key, &mut Sink { outer, device }));
        }
    }

    fn configure(&self, setup: &Setup) {
        if let Err(error) = kernel::configure(&self.interface, setup) {
            say(format_args!("the interface is not as the registry says: {error}"));
        }
    }

    fn answer(&self, request: Request) -> Reply {
        match request {
            Request::Status => Reply::Ok(Some(Box::new(self.status()))),
            Request::Send { to, data } => match self.send(to, &data) {
                Ok(()) => Reply::Ok(None),
                Err(why) => Reply::Error(why),
            },
            Request::Down | Request::Reload | Request::Watch => Reply::Error("that is done elsewhere".into()),
        }
    }

    fn send(&self, to: Ipv6Addr, data: &str) -> Result<(), String> {
        if self.snapshot.at(to.into()).is_none() {
            return Err(format!("{to} is no member's address"));
        }
        let bytes = base16ct::lower::decode_vec(data).map_err(|_| "the datagram is not in hex")?;
        let to = SocketAddrV6::new(to, COMMAND_PORT, 0, 0);
        // What cannot be sent now is lost, as on the link: whoever asked repeats it.
        let _ = SockRef::from(&self.commands).send_to(&bytes, &to.into());
        Ok(())
    }

    fn status(&self) -> Up {
        let Snapshot { fleet, nodes, public, .. } = &self.snapshot;
        let (v4, v6) = fleet.addresses(AUTHORITY);
        Up {
            pid: self.state.pid,
            fleet: fleet.name.clone(),
            interface: self.interface.clone(),
            engine: self.state.engine.clone(),
            since_ms: self.state.since_ms,
            v4,
            v6,
            port: fleet.port,
            public_key: mesh_key::encode(public).as_str().into(),
            peers: nodes.iter().map(|(host, node)| self.peer_status(*host, node)).collect(),
        }
    }

    fn peer_status(&self, host: u32, node: &Node) -> output::Peer {
        let peer = &node.peer;
        let seen = match &self.backend {
            Backend::Kernel(_) => kernel::seen(&self.interface, peer).unwrap_or_default(),
            Backend::User { engine, .. } => engine.seen(&peer.key).unwrap_or_default(),
        };
        let (v4, v6) = self.snapshot.fleet.addresses(host);
        let Seen { endpoint, handshake, received, sent, dropped } = seen;
        output::Peer {
            fingerprint: Some(Fingerprint::of(&node.fiduciary).to_string()),
            public_key: mesh_key::encode(&peer.key).as_str().into(),
            v4,
            v6,
            endpoint,
            handshake_s: handshake.map(|ago| ago.as_secs()),
            received,
            sent,
            dropped,
        }
    }

    fn end(self) -> io::Result<()> {
        let gone = || {
            let netlink = Netlink::open()?;
            match netlink.find(&self.interface)? {
                Some(found) if found.index == self.index => netlink.delete(found.index),
                // Somebody else has taken it away.
                _ => Ok(()),
            }
        };
        let (gone, stamp_ms) = (gone(), self.highest_stamp_ms());
        self.registry.write(self.said.into_values().collect(), stamp_ms);
        self.registry.end();
        gone
    }
}

fn backend(plan: &Plan, netlink: &Netlink, setup: &Setup, outer: UdpSocket) -> io::Result<(Backend, u32, String)> {
    let name = &plan.interface;
    let may_be_kernel = plan.choice == EngineChoice::Kernel || (plan.choice == EngineChoice::Auto && kernel::has_wg());
    if may_be_kernel {
        if !kernel::has_wg() {
            return Err(io::Error::other("`wg` is needed to set the kernel's WireGuard up: install wireguard-tools"));
        }
        if netlink.make_wireguard(name, MTU)? {
            let made = || {
                let index = netlink.index(name)?;
                device::mark(netlink, index)?;
                // The port is the kernel's from here on.
                drop(outer);
                kernel::configure(name, setup)?;
                Ok(index)
            };
            let made: io::Result<u32> = made();
            if made.is_err()
                && let Ok(Some(found)) = netlink.find(name)
            {
                let _ = netlink.delete(found.index);
            }
            return made.map(|index| (Backend::Kernel(Stamps::new()), index, "kernel".into()));
        }
        if plan.choice == EngineChoice::Kernel {
            return Err(io::Error::other("this kernel has no WireGuard: --engine user needs none"));
        }
    }
    let device =
        if plan.choice == EngineChoice::UserVeth { Device::pair(netlink, name)? } else { Device::make(netlink, name)? };
    let (index, engine) = (device.index, format!("user ({})", device.kind()));
    Ok((Backend::User { engine: Box::new(Engine::new(setup)), device, outer }, index, engine))
}

/// The socket of the engine in user space, and the proof that the port is free.
fn outer(port: u16) -> Result<UdpSocket, Error> {
    let open = || -> io::Result<UdpSocket> {
        let socket = Socket::new(Domain::IPV6, Type::DGRAM.nonblocking().cloexec(), Some(Protocol::UDP))?;
        socket.set_only_v6(true)?;
        // As much as the limit allows.
        let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
        socket.bind(&SocketAddrV6::new(Ipv6Addr::UNSPECIFIED, port, 0, 0).into())?;
        UdpSocket::from_std(socket.into())
    };
    open().map_err(|error| Error::network(format!("UDP port {port} cannot be opened for WireGuard: {error}")))
}

async fn readable(backend: &Backend) -> io::Result<()> {
    match backend {
        Backend::Kernel(_) => std::future::pending().await,
        Backend::User { device, outer, .. } => tokio::select! {
            ready = device.readable() => ready,
            ready = outer.readable() => ready,
        },
    }
}
