//! A tenant on its ports, with the mesh played here and a TCP client at the far end of it. Time passes when a test says
//! so, and the tenant runs only when notified, or when the alarm that it has set is due.

use std::{boxed::Box, collections::VecDeque, sync::atomic::AtomicU64, vec, vec::Vec};

use calls::{
    alarm::{Alarm, AlarmOf},
    mesh::{Heartbeat, Tenancy},
};
use shm::{
    Micros, ReadOnly, ReadWrite,
    cell::{Reader, Writer},
    ring::{Duplex, FRAME_SLOT},
};
use smoltcp::{
    iface::{Config, Interface, SocketHandle, SocketSet, SocketStorage},
    phy::{self, DeviceCapabilities, Medium},
    socket::tcp::{Socket, SocketBuffer, State},
    time::Instant,
    wire::{HardwareAddress, IpAddress, IpCidr, Ipv4Address, Ipv6Address},
};
use workload::Ports;

pub const OWN4: [u8; 4] = [10, 8, 0, 2];
pub const OWN6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
pub const FAR4: [u8; 4] = [10, 8, 0, 1];
pub const FAR6: [u8; 16] = [0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
pub const MTU: usize = 1420;
pub const PLACE: Tenancy =
    Tenancy { v4: OWN4, v4_length: 24, v6_length: 64, zero: [0; 2], v6: OWN6, seed: 42, mtu: MTU as u64 };
pub const NOWHERE: Tenancy =
    Tenancy { v4: [0; 4], v4_length: 0, v6_length: 0, zero: [0; 2], v6: [0; 16], seed: 0, mtu: 0 };

/// Sixty-three slots, as in `system.xml`.
const RING: usize = 0x20000;
pub type Step = Box<dyn FnMut(Micros, &mut Ports<'static>) -> bool>;
type Words = &'static [AtomicU64];

pub struct World {
    pub now: Micros,
    pub ports: Ports<'static>,
    /// All that the tenant has sent.
    pub sent: Vec<Vec<u8>>,
    pub far: Far,
    /// The mesh takes nothing any more.
    pub stuck: bool,
    pub mesh_beat: Reader<'static, Heartbeat>,
    pub console_beat: Reader<'static, Heartbeat>,
    regions: [Words; 6],
    step: Step,
    alarm: AlarmOf<'static>,
    /// When the tenant wants to be woken.
    pub due: Option<Micros>,
    tenancy: Writer<'static, Tenancy>,
    ring: Duplex<'static, FRAME_SLOT>,
}

fn words(bytes: usize) -> Words {
    Box::leak((0..bytes / 8).map(|_| AtomicU64::new(0)).collect::<Vec<_>>().into_boxed_slice())
}

fn ports(regions: &[Words; 6]) -> Ports<'static> {
    let [out, inn, tenancy, mesh_beat, console_beat, timer] = *regions;
    Ports {
        mesh: Duplex::new(ReadWrite::new(out), ReadOnly::new(inn)).unwrap(),
        tenancy: Reader::new(ReadOnly::new(tenancy)).unwrap(),
        mesh_beat: Writer::new(ReadWrite::new(mesh_beat)).unwrap(),
        console_beat: Writer::new(ReadWrite::new(console_beat)).unwrap(),
        alarm: Alarm::new(ReadWrite::new(timer)).unwrap(),
    }
}

impl World {
    pub fn new(step: Step) -> Self {
        let regions = [RING, RING, 4096, 4096, 4096, 4096].map(words);
        let [out, inn, tenancy, mesh_beat, console_beat, timer] = regions;
        let mut world = Self {
            now: 1_000_000,
            ports: ports(&regions),
            sent: Vec::new(),
            far: Far::new(),
            stuck: false,
            mesh_beat: Reader::new(ReadOnly::new(mesh_beat)).unwrap(),
            console_beat: Reader::new(ReadOnly::new(console_beat)).unwrap(),
            regions,
            step,
            alarm: AlarmOf::new(ReadOnly::new(timer)).unwrap(),
            due: None,
            tenancy: Writer::new(ReadWrite::new(tenancy)).unwrap(),
            ring: Duplex::new(ReadWrite::new(inn), ReadOnly::new(out)).unwrap(),
        };
        world.run();
        world
    }

    /// Another tenant takes over the regions.
    pub fn restart(&mut self, step: Step) {
        self.ports = ports(&self.regions);
        self.step = step;
        self.run();
    }

    pub fn settle(&mut self, tenancy: Tenancy) {
        self.tenancy.publish(&tenancy);
        self.run();
    }

    /// Packets on their way to the tenant.
    pub fn give(&mut self, packet: &[u8]) {
        self.ring.send(packet).unwrap();
        self.run();
    }

    /// What the far end would send now, kept from the tenant.
    pub fn far_sends(&mut self) -> Vec<Vec<u8>> {
        self.far.poll(self.now);
        self.far.device.outgoing.drain(..).collect()
    }

    /// Notifies the tenant, and lets packets go to and fro until nothing moves.
    pub fn run(&mut self) {
        for round in 0.. {
            assert!(round < 100_000, "it never rests");
            let more = (self.step)(self.now, &mut self.ports);
            let before = self.sent.len();
            let mut buffer = [0; FRAME_SLOT];
            while let Some(len) = self.take(&mut buffer) {
                self.sent.push(buffer[..len].to_vec());
                self.far.device.incoming.push_back(buffer[..len].to_vec());
            }
            self.far.poll(self.now);
            let mut moved = more || self.sent.len() != before;
            while self.ring.has_room() {
                let Some(packet) = self.far.device.outgoing.pop_front() else { break };
                self.ring.send(&packet).unwrap();
                moved = true;
            }
            if !moved {
                break;
            }
        }
        self.due = self.alarm.poll(self.now);
        // Who sets an alarm for the past is woken at once, for ever.
        assert!(!self.alarm.take_signal(), "an alarm that is due already");
    }

    fn take(&mut self, buffer: &mut [u8]) -> Option<usize> {
        if self.stuck { None } else { self.ring.recv(buffer).unwrap() }
    }

    /// Time passes. Returns how often the tenant was woken by its alarm.
    pub fn later(&mut self, micros: Micros) -> usize {
        let end = self.now + micros;
        let mut woken = 0;
        loop {
            let far = self.far.due(self.now).map(|at| at.max(self.now + 1));
            let due = self.due;
            let next = [due, far].into_iter().flatten().min().filter(|at| *at <= end);
            let Some(next) = next else { break };
            self.now = next;
            if due == Some(next) {
                assert_eq!(self.alarm.poll(self.now), None);
                assert!(self.alarm.take_signal());
                woken += 1;
            }
            self.run();
        }
        self.now = end;
        woken
    }

    /// Connects, says it and closes nothing. Returns the connection.
    pub fn say(&mut self, to: IpAddress, port: u16, what: &[u8]) -> SocketHandle {
        let handle = self.far.connect(to, port);
        self.run();
        if self.far.socket(handle).may_send() {
            self.far.send(handle, what);
            self.run();
        }
        handle
    }

    /// What came back on a connection, and whether it was closed in order.
    pub fn hear(&mut self, handle: SocketHandle) -> (Vec<u8>, bool) {
        let mut heard = Vec::new();
        let socket = self.far.socket(handle);
        while socket.can_recv() {
            socket.recv(|bytes| (bytes.len(), heard.extend_from_slice(bytes))).unwrap();
        }
        let closed = matches!(socket.state(), State::CloseWait | State::LastAck | State::TimeWait | State::Closing);
        (heard, closed)
    }
}

pub fn own4() -> IpAddress {
    Ipv4Address::from(OWN4).into()
}

pub fn own6() -> IpAddress {
    Ipv6Address::from(OWN6).into()
}

/// The far end: a TCP client.
pub struct Far {
    pub device: Queue,
    interface: Interface,
    sockets: SocketSet<'static>,
    port: u16,
}

#[derive(Default)]
pub struct Queue {
    pub incoming: VecDeque<Vec<u8>>,
    pub outgoing: VecDeque<Vec<u8>>,
}

pub struct Rx(Vec<u8>);
pub struct Tx<'t>(&'t mut VecDeque<Vec<u8>>);

