//! What may pass. Default deny, both ways: a frame passes only if a rule below names it.
//!
//! | phase | in | out |
//! |---|---|---|
//! | blind, fork, sealed, claimed | nothing | nothing |
//! | scan, hold, committed | find, open to ff02::1 | hello to ff02::1 |
//! | and the gate is open | from the peer: TCP to 9443, its solicitations and advertisements | to the peer: answer, TCP from 9443 without RST and FIN, solicitations and advertisements |
//! | committed, claimed, and a member of a mesh | from anyone: UDP to 51820; from stations: solicitations and advertisements | to stations: UDP from 51820, solicitations and advertisements |
//!
//! Stations are the addresses that `mesh` names: where its peers are, and the gateway. A datagram to or from one beyond
//! the link has the gateway's MAC, so that of datagrams of WireGuard only the IP addresses are compared. Neighbour
//! discovery with the gate's peer is `claim`'s while the gate is open, all other is `mesh`'s. WireGuard itself answers no
//! stranger.
//!
//! The function is pure: the same rules, stations, time and frame bring the same answer.

use calls::{
    mesh::Stations,
    rules::{MeshLink, Rules},
};
use shm::Micros;
use wire::{
    CLAIM_PORT, Ip, MESH_PORT,
    link::{Answer, Find, Hello, Open},
};

use crate::{
    Reason,
    packet::{Content, Flags, Neighbour, NeighbourKind, Packet, Station, Tcp, is, is_host, is_unicast},
};

/// Hop limit of all that the node itself sends to a group or as neighbour discovery, and that neighbour
/// discovery must have: it proves that no router forwarded the frame.
pub const HOP_LIMIT: u8 = 255;

/// One of the perimeter's sides, each a ring of frames: where a frame comes from, or where it goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Side {
    Net,
    Beacon,
    Claim,
    Mesh,
}

/// Where a frame from that side goes, or why nowhere.
pub fn decide(rules: &Rules, stations: &Stations, now: Micros, from: Side, frame: &[u8]) -> Result<Side, Reason> {
    let us = Station { mac: rules.link.mac, ip: rules.link.ip };
    let (listens, member) = (rules.phase().listens(), Member::of(rules, &us, stations));
    if !us.is_one() || (!listens && member.is_none()) {
        return Err(Reason::Closed);
    }
    let packet = Packet::parse(frame)?;
    let peer = rules.open_to(now).map(|peer| Station { mac: peer.mac, ip: peer.ip }).filter(Station::is_one);
    match (from, member) {
        (Side::Net, Some(member)) if member.hears(peer.as_ref(), &packet) => member.inbound(&packet),
        (Side::Mesh, member) => member.ok_or(Reason::Closed)?.outbound(&packet),
        _ if !listens => Err(Reason::Closed),
        (Side::Net, _) => inbound(&us, peer.as_ref(), &packet),
        (Side::Beacon, _) => from_beacon(&us, peer.as_ref(), &packet),
        (Side::Claim, _) => from_claim(&us, peer.as_ref(), &packet),
    }
}

/// The link as the mesh of a member uses it.
#[derive(Clone, Copy)]
struct Member<'a> {
    us: &'a Station,
    link: &'a MeshLink,
    stations: &'a Stations,
}

impl<'a> Member<'a> {
    fn of(rules: &'a Rules, us: &'a Station, stations: &'a Stations) -> Option<Self> {
        let member = rules.mesh.member == 1 && rules.phase().has_mesh();
        member.then_some(Self { us, link: &rules.mesh, stations })
    }

    /// Whether `ip` is the node's: link-local, or the static one.
    fn is_ours(&self, ip: &Ip) -> bool {
        *ip == self.us.ip || (*ip == self.link.address && is_host(ip))
    }

    fn is_us(&self, station: &Station) -> bool {
        station.mac == self.us.mac && self.is_ours(&station.ip)
    }

    /// A station's address; whoever has a MAC of its own may have it.
    fn is_station(&self, station: &Station) -> bool {
        is_unicast(&station.mac) && station.mac != self.us.mac && self.is_station_ip(&station.ip)
    }

    fn is_station_ip(&self, ip: &Ip) -> bool {
        is_host(ip) && !self.is_ours(ip) && self.stations.iter().any(|station| station == ip)
    }

