//! The process that owns the interface while the mesh is up: it makes it, keeps it as the registry says, takes telemetry in,
//! and does what other commands ask over the control socket. With an engine in user space it is also what moves packets.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    path::PathBuf,
    time::Duration,
};

use policy::Prefix;
use serde_json::{Value, json};
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::{
    io::{AsyncBufReadExt, AsyncWriteExt, BufReader},
    net::{UdpSocket, UnixListener, UnixStream},
    signal::unix::{SignalKind, signal},
    sync::{broadcast, mpsc, oneshot},
    time::{MissedTickBehavior, interval},
};
use wire::{COMMAND_PORT, Hex, TELEMETRY_PORT, telemetry::Telemetry};
use zerocopy::IntoBytes;

use super::{
    control::{Heard, Reply, Request},
    device::Device,
    engine::{BUFFER, Engine, MTU, Out, PeerSetup, Seen, Setup},
    kernel,
    run_files::{Hold, Paths, State},
};
use crate::{
    base::{
        error::{Error, Exit},
        host::{Host, System},
        mesh_key::{self, MeshKey},
        netlink::Netlink,
    },
    fleet::View,
    registry::{AUTHORITY, Fleet, Member, Registry, Who},
};

const TICK: Duration = Duration::from_millis(250);
/// How often the registry is looked at for what other processes have changed without a word.
const LOOK: Duration = Duration::from_millis(500);
/// How often a peer hears from us, so that one that has lost its session, or where we are, has them again.
const KEEPALIVE_S: u16 = 25;
/// Packets moved one way before the other way's turn.
const TURN: usize = 64;
const SOCKET_BUFFER: usize = 4 << 20;
/// Records that a slow watcher may be behind.
const BEHIND: usize = 256;
/// A line of a request: the longest datagram in hex, and words.
const LINE: usize = 8192;

/// Which WireGuard.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum Choice {
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
    pub choice: Choice,
}

enum Backend {
    Kernel,
    User { engine: Box<Engine>, device: Device, outer: UdpSocket },
}

type Asked = (Request, oneshot::Sender<Reply>);

