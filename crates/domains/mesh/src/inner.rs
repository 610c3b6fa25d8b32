//! The inner network: what a packet from a peer is for, and whether one of the workload's may go. Between the peers there is
//! no way through: what comes from one goes to the node itself, to the workload, or nowhere.

use heapless::Vec;
use policy::{Configuration, Flows, Inbound, Packet, Role};
use shm::{
    Micros,
    ring::{Duplex, FRAME_SLOT},
};
use smoltcp::wire::{Icmpv4Message, Icmpv4Packet, Icmpv6Message, Icmpv6Packet, Ipv4Packet, Ipv6Packet};
use wire::set::MAX_AUTHORITIES;

use crate::{command::Commands, member::NO_CONFIGURATION, outer::Ring, tunnel::Tunnel};

const HOP_LIMIT: u8 = 64;

pub struct Inner {
    pub configuration: Configuration,
    /// Of each peer that is an authority, its place in the set. They are the first peers.
    pub seats: Vec<u8, MAX_AUTHORITIES>,
    isolated: bool,
    flows: Flows,
    pub commands: Commands,
    /// Packets that policy did not name; of the workload's one for each record, however many there were.
    pub dropped: u64,
    /// A packet of the workload's has been refused since the last record.
    refused: bool,
    /// Packets that the workload's ring had no room for.
    pub lost: u64,
}

impl Inner {
    pub const fn new() -> Self {
        Self {
            configuration: NO_CONFIGURATION,
            seats: Vec::new(),
            isolated: true,
            flows: Flows::new(),
            commands: Commands::new(),
            dropped: 0,
            refused: false,
            lost: 0,
        }
    }

    pub fn forget(&mut self) {
        (self.configuration, self.seats) = (NO_CONFIGURATION, Vec::new());
        self.isolated = true;
        self.flows = Flows::new();
        self.commands.forget();
    }

    pub fn isolate(&mut self, isolated: bool) {
        self.isolated = isolated;
        self.flows.revise(&self.configuration, isolated);
    }

    /// The peers are others, or in another order; these are the places in the set of the first of them.
    pub fn configure(&mut self, configuration: Configuration, seats: Vec<u8, MAX_AUTHORITIES>) {
        (self.configuration, self.seats) = (configuration, seats);
        let mut keys = [None; MAX_AUTHORITIES];
        for (place, peer) in self.seats.iter().zip(&self.configuration.peers) {
            if let Some(key) = keys.get_mut(usize::from(*place)) {
                *key = Some(peer.key);
            }
        }
        self.commands.set_authorities(keys);
    }

    /// The place in the set of the authority that is this peer.
    pub fn authority(&self, peer: usize) -> Option<usize> {
        self.seats.get(peer).copied().map(usize::from)
    }

    /// Whether this peer has left the set: it hears telemetry to the end, and is heard no more.
    fn parts(&self, peer: usize) -> bool {
        let is_authority = self.configuration.peers.get(peer).is_some_and(|peer| peer.role == Role::Authority);
        is_authority && self.authority(peer).is_none()
    }

    /// Takes a packet that came from the peer at this place, perhaps with padding behind it.
    pub fn take(
        &mut self,
        now: Micros,
        place: usize,
        bytes: &mut [u8],
        workload: &mut Duplex<'_, FRAME_SLOT>,
        tunnel: &mut Tunnel,
        perimeter: &mut Ring<'_>,
    ) {
        let packet = Packet::parse(bytes).ok().filter(|_| !self.parts(place));
        let Some(packet) = packet else { return self.drop_one() };
        match self.flows.inbound(now, &self.configuration, self.isolated, place, &packet.summary) {
            Ok(Inbound::Commands) => match self.authority(place) {
                Some(authority) => self.commands.take(Some(authority), packet.payload),
                None => self.drop_one(),
            },
            Ok(Inbound::Records) => self.commands.take(None, packet.payload),
            Ok(Inbound::Flow) => {
                self.lost = self.lost.wrapping_add(u64::from(workload.send(packet.bytes).is_err()));
            }
            Ok(Inbound::Echo) => {
                let len = packet.bytes.len();
                if let Some(request) = bytes.get_mut(..len)
                    && answer(request).is_some()
                {
                    tunnel.send(now, place, request, perimeter);
                }
            }
            Err(_) => self.drop_one(),
        }
    }

    /// Sends a packet of the workload's, if a flow or a rule names it.
    pub fn send(&mut self, now: Micros, bytes: &[u8], tunnel: &mut Tunnel, perimeter: &mut Ring<'_>) {
        let Ok(packet) = Packet::parse(bytes) else { return self.refuse_workload() };
        match self.flows.outbound(now, &self.configuration, self.isolated, &packet.summary) {
            Ok(place) if !self.parts(place) => tunnel.send(now, place, packet.bytes, perimeter),
            _ => self.refuse_workload(),
        }
    }

    /// What the workload may not send is no news for the authority but that there was some: as many as it likes would be
    /// a number of its choice, in every record.
    pub fn refuse_workload(&mut self) {
        self.refused = true;
    }

    /// A record is about to be made.
    pub fn count_workload(&mut self) {
        self.dropped = self.dropped.wrapping_add(core::mem::take(&mut self.refused).into());
    }

    fn drop_one(&mut self) {
        self.dropped = self.dropped.wrapping_add(1);
    }
}

/// Turns an echo request, which [`Packet`] has found to be one, into its reply.
fn answer(request: &mut [u8]) -> Option<()> {
    match request.first().map(|first| first >> 4) {
        Some(4) => {
            let mut ip = Ipv4Packet::new_checked(request).ok()?;
            let (source, destination) = (ip.src_addr(), ip.dst_addr());
            let mut icmp = Icmpv4Packet::new_checked(ip.payload_mut()).ok()?;
            icmp.set_msg_type(Icmpv4Message::EchoReply);
            icmp.fill_checksum();
            ip.set_src_addr(destination);
            ip.set_dst_addr(source);
            ip.set_hop_limit(HOP_LIMIT);
            ip.fill_checksum();
        }
        Some(6) => {
            let mut ip = Ipv6Packet::new_checked(request).ok()?;
            let (source, destination) = (ip.src_addr(), ip.dst_addr());
            let mut icmp = Icmpv6Packet::new_checked(ip.payload_mut()).ok()?;
            icmp.set_msg_type(Icmpv6Message::EchoReply);
            icmp.fill_checksum(&destination, &source);
            ip.set_src_addr(destination);
            ip.set_dst_addr(source);
            ip.set_hop_limit(HOP_LIMIT);
        }
        _ => return None,
    }
    Some(())
}
