//! A node that has been claimed into a mesh whose other members are WireGuards of someone else's, on Linux hosts of the
//! segment.

use std::{fs, net::Ipv6Addr, path::PathBuf, thread};

use base64ct::{Base64, Encoding};
use crypto::{Secret, dh_public};
use lab::NodeOptions;
use policy::{Configuration, Endpoint, Peer, Prefix, Preshared, Role, Rule, Underlay};
use wire::{
    Hash, Key, MESH_PORT, TELEMETRY_PORT, U32, U64,
    binding::{ForkRecord, configuration_hash},
    command::{self, Command},
    link::HelloBody,
    order::{Isolation, Kind, Order},
    staged::{CHUNK, ChunkHead},
    telemetry::Telemetry,
    title::Title,
};
use zerocopy::{FromZeros, IntoBytes};

use crate::{
    admin::{Admin, Session, Silence, fresh, signer},
    bed::{self, Bed, Node},
    host::Host,
    station::Station,
};

/// Inner addresses of the node and of the other members, by number.
pub fn inner4(number: u8) -> [u8; 4] {
    [10, 8, 0, number]
}

pub fn inner6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd00, 8, 0, 0, 0, 0, 0, number.into())
}

/// Static addresses on the link, outside the tunnel.
pub fn outer6(number: u8) -> Ipv6Addr {
    Ipv6Addr::new(0xfd99, 0, 0, 0, 0, 0, 0, number.into())
}

/// The node's number.
pub const NODE: u8 = 2;

/// Somebody else's WireGuard, and how it reaches the node: boringtun reads no link-local endpoint, so it goes by the static
/// address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Implementation {
    WireguardGo,
    Boringtun,
}

/// A member of the mesh on a host of its own.
pub struct Member {
    /// Of its port.
    pub name: String,
    pub host: Host,
    pub number: u8,
    pub interface: String,
    what: Implementation,
    secret: Secret,
    preshared: Option<[u8; 32]>,
    /// What the WireGuard has said.
    log: PathBuf,
}

impl Member {
    /// Starts the WireGuard. It knows no peer yet.
    pub fn start(bed: &Bed, name: &str, number: u8, what: Implementation, preshared: bool) -> Self {
        let mut host = Host::new(bed, name);
        host.ok("test -w /dev/net/tun || { echo no access to /dev/net/tun; false; }");
        let (secret, interface) = (Secret::new(fresh()), format!("wg{number}"));
        let log = bed.dir().join(format!("{name}.log"));
        let name = name.to_owned();
        let mut this = Self { name, host, number, interface, what, secret, preshared: preshared.then(fresh), log };
        let address = format!("ip address add {}/64 dev lab0 nodad", outer6(number));
        this.host.ok(&address);
        this.up();
        this
    }

    /// Ends the WireGuard and starts it again, with the same key. It knows no peer any more.
    pub fn restart(&mut self) {
        self.host.ok("kill $(cat /run/wg.pid); wait $(cat /run/wg.pid); true");
        self.up();
    }

    fn up(&mut self) {
        let Self { host, interface, number, what, log, .. } = self;
        let program = match what {
            Implementation::WireguardGo => "wireguard-go -f".to_owned(),
            Implementation::Boringtun => native::runner::program_dir().join("boringtun").display().to_string(),
        };
        host.ok(&format!("{program} {interface} >>'{}' 2>&1 & echo $! >/run/wg.pid", log.display()));
        // `wg` is asked no earlier: it unlinks a socket that is bound and does not listen yet, taking it for a dead one's.
        host.until(&format!("{} && wg show {interface}", listens(interface)));
        let ([a, b, c, d], six) = (inner4(*number), inner6(*number));
        let commands = format!(
            "echo 0 >/proc/sys/net/ipv6/conf/{interface}/accept_dad && ip link set {interface} mtu 1420 up && \
             ip address add {a}.{b}.{c}.{d}/24 dev {interface} && ip address add {six}/64 dev {interface} nodad"
        );
        host.ok(&commands);
        self.configure(&[]);
    }

    pub fn key(&self) -> Key {
        dh_public(&self.secret)
    }

    /// Where the node finds it on the link.
    pub fn outer(&mut self) -> Ipv6Addr {
        match self.what {
            Implementation::WireguardGo => self.host.link_local(),
            Implementation::Boringtun => outer6(self.number),
        }
    }

    /// This member as the node's configuration has it.
    pub fn as_peer(&mut self, role: Role, keepalive_s: u16) -> Peer {
        let ip = self.outer().octets();
        let allowed = [Prefix::v4(inner4(self.number), 32), Prefix { ip: inner6(self.number).octets(), length: 128 }];
        Peer {
            key: self.key(),
            role,
            preshared: self.preshared.map(Preshared),
            endpoint: Some(Endpoint { ip, port: MESH_PORT }),
            allowed: allowed.into_iter().collect(),
            keepalive_s,
        }
    }

