//! Telemetry as an inner packet. What is made here is a [`Telemetry`] record or a [`Receipt`] from [`TELEMETRY_PORT`] to
//! [`TELEMETRY_PORT`] of an authority, and there is no way to make it anything else.

use calls::{
    mesh::Heartbeat,
    params::{Params, micros},
};
use policy::{Configuration, Peer, Prefix, Role};
use shm::Micros;
use smoltcp::{
    phy::ChecksumCapabilities,
    wire::{IpAddress, IpProtocol, Ipv4Address, Ipv4Packet, Ipv4Repr, Ipv6Packet, Ipv6Repr, UdpPacket, UdpRepr},
};
use wire::{TELEMETRY_PORT, receipt::Receipt, telemetry::Telemetry};
use zerocopy::IntoBytes;

/// The workload's beats, as a record says them. What the workload writes is any number that it likes: counted here is only
/// that it has changed, and no more than twice in the time in which it is to change once. So it can be late and early.
pub struct Beats {
    pub count: u64,
    last: u64,
    /// No other counts before.
    next: Micros,
    apart: Micros,
}

impl Beats {
    pub fn new(params: &Params) -> Self {
        Self { count: 0, last: 0, next: 0, apart: micros(params.heartbeat_ms) / 2 }
    }

    pub fn hear(&mut self, now: Micros, heartbeat: Heartbeat) {
        if core::mem::replace(&mut self.last, heartbeat.beats) != heartbeat.beats && now >= self.next {
            self.count = self.count.wrapping_add(1);
            self.next = now.saturating_add(self.apart);
        }
    }
}

const RECORD: usize = size_of::<Telemetry>();
const UDP: usize = 8;
const V4: usize = 20;
const V6: usize = 40;
const HOP_LIMIT: u8 = 64;

/// The inner addresses of a record: from the node to an authority.
pub enum Path {
    V4([u8; 4], [u8; 4]),
    V6([u8; 16], [u8; 16]),
}

impl Path {
    /// The path is IPv6 if both ends have an address of it. `None` for a peer that is no authority.
    pub fn to(configuration: &Configuration, peer: &Peer) -> Option<Self> {
        let first = |of: &[Prefix], v4: bool| of.iter().find(|prefix| prefix.is_v4() == v4).map(|prefix| prefix.ip);
        let ends = |v4| Some((first(&configuration.addresses, v4)?, first(&peer.allowed, v4)?));
        if peer.role != Role::Authority {
            return None;
        }
        if let Some((from, to)) = ends(false) {
            return Some(Self::V6(from, to));
        }
        let ([.., a, b, c, d], [.., e, f, g, h]) = ends(true)?;
        Some(Self::V4([a, b, c, d], [e, f, g, h]))
    }
}

pub struct Report {
    bytes: [u8; V6 + UDP + RECORD],
    len: usize,
}

impl Report {
    pub fn new(path: &Path, record: &Telemetry) -> Self {
        Self::of(path, record.as_bytes())
    }

    pub fn receipt(path: &Path, receipt: &Receipt) -> Self {
        const { assert!(size_of::<Receipt>() <= RECORD) };
        Self::of(path, receipt.as_bytes())
    }

    fn of(path: &Path, record: &[u8]) -> Self {
        let mut bytes = [0; V6 + UDP + RECORD];
        let payload_len = UDP + record.len();
        let checks = ChecksumCapabilities::default();
        let len = match *path {
            Path::V4(from, to) => {
                let (src_addr, dst_addr) = (Ipv4Address::from(from), Ipv4Address::from(to));
                let mut ip = Ipv4Packet::new_unchecked(&mut bytes[..V4 + payload_len]);
                Ipv4Repr { src_addr, dst_addr, next_header: IpProtocol::Udp, payload_len, hop_limit: HOP_LIMIT }
                    .emit(&mut ip, &checks);
                datagram(ip.payload_mut(), src_addr.into(), dst_addr.into(), record);
                V4 + payload_len
            }
            Path::V6(from, to) => {
                let (src_addr, dst_addr) = (from.into(), to.into());
                let mut ip = Ipv6Packet::new_unchecked(&mut bytes[..V6 + payload_len]);
                Ipv6Repr { src_addr, dst_addr, next_header: IpProtocol::Udp, payload_len, hop_limit: HOP_LIMIT }
                    .emit(&mut ip);
                datagram(ip.payload_mut(), src_addr.into(), dst_addr.into(), record);
                V6 + payload_len
            }
        };
        Self { bytes, len }
    }

    pub fn packet(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

fn datagram(payload: &mut [u8], source: IpAddress, destination: IpAddress, record: &[u8]) {
    let ports = UdpRepr { src_port: TELEMETRY_PORT, dst_port: TELEMETRY_PORT };
    let fill = |to: &mut [u8]| to.copy_from_slice(record);
    let mut udp = UdpPacket::new_unchecked(payload);
    ports.emit(&mut udp, &source, &destination, record.len(), fill, &ChecksumCapabilities::default());
}