impl phy::Device for Queue {
    type RxToken<'t> = Rx;
    type TxToken<'t> = Tx<'t>;

    fn receive(&mut self, _: Instant) -> Option<(Rx, Tx<'_>)> {
        Some((Rx(self.incoming.pop_front()?), Tx(&mut self.outgoing)))
    }

    fn transmit(&mut self, _: Instant) -> Option<Tx<'_>> {
        Some(Tx(&mut self.outgoing))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = MTU;
        capabilities
    }
}

impl phy::RxToken for Rx {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, f: F) -> R {
        f(&self.0)
    }
}

impl phy::TxToken for Tx<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, len: usize, f: F) -> R {
        let mut packet = vec![0; len];
        let result = f(&mut packet);
        self.0.push_back(packet);
        result
    }
}

fn buffer() -> SocketBuffer<'static> {
    SocketBuffer::new(Box::leak(vec![0; 65535].into_boxed_slice()))
}

impl Far {
    fn new() -> Self {
        let mut device = Queue::default();
        let mut config = Config::new(HardwareAddress::Ip);
        config.random_seed = 77;
        let mut interface = Interface::new(config, &mut device, Instant::ZERO);
        interface.update_ip_addrs(|own| {
            own.push(IpCidr::new(Ipv4Address::from(FAR4).into(), 0)).unwrap();
            own.push(IpCidr::new(Ipv6Address::from(FAR6).into(), 0)).unwrap();
        });
        let storage: Vec<SocketStorage<'static>> = (0..64).map(|_| SocketStorage::EMPTY).collect();
        Self { device, interface, sockets: SocketSet::new(Box::leak(storage.into_boxed_slice())), port: 50_000 }
    }

    pub fn connect(&mut self, to: IpAddress, port: u16) -> SocketHandle {
        let mut socket = Socket::new(buffer(), buffer());
        // No time passes unless a test says so.
        socket.set_ack_delay(None);
        let handle = self.sockets.add(socket);
        self.port += 1;
        let socket = self.sockets.get_mut::<Socket<'_>>(handle);
        socket.connect(self.interface.context(), (to, port), self.port).unwrap();
        handle
    }

    pub fn socket(&mut self, handle: SocketHandle) -> &mut Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub fn send(&mut self, handle: SocketHandle, bytes: &[u8]) {
        assert_eq!(self.socket(handle).send_slice(bytes), Ok(bytes.len()));
    }

    fn poll(&mut self, now: Micros) {
        self.interface.poll(instant(now), &mut self.device, &mut self.sockets);
    }

    fn due(&mut self, now: Micros) -> Option<Micros> {
        self.interface.poll_at(instant(now), &self.sockets).map(|at| at.total_micros() as Micros)
    }
}

fn instant(now: Micros) -> Instant {
    Instant::from_micros(now as i64)
}
