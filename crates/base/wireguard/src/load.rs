//! How much of the handshake's work may be asked of the node before who asks must show a cookie, and which initiations
//! wait when more come than the keystore can read.

use clock::Micros;
use wire::Key;

use crate::{Endpoint, messages::Initiation, random::Random, time::SECOND};

/// Handshake messages per second that are taken without a cookie.
pub const BUDGET: u64 = 20;
/// Initiations per second from places where no peer is known to be.
pub const STRANGERS: u64 = 20;
/// How many of those may wait.
pub const PLACES: usize = 8;

/// So many per second, saved up for a second at most.
pub struct Budget {
    interval: Micros,
    at: Micros,
}

impl Budget {
    pub const fn new(per_second: u64) -> Self {
        Self { interval: SECOND / per_second, at: 0 }
    }

    /// When the next one may be spent.
    pub fn ready_at(&self) -> Micros {
        self.at
    }

    /// False: nothing is left.
    pub fn spend(&mut self, now: Micros) -> bool {
        let ready = self.at <= now;
        if ready {
            self.at = self.at.max(now.saturating_sub(SECOND)).saturating_add(self.interval);
        }
        ready
    }
}

/// Once it is high it stays so for a second.
pub struct Load {
    budget: Budget,
    until: Micros,
}

impl Load {
    pub const fn new() -> Self {
        Self { budget: Budget::new(BUDGET), until: 0 }
    }

    /// One more has come; `full`: there is no room for it.
    pub fn high(&mut self, now: Micros, full: bool) -> bool {
        if !self.budget.spend(now) || full {
            self.until = now.saturating_add(SECOND);
        }
        now < self.until
    }
}

/// An initiation that waits for the keystore.
pub struct Waiting {
    pub from: Endpoint,
    pub sender: u32,
    pub ephemeral: Key,
    pub encrypted_static: [u8; 48],
    pub encrypted_timestamp: [u8; 28],
}

impl Waiting {
    pub fn new(from: Endpoint, message: &Initiation) -> Self {
        Self {
            from,
            sender: message.sender.get(),
            ephemeral: message.ephemeral,
            encrypted_static: message.encrypted_static,
            encrypted_timestamp: message.encrypted_timestamp,
        }
    }
}

/// Those from places where no peer is known to be: one for each address, and if there are too many, each of all that
/// came has the same chance.
pub struct Strangers {
    places: [Option<Waiting>; PLACES],
    arrived: u32,
}

impl Strangers {
    pub const fn new() -> Self {
        Self { places: [const { None }; PLACES], arrived: 0 }
    }

    pub fn is_empty(&self) -> bool {
        self.places.iter().all(Option::is_none)
    }

    pub fn is_full(&self) -> bool {
        self.places.iter().all(Option::is_some)
    }

    /// True: it pushed out another, or was itself not kept.
    pub fn add(&mut self, waiting: Waiting, random: &mut Random) -> bool {
        let same = |place: &&mut Option<Waiting>| place.as_ref().is_some_and(|other| other.from.ip == waiting.from.ip);
        if let Some(place) = self.places.iter_mut().find(same) {
            *place = Some(waiting);
            return true;
        }
        self.arrived = self.arrived.saturating_add(1);
        if let Some(place) = self.places.iter_mut().find(|place| place.is_none()) {
            *place = Some(waiting);
            return false;
        }
        let drawn = random.below(self.arrived) as usize;
        if let Some(place) = self.places.get_mut(drawn) {
            *place = Some(waiting);
        }
        true
    }

    /// One of those that wait, any of them.
    pub fn take(&mut self, random: &mut Random) -> Option<Waiting> {
        let count = self.places.iter().flatten().count();
        let drawn = random.below(count as u32) as usize;
        let taken = self.places.iter_mut().filter(|place| place.is_some()).nth(drawn)?.take();
        self.arrived = count.saturating_sub(1) as u32;
        taken
    }
}

#[cfg(test)]
mod tests {
    use crypto::Secret;

    use super::*;

    #[test]
    fn a_budget_is_kept_over_any_second_and_the_load_falls_by_itself() {
        let mut budget = Budget::new(20);
        let spend_all = |budget: &mut Budget, now| (0..100).filter(|_| budget.spend(now)).count();
        let hour = 3600 * SECOND;
        assert_eq!(spend_all(&mut budget, hour), 21);
        assert_eq!(spend_all(&mut budget, hour + SECOND / 2), 10);
        let mut load = Load::new();
        let high = (0..100).filter(|_| load.high(hour, false)).count();
        assert_eq!(high, 100 - 21);
        assert!(load.high(hour + SECOND - 1, false));
        assert!(!load.high(hour + 3 * SECOND, false));
        assert!(load.high(hour + 3 * SECOND, true) && load.high(hour + 4 * SECOND - 1, false));
    }

    fn waiting(n: u16) -> Waiting {
        let ip = core::array::from_fn(|at| if at < 2 { n.to_be_bytes()[at] } else { 0 });
        let from = Endpoint { ip, port: 1 };
        Waiting { from, sender: n.into(), ephemeral: [0; 32], encrypted_static: [0; 48], encrypted_timestamp: [0; 28] }
    }

    #[test]
    fn one_waits_for_each_address_and_the_newest() {
        let (mut strangers, mut random) = (Strangers::new(), Random::new(Secret::new([1; 32])));
        assert!(strangers.take(&mut random).is_none() && strangers.is_empty());
        for sender in 0..100 {
            let mut one = waiting(3);
            one.sender = sender;
            assert_eq!(strangers.add(one, &mut random), sender > 0);
        }
        assert!(!strangers.add(waiting(4), &mut random) && !strangers.is_full());
        let mut senders = [(); 2].map(|()| strangers.take(&mut random).unwrap().sender);
        senders.sort_unstable();
        assert_eq!(senders, [4, 99]);
        assert!(strangers.is_empty());
    }

    #[test]
    fn nobodys_place_in_a_flood_matters() {
        const ARRIVALS: u32 = 200;
        const ROUNDS: u32 = 2_000;
        let (mut strangers, mut random) = (Strangers::new(), Random::new(Secret::new([2; 32])));
        let mut taken = [0u32; 10];
        for _ in 0..ROUNDS {
            for n in 0..ARRIVALS {
                // Addresses do not repeat from one round to the next.
                let mut one = waiting(n as u16);
                one.from.ip[15] = random.bytes::<1>()[0];
                strangers.add(one, &mut random);
            }
            taken[(strangers.take(&mut random).unwrap().sender * 10 / ARRIVALS) as usize] += 1;
        }
        assert!(taken.iter().all(|count| (140..260).contains(count)), "{taken:?}");
    }
}