    /// Whether a frame from the link is the mesh's to judge.
    fn hears(&self, gate: Option<&Station>, packet: &Packet<'_>) -> bool {
        match &packet.content {
            Content::WireGuard { .. } => true,
            Content::Neighbour(_) => gate.is_none_or(|peer| packet.source.ip != peer.ip),
            Content::Beacon(_) | Content::Tcp(_) => false,
        }
    }

    fn inbound(&self, packet: &Packet<'_>) -> Result<Side, Reason> {
        let Packet { source: from, destination: to, .. } = packet;
        match &packet.content {
            Content::WireGuard { source, destination } => {
                let stranger = is_unicast(&from.mac) && from.mac != self.us.mac && is_host(&from.ip);
                need(stranger && !self.is_ours(&from.ip), Reason::Sender)?;
                need(self.is_us(to), Reason::Receiver)?;
                need(*destination == MESH_PORT && *source != 0, Reason::Port)?;
            }
            Content::Neighbour(message) => {
                need(self.is_station(from), Reason::Sender)?;
                need(packet.hop_limit == HOP_LIMIT, Reason::Header)?;
                let ours = Station { mac: self.us.mac, ip: message.target };
                match message.kind {
                    NeighbourKind::Solicitation => {
                        need(self.is_us(to) || *to == ours.solicited_node(), Reason::Receiver)?;
                        need(self.is_us(&ours) && message.link_layer == Some(from.mac), Reason::Neighbour)?;
                    }
                    NeighbourKind::Advertisement { .. } => {
                        need(self.is_us(to), Reason::Receiver)?;
                        // An answer to a unicast solicitation may leave the option out (RFC 4861, 4.4).
                        let of_the_sender = message.link_layer.is_none_or(|mac| mac == from.mac);
                        need(of_the_sender && self.is_station_ip(&message.target), Reason::Neighbour)?;
                    }
                }
            }
            Content::Beacon(_) | Content::Tcp(_) => return Err(Reason::Protocol),
        }
        Ok(Side::Mesh)
    }

    fn outbound(&self, packet: &Packet<'_>) -> Result<Side, Reason> {
        let Packet { source: from, destination: to, .. } = packet;
        need(self.is_us(from), Reason::Sender)?;
        need(packet.plain, Reason::Header)?;
        match &packet.content {
            Content::WireGuard { source, destination } => {
                need(self.is_station(to), Reason::Receiver)?;
                need(*source == MESH_PORT && *destination != 0, Reason::Port)?;
            }
            Content::Neighbour(message) => {
                need(packet.hop_limit == HOP_LIMIT, Reason::Header)?;
                let theirs = Station { mac: to.mac, ip: message.target };
                let by_us = message.link_layer == Some(self.us.mac);
                match message.kind {
                    NeighbourKind::Solicitation => {
                        let to_it = self.is_station(to) && to.ip == message.target;
                        need(to_it || *to == theirs.solicited_node(), Reason::Receiver)?;
                        need(by_us && self.is_station_ip(&message.target), Reason::Neighbour)?;
                    }
                    NeighbourKind::Advertisement { router } => {
                        need(self.is_station(to), Reason::Receiver)?;
                        need(by_us && !router && self.is_ours(&message.target), Reason::Neighbour)?;
                    }
                }
            }
            Content::Beacon(_) | Content::Tcp(_) => return Err(Reason::Protocol),
        }
        Ok(Side::Net)
    }
}

fn inbound(us: &Station, peer: Option<&Station>, packet: &Packet<'_>) -> Result<Side, Reason> {
    if !packet.source.is_one() || packet.source.mac == us.mac || packet.source.ip == us.ip {
        return Err(Reason::Sender);
    }
    if let Content::WireGuard { .. } = packet.content {
        return Err(Reason::Port);
    }
    if let Content::Beacon(datagram) = packet.content {
        need(packet.destination == Station::ALL_NODES, Reason::Receiver)?;
        need(is::<Find>(datagram) || is::<Open>(datagram), Reason::Datagram)?;
        return Ok(Side::Beacon);
    }
    let peer = peer.ok_or(Reason::Gate)?;
    need(packet.source == *peer, Reason::Sender)?;
    let to_us = packet.destination == *us;
    match &packet.content {
        Content::Tcp(tcp) => {
            need(to_us, Reason::Receiver)?;
            need(tcp.source != 0 && tcp.destination == CLAIM_PORT, Reason::Port)?;
            need(is_sane(tcp.flags), Reason::Flags)?;
        }
        Content::Neighbour(message) => {
            need(packet.hop_limit == HOP_LIMIT, Reason::Header)?;
            match message.kind {
                NeighbourKind::Solicitation => {
                    need(to_us || packet.destination == us.solicited_node(), Reason::Receiver)?;
                    need(message.is_about(us, Some(peer)), Reason::Neighbour)?;
                }
                NeighbourKind::Advertisement { .. } => {
                    need(to_us, Reason::Receiver)?;
                    // An answer to a unicast solicitation may leave the option out (RFC 4861, 4.4).
                    need(message.is_about(peer, Some(peer)) || message.is_about(peer, None), Reason::Neighbour)?;
                }
            }
        }
        Content::Beacon(_) | Content::WireGuard { .. } => return Err(Reason::Receiver),
    }
    Ok(Side::Claim)
}

