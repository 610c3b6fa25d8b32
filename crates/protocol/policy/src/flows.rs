//! The flows that are there: what belongs to one passes both ways, everything else is decided anew.
//!
//! Fixed memory, a pure value: no clock, no allocation. A flow is TCP, opened by a SYN; UDP, opened by its first
//! datagram; or an echo that the node asked for. Each peer has an equal share of the table, so that whatever one of them
//! sends, another's flows stay.

use clock::{Micros, SECOND};
use wire::Ip;

use crate::{
    Because, Configuration, Direction, EchoKind, Flags, Flow, Protocol, RESERVED, Role, Summary, Transport, decide,
};

/// Flows at a time, of all peers.
pub const FLOWS: usize = 256;

/// A connection that says nothing for so long is given up. RFC 5382 would have two hours; a node has 256 places.
pub const ESTABLISHED: Micros = 3600 * SECOND;
/// A SYN's answer and its acknowledgement, with repeats after 1, 3, 7 and 15 s (RFC 6298); and the end of a connection
/// whose last FIN may be repeated.
pub const HALF_OPEN: Micros = 30 * SECOND;
/// One end is done and the other says nothing: as long as hosts keep such a connection themselves.
pub const HALF_CLOSED: Micros = 60 * SECOND;
/// Longer than what asks and answers takes, and short enough that a place is soon free again.
pub const UDP: Micros = 60 * SECOND;
/// One echo.
pub const ECHO: Micros = 10 * SECOND;

/// What a packet from a peer is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inbound {
    /// A command or a chunk, from an authority. Nothing answers it.
    Commands,
    /// Chunks of an authority record, from anyone else. Nothing answers them either.
    Records,
    /// An echo request that is to be answered.
    Echo,
    /// For the workload.
    Flow,
}

/// Why a packet does not pass.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Denied {
    /// The other end's address is not the peer's, or nobody's.
    Route,
    /// This end's address is not the node's.
    Address,
    /// No rule names the flow that it would open.
    Rule,
    /// It belongs to no flow and opens none.
    NoFlow,
    /// The peer's share is full of connections.
    Full,
}

/// This end and the other.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Ends {
    protocol: Protocol,
    local: Ip,
    remote: Ip,
    local_port: u16,
    /// An echo has its identifier in both.
    remote_port: u16,
}

impl Ends {
    fn of(packet: &Summary, direction: Direction) -> Self {
        let (source, destination) = match packet.transport {
            Transport::Tcp { source, destination, .. } | Transport::Udp { source, destination } => {
                (source, destination)
            }
            Transport::Echo { id, .. } => (id, id),
        };
        let (near, far) = ((packet.destination, destination), (packet.source, source));
        let ((local, local_port), (remote, remote_port)) = match direction {
            Direction::In => (near, far),
            Direction::Out => (far, near),
        };
        Self { protocol: packet.protocol(), local, remote, local_port, remote_port }
    }

    fn flow(&self, direction: Direction, role: Role) -> Flow {
        let port = match (self.protocol, direction) {
            (Protocol::Icmp, _) => 0,
            (_, Direction::In) => self.local_port,
            (_, Direction::Out) => self.remote_port,
        };
        Flow { direction, role, protocol: self.protocol, port }
    }

    /// Commands and telemetry: neither is a flow, because nothing may answer them.
    fn is_reserved(&self) -> bool {
        let ports = [self.local_port, self.remote_port];
        self.protocol == Protocol::Udp && ports.iter().any(|port| RESERVED.contains(port))
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// TCP: nothing but the SYN.
    Opening,
    /// TCP: the other end has answered.
    Answered,
    Established,
    /// TCP: the end that sends in this direction is done.
    HalfClosed(Direction),
    /// TCP: both are.
    Closed,
    Datagrams,
    Echo,
}

#[derive(Clone, Copy)]
struct Entry {
    ends: Ends,
    opened: Direction,
    peer: usize,
    stage: Stage,
    last: Micros,
}

impl Entry {
    fn lives(&self, now: Micros) -> bool {
        let idle = match self.stage {
            Stage::Opening | Stage::Answered | Stage::Closed => HALF_OPEN,
            Stage::Established => ESTABLISHED,
            Stage::HalfClosed(_) => HALF_CLOSED,
            Stage::Datagrams => UDP,
            Stage::Echo => ECHO,
        };
        now.saturating_sub(self.last) < idle
    }