struct Daemon {
    registry: Registry,
    fleet: Fleet,
    key: MeshKey,
    members: Vec<Member>,
    setup: Setup,
    version: i64,
    interface: String,
    index: u32,
    backend: Backend,
    state: State,
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
pub async fn run(plan: Plan, ready: impl FnOnce(&State)) -> Result<(), Error> {
    let paths = Paths::beside(&plan.registry);
    let mine = |error: io::Error| Error::new(Exit::Other, format!("{}: {error}", paths.state.display()));
    let Some(mut hold) = Hold::take(&paths).map_err(mine)? else {
        return Err(Error::network("the mesh of this registry is up already: see `os-network-admin mesh status`"));
    };
    let stop = |error: io::Error| Error::new(Exit::Other, format!("signals cannot be awaited: {error}"));
    let mut interrupt = signal(SignalKind::interrupt()).map_err(stop)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(stop)?;
    // A terminal that goes away does not take the mesh with it.
    let _hangup = signal(SignalKind::hangup()).map_err(stop)?;
    let mut daemon = match Daemon::start(&plan).await {
        Ok(daemon) => daemon,
        Err(error) => {
            // The first error says more than one of cleaning up.
            let _ = hold.release();
            return Err(error);
        }
    };
    let (asks, mut asked) = mpsc::channel(16);
    let listening = listen(&paths, asks, daemon.heard.clone());
    let ended = match listening.and_then(|()| hold.write(&daemon.state)) {
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
    let cleaned = daemon.end().and_then(|()| hold.release());
    let teller = ended?;
    let result = cleaned.map_err(|error| Error::network(format!("the interface cannot be removed: {error}")));
    if let Some(teller) = teller {
        let _ = teller.send(match &result {
            Ok(()) => Reply::Ok(Value::Null),
            Err(error) => Reply::Error(error.to_string()),
        });
        // The connection's task passes it on before this process ends.
        tokio::task::yield_now().await;
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    result
}

/// Removes what a daemon that died has left.
pub fn remove_leftovers(paths: &Paths, state: &State) -> Result<(), Error> {
    let clean = || {
        let Some(hold) = Hold::take(paths)? else { return Ok(()) };
        remove_ours(&Netlink::open()?, &state.interface)?;
        hold.release()
    };
    clean().map_err(|error: io::Error| refused(&state.interface, &error))
}

fn remove_ours(netlink: &Netlink, name: &str) -> io::Result<()> {
    match netlink.find(name)? {
        Some(found) if found.ours => netlink.delete(found.index),
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

/// What the authority's interface is to be.
fn setup(view: &View, key: &MeshKey) -> Setup {
    let (v4, v6) = view.fleet.addresses(AUTHORITY);
    let addresses = vec![Prefix::v4(v4.octets(), view.fleet.network.length), Prefix { ip: v6.octets(), length: 64 }];
    let is_peer = |member: &&Member| {
        member.fiduciary().is_some() && member.revoked_ms.is_none() && member.configuration.is_some()
    };
    let peer = |member: &Member| {
        let (v4, v6) = view.fleet.addresses(member.host);
        PeerSetup {
            key: member.key,
            preshared: Some(member.preshared.clone()),
            allowed: vec![Prefix::v4(v4.octets(), 32), Prefix { ip: v6.octets(), length: 128 }],
            endpoint: view.socket(member),
            keepalive_s: KEEPALIVE_S,
            rules: Some(view.rules(member).clone()),
        }
    };
    let peers = view.members.iter().filter(is_peer).map(peer).collect();
    Setup { secret: key.secret().clone(), port: view.fleet.port, addresses, peers }
}

impl Daemon {
    async fn start(plan: &Plan) -> Result<Self, Error> {
        let registry = Registry::open(&plan.registry)?;
        let key = MeshKey::of_registry(&plan.registry)?;
        let version = registry.version()?;
        let fleet = registry.fleet(&plan.fleet)?;
        let fleet =
            fleet.ok_or_else(|| Error::new(Exit::Registry, "the registry does not have this fleet any more"))?;
        let view = View::load(&registry, &fleet, key.public())?;
        let setup = setup(&view, &key);
        let name = &plan.interface;
        let outer = outer(setup.port)?;
        let make = || -> io::Result<(Backend, u32, String)> {
            let netlink = Netlink::open()?;
            remove_ours(&netlink, name)?;
            let (backend, index, engine) = backend(plan, &netlink, &setup, outer)?;
            let finish = || {
                for address in &setup.addresses {
                    netlink.address(index, address)?;
                }
                netlink.up(index)
            };
            if let Err(error) = finish() {
                let _ = netlink.delete(index);
                return Err(error);
            }
            Ok((backend, index, engine))
        };
        let (backend, index, engine) = make().map_err(|error| refused(name, &error))?;
        let since_ms = System.now_ms();
        let state =
            State { pid: std::process::id(), fleet: fleet.name.clone(), interface: name.clone(), engine, since_ms };
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
        let interface = name.clone();
        let members = view.members;
        Ok(Self {
            registry,
            fleet,
            key,
            members,
            setup,
            version,
            interface,
            index,
            backend,
            state,
            telemetry,
            commands,
            heard,
        })
    }

    /// Until `down`, whose asker waits for the end, or an error.
    async fn serve(&mut self, asked: &mut mpsc::Receiver<Asked>) -> Result<Option<oneshot::Sender<Reply>>, Error> {
        let mut tick = interval(TICK);
        let mut look = interval(LOOK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        look.set_missed_tick_behavior(MissedTickBehavior::Delay);
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
                _ = look.tick() => {
                    // The registry may be locked for a moment; then the next look sees it.
                    if self.registry.version().is_ok_and(|version| version != self.version) {
                        self.reload();
                    }
                }
                Some((request, teller)) = asked.recv() => match request {
                    Request::Down => return Ok(Some(teller)),
                    request => {
                        let _ = teller.send(self.answer(request));
                    }
                },
            }
            self.hear(&mut buffer);
        }
    }

    /// Tells peers without a session where we are. A node answers no solicitation of an address that it does not know, such as
    /// our new one: so the kernel is told where the node was.
    fn greet(&mut self) {
        if let Ok(netlink) = Netlink::open() {
            for peer in &self.setup.peers {
                let member = self.members.iter().find(|member| member.key == peer.key);
                let (Some(at), Some(mac)) = (peer.endpoint, member.and_then(|member| member.mac)) else { continue };
                let (index, ip) = (at.scope_id(), at.ip().octets());
                let unknown = || matches!(netlink.neighbour(index, ip), Ok(None));
                if index != 0 && !self.has_session(peer) && unknown() {
                    // Without the right to do so the kernel's own way is left, which works where we have not moved.
                    let _ = netlink.set_neighbour(index, ip, mac);
                }
            }
        }
        if let Backend::User { engine, device, outer } = &mut self.backend {
            engine.greet(&mut Sink { outer, device });
        }
    }

    fn has_session(&self, peer: &PeerSetup) -> bool {
        match &self.backend {
            Backend::Kernel => kernel::seen(&self.interface, peer).is_ok_and(|seen| seen.handshake.is_some()),
            Backend::User { engine, .. } => engine.seen(&peer.key).is_some_and(|seen| seen.handshake.is_some()),
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
                let own = |member: &&Member| {
                    let (v4, v6) = self.fleet.addresses(member.host);
                    let print = member.fiduciary().is_some_and(|fiduciary| fiduciary.starts_with(&record.node));
                    print && member.revoked_ms.is_none() && [IpAddr::V4(v4), IpAddr::V6(v6)].contains(&from.ip())
                };
                let Some(member) = self.members.iter().find(own) else { continue };
                if let Err(error) = self.registry.store_telemetry(member.id, record) {
                    eprintln!("{error}");
                }
                let heard = Heard { member: member.id, record: Hex(record.as_bytes()).to_string() };
                // Nobody may be watching.
                let _ = self.heard.send(serde_json::to_string(&heard).unwrap_or_default());
            }
        }
    }

    /// Makes the interface what the registry says now.
    fn reload(&mut self) {
        let load = || {
            // Before the rest: a change meanwhile is seen at the next look.
            let version = self.registry.version()?;
            let fleet = self.registry.fleet(&self.fleet.id)?.unwrap_or_else(|| self.fleet.clone());
            Ok::<_, Error>((version, View::load(&self.registry, &fleet, self.key.public())?))
        };
        match load() {
            Ok((version, view)) => {
                self.setup = setup(&view, &self.key);
                (self.version, self.members, self.fleet) = (version, view.members, view.fleet);
            }
            Err(error) => return eprintln!("{error}"),
        }
        match &mut self.backend {
            Backend::Kernel => {
                if let Err(error) = kernel::configure(&self.interface, &self.setup) {
                    eprintln!("the interface is not as the registry says: {error}");
                }
            }
            Backend::User { engine, .. } => engine.set_peers(&self.setup.peers),
        }
        self.greet();
    }

    fn answer(&mut self, request: Request) -> Reply {
        match request {
            Request::Status => Reply::Ok(self.status()),
            Request::Reload => {
                self.reload();
                Reply::Ok(Value::Null)
            }
            Request::Send { to, data } => match self.send(to, &data) {
                Ok(()) => Reply::Ok(Value::Null),
                Err(why) => Reply::Error(why),
            },
            Request::Down | Request::Watch => Reply::Error("that is done elsewhere".into()),
        }
    }

    fn send(&self, to: Ipv6Addr, data: &str) -> Result<(), String> {
        let is_node = |member: &Member| self.fleet.addresses(member.host).1 == to && member.revoked_ms.is_none();
        if !self.members.iter().any(is_node) {
            return Err(format!("{to} is no member's address"));
        }
        let bytes = base16ct::lower::decode_vec(data).map_err(|_| "the datagram is not in hex")?;
        let to = SocketAddrV6::new(to, COMMAND_PORT, 0, 0);
        // What cannot be sent now is lost, as on the link: whoever asked repeats it.
        let _ = SockRef::from(&self.commands).send_to(&bytes, &to.into());
        Ok(())
    }

    fn status(&self) -> Value {
        let (v4, v6) = self.fleet.addresses(AUTHORITY);
        let peers: Vec<Value> = self.setup.peers.iter().filter_map(|peer| self.peer_status(peer)).collect();
        json!({
            "up": true,
            "pid": self.state.pid,
            "fleet": self.fleet.name,
            "interface": self.interface,
            "engine": self.state.engine,
            "since_ms": self.state.since_ms,
            "v4": v4.to_string(),
            "v6": v6.to_string(),
            "port": self.setup.port,
            "public_key": mesh_key::encode(&self.key.public()).as_str(),
            "peers": peers,
        })
    }

    fn peer_status(&self, peer: &PeerSetup) -> Option<Value> {
        let member = self.members.iter().find(|member| member.key == peer.key)?;
        let seen = match &self.backend {
            Backend::Kernel => kernel::seen(&self.interface, peer).unwrap_or_default(),
            Backend::User { engine, .. } => engine.seen(&peer.key).unwrap_or_default(),
        };
        let (v4, v6) = self.fleet.addresses(member.host);
        let Seen { endpoint, handshake, received, sent, dropped } = seen;
        let fingerprint = matches!(member.who, Who::Node(_)).then(|| member.who.to_string());
        Some(json!({
            "fingerprint": fingerprint,
            "public_key": mesh_key::encode(&peer.key).as_str(),
            "v4": v4.to_string(),
            "v6": v6.to_string(),
            "endpoint": endpoint.map(|at| at.to_string()),
            "handshake_s": handshake.map(|ago| ago.as_secs()),
            "received": received,
            "sent": sent,
            "dropped": dropped,
        }))
    }

    fn end(self) -> io::Result<()> {
        let netlink = Netlink::open()?;
        match netlink.find(&self.interface)? {
            Some(found) if found.index == self.index => netlink.delete(found.index),
            // Somebody else has taken it away.
            _ => Ok(()),
        }
    }
}

fn backend(plan: &Plan, netlink: &Netlink, setup: &Setup, outer: UdpSocket) -> io::Result<(Backend, u32, String)> {
    let name = &plan.interface;
    let may_be_kernel = plan.choice == Choice::Kernel || (plan.choice == Choice::Auto && kernel::has_wg());
    if may_be_kernel {
        if !kernel::has_wg() {
            return Err(io::Error::other("`wg` is needed to set the kernel's WireGuard up: install wireguard-tools"));
        }
        if netlink.make_wireguard(name, MTU)? {
            let made = || {
                let index = netlink.find(name)?.ok_or(io::ErrorKind::NotFound)?.index;
                netlink.mark(index, MTU)?;
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
            return made.map(|index| (Backend::Kernel, index, "kernel".into()));
        }
        if plan.choice == Choice::Kernel {
            return Err(io::Error::other("this kernel has no WireGuard: --engine user needs none"));
        }
    }
    let device =
        if plan.choice == Choice::UserVeth { Device::pair(netlink, name)? } else { Device::make(netlink, name)? };
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
        Backend::Kernel => std::future::pending().await,
        Backend::User { device, outer, .. } => tokio::select! {
            ready = device.readable() => ready,
            ready = outer.readable() => ready,
        },
    }
}

/// Takes requests, each connection in a task of its own.
fn listen(paths: &Paths, asks: mpsc::Sender<Asked>, heard: broadcast::Sender<String>) -> io::Result<()> {
    match std::fs::remove_file(&paths.socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    // Nobody else may open it, at no time.
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(&paths.socket);
    nix::sys::stat::umask(before);
    let listener = listener?;
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(converse(stream, asks.clone(), heard.subscribe()));
        }
    });
    Ok(())
}

async fn converse(stream: UnixStream, asks: mpsc::Sender<Asked>, mut heard: broadcast::Receiver<String>) -> Option<()> {
    let (read, mut write) = stream.into_split();
    let mut lines = BufReader::with_capacity(LINE, read).lines();
    loop {
        let line = lines.next_line().await.ok()??;
        let (reply, watch) = match serde_json::from_str(&line) {
            Ok(Request::Watch) => (Reply::Ok(Value::Null), true),
            Ok(request) => {
                let (teller, told) = oneshot::channel();
                asks.send((request, teller)).await.ok()?;
                (told.await.ok()?, false)
            }
            Err(error) => (Reply::Error(format!("no request: {error}")), false),
        };
        let line = serde_json::to_string(&reply).ok()? + "\n";
        write.write_all(line.as_bytes()).await.ok()?;
        if watch {
            break;
        }
    }
    loop {
        match heard.recv().await {
            Ok(line) => write.write_all((line + "\n").as_bytes()).await.ok()?,
            Err(broadcast::error::RecvError::Lagged(_)) => {}
            Err(broadcast::error::RecvError::Closed) => return None,
        }
    }
}