    /// Knows the node as a peer; with an endpoint it can open the session itself.
    pub fn meet(&mut self, node: &Claimed, endpoint: bool) {
        let [a, b, c, d] = inner4(NODE);
        let mut lines = vec![
            "[Peer]".to_owned(),
            format!("PublicKey = {}", Base64::encode_string(&node.title.binding.mesh_key)),
            format!("AllowedIPs = {a}.{b}.{c}.{d}/32, {}/128", inner6(NODE)),
        ];
        if let Some(key) = &self.preshared {
            lines.push(format!("PresharedKey = {}", Base64::encode_string(key)));
        }
        if endpoint {
            let at = match self.what {
                Implementation::WireguardGo => format!("{}%lab0", Ipv6Addr::from(node.node.target().ip)),
                Implementation::Boringtun => outer6(NODE).to_string(),
            };
            lines.push(format!("Endpoint = [{at}]:{MESH_PORT}"));
        }
        self.configure(&lines);
    }

    fn configure(&mut self, peers: &[String]) {
        let secret = Base64::encode_string(&*self.secret);
        let file = format!("[Interface]\nPrivateKey = {secret}\nListenPort = {MESH_PORT}\n{}\n", peers.join("\n"));
        let interface = &self.interface;
        self.host.ok(&format!("cat >/run/wg.conf <<'END'\n{file}END\nwg setconf {interface} /run/wg.conf"));
    }

    /// Waits until the node answers an echo.
    pub fn ping(&mut self) {
        let [a, b, c, d] = inner4(NODE);
        self.host.until(&format!("ping -n -c 1 -W 2 {a}.{b}.{c}.{d}"));
        self.host.until(&format!("ping -n -c 1 -W 2 {}", inner6(NODE)));
    }

    /// `probe` with these arguments.
    pub fn probe(&self, arguments: &str) -> String {
        format!("{} {arguments}", native::runner::program_dir().join("probe").display())
    }

    /// Sends a datagram to the node's command port.
    pub fn say(&mut self, datagram: &[u8]) {
        let [a, b, c, d] = inner4(NODE);
        let command = self.probe(&format!("udp-send {a}.{b}.{c}.{d}:{} {}", wire::COMMAND_PORT, wire::Hex(datagram)));
        self.host.ok(&command);
    }

    /// Keeps what comes of telemetry from now on.
    pub fn listens(&mut self) {
        let receive = self.probe(&format!("udp-receive {TELEMETRY_PORT}"));
        self.host.ok(&format!("{receive} >/run/telemetry 2>&1 &"));
    }

    /// The last record that came. Records come by themselves.
    pub fn record(&mut self) -> Option<Telemetry> {
        let text = self.host.run("tail -n 1 /run/telemetry").text;
        let hex = text.split(' ').nth(1).unwrap_or_default();
        let byte = |at: usize| u8::from_str_radix(hex.get(2 * at..2 * at + 2)?, 16).ok();
        Telemetry::parse(&(0..hex.len() / 2).filter_map(byte).collect::<Vec<u8>>())
    }

    /// When the last handshake with the node was, in seconds of the host's clock; 0 if there was none.
    pub fn last_handshake(&mut self) -> u64 {
        let text = self.host.ok(&format!("wg show {} latest-handshakes", self.interface));
        text.split_whitespace().nth(1).and_then(|word| word.parse().ok()).unwrap_or(0)
    }
}

/// A command that succeeds once the interface's control socket listens, as the kernel's table of sockets has it
/// (`__SO_ACCEPTCON`), without connecting to it.
fn listens(interface: &str) -> String {
    // boringtun writes two slashes.
    let matched = format!("$4 == \"00010000\" && $NF ~ /\\/wireguard\\/+{interface}\\.sock$/");
    format!("awk '{matched} {{ found = 1 }} END {{ exit !found }}' /proc/net/unix")
}

impl Drop for Member {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!("--- {}:\n{}---", self.log.display(), fs::read_to_string(&self.log).unwrap_or_default());
        }
    }
}

/// A node that is in a mesh or will be, and what its administrator keeps.
pub struct Claimed {
    pub node: Node,
    pub admin: Admin,
    pub station: Station,
    pub title: Title,
    pub configuration: Configuration,
    /// Of the record that it has shown in a claim.
    pub fork: Option<Hash>,
    claim_key: Key,
    commands: u32,
}

impl Claimed {
    /// Boots a node and claims it with these peers and rules. `tenant`: the program in the workload's place.
    pub fn new(bed: &Bed, peers: Vec<Peer>, rules: &[&str], tenant: Option<&str>) -> Self {
        let with_tenant = |options| NodeOptions { tenant: tenant.map(str::to_owned), ..options };
        let mut this = Self::in_hold(bed, peers, rules, with_tenant);
        let (hello, token) = this.admin.reach(&mut this.station);
        this.claim(&hello, &token).expect("the gate is open, and nobody breaks the exchange");
        this.node.wait_phase("claimed");
        this
    }

