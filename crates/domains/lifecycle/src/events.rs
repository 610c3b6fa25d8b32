//! Events on their way to the console. A full ring holds nobody up: some events wait here until the console has emptied it
//! and says so. When there is no room for more, each fault still has a place of its own, and so has the last event of
//! every other kind: what was said of it before is counted as lost.

use calls::{
    Domain,
    console::{Code, Event, SLOT},
    keystore::State,
};
use heapless::{Deque, Vec};
use shm::ring::Duplex;
use zerocopy::IntoBytes;

const WAITING: usize = 16;
/// One place for each kind, and each fault that there is: of a state, of a domain that died, or broke the rules.
const LATE: usize = Code::ALL.len() + State::ALL.len() + 2 * Domain::ALL.len();

pub struct Events {
    waiting: Deque<Event, WAITING>,
    /// They came when no more could wait, and are said after those that do.
    late: Vec<Event, LATE>,
    lost: u32,
}

impl Events {
    pub const fn new() -> Self {
        Self { waiting: Deque::new(), late: Vec::new(), lost: 0 }
    }

    pub fn say(&mut self, event: Event) {
        // While something is late, all that comes is later.
        if self.late.is_empty() && self.waiting.push_back(event).is_ok() {
            return;
        }
        let same = |late: &Event| late.code == event.code && (!is_fault(&event) || late.number == event.number);
        if let Some(at) = self.late.iter().position(same) {
            self.late.remove(at);
            self.lose();
        }
        if self.late.push(event).is_err() {
            self.lose();
        }
    }

    pub fn flush(&mut self, console: &mut Duplex<'_, SLOT>) {
        let mut send = |event: &Event| console.send(event.as_bytes()).is_ok();
        while self.waiting.front().is_some_and(&mut send) {
            self.waiting.pop_front();
        }
        if !self.waiting.is_empty() {
            return;
        }
        if self.lost > 0 && send(&Event::new(Code::Lost, self.lost, &[])) {
            self.lost = 0;
        }
        while self.lost == 0 && self.late.first().is_some_and(&mut send) {
            self.late.remove(0);
        }
    }

    fn lose(&mut self) {
        self.lost = self.lost.saturating_add(1);
    }
}

/// Of these each number is another fault.
fn is_fault(event: &Event) -> bool {
    matches!(event.code(), Some(Code::Fault | Code::Died | Code::Misbehaved))
}

#[cfg(test)]
mod tests {
    use core::sync::atomic::AtomicU64;
    use std::vec::Vec as List;

    use shm::{ReadOnly, ReadWrite};
    use wire::Phase;
    use zerocopy::FromBytes;

    use super::*;

    type Words = [AtomicU64; 512];

    fn ends<'a>(a: &'a Words, b: &'a Words) -> (Duplex<'a, SLOT>, Duplex<'a, SLOT>) {
        let end = |out, inn| Duplex::new(ReadWrite::new(out), ReadOnly::new(inn)).unwrap();
        (end(a, b), end(b, a))
    }

    fn drain(console: &mut Duplex<'_, SLOT>) -> List<(Code, u32)> {
        let (mut slot, mut said) = ([0; SLOT], List::new());
        while let Some(len) = console.recv(&mut slot).unwrap() {
            let event = Event::read_from_bytes(&slot[..len]).unwrap();
            said.push((event.code().unwrap(), event.number));
        }
        said
    }

    /// More than ring and queue hold, of what can come any number of times, and then `last`: all that is ever said.
    fn said_late(last: &[(Code, u32)]) -> List<(Code, u32)> {
        let (a, b): (Words, Words) = ([const { AtomicU64::new(0) }; 512], [const { AtomicU64::new(0) }; 512]);
        let (mut own, mut console) = ends(&a, &b);
        let mut events = Events::new();
        for rival in 0..100 {
            events.say(Event::new(Code::Rival, rival, &[]));
            events.flush(&mut own);
        }
        for (code, number) in last {
            events.say(Event::new(*code, *number, &[]));
            events.flush(&mut own);
        }
        let mut said = List::new();
        // The console empties the ring, says so, and lifecycle steps.
        loop {
            let more = drain(&mut console);
            if more.is_empty() {
                return said;
            }
            said.extend(more);
            events.flush(&mut own);
        }
    }

    #[test]
    fn the_last_phase_and_every_fault_are_said_however_late() {
        let deaths = Domain::ALL.iter().map(|domain| (Code::Died, *domain as u32));
        let broken = Domain::ALL.iter().map(|domain| (Code::Misbehaved, *domain as u32));
        let states = State::ALL.iter().map(|state| (Code::Fault, *state as u32));
        let once = [(Code::KeystoreSilent, 0), (Code::BadLink, 0), (Code::Claimed, 0)];
        let faults: List<_> = deaths.chain(broken).chain(states).chain(once).collect();
        let twice = [&faults[..], &faults[..]].concat();
        let phases =
            [Phase::Hold, Phase::Committed, Phase::Claimed, Phase::Sealed].map(|phase| (Code::Phase, phase as u32));
        let said = said_late(&[&phases[..3], &twice[..], &phases[3..]].concat());
        assert!(faults.iter().all(|fault| said.iter().filter(|event| *event == fault).count() == 1), "{said:?}");
        assert_eq!(said.last(), Some(&phases[3]));
        assert!(!said.contains(&phases[2]));
        // What is counted as lost and what was said are all that happened.
        let lost: u32 = said.iter().filter(|(code, _)| *code == Code::Lost).map(|(_, number)| number).sum();
        let really = said.iter().filter(|(code, _)| *code != Code::Lost).count();
        assert_eq!(lost as usize + really, 100 + 4 + twice.len());
    }

    #[test]
    fn what_came_first_is_said_first() {
        let said = said_late(&[(Code::Phase, Phase::Committed as u32), (Code::Committed, 0), (Code::Joined, 0)]);
        let rivals: List<_> = (0..said.len() as u32 - 5).map(|number| (Code::Rival, number)).collect();
        let (first, rest) = said.split_at(rivals.len());
        assert_eq!(first, rivals);
        let last = (Code::Rival, 99);
        assert_eq!(rest[1..], [last, (Code::Phase, Phase::Committed as u32), (Code::Committed, 0), (Code::Joined, 0)]);
        assert_eq!(rest[0], (Code::Lost, 99 - rivals.len() as u32));
    }
}
