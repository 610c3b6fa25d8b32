//! The process that owns the interface while the mesh is up: it makes it, keeps it as the registry says, takes telemetry in,
//! and does what other commands ask over the control socket. With an engine in user space it is also what moves packets.
//!
//! So nothing here waits for a disk, a lock or a pipe: the registry and the log have threads of their own.

use std::{
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6},
    time::Duration,
};

use netdev::netlink::{Netlink, News};
use socket2::SockRef;
use tokio::{
    io::unix::AsyncFd,
    net::UdpSocket,
    signal::unix::{SignalKind, signal},
    sync::{broadcast, mpsc},
    time::{MissedTickBehavior, interval},
};
use wire::{COMMAND_PORT, Fingerprint, Key, TELEMETRY_PORT};

use super::{
    backend::{Backend, Plan, Sink, outer, refused, remove_ours},
    control::{self, Reply, Request},
    device,
    engine::{BUFFER, Seen, Setup},
    firewall,
    intake::Intake,
    kernel,
    look::{self, Links},
    registry_thread::{Done, RegistryThread, Teller},
    run_files::{DaemonState, Lock, Paths},
    server::{Asked, listen},
    snapshot::{Change, KEEPALIVE_S, Node, Snapshot},
    stamp,
};
use crate::{
    base::{
        error::{Error, Exit},
        host::{Host, System},
        mesh_key, path,
        say::{self, say},
    },
    output::{self, Up},
    registry::Registry,
};

/// A clock that is behind by less was not set back.
const TICK_MS: i64 = 1000;
const TICK: Duration = Duration::from_millis(250);
/// How often what nodes have said is written down.
const WRITE: Duration = Duration::from_secs(1);
/// Packets moved one way before the other way's turn.
const TURN: usize = 64;
/// Records that a slow watcher may be behind.
const BEHIND: usize = 256;

struct Daemon {
    registry: RegistryThread,
    snapshot: Snapshot,
    /// What members have said that is not on its way to the disk.
    intake: Intake,
    /// Some are.
    is_writing: bool,
    /// Why the last could not be written.
    unwritten: Option<String>,
    /// The highest stamp that the registry has.
    stamp_ms: i64,
    /// As it is called now.
    interface: String,
    index: u32,
    mtu: u32,
    /// Changes of the kernel's interfaces.
    news: AsyncFd<News>,
    /// Where nodes are, as it was last seen.
    links: Links,
    /// Packets can pass to some node.
    works: bool,
    /// What is not as it should be.
    trouble: Vec<String>,
    backend: Backend,
    state: DaemonState,
    telemetry: [UdpSocket; 2],
    commands: UdpSocket,
    heard: broadcast::Sender<String>,
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
            daemon.registry.is_up(&daemon.state.fleet, &daemon.state.interface, &daemon.state.engine);
            tokio::select! {
                ended = daemon.serve(&mut asked) => ended,
                _ = interrupt.recv() => Ok(None),
                _ = terminate.recv() => Ok(None),
            }
        }
        Err(error) => Err(Error::network(format!("the control socket {}: {error}", paths.socket.display()))),
    };
    let mut state = daemon.state.clone();
    let gone = daemon.end();
    let teller = match ended {
        Ok(teller) => teller,
        Err(error) => {
            // What it was stays, with the reason, for whoever asks; on a full disk without.
            state.ended = Some(error.message.clone());
            let _ = lock.write(&state);
            return Err(error);
        }
    };
    let result = gone
        .and_then(|()| lock.release())
        .map_err(|error| Error::network(format!("the interface cannot be removed: {error}")));
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