    /// What a new flow must not push out.
    fn is_worth_more(&self) -> bool {
        self.stage == Stage::Established
    }

    /// The stage after this packet, if it is part of the flow.
    fn next(&self, direction: Direction, packet: &Summary) -> Option<Stage> {
        let opener = direction == self.opened;
        match packet.transport {
            Transport::Tcp { flags, .. } => self.next_of_tcp(opener, direction, flags),
            Transport::Udp { .. } => Some(Stage::Datagrams),
            Transport::Echo { kind, .. } => (opener == (kind == EchoKind::Request)).then_some(Stage::Echo),
        }
    }

    fn next_of_tcp(&self, opener: bool, direction: Direction, flags: Flags) -> Option<Stage> {
        match (flags, self.stage) {
            (Flags { syn: true, ack: false, .. }, stage) => {
                // The same ports once more, after an end. Only who opened the flow may.
                let anew = matches!(stage, Stage::HalfClosed(_) | Stage::Closed);
                opener.then_some(if anew { Stage::Opening } else { stage })
            }
            (Flags { syn: true, .. }, stage) => {
                (!opener).then_some(if stage == Stage::Opening { Stage::Answered } else { stage })
            }
            (Flags { fin: true, .. }, Stage::HalfClosed(done)) if done != direction => Some(Stage::Closed),
            (Flags { fin: true, .. }, Stage::Answered | Stage::Established) => Some(Stage::HalfClosed(direction)),
            (_, Stage::Answered) if opener => Some(Stage::Established),
            (_, stage) => Some(stage),
        }
    }
}

pub struct Flows {
    places: [Option<Entry>; FLOWS],
}

impl Default for Flows {
    fn default() -> Self {
        Self::new()
    }
}

impl Flows {
    pub const fn new() -> Self {
        Self { places: [None; FLOWS] }
    }

    /// Whether a packet that came through the tunnel of the peer at `peer` passes, and what for.
    pub fn inbound(
        &mut self,
        now: Micros,
        configuration: &Configuration,
        isolated: bool,
        peer: usize,
        packet: &Summary,
    ) -> Result<Inbound, Denied> {
        let ends = Ends::of(packet, Direction::In);
        if route(configuration, &ends)? != peer {
            return Err(Denied::Route);
        }
        let because = because(configuration, isolated, peer, Direction::In, &ends);
        if ends.is_reserved() {
            return match because {
                Some(Because::Commands) => Ok(Inbound::Commands),
                Some(Because::Records) => Ok(Inbound::Records),
                _ => Err(Denied::Rule),
            };
        }
        if let Transport::Echo { kind: EchoKind::Request, .. } = packet.transport {
            return because.map(|_| Inbound::Echo).ok_or(Denied::Rule);
        }
        let share = share(configuration);
        self.pass(now, Direction::In, peer, share, &ends, packet, because).map(|()| Inbound::Flow)
    }

    /// Whether a packet of the workload's passes, and to which peer. Telemetry and echo replies are not the workload's.
    pub fn outbound(
        &mut self,
        now: Micros,
        configuration: &Configuration,
        isolated: bool,
        packet: &Summary,
    ) -> Result<usize, Denied> {
        let ends = Ends::of(packet, Direction::Out);
        let peer = route(configuration, &ends)?;
        if ends.is_reserved() {
            return Err(Denied::Rule);
        }
        let because = because(configuration, isolated, peer, Direction::Out, &ends);
        self.pass(now, Direction::Out, peer, share(configuration), &ends, packet, because).map(|()| peer)
    }