    /// Boots a node that is to be claimed with these peers and rules. Its binding means nothing yet.
    pub fn in_hold(
        bed: &Bed,
        peers: Vec<Peer>,
        rules: &[&str],
        options: impl FnOnce(NodeOptions) -> NodeOptions,
    ) -> Self {
        let admin = Admin::new(fresh());
        let node = bed.node(options(bed::image(&admin.public())));
        node.wait_phase("hold");
        let station = bed.station("admin", 1);
        let configuration = Configuration {
            addresses: own().into_iter().collect(),
            underlay: Some(Underlay { address: Prefix { ip: outer6(NODE).octets(), length: 64 }, gateway: None }),
            peers: peers.into_iter().collect(),
            rules: parse(rules).into_iter().collect(),
        };
        let title = Title::new_zeroed();
        Self { node, admin, station, title, configuration, fork: None, claim_key: [0; 32], commands: 1_000 }
    }

    /// Claims the node, whose gate is open; if it has committed the binding, goes on with that.
    pub fn claim(&mut self, hello: &HelloBody, token: &[u8; 16]) -> Result<(), Silence> {
        let bytes = bytes(&self.configuration);
        let mut session = self.admin.session(&mut self.station, hello, token)?;
        let outcome = self.grant(&mut session, hello, &bytes);
        // The host's own connection is no part of what follows.
        self.station.vanish(session.handle);
        outcome
    }

    fn grant(&mut self, session: &mut Session, hello: &HelloBody, bytes: &[u8]) -> Result<(), Silence> {
        let Self { admin, station, .. } = self;
        let identity = session.identity(station, &hello.fiduciary)?;
        let fork = ForkRecord::hash(identity.fork());
        assert!(self.fork.replace(fork).is_none_or(|before| before == fork), "another fork record");
        if identity.committed == 0 {
            self.title = admin.title(&identity, bytes);
        }
        session.grant(station, &self.title, bytes);
        let message = session.pairing(station, &self.title)?;
        session.acknowledge(station, &message.record);
        self.claim_key = hello.claim_key;
        Ok(())
    }

    /// Cuts the node's power and switches it on again: it is a member, with nobody's help.
    pub fn reboot(&mut self) {
        self.node.cut();
        self.on();
        self.node.wait_phase("claimed");
    }

    /// Switches the node on. It takes no find and no command of the blocks of counters that were reserved before.
    pub fn on(&mut self) {
        self.node.on();
        self.leave_blocks();
    }

    /// The next find and the next command are of blocks of counters that the node has yet to reserve.
    pub fn leave_blocks(&mut self) {
        self.admin.counter += 1 << 16;
        self.commands += 64;
    }

    /// The next command, as the authority makes it.
    pub fn command(&mut self, operation: impl Into<u8>, argument: u32) -> Command {
        self.commands += 1;
        let key = command::key(&self.admin.anchor.dh, &self.claim_key, &self.title).expect("N is a good key");
        Command::new(&key, &self.title.warrant.fiduciary, operation, argument, self.commands)
    }

    /// The counter of the last command.
    pub fn counter(&self) -> u32 {
        self.commands
    }

    /// The hash of a configuration.
    pub fn hash(configuration: &Configuration) -> Hash {
        configuration_hash(&bytes(configuration))
    }

    /// An update to this configuration: its order and the datagrams of its chunks.
    pub fn update(&mut self, configuration: &Configuration) -> (Order, Vec<Vec<u8>>) {
        self.order(Kind::Configuration, &bytes(configuration))
    }

    /// The order that ends the isolation by the command of this counter.
    pub fn rejoin(&mut self, counter: u32) -> (Order, Vec<Vec<u8>>) {
        let isolation = Isolation { authority: U32::new(0), counter: U32::new(counter) };
        self.order(Kind::Rejoin, isolation.as_bytes())
    }

    fn order(&mut self, kind: Kind, body: &[u8]) -> (Order, Vec<Vec<u8>>) {
        self.admin.counter += 1;
        let mut order = Order::new(kind, body);
        let Title { warrant, set, .. } = &self.title;
        (order.fleet, order.fiduciary, order.epoch) = (warrant.fleet, warrant.fiduciary, warrant.epoch);
        (order.set, order.counter) = (set.hash(), U64::new(self.admin.counter));
        let order = order.sign(&self.admin.anchor, 0);
        let order = (1..set.needed.into()).fold(order, |order, place| order.sign(&signer(place), place));
        let whole = [order.as_bytes(), body].concat();
        let chunks = whole.chunks(CHUNK).enumerate().map(|(number, part)| {
            let mut chunk = ChunkHead::new_zeroed();
            chunk.short = U32::new(order.short());
            chunk.length = u16::try_from(whole.len()).expect("an update that fits").into();
            chunk.number = u8::try_from(number).expect("few chunks");
            [chunk.as_bytes(), part].concat()
        });
        (order, chunks.collect())
    }
}

fn own() -> [Prefix; 2] {
    [Prefix::v4(inner4(NODE), 24), Prefix { ip: inner6(NODE).octets(), length: 64 }]
}

fn parse(rules: &[&str]) -> Vec<Rule> {
    rules.iter().map(|rule| rule.parse().expect("a rule")).collect()
}

fn bytes(configuration: &Configuration) -> Vec<u8> {
    configuration.check().expect("a configuration that makes sense");
    let mut buffer = [0; wire::order::MAX_CONFIGURATION];
    configuration.write(&mut buffer).expect("a configuration that fits").to_vec()
}