/// Whoever is behind the node's own rings sends as the node and as nobody else.
fn from_us(us: &Station, packet: &Packet<'_>) -> Result<(), Reason> {
    need(packet.source == *us, Reason::Sender)?;
    need(packet.plain, Reason::Header)
}

fn from_beacon(us: &Station, peer: Option<&Station>, packet: &Packet<'_>) -> Result<Side, Reason> {
    from_us(us, packet)?;
    need(packet.hop_limit == HOP_LIMIT, Reason::Header)?;
    match &packet.content {
        Content::Beacon(datagram) if packet.destination == Station::ALL_NODES => {
            need(is::<Hello>(datagram), Reason::Datagram)?;
        }
        Content::Beacon(datagram) => {
            need(packet.destination == *peer.ok_or(Reason::Gate)?, Reason::Receiver)?;
            need(is::<Answer>(datagram), Reason::Datagram)?;
        }
        Content::Neighbour(message) => {
            let peer = peer.ok_or(Reason::Gate)?;
            need(packet.destination == *peer, Reason::Receiver)?;
            let solicits = message.kind == NeighbourKind::Solicitation && message.is_about(peer, Some(us));
            need(solicits, Reason::Neighbour)?;
        }
        Content::Tcp(_) | Content::WireGuard { .. } => return Err(Reason::Protocol),
    }
    Ok(Side::Net)
}

fn from_claim(us: &Station, peer: Option<&Station>, packet: &Packet<'_>) -> Result<Side, Reason> {
    from_us(us, packet)?;
    let peer = peer.ok_or(Reason::Gate)?;
    let to_peer = packet.destination == *peer;
    match &packet.content {
        Content::Tcp(Tcp { source, destination, flags }) => {
            need(to_peer, Reason::Receiver)?;
            need(*source == CLAIM_PORT && *destination != 0, Reason::Port)?;
            // SYN with ACK, and what is acknowledged: the node opens no connection and ends none.
            let answers = flags.ack && !flags.rst && !flags.fin && !flags.urg && !flags.ecn;
            need(answers, Reason::Flags)?;
        }
        Content::Neighbour(message) => {
            need(packet.hop_limit == HOP_LIMIT, Reason::Header)?;
            match message.kind {
                NeighbourKind::Solicitation => {
                    need(to_peer || packet.destination == peer.solicited_node(), Reason::Receiver)?;
                    need(message.is_about(peer, Some(us)), Reason::Neighbour)?;
                }
                NeighbourKind::Advertisement { router } => {
                    need(to_peer, Reason::Receiver)?;
                    need(!router && message.is_about(us, Some(us)), Reason::Neighbour)?;
                }
            }
        }
        Content::Beacon(_) | Content::WireGuard { .. } => return Err(Reason::Protocol),
    }
    Ok(Side::Net)
}

impl Neighbour {
    /// Whether its target is `station` and its link-layer option names `owner`, or is absent for none.
    fn is_about(&self, station: &Station, owner: Option<&Station>) -> bool {
        self.target == station.ip && self.link_layer == owner.map(|owner| owner.mac)
    }
}

/// Flags that a client's segment can have: the first SYN, everything after it, a reset.
fn is_sane(flags: Flags) -> bool {
    let Flags { syn, ack, fin, rst, urg, ecn: _ } = flags;
    let opens = syn && !ack && !fin && !rst;
    let goes_on = ack && !syn && !rst;
    let resets = rst && !syn && !fin;
    !urg && (opens || goes_on || resets)
}

fn need(holds: bool, otherwise: Reason) -> Result<(), Reason> {
    if holds { Ok(()) } else { Err(otherwise) }
}