    /// Rules, peers or isolation have changed: what would not be opened now is no flow any more.
    pub fn revise(&mut self, configuration: &Configuration, isolated: bool) {
        for place in &mut self.places {
            let Some(entry) = place else { continue };
            let allowed = route(configuration, &entry.ends)
                .ok()
                .filter(|peer| because(configuration, isolated, *peer, entry.opened, &entry.ends).is_some());
            match allowed {
                Some(peer) => entry.peer = peer,
                None => *place = None,
            }
        }
        // More peers have smaller shares.
        for peer in 0..configuration.peers.len() {
            while self.count_of(peer) > share(configuration)
                && let Some(place) = self.oldest(|entry| entry.peer == peer)
            {
                *place = None;
            }
        }
    }

    /// Forgets all, in place: a table is larger than what a small stack has to spare.
    pub fn clear(&mut self) {
        self.places.fill(None);
    }

    /// How many there are.
    pub fn count(&self, now: Micros) -> usize {
        self.places.iter().flatten().filter(|entry| entry.lives(now)).count()
    }

    #[expect(clippy::too_many_arguments, reason = "both ways in lead here, and each of these differs")]
    fn pass(
        &mut self,
        now: Micros,
        direction: Direction,
        peer: usize,
        share: usize,
        ends: &Ends,
        packet: &Summary,
        because: Option<Because>,
    ) -> Result<(), Denied> {
        let resets = matches!(packet.transport, Transport::Tcp { flags: Flags { rst: true, .. }, .. });
        for place in &mut self.places {
            if place.as_ref().is_some_and(|entry| !entry.lives(now)) {
                *place = None;
            }
        }
        let known = self.places.iter_mut().find(|place| place.as_ref().is_some_and(|entry| entry.ends == *ends));
        let stage = match packet.transport {
            Transport::Tcp { flags: Flags { syn: true, ack: false, .. }, .. } => Some(Stage::Opening),
            Transport::Tcp { .. } | Transport::Echo { kind: EchoKind::Reply, .. } => None,
            Transport::Udp { .. } => Some(Stage::Datagrams),
            Transport::Echo { kind: EchoKind::Request, .. } => Some(Stage::Echo),
        };
        let new = || {
            let stage = stage.ok_or(Denied::NoFlow)?;
            because.ok_or(Denied::Rule)?;
            Ok(Entry { ends: *ends, opened: direction, peer, stage, last: now })
        };
        if let Some(place) = known
            && let Some(entry) = place
        {
            match entry.next(direction, packet) {
                Some(_) if resets => *place = None,
                Some(stage) => (entry.stage, entry.last) = (stage, now),
                None => *entry = new()?,
            }
            return Ok(());
        }
        let entry = new()?;
        let place = if self.count_of(peer) < share {
            // There is one: no peer has more than its share.
            self.places.iter_mut().find(|place| place.is_none())
        } else {
            self.oldest(|entry| entry.peer == peer && !entry.is_worth_more())
        };
        *place.ok_or(Denied::Full)? = Some(entry);
        Ok(())
    }

    fn count_of(&self, peer: usize) -> usize {
        self.places.iter().flatten().filter(|entry| entry.peer == peer).count()
    }

    /// The least recently used, those worth more last.
    fn oldest(&mut self, of: impl Fn(&Entry) -> bool) -> Option<&mut Option<Entry>> {
        let taken = self.places.iter_mut().filter(|place| place.as_ref().is_some_and(&of));
        taken.min_by_key(|place| place.as_ref().map(|entry| (entry.is_worth_more(), entry.last)))
    }
}

/// The peer whose address the other end has; this end must be the node, and the other must not.
fn route(configuration: &Configuration, ends: &Ends) -> Result<usize, Denied> {
    let is_own = |ip: &Ip| configuration.addresses.iter().any(|own| own.ip == *ip);
    if !is_own(&ends.local) {
        return Err(Denied::Address);
    }
    configuration.route(&ends.remote).filter(|_| !is_own(&ends.remote)).ok_or(Denied::Route)
}

fn because(
    configuration: &Configuration,
    isolated: bool,
    peer: usize,
    direction: Direction,
    ends: &Ends,
) -> Option<Because> {
    let role = configuration.peers.get(peer)?.role;
    decide(&configuration.rules, isolated, &ends.flow(direction, role))
}

/// Places for each peer.
fn share(configuration: &Configuration) -> usize {
    FLOWS / configuration.peers.len().max(1)
}
