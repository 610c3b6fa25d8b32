//! The outer side: WireGuard's datagrams in Ethernet frames, and the neighbours on the link.
//!
//! It knows the addresses on the link where peers are, and the gateway: its [`Stations`]. It solicits nobody else, answers
//! nobody else, and sends datagrams to nobody else. Of what comes in it takes datagrams to the port of WireGuard, and
//! from or about stations solicitations and advertisements. Everything else is dropped and counted; there are
//! no errors, no router discovery and no redirects.

mod frames;
mod neighbours;
mod own;

use core::ops::Range;

use calls::mesh::{MAX_STATIONS, Stations};
use link::Station;
use shm::{
    Micros,
    ring::{Duplex, FRAME_SLOT},
};
use wire::Ip;
use wireguard::Endpoint;

pub use frames::Frame;
pub use own::Own;

use frames::{Heard, Neighbour};
use neighbours::{Asked, Neighbours, Way};

pub type Ring<'a> = Duplex<'a, FRAME_SLOT>;

pub struct Outer {
    own: Option<Own>,
    stations: Stations,
    neighbours: Neighbours,
    /// Frames that came in and were nothing to be taken.
    pub dropped: u64,
    /// Frames that should have gone out and did not: no way there, no answer, or the ring was full.
    pub lost: u64,
}

impl Outer {
    pub const fn new() -> Self {
        Self { own: None, stations: Stations::NONE, neighbours: Neighbours::new(), dropped: 0, lost: 0 }
    }

    /// A place on the link, or none. What waits for a neighbour is dropped; at another place the neighbours are others.
    pub fn set_own(&mut self, own: Option<Own>) {
        if own == self.own {
            self.neighbours.drop_waiting();
        } else {
            self.own = own;
            self.neighbours.clear();
        }
    }

    /// Where peers are now. The stations that follow are to be published before the next frame goes out.
    pub fn set_endpoints(&mut self, endpoints: impl Iterator<Item = Ip>) -> &Stations {
        let mut stations = Stations::NONE;
        if let Some(own) = &self.own {
            let gateway = own.underlay.and_then(|underlay| underlay.gateway).filter(|gateway| !own.is(gateway));
            for ip in gateway.into_iter().chain(endpoints.filter(|ip| own.next_hop(ip).is_some())) {
                add(&mut stations, ip);
            }
        }
        self.stations = stations;
        let (own, stations) = (&self.own, &self.stations);
        self.neighbours.retain(|ip| is_neighbour(own.as_ref(), stations, ip));
        &self.stations
    }

    /// The datagram in a frame, and where it came from. Neighbour discovery is done here.
    pub fn take(&mut self, now: Micros, frame: &[u8], ring: &mut Ring<'_>) -> Option<(Endpoint, Range<usize>)> {
        let own = self.own?;
        match frames::read(frame, &own) {
            Some(Heard::Datagram { from, at }) => return Some((from, at)),
            Some(Heard::Neighbour(heard, from)) if is_neighbour(Some(&own), &self.stations, &from.ip) => {
                self.hear(now, &own, &heard, &from, ring);
            }
            Some(Heard::Neighbour(..)) | None => self.dropped = self.dropped.wrapping_add(1),
        }
        None
    }

    fn hear(&mut self, now: Micros, own: &Own, heard: &Neighbour, from: &Station, ring: &mut Ring<'_>) {
        match heard {
            Neighbour::Solicitation { target, has_option } => {
                if *has_option {
                    let waiting = self.neighbours.solicited_by(from);
                    self.release(waiting, ring);
                }
                self.emit(&link::advertisement(&Station::new(*target, own.station.mac), from), ring);
            }
            Neighbour::Advertisement { target, solicited, overrides } => {
                let station = Station::new(*target, from.mac);
                let waiting = self.neighbours.advertised(now, &station, *solicited, *overrides);
                self.release(waiting, ring);
            }
        }
    }

    /// Sends the datagram of `len` bytes that stands in `frame`, or keeps it until it is known where to.
    pub fn send(&mut self, now: Micros, frame: &mut Frame, len: usize, to: &Endpoint, ring: &mut Ring<'_>) {
        if self.try_send(now, frame, len, to, ring).is_none() {
            self.lost = self.lost.wrapping_add(1);
        }
    }

    fn try_send(
        &mut self,
        now: Micros,
        frame: &mut Frame,
        len: usize,
        to: &Endpoint,
        ring: &mut Ring<'_>,
    ) -> Option<()> {
        let own = self.own?;
        // A cookie reply may be for somebody who is no peer.
        self.stations.iter().find(|station| **station == to.ip)?;
        let hop = own.next_hop(&to.ip)?;
        frame.address(&own, own.source_for(&to.ip)?, to, len)?;
        match self.neighbours.way(now, &hop)? {
            Way::Known(mac) => {
                frame.set_destination(&mac);
                self.emit(frame.bytes(), ring);
            }
            Way::Wait { waiting, ask } => {
                waiting.keep(frame.bytes());
                if let Some(asked) = ask {
                    self.solicit(&own, &asked, ring);
                }
            }
        }
        Some(())
    }

    /// Does what is due.
    pub fn tick(&mut self, now: Micros, ring: &mut Ring<'_>) {
        let Some(own) = self.own else { return };
        for _ in 0..MAX_STATIONS {
            match self.neighbours.due(now) {
                None => return,
                Some(Some(asked)) => self.solicit(&own, &asked, ring),
                Some(None) => self.lost = self.lost.wrapping_add(1),
            }
        }
    }

    /// When [`Self::tick`] is to be called next.
    pub fn deadline(&self) -> Option<Micros> {
        self.neighbours.deadline()
    }

    fn solicit(&mut self, own: &Own, asked: &Asked, ring: &mut Ring<'_>) {
        if let Some(source) = own.source_for(&asked.ip) {
            let from = Station::new(source, own.station.mac);
            self.emit(&link::solicitation(&from, &asked.whom(), &asked.ip), ring);
        }
    }

    fn release(&mut self, waiting: Option<neighbours::Released>, ring: &mut Ring<'_>) {
        if let Some(mut released) = waiting {
            released.frame.set_destination(&released.mac);
            self.emit(released.frame.bytes(), ring);
        }
    }

    fn emit(&mut self, frame: &[u8], ring: &mut Ring<'_>) {
        if ring.send(frame).is_err() {
            self.lost = self.lost.wrapping_add(1);
        }
    }
}

fn add(stations: &mut Stations, ip: Ip) {
    let count = usize::try_from(stations.count).unwrap_or(MAX_STATIONS);
    let known = stations.iter().any(|station| *station == ip);
    if let Some(place) = stations.ips.get_mut(count).filter(|_| !known) {
        *place = ip;
        stations.count += 1;
    }
}

/// A station on the link itself.
fn is_neighbour(own: Option<&Own>, stations: &Stations, ip: &Ip) -> bool {
    own.is_some_and(|own| own.next_hop(ip) == Some(*ip)) && stations.iter().any(|station| station == ip)
}
