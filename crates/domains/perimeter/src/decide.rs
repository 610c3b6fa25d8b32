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
//! The function is pure: the same rules, stations, time and frame bring the same verdict.

use calls::{
    mesh::Stations,
    rules::{MeshLink, Rules},
};
use shm::Micros;
use wire::{
    CLAIM_PORT, Ip, MESH_PORT,
    link::{Answer, Find, Hello, Open},
};

use crate::packet::{Content, Flags, Neighbour, NeighbourKind, Packet, Station, Tcp, is, is_host, is_unicast};

/// Hop limit of all that the node itself sends to a group or as neighbour discovery, and that neighbour
/// discovery must have: it proves that no router forwarded the frame.
pub const HOP_LIMIT: u8 = 255;

/// Where a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Net,
    Beacon,
    Claim,
    Mesh,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    ToNet,
    ToBeacon,
    ToClaim,
    ToMesh,
    Drop(Reason),
}

/// Why a frame was dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// The phase lets nothing through.
    Closed,
    /// Too short, too long, or lengths that disagree.
    Length,
    /// An Ethernet type other than IPv6's, or another version.
    NotIpv6,
    /// A next header other than TCP, UDP and ICMPv6.
    Protocol,
    /// Not what neighbour discovery needs here: type, code, option, target.
    Neighbour,
    /// A checksum that does not fit, or none.
    Checksum,
    /// Source or destination port.
    Port,
    /// No datagram of the kind that may go this way.
    Datagram,
    /// Flags that no TCP segment has, or that must not go out.
    Flags,
    /// Hop limit, traffic class or flow label.
    Header,
    /// Not an address that may be the source.
    Sender,
    /// Not an address that may be the destination.
    Receiver,
    /// Needs an open gate.
    Gate,
    /// The destination's ring was full.
    Full,
    /// A ring's other end broke its rules.
    Misbehaved,
}

impl Reason {
    pub const COUNT: usize = Self::Misbehaved as usize + 1;
}

pub fn decide(rules: &Rules, stations: &Stations, now: Micros, source: Source, frame: &[u8]) -> Verdict {
    let us = Station { mac: rules.link.mac, ip: rules.link.ip };
    let (listens, mesh) = (rules.phase().listens(), Mesh::of(rules, &us, stations));
    if !us.is_one() || (!listens && mesh.is_none()) {
        return Verdict::Drop(Reason::Closed);
    }
    let verdict = Packet::parse(frame).and_then(|packet| {
        let peer = rules.open_to(now).map(|peer| Station { mac: peer.mac, ip: peer.ip }).filter(Station::is_one);
        let need_listening = || need(listens, Reason::Closed);
        match (source, mesh) {
            (Source::Net, Some(mesh)) if mesh.hears(peer.as_ref(), &packet) => mesh.inbound(&packet),
            (Source::Net, _) => need_listening().and_then(|()| inbound(&us, peer.as_ref(), &packet)),
            (Source::Mesh, mesh) => mesh.ok_or(Reason::Closed)?.outbound(&packet),
            (Source::Beacon | Source::Claim, _) => {
                need_listening()?;
                from_us(&us, &packet)?;
                if source == Source::Beacon {
                    from_beacon(&us, peer.as_ref(), &packet)
                } else {
                    from_claim(&us, peer.as_ref(), &packet)
                }
            }
        }
    });
    verdict.unwrap_or_else(Verdict::Drop)
}

/// The link as the mesh of a member uses it.
#[derive(Clone, Copy)]
struct Mesh<'a> {
    us: &'a Station,
    link: &'a MeshLink,
    stations: &'a Stations,
}

impl<'a> Mesh<'a> {
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

    fn inbound(&self, packet: &Packet<'_>) -> Result<Verdict, Reason> {
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
        Ok(Verdict::ToMesh)
    }

    fn outbound(&self, packet: &Packet<'_>) -> Result<Verdict, Reason> {
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
        Ok(Verdict::ToNet)
    }
}

fn inbound(us: &Station, peer: Option<&Station>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    if !packet.source.is_one() || packet.source.mac == us.mac || packet.source.ip == us.ip {
        return Err(Reason::Sender);
    }
    if let Content::WireGuard { .. } = packet.content {
        return Err(Reason::Port);
    }
    if let Content::Beacon(datagram) = packet.content {
        need(packet.destination == Station::ALL_NODES, Reason::Receiver)?;
        need(is::<Find>(datagram) || is::<Open>(datagram), Reason::Datagram)?;
        return Ok(Verdict::ToBeacon);
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
    Ok(Verdict::ToClaim)
}

/// Whoever is behind the node's own rings sends as the node and as nobody else.
fn from_us(us: &Station, packet: &Packet<'_>) -> Result<(), Reason> {
    need(packet.source == *us, Reason::Sender)?;
    need(packet.plain, Reason::Header)
}

fn from_beacon(us: &Station, peer: Option<&Station>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
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
    Ok(Verdict::ToNet)
}

fn from_claim(us: &Station, peer: Option<&Station>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
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
    Ok(Verdict::ToNet)
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
