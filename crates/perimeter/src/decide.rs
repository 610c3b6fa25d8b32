//! What may pass. Default deny, both ways: a frame passes only if a rule below names it.
//!
//! | phase | in | out |
//! |---|---|---|
//! | blind, fork, sealed, claimed | nothing | nothing |
//! | scan, hold, committed | find, open to ff02::1 | hello to ff02::1 |
//! | and the gate is open | from the peer: TCP to 9443, its solicitations and advertisements | to the peer: answer, TCP from 9443 without RST and FIN, solicitations and advertisements |
//!
//! The function is pure: the same rules, time and frame bring the same verdict.

use calls::rules::Rules;
use shm::Micros;
use wire::{
    CLAIM_PORT,
    link::{Answer, Find, Hello, Open},
};

use crate::packet::{Content, Flags, Neighbour, NeighbourKind, Packet, Station, Tcp, is};

/// Hop limit of all that the node itself sends to a group or as neighbour discovery, and that neighbour
/// discovery must have: it proves that no router forwarded the frame.
pub const HOP_LIMIT: u8 = 255;

/// Where a frame comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Source {
    Net,
    Beacon,
    Claim,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    ToNet,
    ToBeacon,
    ToClaim,
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

pub fn decide(rules: &Rules, now: Micros, source: Source, frame: &[u8]) -> Verdict {
    let us = Station { mac: rules.link.mac, ip: rules.link.ip };
    if !rules.phase().listens() || !us.is_one() {
        return Verdict::Drop(Reason::Closed);
    }
    let verdict = Packet::parse(frame).and_then(|packet| {
        let peer = rules.open_to(now).map(|peer| Station { mac: peer.mac, ip: peer.ip }).filter(Station::is_one);
        match source {
            Source::Net => inbound(&us, peer.as_ref(), &packet),
            Source::Beacon => from_us(&us, &packet).and_then(|()| from_beacon(&us, peer.as_ref(), &packet)),
            Source::Claim => from_us(&us, &packet).and_then(|()| from_claim(&us, peer.as_ref(), &packet)),
        }
    });
    verdict.unwrap_or_else(Verdict::Drop)
}

fn inbound(us: &Station, peer: Option<&Station>, packet: &Packet<'_>) -> Result<Verdict, Reason> {
    if !packet.source.is_one() || packet.source.mac == us.mac || packet.source.ip == us.ip {
        return Err(Reason::Sender);
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
        Content::Beacon(_) => return Err(Reason::Receiver),
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
        Content::Tcp(_) => return Err(Reason::Protocol),
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
        Content::Beacon(_) => return Err(Reason::Protocol),
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
