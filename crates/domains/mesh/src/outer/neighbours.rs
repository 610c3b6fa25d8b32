//! Neighbour unreachability detection (RFC 4861, 7.3), with its default times and without hints from above: each
//! neighbour that is used is solicited again when it has been quiet for long.

use calls::mesh::MAX_STATIONS;
use heapless::Vec;
use link::{MAX_FRAME, Station};
use shm::Micros;
use wire::{Ip, Mac};

use super::frames::Frame;

const SECOND: Micros = 1_000_000;
/// A neighbour that has answered counts as reachable so long (RFC 4861, 10, as the next three).
const REACHABLE: Micros = 30 * SECOND;
const DELAY: Micros = 5 * SECOND;
const RETRANSMIT: Micros = SECOND;
const TRIES: u8 = 3;

/// A solicitation that is to be sent: to the group of `ip`, or to this MAC alone.
pub struct Asked {
    pub ip: Ip,
    pub mac: Option<Mac>,
}

impl Asked {
    /// To whom the solicitation goes.
    pub fn whom(&self) -> Station {
        self.mac.map_or_else(|| Station::solicited_node(&self.ip), |mac| Station::new(self.ip, mac))
    }
}

/// How to get a frame to a neighbour.
pub enum Way<'n> {
    Known(Mac),
    /// The neighbour's MAC is not known yet. The frame can wait; `ask` is there if nobody has been asked.
    Wait {
        waiting: &'n mut Waiting,
        ask: Option<Asked>,
    },
}

/// A frame that waited, and where it goes.
pub struct Released {
    pub frame: Frame,
    pub mac: Mac,
}

/// The newest frame for a neighbour whose MAC is not known.
pub struct Waiting {
    len: usize,
    bytes: [u8; MAX_FRAME],
}

impl Waiting {
    pub fn keep(&mut self, frame: &[u8]) {
        self.len = 0;
        if let Some(to) = self.bytes.get_mut(..frame.len()) {
            to.copy_from_slice(frame);
            self.len = frame.len();
        }
    }
}

enum State {
    /// The MAC is not known; the group is asked, next at this time.
    Incomplete {
        tries: u8,
        at: Micros,
    },
    Reachable {
        until: Micros,
    },
    /// The MAC has not been confirmed for long: it will be once it is used.
    Stale,
    /// The MAC is in use and not confirmed: the neighbour is asked at this time.
    Delay {
        until: Micros,
    },
    /// The neighbour itself is asked, next at this time.
    Probe {
        tries: u8,
        at: Micros,
    },
}

struct Entry {
    ip: Ip,
    mac: Mac,
    state: State,
    waiting: Waiting,
}

impl Entry {
    fn new(ip: Ip, mac: Mac, state: State) -> Self {
        Self { ip, mac, state, waiting: Waiting { len: 0, bytes: [0; MAX_FRAME] } }
    }

    fn release(&mut self) -> Option<Released> {
        let len = core::mem::take(&mut self.waiting.len);
        let frame = Frame::of(self.waiting.bytes.get(..len).filter(|bytes| !bytes.is_empty())?)?;
        Some(Released { frame, mac: self.mac })
    }

    fn due(&self) -> Option<Micros> {
        match self.state {
            State::Incomplete { at, .. } | State::Probe { at, .. } | State::Delay { until: at } => Some(at),
            State::Reachable { .. } | State::Stale => None,
        }
    }
}

/// At most one entry for each station.
pub struct Neighbours {
    entries: Vec<Entry, MAX_STATIONS>,
}

impl Neighbours {
    pub const fn new() -> Self {
        Self { entries: Vec::new() }
    }

    pub fn clear(&mut self) {
        self.entries.clear();
    }

    pub fn drop_waiting(&mut self) {
        self.entries.iter_mut().for_each(|entry| entry.waiting.len = 0);
    }

    pub fn retain(&mut self, keep: impl Fn(&Ip) -> bool) {
        self.entries.retain(|entry| keep(&entry.ip));
    }

    /// `None` only if there are more neighbours than stations can be.
    pub fn way(&mut self, now: Micros, ip: &Ip) -> Option<Way<'_>> {
        let known = self.entries.iter().position(|entry| entry.ip == *ip);
        let place = match known {
            Some(place) => place,
            None => {
                let state = State::Incomplete { tries: 1, at: now.saturating_add(RETRANSMIT) };
                self.entries.push(Entry::new(*ip, [0; 6], state)).ok()?;
                self.entries.len().checked_sub(1)?
            }
        };
        let entry = self.entries.get_mut(place)?;
        match entry.state {
            State::Incomplete { .. } => {
                let ask = known.is_none().then_some(Asked { ip: *ip, mac: None });
                return Some(Way::Wait { waiting: &mut entry.waiting, ask });
            }
            State::Reachable { until } if now < until => {}
            State::Reachable { .. } | State::Stale => entry.state = State::Delay { until: now.saturating_add(DELAY) },
            State::Delay { .. } | State::Probe { .. } => {}
        }
        Some(Way::Known(entry.mac))
    }

    /// A solicitation told where a neighbour is. That the node reaches it, it does not tell.
    pub fn solicited_by(&mut self, from: &Station) -> Option<Released> {
        let Some(entry) = self.entries.iter_mut().find(|entry| entry.ip == from.ip) else {
            let _ = self.entries.push(Entry::new(from.ip, from.mac, State::Stale));
            return None;
        };
        if matches!(entry.state, State::Incomplete { .. }) || entry.mac != from.mac {
            entry.mac = from.mac;
            entry.state = State::Stale;
        }
        entry.release()
    }

    /// Nobody who was not asked is entered.
    pub fn advertised(&mut self, now: Micros, station: &Station, solicited: bool, overrides: bool) -> Option<Released> {
        let entry = self.entries.iter_mut().find(|entry| entry.ip == station.ip)?;
        let incomplete = matches!(entry.state, State::Incomplete { .. });
        // An answer to nothing confirms nothing, whatever it says of itself.
        let solicited = solicited && (incomplete || matches!(entry.state, State::Probe { .. }));
        let differs = entry.mac != station.mac;
        if !incomplete && differs && !overrides {
            if matches!(entry.state, State::Reachable { .. }) {
                entry.state = State::Stale;
            }
            return None;
        }
        entry.mac = station.mac;
        if solicited {
            entry.state = State::Reachable { until: now.saturating_add(REACHABLE) };
        } else if incomplete || differs {
            entry.state = State::Stale;
        }
        entry.release()
    }

    /// The next solicitation that is due, or `Some(None)` for a neighbour that has been given up.
    pub fn due(&mut self, now: Micros) -> Option<Option<Asked>> {
        let place = self.entries.iter().position(|entry| entry.due().is_some_and(|at| at <= now))?;
        let entry = self.entries.get_mut(place)?;
        let next = now.saturating_add(RETRANSMIT);
        let ask = match &mut entry.state {
            State::Incomplete { tries, at } if *tries < TRIES => {
                (*tries, *at) = (*tries + 1, next);
                None
            }
            State::Probe { tries, at } if *tries < TRIES => {
                (*tries, *at) = (*tries + 1, next);
                Some(entry.mac)
            }
            State::Delay { .. } => {
                entry.state = State::Probe { tries: 1, at: next };
                Some(entry.mac)
            }
            _ => {
                self.entries.swap_remove(place);
                return Some(None);
            }
        };
        Some(Some(Asked { ip: entry.ip, mac: ask }))
    }

    pub fn deadline(&self) -> Option<Micros> {
        self.entries.iter().filter_map(Entry::due).min()
    }
}
