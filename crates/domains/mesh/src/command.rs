//! What comes on UDP 8090: commands of authorities, and the chunks of orders and records. Nothing here is believed: the
//! keystore checks a command, and what one names that is staged has its signatures checked there too. Nothing is answered;
//! telemetry shows the last command that was carried out.
//!
//! Each authority has a lane of its own, which its tunnel names: what waits, how fast it is asked about, what is staged. So
//! one of them can use up or block only what is its own.

use calls::keystore::CommandReply;
use heapless::Deque;
use shm::Micros;
use wire::{Key, command::Command, set::MAX_AUTHORITIES, staged::parse_chunk, telemetry::CommandResult};
use zerocopy::FromBytes;

use crate::staging::Staging;

/// Commands of one authority that wait for the keystore.
const WAITING: usize = 4;
/// The keystore is asked about one command of an authority in so many microseconds.
const EACH: Micros = 1_000_000;
/// But so many come at once after a rest.
pub const BURST: u64 = 8;

/// The last command that was carried out, as telemetry shows it.
#[derive(Clone, Copy)]
pub struct Done {
    pub counter: u32,
    pub operation: u8,
    /// Whose it was.
    pub authority: u8,
    pub result: CommandResult,
}

impl Done {
    const NOTHING: Self = Self { counter: 0, operation: 0, authority: 0, result: CommandResult::None };
}

/// What is one authority's.
struct Lane {
    /// Its key in the mesh: another's lane begins empty.
    key: Option<Key>,
    waiting: Deque<Command, WAITING>,
    /// The last that the keystore let through.
    accepted: Option<Command>,
    /// When all of [`BURST`] would be there again.
    rested: Micros,
}

impl Lane {
    const fn new(key: Option<Key>) -> Self {
        Self { key, waiting: Deque::new(), accepted: None, rested: 0 }
    }

    /// When the keystore is asked about what waits, if something does.
    fn due(&self) -> Option<Micros> {
        (!self.waiting.is_empty()).then(|| self.rested.saturating_sub((BURST - 1) * EACH))
    }

    fn next(&mut self, now: Micros) -> Option<Command> {
        let command = self.due().filter(|due| *due <= now).and_then(|_| self.waiting.pop_front())?;
        self.rested = self.rested.max(now).saturating_add(EACH);
        Some(command)
    }
}

pub struct Commands {
    lanes: [Lane; MAX_AUTHORITIES],
    /// The lane that comes first.
    turn: usize,
    /// The one that the keystore has been asked about, and whose it is.
    asked: Option<(usize, Command)>,
    pub done: Done,
    pub staging: Staging,
    /// Commands and chunks that were not obeyed.
    pub dropped: u64,
}

impl Commands {
    pub const fn new() -> Self {
        let lanes = [const { Lane::new(None) }; MAX_AUTHORITIES];
        Self { lanes, turn: 0, asked: None, done: Done::NOTHING, staging: Staging::new(), dropped: 0 }
    }

    pub fn forget(&mut self) {
        self.lanes = [const { Lane::new(None) }; MAX_AUTHORITIES];
        self.asked = None;
        self.done = Done::NOTHING;
        self.staging.clear();
    }

    /// These are the authorities, by their places in the set.
    pub fn set_authorities(&mut self, keys: [Option<Key>; MAX_AUTHORITIES]) {
        for (place, (lane, key)) in self.lanes.iter_mut().zip(keys).enumerate() {
            if lane.key == key {
                continue;
            }
            *lane = Lane::new(key);
            self.staging.forget(place);
            self.asked = self.asked.filter(|(whose, _)| *whose != place);
        }
    }

    /// Takes the payload of a datagram of the authority at this place, or of a peer that is none.
    pub fn take(&mut self, place: Option<usize>, payload: &[u8]) {
        let taken = match Command::read_from_bytes(payload) {
            Ok(command) => place.is_some_and(|place| self.wait(place, command)),
            Err(_) => parse_chunk(payload).is_some_and(|(head, part)| self.staging.take(place, head, part)),
        };
        if !taken {
            self.drop_one();
        }
    }

    fn drop_one(&mut self) {
        self.dropped = self.dropped.wrapping_add(1);
    }

    /// A repeated command costs the keystore nothing.
    fn wait(&mut self, place: usize, command: Command) -> bool {
        let Some(lane) = self.lanes.get_mut(place).filter(|_| self.asked != Some((place, command))) else {
            return false;
        };
        let known = lane.accepted == Some(command) || lane.waiting.iter().any(|waiting| *waiting == command);
        !known && lane.waiting.push_back(command).is_ok()
    }

    /// The next that is to be checked: each authority's in its turn.
    pub fn next(&mut self, now: Micros) -> Option<Command> {
        for place in (0..MAX_AUTHORITIES).map(|after| (self.turn + after) % MAX_AUTHORITIES) {
            let Some(command) = self.lanes.get_mut(place).and_then(|lane| lane.next(now)) else { continue };
            (self.turn, self.asked) = (place + 1, Some((place, command)));
            return Some(command);
        }
        None
    }

    /// When the next is to be checked, if none is now.
    pub fn deadline(&self) -> Option<Micros> {
        self.lanes.iter().filter_map(Lane::due).min()
    }

    /// The keystore has let through what it was asked about. Returns whose it is.
    pub fn accept(&mut self) -> Option<usize> {
        let (place, command) = self.asked.take()?;
        self.lanes.get_mut(place)?.accepted = Some(command);
        Some(place)
    }

    /// The keystore has not.
    pub fn refuse(&mut self) {
        self.asked = None;
        self.drop_one();
    }

    pub fn finish(&mut self, command: &CommandReply, result: CommandResult) {
        let small = |number: u32| u8::try_from(number).unwrap_or(u8::MAX);
        let (operation, authority) = (small(command.operation), small(command.authority));
        self.done = Done { counter: command.counter, operation, authority, result };
    }
}
