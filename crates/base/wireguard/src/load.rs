//! How much of the handshake's work may be asked of the node before who asks must show a cookie, and which initiations
//! wait when more come than the keystore can read.

use clock::Micros;
use fair::{Budget, Reservoir};
use wire::Key;

use crate::{Endpoint, messages::Initiation, random::Random, time::SECOND};

/// Handshake messages per second that are taken without a cookie.
pub const BUDGET: u64 = 20;
/// Initiations per second from places where no peer is known to be.
pub const STRANGERS: u64 = 20;
/// How many of those may wait.
pub const PLACES: usize = 8;

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
#[derive(Default)]
pub struct Strangers(Reservoir<Waiting, PLACES>);

impl Strangers {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn is_full(&self) -> bool {
        self.0.is_full()
    }

    /// True: it pushed out another, or was itself not kept.
    pub fn add(&mut self, waiting: Waiting, random: &mut Random) -> bool {
        match self.0.find(|other| other.from.ip == waiting.from.ip) {
            Some(other) => {
                *other = waiting;
                true
            }
            None => self.0.add(waiting, Some(random)),
        }
    }

    /// One of those that wait, any of them.
    pub fn take(&mut self, random: &mut Random) -> Option<Waiting> {
        self.0.take(random)
    }
}

#[cfg(test)]
mod tests {
    use crypto::Secret;

    use super::*;

    #[test]
    fn the_load_is_high_when_the_budget_is_spent_and_falls_by_itself() {
        let hour = 3600 * SECOND;
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
        let (mut strangers, mut random) = (Strangers::default(), Random::new(Secret::new([1; 32])));
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
}