impl Daemon {
    async fn start(plan: &Plan) -> Result<Self, Error> {
        let registry = Registry::open(&plan.registry)?;
        stamp::claim(&registry, &System).await?;
        let key = registry.make_mesh_key()?;
        let (registry, snapshot) = RegistryThread::start(registry, key, &plan.fleet)?;
        let (setup, fleet) = (&snapshot.setup(), &snapshot.fleet);
        let name = &plan.interface;
        let outer = outer(setup.port)?;
        let make = || -> io::Result<(Backend, u32, String, AsyncFd<News>)> {
            let netlink = Netlink::open()?;
            remove_ours(&netlink, name)?;
            // Before anything can change.
            let news = device::register(News::of_all()?)?;
            let (backend, index, engine) = Backend::make(plan, &netlink, setup, outer)?;
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
            Ok((backend, index, engine, news))
        };
        let (backend, index, engine, news) = make().map_err(|error| refused(name, &error))?;
        let (interface, since_ms) = (name.clone(), System.now_ms());
        let (pid, fleet_name) = (std::process::id(), fleet.name.clone());
        let state = DaemonState { pid, fleet: fleet_name, interface, index, engine, since_ms, ended: None };
        let (v4, v6) = fleet.addresses(fleet.host);
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
        let mut daemon = Self {
            registry,
            snapshot,
            intake: Intake::default(),
            is_writing: false,
            unwritten: None,
            stamp_ms: 0,
            interface: name.clone(),
            index,
            mtu: path::FULL,
            news,
            links: Links::new(),
            works: true,
            trouble: Vec::new(),
            backend,
            state,
            telemetry,
            commands,
            heard,
        };
        // That links are as they are is no change. What cannot be looked at now is an error of the look that follows.
        daemon.links = Netlink::open().and_then(|netlink| daemon.see_links(&netlink)).unwrap_or_default();
        daemon.look()?;
        Ok(daemon)
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
                ready = self.backend.readable() => {
                    ready.and_then(|()| self.move_packets(&mut buffer)).map_err(|error| broken(&self.interface, error))?;
                }
                ready = v4.readable() => ready.map_err(|error| broken("telemetry", error))?,
                ready = v6.readable() => ready.map_err(|error| broken("telemetry", error))?,
                _ = tick.tick() => {
                    if let Backend::User { engine, device, outer } = &mut self.backend {
                        engine.tick(&mut Sink { outer, device });
                    }
                }
                _ = greet.tick() => {
                    // What its way takes may have changed without a word.
                    self.look()?;
                    self.greet();
                }
                changed = look::news(&self.news) => {
                    changed.map_err(|error| broken("news of interfaces", error))?;
                    self.look()?;
                }
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
                        self.look()?;
                        let _ = teller.send(self.answer(request));
                    }
                },
            }
            self.hear(&mut buffer);
        }
    }

    /// Looks at what the kernel has, mends what can be mended, and lets nodes know if this host has moved. An error: the
    /// interface is gone.
    fn look(&mut self) -> Result<(), Error> {
        let name = &self.interface;
        let fails = |error: io::Error| Error::network(format!("the kernel does not say how {name} is: {error}"));
        let netlink = Netlink::open().map_err(fails)?;
        let Some(found) = netlink.at(self.index).map_err(fails)?.filter(device::is_ours) else {
            return Err(Error::network(format!(
                "the interface {name} is gone, removed by another program: run: os-network-admin mesh up"
            )));
        };
        let links = self.see_links(&netlink).map_err(fails)?;
        self.interface.clone_from(&found.name);
        let mut trouble = if found.is_up {
            let missing = look::restore(&netlink, &found, &self.snapshot.addresses());
            missing.unwrap_or_else(|error| vec![format!("{} cannot be looked at: {error}", found.name)])
        } else {
            vec![format!("the interface {name} is down: run: ip link set {name} up", name = found.name)]
        };
        if let Backend::Kernel(_, firewall) = &self.backend {
            trouble.extend(firewall.guard(|| self.snapshot.setup()));
        }
        self.works = trouble.is_empty();
        let useless = links.iter().filter_map(|(name, link)| link.trouble(name));
        trouble.extend(useless);
        let is_useful = |name: &String| links.get(name).is_some_and(|link| link.trouble(name).is_none());
        let reachable = |link: &Option<String>| link.as_ref().is_none_or(is_useful);
        self.works &= self.snapshot.nodes.is_empty() || self.snapshot.nodes.values().any(|node| reachable(&node.link));
        let places = self.snapshot.nodes.values().filter_map(|node| node.peer.endpoint);
        let mtu = path::inner_mtu_to(places).unwrap_or_else(|least| {
            trouble.push(format!(
                "a node's link takes less than the {} bytes that the mesh needs: longer packets are lost there",
                least + path::AROUND
            ));
            least
        });
        if found.mtu != mtu {
            match netlink.set_mtu(self.index, mtu) {
                Ok(()) => {}
                Err(error) => trouble.push(format!("the MTU of {} cannot be set to {mtu}: {error}", found.name)),
            }
        }
        (self.mtu, self.trouble) = (mtu, trouble);
        let moved = look::moved(&self.links, &links);
        self.links = links;
        if moved.places {
            self.find_places();
        }
        if moved.own {
            self.show_neighbours(self.snapshot.nodes.values(), true);
            if let Backend::User { engine, device, outer } = &mut self.backend {
                engine.poke(&mut Sink { outer, device });
            }
        }
        Ok(())
    }

    /// Nodes are where the interfaces that they were claimed on are now.
    fn find_places(&mut self) {
        for node in self.snapshot.nodes.values_mut() {
            let Some(link) = node.link.as_ref().and_then(|name| self.links.get(name)) else { continue };
            let index = link.index.unwrap_or(0);
            if let Some(at) = node.peer.endpoint.as_mut().filter(|at| at.scope_id() != index) {
                at.set_scope_id(index);
                if let Backend::User { engine, .. } = &mut self.backend {
                    engine.set_peer(&node.peer);
                }
            }
        }
        if let Backend::Kernel(..) = self.backend {
            self.configure(&self.snapshot.setup());
        }
    }

    fn see_links(&self, netlink: &Netlink) -> io::Result<Links> {
        look::links(netlink, self.snapshot.nodes.values().filter_map(|node| node.link.as_deref()))
    }

    /// Tells peers without a session where we are.
    fn greet(&mut self) {
        self.show_neighbours(self.snapshot.nodes.values(), false);
        if let Backend::User { engine, device, outer } = &mut self.backend {
            engine.greet(&mut Sink { outer, device });
        }
    }

    /// The kernel may have lost a node that says nothing any more.
    fn seek(&self) {
        if let Backend::User { engine, .. } = &self.backend {
            let unheard = self.snapshot.nodes.values().filter(|node| engine.is_unheard(&node.peer.key));
            self.show_neighbours(unheard, true);
        }
    }

    /// A node answers no solicitation of an address that it does not know, such as our new one: so the kernel is told where the
    /// node was. Of all of these, or of those that are not heard.
    fn show_neighbours<'n>(&self, nodes: impl Iterator<Item = &'n Node>, all: bool) {
        let Ok(netlink) = Netlink::open() else { return };
        let known = self.backend.known(&self.interface);
        for Node { peer, mac, .. } in nodes {
            let (Some(at), Some(mac)) = (peer.endpoint, *mac) else { continue };
            let (index, ip) = (at.scope_id(), *at.ip());
            let unknown = || matches!(netlink.neighbour(index, ip), Ok(None));
            if index != 0 && (all || !self.backend.hears(&known, peer)) && unknown() {
                // Without the right to do so the kernel's own way is left, which works where we have not moved.
                let _ = netlink.set_neighbour(index, ip, mac);
            }
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
                let datagram = buffer.get(..length).unwrap_or_default();
                let heard = self.intake.take(&self.snapshot, datagram, from.ip(), System.now_ms());
                // Nobody may be watching.
                let _ = heard.map(|heard| self.heard.send(control::write(heard)));
            }
        }
    }

    /// Has what was said since the last time written down, unless that is still going on.
    fn write(&mut self) {
        if let Backend::Kernel(stamps, _) = &mut self.backend {
            stamps.begin(System.since_1970());
        }
        let stamp_ms = self.backend.highest_stamp_ms();
        if !self.is_writing && (!self.intake.is_empty() || stamp_ms > self.stamp_ms + stamp::BEHIND_MS) {
            self.is_writing = true;
            self.registry.write(self.intake.drain(), stamp_ms);
        }
    }

    fn take(&mut self, done: Done) {
        match done {
            Done::Written(Ok((stamp_ms, bad))) => {
                self.intake.bad = self.intake.bad.saturating_add(bad);
                (self.is_writing, self.unwritten, self.stamp_ms) = (false, None, stamp_ms);
            }
            Done::Written(Err((left, error))) => {
                (self.is_writing, self.unwritten) = (false, Some(error.message));
                self.intake.put_back(left);
            }
            Done::Changed(changes) => self.change(changes),
            Done::Read(snapshot, teller) => {
                self.snapshot = *snapshot;
                let setup = self.snapshot.setup();
                match &mut self.backend {
                    Backend::Kernel(..) => self.configure(&setup),
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
        if let Backend::Kernel(..) = self.backend {
            self.configure(&self.snapshot.setup());
        }
        let nodes = changed.iter().filter_map(|host| self.snapshot.nodes.get(host));
        let keys: Vec<Key> = nodes.map(|node| node.peer.key).collect();
        self.show_neighbours(changed.iter().filter_map(|host| self.snapshot.nodes.get(host)), false);
        if let Backend::User { engine, device, outer } = &mut self.backend {
            keys.iter().for_each(|key| engine.greet_peer(key, &mut Sink { outer, device }));
        }
    }

    fn configure(&self, setup: &Setup) {
        if let Backend::Kernel(_, firewall) = &self.backend
            && let Err(error) = kernel::configure(&self.interface, firewall, setup)
        {
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
        let node = self.snapshot.at(to.into()).ok_or_else(|| format!("{to} is no member's address"))?;
        let link = node.link.as_ref().and_then(|name| self.links.get(name)?.trouble(name));
        if let Some(trouble) = link.or_else(|| self.trouble.first().filter(|_| !self.works).cloned()) {
            return Err(trouble);
        }
        let bytes = base16ct::lower::decode_vec(data).map_err(|_| "the datagram is not in hex")?;
        let to = SocketAddrV6::new(to, COMMAND_PORT, 0, 0);
        // What cannot be sent now is lost, as on the link: whoever asked repeats it.
        let _ = SockRef::from(&self.commands).send_to(&bytes, &to.into());
        Ok(())
    }

    fn status(&self) -> Up {
        let Snapshot { fleet, nodes, public, .. } = &self.snapshot;
        let (v4, v6) = fleet.addresses(fleet.host);
        let known = self.backend.known(&self.interface);
        Up {
            pid: self.state.pid,
            fleet: fleet.name.clone(),
            interface: self.interface.clone(),
            engine: self.state.engine.clone(),
            since_ms: self.state.since_ms,
            v4,
            v6,
            port: fleet.port,
            mtu: self.mtu,
            works: self.works,
            trouble: self.troubles(),
            public_key: mesh_key::encode(public).as_str().into(),
            peers: nodes.iter().map(|(host, node)| self.peer_status(*host, node, &known)).collect(),
        }
    }

    fn troubles(&self) -> Vec<String> {
        let mut all = self.trouble.clone();
        let unwritten = |why| format!("what nodes say is not written down yet: {why}");
        all.extend(self.unwritten.as_ref().map(unwritten));
        all.extend(self.intake.trouble());
        if let Backend::Kernel(stamps, _) = &self.backend {
            all.extend(kernel::trouble(&self.interface, &self.snapshot.public));
            if stamps.highest_ms() > System.now_ms().saturating_add(TICK_MS) {
                all.push(format!(
                    "this host's clock was set back: nodes answer no new handshake before {}",
                    output::time(stamps.highest_ms())
                ));
            }
        }
        all
    }

    fn peer_status(&self, host: u32, node: &Node, known: &kernel::Known) -> output::Peer {
        let peer = &node.peer;
        let (v4, v6) = self.snapshot.fleet.addresses(host);
        let Seen { endpoint, handshake, received, sent, dropped } = self.backend.seen(known, peer);
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
            match netlink.at(self.index)? {
                Some(found) if device::is_ours(&found) => netlink.delete(found.index),
                // Somebody else has taken it away.
                _ => Ok(()),
            }?;
            firewall::remove(&self.state.interface)
        };
        let (gone, stamp_ms) = (gone(), self.backend.highest_stamp_ms());
        let Self { registry, mut intake, .. } = self;
        registry.write(intake.drain(), stamp_ms);
        registry.end();
        gone
    }
}
